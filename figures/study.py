"""Study: a paper's claims, as linear theory predicts them and as training shows them."""

from __future__ import annotations

import textwrap

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ntkdyn.figures.style import DOUBLE, OKABE_ITO, SPACES, styled

NEEDS = (("effect", "mean", "low", "high", "status", "bar", "below"),)

COLOURS = {"predicted": SPACES["kernel"], "trained": SPACES["network"]}
STATUS = {"holds": OKABE_ITO[2], "contradicted": OKABE_ITO[5], "open": "#888888"}


def draw(record: xr.Dataset) -> Figure:
    """Per claim the mean effect over seeds with its 95 % interval, seeds as dots, and its bar."""
    record = record.sel(claim=np.isfinite(record["mean"]).any("side").values)
    units = list(dict.fromkeys(record["unit"].values.tolist()))
    counts = [int((record["unit"] == unit).sum()) for unit in units]
    with styled():
        figure = Figure(figsize=(DOUBLE, 0.9 * len(units) + 0.42 * sum(counts)))
        panels = figure.subplots(len(units), 1, squeeze=False, height_ratios=counts)[:, 0]
        for axes, unit in zip(panels, units, strict=True):
            _panel(axes, record.sel(claim=record["unit"] == unit), unit)
        handles = [
            axes.plot([], [], "o", color=colour, ms=4, label=side)[0]
            for side, colour in COLOURS.items()
        ]
        handles += axes.plot([], [], color="#888888", lw=0.8, ls="--", label="bar")
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
        return figure


def _panel(axes: Axes, record: xr.Dataset, unit: str) -> None:
    """The claims in one unit, the first on top."""
    names = record["claim"].values.tolist()
    for place, claim in enumerate(names):
        row = record.sel(claim=claim)
        for side, shift in (("predicted", 0.14), ("trained", -0.14)):
            _mark(axes, row.sel(side=side), -place + shift, COLOURS[side])
        edge = [float(row["bar"])] * 2
        axes.plot(edge, [-place - 0.4, -place + 0.4], color="#888888", lw=0.8, ls="--")
        status = str(row["status"].sel(side="trained").values)
        axes.annotate(
            status, (1.01, -place), xycoords=("axes fraction", "data"), va="center", fontsize=7,
            color=STATUS[status],
        )  # fmt: skip
    axes.set_yticks(-np.arange(len(names)), [textwrap.fill(name, 44) for name in names])
    axes.set_ylim(-len(names) + 0.5, 0.5)
    axes.set_xlabel({"points": "percentage points", "": "difference"}.get(unit, unit))


def _mark(axes: Axes, row: xr.Dataset, height: float, colour: str) -> None:
    mean, low, high = (float(row[each]) for each in ("mean", "low", "high"))
    effects = row["effect"].values
    axes.plot(effects, np.full(len(effects), height), ".", color=colour, ms=3, alpha=0.5, mew=0)
    if np.isfinite(mean):
        axes.plot(mean, height, "o", color=colour, ms=4, mew=0)
    if len(effects) > 2 and np.isfinite([low, high]).all():
        axes.plot([low, high], [height, height], color=colour, lw=1)
