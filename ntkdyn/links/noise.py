"""Noise: messages that are blurred on purpose, for privacy."""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkdyn.errors import InputError, is_real, shown
from ntkdyn.links.compression import ON_PARAMETERS, Rows, by_rows
from ntkdyn.links.link import Exchange, Failures, Injected, Link, Message, Onward, check_seed
from ntkdyn.methods.updates import check_positive
from ntkdyn.vectors import ByAgent, Vector


class Noisy(Link):
    """m = x + std xi;  with a bound, m = s + std xi where s <- s + clip(x - s) from rest on."""

    std: float = eqx.field(static=True)
    clip: float | None = eqx.field(static=True, default=None)
    seed: int = eqx.field(static=True, default=0)
    affine: ClassVar[bool] = False
    why_not: ClassVar[str] = "its noise is on parameters, and a kernel knows none"
    blurs: ClassVar[bool] = True

    @property
    def spaces(self) -> frozenset[str]:
        return ON_PARAMETERS

    def init(self, rest: ByAgent) -> tuple[ByAgent, ...]:
        return () if self.clip is None else (rest,)

    def exchange(
        self, memory: Any, message: Message, onward: Onward, at: Exchange
    ) -> tuple[ByAgent, Any]:
        sent = message.sent
        if self.clip is not None:
            (before,) = memory
            sent = before + clipped(sent - before, self.clip)
            memory = (sent,)
        blurred = sent + gaussian(sent, self.std, at.key(self.seed))
        return onward(message._replace(sent=blurred)), memory

    def expected(self) -> Link:
        self._check_linear()
        return Link()

    def failures(self, agents: int) -> Failures:
        self._check_linear()
        return Failures.none(agents)

    def known(
        self,
        arrives: Float[np.ndarray, "agents agents"],
        injected: Injected | None = None,
    ) -> Link:
        del arrives
        return Link() if injected is None else Added(self.std * injected.noise)

    def _check_linear(self) -> None:
        if self.clip is not None:
            raise InputError(
                "noisy: has no mean and covariance over what it draws, as with clip it is not "
                "linear in what is sent; leave clip out"
            )


class Added(Link):
    """What is added to messages is known, and the same in every round."""

    noise: Float[np.ndarray, "exchanges agents columns"]

    def exchange(
        self, memory: Any, message: Message, onward: Onward, at: Exchange
    ) -> tuple[ByAgent, Any]:
        sent = message.sent + Vector(self.noise[at.number])
        return onward(message._replace(sent=sent)), memory


def clipped(x: Vector, radius: float) -> Vector:
    """Every agent's vector, made as short as `radius` where it is longer."""

    def shorter(rows: Rows) -> Rows:
        norm = jnp.linalg.norm(rows, axis=1, keepdims=True)
        # At rest nothing has moved, and 0 / 0 would be no number.
        return rows * jnp.minimum(1, radius / jnp.where(norm > 0, norm, 1))

    return by_rows(shorter, x)


def gaussian(like: ByAgent, std: float, key: Array) -> Vector:
    """Independent numbers of that standard deviation, drawn in float32 whatever `like` is."""
    drawn = lambda rows: (std * jax.random.normal(key, rows.shape, jnp.float32)).astype(rows.dtype)
    return by_rows(drawn, like)


def noisy(std: float, *, clip: float | None = None, seed: int = 0) -> Link:
    """m = x + std xi, xi Gaussian of unit variance in every parameter, drawn anew each time.

    With `clip`, what a message may move in a round is bounded first, as the Gaussian mechanism of
    differential privacy asks: m = s + std xi, s <- s + clip(x - s), of length `clip` at most, from
    the message at rest on. Runs on parameters: in training, and predicted with kernel="implicit".
    Without it, mean and covariance over all draws are known of any kernel
    (`dynamics.link_noise`), and the mean is that of messages without noise (`expected`).

    Args:
        std: of every parameter, in its units, not negative.
        clip: the most that a message moves in a round, in the same.
        seed: draws, the same in prediction and training.

    Returns:
        The link, for `over`.

    Raises:
        InputError: for a negative std, and a clip that is not positive.

    Example:
        >>> nd.links.noisy(0.1, clip=1.0).clip
        1.0
    """
    check_positive("noisy: std", std, zero=True)
    if clip is not None and not (is_real(clip) and 0 < clip < float("inf")):
        raise InputError(f"noisy: clip must be positive and finite, got {shown(clip)}")
    return Noisy(float(std), None if clip is None else float(clip), check_seed("noisy", seed))
