"""Properties that hold for every method on every problem, on problems that Hypothesis draws.

Shapes are few and fixed, so that a method is compiled once; the same examples are drawn every time.
"""

import json
from typing import NamedTuple

import mpmath
import networkx as nx
import numpy as np
import pytest
from cases import AFFINE, METHODS, method, suits
from hypothesis import Phase, given, settings, strategies as st
from reference import message_passing, outputs

import ntkdyn as nd
from ntkdyn import graphs, records
from ntkdyn.dynamics import Stability
from ntkdyn.dynamics.propagators import Propagators
from ntkdyn.precision import in_double
from ntkdyn.runs import iteration_of, plan

AGENTS, POINTS = 4, 8
COUNTS = (1, 2, 2, 3)
ROUNDS = [0, 1, 2, 9]
SEEDS = st.integers(0, 2**32 - 1)
LINEAR = [name for name in METHODS if name != "push_sum"]
"""push-sum divides by masses"""

settings.register_profile(
    "same", derandomize=True, deadline=None, database=None, phases=[Phase.generate]
)
settings.load_profile("same")
few = settings(max_examples=3)


class Drawn(NamedTuple):
    """K = J J' of some rank in some unit, unequal shares, a graph, and a stable step size.

    Entries of J are small whole numbers times a power of two, so that K has its rank exactly.
    """

    jacobian: np.ndarray
    y: np.ndarray
    owner: np.ndarray
    f0: np.ndarray
    W: graphs.MixingMatrix
    step_size: float

    @property
    def arrays(self):
        return self.jacobian @ self.jacobian.T, self.y, self.owner, self.f0


def problem(data, name, agents=AGENTS, counts=COUNTS):
    """A problem whose graph suits that method; directed where the method allows it."""
    rank = data.draw(st.sampled_from([1, 3, POINTS]))
    unit = data.draw(st.sampled_from([2.0**-10, 1.0, 2.0**10]))
    rng = np.random.default_rng(data.draw(SEEDS))
    points = sum(counts)
    jacobian = rng.integers(-4, 5, (points, rank)) * unit
    jacobian[jacobian.any(axis=1) == 0] = unit
    owner = rng.permutation(np.repeat(np.arange(agents), rng.permutation(counts)))
    y, f0 = rng.standard_normal((2, points, 1))
    W = next(W for W in mixings(rng, agents) if suits(name, W))
    largest = max(np.linalg.norm(jacobian[owner == i], 2) ** 2 for i in range(agents))
    return Drawn(jacobian, y, owner, f0, W, 0.1 / largest)


def mixings(rng, agents):
    """Weights that fewer and fewer methods refuse, of random graphs; sixteenths, to sum exactly."""
    linked = (rng.random((agents, agents)) < 0.4) | np.roll(np.eye(agents, dtype=bool), 1, axis=0)
    linked |= np.eye(agents, dtype=bool)
    rows = np.stack([each + rng.multinomial(16 - each.sum(), each / each.sum()) for each in linked])
    yield graphs.mixing(rows / 16)
    yield graphs.mixing(rows.T / 16, sums="columns")
    yield graphs.mixing(doubly_stochastic(rng, agents))
    yield graphs.lazy(graphs.metropolis(nx.Graph(np.argwhere(linked).tolist())))


def doubly_stochastic(rng, agents):
    """A mean of a rotation and a permutation and the identity: not symmetric."""
    shares, identity = 1 + rng.multinomial(13, [1 / 3] * 3), np.eye(agents)
    turned = [identity, np.roll(identity, 1, axis=0), identity[rng.permutation(agents)]]
    return sum(share * each for share, each in zip(shares / 16, turned, strict=True))


def predicted(name, arrays, W, step_size, rounds=ROUNDS):
    """Outputs (round, agent, point, output), stepped."""
    rule = method(name, step_size)
    stable = Stability(rule, True, None)
    record = nd.predict(nd.KernelProblem(*arrays), rule, W, rounds, via="steps", stability=stable)
    return record["outputs"].values


def close(seen, wanted, start, rounding=1e-12):
    """As shares of the distance travelled from the start."""
    moved = np.abs(wanted - start).max()
    assert moved > 0
    assert np.abs(seen - wanted).max() <= rounding * max(moved, np.abs(wanted).max())


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=2)
@given(data=st.data())
def test_predictions_are_linear_know_no_order_and_are_what_agents_do_with_messages(name, data):
    """Against J itself, on directed graphs; then agents renamed, K and targets in other units."""
    drawn, order = problem(data, name), data.draw(st.permutations(range(AGENTS)))
    c, a = data.draw(st.sampled_from([2.0**-20, 3.0, 1e6])), data.draw(st.sampled_from([-2.0, 1e5]))
    K, y, owner, f0 = drawn.arrays
    found = predicted(name, drawn.arrays, drawn.W, drawn.step_size)
    gone = message_passing(
        name, drawn.jacobian[:, None], f0, y, owner, np.asarray(drawn.W), "mse", drawn.step_size,
        ROUNDS[-1],
    )  # fmt: skip
    close(found, outputs(drawn.jacobian[:, None], f0, gone[ROUNDS]), f0)
    renamed = graphs.mixing(np.asarray(drawn.W)[np.ix_(order, order)], sums=drawn.W.sums)
    elsewhere = (c * K, a * y, np.argsort(order)[owner], a * f0)
    close(predicted(name, elsewhere, renamed, drawn.step_size / c), a * found[:, order], a * f0)


