"""Sweep: gaps, kernel drift and movement of the parameters along width, depth or step size."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator
from ntkdyn.figures.style import DOUBLE, KERNELS, SPACES, styled

NEEDS = (("gap", "kernel", "movement", "seed", "agent"),)

TITLES = {
    "deviation_gap": "deviation gap, share of the\ndeviation from the mean agent",
    "gap": "gap, share of the\ndistance travelled",
    "kernel_drift": "kernel drift,\nshare of its norm",
    "movement": "movement of the parameters,\nshare of their norm",
}


def draw(record: xr.Dataset) -> Figure:
    """Every run as a mark, and where slopes are known, their lines, on log-log axes."""
    with styled():
        shown = [name for name in TITLES if name in record]
        rows, columns = (1, len(shown)) if len(shown) < 4 else (2, 2)
        figure = Figure(figsize=(DOUBLE, 3.1 * rows))
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, name in zip(panels, shown, strict=True):
            for kernel, colour in _lines(record, name).items():
                _line(axes, record, name, kernel, colour)
            _scales(axes, record, TITLES[name])
        return figure


def slopes(record: xr.Dataset) -> dict[str, str]:
    """Measure (and kernel) -> its slope with the 95 % interval, in words."""
    return {
        f"{name} {kernel or ''}": f"{name.replace('_', ' ')}"
        f"{f' with the {kernel} kernel' if kernel else ''}: {_said(record, name, kernel)}"
        for name in TITLES
        if f"{name}_slope" in record
        for kernel in _lines(record, name)
    }


def _lines(record: xr.Dataset, name: str) -> dict[str | None, str]:
    """The kernels that a measure is known for, or None for its one line, with their colours."""
    if name in ("deviation_gap", "gap"):
        return {str(kernel): KERNELS[str(kernel)] for kernel in record["kernel"].values}
    return {None: SPACES["network"]}


def _of(values: xr.DataArray, kernel: str | None) -> xr.DataArray:
    return values if kernel is None else values.sel(kernel=kernel)


def _said(record: xr.Dataset, name: str, kernel: str | None) -> str:
    value, low, high = _of(record[f"{name}_slope"], kernel).values
    return f"slope {value:.2f} [{low:.2f}, {high:.2f}]"


def _line(axes: Axes, record: xr.Dataset, name: str, kernel: str | None, colour: str) -> None:
    along = record.attrs["along"]
    values = record[along].values.astype(float)
    means = _of(record[name], kernel).mean("agent").transpose(along, "seed").values
    marks = {"mfc": "white", "mec": colour, "mew": 0.8, "ms": 3.2}
    axes.plot(np.repeat(values, means.shape[1]), means.reshape(-1), "o", **marks)
    label = f"{kernel} kernel" if kernel else None
    if f"{name}_slope" in record:
        slope = float(_of(record[f"{name}_slope"], kernel).sel(estimate="value"))
        height = np.log(means).mean() - slope * np.log(values).mean()
        said = _said(record, name, kernel)
        label = f"{label}\n{said}" if label else said
        axes.plot(values, np.exp(height) * values**slope, color=colour, label=label)


def _scales(axes: Axes, record: xr.Dataset, title: str) -> None:
    along = record.attrs["along"]
    values = record[along].values
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g} %")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.margins(y=0.1)
    axes.set_xlabel(along.replace("_", " "))
    axes.set_title(title)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2))
