"""Trajectories: parameters as predicted, and as observed, marked on them, agent by agent."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from ntkdyn.figures.style import DOUBLE, agent_colours, key_of_agents, names_of_agents, styled

NEEDS = (("parameters", "parameter_round", "parameter_agent"),) * 2

SHOWN = 3
"""parameters that are shown: those that move most"""


def draw(predicted: xr.Dataset, observed: xr.Dataset) -> Figure:
    """Change since the first kept round, of the kept parameters that move most."""
    with styled():
        figure = Figure(figsize=(DOUBLE, 2.6))
        line, marks = (
            each["parameters"] - each["parameters"].isel(parameter_round=0)
            for each in (predicted, observed)
        )
        reach = np.abs(line).max(("parameter_round", "parameter_agent"))
        most = np.argsort(-reach.values, kind="stable")[:SHOWN]
        agents = predicted["parameter_agent"].values
        colours = [agent_colours(predicted.sizes["agent"])[agent] for agent in agents]
        panels = figure.subplots(1, len(most), squeeze=False)[0]
        for axes, place in zip(panels, most, strict=True):
            for number, colour in enumerate(colours):
                at = {"parameter": place, "parameter_agent": number}
                axes.plot(line["parameter_round"], line.isel(at), color=colour)
                axes.plot(
                    marks["parameter_round"], marks.isel(at), ls="none", marker="o", ms=3.2,
                    mfc="white", mec=colour, mew=0.8,
                )  # fmt: skip
            axes.set_xlabel("round")
            axes.set_title(f"change of kept parameter {place}")
        names = [names_of_agents(predicted)[agent] for agent in agents]
        key_of_agents(panels[0], colours, names)
        return figure
