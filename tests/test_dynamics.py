"""Closed forms, flows, limits, ensembles, noise and trust, each against its slow obvious truth."""

import dataclasses
import functools
import itertools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import scipy.fft
from cases import MIXINGS, method, quick_if

import ntkdyn as nd
from ntkdyn import dynamics, graphs, thresholds
from ntkdyn.dynamics import affine, contours, ensembles, krylov, propagators, spectra
from ntkdyn.dynamics.realization import Features, Realization
from ntkdyn.kernels.compat import neural_tangents
from ntkdyn.precision import in_double
from ntkdyn.runs import iteration_of, plan

ROUNDS = [0, 1, 7, 64, 333, 10_000]

PLAIN = ["dgd", "cta", "atc"]

GRAPHS = ["ring", "star", "petersen", "from_edges", "directed_ring", "directed_exponential"]

AFFINE = [
    *itertools.product(PLAIN, GRAPHS),
    *itertools.product(["diging", "heavy_ball"], ["ring", "directed_ring"]),
    *itertools.product(["extra", "exact_diffusion", "gut"], ["ring"]),
]
"""methods and graphs whose rounds are one affine map"""

FEW = ("ring", "star", "directed_ring")
"""W symmetric, not regular, and another one than its transpose"""


@functools.cache
def bare(agents=8, rank=None, loss="mse"):
    """A random kernel that all outputs share; of lower rank, one that cannot be fitted."""
    rng = np.random.default_rng(agents)
    points = agents + 4
    F, y = rng.standard_normal((points, rank or points + 4)), rng.standard_normal((points, 2))
    owner = np.concatenate([np.arange(agents), [0, 0, 1, 2]])
    targets = np.eye(2)[(y[:, 0] > 0).astype(int)] if loss == "cross_entropy" else y
    f0 = rng.standard_normal((points, 2)) / 3
    return nd.KernelProblem(F @ F.T / F.shape[1], targets, owner, f0, loss=loss)


@functools.cache
def known(name, mixing, share=0.5, rank=None):
    """The method at a share of its limit on the bare problem, settled once."""
    problem = bare(MIXINGS[mixing].agents, rank)
    at = method(name, nd.methods.of_limit(share))
    return dynamics.assess(problem, at, MIXINGS[mixing])


def apart(one, other):
    """The largest difference of outputs over the largest distance travelled, per round."""
    moved = np.abs(other["outputs"] - other["initial_outputs"]).max(["agent", "point", "output"])
    gap = np.abs(one["outputs"] - other["outputs"]).max(["agent", "point", "output"])
    return (gap / moved.where(moved > 0, 1)).values


@pytest.mark.parametrize("name, mixing", quick_if(AFFINE, lambda _, mixing: mixing in FEW))
def test_every_way_to_a_round_is_stepping(name, mixing):
    W, stability = MIXINGS[mixing], known(name, mixing)
    run = functools.partial(nd.predict, bare(W.agents), stability.method, W, ROUNDS)
    stepped = run(via="steps", stability=stability)
    assert "error_estimate" not in stepped
    real = name in PLAIN and W.symmetric and (name == "dgd" or W.smallest_eigenvalue > -1e-9)
    ways = ["powers"] + real * ["chebyshev", "krylov", "contour"]
    ways += (real and name == "dgd") * ["modes"]
    for way in ways:
        there = run(via=way, stability=stability)
        assert set(there["reached_by"].values[-2:]) == {way}
        gap = apart(there, stepped)
        assert gap.max() < 1e-9, (way, gap)
        assert (gap <= 10 * there["error_estimate"].values + 1e-14 * np.array(ROUNDS)).all()
        assert there["error_estimate"].max() <= 1e-9
    for way in {"chebyshev", "krylov", "contour", "modes"} - set(ways):
        with pytest.raises(nd.InputError, match="via"):
            run(via=way, stability=stability)


@in_double
def test_the_affine_map_is_the_step(small, monkeypatch):
    """A and b from the open loop against finite differences of the engine's own step."""
    for name, mixing in [("dgd", "directed_ring"), ("cta", "star"), ("diging", "directed_ring")]:
        problem = bare()
        iteration = iteration_of(
            plan(problem, method(name, 0.1), MIXINGS[mixing], 0), problem.kernel_space()
        )
        map = affine.affine(iteration)
        action, size = affine.linear_part(iteration)
        assert 2 * map.size == size
        probe = np.random.default_rng(0).standard_normal((map.size, 2))
        after = np.asarray(action(probe.ravel())).reshape(-1, 2)
        assert np.abs(map.matrix() @ probe - after).max() < 1e-12
        for sparse in (0.5, 100.0):  # as sparse matrices, and as dense ones
            monkeypatch.setattr(affine, "SPARSE_BELOW", sparse)
            acted = map.action()(probe.reshape(map.drive().shape))
            assert np.abs(acted.reshape(-1, 2) - after).max() < 1e-12
        shift = 0.3 + 0.2j
        solved = map.resolvent(shift)(None).reshape(map.size, -1)
        back = (1 + shift) * solved - map.matrix() @ solved
        assert np.abs(back - map.drive().reshape(map.size, -1)).max() < 1e-12
        again = map.resolvent(shift)(map.drive()).reshape(map.size, -1)
        assert np.abs(again - solved).max() < 1e-12


@in_double
def test_steps_add_rounding_for_as_many_rounds_as_they_are():
    """From round 10 to 20 as much as from 0 to 10, and a contraction forgets most of it."""
    problem, W = bare(), graphs.metropolis(graphs.ring(8))
    of = lambda name: iteration_of(plan(problem, method(name, 0.05), W, 0), problem.kernel_space())
    iteration = of("diging")  # whose sums keep what rounding adds
    seen = propagators.Propagators(iteration, via="steps")
    assert seen(iteration.init(), 0, 10) is None and seen(iteration.init(), 10, 20) is None
    assert seen.error[10] > 0
    assert seen.error[20] == pytest.approx(2 * seen.error[10], rel=1e-12)
    map, rounds = affine.affine(of("dgd")), 10**6
    most = propagators.ROUNDED * rounds
    assert propagators.rounding(map, rounds, 20 * most) == most
    assert propagators.rounding(map, rounds, most) < most / 2


@pytest.mark.parametrize(
    "name, agents, outputs, stepped, studied",
    [("dgd", 8, 1, 700, 900), ("dgd", 8, 100, 150, 190), ("diging", 150, 1, 700, 850)],
)
@in_double
def test_few_rounds_are_stepped_without_a_study_of_the_method(
    name, agents, outputs, stepped, studied, monkeypatch
):
    """Where that is estimated to take longer: a thirtieth of a second, or as n^3 of n states.

    A round of few agents takes the time of moving the kernel, and the state twice.
    """
    points = max(agents, 80)
    problem = nd.KernelProblem(
        np.eye(points), np.ones((points, outputs)), np.arange(points) % agents
    )
    W = graphs.metropolis(graphs.ring(agents))
    iteration = iteration_of(plan(problem, method(name, 0.1), W, 0), problem.kernel_space())

    class Studied(Exception):
        pass

    def ways(self):
        raise Studied

    monkeypatch.setattr(propagators.Propagators, "_open", property(ways))
    seen = propagators.Propagators(iteration, stable=False)
    assert seen(iteration.init(), 0, stepped) is None
    with pytest.raises(Studied):
        seen(iteration.init(), 0, studied)


