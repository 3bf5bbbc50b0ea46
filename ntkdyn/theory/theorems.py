"""Theorems about decentralized methods, each as a function of a case that gives a `Bound`.

Notation: m agents start together at x = 0; L = max_i lambda_max(H_i); mu = min_i lambda_min(H_i),
mu_F, L_F the same of F = mean f_i, on what training can reach; beta = |W - 11'/m|_2; eta the step
size; D bounds |(grad f_1, ..., grad f_m)|; x* minimises F; zeta^2 = 1/m sum |grad f_i(x*)|^2;
|Delta|^2 = sum_i |x_i - mean x|^2. Where a source is cited "in form", its bound is derived in the
docstring with explicit constants, and these, not the paper's, are what is checked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize
from jaxtyping import Float

from ntkdyn.graphs import mixing
from ntkdyn.methods import Method
from ntkdyn.problems import KernelProblem, Problem
from ntkdyn.records import Record
from ntkdyn.theory import bounds, rates
from ntkdyn.theory.bounds import Assumption, Bound, Case, Observation
from ntkdyn.theory.landscape import landscape
from ntkdyn.theory.stack import applied

Theorem = Callable[[Case], Bound]

THEOREMS: list[tuple[frozenset[str], Theorem]] = []
"""(the methods it is about; empty: all, the theorem)"""


def about(*methods: str) -> Callable[[Theorem], Theorem]:
    """Register a theorem for these methods."""

    def register(theorem: Theorem) -> Theorem:
        THEOREMS.append((frozenset(methods), theorem))
        return theorem

    return register


def case(
    problem: Problem | KernelProblem, method: Method, weights: Any, *, kernel: str = "empirical"
) -> Case:
    """The case of a method whose step size is a number."""
    agents = problem.task.agents
    given = mixing(weights, agents=agents)
    return Case(landscape(problem, kernel), method, applied(method, given, agents=agents), given)


def bounds_of(case: Case) -> list[Bound]:
    """Every bound that is about the case's method, met or not."""
    name = case.method.name
    return [theorem(case) for methods, theorem in THEOREMS if not methods or name in methods]


# --- averaging alone --------------------------------------------------------------------------


@about()
def averaging(case: Case) -> Bound:
    """|W^t - 11'/m|_2 <= beta^t, because W - 11'/m and 11'/m annihilate each other."""
    beta = case.weights.contraction

    def observe(record: Record) -> Observation:
        apart = case.weights.matrix - 1 / case.landscape.agents
        powers = [np.linalg.matrix_power(apart, int(t)) for t in record["round"].values]
        return Observation(np.array([np.linalg.norm(power, 2) for power in powers]), 1e-14)

    return Bound(
        "averaging",
        "|W^t - 11'/m|",
        "elementary; Xiao, Boyd 2004",
        (bounds.doubly_stochastic(case), bounds.contracting(case)),
        lambda t: beta**t,
        observe,
        case,
        of_run=False,
    )


# --- DGD and diffusion ------------------------------------------------------------------------


def _descends(case: Case) -> tuple[Assumption, ...]:
    """When sum_i f_i(x_i) never exceeds its start; see `descent`."""
    L, least = case.landscape.smoothness, case.weights.smallest_eigenvalue
    if case.method.name == "dgd":
        step = bounds.step_up_to(case, (1 + least) / L, "(1 + lambda_min(W)) / L")
        return bounds.symmetric(case), step
    step = bounds.step_up_to(case, 2 / L, "2 / L")
    return bounds.symmetric(case), bounds.positive(case), step


@about("dgd", "atc")
def descent(case: Case) -> Bound:
    """sum_i f_i(x_i(t)) <= sum_i f_i(0) (Yuan, Ling, Yin 2016, the step-size condition).

    DGD is gradient descent with step one on 1/2 x'(I - W)x + eta f(x), whose gradient has the
    Lipschitz constant 1 - lambda_min(W) + eta L; it descends if that is at most two, and
    the first term is zero at the start. ATC with W > 0 is the same in the metric of W^-1, on
    1/2 x'(W^-1 - I)x + eta f(x): it descends if eta L w <= 1 + w for every eigenvalue w, so if
    eta L <= 2; W >= 0 is the limit.
    """
    start = float(case.landscape.local_starts.sum())
    return Bound(
        "descent",
        "sum of own losses",
        "Yuan, Ling, Yin 2016, in form",
        _descends(case),
        lambda t: np.full_like(t, start),
        bounds.summed_loss,
        case,
    )


