"""Width: prediction over recorded real training, 64 to 4096, and the drift of the kernel."""

from __future__ import annotations

from importlib import resources
from typing import Any

from ntkdyn.figures.interactive.page import (
    Choice,
    Exercise,
    Page,
    Plot,
    Slider,
    axes,
    source,
    ticks,
)

from ntkdyn import records


def page() -> Page:
    """The description of the page, with the recordings inside."""
    data = recordings()
    widths = data["width"]
    loss = axes("round", "loss on own points", x=(0, 200), log_y=True, height=340)
    loss.multi_line(
        "x", "y", color="colour", line_width=2, source=(lines := source("x", "y", "colour"))
    )
    loss.scatter("x", "y", size=7, line_color="colour", fill_color=None, line_width=1.5,
                 source=(marks := source("x", "y", "colour")))  # fmt: skip
    gap = axes("width", "gap, % of the distance travelled", x=(50, 5200), log_x=True, log_y=True)
    gap.line("x", "y", line_dash="dashed", tags=["ink"], source=(slope := source("x", "y")))
    gap.scatter(
        "x", "y", size="size", color="colour", source=(gaps := source("x", "y", "colour", "size"))
    )
    drift = axes("round", "drift of the kernel, %", x=(0, 200), y=(0, 15))
    drift.multi_line("x", "y", color="colour", line_width="thick",
                     source=(drifts := source("x", "y", "colour", "thick")))  # fmt: skip
    ticks(gap, "x", widths[::2])
    ticks(gap, "y", [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20])
    return Page(
        name="width",
        title="Width: where prediction meets real training",
        lead="Recorded training of real networks, 64 to 4096 wide, under predictions computed as "
        "you drag.",
        controls=[
            Slider("width", "Width", 0, len(widths) - 1, 2, 1,
            values=[str(width) for width in widths]),
            Choice("step", "Step size", [("0", "10 % of the limit"), ("1", "50 % of the limit")],
            "1"),
            Slider("start", "Start of the networks", 0, 2, 0, 1, values=["first", "second",
            "third"]),
            Slider("until", "Show rounds up to", 10, 200, 200, 5),
        ],
        readouts={
            "step_size": "step size η",
            "predicted": "agent 0, predicted loss",
            "observed": "agent 0, observed loss",
            "gap": "gap after 40 rounds, %",
            "drift": "drift of the kernel, %",
            "slope": "slope of log gap in log width",
        },
        plots={
            "loss": Plot(loss, "Loss of every agent", wide=True,
                         caption="Lines: predicted from the kernel at the start. Marks: recorded "
                         "training."),
            "gap": Plot(gap, "Gap against width", caption="Dashed: the fitted power of the width."),
            "drift": Plot(drift, "How far the kernel drifts", caption="Bold: the width that you "
            "chose; recorded."),
        },
        models={"lines": lines, "marks": marks, "slope": slope, "gaps": gaps, "drifts": drifts},
        exercises=[
            Exercise(
                "At 50 % of the limit, first start: at which recorded width does the gap first "
                "fall below 1 %?",
                answer=float(_first_below(data, 0.01)), tolerance=0.5,
                hint="Drag the width and read the gap.",
                why="The gap falls like a power of the width, so each further halving costs more "
                "than a doubling.",
            ),
            Exercise(
                "If the gap falls like width to the −1/2, by how much must a network widen for "
                "half the gap?",
                answer=4, tolerance=0.01,
                hint="Solve r<sup>−1/2</sup> = 1/2.",
                why="Four times the width: twice as good is expensive.",
            ),
            Exercise(
                "Which drifts more in 200 rounds: a network of 64 or one of 1024?",
                answer="narrow",
                options=[("narrow", "the narrow one"), ("wide", "the wide one"), ("same",
                "both alike")],
                hint="Look at the third plot.",
                why="In a wide network each weight has to move less, so the kernel hardly notices.",
            ),
        ],
        data={"recordings": data},
    )  # fmt: skip


def recordings() -> dict[str, Any]:
    """`widths.nc`, as analysis/width_recordings.py wrote it, for the page."""
    with resources.as_file(resources.files("ntkdyn.figures.interactive") / "widths.nc") as path:
        record = records.read(path)
    names = ("kernel", "initial", "targets", "mixing", "step_size", "train_loss", "outputs",
             "kernel_drift", "gap", "width", "round", "drift_round", "owner")  # fmt: skip
    return {name: _rounded(record[name].values.tolist()) for name in names} | {
        "gap_round": int(record.attrs["gap_round"])
    }


def _rounded(values: Any) -> Any:
    """Nine digits, more than float32 holds."""
    if isinstance(values, list):
        return [_rounded(value) for value in values]
    return float(f"{values:.9g}") if isinstance(values, float) else values


def _first_below(data: dict[str, Any], share: float) -> int:
    """The narrowest width whose gap is below `share`, at the first start and the larger step."""
    gaps = [starts[0][1] for starts in data["gap"]]
    return next(w for w, gap in zip(data["width"], gaps, strict=True) if gap < share)
