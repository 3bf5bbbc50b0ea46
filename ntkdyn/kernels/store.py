"""A kernel in an HDF5 file, written tile by tile, so that an interrupted run can go on.

    values/NAME   the kernel, or a layer's part, contiguous, in full size from the start
    done          (row blocks, column blocks), which tiles are there

The attribute `fingerprint` is a hash of parameters, points and form: a file is continued only for
the same kernel. A tile is flushed before it is marked as done, and nothing else of the file changes
while tiles are written, so it can be read after the process was killed at any moment.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import jax
import numpy as np
from jaxtyping import Bool, PyTree

from ntkdyn.disk import reserve
from ntkdyn.errors import InputError
from ntkdyn.kernels.tiles import Tiling, place

FORMAT = "ntkdyn kernel 1"

HEADERS = 4096
"""bytes at most that HDF5 adds to each array"""


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
    if not path.exists():
        return None
    with _opened(path, "r") as file:
        return int(file.attrs["block"])


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
        self._file = _opened(path, "r+")
        if self._file.attrs["fingerprint"] != mark:
            self._file.close()
            raise InputError(
                f"file: {path} holds another kernel (other parameters, points or form); "
                f"give another name, or remove it"
            )
        self._values = {each.attrs["layer"]: each for each in self._file["values"].values()}
        self._done: Bool[np.ndarray, "rows columns"] = self._file["done"][:]

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def has(self, row: int, column: int) -> bool:
        return bool(self._done[row, column])

    def put(self, row: int, column: int, tile: dict[str, np.ndarray], *, add: bool) -> None:
        del add
        with _writing(self.path):
            for name, values in tile.items():
                place(self._values[name], values, self.tiling, row, column)
            self._file.flush()
            self._done[row, column] = True
            self._file["done"][row, column] = True
            self._file.flush()

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
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.touch()
    try:
        with _writing(path):
            reserve(unfinished, size + int(np.prod(blocks)) + HEADERS * (1 + len(names)))
        with _writing(path), h5py.File(unfinished, "w", libver="earliest") as file:
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
            file.create_dataset("done", data=np.zeros(blocks, bool))
            file.attrs["format"], file.attrs["fingerprint"] = FORMAT, mark
            file.attrs["block"] = tiling.block
        with _writing(path):
            reserve(unfinished, unfinished.stat().st_size)
            unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """What cannot be written is said in one sentence; HDF5 raises RuntimeError as well."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number else str(error).splitlines()[0]
        raise InputError(f"file: cannot write {path}; {reason}") from None


def _opened(path: Path, mode: str) -> h5py.File:
    try:
        file = h5py.File(path, mode, libver="earliest")
    except OSError as error:
        raise InputError(f"file: {path} is not a whole HDF5 file; {error}") from None
    if file.attrs.get("format") != FORMAT:
        file.close()
        raise InputError(f"file: {path} is not a kernel written by ntkdyn; give another name")
    return file
