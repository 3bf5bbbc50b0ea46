"""Mean and covariance over what `random_k` keeps, against all outcomes and against many draws."""

import itertools
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from cases import AFFINE, dense_jacobian, method, small_problem
from test_link_noise import FAR, LOSSY, ROUNDS, drawn, mixed, scores

import ntkdyn as nd
from ntkdyn import dynamics, graphs, links, thresholds
from ntkdyn.data import Dataset, Partition
from ntkdyn.dynamics import affine
from ntkdyn.links.compression import SCHEMES, Compressed, RandomK
from ntkdyn.methods import Method, mixing, objectives, updates

STEP, SHARE, GAMMA, STD = 0.1, 0.6, 0.4, 0.2
SLOW = pytest.mark.slow


def tiny(agents, parameters):
    """(problem, J) of a network with so few parameters and two outputs, also at test points."""
    rng = np.random.default_rng(agents)
    trained, turns = 2 * agents + 1, np.asarray(rng.standard_normal((2, 4, parameters)))
    x, y = rng.standard_normal((trained + 2, 4)), rng.standard_normal((trained + 2, 2))
    data = Dataset("plain", x[:trained], y[:trained], x[trained:], y[trained:], None, "none")

    def apply(p, x):
        return jnp.stack([jnp.tanh(x @ jnp.asarray(turn, x.dtype) @ p) for turn in turns], axis=-1)

    start = lambda key, _: jnp.linspace(-0.5, 0.7, parameters)
    owner = np.minimum(np.arange(trained) // 2, agents - 1)
    problem = nd.Problem(nd.networks.wrap(apply, start, 2), Partition(data, owner, agents, "given"))
    return problem, dense_jacobian(problem)


@pytest.fixture(scope="module")
def problems():
    """agents -> a tiny problem with its J."""
    return {agents: tiny(agents, 3 if agents == 2 else 2) for agents in (2, 3)}


# --- all outcomes, message by message -------------------------------------------------------------


class Wire:
    """An exchange's messages over a compressed link; `kept` is what of each entry is sent."""

    def __init__(self, scheme, W, kept, xi, memory, due=True, late=False):
        self.scheme, self.W, self.kept, self.xi = scheme, W, kept, xi
        self.memory, self.due, self.late = [list(each) for each in memory], due, late

    def __call__(self, number, x):
        if not self.due:
            return x
        known, left, before = self.memory[number]
        off = x + self.xi[number] - known + left
        told = self.kept[number] * off
        sent = known + told
        if self.scheme == "feedback":
            self.memory[number][1] = off - told
        if self.scheme in ("difference", "choco"):
            self.memory[number][0] = sent
        self.memory[number][2] = sent
        if self.scheme == "choco":
            return x + GAMMA * (np.einsum("ij,jdc->idc", self.W, sent) - sent)
        return mixed(self.W, x, before if self.late else sent)


def dgd(z, send, g):
    return [send(0, z[0]) - STEP * g(z[0])]


def atc(z, send, g):
    return [send(0, z[0] - STEP * g(z[0]))]


def cta(z, send, g):
    here = send(0, z[0])
    return [here - STEP * g(here)]


def diging(z, send, g):
    x, y, before = z
    now = g(x)
    y = send(0, y) + now - before
    return [send(1, x) - STEP * y, y, now]


def aug_dgm(z, send, g):
    x, y, before = z
    now = g(x)
    y = send(0, y + now - before)
    return [send(1, x - STEP * y), y, now]


def twice(z, send, g):
    here = send(0, z[0])
    return [send(1, here - STEP * g(here))]


class Twice(updates.Memoryless):
    """x <- W (1 - eta g) W x: its gradients feel one exchange and go into the other."""

    def step(self, state, grad, mix):
        here = mix(state.x)
        return updates.Iterate(mix(here - self.step_size * grad(here)))


RULES = {"dgd": (dgd, 1, 1), "atc": (atc, 1, 1), "cta": (cta, 1, 1)}
RULES |= {"twice": (twice, 1, 2), "diging": (diging, 3, 2), "aug_dgm": (aug_dgm, 3, 2)}
"""the round, how many vectors it remembers, and exchanges"""


class Rounds:
    """The state's first two moments, over all that a round may keep, one outcome at a time."""

    def __init__(self, problem, J, name, scheme, factor, share=SHARE, std=0.0, late=False):
        self.rule, self.many, self.exchanges = RULES[name]
        self.problem, self.scheme, self.late, self.std = problem, scheme, late, std
        task = problem.task
        self.J, self.agents, self.parameters = J, task.agents, J.shape[2]
        self.off = problem.initial[: task.train] - task.targets[: task.train]
        self.shape = (self.agents, self.parameters)
        self.masks = []
        for kept in itertools.product([0, 1], repeat=self.exchanges * self.agents * J.shape[2]):
            chance = np.prod(np.where(kept, share, 1 - share))
            self.masks.append((chance, factor * np.reshape(kept, (self.exchanges, *self.shape, 1))))
        size = (self.many + 3 * self.exchanges) * self.agents * self.parameters
        self.second = np.zeros((size + 1, size + 1))
        self.second[-1, -1] = 1

    def gradient(self, x, bias):
        task, train = self.problem.task, self.J[: self.problem.task.train]
        felt = np.einsum("pod,pdc->poc", train, x[task.owner]) + bias * self.off[:, :, None]
        pulled = np.einsum("pod,poc->pdc", train, felt) / task.counts[task.owner][:, None, None]
        return np.stack([pulled[task.owner == i].sum(axis=0) for i in range(self.agents)])

    def map(self, W, kept, due=True):
        """(state, 1, noise) -> (state, 1)."""
        size, noises = len(self.second) - 1, self.exchanges * np.prod(self.shape)
        columns = np.eye(size + 1 + noises)
        state, bias, xi = np.split(columns, [size, size + 1])
        parts = state.reshape(-1, *self.shape, len(columns))
        z, memory = parts[: self.many], parts[self.many :].reshape(-1, 3, *parts.shape[1:])
        xi = self.std * xi.reshape(self.exchanges, *self.shape, -1)
        wire = Wire(self.scheme, W, kept, xi, memory, due, self.late)
        after = self.rule(z, wire, lambda x: self.gradient(x, bias))
        parts = [*after, *itertools.chain(*wire.memory)]
        return np.concatenate([*(each.reshape(-1, len(columns)) for each in parts), bias])

    def maps(self, outcomes, due=True):
        for (chance, W), (likely, kept) in itertools.product(outcomes, self.masks):
            yield chance * likely, self.map(W, kept, due)

    def advance(self, outcomes, due=True):
        noises = self.exchanges * np.prod(self.shape)
        before = np.pad(self.second, (0, noises))
        before[np.diag_indices(len(before))] += np.arange(len(before)) >= len(self.second)
        maps = self.maps(outcomes, due)
        self.second = sum(chance * T @ before @ T.T for chance, T in maps)

    def growth(self, outcomes):
        """The spectral radius of E A (x) A, of what is not kept as it is for good."""
        size = len(self.second) - 1
        parts = [(chance, T[:size, :size]) for chance, T in self.maps(outcomes)]
        moves = np.any([(np.eye(size) != A).any(axis=1) for _, A in parts], axis=0)
        over = sum(c * np.kron(*2 * [A[np.ix_(moves, moves)]]) for c, A in parts)
        return np.abs(np.linalg.eigvals(over)).max()

    def told(self):
        """Mean and variance of all outputs."""
        many = np.prod(self.shape)
        mean = self.second[:many, -1]
        around = (self.second[:many, :many] - np.outer(mean, mean)).reshape(2 * self.shape)
        outputs = np.einsum("pod,id->ipo", self.J, mean.reshape(self.shape))
        spread = np.einsum("pod,idie,poe->ipo", self.J, around, self.J, optimize=True)
        return self.problem.initial + outputs, spread


EVEN = np.array([[0.7, 0.3], [0.3, 0.7]])
LEANING = np.array([[0.7, 0.3], [0.4, 0.6]])
UNEVEN = np.array([[0.6, 0.3, 0.1], [0.0, 0.5, 0.5], [0.4, 0.0, 0.6]])
"""row-stochastic, and no transposes of themselves"""


def link(scheme, unbiased=False, share=SHARE):
    more = {"gamma": GAMMA} if scheme == "choco" else {}
    return links.compressed(links.random_k(share, unbiased=unbiased), scheme=scheme, **more)


def check(told, truth):
    mean, variance = truth
    assert np.abs(told["mean_outputs"].values[-1] - mean).max() < 1e-11
    assert np.abs(told["std_outputs"].values[-1] ** 2 - variance).max() < 1e-11
    assert variance.max() > 1e-5


@pytest.mark.parametrize(
    ("name", "scheme", "unbiased", "W"),
    [
        ("dgd", "plain", False, UNEVEN),
        ("dgd", "difference", True, LEANING),
        ("dgd", "feedback", False, LEANING),
        ("dgd", "choco", False, LEANING),
        ("atc", "feedback", True, UNEVEN),
        ("cta", "plain", True, LEANING),
        ("cta", "difference", False, UNEVEN),
        pytest.param("diging", "difference", False, EVEN, marks=SLOW),
        pytest.param("aug_dgm", "feedback", False, EVEN, marks=SLOW),
        pytest.param("aug_dgm", "plain", True, EVEN, marks=SLOW),
        pytest.param("aug_dgm", "choco", False, EVEN, marks=SLOW),
    ],
)
def test_mean_and_spread_are_those_of_all_that_may_be_kept(problems, name, scheme, unbiased, W):
    """Also at test points, and for the share that it is."""
    problem, J = problems[len(W)]
    over = links.over(method(name, STEP), link(scheme, unbiased))
    truth = Rounds(problem, J, name, scheme, 1 / SHARE if unbiased else 1)
    rounds = 2 if truth.exchanges == 2 else 3
    told = dynamics.link_noise(problem, over, graphs.mixing(W), [0, rounds])
    for _ in range(rounds):
        truth.advance([(1.0, W)])
    check(told, truth.told())
    assert not told["std_outputs"][0].any()


@pytest.mark.slow
def test_gradients_between_two_exchanges_feel_what_the_first_left_out():
    """On weights that change from round to round."""
    problem, J = tiny(2, 2)
    by = Method("twice", Twice(STEP), mixing.Fixed(), objectives.Local())
    told = dynamics.link_noise(problem, links.over(by, link("difference")), [EVEN, LEANING], [3])
    truth = Rounds(problem, J, "twice", "difference", 1)
    for W in (EVEN, LEANING, EVEN):
        truth.advance([(1.0, W)])
    check(told, truth.told())


@pytest.mark.parametrize(
    ("name", "before", "after", "more"),
    [
        ("dgd", (links.noisy(STD),), (), {"std": STD}),
        ("dgd", (), (links.delayed(1),), {"late": True}),
        pytest.param("cta", (), (LOSSY,), {}, marks=SLOW),
        pytest.param("dgd", (LOSSY,), (), {}, marks=SLOW),
        pytest.param("diging", (), (LOSSY,), {}, marks=SLOW),
        pytest.param("aug_dgm", (links.noisy(STD),), (), {"std": STD}, marks=SLOW),
        pytest.param("atc", (links.noisy(STD),), (LOSSY,), {"std": STD}, marks=SLOW),
        ("cta", (), (links.damped(0.4),), {}),
        ("atc", (), (links.periodic(2),), {}),
    ],
)
def test_compression_goes_with_other_links(problems, name, before, after, more):
    problem, J = problems[2]
    way = (*before, link("difference"), *after)
    truth = Rounds(problem, J, name, "difference", 1, **more)
    outcomes, alone = [(1.0, EVEN)], [(1.0, np.eye(2))]
    if LOSSY in way:
        outcomes = [(0.7, EVEN), (0.3, np.eye(2))]
    if links.damped(0.4) in way:
        outcomes = [(1.0, 0.6 * np.eye(2) + 0.4 * EVEN)]
    dues = (
        2 * [False, True] if links.periodic(2) in way else [True] * (3 if more.get("late") else 2)
    )
    over = links.over(method(name, STEP), *way)
    told = dynamics.link_noise(problem, over, graphs.mixing(EVEN), [len(dues)])
    for due in dues:
        truth.advance(outcomes if due else alone, due)
    check(told, truth.told())


GRAPHS = [graphs.metropolis(graph) for graph in (graphs.path(3), graphs.ring(3), graphs.star(3))]
GRAPHS += [graphs.lazy(GRAPHS[0]), graphs.mixing(UNEVEN), graphs.uniform(graphs.directed_ring(3))]


def any_system(seed):
    """A method over some links in some order, on a graph, that go together."""
    rng = np.random.default_rng(seed)
    while True:
        W, share = GRAPHS[rng.integers(len(GRAPHS))], rng.uniform(0.3, 0.9)
        unbiased, scheme = bool(rng.integers(2)), rng.choice(SCHEMES)
        ways = [
            links.lossy(share / 2, mutual=bool(rng.integers(2))),
            links.activated(share),
            links.noisy(share),
            links.delayed(int(rng.integers(1, 3))),
            link(str(scheme), unbiased, share),
        ]
        some = rng.permutation(len(ways))[: rng.integers(1, 4)]
        by = method(str(rng.choice(AFFINE)), 0.05)
        try:
            over = links.over(by, *(ways[each] for each in some))
            over.check_weights(W)
        except nd.InputError:
            continue
        if over.update.exchanges(3) == 1 or not any(link.changes for link in over.update.links):
            return over, W, not set(some) <= {3}


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=[] if seed == 25 else SLOW) for seed in range(30)]
)
def test_means_over_any_links_are_those_of_what_they_do_on_average(problems, seed):
    problem, _ = problems[3]
    over, W, drawn = any_system(seed)
    moments = dynamics.Moments(problem, over, W)
    told = dynamics.link_noise(problem, over, W, [0, 1, 4])
    mean = nd.predict(problem, links.expected(over), W, [0, 1, 4])["outputs"].values
    assert np.abs(told["mean_outputs"].values - mean).max() < 1e-11 * max(1, np.abs(mean).max())
    moments.advance(4)
    values = np.linalg.eigvalsh(moments.covariance[0])
    assert values[0] > -1e-12 * max(1, values[-1]) and (values[-1] > 1e-9) == drawn


