"""Methods, the package's and users' own: one algorithm in every space, and what its rounds send."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ALL_METHODS, ONLY_WITH_NETWORKS, small_data

import ntkdyn as nd
from ntkdyn import graphs, memory, precision, runs
from ntkdyn.data import Partition
from ntkdyn.engine import advance
from ntkdyn.methods import Method, exchange, mixing, objectives, origin, updates
from ntkdyn.methods.exchange import Sent
from ntkdyn.networks import Network

AGENTS, OUTPUTS = 4, 2
SETTINGS = {"dimat": {"tau": 2}, "mhd": {"pool": 2, "pool_every": 1, "public_batch": 4}}
RING = graphs.lazy(graphs.metropolis(graphs.ring(AGENTS)))
PUBLIC = np.random.default_rng(5).standard_normal((4, 3)).astype(np.float32)


def start(heads, key, features):
    """Parameters that are not zero, so that the start is no zero of any space."""
    shapes = {"bias": (OUTPUTS * heads,), "hidden": (3, 5), "out": (3, OUTPUTS * heads)}
    keys = jax.random.split(key, len(shapes))
    pairs = zip(keys, shapes.items(), strict=True)
    return {name: jax.random.normal(each, shape, jnp.float32) for each, (name, shape) in pairs}


@functools.cache
def affine(heads):
    """A network whose outputs and features are affine in its parameters: nothing to linearize."""
    network = Network(
        "affine",
        functools.partial(start, heads),
        lambda params, x: x @ params["out"] + params["bias"][None],
        OUTPUTS * heads,
        None,
        hidden=lambda params, x: {"hidden": x @ params["hidden"]},
        permutable={"hidden": ((1, 1),)},
    )
    part = Partition(small_data(), np.arange(14) % AGENTS, AGENTS, "given")
    return nd.Problem(network, part, seed=3, public=PUBLIC if heads > 1 else None)


def rounds_in(space, problem, method, rounds=2):
    """Outputs of every round; only programs that are large are worth compiling."""
    plan = runs.plan(problem, method, RING, rounds)
    runs.check(plan, space)
    iteration = runs.iteration_of(plan, space)
    state, seen = iteration.init(), []
    for t in range(1, rounds + 1):
        if method.name in ONLY_WITH_NETWORKS:
            state = advance(iteration, state, jnp.array(t), jnp.array(t + 1))
        else:
            grad = functools.partial(iteration.gradient(t), state=state, round=t)
            state = method.update.step(state, grad, iteration.mix(t))
        seen.append(np.asarray(space.readout(slice(18))(state.x)[0]))
    return np.stack(seen)


class Past(NamedTuple):
    x: Any
    past: Any


class Heavy(updates.BaseUpdate):
    """x+ = W x - eta g(x) + (x - x') / 2."""

    def init(self, x):
        return Past(x, x)

    def step(self, state, grad, mix):
        moved = mix(state.x) - self.step_size * grad(state.x) + 0.5 * (state.x - state.past)
        return Past(moved, state.x)


class FromZero(Heavy):
    """The same with x' = 0 at the start, which is no displacement."""

    def init(self, x):
        return Past(x, 0.0 * x)


class AtZero(Heavy):
    """The same, made beneath points and vectors."""

    def init(self, x):
        return Past(x, x.map(jnp.zeros_like))


class Leaking(updates.Memoryless):
    """Weights that sum to less than one."""

    def step(self, state, grad, mix):
        return updates.Iterate(0.999 * mix(state.x) - self.step_size * grad(state.x))


class Leaving(updates.Memoryless):
    """x+ = W x - eta g(x) - x, a vector where a point was."""

    def step(self, state, grad, mix):
        return updates.Iterate(mix(state.x) - self.step_size * grad(state.x) - state.x)


class Added(updates.Memoryless):
    """x+ = x + W x - x - eta g(x), which adds points on its way."""

    def step(self, state, grad, mix):
        return updates.Iterate(state.x + mix(state.x) - state.x - self.step_size * grad(state.x))


REFUSED = {
    FromZero: r"mine: number \* point: .* a memory that starts at zero starts as x - x",
    Leaking: r"mine: number \* point: depends on where parameters are zero",
    Leaving: "mine: its state must keep its form, but starts as point and becomes vector",
    Added: r"mine: point \+ point: .* x \+ \(y - z\) for x \+ y - z",
    AtZero: "mine: its iterates depend from round 1 on where",
}


@pytest.mark.parametrize("update", REFUSED)
def test_own_updates_that_know_where_zero_is_are_refused_with_what_to_do(update):
    with pytest.raises(nd.InputError, match=REFUSED[update]):
        origin.check("mine", update(0.05))


def own(update, rule=None):
    return Method("mine", update, rule or mixing.Fixed(), objectives.Local())


@pytest.mark.slow
@precision.in_double
@pytest.mark.parametrize("name", [*ALL_METHODS, "mine", "clipped"])
def test_training_an_affine_network_is_predicting_it(name):
    problem = affine(3 if name == "mhd" else 1)
    more = SETTINGS.get(name, {})
    others = {"mine": own(Heavy(0.05)), "clipped": nd.methods.clipped(own(Heavy(0.05)), 0.5)}
    method = others.get(name) or nd.methods.METHODS[name](step_size=0.05, **more)
    if name == "push_sum":
        method = method.with_step_size(0.01)
    spaces = problem.network_space(method.view), problem.tangent_space(method.view)
    seen = [rounds_in(space, problem, method) for space in spaces]
    assert np.abs(seen[0][-1] - seen[0][0]).max() > 1e-3
    assert np.abs(seen[1] - seen[0]).max() < 1e-12


@pytest.mark.slow
def test_updates_that_know_where_zero_is_are_refused(monkeypatch):
    problem = affine(1)
    for update in (FromZero, AtZero):
        with pytest.raises(nd.InputError, match=REFUSED[update]):
            nd.train(problem, own(update(0.05)), RING, 1)
    monkeypatch.setattr(Method, "check_update", lambda self: None)
    spaces = problem.network_space(), problem.tangent_space()
    network, tangent = (rounds_in(space, problem, own(AtZero(0.05))) for space in spaces)
    assert np.abs(network - tangent).max() > 1e-2


class Counted(NamedTuple):
    x: Any
    done: Any


class Growing(updates.BaseUpdate):
    """x+ = W x - eta g(x) + s x with s = 1e-10, 1e-7, 1e-4, ..."""

    def init(self, x):
        return Counted(x, jnp.array(1e-10))

    def step(self, state, grad, mix):
        grown = state.x.map(lambda leaf: (1 + state.done) * leaf) - state.x
        moved = mix(state.x) - self.step_size * grad(state.x) + grown
        return Counted(moved, 1000 * state.done)


def test_the_round_in_which_zero_is_known_is_the_first_beyond_rounding():
    with pytest.raises(nd.InputError, match="mine: its iterates depend from round 2 on where"):
        origin.check("mine", Growing(0.05))


class Counting(updates.BaseUpdate):
    """Counts its rounds."""

    def init(self, x):
        return Counted(x, jnp.array(0))

    def step(self, state, grad, mix):
        return Counted(mix(state.x) - self.step_size * grad(state.x), state.done + 1)


@pytest.mark.parametrize("name", [*ALL_METHODS, "counting"])
def test_the_program_whose_memory_is_estimated_is_the_one_that_runs(name):
    """A state of another type, if only weakly, would have the rounds compiled once more."""
    problem = affine(3 if name == "mhd" else 1)
    more = SETTINGS.get(name, {})
    make = nd.methods.METHODS.get(name, lambda step_size: own(Counting(step_size)))
    method = make(step_size=0.1, **more)
    space = problem.network_space(method.view)
    iteration = runs.iteration_of(runs.plan(problem, method, RING, 3), space)
    state, now = iteration.init(), jnp.array(0)
    found = [jax.typeof(leaf) for leaf in jax.tree.leaves(state)]
    assert not any(each.weak_type for each in found)
    assert jax.make_jaxpr(advance)(iteration, state, now, now).out_avals == found


# --- what goes over the links -----------------------------------------------------------------

TWO = {"diging", "atc_tracking", "aug_dgm"}


@pytest.mark.parametrize("name", ALL_METHODS)
def test_what_every_method_sends(name):
    wanted = {"push_sum": Sent(1, 1), "mhd": Sent(0, 0)}.get(name, Sent(1 + (name in TWO), 0))
    assert exchange.of_update(nd.methods.METHODS[name](step_size=1.0).update) == wanted


def test_what_teachers_say_goes_to_those_who_listen():
    """Of three agents one is heard by nobody, and says nothing."""
    objective = nd.methods.mhd(step_size=0.1, public_batch=8, teachers=2, aux=1).objective
    sent = objective.floats_sent(np.array([2.0, 0.0, 1.0]), objectives.Sizes(100, 5, 7, 6))
    assert np.allclose(sent, 2 * 6 * (5 * 2 + 7) * 2 / 3)


class Thrice(updates.Memoryless):
    """x <- W^3 x - eta g(x), gossip in a loop."""

    def step(self, state, grad, mix):
        mixed = jax.lax.fori_loop(0, 3, lambda _, x: mix(x), state.x)
        return updates.Iterate(mixed - self.step_size * grad(state.x))


class Unrolled(updates.Memoryless):
    """The same without a loop."""

    def step(self, state, grad, mix):
        return updates.Iterate(mix(mix(mix(state.x))) - self.step_size * grad(state.x))


class Within(updates.Memoryless):
    """The same, its gradient in a loop too."""

    def step(self, state, grad, mix):
        mixed, _ = jax.lax.scan(lambda x, _: (mix(x), None), state.x, length=3)
        descend = lambda _, x: x - self.step_size * grad(state.x)
        return updates.Iterate(jax.lax.fori_loop(0, 1, descend, mixed))


def test_a_step_that_is_a_loop_has_the_closed_forms_of_the_same_without():
    features = np.random.default_rng(0).standard_normal((6, 4))
    problem = nd.KernelProblem(features @ features.T, np.arange(6.0), np.arange(6) % 3)
    W, found = nd.graphs.metropolis(nd.graphs.path(3)), []
    for update in (Unrolled, Thrice, Within):
        method = own(update(0.02))
        record = nd.predict(problem, method, W, [0, 10**6])
        assert record["reached_by"][1] != "steps"
        rest = nd.dynamics.limit(problem, method, W)
        limit = nd.step_size_limit(problem, method, W)
        found.append([*record["outputs"].values.ravel(), *rest["bias"].values, limit])
    assert np.ptp(found[0][-4:-1]) > 1e-3, "agents end apart"
    np.testing.assert_allclose(found[1:], [found[0]] * 2, rtol=1e-9, atol=1e-12)


class Sometimes(updates.Memoryless):
    """x <- W^2 x or W x, whichever, then a step."""

    def step(self, state, grad, mix):
        far = jnp.sum(jax.tree.leaves(grad(state.x))[0]) > 1
        mixed = jax.lax.cond(far, lambda x: mix(mix(x)), mix, state.x)
        return updates.Iterate(mixed - self.step_size * grad(mixed))


class Alone(updates.Memoryless):
    """x <- x - eta g(x)."""

    def step(self, state, grad, mix):
        return updates.Iterate(state.x - self.step_size * grad(state.x))


class Norms(updates.Memoryless):
    """x <- W x - eta g(x), and the mean of the agents' sums beside it."""

    def step(self, state, grad, mix):
        mass = mix(nd.vectors.Vector(jnp.ones(len(jax.tree.leaves(state.x)[0]))))
        average = mix(state.x).map(lambda leaf: leaf / mass.tree[0])
        return updates.Iterate(average - self.step_size * grad(state.x))


class Twofold(mixing.BaseMixing):
    """mix(x) = W (W x)."""

    def bind(self, weights, round=0, scene=None):
        average = weights.at(round)
        return lambda x: average(average(x))


class ByItself(mixing.BaseMixing):
    """mix(x) = W x, from the matrix."""

    def bind(self, weights, round=0, scene=None):
        matrix = weights.at(round).matrix()
        return lambda x: x.map(lambda leaf: mixing.weighted(matrix, leaf))


class Alternating(mixing.BaseMixing):
    """Once in even rounds, twice in odd ones."""

    every = 2

    def bind(self, weights, round=0, scene=None):
        average = weights.at(round)
        return (lambda x: average(average(x))) if round % 2 else average


PARAMETERS = 3 * OUTPUTS + OUTPUTS + 15
SENT = {
    "in a loop": (Thrice(0.1), mixing.Fixed(), [3, 3, 3, 3]),
    "in branches": (Sometimes(0.1), mixing.Fixed(), [2, 2, 2, 2]),
    "nothing": (Alone(0.1), mixing.Fixed(), [0, 0, 0, 0]),
    "twice by its mixing": (updates.DGD(0.1), Twofold(), [2, 2, 2, 2]),
    "by a matrix": (updates.DIGing(0.1), ByItself(), [2, 2, 2, 2]),
    "at turns": (updates.DGD(0.1), Alternating(), [1, 2, 1, 2]),
    "twice, every other round": (Thrice(0.1), mixing.Periodic(Twofold(), 2), [0, 6, 0, 6]),
    "damped": (updates.DGD(0.1), mixing.Fixed(0.5), [1, 1, 1, 1]),
    "seldom, of turns": (updates.DGD(0.1), mixing.Periodic(Alternating(), 1), [1, 2, 1, 2]),
}


@pytest.mark.parametrize("case", SENT)
def test_own_methods_send_what_they_mix(case):
    update, rule, vectors = SENT[case]
    problem, method = affine(1), own(update, rule)
    plan = runs.plan(problem, method, RING, [0, 1, 2, 3, 4])
    iteration = runs.iteration_of(plan, problem.network_space())
    each = np.concatenate([[0], np.cumsum(vectors)])
    degree = (RING.matrix > 0).sum(axis=0) - 1
    sent = runs.floats_sent(plan, iteration, PARAMETERS)
    assert (sent == each[:, None] * degree * PARAMETERS).all()
    assert method.mixes == any(vectors)


def test_single_numbers_count_as_such_and_long_periods_at_once():
    problem = affine(1)
    plan = runs.plan(problem, own(Norms(0.1)), RING, [3])
    iteration = runs.iteration_of(plan, problem.network_space())
    assert (runs.floats_sent(plan, iteration, PARAMETERS) == 3 * 2 * (PARAMETERS + 1)).all()
    seldom = own(updates.DGD(0.1), mixing.Periodic(mixing.Fixed(), 10**5))
    plan = runs.plan(problem, seldom, RING, [10**5 - 1, 3 * 10**5])
    sent = runs.floats_sent(plan, runs.iteration_of(plan, problem.network_space()), PARAMETERS)
    assert (sent == np.array([[0], [3]]) * 2 * PARAMETERS).all()


def test_a_measurement_has_the_whole_state_beside_it():
    """Gradient tracking remembers two vectors more than DGD, while the same program measures."""
    problem = affine(1)

    def measuring(name):
        plan = runs.plan(problem, nd.methods.METHODS[name](step_size=0.1), RING, 1)
        return memory.need(runs.iteration_of(plan, problem.network_space()))[1]

    assert measuring("diging") - measuring("dgd") == 2 * AGENTS * PARAMETERS * 4
