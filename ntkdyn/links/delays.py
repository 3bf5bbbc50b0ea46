"""Delays: what neighbours hear is some rounds old."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import numpy as np

from ntkdyn.errors import InputError, check_whole, shown
from ntkdyn.links.link import Exchange, Link, Message, Onward
from ntkdyn.vectors import ByAgent

LONGEST = 1000
"""rounds of delay; every one of them takes a copy of all messages"""


class Delayed(Link):
    """m_j(t) = x_j(t - d), the message at rest before; an agent's own part is never late."""

    rounds: int = eqx.field(static=True)

    def init(self, rest: ByAgent) -> tuple[ByAgent, ...]:
        return (rest,) * self.rounds

    def exchange(
        self, memory: Any, message: Message, onward: Onward, at: Exchange
    ) -> tuple[ByAgent, Any]:
        late, *waiting = (*memory, message.sent)
        return onward(message._replace(sent=late)), tuple(waiting)


class DelayedByLink(Link):
    """j's message reaches i after d_ij rounds: one way for each length of a delay.

    Where W_ij m_j of each length is added up apart, nothing may come between: it is the last link.
    """

    rounds: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    @property
    def _longest(self) -> int:
        return max(map(max, self.rounds))

    def init(self, rest: ByAgent) -> tuple[ByAgent, ...]:
        return (rest,) * self._longest

    def exchange(
        self, memory: Any, message: Message, onward: Onward, at: Exchange
    ) -> tuple[ByAgent, Any]:
        known = (*memory, message.sent)
        delays, total = np.array(self.rounds), None
        arrives = 1.0 if message.arrives is None else message.arrives
        for late in np.unique(delays):
            some = message._replace(
                sent=known[self._longest - late], arrives=arrives * (delays == late)
            )
            part = onward(some) - message.own
            total = part if total is None else total + part
        return message.own + total, tuple(known[1:])

    @property
    def made_for(self) -> int:
        return len(self.rounds)


def delayed(rounds: Any) -> Link:
    """m_j(t) = x_j(t - d): what neighbours hear is d rounds old.

    `rounds` is d, or a matrix (agents, agents) of them, row i what agent i waits for. Affine, so
    that closed forms, limits and any round are those of the method with d vectors more.

    Args:
        rounds: d, from 1 on, or a matrix (agents, agents) of them from 0 on.

    Returns:
        The link, for `over`.

    Raises:
        InputError: for delays that are not whole, negative or above 1000.

    Example:
        >>> round(nd.step_size_limit(bare, nd.links.over(dgd, nd.links.delayed(2)), W), 4)
        0.7059
    """
    if np.ndim(rounds) == 0:
        return Delayed(check_whole("delayed: rounds", rounds, 1, LONGEST))
    given = np.asarray(rounds)
    whole = given.dtype.kind in "iu" and given.ndim == 2 and given.shape[0] == given.shape[1]
    if not whole or given.min() < 0 or given.max() > LONGEST:
        raise InputError(
            f"delayed: rounds must be a whole number, or a square matrix of whole numbers from 0 "
            f"to {LONGEST}, got {shown(rounds)}"
        )
    return DelayedByLink(tuple(map(tuple, given.tolist())))
