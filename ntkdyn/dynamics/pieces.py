"""Pieces: the rounds of a schedule, each piece of it with the short cuts of its own step size."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from ntkdyn.engine import Iteration, Propagator, advance
from ntkdyn.methods.updates import State, innermost

PropagatorOf = Callable[[Iteration, tuple[int, State] | None], Propagator]
"""(iteration, the round and state to go on from, None at the start) -> its short cuts"""


class Pieces:
    """Called between recorded rounds: a state, or None where stepping there is the way."""

    def __init__(self, iteration: Iteration, propagator_of: PropagatorOf) -> None:
        self._iteration, self._of = iteration, propagator_of
        self._since = innermost(iteration.method.update).since
        self._here: tuple[int, Propagator] | None = None

    def __call__(self, state: State, done: int, wanted: int) -> State | None:
        """One piece after the other, from the round that is done."""
        ends = [round for round in self._since if done < round < wanted]
        for end in ends:
            reached = self._within(state, done, end)
            state = self._stepped(state, done, end) if reached is None else reached
            done = end
        reached = self._within(state, done, wanted)
        return self._stepped(state, done, wanted) if ends and reached is None else reached

    def _within(self, state: State, done: int, wanted: int) -> State | None:
        """By the short cuts of the piece that both rounds are in."""
        begins = self._since[int(np.searchsorted(self._since, done, side="right")) - 1]
        if self._here is None or self._here[0] != begins:
            held = self._iteration.method.at(begins)
            part = dataclasses.replace(self._iteration, method=held)
            self._here = begins, self._of(part, (done, state) if done else None)
        return self._here[1](state, done, wanted)

    def _stepped(self, state: State, done: int, wanted: int) -> State:
        return advance(self._iteration, state, jnp.array(done), jnp.array(wanted))
