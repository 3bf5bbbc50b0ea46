"""All methods, graphs, losses and networks, and small problems to run them on.

A method, graph or network that is added to the package is tested by every property test, because
the lists here are read from the package.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkdyn as nd
from ntkdyn import graphs, precision
from ntkdyn.data import Dataset, Partition


def quick_if(cases, quick):
    """All cases of a test, tuples of what it takes; those that are not quick are marked slow."""
    return [pytest.param(*case, marks=[] if quick(*case) else pytest.mark.slow) for case in cases]


ARGUMENTS = {
    "torus": {"rows": 2, "columns": 4},
    "hypercube": {"dimension": 3},
    "petersen": {},
    "dyck": {},
    "four_rings": {},
    "davis": {},
    "random_regular": {"agents": 8, "degree": 3, "seed": 0},
    "erdos_renyi": {"agents": 8, "probability": 0.4, "seed": 1},
    "from_edges": {"edges": [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 2)]},
}

TOPOLOGIES = {
    name: make(**ARGUMENTS.get(name, {"agents": 8})) for name, make in graphs.TOPOLOGIES.items()
}

MIXINGS = {
    topology: (graphs.uniform if graph.is_directed() else graphs.metropolis)(graph)
    for topology, graph in TOPOLOGIES.items()
} | {f"{name} weights": rule(TOPOLOGIES["from_edges"]) for name, rule in graphs.WEIGHTS.items()}
"""every topology with one rule of weights, and every rule on a graph of unequal degrees"""

ALL_METHODS = sorted(nd.methods.METHODS)

ONLY_WITH_NETWORKS = {"drt", "dimat", "mhd", "ccl"}
"""methods that need layers, neurons, features or heads, so more than a bare kernel"""

METHODS = [name for name in ALL_METHODS if name not in ONLY_WITH_NETWORKS]
"""methods that run on anything"""

PLAIN = ["atc", "cta", "dgd"]

LOSSES = sorted(nd.losses.LOSSES)


def method(name: str, step_size: float) -> nd.methods.Method:
    return nd.methods.METHODS[name](step_size=step_size)


AFFINE = [name for name in METHODS if method(name, 1.0).affine]
"""those whose every round is the same affine map"""


def suits(name: str, weights: graphs.MixingMatrix) -> bool:
    """Whether the method is made for these weights."""
    try:
        method(name, 1.0).check_weights(weights)
    except nd.InputError:
        return False
    return True


def relaxed(method: nd.methods.Method) -> nd.methods.Method:
    """The method, taken to graphs that it is not made for."""
    return nd.methods.Method(method.name, method.update, method.mixing, method.objective)


class Small(NamedTuple):
    """A small problem and its dense, slow truth."""

    problem: nd.Problem
    jacobian: np.ndarray
    """(points, outputs, parameters) at the start, float64"""


@functools.cache
def small_data(points: int = 14, tests: int = 4, classes: int = 2) -> Dataset:
    """Gaussian points in three dimensions, labelled by the sign of a product."""
    inputs = np.random.default_rng(0).standard_normal((points + tests, 3)).astype(np.float32)
    labels = (inputs[:, 0] * inputs[:, 1] > 0).astype(int)
    return Dataset(
        "small", inputs[:points], labels[:points], inputs[points:], labels[points:], classes, "none"
    )


def small_problem(agents: int, loss: str, width: int = 8) -> Small:
    """Agents with unequal, heterogeneous shares and a network with two hidden layers."""
    data = small_data()
    owner = np.sort(np.random.default_rng(1).integers(0, agents, len(data.train_labels)))
    owner[:agents] = np.arange(agents)
    outputs = nd.losses.named(loss).outputs(data.classes)
    network = nd.networks.mlp(
        (width, width), outputs=outputs, activation="erf", w_std=1.5, b_std=0.3
    )
    problem = nd.Problem(network, Partition(data, owner, agents, "given"), loss=loss, seed=3)
    return Small(problem, dense_jacobian(problem))


@precision.in_double
def dense_jacobian(problem: nd.Problem, apply=None) -> np.ndarray:
    """J by reverse mode, every entry; of the outputs, or of another function of the parameters."""
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), problem.start)
    inputs = jnp.asarray(problem.inputs, jnp.float64)
    rows = jax.jacrev(apply or problem.network.apply)(params, inputs)
    leaves = [np.asarray(leaf).reshape(*leaf.shape[:2], -1) for leaf in jax.tree.leaves(rows)]
    return np.concatenate(leaves, axis=2)


STUDIED = """
kernel = "infinite"
[data]
name = "digits"
train = 30
test = 12
[partition]
agents = 5
by = "dirichlet"
alpha = 1.0
[network]
widths = [16]
[graph]
topology = "ring"
[method]
name = "dgd"
step_size = 0.3
[run]
rounds = 8
record_every = 4
"""
"""what studies vary: five agents on a ring, digits"""
