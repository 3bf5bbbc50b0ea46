"""The catalogue: what `ntkdyn methods` and `ntkdyn papers` list, read off the methods."""

from __future__ import annotations

import inspect
from typing import NamedTuple

from ntkdyn.methods import METHODS, Method, exchange

PAPERS = (
    (
        "p2p-dynamics",
        "Chaudhari, Pranav, Anand, Moura: Peer-to-Peer Learning Dynamics of Wide Neural Networks",
        "statements known, formulas reconstructed",
    ),
    (
        "drt-diffusion",
        "Li, Fainman, Vlaski: deep relative trust diffusion",
        "skeleton known, weights reconstructed",
    ),
    ("dimat", "Saadati et al.: Decentralized Iterative Merging-And-Training", "its code known"),
    ("mhd", "Zhmoginov et al.: Decentralized Learning with Multi-Headed Distillation",
     "structure known, formulas and constants reconstructed"),
    ("ccl", "Aketi, Roy: Cross-feature Contrastive Loss", "its code known"),
)  # fmt: skip
"""(folder in papers/, paper, how far it is known)"""


class Row(NamedTuple):
    """One method, in words."""

    name: str
    round: str
    source: str
    sends: str
    spaces: str
    needs: str


def catalogue() -> list[Row]:
    """Every method, as its own docstring and settings describe it."""
    return [_row(name) for name in METHODS]


def _row(name: str) -> Row:
    method = METHODS[name](step_size=1.0)
    first, _, rest = inspect.getdoc(METHODS[name]).partition("\n\n")
    spaces = [space for space in ("network", "tangent", "kernel") if space in method.spaces]
    return Row(
        name,
        first.replace("\n", " "),
        " ".join(rest.split("\n\n")[0].split()).split(": ")[0].split(", as its")[0],
        _sent(method),
        " ".join(spaces),
        method.wants,
    )


def _sent(method: Method) -> str:
    """What goes over a link in a round: vectors of the size of the parameters, and what else."""
    sent, parts = exchange.of_update(method.update), []
    if sent.vectors:
        parts.append(f"{sent.vectors} vector{'s' if sent.vectors > 1 else ''}")
    if sent.numbers:
        parts.append("1 number")
    if method.objective.sends:
        parts.append(method.objective.sends)
    often = f", every {method.mixing.every} rounds" if method.mixing.every > 1 else ""
    return " + ".join(parts) + often