@in_double
def test_squares_that_are_there_are_not_counted_again():
    problem, W = bare(), graphs.metropolis(graphs.ring(8))
    iteration = iteration_of(plan(problem, method("dgd", 0.1), W, 0), problem.kernel_space())
    powers = propagators.Powers(affine.affine(iteration))
    size, before = powers._whole.size, powers.seconds(1000)
    powers.propagate(1000)
    assert powers.seconds(1000) == pytest.approx(before / (1 + size / 2), rel=1e-12)
    assert powers.seconds(2000) < before / 5


@in_double
def test_a_contour_takes_complex_factorizations_at_every_node():
    """Of the kernel, n^3 / 3 products and sums, and of an inverse of the method, states^3."""
    problem, W = bare(), graphs.metropolis(graphs.ring(8))
    iteration = iteration_of(plan(problem, method("dgd", 0.1), W, 0), problem.kernel_space())
    way = propagators.Propagators(iteration)._open["contour"]
    complex_ones = 8 * max(contours.NODES) * (12**3 / 3 + 8**3)
    assert way.seconds(0, 10**6) * propagators.FLOPS == pytest.approx(complex_ones, rel=1e-12)
    assert not way.valid(contours.FROM_ROUND - 1) and way.valid(contours.FROM_ROUND)


@functools.cache
def larger(share=0.5):
    """90 points of 6 unlike agents, eigenvalues over five decades, three outputs; DGD on it."""
    rng = np.random.default_rng(5)
    F = rng.standard_normal((90, 90)) * np.geomspace(1, 3e-3, 90)
    problem = nd.KernelProblem(F @ F.T, rng.standard_normal((90, 3)), rng.integers(0, 6, 90))
    W = graphs.metropolis(graphs.path(6))
    return problem, W, dynamics.assess(problem, method("dgd", nd.of_limit(share)), W)


@in_double
def test_krylov_spaces_are_contours_at_the_cost_of_one_factorization():
    """Also where rounds share a space, and where sides are taken in turn."""
    problem, W, at = larger()
    run = functools.partial(nd.predict, problem, at.method, W, stability=at)
    rounds = [1200, 2000, 10**6]
    one, other = (run(rounds, via=way) for way in ("krylov", "contour"))
    assert set(one["reached_by"].values) == {"krylov"} and apart(one, other).max() < 1e-10
    iteration = iteration_of(plan(problem, at.method, W, 0), problem.kernel_space())
    ways = propagators.Propagators(iteration)._open
    assert ways["krylov"].seconds(0, 10**6) < ways["contour"].seconds(0, 10**6) / 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(krylov, "ROOM", 1)
        in_turn = run(rounds, via="krylov")
    assert apart(in_turn, one).max() < 1e-10
    alone = np.concatenate([run([round], via="krylov")["outputs"] for round in rounds])
    assert np.abs(alone - one["outputs"]).max() < 1e-10 * np.abs(alone).max()


def test_krylov_spaces_that_are_too_small_are_not_taken(monkeypatch):
    problem, W, at = larger()
    monkeypatch.setattr(krylov, "MOST", 9)
    run = functools.partial(nd.predict, problem, at.method, W, [2000], stability=at)
    with pytest.raises(nd.InputError, match="cannot be met in round 2000; krylov comes closest"):
        run(via=dynamics.Scheme("krylov", 1e-9))
    rough, close = run(via="krylov"), run(via="contour")
    wrong = apart(rough, close).max()
    assert 1e-8 < wrong < float(rough["error_estimate"].max())
    monkeypatch.setattr(krylov, "STEPS", 0)  # the cheapest, were it true
    assert run(via=dynamics.Scheme(tolerance=1e-9))["reached_by"].values[-1] != "krylov"


@pytest.mark.parametrize("name", PLAIN)
@in_double
def test_krylov_spaces_stay_clear_of_minus_one(name):
    """Valid just where |lambda|^t of the lowest eigenvalue is a hundredth of the tolerance."""
    problem, W = bare(), MIXINGS["star"]
    at = dynamics.assess(problem, method(name, nd.of_limit(0.97)), W)
    map = affine.affine(iteration_of(plan(problem, at.method, W, 0), problem.kernel_space()))
    lowest = np.linalg.eigvals(map.matrix()).real.min()
    assert -1 < lowest < -0.5
    felt = math.log(1e-11) / math.log(-lowest)
    ways = krylov.Krylov(map, 1e-9)
    assert not ways.valid(math.floor(felt)) and ways.valid(math.ceil(felt))
    assert not ways.valid(math.floor(felt))


@in_double
def test_errors_of_ritz_values_are_residuals(monkeypatch):
    """|A v - theta v| of v in a Krylov space much smaller than the state."""
    monkeypatch.setattr(spectra, "KRYLOV", 7)
    problem, W = bare(), graphs.metropolis(graphs.ring(8))
    iteration = iteration_of(plan(problem, method("dgd", 0.1), W, 0), problem.kernel_space())
    map = affine.affine(iteration)
    whole = Realization(map, Features(map.kernel).rows)
    ritz = spectra._arnoldi(whole, np.random.default_rng(0).standard_normal(whole.size))
    vectors = ritz.basis.T @ ritz.vectors
    off = np.linalg.norm(whole.matrix() @ vectors - vectors * ritz.values, axis=0)
    assert np.abs(ritz.errors - off).max() < 1e-12 and off.max() > 1e-3


def test_a_scalar_kernel_is_a_full_one(small):
    """The same run, kernel by point and kernel by point and output, by propagators."""
    rng = np.random.default_rng(1)
    F, y = rng.standard_normal((10, 12)), rng.standard_normal((10, 3))
    owner = np.arange(10) % 4
    W = graphs.metropolis(graphs.ring(4))
    scalar = nd.KernelProblem(F @ F.T, y, owner)
    full = nd.KernelProblem(np.kron(F @ F.T, np.eye(3)), y, owner)
    at = method("dgd", nd.methods.of_limit(0.7))
    for way in ("powers", "modes", "chebyshev", "krylov", "contour"):
        one, other = (nd.predict(p, at, W, [0, 100], via=way) for p in (scalar, full))
        assert apart(one, other).max() < 1e-8


POINT = 320
"""binary digits behind the point of `exactly`"""


