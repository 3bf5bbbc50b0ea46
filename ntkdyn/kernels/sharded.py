"""Kernels over several devices: each prepares its share of a block, and owns its rows of a tile.

What a block of columns prepares is gathered from all devices where it meets a block of rows. The
devices may belong to several processes (`jax.distributed`), which must all make the same call.
"""

from __future__ import annotations

import functools
from functools import partial

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, PyTree

from ntkdyn.kernels.forms import Parts
from ntkdyn.kernels.programs import Program

AXIS = "points"
EVERYWHERE, SHARED = PartitionSpec(), PartitionSpec(AXIS)


@functools.lru_cache(maxsize=64)
def sharded(program: Program, devices: tuple[jax.Device, ...]) -> Program:
    """The program with points shared out among the devices; blocks must be a multiple of them."""
    mesh = Mesh(np.array(devices), (AXIS,))
    over = partial(jax.shard_map, mesh=mesh, check_vma=False)

    def prepare(params: PyTree, points: PyTree) -> PyTree:
        return program.prepare(params, jax.tree.map(_own_share, points))

    def meet(params: PyTree, left: PyTree, right: PyTree) -> Parts:
        gathered = jax.tree.map(lambda leaf: jax.lax.all_gather(leaf, AXIS, tiled=True), right)
        return program.meet(params, left, gathered)

    return Program(
        jax.jit(over(prepare, in_specs=(EVERYWHERE, EVERYWHERE), out_specs=SHARED)),
        jax.jit(over(meet, in_specs=(EVERYWHERE, SHARED, SHARED), out_specs=SHARED)),
        program.alone,
    )


def _own_share(points: Array) -> Array:
    share = points.shape[0] // jax.lax.axis_size(AXIS)
    return jax.lax.dynamic_slice_in_dim(points, jax.lax.axis_index(AXIS) * share, share)
