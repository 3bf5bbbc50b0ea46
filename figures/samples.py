"""Samples: the expected test loss against samples per agent, one line per graph."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure
from ntkdyn.figures.style import COLUMN, OKABE_ITO, log_scale, styled

NEEDS = (("test_loss", "graph", "points"),)


def draw(record: xr.Dataset) -> Figure:
    """The mean loss over agents, as `theory.learning_curves.against_samples` has it."""
    with styled():
        figure = Figure(figsize=(COLUMN, 2.9))
        axes = figure.subplots()
        losses = record["test_loss"].transpose("graph", "points").values
        for number, graph in enumerate(record["graph"].values):
            colour = OKABE_ITO[number % len(OKABE_ITO)]
            axes.plot(record["points"], losses[number], "o-", ms=2.5, color=colour, label=graph)
        axes.set_xscale("log")
        log_scale(axes)
        axes.set_xlabel("points of each agent")
        when = f" after {record.attrs['round']} rounds" if "round" in record.attrs else ""
        axes.set_title(f"test loss{when}")
        axes.legend()
        return figure
