"""Claim: at widths up to 32768 prediction and training meet, and training uses the device.

One command, under 8 minutes on one modern GPU (the aim; it has NOT been run on a GPU so far: no
numbers of one are in this repository, and what `--small` does on a CPU says nothing about speed):

    .venv/bin/python analysis/benchmarks/gpu.py --data-dir DIR       (or NTKDYN_DATA=DIR)
    .venv/bin/python analysis/benchmarks/gpu.py --small              (seconds on a CPU, digits)

Sixteen agents on the exponential graph learn 512 images of MNIST by DGD, all points every round.

    gaps        a network with one hidden layer of 1024 to 32768 neurons, two starts each: predicted
                on the device in float64 (its own kernel, that of infinite width), trained in
                float32; the largest gap of the last round, its slope over widths, seconds of each
    throughput  two hidden layers, 512 points per agent and round, in TF32: operations of XLA's own
                count over time, as a share of the rate of one large matrix product in the same
                precision, measured in the same run. Widths that do not fit are said to be refused:
                with two layers of 32768, sixteen agents' parameters alone are 70 GB

It writes analysis/results/gpu-NAME.json and .png, NAME being the device's. With `--papers`

    .venv/bin/python analysis/benchmarks/gpu.py --papers --minutes 9 --data-dir DIR

it runs the studies of papers/ in full instead, one after the other, into analysis/out/papers/, and
stops after the first case that ends later than so many minutes; the same command goes on where it
stopped or was killed, until it says that all are done.
"""

import argparse
import contextlib
import functools
import json
import re
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import ntkdyn as nd
from ntkdyn import graphs, memory, methods, papers, precision, runs
from ntkdyn.data import Dataset, Partition
from ntkdyn.engine import Iteration, advance
from ntkdyn.errors import InputError
from ntkdyn.records import environment
from ntkdyn.validation.widths import slope, width_sweep


class Sizes(NamedTuple):
    """What is run."""

    data: str
    agents: int
    points: int
    tests: int
    widths: tuple[int, ...]
    seeds: int
    kernels: tuple[str, ...]
    rounds: int
    wide: tuple[int, ...]
    """widths of both hidden layers where throughput is measured"""
    batch: int
    """points per agent and round there"""
    square: int
    """rows and columns of the matrices that the device's rate is measured with"""


DOUBLING = (1024, 2048, 4096, 8192, 16384, 32768)
FULL = Sizes(
    "mnist",
    16,
    512,
    512,
    DOUBLING,
    2,
    ("empirical", "infinite"),
    300,
    (8192, 16384, 32768),
    512,
    16384,
)
SMALL = Sizes("digits", 4, 48, 16, (32, 128), 2, ("empirical",), 20, (32,), 8, 128)


def measure(sizes: Sizes, data_dir: Path | None) -> dict[str, Any]:
    """All of it, and how long it took."""
    begun = time.perf_counter()
    overlay = gaps(sizes, data_dir)
    rate = product_rate(sizes.square)
    found = {
        "gaps": overlay,
        "product_Tflops": rate / 1e12,
        "throughput": [throughput(sizes, width, rate) for width in sizes.wide],
        "sizes": sizes._asdict(),
        "seconds": time.perf_counter() - begun,
    }
    return found | environment()


def gaps(sizes: Sizes, data_dir: Path | None) -> dict[str, Any]:
    """Gaps by width with their slopes, and the seconds that one prediction takes."""
    data = nd.data.load(sizes.data, train=sizes.points, test=sizes.tests, seed=0, data_dir=data_dir)
    shares = nd.data.partition(data, agents=sizes.agents, by="iid", seed=0)
    weights = graphs.metropolis(graphs.exponential(sizes.agents))

    network = functools.cache(lambda width: nd.networks.mlp((width,), outputs=10))
    problem = lambda width, seed: nd.Problem(network(width), shares, seed=seed)

    method = methods.dgd(step_size=methods.of_limit(0.5))
    sweep = width_sweep(
        problem, method, weights, sizes.rounds,
        widths=sizes.widths, seeds=range(sizes.seeds), kernels=sizes.kernels,
    )  # fmt: skip
    worst = sweep["gap"].max("agent").mean("seed")
    begun = time.perf_counter()
    nd.predict(problem(sizes.widths[-1], 0), method, weights, [sizes.rounds])
    return {
        "widths": list(sizes.widths),
        "by_kernel": {
            name: {
                "largest_gap": worst.sel(kernel=name).values.tolist(),
                "slope": slope(sweep, name)._asdict(),
            }
            for name in sizes.kernels
        },
        "prediction_seconds": time.perf_counter() - begun,
    }


def product_rate(size: int) -> float:
    """Operations per second of one square product, as the networks compute theirs."""
    with precision.tensorfloat32():
        square = jnp.ones((size, size)) / size
        program = jax.jit(lambda a: a @ a)
        return 2 * size**3 / _seconds(lambda: program(square))


