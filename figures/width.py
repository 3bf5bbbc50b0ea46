"""Gap against width: how fast prediction and reality meet as networks widen."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from ntkdyn.figures.style import COLUMN, KERNELS, styled

NEEDS = (("gap", "kernel", "width", "seed", "agent"),)


def draw(sweep: xr.Dataset) -> Figure:
    """Every run as a mark, a fitted line and its slope per kernel, on log-log axes."""
    with styled():
        figure = Figure(figsize=(COLUMN, 2.7))
        axes = figure.subplots()
        widths = sweep["width"].values
        for kernel in sweep["kernel"].values:
            gaps = sweep["gap"].sel(kernel=kernel).mean("agent").transpose("width", "seed").values
            x, y = np.log(np.repeat(widths, gaps.shape[1])), np.log(gaps.reshape(-1))
            slope, intercept = np.polyfit(x, y, 1)
            colour = KERNELS[kernel]
            axes.plot(np.exp(x), np.exp(y), "o", ms=3.2, mfc="white", mec=colour, mew=0.8)
            line = np.exp(intercept) * widths.astype(float) ** slope
            axes.plot(widths, line, color=colour, label=f"{kernel} kernel, slope {slope:.2f}")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(widths, [str(width) for width in widths])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("width")
        axes.set_title(f"gap after {sweep.attrs['rounds']} rounds, share of distance travelled")
        axes.legend()
        return figure
