"""Links: what agents do with messages one by one, the same algorithm in every space."""

import dataclasses
import functools
import itertools
import textwrap

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pages
import pytest
import reference
from cases import MIXINGS, method, quick_if
from test_methods import Quadratics
from test_own_methods import affine, rounds_in

import ntkdyn as nd
from ntkdyn import experiment, graphs, links, precision, runs
from ntkdyn.links import compression
from ntkdyn.methods import mixing
from ntkdyn.theory import symbolic
from ntkdyn.vectors import Point, Vector

RING = graphs.metropolis(graphs.ring(4))
DIRECTED = MIXINGS["directed_exponential"]
METHODS = ("dgd", "cta", "heavy_ball", "diging", "aug_dgm")
"""those whose reference sends what their update sends, in that order, and nothing old again"""

LATE = np.array([[0, 1, 3, 2], [2, 0, 1, 1], [0, 2, 0, 1], [3, 1, 2, 0]])


# --- the truth: agents that read their messages one by one ----------------------------------------


class Listener(reference.Agent):
    """An agent that hears what `wire` makes of every message that was ever sent."""

    wire = None

    def combine(self, messages):
        sent = self.log.setdefault(self.asked, {})
        sent[self.round] = [np.array(message) for message in messages]
        weights = dict(self.heard)
        own, self.asked = weights.pop(self.number, 0.0), self.asked + 1
        total = own * messages[self.number]
        for sender, weight in weights.items():
            heard = self.wire(self.number, sender, self.round, sent)
            total = total + weight * (messages[self.number] if heard is None else heard)
        return total

    @property
    def points(self):
        return self._points

    @points.setter
    def points(self, rows):
        """Given anew at the start of each round."""
        self._points, self.asked = rows, 0
        self.log = getattr(self, "log", {})


def truth(small, name, W, eta, rounds, wire, monkeypatch):
    """Outputs (rounds, agents, points, outputs) of agents that hear by `wire(i, j, t, sent)`."""
    task = small.problem.task
    monkeypatch.setattr(
        reference, "Agent", type("Heard", (Listener,), {"wire": staticmethod(wire)})
    )
    moved = reference.message_passing(
        name, small.jacobian, small.problem.initial, task.targets, task.owner, W.matrix, "mse", eta,
        rounds,
    )  # fmt: skip
    return reference.outputs(small.jacobian, small.problem.initial, moved)


def delay(lag):
    def wire(i, j, t, sent):
        late = sent.get(t - lag(i, j))
        return late[j] if late else np.zeros_like(sent[t][j])

    return wire


@pytest.mark.parametrize(
    "name", quick_if(zip(METHODS, strict=True), lambda name: name in ("dgd", "diging"))
)
def test_delays_are_what_agents_do_with_late_messages(small, name, monkeypatch):
    case = small(4)
    for link, lag in [
        (links.delayed(2), lambda i, j: 2),
        (links.delayed(LATE), lambda i, j: LATE[i, j]),
    ]:
        late = links.over(method(name, 0.05), link)
        wanted = truth(case, name, RING, 0.05, 12, delay(lag), monkeypatch)
        seen = nd.predict(case.problem, late, RING, range(13), via="steps")["outputs"].values
        plain = nd.predict(case.problem, method(name, 0.05), RING, range(13))["outputs"].values
        assert np.abs(seen - wanted).max() < 1e-12 < 1e-4 < np.abs(plain - wanted).max()


def test_delays_have_any_round_and_the_limits_of_their_own_rounds(small):
    problem = small(4).problem
    late = links.over(method("diging", 0.03), links.delayed(1))
    stepped = nd.predict(problem, late, RING, [0, 400], via="steps")["outputs"].values
    jumped = nd.predict(problem, late, RING, [0, 400], via="powers")["outputs"].values
    assert np.abs(jumped - stepped).max() < 1e-10 < 1e-2 < np.abs(stepped[1] - stepped[0]).max()


