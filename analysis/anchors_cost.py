"""Claim: ten thousand rounds of MNIST, linearized anew six times, cost a fifth of training or less.

The spec `mnist`: 16 agents, 1,000 points, ten outputs, so that a kernel between training points has
10,000 rows. Training is timed over a sample of its rounds before the prediction and after it, in
the same process, once its programs are compiled. Run, with MNIST's files in a folder of that name,

    .venv/bin/python analysis/anchors_cost.py DATA_DIR             (about 3 minutes, two cores)

It prints and writes analysis/results/anchors-cost.md.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ntkdyn as nd
from ntkdyn import experiment

OUT = Path(__file__).parent / "results" / "anchors-cost.md"
ROUNDS, SAMPLE, ANCHORS = 10_000, 60, [0, 4, 15, 45, 150, 1000]


def seconds(work: Callable[[], Any]) -> float:
    """How long it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def peak() -> float:
    """The most memory so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    """Time both sides, and write what came out."""
    spec = experiment.load("mnist")
    system = experiment.Experiment(spec, Path(sys.argv[1])).settled
    train = lambda rounds: nd.train(system, rounds, save=nd.SaveOptions(record_every=rounds))
    train(2)
    sample = lambda: seconds(lambda: train(SAMPLE)) / SAMPLE
    before = sample()
    nd.predict(system, [ROUNDS])
    alone = peak()
    predicted = seconds(lambda: nd.predict(system, [ROUNDS], anchors=ANCHORS))
    most = peak()
    samples = before, sample()
    task = system.task
    kernel = 8 * len(task.targets) * task.train * task.targets.shape[1] ** 2 / 1e9
    ratios = [each * ROUNDS / predicted for each in samples]
    lines = [
        f"Two CPU cores; {ROUNDS} rounds of the spec mnist, anchors {ANCHORS}.",
        "",
        "| | |",
        "|---|---|",
        f"| prediction | {predicted:.0f} s |",
        f"| a round of training, before and after | {samples[0]:.3f} s, {samples[1]:.3f} s |",
        f"| training over prediction | {ratios[0]:.1f}, {ratios[1]:.1f} |",
        f"| most memory with one kernel, and with {len(ANCHORS)} | {alone:.1f} GB, {most:.1f} GB |",
        f"| a kernel in double precision | {kernel:.1f} GB |",
    ]
    print("\n".join(lines))
    OUT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
