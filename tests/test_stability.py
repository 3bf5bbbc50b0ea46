"""Stability limits: the eigenvalues of the method's own rounds leave the unit disc there."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from cases import AFFINE, MIXINGS, method, quick_if

import ntkdyn as nd
from ntkdyn import graphs, precision, thresholds
from ntkdyn.dynamics import criterion, loops, stability
from ntkdyn.methods import Method, updates
from ntkdyn.methods.mixing import Fixed
from ntkdyn.methods.objectives import Local
from ntkdyn.precision import in_double
from ntkdyn.vectors import Point, Vector

LAZY = graphs.lazy(graphs.metropolis(graphs.ring(4)))
"""no eigenvalue below zero"""

SYMMETRIC = graphs.metropolis(graphs.path(5))
"""eigenvalues from -0.27 on"""

DIRECTED = graphs.mixing(0.6 * np.eye(4) + 0.4 * np.roll(np.eye(4), 1, axis=1), name="directed")

NEVER_SMALL = {("gut", "directed"), ("qg_gutm", "directed")}
"""methods that are unstable at every step size there"""

CASES = [
    (name, W)
    for name in [*AFFINE, "local_sgd"]
    for W in (LAZY, SYMMETRIC, DIRECTED)
    if W is not DIRECTED or not method(name, 1.0).needs.symmetric
]


@functools.cache
def bare(agents, rank, unit=1.0):
    """Agents with one to three points each; with a low rank, directions of no curvature."""
    features = np.random.default_rng(agents + rank).standard_normal((agents + 3, rank))
    owner = np.concatenate([np.arange(agents), [0, 0, 1]])
    return nd.KernelProblem(unit * features @ features.T, np.ones((agents + 3, 1)), owner)


def asked(name, W, rank=3, unit=1.0):
    return nd.System(bare(W.agents, rank, unit), method(name, 1.0), W)


def radius(name, W, step_size, rank):
    """The largest eigenvalue of a period that gradients can excite, by the method's own step.

    Features and a Krylov basis of all that gradients reach, with nothing of the package's loops.
    """
    problem, update = bare(W.agents, rank), method(name, step_size).update
    kernel, task = problem.kernel("given").training, problem.task
    values, vectors = np.linalg.eigh(kernel)
    rows = (vectors * np.sqrt(np.maximum(values, 0)))[:, values > 1e-10 * values[-1]]
    own = [rows[task.owner == agent] for agent in range(task.agents)]
    hessians = np.stack([each.T @ each / len(each) for each in own])
    reach = np.stack([each.T @ np.linalg.pinv(each.T) for each in own])
    agents, rank = task.agents, rows.shape[1]
    start, tree = jax.tree.flatten(update.init(Point(np.zeros((agents, rank, 1)))))
    size, inputs = len(start) * agents * rank, agents * rank
    columns = np.eye(size + inputs)[:size].reshape(len(start), agents, rank, -1)
    force = np.eye(size + inputs)[size:].reshape(agents, rank, -1)
    force = np.einsum("irq,iqc->irc", reach, force)

    def once(mix):
        state = tree.unflatten(list(columns))
        grad = lambda x: Vector(np.einsum("irq,iqc->irc", hessians, x.tree) + force)
        moved = np.concatenate(
            [
                leaf.reshape(-1, size + inputs)
                for leaf in jax.tree.leaves(update.step(state, grad, mix))
            ]
        )
        return moved[:, :size], moved[:, size:]

    gamma = method(name, 1.0).mixing.rate
    V = (1 - gamma) * np.eye(agents) + gamma * W.matrix
    combine = lambda x: x.map(lambda leaf: np.einsum("ij,jrc->irc", V, leaf))
    every = method(name, 1.0).mixing.every
    rounds = [once(lambda x: x)] * (every - 1) + [once(combine)]
    basis, new = np.zeros((size, 0)), np.concatenate([B for _, B in rounds], axis=1)
    while new.shape[1] and basis.shape[1] < size:
        for _ in range(2):
            new = new - basis @ (basis.T @ new)
            u, s, _ = np.linalg.svd(new, full_matrices=False)
            new = u[:, s > 1e-9 * max(1, step_size)]
        basis = np.concatenate([basis, new], axis=1)
        new = np.concatenate([A @ new for A, _ in rounds], axis=1)
    whole = functools.reduce(lambda done, once: once[0] @ done, rounds, np.eye(size))
    return np.abs(np.linalg.eigvals(basis.T @ whole @ basis)).max()


@pytest.mark.parametrize(
    "name, W, rank",
    [(name, W, 3) for name, W in CASES] + [(name, W, 9) for name, W in CASES if W.agents == 4],
    ids=lambda each: getattr(each, "name", each),
)
@in_double
def test_eigenvalues_leave_the_disc_at_the_limit(name, W, rank):
    limit = nd.step_size_limit(bare(W.agents, rank), method(name, 1.0), W)
    if (name, W.name) in NEVER_SMALL:
        assert limit == 0 and radius(name, W, 1e-3, rank) > 1 + 1e-4
        return
    assert radius(name, W, limit * (1 - 1e-6), rank) <= 1 + 1e-9
    assert radius(name, W, limit * (1 + 1e-5), rank) > 1 + 1e-8


@pytest.mark.parametrize(
    "name, W",
    quick_if(
        [(name, W) for name, W in CASES if name != "local_sgd" or W is SYMMETRIC],
        lambda name, W: W is LAZY or name == "local_sgd",
    ),
    ids=lambda each: getattr(each, "name", each),
)
@in_double
def test_every_way_to_a_limit_finds_the_same(name, W, monkeypatch):
    """In closed form, by all eigenvalues, by those on the rim; whatever the kernel's units."""
    limit = stability._limit(asked(name, W)).value
    for unit in (1e-6, 1e6):
        assert np.isclose(stability._limit(asked(name, W, unit=unit)).value * unit, limit, 1e-7)
    by_all = stability._crossing(asked(name, W), None)
    monkeypatch.setattr(thresholds, "EIGENVALUES_UP_TO", 0)
    by_rim = stability._crossing(asked(name, W), None)
    assert (by_all.by, by_rim.by) == ("eigenvalues", "iteration")
    assert np.isclose(by_all.value, limit, rtol=1e-7)
    assert np.isclose(by_rim.value, limit, rtol=1e-6)