@pytest.mark.slow
def test_delays_have_limits_of_their_own(small):
    """Of three rounds, which turn the sign of neighbours where errors alternate."""
    problem, W = small(4).problem, graphs.metropolis(graphs.complete(4))
    late = links.over(method("atc", 0.03), links.delayed(3))
    limit, plain = (nd.step_size_limit(problem, each, W) for each in (late, method("atc", 0.03)))
    assert abs(limit / plain - 1) > 0.02
    for share, grows in ((0.98, False), (1.02, True)):
        run = late.with_step_size(share * limit)
        outputs = nd.predict(problem, run, W, [0, 1000, 2000], via="steps")["outputs"].values
        first, last = np.abs(np.diff(outputs, axis=0)).max(axis=(1, 2, 3))
        assert (last > first) == grows
    half = late.with_step_size(limit / 2)
    far = nd.predict(problem, half, W, [0, 10**6])["outputs"].values[1]
    ended = nd.dynamics.limit(problem, half, W)["outputs"].values
    assert np.abs(ended - far).max() < 1e-6 < 0.1 < np.abs(ended - problem.initial).max()


# --- losses ---------------------------------------------------------------------------------------


def drawn(link, rounds, agents=4):
    """Which messages arrive in every round."""

    def arriving(round):
        at = links.Exchange(mixing.Combination(None, round=round), 0, "rows")
        return link.arriving(at.key(link.seed, exchange=False), agents)

    return np.asarray(jax.vmap(arriving)(jnp.arange(rounds)))


@pytest.mark.parametrize("name", ["dgd", "diging"])
@precision.in_double
def test_lost_messages_leave_their_weight_with_the_agent(small, name, monkeypatch):
    case, link = small(4), links.lossy(0.4, seed=3)
    arrives = drawn(link, 12)
    wire = lambda i, j, t, sent: sent[t][j] if arrives[t, i, j] else None
    wanted = truth(case, name, RING, 0.05, 12, wire, monkeypatch)
    lossy = links.over(method(name, 0.05), link)
    seen = nd.predict(case.problem, lossy, RING, range(13))["outputs"].values
    plain = nd.predict(case.problem, method(name, 0.05), RING, range(13))["outputs"].values
    assert np.abs(seen - wanted).max() < 1e-12 < 1e-3 < np.abs(plain - wanted).max()


def test_links_fail_and_agents_sleep_as_often_as_they_should():
    rounds, off = 3000, ~np.eye(4, dtype=bool)
    for link, both in [
        (links.lossy(0.3, seed=1), True),
        (links.lossy(0.3, seed=1, mutual=False), False),
        (links.activated(0.6, seed=1), True),
    ]:
        arrives = drawn(link, rounds)
        error = np.sqrt(link.share() * (1 - link.share()) / rounds)
        assert np.abs(arrives.mean(axis=0)[off] - link.share()).max() < 4.5 * error
        assert (arrives == np.swapaxes(arrives, 1, 2)).all() == both
    awake = drawn(links.activated(0.6, seed=1), 50)
    assert (awake[:, 0, 1] * awake[:, 1, 2] <= awake[:, 0, 2]).all()


def heard(*way, rounds=400, exchange=0):
    """What reaches every agent of each other, over so many rounds, by the package's own links."""
    mix = mixing.Fixed().bind(mixing.Dense(jnp.ones((4, 4))))
    update = links.over(method("dgd", 1.0), *way).update

    def one(round):
        at = links.Exchange(dataclasses.replace(mix, round=round), exchange, "rows")
        sent = Vector(jnp.eye(4))
        return update._sent(sent, ((),) * len(way), at)[0].tree

    return np.asarray(jax.vmap(one)(jnp.arange(rounds)))[:, ~np.eye(4, dtype=bool)]


@pytest.mark.parametrize("rest", [{}, {"seed": 7}])
def test_links_of_one_seed_draw_each_their_own(rest):
    """Two that lose a half each let a quarter through, and neither more nor less together."""
    both = heard(links.lossy(0.5, **rest), links.lossy(0.5, **rest), rounds=1000)
    assert abs(both.mean() - 0.25) < 4.5 * np.sqrt(0.25 * 0.75 / 6000) < 0.03
    three = heard(*[links.lossy(0.5, **rest)] * 3, rounds=1000)
    assert abs(three.mean() - 0.125) < 4.5 * np.sqrt(0.125 * 0.875 / 6000)
    one, other = (heard(*way) for way in ([links.lossy(0.5)], [links.lossy(0.5, seed=3)]))
    apart = heard(links.lossy(0.5), links.lossy(0.5, seed=3))
    assert (apart == one * other).all()  # links of seeds of their own draw what they draw alone
    late = heard(links.Link(), links.lossy(0.5))
    assert (late == one).all()


