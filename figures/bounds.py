"""Bounds: how far above what was seen each published promise lies, and which ones hold."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter
from ntkdyn.figures.style import DOUBLE, OKABE_ITO, styled

NEEDS = (("promised", "seen", "state", "bound"),)

STATES = {
    "holds": (OKABE_ITO[0], "o"),
    "violated": (OKABE_ITO[5], "X"),
    "promises nothing": ("#b0b0b0", "o"),
    "assumption not met": ("#8a8a8a", "D"),
    "diverged": (OKABE_ITO[1], "P"),
    "not computed": ("#c4c4c4", "s"),
}

TOLD = ("not computed", "diverged", "promises nothing")
"""of what has no ratio"""


def draw(table: xr.Dataset) -> Figure:
    """promised / seen in the round where they are nearest, one row per bound, tightest first.

    Reads `promised` and `seen` (bound, round), NaN where one does not apply, and `state` (bound):
    one of "holds", "violated", "diverged", "promises nothing", "assumption not met", "not
    computed". One is tight; below one, more was seen than promised.
    """
    ratios = np.array([_tightest(table.sel(bound=name)) for name in table["bound"].values])
    order = np.argsort(np.where(np.isfinite(ratios), ratios, np.inf), kind="stable")[::-1]
    names, states = table["bound"].values[order], table["state"].values[order]
    with styled():
        figure = Figure(figsize=(DOUBLE, 0.9 + 0.24 * len(order)))
        axes = figure.subplots()
        axes.axvline(1, color="#222222", lw=0.9)
        for row, (ratio, state) in enumerate(zip(ratios[order], states, strict=True)):
            colour, marker = STATES[state]
            if not np.isfinite(ratio):
                said = state if state in TOLD else "no finite promise"
                axes.text(0.01, row, said, transform=axes.get_yaxis_transform(),
                          va="center", fontsize=6.5, color="#777777",
                          bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
                continue
            axes.plot([1, ratio], [row, row], color=colour, lw=1.2, alpha=0.5)
            axes.plot(ratio, row, marker, color=colour, ms=5)
            axes.annotate(f"×{ratio:.3g}", (ratio, row), xytext=(6, 0), va="center",
                          textcoords="offset points", fontsize=6.5, color=colour)  # fmt: skip
        axes.set_xscale("log")
        axes.margins(x=0.12)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter() if _decades(axes) > 1 else "{x:g}")
        axes.set_yticks(range(len(order)), names)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(-0.7, len(order) - 0.3)
        axes.set_xlabel("promised / seen, in the round where the bound is tightest (1 is tight)")
        axes.set_title("bounds beside the run")
        axes.grid(axis="x", color="#e6e6e6", lw=0.5, zorder=0)
        figure.legend(handles=_key(set(states)), loc="outside lower center", ncols=4)
        return figure


def _decades(axes: Axes) -> float:
    low, high = axes.get_xlim()
    return float(np.log10(high / low))


def _tightest(bound: xr.Dataset) -> float:
    """promised / seen where it is least, after the start if anything was recorded later.

    Of factors per round log seen / log promised, how much faster it really is.
    """
    promised, seen = (np.atleast_1d(bound[name].values) for name in ("promised", "seen"))
    later = slice(1 if len(seen) > 1 else 0, None)
    told = np.isfinite(promised[later]) & (seen[later] > 0)
    if bound.get("factor", 0):
        told &= promised[later] < 1
        promised, seen = 1 / np.log(promised), 1 / np.log(seen)
    return float((promised[later][told] / seen[later][told]).min()) if told.any() else np.inf


def _key(present: set[str]) -> list[Line2D]:
    return [
        Line2D([], [], ls="none", marker=marker, color=colour, ms=5, label=state)
        for state, (colour, marker) in STATES.items()
        if state in present
    ]
