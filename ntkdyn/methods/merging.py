"""DIMAT: merging after neurons are aligned (Saadati et al. 2024, as their code has it).

    x_i <- sum_j W_ij P_ij x_j

P_ij numbers the hidden channels of agent j anew so that they fit those of agent i, hidden layer by
hidden layer: the assignment that maximises the sum of correlations of activations between matched
channels (a covariance over points and places, divided by both deviations). It changes no output of
agent j, and everybody is aligned into agent i's own order. The points whose activations are
compared are i's own, i's and its neighbours', or all; the released code uses all, which is not
decentralised. (`floats_sent` does not count points that are shared so.) With "weights" in place of
"activations", channels are matched by the inner products of the parameters that belong to them,
layer after layer until nothing changes (Ainsworth et al. 2023, for two networks). Here each
neighbour is so matched with agent i alone, whoever else is merged: the same as in the authors' code
for one neighbour, and another method for two or more. The authors reset the statistics of batch
normalisation before and after a merge; here they are always taken anew: while channels are compared
from these points, and after it from the agent's own.

In the linear spaces all agents are near one start, so that every channel fits itself best: merging
is plain averaging there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array, Float, Int, PyTree

from ntkdyn.errors import InputError, check_name
from ntkdyn.methods.mixing import BaseMixing, Operator, Round, weighted
from ntkdyn.spaces import Space
from ntkdyn.vectors import ByAgent

BY = ("activations", "weights")
DATA = ("own", "neighbours", "all")
SWEEPS = 50
"""After so many passes over all layers weight matching stops, settled or not."""

Permutation = Int[Array, "agents agents channels"]
"""[i, j]: the channel of agent j that takes the place of each of agent i's"""

Places = tuple[tuple[int, int], ...]
"""(leaf, axis) pairs along which a hidden layer's channels are numbered"""


class Merge(BaseMixing):
    """mix(x)_i = sum_j W_ij P_ij x_j."""

    by: str = eqx.field(static=True, default="activations")
    data: str = eqx.field(static=True, default="own")
    affine: ClassVar[bool] = False

    def __check_init__(self) -> None:
        for name, value, known in (("matching", self.by, BY), ("data", self.data, DATA)):
            check_name(f"{name} of dimat", value, known)

    def check(self, method: str, task: Any, space: Space, rounds: int) -> None:
        """Refuse a network whose hidden layers are not known."""
        known = getattr(space, "anatomy", None)
        if space.kind == "network" and space.mixable and not (known and known.permutable):
            unsaid = (
                "the network does not say along which axes its hidden channels are numbered "
                "(`hidden` and `permutable` of networks.Network)"
            )
            raise InputError(f"{method}: {(known and known.ordered) or unsaid}")

    def bind(
        self, weights: Operator, round: Round = 0, scene: Any = None
    ) -> Callable[[ByAgent], ByAgent]:
        average = weights.at(round)
        if scene.space.kind != "network":
            return average
        matrix = average.matrix()

        def mix(x: ByAgent) -> ByAgent:
            return merged(x, self.permutations(x, matrix, scene), matrix, scene.space.anatomy)

        return mix

    def permutations(self, x: ByAgent, matrix: Array, scene: Any) -> dict[str, Permutation]:
        """Per hidden layer, how each agent's channels fit each other agent's that it hears from."""
        anatomy = scene.space.anatomy
        if self.by == "weights":
            return _by_weights(x, matrix, anatomy)
        rows, there = self._points(scene)
        look = lambda own: _correlations(anatomy, x.tree, scene.space.inputs[own[0]], *own[1:])
        fits = jax.lax.map(look, (rows, there, jnp.arange(len(matrix))))
        return {name: _assigned(fits[name], matrix) for name in anatomy.permutable}

    def _points(self, scene: Any) -> tuple[Array, Array]:
        """The rows that every agent compares activations on, and 1 where there is one."""
        own = scene.everything
        rows, there = jnp.asarray(own.rows), jnp.asarray(own.weights) > 0
        agents = len(rows)
        if self.data == "neighbours":
            heard, linked = scene.links.heard, scene.links.there > 0
            beside = rows[heard].reshape(agents, -1)
            counted = (there[heard] & linked[..., None]).reshape(agents, -1)
            rows = jnp.concatenate([rows, beside], axis=1)
            there = jnp.concatenate([there, counted], axis=1)
        elif self.data == "all":
            every = jnp.broadcast_to(rows.reshape(-1), (agents, rows.size))
            rows, there = every, jnp.broadcast_to(there.reshape(-1), every.shape)
        return rows, there.astype(jnp.zeros(()).dtype)


def merged(
    x: ByAgent, fits: dict[str, Permutation], matrix: Float[Array, "agents agents"], anatomy: Any
) -> ByAgent:
    """sum_j W_ij P_ij x_j for every agent i."""

    def of_agent(own: tuple[Array, dict[str, Array]]) -> PyTree:
        weights, order = own
        aligned = jax.vmap(lambda tree, order: permuted(tree, order, anatomy.permutable))
        return jax.tree.map(lambda leaf: weighted(weights, leaf), aligned(x.tree, order))

    return type(x)(jax.lax.map(of_agent, (matrix, fits)))


def permuted(
    tree: PyTree, order: dict[str, Int[Array, " channels"]], permutable: dict[str, Places]
) -> PyTree:
    """One agent's parameters with the channels of its hidden layers in another order."""
    leaves, definition = jax.tree.flatten(tree)
    for layer, places in permutable.items():
        for number, axis in places:
            size = leaves[number].shape[axis]
            leaves[number] = jnp.take(leaves[number], _index(order[layer], size, jnp), axis=axis)
    return definition.unflatten(leaves)


