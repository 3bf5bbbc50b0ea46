"""Disk: files that appear whole or not at all, room for them, and folders that serve one run."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ntkdyn.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: folders are not locked there
    fcntl = None


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
        os.replace(unfinished, path)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise InputError(f"output: cannot write {path}; {reason}") from None
    finally:
        if unfinished:
            unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def claimed(folder: str | Path) -> Iterator[None]:
    """The folder, made if need be, for one run at a time; a claim ends with its process.

    Of several processes that run together, only the first claims.
    """
    import jax

    folder = Path(folder)
    if fcntl is None or jax.process_index():
        yield
        return
    lock = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = _locked(lock)
    except BlockingIOError:
        raise InputError(f"output: {folder} is in use by another run") from None
    except OSError as error:
        raise InputError(f"output: cannot write {folder}; {error.strerror}") from None
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(held)


def _locked(path: Path) -> int:
    """The open file, locked; one that its holder took away meanwhile is made again."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


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
