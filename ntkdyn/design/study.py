"""A spec varied along axes: its settings predicted in bulk and trained, as one record.

While it is worked on, a record has the settings by their number, the last axis changing fastest, as
its first dimension; `gridded` gives it a dimension for each axis.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

import numpy as np
import tomli_w
import xarray as xr

from ntkdyn.cluster import Cluster
from ntkdyn.design.axes import Axis, check_apart, checked, settings, told
from ntkdyn.design.bulk import Bulk, sent_by
from ntkdyn.design.parts import Parts
from ntkdyn.design.processors import processors
from ntkdyn.design.rounds import Measured
from ntkdyn.dynamics import predict
from ntkdyn.engine import Progress
from ntkdyn.errors import InputError
from ntkdyn.experiment import VARIED, Experiment, RunTable, Spec, parse
from ntkdyn.quantities import described
from ntkdyn.records import Record, environment
from ntkdyn.runs import recorded_rounds
from ntkdyn.system import System
from ntkdyn.validation import train

SHARED = {"network", "data", "loss", "kernel", "seed"}
"""what of a spec makes the kernel"""

METHOD = {"method", "link"}
"""what of a spec makes the method"""

WEIGHTS = {"graph", "partition", "seed"}
"""what makes the weights, beside the sums that the method needs"""

ROUNDS = 24
"""about how many are recorded, where the spec does not say"""

PART = 128
"""settings that are predicted, and kept, at once"""

DIMS = ("setting", "round", "agent")


class Piece(NamedTuple):
    """What is computed, and kept, as one: settings with one kernel, or a single one by itself."""

    what: str
    """predicted, or one of `ALONE`"""
    places: list[int]
    rounds: list[int]

    @property
    def name(self) -> str:
        asked = _named(self.places) if self.what == "predicted" else self.places[0]
        return f"{self.what}-{asked}-{_named(self.rounds)}"


class Asked(NamedTuple):
    """A study, as those are told who work for it."""

    base: Experiment
    axes: tuple[Axis, ...]
    dtype: str

    def study(self) -> Study:
        return Study(self.base, self.axes, dtype=self.dtype)


class Study:
    """A spec whose settings along axes are asked for; what they share is computed once.

    Predictions are those around the start, whatever the spec says of anchors. A setting with which
    the spec cannot be run is NaN, and `refusal` says why. Where there are fewer agents than
    elsewhere, those that are lacking are NaN. `parts` keep what is done; a `cluster` does it.

    Example:
        >>> study.count, [each.name for each in study.axes]
        (2, ['method.step_size'])
        >>> study.predict()["train_loss"].dims
        ('setting', 'round', 'agent')
    """

    def __init__(
        self,
        base: Experiment,
        axes: Sequence[Axis],
        rounds: Sequence[int] | None = None,
        *,
        dtype: str = "float64",
        parts: Parts | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        self.base, self.axes, self.dtype = base, [*map(checked, axes)], dtype
        self.count = check_apart(self.axes)
        if base.spec.run.epochs is not None:
            _check_as_long(self.axes)
        self.rounds = recorded(base) if rounds is None else list(rounds)
        self._parts, self._cluster = parts, cluster
        self._kernel, self._kept = "", {}

    @functools.cached_property
    def specs(self) -> list[Spec | str]:
        """That of every setting, or why there is none."""
        return [_tried(varied, self.base.spec, changes) for changes in settings(self.axes)]

    def predict(
        self,
        places: Sequence[int] | None = None,
        rounds: Sequence[int] | None = None,
        *,
        budget: float | int | None = None,
        progress: Progress | None = None,
    ) -> Record:
        """Losses and accuracies (setting, round, agent) of these settings, or of all.

        Args:
            places: numbers of settings; all if left out.
            rounds: those of the study, if left out.
            budget: seconds that all may take, by how long the first part took.
            progress: called with how many settings are done, and how many there are.

        Returns:
            A record by `setting`; `refusal` says why one could not be run.

        Raises:
            InputError: where all would take more than the budget.
        """
        places = list(range(self.count)) if places is None else list(places)
        rounds = self.rounds if rounds is None else list(rounds)
        return _joined(self._all([*self._together(places, rounds)], budget, progress), rounds)

    def train(self, places: Sequence[int], *given: Any, **more: Any) -> Record:
        """The same of these settings, trained: `alone`."""
        return self.alone("trained", places, *given, **more)

    def sharpen(self, places: Sequence[int], *given: Any, **more: Any) -> Record:
        """The same, each predicted by itself, with the spec's anchors or chosen ones: `alone`."""
        return self.alone("sharp", places, *given, **more)

    def alone(
        self,
        what: str,
        places: Sequence[int],
        rounds: Sequence[int] | Mapping[int, Sequence[int]] | None = None,
        *,
        budget: float | int | None = None,
        progress: Progress | None = None,
    ) -> Record:
        """These settings one by one, in the same rounds or each in its own.

        Args:
            what: "trained" or "sharp".
            places: numbers of settings.
            rounds: of all, or setting -> its own; those of the study, if left out.
            budget: seconds that all may take, by how long the first took.
            progress: called with how many settings are done, and how many there are.

        Returns:
            As `predict` does.
        """
        every = self.rounds if rounds is None else rounds
        own = every if isinstance(every, Mapping) else dict.fromkeys(places, every)
        pieces = [Piece(what, [place], list(own[place])) for place in places]
        seen = sorted({*itertools.chain(*own.values())})
        return _joined(self._all(pieces, budget, progress), seen)

    def _all(
        self, pieces: Sequence[Piece], budget: float | int | None, progress: Progress | None
    ) -> list[Record]:
        """In their order, in whatever order they are done."""
        found: dict[int, Record] = {}
        begun, done, asked = time.perf_counter(), 0, sum(len(each.places) for each in pieces)
        for number, record in self._done(pieces):
            found[number] = record
            done += len(pieces[number].places)
            if progress:
                progress(done, asked)
            _check_budget(budget, time.perf_counter() - begun, done, asked)
        return [found[number] for number in sorted(found)]

    def _done(self, pieces: Sequence[Piece]) -> Iterator[tuple[int, Record]]:
        """The number and the record of each: of those that are kept, then of all others."""
        lacking = []
        for number, piece in enumerate(pieces):
            if (there := self._parts and self._parts.found(piece.name)) is not None:
                yield number, there
            else:
                lacking.append(number)
        with contextlib.closing(self._computed([pieces[number] for number in lacking])) as computed:
            for place, record in computed:
                number = lacking[place]
                if self._parts:
                    self._parts.keep(pieces[number].name, record)
                yield number, record

    def _computed(self, pieces: Sequence[Piece]) -> Iterator[tuple[int, Record]]:
        if self._cluster and pieces:
            yield from self._cluster.map(_by_worker, self._asked, pieces)
        else:
            yield from enumerate(self._here(pieces))

    def _here(self, pieces: Sequence[Piece]) -> Iterator[Record]:
        """All of them predicted, or each by itself."""
        together = all(piece.what == "predicted" for piece in pieces)
        return self._in_turn(pieces) if together else map(self._alone, pieces)

    def _in_turn(self, pieces: Sequence[Piece]) -> Iterator[Record]:
        """One after another; the next is prepared while the processors compute one."""
        with processors(sum(len(piece.places) for piece in pieces)) as pool:
            finish = None
            for piece in pieces:
                before, finish = finish, self._begun(piece, pool)
                if before:
                    yield before()
            if finish:
                yield finish()

    @property
    def _asked(self) -> Asked:
        """With folders that are found from elsewhere, and nothing that is computed."""
        spec, data = self.base.spec.model_copy(), self.base.data_dir
        base = Experiment(spec.in_folder(spec.folder.absolute()), data and data.absolute())
        return Asked(base, tuple(self.axes), self.dtype)

    def record(self, piece: Piece) -> Record:
        """What is asked for, computed here."""
        (record,) = self._here([piece])
        return record

    def _alone(self, piece: Piece) -> Record:
        place, how, rounds = piece.places[0], ALONE[piece.what], piece.rounds
        spec = self.specs[place]
        seen = spec if isinstance(spec, str) else _tried(self._run, place, how, rounds)
        if isinstance(seen, str):
            return _record({}, {place: seen}, rounds)
        return _record({place: seen}, {}, rounds)

    def _run(self, place: int, how: Callable, rounds: list[int]) -> Measured:
        """What a run by itself shows, and what it has sent."""
        work = self._experiment(place)
        work.check(trained=True)
        system = work.settled
        seen = how(system, work.spec.run, rounds)
        own = {str(n): each.values for n, each in seen.items() if each.dims == DIMS[1:]}
        return own | sent_by(system, rounds)

    def _together(self, places: Sequence[int], rounds: list[int]) -> Iterator[Piece]:
        """Those with the same kernel and owners next to one another, so many at once."""
        names = {place: self._shared(place) for place in places}
        ordered = sorted(places, key=lambda place: (*names[place], place))
        for _, alike in itertools.groupby(ordered, key=lambda place: names[place][0]):
            alike = list(alike)
            for first in range(0, len(alike), PART):
                yield Piece("predicted", alike[first : first + PART], rounds)

    def _shared(self, place: int) -> tuple[str, str]:
        """What names the kernel, and the owners of its points."""
        spec = self.specs[place]
        if isinstance(spec, str):
            return "", ""
        return _tables(spec, SHARED), _tables(spec, {"partition"})

    def _begun(self, piece: Piece, pool: Executor) -> Callable[[], Record]:
        """What gives the record of settings that are predicted by these threads."""
        known = {place: self._system(place) for place in piece.places}
        found = {place: each for place, each in known.items() if not isinstance(each, str)}
        bulk = self._once(("bulk", *piece.rounds), lambda: Bulk(piece.rounds, self.dtype))
        finish = bulk.begin([*found.values()], pool)

        def record() -> Record:
            seen = known | dict(zip(found, finish(), strict=True))
            refused = {p: str(each) for p, each in seen.items() if not isinstance(each, dict)}
            measured = {p: each for p, each in seen.items() if p not in refused}
            return _record(measured, refused, piece.rounds)

        return record

    def _system(self, place: int) -> System | str:
        spec = self.specs[place]
        return spec if isinstance(spec, str) else _tried(lambda: self._experiment(place).system)

    def _experiment(self, place: int) -> Experiment:
        """The setting's; problem, weights and method are those of others that ask for the same.

        What is kept is what belongs to one kernel.
        """
        kernel, owners = self._shared(place)
        if kernel != self._kernel:
            self._kernel, self._kept = kernel, {}
        work = Experiment(self.specs[place], self.base.data_dir)
        first = self._once("first", lambda: work.problem)

        def dealt() -> Any:
            if first is vars(work).get("problem"):
                return first
            first.kernel(work.spec.kernel), first.initial, first.parameters_each
            return first.dealt(work.partition)

        vars(work)["problem"] = self._once(owners, dealt)
        own = vars(work)
        own["method"] = self._once(_tables(work.spec, METHOD), lambda: work.method)
        weighed = (_tables(work.spec, WEIGHTS), work.method.needs.columns)
        own["weights"] = self._once(weighed, lambda: work.weights)
        return work

    def _once(self, name: Any, make: Callable[[], Any]) -> Any:
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def gridded(self, flat: Record, **others: Record) -> Record:
        """A dimension for each axis, described; settings that were not asked for are NaN.

        Of `others` variables have the name that they are given with before their own.
        """
        whole = self.filled(flat)
        for name, other in others.items():
            whole |= {f"{name}_{each}": values for each, values in self.filled(other).items()}
        shape, dims = [len(each.values) for each in self.axes], [each.name for each in self.axes]
        variables = {
            name: ((*dims, *each.dims[1:]), each.values.reshape(*shape, *each.shape[1:]))
            if "setting" in each.dims
            else each
            for name, each in whole.items()
        }
        places = {each.name: each.ticks for each in self.axes}
        kept = {name: each for name, each in flat.coords.items() if name != "setting"}
        return described(xr.Dataset(variables, places | kept, self._attributes(flat)))

    def filled(self, flat: Record) -> dict[str, xr.DataArray]:
        """Its variables, of all settings."""
        whole = flat.reindex(setting=range(self.count))
        if "refusal" in whole:
            whole["refusal"] = whole["refusal"].fillna("").astype(str)
        return {str(name): each for name, each in whole.data_vars.items()}

    def _attributes(self, flat: Record) -> dict[str, Any]:
        spec, refused = self.base.spec, flat["refusal"][flat["refusal"] != ""]
        first = refused[:1]
        why = f"{told(self.axes, int(first['setting'][0]))}: {first.item()}" if len(first) else ""
        return {
            "title": spec.title, "spec": spec.text(), "dtype": self.dtype,
            "axes": "; ".join(each.name for each in self.axes), "settings": self.count,
            "settings_left_out": len(refused), "left_out": why, **environment(),
        }  # fmt: skip


