"""The command line: parse, call, save. No mathematics.

Exit codes: 0 done, 1 a fault of the program, 2 an input that cannot be used (one sentence says
why), 3 what was checked does not hold, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn

import typer
import typer.core
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from ntkdyn import disk, progress
from ntkdyn.bench.app import app as bench
from ntkdyn.conformance.app import DIFFERS, app as conform
from ntkdyn.errors import InputError, check_name, unknown

FIRST_ROUNDS = 30
"""`bounds` records all of these, since some bounds are on means over rounds"""


MOST_TRAININGS = 10**5
"""of a sweep: a training takes a second at least, so that this many take more than a day"""


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


DISK_ERRORS = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO, errno.EBADF)
"""how the system says that standard output takes no more; files have refusals of their own"""


class Commands(typer.core.TyperGroup):
    """Commands whose refusals and interruptions are said in one sentence."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        if sys.stdout is None:
            _leave(2, "output: standard output is closed; direct it to a file or to /dev/null")
        os.environ["MPLBACKEND"] = "agg"  # figures are files, whatever backend a user asks for
        with _handled({signal.SIGTERM: _terminate}), _printed(), progress.quiet():
            return super().main(*args, **kwargs)

    def invoke(self, context: Any) -> Any:
        try:
            return super().invoke(context)
        except InputError as error:
            _leave(2, str(error))
        except KeyboardInterrupt as reason:
            how = str(reason) or "no unfinished file was left"
            terminated = isinstance(reason, Terminated)
            _leave(*((143, f"terminated; {how}") if terminated else (130, f"interrupted; {how}")))
        except (RuntimeError, AssertionError):
            if not _lacks_devices():
                raise
            asked = os.environ.get("JAX_PLATFORMS")
            _leave(
                2, f"JAX_PLATFORMS: JAX cannot start what {asked!r} names; unset it, or name others"
            )


def _lacks_devices() -> bool:
    """Whether JAX has no device to work on: it says so or, in some versions, asserts it."""
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError):
        return True
    return False


def _terminate(*_: object) -> NoReturn:
    raise Terminated


@contextlib.contextmanager
def _handled(handlers: dict[int, Callable]) -> Iterator[None]:
    """Handle the signals so during the block; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number, handle in handlers.items()}
    try:
        yield
    finally:
        for number, handle in before.items():
            signal.signal(number, handle)


@contextlib.contextmanager
def _printed() -> Iterator[None]:
    """What the block prints is on its way when it ends, or a sentence says why not."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.filename is not None or error.errno not in DISK_ERRORS:
            raise
        with open(os.devnull, "w") as nowhere:  # Python flushes once more when it ends
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        _leave(2, f"output: cannot write to standard output; {error.strerror}")


@contextlib.contextmanager
def _saving_when_stopped(checkpoints) -> Iterator[None]:
    """The first signal to stop has the run saved, a second one stops it at once."""
    stopped: list[KeyboardInterrupt] = []

    def stop(number: int, frame: object) -> None:
        reason = Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
        if stopped:
            raise reason
        stopped.append(reason)
        checkpoints.stop(reason)

    with _handled({signal.SIGINT: stop, signal.SIGTERM: stop}):
        yield
    if stopped:  # after the last time that it could be saved
        raise stopped[0]


@contextlib.contextmanager
def _going_on(how: str) -> Iterator[None]:
    """An interruption of the block says how to go on."""
    try:
        yield
    except KeyboardInterrupt as reason:
        raise type(reason)(how) from None


RESUMED = "no unfinished file was left, and --resume goes on with what was saved"


def _leave(code: int, sentence: str) -> NoReturn:
    Console(stderr=True, soft_wrap=True, markup=False, highlight=False).print(f"ntkdyn: {sentence}")
    sys.exit(code)


