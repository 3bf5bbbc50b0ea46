"""Sequences of sparse graphs after which everybody has the exact mean (Takezawa et al. 2023).

Every round is doubly stochastic and symmetric, nobody has more than `peers` neighbours in it, and
the product of all rounds is 11'/m, for any number of agents m.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from ntkdyn.errors import InputError, check_whole
from ntkdyn.graphs.checks import single
from ntkdyn.graphs.matrices import MixingSequence
from ntkdyn.graphs.sequences import check_length

Links = dict[tuple[int, int], float]
"""a round: pairs of agents and the weight between them"""


def hyper_hypercube(agents: int, peers: int = 1) -> MixingSequence:
    """In each round everybody averages within a group of at most k + 1, k = `peers`.

    With m = n_1 ... n_L, agents are numbered with L digits, digit l running to n_l, and in round l
    those meet whose numbers differ in digit l alone. With one peer it is the hypercube's dimensions
    one by one. For m whose prime factors are all up to k + 1 (Takezawa et al. 2023).

    Args:
        agents: m, how many.
        peers: k, the most that an agent hears in a round.

    Returns:
        Weights, round by round.

    Raises:
        InputError: for agents with a prime factor beyond k + 1.

    Example:
        >>> len(nd.graphs.hyper_hypercube(8).rounds)
        3
    """
    agents, peers = _checked("hyper_hypercube", agents, peers)
    factors = _factors(agents, peers + 1)
    if factors is None:
        raise InputError(
            f"hyper_hypercube: {agents} agents have a prime factor above {peers + 1}; "
            f"`graphs.base` takes any number, or allow more peers"
        )
    return _sequence(_hypercube(range(agents), factors), agents, "hyper-hypercube")


def base(agents: int, peers: int = 1) -> MixingSequence:
    """The Base-(k+1) graph, k = `peers`: the exact mean after at most 2 log_{k+1}(m) + 2 rounds.

    For any number m of agents (Takezawa, Sato, Bao, Niwa, Yamada 2023). In base k + 1,
    m = a_1 (k+1)^p_1 + ... + a_L (k+1)^p_L: agents form groups V_l of as many, which average within
    themselves first. Then all later groups meet the first, each of their agents a_1 others, one of
    each (k+1)^p_1 in V_1, with weight |V_1| / (a_1 m): the later ones have taken the first group's
    mean in with its share, and go on among themselves, and each part of V_1 has the mean of all in
    sum, and averages within itself. Where m = p q with p a product of primes up to k + 1, this on q
    and a hyper-hypercube across, if that is shorter.

    Args:
        agents: m, how many.
        peers: k, the most that an agent hears in a round.

    Returns:
        Weights, round by round.

    Raises:
        InputError: for numbers that are not from 1 on.

    Example:
        >>> len(nd.graphs.base(6).rounds)
        4
    """
    agents, peers = _checked("base", agents, peers)
    ways = [_simple(range(agents), peers), _across(agents, peers)]
    return _sequence(min(ways, key=len), agents, f"base-{peers + 1}")


def _checked(name: str, agents: int, peers: int) -> tuple[int, int]:
    agents = check_whole(f"{name}: agents", agents, 1)
    peers = check_whole(f"{name}: peers", peers, 1)
    check_length(name, 2 * agents.bit_length() + 2, agents)
    return agents, peers


def _sequence(rounds: Sequence[Links], agents: int, name: str) -> MixingSequence:
    return MixingSequence(
        tuple(single(_matrix(each, agents), name) for each in rounds or [{}]), name
    )


def _matrix(links: Links, agents: int) -> Float[np.ndarray, "agents agents"]:
    matrix = np.zeros((agents, agents))
    for (i, j), weight in links.items():
        matrix[i, j] = matrix[j, i] = weight
    return matrix + np.diag(1 - matrix.sum(axis=1))


def _factors(number: int, most: int) -> list[int] | None:
    """As few factors up to `most` as there can be; None: a prime factor is above it."""
    if number == 1:
        return []
    found = [
        [factor, *rest]
        for factor in range(min(most, number), 1, -1)
        if number % factor == 0 and (rest := _factors(number // factor, factor)) is not None
    ]
    return min(found, key=len, default=None)


def _hypercube(agents: Sequence[int], factors: Sequence[int]) -> list[Links]:
    """Rounds, one for each digit, of these agents."""
    rounds, stride = [], 1
    for factor in factors:
        links: Links = {}
        for place, agent in enumerate(agents):
            digit = place // stride % factor
            for other in range(digit + 1, factor):
                links[agent, agents[place + (other - digit) * stride]] = 1 / factor
        rounds.append(links)
        stride *= factor
    return rounds


def _simple(agents: Sequence[int], peers: int) -> list[Links]:
    """The rounds of these agents, by their number in base `peers` + 1."""
    factors = _factors(len(agents), peers + 1)
    if factors is not None:
        return _hypercube(agents, factors)
    groups = list(_groups(agents, peers + 1))
    whole = [[agent for part in parts for agent in part] for parts in groups]
    within = [_hypercube(group, _factors(len(group), peers + 1)) for group in whole]
    return _side_by_side(within) + _joined(groups, peers)


def _groups(agents: Sequence[int], base: int) -> Iterator[list[list[int]]]:
    """V_1, V_2, ..., each as its parts of equal size."""
    left = list(agents)
    while left:
        size = 1
        while size * base <= len(left):
            size *= base
        parts = len(left) // size
        yield [left[k * size : (k + 1) * size] for k in range(parts)]
        left = left[parts * size :]


def _joined(groups: Sequence[list[list[int]]], peers: int) -> list[Links]:
    """The rounds after which groups that each agree within themselves agree with one another."""
    if len(groups) == 1:
        return []
    first, *later = groups
    others = [agent for parts in later for part in parts for agent in part]
    inside = sum(map(len, first))
    weight = inside / len(first) / (inside + len(others))
    meeting = {(other, part[place]): weight for place, other in enumerate(others) for part in first}
    parts = [_hypercube(part, _factors(len(part), peers + 1)) for part in first]
    return [meeting, *_side_by_side([*parts, _joined(later, peers)])]


def _side_by_side(runs: Sequence[list[Links]]) -> list[Links]:
    """Rounds of agents that have none in common, at the same time."""
    return [
        dict(itertools.chain.from_iterable(links.items() for links in at_once))
        for at_once in itertools.zip_longest(*runs, fillvalue={})
    ]


def _across(agents: int, peers: int) -> list[Links]:
    """Rounds of m = p q agents: q at a time by `_simple`, then p across."""
    across = 1
    for prime in range(2, peers + 2):
        while agents // across % prime == 0:
            across *= prime
    size = agents // across
    apart = [_simple(range(k * size, (k + 1) * size), peers) for k in range(across)]
    factors = _factors(across, peers + 1)
    columns = [_hypercube(range(k, agents, size), factors) for k in range(size)]
    return _side_by_side(apart) + _side_by_side(columns)