def predicted(
    base: Experiment, axes: Sequence[Axis], rounds: Sequence[int] | None = None, **more: Any
) -> Record:
    """Losses and accuracies (axes..., round, agent) of the spec with every setting along the axes.

    Args:
        base: the spec at work.
        axes: what is varied.
        rounds: those of the spec, if left out.
        more: `dtype`, `parts` and `cluster` of the `Study`.

    Returns:
        A record with a dimension for each axis.

    Raises:
        InputError: where no setting can be run, and for axes that do not go together.

    Example:
        >>> over = [design.axis("method.step_size=0.1,0.3")]
        >>> dict(design.predicted(work, over, [0, 8]).sizes)["method.step_size"]
        2
    """
    study = Study(base, axes, rounds, **more)
    return study.gridded(check_any(study.predict()))


def check_any(flat: Record) -> Record:
    """The record, refused where no setting could be run.

    Args:
        flat: a record by `setting`, with `refusal`.

    Returns:
        The same record.

    Raises:
        InputError: the first refusal, where there is no setting without.

    Example:
        >>> design.check_any(settings) is settings
        True
    """
    refusals = flat["refusal"].values
    if all(refusals):
        raise InputError(str(refusals[0]))
    return flat


COUNTED_BY = ("data.train", "partition.agents", "run.batch_size", "run.epochs")
"""what epochs become so many rounds by"""


