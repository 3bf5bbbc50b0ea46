"""Tiles: a kernel filled block by block, so that no more memory is held than a budget allows.

Points are cut into blocks. A panel of as many blocks of rows as fit is prepared and held, and
blocks of columns stream by; for equal point sets only the tiles on and above the diagonal are
computed, and mirrored. A block of columns is prepared anew for every panel, which costs time, so
the panel should be large: one way is to let only some of the outputs or layers pass at a time and
to add up, where that saves more than the forward passes it repeats. And a symmetric kernel is kept
as the tiles that were computed, about half of it, until nothing else is held; then it is mirrored.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float, PyTree

Progress = Callable[[int, int], None]
"""called with (tiles done, tiles in all)"""

BLOCK = 256
"""Points per block where memory is not scarce: large enough for fast matrix products."""


@runtime_checkable
class Tile(Protocol):
    """The compiled programs of one pass, at fixed block sizes."""

    def prepare(self, points: PyTree) -> PyTree: ...

    def meet(self, left: PyTree, right: PyTree) -> dict[str, Any]: ...


class Tiling(NamedTuple):
    """How the points are cut."""

    rows: int
    """points in the rows of the kernel"""
    columns: int
    symmetric: bool
    block: int
    """points per block"""
    held: int
    """blocks of a panel"""
    multiple: int = 1
    """what prepared blocks are a multiple of: the number of devices"""

    def prepared(self, points: int) -> int:
        """How many points are prepared at a time, the last ones repeated where they run out."""
        return -(-min(self.block, points) // self.multiple) * self.multiple

    def row_blocks(self) -> list[slice]:
        return spans(self.rows, self.block)

    def column_blocks(self) -> list[slice]:
        return spans(self.columns, self.block)

    @property
    def tiles(self) -> int:
        """How many tiles are computed."""
        n, m = len(self.row_blocks()), len(self.column_blocks())
        return n * (n + 1) // 2 if self.symmetric else n * m

    @property
    def preparations(self) -> int:
        """How many blocks are prepared in all, those of columns again and again.

        The last one of a panel is at hand for the next.
        """
        n, m = len(self.row_blocks()), len(self.column_blocks())
        panels = range(0, n, self.held)
        met = sum(n - first for first in panels) if self.symmetric else n + m * len(panels)
        return met - (len(panels) - 1)


@runtime_checkable
class Sink(Protocol):
    """Where tiles go."""

    def has(self, row: int, column: int) -> bool: ...

    def put(self, row: int, column: int, tile: dict[str, np.ndarray], *, add: bool) -> None: ...


def spans(points: int, block: int) -> list[slice]:
    """The points cut into blocks; the last may be shorter."""
    return [slice(first, min(first + block, points)) for first in range(0, points, block)]


def fill(
    passes: Sequence[tuple[Tile, Tiling]],
    left: PyTree,
    right: PyTree | None,
    sink: Sink,
    progress: Progress | None = None,
) -> None:
    """Compute every tile that `sink` does not have; `right` None: symmetric.

    The passes have the same blocks, and each its own panel.
    """
    done, total = 0, sum(tiling.tiles for _, tiling in passes)
    for number, (tile, tiling) in enumerate(passes):
        for row, column, values in _tiles(tile, left, right, tiling, sink):
            if values is not None:
                sink.put(row, column, _trimmed(values, tiling, row, column), add=number > 0)
            done += 1
            if progress:
                progress(done, total)


def _tiles(
    tile: Tile, left: PyTree, right: PyTree | None, tiling: Tiling, sink: Sink
) -> Iterator[tuple[int, int, dict[str, Any] | None]]:
    """(row, column, tile or None if it is there already), panel by panel.

    Columns stream by to and fro, so that a panel begins with the block the last one ended with:
    as one of its own rows, or as the first column it meets.
    """
    rows, columns = tiling.row_blocks(), tiling.column_blocks()
    others = left if right is None else right
    at_hand: dict[int, PyTree] = {}
    for number, first in enumerate(range(0, len(rows), tiling.held)):
        panel = range(first, min(first + tiling.held, len(rows)))
        own = panel if tiling.symmetric else range(0)
        held = {row: at_hand.pop(row) for row in own if row in at_hand}

        def prepared(row: int, held: dict[int, PyTree] = held) -> PyTree:
            if row not in held:
                held[row] = tile.prepare(block(left, rows[row], tiling.prepared(tiling.rows)))
            return held[row]

        streaming = range(own.stop, len(columns))
        for column in [*own, *(reversed(streaming) if number % 2 else streaming)]:
            meeting = [row for row in panel if not tiling.symmetric or row <= column]
            missing = [row for row in meeting if not sink.has(row, column)]
            other = at_hand.pop(column, None)
            if missing and column in own:
                other = prepared(column)
            elif missing and other is None:
                other = tile.prepare(
                    block(others, columns[column], tiling.prepared(tiling.columns))
                )
            for row in meeting:
                yield row, column, tile.meet(prepared(row), other) if row in missing else None
            last = column
        at_hand = {} if other is None else {last: other}


def block(points: PyTree, rows: slice, size: int) -> PyTree:
    """A block of that size: the last point is repeated where points run out."""
    taken = np.minimum(np.arange(rows.start, rows.start + size), rows.stop - 1)
    return jax.tree.map(lambda leaf: leaf[taken], points)


def _trimmed(
    values: dict[str, Any], tiling: Tiling, row: int, column: int
) -> dict[str, np.ndarray]:
    """The tile without what came of repeated points, on the host."""
    rows, columns = tiling.row_blocks()[row], tiling.column_blocks()[column]
    n, m = rows.stop - rows.start, columns.stop - columns.start
    cut = lambda tile: tile[:n, :, :m] if tile.ndim == 4 else tile[:n, :m]
    return {name: cut(np.asarray(tile)) for name, tile in values.items()}


class Memory:
    """A sink in memory."""

    def __init__(
        self, tiling: Tiling, shape: tuple[int, ...], dtype: Any, names: Sequence[str]
    ) -> None:
        self._tiling = tiling
        self._values = {name: np.empty(shape, dtype) for name in names}

    def has(self, row: int, column: int) -> bool:
        return False

    def put(self, row: int, column: int, tile: dict[str, np.ndarray], *, add: bool) -> None:
        for name, values in tile.items():
            place(self._values[name], values, self._tiling, row, column, add=add)

    def values(self) -> dict[str, np.ndarray]:
        """The whole kernel's parts by name."""
        return self._values


