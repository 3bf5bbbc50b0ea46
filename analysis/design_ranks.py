"""Does a design rank settings as training does? Digits, width 1024, every setting trained.

    .venv/bin/python analysis/design_ranks.py            (about 15 minutes on 2 CPU cores)

Ten agents with unequal shares of 300 digits train networks of one hidden layer, 1024 wide: four
graphs, exchanges in every round, every 4th and every 16th, and two step sizes. Each of the 24
settings is predicted with the kernel of infinite width, the best 18 again with four kernels of the
network itself, and all are trained, until the worst agent names 80 % of the test points. It writes
analysis/results/design-ranks.md, .nc and .png; what is done is kept in analysis/out/design-ranks
and taken when it is run again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.stats
import xarray as xr

from ntkdyn import design, disk, experiment, figures, records

HERE = Path(__file__).parent
OUT = HERE / "out" / "design-ranks"
RESULTS = HERE / "results"

SPEC = """
title = "Ten agents that learn digits"
kernel = "infinite"
[network]
widths = [1024]
w_std = [1.4142135623730951, 1.0]
[data]
name = "digits"
train = 300
test = 300
[partition]
agents = 10
by = "dirichlet"
alpha = 0.5
min_points = 10
[graph]
topology = "ring"
[method]
name = "local_sgd"
step_size = 0.3
[run]
rounds = 1600
anchors = [0, 30, 120, 400]
[sweep]
graph.topology = ["ring", "star", "exponential", "complete"]
method.tau = [1, 4, 16]
method.step_size = [0.3, 0.8]
"""

REACH = "worst test_accuracy >= 0.8"
SHOWN = "worst test_accuracy >= 0.6"
TOP, SHARP = 10, 18


def found() -> tuple[design.Study, design.Found]:
    """Every setting predicted, predicted with anchors, and trained."""
    base = experiment.Experiment(experiment.parse(SPEC, "design_ranks"))
    parts = design.Parts(OUT, {"spec": SPEC, "reach": REACH}, resume=True)
    study = design.Study(base, design.of_table(base.spec.sweep), parts=parts)
    goal = design.Goal(design.target(REACH))
    every = {"best": study.count, "sharp": SHARP, "confirm": study.count}
    return study, design.search(study, goal, **every, whole=True)


def looked_at(how: str) -> xr.Dataset:
    """What was kept of settings that were trained, or predicted with anchors, one by one."""
    kept = [records.read(path) for path in sorted(OUT.glob(f"{how}-*.nc"))]
    whole = xr.concat(kept, "setting", join="outer", combine_attrs="drop").sortby("setting")
    return whole.drop_duplicates("setting")


def ranks(study: design.Study) -> list[str]:
    """A row for every target, cost and way to predict: how ranks agree with those of training.

    Of settings that reach the target on both sides.
    """
    rows, trained, sharp = [], looked_at("trained"), looked_at("sharp")
    for share in (0.5, 0.6, 0.7):
        for cost in ("floats", "rounds"):
            goal = design.Goal(design.target(f"worst test_accuracy >= {share}"), cost)
            bulk = design.search(study, goal, best=study.count, whole=True).reached
            seen = goal.of(trained)["cost"]
            for name, each in (("infinite width", bulk), ("four kernels", goal.of(sharp))):
                one, other = xr.align(each["cost"], seen, join="inner")
                both = np.isfinite(one.values) & np.isfinite(other.values)
                pair = one.values[both], other.values[both]
                rank = scipy.stats.spearmanr(*pair).statistic
                tops = [{*np.argsort(values, kind="stable")[:TOP].tolist()} for values in pair]
                common = f"{len(tops[0] & tops[1])} of {min(TOP, both.sum())}"
                off = np.median(pair[0] / pair[1])
                rows.append(
                    f"| {share:.0%} | {cost} | {name} | {both.sum()} of {len(both)} | {rank:.3f} | "
                    f"{common} | {off:.2f} |"
                )
    return rows


TEXT = """# Does a design rank settings as training does?

Written by `analysis/design_ranks.py`: ten agents, digits, width 1024, 24 settings (four graphs,
exchanges every 1, 4 or 16 rounds, two step sizes), all of them trained; the costs until the worst
agent names so many test points, of settings that get there on both sides.

| accuracy | cost | predicted for | both reach | Spearman | top ten shared | predicted / trained |
|---|---|---|---|---|---|---|
{rows}

The last column is the median ratio of costs. Floats sent span orders of magnitude by links and
exchanges alone, so that their ranks agree more easily than those of rounds, which many settings
share.

![Predicted against trained cost, 60 %](design-ranks.png)
"""


def main() -> None:
    """Run what is not done, and write the results."""
    study, _ = found()
    goal = design.Goal(design.target(SHOWN))
    shown = design.search(study, goal, best=study.count, whole=True)
    closer = [goal.of(looked_at(how)) for how in ("sharp", "trained")]
    record = design.record_of(study, shown._replace(sharp=closer[0], trained=closer[1]))
    names = [name for name in record.data_vars if "round" not in record[name].dims]
    records.write(record[names], RESULTS / "design-ranks.nc")
    figures.write(figures.draw("confirmed", [record]), RESULTS / "design-ranks.png")
    text = TEXT.format(rows="\n".join(ranks(study)))
    with disk.whole_file(RESULTS / "design-ranks.md") as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
