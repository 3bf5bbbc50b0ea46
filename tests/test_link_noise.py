"""Mean and covariance over what fails on links, against all outcomes and against many draws."""

import dataclasses
import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import dense_jacobian, method

import ntkdyn as nd
from ntkdyn import dynamics, graphs, links, precision, runs, thresholds
from ntkdyn.data import Dataset
from ntkdyn.dynamics import affine
from ntkdyn.links.failures import Activated, Lossy
from ntkdyn.links.noise import Noisy
from ntkdyn.methods import mixing
from ntkdyn.vectors import Point, Vector

RNG = np.random.default_rng(0)
F, Y = RNG.standard_normal((9, 4)), RNG.standard_normal((9, 2))


def points(agents):
    """(problem, owner) of two points for each agent but the last, which has three."""
    owner = np.minimum(np.arange(2 * agents + 1) // 2, agents - 1)
    rows, wanted = F[: len(owner)], Y[: len(owner)]
    return nd.KernelProblem(rows @ rows.T, wanted, owner, np.zeros_like(wanted)), owner


class Table(links.Link):
    """Messages that arrive in rounds 0, 1, ... as a table says."""

    table: Any

    def exchange(self, memory, message, onward, at):
        return onward(message._replace(arrives=self.table[at.round])), memory


def outputs(over, owner, W, rounds):
    """Outputs (agents, points, outputs) of the method's own steps on features."""
    mix = mixing.Fixed().bind(mixing.Plain(W))
    rows, wanted = F[: len(owner)], Y[: len(owner)]

    def grad(x):
        off = np.einsum("pf,pfo->po", rows, x.tree.reshape(-1, 4, 2)[owner]) - wanted
        pulls = np.einsum("pf,po->pfo", rows, off) / np.bincount(owner)[owner][:, None, None]
        own = [pulls[owner == agent].sum(axis=0).reshape(-1) for agent in range(len(W))]
        return Vector(np.stack(own))

    state = over.update.init(Point(np.zeros((len(W), 8))))
    for t in range(rounds):
        state = over.update.step(state, grad, dataclasses.replace(mix, round=t))
    return np.einsum("pf,ifo->ipo", rows, state.x.tree.reshape(-1, 4, 2))


def lost(agents, messages):
    """What arrives where these messages are lost."""
    arrives = np.ones((agents, agents))
    for to, sender in messages:
        arrives[to, sender] = 0
    return arrives


def ways(agents, kind):
    """Of all that fails by itself, what arrives then."""
    pairs, everyone = list(itertools.combinations(range(agents), 2)), range(agents)
    return {
        "mutual": [lost(agents, [(i, j), (j, i)]) for i, j in pairs],
        "one way": [lost(agents, [way]) for i, j in pairs for way in ((i, j), (j, i))],
        "asleep": [lost(agents, [w for j in everyone for w in ((i, j), (j, i))]) for i in everyone],
    }[kind]


def together(single, failed):
    """What arrives where several fail."""
    return np.prod([np.where(f, w, 1.0) for w, f in zip(single, failed, strict=True)], axis=0)


def enumerated(by, before, kind, agents, chance, W):
    """Mean and standard deviation of the outputs after two rounds, over all outcomes."""
    _, owner = points(agents)
    single, seen, weights = ways(agents, kind), [], []
    for failed in itertools.product([0, 1], repeat=2 * len(single)):
        table = [together(single, each) for each in np.reshape(failed, (2, -1))]
        seen.append(outputs(links.over(by, *before, Table(table)), owner, W, 2))
        weights.append(np.prod(np.where(failed, chance, 1 - chance)))
    mean = np.tensordot(weights, seen, 1)
    return mean, np.sqrt(np.tensordot(weights, (np.array(seen) - mean) ** 2, 1))


RING = graphs.metropolis(graphs.ring(3))
PAIR = graphs.mixing(np.array([[0.7, 0.3], [0.4, 0.6]]))


@pytest.mark.parametrize(
    ("name", "before", "kind", "W"),
    [
        pytest.param("dgd", (), "mutual", RING, marks=pytest.mark.slow),
        pytest.param("atc_tracking", (), "mutual", RING, marks=pytest.mark.slow),
        pytest.param("cta", (links.delayed(1),), "asleep", RING, marks=pytest.mark.slow),
        pytest.param("aug_dgm", (), "asleep", RING, marks=pytest.mark.slow),
        ("heavy_ball", (), "one way", PAIR),
    ],
)
def test_mean_and_spread_are_those_of_all_outcomes(name, before, kind, W):
    agents, chance, by = len(W.matrix), 0.3, method(name, 0.2)
    make = {
        "mutual": links.lossy(chance),
        "one way": links.lossy(chance, mutual=False),
        "asleep": links.activated(1 - chance),
    }
    problem, owner = points(agents)
    over = links.over(by, *before, make[kind])
    told = dynamics.link_noise(problem, over, W, [0, 2])
    mean, spread = enumerated(by, before, kind, agents, chance, W.matrix)
    assert np.abs(told["mean_outputs"][1] - mean).max() < 1e-12
    assert np.abs(told["std_outputs"][1] - spread).max() < 1e-12 < 0.01 < spread.max()
    shares = 1 / np.bincount(owner)[owner] / agents
    off = ((mean - problem.task.targets) ** 2 + spread**2).sum(axis=2) @ shares / 2
    assert np.abs(told["global_loss_mean"][1] - off).max() < 1e-12
    assert not told["std_outputs"][0].any()
    more = enumerated(by, before, kind, agents, 0.35, W.matrix)[1]
    assert np.abs(more - spread).max() > 1e-3


# --- many draws -----------------------------------------------------------------------------------

DRAWS, ROUNDS, FAR = 1000, 12, 4.8
"""|z| beyond FAR is expected once in 3,000 of tests of 192 numbers."""
SQUARE = graphs.metropolis(graphs.ring(4))


class ManyLossy(Lossy):
    """Losses of a seed that is an array."""

    seed: Any = eqx.field(default=0)


class ManyActivated(Activated):
    """Sleep of a seed that is an array."""

    seed: Any = eqx.field(default=0)


@precision.in_double
def drawn(problem, by, link, W, space="kernel"):
    """Outputs (draws, agents, points, outputs) by the real steps, in that space."""

    def run(seed):
        over = links.over(by, dataclasses.replace(link, seed=seed))
        iteration = eqx.tree_at(lambda it: it.method.update, base, over.update)
        step = lambda round, state: iteration.method.update.step(
            state, iteration.local(round, state), iteration.mix(round)
        )
        x = jax.lax.fori_loop(0, ROUNDS, step, iteration.init()).x
        return iteration.space.readout(slice(0, points))(x)[0]

    points = len(problem.initial)
    plan = runs.plan(problem, links.over(by, links.Link()), W, ROUNDS)
    base = runs.iteration_of(plan, getattr(problem, f"{space}_space")())
    return np.asarray(jax.jit(jax.vmap(run))(jnp.arange(DRAWS)))


def scores(seen, told):
    """z of all means and of all variances."""
    mean, spread = told["mean_outputs"].values[-1], told["std_outputs"].values[-1]
    off = seen - seen.mean(axis=0)
    variance, fourth = (off**2).mean(axis=0), (off**4).mean(axis=0)
    error = np.sqrt(np.maximum(fourth - variance**2, 0) / DRAWS)
    return (seen.mean(axis=0) - mean) / (spread / np.sqrt(DRAWS)), (variance - spread**2) / error


@pytest.mark.slow
@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize(
    ("name", "link", "many", "other"),
    [
        ("diging", links.lossy(0.4), ManyLossy(probability=0.4), links.lossy(0.3)),
        ("atc", links.activated(0.7), ManyActivated(probability=0.7), links.activated(0.6)),
    ],
)
def test_mean_and_spread_are_those_of_many_draws(name, link, many, other):
    problem, _ = points(4)
    by = method(name, 0.1)
    seen = drawn(problem, by, many, SQUARE)
    ask = lambda which: dynamics.link_noise(problem, links.over(by, which), SQUARE, [ROUNDS])
    means, variances = scores(seen, ask(link))
    assert means.size + variances.size == 2 * 4 * 9 * 2
    assert max(np.abs(means).max(), np.abs(variances).max()) < FAR
    means, variances = scores(seen, ask(other))
    assert max(np.abs(means).max(), np.abs(variances).max()) > 2 * FAR
    first = nd.predict(problem, links.over(by, link), SQUARE, [ROUNDS])["outputs"].values[0]
    assert np.abs(seen[0] - first).max() < 1e-12


# --- rest, growth, and both ways ------------------------------------------------------------------


def test_what_fails_on_links_comes_to_rest():
    problem, _ = points(3)
    over = links.over(method("dgd", 0.1), links.lossy(0.4), links.periodic(2))
    rest = dynamics.link_noise(problem, over, RING, None)
    late = dynamics.link_noise(problem, over, RING, [4000])
    for name in ("mean_outputs", "std_outputs", "global_loss_mean"):
        assert np.abs(rest[name].values - late[name].values).max() < 1e-9
    assert rest["std_outputs"].max() > 0.01 and rest["round"].values.tolist() == [-1]


def second_moments(W, chance, step):
    """E A (x) A of DGD over all outcomes of three links, by hand."""
    _, owner = points(3)
    hessians = [F[:7][owner == i].T @ F[:7][owner == i] / (owner == i).sum() for i in range(3)]
    still, total = np.zeros((12, 12)), 0.0
    for i, each in enumerate(hessians):
        still[4 * i : 4 * i + 4, 4 * i : 4 * i + 4] = step * each
    for failed in itertools.product([0, 1], repeat=3):
        arrives = together(ways(3, "mutual"), failed)
        heard = W * arrives * (1 - np.eye(3))
        heard += np.diag(1 - heard.sum(axis=1))
        A = np.kron(heard, np.eye(4)) - still
        total = total + np.prod(np.where(failed, chance, 1 - chance)) * np.kron(A, A)
    return total


def test_mean_squares_grow_by_the_spectral_radius_of_their_own_map():
    """Above a step size below which means still shrink."""
    problem, _ = points(3)
    found = {}
    for step in (0.1, 0.35):
        over = links.over(method("dgd", step), links.lossy(0.4))
        moments = dynamics.Moments(problem, over, RING)
        found[step] = moments.growth()
        values = np.linalg.eigvals(second_moments(RING.matrix, 0.4, step))
        assert found[step] == pytest.approx(np.abs(values).max(), rel=1e-9)
    moments.advance(1200)
    before = moments.covariance.copy()
    moments.advance(1)
    assert np.linalg.norm(moments.covariance) / np.linalg.norm(before) == pytest.approx(found[0.35])
    mean = np.abs(np.linalg.eigvals(moments._over_period[0])).max()
    assert mean**2 < found[0.35] - 1e-3
    with pytest.raises(nd.InputError, match="no rest"):
        moments.settle()


def test_parts_that_are_mostly_zero_are_kept_without_zeros(monkeypatch):
    problem, _ = points(4)
    over = links.over(method("diging", 0.1), links.lossy(0.3))
    told = {}
    for below in (0, 10**6):
        monkeypatch.setattr(affine, "SPARSE_BELOW", below)
        told[below] = dynamics.link_noise(problem, over, SQUARE, [5])["std_outputs"].values
    assert np.abs(told[0] - told[10**6]).max() < 1e-13 < 0.01 < told[0].max()


def test_what_fails_is_what_is_drawn():
    """Shares of messages that arrive, and of pairs of them that arrive together."""
    at = lambda t: links.Exchange(mixing.Combination(None, round=t), 0, "rows")
    for link in (links.lossy(0.3), links.lossy(0.3, mutual=False), links.activated(0.6)):
        arriving = lambda t, link=link: link.arriving(at(t).key(link.seed, exchange=False), 3)
        seen = np.asarray(jax.vmap(arriving)(jnp.arange(4000)))[:, ~np.eye(3, dtype=bool)]
        failures = link.failures(3)
        left = failures.arrives[:, ~np.eye(3, dtype=bool)]
        both = left[:, :, None] * left[:, None, :]
        sure = (1 - failures.chances)[:, None, None]
        told = np.where(both > 0, 1.0, sure).prod(axis=0)
        assert np.allclose(np.diagonal(told), link.share())
        found = (seen[:, :, None] * seen[:, None, :]).mean(axis=0)
        assert (np.abs(found - told) < 4.5 * np.sqrt(told * (1 - told) / 4000)).all()


@pytest.mark.slow
def test_links_without_mean_and_covariance_are_refused(monkeypatch):
    problem, _ = points(3)
    by = method("dgd", 0.1)
    for link, said in [
        (links.compressed(links.top_k(0.2)), "compressed: TopK is not linear, so that it has no"),
        (links.compressed(links.random_k(0.2)), "those of single parameters, and the given ker"),
        (links.noisy(0.1, clip=1.0), "noisy: has no mean.*with clip it is not linear"),
        (links.adversarial([1], attack="noise"), "adversarial: has no mean"),
        (links.robust("median"), "robust: has no mean.*compares single parameters"),
    ]:
        with pytest.raises(nd.InputError, match=said):
            dynamics.link_noise(problem, links.over(by, link), RING, [1])
    with pytest.raises(nd.InputError, match="dgd: has no links, so that nothing fails"):
        dynamics.link_noise(problem, by, RING, [1])
    beside = {"K_test": np.ones((1, 3)), "y_test": [1.0]}
    tested = nd.KernelProblem(np.eye(3), np.ones(3), [0, 1, 2], **beside)
    with pytest.raises(nd.InputError, match="test points have with themselves"):
        dynamics.link_noise(tested, links.over(by, NOISY), RING, [1])
    late = links.over(by, links.delayed(1))
    assert not dynamics.link_noise(problem, late, RING, [3])["std_outputs"].any()
    lossy = links.over(by, links.lossy(0.3))
    drawn = nd.System(problem, lossy, RING, batch_size=1, batch_seed=0)
    with pytest.raises(nd.InputError, match="all points per round"):
        dynamics.link_noise(drawn, [1])
    monkeypatch.setattr(thresholds, "OUTCOMES_UP_TO", 3)
    with pytest.raises(nd.InputError, match="3 failures, of which up to 1 meet.*take 4 rounds"):
        dynamics.link_noise(problem, lossy, RING, [1])


# --- noise on messages ----------------------------------------------------------------------------

PARAMETERS, STEP, STD = 40, 0.05, 0.3
TURNS = RNG.standard_normal((2, 30, PARAMETERS)) / 12


@pytest.fixture(scope="module")
def coupled():
    """A model that is linear in parameters its two outputs share, and J at its points."""
    rng = np.random.default_rng(5)
    inputs, targets = rng.standard_normal((10, 30)), rng.standard_normal((10, 2))
    data = Dataset("plain", inputs[:7], targets[:7], inputs[7:], targets[7:], None, "none")
    apply = lambda p, x: jnp.stack([x @ jnp.asarray(turn, x.dtype) @ p for turn in TURNS], axis=-1)
    model = nd.networks.wrap(apply, lambda key, _: jnp.zeros(PARAMETERS), 2)
    partition = nd.data.Partition(data, np.array([0, 0, 1, 1, 2, 2, 2]), 3, "given")
    problem = nd.Problem(model, partition)
    return problem, dense_jacobian(problem)


def gradients(problem, J):
    """x (agents, parameters, columns), bias -> every agent's gradient; bias 0 leaves e out."""
    task, train = problem.task, J[:7]
    shares = task.counts[task.owner]
    off = problem.initial[:7] - task.targets[:7]

    def g(x, bias):
        felt = np.einsum("pod,pdc->poc", train, x[task.owner]) + bias * off[:, :, None]
        pulled = np.einsum("pod,poc->pdc", train, felt) / shares[:, None, None]
        return np.stack([pulled[task.owner == i].sum(axis=0) for i in range(3)])

    return g


def mixed(W, own, sent):
    """W_ii of an agent's own and W_ij of what others send."""
    rest = W - np.diag(np.diag(W))
    return np.diag(W)[:, None, None] * own + np.einsum("ij,jdc->idc", rest, sent)


def dgd(W, xi, z, g):
    return [mixed(W, z[0], z[0] + xi[0]) - STEP * g(z[0])]


def atc(W, xi, z, g):
    here = z[0] - STEP * g(z[0])
    return [mixed(W, here, here + xi[0])]


def cta(W, xi, z, g):
    here = mixed(W, z[0], z[0] + xi[0])
    return [here - STEP * g(here)]


def diging(W, xi, z, g):
    x, y, before = z
    now = g(x)
    y = mixed(W, y, y + xi[0]) + now - before
    return [mixed(W, x, x + xi[1]) - STEP * y, y, now]


def aug_dgm(W, xi, z, g):
    x, y, before = z
    now = g(x)
    here = y + now - before
    y = mixed(W, here, here + xi[0])
    x = x - STEP * y
    return [mixed(W, x, x + xi[1]), y, now]


def sent_late(W, xi, z, g):
    """DGD: noise, then a delay."""
    return [mixed(W, z[0], z[1]) - STEP * g(z[0]), z[0] + xi[0]]


def late_sent(W, xi, z, g):
    """DGD: a delay, then noise."""
    return [mixed(W, z[0], z[1] + xi[0]) - STEP * g(z[0]), z[0]]


def by_hand(problem, J, rule, many, exchanges, weights, std=STD):
    """Mean and standard deviation of all outputs after rounds of [(probability, W), ...]."""
    g, states = gradients(problem, J), many * 3 * PARAMETERS
    noises = exchanges * 3 * PARAMETERS

    def stepped(W, z, xi, bias):
        z = z.reshape(many, 3, PARAMETERS, -1)
        xi = xi.reshape(exchanges, 3, PARAMETERS, -1)
        return np.concatenate(rule(W, xi, z, lambda x: g(x, bias))).reshape(states, -1)

    none = lambda rows, columns: np.zeros((rows, columns))
    mean, second = none(states, 1), none(states, states)
    for outcomes in weights:
        after, moment = 0.0, 0.0
        for chance, W in outcomes:
            A = stepped(W, np.eye(states), none(noises, states), 0)
            b = stepped(W, none(states, 1), none(noises, 1), 1)
            B = std * stepped(W, none(states, noises), np.eye(noises), 0)
            crossed = A @ mean @ b.T
            moment += chance * (A @ second @ A.T + crossed + crossed.T + b @ b.T + B @ B.T)
            after += chance * (A @ mean + b)
        mean, second = after, moment
    x = mean[: 3 * PARAMETERS].reshape(3, PARAMETERS)
    around = (second - mean @ mean.T)[: 3 * PARAMETERS, : 3 * PARAMETERS]
    around = around.reshape(3, PARAMETERS, 3, PARAMETERS)
    spread = np.einsum("pod,idie,poe->ipo", J, around, J, optimize=True)
    return problem.initial + np.einsum("pod,id->ipo", J, x), np.sqrt(spread)


SURE = [(1.0, RING.matrix)]
UNEVEN = np.array([[0.6, 0.3, 0.1], [0.0, 0.5, 0.5], [0.4, 0.0, 0.6]])
"""row-stochastic, and no transpose of itself"""


def losing(W, chance):
    """All outcomes of three links that fail in both directions."""
    found = []
    for failed in itertools.product([0, 1], repeat=3):
        heard = W * together(ways(3, "mutual"), failed) * (1 - np.eye(3))
        heard += np.diag(1 - heard.sum(axis=1))
        found.append((np.prod(np.where(failed, chance, 1 - chance)), heard))
    return found


NOISY, LOSSY = links.noisy(STD), links.lossy(0.3)
APART = [(1.0, np.eye(3))]
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "way", "rule", "many", "exchanges", "weights"),
    [
        ("dgd", (NOISY,), dgd, 1, 1, [(1.0, UNEVEN)]),
        pytest.param("atc", (NOISY,), atc, 1, 1, SURE, marks=SLOW),
        pytest.param("cta", (NOISY,), cta, 1, 1, SURE, marks=SLOW),
        pytest.param("diging", (NOISY,), diging, 3, 2, SURE, marks=SLOW),
        ("dgd", (NOISY, links.delayed(1)), sent_late, 2, 1, SURE),
        pytest.param("dgd", (links.delayed(1), NOISY), late_sent, 2, 1, SURE, marks=SLOW),
        ("dgd", (NOISY, links.periodic(2)), dgd, 1, 1, None),
        ("dgd", (links.noisy(0.4 * STD), links.noisy(0.84**0.5 * STD)), dgd, 1, 1, SURE),
        ("cta", (NOISY, LOSSY), cta, 1, 1, losing(RING.matrix, 0.3)),
        ("aug_dgm", (LOSSY, NOISY), aug_dgm, 3, 2, losing(RING.matrix, 0.3)),
    ],
)
def test_noise_on_messages_is_that_of_all_parameters(
    coupled, name, way, rule, many, exchanges, weights
):
    """Also at test points, three of which no training point spans."""
    problem, J = coupled
    W = graphs.mixing(weights[0][1]) if weights and len(weights) == 1 else RING
    rounds = 3 * [weights] if weights else [APART, SURE, APART, SURE]
    told = dynamics.link_noise(problem, links.over(method(name, STEP), *way), W, [len(rounds)])
    mean, spread = by_hand(problem, J, rule, many, exchanges, rounds)
    assert np.abs(told["mean_outputs"].values[0] - mean).max() < 1e-10
    assert np.abs(told["std_outputs"].values[0] ** 2 - spread**2).max() < 1e-10 < 0.1 < spread.max()
    less = by_hand(problem, J, rule, many, exchanges, rounds, 0.99 * STD)[1]
    assert np.abs(less - spread).max() > 1e-3