@pytest.mark.slow
def test_mean_squares_over_compression_grow_by_the_spectral_radius(problems):
    """Unbiased compression of messages themselves takes smaller steps than means do."""
    problem, J = problems[2]
    for scheme, share in (("plain", 0.1), ("difference", SHARE)):
        over = links.over(method("dgd", STEP), link(scheme, unbiased=True, share=share))
        found = dynamics.Moments(problem, over, graphs.mixing(LEANING)).growth()
        truth = Rounds(problem, J, "dgd", scheme, 1 / share, share)
        assert found == pytest.approx(truth.growth([(1.0, LEANING)]), rel=1e-9)
        assert found > 1 or scheme == "difference"


@pytest.mark.slow
def test_all_that_is_kept_is_no_compression(problems):
    """Also where features are no parameters."""
    problem, J = problems[2]
    whole = links.over(method("cta", STEP), link("feedback", share=1.0))
    told = dynamics.link_noise(problem, whole, graphs.mixing(EVEN), [4])
    plain = nd.predict(problem, method("cta", STEP), graphs.mixing(EVEN), 4)["outputs"]
    assert not told["std_outputs"].any()
    assert np.abs(told["mean_outputs"].values[-1] - plain.values[-1]).max() < 1e-12
    bare = nd.KernelProblem(np.eye(3), np.ones(3), [0, 0, 1], np.zeros(3))
    assert not dynamics.link_noise(bare, whole, graphs.mixing(EVEN), [4])["std_outputs"].any()


