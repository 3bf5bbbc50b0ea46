"""Reality: real networks approach the prediction as they widen, and comparisons say how near."""

import functools

import jax
import numpy as np
import pytest
import xarray as xr
from cases import MIXINGS, method, small_data

import ntkdyn as nd
from ntkdyn import saving
from ntkdyn.data import Partition
from ntkdyn.validation.widths import fitted, slope, width_sweep

RING = MIXINGS["ring"]


@functools.cache
def network_of(width, activation):
    """One for all starts, so that its programs are compiled once."""
    return nd.networks.mlp((width, width), outputs=2, activation=activation, w_std=1.5, b_std=0.3)


def problem_of(width, seed, activation="erf", loss="mse"):
    owner = np.arange(14) % 4
    network = network_of(width, activation)
    return nd.Problem(network, Partition(small_data(), owner, 4, "given"), loss=loss, seed=seed)


@pytest.mark.slow
def test_the_gap_falls_like_a_root_of_the_width():
    """With the kernel of infinite width the slope is -1/2; with one's own kernel it is steeper."""
    W = nd.graphs.metropolis(nd.graphs.ring(4))
    sweep = width_sweep(
        problem_of, method("dgd", nd.of_limit(0.5)), W, 60, widths=(64, 256, 1024), seeds=range(6)
    )
    assert (sweep["gap_slope"].sel(kernel="infinite") == slope(sweep, "infinite")[:3]).all()
    for name, least in (("kernel_drift", -0.5), ("movement", -1.0)):
        middle, low, high = sweep[f"{name}_slope"].values
        assert low < middle < high < least + 0.25, name
    moved = problem_of(64, 0)
    seen = nd.train(moved, method("dgd", float(sweep["step_size_taken"][0, 0])), W, [60])
    norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(moved.start)))
    np.testing.assert_allclose(sweep["movement"][0, 0], seen["displacement"][-1] / norm, rtol=1e-5)
    infinite, empirical = slope(sweep, "infinite"), slope(sweep, "empirical")
    assert abs(infinite.value + 0.5) < 0.1 and infinite.low < -0.5 < infinite.high
    assert empirical.high < -0.5
    assert 0 < sweep["gap"].sel(kernel="empirical", width=1024).max() < 0.05


def test_slopes_leave_out_what_has_no_logarithm():
    steps = np.array([0.1, 0.2, 0.4, 0.8])
    gap = (3 * steps**1.5)[:, None, None] * np.ones((4, 2, 3))
    gap[3, 1], gap[0, 0] = np.inf, 0
    dims = ("step_size", "seed", "agent")
    record = xr.Dataset({"gap": (dims, gap)}, {"step_size": steps}, {"along": "step_size"})
    value, low, high, intercept = slope(record)
    assert np.allclose([value, low, high], 1.5) and np.isclose(intercept, np.log(3))
    gap[1:] = np.inf
    assert np.isnan(slope(record.assign(gap=(dims, gap)))).all()
    with pytest.raises(nd.InputError, match="slope: needs at least two values of step_size"):
        slope(record.isel(step_size=[0]))


def test_the_interval_of_a_slope_is_that_of_students_t():
    """3.182446 is the 97.5 % quantile with three degrees of freedom, as tables have it."""
    x, off = np.arange(5.0), np.array([0.1, -0.2, 0.15, 0.05, -0.1])
    y = 2 - 0.5 * x + off
    middle = ((x - 2) * y).sum() / 10
    rest = y - y.mean() - middle * (x - 2)
    half = 3.182446 * np.sqrt((rest**2).sum() / 3 / 10)
    found = fitted(x, y)
    assert np.allclose(found[:3], [middle, middle - half, middle + half], rtol=1e-6)
    assert np.isclose(found.intercept, y.mean() - 2 * middle)


PREDICTED = [(name, "mse") for name in ("dgd", "cta", "atc_tracking")]


@pytest.mark.slow
@pytest.mark.parametrize("name, loss", [*PREDICTED, ("dgd", "cross_entropy")])
def test_every_method_is_predicted_on_wide_networks(name, loss):
    W = nd.graphs.uniform(nd.graphs.directed_ring(4))
    problem = problem_of(1024, 0, loss=loss)
    predicted = nd.predict(problem, method(name, nd.of_limit(0.5)), W, 50)
    step = float(predicted.attrs["step_size"])
    observed = nd.train(problem, method(name, step), W, 50)
    comparison = nd.compare(predicted, observed)
    moved = np.abs(observed["outputs"][-1] - observed["outputs"][0]).max()
    assert moved > 0.3
    assert 0 < comparison.attrs["largest_gap"] < 0.05
    assert comparison["gap"].max() == comparison.attrs["largest_gap"]


