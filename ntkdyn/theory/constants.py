"""Landscape: the constants that convergence theorems ask for, of the linearized problem at hand.

In parameters x = theta - theta_0 every agent has a quadratic with the squared error,

    f_i(x) = 1/(2 n_i) |J_i x + r_i|^2,   r = f(theta_0) - y,   F = 1/m sum_i f_i,

and H_i = J_i^T J_i / n_i. All constants follow from K = J J^T. With D = diag(1 / (m n_owner)) the
matrix D^(1/2) K D^(1/2) has the eigenvalues of the mean Hessian on what training can reach, the
range of J^T; strong convexity is meant there, as no iterate ever leaves it.

With the cross-entropy second derivatives are at most half of these, all f_i >= 0, and no minimiser
is known.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.sparse.linalg
from jaxtyping import Float, Int

from ntkdyn import precision, thresholds
from ntkdyn.dynamics.linear_problem import LinearProblem
from ntkdyn.dynamics.sources import batch_covariance
from ntkdyn.linear import Choice
from ntkdyn.losses import Loss
from ntkdyn.problems import KernelProblem, Problem
from ntkdyn.thresholds import NEGLIGIBLE

__all__ = ["ProblemConstants", "Reach", "problem_constants"]


class Reach(NamedTuple):
    """D^(1/2) K D^(1/2) = U diag(s) U^T on its range.

    Example:
        >>> nd.theory.constants.problem_constants(bare).reach.vectors.shape
        (6, 6)
    """

    values: Float[np.ndarray, " rank"]
    """s, ascending: the eigenvalues of the mean Hessian"""
    vectors: Float[np.ndarray, "rows rank"]


@dataclass(frozen=True, eq=False)
class ProblemConstants(LinearProblem):
    """The linear problem, whose coordinates are rows here, and what theorems ask of it.

    Example:
        >>> constants = nd.theory.constants.problem_constants(bare)
        >>> 0 < constants.mean_convexity <= constants.mean_smoothness
        True
    """

    loss: Loss
    local_starts: Float[np.ndarray, " agents"]
    """f_i(0)"""
    initial: Float[np.ndarray, "train outputs"]
    """f(theta_0)"""
    kernel_name: str

    @functools.cached_property
    def share(self) -> Float[np.ndarray, " rows"]:
        """D: the weight of each row in F."""
        return 1 / (self.agents * self.counts)

    @property
    def quadratic(self) -> bool:
        return self.loss.name == "mse"

    @functools.cached_property
    def reach(self) -> Reach:
        root = np.sqrt(self.share)
        values, vectors = np.linalg.eigh(root[:, None] * self.kernel * root)
        kept = values > NEGLIGIBLE * values[-1]
        return Reach(values[kept], vectors[:, kept])

    @functools.cached_property
    def _local_spectra(self) -> list[Float[np.ndarray, " rows_i"]]:
        """Eigenvalues of K_ii / n_i, descending."""
        return [
            self.agents * np.linalg.eigvalsh(self._weighted(rows))[::-1] for rows in self.owned()
        ]

    def _weighted(self, rows: np.ndarray) -> Float[np.ndarray, "rows_i rows_i"]:
        root = np.sqrt(self.share[rows])
        return root[:, None] * self.kernel[np.ix_(rows, rows)] * root

    @functools.cached_property
    def smoothness(self) -> float:
        """L = max_i lambda_max(H_i), times the largest second derivative of the loss."""
        return self.loss.curvature * float(max(spectrum[0] for spectrum in self._local_spectra))

    @functools.cached_property
    def local_convexities(self) -> Float[np.ndarray, " agents"]:
        """mu_i: the smallest eigenvalue of H_i on what training can reach."""
        rank = len(self.reach.values)
        least = [s[rank - 1] if len(s) >= rank else 0.0 for s in self._local_spectra]
        known = np.array(least) * self.quadratic
        return np.where(known > NEGLIGIBLE * self.smoothness, known, 0.0)

    @property
    def convexity(self) -> float:
        """mu = min_i mu_i."""
        return float(self.local_convexities.min())

    @functools.cached_property
    def mean_smoothness(self) -> float:
        """The same of F: lambda_max of the mean Hessian."""
        return self.loss.curvature * float(self.reach.values[-1])

    @functools.cached_property
    def mean_convexity(self) -> float:
        """The smallest eigenvalue of the mean Hessian on what training can reach."""
        return float(self.reach.values[0]) if self.quadratic else 0.0

    @property
    def size(self) -> int:
        """Numbers in a stacked iterate, per column."""
        return self.agents * len(self.reach.values)

    @property
    def targets(self) -> Float[np.ndarray, "train outputs"]:
        """y."""
        return self.initial - self.residual.reshape(self.initial.shape)

    @property
    def point_owner(self) -> Int[np.ndarray, " train"]:
        """The owner of each training point."""
        return self.owner[:: len(self.owner) // len(self.initial)]

    # --- values, and where they are least ---------------------------------------------------

    @functools.cached_property
    def _scaled(self) -> Float[np.ndarray, "rows columns"]:
        return np.sqrt(self.share)[:, None] * self.residual

    @functools.cached_property
    def along(self) -> Float[np.ndarray, "rank columns"]:
        """U^T D^(1/2) r: what of the scaled residual training can reach."""
        return self.reach.vectors.T @ self._scaled

    @functools.cached_property
    def left(self) -> float:
        """|D^(1/2) (f - y)| at x*."""
        return float(np.linalg.norm(self._left))

    @functools.cached_property
    def size_of_outputs(self) -> float:
        """|D^(1/2) f| + |D^(1/2) y| at the start: what rounding is a share of."""
        root = np.sqrt(self.share)[:, None]
        sizes = [each.reshape(self.residual.shape) for each in (self.initial, self.targets)]
        return float(sum(np.linalg.norm(root * each) for each in sizes))

    @functools.cached_property
    def _left(self) -> Float[np.ndarray, "rows columns"]:
        """What of the scaled residual remains at x*."""
        return self._scaled - self.reach.vectors @ self.along

    @property
    def start_excess(self) -> float:
        """F(0) - min F; of the part in reach, so that no digit cancels."""
        if not self.quadratic:
            return float(self.local_starts.mean())
        return 0.5 * float(np.sum(self.along**2))

    @functools.cached_property
    def distance(self) -> float:
        """|x*|: from the start to the nearest minimiser of F."""
        return float(np.sqrt(np.sum(self.along**2 / self.reach.values[:, None])))

    @functools.cached_property
    def local_excesses(self) -> Float[np.ndarray, " agents"]:
        """f_i(0) - min f_i; with the cross-entropy f_i(0), as f_i may come near zero."""
        if not self.quadratic:
            return self.local_starts
        return np.array([self._local_excess(rows) for rows in self.owned()])

    def _local_excess(self, rows: np.ndarray) -> float:
        values, vectors = np.linalg.eigh(self._weighted(rows))
        inside = vectors[:, values > NEGLIGIBLE * values[-1]]
        return 0.5 * self.agents * float(np.sum((inside.T @ self._scaled[rows]) ** 2))

    @functools.cached_property
    def gradient_bound(self) -> float:
        """D = sqrt(2 L sum_i (f_i(0) - min f_i)): |grad f| wherever sum_i f_i is no larger."""
        return float(np.sqrt(2 * self.smoothness * np.sum(self.local_excesses)))

    # --- heterogeneity ----------------------------------------------------------------------

    def forces(self, *, at_minimiser: bool) -> Float[np.ndarray, "agents agents"]:
        """<grad f_i, grad f_j> at x*, or at the start."""
        scaled = self._left if at_minimiser else self._scaled
        weights = self.agents * np.sqrt(self.share)[:, None] * scaled
        own = (self.owner == np.arange(self.agents)[:, None]).astype(float)
        products = sum(
            own @ (column[:, None] * self.kernel * column) @ own.T for column in weights.T
        )
        return np.asarray(products)

    @functools.cached_property
    def heterogeneity(self) -> float:
        """zeta^2 = 1/m sum_i |grad f_i(x*)|^2."""
        found = float(np.trace(self.forces(at_minimiser=True))) / self.agents
        scale = float(np.trace(self.forces(at_minimiser=False))) / self.agents
        return found if found > NEGLIGIBLE**2 * scale else 0.0

    @functools.cached_property
    def growth(self) -> float:
        """The least P with 1/m sum_i |H_i v|^2 <= P |mean H v|^2 for every v in reach.

        The largest eigenvalue of s^(-1/2) U^T C U s^(-1/2), C the blocks K_ii / n_i.
        """
        blocks = [self.agents * self._weighted(rows) for rows in self.owned()]
        return self._against_gradient(blocks)

    def _against_gradient(self, blocks: list[Float[np.ndarray, "_ _"]]) -> float:
        """The largest v^T J^T D^(1/2) C D^(1/2) J v over |mean H v|^2, C by its agents' blocks."""
        values, vectors = self.reach
        rows = self.owned()
        if not any(np.any(block) for block in blocks):
            return 0.0

        def apply(v: np.ndarray) -> np.ndarray:
            at = vectors @ (v.reshape(-1) / np.sqrt(values))
            through = np.empty_like(at)
            for own, block in zip(rows, blocks, strict=True):
                through[own] = block @ at[own]
            return vectors.T @ through / np.sqrt(values)

        size = len(values)
        if size <= thresholds.ALONE_UP_TO:
            return float(np.linalg.eigvalsh(np.stack([apply(e) for e in np.eye(size)])).max())
        acting = scipy.sparse.linalg.LinearOperator((size, size), matvec=apply, dtype=float)
        start = np.random.default_rng(0).standard_normal(size)
        found = scipy.sparse.linalg.eigsh(
            acting, 1, which="LA", v0=start, return_eigenvectors=False
        )
        return float(found[0])

    # --- minibatches --------------------------------------------------------------------------

    @functools.cached_property
    def point_smoothness(self) -> float:
        """ell: the largest smoothness of the loss of a single point."""
        size = int(np.sum(self.point == self.point[0]))
        blocks = self.kernel.reshape(-1, size, len(self.kernel) // size, size)
        alone = np.einsum("abac->abc", blocks)
        return self.loss.curvature * float(np.linalg.eigvalsh(alone).max())

    def batch_variance(self, size: int) -> float:
        """sigma^2 = 1/m sum_i E |grad f_i(x*; batch) - grad f_i(x*)|^2, without replacement."""
        blocks = self._batch_blocks(size)
        felt = lambda rest: sum(
            np.sum(rest[own] * (block @ rest[own]))
            for own, block in zip(self.owned(), blocks, strict=True)
        )
        found, scale = float(felt(self._left)), float(felt(self._scaled))
        return found if found > NEGLIGIBLE**2 * scale else 0.0

    def batch_growth(self, size: int) -> float:
        """The least M with 1/m sum_i E |(H_i of a batch - H_i) v|^2 <= M |mean H v|^2 in reach."""
        return max(self._against_gradient(self._batch_blocks(size)), 0.0)

    def _batch_blocks(self, size: int) -> list[Float[np.ndarray, "_ _"]]:
        """C with v^T C v = 1/m sum_i Var g_i, v the rows of D^(1/2) (f - y)."""
        return [
            self.agents
            * batch_covariance(self.owner[own], self.counts[own], self.point[own], size)
            * self._weighted(own)
            for own in self.owned()
        ]

    # --- what a record shows ------------------------------------------------------------------

    def remaining(
        self, outputs: Float[np.ndarray, "rounds train outputs"], targets: np.ndarray
    ) -> Float[np.ndarray, "rounds rows columns"]:
        """D^(1/2) (f - y) of outputs at the training points."""
        apart = (outputs.astype(float) - targets).reshape(len(outputs), *self.residual.shape)
        return np.sqrt(self.share)[:, None] * apart

    def excess(self, remaining: Float[np.ndarray, "rounds rows columns"]) -> np.ndarray:
        """F - min F, of the part in reach, so that no digit cancels."""
        inside = np.einsum("rk,trc->tkc", self.reach.vectors, remaining)
        return 0.5 * np.sum(inside**2, axis=(1, 2))

    def squared_gradient(self, remaining: Float[np.ndarray, "rounds rows columns"]) -> np.ndarray:
        """|grad F|^2."""
        inside = np.einsum("rk,trc->tkc", self.reach.vectors, remaining)
        return np.sum(self.reach.values[:, None] * inside**2, axis=(1, 2))

    @functools.cached_property
    def features(self) -> Float[np.ndarray, "rows rank"]:
        """F with K = F F^T, in an orthonormal basis of what training can reach."""
        return self.reach.vectors * np.sqrt(self.reach.values / self.share[:, None])

    @functools.cached_property
    def hessians(self) -> Float[np.ndarray, "agents rank rank"]:
        """H_i in that basis; for small problems."""
        own = [(self.features[rows], self.counts[rows][0]) for rows in self.owned()]
        return np.stack([rows.T @ rows / count for rows, count in own])

    @functools.cached_property
    def start_gradients(self) -> Float[np.ndarray, "agents rank columns"]:
        """grad f_i(0) in that basis."""
        own = [(rows, self.counts[rows][0]) for rows in self.owned()]
        return np.stack([self.features[rows].T @ self.residual[rows] / n for rows, n in own])


@precision.in_double
def problem_constants(
    problem: Problem | KernelProblem, kernel: Choice | str = "empirical"
) -> ProblemConstants:
    """L, mu, heterogeneity and the like of the problem, linearized with the kernel of that name.

    Args:
        problem: the problem.
        kernel: what it is linearized to.

    Returns:
        `ProblemConstants`, each computed when it is asked for.

    Raises:
        InputError: for a kernel that is not formed.

    Example:
        >>> round(nd.theory.constants.problem_constants(bare).smoothness, 6)
        1.5
    """
    task, matrix = problem.task, problem.kernel(kernel).training
    initial, targets = problem.initial[: task.train], task.targets[: task.train]
    losses = np.asarray(task.loss.value(jnp.asarray(initial), jnp.asarray(targets)))
    starts = np.bincount(task.owner, losses, minlength=task.agents) / task.counts
    return ProblemConstants.of(
        matrix,
        initial - targets,
        task.owner,
        task.agents,
        loss=task.loss,
        local_starts=starts,
        initial=initial,
        kernel_name=problem.kernel(kernel).name,
    )
