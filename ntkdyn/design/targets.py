"""Targets: which settings of a study reach one, how soon, and at what cost.

    worst test_accuracy >= 0.9      of the worst agent
    mean train_loss <= 0.05         of agents on average

The cost is counted up to the first recorded round in which the target is reached:

    rounds     done
    floats     numbers that all agents have sent, over all links
    bits       of these numbers
    seconds    by a model of machine and network (`Clock`)
    joules     by the same model
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
from ntkdyn.methods.exchange import WORD
from ntkdyn.records import Record

FORM = re.compile(r"(worst|mean|best)\s+(\w+)\s*(>=|<=)\s*(\S+)")

MEASURES = ("train_loss", "global_loss", "test_loss", "train_accuracy", "test_accuracy")
"""what may be reached"""


class Target(NamedTuple):
    """What a measure of the worst, mean or best agent is to reach, at least or at most.

    Example:
        >>> design.Target("worst", "test_accuracy", True, 0.9) == design.target(
        ...     "worst test_accuracy >= 0.9")
        True
    """

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
    """A model of machines and network: what a round takes, of time and of energy.

        seconds = t compute + max_i or sum_i (messages_i latency + 4 bytes floats_i / bandwidth)
        joules  = agents t compute watts + sum_i (4 bytes floats_i) joules_per_byte

    An agent's messages go one after another: one to every listener, or with `broadcast` one that
    all of them hear. Agents send at the same time, and all wait for the slowest (max); on a medium
    that they share, they take turns (sum).

    Example:
        >>> slow = design.Clock(bandwidth=1e4, latency=0.1)
        >>> bool(design.costs(settings, "seconds", slow)[-1, -1] > design.costs(
        ...     settings, "seconds")[-1, -1])
        True
    """

    compute: float = 0.0
    """seconds of a round's gradients"""
    bandwidth: float = 1.25e7
    """bytes per second that an agent sends"""
    latency: float = 1e-3
    """seconds of a message, before its first byte"""
    watts: float = 0.0
    """of an agent that computes"""
    joules_per_byte: float = 0.0
    broadcast: bool = False
    shared: bool = False


