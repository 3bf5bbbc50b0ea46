"""Runs: a method taken through its rounds in one space, and the record of what was seen.

Predicting and training differ in the space alone; everything else of a run is here, once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float, Int, PyTree

from ntkdyn import arrays, precision, saving, sizes
from ntkdyn.checkpoints import Checkpoints, Seen, identity
from ntkdyn.engine import (
    Iteration,
    Progress,
    Propagator,
    Snapshot,
    distances,
    rollout,
    take_snapshot,
)
from ntkdyn.errors import InputError, check_kind, check_whole, is_whole, shown
from ntkdyn.graphs import MixingSequence, Weights
from ntkdyn.kernels import diagnostics, empirical
from ntkdyn.measures import class_counts, measure, measure_consensus, measure_heads
from ntkdyn.methods import Method, exchange
from ntkdyn.methods.mixing import links_of, operator_of
from ntkdyn.methods.objectives import Sizes
from ntkdyn.names import plain
from ntkdyn.problems import Problem, Task
from ntkdyn.processes import on_host
from ntkdyn.quantities import described
from ntkdyn.records import Record, environment
from ntkdyn.saving import Sample, SaveOptions, parameter_variables, sample
from ntkdyn.sharding import Layout
from ntkdyn.spaces import Space
from ntkdyn.system import System, question
from ntkdyn.vectors import Point, Vector

KEPT = {
    "distance": ("round", "agent", "other_agent"),
    "kernel_drift": ("round", "agent"),
    "label_alignment": ("round", "agent"),
}
"""what `save` may ask of every recorded round, and its dimensions"""


NUMBER = 100
"""bytes of a round in a record without outputs, as measured"""

LARGEST_ROUND = 2**53
"""up to here every whole number is a float64"""


class Plan(NamedTuple):
    """A system, in which rounds it is looked at, and what is saved of it."""

    system: System
    rounds: list[int]
    """the rounds that are recorded, ascending"""
    save: SaveOptions
    rows: Int[np.ndarray, " rows"] | None = None
    """the points that are measured; None: all"""

    @property
    def task(self) -> Task:
        return self.system.task

    @property
    def measured(self) -> Task:
        """The points that are measured."""
        return self.task if self.rows is None else self.task.at(self.rows)

    @property
    def method(self) -> Method:
        return self.system.method

    @property
    def weights(self) -> Weights:
        return self.system.weights

    @property
    def batch_size(self) -> int | None:
        return self.system.batch_size

    def by(self, method: Method) -> Plan:
        """The same by another method, or step size."""
        return self._replace(system=self.system.with_(method=method))


@question("kernel", "batch_size", "batch_seed", "batches")
def plan(
    system: System,
    rounds: int | Sequence[int],
    save: SaveOptions = SaveOptions(),
) -> Plan:
    """Check what was asked for, and say which rounds are recorded."""
    check_kind("save", save, SaveOptions, "as `ntkdyn.SaveOptions()` gives")
    saving.check_points(save)
    rows = None if save.points is None else system.task.some(save.points)
    measured = system.task if rows is None else system.task.at(rows)
    recorded = recorded_rounds(rounds, save.record_every, _record_of_a_round(measured))
    if (given := system.batches) is not None and len(given.given.rows) < recorded[-1]:
        raise InputError(
            f"batches: are listed for {len(given.given.rows)} rounds, and the run has "
            f"{recorded[-1]}"
        )
    return Plan(system, recorded, saving.checked(save, recorded), rows)


def recorded_rounds(
    rounds: int | Sequence[int], record_every: int | None, size: int = NUMBER
) -> list[int]:
    """[0, every, 2 every, ..., rounds], about a hundred by default; or the rounds listed.

    `size` are the bytes that the record of one round takes.
    """
    if not is_whole(rounds):
        return _listed(rounds, record_every, size)
    rounds = check_whole("rounds:", rounds, 0, LARGEST_ROUND)
    every = max(1, math.ceil(rounds / 100)) if record_every is None else record_every
    every = check_whole("record_every:", every, 1)
    _check_room(rounds // every + 1, size)
    return sorted({*range(0, rounds + 1, every), rounds})


def _listed(rounds: Any, record_every: int | None, size: int) -> list[int]:
    """Rounds that are listed one by one."""
    given = arrays.plain("rounds", rounds)
    if given.ndim != 1 or given.dtype.kind not in "iu" or not given.size:
        raise InputError(
            f"rounds: must be a whole number, or a list of whole numbers, got {shown(rounds)}"
        )
    if record_every is not None:
        raise InputError("record_every: goes with a number of rounds, not with a list of them")
    if given[0] < 0 or given[-1] > LARGEST_ROUND or (given[1:] <= given[:-1]).any():
        raise InputError(f"rounds: must be ascending and not negative, got {shown(rounds)}")
    _check_room(len(given), size)
    return given.tolist()


def _check_room(recorded: int, size: int) -> None:
    sizes.check_room(
        f"rounds: a record of {recorded} rounds",
        recorded * size,
        "record fewer of them (`record_every`)",
    )


def _record_of_a_round(task: Task) -> int:
    """Bytes of the outputs of all agents and of their mean, as they are seen and in the record."""
    return NUMBER + 2 * 8 * (task.agents + 1) * task.heads * task.targets.size


def run(
    plan: Plan,
    space: Space,
    *,
    origin: PyTree | None = None,
    parameters_each: int | None = None,
    lift: Callable[[Vector], Vector] | None = None,
    kernels: Callable[[Point], Sequence[np.ndarray]] | None = None,
    progress: Progress | None = None,
    propagator: Callable[[Iteration], Propagator] | None = None,
    watchers: Sequence[Callable[[Snapshot, Vector], None]] = (),
    checkpoints: Checkpoints | None = None,
    layout: Layout | None = None,
) -> Record:
    """Take the plan's method through its rounds in `space`, in JAX's current precision.

    `origin` are the parameters at the start, stacked where agents start apart (a bare kernel has
    none, nor have different architectures), `parameters_each` says how many an agent has, `lift`
    maps a displacement in this space to one of the parameters, `kernels` gives every agent's kernel
    (train, train) at an iterate, for those who keep its drift, `propagator` makes the short cuts,
    `watchers` are shown every recorded snapshot with its displacement, `checkpoints` save the run
    and say where it goes on, and `layout` shares it out among devices.
    """
    if plan.save.parameter_rounds and origin is None:
        raise InputError(
            "save: parameters need one network for all agents; a bare kernel has no parameters, "
            "and those of different architectures have not the same"
        )
    check(plan, space)
    built = iteration_of(plan, space, layout)
    kept = sample(plan.save, origin, plan.task.agents, apart=not space.common_start)
    look = looking(plan, built, kept, lift, kernels)
    saved = checkpoints and checkpoints.open(built.init(), _identity(plan, built))
    seen: list[Seen] = list(saved.seen) if saved else []

    def see(round: int, x: Point) -> None:
        snapshot, more = look(round, x)
        for each in watchers:
            each(snapshot, built.space.displacement(x))
        seen.append(snapshot._asdict() | more)

    rollout(
        built,
        plan.rounds[len(seen) :],
        see,
        progress,
        propagator and propagator(built),
        start=saved and (saved.round, saved.state),
        save=checkpoints and (lambda round, state: checkpoints.save(round, state, seen)),
    )
    return recorded(plan, built, seen, kept, parameters_each)


def looking(
    plan: Plan,
    built: Iteration,
    kept: Sample,
    lift: Callable[[Vector], Vector] | None,
    kernels: Callable[[Point], Sequence[np.ndarray]] | None,
    reference: np.ndarray | None = None,
) -> Callable[[int, Point], tuple[Snapshot, Seen]]:
    """(round, iterate) -> what is measured there, and what the plan keeps beside it.

    Kernels drift from `reference`, by default from that at the start of the iteration's space.
    """
    space = built.space
    watched = plan.save.kernel and _kernel_watch(plan, kernels, space.start(), reference)

    def look(round: int, x: Point) -> tuple[Snapshot, Seen]:
        more = {}
        if plan.save.distances:
            more["distance"] = on_host(distances(built, x))
        if watched:
            more["kernel_drift"], more["label_alignment"] = map(np.array, watched(x))
        if round in plan.save.parameter_rounds:
            moved = space.displacement(x)
            more["parameters"] = kept.values(lift(moved) if lift else moved)
        return on_host(take_snapshot(built, x, plan.rows)), more

    return look


def recorded(
    plan: Plan,
    built: Iteration,
    seen: Sequence[Seen],
    kept: Sample,
    parameters_each: int | None = None,
    initial: np.ndarray | None = None,
) -> Record:
    """What was seen, round by round, as a record.

    `initial` are the outputs at the start, at all points, of every agent where each has its own;
    left out, those where `built` begins.
    """
    snapshots = [Snapshot(*(each[name] for name in Snapshot._fields)) for each in seen]
    if initial is None:
        initial = _at_the_start(plan, built, snapshots[0])
    elif plan.rows is not None:
        initial = initial[..., plan.rows, :]
    variables = _variables(plan, built.space, snapshots)
    coordinates, attributes = _coordinates(plan, built.space), _attributes(plan, built.layout)
    record = xr.Dataset(variables, coordinates, attributes)
    outputs = plan.task.targets.shape[1]
    dims = ("agent", "point", "output")[3 - initial.ndim :]
    record["initial_outputs"] = (dims, initial[..., :outputs])
    for name, dims in KEPT.items():
        if name in seen[0]:
            record[name] = (dims, np.stack([each[name] for each in seen]))
    if plan.save.parameter_rounds:
        parameters = [each["parameters"] for each in seen if "parameters" in each]
        variables, coordinates = parameter_variables(kept, plan.save.parameter_rounds, parameters)
        record = record.assign(variables).assign_coords(coordinates)
    if parameters_each is not None:
        taken = floats_sent(plan, built, parameters_each)
        record["floats_sent"] = (("round", "agent"), taken)
        record["bits_sent"] = (("round", "agent"), exchange.WORD * taken)
    return described(record)


def _at_the_start(plan: Plan, built: Iteration, first: Snapshot) -> np.ndarray:
    """The outputs where `built` begins, one for all agents where they are alike."""
    begun = plan.rounds[0] == 0
    start = first if begun else on_host(take_snapshot(built, built.init().x, plan.rows))
    alike = built.space.common_start and built.space.mixable
    return start.outputs[0] if alike else start.outputs


def _identity(plan: Plan, built: Iteration) -> dict[str, str]:
    """What a run is, by name: the same of two runs that are the same."""
    words = {
        "method": plan.method.name,
        "loss": plan.task.loss.name,
        "step_size": plan.method.step_size,
        "recorded rounds": plan.rounds,
        "batch_size": plan.batch_size,
        "augmentation": plan.task.augmentation,
        "save": plan.save,
    }
    arrays = {
        "settings of the method": plan.method,
        "networks and points": built.space,
        "mixing weights": built.weights,
        "batches": built.batches,
        "targets": built.targets,
    }
    return {name: str(value) for name, value in words.items()} | identity(arrays)


def _kernel_watch(
    plan: Plan,
    kernels: Callable[[Point], Sequence[np.ndarray]] | None,
    start: Point,
    reference: np.ndarray | None,
) -> Callable[[Point], tuple[list[float], list[float]]]:
    """x -> drift and label alignment of every agent's kernel."""
    if kernels is None:
        raise InputError("save: the kernel of this run is never formed, so its drift is not known")
    initial = kernels(start)[0] if reference is None else reference
    targets = plan.task.targets[: plan.task.train]

    def measures(x: Point) -> tuple[list[float], list[float]]:
        now = kernels(x)
        return (
            [diagnostics.drift(kernel, initial) for kernel in now],
            [diagnostics.alignment(kernel, targets) for kernel in now],
        )

    return measures


