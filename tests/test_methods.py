"""Methods: linear in vectors, known answers, and the cases in which they collapse.

Because an update knows vectors only by their operations, most of this runs on NumPy arrays
(agents, parameters): no compilation, so every method meets every graph.
"""

import json
from functools import partial

import jax
import networkx as nx
import numpy as np
import pytest
import scipy.sparse
import sympy
from cases import METHODS, MIXINGS, PLAIN, TOPOLOGIES, method, quick_if
from reference import message_passing

import ntkdyn as nd
from ntkdyn import graphs
from ntkdyn.errors import InputError
from ntkdyn.kernels import infinite
from ntkdyn.precision import in_double
from ntkdyn.vectors import Vector

X = np.array([[1, 0], [0.6, 0.8], [-1, 2]])
Y = np.array([[1.0], [0.0], [-1.0]])
AFTER_TEN_STEPS = [0.9080846666376, 0.1197598867422, -0.9769098877610]


@in_double
def known_kernel():
    net = nd.networks.mlp((64,), outputs=1, w_std=2**0.5, b_std=0.0)
    return np.asarray(infinite.ntk(net.kernel, X))


LINEAR = [name for name in METHODS if name != "push_sum"]
"""push-sum divides by masses"""

WITHOUT_MOMENTUM = {
    "heavy_ball": {"beta": 0.0},
    "nesterov": {"beta": 0.0},
    "qg_gutm": {"beta": 0.0},
    "qg_dsgdm": {"beta": 0.0},
    "qg_dsgdm_n": {"beta": 0.0},
}
"""settings with which one agent alone takes plain gradient steps"""


class Quadratics:
    """Agent i has L_i(x) = mean over its points of (a . x - b)^2 / 2; eight agents, p = 3."""

    def __init__(self, agents, seed=0):
        rng = np.random.default_rng(seed)
        self.owner = np.sort(np.concatenate([np.arange(agents), rng.integers(0, agents, 9)]))
        points = len(self.owner)
        self.jacobian = rng.standard_normal((points, 1, 3))
        self.targets = rng.standard_normal((points, 1))
        self.initial = np.zeros((points, 1))
        self.agents = agents

    def rows(self, t):
        """Up to two of each agent's points, other ones in every round."""
        rng = np.random.default_rng(t)
        own = [np.flatnonzero(self.owner == i) for i in range(self.agents)]
        return [rng.permutation(each)[:2] for each in own]

    def gradient(self, points):
        def grad(x):
            J = [self.jacobian[rows, 0] for rows in points]
            triples = zip(J, x, (self.targets[rows, 0] for rows in points), strict=True)
            return np.stack([j.T @ (j @ d - b) / len(b) for j, d, b in triples])

        return grad

    def run(self, rule, mixings, rounds, watch=None, start=0.0):
        """The package's own update on NumPy arrays; `mixings(t)` is W in round t."""
        state = rule.update.init(np.zeros((self.agents, 3)) + start)
        seen = [state.x]
        for t in range(rounds):
            W = mixings(t)
            state = rule.update.step(state, self.gradient(self.rows(t)), lambda x, W=W: W @ x)
            seen.append(state.x)
            if watch is not None:
                watch(state)
        return np.stack(seen)


def weights_of(name, W):
    """t -> the matrix that the method's mixing makes of W."""
    rule = method(name, 1.0).mixing
    damped = (1 - rule.rate) * np.eye(len(W)) + rule.rate * W
    return lambda t: damped if (t + 1) % rule.every == 0 else np.eye(len(W))


@pytest.mark.parametrize("mixing", [name for name, W in MIXINGS.items() if W.agents <= 10])
@pytest.mark.parametrize("name", LINEAR)
def test_every_update_on_every_graph_is_what_agents_do_with_messages(name, mixing):
    W = MIXINGS[mixing].matrix
    problem = Quadratics(len(W))
    truth = message_passing(
        name, problem.jacobian, problem.initial, problem.targets, problem.owner, W, "mse", 0.03, 50,
        problem.rows,
    )  # fmt: skip
    seen = problem.run(method(name, 0.03), weights_of(name, W), 50)
    assert np.abs(truth[-1] - truth[0]).max() > 0.1
    assert np.abs(seen - truth).max() < 1e-12 * max(1, np.abs(truth).max())


