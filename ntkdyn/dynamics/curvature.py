"""Curvature: how large the second derivative of a network can be in a ball of its parameters.

For f(x) = z_L of an `mlp`, z_l = alpha_l W_l^T a_{l-1} + beta_l b_l, a_l = phi(z_l), a_0 = x, with
alpha_l = w_std / sqrt(fan-in) and beta_l = b_std, the second derivative along v and w, seen by a
unit vector u of the outputs, is the sum of what enters at every layer, carried back to there:

    u . D2f[v, w] = sum over hidden l of  <B_l u, phi''(z_l) zdot_l(v) zdot_l(w)>
                  + sum over l >= 2 of  alpha_l <G_l u, V_l^T adot_{l-1}(w) + U_l^T adot_{l-1}(v)>

where V_l and U_l are the weights of v and w, dots are first derivatives, B_l = df/da_l and
G_l = df/dz_l = phi'(z_l) B_l, with (width, outputs) entries. With s_1 = sup |phi'|,
s_2 = sup |phi''|, the largest row |B_l|_rows = max_j |B_l,j|, and norms of operators else,

    |zdot_l(v)| <= M_l . (|v_1|, ..., |v_L|),
    M_l = sqrt(alpha_l^2 |a_{l-1}|^2 + beta_l^2) e_l + alpha_l |W_l| s_1 M_{l-1},   M_0 = 0,

|v_l| of the layer's weights and biases together, so that with |sum_j y_j p_j q_j| <= max|y| |p| |q|
the whole is at most p^T Q q for the norms p, q of v and w by layer, and

    |D2f| <= lambda_max(Q),
    Q = sum s_2 |B_l|_rows M_l M_l^T + sum s_1 alpha_l |G_l| (e_l M_{l-1}^T + M_{l-1} e_l^T).

Rows of B_l and not its norm make this fall as 1 / sqrt(width), as the curvature does (Liu, Zhu,
Belkin 2020, who show it with high probability; here nothing is left to probability).

In a ball of radius rho around the parameters at which a_l, B_l, G_l were measured, layer by layer,

    |z_l' - z_l|  <= D_l = rho |N_l|,  N_l = sqrt(alpha_l^2 |a_{l-1}|^2 + beta_l^2) e_l
                                           + alpha_l (|W_l| + rho) s_1 N_{l-1}
    |B_l' - B_l|  <= E_l = alpha_{l+1} (rho |G_{l+1}| + (|W_{l+1}| + rho) F_{l+1}),
    |G_l' - G_l|  <= F_l = s_2 D_l |B_l|_rows + s_1 E_l,   F_L = 0,

so that Q there is that with |a_l| + s_1 D_l, |W_l| + rho, |B_l|_rows + E_l and |G_l| + F_l.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ntkdyn.errors import InputError
from ntkdyn.networks import ACTIVATIONS, Network
from ntkdyn.precision import EXACT


class Smooth(NamedTuple):
    """The largest absolute values of an activation's first and second derivative."""

    slope: float
    bend: float


_ERF = Smooth(2 / math.sqrt(math.pi), math.sqrt(8 / (math.pi * math.e)))
_SCALE = 2.4020563531719796

SMOOTH = {
    "erf": _ERF,
    "sigmoid": Smooth(_ERF.slope / (2 * _SCALE), _ERF.bend / (2 * _SCALE**2)),
    "sin": Smooth(1.0, 1.0),
    "gelu": Smooth(
        (1 + math.erf(1)) / 2 + 1 / (math.sqrt(math.pi) * math.e), math.sqrt(2 / math.pi)
    ),
}
"""name -> bounds of its derivatives: gelu's slope is largest at sqrt(2), its bend at 0"""

LARGEST_SOLVED = 1024
"""Rows of a Gram matrix up to which its norm comes from its eigenvalues."""


