"""Partitions: which agent owns which training point.

iid          points dealt in random order, as evenly as they go
label        points sorted by label and cut into equal runs: one or two classes an agent
dirichlet    each class split by shares drawn from Dirichlet(alpha, ..., alpha): alpha = 0.1 is
             very unequal, alpha = 100 nearly iid (Hsu, Qi, Brown 2019); an agent that already
             holds its even share gets no more of the later classes, and the draw is repeated
             until everybody has `min_points` (Lin et al. 2021)
dirichlet_groups    agents in groups of ten, each group with its own slice of the shuffled points,
             dealt as by dirichlet, classes in order, until everybody in it has half an even share;
             then all are laid end to end, each one's points ordered by class, and cut anew into
             equal runs (Lin et al. 2021; Aketi, Roy 2024, as their code has it)
classes      class c to agent c mod agents, all classes trimmed to the smallest; with more agents
             than classes each class is cut into equal slices (Saadati et al. 2024, as their code
             has it)
primary      every agent has `primary_labels` labels of its own, drawn at random, and a point with
             label y goes to agent i with probability proportional to 1 + skew [y is primary at i]
             (Zhmoginov et al. 2023; a reconstruction)
given        every point to the agent that it came with (`read` with an owner)

Targets of regression are dealt by iid, given and, where there is one per point, label.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from ntkdyn import arrays
from ntkdyn.data.datasets import Dataset
from ntkdyn.errors import InputError, check_kind, check_name, check_whole, is_real, is_whole, shown

DRAWS = 10_000
"""How often a Dirichlet partition is drawn anew before `min_points` is called too many."""

GROUP = 10
"""How many agents share a draw of dirichlet_groups."""

LARGEST_NUMBER = 1e100
"""a setting that large may still be added up over all agents"""

LEFT_OUT = -1
"""the owner of a point that a rule trims away"""


@dataclass(frozen=True, eq=False)
class Partition:
    """A dataset with an owner for every training point.

    Example:
        >>> prob.partition.agents
        3
    """

    data: Dataset
    owner: Int[np.ndarray, " train"]
    agents: int
    rule: str
    agent_names: tuple[str, ...] = ()
    """what the agents are called, if not 0, 1, ..."""

    def __post_init__(self) -> None:
        check_kind("data", self.data, Dataset, "as `data.load` gives")
        checked = owners(self.owner, self.agents, len(self.data.train_labels))
        object.__setattr__(self, "owner", checked)
        if self.agent_names and len(self.agent_names) != self.agents:
            raise InputError(
                f"agent_names: must be one for each of the {self.agents} agents, got "
                f"{len(self.agent_names)}"
            )

    def __repr__(self) -> str:
        return f"Partition({self.data!r}, {self.agents} agents, {self.rule!r})"

    @property
    def counts(self) -> Int[np.ndarray, "agents classes"]:
        """How many points of each class each agent owns; of regression, how many in all."""
        if self.data.classes is None:
            return np.bincount(self.owner, minlength=self.agents)[:, None]
        table = np.zeros((self.agents, self.data.classes), dtype=int)
        np.add.at(table, (self.owner, self.data.train_labels), 1)
        return table


def partition(
    data: Dataset,
    *,
    agents: int | None = None,
    by: str = "iid",
    alpha: float | None = None,
    primary_labels: int | None = None,
    skew: float | None = None,
    min_points: int = 1,
    seed: int | None = None,
) -> Partition:
    """Deal the training points to `agents` by the named rule.

    `agents` and `seed` may be left out of given, which draws nothing. `alpha` is that of dirichlet
    and dirichlet_groups, `primary_labels` and `skew` are primary's. What a rule trims away is not
    in the partition's data.

    Args:
        data: whose training points are dealt.
        agents: m, how many.
        by: "iid", "label", "classes", "primary", "dirichlet", "dirichlet_groups" or "given".
        alpha: of Dirichlet's distribution, positive.
        primary_labels: of each agent.
        skew: share of an agent's points that are of these.
        min_points: of each agent, at least.
        seed: draws.

    Returns:
        The dataset with an owner for every training point.

    Raises:
        InputError: for settings that do not go together, and points too few.

    Example:
        >>> np.bincount(nd.data.partition(data, agents=3, seed=0).owner).tolist()
        [3, 3, 3]
    """
    check_kind("data", data, Dataset, "as `data.load` gives")
    check_name("partition", by, RULES)
    agents = _agents(data, agents, by)
    min_points = check_whole("partition: min_points", min_points, 0)
    seed = check_whole("partition: seed", 0 if seed is None and by == "given" else seed, 0)
    if agents * max(min_points, 1) > len(data.train_labels):
        raise InputError(
            f"partition: {agents} agents with at least {max(min_points, 1)} points each need "
            f"as many training points, got {len(data.train_labels)}"
        )
    given = {"alpha": alpha, "primary_labels": primary_labels, "skew": skew}
    for name, value in given.items():
        _check_setting(by, name, value, data.classes or 0)
    settings = {
        name: int(given[name]) if name == "primary_labels" else float(given[name])
        for name in RULES[by].settings
    }
    rng = np.random.default_rng(seed)
    scene = Scene(_labels(data, by), data.classes or 0, agents, min_points, rng, data.owner)
    owner = RULES[by].deal(scene, **settings)
    kept = owner != LEFT_OUT
    short = np.bincount(owner[kept], minlength=agents).min()
    if short < min_points:
        raise InputError(f"partition {by}: min_points is {min_points}, an agent gets {short}")
    named = ", ".join(f"{value:g}" for value in settings.values())
    rule, names = f"{by}({named})" if named else by, data.agent_names if by == "given" else ()
    return Partition(_only(data, kept), owner[kept], agents, rule, names)


def _agents(data: Dataset, agents: Any, by: str) -> int:
    """How many agents there are."""
    if by != "given":
        return check_whole("partition: agents", agents, 1)
    if data.owner is None:
        raise InputError(
            f"partition given: the points of {data.name} came without agents; name the column of "
            f"their owners, or deal them by another rule"
        )
    known = len(data.agent_names) or int(data.owner.max()) + 1
    if agents is not None and agents != known:
        raise InputError(f"partition given: the points belong to {known} agents, got {agents!r}")
    return known


def _labels(data: Dataset, by: str) -> np.ndarray:
    """What points are dealt by: the class of each, or its target."""
    if data.classes is not None or by in BLIND:
        return data.train_labels
    if by != "label":
        raise InputError(
            f"partition {by}: deals by classes, which targets of regression are not; "
            f"{', '.join(BLIND)} and label do without"
        )
    if data.train_labels.shape[1] > 1:
        raise InputError(
            f"partition label: orders points by one target, got {data.train_labels.shape[1]}"
        )
    return data.train_labels[:, 0]


BLIND = ("iid", "given")
"""rules that do not look at labels"""


def owners(owner: Any, agents: int | None, points: int) -> Int[np.ndarray, " train"]:
    """The owner of every point, an agent each; refuses agents that own nothing.

    Without `agents`, there are as many as the largest number says.
    """
    owner = arrays.plain("owner", owner)
    if owner.ndim != 1 or owner.dtype.kind not in "iu":
        raise InputError(
            f"owner: must be a list of whole numbers, got {owner.dtype} of shape {owner.shape}"
        )
    if owner.shape != (points,):
        raise InputError(
            f"owner: must be one agent per training point ({points},), got {owner.shape}"
        )
    if owner.min() < 0:
        raise InputError(f"owner: agents are numbered from 0, got {owner.min()}")
    agents = int(owner.max()) + 1 if agents is None else check_whole("owner: agents", agents, 1)
    if owner.max() >= agents:
        raise InputError(
            f"owner: must be from 0 to {agents - 1}, got {owner.min()} to {owner.max()}"
        )
    held = np.unique(owner)
    if len(held) < agents:
        empty = np.setdiff1d(np.arange(len(held) + 1), held)[0]
        raise InputError(f"owner: agent {empty} owns no point; every agent needs at least one")
    return owner.astype(int)


def _check_setting(by: str, name: str, value: Any, classes: int) -> None:
    """Refuse a setting that the rule does not have, lacks, or cannot use."""
    number = is_real(value) and value <= LARGEST_NUMBER
    good, wanted = {
        "alpha": (number and value > 0, "a positive number"),
        "skew": (number and value >= 0, "a number from 0 on"),
        "primary_labels": (
            is_whole(value) and 1 <= value <= classes,
            f"a whole number from 1 to {classes}, the classes",
        ),
    }[name]
    if name not in RULES[by].settings:
        owners = " and ".join(rule for rule in RULES if name in RULES[rule].settings)
        good, wanted = value is None, f"left out (it belongs to {owners})"
    if not good:
        raise InputError(f"partition {by}: {name} must be {wanted}, got {shown(value)}")


def _only(data: Dataset, kept: np.ndarray) -> Dataset:
    """The dataset with these training points."""
    if kept.all():
        return data
    return dataclasses.replace(
        data,
        train_inputs=data.train_inputs[kept],
        train_labels=data.train_labels[kept],
        owner=None if data.owner is None else data.owner[kept],
    )


class Scene(NamedTuple):
    """What a rule deals, and to whom."""

    labels: np.ndarray
    classes: int
    agents: int
    min_points: int
    rng: np.random.Generator
    given: Int[np.ndarray, " train"] | None = None


def _runs(points: int, agents: int) -> np.ndarray:
    """Owners of points laid end to end and cut into equal runs."""
    return np.arange(points) * agents // points


def _given(scene: Scene) -> np.ndarray:
    return scene.given


def _iid(scene: Scene) -> np.ndarray:
    return scene.rng.permutation(np.arange(len(scene.labels)) % scene.agents)


def _label(scene: Scene) -> np.ndarray:
    shuffled = scene.rng.permutation(len(scene.labels))
    owner = np.empty(len(shuffled), dtype=int)
    in_order = shuffled[np.argsort(scene.labels[shuffled], kind="stable")]
    owner[in_order] = _runs(len(shuffled), scene.agents)
    return owner


def _classes(scene: Scene) -> np.ndarray:
    labels, classes, agents, _, rng, _ = scene
    if agents > classes and agents % classes:
        raise InputError(
            f"partition classes: more agents than classes must be a multiple of them, got "
            f"{agents} agents and {classes} classes"
        )
    smallest = int(np.bincount(labels, minlength=classes).min())
    if smallest < max(1, agents // classes):
        raise InputError(
            f"partition classes: every class needs {max(1, agents // classes)} training points, "
            f"and the smallest has {smallest}"
        )
    owner = np.full(len(labels), LEFT_OUT)
    for label in range(classes):
        rows = rng.permutation(np.flatnonzero(labels == label))[:smallest]
        sharing = np.arange(label % agents, agents, classes)
        owner[rows] = sharing[_runs(smallest, len(sharing))]
    return owner


def _primary(scene: Scene, primary_labels: int, skew: float) -> np.ndarray:
    labels, classes, agents, _, rng, _ = scene
    drawn = [rng.choice(classes, primary_labels, replace=False) for _ in range(agents)]
    liking = np.ones((classes, agents))
    for agent, primary in enumerate(drawn):
        liking[primary, agent] += skew
    reached = np.cumsum(liking / liking.sum(axis=1, keepdims=True), axis=1)
    above = rng.random(len(labels))[:, None] >= reached[labels, :-1]
    return above.sum(axis=1)


def _dirichlet(scene: Scene, alpha: float) -> np.ndarray:
    def draw() -> np.ndarray:
        order = scene.rng.permutation(np.unique(scene.labels))
        return _dirichlet_draw(scene, alpha, order, np.round)

    return _enough("dirichlet", scene, alpha, draw, "lower min_points, raise alpha")


def _dirichlet_groups(scene: Scene, alpha: float) -> np.ndarray:
    labels, classes, agents, _, rng, _ = scene
    sizes = [min(GROUP, agents - first) for first in range(0, agents, GROUP)]
    ends = np.cumsum(sizes) * len(labels) // agents
    laid = []
    for rows, size in zip(np.split(rng.permutation(len(labels)), ends[:-1]), sizes, strict=True):
        group = Scene(labels[rows], classes, size, len(rows) // (2 * size), rng)
        draw = functools.partial(_dirichlet_draw, group, alpha, range(classes), np.floor)
        dealt = _enough("dirichlet_groups", group, alpha, draw, "raise alpha")
        laid.append(rows[np.lexsort((group.labels, dealt))])
    owner = np.empty(len(labels), dtype=int)
    owner[np.concatenate(laid)] = _runs(len(labels), agents)
    return owner


def _enough(
    by: str, scene: Scene, alpha: float, draw: Callable[[], np.ndarray], advice: str
) -> np.ndarray:
    """The first draw that leaves everybody enough."""
    for _ in range(DRAWS):
        owner = draw()
        if np.bincount(owner, minlength=scene.agents).min() >= scene.min_points:
            return owner
    raise InputError(
        f"partition {by}: {DRAWS} draws left an agent with fewer than {scene.min_points} points; "
        f"{advice} ({alpha:g}), or use more points ({len(scene.labels)}) or fewer agents "
        f"({scene.agents})"
    )


def _dirichlet_draw(
    scene: Scene,
    alpha: float,
    order: Iterable[int] | Int[np.ndarray, " present"],
    whole: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Class after class is split by shares; `whole` makes whole numbers of where it is cut."""
    labels, _, agents, _, rng, _ = scene
    owner = np.empty(len(labels), dtype=int)
    held = np.zeros(agents, dtype=int)
    for label in order:
        rows = rng.permutation(np.flatnonzero(labels == label))
        share = rng.dirichlet(np.full(agents, alpha)) * (held < len(labels) / agents)
        share = share / share.sum() if share.sum() > 0 else np.full(agents, 1 / agents)
        cuts = whole(np.cumsum(share)[:-1] * len(rows)).astype(int)
        owner[rows] = np.searchsorted(cuts, np.arange(len(rows)), side="right")
        held += np.bincount(owner[rows], minlength=agents)
    return owner


class Rule(NamedTuple):
    """How points are dealt, and by which settings."""

    deal: Callable[..., np.ndarray]
    settings: tuple[str, ...] = ()


RULES = {
    "iid": Rule(_iid),
    "label": Rule(_label),
    "classes": Rule(_classes),
    "primary": Rule(_primary, ("primary_labels", "skew")),
    "dirichlet": Rule(_dirichlet, ("alpha",)),
    "dirichlet_groups": Rule(_dirichlet_groups, ("alpha",)),
    "given": Rule(_given),
}
