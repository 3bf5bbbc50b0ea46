"""Failures: messages that are lost, and agents that take no part in a round."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkdyn.errors import InputError, check_flag, is_real, shown
from ntkdyn.links.link import Exchange, Failures, Link, Message, Onward, check_seed
from ntkdyn.methods.updates import check_share
from ntkdyn.vectors import ByAgent


class _Failing(Link):
    """Messages that arrive or do not, the same in all exchanges of a round."""

    seed: int | None = eqx.field(static=True, default=None)
    """None: their expectation"""

    @property
    def affine(self) -> bool:
        return self.seed is None

    @property
    def changes(self) -> bool:
        return self.seed is not None

    def arriving(self, key: Array, agents: int) -> Float[Array, "agents agents"]:
        """1 where j's message reaches i."""
        raise NotImplementedError

    def share(self) -> float:
        """Of the messages that arrive."""
        raise NotImplementedError

    def together(self, agents: int) -> list[list[tuple[int, int]]]:
        """For all that fails by itself: the messages (to, from) that are then lost."""
        raise NotImplementedError

    def chance(self) -> float:
        """Of each of them."""
        raise NotImplementedError

    def exchange(
        self, memory: Any, message: Message, onward: Onward, at: Exchange
    ) -> tuple[ByAgent, Any]:
        agents = len(jax.tree.leaves(message.own.tree)[0])
        if self.seed is None:
            arrives: Any = np.full((agents, agents), self.share())
        else:
            arrives = self.arriving(at.key(self.seed, exchange=False), agents)
        if message.arrives is not None:
            arrives = arrives * message.arrives
        return onward(message._replace(arrives=arrives)), memory

    def expected(self) -> Link:
        return dataclasses.replace(self, seed=None)

    def failures(self, agents: int) -> Failures:
        if self.affine:
            return super().failures(agents)
        lost = self.together(agents)
        arrives = np.ones((len(lost), agents, agents))
        for each, messages in zip(arrives, lost, strict=True):
            each[tuple(np.transpose(messages))] = 0
        return Failures(arrives, np.full(len(lost), self.chance()))

    def known(self, arrives: Float[np.ndarray, "agents agents"], injected: Any = None) -> Link:
        del injected
        return self if self.affine else Arriving(arrives)


class Arriving(Link):
    """What arrives is known, and the same in every round."""

    arrives: Float[np.ndarray, "agents agents"]

    @property
    def made_for(self) -> int:
        return len(self.arrives)

    def exchange(
        self, memory: Any, message: Message, onward: Onward, at: Exchange
    ) -> tuple[ByAgent, Any]:
        before = 1.0 if message.arrives is None else message.arrives
        return onward(message._replace(arrives=self.arrives * before)), memory


class Lossy(_Failing):
    """Each message is lost with the probability p; its weight stays with the agent.

    With `mutual` a link is down in both directions or in none.
    """

    probability: float = eqx.field(static=True, default=0.0)
    mutual: bool = eqx.field(static=True, default=True)

    def share(self) -> float:
        return 1 - self.probability

    def arriving(self, key: Array, agents: int) -> Float[Array, "agents agents"]:
        # In float32, so that predictions in float64 draw what training draws.
        drawn = jax.random.uniform(key, (agents, agents), jnp.float32)
        drawn = jnp.triu(drawn) + jnp.triu(drawn, 1).T if self.mutual else drawn
        return (drawn >= self.probability).astype(float)

    def together(self, agents: int) -> list[list[tuple[int, int]]]:
        pairs = itertools.combinations(range(agents), 2)
        if self.mutual:
            return [[(i, j), (j, i)] for i, j in pairs]
        return [[way] for i, j in pairs for way in ((i, j), (j, i))]

    def chance(self) -> float:
        return self.probability


class Activated(_Failing):
    """Each agent is awake with the probability p; a link works where both its ends are."""

    probability: float = eqx.field(static=True, default=1.0)

    def share(self) -> float:
        return self.probability**2

    def arriving(self, key: Array, agents: int) -> Float[Array, "agents agents"]:
        awake = jax.random.uniform(key, (agents,), jnp.float32) < self.probability
        return (awake[:, None] & awake[None]).astype(float)

    def together(self, agents: int) -> list[list[tuple[int, int]]]:
        everyone = range(agents)
        return [[way for j in everyone for way in ((i, j), (j, i))] for i in everyone]

    def chance(self) -> float:
        return 1 - self.probability


def lossy(probability: float, *, mutual: bool = True, seed: int = 0) -> Link:
    """Each message is lost with that probability, drawn anew in each round from `seed`.

    Its weight stays with the agent that misses it (with the one that sent it, where columns of W
    sum to one), so that sums stay one. With `mutual` both directions of a link fail together, which
    keeps a symmetric W symmetric. Whatever a round sends over a link is lost together.

    Args:
        probability: of each message and round, in [0, 1).
        mutual: whether both directions fail together.
        seed: draws, the same in prediction and training.

    Returns:
        The link, for `over`.

    Raises:
        InputError: for another probability.

    Example:
        >>> nd.links.lossy(0.2).share()
        0.8
    """
    check_share("lossy: probability", probability)
    check_flag("lossy: mutual", mutual)
    return Lossy(check_seed("lossy", seed), float(probability), mutual)


def activated(probability: float, *, seed: int = 0) -> Link:
    """Each agent is awake with that probability in each round: a link works where both ends are.

    An agent that sleeps goes on with its own gradients; its neighbours' weights stay with it.

    Args:
        probability: of each agent and round, in (0, 1].
        seed: draws, the same in prediction and training.

    Returns:
        The link, for `over`.

    Raises:
        InputError: for another probability.

    Example:
        >>> nd.links.activated(0.5).share()
        0.25
    """
    if not is_real(probability) or not 0 < probability <= 1:
        raise InputError(f"activated: probability must be in (0, 1], got {shown(probability)}")
    return Activated(check_seed("activated", seed), float(probability))
