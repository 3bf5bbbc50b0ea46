"""Bounds on expectations under minibatch noise, held against exact expectations."""

import numpy as np
import pytest
from theory_cases import AGENTS, drawn, method

import ntkdyn as nd
from ntkdyn import graphs
from ntkdyn.theory import bounds, noisy, theorems

ROUNDS = list(range(61))


def case_of(seed, name, share):
    """A random problem with a step of `share` / L on lazy weights, batches of one point."""
    one = drawn(seed)
    W = graphs.lazy(graphs.metropolis((graphs.ring, graphs.complete, graphs.path)[seed % 3](5)))
    made = theorems.case(one.problem, method(name, 1.0), W)
    return one, made._replace(method=method(name, share / made.constants.smoothness))


@pytest.mark.parametrize("name", ["dgd", "atc", "cta"])
def test_expectations_are_those_of_many_runs(name):
    """Four thousand runs side by side, by the update as it is written in papers."""
    one, case = case_of(2, name, 0.2)
    record = noisy.expected(one.problem, case, [0, 12], batch_size=1)
    alone = noisy.expected(one.problem, case, [12], batch_size=1)
    assert alone.equals(record.isel(round=[1]))
    W, eta, reps = case.given.matrix, case.step_size, 4000
    rng = np.random.default_rng(0)
    owned = [np.flatnonzero(one.owner == i) for i in range(AGENTS)]
    x = np.zeros((reps, AGENTS, one.features.shape[1]))

    def gradient(x):
        drawn = np.stack([rng.choice(own, reps) for own in owned], axis=1)
        off = np.einsum("raf,raf->ra", one.features[drawn], x) - one.targets[drawn, 0]
        return off[..., None] * one.features[drawn]

    for _ in range(12):
        if name == "atc":
            x = W @ (x - eta * gradient(x))
        else:
            mixed = W @ x
            x = mixed - eta * gradient(mixed if name == "cta" else x)
    mean = x.mean(axis=1)
    weights = np.array([1 / (AGENTS * len(owned[i])) for i in one.owner])
    root = np.sqrt(weights)
    at = lambda x: 0.5 * np.sum((root * (x @ one.features.T - one.targets[:, 0])) ** 2, axis=-1)
    best = np.linalg.lstsq(root[:, None] * one.features, root * one.targets[:, 0], rcond=None)[0]
    slope = lambda x: ((x @ one.features.T - one.targets[:, 0]) * weights) @ one.features
    samples = {
        "excess": at(mean) - at(best),
        "squared_gradient": np.sum(slope(mean) ** 2, axis=-1),
        "disagreement": np.sum((x - mean[:, None]) ** 2, axis=(1, 2)),
    }
    for measured, seen in samples.items():
        before, known = record[measured].values
        error = seen.std() / np.sqrt(reps)
        assert abs(seen.mean() - known) < 4 * error < 0.2 * abs(known - before), measured


def test_no_bound_on_expectations_is_violated():
    """Thirty problems, steps inside and outside the ranges, batches of one and two points."""
    tally = {}
    for seed in range(30):
        name = ("dgd", "atc", "cta")[seed % 3]
        one, case = case_of(seed, name, (0.2, 0.03, 0.004, 0.0008)[seed % 4])
        batch = 1 + seed % 2
        record = noisy.expected(one.problem, case, ROUNDS, batch_size=batch)
        verdicts = [bound.check(record) for bound in noisy.bounds_of(case, batch)]
        bounds.demand(verdicts)
        for verdict in verdicts:
            key = verdict.bound.name, verdict.state
            tally[key] = min(tally.get(key, np.inf), verdict.tightness)
    states = {"holds", "assumption not met"}
    assert {state for _, state in tally} == states and len(tally) == 6, tally
    assert all(1 <= each < 40 for (_, state), each in tally.items() if state == "holds"), tally


@pytest.mark.parametrize("name", ["dgd", "atc", "cta"])
def test_what_remains_at_rest_is_within_the_floors(name):
    """Rounds without end, at the largest steps of the ranges: noise and heterogeneity alone."""
    one, case = case_of(2, name, 1.0)
    for number, quantity in enumerate(("squared_gradient", "excess", "excess")):
        inside = case
        while (bound := noisy.bounds_of(inside, 1)[number]).missing:
            inside = at(case, inside.step_size / 1.1)
        known = noisy.expected(one.problem, inside, None, batch_size=1)[quantity].item()
        floor = bound.at(np.array([1e15])).item()
        assert 1e-12 < known <= floor < 1e4 * known, (number, known, floor)


def at(case, step):
    return case._replace(method=case.method.with_step_size(step))


