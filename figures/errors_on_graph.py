"""Errors on the graph: who hears from whom, every agent in the colour of its error."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from ntkdyn.figures.style import COLUMN, names_of_agents, styled

NEEDS = (("mixing", "global_loss", "round", "agent"),)

SHADES = "cividis_r"


def draw(record: xr.Dataset) -> Figure:
    """The common objective at every agent in the last recorded round, on the graph."""
    with styled():
        figure = Figure(figsize=(COLUMN, 2.7))
        axes = figure.subplots()
        errors = record["global_loss"].isel(round=-1).values
        norm = scale_of(errors)
        network(axes, record["mixing"].values, errors, norm, names_of_agents(record))
        axes.set_title(f"common objective at every agent, round {int(record['round'][-1])}")
        bar = figure.colorbar(ScalarMappable(norm, SHADES), ax=axes, pad=0.02, shrink=0.85)
        bar.set_label("common objective")
        plain_ticks(bar, norm)
        return figure


def network(
    axes: Axes, mixing: np.ndarray, errors: np.ndarray, norm: LogNorm, names: Sequence[str]
) -> None:
    """The graph of W with one disc per agent; links as wide as their weights."""
    weights = mixing * (1 - np.eye(len(mixing)))
    directed = ((weights != 0) != (weights != 0).T).any()
    graph = nx.from_numpy_array(weights.T, create_using=nx.DiGraph if directed else nx.Graph)
    places = layout(graph)
    widths = [0.6 + 3 * weight for _, _, weight in graph.edges.data("weight")]
    arrows = {"arrowsize": 8, "node_size": 300} if directed else {}
    nx.draw_networkx_edges(graph, places, ax=axes, edge_color="#9a9a9a", width=widths, **arrows)
    nx.draw_networkx_nodes(
        graph, places, ax=axes, node_color=errors, cmap=SHADES, vmin=None, node_size=300,
        edgecolors="#444444", linewidths=0.6,
    ).set_norm(norm)  # fmt: skip
    dark = {agent: "white" if norm(errors[agent]) > 0.55 else "#111111" for agent in graph}
    for agent, (x, y) in places.items():
        small = min(7, 21 / len(names[agent]))
        axes.text(
            x, y, names[agent], ha="center", va="center", fontsize=small, color=dark[agent]
        )  # fmt: skip
    axes.set_aspect("equal")
    axes.margins(0.14)
    axes.axis("off")


def layout(graph: nx.Graph) -> dict[int, np.ndarray]:
    """On a circle where nearly all degrees are alike, otherwise by the distances in the graph."""
    degrees = [degree for _, degree in graph.degree]
    regular = max(degrees) - min(degrees) <= 1
    return nx.circular_layout(graph) if regular else nx.kamada_kawai_layout(graph, weight=None)


def scale_of(errors: np.ndarray) -> LogNorm:
    """A logarithmic scale over the errors, at least a little wide."""
    low, high = float(np.nanmin(errors)), float(np.nanmax(errors))
    low = max(low, high * 1e-12, 1e-300)
    return LogNorm(low / 1.02, max(high, low) * 1.02)


def plain_ticks(bar, norm: LogNorm) -> None:
    """A few plain numbers on the colour bar, evenly spaced."""
    values = np.geomspace(norm.vmin, norm.vmax, 5)
    bar.set_ticks(values, labels=[f"{value:.3g}" for value in values])
    bar.minorticks_off()
