"""The documentation, as a wheel carries it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ntkdyn.cli.application import app
from ntkdyn.cli.conduct import has_screen
from ntkdyn.errors import InputError


@app.command()
def docs(
    show: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Show the first page.")
    ] = None,
) -> None:
    """Open the documentation, which needs no network."""
    import ntkdyn

    package = Path(ntkdyn.__file__).parent
    places = package / "site", package.parent / "docs" / "site"
    built = [place / "index.html" for place in places if (place / "index.html").is_file()]
    if not built:
        raise InputError("docs: they are not built here; `make docs` in a checkout builds them")
    print(built[0])
    if show or (show is None and has_screen()):
        typer.launch(str(built[0]))