def _drift(case: Case, t: Float[np.ndarray, " rounds"]) -> Float[np.ndarray, " rounds"]:
    """eta D (1 - beta^t) / (1 - beta): see `dgd_disagreement`."""
    beta = case.weights.contraction
    return case.step_size * case.landscape.gradient_bound * (1 - beta**t) / (1 - beta)


@about("dgd", "cta", "atc")
def diffusion_disagreement(case: Case) -> Bound:
    """|Delta(t)| <= eta D (1 - beta^t) / (1 - beta), and beta times that for ATC.

    Delta(t) = -eta sum_{s<t} (W - 11'/m)^(t-1-s) g(s) for DGD, with one factor W more for ATC. By
    `descent` sum_i f_i never exceeds its start, so |g|^2 <= 2 L sum_i (f_i - min f_i) <= D^2. CTA
    takes its gradients at W x, which is an ATC sequence.
    """
    factor = case.weights.contraction if case.method.name == "atc" else 1.0
    return Bound(
        "disagreement",
        "|Delta|",
        "Yuan, Ling, Yin 2016, bounded deviation from the mean; ATC, CTA derived likewise",
        (*_descends(case), bounds.contracting(case)),
        lambda t: factor * _drift(case, t),
        bounds.disagreement,
        case,
    )


@about("dgd", "cta", "atc")
def neighbourhood(case: Case) -> Bound:
    """Linear convergence of the mean to a neighbourhood of size O(eta / (1 - beta)).

    e = |mean H^(1/2) (mean x - x*)| obeys e(t+1) <= rho e(t) + eta sqrt(L_F / m) L delta, where
    rho = max(|1 - eta mu_F|, |1 - eta L_F|) and delta bounds the disagreement of the points at
    which gradients are taken; summed up, with F - min F = e^2 / 2.
    """
    scape, eta, beta = case.landscape, case.step_size, case.weights.contraction
    rho = max(abs(1 - eta * scape.mean_convexity), abs(1 - eta * scape.mean_smoothness))
    factor = 1.0 if case.method.name == "dgd" else beta
    delta = factor * eta * scape.gradient_bound / (1 - beta) if beta < 1 else np.inf
    push = eta * np.sqrt(scape.mean_smoothness / scape.agents) * scape.smoothness * delta
    return Bound(
        "neighbourhood",
        "F(mean x) - min F",
        "Yuan, Ling, Yin 2016, linear convergence, in form",
        (bounds.squared_error(case), *_descends(case), bounds.contracting(case)),
        lambda t: 0.5 * (rho**t * np.sqrt(2 * scape.start_excess) + push * geometric(rho, t)) ** 2,
        bounds.excess(case),
        case,
    )


def geometric(rho: float, t: Float[np.ndarray, " rounds"]) -> Float[np.ndarray, " rounds"]:
    """1 + rho + ... + rho^(t-1)."""
    return t if rho == 1 else (1 - rho**t) / (1 - rho)


@about("dgd")
def flow_contraction(case: Case) -> Bound:
    """|Phi(t, t_0)| <= 1 for DGD's flow dx/dt = -(I - W) x / eta - H x, at every step size.

    A + A' = -((2I - W - W') / eta + 2 H) <= 0, because (W + W')/2 is doubly stochastic with W. The
    largest growth of |x| per round is exp(eta omega), omega = lambda_max((A + A') / 2), exactly.
    """
    return Bound(
        "flow",
        "growth of the flow per round",
        "Chaudhari et al. 2025 (type of statement); proof ours",
        (bounds.doubly_stochastic(case),),
        np.ones_like,
        _exactly(case, lambda: float(np.exp(rates.flow_exponent(case)))),
        case,
        of_run=False,
    )


def _exactly(case: Case, value: Callable[[], float]) -> Callable[[Record], Observation]:
    """A number that the case alone has, where rounds are linear and iterates not too large."""

    def observe(record: Record) -> Observation:
        told = rates.computable(case)
        seen = value() if told else np.nan
        return Observation(np.full(record.sizes["round"], seen), 1e-9 if told else np.inf)

    return observe


