"""All bounds of one case as a table: bound, linear prediction and observed run side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ntkdyn.records import Record
from ntkdyn.theory.bounds import Case, Verdict
from ntkdyn.theory.theorems import bounds_of


class Row(NamedTuple):
    """One bound, held against a predicted and, where there is one, an observed record."""

    predicted: Verdict
    observed: Verdict | None


def rows(case: Case, predicted: Record, observed: Record | None = None) -> list[Row]:
    """Every bound about the case's method."""
    return [
        Row(
            bound.check(predicted),
            bound.check(observed) if observed is not None and bound.of_run else None,
        )
        for bound in bounds_of(case)
    ]


COLUMNS = ("bound", "of", "assumptions", "round", "bound there", "predicted", "observed", "verdict")


def cells(row: Row) -> Sequence[str]:
    """A row as text: numbers in the round where the bound is tightest."""
    verdict, bound = row.predicted, row.predicted.bound
    at = verdict.tightest
    seen = "" if row.observed is None else _number(row.observed.seen[at])
    return (
        f"{bound.name}\n{bound.source}",
        bound.quantity,
        "\n".join(f"{'+' if a.holds else '-'} {a.name} ({a.found})" for a in bound.assumptions),
        str(verdict.rounds[at]) if bound.of_run else "all",
        _number(verdict.promised[at]),
        _number(verdict.seen[at]),
        seen,
        "\n".join(
            _said(*each) for each in (("", verdict), ("observed: ", row.observed)) if each[1]
        ),
    )


def _said(whose: str, verdict: Verdict) -> str:
    if verdict.state == "violated":
        return f"{whose}VIOLATED at round {verdict.violated_at}, ratio {verdict.tightness:.3g}"
    if verdict.state == "holds":
        return f"{whose}holds, ratio {verdict.tightness:.3g}"
    return f"{whose}{verdict.state}"


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4g}"
