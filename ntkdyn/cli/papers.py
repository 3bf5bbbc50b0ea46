"""The papers that the methods come from, and their claims, run."""

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
from ntkdyn.cli.conduct import watched
from ntkdyn.cli.options import DataDir, Overwrite, Quiet, Resume
from ntkdyn.cli.stopping import RESUMED, going_on

papers = typer.Typer(help="The source papers, and their claims, run.", no_args_is_help=True)
app.add_typer(papers, name="papers")


@papers.command("list")
def list_papers() -> None:
    """List the papers that the methods come from, and how far each is known."""
    from ntkdyn.methods.catalogue import PAPERS

    table = Table("folder", "paper", "how far it is known", box=None)
    for row in PAPERS:
        table.add_row(*map(escape, row))
    Console(width=None if sys.stdout.isatty() else 240).print(table)


@papers.command("run")
def run_study(
    name: Annotated[str, typer.Argument(help="Which study: its folder, as `papers list` has it.")],
    small: Annotated[
        bool, typer.Option("--small", help="Digits and small networks: minutes, not hours.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="The folder for results.")] = None,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
    resume: Resume = False,
    data_dir: DataDir = None,
) -> None:
    """Write OUT/study.nc, .md and .svg: a paper's claims, predicted and trained."""
    from ntkdyn import experiment, figures, papers as studies

    folder = Path(f"ntkdyn-{name}") if out is None else out
    paths = [folder / f"study{ending}" for ending in (".nc", ".md", ".svg")]
    with disk.claimed(folder):
        experiment.check_replaceable(paths, [], overwrite)
        with going_on(RESUMED), watched(quiet) as bar:
            found = studies.run(
                name, folder, small=small, data_dir=data_dir, resume=resume,
                progress=bar("running the study"),
            )  # fmt: skip
        _, text, drawn = paths
        with disk.whole_file(text) as unfinished:
            unfinished.write_text(studies.said(found), encoding="utf-8")
        figures.write(figures.draw("study", [found]), drawn)
    if not quiet:
        for claim, status in zip(
            found["claim"].values, found["status"].sel(side="trained").values, strict=True
        ):
            print(f"{status:<13} {claim}")
        print(*(f"  {path}" for path in paths), sep="\n")
