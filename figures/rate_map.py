"""The rate map: how fast a method is at every step size and spectral gap, and where it is not."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure
from ntkdyn.figures.style import COLUMN, styled


def draw(rates: xr.Dataset) -> Figure:
    """log10(1 - rate) over (step size, spectral gap); the line is the stability limit."""
    with styled():
        figure = Figure(figsize=(COLUMN, 2.7))
        axes = figure.subplots()
        steps, gaps = rates["step_size"].values, rates["spectral_gap"].values
        rate = rates["rate"].transpose("spectral_gap", "step_size")
        speed = (1 - rate).where(rate < 1)
        image = axes.pcolormesh(steps, gaps, speed, norm="log", cmap="viridis", shading="nearest")
        if (rate > 1).any() and (rate < 1).any():
            axes.contour(steps, gaps, rate, levels=[1], colors="black", linewidths=1.2)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("step size")
        axes.set_ylabel("spectral gap of W")
        axes.set_title(f"{rates.attrs['method'].upper()}: 1 - rate, blank where unstable")
        figure.colorbar(image, ax=axes, pad=0.03)
        return figure
