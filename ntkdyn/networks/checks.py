"""What an architecture may be asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ntkdyn.errors import InputError, check_name, check_whole, is_real, is_whole, shown
from ntkdyn.networks.activations import ACTIVATIONS
from ntkdyn.networks.normalisation import Normalisation

Scales = tuple[tuple[float, ...], tuple[float, ...]]
"""w_std and b_std of every layer"""


LARGEST = 2**38
"""the most parameters a network may have: one TiB of them in float32"""


DEEPEST = 512
"""layers or blocks: what draws the start of so many is compiled within minutes, of ten times as
many within hours, and no signal is heard meanwhile"""


LARGEST_SCALE = float(jnp.finfo(jnp.float32).max)
"""of w_std and b_std: networks are trained in single precision"""


def checked(
    kind: str,
    widths: Sequence[int],
    outputs: int,
    activation: str,
    w_std: float | Sequence[float],
    b_std: float | Sequence[float],
) -> tuple[tuple[int, ...], int, Scales]:
    """Widths, outputs, and w_std and b_std of every layer, once all are found in order."""
    if not isinstance(widths, Sequence):
        raise InputError(f"{kind}: widths must be a list of whole numbers, got {widths!r}")
    if len(widths) > DEEPEST:
        raise InputError(
            f"{kind}: widths must name at most {DEEPEST} layers, got {len(widths)}; so many cannot "
            f"be compiled"
        )
    sizes = [*widths, outputs]
    if not all(_is_size(size) for size in sizes):
        raise InputError(f"{kind}: widths and outputs must be whole numbers from 1 on, got {sizes}")
    check_name("activation", activation, ACTIVATIONS)
    w_stds, b_stds = (
        _per_layer(kind, name, value, len(sizes))
        for name, value in (("w_std", w_std), ("b_std", b_std))
    )
    if min(w_stds) <= 0 or min(b_stds) < 0:
        raise InputError(
            f"{kind}: w_std must be positive and b_std not negative, got {w_std}, {b_std}"
        )
    return tuple(map(int, widths)), int(outputs), (w_stds, b_stds)


def checked_image(
    kind: str, filter: int, strides: int, image: Sequence[int] | None
) -> tuple[int, int, tuple[int, ...] | None]:
    """The settings of convolutions, once they are found in order; `image` as a tuple."""
    filter = check_whole(f"{kind}: filter", filter, 1)
    strides = check_whole(f"{kind}: strides", strides, 1)
    if image is None:
        return filter, strides, None
    if (
        not isinstance(image, Sequence)
        or len(image) != 3
        or not all(_is_size(size) for size in image)
    ):
        raise InputError(
            f"{kind}: image must be rows, columns and channels, three whole numbers from 1 on, "
            f"got {image!r}"
        )
    return filter, strides, tuple(map(int, image))


def check_features(
    kind: str,
    axes: int,
    image: tuple[int, ...] | None,
    features: tuple[int, ...],
    smallest: int = 1,
) -> None:
    """Refuse points of a shape that the layers cannot read, and smaller images."""
    if image is None and len(features) != axes:
        wanted = {
            1: "flat points (features,)",
            3: "points (rows, columns, channels), or `image`, the shape that flat ones are read in",
        }
        raise InputError(f"{kind}: needs {wanted[axes]}; got points of shape {features}")
    if image is not None and features not in (image, (math.prod(image),)):
        raise InputError(
            f"{kind}: image {list(image)} has {math.prod(image)} numbers, which must be as many as "
            f"a point has; got points of shape {features}"
        )
    if axes == 3 and min((image or features)[:2]) < smallest:
        raise InputError(
            f"{kind}: images must have at least {smallest} rows and columns, of which its pooling "
            f"leaves one, got {shown(list(image or features))}"
        )


def check_count(kind: str, params: Any) -> int:
    """How many parameters there are, by their shapes; refuses more than `LARGEST`."""
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    if count > LARGEST:
        raise InputError(
            f"{kind}: widths must give at most {LARGEST:.2g} parameters, got {count:.2g}"
        )
    return count


def _is_size(value: Any) -> bool:
    return is_whole(value) and value >= 1


def description_of(
    kind: str,
    outputs: int,
    activation: str,
    scales: Scales,
    normal: Normalisation | None = None,
    **own: Any,
) -> dict[str, Any]:
    """The arguments of an architecture, for the record; `own` are those that it has alone."""
    shared = {
        "kind": kind,
        "outputs": outputs,
        "activation": activation,
        "w_std": list(scales[0]),
        "b_std": list(scales[1]),
    }
    normalised = {"normalisation": normal.kind, "groups": normal.groups} if normal else {}
    return shared | own | normalised


def _per_layer(
    kind: str, name: str, value: float | Sequence[float], layers: int
) -> tuple[float, ...]:
    several = isinstance(value, Sequence) and not isinstance(value, str)
    if several and len(value) != layers:
        raise InputError(f"{kind}: {name} must be one number or {layers}, got {len(value)}")
    values = tuple(value) if several else (value,) * layers
    for each in values:
        if not is_real(each) or not abs(each) <= LARGEST_SCALE:
            raise InputError(
                f"{kind}: {name} must be finite numbers, up to {LARGEST_SCALE:.2g}, got {each!r}"
            )
    return tuple(float(each) for each in values)