def test_which_limits_have_a_closed_form():
    """All symmetric methods, whatever W; the others where W has no eigenvalue below zero."""
    always = {"aug_dgm", "dgd", "diging", "exact_diffusion", "extra", "nids"}
    for name in AFFINE:
        assert criterion.crosses_at_minus_one(method(name, 1.0), LAZY), name
        assert criterion.crosses_at_minus_one(method(name, 1.0), SYMMETRIC) is (name in always)


class Before(NamedTuple):
    x: Any
    gradient: Any


class Climbing(updates.BaseUpdate):
    """x+ = W x - eta (g(x) - 3/2 g(x')), in the long run along + g / 2."""

    def init(self, x):
        return Before(x, x - x)

    def step(self, state, grad, mix):
        now = grad(state.x)
        return Before(mix(state.x) - self.step_size * (now - 1.5 * state.gradient), now)


@in_double
def test_what_grows_slowly_at_every_step_size_has_no_limit():
    """eta h = w (w - 1) / (3/2 - w) has a solution w in (1, 3/2), and none beyond."""
    by = Method("climbing", Climbing(1.0), Fixed(), Local())
    assert not criterion.crosses_at_minus_one(by, LAZY)
    assert nd.step_size_limit(bare(4, 3), by, LAZY) == 0


class Alone(updates.Memoryless):
    """x+ = x - eta g(x)."""

    def step(self, state, grad, mix):
        return updates.Iterate(state.x - self.step_size * grad(state.x))


@pytest.mark.parametrize("step", [1e-4, 0.1])
def test_agents_that_never_hear_of_each_other_have_no_common_limit(step):
    by = Method("alone", Alone(step), Fixed(), Local())
    with pytest.raises(nd.InputError, match="do not settle on a common point have no closed form"):
        nd.dynamics.limit(bare(4, 3), by, LAZY)


