"""Compression: fewer bits over a link.

A compressor C takes a vector of numbers to one that takes fewer bits. What is compressed is never
a message itself, which may lie anywhere, but what it adds to something that the neighbours know:

    "plain"       m = r + C(x - r)                    r the message at rest
    "feedback"    m = r + C(x - r + e),  e <- x - r + e - C(x - r + e)
    "difference"  m <- m + C(x - m),     from m = r
    "choco"       the same m, and agents combine x_i + gamma (sum_j W_ij m_j - m_i)

Error feedback sends later what was left out (Seide et al. 2014; Tang et al. 2019 in gossip); the
last is CHOCO-SGD's gossip (Koloskova, Stich, Jaggi 2019), whose neighbours hold estimates m_j of
each other and which converges for any C that shrinks |x - C(x)|, with gamma small enough.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkdyn.errors import InputError, check_name, check_whole, is_real, shown
from ntkdyn.links.link import (
    WORD,
    Exchange,
    Failures,
    Injected,
    Link,
    Message,
    Onward,
    check_seed,
)
from ntkdyn.methods.updates import EVERYWHERE
from ntkdyn.vectors import ByAgent, Vector

Rows = Float[Array, "agents entries"]

ON_PARAMETERS = EVERYWHERE - {"kernel"}
"""the spaces in which single parameters are known"""

SCHEMES = ("plain", "feedback", "difference", "choco")


class Compressor(Protocol):
    """What is sent of every agent's vector, and the bits that it takes."""

    def __call__(self, rows: Rows, key: Array) -> Rows:
        """C of each row."""
        ...

    def bits(self, parameters: int) -> float:
        """Of one vector."""
        ...


class TopK(eqx.Module):
    """The given share of the entries, the largest; each with its place."""

    share: float = eqx.field(static=True)

    def __call__(self, rows: Rows, key: Array) -> Rows:
        del key
        # By the least that is kept, not by places: equal entries are all sent.
        least = jax.lax.top_k(jnp.abs(rows), _count(self.share, rows.shape[1]))[0][:, -1:]
        return jnp.where(jnp.abs(rows) >= least, rows, 0)

    def bits(self, parameters: int) -> float:
        # A place is a whole number below d.
        place = math.ceil(math.log2(max(parameters, 2)))
        return float(_count(self.share, parameters) * (WORD + place))


class RandomK(eqx.Module):
    """Each entry with the probability `share`, drawn anew for every message from a common seed.

    With `unbiased`, what is sent is divided by it, so that the mean is the vector.
    """

    share: float = eqx.field(static=True)
    unbiased: bool = eqx.field(static=True, default=False)

    def __call__(self, rows: Rows, key: Array) -> Rows:
        # In float32, so that predictions in float64 draw what training draws.
        kept = jnp.where(jax.random.uniform(key, rows.shape, jnp.float32) < self.share, rows, 0)
        return kept / self.share if self.unbiased else kept

    @property
    def mean(self) -> float:
        """What is sent on average, as a share of the vector."""
        return 1.0 if self.unbiased else self.share

    @property
    def variance(self) -> float:
        """Of what is sent of an entry, as a share of its square."""
        return self.mean**2 * (1 - self.share) / self.share

    def bits(self, parameters: int) -> float:
        return WORD * self.share * parameters


class Quantised(eqx.Module):
    """|v| sign(v_k) times |v_k| / |v| rounded at random to a multiple of 1 / levels, over tau.

    QSGD (Alistarh et al. 2017), without its coding of small numbers. Rounding keeps the mean, and
    its variance is up to (tau - 1) |v|^2 with tau = 1 + min(d / levels^2, sqrt(d) / levels) for d
    entries; divided by tau it shrinks what is left (Koloskova, Stich, Jaggi 2019), `unbiased` not.
    """

    levels: int = eqx.field(static=True)
    unbiased: bool = eqx.field(static=True, default=False)

    def __call__(self, rows: Rows, key: Array) -> Rows:
        norm = jnp.linalg.norm(rows, axis=1, keepdims=True)
        # Zero stays zero: agents that agree send differences of length zero.
        scaled = self.levels * jnp.abs(rows) / jnp.where(norm > 0, norm, 1)
        up = jax.random.uniform(key, rows.shape, jnp.float32) < scaled - jnp.floor(scaled)
        whole = norm * jnp.sign(rows) * (jnp.floor(scaled) + up) / self.levels
        return whole if self.unbiased else whole / self._tau(rows.shape[1])

    def _tau(self, entries: int) -> float:
        return 1 + min(entries / self.levels**2, math.sqrt(entries) / self.levels)

    def bits(self, parameters: int) -> float:
        return WORD + parameters * (1 + math.log2(self.levels + 1))


