"""Claim: how far training can be from a corrected prediction is proven without it, and not by much.

Four agents on a ring learn the sign of a product by DGD at half the stability limit (--share), one
hidden erf layer: the certified error of all outputs after 60 rounds as a share of the distance
travelled, worst agent, after 0 to 3 corrections; and the true one after 3, of networks trained in
float64. Of the linear prediction the true error, and the interval that the certificate gives for
it, untrained.
With --mnist, zeros against ones of MNIST, 300 rounds, from the folder NTKDYN_DATA. Run it as

    .venv/bin/python analysis/certificates.py                      (a minute on 2 CPU cores)
    .venv/bin/python analysis/certificates.py --widths 64 256 1024 4096 --name certificates
    .venv/bin/python analysis/certificates.py --mnist --widths 1024 --share 0.1 --name mnist-bound

It prints a table; with --name, it also writes analysis/results/NAME.md.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import ntkdyn as nd

AGENTS, CORRECTIONS = 4, 3
RESULTS = Path(__file__).parent / "results"
W = nd.graphs.metropolis(nd.graphs.ring(AGENTS))
HEAD = (
    "| width | certified after 0, 1, 2, 3 corrections | true after 3 "
    "| linear prediction: true error | certified interval | seconds |"
)


def product() -> nd.data.Dataset:
    """The sign of x_1 x_2 at 32 and 40 points of the sphere in five dimensions."""
    points = np.random.default_rng(0).normal(size=(72, 5))
    points *= np.sqrt(5) / np.linalg.norm(points, axis=1, keepdims=True)
    points, labels = points.astype(np.float32), (points[:, 0] * points[:, 1] > 0).astype(int)
    return nd.data.Dataset(
        "product", points[:32], labels[:32], points[32:], labels[32:], 2, "on the sphere"
    )


def zeros_and_ones() -> nd.data.Dataset:
    """The first 80 and 40 of MNIST's zeros and ones among 800 and 400 images."""
    data = nd.data.load("mnist", train=800, test=400, seed=0)
    some = lambda labels, count: np.flatnonzero(labels < 2)[:count]
    train, test = some(data.train_labels, 80), some(data.test_labels, 40)
    return nd.data.Dataset(
        "MNIST, 0 and 1",
        *(data.train_inputs[train], data.train_labels[train]),
        *(data.test_inputs[test], data.test_labels[test]),
        2,
        data.normalisation,
    )


def row(width: int, data: nd.data.Dataset, rounds: int, share: float) -> str:
    """A line of the table."""
    shares = nd.data.partition(data, agents=AGENTS, seed=0)
    network = nd.networks.mlp((width,), outputs=2, activation="erf", w_std=1.4, b_std=0.0)
    problem = nd.Problem(network, shares, seed=0)
    method = nd.methods.dgd(step_size=nd.of_limit(share))
    begun = time.perf_counter()
    record = nd.dynamics.certify(problem, method, W, [rounds], corrections=CORRECTIONS)
    seconds = time.perf_counter() - begun
    known = nd.methods.dgd(step_size=record.attrs["step_size"])
    real = nd.train(problem, known, W, [rounds], precision="float64")
    linear = nd.predict(problem, known, W, [rounds])
    apart = lambda one, other: np.linalg.norm((one - other).values, axis=(-2, -1)).squeeze()
    travelled = apart(record["outputs"], record["initial_outputs"])
    true = apart(record["outputs"], real["outputs"])
    assert (true <= record["certified_error"][0].values).all()
    bounds = (record["certified_by_sweep"][0].values / travelled).max(axis=1)
    worst = (apart(linear["outputs"], real["outputs"]) / travelled).argmax()
    off = apart(linear["outputs"], real["outputs"])[worst] / travelled[worst]
    middle = record["linear_error"][0].values[worst] / travelled[worst]
    within = record["certified_error"][0].values[worst] / travelled[worst]
    listed = ", ".join(f"{bound:.2g}" for bound in bounds)
    return (
        f"| {width} | {listed} | {(true / travelled).max():.2g} | {off:.6g} "
        f"| {middle:.6g} ± {within:.2g} | {seconds:.0f} |"
    )


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", action="store_true")
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--share", type=float, default=0.5, help="of the largest stable step size")
    parser.add_argument("--name")
    asked = parser.parse_args()
    data = zeros_and_ones() if asked.mnist else product()
    rounds = asked.rounds or (300 if asked.mnist else 60)
    lines = [HEAD, "|" + "---|" * (HEAD.count("|") - 1)]
    print(*lines, sep="\n", flush=True)
    for width in asked.widths:
        lines.append(row(width, data, rounds, asked.share))
        print(lines[-1], flush=True)
    if asked.name:
        sizes = f"{len(data.train_labels)} points"
        about = (
            f"{data.name}, {sizes}, {rounds} rounds; shares of the distance travelled, worst agent"
        )
        (RESULTS / f"{asked.name}.md").write_text("\n".join([about + ".", "", *lines]) + "\n")


if __name__ == "__main__":
    main()
