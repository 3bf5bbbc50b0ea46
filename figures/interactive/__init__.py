"""Explorables: single HTML files that recompute in the page as the reader drags, without a network.

dgd_on_a_graph         agents, topology, step size, heterogeneity; curves, graph, spectrum
flow_and_steps         what a finite step size does, mode by mode
width                  predictions over recorded real training, 64 to 4096 wide
methods_side_by_side   six methods on the same heterogeneous data
one_mode               one kernel mode x one graph mode: the recursion behind every method
linearized_anew        training in the page, predictions linearized anew, and wrong explanations
learning_curves        every agent's expected test loss, from spectrum, graph and counts

essay                  why decentralized learning can be predicted, in eight pictures to drag
own_run                a page of a run of one's own, made by `ntkdyn explore`
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import xarray as xr
from ntkdyn.figures.interactive import (
    dgd_on_a_graph,
    essay,
    flow_and_steps,
    learning_curves,
    linearized_anew,
    methods_side_by_side,
    one_mode,
    own_run,
    width,
)
from ntkdyn.figures.interactive.page import contents, render

from ntkdyn.disk import check_ours, whole_file
from ntkdyn.errors import InputError

PAGES = (
    dgd_on_a_graph,
    flow_and_steps,
    width,
    methods_side_by_side,
    one_mode,
    linearized_anew,
    learning_curves,
)

INDEX = "index.html"


def files(folder: Path) -> list[Path]:
    """What `write` writes into `folder`: the index, then the pages."""
    names = [module.__name__.rsplit(".")[-1] for module in (essay, *PAGES)]
    return [folder / INDEX, *(folder / f"{name}.html" for name in names)]


def write(folder: Path) -> Path:
    """Write all pages and their index into `folder`, and return the index."""
    check_ours(files(folder))
    pages = [module.page() for module in PAGES]
    shown = [essay.Essay(), *pages]
    _write(folder / "essay.html", essay.render(pages))
    for page in pages:
        _write(folder / f"{page.name}.html", render(page, shown))
    return _write(folder / INDEX, contents(shown))


def write_own(record: xr.Dataset, path: Path) -> Path:
    """Write the page of a run of one's own, from what `Experiment.explored` gives."""
    check_ours([path])
    return _write(path, render(own_run.page(record), ()))


def server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Serves what `write` wrote into `folder` to this machine alone; port 0 takes a free one.

    The pages are read once, here. Nothing else is answered, nor are requests by another name than
    127.0.0.1 or localhost, which pages from elsewhere could make a browser send.
    """
    pages = {path.name: path.read_bytes() for path in files(folder)}
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), functools.partial(_Answer, pages))
    except (OSError, OverflowError) as error:
        raise InputError(f"port: cannot serve on 127.0.0.1:{port}; {error}") from None


class _Answer(BaseHTTPRequestHandler):
    """Answers requests for the pages, and prints nothing."""

    def __init__(self, pages: Mapping[str, bytes], *request: Any) -> None:
        self._pages = pages
        super().__init__(*request)

    def do_GET(self) -> None:
        port = self.server.server_address[1]
        page = self._pages.get(self.path.partition("?")[0].removeprefix("/") or INDEX)
        if self.headers.get("Host") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            self.send_error(HTTPStatus.FORBIDDEN)
        elif page is None:
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        pass


def _write(path: Path, text: str) -> Path:
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    return path
