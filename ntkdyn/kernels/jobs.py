"""Jobs: a kernel to fill, whatever its method, within a budget, into memory or a file."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from ntkdyn import caches, precision, sizes
from ntkdyn.disk import claimed_file
from ntkdyn.errors import InputError
from ntkdyn.kernels import budget, tiles
from ntkdyn.kernels.budget import Footprint, Load, Request
from ntkdyn.kernels.programs import Cost, Program, Share, size_of
from ntkdyn.kernels.sharded import sharded
from ntkdyn.kernels.store import Store, block_of, fingerprint
from ntkdyn.kernels.tiles import Memory, Packed, Progress, Sink, Tiling
from ntkdyn.processes import on_host


class Job(NamedTuple):
    """A kernel to fill."""

    program: Callable[[Share | None], Program]
    """the program of some of the Jacobian, or of all"""
    params: PyTree
    left: PyTree
    """points, on the first axis of every leaf"""
    right: PyTree | None
    """None: the same points"""
    shape: tuple[int, ...]
    dtype: np.dtype
    accumulate: str | None
    names: list[str]
    """of the kernel's parts that are kept apart, or "all" """
    cost: Callable[[Share | None], Cost]
    """what a share of the Jacobian takes, or all of it"""
    ways: list[list[Share]]
    """of parting the Jacobian into shares that pass one after the other"""
    settings: dict[str, Any]
    """what tells this kernel from others, beside the arrays"""
    devices: Sequence[jax.Device] | None
    budget: float | None
    progress: Progress | None

    def shared(self, share: Share | None = None) -> Program:
        """The program of some of the Jacobian, or of all, over the devices."""
        plain = self.program(share)
        return sharded(plain, tuple(self.devices)) if self.devices else plain

    def tiling(self, block: int) -> Tiling:
        """Everything held, in blocks of that size."""
        n, m = count(self.left), count(self.left if self.right is None else self.right)
        devices = len(self.devices) if self.devices else 1
        return Tiling(n, m, self.right is None, block, max(n, m), devices)


class Arrangement(NamedTuple):
    """The passes, and their peak in bytes where there is a budget."""

    passes: list[Pass]
    peak: int | None = None

    @property
    def tiling(self) -> Tiling:
        """That of the first pass; the others' differ in their panels only."""
        return self.passes[0].tiling


class Pass(NamedTuple):
    """A program, and how the points are cut for it."""

    program: Program
    tiling: Tiling


def count(points: PyTree) -> int:
    """How many points there are."""
    return len(jax.tree.leaves(points)[0])


def context(kind: str | None) -> contextlib.AbstractContextManager:
    """JAX in double precision if that is wanted, as it is otherwise."""
    return precision.double() if kind == "float64" else caches.bounded()


class _Compiled:
    """The programs of one pass, at work."""

    def __init__(self, job: Job, program: Program) -> None:
        self._params, self._program = job.params, program
        self._kind = job.accumulate

    def prepare(self, points: PyTree) -> PyTree:
        return self._program.prepare(self._params, points)

    def meet(self, left: PyTree, right: PyTree) -> dict[str, np.ndarray]:
        alone = self._program.alone
        with context(self._kind):
            if alone and left is right:
                return on_host(alone(self._params, left))
            return on_host(self._program.meet(self._params, left, right))


def pairs(job: Job, file: Path | None) -> tuple[dict[str, np.ndarray], Arrangement]:
    """Fill a kernel over pairs of points; its parts by name."""
    if file is not None and jax.process_count() > 1:
        raise InputError("file: several processes cannot write one file; leave it out")
    if file is not None:
        with claimed_file(file):
            return _filled(job, file)
    _check_room(job)
    arranged = _arranged(job, None)
    sink = Packed if job.right is None else Memory
    held = sink(arranged.tiling, job.shape, job.dtype, job.names)
    _fill(job, arranged, held)
    return held.values(), arranged


