"""The overlay: every agent's predicted curve (line) with what was observed on it (marks)."""

from __future__ import annotations

import networkx as nx
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter
from ntkdyn.figures.style import (
    DOUBLE,
    OKABE_ITO,
    agent_colours,
    log_scale,
    marks,
    names_of_agents,
    shortened,
    styled,
)

NEEDS = (
    ("train_loss", "consensus_distance", "mixing", "points_owned", "round", "agent"),
    ("round", "agent"),
    ("gap", "deviation_gap", "deviation_gap_of_all", "predicted_deviation", "observed_deviation",
     "null_deviation_gap_of_all", "null_deviation", "null_kind", "explanation", "round", "agent"),
)  # fmt: skip

TESTED = {"test_accuracy": "accuracy", "test_r2": "R²", "test_loss": "loss"}
"""what is shown of the test points, the first that there is, in words"""

MOST_CHARACTERS = 26
"""names of classes with more of them in all do not fit below the axis; then their numbers stand"""

WIDEST = 2.0
"""Deviation gaps are drawn up to here, 200 %: what is farther off is wrong all the same."""


def draw(predicted: xr.Dataset, observed: xr.Dataset, comparison: xr.Dataset) -> Figure:
    """Losses, what agents differ in, wrong explanations, gaps, disagreement, graph and classes.

    What a log does not hold has no marks.
    """
    with styled():
        figure = Figure(figsize=(DOUBLE, 6.7))
        axes = figure.subplot_mosaic(
            [
                ["loss", "accuracy", "graph"],
                ["own", "nulls", "classes"],
                ["own gap", "gap", "apart"],
            ],
            width_ratios=[1, 1, 0.9],
        )
        there = [name for name in TESTED if name in predicted]
        second = next((name for name in there if name in observed), there[0] if there else None)
        _curves(axes["loss"], predicted, observed, "train_loss", "loss on own points")
        if second is not None:
            title = f"{TESTED[second]} on test points"
            _curves(axes["accuracy"], predicted, observed, second, title)
        else:
            axes["accuracy"].axis("off")
        _curves(
            axes["apart"], predicted, observed, "consensus_distance", "distance from the mean agent"
        )
        axes["apart"].set_ylim(0)
        _own(axes["own"], comparison)
        _nulls(axes["nulls"], comparison)
        _gap(axes["gap"], predicted, comparison)
        _of_agents(axes["own gap"], comparison, "deviation_gap")
        axes["own gap"].set_title("deviation gap")
        _graph(axes["graph"], predicted)
        _classes(axes["classes"], predicted)
        log_scale(axes["loss"])
        if second == "test_accuracy":
            axes["accuracy"].yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes["loss"].legend(handles=_key(), loc="upper right")
        figure.suptitle(_title(predicted), fontsize=9, x=0.01, ha="left")
        return figure


def _curves(axes: Axes, predicted: xr.Dataset, observed: xr.Dataset, name: str, title: str) -> None:
    rounds = predicted["round"].values
    colours = agent_colours(predicted.sizes["agent"])
    for agent, colour in enumerate(colours):
        axes.plot(rounds, predicted[name].isel(agent=agent), color=colour, zorder=2)
        if name in observed:
            seen = observed[name].isel(agent=agent)
            marks(axes, seen["round"].values, seen.values, agent, colours)
    axes.set_title(title if name in observed else f"{title},\nnot observed")
    axes.set_xlabel("round")


def _gap(axes: Axes, predicted: xr.Dataset, comparison: xr.Dataset) -> None:
    """The gap of every agent; shaded, between which the prediction's own estimates lie."""
    if "trust_gap" in predicted:
        estimate = predicted["trust_gap"]
        low, high = estimate.min("agent"), estimate.max("agent")
        axes.fill_between(estimate["round"], low, high, color="#bbbbbb", lw=0, label="estimated")
        axes.legend(loc="upper right")
    _of_agents(axes, comparison, "gap")
    by = comparison.attrs.get("compared", "outputs")
    of = "distance travelled" if by == "outputs" else f"change of {by}"
    axes.set_title(f"gap, share of {of}")


def _of_agents(axes: Axes, comparison: xr.Dataset, name: str) -> None:
    """A share of every agent, over the rounds."""
    shares = comparison[name].where(np.isfinite)
    for agent, colour in enumerate(agent_colours(comparison.sizes["agent"])):
        axes.plot(comparison["round"], shares.isel(agent=agent), color=colour)
    axes.set_xlabel("round")
    axes.set_ylim(0)
    axes.yaxis.set_major_formatter(_percent)


def _own(axes: Axes, comparison: xr.Dataset) -> None:
    """What is an agent's own: predicted, observed, and as others explain it.

    Dashed by the nearest wrong explanation, dotted by the prediction linear around the start alone.
    """
    rounds = comparison["round"].values
    colours = agent_colours(comparison.sizes["agent"])
    coarser = comparison.isel(explanation=(comparison["null_kind"] == "linearization").values)
    others = {} if (wrong := _nearest(comparison)) is None else {"--": wrong}
    others |= {":": coarser.isel(explanation=0)} if coarser.sizes["explanation"] else {}
    for agent, colour in enumerate(colours):
        of = lambda values, i=agent: values.where(np.isfinite).isel(agent=i).values
        axes.plot(rounds, of(comparison["predicted_deviation"]), color=colour, zorder=2)
        marks(axes, rounds, of(comparison["observed_deviation"]), agent, colours)
        for style, each in others.items():
            thin = {"color": colour, "ls": style, "lw": 0.6, "alpha": 0.8, "zorder": 1}
            axes.plot(rounds, of(each["null_deviation"]), **thin)
    names = {"--": "dashed", ":": "dotted"}
    said = [f"\n{names[style]}: {each['explanation'].item()}" for style, each in others.items()]
    by = comparison.attrs.get("compared", "outputs")
    of = "the mean agent" if by == "outputs" else f"the mean {by}"
    axes.set_title("".join([f"deviation from {of}", *said]))
    axes.set_xlabel("round")
    axes.yaxis.set_major_formatter(_percent)


