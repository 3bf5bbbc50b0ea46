"""Common minimum: how near methods come to it over rounds, predicted and observed."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure
from ntkdyn.figures.style import COLUMN, styled

NEEDS = (("distance", "algorithm", "run", "round"),)


def draw(record: xr.Dataset) -> Figure:
    """One line per method as predicted, marks as observed, on log-log axes."""
    with styled():
        figure = Figure(figsize=(COLUMN, 2.9))
        axes = figure.subplots()
        for number, name in enumerate(record["algorithm"].values):
            lines = record["distance"].sel(algorithm=name)
            rounds, colour = record["round"].values, f"C{number}"
            axes.plot(rounds, lines.sel(run="predicted"), color=colour, label=name)
            seen = lines.sel(run="observed")
            axes.plot(rounds, seen, "o", ms=3, mfc="white", mec=colour, mew=0.7)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("round (marks: real training)")
        axes.set_title("distance from the common minimum")
        axes.legend()
        return figure