@about("dgd")
def nonexpansion(case: Case) -> Bound:
    """|x(t)| <= 2 sqrt(m) |x*| where every agent can fit its points: the discrete counterpart.

    I - (I - W + eta H) is a contraction in the step range of `descent`, so the distance to
    its fixed point, which is x* for every agent where all gradients vanish there, never grows.
    """
    scape = case.landscape
    limit = 2 * np.sqrt(scape.agents) * scape.distance if scape.quadratic else np.inf
    zeta = np.sqrt(scape.heterogeneity) if scape.quadratic else np.nan
    fits = Assumption("all gradients vanish at x*", zeta == 0, f"zeta = {zeta:.3g}")
    return Bound(
        "non-expansion",
        "distance travelled",
        "Chaudhari et al. 2025 (type of statement); proof ours",
        (bounds.squared_error(case), *_descends(case), fits),
        lambda t: np.full_like(t, limit),
        bounds.travelled,
        case,
    )


# --- decentralized SGD, without noise ---------------------------------------------------------


class Gossip:
    """p = 1 - beta^2; order = beta^2 where gradients are mixed (ATC, and CTA at W x), one for DGD.

    For both orders, with grads at points of disagreement Xi = |Delta|^2 / m,
    Xi+ <= (1 - p/2) Xi + (2 order / p) eta^2 (1/m) sum_i |grad f_i(x_i)|^2.
    """

    def __init__(self, case: Case) -> None:
        beta = case.weights.contraction
        self.p = max(1 - beta**2, 0.0)
        self.order = 1.0 if case.method.name == "dgd" else beta**2
        self.eta, self.L = case.step_size, case.landscape.smoothness
        self.common = (bounds.doubly_stochastic(case), bounds.contracting(case))

    def step_up_to(self, case: Case, times: float, formula: str, cap: float) -> Assumption:
        """eta <= min(cap, p / (times sqrt(order) L))."""
        slope = times * np.sqrt(self.order) * self.L
        return bounds.step_up_to(case, min(cap, self.p / slope if slope else np.inf), formula)


@about("dgd", "cta", "atc")
def sgd_convex(case: Case) -> Bound:
    """1/T sum_{t<T} (F(mean x(t)) - F*) <= 2 |x*|^2 / (eta T) + 72 order eta^2 L zeta^2 / p^2.

    From |mean x+ - x*|^2 <= |mean x - x*|^2 - eta (F - F*) + 3/2 eta L Xi (eta <= 1/(4L)), and
    Xi+ <= (1 - p/4) Xi + (12 order eta^2 L / p)(F - F*) + 6 order eta^2 zeta^2 / p, summed; the
    coupling is at most half where eta <= p / (12 sqrt(order) L). A record that skips rounds shows
    a part of the sum.
    """
    scape, gossip = case.landscape, Gossip(case)
    zeta = scape.heterogeneity if scape.quadratic else np.nan
    distance = scape.distance if scape.quadratic else np.nan
    floor = 72 * gossip.order * gossip.eta**2 * gossip.L * zeta / max(gossip.p, 1e-300) ** 2
    step = gossip.step_up_to(case, 12.0, "min(1/4, p/(12 sqrt(order))) / L", 1 / (4 * gossip.L))
    return Bound(
        "D-SGD, convex",
        "mean over rounds of F(mean x) - min F",
        "Koloskova et al. 2020, Theorem 2, in form",
        (bounds.squared_error(case), *gossip.common, step),
        lambda t: 2 * distance**2 / (gossip.eta * np.maximum(t, 1e-300)) + floor,
        _running_mean(bounds.excess(case)),
        case,
    )


@about("dgd", "cta", "atc")
def sgd_strongly_convex(case: Case) -> Bound:
    """|mean x(t) - x*|^2 <= q^t |x*|^2 + 72 order eta^3 L zeta^2 / (p^2 (1 - q)).

    q = 1 - min(eta mu_F / 4, p / 8): V = |mean x - x*|^2 + (12 eta L / p) Xi contracts by q, half
    of eta (F - F*) >= eta mu_F / 4 |mean x - x*|^2 being kept for it, where
    eta <= p / (17 sqrt(order) L). Seen as 2 (F - F*) / L_F, which is no larger.
    """
    scape, gossip = case.landscape, Gossip(case)
    zeta = scape.heterogeneity if scape.quadratic else np.nan
    distance = scape.distance if scape.quadratic else np.nan
    q = 1 - min(gossip.eta * scape.mean_convexity / 4, gossip.p / 8)
    push = 72 * gossip.order * gossip.eta**3 * gossip.L * zeta / max(gossip.p, 1e-300) ** 2
    step = gossip.step_up_to(case, 17.0, "min(1/4, p/(17 sqrt(order))) / L", 1 / (4 * gossip.L))
    return Bound(
        "D-SGD, strongly convex",
        "F(mean x) - min F",
        "Koloskova et al. 2020, Theorem 2, in form",
        (bounds.squared_error(case), *gossip.common, step),
        lambda t: scape.mean_smoothness / 2 * (q**t * distance**2 + push * geometric(q, t)),
        bounds.excess(case),
        case,
    )


