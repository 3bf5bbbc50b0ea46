"""Multi-headed distillation: agents of any architecture learn from outputs on public points.

Zhmoginov et al. (2023); formulas and constants are our reconstruction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import networkx as nx
import numpy as np
import pandas as pd
from ntkdyn.papers.points import Architecture, Points, either, network
from ntkdyn.papers.study import Case, Claim, Label, Study, Table, cases_of, each, gain, of

import ntkdyn as nd
from ntkdyn import methods
from ntkdyn.checkpoints import Checkpoints
from ntkdyn.data import Partition

GRAPHS: dict[str, Callable[[int], nx.Graph]] = {
    "complete": nd.graphs.complete,
    "ring": nd.graphs.ring,
    "chain": nd.graphs.path,
}

ISOLATED, AVERAGED, HEADS, BOTH = "isolated", "averaged", "heads", "heads and embedding"
WEIGHTS = {ISOLATED: (0.0, 0.0), HEADS: (0.0, 1.0), BOTH: (0.1, 1.0)}
"""training -> nu_emb, nu_aux"""

AUX = 2


class Settings(NamedTuple):
    """How large it is."""

    points: Points
    public: int
    networks: tuple[Architecture, ...]
    """agents have these by turns"""
    agents: int
    rounds: int
    batch_size: int
    step_size: float
    alpha: float
    seeds: int
    predicted: bool


FULL = Settings(
    Points("fashion-mnist", 4000, 1400), 400,
    (
        (("kind", "resnet"), ("widths", (16, 32)), ("strides", 2)),
        (("kind", "resnet"), ("widths", (24, 32)), ("strides", 2)),
    ),
    4, 800, 32, 0.05, 0.1, 3, False,
)  # fmt: skip
SMALL = Settings(
    Points("digits", 500, 500), 100,
    ((("kind", "mlp"), ("widths", (48, 32))), (("kind", "mlp"), ("widths", (64, 32)))),
    4, 400, 16, 0.1, 0.2, 3, True,
)  # fmt: skip


def cases(settings: Settings, table: Table) -> Sequence[Case]:
    """Every graph, with distillation and without, and averaging of like networks."""
    seeds = range(settings.seeds)
    asked = each(side=["trained"], graph=[*GRAPHS], training=[ISOLATED, HEADS, BOTH], seed=seeds)
    asked += each(side=["trained"], graph=["complete"], training=[AVERAGED], seed=seeds)
    if settings.predicted:
        asked += each(
            side=["predicted"], graph=[*GRAPHS], training=[ISOLATED, HEADS, BOTH], seed=seeds
        )
    return cases_of(accuracies, settings, asked)


def accuracies(
    settings: Settings, labels: Mapping[str, Label], checkpoints: Checkpoints
) -> dict[str, float]:
    """Shared and private accuracy per head, means over agents, in per cent."""
    seed, averaged = int(labels["seed"]), labels["training"] == AVERAGED
    part = settings.points.shared(
        settings.agents, seed, by="dirichlet", alpha=settings.alpha, min_points=settings.batch_size
    )
    part, public = apart(part, settings.public)
    heads = 1 if averaged else 1 + AUX
    kinds = settings.networks[:1] if averaged else settings.networks
    nets = [network(settings.points, kind, outputs=10 * heads) for kind in kinds]
    several = [nets[agent % len(nets)] for agent in range(settings.agents)]
    problem = nd.Problem(
        nets[0] if averaged else several, part, loss="cross_entropy", seed=seed,
        public=None if averaged else public,
    )  # fmt: skip
    weights = nd.graphs.uniform(GRAPHS[labels["graph"]](settings.agents))
    asked = (problem, method_of(settings, labels["training"], seed), weights, [settings.rounds])
    record = either(labels["side"], asked, checkpoints, settings.batch_size, seed)
    if averaged:
        return {"shared_main": 100 * float(record["test_accuracy"].mean())}
    shared, private = (
        record[f"{each}_accuracy"][0].mean("agent") for each in ("shared", "private")
    )
    return {
        "shared_main": 100 * float(shared[0]),
        "shared_first": 100 * float(shared[1]),
        "shared_second": 100 * float(shared[2]),
        "private_main": 100 * float(private[0]),
    }


def method_of(settings: Settings, training: str, seed: int) -> methods.Method:
    """Distillation with those weights, or plain diffusion."""
    if training == AVERAGED:
        return methods.atc(step_size=settings.step_size)
    nu_emb, nu_aux = WEIGHTS[training]
    return methods.mhd(
        step_size=settings.step_size, aux=AUX, nu_emb=nu_emb, nu_aux=nu_aux, pool=4, pool_every=10,
        public_batch=settings.batch_size, teachers=min(3, settings.agents - 1), own_too=True,
        seed=seed,
    )  # fmt: skip


def apart(part: Partition, public: int) -> tuple[Partition, np.ndarray]:
    """The last so many test points become public ones, without labels."""
    points = part.data
    less = replace(
        points, test_inputs=points.test_inputs[:-public], test_labels=points.test_labels[:-public]
    )
    return replace(part, data=less), points.test_inputs[-public:]


def over_isolated(head: str, **both: Label) -> Callable[[Table], pd.Series]:
    """Accuracy of that head on everybody's classes, beyond that of isolated agents' only head."""

    def effect(table: Table) -> pd.Series:
        alone = of("shared_main", training=ISOLATED, **both)(table)
        return (of(f"shared_{head}", training=BOTH, **both)(table) - alone).dropna()

    return effect


STUDY = Study(
    about="Multi-headed distillation (reconstruction): accuracy on all classes and on one's own",
    stages=[cases],
    claims=[
        *(
            Claim(
                f"an auxiliary head is better on all classes than isolated agents, {graph}",
                over_isolated("first", graph=graph),
            )
            for graph in GRAPHS
        ),
        Claim(
            "the second auxiliary head is better than the first on a chain",
            lambda table: of("shared_second", training=BOTH, graph="chain")(table)
            - of("shared_first", training=BOTH, graph="chain")(table),
        ),
        Claim(
            "the main head loses no more than 1 point on the agent's own classes, complete",
            gain("private_main", {"training": BOTH}, {"training": ISOLATED}, graph="complete"),
            bar=-1.0,
        ),
        Claim(
            "embeddings drawn together help the auxiliary head, complete",
            gain("shared_first", {"training": BOTH}, {"training": HEADS}, graph="complete"),
        ),
    ],
    measures=("shared_main", "shared_first", "shared_second", "private_main"),
    full=FULL,
    small=SMALL,
)  # fmt: skip
