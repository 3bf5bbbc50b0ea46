"""Rates: by what factor the training loss falls per round in the end, against the step size."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from ntkdyn.figures import series
from ntkdyn.figures.style import COLUMN, styled

NEEDS = (("train_loss", "round", "agent"),)

LATE = 0.5
"""from this share of the rounds on"""


def draw(sweep: xr.Dataset) -> Figure:
    """A curve per topology, or another axis; above the line at one, or cut, a setting diverges."""
    with styled():
        figure = Figure(figsize=(COLUMN, 2.9))
        axes, step = figure.subplots(), series.axis(sweep, "step_size", "of_limit")
        for curve in series.curves(sweep, rate(sweep), step):
            series.plot(axes, curve, marks="o")
        low = axes.get_ylim()[0]
        if low < 1:
            axes.set_ylim(top=min(axes.get_ylim()[1], 1 + 0.5 * (1 - low)))
        axes.axhline(1, color="#888888", lw=0.6, ls=":")
        axes.set_xlabel(series.spoken(step))
        axes.set_title("factor of the loss per round, late")
        series.key(figure, sweep, step)
        return figure


def rate(sweep: xr.Dataset) -> xr.DataArray:
    """The geometric mean over the later rounds, of the mean agent's training loss."""
    loss = sweep["train_loss"].mean("agent")
    rounds = loss["round"].values
    first = int(np.searchsorted(rounds, LATE * rounds[-1]))
    first = min(first, len(rounds) - 2)
    span = float(rounds[-1] - rounds[first])
    return (loss.isel(round=-1) / loss.isel(round=first)) ** (1 / span)
