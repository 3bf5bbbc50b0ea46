"""Trade-off: accuracy against what was sent to reach it, one curve per run."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from ntkdyn.figures.style import COLUMN, OKABE_ITO, method_colour, method_name, styled

NEEDS = (("test_accuracy", "mixing", "round", "agent"),)

VECTORS = {"diging": 2, "atc_tracking": 2, "aug_dgm": 2}
"""vectors of parameters that a message holds, where it is not one"""

DASHES = ("-", "--", ":", "-.")


def draw(*runs: xr.Dataset) -> Figure:
    """Mean accuracy over agents, from the worst to the best agent, against vectors sent per agent.

    In a round every agent sends its vector along each of its links; methods that track a gradient
    send two. Reads `test_accuracy` (round, agent) and `mixing` of every run.
    """
    with styled():
        figure = Figure(figsize=(COLUMN, 3.0))
        axes = figure.subplots()
        methods = [run.attrs.get("method", "run") for run in runs]
        by_method = len(set(methods)) == len(methods)
        for number, (run, method) in enumerate(zip(runs, methods, strict=True)):
            moved = run.isel(round=run["round"].values > 0)
            sent = sent_per_round(run) * moved["round"].values
            seen = moved["test_accuracy"].transpose("round", "agent").values
            numbered = OKABE_ITO[number % len(OKABE_ITO)]
            colour = method_colour(method) if by_method else numbered
            shade = {"color": colour, "alpha": 0.15, "lw": 0}
            axes.fill_between(sent, seen.min(axis=1), seen.max(axis=1), **shade)
            dashes = DASHES[number // len(OKABE_ITO) % len(DASHES)]
            axes.plot(sent, seen.mean(axis=1), color=colour, ls=dashes, label=_label(run))
        axes.set_xscale("log")
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.set_xlabel("vectors of parameters sent per agent")
        axes.set_title("accuracy on test points")
        figure.legend(loc="outside lower center", ncols=2)
        return figure


def sent_per_round(run: xr.Dataset) -> float:
    """Vectors that an agent sends in a round, on average."""
    weights = run["mixing"].values
    links = np.count_nonzero(weights * (1 - np.eye(len(weights))))
    return VECTORS.get(run.attrs.get("method"), 1) * links / len(weights)


def _label(run: xr.Dataset) -> str:
    name = method_name(run.attrs.get("method", "run"))
    graph = run.attrs.get("graph") or f"gap {run.attrs['spectral_gap']:.2g}"
    return f"{name}, {graph}"
