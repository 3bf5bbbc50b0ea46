"""Methods that look further than gradients: layers (DRT), features (CCL), public points (MHD)."""

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
from cases import dense_jacobian, small_data
from reference import message_passing, outputs

import ntkdyn as nd
from ntkdyn import graphs, methods, precision
from ntkdyn.data import Dataset, Partition
from ntkdyn.methods import trust
from ntkdyn.vectors import Vector

ROUNDS = 50
RING = graphs.metropolis(graphs.from_edges([(0, 1), (1, 2), (2, 3), (3, 0), (0, 2)]))
ARCS = graphs.uniform(nx.DiGraph([(0, 1), (1, 2), (2, 3), (3, 0), (0, 2), (3, 1)]))
CYCLE = graphs.uniform(graphs.ring(4))
BATCH = {"batch_size": 2, "batch_seed": 5}
OWNER = np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])


def problem_of(heads=1, public=None, width=5, seed=3):
    network = nd.networks.mlp(
        (width, width), outputs=2 * heads, activation="erf", w_std=1.5, b_std=0.3
    )
    return nd.Problem(network, Partition(small_data(), OWNER, 4, "given"), public=public, seed=seed)


@precision.in_double
def seen_by(problem):
    """Outputs and features at the start, at all points."""
    return np.asarray(problem.network.with_features(*problem._arrays()))


def rows_of(problem):
    batches = problem.task.batches(*BATCH.values())

    def rows(t):
        batch = jax.tree.map(np.asarray, batches.at(t))
        return [r[w > 0] for r, w in zip(batch.rows, batch.weights, strict=True)]

    return rows


def check_spaces(problem, method, W, truth, jacobian, initial):
    """Kernel, tangent and messages agree in outputs, parameters and distances."""
    seen_at = [0, 1, ROUNDS]
    save = nd.SaveOptions(parameter_rounds=[ROUNDS], per_tensor=None)
    seen = outputs(jacobian, initial, truth[seen_at])[..., :2]
    assert np.abs(seen[-1] - seen[0]).max() > 0.1, "nothing happened"
    for kernel in ("empirical", "implicit"):
        record = nd.predict(problem, method, W, seen_at, kernel=kernel, save=save, **BATCH)
        assert np.abs(record["outputs"].values - seen).max() < 1e-10
        moved = (record["parameters"] - record["initial_parameters"]).values[0]
        assert np.abs(moved - truth[-1]).max() < 1e-10
        assert "stable" not in record.attrs


@pytest.fixture(scope="module")
def layered():
    """A problem with its Jacobian, start and the entries of each layer."""
    problem = problem_of()
    leaves = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(problem.start)]
    ends = np.cumsum([leaf.size for leaf in leaves])
    layers = [np.arange(a, b) for a, b in zip([0, *ends[1::2]], ends[1::2], strict=False)]
    return problem, dense_jacobian(problem), np.concatenate(leaves), layers


@pytest.mark.slow
@pytest.mark.parametrize(
    "variant, normalised, W",
    [("squared", "rows", ARCS), ("squared", "symmetric", RING), ("unsquared", "rows", RING)],
)
def test_drt_in_all_spaces_is_what_agents_do_with_messages(layered, variant, normalised, W):
    problem, jacobian, origin, layers = layered
    kappa = 1e-8 if variant == "squared" else 1e-2
    method = methods.drt(
        step_size=0.05, variant=variant, normalised=normalised, kappa=kappa, cap=2.0
    )
    truth = message_passing(
        "drt", jacobian, problem.initial, problem.task.targets, OWNER, W.matrix, "mse", 0.05,
        ROUNDS, rows_of(problem), origin=origin, layers=layers, variant=variant, kappa=kappa,
        cap=2.0, symmetric=normalised == "symmetric",
    )  # fmt: skip
    check_spaces(problem, method, W, truth, jacobian, problem.initial)


@pytest.mark.parametrize("normalised", trust.NORMALISED)
@precision.in_double
def test_drt_weights_are_stochastic_and_uniform_at_consensus(layered, normalised):
    problem = layered[0]
    space, links = problem.tangent_space(), jnp.asarray(CYCLE.matrix > 0)
    for variant in trust.VARIANTS:
        rule = trust.DRT(variant, 1e-2, 3.0, normalised)
        at_rest = np.asarray(rule.weights(space, space.start(), links))
        assert np.abs(at_rest - CYCLE.matrix).max() < 1e-12
        ones = Vector(jax.tree.map(jnp.ones_like, space.start().tree))
        moved = space.start() + 3 * ones * jnp.array([1, -2, 0.5, 0])
        weights = np.asarray(rule.weights(space, moved, links))
        assert np.abs(weights.sum(axis=2) - 1).max() < 1e-12 and (weights >= 0).all()
        assert (weights[:, CYCLE.matrix == 0] == 0).all()
        assert np.abs(weights - at_rest).max() > 1e-3
        assert np.abs(weights[0] - weights[-1]).max() > 1e-3, "layers must differ"
        if normalised == "symmetric":
            assert np.abs(weights - weights.swapaxes(1, 2)).max() < 1e-14


