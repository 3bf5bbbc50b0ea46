"""Points and vectors: one iterate per agent, known only by what may be done with them.

An iterate is a `Point`: theta on networks, theta - theta_0 in their linearizations, so that where
its numbers are zero means nothing. A gradient, a momentum, a tracker, the difference of two points
are a `Vector`. So

    point - point = vector      point + vector = point      number * vector = vector

and whatever depends on where zero is (number * point, point + point) is refused: it would be
another algorithm on networks than in their linearizations. The vector without length is x - x.

A decentralized method adds these, scales and averages them with neighbours, and does nothing else.
Whatever offers these operations can stand in for them: the points of a worst-case solver, symbols,
plain arrays. That is how one step runs everywhere. What is a point and what a vector is known when
a round is traced, and costs nothing when it runs.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NoReturn

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree

from ntkdyn.errors import InputError


class ByAgent(eqx.Module):
    """(x_1, ..., x_agents): a pytree whose leaves have a leading agent axis.

    Operations are taken leaf by leaf. Leaves may be NumPy's, and stay so.
    """

    tree: PyTree[Float[Array | np.ndarray, "agents ..."]]

    __array_ufunc__ = None

    def map(self, function: Callable, *others: ByAgent) -> Any:
        """The same kind, whose leaves are `function` of this one's and the others'."""
        return type(self)(jax.tree.map(function, self.tree, *(other.tree for other in others)))


class Vector(ByAgent):
    """A displacement of every agent: sums, differences and multiples.

    A factor is a number, or an array (agents,) that scales each agent by its own entry; it takes
    the leaf's dtype.
    """

    def __add__(self, other: ByAgent) -> Any:
        return other.map(lambda leaf, own: own + leaf, self)

    def __sub__(self, other: ByAgent) -> Vector:
        if isinstance(other, Point):
            _refuse("vector - point", "write the point first: point - vector is a point")
        return self.map(operator.sub, other)

    def __neg__(self) -> Vector:
        return self.map(operator.neg)

    def __mul__(self, factor: ArrayLike) -> Vector:
        return self.map(lambda leaf: leaf * per_agent(factor, leaf))

    __rmul__ = __mul__

    def __truediv__(self, divisor: ArrayLike) -> Vector:
        return self.map(lambda leaf: leaf / per_agent(divisor, leaf))


class Point(ByAgent):
    """An iterate of every agent: differences of points, and points displaced by a vector."""

    def __add__(self, other: ByAgent) -> Point:
        if isinstance(other, Point):
            _refuse("point + point", "add differences: x + (y - z) for x + y - z")
        return self.map(operator.add, other)

    def __sub__(self, other: Any) -> Any:
        moved = self.map(operator.sub, other)
        return Vector(moved.tree) if isinstance(other, Point) else moved

    def __neg__(self) -> Any:
        _refuse("-point", "take differences: y - x")

    def __mul__(self, factor: ArrayLike) -> Any:
        _refuse(
            "number * point",
            "a memory that starts at zero starts as x - x, and 2 x - y is x + (x - y)",
        )

    __rmul__ = __truediv__ = __mul__


def per_agent(factor: ArrayLike, leaf: Array | np.ndarray) -> Array | np.ndarray:
    """A factor, or each agent's own, as what the leaf can be multiplied by."""
    numpy = isinstance(leaf, np.ndarray) and not isinstance(factor, jax.Array)
    factor = (np if numpy else jnp).asarray(factor, leaf.dtype)
    return factor.reshape(factor.shape + (1,) * (leaf.ndim - 1)) if factor.ndim else factor


def _refuse(what: str, instead: str) -> NoReturn:
    raise InputError(
        f"{what}: depends on where parameters are zero, so that it would be another algorithm on "
        f"networks than in their linearization; {instead}"
    )
