"""The spectrum and target of all inputs, from a pool of N of them.

The pool's own eigenvalues and coefficients are not those of the population: the smaller an
eigenvalue, the more of it is chance. What they say of it they say through the equivalents that
random points have. With rho + S the pool's covariance with a ridge, kappa = 1 / mean 1/(l_k + rho),

    1/N sum_k l_k / (l_k + rho)  ->  1/N sum lambda / (lambda + kappa)
    sum_k a_k^2 / (l_k + rho)    ->  sum a^2 / (lambda + kappa),

l_k, a_k of the pool on the left, lambda, a of the population on the right (the Silverstein
equation; El Karoui 2008 inverts the first; Jacot et al. 2020 and Wei, Hu, Steinhardt 2022 use the
second). At many rho, complex ones too, both are linear equations for how many modes, and how much
of the target, there are at each lambda of a grid: least squares with none negative. Of what is
below the kappa of rho = 0 a pool knows the sums alone; n < N points do not learn there either.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.optimize
from jaxtyping import Complex, Float

from ntkdyn.theory.learning_curves.modes import Spectrum, spectrum_of

ANGLES = (0.0, 1.0, 2.0)
"""arg rho; at zero alone sums are known but smoothly"""

LEVELS = 60
"""of |rho|, evenly in its logarithm"""

GRID = 200
"""lambda, likewise"""

REACH = 10.0
"""How far below the least kappa, as a factor, the grid goes on."""


def population_of(kernel: Any, targets: Any) -> Spectrum:
    """lambda_k and a_k of all inputs, of which those of K are a sample: see `spectrum_of`.

    Points are then drawn from the population, none of them the pool's, and losses are means over
    it. For fewer points in all than the pool has. The number of modes is that of the fit; those
    below what the pool tells apart stand for the sum of all such, of eigenvalues and of target.

    Args:
        kernel: K (N, N), of the whole pool, symmetric.
        targets: y (N,) or (N, outputs), minus what the model has at the start.

    Returns:
        A `Spectrum`: values (modes,), the largest first, and target (modes, outputs).

    Raises:
        InputError: as for `spectrum_of`.

    Example:
        >>> whole = nd.theory.population_of(K, y)
        >>> bool(abs(whole.values.sum() / (np.trace(K) / 6) - 1) < 0.1)
        True
    """
    pool = spectrum_of(kernel, targets)
    rho = _ridges(pool.values)
    resolvent = 1 / (pool.values + rho[:, None])
    kappa = 1 / resolvent.mean(axis=1)
    grid = np.geomspace(np.abs(kappa).min() / REACH, 2 * pool.values[0], GRID)[::-1]
    taken = grid / (grid + kappa[:, None])
    values = _listed(grid, _fitted(taken, (pool.values * resolvent).sum(axis=1)))
    places, inverse, shared = np.unique(values, return_inverse=True, return_counts=True)
    felt = 1 / (places + kappa[:, None])
    power = np.stack([_fitted(felt, resolvent @ each) for each in np.square(pool.target).T], axis=1)
    return Spectrum(values, np.sqrt(power / shared[:, None])[inverse])


def _ridges(values: Float[np.ndarray, " modes"]) -> Complex[np.ndarray, " ridges"]:
    """rho, from what the smallest eigenvalues feel to what the largest does not."""
    least = max(values[-1], 1e-9 * values[0]) / 100
    sizes = np.geomspace(least, 30 * values[0], LEVELS)
    return np.outer(np.exp(1j * np.array(ANGLES)), sizes).ravel()


def _fitted(
    columns: Complex[np.ndarray, "ridges grid"], wanted: Complex[np.ndarray, " ridges"]
) -> Float[np.ndarray, " grid"]:
    """x >= 0 of the least sum of squared relative misses of columns x = wanted."""
    share = (columns / np.abs(wanted)[:, None]), wanted / np.abs(wanted)
    both = [np.concatenate([each.real, each.imag]) for each in share]
    return scipy.optimize.nnls(*both, maxiter=100 * columns.shape[1])[0]


def _listed(
    grid: Float[np.ndarray, " grid"], numbers: Float[np.ndarray, " grid"]
) -> Float[np.ndarray, " modes"]:
    """Eigenvalues one by one, the largest first: of each unit of the count the sum over it."""
    counted = np.concatenate([[0.0], np.cumsum(numbers)])
    summed = np.concatenate([[0.0], np.cumsum(numbers * grid)])
    edges = np.arange(np.ceil(counted[-1]) + 1)
    place = np.searchsorted(counted[1:-1], edges)
    mixed = np.diff(np.interp(edges, counted, summed))
    return np.where(np.diff(place) == 0, grid[place[:-1]], mixed)
