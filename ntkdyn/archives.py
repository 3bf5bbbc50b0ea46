"""Arrays from .npy and .npz files: nothing pickled, no more read than a header says there is."""

from __future__ import annotations

import contextlib
import io
import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from ntkdyn import sizes
from ntkdyn.errors import InputError

REALLY = "see whether the file is what it should be"

HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
"""version of an .npy -> what reads its header"""


class Npz(Mapping):
    """The arrays of an .npz by name, each read when it is asked for; `what` begins refusals."""

    def __init__(self, what: str, path: Path) -> None:
        self._what, self._path = what, path
        with self._opened() as file:
            self._names = [name.removesuffix(".npy") for name in file.namelist()]

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        with self._opened() as file:
            size = file.getinfo(f"{name}.npy").file_size
            with file.open(f"{name}.npy") as member:
                check_header(f"{self._what}: {self._path}", name, member, size)
            with file.open(f"{name}.npy") as member:
                return np.lib.format.read_array(member, allow_pickle=False)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        kind = ".npz of plain arrays"
        with _plain(f"{self._what}: {self._path}", kind), zipfile.ZipFile(self._path) as file:
            yield file


def npy(what: str, path: Path) -> np.ndarray:
    """The array of an .npy."""
    with _plain(f"{what}: {path}", ".npy of a plain array"), path.open("rb") as file:
        check_header(f"{what}: {path}", "the array", file, path.stat().st_size)
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


@contextlib.contextmanager
def _plain(file: str, kind: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # whatever damaged headers of zip and npy files can set off
        raise InputError(f"{file} is damaged or no {kind}; {error}") from None


def check_header(file: str, name: str, member: io.IOBase, size: int) -> None:
    """Refuse an array that is not as large as its header says, or too large for the memory."""
    shape, _, dtype = HEADERS[np.lib.format.read_magic(member)](member)
    start, numbers = member.tell(), math.prod(shape) * dtype.itemsize
    sizes.check_room(f"{file} says that {name} is {shape}, which", numbers, REALLY)
    if not dtype.hasobject:
        check_size(file, size, start + numbers)


def check_size(file: str, size: int, wanted: int) -> None:
    """Refuse a file that is not as long as what it says it holds."""
    if size != wanted:
        what, got = ("truncated", f"got {size}") if size < wanted else ("too long", "got more")
        raise InputError(f"{file} is {what}: {wanted} bytes are expected, {got}")
