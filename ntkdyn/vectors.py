"""Vectors: one iterate per agent, known only by what may be done with them.

A decentralized method adds vectors, scales them and averages them with neighbours, and does
nothing else. Whatever offers these operations can stand in for a `Vector`: the points of a
worst-case solver, symbols, plain arrays. That is how one step runs everywhere.
"""

from __future__ import annotations

import operator
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree


class Vector(eqx.Module):
    """x = (x_1, ..., x_agents): a pytree whose leaves have a leading agent axis.

    Sums, differences and multiples are taken leaf by leaf. A factor is a number, or an array
    (agents,) that scales each agent by its own entry; it takes the leaf's dtype. Leaves may be
    NumPy's, and stay so.
    """

    tree: PyTree[Float[Array | np.ndarray, "agents ..."]]

    __array_ufunc__ = None

    def map(self, function: Callable) -> Vector:
        """The vector whose leaves are `function` of this one's."""
        return Vector(jax.tree.map(function, self.tree))

    def __add__(self, other: Vector) -> Vector:
        return Vector(jax.tree.map(operator.add, self.tree, other.tree))

    def __sub__(self, other: Vector) -> Vector:
        return Vector(jax.tree.map(operator.sub, self.tree, other.tree))

    def __neg__(self) -> Vector:
        return self.map(operator.neg)

    def __mul__(self, factor: ArrayLike) -> Vector:
        return self.map(lambda leaf: leaf * _per_agent(factor, leaf))

    __rmul__ = __mul__

    def __truediv__(self, divisor: ArrayLike) -> Vector:
        return self.map(lambda leaf: leaf / _per_agent(divisor, leaf))


def _per_agent(factor: ArrayLike, leaf: Array | np.ndarray) -> Array | np.ndarray:
    numpy = isinstance(leaf, np.ndarray) and not isinstance(factor, jax.Array)
    factor = (np if numpy else jnp).asarray(factor, leaf.dtype)
    return factor.reshape(factor.shape + (1,) * (leaf.ndim - 1)) if factor.ndim else factor