app = typer.Typer(
    cls=Commands,
    name="ntkdyn",
    help="Predict decentralized deep learning before it is run.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(bench, name="bench")
app.add_typer(conform, name="conform")
claims = typer.Typer(
    help="Hold published scaling laws against exact quantities.", no_args_is_help=True
)
app.add_typer(claims, name="claims")


def _say_version(asked: bool) -> bool:
    if asked:
        print(f"ntkdyn {metadata.version('ntkdyn')}")
        raise typer.Exit
    return asked


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


def _hush(quiet: bool) -> bool:
    """Downloads say nothing either."""
    if quiet:
        import pooch

        pooch.get_logger().setLevel("ERROR")
    return quiet


Spec = Annotated[
    Path, typer.Argument(help="A TOML spec, or the name of one that `ntkdyn specs` lists.")
]
Out = Annotated[Path, typer.Option(help="The folder that results are written to.")]
OfSpec = Annotated[
    Path | None,
    typer.Option(help="The folder that results are written to; ntkdyn-NAME by the spec's name."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the results of another spec in that folder.")
]
Seed = Annotated[int | None, typer.Option(help="Replaces the spec's seed.")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="The folder with datasets' files; else NTKDYN_DATA; else they are downloaded."
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print nothing but errors.", callback=_hush)
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a run that was interrupted.")]
Minutes = Annotated[float, typer.Option(help="Minutes between checkpoints.")]
Rounds = Annotated[int | None, typer.Option(help="Rounds between them, instead.")]
Devices = Annotated[int | None, typer.Option(help="Share the agents among so many devices.")]
Memory = Annotated[
    str | None, typer.Option(help='What training may take of each device, like "4 GB".')
]
Nulls = Annotated[
    bool,
    typer.Option(help="Predict what was not run, too; takes as long as up to six predictions."),
]
Open = Annotated[bool | None, typer.Option("--open/--no-open", help="Show the overlay when done.")]


@app.command()
def demo(
    out: Out = Path("ntkdyn-demo"),
    seed: Seed = None,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
    show: Open = None,
    spec: Annotated[bool, typer.Option("--spec", help="Print the demo's spec and stop.")] = False,
) -> None:
    """Predict and train eight agents on a ring that learn digits; lay one over the other."""
    from ntkdyn import experiment

    asked = _seeded(experiment.demo(), seed)
    if spec:
        print(asked.text(), end="")
        return
    _conduct(experiment.Experiment(asked), _Place(out, overwrite), quiet, show)


@app.command()
def run(
    spec: Spec,
    out: OfSpec = None,
    seed: Seed = None,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
    show: Open = False,
    predict_only: Annotated[bool, typer.Option(help="Train nothing.")] = False,
    train_only: Annotated[bool, typer.Option(help="Predict nothing.")] = False,
    account: Annotated[
        bool, typer.Option("--account", help="Split the gaps by source; trains once more.")
    ] = False,
    nulls: Nulls = True,
    resume: Resume = False,
    checkpoint_minutes: Minutes = 5.0,
    checkpoint_rounds: Rounds = None,
    devices: Devices = None,
    memory: Memory = None,
    data_dir: DataDir = None,
) -> None:
    """Predict, train and compare what a spec describes."""
    from ntkdyn import experiment

    if predict_only and train_only:
        raise InputError("--predict-only and --train-only: give one of the two, or neither")
    if account and (predict_only or train_only):
        raise InputError("--account: needs both sides, so neither --predict-only nor --train-only")
    saving = _Saving(resume, checkpoint_minutes, checkpoint_rounds)
    machine = _Machine(devices, memory)
    only = "--predict-only" if predict_only else "--train-only" if train_only else None
    odd = saving.given() + machine.given() if predict_only else []
    odd += ["--open"] if only and show else []
    odd += ["--no-nulls"] if only and not nulls else []
    if odd:
        raise InputError(f"{odd[0]}: does not apply with {only}; leave it out")
    work = experiment.Experiment(_seeded(experiment.load(spec), seed), data_dir)
    place = _Place(_folder(spec, out), overwrite)
    if only:
        side = "predict" if predict_only else "train"
        _one_side(work, place, quiet, side, saving, machine)
    else:
        _conduct(work, place, quiet, show, saving, machine, account, nulls)


@app.command()
def predict(
    spec: Spec,
    out: OfSpec = None,
    seed: Seed = None,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
    data_dir: DataDir = None,
) -> None:
    """Write OUT/predicted.nc: every agent's errors as the theory has them."""
    from ntkdyn import experiment

    work = experiment.Experiment(_seeded(experiment.load(spec), seed), data_dir)
    _one_side(work, _Place(_folder(spec, out), overwrite), quiet, "predict")


@app.command()
def train(
    spec: Spec,
    out: OfSpec = None,
    seed: Seed = None,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
    resume: Resume = False,
    checkpoint_minutes: Minutes = 5.0,
    checkpoint_rounds: Rounds = None,
    devices: Devices = None,
    memory: Memory = None,
    data_dir: DataDir = None,
) -> None:
    """Write OUT/observed.nc: every agent's errors on real networks."""
    from ntkdyn import experiment

    work = experiment.Experiment(_seeded(experiment.load(spec), seed), data_dir)
    saving = _Saving(resume, checkpoint_minutes, checkpoint_rounds)
    machine = _Machine(devices, memory)
    _one_side(work, _Place(_folder(spec, out), overwrite), quiet, "train", saving, machine)


@app.command()
def curve(
    spec: Spec,
    out: OfSpec = None,
    noise: Annotated[float, typer.Option(help="Standard deviation of the labels' noise.")] = 0.0,
    what: Annotated[
        str, typer.Option(help="losses, or what follows: stopping, split, profit, steps, price.")
    ] = "losses",
    seed: Seed = None,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
    data_dir: DataDir = None,
) -> None:
    """Write OUT/curve.nc and .pdf: test losses in the mean over all draws of as many points.

    With --what it is OUT/WHAT.nc: when each agent should stop, how points are best split, from how
    many agents each profits, the best step size, or the graph's price in points.
    """
    from ntkdyn import experiment, figures, records
    from ntkdyn.theory.learning_curves import PLANS

    check_name("what", what, PLANS)
    work = experiment.Experiment(_seeded(experiment.load(spec), seed), data_dir)
    out = _folder(spec, out)
    path = out / ("curve.nc" if what == "losses" else f"{what}.nc")
    with disk.claimed(out):
        others = experiment.of_another([path], work.spec.text())
        experiment.check_replaceable([path, path.with_suffix(".pdf")], others, overwrite)
        found = work.learning_curve(noise, what)
        records.write(found, path)
        figure = figures.draw("learning_curve" if what == "losses" else what, [found])
        drawn = figures.write(figure, path.with_suffix(".pdf"))
    if not quiet:
        if what == "losses":
            losses = found["test_loss"].values[-1]
            last = found["round"].values[-1]
            print(f"test loss after {last} rounds: {losses.min():.4g} to {losses.max():.4g}")
        print(f"  {path}\n  {drawn}")


@claims.command("list")
def list_claims() -> None:
    """List the claims: what each says, its page in papers/claims/, the law."""
    from ntkdyn.theory.claims import CLAIMS

    table = Table("name", "says", "y", "x", "law", "page", box=None)
    for name, each in CLAIMS.items():
        row = name, each.says, each.measured, each.along, f"{each.law:g}", each.page
        table.add_row(*map(escape, row))
    Console(width=None if sys.stdout.isatty() else 240).print(table)


@claims.command("run")
def run_claim(
    name: Annotated[str, typer.Argument(help="Which claim; `ntkdyn claims list` names them.")],
    problems: Annotated[int, typer.Option(help="Random problems of every size.")] = 3,
    seed: Annotated[int, typer.Option(help="Where random problems begin.")] = 0,
    law: Annotated[float | None, typer.Option(help="Another exponent than is claimed.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="A record, .nc; its figure is written beside it, .pdf.")
    ] = None,
) -> None:
    """Draw random problems, compute the quantity exactly, fit its slope: holds or fails."""
    from ntkdyn import figures, records
    from ntkdyn.theory.claims import CLAIMS, run

    if out is not None:
        disk.check_ours([out, out.with_suffix(".pdf")])
    found = run(name, problems=problems, seed=seed, law=law)
    print(f"{found.attrs['says']}\n  assumes {'; '.join(CLAIMS[name].assumes)}")
    print(f"  y = {found.attrs['measured']}\n{found.attrs['verdict']}")
    if out is not None:
        records.write(found, out)
        print(figures.write(figures.draw("claim", [found]), out.with_suffix(".pdf")))


Over = Annotated[
    list[str] | None,
    typer.Option(
        help="A setting and what it takes: method.step_size=0.1:0.9:9, graph.topology=ring,star. "
        "In place of the spec's [sweep]."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Take longer than the budget.")]
Budget = Annotated[float, typer.Option(help="Seconds that it may take without --yes.")]


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
    out: OfSpec = None,
    seed: Seed = None,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
    resume: Resume = False,
    data_dir: DataDir = None,
) -> None:
    """Write OUT/sweep.nc: losses and accuracies along settings of the spec, predicted in bulk."""
    from ntkdyn import design as designing, experiment

    work = experiment.Experiment(_seeded(experiment.load(spec), seed), data_dir)
    axes, place = _axes(work, over), _Place(_folder(spec, out), overwrite)
    if starts is not None:
        _gaps(work, axes, starts, kernel, place, quiet, resume)
        return
    if kernel:
        raise InputError("--kernel: goes with --starts; vary the setting with --over kernel=...")
    asked = {"over": axes, "train": observe, "dtype": "float32"}
    with _kept(work, place, "sweep", asked, resume) as (path, parts):
        study = designing.Study(work, axes, dtype="float32", parts=parts)
        chosen = _spread("--train", observe, study.count)
        with _going_on(RESUMED), _watched(quiet) as bar:
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
    work, place: _Place, name: str, asked: dict[str, Any], resume: bool
) -> Iterator[tuple[Path, Any]]:
    """Where the record of a study is written, and where its parts are until then."""
    from ntkdyn import design as designing, experiment

    path = place.folder / f"{name}.nc"
    with disk.claimed(place.folder):
        others = experiment.of_another([path], work.spec.text())
        experiment.check_replaceable([path], others, place.overwrite)
        settings = asked | experiment.flat(work.spec.model_dump())
        yield path, designing.Parts(place.folder / f"{name}.parts", settings, resume=resume)


def _written(record, path: Path, parts) -> None:
    from ntkdyn import records

    records.write(record, path)
    parts.remove()


def _gaps(
    work,
    axes: Sequence[Any],
    starts: int,
    kernel: list[str] | None,
    place: _Place,
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
        with _going_on(RESUMED), _watched(quiet) as bar:
            found = work.sweep(
                along,
                taken,
                range(first, first + starts),
                progress=bar("training and predicting"),
                unfinished=unfinished,
                resume=resume,
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
    work = experiment.Experiment(_seeded(experiment.load(spec), seed), data_dir)
    axes, place = _axes(work, over), _Place(_folder(spec, out), overwrite)
    clock = designing.Clock(compute, bandwidth, latency, watts, joules_per_byte, broadcast, shared)
    goal = designing.Goal(designing.target(reach), cost, clock)
    asked = {"over": axes, "goal": goal, "whole": whole, "best": best}
    with _kept(work, place, "design", asked, resume) as (path, parts):
        study = designing.Study(work, axes, dtype="float32", parts=parts)
        with _going_on(RESUMED), _watched(quiet) as bar:
            asked = {"best": best, "sharp": sharp, "confirm": confirm, "whole": whole}
            allowed = None if yes else budget
            found = designing.search(study, goal, **asked, budget=allowed, bar=bar)
        _written(designing.record_of(study, found), path, parts)
    if not quiet:
        looks = [each for each in (found.sharp, found.trained) if each is not None]
        for line in designing.said(found.reached, axes, found.best, *looks):
            print(line)
        print(f"  {path}")


@app.command()
def specs(
    name: Annotated[str | None, typer.Argument(help="Print this one.")] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of specs, for editors.")
    ] = False,
) -> None:
    """List the specs that ship with ntkdyn; `ntkdyn run NAME` runs one."""
    from ntkdyn import experiment

    if schema and name is not None:
        raise InputError("specs: --schema is that of all specs; give no name with it")
    if schema:
        print(experiment.schema())
        return
    if name is not None and name not in experiment.shipped():
        raise unknown("spec", name, experiment.shipped())
    for known, text in experiment.shipped().items():
        if name is None:
            print(f"{known:<14} {text.splitlines()[0].removeprefix('# ')}")
        elif name == known:
            print(text, end="")


@app.command()
def new(
    data: Annotated[Path, typer.Argument(help="A table of points: .csv, .tsv, .parquet.")],
    graph: Annotated[
        Path | None, typer.Option(help="A graph of your own: .graphml, .edgelist, ...")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The spec; spec.toml beside the table.")] = None,
    quiet: Quiet = False,
) -> None:
    """Look at your files and write a commented spec for them, to read, change and run."""
    from ntkdyn import drafts, experiment

    path = data.parent / "spec.toml" if out is None else out
    if path.exists():
        raise InputError(f"output: {path} is there already; write to another file with --out")
    text = drafts.spec(data, graph, path.parent)
    experiment.parse(text, str(path))
    with disk.whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    if not quiet:
        print(f"{path}\n\n{text}", end="")


@app.command()
def kernel(
    spec: Spec,
    out: Annotated[Path, typer.Option(help="The HDF5 file, new or to be continued.")],
    form: Annotated[str, typer.Option(help="full, trace, or the number of an output.")] = "trace",
    memory: Annotated[str | None, typer.Option(help='What may be held, like "200MB".')] = None,
    double: Annotated[bool, typer.Option(help="In float64.")] = False,
    seed: Seed = None,
    quiet: Quiet = False,
    data_dir: DataDir = None,
) -> None:
    """Write the network's empirical kernel at its start, between all training points."""
    from ntkdyn import experiment

    work = experiment.Experiment(_seeded(experiment.load(spec), seed), data_dir)
    with _going_on("the same command goes on with the tiles that are done"), _watched(quiet) as bar:
        plan = work.kernel(form, memory, out, double=double, progress=bar("computing tiles"))
    if not quiet:
        print(plan)
        print(out)


@app.command()
def compare(
    predicted: Annotated[Path, typer.Argument(help="A record written by predict.")],
    observed: Annotated[
        Path,
        typer.Argument(help="A record written by train; or a log of your own: .csv, .npz, ..."),
    ],
    column: Annotated[
        list[str] | None,
        typer.Option(help="What a log calls a measure, as in train_loss=Loss; may be repeated."),
    ] = None,
    factor: Annotated[
        list[str] | None,
        typer.Option(help="What a measure of it is multiplied by, as in train_loss=5."),
    ] = None,
    out: Out = Path("ntkdyn-compare"),
    quiet: Quiet = False,
    overwrite: Overwrite = False,
    show: Open = False,
) -> None:
    """Write the comparison, the overlay and the report of two records, or of one and a log."""
    from ntkdyn import experiment, records

    one, log = records.read(predicted), observed.suffix != ".nc"
    if not log and (column or factor):
        raise InputError("--column and --factor: go with a log, and a record needs none")
    settings = {"columns": _pairs("column", column), "factors": _pairs("factor", factor, _number)}
    other = experiment.from_log(observed, one, **settings) if log else records.read(observed)
    with disk.claimed(out):
        files = experiment.files(out)
        files.check(one.attrs.get("spec"), overwrite)
        comparison = experiment.compare(one, other, files)
        if log:
            records.write(other, files.observed)
    if log and not quiet:
        _say_log(other)
    written = [files.comparison, files.overlay, files.report]
    _say_gap(comparison, [*([files.observed] if log else []), *written], quiet, show)


@app.command()
def verify(
    record: Annotated[Path, typer.Argument(help="A record written by predict, train or run.")],
    tolerance: Annotated[
        float | None,
        typer.Option(help="Largest difference relative to a variable's largest value."),
    ] = None,
    quiet: Quiet = False,
    data_dir: DataDir = None,
) -> None:
    """Run a record's spec again, and say whether the same numbers come out."""
    from ntkdyn import experiment, records

    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise InputError(f"--tolerance: must be zero or above, got {tolerance}")
    held = records.read(record)
    with _watched(quiet) as bar:
        found = experiment.verify(held, data_dir, tolerance, bar("running it again"))
    print(found)
    raise typer.Exit(0 if found else DIFFERS)


def _pairs(option: str, given: list[str] | None, read: Callable = str) -> dict[str, Any]:
    """What is left of = -> what is right of it."""
    found = {}
    for each in given or []:
        name, equals, value = each.partition("=")
        if not equals:
            raise InputError(f"--{option}: must be MEASURE=VALUE, got {each!r}")
        found[name] = read(value)
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--factor: must be a number, got {text!r}") from None


def _say_log(log) -> None:
    """What was read as what."""
    read = json.loads(log.attrs["log_columns"])
    print(f"{log.attrs['log']}: {', '.join(f'{name} from {said}' for name, said in read.items())}")
    if log.attrs["log_lacks"]:
        print(f"it does not hold {log.attrs['log_lacks']}")


@app.command()
def bounds(
    spec: Annotated[Path | None, typer.Argument(help="A TOML spec; or give --demo.")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Take the demo's spec.")] = False,
    record: Annotated[
        list[Path] | None, typer.Option(help="A record to hold against them; may be repeated.")
    ] = None,
    train: Annotated[bool, typer.Option(help="Train, if no observed record is given.")] = True,
    out: Annotated[
        Path | None, typer.Option(help="Write the table too, for `ntkdyn figure bounds`.")
    ] = None,
    rate_map: Annotated[
        Path | None,
        typer.Option(
            help="Write the exact rate by step size and gap, for `ntkdyn figure stability_map`."
        ),
    ] = None,
    seed: Seed = None,
    quiet: Quiet = False,
    data_dir: DataDir = None,
) -> None:
    """Print what theorems promise of a run, whether they apply, and what happened."""
    from ntkdyn import experiment, records
    from ntkdyn.theory import rates, table
    from ntkdyn.theory.bounds import BoundViolated, demand

    if (spec is None) == (not demo):
        raise InputError("bounds: give a spec or --demo, one of the two")
    asked = experiment.demo() if demo else experiment.load(spec)
    given = _sides(record or [])
    first = 0 if given else FIRST_ROUNDS
    work = experiment.Experiment(_seeded(asked, seed), data_dir, first)
    disk.check_ours(path for path in (out, rate_map) if path is not None)
    with _watched(quiet) as bar:
        predicted = given.get("predicted") or _predicted(work, bar)
        _ = work.case
        observed = given.get("observed")
        if observed is None and train:
            observed = work.train(bar("training the real networks"))
        waiting = bar("evaluating the assumptions")
        found = work.bounds(predicted, observed, waiting)
        waiting(1, 1)
        if out is not None:
            records.write(table.record(work.case, found), out)
    shown = Table(*table.COLUMNS, show_lines=True)
    for row in found:
        shown.add_row(*table.cells(row))
    Console(width=None if sys.stdout.isatty() else 200, markup=False).print(shown)
    if rate_map is not None:
        with _watched(quiet) as bar:
            records.write(rates.whole_map(work.case, bar("mapping exact rates")), rate_map)
    try:
        demand(row.predicted for row in found)
    except BoundViolated as error:
        _leave(1, str(error))


@app.command()
def figure(
    name: Annotated[str | None, typer.Argument(help="Which figure; --list names them.")] = None,
    record: Annotated[
        list[Path] | None, typer.Option(help="A record to draw; some figures take several.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The file: .pdf, .svg or .png; .gif or .mp4 for the animation."),
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="Name the figures and stop.")] = False,
    quiet: Quiet = False,
) -> None:
    """Draw a figure from records."""
    from ntkdyn import figures, records

    if listing or name is None:
        for known in figures.FIGURES:
            print(f"{known:<16} {figures.summary(known)}")
        return
    drawn = figures.draw(name, [records.read(path) for path in record or []])
    path = out or Path(f"{name}{figures.ending(drawn)}")
    disk.check_ours([path])
    figures.write(drawn, path)
    if not quiet:
        print(path)


@app.command()
def table(
    record: Annotated[Path, typer.Argument(help="What `ntkdyn sweep` or `design` wrote.")],
    out: Annotated[Path, typer.Option(help="The file: .csv or .tex.")] = Path("table.csv"),
    quiet: Quiet = False,
) -> None:
    """Write a table with a row for each setting of a sweep or a design."""
    from ntkdyn import records
    from ntkdyn.design import tables

    if out.exists():
        raise InputError(f"output: {out} is there already; write to another file with --out")
    tables.write(tables.rows(records.read(record)), out)
    if not quiet:
        print(out)


@app.command()
def teach(
    out: Out = Path("ntkdyn-teach"),
    show: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Show the index when done.")
    ] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Serve them on 127.0.0.1.")] = False,
    port: Annotated[int, typer.Option(help="The port to serve on; 0 takes a free one.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Write the explorables: pages that recompute while you drag, without a network."""
    from ntkdyn.figures import interactive

    index = interactive.write(out)
    if not quiet:
        print(index)
    if serve:
        with interactive.server(out, port) as server:
            address = f"http://127.0.0.1:{server.server_address[1]}/"
            print(f"{address}  (Ctrl-C stops it)", flush=True)
            if show:
                typer.launch(address)
            server.serve_forever()
    elif show or (show is None and _has_screen()):
        typer.launch(str(index))


@app.command()
def methods() -> None:
    """List the methods: their round, source, what they send, where they run, what W they need."""
    from ntkdyn.methods.catalogue import catalogue

    table = Table("name", "round", "source", "sends to each", "spaces", "W", box=None)
    for row in catalogue():
        table.add_row(*map(escape, row))
    Console(width=None if sys.stdout.isatty() else 240).print(table)


@app.command()
def papers() -> None:
    """List the papers that the methods come from, and how far each is known."""
    from ntkdyn.methods.catalogue import PAPERS

    table = Table("folder", "paper", "how far it is known", box=None)
    for row in PAPERS:
        table.add_row(*map(escape, row))
    Console(width=None if sys.stdout.isatty() else 240).print(table)


@app.command()
def doctor() -> None:
    """Say what is installed, which devices JAX sees, and what is missing."""
    from ntkdyn import health

    table = Table("", "found", "", box=None)
    checks = health.examine()
    for check in checks:
        colour = {"ok": "green", "missing": "red", "absent": "yellow"}[check.state]
        table.add_row(check.what, check.found, f"[{colour}]{check.state}[/]")
    Console().print(table)
    for check in checks:
        if check.advice:
            print(f"{check.what}: {check.advice}")
    if any(check.state == "missing" for check in checks):
        sys.exit(1)


class _Saving(NamedTuple):
    """What the command line says about checkpoints."""

    resume: bool = False
    minutes: float = 5.0
    rounds: int | None = None

    def given(self) -> list[str]:
        """The options that were used."""
        names = "--resume", "--checkpoint-minutes", "--checkpoint-rounds"
        return _used(names, self, _Saving())


class _Machine(NamedTuple):
    """What the command line says about devices."""

    devices: int | None = None
    memory: str | None = None

    def given(self) -> list[str]:
        """The options that were used."""
        return _used(("--devices", "--memory"), self, _Machine())


class _Place(NamedTuple):
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


def _folder(spec: Path, out: Path | None) -> Path:
    return Path(f"ntkdyn-{spec.stem}") if out is None else out


def _used(names: Sequence[str], values: Sequence, defaults: Sequence) -> list[str]:
    together = zip(names, values, defaults, strict=True)
    return [name for name, value, default in together if value != default]


def _sides(paths: list[Path]) -> dict[str, Any]:
    """The predicted record and the observed one among those, where they are."""
    from ntkdyn import records

    found = {}
    for path in paths:
        record = records.read(path)
        if "space" not in record.attrs:
            raise InputError(f"record: {path} is of no run; give what predict or train wrote")
        side = "observed" if record.attrs["space"] == "network" else "predicted"
        if side in found:
            raise InputError(f"record: {path} is a second {side} record; give one of each")
        found[side] = record
    return found


def _conduct(
    work,
    place: _Place,
    quiet: bool,
    show: bool | None,
    saving: _Saving | None = None,
    machine: _Machine = _Machine(),
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
        with _watched(quiet) as bar:
            predicted = work.finished(files.predicted) if resume else None
            begun = predicted is not None
            predicted = predicted if begun else _predicted(work, bar)
            if not begun:
                records.write(predicted, files.predicted)
            observed = _trained(work, checkpoints, files.observed, resume, machine, bar)
            asked = account and bar("splitting the gap by source")
            accounts = work.account(predicted, observed, asked) if account else None
            told = nulls and bar("predicting what was not run")
            others = work.nulls(predicted, observed, told) if nulls else None
        comparison = experiment.compare(predicted, observed, files, accounts, others)
    written = [path for path in files if account or path != files.accounts]
    _say_gap(comparison, written, quiet, show)


def _one_side(
    work,
    place: _Place,
    quiet: bool,
    side: str,
    saving: _Saving = _Saving(),
    machine: _Machine = _Machine(),
) -> None:
    from ntkdyn import experiment, records

    experiment.check_machine(*machine)
    work.check(trained=side == "train")
    with place.files(work) as files:
        path = files.predicted if side == "predict" else files.observed
        with _watched(quiet) as bar:
            if side == "predict":
                predicted = _predicted(work, bar)
                records.write(predicted, path)
            else:
                checkpoints = work.checkpoints(place.folder, **saving._asdict())
                _settle(work, bar)
                _trained(work, checkpoints, path, saving.resume, machine, bar)
    if not quiet:
        print(path)
        if side == "predict" and (proven := experiment.proven(predicted)):
            print(proven)
        for other in files.of_another(work.spec.text()):
            print(f"{other.name} beside it is of another spec")


def _trained(work, checkpoints, path: Path, resume: bool, machine: _Machine, bar: Callable):
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
    with _going_on(RESUMED), _saving_when_stopped(checkpoints):
        yield


def _predicted(work, bar: Callable):
    """The prediction, with what it waits for shown."""
    _settle(work, bar)
    predicting = bar("predicting")
    return work.predict(predicting, bar("bounding its error") if work.certifies else None)


def _settle(work, bar: Callable) -> None:
    """The step size as a number and whether it is stable, which can take long."""
    prepared = bar("computing kernel and limit")
    work.settle(prepared)
    prepared(1, 1)


def _seeded(spec, seed: int | None):
    return spec if seed is None else spec.with_seed(seed)


@contextlib.contextmanager
def _watched(quiet: bool) -> Iterator[Callable]:
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


def _say_gap(comparison, files, quiet: bool, show: bool | None) -> None:
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
    if show or (show is None and _has_screen()):
        overlay = next(path for path in files if path.name == "overlay.png")
        typer.launch(str(overlay))


def _has_screen() -> bool:
    """Whether somebody sits in front of a desktop."""
    desktop = sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY"))
    return desktop and sys.stdout.isatty()