class Given(links.Link):
    """Messages that arrive in rounds 0, 1, ... as a table says."""

    table: tuple

    def exchange(self, memory, message, onward, at):
        return onward(message._replace(arrives=self.table[at.round])), memory


@pytest.mark.parametrize("name", ["heavy_ball", "diging"])
def test_expected_links_run_through_the_mean_over_all_draws(name):
    """All ways in which three links fail in two rounds, each with its probability."""
    problem, p, pairs = Quadratics(3), 0.3, [(0, 1), (0, 2), (1, 2)]
    mix = mixing.Fixed().bind(mixing.Plain(graphs.metropolis(graphs.ring(3)).matrix))

    def run(over):
        state = over.update.init(Point(np.zeros((3, 3))))
        for t in range(2):
            grad = lambda x, t=t: Vector(problem.gradient(problem.rows(t))(x.tree))
            state = over.update.step(state, grad, dataclasses.replace(mix, round=t))
        return state.x.tree

    mean = 0.0
    for up in itertools.product([0.0, 1.0], repeat=6):
        masks = np.ones((2, 3, 3))
        for (i, j), first, second in zip(pairs, up[:3], up[3:], strict=True):
            masks[:, i, j] = masks[:, j, i] = first, second
        weight = np.prod([1 - p if each else p for each in up])
        mean = mean + weight * run(links.over(method(name, 0.1), Given(tuple(masks))))
    lossy = links.over(method(name, 0.1), links.lossy(p))
    seen, plain = run(links.expected(lossy)), run(links.over(method(name, 0.1), links.periodic(1)))
    assert np.abs(seen - mean).max() < 1e-14 < 1e-4 < np.abs(plain - mean).max()
    assert links.expected(lossy).affine and not lossy.affine


def test_what_columns_keep_is_lost_to_nobody():
    W = graphs.push(graphs.directed_ring(5))
    sent = Vector(np.arange(5.0)[:, None])
    mix = mixing.Fixed().bind(mixing.Plain(W.matrix))
    at = links.Exchange(mix, 0, "columns")
    arrives = np.random.default_rng(0).integers(0, 2, (5, 5)).astype(float)
    combined = at.combined(links.Message(sent, sent, arrives)).tree
    assert (
        combined.sum() == pytest.approx(10) and np.abs(combined - W.matrix @ sent.tree).max() > 0.1
    )


# --- compression, noise, attacks, robust combination ----------------------------------------------

ROWS = np.random.default_rng(0).standard_normal((4, 60))


def test_compressors_send_what_they_say():
    key = jax.random.key(0)
    top = np.asarray(links.top_k(0.1)(jnp.asarray(ROWS), key))
    for row, kept in zip(ROWS, top, strict=True):
        largest = np.argsort(-np.abs(row))[:6]
        assert (
            set(np.flatnonzero(kept)) == set(largest)
            and (kept[largest] == row[largest].astype("f4")).all()
        )
    signs = np.asarray(links.sign()(jnp.asarray(ROWS), key))
    assert np.allclose(signs, np.sign(ROWS) * np.abs(ROWS).mean(axis=1, keepdims=True))
    keys = jax.random.split(key, 4000)
    for compressor, spread in [
        (links.random_k(0.25), 0.25 * 0.75 * ROWS**2),
        (links.random_k(0.25, unbiased=True), 3 * ROWS**2),
        (links.quantised(3, unbiased=True), (np.linalg.norm(ROWS, axis=1, keepdims=True) / 6) ** 2),
    ]:
        found = np.asarray(jax.vmap(lambda key, c=compressor: c(jnp.asarray(ROWS), key))(keys))
        mean = ROWS * getattr(compressor, "mean", 1.0)
        assert (np.abs(found.mean(axis=0) - mean) < 5 * np.sqrt(spread / 4000) + 1e-6).all()
        assert (found.std(axis=0) > 0).all()
    tau = 1 + min(60 / 9, np.sqrt(60) / 3)
    pair = (links.quantised(3), links.quantised(3, unbiased=True))
    divided, whole = (np.asarray(each(jnp.asarray(ROWS), key)) for each in pair)
    assert np.allclose(divided * tau, whole)
    assert links.top_k(0.1).bits(1000) == 100 * (32 + 10)
    assert links.random_k(0.1).bits(1000) == 3200
    assert links.sign().bits(1000) == 1032
    assert links.quantised(3).bits(1000) == 32 + 3000


