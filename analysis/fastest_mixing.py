"""Claim: weights that mix fastest are often slower to learn with, and the gap does not say when.

Random problems: 6 to 14 agents with ten digits each, shared out by Dirichlet(alpha), a Gaussian
kernel of random width, nine kinds of graphs, DGD. Metropolis weights against the fastest ones, with
negative weights and without, each at a share of its own stability limit, and both at one step. Who
needs more rounds for the mean loss on all points that Metropolis has after 20, 60 or 200? Which
statistic of the two W tells, by Spearman's correlation with the ratio of rounds, beside what it is
where outcomes are shuffled among problems. Run as

    .venv/bin/python analysis/fastest_mixing.py           (about five minutes on 2 CPU cores)

It writes analysis/results/fastest-mixing.md; needs the extra `bounds`.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import NamedTuple

import networkx as nx
import numpy as np
import pandas as pd
import scipy.stats
from sklearn.datasets import load_digits

import ntkdyn as nd
from ntkdyn import design, disk, graphs

RESULT = Path(__file__).parent / "results" / "fastest-mixing.md"
PROBLEMS, PER_AGENT = 54, 10
LASTS, SHARES = (20, 60, 200), (0.3, 0.6, 0.9)
ROUNDS = [0, *np.unique(np.geomspace(1, 2000, 200).round().astype(int)).tolist()]
SHUFFLES = 400

KINDS = {
    "ring": lambda m, seed: graphs.ring(m),
    "chord": lambda m, seed: graphs.from_edges([*graphs.ring(m).edges, (0, m // 2)]),
    "path": lambda m, seed: graphs.path(m),
    "star": lambda m, seed: graphs.star(m),
    "tree": lambda m, seed: nx.random_labeled_tree(m, seed=seed),
    "sparse": lambda m, seed: nx.connected_watts_strogatz_graph(m, 2 + 2 * (m > 8), 0.4, seed=seed),
    "random": lambda m, seed: graphs.erdos_renyi(m, 0.5, seed=seed),
    "cubic": lambda m, seed: graphs.random_regular(m + m % 2, 3, seed=seed),
    "barbell": lambda m, seed: nx.barbell_graph(m // 2, m % 2),
}
"""random graphs among them: with so many agents, from that seed"""


class Pair(NamedTuple):
    """A problem, and the weights on its graph."""

    kind: str
    alpha: float
    problem: nd.KernelProblem
    weights: dict[str, graphs.MixingMatrix]


def drawn(seed: int) -> Pair:
    """A random problem."""
    rng = np.random.default_rng(seed)
    kind = list(KINDS)[seed % len(KINDS)]
    graph = KINDS[kind](int(rng.integers(6, 15)), seed)
    alpha = [0.1, 1.0, 100.0][seed // len(KINDS) % 3]
    known = {
        "metropolis": graphs.metropolis(graph),
        "fastest": graphs.fastest(graph),
        "averaging": graphs.fastest(graph, negative=True),
    }
    return Pair(kind, alpha, digits(len(graph), alpha, rng), known)


def digits(agents: int, alpha: float, rng: np.random.Generator) -> nd.KernelProblem:
    """Digits, whose labels agents draw from shares of their own, and a Gaussian kernel."""
    images, labels = load_digits(return_X_y=True)
    images = images / 16
    shares = rng.dirichlet(np.full(10, alpha), agents)
    wanted = [rng.choice(10, PER_AGENT, p=share) for share in shares]
    chosen = np.array([rng.choice(np.flatnonzero(labels == each)) for each in np.ravel(wanted)])
    apart = ((images[chosen][:, None] - images[chosen]) ** 2).sum(axis=-1)
    K = np.exp(-apart / (2 * rng.uniform(1.5, 4.0) ** 2))
    targets = np.eye(10)[labels[chosen]] - 0.1
    return nd.KernelProblem(K, targets, np.repeat(np.arange(agents), PER_AGENT))


def compared(pair: Pair) -> list[dict]:
    """A row for every kind of fastest weights, step and horizon."""
    dgd = lambda step: nd.methods.dgd(step_size=float(step))
    limits = {W: nd.step_size_limit(pair.problem, dgd(0.1), pair.weights[W]) for W in pair.weights}
    asked = []
    for name, share in itertools.product(("fastest", "averaging"), SHARES):
        ends = limits["metropolis"], limits[name]
        asked.append((name, share, "its own", share * ends[0], share * ends[1]))
        asked.append((name, share, "the same", *[share * min(ends)] * 2))
    one = pair.weights["metropolis"]
    systems = [
        nd.System(pair.problem, dgd(step), W)
        for name, _, _, *steps in asked
        for W, step in zip((one, pair.weights[name]), steps, strict=True)
    ]
    seen = [each["global_loss"].mean(axis=1) for each in design.Bulk(ROUNDS).predict(systems)]
    return [
        {"kind": pair.kind, "alpha": pair.alpha, "weights": name, "share": share, "step": step,
         "last": last, "ratio": needed(*seen[2 * k : 2 * k + 2], last)}
        | told(one, pair.weights[name], (limits["metropolis"], limits[name]), last)
        for k, (name, share, step, *_) in enumerate(asked)
        for last in LASTS
    ]  # fmt: skip


def needed(first: np.ndarray, second: np.ndarray, last: int) -> float:
    """Rounds of the second to the loss of the first after `last`, over these; infinite: never."""
    target = np.interp(last, ROUNDS, first)
    hit = np.flatnonzero(second <= target)
    if not len(hit):
        return np.inf
    k = hit[0]
    return float(np.interp(-target, -second[k - 1 : k + 1], ROUNDS[k - 1 : k + 1])) / last


def told(one: graphs.MixingMatrix, other: graphs.MixingMatrix, ends: tuple, last: int) -> dict:
    """By statistic, how much the other weights should be slower: above zero, they should."""
    heard = [graphs.effective_neighbours(W, 1 - 1 / last) for W in (one, other)]
    lag = [np.sum(1 / (1 - np.sort(W.eigenvalues)[:-1])) for W in (one, other)]
    return {
        "gap": np.log(one.spectral_gap / other.spectral_gap),
        "effective neighbours": np.log(heard[0] / heard[1]),
        "sum of 1 / (1 - lambda)": np.log(lag[1] / lag[0]),
        "1 + smallest eigenvalue": np.log(
            (1 + one.smallest_eigenvalue) / (1 + other.smallest_eigenvalue)
        ),
        "largest step": np.log(ends[0] / ends[1]),
    }


STATISTICS = [*told(*[graphs.metropolis(graphs.path(3))] * 2, (1.0, 1.0), 20)]


def agreement(table: pd.DataFrame, statistic: str) -> str:
    """Spearman's with the ratio of rounds, and the 95 % quantile for those of other problems."""
    ranks = scipy.stats.rankdata(table["ratio"].values)
    score, rng = scipy.stats.rankdata(table[statistic].values), np.random.default_rng(0)
    together = lambda ratio: float(np.corrcoef(ratio, score)[0, 1])
    apart = ranks.reshape(table["problem"].nunique(), -1)
    none = [abs(together(rng.permutation(apart).ravel())) for _ in range(SHUFFLES)]
    return f"{together(ranks):.2f} ({np.quantile(none, 0.95):.2f})"


