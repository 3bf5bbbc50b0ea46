"""Models from elsewhere: one start whatever the settings, what is trained, what is refused."""

import contextlib

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.example_libraries import stax

import ntkdyn as nd
from ntkdyn import networks, precision
from ntkdyn.errors import InputError
from ntkdyn.kernels.pointwise import outputs_of
from ntkdyn.problems.starts import start_of

FEATURES, OUTPUTS = (5,), 3


class Linen(nn.Module):
    """A parameter without a dtype, and running averages in evaluation or in training mode."""

    training: bool = False

    @nn.compact
    def __call__(self, x):
        weight = self.param("w", lambda key: jax.random.normal(key, (5, 4)))
        x = nn.BatchNorm(use_running_average=not self.training)(jnp.tanh(x @ weight))
        return nn.Dense(OUTPUTS)(x)


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.first, self.last = nnx.Linear(5, 4, rngs=rngs), nnx.Linear(4, OUTPUTS, rngs=rngs)
        self.norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)

    def __call__(self, x):
        return self.last(self.norm(self.first(x)))


def drawn_list(key, features):
    one, two = jax.random.split(key)
    return [jax.random.normal(one, (*features, 4)), jax.random.uniform(two, (4, OUTPUTS))]


def two_layers(params, x):
    return jnp.tanh(x @ params[0]) @ params[1]


GRAPH = nnx.split(Nnx(nnx.Rngs(0)))[0]
STAX = stax.serial(stax.Dense(4), stax.Tanh, stax.Dense(OUTPUTS))
MODELS = {
    "list": (two_layers, drawn_list, {}),
    "own key": (two_layers, lambda _, features: drawn_list(jax.random.key(7), features), {}),
    "float64": (two_layers, lambda *_: [np.full((5, 4), 0.1), np.ones((4, OUTPUTS))], {}),
    "equinox": (
        lambda model, x: jax.vmap(model)(x),
        lambda key, features: eqx.nn.MLP(*features, OUTPUTS, 4, 1, key=key),
        {},
    ),
    "linen": (Linen().apply, Linen().init, {}),
    "linen in bfloat16": (nn.Dense(3, param_dtype="bfloat16").apply, nn.Dense(3).init, {}),
    "nnx": (
        lambda state, x: nnx.merge(GRAPH, state)(x),
        lambda key, _: nnx.split(Nnx(nnx.Rngs(key)))[1],
        {"trained": nnx.Param},
    ),
    "stax": (STAX[1], lambda key, features: STAX[0](key, (-1, *features))[1], {}),
}

SETTINGS = {
    "x64": lambda: jax.enable_x64(True),
    "generator": lambda: jax.default_prng_impl("rbg"),
    "not partitionable": lambda: jax.threefry_partitionable(False),
}


@pytest.fixture(scope="module")
def partition():
    rng = np.random.default_rng(0)
    data = nd.data.Dataset(
        "normal", rng.standard_normal((8, *FEATURES)).astype("f4"), np.arange(8) % OUTPUTS,
        rng.standard_normal((2, *FEATURES)).astype("f4"), np.arange(2), OUTPUTS, "none",
    )  # fmt: skip
    return nd.data.partition(data, agents=2, seed=0)


@pytest.fixture(autouse=True)
def as_users_have_it():
    """nnx adds biases by promoting their rank."""
    with jax.numpy_rank_promotion("allow"):
        yield


@contextlib.contextmanager
def all_settings():
    with contextlib.ExitStack() as stack:
        for each in SETTINGS.values():
            stack.enter_context(each())
        yield


@pytest.mark.parametrize("name", [*MODELS, "mlp"])
def test_a_seed_means_one_start_whatever_jaxs_settings(name):
    def started():
        if name == "mlp":
            return start_of(networks.mlp((4,), outputs=OUTPUTS), 5, FEATURES)
        apply, start, more = MODELS[name]
        return start_of(networks.wrap(apply, start, OUTPUTS, **more), 5, FEATURES)

    with all_settings(), precision.double():
        first = started()
    for one, other in zip(*map(jax.tree.leaves, (first, started())), strict=True):
        assert one.dtype == other.dtype == jnp.float32 and (one == other).all()


