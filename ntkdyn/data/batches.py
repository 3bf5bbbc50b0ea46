"""Batches: for every round, the rows each agent uses and their weights.

`full` gives every agent all its points in every round; `minibatches` draws `size` of them
without replacement, anew in each round, from a key; `listed` takes those that are given. Agents
with fewer points are padded with their own again, at weight zero, so that all fit one array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ntkdyn import arrays
from ntkdyn.data.augmentation import Augmentation
from ntkdyn.errors import InputError, check_whole, shown

ALTERED = 1
"""What a round's key is folded with where points are altered: not that of the batch's draw."""


class Batch(NamedTuple):
    """The local gradient is the sum over an agent's rows of weight x gradient of the loss.

    Example:
        >>> nd.data.full(owner, 3).everything.weights[0].tolist()
        [0.5, 0.5]
    """

    rows: Int[Array, "agents batch"]
    weights: Float[Array, "agents batch"]


class Batches(eqx.Module):
    """Round -> `Batch`. Without a key, all points in every round.

    Example:
        >>> nd.data.full(owner, 3).at(7).rows.tolist()
        [[0, 1], [2, 3], [4, 5]]
    """

    everything: Batch
    """every agent's own rows, padded; weight 1/n_i on each of its n_i rows"""
    size: int | None = eqx.field(static=True, default=None)
    key: PRNGKeyArray | None = None
    given: Batch | None = None
    """those of all rounds, (rounds, agents, batch), where they were given"""
    augmentation: Augmentation | None = eqx.field(static=True, default=None)

    @property
    def fixed(self) -> bool:
        """Whether every round uses the same batch."""
        return self.size is None and self.given is None

    def looks(
        self, round: Int[Array, ""] | int
    ) -> Callable[[Array, Int[Array, ...]], Array] | None:
        """(points, their rows) -> these as they look in that round; None: as they are."""
        if self.augmentation is None:
            return None
        key = jax.random.fold_in(jax.random.fold_in(self.key, round), ALTERED)
        return lambda points, rows: self.augmentation.altered(points, rows, key)

    def at(self, round: Int[Array, ""] | int) -> Batch:
        """The batch of that round."""
        if self.given is not None:
            return Batch(self.given.rows[round], self.given.weights[round])
        if self.size is None:
            return self.everything
        return _draw(self.everything, self.size, jax.random.fold_in(self.key, round))


def full(owner: Int[np.ndarray, " train"], agents: int) -> Batches:
    """Every agent uses all its own points in every round.

    Args:
        owner: the agent of each training point.
        agents: m, how many.

    Returns:
        What agents use, round by round.

    Example:
        >>> nd.data.full(owner, 3).fixed
        True
    """
    counts = np.bincount(owner, minlength=agents)
    rows = np.zeros((agents, counts.max()), dtype=np.int32)
    weights = np.zeros((agents, counts.max()))
    for agent, count in enumerate(counts):
        rows[agent] = np.resize(np.flatnonzero(owner == agent), rows.shape[1])
        weights[agent, :count] = 1 / count
    return Batches(Batch(rows, weights))


def minibatches(
    owner: Int[np.ndarray, " train"], agents: int, size: int, *, key: PRNGKeyArray
) -> Batches:
    """Every agent draws `size` of its own points per round, or uses all if it has fewer.

    Args:
        owner: the agent of each training point.
        agents: m, how many.
        size: of a batch, from 1 on.
        key: of the draws.

    Returns:
        What agents use, round by round.

    Raises:
        InputError: for a size that is not a whole number from 1 on.

    Example:
        >>> import jax
        >>> nd.data.minibatches(owner, 3, 1, key=jax.random.key(0)).at(0).rows.shape
        (3, 1)
    """
    size = check_whole("batch size:", size, 1)
    everything = full(owner, agents).everything
    size = min(size, everything.rows.shape[1])
    return Batches(everything, size, key)


def listed(owner: Int[np.ndarray, " train"], agents: int, rows: Any) -> Batches:
    """The batches given for each round: per agent the numbers of the training points it uses.

    `rows` is an array (rounds, agents, batch), or lists within lists where agents use different
    numbers of points. A point counts as often as it is listed, each in a round by one over the
    agent's number of points.

    Args:
        owner: the agent of each training point.
        agents: m, how many.
        rows: numbers of points, by round and agent.

    Returns:
        What agents use, round by round.

    Raises:
        InputError: for points that are not the agent's, and agents without any.

    Example:
        >>> nd.data.listed(owner, 3, [[[0], [2], [4]]]).fixed
        False
    """
    each = [_of_round(owner, agents, number, given) for number, given in enumerate(rows)]
    if not each:
        raise InputError("batches: must list at least one round")
    widest = max(len(own) for round in each for own in round)
    table = np.zeros((len(each), agents, widest), np.int32)
    weights = np.zeros(table.shape)
    for number, round in enumerate(each):
        for agent, own in enumerate(round):
            table[number, agent] = np.resize(own, widest)
            weights[number, agent, : len(own)] = 1 / len(own)
    return Batches(full(owner, agents).everything, given=Batch(table, weights))


def _of_round(
    owner: Int[np.ndarray, " train"], agents: int, number: int, given: Any
) -> list[Int[np.ndarray, " own"]]:
    """Every agent's rows of one round, which must be points of its own."""
    count = len(given) if hasattr(given, "__len__") else shown(given)
    if count != agents:
        raise InputError(
            f"batches: round {number} must list points of each of the {agents} agents, got {count}"
        )
    found = [
        arrays.numbers(f"batches: agent {i} in round {number}", g) for i, g in enumerate(given)
    ]
    for agent, own in enumerate(found):
        if own.ndim != 1 or own.dtype.kind not in "iu":
            raise InputError(
                f"batches: agent {agent} in round {number} must list numbers of points, got "
                f"{own.dtype} of shape {own.shape}"
            )
        there = (own >= 0) & (own < len(owner))
        others = own[~there | (owner[np.where(there, own, 0)] != agent)]
        if others.size:
            raise InputError(
                f"batches: point {int(others[0])}, listed for agent {agent} in round {number}, is "
                f"not one of its training points"
            )
    return found


def _draw(everything: Batch, size: int, key: PRNGKeyArray) -> Batch:
    """The `size` rows with the highest of random scores; padding scores lowest."""
    owned = everything.weights > 0
    scores = jnp.where(owned, jax.random.uniform(key, everything.rows.shape, jnp.float32), -1.0)
    _, chosen = jax.lax.top_k(scores, size)
    taken = jnp.take_along_axis(owned, chosen, axis=1)
    weights = taken / taken.sum(axis=1, keepdims=True)
    return Batch(jnp.take_along_axis(everything.rows, chosen, axis=1), weights)
