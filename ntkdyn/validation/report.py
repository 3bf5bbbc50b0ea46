"""The report of a run, one HTML file: what was asked, predicted, observed; where they part."""

from __future__ import annotations

import base64
import json
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from ntkdyn.records import Record, whole_file

MEASURES = {
    "train_loss": "loss on own points",
    "global_loss": "common objective",
    "test_loss": "test loss",
    "test_accuracy": "test accuracy",
    "displacement": "distance from the start",
    "consensus_distance": "distance from the mean",
}


def write_report(
    predicted: Record,
    observed: Record,
    comparison: Record,
    picture: Path,
    path: Path,
    *,
    formulas: str = "",
) -> Path:
    """Write the report to `path`, with `picture` and a section of `formulas` (HTML) inside it."""
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        resources.files("ntkdyn.validation").joinpath("report.html").read_text("utf-8")
    )
    page = template.render(
        title=predicted.attrs.get("title") or "Predicted and observed",
        asked=_asked(predicted),
        unstable=predicted.attrs.get("stable") is False,
        predicted=predicted.attrs,
        comparison=comparison.attrs,
        final_round=int(predicted["round"][-1]),
        measures=_final_values(predicted, observed),
        gaps=_gaps(comparison),
        parameter_gaps=_parameter_gaps(comparison),
        picture=base64.b64encode(picture.read_bytes()).decode(),
        versions=json.loads(observed.attrs["versions"]),
        device=observed.attrs["device"],
        spec=predicted.attrs.get("spec"),
        formulas=formulas,
    )
    with whole_file(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    return path


def _asked(record: Record) -> dict[str, Any]:
    """The run in plain words."""
    attrs = record.attrs
    batch = attrs["batch_size"]
    rows = {
        "method": attrs["method"],
        "network": attrs.get("network"),
        "data": attrs.get("dataset"),
        "normalisation": attrs.get("normalisation"),
        "partition": attrs.get("partition"),
        "agents": record.sizes["agent"],
        "training points": int(record["points_owned"].sum()),
        "mixing weights": f"{attrs['weights']}, spectral gap {attrs['spectral_gap']:.4g}",
        "loss": attrs["loss"],
        "rounds": int(record["round"][-1]),
        "points per round": "all" if batch < 0 else f"{batch} per agent",
        "step size": f"{attrs['step_size']:.5g}",
        "stability limit": f"{attrs['step_size_limit']:.5g}"
        if "step_size_limit" in attrs
        else None,
        "stable": str(attrs["stable"]).lower() if "stable" in attrs else None,
    }
    return {name: value for name, value in rows.items() if value is not None}


def _final_values(predicted: Record, observed: Record) -> list[dict[str, Any]]:
    """Per measure, every agent's last value, predicted and observed."""
    return [
        {
            "label": label,
            "percent": name.endswith("accuracy"),
            "predicted": predicted[name].isel(round=-1).values.tolist(),
            "observed": observed[name].isel(round=-1).values.tolist(),
        }
        for name, label in MEASURES.items()
        if name in predicted and name in observed
    ]


def _gaps(comparison: Record) -> list[dict[str, Any]]:
    """The gap in about ten rounds: the least and the most over agents."""
    rounds = np.unique(np.linspace(0, comparison.sizes["round"] - 1, 11).astype(int))
    gap = comparison["gap"].isel(round=rounds)
    rows = zip(gap["round"].values, gap.min("agent").values, gap.max("agent").values, strict=True)
    return [{"round": int(r), "least": float(a), "most": float(b)} for r, a, b in rows]


def _parameter_gaps(comparison: Record) -> list[dict[str, Any]]:
    if "parameter_gap" not in comparison:
        return []
    gap = comparison["parameter_gap"].max("parameter_agent")
    return [
        {"round": int(r), "most": float(v)}
        for r, v in zip(gap["parameter_round"].values, gap.values, strict=True)
    ]
