"""Functions of A in a rational Krylov space: any round by one real factorization of the kernel.

    z_t = sum_{s<t} A^s b  is looked for in  span{b, S b, S^2 b, ...},   S = (lambda - A)^-1

with lambda = 1 + `POLE` / t. As a function of the eigenvalues of S the sum of powers is nearly a
polynomial of some 20 degrees, however many rounds, whatever kernel and graph, where the spectrum of
A is real and stays clear of -1 (van den Eshof and Hochbruck 2006, for the exponential). With an
orthonormal basis V, S V = V H + (the next direction), the resolvents are those of small matrices,

    (lambda' - A)^-1 b  =  V H (1 + (lambda' - lambda) H)^-1 |b| e_1,

and the sum is taken of them along Talbot's contour (`contours`). Lengths are those of
displacements, x' K x, in which A of DGD is symmetric. Every direction z keeps K z, so that lengths
and the gradients of the next one take a single product with K.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float

from ntkdyn.dynamics import contours
from ntkdyn.dynamics.affine import Affine
from ntkdyn.dynamics.spectra import largest_eigenvalue

POLE = 12.0
"""The pole's distance from 1 in units of 1 / t: between 4 and 40 it takes a few directions more, so
that all rounds of a decade share one."""

STEPS = 30
"""Directions that a round takes, about."""

MOST = 64
"""Directions that are tried."""

LAG = 6
"""The error of a solution is its difference from that of so many directions before: of three, a
standstill of as many has been taken for the end."""

SPENT = 64 * float(np.finfo(np.float64).eps)
"""A squared length below this share of its terms is none: there are no more directions."""

ROOM = 2**32
"""Bytes of directions that are kept for other rounds; of more, sides are taken in turn."""

Pair = tuple[np.ndarray, np.ndarray]
"""z and K z, each (sides, states, coordinates)"""


class Krylov:
    """The spaces of one affine map, from b or from the change of a state that is begun with."""

    def __init__(self, affine: Affine, tolerance: float, begun: np.ndarray | None = None) -> None:
        # The error is a difference of two solutions and no bound, so that it is given room.
        self._affine, self._begun, self._wanted = affine, begun, tolerance / 100
        self._decade, self._spaces, self._clear = -1, [], 1.0
        # z and K z, 8 bytes a number.
        sides, each = affine.residual.shape[1], 16 * MOST * affine.size
        parts = min(sides, math.ceil(each * sides / ROOM))
        self._cuts = np.array_split(np.arange(sides), parts)

    def valid(self, round: int) -> bool:
        """Whether no eigenvalue is so near to -1 that its powers are still felt."""
        if round < contours.FROM_ROUND:
            return False
        if (reach := self._wanted ** (1 / round)) < self._clear and self._beyond(reach):
            self._clear = reach
        return reach >= self._clear

    def _beyond(self, reach: float) -> bool:
        """Whether -reach is below the spectrum of A, where it is symmetrisable.

        It is where it is below that of P and the largest eigenvalue of K * G(-reach) / sqrt(n n')
        is below 1.
        """
        affine, (P, *_) = self._affine, self._affine.loop
        if np.linalg.eigvalsh(P)[0] <= -reach:
            return False
        _, coupling = affine.loop.at(-1 - reach)
        root, trained = 1 / np.sqrt(affine.counts), len(affine.owner)
        whole = coupling[np.ix_(affine.owner, affine.owner)]
        whole *= affine.kernel[:trained, :trained]
        whole *= root * root[:, None]
        return largest_eigenvalue(whole) < 1

    def flops(self, round: int) -> float:
        """Of the factorization and the directions, where this decade has none yet."""
        if self._spaces and _decade(round) == self._decade:
            return 0.0
        points, sides = self._affine.residual.shape
        # An LU factorization of the kernel's size, and the inverse of the loop's.
        once = 2 / 3 * points**3 + 2 * len(self._affine.loop.P) ** 3
        return once + STEPS * sides * (6 * points**2 + 6 * STEPS * self._affine.size)

    def state_at(self, round: int) -> tuple[np.ndarray, float, float]:
        """z_t, or z_t - z from another z than zero; its error; 1 - lambda of the slowest mode."""
        nodes = contours.nodes_for(round, self._wanted)
        found = [space.at(round, nodes, self._wanted) for space in self._of_decade(round)]
        states, errors, slowest = zip(*found, strict=True)
        state = np.moveaxis(np.concatenate(states), 0, -1)
        return state, max(errors) + contours.error(round, nodes), min(slowest)

    def _of_decade(self, round: int) -> Iterator[Space]:
        """The spaces of all sides, one after the other where they are too many to be kept."""
        if self._spaces and _decade(round) == self._decade:
            yield from self._spaces
            return
        self._decade, self._spaces = _decade(round), []
        pole = POLE / 10.0**self._decade
        solve, start = _shifted(self._affine, pole), self._start()
        for cut in self._cuts:
            space = Space(pole, solve, tuple(each[cut] for each in start))
            if len(self._cuts) == 1:
                self._spaces = [space]
            yield space

    def _start(self) -> Pair:
        affine = self._affine
        first = affine.drive() if self._begun is None else affine.change(self._begun)
        z = np.ascontiguousarray(np.moveaxis(first, -1, 0))
        return z, z @ affine.kernel


def _decade(round: int) -> int:
    # Rounds up to a factor sqrt(10) apart: their poles stay where `POLE` may lie.
    return math.floor(math.log10(round) + 0.5)


class Space:
    """One Krylov space per side, grown together."""

    def __init__(self, pole: float, solve: Callable[[Pair], Pair], start: Pair) -> None:
        self._pole, self._solve, self._shape = pole, solve, start[0].shape
        sides = len(start[0])
        self._V = np.empty((2, sides, MOST + 1, start[0][0].size))
        """the directions and their images"""
        self._H, self._grown, self._spent = np.zeros((sides, MOST + 1, MOST)), 0, False
        self._length = self._keep(np.stack(start).reshape(2, sides, -1), 0)

    def at(self, round: int, nodes: int, wanted: float) -> tuple[np.ndarray, float, float]:
        """The round's state, its error, and 1 - lambda of the slowest mode."""
        while self._error(round, nodes) > wanted and self._grown < MOST:
            self._grow()
        grown = self._grown
        c, slowest = self._coefficients(round, nodes, grown), np.inf
        if grown:
            slowest = 1 / np.linalg.eigvals(self._H[:, :grown, :grown]).real.max() - self._pole
        state = (c[:, None] @ self._V[0, :, :grown]).reshape(self._shape)
        return state, self._error(round, nodes), max(float(slowest), 0.0)

    def _error(self, round: int, nodes: int) -> float:
        """Relative to the length of all sides together."""
        if self._spent:
            return 0.0
        if self._grown <= LAG:
            return math.inf
        c, before = (self._coefficients(round, nodes, self._grown - lag) for lag in (0, LAG))
        change = c - np.pad(before, ((0, 0), (0, LAG)))
        return float(np.linalg.norm(change) / np.linalg.norm(c))

    def _coefficients(
        self, round: int, nodes: int, count: int
    ) -> Float[np.ndarray, "sides directions"]:
        """Of z_t, in the first directions."""
        small = _Small(self._H[:, :count, :count], self._length, self._pole)
        return contours.state_at(small, round, nodes)

    def _grow(self) -> None:
        """Another column of S V = V H + (the next direction)."""
        k = self._grown
        pair = self._solve(tuple(each.reshape(self._shape) for each in self._V[:, :, k]))
        new = np.stack(pair).reshape(2, len(self._H), -1)
        # Once leaves what a long vector rounds to, twice is enough (Kahan, Parlett).
        for _ in range(2):
            h = self._V[0, :, : k + 1] @ new[1][:, :, None]
            new -= (np.swapaxes(h, 1, 2) @ self._V[:, :, : k + 1])[:, :, 0]
            self._H[:, : k + 1, k] += h[:, :, 0]
        self._H[:, k + 1, k] = self._keep(new, k + 1)
        self._grown += 1

    def _keep(
        self, new: Float[np.ndarray, "2 sides size"], place: int
    ) -> Float[np.ndarray, " sides"]:
        """The new direction there, of length one, or none where nothing is left; its length."""
        of = lambda one, other: (one[:, None] @ other[:, :, None])[:, 0, 0]
        square, terms = of(new[0], new[1]), np.sqrt(of(new[0], new[0]) * of(new[1], new[1]))
        left = square > SPENT * terms
        length = np.sqrt(np.where(left, square, 0.0))
        self._V[:, :, place] = new * (left / np.where(left, length, 1.0))[:, None]
        self._spent = not left.any()
        return length


class _Small(NamedTuple):
    """The map in the directions of a space: what `contours.state_at` asks of one."""

    H: Float[np.ndarray, "sides directions directions"]
    length: Float[np.ndarray, " sides"]
    pole: float

    def resolvent(self, shift: complex | float) -> Callable[[np.ndarray | None], np.ndarray]:
        first = np.zeros((*self.H.shape[:2], 1))
        first[:, :1, 0] = self.length[:, None]
        inner = np.eye(self.H.shape[1]) + (shift - self.pole) * self.H
        return lambda _: (self.H @ np.linalg.solve(inner, first))[:, :, 0]


def _shifted(affine: Affine, shift: float) -> Callable[[Pair], Pair]:
    """(z, K z) -> (S z, K S z) with S = (1 + shift - A)^-1."""
    inverse, factors = affine.coupled(shift)
    into, read = inverse @ affine.loop.Q, affine.loop.R @ inverse
    rows = [(own, affine.kernel[own].astype(np.float64, copy=False)) for own in affine.owned()]
    places, trained = np.arange(len(affine.owner)), len(affine.owner)

    def solve(pair: Pair) -> Pair:
        z, image = pair
        felt = (read @ image)[:, affine.owner, places]
        # Looking for infinities would take as long as a product for few sides.
        u = scipy.linalg.lu_solve(factors, felt.T, check_finite=False).T
        after = inverse @ z
        after[:, :, :trained] += into[:, affine.owner] * u[:, None]
        pushed = np.stack([u[:, own] @ each for own, each in rows], axis=1)
        return after, inverse @ image + into @ pushed

    return solve
