"""Networks: one description that gives a start, outputs, taps and the infinite-width kernel.

    mlp((1024, 1024), outputs=10)   f(x) = affine o relu o affine o relu o affine

in NTK parametrization: every entry of a weight or bias starts as N(0, 1), and a layer computes
w_std / sqrt(inputs) W x + b_std b. Layers come from `neural_tangents.stax`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ntkdyn import precision
from ntkdyn.errors import InputError, unknown
from ntkdyn.kernels.compat import stax
from ntkdyn.kernels.structure import Structure, structure

Params = PyTree[Float[Array, "..."]]


@dataclass(frozen=True, eq=False)
class Network:
    """An architecture: how it starts, what it computes, and its kernel at infinite width."""

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
    """(params, inputs) -> activations (points, ..., channels) by name of the hidden layer, the last
    one last; None where they are not known"""
    permutable: dict[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    """per name of `hidden`, what its channels are numbered along: pairs of a parameter tensor (its
    place among the leaves of the parameters) and an axis of it; an axis longer than the channels
    runs over places first, as a flattened image does"""

    @functools.cached_property
    def with_features(self) -> Callable[[Params, Array], Array]:
        """(params, inputs) -> the outputs, and beside them the features: what the readout reads."""
        if self.hidden is None:
            raise InputError(f"network {self.name}: its hidden layers are not known (`hidden`)")

        def outputs_and_features(params: Params, inputs: Array) -> Array:
            *_, last = self.hidden(params, inputs).values()
            return jnp.concatenate([self.apply(params, inputs), last], axis=-1)

        return outputs_and_features

    def taps(self, params: Params, inputs: Float[Array, points * features]) -> Structure:
        """Activations and back-propagated signals at every layer: the Jacobian in factors."""
        return structure(self.apply, params, inputs)


ACTIVATIONS: dict[str, Callable[[], Any]] = {
    "relu": stax.Relu,
    "erf": stax.Erf,
    "gelu": stax.Gelu,
    "sigmoid": stax.Sigmoid_like,
    "sin": stax.Sin,
    "leaky_relu": lambda: stax.LeakyRelu(0.01),
    "abs": stax.Abs,
}
"""name -> layer, those whose kernel has a closed form; "sigmoid" is (1 + erf(x / 2.4020563)) / 2,
which neural-tangents offers in place of the logistic function; "erf" stands in for tanh"""


def mlp(
    widths: Sequence[int],
    *,
    outputs: int,
    activation: str = "relu",
    w_std: float | Sequence[float] = 2**0.5,
    b_std: float | Sequence[float] = 0.1,
) -> Network:
    """f = A_L o phi o ... o phi o A_1,  A_l(x) = w_std_l W_l x / sqrt(inputs) + b_std_l b_l.

    `widths` are those of the hidden layers (none makes the model affine). `w_std` and `b_std` are
    one number for all layers or one per layer, the readout last; b_std 0 leaves biases out.
    """
    sizes = [*widths, outputs]
    if any(not isinstance(size, int) or size < 1 for size in sizes):
        raise InputError(f"mlp: widths and outputs must be whole numbers from 1 on, got {sizes}")
    if activation not in ACTIVATIONS:
        raise unknown("activation", activation, ACTIVATIONS)
    w_stds, b_stds = _per_layer("w_std", w_std, len(sizes)), _per_layer("b_std", b_std, len(sizes))
    if min(w_stds) <= 0 or min(b_stds) < 0:
        raise InputError(
            f"mlp: w_std must be positive and b_std not negative, got {w_std}, {b_std}"
        )
    dense = [
        stax.Dense(size, w, b or None) for size, w, b in zip(sizes, w_stds, b_stds, strict=True)
    ]
    parts = [part for layer in dense[:-1] for part in (layer, ACTIVATIONS[activation]())]
    initialise, evaluate, kernel = stax.serial(*parts, dense[-1])
    digits = len(str(len(widths)))
    names = [*(f"dense_{number:0{digits}}" for number in range(1, len(sizes))), "readout"]

    @partial(jax.jit, static_argnums=1)
    def draw(key: PRNGKeyArray, features: tuple[int, ...]) -> Params:
        _, layers = initialise(key, (-1, *features))
        return dict(zip(names, (layer for layer in layers if layer), strict=True))

    def start(key: PRNGKeyArray, features: tuple[int, ...]) -> Params:
        with precision.single():
            return draw(key, features)

    def apply(params: Params, inputs: Array) -> Array:
        layers = [part for name in names for part in (params[name], ())]
        return evaluate(layers[:-1], inputs)

    def hidden(params: Params, inputs: Array) -> dict[str, Array]:
        activations, seen = inputs, {}
        for number, name in enumerate(names[:-1]):
            (_, affine, _), (_, phi, _) = parts[2 * number : 2 * number + 2]
            activations = seen[name] = phi((), affine(params[name], activations))
        return seen

    return Network(
        name=f"mlp {'-'.join(map(str, sizes))} {activation}",
        start=start,
        apply=apply,
        outputs=outputs,
        kernel=kernel,
        description={
            "kind": "mlp",
            "widths": list(widths),
            "outputs": outputs,
            "activation": activation,
            "w_std": w_stds,
            "b_std": b_stds,
        },
        hidden=hidden if widths else None,
        permutable=_neurons(names, [2 if b else 1 for b in b_stds]),
    )


def _neurons(names: list[str], tensors: list[int]) -> dict[str, tuple[tuple[int, int], ...]]:
    """Hidden layer -> its columns of W, its bias, and the next layer's rows of W."""
    firsts = [sum(tensors[:layer]) for layer in range(len(names))]
    return {
        name: ((first, 1), *([(first + 1, 1)] if count == 2 else []), (following, 0))
        for name, first, count, following in zip(
            names[:-1], firsts, tensors, firsts[1:], strict=False
        )
    }


def _per_layer(name: str, value: float | Sequence[float], layers: int) -> list[float]:
    if isinstance(value, Sequence):
        if len(value) != layers:
            raise InputError(f"mlp: {name} must be one number or {layers}, got {len(value)}")
        return [float(each) for each in value]
    return [float(value)] * layers