class Chain(NamedTuple):
    """An mlp as affine maps with one activation between them."""

    names: tuple[str, ...]
    """of the layers, the readout last"""
    weight_scales: tuple[float, ...]
    """alpha_l"""
    bias_scales: tuple[float, ...]
    """beta_l; zero where there is no bias"""
    activation: str

    @property
    def smooth(self) -> Smooth:
        return SMOOTH[self.activation] if len(self.names) > 1 else Smooth(0.0, 0.0)

    @property
    def hidden(self) -> range:
        """The hidden layers, numbered from 1."""
        return range(1, len(self.names))

    def phi(self, z: Array) -> Array:
        """The activation."""
        return ACTIVATIONS[self.activation]()[1]((), z)


def chain(network: Network, params: PyTree) -> Chain:
    """The network's layers; refuses one whose second derivative has no bound here."""
    description = network.description
    kind, activation = description.get("kind"), description.get("activation")
    if kind != "mlp":
        raise InputError(
            f"certify: no certificate exists: the layers of {network.name} are not known to be "
            f"those of an `mlp`, whose second derivative is bounded here"
        )
    if description["widths"] and activation not in SMOOTH:
        raise InputError(f"certify: no certificate exists: {activation} has no second derivative")
    names = tuple(params)
    scales = zip(names, description["w_std"], strict=True)
    alphas = tuple(w_std / math.sqrt(len(params[name][0])) for name, w_std in scales)
    return Chain(names, alphas, tuple(description["b_std"]), activation)


class Look(NamedTuple):
    """What is measured of one network at points: inward of the layers 0, 1, ..., and back."""

    outputs: Float[Array, "points outputs"]
    activations: tuple[Float[Array, "points width"], ...]
    """a_0, ..., a_{L-1}"""
    signals: tuple[Float[Array, "points width outputs"], ...]
    """G_1, ..., G_L"""
    rows: tuple[Float[Array, " points"], ...]
    """|B_1|_rows, ..., |B_{L-1}|_rows"""


def look(chain: Chain, params: PyTree, points: Float[Array, "points features"]) -> Look:
    """Forwards and back through the layers."""
    inward, slopes, z = [points], [], points
    for number, name in enumerate(chain.names):
        weight, bias = params[name]
        z = chain.weight_scales[number] * jnp.matmul(inward[-1], weight, precision=EXACT)
        if bias is not None:
            z = z + chain.bias_scales[number] * jnp.reshape(bias, (1, -1))
        if number < len(chain.names) - 1:
            activation, slope = jax.jvp(chain.phi, (z,), (jnp.ones_like(z),))
            inward.append(activation)
            slopes.append(slope)
    unit = jnp.eye(z.shape[1], dtype=z.dtype)
    back = [jnp.broadcast_to(unit, (len(points), *unit.shape))]
    rows = []
    for number in reversed(chain.hidden):
        weight = params[chain.names[number]][0]
        reached = jnp.einsum("jk,pko->pjo", weight, back[0], precision=EXACT)
        reached = chain.weight_scales[number] * reached
        rows.insert(0, jnp.sqrt(jnp.max(jnp.sum(reached**2, axis=2), axis=1)))
        back.insert(0, slopes[number - 1][:, :, None] * reached)
    return Look(z, tuple(inward), tuple(back), tuple(rows))


def jacobian_norm(
    chain: Chain, seen: Look, kept: Float[Array, " points"] | None = None
) -> Float[Array, ""]:
    """|df/dtheta| of all points together, or of those that `kept` is one for; from J J^T."""
    points, outputs = seen.outputs.shape
    gram = jnp.zeros((points, outputs, points, outputs), seen.outputs.dtype)
    layers = zip(
        chain.weight_scales, chain.bias_scales, seen.activations, seen.signals, strict=True
    )
    for alpha, beta, inward, back in layers:
        between = alpha**2 * jnp.matmul(inward, inward.T, precision=EXACT) + beta**2
        signals = jnp.einsum("pjo,qjr->poqr", back, back, precision=EXACT)
        gram = gram + between[:, None, :, None] * signals
    if kept is not None:
        gram = gram * (kept[:, None] * kept[None])[:, None, :, None]
    return jnp.sqrt(_largest(gram.reshape(points * outputs, -1)))


