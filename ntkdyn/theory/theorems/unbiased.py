"""Methods without bias: gradient tracking, EXTRA, exact diffusion and their kin."""

from __future__ import annotations

import numpy as np
import scipy.optimize
from jaxtyping import Float

from ntkdyn.methods.updates import D2, EXTRA, DIGing
from ntkdyn.records import Record
from ntkdyn.theory import bounds
from ntkdyn.theory.bounds import Assumption, Bound, Case, Observation
from ntkdyn.theory.theorems.register import about


@about(DIGing)
def tracking_mean(case: Case) -> Bound:
    """F(mean x(t)) - min F <= (L_F / 2m) [G^t z(0)]_3^2; see `tracking_disagreement`."""
    constants = case.constants
    return Bound(
        "tracking, mean",
        "F(mean x) - min F",
        TRACKING,
        tracked(case),
        lambda t: (
            constants.mean_smoothness / (2 * constants.agents) * _tracking(case, t)[:, 2] ** 2
        ),
        bounds.excess(case),
        case,
    )


@about(DIGing)
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
        tracked(case),
        lambda t: _tracking(case, t)[:, 1],
        bounds.disagreement(case),
        case,
    )


TRACKING = "Qu, Li 2018, in form; the method: Nedic, Olshevsky, Shi 2017"


def gains(case: Case, step_size: float) -> Float[np.ndarray, "3 3"]:
    """G of `tracking_disagreement`."""
    constants, beta = case.constants, case.weights.contraction
    L = constants.smoothness
    slow, fast = 1 - step_size * constants.mean_convexity, 1 - step_size * constants.mean_smoothness
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
    upper = 2 / case.constants.smoothness
    trial = upper * np.geomspace(1e-12, 1, 200)
    stable = np.array([radius(eta) < 0 for eta in trial])
    if not stable.any():
        return 0.0
    last = int(np.flatnonzero(stable)[-1])
    if last == len(trial) - 1:
        return upper
    return float(scipy.optimize.brentq(radius, trial[last], trial[last + 1]))


def tracked(case: Case) -> tuple[Assumption, ...]:
    """What `tracking_disagreement` needs."""
    step = bounds.step_up_to(case, tracking_range(case), "sup(rho(G) < 1)")
    return (
        bounds.squared_error(case),
        bounds.doubly_stochastic(case),
        bounds.contracting(case),
        step,
    )


def _tracking(case: Case, t: Float[np.ndarray, " rounds"]) -> Float[np.ndarray, "rounds 3"]:
    """G^t z(0)."""
    constants = case.constants
    products = constants.forces(at_minimiser=False)
    apart = np.trace(products) - products.mean() * constants.agents
    distance = constants.distance if constants.quadratic else np.nan
    start = [np.sqrt(max(apart, 0)), 0, np.sqrt(constants.agents) * distance]
    matrix = gains(case, case.step_size)
    return np.stack([np.linalg.matrix_power(matrix, int(each)) @ start for each in t])


def _energy(case: Case, matrix: np.ndarray) -> float:
    """m |x*|^2 + eta^2 |grad f(x*)|^2 in the pseudo-inverse of I - matrix."""
    constants = case.constants
    if not constants.quadratic:
        return np.nan
    inverse = np.linalg.pinv(np.eye(constants.agents) - matrix, hermitian=True)
    pushed = float(np.sum(inverse * constants.forces(at_minimiser=True)))
    return constants.agents * constants.distance**2 + case.step_size**2 * pushed


def _lazy(case: Case) -> Float[np.ndarray, "agents agents"]:
    return (np.eye(case.weights.agents) + case.weights.matrix) / 2


@about(EXTRA)
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
        EXTRA_CONVEX,
        _extra(case),
        lambda t: np.full_like(t, start),
        lambda record: _distance(case, record, least),
        case,
    )


@about(EXTRA)
def extra_rate(case: Case) -> Bound:
    """1/T sum_{0<t<=T} |Delta(t)|^2 <= 2 E(0) / ((1 - lambda_2(W)) T): the energy lost."""
    start, gap = _energy(case, _lazy(case)), 1 - second(case.weights.matrix)

    def observe(record: Record) -> Observation:
        values, resolution, _ = bounds.disagreement(case)(record)
        rounds = np.maximum(record["round"].values, 1)
        means = [np.cumsum(each**2) / rounds for each in (values, resolution)]
        return bounds.mean_over_rounds(record, *means)

    return Bound(
        "EXTRA, rate",
        "mean over rounds of |Delta|^2",
        EXTRA_CONVEX,
        _extra(case),
        lambda t: 2 * start / (max(gap, 1e-300) * np.maximum(t, 1)),
        observe,
        case,
    )


