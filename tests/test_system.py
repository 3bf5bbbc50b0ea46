"""A system: checked once, asked whole or by its parts, and the same either way."""

import inspect

import jax.numpy as jnp
import numpy as np
import pytest
from cases import MIXINGS, method

import ntkdyn as nd
from ntkdyn import dynamics, linear, links, runs
from ntkdyn.theory import theorems

W = MIXINGS["star"]
STEP = 0.1


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((12, 20)) / np.sqrt(20)
    return nd.KernelProblem(features @ features.T, rng.standard_normal((12, 2)), np.arange(12) % 8)


def _lossy(first, *rest):
    """The same question of the method over links that lose messages."""
    over = lambda by: links.over(by, links.lossy(0.2))
    if rest:
        return (first, over(rest[0]), *rest[1:])
    return (first.with_(method=over(first.method)),)


QUESTIONS = {
    "predict": lambda *asked: nd.predict(*asked, [0, 7])["outputs"].values,
    "flow": lambda *asked: dynamics.flow(*asked, rounds=[3])["outputs"].values,
    "Flow": lambda *asked: dynamics.Flow(*asked).state(0.7),
    "limit": lambda *asked: dynamics.limit(*asked)["outputs"].values,
    "slowest modes": lambda *asked: dynamics.slowest_modes(*asked, count=2)["time_constant"],
    "spectrum": lambda *asked: dynamics.spectrum(*asked)["eigenvalue_real"].values,
    "step size limit": lambda *asked: nd.step_size_limit(*asked),
    "assess": lambda *asked: dynamics.assess(*asked).limit,
    "rounds until": lambda *asked: dynamics.rounds_until(*asked, 0.5),
    "noise": lambda *asked: dynamics.minibatch_noise(*asked, [2], batch_size=1)["std_outputs"],
    "link noise": lambda *asked: dynamics.link_noise(*_lossy(*asked), [2])["std_outputs"],
    "bounds": lambda *asked: theorems.case(*asked).constants.smoothness,
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_to_the_whole_is_that_to_its_parts(problem, name):
    ask, dgd = QUESTIONS[name], method("dgd", STEP)
    whole, parts = ask(nd.System(problem, dgd, W)), ask(problem, dgd, W)
    assert np.array_equal(whole, parts)
    other = ask(nd.System(problem, dgd, MIXINGS["complete"]))
    assert name == "bounds" or not np.array_equal(whole, other)


def test_settings_of_the_system_may_stand_beside_its_parts(small):
    problem, _ = small(8)
    dgd, drawn = method("dgd", STEP), {"batch_size": 1, "batch_seed": 3}
    system = nd.System(problem, dgd, W, "infinite", **drawn)
    whole = nd.predict(system, [5], save=nd.SaveOptions())
    parts = nd.predict(problem, weights=W, method=dgd, rounds=[5], kernel="infinite", **drawn)
    assert whole.equals(parts) and whole.attrs["kernel"] == parts.attrs["kernel"] == "infinite"
    assert whole.attrs["batch_size"] == 1
    for other in ({"kernel": "empirical"}, {"batch_seed": 4}):
        apart = np.abs(nd.predict(system.with_(**other), [5])["outputs"] - whole["outputs"])
        assert apart.max() > 1e-6
    assert nd.predict(system=system, rounds=[5]).equals(whole)


def test_kernels_are_values(small):
    problem, _ = small(8)
    dgd = method("dgd", STEP)
    for name, value in linear.NAMED.items():
        one, other = (nd.predict(problem, dgd, W, [4], kernel=each) for each in (name, value))
        assert one.equals(other) and one.attrs["kernel"] == name
    given = linear.Given(problem.kernel("infinite"))
    one = nd.predict(problem, dgd, W, [4], kernel=given)
    assert one.attrs["kernel"] == "given"
    other = nd.predict(problem, dgd, W, [4], kernel="infinite")
    assert np.abs(one["outputs"] - other["outputs"]).max() < 1e-12


def test_the_kernel_of_arrays_stays_with_them(problem, small):
    """A system of networks made from one of arrays has no kernel until it is given one."""
    net, _ = small(8)
    system = nd.System(problem, method("dgd", STEP), W)
    with pytest.raises(nd.InputError, match="networks and no kernel of its own"):
        nd.predict(system.with_(problem=net), [4])
    whole = nd.predict(system.with_(problem=net, kernel="empirical"), [4])
    assert whole.equals(nd.predict(net, method("dgd", STEP), W, [4]))
    other = nd.KernelProblem(2 * problem.given.whole, problem.task.targets, problem.task.owner)
    moved = nd.predict(system.with_(problem=other), [4])
    assert moved.equals(nd.predict(other, method("dgd", STEP), W, [4]))
    doubled = nd.predict(system.with_(kernel=linear.Given(other.given)), [4])
    assert np.array_equal(doubled["outputs"], moved["outputs"])
    assert np.abs(doubled["outputs"] - nd.predict(system, [4])["outputs"]).max() > 1e-2


def test_a_given_kernel_is_one_between_the_problems_points(problem, small):
    few = linear.Given(linear.Kernel(np.eye(3), {}, "given"))
    for each in (problem, small(8)[0]):
        with pytest.raises(nd.InputError, match="between 3 and 3 points, the problem's between"):
            nd.predict(each, method("dgd", STEP), W, 4, kernel=few)


def test_questions_about_one_kernel_take_that_whatever_the_systems_is(small):
    """Ensembles predict networks of their own."""
    net, _ = small(8)
    dgd, drawn = method("dgd", STEP), {"batch_size": 1, "batch_seed": 0}
    told = [
        dynamics.ensemble(each, [3], starts=dynamics.Starts(0, 2, "own"))["std_outputs"].values
        for each in (nd.System(net, dgd, W), nd.System(net, dgd, W, "infinite", **drawn))
    ]
    assert np.array_equal(*told) and told[0].max() > 1e-3


def test_a_flow_needs_a_kernel_that_is_formed(small):
    for ask in (lambda *asked: dynamics.flow(*asked, rounds=3), dynamics.Flow):
        with pytest.raises(nd.InputError, match='"implicit" forms none'):
            ask(nd.System(small(8)[0], method("dgd", STEP), W, "implicit"))


def test_signatures_tell_parts_and_settings():
    asked = inspect.signature(nd.predict).parameters
    assert list(asked)[:4] == ["problem", "method", "weights", "rounds"]
    assert asked["kernel"].default == "empirical" and "batch_size" in asked
    assert "kernel" not in inspect.signature(nd.train).parameters
    assert "batch_size" not in inspect.signature(dynamics.limit).parameters


def test_what_is_no_setting_of_a_question_is_refused(problem):
    dgd = method("dgd", STEP)
    for ask in (
        lambda: nd.train(problem, dgd, W, 5, kernel="infinite"),
        lambda: dynamics.limit(problem, dgd, W, batch_size=1),
        lambda: nd.predict(nd.System(problem, dgd, W), 5, batch_size=1),
        lambda: nd.predict(problem, dgd, 5),
    ):
        with pytest.raises(TypeError):
            ask()


@pytest.mark.parametrize(
    "parts, message",
    [
        ({"problem": 3}, "problem: must be a Problem or a KernelProblem, got int"),
        ({"method": "dgd"}, "method: must be a Method, as `methods.dgd` gives, got str"),
        ({"kernel": "empircal"}, "did you mean 'empirical'"),
        ({"kernel": 3}, "kernel"),
        ({"weights": np.eye(3)}, "mixing matrix"),
        ({"batch_size": 2}, "batch_size and batch_seed: give both"),
        ({"batch_size": 0, "batch_seed": 1}, "batch_size: must be"),
        ({"method": nd.methods.dgd(step_size=jnp.array([0.1, 0.2]))}, "one number for all agents"),
    ],
)
def test_parts_that_do_not_fit_are_refused(problem, parts, message, types_unchecked):
    asked = {"problem": problem, "method": method("dgd", STEP), "weights": W} | parts
    with pytest.raises(nd.InputError, match=message):
        nd.System(**asked)


def test_a_plan_is_a_system_and_its_rounds(problem):
    asked = runs.plan(problem, method("dgd", STEP), W, 4, save=nd.SaveOptions(record_every=2))
    assert asked.rounds == [0, 2, 4] and asked.system.weights.agents == 8
    faster = asked.by(method("dgd", 2 * STEP))
    assert faster.method.step_size == 2 * STEP and asked.method.step_size == STEP


@pytest.mark.slow
def test_training_settles_a_share_of_the_limit_as_its_prediction_does(small):
    problem, _ = small(8)
    dgd = nd.methods.dgd(step_size=nd.of_limit(0.5))
    smooth = nd.networks.mlp((4,), outputs=problem.network.outputs, activation="erf")
    problem, steps = nd.Problem(smooth, problem.partition), {}
    for kernel in ("infinite", "empirical", "implicit"):
        system = nd.System(problem, dgd, W, kernel)
        steps[kernel] = nd.train(system, [0]).attrs["step_size"]
        assert dynamics.certify(system, [1]).attrs["step_size"] == steps[kernel]
        if kernel != "implicit":
            assert nd.predict(system, [0]).attrs["step_size"] == steps[kernel]
    assert steps["implicit"] == steps["empirical"] != steps["infinite"]


def test_a_call_that_does_not_fit_names_what_was_called(problem):
    with pytest.raises(TypeError, match="^step_size_limit: missing a required argument: 'weights'"):
        nd.step_size_limit(problem, method("dgd", STEP))
    with pytest.raises(TypeError, match="^predict: got an unexpected keyword argument 'round'"):
        nd.predict(problem, method("dgd", STEP), W, 3, round=3)
