"""Losses: their derivatives, curvatures and targets, in all spaces."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import LOSSES, MIXINGS, small_data
from reference import SLOPES, message_passing, outputs

import ntkdyn as nd
from ntkdyn import losses, precision
from ntkdyn.data import Partition

RNG = np.random.default_rng(0)
TARGETS = {
    "mse": RNG.standard_normal((40, 3)),
    "huber": RNG.standard_normal((40, 3)),
    "cross_entropy": RNG.dirichlet(np.ones(3), 40),
    "logistic": RNG.random((40, 1)),
}
PLAIN = {
    "mse": lambda f, y: ((f - y) ** 2).sum() / 2,
    "huber": lambda f, y: sum(r**2 / 2 if r < 1 else r - 0.5 for r in np.abs(f - y)),
    "cross_entropy": lambda f, y: -(y * np.log(np.exp(f) / np.exp(f).sum())).sum(),
    "logistic": lambda f, y: -(y * np.log(1 / (1 + np.exp(-f))) + (1 - y) * np.log(
        1 / (1 + np.exp(f)))).sum(),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_value_derivative_and_curvature(name):
    loss, targets = losses.named(name), TARGETS[name]
    f = 2 * RNG.standard_normal(targets.shape)
    with precision.double():
        value, slope = (
            loss.value(*map(jnp.array, (f, targets))),
            loss.derivative(*map(jnp.array, (f, targets))),
        )
    assert np.allclose(value, [PLAIN[name](*pair) for pair in zip(f, targets, strict=True)])
    assert np.allclose(slope, [SLOPES[name](*pair) for pair in zip(f, targets, strict=True)])
    # slopes change by at most the curvature along any line, and near the steepest by just that
    near = {"mse": targets, "huber": targets}.get(name, 0 * f)
    step = 1e-4 * np.array([1.0, -1.0, 0.0])[: f.shape[1]]
    change = lambda at: (
        np.linalg.norm(
            [
                SLOPES[name](a + step, y) - SLOPES[name](a, y)
                for a, y in zip(at, targets, strict=True)
            ],
            axis=1,
        )
        / np.linalg.norm(step)
    )
    assert change(f).max() <= loss.curvature * (1 + 1e-6)
    if name == "cross_entropy":  # two of three classes as likely, the third not
        near = np.tile([0.0, 0.0, -50.0], (40, 1))
    assert np.allclose(change(near), loss.curvature, rtol=1e-3)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_in_all_spaces_is_what_agents_do_with_messages(loss):
    """On an affine network, whose training is predicted to rounding."""
    data, owner = small_data(), np.arange(14) % 8
    k = losses.named(loss).outputs(data.classes)
    draw = lambda key, features: jax.random.normal(key, (*features, k), jnp.float32)
    network = nd.networks.wrap(lambda params, x: x @ params, draw, k)
    problem = nd.Problem(network, Partition(data, owner, 8, "given"), loss=loss, seed=3)
    inputs = problem.inputs.astype(float)
    jacobian = np.einsum("nf,kc->nkfc", inputs, np.eye(k)).reshape(len(inputs), k, -1)
    initial, task = inputs @ np.asarray(problem.start, float), problem.task
    W = MIXINGS["directed_exponential"]
    truth = message_passing("cta", jacobian, initial, task.targets, owner, W.matrix, loss, 0.5, 20)
    seen = outputs(jacobian, initial, truth[[0, 1, 20]])
    assert np.abs(seen[-1] - seen[0]).max() > 0.3, "nothing happened"
    cta = nd.methods.cta(step_size=0.5)
    known = nd.dynamics.Stability(cta, None, None)
    more = {"stability": known}
    for run in (
        functools.partial(nd.predict, kernel="empirical", via="steps", **more),
        functools.partial(nd.predict, kernel="implicit", **more),
        functools.partial(nd.train, precision="float64", **more),
    ):
        record = run(problem, cta, W, [0, 1, 20])
        assert np.abs(record["outputs"].values - seen).max() < 1e-12
    own = owner == 2
    each = [PLAIN[loss](f, y) for f, y in zip(seen[-1, 2], task.targets, strict=True)]
    assert np.isclose(record["train_loss"][-1, 2], np.array(each)[:14][own].mean())
    said = seen[-1, 2, :, 0] > 0 if k == 1 else seen[-1, 2].argmax(-1)
    right = said == task.labels
    assert record["train_accuracy"][-1, 2] == right[:14][own].mean()
    assert record["test_accuracy"][-1, 2] == right[14:].mean() and 0 < right.mean() < 1
    assert (record["class_counts"].values == problem.partition.counts).all()


def test_large_outputs_of_a_single_one_stay_finite():
    with precision.double():
        value = losses.logistic.value(jnp.array([[800.0], [-800.0]]), jnp.zeros((2, 1)))
    assert np.allclose(value, [800.0, 0.0])


def test_signs_are_taken_as_classes_and_it_is_said():
    K, owner, W = np.diag([1.0, 2, 3, 4]), [0, 0, 1, 1], [[0.5, 0.5], [0.5, 0.5]]
    run = lambda y, **more: nd.predict(
        nd.KernelProblem(K, y, owner, loss="logistic", **more), nd.methods.dgd(step_size=0.1), W, 9
    )
    signs, classes = run([-1, 1, 1, -1]), run([0, 1, 1, 0])
    assert (signs["outputs"] == classes["outputs"]).all()
    assert signs.attrs["targets_adjusted"] == "-1 and +1 taken as 0 and 1"
    assert "targets_adjusted" not in classes.attrs
    assert (signs["train_accuracy"][0] == 0.5).all() and (signs["train_accuracy"][-1] == 1).all()
    make = functools.partial(nd.KernelProblem, K, owner=owner, loss="logistic")
    assert make([0.25, 0.5, 1.0, 0.0]).task.labels is None
    tested = make([-1, 1, 1, -1], K_test=[[0.0, 1, 0, 0]], y_test=[1]).task
    assert tested.labels.tolist() == [0, 1, 1, 0, 1] and tested.targets[-1] == 1


@pytest.mark.parametrize(
    "y, loss, message",
    [
        ([0, 1], "cross_entropy", "zero for one output, whatever it is; .* is logistic"),
        ([[0.5, 0.4], [1, 0]], "cross_entropy", r"probabilities, .* got \[0.5, 0.4\] at point 0"),
        ([[1, 0], [1.5, -0.5]], "cross_entropy", r"got \[1.5, -0.5\] at point 1"),
        ([0, 2], "logistic", "must be 0 and 1, probabilities between, or .* got 2 at point 1"),
        ([-1, 0], "logistic", "got 0 at point 1"),
        ([[0, 1], [1, 0]], "logistic", "is for one output, got 2; cross_entropy takes more"),
        ([0, 1], 3, "no loss is called 3"),
    ],
)
@pytest.mark.usefixtures("types_unchecked")
def test_targets_that_a_loss_cannot_take(y, loss, message):
    with pytest.raises(nd.InputError, match=message):
        nd.KernelProblem(np.eye(2), y, [0, 1], loss=loss)


def test_a_binary_loss_needs_two_classes_and_one_output():
    share = Partition(small_data(), np.arange(14) % 8, 8, "given")
    two = nd.networks.mlp((4,), outputs=3)
    with pytest.raises(nd.InputError, match="loss logistic: is for two classes, got 10"):
        losses.logistic.outputs(10)
    one = nd.Problem(nd.networks.mlp((4,), outputs=1), share, loss="logistic")
    assert one.heads == 1 and nd.Problem(two, share, loss="logistic").heads == 3
    with pytest.raises(nd.InputError, match="the network has 3 outputs and the data 2 classes;"):
        nd.Problem(two, share, loss="huber")
    with pytest.raises(nd.InputError, match="ccl: needs an output per class, and loss logistic"):
        nd.predict(one, nd.methods.ccl(step_size=0.1), MIXINGS["ring"], 2)
