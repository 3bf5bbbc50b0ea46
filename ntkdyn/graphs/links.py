"""From a networkx graph to who hears from whom: checked, parallel links counted once."""

from __future__ import annotations

import math
from typing import Any

import networkx as nx
import numpy as np
from jaxtyping import Float

from ntkdyn import sizes
from ntkdyn.errors import InputError, is_real, shown


def adjacency(graph: Any, rule: str) -> Float[np.ndarray, "agents agents"]:
    """A[i, j] = 1 where i hears from j; agents in the order of their numbers, none from itself.

    A link of weight zero is none. Other weights are refused unless all are the same: no rule here
    uses them.
    """
    agents = check_graph(graph, rule)
    _check_weights(graph, rule)
    pairs = [(i, j) for i, j, weight in graph.edges(data="weight") if weight != 0]
    sender, listener = np.array(pairs, dtype=int).reshape(-1, 2).T
    matrix = np.zeros((agents, agents))
    matrix[listener, sender] = 1
    if not graph.is_directed():
        matrix[sender, listener] = 1
    np.fill_diagonal(matrix, 0)
    return matrix


def names_of(graph: nx.Graph) -> tuple[str, ...]:
    """What the agents 0, 1, ... are called; nothing where not all of them have a name."""
    named = dict(graph.nodes(data="name"))
    found = tuple(named[number] for number in range(len(named)))
    return found if all(isinstance(name, str) for name in found) else ()


def check_room(graph: str, agents: int, links: int | float) -> None:
    """Refuse a graph whose links, or whose W, take more memory than there is."""
    sizes.check_room(
        f"{graph}: a graph of {agents:.9g} agents with its mixing matrix",
        LINK * links + 8 * COPIES * float(agents) ** 2,
        "ask for fewer agents",
    )


LINK = 300
"""bytes that a link takes in networkx, in both directions, as measured"""

COPIES = 3
"""of W that are held while it is made and checked"""


def check_graph(graph: Any, rule: str) -> int:
    """How many agents the graph has; refuses what cannot be weighed."""
    if not isinstance(graph, nx.Graph):
        raise InputError(
            f"{rule}: needs a networkx graph, like `graphs.ring(8)`, got {type(graph).__name__}; "
            f"`graphs.mixing` takes a matrix of weights, `graphs.from_edges` a list of links"
        )
    agents = len(graph)
    if not agents:
        raise InputError(f"{rule}: the graph is empty; it must have at least one agent")
    if set(graph) != set(range(agents)):
        raise InputError(
            f"{rule}: agents of the graph must be numbered 0 to {agents - 1}, without gaps; "
            f"`networkx.convert_node_labels_to_integers` numbers them"
        )
    check_room(rule, agents, graph.number_of_edges())
    return agents


def weight_of(what: str, one: Any, other: Any, weight: Any) -> float:
    """The weight of a link as a number; refuses what W cannot hold."""
    number = float(weight) if isinstance(weight, bool | np.bool_) else weight
    if not is_real(number) or not math.isfinite(number) or number < 0:
        raise InputError(
            f"{what}: the weight of the link from {shown(one)} to {shown(other)} must be a finite "
            f"number from 0 on, got {shown(weight)}; no method here is made for others"
        )
    return float(number)


def check_parallel(what: str, graph: nx.Graph) -> None:
    """Refuse several links between two agents, whose weights differ."""
    for one, other in graph.edges() if graph.is_multigraph() else ():
        weights = {each.get("weight") for each in graph[one][other].values()}
        if len(weights) > 1:
            raise InputError(
                f"{what}: there are several links from {shown(one)} to {shown(other)}, whose "
                f"weights differ"
            )


def _check_weights(graph: nx.Graph, rule: str) -> None:
    """Weights that differ would be lost; 0, and 1 or true, are as good as none."""
    given = [weight for *_, weight in graph.edges(data="weight") if weight is not None]
    given = [int(weight) if isinstance(weight, bool | np.bool_) else weight for weight in given]
    odd = [weight for weight in given if not is_real(weight) or not math.isfinite(weight)]
    different = set() if odd else {weight for weight in given if weight != 0}
    if odd or len(different) > 1:
        known = (
            f"like {shown(odd[0])}" if odd else f"from {min(different):.4g} to {max(different):.4g}"
        )
        raise InputError(
            f"{rule}: the links of the graph have weights of their own, {known}, which {rule} "
            f"does not use; `given` takes them as W, `sinkhorn` scales them, and "
            f"`{rule}(graphs.read(graph, weighted=False))` leaves them out"
        )
