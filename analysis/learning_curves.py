"""Claim: spectrum, target and graph foretell test losses on images, as if inputs were Gaussian.

Eight agents on a ring hold 20 to 400 images each and run DGD at half the limit of the whole pool's
kernel; on the loose ring they hear a hundredth of what they do else, so that they differ more.
Predicted are their losses from the kernel's spectrum on a pool of images, without any draw. Beside
them are means over 20 draws of points: of the same kernel on the points drawn, and of real networks
of width 2048. Run it as

    NTKDYN_DATA=... .venv/bin/python analysis/learning_curves.py    (an hour on 2 CPU cores)

It prints and writes analysis/results/learning-curves.md: by what share of the mean over draws the
prediction misses it, in the mean over agents; the standard error of the mean over draws, as a share
of it and in the mean over agents too, says how much of that may be chance. Beside it .png, a figure
of the loose ring.

"pool": agents draw from the pool with replacement and losses are means over it, so that spectrum
and target are exact and only the inputs' shape is not Gaussian. "others": they draw without
replacement from images outside the pool, and losses are means over further images still; spectrum
and target are those of all images as the pool tells them (`population_of`), or the pool's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

import ntkdyn as nd
from ntkdyn import figures
from ntkdyn.data import Dataset, Partition

OUT = Path(__file__).parent / "results" / "learning-curves.md"
COUNTS = [20, 40, 60, 80, 100, 150, 250, 400]
OWNER = np.repeat(np.arange(len(COUNTS)), COUNTS)
W = nd.graphs.metropolis(nd.graphs.ring(len(COUNTS)))
LOOSE = nd.graphs.mixing(0.99 * np.eye(len(COUNTS)) + 0.01 * W.matrix, name="loose ring")
POOL, OTHERS, TESTED = 3000, 3000, 4000
WIDTH, SEED, ROUNDS = 2048, 0, [1, 10, 30, 100, 300, 1000]


class Images(NamedTuple):
    """Inputs, targets, and the network that is to learn them."""

    name: str
    inputs: np.ndarray
    targets: np.ndarray
    network: nd.networks.Network

    def problem(self, train: np.ndarray, test: np.ndarray, owner: np.ndarray) -> nd.Problem:
        """The networks of agents that own the rows `train`, tested on the rows `test`."""
        x, y = self.inputs, self.targets
        data = Dataset(self.name, x[train], y[train], x[test], y[test], None, "common")
        return nd.Problem(self.network, Partition(data, owner, owner.max() + 1, "drawn"), seed=SEED)

    def empirical(self, points: int) -> np.ndarray:
        """The network's own kernel at its start, of one output."""
        params = self.problem(*[np.arange(points)] * 2, np.zeros(points, int)).start
        found = nd.kernels.compute(
            self.network.apply,
            params,
            self.inputs[:points],
            form="trace",
            options=nd.kernels.ComputeOptions(dtype="float64"),
        )
        return found.values / self.targets.shape[1]

    def start(self) -> np.ndarray:
        """What the network says at its start."""
        rows = np.arange(len(self.inputs))
        return self.problem(rows, rows[:1], np.zeros(len(rows), int)).initial[:-1]


def images(name: str, classes: range | tuple[int, ...]) -> Images:
    """Those of these classes; two are told apart by one output, -1 or 1."""
    data = nd.data.load(name, train=1796 if name == "digits" else 60000, test=1, seed=SEED)
    rows = np.flatnonzero(np.isin(data.train_labels, classes))[: POOL + OTHERS + TESTED]
    number = np.searchsorted(classes, data.train_labels[rows])
    targets = np.eye(len(classes))[number] - 1 / len(classes)
    targets = 2.0 * number[:, None] - 1 if len(classes) == 2 else targets
    made = nd.networks.mlp(
        (WIDTH,), outputs=targets.shape[1], w_std=(2**0.5, 0.2), b_std=(0.1, 0.0)
    )
    return Images(name, data.train_inputs[rows], targets, made)


def drawn(how: str, seed: int, pool: int = POOL) -> tuple[np.ndarray, np.ndarray]:
    """Rows that agents own, and rows that losses are means over."""
    rng = np.random.default_rng(seed)
    if how == "pool":
        return rng.choice(pool, len(OWNER)), np.arange(pool)
    outside = POOL + OTHERS
    return POOL + rng.permutation(OTHERS)[: len(OWNER)], np.arange(outside, outside + TESTED)


def by_kernel(
    kernel: np.ndarray, targets: np.ndarray, method, how: str, seed: int, W: nd.graphs.Weights = W
) -> np.ndarray:
    """Test losses (rounds, agents) of the kernel on the points of one draw."""
    own, test = drawn(how, seed, min(POOL, len(kernel)))
    problem = nd.KernelProblem(
        kernel[np.ix_(own, own)], targets[own], OWNER,
        K_test=kernel[np.ix_(test, own)], y_test=targets[test],
    )  # fmt: skip
    return nd.predict(problem, method, W, rounds=ROUNDS).test_loss.values


def by_training(seen: Images, method, how: str, seed: int, rounds: list[int]) -> np.ndarray:
    """The same of real networks."""
    problem = seen.problem(*drawn(how, seed), OWNER)
    return nd.train(problem, method, W, rounds=rounds).test_loss.values


def half_the_limit(spectrum: np.ndarray) -> nd.methods.Method:
    """DGD at half of (1 + lambda_min(W)) / lambda_1."""
    least = 1 + np.linalg.eigvalsh(W.matrix)[0]
    return nd.methods.dgd(step_size=float(0.5 * least / spectrum[0]))