def test_predictions_begin_where_training_does(partition):
    problem = nd.Problem(networks.wrap(two_layers, drawn_list, OUTPUTS), partition)
    with jax.enable_x64(True):
        double = problem.initial
    single = problem.network.apply(problem.start, jnp.asarray(problem.inputs))
    assert np.ptp(double) > 0.1 and double.dtype == np.float64
    assert np.abs(double - single).max() < 1e-6 * np.abs(double).max()


def test_batches_are_the_same_whatever_jaxs_settings():
    problem = nd.KernelProblem(np.eye(8), np.ones((8, 1)), np.arange(8) % 2)
    arguments = (nd.methods.dgd(step_size=0.1), nd.graphs.metropolis(nd.graphs.path(2)), 3)
    run = lambda: nd.predict(problem, *arguments, batch_size=1, batch_seed=4)
    plain = run()
    with all_settings():
        record = run()
    assert np.array_equal(record.outputs, plain.outputs) and np.ptp(plain.outputs.values) > 0.1
    assert record.attrs["random_generator"] == precision.GENERATOR


WITH_AVERAGES = Linen().init(jax.random.key(0), jnp.ones((1, 5)))


@pytest.mark.parametrize("trained", [None, {"params": True, "batch_stats": False}])
def test_running_averages_are_frozen(trained):
    net = networks.wrap(Linen().apply, Linen().init, OUTPUTS, trained=trained)
    params = net.start(jax.random.key(0), FEATURES)
    assert [leaf.shape for leaf in jax.tree.leaves(params)] == [
        leaf.shape for leaf in jax.tree.leaves(WITH_AVERAGES["params"])
    ]
    x = jnp.asarray(np.random.default_rng(1).standard_normal((6, 5)), jnp.float32)
    alone = lambda p: Linen().apply(WITH_AVERAGES | {"params": p}, x)
    rows = jax.tree.leaves(jax.jacrev(alone)(params["params"]))
    wanted = sum(
        np.einsum("nkp,mjp->nkmj", *[np.asarray(row).reshape(6, OUTPUTS, -1)] * 2) for row in rows
    )
    seen = nd.kernels.empirical.ntk(net.apply, params, x)
    assert np.abs(seen - wanted).max() < 1e-5 * np.abs(wanted).max()


BODY = {"w": np.ones((5, 4), "f4"), "b": np.full(4, 0.5, "f4")}
HEADED = {
    "all": (None, [4, 20, 12]),
    "a name": ("head", [12]),
    "names": (("head", "body/w"), [20, 12]),
    "a function": (lambda leaf: leaf.ndim == 2, [20, 12]),
    "a tree": ({"body": False, "head": True}, [12]),
}


@pytest.mark.parametrize("trained, sizes", HEADED.values(), ids=HEADED)
def test_what_is_trained_can_be_said_in_many_ways(trained, sizes):
    start = lambda key, _: {"body": BODY, "head": jax.random.normal(key, (4, OUTPUTS))}
    apply = lambda v, x: jnp.tanh(x @ v["body"]["w"] + v["body"]["b"][None]) @ v["head"]
    net = networks.wrap(apply, start, OUTPUTS, trained=trained)
    params = net.start(jax.random.key(3), FEATURES)
    assert [leaf.size for leaf in jax.tree.leaves(params)] == sizes
    x = jnp.ones((2, 5)) * jnp.array([[1.0], [-0.1]])
    assert np.allclose(net.apply(params, x), apply(start(jax.random.key(3), ()), x), atol=1e-6)


def test_what_is_frozen_must_be_the_same_for_every_seed():
    start = lambda key, _: {"body": jax.random.normal(key, (5, 4)), "head": jnp.ones((4, 3))}
    apply = lambda v, x: jnp.tanh(x @ v["body"]) @ v["head"]
    net = networks.wrap(apply, start, OUTPUTS, trained="head")
    net.start(jax.random.key(0), FEATURES)
    with pytest.raises(InputError, match="the same for every seed"):
        net.start(jax.random.key(1), FEATURES)


