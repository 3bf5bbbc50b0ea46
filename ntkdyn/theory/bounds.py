"""Bounds as objects: what a theorem assumes, what it then promises, and whether it is so.

    bound = theorem(case)          every assumption evaluated on the problem at hand
    bound.at(rounds)               what is promised of the observed quantity, round by round
    bound.check(record)            holds / violated at round t / diverged / assumption not met /
                                   promises nothing: a factor of one

A case is a linearized problem, a method with its step size, and a graph. The theorems are proved
for the linearized problem: on a predicted record a violation is an error, of the theorem as
it is written here or of the prediction, and `demand` raises it. On a record of real networks it
says that linearization has ceased to be a description.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ntkdyn.errors import InputError
from ntkdyn.graphs import MixingMatrix
from ntkdyn.methods import Method
from ntkdyn.methods.objectives import Local
from ntkdyn.methods.updates import BaseUpdate
from ntkdyn.records import Record
from ntkdyn.theory.constants import ProblemConstants

__all__ = ["Assumption", "Bound", "BoundViolated", "Case", "Observation", "Verdict", "demand"]

ROUNDING = 1e-9
"""Violations smaller than this share of the bound are rounding."""

OPERATIONS = 64
"""Rounding of outputs, in units of their precision."""

SAME_START = 1e-2
"""Outputs at the start differ by less between precisions, and by far more between seeds."""

LARGEST_PROMISE = 1e100
"""Beyond, squares on the way to what is seen may overflow before the promise does."""


class Case(NamedTuple):
    """A method on a graph, on a linearized problem.

    Example:
        >>> nd.theory.theorems.case(bare, dgd, W).steps_as(nd.methods.updates.DGD)
        True
    """

    constants: ProblemConstants
    method: Method
    weights: MixingMatrix
    """what a round applies; see `agent_tuple.applied`"""
    given: MixingMatrix
    """W"""

    @property
    def step_size(self) -> float:
        return float(self.method.step_size)

    def steps_as(self, *kinds: type[BaseUpdate]) -> bool:
        """Whether the method's step is that of one of these updates, on plain local gradients.

        Neither its name counts nor what its update is derived from, but what it does.
        """
        own, gradient = type(self.method.update), type(self.method.objective).gradient
        same = ((own.init, own.step) == (kind.init, kind.step) for kind in kinds)
        return gradient is Local.gradient and any(same)


class Assumption(NamedTuple):
    """What a theorem asks for, and what there is.

    Example:
        >>> case = nd.theory.theorems.case(bare, dgd, W)
        >>> nd.theory.bounds.symmetric(case).holds
        True
    """

    name: str
    holds: bool
    found: str
    """one phrase with the numbers"""


class Observation(NamedTuple):
    """A quantity read from a record, and the size below which it is rounding.

    Example:
        >>> case, record = nd.theory.theorems.case(bare, dgd, W), nd.predict(bare, dgd, W, 2)
        >>> nd.theory.bounds.travelled(case)(record).values[0]
        np.float64(0.0)
    """

    values: Float[np.ndarray, " rounds"]
    resolution: float | Float[np.ndarray, " rounds"] = 0.0
    unknown: str = ""
    """why there are no values, where there are none"""


def not_computed(record: Record, why: str) -> Observation:
    """In place of what is not known."""
    return Observation(np.full(record.sizes["round"], np.nan), unknown=why)


class BoundViolated(AssertionError):
    """A bound whose assumptions hold does not: a bug in the bound, the method or the run.

    Example:
        >>> issubclass(nd.theory.bounds.BoundViolated, AssertionError)
        True
    """


@dataclass(frozen=True, eq=False)
class Bound:
    """A promise about one quantity of a run.

    Example:
        >>> bound = nd.theory.theorems.bounds_of(nd.theory.theorems.case(bare, dgd, W))[0]
        >>> bound.check(nd.predict(bare, dgd, W, 20)).violated_at is None
        True
    """

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
    factor: bool = False
    """whether it is a factor per round: two are compared by their logarithms, the speeds"""

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
        """Hold the promise against a record of the same method, step size and graph.

        Args:
            record: of `predict` or `train`, in rounds from the first on for means over rounds.

        Returns:
            A `Verdict`.

        Raises:
            InputError: for a record of another problem, method, step size or graph.
        """
        self._check_alike(record)
        rounds, assumptions = record["round"].values.astype(float), self.assumptions_on(record)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            promised = np.broadcast_to(self.at(rounds), rounds.shape).astype(float)
            seen, resolution, unknown = self.observe(record)
        resolution = np.broadcast_to(resolution, rounds.shape)
        if unknown:
            state = "not computed"
        elif not all(each.holds for each in assumptions):
            state = "assumption not met"
        elif _broken(promised, seen, resolution).any():
            state = "violated"
        elif self.factor and (promised >= 1).all():
            state = "promises nothing"
        else:
            state = "holds" if np.isfinite(seen).all() else "diverged"
        rounds = record["round"].values
        return Verdict(self, assumptions, state, rounds, promised, seen, resolution, unknown)

    def _check_alike(self, record: Record) -> None:
        constants, given = self.case.constants, self.case.given
        for name, ours in (
            ("method", self.case.method.name),
            ("step_size", self.case.step_size),
            ("loss", constants.loss.name),
        ):
            _same(name, record.attrs.get(name), ours)
        if "settings" in record.attrs:
            theirs = json.loads(record.attrs["settings"])
            _same("settings", _steps(theirs), _steps(self.case.method.settings))
        kernel = record.attrs.get("kernel", "none")
        if kernel != "none":
            _same("kernel", "empirical" if kernel == "implicit" else kernel, constants.kernel_name)
        gap = record.attrs.get("spectral_gap", given.spectral_gap)
        if not np.array_equal(record["mixing"].values, given.matrix) or not np.isclose(
            gap, given.spectral_gap, equal_nan=True
        ):
            raise InputError("bounds: the record was made with other mixing weights")
        if "split" in record.coords:
            _same_problem(record, constants)


def _steps(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a method but for its step size, which is compared by itself."""
    update = {name: value for name, value in settings["update"].items() if name != "step_size"}
    return settings | {"update": update}


