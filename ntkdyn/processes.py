"""Several processes of one run (`jax.distributed`): whole arrays, and what all of them agree on.

All processes must make the same calls; with one process each of these is the plain thing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import ArrayLike, PyTree

from ntkdyn.errors import InputError, check_kind


def distinct(devices: Any) -> tuple[jax.Device, ...]:
    """The devices, refused unless they are at least one, and different ones."""
    several = isinstance(devices, Iterable) and getattr(devices, "shape", None) != ()
    listed = tuple(devices) if several else (devices,)
    for each in listed:
        check_kind("devices: each", each, jax.Device, "as jax.devices() lists them")
    if not listed or len(set(listed)) < len(listed):
        raise InputError(
            f"devices: must be different devices, at least one, as jax.devices() lists them, "
            f"got {len(listed)}, {len(set(listed))} of them different"
        )
    return listed


def on_host(tree: PyTree) -> PyTree:
    """The whole arrays on the host, gathered from other processes if there are any."""
    return jax.tree.map(_whole, tree)


def from_first(find: Callable[[], int]) -> int:
    """The number that the first process finds, in all processes; only the first looks."""
    found = np.int64(find() if jax.process_index() == 0 else 0)
    return int(multihost_utils.broadcast_one_to_all(found))


def on_all(well: bool) -> bool:
    """Whether it is so in all processes."""
    return bool(np.all(multihost_utils.process_allgather(np.array(well))))


def _whole(leaf: ArrayLike) -> np.ndarray:
    if getattr(leaf, "is_fully_addressable", True):
        return np.asarray(leaf)
    return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