# --- the update alone, on NumPy arrays and on exact numbers -------------------------------------


def gradient(drawn, agents):
    """Coefficients -> the local gradients, as coefficients; numbers of any kind."""
    K, y, owner, f0 = drawn.arrays
    own = (owner[None] == np.arange(agents)[:, None]) / np.bincount(owner, minlength=agents)[
        :, None
    ]
    return lambda x: own * (x @ K + (f0 - y)[:, 0])


def stepped(rule, grad, W, start, rounds):
    """The states after every round of the method's own update."""
    state, gossip = rule.update.init(start), rule.mixing
    W = W * gossip.rate + (1 - gossip.rate) * np.eye(len(W))
    for t in range(rounds):
        mix = (lambda x: W @ x) if (t + 1) % gossip.every == 0 else (lambda x: x)
        state = rule.update.step(state, grad, mix)
        yield state.x


@pytest.mark.parametrize("name", LINEAR)
class TestEveryUpdate:
    @few
    @given(data=st.data())
    def test_who_hears_nobody_and_is_heard_by_nobody_changes_nothing(self, name, data):
        drawn = problem(data, name)
        rule, start = method(name, drawn.step_size), np.zeros((AGENTS + 1, POINTS + 2))
        alone = np.eye(AGENTS + 1)
        alone[:AGENTS, :AGENTS] = np.asarray(drawn.W)
        more = drawn._replace(
            jacobian=np.concatenate([drawn.jacobian, drawn.jacobian[:2]]),
            y=np.concatenate([drawn.y, drawn.y[:2]]),
            f0=np.concatenate([drawn.f0, drawn.f0[:2]]),
            owner=np.append(drawn.owner, [AGENTS, AGENTS]),
        )
        *_, with_it = stepped(rule, gradient(more, AGENTS + 1), alone, start, 9)
        *_, without = stepped(
            rule, gradient(drawn, AGENTS), np.asarray(drawn.W), start[:-1, :-2], 9
        )
        assert np.abs(with_it[-1]).max() > 0 and not with_it[:-1, -2:].any()
        close(with_it[:-1, :-2], without, 0, rounding=1e-13)

    @few
    @given(seed=SEEDS)
    def test_doubly_stochastic_mixing_keeps_the_mean(self, name, seed):
        """With no gradients the agents' mean stays where it was, W symmetric or not."""
        rng = np.random.default_rng(seed)
        W, start = doubly_stochastic(rng, AGENTS), rng.standard_normal((AGENTS, 3))
        for x in stepped(method(name, 0.1), lambda x: 0 * x, W, start, 9):
            assert np.abs(x.mean(axis=0) - start.mean(axis=0)).max() < 1e-13


@pytest.mark.parametrize("name", AFFINE)
@settings(max_examples=2)
@given(data=st.data())
@in_double
def test_estimated_errors_of_jumps_are_not_below_the_truth(name, data):
    """Against the method's own update in 50 digits.

    Where rows or columns of W do not sum to one exactly, the truth drifts, by rounding a round.
    """
    drawn = problem(data, name, agents=2, counts=(1, 3))
    rule, round = method(name, drawn.step_size), data.draw(st.sampled_from([7, 64, 300]))
    bare = nd.KernelProblem(*drawn.arrays)
    K = bare.kernel().whole
    with mpmath.workdps(50):
        exact = np.vectorize(mpmath.mpf, otypes=[object])
        inner = gradient(drawn._replace(y=exact(drawn.y)), 2)
        *_, truth = stepped(rule, inner, exact(np.asarray(drawn.W)), exact(np.zeros((2, 4))), round)
        asked = plan(bare, rule, drawn.W, [round])
        propagators = Propagators(iteration_of(asked, bare.kernel_space()), via="powers")
        reached = propagators(iteration_of(asked, bare.kernel_space()).init(), 0, round)
        off = truth - np.asarray(reached.x.tree)[..., 0]
        size = lambda c: mpmath.sqrt(abs(np.sum(c * (c @ exact(K)))))
        wrong = float(size(off) / size(truth))
    assert wrong <= propagators.error[round] < 1e-9


ATTRIBUTES = st.dictionaries(
    st.text("abcdefgh_", min_size=1, max_size=9),
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
        st.booleans(),
    ),
    max_size=5,
)


@settings(max_examples=12)
@given(attributes=ATTRIBUTES, numbers=st.lists(st.floats(width=64), min_size=1, max_size=6))
def test_records_come_back_from_their_files_as_they_were(tmp_path_factory, attributes, numbers):
    path = tmp_path_factory.mktemp("record") / "record.nc"
    record = records.Record(
        {"values": ("round", np.array(numbers)), "name": ("round", ["\u03b8"] * len(numbers))},
        {"round": np.arange(len(numbers))},
        attributes,
    )
    records.write(record, path)
    back = records.read(path)
    assert back.identical(record)
    assert json.dumps(back["values"].values.tolist()) == json.dumps(numbers)
