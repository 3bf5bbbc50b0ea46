"""What every theorem promises, and up to which step size, against its formula in plain numbers.

The problem's constants are made up, so that each stands for itself; formulas are written
down again from the publications, or from the derivations in `papers/bounds`.
"""

import re
from math import inf, sqrt
from types import SimpleNamespace

import numpy as np
import pytest

import ntkdyn as nd
from ntkdyn import graphs
from ntkdyn.theory import noisy, theorems
from ntkdyn.theory.bounds import Case

T = (1.0, 6.0, 40.0)
m, L, mu, LF, muF = 4, 2.0, 0.25, 1.5, 0.5
x2, zeta2, F0, D, P = 1.7**2, 0.3, 0.9, 3.1, 2.2
sigma2, ell, M = 0.45, 5.0, 1.3
mus = (0.25, 0.5, 0.75, 1.0)

# a ring of four, each hearing itself and two others with 1/3: eigenvalues 1, 1/3, 1/3, -1/3
RING = graphs.metropolis(graphs.ring(m))
beta, l2, least, p = 1 / 3, 1 / 3, -1 / 3, 1 - 1 / 9
# lazy: 1, 2/3, 2/3, 1/3
LAZY = graphs.lazy(RING)

START = np.diag([1.0, 2.0, 3.0, 4.0])
AT_BEST = np.array([[2.0, -1, 0, -1], [-1, 2, -1, 0], [0, -1, 2, -1], [-1, 0, -1, 2]])


def case_of(name, eta, weights=RING):
    constants = SimpleNamespace(
        smoothness=L, convexity=mu, mean_smoothness=LF, mean_convexity=muF, distance=sqrt(x2),
        heterogeneity=zeta2, start_excess=F0, gradient_bound=D, growth=P, agents=m, quadratic=True,
        local_starts=np.array([0.5, 1.0, 1.5, 2.0]), local_convexities=np.array(mus),
        loss=SimpleNamespace(name="mse"), point_smoothness=ell, batch_variance=lambda size: sigma2,
        batch_growth=lambda size: M,
        forces=lambda at_minimiser: AT_BEST if at_minimiser else START,
    )  # fmt: skip
    return Case(constants, nd.methods.METHODS[name](step_size=eta), weights, weights)


def summed(q, t):
    return sum(q**s for s in range(int(t)))


def tracking(eta, t):
    slow = max(abs(1 - eta * muF), abs(1 - eta * LF))
    gains = np.array(
        [[1 / 3 + eta * L, L * (2 + eta * L), eta * L**2], [eta, 1 / 3, 0], [0, eta * L, slow]]
    )
    # the gradients at the start have squares 1 + 2 + 3 + 4, and no mean but that of their sum
    z = np.array([sqrt(10 - 10 / 4), 0.0, sqrt(m * x2)])
    for _ in range(int(t)):
        z = gains @ z
    return z, np.abs(np.linalg.eigvals(gains)).max()


def gradients(eta, t, order):
    """Of CTA and ATC up to round t, for any W: |e| grows by no more than p a round, and forgets."""
    q, push = max(abs(1 - eta * mu), abs(1 - eta * L)), eta * sqrt(m * zeta2) * order
    distance, most = sqrt(m * x2), sqrt(m * x2)
    for _ in range(int(t)):
        distance = q * distance + push
        most = max(most, distance)
    return sqrt(m * zeta2) + L * most


def near(eta, t, size, order):
    rho = max(abs(1 - eta * muF), abs(1 - eta * LF))
    apart = order * eta * size / (1 - 1 / 3)
    return (rho**t * sqrt(2 * F0) + eta * sqrt(LF / m) * L * apart * summed(rho, t)) ** 2 / 2


def sgd(eta, t, order):
    q = 1 - min(eta * muF / 4, p / 8)
    floor = 72 * order * eta**2 * L * zeta2 / p**2
    return {
        "D-SGD, convex": 2 * x2 / (eta * t) + floor,
        "D-SGD, strongly convex": LF / 2 * (q**t * x2 + eta * floor * summed(q, t)),
        "D-SGD, non-convex": 4 * F0 / (eta * t) + 64 * order * eta**2 * L**2 * zeta2 / p**2,
    }


# (I - V)^+ on the two modes of the ring: AT_BEST has the eigenvalues 0, 2, 2, 4 along those of W
E_EXTRA = lambda eta: m * x2 + eta**2 * (2 * 2 / (1 / 3) + 4 / (2 / 3))
# V of exact diffusion on the lazy ring is (I + W)/2: 1, 5/6, 5/6, 2/3
E_DIFFUSION = lambda eta: m * x2 + eta**2 * (2 * 2 / (1 / 6) + 4 / (1 / 3))