def top(share, rows):
    """What top_k leaves, entry by entry."""
    kept = np.zeros_like(rows)
    for row, out in zip(rows, kept, strict=True):
        largest = np.argsort(-np.abs(row))[: max(1, round(share * len(row)))]
        out[largest] = row[largest]
    return kept


def gossip(link, x0, moves, W=RING.matrix):
    """x <- combined x + the moves of a round, by the package's own exchange."""
    mix = mixing.Fixed().bind(mixing.Dense(jnp.asarray(W)), 0, Heard(W))
    way = link if isinstance(link, tuple) else (link,)
    once = links.over(method("dgd", 1.0), *way).update

    def go(state, t):
        at = dataclasses.replace(mix, round=t)
        state = once.step(state, lambda x: Vector(-jnp.asarray(moves)[t]), at)
        return state, state.x.tree

    begun = once.init(Point(jnp.asarray(x0)))
    return np.asarray(jax.lax.scan(go, begun, jnp.arange(len(moves)))[1])


class Heard:
    """What a scene tells of its graph."""

    def __init__(self, W):
        self.links = mixing.links_of(W)


@precision.in_double
@pytest.mark.parametrize("scheme", compression.SCHEMES)
def test_schemes_of_compression_are_those_of_their_sources(scheme):
    rng = np.random.default_rng(1)
    moves, start = rng.standard_normal((6, 4, 30)), np.ones((4, 1)) * rng.standard_normal(30)
    gamma, C, W = 0.3, functools.partial(top, 0.2), RING.matrix
    x, known, left, wanted = start, start.copy(), np.zeros((4, 30)), []
    for move in moves:
        if scheme == "plain":
            heard = start + C(x - start)
        elif scheme == "feedback":
            told = C(x - start + left)
            heard, left = start + told, x - start + left - told
        else:
            known = heard = known + C(x - known)
        if scheme == "choco":
            combined = x + gamma * (W @ heard - heard)
        else:
            combined = np.diag(W)[:, None] * x + (W - np.diag(np.diag(W))) @ heard
        x = combined + move
        wanted.append(x)
    more = {"gamma": gamma} if scheme == "choco" else {}
    link = links.compressed(links.top_k(0.2), scheme=scheme, **more)
    seen = gossip(link, start, moves)
    assert np.abs(seen - wanted).max() < 1e-12
    assert np.abs(seen - gossip(links.delayed(1), start, moves)).max() > 0.1


@precision.in_double
def test_choco_reaches_the_mean_and_plain_compression_does_not():
    start = np.zeros((4, 30))
    moves = np.zeros((400, 4, 30))
    moves[0] = np.random.default_rng(2).standard_normal((4, 30))
    choco = links.compressed(links.top_k(0.2), scheme="choco", gamma=0.2)
    plain = links.compressed(links.top_k(0.2), scheme="plain")
    off = [
        np.abs(gossip(each, start, moves)[-1] - moves[0].mean(axis=0)).max()
        for each in (choco, plain)
    ]
    assert off[0] < 1e-4 < 0.1 < off[1]


