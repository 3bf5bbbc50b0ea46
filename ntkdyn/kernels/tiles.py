"""Tiles: a kernel filled block by block, so that no more memory is held than a budget allows.

Points are cut into blocks. A panel of as many blocks of rows as fit is prepared and held, and
blocks of columns stream by; for equal point sets only the tiles on and above the diagonal are
computed, and mirrored. A block of columns is prepared anew for every panel, which costs time, so
the panel should be large: one way is to let only some of the layers pass at a time and to add up,
where that saves more than the forward passes it repeats. And a symmetric kernel is kept as the
tiles that were computed, about half of it, until nothing else is held; then it is mirrored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float, PyTree

from ntkdyn.errors import InputError

Progress = Callable[[int, int], None]
"""called with (tiles done, tiles in all)"""

BLOCK = 256
"""Points per block where memory is not scarce: large enough for fast matrix products."""

SMALLEST = 8
"""Points per block below which a budget is refused."""

SLOW = 90
"""Points per block at which products take twice the time of large ones, as measured."""

SLACK = 24_000_000
"""Bytes kept free for what XLA does not count: its compiler, matrix products' packing buffers."""


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

        Of a symmetric kernel, the last one of a panel is at hand for the next.
        """
        n, m = len(self.row_blocks()), len(self.column_blocks())
        if not self.symmetric:
            return n + m * math.ceil(n / self.held)
        return sum(n - first - (first > 0) for first in range(0, n, self.held))


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
    """(row, column, tile or None if it is there already), panel by panel."""
    rows, columns = tiling.row_blocks(), tiling.column_blocks()
    others = left if right is None else right
    at_hand: dict[int, PyTree] = {}
    for first in range(0, len(rows), tiling.held):
        panel = range(first, min(first + tiling.held, len(rows)))
        held, at_hand = at_hand, {}

        def prepared(row: int, held: dict[int, PyTree] = held) -> PyTree:
            if row not in held:
                held[row] = tile.prepare(block(left, rows[row], tiling.prepared(tiling.rows)))
            return held[row]

        for column in range(first if tiling.symmetric else 0, len(columns)):
            meeting = [row for row in panel if not tiling.symmetric or row <= column]
            missing = [row for row in meeting if not sink.has(row, column)]
            if missing and tiling.symmetric and column in panel:
                other = prepared(column)
            elif missing:
                other = tile.prepare(
                    block(others, columns[column], tiling.prepared(tiling.columns))
                )
            for row in meeting:
                yield row, column, tile.meet(prepared(row), other) if row in missing else None
            if missing and tiling.symmetric and column == len(columns) - 1:
                at_hand = {column: other}
            other = None


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
    """A sink in memory; `late`: tiles are kept side by side, and put together by `values`."""

    def __init__(
        self,
        tiling: Tiling,
        shape: tuple[int, ...],
        dtype: Any,
        names: Sequence[str],
        *,
        late: bool,
    ) -> None:
        self._tiling, self._late = tiling, late
        each = [min(size, tiling.block) if axis % (len(shape) // 2) == 0 else size
                for axis, size in enumerate(shape)]  # fmt: skip
        held = (tiling.tiles, *each) if late else shape
        self._new = lambda shape: {name: np.empty(shape, dtype) for name in names}
        self._shape, self._held = shape, self._new(held)

    def has(self, row: int, column: int) -> bool:
        return False

    def put(self, row: int, column: int, tile: dict[str, np.ndarray], *, add: bool) -> None:
        for name, values in tile.items():
            if self._late:
                kept = self._kept(name, row, column)
                kept[...] = kept + values if add else values
            else:
                place(self._held[name], values, self._tiling, row, column, add=add)

    def values(self) -> dict[str, np.ndarray]:
        """The whole kernel's parts by name."""
        if not self._late:
            return self._held
        whole = self._new(self._shape)
        for column in range(len(self._tiling.column_blocks())):
            for row in range(column + 1):
                for name, values in whole.items():
                    place(values, self._kept(name, row, column), self._tiling, row, column)
        return whole

    def _kept(self, name: str, row: int, column: int) -> np.ndarray:
        """The place of a tile; that of one at the border is cut to its points."""
        tile = self._held[name][column * (column + 1) // 2 + row]
        sizes = (self._tiling.row_blocks()[row], self._tiling.column_blocks()[column])
        n, m = (rows.stop - rows.start for rows in sizes)
        return tile[:n, :, :m] if tile.ndim == 4 else tile[:n, :m]


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
    rows, columns = tiling.row_blocks()[row], tiling.column_blocks()[column]
    four = tile.ndim == 4
    at = (rows, slice(None), columns) if four else (rows, columns)
    whole[at] = whole[at] + tile if add else tile
    if tiling.symmetric and row != column:
        at = (columns, slice(None), rows) if four else (columns, rows)
        mirrored = tile.transpose(2, 3, 0, 1) if four else tile.T
        whole[at] = whole[at] + mirrored if add else mirrored


# --- fitting a budget -------------------------------------------------------------------------


class Footprint(NamedTuple):
    """Bytes of one pass at a given block size."""

    block: int
    prepared: int
    """a prepared block"""
    preparing: int
    """scratch while a block is prepared"""
    meeting: int
    """scratch while two blocks meet, and the tile"""

    def scaled(self, block: int) -> Footprint:
        """An estimate for another block size: linear in points, quadratic in pairs."""
        ratio = block / self.block
        return Footprint(
            block,
            math.ceil(self.prepared * ratio),
            math.ceil(self.preparing * ratio),
            math.ceil(self.meeting * max(ratio, ratio**2)),
        )

    def peak(self, held: int) -> int:
        """A panel, a block of columns, and the larger of the two scratches."""
        return (held + 1) * self.prepared + max(self.preparing, self.meeting)

    def most_held(self, free: float) -> int:
        """How many blocks a panel may have in that many bytes; 0: not even one."""
        return max(int((free - self.peak(0)) // max(self.prepared, 1)), 0)


class Load(NamedTuple):
    """What one pass takes."""

    footprint: Callable[[int], Footprint]
    """compiles for a block size and reads off the bytes"""
    point: float
    """operations to prepare a point"""


class Fit(NamedTuple):
    """A tiling of every pass, within a budget."""

    tilings: list[Tiling]
    peak: int
    """bytes, the result included"""
    cost: float
    """operations"""
    late: bool
    """whether the kernel is put together from its tiles at the end"""


def fit(
    budget: float,
    result: int,
    tiling: Tiling,
    loads: Sequence[Load],
    pair: float,
    *,
    block: int | None = None,
) -> Fit:
    """The blocks and panels within `budget` bytes that should be fastest.

    `tiling` has the points, `pair` is how many operations it takes two of them to meet. `block`
    leaves the panels alone to choose, as where a file was begun with that size.
    """
    points = max(tiling.rows, tiling.columns)
    late = tiling.symmetric and result + _tiles_of(result, tiling) + SLACK <= budget

    def kept(size: int) -> int:
        return _tiles_of(result, tiling._replace(block=size)) if late else result

    def cut(footprints: list[Footprint]) -> list[Tiling]:
        """The tilings with the largest panels; none if not even one block fits."""
        size = footprints[0].block
        free = budget - kept(size) - SLACK
        sized = tiling._replace(block=size)
        blocks = len(sized.row_blocks())
        held = [min(each.most_held(free), blocks) for each in footprints]
        return [sized._replace(held=many) for many in held] if all(held) else []

    def operations(tilings: list[Tiling]) -> float:
        size, tiles = tilings[0].block, tilings[0].tiles
        prepared = sum(
            each.preparations * load.point for each, load in zip(tilings, loads, strict=True)
        )
        return size * prepared + tiles * size**2 * pair * (1 + (SLOW / size) ** 2)

    if block is not None:
        sizes = [block]
    else:
        references = [load.footprint(min(BLOCK, points)) for load in loads]
        sizes = {min(points, 512), *(size for size in (256, 128, 64, 32, 16, 8) if size < points)}
        likely = {size: cut([each.scaled(size) for each in references]) for size in sizes}
        sizes = sorted(filter(likely.get, sizes), key=lambda size: operations(likely[size]))
        sizes = [*sizes, min(SMALLEST, points)]
    for size in sizes:
        footprints = [load.footprint(size) for load in loads]
        if tilings := cut(footprints):
            panels = zip(tilings, footprints, strict=True)
            peak = kept(size) + max(footprint.peak(each.held) for each, footprint in panels)
            peak = SLACK + max(peak, result + late * kept(size))
            return Fit(tilings, peak, operations(tilings), late)
    least = max(footprint.peak(1) for footprint in footprints)
    raise too_small(budget, kept(sizes[-1]), least)


def _tiles_of(result: int, tiling: Tiling) -> int:
    """Bytes of the tiles that are computed, of a kernel that takes `result`."""
    whole = tiling.rows * tiling.columns
    return math.ceil(result * min(tiling.tiles * tiling.block**2, whole) / whole)


def fit_blocks(
    budget: float, result: int, tiling: Tiling, footprint: Callable[[int], Footprint]
) -> tuple[Tiling, int]:
    """The largest blocks within `budget` bytes where no pairs of blocks meet, and the peak."""
    size = tiling.block
    while result + SLACK + footprint(size).peak(0) > budget:
        if size <= SMALLEST:
            raise too_small(budget, result, footprint(size).peak(0))
        size = max(size // 2, SMALLEST)
    return tiling._replace(block=size), result + SLACK + footprint(size).peak(0)


def too_small(budget: float, result: int, least: int) -> InputError:
    """The refusal of a budget, with the smallest that would do."""
    needed = math.ceil((result + SLACK + least) / 1e5) / 10
    return InputError(
        f"memory: {budget / 1e6:.4g} MB are too few for one tile; the smallest that works is "
        f"{needed} MB, of which the kernel itself takes {result / 1e6:.4g} MB"
    )
