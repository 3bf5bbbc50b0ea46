"""DIMAT: permutations are found, change no output, and are the identity where nobody has moved."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import small_data

import ntkdyn as nd
from ntkdyn import experiment, graphs, methods, precision
from ntkdyn.data import Dataset, Partition
from ntkdyn.methods import merging
from ntkdyn.vectors import Point

PAIR = graphs.mixing([[0.5, 0.5], [0.5, 0.5]])


def mlp_problem(seed=0, activation="relu"):
    owner = np.arange(14) % 2
    network = nd.networks.mlp((16, 12), outputs=2, activation=activation)
    return nd.Problem(network, Partition(small_data(), owner, 2, "given"), seed=seed)


def residual_network():
    """Two convolutions on one residual stream, pooled: the stream's channels are shared."""
    image = lambda x: x.reshape(len(x), 4, 4, 1)
    convolve = lambda x, w: jax.lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )

    def hidden(params, inputs):
        stream = jax.nn.relu(convolve(image(inputs), params["conv_1"]))
        inner = jax.nn.relu(convolve(stream, params["inner"]) + params["inner_bias"])
        stream = jax.nn.relu(stream + convolve(inner, params["outer"]))
        flat = jnp.tanh(stream.reshape(len(inputs), -1) @ params["dense"])
        return {"inner": inner, "stream": stream, "flat": flat}

    def start(key, features):
        shapes = {
            "conv_1": (3, 3, 1, 6), "dense": (16 * 6, 9), "inner": (3, 3, 6, 8),
            "inner_bias": (1, 1, 1, 8), "outer": (3, 3, 8, 6), "readout": (9, 3),
        }  # fmt: skip
        keys = jax.random.split(key, len(shapes))
        pairs = zip(shapes.items(), keys, strict=True)
        return {name: jax.random.normal(k, shape) / 3 for (name, shape), k in pairs}

    return nd.networks.Network(
        "residual",
        start=start,
        apply=lambda params, x: hidden(params, x)["flat"] @ params["readout"],
        outputs=3,
        kernel=None,
        hidden=hidden,
        permutable={
            "inner": ((2, 3), (3, 3), (4, 2)),
            "stream": ((0, 3), (2, 2), (4, 3), (1, 0)),
            "flat": ((1, 1), (5, 0)),
        },
    )


def residual_problem(seed=0):
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((40, 16)).astype(np.float32)
    labels = rng.integers(0, 3, 40)
    data = Dataset("noise", inputs[:30], labels[:30], inputs[30:], labels[30:], 3, "none")
    return nd.Problem(residual_network(), Partition(data, np.arange(30) % 2, 2, "given"), seed=seed)


def image_problem(make, seed=0, **settings):
    """Flat inputs, read as images; biases of every size, and none."""
    network = make(outputs=3, image=(4, 4, 1), **settings)
    return nd.Problem(network, residual_problem().partition, seed=seed)


IMAGES = {
    "cnn": partial(nd.networks.cnn, (6, 5), b_std=[0.3, 0.0, 0.1]),
    "cnn flattened": partial(nd.networks.cnn, (6, 5), pool="flatten", strides=2),
    "resnet": partial(nd.networks.resnet, (4, 6), b_std=[0.2, 0.0, 0.1], strides=2),
}

# GELU: of ReLU neurons that are active at the same single point, none tells one from the other
PROBLEMS = {"mlp": partial(mlp_problem, activation="gelu"), "residual": residual_problem} | {
    kind: partial(image_problem, make) for kind, make in IMAGES.items()
}


def iteration_of(problem, method):
    plan = nd.runs.plan(problem, method, PAIR, 1)
    return nd.runs.iteration_of(plan, problem.network_space())


def disguised(problem):
    """The start, and the same network with its hidden channels in another, known order."""
    network, rng = problem.network, np.random.default_rng(3)
    seen = network.hidden(problem.start, jnp.asarray(problem.inputs))
    order = {name: rng.permutation(seen[name].shape[-1]) for name in network.permutable}
    arrays = jax.tree.map(jnp.asarray, order)
    other = merging.permuted(problem.start, arrays, network.permutable)
    pair = Point(jax.tree.map(lambda *leaves: jnp.stack(leaves), problem.start, other))
    return pair, order


@pytest.mark.slow
@pytest.mark.parametrize("kind", PROBLEMS)
def test_a_new_order_of_channels_changes_no_output(kind):
    problem = PROBLEMS[kind]()
    pair, order = disguised(problem)
    inputs = jnp.asarray(problem.inputs)
    outputs = jax.vmap(problem.network.apply, (0, None))(pair.tree, inputs)
    assert any((o != np.arange(len(o))).any() for o in order.values())
    assert np.abs(outputs[0] - outputs[1]).max() < 1e-5 < np.abs(outputs[0]).max()
    moved = [np.abs(leaf[0] - leaf[1]).max() for leaf in jax.tree.leaves(pair.tree)]
    assert max(moved) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("kind", IMAGES)