@pytest.mark.parametrize("name", ["diging", "atc_tracking", "aug_dgm"])
@pytest.mark.parametrize("mixing", ["star", "directed_exponential"])
def test_trackers_have_the_mean_of_the_gradients(name, mixing):
    W = MIXINGS[mixing].matrix
    problem, apart = Quadratics(len(W)), []

    def watch(state):
        apart.append(np.abs(state.tracker.mean(axis=0) - state.gradient.mean(axis=0)).max())
        assert np.abs(state.tracker - state.tracker.mean(axis=0)).max() > 1e-3

    problem.run(method(name, 0.03), lambda t: W, 50, watch)
    assert max(apart) < 1e-13


@pytest.mark.parametrize("name", LINEAR)
def test_doubly_stochastic_mixing_keeps_the_mean(name):
    """With no gradient at all, the agents' mean stays where it was, wherever each started."""
    W = MIXINGS["from_edges"].matrix
    update, start = method(name, 0.1).update, np.random.default_rng(0).standard_normal((8, 3))
    state = update.init(start)
    for _ in range(20):
        state = update.step(state, lambda x: 0 * x, lambda x: W @ x)
        assert np.abs(state.x.mean(axis=0) - start.mean(axis=0)).max() < 1e-13
    assert np.abs(state.x - start).max() > 0.1 or name == "gut"


@pytest.mark.parametrize("name", LINEAR)
def test_one_agent_takes_gradient_steps(name):
    problem = Quadratics(1)
    rule = nd.methods.METHODS[name](step_size=0.1, **WITHOUT_MOMENTUM.get(name, {}))
    plain = problem.run(method("dgd", 0.1), lambda t: np.eye(1), 30)
    seen = problem.run(rule, lambda t: np.eye(1), 30)
    assert np.abs(plain[-1]).max() > 0.1
    assert np.abs(seen - plain).max() < 1e-13


COLLAPSES = {
    "no momentum, heavy ball": (nd.methods.heavy_ball(step_size=0.05, beta=0.0), "atc"),
    "no momentum, nesterov": (nd.methods.nesterov(step_size=0.05, beta=0.0), "atc"),
    "no momentum, qg_dsgdm": (nd.methods.qg_dsgdm(step_size=0.05, beta=0.0), "atc"),
    "no momentum, qg_dsgdm_n": (nd.methods.qg_dsgdm_n(step_size=0.05, beta=0.0), "atc"),
    "no tracking, gut": (nd.methods.gut(step_size=0.05, mu=0.0), "cta"),
    "no momentum, qg_gutm": (nd.methods.qg_gutm(step_size=0.05, mu=0.06, beta=0.0), "gut 0.06"),
}


@pytest.mark.parametrize("rule, plain", COLLAPSES.values(), ids=COLLAPSES)
def test_special_cases_collapse(rule, plain):
    W = MIXINGS["from_edges"].matrix
    problem = Quadratics(8)
    simple = nd.methods.gut(step_size=0.05, mu=0.06) if " " in plain else method(plain, 0.05)
    one, other = (problem.run(each, lambda t: W, 30) for each in (rule, simple))
    assert np.abs(one[-1]).max() > 0.1
    assert np.abs(one - other).max() < 1e-13


@pytest.mark.slow
def test_bias_correction_agrees_with_itself():
    """EXTRA and exact diffusion reach the common minimum from a fixed step; DGD does not."""
    W = MIXINGS["from_edges"].matrix
    problem = Quadratics(8)
    problem.rows = lambda t: [np.flatnonzero(problem.owner == i) for i in range(8)]
    share = 1 / (8 * np.bincount(problem.owner)[problem.owner])
    J, b = problem.jacobian[:, 0], problem.targets[:, 0]
    best = np.linalg.solve(J.T @ (share[:, None] * J), J.T @ (share * b))
    for name in ("extra", "exact_diffusion", "nids", "diging", "atc_tracking", "aug_dgm"):
        seen = problem.run(method(name, 0.05), weights_of(name, W), 2500)
        assert np.abs(seen[-1] - best).max() < 1e-10, name
    for name in ("dgd", "atc", "cta", "heavy_ball", "qg_dsgdm"):
        seen = problem.run(method(name, 0.05), weights_of(name, W), 2500)
        assert np.abs(seen[-1] - best).max() > 1e-2, name


