"""Losses differentiated by links' weights and step size, against differences of predictions."""

import numpy as np
import pytest

import ntkdyn as nd
from ntkdyn import InputError, design, graphs

AGENTS, POINTS, TESTS, ROUND = 5, 15, 6, 25
GRAPH = graphs.from_edges([(0, 1), (1, 2), (2, 3), (3, 4), (0, 3)])
W = graphs.metropolis(GRAPH)


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(4)
    features = rng.standard_normal((POINTS + TESTS, 8))
    K = features @ features.T / 8
    y = features @ rng.standard_normal((8, 1))
    owner = np.repeat(np.arange(AGENTS), [1, 2, 3, 4, 5])
    return nd.KernelProblem(
        K[:POINTS, :POINTS], y[:POINTS], owner, np.zeros((POINTS, 1)),
        K_test=K[POINTS:, :POINTS], y_test=y[POINTS:], f0_test=np.zeros((TESTS, 1)),
    )  # fmt: skip


def predicted(problem, name, step, matrix, of):
    method = nd.methods.METHODS[name](step_size=step)
    record = nd.predict(problem, method, graphs.mixing(matrix), [ROUND], via="steps")
    return float(record[of].values[0].mean())


def moved(matrix, link, by):
    i, j = link
    other = matrix.copy()
    other[[i, j, i, j], [j, i, i, j]] += [by, by, -by, -by]
    return other


def difference(at, h=2e-4):
    return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)


@pytest.mark.parametrize(
    "name, of",
    [
        pytest.param("dgd", "test_loss", marks=pytest.mark.slow),
        ("dgd", "global_loss"),
        pytest.param("atc", "global_loss", marks=pytest.mark.slow),
        pytest.param("diging", "test_loss", marks=pytest.mark.slow),
        pytest.param("extra", "test_loss", marks=pytest.mark.slow),
        pytest.param("exact_diffusion", "global_loss", marks=pytest.mark.slow),
    ],
)
def test_derivatives_are_differences_of_predictions(name, of, problem):
    """Of fourth order, between links and steps a little larger and smaller."""
    step, weights = 0.05, graphs.lazy(W) if name == "extra" else W
    method = nd.methods.METHODS[name](step_size=step)
    found = design.derivative(problem, method, weights, ROUND, of=of)
    loss = lambda matrix, eta=step: predicted(problem, name, eta, matrix, of)
    base = weights.matrix
    assert found.loss == pytest.approx(loss(base), rel=1e-12)
    for link, slope in zip(found.links, found.by_link, strict=True):
        assert abs(slope - difference(lambda by, link=link: loss(moved(base, link, by)))) < 1e-8
    by_step = difference(lambda by: loss(base, step + by))
    assert abs(found.by_step_size - by_step) < 1e-8 * abs(by_step)
    assert np.abs(found.by_link).min() > 1e-5 and found.by_step_size < 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dgd", "atc"])
def test_improved_weights_are_better_and_none_near_them_are(name, problem):
    """Nor with smaller steps; larger ones may be unstable, and better in one round for all that."""
    method = nd.methods.METHODS[name](step_size=0.05)
    found = design.improve(problem, method, W, ROUND)
    assert found.loss < 0.7 * found.before
    step = float(found.system.method.step_size)
    again = lambda matrix, eta=step: predicted(problem, name, eta, matrix, "test_loss")
    assert found.loss == pytest.approx(again(found.system.weights.matrix), rel=1e-9)
    assert found.system.weights.adjusted in ("", "1 weights as small as rounding set to zero")
    matrix, rng = found.system.weights.matrix, np.random.default_rng(0)
    assert matrix.min() > -1e-12
    for _ in range(20):
        other = matrix
        for link in GRAPH.edges():
            other = moved(other, link, 0.01 * rng.standard_normal())
        if other.min() >= 0:
            assert again(other, step * (1 - 0.01 * rng.random())) > found.loss * (1 - 1e-5)
    kept = design.improve(problem, method, W, ROUND, step_too=False)
    assert found.loss < kept.loss < kept.before
    assert float(kept.system.method.step_size) == 0.05


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda p: (p, nd.methods.dgd(step_size=0.1), graphs.uniform(GRAPH), 5), "symmetric"),
        (lambda p: (p, nd.methods.local_sgd(step_size=0.1), W, 5), "more than average by W"),
        (lambda p: (p, nd.methods.dgd(step_size=0.1), W, 0), "round"),
        (lambda p: (p, nd.methods.dgd(step_size=0.1), graphs.base(5), 5), "one symmetric"),
    ],
)
def test_what_has_no_such_derivative_is_refused(make, said, problem):
    with pytest.raises(InputError, match=said):
        design.derivative(*make(problem))
    with pytest.raises(InputError, match="test_los"):
        design.derivative(problem, nd.methods.dgd(step_size=0.1), W, 5, of="test_los")