def restricted(eta, kappa):
    """The smaller eigenvalue of ((a, -b), (-b, kappa + c))."""
    a, b, c = eta * muF, eta * sqrt(muF * L), eta * L
    return (a + kappa + c) / 2 - sqrt(((kappa + c - a) / 2) ** 2 + b**2)


def slower(eta):
    """1 + delta of EXTRA."""
    kappa = (1 - 1 / 3) / 2
    return 1 + 1 / (1 / max(restricted(eta, kappa), 0) + (1 + eta * L) / kappa)


def diging(eta):
    mean = sum(mus) / 4
    J = 3 * (L / mean) * (1 + 4 * sqrt(m * L / mean))
    return max(sqrt(1 - eta * mean / 1.5), sqrt(eta * mean * J / 1.5) + 1 / 3), J, mean


def promises(name, eta, t):
    """name of the bound -> its value in round t."""
    order = {"dgd": 1.0, "cta": 1 / 9, "atc": 1 / 9}.get(name, 0)
    once = {"atc": 1 / 3}.get(name, 1.0)
    if name in ("dgd", "cta", "atc"):
        geometric = (1 - (1 / 3) ** t) / (1 - 1 / 3)
        rho = max(abs(1 - eta * muF), abs(1 - eta * LF))
        any_w = gradients(eta, t, once)
        mixed = 1.0 if name == "dgd" else 1 / 3
        return sgd(eta, t, order) | {
            "averaging": (1 / 3) ** t,
            "descent": 5.0,
            "disagreement": once * eta * D * geometric,
            "disagreement, any W": once * eta * any_w * geometric,
            "neighbourhood": near(eta, t, D, mixed),
            "neighbourhood, any W": near(eta, t, any_w, mixed),
            "flow": 1.0,
            "non-expansion": 2 * sqrt(m * x2),
            "centralized": rho ** (2 * t) * F0,
            "linear rate": (
                max(1 - max(eta * mu, restricted(eta, 2 / 3)), eta * L + 1 / 3)
                if name == "dgd"
                else max(abs(1 - eta * mu), abs(1 - eta * L))
            ),
        }
    if name == "extra":
        return {
            "EXTRA, energy": E_EXTRA(eta),
            "EXTRA, rate": 2 * E_EXTRA(eta) / ((1 - 1 / 3) * t),
            "EXTRA, linear": E_EXTRA(eta) / slower(eta) ** t,
            "linear rate": 1 / sqrt(slower(eta)),
        }
    if name == "exact_diffusion":
        q = max((1 - eta * mu) ** 2, (1 - eta * L) ** 2, 5 / 6)
        return {"exact diffusion": q**t * E_DIFFUSION(eta), "linear rate": sqrt(q)}
    z, radius = tracking(eta, t)
    return {
        "tracking, mean": LF / (2 * m) * z[2] ** 2,
        "tracking, disagreement": z[1],
        "linear rate": radius,
        "DIGing's own rate": diging(eta)[0],
    }


def with_noise(eta, t, order):
    q = 1 - min(eta * muF / 4, p / 16)
    S = 6 * zeta2 / p**2 + 2 * sigma2 / p
    push = 2 * eta**2 * sigma2 / m + 26 * order * eta**3 * L * S
    return {
        "D-SGD with noise, non-convex": 4 * F0 / (eta * t) + 8 * eta * L * sigma2 / m
        + 80 * order * eta**2 * L**2 * (2 * zeta2 / p**2 + sigma2 / p),
        "D-SGD with noise, convex": 2 * x2 / (eta * t) + 4 * eta * sigma2 / m
        + 26 * order * eta**2 * L * S,
        "D-SGD with noise, strongly convex": LF / 2 * (q**t * x2 + push * summed(q, t)),
    }  # fmt: skip


def weights_for(name):
    """Exact diffusion applies (I + W)/2; the theorems see what is applied."""
    return graphs.mixing((np.eye(m) + LAZY.matrix) / 2) if name == "exact_diffusion" else RING


NAMES = ("dgd", "cta", "atc", "extra", "exact_diffusion", "diging")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("eta", [0.001, 0.05, 0.4])
def test_promises_have_their_published_values(name, eta):
    case = case_of(name, eta, weights_for(name))
    found = {bound.name: bound for bound in theorems.bounds_of(case)}
    for t in T:
        wanted = promises(name, eta, t)
        assert set(found) <= set(wanted) | {"averaging", "step size"}
        for each in set(found) & set(wanted):
            told = float(np.ravel(found[each].at(np.array([t])))[0])
            # that for any W is bounded by a maximum in closed form, no smaller than this one
            if each.endswith("any W"):
                assert wanted[each] * (1 - 1e-9) <= told <= wanted[each] * 1.6, each
            else:
                assert np.isclose(told, wanted[each], rtol=1e-9), (each, told, wanted[each])
    if name in ("dgd", "cta", "atc"):
        order = 1.0 if name == "dgd" else 1 / 9
        for t in T:
            wanted = with_noise(eta, t, order)
            for bound in noisy.bounds_of(case, 1):
                told = float(bound.at(np.array([t]))[0])
                assert np.isclose(told, wanted.pop(bound.name), rtol=1e-9), bound.name
            assert not wanted


