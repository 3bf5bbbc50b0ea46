"""Empirical kernels: Theta(x, x') = J(x) J(x')^T at given parameters, layer by layer.

With activations a and signals s at the taps of the network (`ntkdyn.kernels.structure`), a dense
layer contributes

    Theta_l[n, k, m, j] = (a_n . a_m) (s_nk . s_mj)

in an MLP, and sum_tt' (a_n[t] . a_m[t']) (s_nk[t] . s_mj[t']) where weights are shared over
places t. No Jacobian is formed, and Theta is the sum over layers.
"""

from functools import partial

import jax
import numpy as np
from jaxtyping import Array, Float, PyTree

from ntkdyn.kernels.forms import contract
from ntkdyn.kernels.structure import structure
from ntkdyn.kernels.walk import Apply

Left = Float[Array | np.ndarray, "n *features"]
Right = Float[Array | np.ndarray, "m *features"]
Full = Float[Array, "n k m k"]


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


def trace(apply: Apply, params: PyTree, x1: Left, x2: Right | None = None) -> Float[Array, "n m"]:
    """Sum over outputs of Theta[n, k, m, k], without the full form."""
    return _trace(apply, params, x1, x2)


def diagonal(apply: Apply, params: PyTree, x: Left) -> Float[Array, "n k"]:
    """Theta[n, k, n, k], without what is between points."""
    return _diagonal(apply, params, x)


def jacobian(apply: Apply, params: PyTree, x: Left) -> list[Float[Array, "n k parameters"]]:
    """J point by point, a block for each leaf of the parameters."""
    rows = jax.vmap(jax.jacrev(lambda p, one: apply(p, one[None])[0]), (None, 0))(params, x)
    return [leaf.reshape(*leaf.shape[:2], -1) for leaf in jax.tree.leaves(rows)]


@partial(jax.jit, static_argnums=0)
def _diagonal(apply: Apply, params: PyTree, x: Array) -> Array:
    own = structure(apply, params, x)
    return contract(own, own, "diagonal")["all"]


@partial(jax.jit, static_argnums=0)
def _trace(apply: Apply, params: PyTree, x1: Array, x2: Array | None) -> Array:
    left = structure(apply, params, x1, summed=True)
    right = left if x2 is None else structure(apply, params, x2, summed=True)
    return contract(left, right, "trace")["all"]


@partial(jax.jit, static_argnums=0)
def _layer_ntk(apply: Apply, params: PyTree, x1: Array, x2: Array | None) -> dict[str, Array]:
    left = structure(apply, params, x1)
    right = left if x2 is None else structure(apply, params, x2)
    return contract(left, right, "full", by_layer=True)
