"""What is measured on some of the points, and of many points in blocks."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import ntkdyn as nd
from ntkdyn import engine, precision, runs
from ntkdyn.errors import InputError

OWNER = np.array([0, 1, 0, 2, 1, 0, 2, 0, 0, 1, 0, 0])
RING = nd.graphs.metropolis(nd.graphs.ring(3))
METHOD = nd.methods.dgd(step_size=0.1)
EVERY = ("train_loss", "global_loss", "test_loss", "train_accuracy", "test_accuracy")


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 19)
    inputs = rng.standard_normal((19, 4))
    data = nd.data.Dataset("noise", inputs[:12], labels[:12], inputs[12:], labels[12:], 3, "none")
    share = nd.data.Partition(data, OWNER, 3, "listed")
    return nd.Problem(nd.networks.mlp((5,), outputs=3), share, loss="cross_entropy")


@pytest.mark.parametrize("run", [nd.train, nd.predict])
def test_fewer_points_are_measured_as_among_all(problem, run):
    asked = (problem, METHOD, RING, [0, 3])
    whole, few = run(*asked), run(*asked, save=nd.SaveOptions(points=0.5))
    rows, task = few["row"].values, problem.task
    assert (few["split"] == "train").sum() == 6 and (few["split"] == "test").sum() == 4
    for name in ("outputs", "initial_outputs", "targets", "owner", "label", "split"):
        wanted = whole[name].isel(point=rows).values
        if wanted.dtype.kind == "f":
            assert np.allclose(few[name].values, wanted, rtol=0, atol=1e-6), name
        else:
            assert (few[name].values == wanted).all(), name
    seen = whole["outputs"].values[-1]
    losses = np.asarray(task.loss.value(jnp.asarray(seen), jnp.asarray(task.targets)[None]))
    right = seen.argmax(-1) == task.labels
    for agent in range(3):
        own = [row for row in rows if row < 12 and OWNER[row] == agent]
        test = [row for row in rows if row >= 12]
        at = few.isel(round=-1, agent=agent)
        assert float(at["train_loss"]) == pytest.approx(losses[agent, own].mean(), abs=1e-6)
        assert float(at["test_loss"]) == pytest.approx(losses[agent, test].mean(), abs=1e-6)
        assert float(at["train_accuracy"]) == pytest.approx(right[agent, own].mean())
        assert float(at["test_accuracy"]) == pytest.approx(right[agent, test].mean())
    assert (few["points_owned"] == whole["points_owned"]).all()
    assert (few["class_counts"] == whole["class_counts"]).all()
    assert (few["displacement"] == whole["displacement"]).all()


def test_all_points_are_measured_as_without_a_choice(problem):
    asked = (problem, METHOD, RING, [0, 3])
    whole, all_chosen = nd.train(*asked), nd.train(*asked, save=nd.SaveOptions(points=1.0))
    assert (all_chosen["row"].values == np.arange(19)).all()
    for name in EVERY:
        assert (whole[name] == all_chosen[name]).all(), name


def test_points_are_chosen_evenly_and_of_every_agent(problem):
    task = problem.task
    for points, train, test in ((3, 4, 3), (1, 3, 1), (0.25, 4, 2), (100, 12, 7)):
        rows = task.some(points)
        assert (np.diff(rows) > 0).all() and {*OWNER[rows[rows < 12]]} == {0, 1, 2}
        assert ((rows < 12).sum(), (rows >= 12).sum()) == (train, test)
    many = task._replace(owner=np.arange(1000) % 4, agents=4, targets=np.zeros((1500, 3)))
    assert np.bincount(many.owner[many.some(0.1)[:100]]).tolist() == [25] * 4


@pytest.mark.slow
@pytest.mark.parametrize("start", [0, [0, 1, 2]])
def test_networks_are_seen_in_blocks_as_at_once(problem, start, monkeypatch):
    problem = dataclasses.replace(problem, seed=start)
    with precision.double():
        plan = runs.plan(problem, METHOD, RING, 1)
        iteration = runs.iteration_of(plan, problem.network_space())
        state = engine.advance(iteration, iteration.init(), jnp.array(0), jnp.array(1))
        rows = np.array([0, 3, 4, 8, 11, 12, 18])
        whole = engine.take_snapshot(iteration, state.x)
        monkeypatch.setattr(engine, "POINTS_AT_ONCE", 5)
        engine._snapshot.clear_cache()
        blocks = engine.take_snapshot(iteration, state.x)
        some = engine.take_snapshot(iteration, state.x, rows)
    engine._snapshot.clear_cache()
    for each, wanted in ((blocks, slice(None)), (some, rows)):
        assert np.allclose(each.outputs, whole.outputs[:, wanted], rtol=0, atol=1e-13)
        mean = whole.consensus_outputs[wanted]
        assert np.allclose(each.consensus_outputs, mean, rtol=0, atol=1e-13)


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("points", [0, -3, 1.5, 0.0, True, "all", float("nan")])
def test_points_that_cannot_be_are_refused(problem, points):
    with pytest.raises(InputError, match="save: points must be a whole number from 1 on, or a sha"):
        nd.train(problem, METHOD, RING, 1, save=nd.SaveOptions(points=points))


def test_errors_over_all_points_want_all(problem):
    few = nd.SaveOptions(points=3, trust=True)
    with pytest.raises(InputError, match="save: trust is an error over all points"):
        nd.predict(problem, METHOD, RING, 1, save=few)
