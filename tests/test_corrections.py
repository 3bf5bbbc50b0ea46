"""Corrected predictions: against training, from a few rounds of the defect, and where they stop."""

import functools
import importlib.util
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ALL_METHODS, small_data
from scipy.interpolate import CubicSpline

import ntkdyn as nd
from ntkdyn import dynamics, graphs, precision, runs
from ntkdyn.data import Partition
from ntkdyn.dynamics.corrected import Defects, Rounds, spaced
from ntkdyn.linearization import Linearization
from ntkdyn.methods import Method, mixing, objectives, updates
from ntkdyn.validation.gaps import norm

OWNER = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2])
PATH = graphs.lazy(graphs.metropolis(graphs.path(3)))
DIRECTED = np.array([[0.5, 0.0, 0.3], [0.5, 0.5, 0.0], [0.0, 0.5, 0.7]])
"""columns sum to one, and links go one way"""
SETTINGS = {
    "local_sgd": {"tau": 2},
    "mhd": {"public_batch": 2, "pool": 1, "pool_every": 2, "teachers": 1, "aux": 1},
}
TRIED = (
    "dgd", "gut", "cta", "heavy_ball", "diging", "extra", "nids", "local_sgd", "push_sum", "mhd",
)  # fmt: skip
"""one of each way to take gradients and to go on with them: all methods take minutes"""
WHOLE = dynamics.Corrections(9, None)
NEAR = 1e-10
MEASURED = (
    "outputs", "parameters", "distance", "displacement", "layer_displacement", "test_loss",
    "consensus_distance", "consensus_test_loss", "kernel_drift", "label_alignment", "floats_sent",
)  # fmt: skip


@functools.cache
def bent(loss="mse", width=6, activation="erf", heads=1):
    """A network that is far from linear."""
    outputs = heads * nd.losses.named(loss).outputs(2)
    network = nd.networks.mlp((width,), outputs=outputs, activation=activation, w_std=1.5)
    public = np.random.default_rng(1).standard_normal((3, 3)).astype(np.float32)
    partition = Partition(small_data(), OWNER, 3, "given")
    return nd.Problem(network, partition, loss, seed=3, public=public if heads > 1 else None)


def off(one, other, name):
    """The largest difference, as a share of how far the variable has come."""
    moved = np.abs(other[name][-1] - other[name][0]).max()
    return float(np.abs(one[name] - other[name]).max() / max(moved, 1e-300))


def both(method, rounds=3, weights=PATH, loss="mse", kernel="empirical", **batch):
    """(corrected, real) at every round, with all parameters."""
    problem, save = (
        bent(loss, heads=method.heads),
        nd.SaveOptions(parameter_rounds=range(rounds + 1)),
    )
    asked = problem, method, weights, range(rounds + 1)
    real = nd.train(*asked, precision="float64", save=save, **batch)
    return nd.predict(*asked, kernel=kernel, corrections=WHOLE, save=save, **batch), real


def linear_methods():
    for name in ALL_METHODS:
        method = nd.methods.METHODS[name](step_size=0.1, **SETTINGS.get(name, {}))
        if "kernel" in method.spaces and name in TRIED:
            quick = name == "gut"
            yield pytest.param(method, marks=() if quick else pytest.mark.slow, id=name)


