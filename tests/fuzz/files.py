"""Doors for files: specs, records, kernels, datasets and checkpoints, damaged."""

from __future__ import annotations

import copy
import functools
import gzip
import shutil
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tomli_w

import ntkdyn as nd
from fuzz import doors
from fuzz.harness import Door, Wrong
from fuzz.inputs import NUMBERS, TEXTS, Draw, damaged
from ntkdyn import checkpoints, data, experiment, figures, kernels, methods, records

SPEC = """
title = "small"
seed = 3
loss = "mse"
kernel = "empirical"
[network]
kind = "mlp"
widths = [4, 4]
activation = "relu"
w_std = [1.4, 1.4, 1.0]
b_std = 0.1
[data]
name = "digits"
train = 24
test = 8
[partition]
agents = 4
by = "dirichlet"
alpha = 1.0
min_points = 1
[graph]
topology = "ring"
weights = "metropolis"
changes = { kind = "link_failures", length = 4, probability = 0.2, seed = 1 }
[method]
name = "heavy_ball"
step_size = { of_limit = 0.5 }
beta = 0.5
[run]
rounds = 4
record_every = 2
batch_size = 2
parameter_rounds = [4]
precision = "float32"
"""


def _built(spec: experiment.Spec) -> None:
    """All that a spec describes, but for the run."""
    work = experiment.Experiment(spec)
    _ = work.method, work.weights, work.problem.task, work.problem.start


def _places(table: Any, path: tuple = ()) -> list[tuple]:
    """Every table, list and value within a table, by the keys that lead to it."""
    inner = table.items() if isinstance(table, dict) else enumerate(table)
    found = []
    for key, value in inner:
        found.append((*path, key))
        if isinstance(value, dict | list):
            found += _places(value, (*path, key))
    return found


def _toml_value(draw: Draw) -> Any:
    """A value that TOML can hold."""
    numbers = [each for each in NUMBERS if not isinstance(each, complex) and each != -(10**5000)]
    texts = [each for each in TEXTS if each != "\ud800"]
    others = [[], {}, [1, 2], ["a"], [[1.0]], {"a": 1}, {"of_limit": 0.5}, [{"a": []}]]
    pool = [numbers, texts, others][draw.integers(3)]
    return pool[draw.integers(len(pool))]


def changed_spec(draw: Draw, text: str) -> dict[str, Any]:
    """The spec, seldom with none, mostly with one, at times with two of its settings changed."""
    spec = tomllib.loads(text)
    for _ in range(draw.choice([0, 1, 2], p=[0.05, 0.7, 0.25])):
        _change(draw, spec)
    return spec


def _change(draw: Draw, spec: dict[str, Any]) -> None:
    """One setting odd, lost, renamed, in another table or deeper within its own."""
    places = _places(spec)
    *path, key = places[draw.integers(len(places))]
    table = functools.reduce(lambda inner, step: inner[step], path, spec)
    value = copy.deepcopy(table[key])
    ways: list[Callable[[], Any]] = [
        lambda: table.__setitem__(key, _toml_value(draw)),
        lambda: table.__setitem__(key, _toml_value(draw)),
        lambda: table.__delitem__(key),
        lambda: spec.__setitem__(f"{key}", value),
        lambda: table.__setitem__(f"{key}s", value) if isinstance(key, str) else None,
        lambda: table.__setitem__(key, [value]),
        lambda: table.__setitem__(key, {"value": value}),
    ]
    ways[draw.integers(len(ways))]()


def by_grammar(draw: Draw, folder: Path) -> None:
    del folder
    _built(experiment.parse(tomli_w.dumps(changed_spec(draw, SPEC)), "spec.toml"))


def by_bytes(draw: Draw, folder: Path) -> None:
    path = folder / "spec.toml"
    path.write_bytes(damaged(draw, SPEC.encode()) if draw.random() < 0.4 else _misspelt(draw))
    spec = experiment.load(path)
    sizes = spec.data.train, spec.data.test, spec.partition.agents
    if all(each is None or each < 100 for each in sizes):
        _built(spec)


def _misspelt(draw: Draw) -> bytes:
    """The spec with a line twice, lost or elsewhere, or with another character in a value."""
    lines = SPEC.strip().split("\n")
    at, to = (int(each) for each in draw.integers(len(lines), size=2))
    key, _, value = lines[at].partition("=")
    where = int(draw.integers(len(value) + 1))
    character = "0123456789-.e\"'[]{}#=,+_ tnai\u00b2"[draw.integers(30)]
    changed = f"{key}={value[:where]}{character}{value[where:]}"
    ways = [
        [*lines, lines[at]],
        lines[:at] + lines[at + 1 :],
        [*lines[:to], lines[at], *lines[to:]],
        [*lines[:at], changed, *lines[at + 1 :]],
    ]
    return "\n".join(ways[draw.choice(4, p=[0.1, 0.1, 0.1, 0.7])]).encode()


# --- what the package writes itself: damage is found, or does no harm --------------------------


@functools.cache
def _record() -> tuple[Any, bytes]:
    record = doors.sides()[0]
    return record, _written(lambda path: records.write(record, path))


