"""The command `ntkdyn`, to which the modules beside this one add theirs."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

import typer

from ntkdyn.bench.app import app as bench
from ntkdyn.cli.stopping import Commands
from ntkdyn.conformance.app import app as conform

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
