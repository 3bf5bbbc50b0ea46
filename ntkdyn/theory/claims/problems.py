"""Random problems, the smallest first: agents on a graph, points in few features, noisy labels."""

from __future__ import annotations

from typing import NamedTuple

import networkx as nx
import numpy as np
from jaxtyping import Float

from ntkdyn import graphs
from ntkdyn.graphs import MixingMatrix
from ntkdyn.problems import KernelProblem

SIZES = ((2, 1), (2, 2), (3, 1), (3, 2), (4, 3), (6, 2), (8, 4))
"""agents and features"""

POINTS = 5
"""of every agent"""

LINKED = 0.5
"""how likely two agents are linked"""


class Drawn(NamedTuple):
    """A random problem; whatever is asked of it comes from its seed.

    Example:
        >>> drawn = nd.theory.claims.Drawn(agents=4, features=2, seed=0)
        >>> drawn.unequal().task.agents, drawn.weights.doubly_stochastic
        (4, True)
    """

    agents: int
    features: int
    seed: int

    def rng(self, what: int) -> np.random.Generator:
        """A generator for one of the things that are drawn."""
        return np.random.default_rng((self.seed, what, *self[:2]))

    @property
    def graph(self) -> nx.Graph:
        """A connected graph."""
        return graphs.erdos_renyi(self.agents, LINKED, seed=self.seed)

    @property
    def weights(self) -> MixingMatrix:
        """Lazy Metropolis weights on it, doubly stochastic."""
        return graphs.lazy(graphs.metropolis(self.graph))

    def inputs(self, dimensions: int) -> Float[np.ndarray, "agents points dimensions"]:
        """Gaussian, of two thirds of the variance from one dimension to the next."""
        scale = (2 / 3) ** (np.arange(dimensions) / 2)
        return scale * self.rng(0).normal(size=(self.agents, POINTS, dimensions))

    def labels(self, inputs: Float[np.ndarray, "*shape dimensions"]) -> np.ndarray:
        """A linear function of them, and noise of variance one."""
        rng = self.rng(1)
        return inputs @ rng.normal(size=inputs.shape[-1]) + rng.normal(size=inputs.shape[:-1])

    def unequal(self) -> KernelProblem:
        """Every agent has points of its own, and no model fits all."""
        inputs = self.inputs(self.features)
        return linear(inputs, self.labels(inputs))

    def alike(self, agents: int | None = None, *, isotropic: bool = False) -> KernelProblem:
        """All agents have the same points; isotropic ones have X'X / n = I."""
        inputs = self.inputs(self.features)[0]
        if isotropic:
            inputs = np.sqrt(POINTS) * np.linalg.qr(inputs)[0]
        copies = (agents or self.agents, 1, 1)
        return linear(np.tile(inputs, copies), np.tile(self.labels(inputs), copies[:2]))


def linear(
    inputs: Float[np.ndarray, "agents points dimensions"],
    labels: Float[np.ndarray, "agents points"],
) -> KernelProblem:
    """The problem of a model that is linear in the inputs."""
    flat = inputs.reshape(-1, inputs.shape[-1])
    owner = np.repeat(np.arange(len(inputs)), inputs.shape[1])
    return KernelProblem(flat @ flat.T, labels.reshape(-1, 1), owner)


def steepest(problem: KernelProblem) -> float:
    """The largest smoothness of a single point's loss, |x|^2."""
    return float(np.diag(problem.given.whole).max())
