"""A link: what happens to a message between the agent that sends it and those that hear it.

What a method's step gives to `mix` is a message m_j of every agent. Without links an agent adds up

    W_ii x_i + sum_j W_ij m_j,      m_j = x_j,

and a link is what stands between x_j and m_j, or between m_j and the sum: it delays, compresses,
loses, blurs or falsifies messages, or has agents combine them otherwise. An agent's own part x_i
takes no link. Links follow each other, the first of them nearest to the sender, and may remember
what went over them: one memory for each exchange of a round.

A link starts from the message at rest, what the agents would send at the common start if no
gradient moved them. Relative to it all that a link does is done, so that it is the same on
networks, where messages are parameters, and in their linearization, where they are displacements.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from ntkdyn.errors import InputError, check_whole
from ntkdyn.graphs import Weights
from ntkdyn.methods import updates
from ntkdyn.methods.exchange import WORD
from ntkdyn.methods.mixing import Combination, Dense, Marking, Plain, marked, where_due
from ntkdyn.methods.updates import EVERYWHERE, Update
from ntkdyn.vectors import ByAgent, Point, per_agent

LARGEST_SEED = 2**32 - 1


def check_seed(link: str, seed: Any) -> int:
    """The seed of a link's draws."""
    return check_whole(f"{link}: seed", seed, 0, LARGEST_SEED)


class Message(NamedTuple):
    """What is on its way in one exchange.

    Example:
        >>> x = nd.vectors.Vector(np.eye(2))
        >>> nd.links.Message(own=x, sent=x).arrives is None
        True
    """

    own: ByAgent
    """what each agent has itself, which goes over no link"""
    sent: ByAgent
    """what its neighbours are sent"""
    arrives: Float[Array, "agents agents"] | None = None
    """the share of j's message that reaches i; None: all of every one"""


class Failures(NamedTuple):
    """What may fail in a round, each by itself; of several the product of what they leave arrives.

    Example:
        >>> nd.links.lossy(0.2).failures(3).chances.tolist()
        [0.2, 0.2, 0.2]
    """

    arrives: Float[np.ndarray, "failures agents agents"]
    """1 where j's message reaches i although that has failed"""
    chances: Float[np.ndarray, " failures"]

    @staticmethod
    def none(agents: int) -> Failures:
        """Of links on which nothing does."""
        return Failures(np.ones((0, agents, agents)), np.zeros(0))

    def among(self, linked: Bool[np.ndarray, "agents agents"]) -> Failures:
        """Those that can happen, and that lose a message of somebody who is heard."""
        lost = (self.arrives == 0) & linked & ~np.eye(len(linked), dtype=bool)
        there = lost.any(axis=(1, 2)) & (self.chances > 0)
        return Failures(self.arrives[there], self.chances[there])


class Injected(NamedTuple):
    """What links are known to add to messages, and where they write down what they compress.

    Both by link, exchange and agent; each link is given its own.
    """

    noise: Float[np.ndarray, "*links exchanges agents columns"]
    taken: Float[np.ndarray, "*links exchanges agents columns"]


Onward = Callable[[Message], ByAgent]
"""what the rest of the way makes of a message: every agent's combination"""


class Exchange(NamedTuple):
    """One exchange of one round.

    Example:
        >>> x, mix = nd.vectors.Vector(np.eye(3)), nd.methods.mixing.Fixed()
        >>> at = nd.links.Exchange(mix.bind(nd.methods.mixing.Plain(W.matrix)), 0, "rows")
        >>> bool(np.allclose(at.combined(nd.links.Message(x, x)).tree, W.matrix))
        True
    """

    mix: Combination
    number: int
    """of the exchanges of its round, from 0 on"""
    keeps: str
    """the "rows" or "columns" of W that sum to one, also of what is lost"""
    before: int = 0
    """how many links before this one draw from the same seed"""

    @property
    def round(self) -> Any:
        return self.mix.round

    def key(self, seed: int, exchange: bool = True) -> Array:
        """Draws of this round, and of this exchange; those of a whole round without `exchange`."""
        key = jax.random.key(seed)
        if self.before:
            # By what no round is numbered.
            key = jax.random.fold_in(key, LARGEST_SEED - self.before)
        # By number, not by splitting on: a run that is resumed draws what it would have drawn.
        key = jax.random.fold_in(key, self.round)
        return jax.random.fold_in(key, self.number) if exchange else key

    def combined(self, message: Message) -> ByAgent:
        """x_i by its own weight, and of others what arrives; what is lost stays where it is."""
        if message.arrives is None:
            # One product less where no link has touched the message.
            if message.sent is message.own:
                return self.mix(message.own)
            own = self.mix.matrix().diagonal()
            return self.mix(message.sent) + (message.own - message.sent) * own
        matrix = self.mix.matrix()
        others = matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))
        heard = others * message.arrives
        lost = (others - heard).sum(axis={"rows": 1, "columns": 0}[self.keeps])
        own = matrix.diagonal() + lost
        added = lambda mine, rest: mine * per_agent(own, mine) + rest
        return message.own.map(added, product(heard, message.sent))