def test_a_multiplier_is_found_where_there_is_one():
    """phi imaginary <= room in all modes, against a grid of phi."""
    rng = np.random.default_rng(0)
    room, imaginary = rng.integers(-2, 4, (200, 3)), rng.integers(-2, 3, (200, 3))
    phi = np.linspace(-4, 4, 97)[:, None, None]
    exists = (phi * imaginary <= room).all(axis=2).any(axis=0)
    assert 50 < exists.sum() < 150
    assert (
        criterion._multiplier_exists(room.astype(float), imaginary.astype(float)) == exists
    ).all()


def test_the_closed_form_is_that_of_the_textbooks():
    """DGD: (1 + w) / h; ATC: (1 + w) / (w h); EXTRA: (5 + 3 w) / (4 h); DIGing: (1 + w)^2 / 2 h.

    Two agents with the same single point, so that in their difference w = 0.2 meets h = 1 alone.
    """
    K = np.array([[1.0, 0.0], [0.0, 1.0]])
    problem = nd.KernelProblem(K, [[1.0], [2.0]], [0, 1])
    W = [[0.6, 0.4], [0.4, 0.6]]
    mean = np.array([[1.0, 1.0], [1.0, 1.0]]) / 2
    for name, of_mode in {
        "dgd": lambda w: 1 / (1 + w),
        "atc": lambda w: w / (1 + w),
        "extra": lambda w: 4 / (5 + 3 * w),
        "diging": lambda w: 2 / (1 + w) ** 2,
    }.items():
        coupling = of_mode(1.0) * mean + of_mode(0.2) * (np.eye(2) - mean)
        expected = 1 / np.linalg.eigvalsh(coupling * K).max()
        assert np.isclose(nd.step_size_limit(problem, method(name, 1.0), W), expected, rtol=1e-12)


def test_a_method_is_stable_up_to_its_first_limit():
    """Not up to a later one: of the two agents' modes one grows, comes back and grows again."""
    values = stability.Family(asked("atc", DIRECTED)).margin
    limit = nd.step_size_limit(bare(4, 3), method("atc", 1.0), DIRECTED)
    with nd.precision.double():
        assert all(values(share * limit) <= 1e-12 for share in np.linspace(0.02, 1 - 1e-7, 40))


def test_without_curvature_every_step_is_stable():
    problem = nd.KernelProblem(np.zeros((12, 12)), np.ones((12, 1)), np.arange(12) % 4)
    for name in ("dgd", "diging", "atc"):
        assert nd.step_size_limit(problem, method(name, 1.0), LAZY) == np.inf
        assert nd.predict(problem, method(name, 5.0), LAZY, 3).attrs["stable"] == 1
    with pytest.raises(nd.InputError, match="the kernel is zero"):
        nd.predict(problem, method("dgd", nd.of_limit(0.5)), LAZY, 3)


def test_how_a_limit_is_known_is_in_the_record():
    for name, W, by in (("dgd", SYMMETRIC, "closed form"), ("atc", DIRECTED, "eigenvalues")):
        record = nd.predict(bare(W.agents, 3), method(name, nd.of_limit(0.5)), W, 3)
        assert record.attrs["step_size_limit_by"] == by


def test_progress_of_a_limit_without_a_closed_form():
    seen = []
    nd.step_size_limit(
        bare(4, 3), method("atc", 1.0), DIRECTED, progress=lambda *each: seen.append(each)
    )
    assert len(seen) > 5 and seen[-1][0] == seen[-1][1] and seen == sorted(seen)


def test_the_graph_may_change_in_a_cycle():
    """One-peer exponential graphs: growth over a cycle against stepping above and below."""
    W, problem = graphs.one_peer_exponential(4), bare(4, 9)
    for name in ("atc", "diging"):
        limit = nd.step_size_limit(problem, method(name, 1.0), W)
        ends = {}
        for share in (0.97, 1.03):
            record = nd.predict(problem, method(name, share * limit), W, [0, 2000], via="steps")
            ends[share] = float(record["displacement"].isel(round=-1).max())
            assert record.attrs["stable"] == (share < 1)
        assert ends[0.97] < 100 < ends[1.03]
    growth = record.attrs["growth_per_round"]
    later = nd.predict(problem, method(name, 1.03 * limit), W, [1000, 20_000], via="steps")
    grown = later["displacement"].max("agent").values
    assert np.isclose((grown[1] / grown[0]) ** (1 / 19_000), growth, rtol=2e-4) and growth > 1.001


