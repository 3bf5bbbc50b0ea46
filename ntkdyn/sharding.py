"""Sharding: the agents of a run over several devices, and their parameters over what is left.

Of D devices and A agents, G = gcd(D, A) groups of D / G devices each hold A / G agents, and the
devices of a group part the parameters of its agents: every array (agents, ...) is cut along its
first axis and along one more. Data, W and a common start are held whole by every device. XLA's
partitioner inserts the exchanges. Where agents are combined, each device takes the same few entries
of all agents instead (an all-to-all), so that none ever holds every agent's parameters.

The devices may belong to several processes (`jax.distributed`), which must all make the same call.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from ntkdyn.errors import InputError
from ntkdyn.processes import distinct, from_first
from ntkdyn.spaces import Space
from ntkdyn.vectors import ByAgent

AGENTS, PARAMETERS = "agents", "parameters"


@dataclass(frozen=True)
class Layout:
    """Which device holds what of arrays with a leading axis of so many agents."""

    devices: tuple[jax.Device, ...]
    agents: int

    @functools.cached_property
    def mesh(self) -> Mesh:
        """Groups of agents x parts of their parameters."""
        groups = math.gcd(len(self.devices), self.agents)
        return Mesh(np.array(self.devices).reshape(groups, -1), (AGENTS, PARAMETERS))

    @property
    def spans_processes(self) -> bool:
        return len({device.process_index for device in self.devices}) > 1

    def sharding(self, shape: Sequence[int]) -> NamedSharding:
        """Agents on the first axis, parameters on the first other one that can be cut."""
        if not shape or shape[0] != self.agents:
            return NamedSharding(self.mesh, PartitionSpec())
        return NamedSharding(self.mesh, PartitionSpec(AGENTS, *self._cut(shape, PARAMETERS)))

    def place(self, tree: PyTree) -> PyTree:
        """The arrays, on their devices."""
        return jax.tree.map(lambda leaf: _put(leaf, self.sharding(leaf.shape)), tree)

    def keep(self, tree: PyTree) -> PyTree:
        """Inside a compiled program: the arrays, each part on its own device."""
        held = lambda leaf: jax.lax.with_sharding_constraint(leaf, self.sharding(leaf.shape))
        return jax.tree.map(held, tree)

    def combining(self, mix: Callable[[ByAgent], ByAgent]) -> Callable[[ByAgent], ByAgent]:
        """`mix`, with a few entries of all agents on each device while it runs."""

        def by_entry(leaf: Any) -> Any:
            cut = PartitionSpec(None, *self._cut(leaf.shape, (AGENTS, PARAMETERS)))
            together = NamedSharding(self.mesh, cut) if any(cut) else self.sharding(leaf.shape)
            return jax.lax.with_sharding_constraint(leaf, together)

        return lambda x: self.keep(mix(x.map(by_entry)).map(by_entry))

    def agreed(self, number: int) -> int:
        """What the first process says, so that all take the same rounds at a time."""
        return from_first(lambda: number) if self.spans_processes else number

    def _cut(self, shape: Sequence[int], axes: str | tuple[str, ...]) -> list[Any]:
        parts = math.prod(self.mesh.shape[name] for name in np.atleast_1d(axes))
        fits = [place for place, size in enumerate(shape[1:]) if size % parts == 0 and size]
        return [axes if [place] == fits[:1] else None for place in range(len(shape) - 1)]


def _put(leaf: jax.Array, sharding: NamedSharding) -> jax.Array:
    """The array on devices of which each process feeds its own; a random key by its bits."""
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        bits = _put(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(bits, impl=jax.random.key_impl(leaf))
    held = np.asarray(leaf)
    return jax.make_array_from_callback(held.shape, sharding, held.__getitem__)


def layout(devices: Sequence[jax.Device] | None, space: Space) -> Layout | None:
    """The layout of the agents of a space over the devices; None: one device.

    Refuses devices that could only repeat what others do.
    """
    if devices is None:
        return None
    listed = distinct(devices)
    found = Layout(listed, space.agents)
    arrays = jax.tree.leaves(jax.eval_shape(space.start))
    largest = max((leaf.shape for leaf in arrays), key=math.prod)
    if math.prod(found.sharding(largest).shard_shape(largest)) * len(listed) > math.prod(largest):
        raise InputError(
            f"devices: {len(listed)} devices cannot share the {space.agents} agents' parameters "
            f"{largest} evenly; take a number of devices that divides the agents, or such a number "
            f"times a divisor of the layer's size"
        )
    return found
