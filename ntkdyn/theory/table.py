"""All bounds of one case as a table: bound, linear prediction and observed run side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from ntkdyn.errors import InputError
from ntkdyn.records import Record, environment
from ntkdyn.theory.bounds import Case, Verdict
from ntkdyn.theory.theorems import bounds_of

__all__ = ["Row", "cells", "record", "rows"]


class Row(NamedTuple):
    """One bound, held against a predicted and, where there is one, an observed record.

    Example:
        >>> case, told = nd.theory.theorems.case(bare, dgd, W), nd.predict(bare, dgd, W, 20)
        >>> nd.theory.table.rows(case, told)[0].observed is None
        True
    """

    predicted: Verdict
    observed: Verdict | None


def rows(case: Case, predicted: Record, observed: Record | None = None) -> list[Row]:
    """Every bound about the case's method, held against what was predicted and observed.

    Args:
        case: as `theorems.case` gives it.
        predicted: a record of `predict`.
        observed: a record of `train`, in the same rounds.

    Returns:
        A row for each bound.

    Raises:
        InputError: for records of other rounds, or of another case.

    Example:
        >>> case, told = nd.theory.theorems.case(bare, dgd, W), nd.predict(bare, dgd, W, 20)
        >>> len(nd.theory.table.rows(case, told)) == len(nd.theory.theorems.bounds_of(case))
        True
    """
    if observed is not None:
        _same_rounds(predicted["round"].values, observed["round"].values)
    return [
        Row(
            bound.check(predicted),
            bound.check(observed) if observed is not None and bound.of_run else None,
        )
        for bound in bounds_of(case)
    ]


def _same_rounds(predicted: np.ndarray, observed: np.ndarray) -> None:
    if not np.array_equal(predicted, observed):
        said = (
            f"{len(each)} rounds from {each[0]} to {each[-1]}" for each in (predicted, observed)
        )
        raise InputError(
            "bounds: the two records must hold the same rounds, and the predicted one has "
            f"{next(said)}, the observed one {next(said)}"
        )


COLUMNS = ("bound", "of", "assumptions", "round", "bound there", "exact", "observed", "verdict")
"""exact: of the linearized problem, by its prediction or its spectrum"""


def cells(row: Row) -> Sequence[str]:
    """A row as text: numbers in the round where the bound is tightest.

    Args:
        row: of `rows`.

    Returns:
        A text for each of `COLUMNS`.

    Example:
        >>> case, told = nd.theory.theorems.case(bare, dgd, W), nd.predict(bare, dgd, W, 20)
        >>> first = nd.theory.table.cells(nd.theory.table.rows(case, told)[0])
        >>> len(first) == len(nd.theory.table.COLUMNS)
        True
    """
    verdict, bound = row.predicted, row.predicted.bound
    at = verdict.tightest
    seen = "" if row.observed is None else _number(row.observed.seen[at])
    return (
        f"{bound.name}\n{bound.source}",
        bound.quantity,
        _assumed(verdict),
        "all" if not bound.of_run and np.ptp(verdict.promised) == 0 else str(verdict.rounds[at]),
        _number(verdict.promised[at]),
        _number(verdict.seen[at]),
        seen,
        "\n".join(
            _said(*each) for each in (("", verdict), ("observed: ", row.observed)) if each[1]
        ),
    )


def record(case: Case, found: Sequence[Row]) -> Record:
    """The table as a record, which `ntkdyn figure bounds` draws.

    Args:
        case: as `theorems.case` gives it.
        found: its rows.

    Returns:
        Over `bound` and `round`: `promised`; `seen` of the linearized problem and `observed` of
        real networks, NaN where not known, not finite, or lost in rounding. Over `bound`: `state`,
        `observed_state`, `quantity`, `source` and `assumptions`, in words; `factor` is 1 where two
        are compared by their logarithms.

    Example:
        >>> case, told = nd.theory.theorems.case(bare, dgd, W), nd.predict(bare, dgd, W, 20)
        >>> nd.theory.table.record(case, nd.theory.table.rows(case, told))["promised"].dims
        ('bound', 'round')
    """
    exact = [row.predicted for row in found]
    unseen = np.full(len(exact[0].rounds), np.nan)
    over = {
        "promised": [verdict.promised for verdict in exact],
        "seen": [_told(verdict) for verdict in exact],
        "observed": [_told(row.observed) if row.observed else unseen for row in found],
    }
    factors = [verdict.bound.factor for verdict in exact]
    words = {
        "state": [verdict.state for verdict in exact],
        "observed_state": [row.observed.state if row.observed else "" for row in found],
        "quantity": [verdict.bound.quantity for verdict in exact],
        "source": [verdict.bound.source for verdict in exact],
        "assumptions": [_assumed(verdict) for verdict in exact],
    }
    return xr.Dataset(
        {name: (("bound", "round"), np.stack(values)) for name, values in over.items()}
        | {name: ("bound", values) for name, values in words.items()}
        | {"factor": ("bound", np.array(factors, dtype=np.int8))},
        {"bound": [verdict.bound.name for verdict in exact], "round": exact[0].rounds},
        {
            "method": case.method.name,
            "step_size": case.step_size,
            "weights": case.given.name,
            "agents": case.given.agents,
            **environment(),
        },
    )


def _told(verdict: Verdict) -> np.ndarray:
    return np.where(verdict.told, verdict.seen, np.nan)


def _assumed(verdict: Verdict) -> str:
    return "\n".join(
        f"{'+' if each.holds else '-'} {each.name} ({each.found})" for each in verdict.assumptions
    )


def _said(whose: str, verdict: Verdict) -> str:
    if verdict.state == "violated":
        return f"{whose}VIOLATED at round {verdict.violated_at}, ratio {verdict.tightness:.3g}"
    if verdict.state == "holds":
        return f"{whose}holds, ratio {verdict.tightness:.3g}"
    if verdict.state == "promises nothing":
        return f"{whose}promises nothing here: a factor of 1"
    said, away = f"{whose}{verdict.state}", verdict.diverged_at
    if verdict.unknown:
        return f"{said}: {verdict.unknown}"
    if away is None:
        return said
    return (
        f"{said} at round {away}"
        if verdict.state == "diverged"
        else f"{said}; diverged at round {away}"
    )


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4g}"
