"""Rounds over links that fail at random, expanded in what fails.

Failures are independent: f_e = 1 where e happens, of probability q_e, else 0. A round's map is a
polynomial of them, of a degree no larger than the number of failures that one path through the
round can meet, so that few of its values are all of it:

    A(f) = sum_U C_U prod_(e in U) f_e,      C_U = sum_(T in U) (-1)^|U - T| A(1_T)

In f_e - q_e, which are independent and have mean zero, it is

    A = sum_S A_S prod_(e in S) (f_e - q_e),      A_S = sum_(U over S) C_U prod_(e in U - S) q_e

so that A_{} is its mean, and with the variances v_S = prod_(e in S) q_e (1 - q_e)

    E A M A^T = sum_S v_S A_S M A_S^T

(Hoeffding 1948): as many products as there are S of which A_S is not zero, and no map of the square
of the state's size. Of a round with one exchange over links that fail alone these are the links.

Noise on messages, xi of unit variance and independent of what fails, enters by B(f) xi, which is as
well such a polynomial, so that it adds

    E B B^T = sum_S v_S B_S B_S^T,      B = N (x) I + sum_i Q_i M_i (x) H_i

where N is what the round does to the noise and M what of it gradients feel (`loops.Noise`).

What a compressor leaves out at random enters by B too, as e = std W y: W diagonal, of independent
entries of unit variance, y what is compressed in an exchange, of the state and of what was left out
before in the same round,

    y = S z + s + G e,      S = U (x) I + sum_i V_i R_i (x) H_i,     G alike with what noise does

so that only what fails between two exchanges of a round makes it depend on failures.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Float

from ntkdyn import thresholds
from ntkdyn.dynamics.loops import Loop, Noise, noises, open_loops, ports
from ntkdyn.dynamics.realization import Realization
from ntkdyn.engine import Iteration
from ntkdyn.errors import InputError
from ntkdyn.links import Failures, Linked
from ntkdyn.methods import Method
from ntkdyn.system import System


class Part(NamedTuple):
    """A_S and b_S: what a round does in proportion to prod_(e in S) (f_e - q_e)."""

    variance: float
    """v_S; 1 of the mean, which is the first part"""
    matrix: Float[np.ndarray, "state state"] | scipy.sparse.csr_array
    drive: Float[np.ndarray, "state sides"]
    kick: Float[np.ndarray, "state noises"]
    """B_S, of noise in all features"""


class Taken(NamedTuple):
    """y = S z + s + G e: what is compressed in a round."""

    matrix: Float[np.ndarray, "noises state"]
    drive: Float[np.ndarray, "noises sides"]
    within: Float[np.ndarray, "noises noises"]


class Expansion(NamedTuple):
    """What may fail in a round, and which of it at once suffices to know all."""

    failures: Failures
    subsets: Sequence[tuple[int, ...]]

    @staticmethod
    def of(system: System) -> Expansion:
        """Of the system's links, whatever else its method does."""
        update, agents = system.method.update, system.task.agents
        if not isinstance(update, Linked):
            raise InputError(f"{system.method.name}: has no links, so that nothing fails on them")
        linked = np.any([each.matrix != 0 for each in system.weights.rounds], axis=0)
        failures = update.failures(agents).among(linked)
        many = len(failures.chances)
        # One message may be lost by several failures, and in each exchange anew.
        by_one = int((failures.arrives == 0).sum(axis=0)[linked].max(initial=0))
        degree = min(many, by_one * update.exchanges(agents))
        count = sum(math.comb(many, size) for size in range(degree + 1))
        if count > thresholds.OUTCOMES_UP_TO:
            raise InputError(
                f"{system.method.name}: {many} failures, of which up to {degree} meet in a round, "
                f"take {count} rounds to know, and up to {thresholds.OUTCOMES_UP_TO} are looked "
                f"at; take fewer links or agents"
            )
        sizes = range(degree + 1)
        return Expansion(
            failures, [each for size in sizes for each in itertools.combinations(range(many), size)]
        )

    @property
    def members(self) -> Float[np.ndarray, "subsets failures"]:
        """1 where the failure is in the subset."""
        members = np.zeros((len(self.subsets), len(self.failures.chances)))
        for row, subset in zip(members, self.subsets, strict=True):
            row[list(subset)] = 1
        return members

    def products(self, values: Float[np.ndarray, " failures"]) -> Float[np.ndarray, " subsets"]:
        """Over the failures of each subset."""
        return np.where(self.members > 0, values, 1.0).prod(axis=1)

    @property
    def centred(self) -> Float[np.ndarray, "subsets subsets"]:
        """The matrix that makes of A(1_T) for all subsets T the A_S."""
        members, chances = self.members, self.products(self.failures.chances)
        sizes = members.sum(axis=1)
        within = members @ members.T == sizes[:, None]
        signs = within * (-1) ** (sizes[:, None] - sizes)
        return (within * chances / chances[:, None]) @ signs.T

    def arrives(self, subset: Sequence[int]) -> Float[np.ndarray, "agents agents"]:
        """What does where these fail and no others."""
        return self.failures.arrives[list(subset)].prod(axis=0)

    def failing(self, method: Method, subset: Sequence[int] = ()) -> Method:
        """The method in rounds in which these fail and no others, and nothing else is drawn."""
        return dataclasses.replace(method, update=method.update.known(self.arrives(subset)))

    def loops(self, iteration: Iteration, method: Method) -> tuple[Loop, ...]:
        """For every subset that fails the rounds of a period, one subset after the other."""
        methods = [self.failing(method, subset) for subset in self.subsets]
        each = [dataclasses.replace(iteration, method=one) for one in methods]
        return tuple(loop for one in each for loop in open_loops(one))

    def noises(self, iteration: Iteration, method: Method) -> tuple[Noise, ...]:
        """What noise does in the same rounds, a column for each that there is; none without it."""
        if not any(link.blurs or link.sparsifies for link in method.update.links):
            return ()
        drawn = dataclasses.replace(iteration, method=method)
        ways = map(self.arrives, self.subsets)
        found = [noise for arrives in ways for noise in noises(drawn, arrives)]
        each = [np.concatenate([noise.N, noise.M, noise.G]) for noise in found]
        felt = np.any(each, axis=(0, 1))
        return tuple(noise.among(felt) for noise in found)

    def parts(self, whole: Realization, round: int) -> Iterator[Part]:
        """Of a round, `whole` being that of all `loops`: the mean, and what is not zero."""
        P, into, Q, N, blurred = (
            np.tensordot(self.centred, each, 1)
            for each in _stacked(
                (loop.P, loop.ports, loop.Q, noise.N, ports(loop.Q, noise.M))
                for loop, noise in self._rounds(whole, round)
            )
        )
        chances = self.failures.chances
        found = zip(self.products(chances * (1 - chances)), P, into, Q, N, blurred, strict=True)
        least = thresholds.LINEAR * max(np.abs(P[0]).max(), np.abs(into[0]).max())
        for number, (variance, *of) in enumerate(found):
            if number == 0 or max(np.abs(each).max(initial=0) for each in of) > least:
                A, b, B = whole.closed(*of[:2]), whole.pulled(of[2]), whole.closed(*of[3:])
                yield Part(variance, A, b, B)

    def taken(self, whole: Realization, round: int) -> Taken:
        """What is compressed in a round, whatever fails."""
        U, into, V, G, within = _stacked(
            (noise.U, ports(noise.V, loop.R), noise.V, noise.G, ports(noise.V, noise.M))
            for loop, noise in self._rounds(whole, round)
        )
        if not all(map(_alike, (U, into, V, G, within))):
            raise InputError(
                "compressed: has no mean and covariance where what is compressed depends on "
                "another message of the same round that may be lost; leave the links that lose "
                "messages out, or take a method with one exchange a round"
            )
        S, G = whole.closed(U[0], into[0]), whole.closed(G[0], within[0])
        return Taken(S, whole.pulled(V[0]), G)

    def _rounds(self, whole: Realization, round: int) -> Iterator[tuple[Loop, Noise]]:
        """Of this number in a period, for every subset that fails."""
        these = slice(round, None, whole.period // len(self.subsets))
        return zip(whole.reached.loops[these], whole.reached.noises[these], strict=True)


def _stacked(rows: Iterable[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    """Column by column."""
    return [np.stack(each) for each in zip(*rows, strict=True)]


def _alike(each: np.ndarray) -> bool:
    apart = np.ptp(each, axis=0).max(initial=0)
    return bool(apart <= thresholds.LINEAR * np.abs(each).max(initial=0))
