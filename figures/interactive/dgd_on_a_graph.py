"""DGD on a graph: agents, topology, step size and heterogeneity, with the spectrum beside them."""

from __future__ import annotations

from bokeh.models import Span
from ntkdyn.figures.interactive.page import Choice, Exercise, Page, Plot, Slider, axes, source


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
    graph = axes("", "", x=(-1.35, 1.35), y=(-1.35, 1.35), height=300)
    graph.axis.visible = False
    graph.grid.visible = False
    graph.multi_line("x", "y", line_width=1.6, tags=["ink"], source=(links := source("x", "y")))
    nodes = source("x", "y", "size", "colour", "label", "ink")
    graph.scatter("x", "y", size="size", color="colour", source=nodes)
    graph.text(
        "x", "y", text="label", text_align="center", text_baseline="middle", text_color="ink",
        text_font_size="12px", text_font_style="bold", source=nodes,
    )  # fmt: skip
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
        lead="Choose who talks to whom, how far each step goes and how different the agents' data "
        "are; "
        "watch every agent's error and the spectrum that decides it.",
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
        ],
        readouts={
            "limit": "stability limit of η",
            "gap": "spectral gap of W",
            "smallest": "smallest eigenvalue",
            "mean": "mean final objective",
            "optimum": "least objective",
        },
        plots={
            "errors": Plot(errors, "Error of every agent", wide=True,
                           caption="One curve per agent; dashed: the best there is."),
            "graph": Plot(graph, "Who talks to whom",
                          caption="Large discs: agents whose final error is large."),
            "spectrum": Plot(spectrum, "Spectrum of one round",
                             caption="Between the dashed lines errors shrink."),
        },
        models={"curves": curves, "least": least, "links": links, "nodes": nodes, "values": values},
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
