"""Peer-to-peer learning dynamics: what every agent learns, predicted before it is trained.

Chaudhari, Pranav, Anand, Moura (2025); their own problems are not known to us.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ntkdyn.papers.points import Points
from ntkdyn.papers.study import Case, Claim, Label, Study, Table, cases_of, each, of

import ntkdyn as nd
from ntkdyn import methods
from ntkdyn.checkpoints import Checkpoints

METHODS = {"dgd": methods.dgd, "cta": methods.cta, "atc": methods.atc}

GRAPHS = {
    "ring": nd.graphs.ring,
    "star": nd.graphs.star,
    "Erdos-Renyi": lambda agents: nd.graphs.erdos_renyi(agents, 0.5, seed=1),
}

WIDE = "two wide layers"
MODELS = ("affine", WIDE)


class Settings(NamedTuple):
    """How large it is."""

    points: Points
    agents: int
    width: int
    rounds: int
    anchors: tuple[int, ...]
    seeds: int
    graphs: tuple[str, ...]


FULL = Settings(
    Points("mnist", 400, 400), 8, 1024, 300, (0, 3, 8, 18, 35, 60, 95, 140, 210), 3, tuple(GRAPHS)
)
SMALL = Settings(Points("digits", 80, 40), 4, 512, 40, (0, 2, 5, 10, 20), 3, ("ring",))


def cases(settings: Settings, table: Table) -> Sequence[Case]:
    """Every model, method and graph."""
    labels = each(
        side=["trained"],
        model=MODELS,
        method=[*METHODS],
        graph=settings.graphs,
        seed=range(settings.seeds),
    )
    return cases_of(gaps, settings, labels)


def gaps(
    settings: Settings, labels: Mapping[str, Label], checkpoints: Checkpoints
) -> dict[str, float]:
    """How far prediction and training are apart, in per cent."""
    wide, seed = labels["model"] == WIDE, int(labels["seed"])
    part = settings.points.shared(settings.agents, seed, by="dirichlet", alpha=0.3, min_points=8)
    widths = (settings.width,) * 2 if wide else ()
    net = nd.networks.mlp(widths, outputs=10, w_std=(*(2**0.5,) * len(widths), 1.0))
    problem = nd.Problem(net, part, loss="mse", seed=seed)
    weights = nd.graphs.metropolis(GRAPHS[labels["graph"]](settings.agents))
    half = 0.5 * nd.step_size_limit(problem, methods.dgd(step_size=1.0), weights)
    rounds, asked = settings.rounds, (problem, METHODS[labels["method"]](step_size=half), weights)
    save = nd.SaveOptions(parameter_rounds=(rounds,))
    anchors = list(settings.anchors) if wide else None
    observed = nd.train(*asked, rounds, save=save, checkpoints=checkpoints)
    predicted = nd.predict(*asked, rounds, save=save, anchors=anchors)
    wrong = nd.validation.nulls(*asked, observed, anchors=anchors) if wide else None
    found = nd.compare(predicted, observed, wrong).attrs
    return {
        measure: 100 * found[name]
        for measure, name in {
            "outputs": "largest_gap",
            "deviations": "deviation_gap",
            "parameters": "final_parameter_gap",
            "nearest_wrong": "nearest_null_gap",
        }.items()
        if name in found
    }


def told(table: Table, **labels: Label) -> object:
    """How many times farther the nearest of the wrong explanations is."""
    ratio = table.assign(ratio=table["nearest_wrong"] / table["deviations"])
    return of("ratio", **labels)(ratio)


ITSELF = "is what is tested"

STUDY = Study(
    about="Peer-to-peer learning dynamics: agents' errors and parameters, predicted and trained",
    stages=[cases],
    claims=[
        Claim(
            "an affine model's outputs are predicted",
            of("outputs", model="affine"), "per cent", 0.1, below=True, theory=ITSELF,
        ),
        Claim(
            "an affine model's parameters are predicted",
            of("parameters", model="affine"), "per cent", 0.1, below=True, theory=ITSELF,
        ),
        Claim(
            "wide networks' outputs are predicted, agent by agent",
            of("outputs", model=WIDE), "per cent", 1.0, below=True, theory=ITSELF,
        ),
        Claim(
            "wide networks' parameters are predicted, agent by agent",
            of("parameters", model=WIDE), "per cent", 10.0, below=True, theory=ITSELF,
        ),
        *(
            Claim(
                f"what agents differ in tells {name} from other methods, graphs and steps",
                lambda table, name=name: told(table, model=WIDE, method=name),
                "times", 2.0, theory=ITSELF,
            )
            for name in METHODS
        ),
    ],
    measures=("outputs", "deviations", "parameters", "nearest_wrong"),
    full=FULL,
    small=SMALL,
)  # fmt: skip