@pytest.mark.slow
def test_drt_where_starts_differ():
    """Each linearized where it is, in every round, agents weigh one another as in training."""
    asked = problem_of(seed=[1, 2, 3, 4]), methods.drt(step_size=0.1), RING
    apart = nd.train(*asked, [0, 5], precision="float64")
    first = apart["outputs"].values[0]
    assert np.abs(first[0] - first[1]).max() > 0.1, "agents must start apart"
    told = nd.predict(*asked, [0, 5], kernel="implicit", anchors=range(6))
    np.testing.assert_allclose(told["outputs"], apart["outputs"], atol=1e-10)
    for kernel, said in (("empirical", "linearizes all agents at one"), ("implicit", "anchors: ")):
        with pytest.raises(nd.InputError, match=said):
            nd.predict(*asked, 5, kernel=kernel)


def test_drt_refusals():
    flat = nd.networks.Network(
        "flat",
        start=lambda key, features: {"a": jnp.ones((3, 2)), "b": jnp.zeros((2, 2))},
        apply=lambda params, x: x @ params["a"] @ params["b"],
        outputs=2,
        kernel=None,
    )
    problem = nd.Problem(flat, Partition(small_data(), OWNER, 4, "given"))
    with pytest.raises(nd.InputError, match="drt: layer b of agent 0 is zero at the start"):
        nd.train(problem, methods.drt(step_size=0.1), RING, 3)
    both_ways = methods.drt(step_size=0.1, normalised="symmetric")
    with pytest.raises(nd.InputError, match="agent 0 hears from 3 and 3 does not hear from 0"):
        nd.train(problem_of(), both_ways, ARCS, 3)
    with pytest.raises(nd.InputError, match='needs layers, which only the "empirical" one tells'):
        nd.predict(problem_of(), methods.drt(step_size=0.1), RING, 3, kernel="infinite")
    bare = nd.KernelProblem(np.eye(4), np.ones((4, 1)), range(4))
    with pytest.raises(nd.InputError, match="needs layers, which a bare kernel does not tell"):
        nd.predict(bare, methods.drt(step_size=0.1), RING, 3)
    for settings, message in (
        ({"variant": "cubed"}, "variant of drt"),
        ({"normalised": "row"}, "did you mean 'rows'"),
        ({"kappa": 0.0}, "kappa: must be positive"),
        ({"cap": 0.5}, "cap must be at least 1"),
    ):
        with pytest.raises(nd.InputError, match=message):
            methods.drt(step_size=0.1, **settings)


@pytest.fixture(scope="module")
def featured():
    problem = problem_of()
    return problem, dense_jacobian(problem, problem.network.with_features), seen_by(problem)


@pytest.mark.slow
def test_ccl_in_all_spaces_is_what_agents_do_with_messages(featured):
    problem, jacobian, initial = featured
    truth = message_passing(
        "ccl", jacobian, initial, problem.task.targets, OWNER, RING.matrix, "mse", 0.02, ROUNDS,
        rows_of(problem), classes=2, lambda_m=0.3, lambda_d=0.7,
    )  # fmt: skip
    method = methods.ccl(step_size=0.02, lambda_m=0.3, lambda_d=0.7)
    check_spaces(problem, method, RING, truth, jacobian, initial)


@pytest.mark.slow
def test_ccl_of_a_convolutional_network_is_what_agents_do_with_messages():
    """Its features are what is pooled, not the last layer's channels at every place."""
    rng = np.random.default_rng(0)
    inputs, labels = rng.standard_normal((16, 16)).astype(np.float32), rng.integers(0, 2, 16)
    data = Dataset("noise", inputs[:14], labels[:14], inputs[14:], labels[14:], 2, "none")
    network = nd.networks.cnn((3,), outputs=2, activation="erf", image=(4, 4, 1), strides=2)
    problem = nd.Problem(network, Partition(data, OWNER, 4, "given"), seed=3)
    jacobian = dense_jacobian(problem, network.with_features)
    truth = message_passing(
        "ccl", jacobian, seen_by(problem), problem.task.targets, OWNER, RING.matrix, "mse", 0.02,
        20, rows_of(problem), classes=2, lambda_m=0.3, lambda_d=0.7,
    )  # fmt: skip
    method = methods.ccl(step_size=0.02, lambda_m=0.3, lambda_d=0.7)
    record = nd.predict(problem, method, RING, [20], kernel="implicit", **BATCH)
    seen = outputs(jacobian, seen_by(problem), truth[[0, 20]])[..., :2]
    assert np.abs(seen[1] - seen[0]).max() > 0.1
    assert np.abs(record["outputs"].values[0] - seen[1]).max() < 1e-10


