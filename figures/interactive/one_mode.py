"""One kernel mode x one graph mode: the two-by-two recursion behind every method."""

from __future__ import annotations

import math

import numpy as np
from bokeh.models import ColumnDataSource
from ntkdyn.figures.interactive.page import Choice, Exercise, Page, Plot, Slider, axes, source
from ntkdyn.figures.style import METHOD_NAMES


def page() -> Page:
    """The description of the page."""
    plane = axes("real part of z", "imaginary part of z", x=(-1.6, 1.6), y=(-1.6, 1.6), height=340)
    plane.line(
        [math.cos(math.tau * k / 180) for k in range(181)],
        [math.sin(math.tau * k / 180) for k in range(181)],
        color="#D55E00", line_dash="dashed", line_width=1.5,
    )  # fmt: skip
    plane.scatter("x", "y", size=14, color="colour", source=(roots := source("x", "y", "colour")))
    chart = axes(
        "step size × kernel eigenvalue, s = ηλ",
        "graph eigenvalue w",
        x=(0, 3),
        y=(-1, 1),
        height=340,
    )
    chart.image(
        "image", x=0, y=-1, dw=3, dh=2,
        source=(picture := ColumnDataSource({"image": [np.zeros((60, 90), np.float32)]})),
        palette=PALETTE, level="image",
    )  # fmt: skip
    chart.renderers[-1].glyph.color_mapper.update(low=0, high=2)
    chart.scatter(
        "x",
        "y",
        size=15,
        fill_color=None,
        line_color="#000000",
        line_width=5,
        source=(here := source("x", "y")),
    )
    chart.scatter(
        "x", "y", size=15, fill_color=None, line_color="#ffffff", line_width=2.5, source=here
    )
    error = axes("round", "|error|, as a share of the start", x=(0, 40), log_y=True, height=300)
    error.line("x", "y", line_width=1.5, tags=["ink"], source=(track := source("x", "y")))
    error.scatter("x", "y", size=8, color="colour", source=(signs := source("x", "y", "colour")))
    return Page(
        name="one_mode",
        title="One kernel mode, one graph mode",
        lead="Behind every method is a recursion of two numbers. Move the two eigenvalues and "
        "watch its roots.",
        controls=[
            Choice("method", "Method", list(METHOD_NAMES.items()), "diging"),
            Slider("s", "s = step size × kernel eigenvalue", 0, 3, 0.3, 0.01),
            Slider("w", "Graph eigenvalue w", -1, 1, 0.8, 0.01),
            Slider("rounds", "Rounds", 5, 200, 40, 5),
        ],
        readouts={
            "a": "a, sum of the roots",
            "b": "b, product of the roots",
            "radius": "larger modulus",
            "final": "error in the last round",
            "halving": "rounds to halve the error",
        },
        plots={
            "plane": Plot(plane, "Roots and the unit disc", caption="Inside the dashed circle, "
            "errors vanish."),
            "chart": Plot(chart, "Stability map", caption="Blue: the larger modulus is below 1, "
            "darker is faster. "
                          "Orange: the error grows. The ring marks where you are."),
            "error": Plot(error, "The error, round by round", wide=True,
                          caption="Blue: positive. Orange: negative."),
        },
        models={"roots": roots, "picture": picture, "here": here, "track": track, "signs": signs},
        exercises=[
            Exercise(
                "DGD with w = −1/3: what is the largest stable s? (two digits)",
                answer=2 / 3, tolerance=0.01,
                hint="a = w − s must not fall below −1.",
                why="s = 1 + w = 2/3.",
            ),
            Exercise(
                "EXTRA with w = 0: up to which s do the two roots form a complex pair? (two "
                "digits)",
                answer=-1 + math.sqrt(2), tolerance=0.012,
                hint="Solve a²/4 = b with a = 1 − s and b = 1/2 − s.",
                why="(1 − s)² = 2 − 4s gives s² + 2s − 1 = 0, so s = √2 − 1 = 0.414.",
            ),
            Exercise(
                "Which of these tolerates the largest s at w = 0.9?",
                answer="exact_diffusion",
                options=[("diging", "gradient tracking"), ("extra", "EXTRA"), ("exact_diffusion",
                "exact diffusion")],
                hint="Compare the three maps on the row w = 0.9, or raise s until the status "
                "turns.",
                why="Exact diffusion adapts before it combines, so the averaging tames the "
                "overshoot as well.",
            ),
        ],
    )  # fmt: skip


def _between(low: str, high: str, count: int) -> list[str]:
    """Evenly spaced colours."""
    ends = [[int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in (low, high)]
    shares = [k / (count - 1) for k in range(count)]
    return [
        "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in zip(*ends, strict=True))
        for share in shares
    ]


PALETTE = [*_between("#08306b", "#c6dbef", 64), *_between("#fdd0a2", "#a63603", 64)]
"""modulus 0 to 1 in blues, 1 to 2 in oranges"""
