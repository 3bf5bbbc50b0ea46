"""Gaps that can fail: what agents differ in, and predictions of what was not run."""

import numpy as np
import pytest
from cases import method, small_data
from ntkdyn.figures import overlay

import ntkdyn as nd
from ntkdyn.data import Partition
from ntkdyn.validation import gaps, verdicts
from ntkdyn.validation.nulls import STEP as STEP_SIZE

AGENTS, POINTS, TESTS, OUTPUTS, STEP, ROUNDS = 5, 15, 6, 2, 0.2, [0, 3, 12, 30]
OWNER = np.arange(POINTS) % AGENTS
DIRECTED = np.eye(AGENTS) * 0.6 + np.roll(np.eye(AGENTS), 1, axis=1) * 0.4
SYMMETRIC = nd.graphs.metropolis(nd.graphs.path(AGENTS)).matrix


@pytest.fixture(scope="module")
def arrays():
    """K between all points and those of training, targets, outputs at the start."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((POINTS + TESTS, 40)) / np.sqrt(40)
    shape = (POINTS + TESTS, OUTPUTS)
    return features @ features[:POINTS].T, rng.standard_normal(shape), rng.standard_normal(shape)


@pytest.fixture(scope="module")
def problem(arrays):
    K, y, f0 = arrays
    train, test = slice(POINTS), slice(POINTS, None)
    return nd.KernelProblem(
        K[train], y[train], OWNER, f0[train], K_test=K[test], y_test=y[test], f0_test=f0[test]
    )


def by_hand(arrays, W, step=STEP, atc=False):
    """DGD, or ATC, agent by agent: outputs (round, agent, point, output)."""
    K, y, f0 = arrays
    c, seen = np.zeros((AGENTS, POINTS, OUTPUTS)), []
    for t in range(ROUNDS[-1] + 1):
        f = np.stack([f0 + K @ each for each in c])
        if t in ROUNDS:
            seen.append(f)
        g = np.zeros_like(c)
        for i in range(AGENTS):
            rows = i == OWNER
            g[i, rows] = (f[i, :POINTS] - y[:POINTS])[rows] / rows.sum()
        c = np.einsum("ij,jno->ino", W, c - step * g if atc else c) - (0 if atc else step * g)
    return np.array(seen)


def deviation_gaps(predicted, observed):
    """Of every agent in every round after the start, and of all together; agent by agent."""
    own = lambda f: f - f.mean(axis=1, keepdims=True)
    apart, size = own(predicted) - own(observed), own(observed)
    each = [
        [np.linalg.norm(a) / np.linalg.norm(d) for a, d in zip(*row, strict=True)]
        for row in zip(apart[1:], size[1:], strict=True)
    ]
    whole = [
        np.linalg.norm(a) / np.linalg.norm(d) for a, d in zip(apart[1:], size[1:], strict=True)
    ]
    return np.array(each), np.array(whole)


def run(problem, W, by="dgd", **more):
    return nd.predict(problem, method(by, more.pop("step", STEP)), W, ROUNDS, **more)


def shifted(record, seed=0, size=0.05):
    """The record as if observed: with other outputs."""
    noise = np.random.default_rng(seed).standard_normal(record["outputs"].shape)
    noise[0] = 0
    return record.assign(outputs=record["outputs"] + size * noise)


def test_gaps_are_those_of_the_mean_agent_and_of_what_agents_differ_in(arrays, problem):
    predicted = run(problem, DIRECTED)
    observed = shifted(predicted)
    found = nd.compare(predicted, observed)
    f, g, start = predicted["outputs"].values, observed["outputs"].values, arrays[2]
    np.testing.assert_allclose(f, by_hand(arrays, DIRECTED), atol=1e-12)
    each, whole = deviation_gaps(f, g)
    np.testing.assert_allclose(found["deviation_gap"][1:], each, rtol=1e-10)
    np.testing.assert_allclose(found["deviation_gap_of_all"][1:], whole, rtol=1e-10)
    assert found["deviation_gap"][0].isnull().all() and (found["gap"][0] == 0).all()
    for t in (1, 3):
        travelled = np.linalg.norm(g[t].mean(axis=0) - start)
        common = np.linalg.norm((f[t] - g[t]).mean(axis=0)) / travelled
        assert np.isclose(found["common_gap"][t], common, rtol=1e-10) and common > 0.001
        end, own = g[-1, 2] - g[-1].mean(axis=0), g[t, 2] - g[t].mean(axis=0)
        far = np.linalg.norm(g[-1, 2] - start)
        wanted = (own * end).sum() / np.linalg.norm(end) / far
        assert np.isclose(found["observed_deviation"][t, 2], wanted, rtol=1e-10)
    assert np.isclose(found["observed_deviation"][-1, 2], found["deviation_share"][-1, 2])
    attrs, last = found.attrs, each[-1]
    assert attrs["deviation_gap"] == pytest.approx(whole[-1]) and attrs["deviation_gap_round"] == 30
    assert attrs["largest_deviation_gap"] == pytest.approx(last.max())
    assert attrs["largest_deviation_gap_agent"] == last.argmax() and attrs["agents_differ"] == 1


@pytest.mark.parametrize("W", [DIRECTED, SYMMETRIC])
def test_nulls_are_predictions_of_what_was_not_run(arrays, problem, W):
    observed = shifted(run(problem, W), size=0.0005)
    found = nd.validation.nulls(problem, method("dgd", STEP), W, observed)
    order = np.random.default_rng(0).permutation(AGENTS)
    truths = {
        "complete graph": by_hand(arrays, np.full((AGENTS, AGENTS), 1 / AGENTS)),
        "agents permuted": by_hand(arrays, W[np.ix_(order, order)]),
        "links reversed": by_hand(arrays, W.T),
        "atc in its place": by_hand(arrays, W, atc=True),
        "step size 10 % smaller": by_hand(arrays, W, 0.9 * STEP),
        "step size 10 % larger": by_hand(arrays, W, 1.1 * STEP),
    }
    if W is SYMMETRIC:
        del truths["links reversed"]
        assert found.attrs["left_out"] == "links reversed: changes no weight"
    predicted = run(problem, W)
    told = nd.compare(predicted, observed, found)
    right = predicted["outputs"].values
    truths["another agent's curve"] = np.roll(right, -1, axis=1)
    truths["nothing moves"] = np.broadcast_to(arrays[2], right.shape)
    assert set(told["explanation"].values) == set(truths)
    ours = told.attrs["deviation_gap"]
    for name, outputs in truths.items():
        null = told.sel(explanation=name)
        each, whole = deviation_gaps(outputs, observed["outputs"].values)
        np.testing.assert_allclose(null["null_deviation_gap"][1:], each, rtol=1e-8, err_msg=name)
        assert np.isclose(null["skill"], 1 - ours / whole[-1], rtol=1e-6)
        by_step = name.startswith("step")
        assert (ours < 0.02) and whole[-1] > (0.03 if by_step else 0.15), (name, whole[-1])
    assert told["null_deviation_gap_of_all"].sel(explanation="nothing moves")[-1] == 1
    assert told.attrs["skill"] == told["skill"].min()
    assert told.attrs["verdict"].startswith("observed follows the prediction: deviation gap ")


def test_a_wrong_prediction_shows_in_what_agents_differ_in(problem):
    """Where the gap of all that moved hardly does: the headline of before."""
    observed = run(problem, DIRECTED)
    order = np.random.default_rng(0).permutation(AGENTS)
    for W in (DIRECTED.T, DIRECTED[np.ix_(order, order)]):
        wrong = nd.compare(run(problem, W), observed)
        assert wrong.attrs["deviation_gap"] > 3 * wrong["gap"][-1].max() > 0
        assert wrong.attrs["deviation_gap"] > 0.3 and wrong.attrs["final_common_gap"] < 0.1


def spread(record, factors):
    """The record with agents so many times as far from their mean, by round and agent."""
    f = record["outputs"].values
    mean = f.mean(axis=1, keepdims=True)
    own = np.broadcast_to(factors, f.shape[:2])[..., None, None] * (f - mean)
    return record.assign(outputs=(record["outputs"].dims, mean + own))


def test_agents_that_hardly_differ_are_said_to(problem):
    predicted = run(problem, DIRECTED)
    alike = nd.compare(spread(predicted, 1.1e-4), spread(predicted, 1e-4))
    assert alike["deviation_gap"].isnull().all() and alike["deviation_gap_of_all"].isnull().all()
    assert alike.attrs["agents_differ"] == 0 and "deviation_gap" not in alike.attrs
    assert alike.attrs["verdict"].startswith("cannot tell: agents differ by less than 0.1 % of the")
    ending = np.array([1, 1, 1, 0.0])[:, None]
    attrs = nd.compare(spread(predicted, 1.1 * ending), spread(predicted, ending)).attrs
    assert attrs["deviation_gap_round"] == 12 and attrs["agents_differ"] == 0
    assert attrs["deviation_gap"] == pytest.approx(0.1)


def test_an_agent_next_to_the_mean_does_not_decide(problem):
    """Its own gap may be whatever it is: that of two vectors that are next to nothing."""
    there, sides = run(problem, DIRECTED), []
    for far in (-0.05, 0.05):
        f = there["outputs"].values.copy()
        own = f[:, 0] - f.mean(axis=1)
        f[:, 0] -= (1 - far) * own
        f[:, 1] += (1 - far) * own
        sides.append(there.assign(outputs=(there["outputs"].dims, f)))
    attrs = nd.compare(*sides).attrs
    assert attrs["largest_deviation_gap"] > 1.9 and attrs["largest_deviation_gap_agent"] == 0
    assert attrs["deviation_gap"] < 0.1


def test_one_agent_has_no_deviation():
    problem = nd.KernelProblem(np.eye(3), np.ones(3), [0, 0, 0])
    run = nd.predict(problem, method("dgd", 0.3), np.eye(1), 4)
    found = nd.validation.nulls(problem, method("dgd", 0.3), np.eye(1), run)
    assert found["explanation"].values.tolist() == [
        "step size 10 % smaller", "step size 10 % larger"
    ]  # fmt: skip
    told = nd.compare(run, run, found)
    assert told["deviation_gap"].isnull().all() and told.attrs["agents_differ"] == 0
    assert found.attrs["left_out"].count("there is one agent") == 4


@pytest.mark.slow
def test_the_verdict_names_what_it_cannot_tell(problem):
    predicted = run(problem, DIRECTED)
    complete = np.full((AGENTS, AGENTS), 1 / AGENTS)
    told = {}
    for name, seen in (
        ("right", shifted(predicted, size=1e-4)),
        ("complete", run(problem, complete)),
        ("larger", run(problem, DIRECTED, step=1.1 * STEP)),
    ):
        seen = seen.assign_attrs({k: predicted.attrs[k] for k in ("step_size", "weights")})
        found = nd.validation.nulls(problem, method("dgd", STEP), DIRECTED, seen)
        told[name] = nd.compare(predicted, seen, found).attrs
    assert told["right"]["verdict"].startswith("observed follows the prediction: deviation gap 0.")
    assert "the nearest of 8 wrong explanations" in told["right"]["verdict"]
    assert told["right"]["skill"] > 0.9 and told["right"]["nearest_null"].startswith("step size")
    said = told["complete"]["verdict"]
    assert said.startswith("cannot tell the prediction from complete graph: deviation gaps ")
    assert told["complete"]["skill"] == pytest.approx(-1)
    said = told["larger"]["verdict"]
    assert said.startswith("observed follows") and "; not told from it: " in said
    assert "(step size 10 % larger)" in said.split("; ")[1]
    over = predicted.copy(deep=True)
    over["outputs"][2:, 1] = np.nan
    gone = nd.compare(predicted, over)
    assert (
        gone.attrs["verdict"] == verdicts.DIVERGED == nd.compare(over, predicted).attrs["verdict"]
    )
    assert np.isinf(gone["deviation_gap"][2:]).all()


COMPLETE = np.full((AGENTS, AGENTS), 1 / AGENTS)
PATH = nd.graphs.push(nd.graphs.path(AGENTS))


@pytest.mark.parametrize(
    "by, W, reasons",
    [
        ("dgd", COMPLETE, ["complete graph: changes no weight", "permuted: changes no weight"]),
        ("push_sum", PATH, ["links reversed: mixing", "another method: dgd: needs a row-stoch"]),
    ],
)
def test_what_does_not_apply_is_left_out_with_the_reason(problem, by, W, reasons):
    observed = run(problem, W, by)
    found = nd.validation.nulls(problem, method(by, STEP), W, observed)
    assert all(each in found.attrs["left_out"] for each in reasons), found.attrs["left_out"]
    assert found.sizes["explanation"] and np.isfinite(found["null_gap"]).all()


@pytest.mark.slow
def test_without_a_kernel_all_are_left_out_and_a_bare_one_is_always_there(problem, small):
    net, _ = small(AGENTS)
    asked = nd.System(net, method("dgd", STEP), DIRECTED, "implicit")
    found = nd.validation.nulls(asked, run(net, DIRECTED))
    assert not found.sizes["explanation"]
    assert "step size 10 % larger: would take as long" in found.attrs["left_out"]
    one, other = (
        nd.validation.nulls(problem, method("dgd", STEP), DIRECTED, run(problem, DIRECTED), **more)
        for more in ({}, {"kernel": "implicit"})
    )
    assert one.sizes["explanation"] and one.equals(other)


@pytest.mark.slow
def test_other_methods_take_the_step_that_a_momentum_amounts_to(problem):
    drawn = {"batch_size": 2, "batch_seed": 5}
    for by, step, other, its in (("heavy_ball", 0.02, "dgd", 0.2), ("dgd", 0.2, "atc", 0.2)):
        observed = run(problem, DIRECTED, by, step=step, **drawn)
        found = nd.validation.nulls(problem, method(by, step), DIRECTED, observed)
        instead = run(problem, DIRECTED, other, step=its, **drawn)["outputs"]
        wanted = gaps.of_outputs(instead, observed["outputs"], observed)["deviation_gap"]
        seen = found["null_deviation_gap"].sel(explanation=f"{other} in its place")
        np.testing.assert_allclose(seen[1:], wanted[1:], rtol=1e-10)
        assert (seen[1:] > 0).all()


def test_nulls_of_another_run_are_refused(problem, types_unchecked):
    observed = run(problem, DIRECTED)
    found = nd.validation.nulls(problem, method("dgd", STEP), DIRECTED, observed)
    with pytest.raises(nd.InputError, match="compare: the nulls are of another run"):
        nd.compare(observed, observed, found.isel(round=slice(2)))
    with pytest.raises(nd.InputError, match="compare: nulls: must be a Dataset, as `validation."):
        nd.compare(observed, observed, [found])


@pytest.mark.slow
def test_a_wide_network_is_told_from_what_was_not_run():
    """Trained: the one thing that records alone cannot show."""
    network = nd.networks.mlp((512,), outputs=2, activation="erf", w_std=1.5, b_std=0.3)
    data = Partition(small_data(), np.arange(14) % 4, 4, "given")
    problem, W = nd.Problem(network, data, seed=1), nd.graphs.metropolis(nd.graphs.path(4))
    predicted, observed = (
        f(problem, method("dgd", 0.15), W, [0, 20]) for f in (nd.predict, nd.train)
    )
    found = nd.validation.nulls(problem, method("dgd", 0.15), W, observed)
    told = nd.compare(predicted, observed, found)
    wrong = told["null_kind"].values != STEP_SIZE
    assert (told["skill"].values[wrong] > verdicts.CLEAR).all()
    assert told.attrs["verdict"].startswith("observed follows the prediction")
    anew = {"anchors": [0, 10]}
    found = nd.validation.nulls(problem, method("dgd", 0.15), W, observed, **anew)
    instead = nd.predict(problem, method("atc", 0.15), W, [0, 20], **anew)["outputs"]
    wanted = gaps.of_outputs(instead, observed["outputs"], observed)["gap"][1]
    seen = found["null_gap"].sel(explanation="atc in its place")[1]
    np.testing.assert_allclose(
        seen, wanted, rtol=0.02
    )  # from the prediction's anchors, not its own
    plain = told["null_gap"].sel(explanation="atc in its place")[1]
    assert (abs(plain - wanted) > 0.01 * wanted).all(), "linearized anew as the prediction is"
    seen = found["null_gap"].sel(explanation="linear around the start")
    np.testing.assert_allclose(seen, told["gap"], rtol=1e-8)
    anchored = nd.predict(problem, method("dgd", 0.15), W, [0, 20], **anew)
    beside = nd.compare(anchored, observed, found)
    attrs, coarser = beside.attrs, told.attrs["deviation_gap"]
    assert attrs["deviation_gap"] < 0.7 * coarser
    assert attrs["nearest_null"] != "linear around the start", "it is no wrong explanation"
    assert attrs["verdict"].endswith(f"; linear around the start {verdicts.percent(coarser)}")
    drawn = overlay.draw(anchored, observed, beside)
    assert any("dotted: linear around the start" in axes.get_title("left") for axes in drawn.axes)