@about("dgd", "cta", "atc")
def sgd_nonconvex(case: Case) -> Bound:
    """1/T sum_{t<T} |grad F(mean x(t))|^2 <= 4 (F(0) - F*) / (eta T) + 64 order (eta L zeta / p)^2.

    Convexity is not used: F+ <= F - eta/2 |grad F|^2 + eta/2 L^2 Xi (eta <= 1/L), with
    1/m sum |grad f_i(x)|^2 <= 2 zeta^2 + 2 P |grad F(x)|^2, P the least that holds on the problem,
    and Xi+ <= (1 - p/4) Xi + (4 order eta^2 / p)(2 zeta^2 + 2 P |grad F|^2), summed.
    """
    scape, gossip = case.landscape, Gossip(case)
    growth = scape.growth if scape.quadratic else np.nan
    zeta = scape.heterogeneity if scape.quadratic else np.nan
    times = max(4.0, 8 * np.sqrt(growth)) if scape.quadratic else 4.0
    floor = 64 * gossip.order * (gossip.eta * gossip.L / max(gossip.p, 1e-300)) ** 2 * zeta
    step = gossip.step_up_to(
        case, times, "min(1, p/(max(4, 8 sqrt(P)) sqrt(order))) / L", 1 / gossip.L
    )
    return Bound(
        "D-SGD, non-convex",
        "mean over rounds of |grad F(mean x)|^2",
        "Koloskova et al. 2020, Theorem 2, in form",
        (bounds.squared_error(case), *gossip.common, step),
        lambda t: 4 * scape.start_excess / (gossip.eta * np.maximum(t, 1e-300)) + floor,
        _running_mean(
            lambda record: Observation(scape.squared_gradient(bounds.centroid(case, record)))
        ),
        case,
    )


def _running_mean(
    observe: Callable[[Record], Observation],
) -> Callable[[Record], Observation]:
    """1/T times the sum over the recorded rounds before T; the terms not recorded are dropped."""

    def mean(record: Record) -> Observation:
        values, resolution = observe(record)
        before = np.concatenate([[0.0], np.cumsum(values)[:-1]])
        return Observation(before / np.maximum(record["round"].values, 1), resolution)

    return mean


# --- methods without bias ---------------------------------------------------------------------


@about("diging")
def tracking_mean(case: Case) -> Bound:
    """F(mean x(t)) - min F <= (L_F / 2m) [G^t z(0)]_3^2; see `tracking_disagreement`."""
    scape = case.landscape
    return Bound(
        "tracking, mean",
        "F(mean x) - min F",
        TRACKING,
        _tracked(case),
        lambda t: scape.mean_smoothness / (2 * scape.agents) * _tracking(case, t)[:, 2] ** 2,
        bounds.excess(case),
        case,
    )


@about("diging")
def tracking_disagreement(case: Case) -> Bound:
    """|Delta(t)| <= [G^t z(0)]_2: small gains between tracker, disagreement and mean.

    z = (|s - mean s|, |Delta|, sqrt(m) |mean x - x*|) of x+ = W x - eta s, s+ = W s + g+ - g obeys
    z+ <= G z entry by entry, lambda = max(|1 - eta mu_F|, |1 - eta L_F|):

        G = ((beta + eta L, L (2 + eta L), eta L^2), (eta, beta, 0), (0, eta L, lambda))

    Only F need be strongly convex. The step-size range is that in which rho(G) < 1.
    """
    return Bound(
        "tracking, disagreement",
        "|Delta|",
        TRACKING,
        _tracked(case),
        lambda t: _tracking(case, t)[:, 1],
        bounds.disagreement,
        case,
    )