def exactly(problem, F, at, W, rounds):
    """F^T c of every agent in these rounds, by powers in integers: no rounding but 2^-320.

    F, W and y are made of few binary digits, so that K = F F^T is what floating point has.
    """
    iteration = iteration_of(plan(problem, at, W, 0), problem.kernel_space())
    map = affine.affine_rounds(iteration)
    whole = np.vectorize(lambda value: int(Fraction(float(value)) * 2**POINT), otypes=[object])
    times = lambda a, b: np.vectorize(lambda value: value >> POINT, otypes=[object])(a @ b)
    own, unit = whole(1 / map.counts[:, None]), whole(np.eye(len(map.kernel)))
    felt = times(np.diag(own[:, 0]), whole(map.kernel))
    forced = times(np.diag(own[:, 0]), whole(map.residual))
    steps = []
    for loop in map.loops:
        P, Q, R = (whole(each) for each in (loop.P, loop.Q, loop.R))
        Q, R, states = Q[:, map.owner], R[map.owner], len(P)
        A = np.stack([np.stack([times(np.diag(Q[s]), times(np.diag(R[:, t]), felt))
                                + times(np.diag([P[s, t]] * len(unit)), unit)
                                for t in range(states)]) for s in range(states)])  # fmt: skip
        A = A.transpose(0, 2, 1, 3).reshape(states * len(unit), -1)
        steps.append((A, np.concatenate([times(np.diag(Q[s]), forced) for s in range(states)])))
    ends, period = [], len(steps)
    (A, b), periods = steps[0], {round: 0 * steps[0][1] for round in rounds}
    for once, push in steps[1:]:
        A, b = times(once, A), times(once, b) + push
    for digit in range(max(rounds).bit_length()):
        for round in rounds:
            if round // period >> digit & 1:
                periods[round] = times(A, periods[round]) + b
        A, b = times(A, A), times(A, b) + b
    for round in rounds:
        z = periods[round]
        for once, push in steps[: round % period]:
            z = times(once, z) + push
        x = times(whole(map.loops[0].X), z.reshape(len(map.loops[0].P), -1))
        x = x.reshape(-1, len(unit), z.shape[1])
        ends.append(np.stack([times(whole(F.T), each) for each in x]))
    return [np.array([[float(Fraction(int(v), 2**POINT)) for v in each.ravel()] for each in end])
            for end in ends]  # fmt: skip


def plain_digits(seed, agents, rank):
    """A problem of few binary digits, curvatures spread over some decades, and its features."""
    rng = np.random.default_rng(seed)
    F = rng.integers(-8, 9, (agents + 2, rank)) / 8 * 2.0 ** rng.integers(-7, 1, rank)
    owner = np.concatenate([np.arange(agents), rng.integers(0, agents, 2)])
    return nd.KernelProblem(F @ F.T, rng.integers(-8, 9, (agents + 2, 1)) / 4, owner), F


DRAWN = [(0, 5), (1, 2)]
ESTIMATED = ["dgd", "atc", "extra", "exact_diffusion", "diging", "aug_dgm", "gut", "local_sgd"]


@pytest.mark.parametrize(
    "name, seed, rank",
    quick_if(
        [(name, *drawn) for name in ESTIMATED for drawn in DRAWN],
        lambda name, *drawn: drawn == DRAWN[ESTIMATED.index(name) % 2],
    ),
)
@in_double
def test_no_error_is_larger_than_its_estimate(name, seed, rank):
    rounds = [100, 30_001, 10**8]
    problem, F = plain_digits(seed, 2, rank)
    W = np.array([[0.75, 0.25], [0.25, 0.75]])
    at = dynamics.assess(problem, method(name, nd.of_limit(0.5)), graphs.mixing(W))
    truth = exactly(problem, F, at.method, graphs.mixing(W), rounds)
    for way in (
        ["powers"]
        + ["chebyshev", "krylov", "contour"] * (name in PLAIN)
        + ["modes"] * (name == "dgd")
    ):
        asked = rounds if way in ("powers", "modes") else rounds[:2]
        told = nd.predict(problem, at.method, W, asked, via=way, stability=at)
        for row, x in enumerate(truth[: len(asked)]):
            length = np.linalg.norm(x, axis=1)
            wrong = np.abs(told["displacement"].values[row] - length).max() / length.max()
            outputs = problem.initial + np.einsum("pf,af->ap", F, x)[:, :, None]
            off = np.abs(told["outputs"].values[row] - outputs).max() / np.abs(outputs).max()
            said = float(told["error_estimate"][row])
            assert max(wrong, off) <= said, (way, rounds[row])
            assert said < (1e-6 if row < 2 else 1e-2) or name == "gut", (way, rounds[row])


def test_contour_error_is_what_it_says():
    for round, nodes in ((64, 12), (1000, 16), (10**6, 20)):
        said = contours.error(round, nodes)
        modes = np.array([1.0, 1 - 0.1 / round, 0.999, 0.5, 0.0, -0.3, -0.99])
        sums = [float(sum(m**s for s in range(round))) for m in modes] if round <= 1000 else None
        exact = contours.geometric_sum(1 - modes, round)
        if sums:
            assert np.abs(exact / sums - 1).max() < 1e-10
        found = sum(2 * (w / (b + 1 - modes)).real for w, b in contours._nodes(round, nodes))
        wrong = (np.abs(found - exact) / np.maximum(exact, 0.5)).max()
        assert said / 20 < wrong <= 1.01 * said


