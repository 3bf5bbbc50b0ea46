"""Consensus distance: how far each agent's parameters are from the mean of all, round by round."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure
from ntkdyn.figures.style import (
    COLUMN,
    agent_colours,
    key_of_agents,
    log_scale,
    marks,
    names_of_agents,
    styled,
)

NEEDS = (("consensus_distance", "round", "agent"), ("consensus_distance", "round", "agent"))


def draw(predicted: xr.Dataset, observed: xr.Dataset | None = None) -> Figure:
    """|theta_i - mean theta| per agent: lines, and marks where a second record was observed."""
    with styled():
        figure = Figure(figsize=(COLUMN, 2.5))
        axes = figure.subplots()
        colours = agent_colours(predicted.sizes["agent"])
        distance = predicted["consensus_distance"].where(lambda value: value > 0)
        for agent, colour in enumerate(colours):
            axes.plot(predicted["round"], distance.isel(agent=agent), color=colour)
            if observed is not None:
                seen = observed["consensus_distance"].where(lambda value: value > 0)
                marks(axes, observed["round"].values, seen.isel(agent=agent).values, agent, colours)
        log_scale(axes)
        axes.set_xlabel("round")
        axes.set_title("distance from the mean agent, in parameters")
        key_of_agents(axes, colours, names_of_agents(predicted))
        return figure
