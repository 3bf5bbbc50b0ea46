"""Error accounting: what each source costs, round by round, beside the whole gap."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from ntkdyn.figures.style import COLUMN, OKABE_ITO, log_scale, styled

NEEDS = (("linearization", "gap", "round", "agent"),)

SOURCES = ("arithmetic", "linearization", "minibatch_noise", "discretization", "finite_width")


def draw(accounts: xr.Dataset) -> Figure:
    """Per source the mean over agents, with the least and the most of them as a band.

    Where a run of the chain diverged, the curves end, and the title says when.
    """
    with styled():
        figure = Figure(figsize=(COLUMN, 3.0))
        axes = figure.subplots()
        named = [name for name in SOURCES if name in accounts]
        for name, colour in [*zip(named, OKABE_ITO, strict=False), ("gap", OKABE_ITO[7])]:
            share = accounts[name].where(_drawable).isel(round=slice(1, None))
            rounds = share["round"]
            least, most = share.min("agent"), share.max("agent")
            axes.fill_between(rounds, least, most, color=colour, alpha=0.15, lw=0)
            width, order = (3.0, 1) if name == "gap" else (1.0, 2)
            label = "whole gap" if name == "gap" else name.replace("_", " ")
            axes.plot(
                rounds, share.mean("agent"), color=colour, lw=width, zorder=order, label=label
            )
        log_scale(axes)
        axes.set_xlabel("round")
        axes.set_title(f"share of the distance travelled{_end(accounts[[*named, 'gap']])}")
        figure.legend(loc="outside lower center", ncols=3)
        return figure


def _drawable(values: xr.DataArray) -> xr.DataArray:
    return (values > 0) & np.isfinite(values)


def _end(shown: xr.Dataset) -> str:
    """Since when something is not finite, for the title."""
    apart = ~np.isfinite(shown.to_dataarray()).all(("variable", "agent"))
    first = shown["round"].values[apart.values]
    return f"\ndiverged from round {first[0]} on" if len(first) else ""