def own_kernels(problem: Problem) -> Callable[[Point], list[np.ndarray]]:
    """The kernel of every agent's network at its own parameters, between the training points."""
    points = jnp.asarray(problem.inputs[: problem.task.train], jnp.zeros(()).dtype)

    def kernels(x: Point) -> list[np.ndarray]:
        if problem.origin is None:
            raise InputError("save: agents of different architectures have no kernel in common")
        tree, apply = on_host(x.tree), problem.network.apply
        agents = range(problem.task.agents)
        networks = (jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in agents)
        return [np.asarray(empirical.trace(apply, params, points)) for params in networks]

    return kernels


def check(plan: Plan, space: Space) -> None:
    """Refuse a method that this space, these weights or so few rounds are not enough for."""
    plan.method.check_space(space.kind)
    if plan.method.heads != plan.task.heads:
        raise InputError(
            f"{plan.method.name}: needs networks with {plan.method.heads} heads of "
            f"{plan.task.targets.shape[1]} outputs each, got {plan.task.heads}"
        )
    if not space.mixable and plan.method.mixes:
        raise InputError(
            f"{plan.method.name}: averages parameters, which agents of different architectures "
            f"cannot; mhd does not"
        )
    for part in (plan.method.mixing, plan.method.objective):
        part.check(plan.method.name, plan.task, space, plan.rounds[-1])


