"""Decentralized SGD with the noise of minibatches: bounds on expectations, held against exact ones.

A batch of an agent's points, drawn anew in each round, has a gradient with the right mean. Its
variance is not bounded where losses are quadratic; it is where they are least,

    sigma^2 = 1/m sum_i E |grad f_i(x*; batch) - grad f_i(x*)|^2,

and grows with the distance from there. Xi = |Delta|^2 / m; notation, p, order, zeta^2 and P are
those of `theorems.gossip`, ell is the largest smoothness of a single point's loss, M the least with
1/m sum_i E |(H_i of a batch - H_i) v|^2 <= M |mean H v|^2. As each batch's loss is convex,

    1/m sum_i Var g_i(x_i) <= 4 ell (L Xi + 2 (F(mean x) - F*)) + 2 sigma^2,

and without convexity, the noise at x_i being that of H_i (x_i - mean x), twice, that of
H_i (mean x - x*) and that at x*, four times each,

    1/m sum_i Var g_i(x_i) <= 2 ell L Xi + 4 M |grad F(mean x)|^2 + 4 sigma^2.

The shape is that of Koloskova et al. 2020, Theorem 2 (whose noise may grow with M too); the
constants are ours. With the first, for eta <= min(1/(4 L), m/(32 ell), p/(33 sqrt(order L ell))),

    E|mean x+ - x*|^2 <= |mean x - x*|^2 - 3/4 eta (F - F*) + 13/8 eta L Xi + 2 eta^2 sigma^2 / m
    E Xi+ <= (1 - p/8) Xi + order eta^2 ((12 L / p + 8 ell)(F - F*) + 6 zeta^2 / p + 2 sigma^2)

and with the second, for eta <= min(1/L, m/max(16 L M, 8 ell), p/(4 sqrt(order L ell))),

    E F+ <= F - 3/8 eta |grad F|^2 + 5/8 eta L^2 Xi + 2 eta^2 L sigma^2 / m
    E Xi+ <= (1 - p/8) Xi + order eta^2 (8 zeta^2 / p + (8 P / p + 4 M)|grad F|^2 + 4 sigma^2).

The expectations come from `dynamics.noise`, whose mean and covariance are exact; a single run is no
expectation, and is not held against these bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from ntkdyn import precision, thresholds
from ntkdyn.dynamics.noise import AT_REST, Moments
from ntkdyn.engine import Progress
from ntkdyn.errors import check_whole
from ntkdyn.methods.updates import ATC, CTA, DGD
from ntkdyn.problems import KernelProblem, Problem
from ntkdyn.records import Record
from ntkdyn.theory import bounds
from ntkdyn.theory.bounds import Bound, Case, Observation
from ntkdyn.theory.theorems.diffusion import geometric
from ntkdyn.theory.theorems.gossip import Gossip

__all__ = ["bounds_of", "expected", "followable"]


def followable(case: Case, rounds: int) -> bool:
    """Whether `expected` takes the case's method so far, and within minutes.

    Args:
        case: as `theorems.case` gives it.
        rounds: how many.

    Returns:
        True or False.

    Example:
        >>> nd.theory.noisy.followable(nd.theory.theorems.case(bare, dgd, W), 100)
        True
    """
    constants = case.constants
    entries, sides = constants.agents * len(constants.kernel), constants.residual.shape[1]
    operations = 4 * constants.size**3 * sides * rounds
    small = entries <= thresholds.COVARIANCE_UP_TO
    return small and operations <= thresholds.COVARIANCE_OPERATIONS


@precision.in_double
def expected(
    problem: Problem | KernelProblem, case: Case, rounds: Sequence[int] | None, *, batch_size: int,
    kernel: str = "empirical", progress: Progress | None = None,
) -> Record:  # fmt: skip
    """E F(mean x) - min F and the like, exactly, over all draws of batches; for small problems.

    Args:
        problem: the problem of the case.
        case: as `theorems.case` gives it.
        rounds: which, ascending; None: at rest.
        batch_size: points that each agent draws in a round.
        kernel: what the problem is linearized to.
        progress: called with (rounds done, rounds in all).

    Returns:
        Over `round`: `excess`, E F(mean x) - min F; `squared_gradient`, E |grad F(mean x)|^2;
        `disagreement`, E |Delta|^2; `mean_excess` and `mean_squared_gradient`, the means of the
        first two over all rounds before.

    Raises:
        InputError: for problems too large, and methods whose rounds are no affine maps.

    Example:
        >>> case = nd.theory.theorems.case(bare, dgd, W)
        >>> told = nd.theory.noisy.expected(bare, case, [0, 10], batch_size=1)
        >>> bool(told["excess"][1] < told["excess"][0])
        True
    """
    moments = Moments(problem, case.method, case.given, batch_size=batch_size, kernel=kernel)
    above, apart = _measured(moments, case)
    if rounds is None:
        moments.settle()
        rounds, rows = [AT_REST], [(*above(), *above(), apart())]
    else:
        rows, done, summed = [], 0, np.zeros(2)
        for round in rounds:
            for _ in range(round - done):
                summed += above()
                moments.advance(1)
            done = round
            rows.append((*above(), *summed / max(round, 1), apart()))
            if progress is not None:
                progress(round, rounds[-1])
    excess, steep, mean_excess, mean_steep, disagreement = np.array(rows).T
    return xr.Dataset(
        {
            "excess": ("round", excess),
            "squared_gradient": ("round", steep),
            "mean_excess": ("round", mean_excess),
            "mean_squared_gradient": ("round", mean_steep),
            "disagreement": ("round", disagreement),
            "mixing": (("agent", "neighbour"), case.given.matrix),
        },
        {"round": list(rounds)},
        {
            "method": case.method.name,
            "step_size": case.step_size,
            "loss": case.constants.loss.name,
            "batch_size": batch_size,
        },
    )


def _measured(
    moments: Moments, case: Case
) -> tuple[Callable[[], tuple[float, float]], Callable[[], float]]:
    """Read (E F(mean x) - min F, E |grad F(mean x)|^2), and E |Delta|^2, off the moments."""
    constants, rows, X = case.constants, moments.trained, moments.X
    rank = rows.shape[1]
    of_mean = np.kron(X.mean(axis=0, keepdims=True), np.eye(rank))
    of_rest = np.kron(X - X.mean(axis=0), np.eye(rank))
    off = constants.reach.vectors.T @ (np.sqrt(constants.share)[:, None] * rows) @ of_mean
    root = np.sqrt(constants.reach.values)[:, None]

    def second_moment(seen: np.ndarray, least: np.ndarray | float = 0.0) -> float:
        around = np.sum((seen @ moments.mean.T - least) ** 2)
        return float(around + sum(np.sum((seen @ each) * seen) for each in moments.covariance))

    above = lambda: (
        0.5 * second_moment(off, -constants.along),
        second_moment(root * off, -root * constants.along),
    )
    return above, lambda: second_moment(of_rest)


def bounds_of(case: Case, batch_size: int) -> list[Bound]:
    """The bounds on expectations about the case's method: DGD, CTA and ATC have them.

    Args:
        case: as `theorems.case` gives it.
        batch_size: points that each agent draws in a round.

    Returns:
        Bounds; none for other methods and losses.

    Raises:
        InputError: for a batch size that is none.

    Example:
        >>> case = nd.theory.theorems.case(bare, dgd, W)
        >>> len(nd.theory.noisy.bounds_of(case, batch_size=1))
        3
    """
    check_whole("batch_size:", batch_size, 1)
    if not case.steps_as(DGD, CTA, ATC) or not case.constants.quadratic:
        return []
    return [
        nonconvex(case, batch_size), convex(case, batch_size), strongly_convex(case, batch_size)
    ]  # fmt: skip


def nonconvex(case: Case, batch_size: int) -> Bound:
    """1/T sum_{t<T} E|grad F(mean x(t))|^2 <= 4 (F(0) - F*) / (eta T) + 8 eta L sigma^2/m + N.

    N = 80 order (eta L)^2 (2 zeta^2 / p^2 + sigma^2 / p). Both lines of the module summed over T
    rounds; at most eta/8 |grad F|^2 comes back through the disagreement where
    eta <= p / (L sqrt(order (320 P + 160 p M))).
    """
    noise, constants = _Noise(case, batch_size), case.constants
    M = constants.batch_growth(batch_size)
    p, steep = noise.floored, noise.eta * noise.L
    floor = 8 * steep * noise.variance / constants.agents + 80 * noise.order * steep**2 * (
        2 * noise.zeta2 / p**2 + noise.variance / p
    )
    coupled = noise.L * np.sqrt(noise.order * (320 * constants.growth + 160 * p * M))
    limit = min(
        1 / noise.L,
        constants.agents / max(16 * noise.L * M, 8 * noise.ell),
        noise.meeting(4.0),
        noise.p / coupled if coupled else np.inf,
    )
    return noise.bound(
        "D-SGD with noise, non-convex",
        "mean over rounds of E |grad F(mean x)|^2",
        limit,
        "min(1/L, m/max(16 L M, 8 ell), p/(4 sqrt(order L ell)), "
        "p/(L sqrt(order (320 P + 160 p M))))",
        lambda t: 4 * constants.start_excess / (noise.eta * np.maximum(t, 1e-300)) + floor,
        _expected("mean_squared_gradient"),
    )


def convex(case: Case, batch_size: int) -> Bound:
    """1/T sum_{t<T} E(F(mean x(t)) - F*) <= 2|x*|^2/(eta T) + 4 eta sigma^2/m + 26 order eta^2 L S.

    S = 6 zeta^2 / p^2 + 2 sigma^2 / p. Both lines of the module summed over T rounds, at most a
    quarter of eta (F - F*) going into the disagreement.
    """
    noise = _Noise(case, batch_size)
    floor = (
        4 * noise.eta * noise.variance / case.constants.agents
        + 26 * noise.order * noise.eta**2 * noise.L * noise.spread
    )
    return noise.bound(
        "D-SGD with noise, convex",
        "mean over rounds of E F(mean x) - min F",
        *noise.convex_range(33.0),
        lambda t: 2 * noise.distance**2 / (noise.eta * np.maximum(t, 1e-300)) + floor,
        _expected("mean_excess"),
    )


def strongly_convex(case: Case, batch_size: int) -> Bound:
    """E|mean x(t) - x*|^2 <= q^t |x*|^2 + (2 eta^2 sigma^2 / m + 26 order eta^3 L S) / (1 - q).

    q = 1 - min(eta mu_F / 4, p / 16), S as in `convex`, for eta <= p / (46 sqrt(order L ell)):
    V = |mean x - x*|^2 + (26 eta L / p) Xi contracts by q but for the noise, half of
    eta (F - F*) >= eta mu_F / 4 |mean x - x*|^2 being kept for it. Seen as 2 E(F - F*) / L_F.
    """
    noise, constants = _Noise(case, batch_size), case.constants
    q = 1 - min(noise.eta * constants.mean_convexity / 4, noise.p / 16)
    push = (
        2 * noise.eta**2 * noise.variance / constants.agents
        + 26 * noise.order * noise.eta**3 * noise.L * noise.spread
    )
    return noise.bound(
        "D-SGD with noise, strongly convex",
        "E F(mean x) - min F",
        *noise.convex_range(46.0),
        lambda t: (
            constants.mean_smoothness / 2 * (q**t * noise.distance**2 + push * geometric(q, t))
        ),
        _expected("excess"),
    )


class _Noise(Gossip):
    """What the bounds share."""

    def __init__(self, case: Case, batch_size: int) -> None:
        super().__init__(case)
        self.case, self.batch_size = case, batch_size
        constants = case.constants
        self.variance, self.ell = constants.batch_variance(batch_size), constants.point_smoothness
        self.spread = 6 * self.zeta2 / self.floored**2 + 2 * self.variance / self.floored

    def meeting(self, times: float) -> float:
        """p / (times sqrt(order L ell)), where the disagreement takes back no more than it may."""
        slope = times * np.sqrt(self.order * self.L * self.ell)
        return self.p / slope if slope else np.inf

    def convex_range(self, times: float) -> tuple[float, str]:
        """The largest step of the convex bounds, and how it is written."""
        limit = min(1 / (4 * self.L), self.case.constants.agents / (32 * self.ell))
        formula = f"min(1/(4 L), m/(32 ell), p/({times:g} sqrt(order L ell)))"
        return min(limit, self.meeting(times)), formula

    def bound(
        self, name: str, quantity: str, limit: float, formula: str, at: Callable, observe: Callable
    ) -> Bound:
        known = bounds.Assumption("sigma^2 at x*", True, f"sigma^2 = {self.variance:.4g}")
        step = bounds.step_up_to(self.case, limit, formula)
        return Bound(
            name,
            quantity,
            "as in Koloskova et al. 2020, Theorem 2; constants ours",
            (bounds.squared_error(self.case), *self.common, known, step),
            at,
            observe,
            self.case,
            batch_size=self.batch_size,
        )


def _expected(variable: str) -> Callable[[Record], Observation]:
    return lambda record: Observation(record[variable].values)