class ManyNoisy(Noisy):
    """Noise of a seed that is an array."""

    seed: Any = eqx.field(default=0)


@pytest.mark.slow
@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("name", ["cta", "diging"])
def test_noise_is_that_of_many_runs_on_parameters(coupled, name, monkeypatch):
    """At training and at test points; half the noise, or none beyond training points, is not."""
    problem, _ = coupled
    ask = lambda link: dynamics.link_noise(
        problem, links.over(method(name, STEP), link), RING, [ROUNDS]
    )
    seen = drawn(problem, method(name, STEP), ManyNoisy(STD), RING, "tangent")
    worst = lambda told: max(np.abs(each).max() for each in scores(seen, told))
    assert seen.shape[1:] == (3, 10, 2) and worst(ask(NOISY)) < FAR
    assert worst(ask(links.noisy(STD / 2))) > 2 * FAR
    monkeypatch.setattr(thresholds, "UNSEEN", np.inf)
    assert worst(ask(NOISY)) > 2 * FAR


def test_no_noise_is_no_link():
    problem, _ = points(3)
    by = method("dgd", 0.1)
    plain, still = (
        dynamics.link_noise(problem, links.over(by, *way), RING, [4])
        for way in ((LOSSY,), (LOSSY, links.noisy(0.0)))
    )
    assert still.equals(plain)