@pytest.mark.slow
def test_ccl_without_attraction_is_its_base(featured):
    """With both lambdas zero the features do not matter; each of them alone does."""
    problem = featured[0]
    run = lambda **settings: (
        nd.predict(problem, methods.ccl(step_size=0.02, **settings), RING, [20], **BATCH)[
            "outputs"
        ].values
    )
    objective = methods.objectives.Local()
    base = methods.Method(
        "ccl", methods.ccl(step_size=0.02).update, methods.mixing.Fixed(), objective
    )
    plain = nd.predict(problem, base, RING, [20], **BATCH)["outputs"].values
    assert np.abs(run(lambda_m=0.0, lambda_d=0.0) - plain).max() < 1e-12
    assert np.abs(run(lambda_m=1.0, lambda_d=0.0) - plain).max() > 1e-3
    assert np.abs(run(lambda_m=0.0, lambda_d=1.0) - plain).max() > 1e-3


def test_ccl_refusals():
    with pytest.raises(nd.InputError, match="ccl: needs a symmetric mixing matrix"):
        nd.predict(problem_of(), methods.ccl(step_size=0.1), ARCS, 3)
    with pytest.raises(nd.InputError, match="lambda_m: must be finite and not negative"):
        methods.ccl(step_size=0.1, lambda_m=-1.0)
    bare = nd.KernelProblem(np.eye(4), np.ones((4, 1)), range(4))
    with pytest.raises(nd.InputError, match="needs features, which a bare kernel does not tell"):
        nd.predict(bare, methods.ccl(step_size=0.1), RING, 3)


PUBLIC = np.random.default_rng(7).standard_normal((9, 3)).astype(np.float32)
MHD = {"aux": 2, "pool": 3, "pool_every": 4, "public_batch": 5, "teachers": 2}


@pytest.mark.slow
def test_mhd_in_all_spaces_is_what_agents_do_with_messages():
    problem = problem_of(heads=3, public=PUBLIC)
    jacobian = dense_jacobian(problem, problem.network.with_features)
    method = methods.mhd(step_size=0.01, **MHD)
    objective, links = method.objective, methods.mixing.links_of(ARCS.matrix)
    shared = slice(problem.task.train, problem.task.basis)
    truth = message_passing(
        "mhd", jacobian, seen_by(problem), problem.task.targets, OWNER, ARCS.matrix, "mse", 0.01,
        ROUNDS, rows_of(problem), classes=2, aux=2, pool=3, every=4,
        public=lambda t: np.asarray(objective._public_rows(shared, t)),
        teachers=lambda t: [(int(e), np.asarray(a)) for e, a in objective._teachers(links, t)],
    )  # fmt: skip
    check_spaces(problem, method, ARCS, truth, jacobian, seen_by(problem))


def test_mhd_teachers_are_neighbours_and_change():
    objective = methods.mhd(step_size=0.1, **MHD).objective
    links = methods.mixing.links_of(ARCS.matrix)
    found = [objective._teachers(links, t) for t in range(0, 80, 4)]
    authors = np.stack([np.asarray(a) for pairs in found for _, a in pairs])
    for agent in range(4):
        heard = set(np.flatnonzero(ARCS.matrix[agent])) - {agent}
        assert set(authors[:, agent]) == heard
    assert {int(e) for pairs in found for e, _ in pairs} == {0, 1, 2}


