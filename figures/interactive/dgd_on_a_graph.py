"""DGD on a graph: agents, topology, step size and heterogeneity, with the spectrum beside them."""

from __future__ import annotations

from bokeh.models import Span
from ntkdyn.figures.interactive.page import (
    Button,
    Choice,
    Drawing,
    Drawn,
    Exercise,
    Page,
    Plot,
    Slider,
    axes,
    source,
)

GRAPH = """Click one agent, then another: a link is added or cut. Click a link to cut it; drag
agents where you like. Large discs: agents whose error is large. Play, and values travel along the
links, as large as what they change."""

DATA = """Click an agent of the graph, then drag over points: they become its own. Curves: what
every agent has learned in the round shown."""


def page() -> Page:
    """The description of the page."""
    errors = axes("round", "common objective", x=(0, 150), log_y=True, height=340)
    errors.multi_line(
        "x", "y", color="colour", line_width=2, source=(curves := source("x", "y", "colour"))
    )
    errors.line(
        "x",
        "y",
        line_dash="dashed",
        line_width=1.5,
        tags=["ink"],
        source=(least := source("x", "y")),
    )
    playhead = Span(dimension="height", line_color="#D55E00", line_width=1.5)
    errors.add_layout(playhead)
    spectrum = axes("number, from the smallest", "eigenvalue", x=(-1, 80), y=(-1.4, 1.2))
    for at in (-1, 1):
        spectrum.add_layout(
            Span(
                location=at,
                dimension="width",
                line_color="#D55E00",
                line_dash="dashed",
                line_width=1.5,
            )
        )
    spectrum.scatter(
        "x", "y", size=5, color="colour", source=(values := source("x", "y", "colour"))
    )
    return Page(
        name="dgd_on_a_graph",
        title="Decentralized gradient descent on a graph",
        lead="Draw who talks to whom, deal out the data, choose how far each step goes; watch "
        "every agent's error and the spectrum that decides it.",
        controls=[
            Slider("agents", "Agents", 3, 16, 8, 1),
            Choice(
                "topology", "Topology",
                [("ring", "ring"), ("path", "path"), ("star", "star"),
                 ("exponential", "exponential"), ("complete", "complete")], "ring",
            ),
            Slider("step", "Step size η", -2.0, 0.3, -0.5, 0.01, scale="log"),
            Slider("heterogeneity", "Heterogeneity", 0, 1, 0.8, 0.01),
            Slider("rounds", "Rounds", 20, 400, 150, 10),
            Drawn("links", on=["agents", "topology"]),
            Drawn("places", on=["agents"]),
            Drawn("moved", on=["agents"]),
            Button("play", "Play", beside="graph"),
            Slider("at", "Round shown", 0, 150, 150, 1, upto="rounds", beside="graph"),
        ],
        readouts={
            "limit": "stability limit of η",
            "gap": "spectral gap of W",
            "smallest": "smallest eigenvalue",
            "now": "mean objective, round shown",
            "mean": "mean final objective",
            "optimum": "least objective",
        },
        plots={
            "errors": Plot(errors, "Error of every agent", wide=True,
                           caption="One curve per agent; dashed: the best there is."),
            "graph": Drawing("Who talks to whom", view="-150 -130 300 260", caption=GRAPH),
            "data": Drawing("Whose data, and what agents make of it", view="-156 -120 312 240",
                            caption=DATA),
            "spectrum": Plot(spectrum, "Spectrum of one round", wide=True,
                             caption="Between the dashed lines errors shrink."),
        },
        models={"curves": curves, "least": least, "values": values, "playhead": playhead},
        exercises=[
            Exercise(
                "Set 8 agents. What is the spectral gap of the ring with Metropolis weights? "
                "(three digits)",
                answer=0.195, tolerance=0.002,
                hint="The weights are all 1/3, so the second eigenvalue is 1/3 + 2/3 cos(2π/8).",
                why="1 − (1/3 + 2/3 cos 45°) = 0.195; a complete graph has gap 1.",
            ),
            Exercise(
                "Heterogeneity 1, a ring of 8, 400 rounds: halve η from 0.2 to 0.1. What is left "
                "of the height at which the curves settle above the dashed line?",
                answer="third",
                options=[("all", "all of it"), ("half", "half of it"), ("third", "about a third")],
                hint="Subtract the least objective from the mean final objective, for both steps.",
                why="The bias of x is nearly proportional to η and costs its square: a quarter for "
                "very small steps, a little more for these.",
            ),
            Exercise(
                "Raise η until the status says unstable. Where does the first eigenvalue leave the "
                "interval?",
                answer="minus",
                options=[("plus", "at +1"), ("minus", "at −1"), ("complex", "it turns complex")],
                hint="Look at the lower dashed line.",
                why="W − ηH is symmetric, so its eigenvalues stay real, and a larger step moves "
                "them down.",
            ),
        ],
    )  # fmt: skip
