"""Certificates: never below the truth, tight where they can be, refused where there is no proof."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkdyn as nd
from ntkdyn import graphs, precision
from ntkdyn.data import Dataset, Partition
from ntkdyn.dynamics import certificate, certify, curvature

EDGES = [(0, 1), (1, 2), (2, 0), (2, 3), (3, 0), (1, 3)]


class Shape(NamedTuple):
    """What random problems of one compiled shape have in common."""

    widths: tuple[int, ...]
    activation: str
    outputs: int
    counts: tuple[int, ...]
    method: str = "dgd"
    b_std: float = 0.0
    features: int = 3
    corrections: int = 2

    @property
    def network(self):
        w_std = (1.2,) * len(self.widths) + (0.9,)
        return nd.networks.mlp(
            self.widths,
            outputs=self.outputs,
            activation=self.activation,
            w_std=w_std,
            b_std=self.b_std,
        )


SHAPES = [
    Shape((400,), "erf", 2, (3, 4, 2)),
    Shape((60, 90), "erf", 2, (2, 3, 3), "atc", 0.3),
    Shape((150,), "gelu", 3, (4, 1, 3, 2), "cta", 0.2),
    Shape((40,), "sin", 1, (5, 2)),
    Shape((80, 70), "sigmoid", 3, (3, 3), b_std=0.1),
    Shape((30, 20), "gelu", 1, (2, 2, 3), "cta", features=5),
    Shape((5,), "erf", 2, (3, 2, 4, 1, 1), "atc", 0.5),
    Shape((200,), "sigmoid", 1, (6,), features=2),
    Shape((50, 40, 30), "erf", 2, (2, 3), b_std=0.1),
    Shape((), "relu", 2, (4, 3, 2), b_std=0.2),
]
ROUNDS = 10


def random_weights(rng, agents, doubly):
    """Metropolis on a random graph, lazy or not; or directed: a mean of random permutations."""
    if agents == 1:
        return np.ones((1, 1))
    if rng.random() < 0.5 or (doubly and agents < 3):
        graph = graphs.complete(agents) if agents < 3 else graphs.erdos_renyi(
            agents, probability=0.8, seed=int(rng.integers(1000))
        )  # fmt: skip
        weights = graphs.metropolis(graph).matrix
        return weights if rng.random() < 0.5 else (weights + np.eye(agents)) / 2
    if not doubly:
        weights = rng.random((agents, agents)) + np.eye(agents)
        return weights / weights.sum(axis=1, keepdims=True)
    cyclic = np.roll(np.eye(agents), 1, axis=1)
    shares = rng.dirichlet(np.ones(3))
    other = np.eye(agents)[rng.permutation(agents)]
    return shares[0] * np.eye(agents) + shares[1] * cyclic + shares[2] * other


def random_problem(shape, seed):
    """A problem of that shape; everything but the shape is drawn."""
    rng = np.random.default_rng(seed)
    train, test = sum(shape.counts), 3
    inputs = rng.normal(size=(train + test, shape.features)) * rng.uniform(0.3, 1.3)
    labels = rng.integers(0, shape.outputs, train + test)
    inputs = inputs.astype(np.float32)
    data = Dataset(
        "drawn", *(inputs[:train], labels[:train]), *(inputs[train:], labels[train:]), shape.outputs, "none"
    )
    owner = rng.permutation(np.repeat(np.arange(len(shape.counts)), shape.counts))
    shares = Partition(data, owner, len(shape.counts), "given")
    problem = nd.Problem(shape.network, shares, seed=int(rng.integers(2**31)))
    weights = random_weights(rng, len(shape.counts), doubly=rng.random() < 0.8)
    method = nd.methods.METHODS[shape.method](step_size=nd.of_limit(float(rng.uniform(0.1, 1.1))))
    return problem, method, weights


class Held(NamedTuple):
    """A certificate against what it is about."""

    record: object
    true: np.ndarray
    """(round, agent), of the outputs"""
    stacked: float
    """|theta - predicted| in the last round, all agents"""
    linear: np.ndarray
    """(round, agent), of the linear prediction's outputs"""


