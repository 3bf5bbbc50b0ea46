"""Verdicts: whether an observation tells the prediction from its nulls, in one sentence.

What is judged is the deviation gap of all agents together, in the last round in which they differ.
A null is told from the prediction if its gap is at least `1 / (1 - CLEAR)` times as large. The
prediction is followed if that is so of all nulls but the step sizes, which are near the truth by
their making: those that are not told from it are named. A prediction linearized at the start alone
is no wrong explanation, and not judged: its gap is named beside that of one linearized anew.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from ntkdyn.records import Record
from ntkdyn.validation.gaps import FLOOR
from ntkdyn.validation.nulls import COARSER, STEP

CLEAR = 0.5
"""The skill from which on a null is told from the prediction: its gap is twice as large."""

TIGHT = 0.1
"""The share of the distance travelled under which a proven bound says something."""

DIVERGED = "cannot tell: outputs, predicted or observed, diverged"


def skilled(comparison: Record) -> Record:
    """The comparison with `skill` (explanation), and in attributes what was judged, and how."""
    gap = comparison["deviation_gap_of_all"]
    known = np.flatnonzero(gap.notnull())
    common = {"deviation_floor": FLOOR, "agents_differ": int(len(gap) - 1 in known)}
    if not len(known):
        return comparison.assign_attrs(verdict=_alike(comparison), **common)
    last = comparison.isel(round=known[-1])
    right, kind = float(last[gap.name]), comparison["null_kind"].values
    every = last[f"null_{gap.name}"]
    others, coarser = every[kind != COARSER], every[kind == COARSER]
    each, skill = last["deviation_gap"].fillna(-1.0), _skill(right, others)
    nearest, worst = int(others.values.argmin()), int(each.values.argmax())
    verdict = _verdict(right, others, kind[kind != COARSER] == STEP, skill)
    return comparison.assign(skill=_skill(right, every)).assign_attrs(
        deviation_gap=right,
        deviation_gap_round=int(last["round"]),
        largest_deviation_gap=float(each[worst]),
        largest_deviation_gap_agent=worst,
        nearest_null=str(others["explanation"].values[nearest]),
        nearest_null_gap=float(others[nearest]),
        skill=float(skill.min()),
        verdict="; ".join([verdict, *map(_beside, coarser)]),
        **common,
    )


def proven(predicted: Record) -> str:
    """What is proven of the prediction in its last round; nothing where no proof was asked for.

    Args:
        predicted: a record, of `certificate.bounded` where a proof was asked for.

    Returns:
        A phrase, or empty text.

    Example:
        >>> experiment.proven(nd.predict(bare, dgd, W, 2))
        ''
    """
    if "certified_share" not in predicted:
        return ""
    if "uncertified_round" in predicted.attrs:
        return f"no bound is proven from round {predicted.attrs['uncertified_round']} on"
    share = float(predicted["certified_share"][-1].max())
    return f"proven to be within {percent(share)} of the distance travelled"


def with_proof(verdict: str, predicted: Record) -> str:
    """The verdict, and what is proven where that is little."""
    little = "certified_share" in predicted and predicted["certified_share"][-1].max() < TIGHT
    return f"{verdict}; {proven(predicted)}" if little else verdict


def _skill(right: float, others: xr.DataArray) -> xr.DataArray:
    """(null - right) / the larger of the two: 1 of a null that diverged, 0 of two exact ones."""
    larger = np.maximum(others, right)
    finite = xr.where(np.isfinite(larger) & (larger > 0), larger, 1.0)
    return xr.where(np.isinf(others), float(np.isfinite(right)), (others - right) / finite)


def _verdict(right: float, others: xr.DataArray, step: np.ndarray, skill: xr.DataArray) -> str:
    if not np.isfinite(right):
        return DIVERGED
    alike = others[skill.values < CLEAR]
    if wrong := [each for each in others[(skill.values < CLEAR) & ~step]]:
        nearest = min(wrong, key=float)
        return (
            f"cannot tell the prediction from {nearest['explanation'].item()}: "
            f"deviation gaps {percent(right)} and {percent(float(nearest))}"
        )
    clear = others[skill.values >= CLEAR]
    but = f"; not told from it: {', '.join(map(_named, alike))}" if alike.size else ""
    return (
        f"observed follows the prediction: deviation gap {percent(right)}, the nearest of "
        f"{clear.size} wrong explanations {_named(min(clear, key=float))}{but}"
    )


def _beside(coarser: xr.DataArray) -> str:
    return f"{coarser['explanation'].item()} {percent(float(coarser))}"


def _named(null: xr.DataArray) -> str:
    return f"{percent(float(null))} ({null['explanation'].item()})"


def _alike(comparison: Record) -> str:
    if not np.isfinite(comparison["gap"]).all():
        return DIVERGED
    return (
        f"cannot tell: agents differ by less than {percent(FLOOR)} of the distance travelled; "
        f"the gap of their common motion is {percent(float(comparison['common_gap'][-1]))}"
    )


def percent(share: float) -> str:
    """To two digits, or three from ten per cent on."""
    digits = 2 if share < 0.1 else 3
    return f"{100 * share:.{digits}g} %" if np.isfinite(share) else "diverged"
