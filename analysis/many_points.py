"""Claim: any round at thousands of points takes one factorization of the kernel, not one a node.

Sixteen agents on a ring, ten outputs, points on a sphere with the infinite-width kernel of two
hidden layers, DGD at half its limit. Round 10^6 by the rational Krylov space (`dynamics.krylov`)
and by a contour integral, in turn, in one process; more points by the first alone, and held against
plain steps. Run

    .venv/bin/python analysis/many_points.py              (about 12 minutes, two cores)

It prints and writes analysis/results/many-points.md.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ntkdyn import (
    KernelProblem,
    SaveOptions,
    dynamics,
    graphs,
    kernels,
    methods,
    networks,
    precision,
)

OUT = Path(__file__).parent / "results" / "many-points.md"
AGENTS, OUTPUTS, FEW, MANY = 16, 10, 4096, 10_000
FAR, STEPPED = 10**6, 2000


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """How long it takes, and what it gives."""
    begun = time.perf_counter()
    found = work()
    return time.perf_counter() - begun, found


def question(points: int) -> Callable[[int, str], Any]:
    """(round, way) -> the record of that round."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((points, 20))
    x *= np.sqrt(20) / np.linalg.norm(x, axis=1, keepdims=True)
    with precision.double():
        net = networks.mlp((8, 8), outputs=OUTPUTS)
        K = np.array(
            kernels.infinite.compute(
                net.kernel, x, options=kernels.ComputeOptions(dtype="float64")
            ).values
        )
    y = rng.standard_normal((points, OUTPUTS))
    problem = KernelProblem(K, y, np.arange(points) % AGENTS)
    W = graphs.metropolis(graphs.ring(AGENTS))
    known = dynamics.assess(problem, methods.dgd(step_size=methods.of_limit(0.5)), W)
    return lambda round, via: dynamics.predict(
        problem, known.method, W, [round], via=via, save=SaveOptions(outputs=False), stability=known
    )


def apart(one: Any, other: Any) -> float:
    """The largest difference of displacements, as a share of the largest."""
    a, b = (each["displacement"].values for each in (one, other))
    return float(np.abs(a - b).max() / np.abs(a).max())


def main() -> None:
    """Time both sides, and write what came out."""
    few = question(FEW)
    times: dict[str, list[float]] = {"krylov": [], "contour": []}
    last = {}
    for _ in range(2):
        for via, taken in times.items():
            spent, last[via] = seconds(lambda via=via: few(FAR, via))
            taken.append(spent)
    first, warm = (contour / krylov for krylov, contour in zip(*times.values(), strict=True))
    between = apart(last["contour"], last["krylov"])
    many = question(MANY)
    far, _ = seconds(lambda: many(FAR, "auto"))
    near, jumped = seconds(lambda: many(STEPPED, "krylov"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    by_steps, stepped = seconds(lambda: many(STEPPED, "steps"))
    shown = {name: " and ".join(f"{each:.1f}" for each in taken) for name, taken in times.items()}
    lines = [
        f"Two CPU cores; {AGENTS} agents on a ring, {OUTPUTS} outputs, DGD at half its limit.",
        "",
        "| | |",
        "|---|---|",
        f"| {FEW} points, round {FAR}, Krylov, first and second call | {shown['krylov']} s |",
        f"| the same by a contour integral | {shown['contour']} s |",
        f"| ratio | {first:.1f} and {warm:.1f} |",
        f"| difference, share of the largest displacement | {between:.1e} |",
        f"| {MANY} points, round {FAR}, the way chosen by itself | {far:.0f} s |",
        f"| {MANY} points, round {STEPPED}, rational Krylov | {near:.0f} s |",
        f"| most memory until then | {peak:.1f} GiB |",
        f"| {MANY} points, {STEPPED} plain steps | {by_steps:.0f} s |",
        f"| difference from these | {apart(stepped, jumped):.1e} |",
    ]
    text = "\n".join(["# Far rounds at many points", "", *lines]) + "\n"
    print(text)
    OUT.write_text(text)


if __name__ == "__main__":
    main()
