"""Targets: which settings of a study reach one, how soon, and at what cost.

    worst test_accuracy >= 0.9      of the worst agent
    mean train_loss <= 0.05         of agents on average

The cost is counted up to the first recorded round in which the target is reached: "rounds";
"floats", what all agents have sent; or "seconds", by a model of machine and network (`Clock`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats
import xarray as xr

from ntkdyn.design.axes import Axis, told
from ntkdyn.errors import InputError, check_name, is_real
from ntkdyn.records import Record

FORM = re.compile(r"(worst|mean|best)\s+(\w+)\s*(>=|<=)\s*(\S+)")

MEASURES = ("train_loss", "global_loss", "test_loss", "train_accuracy", "test_accuracy")
"""what may be reached"""

BYTES = 4
"""of a number that is sent"""


class Target(NamedTuple):
    """What is to be reached."""

    over: str
    """worst, mean or best: of agents"""
    measure: str
    more: bool
    """whether more of it is better"""
    value: float

    def seen(self, record: Record) -> xr.DataArray:
        """The measure of the agents asked for; NaN where there is none."""
        if self.measure not in record:
            raise InputError(f"reach: {self.measure} is not known of these data")
        if self.over == "mean":
            return record[self.measure].mean("agent")
        least = (self.over == "worst") == self.more
        return record[self.measure].min("agent") if least else record[self.measure].max("agent")


class Clock(NamedTuple):
    """How long a round takes: its gradients, and one message after another over each link."""

    compute: float = 0.0
    """seconds of a round's gradients"""
    bandwidth: float = 1.25e7
    """bytes per second that an agent sends"""
    latency: float = 1e-3
    """seconds of a message, before its first byte"""


def target(text: str) -> Target:
    """What is written as above."""
    found = FORM.fullmatch(text.strip())
    try:
        value = float(found[4]) if found else np.nan
    except ValueError:
        value = np.nan
    if not found or not np.isfinite(value):
        raise InputError(
            f'reach: must be like "worst test_accuracy >= 0.9" or "mean train_loss <= 0.05", got '
            f"{text!r}"
        )
    check_name("reach", found[2], MEASURES)
    return Target(found[1], found[2], found[3] == ">=", value)


def reached(record: Record, wanted: Target, cost: str = "floats", clock: Clock = Clock()) -> Record:
    """Of every setting whether it reaches the target, when, and at what cost.

    `reached_round` and `cost` (axes...), NaN where it is never reached in the recorded rounds;
    `best_seen`, the best of the measure in any round, and `cost_to_best` up to there. `front`
    (axes...) marks the settings that no other beats in both.
    """
    check_name("cost", cost, COSTS)
    for name, each in clock._asdict().items():
        if not is_real(each) or each < 0 or (name == "bandwidth" and each == 0):
            raise InputError(f"{name}: must be a positive number, got {each!r}")
    seen, paid = wanted.seen(record), COSTS[cost](record, clock)
    hit = seen >= wanted.value if wanted.more else seen <= wanted.value
    first = hit.argmax("round")
    ever = hit.any("round")
    known = seen.notnull().any("round")
    sign = 1 if wanted.more else -1
    best = (sign * seen).fillna(-np.inf).argmax("round")
    found = {
        "reached_round": record["round"][first].where(ever),
        "cost": paid.isel(round=first).where(ever),
        "best_seen": seen.isel(round=best).where(known),
        "cost_to_best": paid.isel(round=best).where(known),
    }
    alone = {name: each.drop_vars("round", errors="ignore") for name, each in found.items()}
    made = xr.Dataset(alone)
    made["front"] = _front(sign * made["best_seen"], made["cost_to_best"])
    told = f"{wanted.over} {wanted.measure} {'>=' if wanted.more else '<='} {wanted.value:g}"
    return made.assign_attrs(record.attrs | {"reach": told, "cost": cost})