@pytest.mark.slow
@pytest.mark.parametrize("method", [*linear_methods()])
def test_sweeps_through_all_rounds_end_in_training(method):
    weights = DIRECTED if method.name == "push_sum" else PATH
    corrected, real = both(method, weights=weights)
    for name in ("parameters", "outputs"):
        assert off(corrected, real, name) < NEAR
    assert corrected.attrs["corrections"] == 2, "one round more is training's with every sweep"
    defect = corrected["defect"]
    assert defect[0] > 1e-3 and (np.diff(defect) < 0).all() and defect[-1] < 1e-13


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        {"kernel": "implicit"},
        {"loss": "cross_entropy"},
        {"batch_size": 2, "batch_seed": 5},
        {"weights": graphs.random_matchings(graphs.complete(3), 4, seed=1)},
    ],
    ids=lambda more: next(iter(more)),
)
def test_so_they_do_with_all_else(more):
    corrected, real = both(nd.methods.cta(step_size=0.2), rounds=5, **more)
    assert off(corrected, real, "parameters") < NEAR < corrected["defect"][0] / 1e5
    assert corrected["sampled_round"].values.tolist() == [*range(5)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "method, kernel",
    [("diging", "empirical"), ("cta", "implicit")],
)
def test_with_anchors_each_segment_ends_in_training(method, kernel):
    """With sweeps through all its rounds, whatever the method remembers at its anchor."""
    problem, save = bent(), nd.SaveOptions(parameter_rounds=range(6))
    asked = problem, nd.methods.METHODS[method](step_size=0.1), PATH, range(6)
    real = nd.train(*asked, precision="float64", save=save)
    corrected = nd.predict(*asked, kernel=kernel, anchors=[0, 2, 4], corrections=WHOLE, save=save)
    for name in ("parameters", "outputs"):
        assert off(corrected, real, name) < NEAR
    assert corrected["anchor"].values.tolist() == [0, 2, 4]
    assert corrected["sampled_round"].values.tolist() == [*range(6)][:5]
    assert (corrected["sweeps_kept"] > 0).all() and corrected["defect"].dims == ("anchor", "sweep")


@pytest.mark.slow
def test_anchors_make_fewer_samples_and_sweeps_enough():
    asked = bent(width=256), nd.methods.dgd(step_size=0.1), PATH, [0, 120]
    save = nd.SaveOptions(parameter_rounds=[0, 120])
    real = nd.train(*asked, precision="float64", save=save)
    few = dynamics.Corrections(1, 6)
    plain, anchored, corrected, both = (
        off(nd.predict(*asked, save=save, **more), real, "parameters")
        for more in (
            {},
            {"anchors": [0, 10, 40]},
            {"corrections": few},
            {"anchors": [0, 10, 40], "corrections": few},
        )
    )
    assert both < anchored / 3 and both < corrected / 3 < plain / 3


class Twice(updates.Memoryless):
    """y = W x - eta g(x),  x <- y - eta g(y): two gradients in a round."""

    def step(self, state, grad, mix):
        once = mix(state.x) - self.step_size * grad(state.x)
        return updates.Iterate(once - self.step_size * grad(once))


class Looped(updates.Memoryless):
    """The same number of gradients, in a loop of JAX's."""

    def step(self, state, grad, mix):
        del mix
        descend = lambda _, x: x - self.step_size * grad(x)
        return updates.Iterate(jax.lax.fori_loop(0, 2, descend, state.x))


def own(update):
    return Method("mine", update, mixing.Fixed(), objectives.Local())


@pytest.mark.slow
def test_each_gradient_of_a_round_has_a_defect_of_its_own():
    corrected, real = both(own(Twice(0.1)), kernel="implicit")
    assert off(corrected, real, "parameters") < NEAR


def test_gradients_that_cannot_be_told_apart_are_refused():
    with pytest.raises(nd.InputError, match="mine takes its gradients inside a loop of JAX's"):
        nd.predict(bent(), own(Looped(0.1)), PATH, 3, kernel="implicit", corrections=1)


@pytest.mark.slow
def test_all_that_is_kept_is_what_the_real_networks_show():
    method = nd.methods.atc(step_size=0.2)
    save = nd.SaveOptions(parameter_rounds=[3], distances=True, kernel=True)
    asked = bent(), method, PATH, [1, 3]
    corrected = nd.predict(*asked, corrections=WHOLE, save=save._replace(trust=True))
    real = nd.train(*asked, precision="float64", save=save)
    for name in MEASURED:
        assert np.abs(corrected[name] - real[name]).max() < NEAR, name
    assert (corrected["trust_gap"][-1] > 0.01).all(), "f is not its linearization"
    bare = nd.predict(*asked, corrections=2, save=nd.SaveOptions(outputs=False))
    assert "outputs" not in bare and "train_loss" in bare


