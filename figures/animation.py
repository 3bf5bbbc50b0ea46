"""Animation: every agent's error on the graph and over the rounds, round by round."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from ntkdyn.figures.errors_on_graph import network, scale_of
from ntkdyn.figures.style import (
    DOUBLE,
    Animation,
    agent_colours,
    log_scale,
    names_of_agents,
    styled,
)

NEEDS = (("mixing", "global_loss", "round", "agent"),)

FRAMES = 60
"""at most so many rounds are shown"""


def draw(record: xr.Dataset) -> Animation:
    """The graph with agents coloured by the common objective, beside the curves so far.

    Colours are relative to the best and the worst agent of the round.
    """
    rounds = record["round"].values
    errors = record["global_loss"].transpose("round", "agent").values
    shown = np.unique(np.linspace(0, len(rounds) - 1, min(FRAMES, len(rounds))).astype(int))
    with styled():
        figure = Figure(figsize=(DOUBLE, 2.9))
        left, right = figure.subplots(1, 2, width_ratios=[1, 1.35])
        colours = agent_colours(errors.shape[1])

        def show(index: int) -> None:
            left.clear()
            norm, names = scale_of(errors[index]), names_of_agents(record)
            network(left, record["mixing"].values, errors[index], norm, names)
            left.set_title(f"round {rounds[index]} (darker: larger error)")
            right.clear()
            for agent, colour in enumerate(colours):
                right.plot(rounds, errors[:, agent], color=colour, lw=0.8, alpha=0.25)
                right.plot(rounds[: index + 1], errors[: index + 1, agent], color=colour)
                right.plot(rounds[index], errors[index, agent], "o", color=colour, ms=3)
            log_scale(right)
            right.set_xlabel("round")
            right.set_title("common objective at every agent")

        return Animation(figure, shown.tolist(), show)