@precision.in_double
def test_noise_is_as_large_as_it_should_be_and_moves_are_bounded():
    link = links.noisy(0.5, seed=4)
    x0, still = np.zeros((4, 4000)), np.zeros((3, 4, 4000))
    first, second, _ = gossip(link, x0, still)
    expected = 0.5 * np.linalg.norm(RING.matrix - np.diag(np.diag(RING.matrix)), axis=1)
    assert first.std(axis=1) == pytest.approx(expected, rel=0.06)
    own = np.diag(RING.matrix)[:, None]
    fresh = second - own * first - (RING.matrix - np.diag(np.diag(RING.matrix))) @ first
    assert abs(np.corrcoef(first[0], fresh[0])[0, 1]) < 0.06
    step = np.zeros((2, 4, 4000))
    step[0] = 1.0
    bound = links.noisy(0.0, clip=2.0)
    moved = gossip(bound, x0, step)[1]
    told = 2.0 / np.sqrt(4000)
    assert np.allclose(moved, own + (1 - own) * told)


@precision.in_double
def test_false_messages_reach_the_neighbours_alone():
    x0, move = np.zeros((4, 2)), np.array([[1.0, 2], [3, 4], [5, 6], [7, 8]])
    W, off = RING.matrix, RING.matrix - np.diag(np.diag(RING.matrix))
    moves = np.stack([move, 0 * move])
    honest = np.diag(np.diag(W)) @ move
    for attack, sent in [("sign_flip", -3 * move[1]), ("stuck", 0 * move[1])]:
        heard = move.copy()
        heard[1] = sent
        link = links.adversarial([1], attack=attack, scale=3.0)
        assert np.allclose(gossip(link, x0, moves)[1], honest + off @ heard)
    fixed = [gossip(links.adversarial([1], attack="fixed", seed=s), x0, moves) for s in (0, 1)]
    assert np.abs(fixed[0] - fixed[1]).max() > 0.1
    lies = gossip(links.adversarial([1], attack="noise"), x0, np.zeros((3, 4, 2)))
    assert np.abs(lies[0][3]).max() == 0 < np.abs(lies[0][[0, 2]]).min()  # 3 hears 0 and 2 alone


@precision.in_double
@pytest.mark.parametrize("rule", ["trimmed_mean", "median", "clipped"])
def test_robust_rules_are_taken_message_by_message(rule):
    W = graphs.metropolis(graphs.from_edges([(0, 1), (1, 2), (2, 3), (3, 0), (0, 2)])).matrix
    moves = np.stack([np.random.default_rng(3).standard_normal((4, 7)), np.zeros((4, 7))])
    x, wanted = moves[0], []
    for i in range(4):
        heard = [j for j in range(4) if j != i and W[i, j] > 0]
        values = np.sort(np.stack([x[i], *(x[j] for j in heard)]), axis=0)
        if rule == "trimmed_mean":
            wanted.append(values[1:-1].mean(axis=0))
        elif rule == "median":
            wanted.append(np.median(values, axis=0))
        else:
            short = lambda v: v * min(1, 0.7 / np.linalg.norm(v))
            wanted.append(x[i] + sum(W[i, j] * short(x[j] - x[i]) for j in heard))
    link = links.robust(rule, **({"radius": 0.7} if rule == "clipped" else {}))
    seen = gossip(link, np.zeros((4, 7)), moves, W)[1]
    assert np.abs(seen - wanted).max() < 1e-12 < 1e-2 < np.abs(seen - W @ x).max()


@precision.in_double
def test_robust_agents_stand_an_attack_that_drags_averages_away():
    W = graphs.metropolis(graphs.complete(6))
    moves = np.zeros((30, 6, 5))
    moves[0] = 1 + 0.1 * np.random.default_rng(5).standard_normal((6, 5))
    attack = links.adversarial([0], attack="fixed", scale=50.0)
    ends = {}
    for rule in (None, "trimmed_mean", "median"):
        way = (attack,) if rule is None else (attack, links.robust(rule))
        ends[rule] = np.abs(gossip(way, np.zeros((6, 5)), moves, W.matrix)[-1, 1:] - 1).max()
    assert ends["median"] < 0.3 and ends["trimmed_mean"] < 0.3 < 10 < ends[None]


# --- one algorithm in every space -----------------------------------------------------------------

