"""Weights: how much each link counts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
from jaxtyping import Float

from ntkdyn.errors import InputError, check_flag, check_whole, is_real, shown
from ntkdyn.graphs.checks import check_connected, checked, mixing, with_names
from ntkdyn.graphs.links import adjacency, check_room, names_of
from ntkdyn.graphs.matrices import MixingMatrix, MixingSequence, Weights


def _named(rule: Callable[..., MixingMatrix]) -> Callable[..., MixingMatrix]:
    """The rule, whose W keeps the names of the graph's agents."""

    @functools.wraps(rule)
    def weigh(graph: Any, *more: Any, **settings: Any) -> MixingMatrix:
        return with_names(rule(graph, *more, **settings), names_of(graph))

    return weigh


@_named
def metropolis(graph: nx.Graph) -> MixingMatrix:
    """w_ij = 1 / (1 + max(d_i, d_j)) on links, w_ii = 1 - sum (Xiao, Boyd, Kim 2007).

    Args:
        graph: whose links are weighed.

    Returns:
        A mixing matrix (agents, agents).

    Raises:
        InputError: for a graph that is not connected.

    Example:
        >>> round(nd.graphs.metropolis(nd.graphs.star(4)).spectral_gap, 4)
        0.25
    """
    linked = both_ways(graph, "metropolis")
    degrees = linked.sum(axis=1)
    return _filled(linked / (1 + np.maximum.outer(degrees, degrees)), "metropolis")


@_named
def uniform(graph: nx.Graph) -> MixingMatrix:
    """w_ij = 1 / (1 + d_i) over oneself and those one hears from; on a directed graph too.

    Args:
        graph: whose links are weighed.

    Returns:
        A mixing matrix (agents, agents).

    Raises:
        InputError: for a graph that is not connected.

    Example:
        >>> round(nd.graphs.uniform(nd.graphs.star(4)).spectral_gap, 4)
        0.5
    """
    heard = adjacency(graph, "uniform") + np.eye(len(graph))
    return checked(heard / heard.sum(axis=1, keepdims=True), "uniform")


@_named
def max_degree(graph: nx.Graph) -> MixingMatrix:
    """w_ij = 1 / (1 + d_max) on links, w_ii = 1 - d_i / (1 + d_max).

    Args:
        graph: whose links are weighed.

    Returns:
        A mixing matrix (agents, agents).

    Raises:
        InputError: for a graph that is not connected.

    Example:
        >>> round(nd.graphs.max_degree(nd.graphs.star(4)).spectral_gap, 4)
        0.25
    """
    linked = both_ways(graph, "max_degree")
    return _filled(linked / (1 + linked.sum(axis=1).max()), "max_degree")


