"""Heat map: the worst agent's test accuracy, or the mean loss, over two settings."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ntkdyn.figures import series
from ntkdyn.figures.style import COLUMN, styled

from ntkdyn.errors import InputError

ROOM = 14
"""columns whose numbers are written in"""

NEEDS = (("round", "agent"),)


def draw(sweep: xr.Dataset) -> Figure:
    """In the last round, the best over all other settings; grey where nothing was run."""
    with styled():
        rows, columns = _two(sweep)
        best, title = _best(sweep, rows, columns)
        figure = Figure(figsize=(COLUMN, 1.2 + 0.28 * sweep.sizes[rows]))
        axes = figure.subplots()
        axes.set_facecolor("#dddddd")
        shown = axes.imshow(best.values, aspect="auto", cmap="viridis", origin="lower")
        _numbers(axes, best.values)
        every = -(-sweep.sizes[columns] // 6)
        axes.set_xticks(range(0, sweep.sizes[columns], every), _ticks(sweep, columns)[::every])
        axes.set_yticks(range(sweep.sizes[rows]), _ticks(sweep, rows))
        axes.set_xlabel(series.spoken(columns))
        axes.set_ylabel(series.spoken(rows))
        axes.set_title(title)
        figure.colorbar(shown, ax=axes)
        return figure


def _numbers(axes: Axes, values: np.ndarray) -> None:
    """In every field, where there is room for it."""
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value) and values.shape[1] <= ROOM:
            colour = "white" if value < middle else "black"
            look = {"ha": "center", "va": "center", "color": colour, "fontsize": 5.5}
            axes.text(column, row, f"{value:.3g}" if value < 10 else f"{value:.0f}", **look)


def _two(sweep: xr.Dataset) -> tuple[str, str]:
    """The axes of rows and columns: those with most values."""
    names = sorted(series.names(sweep), key=lambda name: -sweep.sizes[name])[:2]
    if len(names) < 2:
        raise InputError("figure heat_map: the record must have two axes")
    words = [name for name in names if sweep[name].dtype.kind not in "iuf"]
    rows = words[0] if words else names[1]
    return rows, next(name for name in names if name != rows)


def _best(sweep: xr.Dataset, rows: str, columns: str) -> tuple[xr.DataArray, str]:
    others = [name for name in series.names(sweep) if name not in (rows, columns)]
    if "test_accuracy" in sweep:
        seen = series.last(sweep["test_accuracy"].min("agent")).max(others)
        return 100 * seen.transpose(rows, columns), "test accuracy of the worst agent, %"
    if "train_loss" not in sweep:
        raise InputError("figure heat_map: the record must hold test_accuracy or train_loss")
    seen = series.last(sweep["train_loss"].mean("agent")).min(others)
    return seen.transpose(rows, columns), "training loss of the mean agent"


def _ticks(sweep: xr.Dataset, name: str) -> list[str]:
    return [f"{each:.2g}" if isinstance(each, float | int | np.number) else str(each)
            for each in sweep[name].values]  # fmt: skip
