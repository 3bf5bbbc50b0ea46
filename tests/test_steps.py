"""Step sizes by agent and by schedule, weight decay, given batches: against plain loops."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import MIXINGS, small_data

import ntkdyn as nd
from ntkdyn import methods
from ntkdyn.data import Partition

RING = MIXINGS["ring"]
ROUNDS = [0, 1, 3, 7, 12]
FACTORS = np.linspace(0.5, 1.5, 8)
HALVED = {3: 0.5, 8: 0.25}


def size_of(method_, eta, agent, round):
    """eta_i(t), spelled out."""
    own = FACTORS[agent] if "by_agent" in method_ else 1.0
    now = 1.0 if round < 3 else 0.5 if round < 8 else 0.25
    return eta * own * (now if "scheduled" in method_ else 1.0)


def with_steps(method_, kind):
    method_ = methods.by_agent(method_, FACTORS) if "by_agent" in kind else method_
    return methods.scheduled(method_, HALVED) if "scheduled" in kind else method_


def by_messages(small, name, kind, eta, decay=0.0, batches=None, scale=(1,) * 8, clip=np.inf):
    """Outputs (rounds, agents, points, outputs) of the linearized network, agent by agent.

    `scale` is what each agent's gradient is multiplied by. W is read entry by entry, gradients
    point by point, none of them longer than `clip`; a decay is towards the start.
    """
    problem, J = small.problem, small.jacobian
    task, f0, W = problem.task, problem.initial, RING.matrix
    x = np.zeros((8, J.shape[2]))
    m, y, g_before, seen = 0 * x, 0 * x, 0 * x, []

    def gradient(agent, at, round):
        own = np.flatnonzero(task.owner == agent) if batches is None else batches[round][agent]
        total = decay * at
        for p in own:
            one = J[p].T @ (f0[p] + J[p] @ at - task.targets[p])
            one = one * min(1.0, clip / np.linalg.norm(one))
            total = total + scale[agent] * one / len(own)
        return total

    mixed = lambda values: np.stack([sum(W[i, j] * values[j] for j in range(8)) for i in range(8)])
    for round in range(ROUNDS[-1] + 1):
        if round in ROUNDS:
            seen.append([f0 + J @ each for each in x])
        step = np.array([[size_of(kind, eta, agent, round)] for agent in range(8)])
        g = np.stack([gradient(agent, x[agent], round) for agent in range(8)])
        if name == "dgd":
            x = mixed(x) - step * g
        elif name == "atc":
            x = mixed(x - step * g)
        elif name == "heavy_ball":
            m = 0.9 * m + g
            x = mixed(x - step * m)
        elif name == "diging":
            y, g_before = mixed(y) + g - g_before, g
            x = mixed(x) - step * y
    return np.array(seen)


CASES = [
    ("dgd", "scheduled"), ("dgd", "by_agent"), ("atc", "by_agent scheduled"),
    ("heavy_ball", "scheduled"), ("diging", "by_agent"), ("diging", "scheduled"),
]  # fmt: skip


@pytest.mark.parametrize("name, kind", CASES)
def test_every_agent_and_round_has_its_step_size(small, name, kind):
    case = small(8)
    method_ = with_steps(methods.METHODS[name](step_size=0.02), kind)
    found = nd.predict(case.problem, method_, RING, ROUNDS)
    wanted = by_messages(case, name, kind, 0.02)
    np.testing.assert_allclose(found["outputs"], wanted, rtol=0, atol=1e-10)


def test_networks_are_trained_with_the_same_steps(small):
    """The implicit prediction, and that of links, step through the same code as training does."""
    problem = small(8).problem
    method_ = with_steps(methods.dgd(step_size=0.02), "by_agent scheduled")
    wanted = nd.predict(problem, method_, RING, ROUNDS)
    found = nd.predict(problem, method_, RING, ROUNDS, kernel="implicit")
    np.testing.assert_allclose(found["outputs"], wanted["outputs"], rtol=0, atol=1e-10)
    observed = nd.train(problem, method_, RING, ROUNDS)
    assert 0 < nd.compare(wanted, observed).attrs["final_gap"] < 0.2
    late = nd.links.over(methods.dgd(step_size=0.02), nd.links.delayed(2))
    outside = methods.scheduled(late, HALVED)
    inside = nd.links.over(methods.scheduled(methods.dgd(step_size=0.02), HALVED),
                           nd.links.delayed(2))  # fmt: skip
    one, other = (nd.predict(problem, each, RING, ROUNDS)["outputs"] for each in (outside, inside))
    assert (one == other).all() and np.abs(one - wanted["outputs"]).max() > 1e-3


@pytest.mark.parametrize("name, batched", [("dgd", False), ("diging", True)])
def test_the_gradient_of_every_point_is_clipped_before_the_mean(small, name, batched):
    """With weight decay around it, which is not clipped; in coefficients and in parameters."""
    case, decay = small(8), 0.5
    task, J = case.problem.task, case.jacobian
    starts = [J[p].T @ (case.problem.initial[p] - task.targets[p]) for p in range(task.train)]
    radius = float(np.median(np.linalg.norm(starts, axis=1)))
    own = [np.flatnonzero(task.owner == agent) for agent in range(8)]
    batches = [[rows[[t % len(rows)]] for rows in own] for t in range(13)] if batched else None
    method_ = methods.weight_decay(methods.METHODS[name](step_size=0.02), decay, "start")
    method_ = methods.clipped(method_, radius)
    wanted = by_messages(case, name, "", 0.02, decay, batches, clip=radius)
    for kernel in ("empirical", "implicit"):
        given = {"kernel": kernel, "batches": batches}
        found = nd.predict(case.problem, method_, RING, ROUNDS, **given)["outputs"]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10)
    free = by_messages(case, name, "", 0.02, decay, batches)
    assert np.abs(wanted - free).max() > 1e-3
    loose = methods.clipped(methods.weight_decay(methods.METHODS[name](step_size=0.02), decay,
                                                 "start"), 1e6)  # fmt: skip
    found = nd.predict(case.problem, loose, RING, ROUNDS, batches=batches)["outputs"]
    np.testing.assert_allclose(found, free, rtol=0, atol=1e-10)


def test_what_is_clipped_is_no_affine_map_and_is_said_so():
    tight = methods.clipped(DGD, 0.1)
    assert not tight.linear and tight.name == "clipped(dgd, 0.1)"
    assert tight.settings["objective"] == {"kind": "Clipped", "radius": 0.1}
    with pytest.raises(nd.InputError, match="has no limit in closed form"):
        nd.dynamics.limit(TWO, tight, HALVES)
    for radius in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(nd.InputError, match="clip: must be positive and finite"):
            methods.clipped(DGD, radius)
    with pytest.raises(nd.InputError, match="that of CrossFeature is not"):
        methods.clipped(methods.ccl(step_size=0.1), 1.0)


@pytest.mark.slow
def test_pieces_keep_their_closed_forms(small):
    problem = small(8).problem
    schedule = {300: 0.5, 2000: 0.1}
    method_ = methods.scheduled(methods.dgd(step_size=nd.of_limit(0.5)), schedule)
    rounds = [0, 200, 300, 1500, 5000]
    direct = nd.predict(problem, method_, RING, rounds, via="contour")
    assert direct["reached_by"].values.tolist() == ["start", *["contour"] * 4]
    stepped = nd.predict(problem, method_, RING, rounds, via="steps")
    np.testing.assert_allclose(direct["outputs"], stepped["outputs"], rtol=0, atol=1e-8)
    far = nd.predict(problem, method_, RING, [0, 10**9])
    assert far["error_estimate"][-1] < 1e-5
    last = methods.dgd(step_size=0.1 * direct.attrs["step_size"])
    rest = nd.dynamics.limit(problem, last, RING)
    np.testing.assert_allclose(far["outputs"][-1], rest["outputs"], rtol=0, atol=1e-4)


@pytest.mark.slow
def test_stability_is_that_of_the_largest_step_size(small):
    problem = small(8).problem
    limit = nd.step_size_limit(problem, methods.dgd(step_size=1.0), RING)
    grown = methods.scheduled(methods.dgd(step_size=nd.of_limit(0.5)), {4: 2.0, 6: 0.5})
    assert np.isclose(nd.step_size_limit(problem, grown, RING), limit / 2)
    record = nd.predict(problem, grown, RING, 3)
    assert np.isclose(record.attrs["step_size"], limit / 4) and record.attrs["stable"] == 1
    assert nd.predict(problem, grown.with_step_size(0.7 * limit), RING, 3).attrs["stable"] == 0
    doubled = methods.by_agent(methods.dgd(step_size=1.0), 2 * np.ones(8))
    assert np.isclose(nd.step_size_limit(problem, doubled, RING), limit / 2, rtol=1e-6)
    uneven = methods.by_agent(methods.dgd(step_size=1.0), FACTORS)
    own = nd.step_size_limit(problem, uneven, RING)
    below, above = (
        nd.dynamics.assess(problem, uneven.with_step_size(s * own), RING) for s in (0.99, 1.01)
    )
    assert below.stable and not above.stable


def test_weight_decay_toward_the_start(small):
    case = small(8)
    method_ = methods.weight_decay(methods.atc(step_size=0.02), 0.3, toward="start")
    wanted = by_messages(case, "atc", "", 0.02, decay=0.3)
    found = nd.predict(case.problem, method_, RING, ROUNDS)
    np.testing.assert_allclose(found["outputs"], wanted, rtol=0, atol=1e-10)
    powers = nd.predict(case.problem, method_, RING, ROUNDS, via="powers")
    np.testing.assert_allclose(powers["outputs"], wanted, rtol=0, atol=1e-8)
    # one agent alone: kernel ridge regression with r = n decay
    alone = nd.KernelProblem(np.diag([1.0, 2.0]), [1.0, 3.0], [0, 0])
    decayed = methods.weight_decay(methods.dgd(step_size=0.1), 0.25, toward="start")
    rest = nd.predict(alone, decayed, [[1.0]], 2000)["outputs"][-1, 0, :, 0]
    np.testing.assert_allclose(rest, [1 / 1.5, 2 * 3 / 2.5], rtol=1e-9)


def test_weight_decay_toward_zero_is_that_of_the_parameters(small):
    """A linear network is its own linearization: one loop with theta itself is the truth."""
    data, owner = small_data(), np.arange(14) % 4
    apply = lambda params, x: x @ params["W"]
    start = lambda key, features: {"W": jax.random.normal(key, (features[0], 2))}
    network = nd.networks.wrap(apply, start, 2)
    problem = nd.Problem(network, Partition(data, owner, 4, "given"))
    W = nd.graphs.metropolis(nd.graphs.ring(4))
    method_ = methods.weight_decay(methods.dgd(step_size=0.05), 0.2)
    x, y = data.train_inputs.astype(float), problem.task.targets[:14]
    theta = np.repeat(np.asarray(problem.start["W"], float)[None], 4, axis=0)
    for _ in range(10):
        g = np.stack([
            x[owner == i].T @ (x[owner == i] @ theta[i] - y[owner == i]) / (owner == i).sum()
            for i in range(4)
        ])  # fmt: skip
        theta = np.einsum("ij,jab->iab", W.matrix, theta) - 0.05 * (g + 0.2 * theta)
    wanted = np.concatenate([x, data.test_inputs]) @ theta
    found = nd.predict(problem, method_, W, [10], kernel="implicit")["outputs"][0]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)
    trained = nd.train(problem, method_, W, [10], precision="float64")["outputs"][0]
    np.testing.assert_allclose(trained, wanted, rtol=0, atol=1e-9)
    with pytest.raises(nd.InputError, match="does not run in kernel space, because a kernel does"):
        nd.predict(problem, method_, W, 10)


def test_batches_are_those_that_are_given(small):
    case = small(8)
    owner, rng = case.problem.task.owner, np.random.default_rng(0)
    rows = [
        [rng.choice(np.flatnonzero(owner == i), size=rng.integers(1, 4)) for i in range(8)]
        for _ in range(ROUNDS[-1])
    ]
    wanted = by_messages(case, "dgd", "", 0.02, batches=[*rows, rows[0]])
    dgd = methods.dgd(step_size=0.02)
    for kernel in ("empirical", "implicit"):
        found = nd.predict(case.problem, dgd, RING, ROUNDS, kernel=kernel, batches=rows)
        np.testing.assert_allclose(found["outputs"], wanted, rtol=0, atol=1e-10)
    observed = nd.train(case.problem, dgd, RING, ROUNDS, batches=rows)
    assert observed.attrs["batches"].startswith("listed for 12 rounds, ")
    assert "verdict" in nd.compare(found, observed).attrs
    others = nd.train(case.problem, dgd, RING, ROUNDS, batches=rows[::-1])
    with pytest.raises(nd.InputError, match="the records differ in batches"):
        nd.compare(found, others)


def test_schedules_of_the_papers():
    assert methods.warm_up(4) == {0: 0.25, 1: 0.5, 2: 0.75, 3: 1.0}
    assert methods.step_decay([30, 60], 0.1) == {0: 1.0, 30: 0.1, 60: pytest.approx(0.01)}
    found = methods.cosine(100, pieces=4)
    assert list(found) == [0, 25, 50, 75]
    assert np.allclose([*found.values()], (1 + np.cos(np.pi * np.array([1, 3, 5, 7]) / 8)) / 2)
    both = methods.scheduled(
        methods.scheduled(methods.dgd(step_size=1.0), {5: 0.5}), {3: 0.1, 7: 1}
    )
    sizes = [float(both.at(round).update.factors[0, 0]) for round in (0, 3, 4, 5, 6, 7)]
    assert np.allclose(sizes, [1, 0.1, 0.1, 0.05, 0.05, 0.5])
    traced = jax.jit(lambda round: both.at(round).update.factors[0, 0])
    assert np.allclose([traced(jnp.array(r)) for r in (0, 3, 4, 5, 6, 7)], sizes)


def test_factors_by_name_are_those_of_the_agents_that_are_called_so():
    """Whatever the order of the graph's names, with a schedule, over links and twice."""
    W = nd.graphs.mixing([[0.6, 0.4], [0.3, 0.7]])
    W = dataclasses.replace(W, names=("zoe", "ann"))
    for over in (lambda m: m, lambda m: nd.links.over(m, nd.links.delayed(1))):
        named = methods.by_agent(methods.scheduled(over(DGD), {2: 0.5}), {"ann": 0.5, "zoe": 2.0})
        named = methods.by_agent(named, {"zoe": 1.5, "ann": 1.0})
        placed = methods.by_agent(methods.scheduled(over(DGD), {2: 0.5}), [3.0, 0.5])
        one, other = (nd.predict(TWO, each, W, 5)["outputs"] for each in (named, placed))
        np.testing.assert_array_equal(one, other)
    numbered = methods.by_agent(DGD, {1: 0.5, 0: 3.0})
    placed = methods.by_agent(DGD, [3.0, 0.5])
    one, other = (nd.predict(TWO, each, W.matrix, 5)["outputs"] for each in (numbered, placed))
    np.testing.assert_array_equal(one, other)