def test_no_sweep_shows_the_real_networks_at_the_linear_prediction():
    asked = bent(), nd.methods.dgd(step_size=0.2), PATH, [0, 20]
    save = nd.SaveOptions(parameter_rounds=[20], trust=True)
    plain, none = (nd.predict(*asked, save=save, corrections=k) for k in (None, 0))
    assert off(none, plain, "parameters") < NEAR
    apart = norm(none["outputs"] - plain["outputs"])[1]
    moved = norm(plain["outputs"][1] - plain["initial_outputs"])
    np.testing.assert_allclose(apart / moved, plain["trust_gap"][1], rtol=1e-8)
    assert none.attrs["corrections"] == 0 and none["defect"].shape == (1,)
    assert "defect" not in plain and "sampled_round" not in plain


@pytest.mark.slow
def test_a_few_rounds_stand_for_all():
    asked = bent(width=64), nd.methods.dgd(step_size=0.15), PATH, 40
    save = nd.SaveOptions(parameter_rounds=[40])
    few, every = (
        nd.predict(*asked, save=save, corrections=dynamics.Corrections(2, n)) for n in (12, None)
    )
    assert few.sizes["sampled_round"] == 12 and every.sizes["sampled_round"] == 40
    moved = np.abs(every["parameters"] - every["initial_parameters"]).max()
    assert np.abs(few["parameters"] - every["parameters"]).max() < 1e-3 * moved
    np.testing.assert_allclose(few["defect"], every["defect"], rtol=0.1)


@pytest.mark.slow
def test_rounds_that_differ_within_a_period_are_sampled_each():
    method = nd.methods.local_sgd(step_size=0.15, tau=3)
    asked, save = (bent(width=64), method, PATH, 37), nd.SaveOptions(parameter_rounds=[37])
    few, every = (
        nd.predict(*asked, save=save, corrections=dynamics.Corrections(2, n)) for n in (7, None)
    )
    sampled = few["sampled_round"].values.reshape(7, 3)
    assert (sampled % 3 == [0, 1, 2]).all() and sampled[-1, -1] == 38
    moved = np.abs(every["parameters"] - every["initial_parameters"]).max()
    assert np.abs(few["parameters"] - every["parameters"]).max() < 1e-3 * moved


@pytest.mark.parametrize("last, count", [(199, 12), (11, 12), (5, 2), (0, 1), (10**6, 12)])
def test_sampled_rounds_are_ever_further_apart(last, count):
    found = spaced(last, count)
    assert len(found) == count and found[0] == 0 and found[-1] == last
    steps = np.diff(found)
    assert (steps > 0).all() and (np.diff(steps) >= -1).all(), found
    assert count < 12 or last < 12 or steps[-1] < 0.75 * last, "all but the first are left out"


@precision.in_double
def test_between_sampled_rounds_lies_a_cubic_spline_in_log_t():
    values = np.random.default_rng(0).standard_normal((5, 2, 3, 4))  # periods x length, agents, ...
    values = values.reshape(5 * 2, 3, 4)
    rounds = Rounds(7, [0, 2, 5, 11, 20], 2, False)
    defects = Defects.of(jnp.asarray(values), rounds, 1)
    for place in (0, 1):
        spline = CubicSpline(np.log1p(rounds.periods), values[place::2])
        for period in (0, 1, 2, 7, 20):
            (seen,) = defects.at(jnp.array(7 + 2 * period + place))
            np.testing.assert_allclose(seen.tree, spline(np.log1p(period)), atol=1e-12)