@functools.cache
def _kernel() -> tuple[np.ndarray, bytes]:
    made = []
    content = _written(lambda path: made.append(_computed(path)))
    return made[0], content


def _written(write: Callable[[Path], Any]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "whole"
        write(path)
        return path.read_bytes()


def _computed(path: Path) -> np.ndarray:
    x = np.random.default_rng(2).standard_normal((6, 3)).astype("f4")
    params = doors.network().start(jax.random.key(0), (3,))
    made = kernels.compute(
        doors.network().apply, params, x, form="trace", options=nd.kernels.ComputeOptions(file=path)
    )
    return np.array(made.values)


def record(draw: Draw, folder: Path) -> None:
    right, content = _record()
    path = folder / "damaged.nc"
    path.write_bytes(damaged(draw, content))
    found = records.read(path)
    if not found.identical(right):
        raise Wrong("a damaged record is read as if it were whole")
    if draw.random() < 0.05:
        figures.draw("overlay", [found, doors.sides()[1]])


def kernel(draw: Draw, folder: Path) -> None:
    right, content = _kernel()
    path = folder / "damaged.h5"
    path.write_bytes(damaged(draw, content))
    found = _computed(path)
    if not np.allclose(found, right, rtol=1e-5, atol=1e-6):
        raise Wrong("a damaged kernel is read as if it were whole")


@functools.cache
def _interrupted() -> Path:
    """A folder with the checkpoints of a run that was not finished."""
    folder = Path(tempfile.mkdtemp())
    try:
        _train(folder, after=6)
    except KeyboardInterrupt:
        return folder
    raise AssertionError("the run was not interrupted")


def _train(folder: Path, after: int | None = None) -> Any:
    def progress(done: int, total: int) -> None:
        if after is not None and done >= after:
            raise KeyboardInterrupt

    saving = checkpoints.Checkpoints(folder, resume=after is None, rounds=2)
    return nd.train(
        doors.whole(), methods.dgd(step_size=0.05), doors.weights(), list(range(9)),
        checkpoints=saving, progress=progress,
    )  # fmt: skip


@functools.cache
def _finished() -> Any:
    return nd.train(
        doors.whole(), methods.dgd(step_size=0.05), doors.weights(), list(range(9))
    )  # fmt: skip


def checkpoint(draw: Draw, folder: Path) -> None:
    here = folder / "checkpoints"
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(_interrupted(), here)
    paths = sorted(path for path in here.rglob("*") if path.is_file() and path.stat().st_size)
    path = paths[draw.integers(len(paths))]
    path.write_bytes(damaged(draw, path.read_bytes()))
    found = _train(here)
    if not np.array_equal(found["outputs"], _finished()["outputs"]):
        raise Wrong("a damaged checkpoint is continued as if it were whole")


# --- datasets from outside --------------------------------------------------------------------


def _idx(array: np.ndarray) -> bytes:
    sizes = b"".join(int(size).to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


@functools.cache
def _images() -> dict[str, bytes]:
    """The files of a folder with few images, as MNIST has them."""
    rng = np.random.default_rng(3)
    files = {}
    for part, number in (("train", 12), ("t10k", 6)):
        images = rng.integers(0, 256, (number, 28, 28), dtype=np.uint8)
        files[f"{part}-images-idx3-ubyte"] = _idx(images)
        files[f"{part}-labels-idx1-ubyte"] = _idx(np.arange(number, dtype=np.uint8) % 10)
    return files


@functools.cache
def _npz() -> bytes:
    rng = np.random.default_rng(4)
    held = {
        f"{axis}_{part}": rng.random((9, 16, 16)) if axis == "x" else np.arange(9) % 10
        for axis in "xy"
        for part in ("train", "test")
    }
    return _written(lambda path: np.savez(path.open("wb"), **held))


def idx(draw: Draw, folder: Path) -> None:
    here = folder / "mnist"
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir()
    files = dict(_images())
    name = [*files][draw.integers(len(files))]
    if draw.random() < 0.3:
        files[f"{name}.gz"] = damaged(draw, gzip.compress(files.pop(name), mtime=0))
    else:
        head = damaged(draw, files[name][:24])
        files[name] = head + files[name][24:] if draw.random() < 0.6 else damaged(draw, files[name])
    for each, content in files.items():
        (here / each).write_bytes(content)
    data.load("mnist", train=8, test=4, seed=0, data_dir=here)


def npz(draw: Draw, folder: Path) -> None:
    here = folder / "usps"
    here.mkdir(exist_ok=True)
    (here / "usps.npz").write_bytes(damaged(draw, _npz()))
    data.load("usps", train=8, test=4, seed=0, data_dir=here)


DOORS = [
    Door("specs, by grammar", by_grammar, 14),
    Door("specs, by bytes", by_bytes, 16),
    Door("records", record, 10),
    Door("kernel files", kernel, 10),
    Door("checkpoints", checkpoint, 2),
    Door("IDX files", idx, 14),
    Door("npz files", npz, 14),
]
