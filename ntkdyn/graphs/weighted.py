"""W from the weights that links have of their own."""

from __future__ import annotations

from collections.abc import Callable

import networkx as nx
import numpy as np
import scipy.sparse
from jaxtyping import Float

from ntkdyn.errors import InputError, check_name
from ntkdyn.graphs.checks import AXES, axis_of, mixing, with_names
from ntkdyn.graphs.links import check_graph, check_parallel, names_of, weight_of
from ntkdyn.graphs.matrices import MixingMatrix

KEPT = "what rows lacked of a sum of one put on the diagonal: no agent had a link to itself"

SETTLED = 1e-13
"""how far from one the sums of a scaled matrix are left"""

STEPS = 100_000
"""of scaling, at most"""


def given(graph: nx.Graph, sums: str = "rows") -> MixingMatrix:
    """w_ij = the weight of the link by which i hears from j, w_ii that of i's link to itself.

    Where no agent has a link to itself, w_ii = 1 - sum_j w_ij, and `adjusted` says so. Checked as
    any W is (`mixing`); with `sums` "columns" these must sum to one.

    Args:
        graph: whose links are weighed.
        sums: "rows" or "columns", which sum to one.

    Returns:
        A mixing matrix (agents, agents).

    Raises:
        InputError: for weights that are no mixing matrix.

    Example:
        >>> nd.graphs.given(nd.graphs.read(np.full((3, 3), 1 / 3))).agents
        3
    """
    check_name("sums of a mixing matrix", sums, AXES)
    matrix = _weights(graph, "given")
    adjusted = ""
    if not matrix.diagonal().any():
        lacking = 1 - matrix.sum(axis=axis_of(sums))
        if (lacking > 0).any() and (lacking >= -1e-9).all():
            np.fill_diagonal(matrix, np.maximum(lacking, 0))
            adjusted = KEPT.replace("rows", sums)
    found = mixing(matrix, name="given", sums=sums)
    return with_names(found, names_of(graph), adjusted)


def sinkhorn(graph: nx.Graph) -> MixingMatrix:
    """W = D_1 A D_2 with rows and columns that sum to one (Sinkhorn, Knopp 1967).

    a_ij is the weight of the link by which i hears from j, 1 where it has none, a_ii that of i's
    link to itself; an agent without one gets the largest weight of its links. Such D_1 and D_2
    exist where every link lies on a cycle: so on every undirected graph, and on directed ones where
    everybody reaches everybody. Of a symmetric A they are the same, and W is symmetric.

    Args:
        graph: whose links are weighed.

    Returns:
        A mixing matrix (agents, agents).

    Raises:
        InputError: for a directed graph in which not everybody reaches everybody.

    Example:
        >>> round(nd.graphs.sinkhorn(nd.graphs.star(4)).spectral_gap, 4)
        0.2929
    """
    matrix = _weights(graph, "sinkhorn", without=1.0)
    alone = matrix.diagonal() == 0
    largest = np.maximum(matrix.max(axis=0), matrix.max(axis=1))
    np.fill_diagonal(matrix, np.where(alone, np.where(largest > 0, largest, 1), matrix.diagonal()))
    _check_cycles(graph, matrix)
    symmetric = bool((matrix == matrix.T).all())
    scaled = _scaled(matrix / matrix.max(), symmetric)
    return with_names(mixing(scaled, name="sinkhorn"), names_of(graph))


def _weights(
    graph: nx.Graph, rule: str, without: float | None = None
) -> Float[np.ndarray, "agents agents"]:
    """A[i, j], the weight of the link by which i hears from j; `without` of one that has none."""
    check_graph(graph, rule)
    check_parallel(rule, graph)
    matrix = np.zeros((len(graph), len(graph)))
    for sender, listener, weight in graph.edges(data="weight", default=without):
        if weight is None:
            raise InputError(
                f"{rule}: the link from {sender} to {listener} has no weight; rules like "
                f"`metropolis` weigh links by themselves"
            )
        number = weight_of(rule, sender, listener, weight)
        matrix[listener, sender] = number
        if not graph.is_directed():
            matrix[sender, listener] = number
    return matrix


def _check_cycles(graph: nx.Graph, matrix: Float[np.ndarray, "agents agents"]) -> None:
    """Refuse links that lie on no cycle: no scaling gives columns what rows give over them."""
    _, part = scipy.sparse.csgraph.connected_components(matrix > 0, connection="strong")
    across = np.argwhere((matrix > 0) & (part[:, None] != part))
    if len(across):
        listener, sender = (_called(graph, int(i)) for i in across[0])
        raise InputError(
            f"sinkhorn: no scaling of the weights makes both rows and columns sum to one, for the "
            f"link from {sender} to {listener} lies on no cycle; push-sum (`push`) does without"
        )


def _called(graph: nx.Graph, number: int) -> str:
    names = names_of(graph)
    return names[number] if names else str(number)


def _scaled(
    matrix: Float[np.ndarray, "agents agents"], symmetric: bool
) -> Float[np.ndarray, "agents agents"]:
    """D_1 A D_2: rows and columns divided by their sums in turn, both by the root at a time."""
    rows = columns = np.ones(len(matrix))
    for _ in range(STEPS):
        if symmetric:
            rows = columns = np.sqrt(rows / (matrix @ rows))
        else:
            rows = 1 / (matrix @ columns)
            columns = 1 / (rows @ matrix)
        scaled = np.outer(rows, columns) * matrix
        off = max(np.abs(scaled.sum(axis=axis) - 1).max() for axis in (0, 1))
        if off < SETTLED * len(matrix):
            return scaled
    raise InputError(
        f"sinkhorn: after {STEPS} steps sums are off by {off:.2g}; the weights are too unequal"
    )


WEIGHTED: dict[str, Callable[..., MixingMatrix]] = {"given": given, "sinkhorn": sinkhorn}
"""rules that use the weights of links; `WEIGHTS` holds those that do not"""