@pytest.mark.parametrize("name", PLAIN)
def test_known_answers(name):
    problem = nd.KernelProblem(known_kernel(), Y, np.zeros(3, int), np.zeros((3, 1)))
    record = nd.predict(problem, method(name, 0.5), [[1.0]], rounds=10)
    assert record["round"].values.tolist() == list(range(11))
    assert np.abs(record["outputs"].values[-1, 0, :, 0] - AFTER_TEN_STEPS).max() < 1e-12


class Opaque:
    """A vector that offers +, - and multiples, and nothing else."""

    def __init__(self, terms):
        self.terms = terms

    def __add__(self, other):
        assert type(other) is Opaque
        return Opaque(self.terms + other.terms)

    def __sub__(self, other):
        assert type(other) is Opaque
        return Opaque(self.terms - other.terms)

    def __mul__(self, factor):
        assert not isinstance(factor, Opaque)
        return Opaque(factor * self.terms)

    __rmul__ = __mul__


@pytest.mark.parametrize("name", LINEAR)
def test_a_method_knows_vectors_only_by_their_operations(name):
    """Three rounds on symbols agree with three on numbers, and with what is known by hand."""
    update = method(name, 0.25).update
    weight, start = sympy.symbols("w x0")

    def after_three(x, w, times):
        state = update.init(x)
        for _ in range(3):
            state = update.step(state, lambda x: times(3, x), lambda x: times(w, x))
        return state.x

    scaled = lambda factor, x: Opaque(factor * x.terms)
    symbolic = after_three(Opaque(start), weight, scaled).terms
    number = after_three(1.25, 0.5, lambda factor, x: factor * x)
    assert abs(symbolic.subs({start: 1.25, weight: 0.5}) - number) < 1e-12
    known = {"dgd": (weight - 0.75) ** 3, "cta": (0.25 * weight) ** 3, "atc": (0.25 * weight) ** 3}
    if name in known:
        assert sympy.expand(symbolic - known[name] * start) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAIN)
def test_without_exchange_agents_are_alone(small, name):
    problem, _ = small(8)
    together = nd.predict(problem, method(name, 0.15), graphs.isolated(8), rounds=20)
    task, kernel = problem.task, problem.kernel("empirical").training
    k = task.targets.shape[1]
    for agent in range(8):
        own = np.flatnonzero(task.owner == agent)
        entries = (own[:, None] * k + np.arange(k)).reshape(-1)
        alone = nd.KernelProblem(
            kernel[np.ix_(entries, entries)], task.targets[own], 0 * own, problem.initial[own]
        )
        record = nd.predict(alone, method(name, 0.15), [[1.0]], rounds=20)
        seen = together["outputs"].values[:, agent, own]
        assert np.abs(seen[-1] - seen[0]).max() > 0.01
        assert np.abs(seen - record["outputs"].values[:, 0]).max() < 1e-12


@pytest.mark.parametrize("name", PLAIN)
def test_agents_with_equal_data_follow_the_centralized_run(small, name):
    """Three agents with a copy each of the same points, on any graph, are one agent with them."""
    problem, _ = small(8)
    kernel, targets = problem.kernel("empirical").training, problem.task.targets[:14]
    f0 = problem.initial[:14]
    one = nd.KernelProblem(kernel, targets, np.zeros(14, int), f0)
    copies = nd.KernelProblem(
        np.tile(kernel, (3, 3)),
        np.tile(targets, (3, 1)),
        np.repeat(range(3), 14),
        np.tile(f0, (3, 1)),
    )
    W = graphs.uniform(graphs.directed_ring(3))
    alone = nd.predict(one, method(name, 0.15), [[1.0]], 25)["outputs"].values[:, 0]
    together = nd.predict(copies, method(name, 0.15), W, 25)["outputs"].values
    assert np.abs(alone[-1] - alone[0]).max() > 0.1
    for agent in range(3):
        assert np.abs(together[:, agent, :14] - alone).max() < 1e-12


@pytest.mark.parametrize("name", ["atc", "cta"])
def test_averaging_everything_every_round_is_the_centralized_run(small, name):
    problem, _ = small(8)
    balanced = np.repeat(np.arange(7), 2)
    kernel, targets = problem.kernel("empirical").training, problem.task.targets[:14]
    many = nd.KernelProblem(kernel, targets, balanced, problem.initial[:14])
    one = nd.KernelProblem(kernel, targets, 0 * balanced, problem.initial[:14])
    spread = nd.predict(many, method(name, 0.15), np.full((7, 7), 1 / 7), 25)["outputs"]
    alone = nd.predict(one, method(name, 0.15), [[1.0]], 25)["outputs"].values[:, 0]
    assert np.abs(alone[-1] - alone[0]).max() > 0.1
    assert np.abs(spread.mean("agent").values - alone).max() < 1e-12