def test_noise_at_the_minimiser_is_that_of_every_single_batch():
    """sigma^2 over all pairs of an agent's points, from explicit gradients."""
    one, case = case_of(8, "dgd", 0.1)
    constants = case.constants
    root = np.sqrt(constants.share)
    best = np.linalg.lstsq(root[:, None] * one.features, root * one.targets[:, 0], rcond=None)[0]
    gradients = (one.features @ best - one.targets[:, 0])[:, None] * one.features
    total = 0.0
    for agent in range(AGENTS):
        own = gradients[one.owner == agent]
        pairs = [(own[a] + own[b]) / 2 for a in range(len(own)) for b in range(a)]
        total += np.mean(np.sum((np.array(pairs) - own.mean(axis=0)) ** 2, axis=1)) / AGENTS
    assert np.isclose(constants.batch_variance(2), total, rtol=1e-9) and total > 1e-3
    assert np.isclose(constants.point_smoothness, np.sum(one.features**2, axis=1).max())
    assert constants.batch_variance(4) < 1e-12


def test_growth_of_the_noise_is_that_of_every_single_batch():
    """M over all pairs of an agent's points, from explicit Hessians; a full batch has none."""
    one, case = case_of(8, "dgd", 0.1)
    noise = np.zeros((one.features.shape[1],) * 2)
    mean = np.zeros_like(noise)
    for agent in range(AGENTS):
        own = one.features[one.owner == agent]
        whole = own.T @ own / len(own)
        pairs = [(a, b) for a in range(len(own)) for b in range(a)]
        off = [own[list(pair)].T @ own[list(pair)] / 2 - whole for pair in pairs]
        noise += np.mean([each.T @ each for each in off], axis=0) / AGENTS
        mean += whole / AGENTS
    back = np.linalg.pinv(mean, hermitian=True)
    known = np.linalg.eigvalsh(back @ noise @ back).max()
    assert np.isclose(case.constants.batch_growth(2), known, rtol=1e-9) and known > 0.1
    assert case.constants.batch_growth(4) < 1e-12 * known


def test_a_full_batch_has_no_noise_in_many_dimensions():
    """More than are decomposed whole."""
    features = np.random.default_rng(0).standard_normal((120, 100))
    problem = nd.KernelProblem(features @ features.T, features[:, :1], np.arange(120) % 4)
    case = theorems.case(problem, method("dgd", 1e-3), graphs.metropolis(graphs.ring(4)))
    assert case.constants.batch_growth(30) == 0 < case.constants.batch_growth(29)


def test_what_training_cannot_reach_is_in_no_expectation():
    """A direction of negligible curvature: the start is as far from the minimum as told."""
    features = np.array([[1.0, 0], [1, 0], [0, 7e-6], [1, 7e-6]])
    targets = np.array([[0.1], [0.1], [1.0], [0.1]])
    problem = nd.KernelProblem(features @ features.T, targets, [0, 0, 1, 1])
    W = graphs.metropolis(graphs.complete(2))
    case = theorems.case(problem, method("dgd", 0.01), W)
    told = []
    record = noisy.expected(
        problem, case, [0, 1, 10, 100], batch_size=1, progress=lambda *done: told.append(done)
    )
    assert told == [(0, 100), (1, 100), (10, 100), (100, 100)]
    assert np.isclose(record["excess"][0], case.constants.start_excess, rtol=1e-9)
    bounds.demand(bound.check(record) for bound in noisy.bounds_of(case, 1))


def test_weights_that_do_not_contract_and_batches_of_nothing():
    one, case = case_of(0, "dgd", 0.01)
    turned = graphs.mixing(np.roll(np.eye(AGENTS), 1, axis=0), agents=AGENTS)
    found = noisy.bounds_of(case._replace(weights=turned, given=turned), 1)
    assert all("beta < 1" in [each.name for each in bound.missing] for bound in found)
    with pytest.raises(nd.InputError, match="batch_size: must be a whole number from 1 on, got 0"):
        noisy.bounds_of(case, 0)


def test_methods_without_such_a_bound_and_other_batches():
    one, case = case_of(0, "extra", 0.1)
    assert noisy.bounds_of(case, 1) == []
    one, case = case_of(0, "dgd", 0.0008)
    record = noisy.expected(one.problem, case, [0, 5], batch_size=2)
    assert {b.check(record).state for b in noisy.bounds_of(case, 1)} == {"assumption not met"}


def test_means_over_rounds_take_all_of_them():
    """Whichever are recorded."""
    one, case = case_of(0, "dgd", 0.2)
    every = noisy.expected(one.problem, case, range(13), batch_size=1)
    some = noisy.expected(one.problem, case, [0, 5, 12], batch_size=1)
    for name in ("excess", "squared_gradient"):
        means = np.cumsum(every[name].values)[:-1] / np.arange(1, 13)
        assert np.allclose(some[f"mean_{name}"], [0, means[4], means[11]], rtol=1e-12)
    for bound in noisy.bounds_of(case, 1):
        seen = bound.check(every).seen[[0, 5, 12]]
        assert np.allclose(bound.check(some).seen, seen, rtol=1e-12)
