"""Re-anchored prediction: against training, without a kernel, and where it changes nothing."""

import dataclasses
import functools
import gc
import operator
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ALL_METHODS, small_data

import ntkdyn as nd
from ntkdyn import dynamics, experiment, graphs, linearization, precision, problems
from ntkdyn.data import Partition
from ntkdyn.dynamics import propagators
from ntkdyn.dynamics.anchored import crossing
from ntkdyn.linearization import Linearization
from ntkdyn.methods.updates import Iterate
from ntkdyn.runs import iteration_of, plan
from ntkdyn.vectors import ByAgent

OWNER = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2])
TRIANGLE = graphs.metropolis(graphs.complete(3))
PATH = graphs.lazy(graphs.metropolis(graphs.path(3)))
BATCH = {"batch_size": 2, "batch_seed": 5}
SETTINGS = {"mhd": {"public_batch": 2, "pool": 2, "pool_every": 2, "teachers": 1, "aux": 1}}
NEAR = 1e-10


def problem_of(network, loss="mse", public=None):
    data = small_data()
    return nd.Problem(network, Partition(data, OWNER, 3, "given"), loss, seed=3, public=public)


@functools.cache
def bent(loss="mse"):
    """A problem whose network is smooth, small, and far from linear."""
    return problem_of(nd.networks.mlp((6,), outputs=2, activation="erf", w_std=1.5), loss)


@functools.cache
def straight(heads):
    """A problem whose network is affine in its parameters, features included."""

    def start(key, features):
        shapes = {"a": (features[0], 2 * heads), "b": (features[0], 2 * heads), "c": (1, 2 * heads)}
        keys = jax.random.split(key, 3)
        drawn = zip(keys, shapes.items(), strict=True)
        return {name: {"w": jax.random.normal(key, shape)} for key, (name, shape) in drawn}

    def hidden(params, x):
        return {"seen": jnp.tanh(x) @ params["b"]["w"]}

    def apply(params, x):
        return x @ params["a"]["w"] + hidden(params, x)["seen"] + params["c"]["w"]

    network = nd.networks.wrap(apply, start, 2 * heads)
    public = np.random.default_rng(1).standard_normal((3, 3)).astype(np.float32)
    return problem_of(dataclasses.replace(network, hidden=hidden), public=public)


def apart(one, other, names):
    """The largest difference of each of the variables."""
    return {name: float(np.abs(one[name] - other[name]).max()) for name in names}


MEASURED = (
    "outputs", "parameters", "distance", "displacement", "layer_displacement",
    "consensus_distance", "consensus_test_loss", "floats_sent",
)  # fmt: skip


def linear_methods():
    for name in ALL_METHODS:
        method = nd.methods.METHODS[name](step_size=0.05, **SETTINGS.get(name, {}))
        if "kernel" in method.spaces:
            yield name, method


@pytest.mark.slow
@pytest.mark.parametrize("name, method", [*linear_methods()])
@precision.in_double
def test_whatever_a_method_remembers_goes_on_at_another_anchor(name, method):
    """Every vector stands for the same parameters as before, and all else is as it was."""
    problem = straight(method.heads)
    linear = Linearization.of(problem, method.view)
    iteration = iteration_of(plan(problem, method, PATH, 1), problem.kernel_space(view=method.view))
    rng = np.random.default_rng(0)
    drawn = lambda leaf: leaf + rng.integers(1, 4, leaf.shape).astype(leaf.dtype)
    state = jax.tree.map(drawn, iteration.init())
    onward, there = linear.onward(name, state)
    assert jax.tree.structure(there) == jax.tree.structure(state)
    is_vector = lambda each: isinstance(each, ByAgent)
    pairs = zip(*(jax.tree.leaves(e, is_leaf=is_vector) for e in (state, there)), strict=True)
    for old, new in pairs:
        if not is_vector(old) or jax.tree.leaves(old)[0].ndim < 3:
            assert (jnp.asarray(jax.tree.leaves(old)[0]) == jax.tree.leaves(new)[0]).all()
            continue
        for one, other in zip(_one_by_one(old), _one_by_one(new), strict=True):
            off = jax.tree.leaves(linear.lift(one) - onward.lift(other))
            assert max(float(jnp.abs(leaf).max()) for leaf in off) < NEAR
    mean = jax.tree.map(lambda leaf: leaf.mean(axis=0), linear.lift(state.x).tree)
    for start, moved, at in zip(
        *map(jax.tree.leaves, (problem.start, mean, onward.tangent.anchor)), strict=True
    ):
        assert jnp.allclose(start + moved, at, atol=NEAR)