def _index(order: Any, size: int, numpy: Any) -> Any:
    """The order along an axis that runs over places first and channels last."""
    blocks = numpy.arange(size // len(order)) * len(order)
    return (blocks[:, None] + order[None]).reshape(-1)


def _correlations(
    anatomy: Any, tree: PyTree, points: Array, there: Array, agent: Array
) -> dict[str, Float[Array, "agents channels channels"]]:
    """Per hidden layer, how the agent's activations at the points go with every other agent's."""
    if anatomy.pointwise:
        hidden = lambda own: anatomy.hidden(own, points)
    else:
        still = lambda own: anatomy.moments(own, points, there)
        hidden = lambda own: anatomy.settled.hidden((own, still(own)), points)
    seen = jax.vmap(hidden)(tree)
    return {layer: _correlation(seen[layer], there, agent) for layer in anatomy.permutable}


def _correlation(seen: Array, there: Array, agent: Array) -> Array:
    """corr[j, r, s] of channel r of `agent` with channel s of j."""
    exact = jax.lax.Precision.HIGHEST
    flat = seen.reshape(*seen.shape[:2], -1, seen.shape[-1])
    share = there / (there.sum() * flat.shape[2])
    mean = jnp.einsum("jntc,n->jc", flat, share, precision=exact)
    centred = (flat - mean[:, None, None]) * jnp.sqrt(share)[None, :, None, None]
    covariance = jnp.einsum("ntr,jnts->jrs", centred[agent], centred, precision=exact)
    deviation = jnp.sqrt(jnp.einsum("jntc,jntc->jc", centred, centred, precision=exact))
    return covariance / jnp.maximum(deviation[agent][None, :, None] * deviation[:, None, :], 1e-7)


def _assigned(fits: Float[Array, "agents agents r s"], matrix: Array) -> Permutation:
    """The assignments of the largest sums, by scipy on the host; nothing moves without a link."""

    def solve(fits: Array, matrix: Array) -> np.ndarray:
        fits, matrix = np.asarray(fits), np.asarray(matrix)
        return _for_links(matrix, fits.shape[-1], lambda i, j: _assignment(fits[i, j]))

    shape = jax.ShapeDtypeStruct(fits.shape[:3], jnp.int32)
    return jax.pure_callback(solve, shape, fits, matrix)


def _assignment(fit: np.ndarray) -> np.ndarray:
    return scipy.optimize.linear_sum_assignment(fit, maximize=True)[1]


def _for_links(
    matrix: np.ndarray, channels: int, match: Callable[[Any, Any], np.ndarray]
) -> np.ndarray:
    orders = np.tile(np.arange(channels, dtype=np.int32), (*matrix.shape, 1))
    for i, j in np.argwhere(matrix > 0):
        if i != j:
            orders[i, j] = match(i, j)
    return orders


def _by_weights(x: ByAgent, matrix: Array, anatomy: Any) -> dict[str, Permutation]:
    leaves, permutable = jax.tree.leaves(x.tree), anatomy.permutable
    sizes = {
        layer: min(leaves[number].shape[axis + 1] for number, axis in places)
        for layer, places in permutable.items()
    }

    def solve(matrix: Array, *leaves: Array) -> dict[str, np.ndarray]:
        matrix, *leaves = (np.asarray(each) for each in (matrix, *leaves))
        shape = (*matrix.shape, 1)
        orders = {
            layer: np.tile(np.arange(count, dtype=np.int32), shape)
            for layer, count in sizes.items()
        }
        for i, j in np.argwhere(matrix > 0):
            if i != j:
                found = match_weights(
                    [leaf[i] for leaf in leaves], [leaf[j] for leaf in leaves], permutable, sizes
                )
                for layer, order in found.items():
                    orders[layer][i, j] = order
        return orders

    shapes = {
        layer: jax.ShapeDtypeStruct((*matrix.shape, count), jnp.int32)
        for layer, count in sizes.items()
    }
    return jax.pure_callback(solve, shapes, matrix, *leaves)


def match_weights(
    own: Sequence[np.ndarray],
    other: Sequence[np.ndarray],
    permutable: dict[str, Places],
    sizes: dict[str, int],
) -> dict[str, Int[np.ndarray, ...]]:
    """The orders of `other`'s channels that fit `own`'s parameters best, one layer at a time."""
    orders = {layer: np.arange(count) for layer, count in sizes.items()}
    for _ in range(SWEEPS):
        before = {layer: order.copy() for layer, order in orders.items()}
        for layer in orders:
            fit = sum(a @ b.T for a, b in _by_channel(layer, own, other, orders, permutable, sizes))
            orders[layer] = _assignment(fit)
        if all((orders[layer] == before[layer]).all() for layer in orders):
            break
    return orders


def _by_channel(
    layer: str, own: Any, other: Any, orders: Any, permutable: dict[str, Places], sizes: Any
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Per tensor that the layer's channels number: both agents', channels first, the rest flat."""
    for number, axis in permutable[layer]:
        aligned = other[number]
        for name, places in permutable.items():
            for leaf, along in places:
                if leaf == number and name != layer:
                    index = _index(orders[name], aligned.shape[along], np)
                    aligned = np.take(aligned, index, axis=along)
        yield tuple(_channels_first(t, axis, sizes[layer]) for t in (own[number], aligned))


def _channels_first(tensor: np.ndarray, axis: int, channels: int) -> np.ndarray:
    blocks = np.moveaxis(tensor, axis, 0).reshape(-1, channels, tensor.size // tensor.shape[axis])
    return blocks.transpose(1, 0, 2).reshape(channels, -1)
