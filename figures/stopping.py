"""Stopping: every agent's expected test loss, and the round in which it is least."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure
from ntkdyn.figures.style import COLUMN, agent_colours, log_scale, styled

NEEDS = (("test_loss", "best_round", "best_loss", "round", "agent"),)


def draw(record: xr.Dataset) -> Figure:
    """Lines by agent; a disc where to stop."""
    record = record.isel(round=record["round"].values > 0)
    losses = record["test_loss"].transpose("agent", "round").values
    with styled():
        figure = Figure(figsize=(COLUMN, 2.9))
        axes = figure.subplots()
        for agent, colour in enumerate(agent_colours(len(losses))):
            one = record.isel(agent=agent)
            points = f"{one['points'].item()} points, " if "points" in one else ""
            label = f"{points}round {one['best_round'].item()}"
            axes.plot(record["round"], losses[agent], color=colour)
            axes.plot(one["best_round"], one["best_loss"], "o", ms=4, color=colour, label=label)
        axes.set_xscale("log")
        log_scale(axes)
        axes.set_xlabel("round")
        axes.set_title("test loss of every agent, and where to stop")
        axes.legend(fontsize=6)
        return figure
