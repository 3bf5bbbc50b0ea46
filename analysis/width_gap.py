"""Claim: prediction and reality meet as networks widen, by a power of the width.

The demo's problem at widths 128, 512 and 2048, four starts each, predicted with the network's own
kernel and with the kernel of infinite width, and trained. Run it as

    .venv/bin/python analysis/width_gap.py                (about 15 minutes on 2 CPU cores)

It writes analysis/out/width_gap.nc and .png, and prints the slopes, each with its 95 % interval.
What came out, and why the slopes differ, is in papers/p2p-dynamics/README.md.
"""

from pathlib import Path

from ntkdyn import experiment, figures, networks, records
from ntkdyn.problems import Problem
from ntkdyn.validation.widths import slope, width_sweep

OUT = Path(__file__).parent / "out"


def main() -> None:
    """Run the sweep, write it and say the slopes."""
    spec = experiment.demo()
    demo = experiment.Experiment(spec)
    table = spec.network.model_dump(exclude={"kind", "widths"})

    def problem(width: int, seed: int) -> Problem:
        network = networks.mlp([width, width], outputs=10, **table)
        return Problem(network, demo.problem.partition, seed=seed)

    sweep = width_sweep(
        problem,
        demo.method,
        demo.weights,
        spec.run.rounds,
        widths=(128, 512, 2048),
        seeds=range(4),
        progress=lambda done, total: print(f"{done} of {total} runs", flush=True),
    )
    records.write(sweep, OUT / "width_gap.nc")
    figures.style.save(figures.width.draw(sweep), OUT / "width_gap.png", formats=("png",))
    for kernel in sweep["kernel"].values:
        found = slope(sweep, kernel)
        gaps = sweep["gap"].sel(kernel=kernel).mean(("seed", "agent")).values
        print(
            f"{kernel} kernel: slope {found.value:.2f} [{found.low:.2f}, {found.high:.2f}], gaps",
            gaps,
        )


if __name__ == "__main__":
    main()
