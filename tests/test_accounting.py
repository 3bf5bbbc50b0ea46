"""Error accounting, rates and precision: what each source costs, held against its own truth."""

import jax
import numpy as np
import pytest
import scipy.special
from cases import method, small_data

import ntkdyn as nd
from ntkdyn.data import Partition
from ntkdyn.validation import accounting, convergence

W = nd.graphs.metropolis(nd.graphs.ring(4))
OWNER = np.arange(14) % 4


def problem_of(width=24, seed=1):
    network = nd.networks.mlp((width,), outputs=2, activation="erf", w_std=1.5, b_std=0.3)
    return nd.Problem(network, Partition(small_data(), OWNER, 4, "given"), seed=seed)


@pytest.fixture(scope="module")
def problem():
    return problem_of()


def by_hand(problem, step, rounds):
    """DGD on the network with one hidden layer, in numpy's float64: its outputs at all points."""
    leaves = [np.float64(leaf) for leaf in jax.tree.leaves(problem.start)]
    shapes = ((3, 24), (24,), (24, 2), (2,))
    start = [next(a.reshape(s) for a in leaves if a.size == np.prod(s)) for s in shapes]
    x, y = np.float64(problem.inputs), problem.task.targets
    agents = [start for _ in range(4)]

    def forward(p, x):
        h = 1.5 / np.sqrt(x.shape[1]) * x @ p[0] + 0.3 * p[1]
        a = scipy.special.erf(h)
        return h, a, 1.5 / np.sqrt(a.shape[1]) * a @ p[2] + 0.3 * p[3]

    def gradient(p, i):
        rows = np.flatnonzero(i == OWNER)
        h, a, f = forward(p, x[rows])
        g = (f - y[rows]) / len(rows)
        back = (1.5 / np.sqrt(a.shape[1]) * g @ p[2].T) * 2 / np.sqrt(np.pi) * np.exp(-(h**2))
        first = 1.5 / np.sqrt(x.shape[1]) * x[rows].T @ back
        second = 1.5 / np.sqrt(a.shape[1]) * a.T @ g
        return [first, 0.3 * back.sum(0), second, 0.3 * g.sum(0)]

    for _ in range(rounds):
        grads = [gradient(p, i) for i, p in enumerate(agents)]
        agents = [
            [
                sum(W.matrix[i, j] * agents[j][k] for j in range(4)) - step * grads[i][k]
                for k in range(4)
            ]
            for i in range(4)
        ]
    return np.stack([forward(p, x)[2] for p in agents])


@pytest.mark.slow
def test_precisions_are_as_near_to_numpy_as_their_bits(problem):
    truth = by_hand(problem, 0.15, 60)
    moved = np.linalg.norm(truth - by_hand(problem, 0.15, 0))
    errors = {}
    for name in ("float32", "float64", "bfloat16"):
        record = nd.train(problem, method("dgd", 0.15), W, [60], precision=name)
        assert record.attrs["precision"] == name
        errors[name] = np.linalg.norm(record["outputs"].values[0] - truth) / moved
    assert errors["float64"] < 1e-13
    assert 1e-9 < errors["float32"] < 1e-5
    assert 1e-4 < errors["bfloat16"] < 0.05
    with pytest.raises(nd.InputError, match="no precision is called 'float16'; did you mean"):
        nd.train(problem, method("dgd", 0.15), W, 2, precision="float16")


@pytest.fixture(scope="module")
def accounts(problem):
    return accounting.account(
        problem,
        method("dgd", nd.of_limit(0.3)),
        W,
        40,
        save=nd.SaveOptions(record_every=4),
        batch_size=2,
        batch_seed=7,
    )


