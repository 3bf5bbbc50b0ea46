"""The engine: runs a method round by round in a space and looks at it along the way.

A `System` is everything a round needs, as one pytree; `advance` takes a compiled number of rounds;
`watch` measures an iterate. Prediction and training are the same `rollout` in different spaces.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ntkdyn.data import Batches
from ntkdyn.losses import Loss
from ntkdyn.methods import Method
from ntkdyn.methods.mixing import Operator
from ntkdyn.methods.updates import State
from ntkdyn.spaces import Space
from ntkdyn.vectors import Vector

Progress = Callable[[int, int], None]
"""called with (rounds done, rounds in all)"""

Jump = Callable[[State, int, int], State | None]
"""(state, its round, a later round) -> the state there, or None where it must be stepped to"""

SECONDS_PER_CALL = 0.5
"""About how long one compiled call runs, so that progress moves and Ctrl-C is heard."""

POINTS_AT_ONCE = 1024
"""How many points are evaluated together when an iterate is measured."""


class System(eqx.Module):
    """A method at work: in a space, on a graph, with its batches and targets."""

    space: Space
    method: Method
    weights: Operator
    batches: Batches
    targets: Float[Array, "points outputs"]
    loss: Loss = eqx.field(static=True)

    def init(self) -> State:
        """Everybody at the start; fresh arrays, which `advance` may overwrite."""
        return self.method.update.init(self.space.start().map(jnp.copy))

    def gradient(self, round: Int[Array, ""] | int) -> Callable[[Vector], Vector]:
        """The local gradients of that round."""
        batch = self.batches.at(round)
        return self.method.objective.gradient(self.space, batch, self.loss, self.targets)


@eqx.filter_jit(donate="all-except-first")
def advance(system: System, state: State, start: Int[Array, ""], stop: Int[Array, ""]) -> State:
    """The state after rounds start, ..., stop - 1."""
    always = system.gradient(0) if system.batches.fixed else None

    def one_round(round: Int[Array, ""], state: State) -> State:
        grad = always or system.gradient(round)
        mix = system.method.mixing.bind(system.weights)
        return system.method.update.step(state, grad, mix)

    return jax.lax.fori_loop(start, stop, one_round, state)


class Snapshot(NamedTuple):
    """What is measured of an iterate."""

    outputs: Float[Array, "agents points outputs"]
    displacement: Float[Array, "layers agents"]
    """|theta_i - theta_0| by layer"""
    consensus_distance: Float[Array, " agents"]
    """|theta_i - mean of all theta|"""


@eqx.filter_jit
def watch(system: System, x: Vector) -> Snapshot:
    """Outputs at all points and distances in parameter space."""
    space = system.space
    moved, apart = space.spread(space.displacement(x))
    return Snapshot(
        outputs=_all_outputs(space, x, len(system.targets)),
        displacement=jnp.sqrt(jnp.maximum(moved, 0)),
        consensus_distance=jnp.sqrt(jnp.maximum(apart, 0)),
    )


@eqx.filter_jit
def distances(system: System, x: Vector) -> Float[Array, "agents agents"]:
    """|theta_i - theta_j|, one rotation of the agents at a time."""
    agents = system.space.agents

    def from_shifted(shift: Int[Array, ""]) -> Float[Array, " agents"]:
        apart = x - x.map(lambda leaf: jnp.roll(leaf, -shift, axis=0))
        return jnp.sqrt(jnp.maximum(system.space.dot(apart, apart).sum(axis=0), 0))

    by_shift = jax.lax.map(from_shifted, jnp.arange(agents))
    here = jnp.arange(agents)
    return by_shift[(here[None, :] - here[:, None]) % agents, here[:, None]]


def _all_outputs(space: Space, x: Vector, points: int) -> Float[Array, "agents points outputs"]:
    parts = [slice(first, first + POINTS_AT_ONCE) for first in range(0, points, POINTS_AT_ONCE)]
    return jnp.concatenate([space.readout(part)(x)[0] for part in parts], axis=1)


def rollout(
    system: System,
    rounds: Sequence[int],
    see: Callable[[int, Vector], Any],
    progress: Progress | None = None,
    jump: Jump | None = None,
) -> None:
    """Go to each of the ascending `rounds` and call `see(round, x)` there."""
    state, done, pace = system.init(), 0, 1
    for wanted in rounds:
        landed = jump(state, done, wanted) if jump else None
        if landed is not None:
            state, done = landed, wanted
        while done < wanted:
            stop = min(done + pace, wanted)
            begun = time.perf_counter()
            state = jax.block_until_ready(advance(system, state, jnp.array(done), jnp.array(stop)))
            pace = _next_pace(stop - done, time.perf_counter() - begun)
            done = stop
            if progress:
                progress(done, rounds[-1])
        see(wanted, state.x)


def _next_pace(rounds: int, seconds: float) -> int:
    """As many rounds as fit a call, growing at most fourfold (the first call compiles)."""
    return max(1, min(4 * rounds, int(rounds * SECONDS_PER_CALL / max(seconds, 1e-9))))
