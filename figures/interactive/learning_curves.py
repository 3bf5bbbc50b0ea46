"""Learning curves on a graph: every agent's expected test loss, without any data."""

from __future__ import annotations

from ntkdyn.figures.interactive.page import (
    Choice,
    Exercise,
    Page,
    Plot,
    Slider,
    axes,
    legend,
    source,
)

PARTS = (("bias", "bias", "#0072B2"), ("sampling", "sampling", "#E69F00"),
         ("noise", "label noise", "#D55E00"))  # fmt: skip


def page() -> Page:
    """The description of the page."""
    look = {"x": (0.9, 110), "log_x": True, "log_y": True}
    losses = axes("round", "expected test loss", height=340, **look)
    losses.multi_line(
        "x", "y", color="colour", line_width=2, source=(curves := source("x", "y", "colour"))
    )
    parts, models = axes("round", "mean over agents", height=300, **look), {}
    for name, label, colour in PARTS:
        models[name] = source("x", "y")
        parts.line("x", "y", color=colour, line_width=2, legend_label=label, source=models[name])
    parts.add_layout(parts.legend[0], "above")
    legend(parts)
    return Page(
        name="learning_curves",
        title="Learning curves on a graph",
        lead="How well will every agent do on new inputs, whatever points it draws? Drag their "
        "number, the noise, the step; the curves are means over all draws, and nothing is drawn.",
        controls=[
            Slider("points", "Points of each agent, about", 0.7, 2.7, 1.5, 0.02, scale="log"),
            Slider("unequal", "How unequal their numbers are", 0, 1, 0.5, 0.05),
            Slider("noise", "Label noise σ", 0, 2, 1, 0.05),
            Slider("step", "Step size η", -1.5, 0.3, -0.3, 0.02, scale="log"),
            Choice(
                "topology", "Topology",
                [("path", "path"), ("ring", "ring"), ("star", "star"), ("complete", "complete"),
                 ("none", "no links")], "path",
            ),
            Choice("method", "Method", [("dgd", "DGD"), ("atc", "ATC diffusion")], "dgd"),
            Slider("agents", "Agents", 2, 6, 4, 1),
        ],
        readouts={
            "counts": "points of agents",
            "best": "best round, mean over agents",
            "least": "loss then",
            "last": "loss in round 100",
            "bias": "of it bias",
            "sampling": "of it sampling",
            "noise": "of it label noise",
            "residual": "left of the fixed point",
        },
        plots={
            "losses": Plot(losses, "Expected test loss of every agent", wide=True,
                           caption="Over all draws of points and of label noise; one curve per "
                           "agent, the first with the fewest points."),
            "parts": Plot(parts, "What it is made of", wide=True,
                          caption="Bias: of the mean iterate. Sampling: of the points drawn. "
                          "Label noise: what is fitted of it."),
        },
        models={"curves": curves, **models},
        exercises=[
            Exercise(
                "As the page opens: in which round is the mean loss least?",
                answer=BEST, tolerance=1,
                hint="Read the numbers below the plots, after a reset.",
                why="Afterwards label noise is fitted faster than the bias falls.",
            ),
            Exercise(
                "Take away all links: how many times as large is the part of label noise in round "
                "100, in the mean over agents? (two digits)",
                answer=1.8, tolerance=0.06,
                hint="Divide the number without links by that on the path.",
                why="Alone an agent fits the noise of its own few labels; on a path that of all is "
                "averaged.",
            ),
            Exercise(
                "Without label noise, does it pay to stop before round 100?",
                answer="no",
                options=[("yes", "yes"), ("no", "no")],
                hint="Set σ to zero and look where the mean loss is least.",
                why="Nothing harmful is fitted: bias falls on, and what the draw of points adds "
                "does not outgrow it.",
            ),
        ],
    )  # fmt: skip


BEST = 60
"""the round in which the mean loss is least as the page opens"""
