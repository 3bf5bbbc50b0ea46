"""The claims: what y is, along what x, on which random problems.

Stationary quantities are exact expectations over all draws of one point per agent and round
(`dynamics.noise`).
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import networkx as nx
import numpy as np
from jaxtyping import Float

from ntkdyn import graphs, kernels, networks
from ntkdyn.dynamics import predict
from ntkdyn.dynamics.noise import Moments
from ntkdyn.errors import check_name
from ntkdyn.graphs import MixingMatrix
from ntkdyn.methods import Method, atc, dgd, local_sgd
from ntkdyn.problems import KernelProblem
from ntkdyn.records import Record
from ntkdyn.theory import noisy
from ntkdyn.theory.claims.claim import BY_AGENTS, Claim, Points, run_claim
from ntkdyn.theory.claims.problems import POINTS, Drawn, steepest
from ntkdyn.theory.theorems import case

SHARES = 2.0 ** -np.arange(6, 11)
"""step sizes, in units of one over the largest |x|^2"""

SMALL = float(SHARES[-1])

DIMENSIONS = 3
"""of the inputs of networks"""


def average(agents: int) -> MixingMatrix:
    """W_ij = 1/m."""
    return graphs.metropolis(graphs.complete(agents))


def variance(problem: KernelProblem, method: Method, weights: MixingMatrix) -> float:
    """1/m sum_i E |x_i - E x_i|^2 at rest."""
    moments = Moments(problem, method, weights, batch_size=1)
    moments.settle()
    _, covariance = moments.displacement()
    return float(np.einsum("idff->i", covariance).mean())


def at_rest(problem: KernelProblem, method: Method, weights: MixingMatrix) -> Record:
    """E F(mean x) - min F and E sum_i |x_i - mean x|^2 there."""
    return noisy.expected(problem, case(problem, method, weights), None, batch_size=1)


def topology_and_variance(drawn: Drawn) -> Points:
    """|V(W) / V(11'/m) - 1| by step size."""
    problem = drawn.unequal()
    steps = SHARES / steepest(problem)
    ratios = [
        variance(problem, dgd(step_size=step), drawn.weights)
        / variance(problem, dgd(step_size=step), average(drawn.agents))
        for step in steps
    ]
    return steps, np.abs(np.array(ratios) - 1)


def at_rest_by_step(quantity: str, drawn: Drawn) -> Points:
    """That quantity of diffusion, by step size."""
    problem = drawn.unequal()
    steps = SHARES / steepest(problem)
    found = [at_rest(problem, atc(step_size=step), drawn.weights)[quantity] for step in steps]
    return steps, np.array([each.item() for each in found])


AGENTS = (2, 4, 8, 16)


def by_agents(drawn: Drawn) -> tuple[Float[np.ndarray, " values"], list[KernelProblem]]:
    """More and more agents that all have the same points."""
    return np.array(AGENTS, float), [drawn.alike(agents) for agents in AGENTS]


def excess_by_agents(drawn: Drawn) -> Points:
    """E F(mean x) - min F on graphs of more and more agents."""
    agents, problems = by_agents(drawn)
    found = []
    for each in problems:
        weights = drawn._replace(agents=each.task.agents).weights
        method = atc(step_size=SMALL / steepest(each))
        found.append(at_rest(each, method, weights)["excess"].item())
    return agents, np.array(found)


def variance_by_agents_on_rings(drawn: Drawn) -> Points:
    """1/m sum_i E |x_i - E x_i|^2 on rings of more and more agents, at a step that is not small."""
    agents, problems = by_agents(drawn)
    found = [
        variance(each, atc(step_size=0.2 / steepest(each)), ring(each.task.agents))
        for each in problems
    ]
    return agents, np.array(found)


def ring(agents: int) -> MixingMatrix:
    """With Metropolis weights."""
    return graphs.metropolis(graphs.ring(agents))


def variance_by_effective_neighbours(drawn: Drawn) -> Points:
    """1/m sum_i E |x_i - E x_i|^2 on several graphs, all losses |x - x*|^2 / 2 but for noise."""
    step, m = 0.02, drawn.agents
    problem, method = drawn.alike(isotropic=True), atc(step_size=step)
    weights = [graphs.isolated(m), drawn.weights, average(m)]
    weights += [graphs.lazy(drawn.weights, stay) for stay in (0.9, 0.98)]
    known = [graphs.effective_neighbours(W, (1 - step) ** 2) for W in weights]
    return np.array(known), np.array([variance(problem, method, W) for W in weights])


GAP = 0.05
"""1 - lambda_2 of graphs that differ in the other eigenvalues"""


def disagreement_by_all_eigenvalues(drawn: Drawn) -> Points:
    """E sum_i |x_i - mean x|^2 by sum_k>1 1 / (1 - lambda_k^2), lambda_2 the same on all graphs."""
    m, problem = drawn.agents, drawn.alike()
    linked = graphs.path(m), graphs.star(m), graphs.ring(m), graphs.complete(m), drawn.graph
    weights = [with_gap(each) for each in linked]
    method = dgd(step_size=SMALL / steepest(problem))
    sums = [np.sum(1 / (1 - np.linalg.eigvalsh(W.matrix)[:-1] ** 2)) for W in weights]
    apart = [at_rest(problem, method, W)["disagreement"].item() for W in weights]
    return np.array(sums), np.array(apart)


def with_gap(graph: nx.Graph) -> MixingMatrix:
    """W = I - epsilon L whose second eigenvalue is 1 - GAP."""
    laplacian = nx.laplacian_matrix(graph).toarray()
    epsilon = GAP / np.linalg.eigvalsh(laplacian)[1]
    return graphs.mixing(np.eye(len(laplacian)) - epsilon * laplacian)


LOCAL = 4
"""local steps between two averages"""


def inputs_on_a_sphere(drawn: Drawn) -> Float[np.ndarray, "points dimensions"]:
    """Of every agent's points, one after the other."""
    inputs = drawn.inputs(DIMENSIONS).reshape(-1, DIMENSIONS)
    return inputs / np.linalg.norm(inputs, axis=1, keepdims=True)


@functools.cache
def network(width: int) -> networks.Network:
    """One hidden layer of ReLUs."""
    return networks.mlp((width,), outputs=1)


def apart_from_centralized(drawn: Drawn, kernel: np.ndarray, step: float, rounds: int) -> float:
    """|f_FedAvg - f_centralized| / |f_centralized - f_0|, after as many gradient steps."""
    labels = np.random.default_rng(drawn.seed).normal(size=(len(kernel), 1))
    problem = KernelProblem(kernel, labels, np.repeat(np.arange(drawn.agents), POINTS))
    everyone = average(drawn.agents)
    federated, central = (
        predict(problem, local_sgd(step_size=step, tau=tau), everyone, [rounds])["outputs"].values
        for tau in (LOCAL, 1)
    )
    return float(np.linalg.norm(federated - central) / np.linalg.norm(central))


def federated_by_step(drawn: Drawn) -> Points:
    """At infinite width, after the same time: steps times step size."""
    inputs = inputs_on_a_sphere(drawn)
    kernel = kernels.infinite.compute(network(1).kernel, inputs).values
    steps, time = SHARES / np.diag(kernel).max(), 4 / SHARES
    found = [
        apart_from_centralized(drawn, kernel, float(step), LOCAL * round(rounds / LOCAL))
        for step, rounds in zip(steps, time, strict=True)
    ]
    return steps, np.array(found)


WIDTHS = np.array([256, 1024, 4096])


def federated_by_width(drawn: Drawn) -> Points:
    """Of networks linearized at their start, wider and wider, all at one step size."""
    inputs, found = inputs_on_a_sphere(drawn), []
    for width in WIDTHS:
        made = network(int(width))
        params = made.start(jax.random.key(drawn.seed), inputs.shape[1:])
        kernel = kernels.compute(
            made.apply,
            params,
            inputs,
            form="trace",
            options=kernels.ComputeOptions(dtype="float64"),
        ).values
        found.append(apart_from_centralized(drawn, kernel, 0.25 / np.diag(kernel).max(), 16))
    return WIDTHS.astype(float), np.array(found)


QUADRATIC = "quadratic losses, linear models, labels that no model fits"
BATCHES = "one point per agent and round, drawn anew"
DOUBLY = "W symmetric and doubly stochastic, connected"
SAME = "all agents have the same points"

CLAIMS = {
    "topology-and-variance": Claim(
        "the stationary variance does not depend on the topology, to first order in the step size",
        "topology-and-variance.md",
        (QUADRATIC, BATCHES, DOUBLY, "points of every agent's own"),
        "|V(W) / V(11'/m) - 1|, V the mean over agents of E |x_i - E x_i|^2 at rest",
        "step size", 1.0, topology_and_variance,
    ),
    "federated-and-width": Claim(
        "FedAvg becomes centralized gradient descent as networks widen, whatever the step size",
        "federated-and-width.md",
        ("networks linearized at their start", "4 local steps, 16 in all", DOUBLY),
        "|f_FedAvg - f_centralized| / |f_centralized - f_0| after as many gradient steps",
        "width", -0.5, federated_by_width,
    ),
    "federated-and-step-size": Claim(
        "at infinite width FedAvg becomes centralized gradient descent as steps become small",
        "federated-and-width.md",
        ("the kernel of infinite width", "4 local steps, the same time", DOUBLY),
        "|f_FedAvg - f_centralized| / |f_centralized - f_0| after as many gradient steps",
        "step size", 1.0, federated_by_step,
    ),
    "all-eigenvalues": Claim(
        "agents disagree as all eigenvalues of W say, not as the spectral gap does",
        "all-eigenvalues.md",
        (QUADRATIC, BATCHES, SAME, DOUBLY, "graphs with one spectral gap, 0.05", "small steps"),
        "E sum_i |x_i - mean x|^2 at rest",
        "sum_k>1 1 / (1 - lambda_k^2)", 1.0, disagreement_by_all_eigenvalues, 4,
    ),
    "effective-neighbours": Claim(
        "a graph averages noise as so many fully linked agents as it has effective neighbours",
        "effective-neighbours.md",
        ("losses |x - x*|^2 / 2 but for noise", BATCHES, SAME, DOUBLY),
        "the mean over agents of E |x_i - E x_i|^2 at rest",
        "n_W", -1.0, variance_by_effective_neighbours,
    ),
    "diffusion-and-minimiser": Claim(
        "with noise, the mean of diffusion's agents rests within O(mu) of the least loss",
        "diffusion.md", (QUADRATIC, BATCHES, DOUBLY),
        "E F(mean x) - min F at rest", "step size", 1.0,
        functools.partial(at_rest_by_step, "excess"),
    ),
    "diffusion-and-disagreement": Claim(
        "with noise, diffusion's agents rest within O(mu^2) of their mean, in the mean square",
        "diffusion.md", (QUADRATIC, BATCHES, DOUBLY),
        "E sum_i |x_i - mean x|^2 at rest", "step size", 2.0,
        functools.partial(at_rest_by_step, "disagreement"),
    ),
    "linear-speed-up": Claim(
        "m agents average noise m times as well as one, on any connected graph, at small steps",
        "linear-speed-up.md", (QUADRATIC, BATCHES, SAME, DOUBLY, "small steps"),
        "E F(mean x) - min F at rest", BY_AGENTS, -1.0, excess_by_agents,
    ),
    "linear-speed-up-of-each": Claim(
        "so does every agent by itself on a ring, at a step that is not small",
        "linear-speed-up.md", (QUADRATIC, BATCHES, SAME, DOUBLY, "a fifth of 1 / max |x|^2"),
        "the mean over agents of E |x_i - E x_i|^2 at rest",
        BY_AGENTS, -1.0, variance_by_agents_on_rings,
    ),
}  # fmt: skip


def run(name: str, *, problems: int = 3, seed: int = 0, law: Any = None) -> Record:
    """Hold a claim of `CLAIMS` against random problems: see `run_claim`.

    Args:
        name: of the claim.
        problems: how many of each size.
        seed: draws them.
        law: an exponent in place of the claimed one.

    Returns:
        The record of `run_claim`.

    Raises:
        InputError: for a name that is none, and as for `run_claim`.

    Example:
        >>> nd.theory.claims.run("linear-speed-up", problems=1).attrs["holds"]
        1
    """
    check_name("claim", name, CLAIMS)
    return run_claim(name, CLAIMS[name], problems=problems, seed=seed, law=law)
