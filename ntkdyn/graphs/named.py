"""Graphs and weights by name, as a spec gives them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

import networkx as nx

from ntkdyn.errors import InputError, check_kind, check_name, unknown
from ntkdyn.graphs.cliques import d_cliques
from ntkdyn.graphs.equitopo import equi_static
from ntkdyn.graphs.fastest import fastest
from ntkdyn.graphs.matrices import MixingMatrix
from ntkdyn.graphs.topologies import TOPOLOGIES
from ntkdyn.graphs.weighted import WEIGHTED, given
from ntkdyn.graphs.weights import WEIGHTS, lazy


def build(
    topology: str, weights: str | None, defaults: Mapping[str, Any], **settings: Any
) -> MixingMatrix:
    """The mixing matrix of a named topology with named weights, as a spec gives them.

    `weights` is a name that `weigh` takes, Metropolis' if None, as it must be where a topology has
    weights of its own. `settings` are
    the topology's arguments, those it does not take refused by name; `defaults` are used where
    it takes them and they are not set, and `agents` of them is how many there must be.

    Args:
        topology: its name.
        weights: the name of a rule, or None.
        defaults: settings that it may take.
        settings: those that it must take.

    Returns:
        A mixing matrix (agents, agents).

    Raises:
        InputError: for settings that the topology does not take.

    Example:
        >>> nd.graphs.build("ring", None, {"agents": 4}).agents
        4
    """
    check_name("graph", topology, BUILT)
    check_kind("defaults", defaults, Mapping, "of settings by name")
    check_name("weights", weights or RULES[0], RULES)
    parameters = inspect.signature(BUILT[topology]).parameters
    for name in settings:
        if name not in parameters:
            raise unknown(f"setting of graph {topology}", name, parameters)
    settings = {name: defaults[name] for name in parameters if name in defaults} | settings
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in settings:
            raise InputError(f"graph {topology}: {name} must be given")
    made = BUILT[topology](**settings)
    agents = made.agents if isinstance(made, MixingMatrix) else len(made)
    if agents != (wanted := defaults.get("agents", agents)):
        raise InputError(f"graph {topology}: has {agents} agents, the problem has {wanted}")
    if not isinstance(made, MixingMatrix):
        return weigh(made, weights or RULES[0])
    if weights is not None:
        raise InputError(f"graph {topology}: has weights of its own; leave out {weights}")
    return made


def weigh(graph: nx.Graph, weights: str, sums: str = "rows") -> MixingMatrix:
    """The mixing matrix of a graph with named weights: "metropolis", "given", "lazy metropolis".

    `sums` are those of a W that is given by the graph's links.

    Args:
        graph: whose links are weighed.
        weights: the name.
        sums: "rows" or "columns", which sum to one.

    Returns:
        A mixing matrix (agents, agents).

    Raises:
        InputError: for a name that there is not, with the nearest.

    Example:
        >>> nd.graphs.weigh(nd.graphs.ring(4), "lazy metropolis").name
        'lazy metropolis'
    """
    check_name("weights", weights, RULES)
    rule = weights.removeprefix("lazy ")
    weighed = given(graph, sums) if rule == "given" else WEIGHING[rule](graph)
    return lazy(weighed) if weights.startswith("lazy ") else weighed


BUILT = TOPOLOGIES | {"d_cliques": d_cliques, "equi_static": equi_static}
"""topology -> what makes it; of `d_cliques` the data's counts are among the defaults"""

OPTIMISED = {"fastest": fastest, "fastest averaging": functools.partial(fastest, negative=True)}
"""without weights below zero, and with them"""

WEIGHING = WEIGHTS | WEIGHTED | OPTIMISED

RULES = [f"{lazily}{name}" for lazily in ("", "lazy ") for name in WEIGHING]
