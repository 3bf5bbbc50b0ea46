"""Claim: aligned before the average, ResNet-20 trained apart keeps more the wider it is (DIMAT).

Two agents with starts of their own train alone, each on a half of 500 digits, by Adam on 50 points
a round, and merge once: plainly, by activations at their own points or at all, by weights. Test
accuracy (300 images) right before and right after; statistics of batch normalisation are each
agent's over its own points, after a merge anew. Run as

    .venv/bin/python analysis/dimat_widths.py [batch:4:0 ...]    (normalisation:width:seed)

which takes half an hour for all that is asked without arguments, on two cores.

What is done stays done in analysis/out/; analysis/results/dimat-widths.md and .png show all of it.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from ntkdyn.figures.style import COLUMN, OKABE_ITO, styled

import ntkdyn as nd
from ntkdyn import figures, methods
from ntkdyn.engine import Iteration, advance, take_snapshot
from ntkdyn.measures import measure
from ntkdyn.methods.merging import Merge
from ntkdyn.methods.mixing import BaseMixing, Fixed, Periodic
from ntkdyn.precision import float32
from ntkdyn.runs import iteration_of, plan
from ntkdyn.vectors import Point

HERE = Path(__file__).parent
OUT, RESULT = HERE / "out", HERE / "results" / "dimat-widths.md"
ASKED = ("batch:0.25:0", "batch:1:0", "batch:2:0", "batch:4:0", "group:1:0", "group:4:0")
ROUNDS = (20, 60, 120)
NEVER = 10**6
BEFORE = "before"
WAYS: dict[str, BaseMixing] = {
    BEFORE: Periodic(Fixed(), NEVER),
    "averaging": Fixed(),
    "own points": Merge(),
    "all points": Merge(data="all"),
    "weights": Merge(by="weights"),
}


def accuracies(normalisation: str, width: float, seed: int) -> Iterator[dict]:
    """Test accuracy in per cent after each of the rounds, before and after every merge."""
    data = nd.data.load("digits", train=500, test=300, seed=seed)
    part = nd.data.partition(data, agents=2, seed=seed)
    network = nd.networks.resnet20(
        width, outputs=10, image=(8, 8, 1), normalisation=normalisation, groups=1
    )
    problem = nd.Problem(network, part, loss="cross_entropy", seed=[2 * seed, 2 * seed + 1])
    dimat = methods.dimat(step_size=0.01, tau=NEVER)
    system = nd.System(
        problem, dimat, nd.graphs.uniform(nd.graphs.complete(2)), batch_size=50, batch_seed=seed
    )
    with float32():
        alone = iteration_of(plan(system, ROUNDS[-1]), problem.network_space())
        state, done = alone.init(), 0
        for round in ROUNDS:
            state, done = advance(alone, state, jnp.array(done), jnp.array(round)), round
            for way, mixing in WAYS.items():
                outputs = np.asarray(take_snapshot(alone, mixed(alone, mixing, state.x)).outputs)
                found = 100 * measure(problem.task, outputs)["test_accuracy"].mean()
                yield {"rounds": round, "way": way, "accuracy": found}


def mixed(alone: Iteration, mixing: BaseMixing, x: Point) -> Point:
    """All agents after that mixing."""
    method = dataclasses.replace(alone.method, mixing=mixing)
    once = dataclasses.replace(alone, method=method)
    return jax.jit(lambda x: once.mix(0)(x))(x)


def done(case: str) -> pd.DataFrame:
    """The accuracies of a case, measured where they have not been."""
    normalisation, width, seed = case.split(":")
    file = OUT / f"dimat-{case.replace(':', '-')}.csv"
    if not file.exists():
        rows = pd.DataFrame(accuracies(normalisation, float(width), int(seed)))
        rows.assign(normalisation=normalisation, width=float(width), seed=int(seed)).to_csv(
            file, index=False
        )
    return pd.read_csv(file)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Per case the accuracy before, and what each way keeps of it, in per cent."""
    cases = ["normalisation", "width", "rounds", "seed"]
    wide = rows.pivot(index=cases, columns="way", values="accuracy")[[*WAYS]]
    kept = 100 * wide.drop(columns=BEFORE).div(wide[BEFORE], axis=0)
    groups = kept.assign(before=wide[BEFORE])[[*WAYS]].groupby(cases[:3])
    found = groups.mean()
    found.insert(0, "seeds", groups.size())
    return found.reset_index()


def picture(kept: pd.DataFrame) -> Figure:
    """What is kept against the width, one curve per way, a panel per normalisation and length."""
    lengths = ["normalisation", "rounds"]
    panels = kept.groupby(lengths).filter(lambda part: len(part) > 1).groupby(lengths)
    with styled():
        figure = Figure(figsize=(COLUMN, 1.9 * len(panels)))
        each = figure.subplots(len(panels), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
        for axes, ((normalisation, rounds), part) in zip(each, panels, strict=True):
            for way, colour in zip(list(WAYS)[1:], OKABE_ITO, strict=False):
                axes.semilogx(part["width"], part[way], "o-", base=2, color=colour, label=way)
            axes.axhline(90, color="#888888", lw=0.8, ls="--")
            axes.set_title(f"{normalisation} normalisation, {rounds} rounds")
            axes.set_ylabel("accuracy kept (%)")
        axes.set_xlabel("width factor")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        return figure


ABOUT = """# ResNet-20 on digits: what a merge keeps, against the width

Written by `analysis/dimat_widths.py`. Two agents with starts of their own train alone, each on half
of 500 digits (Adam at .01, 50 points a round), and merge once: test accuracy on 300 images right
after it, as a share of that right before. Means over seeds.
"""


def main() -> None:
    """Measure what is not done, and write table and picture of all that is."""
    OUT.mkdir(exist_ok=True)
    for case in sys.argv[1:] or ASKED:
        done(case)
    kept = table(pd.concat(map(pd.read_csv, sorted(OUT.glob("dimat-*.csv")))))
    head = ["normalisation", "width factor", "rounds", "seeds", "accuracy before (%)"]
    head += [f"kept, {way} (%)" for way in list(WAYS)[1:]]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [
        f"| {row.normalisation} | {row.width:g} | {row.rounds} | {row.seeds} | "
        + " | ".join(f"{value:.1f}" for value in row[4:])
        + " |"
        for row in kept.rename(columns=str).itertuples(index=False)
    ]
    RESULT.write_text("\n".join([ABOUT, *lines]) + "\n", encoding="utf-8")
    figures.write(picture(kept), RESULT.with_suffix(".png"))


if __name__ == "__main__":
    main()