def _one_by_one(vector):
    """The vectors that may be stacked in one."""
    leaf = jax.tree.leaves(vector)[0]
    places = range(len(leaf)) if leaf.ndim == 4 else [...]
    return [vector.map(operator.itemgetter(place)) for place in places]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gut", "local_sgd"])
def test_another_anchor_changes_nothing_where_the_network_is_linear(name):
    """So it continues what is remembered, and counts its rounds from the start."""
    problem, save = straight(1), nd.SaveOptions(parameter_rounds=[7], distances=True)
    method = nd.methods.METHODS[name](step_size=0.05)
    run = functools.partial(nd.predict, problem, method, PATH, range(8), save=save, **BATCH)
    plain, anchored = run(), run(anchors=[3, 5])
    assert np.abs(plain["outputs"][-1] - plain["outputs"][0]).max() > 0.05, "nothing happened"
    off = apart(anchored, plain, MEASURED)
    assert max(off.values()) < NEAR, off
    assert anchored["anchor"].values.tolist() == [0, 3, 5]
    assert np.abs(anchored["segment_error"]).max() < NEAR


@pytest.mark.slow
def test_an_anchor_in_every_round_is_training_where_agents_agree():
    """With everybody's average in every round they do, whatever each remembers of its own."""
    problem, method = bent("cross_entropy"), nd.methods.heavy_ball(step_size=0.4)
    rounds = 6
    save = nd.SaveOptions(parameter_rounds=[*range(rounds + 1)])
    run = functools.partial(nd.predict, problem, method, TRIANGLE, range(rounds + 1), save=save)
    there = nd.train(
        problem, method, TRIANGLE, range(rounds + 1), save=save, precision="float64", **BATCH
    )
    followed = run(anchors=range(rounds + 1), **BATCH)
    names = ("outputs", "parameters", "test_loss", "displacement")
    off = apart(followed, there, names)
    assert max(off.values()) < NEAR, off
    assert min(apart(run(**BATCH), there, names).values()) > 1e-3, "anchors had nothing to do"
    assert followed["segment_error"][-1] < NEAR


@pytest.mark.slow
def test_the_gap_falls_like_one_over_the_number_of_segments():
    """The error of a segment goes like the square of its length."""
    rounds, counts = 64, np.array([4, 8, 16])
    problem, method = bent(), nd.methods.atc(step_size=0.02)
    save = nd.SaveOptions(parameter_rounds=[rounds])
    asked = problem, method, TRIANGLE, [rounds]
    truth = nd.train(*asked, precision="float64", save=save)["parameters"]
    gaps = []
    for count in counts:
        anchors = [*range(0, rounds, rounds // count)]
        followed = nd.predict(*asked, save=save, anchors=anchors)["parameters"]
        gaps.append(float(np.linalg.norm(followed - truth)))
    slope = np.polyfit(np.log(counts), np.log(gaps), 1)[0]
    assert abs(slope + 1) < 0.2, (slope, gaps)


@pytest.mark.slow
@pytest.mark.parametrize(
    "view, apart", [("outputs", True), ("outputs", False), ("features", False), ("layers", True)]
)
@precision.in_double
def test_the_kernel_space_at_an_anchor_is_the_tangent_space_there(view, apart):
    """Also where its layers are not told apart."""
    problem, rng = bent(), np.random.default_rng(0)
    drawn = lambda leaf: jnp.asarray(0.1 * rng.standard_normal(leaf.shape))
    start = problem.kernel_space(view=view).start()
    linear = Linearization.of(problem, view)
    onward, state = linear.onward("dgd", Iterate(start.map(drawn)))
    known = onward.blocks() if apart else onward.whole()
    space, tangent, x = (
        onward.space(known),
        onward.tangent,
        state.x.map(lambda leaf: leaf + 0.1 * drawn(leaf)),
    )
    assert space.layers == (tangent.layers if apart else ("all",))
    lifted, rows = onward.lift(x), jnp.array([[0, 1], [5, 6], [10, 13]])
    moved = space.displacement(x), tangent.displacement(lifted)
    pairs = [(space.spread(moved[0]), tangent.spread(moved[1]))]
    for at in (slice(None), rows):
        (seen, pull), (wanted, pull_there) = space.readout(at)(x), tangent.readout(at)(lifted)
        pairs.append((seen, wanted))
    pairs.append((onward.lift(pull(seen)).tree, pull_there(seen).tree))
    if view == "layers":
        pairs += [(space.gram(moved[0]), tangent.gram(moved[1]))]
        pairs += [(space.square_norms(x), tangent.square_norms(lifted))]
    if not apart:
        pairs[0] = tuple((squares.sum(axis=0), around) for squares, around in pairs[0])
    for ours, theirs in pairs:
        off = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), ours, theirs)
        assert max(jax.tree.leaves(off)) < NEAR
    at_start = problem.tangent_space(view).readout(slice(None))(lifted)[0]
    assert float(jnp.abs(at_start - pairs[1][1]).max()) > 1e-3, "the anchor made no difference"


