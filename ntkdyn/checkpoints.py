"""Checkpoints: a run that was killed goes on where it was last saved, bit for bit.

    seen/NUMBER.npz      what was measured in a recorded round, written once
    states/ROUND/        the state of the method after that round, by orbax; the last two are kept
    states/ROUND.json    written last: the settings of the run, and the SHA-256 of the state's
                         files, of all that was seen before it, and of itself

So an unfinished or damaged checkpoint is known before it is read, and the one before is taken;
and another run than the one that was saved is refused.

Rotation is ours, not that of orbax's CheckpointManager, which keeps the last ones as well: it knows
no damage (of a state one of whose bits has turned it restores what is there, and goes on calling it
the newest) and nothing of which run a folder is of.

A run over several processes (`jax.distributed`) saves itself in one folder, which all must reach:
each writes its part of the state, and the first decides when, writes the rest and tidies up.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from ntkdyn.disk import on_disk, read_sealed, whole_file, write_sealed
from ntkdyn.errors import InputError
from ntkdyn.kernels.store import fingerprint
from ntkdyn.processes import from_first, on_all, on_host

KEPT = 2
"""How many states are kept: the last, and the one to fall back to."""

MINUTES = 5.0
"""Between checkpoints, unless something else is asked for."""

SHARE = 0.05
"""The most of the time that saving takes: the longer it takes, the less often it happens."""

Seen = Mapping[str, np.ndarray]
"""What was measured in one recorded round, by name."""


class Saved(NamedTuple):
    """Where a run goes on."""

    round: int
    """rounds done"""
    state: Any
    seen: list[Seen]
    """of the recorded rounds up to then"""


class Checkpoints:
    """A folder that a run saves itself in: every `minutes`, or every `rounds` if they are given.

    Rounds are counted between compiled calls, which last about half a second, so that a
    checkpoint may come a call late. `settings` name what was asked; with `resume`, a run in the
    folder is continued if it was asked the same, and without, an unfinished one is refused.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        resume: bool = False,
        minutes: float | int = MINUTES,
        rounds: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if not minutes > 0:
            raise InputError(f"checkpoint minutes: must be positive, got {minutes}")
        if rounds is not None and rounds < 1:
            raise InputError(f"checkpoint rounds: must be at least 1, got {rounds}")
        self.folder, self._resume = Path(folder), resume
        self._seconds, self._rounds = 60 * minutes, rounds
        self._settings: dict[str, str] = {}
        self.note(settings or {})
        self._written: list[str] = []
        self._shared = False
        self._stopping: BaseException | None = None
        self._last_round, self._last_time, self._cost = 0, time.monotonic(), 0.0
        if self.unfinished:
            self._check_may_resume()

    @property
    def unfinished(self) -> bool:
        """Whether there is something to continue."""
        return bool(self._rounds_saved())

    def note(self, settings: Mapping[str, Any]) -> None:
        """More of what was asked."""
        self._settings |= {name: str(value) for name, value in settings.items()}

    def open(self, state: Any, settings: Mapping[str, Any]) -> Saved | None:
        """What to continue, in the form of the run's first `state`; None: begin."""
        self.note(settings)
        self._shared = not all(leaf.is_fully_addressable for leaf in jax.tree.leaves(state))
        self._check_processes()
        if not self._from_first(lambda: self.unfinished):
            return None
        saved = self._read(self._from_first(self._newest_whole), state)
        self._last_round, self._last_time = saved.round, time.monotonic()
        return saved

    def save(self, round: int, state: Any, seen: Sequence[Seen]) -> None:
        """Save, if it is time to."""
        if not self._from_first(lambda: self._due(round)):
            return
        begun = time.monotonic()
        self._by_first(lambda: self._write_all_seen(seen))
        with self._writing(), _orbax() as orbax:
            orbax.save(self._state(round).absolute(), jax.tree.leaves(state), force=True)
        self._by_first(lambda: self._conclude(round))
        self._last_round, self._last_time = round, time.monotonic()
        self._cost = self._last_time - begun
        if self._stopping:
            raise self._stopping

    def stop(self, reason: BaseException) -> None:
        """Save after the compiled call that runs now, and end the run by raising `reason`."""
        self._stopping = reason

    def remove(self) -> None:
        """Forget the run, whose record is written."""
        self._by_first(self._remove)

    def _remove(self) -> None:
        """Remove what was written, and the folder if nothing else is in it."""
        for folder in (self._states, self.folder / "seen"):
            shutil.rmtree(folder, ignore_errors=True)
        self._meeting.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _from_first(self, find: Callable[[], int]) -> int:
        """What the first process finds; only it looks."""
        return from_first(find) if self._shared else find()

    def _by_first(self, write: Callable[[], Any]) -> None:
        """Written by the first process; all stop with it if it cannot."""
        failed: list[InputError] = []

        def tried() -> bool:
            try:
                with self._writing():
                    write()
            except InputError as error:
                failed.append(error)
            return not failed

        if not self._from_first(tried):
            raise (
                failed[0]
                if failed
                else InputError(f"checkpoints: the first process cannot write {self.folder}")
            )

    def _check_processes(self) -> None:
        """Refuse a folder that is not the same for all processes of a run."""
        if not self._shared:
            if jax.process_count() > 1:
                raise InputError(
                    "checkpoints: one process among several does not save its own run; train on "
                    "the devices of all, or start it alone"
                )
            return
        mark, word = self._meeting, f"{time.time_ns() % 10**9:09d}"
        self._by_first(lambda: self._write_word(mark, word))
        word = f"{self._from_first(lambda: int(word)):09d}"
        if not on_all(mark.is_file() and mark.read_text("utf-8") == word):
            raise InputError(f"checkpoints: not all processes of the run reach {self.folder}")

    def _write_word(self, mark: Path, word: str) -> None:
        with whole_file(mark) as unfinished:
            unfinished.write_text(word, encoding="utf-8")

    @property
    def _meeting(self) -> Path:
        return self.folder / "meeting"

    @property
    def _states(self) -> Path:
        return self.folder / "states"

    def _due(self, round: int) -> bool:
        if self._stopping:
            return True
        if self._rounds is not None:
            return round - self._last_round >= self._rounds
        return time.monotonic() - self._last_time >= max(self._seconds, self._cost / SHARE)

    def _seen_file(self, number: int) -> Path:
        return self.folder / "seen" / f"{number:06d}.npz"

    def _state(self, round: int) -> Path:
        return self._states / str(round)

    def _write_all_seen(self, seen: Sequence[Seen]) -> None:
        for number in range(len(self._written), len(seen)):
            self._written.append(self._write_seen(number, seen[number]))

    def _write_seen(self, number: int, seen: Seen) -> str:
        path = self._seen_file(number)
        with whole_file(path) as unfinished:
            np.savez(unfinished, **seen)
        return _digest(path)

    def _conclude(self, round: int) -> None:
        """Declare a state whole; forget the oldest, and later ones, which were damaged."""
        files = _digests(self._state(round))
        for name in files:
            on_disk(self._state(round) / name)
        about = {"settings": self._settings, "seen": self._written, "files": files}
        write_sealed(about, self._about_file(round))
        there = self._rounds_saved()
        kept = [each for each in there if each <= round][-KEPT:]
        for other in set(there) - set(kept):
            self._forget(other)

    def _about_file(self, round: int) -> Path:
        return self._states / f"{round}.json"

    def _rounds_saved(self) -> list[int]:
        names = [path.stem for path in self._states.glob("*.json")]
        return sorted(int(name) for name in names if name.isdecimal())

    def _forget(self, round: int) -> None:
        self._about_file(round).unlink()
        shutil.rmtree(self._state(round), ignore_errors=True)

    def _newest_whole(self) -> int:
        """The round of the last undamaged state; -1 if there is none. Nothing is removed."""
        for round in reversed(self._rounds_saved()):
            about = self._about(round)
            if about is not None and self._undamaged(round, about):
                return round
        return -1

    def _read(self, round: int, state: Any) -> Saved:
        about = None if round < 0 else self._about(round)
        if about is None:
            raise InputError(
                f"checkpoints: {self.folder} holds no undamaged checkpoint; remove it to begin "
                f"again"
            )
        self._check_settings(about["settings"])
        self._written = about["seen"]
        seen = [_arrays(self._seen_file(number)) for number in range(len(self._written))]
        return Saved(round, self._read_state(round, state), seen)

    def _about(self, round: int) -> dict[str, Any] | None:
        """What is known of a state; None where that is damaged."""
        return read_sealed(self._about_file(round))

    def _undamaged(self, round: int, about: dict[str, Any]) -> bool:
        files = [self._seen_file(number) for number in range(len(about["seen"]))]
        digests = [_digest(path) if path.is_file() else None for path in files]
        return digests == about["seen"] and _digests(self._state(round)) == about["files"]

    def _read_state(self, round: int, state: Any) -> Any:
        leaves, tree = jax.tree.flatten(state)
        with _orbax() as orbax:
            leaves = orbax.restore(self._state(round).absolute(), leaves)
        return jax.tree.unflatten(tree, leaves)

    def _check_may_resume(self) -> None:
        """Refuse early what is not to be continued, before hours are spent on a prediction."""
        if not self._resume:
            raise InputError(
                f"checkpoints: {self.folder} holds an unfinished run; resume it, or remove the "
                f"folder to begin again"
            )
        for about in filter(None, map(self._about, self._rounds_saved())):
            self._check_settings(about["settings"])

    def _check_settings(self, saved: Mapping[str, str]) -> None:
        check_same(self.folder, saved, self._settings)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except InputError:
            raise
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise InputError(f"checkpoints: cannot write {self.folder}; {reason}") from None


