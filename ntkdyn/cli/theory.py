"""What theory says of a spec, and what is claimed of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ntkdyn import disk
from ntkdyn.cli.application import app
from ntkdyn.cli.conduct import folder, prediction, seeded, watched
from ntkdyn.cli.options import DataDir, OfSpec, Overwrite, Quiet, Seed, Spec
from ntkdyn.cli.stopping import leave
from ntkdyn.errors import InputError, check_name

FIRST_ROUNDS = 30
"""`bounds` records all of these, since some bounds are on means over rounds"""


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
    work = experiment.Experiment(seeded(asked, seed), data_dir, first)
    disk.check_ours(path for path in (out, rate_map) if path is not None)
    with watched(quiet) as bar:
        predicted = given.get("predicted") or prediction(work, bar)
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
        with watched(quiet) as bar:
            records.write(rates.whole_map(work.case, bar("mapping exact rates")), rate_map)
    try:
        demand(row.predicted for row in found)
    except BoundViolated as error:
        leave(1, str(error))


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
    work = experiment.Experiment(seeded(experiment.load(spec), seed), data_dir)
    out = folder(spec, out)
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


claims = typer.Typer(
    help="Hold published scaling laws against exact quantities.", no_args_is_help=True
)
app.add_typer(claims, name="claims")


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
