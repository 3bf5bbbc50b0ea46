"""Network: how it starts, what it computes, its kernel at infinite width."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ntkdyn.errors import InputError
from ntkdyn.kernels.structure import Structure, structure

Params = PyTree[Float[Array, "..."]]


@dataclass(frozen=True, eq=False)
class Network:
    """An architecture: how it starts, what it computes, and its kernel at infinite width.

    Example:
        >>> net.name, net.outputs
        ('mlp 16-10 erf', 10)
    """

    name: str
    start: Callable[[PRNGKeyArray, tuple[int, ...]], Params]
    """(key, features of one point) -> parameters, drawn in float32"""
    apply: Callable[[Params, Array], Array]
    """(params, inputs (points, *features)) -> (points, outputs)"""
    outputs: int
    kernel: Callable[..., Any] | None
    """(x1, x2, "ntk" or "nngp") -> kernel, by neural-tangents; None where none is known"""
    description: dict[str, Any] = field(default_factory=dict)
    """the arguments it was made from, for the record"""
    hidden: Callable[[Params, Array], dict[str, Array]] | None = None
    """(params, inputs) -> activations (points, ..., channels) by name of the hidden layer, and last
    the features (points, features) that the readout reads; None where they are not known"""
    permutable: dict[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    """per name of `hidden`, what its channels are numbered along: pairs of a parameter tensor (its
    place among the leaves of the parameters) and an axis of it; an axis longer than the channels
    runs over places first, as a flattened image does"""
    ordered: str = ""
    """why the channels of `hidden` may not change places, where they may not"""

    moments: Callable[[Params, Array, Array], PyTree] | None = None
    """(params, inputs, counted (points,)) -> the statistics of a batch that its outputs depend on,
    where they do; `counted` is 1 for a point, and 0 for one that is left out"""
    settled: Network | None = None
    """then the same network with given statistics, whose parameters are (params, moments)"""

    def __repr__(self) -> str:
        return f"Network({self.name!r}, {self.outputs} outputs)"

    def __reduce__(self) -> Any:
        """One of our own kinds by the arguments it was made from; others part by part."""
        from ntkdyn.networks import KINDS  # which are made of networks

        arguments = dict(self.description)
        make = KINDS.get(arguments.pop("kind", None))
        if make is not None and make(**arguments).apply is self.apply:
            return partial(make, **arguments), ()
        return Network, tuple(getattr(self, each.name) for each in fields(self))

    @property
    def pointwise(self) -> bool:
        """Whether the outputs of a point do not depend on the others of its batch."""
        return self.moments is None

    @functools.cached_property
    def with_features(self) -> Callable[[Params, Array], Array]:
        """(params, inputs) -> the outputs, and beside them the features: what the readout reads."""
        if self.hidden is None:
            raise InputError(f"network {self.name}: its hidden layers are not known (`hidden`)")

        def outputs_and_features(params: Params, inputs: Array) -> Array:
            *_, last = self.hidden(params, inputs).values()
            return jnp.concatenate([self.apply(params, inputs), last], axis=-1)

        return outputs_and_features

    @functools.cached_property
    def in_bfloat16(self) -> Network:
        """The same network computed in bfloat16, with products accumulated in float32 by XLA.

        Parameters and inputs are rounded where they are used; outputs and gradients are float32.
        """
        return replace(
            self,
            apply=_in_bfloat16(self.apply),
            hidden=self.hidden and _in_bfloat16(self.hidden),
            settled=self.settled and self.settled.in_bfloat16,
        )

    @functools.cached_property
    def at_most(self) -> Callable[[int], Network]:
        """points -> the same network, at so many at a time, without remembering activations.

        A gradient repeats their forward pass (`jax.checkpoint`) and adds up these microbatches.
        """

        @functools.cache
        def limited(points: int) -> Network:
            if not self.pointwise:
                raise InputError(
                    f"memory: {self.name} takes statistics of whole batches, which cannot pass it "
                    f"in parts; allow more, or take smaller batches"
                )
            return replace(
                self,
                apply=_at_most(points, self.apply),
                hidden=self.hidden and _at_most(points, self.hidden),
            )

        return limited

    def taps(self, params: Params, inputs: Float[Array, points * features]) -> Structure:
        """Activations and back-propagated signals at every layer: the Jacobian in factors."""
        return structure(self.apply, params, inputs)


def _in_bfloat16(function: Callable[[Params, Array], Any]) -> Callable[[Params, Array], Any]:
    cast = lambda tree, dtype: jax.tree.map(lambda leaf: leaf.astype(dtype), tree)

    @functools.wraps(function)
    def rounded(params: Params, inputs: Array) -> Any:
        return cast(function(*cast((params, inputs), jnp.bfloat16)), jnp.float32)

    return rounded


def _at_most(points: int, function: Callable[[Params, Array], Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def in_parts(params: Params, inputs: Array) -> Any:
        if len(inputs) <= points:
            return function(params, inputs)

        def at_one(point: Array) -> Any:
            return jax.tree.map(lambda seen: seen[0], function(params, point[None]))

        return jax.lax.map(jax.checkpoint(at_one), inputs, batch_size=points)

    return in_parts