def _same(name: str, theirs: object, ours: object) -> None:
    if theirs != ours:
        raise InputError(f"bounds: the record has {name} {theirs}, and the bound is for {ours}")


def _same_problem(record: Record, constants: ProblemConstants) -> None:
    """Refuse a record of other points, owners, targets or another start."""
    own = (record["split"] == "train").values
    _same("training points", int(own.sum()), len(constants.initial))
    if not np.array_equal(record["owner"].values[own], constants.point_owner):
        raise InputError("bounds: the record has other owners of the training points")
    scale = np.abs(constants.targets).max()
    _near("targets", record, constants.targets, 1e-6 * scale)
    allowed = SAME_START * np.abs(constants.initial).max() + 1e-6 * scale
    _near("initial_outputs", record, constants.initial, allowed)


def _near(name: str, record: Record, ours: np.ndarray, allowed: float) -> None:
    if name not in record:
        return
    theirs = record[name].values[(record["split"] == "train").values].astype(float)
    if theirs.shape != ours.shape or not np.abs(theirs - ours).max() <= allowed:
        off = (
            "of another shape"
            if theirs.shape != ours.shape
            else (f"off by up to {np.abs(theirs - ours).max():.3g}")
        )
        raise InputError(
            f"bounds: the record is of another run than the bound: its {name} are {off} at the "
            f"training points"
        )