def _filled(job: Job, file: Path) -> tuple[dict[str, np.ndarray], Arrangement]:
    """The kernel in the file, whose tiles are computed that are not there."""
    arranged = _arranged(job, file)
    mark = fingerprint((job.params, job.left, job.right), job.settings)
    with Store(file, arranged.tiling, job.shape, job.dtype, job.names, mark) as store:
        _fill(job, arranged, store)
        return store.values(), arranged


def _fill(job: Job, arranged: Arrangement, sink: Sink) -> None:
    work = [(_Compiled(job, program), tiling) for program, tiling in arranged.passes]
    tiles.fill(work, job.left, job.right, sink, job.progress)


def points(job: Job) -> tuple[dict[str, np.ndarray], Arrangement]:
    """Fill what belongs to points by themselves, (points, outputs): blocks, and no pairs."""
    result = _bytes(job)
    tiling, peak = job.tiling(tiles.BLOCK)._replace(held=1), None
    if job.budget is not None:
        tiling, peak = budget.fit_blocks(job.budget, result, tiling, _load(job).footprint)
    arranged = Arrangement([Pass(job.shared(), tiling)], peak)
    work = _Compiled(job, job.shared())
    values = {name: np.empty(job.shape, job.dtype) for name in job.names}
    for number, rows in enumerate(tiling.row_blocks(), 1):
        held = work.prepare(tiles.block(job.left, rows, tiling.prepared(tiling.rows)))
        for name, part in work.meet(held, held).items():
            values[name][rows] = part[: rows.stop - rows.start]
        if job.progress:
            job.progress(number, len(tiling.row_blocks()))
    return values, arranged


def _bytes(job: Job) -> int:
    """What the kernel itself takes, all layers that are kept apart."""
    return len(job.names) * math.prod(job.shape) * job.dtype.itemsize


def _check_room(job: Job) -> None:
    shape = " x ".join(map(str, job.shape))
    advice = 'take fewer points, form="trace", or a file, which is filled tile by tile'
    sizes.check_room(f"kernel: one of {shape} numbers", _bytes(job), advice)


def _arranged(job: Job, file: Path | None) -> Arrangement:
    """The fastest that the budget allows."""
    begun = block_of(file) if file else None
    tiling = job.tiling(begun or tiles.BLOCK)
    if job.budget is None:
        return Arrangement([Pass(job.shared(), tiling)])
    result = 0 if file else _bytes(job)
    passing = lambda way: [_load(job, share) for share in way]
    task = Request(job.budget, result, tiling, passing([None]))
    ways = [[None], *job.ways] if file is None else [[None]]
    best = min(ways, key=lambda way: task._replace(loads=passing(way)).guess())
    fitted = task._replace(loads=passing(best)).fit(begun)
    cuts = zip(best, fitted.tilings, strict=True)
    return Arrangement([Pass(job.shared(share), each) for share, each in cuts], fitted.peak)


def _load(job: Job, share: Share | None = None) -> Load:
    forms = lambda tree: jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)
    program = job.shared(share)
    arrays, tree = jax.tree.flatten((forms(job.params), forms(job.left)))
    devices = len(job.devices) if job.devices else 1
    settings = program, tuple(arrays), tree, job.accumulate, devices
    footprint = functools.partial(_footprint, *settings)
    return Load(footprint, job.cost(share))


@functools.lru_cache(maxsize=256)
def _footprint(
    program: Program, arrays: tuple, tree: Any, accumulate: str | None, devices: int, block: int
) -> Footprint:
    """Bytes as XLA counts them in the compiled programs."""
    params, left = jax.tree.unflatten(tree, arrays)
    size = -(-block // devices) * devices
    cut = lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape[1:]), leaf.dtype)
    some = jax.tree.map(cut, left)
    prepare = program.prepare.lower(params, some).compile().memory_analysis()
    held = jax.eval_shape(program.prepare, params, some)
    with context(accumulate):
        meet = program.meet.lower(params, held, held).compile().memory_analysis()
    caches.hand_back()  # what compiling left behind
    return Footprint(
        block,
        size_of(held),
        devices * prepare.temp_size_in_bytes + size_of(some),
        devices * (meet.temp_size_in_bytes + 2 * meet.output_size_in_bytes),
    )
