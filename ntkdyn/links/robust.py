"""Robust combination: what an agent makes of messages of which some may be false.

trimmed_mean   the mean of its own and what it heard, entry by entry, without the `trim` largest
               and smallest (Yin et al. 2018)
median         their median, entry by entry
clipped        x_i + sum_j W_ij clip(m_j - x_i), each no longer than a radius
               (He, Karimireddy, Jaggi 2022)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from ntkdyn.errors import InputError, check_name, check_whole, is_real, shown
from ntkdyn.graphs import Weights
from ntkdyn.links.compression import ON_PARAMETERS
from ntkdyn.links.link import Exchange, Link, Message, Onward
from ntkdyn.links.noise import clipped
from ntkdyn.vectors import ByAgent

RULES = ("trimmed_mean", "median", "clipped")


class Robust(Link):
    """A combination of an agent's own and what it heard that a few messages cannot drag away.

    It takes the place of the weighted sum, so it is the last link.
    """

    rule: str = eqx.field(static=True, default="trimmed_mean")
    trim: int = eqx.field(static=True, default=1)
    radius: float = eqx.field(static=True, default=1.0)
    affine: ClassVar[bool] = False
    why_not: ClassVar[str] = "it compares single parameters, and a kernel knows none"

    @property
    def spaces(self) -> frozenset[str]:
        return ON_PARAMETERS

    def exchange(
        self, memory: Any, message: Message, onward: Onward, at: Exchange
    ) -> tuple[ByAgent, Any]:
        del onward
        sent, links = message.sent, at.mix.heard
        matrix = at.mix.matrix()
        if message.arrives is not None:
            matrix = matrix * message.arrives
        weights = jnp.take_along_axis(matrix, links.heard, axis=1) * links.there
        slots = range(links.heard.shape[1])
        heard = [sent.map(lambda leaf, k=k: leaf[links.heard[:, k]]) for k in slots]
        if self.rule == "clipped":
            combined = message.own
            for k, each in enumerate(heard):
                combined += clipped(each - message.own, self.radius) * weights[:, k]
            return combined, memory
        lowest, highest = self._window((weights > 0).sum(axis=1))
        middle = _between(lowest, highest, weights > 0)
        stacked = lambda *leaves: middle(jnp.stack(leaves))
        return message.own.map(stacked, *heard), memory

    def _window(self, heard: Int[Array, " agents"]) -> tuple[Array, Array]:
        """The ranks, of heard + 1 values, whose mean is taken."""
        if self.rule == "median":
            return heard // 2, (heard + 1) // 2
        trim = jnp.minimum(self.trim, heard // 2)  # fewer arrive where messages are lost
        return trim, heard - trim

    def check_weights(self, weights: Weights) -> None:
        if self.rule != "trimmed_mean":
            return
        for matrix in weights.rounds:
            linked = (matrix.matrix > 0) & ~np.eye(matrix.agents, dtype=bool)
            heard = linked.sum(axis=1)
            if (least := int(heard.min())) < 2 * self.trim:
                raise InputError(
                    f"robust: a mean without {self.trim} at either end needs at least "
                    f"{2 * self.trim} neighbours, and agent {int(heard.argmin())} has {least}"
                )


def _between(
    lowest: Int[Array, " agents"], highest: Int[Array, " agents"], there: Array
) -> Callable[[Array], Array]:
    """(values, agents, ...) -> the mean of the values of these ranks; the first is the own one."""

    def mean(values: Array) -> Array:
        beyond = (1,) * (values.ndim - 2)
        taken = jnp.concatenate([jnp.ones_like(there[:, :1]), there], axis=1).T
        ordered = jnp.sort(jnp.where(taken.reshape(*taken.shape, *beyond), values, jnp.inf), axis=0)
        rank = jnp.arange(len(values))[:, None]
        kept = ((rank >= lowest[None]) & (rank <= highest[None])).reshape(*taken.shape, *beyond)
        total = jnp.where(kept, ordered, 0).sum(axis=0)
        return total / (highest - lowest + 1).reshape(-1, *beyond).astype(total.dtype)

    return mean


def robust(rule: str = "trimmed_mean", *, trim: int = 1, radius: float | None = None) -> Link:
    """Agents combine their own and what they hear by a rule that false messages cannot drag away.

    `rule` is "trimmed_mean" (without the `trim` largest and smallest of every parameter), "median"
    or "clipped" (differences no longer than `radius`, times W): this module's first lines. The
    first two take all neighbours as equals. Runs on parameters: in training, and predicted with
    kernel="implicit".

    Args:
        rule: its name.
        trim: values left out at either end.
        radius: of "clipped", in units of the parameters.

    Returns:
        The link, for `over`.

    Raises:
        InputError: for a rule that there is not, and a radius of another than clipped.

    Example:
        >>> nd.links.robust("median").rule
        'median'
    """
    check_name("rule", rule, RULES)
    trim = check_whole("robust: trim", trim, 1)
    if (rule == "clipped") != (radius is not None):
        raise InputError('robust: a radius goes with rule="clipped", and only there')
    if radius is not None and not (is_real(radius) and 0 < radius < float("inf")):
        raise InputError(f"robust: radius must be positive and finite, got {shown(radius)}")
    return Robust(rule, trim, float(radius or 0))
