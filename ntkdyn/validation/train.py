"""Training: a method run in NetworkSpace, on the real networks of all agents."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax

from ntkdyn.checkpoints import Checkpoints
from ntkdyn.dynamics.stability import assess, told
from ntkdyn.engine import Iteration, Progress
from ntkdyn.errors import check_kind, check_name
from ntkdyn.kernels.computing import in_bytes
from ntkdyn.memory import Sized, available, fit
from ntkdyn.methods import OfLimit
from ntkdyn.networks import Network
from ntkdyn.precision import double, float32, single, tensorfloat32
from ntkdyn.problems import Problem
from ntkdyn.progress import watched
from ntkdyn.records import Record
from ntkdyn.runs import Plan, check, iteration_of, own_kernels, plan, run
from ntkdyn.saving import SaveOptions
from ntkdyn.sharding import Layout, layout
from ntkdyn.spaces import Space
from ntkdyn.system import System, question

PRECISIONS = {
    "float32": float32,
    "float64": double,
    "tf32": tensorfloat32,
    "bfloat16": single,
}
"""name -> the context that networks are trained in"""


class Resources(NamedTuple):
    """What a run may use.

    Example:
        >>> few = nd.validation.Resources(memory="200 MB")
        >>> nd.train(prob, dgd, W, 4, resources=few).attrs["memory_budget"]
        200000000.0
    """

    devices: Sequence[jax.Device] | None = None
    """that share it; those of other processes too, if each makes the same call; None: one"""
    memory: int | float | str | None = None
    """of each device, in bytes or like "4 GB"; None: all that it has"""


@question("batch_size", "batch_seed", "batches", "stability")
@watched("training")
def train(
    system: System,
    rounds: int | Sequence[int],
    *,
    save: SaveOptions = SaveOptions(),
    progress: Progress | None = None,
    checkpoints: Checkpoints | None = None,
    precision: str = "float32",
    resources: Resources = Resources(),
) -> Record:
    """theta_i(t + 1) by the method's own step on the real networks, every agent from theta_0.

    Arguments as for `predict`, which draws the same batches. The record says whether the run is
    stable where that is known: from the system's `stability`, or because the step size is
    `of_limit(share)`, for which the system's kernel is computed, the empirical one where that is
    not formed. `checkpoints` save the run as it goes, and continue it bit for bit.
    `precision` is

        "float32"     of everything
        "float64"     the same
        "tf32"        of everything; products round their factors to 10 bits on NVIDIA's tensor
                      cores, and are float32 on any other device, a CPU for one
        "bfloat16"    of the networks' products and activations; parameters, outputs and whatever
                      the method does with them stay float32

    `resources` are the devices that share the agents, and the parameters of each where they are
    more (`sharding`), and what each may use. Where a round would take more, fewer points pass the
    networks at a time, and a gradient repeats their forward pass; the record says how many
    (`points_at_once`), and what was estimated (`memory_estimate`).

    Args:
        system: or problem, method, weights in its place, with `batch_size`,
            `batch_seed`, `batches` and `stability` by name.
        rounds: how many, or which are recorded, ascending.
        save: what the record holds.
        progress: called with (rounds done, rounds in all).
        checkpoints: where the run saves itself.
        precision: "float32", "float64", "tf32" or "bfloat16".
        resources: devices and memory.

    Returns:
        The variables of `predict`, observed; `bits_sent` and `floats_sent`, which are 32 bits
        each, (round, agent) beside them.

    Raises:
        InputError: for a budget too small for one point at a time, and devices that cannot share
            the work evenly.

    Example:
        >>> nd.train(prob, dgd, W, rounds=4).sizes["round"]
        5
    """
    check_name("precision", precision, PRECISIONS)
    check_kind("resources", resources, Resources, "as `validation.Resources()` gives")
    asked, problem, stability = plan(system, rounds, save), system.problem, told(system)
    if stability is None and isinstance(system.method.step_size, OfLimit):
        stability = assess(system.settling)
    if stability:
        asked = asked.by(stability.method)
    with PRECISIONS[precision]():
        spaces = _Spaces(problem, asked, resources.devices, rounded=precision == "bfloat16")
        given = resources.memory
        budget = available(spaces.layout) if given is None else in_bytes(given)
        sized = fit(spaces.iteration, budget, asked.rows)
        if checkpoints:
            _note(checkpoints, spaces.layout, precision, sized)
        record = run(
            asked,
            spaces.of(sized.points_at_once),
            origin=problem.origin,
            parameters_each=problem.parameters_each,
            kernels=own_kernels(problem),
            progress=progress,
            checkpoints=checkpoints,
            layout=spaces.layout,
        )
    known = stability.attributes() if stability else {}
    known |= sized.attributes()
    return record.assign_attrs(space="network", kernel="none", precision=precision, **known)


def _note(checkpoints: Checkpoints, shared: Layout | None, precision: str, sized: Sized) -> None:
    """What else must be the same when the run goes on."""
    checkpoints.note(
        {
            "precision": precision,
            "devices": len(shared.devices) if shared else 1,
            "points at once": sized.points_at_once or "all",
        }
    )


class _Spaces:
    """The networks' space by how many points pass at once (None: all), and how it is shared."""

    def __init__(
        self, problem: Problem, asked: Plan, devices: Sequence[jax.Device] | None, *, rounded: bool
    ) -> None:
        self._problem = _with(problem, lambda each: each.in_bfloat16) if rounded else problem
        self._asked = asked
        self._spaces = {None: self._problem.network_space(asked.method.view)}
        check(asked, self._spaces[None])
        self.layout = layout(devices, self._spaces[None])

    def of(self, points: int | None) -> Space:
        if points not in self._spaces:
            less = _with(self._problem, lambda each: each.at_most(points))
            self._spaces[points] = less.network_space(self._asked.method.view)
        return self._spaces[points]

    def iteration(self, points: int | None) -> Iteration:
        return iteration_of(self._asked, self.of(points), self.layout)


def _with(problem: Problem, change: Callable[[Network], Network]) -> Problem:
    """The problem with each of its networks changed, once where agents share one."""
    given, changed = problem.network, {each: change(each) for each in problem.networks}
    several = isinstance(given, Sequence)
    return dataclasses.replace(
        problem, network=[changed[each] for each in given] if several else changed[given]
    )
