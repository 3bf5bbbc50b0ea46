"""Diagnostics: how well conditioned a kernel is, how far it moved, how it fits its targets."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float

from ntkdyn.errors import InputError


class Diagnosis(NamedTuple):
    """The spectrum of a kernel in short."""

    smallest: float
    largest: float
    rank: int
    """eigenvalues above size x unit roundoff x the largest"""
    size: int
    condition: float
    """largest / smallest eigenvalue; infinite where the smallest is not above the rounding"""
    dtype: str
    jitter: float
    """the smallest multiple of the identity found that makes a Cholesky factor exist"""

    def __str__(self) -> str:
        why = (
            "no jitter needed"
            if not self.jitter
            else f"jitter {self.jitter:.3g}: without it no Cholesky factor exists in {self.dtype}, "
            f"as the smallest eigenvalue, {self.smallest:.3g}, is within rounding of zero or below"
        )
        return (
            f"eigenvalues {self.smallest:.6g} to {self.largest:.6g}, rank {self.rank} of "
            f"{self.size}, condition {self.condition:.3g} in {self.dtype}; {why}"
        )


def diagnose(kernel: Any) -> Diagnosis:
    """Eigenvalues, rank, condition and jitter of a symmetric kernel.

    (n, n), or (n, k, n, k), which is read as (n k, n k). The spectrum is computed in float64, but
    rank and jitter are those of the kernel's own dtype.
    """
    matrix = square("kernel", kernel)
    size, roundoff = len(matrix), float(np.finfo(matrix.dtype).eps)
    values = scipy.linalg.eigvalsh(matrix.astype(np.float64))
    smallest, largest = float(values[0]), float(values[-1])
    threshold = size * roundoff * max(abs(smallest), abs(largest))
    return Diagnosis(
        smallest=smallest,
        largest=largest,
        rank=int((values > threshold).sum()),
        size=size,
        condition=largest / smallest if smallest > threshold else float("inf"),
        dtype=str(matrix.dtype),
        jitter=jitter(matrix),
    )


def jitter(kernel: Any) -> float:
    """The smallest of 0 and unit roundoff x mean diagonal x 2^i for which K + jitter I factors."""
    matrix = square("kernel", kernel)
    scale = float(np.finfo(matrix.dtype).eps * max(np.trace(matrix) / len(matrix), 0))
    if not scale:
        raise InputError("kernel: must have a positive diagonal on average, or no jitter helps")
    for candidate in (0.0, *(scale * 2.0**i for i in range(64))):
        try:
            np.linalg.cholesky(matrix + np.asarray(candidate * np.eye(len(matrix)), matrix.dtype))
        except np.linalg.LinAlgError:
            continue
        return candidate
    raise InputError("kernel: is far from positive semidefinite; no jitter makes it factor")


def drift(kernel: Any, initial: Any) -> float:
    """|K - K_0| / |K_0| in the Frobenius norm: how far the kernel moved along a run.

    NaN for the kernel of a run that diverged, and where K_0 is zero.
    """
    then = square("initial", initial)
    now = square("kernel", kernel) if np.isfinite(kernel).all() else np.full_like(then, np.nan)
    if now.shape != then.shape:
        raise InputError(f"initial: must have the kernel's size {now.shape}, got {then.shape}")
    return float(np.linalg.norm(now - then) / np.linalg.norm(then)) if then.any() else np.nan


def alignment(kernel: Any, targets: Any) -> float:
    """<K, y y^T> / (|K| |y y^T|), from -1 to 1: how much of the kernel is in the targets' span.

    A kernel (n, n) takes targets (n,) or (n, k), with y y^T summed over outputs; one of
    (n, k, n, k) takes (n, k), read as one vector. NaN for the kernel of a run that diverged, and
    for one that is zero.
    """
    if not np.isfinite(kernel).all() or not np.any(kernel):
        return float("nan")
    full = np.ndim(kernel) == 4
    matrix, y = square("kernel", kernel), np.asarray(targets, np.float64)
    y = y.reshape(-1, 1) if full or y.ndim == 1 else y
    if len(y) != len(matrix):
        raise InputError(f"targets: must be {len(matrix)} for this kernel, got {len(y)}")
    inner = y.T @ y
    if not inner.any():
        raise InputError("targets: must not all be zero")
    return float(np.sum(y * (matrix @ y)) / np.linalg.norm(matrix) / np.linalg.norm(inner))


def square(name: str, kernel: Any) -> Float[np.ndarray, "n n"]:
    """A finite kernel as a square matrix."""
    array = np.asarray(kernel)
    if array.ndim == 4:
        n, k, m, j = array.shape
        array = array.reshape(n * k, m * j)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or not array.size:
        raise InputError(f"{name}: must be square, (n, n) or (n, k, n, k), got {np.shape(kernel)}")
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise InputError(f"{name}: has entries that are not finite")
    return array