@pytest.mark.slow
def test_jumps_within_a_segment_are_steps():
    problem, method = bent(), nd.methods.dgd(step_size=0.3)
    run = functools.partial(
        nd.predict, problem, method, PATH, [0, 80, 150, 400], anchors=[10, 150],
        save=nd.SaveOptions(parameter_rounds=[400], distances=True),
    )  # fmt: skip
    stepped = run(via="steps")
    for via in ("chebyshev", "krylov", "contour"):
        there = run(via=via)
        assert there["reached_by"].values.tolist() == ["start", via, "anchor", via]
        off = apart(there, stepped, MEASURED)
        assert max(off.values()) < NEAR, (via, off)
        assert (there["error_estimate"] < 1e-9).all()


@pytest.mark.slow
def test_a_kernel_goes_before_the_next_one_comes(monkeypatch):
    """That of the problem as well, unless it is small."""
    problem, method, asked = problem_of(bent().network), nd.methods.dgd(step_size=0.3), [0, 6, 300]
    stay = nd.predict(problem, method, PATH, asked, anchors=[5, 9])["outputs"].values
    assert "empirical" in vars(problem), "small kernels stay"
    monkeypatch.setattr(problems.problem, "KEPT_UP_TO", 0)
    space, made, held = Linearization.space, [], []

    def watched(self, *known):
        held.append("empirical" in vars(problem) or any(each() is not None for each in made))
        found = space(self, *known)
        made.append(weakref.ref(found.kernel))
        return found

    monkeypatch.setattr(Linearization, "space", watched)
    gc.disable()  # so that what refers to itself would stay
    try:
        gone = nd.predict(problem, method, PATH, asked, anchors=[5, 9])["outputs"].values
        beside, _ = dynamics.predict_beside([nd.System(problem, method, PATH)] * 2, asked, [5, 9])
    finally:
        gc.enable()
    assert held == [False] * 6
    assert np.abs(gone - stay).max() == 0 and np.abs(beside - stay).max() < NEAR


@pytest.mark.slow
def test_anchors_at_the_start_alone_are_the_plain_prediction():
    run = functools.partial(
        nd.predict, bent(), nd.methods.dgd(step_size=0.3), PATH, 20,
        save=nd.SaveOptions(parameter_rounds=[20], distances=True, trust=True, kernel=True),
    )  # fmt: skip
    off = apart(run(anchors=[0]), run(), (*MEASURED, "trust_gap", "kernel_drift"))
    assert max(off.values()) < 1e-12, off


