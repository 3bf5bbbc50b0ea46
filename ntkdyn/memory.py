"""Memory: what a run takes of every device, known before its first step, and how to take less.

The peak is that of the compiled round and of the compiled measurement, as XLA counts them:
arguments (data, W, common start, the state of all agents) and whatever is alive inside. Nothing is
compiled twice: the run calls the same programs. Beside it there are XLA's own code and buffers, the
arrays that the problem holds on the host, and what `SaveOptions` asks for.

Where the peak exceeds the budget, fewer points pass the network at a time (`Network.at_most`).
What belongs to the parameters stays: the state, the gradient, what is combined, of all agents.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from ntkdyn.engine import POINTS_AT_ONCE, Iteration, advance, snapshot_program
from ntkdyn.errors import InputError
from ntkdyn.sharding import Layout
from ntkdyn.sizes import in_words, machine


class Need(NamedTuple):
    """Bytes that a run takes of each device, at its peak."""

    round: int
    snapshot: int
    """while an iterate is measured, all that the method remembers held beside it"""

    @property
    def peak(self) -> int:
        return max(self)


class Sized(NamedTuple):
    """How many points pass the network at a time, and what that takes."""

    points_at_once: int | None
    """of each agent; None: all of a batch, and `engine.POINTS_AT_ONCE` that are measured"""
    need: Need
    budget: float

    def attributes(self) -> dict[str, int | float]:
        """For the record: bytes per device, and the points at a time, -1 for all."""
        return {
            "memory_estimate": self.need.peak,
            "memory_budget": float(self.budget),
            "points_at_once": self.points_at_once or -1,
        }


def need(iteration: Iteration, rows: Int[np.ndarray, " rows"] | None = None) -> Need:
    """What the two programs of a run take, compiled from shapes: no state is made.

    `rows` are the points that are measured, None: all.
    """
    state, number = _shapes(iteration), jnp.array(0)
    round = _peak(advance.lower(iteration, state, number, number))
    beside = _held(state) - _held(state.x) + _packed(iteration, state.x)
    return Need(round, _peak(snapshot_program(iteration, state.x, rows)) + beside)


def fit(
    build: Callable[[int | None], Iteration],
    budget: float,
    rows: Int[np.ndarray, " rows"] | None = None,
) -> Sized:
    """The most points at a time for which `build(points)`, an iteration, keeps to the budget.

    `rows` are the points that are measured, None: all.

    Between all points and one the peak is nearly a straight line; its crossing is tried first.
    """
    at = functools.cache(lambda points: need(build(points), rows))
    if at(None).peak <= budget:
        return Sized(None, at(None), budget)
    if at(1).peak > budget:
        least = min(at(None), at(1), key=lambda each: each.peak)
        raise InputError(
            f"memory: every device needs {in_words(least.peak)} even with one point at a time, "
            f"for the parameters of its agents and their gradients, got {in_words(budget)}"
        )
    # Where few points are trained on, what is measured decides.
    most = max(build(None).everything.rows.shape[1], POINTS_AT_ONCE)
    share = (budget - at(1).peak) / (at(None).peak - at(1).peak)
    points = max(1, int(share * most))
    # The line bends where XLA keeps other arrays: halves are few programs, and never far off.
    while at(points).peak > budget:
        points //= 2
    return Sized(points, at(points), budget)


def available(layout: Layout | None) -> float:
    """Bytes that a device has: as it says itself, or a share of the machine's."""
    ours = [
        device
        for device in (layout.devices if layout else jax.devices())
        if device.process_index == jax.process_index()
    ]
    limit = (ours[0].memory_stats() or {}).get("bytes_limit")
    return float(limit) if limit else machine() / (len(ours) if layout else 1)


def _shapes(iteration: Iteration) -> Any:
    """The state as shapes, each with its sharding."""
    at = iteration.layout.sharding if iteration.layout else lambda shape: None
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=at(leaf.shape)),
        jax.eval_shape(iteration.init),
    )


def _held(tree: Any) -> int:
    """Bytes of the arrays on one device."""
    share = lambda leaf: leaf.sharding.shard_shape(leaf.shape) if leaf.sharding else leaf.shape
    return sum(math.prod(share(leaf)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _packed(iteration: Iteration, x: Any) -> int:
    """Where all agents see the same points, a CPU's matrix products copy a layer's weights."""
    device = iteration.layout.devices[0] if iteration.layout else jax.devices()[0]
    return max(map(_held, jax.tree.leaves(x))) if device.platform == "cpu" else 0


def _peak(lowered: jax.stages.Lowered) -> int:
    counted = lowered.compile().memory_analysis()
    # What is written over its argument takes no room of its own.
    fresh = counted.output_size_in_bytes - counted.alias_size_in_bytes
    return counted.argument_size_in_bytes + counted.temp_size_in_bytes + fresh
