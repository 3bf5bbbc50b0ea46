"""Runs: a method taken through its rounds in one space, and the record of what was seen.

Predicting and training differ in the space alone; everything else of a run is here, once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import PyTree

from ntkdyn.engine import Jump, Progress, Snapshot, System, distances, rollout, watch
from ntkdyn.errors import InputError
from ntkdyn.graphs import Mixing, mixing
from ntkdyn.keeping import Keep, parameter_variables, sample
from ntkdyn.kernels import diagnostics
from ntkdyn.measures import measure
from ntkdyn.methods import METHODS, Method
from ntkdyn.methods.mixing import operator_of
from ntkdyn.problems import Problem, Task
from ntkdyn.records import Record, environment
from ntkdyn.spaces import Space
from ntkdyn.vectors import Vector


class Plan(NamedTuple):
    """What is run on what: checked, the same for prediction and training."""

    task: Task
    method: Method
    weights: Mixing
    rounds: list[int]
    """the rounds that are recorded, ascending"""
    batch_size: int | None
    """None: all points in every round"""
    batch_seed: int | None
    keep: Keep


def plan(
    task: Task,
    method: Method,
    weights: Any,
    rounds: int | Sequence[int],
    *,
    record_every: int | None = None,
    batch_size: int | None = None,
    batch_seed: int | None = None,
    keep: Keep = Keep(),
) -> Plan:
    """Check what was asked for, and say which rounds are recorded."""
    if not isinstance(method, Method):
        raise InputError(
            f"method: must be one of {', '.join(METHODS)}, got {type(method).__name__}"
        )
    weights = mixing(weights, agents=task.agents)
    if (batch_size is None) != (batch_seed is None):
        raise InputError("batch_size and batch_seed: give both, or neither for all points")
    recorded = recorded_rounds(rounds, record_every)
    missing = sorted(set(keep.parameter_rounds) - set(recorded))
    if missing:
        raise InputError(f"keep: parameters are asked of round {missing[0]}, which is not recorded")
    return Plan(task, method, weights, recorded, batch_size, batch_seed, keep)


def recorded_rounds(rounds: int | Sequence[int], record_every: int | None) -> list[int]:
    """[0, every, 2 every, ..., rounds], about a hundred by default; or the rounds listed."""
    if isinstance(rounds, (int, np.integer)):
        if rounds < 0:
            raise InputError(f"rounds: must not be negative, got {rounds}")
        every = max(1, math.ceil(rounds / 100)) if record_every is None else record_every
        if every < 1:
            raise InputError(f"record_every: must be at least 1, got {record_every}")
        return sorted({*range(0, rounds + 1, every), int(rounds)})
    if record_every is not None:
        raise InputError("record_every: goes with a number of rounds, not with a list of them")
    listed = [int(each) for each in rounds]
    if not listed or listed[0] < 0 or any(b <= a for a, b in zip(listed, listed[1:], strict=False)):
        raise InputError(f"rounds: must be ascending and not negative, got {listed}")
    return listed


def run(
    plan: Plan,
    space: Space,
    *,
    origin: PyTree | None = None,
    lift: Callable[[Vector], Vector] | None = None,
    kernels: Callable[[Vector], Sequence[np.ndarray]] | None = None,
    progress: Progress | None = None,
    jump: Callable[[System], Jump] | None = None,
    watchers: Sequence[Callable[[Snapshot, Vector], None]] = (),
) -> Record:
    """Take the plan's method through its rounds in `space`, in JAX's current precision.

    `origin` are the parameters at the start (a bare kernel has none), `lift` maps a displacement
    in this space to one of the parameters, `kernels` gives every agent's kernel (train, train) at
    an iterate, for those who keep its drift, `jump` makes the short cuts between rounds, and
    `watchers` are shown every recorded snapshot with its displacement.
    """
    if plan.keep.parameter_rounds and origin is None:
        raise InputError("keep: a bare kernel has no parameters to keep")
    system = system_of(plan, space)
    kept = sample(plan.keep, origin, plan.task.agents)
    seen, parameters, apart, kernel_measures = [], [], [], []
    watched = plan.keep.kernel and _kernel_watch(plan, kernels, space.start())

    def see(round: int, x: Vector) -> None:
        snapshot = jax.tree.map(np.asarray, watch(system, x))
        seen.append(snapshot)
        for each in watchers:
            each(snapshot, space.displacement(x))
        if plan.keep.distances:
            apart.append(np.asarray(distances(system, x)))
        if watched:
            kernel_measures.append(watched(x))
        if round in plan.keep.parameter_rounds:
            moved = space.displacement(x)
            parameters.append(kept.values(lift(moved) if lift else moved))

    rollout(system, plan.rounds, see, progress, jump and jump(system))
    start = seen[0] if plan.rounds[0] == 0 else watch(system, space.start())
    record = xr.Dataset(_variables(plan, seen), _coordinates(plan, space), _attributes(plan))
    record["initial_outputs"] = (("point", "output"), np.asarray(start.outputs[0]))
    if apart:
        record["distance"] = (("round", "agent", "other_agent"), np.stack(apart))
    if kernel_measures:
        drifts, alignments = np.array(kernel_measures).transpose(1, 0, 2)
        record["kernel_drift"] = (("round", "agent"), drifts)
        record["label_alignment"] = (("round", "agent"), alignments)
    if parameters:
        variables, coordinates = parameter_variables(kept, plan.keep.parameter_rounds, parameters)
        record = record.assign(variables).assign_coords(coordinates)
    return record


def _kernel_watch(
    plan: Plan, kernels: Callable[[Vector], Sequence[np.ndarray]] | None, start: Vector
) -> Callable[[Vector], tuple[list[float], list[float]]]:
    """x -> drift and label alignment of every agent's kernel."""
    if kernels is None:
        raise InputError("keep: the kernel of this run is never formed, so its drift is not known")
    initial = kernels(start)[0]
    targets = plan.task.targets[: plan.task.train]

    def measures(x: Vector) -> tuple[list[float], list[float]]:
        now = kernels(x)
        return (
            [diagnostics.drift(kernel, initial) for kernel in now],
            [diagnostics.alignment(kernel, targets) for kernel in now],
        )

    return measures


