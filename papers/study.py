"""What a study of a paper is: runs, and what is claimed of them.

A study has cases: each is a run, or a few that belong together, with labels (method, graph, seed)
and measures. A claim is a number, its effect, made from the measures of every seed, and a bar that
it is to be above or below: once of what the linear theory predicts, once of what training shows.
Cases are kept as they are done, and whole training runs as they go, so that a study that was
stopped goes on.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.stats
import xarray as xr

from ntkdyn.checkpoints import Checkpoints
from ntkdyn.design import Parts
from ntkdyn.disk import MARK
from ntkdyn.engine import Progress
from ntkdyn.records import Record, environment

SIDES = ("predicted", "trained")

Label = str | int | float
Table = pd.DataFrame
"""A row per case: its labels, and what was measured, in per cent where nothing else is said."""


class Case(NamedTuple):
    """A run, or a few that belong together."""

    labels: Mapping[str, Label]
    measure: Callable[[Checkpoints], Mapping[str, float]]
    """Gives what was measured; a long training may save itself in those checkpoints."""

    @property
    def name(self) -> str:
        return "_".join(str(each).replace(" ", "-") for each in self.labels.values())


def cases_of(
    measure: Callable[[Any, Mapping[str, Label], Checkpoints], Mapping[str, float]],
    settings: Any,
    labels: Sequence[Mapping[str, Label]],
) -> list[Case]:
    """A case for each of the labels, measured with these settings."""
    return [Case(each, functools.partial(measure, settings, each)) for each in labels]


class Claim(NamedTuple):
    """A number that is to be above its bar, or below it."""

    says: str
    effect: Callable[[Table], pd.Series]
    """the table of one side -> the number, by seed; nothing where that side has no such cases"""
    unit: str = "points"
    bar: float = 0.0
    below: bool = False
    theory: str = ""
    """what the linear theory says, where no case is predicted"""


class Study(NamedTuple):
    """What a paper claims, and the runs that it is held against."""

    about: str
    stages: Sequence[Callable[[Any, Table], Sequence[Case]]]
    """(settings, what is measured so far) -> further cases"""
    claims: Sequence[Claim]
    measures: Sequence[str]
    """columns of the table that is written, in per cent"""
    full: Any
    small: Any

    def settings(self, small: bool) -> Any:
        return self.small if small else self.full


def run(
    study: Study, settings: Any, parts: Parts, folder: Path, progress: Progress | None
) -> Table:
    """Every case of a study that is not done yet, and the table of all."""
    table = pd.DataFrame()
    for stage in study.stages:
        cases = stage(settings, table)
        begun = len(table)
        for number, case in enumerate(cases, begun):
            row = pd.DataFrame([_measured(case, parts, folder / f"{case.name}.run")])
            table = pd.concat([table, row], ignore_index=True)
            if progress:
                progress(number + 1, begun + len(cases))
    return table


def _measured(case: Case, parts: Parts, folder: Path) -> dict[str, Label]:
    """Labels and measures, kept once they are there."""
    there = parts.found(case.name)
    if there is None:
        checkpoints = Checkpoints(folder, resume=True)
        there = xr.Dataset(dict(case.measure(checkpoints)))
        parts.keep(case.name, there)
        checkpoints.remove()
    return {**case.labels, **{name: float(value) for name, value in there.items()}}


def where(table: Table, **labels: Label) -> Table:
    """The rows with those labels; none where a label is not in the table."""
    for name, value in labels.items():
        table = table[table[name] == value] if name in table else table[:0]
    return table


NOTHING = pd.Series(dtype=float)


def of(measure: str, **labels: Label) -> Callable[[Table], pd.Series]:
    """That measure of the cases with those labels, a mean by seed."""

    def effect(table: Table) -> pd.Series:
        rows = where(table, **labels)
        return (
            rows.groupby("seed")[measure].mean().dropna() if len(rows) else pd.Series(dtype=float)
        )

    return effect


def gain(
    measure: str, one: Mapping[str, Label], other: Mapping[str, Label], **both: Label
) -> Callable[[Table], pd.Series]:
    """By how much that measure is larger with `one` labels than with `other`, by seed."""

    def effect(table: Table) -> pd.Series:
        first, second = (of(measure, **both, **each)(table) for each in (one, other))
        return (first - second).dropna()

    return effect


def worst(effects: Sequence[Callable[[Table], pd.Series]]) -> Callable[[Table], pd.Series]:
    """The smallest of several effects, by seed."""
    return lambda table: pd.concat([each(table) for each in effects], axis=1).min(axis=1)


class Judged(NamedTuple):
    """The mean effect over seeds, its 95 % interval, and what follows for a claim."""

    mean: float
    low: float
    high: float
    status: str


def judged(effect: np.ndarray | Sequence[float], bar: float, below: bool) -> Judged:
    """Mean, interval by Student's t over seeds, and whether the claim holds of it.

    "holds" where the interval is on the claimed side of the bar, "contradicted" where it is on the
    other, "open" where the bar is inside, or there are fewer than two seeds.
    """
    effect = np.asarray(effect, float)
    if len(effect) < 2:
        return Judged(float(effect.mean()) if len(effect) else np.nan, -np.inf, np.inf, "open")
    half = scipy.stats.t.ppf(0.975, len(effect) - 1) * effect.std(ddof=1) / len(effect) ** 0.5
    mean = float(effect.mean())
    low, high = mean - half, mean + half
    right, wrong = (high < bar, low > bar) if below else (low > bar, high < bar)
    return Judged(mean, low, high, "holds" if right else "contradicted" if wrong else "open")


def record_of(name: str, study: Study, table: Table, small: bool) -> Record:
    """The table, and for every claim and side the effect by seed, its interval and its status.

    Claims about cases that the study has not are left out.
    """
    sides = [where(table, side=side) for side in SIDES]
    seeds = sorted(pd.concat(sides)["seed"].unique())
    effects = {
        claim: [claim.effect(rows).reindex(seeds) for rows in sides] for claim in study.claims
    }
    effects = {claim: pair for claim, pair in effects.items() if pd.concat(pair).notna().any()}
    found = [
        [judged(each.dropna().to_numpy(), claim.bar, claim.below) for each in pair]
        for claim, pair in effects.items()
    ]
    over = ("claim", "side")
    of_claims = {
        "effect": ((*over, "of_seed"), np.array([*effects.values()], float)),
        **{
            key: (over, np.array([[getattr(each, key) for each in pair] for pair in found]))
            for key in Judged._fields
        },
        "bar": ("claim", [float(claim.bar) for claim in effects]),
        "below": ("claim", [int(claim.below) for claim in effects]),
    }
    coordinates = {
        "claim": [claim.says for claim in effects],
        "unit": ("claim", [claim.unit for claim in effects]),
        "theory": ("claim", [claim.theory for claim in effects]),
        "side": list(SIDES),
        "of_seed": seeds,
    }
    measures, labels = _columns(study, table)
    attributes = {"study": name, "about": study.about, "small": int(small), **environment()}
    return xr.Dataset(measures | of_claims, labels | coordinates, attributes)


def _columns(study: Study, table: Table) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was measured of every case, and its labels, as text."""
    labels = [name for name in table if name not in study.measures]
    return (
        {name: ("case", table[name]) for name in study.measures},
        {f"case_{name}": ("case", table[name].fillna("").astype(str)) for name in labels},
    )