@pytest.mark.parametrize("name", METHODS)
def test_agents_with_equal_gradients_move_as_one(name):
    """On a directed graph, agents with the same data take the same steps as one of them alone."""
    W = graphs.uniform(graphs.directed_ring(3)).matrix
    one, rule = Quadratics(1), method(name, 0.05)
    if name == "push_sum":
        return
    three = Quadratics(3)
    grad = one.gradient([np.arange(len(one.owner))])
    three.gradient = lambda points: lambda x: np.concatenate([grad(each[None]) for each in x])
    one.rows = lambda t: [np.arange(len(one.owner))]
    alone = one.run(rule, lambda t: np.eye(1), 25)
    together = three.run(rule, weights_of(name, W), 25)
    assert np.abs(alone[-1]).max() > 0.1
    assert np.abs(together - alone).max() < 1e-12


SEQUENCES = {
    "one peer": graphs.one_peer_exponential(8),
    "matchings": graphs.random_matchings(TOPOLOGIES["complete"], 3, seed=0),
    "failures": graphs.link_failures(MIXINGS["torus"], 0.3, 3, seed=1),
    "directed failures": graphs.link_failures(MIXINGS["directed_ring"], 0.3, 3, seed=1),
    "given": [MIXINGS["ring"].matrix, MIXINGS["star"].matrix, MIXINGS["directed_ring"].matrix],
}


@pytest.mark.parametrize(
    "sequence", quick_if(zip(SEQUENCES, strict=True), lambda name: name != "one peer")
)
def test_graphs_that_change_are_handed_on_round_by_round(small, sequence):
    problem, jacobian = small(8)
    W = graphs.mixing(SEQUENCES[sequence])
    for name in ("dgd", "local_sgd"):
        truth = message_passing(
            name, jacobian, problem.initial, problem.task.targets, problem.task.owner, W.matrices,
            "mse", 0.05, 31,
        )  # fmt: skip
        save = nd.SaveOptions(parameter_rounds=[31], per_tensor=None)
        record = nd.predict(problem, method(name, 0.05), SEQUENCES[sequence], [31], save=save)
        moved = (record["parameters"] - record["initial_parameters"]).values[0]
        assert np.abs(moved - truth[-1]).max() < 1e-10 < np.abs(moved).max()
        assert record.attrs["stable"] == 1


def test_averaging_rate_and_period(small):
    problem, _ = small(8)
    W = MIXINGS["star"]
    run = lambda rule, weights: nd.predict(problem, rule, weights, [20])["outputs"].values
    half = run(nd.methods.damped(method("dgd", 0.15), 0.5), W)
    assert np.abs(half - run(method("dgd", 0.15), graphs.lazy(W))).max() < 1e-12
    often = run(nd.methods.periodic(method("atc", 0.15), 1), W)
    assert np.abs(often - run(method("atc", 0.15), W)).max() < 1e-12
    rare = run(nd.methods.periodic(method("atc", 0.15), 3), W)
    record = nd.predict(problem, nd.methods.periodic(method("atc", 0.15), 3), W, [20])
    assert record.method == "periodic(atc, 3)"
    assert json.loads(record.settings)["mixing"]["tau"] == 3
    rarer = nd.methods.periodic(nd.methods.local_sgd(step_size=0.15, tau=4), 6)
    assert rarer.mixing.every == 12
    both = nd.methods.damped(nd.methods.local_sgd(step_size=0.15, tau=4), 0.5)
    other = nd.methods.periodic(nd.methods.damped(method("atc", 0.15), 0.5), 4)
    assert both.settings == other.settings
    assert np.abs(rare - run(nd.methods.local_sgd(step_size=0.15, tau=3), W)).max() < 1e-12
    assert np.abs(rare - often).max() > 1e-3


