"""Progress: how far a long call has come, in one line on standard error that goes when it ends.

Notebooks and terminals show it, and nothing else does: no script whose output goes to a file, no
test, no program that shows its own. Calls within calls show nothing of their own.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

AFTER = 1.0
"""seconds in which nothing is shown: most calls are over by then"""

EVERY = 0.2
"""seconds between two lines"""

WIDTH = 24
"""characters of a bar"""

_watched: contextvars.ContextVar[bool] = contextvars.ContextVar("watched", default=False)
"""whether somebody further out shows what goes on"""


def watched(what: str) -> Callable[[Callable], Callable]:
    """The function, with its `progress` shown as `what` unless the caller has one of his own."""

    def of(function: Callable) -> Callable:
        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            alone = kwargs.get("progress") is None and not _watched.get() and seen()
            with quiet():
                if not alone:
                    return function(*args, **kwargs)
                with _Line(what) as line:
                    return function(*args, **kwargs | {"progress": line})

        return called

    return of


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Calls within the block show nothing of their own."""
    token = _watched.set(True)
    try:
        yield
    finally:
        _watched.reset(token)


def seen() -> bool:
    """Whether somebody looks: at a terminal, or a notebook."""
    stream = sys.stderr
    return "ipykernel" in sys.modules or bool(stream is not None and stream.isatty())


class _Line:
    """Called with (done, total), it writes itself over what it wrote before."""

    def __init__(self, what: str) -> None:
        self._what, self._begun, self._last, self._long = what, time.monotonic(), 0.0, 0

    def __enter__(self) -> _Line:
        return self

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._begun < AFTER or now - self._last < EVERY:
            return
        self._last = now
        full = int(WIDTH * done / max(total, 1))
        bar = "━" * full + " " * (WIDTH - full)
        self._write(f"{self._what} {bar} {done}/{total}  {now - self._begun:.0f} s")

    def __exit__(self, *_: object) -> None:
        if self._long:
            self._write("")
            sys.stderr.write("\r")
            sys.stderr.flush()

    def _write(self, text: str) -> None:
        sys.stderr.write(f"\r{text:<{self._long}}")
        sys.stderr.flush()
        self._long = max(self._long, len(text))
