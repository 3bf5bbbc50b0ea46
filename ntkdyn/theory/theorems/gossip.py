"""Decentralized SGD's rates, without noise: non-convex, convex and strongly convex."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from ntkdyn.methods.updates import ATC, CTA, DGD
from ntkdyn.records import Record
from ntkdyn.theory import bounds
from ntkdyn.theory.bounds import Assumption, Bound, Case, Observation
from ntkdyn.theory.theorems.diffusion import geometric
from ntkdyn.theory.theorems.register import about

TINY = 1e-150
"""In place of p = 0, where nothing is promised; its square is still a number."""


class Gossip:
    """p = 1 - beta^2; order = beta^2 where gradients are mixed (ATC, and CTA at W x), one for DGD.

    For both orders, with grads at points of disagreement Xi = |Delta|^2 / m,
    Xi+ <= (1 - p/2) Xi + (2 order / p) eta^2 (1/m) sum_i |grad f_i(x_i)|^2.
    """

    def __init__(self, case: Case) -> None:
        beta = case.weights.contraction
        self.p = max(1 - beta**2, 0.0)
        self.floored = max(self.p, TINY)
        self.order = 1.0 if case.steps_as(DGD) else beta**2
        self.eta, self.L = case.step_size, case.constants.smoothness
        constants = case.constants
        self.zeta2 = constants.heterogeneity if constants.quadratic else np.nan
        self.distance = constants.distance if constants.quadratic else np.nan
        self.common = (bounds.doubly_stochastic(case), bounds.contracting(case))

    def step_up_to(self, case: Case, times: float, formula: str, cap: float) -> Assumption:
        """eta <= min(cap, p / (times sqrt(order) L))."""
        slope = times * np.sqrt(self.order) * self.L
        return bounds.step_up_to(case, min(cap, self.p / slope if slope else np.inf), formula)


@about(DGD, CTA, ATC)
def sgd_convex(case: Case) -> Bound:
    """1/T sum_{t<T} (F(mean x(t)) - F*) <= 2 |x*|^2 / (eta T) + 72 order eta^2 L zeta^2 / p^2.

    From |mean x+ - x*|^2 <= |mean x - x*|^2 - eta (F - F*) + 3/2 eta L Xi (eta <= 1/(4L)), and
    Xi+ <= (1 - p/4) Xi + (12 order eta^2 L / p)(F - F*) + 6 order eta^2 zeta^2 / p, summed; the
    coupling is at most half where eta <= p / (12 sqrt(order) L).
    """
    gossip = Gossip(case)
    floor = 72 * gossip.order * gossip.eta**2 * gossip.L * gossip.zeta2 / gossip.floored**2
    step = gossip.step_up_to(case, 12.0, "min(1/4, p/(12 sqrt(order))) / L", 1 / (4 * gossip.L))
    return Bound(
        "D-SGD, convex",
        "mean over rounds of F(mean x) - min F",
        "Koloskova et al. 2020, Theorem 2, in form",
        (bounds.squared_error(case), *gossip.common, step),
        lambda t: 2 * gossip.distance**2 / (gossip.eta * np.maximum(t, 1e-300)) + floor,
        running_mean(bounds.excess(case)),
        case,
    )


@about(DGD, CTA, ATC)
def sgd_strongly_convex(case: Case) -> Bound:
    """|mean x(t) - x*|^2 <= q^t |x*|^2 + 72 order eta^3 L zeta^2 / (p^2 (1 - q)).

    q = 1 - min(eta mu_F / 4, p / 8): V = |mean x - x*|^2 + (12 eta L / p) Xi contracts by q, half
    of eta (F - F*) >= eta mu_F / 4 |mean x - x*|^2 being kept for it, where
    eta <= p / (17 sqrt(order) L). Seen as 2 (F - F*) / L_F, which is no larger.
    """
    constants, gossip = case.constants, Gossip(case)
    q = 1 - min(gossip.eta * constants.mean_convexity / 4, gossip.p / 8)
    push = 72 * gossip.order * gossip.eta**3 * gossip.L * gossip.zeta2 / gossip.floored**2
    step = gossip.step_up_to(case, 17.0, "min(1/4, p/(17 sqrt(order))) / L", 1 / (4 * gossip.L))
    return Bound(
        "D-SGD, strongly convex",
        "F(mean x) - min F",
        "Koloskova et al. 2020, Theorem 2, in form",
        (bounds.squared_error(case), *gossip.common, step),
        lambda t: (
            constants.mean_smoothness / 2 * (q**t * gossip.distance**2 + push * geometric(q, t))
        ),
        bounds.excess(case),
        case,
    )


@about(DGD, CTA, ATC)
def sgd_nonconvex(case: Case) -> Bound:
    """1/T sum_{t<T} |grad F(mean x(t))|^2 <= 4 (F(0) - F*) / (eta T) + 64 order (eta L zeta / p)^2.

    Convexity is not used: F+ <= F - eta/2 |grad F|^2 + eta/2 L^2 Xi (eta <= 1/L), with
    1/m sum |grad f_i(x)|^2 <= 2 zeta^2 + 2 P |grad F(x)|^2, P the least that holds on the problem,
    and Xi+ <= (1 - p/4) Xi + (4 order eta^2 / p)(2 zeta^2 + 2 P |grad F|^2), summed.
    """
    constants, gossip = case.constants, Gossip(case)
    growth = constants.growth if constants.quadratic else np.nan
    times = max(4.0, 8 * np.sqrt(growth)) if constants.quadratic else 4.0
    floor = 64 * gossip.order * (gossip.eta * gossip.L / gossip.floored) ** 2 * gossip.zeta2
    step = gossip.step_up_to(
        case, times, "min(1, p/(max(4, 8 sqrt(P)) sqrt(order))) / L", 1 / gossip.L
    )

    def observe(record: Record) -> Observation:
        values, rounded, _ = bounds.excess(case)(record)
        steep = constants.squared_gradient(bounds.centroid(case, record))
        return Observation(steep, 2 * constants.mean_smoothness * rounded)

    return Bound(
        "D-SGD, non-convex",
        "mean over rounds of |grad F(mean x)|^2",
        "Koloskova et al. 2020, Theorem 2, in form",
        (bounds.squared_error(case), *gossip.common, step),
        lambda t: 4 * constants.start_excess / (gossip.eta * np.maximum(t, 1e-300)) + floor,
        running_mean(observe),
        case,
    )


def running_mean(
    observe: Callable[[Record], Observation],
) -> Callable[[Record], Observation]:
    """1/T times the sum over the rounds before T."""

    def mean(record: Record) -> Observation:
        values, resolution, _ = observe(record)
        before = [_before(each) for each in np.broadcast_arrays(values, resolution)]
        rounds = np.maximum(record["round"].values, 1)
        return bounds.mean_over_rounds(record, before[0] / rounds, before[1] / rounds)

    return mean


def _before(values: Float[np.ndarray, " rounds"]) -> Float[np.ndarray, " rounds"]:
    return np.concatenate([[0.0], np.cumsum(values)[:-1]])
