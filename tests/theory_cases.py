"""Random linearized problems with known features, and the methods without bias that theorems treat.

A problem is K = Phi Phi', so that every constant of a theorem can be computed again, slowly, from
explicit Hessians in the space of the features.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import networkx as nx
import numpy as np

import ntkdyn as nd
from ntkdyn import graphs
from ntkdyn.methods import Method, mixing, objectives, updates

POINTS, AGENTS = 12, 5
COUNTS = (2, 2, 2, 2, 4)


class Tracker(NamedTuple):
    x: Any
    tracker: Any
    gradient: Any


class DIGing(updates.Memoryless):
    """x <- W x - eta s, s <- W s + g(x) - g(before)."""

    def init(self, x):
        return Tracker(x, 0 * x, 0 * x)

    def step(self, state, grad, mix):
        gradient = grad(state.x)
        tracker = mix(state.tracker) + gradient - state.gradient
        return Tracker(mix(state.x) - self.step_size * tracker, tracker, gradient)


class Corrected(NamedTuple):
    x: Any
    correction: Any


class Extra(updates.Memoryless):
    """x <- W x - eta g(x) + c, c <- c + (W x - x)/2: EXTRA by its cumulative correction."""

    def init(self, x):
        return Corrected(x, 0 * x)

    def step(self, state, grad, mix):
        mixed = mix(state.x)
        moved = mixed - self.step_size * grad(state.x) + state.correction
        return Corrected(moved, state.correction + 0.5 * (mixed - state.x))


class Psi(NamedTuple):
    x: Any
    psi: Any


class D2(updates.Memoryless):
    """psi <- x - eta g(x), x <- V (psi + x - psi_before)."""

    def init(self, x):
        return Psi(x, 1 * x)

    def step(self, state, grad, mix):
        psi = state.x - self.step_size * grad(state.x)
        return Psi(mix(psi + state.x - state.psi), psi)


class Half(mixing.Fixed):
    """mix(x) = (x + W x) / 2."""

    rate = 0.5

    def bind(self, weights):
        return lambda x: x + 0.5 * (weights(x) - x)


UNBIASED = {"diging": DIGing, "extra": Extra, "exact_diffusion": D2}


def method(name: str, step_size: Any) -> Method:
    """The package's method of that name; the recursion above where it has none."""
    if name in nd.methods.METHODS:
        return nd.methods.METHODS[name](step_size=step_size)
    rule = Half() if name == "exact_diffusion" else mixing.Fixed()
    return Method(name, UNBIASED[name](step_size), rule, objectives.Local())


NAMES = ("dgd", "atc", "cta", *UNBIASED)


class Drawn(NamedTuple):
    """A random problem and the features behind its kernel."""

    problem: nd.KernelProblem
    features: np.ndarray
    targets: np.ndarray
    owner: np.ndarray
    weights: graphs.Mixing
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


def _weights(rng: np.random.Generator) -> graphs.Mixing:
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
