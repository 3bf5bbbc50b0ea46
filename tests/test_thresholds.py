"""Where the code chooses between two ways by size, both give the same numbers on the same problem.

Each constant is forced to either side, on kernels of full and of low rank, in units 1e-6 and 1e6.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from cases import method

import ntkdyn as nd
from ntkdyn import engine, graphs, precision, spaces, thresholds
from ntkdyn.graphs import matrices
from ntkdyn.methods import mixing
from ntkdyn.theory import rates, theorems
from ntkdyn.vectors import Point, Vector

AGENTS, POINTS = 6, 12
PROBLEMS = [(rank, unit) for rank in (POINTS, 3) for unit in (1e-6, 1.0, 1e6)]
NEVER = 10**9


@pytest.fixture(params=PROBLEMS, ids=str)
def problem(request):
    """Two points for each of six agents; K of that rank, in that unit."""
    rank, unit = request.param
    rng = np.random.default_rng(0)
    features = rng.standard_normal((POINTS, rank)) * (unit / rank) ** 0.5
    y = rng.standard_normal((POINTS, 1))
    owner = np.arange(POINTS) % AGENTS
    return nd.KernelProblem(features @ features.T, y, owner, 0.1 * y[::-1])


def step_size(problem):
    """A fifth of 1/L."""
    return 0.2 / np.linalg.eigvalsh(problem.kernel().whole)[-1]


def both(monkeypatch, place, name, sides, compute):
    found = []
    for side in sides:
        monkeypatch.setattr(place, name, side)
        found.append(compute())
    return found


def close(one, other, rounding=1e-13):
    one, other = np.asarray(one), np.asarray(other)
    assert np.abs(one).max() > 0
    np.testing.assert_allclose(one, other, rtol=0, atol=rounding * np.abs(one).max())


@precision.in_double
def test_scattered_and_compared_rows_are_the_same(problem, monkeypatch):
    """One point that is drawn twice, and agents that draw each other's, included."""
    space = problem.kernel_space()
    rows = jnp.array(np.random.default_rng(1).integers(0, POINTS, (AGENTS, 2))).at[0].set(5)
    x = Point(jnp.asarray(np.random.default_rng(2).standard_normal((AGENTS, POINTS, 1))))

    def pulled():
        outputs, pull = space.readout(rows)(x)
        return pull(outputs).tree

    close(*both(monkeypatch, spaces, "SPREAD_UP_TO", (0, 2), pulled), rounding=1e-15)


@pytest.mark.parametrize("name", ["ring", "star", "path", "complete"])
def test_outer_eigenvalues_by_lanczos_are_those_of_all(name, monkeypatch):
    matrix = np.asarray(graphs.metropolis(graphs.TOPOLOGIES[name](AGENTS)))

    def outer():
        W = graphs.mixing(matrix)
        return W.second_largest_modulus, W.smallest_eigenvalue, W.spectral_gap

    close(*both(monkeypatch, matrices, "LANCZOS_FROM", (NEVER, 4), outer), rounding=1e-12)


@precision.in_double
def test_points_measured_in_parts_are_those_measured_at_once(problem, monkeypatch):
    space = problem.kernel_space()
    x = Point(jnp.asarray(np.random.default_rng(2).standard_normal((AGENTS, POINTS, 1))))
    outputs = lambda: engine._all_outputs(space, x, None, slice(0, POINTS))
    close(*both(monkeypatch, engine, "POINTS_AT_ONCE", (NEVER, 5), outputs), rounding=1e-15)


@precision.in_double
@pytest.mark.parametrize("rule", [graphs.metropolis, graphs.push, graphs.uniform])
def test_sparse_and_dense_weights_mix_the_same(rule, monkeypatch):
    """On a tree of unequal degrees, where push and uniform weights are no symmetric matrices."""
    tree = graphs.from_edges([(0, 1), (1, 2), (0, 3), (3, 4), *((i, i + 1) for i in range(4, 19))])
    W = np.asarray(rule(tree))
    x = Vector(jnp.asarray(np.random.default_rng(3).standard_normal((20, 2, 3))))

    def mixed():
        operator = mixing.operator_of(W)
        return type(operator), operator(x).tree, operator.matrix()

    (dense, *one), (sparse, *other) = both(monkeypatch, mixing, "SPARSE_FROM", (NEVER, 4), mixed)
    assert (dense, sparse) == (mixing.Dense, mixing.Sparse)
    close(one[0], other[0], rounding=1e-15)
    assert np.array_equal(one[1], W) and np.array_equal(other[1], W)


@pytest.mark.parametrize("name", ["dgd", "cta", "diging", "exact_diffusion"])
def test_iterated_rates_are_those_of_all_eigenvalues(name, problem, monkeypatch):
    W = graphs.lazy(graphs.metropolis(graphs.ring(AGENTS)))
    case = theorems.case(problem, method(name, step_size(problem)), W)
    dense, iterated = both(
        monkeypatch, thresholds, "DECOMPOSED_UP_TO", (NEVER, 0), lambda: rates.rate(case)
    )
    assert 0 < dense < 1
    assert abs(iterated - dense) < rates.EXACTLY * dense


def test_iterated_exponents_of_the_flow_are_those_of_all_eigenvalues(problem, monkeypatch):
    W = graphs.metropolis(graphs.ring(AGENTS))
    case = theorems.case(problem, method("dgd", step_size(problem)), W)
    exponent = lambda: 1 + rates.flow_exponent(case)
    dense, iterated = both(monkeypatch, thresholds, "DECOMPOSED_UP_TO", (NEVER, 0), exponent)
    assert 0 < dense < 1
    assert abs(iterated - dense) < rates.EXACTLY


def test_growth_of_noise_by_lanczos_is_that_of_all_eigenvalues(problem, monkeypatch):
    case = theorems.case(
        problem, method("dgd", step_size(problem)), graphs.metropolis(graphs.ring(AGENTS))
    )
    growth = lambda: case.constants.batch_growth(1)
    close(*both(monkeypatch, thresholds, "ALONE_UP_TO", (NEVER, 1), growth), rounding=1e-11)
