"""Claim: what a graph costs, and how to spend points on it, is known before there are any.

Eight agents are to tell MNIST's threes from eights, labels -1 and 1 blurred by noise of 0.5; all is
computed from the infinite-width kernel's spectrum on 2,000 images, nothing is drawn or run. Run it

    NTKDYN_DATA=... .venv/bin/python analysis/learning_plans.py    (10 minutes on 2 CPU cores)

It prints and writes analysis/results/learning-plans.md, one row per graph, and beside it .png: the
loss after 30 rounds of DGD against points per agent. In the table every agent has 50 points: how
many times as many make up for the graph after 10 and 30 rounds, how many agents the worst and the
best placed one profit from after 30, the best round and the best step size for round 30.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import ntkdyn as nd
from ntkdyn import figures

OUT = Path(__file__).parent / "results" / "learning-plans.md"
AGENTS, POINTS, NOISE, POOL = 8, 50, 0.5, 2000
plans = nd.theory.learning_curves


def modes() -> plans.Spectrum:
    """Of threes and eights."""
    data = nd.data.load("mnist", train=20000, test=1, seed=0)
    rows = np.flatnonzero(np.isin(data.train_labels, (3, 8)))[:POOL]
    network = nd.networks.mlp((1,), outputs=1, w_std=(2**0.5, 0.2), b_std=(0.1, 0.0))
    kernel = nd.kernels.infinite.compute(network.kernel, data.train_inputs[rows]).values
    return nd.theory.spectrum_of(kernel, np.where(data.train_labels[rows] == 3, -1.0, 1.0))


def graphs() -> dict[str, nd.graphs.MixingMatrix]:
    """From no link to all."""
    topologies = nd.graphs.path, nd.graphs.ring, nd.graphs.exponential, nd.graphs.complete
    linked = {each.__name__: nd.graphs.metropolis(each(AGENTS)) for each in topologies}
    return {"unlinked": nd.graphs.isolated(AGENTS)} | linked


def row(name: str, W: nd.graphs.MixingMatrix, known: plans.Spectrum, dgd) -> str:
    """A graph's row of the table."""
    given, counts = (*known, dgd, W), [POINTS] * AGENTS
    prices = [plans.price_in_samples(*given, POINTS, t, noise=NOISE) for t in (10, 30)]
    profit = plans.effective_agents(*given, counts, 30, noise=NOISE)
    best = plans.best_rounds(*given, counts, 3000, noise=NOISE)
    step, loss = plans.best_step_size(*given, counts, 30, noise=NOISE)
    stops = best.best_round.values
    cells = [f"{each:.2f}" for each in prices] + [f"{profit.min():.2f} to {profit.max():.2f}"]
    cells += [f"{stops.min()} to {stops.max()}", f"{step / float(dgd.step_size):.2f}"]
    return f"| {name} | {' | '.join(cells)} | {loss:.4f} |"


def main() -> None:
    """Print and write table and figure."""
    known, named = modes(), graphs()
    dgd = nd.methods.dgd(step_size=float(0.25 / known.values[0]))
    lines = [
        "| graph | price, round 10 | price, round 30 | agents profited from | best round "
        "| best step, as a multiple | loss with it |",
        "|" + "---|" * 7,
    ]
    for name, W in named.items():
        lines.append(row(name, W, known, dgd))
        print(lines[-1], flush=True)
    points = [10, 20, 50, 100, 200]
    record = plans.against_samples(*known, dgd, named, points, 30, noise=NOISE)
    figures.write(figures.draw("samples", [record]), OUT.with_suffix(".png"))
    OUT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
