"""Layers of stax, with parameters by name, and what convolutional ones are made of."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ntkdyn.kernels.compat import stax

Layer = tuple[Any, Any, Any]
"""(initialise, evaluate, kernel at infinite width), as stax has them"""


def named(name: str, layer: Layer) -> Layer:
    """The layer, its parameters under that name."""
    initialise, evaluate, kernel = layer

    def begin(key: PRNGKeyArray, shape: Any) -> tuple[Any, dict[str, Any]]:
        shape, params = initialise(key, shape)
        return shape, {name: params}

    def of_name(params: Any, inputs: Array, **beside: Any) -> Array:
        return evaluate(params[name], inputs, **beside)

    return begin, of_name, kernel


def noted(name: str, layer: Layer) -> Layer:
    """The layer, which notes its outputs under that name where somebody wants to see them."""
    initialise, evaluate, kernel = layer

    def noting(params: Any, inputs: Array, *, seen: Any = None, **beside: Any) -> Array:
        outputs = evaluate(params, inputs, **beside)
        if seen is not None:
            seen[name] = outputs
        return outputs

    return initialise, noting, kernel


def dense(name: str, size: int, w_std: float, b_std: float) -> Layer:
    """w_std / sqrt(inputs) W x + b_std b."""
    return named(name, stax.Dense(size, w_std, b_std or None))


def convolution(
    name: str,
    size: int,
    filter: int,
    strides: int,
    w_std: float,
    b_std: float,
    padding: str = "SAME",
) -> Layer:
    """The layer of stax, computed as a product of patches and filters.

    Agents have filters of their own, and side by side such products are many times faster than
    convolutions, of which XLA then makes a grouped one.
    """
    window, steps = (filter, filter), (strides, strides)
    initialise, _, kernel = stax.Conv(
        size, window, steps, padding, W_std=w_std, b_std=b_std or None
    )

    def evaluate(params: Any, inputs: Array, **_: Any) -> Array:
        weights, bias = params
        patches = _patches(inputs, filter, strides, padding)
        scale = w_std / patches.shape[-1] ** 0.5
        outputs = scale * (patches @ weights.reshape(-1, size))
        return outputs if bias is None else outputs + b_std * bias

    return named(name, (initialise, evaluate, kernel))


def _patches(
    images: Float[Array, "points rows columns channels"], filter: int, strides: int, padding: str
) -> Float[Array, "points rows_out columns_out entries"]:
    """What a filter sees at each place, zeros around the image; (row, column, channel) in order."""
    sizes = images.shape[1:3]
    around = jax.lax.padtype_to_pads(sizes, (filter, filter), (strides, strides), padding)
    padded = jnp.pad(images, ((0, 0), *around, (0, 0)))
    rows, columns = ((size - filter) // strides * strides + 1 for size in padded.shape[1:3])
    seen = [
        padded[:, row : row + rows : strides, column : column + columns : strides]
        for row, column in itertools.product(range(filter), repeat=2)
    ]
    return jnp.concatenate(seen, axis=-1)


def pooling(of: str) -> Layer:
    """The "average" or the "max" over squares of 2 x 2 places; a last odd row or column is left."""
    reduce = {"average": lambda corners: sum(corners) / 4, "max": _largest}[of]
    initialise, _, kernel = stax.AvgPool((2, 2), (2, 2), "VALID")

    def evaluate(params: Any, inputs: Array, **_: Any) -> Array:
        rows, columns = (size // 2 * 2 for size in inputs.shape[1:3])
        return reduce([inputs[:, i:rows:2, j:columns:2] for i in (0, 1) for j in (0, 1)])

    return initialise, evaluate, kernel


def _largest(corners: list[Array]) -> Array:
    """By pairs: the derivative of one maximum over all is NaN in XLA's unoptimised code."""
    upper, lower = jnp.maximum(*corners[:2]), jnp.maximum(*corners[2:])
    return jnp.maximum(upper, lower)


def residual(shortcut: Layer, *beside: Layer) -> tuple[Layer, Layer, Layer]:
    """S(x) + B(x), B the layers beside S, as layers in series."""
    return stax.FanOut(2), stax.parallel(shortcut, stax.serial(*beside)), stax.FanInSum()