@about(EXTRA)
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
    q = extra_contraction(case)
    return Bound(
        "EXTRA, linear",
        "lambda_min(V) |Delta|^2 + 2m (F(mean x) - F*) / L_F",
        EXTRA_LINEAR,
        _extra(case, share=0.5),
        lambda t: q**t * start,
        lambda record: _distance(case, record, least),
        case,
    )


EXTRA_CONVEX = "as in Shi, Ling, Wu, Yin 2015 (convex case); constants ours"

EXTRA_LINEAR = "as in Shi, Ling, Wu, Yin 2015, Theorem 3.7; constants ours"


def _extra(case: Case, share: float = 1.0) -> tuple[Assumption, ...]:
    limit = share * (1 + case.weights.smallest_eigenvalue) / case.constants.smoothness
    formula = "(1 + lambda_min(W)) / L" if share == 1 else "(1 + lambda_min(W)) / (2 L)"
    step = bounds.step_up_to(case, limit, formula)
    return bounds.squared_error(case), bounds.symmetric(case), bounds.contracting(case), step


def extra_contraction(case: Case) -> float:
    """1 / (1 + delta) of `extra_linear`."""
    kappa = (1 - second(case.weights.matrix)) / 2
    nu, steep = restricted(case, kappa), case.step_size * case.constants.smoothness
    if min(nu, kappa) <= 0:
        return 1.0
    return 1 / (1 + 1 / (1 / nu + (1 + steep) / kappa))


def restricted(case: Case, kappa: float) -> float:
    """nu > 0 with |x|^2_G + eta |x|^2_H >= nu |x|^2 for G >= kappa on what is off the mean.

    Strong convexity where no agent has it, from |x|_H >= sqrt(mu_F) |mean part| - sqrt(L) |rest|
    (the mean part counts m times): the smallest eigenvalue of the form in these two lengths.
    """
    constants, eta = case.constants, case.step_size
    slow, cross = (
        eta * constants.mean_convexity,
        -eta * np.sqrt(constants.mean_convexity * constants.smoothness),
    )
    form = [[slow, cross], [cross, kappa + eta * constants.smoothness]]
    return max(float(np.linalg.eigvalsh(form)[0]), 0.0)


@about(D2)
def exact_diffusion(case: Case) -> Bound:
    """|x(t) - x*|^2 + |y(t) - y*|^2 <= q^t E(0), q = max((1-eta mu)^2, (1-eta L)^2, lambda_2(V)).

    z+ = x - eta g - B y, y+ = y + B z+, x+ = V z+ with B^2 = I - V gives, with e the error of
    x - eta g, |z+|^2_V + |y+|^2 = |e|^2 + |y|^2_V exactly, for errors; |x+|^2 = |z+|^2_(V^2) is at
    most |z+|^2_V if 0 <= V <= I. The range 0 < eta <= 2/L does not depend on the graph. V is what
    the method applies: (I + W)/2 for exact diffusion, W for D^2. mu = 0 still gives q = 1.
    """
    q, start = contraction(case), _energy(case, case.weights.matrix)
    return Bound(
        "exact diffusion",
        "|Delta|^2 + 2m (F(mean x) - F*) / L_F",
        "Li, Shi, Yan 2019 and Alghunaim et al. 2021, in form; the method: Yuan et al. 2019",
        (
            bounds.squared_error(case),
            bounds.symmetric(case),
            bounds.positive(case),
            bounds.contracting(case),
            bounds.step_up_to(case, 2 / case.constants.smoothness, "2 / L"),
        ),
        lambda t: q**t * start,
        lambda record: _distance(case, record, 1.0),
        case,
    )


def contraction(case: Case) -> float:
    """q of `exact_diffusion`."""
    constants, eta = case.constants, case.step_size
    local = max((1 - eta * constants.convexity) ** 2, (1 - eta * constants.smoothness) ** 2)
    return max(local, second(case.weights.matrix))


def second(matrix: np.ndarray) -> float:
    """lambda_2 of a symmetric matrix; of the symmetric part of another."""
    return float(np.linalg.eigvalsh((matrix + matrix.T) / 2)[-2]) if len(matrix) > 1 else 0.0


def _distance(case: Case, record: Record, factor: float) -> Observation:
    """factor |Delta|^2 + 2 m (F(mean x) - F*) / L_F <= factor |Delta|^2 + m |mean x - x*|^2."""
    constants = case.constants
    apart, blur, _ = bounds.disagreement(case)(record)
    above, noise, _ = bounds.excess(case)(record)
    scale = 2 * constants.agents / constants.mean_smoothness
    return Observation(factor * apart**2 + scale * above, factor * blur**2 + scale * noise)