def iteration_of(plan: Plan, space: Space, layout: Layout | None = None) -> Iteration:
    """The plan at work in a space, in JAX's current precision."""
    task, matrices = plan.task, _matrices(plan.weights)
    built = Iteration(
        space=space,
        method=plan.method,
        weights=operator_of(matrices),
        batches=plan.system.drawn(),
        targets=jnp.asarray(task.targets),
        loss=task.loss,
        links=links_of(matrices),
        public=(task.train, task.basis),
        layout=layout,
    )
    built = jax.tree.map(jnp.asarray, built)
    return layout.place(built) if layout else built


def _matrices(weights: Weights) -> np.ndarray:
    return weights.matrices if isinstance(weights, MixingSequence) else weights.matrix


def _variables(plan: Plan, space: Space, seen: list[Snapshot]) -> dict[str, Any]:
    """One variable per measure over rounds, and what does not change over rounds."""
    task = plan.measured
    main = [snapshot.outputs[..., : task.targets.shape[1]] for snapshot in seen]
    measured = [measure(task, outputs, plan.method.agent_weights) for outputs in main]
    variables = _stacked(("round", "agent"), measured)
    if (weights := plan.method.agent_weights) is not None:
        variables["agent_weight"] = ("agent", weights)
    if not isinstance(plan.weights, MixingSequence):
        variables["perron"] = ("agent", plan.weights.perron)
    if space.mixable:
        means = [s.consensus_outputs[:, : task.targets.shape[1]] for s in seen]
        variables |= _stacked(("round",), [measure_consensus(task, outputs) for outputs in means])
        apart = np.stack([s.consensus_distance for s in seen])
        variables["consensus_distance"] = (("round", "agent"), apart)
    if task.heads > 1 and len(task.targets) > task.basis:
        own = class_counts(plan.task)
        by_head = [measure_heads(task, snapshot.outputs, own) for snapshot in seen]
        variables |= _stacked(("round", "agent", "head"), by_head)
    layered = np.stack([snapshot.displacement.T for snapshot in seen])
    variables |= {
        "displacement": (("round", "agent"), np.sqrt((layered**2).sum(axis=-1))),
        "layer_displacement": (("round", "agent", "layer"), layered),
        "targets": (("point", "output"), task.targets),
        "mixing": (("agent", "heard_agent"), plan.weights.matrix),
    }
    if plan.save.outputs:
        variables["outputs"] = (("round", "agent", "point", "output"), np.stack(main))
    if task.labels is not None:
        column = "output" if task.classes == task.targets.shape[1] else "class"
        variables["class_counts"] = (("agent", column), class_counts(plan.task))
    return variables