def _largest(gram: Float[Array, "n n"]) -> Float[Array, ""]:
    """The largest eigenvalue, or a bound of it."""
    if len(gram) > LARGEST_SOLVED:
        return jnp.minimum(jnp.trace(gram), jnp.max(jnp.sum(jnp.abs(gram), axis=1)))
    return jnp.maximum(jnp.linalg.eigvalsh(gram)[-1], 0)


def weight_norms(chain: Chain, params: PyTree) -> tuple[float, ...]:
    """|W_l| of every layer that lies between hidden ones; of the others no bound needs it."""
    between = chain.names[1:-1]
    return tuple(
        float(np.linalg.norm(np.asarray(params[name][0], np.float64), 2))
        if name in between
        else 0.0
        for name in chain.names
    )


def hessian_bound(
    chain: Chain, seen: Look, norms: Float[Array, " layers"], radius: Float[Array, ""]
) -> Float[Array, " points"]:
    """lambda_max(Q) at every point, for all parameters within the radius; `norms` are |W_l|."""
    layers, points = len(chain.names), len(seen.outputs)
    slope, bend = chain.smooth
    wide = norms + radius
    unit = jnp.eye(layers, dtype=norms.dtype)
    size = [jnp.linalg.norm(a, axis=1) for a in seen.activations]
    back = [_operator_norm(signals) for signals in seen.signals]

    moved = [jnp.zeros(points, norms.dtype)]
    from_here = within = jnp.zeros((points, layers), norms.dtype)
    reach = [within]
    for number in chain.hidden:
        alpha, beta = chain.weight_scales[number - 1], chain.bias_scales[number - 1]
        onward, own = alpha * wide[number - 1] * slope, unit[number - 1][None]
        inward = size[number - 1] + slope * moved[number - 1]
        from_here = _fresh(alpha, beta, size[number - 1]) * own + onward * from_here
        within = _fresh(alpha, beta, inward) * own + onward * within
        moved.append(radius * jnp.linalg.norm(from_here, axis=1))
        reach.append(within)

    total = jnp.zeros((points, layers, layers), norms.dtype)
    turned = jnp.zeros(points, norms.dtype)
    for number in reversed(chain.hidden):
        alpha = chain.weight_scales[number]
        crossed = slope * alpha * (back[number] + turned)
        mixed = unit[number][None, :, None] * reach[number][:, None, :]
        total = total + crossed[:, None, None] * (mixed + mixed.swapaxes(1, 2))
        changed = alpha * (radius * back[number] + wide[number] * turned)
        row = seen.rows[number - 1] + changed
        square = reach[number][:, :, None] * reach[number][:, None, :]
        total = total + bend * row[:, None, None] * square
        turned = bend * moved[number] * seen.rows[number - 1] + slope * changed
    finite = jnp.all(jnp.isfinite(total), axis=(1, 2))
    safe = jnp.where(finite[:, None, None], total, 0)
    return jnp.where(finite, jnp.linalg.eigvalsh(safe)[:, -1], jnp.inf)


def _fresh(alpha: float, beta: float, inward: Float[Array, " points"]) -> Float[Array, "points 1"]:
    return jnp.sqrt(alpha**2 * inward**2 + beta**2)[:, None]


def _operator_norm(matrices: Float[Array, "points width outputs"]) -> Float[Array, " points"]:
    gram = jnp.einsum("pjo,pjr->por", matrices, matrices, precision=EXACT)
    return jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(gram)[:, -1], 0))


def check_same(network: Network, chain: Chain, params: Any, points: Float[Array, ...]) -> None:
    """Refuse a network that computes something else than its description says."""
    if not np.allclose(*_both(network.apply, chain, params, points), rtol=1e-6, atol=1e-8):
        raise InputError(
            f"certify: no certificate exists: {network.name} does not compute what its description "
            f"says"
        )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _both(apply: Any, chain: Chain, params: Any, points: Float[Array, ...]) -> tuple[Array, Array]:
    return apply(params, points), look(chain, params, points).outputs
