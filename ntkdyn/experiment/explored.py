"""What a page of a spec's run carries: the problem in few coordinates, and what was observed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from ntkdyn import dynamics, graphs, methods
from ntkdyn.dynamics.reduced import reduced, uncoupled
from ntkdyn.errors import InputError
from ntkdyn.experiment.work import Experiment
from ntkdyn.linear import Given, Kernel
from ntkdyn.problems import Problem
from ntkdyn.records import Record
from ntkdyn.system import System

PRODUCTS = 1e7
"""multiplications of a page's answer: about 20 ms of a browser, and drawing takes as long again"""

MEASURED = 40
"""rounds in which a page measures losses, which costs as much as a round"""

COORDINATES = 4, 48
"""the fewest and the most that a page carries"""

METHODS = "dgd", "cta", "atc", "diging", "extra", "exact_diffusion"
"""those that pages compute"""

MADE_FOR = (
    ("dgd", "complete", 1.0),
    ("dgd", "path", 0.5),
    ("atc", "star", 1.0),
    ("extra", "ring", 0.5),
)
"""method, graph, share of the run's step size: what coordinates are made for besides the run"""

HELD_OUT = ("dgd", "star", 0.7), ("atc", "ring", 0.4), ("diging", "complete", 0.3)
"""what they are not made for, and their error measured on"""

STABLE = 0.8
"""of the limit, where the run's step size is above it on another graph"""


def explored(work: Experiment, observed: Record | None = None) -> Record:
    """The spec's problem in as many coordinates as a page can follow while it is dragged.

    Args:
        work: an experiment with the squared error, one graph, no links, all points in each round.
        observed: what was observed of it, to be laid over.

    Returns:
        What `dynamics.reduced` gives, and weight (agent, other_agent); deal_number and deal_order
        (train_point), by which points are dealt anew; observed_global, observed_train and
        observed_test (observed_round, agent), where they were.

    Raises:
        InputError: for a run that such a page cannot show.

    Example:
        >>> experiment.explored(work)["weight"].shape
        (3, 3)
    """
    _check(work)
    seen = {} if observed is None else _observed(work, observed)
    system, spec = work.settled, work.spec
    task, rounds = system.task, work.rounds
    runs, others = _runs(system)
    size = math.isqrt(int(PRODUCTS / (task.agents * task.targets.shape[1] * (rounds + MEASURED))))
    low, high = COORDINATES
    record = reduced(runs, rounds, min(max(size, low), high, task.train), others)
    numbers, order = _deal(task.train)
    record["weight"] = (("agent", "other_agent"), system.weights.rounds[0].matrix)
    record["deal_number"], record["deal_order"] = ("train_point", numbers), ("train_point", order)
    return record.assign(seen).assign_attrs(
        title=spec.title,
        spec=spec.text(),
        method=system.method.name,
        step_size=float(system.method.step_size),
        rounds=rounds,
        weights=system.weights.name,
        about=f"{system.problem.name}: {task.train} training points among {task.agents} agents, "
        f"{task.targets.shape[1]} outputs, the {record.attrs['kernel_name']} kernel.",
    )


def _check(work: Experiment) -> None:
    spec = work.spec
    table = spec.method
    for odd, known in (
        (spec.loss != "mse", f"the loss mse, not {spec.loss}"),
        (bool(spec.link), "messages that arrive as they are, no [[link]]"),
        (spec.graph.changes is not None, "a graph that stays"),
        (spec.run.batch_size is not None, "all points in each round, no batch_size"),
        (bool(spec.data.public), "no public points"),
        (spec.network.own_starts, "one start for all agents"),
        (spec.kernel == "implicit", 'a kernel that is formed, not "implicit"'),
        (table.name not in METHODS, f"{', '.join(METHODS)}, not {table.name}"),
        (table.by_agent or table.schedule or table.agent_weights or table.weight_decay
         or table.clip is not None,
         "one step size for all agents and rounds, no weight decay and whole gradients"),
    ):  # fmt: skip
        if odd:
            raise InputError(f"explore: a page can show {known}")


def _runs(system: System) -> tuple[list[System], list[System]]:
    """The systems that coordinates are made for, the given one first, and those held out."""
    plain = Kernel(uncoupled(system.matrix), {}, system.matrix.name)
    base = system.with_(kernel=Given(plain))
    made = [system, *_varied(base, MADE_FOR)]
    if isinstance(base.problem, Problem):
        made.append(base.with_(problem=_dealt(base.problem)))
    return made, list(_varied(base, HELD_OUT))


def _varied(system: System, wanted: tuple[tuple[str, str, float], ...]) -> Iterator[System]:
    agents, step = system.task.agents, float(system.method.step_size)
    for method, topology, share in wanted:
        weights = graphs.metropolis(graphs.TOPOLOGIES[topology](agents))
        make = methods.METHODS[method]
        varied = system.with_(method=make(step_size=step * share), weights=weights)
        limit = dynamics.step_size_limit(varied)
        yield varied.with_(method=make(step_size=min(step * share, STABLE * limit)))


def _deal(points: int) -> tuple[np.ndarray, np.ndarray]:
    """A number in [0, 1) and a place in the order for every point, the same for each page."""
    rng = np.random.default_rng(0)
    return rng.random(points), rng.permutation(points)


def _dealt(problem: Problem) -> Problem:
    """All points dealt anew, each agent keeping as many as it had."""
    _, order = _deal(problem.task.train)
    owner = problem.partition.owner[np.argsort(order)]
    return problem.dealt(dataclasses.replace(problem.partition, owner=owner))


def _observed(work: Experiment, observed: Record) -> dict[str, tuple]:
    if observed.attrs.get("space") != "network" or "global_loss" not in observed:
        raise InputError("explore: what was observed must be a record that `ntkdyn train` wrote")
    if observed.attrs.get("spec") != work.spec.text():
        raise InputError("explore: the record observed is of another spec")
    found = {
        f"observed_{name}": (("observed_round", "agent"), observed[f"{name}_loss"].values)
        for name in ("global", "train", "test")
        if f"{name}_loss" in observed
    }
    return found | {"observed_round": observed["round"].values}
