"""A page of a run of one's own: its kernel in few coordinates, its curves while one drags."""

from __future__ import annotations

import json
import math

import numpy as np
import xarray as xr
from bokeh.models import LogTicker, PrintfTickFormatter
from ntkdyn.figures.interactive.page import Choice, Page, Plot, Slider, axes, source

METHODS = (("dgd", "DGD"), ("cta", "CTA"), ("atc", "ATC diffusion"),
           ("diging", "gradient tracking"), ("extra", "EXTRA"),
           ("exact_diffusion", "exact diffusion"))  # fmt: skip

TOPOLOGIES = ("ring", "path", "star", "complete", "exponential")

MEASURES = (("global", "common objective"), ("train", "loss on own points"), ("test", "test loss"))

DIGITS = 7


def page(record: xr.Dataset) -> Page:
    """The page of what `Experiment.explored` gives."""
    attrs, data = record.attrs, _data(record)
    losses = axes("round", "loss", x=(0, 1), log_y=True, height=360)
    losses.multi_line(
        "x", "y", color="colour", line_width=2, source=(curves := source("x", "y", "colour"))
    )
    marks = source("x", "y", "colour")
    losses.scatter("x", "y", size=6, color="colour", line_color="white", source=marks)
    ends = axes("agent", "loss in the last round", x=(0, 1), log_y=True)
    ends.scatter("x", "y", size=11, color="colour", source=(last := source("x", "y", "colour")))
    ends.yaxis.update(
        ticker=LogTicker(mantissas=[1, 2, 5]), formatter=PrintfTickFormatter(format="%g")
    )
    measures = [pair for pair in MEASURES if pair[0] != "test" or "test" in data["measures"]]
    step, rounds = math.log10(attrs["step_size"]), int(attrs["rounds"])
    return Page(
        name="own_run",
        title=attrs["title"] or "A run of one's own",
        lead="Drag the step, exchange graph and method, deal the points anew: every agent's curve, "
        "as the linearized networks have it, computed here.",
        controls=[
            Slider("step", "Step size η", step - 1.5, step + 0.7, step, 0.01,
                   scale="log"),
            Choice("topology", "Graph",
                   [("given", f"as given ({attrs['weights']})"), *((t, t) for t in TOPOLOGIES)],
                   "given"),
            Choice("method", "Method", METHODS, attrs["method"]),
            Slider("stay", "Points that stay with their agent", 0, 1, 1, 0.02),
            Choice("what", "Shown", measures, "global"),
            Slider("rounds", "Rounds", max(1, rounds // 10), rounds, rounds, max(1, rounds // 10)),
        ],
        readouts={
            "limit": "stability limit of η",
            "mean": "mean last loss",
            "worst": "largest",
            "best": "smallest",
        },
        plots={
            "losses": Plot(losses, "Loss of every agent", wide=True,
                           caption="Curves: computed. Discs, where there are any: observed."),
            "ends": Plot(ends, "Where agents end", caption="One disc per agent."),
        },
        models={"curves": curves, "marks": marks, "last": last},
        exercises=[],
        data=data,
    )  # fmt: skip


def _data(record: xr.Dataset) -> dict:
    """What the page's script needs, as JSON can say it."""
    attrs = record.attrs
    observed = None
    if "observed_round" in record:
        names = [name for name, _ in MEASURES if f"observed_{name}" in record]
        observed = {"rounds": record["observed_round"].values.tolist()}
        observed |= {name: _rounded(record[f"observed_{name}"].values) for name in names}
    tested = record.sizes["point"] > record.sizes["train_point"]
    return {
        "features": _rounded(record["feature"].values),
        "targets": _rounded(record["target"].values),
        "owner": record["owner"].values.tolist(),
        "agents": int(record["owner"].max()) + 1,
        "W": record["weight"].values.tolist(),
        "deal": {name: record[f"deal_{name}"].values.tolist() for name in ("number", "order")},
        "given": {"topology": "given", "method": attrs["method"], "step": attrs["step_size"]},
        "observed": observed,
        "measures": ["global", "train", *(["test"] if tested else [])],
        "about": attrs["about"],
        "error": _percent(record["error"].values[0]),
        "other_error": _percent(np.max(record["other_error"].values)),
    }


def _rounded(values: np.ndarray) -> list:
    """Numbers of so many digits, which is what the page's own error leaves of them."""
    return json.loads(json.dumps(values.tolist()), parse_float=_short)


def _short(text: str) -> float:
    return float(f"{float(text):.{DIGITS}g}")


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