@pytest.mark.slow
def test_anchors_that_are_chosen():
    run = functools.partial(nd.predict, bent(), nd.methods.dgd(step_size=0.3), PATH, [0, 60])
    plain = run(anchors=[0])["segment_error"].values[0]
    some = run(anchors=dynamics.Anchoring(kernels=5))
    assert some.attrs["kernels_computed"] == some.sizes["anchor"] <= 5
    assert some["segment_error"].max() < plain / 2
    lengths = np.diff([*some["anchor"].values, 60])
    assert lengths[0] == lengths.min() < lengths[-1]
    tolerance = float(plain) / 3
    kept_to = run(anchors=dynamics.Anchoring(tolerance=tolerance))
    assert (kept_to["segment_error"] <= tolerance).all() and kept_to.sizes["anchor"] > 1
    with pytest.warns(UserWarning, match="segment 2, rounds .* above the tolerance .* up to round"):
        tight = 1.1 * float(some["segment_error"][0])
        not_kept = run(anchors=dynamics.Anchoring(kernels=2, tolerance=tight))
    assert not_kept.attrs["within_tolerance_until"] == not_kept["anchor"][1]
    alike = nd.predict(straight(1), nd.methods.dgd(step_size=0.1), PATH, [0, 60], anchors="auto")
    assert alike["anchor"].values.tolist() == [0], "a linear network needs one kernel"


@pytest.mark.slow
def test_where_a_power_law_crosses():
    squares = lambda rounds: [0.5 * (round - 10) ** 2 for round in rounds]
    rounds = [11, 12, 14, 18, 26, 42, 60]
    for length in (3, 7, 20, 45):
        assert crossing(10, rounds, squares(rounds), 0.5001 * length**2) == 10 + length
    assert crossing(10, rounds, squares(rounds), 1e9) == 60
    assert crossing(10, rounds, squares(rounds), 0.1) == 11, "one round at the least"
    assert crossing(10, [11, 12, 14], [1.0, 2.0, np.nan], 3.0) == 12


@pytest.mark.parametrize(
    "given, said",
    [
        ({"anchors": [5, 3]}, "anchors: must be ascending and not negative, got"),
        ({"anchors": [-1, 3]}, "anchors: must be ascending and not negative"),
        ({"anchors": [0, 21]}, "anchors: round 21 is beyond the last round, 20"),
        ({"anchors": [0.5]}, 'anchors: must be "auto", dynamics.Anchoring'),
        ({"anchors": "always"}, 'anchors: must be "auto"'),
        ({"anchors": []}, 'anchors: must be "auto"'),
        ({"anchors": dynamics.Anchoring(kernels=0)}, "anchors: kernels must be a whole number"),
        ({"anchors": dynamics.Anchoring(tolerance=2.0)}, "anchors: tolerance must be between"),
        ({"anchors": [3], "kernel": "infinite"}, "anchors: a network of infinite width is linear"),
        ({"anchors": [3], "via": "powers"}, "via: powers begin at the start only"),
    ],
)
def test_refusals(given, said):
    with pytest.raises(nd.InputError, match=said):
        nd.predict(bent(), nd.methods.dgd(step_size=0.1), PATH, 20, **given)


def test_methods_without_a_linear_form_are_refused():
    merging = nd.methods.dimat(step_size=0.1)
    with pytest.raises(nd.InputError, match="dimat: does not run in kernel space"):
        nd.predict(bent(), merging, PATH, 20, anchors=[3])


@pytest.mark.slow
def test_a_bare_kernel_has_no_network_to_linearize_anew():
    bare = nd.KernelProblem(np.eye(3), np.ones(3), [0, 1, 2])
    with pytest.raises(nd.InputError, match="anchors: a kernel that is given stays"):
        nd.predict(bare, nd.methods.dgd(step_size=0.1), PATH, 20, anchors=[3])


@pytest.mark.slow
def test_what_every_segment_added_to_the_gap_is_known_after_training():
    problem, method = bent(), nd.methods.dgd(step_size=0.2)
    rounds = [0, 4, 5, 20, 40]
    predicted = nd.predict(problem, method, TRIANGLE, rounds, anchors=[5, 10, 19, 30])
    observed = nd.train(problem, method, TRIANGLE, rounds)
    told = nd.compare(predicted, observed)
    off = (predicted["outputs"] - observed["outputs"]).values
    moved = (observed["outputs"] - observed["initial_outputs"]).values
    size = lambda values: np.linalg.norm(values.reshape(3, -1), axis=1)
    gained = lambda begin, end: (size(off[end] - off[begin]) / size(moved[end])).max()
    wanted = [gained(0, 2), np.nan, np.nan, gained(2, 3), gained(3, 4)]
    assert told["anchor"].values.tolist() == [0, 5, 10, 19, 30]
    np.testing.assert_allclose(told["true_segment_error"], wanted, rtol=1e-6)
    assert (told["segment_error"] == predicted["segment_error"]).all()
    assert "true_segment_error" not in nd.compare(predicted.drop_dims("anchor"), observed)


