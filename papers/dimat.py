"""DIMAT: agents train alone and now and then merge, their channels aligned before the average.

Saadati et al. (2024), as their code has it, without the long training before the first merge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd
from ntkdyn.papers.points import Architecture, Points, either, network, starts
from ntkdyn.papers.study import Case, Claim, Label, Study, Table, cases_of, each, gain, of

import ntkdyn as nd
from ntkdyn import methods
from ntkdyn.checkpoints import Checkpoints

PLAIN = "averaging"
OWN, ALL, BY_WEIGHTS = "own points", "all points", "weights"
WAYS = {OWN: {"data": "own"}, ALL: {"data": "all"}, BY_WEIGHTS: {"by": "weights"}}
STARTS = ("common", "own")
NO_COMMON_POINT = "agents linearized at starts of their own have no kernel in common"


class Settings(NamedTuple):
    """How large it is."""

    points: Points
    network: Architecture
    agents: int
    tau: int
    """rounds between merges"""
    merges: int
    batch_size: int
    step_size: float
    seeds: int
    predicted: bool


FULL = Settings(
    Points("cifar-10", 4000, 1000),
    (("kind", "resnet20"), ("width", 1), ("normalisation", "batch")),
    5, 160, 4, 50, 0.003, 3, False,
)  # fmt: skip
SMALL = Settings(
    Points("digits", 500, 300),
    (("kind", "mlp"), ("widths", (100, 100))),
    5,
    60,
    2,
    50,
    0.01,
    3,
    True,
)


def cases(settings: Settings, table: Table) -> Sequence[Case]:
    """Every way to merge, from a common start and from own ones."""
    seeds = range(settings.seeds)
    asked = [
        {"side": "trained", **labels}
        for labels in each(start=STARTS, merged=[PLAIN, *WAYS], seed=seeds)
    ]
    if settings.predicted:
        asked += each(side=["predicted"], start=["common"], merged=[PLAIN, OWN], seed=seeds)
    return cases_of(merging, settings, asked)


def method_of(settings: Settings, way: str) -> methods.Method:
    """DIMAT, or the same schedule without alignment."""
    step, tau = settings.step_size, settings.tau
    dimat = methods.dimat(step_size=step, tau=tau, **WAYS.get(way, {}))
    if way != PLAIN:
        return dimat
    mixing = methods.mixing.Periodic(methods.mixing.Fixed(), tau)
    return methods.Method(PLAIN, dimat.update, mixing, dimat.objective)


def merging(
    settings: Settings, labels: Mapping[str, Label], checkpoints: Checkpoints
) -> dict[str, float]:
    """Accuracy around the first and the last merge, and how much a merge leaves of disagreement."""
    seed, tau = int(labels["seed"]), settings.tau
    part = settings.points.shared(settings.agents, seed)
    net = network(settings.points, settings.network)
    begun = starts(labels["start"] == "own", settings.agents, seed)
    problem = nd.Problem(net, part, loss="cross_entropy", seed=begun)
    weights = nd.graphs.uniform(nd.graphs.ring(settings.agents))
    around = [round for merge in range(1, settings.merges + 1)
              for round in (tau * merge - 1, tau * merge)]  # fmt: skip
    asked = (problem, method_of(settings, labels["merged"]), weights, around)
    record = either(labels["side"], asked, checkpoints, settings.batch_size, seed)
    accuracy = 100 * record["test_accuracy"].mean("agent").values
    apart = (record["consensus_distance"] ** 2).sum("agent").values
    return {
        "before": accuracy[0],
        "after": accuracy[1],
        "kept": 100 * accuracy[1] / accuracy[0],
        "last": accuracy[-1],
        "rho": weights.second_largest_modulus**2,
        "rho_after": float((apart[1::2] / apart[::2]).mean()),
    }


def contraction(table: Table) -> pd.Series:
    """rho' - rho: what a merge leaves of disagreement, less what averaging may leave."""
    return of("beyond", merged=OWN, start="own")(
        table.assign(beyond=table["rho_after"] - table["rho"])
    )


STUDY = Study(
    about="DIMAT: what is left of accuracy and of disagreement when agents merge",
    stages=[cases],
    claims=[
        Claim(
            "from own starts a merge keeps 90 % of the accuracy before it",
            of("kept", start="own", merged=OWN), "per cent", 90.0, theory=NO_COMMON_POINT,
        ),
        Claim(
            "plain averaging of own starts keeps less than 40 % of it",
            of("kept", start="own", merged=PLAIN), "per cent", 40.0, below=True,
            theory=NO_COMMON_POINT,
        ),
        Claim(
            "merging is more accurate in the end than averaging, from own starts",
            gain("last", {"merged": OWN}, {"merged": PLAIN}, start="own"), theory=NO_COMMON_POINT,
        ),
        Claim(
            "matching by activations keeps more than matching by weights, from own starts",
            gain("kept", {"merged": OWN}, {"merged": BY_WEIGHTS}, start="own"),
            theory=NO_COMMON_POINT,
        ),
        Claim(
            "merging is more accurate in the end than averaging, from a common start",
            gain("last", {"merged": OWN}, {"merged": PLAIN}, start="common"),
        ),
        Claim(
            "a merge of own starts leaves less disagreement than averaging may: rho' below rho",
            contraction, "", 0.0, below=True, theory=NO_COMMON_POINT,
        ),
    ],
    measures=("before", "after", "kept", "last", "rho", "rho_after"),
    full=FULL,
    small=SMALL,
)  # fmt: skip
