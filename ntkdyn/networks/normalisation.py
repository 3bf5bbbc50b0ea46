"""Normalisations of what convolutions make: layers whose scale starts at 1 and shift at 0.

group        (x - mean) / sqrt(variance + EPS) * scale + shift, mean and variance of one point over
             all places and the channels of a group (Wu and He, 2018)
evonorm_s0   x sigmoid(v x) / sqrt(variance + EPS) * scale + shift, variance as above, v from 1 on,
             in place of normalisation and activation (Liu et al., 2020)
batch        as "group" with mean and variance of each channel over all places of all points at
             once (Ioffe and Szegedy, 2015)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkdyn.errors import InputError, check_name, check_whole
from ntkdyn.kernels.compat import stax
from ntkdyn.networks.layers import Layer, named, noted
from ntkdyn.networks.wiring import norm_of

EPS = 1e-5
"""beside the variance, as the papers have it"""


class Normalisation(NamedTuple):
    """Which one, and into how many groups it parts channels."""

    kind: str = "none"
    groups: int = 2

    @property
    def pointwise(self) -> bool:
        """Whether the outputs of a point are a function of it alone."""
        return self.kind != "batch"

    @property
    def ordered(self) -> str:
        """Why channels may not change places, which those of different groups may not."""
        if self.kind in ("none", "batch") or self.groups == 1:
            return ""
        return (
            f'normalisation "{self.kind}" parts its channels into {self.groups} groups, between '
            f"which none may change places; groups = 1 parts none"
        )

    @property
    def named(self) -> list[str]:
        """What it adds to the name of a network."""
        return [] if self.kind == "none" else [self.kind]

    def active(self, name: str, phi: Callable[[], Layer], *, note: bool = True) -> list[Layer]:
        """What follows the layer of that name: its normalisation and phi, noted by its name."""
        return [*self.alone(name), *self.after_sum(name, phi, note=note)]

    def alone(self, name: str) -> list[Layer]:
        """Its normalisation without an activation; EvoNorm is never without."""
        make = {"group": lambda: group(self.groups), "batch": lambda: batch(norm_of(name))}
        return [named(norm_of(name), make[self.kind]())] if self.kind in make else []

    def after_sum(self, name: str, phi: Callable[[], Layer], *, note: bool = True) -> list[Layer]:
        """What follows what is normalised already: phi, or EvoNorm in its place."""
        evolved = self.kind == "evonorm_s0"
        active = named(norm_of(name), evonorm_s0(self.groups)) if evolved else phi()
        return [noted(name, active) if note else active]

    def bias(self, b_std: float) -> float:
        """Of a convolution: the shift of a normalisation stands in its place."""
        return b_std if self.kind == "none" else 0.0

    def makers(self, name: str) -> list[str]:
        """A layer and its normalisation, which the same channels number."""
        return [name] if self.kind == "none" else [name, norm_of(name)]

    def alone_makers(self, name: str) -> list[str]:
        """The same of a layer without an activation."""
        return [name] if self.kind == "evonorm_s0" else self.makers(name)


PLAIN = Normalisation()


def checked_normalisation(
    kind: str, normalisation: str, groups: int, channels: Sequence[int]
) -> Normalisation:
    """Refuse names that there are not, and groups that do not divide the channels."""
    check_name(f"{kind}: normalisation", normalisation, KINDS)
    groups = check_whole(f"{kind}: groups", groups, 1)
    odd = [each for each in channels if each % groups]
    if normalisation in ("group", "evonorm_s0") and odd:
        raise InputError(
            f"{kind}: groups must divide the channels of every convolution, got {groups} for "
            f"{odd[0]}"
        )
    return Normalisation(normalisation, groups)


KINDS = ("none", "group", "evonorm_s0", "batch")


def group(groups: int) -> Layer:
    """(x - mean) / sqrt(variance + EPS) * scale + shift, group by group of one point's channels."""

    def evaluate(params: Any, inputs: Array, **_: Any) -> Array:
        scale, shift = params
        parts = _grouped(inputs, groups)
        centred = parts - jnp.mean(parts, axis=(1, 3), keepdims=True)
        variance = jnp.mean(centred**2, axis=(1, 3), keepdims=True)
        return (centred * jax.lax.rsqrt(variance + EPS)).reshape(inputs.shape) * scale + shift

    return _layer(evaluate, 1.0, 0.0)


def evonorm_s0(groups: int) -> Layer:
    """x sigmoid(v x) / sqrt(variance + EPS) * scale + shift."""

    def evaluate(params: Any, inputs: Array, **_: Any) -> Array:
        scale, shift, gate = params
        parts = _grouped(inputs, groups)
        variance = jnp.var(parts, axis=(1, 3), keepdims=True)
        over = (parts * jax.lax.rsqrt(variance + EPS)).reshape(inputs.shape)
        return over * jax.nn.sigmoid(gate * inputs) * scale + shift

    return _layer(evaluate, 1.0, 0.0, 1.0)


def batch(name: str) -> Layer:
    """(x - mean) / sqrt(variance + EPS) * scale + shift, channel by channel of all points.

    Where there are `moments`, those kept under its name are used in place of the batch's own, which
    are kept there otherwise. Points that are `counted` 0 are left out of the batch's.

    No statistics are remembered. Running means, kept by each agent or averaged with its neighbours,
    would be numbers that a round changes without a gradient: every method's step, which knows
    points and gradients alone, would have to carry them, mix them and leave them undescended.
    """

    def evaluate(
        params: Any, inputs: Array, *, moments: Any = None, counted: Any = None, **_: Any
    ) -> Array:
        scale, shift = params
        kept = {} if moments is None else moments
        mean, variance = kept.setdefault(name, _moments(inputs, counted))
        return (inputs - mean) * (jax.lax.rsqrt(variance + EPS) * scale) + shift

    return _layer(evaluate, 1.0, 0.0)


def _layer(evaluate: Callable[..., Array], *values: float) -> Layer:
    """Parameters per channel, which start at these values; no kernel at infinite width is known."""

    def initialise(_: Any, shape: Any) -> Any:
        along = (1,) * (len(shape) - 1)
        return shape, tuple(jnp.full((*along, shape[-1]), value, jnp.float32) for value in values)

    _, _, kernel = stax.Identity()
    return initialise, evaluate, kernel


def _grouped(
    inputs: Float[Array, "points rows columns channels"], groups: int
) -> Float[Array, "points places groups size"]:
    points, *_, channels = inputs.shape
    return inputs.reshape(points, -1, groups, channels // groups)


def _moments(
    inputs: Float[Array, "points rows columns channels"], counted: Float[Array, " points"] | None
) -> tuple[Array, Array]:
    """Mean and variance of each channel."""
    where = jnp.ones(len(inputs)) if counted is None else counted
    share = (where / jnp.maximum(where.sum(), 1)).reshape(-1, 1, 1, 1).astype(inputs.dtype)

    def mean(values: Array) -> Array:
        return jnp.sum(share * jnp.mean(values, axis=(1, 2), keepdims=True), axis=0, keepdims=True)

    middle = mean(inputs)
    return middle, mean((inputs - middle) ** 2)
