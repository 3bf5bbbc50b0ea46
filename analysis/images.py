"""What the studies on real images share: the points, their owners, and how results are said.

The datasets' files are read from the folder named by the environment variable NTKDYN_DATA, which
holds mnist/, fashion-mnist/ and cifar-10-batches-bin/. Runs are small: what they show is the order
of the effects on a laptop, not the papers' numbers.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import ntkdyn as nd

FOLDERS = {"mnist": "mnist", "fashion-mnist": "fashion-mnist", "cifar-10": "cifar-10-batches-bin"}
SEEDS = range(3)


def shares(name: str, agents: int, seed: int, *, train: int = 1600, test: int = 1000, **rule):
    """Points of the named dataset, dealt to agents."""
    folder = Path(os.environ["NTKDYN_DATA"]) / FOLDERS[name]
    data = nd.data.load(name, train=train, test=test, seed=seed, data_dir=folder)
    return nd.data.partition(data, agents=agents, seed=seed, **rule)


def said(what: str, run: Callable[[int], Sequence[float]], columns: Sequence[str]) -> None:
    """Mean and standard deviation over the seeds, in per cent."""
    found = np.array([run(seed) for seed in SEEDS]) * 100
    cells = zip(columns, found.mean(axis=0), found.std(axis=0, ddof=1), strict=True)
    print(f"{what:<34}", *(f"{c} {m:.1f} +- {s:.1f}" for c, m, s in cells), flush=True)