DGD = methods.dgd(step_size=0.1)
NAMED = methods.by_agent(DGD, {"a": 1.0, "b": 2.0})
TWO = nd.KernelProblem(np.eye(2), [1.0, 2.0], [0, 1])
HALVES = [[0.5, 0.5], [0.5, 0.5]]


@pytest.mark.parametrize("link", [[], [nd.links.delayed(1)]], ids=["plain", "delayed"])
@pytest.mark.parametrize(
    "paced",
    [lambda m: methods.by_agent(m, [1e6, 1e6]), lambda m: methods.scheduled(m, {0: 1e6})],
    ids=["by agent", "scheduled"],
)
def test_factors_may_be_large_beside_a_small_step_size(paced, link):
    over = lambda method_: nd.links.over(method_, *link) if link else method_
    found = nd.predict(TWO, paced(over(methods.dgd(step_size=1e-7))), HALVES, 5)["outputs"]
    wanted = nd.predict(TWO, over(DGD), HALVES, 5)["outputs"]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


REFUSED = [
    (lambda: methods.scheduled(DGD, {}), "schedule: rounds must be ascending, at least one"),
    (lambda: methods.scheduled(DGD, [(5, 1.0), (5, 2.0)]), "schedule: rounds must be ascending"),
    (lambda: methods.scheduled(DGD, {0.5: 1.0}), "schedule: a round must be a whole number"),
    (lambda: methods.scheduled(DGD, {1: -1.0}), "schedule: factors must be positive and finite"),
    (lambda: methods.scheduled(DGD, [1, 2]), "schedule: must be pairs of a round and the factor"),
    (lambda: methods.by_agent(DGD, [1.0, np.nan]), "by_agent: factors must be positive and finite"),
    (lambda: methods.by_agent(DGD, []), "by_agent: needs one factor at least"),
    (lambda: methods.scheduled(DGD, 3), "schedule: must be pairs of a round and .*, got 3"),
    (lambda: methods.scheduled(DGD, [(np.nan, 1)]), "a round must be a whole number .*, got nan"),
    (lambda: methods.scheduled(DGD, [("a", 1.0)]), "a round must be a whole number .*, got 'a'"),
    (lambda: methods.step_decay(5), "step_decay: must be given a list of rounds, got 5"),
    (lambda: methods.weight_decay(DGD, -1.0), "weight decay: must be finite and not negative"),
    (lambda: methods.weight_decay(DGD, 0.1, "one"), "no end of weight decay is called 'one'"),
    (
        lambda: nd.predict(TWO, methods.by_agent(DGD, {"0": 1.0, "b": 2.0}), HALVES, 1),
        "has factors for 0, b, and the agents are 0, 1$",
    ),
    (lambda: methods.by_agent(DGD, {"a": 0.0}), "by_agent: factors must be positive and finite"),
    (lambda: methods.by_agent(DGD, {}), "by_agent: needs one factor at least"),
    (
        lambda: methods.by_agent(methods.by_agent(DGD, {"a": 1.0, "b": 2.0}), [1.0, 2.0]),
        "by_agent: factors by other agents' names, or by none, are there already",
    ),
    (
        lambda: NAMED.update.step(NAMED.update.init(np.zeros((2, 1))), None, None),
        "has step sizes by the names of agents",
    ),
    (
        lambda: nd.predict(TWO, methods.by_agent(DGD, [1.0, 1.0, 2.0]), HALVES, 1),
        "has step sizes for 3 agents, and the graph has 2",
    ),
    (
        lambda: nd.dynamics.limit(TWO, methods.scheduled(DGD, {3: 0.5}), HALVES),
        "has no .*limit",
    ),
    (lambda: nd.predict(TWO, DGD, HALVES, 1, batches=[[[0]]]), "round 0 must list points of each"),
    (lambda: nd.predict(TWO, DGD, HALVES, 1, batches=[0, 1]), "of each of the 2 agents, got 0"),
    (lambda: nd.predict(TWO, DGD, HALVES, 1, batches=[[[0], [0]]]), "point 0, listed for agent 1"),
    (lambda: nd.predict(TWO, DGD, HALVES, 1, batches=[[[0], [7]]]), "point 7, listed for agent 1"),
    (lambda: nd.predict(TWO, DGD, HALVES, 1, batches=[[[0], [1.5]]]), "must list numbers of po"),
    (lambda: nd.predict(TWO, DGD, HALVES, 1, batches=[[[0], []]]), "must hold at least one number"),
    (lambda: nd.predict(TWO, DGD, HALVES, 2, batches=[[[0], [1]]]), "are listed for 1 rounds, and"),
    (lambda: nd.predict(TWO, DGD, HALVES, 2, batches="all"), "batches: must be lists of points"),
    (
        lambda: nd.predict(TWO, DGD, HALVES, 1, batches=[[[0], [1]]], batch_size=1, batch_seed=0),
        "batches: go without batch_size",
    ),
]  # fmt: skip


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("make, message", REFUSED, ids=[message for _, message in REFUSED])
def test_refused(make, message):
    with pytest.raises(nd.InputError, match=message):
        make()


