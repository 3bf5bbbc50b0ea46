"""Stability map: the factor per round over step size and spectral gap, and where errors grow."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from ntkdyn.figures.style import COLUMN, method_name, styled

NEEDS = (("rate", "spectral_gap", "step_size"),)


def draw(table: xr.Dataset) -> Figure:
    """rate in colour: blue where errors shrink, orange where they grow, a line where it is one.

    Reads `rate` (spectral_gap, step_size), the largest modulus that decides, and both coordinates.
    """
    gaps, steps = table["spectral_gap"].values, table["step_size"].values
    rate = table["rate"].transpose("step_size", "spectral_gap").values
    with styled():
        figure = Figure(figsize=(COLUMN, 2.8))
        axes = figure.subplots()
        least = min(float(np.nanmin(rate)), 0.98)
        image = axes.pcolormesh(
            gaps, steps, np.clip(rate, None, 1.5), cmap="PuOr_r", norm=TwoSlopeNorm(1, least, 1.5),
            shading="nearest", rasterized=True,
        )  # fmt: skip
        if (rate > 1).any() and (rate < 1).any():
            axes.contour(gaps, steps, rate, levels=[1 + 1e-9], colors="#222222", linewidths=1)
            axes.plot([], [], color="#222222", lw=1, label="stability limit")
            axes.legend(loc="upper left", labelcolor="#222222", frameon=True, framealpha=0.8,
                        edgecolor="none")  # fmt: skip
        _mark_fastest(axes, gaps, steps, rate)
        axes.set_xlabel("spectral gap of W")
        axes.set_ylabel("step size")
        if len(steps) > 2 and np.allclose(np.diff(np.log(steps)), np.log(steps[1] / steps[0])):
            axes.set_yscale("log")
        axes.set_title(f"{method_name(table.attrs.get('method', ''))}: factor per round")
        bar = figure.colorbar(image, ax=axes, extend="max", pad=0.03)
        bar.set_ticks([least, 1, 1.25, 1.5], labels=[f"{least:.2g}", "1", "1.25", "1.5"])
        return figure


def _mark_fastest(axes, gaps: np.ndarray, steps: np.ndarray, rate: np.ndarray) -> None:
    """The step size that is fastest at each gap."""
    best = steps[np.nanargmin(rate, axis=0)]
    axes.plot(gaps, best, color="white", lw=2.4)
    axes.plot(gaps, best, color="#222222", lw=1, ls="--", label="fastest step")
    axes.legend(loc="lower right", frameon=True, framealpha=0.8, edgecolor="none")