@pytest.mark.slow
def test_growth_sees_no_noise():
    problem, _ = points(3)
    by = method("dgd", 0.2)
    lossy = dynamics.Moments(problem, links.over(by, LOSSY), RING)
    noisy = dynamics.Moments(problem, links.over(by, LOSSY, NOISY), RING)
    assert noisy.growth() == pytest.approx(lossy.growth(), rel=1e-9)


@pytest.mark.slow
def test_noise_is_told_of_what_links_do_on_average():
    late = links.over(method("dgd", 0.1), links.delayed(1))
    noisy = links.expected(links.over(method("dgd", 0.1), NOISY, links.delayed(1)))
    problem, _ = points(3)
    one, other = (nd.predict(problem, by, RING, 5)["outputs"] for by in (late, noisy))
    assert noisy.linear and one.equals(other)


def spanned(tests):
    """Three parameters, all of which seven points see."""
    rng = np.random.default_rng(6)
    x, y = rng.standard_normal((7 + tests, 3)), rng.standard_normal((7 + tests, 1))
    data = Dataset("plain", x[:7], y[:7], x[7:], y[7:], None, "none")
    model = nd.networks.wrap(lambda p, x: x @ p, lambda key, _: jnp.zeros((3, 1)), 1)
    return nd.Problem(model, nd.data.Partition(data, np.array([0, 0, 1, 1, 2, 2, 2]), 3, "given"))


