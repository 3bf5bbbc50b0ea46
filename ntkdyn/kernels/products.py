"""Products with the kernel, without the kernel: K v = J (J^T v), by vjp and jvp.

From products alone follow the leading eigenpairs (Lanczos, by matfree), and by random probes, with
a standard error, the trace and the effective dimension tr K (K + lambda)^-1. Memory is that of a
few gradients and of `chunk` points at a time; v and K v are (points, outputs).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree
from matfree import decomp, eig, funm, stochtrace

from ntkdyn.errors import InputError
from ntkdyn.kernels.pushing import pushing
from ntkdyn.kernels.walk import Apply

Vectors = Float[Array, "points outputs"]
Product = Callable[[Vectors], Vectors]


class Estimate(NamedTuple):
    """The mean over random probes."""

    value: Float[Array, ""]
    standard_error: Float[Array, ""]


def matvec(
    apply: Apply, params: PyTree, inputs: Float[Array, points * features], *, chunk: int = 256
) -> Product:
    """v -> K v with K = J J^T over all points and outputs; it may be compiled."""
    if chunk < 1:
        raise InputError(f"chunk: must be at least 1, got {chunk}")
    points = len(inputs)
    size = min(chunk, points)
    padding = -points % size
    blocks = _chunks(jnp.concatenate([inputs, inputs[:1].repeat(padding, axis=0)]), size)

    def pulled(block: Array, cotangents: Vectors) -> PyTree:
        (gradient,) = jax.vjp(lambda p: apply(p, block), params)[1](cotangents)
        return gradient

    def add(gradient: PyTree, pair: tuple[Array, Vectors]) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, gradient, pulled(*pair)), None

    def product(v: Vectors) -> Vectors:
        filled = _chunks(jnp.pad(v, ((0, padding), (0, 0))), size)
        gradient, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), (blocks, filled))
        push = lambda block: pushing(lambda p: apply(p, block), params)(gradient)
        return jax.lax.map(push, blocks).reshape(-1, v.shape[1])[:points]

    return product


def leading(
    product: Product, like: Vectors, count: int, *, depth: int | None = None, key: PRNGKeyArray
) -> tuple[Float[Array, " count"], Float[Array, "count points outputs"]]:
    """The `count` largest eigenvalues, descending, and their eigenvectors.

    By `depth` steps of Lanczos with full reorthogonalization, twice `count` and 10 more by
    default; `like` has the shape and dtype of a vector.
    """
    if not 1 <= count <= like.size:
        raise InputError(f"count: must be from 1 to {like.size}, got {count}")
    steps = min(depth or 2 * count + 10, like.size)
    if steps < count:
        raise InputError(f"depth: must be at least count = {count}, got {depth}")
    decompose = eig.eigh_partial(decomp.tridiag_sym(steps))
    first = jax.random.normal(key, like.shape, like.dtype)
    values, vectors = decompose(product, first / jnp.linalg.norm(first))
    order = jnp.argsort(values)[::-1][:count]
    return values[order], vectors[order]


def trace(product: Product, like: Vectors, *, probes: int = 64, key: PRNGKeyArray) -> Estimate:
    """tr K from random signs (Hutchinson), with the standard error of the mean."""
    return _mean(stochtrace.monte_carlo_trace(), product, like, probes, key)


def effective_dimension(
    product: Product,
    like: Vectors,
    regularization: float,
    *,
    probes: int = 64,
    depth: int = 40,
    key: PRNGKeyArray,
) -> Estimate:
    """tr K (K + lambda)^-1: how many directions a ridge lambda leaves to be fitted.

    By stochastic Lanczos quadrature of `depth` steps per probe; lambda must be positive.
    """
    if not regularization > 0:
        raise InputError(f"regularization: must be positive, got {regularization}")
    function = lambda eigenvalue: eigenvalue / (eigenvalue + regularization)
    tridiagonal = decomp.tridiag_sym(min(depth, like.size))
    integrand = funm.monte_carlo_funm_sym(funm.dense_funm_sym_eigh(function), tridiagonal)
    return _mean(integrand, product, like, probes, key)


def _mean(
    integrand: Callable, product: Product, like: Vectors, probes: int, key: PRNGKeyArray
) -> Estimate:
    if probes < 2:
        raise InputError(f"probes: must be at least 2 for a standard error, got {probes}")
    samples = stochtrace.sampler_signs(like, num=probes)(key)
    values = jax.lax.map(lambda probe: integrand(product, probe), samples)
    return Estimate(values.mean(), values.std(ddof=1) / jnp.sqrt(probes))


def _chunks(values: Array, size: int) -> Array:
    return values.reshape(-1, size, *values.shape[1:])
