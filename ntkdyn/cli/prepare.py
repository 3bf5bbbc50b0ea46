"""What there is to run: specs, drafts, kernels, methods, papers, the machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ntkdyn import disk
from ntkdyn.cli.application import app
from ntkdyn.cli.conduct import seeded, watched
from ntkdyn.cli.options import DataDir, Quiet, Seed, Spec
from ntkdyn.cli.stopping import going_on
from ntkdyn.errors import InputError, unknown


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

    work = experiment.Experiment(seeded(experiment.load(spec), seed), data_dir)
    with going_on("the same command goes on with the tiles that are done"), watched(quiet) as bar:
        plan = work.kernel(form, memory, out, double=double, progress=bar("computing tiles"))
    if not quiet:
        print(plan)
        print(out)


@app.command()
def methods() -> None:
    """List the methods: their round, source, what they send, where they run, what W they need."""
    from ntkdyn.methods.catalogue import catalogue

    table = Table("name", "round", "source", "sends to each", "spaces", "W", box=None)
    for row in catalogue():
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