TRACKING = "Qu, Li 2018, in form; the method: Nedic, Olshevsky, Shi 2017"


def gains(case: Case, step_size: float) -> Float[np.ndarray, "3 3"]:
    """G of `tracking_disagreement`."""
    scape, beta = case.landscape, case.weights.contraction
    L = scape.smoothness
    slow, fast = 1 - step_size * scape.mean_convexity, 1 - step_size * scape.mean_smoothness
    return np.array(
        [
            [beta + step_size * L, L * (2 + step_size * L), step_size * L**2],
            [step_size, beta, 0],
            [0, step_size * L, max(abs(slow), abs(fast))],
        ]
    )


def tracking_range(case: Case) -> float:
    """The largest eta up to which rho(G) < 1."""
    radius = lambda eta: float(np.abs(np.linalg.eigvals(gains(case, eta))).max()) - 1
    upper = 2 / case.landscape.smoothness
    trial = upper * np.geomspace(1e-12, 1, 200)
    stable = np.array([radius(eta) < 0 for eta in trial])
    if not stable.any():
        return 0.0
    last = int(np.flatnonzero(stable)[-1])
    if last == len(trial) - 1:
        return upper
    return float(scipy.optimize.brentq(radius, trial[last], trial[last + 1]))


def _tracked(case: Case) -> tuple[Assumption, ...]:
    step = bounds.step_up_to(case, tracking_range(case), "sup(rho(G) < 1)")
    return (
        bounds.squared_error(case),
        bounds.doubly_stochastic(case),
        bounds.contracting(case),
        step,
    )


def _tracking(case: Case, t: Float[np.ndarray, " rounds"]) -> Float[np.ndarray, "rounds 3"]:
    """G^t z(0)."""
    scape = case.landscape
    products = scape.forces(at_minimiser=False)
    apart = np.trace(products) - products.mean() * scape.agents
    distance = scape.distance if scape.quadratic else np.nan
    start = [np.sqrt(max(apart, 0)), 0, np.sqrt(scape.agents) * distance]
    matrix = gains(case, case.step_size)
    return np.stack([np.linalg.matrix_power(matrix, int(each)) @ start for each in t])


def _energy(case: Case, matrix: np.ndarray) -> float:
    """m |x*|^2 + eta^2 |grad f(x*)|^2 in the pseudo-inverse of I - matrix."""
    scape = case.landscape
    if not scape.quadratic:
        return np.nan
    inverse = np.linalg.pinv(np.eye(scape.agents) - matrix, hermitian=True)
    pushed = float(np.sum(inverse * scape.forces(at_minimiser=True)))
    return scape.agents * scape.distance**2 + case.step_size**2 * pushed


def _lazy(case: Case) -> Float[np.ndarray, "agents agents"]:
    return (np.eye(case.weights.agents) + case.weights.matrix) / 2


@about("extra")
def extra_energy(case: Case) -> Bound:
    """|x(t) - x*|^2_V + |q(t) - q*|^2 never grows, V = (I + W)/2, for eta <= (1 + lambda_min) / L.

    x+ = V x - U q - eta g, q+ = q + U x+, U^2 = I - V. The energy changes by
    -|x+ - x|^2_V - |x+|^2_(I-V) - 2 eta <g - g*, x+ - x*>, and co-coercivity turns the last
    into at most eta L / 2 |x+ - x|^2. At the start it is m |x*|^2 + eta^2 |grad f(x*)|^2_((I-V)^+).
    Seen: lambda_min(V) |Delta|^2 + 2 m (F - F*) / L_F, which is no larger.
    """
    start, least = _energy(case, _lazy(case)), (1 + case.weights.smallest_eigenvalue) / 2
    return Bound(
        "EXTRA, energy",
        "lambda_min(V) |Delta|^2 + 2m (F(mean x) - F*) / L_F",
        EXTRA,
        _extra(case),
        lambda t: np.full_like(t, start),
        lambda record: _distance(case, record, least),
        case,
    )