def _stacked(dims: tuple[str, ...], measured: list[dict[str, Any]]) -> dict[str, Any]:
    """What was measured in each recorded round, by name."""
    return {name: (dims, np.stack([m[name] for m in measured])) for name in measured[0]}


def floats_sent(
    plan: Plan, built: Iteration, parameters: int
) -> Float[np.ndarray, "rounds agents"]:
    """How many numbers every agent has sent to others, in all rounds before each recorded one."""
    return sent(plan, built, parameters)["floats_sent"]


def sent(
    plan: Plan, built: Iteration, parameters: int
) -> dict[str, Float[np.ndarray, "rounds agents"]]:
    """What every agent has sent to others, in all rounds before each recorded one.

    `floats_sent`: numbers, over all links; `messages_sent`: one for each link and exchange; and
    `exchanges`: the rounds in which it sends at all.
    """
    links = np.stack([each.matrix != 0 for each in plan.weights.rounds])
    listeners = (links & ~np.eye(plan.task.agents, dtype=bool)).sum(axis=1).astype(float)
    each = floats_per_link(built, parameters)
    period = np.arange(math.lcm(len(listeners), len(each)))
    heard = listeners[period % len(listeners)]
    objective, sizes = plan.method.objective, _sizes(plan.task, built.space, parameters)
    said = np.stack([objective.floats_sent(these, sizes) for these in listeners])
    paid = each[period % len(each), None] * heard + said[period % len(said)]
    sums = lambda counted: _summed(np.array(plan.rounds), counted)
    talks = (paid > 0).astype(float)
    return {
        "floats_sent": sums(paid),
        "messages_sent": sums(talks * heard),
        "exchanges": sums(talks),
    }


