"""The report of a run, one HTML file: asked, predicted, observed; where and why they part."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np

from ntkdyn.disk import MARK, whole_file
from ntkdyn.quantities import long_name
from ntkdyn.records import Record, agent_names
from ntkdyn.validation.accounting import SOURCES
from ntkdyn.validation.verdicts import CLEAR

MEASURES = {
    "train_loss": "loss on own points",
    "global_loss": "common objective",
    "test_loss": "test loss",
    "test_accuracy": "test accuracy",
    "test_r2": "test R²",
    "displacement": "distance from the start",
    "consensus_distance": "distance from the mean",
}

MEANING = {
    "arithmetic": "float32, or what was asked for, in place of float64",
    "linearization": "the network in place of its tangent at the start",
    "minibatch_noise": "the batches that were drawn in place of all points",
    "discretization": "rounds in place of the gradient flow",
    "finite_width": "the network's own kernel in place of that of infinite width",
}
"""source of the gap -> what it is the cost of"""


class Findings(NamedTuple):
    """What a report is about.

    Example:
        >>> pred, obs = nd.predict(prob, dgd, W, 4), nd.train(prob, dgd, W, 4)
        >>> nd.validation.Findings(pred, obs, nd.compare(pred, obs)).accounts is None
        True
    """

    predicted: Record
    observed: Record
    comparison: Record
    accounts: Record | None = None
    """the gap by source"""


def write_report(
    findings: Findings,
    pictures: Mapping[str, Path],
    path: Path,
    *,
    formulas: str = "",
) -> Path:
    """Write the report of what was found to `path`.

    Args:
        findings: records, and what the gap is made of.
        pictures: the files of "overlay" and, of `accounts`, "accounts".
        path: of the page, one HTML file.
        formulas: a section in HTML.

    Returns:
        `path`.

    Raises:
        InputError: for a place that cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> from ntkdyn import figures
        >>> told, seen = nd.predict(prob, dgd, W, 4), nd.train(prob, dgd, W, 4)
        >>> folder, gaps = pathlib.Path(tempfile.mkdtemp()), nd.compare(told, seen)
        >>> overlay = folder / "overlay.png"
        >>> _ = figures.style.save(figures.overlay.draw(told, seen, gaps), overlay)
        >>> findings = nd.validation.Findings(told, seen, gaps)
        >>> nd.validation.write_report(findings, {"overlay": overlay}, folder / "gaps.html").name
        'gaps.html'
    """
    predicted, observed, comparison, accounts = findings
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        resources.files("ntkdyn.validation").joinpath("report.html").read_text("utf-8")
    )
    own_kernel = predicted.attrs["kernel"] == "empirical"
    page = template.render(
        percent=_percent,
        mark=MARK,
        title=predicted.attrs.get("title") or "Predicted and observed",
        asked=_asked(predicted),
        unstable=predicted.attrs.get("stable") == 0,
        predicted=predicted.attrs,
        comparison=comparison.attrs,
        final_round=int(comparison["round"][-1]),
        agents=_agents(predicted, observed, comparison),
        names=agent_names(predicted),
        measures=[MEASURES[name] for name in _measures(predicted, observed)],
        log=_log(observed),
        rates=_rates(comparison),
        explanations=_explanations(comparison),
        gaps=_gaps(comparison),
        segments=_segments(comparison),
        bounds=_bounds(predicted, comparison),
        parameter_gaps=_parameter_gaps(comparison),
        sources=None if accounts is None else _sources(accounts),
        largest=None if accounts is None else _largest(accounts, own_kernel),
        own_kernel=own_kernel,
        pictures={
            name: base64.b64encode(at.read_bytes()).decode() for name, at in pictures.items()
        },
        environment=_environment(observed),
        spec=predicted.attrs.get("spec"),
        formulas=formulas,
    )
    with whole_file(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    return path


def _measures(predicted: Record, observed: Record) -> list[str]:
    """What both sides hold; a log may lack some."""
    return [name for name in MEASURES if name in predicted and name in observed]


def _log(observed: Record) -> dict[str, str]:
    """What was read of a log as what, and what it lacks; nothing of a run of our own."""
    if "log" not in observed.attrs:
        return {}
    read = {long_name(name) or name: said for name, said in _read(observed).items()}
    return {"file": observed.attrs["log"], **read, "not held": observed.attrs["log_lacks"]}


def _read(observed: Record) -> dict[str, str]:
    return json.loads(observed.attrs["log_columns"])


def _asked(record: Record) -> dict[str, Any]:
    """The run in plain words."""
    attrs = record.attrs
    batch = attrs["batch_size"]
    rows = {
        "method": attrs["method"],
        "network": attrs.get("network"),
        "data": attrs.get("dataset"),
        "normalisation": attrs.get("normalisation"),
        "targets": attrs.get("targets_scaled"),
        "partition": attrs.get("partition"),
        "agents": record.sizes["agent"],
        "training points": int(record["points_owned"].sum()),
        "mixing weights": f"{attrs['weights']}, spectral gap {attrs['spectral_gap']:.4g}",
        "loss": attrs["loss"],
        "rounds": int(record["round"][-1]),
        "points per round": attrs.get("batches") or ("all" if batch < 0 else f"{batch} per agent"),
        "step size": f"{attrs['step_size']:.5g}",
        "stability limit": f"{attrs['step_size_limit']:.5g}"
        if "step_size_limit" in attrs
        else None,
        "stable": {0: "false", 1: "true"}.get(attrs.get("stable")),
    }
    return {name: value for name, value in rows.items() if value is not None}


def _agents(predicted: Record, observed: Record, comparison: Record) -> list[dict[str, Any]]:
    """Per agent its points, its last gap, and per measure the last value on both sides."""
    end = comparison["round"].values[-1]
    last = {
        name: [side[name].sel(round=end).values for side in (predicted, observed)]
        for name in _measures(predicted, observed)
    }
    ends = {name: comparison[name].values[-1].tolist() for name in ("gap", "deviation_gap")}
    owned = predicted["points_owned"].values
    written = lambda name, value: (
        f"{100 * value:.1f} %" if name.endswith("accuracy") else f"{value:.4g}"
    )
    return [
        {
            "number": agent,
            "points": int(owned[agent]),
            **{name: values[agent] for name, values in ends.items()},
            "pairs": [
                [written(name, side[agent]) for side in sides] for name, sides in last.items()
            ],
        }
        for agent in range(len(owned))
    ]


def _rates(comparison: Record) -> list[dict[str, Any]]:
    """Per agent the factor per round on both sides, and whether their intervals meet."""
    if "observed_rate" not in comparison:
        return []
    names = ("rate", "rate_low", "rate_high")
    sides = ("predicted", "observed")
    table = np.stack([[comparison[f"{side}_{name}"].values for name in names] for side in sides])
    return [
        {
            "sides": each.tolist(),
            "halving": [_halving(value) for value in each[:, 0]],
            "meet": bool(each[0, 1] <= each[1, 2] and each[1, 1] <= each[0, 2]),
        }
        for each in np.moveaxis(table, -1, 0)
    ]


def _halving(rate: float) -> str:
    """In how many rounds the loss halves at that rate, in words."""
    return f"{np.log(0.5) / np.log(rate):,.0f}" if rate < 1 else "never"


def _gaps(comparison: Record) -> list[dict[str, Any]]:
    """The gaps in about ten rounds: that of outputs as the least and the most over agents."""
    rounds = np.unique(np.linspace(0, comparison.sizes["round"] - 1, 11).astype(int))
    some = comparison.isel(round=rounds)
    columns = {
        "round": some["round"],
        "least": some["gap"].min("agent"),
        "most": some["gap"].max("agent"),
        "common": some["common_gap"],
        "deviation": some["deviation_gap_of_all"],
    }
    rows = zip(*(column.values.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _explanations(comparison: Record) -> dict[str, Any]:
    """The prediction and its nulls, the nearest first, in the round that is judged."""
    judged = comparison.attrs.get("deviation_gap_round", comparison["round"].values[-1])
    last = comparison.sel(round=judged)
    names = ("deviation_gap_of_all", "deviation_gap", "common_gap", "gap")
    most = lambda gap: gap.max("agent") if "agent" in gap.dims else gap
    ours = [float(most(last[name])) for name in names]
    table = np.stack([most(last[f"null_{name}"]).values for name in names], axis=1)
    told = last["skill"].values if "skill" in last else np.full(len(table), np.nan)
    rows = [
        {
            "name": str(name),
            "gaps": gaps.tolist(),
            "skill": "" if np.isnan(skill) else f"{skill:.2f}",
        }
        for name, gaps, skill in zip(last["explanation"].values, table, told, strict=True)
    ]
    rows.sort(key=lambda row: row["gaps"])
    first = {"name": "the prediction", "gaps": ours, "skill": ""}
    return {"round": int(judged), "rows": [first, *rows], "told_from": CLEAR}


def _segments(comparison: Record) -> list[dict[str, Any]]:
    """Per segment of an anchored prediction where it begins, and by how much it is off."""
    if "segment_error" not in comparison:
        return []
    names = ("anchor", "segment_error", "true_segment_error")
    return [
        {"begins": int(begins), "estimated": float(estimated), "true": float(true)}
        for begins, estimated, true in zip(*(comparison[n].values for n in names), strict=True)
    ]


def _bounds(predicted: Record, comparison: Record) -> list[dict[str, Any]]:
    """In about ten rounds how far off an agent can be, and how far off one is."""
    if "certified_share" not in predicted or comparison.attrs["compared"] != "outputs":
        return []
    predicted = predicted.sel(round=comparison["round"])
    rounds = np.unique(np.linspace(0, predicted.sizes["round"] - 1, 11).astype(int))
    proven, true = (
        values.isel(round=rounds).max("agent").values
        for values in (predicted["certified_share"], comparison["gap"])
    )
    return [
        {"round": int(predicted["round"][place]), "proven": float(most), "true": float(gap)}
        for place, most, gap in zip(rounds, proven, true, strict=True)
    ]


def _parameter_gaps(comparison: Record) -> list[dict[str, Any]]:
    """Per round, the most over agents and its standard error."""
    if "parameter_gap" not in comparison:
        return []
    gaps, errors = (
        comparison[name].transpose("parameter_round", "parameter_agent").values
        for name in ("parameter_gap", "parameter_gap_error")
    )
    worst = gaps.argmax(axis=1)
    rounds = comparison["parameter_round"].values
    return [
        {"round": int(r), "most": float(gap[i]), "error": float(error[i])}
        for r, gap, error, i in zip(rounds, gaps, errors, worst, strict=True)
    ]


def _sources(accounts: Record) -> list[dict[str, Any]]:
    """Per source, the largest first, what it costs every agent in the last round."""
    last = accounts.isel(round=-1)
    held = sorted(
        (name for name in SOURCES if name in accounts), key=lambda name: -float(last[name].mean())
    )
    rows = [(name, name.replace("_", " "), MEANING[name]) for name in held]
    rows.append(("gap", "whole gap", "all of these together, to the last link"))
    return [
        {
            "name": words,
            "meaning": meaning,
            "shares": last[name].values.tolist(),
            "deviations": last[f"deviation_{name}"].values.tolist(),
        }
        for name, words, meaning in rows
    ]


def _largest(accounts: Record, own_kernel: bool) -> str:
    """The source that costs most in the last round, of those that the prediction gives up."""
    given_up = (*SOURCES[:2], *(() if own_kernel else ("finite_width",)))
    held = [name for name in given_up if name in accounts]
    means = [float(accounts[name].isel(round=-1).mean()) for name in held]
    return held[int(np.argmax(means))].replace("_", " ")


def _percent(share: float, digits: int = 2, style: str = "f") -> str:
    if np.isnan(share):
        return "hardly differ"
    return f"{100 * share:.{digits}{style}}\u00a0%" if np.isfinite(share) else "diverged"


def _environment(observed: Record) -> dict[str, str]:
    attrs = observed.attrs
    if "versions" not in attrs:
        return {}
    more = {"device": attrs["device"], "trained in": attrs.get("precision")}
    return json.loads(attrs["versions"]) | {k: v for k, v in more.items() if v is not None}
