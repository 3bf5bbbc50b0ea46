"""Averaging, and descent with it: DGD, CTA and ATC, down to one agent alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from ntkdyn.methods.updates import ATC, CTA, DGD
from ntkdyn.records import Record
from ntkdyn.theory import bounds, rates
from ntkdyn.theory.bounds import Assumption, Bound, Case, Observation
from ntkdyn.theory.theorems.register import about


@about()
def averaging(case: Case) -> Bound:
    """|W^t - 11'/m|_2 <= beta^t, because W - 11'/m and 11'/m annihilate each other."""
    beta = case.weights.contraction

    def observe(record: Record) -> Observation:
        apart = case.weights.matrix - 1 / case.constants.agents
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


def descends(case: Case) -> tuple[Assumption, ...]:
    """When sum_i f_i(x_i) never exceeds its start; see `descent`."""
    L, least = case.constants.smoothness, case.weights.smallest_eigenvalue
    if case.steps_as(DGD):
        step = bounds.step_up_to(case, (1 + least) / L, "(1 + lambda_min(W)) / L")
        return bounds.symmetric(case), step
    step = bounds.step_up_to(case, 2 / L, "2 / L")
    return bounds.symmetric(case), bounds.positive(case), step


@about(DGD, ATC)
def descent(case: Case) -> Bound:
    """sum_i f_i(x_i(t)) <= sum_i f_i(0) (Yuan, Ling, Yin 2016, the step-size condition).

    DGD is gradient descent with step one on 1/2 x'(I - W)x + eta f(x), whose gradient has the
    Lipschitz constant 1 - lambda_min(W) + eta L; it descends if that is at most two, and
    the first term is zero at the start. ATC with W > 0 is the same in the metric of W^-1, on
    1/2 x'(W^-1 - I)x + eta f(x): it descends if eta L w <= 1 + w for every eigenvalue w, so if
    eta L <= 2; W >= 0 is the limit.
    """
    start = float(case.constants.local_starts.sum())
    return Bound(
        "descent",
        "sum of own losses",
        "Yuan, Ling, Yin 2016, in form",
        descends(case),
        lambda t: np.full_like(t, start),
        bounds.summed_loss,
        case,
    )


@about(DGD, CTA, ATC)
def diffusion_disagreement(case: Case) -> Bound:
    """|Delta(t)| <= eta D (1 - beta^t) / (1 - beta), and beta times that for ATC.

    Delta(t) = -eta sum_{s<t} (W - 11'/m)^(t-1-s) g(s) for DGD, with one factor W more for ATC. By
    `descent` sum_i f_i never exceeds its start, so |g|^2 <= 2 L sum_i (f_i - min f_i) <= D^2. CTA
    takes its gradients at W x, which is an ATC sequence.
    """
    known = (*descends(case), bounds.contracting(case))
    return _disagreement(case, "disagreement", YUAN_APART, known, lambda t: _descending(case, t))


@about(CTA, ATC)
def diffusion_disagreement_any(case: Case) -> Bound:
    """The same without W >= 0 or symmetry, with D(t) of `approaching` in place of D."""
    name, known = "disagreement, any W", _approaches(case)
    return _disagreement(case, name, CHEN_SAYED, known, lambda t: approaching(case, t))


@about(DGD, CTA, ATC)
def neighbourhood(case: Case) -> Bound:
    """Linear convergence of the mean to a neighbourhood of size O(eta / (1 - beta)).

    e = |mean H^(1/2) (mean x - x*)| obeys e(t+1) <= rho e(t) + eta sqrt(L_F / m) L delta, where
    rho = max(|1 - eta mu_F|, |1 - eta L_F|) and delta bounds the disagreement of the points at
    which gradients are taken; summed up, with F - min F = e^2 / 2.
    """
    known = (bounds.squared_error(case), *descends(case), bounds.contracting(case))
    return _neighbourhood(case, "neighbourhood", YUAN_NEAR, known, lambda t: _descending(case, t))


@about(CTA, ATC)
def neighbourhood_any(case: Case) -> Bound:
    """The same without W >= 0 or symmetry, with D(t) of `approaching` in place of D."""
    name, known = "neighbourhood, any W", _approaches(case)
    return _neighbourhood(case, name, CHEN_SAYED, known, lambda t: approaching(case, t))


YUAN_APART = "Yuan, Ling, Yin 2016, bounded deviation from the mean; ATC, CTA derived likewise"

YUAN_NEAR = "Yuan, Ling, Yin 2016, linear convergence, in form"

CHEN_SAYED = "Chen, Sayed 2013, contraction towards x*, in form; Berahas et al. 2019 for ATC"


def _disagreement(
    case: Case, name: str, source: str, known: tuple[Assumption, ...], gradients: Callable
) -> Bound:
    beta, factor = case.weights.contraction, case.step_size
    factor *= case.weights.contraction if case.steps_as(ATC) else 1.0
    at = lambda t: factor * gradients(t) * (1 - beta**t) / (1 - beta)
    return Bound(name, "|Delta|", source, known, at, bounds.disagreement(case), case)


