"""The outermost eigenvalues of a method's rounds on a kernel: what grows, and how fast.

Small realizations are decomposed whole. Of larger ones those on the rim are found by Arnoldi
iteration, begun where (A - 1) leads, as slow modes crowd next to one and are of no interest here. A
Ritz value counts as found where its residual is below a tenth of its distance from the unit circle:
what crowds inside the disc never converges and need not, while what has left it stands apart. One
that lies outside and is not yet found is sought again, from its own Ritz vector.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse.linalg
from jaxtyping import Complex, Float

from ntkdyn import thresholds
from ntkdyn.dynamics.realization import Realization

KRYLOV = 150
"""The dimension of the Krylov space in which the outermost eigenvalues of a larger A are sought."""

RENEWALS = 6
"""How often a Krylov space is begun again for what lies outside and is not yet found."""

GROWS = 1e-9
"""By so much a modulus may exceed one and still be rounding."""


def wholly(whole: Realization) -> bool:
    """Whether all eigenvalues are computed, not only those on the rim."""
    return whole.size <= thresholds.EIGENVALUES_UP_TO


def outer_eigenvalues(whole: Realization) -> Complex[np.ndarray, " found"]:
    """All eigenvalues of A over a period where A is small, otherwise those found on its rim.

    Steps so large that lengths overflow have the eigenvalue infinity.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if not wholly(whole):
            return _rim(whole)
        matrix, _ = whole.over_period
        if not np.isfinite(matrix).all():
            return np.array([complex(np.inf)])
        return np.linalg.eigvals(matrix).astype(complex)


def largest_eigenvalue(matrix: Float[np.ndarray, "rows rows"]) -> float:
    """Of a symmetric matrix, in its precision, by Lanczos iteration from 10 rows on."""
    if len(matrix) < 10:
        return float(np.linalg.eigvalsh(matrix)[-1])
    start = np.random.default_rng(0).standard_normal(len(matrix)).astype(matrix.dtype)
    values = scipy.sparse.linalg.eigsh(matrix, 1, which="LA", v0=start, return_eigenvectors=False)
    return float(values[0])


class Ritz(NamedTuple):
    """Approximate eigenvalues, the sizes of their residuals, and the space they are from."""

    values: Complex[np.ndarray, " krylov"]
    errors: Float[np.ndarray, " krylov"]
    vectors: Complex[np.ndarray, "krylov krylov"]
    basis: Float[np.ndarray, "krylov state"]

    @property
    def found(self) -> np.ndarray:
        """Which are eigenvalues, as far as it takes to tell them from those on the circle."""
        return self.errors < np.maximum(np.abs(np.abs(self.values) - 1) / 10, 1e-12)

    @property
    def sought(self) -> np.ndarray:
        """Which lie outside of all that are found, and may be none."""
        rim = max(1 + GROWS, np.abs(self.values[self.found]).max(initial=0))
        return ~self.found & (np.abs(self.values) > rim)


def _rim(whole: Realization) -> Complex[np.ndarray, " found"]:
    start = np.random.default_rng(0).standard_normal(whole.size)
    vector = whole.act(start.reshape(*whole.shape, 1)).reshape(-1) - start
    for _ in range(RENEWALS):
        ritz = _arnoldi(whole, vector)
        if ritz is None:
            return np.array([complex(np.inf)])
        if not ritz.sought.any():
            break
        towards = ritz.vectors[:, ritz.sought | (ritz.found & (np.abs(ritz.values) > 1))]
        vector = (towards.real + towards.imag).sum(axis=1) @ ritz.basis
    return ritz.values[ritz.found]


def _arnoldi(whole: Realization, start: Float[np.ndarray, " state"]) -> Ritz | None:
    """The Ritz values of the Krylov space of `start`; None where numbers run over."""
    many, length = min(KRYLOV, whole.size), np.linalg.norm(start)
    if not np.isfinite(length):
        return None
    basis, hessenberg = np.zeros((many + 1, whole.size)), np.zeros((many + 1, many))
    basis[0] = start / length
    for k in range(many):
        new = whole.act(basis[k].reshape(*whole.shape, 1)).reshape(-1)
        scale = np.linalg.norm(new)
        if not np.isfinite(scale):
            return None
        for _ in range(2):
            along = basis[: k + 1] @ new
            new -= along @ basis[: k + 1]
            hessenberg[: k + 1, k] += along
        hessenberg[k + 1, k] = np.linalg.norm(new)
        if hessenberg[k + 1, k] <= 1e-14 * scale:
            many = k + 1
            break
        basis[k + 1] = new / hessenberg[k + 1, k]
    values, vectors = np.linalg.eig(hessenberg[:many, :many])
    errors = np.abs(hessenberg[many, many - 1] * vectors[-1])
    return Ritz(values.astype(complex), errors, vectors, basis[:many])


def spectral_radius(whole: Realization) -> float:
    """max |eigenvalue| of A over a period, as far as found: up to one, nothing grows."""
    return float(np.abs(outer_eigenvalues(whole)).max(initial=0))
