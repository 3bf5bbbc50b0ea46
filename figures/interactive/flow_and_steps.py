"""Flow against steps: what a finite step size does, mode by mode."""

from __future__ import annotations

import math

from bokeh.models import Span
from ntkdyn.figures.interactive.page import Exercise, Page, Plot, Slider, axes, legend, source


def page() -> Page:
    """The description of the page."""
    factor = axes("step size × eigenvalue, ηλ", "factor per round", x=(0, 3), y=(-2.2, 1.2))
    for at in (-1, 0, 1):
        factor.add_layout(
            Span(location=at, dimension="width", line_color="#D55E00" if at else "#888888",
                 line_dash="dashed" if at else "solid", line_width=1.2)
        )  # fmt: skip
    lines = {"line_width": 2.2}
    steps = source("x", "y")
    flow = source("x", "y")
    factor.line("x", "y", color="#0072B2", legend_label="steps", source=steps, **lines)
    factor.line("x", "y", color="#E69F00", legend_label="flow", source=flow, **lines)
    factor.scatter("x", "y", size=9, color="#0072B2", source=(dots := source("x", "y")))
    factor.scatter(
        "x", "y", size=9, color="#E69F00", marker="diamond", source=(gems := source("x", "y"))
    )
    modes = axes("mode k", "share of the error left, |e(t) / e(0)|", x=(0.3, 12.7), log_y=True)
    modes.scatter(
        "x", "y", size=10, color="#0072B2", legend_label="steps", source=(left := source("x", "y"))
    )
    modes.scatter("x", "y", size=11, color="#E69F00", marker="diamond", legend_label="flow",
                  source=(smooth := source("x", "y")))  # fmt: skip
    loss = axes("round", "squared error, all modes", x=(0, 50), log_y=True)
    loss.line(
        "x",
        "y",
        color="#0072B2",
        legend_label="steps",
        source=(stepped := source("x", "y")),
        **lines,
    )
    loss.line(
        "x", "y", color="#E69F00", legend_label="flow", source=(flowed := source("x", "y")), **lines
    )
    legend(factor)
    legend(modes, "bottom_right")
    legend(loss)
    return Page(
        name="flow_and_steps",
        title="Flow against steps",
        lead="Theory likes infinitesimal steps; training takes finite ones. See which modes "
        "notice.",
        controls=[
            Slider("step", "Step size × largest eigenvalue", 0.02, 3, 1.5, 0.01),
            Slider("rounds", "Rounds t", 1, 200, 20, 1),
            Slider("decay", "Decay p of the eigenvalues", 0.2, 3, 1, 0.1),
            Slider("w", "Eigenvalue w of the graph", -0.5, 1, 1, 0.01),
        ],
        readouts={
            "steps": "mode 1 after t steps",
            "flow": "mode 1 after flow time t",
            "loss_steps": "squared error, steps",
            "loss_flow": "squared error, flow",
            "limit": "largest stable ηλ",
        },
        plots={
            "factor": Plot(factor, "What one round leaves",
                           caption="Marks are the twelve modes; beyond the dashed lines errors "
                           "grow."),
            "modes": Plot(modes, "What t rounds leave, mode by mode", caption="Size of the error; "
            "signs are dropped."),
            "loss": Plot(loss, "All modes together", wide=True),
        },
        models={"steps": steps, "flow": flow, "dots": dots, "gems": gems, "left": left,
        "smooth": smooth,
                "stepped": stepped, "flowed": flowed},
        exercises=[
            Exercise(
                "At ηλ = 1.9 and w = 1, what share of mode 1 do ten steps leave? (three digits)",
                answer=0.9**10, tolerance=0.002,
                hint="One step leaves 1 − 1.9 = −0.9.",
                why="0.9¹⁰ = 0.349, where the flow says 5.6 · 10⁻⁹.",
            ),
            Exercise(
                "At which ηλ does a single step remove mode 1 entirely when w = 0.5?",
                answer=0.5, tolerance=0.005,
                hint="The factor w − ηλ must be zero.",
                why="0.5 − 0.5 = 0. The flow would leave exp(−1).",
            ),
            Exercise(
                "How large may ηλ be when the graph has an eigenvalue of −1/3, as a ring of four "
                "has?",
                answer=2 / 3, tolerance=0.01,
                hint="w − ηλ must not fall below −1.",
                why="−1/3 − 2/3 = −1: a ring of four needs steps three times smaller than one "
                "agent alone.",
            ),
        ],
        data={"modes": 12, "e": math.e},
    )  # fmt: skip