def check_same(path: Path, saved: Mapping[str, str], asked: Mapping[str, str]) -> None:
    """Refuse what was saved at `path` when something else was asked, by what differs."""
    changed = [
        f"{name} was {_short(saved.get(name))} and is {_short(value)}"
        for name, value in asked.items()
        if saved.get(name) != value
    ]
    if changed:
        raise InputError(f"checkpoints: {path} is of another run: {', '.join(changed[:3])}")


def identity(named: Mapping[str, PyTree]) -> dict[str, str]:
    """Per name, a fingerprint of its arrays, so that a change is named."""
    return {name: fingerprint(_plain(tree), {}) for name, tree in named.items()}


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their full names: {"run.rounds": 10}.

    Args:
        settings: name -> value, or a mapping of the same kind.
        prefix: before every name.

    Returns:
        Full name -> value.

    Example:
        >>> experiment.flat({"run": {"rounds": 10}, "seed": 0})
        {'run.rounds': 10, 'seed': 0}
    """
    parts = (
        flat(value, f"{prefix}{name}.")
        if isinstance(value, Mapping)
        else {f"{prefix}{name}": value}
        for name, value in settings.items()
    )
    return dict(itertools.chain.from_iterable(part.items() for part in parts))


def _plain(tree: PyTree) -> list[Any]:
    """The leaves that hold numbers, random keys as their bits."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if not callable(leaf)]
    is_key = lambda leaf: jax.dtypes.issubdtype(getattr(leaf, "dtype", float), jax.dtypes.prng_key)
    return [on_host(jax.random.key_data(leaf) if is_key(leaf) else leaf) for leaf in leaves]


@contextlib.contextmanager
def _orbax() -> Iterator[Any]:
    """What writes and reads arrays; all is on disk when the block ends."""
    from orbax.checkpoint import StandardCheckpointer  # a second of import time, needed only here

    with StandardCheckpointer() as checkpointer:
        yield checkpointer


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): _digest(path) for path in files}


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as held:
        return dict(held)


def _short(value: Any) -> str:
    value = "not there" if value is None else str(value)
    return value if len(value) <= 40 else f"{value[:12]}..."