def test_what_gradients_cannot_reach_is_no_part_of_a_loop():
    """DIGing keeps 1'(y - g'): of 3 x 4 states, 11 move, and their eigenvalue one is single."""
    (loop,) = stability.loops_of(asked("diging", DIRECTED), 0.1)
    moving = loop.moving
    assert loop.P.shape == (12, 12) and moving.P.shape == (11, 11)
    ones = lambda P: np.sum(np.abs(np.linalg.eigvals(P) - 1) < 1e-6)
    assert ones(loop.P) == 2 and ones(moving.P) == 1
    for shift in (0.3 + 0.2j, -1.7):
        assert np.abs(loop.at(shift)[1] - moving.at(shift)[1]).max() < 1e-10


@pytest.mark.parametrize("name, expected", [("extra", 1.0), ("exact_diffusion", 2.0)])
def test_sums_that_methods_keep_are_no_growth(name, expected):
    """A kernel with directions of no curvature: the double eigenvalue one must not count.

    On a ring of four (w from -1/3 to 1), all points the same, EXTRA is stable up to
    (5 + 3 w) / (4 lambda) and exact diffusion up to 2 / lambda.
    """
    features = np.array([[1.0, 0.5]] * 4 + [[0.0, 0.0]] * 4)
    problem = nd.KernelProblem(features @ features.T, np.ones((8, 1)), [0, 1, 2, 3] * 2)
    W = graphs.metropolis(graphs.ring(4))
    curvature = 1.25 / 2
    limit = nd.step_size_limit(problem, method(name, 1.0), W) * curvature
    assert abs(limit - expected) < 1e-4
    predicted = nd.predict(problem, method(name, 0.9 * limit / curvature), W, [0, 300])
    assert predicted.attrs["stable"] == 1
    assert np.abs(predicted["outputs"].values[-1, :, :4] - 1).max() < 1e-6


@pytest.mark.parametrize("name", ["dgd", "atc"])
def test_runs_shrink_below_the_limit_and_grow_above(small, name):
    W = MIXINGS["directed_ring"]
    problem, _ = small(8)
    limit = nd.step_size_limit(problem, method(name, 1.0), W)
    for factor, stable in ((0.98, True), (1.05, False)):
        record = nd.predict(problem, method(name, factor * limit), W, [0, 1500])
        grown = float(record["displacement"].isel(round=-1).max())
        assert record.attrs["stable"] == stable
        assert (grown < 100) is stable
    assert abs(record.attrs["step_size_limit"] / limit - 1) < 1e-5


def test_cross_entropy_is_stable_below_its_sufficient_limit(small):
    problem, _ = small(8, "cross_entropy")
    W = MIXINGS["ring"]
    squared = dataclasses.replace(problem, loss="mse")
    assert np.isclose(
        nd.step_size_limit(problem, method("dgd", 1.0), W),
        2 * nd.step_size_limit(squared, method("dgd", 1.0), W),
    )
    record = nd.predict(problem, method("dgd", nd.of_limit(0.99)), W, [0, 400, 2000])
    loss = record["global_loss"].max("agent").values
    assert record.attrs["stable"] == 1 and loss[2] < loss[1] < loss[0]


def test_a_share_of_the_limit_is_taken(small):
    problem, _ = small(8)
    W = MIXINGS["ring"]
    limit = nd.step_size_limit(problem, method("atc", 1.0), W)
    record = nd.predict(problem, method("atc", nd.of_limit(0.25)), W, [0, 5])
    assert record.attrs["step_size"] == 0.25 * limit
    observed = nd.train(problem, method("atc", nd.of_limit(0.25)), W, [0, 5])
    assert observed.attrs["step_size"] == 0.25 * limit and observed.attrs["stable"] == 1
    with pytest.raises(nd.InputError, match="needs a kernel"):
        nd.predict(problem, method("atc", nd.of_limit(0.25)), W, 5, kernel="implicit")


