"""Stability map: the factor per round over step size and spectral gap, and where errors grow."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from ntkdyn.figures.style import COLUMN, method_name, styled

NEEDS = (("rate", "spectral_gap", "step_size"),)


def draw(table: xr.Dataset) -> Figure:
    """rate in colour: purple where errors shrink, orange where they grow, a line between the two.

    Reads `rate` (spectral_gap, step_size), the largest modulus that decides, and both coordinates.
    """
    gaps, steps = table["spectral_gap"].values, table["step_size"].values
    rate = table["rate"].transpose("step_size", "spectral_gap").values
    with styled():
        figure = Figure(figsize=(COLUMN, 2.8))
        axes = figure.subplots()
        least = float(np.nanmin(rate)) if np.nanmin(rate) < 1 else 0.98
        image = axes.pcolormesh(
            gaps, steps, np.clip(rate, None, 1.5), cmap="PuOr_r", norm=TwoSlopeNorm(1, least, 1.5),
            shading="nearest", rasterized=True,
        )  # fmt: skip
        geometric = len(steps) > 2 and np.allclose(
            np.diff(np.log(steps)), np.log(steps[1] / steps[0])
        )
        between = np.sqrt(steps[1:] * steps[:-1]) if geometric else (steps[1:] + steps[:-1]) / 2
        _mark_limit(axes, gaps, between, rate)
        _mark_fastest(axes, gaps, steps, rate)
        axes.set_xlabel("spectral gap of W")
        axes.set_ylabel("step size")
        axes.set_yscale("log" if geometric else "linear")
        axes.set_title(f"{method_name(table.attrs.get('method', ''))}: factor per round")
        bar = figure.colorbar(image, ax=axes, extend="max", pad=0.03)
        bar.set_ticks([least, 1, 1.25, 1.5], labels=[f"{least:.4g}", "1", "1.25", "1.5"])
        return figure


def _mark_limit(axes, gaps: np.ndarray, between: np.ndarray, rate: np.ndarray) -> None:
    """Between the last step size at which errors do not grow and the next, where cells meet."""
    stable = np.sum(np.cumprod(rate <= 1 + 1e-9, axis=0), axis=0)
    limit = np.array([between[n - 1] if 0 < n < len(rate) else np.nan for n in stable])
    if np.isfinite(limit).any():
        axes.step(gaps, limit, where="mid", color="#222222", lw=1, label="stability limit")


def _mark_fastest(axes, gaps: np.ndarray, steps: np.ndarray, rate: np.ndarray) -> None:
    """The step size that is fastest at each gap."""
    best = steps[np.nanargmin(rate, axis=0)]
    axes.step(gaps, best, where="mid", color="white", lw=2.4)
    axes.step(gaps, best, where="mid", color="#222222", lw=1, ls="--", label="fastest step")
    axes.legend(loc="lower right", frameon=True, framealpha=0.8, edgecolor="none")