def test_linear_networks_have_nothing_to_correct():
    def start(key, features):
        return {"w": jax.random.normal(key, (features[0], 2))}

    network = nd.networks.wrap(lambda params, x: x @ params["w"], start, 2)
    problem = nd.Problem(network, bent().partition, seed=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = nd.predict(problem, nd.methods.dgd(step_size=0.1), PATH, 20, corrections=3)
    assert told.attrs["corrections"] == 0 and told["defect"][0] < 1e-13


@pytest.mark.slow
def test_sweeps_that_lead_astray_are_not_kept():
    asked = bent(width=8, activation="relu"), nd.methods.dgd(step_size=0.3), PATH, 200
    save = nd.SaveOptions(parameter_rounds=[200])
    with pytest.warns(UserWarning, match=r"corrections: sweep \d does not .*; \d of 6 sweeps"):
        told = nd.predict(*asked, save=save, corrections=6)
    kept, defect = told.attrs["corrections"], told["defect"].values
    assert kept < 6 == told.attrs["corrections_asked"]
    assert len(defect) == kept + 2 and not defect[-1] < defect[-2]
    again = nd.predict(*asked, save=save, corrections=kept)
    assert np.array_equal(again["parameters"], told["parameters"])


@pytest.mark.parametrize(
    "given, said",
    [
        ({"corrections": -1}, "corrections: must be a whole number from 0 on, got -1"),
        ({"corrections": 1.5}, "corrections: must be a whole number from 0 on, got 1.5"),
        ({"corrections": "two"}, "corrections: must be a whole number"),
        ({"corrections": True}, "corrections: must be a whole number"),
        ({"corrections": dynamics.Corrections(1, 1)}, "corrections: samples must be a whole"),
        ({"corrections": 1, "kernel": "infinite"}, "corrections: a network of infinite width"),
        ({"corrections": 1, "anchors": [30]}, "anchors: round 30 is beyond the last round, 20"),
        ({"corrections": 1, "via": "powers"}, "via: a corrected prediction can only be stepped"),
    ],
)
def test_refusals(given, said, types_unchecked):
    with pytest.raises(nd.InputError, match=said):
        nd.predict(bent(), nd.methods.dgd(step_size=0.1), PATH, 20, **given)


def test_what_has_no_network_or_no_linear_form_is_refused():
    bare, dgd = nd.KernelProblem(np.eye(3), np.ones(3), [0, 1, 2]), nd.methods.dgd(step_size=0.1)
    with pytest.raises(nd.InputError, match="corrections: a kernel that is given stays"):
        nd.predict(bare, dgd, PATH, 20, corrections=1)
    with pytest.raises(nd.InputError, match="dimat: does not run in kernel space"):
        nd.predict(bent(), nd.methods.dimat(step_size=0.1), PATH, 20, corrections=1)
    team = nd.Problem(
        [nd.networks.mlp((width,), outputs=2) for width in (4, 5, 6)], bent().partition
    )
    with pytest.raises(nd.InputError, match="corrections: agents of different architectures"):
        nd.predict(team, dgd, PATH, 20, kernel="implicit", corrections=1)


def test_without_rounds_nothing_is_wrong():
    told = nd.predict(bent(), nd.methods.dgd(step_size=0.1), PATH, 0, corrections=2)
    assert told.attrs["corrections"] == 0 and told["defect"].values.tolist() == [0.0]
    assert told.sizes["sampled_round"] == 0


def test_the_kernel_of_all_sweeps_is_computed_once(monkeypatch):
    asked, made = (bent(), nd.methods.dgd(step_size=0.1), PATH, 3), []
    blocks = Linearization.blocks
    monkeypatch.setattr(Linearization, "blocks", lambda self: made.append(1) or blocks(self))
    told = nd.predict(*asked, corrections=WHOLE)
    assert told.attrs["corrections"] == 2 and len(made) == 1


def test_defects_that_do_not_fit_are_refused(monkeypatch):
    monkeypatch.setattr(runs.sizes, "free", lambda: 1e6)
    with pytest.raises(nd.InputError, match="corrections: the defects of 5000 rounds"):
        nd.predict(
            bent(), nd.methods.dgd(step_size=0.1), PATH, [5000], corrections=WHOLE,
        )  # fmt: skip


@pytest.mark.slow
def test_a_wide_network_is_known_after_two_sweeps():
    path = Path(__file__).parents[1] / "analysis" / "corrections.py"
    spec = importlib.util.spec_from_file_location("corrections", path)
    study = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(study)
    found, kept = study.gaps("erf", 1024, 0)
    parameters = [each for each, _ in found]
    assert kept == 3 and parameters[0] > 0.05 and parameters[1] < 0.02 and parameters[2] < 0.003