def ranked(found: Record, *, more: bool) -> list[int]:
    """Numbers of the settings: the cheapest that reach the target, then those that come nearest."""
    cost = found["cost"].values.ravel()
    best = found["best_seen"].values.ravel()
    near = np.where(np.isnan(best), np.inf, -best if more else best)
    order = np.lexsort((near, np.where(np.isnan(cost), np.inf, cost)))
    return [int(place) for place in order if near[place] < np.inf]


def _front(measure: xr.DataArray, cost: xr.DataArray) -> xr.DataArray:
    """Where no other setting has as good a measure at less cost."""
    values, paid = measure.values.ravel(), cost.values.ravel()
    marked, least = np.zeros(values.shape, bool), np.inf
    for k in np.lexsort((paid, -np.nan_to_num(values, nan=-np.inf))):
        if np.isfinite(values[k]) and paid[k] < least:
            marked[k], least = True, paid[k]
    return measure.copy(data=marked.reshape(measure.shape))


def _floats(record: Record, clock: Clock) -> xr.DataArray:
    del clock
    if "floats_sent" not in record:
        raise InputError('cost: what a bare kernel sends is not known; count "rounds"')
    return record["floats_sent"].sum("agent")


def _rounds(record: Record, clock: Clock) -> xr.DataArray:
    del clock
    some = next(each for each in record.values() if "agent" in each.dims)
    return (record["round"] + 0.0 * some.isel(agent=0).fillna(0)).transpose(*some.dims[:-1])


def _seconds(record: Record, clock: Clock) -> xr.DataArray:
    """Of the agent that sends most: all wait for it."""
    rounds, sent = _rounds(record, clock), record["floats_sent"].max("agent")
    return rounds * (clock.compute + clock.latency) + BYTES * sent / clock.bandwidth


COSTS = {"rounds": _rounds, "floats": _floats, "seconds": _seconds}


SHOWN = 5
"""settings that are named, of those that reach the target"""


def said(
    found: Record, axes: Sequence[Axis], best: Sequence[int], trained: Record | None
) -> list[str]:
    """In lines: the best settings, what training them showed, and how the ranks agree."""
    flat = {name: found[name].values.ravel() for name in found.data_vars}
    reaching, attrs = int(np.isfinite(flat["cost"]).sum()), found.attrs
    lines = [f"{reaching} of {attrs['settings']} settings reach {attrs['reach']}"]
    if not reaching:
        lines = [f"none of {attrs['settings']} settings reaches {attrs['reach']}; nearest come"]
    shown = SHOWN if trained is None else max(SHOWN, trained.sizes["setting"])
    for number, place in enumerate(best[:shown]):
        paid, near = flat["cost"][place], f"{flat['best_seen'][place]:.4g} at best"
        here = f"{paid:.4g} {attrs['cost']}, round {flat['reached_round'][place]:.0f}"
        line = f"  {told(axes, place)}: {here if np.isfinite(paid) else near}"
        lines.append(line + _observed(trained, number, attrs["cost"]))
    if attrs["left_out"]:
        lines.append(f"{attrs['settings_left_out']} cannot be run; of {attrs['left_out']}")
    if trained is not None and trained.sizes["setting"] > 2:
        lines.append(_agreement(flat, trained))
    return lines


def _observed(trained: Record | None, number: int, cost: str) -> str:
    """What training the setting showed, if it was trained."""
    if trained is None or number >= trained.sizes["setting"]:
        return ""
    seen = trained.isel(setting=number)
    if np.isnan(seen["cost"]):
        return f"; trained: not reached, {float(seen['best_seen']):.4g} at best"
    return f"; trained: {float(seen['cost']):.4g} {cost}, round {float(seen['reached_round']):.0f}"


def _agreement(flat: dict[str, np.ndarray], trained: Record) -> str:
    """Spearman's rank correlation of the predicted and observed costs, or of what came nearest."""
    places = trained["setting"].values
    reached = all(np.isfinite(each).all() for each in (flat["cost"][places], trained["cost"]))
    by = "cost" if reached else "best_seen"
    rank = scipy.stats.spearmanr(flat[by][places], trained[by]).statistic
    return f"ranks of predicted and trained {by.replace('_', ' ')} agree by {rank:.2f} (Spearman)"
