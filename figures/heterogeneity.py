"""Heterogeneity: test accuracy in the last round against alpha, worst and mean agent."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from ntkdyn.figures import series
from ntkdyn.figures.style import COLUMN, styled

NEEDS = (("test_accuracy", "round", "agent"),)


def draw(sweep: xr.Dataset) -> Figure:
    """A curve per value of another axis: the mean agent drawn through, the worst one dashed."""
    with styled():
        figure = Figure(figsize=(COLUMN, 2.9))
        axes, alpha = figure.subplots(), series.axis(sweep, "alpha")
        seen = sweep["test_accuracy"]
        worst = series.curves(sweep, series.last(seen.min("agent")), alpha)
        for curve in series.curves(sweep, series.last(seen.mean("agent")), alpha):
            series.plot(axes, curve, marks="o")
            low = next(worst)
            axes.plot(low.x, low.middle, color=low.colour, ls="--", marker="o", ms=2)
        axes.set_xscale("log")
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.set_xlabel(series.spoken(alpha))
        axes.set_title("test accuracy, mean agent (- -: the worst)")
        series.key(figure, sweep, alpha)
        return figure
