"""Linearized anew: training in the page, predictions that follow it, and what tells them apart."""

from __future__ import annotations

import numpy as np
from bokeh.models import FixedTicker, Range1d
from ntkdyn.figures.interactive.page import (
    FONT,
    Choice,
    Exercise,
    Page,
    Plot,
    Slider,
    axes,
    legend,
    source,
)

AGENTS = 6

DEVIATION, SHARE, COMMON = "#0072B2", "#9aa1a8", "#E69F00"

NAMES = {
    "prediction": "the prediction",
    "start": "around the start alone",
    "smaller": "a step 10 % smaller",
    "larger": "a step 10 % larger",
    "method": "another method",
    "permuted": "agents permuted",
    "complete": "a complete graph",
    "neighbour": "the neighbour's curve",
    "nothing": "nothing moves",
}
"""explanations, from the top down"""


def page() -> Page:
    """The description of the page."""
    agents, of_agents = _agents()
    gaps, of_gaps = _gaps()
    explanations, of_explanations = _explanations()
    rng = np.random.default_rng(0)
    return Page(
        name="linearized_anew",
        title="Linearized anew: what tells a prediction from a wrong one",
        lead="Real networks train in the page. Predict them from their start, then from a few more "
        "points of the predicted path, and ask what else would have explained them as well.",
        controls=[
            Slider("kernels", "Linearized in", 1, 12, 6, 1,
                   values=["", "1 round", *(f"{k} rounds" for k in range(2, 13))]),
            Slider("width", "Width", 3, 8, 4, 1,
                   values=["", "", "", *(str(2**k) for k in range(3, 9))]),
            Slider("step", "Step size η", -1.7, 0, -0.7, 0.02, scale="log"),
            Choice(
                "topology", "Topology",
                [("ring", "ring"), ("path", "path"), ("star", "star"),
                 ("exponential", "exponential"), ("complete", "complete")], "path",
            ),
            Choice("method", "Method", [("dgd", "DGD"), ("atc", "ATC diffusion")], "dgd"),
            Slider("start", "Start of the networks", 0, 2, 0, 1,
                   values=["first", "second", "third"]),
            Slider("rounds", "Rounds", 40, 200, 200, 20),
        ],
        readouts={
            "deviation": "deviation gap, %",
            "around": "around the start alone, %",
            "nearest": "nearest wrong explanation, %",
            "common": "gap of the common motion, %",
            "share": "share of the distance, %",
            "loss": "mean final loss",
        },
        plots={
            "agents": Plot(agents, "What agents differ in", wide=True,
                           caption="One colour per agent. Marks: trained. Solid: predicted, "
                           "linearized anew at the vertical lines. Dotted: linear around the "
                           "start. Deviation from the mean agent, along the one at the end."),
            "explanations": Plot(explanations, "What else would explain it", wide=True,
                                 caption="Gaps in the last round; of the distance, the worst "
                                 "agent's. Dashed: twice the prediction's deviation gap; what lies "
                                 "beyond is told from it."),
            "gaps": Plot(gaps, "Gaps of the prediction, round by round", wide=True,
                         caption="Dotted: linear around the start alone."),
        },
        models=of_agents | of_gaps | of_explanations,
        exercises=_exercises(),
        data={"names": NAMES, "orders": [rng.permutation(AGENTS).tolist() for _ in range(20)]},
    )  # fmt: skip


def _agents():
    plot = axes("round", "deviation, % of the distance", x=(0, 200), y=(-3, 3), height=340)
    names = ("predicted", "around", "marks", "anew")
    sources = {name: source("x", "y", "colour") for name in names[:3]} | {"anew": source("x", "y")}
    plot.multi_line("x", "y", line_width=1, tags=["ink"], source=sources["anew"])
    plot.multi_line(
        "x", "y", color="colour", line_dash="dotted", line_width=1.6, source=sources["around"]
    )
    plot.multi_line("x", "y", color="colour", line_width=2.2, source=sources["predicted"])
    plot.scatter(
        "x", "y", size=6, line_color="colour", fill_color=None, line_width=1.5,
        source=sources["marks"],
    )  # fmt: skip
    return plot, sources


def _gaps():
    plot = axes("round", "gap, %", x=(0, 200), log_y=True)
    sources = {}
    for name, colour, words in (
        ("deviation", DEVIATION, "deviations"),
        ("common", COMMON, "common motion"),
    ):
        sources[name], sources[f"{name}_around"] = source("x", "y"), source("x", "y")
        plot.line("x", "y", color=colour, line_width=2.2, legend_label=words, source=sources[name])
        plot.line(
            "x", "y", color=colour, line_width=1.8, line_dash="dotted",
            source=sources[f"{name}_around"],
        )  # fmt: skip
    _legend_above(plot)
    return plot, sources


def _explanations():
    last = len(NAMES) - 1
    plot = axes("gap, %", "", x=(0.1, 300), log_x=True, height=420)
    plot.y_range = Range1d(-last - 0.6, 0.6)
    plot.ygrid.visible = False
    plot.yaxis.ticker = FixedTicker(ticks=[-k for k in range(last + 1)])
    plot.yaxis.major_label_overrides = {-k: words for k, words in enumerate(NAMES.values())}
    sources = {"twice": source("x", "y")}
    for name, colour, words in (
        ("deviations", DEVIATION, "deviations"),
        ("shares", SHARE, "distance"),
    ):
        sources[name] = source("x", "y", "from", "label", "ink")
        plot.hbar(
            y="y", left="from", right="x", height=0.36, color=colour, line_color=None,
            legend_label=words, source=sources[name],
        )  # fmt: skip
        plot.text(
            "x", "y", text="label", text_color="ink", text_baseline="middle", source=sources[name],
            text_font={"value": FONT}, text_font_size="11px",
        )  # fmt: skip
    plot.line("x", "y", line_dash="dashed", tags=["ink"], source=sources["twice"])
    _legend_above(plot)
    return plot, sources


def _legend_above(plot):
    plot.add_layout(plot.legend[0], "above")
    legend(plot)


def _exercises():
    return [
        Exercise(
            "A ring, else as the page opens: how many times as much as the prediction does a "
            "complete graph miss of what agents differ in? (a whole number)",
            answer=10, tolerance=0.6,
            hint="Divide the two blue bars.",
            why="58 / 6.0. By the distance travelled it is 1.4 / 0.7: twice, where a step 10 % "
            "smaller is nearly as bad.",
        ),
        Exercise(
            "Still there: in how many rounds must the networks be linearized at least, that graph "
            "and method are told from wrong ones?",
            answer=2, tolerance=0.1,
            hint="Drag the first slider to the left end, and come back until the status says so.",
            why="Around the start alone the kernel has moved too far: 56 % of what agents differ "
            "in is missed, and ATC in place of DGD misses hardly more.",
        ),
        Exercise(
            "ATC on a complete graph: why is there nothing to tell?",
            answer="agree",
            options=[("wide", "the network is too wide"), ("agree", "agents always agree"),
                     ("unstable", "it is unstable")],
            hint="Look at the status, and at how far agents deviate.",
            why="Each round ends with everybody's average, so that no agent is anything beside the "
            "mean.",
        ),
    ]  # fmt: skip