def test_one_output_may_have_no_axis():
    net = networks.wrap(lambda p, x: x @ p, lambda key, features: jnp.ones(features), 1)
    assert net.apply(net.start(jax.random.key(0), (3,)), jnp.ones((4, 3))).shape == (4, 1)


linear = lambda p, x: x @ p
ones = lambda key, features: jnp.ones((*features, OUTPUTS))


@pytest.mark.parametrize(
    "apply, start, more, said",
    [
        (lambda p, x: (x @ p, 1), ones, {}, "one array .*got a tuple of 2; return the outputs"),
        (lambda p, x: x @ p[:, 0], ones, {}, r"must return \(points, outputs\), got \(2,\)"),
        (lambda p, x: x @ p[:, :2], ones, {}, "`outputs` is 3, but apply returns 2 per point"),
        (lambda p, x: x @ p + 1j, ones, {}, "must return real numbers, got complex64"),
        (linear, lambda *_: jnp.ones((7, 3)), {}, r"cannot use what start returns .*\(5,\)"),
        (linear, lambda *_: np.ones((5, 3), int), {}, "must have parameters"),
        (linear, ones, {"trained": "head"}, r"`trained` \('head'\) chooses none"),
        (
            lambda p, x: x @ p["a"],
            lambda *_: {"a": jnp.ones((5, 3)), "n": jnp.arange(2)},
            {"trained": True},
            "chooses n, int32",
        ),
        (linear, lambda key, _: jax.random.normal(key), {"outputs": 0}, "wrap: outputs must be"),
    ],
)
def test_models_that_cannot_be_used_are_refused(apply, start, more, said):
    with pytest.raises(InputError, match=said):
        networks.wrap(apply, start, **{"outputs": OUTPUTS} | more).start(
            jax.random.key(0), FEATURES
        )


# --- outputs of each point by itself -------------------------------------------------------------


def dropped(p, x):
    return (x * jax.random.bernoulli(jax.random.key(0), 0.5, x.shape)) @ p


def renormalised(p, x):
    return (x - x.mean(0, keepdims=True)) @ p


DEPENDENT = {
    "dropout": (dropped, "on their order"),
    "normalisation": (renormalised, "on the others of its batch"),
    "size": (lambda p, x: x @ p / len(x), "on the others of its batch"),
    "neighbours": (lambda p, x: x @ p + 1e-2 * jnp.roll(x, 1, 0) @ p, "depend on"),
}


@pytest.mark.parametrize("name", DEPENDENT)
def test_models_that_look_at_their_batch_are_refused(name):
    apply, said = DEPENDENT[name]
    rng = np.random.default_rng(0)
    params, points = (rng.standard_normal(size).astype("f4") for size in ((5, OUTPUTS), (3, 5)))
    with pytest.raises(InputError, match=said):
        outputs_of(apply, jnp.asarray(params), points)


def test_problems_and_kernels_refuse_them(partition):
    params = np.random.default_rng(0).standard_normal((5, OUTPUTS))
    with pytest.raises(InputError, match="on their order"):
        nd.Problem(networks.wrap(dropped, lambda *_: params, OUTPUTS), partition)
    with pytest.raises(InputError, match="on their order"):
        nd.kernels.compute(
            dropped,
            params,
            partition.data.train_inputs,
            options=nd.kernels.ComputeOptions(dtype="float64"),
        )


def test_a_readout_of_zeros_and_outputs_that_cancel_hide_nothing():
    """Models are tried where their parameters are moved a little; rounding alone is allowed."""
    few = np.random.default_rng(0).standard_normal((3, 5)).astype("f4")
    zero = {"w": jnp.ones((5, 4)), "out": jnp.zeros((4, OUTPUTS))}
    with pytest.raises(InputError, match="others of its batch"):
        outputs_of(lambda p, x: renormalised(p["w"], x) @ p["out"], zero, few)
    positive = zero | {"scale": jnp.ones(4)}
    with pytest.raises(InputError, match="others of its batch"):
        outputs_of(
            lambda p, x: renormalised(p["w"], x) * jnp.log(p["scale"] + 1e-2) @ p["out"],
            positive,
            few,
        )
    twice = lambda p, x: two_layers(p[:2], x) - two_layers(p[2:], x)
    params = drawn_list(jax.random.key(0), FEATURES)
    assert outputs_of(twice, [*params, *params], few) == OUTPUTS
    rng = np.random.default_rng(1)
    wide = [jnp.asarray(rng.standard_normal(s), "f4") for s in ((4096, 512), (512, OUTPUTS))]
    many = np.random.default_rng(2).standard_normal((3, 4096)).astype("f4")
    half = lambda *both: two_layers(*jax.tree.map(lambda a: a.astype("bfloat16"), both))
    for apply in (two_layers, half):
        assert outputs_of(apply, wide, many) == OUTPUTS


