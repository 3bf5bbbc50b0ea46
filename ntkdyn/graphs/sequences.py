"""Graphs that change by the round."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import networkx as nx
import numpy as np
from jaxtyping import Float

from ntkdyn import sizes
from ntkdyn.errors import InputError, check_whole, is_real, shown
from ntkdyn.graphs.checks import axis_of, mixing, single, with_names
from ntkdyn.graphs.links import names_of
from ntkdyn.graphs.matrices import MixingMatrix, MixingSequence
from ntkdyn.graphs.weights import both_ways


def one_peer_exponential(agents: int) -> MixingSequence:
    """In round t everybody averages with i - 2^(t mod log2 m) alone (Assran et al. 2019).

    Doubly stochastic; where m is a power of two, a cycle ends at the exact mean.

    Args:
        agents: m, how many.

    Returns:
        Weights, round by round.

    Raises:
        InputError: for fewer than two agents.

    Example:
        >>> len(nd.graphs.one_peer_exponential(8).rounds)
        3
    """
    agents = check_whole("one_peer_exponential: agents", agents, 2)
    hops = [2**k for k in range(agents.bit_length()) if 2**k < agents]
    check_length("one_peer_exponential", len(hops), agents)
    identity, name = np.eye(agents), "one-peer exponential"
    means = [(identity + np.roll(identity, -hop, axis=1)) / 2 for hop in hops]
    return MixingSequence(tuple(single(each, name) for each in means), name)


def random_matchings(graph: nx.Graph, length: int, *, seed: int) -> MixingSequence:
    """In each round a maximal matching of the links, drawn at random, averages in pairs.

    Args:
        graph: whose links are weighed.
        length: rounds that are drawn.
        seed: draws it.

    Returns:
        Weights, round by round.

    Raises:
        InputError: for draws that leave agents unconnected.

    Example:
        >>> len(nd.graphs.random_matchings(nd.graphs.ring(4), 9, seed=0).rounds)
        9
    """
    linked = both_ways(graph, "random_matchings")
    length = check_length("random_matchings", length, len(graph))
    rng = _rng(seed, "random_matchings")
    pairs = [(i, j) for i, j in dict.fromkeys(graph.edges()) if linked[i, j]]
    drawn = (_matching(pairs, len(graph), rng) for _ in range(length))
    name = "random matchings"
    named = names_of(graph)
    return MixingSequence(tuple(with_names(single(each, name), named) for each in drawn), name)


def _matching(
    pairs: Sequence[tuple[int, int]], agents: int, rng: np.random.Generator
) -> Float[np.ndarray, "agents agents"]:
    matrix = np.eye(agents)
    for i, j in rng.permutation(np.array(pairs)):
        if matrix[i, i] == matrix[j, j] == 1:
            matrix[[i, i, j, j], [i, j, i, j]] = 0.5
    return matrix


def link_failures(weights: Any, probability: float, length: int, *, seed: int) -> MixingSequence:
    """In each round every link fails with `probability`, both ways where W is symmetric.

    What an agent would have heard over a failed link it hears from itself, so that rows go on
    summing to one, and columns too where W is symmetric. Where W is one of columns, as `push` makes
    it, an agent keeps what it would have sent, so that columns go on summing to one.

    Args:
        weights: a mixing matrix.
        probability: of each link and round, in [0, 1).
        length: rounds that are drawn.
        seed: draws it.

    Returns:
        Weights, round by round.

    Raises:
        InputError: for draws that leave agents unconnected.

    Example:
        >>> len(nd.graphs.link_failures(W, 0.2, 9, seed=0).rounds)
        9
    """
    if not is_real(probability) or not 0 <= probability < 1:
        raise InputError(
            f"link_failures: probability must be a number in [0, 1), got {shown(probability)}"
        )
    weights = mixing(weights)
    if isinstance(weights, MixingSequence):
        raise InputError("link_failures: takes the weights of one round, got a sequence of them")
    length = check_length("link_failures", length, weights.agents)
    rng = _rng(seed, "link_failures")
    name = f"{weights.name} with failures"
    drawn = (_failed(weights, probability, rng) for _ in range(length))
    rounds = (with_names(single(each, name, weights.sums), weights.names) for each in drawn)
    return MixingSequence(tuple(rounds), name)


def _failed(
    weights: MixingMatrix, probability: float, rng: np.random.Generator
) -> Float[np.ndarray, "agents agents"]:
    up = rng.random(weights.matrix.shape) >= probability
    if weights.symmetric:
        up = np.triu(up) | np.triu(up).T
    matrix = np.where(up | np.eye(weights.agents, dtype=bool), weights.matrix, 0.0)
    return matrix + np.diag(1 - matrix.sum(axis=axis_of(weights.sums)))


def by_round(weights: Any, length: int, *, sums: str = "rows") -> MixingSequence:
    """W_0, ..., W_(length-1), which a function of the round or an iterator gives; then again.

    Args:
        weights: a function of the round, or an iterator; each may be whatever `mixing` takes for
            one round.
        length: how many are asked.
        sums: "rows" or "columns", which sum to one.

    Returns:
        Weights, round by round.

    Raises:
        InputError: for an iterator that ends sooner, and what is no mixing matrix, by its round.

    Example:
        >>> len(nd.graphs.by_round(lambda t: W, 2).rounds)
        2
    """
    length = check_whole("by_round: length", length, 1)
    if not callable(weights) and not isinstance(weights, Iterable):
        raise InputError(
            f"by_round: must be a function of the round, or an iterator, got {shown(weights)}"
        )
    source = map(weights, range(length)) if callable(weights) else weights
    found: list[Any] = []
    for round, each in enumerate(itertools.islice(source, length)):
        _of_round(round, each, sums)
        if not round:
            check_length("by_round", length, np.shape(getattr(each, "matrix", each))[0])
        found.append(each)
    if len(found) < length:
        raise InputError(f"by_round: ends after {len(found)} rounds, {length} are asked for")
    return mixing(found, name="by round", sums=sums)


def _of_round(round: int, weights: Any, sums: str) -> None:
    """Refuse what is no mixing matrix; it need not be connected, as all of them together must."""
    matrix = getattr(weights, "matrix", weights)
    try:
        mixing([matrix, np.full(np.shape(matrix), 1 / max(len(matrix), 1))], sums=sums)
    except (InputError, TypeError) as error:
        raise InputError(f"by_round: round {round}: {error}") from None


COPIES = 2
"""of all matrices: one by one, and together as a run takes them"""


def check_length(name: str, length: int, agents: int) -> int:
    """The number of rounds, for whose matrices there is room."""
    length = check_whole(f"{name}: length", length, 1)
    size = 8.0 * COPIES * length * agents**2
    sizes.check_room(f"{name}: {length} matrices of {agents} agents", size, "ask for fewer rounds")
    return length


def _rng(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng(check_whole(f"{name}: seed", seed, 0))
