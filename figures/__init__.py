"""Figures: one per file, drawn from records alone.

Every module of `FIGURES` says in its first line what it shows, in `NEEDS` which variables and
dimensions it reads from its records, and offers `draw(record, ...)`. An argument with a default
may be left out; one with a star takes any number of records.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import xarray as xr
from matplotlib.figure import Figure
from ntkdyn.figures import (
    accounting,
    animation,
    bands,
    bias,
    bounds,
    claim,
    common_minimum,
    confirmed,
    consensus,
    curves,
    errors_on_graph,
    heat_map,
    heterogeneity,
    kernel_map,
    learning_curve,
    overlay,
    pareto,
    price,
    profit,
    rates,
    samples,
    spectrum,
    speed_up,
    split,
    stability_map,
    steady_error,
    steps,
    stopping,
    study,
    style,
    sweep,
    tradeoff,
    trajectories,
    width,
)

from ntkdyn.errors import InputError, check_kind, check_name, public

FIGURES: dict[str, ModuleType] = {
    module.__name__.rsplit(".")[-1]: module
    for module in (
        overlay, width, sweep, consensus, errors_on_graph, kernel_map, spectrum, stability_map,
        bias, bands, bounds, tradeoff, common_minimum, accounting, learning_curve, samples,
        stopping, split, profit, steps, price, claim,
        curves, heterogeneity, rates, speed_up, steady_error, heat_map, pareto, confirmed,
        trajectories, animation, study,
    )
}  # fmt: skip

__all__ = [
    "FIGURES",
    "accounting",
    "draw",
    "ending",
    "overlay",
    "style",
    "summary",
    "sweep",
    "width",
    "write",
]

__getattr__, __dir__ = public(__name__, __all__)


def summary(name: str) -> str:
    """What the figure shows, in one line."""
    return inspect.getdoc(FIGURES[name]).splitlines()[0]


def draw(name: str, records: Sequence[xr.Dataset]) -> Figure | style.Animation:
    """The named figure of these records, in the order in which its `draw` takes them."""
    check_name("figure", name, FIGURES)
    module = FIGURES[name]
    _check_count(name, inspect.signature(module.draw).parameters, len(records))
    for number, record in enumerate(records):
        check_kind(f"record {number + 1}", record, xr.Dataset, "as `records.read` gives")
        needed = module.NEEDS[min(number, len(module.NEEDS) - 1)]
        held = {*record.variables, *record.dims}
        missing = [variable for variable in needed if variable not in held]
        if missing:
            raise InputError(
                f"figure {name}: record {number + 1} must hold {', '.join(needed)}; "
                f"it lacks {', '.join(missing)}"
            )
    return module.draw(*records)


def write(drawn: Figure | style.Animation, path: str | Path) -> Path:
    """Write a figure as .pdf, .svg or .png, and an animation as .gif or .mp4."""
    path = Path(path)
    if isinstance(drawn, style.Animation):
        return style.save_animation(drawn, path)
    ending = path.suffix.removeprefix(".")
    if ending not in style.FORMATS:
        raise InputError(
            f"figure: the file must end in {', '.join('.' + e for e in style.FORMATS)}, got "
            f"{path.name}"
        )
    return style.save(drawn, path, formats=(ending,))[0]


def ending(drawn: Figure | style.Animation) -> str:
    """What the name of its file ends in, unless told otherwise."""
    return ".gif" if isinstance(drawn, style.Animation) else ".pdf"


def _check_count(name: str, parameters: Sequence[inspect.Parameter], given: int) -> None:
    kinds = [parameter.kind for parameter in parameters.values()]
    least = sum(p.default is p.empty for p in parameters.values())
    most = None if inspect.Parameter.VAR_POSITIONAL in kinds else len(parameters)
    if given < least or (most is not None and given > most):
        raise InputError(
            f"figure {name}: takes {'any number of records' if most is None else 'records for'} "
            f"{', '.join(parameters)}, got {given}"
        )