def product(weights: Array | np.ndarray, x: ByAgent) -> ByAgent:
    """sum_j weights_ij x_j."""
    known = isinstance(x.tree, np.ndarray) or isinstance(weights, np.ndarray)
    return (Plain(np.asarray(weights)) if known else Dense(weights))(x)


class Link(eqx.Module):
    """What all links have in common: a message that passes unchanged, and no memory.

    Example:
        >>> plain = nd.links.over(dgd, nd.links.Link())
        >>> round(nd.step_size_limit(bare, plain, W), 4)
        0.7059
    """

    affine: ClassVar[bool] = True
    """whether what is combined depends linearly, and alike in every round, on what is sent"""
    why_not: ClassVar[str] = ""
    """why it does not run in the spaces that are left out"""
    changes: ClassVar[bool] = False
    """whether weights differ from round to round"""
    blurs: ClassVar[bool] = False
    """whether it adds noise to messages"""
    sparsifies: ClassVar[bool] = False
    """whether it leaves out single parameters at random"""

    @property
    def made_for(self) -> int | None:
        """How many agents it is made for; None: any number."""
        return None

    @property
    def spaces(self) -> frozenset[str]:
        return EVERYWHERE

    def init(self, rest: ByAgent) -> Any:
        """What is remembered of the message at rest."""
        return ()

    def exchange(
        self, memory: Any, message: Message, onward: Onward, at: Exchange
    ) -> tuple[ByAgent, Any]:
        """Every agent's combination, and what is remembered."""
        return onward(message), memory

    def bits(self, parameters: int) -> float | None:
        """What a message takes; None: as much as it did before."""
        return None

    def expected(self) -> Link:
        """The mean of what it does over its draws; itself, where it draws nothing."""
        return self

    def failures(self, agents: int) -> Failures:
        """What it draws in a round, where that is what fails; none, where nothing does."""
        if self.affine:
            return Failures.none(agents)
        raise InputError(
            f"{self.name}: has no mean and covariance over what it draws, as "
            f"{self.why_not or 'it is no matter of messages that fail'}"
        )

    def known(
        self,
        arrives: Float[np.ndarray, "agents agents"],
        injected: Injected | None = None,
    ) -> Link:
        """What it is in rounds of which it is known what arrives and what is added (nothing).

        Itself, where it draws neither.
        """
        del arrives, injected
        return self

    def check_weights(self, weights: Weights) -> None:
        """Refuse a graph that it cannot work on."""
        if self.made_for not in (None, weights.agents):
            raise InputError(
                f"{self.name}: is made for {self.made_for} agents, and the graph has "
                f"{weights.agents}"
            )

    @property
    def name(self) -> str:
        """What it goes by."""
        return type(self).__name__.lower()


class Exchanged(NamedTuple):
    """The state of an update, and what its links remember, by exchange and link."""

    inner: Any
    memory: tuple[tuple[Any, ...], ...]

    @property
    def x(self) -> Any:
        """The iterate."""
        return self.inner.x


