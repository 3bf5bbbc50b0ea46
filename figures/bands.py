"""Uncertainty bands: where each agent's loss lies over random starts of the networks."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from ntkdyn.figures.style import DOUBLE, SPACES, agent_colours, log_scale, names_of_agents, styled

NEEDS = (("train_loss", "start", "round", "agent"), ("train_loss", "round", "agent"))


def draw(predicted: xr.Dataset, observed: xr.Dataset | None = None) -> Figure:
    """Median, half and nine tenths of the starts, one panel per agent; observed runs as dots.

    Reads `train_loss` (start, round, agent); the observed record may hold several starts or one.
    """
    agents = predicted.sizes["agent"]
    columns = min(4, agents)
    rows = math.ceil(agents / columns)
    with styled():
        figure = Figure(figsize=(DOUBLE, 0.55 + 1.45 * rows))
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        loss = predicted["train_loss"].transpose("agent", "start", "round").values
        rounds, names = predicted["round"].values, names_of_agents(predicted)
        for agent, colour in enumerate(agent_colours(agents)):
            axes = grid[agent]
            for low, high, alpha in ((0.05, 0.95, 0.22), (0.25, 0.75, 0.35)):
                edges = np.quantile(loss[agent], [low, high], axis=0)
                axes.fill_between(rounds, *edges, color=colour, alpha=alpha, lw=0)
            axes.plot(rounds, np.median(loss[agent], axis=0), color=colour)
            if observed is not None:
                _dots(axes, observed.isel(agent=agent))
            log_scale(axes)
            axes.set_title(f"agent {names[agent]}")
        for axes in grid[agents:]:
            axes.axis("off")
        figure.supxlabel("round", fontsize=8)
        figure.supylabel("loss on own points", fontsize=8)
        count = predicted.sizes["start"]
        figure.suptitle(
            f"{count} starts: median, half of them, nine tenths"
            + ("; dots: observed" if observed is not None else ""),
            fontsize=8.5, x=0.01, ha="left",
        )  # fmt: skip
        return figure


def _dots(axes, observed: xr.Dataset) -> None:
    spacing = max(1, observed.sizes["round"] // 8)
    seen = observed["train_loss"].isel(round=slice(spacing, None, spacing))
    runs = seen.transpose("start", "round").values if "start" in seen.dims else seen.values[None]
    for run in runs:
        axes.plot(seen["round"], run, "o", ms=1.8, color=SPACES["network"], alpha=0.7, mew=0)
