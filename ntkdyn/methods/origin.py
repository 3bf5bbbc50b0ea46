"""Origin: an update must not know where parameters have their zero.

In NetworkSpace a point is theta, in the linear spaces theta - theta_0: the same update is the same
algorithm there only if a shift of the start, and of the losses with it, shifts every later iterate
by as much. What is written with points and vectors alone cannot do otherwise. An update of
another's making may look beneath them, at single numbers (`map`, `tree`), or leave a vector where
a point was; so it is tried.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkdyn import precision
from ntkdyn.errors import InputError
from ntkdyn.methods.mixing import Combination, Dense, links_of
from ntkdyn.methods.updates import State, Update
from ntkdyn.vectors import ByAgent, Point, Vector

AGENTS, ROUNDS = 3, 4
"""All hear from all; one thing remembered may reach x by way of another, a round later each.

An update that is made for some number of agents (`update.made_for`) is tried with so many.
"""

SHIFT = 8.0
"""Sums of it and of the gradients below lose no more than a digit."""

ROUNDING = 1e-9
"""Of numbers up to SHIFT in float64, some rounds later; in float32 where JAX has no other."""


@precision.in_double
def check(name: str, update: Update) -> None:
    """Refuse an update whose iterates depend on where zero is."""
    try:
        here, there = _iterates(update, 0.0), _iterates(update, SHIFT)
    except InputError as refusal:
        raise InputError(f"{name}: {refusal}") from None
    off = np.abs(there - SHIFT - here).max(axis=(1, 2))
    if not off.max() <= ROUNDING * SHIFT:
        first = int(np.argmax(~(off <= ROUNDING * SHIFT)))
        raise InputError(
            f"{name}: its iterates depend from round {first + 1} on where parameters are zero, "
            f"so that it would be another algorithm on networks than in their linearization; what "
            f"it does to single numbers must give y + c where it gives y, if all are c larger"
        )


def _iterates(update: Update, shift: float) -> Float[np.ndarray, "rounds agents numbers"]:
    """Some rounds on quadratics around `shift`, from a common start there."""
    rng, agents = np.random.default_rng(0), update.made_for or AGENTS
    slopes, forces = jnp.asarray(rng.uniform(0.5, 1.5, (2, agents, 2)))
    weights = (np.eye(agents) + 1) / (agents + 1)
    grad = lambda x: Vector(slopes * (x.tree - shift) + forces)
    everybody = links_of(weights)
    state, seen = update.init(Point(jnp.full((agents, 2), shift))), []
    kinds = _kinds(state)
    for round in range(ROUNDS):
        mix = Combination(Dense(jnp.asarray(weights)), round=round, heard=everybody)
        state = update.step(state, grad, mix)
        if _kinds(state) != kinds:
            raise InputError(
                f"its state must keep its form, but starts as {', '.join(kinds)} and becomes "
                f"{', '.join(_kinds(state))}"
            )
        seen.append(np.asarray(jax.tree.leaves(state.x)[0]))
    return np.stack(seen)


def _kinds(state: State) -> list[str]:
    """What a state is made of, in words."""
    named = lambda each: type(each).__name__.lower() if _is_kind(each) else "array"
    return list(map(named, jax.tree.leaves(state, is_leaf=_is_kind)))


def _is_kind(each: Any) -> bool:
    return isinstance(each, ByAgent)