class Linked(eqx.Module):
    """An update whose messages go over links.

    Example:
        >>> nd.links.over(dgd, nd.links.delayed(1)).update.affine
        True
    """

    inner: Update
    links: tuple[Link, ...]
    keeps: str = eqx.field(static=True, default="rows")
    recalled: ClassVar[int] = 0
    by_mode: ClassVar[bool] = False

    @property
    def step_size(self) -> Any:
        return self.inner.step_size

    def at(self, round: Any) -> Linked:
        """With the step size of that round."""
        return dataclasses.replace(self, inner=updates.at(self.inner, round))

    @property
    def made_for(self) -> int | None:
        return next((link.made_for for link in self.links if link.made_for), self.inner.made_for)

    @property
    def affine(self) -> bool:
        return self.inner.affine and all(link.affine for link in self.links)

    @property
    def spaces(self) -> frozenset[str]:
        return self.inner.spaces.intersection(*(link.spaces for link in self.links))

    @property
    def why_not(self) -> str:
        return self.inner.why_not or next(filter(None, (link.why_not for link in self.links)), "")

    def words(self, parameters: int) -> float:
        bits = float(WORD * parameters)
        for link in self.links:
            taken = link.bits(parameters)
            bits = bits if taken is None else taken
        return bits / WORD

    def failures(self, agents: int) -> Failures:
        """Of all links."""
        each = [Failures.none(agents), *(link.failures(agents) for link in self.links)]
        return Failures(*map(np.concatenate, zip(*each, strict=True)))

    def exchanges(self, agents: int) -> int:
        """How many there are in a round."""
        return len(self.init(Point(np.zeros((agents, 1)))).memory)

    def known(
        self,
        arrives: Float[np.ndarray, "agents agents"],
        injected: Injected | None = None,
    ) -> Linked:
        """What it is in rounds of which it is known what arrives and what is added (nothing)."""
        each = [None] * len(self.links) if injected is None else map(Injected, *injected)
        links = tuple(link.known(arrives, own) for link, own in zip(self.links, each, strict=True))
        return dataclasses.replace(self, links=links)

    def check_weights(self, method: str, weights: Weights) -> None:
        self.inner.check_weights(method, weights)
        for link in self.links:
            link.check_weights(weights)

    def init(self, x: Any) -> Exchanged:
        state, rests = self.inner.init(x), []

        def resting(message: Any) -> Any:
            rests.append(message)
            return message

        # A step without gradients says what would be sent if nothing moved.
        self.inner.step(state, lambda x: x - x, resting)
        memory = tuple(tuple(link.init(rest) for link in self.links) for rest in rests)
        return Exchanged(state, memory)

    def step(self, state: Exchanged, grad: Callable, mix: Combination) -> Exchanged:
        if not isinstance(mix, Combination):
            raise InputError("links: this is only known of methods whose messages go over none")
        memories = list(state.memory)
        number = iter(range(len(memories)))
        counted = isinstance(mix.operator, Marking)
        operator = mix.operator.weights if counted else mix.operator
        due = dataclasses.replace(mix, due=True, operator=operator)

        def exchanged(x: ByAgent) -> ByAgent:
            at = Exchange(due, next(number), self.keeps)
            go = lambda kept: self._sent(*kept, at)
            sent = marked(x) if counted and mix.due is not False else x
            combined, memories[at.number] = where_due(mix.due, go, (sent, memories[at.number]))
            return combined

        inner = self.inner.step(state.inner, grad, exchanged)
        return Exchanged(inner, tuple(memories))

    def _sent(
        self, x: ByAgent, memories: tuple[Any, ...], at: Exchange
    ) -> tuple[ByAgent, tuple[Any, ...]]:
        """Over one link after the other; what each of them remembers."""
        after: dict[int, Any] = {}

        def onward(link: int, message: Message) -> ByAgent:
            if link == len(self.links):
                return at.combined(message)
            next_one = lambda message: onward(link + 1, message)
            here = at._replace(before=self._alike(link))
            combined, after[link] = self.links[link].exchange(
                memories[link], message, next_one, here
            )
            return combined

        combined = onward(0, Message(x, x))
        return combined, tuple(after[link] for link in range(len(self.links)))

    def _alike(self, link: int) -> int:
        """How many links before it draw from its seed, so that it must draw otherwise."""
        seeds = [getattr(each, "seed", None) for each in self.links[: link + 1]]
        return seeds[:link].count(seeds[link]) if seeds[link] is not None else 0