@pytest.mark.slow
def test_mhd_with_two_architectures_measures_every_head():
    other = nd.networks.mlp((7, 5), outputs=6, activation="relu")
    one = problem_of(heads=3, public=PUBLIC)
    mixed = nd.Problem([one.network, other] * 2, one.partition, public=PUBLIC, seed=3)
    same = nd.Problem([one.network] * 4, one.partition, public=PUBLIC, seed=3)
    method = methods.mhd(step_size=0.01, **MHD)
    alike = [nd.train(problem, method, RING, [0, 30]) for problem in (one, same)]
    assert np.abs(alike[0]["outputs"] - alike[1]["outputs"]).max() < 1e-4
    record = nd.train(mixed, method, RING, [0, 30])
    assert record["shared_accuracy"].shape == record["private_accuracy"].shape == (2, 4, 3)
    main = record["shared_accuracy"].isel(head=0)
    assert np.allclose(main, record["test_accuracy"]) and "consensus_distance" not in record
    moved = np.abs(record["outputs"][1] - record["outputs"][0]).max(("point", "output"))
    assert (moved > 1e-3).all()
    assert (record["floats_sent"].isel(round=1) == 30 * 2 * 5 * (3 * 2 + 5)).all()
    assert (record["split"] == "public").sum() == 9
    pair = [problem_of().network, nd.networks.mlp((4,), outputs=2)]
    for name in ("dgd", "dimat"):
        with pytest.raises(nd.InputError, match=f"{name}: averages parameters, which agents of"):
            nd.train(
                nd.Problem(pair * 2, one.partition), methods.METHODS[name](step_size=0.1), RING, 3
            )


def test_private_accuracy_weighs_classes_as_the_agent_has_them():
    task = problem_of().task
    answers = np.eye(2)[np.ones(len(task.labels), int)][None].repeat(4, axis=0)
    task = task._replace(heads=1)
    measured = nd.runs.measure_heads(task, answers, nd.runs.class_counts(task))
    own = np.stack([np.bincount(task.labels[:14][i == OWNER], minlength=2) for i in range(4)])
    assert np.allclose(measured["private_accuracy"][:, 0], own[:, 1] / own.sum(axis=1))
    assert np.allclose(measured["shared_accuracy"][:, 0], (task.labels[14:] == 1).mean())
    unmeasured = nd.runs.measure_heads(task, answers, np.array([[3, 1]] * 4))
    assert np.allclose(unmeasured["private_accuracy"], 1 / 4), "of all that they have"


@pytest.mark.slow
def test_mhd_with_embeddings_of_different_widths_only_without_drawing_them_together():
    one = problem_of(heads=3, public=PUBLIC)
    other = nd.networks.mlp((7, 4), outputs=6, activation="relu")
    mixed = nd.Problem([one.network, other] * 2, one.partition, public=PUBLIC, seed=3)
    with pytest.raises(nd.InputError, match="of the architectures have 5 and 4 entries"):
        nd.train(mixed, methods.mhd(step_size=0.01, **MHD), RING, [0, 12])
    method = methods.mhd(step_size=0.01, nu_emb=0.0, **MHD | {"public_batch": 50})
    record = nd.train(mixed, method, RING, [0, 12])
    assert (np.abs(record["outputs"][1] - record["outputs"][0]).max(("point", "output")) > 0).all()
    assert (record["floats_sent"].isel(round=1) == 12 * 2 * 9 * 3 * 2).all()
    with pytest.raises(nd.InputError, match="have no kernel in common"):
        nd.train(mixed, method, RING, [0, 12], save=nd.SaveOptions(kernel=True))


@pytest.mark.slow
def test_public_points_change_nothing_for_methods_that_do_not_look_at_them():
    plain, beside = problem_of(), problem_of(public=PUBLIC)
    shared = beside.task.train + np.arange(len(PUBLIC))
    for run in (
        lambda problem: nd.predict(problem, methods.dgd(step_size=0.1), RING, 20),
        lambda problem: nd.predict(problem, methods.drt(step_size=0.1), RING, 20),
        lambda problem: nd.dynamics.flow(problem, methods.dgd(step_size=0.1), RING, 20),
        lambda problem: nd.dynamics.limit(problem, methods.dgd(step_size=0.1), RING),
    ):
        here, there = (run(problem)["outputs"].values for problem in (plain, beside))
        assert np.abs(here - plain.initial).max() > 0.1, "nothing happened"
        assert np.abs(here - np.delete(there, shared, axis=-2)).max() < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["drt", "ccl", "mhd"])
