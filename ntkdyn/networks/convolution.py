"""Convolutions as matrix products, in one of two ways.

    y[p, r, c, o] = sum over i, j, n of w[i, j, n, o] x[p, s r + i, s c + j, n]

    patches   what the filter sees at each place, times the filter
    bands     what it sees in each row of places, times the filter at every column: a banded matrix,
              which has columns / filter times the operations, in products that are not narrow

Agents have filters of their own, and side by side such products are many times faster than
convolutions, of which XLA then makes a grouped one.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

BANDS_FROM = 3000
"""Places, of all images, from which a banded matrix is worth writing out."""

WIDE = 100
"""Columns times channels out, over the width of the filter, from which patches are faster."""

Images = Float[Array, "points rows columns channels"]
Filter = Float[Array, "height width channels out"]


class Window(NamedTuple):
    """Where the filter stands along one side of an image."""

    size: int
    before: int
    after: int
    """zeros around the image"""
    filter: int
    stride: int

    @property
    def padded(self) -> int:
        return self.before + self.size + self.after

    @property
    def places(self) -> int:
        return (self.padded - self.filter) // self.stride + 1

    def seen(self, first: int) -> slice:
        """What one row of the filter sees, of a padded side."""
        return slice(first, first + (self.places - 1) * self.stride + 1, self.stride)


def convolve(
    images: Images, weights: Filter, stride: int, padding: str
) -> Float[Array, "points rows_out columns_out out"]:
    """The convolution of the images with the filter, "SAME" or "VALID"."""
    height, width, _, out = weights.shape
    sides, strides = images.shape[1:3], (stride, stride)
    around = jax.lax.padtype_to_pads(sides, (height, width), strides, padding)
    rows, columns = (
        Window(size, *zeros, filter, stride)
        for size, zeros, filter in zip(sides, around, (height, width), strict=True)
    )
    narrow = columns.size * out < WIDE * width
    many = len(images) * rows.places * columns.places >= BANDS_FROM
    # Of one image at a time, so that kernels find the filter in its program.
    banded = narrow and many and len(images) > 1
    return (by_bands if banded else by_patches)(images, weights, rows, columns)


def by_patches(
    images: Images, weights: Filter, rows: Window, columns: Window
) -> Float[Array, "points rows_out columns_out out"]:
    """Patches (row, column, channel) times the filter."""
    around = [(each.before, each.after) for each in (rows, columns)]
    padded = jnp.pad(images, ((0, 0), *around, (0, 0)))
    seen = [
        padded[:, rows.seen(i), columns.seen(j)]
        for i, j in itertools.product(range(rows.filter), range(columns.filter))
    ]
    patches = jnp.concatenate(seen, axis=-1)
    return patches @ weights.reshape(patches.shape[-1], -1)


def by_bands(
    images: Images, weights: Filter, rows: Window, columns: Window
) -> Float[Array, "points rows_out columns_out out"]:
    """Rows of the image under the filter, side by side, times banded matrices one on another."""
    flat = images.reshape(len(images), rows.size, -1)
    padded = jnp.pad(flat, ((0, 0), (rows.before, rows.after), (0, 0)))
    seen = jnp.concatenate([padded[:, rows.seen(i)] for i in range(rows.filter)], axis=-1)
    bands = jnp.concatenate([_band(row, columns) for row in weights])
    return (seen @ bands).reshape(len(images), rows.places, columns.places, -1)


def _band(
    row: Float[Array, "width channels out"], columns: Window
) -> Float[Array, "entries_in entries_out"]:
    """One row of the filter at every place along the columns.

    Filled up with zeros to a stride more than the columns, and repeated, a row begins a stride
    further in every line of a matrix that is as wide as the columns.
    """
    width, channels, out = row.shape
    places, padded = columns.places, columns.padded
    line = jnp.pad(row, ((0, padded + columns.stride - width), (0, 0), (0, 0)))
    repeated = jnp.broadcast_to(line, (places, *line.shape)).reshape(-1, channels, out)
    shifted = repeated[: places * padded].reshape(places, padded, channels, out)
    inside = shifted[:, columns.before : columns.before + columns.size]
    return inside.transpose(1, 2, 0, 3).reshape(columns.size * channels, places * out)
