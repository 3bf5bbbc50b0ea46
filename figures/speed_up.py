"""Speed-up: the loss in the last round against the number of agents, and a line like 1/agents."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ntkdyn.figures import series
from ntkdyn.figures.style import COLUMN, log_scale, styled

NEEDS = (("global_loss", "round", "agent"),)


def draw(sweep: xr.Dataset) -> Figure:
    """Of the mean agent, on test points, or where there are none, on the points of all."""
    with styled():
        figure = Figure(figsize=(COLUMN, 2.9))
        axes, agents = figure.subplots(), series.axis(sweep, "agents")
        measured = "test_loss" if "test_loss" in sweep else "global_loss"
        for curve in series.curves(sweep, series.last(sweep[measured].mean("agent")), agents):
            series.plot(axes, curve, marks="o")
        _linear(axes, curve)
        axes.set_xscale("log")
        axes.set_xticks(curve.x, [f"{each:g}" for each in curve.x])
        axes.minorticks_off()
        log_scale(axes)
        axes.set_xlabel(series.spoken(agents))
        on = "test points" if measured == "test_loss" else "all points"
        axes.set_title(f"loss on {on}, mean agent")
        series.key(figure, sweep, agents)
        return figure


def _linear(axes: Axes, curve: series.Curve) -> None:
    """What a linear speed-up would be, from the curve's first value on."""
    line = curve.middle[0] * curve.x[0] / curve.x
    axes.plot(curve.x, line, color="#888888", lw=0.8, ls=":")
    axes.text(curve.x[-1], line[-1], "1/agents", color="#666666", size=7, ha="right", va="bottom")
