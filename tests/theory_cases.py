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


class WithGradient(NamedTuple):
    x: Any
    before: Any
    gradient: Any
    first: Any
    """one in the first round, then zero"""


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


class Extra(updates.Memoryless):
    """x <- (I + W) x - (I + W)/2 x_before - eta (g(x) - g(x_before)), from x_before = 0, g = 0."""

    def init(self, x):
        return WithGradient(x, 1 * x, 0 * x, 1.0)

    def step(self, state, grad, mix):
        gradient, mixed = grad(state.x), mix(state.x)
        later = mixed + state.x - 0.5 * (state.before + mix(state.before))
        first = 0.5 * (mix(state.before) - state.before)
        x = later + state.first * first - self.step_size * (gradient - state.gradient)
        return WithGradient(x, state.x, gradient, 0 * state.first)


class Psi(NamedTuple):
    x: Any
    psi: Any


class ExactDiffusion(updates.Memoryless):
    """psi <- x - eta g(x), x <- (I + W)/2 (psi + x - psi_before)."""

    def init(self, x):
        return Psi(x, 1 * x)

    def step(self, state, grad, mix):
        psi = state.x - self.step_size * grad(state.x)
        corrected = psi + state.x - state.psi
        return Psi(0.5 * (corrected + mix(corrected)), psi)


UNBIASED = {"diging": DIGing, "extra": Extra, "exact_diffusion": ExactDiffusion}


def method(name: str, step_size: Any) -> Method:
    """The package's method of that name; the recursion above where it has none."""
    if name in nd.methods.METHODS:
        return nd.methods.METHODS[name](step_size=step_size)
    return Method(name, UNBIASED[name](step_size), mixing.Fixed(), objectives.Local())


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
