"""Convolutions as matrix products, in one of two ways.

    y[p, r, c, o] = sum over i, j, n of w[i, j, n, o] x[p, s r + i, s c + j, n]

    patches   what the filter sees at each place, times the filter
    bands     what it sees in all of several neighbouring places of a row, times the filter written
              out at each of them: a banded matrix, with more operations in wider products

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

WIDE = 32
"""Channels out from which products of patches are no longer narrow."""

TOGETHER = 128
"""About how many numbers of one row are computed by one banded matrix."""

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
    rows, columns = windows(images.shape[1:3], weights.shape[:2], stride, padding)
    many = len(images) * rows.places * columns.places >= BANDS_FROM
    narrow = columns.filter > 1 and weights.shape[-1] <= WIDE
    # Of one image at a time, so that kernels find the filter in its program.
    banded = many and narrow and len(images) > 1
    return (by_bands if banded else by_patches)(images, weights, rows, columns)


def windows(
    sides: tuple[int, ...], filters: tuple[int, ...], stride: int, padding: str
) -> tuple[Window, Window]:
    """Along rows and along columns."""
    around = jax.lax.padtype_to_pads(sides, filters, (stride, stride), padding)
    rows, columns = (
        Window(size, *zeros, filter, stride)
        for size, zeros, filter in zip(sides, around, filters, strict=True)
    )
    return rows, columns


def by_patches(
    images: Images, weights: Filter, rows: Window, columns: Window
) -> Float[Array, "points rows_out columns_out out"]:
    """Patches (row, column, channel) times the filter."""
    padded = _padded(images, rows, columns)
    seen = [
        padded[:, rows.seen(i), columns.seen(j)]
        for i, j in itertools.product(range(rows.filter), range(columns.filter))
    ]
    patches = jnp.concatenate(seen, axis=-1)
    return patches @ weights.reshape(patches.shape[-1], -1)


def by_bands(
    images: Images, weights: Filter, rows: Window, columns: Window
) -> Float[Array, "points rows_out columns_out out"]:
    """What several places of a row see, row under row, times banded matrices side by side."""
    out = weights.shape[-1]
    parts = max(1, round(columns.places * out / TOGETHER))
    places = -(-columns.places // parts)
    parts = -(-columns.places // places)
    span, step = (places - 1) * columns.stride + columns.filter, places * columns.stride
    padded = _padded(images, rows, columns, (parts - 1) * step + span)
    seen = [
        [padded[:, rows.seen(i), part * step : part * step + span] for i in range(rows.filter)]
        for part in range(parts)
    ]
    flat = jnp.stack([jnp.concatenate(each, axis=2) for each in seen], axis=2)
    bands = jnp.concatenate([_band(row, places, columns.stride, span) for row in weights])
    found = flat.reshape(*flat.shape[:3], -1) @ bands
    return found.reshape(len(images), rows.places, -1, out)[:, :, : columns.places]


def _padded(
    images: Images, rows: Window, columns: Window, least: int = 0
) -> Float[Array, "points rows_padded columns_padded channels"]:
    """With zeros around, so that there are as many columns at least."""
    after = columns.after + max(0, least - columns.padded)
    return jnp.pad(images, ((0, 0), (rows.before, rows.after), (columns.before, after), (0, 0)))


def _band(
    row: Float[Array, "width channels out"], places: int, stride: int, span: int
) -> Float[Array, "entries_in entries_out"]:
    """One row of the filter at so many places, which see a span of columns.

    Filled up with zeros to a stride more than the span, and repeated, a row begins a stride further
    in every line of a matrix that is as wide as the span.
    """
    width, channels, out = row.shape
    line = jnp.pad(row, ((0, span + stride - width), (0, 0), (0, 0)))
    repeated = jnp.broadcast_to(line, (places, *line.shape)).reshape(-1, channels, out)
    shifted = repeated[: places * span].reshape(places, span, channels, out)
    return shifted.transpose(1, 2, 0, 3).reshape(span * channels, places * out)