@about("extra")
def extra_rate(case: Case) -> Bound:
    """1/T sum_{0<t<=T} |Delta(t)|^2 <= 2 E(0) / ((1 - lambda_2(W)) T): the energy lost."""
    start, gap = _energy(case, _lazy(case)), 1 - _second(case.weights.matrix)

    def observe(record: Record) -> Observation:
        values, resolution = bounds.disagreement(record)
        rounds = np.maximum(record["round"].values, 1)
        return Observation(np.cumsum(values**2) / rounds, len(values) * resolution**2)

    return Bound(
        "EXTRA, rate",
        "mean over rounds of |Delta|^2",
        EXTRA,
        _extra(case),
        lambda t: 2 * start / (max(gap, 1e-300) * np.maximum(t, 1)),
        observe,
        case,
    )


@about("extra")
def extra_linear(case: Case) -> Bound:
    """|x(t) - x*|^2_V + |q(t) - q*|^2 <= (1 + delta)^-t E(0), for eta <= (1 + lambda_min) / (2 L).

    1/delta = 1/nu + (1 + eta L)/kappa, kappa = (1 - lambda_2(W)) / 2, nu > 0 of `restricted`: F
    alone need be strongly convex. For quadratics the energy of `extra_energy` loses
    |d|^2_(V - eta H) + |e|^2_(I - V + eta H) or more, d = x+ - x and e = x+ - x*. Of what is left,
    |e|^2_V <= |e|^2_(I - V + eta H) / nu, and from U (q+ - q*) = -(V - eta H) d - eta H e, in the
    range of U, kappa |q+ - q*|^2 <= (1 + eta L)(|d|^2_(V - eta H) + |e|^2_(eta H)).
    Seen as in `extra_energy`.
    """
    start, least = _energy(case, _lazy(case)), (1 + case.weights.smallest_eigenvalue) / 2
    q = _extra_contraction(case)
    return Bound(
        "EXTRA, linear",
        "lambda_min(V) |Delta|^2 + 2m (F(mean x) - F*) / L_F",
        EXTRA_LINEAR,
        _extra(case, share=0.5),
        lambda t: q**t * start,
        lambda record: _distance(case, record, least),
        case,
    )


EXTRA = "as in Shi, Ling, Wu, Yin 2015 (convex case); constants ours"

EXTRA_LINEAR = "as in Shi, Ling, Wu, Yin 2015, Theorem 3.7; constants ours"


def _extra(case: Case, share: float = 1.0) -> tuple[Assumption, ...]:
    limit = share * (1 + case.weights.smallest_eigenvalue) / case.landscape.smoothness
    formula = "(1 + lambda_min(W)) / L" if share == 1 else "(1 + lambda_min(W)) / (2 L)"
    step = bounds.step_up_to(case, limit, formula)
    return bounds.squared_error(case), bounds.symmetric(case), bounds.contracting(case), step


def _extra_contraction(case: Case) -> float:
    """1 / (1 + delta) of `extra_linear`."""
    kappa = (1 - _second(case.weights.matrix)) / 2
    nu, steep = restricted(case, kappa), case.step_size * case.landscape.smoothness
    if min(nu, kappa) <= 0:
        return 1.0
    return 1 / (1 + 1 / (1 / nu + (1 + steep) / kappa))


def restricted(case: Case, kappa: float) -> float:
    """nu > 0 with |x|^2_G + eta |x|^2_H >= nu |x|^2 for G >= kappa on what is off the mean.

    Strong convexity where no agent has it, from |x|_H >= sqrt(mu_F) |mean part| - sqrt(L) |rest|
    (the mean part counts m times): the smallest eigenvalue of the form in these two lengths.
    """
    scape, eta = case.landscape, case.step_size
    slow, cross = (
        eta * scape.mean_convexity,
        -eta * np.sqrt(scape.mean_convexity * scape.smoothness),
    )
    form = [[slow, cross], [cross, kappa + eta * scape.smoothness]]
    return max(float(np.linalg.eigvalsh(form)[0]), 0.0)


