"""Many settings of a spec: sweeps, and which of them to take."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ntkdyn import disk
from ntkdyn.cli.application import app
from ntkdyn.cli.conduct import Place, folder, seeded, watched
from ntkdyn.cli.options import (
    Budget,
    DataDir,
    OfSpec,
    Over,
    Overwrite,
    Quiet,
    Resume,
    Scheduler,
    Seed,
    Spec,
    Workers,
    Yes,
)
from ntkdyn.cli.stopping import RESUMED, going_on
from ntkdyn.errors import InputError

MOST_TRAININGS = 10**5
"""of a sweep: a training takes a second at least, so that this many take more than a day"""


@app.command()
def sweep(
    spec: Spec,
    over: Over = None,
    observe: Annotated[
        str, typer.Option("--train", help='Train so many settings too, spread evenly, or "all".')
    ] = "0",
    starts: Annotated[
        int | None,
        typer.Option(
            help="Along width, depth or step_size: train from so many starts, for gaps, kernel "
            "drift and movement."
        ),
    ] = None,
    kernel: Annotated[
        list[str] | None, typer.Option(help="With --starts: empirical or infinite; else both.")
    ] = None,
    budget: Budget = 3600.0,
    yes: Yes = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
    out: OfSpec = None,
    seed: Seed = None,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
    resume: Resume = False,
    data_dir: DataDir = None,
) -> None:
    """Write OUT/sweep.nc: losses and accuracies along settings of the spec, predicted in bulk."""
    from ntkdyn import design as designing, experiment

    work = experiment.Experiment(seeded(experiment.load(spec), seed), data_dir)
    axes, place = _axes(work, over), Place(folder(spec, out), overwrite)
    if starts is not None:
        _gaps(work, axes, starts, kernel, place, quiet, resume)
        return
    if kernel:
        raise InputError("--kernel: goes with --starts; vary the setting with --over kernel=...")
    asked = {"over": axes, "train": observe, "dtype": "float32"}
    with (
        _kept(work, place, "sweep", asked, resume) as (path, parts),
        _working(workers, scheduler, quiet) as cluster,
    ):
        study = designing.Study(work, axes, dtype="float32", parts=parts, cluster=cluster)
        chosen = _spread("--train", observe, study.count)
        with going_on(RESUMED), watched(quiet) as bar:
            allowed = None if yes else budget
            found = study.predict(budget=allowed, progress=bar("predicting"))
            designing.check_any(found)
            others = {}
            if chosen:
                others["observed"] = study.train(chosen, budget=allowed, progress=bar("training"))
        if "messages_sent" in found:
            found["seconds"] = designing.costs(found, "seconds")
        _written(study.gridded(found, **others), path, parts)
    if not quiet:
        refused = int((found["refusal"] != "").sum())
        print(f"{study.count - refused} settings predicted, {len(chosen)} trained", end="")
        print(f"; {refused} cannot be run, and why is in `refusal`" if refused else "")
        print(f"  {path}")


def _axes(work, over: list[str] | None) -> list[Any]:
    from ntkdyn import design as designing

    if over:
        return [designing.axis(each) for each in over]
    if not work.spec.sweep:
        raise InputError("--over: give a setting to vary, or a table [sweep] in the spec")
    return designing.of_table(work.spec.sweep)


def _spread(name: str, asked: str, count: int) -> list[int]:
    """The numbers of so many settings, spread evenly over all."""
    if asked == "all":
        return list(range(count))
    if not asked.isdecimal() or int(asked) > count:
        raise InputError(f'{name}: must be "all" or from 0 to the {count} there are, got {asked}')
    return [round(each * (count - 1) / max(1, int(asked) - 1)) for each in range(int(asked))]


@contextlib.contextmanager
def _kept(
    work, place: Place, name: str, asked: dict[str, Any], resume: bool
) -> Iterator[tuple[Path, Any]]:
    """Where the record of a study is written, and where its parts are until then."""
    from ntkdyn import design as designing, experiment

    path = place.folder / f"{name}.nc"
    with disk.claimed(place.folder):
        others = experiment.of_another([path], work.spec.text())
        experiment.check_replaceable([path], others, place.overwrite)
        settings = asked | experiment.flat(work.spec.model_dump())
        yield path, designing.Parts(place.folder / f"{name}.parts", settings, resume=resume)


@contextlib.contextmanager
def _working(workers: str | None, scheduler: str | None, quiet: bool) -> Iterator[Any]:
    """The cluster that works on a study, if any; what may move last digits there is said."""
    from ntkdyn.cluster import opened

    count = int(workers) if workers and workers.isdecimal() else workers
    with opened(count, scheduler) as cluster:
        yield cluster
    if cluster and cluster.unlike and not quiet:
        print(f"last digits may differ from one process's; of a worker {cluster.unlike}")


def _written(record, path: Path, parts) -> None:
    from ntkdyn import records

    records.write(record, path)
    parts.remove()


def _gaps(
    work,
    axes: Sequence[Any],
    starts: int,
    kernel: list[str] | None,
    place: Place,
    quiet: bool,
    resume: bool,
) -> None:
    """Trainings along one setting, from several starts, and how far they are from predictions."""
    from ntkdyn import experiment, figures, records

    if len(axes) != 1 or axes[0].name not in experiment.VARIED:
        raise InputError("--starts: goes with one --over, width, depth or step_size")
    along, taken, first = axes[0].name, axes[0].ticks, work.spec.seed
    if not all(isinstance(each, int | float if along == "step_size" else int) for each in taken):
        kind = "numbers" if along == "step_size" else "whole numbers"
        raise InputError(f"--over: every {along} must be positive {kind}, got {taken}")
    if not 1 <= starts * len(taken) <= MOST_TRAININGS:
        raise InputError(
            f"--starts: {starts} starts at {len(taken)} values are {starts * len(taken)} "
            f"trainings; must be from 1 to {MOST_TRAININGS}"
        )
    path, unfinished = place.folder / "sweep.nc", place.folder / "sweep.json"
    with disk.claimed(place.folder):
        others = experiment.of_another([path], work.spec.text())
        experiment.check_replaceable([path, path.with_suffix(".pdf")], others, place.overwrite)
        with going_on(RESUMED), watched(quiet) as bar:
            found = experiment.sweep(
                work,
                along,
                taken,
                range(first, first + starts),
                progress=bar("training and predicting"),
                unfinished=experiment.Unfinished(unfinished, resume),
                **({"kernels": kernel} if kernel else {}),
            )
        records.write(found, path)
        unfinished.unlink(missing_ok=True)
        drawn = figures.write(figures.draw("sweep", [found]), path.with_suffix(".pdf"))
    if not quiet:
        for value, start in experiment.sweeps.diverged(found):
            print(f"diverged: {along} {value:g} from start {start}")
        for line in figures.sweep.slopes(found).values():
            print(line)
        print(f"  {path}\n  {drawn}")


@app.command()
def design(
    spec: Spec,
    reach: Annotated[str, typer.Option(help='As in "worst test_accuracy >= 0.9".')],
    over: Over = None,
    cost: Annotated[str, typer.Option(help="rounds, floats, bits, seconds or joules.")] = "floats",
    best: Annotated[int, typer.Option(help="Find so many of the best.")] = 5,
    sharp: Annotated[int, typer.Option(help="Predict so many of the best anew, with anchors.")] = 0,
    confirm: Annotated[int, typer.Option(help="Train so many of the best.")] = 0,
    whole: Annotated[
        bool, typer.Option("--whole", help="Follow every setting to the last round.")
    ] = False,
    compute: Annotated[float, typer.Option(help="Seconds of a round's gradients.")] = 0.0,
    bandwidth: Annotated[float, typer.Option(help="Bytes an agent sends in a second.")] = 1.25e7,
    latency: Annotated[float, typer.Option(help="Seconds of a message.")] = 1e-3,
    watts: Annotated[float, typer.Option(help="Of an agent that computes.")] = 0.0,
    joules_per_byte: Annotated[float, typer.Option(help="Of what is sent.")] = 0.0,
    broadcast: Annotated[
        bool, typer.Option("--broadcast", help="All neighbours hear one message.")
    ] = False,
    shared: Annotated[bool, typer.Option("--shared", help="Agents send by turns.")] = False,
    budget: Budget = 3600.0,
    yes: Yes = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
    out: OfSpec = None,
    seed: Seed = None,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
    resume: Resume = False,
    data_dir: DataDir = None,
) -> None:
    """Write OUT/design.nc: which settings reach a target, at what cost, predicted in bulk."""
    from ntkdyn import design as designing, experiment

    for name, count in (("--best", best), ("--sharp", sharp), ("--confirm", confirm)):
        if count < 0:
            raise InputError(f"{name}: must be a whole number from 0 on, got {count}")
    work = experiment.Experiment(seeded(experiment.load(spec), seed), data_dir)
    axes, place = _axes(work, over), Place(folder(spec, out), overwrite)
    clock = designing.Clock(compute, bandwidth, latency, watts, joules_per_byte, broadcast, shared)
    goal = designing.Goal(designing.target(reach), cost, clock)
    asked = {"over": axes, "goal": goal, "whole": whole, "best": best}
    with (
        _kept(work, place, "design", asked, resume) as (path, parts),
        _working(workers, scheduler, quiet) as cluster,
    ):
        study = designing.Study(work, axes, dtype="float32", parts=parts, cluster=cluster)
        with going_on(RESUMED), watched(quiet) as bar:
            asked = {"best": best, "sharp": sharp, "confirm": confirm, "whole": whole}
            allowed = None if yes else budget
            found = designing.search(study, goal, **asked, budget=allowed, bar=bar)
        _written(designing.record_of(study, found), path, parts)
    if not quiet:
        looks = [each for each in (found.sharp, found.trained) if each is not None]
        for line in designing.said(found.reached, axes, found.best, *looks):
            print(line)
        print(f"  {path}")
