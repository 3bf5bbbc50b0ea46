"""Confirmed: predicted costs of settings against what training them took."""

from __future__ import annotations

import numpy as np
import scipy.stats
import xarray as xr
from matplotlib.figure import Figure
from ntkdyn.figures.style import COLUMN, OKABE_ITO, styled

NEEDS = (("cost", "trained_cost"),)

WAYS = {"cost": "predicted in bulk", "sharp_cost": "predicted with anchors"}


def draw(design: xr.Dataset) -> Figure:
    """Of the settings that reach the target on both sides; on the line they are the same."""
    with styled():
        figure = Figure(figsize=(COLUMN, 3.2))
        axes, trained = figure.subplots(), design["trained_cost"].values.ravel()
        for number, (name, label) in enumerate(WAYS.items()):
            if name not in design:
                continue
            seen = design[name].values.ravel()
            both = np.isfinite(seen) & np.isfinite(trained)
            rank = scipy.stats.spearmanr(seen[both], trained[both]).statistic
            axes.plot(
                trained[both], seen[both], "o", ms=4, color=OKABE_ITO[number], alpha=0.7, mew=0,
                label=f"{label} (ranks agree by {rank:.2f})",
            )  # fmt: skip
        ends = [*axes.get_xlim(), *axes.get_ylim()]
        axes.set_xscale("log")
        axes.set_yscale("log")
        low = np.nanmin(trained) / 1.5 if np.isfinite(trained).any() else min(ends)
        axes.plot([low, max(ends)], [low, max(ends)], color="#888888", lw=0.6, ls=":")
        cost = design.attrs.get("cost", "cost")
        axes.set_xlabel(f"{cost}, trained")
        axes.set_title(f"{cost}, predicted, until {design.attrs.get('reach', 'the target')}")
        figure.legend(loc="outside lower center", ncols=1)
        return figure