def line(what: str, predicted: np.ndarray, draws: list[np.ndarray], rounds: list[int]) -> str:
    """A row of the table: miss and standard error in every round."""
    seen = np.array(draws)
    mean, error = seen.mean(axis=0), seen.std(axis=0, ddof=1) / np.sqrt(len(seen))
    miss, chance = (100 * (each / mean).mean(axis=1) for each in (abs(predicted - mean), error))
    cells = [f"{a:.1f} % ± {b:.1f}" for a, b in zip(miss, chance, strict=True)]
    cells += [""] * (len(ROUNDS) - len(rounds))
    return f"| {what} | {len(draws)} | {' | '.join(cells)} |"


def infinite(seen: Images, title: str, draws: int) -> list[str]:
    """Rows of the kernel of infinite width, from a start at zero."""
    kernel = nd.kernels.infinite.compute(seen.network.kernel, seen.inputs).values
    pool = kernel[:POOL, :POOL], seen.targets[:POOL]
    own, all_images = nd.theory.spectrum_of(*pool), nd.theory.population_of(*pool)
    method, rows, found = half_the_limit(own.values), [], {}
    for how in ("pool", "others"):
        found[how] = [by_kernel(kernel, seen.targets, method, how, seed) for seed in range(draws)]
    for how, what, modes in (
        ("pool", "pool", own), ("others", "others", all_images),
        ("others", "others, the pool's own spectrum", own),
    ):  # fmt: skip
        curve = nd.theory.learning_curve(*modes, method, W, COUNTS, ROUNDS).test_loss.values
        rows.append(line(f"{title}, infinite kernel, {what}", curve, found[how], ROUNDS))
        print(rows[-1], flush=True)
    return rows


def loose(seen: Images, title: str, draws: int) -> list[str]:
    """A row of agents that hear a hundredth of each other, on the pool, and a figure of them."""
    kernel = nd.kernels.infinite.compute(seen.network.kernel, seen.inputs[:POOL]).values
    spectrum = nd.theory.spectrum_of(kernel, seen.targets[:POOL])
    method, every = half_the_limit(spectrum.values), np.geomspace(1, ROUNDS[-1], 60).astype(int)
    curve = nd.theory.learning_curve(*spectrum, method, LOOSE, COUNTS, np.unique([*ROUNDS, *every]))
    found = [by_kernel(kernel, seen.targets, method, "pool", each, LOOSE) for each in range(draws)]
    drawn = {"test_loss": (("draw", "round", "agent"), np.array(found))}
    pictured = figures.draw("learning_curve", [curve, xr.Dataset(drawn, {"round": ROUNDS})])
    figures.write(pictured, OUT.with_suffix(".png"))
    predicted = curve.test_loss.sel(round=ROUNDS).values
    row = line(f"{title}, infinite kernel, pool, loose ring", predicted, found, ROUNDS)
    print(row, flush=True)
    return [row]


def on_its_pool(seen: Images, title: str, kernel: np.ndarray, draws: int) -> list[str]:
    """A row of this kernel on all of a pool."""
    points = len(kernel)
    spectrum = nd.theory.spectrum_of(kernel, seen.targets[:points])
    method = half_the_limit(spectrum.values)
    curve = nd.theory.learning_curve(*spectrum, method, W, COUNTS, ROUNDS)
    found = [
        by_kernel(kernel, seen.targets[:points], method, "pool", each) for each in range(draws)
    ]
    row = line(f"{title}, pool", curve.test_loss.values, found, ROUNDS)
    print(row, flush=True)
    return [row]


def trained(seen: Images, title: str, draws: int, last: int) -> list[str]:
    """Rows of real networks, whose start is taken off the targets of the prediction."""
    kernel = nd.kernels.infinite.compute(seen.network.kernel, seen.inputs[:POOL]).values
    pool = kernel, (seen.targets - seen.start())[:POOL]
    own, rounds, rows = nd.theory.spectrum_of(*pool), [t for t in ROUNDS if t <= last], []
    method, title = half_the_limit(own.values), f"{title}, width {WIDTH}, others"
    found = [by_training(seen, method, "others", seed, rounds) for seed in range(draws)]
    for what, modes in (("", nd.theory.population_of(*pool)), (", the pool's own spectrum", own)):
        curve = nd.theory.learning_curve(*modes, method, W, COUNTS, rounds).test_loss.values
        rows.append(line(title + what, curve, found, rounds))
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Print and write the table."""
    two, ten = images("mnist", (3, 8)), images("mnist", range(10))
    head = ["| data | draws | " + " | ".join(f"round {t}" for t in ROUNDS) + " |"]
    head.append("|" + "---|" * (2 + len(ROUNDS)))
    rows = infinite(two, "MNIST 3 and 8", 20) + infinite(ten, "MNIST, ten classes", 20)
    rows += loose(ten, "MNIST, ten classes", 20)
    rows += infinite(images("fashion-mnist", range(10)), "Fashion-MNIST", 20)
    digits = images("digits", range(10))
    kernel = nd.kernels.infinite.compute(digits.network.kernel, digits.inputs).values
    rows += on_its_pool(digits, "digits, infinite kernel", kernel, 20)
    kernel = two.empirical(POOL)
    rows += on_its_pool(two, f"MNIST 3 and 8, kernel of one network of width {WIDTH}", kernel, 20)
    rows += trained(two, "MNIST 3 and 8", 20, 30) + trained(ten, "MNIST, ten classes", 20, 30)
    rows += trained(two, "MNIST 3 and 8", 3, 300) + trained(ten, "MNIST, ten classes", 3, 100)
    OUT.write_text("\n".join([*head, *rows]) + "\n")


if __name__ == "__main__":
    main()