def lift(problem: Problem) -> Callable[[Vector], Vector]:
    """c -> J^T c: from coefficients on the training points to the displacement of parameters."""
    tangent = problem.tangent_space()
    look = tangent.readout(slice(problem.task.train))

    @jax.jit
    def lifted(coefficients: Vector) -> Vector:
        _, pull = look(tangent.start())
        return pull(coefficients.tree)

    return lifted


def system_of(plan: Plan, space: Space) -> System:
    """The plan's method at work in `space`."""
    system = System(
        space=space,
        method=plan.method,
        weights=operator_of(plan.weights.matrix),
        batches=plan.task.batches(plan.batch_size, plan.batch_seed),
        targets=jnp.asarray(plan.task.targets),
        loss=plan.task.loss,
    )
    return jax.tree.map(jnp.asarray, system)


def _variables(plan: Plan, seen: list[Snapshot]) -> dict[str, Any]:
    """One variable per measure over rounds, and what does not change over rounds."""
    task = plan.task
    measured = [measure(task, snapshot.outputs) for snapshot in seen]
    variables: dict[str, Any] = {
        name: (("round", "agent"), np.stack([values[name] for values in measured]))
        for name in measured[0]
    }
    layered = np.stack([snapshot.displacement.T for snapshot in seen])
    variables |= {
        "displacement": (("round", "agent"), np.sqrt((layered**2).sum(axis=-1))),
        "layer_displacement": (("round", "agent", "layer"), layered),
        "consensus_distance": (("round", "agent"), np.stack([s.consensus_distance for s in seen])),
        "targets": (("point", "output"), task.targets),
        "mixing": (("agent", "heard_agent"), plan.weights.matrix),
    }
    if plan.keep.outputs:
        dims = ("round", "agent", "point", "output")
        variables["outputs"] = (dims, np.stack([snapshot.outputs for snapshot in seen]))
    if task.labels is not None:
        counts = np.zeros((task.agents, task.targets.shape[1]), dtype=int)
        np.add.at(counts, (task.owner, task.labels[: task.train]), 1)
        variables["class_counts"] = (("agent", "output"), counts)
    return variables


def _coordinates(plan: Plan, space: Space) -> dict[str, Any]:
    task = plan.task
    tests = len(task.targets) - task.train
    points = {
        "split": ("point", np.repeat(["train", "test"], [task.train, tests])),
        "owner": ("point", np.concatenate([task.owner, np.full(tests, -1)])),
    }
    if task.labels is not None:
        points["label"] = ("point", task.labels)
    return points | {
        "round": plan.rounds,
        "agent": np.arange(task.agents),
        "layer": list(space.layers),
        "points_owned": ("agent", task.counts),
    }


def _attributes(plan: Plan) -> dict[str, Any]:
    """What was run, for whoever finds the file."""
    return {
        "method": plan.method.name,
        "step_size": float(plan.method.step_size),
        "weights": plan.weights.name,
        "spectral_gap": plan.weights.spectral_gap,
        "loss": plan.task.loss.name,
        "batch_size": -1 if plan.batch_size is None else plan.batch_size,
        **environment(),
    }