def test_hidden_layers_lead_to_the_outputs(kind):
    """The last of them are the features; every layer but the readout's bias numbers channels."""
    problem = PROBLEMS[kind]()
    network, inputs = problem.network, jnp.asarray(problem.inputs)
    hidden = network.hidden(problem.start, inputs)
    *_, features = hidden.values()
    weight, bias = problem.start["readout"]
    wanted = 2**0.5 / np.sqrt(len(weight)) * features @ weight
    wanted += network.description["b_std"][-1] * bias
    assert np.allclose(network.apply(problem.start, inputs), wanted, atol=1e-5)
    assert network.with_features(problem.start, inputs).shape == (40, 3 + len(weight))
    assert list(hidden) == [*network.permutable, "features"]


@pytest.mark.slow
@pytest.mark.parametrize("name, kind", [("dimat", "resnet"), ("ccl", "resnet"), ("dimat", "cnn")])
def test_convolutional_networks_of_a_spec_run_with_what_looks_inside(name, kind):
    spec = experiment.parse(
        f"""
        network = {{ kind = "{kind}", widths = [4], image = [8, 8, 1], strides = 4 }}
        data = {{ name = "digits", train = 12, test = 4 }}
        partition = {{ agents = 2 }}
        graph = {{ topology = "complete" }}
        method = {{ name = "{name}", step_size = 0.01 }}
        run = {{ rounds = 3, batch_size = 4 }}
        """,
        "spec",
    )
    record = experiment.Experiment(spec).train()
    moved = record["displacement"].isel(round=-1).values
    assert np.isfinite(record["outputs"]).all() and (moved > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, by, data",
    [(kind, by, "own") for kind in PROBLEMS for by in merging.BY]
    + [(kind, "activations", d) for kind in ("mlp", "residual") for d in ("neighbours", "all")],
)
def test_a_known_permutation_is_recovered_exactly(kind, by, data):
    problem = PROBLEMS[kind]()
    pair, order = disguised(problem)
    rule = merging.Merge(by, data)
    iteration = iteration_of(problem, methods.dimat(step_size=0.1, tau=1, by=by, data=data))
    found = rule.permutations(pair, jnp.asarray(PAIR.matrix, jnp.float32), iteration)
    for name, wanted in order.items():
        assert (np.asarray(found[name][1, 0]) == wanted).all(), name
        assert (np.asarray(found[name][0, 1]) == np.argsort(wanted)).all(), name
        assert (np.asarray(found[name][0, 0]) == np.arange(len(wanted))).all()
    together = rule.bind(iteration.weights, 0, iteration)(pair)
    for merged, before in zip(*map(jax.tree.leaves, (together, pair)), strict=True):
        assert np.abs(merged - before).max() < 1e-6, "each keeps its own order"


@pytest.mark.slow
def test_merging_beats_averaging_where_starts_differ():
    """After the first merge of networks trained apart, the loss is lower with neurons aligned."""
    problem = mlp_problem(seed=[1, 2])
    losses = {}
    for name, rule in {
        "merged": methods.dimat(step_size=0.01, tau=60, data="all"),
        "averaged": methods.Method(
            "averaged",
            methods.dimat(step_size=0.01, tau=60).update,
            methods.mixing.Periodic(methods.mixing.Fixed(), 60),
            methods.objectives.Local(),
        ),
    }.items():
        record = nd.train(problem, rule, PAIR, [59, 60])
        losses[name] = record["global_loss"].isel(round=1).mean().item()
    assert losses["merged"] < losses["averaged"]


@pytest.mark.slow
def test_merging_is_averaging_in_the_linear_spaces_and_near_a_common_start():
    """By weights: seven points cannot tell 256 channels apart by their activations."""
    data = small_data()
    wide = nd.networks.mlp((256, 256), outputs=2)
    problem = nd.Problem(wide, Partition(data, np.arange(14) % 2, 2, "given"))
    dimat = methods.dimat(step_size=0.05, tau=5, optimiser="momentum", by="weights")
    plain = methods.Method(
        "plain", dimat.update, methods.mixing.Periodic(methods.mixing.Fixed(), 5), dimat.objective
    )
    for run in (nd.predict, nd.train):
        one, other = (run(problem, rule, PAIR, [20])["outputs"].values for rule in (dimat, plain))
        assert np.abs(one - other).max() < 1e-5
        assert np.abs(one - problem.initial).max() > 0.1


