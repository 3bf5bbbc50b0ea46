"""Methods: linear in vectors, known answers, and the cases in which they collapse."""

import numpy as np
import pytest
import sympy
from cases import METHODS, method

import ntkdyn as nd
from ntkdyn import graphs
from ntkdyn.errors import InputError
from ntkdyn.kernels import infinite
from ntkdyn.precision import in_double

X = np.array([[1, 0], [0.6, 0.8], [-1, 2]])
Y = np.array([[1.0], [0.0], [-1.0]])
AFTER_TEN_STEPS = [0.9080846666376, 0.1197598867422, -0.9769098877610]


@in_double
def known_kernel():
    net = nd.networks.mlp((64,), outputs=1, w_std=2**0.5, b_std=0.0)
    return np.asarray(infinite.ntk(net.kernel, X))


@pytest.mark.parametrize("name", METHODS)
def test_one_agent_is_gradient_descent_with_known_answers(name):
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


@pytest.mark.parametrize("name", METHODS)
def test_a_method_knows_vectors_only_by_their_operations(name):
    update = method(name, 0.25).update
    weight, start = sympy.symbols("w x0")
    state = update.init(Opaque(start))
    for _ in range(3):
        state = update.step(
            state, lambda x: Opaque(3 * x.terms), lambda x: Opaque(weight * x.terms)
        )
    known = {
        "dgd": (weight - 0.75) ** 3 * start,
        "cta": (0.25 * weight) ** 3 * start,
        "atc": (0.25 * weight) ** 3 * start,
    }
    assert sympy.expand(state.x.terms - known[name]) == 0


@pytest.mark.parametrize("name", METHODS)
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


@pytest.mark.parametrize("name", METHODS)
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


@pytest.mark.parametrize("step", [0.0, -1.0, float("nan"), float("inf")])
def test_refused_step_sizes(step):
    with pytest.raises(InputError, match="step size: must be positive and finite"):
        nd.methods.dgd(step_size=step)
    with pytest.raises(InputError):
        nd.methods.dgd(step_size=nd.of_limit(step))
