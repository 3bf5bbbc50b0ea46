"""Kernel map: the kernel between training points, ordered by the agent that owns them."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from ntkdyn.figures.style import COLUMN, agent_colours, styled

NEEDS = (("kernel", "owner"),)


def draw(table: xr.Dataset) -> Figure:
    """K as a heat map with a frame around every agent's own block.

    Reads `kernel` (point, other_point) and `owner` (point), as `dynamics.kernel_table` gives them.
    """
    owner = table["owner"].values
    order = np.argsort(owner, kind="stable")
    kernel = table["kernel"].values[np.ix_(order, order)]
    counts = np.bincount(owner)
    ends = np.cumsum(counts)
    with styled():
        figure = Figure(figsize=(COLUMN, 3.0))
        axes = figure.subplots()
        signed = kernel.min() < -0.02 * kernel.max()
        limit = np.abs(kernel).max()
        image = axes.imshow(
            kernel, cmap="PuOr_r" if signed else "cividis", vmin=-limit if signed else 0, vmax=limit
        )
        for agent, (end, count) in enumerate(zip(ends, counts, strict=True)):
            place = (end - count - 0.5, end - count - 0.5), count, count
            for colour, thick in (("white", 2.6), (agent_colours(len(counts))[agent], 1.4)):
                frame = Rectangle(*place, fill=False, ec=colour, lw=thick, clip_on=False, zorder=3)
                axes.add_patch(frame)
        middles = ends - counts / 2 - 0.5
        axes.set_xticks(middles, range(len(counts)))
        axes.set_yticks(middles, range(len(counts)))
        for label, colour in zip(
            [*axes.get_xticklabels(), *axes.get_yticklabels()],
            2 * agent_colours(len(counts)),
            strict=True,
        ):
            label.set_color(colour)
            label.set_fontweight("bold")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("points, by the agent that owns them")
        axes.set_title(f"{table.attrs.get('kernel_name', 'given')} kernel")
        figure.colorbar(image, ax=axes, pad=0.03, shrink=0.9).set_label("K(x, x′)")
        return figure
