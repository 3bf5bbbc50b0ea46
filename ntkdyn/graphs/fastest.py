"""Weights that bring agents together fastest, by convex optimisation."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import networkx as nx
import numpy as np
from jaxtyping import Float

from ntkdyn.errors import InputError, check_flag
from ntkdyn.graphs.checks import checked, with_names
from ntkdyn.graphs.links import names_of
from ntkdyn.graphs.matrices import MixingMatrix
from ntkdyn.graphs.weights import both_ways, isolated

LARGEST = 64
"""agents of a program that takes no more than half a minute"""


def fastest(graph: nx.Graph, *, negative: bool = False) -> MixingMatrix:
    """The symmetric W on these links with the smallest |W - 11'/m|_2, the second-largest modulus.

        minimise s over w:   -s I <= I - B diag(w) B' - 11'/m <= s I,

    B the links' incidence matrix. Weights are not negative, own ones included: the fastest mixing
    Markov chain (Boyd, Diaconis, Xiao 2004). With `negative` they may be: the fastest distributed
    linear averaging (Xiao, Boyd 2004). Needs the extra `bounds`; accurate to about 1e-7.

    It is the fastest at averaging and not at learning: where its smallest eigenvalue is further
    below zero than that of other weights, the largest stable step is smaller. DGD with it needs
    twice the rounds of Metropolis' in the median (`analysis/results/fastest-mixing.md`).

    Raises:
        InputError: for directed graphs, more than 64 agents, and without cvxpy.

    Args:
        graph: undirected, of up to 64 agents.
        negative: whether weights may be negative.

    Returns:
        A mixing matrix (agents, agents).

    Example:
        >>> round(nd.graphs.fastest(nd.graphs.star(4)).spectral_gap, 4)
        0.3333
    """
    check_flag("fastest: negative", negative)
    linked = both_ways(graph, "fastest")
    if len(graph) > LARGEST:
        raise InputError(
            f"fastest: {len(graph)} agents are too many for its semidefinite program, which is for "
            f"up to {LARGEST}; take `laplacian` or `metropolis`"
        )
    if len(graph) == 1:
        return isolated(1)
    first, second = np.nonzero(np.triu(linked))
    weights = _solved(_incidence(first, second, len(graph)), negative)
    matrix = np.zeros_like(linked)
    matrix[first, second] = matrix[second, first] = weights
    np.fill_diagonal(matrix, 1 - matrix.sum(axis=1))
    name = "fastest linear averaging" if negative else "fastest mixing"
    return with_names(checked(matrix, name, negative=negative), names_of(graph))


def _incidence(
    first: np.ndarray, second: np.ndarray, agents: int
) -> Float[np.ndarray, "agents links"]:
    matrix, link = np.zeros((agents, len(first))), np.arange(len(first))
    matrix[first, link], matrix[second, link] = 1, -1
    return matrix


def _solved(B: Float[np.ndarray, "agents links"], negative: bool) -> Float[np.ndarray, " links"]:
    """The links' weights."""
    cp = _cvxpy()
    agents, links = B.shape
    w, s, identity = cp.Variable(links), cp.Variable(), np.eye(agents)
    apart = identity - np.full((agents, agents), 1 / agents) - B @ cp.diag(w) @ B.T
    limits = [apart >> -s * identity, apart << s * identity]
    if not negative:
        limits += [w >= 0, np.abs(B) @ w <= 1]
    problem = cp.Problem(cp.Minimize(s), limits)
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        problem.solve(solver="CLARABEL")
    if w.value is None:
        raise InputError(f"fastest: the semidefinite program was not solved: {problem.status}")
    if negative:
        return w.value
    weights = np.maximum(w.value, 0)
    return weights / max(1.0, (np.abs(B) @ weights).max())


def _cvxpy() -> Any:
    try:
        importlib.import_module("clarabel")
        return importlib.import_module("cvxpy")
    except ImportError as error:
        raise InputError(
            f"fastest: needs {error.name}, which is not installed: pip install 'ntkdyn[bounds]'"
        ) from None
