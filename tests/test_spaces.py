"""One method in three spaces: they coincide where the theory says so."""

import itertools

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
from cases import METHODS, MIXINGS, TOPOLOGIES, method, quick_if, relaxed
from reference import message_passing, outputs

import ntkdyn as nd
from ntkdyn import graphs, spaces
from ntkdyn.vectors import Point

ROUNDS = 50
BATCH = {"batch_size": 2, "batch_seed": 5}

ARCS = [(i, (i + 1) % 8) for i in range(8)] + [(2, 0), (5, 1), (7, 3)]

GRAPHS = {
    "undirected": graphs.lazy(graphs.metropolis(TOPOLOGIES["from_edges"])),
    "directed": MIXINGS["directed_exponential"],
    "pushing": graphs.push(nx.DiGraph(ARCS)),
}
CASES = [
    *itertools.product(METHODS, ("undirected", "directed"), ("empirical", "implicit")),
    *itertools.product(["push_sum"], ["pushing"], ("empirical", "implicit")),
]
"""method, graph, and the kernel, or none, by which it is predicted"""

PAIRED = {("undirected", "implicit"), ("directed", "empirical"), ("pushing", "empirical")}
"""so that every method is in both spaces, on one graph each"""


def rows_of(problem):
    """round -> every agent's points, as the package draws them."""
    batches = problem.task.batches(*BATCH.values())

    def rows(t):
        batch = jax.tree.map(np.asarray, batches.at(t))
        return [r[w > 0] for r, w in zip(batch.rows, batch.weights, strict=True)]

    return rows


@pytest.mark.parametrize(
    "name, graph, kernel", quick_if(CASES, lambda _, graph, kernel: (graph, kernel) in PAIRED)
)
def test_kernel_equals_tangent_equals_messages(small, name, graph, kernel):
    """With minibatches, on a symmetric graph and on directed ones, all rounds to rounding."""
    W, step = GRAPHS[graph], 0.02
    problem, jacobian = small(W.agents)
    task = problem.task
    truth = message_passing(
        name, jacobian, problem.initial, task.targets, task.owner, W.matrix, "mse", step, ROUNDS,
        rows_of(problem),
    )  # fmt: skip
    seen_at = [0, 1, 2, ROUNDS]
    save = nd.SaveOptions(parameter_rounds=[ROUNDS], per_tensor=None)
    rule = method(name, step)
    rule = rule if name == "push_sum" else relaxed(rule)
    known = nd.dynamics.Stability(rule, None, None)
    record = nd.predict(
        problem, rule, W, seen_at, kernel=kernel, save=save, stability=known, **BATCH
    )
    seen = outputs(jacobian, problem.initial, truth[seen_at])
    assert np.abs(seen[-1] - seen[0]).max() > 0.1, "nothing happened"
    assert np.abs(record["outputs"].values - seen).max() < 1e-10
    moved = (record["parameters"] - record["initial_parameters"]).values[0]
    assert np.abs(moved - truth[-1]).max() < 1e-10
    distances = np.linalg.norm(truth[seen_at], axis=-1)
    assert np.abs(record["displacement"].values - distances).max() < 1e-9
    apart = truth - truth.mean(axis=1, keepdims=True)
    distances = np.linalg.norm(apart[seen_at], axis=-1)
    assert np.abs(record["consensus_distance"].values - distances).max() < 1e-7


@pytest.mark.parametrize("outputs", [(), (2,)], ids=["between points", "and outputs"])
def test_rows_of_large_kernels_are_those_of_small_ones(monkeypatch, outputs):
    """Where they are not gathered, agents' outputs are their own all the same."""
    rng, agents, train = np.random.default_rng(0), 3, 5
    kernel = rng.standard_normal((train + 2, *outputs, train, *outputs))
    initial = rng.standard_normal((train + 2, 2))
    space = spaces.KernelSpace(*map(jnp.asarray, (kernel, initial)), agents, {})
    x = Point(jnp.asarray(rng.standard_normal((agents, train, 2))))
    rows = jnp.array([[4, 0], [1, 1], [3, 2]])
    small, pull = space.readout(rows)(x)
    monkeypatch.setattr(spaces, "GATHERED_UP_TO", 0)
    large, pull_there = space.readout(rows)(x)
    whole = initial + np.stack(
        [np.tensordot(kernel, c, 2) if outputs else kernel @ c for c in x.tree]
    )
    wanted = np.stack([whole[i, rows[i]] for i in range(agents)])
    for seen in (small, large):
        np.testing.assert_allclose(seen, wanted, rtol=1e-5)
    assert (pull(small).tree == pull_there(small).tree).all()
