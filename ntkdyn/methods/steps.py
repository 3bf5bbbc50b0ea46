"""Steps: sizes that differ from agent to agent, or from round to round.

    by_agent(method, a)      eta a_i in place of eta, a factor for each agent, by place or by name
    scheduled(method, s)     eta s(t), with s piecewise constant

Wherever an update has its step size, it has that of its agent and of the present round: momenta and
trackers stay as they are, so that what was remembered at another step size is not rescaled. A
schedule keeps the closed forms of a method within each of its pieces.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ntkdyn.errors import InputError, check_whole, is_real, shown
from ntkdyn.methods.updates import State, Update

PIECES_UP_TO = 10_000
"""of a schedule"""

NAMED = 3
"""pieces that the name of a method spells out"""


class Paced(eqx.Module):
    """An update whose step size is multiplied by a factor of the agent and of the round."""

    inner: Update
    factors: Float[Array | np.ndarray, "pieces agents"]
    """one column: the same for all agents"""
    since: tuple[int, ...] = eqx.field(static=True, default=(0,))
    """the first round of every piece"""
    names: tuple[str, ...] = eqx.field(static=True, default=())
    """whose the columns are, until a graph says in which order (`ordered`)"""

    @property
    def step_size(self) -> Any:
        return self.inner.step_size

    @property
    def recalled(self) -> int:
        return self.inner.recalled

    @property
    def made_for(self) -> int | None:
        return self.factors.shape[1] if self.factors.shape[1] > 1 else self.inner.made_for

    @property
    def by_mode(self) -> bool:
        return self.inner.by_mode and self.factors.shape[1] == 1

    @property
    def affine(self) -> bool:
        return self.inner.affine

    @property
    def spaces(self) -> frozenset[str]:
        return self.inner.spaces

    @property
    def why_not(self) -> str:
        return self.inner.why_not

    @property
    def changes(self) -> bool:
        """Whether the factors change from round to round."""
        return len(self.since) > 1

    @property
    def largest(self) -> int:
        """A round in which the largest factor is as large as it gets."""
        return self.since[int(np.asarray(self.factors).max(axis=1).argmax())]

    def words(self, parameters: int) -> float:
        return self.inner.words(parameters)

    def check_weights(self, method: str, weights: Any) -> None:
        """Refuse a graph of other agents than there are factors."""
        self._check_ordered(method)
        if self.factors.shape[1] not in (1, weights.agents):
            raise InputError(
                f"{method}: has step sizes for {self.factors.shape[1]} agents, and the graph has "
                f"{weights.agents}"
            )
        self.inner.check_weights(method, weights)

    def at(self, round: Int[Array, ""] | int) -> Paced:
        """The update of that round, for good."""
        if not self.changes:
            return self
        library = jnp if isinstance(round, jax.Array) else np
        piece = library.searchsorted(library.asarray(self.since), round, side="right") - 1
        return Paced(self.inner, library.asarray(self.factors)[piece][None], names=self.names)

    def ordered(self, names: Sequence[str]) -> Paced:
        """The same with the agents in this order."""
        if not self.names:
            return self
        if sorted(names) != sorted(self.names):
            raise InputError(
                f"by_agent: has factors for {', '.join(self.names)}, and the agents are "
                f"{', '.join(names)}"
            )
        columns = [self.names.index(name) for name in names]
        return Paced(self.inner, self.factors[:, columns], self.since)

    def _check_ordered(self, method: str) -> None:
        """Refuse to step by position where factors are known by name alone."""
        if self.names:
            raise InputError(
                f"{method}: has step sizes by the names of agents, which a `System` puts in order"
            )

    def init(self, x: Any) -> State:
        return self.inner.init(x)

    def step(self, state: Any, grad: Callable, mix: Callable) -> State:
        self._check_ordered("by_agent")
        factor = self.at(getattr(mix, "round", 0)).factors[0]
        factor = factor if len(factor) > 1 else factor[0]
        size = lambda update: update.step_size
        return eqx.tree_at(size, self.inner, self.step_size * factor).step(state, grad, mix)


def paced(
    update: Update,
    factors: Float[np.ndarray, "pieces agents"],
    since: Sequence[int],
    names: tuple[str, ...] = (),
) -> Any:
    """The update with these factors, beside those that it has; its links stay around it."""
    if isinstance(update, Paced):
        return _together(update, Paced(update.inner, factors, tuple(since), names))
    if hasattr(update, "inner"):
        return eqx.tree_at(lambda u: u.inner, update, paced(update.inner, factors, since, names))
    return Paced(update, factors, tuple(since), names)


def _together(one: Paced, other: Paced) -> Paced:
    """The product of both factors, in every round and for every agent."""
    by_agent = [each for each in (one, other) if each.factors.shape[1] > 1 or each.names]
    if len({each.names for each in by_agent}) > 1:
        raise InputError("by_agent: factors by other agents' names, or by none, are there already")
    rounds = sorted({*one.since, *other.since})
    rows = [[np.asarray(each.at(r).factors[0]) for r in rounds] for each in (one, other)]
    product = np.stack(rows[0]) * np.stack(rows[1])
    return Paced(one.inner, product, tuple(rounds), one.names or other.names)


def ordered(update: Update, names: Sequence[str]) -> Update:
    """The update, its factors by name put in the order of the agents' names."""
    if isinstance(update, Paced):
        return update.ordered(names)
    inner = ordered(update.inner, names) if hasattr(update, "links") else None
    same = inner is None or inner is update.inner
    return update if same else dataclasses.replace(update, inner=inner)