@pytest.mark.parametrize(
    "rule", [partial(nd.methods.dimat, optimiser="sgd", tau=1), nd.methods.drt, nd.methods.atc]
)
def test_a_period_of_any_mixing_is_that_many_graphs_of_which_all_but_one_link_nobody(small, rule):
    problem, W, apart = small(8)[0], MIXINGS["star"].matrix, np.eye(8)
    run = lambda rule, weights: nd.predict(problem, rule, weights, [9])["outputs"].values
    rare = run(nd.methods.periodic(rule(step_size=0.1), 3), W)
    assert np.abs(rare - run(rule(step_size=0.1), [apart, apart, W])).max() < 1e-12
    assert np.abs(rare - run(rule(step_size=0.1), W)).max() > 1e-5


@pytest.mark.parametrize("mu", [0.9, 0.3])
@pytest.mark.parametrize("mixing", ["directed_ring", "ring"])
def test_gossip_of_global_update_tracking_grows_as_its_modes_say(mixing, mu):
    """With no gradient at all: on a directed ring mu = 0.9 diverges."""
    W = graphs.uniform(TOPOLOGIES[mixing]).matrix
    modes = [v for v in np.linalg.eigvals(W) if abs(v - 1) > 1e-9]
    growth = max(abs(np.roots([1, -(1 + mu) * v, mu * v])).max() for v in modes)
    rule = nd.methods.gut(step_size=0.1, mu=mu)
    state, apart = rule.update.init(np.random.default_rng(0).standard_normal((8, 3))), []
    for _ in range(70):
        state = rule.update.step(state, lambda x: 0 * x, lambda x: W @ x)
        apart.append(np.linalg.norm(state.x - state.x.mean(axis=0)))
    assert abs((apart[69] / apart[19]) ** (1 / 50) - growth) < 0.02
    assert (growth > 1.2) == (mixing == "directed_ring" and mu == 0.9)


def test_operators_are_products_with_the_weights():
    """Dense, by neighbour lists and by rounds; directed, so that W differs from its transpose."""
    few = graphs.uniform(graphs.directed_ring(5)).matrix
    many = graphs.uniform(graphs.directed_ring(nd.methods.mixing.SPARSE_FROM)).matrix
    turns = np.stack([few, few @ few])
    cases = [(few, "Dense", [few]), (many, "Sparse", [many]), (turns, "Cycle", [*turns])]
    for weights, kind, rounds in cases:
        operator = nd.methods.mixing.operator_of(weights)
        assert type(operator).__name__ == kind
        for t, W in enumerate([*rounds, rounds[0]]):
            x = np.random.default_rng(t).standard_normal((len(W), 2, 3)).astype(np.float32)
            mixed = operator.at(t)(nd.vectors.Vector(jax.numpy.asarray(x))).tree
            assert np.abs(mixed - np.tensordot(W, x, 1)).max() < 1e-5
            assert np.abs(operator.at(t).matrix() - W).max() < 1e-6


def test_push_sum_corrects_what_a_directed_graph_biases():
    """On columns that sum to one, the ratio finds the unweighted minimum that ATC misses."""
    points = np.array([[0.0], [1.0], [5.0]])
    problem = nd.KernelProblem(np.ones((3, 3)), points, [0, 1, 2])
    P = np.array([[0.8, 0.0, 0.5], [0.1, 0.5, 0.0], [0.1, 0.5, 0.5]])
    record = nd.predict(problem, method("push_sum", 0.01), P, [3000])
    assert np.abs(record["outputs"].values[-1].mean() - 2.0) < 0.02
    biased = nd.predict(problem, method("atc", 0.01), P.T, [3000])["outputs"].values.mean()
    assert abs(biased - 2) > 0.2


