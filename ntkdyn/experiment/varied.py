"""A spec with another width, depth or step size, and its runs with several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ntkdyn.checkpoints import flat
from ntkdyn.engine import Progress
from ntkdyn.errors import InputError, unknown
from ntkdyn.experiment.spec import ShareOfLimit, Spec
from ntkdyn.experiment.work import Experiment
from ntkdyn.records import Record
from ntkdyn.system import System
from ntkdyn.validation import widths as sweeps


def _with_widths(spec: Spec, widths: list[int]) -> Spec:
    """The spec with those hidden layers; scales per layer keep the readout's for the readout."""
    if spec.network.widths is None:
        raise InputError(
            "sweep: the network has no widths to change, as a model of one's own and published "
            "architectures have none"
        )
    table, layers = spec.network, len(spec.network.widths)
    scales = {name: getattr(table, name) for name in ("w_std", "b_std")}
    if len(widths) != layers:
        scales = {
            name: [*[scale[0]] * len(widths), scale[-1]] if isinstance(scale, list) else scale
            for name, scale in scales.items()
        }
    changed = {"widths": widths, **scales}
    return spec.model_copy(update={"network": table.model_copy(update=changed)})


def _with_step_size(spec: Spec, value: float) -> Spec:
    share = isinstance(spec.method.step_size, ShareOfLimit)
    changed = {"step_size": ShareOfLimit(of_limit=value) if share else value}
    return spec.model_copy(update={"method": spec.method.model_copy(update=changed)})


VARIED: dict[str, Callable[[Spec, Any], Spec]] = {
    "width": lambda spec, width: _with_widths(spec, [width] * len(spec.network.widths or ())),
    "depth": lambda spec, depth: _with_widths(spec, (spec.network.widths or [0])[:1] * depth),
    "step_size": _with_step_size,
}
"""what a sweep may go along -> the spec at one value of it"""


class Unfinished(NamedTuple):
    """Where the runs of a sweep are kept that are done, until all are.

    Example:
        >>> import pathlib
        >>> experiment.Unfinished(pathlib.Path("sweep.parts")).resume
        False
    """

    path: Path
    resume: bool = False
    """whether those that are there are taken"""


def sweep(
    work: Experiment,
    along: str,
    values: Sequence[float | int],
    seeds: Sequence[int],
    *,
    kernels: Sequence[str] = sweeps.KERNELS,
    progress: Progress | None = None,
    unfinished: Unfinished | None = None,
) -> Record:
    """The spec's run with another width, depth or step size, from several starts.

    Points and their owners stay; a step size is a share of the limit if the spec's is.

    Args:
        work: the spec at work.
        along: "width", "depth" or "step_size".
        values: that it takes.
        seeds: of the networks' starts.
        kernels: what each is predicted with, "empirical", "infinite" or both.
        progress: called with how many runs are done, and how many there are.
        unfinished: where those that are done are kept.

    Returns:
        What `validation.widths.sweep` gives.

    Raises:
        InputError: for another `along`, and values or seeds that cannot be taken.

    Example:
        >>> experiment.sweep(work, "width", [8, 16], [0], kernels=["empirical"]).sizes["width"]
        2
    """
    if along not in VARIED:
        raise unknown("sweep", along, VARIED)
    sweeps.check(along, values, seeds, kernels)
    spec = work.spec
    asked = {"along": along, "values": values, "starts": list(seeds), "with": [*kernels]}
    asked |= flat(spec.model_dump())
    kept = unfinished and sweeps.Kept(unfinished.path, resume=unfinished.resume, settings=asked)
    varied = {value: Experiment(VARIED[along](spec, value), work.data_dir) for value in values}

    def case(value: float | int, seed: int) -> System:
        other = varied[value]
        network = work.network if other.spec.network == spec.network else other.network
        return work.system.with_(problem=work.problem_with(network, seed), method=other.method)

    record = sweeps.sweep(
        case,
        work.rounds,
        along=along,
        values=values,
        seeds=seeds,
        kernels=kernels,
        precision=spec.run.precision,
        progress=progress,
        kept=kept,
    )
    return record.assign_attrs(title=spec.title, seed=spec.seed, spec=spec.text())
