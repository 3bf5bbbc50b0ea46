"""CCL: cross-feature attraction beside momentum, where agents' classes are very unequal.

Aketi, Roy (2024), as their code has it. Every method has the step size with which its mean model
is most accurate on a seed of its own, out of the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import networkx as nx
from ntkdyn.papers.points import Architecture, Points, either, network
from ntkdyn.papers.study import Case, Claim, Label, Study, Table, cases_of, each, gain, where

import ntkdyn as nd
from ntkdyn import methods
from ntkdyn.checkpoints import Checkpoints

CCL, BASE = "CCL", "CCL, both lambda 0"
METHODS: dict[str, Callable[[float], methods.Method]] = {
    CCL: lambda step: methods.ccl(step_size=step),
    BASE: lambda step: methods.ccl(step_size=step, lambda_m=0.0, lambda_d=0.0),
    "QG-DSGDm-N": lambda step: methods.qg_dsgdm_n(step_size=step),
    "QG-GUTm": lambda step: methods.qg_gutm(step_size=step, mu=0.01),
    "DSGDm-N": lambda step: methods.nesterov(step_size=step),
}
RIVALS = [name for name in METHODS if name != CCL]

GRAPHS: dict[str, Callable[[], nx.Graph]] = {
    "ring, 16 agents": lambda: nd.graphs.ring(16),
    "Dyck, 32 agents": nd.graphs.dyck,
    "torus, 32 agents": lambda: nd.graphs.circulant(32, (1, 4)),
    "ring, 6 agents": lambda: nd.graphs.ring(6),
}

TUNING_SEED = 1000


class Settings(NamedTuple):
    """How large it is."""

    points: Points
    network: Architecture
    graphs: tuple[str, ...]
    alphas: tuple[float, ...]
    rounds: int
    batch_size: int
    step_sizes: tuple[float, ...]
    seeds: int
    predicted: bool
    measured: int | None = None
    """on how many test points accuracy is measured; None: all"""


FULL = Settings(
    Points("fashion-mnist", 60_000, 10_000), (("kind", "lenet5"),),
    ("ring, 16 agents", "Dyck, 32 agents", "torus, 32 agents"), (0.1, 0.01),
    2 * 117, 32, (0.03, 0.1, 0.3), 3, False, 10_000,
)  # fmt: skip
SMALL = Settings(
    Points("digits", 600, 400), (("kind", "mlp"), ("widths", (48, 32))),
    ("ring, 6 agents",), (0.1,), 100, 16, (0.03, 0.1, 0.3), 3, True,
)  # fmt: skip


def tuning(settings: Settings, table: Table) -> Sequence[Case]:
    """Every method with every step size, on the first graph and shares."""
    labels = each(
        side=["tuning"], graph=settings.graphs[:1], alpha=settings.alphas[:1], method=[*METHODS],
        step=settings.step_sizes, seed=[TUNING_SEED],
    )  # fmt: skip
    return cases_of(accuracies, settings, labels)


def tuned(settings: Settings, table: Table) -> Sequence[Case]:
    """Every method with its own step size, on every graph and shares."""
    seeds = range(settings.seeds)
    asked = each(
        side=["trained"], graph=settings.graphs, alpha=settings.alphas, method=[*METHODS],
        seed=seeds,
    )  # fmt: skip
    if settings.predicted:
        asked += each(
            side=["predicted"], graph=settings.graphs, alpha=settings.alphas, method=[*METHODS],
            seed=seeds,
        )  # fmt: skip
    labels = [each | {"step": best(table, each["method"])} for each in asked]
    return cases_of(accuracies, settings, labels)


def best(table: Table, method: Label) -> float:
    """The step size with which that method was most accurate on the seed for tuning."""
    rows = where(table, side="tuning", method=method)
    return float(rows.loc[rows["mean_model"].idxmax(), "step"])


def accuracies(
    settings: Settings, labels: Mapping[str, Label], checkpoints: Checkpoints
) -> dict[str, float]:
    """Test accuracy of the mean model and of the agents, in per cent."""
    seed, graph = int(labels["seed"]), GRAPHS[labels["graph"]]()
    part = settings.points.shared(
        len(graph), seed, by="dirichlet_groups", alpha=float(labels["alpha"])
    )
    problem = nd.Problem(
        network(settings.points, settings.network), part, loss="cross_entropy", seed=seed
    )
    method = METHODS[labels["method"]](float(labels["step"]))
    asked = (problem, method, nd.graphs.uniform(graph), [settings.rounds])
    record = either(
        labels["side"], asked, checkpoints, settings.batch_size, seed, settings.measured
    )
    return {
        "mean_model": 100 * float(record["consensus_test_accuracy"].mean()),
        "agents": 100 * float(record["test_accuracy"].mean()),
    }


def claims() -> Sequence[Claim]:
    """On every graph and shares, against every other method."""
    found = []
    for labels in each(graph=[*GRAPHS], alpha=[0.1, 0.01], other=RIVALS):
        other = labels.pop("other")
        found.append(
            Claim(
                f"CCL is more accurate than {other}: {labels['graph']}, alpha {labels['alpha']}",
                gain("mean_model", {"method": CCL}, {"method": other}, **labels),
            )
        )
    return found


STUDY = Study(
    about="CCL: accuracy of the mean model beyond that of other methods with momentum",
    stages=[tuning, tuned],
    claims=claims(),
    measures=("mean_model", "agents"),
    full=FULL,
    small=SMALL,
)