@pytest.mark.slow
def test_compression_comes_to_rest_where_training_points_see_all(problems):
    problem, _ = problems[2]
    W = graphs.mixing(EVEN)
    for scheme in ("plain", "difference"):
        over = links.over(method("cta", 0.3), link(scheme), links.periodic(2))
        rest = dynamics.link_noise(problem, over, W, None)
        late = dynamics.link_noise(problem, over, W, [4000])
        for name in ("mean_outputs", "std_outputs", "global_loss_mean"):
            assert np.abs(rest[name].values - late[name].values).max() < 1e-8
        assert (rest["std_outputs"].max() > 1e-3) == (scheme == "plain")


class ManyCompressed(Compressed):
    """Compression of a seed that is an array."""

    seed: Any = eqx.field(default=0)


@pytest.mark.slow
@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize(
    ("name", "scheme", "unbiased"),
    [("cta", "difference", False), ("aug_dgm", "feedback", False), ("atc", "plain", True)],
)
def test_mean_and_spread_are_those_of_many_runs_on_parameters(name, scheme, unbiased):
    """Of a network with two hidden layers; other shares, or entries sent otherwise, are not."""
    problem = small_problem(3, "mse", width=4).problem
    by, W = method(name, 0.1), graphs.metropolis(graphs.ring(3))
    many = ManyCompressed(RandomK(SHARE, unbiased), scheme, 1.0)
    seen = drawn(problem, by, many, W, "tangent")

    def worst(share, unbiased):
        over = links.over(by, link(scheme, unbiased, share))
        told = dynamics.link_noise(problem, over, W, [ROUNDS])
        return max(np.abs(each).max() for each in scores(seen, told))

    assert worst(SHARE, unbiased) < FAR
    assert min(worst(SHARE - 0.1, unbiased), worst(SHARE, not unbiased)) > 2 * FAR


