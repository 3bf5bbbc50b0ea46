"""Double precision where theory needs it, without touching the user's own JAX settings.

Predictions, kernels and stability limits are computed in float64 inside `double()`; the
networks that are trained are float32 unless the spec says otherwise, inside `single()`.
These contexts are the only places where ntkdyn sets JAX's precision, and its random numbers: inside
them a seed draws the same ones whatever the user's settings are.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import jax

from ntkdyn import caches

P = ParamSpec("P")
R = TypeVar("R")

EXACT = jax.lax.Precision.HIGHEST
"""Of the products that kernels are made of: never rounded to TF32 or bfloat16 on the way."""


IMPLEMENTATION = "threefry2x32"

GENERATOR = f"{IMPLEMENTATION}, partitionable"
"""what draws starts and batches from their seeds, as records say it"""


def double() -> contextlib.AbstractContextManager:
    """A context in which JAX computes in float64."""
    return _computing(x64=True)


def single() -> contextlib.AbstractContextManager:
    """A context in which JAX computes in float32, and draws the float32 random numbers."""
    return _computing(x64=False)


@contextlib.contextmanager
def _computing(*, x64: bool) -> Iterator[None]:
    partitionable = jax.threefry_partitionable(True)
    drawing = jax.default_prng_impl(IMPLEMENTATION)
    with caches.bounded(), jax.enable_x64(x64), drawing, partitionable:
        yield


@contextlib.contextmanager
def float32() -> Iterator[None]:
    """As `single()`, also in products, which JAX rounds to TF32 on GPUs unless it is told."""
    with single(), jax.default_matmul_precision("float32"):
        yield


@contextlib.contextmanager
def tensorfloat32() -> Iterator[None]:
    """A context in which float32 products round their factors to 10 bits where the device can.

    NVIDIA's tensor cores do; their sums stay float32. Elsewhere it equals `single()`.
    """
    with single(), jax.default_matmul_precision("tensorfloat32"):
        yield


def in_double(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, computed in float64."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with double():
            return function(*args, **kwargs)

    return wrapped