WAYS = {
    "delayed": (links.delayed(2),),
    "late link by link": (links.lossy(0.2), links.delayed(LATE)),
    "activated": (links.activated(0.7),),
    "attacked": (links.adversarial([2]), links.delayed(1)),
    "expected": (links.compressed(links.random_k(0.5)).expected(), links.lossy(0.3).expected()),
    "choco": (links.compressed(links.top_k(0.2), scheme="choco", gamma=0.5),),
    "feedback": (links.compressed(links.random_k(0.2), scheme="feedback"),),
    "quantised": (links.periodic(2), links.compressed(links.quantised(4))),
    "private": (links.damped(0.5), links.noisy(0.1, clip=0.3)),
    "robust": (links.adversarial([1], attack="noise"), links.robust("median")),
    "clipped": (links.lossy(0.3), links.robust("clipped", radius=0.5)),
}

SOME = ("delayed", "choco")
"""that are tried most often"""


@precision.in_double
@pytest.mark.parametrize("way", quick_if(zip(WAYS, strict=True), lambda way: way in SOME))
def test_training_an_affine_network_over_links_is_predicting_it(way):
    problem = affine(1)
    over = links.over(method("atc_tracking", 0.05), *WAYS[way])
    spaces = [problem.network_space(), problem.tangent_space()]
    if "kernel" in over.spaces:
        spaces.append(problem.kernel_space())
    seen = [rounds_in(space, problem, over, 4) for space in spaces]
    plain = rounds_in(spaces[1], problem, method("atc_tracking", 0.05), 4)
    assert np.abs(seen[0] - plain).max() > 1e-3
    for each in seen[1:]:
        assert np.abs(each - seen[0]).max() < 1e-6 if way in PRIVATE else 1e-11


PRIVATE = ("private", "robust")
"""whose noise is a float32"""


def bits_of(compressor, row):
    """Of what a compressor left of a row, number by number."""
    sent, entries = row[row != 0], len(row)
    place = (entries - 1).bit_length()
    if isinstance(compressor, compression.TopK):
        return sum(32 + place for _ in sent)
    if isinstance(compressor, compression.RandomK):
        return sum(32 for _ in sent)
    if isinstance(compressor, compression.Sign):
        assert len(np.unique(np.abs(row))) == 1
        return 32 + sum(1 for _ in row)
    moduli = np.unique(np.round(np.abs(row) / np.abs(sent).min(), 3))
    assert len(moduli) <= compressor.levels + 1
    return 32 + sum(1 + np.log2(compressor.levels + 1) for _ in row)


@pytest.mark.parametrize("make", [None, *links.COMPRESSORS])
def test_bits_are_those_of_the_messages_one_by_one(make):
    """On a directed graph, on which agents have other numbers of listeners than of speakers."""
    problem, rng = affine(1), np.random.default_rng(0)
    W = graphs.uniform(nx.DiGraph([(0, 1), (1, 2), (2, 3), (3, 0), (0, 2), (0, 3)]))
    settings = {"top_k": (0.2,), "random_k": (0.4,), "quantised": (3,), "sign": ()}
    compressor = links.COMPRESSORS[make](*settings[make]) if make else None
    over = links.over(method("dgd", 0.1), links.compressed(compressor)) if make else None
    plan = runs.plan(problem, over or method("dgd", 0.1), W, [0, 1, 6])
    entries = problem.parameters_each
    sent = runs.sent(plan, runs.iteration_of(plan, problem.network_space()), entries)
    rounds, counted = 300 if make == "random_k" else 6, np.zeros(4)
    for number in range(rounds):
        rows = jnp.asarray(rng.standard_normal((4, entries)))
        left = np.asarray(compressor(rows, jax.random.key(number))) if make else rows
        for sender in range(4):
            bits = bits_of(compressor, left[sender]) if make else 32 * entries
            heard = sum(W.matrix[i, sender] != 0 for i in range(4) if i != sender)
            counted[sender] += heard * bits * 6 / rounds
    spread = 5 * np.sqrt(0.24 / entries / rounds) / 0.4 if make == "random_k" else 1e-12
    np.testing.assert_allclose(32 * sent["floats_sent"][-1], counted, rtol=spread)
    assert counted[0] == pytest.approx(3 * counted[1], rel=2 * spread)