def _nearest(comparison: xr.Dataset) -> xr.Dataset | None:
    """Of the explanations with another graph, method or order of agents, the nearest at the end."""
    structural = comparison["null_kind"].isin(["graph", "method", "agents"]).values
    some = comparison.isel(explanation=structural)
    gaps = some["null_deviation_gap_of_all"].isel(round=-1).fillna(np.inf).values
    return some.isel(explanation=int(gaps.argmin())) if gaps.size else None


def _nulls(axes: Axes, comparison: xr.Dataset) -> None:
    """The deviation gap of the prediction and of every other explanation, in the last round."""
    last = comparison.sel(
        round=comparison.attrs.get("deviation_gap_round", comparison["round"].values[-1])
    )
    bars = [("the prediction", float(last["deviation_gap_of_all"]), OKABE_ITO[0])]
    wrong = zip(last["explanation"].values, last["null_deviation_gap_of_all"].values, strict=True)
    bars += sorted(((str(n), float(g), "#bbbbbb") for n, g in wrong), key=lambda bar: bar[1])
    for place, (name, gap, colour) in enumerate(bars):
        axes.barh(place, min(gap, WIDEST) if gap == gap else 0, height=0.35, color=colour)
        said = f"{100 * gap:.3g} %" if np.isfinite(gap) else "not judged"
        axes.text(0.01, place - 0.22, f"{name}: {said}", fontsize=6.2, va="bottom")
    axes.set_ylim(len(bars) - 0.5, -0.9)
    axes.set_yticks([])
    axes.set_title("deviation gap at the end")
    axes.xaxis.set_major_formatter(_percent)


def _percent(share: float, _: int) -> str:
    return f"{100 * share:g} %"


def _graph(axes: Axes, record: xr.Dataset) -> None:
    """Who hears from whom; the area of a node is the number of points it owns."""
    weights = record["mixing"].values * (1 - np.eye(record.sizes["agent"]))
    directed = ((weights != 0) != (weights != 0).T).any()
    graph = nx.from_numpy_array(weights.T, create_using=nx.DiGraph if directed else nx.Graph)
    places = nx.circular_layout(graph)
    sizes = 260 * record["points_owned"].values / record["points_owned"].values.max()
    colours = agent_colours(len(graph))
    edges = {"edge_color": "#999999", "width": 0.9, "ax": axes}
    if directed:
        nx.draw_networkx_edges(graph, places, node_size=sizes, arrowsize=7, **edges)
    else:
        nx.draw_networkx_edges(graph, places, **edges)
    nx.draw_networkx_nodes(graph, places, node_color=colours, node_size=sizes, ax=axes)
    names = dict(enumerate(names_of_agents(record)))
    size = min(6.5, 19 / max(map(len, names.values())))
    nx.draw_networkx_labels(graph, places, names, font_size=size, font_color="white", ax=axes)
    weights, gap = record.attrs["weights"], record.attrs["spectral_gap"]
    axes.set_title(f"{weights} weights,\nspectral gap {gap:.3g}", loc="center")
    axes.set_aspect("equal")
    axes.margins(0.15)
    axes.axis("off")


def _classes(axes: Axes, record: xr.Dataset) -> None:
    """How many points of each class each agent owns."""
    if "class_counts" not in record:
        axes.axis("off")
        return
    counts = record["class_counts"].values
    image = axes.imshow(counts, cmap="Greys", aspect="auto", vmin=0)
    axes.set_title("points per class")
    axes.set_xlabel("class")
    axes.set_ylabel("agent")
    axes.set_xticks(range(counts.shape[1]), _class_names(record, counts.shape[1]))
    few = len(counts) <= 16
    axes.set_yticks(range(len(counts)) if few else [], names_of_agents(record) if few else [])
    for label, colour in zip(axes.get_yticklabels(), agent_colours(len(counts)), strict=False):
        label.set_color(colour)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.figure.colorbar(image, ax=axes, pad=0.03, shrink=0.9)


def _class_names(record: xr.Dataset, classes: int) -> list[str]:
    if "class_name" not in record.coords:
        return list(map(str, range(classes)))
    names = list(map(shortened, record["class_name"].values))
    return names if sum(map(len, names)) < MOST_CHARACTERS else list(map(str, range(classes)))


def _key() -> list[Line2D]:
    grey = {"color": "#555555"}
    marks = {"marker": "o", "ls": "none", "ms": 3.2, "mfc": "white", "mec": "#555555"}
    return [Line2D([], [], label="predicted", **grey), Line2D([], [], label="observed", **marks)]


def _title(record: xr.Dataset) -> str:
    agents = record.sizes["agent"]
    limit = record.attrs.get("step_size_limit")
    step = f"step size {record.attrs['step_size']:.3g}"
    share = f" = {record.attrs['step_size'] / limit:.2g} of the stability limit" if limit else ""
    unstable = "" if record.attrs.get("stable", True) else ", UNSTABLE"
    return f"{record.attrs['method'].upper()}, {agents} agents, {step}{share}{unstable}"
