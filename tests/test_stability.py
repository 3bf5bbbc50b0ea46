"""Stability limits: the spectral radius passes one exactly there."""

import dataclasses

import numpy as np
import pytest
from cases import AFFINE, MIXINGS, PLAIN, method, suits

import ntkdyn as nd
from ntkdyn import dynamics, graphs
from ntkdyn.dynamics import stability
from ntkdyn.precision import in_double


@pytest.mark.parametrize(
    "mixing", ["ring", "star", "path", "directed_ring", "directed_exponential"]
)
@pytest.mark.parametrize("name", PLAIN)
@in_double
def test_the_radius_passes_one_at_the_limit(small, name, mixing):
    W = MIXINGS[mixing]
    problem, _ = small(W.agents)
    at = dynamics.setting(problem, "empirical", method(name, 1.0), W)
    limit = nd.step_size_limit(problem, method(name, 1.0), W)
    assert limit > 0
    assert stability._radius(at, limit * (1 - 1e-4)) <= 1 + 1e-9
    assert stability._radius(at, limit * (1 + 1e-4)) > 1


@pytest.mark.parametrize("name", [name for name in AFFINE if name not in PLAIN])
@in_double
def test_the_radius_passes_one_at_the_limit_found_by_bisection(name):
    features = np.random.default_rng(0).standard_normal((6, 7))
    problem = nd.KernelProblem(features @ features.T, np.ones((6, 1)), [0, 0, 1, 2, 2, 3])
    W = graphs.lazy(graphs.metropolis(graphs.ring(4)))
    assert suits(name, W)
    limit = nd.step_size_limit(problem, method(name, 1.0), W)
    at = dynamics.setting(problem, "given", method(name, 1.0), W)
    assert limit > 0
    assert stability._radius(at, limit) <= 1 + 1e-9
    assert stability._radius(at, limit * (1 + 1e-4)) > 1 + 1e-9


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
    assert predicted.attrs["stable"] is True
    assert np.abs(predicted["outputs"].values[-1, :, :4] - 1).max() < 1e-6


@pytest.mark.parametrize("name", PLAIN)
@in_double
def test_closed_form_equals_bisection(small, name):
    problem, _ = small(8)
    for W in (MIXINGS["petersen"], graphs.lazy(MIXINGS["star"])):
        problem, _ = small(W.agents)
        at = dynamics.setting(problem, "empirical", method(name, 1.0), W)
        assert abs(stability._closed_form(at) / stability._bisected(at) - 1) < 1e-5


@pytest.mark.parametrize("name", PLAIN)
def test_runs_shrink_below_the_limit_and_grow_above(small, name):
    W = MIXINGS["directed_ring"]
    problem, _ = small(8)
    limit = nd.step_size_limit(problem, method(name, 1.0), W)
    for factor, stable in ((0.98, True), (1.05, False)):
        record = nd.predict(problem, method(name, factor * limit), W, [0, 1500])
        grown = float(record["displacement"].isel(round=-1).max())
        assert record.attrs["stable"] is stable
        assert (grown < 100) is stable
    assert abs(record.attrs["step_size_limit"] / limit - 1) < 1e-5


def test_arnoldi_finds_what_the_dense_matrix_has(small, monkeypatch):
    problem, _ = small(10)
    at = dynamics.setting(problem, "empirical", method("dgd", 1.0), MIXINGS["petersen"])
    limit = nd.step_size_limit(problem, method("dgd", 1.0), MIXINGS["petersen"])
    monkeypatch.setattr(dynamics.affine, "KRYLOV", 60)
    with nd.precision.double():
        dense = stability._radius(at, 1.1 * limit)
        monkeypatch.setattr(dynamics.affine, "DENSE_UP_TO", 0)
        krylov = stability._radius(at, 1.1 * limit)
    assert dense > 1.01 and abs(dense - krylov) < 1e-8


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
    assert record.attrs["stable"] is True and loss[2] < loss[1] < loss[0]


def test_a_share_of_the_limit_is_taken(small):
    problem, _ = small(8)
    W = MIXINGS["ring"]
    limit = nd.step_size_limit(problem, method("atc", 1.0), W)
    record = nd.predict(problem, method("atc", nd.of_limit(0.25)), W, [0, 5])
    assert record.attrs["step_size"] == 0.25 * limit
    observed = nd.train(problem, method("atc", nd.of_limit(0.25)), W, [0, 5])
    assert observed.attrs["step_size"] == 0.25 * limit and observed.attrs["stable"] is True
    with pytest.raises(nd.InputError, match="needs a kernel"):
        nd.predict(problem, method("atc", nd.of_limit(0.25)), W, 5, kernel="implicit")


def test_a_periodic_graph_has_no_stable_step():
    """W of two agents that swap has eigenvalue -1: DGD is not stable at any step size."""
    swap = nd.KernelProblem(np.eye(2), np.ones((2, 1)), [0, 1])
    assert nd.step_size_limit(swap, method("dgd", 1.0), [[0, 1], [1, 0]]) == 0
    assert nd.predict(swap, method("dgd", 0.01), [[0, 1], [1, 0]], 3).attrs["stable"] is False


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
        assert record.attrs["stable"] is True
        losses.append(record["train_loss"].values.max())
    assert np.ptp(limits) < 1e-5 * limits[0]
    assert np.ptp(losses) < 1e-6 * losses[0] and losses[0] < 0.5 * (y**2).max()


def test_steps_so_large_that_lengths_overflow_are_unstable():
    problem = nd.KernelProblem(np.eye(48), np.ones((48, 1)), np.arange(48) % 16)
    W = graphs.metropolis(graphs.ring(16))
    with pytest.warns(UserWarning, match="errors that grow inf times a round"):
        record = nd.predict(problem, method("dgd", 1e200), W, 4)
    assert record.attrs["stable"] is False and record.attrs["growth_per_round"] == np.inf
