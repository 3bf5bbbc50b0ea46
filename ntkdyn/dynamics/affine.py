"""A method with the squared error and fixed W is an affine map of its state, z -> A z + b.

The action of A is taken from the method's own step by `jax.linearize`, so it cannot drift from
what is run.
"""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import matfree.decomp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Complex, Float

from ntkdyn import precision
from ntkdyn.engine import System

DENSE_UP_TO = 600
"""Up to this size of the state A is formed and all its eigenvalues are computed."""

KRYLOV = 150
"""The dimension of the Krylov space in which the outermost eigenvalues of a larger A are sought."""


def linear_part(system: System) -> tuple[Callable[[Array], Array], int]:
    """v -> A v on flattened states, and their size."""
    flat, unravel = ravel_pytree(system.init())
    grad, mix = system.gradient(0), system.mix(0)

    def step(z: Float[Array, " state"]) -> Float[Array, " state"]:
        return ravel_pytree(system.method.update.step(unravel(z), grad, mix))[0]

    return jax.linearize(step, flat)[1], flat.size


@precision.in_double
def outer_eigenvalues(system: System) -> Complex[np.ndarray, " found"]:
    """All eigenvalues of A where it is small, otherwise those on the rim of its spectrum.

    The rim is found by Arnoldi iteration. A Ritz value counts only if its residual is below a
    tenth of its distance from the unit circle: what crowds inside the disc never converges and
    need not, while what has left it stands apart.
    """
    size = jax.eval_shape(lambda s: ravel_pytree(s.init())[0], system).size
    if size <= DENSE_UP_TO:
        return np.linalg.eigvals(np.asarray(_dense(system))).astype(complex)
    start = np.random.default_rng(0).standard_normal(size)
    hessenberg, residual = map(np.asarray, _arnoldi(system, jnp.asarray(start)))
    values, vectors = np.linalg.eig(hessenberg)
    error = np.linalg.norm(residual) * np.abs(vectors[-1])
    return values[error < np.maximum(np.abs(np.abs(values) - 1) / 10, 1e-12)].astype(complex)


def spectral_radius(system: System) -> float:
    """max |eigenvalue| of A, from `outer_eigenvalues`: up to one, nothing grows."""
    return float(np.abs(outer_eigenvalues(system)).max(initial=0))


@eqx.filter_jit
def _dense(system: System) -> Float[Array, "state state"]:
    action, size = linear_part(system)
    return jax.vmap(action, in_axes=1, out_axes=1)(jnp.eye(size))


@eqx.filter_jit
def _arnoldi(system: System, start: Float[Array, " state"]) -> tuple[Array, Array]:
    action, _ = linear_part(system)
    decompose = matfree.decomp.hessenberg(KRYLOV, reortho="full", custom_vjp=False)
    found = decompose(action, start)
    return found.J_small, found.residual
