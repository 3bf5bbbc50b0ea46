"""Doors of the Python package: its public calls, on a small problem."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

import ntkdyn as nd
from fuzz.harness import Door
from fuzz.inputs import Draw, changed, odd, replaced
from ntkdyn import data, dynamics, figures, graphs, kernels, losses, methods, networks, records
from ntkdyn.data import Dataset, Partition

AGENTS, POINTS = 4, 8


def call(function: Callable, valid: Mapping[str, Any]) -> Callable[[Draw, Path], None]:
    """An attempt at a function whose arguments may all be named, on these but for one or two."""

    def attempt(draw: Draw, folder: Path) -> None:
        del folder
        function(**replaced(draw, valid))

    return attempt


def one_of(attempts: list[Callable[[Draw, Path], None]]) -> Callable[[Draw, Path], None]:
    return lambda draw, folder: attempts[draw.integers(len(attempts))](draw, folder)


# --- what is right ----------------------------------------------------------------------------


@functools.cache
def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((POINTS + 2, 5))
    kernel = features @ features[:POINTS].T
    y = rng.standard_normal((POINTS + 2, 1))
    return {
        "K": kernel[:POINTS],
        "y": y[:POINTS],
        "owner": np.arange(POINTS) % AGENTS,
        "f0": 0.1 * y[:POINTS],
        "K_test": kernel[POINTS:],
        "y_test": y[POINTS:],
        "f0_test": 0.1 * y[POINTS:],
        "loss": "mse",
    }


@functools.cache
def bare() -> nd.KernelProblem:
    return nd.KernelProblem(**arrays())


@functools.cache
def points() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {
        "name": "drawn",
        "train_inputs": rng.standard_normal((12, 3)).astype("f4"),
        "train_labels": np.arange(12) % 2,
        "test_inputs": rng.standard_normal((4, 3)).astype("f4"),
        "test_labels": np.arange(4) % 2,
        "classes": 2,
        "normalisation": "none",
    }


@functools.cache
def shares() -> dict[str, Any]:
    return {
        "data": Dataset(**points()), "owner": np.arange(12) % AGENTS, "agents": AGENTS,
        "rule": "given",
    }  # fmt: skip


@functools.cache
def network() -> networks.Network:
    return networks.mlp((4,), outputs=2)


@functools.cache
def whole() -> nd.Problem:
    return nd.Problem(network(), Partition(**shares()))


@functools.cache
def weights() -> graphs.MixingMatrix:
    return graphs.metropolis(graphs.ring(AGENTS))


@functools.cache
def run() -> dict[str, Any]:
    return {
        "method": methods.dgd(step_size=0.05), "weights": weights(), "rounds": 4,
        "save": nd.SaveOptions(record_every=2),
    }  # fmt: skip


@functools.cache
def sides() -> tuple[Any, Any]:
    asked = {"method": methods.dgd(step_size=0.05), "weights": weights(), "rounds": 4}
    return nd.predict(whole(), **asked), nd.train(whole(), **asked)


def within(low: int, high: int) -> Callable[[Any], Any]:
    """Numbers of rounds that would be right but long are made few; all else stays as it is."""

    def few(value: Any) -> Any:
        plain = isinstance(value, int) and not isinstance(value, bool)
        return low + value % (high - low) if plain and high < value < 2**53 else value

    return few


def _asked(draw: Draw, more: Mapping[str, Any] = {}) -> dict[str, Any]:
    batches = {"batch_size": 1, "batch_seed": 0} if draw.random() < 0.3 else {}
    found = replaced(draw, run() | more | batches)
    return found | {"rounds": within(1, 50)(found["rounds"])}


# --- what is tried ----------------------------------------------------------------------------


def _saved(draw: Draw) -> Any:
    valid = {
        "outputs": True, "parameter_rounds": [2], "parameter_agents": [0, 1], "per_tensor": 3,
        "seed": 0, "trust": False, "distances": False, "kernel": False, "points": 0.5,
    }  # fmt: skip
    return nd.SaveOptions(**replaced(draw, valid))


def predict(draw: Draw, folder: Path) -> None:
    del folder
    more = {"kernel": "empirical", "via": dynamics.Scheme(), "stability": None}
    problem = bare() if draw.random() < 0.7 else whole()
    asked = _asked(draw, more)
    if draw.random() < 0.2:
        asked["save"] = _saved(draw)
    nd.predict(problem, **asked)


def train(draw: Draw, folder: Path) -> None:
    del folder
    asked = _asked(draw, {"precision": "float32", "resources": nd.validation.Resources()})
    if draw.random() < 0.2:
        asked["save"] = _saved(draw)
    nd.train(whole(), **asked)


def problem(draw: Draw, folder: Path) -> None:
    del folder
    valid = {
        "network": network(), "partition": Partition(**shares()), "loss": "mse", "seed": 0,
        "public": np.ones((2, 3), "f4"),
    }  # fmt: skip
    found = nd.Problem(**replaced(draw, valid))
    _ = found.task, found.start, found.inputs


def kernel_problem(draw: Draw, folder: Path) -> None:
    del folder
    found = nd.KernelProblem(**replaced(draw, arrays()))
    if draw.random() < 0.1:
        nd.predict(found, methods.dgd(step_size=0.05), weights(), 2)


ON_A_GRAPH = {name: graphs.ring(6) for name in graphs.WEIGHTS}
TOPOLOGIES = {
    "torus": {"rows": 2, "columns": 3},
    "hypercube": {"dimension": 3},
    "random_regular": {"agents": 6, "degree": 3, "seed": 0},
    "erdos_renyi": {"agents": 6, "probability": 0.7, "seed": 1},
    "circulant": {"agents": 9, "hops": (1, 4)},
    "from_edges": {"edges": [(0, 1), (1, 2), (2, 3)], "agents": 4},
}
PLAIN = [name for name in graphs.TOPOLOGIES if name not in {*TOPOLOGIES, "petersen", "davis",
                                                            "dyck", "four_rings"}]  # fmt: skip


def topology(draw: Draw, folder: Path) -> None:
    del folder
    name = [*TOPOLOGIES, *PLAIN][draw.integers(len(TOPOLOGIES) + len(PLAIN))]
    graph = graphs.TOPOLOGIES[name](**replaced(draw, TOPOLOGIES.get(name, {"agents": 6})))
    graphs.uniform(graph)


def rule(draw: Draw, folder: Path) -> None:
    del folder
    name = [*graphs.WEIGHTS][draw.integers(len(graphs.WEIGHTS))]
    ring = graphs.ring(6)
    graphs.WEIGHTS[name](odd(draw) if draw.random() < 0.3 else changed(draw, ring))


def mixing(draw: Draw, folder: Path) -> None:
    del folder
    matrix = np.asarray(weights())
    graphs.mixing(
        **{("weights" if k == "w" else k): v for k, v in replaced(
            draw, {"w": matrix, "name": "own", "agents": AGENTS, "sums": "rows"}).items()}
    )  # fmt: skip


SEQUENCES = one_of(
    [
        call(graphs.link_failures, {
            "weights": graphs.metropolis(graphs.ring(4)), "probability": 0.2, "length": 5,
            "seed": 0}),
        call(graphs.random_matchings, {"graph": graphs.ring(4), "length": 5, "seed": 0}),
        call(graphs.one_peer_exponential, {"agents": 4}),
        call(graphs.lazy, {"weights": graphs.metropolis(graphs.ring(4)), "stay": 0.5}),
        call(graphs.laplacian, {"graph": graphs.ring(4), "epsilon": 0.2}),
        call(graphs.isolated, {"agents": 4}),
        call(graphs.build, {
            "topology": "ring", "weights": "metropolis", "defaults": {"agents": 4, "seed": 0}}),
    ]
)  # fmt: skip


def partition(draw: Draw, folder: Path) -> None:
    del folder
    rules = [
        {"by": "iid"}, {"by": "dirichlet", "alpha": 0.5},
        {"by": "primary", "primary_labels": 1, "skew": 0.5}, {"by": "dirichlet_groups",
        "alpha": 0.3}, {"by": "classes"},
    ]  # fmt: skip
    valid = {"data": Dataset(**points()), "agents": 4, "min_points": 1, "seed": 0}
    data.partition(**replaced(draw, valid | rules[draw.integers(len(rules))]))


def method(draw: Draw, folder: Path) -> None:
    import inspect

    del folder
    name = [*methods.METHODS][draw.integers(len(methods.METHODS))]
    make = methods.METHODS[name]
    valid = {
        each.name: 0.05 if each.default is inspect.Parameter.empty else each.default
        for each in inspect.signature(make).parameters.values()
    }
    found = make(**replaced(draw, valid))
    found.check_weights(weights())
    if draw.random() < 0.1:
        target = bare() if found.view == "outputs" else whole()
        nd.predict(target, found, weights(), 2)


WRAPPERS = one_of(
    [
        call(methods.of_limit, {"share": 0.5}),
        call(methods.damped, {"method": methods.dgd(step_size=0.05), "gamma": 0.5}),
        call(methods.periodic, {"method": methods.dgd(step_size=0.05), "tau": 2}),
        call(losses.named, {"name": "mse"}),
    ]
)


def architecture(draw: Draw, folder: Path) -> None:
    del folder
    kind = ["mlp", "cnn", "resnet"][draw.integers(3)]
    valid = {"widths": [4, 4], "outputs": 2, "activation": "relu", "w_std": 1.4, "b_std": [0.1] * 3}
    features: tuple[int, ...] = (3,)
    if kind != "mlp":
        features = (4, 4, 1)
        valid |= {"filter": 3, "strides": 1, "pool": "average", "image": [4, 4, 1]}
    made = networks.KINDS[kind](**replaced(draw, valid))
    params = made.start(jax.random.key(0), features)
    jax.eval_shape(made.apply, params, np.ones((2, *features), "f4"))


def compute(draw: Draw, folder: Path) -> None:
    x = np.random.default_rng(2).standard_normal((6, 3)).astype("f4")
    valid = {
        "apply": network().apply, "params": network().start(jax.random.key(0), (3,)), "x1": x,
        "x2": None, "form": "trace", "by_layer": False,
    }  # fmt: skip
    how = {
        "method": "auto", "dtype": None, "accumulate": None, "memory": None, "file": None,
        "devices": None,
    }  # fmt: skip
    options = kernels.ComputeOptions(**replaced(draw, how))
    kernels.compute(**replaced(draw, valid | {"options": options}))


def _analysis(function: Callable, more: Mapping[str, Any]) -> Callable[[Draw, Path], None]:
    def attempt(draw: Draw, folder: Path) -> None:
        del folder
        given = {"method": methods.dgd(step_size=0.05), "weights": weights(), **more}
        target = bare() if draw.random() < 0.8 else whole()
        asked = replaced(draw, given)
        if "rounds" in asked:
            asked["rounds"] = within(1, 50)(asked["rounds"])
        function(target, **asked)

    return attempt


ANALYSES = one_of(
    [
        _analysis(dynamics.step_size_limit, {"kernel": "empirical"}),
        _analysis(dynamics.limit, {"kernel": "empirical"}),
        _analysis(dynamics.rounds_until, {"below": 0.5, "measured": "train_loss", "at_most": 100}),
        _analysis(dynamics.slowest_modes, {"count": 3, "kernel": "empirical"}),
        _analysis(dynamics.spectrum, {"kernel": "empirical"}),
        _analysis(
            dynamics.flow, {"rounds": 4, "tolerance": 1e-6, "save": nd.SaveOptions(record_every=2)}
        ),
        _analysis(dynamics.minibatch_noise, {"rounds": 4, "batch_size": 1, "record_every": 2}),
        _analysis(dynamics.link_noise, {"rounds": 4, "record_every": 2}),
        _analysis(dynamics.ensemble, {"rounds": 4, "starts": dynamics.Starts(0, 8)}),
    ]
)


def comparison(draw: Draw, folder: Path) -> None:
    del folder
    predicted, observed = (_altered(draw, side) for side in sides())
    nd.compare(predicted, observed)


def drawing(draw: Draw, folder: Path) -> None:
    del folder
    name = [*figures.FIGURES][draw.integers(len(figures.FIGURES))]
    held = [_altered(draw, side) for side in itertools.islice(sides(), int(draw.integers(3)))]
    figures.draw(odd(draw) if draw.random() < 0.2 else name, held)


def writing(draw: Draw, folder: Path) -> None:
    record = _altered(draw, sides()[0])
    records.write(record, folder / "written.nc")
    records.read(folder / "written.nc")


def _altered(draw: Draw, record: Any) -> Any:
    """The record with a variable or attribute odd, lost or renamed; or no record at all."""
    names = [*record.variables]
    name = names[draw.integers(len(names))]
    attribute = [*record.attrs][draw.integers(len(record.attrs))]
    ways: list[Callable[[], Any]] = [
        lambda: record,
        lambda: record.drop_vars(name),
        lambda: record.assign_attrs({attribute: odd(draw)}),
        lambda: record.assign_attrs({"more": odd(draw)}),
        lambda: record.drop_attrs(),
        lambda: record.isel(round=slice(0, int(draw.integers(3)))),
        lambda: record.isel(agent=slice(0, int(draw.integers(3)))),
        lambda: (
            record.assign({name: record[name].copy() * np.nan})
            if record[name].dtype.kind == "f"
            else record
        ),
        lambda: record.rename({"agent": "other"}),
        lambda: odd(draw),
    ]
    return ways[draw.integers(len(ways))]()


def _loaded(draw: Draw, folder: Path) -> None:
    del folder
    valid = {"name": "digits", "train": 20, "test": 10, "seed": 0, "data_dir": None}
    data.load(**replaced(draw, valid))


DOORS = [
    Door("KernelProblem", kernel_problem, 16),
    Door("Problem", problem, 6),
    Door("Dataset", call(Dataset, points()), 12),
    Door("Partition", call(Partition, shares()), 6),
    Door("data.load", _loaded, 6),
    Door("data.partition", partition, 10),
    Door("graphs, topologies", topology, 10),
    Door("graphs, rules of weights", rule, 8),
    Door("graphs.mixing", mixing, 10),
    Door("graphs, sequences and others", SEQUENCES, 10),
    Door("methods", method, 12),
    Door("methods, wrapped; losses", WRAPPERS, 6),
    Door("networks", architecture, 6),
    Door("predict", predict, 8),
    Door("train", train, 8),
    Door("dynamics", ANALYSES, 8),
    Door("kernels.compute", compute, 6),
    Door("compare", comparison, 6),
    Door("figures.draw", drawing, 3),
    Door("records.write", writing, 1),
]