@pytest.mark.parametrize(
    "way",
    [(NOISY,), pytest.param((NOISY, LOSSY, links.periodic(2)), marks=pytest.mark.slow)],
)
def test_noise_that_gradients_damp_comes_to_rest(way):
    over = links.over(method("cta", 0.2), *way)
    rest = dynamics.link_noise(spanned(2), over, RING, None)
    late = dynamics.link_noise(spanned(2), over, RING, [2000])
    for name in ("mean_outputs", "std_outputs", "global_loss_mean"):
        assert np.abs(rest[name].values - late[name].values).max() < 1e-9
    assert rest["std_outputs"].min() > 0.01


@pytest.mark.slow
def test_noise_that_nothing_damps_comes_to_no_rest(coupled):
    """In what no training point sees, and in what trackers keep: there are only rounds."""
    adds_up = "comes to no rest, as noise on its messages adds up"
    for problem, name in ((coupled[0], "dgd"), (coupled[0], "diging"), (spanned(0), "diging")):
        over = links.over(method(name, 0.05), NOISY)
        with pytest.raises(nd.InputError, match=adds_up):
            dynamics.link_noise(problem, over, RING, None)
        spread = dynamics.link_noise(problem, over, RING, [1000, 1500, 2000])["std_outputs"]
        first, second = np.diff((spread.max(("agent", "point", "output")) ** 2).values)
        assert second > 0.98 * first > 0


@pytest.mark.slow
def test_what_a_test_point_has_with_itself_is_the_network_s(small):
    one = small(3)
    own = np.einsum("pod,pod->po", one.jacobian, one.jacobian)[one.problem.task.train :]
    assert np.allclose(one.problem.empirical_beyond, own, rtol=1e-12)
    whole = nd.kernels.infinite.ntk(one.problem.network.kernel, np.float64(one.problem.inputs))
    told = one.problem.infinite_beyond
    assert np.allclose(told, np.diagonal(whole)[one.problem.task.train :], rtol=1e-6)
    assert len(told) == len(own) == 4
