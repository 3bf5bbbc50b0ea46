"""Infinite-width kernels, by neural-tangents: NTK and NNGP of a network's architecture.

Both are the same for every output and uncorrelated between outputs, K (x) I, so they are kept as
(points, points).
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Left = Float[Array | np.ndarray, "n *features"]
Right = Float[Array | np.ndarray, "m *features"]
Scalar = Float[Array, "n m"]
KernelFn = Callable[..., Any]
"""(x1, x2, get) -> kernel, as the layers of `neural_tangents.stax` give it"""


def ntk(kernel: KernelFn, x1: Left, x2: Right | None = None) -> Scalar:
    """lim of Theta(x1, x2) per output as all widths grow; x2 defaults to x1."""
    return kernel(jnp.asarray(x1), None if x2 is None else jnp.asarray(x2), "ntk")


def nngp(kernel: KernelFn, x1: Left, x2: Right | None = None) -> Scalar:
    """Covariance of one output at x1 and x2 over random starts, as all widths grow."""
    return kernel(jnp.asarray(x1), None if x2 is None else jnp.asarray(x2), "nngp")
