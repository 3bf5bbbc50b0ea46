"""Linear rates, and the step sizes that theorems guarantee, against the exact rate."""

from __future__ import annotations

import dataclasses

import numpy as np

from ntkdyn.methods.updates import ATC, CTA, D2, DGD, EXTRA, DIGing
from ntkdyn.theory import bounds, rates
from ntkdyn.theory.bounds import Assumption, Bound, Case
from ntkdyn.theory.theorems.register import about
from ntkdyn.theory.theorems.unbiased import (
    TRACKING,
    contraction,
    exact_diffusion,
    extra_contraction,
    extra_linear,
    gains,
    restricted,
    second,
    tracked,
    tracking_range,
)


@about(DGD, CTA, ATC)
def diffusion_rate(case: Case) -> Bound:
    """The exact rate is at most max(1 - nu, eta L - lambda_min(W)) for DGD, with symmetric W.

    nu is the larger of eta mu and that of `restricted` with G = I - W, which needs mu_F > 0 only.
    For ATC and CTA with doubly stochastic W, |W (I - eta H)| <= max(|1 - eta mu|, |1 - eta L|).
    """
    constants, eta = case.constants, case.step_size
    if case.steps_as(DGD):
        fastest = eta * constants.smoothness - case.weights.smallest_eigenvalue
        nu = max(eta * constants.convexity, restricted(case, 1 - second(case.weights.matrix)))
        promised, graph = max(1 - nu, fastest), bounds.symmetric(case)
    else:
        promised = max(abs(1 - eta * constants.convexity), abs(1 - eta * constants.smoothness))
        graph = bounds.doubly_stochastic(case)
    return _rate(case, promised, "elementary", (graph,))


@about(EXTRA)
def extra_rate_in_the_end(case: Case) -> Bound:
    """The exact rate is at most (1 + delta)^(-1/2) of `extra_linear`."""
    promised = extra_linear(case)
    factor = float(np.sqrt(extra_contraction(case)))
    return _rate(case, factor, promised.source, promised.assumptions)


@about(D2)
def exact_diffusion_rate(case: Case) -> Bound:
    """The exact rate is at most sqrt(q) of `exact_diffusion`."""
    promised = exact_diffusion(case)
    return _rate(case, float(np.sqrt(contraction(case))), promised.source, promised.assumptions)


@about(DIGing)
def tracking_rate(case: Case) -> Bound:
    """The exact rate is at most rho(G) of `tracking_disagreement`."""
    promised = float(np.abs(np.linalg.eigvals(gains(case, case.step_size))).max())
    return _rate(case, promised, TRACKING, tracked(case))


@about(DIGing)
def diging_rate(case: Case) -> Bound:
    """DIGing's own range and rate: the exact rate is at most lambda.

        lambda^2 = 1 - eta mubar / 1.5                    for eta <= eta_1
        lambda = sqrt(eta mubar J / 1.5) + delta          for eta_1 <= eta <= eta_2

    delta = beta, mubar = 1/m sum_i mu_i, kappa = L / mubar, J = 3 kappa (1 + 4 sqrt(m kappa)),
    eta_2 = 1.5 (1 - delta)^2 / (mubar J). The two meet in eta_1: of both the larger holds. For a
    graph that is connected in every round; the paper's constants as we know them.
    """
    constants, eta, delta = case.constants, case.step_size, case.weights.contraction
    mean_mu = float(np.mean(constants.local_convexities))
    limit, promised = 0.0, np.nan
    if mean_mu > 0:
        kappa = constants.smoothness / mean_mu
        J = 3 * kappa * (1 + 4 * np.sqrt(constants.agents * kappa))
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
        rates.exactly(case, lambda: rates.rate(case)),
        case,
        of_run=False,
        factor=True,
    )


@about(DGD, CTA, ATC, EXTRA, D2, DIGing)
def step_size(case: Case) -> Bound:
    """At the largest step size that a theorem guarantees, the exact rate is at most 1.

    The guarantees are the ranges of `descent` (DGD), `diffusion_rate` (CTA, ATC), `extra_energy`,
    `exact_diffusion` and `tracking_disagreement`.
    """
    limit, formula, needs = guaranteed_step(case)
    at_limit = case._replace(method=case.method.with_step_size(max(float(limit), 1e-300)))
    return Bound(
        "step size",
        f"factor per round at eta = {formula}",
        "as the bounds above",
        (bounds.squared_error(case), *needs),
        np.ones_like,
        rates.exactly(case, lambda: rates.rate(at_limit)),
        case,
        of_run=False,
    )


def guaranteed_step(case: Case) -> tuple[float, str, tuple[Assumption, ...]]:
    """(limit, its formula, what it asks of W) for the case's method."""
    L, least = case.constants.smoothness, case.weights.smallest_eigenvalue
    if case.steps_as(DIGing):
        needs = bounds.doubly_stochastic(case), bounds.contracting(case)
        return tracking_range(case), "sup(rho(G) < 1)", needs
    if case.steps_as(DGD, EXTRA):
        return (1 + least) / L, "(1 + lambda_min(W)) / L", (bounds.symmetric(case),)
    if case.steps_as(ATC, CTA):
        return 2 / L, "2 / L", (bounds.doubly_stochastic(case),)
    return 2 / L, "2 / L", (bounds.symmetric(case), bounds.positive(case))
