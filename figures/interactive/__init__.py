"""Explorables: single HTML files that recompute in the page as the reader drags, without a network.

dgd_on_a_graph         agents, topology, step size, heterogeneity; curves, graph, spectrum
flow_and_steps         what a finite step size does, mode by mode
width                  predictions over recorded real training, 64 to 4096 wide
methods_side_by_side   six methods on the same heterogeneous data
one_mode               one kernel mode x one graph mode: the recursion behind every method
"""

from __future__ import annotations

import functools
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ntkdyn.figures.interactive import (
    dgd_on_a_graph,
    flow_and_steps,
    methods_side_by_side,
    one_mode,
    width,
)
from ntkdyn.figures.interactive.page import contents, render

from ntkdyn.disk import check_ours, whole_file
from ntkdyn.errors import InputError

PAGES = (dgd_on_a_graph, flow_and_steps, width, methods_side_by_side, one_mode)


def write(folder: Path) -> Path:
    """Write all pages and their index into `folder`, and return the index."""
    pages = [module.page() for module in PAGES]
    check_ours(folder / f"{name}.html" for name in ("index", *(page.name for page in pages)))
    for page in pages:
        _write(folder / f"{page.name}.html", render(page, pages))
    return _write(folder / "index.html", contents(pages))


def server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Serves `folder` to this machine alone, on 127.0.0.1; port 0 takes a free one."""
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), functools.partial(_Quiet, directory=folder))
    except (OSError, OverflowError) as error:
        raise InputError(f"port: cannot serve on 127.0.0.1:{port}; {error}") from None


class _Quiet(SimpleHTTPRequestHandler):
    """Answers requests for files and prints nothing."""

    def log_message(self, *_: object) -> None:
        pass


def _write(path: Path, text: str) -> Path:
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    return path
