"""A kernel in an HDF5 file, written tile by tile, so that an interrupted run can go on.

    values/NAME   the kernel, or a layer's part, contiguous, in full size from the start
    sums          (row blocks, column blocks), of every tile that is there a checksum; 0: not there

Before what HDF5 knows of stands a block of its users: one line of JSON with the `fingerprint`, a
hash of parameters, points and form, as a file is continued only for the same kernel; and with the
SHA-256 of all that never changes, which is everything but the values and their sums. So a damaged
file is known before HDF5 reads it, and a damaged tile when it is looked for: it is computed again.
A tile is flushed before its sum is, so the file can be read after the process was killed at any
moment.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import jax
import numpy as np
from jaxtyping import PyTree, UInt64

from ntkdyn.disk import on_disk, reserve
from ntkdyn.errors import InputError
from ntkdyn.kernels.tiles import Tiling, place, places

FORMAT = "ntkdyn kernel 2"

HEADERS = 4096
"""bytes at most that HDF5 adds to each array"""

LINE = 2**24
"""bytes at most of the line at the beginning of a file: room for 100,000 layers"""

OPENED = 20
"""where HDF5 notes from its superblock on that a file is open; it stays when a process is killed"""


def fingerprint(arrays: PyTree, settings: dict[str, Any]) -> str:
    """SHA-256 of arrays, with shapes and dtypes, and settings."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def block_of(path: Path) -> int | None:
    """The block size of the kernel that is in the file; None: there is no file."""
    return _checked(path)["block"] if path.exists() else None


class Store:
    """A sink in a file, new or continued."""

    def __init__(
        self,
        path: Path,
        tiling: Tiling,
        shape: tuple[int, ...],
        dtype: np.dtype,
        names: Iterable[str],
        mark: str,
    ) -> None:
        self.path, self.tiling = path, tiling
        if not path.exists():
            _create(path, tiling, shape, dtype, names, mark)
        if _checked(path)["fingerprint"] != mark:
            raise InputError(
                f"file: {path} holds another kernel (other parameters, points or form); "
                f"give another name, or remove it"
            )
        with _writing(path):
            self._file = h5py.File(path, "r+", libver="earliest")
        self._values = {each.attrs["layer"]: each for each in self._file["values"].values()}
        self._sums: UInt64[np.ndarray, "rows columns"] = self._file["sums"][:]

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def has(self, row: int, column: int) -> bool:
        """Whether the tile is there, undamaged."""
        known = self._sums[row, column]
        return bool(known) and int(known) == self._sum(row, column)

    def put(self, row: int, column: int, tile: dict[str, np.ndarray], *, add: bool) -> None:
        del add
        with _writing(self.path):
            for name, values in tile.items():
                place(self._values[name], values, self.tiling, row, column)
            self._file.flush()
            self._file["sums"][row, column] = self._sums[row, column] = self._sum(row, column)
            self._file.flush()

    def _sum(self, row: int, column: int) -> int:
        """A checksum of the tile and its mirror image as they are in the file; never 0."""
        digest = hashlib.blake2b(digest_size=8)
        for values in self._values.values():
            for at in places(self.tiling, row, column, values.ndim == 4):
                digest.update(np.ascontiguousarray(values[at]))
        return int.from_bytes(digest.digest()) or 1

    def values(self) -> dict[str, np.ndarray]:
        """The arrays, mapped from the file: read when they are looked at."""
        return {
            name: np.memmap(
                self.path, values.dtype, "r", values.id.get_offset(), tuple(values.shape)
            )
            for name, values in self._values.items()
        }


def _create(
    path: Path,
    tiling: Tiling,
    shape: tuple[int, ...],
    dtype: np.dtype,
    names: Iterable[str],
    mark: str,
) -> None:
    """The file in its full size, with nothing done; it appears under its name when complete.

    Its place on the disk is taken twice: before, since HDF5 does not recover from a full disk, and
    again of the complete file, so that the tiles find it.
    """
    unfinished = path.with_name(f".{path.name}.new")
    names = list(names)
    blocks = len(tiling.row_blocks()), len(tiling.column_blocks())
    size = len(names) * int(np.prod(shape)) * np.dtype(dtype).itemsize
    headers = HEADERS * (2 + len(names))
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.touch()
    try:
        with _writing(path):
            reserve(unfinished, size + 8 * int(np.prod(blocks)) + headers)
            user = 2 ** math.ceil(math.log2(1024 + 64 * len(names)))
            with h5py.File(unfinished, "w", libver="earliest", userblock_size=user) as file:
                arrays = _arrays(file, shape, dtype, names, blocks)
                changing = [[each.get_offset(), each.get_storage_size()] for each in arrays]
                changing.append([user + OPENED, 4])
            about = {"format": FORMAT, "fingerprint": mark, "block": tiling.block}
            about |= {"size": unfinished.stat().st_size, "changing": sorted(changing)}
            _write_about(unfinished, about, user)
            reserve(unfinished, about["size"])
            on_disk(unfinished)
            unfinished.replace(path)
            on_disk(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def _arrays(
    file: h5py.File,
    shape: tuple[int, ...],
    dtype: np.dtype,
    names: list[str],
    blocks: tuple[int, int],
) -> list[h5py.h5d.DatasetID]:
    """The arrays of the file, made in their places: what changes as tiles are written."""
    early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    group = file.create_group("values")
    for name in names:
        space = h5py.h5s.create_simple(shape)
        kind = h5py.h5t.py_create(dtype, logical=True)
        inside = name.replace("/", ".")
        h5py.h5d.create(group.id, inside.encode(), kind, space, early)
        group[inside].attrs["layer"] = name
    sums = file.create_dataset("sums", data=np.zeros(blocks, np.uint64))
    return [sums.id, *(each.id for each in group.values())]


def _write_about(path: Path, about: dict[str, Any], room: int) -> None:
    """The line at the beginning, and zeros to the end of its room."""
    held = about | {"sha256": "0" * 64}
    line = lambda: json.dumps(held).encode() + b"\n"
    with path.open("r+b") as file:
        file.write(line().ljust(room, b"\0"))
        held["sha256"] = _digest(file, held)
        file.seek(0)
        file.write(line())


def _digest(file: BinaryIO, about: dict[str, Any]) -> str:
    """SHA-256 of what is known of the file, and of all behind its first line that never changes."""
    known = {name: value for name, value in about.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(known).encode())
    file.seek(0)
    file.readline(LINE)
    for begin, length in [*about["changing"], [about["size"], 0]]:
        digest.update(file.read(max(0, min(begin, about["size"]) - file.tell())))
        file.seek(begin + length)
    return digest.hexdigest()


def _checked(path: Path) -> dict[str, Any]:
    """What the file says of itself, once it is sure that all but its values is undamaged."""
    try:
        with path.open("rb") as file:
            about = json.loads(file.readline(LINE))
            whole = about["format"] == FORMAT and about["size"] == path.stat().st_size
            if whole and about["sha256"] == _digest(file, about):
                return about
    except Exception:  # whatever damage makes of the line
        pass
    raise InputError(
        f"file: {path} is not an undamaged kernel written by this version of ntkdyn; give another "
        f"name, or remove it"
    )


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """What cannot be written is said in one sentence; HDF5 raises RuntimeError as well."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number else str(error).splitlines()[0]
        raise InputError(f"file: cannot write {path}; {reason}") from None
