"""Claim: a quantity on random problems, and the power law that is claimed of it."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from ntkdyn.figures.style import COLUMN, OKABE_ITO, log_scale, styled

NEEDS = (("x", "y", "law", "low", "high"),)


def draw(record: xr.Dataset) -> Figure:
    """Every problem's y(x) as `theory.claims.run` has it, over its middle; dashed, the law."""
    x, y = (record[name].transpose("problem", "value").values for name in ("x", "y"))
    order = np.argsort(x, axis=1)
    x, y = (np.take_along_axis(each, order, axis=1) for each in (x, y))
    law, low, high = (record[name].item() for name in ("law", "low", "high"))
    middle = lambda each: np.exp(np.log(each).mean(axis=1, keepdims=True))
    with styled():
        figure = Figure(figsize=(COLUMN, 2.9))
        axes = figure.subplots()
        axes.plot((x / middle(x)).T, (y / middle(y)).T, color=OKABE_ITO[0], lw=0.7, alpha=0.6)
        ends = np.array([(x / middle(x)).min(), (x / middle(x)).max()])
        axes.plot(ends, ends**law, "--", color=OKABE_ITO[7], label=f"claimed: {law:g}")
        axes.plot([], [], color=OKABE_ITO[0], label=f"found: {low:.3g} to {high:.3g}")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if ends[1] < 30 * ends[0] else (1,)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        log_scale(axes)
        axes.set_xlabel(f"{record.attrs.get('along', 'x')}, over its middle")
        verdict = record.attrs.get("verdict", "").split(":")[0]
        axes.set_title(f"{record.attrs.get('claim', 'a claim')} {verdict}")
        axes.legend()
        return figure