def test_the_gap_is_the_distance_over_the_distance_travelled(with_parameters):
    predicted, observed = with_parameters
    comparison = nd.compare(predicted, observed)
    for rows, name in (
        (slice(None), "gap"),
        (slice(14), "train_gap"),
        (slice(14, None), "test_gap"),
    ):
        f, g = predicted["outputs"].values[-1, 2, rows], observed["outputs"].values[-1, 2, rows]
        start = observed["initial_outputs"].values[rows]
        wanted = np.linalg.norm(f - g) / np.linalg.norm(g - start)
        assert np.isclose(comparison[name][-1, 2], wanted, rtol=1e-5) and wanted > 0.001
    assert (comparison["gap"][0] == 0).all()
    a, b = (record["parameters"].values[-1, 2] for record in (predicted, observed))
    wanted = np.linalg.norm(a - b) / np.linalg.norm(b - observed["initial_parameters"].values)
    assert np.isclose(comparison["parameter_gap"][-1, 2], wanted, rtol=1e-4) and wanted > 0.001
    a, b = (record["parameters"].values[-1] for record in (predicted, observed))
    own = lambda values: values - values.mean(axis=0)
    wanted = np.linalg.norm(own(a) - own(b), axis=1) / np.linalg.norm(own(b), axis=1)
    np.testing.assert_allclose(comparison["parameter_deviation_gap"][-1], wanted, rtol=1e-4)
    moved = b.mean(axis=0) - observed["initial_parameters"].values
    wanted = np.linalg.norm((a - b).mean(axis=0)) / np.linalg.norm(moved)
    assert np.isclose(comparison["parameter_common_gap"][-1], wanted, rtol=1e-4)
    some = [run.isel(parameter_agent=[0, 2]) for run in (predicted, observed)]
    assert "parameter_deviation_gap" not in nd.compare(*some), "the mean of all is not known"
    loss = predicted["test_loss"] - observed["test_loss"]
    assert (comparison["test_loss_difference"] == loss).all()


@pytest.fixture(scope="module")
def with_parameters():
    """(predicted, observed) with all of their parameters, in two rounds."""
    W, save = nd.graphs.metropolis(nd.graphs.ring(4)), nd.SaveOptions(parameter_rounds=[0, 20])
    problem, by = problem_of(64, 1), method("dgd", 0.15)
    return [run(problem, by, W, [0, 20], save=save) for run in (nd.predict, nd.train)]


def sampled(records, per_tensor, seed):
    """The records with so many entries of each tensor."""
    tensors, rng = records[0]["parameter_tensor"].values, np.random.default_rng(seed)
    places = [np.flatnonzero(tensors == tensor) for tensor in np.unique(tensors)]
    kept = [rng.choice(each, min(per_tensor, len(each)), replace=False) for each in places]
    stands = [len(each) / len(own) for each, own in zip(places, kept, strict=True)]
    weights = np.repeat(stands, [len(own) for own in kept])
    one = [record.isel(parameter=np.concatenate(kept)) for record in records]
    return [record.assign_coords(parameter_weight=("parameter", weights)) for record in one]


@pytest.mark.slow
@pytest.mark.parametrize("per_tensor", [30, 200])
def test_a_sampled_parameter_gap_is_off_by_its_standard_error(with_parameters, per_tensor):
    whole = nd.compare(*with_parameters)
    truth = whole["parameter_gap"].isel(parameter_round=1)
    assert (whole["parameter_gap_error"] == 0).all() and truth.min() > 0.01
    known = [nd.compare(*sampled(with_parameters, per_tensor, seed)) for seed in range(40)]
    seen = xr.concat([each["parameter_gap"][1] for each in known], "draw")
    told = xr.concat([each["parameter_gap_error"][1] for each in known], "draw")
    spread = float(np.sqrt((seen.std("draw", ddof=1) ** 2).mean()))
    assert 0.75 < float(np.sqrt((told**2).mean())) / spread < 1.3
    error = float(told.mean()) / np.sqrt(40)
    assert (np.abs(seen.mean("draw") - truth) < 4 * error).all() and error < 0.05 * truth.min()
    last, agent = known[0], int(seen[0].values.argmax())
    assert last.attrs["final_parameter_gap"] == seen[0, agent]
    assert last.attrs["final_parameter_gap_error"] == told[0, agent]
    assert np.isnan(nd.compare(*sampled(with_parameters, 1, 0))["parameter_gap_error"][1]).all()


