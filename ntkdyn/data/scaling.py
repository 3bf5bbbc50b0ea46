"""Scaling: what is subtracted from every column of numbers, and what it is divided by.

common     each column minus its training mean, all over the one standard deviation of what is left:
           as images have it, whose columns have the same unit
standard   each column minus its training mean, over its own standard deviation
none       as it is

Test points use the numbers of the training points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Real

from ntkdyn.errors import InputError, check_name

Table = Real[np.ndarray, "points columns"]

AT_A_TIME = 2**18
"""numbers that are scaled at a time"""

SHOWN = 4
"""columns that words name at most"""


class Scaling(NamedTuple):
    """x -> (x - mean) / deviation, column by column, and the same in words."""

    mean: Float[np.ndarray, " columns"]
    deviation: Float[np.ndarray, " columns"] | float
    words: str

    def __call__(self, values: Table) -> Float[np.ndarray, "points columns"]:
        """The columns scaled, in float64."""
        scaled = values - self.mean
        scaled /= self.deviation
        return scaled

    def single(
        self, values: Table, chosen: Int[np.ndarray, " chosen"]
    ) -> Float[np.ndarray, "chosen columns"]:
        """The chosen rows, scaled in float64 and rounded to float32, a few of them at a time."""
        rounded = np.empty((len(chosen), values.shape[1]), np.float32)
        rows = max(1, AT_A_TIME // max(1, values.shape[1]))
        with np.errstate(over="ignore"):
            for first in range(0, len(chosen), rows):
                part = slice(first, first + rows)
                rounded[part] = self(values[chosen[part]])
        return rounded


def fit(
    rule: str, values: Table, what: str, *, kind: str = "feature", names: Sequence[str] = ()
) -> Scaling:
    """The scaling of that name for these training points.

    `what` begins the refusals; `kind` is what a column is, and `names` are what the columns are
    called.
    """
    check_name("scale", rule, RULES)
    with np.errstate(over="ignore", invalid="ignore"):
        return RULES[rule](values, what, kind, names)


def _common(values: Table, what: str, kind: str, names: Sequence[str]) -> Scaling:
    del names
    mean = values.mean(axis=0)
    scale = (values - mean).std()
    if not 0 < scale < np.inf:
        reason = ", for they are all the same" if scale == 0 else ""
        raise InputError(
            f"{what}: the standard deviation of the {len(values)} training points drawn, by "
            f"which all are divided, must be positive and finite, got {scale:g}{reason}"
        )
    words = f"each {kind} minus its training mean, all over their one training standard deviation"
    return Scaling(mean, scale, words)


def _standard(values: Table, what: str, kind: str, names: Sequence[str]) -> Scaling:
    mean = values.mean(axis=0)
    deviation = np.array([column.std() for column in values.T])
    constant = np.array([(column == column[0]).all() for column in values.T])
    mean, deviation = np.where(constant, values[0], mean), np.where(constant, 1, deviation)
    if constant.all():
        raise InputError(
            f"{what}: every {kind} is the same at all {len(values)} training points; at least one "
            f"must differ"
        )
    if not np.isfinite(deviation).all() or (deviation == 0).any():
        raise InputError(
            f"{what}: the standard deviation of {kind} {_named(names, ~(deviation > 0))} must be "
            f"positive and finite"
        )
    words = f"each {kind} minus its training mean, over its training standard deviation"
    said = f"; constant there, so zero: {_named(names, constant)}" if constant.any() else ""
    return Scaling(mean, deviation, words + said)


def _named(names: Sequence[str], chosen: np.ndarray) -> str:
    """The chosen columns by name, or else by number; a few of them."""
    listed = [names[i] if names else str(i) for i in np.flatnonzero(chosen)]
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more


def _none(values: Table, what: str, kind: str, names: Sequence[str]) -> Scaling:
    del what, kind, names
    return Scaling(np.zeros(values.shape[1]), 1.0, "none")


RULES: dict[str, Callable[[Table, str, str, Sequence[str]], Scaling]] = {
    "common": _common,
    "standard": _standard,
    "none": _none,
}
