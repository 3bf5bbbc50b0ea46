"""How commands end: exit codes, signals, one sentence for each refusal, a full standard output."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import typer
import typer.core
from rich.console import Console

from ntkdyn import progress
from ntkdyn.errors import InputError

RESUMED = "no unfinished file was left, and --resume goes on with what was saved"


DISK_ERRORS = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO, errno.EBADF)
"""how the system says that standard output takes no more; files have refusals of their own"""


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


class Commands(typer.core.TyperGroup):
    """Commands whose refusals and interruptions are said in one sentence."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        if sys.stdout is None:
            leave(2, "output: standard output is closed; direct it to a file or to /dev/null")
        os.environ["MPLBACKEND"] = "agg"  # figures are files, whatever backend a user asks for
        with handled({signal.SIGTERM: _terminate}), printed(), progress.quiet():
            return super().main(*args, **kwargs)

    def invoke(self, context: Any) -> Any:
        try:
            return super().invoke(context)
        except InputError as error:
            leave(2, str(error))
        except KeyboardInterrupt as reason:
            how = str(reason) or "no unfinished file was left"
            terminated = isinstance(reason, Terminated)
            leave(*((143, f"terminated; {how}") if terminated else (130, f"interrupted; {how}")))
        except (RuntimeError, AssertionError):
            if not _lacks_devices():
                raise
            asked = os.environ.get("JAX_PLATFORMS")
            leave(
                2, f"JAX_PLATFORMS: JAX cannot start what {asked!r} names; unset it, or name others"
            )


def _lacks_devices() -> bool:
    """Whether JAX has no device to work on: it says so or, in some versions, asserts it."""
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError):
        return True
    return False


def _terminate(*_: object) -> NoReturn:
    raise Terminated


@contextlib.contextmanager
def handled(handlers: dict[int, Callable]) -> Iterator[None]:
    """Handle the signals so during the block; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number, handle in handlers.items()}
    try:
        yield
    finally:
        for number, handle in before.items():
            signal.signal(number, handle)


@contextlib.contextmanager
def printed() -> Iterator[None]:
    """What the block prints is on its way when it ends, or a sentence says why not."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.filename is not None or error.errno not in DISK_ERRORS:
            raise
        with open(os.devnull, "w") as nowhere:  # Python flushes once more when it ends
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        leave(2, f"output: cannot write to standard output; {error.strerror}")


@contextlib.contextmanager
def saving_when_stopped(checkpoints) -> Iterator[None]:
    """The first signal to stop has the run saved, a second one stops it at once."""
    stopped: list[KeyboardInterrupt] = []

    def stop(number: int, frame: object) -> None:
        reason = Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
        if stopped:
            raise reason
        stopped.append(reason)
        checkpoints.stop(reason)

    with handled({signal.SIGINT: stop, signal.SIGTERM: stop}):
        yield
    if stopped:  # after the last time that it could be saved
        raise stopped[0]


@contextlib.contextmanager
def going_on(how: str) -> Iterator[None]:
    """An interruption of the block says how to go on."""
    try:
        yield
    except KeyboardInterrupt as reason:
        raise type(reason)(how) from None


def leave(code: int, sentence: str) -> NoReturn:
    """End the program with a sentence on standard error."""
    Console(stderr=True, soft_wrap=True, markup=False, highlight=False).print(f"ntkdyn: {sentence}")
    sys.exit(code)
