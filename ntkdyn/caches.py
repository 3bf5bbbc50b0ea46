"""Compiled programs: JAX keeps one for every new shape, without end; here they are bounded.

What is computed inside `bounded()` counts. Once it has had more than `MOST` programs compiled, all
that JAX keeps are dropped, between two calls of ntkdyn; what is needed again is compiled again.
"""

import contextlib
import ctypes
import gc
from collections.abc import Iterator
from typing import Any

import jax

MOST = 256
"""programs: those of 25 predictions of new sizes, at most half a GB, as measured"""

COMPILED = "/jax/core/compile/backend_compile_duration"
"""how JAX calls the event"""


class _Count:
    """How deep in `bounded()` we are, and how many programs were compiled there."""

    depth = 0
    programs = 0


def compiled() -> int:
    """How many programs were compiled for ntkdyn since JAX's caches were emptied."""
    return _Count.programs


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """A context whose programs are dropped at its outermost end, if there are too many by then."""
    _Count.depth += 1
    try:
        yield
    finally:
        _Count.depth -= 1
        if not _Count.depth and _Count.programs > MOST:
            drop()


def drop() -> None:
    """Drop all programs that JAX keeps, and give the system what they held."""
    _Count.programs = 0
    jax.clear_caches()
    gc.collect()
    hand_back()


def hand_back() -> None:
    """Give the system what was freed, which the C library keeps, growing beside it."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # only glibc is asked
        ctypes.CDLL(None).malloc_trim(0)


def _listen(event: str, duration: float, **_: Any) -> None:
    if _Count.depth and event == COMPILED:
        _Count.programs += 1


jax.monitoring.register_event_duration_secs_listener(_listen)
