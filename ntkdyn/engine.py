"""The engine: runs a method round by round in a space and looks at it along the way.

An `Iteration` is everything a round needs, as one pytree; `advance` takes a compiled number of
rounds; `take_snapshot` measures an iterate. Prediction and training are the same `rollout` in
different spaces.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ntkdyn.data import Batch, Batches
from ntkdyn.evaluation import looking, pointwise, settled
from ntkdyn.losses import Loss
from ntkdyn.methods import Method
from ntkdyn.methods.mixing import Combination, Links, Operator
from ntkdyn.methods.objectives import Context
from ntkdyn.methods.updates import State
from ntkdyn.sharding import Layout
from ntkdyn.spaces import Space
from ntkdyn.vectors import ByAgent, Point, Vector

Progress = Callable[[int, int], None]
"""called with (rounds done, rounds in all)"""

Propagator = Callable[[State, int, int], State | None]
"""(state, its round, a later round) -> the state there, or None where it must be stepped to"""

Save = Callable[[int, State], None]
"""called with (rounds done, the state there) after every compiled call"""

SECONDS_PER_CALL = 0.5
"""About how long one compiled call runs, so that progress moves and Ctrl-C is heard."""

POINTS_AT_ONCE = 1024
"""How many points are evaluated together when an iterate is measured."""


@runtime_checkable
class Forcing(Protocol):
    """What is added to the local gradients that a method takes."""

    def at(self, round: Int[Array, ""] | int) -> Sequence[Vector]:
        """To each of those of that round, in the order in which they are taken."""
        ...


class Iteration(eqx.Module):
    """A method at work: in a space, on a graph, with its batches and targets."""

    space: Space
    method: Method
    weights: Operator
    batches: Batches
    targets: Float[Array, "points outputs"]
    loss: Loss = eqx.field(static=True)
    links: Links | None = None
    """for methods whose agents look at one another's data or parameters"""
    public: tuple[int, int] = eqx.field(static=True, default=(0, 0))
    """the first row of the public points, and the row after their last"""
    layout: Layout | None = eqx.field(static=True, default=None)
    """which device holds what; None: one device"""
    forcing: Forcing | None = None

    @property
    def everything(self) -> Batch:
        """Every agent's own training rows."""
        return self.batches.everything

    @property
    def period(self) -> int:
        """After how many rounds the mixing repeats."""
        return math.lcm(self.weights.length, self.method.mixing.every)

    def init(self) -> State:
        """Everybody at the start; fresh arrays, which `advance` may overwrite."""
        return _begin(self) if self.layout else _fresh(self)

    def gradient(self, round: Int[Array, ""] | int) -> Callable[..., Vector]:
        """The local gradients of that round: grad(x), or grad(x, state, round) by some methods."""
        space = looking(self.space, self.batches.looks(round))
        context = Context(space, self.loss, self.targets, self.links, slice(*self.public))
        return self.method.objective.gradient(context, self.batches.at(round))

    def local(
        self, round: Int[Array, ""] | int, state: State, known: Callable[..., Vector] | None = None
    ) -> Callable[[Point], Vector]:
        """x -> the local gradients there, as a step from that state takes them one by one.

        `known` are the gradients of that round, where they are at hand.
        """
        of_round = known or self.gradient(round)
        grad = lambda x: of_round(x, state, round)
        if self.forcing is None:
            return grad
        added = iter(self.forcing.at(round))
        return lambda x: grad(x) + next(added)

    def mix(self, round: Int[Array, ""] | int) -> Callable[[ByAgent], ByAgent]:
        """The combination of that round."""
        mix = self.method.mixing.bind(self.weights, round, self)
        if self.layout is None:
            return mix
        if isinstance(mix, Combination):
            return dataclasses.replace(mix, around=self.layout.combining)
        return self.layout.combining(mix)

    def kept(self, state: State) -> State:
        """The state, inside a compiled program, where the layout wants it."""
        return self.layout.keep(state) if self.layout else state


def _fresh(iteration: Iteration) -> State:
    begun = iteration.method.update.init(iteration.space.start())
    return iteration.kept(jax.tree.map(lambda leaf: jnp.array(leaf, leaf.dtype), begun))


_begin = jax.jit(_fresh)


@functools.partial(jax.jit, donate_argnums=1)
def advance(
    iteration: Iteration, state: State, start: Int[Array, ""], stop: Int[Array, ""]
) -> State:
    """The state after rounds start, ..., stop - 1."""
    always = iteration.gradient(0) if iteration.batches.fixed else None

    def one_round(round: Int[Array, ""], state: State) -> State:
        grad = iteration.local(round, state, always)
        update = iteration.method.at(round).update
        return iteration.kept(update.step(state, grad, iteration.mix(round)))

    return jax.lax.fori_loop(start, stop, one_round, state)


class Snapshot(NamedTuple):
    """What is measured of an iterate."""

    outputs: Float[Array, "agents points outputs"]
    displacement: Float[Array, "layers agents"]
    """|theta_i - theta_0| by layer"""
    consensus_distance: Float[Array, " agents"]
    """|theta_i - mean of all theta|"""
    consensus_outputs: Float[Array, "points outputs"]
    """of the mean of all theta"""


def take_snapshot(
    iteration: Iteration, x: Point, rows: Int[np.ndarray, " rows"] | None = None
) -> Snapshot:
    """Outputs (all heads) at these rows, or at all points, and distances in parameter space.

    Where outputs depend on statistics of the batch, these are every agent's over its own points.
    """
    return _snapshot(iteration.space, x, *_seen(iteration, rows))


