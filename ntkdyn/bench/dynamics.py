"""The dynamics benchmark: predictions against plain stepping, neural-tangents and training.

All in one run, float64 for predictions and float32 for training. What takes too long to be done in
full (a million plain steps, a thousand rounds of training) is timed over fewer rounds, and the
time is scaled to all of them; the case says so. Everything is compiled before it is timed.
"""

from __future__ import annotations

import functools
import math
import resource
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ntkdyn import graphs, methods, networks, precision
from ntkdyn.bench.kernel import machine, seconds
from ntkdyn.data import Dataset, Partition
from ntkdyn.dynamics import Flow, assess, predict
from ntkdyn.engine import Iteration, advance
from ntkdyn.kernels import infinite
from ntkdyn.kernels.compat import neural_tangents
from ntkdyn.methods.updates import State
from ntkdyn.problems import KernelProblem, Problem
from ntkdyn.runs import iteration_of, plan
from ntkdyn.saving import SaveOptions


class Sizes(NamedTuple):
    """What is measured."""

    agents: int
    points: int
    rounds: tuple[int, ...]
    stepped: int
    """rounds of plain stepping that are timed"""
    sparse: tuple[tuple[int, int], ...]
    """(agents, degree) of sparse graphs, one point per agent"""
    sparse_rounds: int
    single: int
    """points of the one agent"""
    width: int
    inputs: int
    trained_points: int
    trained: int
    """rounds of training that are timed"""
    predicted: int


FULL = Sizes(
    16, 512, (10**4, 10**5, 10**6), 2000, ((4096, 4), (4096, 8), (2048, 4)), 100, 256, 2048, 784,
    1024, 6, 1000,
)  # fmt: skip
SMALL = Sizes(4, 24, (100, 1000, 10_000), 100, ((80, 4),), 10, 16, 32, 16, 24, 3, 100)
OUTPUTS = 10
NOTHING = SaveOptions(outputs=False)


def measure(sizes: Sizes) -> dict[str, Any]:
    """Everything, as one JSON object."""
    single, sparse = _single_agent(sizes), _sparse(sizes)
    long, growth = _long_horizons(sizes)
    return {
        "title": "linearized dynamics",
        "comparisons": [*long, single, *_against_training(sizes)],
        "figures": {"growth of cost with rounds": growth, **sparse},
        "machine": machine(),
    }


def _compared(
    case: str, against: str, ours: float, theirs: float, apart: float | None
) -> dict[str, Any]:
    return {
        "case": case,
        "against": against,
        "ours": ours,
        "theirs": theirs,
        "ratio": theirs / ours,
        "relative_difference": apart,
    }


def _stepped(iteration: Iteration, rounds: int) -> State:
    return advance(iteration, iteration.init(), jnp.asarray(0), jnp.asarray(rounds))


def _sphere(points: int, features: int) -> np.ndarray:
    x = np.random.default_rng(0).standard_normal((points, features))
    return x * math.sqrt(features) / np.linalg.norm(x, axis=1, keepdims=True)


def _bare(agents: int, points: int, outputs: int) -> KernelProblem:
    """Points on a sphere with the infinite-width kernel of two hidden layers."""
    x = _sphere(points, 20)
    with precision.double():
        K = np.asarray(infinite.ntk(networks.mlp((8, 8), outputs=outputs).kernel, x))
    y = np.random.default_rng(1).standard_normal((points, outputs))
    return KernelProblem((K + K.T) / 2, y, np.arange(points) % agents)