def held(problem, method, weights, rounds=ROUNDS, corrections=2):
    keep = nd.Keep(parameter_rounds=[rounds])
    options = {"record_every": 1, "keep": keep}
    record = certify(problem, method, weights, rounds, corrections=corrections, **options)
    known = method.with_step_size(float(record.attrs["step_size"]))
    real = nd.train(problem, known, weights, rounds, precision="float64", **options)
    linear = nd.predict(problem, known, weights, rounds, kernel="implicit", **options)
    apart = lambda one, other: np.linalg.norm((one - other)["outputs"].values, axis=(2, 3))
    return Held(
        record,
        apart(record, real),
        float(np.linalg.norm((record["parameters"] - real["parameters"]).values)),
        apart(real, linear),
    )


def check(found):
    """The bound holds, in every round; returns whether it is finite in the last."""
    record = found.record
    error = record["certified_error"].values
    assert (error >= found.true).all()
    assert record["certified_parameters"].values[-1, -1] >= found.stacked
    assert (np.abs(found.linear - record["linear_error"].values) <= error).all()
    assert not np.isnan(error).any()
    return np.isfinite(error[-1]).all()


@pytest.mark.parametrize("number", range(2))
def test_it_is_never_below_the_truth(number):
    finite = [check(held(*random_problem(SHAPES[number], seed))) for seed in range(10)]
    assert sum(finite) >= 5


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_never_below_the_truth_on_200_problems(shape):
    finite = [check(held(*random_problem(shape, seed))) for seed in range(100, 120)]
    print(sum(finite))


# --- the curvature of a network -------------------------------------------------------------------

NETWORKS = [
    Shape((5,), "erf", 2, (), b_std=0.4),
    Shape((4, 3), "gelu", 2, (), b_std=0.3, features=2),
    Shape((3, 4, 3), "sin", 3, (), features=2),
    Shape((4, 3), "sigmoid", 1, (), b_std=0.2, features=2),
]


@functools.cache
def drawn(shape):
    """Parameters, points and the chain, in float64."""
    with precision.double():
        params = shape.network.start(jax.random.key(3), (shape.features,))
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
        points = jax.random.normal(jax.random.key(4), (3, shape.features), jnp.float64)
        return params, points, curvature.chain(shape.network, params)


@functools.cache
def dense(shape):
    """(flat parameters) -> Jacobian and second derivative of all outputs at all points."""
    params, points, _ = drawn(shape)
    flat, tree = jax.flatten_util.ravel_pytree(params)
    outputs = lambda theta: shape.network.apply(tree(theta), points)
    return flat, jax.jit(jax.jacrev(outputs)), jax.jit(jax.jacfwd(jax.jacrev(outputs)))


def bilinear_norm(second):
    """A lower bound of sup |D2f[v, w]| over unit v and w, from the best of some outputs u."""
    rng = np.random.default_rng(0)
    best = 0.0
    for _ in range(8):
        u = rng.normal(size=len(second))
        for _ in range(5):
            u /= np.linalg.norm(u)
            values, vectors = np.linalg.eigh(np.tensordot(u, second, 1))
            at = np.abs(values).argmax()
            u = np.einsum("opq,p,q->o", second, vectors[:, at], vectors[:, at])
            best = max(best, abs(values[at]))
    return best


@pytest.mark.parametrize("shape", NETWORKS, ids=str)
def test_what_is_seen_of_a_network(shape):
    with precision.double():
        params, points, chain = drawn(shape)
        flat, jacobian, _ = dense(shape)
        seen = curvature.look(chain, params, points)
        whole = np.asarray(jacobian(flat))
        kept = jnp.array([1.0, 0.0, 1.0])
        norm = lambda rows: np.linalg.norm(whole[rows].reshape(-1, flat.size), 2)
        assert np.allclose(seen.outputs, shape.network.apply(params, points), rtol=1e-12)
        assert curvature.jacobian_norm(chain, seen) == pytest.approx(norm([0, 1, 2]))
        assert curvature.jacobian_norm(chain, seen, kept) == pytest.approx(norm([0, 2]))


@pytest.mark.parametrize("shape", NETWORKS, ids=str)
@pytest.mark.parametrize("radius", [0.0, 1.0])
def test_no_second_derivative_in_the_ball_is_larger(shape, radius):
    with precision.double():
        params, points, chain = drawn(shape)
        flat, _, hessian = dense(shape)
        norms = jnp.asarray(curvature.weight_norms(chain, params))
        seen = curvature.look(chain, params, points)
        bound = np.asarray(curvature.hessian_bound(chain, seen, norms, jnp.asarray(radius)))
        rng = np.random.default_rng(1)
        for _ in range(2):
            away = rng.normal(size=flat.size)
            there = flat + radius * away / np.linalg.norm(away)
            true = [bilinear_norm(each) for each in np.asarray(hessian(there))]
            assert (np.asarray(true) <= bound * (1 + 1e-9) + 1e-12).all()
        if radius == 0:
            assert (bound < 15 * np.asarray(true)).all()