def test_parameters_are_kept_whole_where_they_fit(monkeypatch, with_parameters):
    sizes = [leaf.size for leaf in jax.tree.leaves(problem_of(64, 1).start)]
    assert with_parameters[0].sizes["parameter"] == sum(sizes)
    start, numbers = problem_of(64, 1).start, 4 * 2 * sum(sizes)
    save = nd.SaveOptions(parameter_rounds=[0, 20])
    for room, kept in ((8 * numbers, sizes), (8 * numbers - 1, [min(n, 64) for n in sizes])):
        monkeypatch.setattr(saving, "ALL_UP_TO", room)
        found = saving.sample(save, start, 4)
        assert [len(each) for each in found.entries] == kept
        assert np.isclose(found.coordinates()["parameter_weight"][1].sum(), sum(sizes))


def test_parameters_of_agents_that_start_apart(with_parameters):
    W, save = nd.graphs.metropolis(nd.graphs.ring(4)), nd.SaveOptions(parameter_rounds=[0, 3])
    seeds = [1, 2, 1, 4]
    problem = nd.Problem(network_of(8, "erf"), problem_of(8, 0).partition, seed=seeds)
    some = save._replace(parameter_agents=[1, 2], per_tensor=5)
    record, part = (nd.train(problem, method("dgd", 0.1), W, 3, save=k) for k in (save, some))
    for agent, seed in enumerate(seeds):
        leaves = jax.tree.leaves(problem_of(8, seed).start)
        own = np.concatenate([np.ravel(leaf) for leaf in leaves])
        assert (record["initial_parameters"][agent] == own).all()
        assert (record["parameters"][0, agent] == own).all()
    moved = record["parameters"][1] - record["initial_parameters"]
    assert np.allclose(np.linalg.norm(moved, axis=1), record["displacement"][-1], rtol=1e-5)
    assert part["initial_parameters"].shape == (2, part.sizes["parameter"])
    assert set(np.unique(part["initial_parameters"])) <= set(np.unique(record["parameters"][0]))
    assert (part["parameter_weight"].groupby("parameter_tensor").sum() == [
        leaf.size for leaf in jax.tree.leaves(problem_of(8, 0).start)
    ]).all()  # fmt: skip
    other = with_parameters[1].isel(parameter=slice(1, None))
    with pytest.raises(nd.InputError, match="hold other parameters, by their parameter_tensor"):
        nd.compare(with_parameters[0], other)


def test_records_that_cannot_be_compared(small):
    problem, _ = small(8)
    run = lambda step=0.15, rounds=6, **more: nd.predict(
        problem, method("dgd", step), RING, rounds, **more
    )
    one = run()
    for other, message in (
        (run(step=0.2), "differ in step_size: 0.15 and 0.2"),
        (run(rounds=7), "differ in rounds: 7 and 8"),
        (run(rounds=[0, 1, 2, 3, 4, 5, 8]), "made in different rounds"),
        (run(save=nd.SaveOptions(outputs=False)), "observed record holds no outputs"),
        (one.assign(targets=one["targets"] + 1), "different targets"),
        (one.isel(point=slice(5)), "differ in points"),
        (one.assign_coords(owner=one["owner"][::-1]), "belong to other agents"),
        (
            one.assign(initial_outputs=-one["initial_outputs"]),
            "start differ by 200 % of their size",
        ),
        (one.assign_attrs(batch_seed=3), "differ in batch_seed: -1 and 3"),
    ):
        with pytest.raises(nd.InputError, match=message):
            nd.compare(one, other)
    with pytest.raises(nd.InputError, match="first record was trained and the second predicted"):
        nd.compare(one.assign_attrs(space="network"), one)


@pytest.mark.parametrize("side", ["predicted", "observed"])
def test_what_diverges_is_said_to_and_its_gap_is_infinite(small, side):
    problem, _ = small(8)
    run = nd.predict(problem, method("dgd", 0.15), RING, 6)
    over = run.copy(deep=True)
    over["outputs"][{"round": slice(4, None), "agent": 2}] = np.nan
    over["train_loss"][{"round": slice(4, None), "agent": 2}] = np.nan
    sides = {"predicted": run, "observed": run} | {side: over}
    comparison = nd.compare(**sides)
    assert comparison.attrs["diverged_round"] == 4
    assert comparison.attrs["largest_gap"] == comparison.attrs["final_gap"] == np.inf
    gap = comparison["gap"].values
    assert np.isinf(gap[4:, 2]).all() and (np.delete(gap, 2, axis=1) == 0).all()
    assert "observed_rate" not in comparison
    task, answers = problem.task, run["outputs"].values[-1].copy()
    answers[2] = np.nan
    accuracy = nd.measures.measure(task, answers)["train_accuracy"]
    assert np.isnan(accuracy[2]) and np.isfinite(np.delete(accuracy, 2)).all()