class Sign(eqx.Module):
    """The signs, times the mean modulus of the vector."""

    def __call__(self, rows: Rows, key: Array) -> Rows:
        del key
        return jnp.mean(jnp.abs(rows), axis=1, keepdims=True) * jnp.sign(rows)

    def bits(self, parameters: int) -> float:
        return float(WORD + parameters)


def _count(share: float, entries: int) -> int:
    return max(1, round(share * entries))


def by_rows(function: Callable[[Rows], Rows], x: ByAgent) -> Vector:
    """The vector of which all entries of an agent are a row of `function`'s."""
    leaves, tree = jax.tree.flatten(x.tree)
    rows = jnp.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)
    ends = np.cumsum([leaf[0].size for leaf in leaves])[:-1]
    parts = jnp.split(function(rows), ends, axis=1)
    shaped = [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
    return Vector(jax.tree.unflatten(tree, shaped))


class Compressed(Link):
    """Messages that are sent as what a compressor leaves of them."""

    compressor: Any = eqx.field(static=True)
    scheme: str = eqx.field(static=True, default="difference")
    gamma: float = eqx.field(static=True, default=1.0)
    seed: int | None = eqx.field(static=True, default=0)
    """None: the expectation of RandomK, a multiple of the vector"""

    @property
    def affine(self) -> bool:
        return self.seed is None

    @property
    def sparsifies(self) -> bool:
        return self.seed is not None and self.compressor.variance > 0

    @property
    def spaces(self) -> frozenset[str]:
        return EVERYWHERE if self.seed is None else ON_PARAMETERS

    @property
    def why_not(self) -> str:
        return (
            ""
            if self.seed is None
            else "compression looks at single parameters, and a kernel knows none"
        )

    def init(self, rest: ByAgent) -> tuple[ByAgent, ...]:
        return (rest, rest - rest) if self.scheme == "feedback" else (rest,)

    def exchange(
        self, memory: Any, message: Message, onward: Onward, at: Exchange
    ) -> tuple[ByAgent, Any]:
        known, *left = memory
        off = message.sent - known
        off = off + left[0] if left else off
        told = self._compress(off, at)
        sent = known + told
        if self.scheme == "plain":
            return onward(message._replace(sent=sent)), memory
        if self.scheme == "feedback":
            return onward(message._replace(sent=sent)), (known, off - told)
        if self.scheme == "difference":
            return onward(message._replace(sent=sent)), (sent,)
        gossip = onward(message._replace(own=sent, sent=sent)) - sent
        return message.own + self.gamma * gossip, (sent,)

    def _compress(self, off: Vector, at: Exchange) -> Vector:
        if self.seed is None:
            return self.compressor.mean * off
        key = at.key(self.seed)
        return by_rows(lambda rows: self.compressor(rows, key).astype(rows.dtype), off)

    def bits(self, parameters: int) -> float:
        return float(self.compressor.bits(parameters))

    def expected(self) -> Link:
        self._check_linear("the mean of its runs is not the run of a mean")
        return dataclasses.replace(self, seed=None)

    def failures(self, agents: int) -> Failures:
        self._check_linear("it has no mean and covariance over what is drawn")
        return Failures.none(agents)

    def known(
        self,
        arrives: Float[np.ndarray, "agents agents"],
        injected: Injected | None = None,
    ) -> Link:
        del arrives
        if injected is None or not self.sparsifies:
            return self.expected()
        noise = math.sqrt(self.compressor.variance) * injected.noise
        return Opened(self.compressor, self.scheme, self.gamma, None, noise, injected.taken)

    def _check_linear(self, then: str) -> None:
        if not isinstance(self.compressor, RandomK):
            raise InputError(
                f"compressed: {type(self.compressor).__name__} is not linear, so that {then}; "
                f"random_k is"
            )


class Opened(Compressed):
    """C(y) = mean y + e with e known, the same in every round; y is written down."""

    noise: Float[np.ndarray, "exchanges agents columns"] | None = None
    taken: Float[np.ndarray, "exchanges agents columns"] | None = None

    def _compress(self, off: Vector, at: Exchange) -> Vector:
        self.taken[at.number] = off.tree
        return super()._compress(off, at) + Vector(self.noise[at.number])


def compressed(
    compressor: Any, *, scheme: str = "difference", gamma: float = 1.0, seed: int = 0
) -> Link:
    """Messages go over the link as what `compressor` leaves of them.

    `compressor` is `top_k(share)`, `random_k(share)`, `quantised(levels)` or `sign()`, or one of
    your own: a function of (rows, key) with a method `bits(parameters)`. `scheme` is what is
    compressed, "plain", "feedback", "difference" or "choco" (this module's first lines), `gamma`
    the rate of CHOCO's gossip. Runs on parameters: in training, and predicted with
    kernel="implicit".

    Args:
        compressor: what is left of a message.
        scheme: what is compressed.
        gamma: in (0, 1], of "choco" alone.
        seed: draws, the same in prediction and training.

    Returns:
        The link, for `over`.

    Raises:
        InputError: for what is no compressor, and settings that do not go together.

    Example:
        >>> nd.links.compressed(nd.links.sign()).bits(100)
        132.0
    """
    if not callable(compressor) or not callable(getattr(compressor, "bits", None)):
        raise InputError(
            f"compressed: needs a compressor, like links.top_k(0.1), got {shown(compressor)}"
        )
    check_name("scheme", scheme, SCHEMES)
    if not is_real(gamma) or not 0 < gamma <= 1:
        raise InputError(f"compressed: gamma must be in (0, 1], got {shown(gamma)}")
    if gamma != 1 and scheme != "choco":
        raise InputError('compressed: gamma goes with scheme="choco"')
    return Compressed(compressor, scheme, float(gamma), check_seed("compressed", seed))


def top_k(share: float) -> TopK:
    """The largest entries, that share of all; 32 bits each and those of its place.

    Args:
        share: in (0, 1].

    Returns:
        The compressor, for `compressed`.

    Raises:
        InputError: for another share.

    Example:
        >>> nd.links.top_k(0.1).bits(1000)
        4200.0
    """
    return TopK(_share("top_k", share))


def random_k(share: float, *, unbiased: bool = False) -> RandomK:
    """Entries drawn at random, that share of all on average; both ends draw the same.

    With `unbiased` they are divided by it: the mean is the vector, and its spread larger. Of y it
    makes c q y + W y, c = 1 or 1/q for a share q: W diagonal, independent, of mean 0 and variance
    c^2 q (1 - q). So it is linear on average (`expected`), and on networks of few parameters mean
    and covariance over all draws are known (`dynamics.link_noise`).

    Args:
        share: in (0, 1].
        unbiased: whether the mean is the vector.

    Returns:
        The compressor, for `compressed`.

    Raises:
        InputError: for another share.

    Example:
        >>> nd.links.random_k(0.1).bits(1000)
        3200.0
    """
    return RandomK(_share("random_k", share), unbiased)


def quantised(levels: int, *, unbiased: bool = False) -> Quantised:
    """|v_k| / |v| rounded at random to one of 0, 1/levels, ..., 1, so that its mean is right.

    Divided by tau = 1 + min(d / levels^2, sqrt(d) / levels) for d entries, so that differences
    shrink for any number of levels; with `unbiased` they are not, and few levels diverge.

    Args:
        levels: from 1 to 65536.
        unbiased: whether the mean is the vector.

    Returns:
        The compressor, for `compressed`.

    Raises:
        InputError: for levels that are not.

    Example:
        >>> nd.links.quantised(3).bits(1000)
        3032.0
    """
    return Quantised(check_whole("quantised: levels", levels, 1, 2**16), unbiased)


def sign() -> Sign:
    """The sign of every entry, and one number.

    Returns:
        The compressor, for `compressed`.

    Example:
        >>> nd.links.sign().bits(1000)
        1032.0
    """
    return Sign()


COMPRESSORS = {make.__name__: make for make in (top_k, random_k, quantised, sign)}


def _share(name: str, share: Any) -> float:
    if not is_real(share) or not 0 < share <= 1:
        raise InputError(f"{name}: share must be in (0, 1], got {shown(share)}")
    return float(share)