@pytest.mark.parametrize("eta", [0.05, 0.4])
def test_the_bound_on_gradients_for_any_weights_is_both_of_its_lines(eta):
    """sqrt(m) zeta + L min(sqrt(m)|x*| + p t, max(sqrt(m)|x*|, p / (1 - q)))."""
    for name, once in (("atc", 1 / 3), ("cta", 1.0)):
        (bound,) = (
            b for b in theorems.bounds_of(case_of(name, eta)) if b.name == "disagreement, any W"
        )
        q, push = max(abs(1 - eta * mu), abs(1 - eta * L)), eta * sqrt(m * zeta2) * once
        start = sqrt(m * x2)
        for t in T:
            size = min(start + push * t, max(start, push / (1 - q)))
            wanted = once * eta * (sqrt(m * zeta2) + L * size) * 1.5 * (1 - 3**-t)
            assert np.isclose(bound.at(np.array([t]))[0], wanted, rtol=1e-9)


def limits(name):
    """name of the bound -> the largest step size of its range."""
    root = 1.0 if name == "dgd" else 1 / 3
    first = (1 - 1 / 3) / L if name == "dgd" else 2 / L
    _, J, mean = diging(0.1)
    known = {
        "descent": first, "disagreement": first, "neighbourhood": first, "non-expansion": first,
        "disagreement, any W": 2 / L, "neighbourhood, any W": 2 / L,
        "D-SGD, convex": min(1 / 4, p / (12 * root)) / L,
        "D-SGD, strongly convex": min(1 / 4, p / (17 * root)) / L,
        "D-SGD, non-convex": min(1, p / (8 * sqrt(P) * root)) / L,
        "EXTRA, energy": (1 - 1 / 3) / L, "EXTRA, rate": (1 - 1 / 3) / L,
        "EXTRA, linear": (1 - 1 / 3) / (2 * L), "exact diffusion": 2 / L,
        "DIGing's own rate": 1.5 * (1 - 1 / 3) ** 2 / (mean * J),
    }  # fmt: skip
    meet = lambda times: p / (times * root * sqrt(L * ell))
    known |= {
        "D-SGD with noise, convex": min(1 / (4 * L), m / (32 * ell), meet(33)),
        "D-SGD with noise, strongly convex": min(1 / (4 * L), m / (32 * ell), meet(46)),
        "D-SGD with noise, non-convex": min(
            1 / L, m / max(16 * L * M, 8 * ell), meet(4),
            p / (L * root * sqrt(320 * P + 160 * p * M)),
        ),
    }  # fmt: skip
    return known


@pytest.mark.parametrize("name", NAMES)
def test_ranges_of_step_sizes_have_their_published_ends(name):
    case, known, seen = case_of(name, 0.1, weights_for(name)), limits(name), set()
    noise = noisy.bounds_of(case, 1)
    for bound in [*theorems.bounds_of(case), *noise]:
        steps = [each for each in bound.assumptions if each.name.startswith("eta <=")]
        if not steps or bound.name == "linear rate":
            continue
        limit = float(re.search(r"limit ([-0-9.e+]+)", steps[0].found)[1])
        if bound.name.startswith("tracking"):
            inside, outside = (tracking(limit * by, 1)[1] for by in (0.999, 1.001))
            assert inside < 1 < outside
        else:
            assert np.isclose(limit, known[bound.name], rtol=1e-5), bound.name
        seen.add(bound.name)
    assert seen and inf not in known.values()


def test_ranges_where_all_average_with_all_end_where_one_agent_s_do():
    """W = 1 1^T / m, mixed after the gradients: nothing is left but descent along the mean."""
    case, limit = (
        case_of("atc", 0.1, graphs.mixing(np.full((m, m), 1 / m))),
        re.compile("limit (.+)"),
    )
    ends = {
        bound.name: float(limit.search(step.found)[1])
        for bound in [*theorems.bounds_of(case), *noisy.bounds_of(case, 1)]
        for step in bound.assumptions
        if step.name.startswith("eta <=") and bound.name.startswith("D-SGD")
    }
    assert ends == pytest.approx(
        {
            "D-SGD, convex": 1 / (4 * L),
            "D-SGD, strongly convex": 1 / (4 * L),
            "D-SGD, non-convex": 1 / L,
            "D-SGD with noise, convex": min(1 / (4 * L), m / (32 * ell)),
            "D-SGD with noise, strongly convex": min(1 / (4 * L), m / (32 * ell)),
            "D-SGD with noise, non-convex": min(1 / L, m / max(16 * L * M, 8 * ell)),
        },
        rel=1e-5,
    )
