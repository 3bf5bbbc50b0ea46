"""The structure of a network's Jacobian, read from the network's own program.

Wherever a parameter meets data, the value z it contributes to is a *tap*. For one point:

    z[t, g, o] = sum_c a[t, g, c] W[g, c, o]

with t over places (pixels, tokens; a single one in an MLP), g over groups, c and o over channels
in and out of a group:

    dense                     one group
    convolution               one group, or as many as it has; a are the patches
    bias                      one group, one channel in, a = 1
    gain (element by element) a group for every channel, each with one channel in and one out

With the signals s[k, t, g, o] = d f_k / d z[t, g, o], back-propagated to the tap,

    d f_k / d W[g, c, o] = sum_t a[t, g, c] s[k, t, g, o]

so two small arrays, activations a and signals s, stand for a Jacobian that is never formed.
Where the readout is an affine map of h = phi(z), entry by entry, s[k] = phi'(z) r[k] with rows r
that all points share; sums over outputs see only phi'(z) |r[.]|, the signals of a single output.
The places are found by walking through the jaxpr of `apply` for a single point: a parameter that
is only scaled, transposed, reshaped or broadcast on its way to the data keeps its structure. A
parameter used twice, or in a way not listed here, is *unstructured*: its Jacobian is formed.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ntkdyn.kernels.walk import Apply, Traced


class Factor(eqx.Module):
    """What one layer contributes at one tap."""

    layer: str = eqx.field(static=True)
    activations: Float[Array, "points places groups channels"]


class Tap(eqx.Module):
    """The signals that reach a tap, and the layers whose parameters enter there."""

    factors: list[Factor]
    signals: Float[Array, "points outputs places channels"]
    """channels out, those of a group together; one output may stand for the sum over all"""


class Jacobian(eqx.Module):
    """The Jacobian of one layer's unstructured parameters."""

    layer: str = eqx.field(static=True)
    rows: Float[Array, "points outputs parameters"]


class Structure(eqx.Module):
    """The whole Jacobian of a network at some points, in factored form."""

    taps: list[Tap]
    jacobians: list[Jacobian]

    @property
    def outputs(self) -> list[int]:
        """How many outputs each part has, the taps and then the Jacobians."""
        signals = [tap.signals.shape[1] for tap in self.taps]
        return [*signals, *(one.rows.shape[1] for one in self.jacobians)]

    def select(self, numbers: Collection[int]) -> Structure:
        """The taps, then the Jacobians, with these numbers."""
        first = len(self.taps)
        return Structure(
            [tap for i, tap in enumerate(self.taps) if i in numbers],
            [one for i, one in enumerate(self.jacobians, first) if i in numbers],
        )


def layer_names(params: PyTree) -> list[str]:
    """One name per leaf: the path to the module that holds it ("dense_1", "block_2/conv_1")."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    return ["/".join(_key(part) for part in (path[:-1] or path)) or "all" for path in paths]


def distinct_layers(params: PyTree) -> tuple[str, ...]:
    """The layers in their order, each once."""
    return tuple(dict.fromkeys(layer_names(params)))


def structure(
    apply: Apply,
    params: PyTree,
    inputs: Float[Array, points * features],
    *,
    summed: bool = False,
    outputs: tuple[int, int] | None = None,
) -> Structure:
    """Activations and signals at every tap of `apply(params, inputs)`, point by point.

    With `summed`, they serve sums over outputs only, and the outputs of the tap before an affine
    readout are summed already, all of them. Of all others, signals are those of the `outputs`
    from the first up to the last, the last excluded; None: all.
    """
    leaves = jax.tree.leaves(params)
    program = Traced(apply, params, inputs[0])
    factors = partial(program.factors, leaves, summed, slice(*outputs or (None,)))
    activations, signals, rows = jax.vmap(factors)(inputs)
    names = layer_names(params)
    taps = [
        Tap(
            [
                Factor(names[source.leaf], operand)
                for source, operand in zip(place.sources, operands, strict=True)
            ],
            signal,
        )
        for place, operands, signal in zip(program.places, activations, signals, strict=True)
    ]
    free = zip(program.unstructured, rows, strict=True)
    jacobians = [Jacobian(names[leaf], row) for leaf, row in free]
    return jax.tree.map(_summable, Structure(taps, jacobians))


def _summable(factor: Array) -> Array:
    """What half precision computed, in float32: kernels are long sums."""
    return factor.astype(jnp.promote_types(factor.dtype, jnp.float32))


def unstructured_layers(
    apply: Apply, params: PyTree, inputs: Float[Array, points * features]
) -> list[str]:
    """The layers of which some parameter has no structure that is known here."""
    names = layer_names(params)
    return sorted({names[leaf] for leaf in Traced(apply, params, inputs[0]).unstructured})


def _key(part: Any) -> str:
    for name in ("key", "name", "idx"):
        if hasattr(part, name):
            return str(getattr(part, name))
    return str(part)