def throughput(sizes: Sizes, width: int, rate: float) -> dict[str, Any]:
    """Rounds of DGD of all agents: operations per second, and their share of `rate`."""
    with precision.tensorfloat32():
        iteration = _wide(sizes, width)
        try:
            fitted = memory.fit(lambda points: iteration, memory.available(None))
        except InputError as error:
            return {"width": width, "refused": str(error)}
        state, one = iteration.init(), jnp.array(1)
        program = advance.lower(iteration, state, jnp.array(0), one).compile()
        box = [state]

        def some() -> Any:
            box[0] = advance(iteration, box[0], jnp.array(0), jnp.array(ROUNDS))
            return box[0]

        seconds = _seconds(some) / ROUNDS
    speed = float(program.cost_analysis()["flops"]) / seconds
    taken = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {
        "width": width,
        "seconds_per_round": seconds,
        "Tflops": speed / 1e12,
        "share_of_product_rate": speed / rate,
        "memory_estimate": fitted.need.round,
        "peak_bytes_in_use": taken,
    }


ROUNDS = 5
"""in a timed call"""


def _wide(sizes: Sizes, width: int) -> Iteration:
    """Agents with two hidden layers and `batch` points of noise each: speed asks no more."""
    rng = np.random.default_rng(0)
    count = sizes.agents * sizes.batch
    inputs = rng.standard_normal((count + 1, 784)).astype(np.float32)
    labels = rng.integers(0, 10, count + 1)
    data = Dataset(
        "noise", inputs[:-1], labels[:-1], inputs[-1:], labels[-1:], 10, "standard normal"
    )
    shares = Partition(data, np.arange(count) % sizes.agents, sizes.agents, "iid")
    problem = nd.Problem(nd.networks.mlp((width, width), outputs=10), shares)
    weights = graphs.metropolis(graphs.exponential(sizes.agents))
    asked = runs.plan(problem, methods.dgd(step_size=1e-3), weights, 1)
    return runs.iteration_of(asked, problem.network_space())


def _seconds(work: Any, turns: int = 3) -> float:
    """The best of a few, the compiling one apart."""
    times = []
    for _ in range(turns + 1):
        begun = time.perf_counter()
        jax.block_until_ready(work())
        times.append(time.perf_counter() - begun)
    return min(times[1:])


class TimeIsUp(Exception):
    """Between two cases of a study, of which those before are kept."""


def studies(folder: Path, data_dir: Path | None, minutes: float, *, small: bool) -> list[str]:
    """Run those that are not done until the time is up; which are still to be done."""
    lacking = [name for name in papers.STUDIES if not (folder / name / "study.nc").exists()]
    begun = time.monotonic()

    def progress(done: int, asked: int) -> None:
        if time.monotonic() - begun > 60 * minutes:
            raise TimeIsUp

    with contextlib.suppress(TimeIsUp):
        while lacking:
            papers.run(
                lacking[0], folder / lacking[0],
                small=small, data_dir=data_dir, resume=True, progress=progress,
            )  # fmt: skip
            del lacking[0]
    return lacking


def draw(found: dict[str, Any]) -> plt.Figure:
    """Gaps over widths, and the share of the device's rate."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for name, each in found["gaps"]["by_kernel"].items():
        label = f"{name} kernel, slope {each['slope']['value']:.2f}"
        left.loglog(found["gaps"]["widths"], each["largest_gap"], "o-", label=label)
    left.set(xlabel="width", ylabel="largest gap over agents")
    left.legend(frameon=False)
    timed = [each for each in found["throughput"] if "refused" not in each]
    right.bar([str(t["width"]) for t in timed], [t["share_of_product_rate"] for t in timed])
    right.set(xlabel="width of both layers", ylabel="share of the product rate")
    figure.suptitle(found["device"], fontsize="small")
    return figure


def main() -> None:
    """Run it, write both files and say where they are."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--papers", action="store_true", help="the studies of papers/ instead")
    parser.add_argument("--minutes", type=float, default=9.0, help="for them")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results")
    asked = parser.parse_args()
    if asked.papers:
        folder = asked.out.parent / "out" / "papers"
        lacking = studies(folder, asked.data_dir, asked.minutes, small=asked.small)
        print(f"still to do: {', '.join(lacking)}" if lacking else f"all are done: {folder}")
        return
    found = measure(SMALL if asked.small else FULL, asked.data_dir)
    kind = re.sub(r"\W+", "-", jax.devices()[0].device_kind.lower())
    path = asked.out / f"gpu-{kind}{'-small' if asked.small else ''}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw(found).savefig(path.with_suffix(".png"), dpi=150)
    print(path.with_suffix(".json"), path.with_suffix(".png"), sep="\n")


if __name__ == "__main__":
    main()