class Packed:
    """A symmetric kernel's sink in memory: the upper half, side by side, until it is unfolded.

    A block of columns is kept as a strip, from the first row down to its tile on the diagonal,
    and the strips one after the other at the beginning of what will be the whole kernel.
    """

    def __init__(
        self, tiling: Tiling, shape: tuple[int, ...], dtype: Any, names: Sequence[str]
    ) -> None:
        outputs = shape[1] if len(shape) == 4 else 1
        self._ends = np.array([0, *(rows.stop for rows in tiling.row_blocks())]) * outputs
        self._values = {name: np.empty(shape, dtype) for name in names}

    def has(self, row: int, column: int) -> bool:
        return False

    def put(self, row: int, column: int, tile: dict[str, np.ndarray], *, add: bool) -> None:
        first, last = self._ends[row], self._ends[row + 1]
        for name, values in tile.items():
            kept = self._strip(name, column)[first:last]
            flat = values.reshape(kept.shape)
            np.add(kept, flat, out=kept) if add else np.copyto(kept, flat)

    def values(self) -> dict[str, np.ndarray]:
        """The whole kernel's parts by name, unfolded where they lie: the last strip first."""
        for name, whole in self._values.items():
            square = whole.reshape(self._ends[-1], self._ends[-1])
            blocks = list(itertools.pairwise(self._ends))
            for column, (first, last) in reversed(list(enumerate(blocks))):
                square[first:last, :last] = self._strip(name, column).T.copy()
            for first, last in blocks:
                square[:first, first:last] = square[first:last, :first].T
        return self._values

    def _strip(self, name: str, column: int) -> Float[np.ndarray, "rows columns"]:
        widths = np.diff(self._ends)
        begin = int(widths[:column] @ self._ends[1 : column + 1])
        rows, width = self._ends[column + 1], widths[column]
        return self._values[name].reshape(-1)[begin : begin + rows * width].reshape(rows, width)


def place(
    whole: Any,
    tile: Float[np.ndarray, ...],
    tiling: Tiling,
    row: int,
    column: int,
    *,
    add: bool = False,
) -> None:
    """Write a tile into the whole kernel, and its mirror image if that is symmetric."""
    four = tile.ndim == 4
    mirrored = tile.transpose(2, 3, 0, 1) if four else tile.T
    for at, part in zip(places(tiling, row, column, four), (tile, mirrored), strict=False):
        whole[at] = whole[at] + part if add else part


def places(tiling: Tiling, row: int, column: int, four: bool) -> list[tuple[slice, ...]]:
    """Where a tile is in the whole kernel, of two or four axes, and its mirror image if any."""
    rows, columns = tiling.row_blocks()[row], tiling.column_blocks()[column]
    pairs = [(rows, columns)]
    if tiling.symmetric and row != column:
        pairs.append((columns, rows))
    return [(one, slice(None), other) if four else (one, other) for one, other in pairs]