# --- weights of agents ----------------------------------------------------------------------------


LAMBDA = np.arange(1.0, 9.0)


@pytest.mark.parametrize("name", ["dgd", "diging"])
def test_gradients_are_weighed_by_the_agents_weights(small, name):
    """In place of eta g_i, eta m lambda_i g_i; a tracker tracks the weighted mean."""
    case = small(8)
    scale = 8 * LAMBDA / LAMBDA.sum()
    weighed = by_messages(case, name, "", 0.02, scale=scale)
    found = nd.predict(
        case.problem, methods.weighted(methods.METHODS[name](step_size=0.02), LAMBDA), RING, ROUNDS
    )
    np.testing.assert_allclose(found["outputs"], weighed, rtol=0, atol=1e-10)
    assert np.allclose(found["agent_weight"], LAMBDA / LAMBDA.sum())
    wanted = (found["agent_weight"].values * own_losses(case.problem.task, weighed[-1])).sum(axis=1)
    np.testing.assert_allclose(found["weighted_loss"][-1], wanted, rtol=1e-9)


def own_losses(task, outputs):
    """(agent, other): the loss of each agent's outputs on the points of each other."""
    each = 0.5 * ((outputs[:, : task.train] - task.targets[: task.train]) ** 2).sum(axis=2)
    columns = [each[:, task.owner == other].mean(axis=1) for other in range(task.agents)]
    return np.stack(columns, axis=1)