@pytest.mark.slow
def test_compression_without_mean_and_covariance_is_refused(problems, monkeypatch):
    problem, _ = problems[2]
    W, by = graphs.mixing(EVEN), method("dgd", STEP)
    ask = lambda over, **more: dynamics.link_noise(problem, over, W, [1], **more)
    for compressor in (links.top_k(0.2), links.quantised(2), links.sign()):
        kind = type(compressor).__name__
        with pytest.raises(nd.InputError, match=f"compressed: {kind} is not linear, so that it"):
            ask(links.over(by, links.compressed(compressor)))
    over = links.over(by, link("difference"))
    for kernel in (nd.linear.Given(problem.kernel("empirical")), "implicit", "infinite"):
        with pytest.raises(nd.InputError, match="empirical"):
            ask(over, kernel=kernel)
    bare = nd.KernelProblem(np.eye(3), np.ones(3), [0, 0, 1], np.zeros(3))
    with pytest.raises(nd.InputError, match="of single parameters, and the given kernel knows no"):
        dynamics.link_noise(bare, over, W, [1])
    with pytest.raises(nd.InputError, match="depends on another message of the same round that"):
        ask(links.over(method("aug_dgm", STEP), link("plain"), LOSSY))
    wide, slowly = tiny(2, 12)[0], links.over(method("dgd", 0.001), link("difference"))
    with pytest.raises(nd.InputError, match="or what compression leaves out of them stays, where"):
        dynamics.link_noise(wide, slowly, W, None)
    for most, said in ((20, "24 entries per output"), (40, "48 entries.*parameters, where links")):
        monkeypatch.setattr(thresholds, "COVARIANCE_UP_TO", most)
        with pytest.raises(nd.InputError, match=said):
            dynamics.link_noise(wide, slowly, W, [1])


@pytest.mark.slow
def test_what_is_mostly_zero_is_kept_without_zeros(problems, monkeypatch):
    told, W = {}, graphs.metropolis(graphs.ring(3))
    over = links.over(method("atc", STEP), LOSSY, links.noisy(STD), link("difference"))
    for below in (0, 10**6):
        monkeypatch.setattr(affine, "SPARSE_BELOW", below)
        told[below] = dynamics.link_noise(problems[3][0], over, W, [5])["std_outputs"].values
    assert np.abs(told[0] - told[10**6]).max() < 1e-13 < 0.01 < told[0].max()