def test_flax_variables_that_are_not_trained_are_refused_by_kernels():
    with pytest.raises(InputError, match="'batch_stats', not trained"):
        nd.kernels.compute(Linen().apply, WITH_AVERAGES, np.ones((2, 5)))


def test_a_network_that_overflows_is_refused_and_one_of_zeros_is_not(partition):
    net = networks.mlp((2,) * 4, outputs=OUTPUTS, w_std=1e38)
    with pytest.raises(InputError, match="empirical kernel of mlp .* is not finite in float64"):
        nd.Problem(net, partition).kernel("empirical")
    with pytest.raises(InputError, match="outputs must be finite"):
        nd.kernels.compute(net.apply, net.start(jax.random.key(0), FEATURES), np.ones((2, 5)))
    zero = networks.wrap(two_layers, lambda *_: [jnp.zeros((5, 4)), jnp.zeros((4, 3))], OUTPUTS)
    arguments = nd.methods.dgd(step_size=0.1), nd.graphs.metropolis(nd.graphs.path(2))
    assert nd.step_size_limit(nd.Problem(zero, partition), *arguments) == np.inf


# --- tokens and several arrays ------------------------------------------------------------------


def embedding(key, features):
    first, last = jax.random.split(key)
    shape = features if isinstance(features, tuple) else features.shape[1:]
    return {
        "embedding": jax.random.normal(first, (7, 12)),
        "readout": jax.random.normal(last, (12 * shape[0], 2)) / 6,
    }


def of_tokens(params, x):
    seen = jnp.tanh(params["embedding"][x])
    return seen.reshape(len(x), -1) @ params["readout"]


@pytest.mark.slow
def test_tokens_reach_the_model_as_whole_numbers():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 7, (30, 3))
    given = nd.data.read({"x": x, "y": x.sum(axis=1) % 2}, scale="none", test=6)
    network = nd.networks.wrap(of_tokens, embedding, 2, read=lambda x: x.astype(int))
    problem = nd.Problem(network, nd.data.partition(given, agents=3, seed=0))
    np.testing.assert_allclose(
        problem.initial, of_tokens(problem.start, problem.inputs.astype(int)), rtol=1e-6, atol=1e-6
    )
    rows = jax.jacrev(of_tokens)(problem.start, problem.inputs.astype(int))
    flat = [leaf.reshape(len(x), 2, -1) for leaf in jax.tree.leaves(rows)]
    jacobian = np.concatenate(flat, axis=2)
    wanted = np.einsum("nkp,mjp->nkmj", jacobian, jacobian)[:, :, :24]
    np.testing.assert_allclose(problem.empirical.whole, wanted, rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="Indexer must have integer"):
        nd.Problem(nd.networks.wrap(of_tokens, embedding, 2), problem.partition)


def test_several_arrays_reach_the_model_as_a_tree():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((12, 5)).astype("f4")
    given = nd.data.read({"x": x, "y": np.arange(12) % 2}, scale="none")
    start = lambda key, seen: {"a": jax.random.normal(key, (3, 2)), "b": jnp.ones((2, 2))}
    apply = lambda params, seen: seen["left"] @ params["a"] + seen["right"] @ params["b"]
    network = nd.networks.wrap(
        apply, start, 2, read=lambda x: {"left": x[:, :3], "right": x[:, 3:]}
    )
    problem = nd.Problem(network, nd.data.partition(given, agents=2, seed=0))
    inputs = np.float64(problem.inputs)
    assert np.allclose(problem.empirical.summed / 2, inputs @ inputs.T, rtol=1e-5)
