"""Methods side by side on heterogeneous data: who is biased, who is not, and what it costs."""

from __future__ import annotations

from ntkdyn.figures.interactive.page import (
    Choice,
    Exercise,
    Page,
    Plot,
    Slider,
    Switch,
    axes,
    source,
)  # fmt: skip
from ntkdyn.figures.style import METHOD_NAMES, METHODS


def page() -> Page:
    """The description of the page."""
    distance = axes("round", "distance to the optimum", x=(0, 300), log_y=True, height=400)
    distance.multi_line(
        "x", "y", color="colour", line_width=2.4, source=(curves := source("x", "y", "colour"))
    )
    apart = axes("round", "distance between agents", x=(0, 300), log_y=True, height=300)
    apart.multi_line(
        "x", "y", color="colour", line_width=2.4, source=(spread := source("x", "y", "colour"))
    )
    return Page(
        name="methods_side_by_side",
        title="Six methods on the same data",
        lead="DGD, CTA and ATC against gradient tracking, EXTRA and exact diffusion: bias, speed "
        "and stability.",
        controls=[
            *(Switch(name, METHOD_NAMES[name], colour) for name, colour in METHODS.items()),
            Slider("heterogeneity", "Heterogeneity", 0, 1, 0.7, 0.01),
            Slider("step", "Step size η", -2.0, 0.3, -1.0, 0.01, scale="log"),
            Slider("agents", "Agents", 3, 12, 8, 1),
            Choice(
                "topology", "Topology",
                [("ring", "ring"), ("path", "path"), ("star", "star"),
                 ("exponential", "exponential"), ("complete", "complete")], "ring",
            ),
            Slider("rounds", "Rounds", 20, 500, 500, 20),
        ],
        readouts={name: METHOD_NAMES[name] for name in METHODS},
        plots={
            "distance": Plot(distance, "Distance to the optimum", wide=True,
                             caption="Root mean square over agents, as a share of the distance at "
                             "the start."),
            "apart": Plot(apart, "Disagreement", wide=True,
                          caption="Root mean square distance from the mean agent, in the same "
                          "unit."),
        },
        models={"curves": curves, "spread": spread},
        exercises=[
            Exercise(
                "Which of these has no bias, whatever the step size below its limit?",
                answer="extra",
                options=[("dgd", "DGD"), ("atc", "ATC diffusion"), ("extra", "EXTRA")],
                hint="Set heterogeneity 1 and 500 rounds. Which curves go straight down?",
                why="In its fixed points all agents agree and their gradients add up to zero.",
            ),
            Exercise(
                "Heterogeneity 0.7, a ring of 8, 500 rounds: by which factor does the distance of "
                "DGD shrink from η = 0.4 to η = 0.2? (one decimal)",
                answer=1.63, tolerance=0.1,
                hint="Divide the two numbers beside DGD.",
                why="1.6 at such large steps, nearer to 2 the smaller they are: then the bias is "
                "proportional to the step size.",
            ),
            Exercise(
                "On a complete graph, what is special about ATC?",
                answer="agree",
                options=[("agree", "its agents always agree"), ("fast", "it needs one round"), (
                "unstable", "it is unstable")],
                hint="Look at the disagreement plot.",
                why="W averages everything in one round, so all agents leave each round with the "
                "same "
                "iterate: centralized gradient descent.",
            ),
        ],
    )  # fmt: skip
