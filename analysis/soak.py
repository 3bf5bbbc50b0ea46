"""Claim: an hour of work in one process leaves its memory where it was.

Specs that differ in method, graph, loss, start and heterogeneity are predicted, trained, compared,
drawn, written and varied, again and again. Run as

    .venv/bin/python analysis/soak.py [MINUTES]           (60, if left out; one core)

It prints and writes analysis/results/soak.md: by minute, the memory that the process holds, and
what is left of it once the compiled programs are dropped, which come and go between: what is left
would show a leak. The first quarter is for what is kept on purpose.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from ntkdyn import caches, design, disk, experiment, figures, records

OUT = Path(__file__).parent / "results" / "soak.md"
WARM = 0.25
"""the share of the time that what is kept on purpose may take to fill"""

SPEC = """
title = "a soak"
seed = {seed}
loss = "{loss}"
[network]
widths = [24, 24]
[data]
train = 96
test = 48
[partition]
agents = {agents}
by = "dirichlet"
alpha = {alpha}
[graph]
topology = "{graph}"
[method]
name = "{method}"
step_size = 0.1
[run]
rounds = 30
"""
METHODS, GRAPHS = ("dgd", "atc", "diging", "extra"), ("ring", "complete")
LOSSES = ("mse", "cross_entropy")
KINDS = [*itertools.product(METHODS, GRAPHS, LOSSES)]


def spec(run: int, rng: np.random.Generator) -> experiment.Spec:
    """The kinds by turns, with numbers of their own."""
    method, graph, loss = KINDS[run % len(KINDS)]
    return experiment.parse(
        SPEC.format(
            seed=rng.integers(1000), loss=loss, agents=4, graph=graph,
            method=method, alpha=rng.uniform(0.3, 3.0),
        ),
        "a soak",
    )  # fmt: skip


def once(run: int, rng: np.random.Generator, folder: Path) -> None:
    """One spec on both sides, its comparison and figure; and settings of it."""
    work = experiment.Experiment(spec(run, rng))
    predicted, observed = work.predict(), work.train()
    records.write(predicted, folder / "predicted.nc")
    files = experiment.files(folder)
    experiment.compare(predicted, observed, files)
    figures.write(figures.draw("consensus", [observed]), folder / "consensus.pdf")
    axes = [design.axis("method.step_size=0.05:0.2:4"), design.axis("graph.topology=ring,star")]
    design.Study(work, axes).predict()


def main(minutes: float) -> None:
    """Work for so long, and write what memory was held."""
    process, rng = psutil.Process(), np.random.default_rng(0)
    begun, held, runs = time.monotonic(), [], 0
    with tempfile.TemporaryDirectory() as folder:
        while (passed := (time.monotonic() - begun) / 60) < minutes:
            once(runs, rng, Path(folder))
            runs += 1
            if passed >= len(held) * minutes / 60:
                before = process.memory_info().rss / 2**20
                caches.drop()
                held.append((passed, before, process.memory_info().rss / 2**20))
                print("{:5.1f} min {:7.0f} MiB {:7.0f} MiB left".format(*held[-1]), flush=True)
    text = told(np.array(held), runs, minutes)
    print(text)
    with disk.whole_file(OUT) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def told(held: np.ndarray, runs: int, minutes: float) -> str:
    """By minute, and by how much the last quarter is above the first after the start."""
    later = held[held[:, 0] >= WARM * minutes]
    quarter = max(1, len(later) // 4)
    first, last = (part[:, 2].mean() for part in (later[:quarter], later[-quarter:]))
    shown = held[:: max(1, len(held) // 20)]
    rows = ["| {:.0f} | {:.0f} | {:.0f} |".format(*each) for each in shown]
    return "\n".join(
        [
            "# Memory over an hour of work", "",
            f"Written by `analysis/soak.py`: {runs} specs predicted, trained, compared, drawn and "
            f"varied in one process, in {minutes:g} minutes.", "",
            "Left when compiled programs are dropped, from the first quarter after the start to "
            f"the last: {first:.0f} to {last:.0f} MiB, {100 * (last / first - 1):+.1f} %. "
            f"Most held: {later[:, 1].max():.0f} MiB.", "",
            "| minute | MiB held | MiB left |", "|---|---|---|", *rows, "",
        ]
    )  # fmt: skip


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
