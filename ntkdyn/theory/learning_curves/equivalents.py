"""Deterministic equivalents of a method's rounds on random points: one point z, and two.

A method is z <- P z + Q u, v = R z, x = X z (`dynamics.loops`), its transfer functions are

    H(z) = -R (z - P)^-1 Q        gradients to where gradients are taken
    F(z) = -X (z - P)^-1 Q        gradients to iterates

and agent j's gradient is S_j (v_j - theta) - X_j' noise / n_j with S_j = X_j' X_j / n_j. With
Gaussian points of covariance diag(lambda_k), D(z) = diag(s) and s fixed by

    s_j = 1 / (1 + 1/n_j sum_k lambda_k G_k,jj),      G_k = H (I + lambda_k D H)^-1,

the resolvent of the random S is that of lambda_k D, mode by mode. Without sampling noise the error
of mode k is (starting at theta = 0, the factor z / (z - 1) left out)

    r_k = (I + lambda_k H D)^-1 1  at v,      y_k = 1 - lambda_k F D r_k  at x.

What agent l's sample adds is a random force of covariance lambda_k s_l s'_l / n_l (E_l + sigma^2)
in mode k, E_l the squared error at its own v_l, so that at two points z, z' (primed)

    E_j = sum_k lambda_k theta_k^2 r_k,j r'_k,j + sum_l N_jl a_l (E_l + sigma^2),
    N_jl = sum_k lambda_k^2 G_k,jl G'_k,jl,      a_l = s_l s'_l / n_l,

and the same with F in place of the first H gives the error at x. Agents may have covariances that
commute, lambda_jk, and targets of their own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float

from ntkdyn.dynamics.loops import Loop
from ntkdyn.errors import InputError
from ntkdyn.theory.learning_curves.modes import Modes

SETTLED = 1e-11
"""The residual s (1 + t) - 1 of the fixed point, at which it counts as found."""

LEAST = 1e-8
"""The residual with which it is still taken, where rounding leaves no less."""

BASIS = 1e6
"""Eigenvectors whose inverse has larger entries are no good basis."""

NEWTON_STEPS = 25

FAR = 1.0
"""log |z| at which the fixed point is sought first, from s = 1."""


class Unstable(InputError):
    """There is no curve at this step size."""


class OnePoint(NamedTuple):
    """What is known at nodes z."""

    shares: Complex[np.ndarray, "nodes agents"]
    """s"""
    felt: Complex[np.ndarray, "nodes modes agents agents"]
    """G_k"""
    moved: Complex[np.ndarray, "nodes modes outputs agents"]
    """the same for the iterates, F (I + lambda_k D H)^-1"""
    at_gradients: Complex[np.ndarray, "nodes modes agents columns"]
    """r_k"""
    at_iterates: Complex[np.ndarray, "nodes modes outputs columns"]
    """y_k"""
    residual: float


class Medium:
    """A method on a graph among agents whose points are random."""

    def __init__(
        self,
        loop: Loop,
        readout: Float[np.ndarray, "outputs agents"],
        modes: Modes,
        counts: Float[np.ndarray, " agents"],
    ) -> None:
        self.loop, self.modes, self.counts = loop, modes, counts
        self.readout = readout @ loop.X

    def at(self, shifts: Complex[np.ndarray, " nodes"]) -> OnePoint:
        """The equivalents at z = 1 + shift, |z| > 1."""
        shares, residual = self._shares(shifts)
        H, F = self._transfer(shifts)
        inner, values = self._inner(H, shares), self.modes.values
        felt, moved = H[:, None] @ inner, F[:, None] @ inner
        pushed = (values * shares[:, None])[..., None] * self.modes.targets
        test = self.modes.test_targets[:, None, :]
        return OnePoint(
            shares, felt, moved, self.modes.targets - felt @ pushed, test - moved @ pushed, residual
        )

    def residual(self, shifts: np.ndarray, shares: np.ndarray) -> float:
        """What these s leave of their equation."""
        return float(np.abs(self._linearized(self._transfer(shifts)[0], shares)[0]).max())

    def _transfer(self, shifts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """H and F."""
        loop, identity = self.loop, np.eye(len(self.loop.P))
        solved = np.linalg.solve(shifts[:, None, None] * identity + (identity - loop.P), loop.Q)
        return -loop.R @ solved, -self.readout @ solved

    def _inner(self, H: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """(I + lambda_k D H)^-1."""
        modal = self._modal(H, shares)
        if modal is not None:
            vectors, inverse, damping = modal
            return (vectors[:, None] * damping[:, :, None, :]) @ inverse[:, None]
        weighted = self.modes.values * shares[:, None]
        return np.linalg.inv(np.eye(H.shape[-1]) + weighted[..., None] * H[:, None])

    def _modal(self, H: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, ...] | None:
        """U, U^-1 and 1 / (1 + lambda_k mu) of D H = U diag(mu) U^-1, which all modes share.

        None where they do not, or where U is no good basis.
        """
        if not self.modes.alike:
            return None
        values, vectors = np.linalg.eig(shares[..., None] * H)
        try:
            inverse = np.linalg.inv(vectors)
        except np.linalg.LinAlgError:
            return None
        if np.abs(inverse).max() > BASIS:
            return None
        spectrum = self.modes.test_values[:, None]
        return vectors, inverse, 1 / (1 + spectrum * values[:, None])

    def _shares(self, shifts: np.ndarray) -> tuple[np.ndarray, float]:
        """s at every node, followed from far outside towards it, and the largest residual."""
        path = np.log1p(shifts)
        shares = np.ones((len(shifts), len(self.counts)), complex)
        radius, worst = FAR, np.full(len(shifts), np.inf)
        while True:
            near = radius <= np.maximum(path.real, np.abs(path.imag) / 4)
            going = np.isinf(worst)
            here = np.where(near, path, radius + 1j * path.imag)[going]
            shares[going], left = self._settled(np.expm1(here), shares[going])
            worst[going] = np.where(near[going], left, np.inf)
            if near.all():
                return shares, float(worst.max(initial=0.0))
            radius /= 3

    def _settled(self, shifts: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Newton's method from these s, and the residuals that are left."""
        H, _ = self._transfer(shifts)
        shares, left = shares.copy(), np.full(len(shifts), np.inf)
        active = np.arange(len(shifts))
        for _ in range(NEWTON_STEPS):
            residual, slope = self._linearized(H[active], shares[active])
            size = np.abs(residual).max(axis=1)
            left[active] = size
            going = size > SETTLED
            if not going.any():
                break
            active = active[going]
            step = np.linalg.solve(slope[going], -residual[going][..., None])[..., 0]
            shorter = np.minimum(1, 0.5 / np.maximum(np.abs(step).max(axis=1), 1e-300))
            shares[active] *= 1 + shorter[:, None] * step
        if not (left <= LEAST).all():
            raise Unstable(
                f"the fixed point at z = {1 + shifts[left.argmax()]:.4g} does not settle, a "
                f"residual of {left.max():.2g} is left"
            )
        return shares, left

    def _linearized(self, H: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """s (1 + t) - 1, and its derivative in log s."""
        own, coupled = (each / self.counts for each in self._sums(H, shares))
        slope = -shares[:, :, None] * coupled.swapaxes(1, 2) * shares[:, None, :]
        slope += (shares * (1 + own))[..., None] * np.eye(len(self.counts))
        return shares * (1 + own) - 1, slope

    def _sums(self, H: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """sum_k lambda_k G_k,jj and, at l, j, sum_k lambda_k^2 G_k,jl G_k,lj."""
        modal = self._modal(H, shares)
        values, weights = self.modes.values, self.modes.weights[:, None]
        if modal is None:
            felt = H[:, None] @ self._inner(H, shares)
            own = np.einsum("kj,zkjj->zj", weights * values, felt)
            first, second = weights * values, values
            return own, np.einsum("kj,kl,zkjl,zklj->zlj", first, second, felt, felt)
        vectors, inverse, damping = modal
        outer = (H @ vectors)[..., None] * inverse.swapaxes(1, 2)[:, :, None]
        weighted = weights * values[:, :1] * damping
        own = np.einsum("za,zjaa->zj", weighted.sum(axis=1), outer)
        pairs = weighted.swapaxes(1, 2) @ (values[:, :1] * damping)
        flat = (len(H), len(self.counts), -1)
        left = (outer * pairs[:, None]).reshape(flat)
        return own, outer.swapaxes(2, 3).reshape(flat) @ left.swapaxes(1, 2)


class TwoPoint(NamedTuple):
    """What samples and their noise add to squared errors at x, beyond y_k y'_k."""

    sampling: Complex[np.ndarray, "nodes nodes2 outputs"]
    noise: Complex[np.ndarray, "nodes nodes2 outputs"]
    """for a label noise of variance one"""


def two_points(medium: Medium, left: OnePoint, right: OnePoint) -> TwoPoint:
    """The equivalents at all pairs of nodes of `left` and `right`."""
    modes, counts = medium.modes, medium.counts
    both = modes.weights[:, None, None] * modes.values[:, None, :]
    coupled = _summed(both * modes.values[:, :, None], left.felt, right.felt)
    seen = _summed(both * modes.test_values[:, None, None], left.moved, right.moved)
    amplitude = left.shares[:, None] * right.shares / counts
    weighted = np.einsum("kj,zkjo->zkjo", modes.target_weights, left.at_gradients)
    start = np.einsum("zkjo,wkjo->zwj", weighted, right.at_gradients, optimize=True)
    spread = coupled * amplitude[:, :, None, :]
    forced = np.stack([start, spread.sum(axis=-1)], axis=-1)
    errors = np.linalg.solve(np.eye(len(counts)) - spread, forced)
    errors[..., 1] += 1
    added = seen @ (amplitude[..., None] * errors)
    return TwoPoint(added[..., 0], added[..., 1])


def _summed(weights: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """sum_k w_k,jl left_k,jl(z) right_k,jl(z'), as (nodes, nodes2, j, l)."""
    first = np.ascontiguousarray(np.moveaxis(left * weights, (2, 3), (0, 1)))
    second = np.ascontiguousarray(np.moveaxis(right, (2, 3), (0, 1)))
    return np.moveaxis(first @ second.swapaxes(-1, -2), (0, 1), (2, 3))