def said(record: Record) -> str:
    """The claims in two columns, and means and standard deviations of all cases, as Markdown."""
    lines = [f"# {record.attrs['about']}", ""]
    small = record.attrs["small"]
    lines += [
        f"{MARK}: `papers run {record.attrs['study']}{' --small' if small else ''}`; "
        f"means over {record.sizes['of_seed']} seeds with their 95 % intervals.",
        "", "| claim | bar | linear theory | training | status |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for claim in record["claim"].values:
        row = record.sel(claim=claim)
        unit, bar = str(row["unit"].values), float(row["bar"])
        sign = "below" if int(row["below"]) else "above"
        cells = [_interval(row.sel(side=side), unit) for side in SIDES]
        cells[0] = cells[0] or str(row["theory"].values) or "not predicted"
        status = str(row["status"].sel(side="trained").values)
        lines.append(f"| {claim} | {sign} {bar:g} {unit} | {cells[0]} | {cells[1]} | {status} |")
    return "\n".join([*lines, "", *_cases(record)]) + "\n"


def _interval(row: Record, unit: str) -> str:
    mean, low, high = (float(row[key]) for key in ("mean", "low", "high"))
    if np.isnan(mean):
        return ""
    between = f" [{low:.3g}, {high:.3g}]" if np.isfinite(low) else ""
    return f"{mean:.3g}{between} {unit}"


def _cases(record: Record) -> list[str]:
    """A row for each setting, seeds taken together."""
    labels = [each for each in record.coords if str(each).startswith("case_")]
    shown = [each for each in labels if each != "case_seed"]
    measures = [each for each in record.data_vars if record[each].dims == ("case",)]
    rows = record[[*measures]].to_dataframe().reset_index(drop=True)
    rows = rows.assign(**{each: record[each].values for each in labels})
    grouped = rows.groupby(shown, sort=False, dropna=False)[measures].agg(["mean", "std"])
    head = [each.removeprefix("case_") for each in shown] + [m.replace("_", " ") for m in measures]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for key, row in grouped.iterrows():
        key = key if isinstance(key, tuple) else (key,)
        cells = [_spread(row[each, "mean"], row[each, "std"]) for each in measures]
        lines.append(f"| {' | '.join([*map(str, key), *cells])} |")
    return lines


def _spread(mean: float, deviation: float) -> str:
    if np.isnan(mean):
        return ""
    return f"{mean:.3g}" if np.isnan(deviation) else f"{mean:.3g} ± {deviation:.2g}"


def each(**labels: Sequence[Label]) -> list[dict[str, Label]]:
    """All combinations of those labels, the last changing fastest."""
    return [
        dict(zip(labels, values, strict=True)) for values in itertools.product(*labels.values())
    ]