@pytest.mark.slow
def test_what_is_sent_is_counted_by_the_link():
    problem = affine(1)
    parameters = problem.parameters_each
    plain = nd.train(problem, method("diging", 0.05), RING, [0, 6])["floats_sent"].values[-1]
    for way, share in [
        ((links.delayed(2),), 1.0),
        ((links.delayed(LATE),), 1.0),
        ((links.lossy(0.5), links.robust("median")), 1.0),
        ((links.periodic(3), links.compressed(links.sign())), (1 + 1 / parameters) / 3 / 32),
    ]:
        over = links.over(method("diging", 0.05), *way)
        record = nd.train(problem, over, RING, [0, 6])
        sent = record["floats_sent"].values[-1]
        assert (record["bits_sent"] == 32 * record["floats_sent"]).all()
        exact = (32 + parameters) / (32 * parameters) / 3 if share < 1 else 1.0
        assert sent == pytest.approx(plain * exact, rel=1e-9)


def test_links_that_do_not_go_together_are_refused(small, types_unchecked):
    dgd, over = method("dgd", 0.1), links.over
    shipped = nd.methods.METHODS
    for make, said in [
        (lambda: over(shipped["drt"](step_size=0.1), links.delayed(1)), "drt: takes no links"),
        (lambda: over(shipped["mhd"](step_size=0.1), links.delayed(1)), "mhd: takes no links"),
        (lambda: over(shipped["ccl"](step_size=0.1), links.delayed(1)), "ccl: takes no links"),
        (lambda: over(over(dgd, links.delayed(1)), links.delayed(1)), "has links already"),
        (lambda: over(method("extra", 0.1), links.lossy(0.1)), "lossy links change it"),
        (lambda: over(method("diging", 0.1), links.lossy(0.1, mutual=False)), "one direction"),
        (lambda: over(dgd, links.robust(), links.delayed(1)), "robust combines messages, so it"),
        (lambda: over(dgd, "delayed"), "link: must be a Link"),
        (lambda: links.delayed(0), "delayed: rounds must be a whole number from 1 to 1000"),
        (lambda: links.delayed([[0.5]]), "a square matrix of whole numbers"),
        (lambda: links.lossy(1.0), r"lossy: probability: must be in \[0, 1\)"),
        (lambda: links.activated(0), r"activated: probability must be in \(0, 1\]"),
        (lambda: links.lossy(0.1, seed=-1), "lossy: seed must be a whole number from 0"),
        (lambda: links.compressed("top_k"), r"like links.top_k\(0.1\)"),
        (lambda: links.compressed(links.sign(), scheme="chocco"), "did you mean 'choco'"),
        (lambda: links.compressed(links.sign(), gamma=0.5), "gamma goes with"),
        (lambda: links.top_k(0), r"top_k: share must be in \(0, 1\]"),
        (lambda: links.quantised(0), "quantised: levels must be a whole number from 1"),
        (lambda: links.noisy(-1.0), "noisy: std: must be finite and not negative"),
        (lambda: links.noisy(1.0, clip=0), "noisy: clip must be positive"),
        (lambda: links.adversarial([]), "adversarial: agents must be a list of agents"),
        (lambda: links.adversarial([1], attack="lie"), "attack: no attack is called 'lie'"),
        (lambda: links.robust("clipped"), "a radius goes with"),
        (lambda: links.expected(over(dgd, links.compressed(links.sign()))), "Sign is not linear"),
        (lambda: symbolic.eigenvalues(over(dgd, links.delayed(1))), "whose messages go over none"),
    ]:
        with pytest.raises(nd.InputError, match=said):
            make()
    problem = small(4).problem
    for link, kernel, said in [
        (links.compressed(links.sign()), "empirical", "because compression "),
        (links.adversarial([7]), "empirical", "there is no agent 7 among 4"),
        (
            links.delayed(np.ones((3, 3), int)),
            "empirical",
            "is made for 3 agents, and the graph has",
        ),
        (links.robust(trim=2), "implicit", "needs at least 4 neighbours, and agent 0 has 2"),
    ]:
        with pytest.raises(nd.InputError, match=said):
            nd.predict(problem, over(dgd, link), RING, 3, kernel=kernel)
    with pytest.raises(nd.InputError, match="depends on where parameters are zero"):
        nd.predict(problem, over(dgd, Scaled()), RING, 3)