def _long_horizons(sizes: Sizes) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The state after many rounds, against as many plain steps."""
    problem = _bare(sizes.agents, sizes.points, OUTPUTS)
    W = graphs.metropolis(graphs.ring(sizes.agents))
    known = assess(problem, methods.dgd(step_size=methods.of_limit(0.5)), W)
    run = lambda rounds, via: predict(
        problem, known.method, W, rounds, via=via, save=NOTHING, stability=known
    )
    step, stepped = seconds(lambda: run([sizes.stepped], "steps"), 1)
    jumped = run([sizes.stepped], "contour")
    moved = float(stepped["displacement"].max())
    apart = float(np.abs(stepped["displacement"] - jumped["displacement"]).max()) / moved
    per_round = step / sizes.stepped
    times = {r: seconds(lambda r=r: run([r], "auto"), 2)[0] for r in sizes.rounds}
    name = f"{sizes.agents} agents, {sizes.points} points, {OUTPUTS} outputs"
    rows = [
        _compared(
            f"{name}, round {r}",
            f"plain stepping, {sizes.stepped} rounds timed",
            ours,
            per_round * r,
            apart,
        )
        for r, ours in times.items()
    ]
    (first, early), (last, late) = list(times.items())[0], list(times.items())[-1]
    growth = {f"seconds to round {r}": t for r, t in times.items()}
    growth["exponent of rounds"] = math.log(late / early) / math.log(last / first)
    return rows, growth


def _sparse(sizes: Sizes) -> dict[str, dict[str, Any]]:
    """Many agents on a sparse graph, one point and one output each."""
    figures = {}
    for agents, degree in sizes.sparse:
        problem = _bare(agents, agents, 1)
        W = graphs.metropolis(graphs.random_regular(agents, degree, seed=0))
        known = assess(problem, methods.dgd(step_size=methods.of_limit(0.5)), W)
        with precision.double():
            iteration = iteration_of(
                plan(problem, known.method, W, sizes.sparse_rounds), problem.kernel_space()
            )
            alone, _ = seconds(lambda s=iteration: _stepped(s, sizes.sparse_rounds), 1)
        begun = time.perf_counter()
        predict(problem, known.method, W, [0, sizes.sparse_rounds], save=NOTHING, stability=known)
        links = agents * degree
        figures[f"{agents} agents, degree {degree}"] = {
            f"seconds for {sizes.sparse_rounds} rounds, recorded at both ends": (
                time.perf_counter() - begun
            ),
            "milliseconds per round": alone / sizes.sparse_rounds * 1e3,
            "picoseconds per round, link and point": (
                alone / sizes.sparse_rounds / (links * agents) * 1e12
            ),
            "peak GiB of the process so far": _peak(),
        }
    return figures


def _peak() -> float:
    """GiB resident at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _single_agent(sizes: Sizes) -> dict[str, Any]:
    """The flow of one agent at a hundred times in one call."""
    problem = _bare(1, sizes.single, OUTPUTS)
    K, y = problem.kernel().training, problem.task.targets
    times = np.geomspace(0.1, 1e4, 100)

    def ours() -> np.ndarray:
        flow = Flow(problem, methods.dgd(step_size=1e-3), np.eye(1))
        return flow.outputs(times)[:, 0]

    def theirs() -> np.ndarray:
        with precision.double():
            at = neural_tangents.predict.gradient_descent_mse(jnp.asarray(K), jnp.asarray(y))
            return np.asarray(at(jnp.asarray(times * OUTPUTS), jnp.zeros(y.shape)))

    fast, mine = seconds(ours, 30)
    slow, other = seconds(theirs, 30)
    apart = np.abs(mine - other).max() / np.abs(y).max()
    name = f"flow of one agent, {sizes.single} points, 100 times"
    return _compared(name, "neural-tangents gradient_descent_mse", fast, slow, float(apart))


def _against_training(sizes: Sizes) -> list[dict[str, Any]]:
    """A prediction, its kernel included, against training the same network."""
    problem, W = _images(sizes), graphs.metropolis(graphs.exponential(sizes.agents))
    method = methods.dgd(step_size=0.05)
    with precision.single():
        iteration = iteration_of(plan(problem, method, W, sizes.trained), problem.network_space())
        trained, _ = seconds(lambda: _stepped(iteration, sizes.trained), 1)
    whole = trained / sizes.trained * sizes.predicted
    rows = []
    for kernel in ("infinite", "empirical"):
        ours, record = _predicted(sizes, method, W, kernel)
        rows.append(
            _compared(
                f"{sizes.predicted} rounds, {kernel} kernel, width {sizes.width}, "
                f"{sizes.trained_points} points, by {str(record['reached_by'].values[-1])}",
                f"training, {sizes.trained} rounds timed",
                ours,
                whole,
                None,
            )
        )
    return rows


def _predicted(
    sizes: Sizes, method: methods.Method, W: graphs.MixingMatrix, kernel: str
) -> tuple[float, Any]:
    """A prediction from a fresh problem, its kernel computed within the time."""
    stability = assess(_images(sizes), method, W, kernel="infinite")
    run: Callable[[], Any] = lambda: predict(
        _images(sizes),
        method,
        W,
        [sizes.predicted],
        kernel=kernel,
        save=NOTHING,
        stability=stability,
    )
    return seconds(run, 1)


def _images(sizes: Sizes) -> Problem:
    """Inputs of the size of MNIST's, random, with random labels."""
    points, rng = sizes.trained_points, np.random.default_rng(2)
    x = _sphere(points + 2, sizes.inputs).astype(np.float32)
    labels = rng.integers(0, OUTPUTS, points + 2)
    data = Dataset(
        "random", x[:points], labels[:points], x[points:], labels[points:], OUTPUTS, "on a sphere"
    )
    partition = Partition(data, np.arange(points) % sizes.agents, sizes.agents, "in turn")
    return Problem(_network(sizes.width), partition)


@functools.cache
def _network(width: int) -> networks.Network:
    """One for all problems, so that its programs are compiled once."""
    return networks.mlp((width, width), outputs=OUTPUTS)
