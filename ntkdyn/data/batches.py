"""Batches: for every round, the rows each agent uses and their weights.

`full` gives every agent all its points in every round; `minibatches` draws `size` of them
without replacement, anew in each round, from a key. Agents with fewer points are padded with
rows of weight zero, so that all agents fit one array.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ntkdyn.errors import check_whole


class Batch(NamedTuple):
    """The local gradient is the sum over an agent's rows of weight x gradient of the loss."""

    rows: Int[Array, "agents batch"]
    weights: Float[Array, "agents batch"]


class Batches(eqx.Module):
    """Round -> `Batch`. Without a key, all points in every round."""

    everything: Batch
    """every agent's own rows, padded; weight 1/n_i on each of its n_i rows"""
    size: int | None = eqx.field(static=True, default=None)
    key: PRNGKeyArray | None = None

    @property
    def fixed(self) -> bool:
        """Whether every round uses the same batch."""
        return self.size is None

    def at(self, round: Int[Array, ""] | int) -> Batch:
        """The batch of that round."""
        if self.size is None:
            return self.everything
        return _draw(self.everything, self.size, jax.random.fold_in(self.key, round))


def full(owner: Int[np.ndarray, " train"], agents: int) -> Batches:
    """Every agent uses all its own points in every round."""
    counts = np.bincount(owner, minlength=agents)
    rows = np.zeros((agents, counts.max()), dtype=np.int32)
    weights = np.zeros((agents, counts.max()))
    for agent, count in enumerate(counts):
        rows[agent, :count] = np.flatnonzero(owner == agent)
        weights[agent, :count] = 1 / count
    return Batches(Batch(rows, weights))


def minibatches(
    owner: Int[np.ndarray, " train"], agents: int, size: int, *, key: PRNGKeyArray
) -> Batches:
    """Every agent draws `size` of its own points per round, or uses all if it has fewer."""
    size = check_whole("batch size:", size, 1)
    everything = full(owner, agents).everything
    size = min(size, everything.rows.shape[1])
    return Batches(everything, size, key)


def _draw(everything: Batch, size: int, key: PRNGKeyArray) -> Batch:
    """The `size` rows with the highest of random scores; padding scores lowest."""
    owned = everything.weights > 0
    scores = jnp.where(owned, jax.random.uniform(key, everything.rows.shape, jnp.float32), -1.0)
    _, chosen = jax.lax.top_k(scores, size)
    taken = jnp.take_along_axis(owned, chosen, axis=1)
    weights = taken / taken.sum(axis=1, keepdims=True)
    return Batch(jnp.take_along_axis(everything.rows, chosen, axis=1), weights)
