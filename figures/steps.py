"""Steps: the expected test loss by step size, and the step size at which it is least."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure
from ntkdyn.figures.style import COLUMN, OKABE_ITO, log_scale, styled

NEEDS = (("mean_test_loss", "step_size", "best_step_size", "best_loss"),)


def draw(record: xr.Dataset) -> Figure:
    """The mean over agents; a disc at the best, a dotted line at the step size that there is."""
    best = record["best_step_size"].item()
    with styled():
        figure = Figure(figsize=(COLUMN, 2.9))
        axes = figure.subplots()
        axes.plot(record["step_size"], record["mean_test_loss"], color=OKABE_ITO[0])
        axes.plot(best, record["best_loss"], "o", color=OKABE_ITO[5], label=f"best: {best:.3g}")
        if "step_size" in record.attrs:
            own = record.attrs["step_size"]
            axes.axvline(own, ls=":", color=OKABE_ITO[7], label=f"as it is: {own:.3g}")
        axes.set_xscale("log")
        log_scale(axes)
        axes.set_xlabel("step size")
        when = f", round {record.attrs['last_round']}" if "last_round" in record.attrs else ""
        axes.set_title(f"test loss, mean over agents{when}")
        axes.legend()
        return figure
