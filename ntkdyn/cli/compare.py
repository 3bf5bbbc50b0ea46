"""Records against records, logs and their own repetition."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ntkdyn import disk
from ntkdyn.cli.application import app
from ntkdyn.cli.conduct import say_gap, watched
from ntkdyn.cli.options import DataDir, Open, Out, Overwrite, Quiet
from ntkdyn.conformance.app import DIFFERS
from ntkdyn.errors import InputError


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
    say_gap(comparison, [*([files.observed] if log else []), *written], quiet, show)


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
    with watched(quiet) as bar:
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
