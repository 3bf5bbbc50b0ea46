"""Where stability is lost at lambda = -1 first, whatever the kernel: the limit in closed form.

Errors turn from decay to growth where an eigenvalue of A crosses the unit circle: where the matrix
diag(n_o) - eta K * G(lambda)[o, o'] is singular for some lambda = e^(i theta), G the transfer
function at step size one. With symmetric W, G(lambda) is a function g(w; lambda) of W. Suppose that
for every theta there is a number phi with

    Re g(w; e^(i theta)) + phi Im g(w; e^(i theta)) <= g(w; -1)       for all eigenvalues w of W.

Let u be in the kernel of diag(n) - eta K * G, eta real. Then u* (K * Im G) u = 0, so for any phi

    u* n u = eta u* (K * (Re G + phi Im G)) u <= eta u* (K * G(-1)) u,

because K * (G(-1) - Re G - phi Im G) is positive semidefinite (Schur's product theorem). So nothing
crosses below eta = 1 / lambda_max(K * G(-1) / sqrt(n n')), and there an eigenvalue is -1. Above it,
lambda_max(eta K * G(lambda) / sqrt(n n')) falls from above one at lambda = -1 to zero at -infinity,
so that a real eigenvalue lies below -1: the method is unstable at every larger step. Small steps
are stable where g(w; lambda) <= 0 for real lambda > 1 and the method without gradients only
averages.

It is a condition on the method and on the smallest eigenvalue of W alone. It holds for DGD, EXTRA,
exact diffusion, NIDS, DIGing and Aug-DGM with any symmetric W they take, and for ATC, CTA, D^2,
GUT, momentum and quasi-global momentum with W >= 0. (It is a circle criterion with a multiplier;
we know of no source for its use here. tests/test_stability.py holds it against eigenvalues.)
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Complex, Float

from ntkdyn.dynamics.loops import Loop, loops_on
from ntkdyn.graphs import MixingMatrix
from ntkdyn.methods import Method
from ntkdyn.methods.mixing import Dense

SLACK = 1e-9
"""By this share the inequality may fail; the limit is then too large by no more."""

NEAR_ONE = 1e-7
"""Eigenvalues of a method without gradients that are this close to one are one."""


def crosses_at_minus_one(method: Method, weights: MixingMatrix) -> bool:
    """Whether the inequality above holds, on a grid of angles and eigenvalues.

    The method must be one affine map in every round, and W symmetric.
    """
    values = _between(weights.smallest_eigenvalue)
    alone = _by_mode(method, values)
    if not all(_averages(each) for each in alone):
        return False
    least = _transfer(alone, np.array([-1.0 + 0j])).real
    above = _transfer(alone, (1 + np.geomspace(1e-7, 1e6, 60)).astype(complex)).real
    slack = SLACK * np.abs(least).max()
    if above.max() > slack:
        return False
    around = _transfer(alone, np.exp(1j * _angles()))
    return bool(_multiplier_exists(least - around.real + slack, around.imag).all())


def _between(smallest: float) -> Float[np.ndarray, " values"]:
    """Eigenvalues from the smallest to one, denser towards both ends and towards zero."""
    towards = np.geomspace(1e-5, 1, 16)
    ends = [1 - (1 - smallest) * towards / 2, smallest + (1 - smallest) * towards / 2]
    return np.unique(np.concatenate([[smallest, max(smallest, 0.0), 1.0], *ends]))


def _angles() -> Float[np.ndarray, " angles"]:
    """From nearly zero to nearly pi, denser towards both."""
    ends = np.geomspace(1e-6, 0.1, 120)
    return np.concatenate([ends, np.linspace(0.1, np.pi - 0.1, 500), np.pi - ends[40:]])


def _by_mode(method: Method, values: Float[np.ndarray, " modes"]) -> list[Loop]:
    """The loops at step size one of agents alone that W multiplies by one of its eigenvalues."""
    modes = len(values)
    (loop,) = loops_on(method.with_step_size(1.0), Dense(jnp.diag(jnp.asarray(values))), modes)
    P, Q = loop.P.reshape(-1, modes, len(loop.P) // modes, modes), loop.Q.reshape(-1, modes, modes)
    R, X = (each.reshape(modes, -1, modes) for each in (loop.R, loop.X))
    return [
        Loop(P[:, one, :, one], Q[:, one, one, None], R[None, one, :, one], X[None, one, :, one])
        for one in range(modes)
    ]


def _averages(alone: Loop) -> bool:
    """Whether without gradients nothing stays but, at most, one common value."""
    if np.abs(alone.X @ alone.Q).max() == 0:
        return True
    found = np.linalg.eigvals(alone.moving.P)
    stays = np.abs(found - 1) <= NEAR_ONE
    return bool(stays.sum() <= 1 and (np.abs(found[~stays]) < 1).all())


def _transfer(
    alone: list[Loop], points: Complex[np.ndarray, " points"]
) -> Complex[np.ndarray, "points modes"]:
    """g(w; lambda) for every w and lambda."""
    P, Q, R = (np.stack([getattr(loop, name) for loop in alone]) for name in "PQR")
    apart = points[:, None, None, None] * np.eye(P.shape[1]) - P
    return (R @ np.linalg.solve(apart, np.broadcast_to(Q, (*apart.shape[:3], 1))))[..., 0, 0]


def _multiplier_exists(
    room: Float[np.ndarray, "points modes"], imaginary: Float[np.ndarray, "points modes"]
) -> np.ndarray:
    """At which points some phi has phi * imaginary <= room in all modes."""
    with np.errstate(divide="ignore", invalid="ignore"):
        bounds = room / imaginary
    highest = np.where(imaginary > 0, bounds, np.inf).min(axis=1)
    lowest = np.where(imaginary < 0, bounds, -np.inf).max(axis=1)
    return (lowest <= highest) & (np.where(imaginary == 0, room, 0) >= 0).all(axis=1)