@pytest.mark.slow
def test_several_runs_share_the_anchors_of_the_first(monkeypatch):
    rounds, anchors = [0, 4, 5, 20], [5, 12, 20]
    blocks, made = Linearization.blocks, []
    monkeypatch.setattr(Linearization, "blocks", lambda self: made.append(1) or blocks(self))
    dgd, atc = (each(step_size=0.2) for each in (nd.methods.dgd, nd.methods.atc))
    asked = [(dgd, TRIANGLE), (dgd, TRIANGLE), (atc, PATH)]
    first, again, other = dynamics.predict_beside(
        [nd.System(bent(), *each) for each in asked], rounds, anchors
    )
    assert len(made) == len(anchors), "one kernel an anchor, beside that at the start"
    alone = nd.predict(bent(), dgd, TRIANGLE, rounds, anchors=anchors)["outputs"].values
    plain = nd.predict(bent(), dgd, TRIANGLE, rounds)["outputs"].values
    moved = np.abs(alone[-1] - plain[-1]).max()
    assert moved > 1e-3 and np.abs(first - alone).max() < 1e-9 * moved
    assert np.abs(again - first).max() < 1e-9 * moved
    own = nd.predict(bent(), atc, PATH, rounds, anchors=anchors)["outputs"].values
    coarse = nd.predict(bent(), atc, PATH, rounds)["outputs"].values
    assert np.abs(other - own).max() < 0.2 * np.abs(coarse - own).max()
    affine = dynamics.predict_beside(
        [nd.System(straight(1), *each) for each in asked], rounds, anchors
    )[-1]
    exactly = nd.predict(straight(1), atc, PATH, rounds)["outputs"].values
    assert np.abs(affine - exactly).max() < 1e-9 < np.abs(exactly[-1] - exactly[0]).max()


def test_what_several_runs_cannot_share_is_refused(types_unchecked):
    dgd = nd.methods.dgd(step_size=0.2)
    bare = nd.KernelProblem(np.eye(3), np.ones((3, 1)), [0, 1, 2])
    for problem, anchors, said in [
        (bent(), "auto", "anchors: those that several runs share must be given as rounds"),
        (bent(), [2, 9], "anchors: round 9 is beyond the last round, 4"),
        (bare, [2], "anchors: a kernel that is given stays as it is"),
    ]:
        with pytest.raises(nd.InputError, match=said):
            dynamics.predict_beside([nd.System(problem, dgd, TRIANGLE)], [0, 4], anchors)
    for kernel, said in [("infinite", "linear for good"), ("implicit", "share kernels, and")]:
        with pytest.raises(nd.InputError, match=said):
            dynamics.predict_beside([nd.System(bent(), dgd, TRIANGLE, kernel)], [0, 4], [2])


# --- starts of their own ------------------------------------------------------------------------


def own_starts(network=None):
    return nd.Problem(network or bent().network, bent().partition, seed=[4, 5, 6])


@pytest.mark.parametrize("name", ["dgd", "diging"])
def test_each_agent_at_its_own_anchor_in_every_round_is_training(name):
    """Between agents nothing is linearized: not where they begin apart, nor where they merge."""
    save = nd.SaveOptions(parameter_rounds=[0, 6])
    asked = own_starts(), nd.methods.METHODS[name](step_size=0.2), PATH, range(7)
    real = nd.train(*asked, precision="float64", save=save)
    told = nd.predict(*asked, kernel="implicit", anchors=range(6), save=save)
    moved = np.abs(real["outputs"] - real["initial_outputs"]).max()
    assert moved > 0.5 and np.abs(told["outputs"] - real["outputs"])[:6].max() < 1e-12 * moved
    for each in ("parameters", "initial_parameters", "initial_outputs", "consensus_distance"):
        np.testing.assert_allclose(told[each], real[each], rtol=1e-10, atol=1e-12)
    assert told["initial_outputs"].dims == ("agent", "point", "output")