def test_rows_that_alone_sum_to_one_weigh_losses_by_their_perron_vector():
    """Two features, five agents on a star: DGD in tiny steps against the least of sum pi_i L_i."""
    rng = np.random.default_rng(0)
    x, y, owner = rng.standard_normal((20, 2)), rng.standard_normal(20), np.arange(20) % 5
    W = nd.graphs.uniform(nd.graphs.star(5))
    pi = W.perron
    np.testing.assert_allclose(pi @ W.matrix, pi, atol=1e-12)
    assert np.isclose(pi.sum(), 1) and pi[0] > 2 * pi[1] > 0
    problem = nd.KernelProblem(x @ x.T, y, owner)

    def rest(method_):
        record = nd.predict(problem, method_, W, [200_000])
        return record["outputs"][-1].mean("agent").values[:, 0], record

    def least(weights):
        root = np.sqrt(weights[owner] / 4)[:, None]
        return x @ np.linalg.lstsq(root * x, root[:, 0] * y, rcond=None)[0]

    dgd = methods.dgd(step_size=2e-4)
    found, record = rest(dgd)
    np.testing.assert_allclose(record["perron"], pi)
    assert np.abs(found - least(pi)).max() < 2e-3 < 0.05 < np.abs(found - least(pi**0)).max()
    evened, _ = rest(methods.weighted(dgd, 1 / pi))
    assert np.abs(evened - least(pi**0)).max() < 2e-3
    assert np.allclose(RING.perron, 1 / 8)


def test_weights_are_refused():
    with pytest.raises(nd.InputError, match="agent weights: factors must be positive and finite"):
        methods.weighted(DGD, [1.0, 0.0])
    with pytest.raises(nd.InputError, match="has weights for 3 agents, and there are 2"):
        nd.predict(TWO, methods.weighted(DGD, [1.0, 1.0, 1.0]), HALVES, 1)
