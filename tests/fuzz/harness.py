"""Knocking: every input in its own guard of time, memory and settings, and what came of it."""

from __future__ import annotations

import collections
import contextlib
import io
import resource
import signal
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ntkdyn import sizes
from ntkdyn.errors import InputError

SECONDS = 60.0
"""for one input; what is longer at it hangs, unless it is in the middle of its rounds"""

ROOM = 2_000_000_000
"""bytes that the machine is said to have to spare, so that every machine refuses the same"""

SPACE = 12_000_000_000
"""bytes of addresses beyond those in use; who takes them has not asked first"""


class Door(NamedTuple):
    """A way into the package, and an attempt at it with what a generator draws."""

    name: str
    attempt: Callable[[np.random.Generator, Path], None]
    share: int
    """of all inputs, among the other doors' shares"""


class Outcome(NamedTuple):
    """What became of one input."""

    door: str
    number: int
    verdict: str
    """refused, accepted or fault"""
    reason: str = ""
    place: str = ""
    trace: str = ""


class Hangs(BaseException):
    """Past the time of one input; no `except Exception` catches it."""


class Wrong(Exception):
    """Something was accepted, and is not what was given."""


@contextlib.contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """No more room than `ROOM`, nothing on the screen, no warnings, and files in the folder."""
    free, sizes.free = sizes.free, lambda: ROOM
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_in_use() + SPACE, limits[1]))
    silent = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    try:
        with warnings.catch_warnings(), contextlib.chdir(folder), silent[0], silent[1]:
            warnings.simplefilter("ignore")
            yield
    finally:
        sizes.free = free
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _in_use() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def knock(door: Door, number: int, seed: int, folder: Path) -> Outcome:
    """One input at a door; the same seed and number draw the same."""
    draw = np.random.default_rng([seed, zlib.crc32(door.name.encode()), number])
    before = signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        door.attempt(draw, folder)
    except InputError as error:
        sentence = str(error)
        if not sentence.strip() or "\n" in sentence.strip():
            return Outcome(door.name, number, "fault", f"not one sentence: {sentence!r}")
        return Outcome(door.name, number, "refused", sentence)
    except Hangs as error:
        if _in_the_middle_of_rounds(error):
            return Outcome(door.name, number, "accepted")
        return _fault(door, number, error)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return _fault(door, number, error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return Outcome(door.name, number, "accepted")


def _stop(*_: object) -> None:
    raise Hangs(f"no end within {SECONDS:g} s")


def _in_the_middle_of_rounds(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.filename.endswith("ntkdyn/engine.py") for frame in frames)


def _fault(door: Door, number: int, error: BaseException) -> Outcome:
    frames = [
        f"{Path(frame.filename).name}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if "/ntkdyn/" in frame.filename and "/tests/" not in frame.filename
    ]
    said = " ".join(f"{type(error).__name__}: {error}".split())[:160]
    trace = "".join(traceback.format_exception(error))
    return Outcome(door.name, number, "fault", said, (frames or ["?"])[-1], trace)


def counts(doors: Iterable[Door], inputs: int) -> dict[str, int]:
    """How many inputs every door gets, by its share."""
    shares = {door.name: door.share for door in doors}
    whole = sum(shares.values())
    return {name: max(1, round(inputs * share / whole)) for name, share in shares.items()}


def knock_at_all(
    doors: Iterable[Door], inputs: int, seed: int, folder: Path, part: tuple[int, int] = (0, 1)
) -> tuple[list[Outcome], dict[str, float]]:
    """All outcomes of one part of the inputs, and the seconds that every door took."""
    doors, outcomes, took = list(doors), [], {}
    each = counts(doors, inputs)
    with guarded(folder):
        for door in doors:
            begun = time.perf_counter()
            numbers = range(part[0], each[door.name], part[1])
            outcomes += [knock(door, number, seed, folder) for number in numbers]
            took[door.name] = time.perf_counter() - begun
    return outcomes, took


def table(outcomes: Iterable[Outcome], seed: int) -> str:
    """Inputs by door and what came of them, in Markdown."""
    found = collections.defaultdict(collections.Counter)
    for each in outcomes:
        found[each.door][each.verdict] += 1
    rows = [(name, *_row(found[name])) for name in sorted(found)]
    rows.append(("all", *_row(sum(found.values(), collections.Counter()))))
    head = ("door", "inputs", "refused", "accepted", "faults")
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (head, ("---",) * 5, *rows)]
    return (
        "# Malformed inputs at every door\n\n"
        f"Drawn from seed {seed} by `make fuzz`. Refused: in one sentence, as an `InputError`, or "
        "by the command line with exit code 2.\nAccepted: the call ended, or was in the middle of "
        "its rounds when its time was over. A fault: any other exception, no end,\n"
        "or a damaged file that is read as if it were whole.\n\n" + "\n".join(lines) + "\n"
    )


def _row(verdicts: collections.Counter) -> tuple[int, int, int, int]:
    return (
        verdicts.total(),
        *(verdicts[verdict] for verdict in ("refused", "accepted", "fault")),
    )


def faults(outcomes: Iterable[Outcome]) -> dict[tuple[str, str, str], list[Outcome]]:
    """Faults that are alike: at one door, at one place, of one kind."""
    alike = collections.defaultdict(list)
    for each in outcomes:
        if each.verdict == "fault":
            alike[each.door, each.place, each.reason.split(":")[0]].append(each)
    return dict(alike)


def refusals(outcomes: Iterable[Outcome]) -> list[tuple[tuple[str, str], int]]:
    """What was said at every door, and how often."""
    said = [(each.door, each.reason[:150]) for each in outcomes if each.verdict == "refused"]
    return sorted(collections.Counter(said).items())
