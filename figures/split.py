"""Split: how a budget of points is best shared among agents."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from ntkdyn.figures.style import COLUMN, OKABE_ITO, styled

NEEDS = (("points", "best_points", "agent"),)


def draw(record: xr.Dataset) -> Figure:
    """Points of every agent: as they are, and in the best split."""
    agents = np.arange(record.sizes["agent"])
    with styled():
        figure = Figure(figsize=(COLUMN, 2.9))
        axes = figure.subplots()
        for side, (name, said, colour) in enumerate(
            (("points", "as it is", OKABE_ITO[4]), ("best_points", "best", OKABE_ITO[0]))
        ):
            loss = record.attrs.get(name.replace("points", "loss"))
            label = said if loss is None else f"{said}: loss {loss:.4g}"
            axes.bar(agents + 0.4 * side - 0.2, record[name], 0.38, color=colour, label=label)
        axes.set_xticks(agents)
        axes.set_xlabel("agent")
        axes.set_ylim(top=1.25 * max(float(record[n].max()) for n in ("points", "best_points")))
        when = f", for round {record.attrs['last_round']}" if "last_round" in record.attrs else ""
        axes.set_title(f"points of every agent{when}")
        axes.legend()
        return figure