def _summed(
    rounds: Int[np.ndarray, " rounds"], period: Float[np.ndarray, "period agents"]
) -> Float[np.ndarray, "rounds agents"]:
    """Sums over the rounds before each, of what repeats."""
    sums = np.concatenate([np.zeros((1, period.shape[1])), np.cumsum(period, axis=0)])
    return (rounds // len(period))[:, None] * sums[-1] + sums[rounds % len(period)]


def floats_per_link(built: Iteration, parameters: int) -> Float[np.ndarray, " period"]:
    """How many numbers go over each link, in every round of a period of the mixing."""
    rule, start = built.method.mixing, jax.eval_shape(built.space.start)
    each, words = np.zeros(rule.every), built.method.update.words(parameters)
    for round in rule.due:
        mix = exchange.watched(rule, built.weights, round, built)
        each[round] = exchange.sent(built.method.update, start, mix).floats(words)
    return each


def _sizes(task: Task, space: Space, parameters: int) -> Sizes:
    outputs = task.targets.shape[1]
    seen = jax.eval_shape(lambda: space.readout(slice(1))(space.start())[0]).shape[2]
    return Sizes(parameters, outputs, seen - outputs * task.heads, task.public)


def _coordinates(plan: Plan, space: Space) -> dict[str, Any]:
    task = plan.measured
    sizes = [task.train, task.public, len(task.targets) - task.basis]
    points = {
        "split": ("point", np.repeat(["train", "public", "test"], sizes)),
        "owner": ("point", np.concatenate([task.owner, np.full(sum(sizes[1:]), -1)])),
    }
    if task.labels is not None:
        points["label"] = ("point", task.labels)
    if plan.rows is not None:
        points["row"] = ("point", plan.rows)
    return (
        points
        | _names(plan)
        | {
            "round": plan.rounds,
            "agent": np.arange(task.agents),
            "layer": list(space.layers),
            "points_owned": ("agent", plan.task.counts),
        }
    )


def _names(plan: Plan) -> dict[str, tuple[str, list[str]]]:
    """What agents, and classes or outputs, are called, where they have names."""
    task, found = plan.task, {}
    agents = task.agent_names or plan.weights.names
    if not plain(agents):
        found["agent_name"] = ("agent", list(agents))
    if names := task.label_names:
        column = "output" if len(names) == task.targets.shape[1] else "class"
        found["class_name" if task.labels is not None else "output_name"] = (column, list(names))
    return found


def _attributes(plan: Plan, layout: Layout | None) -> dict[str, Any]:
    """What was run, for whoever finds the file."""
    return {
        "method": plan.method.name,
        "step_size": float(plan.method.step_size),
        "settings": json.dumps(plan.method.settings),
        "weights": plan.weights.name,
        **({"weights_adjusted": plan.weights.adjusted} if plan.weights.adjusted else {}),
        "spectral_gap": plan.weights.spectral_gap,
        "loss": plan.task.loss.name,
        "batch_size": -1 if plan.batch_size is None else plan.batch_size,
        "batch_seed": -1 if plan.system.batch_seed is None else plan.system.batch_seed,
        **_listed_batches(plan.system),
        "random_generator": precision.GENERATOR,
        **plan.task.about,
        "devices": len(layout.devices) if layout else 1,
        **environment(),
    }


def _listed_batches(system: System) -> dict[str, str]:
    """By what batches that were listed can be told from others."""
    if system.batches is None:
        return {}
    rows = system.batches.given.rows
    return {"batches": f"listed for {len(rows)} rounds, {identity({'rows': rows})['rows'][:16]}"}
