"""The minimal realization of a method on a kernel: its rounds, on nothing but what they can move.

With K = F F^T the rows F_a of F are features, and x_i = F^T c_i has the length of agent i's
displacement in parameter space. On these displacements, and of the states only those that gradients
can reach (`loops.Reached`), a round is

    x <- P x + sum_i Q_i F_i^T (F_i (R x)_i + e_i) / n_i,

F_i the rows of agent i's points. Directions that the kernel does not have and sums that the method
keeps are no part of it, so that every eigenvalue is that of something training does. All that is
asked of a method's rounds is asked of this map: stability, limits, modes, variances, powers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import scipy.linalg
from jaxtyping import Float

from ntkdyn import thresholds
from ntkdyn.dynamics.affine import Affine
from ntkdyn.dynamics.loops import Loop, Noise, Reached, closed


class Features:
    """K = F F^T over the directions that K has, by its eigenvectors."""

    def __init__(self, kernel: Float[np.ndarray, "coordinates coordinates"]) -> None:
        values, vectors = scipy.linalg.eigh(kernel, driver="evd", check_finite=False)
        none = np.searchsorted(values, thresholds.RANK * len(values) * values[-1], side="right")
        self.values, self.vectors = values[none:], vectors[:, none:]
        self.rows = self.vectors * np.sqrt(self.values)

    def displacement(self, c: Float[np.ndarray, "*states coordinates sides"]) -> np.ndarray:
        """x = F^T c."""
        return self.rows.T @ c

    def read(self, kernel: Float[np.ndarray, "points coordinates"]) -> np.ndarray:
        """Features of other points, from their kernel with the training points."""
        return kernel @ self._inverse

    def coefficients(self, x: Float[np.ndarray, "*states features sides"]) -> np.ndarray:
        """c with F^T c = x."""
        return self._inverse @ x

    def outputs(self, x: Float[np.ndarray, "*states features sides"]) -> np.ndarray:
        """K c with F^T c = x."""
        return self.rows @ x

    @functools.cached_property
    def _inverse(self) -> Float[np.ndarray, "coordinates features"]:
        return self.vectors / np.sqrt(self.values)


def triangular(
    kernel: Float[np.ndarray, "coordinates coordinates"],
) -> Float[np.ndarray, "coordinates features"]:
    """F with K = F F^T to rounding, by Cholesky's factorization: for kernels too large for `eigh`.

    Where K is not positive to rounding, the least power of ten of its mean diagonal is added that
    makes it so: directions that K does not have become features of next to no curvature.
    """
    mean, share = np.trace(kernel) / len(kernel), thresholds.RANK * len(kernel)
    while True:
        try:
            raised = kernel + share * mean * np.eye(len(kernel))
            return scipy.linalg.cholesky(raised, lower=True, overwrite_a=True, check_finite=False)
        except np.linalg.LinAlgError:
            share *= 10


class Realization:
    """x -> A x + b in every round of a period, on states (free, features, sides) from zero."""

    def __init__(
        self,
        affine: Affine,
        rows: Float[np.ndarray, "coordinates features"],
        noises: Sequence[Noise] = (),
    ) -> None:
        self.affine, self.owned = affine, affine.owned()
        self.reached = Reached.by(affine.loops, noises)
        self.rows = [rows[own] for own in self.owned]
        self.counts = [affine.counts[own][0] for own in self.owned]
        self.residual = [affine.residual[own] for own in self.owned]
        self.shape = (self.reached.basis.shape[1], rows.shape[1])

    @property
    def size(self) -> int:
        """The dimension of the state, per side."""
        return self.shape[0] * self.shape[1]

    @property
    def period(self) -> int:
        """How many rounds there are maps of."""
        return len(self.reached.loops)

    def act(self, x: Float[np.ndarray, "free features sides"]) -> np.ndarray:
        """x after a period, without the drive."""
        for loop in self.reached.loops:
            x = self._round(loop, x)
        return x

    def _round(self, loop: Loop, x: np.ndarray) -> np.ndarray:
        felt = np.empty((len(self.rows), *x.shape[1:]))
        for agent, (rows, seen) in enumerate(
            zip(self.rows, np.tensordot(loop.R, x, 1), strict=True)
        ):
            felt[agent] = rows.T @ (rows @ seen) / self.counts[agent]
        return np.tensordot(loop.P, x, 1) + np.tensordot(loop.Q, felt, 1)

    def matrix(self, round: int = 0) -> Float[np.ndarray, "state state"]:
        """A of a round, dense."""
        loop = self.reached.loops[round % self.period]
        return self.closed(loop.P, loop.ports)

    def closed(
        self,
        P: Float[np.ndarray, "free before"],
        ports: Float[np.ndarray, "free before agents"],
    ) -> Float[np.ndarray, "state entering"]:
        """A of a loop with these, dense, or B of noise."""
        return closed(P, ports, self._hessians)

    def drive(self, round: int = 0) -> Float[np.ndarray, "state sides"]:
        """b of a round."""
        return self.pulled(self.reached.loops[round % self.period].Q)

    def pulled(self, Q: Float[np.ndarray, "free agents"]) -> Float[np.ndarray, "state sides"]:
        """What agents' gradients at theta_0 add to the state, by way of Q."""
        return np.tensordot(Q, self._pulls, 1).reshape(len(Q) * self.shape[1], -1)

    @functools.cached_property
    def over_period(self) -> tuple[np.ndarray, np.ndarray]:
        """A and b of a whole period."""
        matrix, drive = self.matrix(), self.drive()
        for round in range(1, self.period):
            once = self.matrix(round)
            matrix, drive = once @ matrix, once @ drive + self.drive(round)
        return matrix, drive

    @functools.cached_property
    def _hessians(self) -> Float[np.ndarray, "agents features features"]:
        """H_i = F_i^T F_i / n_i."""
        return np.stack(
            [rows.T @ rows / count for rows, count in zip(self.rows, self.counts, strict=True)]
        )

    @functools.cached_property
    def _pulls(self) -> Float[np.ndarray, "agents features sides"]:
        """F_i^T e_i / n_i."""
        return np.stack(
            [
                rows.T @ off / count
                for rows, off, count in zip(self.rows, self.residual, self.counts, strict=True)
            ]
        )

    def resolvent(self, shift: complex | float) -> Callable[[np.ndarray], np.ndarray]:
        """(lambda - A)^-1 for lambda = 1 + shift on states, where all rounds are the same."""
        (loop,), owner = self.reached.loops, self.affine.owner
        inverse, transfer = loop.at(shift)
        coupled = np.diag(self.affine.counts) - self.affine.kernel * transfer[np.ix_(owner, owner)]
        factors = scipy.linalg.lu_factor(coupled, overwrite_a=True, check_finite=False)

        def solve(x: np.ndarray) -> np.ndarray:
            free = np.tensordot(inverse, x, 1)
            seen = np.tensordot(loop.R, free, 1)
            felt = np.empty((len(owner), x.shape[2]), seen.dtype)
            for own, rows, one in zip(self.owned, self.rows, seen, strict=True):
                felt[own] = rows @ one
            u = scipy.linalg.lu_solve(factors, felt)
            pulled = [rows.T @ u[own] for own, rows in zip(self.owned, self.rows, strict=True)]
            return free + np.tensordot(inverse @ loop.Q, np.stack(pulled), 1)

        return solve

    def iterate(self, x: Float[np.ndarray, "state sides"]) -> np.ndarray:
        """The agents' displacements (agents, features, sides)."""
        return np.tensordot(self.reached.loops[0].X, x.reshape(*self.shape, -1), 1)

    def states(self, x: Float[np.ndarray, "state sides"]) -> np.ndarray:
        """The method's whole state (states, features, sides), of which x is the part that moves."""
        return np.tensordot(self.reached.basis, x.reshape(*self.shape, -1), 1)