def _check_as_long(axes: Sequence[Axis]) -> None:
    """Refuse settings whose epochs are not the same rounds."""
    for path in (path for each in axes for path in each.paths):
        if path in COUNTED_BY:
            raise InputError(
                f"over: {path} changes how many rounds run.epochs are; give run.rounds"
            )


def recorded(base: Experiment) -> list[int]:
    """The spec's recorded rounds; if it does not say, about `ROUNDS`, each by as much more."""
    every, rounds = base.spec.run.record_every, base.rounds
    if every is not None or rounds < ROUNDS:
        return recorded_rounds(rounds, every)
    return sorted({0, *np.geomspace(1, rounds, ROUNDS).round().astype(int).tolist()})


def of_place(base: Spec, axes: Sequence[Axis], place: int) -> Spec:
    """The spec of a setting by its number, the last axis changing fastest."""
    return varied(base, next(itertools.islice(settings(axes), place, None)))


def varied(spec: Spec, changes: Mapping[str, Any]) -> Spec:
    """The spec with other values at these paths, checked.

    Args:
        spec: the spec.
        changes: path ("graph.topology", "width") -> value.

    Returns:
        Another spec.

    Raises:
        InputError: for settings that a spec has not, and values that they cannot take.

    Example:
        >>> design.varied(spec, {"graph.topology": "star"}).graph.topology
        'star'
    """
    for name in sorted({*changes} & {*VARIED}, reverse=True):
        spec = VARIED[name](spec, changes[name])
    held = spec.model_dump(exclude_unset=True, exclude={"sweep"})
    for path, value in changes.items():
        if path in VARIED:
            continue
        *tables, last = path.split(".")
        table = held
        for name in tables:
            inner = table.get(name)
            table[name] = table = dict(inner) if isinstance(inner, dict) else {}
        table[last] = [*value] if isinstance(value, tuple) else value
    return parse(tomli_w.dumps(held), "over").in_folder(spec.folder)


