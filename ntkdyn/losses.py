"""Losses per point, and what the theory needs to know of them.

mse            l(f, y) = |f - y|^2 / 2             second derivative 1
cross_entropy  l(f, y) = -sum_c y_c log softmax(f)_c    second derivative at most 1/2

Agent i minimises L_i = 1/n_i sum over its own n_i points of l(f, y); the common objective
is the mean of the L_i over agents.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ntkdyn.errors import unknown


class Loss(NamedTuple):
    """A loss per point, its curvature, and how class labels become targets."""

    name: str
    value: Callable[[Array, Array], Array]
    """l(f, y) for f, y of shape (..., outputs): shape (...)"""
    curvature: float
    """the largest eigenvalue that the second derivative of l in f can have"""
    target_offset: Callable[[int], float]
    """what is subtracted from the one-hot labels of `classes` classes to make targets"""

    def derivative(
        self, outputs: Float[Array, "*points outputs"], targets: Float[Array, "*points outputs"]
    ) -> Float[Array, "*points outputs"]:
        """dl/df at every point."""
        return jax.grad(lambda f: jnp.sum(self.value(f, targets)))(outputs)

    def targets(
        self, labels: Int[np.ndarray, " points"], classes: int
    ) -> Float[np.ndarray, "points outputs"]:
        """One row per label: one-hot, centred (minus 1/classes) for the squared error."""
        return np.eye(classes)[labels] - self.target_offset(classes)


def _half_square(outputs: Array, targets: Array) -> Array:
    return jnp.sum((outputs - targets) ** 2, axis=-1) / 2


def _cross_entropy(outputs: Array, targets: Array) -> Array:
    return -jnp.sum(targets * jax.nn.log_softmax(outputs), axis=-1)


mse = Loss("mse", _half_square, 1.0, lambda classes: 1 / classes)
cross_entropy = Loss("cross_entropy", _cross_entropy, 0.5, lambda classes: 0.0)

LOSSES = {loss.name: loss for loss in (mse, cross_entropy)}


def named(name: str | Loss) -> Loss:
    """The loss of that name; a `Loss` passes through."""
    if isinstance(name, Loss):
        return name
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    return LOSSES[name]
