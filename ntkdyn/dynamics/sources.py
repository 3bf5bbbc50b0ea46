"""What is drawn in a round, and what it adds to the covariance: batches, failures, compression.

The formulas are those of `noise`, which follows mean and covariance from round to round.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from ntkdyn.dynamics.affine import light
from ntkdyn.dynamics.expansion import Expansion, Part, Taken
from ntkdyn.dynamics.realization import Realization


class Batches(NamedTuple):
    """What a round's batches add to the covariance."""

    felt: Float[np.ndarray, "coordinates state"]
    """what residuals see of the state"""
    kick: Float[np.ndarray, "state coordinates"]
    """where a point's noise enters"""
    spread: Float[np.ndarray, "coordinates coordinates"]
    residual: Float[np.ndarray, "coordinates sides"]

    def of(self, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
        """Q' (cov(xi) * E r r^T) Q'^T."""
        off = mean @ self.felt.T + self.residual.T
        return self._kicked(_sandwiched(self.felt, covariance) + _squared(off))

    def homogeneous(self, moment: np.ndarray) -> np.ndarray:
        """The same, of a second moment and without residuals at the start."""
        return self._kicked(_sandwiched(self.felt, moment))

    def _kicked(self, moment: np.ndarray) -> np.ndarray:
        return _sandwiched(self.kick, self.spread * moment)


class Parts(NamedTuple):
    """What a round's failures add to the covariance."""

    parts: tuple[Part, ...]

    def of(self, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
        """sum_S v_S (A_S C A_S^T + (A_S m + b_S) (A_S m + b_S)^T)."""
        added = self.homogeneous(covariance)
        for part in self.parts:
            added += part.variance * _squared((part.matrix @ mean.T + part.drive).T)
        return added

    def homogeneous(self, moment: np.ndarray) -> np.ndarray:
        """The same, of a second moment and without drive."""
        added = np.zeros_like(moment)
        for part in self.parts:
            added += part.variance * _sandwiched(part.matrix, moment)
        return added


Kicks = Sequence[tuple[float, np.ndarray | scipy.sparse.csr_array]]
"""v_S and B_S"""


class LeftOut(NamedTuple):
    """What compressors leave out in a round at random adds to the covariance."""

    matrix: Float[np.ndarray, "noises state"] | scipy.sparse.csr_array
    """S"""
    drive: Float[np.ndarray, "noises sides"]
    squares: Float[np.ndarray, "noises noises"] | scipy.sparse.csr_array
    """(1 - G * G)^-1, which makes E y^2 of E (S z + s)^2"""
    kicks: Kicks

    def of(self, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
        """B diag(E y^2) B^T."""
        off = (self.matrix @ mean.T + self.drive).T
        return self._kicked(self._varying(covariance) + off**2)

    def homogeneous(self, moment: np.ndarray) -> np.ndarray:
        """The same, of a second moment and without drive."""
        return self._kicked(self._varying(moment))

    def _varying(self, moment: np.ndarray) -> Float[np.ndarray, "sides noises"]:
        """diag(S M S^T)."""
        return np.diagonal(_sandwiched(self.matrix, moment), axis1=1, axis2=2)

    def _kicked(self, squares: Float[np.ndarray, "sides noises"]) -> np.ndarray:
        return np.stack([_kicked(self.kicks, each) for each in squares @ self.squares.T])


class Round(NamedTuple):
    """A round of the moving state: what its mean goes through, and what adds to the covariance."""

    matrix: Float[np.ndarray, "state state"]
    drive: Float[np.ndarray, "state sides"]
    sources: tuple[Batches | Parts | LeftOut, ...]
    noise: Float[np.ndarray, "state state"] | float = 0.0
    """what is added whatever the state, by noise on messages"""

    def after(self, mean: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both after this round."""
        added = self.added(mean, covariance)
        mean = mean @ self.matrix.T + self.drive.T
        return mean, _sandwiched(self.matrix, covariance) + added

    def added(self, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
        """To the covariance, by all that is drawn."""
        return sum(each.of(mean, covariance) for each in self.sources) + self.noise

    def homogeneous(self, moment: np.ndarray) -> np.ndarray:
        """E A M A^T."""
        added = sum(each.homogeneous(moment) for each in self.sources)
        return _sandwiched(self.matrix, moment) + added


def _sandwiched(
    matrix: Float[np.ndarray, "after before"] | scipy.sparse.csr_array,
    moments: Float[np.ndarray, "sides before before"],
) -> Float[np.ndarray, "sides after after"]:
    """B M B^T of symmetric M."""
    return np.stack([matrix @ (matrix @ each).T for each in moments])


def _kicked(
    kicks: Kicks, squares: Float[np.ndarray, " noises"]
) -> Float[np.ndarray, "state state"]:
    """sum_S v_S B_S diag(squares) B_S^T."""
    added = 0.0
    for variance, B in kicks:
        each = variance * (B * squares) @ B.T
        added = added + (each.toarray() if scipy.sparse.issparse(each) else each)
    return added


def _squared(x: Float[np.ndarray, "sides many"]) -> Float[np.ndarray, "sides many many"]:
    return x[:, :, None] * x[:, None, :]


def of_batches(size: int, whole: Realization, rows: np.ndarray, round: int) -> Round:
    """Of all points, the `size` that agents draw of theirs; `rows` are the points' features."""
    loop, map = whole.reached.loops[round], whole.affine
    felt = np.einsum("as,af->asf", loop.R[map.owner], rows).reshape(len(rows), -1)
    kick = np.einsum("sa,af->sfa", loop.Q[:, map.owner] / map.counts, rows)
    spread = batch_covariance(map.owner, map.counts, map.point, size)
    source = Batches(felt, kick.reshape(-1, len(rows)), spread, map.residual)
    return Round(whole.matrix(round), whole.drive(round), (source,))


def over_links(expansion: Expansion, whole: Realization, round: int) -> Round:
    """Of links, `whole` being the realization of all their loops and noises."""
    parts, kicks = [], []
    for each in expansion.parts(whole, round):
        kicks.append((each.variance, light(each.kick)))
        parts.append(each._replace(matrix=light(each.matrix) if parts else each.matrix, kick=None))
    mean, *others = parts
    sources: list[Parts | LeftOut] = [Parts(tuple(others))]
    squares = np.repeat(whole.reached.noises[round].steady, whole.shape[1])
    if not squares.all():
        left = _left_out(expansion.taken(whole, round), kicks)
        sources.append(left)
        squares = left.squares @ squares
    return Round(mean.matrix, mean.drive, tuple(sources), _kicked(kicks, squares))


def _left_out(taken: Taken, kicks: Kicks) -> LeftOut:
    squares = np.linalg.inv(np.eye(len(taken.within)) - taken.within**2)
    return LeftOut(light(taken.matrix), taken.drive, light(squares), kicks)


def batch_covariance(
    owner: Int[np.ndarray, " coordinates"],
    counts: Int[np.ndarray, " coordinates"],
    point: Int[np.ndarray, " coordinates"],
    size: int,
) -> Float[np.ndarray, "coordinates coordinates"]:
    """cov(xi) of batches of `size`; the coordinates of one point share its xi."""
    excess = np.maximum(counts / np.minimum(size, counts) - 1, 0)
    same_point = point[:, None] == point
    same_agent = owner[:, None] == owner
    others = -excess / np.maximum(counts - 1, 1)
    return np.where(same_point, excess, np.where(same_agent, others, 0.0))
