"""D-Cliques: a graph made for who has which data (Bellet, Kermarrec, Lavoie 2022)."""

from __future__ import annotations

import itertools
from typing import Any

import networkx as nx
import numpy as np
from jaxtyping import Float

from ntkdyn import arrays
from ntkdyn.errors import InputError, check_name, check_whole, shown

BETWEEN = ("ring", "fully connected")

ROUNDING = 1e-12
"""an exchange that lessens skews by no more than this lessens nothing"""


def d_cliques(
    counts: Any, size: int = 10, *, between: str = "ring", steps: int = 1000, seed: int = 0
) -> nx.Graph:
    """Cliques of up to `size` agents that together have the labels of all, linked with one another.

    `counts` (agents, classes) says how many points of each class an agent has. With p_C the shares
    of the classes in a clique C and p those in all,

        skew(C) = sum_l |p_C(l) - p(l)|

    is made small from cliques drawn at random: in each of `steps` steps two cliques are drawn, and
    of the exchanges of two agents between them that lessen the sum of their skews one is made, also
    at random. Cliques are then linked in a ring or, "fully connected", every two, by one link
    between agents that have fewest such links. Take `metropolis` weights of it, as there.

    Args:
        counts: points (agents, classes).
        size: of a clique, at most.
        between: "ring" or "fully connected".
        steps: exchanges that are tried.
        seed: draws it.

    Returns:
        The graph, agents numbered from 0.

    Raises:
        InputError: for counts that are no such table.

    Example:
        >>> nd.graphs.d_cliques(np.eye(4), 2).number_of_edges()
        3
    """
    table = arrays.double("d_cliques: counts", counts, 2)
    size, steps = check_whole("d_cliques: size", size, 1), check_whole("d_cliques: steps", steps, 0)
    check_name("links between cliques", between, BETWEEN)
    if (table < 0).any() or not (table.sum(axis=1) > 0).all():
        raise InputError(
            f"d_cliques: counts must be of at least one point for every agent, got {shown(counts)}"
        )
    rng = np.random.default_rng(check_whole("d_cliques: seed", seed, 0))
    drawn = rng.permutation(len(table))
    cliques = [part.tolist() for part in np.array_split(drawn, -(-len(table) // size))]
    for _ in range(steps if len(cliques) > 1 else 0):
        _exchange(cliques, table, rng)
    return _linked(cliques, between)


def skew(table: Float[np.ndarray, "agents classes"], clique: list[int]) -> float:
    """sum_l |p_C(l) - p(l)|."""
    own, whole = table[clique].sum(axis=0), table.sum(axis=0)
    return float(np.abs(own / own.sum() - whole / whole.sum()).sum())


def _exchange(
    cliques: list[list[int]],
    table: Float[np.ndarray, "agents classes"],
    rng: np.random.Generator,
) -> None:
    """One exchange between two cliques that lessens their skews, if there is one."""
    one, other = (cliques[k] for k in rng.choice(len(cliques), 2, replace=False))
    p = table.sum(axis=0) / table.sum()
    first, second = table[one].sum(axis=0), table[other].sum(axis=0)
    moved = table[other][None] - table[one][:, None]

    skews = lambda sums: np.abs(sums / sums.sum(axis=-1, keepdims=True) - p).sum(axis=-1)
    now = skews(first) + skews(second)
    better = np.argwhere(skews(first + moved) + skews(second - moved) < now - ROUNDING)
    if len(better):
        i, j = better[rng.integers(len(better))]
        one[i], other[j] = other[j], one[i]


def _linked(cliques: list[list[int]], between: str) -> nx.Graph:
    graph = nx.empty_graph(sum(map(len, cliques)))
    for clique in cliques:
        graph.add_edges_from(itertools.combinations(clique, 2))
    count = len(cliques)
    ring = {tuple(sorted((k, (k + 1) % count))) for k in range(count)} - {(0, 0)}
    pairs = sorted(ring) if between == "ring" else itertools.combinations(range(count), 2)
    used = dict.fromkeys(graph, 0)
    for first, second in pairs:
        ends = [min(cliques[k], key=lambda agent: (used[agent], agent)) for k in (first, second)]
        graph.add_edge(*ends)
        for agent in ends:
            used[agent] += 1
    return graph
