"""Learning curve: expected test losses without data, their parts, and means over draws."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ntkdyn.figures.style import DOUBLE, OKABE_ITO, agent_colours, log_scale, styled

NEEDS = (
    ("test_loss", "bias", "sampling", "label_noise", "graph_cost", "round", "agent"),
    ("test_loss", "round", "agent"),
)

PARTS = {"bias": OKABE_ITO[4], "sampling": OKABE_ITO[1], "label_noise": OKABE_ITO[3]}


def draw(curve: xr.Dataset, drawn: xr.Dataset | None = None) -> Figure:
    """Every agent's loss over rounds, and the parts of its mean over agents.

    Reads what `theory.learning_curve` returns, without its limits; `drawn` holds `test_loss`
    (round, agent) of real runs, or (draw, round, agent), of which the mean is marked.
    """
    curve = curve.isel(round=np.isfinite(curve["round"].values) & (curve["round"].values > 0))
    with styled():
        figure = Figure(figsize=(DOUBLE, 2.9))
        left, right = figure.subplots(1, 2)
        _agents(left, curve, drawn)
        _parts(right, curve)
        for axes in (left, right):
            axes.set_xscale("log")
            axes.set_xlabel("round")
        return figure


def _agents(axes: Axes, curve: xr.Dataset, drawn: xr.Dataset | None) -> None:
    losses = curve["test_loss"].transpose("agent", "round").values
    points = curve["points"].values if "points" in curve else [None] * len(losses)
    for agent, colour in enumerate(agent_colours(len(losses))):
        label = None if points[agent] is None else f"{points[agent]} points"
        axes.plot(curve["round"], losses[agent], color=colour, label=label)
        if drawn is not None:
            seen = drawn["test_loss"].isel(agent=agent, round=drawn["round"].values > 0)
            seen = seen.mean("draw") if "draw" in seen.dims else seen
            axes.plot(seen["round"], seen, "o", ms=3, color=colour, mec="white", mew=0.4)
    log_scale(axes)
    axes.set_title("test loss of every agent" + ("; dots: drawn" if drawn is not None else ""))
    if points[0] is not None:
        axes.legend(ncols=2)


def _parts(axes: Axes, curve: xr.Dataset) -> None:
    parts = [curve[name].mean("agent").values for name in PARTS]
    names = [name.replace("_", " ") for name in PARTS]
    axes.stackplot(curve["round"].values, parts, labels=names, colors=PARTS.values(), alpha=0.7)
    cost = curve["graph_cost"].mean("agent")
    axes.plot(curve["round"], cost, color=OKABE_ITO[7], label="cost of the graph")
    axes.set_title("its parts, mean over agents")
    axes.legend()
