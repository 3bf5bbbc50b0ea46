"""Convergence checks: how fast each agent's loss falls, as predicted and as observed.

    L_i(t) ~ rate^t

by a straight line through log L_i over the rounds, in the later half of the run. Neighbouring
rounds err alike, so that the 95 % interval counts n (1 - r) / (1 + r) independent ones, r being the
correlation of neighbouring residuals. Where the loss tends to a floor above zero the line is
that of the whole curve, floor and all: alike for both sides, and not an eigenvalue of the method.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.stats
import xarray as xr
from jaxtyping import Float

from ntkdyn.errors import InputError
from ntkdyn.records import Record

LEAST = 5
"""recorded rounds that a line is drawn through"""


class Rate(NamedTuple):
    """The factor per round, and its 95 % interval; infinite where nothing is known."""

    value: float
    low: float
    high: float


def rate(rounds: Float[np.ndarray, " rounds"], losses: Float[np.ndarray, " rounds"]) -> Rate:
    """The factor by which positive `losses` fall or grow in each round."""
    if len(rounds) < LEAST:
        raise InputError(f"rate: needs at least {LEAST} recorded rounds, got {len(rounds)}")
    if not (losses > 0).all() or not np.isfinite(losses).all():
        raise InputError("rate: losses must be positive and finite")
    logs = np.log(losses)
    fit = scipy.stats.linregress(rounds, logs)
    residuals = logs - fit.intercept - fit.slope * rounds
    square = residuals @ residuals
    alike = max(0.0, residuals[1:] @ residuals[:-1] / square) if square else 0.0
    free = len(rounds) * (1 - alike) / (1 + alike) - 2
    if free <= 0:
        return Rate(float(np.exp(fit.slope)), 0.0, np.inf)
    error = np.sqrt(square / free / ((rounds - rounds.mean()) ** 2).sum())
    error *= np.sqrt((1 + alike) / (1 - alike))
    half = error * scipy.stats.t.ppf(0.975, free)
    with np.errstate(over="ignore"):  # of an interval that holds everything
        return Rate(*(float(np.exp(fit.slope + shift)) for shift in (0.0, -half, half)))


def rates(predicted: Record, observed: Record) -> dict[str, xr.DataArray]:
    """Per side, the rate of `train_loss` with its interval (agent); nothing of too short runs."""
    sides = {"predicted": predicted, "observed": observed}
    half = slice(predicted.sizes["round"] // 2, None)
    losses = {name: side["train_loss"].isel(round=half) for name, side in sides.items()}
    rounds = losses["predicted"]["round"].values.astype(float)
    positive = all((each > 0).all() and np.isfinite(each).all() for each in losses.values())
    if len(rounds) < LEAST or not positive:
        return {}
    found = {}
    for side, each in losses.items():
        columns = each.transpose("agent", "round").values.astype(float)
        table = np.array([rate(rounds, column) for column in columns])
        for name, column in zip(("rate", "rate_low", "rate_high"), table.T, strict=True):
            found[f"{side}_{name}"] = xr.DataArray(column, dims="agent")
    return found
