"""One run from the command line: its folder, checkpoints, progress, sides and what is said."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ntkdyn import disk
from ntkdyn.cli.stopping import RESUMED, going_on, saving_when_stopped


class Saving(NamedTuple):
    """What the command line says about checkpoints."""

    resume: bool = False
    minutes: float = 5.0
    rounds: int | None = None

    def given(self) -> list[str]:
        """The options that were used."""
        names = "--resume", "--checkpoint-minutes", "--checkpoint-rounds"
        return _used(names, self, Saving())


class Machine(NamedTuple):
    """What the command line says about devices."""

    devices: int | None = None
    memory: str | None = None

    def given(self) -> list[str]:
        """The options that were used."""
        return _used(("--devices", "--memory"), self, Machine())


class Place(NamedTuple):
    """What the command line says about the folder of results."""

    folder: Path
    overwrite: bool

    @contextlib.contextmanager
    def files(self, work) -> Iterator[Any]:
        """Its files, for this run alone."""
        from ntkdyn import experiment

        with disk.claimed(self.folder):
            files = experiment.files(self.folder)
            files.check(work.spec.text(), self.overwrite)
            yield files


def folder(spec: Path, out: Path | None) -> Path:
    """Where results go: as asked, or ntkdyn-NAME by the spec's name."""
    return Path(f"ntkdyn-{spec.stem}") if out is None else out


def _used(names: Sequence[str], values: Sequence, defaults: Sequence) -> list[str]:
    together = zip(names, values, defaults, strict=True)
    return [name for name, value, default in together if value != default]


def conduct(
    work,
    place: Place,
    quiet: bool,
    show: bool | None,
    saving: Saving | None = None,
    machine: Machine = Machine(),
    account: bool = False,
    nulls: bool = True,
) -> None:
    """Both sides of an experiment, compared."""
    from ntkdyn import experiment, records

    experiment.check_machine(*machine)
    work.check(trained=True)
    with place.files(work) as files:
        checkpoints = saving and work.checkpoints(place.folder, **saving._asdict())
        resume = saving is not None and saving.resume
        with watched(quiet) as bar:
            predicted = work.finished(files.predicted) if resume else None
            begun = predicted is not None
            predicted = predicted if begun else prediction(work, bar)
            if not begun:
                records.write(predicted, files.predicted)
            observed = _trained(work, checkpoints, files.observed, resume, machine, bar)
            asked = account and bar("splitting the gap by source")
            accounts = work.account(predicted, observed, asked) if account else None
            told = nulls and bar("predicting what was not run")
            others = work.nulls(predicted, observed, told) if nulls else None
        comparison = experiment.compare(predicted, observed, files, accounts, others)
    written = [path for path in files if account or path != files.accounts]
    say_gap(comparison, written, quiet, show)


def one_side(
    work,
    place: Place,
    quiet: bool,
    side: str,
    saving: Saving = Saving(),
    machine: Machine = Machine(),
) -> None:
    """One side of an experiment, `predict` or `train`."""
    from ntkdyn import experiment, records

    experiment.check_machine(*machine)
    work.check(trained=side == "train")
    with place.files(work) as files:
        path = files.predicted if side == "predict" else files.observed
        with watched(quiet) as bar:
            if side == "predict":
                predicted = prediction(work, bar)
                records.write(predicted, path)
            else:
                checkpoints = work.checkpoints(place.folder, **saving._asdict())
                settle(work, bar)
                _trained(work, checkpoints, path, saving.resume, machine, bar)
    if not quiet:
        print(path)
        if side == "predict" and (proven := experiment.proven(predicted)):
            print(proven)
        for other in files.of_another(work.spec.text()):
            print(f"{other.name} beside it is of another spec")


def _trained(work, checkpoints, path: Path, resume: bool, machine: Machine, bar: Callable):
    """The observed record, written to `path`; one that is there already is taken on resuming."""
    from ntkdyn import records

    finished = work.finished(path) if resume else None
    if finished is None:
        training = bar("training the real networks")
        with _trained_safely(checkpoints):
            finished = work.train(training, checkpoints, **machine._asdict())
            records.write(finished, path)
    if checkpoints:
        checkpoints.remove()
    return finished


@contextlib.contextmanager
def _trained_safely(checkpoints) -> Iterator[None]:
    """An interruption of the block saves what can be resumed, and says how."""
    if checkpoints is None:
        yield
        return
    with going_on(RESUMED), saving_when_stopped(checkpoints):
        yield


def prediction(work, bar: Callable):
    """The prediction, with what it waits for shown."""
    settle(work, bar)
    predicting = bar("predicting")
    return work.predict(predicting, bar("bounding its error") if work.certifies else None)


def settle(work, bar: Callable) -> None:
    """The step size as a number and whether it is stable, which can take long."""
    prepared = bar("computing kernel and limit")
    work.settle(prepared)
    prepared(1, 1)


def seeded(spec, seed: int | None):
    """The spec, with another seed where one is asked for."""
    from ntkdyn import experiment

    return spec if seed is None else experiment.with_seed(spec, seed)


@contextlib.contextmanager
def watched(quiet: bool) -> Iterator[Callable]:
    """Gives bar(description) -> progress(done, total), drawn on standard error if it is seen."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:

        def bar(description: str) -> Callable[[int, int], None]:
            task = progress.add_task(description, total=None, rate="")

            def update(done: int, total: int) -> None:
                speed = progress.tasks[task].speed
                rate = f"{speed:,.0f} rounds/s" if speed and total > 1 else ""
                progress.update(task, completed=done, total=total, rate=rate)

            return update

        yield bar


def say_gap(comparison, files, quiet: bool, show: bool | None) -> None:
    """Print gaps, files and verdict of a comparison; show its overlay."""
    from ntkdyn.records import agent_names

    if not quiet:
        attrs = comparison.attrs
        if attrs.get("stable") == 0:
            print(
                f"stable = false: the step size {attrs['step_size']:.4g} is above the limit "
                f"{attrs['step_size_limit']:.4g}"
            )
        if "deviation_gap" in attrs:
            print(
                f"deviation gap in round {attrs['deviation_gap_round']}: "
                f"{100 * attrs['deviation_gap']:.3g} % of all agents together, "
                f"{100 * attrs['largest_deviation_gap']:.3g} % of the worst, agent "
                f"{agent_names(comparison)[attrs['largest_deviation_gap_agent']]}"
            )
        gap, by = attrs["largest_gap"], attrs.get("compared", "outputs")
        of = "the distance travelled" if by == "outputs" else "its change since the start"
        print(
            f"predicted and observed {by} differ by at most {100 * gap:.2f} % of {of}"
            if math.isfinite(gap)
            else f"predicted or observed {by} diverged"
        )
        if (apart := attrs.get("final_parameter_gap", math.inf)) < math.inf:
            error = attrs["final_parameter_gap_error"]
            sampled = f" +- {100 * error:.2g} (standard error of the sample)" if error else ""
            print(f"and their parameters by {100 * apart:.3g} %{sampled} in the last kept round")
        for path in files:
            print(f"  {path}")
        print(attrs["verdict"])
    if show or (show is None and has_screen()):
        overlay = next(path for path in files if path.name == "overlay.png")
        typer.launch(str(overlay))


def has_screen() -> bool:
    """Whether somebody sits in front of a desktop."""
    desktop = sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY"))
    return desktop and sys.stdout.isatty()
