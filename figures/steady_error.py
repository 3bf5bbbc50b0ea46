"""Steady error: how far above the least seen the loss stays, against the step size."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure
from ntkdyn.figures import series
from ntkdyn.figures.style import COLUMN, log_scale, styled

NEEDS = (("global_loss", "round", "agent"),)


def draw(sweep: xr.Dataset) -> Figure:
    """Of the common objective in the last round, mean over agents, by method or another axis.

    The least is that of all settings and rounds, so that one curve may end at nothing.
    """
    with styled():
        figure = Figure(figsize=(COLUMN, 2.9))
        axes, step = figure.subplots(), series.axis(sweep, "step_size", "of_limit")
        loss = sweep["global_loss"].mean("agent")
        error = series.last(loss) - loss.min()
        error = error.where(error > 0)
        for curve in series.curves(sweep, error, step):
            series.plot(axes, curve, marks="o")
        axes.set_xscale("log")
        log_scale(axes)
        axes.set_xlabel(series.spoken(step))
        last = int(sweep["round"].values[-1])
        axes.set_title(f"loss above the least, after {last} rounds")
        series.key(figure, sweep, step)
        return figure