def test_it_is_the_curvature_where_that_is_known():
    """One unit at zero: f = alpha_2 v s(alpha_1 w . x) has the second derivative s'(0) |x| alphas."""
    with precision.double():
        network = nd.networks.mlp((1,), outputs=2, activation="erf", w_std=1.3, b_std=0.0)
        params = {"dense_1": (jnp.zeros((3, 1)), None), "readout": (jnp.zeros((1, 2)), None)}
        points = jnp.array([[1.0, 2.0, 2.0]])
        chain = curvature.chain(network, params)
        seen = curvature.look(chain, params, points)
        bound = curvature.hessian_bound(chain, seen, jnp.zeros(2), jnp.zeros(()))
        assert bound[0] == pytest.approx(2 / np.sqrt(np.pi) * 3 * 1.3 / np.sqrt(3) * 1.3)


@pytest.mark.parametrize(("depth", "slope"), [(1, (0.4, 0.6)), (2, (0.25, 0.6))])
def test_it_falls_as_the_width_grows(depth, slope):
    """As its root, but for the logarithm in the largest of so many rows, and |W_2|'s constant."""
    bounds = []
    with precision.double():
        for width in (32, 512):
            params, points, chain = drawn(Shape((width,) * depth, "erf", 1, ()))
            norms = jnp.asarray(curvature.weight_norms(chain, params))
            seen = curvature.look(chain, params, points)
            bounds.append(float(curvature.hessian_bound(chain, seen, norms, jnp.zeros(())).max()))
    assert slope[0] < np.log(bounds[0] / bounds[1]) / np.log(16) < slope[1]


@pytest.mark.parametrize("name", sorted(curvature.SMOOTH))
def test_the_derivatives_of_activations_are_bounded_and_reach_their_bounds(name):
    with precision.double():
        phi = curvature.Chain(("a", "b"), (1.0, 1.0), (0.0, 0.0), name).phi
        at = jnp.linspace(-9, 9, 20001)
        first, second = jax.grad(lambda z: phi(z)), jax.grad(jax.grad(lambda z: phi(z)))
        for derivative, bound in zip((first, second), curvature.SMOOTH[name], strict=True):
            largest = float(jnp.abs(jax.vmap(derivative)(at)).max())
            assert bound * (1 - 1e-6) <= largest <= bound * (1 + 1e-12)


# --- where it is tight, and can fail --------------------------------------------------------------


def saddle(scale):
    """Three agents near a saddle, on two equal points each: errors grow as fast as they can."""
    network = nd.networks.mlp((1,), outputs=2, activation="erf", w_std=scale, b_std=0.0)
    near = lambda key, features: jax.tree.map(lambda leaf: 1e-4 * leaf, network.start(key, features))
    inputs = np.tile(np.float32([[0.6, -0.8]]), (7, 1))
    labels = np.zeros(7, int)
    data = Dataset("one point", inputs[:6], labels[:6], inputs[6:], labels[6:], 2, "none")
    shares = Partition(data, np.arange(6) % 3, 3, "given")
    problem = nd.Problem(dataclasses.replace(network, start=near), shares, seed=5)
    return problem, nd.methods.dgd(step_size=0.2), graphs.metropolis(graphs.complete(3))


def tightness(scale):
    """b over the true distance of all parameters, after 30 rounds."""
    found = held(*saddle(scale), rounds=30, corrections=0)
    return float(found.record["certified_parameters"].values[-1, 0]) / found.stacked


def test_it_is_tight_near_a_saddle():
    assert 1 <= tightness(1.0) < 2


@pytest.mark.parametrize("share", [0.1, 0.75])
def test_with_less_curvature_it_would_be_no_bound(monkeypatch, share):
    whole = curvature.hessian_bound
    monkeypatch.setattr(certificate, "hessian_bound", lambda *a: share * whole(*a))
    assert tightness(1 + 0.01 * share) < 0.95


def test_without_growth_it_would_be_no_bound(monkeypatch):
    monkeypatch.setattr(certificate, "growth", lambda *a: jnp.ones(()))
    assert tightness(1.002) < 0.9
