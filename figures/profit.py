"""Profit: from how many agents' points every agent profits on its graph."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from ntkdyn.figures.style import COLUMN, OKABE_ITO, agent_colours, styled

NEEDS = (("effective_agents", "agent"),)


def draw(record: xr.Dataset) -> Figure:
    """One bar per agent; dashed, all agents."""
    agents = record.sizes["agent"]
    with styled():
        figure = Figure(figsize=(COLUMN, 2.9))
        axes = figure.subplots()
        axes.bar(np.arange(agents), record["effective_agents"], color=agent_colours(agents))
        axes.axhline(agents, ls="--", color=OKABE_ITO[7], lw=0.8, label=f"all {agents}")
        axes.axhline(1, ls=":", color=OKABE_ITO[7], lw=0.8, label="itself alone")
        axes.set_xticks(np.arange(agents))
        axes.set_xlabel("agent")
        axes.set_ylim(0, 1.3 * max(agents, float(record["effective_agents"].max())))
        when = f", round {record.attrs['last_round']}" if "last_round" in record.attrs else ""
        axes.set_title(f"effective number of agents{when}")
        axes.legend(ncols=2)
        return figure