@pytest.mark.slow
def test_agents_that_have_merged_need_few_anchors():
    """Each round until they agree, and two more: the gap is a tenth of equally spaced ones'."""
    wide = nd.networks.mlp((64,), outputs=2, activation="erf", w_std=1.5)
    asked = own_starts(wide), nd.methods.cta(step_size=0.05), PATH, [0, 80]
    real = nd.train(*asked, precision="float64")
    alone, spaced, early, chosen = (
        float(
            nd.compare(nd.predict(*asked, kernel="implicit", anchors=each), real)["gap"][-1].max()
        )
        for each in ([0], [*range(0, 80, 6)], [*range(12), 20, 40], "auto")
    )
    assert early < 0.002 < 3 * early < spaced < 0.02 and alone > 0.2
    assert chosen < 0.004


def test_distances_between_agents_are_of_their_parameters():
    """Of a network that is trained, wherever each agent has begun."""
    save = nd.SaveOptions(parameter_rounds=[0, 3])
    real = nd.train(own_starts(), nd.methods.cta(step_size=0.1), PATH, range(0, 4, 3), save=save)
    apart = real["parameters"] - real["parameters"].mean("parameter_agent")
    wanted = np.sqrt((apart**2).sum("parameter")).values
    np.testing.assert_allclose(real["consensus_distance"], wanted, rtol=1e-5)


def test_agents_with_starts_of_their_own_are_predicted_with_anchors():
    asked = own_starts(), nd.methods.dgd(step_size=0.1), PATH, 5
    with pytest.raises(nd.InputError, match="anchors: agents with starts of their own"):
        nd.predict(*asked, kernel="implicit")
    with pytest.raises(nd.InputError, match='kernel="implicit" with anchors'):
        nd.predict(*asked, anchors=[0, 2])


@pytest.mark.slow
def test_the_demo_of_width_128_with_anchors_that_are_chosen():
    """Its gaps, a fifth of those around the start."""
    spec = experiment.demo()
    narrow = spec.network.model_copy(update={"widths": [128] * len(spec.network.widths)})
    system = experiment.Experiment(spec.model_copy(update={"network": narrow})).settled
    asked, save = (system, [0, 500]), nd.SaveOptions(parameter_rounds=[500])
    real, told = nd.train(*asked, save=save), nd.predict(*asked, anchors="auto", save=save)
    assert told.attrs["kernels_computed"] <= 12
    last = nd.compare(told, real).isel(round=-1)
    assert float(last["gap"].max()) < 0.016 and float(last["deviation_gap_of_all"]) < 0.075
    assert float(last["parameter_gap"].max()) < 0.08


@pytest.mark.parametrize(
    "via, last, own_rows_from",
    [
        pytest.param("steps", 60, 0, marks=pytest.mark.slow),
        ("chebyshev", 4000, 0),
        ("chebyshev", 4000, 10**9),
    ],
)
def test_a_large_kernel_in_single_precision_is_off_by_as_much_as_it_says(
    via, last, own_rows_from, monkeypatch
):
    """Anchors after the first one; with a tolerance all of them are in double precision."""
    system = nd.System(bent(), nd.methods.dgd(step_size=nd.of_limit(0.7)), PATH)
    save = nd.SaveOptions(parameter_rounds=[last])
    asked = {"anchors": [0, 3, 20], "save": save}
    predicted = lambda by=via: nd.predict(system, [10, last], via=by, **asked)
    double = predicted()
    monkeypatch.setattr(linearization, "SINGLE_FROM", 0)
    monkeypatch.setattr(propagators, "OWN_ROWS_FROM", own_rows_from)
    single, within = predicted(), predicted(dynamics.Scheme(via, 1e-6))
    for name in ("outputs", "parameters", "displacement", "consensus_distance"):
        size = float(np.abs(double[name]).max())
        off = float(np.abs(single[name] - double[name]).max() / size)
        assert 1e-10 < off < (1e-5 if via == "steps" else single["error_estimate"].values[-1])
        assert float(np.abs(within[name] - double[name]).max() / size) < 2e-6
    if via == "chebyshev":
        errors = [each["error_estimate"].values[-1] for each in (double, single)]
        assert errors[0] < 1e-9 and 1e-6 < errors[1] < 1e-3
