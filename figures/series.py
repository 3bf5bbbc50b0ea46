"""Curves of a sweep: one per value of an axis, in the mean over all others, with their range.

A sweep's record (`ntkdyn sweep`, `ntkdyn design`) has a dimension for each setting that was varied;
its attribute `axes` names them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ntkdyn.figures.style import METHODS, OKABE_ITO, method_name

from ntkdyn.errors import InputError

MOST = 8
"""curves that are told apart"""


class Curve(NamedTuple):
    """Values along x: their mean over what else was varied, seeds above all, and their range."""

    label: str
    colour: str
    x: np.ndarray
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray


def names(record: xr.Dataset) -> list[str]:
    """The settings that were varied."""
    return [name for name in str(record.attrs.get("axes", "")).split("; ") if name in record.dims]


def axis(record: xr.Dataset, *endings: str) -> str:
    """The axis of numbers whose name ends so."""
    for name in names(record):
        first = name.split("+")[0]
        if first.endswith(endings) and record[name].dtype.kind in "iuf":
            return name
    raise InputError(
        f"figure: the record must have an axis of numbers, {' or '.join(endings)}; it has "
        f"{', '.join(names(record)) or 'none'}"
    )


def apart(record: xr.Dataset, *taken: str) -> str | None:
    """The axis with a curve for each value: the first but seeds and those taken."""
    others = [name for name in names(record) if name not in taken and not name.endswith("seed")]
    few = [name for name in others if 1 < record.sizes[name] <= MOST]
    words = [name for name in few if record[name].dtype.kind not in "iuf"]
    return next(iter([*words, *few]), None)


def curves(record: xr.Dataset, values: xr.DataArray, x: str) -> Iterator[Curve]:
    """One for each value of the axis that is told apart, or a single one."""
    by = apart(record, x)
    if by is None or by not in values.dims:
        yield _curve("", OKABE_ITO[0], values, x)
        return
    shades = matplotlib.colormaps["viridis"](np.linspace(0.05, 0.85, record.sizes[by]))
    ordered = record[by].dtype.kind in "iuf"
    for number, each in enumerate(record[by].values):
        colour = matplotlib.colors.to_hex(shades[number]) if ordered else OKABE_ITO[number]
        yield _curve(_label(each), METHODS.get(str(each), colour), values.isel({by: number}), x)


def _label(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float | np.number) else method_name(str(value))


def _curve(label: str, colour: str, values: xr.DataArray, x: str) -> Curve:
    others = [name for name in values.dims if name != x]
    along = values[x].values
    parts = (values.mean(others), values.min(others), values.max(others))
    return Curve(label, colour, along, *(part.values for part in parts))


def plot(axes: Axes, curve: Curve, x: np.ndarray | None = None, marks: str = "") -> None:
    """The curve, over another x if it is given."""
    x = curve.x if x is None else x
    axes.plot(x, curve.middle, color=curve.colour, label=curve.label, marker=marks, ms=3)
    if (curve.high > curve.low).any():
        axes.fill_between(x, curve.low, curve.high, color=curve.colour, alpha=0.15, lw=0)


LETTERS = 18
"""of the key, on an inch"""


def key(figure: Figure, record: xr.Dataset, *taken: str) -> None:
    """Which colour is which, below the axes."""
    by = apart(record, *taken)
    if by is not None:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        fitting = int(LETTERS * figure.get_figwidth()) // (5 + max(map(len, labels)))
        figure.legend(
            handles, labels, loc="outside lower center", ncols=max(1, min(4, fitting, len(labels))),
            title=spoken(by), title_fontsize=7,
        )  # fmt: skip


def spoken(name: str) -> str:
    """An axis in words, by the first of its settings."""
    name = name.split("+")[0]
    if name.endswith("of_limit"):
        return "step size, share of the limit"
    if name.endswith(".name"):
        return name.split(".")[-2]
    last = name.rsplit(".", 1)[-1].replace("_", " ")
    return {"agents": "number of agents", "alpha": "α (small: unequal shares)"}.get(last, last)


def last(values: xr.DataArray) -> xr.DataArray:
    """In the last round that each setting was followed to."""
    place = values.notnull().cumsum("round").argmax("round")
    return values.isel(round=place).drop_vars("round")