class Scaled(links.Link):
    """A link that shrinks parameters, wherever their zero is."""

    def exchange(self, memory, message, onward, at):
        return onward(message._replace(sent=0.5 * message.sent)), memory


# --- from a spec ----------------------------------------------------------------------------------

SPEC = """
[network]
widths = [8]
[data]
name = "digits"
train = 40
test = 10
[partition]
agents = 4
[graph]
topology = "ring"
[method]
name = "dgd"
step_size = 0.1
{link}
[run]
rounds = 4
"""


def test_a_spec_names_links_and_what_lies_in_modules_of_its_user(tmp_path, monkeypatch):
    (tmp_path / "mine_of_links.py").write_text(
        textwrap.dedent(
            """
            import jax.numpy as jnp
            from ntkdyn import links, methods
            from ntkdyn.methods import mixing, objectives, updates

            class Twice(updates.Memoryless):
                def step(self, state, grad, mix):
                    return updates.Iterate(mix(mix(state.x)) - self.step_size * grad(state.x))

            def twice(*, step_size):
                return methods.Method("twice", Twice(step_size), mixing.Fixed(), objectives.Local())

            class First:
                def __call__(self, rows, key):
                    return jnp.where(jnp.arange(rows.shape[1]) < 100, rows, 0)

                def bits(self, parameters):
                    return 3200.0
            """
        )
    )
    monkeypatch.chdir(tmp_path)
    link = """
    [[link]]
    kind = "delayed"
    rounds = 1
    [[link]]
    kind = "compressed"
    compressor = { name = "mine_of_links:First" }
    """
    spec = SPEC.replace('"dgd"', '"mine_of_links:twice"').format(link=textwrap.dedent(link))
    asked = experiment.Experiment(experiment.parse(spec, "spec"))
    assert asked.method.name == "twice over delayed, compressed"
    sent = asked.train()["floats_sent"].values[-1]
    assert (sent == 4 * 2 * 2 * 100).all()  # rounds, exchanges, neighbours, numbers
    assert experiment.parse(asked.spec.text(), "again") == asked.spec
    for text, said in [
        ('[[link]]\nkind = "delay"', "link: no link is called 'delay'; did you mean 'delayed'"),
        ('[[link]]\nkind = "delayed"', "link delayed: rounds must be given"),
        ('[[link]]\nkind = "lossy"\nprobabilty = 0.1', "did you mean 'probability'"),
        ('[[link]]\nkind = "nowhere:link"', "link: cannot import 'nowhere'"),
        ('[[link]]\nkind = "mine_of_links:no"', "mine_of_links has no 'no' that could be called"),
        ("[[link]]\nrounds = 1", "link.0.kind must be given"),
    ]:
        with pytest.raises(nd.InputError, match=said):
            _ = experiment.Experiment(experiment.parse(SPEC.format(link=text), "spec")).method


@pytest.mark.slow
def test_the_examples_of_the_pages_run(small):
    setup, *blocks = pages.codes("how-to/links.md", "python")
    blocks += [code for code in pages.codes("how-to/methods.md", "python") if "class Twice" in code]
    scope = {name: getattr(nd.methods, name) for name in ("updates", "mixing", "objectives")}
    scope |= {"nd": nd, "jnp": jnp, "methods": nd.methods, "prob": small(4).problem, "W": RING}
    for name in ("dgd", "atc"):
        scope[name] = method(name, 0.05)
    for block in blocks:
        exec(block, scope)
    first, twice = links.over(scope["atc"], nd.links.compressed(scope["First"]())), scope["twice"]
    assert nd.train(small(4).problem, first, RING, 3)["floats_sent"].values[-1] == pytest.approx(
        600
    )
    known = nd.predict(small(4).problem, twice.with_step_size(0.05), RING, [0, 2000])
    squared = nd.graphs.mixing(RING.matrix @ RING.matrix)
    same = nd.predict(small(4).problem, method("dgd", 0.05), squared, [0, 2000])
    assert np.abs(known["outputs"] - same["outputs"]).max() < 1e-9
    assert len(blocks) == 3 and "nd.links" not in setup