TEXT = """# When do the fastest weights need more rounds than Metropolis'?

Written by `analysis/fastest_mixing.py`: {problems} random problems (digits, Gaussian kernels, DGD,
nine kinds of graphs, Dirichlet(0.1, 1, 100)), three shares of the largest step, rounds to the mean
loss on all points that Metropolis has after 20, 60 and 200. "averaging" are the fastest weights
with negative ones allowed.

{base}

By kind of graph, and by Dirichlet's parameter (each at its own step, all horizons), the share of
cases in which the fastest weights are slower:

{kinds}

What tells it beforehand: Spearman's correlation of each statistic with the ratio of rounds (1: the
statistic orders them), and in brackets what 95 % of shuffled problems stay within.

{agreements}

{said}
"""

SAID = """\
**Found.** Nearly always. With each at a share of its own largest step, the fastest weights need
more rounds in 96 to 100 % of cases, about twice as many (three times where weights may be
negative); exceptions are stars and a few dense random graphs whose agents have very different data.
At one and the same step they are slower in 0 to 4 % of cases, but gain only 1 to 4 % of the rounds.
So it is the step that they lose: the largest one falls with 1 + the smallest eigenvalue, which
orders the ratio of rounds (0.92 and 0.95), partly by construction, as each runs at a share of its
limit. The gap orders it weakly and the wrong way round, the sum of 1 / (1 - lambda) clearly and the
wrong way round too; the effective number of neighbours, which squares eigenvalues, tells it where
weights are not negative (0.72). This is of DGD, one kind of kernel and equal numbers of points;
where the step is given by something else than the limit, the second half holds."""


def markdown(table: pd.DataFrame) -> str:
    """Its rows and columns."""
    head = [*table.index.names, *map(str, table.columns)]
    rows = [[*(key if isinstance(key, tuple) else (key,)), *row]
            for key, row in zip(table.index, table.values, strict=True)]  # fmt: skip
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def base(table: pd.DataFrame) -> str:
    """How often, and by how much."""
    grouped = table.groupby(["weights", "step", "share"])
    capped = table["ratio"].clip(upper=ROUNDS[-1] / 200)
    return markdown(
        pd.DataFrame(
            {
                "slower": grouped["slower"].mean().map("{:.0%}".format),
                "never there": grouped["ratio"].agg(lambda r: f"{np.isinf(r).mean():.0%}"),
                "median ratio of rounds": capped.groupby(
                    [table["weights"], table["step"], table["share"]]
                ).median().map("{:.2f}".format),
            }
        )
    )  # fmt: skip


def agreements(table: pd.DataFrame) -> str:
    """A row for each statistic."""
    columns = {
        f"{weights}, {step} step": {name: agreement(part, name) for name in STATISTICS}
        for (weights, step), part in table.groupby(["weights", "step"])
    }
    return markdown(pd.DataFrame(columns).rename_axis("statistic"))


def main(problems: int = PROBLEMS) -> None:
    """All problems, and the table."""
    rows = [row | {"problem": seed} for seed in range(problems) for row in compared(drawn(seed))]
    table = pd.DataFrame(rows)
    table["slower"] = table["ratio"] > 1
    own = table[table["step"] == "its own"]
    kinds = own.pivot_table("slower", ["weights", "kind"], "alpha").map("{:.0%}".format)
    found = {"base": base(table), "kinds": markdown(kinds), "agreements": agreements(table)}
    text = TEXT.format(problems=problems, said=SAID, **found)
    with disk.whole_file(RESULT) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
