"""Layers of stax, with parameters by name, and what convolutional ones are made of."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ntkdyn.kernels.compat import stax
from ntkdyn.networks.convolution import convolve

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
    """The layer of stax, computed as products of matrices (`convolve`)."""
    window, steps = (filter, filter), (strides, strides)
    initialise, _, kernel = stax.Conv(
        size, window, steps, padding, W_std=w_std, b_std=b_std or None
    )

    def evaluate(params: Any, inputs: Array, **_: Any) -> Array:
        weights, bias = params
        scale = w_std / (filter * filter * inputs.shape[-1]) ** 0.5
        outputs = convolve(inputs, scale * weights, strides, padding)
        return outputs if bias is None else outputs + b_std * bias

    return named(name, (initialise, evaluate, kernel))


def pooling(of: str) -> Layer:
    """The "average" or the "max" over squares of 2 x 2 places; a last odd row or column is left.

    Of neighbours in a column first: of whole rows, as they lie in memory.
    """
    of_two = {"average": lambda one, other: (one + other) / 2, "max": jnp.maximum}[of]
    initialise, _, kernel = stax.AvgPool((2, 2), (2, 2), "VALID")

    def evaluate(params: Any, inputs: Array, **_: Any) -> Array:
        rows, columns = (size // 2 * 2 for size in inputs.shape[1:3])
        flat = of_two(inputs[:, 0:rows:2], inputs[:, 1:rows:2])
        return of_two(flat[:, :, 0:columns:2], flat[:, :, 1:columns:2])

    return initialise, evaluate, kernel


def residual(shortcut: Layer, *beside: Layer) -> tuple[Layer, Layer, Layer]:
    """S(x) + B(x), B the layers beside S, as layers in series."""
    return stax.FanOut(2), stax.parallel(shortcut, stax.serial(*beside)), stax.FanInSum()
