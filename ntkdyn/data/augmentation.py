"""Augmentation: images altered at random each time a gradient is taken at them.

    crop   padded by an eighth of each side with 0, the mean of scaled points, and cut to their size
           again at a random place (of 32 x 32 images by 4, as He, Zhang, Ren, Sun 2015)
    flip   left and right change places with probability 1/2

In a round a point looks the same to everybody who looks at it. What is measured of a run, and what
DIMAT aligns channels by, are the points as they are.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ntkdyn.data.datasets import Dataset
from ntkdyn.errors import InputError, check_name, shown

Image = Float[Array, "rows columns channels"]

SHARE = 8
"""one over the part of a side that it is padded by"""


class Augmentation(NamedTuple):
    """What is done to images of that shape, in this order."""

    kinds: tuple[str, ...]
    image: tuple[int, ...]

    def altered(
        self,
        points: Float[Array, "*rows_features"],
        rows: Int[Array, " *rows"],
        key: PRNGKeyArray,
    ) -> Float[Array, "*rows_features"]:
        """The points that are those rows, as they look under that key."""
        images = points.reshape(-1, *self.image)
        keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(rows.reshape(-1))
        return jax.vmap(self._of_one)(images, keys).reshape(points.shape)

    def _of_one(self, image: Image, key: PRNGKeyArray) -> Image:
        for kind, own in zip(self.kinds, jax.random.split(key, len(self.kinds)), strict=True):
            image = KINDS[kind](image, own)
        return image


def crop(image: Image, key: PRNGKeyArray) -> Image:
    """Padded with 0 and cut out at a random place."""
    pad = [-(-side // SHARE) for side in image.shape[:2]]
    padded = jnp.pad(image, [(pad[0],) * 2, (pad[1],) * 2, (0, 0)])
    most = jnp.array(pad, jnp.int32) * 2 + 1
    first = jax.random.randint(key, (2,), 0, most, jnp.int32)
    return jax.lax.dynamic_slice(padded, (*first, jnp.int32(0)), image.shape)


def flip(image: Image, key: PRNGKeyArray) -> Image:
    """Left and right changed with probability 1/2."""
    return jnp.where(jax.random.bits(key) % 2 == 1, image[:, ::-1], image)


KINDS: dict[str, Callable[[Image, PRNGKeyArray], Image]] = {"crop": crop, "flip": flip}
"""name -> (image, key) -> the image as it may look"""


def augmented(data: Dataset, by: Sequence[str], image: Sequence[int] | None = None) -> Dataset:
    """The same points, of which gradients see images that are altered at random.

    A run draws what is done to them from the `batch_seed`, anew in each round. A prediction has no
    such points: it refuses them.

    Args:
        data: whose points are images.
        by: what is done to them, in this order: "crop", "flip".
        image: (rows, columns, channels) of flat points.

    Returns:
        The dataset.

    Raises:
        InputError: for names that there are not, and points that are no images.

    Example:
        >>> nd.data.augmented(data, ["crop", "flip"], image=(8, 8, 1)).about["augmentation"]
        'crop, flip'
    """
    if isinstance(by, str) or not isinstance(by, Sequence) or not by:
        raise InputError(f"augment: must be a list of {', '.join(KINDS)}, got {shown(by)}")
    for kind in by:
        check_name("augment", kind, KINDS)
    if len(set(by)) < len(by):
        raise InputError(f"augment: names each once, got {shown(list(by))}")
    shape = data.train_inputs.shape[1:]
    image = tuple(shape if image is None else image)
    if len(image) != 3 or math.prod(image) != math.prod(shape):
        raise InputError(
            f"augment: needs points that are images of (rows, columns, channels), or `image`, the "
            f"shape that flat ones are read in; got {shown(list(image))} for points of shape "
            f"{shape}"
        )
    return dataclasses.replace(data, augmentation=Augmentation(tuple(by), image))