def _tables(spec: Spec, tables: set[str]) -> str:
    """These parts of a spec, by which it is known whether two have the same."""
    return repr(spec.model_dump(include=tables))


def _tried(make: Callable, *given: Any) -> Any:
    """What is made, or the sentence that refuses it."""
    try:
        return make(*given)
    except InputError as reason:
        return str(reason)


def _trained(system: System, run: RunTable, rounds: list[int]) -> Record:
    return train(system, rounds, precision=run.precision)


def _sharp(system: System, run: RunTable, rounds: list[int]) -> Record:
    """With the kernels of the network itself; the step size stays that with the spec's."""
    anchors = "auto"
    if isinstance(run.anchors, list):
        anchors = [round for round in run.anchors if round < rounds[-1]] or [0]
    system = system.with_(kernel="empirical")
    return predict(system, rounds, anchors=anchors, corrections=run.corrections)


ALONE = {"trained": _trained, "sharp": _sharp}
"""what one setting may be asked for by itself -> how"""

_own = threading.local()
"""of a worker: the `study` it works for, which was `asked` for; kernels stay from part to part"""


def _by_worker(asked: Asked, piece: Piece) -> Record:
    """A part, computed by whoever works for the study."""
    if getattr(_own, "asked", None) != asked:
        _own.asked, _own.study = asked, asked.study()
    return _own.study.record(piece)