def test_trust_and_kernels_of_methods_that_look_further(name):
    heads, public = (3, PUBLIC) if name == "mhd" else (1, None)
    problem, more = problem_of(heads, public), MHD if name == "mhd" else {}
    method = methods.METHODS[name](step_size=0.01, **more)
    save = nd.SaveOptions(trust=True, kernel=True, parameter_rounds=[20], per_tensor=None)
    predicted = nd.predict(problem, method, RING, [0, 20], save=save)
    observed = nd.train(problem, method, RING, [0, 20], save=save._replace(trust=False))
    assert (predicted["kernel_drift"] == 0).all() and (observed["kernel_drift"][1] > 0).all()
    first = [record["label_alignment"].values[0] for record in (predicted, observed)]
    assert np.abs(first[0] - first[1]).max() < 1e-5
    leaves, tree = jax.tree.flatten(problem.start)
    sizes = np.cumsum([leaf.size for leaf in leaves])[:-1]
    with precision.double():
        theta = jnp.split(jnp.asarray(predicted["parameters"].values[0, 0]), sizes)
        parts = [part.reshape(leaf.shape) for part, leaf in zip(theta, leaves, strict=True)]
        real = problem.network.apply(tree.unflatten(parts), jnp.asarray(problem.inputs, float))
    outputs = predicted["outputs"].values[1, 0]
    shown = np.asarray(real)[:, : outputs.shape[1]]
    if name != "mhd":
        gap = np.linalg.norm(shown - outputs) / np.linalg.norm(outputs - problem.initial)
        assert predicted["trust_gap"].values[1, 0] == pytest.approx(gap, rel=1e-6)
    assert 0 < predicted["trust_gap"].values[1, 0] < 1


def test_mhd_refusals():
    method = methods.mhd(step_size=0.1, **MHD)
    with pytest.raises(nd.InputError, match="mhd: needs public points"):
        nd.train(problem_of(heads=3), method, RING, 20)
    with pytest.raises(nd.InputError, match="needs networks with 3 heads of 2 outputs each, got 1"):
        nd.train(problem_of(public=PUBLIC), method, RING, 20)
    with pytest.raises(nd.InputError, match="pool of 3 .* longer than the history of 11 rounds"):
        nd.train(problem_of(heads=3, public=PUBLIC), method, RING, 11)
    for settings, message in (
        ({"aux": 0}, "auxiliary heads: must be a whole number from 1"),
        ({"pool": 2, "teachers": 3}, "3 teachers a round .* holds 2 checkpoints"),
        ({"nu_aux": -1.0}, "nu_aux: must be finite and not negative"),
    ):
        with pytest.raises(nd.InputError, match=message):
            methods.mhd(step_size=0.1, **settings)
    with pytest.raises(nd.InputError, match="mhd: needs the same mixing matrix in every round"):
        nd.train(
            problem_of(heads=3, public=PUBLIC), method, graphs.mixing([np.eye(4), RING.matrix]), 20
        )
    with pytest.raises(nd.InputError, match="public points: all numbers must be finite"):
        problem_of(public=PUBLIC * np.nan)
    with pytest.raises(nd.InputError, match="nobody hears from anybody"):
        nd.train(problem_of(heads=3, public=PUBLIC), method, graphs.isolated(4), 20)
    with pytest.raises(nd.InputError, match="must be no training points, but point 1 is one"):
        problem_of(public=np.concatenate([PUBLIC[:1], small_data().train_inputs[:1]]))
    with pytest.raises(nd.InputError, match=r"public points: must be \(points, 3\)"):
        problem_of(public=PUBLIC[:, :2])
    with pytest.raises(nd.InputError, match="one for each of the 4 agents, got 3"):
        problem_of(seed=[1, 2, 3])
    pair = [problem_of().network, nd.networks.mlp((4,), outputs=2)]
    team = nd.Problem(pair * 2, problem_of().partition)
    with pytest.raises(nd.InputError, match="no kernel in common"):
        nd.predict(team, methods.dgd(step_size=0.1), RING, 3)
    with pytest.raises(nd.InputError, match="has 3 outputs and the data 2 classes"):
        nd.Problem(nd.networks.mlp((4,), outputs=3), problem_of().partition)


@pytest.mark.slow
def test_floats_sent_are_links_times_what_goes_over_them():
    problem = problem_of()
    parameters, degree = problem.parameters_each, (RING.matrix > 0).sum(axis=0) - 1
    sent = lambda method: nd.train(problem, method, RING, [0, 8])["floats_sent"].values
    assert (sent(methods.dgd(step_size=0.1))[1] == 8 * degree * parameters).all()
    assert (sent(methods.diging(step_size=0.1))[1] == 16 * degree * parameters).all()
    assert (sent(methods.local_sgd(step_size=0.1, tau=3))[1] == 2 * degree * parameters).all()
    assert (sent(methods.push_sum(step_size=0.1))[1] == 8 * degree * (parameters + 1)).all()
    assert (sent(methods.ccl(step_size=0.01))[1] == 8 * degree * (parameters + 2 * 6)).all()
    once = graphs.one_peer_exponential(4)
    record = nd.train(problem, methods.dgd(step_size=0.1), once, [0, 5])
    assert (record["floats_sent"][1] == 5 * parameters).all()
    assert (record["floats_sent"][0] == 0).all()
