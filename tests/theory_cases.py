"""Random linearized problems with known features, and methods that take their weights.

A problem is K = Phi Phi', so that every constant of a theorem can be computed again, slowly, from
explicit Hessians in the space of the features.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any, NamedTuple

import networkx as nx
import numpy as np

import ntkdyn as nd
from ntkdyn import graphs
from ntkdyn.methods import Method

POINTS, AGENTS = 12, 5
COUNTS = (2, 2, 2, 2, 4)


def method(name: str, step_size: Any) -> Method:
    """The package's method of that name."""
    return nd.methods.METHODS[name](step_size=step_size)


UNBIASED = ("diging", "extra", "exact_diffusion")

NAMES = ("dgd", "atc", "cta", *UNBIASED)


def taking_turns(number: int, weights: graphs.MixingMatrix, step_size: float) -> Method:
    """The number-th of `NAMES`, going round, or the next that takes these weights."""
    for name in (NAMES[(number + skipped) % len(NAMES)] for skipped in range(len(NAMES))):
        with contextlib.suppress(nd.InputError):
            made = method(name, step_size)
            made.check_weights(weights)
            return made
    raise AssertionError("dgd takes all weights")


class Drawn(NamedTuple):
    """A random problem and the features behind its kernel."""

    problem: nd.KernelProblem
    features: np.ndarray
    targets: np.ndarray
    owner: np.ndarray
    weights: graphs.MixingMatrix
    step_size: float


@functools.cache
def drawn(seed: int) -> Drawn:
    """Any of 200 problems: shapes are fixed, everything else is random."""
    rng = np.random.default_rng(seed)
    weights = _weights(rng)
    owner = rng.permutation(np.repeat(np.arange(AGENTS), rng.permutation(COUNTS)))
    dimension = int(rng.choice([2, 3, 20]))
    features = rng.standard_normal((POINTS, dimension)) * rng.gamma(2, size=dimension)
    features /= np.sqrt(dimension)
    targets = rng.standard_normal((POINTS, 1))
    problem = nd.KernelProblem(features @ features.T, targets, owner)
    slope = max(
        np.linalg.eigvalsh(features[owner == i].T @ features[owner == i]).max() / sum(owner == i)
        for i in range(AGENTS)
    )
    step_size = float(10 ** rng.uniform(-2.5, 0.5) / slope)
    return Drawn(problem, features, targets, owner, weights, step_size)


def _weights(rng: np.random.Generator) -> graphs.MixingMatrix:
    kind = rng.integers(8)
    if kind == 0:
        return graphs.uniform(graphs.directed_exponential(AGENTS))
    if kind == 1:
        return graphs.mixing(np.full((AGENTS, AGENTS), 1 / AGENTS))
    graph = nx.Graph()
    while not len(graph) or not nx.is_connected(graph):
        graph = nx.gnp_random_graph(AGENTS, rng.uniform(0.3, 1), seed=int(rng.integers(1 << 30)))
    rules = (graphs.metropolis, graphs.uniform, graphs.laplacian, graphs.max_degree)
    weights = rules[kind % 4](graph)
    return graphs.lazy(weights) if rng.random() < 0.5 else weights
