"""The best settings of a study, without following those that cannot be among them.

What a setting has paid never falls from round to round, and is known where it is predicted. So
settings are predicted to a short horizon first; one that has not reached the target there, but paid
more than the k-th best has when it reached it, is not among the k best however long it runs. The
others go on to the next horizon. The k best are those of the study in full, not likely ones.

Then the rounds in between recorded ones are looked at where they could change the order, and the
best may be predicted anew, with anchors, and trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ntkdyn.design.study import Study, check_any
from ntkdyn.design.targets import Clock, Target, costs, ranked, reached
from ntkdyn.engine import Progress
from ntkdyn.records import Record

HORIZONS = 16, 4, 1
"""shares of all rounds that settings are followed to, one after another"""

SEEN = "reached_round", "cost", "best_seen"

BETWEEN = 32
"""rounds that are looked at between two recorded ones, and in what is trained"""

Bar = Callable[[str], Progress | None]


class Goal(NamedTuple):
    """What is to be reached, and what it is to cost little of.

    Example:
        >>> design.Goal(goal, "rounds").of(settings)["reached_round"].values
        array([nan,  4.])
    """

    target: Target
    cost: str = "floats"
    clock: Clock = Clock()

    def of(self, record: Record) -> Record:
        return reached(record, self.target, self.cost, self.clock)


class Found(NamedTuple):
    """What a search has found; all by the number of the setting.

    Example:
        >>> found = design.search(study, design.Goal(goal, "rounds"))
        >>> found.best, found.trained is None
        ([1, 0], True)
    """

    record: Record
    """what was predicted, NaN in rounds that a setting was not followed to"""
    reached: Record
    """`targets.reached` of that, between the recorded rounds where it matters"""
    best: list[int]
    """the settings from the best on"""
    sharp: Record | None
    """`reached` of the best, predicted with anchors"""
    trained: Record | None
    """`reached` of the best, trained"""


def search(
    study: Study,
    goal: Goal,
    *,
    best: int = 1,
    sharp: int = 0,
    confirm: int = 0,
    whole: bool = False,
    budget: float | int | None = None,
    bar: Bar = lambda what: None,
) -> Found:
    """The `best` settings, `sharp` of them predicted with anchors, `confirm` of these trained.

    A setting that has not reached the goal at a horizon, but paid more than the k-th best had when
    it did, is followed no further: costs never fall from round to round, so the k best are exact.

    Args:
        study: the settings.
        goal: what is to be reached, and what it is to cost little of.
        best: how many settings must be the best for certain.
        sharp: how many of them are predicted with anchors.
        confirm: how many of these are trained.
        whole: follow every setting to the last round.
        budget: seconds that predictions may take.
        bar: what to call as work goes on, for each kind of work.

    Returns:
        A `Found`.

    Raises:
        InputError: where no setting can be run, or the budget does not suffice.

    Example:
        >>> design.search(study, design.Goal(goal, "rounds")).best[0]
        1
    """
    least = max(best, sharp, confirm, 1)
    record = followed(study, goal, least, whole=whole, budget=budget, bar=bar)
    record = check_any(record).reindex(setting=range(study.count), fill_value={"refusal": ""})
    found = refined(study, goal, goal.of(record), record, least)
    order = ranked(found, more=goal.target.more)
    anew = alone = None
    if sharp:
        how = {"budget": budget, "progress": bar("predicting anew")}
        seen = _each(study.sharpen, found, order[:sharp], study, **how)
        anew = goal.of(seen).assign_attrs(by="with anchors")
        first = [int(anew["setting"][k]) for k in ranked(anew, more=goal.target.more)]
        order = [*first, *(place for place in order if place not in first)]
    if confirm:
        how = {"budget": budget, "progress": bar("training the best")}
        seen = _each(study.train, found, order[:confirm], study, **how)
        alone = goal.of(seen).assign_attrs(by="trained")
    return Found(record, found, order, anew, alone)


def followed(
    study: Study,
    goal: Goal,
    best: int,
    *,
    whole: bool = False,
    budget: float | int | None = None,
    bar: Bar = lambda what: None,
) -> Record:
    """The study, each setting to the horizon that decides whether it is among the best."""
    record, alive = None, list(range(study.count))
    for rounds in horizons(study.rounds, whole=whole):
        if alive:
            seen = study.predict(alive, rounds, budget=budget, progress=bar("predicting"))
            record = seen if record is None else seen.combine_first(record)
            alive = _going_on(record.sel(setting=alive), goal, _least(goal.of(record), best))
    return record


def horizons(rounds: Sequence[int], *, whole: bool = False) -> list[list[int]]:
    """The recorded rounds up to each horizon."""
    ends = [rounds[-1] / share for share in (HORIZONS[-1:] if whole else HORIZONS)]
    found = [[round for round in rounds if round <= end] for end in ends]
    return [each for k, each in enumerate(found) if len(each) > 1 and each not in found[:k]]


def _least(found: Record, best: int) -> float:
    """The cost of the k-th best; infinite where fewer reach the target."""
    paid = np.sort(found["cost"].values[np.isfinite(found["cost"].values)])
    return float(paid[best - 1]) if len(paid) >= best else np.inf


def _going_on(record: Record, goal: Goal, least: float) -> list[int]:
    """The settings that may still be among the best, of those that were followed so far."""
    found, seen = goal.of(record), goal.target.seen(record)
    last = seen.notnull().cumsum("round").argmax("round")
    paid = costs(record, goal.cost, goal.clock).isel(round=last)
    fine = np.isfinite(seen.isel(round=-1)) | np.isnan(seen).all("round")
    open_ = found["cost"].isnull() & (paid <= least) & fine & (record["refusal"] == "")
    return [int(place) for place in record["setting"].values[open_.values]]


def refined(study: Study, goal: Goal, found: Record, record: Record, best: int) -> Record:
    """The same, with the rounds between the recorded ones where they may change the k best."""
    hit, paid = found["reached_round"], costs(record, goal.cost, goal.clock)
    rounds = record["round"].values
    before = {later: earlier for earlier, later in zip(rounds, rounds[1:], strict=False)}
    least, found = _least(found, best), found.copy(deep=True)
    for later in np.unique(hit.values[np.isfinite(hit.values)]):
        earlier = before.get(later)
        if earlier is None or later - earlier < 2:
            continue
        near = (hit == later) & (paid.sel(round=earlier) <= least)
        places = [int(place) for place in found["setting"].values[near.values]]
        between = np.unique(np.linspace(earlier + 1, later, BETWEEN).round().astype(int))
        if places:
            _put(found, goal.of(study.predict(places, between.tolist())), places)
    return found


def _put(found: Record, closer: Record, places: list[int]) -> None:
    """What was seen more closely, in the place of what was."""
    for name in ("reached_round", "cost"):
        values = closer[name].sel(setting=places).values
        found[name].loc[{"setting": places}] = np.where(
            np.isnan(values), found[name].sel(setting=places).values, values
        )


def _each(
    how: Callable[..., Record], found: Record, places: Sequence[int], study: Study, **more: Any
) -> Record:
    """Settings alone: to twice the round in which each should reach the target, or to the last."""
    rounds = {}
    for place in places:
        hit = float(found["reached_round"].sel(setting=place))
        end = study.rounds[-1] if np.isnan(hit) else min(study.rounds[-1], int(2 * hit) + 2)
        own = {round for round in study.rounds if round <= end}
        rounds[place] = sorted({*own, *np.linspace(0, end, BETWEEN).round().astype(int).tolist()})
    return check_any(how(places, rounds, **more))


def record_of(study: Study, found: Found) -> Record:
    """All that was found, with a dimension for each axis.

    What `reached` says of settings that were looked at more closely has "sharp_" or "trained_"
    before its name.

    Args:
        study: that was searched.
        found: what `search` gave.

    Returns:
        Losses, accuracies and what `reached` says, over axes.

    Example:
        >>> found = design.search(study, design.Goal(goal, "rounds"))
        >>> design.record_of(study, found)["reached_round"].dims
        ('method.step_size',)
    """
    closer = {"sharp": found.sharp, "trained": found.trained}
    others = {name: each[[*SEEN]] for name, each in closer.items() if each is not None}
    record = found.record.assign(found.reached.drop_vars("refusal").data_vars)
    told = {name: found.reached.attrs[name] for name in ("reach", "cost")}
    return study.gridded(record, **others).assign_attrs(told)
