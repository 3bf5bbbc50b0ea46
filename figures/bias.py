"""Bias by method: how far from the optimum a method stops, over the step size."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from ntkdyn.figures.style import COLUMN, method_colour, method_name, styled

NEEDS = (("bias", "method", "step_size"),)

ROUNDING = 1e-12
"""What is below is drawn there, as zero to rounding."""


def draw(table: xr.Dataset) -> Figure:
    """|x_infinity - x*| / |x_0 - x*| per method on log-log axes; missing where it is unstable.

    Reads `bias` (method, step_size), NaN where the method diverges.
    """
    steps = table["step_size"].values
    with styled():
        figure = Figure(figsize=(COLUMN, 2.9))
        axes = figure.subplots()
        exact = False
        for number, name in enumerate(table["method"].values):
            value = table["bias"].sel({"method": name}).transpose("step_size").values
            exact |= bool((value < ROUNDING).any())
            axes.plot(
                steps, np.maximum(value, ROUNDING), color=method_colour(name),
                marker="osD^vP"[number % 6],
                ms=3.2, mfc="white", mew=0.9, label=method_name(name), clip_on=False,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        if exact:
            axes.set_ylim(ROUNDING)
            axes.annotate("zero to rounding", (0.98, 0.03), xycoords="axes fraction", fontsize=6.5,
                          color="#666666", ha="right")  # fmt: skip
        axes.set_xlabel("step size")
        axes.set_title("where methods stop: distance to the optimum,\nas a share of the start")
        figure.legend(loc="outside lower center", ncols=3)
        return figure