@about("exact_diffusion", "nids", "d2")
def exact_diffusion(case: Case) -> Bound:
    """|x(t) - x*|^2 + |y(t) - y*|^2 <= q^t E(0), q = max((1-eta mu)^2, (1-eta L)^2, lambda_2(V)).

    z+ = x - eta g - B y, y+ = y + B z+, x+ = V z+ with B^2 = I - V gives, with e the error of
    x - eta g, |z+|^2_V + |y+|^2 = |e|^2 + |y|^2_V exactly, for errors; |x+|^2 = |z+|^2_(V^2) is at
    most |z+|^2_V if 0 <= V <= I. The range 0 < eta <= 2/L does not depend on the graph. V is what
    the method applies: (I + W)/2 for exact diffusion, W for D^2. mu = 0 still gives q = 1.
    """
    q, start = _contraction(case), _energy(case, case.weights.matrix)
    return Bound(
        "exact diffusion",
        "|Delta|^2 + 2m (F(mean x) - F*) / L_F",
        "Li, Shi, Yan 2019 and Alghunaim et al. 2021, in form; the method: Yuan et al. 2019",
        (
            bounds.squared_error(case),
            bounds.symmetric(case),
            bounds.positive(case),
            bounds.contracting(case),
            bounds.step_up_to(case, 2 / case.landscape.smoothness, "2 / L"),
        ),
        lambda t: q**t * start,
        lambda record: _distance(case, record, 1.0),
        case,
    )


def _contraction(case: Case) -> float:
    """q of `exact_diffusion`."""
    scape, eta = case.landscape, case.step_size
    local = max((1 - eta * scape.convexity) ** 2, (1 - eta * scape.smoothness) ** 2)
    return max(local, _second(case.weights.matrix))


def _second(matrix: np.ndarray) -> float:
    """lambda_2 of a symmetric matrix; of the symmetric part of another."""
    return float(np.linalg.eigvalsh((matrix + matrix.T) / 2)[-2]) if len(matrix) > 1 else 0.0


def _distance(case: Case, record: Record, factor: float) -> Observation:
    """factor |Delta|^2 + 2 m (F(mean x) - F*) / L_F <= factor |Delta|^2 + m |mean x - x*|^2."""
    scape = case.landscape
    apart, blur = bounds.disagreement(record)
    above, noise = bounds.excess(case)(record)
    scale = 2 * scape.agents / scape.mean_smoothness
    return Observation(factor * apart**2 + scale * above, factor * blur**2 + scale * noise)


# --- one agent, or as good as one -------------------------------------------------------------


@about("dgd", "cta", "atc")
def centralized(case: Case) -> Bound:
    """F(mean x(t)) - F* <= rho^(2t) (F(0) - F*), rho = max(|1 - eta mu_F|, |1 - eta L_F|).

    Gradient descent, which all three are for one agent, and CTA and ATC where W averages all:
    (1 - eta lambda_min)^t in each mode's residual.
    """
    scape, eta = case.landscape, case.step_size
    rho = max(abs(1 - eta * scape.mean_convexity), abs(1 - eta * scape.mean_smoothness))
    off = float(np.abs(case.weights.matrix - 1 / scape.agents).max())
    alone = scape.agents == 1 or (off <= 1e-9 and case.method.name != "dgd")
    found = f"{scape.agents} agents, W is off 11'/m by {off:.2g}, method {case.method.name}"
    return Bound(
        "centralized",
        "F(mean x) - min F",
        "elementary",
        (bounds.squared_error(case), Assumption("all is averaged", alone, found)),
        lambda t: rho ** (2 * t) * scape.start_excess,
        bounds.excess(case),
        case,
    )


# --- linear rates -----------------------------------------------------------------------------


@about("dgd", "cta", "atc")
def diffusion_rate(case: Case) -> Bound:
    """The exact rate is at most max(1 - nu, eta L - lambda_min(W)) for DGD, with symmetric W.

    nu is the larger of eta mu and that of `restricted` with G = I - W, which needs mu_F > 0 only.
    For ATC and CTA with doubly stochastic W, |W (I - eta H)| <= max(|1 - eta mu|, |1 - eta L|).
    """
    scape, eta = case.landscape, case.step_size
    if case.method.name == "dgd":
        fastest = eta * scape.smoothness - case.weights.smallest_eigenvalue
        nu = max(eta * scape.convexity, restricted(case, 1 - _second(case.weights.matrix)))
        promised, graph = max(1 - nu, fastest), bounds.symmetric(case)
    else:
        promised = max(abs(1 - eta * scape.convexity), abs(1 - eta * scape.smoothness))
        graph = bounds.doubly_stochastic(case)
    return _rate(case, promised, "elementary", (graph,))


@about("extra")
def extra_rate_in_the_end(case: Case) -> Bound:
    """The exact rate is at most (1 + delta)^(-1/2) of `extra_linear`."""
    promised = extra_linear(case)
    factor = float(np.sqrt(_extra_contraction(case)))
    return _rate(case, factor, promised.source, promised.assumptions)


