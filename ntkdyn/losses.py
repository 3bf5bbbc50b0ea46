"""Losses per point, and what the theory needs to know of them.

mse            l(f, y) = |f - y|^2 / 2             second derivative 1
huber          l(f, y) = sum_c h(f_c - y_c), h(r) = r^2 / 2 up to |r| = 1 and |r| - 1/2 beyond
               (Huber 1964)                        second derivative at most 1
cross_entropy  l(f, y) = -sum_c y_c log softmax(f)_c    second derivative at most 1/2
logistic       l(f, y) = log(1 + e^f) - y f, of one output and two classes: the cross-entropy of
               softmax(0, f)                       second derivative at most 1/4

Agent i minimises L_i = 1/n_i sum over its own n_i points of l(f, y); the common objective
is the mean of the L_i over agents.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ntkdyn.errors import InputError, check_name, public

ROUNDED = 1e-6
"""How far from one the probabilities of a point may add up to, as in single precision."""


def _any_targets(targets: Float[np.ndarray, "points outputs"]) -> Float[np.ndarray, "..."]:
    return targets


class Loss(NamedTuple):
    """A loss per point, its curvature, and how class labels become targets.

    Example:
        >>> nd.losses.named("logistic").binary
        True
    """

    name: str
    value: Callable[[Array, Array], Array]
    """l(f, y) for f, y of shape (..., outputs): shape (...)"""
    curvature: float
    """the largest eigenvalue that the second derivative of l in f can have"""
    target_offset: Callable[[int], float]
    """what is subtracted from the one-hot labels of `classes` classes to make targets"""
    read: Callable[[np.ndarray], np.ndarray] = _any_targets
    """targets as given -> as `value` takes them; an `InputError` for those it cannot take"""
    binary: bool = False
    """whether one output stands for two classes, the second where it is positive"""
    regression: bool = False
    """whether targets may be any real numbers, and a residual is f - y"""

    def __repr__(self) -> str:
        return f"losses.{self.name}"

    def __reduce__(self) -> Any:
        """By its name, where it is one of ours; its functions must be found again, else."""
        own = LOSSES.get(self.name) is self
        return (named, (self.name,)) if own else (type(self), tuple(self))

    def derivative(
        self, outputs: Float[Array, "*points outputs"], targets: Float[Array, "*points outputs"]
    ) -> Float[Array, "*points outputs"]:
        """dl/df at every point."""
        return jax.grad(lambda f: jnp.sum(self.value(f, targets)))(outputs)

    def outputs(self, classes: int) -> int:
        """How many outputs a network needs for so many classes."""
        if self.binary and classes != 2:
            raise InputError(
                f"loss {self.name}: is for two classes, got {classes}; cross_entropy takes more"
            )
        return 1 if self.binary else classes

    def targets(
        self, labels: Int[np.ndarray, " points"], classes: int
    ) -> Float[np.ndarray, "points outputs"]:
        """One row per label: one-hot, centred (minus 1/classes) for mse and huber.

        Of a binary loss, the label itself.
        """
        self.outputs(classes)
        if self.binary:
            return labels[:, None].astype(np.float64)
        return self.read(np.eye(classes)[labels] - self.target_offset(classes))


def _half_square(outputs: Array, targets: Array) -> Array:
    return jnp.sum((outputs - targets) ** 2, axis=-1) / 2


def _huber(outputs: Array, targets: Array) -> Array:
    apart = jnp.abs(outputs - targets)
    near = jnp.minimum(apart, 1)
    return jnp.sum(near * (apart - near / 2), axis=-1)


def _cross_entropy(outputs: Array, targets: Array) -> Array:
    return -jnp.sum(targets * jax.nn.log_softmax(outputs), axis=-1)


def _logistic(outputs: Array, targets: Array) -> Array:
    return jnp.sum(jax.nn.softplus(outputs) - targets * outputs, axis=-1)


def _probabilities(targets: Float[np.ndarray, "points outputs"]) -> Float[np.ndarray, "..."]:
    if targets.shape[1] == 1:
        raise InputError(
            "loss cross_entropy: is zero for one output, whatever it is; the loss of one output "
            "for two classes is logistic"
        )
    off = np.abs(targets.sum(axis=1) - 1)
    bad = (targets < 0).any(axis=1) | (off > ROUNDED * targets.shape[1])
    if bad.any():
        row = int(bad.argmax())
        raise InputError(
            f"loss cross_entropy: targets must be probabilities, from 0 on and 1 together at every "
            f"point, got {np.round(targets[row], 6).tolist()} at point {row}"
        )
    return targets


def _two_classes(targets: Float[np.ndarray, "points outputs"]) -> Float[np.ndarray, "..."]:
    """0 and 1, or probabilities between; -1 and +1 are taken as these."""
    if targets.shape[1] != 1:
        raise InputError(
            f"loss logistic: is for one output, got {targets.shape[1]}; cross_entropy takes more"
        )
    signs = bool((targets < 0).any())
    good = np.abs(targets) == 1 if signs else targets <= 1
    if not good.all():
        row = int((~good[:, 0]).argmax())
        raise InputError(
            f"loss logistic: targets must be 0 and 1, probabilities between, or -1 and +1, got "
            f"{targets[row, 0]:g} at point {row}"
        )
    return (targets + 1) / 2 if signs else targets


mse = Loss("mse", _half_square, 1.0, lambda classes: 1 / classes, regression=True)
huber = Loss("huber", _huber, 1.0, lambda classes: 1 / classes, regression=True)
cross_entropy = Loss("cross_entropy", _cross_entropy, 0.5, lambda classes: 0.0, _probabilities)
logistic = Loss("logistic", _logistic, 0.25, lambda classes: 0.0, _two_classes, binary=True)

LOSSES = {loss.name: loss for loss in (mse, huber, cross_entropy, logistic)}


def named(name: str | Loss) -> Loss:
    """The loss of that name; a `Loss` passes through.

    Args:
        name: of a loss, or a loss itself.

    Returns:
        The loss.

    Raises:
        InputError: for a name that there is not, with the nearest.

    Example:
        >>> nd.losses.named("mse").curvature
        1.0
    """
    if isinstance(name, Loss):
        return name
    check_name("loss", name, LOSSES)
    return LOSSES[name]


__all__ = ["LOSSES", "Loss", "cross_entropy", "huber", "logistic", "mse", "named"]

__getattr__, __dir__ = public(__name__, __all__)
