"""Pareto: how good every setting of a design gets, and at what cost; the front marked."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from ntkdyn.figures import series
from ntkdyn.figures.style import COLUMN, OKABE_ITO, styled

NEEDS = (("best_seen", "cost_to_best", "front"),)


def draw(design: xr.Dataset) -> Figure:
    """Best of the measure against the cost up to there, by an axis; the line is the front."""
    with styled():
        figure = Figure(figsize=(COLUMN, 2.9))
        axes, by = figure.subplots(), series.apart(design)
        values = [None] if by is None else design[by].values
        for number, value in enumerate(values):
            some = design if value is None else design.isel({by: number})
            axes.plot(
                some["cost_to_best"].values.ravel(), some["best_seen"].values.ravel(), "o", ms=3,
                color=OKABE_ITO[number], alpha=0.6, mew=0,
                label="" if value is None else str(value),
            )  # fmt: skip
        front = design["front"].values.ravel().astype(bool)
        x, y = (design[name].values.ravel()[front] for name in ("cost_to_best", "best_seen"))
        order = np.argsort(x)
        axes.plot(x[order], y[order], color="#222222", lw=0.8, drawstyle="steps-post", zorder=0)
        axes.set_xscale("log")
        axes.set_xlabel(f"{design.attrs.get('cost', 'cost')} until the best is seen")
        axes.set_title(_title(design))
        series.key(figure, design)
        return figure


def _title(design: xr.Dataset) -> str:
    words = str(design.attrs.get("reach", "best seen")).split()
    return " ".join(words[:2]).replace("_", " ")