def snapshot_program(
    iteration: Iteration, x: Point, rows: Int[np.ndarray, " rows"] | None = None
) -> jax.stages.Lowered:
    """The program of `take_snapshot`, for an x that may be shapes alone."""
    return _snapshot.lower(iteration.space, x, *_seen(iteration, rows))


def _seen(
    iteration: Iteration, rows: Int[np.ndarray, " rows"] | None = None
) -> tuple[Batch | None, Int[np.ndarray, " rows"] | None, int, int]:
    points, outputs = iteration.targets.shape
    own = None if pointwise(iteration.space) else iteration.everything
    return own, rows, points, outputs * iteration.method.heads


@functools.partial(jax.jit, static_argnums=(4, 5))
def _snapshot(
    space: Space,
    x: Point,
    own: Batch | None,
    rows: Int[Array, " rows"] | None,
    points: int,
    outputs: int,
) -> Snapshot:
    moved, apart = space.spread(space.displacement(x))
    seen = slice(0, points) if rows is None else rows
    if not space.common_start:
        _, apart = space.spread(x - _mean(x))
    return Snapshot(
        outputs=_all_outputs(space, x, own, seen)[..., :outputs],
        consensus_outputs=_of_mean(space, x, own, seen)[..., :outputs],
        displacement=jnp.sqrt(jnp.maximum(moved, 0)),
        consensus_distance=jnp.sqrt(jnp.maximum(apart, 0)),
    )


@jax.jit
def distances(iteration: Iteration, x: Point) -> Float[Array, "agents agents"]:
    """|theta_i - theta_j|, one rotation of the agents at a time."""
    agents = iteration.space.agents

    def from_shifted(shift: Int[Array, ""]) -> Float[Array, " agents"]:
        apart = x - x.map(lambda leaf: jnp.roll(leaf, -shift, axis=0))
        return jnp.sqrt(jnp.maximum(iteration.space.dot(apart, apart).sum(axis=0), 0))

    by_shift = jax.lax.map(from_shifted, jnp.arange(agents))
    here = jnp.arange(agents)
    return by_shift[(here[None, :] - here[:, None]) % agents, here[:, None]]


def _mean(x: Point) -> Point:
    return x.map(lambda leaf: jnp.mean(leaf, axis=0, keepdims=True))


def _of_mean(
    space: Space, x: Point, own: Batch | None, rows: slice | Int[Array, " rows"]
) -> Float[Array, "rows outputs"]:
    """Of the mean of all theta; as agents see it on average where anchors or statistics differ."""
    mean = _mean(x)
    if own is not None or (space.kind == "tangent" and not space.common_start):
        of_each = mean.map(lambda leaf: jnp.repeat(leaf, space.agents, axis=0))
        return _all_outputs(space, of_each, own, rows).mean(axis=0)
    return _all_outputs(space, mean, own, rows)[0]


def _all_outputs(
    space: Space, x: Point, own: Batch | None, rows: slice | Int[Array, " rows"]
) -> Float[Array, "agents rows outputs"]:
    space, x = (space, x) if own is None else settled(space, x, *own)
    look = lambda part: space.readout(part)(x)[0]
    every = isinstance(rows, slice)
    count = rows.stop if every else len(rows)
    if count <= POINTS_AT_ONCE:
        return look(rows)
    if space.kind == "kernel" and every:  # whose blocks are read where they are
        firsts = range(0, count, POINTS_AT_ONCE)
        parts = [look(slice(first, first + POINTS_AT_ONCE)) for first in firsts]
        return jnp.concatenate(parts, axis=1)
    return _in_blocks(look, jnp.arange(count) if every else rows)


def _in_blocks(
    look: Callable[[Int[Array, " block"]], Float[Array, "agents block outputs"]],
    rows: Int[Array, " rows"],
) -> Float[Array, "agents rows outputs"]:
    """Block after block, all as large: one program, and the memory of one."""
    blocks = -(-len(rows) // POINTS_AT_ONCE)
    padded = jnp.pad(rows, (0, -len(rows) % blocks), mode="edge")
    seen = jnp.moveaxis(jax.lax.map(look, padded.reshape(blocks, -1)), 0, 1)
    return seen.reshape(len(seen), -1, seen.shape[3])[:, : len(rows)]


def rollout(
    iteration: Iteration,
    rounds: Sequence[int],
    see: Callable[[int, Point], Any],
    progress: Progress | None = None,
    propagator: Propagator | None = None,
    start: tuple[int, State] | None = None,
    save: Save | None = None,
) -> State:
    """Go to each of the ascending `rounds` and call `see(round, x)` there; the last state.

    `start` is the round to go on from and the state there; without it, everybody is at the start.
    """
    (done, state), pace = start or (0, iteration.init()), 1
    for wanted in rounds:
        reached = propagator(state, done, wanted) if propagator else None
        if reached is not None:
            state, done = reached, wanted
        while done < wanted:
            stop = min(done + pace, wanted)
            begun = time.perf_counter()
            state = jax.block_until_ready(
                advance(iteration, state, jnp.array(done), jnp.array(stop))
            )
            pace = _next_pace(stop - done, time.perf_counter() - begun)
            pace = iteration.layout.agreed(pace) if iteration.layout else pace
            done = stop
            if progress:
                progress(done, rounds[-1])
            if save:
                save(done, state)
        see(wanted, state.x)
    return state


def _next_pace(rounds: int, seconds: float) -> int:
    """As many rounds as fit a call, growing at most fourfold (the first call compiles)."""
    return max(1, min(4 * rounds, int(rounds * SECONDS_PER_CALL / max(seconds, 1e-9))))
