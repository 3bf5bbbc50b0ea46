"""Empirical kernels: Theta(x, x') = J(x) J(x')^T at given parameters, layer by layer.

With activations a and signals s at the taps of the network (`ntkdyn.kernels.structure`), a dense
layer contributes

    Theta_l[n, k, m, j] = (a_n . a_m) (s_nk . s_mj)

in an MLP, and sum_tt' (a_n[t] . a_m[t']) (s_nk[t] . s_mj[t']) where weights are shared over
places t. No Jacobian is formed, and Theta is the sum over layers.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ntkdyn.kernels.structure import Apply, Factor, Jacobian, Structure, Tap, structure

Left = Float[Array | np.ndarray, "n *features"]
Right = Float[Array | np.ndarray, "m *features"]
Full = Float[Array, "n k m k"]

EXACT = jax.lax.Precision.HIGHEST
"""Kernels are never rounded to TF32 or bfloat16 on the way."""


def ntk(apply: Apply, params: PyTree, x1: Left, x2: Right | None = None) -> Full:
    """Theta[n, k, m, j] = sum over parameters of df_k(x1_n) df_j(x2_m); x2 defaults to x1.

    `apply(params, inputs)` maps (points, *features) to (points, outputs), each point by itself.
    The dtype is that of the parameters and inputs.
    """
    layers = layer_ntk(apply, params, x1, x2)
    return sum(layers.values())


def layer_ntk(apply: Apply, params: PyTree, x1: Left, x2: Right | None = None) -> dict[str, Full]:
    """The part of Theta that each layer's parameters contribute, by layer name."""
    return _layer_ntk(apply, params, x1, x2)


@partial(jax.jit, static_argnums=0)
def _layer_ntk(apply: Apply, params: PyTree, x1: Array, x2: Array | None) -> dict[str, Array]:
    left = structure(apply, params, x1)
    right = left if x2 is None else structure(apply, params, x2)
    return gram(left, right)


def gram(left: Structure, right: Structure) -> dict[str, Full]:
    """J J'^T per layer, from the two Jacobians in factored form."""
    layers: dict[str, Array] = {}
    for layer, part in _parts(left, right):
        layers[layer] = layers[layer] + part if layer in layers else part
    return layers


def _parts(left: Structure, right: Structure):
    for one, other in zip(left.taps, right.taps, strict=True):
        for layer in dict.fromkeys(factor.layer for factor in one.factors):
            yield layer, _tap_gram(_of_layer(one, layer), _of_layer(other, layer))
    for one, other in zip(left.jacobians, right.jacobians, strict=True):
        yield one.layer, _jacobian_gram(one, other)


def _of_layer(tap: Tap, layer: str) -> Tap:
    return tap._replace(factors=[factor for factor in tap.factors if factor.layer == layer])


def _tap_gram(left: Tap, right: Tap) -> Full:
    """The Gram of one layer's parameters at one tap."""
    gains = [i for i, factor in enumerate(left.factors) if factor.rule == "gain"]
    outer = [i for i, factor in enumerate(left.factors) if factor.rule == "outer"]
    parts = [_jacobian_gram(_gain(left, i), _gain(right, i)) for i in gains]
    if outer:
        parts.append(_outer_gram(left, right, outer))
    return sum(parts)


def _outer_gram(left: Tap, right: Tap, outer: list[int]) -> Full:
    """Weights and biases: bias is one more input channel, whose activation is constant."""
    a1, a2 = (
        jnp.concatenate([tap.factors[i].activations for i in outer], axis=-1)
        for tap in (left, right)
    )
    if a1.shape[1] == 1:
        activations = jnp.einsum("ntc,mtc->nm", a1, a2, precision=EXACT)
        signals = jnp.einsum("nkto,mjto->nkmj", left.signals, right.signals, precision=EXACT)
        return activations[:, None, :, None] * signals
    rows = [
        jnp.einsum("ntc,nkto->nkco", a, tap.signals, precision=EXACT)
        for a, tap in ((a1, left), (a2, right))
    ]
    return jnp.einsum("nkco,mjco->nkmj", *rows, precision=EXACT)


def _gain(tap: Tap, number: int) -> Jacobian:
    factor: Factor = tap.factors[number]
    rows = jnp.einsum("nto,nkto->nko", factor.activations, tap.signals, precision=EXACT)
    return Jacobian(factor.layer, rows)


def _jacobian_gram(left: Jacobian, right: Jacobian) -> Full:
    return jnp.einsum("nkp,mjp->nkmj", left.rows, right.rows, precision=EXACT)