@pytest.mark.parametrize("optimiser", ["sgd", pytest.param("momentum", marks=pytest.mark.slow)])
def test_local_optimisers_are_what_they_are_called(optimiser):
    """From a fresh start in each round they are ATC; with momentum kept, heavy ball."""
    problem = mlp_problem()
    rule = methods.updates.LocalOptimiser(0.1, optimiser, 100 if optimiser == "momentum" else 1)
    ours = methods.Method("ours", rule, methods.mixing.Fixed(), methods.objectives.Local())
    plain = methods.atc if optimiser == "sgd" else methods.heavy_ball
    runs = [nd.predict(problem, each, PAIR, [20]) for each in (ours, plain(step_size=0.1))]
    assert np.abs(runs[0]["outputs"].values - runs[1]["outputs"].values).max() < 1e-12


def test_a_restarted_optimiser_has_no_map_that_repeats():
    update = methods.updates.LocalOptimiser(0.1, "momentum", 5)
    rule = methods.Method("ours", update, methods.mixing.Fixed(), methods.objectives.Local())
    problem = nd.KernelProblem(np.eye(2), np.ones((2, 1)), [0, 1])
    with pytest.raises(nd.InputError, match="can only be stepped"):
        nd.predict(problem, rule, PAIR, [9], via="powers")


def test_channels_are_matched_along_links_alone():
    linked = np.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.25, 0.25, 0.5]])
    asked, turned = [], np.array([1, 2, 0], np.int32)
    orders = merging._for_links(linked, 3, lambda i, j: asked.append((int(i), int(j))) or turned)
    assert asked == [(0, 1), (1, 2), (2, 0), (2, 1)]
    for i, j in np.ndindex(3, 3):
        assert (orders[i, j] == (turned if (i, j) in asked else np.arange(3))).all()


def test_statistics_that_channels_are_compared_under_are_those_of_the_points():
    """Rows that only fill up have no part in them."""
    network = nd.networks.cnn((3,), outputs=2, strides=4, normalisation="batch")
    points = np.random.default_rng(0).standard_normal((7, 8, 8, 1)).astype(np.float32)
    pair = jax.vmap(lambda key: network.start(key, (8, 8, 1)))(jax.random.split(jax.random.key(0)))
    more, there = np.concatenate([points, 9 * points[:2]]), np.repeat([1.0, 0.0], [7, 2])
    filled, bare = (
        merging._correlations(
            network, pair, jnp.asarray(p), jnp.asarray(w, jnp.float32), jnp.array(0)
        )
        for p, w in ((more, there), (points, np.ones(7)))
    )
    for layer in network.permutable:
        assert np.allclose(filled[layer], bare[layer], atol=1e-5)


def test_refusals():
    with pytest.raises(nd.InputError, match="dimat: does not run in kernel space, because Adam"):
        nd.predict(mlp_problem(), methods.dimat(step_size=0.1), PAIR, 3)
    bare = nd.networks.Network(
        "bare", lambda key, f: {"w": jnp.ones((3, 2))}, lambda p, x: x @ p["w"], 2, None
    )
    problem = nd.Problem(bare, mlp_problem().partition)
    with pytest.raises(nd.InputError, match="dimat: the network does not say along which axes"):
        nd.train(problem, methods.dimat(step_size=0.1), PAIR, 3)
    with pytest.raises(nd.InputError, match="network bare: its hidden layers are not known"):
        nd.train(problem, methods.ccl(step_size=0.1), PAIR, 3)
    for settings, message in (
        ({"by": "activation"}, "did you mean 'activations'"),
        ({"data": "none"}, "data of dimat"),
        ({"optimiser": "adams"}, "did you mean 'adam'"),
        ({"tau": 0}, "tau: must be a whole number"),
    ):
        with pytest.raises(nd.InputError, match=message):
            methods.dimat(step_size=0.1, **settings)


@precision.in_double
def test_correlations_are_those_over_points_and_places():
    """Of the points that are there, each place of an image by itself."""
    rng = np.random.default_rng(0)
    seen, there = 2 + rng.standard_normal((3, 7, 2, 2, 4)), np.array([1.0, 1, 1, 0, 1, 1, 1])
    found = merging._correlation(jnp.asarray(seen), jnp.asarray(there), jnp.array(1))
    flat = seen[:, there > 0].reshape(3, -1, 4)
    for other in range(3):
        wanted = np.corrcoef(flat[1].T, flat[other].T)[:4, 4:]
        np.testing.assert_allclose(found[other], wanted, rtol=1e-12, atol=1e-12)
