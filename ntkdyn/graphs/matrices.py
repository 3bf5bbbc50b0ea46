"""Mixing matrices and what their spectra say."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from jaxtyping import Complex, Float

from ntkdyn import display
from ntkdyn.errors import InputError

LANCZOS_FROM = 512
"""From how many agents on the outer eigenvalues of a symmetric W are found without the others."""

SAID_UP_TO = 256
"""agents; of more, what takes all eigenvalues is not said unasked"""

ROUNDING = 1e-9
"""How far a row or column sum of W may be from one."""


@dataclass(frozen=True, eq=False)
class MixingMatrix:
    """A checked mixing matrix W: rows summing to one, connected, non-negative unless asked for.

    (Columns instead of rows where it comes from `push` or was asked for with sums="columns".)

    `eigenvalues` are sorted from the largest modulus down; `second_largest_modulus` is the
    asymptotic factor by which disagreement shrinks per round, `contraction` = |W - 11'/m|_2 the
    factor that holds at every round (the two agree for symmetric W), `spectral_gap` one minus
    the former, `smallest_eigenvalue` the smallest real part.

    Example:
        >>> ring = nd.graphs.metropolis(nd.graphs.ring(4))
        >>> round(ring.spectral_gap, 4), ring.doubly_stochastic
        (0.6667, True)
    """

    matrix: Float[np.ndarray, "agents agents"]
    name: str
    sums: str = "rows"
    """the "rows" or "columns" of W that were asked to sum to one"""
    adjusted: str = ""
    """what was changed in the matrix that was given, in words"""
    names: tuple[str, ...] = ()
    """what the agents are called, if they have names"""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """W itself, so that NumPy takes a `MixingMatrix` wherever it takes a matrix."""
        return np.array(self.matrix, dtype=dtype)

    def __repr__(self) -> str:
        return f"MixingMatrix({self.name!r}, {self.agents} agents{self._gap})"

    def _repr_html_(self) -> str:
        rows = {
            "weights": self.name,
            "agents": self.agents,
            "links": int(np.count_nonzero(self.matrix) - np.count_nonzero(self.matrix.diagonal())),
            "symmetric": self.symmetric,
            "rows and columns sum to one": self.doubly_stochastic,
            "weights of losses (Perron)": self._implied,
            "adjusted": self.adjusted,
        }
        if self.agents > SAID_UP_TO:
            return display.panel(repr(self), display.table(rows))
        rows["spectral gap"] = self.spectral_gap
        pictures = display.graph(self.matrix, self.names), display.spectrum(self.eigenvalues)
        return display.panel(repr(self), *pictures, display.table(rows))

    @property
    def _implied(self) -> str:
        """The least and the largest weight that rows which alone sum to one give to a loss."""
        if self.doubly_stochastic or self.sums == "columns" or self.agents > SAID_UP_TO:
            return ""
        return f"{self.perron.min():.3g} to {self.perron.max():.3g}"

    @property
    def _gap(self) -> str:
        known = self.agents <= SAID_UP_TO or self.symmetric
        return f", spectral gap {self.spectral_gap:.3g}" if known else ""

    @property
    def agents(self) -> int:
        return len(self.matrix)

    @property
    def rounds(self) -> tuple[MixingMatrix, ...]:
        """The one matrix of every round."""
        return (self,)

    @functools.cached_property
    def signed(self) -> bool:
        """Whether weights are negative."""
        return bool((self.matrix < 0).any())

    @functools.cached_property
    def symmetric(self) -> bool:
        return bool(np.abs(self.matrix - self.matrix.T).max() <= ROUNDING)

    @property
    def least_symmetric(self) -> tuple[int, int]:
        """Where W differs most from its transpose."""
        apart = np.abs(self.matrix - self.matrix.T)
        i, j = np.unravel_index(apart.argmax(), apart.shape)
        return int(i), int(j)

    @functools.cached_property
    def doubly_stochastic(self) -> bool:
        sums = [self.matrix.sum(axis=axis) for axis in (0, 1)]
        return bool(np.abs(np.stack(sums) - 1).max() <= ROUNDING)

    @functools.cached_property
    def perron(self) -> Float[np.ndarray, " agents"]:
        """pi > 0 with pi' W = pi' and sum 1, of a W whose rows sum to one.

        Averaging alone comes to sum_j pi_j x_j, so that DGD, ATC and CTA come near the least of
        sum_j pi_j L_j: all the same where columns sum to one, too.
        """
        if self.doubly_stochastic or self.sums == "columns":
            return np.full(self.agents, 1 / self.agents)
        system = np.concatenate([self.matrix.T - np.eye(self.agents), np.ones((1, self.agents))])
        found = np.linalg.lstsq(system, np.eye(self.agents + 1)[-1], rcond=None)[0]
        return np.maximum(found, 0) / np.maximum(found, 0).sum()

    @functools.cached_property
    def eigenvalues(self) -> Float[np.ndarray, " agents"] | Complex[np.ndarray, " agents"]:
        values = (
            np.linalg.eigvalsh(self.matrix) if self.symmetric else np.linalg.eigvals(self.matrix)
        )
        return values[np.argsort(-np.abs(values), kind="stable")]

    @functools.cached_property
    def second_largest_modulus(self) -> float:
        if self._by_lanczos:
            largest = self._outer("LA", 2).min()
            return float(max(largest, -self.smallest_eigenvalue))
        return float(np.abs(self.eigenvalues[1])) if self.agents > 1 else 0.0

    @property
    def spectral_gap(self) -> float:
        return 1 - self.second_largest_modulus

    @functools.cached_property
    def smallest_eigenvalue(self) -> float:
        if self._by_lanczos:
            return float(self._outer("SA", 1)[0])
        return float(self.eigenvalues.real.min())

    @property
    def _by_lanczos(self) -> bool:
        """Whether all eigenvalues would take long and the outer ones alone do not."""
        return self.symmetric and self.agents > LANCZOS_FROM

    def _outer(self, which: str, count: int) -> Float[np.ndarray, " count"]:
        return scipy.sparse.linalg.eigsh(
            scipy.sparse.csr_matrix(self.matrix),
            count,
            which=which,
            v0=np.random.default_rng(0).standard_normal(self.agents),
            return_eigenvectors=False,
        )

    @functools.cached_property
    def contraction(self) -> float:
        return float(np.linalg.norm(self.matrix - 1 / self.agents, 2))

    @property
    def graph(self) -> nx.Graph:
        """Who hears from whom: undirected where the zeros of W are symmetric."""
        links = self.matrix != 0
        np.fill_diagonal(links, False)
        graph = (nx.Graph if (links == links.T).all() else nx.DiGraph)()
        graph.add_nodes_from(range(self.agents))
        graph.add_edges_from(np.argwhere(links.T).tolist())
        nx.set_node_attributes(graph, dict(enumerate(self.names)), "name")
        return graph


@dataclass(frozen=True, eq=False)
class MixingSequence:
    """Weights that change: the matrix of round t is the (t modulo length)-th of `rounds`.

    Each is checked, but connected need be only their union. As data it is the same for prediction
    and training. `contraction` is |W_length ... W_1 - 11'/m|_2, the factor of one whole cycle, and
    `spectral_gap` one minus its root, the mean factor of a round.

    Example:
        >>> round(nd.graphs.one_peer_exponential(4).contraction, 6)
        0.0
    """

    rounds: tuple[MixingMatrix, ...]
    name: str

    def __repr__(self) -> str:
        return f"MixingSequence({self.name!r}, {len(self.rounds)} rounds, {self.agents} agents)"

    def __post_init__(self) -> None:
        if not isinstance(self.rounds, tuple) or not all(
            isinstance(each, MixingMatrix) for each in self.rounds
        ):
            raise InputError(
                "mixing sequence: must be a tuple of `MixingMatrix`; `mixing` makes it of a list"
            )
        if not self.rounds or len({each.agents for each in self.rounds}) != 1:
            raise InputError("mixing sequence: must hold matrices for one number of agents")
        check_connected(self.matrix)

    @property
    def adjusted(self) -> str:
        """What was changed in the matrices that were given, in words."""
        return "; ".join(dict.fromkeys(filter(None, (each.adjusted for each in self.rounds))))

    @property
    def agents(self) -> int:
        return self.rounds[0].agents

    @property
    def names(self) -> tuple[str, ...]:
        """What the agents are called, if they have names."""
        return self.rounds[0].names

    @functools.cached_property
    def matrix(self) -> Float[np.ndarray, "agents agents"]:
        """The mean of W over a cycle."""
        return self.matrices.mean(axis=0)

    @property
    def matrices(self) -> Float[np.ndarray, "length agents agents"]:
        return np.stack([each.matrix for each in self.rounds])

    @functools.cached_property
    def contraction(self) -> float:
        product = functools.reduce(lambda done, each: each @ done, self.matrices)
        return float(np.linalg.norm(product - 1 / self.agents, 2))

    @property
    def spectral_gap(self) -> float:
        return 1 - self.contraction ** (1 / len(self.rounds))


Weights = MixingMatrix | MixingSequence


def check_connected(matrix: np.ndarray) -> None:
    """Refuse a W whose agents do not all reach each other."""
    count, label = scipy.sparse.csgraph.connected_components(matrix != 0, connection="strong")
    if count > 1:
        parts = [np.flatnonzero(label == part).tolist() for part in range(count)]
        shown = ", ".join(map(str, parts[:4])) + (", ..." if count > 4 else "")
        raise InputError(
            f"mixing matrix: the graph falls into {count} parts that do not all reach each other: "
            f"{shown}; it must be connected (`isolated` is the matrix for no exchange at all)"
        )