def unpaced(update: Update) -> Update:
    """The update with one step size for all agents and rounds; its links stay around it."""
    if isinstance(update, Paced):
        return update.inner
    links = hasattr(update, "links")
    return eqx.tree_at(lambda u: u.inner, update, unpaced(update.inner)) if links else update


def factors_of(name: str, given: Any) -> Float[np.ndarray, " factors"]:
    """Factors of a step size: positive and finite, one at least."""
    listed = list(given) if isinstance(given, (Sequence, np.ndarray)) else [given]
    if not listed:
        raise InputError(f"{name}: needs one factor at least")
    for each in listed:
        value = each.item() if isinstance(each, np.generic) else each
        if not is_real(value) or not 0 < value < math.inf:
            raise InputError(f"{name}: factors must be positive and finite, got {shown(each)}")
    return np.array(listed, np.float64)


def named_factors(name: str, given: Any) -> tuple[tuple[str, ...], Float[np.ndarray, " factors"]]:
    """Factors, and whose they are where a mapping says so: by name, in one order for all."""
    if not isinstance(given, Mapping):
        return (), factors_of(name, given)
    by_name = {str(each): factor for each, factor in sorted(given.items(), key=lambda e: str(e[0]))}
    return tuple(by_name), factors_of(name, list(by_name.values()))


def pieces_of(schedule: Any) -> tuple[list[int], Float[np.ndarray, " pieces"]]:
    """(the first rounds of the pieces, their factors); before the first it is 1."""
    pairs = list(schedule.items()) if isinstance(schedule, Mapping) else schedule
    listed = isinstance(pairs, (Sequence, np.ndarray)) and not isinstance(pairs, str)
    if not listed or not all(np.shape(each) == (2,) for each in pairs):
        raise InputError(
            f"schedule: must be pairs of a round and the factor from there on, got "
            f"{shown(schedule)}"
        )
    rounds = [check_whole("schedule: a round", _whole(r), 0) for r, _ in pairs]
    if not rounds or any(b <= a for a, b in zip(rounds, rounds[1:], strict=False)):
        raise InputError(f"schedule: rounds must be ascending, at least one, got {shown(rounds)}")
    if len(rounds) > PIECES_UP_TO:
        raise InputError(f"schedule: may have {PIECES_UP_TO} pieces, got {len(rounds)}")
    factors = factors_of("schedule", [factor for _, factor in pairs])
    return (rounds, factors) if rounds[0] == 0 else ([0, *rounds], np.array([1.0, *factors]))


def _whole(round: Any) -> Any:
    """A whole number that came as a float, as it does in an array of pairs."""
    return int(round) if isinstance(round, float | np.floating) and round.is_integer() else round


def said(schedule: tuple[list[int], Float[np.ndarray, " pieces"]]) -> str:
    """The first pieces in words."""
    words = [f"{factor:.3g} from {round}" for round, factor in zip(*schedule, strict=True)]
    return ", ".join(words[:NAMED]) + (", ..." if len(words) > NAMED else "")


# --- schedules --------------------------------------------------------------------------------


def warm_up(rounds: int) -> dict[int, float]:
    """s(t) = (t + 1) / rounds in the first so many rounds, 1 from there on (Goyal et al. 2017).

    Args:
        rounds: how many it takes.

    Returns:
        Factors by the round from which they hold, for `scheduled`.

    Raises:
        InputError: for a number of rounds that is not from 1 on.

    Example:
        >>> nd.methods.warm_up(4)
        {0: 0.25, 1: 0.5, 2: 0.75, 3: 1.0}
    """
    rounds = check_whole("warm_up: rounds", rounds, 1, PIECES_UP_TO)
    return {round: (round + 1) / rounds for round in range(rounds)}


def step_decay(at: Sequence[int], factor: float = 0.1) -> dict[int, float]:
    """s(t) = factor^k, k the number of these rounds that have come (He et al. 2016).

    Args:
        at: rounds, ascending.
        factor: by which each multiplies.

    Returns:
        Factors by the round from which they hold, for `scheduled`.

    Raises:
        InputError: for what is no list of rounds, and a factor that is not positive.

    Example:
        >>> nd.methods.step_decay([100, 200])
        {0: 1.0, 100: 0.1, 200: 0.010000000000000002}
    """
    if not isinstance(at, (Sequence, np.ndarray)):
        raise InputError(f"step_decay: must be given a list of rounds, got {shown(at)}")
    factor = float(factors_of("step_decay", factor)[0])
    return {0: 1.0} | {round: factor ** (k + 1) for k, round in enumerate(at)}


def cosine(rounds: int, pieces: int = 50) -> dict[int, float]:
    """s = (1 + cos(pi t / rounds)) / 2 at the middle t of each piece (Loshchilov, Hutter 2017).

    Args:
        rounds: in which it falls from 1 to next to 0.
        pieces: of equal length, on which it is constant.

    Returns:
        Factors by the round from which they hold, for `scheduled`.

    Raises:
        InputError: for numbers that are not from 1 on.

    Example:
        >>> len(nd.methods.cosine(1000))
        50
    """
    rounds = check_whole("cosine: rounds", rounds, 1)
    pieces = min(check_whole("cosine: pieces", pieces, 1, PIECES_UP_TO), rounds)
    ends = np.linspace(0, rounds, pieces + 1).round().astype(int)
    middles = (ends[:-1] + ends[1:]) / 2
    factors = (1 + np.cos(np.pi * middles / rounds)) / 2
    return dict(zip(ends[:-1].tolist(), factors.tolist(), strict=True))
