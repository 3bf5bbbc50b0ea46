"""Price: how many times as many samples make up for a sparse graph, by round."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure
from ntkdyn.figures.style import COLUMN, OKABE_ITO, log_scale, styled

NEEDS = (("price", "graph", "round"),)


def draw(record: xr.Dataset) -> Figure:
    """One line per graph, against the complete one; a gap where no number of samples does."""
    with styled():
        figure = Figure(figsize=(COLUMN, 2.9))
        axes = figure.subplots()
        prices = record["price"].transpose("graph", "round").values
        for number, graph in enumerate(record["graph"].values):
            colour = OKABE_ITO[number % len(OKABE_ITO)]
            axes.plot(record["round"], prices[number], "o-", ms=2.5, color=colour, label=graph)
        axes.set_xscale("log")
        log_scale(axes)
        axes.set_xlabel("round")
        axes.set_title("samples that make up for the graph, as a multiple")
        axes.legend()
        return figure
