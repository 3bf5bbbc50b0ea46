"""Claim: designs are predicted in bulk, hundreds of times faster than they are trained.

    .venv/bin/python analysis/design_speed.py            (about 15 minutes, two cores)

Three questions, each put to the command line in a process of its own, as users do:

- 2,000 settings (10 step sizes, 10 kinds of weights, 20 of heterogeneity; 16 agents, 256 points,
  1,000 rounds), of which four are trained as well, with the network of `ntkdyn demo` (two hidden
  layers of 1024) and with a smaller one (one of 512);
- the question of docs/pages/how-to/design.md, with the best six trained;
- which graph and step size the demo would need least rounds with.

It prints and writes analysis/results/design-speed.md.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ntkdyn import design, disk, experiment, records

HERE = Path(__file__).parent
OUT = HERE / "results" / "design-speed.md"
HOW_TO = HERE.parent / "docs" / "pages" / "how-to" / "design.md"
DEMO_SPEC = HERE.parent / "ntkdyn" / "demo.toml"
TRAINED = 4

MANY = """
title = "Sixteen agents, 2,000 settings"
kernel = "infinite"
[network]
widths = {widths}
w_std = {w_std}
[data]
name = "digits"
train = 256
test = 256
[partition]
agents = 16
by = "dirichlet"
alpha = 0.3
min_points = 2
[graph]
topology = "ring"
[method]
name = "dgd"
step_size = {{ of_limit = 0.5 }}
[run]
rounds = 1000
[sweep]
graph.topology = ["ring", "path", "star", "exponential", "complete"]
graph.weights = ["metropolis", "laplacian"]
method.step_size.of_limit = "0.1:0.9:10"
partition.alpha = "0.2:20:20:log"
"""
ROOT = 2**0.5
NETWORKS = {"one hidden layer of 512": [512], "two hidden layers of 1024": [1024, 1024]}
DEMO = (
    "--over", "graph.topology=ring,star,exponential,complete",
    "--over", "method.step_size.of_limit=0.3,0.6,0.9",
    "--reach", "worst test_accuracy >= 0.8", "--cost", "rounds", "--confirm", "2",
)  # fmt: skip


def asked(folder: Path, *command: str) -> tuple[float, str]:
    """How long a command takes, the start of Python and JAX included, and what it says."""
    begun = time.perf_counter()
    whole = [sys.executable, "-m", "ntkdyn", *command, "--out", str(folder)]
    done = subprocess.run(whole, capture_output=True, text=True, check=True)
    return time.perf_counter() - begun, done.stdout


def many(folder: Path, widths: list[int]) -> list[str]:
    """Rows: 2,000 settings predicted, a few of them trained, and the ratio for each setting."""
    text = MANY.format(widths=widths, w_std=[ROOT] * len(widths) + [1.0])
    folder.mkdir()
    spec = folder / "many.toml"
    spec.write_text(text)
    taken, said = asked(folder / "many", "sweep", str(spec))
    predicted = records.read(folder / "many" / "sweep.nc")
    count = int((predicted["refusal"] == "").sum())
    study = design.Study(
        experiment.Experiment(experiment.load(spec)), design.of_table(experiment.load(spec).sweep)
    )
    places = np.linspace(0, study.count - 1, TRAINED + 1).round().astype(int).tolist()
    study.train(places[:1])
    begun = time.perf_counter()
    study.train(places[1:])
    each = (time.perf_counter() - begun) / TRAINED
    return [
        f"| {count} settings predicted | {taken:.0f} s |",
        f"| one setting trained (mean of {TRAINED}, nothing compiled anew) | {each:.1f} s |",
        f"| ratio for each setting | {each / (taken / count):.0f} |",
    ]


def how_to() -> tuple[str, list[str]]:
    """The spec and the command of the how-to page."""
    page = HOW_TO.read_text(encoding="utf-8")
    spec = re.search(r"```toml\n(.*?)```", page, re.S)
    command = re.search(r'ntkdyn design twenty.toml --reach "(.*?)" --confirm (\d+)', page)
    return spec[1], ["--reach", command[1], "--confirm", command[2]]


def main() -> None:
    """Ask all of it, and write how long it took."""
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        rows = []
        for name, widths in NETWORKS.items():
            rows += [f"| **{name}** | |", *many(folder / "-".join(map(str, widths)), widths)]
        text, command = how_to()
        (folder / "twenty.toml").write_text(text)
        taken, answer = asked(folder / "how-to", "design", str(folder / "twenty.toml"), *command)
        on_demo, told = asked(folder / "demo", "design", str(DEMO_SPEC), *DEMO)
    text = TEXT.format(rows="\n".join(rows), taken=taken, answer=answer.replace(held, "OUT"),
                       on_demo=on_demo, told=told.replace(held, "OUT"))  # fmt: skip
    print(text)
    with disk.whole_file(OUT) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


TEXT = """# How long a design takes

Written by `analysis/design_speed.py` on two CPU cores; the start of Python and the kernels are part
of every time.

Sixteen agents, 256 digits, DGD, 1,000 rounds recorded in 24: 5 graphs, 2 rules of weights, 10 step
sizes, 20 degrees of heterogeneity.

| | |
|---|---|
{rows}

The question of [the how-to page](../../docs/pages/how-to/design.md) with its confirmation took
{taken:.0f} s:

```
{answer}```

The demo with four graphs and three step sizes, the best two trained, took {on_demo:.0f} s:

```
{told}```
"""

if __name__ == "__main__":
    main()
