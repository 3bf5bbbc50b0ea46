"""Claim: every sweep of correction takes the prediction closer to training by a power of the width.

Four agents on a ring learn a product of signs by DGD at half the limit for 200 rounds: one hidden
layer of erf, widths 64 to 2048, four starts. After each number of sweeps, the gap of the predicted
parameters and outputs from float64 training at the end, and its slope in the width with the 95 %
interval; then the same of ReLU, whose defect is not smooth, with the sweeps that were kept; then
both linearized anew in four rounds, widths 64 to 512, with sweeps of their own in each. Run

    .venv/bin/python analysis/corrections.py              (about 25 minutes on one CPU core)

It prints and writes analysis/results/corrections.md.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import ntkdyn as nd
from ntkdyn.data import Dataset, Partition
from ntkdyn.theory.slopes import power

OUT = Path(__file__).parent / "results" / "corrections.md"
AGENTS, POINTS, FEATURES, TESTS, ROUNDS = 4, 8, 5, 40, 200
WIDTHS, SEEDS, SWEEPS = (64, 128, 256, 512, 1024, 2048), (0, 1, 2, 3), (0, 1, 2, 3)
SIGNS = nd.losses.Loss(
    "half squares",
    lambda f, y: jnp.sum((f - (2 * y - 1)) ** 2, axis=-1) / 2,
    1.0,
    float,
    binary=True,
)
"""of one output, which is to be -1 or 1"""
W = nd.graphs.metropolis(nd.graphs.ring(AGENTS))
ANCHORS, NARROW = [0, 8, 30, 80], WIDTHS[:4]


def start(width: int, key: jax.Array, features: tuple[int, ...]) -> dict:
    """One hidden layer, without biases."""
    first, last = jax.random.split(key)
    return {
        "hidden": jax.random.normal(first, (*features, width)),
        "out": jax.random.normal(last, (width, 1)),
    }


def applying(activation: str) -> Callable[[dict, jax.Array], jax.Array]:
    """v . 1.4 s(A x / sqrt(features)) / sqrt(width)."""
    bend = {"erf": jax.scipy.special.erf, "relu": jax.nn.relu}[activation]

    def apply(params: dict, x: jax.Array) -> jax.Array:
        seen = 1.4 * bend(x @ params["hidden"] / math.sqrt(x.shape[1]))
        return seen @ params["out"] / math.sqrt(seen.shape[1])

    return apply


def problem_of(activation: str, width: int, seed: int) -> nd.Problem:
    """Points on a sphere; the class is the sign of a product of two coordinates."""
    rng = np.random.default_rng(0)
    points = rng.standard_normal((AGENTS * POINTS + TESTS, FEATURES)).astype(np.float32)
    points *= np.sqrt(FEATURES) / np.linalg.norm(points, axis=1, keepdims=True)
    labels = (points[:, 0] * points[:, 1] > 0).astype(int)
    train, test = slice(AGENTS * POINTS), slice(AGENTS * POINTS, None)
    data = Dataset(
        "signs", points[train], labels[train], points[test], labels[test], 2, "made here"
    )
    owner = np.repeat(np.arange(AGENTS), POINTS)
    network = nd.networks.wrap(applying(activation), functools.partial(start, width), 1)
    return nd.Problem(network, Partition(data, owner, AGENTS, "in order"), SIGNS, seed)


def gaps(
    activation: str, width: int, seed: int, anchors: list[int] | None = None
) -> tuple[list[tuple[float, float]], int]:
    """(parameter gap, output gap) at the end by number of sweeps, and how many were kept."""
    problem, save = problem_of(activation, width, seed), nd.SaveOptions(parameter_rounds=[ROUNDS])
    method = nd.methods.dgd(step_size=nd.of_limit(0.5))
    known = nd.dynamics.assess(problem, method, W)
    asked = problem, known.method, W, [0, ROUNDS]
    real = nd.train(*asked, save=save, precision="float64")
    found = []
    for sweeps in SWEEPS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            how = {"stability": known, "corrections": sweeps, "anchors": anchors}
            told = nd.predict(*asked, save=save, **how)
        found.append((apart(told, real, "parameters"), apart(told, real, "outputs")))
    return found, told.attrs["corrections"]


def apart(predicted, real, name: str) -> float:
    """|predicted - real| / |real - start| at the end, over all agents."""
    end = real[name].values[-1]
    return float(
        np.linalg.norm(predicted[name].values[-1] - end)
        / np.linalg.norm(end - real[f"initial_{name}"].values)
    )


def table(activation: str, say, anchors: list[int] | None = None) -> list[str]:
    """Gaps by width, in %, as geometric means over starts, and slopes."""
    head = " | ".join(f"{what}, {k}" for what in ("parameters", "outputs") for k in SWEEPS)
    lines = [
        f"| {activation}{', anchors' if anchors else ''}: width | {head} | sweeps kept |",
        "|---" * (2 * len(SWEEPS) + 2) + "|",
    ]
    known, widths = [], NARROW if anchors else WIDTHS
    for width in widths:
        found = [gaps(activation, width, seed, anchors) for seed in SEEDS]
        values = np.array([each for each, _ in found])
        known.append(values)
        means = 100 * np.exp(np.log(values).mean(axis=0))
        cells = [f"{value:.3g}" for value in means.T.ravel()]
        kept = ", ".join(str(kept) for _, kept in found)
        lines.append(f"| {width} | {' | '.join(cells)} | {kept} |")
        say(lines[-1])
    fits = [
        power(widths, [values[:, k, place] for values in known])
        for place in (0, 1) for k in range(len(SWEEPS))
    ]  # fmt: skip
    slopes = [f"{fit.value:.2f} ({fit.low:.2f} to {fit.high:.2f})" for fit in fits]
    lines.append(f"| slope | {' | '.join(slopes)} | |")
    say(lines[-1])
    return lines


def main() -> None:
    """Fill the tables, and write them."""
    say = lambda line: print(line, flush=True)
    tables = [
        table(activation, say, anchors)
        for anchors in (None, ANCHORS) for activation in ("erf", "relu")
    ]  # fmt: skip
    OUT.write_text("\n\n".join("\n".join(each) for each in tables) + "\n")


if __name__ == "__main__":
    main()
