"""Parameters of networks: where they start, in which precision, one layer alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ntkdyn import precision
from ntkdyn.kernels.structure import layer_names
from ntkdyn.networks import Network, Params


def start_of(network: Network, seed: int | Sequence[int], features: tuple[int, ...]) -> Params:
    """The network's parameters from one seed, or stacked from several."""
    if isinstance(seed, Sequence):
        drawn = [start_of(network, each, features) for each in seed]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)
    with precision.single():
        return network.start(jax.random.key(seed), features)


def in_current_precision(tree: Any) -> Any:
    """All its arrays in the precision that JAX computes in."""
    dtype = jnp.zeros(()).dtype
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def only_layer(params: Params, layer: str) -> Params:
    """The parameters with all layers but one set to zero."""
    leaves, tree = jax.tree.flatten(params)
    kept = zip(leaves, layer_names(params), strict=True)
    return tree.unflatten([leaf if name == layer else jnp.zeros_like(leaf) for leaf, name in kept])
