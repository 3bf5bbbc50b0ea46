"""Curves: loss of the mean agent against rounds, floats sent and time, by method or topology."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from ntkdyn.figures import series
from ntkdyn.figures.style import DOUBLE, log_scale, styled

NEEDS = (("global_loss", "round", "agent"),)


def draw(sweep: xr.Dataset) -> Figure:
    """Mean over agents of the common objective, a curve per value of an axis.

    Bands hold all values of the other axes, seeds among them. Floats and seconds are drawn where
    the record has them; seconds are those on a network of 12.5 MB/s and 1 ms a message.
    """
    with styled():
        against = {"round": "round", "floats_sent": "floats sent, by all agents",
                   "seconds": "seconds on the network"}  # fmt: skip
        shown = [name for name in against if name in sweep.variables]
        figure = Figure(figsize=(DOUBLE * (0.2 + 0.8 * len(shown) / 3), 2.7))
        panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        loss = sweep["global_loss"].mean("agent")
        for axes, name in zip(panels, shown, strict=True):
            paid = list(series.curves(sweep, _paid(sweep, name), "round"))
            for curve, cost in zip(series.curves(sweep, loss, "round"), paid, strict=True):
                x = cost.middle
                series.plot(axes, curve, np.where(x > 0, x, np.nan))
            axes.set_xscale("log")
            log_scale(axes)
            axes.set_xlabel(against[name])
        panels[0].set_title("loss on all points, mean agent")
        series.key(figure, sweep, "round")
        return figure


def _paid(sweep: xr.Dataset, name: str) -> xr.DataArray:
    """By every setting, in every round."""
    if name == "round":
        return sweep["round"] + 0.0 * sweep["global_loss"].mean("agent").fillna(0)
    paid = sweep[name]
    return paid.sum("agent", min_count=1) if "agent" in paid.dims else paid
