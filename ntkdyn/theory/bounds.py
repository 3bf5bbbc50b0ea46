"""Bounds as objects: what a theorem assumes, what it then promises, and whether it is so.

    bound = theorem(case)          every assumption evaluated on the problem at hand
    bound.at(rounds)               what is promised of the observed quantity, round by round
    bound.check(record)            holds / violated at round t / assumption not met

A case is a linearized problem, a method with its step size, and a graph. The theorems are proved
for the linearized problem: on a predicted record a violation is an error, of the theorem as
it is written here or of the prediction, and `demand` raises it. On a record of real networks it
says that linearization has ceased to be a description.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ntkdyn.errors import InputError
from ntkdyn.graphs import Mixing
from ntkdyn.methods import Method
from ntkdyn.records import Record
from ntkdyn.theory.landscape import Landscape

ROUNDING = 1e-9
"""Violations smaller than this share of the bound are rounding."""


class Case(NamedTuple):
    """A method on a graph, on a linearized problem."""

    landscape: Landscape
    method: Method
    weights: Mixing
    """what a round applies; see `stack.applied`"""
    given: Mixing
    """W"""

    @property
    def step_size(self) -> float:
        return float(self.method.step_size)


class Assumption(NamedTuple):
    """What a theorem asks for, and what there is."""

    name: str
    holds: bool
    found: str
    """one phrase with the numbers"""


class Observation(NamedTuple):
    """A quantity read from a record, and the size below which it is rounding."""

    values: Float[np.ndarray, " rounds"]
    resolution: float = 0.0


class BoundViolated(AssertionError):
    """A bound whose assumptions hold does not: a bug in the bound, the method or the run."""


@dataclass(frozen=True, eq=False)
class Bound:
    """A promise about one quantity of a run."""

    name: str
    quantity: str
    """what is bounded"""
    source: str
    assumptions: tuple[Assumption, ...]
    at: Callable[[Float[np.ndarray, " rounds"]], Float[np.ndarray, " rounds"]]
    """the bound as a function of the round"""
    observe: Callable[[Record], Observation]
    case: Case
    of_run: bool = True
    """False: the quantity is exact for graph and kernel, and no run is needed to know it"""
    batch_size: int = -1
    """of the runs that it is about; -1 is all points"""

    @property
    def missing(self) -> tuple[Assumption, ...]:
        """The assumptions that are not met."""
        return tuple(each for each in self.assumptions if not each.holds)

    def assumptions_on(self, record: Record) -> tuple[Assumption, ...]:
        """All assumptions, with that on the run's batches where it is not met."""
        batch = record.attrs["batch_size"] if self.of_run else self.batch_size
        if batch == self.batch_size:
            return self.assumptions
        other = Assumption(_batches(self.batch_size), False, f"the run takes {_batches(batch)}")
        return (*self.assumptions, other)

    def check(self, record: Record) -> Verdict:
        """Hold the promise against a record of the same method, step size and graph."""
        self._check_alike(record)
        rounds, assumptions = record["round"].values.astype(float), self.assumptions_on(record)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            promised = np.broadcast_to(self.at(rounds), rounds.shape).astype(float)
            seen, resolution = self.observe(record)
        if np.isinf(resolution):
            state = "not computed"
        elif not all(each.holds for each in assumptions):
            state = "assumption not met"
        elif _broken(promised, seen, resolution).any():
            state = "violated"
        else:
            state = "holds"
        rounds = record["round"].values
        return Verdict(self, assumptions, state, rounds, promised, seen, resolution)

    def _check_alike(self, record: Record) -> None:
        for name, ours in (
            ("method", self.case.method.name),
            ("step_size", self.case.step_size),
            ("loss", self.case.landscape.loss.name),
        ):
            if record.attrs.get(name) != ours:
                raise InputError(
                    f"bounds: the record has {name} {record.attrs.get(name)}, and the bound is for "
                    f"{ours}"
                )
        if not np.array_equal(record["mixing"].values, self.case.given.matrix):
            raise InputError("bounds: the record was made with other mixing weights")


