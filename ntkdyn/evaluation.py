"""Networks whose outputs depend on more than their parameters, in spaces of real networks.

In training points may be shown altered at random, and normalisation layers take the statistics of
the minibatch that is looked at. Where losses and accuracies are measured points are shown as they
are, and statistics are those of each agent's own points.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from ntkdyn.spaces import Space, TeamSpace
from ntkdyn.vectors import Point

STATISTICS_AT_ONCE = 256
"""Over so many points statistics are taken at evaluation, and averaged over such parts of more."""


def looking(space: Space, looks: Callable[[Array, Array], Array] | None) -> Space:
    """The space of real networks that are shown their points so."""
    if looks is None:
        return space
    if isinstance(space, TeamSpace):
        parts = tuple(looking(part, looks) for part in space.parts)
        return TeamSpace(parts, space.members)
    return dataclasses.replace(space, looks=looks)


def pointwise(space: Space) -> bool:
    """Whether the outputs of a point never depend on the others that are looked at."""
    parts = space.parts if isinstance(space, TeamSpace) else (space,)
    return all(getattr(part, "anatomy", None) is None or part.anatomy.pointwise for part in parts)


def settled(
    space: Any, x: Point, rows: Int[Array, "agents own"], weights: Float[Array, "agents own"]
) -> tuple[Any, Point]:
    """Space and iterate with batch statistics replaced by each agent's over its own rows.

    These are the rows whose weight is not zero.
    """
    if isinstance(space, TeamSpace):
        teams = zip(space.parts, x.tree, space.members, strict=True)
        own = lambda team: (rows[jnp.array(team)], weights[jnp.array(team)])
        each = [settled(part, Point(tree), *own(team)) for part, tree, team in teams]
        parts, points = zip(*each, strict=True)
        return TeamSpace(parts, space.members), Point(tuple(point.tree for point in points))
    network = space.anatomy
    if network.pointwise:
        return space, x
    view = "with_features" if space.apply is network.with_features else "apply"
    of_agent = lambda each: _statistics(network.moments, space.inputs, *each)
    moments = jax.lax.map(of_agent, (x.tree, rows, weights > 0))
    still = dataclasses.replace(space, apply=getattr(network.settled, view))
    return still, Point((x.tree, moments))


def _statistics(
    moments: Callable, inputs: Array, tree: PyTree, rows: Array, there: Array
) -> PyTree:
    """Means of the statistics that one agent's points give, part by part, by their numbers."""
    parts = -(-len(rows) // STATISTICS_AT_ONCE)
    missing = -len(rows) % parts
    split = lambda leaf: jnp.pad(leaf, (0, missing)).reshape(parts, -1)
    listed, counted = split(rows), split(there).astype(inputs.dtype)
    seen = jax.lax.map(lambda part: moments(tree, inputs[part[0]], part[1]), (listed, counted))
    share = counted.sum(axis=1) / counted.sum()
    return jax.tree.map(lambda leaf: jnp.tensordot(share, leaf, 1), seen)
