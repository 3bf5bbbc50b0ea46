"""Figures, tables and pages from records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ntkdyn import disk
from ntkdyn.cli.application import app
from ntkdyn.cli.conduct import has_screen, seeded
from ntkdyn.cli.options import DataDir, Open, Out, Quiet, Seed, Spec
from ntkdyn.errors import InputError


@app.command()
def graph(
    spec: Spec,
    seed: Seed = None,
    data_dir: DataDir = None,
) -> None:
    """Say what a spec's graph is: gap, all eigenvalues, effective number of neighbours."""
    from ntkdyn import experiment
    from ntkdyn.graphs import described

    work = experiment.Experiment(seeded(experiment.load(spec), seed), data_dir)
    for line in described(work.weights):
        print(line)


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
def explore(
    run: Annotated[
        Path, typer.Argument(help="A spec, or a record that predict, train or run wrote.")
    ],
    observed: Annotated[
        Path | None, typer.Option(help="What train wrote, to be laid over the curves.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The page, .html.")] = Path("explore.html"),
    show: Open = False,
    quiet: Quiet = False,
    data_dir: DataDir = None,
) -> None:
    """Write a page of your own run: drag step, graph, method and data, and its curves follow."""
    from ntkdyn import experiment, records
    from ntkdyn.figures import interactive

    if out.suffix != ".html":
        raise InputError(f"output: {out} must end in .html")
    disk.check_ours([out])
    spec, seen = experiment.spec_and_observed(run)
    if observed is not None:
        seen = records.read(observed)
    found = experiment.explored(experiment.Experiment(spec, data_dir), seen)
    interactive.write_own(found, out)
    if not quiet:
        worst = 100 * max(found["error"].values[0], found["other_error"].values.max())
        print(f"{out}: losses within {worst:.2g} % of the whole kernel's, where that was tried")
    if show:
        typer.launch(str(out))


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
    elif show or (show is None and has_screen()):
        typer.launch(str(index))
