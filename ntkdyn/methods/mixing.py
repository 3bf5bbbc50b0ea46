"""Mixing: how the weights of a round act on vectors.

`operator_of(W)` turns a checked matrix into what a compiled round applies: a dense product,
or sums over neighbour lists where most weights are zero, whose cost grows with the links and not
with the square of the agents.
"""

from __future__ import annotations

import functools
import operator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ntkdyn.vectors import Vector

SPARSE_FROM = 64
"""From how many agents on neighbour lists may pay."""


class Dense(eqx.Module):
    """(W x)_i = sum_j W_ij x_j as one matrix product per leaf."""

    weights: Float[Array, "agents agents"]

    def __call__(self, x: Vector) -> Vector:
        exact = jax.lax.Precision.HIGHEST
        return x.map(
            lambda leaf: jnp.tensordot(self.weights.astype(leaf.dtype), leaf, 1, precision=exact)
        )


class Sparse(eqx.Module):
    """(W x)_i = sum over the k-th agents that i hears from, one k at a time."""

    heard: Int[Array, "agents degree"]
    weights: Float[Array, "agents degree"]
    """zero where an agent hears from fewer than `degree`"""

    def __call__(self, x: Vector) -> Vector:
        def heard(k: int) -> Vector:
            sent = x.map(lambda leaf: leaf.at[self.heard[:, k]].get(mode="promise_in_bounds"))
            return sent * self.weights[:, k]

        return functools.reduce(operator.add, map(heard, range(self.heard.shape[1])))


Operator = Dense | Sparse


def operator_of(matrix: Float[np.ndarray, "agents agents"]) -> Operator:
    """The cheaper of the two for this matrix, in JAX's current precision."""
    agents, degree = len(matrix), int((matrix != 0).sum(axis=1).max())
    if agents < SPARSE_FROM or 4 * degree > agents:
        return Dense(jnp.asarray(matrix))
    heard = np.argsort(matrix == 0, axis=1, kind="stable")[:, :degree]
    return Sparse(jnp.asarray(heard), jnp.asarray(np.take_along_axis(matrix, heard, axis=1)))


class Fixed(eqx.Module):
    """The same W in every round."""

    def bind(self, weights: Operator) -> Operator:
        return weights