class Verdict(NamedTuple):
    """A bound beside what was seen."""

    bound: Bound
    assumptions: tuple[Assumption, ...]
    """of the bound, and of the run where it is not one of those that the bound is about"""
    state: str
    """"holds", "violated", "assumption not met", or "not computed" where it would take too long"""
    rounds: np.ndarray
    promised: Float[np.ndarray, " rounds"]
    seen: Float[np.ndarray, " rounds"]
    resolution: float

    @property
    def violated_at(self) -> int | None:
        """The first round in which more was seen than promised; None where all is well."""
        broken = _broken(self.promised, self.seen, self.resolution)
        return int(self.rounds[broken.argmax()]) if broken.any() else None

    @property
    def tightest(self) -> int:
        """The index of the round, after the start if there is one, where the bound is tightest."""
        told = (self.seen > self.resolution) & ((self.rounds > 0) | (len(self.rounds) == 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(told, self.promised / np.where(told, self.seen, 1), np.inf)
        return int(np.where(np.isnan(ratio), np.inf, np.round(ratio, 9)).argmin())

    @property
    def tightness(self) -> float:
        """bound / seen where it is smallest: one is tight, below one is violated."""
        at = self.tightest
        if not self.seen[at] > self.resolution:
            return np.inf
        return float(self.promised[at] / self.seen[at])


def _batches(size: int) -> str:
    return "all points in a round" if size == -1 else f"batches of {size}"


def _broken(promised: np.ndarray, seen: np.ndarray, resolution: float) -> np.ndarray:
    return ~(seen <= promised * (1 + ROUNDING) + resolution)


def demand(verdicts: Iterable[Verdict]) -> None:
    """Raise if a bound whose assumptions hold is violated."""
    for verdict in verdicts:
        if verdict.state == "violated":
            raise BoundViolated(
                f"{verdict.bound.name}: {verdict.bound.quantity} exceeds its bound in round "
                f"{verdict.violated_at}, by a factor {1 / verdict.tightness:.6g}, and every "
                f"assumption holds: {'; '.join(a.found for a in verdict.bound.assumptions)}"
            )


# --- what records show ------------------------------------------------------------------------


def disagreement(record: Record) -> Observation:
    """sqrt(sum_i |x_i - mean x|^2)."""
    values = np.sqrt((record["consensus_distance"].values.astype(float) ** 2).sum(axis=1))
    return Observation(values, 1e-6 * float(travelled(record).values.max()))


def travelled(record: Record) -> Observation:
    """sqrt(sum_i |x_i - x_i(0)|^2)."""
    return Observation(np.sqrt((record["displacement"].values.astype(float) ** 2).sum(axis=1)))


def summed_loss(record: Record) -> Observation:
    """sum_i f_i(x_i)."""
    return Observation(record["train_loss"].values.astype(float).sum(axis=1))


def excess(case: Case) -> Callable[[Record], Observation]:
    """F(mean x) - min F, from the mean of the agents' outputs (the same, where they are linear)."""

    def observe(record: Record) -> Observation:
        start = case.landscape.start_excess
        return Observation(case.landscape.excess(centroid(case, record)), 1e-12 * start)

    return observe


def centroid(case: Case, record: Record) -> Float[np.ndarray, "rounds rows columns"]:
    """What the mean of the agents' outputs leaves at the training points, scaled by D^(1/2)."""
    if "outputs" not in record:
        raise InputError("bounds: the record holds no outputs; keep them (Keep(outputs=True))")
    own = (record["split"] == "train").values
    outputs = record["outputs"].values[:, :, own].astype(float).mean(axis=1)
    return case.landscape.remaining(outputs, record["targets"].values[own])


# --- assumptions that recur -------------------------------------------------------------------


def squared_error(case: Case) -> Assumption:
    """The f_i are quadratic, with a known minimiser."""
    name = case.landscape.loss.name
    return Assumption("squared error", case.landscape.quadratic, f"the loss is {name}")


def symmetric(case: Case) -> Assumption:
    """W = W^T; with rows that sum to one it is doubly stochastic."""
    gap = float(np.abs(case.weights.matrix - case.weights.matrix.T).max())
    return Assumption("symmetric W", case.weights.symmetric, f"largest |W - W^T| is {gap:.2g}")


def doubly_stochastic(case: Case) -> Assumption:
    """Columns of W sum to one too: averaging keeps the mean."""
    off = float(np.abs(case.weights.matrix.sum(axis=0) - 1).max())
    return Assumption(
        "doubly stochastic W", case.weights.doubly_stochastic, f"columns are off one by {off:.2g}"
    )


def contracting(case: Case) -> Assumption:
    """beta = |W - 11'/m|_2 < 1: connected, and not periodic."""
    beta = case.weights.contraction
    return Assumption("beta < 1", beta < 1 - 1e-12, f"beta = {beta:.6g}")


def positive(case: Case) -> Assumption:
    """W has no negative eigenvalue."""
    least = case.weights.smallest_eigenvalue
    return Assumption("W >= 0", least >= -1e-12, f"lambda_min(W) = {least:.6g}")


def step_up_to(case: Case, limit: float, formula: str) -> Assumption:
    """0 < eta <= limit."""
    return Assumption(
        f"eta <= {formula}",
        case.step_size <= limit * (1 + 1e-12),
        f"eta = {case.step_size:.6g}, limit {limit:.6g}",
    )
