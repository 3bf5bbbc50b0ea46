"""Arrays of numbers from MATLAB's .mat files, full and sparse; all else in them is passed over.

SciPy reads these too, and crashes where a damaged file names a kind of numbers that there is none
of. So files of version 5 to 7 are read here: a header of 128 bytes, then elements, each a tag (kind
and size) and its content; an array is an element that holds others: flags, shape, name, numbers.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse

from ntkdyn import sizes

KINDS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
"""kind of an element -> that of the numbers in it"""

ARRAY, COMPRESSED = 14, 15

HEADER = 128

SPARSE, FULL = 5, range(6, 16)
"""classes of arrays of numbers"""

COMPLEX = 0x800
"""the flag of an array that has an imaginary part"""

Element = tuple[int, bytes]


def read(path: Path) -> dict[str, Any]:
    """The arrays of numbers by name; SciPy's errors, or whatever a damaged file sets off."""
    with path.open("rb") as file:
        version, _ = scipy.io.matlab.matfile_version(file)
        content = file.read()
    if version != 1:  # 4, which SciPy reads in Python; of 7.3 it says what it is
        return {n: a for n, a in scipy.io.loadmat(path).items() if not n.startswith("__")}
    order = "<" if content[126:HEADER] == b"IM" else ">"
    found = {}
    for kind, inner in _elements(content[HEADER:], order, padded=False):
        if kind == COMPRESSED:
            kind, inner = _unpacked(path, inner, order)
        if kind != ARRAY:
            raise ValueError(f"it holds an element of kind {kind} where arrays are")
        name, values = _array(list(_elements(inner, order)), order)
        if values is not None:
            found[name] = values
    return found


def _elements(content: bytes, order: str, padded: bool = True) -> Iterator[Element]:
    """(kind, content) one after the other; within arrays they begin at multiples of 8 bytes."""
    at = 0
    while at < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, at)
        small = kind >> 16  # the size, where tag and content share 8 bytes
        kind, size, start = (kind & 0xFFFF, small, at + 4) if small else (kind, size, at + 8)
        if start + size > len(content):
            raise ValueError("it ends in the middle of an array")
        yield kind, content[start : start + size]
        at = start + size + (-(start + size) % 8 if padded else 0)


def _unpacked(path: Path, packed: bytes, order: str) -> Element:
    """The one element that was compressed."""
    unpacking = zlib.decompressobj()
    kind, size = struct.unpack(f"{order}II", unpacking.decompress(packed, 8))
    sizes.check_room(f"graph: an array in {path.name}", size)
    return kind, unpacking.decompress(unpacking.unconsumed_tail, max(size, 1))


def _array(elements: list[Element], order: str) -> tuple[str, Any]:
    """(name, array); None for what holds no numbers."""
    (_, flags), (_, shape), (_, name), *parts = elements
    word = int(np.frombuffer(flags, f"{order}u4")[0])
    kind, called = word & 0xFF, name.decode("latin-1")
    if kind not in (SPARSE, *FULL):
        return called, None
    size = tuple(np.frombuffer(shape, f"{order}i4").tolist())
    numbers = [_numbers(each, order) for each in parts]
    if kind == SPARSE:
        rows, starts, values = numbers[0], numbers[1], _complex(word, numbers[2:])
        return called, scipy.sparse.csc_array((values, rows[: len(values)], starts), shape=size)
    values = _complex(word, numbers)
    if len(values) != math.prod(size):
        raise ValueError(f"it holds {len(values)} numbers for {called}, which is {size}")
    return called, values.reshape(size, order="F")


def _numbers(element: Element, order: str) -> np.ndarray:
    kind, content = element
    if kind not in KINDS:
        raise ValueError(f"it holds numbers of kind {kind}, which there is none of")
    return np.frombuffer(content, f"{order}{KINDS[kind]}")


def _complex(word: int, parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] + 1j * parts[1] if word & COMPLEX else parts[0]
