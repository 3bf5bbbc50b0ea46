"""Task: what a run must know beyond its space."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from ntkdyn import precision
from ntkdyn.data import Batches, Partition, full, minibatches
from ntkdyn.errors import InputError, is_whole
from ntkdyn.losses import Loss


class Task(NamedTuple):
    """Targets and owners; training points come first, then public ones, then test points."""

    targets: Float[np.ndarray, "points outputs"]
    owner: Int[np.ndarray, " train"]
    agents: int
    loss: Loss
    labels: Int[np.ndarray, " points"] | None
    """class of every point, -1 for public ones; None where the task is regression"""
    public: int = 0
    """how many public points there are: seen by all agents, without targets"""
    heads: int = 1
    """how many sets of outputs the network has; the first is the main one"""
    label_names: tuple[str, ...] = ()
    """what the classes, or the outputs of regression, are called, if they have names"""
    agent_names: tuple[str, ...] = ()
    about: dict[str, Any] = {}
    """what a record says of the data"""
    augmentation: Any = None
    """what is done to points that gradients are taken at"""

    def __repr__(self) -> str:
        return f"Task({points_of(self)}, loss={self.loss.name!r})"

    @property
    def train(self) -> int:
        return len(self.owner)

    @property
    def basis(self) -> int:
        """How many points gradients come from: all but the test points."""
        return self.train + self.public

    @property
    def classes(self) -> int:
        """How many classes the outputs of one head tell apart."""
        return 2 if self.loss.binary else self.targets.shape[1]

    @property
    def counts(self) -> Int[np.ndarray, " agents"]:
        """How many training points each agent owns."""
        return np.bincount(self.owner, minlength=self.agents)

    def some(self, points: int | float) -> Int[np.ndarray, " rows"]:
        """So many training, public and test points each, or that share: their rows, ascending.

        Evenly among those that are dealt to agents one after another, and one of each at least.
        """
        dealt = np.argsort(self.owner, kind="stable")
        public, test = np.split(np.arange(self.train, len(self.targets)), [self.public])
        parts = [_evenly(rows, points) for rows in (dealt, public, test)]
        agents, first = np.unique(self.owner, return_index=True)
        without = ~np.isin(agents, self.owner[parts[0]])
        return np.unique(np.concatenate([first[without], *parts]))

    def at(self, rows: Int[np.ndarray, " rows"]) -> Task:
        """These points alone, ascending."""
        own = self.owner[rows[rows < self.train]]
        public = int(((rows >= self.train) & (rows < self.basis)).sum())
        labels = None if self.labels is None else self.labels[rows]
        return self._replace(targets=self.targets[rows], owner=own, labels=labels, public=public)

    def batches(self, size: int | None, seed: int | None) -> Batches:
        """All points of every agent in every round, or `size` of them drawn from `seed`."""
        if size is None or seed is None:
            self.check_drawn()
            return full(self.owner, self.agents)
        key = jax.random.key(seed, impl=precision.IMPLEMENTATION)
        drawn = minibatches(self.owner, self.agents, size, key=key)
        return dataclasses.replace(drawn, augmentation=self.augmentation)

    def check_drawn(self) -> None:
        """Refuse to alter points where no seed says how."""
        if self.augmentation is not None:
            raise InputError(
                "augment: is drawn from batch_seed, so it goes with batch_size and batch_seed"
            )


def _evenly(rows: Int[np.ndarray, " rows"], points: int | float) -> Int[np.ndarray, " chosen"]:
    """So many of them, or that share, each as far from the next."""
    asked = points if is_whole(points) else math.ceil(points * len(rows))
    count = min(asked, len(rows))
    return rows[np.arange(count) * len(rows) // max(count, 1)]


def task_of(partition: Partition, loss: Loss, public: int = 0, heads: int = 1) -> Task:
    """The partition's training points, so many public ones, and its test points."""
    data, train = partition.data, len(partition.data.train_labels)
    unknown = np.full((public, *data.train_labels.shape[1:]), -1)
    labels = np.concatenate([data.train_labels, unknown, data.test_labels])
    if data.classes is None:
        labels, targets = None, loss.read(labels)
    else:
        targets = loss.targets(np.maximum(labels, 0), data.classes)
    targets[train : train + public] = 0
    return Task(
        targets,
        partition.owner,
        partition.agents,
        loss,
        labels,
        public,
        heads,
        data.label_names,
        partition.agent_names,
        {**data.about, "partition": partition.rule},
        data.augmentation,
    )


def points_of(task: Task) -> str:
    """How many points there are, and for whom."""
    test = len(task.targets) - task.basis
    tested = f" and {test} test" if test else ""
    return f"{task.train} training{tested} points, {task.agents} agents"


def rows_of(task: Task) -> dict[str, Any]:
    """What a table says of points and agents."""
    counts = task.counts
    return {
        "points an agent": f"{counts.min()} to {counts.max()}",
        "outputs": task.targets.shape[1],
        "loss": task.loss.name,
        "agents": ", ".join(task.agent_names[:8]) + (", ..." if len(task.agent_names) > 8 else ""),
    }