def _named(numbers: Sequence[int]) -> str:
    """A short name of numbers: how many, and a hash of all."""
    return f"{len(numbers)}-{hash(tuple(numbers)) & 0xFFFFFFFF:08x}"


def _record(seen: Mapping[int, Measured], refused: Mapping[int, str], rounds: list[int]) -> Record:
    """By setting, NaN where there is none."""
    places = sorted({*seen, *refused})
    names = sorted({name for each in seen.values() for name in each})
    agents = max([each.shape[1] for one in seen.values() for each in one.values()], default=0)
    whole = {name: np.full((len(places), len(rounds), agents), np.nan) for name in names}
    for row, place in enumerate(places):
        for name, values in seen.get(place, {}).items():
            whole[name][row, :, : values.shape[1]] = values
    variables = {name: (DIMS, values) for name, values in whole.items()}
    said = [refused.get(place, "") for place in places]
    coordinates = {"setting": places, "round": rounds, "agent": range(agents)}
    return xr.Dataset(variables | {"refusal": ("setting", said)}, coordinates)


def _joined(parts: Sequence[Record], rounds: list[int]) -> Record:
    """All of them, by the number of the setting."""
    if not parts:
        return _record({}, {}, rounds)
    joined = xr.concat(parts, "setting", join="outer", combine_attrs="drop").sortby("setting")
    return joined.drop_vars([name for name in joined.coords if name not in DIMS])


def _check_budget(budget: float | int | None, taken: float, done: int, asked: int) -> None:
    """Refuse what would take longer than it may."""
    if budget is not None and done < asked and taken * asked / done > budget:
        raise InputError(
            f"budget: {asked} settings take about {taken * asked / done:.0f} s, more than the "
            f"{budget:g} s they may; agree with --yes, or vary less"
        )