def test_a_periodic_graph_has_no_stable_step():
    """W of two agents that swap has eigenvalue -1: DGD is not stable at any step size."""
    swap = nd.KernelProblem(np.eye(2), np.ones((2, 1)), [0, 1])
    assert nd.step_size_limit(swap, method("dgd", 1.0), [[0, 1], [1, 0]]) == 0
    assert nd.predict(swap, method("dgd", 0.01), [[0, 1], [1, 0]], 3).attrs["stable"] == 0


@pytest.mark.parametrize("name", ["dgd", "diging", "gut", "extra", "heavy_ball"])
def test_the_units_of_the_kernel_do_not_matter(name):
    factors = np.random.default_rng(1).standard_normal((8, 12))
    K, y, owner = factors @ factors.T / 12, np.arange(8.0)[:, None], np.arange(8) % 4
    W = graphs.metropolis(graphs.ring(4))
    limits, losses = [], []
    for unit in (1.0, 1e-8, 1e8):
        problem, at = nd.KernelProblem(K * unit, y, owner), method(name, 0.02 / unit)
        limits.append(nd.step_size_limit(problem, at, W) * unit)
        record = nd.predict(problem, at, W, [2000])
        assert record.attrs["stable"] == 1
        losses.append(record["train_loss"].values.max())
    assert np.ptp(limits) < 1e-5 * limits[0]
    assert np.ptp(losses) < 1e-6 * losses[0] and losses[0] < 0.5 * (y**2).max()


def test_steps_so_large_that_lengths_overflow_are_unstable():
    problem = nd.KernelProblem(np.eye(48), np.ones((48, 1)), np.arange(48) % 16)
    W = graphs.metropolis(graphs.ring(16))
    with pytest.warns(UserWarning, match="errors that grow inf times a round"):
        record = nd.predict(problem, method("dgd", 1e200), W, 4)
    assert record.attrs["stable"] == 0 and record.attrs["growth_per_round"] == np.inf


def test_with_batches_the_limit_is_that_of_the_mean_over_draws():
    """Means shrink below it and grow above; mean squares may grow below it already."""
    W, rng = graphs.metropolis(graphs.path(3)), np.random.default_rng(3)
    features = rng.standard_normal((6, 8))
    problem = nd.KernelProblem(features @ features.T, rng.standard_normal(6), np.arange(6) // 2)
    system = nd.System(problem, method("dgd", 1.0), W)
    drawn = system.with_(batch_size=1, batch_seed=0)
    listed = system.with_(batches=[[[0], [2], [4]]])
    limit = nd.step_size_limit(system)
    assert nd.step_size_limit(drawn) == nd.step_size_limit(listed) == limit
    assert nd.dynamics.assess(drawn).stable is nd.dynamics.assess(system).stable is False

    def sizes(share):
        moments = nd.dynamics.Moments(
            system.with_(method=method("dgd", share * limit)), batch_size=1
        )
        moments.advance(600)
        begun = np.abs(moments.mean).max(), np.abs(moments.covariance).max()
        moments.advance(100)
        return np.abs(moments.mean).max() / begun[0], np.abs(moments.covariance).max() / begun[1]

    (below, spread), (above, _) = sizes(0.97), sizes(1.03)
    assert below < 1.1 and above > 1.5 and spread > 10


def test_loops_are_the_same_whoever_asks_first():
    """In single precision, in double, or in a traced program, which is refused."""
    problem, W = (
        nd.KernelProblem(np.eye(6), np.ones(6), np.arange(6)),
        nd.graphs.metropolis(nd.graphs.ring(6)),
    )
    system = nd.System(problem, nd.methods.diging(step_size=0.1), W)
    ask = lambda: stability.loops_of(system, 0.1)[0]
    found = []
    for first in (precision.double, precision.single, None):
        loops._unit.cache_clear()
        if first:
            with first():
                ask()
        else:
            with pytest.raises(jax.errors.TracerArrayConversionError):
                jax.jit(lambda x: ask() and x)(1.0)
        with precision.double():
            found.append(ask())
    for each in found[1:]:
        assert all(np.array_equal(one, other) for one, other in zip(found[0], each, strict=True))
    assert len(found) == 3 and np.abs(found[0].P).max() > 0
