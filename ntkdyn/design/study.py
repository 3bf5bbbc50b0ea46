"""A spec varied along axes, predicted, as one record with a dimension for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tomli_w
import xarray as xr

from ntkdyn.design.axes import Axis, check_apart, checked, settings, told
from ntkdyn.design.bulk import Measured, predict_many
from ntkdyn.engine import Progress
from ntkdyn.errors import InputError
from ntkdyn.experiment import Experiment, Spec, parse
from ntkdyn.quantities import described
from ntkdyn.records import Record, environment
from ntkdyn.runs import recorded_rounds
from ntkdyn.system import System
from ntkdyn.validation import train

SHARED = {"network", "data", "loss", "kernel", "seed"}
"""what of a spec makes the kernel"""


def predicted(
    base: Experiment,
    axes: Sequence[Axis],
    rounds: Sequence[int] | None = None,
    *,
    progress: Progress | None = None,
) -> Record:
    """Losses and accuracies (axes..., round, agent) of the spec with every setting along the axes.

    In the rounds that are given, or those of the spec.
    Predictions are those around the start, whatever the spec says of anchors. `floats_sent` is what
    each agent has sent by then. A setting with which the spec cannot be run is NaN, and `left_out`
    says why of the first; where none can be run, that is the refusal. Where there are fewer agents
    than elsewhere, those that are lacking are NaN.
    """
    axes = [checked(each) for each in axes]
    count, run = check_apart(axes), base.spec.run
    rounds = recorded_rounds(run.rounds, run.record_every) if rounds is None else list(rounds)
    found, refused = _systems(base, axes)
    if not found:
        raise InputError(next(iter(refused.values())))
    seen = predict_many([*found.values()], rounds, progress=progress)
    shape = tuple(len(each.values) for each in axes)
    record = _table(dict(zip(found, seen, strict=True)), shape, count)
    dims = [each.name for each in axes]
    variables = {name: ((*dims, "round", "agent"), values) for name, values in record.items()}
    places = {each.name: each.ticks for each in axes} | {"round": rounds}
    why = next((f"{told(axes, place)}: {said}" for place, said in refused.items()), "")
    attributes = {
        "title": base.spec.title, "spec": base.spec.text(), "axes": "; ".join(dims),
        "settings": count, "settings_left_out": len(refused), "left_out": why,
    }  # fmt: skip
    return described(xr.Dataset(variables, places, attributes | environment()))


def of_place(base: Spec, axes: Sequence[Axis], place: int) -> Spec:
    """The spec of a setting by its number, the last axis changing fastest."""
    return varied(base, [*settings(axes)][place])


def varied(spec: Spec, changes: dict[str, Any]) -> Spec:
    """The spec with other values at these paths, checked."""
    held = spec.model_dump(exclude_unset=True)
    for path, value in changes.items():
        *tables, last = path.split(".")
        table = held
        for name in tables:
            inner = table.get(name)
            table[name] = table = dict(inner) if isinstance(inner, dict) else {}
        table[last] = [*value] if isinstance(value, tuple) else value
    return parse(tomli_w.dumps(held), "over").in_folder(spec._folder)


def _systems(base: Experiment, axes: Sequence[Axis]) -> tuple[dict[int, System], dict[int, str]]:
    """Place -> system, and of those that cannot be run the reason."""
    found, refused, kept = {}, {}, {}
    for place, changes in enumerate(settings(axes)):
        try:
            work = Experiment(varied(base.spec, changes), base.data_dir)
            found[place] = _sharing(work, kept)
        except InputError as reason:
            refused[place] = str(reason)
    return found, refused


def _sharing(work: Experiment, kept: dict[str, Any]) -> System:
    """The spec's system, its problem that of others with the same kernel, and their owners."""
    kernel = repr(work.spec.model_dump(include=SHARED))
    dealt = kernel + repr(work.spec.model_dump(include={"partition"}))
    if kernel not in kept:
        kept[kernel] = kept[dealt] = work.problem
    elif dealt not in kept:
        kept[kernel].kernel(work.spec.kernel)
        kept[dealt] = kept[kernel].dealt(work.partition)
    vars(work)["problem"] = kept[dealt]
    return work.system


def _table(seen: dict[int, Measured], shape: tuple[int, ...], count: int) -> dict[str, np.ndarray]:
    """Name -> (axes..., rounds, agents), NaN where there is none."""
    names = sorted({name for each in seen.values() for name in each})
    size = np.max([values.shape for each in seen.values() for values in each.values()], axis=0)
    whole = {name: np.full((count, *size), np.nan) for name in names}
    for place, each in seen.items():
        for name, values in each.items():
            whole[name][place, :, : values.shape[1]] = values
    return {name: values.reshape(*shape, *size) for name, values in whole.items()}


def confirmed(
    base: Experiment,
    axes: Sequence[Axis],
    places: Sequence[int],
    rounds: Sequence[int],
    *,
    progress: Progress | None = None,
) -> Record:
    """The settings of these numbers trained: what `predicted` has, with the dimension `setting`."""
    found: dict[int, Measured] = {}
    for number, place in enumerate(places):
        work = Experiment(of_place(base.spec, axes, place), base.data_dir)
        seen = train(work.settled, rounds)
        by_agent = {n: each.values for n, each in seen.items() if each.dims == ("round", "agent")}
        found[number] = {str(name): values for name, values in by_agent.items()}
        if progress:
            progress(number + 1, len(places))
    tables = _table(found, (len(places),), len(places))
    variables = {name: (("setting", "round", "agent"), values) for name, values in tables.items()}
    return xr.Dataset(variables, {"setting": list(places), "round": list(rounds)})
