"""The eigenvectors of DGD: every round and every time at once, for small problems.

With K = F F^T, the rows F_a of F are features, and x_i = F^T c_i has the length of agent i's
displacement in parameter space. In these coordinates the method's map is symmetric,

    I - A = (I - W) (x) I + eta blkdiag(F_i^T F_i / n_i) = V diag(apart) V^T,

and a function g of it gives the round (g = sum_{s<t} (1 - apart)^s) or the flow's time
(g = (1 - exp(-apart t)) / apart). Directions that K does not have are never moved in.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import scipy.linalg
from jaxtyping import Float

from ntkdyn.dynamics.affine import Affine, Propagated
from ntkdyn.dynamics.contours import geometric_sum
from ntkdyn.dynamics.realization import Features
from ntkdyn.thresholds import LINEAR


class Modes:
    """The decomposition of one affine map; `propagate(t)` is its state in round t."""

    @staticmethod
    def exist(affine: Affine) -> bool:
        """Whether the method is DGD with symmetric W, by its loop."""
        if len(affine.loops) > 1:
            return False
        P, Q, R, _ = affine.loop
        if P.shape != Q.shape:
            return False
        step = -Q[0, 0]
        identity = np.eye(len(P))
        apart = (P - P.T, Q + step * identity, R - identity)
        return all(np.abs(each).max() <= LINEAR for each in apart)

    def __init__(self, affine: Affine) -> None:
        self._affine = affine
        agents, coordinates = affine.loop.Q.shape[1], len(affine.kernel)
        self.seconds = 10.0 * (coordinates**3 + (agents * coordinates) ** 3)

    @functools.cached_property
    def features(self) -> Features:
        return Features(self._affine.kernel)

    @functools.cached_property
    def _decomposed(self) -> tuple[np.ndarray, np.ndarray]:
        if self._alone:
            (own,) = self._owned()
            return self._share(own) * self.features.values, np.eye(len(self.features.values))
        return scipy.linalg.eigh(self.matrix(), driver="evd", check_finite=False)

    def matrix(self) -> Float[np.ndarray, "modes modes"]:
        """I - A in coordinates that keep lengths in parameter space."""
        affine, rank = self._affine, len(self.features.values)
        agents = len(affine.loop.P)
        blocks = np.kron(np.eye(agents) - affine.loop.P, np.eye(rank))
        for agent, own in enumerate(self._owned()):
            part = slice(agent * rank, (agent + 1) * rank)
            blocks[part, part] += self._pull(own)
        return blocks

    def _owned(self) -> list[np.ndarray]:
        return [self._affine.owner == agent for agent in range(len(self._affine.loop.P))]

    def _pull(self, own: np.ndarray) -> np.ndarray:
        """eta F_i^T F_i / n_i; diagonal where the agent owns everything."""
        if own.all():
            return np.diag(self._share(own) * self.features.values)
        return self._share(own) * self.features.rows[own].T @ self.features.rows[own]

    def _share(self, own: np.ndarray) -> float:
        """eta / n_i."""
        return -self._affine.loop.Q[0, 0] / self._affine.counts[own][0]

    def states(
        self, function: Callable[[np.ndarray], Float[np.ndarray, "modes times"]]
    ) -> Float[np.ndarray, "times states coordinates sides"]:
        """function(I - A) b for each of its columns, as coefficients."""
        return self._each(function, self.features.coefficients)

    def outputs(
        self, function: Callable[[np.ndarray], Float[np.ndarray, "modes times"]]
    ) -> Float[np.ndarray, "times states coordinates sides"]:
        """The same as what it adds to the outputs at the training points, K c."""
        return self._each(function, self.features.outputs)

    def _each(
        self,
        function: Callable[[np.ndarray], Float[np.ndarray, "modes times"]],
        read: Callable[[np.ndarray], np.ndarray],
    ) -> Float[np.ndarray, "times states coordinates sides"]:
        """What is read off the displacements, times and sides together in one product."""
        apart, vectors = self._decomposed
        scaled = function(np.maximum(apart, 0))[:, :, None] * (vectors.T @ self._drive)[:, None]
        modes, times, sides = scaled.shape
        flat = scaled.reshape(modes, -1)
        moved = flat if self._alone else vectors @ flat
        seen = read(moved.reshape(-1, len(self.features.values), times * sides))
        return np.moveaxis(seen.reshape(*seen.shape[:2], times, sides), 2, 0)

    @property
    def _alone(self) -> bool:
        """Whether one agent owns everything: the features are the modes."""
        return len(self._affine.loop.P) == 1

    @functools.cached_property
    def _drive(self) -> Float[np.ndarray, "modes sides"]:
        """b."""
        affine = self._affine
        felt = affine.loop.Q[0, 0] * affine.residual / affine.counts[:, None]
        return np.concatenate([self.features.rows[own].T @ felt[own] for own in self._owned()])

    def propagate(self, round: int) -> Propagated:
        """z_t; rounding is the decomposition's own, at most, carried through t rounds."""
        apart, vectors = self._decomposed
        wrong = np.abs(self.matrix() @ vectors - vectors * apart).max() if round else 0.0
        reach = min(round, 1 / max(np.abs(apart).min(), 1e-300))
        (state,) = self.states(lambda each: geometric_sum(each, round)[:, None])
        return Propagated(state, 0.0, float(4 * wrong * reach))