def target(text: str) -> Target:
    """The target that a text names: worst|mean|best MEASURE >=|<= VALUE.

    Args:
        text: such as "worst test_accuracy >= 0.9".

    Returns:
        The target.

    Raises:
        InputError: for text of another form, a measure that is none, and values that are no number.

    Example:
        >>> design.target("mean train_loss <= 0.05").measure
        'train_loss'
    """
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

    `front` marks the settings that no other beats in both best_seen and cost_to_best (Pareto).

    Args:
        record: as `Study.predict` gives it.
        wanted: the target.
        cost: rounds, floats, bits, seconds or joules.
        clock: the machines, for seconds and joules.

    Returns:
        `reached_round` and `cost` (axes...), NaN where it is never reached in the recorded rounds;
        `best_seen`, the best of the measure in any round, and `cost_to_best` up to there; `front`.

    Raises:
        InputError: for a measure that the record lacks, and as for `costs`.

    Example:
        >>> design.reached(settings, goal, "rounds")["cost"].values
        array([nan,  4.])
    """
    seen, paid = wanted.seen(record), costs(record, cost, clock)
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
    if "refusal" in record:
        made["refusal"] = record["refusal"]
    return made.assign_attrs(record.attrs | {"reach": told, "cost": cost})


def ranked(found: Record, *, more: bool) -> list[int]:
    """Numbers of the settings: the cheapest that reach the target, then those that come nearest.

    Args:
        found: as `reached` gives it.
        more: whether more of the measure is better.

    Returns:
        The numbers of the settings that could be run, from the best on.

    Example:
        >>> design.ranked(design.reached(settings, goal), more=False)
        [1, 0]
    """
    cost = found["cost"].values.ravel()
    best = found["best_seen"].values.ravel()
    near = np.where(np.isnan(best), np.inf, -best if more else best)
    missed = np.isnan(cost)
    order = np.lexsort((np.where(missed, near, 0), np.where(missed, np.inf, cost)))
    return [int(place) for place in order if near[place] < np.inf]


def _front(measure: xr.DataArray, cost: xr.DataArray) -> xr.DataArray:
    """Where no other setting has as good a measure at less cost."""
    values, paid = measure.values.ravel(), cost.values.ravel()
    marked, least = np.zeros(values.shape, bool), np.inf
    for k in np.lexsort((paid, -np.nan_to_num(values, nan=-np.inf))):
        if np.isfinite(values[k]) and paid[k] < least:
            marked[k], least = True, paid[k]
    return measure.copy(data=marked.reshape(measure.shape))


def costs(record: Record, cost: str, clock: Clock = Clock()) -> xr.DataArray:
    """What every setting has paid by every round, in the unit that `cost` names.

    Args:
        record: as `Study.predict` gives it, with floats_sent, messages_sent and exchanges.
        cost: rounds, floats, bits, seconds or joules.
        clock: the machines, for seconds and joules.

    Returns:
        (setting, round), or over axes in place of `setting`.

    Raises:
        InputError: for another cost, and for a clock with numbers below zero.

    Example:
        >>> paid = design.costs(settings, "floats")
        >>> bool((paid[:, 2] == 2 * paid[:, 1]).all())
        True
    """
    check_name("cost", cost, COSTS)
    for name, each in clock._asdict().items():
        if isinstance(each, bool):
            continue
        if not is_real(each) or each < 0 or (name == "bandwidth" and each == 0):
            raise InputError(f"{name}: must be a positive number, got {each!r}")
    return COSTS[cost](record, clock)


def _sent(record: Record, clock: Clock) -> tuple[xr.DataArray, xr.DataArray]:
    """Numbers and messages that every agent has sent, or that it has broadcast."""
    if "floats_sent" not in record:
        raise InputError('cost: what a bare kernel sends is not known; count "rounds"')
    floats, messages = record["floats_sent"], record["messages_sent"]
    if not clock.broadcast:
        return floats, messages
    often = record["exchanges"]
    return (floats * often / messages).where(messages > 0, 0.0 * floats), often


def _floats(record: Record, clock: Clock) -> xr.DataArray:
    return _sent(record, clock)[0].sum("agent", min_count=1)


def _rounds(record: Record, clock: Clock) -> xr.DataArray:
    del clock
    some = next(each for each in record.values() if "agent" in each.dims)
    return (record["round"] + 0.0 * some.isel(agent=0).fillna(0)).transpose(*some.dims[:-1])


def _seconds(record: Record, clock: Clock) -> xr.DataArray:
    floats, messages = _sent(record, clock)
    sending = messages * clock.latency + WORD / 8 * floats / clock.bandwidth
    waited = sending.sum("agent", min_count=1) if clock.shared else sending.max("agent")
    return _rounds(record, clock) * clock.compute + waited


def _joules(record: Record, clock: Clock) -> xr.DataArray:
    agents = record["floats_sent"].notnull().sum("agent")
    computing = agents * _rounds(record, clock) * clock.compute * clock.watts
    return computing + WORD / 8 * _floats(record, clock) * clock.joules_per_byte


COSTS = {
    "rounds": _rounds,
    "floats": _floats,
    "bits": lambda record, clock: WORD * _floats(record, clock),
    "seconds": _seconds,
    "joules": _joules,
}


SHOWN = 5
"""settings that are named, of those that reach the target"""


def said(found: Record, axes: Sequence[Axis], best: Sequence[int], *others: Record) -> list[str]:
    """In lines: the best settings, what other looks at them showed, and how the ranks agree.

    Args:
        found: as `reached` gives it, by the number of the setting, with `refusal`.
        axes: what was varied.
        best: numbers of settings, from the best on.
        others: the same of closer looks; their attribute `by` says how they were looked at.

    Returns:
        A line of text for each of the best, and some around them.

    Example:
        >>> found = design.reached(settings, goal)
        >>> design.said(found, study.axes, design.ranked(found, more=False))[0]
        '1 of 2 settings are seen to reach mean train_loss <= 3'
    """
    count, reaching = found.sizes["setting"], int(found["cost"].notnull().sum())
    lines = [f"{reaching} of {count} settings are seen to reach {found.attrs['reach']}"]
    if not reaching:
        lines = [f"none of {count} settings reaches {found.attrs['reach']}; nearest come"]
    for place in best[: max([SHOWN, *(each.sizes["setting"] for each in others)])]:
        looks = [each for each in others if place in each["setting"]]
        seen = [_at(found, place), *(f"{each.attrs['by']}: {_at(each, place)}" for each in looks)]
        lines.append(f"  {told(axes, place)}: {'; '.join(seen)}")
    refused = found["refusal"].where(found["refusal"] != "", drop=True)
    if len(refused):
        first = told(axes, int(refused["setting"][0]))
        lines.append(f"{len(refused)} cannot be run; of {first}: {refused.values[0]}")
    return lines + [_agreement(found, each) for each in others if each.sizes["setting"] > 2]


def _at(found: Record, place: int) -> str:
    """Cost and round of the setting, or what it comes to at best."""
    one = found.sel(setting=place)
    if np.isnan(one["cost"]):
        return f"not reached, {float(one['best_seen']):.4g} at best"
    return (
        f"{float(one['cost']):.4g} {found.attrs['cost']}, round {float(one['reached_round']):.0f}"
    )


def agreement(found: Record, other: Record) -> tuple[float, str]:
    """Spearman's rank correlation of the costs, or else of what came nearest; and of which.

    NaN where all settings are alike on one side.
    """
    one = found.sel(setting=other["setting"].values)
    reached = all(np.isfinite(each["cost"]).all() for each in (one, other))
    by = "cost" if reached else "best_seen"
    if any(np.ptp(each[by].values) == 0 for each in (one, other)):
        return np.nan, by
    return float(scipy.stats.spearmanr(one[by], other[by]).statistic), by


def _agreement(found: Record, other: Record) -> str:
    rank, by = agreement(found, other)
    what = f"{by.replace('_', ' ')}, predicted and {other.attrs['by']}"
    if np.isnan(rank):
        return f"ranks of {what}, cannot be compared: on one side all are alike"
    return f"ranks of {what}, agree by {rank:.2f} (Spearman)"