@about("exact_diffusion", "nids", "d2")
def exact_diffusion_rate(case: Case) -> Bound:
    """The exact rate is at most sqrt(q) of `exact_diffusion`."""
    promised = exact_diffusion(case)
    return _rate(case, float(np.sqrt(_contraction(case))), promised.source, promised.assumptions)


@about("diging")
def tracking_rate(case: Case) -> Bound:
    """The exact rate is at most rho(G) of `tracking_disagreement`."""
    promised = float(np.abs(np.linalg.eigvals(gains(case, case.step_size))).max())
    return _rate(case, promised, TRACKING, _tracked(case))


@about("diging")
def diging_rate(case: Case) -> Bound:
    """DIGing's own range and rate: the exact rate is at most lambda.

        lambda^2 = 1 - eta mubar / 1.5                    for eta <= eta_1
        lambda = sqrt(eta mubar J / 1.5) + delta          for eta_1 <= eta <= eta_2

    delta = beta, mubar = 1/m sum_i mu_i, kappa = L / mubar, J = 3 kappa (1 + 4 sqrt(m kappa)),
    eta_2 = 1.5 (1 - delta)^2 / (mubar J). The two meet in eta_1: of both the larger holds. For a
    graph that is connected in every round; the paper's constants as we know them.
    """
    scape, eta, delta = case.landscape, case.step_size, case.weights.contraction
    mean_mu = float(np.mean(scape.local_convexities))
    limit, promised = 0.0, np.nan
    if mean_mu > 0:
        kappa = scape.smoothness / mean_mu
        J = 3 * kappa * (1 + 4 * np.sqrt(scape.agents * kappa))
        slow, fast = 1 - eta * mean_mu / 1.5, np.sqrt(eta * mean_mu * J / 1.5) + delta
        limit = 1.5 * (1 - delta) ** 2 / (mean_mu * J)
        promised = max(np.sqrt(max(slow, 0)), fast)
    some = Assumption("mean of mu_i > 0", mean_mu > 0, f"mean of mu_i = {mean_mu:.3g}")
    step = bounds.step_up_to(case, limit, "1.5 (1 - beta)^2 / (mubar J)")
    needs = bounds.squared_error(case), bounds.doubly_stochastic(case), bounds.contracting(case)
    source = "Nedic, Olshevsky, Shi 2017, explicit rate, one round of connectivity; reconstruction"
    own = _rate(case, promised, source, (*needs, some, step))
    return dataclasses.replace(own, name="DIGing's own rate")


def _rate(case: Case, promised: float, source: str, assumptions: tuple[Assumption, ...]) -> Bound:
    return Bound(
        "linear rate",
        "factor per round, in the end",
        source,
        assumptions,
        lambda t: np.full_like(t, promised),
        _exactly(case, lambda: rates.rate(case)),
        case,
        of_run=False,
    )


# --- step sizes -------------------------------------------------------------------------------


@about("dgd", "cta", "atc", "extra", "exact_diffusion", "nids", "d2", "diging")
def step_size(case: Case) -> Bound:
    """At the largest step size that a theorem guarantees, the exact rate is at most 1.

    The guarantees are the ranges of `descent` (DGD, CTA, ATC), `extra_energy`, `exact_diffusion`
    and `tracking_disagreement`.
    """
    limit, formula, needs = guaranteed_step(case)
    at_limit = case._replace(method=case.method.with_step_size(max(float(limit), 1e-300)))
    return Bound(
        "step size",
        f"factor per round at eta = {formula}",
        "as the bounds above",
        (bounds.squared_error(case), *needs),
        np.ones_like,
        _exactly(case, lambda: rates.rate(at_limit)),
        case,
        of_run=False,
    )


def guaranteed_step(case: Case) -> tuple[float, str, tuple[Assumption, ...]]:
    """(limit, its formula, what it asks of W) for the case's method."""
    L, least = case.landscape.smoothness, case.weights.smallest_eigenvalue
    name = case.method.name
    if name == "diging":
        needs = bounds.doubly_stochastic(case), bounds.contracting(case)
        return tracking_range(case), "sup(rho(G) < 1)", needs
    if name in ("dgd", "extra"):
        return (1 + least) / L, "(1 + lambda_min(W)) / L", (bounds.symmetric(case),)
    return 2 / L, "2 / L", (bounds.symmetric(case), bounds.positive(case))
