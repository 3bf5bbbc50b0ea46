"""What runs of studies are made of: images dealt to agents, networks, starts, either side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ntkdyn.papers.study import Label

import ntkdyn as nd
from ntkdyn.checkpoints import Checkpoints
from ntkdyn.data import Partition
from ntkdyn.records import Record


class Points(NamedTuple):
    """So many images of a dataset."""

    dataset: str
    train: int
    test: int
    data_dir: Path | None = None

    def drawn(self, seed: int) -> nd.data.Dataset:
        return nd.data.load(
            self.dataset, train=self.train, test=self.test, seed=seed, data_dir=self.data_dir
        )

    def shared(self, agents: int, seed: int, **rule: Any) -> Partition:
        """Dealt to agents by that rule."""
        return nd.data.partition(self.drawn(seed), agents=agents, seed=seed, **rule)

    @property
    def image(self) -> tuple[int, ...]:
        """The shape that flat points are read in."""
        return IMAGES[self.dataset]


IMAGES = {
    "digits": (8, 8, 1),
    "mnist": (28, 28, 1),
    "fashion-mnist": (28, 28, 1),
    "cifar-10": (32, 32, 3),
}

Architecture = tuple[tuple[str, Any], ...]
"""(setting, value) pairs: the `kind`, one of `networks.KINDS`, and what else it takes"""


def network(points: Points, asked: Architecture, outputs: int = 10) -> nd.networks.Network:
    """That architecture for those images."""
    settings = dict(asked)
    make = nd.networks.KINDS[settings.pop("kind")]
    if make is not nd.networks.mlp:
        settings["image"] = points.image
    return make(outputs=outputs, **settings)


def starts(own: bool, agents: int, seed: int) -> int | list[int]:
    """One start for all agents, or one for each."""
    return [100 * seed + agent for agent in range(agents)] if own else seed


def either(
    side: Label,
    asked: Sequence[Any],
    checkpoints: Checkpoints,
    batch_size: int,
    seed: int,
    measured: int | None = None,
) -> Record:
    """Predicted by products with the Jacobian, or the real networks trained, on the same batches.

    `asked` are problem, method, weights and rounds; `measured` so many points of each set, or all.
    """
    save = nd.SaveOptions(outputs=False, points=measured)
    given = {"batch_size": batch_size, "batch_seed": seed, "save": save}
    if side == "predicted":
        return nd.predict(*asked, **given, kernel="implicit")
    return nd.train(*asked, **given, checkpoints=checkpoints)
