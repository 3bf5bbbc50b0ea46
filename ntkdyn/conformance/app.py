"""`ntkdyn conform`: the cases as files, and iterates checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ntkdyn import disk

app = typer.Typer(
    help="Check your own implementation of a method against golden iterates.",
    no_args_is_help=True,
)

DIFFERS = 3
"""the exit code where iterates are not the method's"""

Name = Annotated[str, typer.Argument(help="The method, like dgd.")]


@app.command()
def case(
    method: Name,
    out: Annotated[Path, typer.Option("--out", help="Where to write it.")] = Path("case.json"),
) -> None:
    """Write what an implementation is to be run on: points, weights, step size, start."""
    from ntkdyn import conformance

    held = conformance.exported(method)
    with disk.whole_file(disk.place_of("--out", str(out))) as place:
        place.write_text(json.dumps(held, indent=1))
    print(f"{out}: {held['rounds']} rounds of {method}, {len(held['weights'])} agents")


@app.command()
def check(
    method: Name,
    iterates: Annotated[
        Path, typer.Argument(help="Rounds x agents x parameters: .npy, .npz, .json or a table.")
    ],
) -> None:
    """Say whether the iterates are the method's, and the likely mistake if they are not."""
    from ntkdyn import conformance

    verdict = conformance.check(iterates, method)
    print(verdict)
    raise typer.Exit(0 if verdict else DIFFERS)