REFUSED = {
    "extra": ("directed_ring", r"extra: needs a symmetric mixing matrix, but entries \(0, 1\)"),
    "exact_diffusion": ("directed_exponential", "exact_diffusion: needs a symmetric mixing"),
    "nids": ("directed_ring", "nids: needs a symmetric mixing"),
    "d2": ("ring", "d2: needs eigenvalues above -1/3, but the mixing matrix has -0.3333"),
    "diging": ("uniform weights", "diging: needs a doubly stochastic mixing matrix, but column"),
    "aug_dgm": ("uniform weights", "aug_dgm: needs a doubly stochastic mixing matrix, but column"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_weights_that_a_method_is_not_made_for(small, name):
    mixing, message = REFUSED[name]
    problem, _ = small(8)
    with pytest.raises(InputError, match=message):
        nd.predict(problem, method(name, 0.1), MIXINGS[mixing], 3)


def test_other_weights_that_are_refused(small):
    problem, _ = small(8)
    with pytest.raises(InputError, match="extra: needs the same mixing matrix in every round"):
        nd.predict(problem, method("extra", 0.1), graphs.one_peer_exponential(8), 3)
    with pytest.raises(InputError, match="extra: needs eigenvalues above -1, but the mixing"):
        nd.methods.extra(step_size=0.1).check_weights(graphs.mixing([[0, 1], [1, 0]]))
    pushing = graphs.push(nx.DiGraph([(0, 1), (1, 2), (2, 0), (2, 1)]))
    assert not pushing.doubly_stochastic
    with pytest.raises(InputError, match="dgd: needs a row-stochastic mixing matrix, but row 1"):
        method("dgd", 0.1).check_weights(pushing)
    seldom = graphs.mixing([[0.1, 0.4, 0.5], [0.1, 0.5, 0.4], [0.1, 0.4, 0.5]])
    with pytest.raises(InputError, match="diging: needs a doubly .* column 0 sums to 0.3"):
        method("diging", 0.1).check_weights(seldom)
    with pytest.raises(InputError, match="push_sum: needs a column-stochastic .* column 1 sums"):
        method("push_sum", 0.1).check_weights(graphs.mixing(pushing.matrix.T))
    with pytest.raises(InputError, match="column 0 sums to 0.9; columns must sum to 1"):
        graphs.mixing([[0.5, 0.5], [0.4, 0.5]], sums="columns")
    with pytest.raises(InputError, match="push_sum: has no stability limit, as its rounds"):
        nd.step_size_limit(problem, method("push_sum", 0.1), MIXINGS["directed_ring"])


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: nd.methods.heavy_ball(step_size=0.1, beta=1.0), r"beta: must be in \[0, 1\)"),
        (lambda: nd.methods.qg_dsgdm(step_size=0.1, mu=1.5), r"mu: must be in \[0, 1\], got 1.5"),
        (lambda: nd.methods.gut(step_size=0.1, gamma=-1.0), "gamma: must be in"),
        (lambda: nd.methods.local_sgd(step_size=0.1, tau=0), "tau: must be a whole number from 1"),
        (lambda: nd.methods.damped(method("dgd", 0.1), 2.0), "gamma: must be in"),
        (lambda: nd.methods.damped(nd.methods.drt(step_size=0.1), 0.5), "drt: .* takes no gamma"),
        (lambda: nd.methods.damped(nd.methods.mhd(step_size=0.1), 0.5), "mhd: averages nothing"),
        (lambda: nd.methods.periodic(nd.methods.ccl(step_size=0.1), 2), "ccl: its gradient looks"),
        (lambda: nd.methods.heavy_ball(step_size=0.1, beta="high"), "must be a number, got 'high'"),
        (lambda: nd.methods.gut(step_size=0.1, mu=True), "must be a number, got True"),
        (lambda: nd.methods.qg_dsgdm(step_size=None), "step size: must be a number, got None"),
        (lambda: nd.methods.ccl(step_size=0.1, nesterov="yes"), "must be true or false, got 'yes'"),
        (lambda: nd.methods.drt(step_size=0.1, cap=float("nan")), "cap: must be positive and fin"),
        (lambda: nd.methods.dimat(step_size=0.1, optimiser=["adam"]), "did you mean 'adam'"),
    ],
)
@pytest.mark.usefixtures("types_unchecked")
def test_refused_settings(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("step", [0.0, -1.0, float("nan"), float("inf")])
def test_refused_step_sizes(step):
    with pytest.raises(InputError, match="step size: must be positive and finite"):
        nd.methods.dgd(step_size=step)
    with pytest.raises(InputError):
        nd.methods.dgd(step_size=nd.of_limit(step))


def test_gut_has_no_momentum_unless_it_is_asked_for():
    assert nd.methods.updates.GUT(0.1) == nd.methods.updates.GUT(0.1, beta=0.0)


@pytest.mark.parametrize("agents, sparse", [(10, False), (12, False), (13, True), (100, True)])
def test_weights_are_sparse_where_less_than_a_quarter_are_not_zero(agents, sparse):
    W = graphs.metropolis(graphs.ring(agents)).matrix
    plain = nd.methods.mixing.Plain.of(W)
    assert scipy.sparse.issparse(plain.weights) == sparse
    x = np.random.default_rng(0).standard_normal((agents, 2))
    assert np.abs(plain(Vector(x)).tree - W @ x).max() < 1e-12
