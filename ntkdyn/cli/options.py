"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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


Over = Annotated[
    list[str] | None,
    typer.Option(
        help="A setting and what it takes: method.step_size=0.1:0.9:9, graph.topology=ring,star. "
        "In place of the spec's [sweep]."
    ),
]


Yes = Annotated[bool, typer.Option("--yes", help="Take longer than the budget.")]


Budget = Annotated[float, typer.Option(help="Seconds that it may take without --yes.")]


Workers = Annotated[
    str | None,
    typer.Option(help='So many processes of this machine work on it, or "all" cores.'),
]


Scheduler = Annotated[
    str | None,
    typer.Option(help="The workers of a scheduler of dask's do, as in tcp://node:8786."),
]