@pytest.mark.parametrize("round", [10_000, 100_000])
def test_a_polynomial_of_this_degree_is_enough_and_of_three_quarters_of_it_is_not(round):
    """Of sum_{s<t} lambda^s: what Chebyshev coefficients beyond the degree leave out."""

    def left_out(degree):
        angles = np.pi * (np.arange(2 * degree) + 0.5) / (2 * degree)
        exact = contours.geometric_sum(2 * np.sin(angles / 2) ** 2, round)
        found = scipy.fft.dct(exact)
        found[degree + 1 :] = 0
        return (np.abs(scipy.fft.idct(found) - exact) / np.maximum(exact, 0.5)).max()

    degree = propagators.degree(round, 1e-9)
    assert left_out(degree) <= 1e-9 < left_out(degree * 3 // 4)


def test_sums_in_one_program_and_by_own_rows_are_the_same(monkeypatch):
    for name in ("dgd", "atc"):
        W = graphs.lazy(MIXINGS["ring"])
        run = functools.partial(nd.predict, bare(), method(name, 0.1), W, via="chebyshev")
        found = []
        for least in (0, 10**9):
            monkeypatch.setattr(propagators, "OWN_ROWS_FROM", least)
            found.append(run(rounds=[0, 40, 3000])["outputs"].values)
        assert np.abs(found[0]).max() > 0.1
        np.testing.assert_allclose(*found, rtol=0, atol=1e-11)


@pytest.mark.parametrize("tolerance", [1e-4, 1e-9])
@pytest.mark.parametrize("round", [1, 2, 50, 9000])
def test_the_polynomial_has_as_few_terms_as_the_tolerance_needs(round, tolerance):
    """Its values on [-1, 1] against the sum itself; with a twentieth fewer it is not enough."""
    coefficients, wrong = propagators.polynomial(round, tolerance)
    modes = np.linspace(-1, 1, 5001)
    exact = contours.geometric_sum(1 - modes, round)

    def off(terms):
        found = np.polynomial.chebyshev.chebval(modes, coefficients[:terms])
        return (np.abs(found - exact) / np.maximum(exact, 0.5)).max()

    terms = len(coefficients)
    assert off(terms) <= 1.1 * wrong + 1e-12 <= tolerance / 50
    assert terms == 1 or off(math.ceil(0.95 * terms) - 1) > tolerance / 100


@in_double
def test_flow_of_one_agent_is_that_of_neural_tangents():
    rng = np.random.default_rng(0)
    F, y = rng.standard_normal((12, 20)), rng.standard_normal((12, 2))
    K = F @ F.T
    problem = nd.KernelProblem(K, y, np.zeros(12, int))
    alone = np.eye(1)
    record = nd.dynamics.flow(problem, method("dgd", 0.01), alone, [0, 10, 500, 5000])
    theirs = neural_tangents.predict.gradient_descent_mse(K, y, diag_reg=0.0)
    times = record["time"].values * y.shape[1]  # they divide by points x outputs, we by points
    expected = np.stack([theirs(float(time), np.zeros_like(y)) for time in times])
    assert np.abs(record["outputs"].values[:, 0] - expected).max() < 1e-8
    assert np.abs(expected[2] - y).max() > 1e-3, "not yet at rest"
    twice = np.vstack([F, F[:1]])
    doubled = nd.KernelProblem(twice @ twice.T, np.vstack([y, y[:1]]), np.zeros(13, int))
    end = dynamics.limit(doubled, method("dgd", 0.01), alone)
    assert np.abs(end["outputs"][0, :12] - y).max() < 1e-8


def euler(problem, name, W, step_size, time, pieces):
    """The flow by Euler's rule with tiny steps: the method itself on a lazier graph."""
    lazier = graphs.mixing(np.eye(W.agents) - (np.eye(W.agents) - W.matrix) / pieces)
    rounds = int(round(time / step_size * pieces))
    return nd.predict(problem, method(name, step_size / pieces), lazier, [0, rounds], via="steps")[
        "outputs"
    ].values[-1]


@pytest.mark.parametrize(
    "mixing, loss",
    quick_if(
        itertools.product(["ring", "directed_ring"], ["mse", "cross_entropy"]),
        lambda mixing, loss: (mixing == "ring") == (loss == "mse"),
    ),
)
def test_flow_is_the_limit_of_small_steps(small, mixing, loss):
    problem, W = bare(loss=loss), MIXINGS[mixing]
    flowing = dynamics.flow(problem, method("dgd", 0.2), W, [0, 3, 30])
    assert np.allclose(flowing["time"], [0, 0.6, 6])
    moved = np.abs(flowing["outputs"][1:] - flowing["initial_outputs"]).max()
    for row, time in ((1, 0.6), (2, 6.0)):
        coarse, fine = (euler(problem, "dgd", W, 0.2, time, n) for n in (50, 100))
        extrapolated = 2 * fine - coarse
        assert np.abs(flowing["outputs"].values[row] - extrapolated).max() < 2e-5 * moved
        assert np.abs(flowing["outputs"].values[row] - fine).max() > 1e-5 * moved
    steps = nd.predict(problem, method("dgd", 0.2), W, [0, 3, 30])
    assert 1e-3 < float(nd.compare(flowing, steps)["gap"].max()) < 1


def test_flows_that_are_integrated_keep_their_tolerance_in_any_unit_of_the_kernel():
    """A hundred times the kernel and a hundredth of the step size are the same outputs."""
    one = bare(loss="cross_entropy")
    other = nd.KernelProblem(
        100 * one.kernel().training,
        one.task.targets,
        one.task.owner,
        one.initial,
        loss=one.task.loss,
    )
    flows = [
        dynamics.flow(problem, method("dgd", step), MIXINGS["ring"], [0, 30], tolerance=1e-4)
        for problem, step in ((one, 0.2), (other, 0.002))
    ]
    assert np.abs(flows[0]["outputs"] - flows[1]["outputs"]).max() < 5e-4


def test_flows_take_eigenvectors_of_small_states_and_a_contour_for_large_ones(monkeypatch):
    asked, known = [], dynamics.flows.Modes.__init__
    taking = lambda self, map: asked.append(map.size) or known(self, map)
    monkeypatch.setattr(dynamics.flows.Modes, "__init__", taking)
    run = lambda: dynamics.flow(bare(), method("dgd", 0.2), graphs.lazy(MIXINGS["ring"]), [0, 30])
    small = run()
    assert asked == [96]
    monkeypatch.setattr(thresholds, "MATRIX_UP_TO", 95)
    assert np.abs(run()["outputs"] - small["outputs"]).max() < 1e-9 and asked == [96]


@pytest.mark.parametrize("name", PLAIN)
def test_flows_follow_their_own_equation(small, name):
    """z' = (step(z) - z) / eta, by central differences of the closed form."""
    problem, W = bare(), MIXINGS["directed_exponential"]
    at = method(name, 0.2)
    flow = dynamics.Flow(problem, at, W)
    time, h = 1.3, 1e-4
    slope = (flow.state(time + h) - flow.state(time - h)) / (2 * h)
    with nd.precision.double():
        map = affine.affine(iteration_of(plan(problem, at, W, 0), problem.kernel_space()))
    z = flow.state(time).reshape(map.size, -1)
    stepped = map.matrix() @ z + map.drive().reshape(map.size, -1)
    assert np.abs(slope.reshape(map.size, -1) - (stepped - z) / 0.2).max() < 1e-6
    assert np.abs(flow.state(0.0)).max() == 0
    both = flow.states(np.array([time, 0.0]))
    assert np.abs(both - np.stack([flow.state(time), flow.state(0.0)])).max() < 1e-12


@pytest.mark.parametrize("mixing", ["ring", "directed_exponential"])
def test_outputs_of_flows_begin_at_the_start_and_move_with_the_kernel(small, mixing):
    problem, times = bare(), np.array([0.0, 1.3, 40.0])
    K, y = problem.kernel().training, problem.task.targets
    flow = dynamics.Flow(problem, method("dgd", 0.2), MIXINGS[mixing])
    outputs, states = flow.outputs(times), flow.states(times)
    record = nd.predict(problem, method("dgd", 0.2), MIXINGS[mixing], [0])
    start = record["initial_outputs"].values[: len(K)]
    assert np.abs(start - y).max() > 0.1 and np.abs(outputs[0] - start).max() < 1e-12
    assert np.abs(outputs - start - np.einsum("nm,tamk->tank", K, states)).max() < 1e-10
    assert np.abs(outputs[2] - y).max() < 0.5 * np.abs(start - y).max()


@pytest.mark.parametrize("mixing", ["ring", "directed_exponential"])
@pytest.mark.parametrize("name", PLAIN)
def test_transitions_compose_invert_and_apply(small, name, mixing):
    flow = dynamics.Flow(bare(), method(name, 0.2), MIXINGS[mixing])
    later, earlier = flow.transition(2.0, 0.7), flow.transition(0.7, 0.3)
    whole = later @ earlier
    assert (whole.time, whole.since) == (2.0, 0.3)
    assert np.abs(whole.matrix() - later.matrix() @ earlier.matrix()).max() < 1e-12
    state = flow.state(0.4)
    assert np.abs(whole(state) - later(earlier(state))).max() < 1e-9 * np.abs(state).max()
    assert np.abs(later.inverse()(later(state)) - state).max() < 1e-7 * np.abs(state).max()
    free = flow.state(1.1) - flow.transition(1.1, 0.4)(state)
    assert np.abs(free - flow.state(0.7)).max() < 1e-9, "the drive alone, from zero"
    for wrong in (earlier, dynamics.Flow(bare(), method(name, 0.2), MIXINGS[mixing])):
        with pytest.raises(nd.InputError, match="transition"):
            earlier @ (wrong if isinstance(wrong, dynamics.Transition) else wrong.transition(0.3))


def test_dgd_flows_never_grow_and_others_may():
    rng = np.random.default_rng(3)
    for mixing in ("directed_ring", "star", "directed_exponential"):
        F = 10 * rng.standard_normal((8, 6))
        problem = nd.KernelProblem(F @ F.T, np.ones((8, 1)), np.arange(8))
        flow = dynamics.Flow(problem, method("dgd", 1.0), MIXINGS[mixing])
        assert max(flow.transition(t).norm() for t in (0.1, 1.0, 10.0)) <= 1 + 1e-12
    W = (np.ones((3, 3)) - np.eye(3)) / 2
    F = np.random.default_rng(0).standard_normal((3, 3)) * 10
    problem = nd.KernelProblem(F @ F.T, np.ones((3, 1)), np.arange(3))
    norms = {
        name: dynamics.Flow(problem, method(name, 1.0), W).transition(1.0).norm() for name in PLAIN
    }
    assert norms["dgd"] <= 1 + 1e-12
    assert norms["atc"] > 1e3 and norms["cta"] > 1e3


@pytest.mark.parametrize("rank", [None, 5])
@pytest.mark.parametrize("name", ["exact_diffusion", "nids", "d2", "extra", "diging", "aug_dgm"])
def test_corrected_methods_end_without_a_bias(name, rank):
    """At the minimum-norm minimiser of the common objective, from NumPy's least squares."""
    problem, W = bare(rank=rank), graphs.lazy(MIXINGS["ring"])
    end = dynamics.limit(problem, method(name, nd.of_limit(0.5)), W)
    K, y, owner = problem.kernel().training, problem.task.targets, problem.task.owner
    values, vectors = np.linalg.eigh(K)
    F = (vectors * np.sqrt(np.maximum(values, 0)))[:, values > 1e-10 * values[-1]]
    root = 1 / np.sqrt(problem.task.counts[owner])[:, None]
    best = np.linalg.lstsq(root * F, root * (y - problem.initial), rcond=None)[0]
    outputs = problem.initial + F @ best
    assert np.abs(end["outputs"] - outputs).max() < 1e-7
    assert end["bias"].max() < 1e-7 and end.attrs["interpolates"] == (rank is None)
    assert np.abs(end["residual"] - (outputs - y)).max() < 1e-7


@pytest.mark.parametrize("name, mixing", [("local_sgd", "ring"), ("atc", "one-peer"),
                                          ("diging", "one-peer")])  # fmt: skip
def test_rounds_that_repeat_have_limits_and_short_cuts(name, mixing):
    """Any round by powers of a period's map against stepping; the limit against a late one."""
    problem = bare(rank=5)
    W = graphs.one_peer_exponential(8) if mixing == "one-peer" else MIXINGS[mixing]
    at = dynamics.assess(problem, method(name, nd.of_limit(0.3)), W)
    rounds = [0, 1, 4, 7, 64, 333, 3002]
    stepped, there = (nd.predict(problem, at.method, W, rounds, via=via, stability=at)
                      for via in ("steps", "powers"))  # fmt: skip
    assert apart(there, stepped).max() < 1e-10 and apart(there, stepped).max() > 0
    assert set(there["reached_by"].values[1:]) == {"powers"}
    end = dynamics.limit(problem, at.method, W)
    period = end.attrs["period"]
    assert period == (4 if name == "local_sgd" else 3)
    late = nd.predict(problem, at.method, W, [period * 2**28], via="powers", stability=at)
    moved = np.abs(late["outputs"] - late["initial_outputs"]).max()
    assert np.abs(late["outputs"][-1] - end["outputs"]).max() < 1e-6 * moved
    within = nd.predict(problem, at.method, W, [period * 2**28 + 1], via="powers", stability=at)
    between = np.abs(late["outputs"][-1] - within["outputs"][-1]).max()
    assert (between > 1e-4 * moved) == (name != "diging"), "only what is biased moves on"


@pytest.mark.parametrize("rank", [None, 5])
@pytest.mark.parametrize("mixing", ["directed_exponential", "star"])
@pytest.mark.parametrize("name", PLAIN)
def test_limit_is_where_long_runs_end(name, mixing, rank):
    problem, W = bare(rank=rank), MIXINGS[mixing]
    stability = known(name, mixing, rank=rank)
    end = dynamics.limit(problem, stability.method, W)
    late = nd.predict(
        problem,
        stability.method,
        W,
        [2**30],
        via=dynamics.Scheme("powers", 0.1),
        stability=stability,
    )
    moved = np.abs(late["outputs"] - late["initial_outputs"]).max()
    assert np.abs(late["outputs"][-1] - end["outputs"]).max() < 1e-6 * moved
    assert end.attrs["interpolates"] == (rank is None)
    assert (end["bias"].max() < 1e-6) == (rank is None)
    if rank:
        small, smaller = (
            dynamics.limit(problem, method(name, stability.method.step_size / by), W)["bias"].max()
            for by in (100, 1000)
        )
        assert 0.09 < smaller / small < 0.11, "the bias is proportional to small step sizes"


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize(
    "name, mixing",
    [("dgd", "ring"), ("cta", "directed_ring"), ("diging", "ring"), ("extra", "ring")],
)
def test_slowest_modes_are_eigenvalues(name, mixing, dense, monkeypatch):
    """All eigenvalues but those at one, of what is never moved; by decomposition and iteration."""
    monkeypatch.setattr(thresholds, "DECOMPOSED_UP_TO", 1000 if dense else 0)
    problem, W = bare(rank=5), MIXINGS[mixing]
    at = known(name, mixing, rank=5).method
    found = dynamics.slowest_modes(problem, at, W, count=3)
    with nd.precision.double():
        iteration = iteration_of(plan(problem, at, W, 0), problem.kernel_space())
        exact = np.linalg.eigvals(affine.affine(iteration).matrix())
    exact = exact[np.abs(exact - 1) > 1e-6]
    exact = exact[np.argsort(np.abs(exact - 1))][:3]
    values = found["eigenvalue_real"].values + 1j * found["eigenvalue_imaginary"].values
    assert np.abs(np.sort_complex(values) - np.sort_complex(exact)).max() < 1e-8
    assert np.allclose(found["time_constant"], -1 / np.log(np.abs(values)))
    assert (found["time_constant"] > 1).all() and np.isfinite(found["time_constant"]).all()


def test_time_constants_of_a_period_are_in_rounds():
    """Local SGD on the complete graph with one point each: after tau rounds (1 - eta h)^tau."""
    problem, W = nd.KernelProblem(np.ones((3, 3)), np.ones((3, 1)), [0, 1, 2]), np.ones((3, 3)) / 3
    found = dynamics.slowest_modes(problem, nd.methods.local_sgd(step_size=0.2, tau=5), W, count=1)
    assert found.attrs["period"] == 5
    assert np.allclose(found["eigenvalue_real"], 0.8**5)
    assert np.allclose(found["time_constant"], -1 / np.log(0.8))


@pytest.mark.slow
def test_rounds_until_every_error_is_below(small):
    problem, W = bare(), MIXINGS["petersen"]
    problem = bare(W.agents)
    at = method("dgd", nd.methods.of_limit(0.5))
    losses = (
        nd.predict(problem, at, W, 400, save=nd.SaveOptions(record_every=1))["train_loss"]
        .max("agent")
        .values
    )
    below = float(losses[137])
    assert dynamics.rounds_until(problem, at, W, below * (1 + 1e-9)) == 137
    assert dynamics.rounds_until(problem, at, W, 2 * float(losses[0])) == 0
    assert dynamics.rounds_until(problem, at, W, 1e-12, at_most=50) is None


@pytest.mark.slow
def test_rounds_until_every_accuracy_is_above(small):
    problem, W, at = small(8).problem, MIXINGS["ring"], method("dgd", 0.2)
    accuracy = (
        nd.predict(problem, at, W, 60, save=nd.SaveOptions(record_every=1))["train_accuracy"]
        .min("agent")
        .values
    )
    first = int((accuracy > accuracy[0]).argmax())
    assert first > 0 and (np.diff(accuracy[: first + 1]) >= 0).all() and accuracy[first] <= 1
    until = functools.partial(dynamics.rounds_until, problem, at, W, measured="train_accuracy")
    assert until(above=float(accuracy[first])) == first and until(above=float(accuracy[0])) == 0
    assert until(above=1.1, at_most=40) is None
    for bounds, message in [
        ({}, "below and above: give one of them"),
        ({"below": 0.5, "above": 0.5}, "below and above: give one of them"),
        ({"above": np.inf}, "above: must be a finite number, got inf"),
    ]:
        with pytest.raises(nd.InputError, match=message):
            until(**bounds)


def test_minibatch_noise_is_the_mean_over_all_batches():
    """Every batch of every round enumerated: 2 agents, 3 points each, 2 drawn, 2 rounds."""
    rng = np.random.default_rng(0)
    F, y, f0 = rng.standard_normal((6, 4)), rng.standard_normal((6, 2)), np.zeros((6, 2))
    owner, W, eta = np.array([0, 0, 0, 1, 1, 1]), np.array([[0.7, 0.3], [0.3, 0.7]]), 0.2
    pairs = list(itertools.combinations(range(3), 2))
    x = {(): np.zeros((2, 4, 2))}
    for _ in range(2):
        after = {}
        for history, old in x.items():
            for draw in itertools.product(pairs, pairs):
                new = np.einsum("ij,jfd->ifd", W, old)
                for agent, rows in enumerate(draw):
                    for row in (3 * agent + r for r in rows):
                        new[agent] -= eta / 2 * np.outer(F[row], F[row] @ old[agent] - y[row])
                after[history + draw] = new
        x = after
    outputs = np.einsum("pf,hifd->hipd", F, np.array(list(x.values())))
    problem = nd.KernelProblem(F @ F.T, y, owner, f0)
    noise = dynamics.minibatch_noise(problem, method("dgd", eta), W, [0, 2], batch_size=2)
    assert np.abs(noise["mean_outputs"][-1] - outputs.mean(0)).max() < 1e-12
    assert np.abs(noise["std_outputs"][-1] - outputs.std(0)).max() < 1e-12
    assert noise["std_outputs"][-1].max() > 0.05
    losses = ((outputs - y) ** 2).sum(-1).mean(-1) / 2
    assert np.abs(noise["global_loss_mean"][-1] - losses.mean(0)).max() < 1e-12


def test_noise_comes_to_rest():
    rng = np.random.default_rng(0)
    F, y = rng.standard_normal((6, 3)), rng.standard_normal((6, 1))
    problem = nd.KernelProblem(F @ F.T, y, np.array([0, 0, 0, 1, 1, 1]))
    W = np.array([[0.7, 0.3], [0.3, 0.7]])
    rest = dynamics.minibatch_noise(problem, method("dgd", 0.05), W, None, batch_size=1)
    late = dynamics.minibatch_noise(problem, method("dgd", 0.05), W, [30_000], batch_size=1)
    assert rest["std_outputs"].max() > 0.1
    for name in ("mean_outputs", "std_outputs", "train_loss_mean"):
        assert np.abs(rest[name].values - late[name].values).max() < 1e-7


@pytest.mark.parametrize("name", ["diging", "extra", "local_sgd"])
def test_noise_of_methods_that_keep_sums_or_repeat_comes_to_rest(name):
    rng = np.random.default_rng(0)
    F, y = rng.standard_normal((6, 3)), rng.standard_normal((6, 1))
    problem = nd.KernelProblem(F @ F.T, y, np.array([0, 0, 0, 1, 1, 1]))
    W, at = np.array([[0.75, 0.25], [0.25, 0.75]]), method(name, 0.1)
    rest = dynamics.minibatch_noise(problem, at, W, None, batch_size=1)
    late = dynamics.minibatch_noise(problem, at, W, [8000], batch_size=1)
    assert rest["std_outputs"].max() > 0.1
    for measured in ("mean_outputs", "std_outputs", "train_loss_mean"):
        assert np.abs(rest[measured].values - late[measured].values).max() < 1e-7


def test_noise_is_followed_where_what_moves_is_small(monkeypatch):
    """The size that counts is that of the minimal realization: 4 points in one dimension."""
    monkeypatch.setattr(thresholds, "COVARIANCE_UP_TO", 4)
    W, at = np.array([[0.75, 0.25], [0.25, 0.75]]), method("dgd", 0.1)
    F = np.array([[1.0], [2.0], [-1.0], [0.5]])
    flat = nd.KernelProblem(F @ F.T, np.ones((4, 1)), [0, 0, 1, 1])
    assert dynamics.minibatch_noise(flat, at, W, [3], batch_size=1)["std_outputs"].max() > 0.01
    with pytest.raises(nd.InputError, match="8 entries per output"):
        dynamics.minibatch_noise(
            nd.KernelProblem(F @ F.T + np.eye(4), np.ones((4, 1)), [0, 0, 1, 1]), at, W, [3],
            batch_size=1,
        )  # fmt: skip
    unstable = method("dgd", 5.0)
    with pytest.raises(nd.InputError, match="unstable at step size 5"):
        dynamics.minibatch_noise(flat, unstable, W, None, batch_size=1)


@pytest.mark.slow
def test_ensemble_is_what_many_starts_do(small):
    """Means and spreads against 240 linearized runs, each from its own start of a wide network."""
    problem, _ = small(3)
    network = nd.networks.mlp((512,), outputs=2, activation="erf", w_std=1.5, b_std=0.3)
    wide = dataclasses.replace(problem, network=network)
    W, at = MIXINGS["path"], method("dgd", 0.3)
    W = graphs.metropolis(graphs.path(3))
    told = dynamics.ensemble(wide, at, W, [0, 20], starts=dynamics.Starts(0))
    assert told.attrs["width"].startswith("infinite; networks of finite width lie outside its band")
    space = wide.kernel_space("infinite")
    train = wide.task.train
    starts = jax.vmap(
        lambda key: network.apply(network.start(key, (3,)), jnp.asarray(wide.inputs))
    )(jax.random.split(jax.random.key(1), 240))
    unit = nd.KernelProblem(
        space.kernel[:train], np.eye(train), wide.task.owner,
        K_test=space.kernel[train:], y_test=np.zeros((len(wide.inputs) - train, train)),
    )  # fmt: skip
    response = nd.predict(unit, at, W, [20])["outputs"].values[0]
    ends = np.asarray(starts)[:, None] + np.einsum(
        "ipn,snk->sipk", response, wide.task.targets[:train] - np.asarray(starts)[:, :train]
    )
    z = (ends.mean(0) - told["mean_outputs"].values[-1]) / (ends.std(0) / np.sqrt(240))
    assert 0.3 < np.sqrt((z**2).mean()) < 2
    spread = np.sqrt(ends.var(0).mean(-1)) / told["std_outputs"].values[-1]
    assert np.abs(spread - 1).max() < 0.15
    losses = ((ends[:, :, train:] - wide.task.targets[train:]) ** 2).sum(-1).mean(-1) / 2
    error = losses.std(0) / np.sqrt(240)
    assert (np.abs(losses.mean(0) - told["test_loss_mean"].values[-1]) < 4 * error).all()
    spread = losses.std(0)
    off = np.sqrt((((losses - losses.mean(0)) ** 4).mean(0) - spread**4) / 240) / (2 * spread)
    assert (np.abs(spread - told["test_loss_std"].values[-1]) < 4 * off).all()
    inside = (losses > told["test_loss_band"].values[0, -1]) & (
        losses < told["test_loss_band"].values[2, -1]
    )
    assert 0.82 < inside.mean() < 0.97


def test_starts_are_drawn_from_a_covariance_that_rounding_makes_indefinite():
    """Of rank one, so that other eigenvalues are zero or next to it, on either side."""
    along, below = np.random.default_rng(0).standard_normal((5, 6)), 0
    for each in along:
        rank_one = np.outer(each, each)
        below += np.linalg.eigvalsh(rank_one)[0] < 0
        drawn = ensembles._draw(rank_one, (40, 2), 0)
        shares = drawn / each[:, None]
        assert np.ptp(shares, axis=1).max() < 1e-6 and 0.5 < shares[:, 0].std() < 1.5
    assert below


@pytest.mark.parametrize("size", [0.5, 3.0])
def test_what_powers_carry_bounds_the_sum_of_all_of_them(size):
    """sum |A^s| over s < 8, of a matrix that shrinks and of one that grows."""
    A = np.random.default_rng(1).standard_normal((4, 4))
    A *= size / np.linalg.norm(A, 2)
    norms = [np.linalg.norm(np.linalg.matrix_power(A, s), 2) for s in range(8)]
    assert sum(norms) <= propagators._carried([norms[1], norms[2], norms[4]])


def test_losses_of_gaussian_outputs_have_these_means_and_deviations():
    """Three outputs of four points, by a hundred thousand draws."""
    rng = np.random.default_rng(0)
    off, factor = rng.standard_normal((1, 4, 3)), rng.standard_normal((4, 4))
    share, n = np.array([[0.4, 0.3, 0.2, 0.1]]), 100_000
    drawn = off + np.einsum("pq,nqk->npk", factor, rng.standard_normal((n, 4, 3)))
    losses = ((drawn**2).sum(axis=-1) * share).sum(axis=-1) / 2
    spread = (factor @ factor.T)[None]
    told = ensembles._mean(share, off, spread)[0], ensembles._std(share, off, spread)[0]
    assert abs(losses.mean() - told[0]) < 4 * losses.std() / np.sqrt(n)
    fourth = ((losses - losses.mean()) ** 4).mean()
    error = np.sqrt((fourth - losses.std() ** 4) / n) / (2 * losses.std())
    assert abs(losses.std() - told[1]) < 4 * error < 0.05 * told[1]


def test_variances_below_zero_by_rounding_are_zero():
    """Of a test point that is the training point again: what is known there has no spread."""
    problem = nd.KernelProblem([[1.0]], [[0.0]], [0], K_test=[[1.0]], y_test=[[1.0]])
    off = np.finfo(float).eps
    covariance = np.array([[1.0, 1 + off], [1 + off, 1.0]])
    row = ensembles._row(problem.task, np.ones((1, 2, 1)), covariance, np.zeros((1, 2, 1)))
    assert (row["std_outputs"][1] == 0).all()
    assert row["test_loss_mean"][1] == pytest.approx(0.5) and row["test_loss_std"][1] == 0


@pytest.mark.slow
def test_ensembles_of_ones_own_width_are_those_of_its_starts(small):
    """Mean, spread, bands and standard errors of three starts, from the runs themselves."""
    problem, _ = small(3)
    W, at = graphs.metropolis(graphs.path(3)), method("dgd", 0.15)
    told = dynamics.ensemble(problem, at, W, [0, 20], starts=dynamics.Starts(5, 3, "own"))
    seeds = np.random.default_rng(5).choice(2**32 - 1, 3, replace=False)
    runs = [
        nd.predict(dataclasses.replace(problem, seed=int(seed)), at, W, [0, 20]) for seed in seeds
    ]
    outputs = np.stack([run["outputs"] for run in runs])
    losses = np.stack([run["test_loss"] for run in runs])
    right = np.stack([run["test_accuracy"] for run in runs])
    variance, spread = outputs.var(axis=0, ddof=1), losses.std(axis=0, ddof=1)
    fourth = ((losses - losses.mean(axis=0)) ** 4).mean(axis=0)
    for name, wanted in (
        ("mean_outputs", outputs.mean(axis=0)),
        ("mean_outputs_error", np.sqrt(variance / 3)),
        ("std_outputs", np.sqrt(variance.mean(axis=-1))),
        ("test_loss_mean", losses.mean(axis=0)),
        ("test_loss_mean_error", spread / np.sqrt(3)),
        ("test_loss_std", spread),
        ("test_loss_std_error", np.sqrt(np.maximum(fourth - spread**4, 0) / 12) / spread),
        ("test_loss_band", np.quantile(losses, [0.05, 0.5, 0.95], axis=0)),
        ("test_accuracy_band", np.quantile(right, [0.05, 0.5, 0.95], axis=0)),
    ):
        assert np.allclose(told[name], wanted, rtol=1e-7, atol=1e-12), name
    assert told["std_outputs"].min() > 0.01 and "test_accuracy_mean" not in told
    assert told.attrs["width"] == "that of the networks" and told.attrs["draws"] == 3
    with pytest.raises(nd.InputError, match='nngp goes with width="infinite"'):
        dynamics.ensemble(
            problem, at, W, 1, starts=dynamics.Starts(0, width="own", nngp=np.eye(18))
        )
    with pytest.raises(nd.InputError, match="width .*did you mean 'own'"):
        dynamics.ensemble(problem, at, W, 1, starts=dynamics.Starts(0, width="owm"))


def test_trust_is_the_real_network_at_the_predicted_parameters(small):
    problem, jacobian = small(3)
    W, at = graphs.metropolis(graphs.path(3)), method("dgd", 0.3)
    save = nd.SaveOptions(trust=True, distances=True, parameter_rounds=[40], per_tensor=None)
    told = nd.predict(problem, at, W, [0, 40], save=save)
    _, unravel = jax.flatten_util.ravel_pytree(problem.start)
    theta = told["parameters"].values[0]
    with nd.precision.double():
        real = np.stack(
            [
                problem.network.apply(unravel(each), jnp.asarray(problem.inputs, float))
                for each in theta
            ]
        )
    linear = told["outputs"].values[-1]
    moved = np.linalg.norm(linear - told["initial_outputs"].values, axis=(1, 2))
    gap = np.linalg.norm(real - linear, axis=(1, 2)) / moved
    assert np.allclose(told["trust_gap"][-1], gap, rtol=1e-4) and gap.min() > 0.01
    observed = nd.train(problem, at, W, [0, 40])
    truth = nd.compare(told, observed)["gap"].values[-1]
    assert (told["trust_gap"].values[-1] / truth > 0.3).all()
    assert (told["trust_gap"].values[-1] / truth < 3).all()
    pairs = np.linalg.norm(theta[:, None] - theta[None], axis=2)
    assert np.abs(told["distance"].values[-1] - pairs).max() < 1e-6


def test_refusals(small):
    problem, W = bare(), MIXINGS["ring"]
    at = method("dgd", nd.methods.of_limit(0.5))

    def refused(match, call, *args, **kwargs):
        with pytest.raises(nd.InputError, match=match):
            call(*args, **kwargs)

    refused("did you mean 'contour'", nd.predict, problem, at, W, [100], via="contuor")
    for tolerance in (0.0, 1.0):
        refused(
            "tolerance: must be betw",
            nd.predict,
            problem,
            at,
            W,
            [100],
            via=dynamics.Scheme(tolerance=tolerance),
        )
    refused("at_most: must be", dynamics.rounds_until, problem, at, W, 0.1, at_most=0)
    refused(
        "cannot be met in round 1000", nd.predict, problem, at, W, [1000],
        via=dynamics.Scheme("contour", 1e-17),
    )  # fmt: skip
    refused("ascending", nd.predict, problem, at, W, [100, 10])
    refused("not negative", nd.predict, problem, at, W, [-3, 10])
    refused(
        "minibatches can only be stepped", nd.predict, problem, at, W, [9], via="powers",
        batch_size=1, batch_seed=0,
    )  # fmt: skip
    refused("cross_entropy can only", nd.predict, bare(loss="cross_entropy"), at, W, [9],
            via="powers")  # fmt: skip
    unstable = method("dgd", nd.methods.of_limit(1.5))
    refused("a stable step size", nd.predict, problem, unstable, W, [100], via="contour")
    refused("comes to no rest", dynamics.limit, problem, unstable, W)
    refused(
        "count: must be a whole number from 1",
        dynamics.slowest_modes,
        problem,
        method("dgd", 0.1),
        W,
        count=0,
    )
    refused("below: must be positive", dynamics.rounds_until, problem, at, W, 0.0)
    refused("time: must be finite", dynamics.Flow(problem, method("dgd", 0.1), W).state, -1.0)
    refused("needs a kernel", dynamics.flow, problem, at, W, [1])
    refused("batch_size", dynamics.minibatch_noise, problem, at, W, [1], batch_size=0)
    refused("needs the squared error", dynamics.ensemble, small(8, "cross_entropy").problem, at, W,
            [1], starts=dynamics.Starts(0))  # fmt: skip
    refused(
        "trust needs a network", nd.predict, problem, at, W, [1], save=nd.SaveOptions(trust=True)
    )
    rare, turns = nd.methods.local_sgd(step_size=0.1), nd.graphs.one_peer_exponential(W.agents)
    for each, on in ((rare, W), (method("dgd", 0.1), turns)):
        refused("is not defined here", dynamics.flow, problem, each, on, [1])
        refused("is not defined here", dynamics.Flow, problem, each, on)
    pushed, never = method("push_sum", 0.1), nd.methods.periodic(at, 1000)
    for each, on in ((pushed, MIXINGS["directed_ring"]), (never, W)):
        known = each.with_step_size(0.1)
        refused("no affine maps that repeat", dynamics.slowest_modes, problem, known, on)
        refused("no affine maps that repeat", dynamics.limit, problem, known, on)
        refused("no closed form", dynamics.minibatch_noise, problem, known, on, [1], batch_size=1)
        refused("can only be stepped", nd.predict, problem, known, on, [9], via="powers")
    refused("one number for all", nd.predict, problem, method("dgd", jnp.ones(2)), W, [1])
    K = np.diag([1.0, -0.3])
    refused("smallest eigenvalue is -0.3", nd.KernelProblem, K, np.ones((2, 1)), [0, 1])


def test_too_large_for_dense_is_said(small, monkeypatch):
    monkeypatch.setattr(thresholds, "MATRIX_UP_TO", 10)
    problem, W = bare(), MIXINGS["directed_ring"]
    with pytest.raises(nd.InputError, match="96 entries and powers are for up to 10"):
        nd.predict(problem, method("dgd", 0.1), W, [100], via="powers")
    flow = dynamics.Flow(problem, method("dgd", 0.1), W)
    for call in (lambda: flow.state(1.0), lambda: flow.transition(1.0).matrix()):
        with pytest.raises(nd.InputError, match="too large"):
            call()


def test_growth_is_said_and_overflow_too(small):
    problem, W = bare(), MIXINGS["ring"]
    at = method("dgd", nd.methods.of_limit(1.5))
    record = nd.predict(problem, at, W, [0, 100, 200], via="steps")
    growth = (record["displacement"][-1] / record["displacement"][-2]).values ** (1 / 100)
    assert np.allclose(growth, record.attrs["growth_per_round"], rtol=1e-6) and growth.min() > 1.01
    with pytest.warns(UserWarning, match="too large for numbers from round 10000000 on"):
        record = nd.predict(problem, at, W, [0, 100, 10**7])
    assert record.attrs["overflow_round"] == 10**7 and record.attrs["stable"] == 0


def test_closed_forms_meet_the_message_passing_reference(small):
    """Round 200 by every way, against agents that send each other messages."""
    problem, jacobian = small(8)
    task, W = problem.task, MIXINGS["ring"]
    displaced = reference.message_passing(
        "dgd", jacobian[: task.train], problem.initial[: task.train],
        task.targets[: task.train], task.owner, W.matrix, "mse", 0.05, 200,
    )  # fmt: skip
    truth = reference.outputs(jacobian, problem.initial, displaced[-1])
    for way in ("powers", "modes", "chebyshev", "krylov", "contour"):
        record = nd.predict(problem, method("dgd", 0.05), W, [200], via=way)
        assert np.abs(record["outputs"].values[0] - truth).max() < 1e-9


def test_kernel_tables_of_coupled_outputs_are_means_over_outputs():
    features = np.random.default_rng(0).standard_normal((12, 20))
    K = (features @ features.T).reshape(4, 3, 4, 3)
    problem = nd.KernelProblem(K, np.zeros((4, 3)), [0, 0, 1, 1])
    table = dynamics.kernel_table(problem)["kernel"].values
    wanted = np.mean([K[:, k, :, k] for k in range(3)], axis=0)
    assert np.allclose(table, wanted, atol=1e-12) and np.abs(wanted).max() > 1


def test_spectra_are_eigenvalues_of_a_round():
    """Of W - eta H with the same curvature 1/2 of both agents: 1 and 1/5 less eta / 2."""
    problem = nd.KernelProblem([[0.5, 0.5], [0.5, 0.5]], [[1.0], [2.0]], [0, 1])
    table = dynamics.spectrum(
        problem=problem, method=method("dgd", 0.2), weights=[[0.6, 0.4], [0.4, 0.6]]
    )
    assert np.sort(table["eigenvalue_real"]) == pytest.approx([0.1, 0.9])
    assert np.abs(table["eigenvalue_imag"]).max() < 1e-12 and table.attrs["period"] == 1
    assert table.attrs["spectral_gap"] == pytest.approx(0.8)