@pytest.mark.slow
def test_every_source_is_the_difference_of_two_runs(problem, accounts):
    whole = [*accounting.SOURCES, "gap"]
    assert set(accounts.data_vars) == {*whole, *(f"deviation_{name}" for name in whole)}
    step, batches = accounts.attrs["step_size"], {"batch_size": 2, "batch_seed": 7}
    run = lambda make, **more: make(
        problem, method("dgd", step), W, 40, save=nd.SaveOptions(record_every=4), **more
    )
    outputs = lambda record: record["outputs"].values.astype(np.float64)
    observed = run(nd.train, **batches)
    travelled = outputs(observed) - observed["initial_outputs"].values
    pairs = {
        "arithmetic": (outputs(observed), outputs(run(nd.train, precision="float64", **batches))),
        "minibatch_noise": (outputs(run(nd.predict, **batches)), outputs(run(nd.predict))),
        "discretization": (outputs(run(nd.predict)), outputs(run(nd.dynamics.flow))),
        "gap": (outputs(observed), outputs(run(nd.dynamics.flow, kernel="infinite"))),
    }
    norm = lambda a: np.linalg.norm(a, axis=(2, 3))
    own = lambda a: a - a.mean(axis=1, keepdims=True)
    for name, (one, other) in pairs.items():
        wanted = norm(one - other)[1:] / norm(travelled)[1:]
        np.testing.assert_allclose(accounts[name][1:], wanted, rtol=1e-5, err_msg=name)
        assert (wanted > 0).all() and (accounts[name][0] == 0).all()
        wanted = norm(own(one - other))[1:] / norm(own(outputs(observed)))[1:]
        found = accounts[f"deviation_{name}"]
        np.testing.assert_allclose(found[1:], wanted, rtol=1e-5, err_msg=name)
        assert found[0].isnull().all(), "agents do not differ at the start"
    total = sum(accounts[name] for name in accounting.SOURCES)
    assert (total >= accounts["gap"] - 1e-12).all()
    total = sum(accounts[f"deviation_{name}"][1:] for name in accounting.SOURCES)
    assert (total >= accounts["deviation_gap"][1:] - 1e-12).all()
    assert (accounts["arithmetic"][1:] < 1e-4).all()
    assert (accounts["minibatch_noise"][1:] > 1e-2).any()


@pytest.mark.slow
def test_sources_that_a_run_lacks_are_left_out(problem):
    found = accounting.account(problem, method("diging", 0.02), W, 6, precision="float64")
    left = ["linearization", "finite_width", "gap"]
    assert set(found.data_vars) == {*left, *(f"deviation_{name}" for name in left)}


def test_the_rate_of_a_noisy_geometric_curve_is_within_its_interval():
    rounds = np.arange(0, 400, 4.0)
    hits = 0
    for seed in range(200):
        noise, errors = np.random.default_rng(seed).standard_normal(100), [0.0]
        for each in noise:
            errors.append(0.6 * errors[-1] + 0.1 * each)
        losses = 3 * 0.99**rounds * np.exp(errors[1:])
        value, low, high = convergence.rate(rounds, losses)
        assert abs(value - 0.99) < 1e-3
        hits += low < 0.99 < high
    assert 175 <= hits < 200
    exact = convergence.rate(rounds, 3 * 0.99**rounds)
    assert np.allclose(exact, 0.99, rtol=1e-10)
    with pytest.raises(nd.InputError, match="at least 5 recorded rounds, got 4"):
        convergence.rate(rounds[:4], rounds[:4] + 1)
    with pytest.raises(nd.InputError, match="positive and finite"):
        convergence.rate(rounds, rounds)


@pytest.mark.slow
def test_comparisons_hold_the_rate_of_every_agent():
    wide = problem_of(width=512)
    runs = [run(wide, method("dgd", nd.of_limit(0.5)), W, 60) for run in (nd.predict, nd.train)]
    found = nd.compare(*runs)
    for side, record in zip(("predicted", "observed"), runs, strict=True):
        losses = record["train_loss"].isel(agent=2, round=slice(30, None))
        slope = np.polyfit(losses["round"], np.log(losses), 1)[0]
        assert np.isclose(found[f"{side}_rate"][2], np.exp(slope), rtol=1e-9)
        assert (found[f"{side}_rate_low"] <= found[f"{side}_rate"]).all()
    apart = np.abs(np.log(found["observed_rate"]) / np.log(found["predicted_rate"]) - 1)
    assert (found["predicted_rate"] < 1).all() and (apart < 0.1).all()
    short = [run(wide, method("dgd", 0.1), W, [0, 60]) for run in (nd.predict, nd.train)]
    assert "observed_rate" not in nd.compare(*short)
