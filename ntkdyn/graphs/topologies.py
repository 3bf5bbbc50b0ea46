"""Topologies: who is linked to whom."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import networkx as nx
import numpy as np

from ntkdyn.errors import InputError, check_whole, is_real, is_whole, shown
from ntkdyn.graphs.links import check_room

LARGEST_CUBE = 30
"""the dimension of a cube with a thousand million agents, more than any memory holds"""


def ring(agents: int) -> nx.Graph:
    """i is linked to i - 1 and i + 1, modulo `agents`.

    Args:
        agents: m, how many.

    Returns:
        The graph, agents numbered from 0.

    Raises:
        InputError: for numbers that are not whole, or too small.

    Example:
        >>> nd.graphs.ring(8).number_of_edges()
        8
    """
    _agents("ring", agents, 1)
    return nx.cycle_graph(agents) if agents > 2 else nx.path_graph(agents)


def path(agents: int) -> nx.Graph:
    """i is linked to i + 1; the two ends have one neighbour.

    Args:
        agents: m, how many.

    Returns:
        The graph, agents numbered from 0.

    Raises:
        InputError: for numbers that are not whole, or too small.

    Example:
        >>> nd.graphs.path(8).number_of_edges()
        7
    """
    return nx.path_graph(_agents("path", agents, 1))


def complete(agents: int) -> nx.Graph:
    """Everybody is linked to everybody.

    Args:
        agents: m, how many.

    Returns:
        The graph, agents numbered from 0.

    Raises:
        InputError: for numbers that are not whole, or too small.

    Example:
        >>> nd.graphs.complete(8).number_of_edges()
        28
    """
    return nx.complete_graph(_agents("complete", agents, 1, lambda m: m * m / 2))


def star(agents: int) -> nx.Graph:
    """Agent 0 is linked to all the others, which have no other link.

    Args:
        agents: m, how many.

    Returns:
        The graph, agents numbered from 0.

    Raises:
        InputError: for numbers that are not whole, or too small.

    Example:
        >>> nd.graphs.star(8).number_of_edges()
        7
    """
    return nx.star_graph(_agents("star", agents, 2) - 1)


def torus(rows: int, columns: int) -> nx.Graph:
    """A grid whose opposite edges are joined: (r, c) is linked to (r +- 1, c) and (r, c +- 1).

    Args:
        rows: of the grid.
        columns: the same.

    Returns:
        The graph, agents numbered from 0.

    Raises:
        InputError: for numbers that are not whole, or too small.

    Example:
        >>> nd.graphs.torus(3, 4).number_of_edges()
        24
    """
    rows = check_whole("torus: rows", rows, 2)
    columns = check_whole("torus: columns", columns, 2)
    check_room("torus", rows * columns, 2 * rows * columns)
    grid = nx.grid_2d_graph(rows, columns, periodic=True)
    return nx.convert_node_labels_to_integers(grid, ordering="sorted")


def hypercube(dimension: int) -> nx.Graph:
    """2^dimension agents; two are linked where their binary numbers differ in one digit.

    Args:
        dimension: of the cube.

    Returns:
        The graph, agents numbered from 0.

    Raises:
        InputError: for numbers that are not whole, or too small.

    Example:
        >>> nd.graphs.hypercube(3).number_of_edges()
        12
    """
    dimension = check_whole("hypercube: dimension", dimension, 1, LARGEST_CUBE)
    check_room("hypercube", 2**dimension, dimension * 2**dimension / 2)
    cube = nx.hypercube_graph(dimension)
    return nx.convert_node_labels_to_integers(cube, ordering="sorted")


def exponential(agents: int) -> nx.Graph:
    """i is linked to i +- 2^k modulo `agents`, for every 2^k < agents.

    Args:
        agents: m, how many.

    Returns:
        The graph, agents numbered from 0.

    Raises:
        InputError: for numbers that are not whole, or too small.

    Example:
        >>> nd.graphs.exponential(8).number_of_edges()
        20
    """
    return nx.Graph(directed_exponential(agents))


def petersen() -> nx.Graph:
    """The Petersen graph: 10 agents, 3 neighbours each, any two at most two links apart.

    Returns:
        The graph, agents numbered from 0.

    Example:
        >>> nd.graphs.petersen().number_of_edges()
        15
    """
    return nx.petersen_graph()


def random_regular(agents: int, degree: int, *, seed: int) -> nx.Graph:
    """A connected graph drawn uniformly from those in which everybody has `degree` neighbours.

    Args:
        agents: m, how many.
        degree: neighbours of each.
        seed: draws it.

    Returns:
        The graph, agents numbered from 0.

    Raises:
        InputError: for numbers that are not whole, or too small.

    Example:
        >>> nd.graphs.random_regular(10, 3, seed=0).number_of_edges()
        15
    """
    degree = check_whole("random_regular: degree", degree, 1)
    agents = _agents("random_regular", agents, 1, lambda m: m * min(degree, m) / 2)
    if degree >= agents or agents * degree % 2:
        raise InputError(
            f"random_regular: degree must be below agents with an even product, "
            f"got degree {degree} and {agents} agents"
        )
    return _first_connected(
        lambda rng: nx.random_regular_graph(degree, agents, seed=rng), seed, "random_regular"
    )


def erdos_renyi(agents: int, probability: float, *, seed: int) -> nx.Graph:
    """Each pair is linked with `probability`, drawn anew until the graph is connected.

    Args:
        agents: m, how many.
        probability: of each link, in (0, 1].
        seed: draws it.

    Returns:
        The graph, agents numbered from 0.

    Raises:
        InputError: for numbers that are not whole, or too small.

    Example:
        >>> nd.graphs.erdos_renyi(10, 0.5, seed=0).number_of_edges()
        19
    """
    if not is_real(probability) or not 0 < probability <= 1:
        raise InputError(
            f"erdos_renyi: probability must be a number in (0, 1], got {shown(probability)}"
        )
    probability = float(probability)
    agents = _agents("erdos_renyi", agents, 1, lambda m: probability * m * m / 2)
    return _first_connected(
        lambda rng: nx.gnp_random_graph(agents, probability, seed=rng), seed, "erdos_renyi"
    )


def directed_ring(agents: int) -> nx.DiGraph:
    """i hears from i - 1 only, modulo `agents`.

    Args:
        agents: m, how many.

    Returns:
        The graph, agents numbered from 0; a link goes to who hears.

    Raises:
        InputError: for numbers that are not whole, or too small.

    Example:
        >>> nd.graphs.directed_ring(8).number_of_edges()
        8
    """
    _agents("directed_ring", agents, 2)
    return nx.DiGraph((i, (i + 1) % agents) for i in range(agents))


def directed_exponential(agents: int) -> nx.DiGraph:
    """i hears from i - 2^k modulo `agents`, for every 2^k < agents.

    Args:
        agents: m, how many.

    Returns:
        The graph, agents numbered from 0; a link goes to who hears.

    Raises:
        InputError: for numbers that are not whole, or too small.

    Example:
        >>> nd.graphs.directed_exponential(8).number_of_edges()
        24
    """
    agents = _agents("exponential", agents, 2, lambda m: m * m.bit_length())
    hops = [2**k for k in range(agents.bit_length()) if 2**k < agents]
    return nx.DiGraph((i, (i + hop) % agents) for i in range(agents) for hop in hops)


def circulant(agents: int, hops: Sequence[int] = (1, 4)) -> nx.Graph:
    """i is linked to i +- hop modulo `agents`, for every hop: the "torus" of CCL's code.

    Args:
        agents: m, how many.
        hops: differences of numbers of agents that are linked.

    Returns:
        The graph, agents numbered from 0.

    Raises:
        InputError: for numbers that are not whole, or too small.

    Example:
        >>> nd.graphs.circulant(16).number_of_edges()
        32
    """
    agents = check_whole("circulant: agents", agents, 3)
    given = _listed(hops, agents)
    if not given or any(not _is_index(hop) or not 1 <= hop < agents for hop in given):
        raise InputError(
            f"circulant: hops must be a list of whole numbers from 1 to {agents - 1}, got "
            f"{shown(hops)}"
        )
    check_room("circulant", agents, agents * len(given))
    return nx.circulant_graph(agents, given)


def dyck() -> nx.Graph:
    """The Dyck graph: 32 agents, 3 neighbours each, every circle at least six links long.

    The code of CCL and GUT calls another graph by this name: that is `four_rings`.

    Returns:
        The graph, agents numbered from 0.

    Example:
        >>> nd.graphs.dyck().number_of_edges()
        48
    """
    return nx.LCF_graph(32, [5, -5, 13, -13], 8)


def four_rings() -> nx.Graph:
    """Four rings of eight agents, everybody linked to one of another ring: 32 agents in all.

    The code of CCL and GUT calls it Dyck's, which it is not: with uniform weights its spectral gap
    is 0.146, and that of `dyck` 0.191.

    Returns:
        The graph, agents numbered from 0.

    Example:
        >>> nd.graphs.four_rings().number_of_edges()
        48
    """
    rings = [(8 * k + i, 8 * k + (i + 1) % 8) for k in range(4) for i in range(8)]
    even = [(i, i + 8) for first in (0, 16) for i in range(first, first + 8, 2)]
    odd = [(i, i + 16) for first in (1, 9) for i in range(first, first + 7, 2)]
    return nx.Graph(rings + even + odd)


def two_hubs(agents: int) -> nx.Graph:
    """The last two agents are each linked to all others, which have no other link.

    DIMAT's code has it, with weights `hundredths`.

    Args:
        agents: m, how many.

    Returns:
        The graph, agents numbered from 0.

    Raises:
        InputError: for numbers that are not whole, or too small.

    Example:
        >>> nd.graphs.two_hubs(8).number_of_edges()
        12
    """
    return nx.complete_bipartite_graph(_agents("two_hubs", agents, 3) - 2, 2)


def davis() -> nx.Graph:
    """Davis' social network: 18 women and the 14 events they came to, 32 agents in all.

    Returns:
        The graph, agents numbered from 0.

    Example:
        >>> nd.graphs.davis().number_of_edges()
        89
    """
    return nx.convert_node_labels_to_integers(nx.davis_southern_women_graph(), ordering="default")


def from_edges(edges: Iterable[Sequence[int]], agents: int | None = None) -> nx.Graph:
    """The graph with these links; agents are numbered from 0 to the largest number named.

    Args:
        edges: pairs of agents.
        agents: how many there are, if the last have no link.

    Returns:
        The graph, agents numbered from 0.

    Raises:
        InputError: for links that are no pairs of agents.

    Example:
        >>> nd.graphs.from_edges([(0, 1), (1, 2)]).number_of_edges()
        2
    """
    if not isinstance(edges, Iterable) or getattr(edges, "shape", None) == ():
        raise InputError(f"edges: must be a list of pairs of agent numbers, got {shown(edges)}")
    pairs = [_pair(edge) for edge in _listed(edges)]
    if agents is None:
        agents = 1 + max(map(max, pairs), default=0)
    graph = nx.empty_graph(_agents("from_edges", agents, 1))
    if any(max(pair) >= agents for pair in pairs):
        raise InputError(f"edges: an edge names an agent beyond the {agents} there are")
    graph.add_edges_from((i, j) for i, j in pairs if i != j)
    return graph


def _pair(edge: Any) -> tuple[int, int]:
    ends = _listed(edge, 2)
    if len(ends) != 2 or not all(_is_index(end) for end in ends):
        raise InputError(
            f"edges: each must be a pair of agent numbers from 0 on, got {shown(edge)}"
        )
    return int(ends[0]), int(ends[1])


TOPOLOGIES: dict[str, Callable[..., nx.Graph]] = {
    build.__name__: build
    for build in (
        ring, path, complete, star, torus, hypercube, exponential, petersen, random_regular,
        erdos_renyi, directed_ring, directed_exponential, circulant, dyck, four_rings,
        two_hubs, davis, from_edges,
    )
}  # fmt: skip


def _first_connected(draw: Callable[..., nx.Graph], seed: int, name: str) -> nx.Graph:
    rng = np.random.default_rng(check_whole(f"{name}: seed", seed, 0))
    for _ in range(1000):
        graph = draw(rng)
        if nx.is_connected(graph):
            return graph
    raise InputError(f"{name}: none of 1000 draws was connected; ask for more links")


def _agents(
    graph: str, agents: int, least: int, links: Callable[[int], int | float] = lambda m: 2 * m
) -> int:
    """The number of agents, for which there is room with about so many links."""
    agents = check_whole(f"{graph}: agents", agents, least)
    check_room(graph, agents, links(agents))
    return agents


def _listed(values: Any, most: int | None = None) -> list[Any]:
    """What is listed; nothing of what is no list, or of one with more than `most` entries."""
    if not isinstance(values, Iterable) or getattr(values, "shape", None) == ():
        return []
    first = list(itertools.islice(values, most if most is None else most + 1))
    return first if most is None or len(first) <= most else []


def _is_index(value: Any) -> bool:
    return is_whole(value) and value >= 0
