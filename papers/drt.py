"""Deep relative trust: diffusion whose weights follow how far agents' layers are apart.

Li, Fainman, Vlaski (2025); the formula of the weights is our reconstruction, and its freedom (the
distance squared or not, kappa, cap, rows or symmetric) is mapped here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ntkdyn.papers.points import Architecture, Points, either, network, starts
from ntkdyn.papers.study import Case, Claim, Label, Study, Table, cases_of, each, gain

import ntkdyn as nd
from ntkdyn import methods
from ntkdyn.checkpoints import Checkpoints

GRAPHS = {
    "ring": nd.graphs.ring,
    "path": nd.graphs.path,
    "Erdos-Renyi": lambda agents: nd.graphs.erdos_renyi(agents, 0.4, seed=1),
}
STARTS = ("common", "own")

ATC = "ATC"
SQUARED, UNSQUARED = "squared", "unsquared"
WEIGHTS: dict[str, dict[str, Any]] = {
    SQUARED: {},
    UNSQUARED: {"variant": "unsquared", "kappa": 1e-2},
    "squared, cap 2": {"cap": 2.0},
    "squared, kappa 100": {"kappa": 100.0},
    "squared, symmetric": {"normalised": "symmetric"},
    "unsquared, cap 2": {"variant": "unsquared", "kappa": 1e-2, "cap": 2.0},
    "unsquared, kappa 100": {"variant": "unsquared", "kappa": 100.0},
    "unsquared, symmetric": {"variant": "unsquared", "kappa": 1e-2, "normalised": "symmetric"},
}
"""what of the reconstruction is free"""


class Settings(NamedTuple):
    """How large it is."""

    points: Points
    network: Architecture
    agents: int
    rounds: int
    batch_size: int
    step_size: float
    seeds: int
    graphs: tuple[str, ...]
    """the first with all the weights, the others with two of them"""


FULL = Settings(
    Points("cifar-10", 4000, 1000), (("kind", "resnet20"), ("normalisation", "group")),
    8, 600, 32, 0.3, 3, tuple(GRAPHS),
)  # fmt: skip
SMALL = Settings(
    Points("digits", 400, 300), (("kind", "mlp"), ("widths", (48, 48))),
    6, 150, 16, 0.3, 3, ("ring", "path"),
)  # fmt: skip


def cases(settings: Settings, table: Table) -> Sequence[Case]:
    """Trainings, and predictions of those from a common start."""
    first, *others = settings.graphs
    seeds = range(settings.seeds)
    labels = each(graph=[first], start=STARTS, weights=[ATC, *WEIGHTS], seed=seeds)
    labels += each(graph=others, start=STARTS, weights=[ATC, SQUARED, UNSQUARED], seed=seeds)
    asked = [{"side": "trained", **each} for each in labels]
    linear = each(
        graph=settings.graphs, start=["common"], weights=[ATC, SQUARED, UNSQUARED], seed=seeds
    )
    asked += [{"side": "predicted", **each} for each in linear]
    return cases_of(accuracies, settings, asked)


def accuracies(
    settings: Settings, labels: Mapping[str, Label], checkpoints: Checkpoints
) -> dict[str, float]:
    """Test accuracy of the agents, of their mean, and how far they are apart, in per cent."""
    seed, step = int(labels["seed"]), settings.step_size
    part = settings.points.shared(
        settings.agents, seed, by="dirichlet", alpha=0.3, min_points=settings.batch_size
    )
    begun = starts(labels["start"] == "own", settings.agents, seed)
    net = network(settings.points, settings.network)
    problem = nd.Problem(net, part, loss="cross_entropy", seed=begun)
    graph = GRAPHS[labels["graph"]](settings.agents)
    name = labels["weights"]
    method = (
        methods.atc(step_size=step) if name == ATC else methods.drt(step_size=step, **WEIGHTS[name])
    )
    asked = (problem, method, nd.graphs.uniform(graph), [settings.rounds])
    record = either(labels["side"], asked, checkpoints, settings.batch_size, seed)
    return {
        "agents": 100 * float(record["test_accuracy"].mean()),
        "mean_model": 100 * float(record["consensus_test_accuracy"].mean()),
    }


def over_atc(weights: str, **both: Label) -> Any:
    """Accuracy of the agents beyond that of ATC with uniform weights."""
    return gain("agents", {"weights": weights}, {"weights": ATC}, **both)


NO_COMMON_POINT = "agents linearized at starts of their own have no kernel in common"

STUDY = Study(
    about="DRT diffusion (reconstruction): test accuracy beyond that of ATC",
    stages=[cases],
    claims=[
        Claim(
            f"DRT, {weights}, generalises better than ATC on a {graph}, {start} starts",
            over_atc(weights, graph=graph, start=start),
            theory=NO_COMMON_POINT if start == "own" else "",
        )
        for graph in GRAPHS for start in STARTS for weights in (SQUARED, UNSQUARED)
    ],
    measures=("agents", "mean_model"),
    full=FULL,
    small=SMALL,
)  # fmt: skip
