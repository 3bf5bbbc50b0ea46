"""Partitions: which agent owns which training point.

iid          points dealt in random order, as evenly as they go
label        points sorted by label and cut into equal runs: one or two classes an agent
dirichlet    each class split by shares drawn from Dirichlet(alpha, ..., alpha): alpha = 0.1 is
             very unequal, alpha = 100 nearly iid (Hsu, Qi, Brown 2019); an agent that already
             holds its even share gets no more of the later classes, and the draw is repeated
             until everybody has `min_points` (Lin et al. 2021)
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from ntkdyn.data.datasets import Dataset
from ntkdyn.errors import InputError, unknown

DRAWS = 10_000
"""How often a Dirichlet partition is drawn anew before `min_points` is called too many."""


@dataclass(frozen=True, eq=False)
class Partition:
    """A dataset with an owner for every training point."""

    data: Dataset
    owner: Int[np.ndarray, " train"]
    agents: int
    rule: str

    def __post_init__(self) -> None:
        check_owner(self.owner, self.agents, len(self.data.train_labels))

    @property
    def counts(self) -> Int[np.ndarray, "agents classes"]:
        """How many points of each class each agent owns."""
        table = np.zeros((self.agents, self.data.classes), dtype=int)
        np.add.at(table, (self.owner, self.data.train_labels), 1)
        return table


def partition(
    data: Dataset,
    *,
    agents: int,
    by: str = "iid",
    alpha: float | None = None,
    min_points: int = 1,
    seed: int,
) -> Partition:
    """Deal the training points to `agents` by the named rule; `alpha` is dirichlet's."""
    if by not in RULES:
        raise unknown("partition", by, RULES)
    if not 1 <= agents * max(min_points, 1) <= len(data.train_labels):
        raise InputError(
            f"partition: {agents} agents with at least {max(min_points, 1)} points each need "
            f"as many training points, got {len(data.train_labels)}"
        )
    if (alpha is not None) != (by == "dirichlet") or (alpha is not None and not alpha > 0):
        raise InputError(f"partition {by}: alpha must be {_alpha_rule(by)}, got {alpha}")
    rng = np.random.default_rng(seed)
    if by == "dirichlet":
        owner = _dirichlet(data.train_labels, agents, alpha, min_points, rng)
        return Partition(data, owner, agents, f"dirichlet({alpha:g})")
    owner = RULES[by](data.train_labels, agents, rng)
    short = np.bincount(owner, minlength=agents).min()
    if short < min_points:
        raise InputError(f"partition {by}: min_points is {min_points}, an agent gets {short}")
    return Partition(data, owner, agents, by)


def check_owner(owner: Int[np.ndarray, " train"], agents: int, points: int) -> None:
    """Refuse owners that are not agents, and agents that own nothing."""
    if owner.shape != (points,):
        raise InputError(
            f"owner: must be one agent per training point ({points},), got {owner.shape}"
        )
    if owner.min() < 0 or owner.max() >= agents:
        raise InputError(
            f"owner: must be from 0 to {agents - 1}, got {owner.min()} to {owner.max()}"
        )
    empty = np.flatnonzero(np.bincount(owner, minlength=agents) == 0)
    if len(empty):
        raise InputError(f"owner: agent {empty[0]} owns no point; every agent needs at least one")


def _alpha_rule(by: str) -> str:
    return "a positive number" if by == "dirichlet" else "left out (it is dirichlet's)"


def _iid(labels: np.ndarray, agents: int, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(np.arange(len(labels)) % agents)


def _label(labels: np.ndarray, agents: int, rng: np.random.Generator) -> np.ndarray:
    shuffled = rng.permutation(len(labels))
    owner = np.empty(len(labels), dtype=int)
    owner[shuffled[np.argsort(labels[shuffled], kind="stable")]] = (
        np.arange(len(labels)) * agents // len(labels)
    )
    return owner


def _dirichlet(
    labels: np.ndarray, agents: int, alpha: float, min_points: int, rng: np.random.Generator
) -> np.ndarray:
    for _ in range(DRAWS):
        owner = _dirichlet_draw(labels, agents, alpha, rng)
        if np.bincount(owner, minlength=agents).min() >= min_points:
            return owner
    raise InputError(
        f"partition dirichlet: {DRAWS} draws left an agent with fewer than {min_points} points; "
        f"lower min_points, raise alpha ({alpha:g}), or use more points ({len(labels)}) or "
        f"fewer agents ({agents})"
    )


def _dirichlet_draw(
    labels: np.ndarray, agents: int, alpha: float, rng: np.random.Generator
) -> np.ndarray:
    owner = np.empty(len(labels), dtype=int)
    held = np.zeros(agents, dtype=int)
    for label in rng.permutation(np.unique(labels)):
        rows = rng.permutation(np.flatnonzero(labels == label))
        share = rng.dirichlet(np.full(agents, alpha)) * (held < len(labels) / agents)
        share = share / share.sum() if share.sum() > 0 else np.full(agents, 1 / agents)
        cuts = np.round(np.cumsum(share)[:-1] * len(rows)).astype(int)
        owner[rows] = np.searchsorted(cuts, np.arange(len(rows)), side="right")
        held += np.bincount(owner[rows], minlength=agents)
    return owner


RULES = {"iid": _iid, "label": _label, "dirichlet": _dirichlet}