class Verdict(NamedTuple):
    """A bound beside what was seen.

    Example:
        >>> bound = nd.theory.theorems.bounds_of(nd.theory.theorems.case(bare, dgd, W))[0]
        >>> verdict = bound.check(nd.predict(bare, dgd, W, 20))
        >>> bool((verdict.seen <= verdict.promised * (1 + 1e-9) + verdict.resolution).all())
        True
    """

    bound: Bound
    assumptions: tuple[Assumption, ...]
    """of the bound, and of the run where it is not one of those that the bound is about"""
    state: str
    """"holds", "violated", "diverged" (no longer finite, and never above the bound before that),
    "assumption not met", "promises nothing", or "not computed" where it is not known"""
    rounds: np.ndarray
    promised: Float[np.ndarray, " rounds"]
    seen: Float[np.ndarray, " rounds"]
    resolution: Float[np.ndarray, " rounds"]
    unknown: str = ""
    """why it is not computed, where it is not"""

    @property
    def violated_at(self) -> int | None:
        """The first round in which more was seen than promised; None where all is well."""
        broken = _broken(self.promised, self.seen, self.resolution)
        return int(self.rounds[broken.argmax()]) if broken.any() else None

    @property
    def diverged_at(self) -> int | None:
        """The first round in which what is seen is not finite; None where all is."""
        lost = ~np.isfinite(self.seen)
        return int(self.rounds[lost.argmax()]) if lost.any() and not self.unknown else None

    @property
    def told(self) -> np.ndarray:
        """Whether what is seen is finite and more than rounding, round by round."""
        return np.isfinite(self.seen) & (self.seen > self.resolution)

    @property
    def tightest(self) -> int:
        """The index of the round, after the start if there is one, where the bound is tightest."""
        told = self.told & ((self.rounds > 0) | (len(self.rounds) == 1))
        ratio = np.where(told, self._ratios, np.inf)
        return int(np.where(np.isnan(ratio), np.inf, np.round(ratio, 9)).argmin())

    @property
    def _ratios(self) -> Float[np.ndarray, " rounds"]:
        """bound / seen; of factors per round log seen / log bound, how much faster it really is."""
        seen = np.where(self.told, self.seen, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.bound.factor:
                return np.log(seen) / np.log(self.promised)
            return self.promised / seen

    @property
    def tightness(self) -> float:
        """The ratio where it is smallest: one is tight, below one is violated."""
        at = self.tightest
        return float(self._ratios[at]) if self.told[at] else np.inf


def _batches(size: int) -> str:
    return "all points in a round" if size == -1 else f"batches of {size}"


def _broken(promised: np.ndarray, seen: np.ndarray, resolution: np.ndarray) -> np.ndarray:
    return np.isfinite(seen) & ~(seen <= promised * (1 + ROUNDING) + resolution)


def demand(verdicts: Iterable[Verdict]) -> None:
    """Raise if a bound whose assumptions hold is violated, or all is lost under a finite bound.

    Args:
        verdicts: of predicted records.

    Returns:
        Nothing.

    Raises:
        BoundViolated: which names the bound, the round and the assumptions.

    Example:
        >>> found = nd.theory.theorems.bounds_of(nd.theory.theorems.case(bare, dgd, W))
        >>> record = nd.predict(bare, dgd, W, 20)
        >>> nd.theory.bounds.demand(bound.check(record) for bound in found)
    """
    for verdict in verdicts:
        bound, said = verdict.bound, ""
        if verdict.state == "violated":
            seen, promised = (each[verdict.tightest] for each in (verdict.seen, verdict.promised))
            factor = seen / promised if promised else np.inf
            said = f"exceeds its bound in round {verdict.violated_at}, by a factor {factor:.6g}"
        elif verdict.state == "diverged":
            lost = ~np.isfinite(verdict.seen) & (verdict.promised < LARGEST_PROMISE)
            if lost.any():
                said = f"is not finite in round {verdict.rounds[lost.argmax()]}"
        if said:
            raise BoundViolated(
                f"{bound.name}: {bound.quantity} {said}, and every "
                f"assumption holds: {'; '.join(a.found for a in bound.assumptions)}"
            )


# --- what records show ------------------------------------------------------------------------


def travelled(case: Case) -> Callable[[Record], Observation]:
    """sqrt(sum_i |x_i - x_i(0)|^2)."""

    def observe(record: Record) -> Observation:
        values = np.sqrt((record["displacement"].values.astype(float) ** 2).sum(axis=1))
        return Observation(values, _unreached(case, record))

    return observe


def disagreement(case: Case) -> Callable[[Record], Observation]:
    """sqrt(sum_i |x_i - mean x|^2); a millionth of the way so far is rounding."""

    def observe(record: Record) -> Observation:
        values = np.sqrt((record["consensus_distance"].values.astype(float) ** 2).sum(axis=1))
        way, least = travelled(case)(record)[:2]
        so_far = np.maximum.accumulate(np.where(np.isfinite(way), way, 0))
        return Observation(values, 1e-6 * so_far + least)

    return observe


def _unreached(case: Case, record: Record) -> Float[np.ndarray, " rounds"]:
    """How far x seems to go, from the rounding of what piles up where no training reaches.

    In `KernelSpace` coefficients grow by eta times the residual / n_i, and |J^T c|^2 = c^T K c is
    zero along what remains of the residual at x* but for rounding.
    """
    constants = case.constants
    if not constants.quadratic or record.attrs.get("space") != "kernel":
        return np.zeros(record.sizes["round"])
    grown = constants.agents * case.step_size * record["round"].values * constants.left
    return np.sqrt(OPERATIONS * np.finfo(float).eps * constants.mean_smoothness) * grown


def summed_loss(record: Record) -> Observation:
    """sum_i f_i(x_i)."""
    return Observation(record["train_loss"].values.astype(float).sum(axis=1))


def excess(case: Case, growth: float = 1.0) -> Callable[[Record], Observation]:
    """F(mean x) - min F, from the mean of the agents' outputs (the same, where they are linear).

    `growth` is the factor above one by which a round may raise errors, those of rounding too.
    """

    def observe(record: Record) -> Observation:
        values = case.constants.excess(centroid(case, record))
        grown = growth ** record["round"].values.astype(float)
        off = _times(_outputs_off(case, record), grown)
        start = 1e-12 * case.constants.start_excess
        return Observation(values, start + _times(np.sqrt(2 * values), off) + off**2)

    return observe


def _times(sizes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """The product, zero where `sizes` are, even times what has run over."""
    return np.where(sizes == 0, 0.0, sizes * factors)


def _outputs_off(case: Case, record: Record) -> Float[np.ndarray, " rounds"]:
    """By how much rounding shifts e, where F - min F = e^2 / 2."""
    constants, eps = case.constants, np.finfo(record["outputs"].dtype).eps
    grown = np.sqrt(constants.mean_smoothness * np.finfo(float).eps) * _unreached(case, record)
    return OPERATIONS * (eps * constants.size_of_outputs + grown)


def centroid(case: Case, record: Record) -> Float[np.ndarray, "rounds rows columns"]:
    """What the mean of the agents' outputs leaves at the training points, scaled by D^(1/2)."""
    if "outputs" not in record:
        raise InputError(
            "bounds: the record holds no outputs; keep them (SaveOptions(outputs=True))"
        )
    own = (record["split"] == "train").values
    outputs = record["outputs"].values[:, :, own].astype(float).mean(axis=1)
    return case.constants.remaining(outputs, record["targets"].values[own])


def mean_over_rounds(record: Record, values: np.ndarray, rounded: np.ndarray) -> Observation:
    """`values`, each a mean over all rounds so far, where none of these is missing.

    Behind the first gap in the record nothing is known of them, whatever is there.
    """
    known = np.cumprod(record["round"].values == np.arange(record.sizes["round"])) > 0
    if known.sum() < min(2, len(known)):
        return not_computed(record, "needs the first rounds without a gap (record_every = 1)")
    return Observation(np.where(known, values, 0.0), np.where(known, rounded, np.inf))


# --- assumptions that recur -------------------------------------------------------------------


def squared_error(case: Case) -> Assumption:
    """The f_i are quadratic, with a known minimiser."""
    name = case.constants.loss.name
    return Assumption("squared error", case.constants.quadratic, f"the loss is {name}")


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