def _neighbourhood(
    case: Case, name: str, source: str, known: tuple[Assumption, ...], gradients: Callable
) -> Bound:
    constants, eta, beta = case.constants, case.step_size, case.weights.contraction
    rho = max(abs(1 - eta * constants.mean_convexity), abs(1 - eta * constants.mean_smoothness))
    delta = (1.0 if case.steps_as(DGD) else beta) * eta / (1 - beta) if beta < 1 else np.inf
    push = (
        eta * np.sqrt(constants.mean_smoothness / constants.agents) * constants.smoothness * delta
    )
    start = np.sqrt(2 * constants.start_excess)
    at = lambda t: 0.5 * (rho**t * start + push * gradients(t) * geometric(rho, t)) ** 2
    return Bound(name, "F(mean x) - min F", source, known, at, bounds.excess(case), case)


def _descending(case: Case, t: Float[np.ndarray, " rounds"]) -> Float[np.ndarray, " rounds"]:
    """D, whatever the round."""
    return np.full_like(t, case.constants.gradient_bound)


def approaching(case: Case, t: Float[np.ndarray, " rounds"]) -> Float[np.ndarray, " rounds"]:
    """D(t) = sqrt(m) zeta + L max_{s<=t} |x(s) - x*|: |g| of CTA and ATC up to round t.

    With doubly stochastic W and eta <= 2/L the error is e+ = W ((I - eta H) e - eta g*) for ATC,
    and (I - eta H) W e - eta g* for CTA, g* = grad f(x*), whose sum is zero. So |e+| <= q |e| + p,
    q = max(|1 - eta mu|, |1 - eta L|), p = eta sqrt(m) zeta, beta times that for ATC; and |e| stays
    below both |e(0)| + p t and max(|e(0)|, p / (1 - q)), e(0) = sqrt(m) |x*|.
    """
    constants, eta = case.constants, case.step_size
    q = max(abs(1 - eta * constants.convexity), abs(1 - eta * constants.smoothness))
    apart = np.sqrt(constants.agents * constants.heterogeneity) if constants.quadratic else np.nan
    start = np.sqrt(constants.agents) * constants.distance if constants.quadratic else np.nan
    push = eta * apart * (case.weights.contraction if case.steps_as(ATC) else 1.0)
    most = max(start, push / (1 - q)) if q < 1 else np.inf
    return apart + constants.smoothness * np.minimum(start + push * t, most)


def _approaches(case: Case) -> tuple[Assumption, ...]:
    step = bounds.step_up_to(case, 2 / case.constants.smoothness, "2 / L")
    doubly, contracting = bounds.doubly_stochastic(case), bounds.contracting(case)
    return bounds.squared_error(case), doubly, contracting, step


def geometric(rho: float, t: Float[np.ndarray, " rounds"]) -> Float[np.ndarray, " rounds"]:
    """1 + rho + ... + rho^(t-1)."""
    return t if rho == 1 else (1 - rho**t) / (1 - rho)


@about(DGD)
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
        rates.exactly(case, lambda: float(np.exp(rates.flow_exponent(case)))),
        case,
        of_run=False,
    )


@about(DGD)
def nonexpansion(case: Case) -> Bound:
    """|x(t)| <= 2 sqrt(m) |x*| where every agent can fit its points: the discrete counterpart.

    I - (I - W + eta H) is a contraction in the step range of `descent`, so the distance to
    its fixed point, which is x* for every agent where all gradients vanish there, never grows.
    """
    constants = case.constants
    limit = 2 * np.sqrt(constants.agents) * constants.distance if constants.quadratic else np.inf
    zeta = np.sqrt(constants.heterogeneity) if constants.quadratic else np.nan
    fits = Assumption("all gradients vanish at x*", zeta == 0, f"zeta = {zeta:.3g}")
    return Bound(
        "non-expansion",
        "distance travelled",
        "Chaudhari et al. 2025 (type of statement); proof ours",
        (bounds.squared_error(case), *descends(case), fits),
        lambda t: np.full_like(t, limit),
        bounds.travelled(case),
        case,
    )


@about(DGD, CTA, ATC)
def centralized(case: Case) -> Bound:
    """F(mean x(t)) - F* <= rho^(2t) (F(0) - F*), rho = max(|1 - eta mu_F|, |1 - eta L_F|).

    Gradient descent, which all three are for one agent, and CTA and ATC where W averages all:
    (1 - eta lambda_min)^t in each mode's residual.
    """
    constants, eta = case.constants, case.step_size
    rho = max(abs(1 - eta * constants.mean_convexity), abs(1 - eta * constants.mean_smoothness))
    off = float(np.abs(case.weights.matrix - 1 / constants.agents).max())
    alone = constants.agents == 1 or (off <= 1e-9 and not case.steps_as(DGD))
    found = f"{constants.agents} agents, W is off 11'/m by {off:.2g}, method {case.method.name}"

    start = constants.start_excess
    return Bound(
        "centralized",
        "F(mean x) - min F",
        "elementary",
        (bounds.squared_error(case), Assumption("all is averaged", alone, found)),
        lambda t: rho ** (2 * t) * start if start else np.zeros_like(t),
        bounds.excess(case, growth=max(rho, 1.0)),
        case,
    )