@_named
def hundredths(graph: nx.Graph) -> MixingMatrix:
    """w_ij = floor(100 / (1 + d_max)) / 100 on links, w_ii = 1 - sum.

    `max_degree` rounded down to two decimals, as DIMAT's code has it on `two_hubs`.

    Args:
        graph: whose links are weighed.

    Returns:
        A mixing matrix (agents, agents).

    Raises:
        InputError: for a graph that is not connected.

    Example:
        >>> round(nd.graphs.hundredths(nd.graphs.star(4)).spectral_gap, 4)
        0.25
    """
    linked = both_ways(graph, "hundredths")
    largest = int(linked.sum(axis=1).max())
    if largest > 99:
        raise InputError(
            f"hundredths: an agent has {largest} neighbours, and a weight of 1 / {largest + 1} is "
            f"zero in two decimals; `max_degree` does not round"
        )
    return _filled(linked * (100 // (1 + largest)) / 100, "hundredths")


@_named
def laplacian(
    graph: nx.Graph, epsilon: float | None = None, negative: bool = False
) -> MixingMatrix:
    """W = I - epsilon L, with the best constant 2 / (l_2 + l_max), at most 1 / d_max, as default.

    The best constant minimises the second-largest modulus (Xiao, Boyd 2004); the cap keeps
    every weight non-negative. With `negative` there is none: an agent with many neighbours then
    weighs itself negatively, and epsilon may be anything below 2 / l_max.

    Args:
        graph: whose links are weighed.
        epsilon: the factor; None: the best.
        negative: whether weights may be negative.

    Returns:
        A mixing matrix (agents, agents).

    Raises:
        InputError: for a graph that is not connected, and an epsilon at which agents do not come
            together.

    Example:
        >>> round(nd.graphs.laplacian(nd.graphs.star(4)).spectral_gap, 4)
        0.3333
    """
    check_flag("laplacian: negative", negative)
    linked = both_ways(graph, "laplacian")
    check_connected(linked)
    degrees = linked.sum(axis=1)
    if len(graph) == 1:
        return isolated(1)
    if epsilon is None:
        spectrum = np.linalg.eigvalsh(np.diag(degrees) - linked)
        best = 2 / (spectrum[1] + spectrum[-1])
        epsilon = best if negative else min(best, 1 / degrees.max())
    if not is_real(epsilon) or not (negative or 0 < epsilon <= 1 / degrees.max()):
        raise InputError(
            f"laplacian: epsilon must be a number in (0, {1 / degrees.max():.4g}] on this graph, "
            f"or a weight is negative; got {shown(epsilon)}"
        )
    return _filled(linked * epsilon, "laplacian", negative)


def lazy(weights: Any, stay: float = 0.5) -> Weights:
    """stay I + (1 - stay) W: every agent keeps the share `stay` of its own iterate.

    `weights` is whatever `mixing` takes; of a sequence, every matrix.

    Args:
        weights: a mixing matrix, or several in turn.
        stay: in [0, 1).

    Returns:
        The same kind.

    Raises:
        InputError: for a share outside [0, 1).

    Example:
        >>> round(nd.graphs.lazy(W, 0.5).spectral_gap, 4)
        0.5
    """
    if not is_real(stay) or not 0 <= stay < 1:
        raise InputError(f"lazy: stay must be a number in [0, 1), got {shown(stay)}")
    weights = mixing(weights)
    name = f"lazy {weights.name}"
    if isinstance(weights, MixingSequence):
        return MixingSequence(tuple(lazy(each, stay) for each in weights.rounds), name)
    kept = stay * np.eye(weights.agents) + (1 - stay) * weights.matrix
    return replace(weights, matrix=kept, name=name)


def isolated(agents: int) -> MixingMatrix:
    """W = I: no agent hears from another. The one disconnected matrix, for comparison.

    Args:
        agents: m, how many.

    Returns:
        A mixing matrix (agents, agents).

    Raises:
        InputError: for a number of agents that is not from 1 on.

    Example:
        >>> nd.graphs.isolated(2).matrix.tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    agents = check_whole("isolated: agents", agents, 1)
    check_room("isolated", agents, 0)
    return MixingMatrix(np.eye(agents), "isolated")


@_named
def push(graph: nx.Graph) -> MixingMatrix:
    """p_ij = 1 / (1 + listeners of j): j splits what it has evenly; columns sum to one.

    Args:
        graph: whose links are weighed.

    Returns:
        A mixing matrix (agents, agents).

    Raises:
        InputError: for a graph that is not connected.

    Example:
        >>> nd.graphs.push(nd.graphs.directed_ring(3)).sums
        'columns'
    """
    sent = adjacency(graph, "push") + np.eye(len(graph))
    return checked(sent / sent.sum(axis=0), "push", "columns")


def both_ways(graph: Any, rule: str) -> Float[np.ndarray, "agents agents"]:
    """Who is linked to whom in an undirected graph."""
    linked = adjacency(graph, rule)
    if graph.is_directed():
        raise InputError(f"{rule}: needs an undirected graph; `uniform` takes a directed one")
    return linked


def _filled(
    matrix: Float[np.ndarray, "agents agents"], name: str, negative: bool = False
) -> MixingMatrix:
    """W with these weights on the links and what is left of one on the diagonal."""
    np.fill_diagonal(matrix, 1 - matrix.sum(axis=1))
    return checked(matrix, name, negative=negative)


WEIGHTS: dict[str, Callable[..., MixingMatrix]] = {
    weigh.__name__: weigh
    for weigh in (metropolis, uniform, max_degree, hundredths, laplacian, push)
}
