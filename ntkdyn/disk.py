"""Disk: files that appear whole or not at all, and are known again: as ours, and as undamaged.

Also room for them, and folders and files that serve one run at a time.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ntkdyn.errors import InputError, shown

MARK = "Written by ntkdyn"
"""what files say somewhere inside that a command may write again"""

SEAL = b"\nSHA-256 of what is before this line: "
SEALED = len(SEAL) + 64 + 1
"""bytes of the last line of a sealed file"""

PART = 2**20
"""bytes of a file that are held while all of it is gone through"""


def path_of(name: str, given: Any) -> Path:
    """The path of a file; `name` is what was given as one."""
    path = place_of(name, given, "the path of a file, as text")
    if not path.name:
        raise InputError(f"{name}: must be the path of a file, as text, got {shown(str(given))}")
    return path


def place_of(name: str, given: Any, wanted: str = "a path, as text") -> Path:
    """The path of a file or a folder; refuses what the system can know none by."""
    try:
        path = Path(given)
        if b"\0" in os.fsencode(path):
            raise TypeError
        path.exists()
    except (TypeError, UnicodeEncodeError):
        raise InputError(f"{name}: must be {wanted}, got {shown(given)}") from None
    except OSError as error:  # of a name that is too long, or in a folder that is not ours
        raise InputError(f"{name}: cannot read {shown(str(given))}; {error.strerror}") from None
    return path


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` when the block ends well and vanishes when not."""
    unfinished = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
        unfinished = Path(name)
        yield unfinished
        unfinished.chmod(0o644)
        on_disk(unfinished)
        os.replace(unfinished, path)
        on_disk(path.parent)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise InputError(f"output: cannot write {path}; {reason}") from None
    finally:
        if unfinished:
            unfinished.unlink(missing_ok=True)


def on_disk(path: Path) -> None:
    """Wait until the file, or the names in the folder, would outlast a loss of power."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    opened = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def seal(path: Path) -> None:
    """Add a last line to the file, by which `intact` tells whether it was damaged since."""
    with path.open("r+b") as file:
        file.write(_seal(file, path.stat().st_size))


def intact(path: Path) -> bool | None:
    """Whether the file is as it was when it was sealed; None: it has no seal."""
    size = max(0, path.stat().st_size - SEALED)
    with path.open("rb") as file:
        file.seek(size)
        last = file.read()
        if not last.startswith(SEAL):
            return None
        file.seek(0)
        return last == _seal(file, size)


def write_sealed(held: Mapping[str, Any], path: Path) -> None:
    """Write what JSON can hold, for `read_sealed`."""
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(held), encoding="utf-8")
        seal(unfinished)


def read_sealed(path: Path) -> dict[str, Any] | None:
    """What `write_sealed` wrote to `path`; None where it is damaged, or by others."""
    try:
        return json.loads(path.read_bytes()[:-SEALED]) if intact(path) else None
    except OSError:
        return None


def _seal(file: BinaryIO, size: int) -> bytes:
    """The line about the next so many bytes of the file."""
    digest = hashlib.sha256()
    while size > 0 and (part := file.read(min(size, PART))):
        digest.update(part)
        size -= len(part)
    return SEAL + digest.hexdigest().encode() + b"\n"


def check_writable(folder: Path) -> None:
    """Make the folder if need be; refuse one in which no file can be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"output: cannot write {folder}; {error.strerror}") from None


def is_ours(path: Path) -> bool:
    """Whether the file says that it was written by ntkdyn."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(MARK.encode()) >= 0


def check_ours(paths: Iterable[Path]) -> None:
    """Refuse to replace what others wrote under one of these names."""
    for path in paths:
        if os.path.lexists(path) and not is_ours(path):
            raise InputError(
                f"output: {path} is there and was not written by ntkdyn; move it away, or write "
                f"to another place with --out"
            )


def claimed(folder: str | Path) -> contextlib.AbstractContextManager[None]:
    """The folder, made if need be, for one run at a time; a claim ends with its process.

    Of several processes that run together, only the first claims.
    """
    return _claimed(Path(folder), Path(folder) / ".lock")


def claimed_file(path: Path) -> contextlib.AbstractContextManager[None]:
    """The file, whether it is there or not, for one run at a time."""
    return _claimed(path, path.with_name(f".{path.name}.lock"))


@contextlib.contextmanager
def _claimed(what: Path, lock: Path) -> Iterator[None]:
    import filelock
    import jax

    if jax.process_index():
        yield
        return
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = _locked(lock)
    except filelock.Timeout:
        raise InputError(f"output: {what} is in use by another run") from None
    except OSError as error:
        raise InputError(f"output: cannot write {what}; {error.strerror}") from None
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError):  # Windows removes it when it is released
            lock.unlink(missing_ok=True)
        held.release()


class _TakenAway(Exception):
    """The file that was locked has no name any more."""


def _locked(path: Path) -> Any:
    """The file, locked; one that its holder took away meanwhile is made again."""
    import filelock

    def check(file: int) -> None:
        if not (path.exists() and os.path.samestat(os.fstat(file), path.stat())):
            raise _TakenAway

    while True:
        held = filelock.FileLock(path, timeout=0, fallback_to_soft=False, on_acquired=check)
        with contextlib.suppress(_TakenAway):
            held.acquire()
            return held


def reserve(path: Path, size: int) -> None:
    """Take so many bytes of the disk, where the system can promise them; `OSError` if it is full.

    HDF5 does not recover from a full disk, so that it is asked before.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
                raise
