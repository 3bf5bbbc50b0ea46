"""Budgets: the blocks and panels that should be fastest within so many bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ntkdyn.errors import InputError
from ntkdyn.kernels.programs import Cost
from ntkdyn.kernels.tiles import BLOCK, Tiling

SIZES = (256, 128, 64, 32, 16, 8, 4, 2, 1)
"""Points per block to choose from, beside 512 and all of them."""

SLOW = 90
"""Points per block at which products take twice the time of large ones, as measured."""

SLACK = 24_000_000
"""Bytes kept free for what XLA does not count: its compiler, matrix products' packing buffers; no
more than there are arrays, of which those buffers are copies."""


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
            # Scratch of pairs grows with the square, that of points in proportion: whichever is
            # more.
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
    cost: Cost

    def roughly(self) -> Load:
        """With bytes by rule of thumb, which needs no compiler."""
        held = self.cost.held
        rough = lambda block: Footprint(block, math.ceil(block * held), math.ceil(block * held), 0)
        return self._replace(footprint=rough)


class Fit(NamedTuple):
    """A tiling of every pass, within a budget."""

    tilings: list[Tiling]
    peak: int
    """bytes, the result included"""
    cost: float
    """operations"""


class Request(NamedTuple):
    """A kernel to be tiled within a budget."""

    budget: float
    """bytes"""
    result: int
    """bytes of the whole kernel, 0 where it is not held"""
    tiling: Tiling
    """has the points"""
    loads: Sequence[Load]
    """one per pass"""

    def guess(self) -> float:
        """About how many operations it takes, without compiling; infinite if it does not fit."""
        try:
            return self._replace(loads=[load.roughly() for load in self.loads]).fit().cost
        except InputError:
            return math.inf

    def fit(self, block: int | None = None) -> Fit:
        """The blocks and panels that should be fastest.

        `block` leaves the panels alone to choose, as where a file was begun with that size.
        """
        for size in [block] if block is not None else self._likely_sizes():
            footprints = [load.footprint(size) for load in self.loads]
            if tilings := self._panels(footprints):
                panels = zip(tilings, footprints, strict=True)
                filling = max(footprint.peak(each.held) for each, footprint in panels)
                peak = max(self._kept(size) + filling, self._unfolded(size))
                return Fit(tilings, _with_slack(peak), self._operations(tilings))
        least = max(footprint.peak(1) for footprint in footprints)
        raise too_small(
            self.budget, self.result, max(self._kept(size) + least, self._unfolded(size))
        )

    def _likely_sizes(self) -> list[int]:
        """Sizes of blocks that should fit, the fastest first, and the smallest in any case."""
        points = max(self.tiling.rows, self.tiling.columns)
        references = [load.footprint(min(BLOCK, points)) for load in self.loads]
        # Beyond 512 products are no faster, and blocks too large for panels.
        sizes = {min(points, 512), *(size for size in SIZES if size < points)}
        panels = {size: self._panels([each.scaled(size) for each in references]) for size in sizes}
        likely = sorted(filter(panels.get, sizes), key=lambda size: self._operations(panels[size]))
        return [*likely, 1]

    def _panels(self, footprints: list[Footprint]) -> list[Tiling]:
        """The tilings with the largest panels; none if not even one block fits."""
        size = footprints[0].block
        if _with_slack(self._unfolded(size)) > self.budget:
            return []
        # The inverse of `_with_slack`.
        free = max(self.budget - SLACK, self.budget / 2) - self._kept(size)
        sized = self.tiling._replace(block=size)
        blocks = len(sized.row_blocks())
        held = [min(each.most_held(free), blocks) for each in footprints]
        return [sized._replace(held=many) for many in held] if all(held) else []

    def _kept(self, size: int) -> int:
        """Bytes of the kernel while it is filled: the upper half, if it is symmetric."""
        if not self.tiling.symmetric:
            return self.result
        return self._unfolded(size) // 2

    def _unfolded(self, size: int) -> int:
        """Bytes of the whole kernel, with the strip of it that is being moved."""
        return math.ceil(
            self.result * (1 + self.tiling.symmetric * min(size / self.tiling.rows, 1))
        )

    def _operations(self, tilings: list[Tiling]) -> float:
        size, tiles = tilings[0].block, tilings[0].tiles
        passes = zip(tilings, self.loads, strict=True)
        prepared = sum(each.preparations * load.cost.point for each, load in passes)
        pair = sum(load.cost.pair for load in self.loads)
        # Products of small blocks wait for memory: twice the time at `SLOW`, four times at half.
        return size * prepared + tiles * size**2 * pair * (1 + (SLOW / size) ** 2)


def fit_blocks(
    budget: float, result: int, tiling: Tiling, footprint: Callable[[int], Footprint]
) -> tuple[Tiling, int]:
    """The largest blocks within `budget` bytes where no pairs of blocks meet, and the peak."""
    size = min(tiling.block, tiling.rows)
    while (peak := _with_slack(least := result + footprint(size).peak(0))) > budget:
        if size == 1:
            raise too_small(budget, result, least)
        size //= 2
    return tiling._replace(block=size), peak


def _with_slack(arrays: int) -> int:
    """Bytes that so many bytes of arrays take."""
    return arrays + min(arrays, SLACK)


def too_small(budget: float, result: int, least: int) -> InputError:
    """The refusal of a budget, with the smallest that would do."""
    return InputError(
        f"memory: {_readable(budget)} are too few for one tile; the smallest that works is "
        f"{_readable(_with_slack(least))}, of which the kernel itself takes {_readable(result)}"
    )


def _readable(size: float | int) -> str:
    """Bytes in MB or kB, rounded up to a tenth."""
    unit, name = (1e6, "MB") if size >= 1e6 else (1e3, "kB")
    return f"{math.ceil(10 * size / unit) / 10:g} {name}"
