"""Curvature: how large the second derivative of a network can be in a ball of its parameters.

For f(x) = z_L of an `mlp`, z_l = alpha_l W_l^T a_{l-1} + beta_l b_l, a_l = phi(z_l), a_0 = x, with
alpha_l = w_std / sqrt(fan-in) and beta_l = b_std, the second derivative along v and w, seen by a
unit vector u of the outputs, is the sum of what enters at every layer, carried back to there:

    u . D2f[v, w] = sum over hidden l of  <B_l u, phi''(z_l) zdot_l(v) zdot_l(w)>
                  + sum over l >= 2 of  alpha_l <G_l u, V_l^T adot_{l-1}(w) + U_l^T adot_{l-1}(v)>

where V_l and U_l are the weights of v and w, dots are first derivatives, B_l = df/da_l and
G_l = df/dz_l = phi'(z_l) B_l, with (width, outputs) entries. With s_1 = sup |phi'|,
s_2 = sup |phi''|, the largest row |B_l|_rows = max_j |B_l,j|, and norms of operators else, and with
weights y_x >= 0 of points, |sum_j b_j p_j q_j| <= max|b| |p| |q| gives for all unit u_x

    |sum_x y_x u_x . D2f(x)[v, w]| <= p^T Q q,   p, q: norms of v and w layer by layer,
    Q = sum over hidden l of  s_2 M_l(y |B_l|_rows) M_l(y |B_l|_rows)^T
      + sum over l >= 2 of    s_1 alpha_l (sum_x y |G_l|)^(1/2) sym(e_l, M_{l-1}(y |G_l|)),

where sym(a, b) = a b^T + b a^T, weights and biases of a layer count together, and for weights c_x

    (sum_x c_x |zdot_l(v)|^2)^(1/2) <= M_l(c) . p,
    M_l(c) = lambda_max((c_x c_x')^(1/2) (alpha_l^2 a_{l-1} . a_{l-1}' + beta_l^2))^(1/2) e_l
             + alpha_l |W_l| s_1 M_{l-1}(c),   M_0 = 0.

So |sum_x y_x u_x . D2f(x)| <= lambda_max(Q): of one point, y = 1, the curvature of f(x), and of all
points, weighed, less than its mean where they differ in direction. Rows of B_l and not its norm
make it fall as 1 / sqrt(width) (Liu, Zhu, Belkin 2020 show that with high probability; here nothing
is left to probability).

In a ball of radius rho around the parameters at which a_l, B_l, G_l were measured, layer by layer,

    |z_l' - z_l|  <= D_l = rho |N_l|,  N_l = (alpha_l^2 |a_{l-1}|^2 + beta_l^2)^(1/2) e_l
                                           + alpha_l (|W_l| + rho) s_1 N_{l-1}
    |B_l' - B_l|  <= E_l = alpha_{l+1} (rho |G_{l+1}| + (|W_{l+1}| + rho) F_{l+1}),
    |G_l' - G_l|  <= F_l = s_2 D_l |B_l|_rows + s_1 E_l,   F_L = 0,

so that Q there is that with |W_l| + rho, |B_l|_rows + E_l and |G_l| + F_l, and e_l in M_l times
another alpha_l s_1 (sum_x c D_{l-1}^2)^(1/2).
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ntkdyn import thresholds
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
    if len(gram) > thresholds.GRAM_UP_TO:
        return jnp.minimum(jnp.trace(gram), jnp.max(jnp.sum(jnp.abs(gram), axis=1)))
    finite = jnp.all(jnp.isfinite(gram))
    largest = jnp.linalg.eigvalsh(jnp.where(finite, gram, 0))[-1]
    return jnp.where(finite, jnp.maximum(largest, 0), jnp.inf)


def weight_norms(chain: Chain, params: PyTree) -> tuple[float, ...]:
    """|W_l| of every layer that lies between hidden ones; of the others no bound needs it."""
    between = chain.names[1:-1]
    return tuple(
        float(np.linalg.norm(np.asarray(params[name][0], np.float64), 2))
        if name in between
        else 0.0
        for name in chain.names
    )


class Ball(NamedTuple):
    """Bounds within a radius of what was measured, point by point, layer by layer."""

    wide: Float[Array, " layers"]
    """|W_l| + rho"""
    moved: tuple[Float[Array, " points"], ...]
    """D_0 = 0, D_1, ..., D_{L-1}"""
    rows: tuple[Float[Array, " points"], ...]
    """|B_l|_rows + E_l of the hidden layers"""
    back: tuple[Float[Array, " points"], ...]
    """|G_l| + F_l of all layers"""


def ball(
    chain: Chain, seen: Look, norms: Float[Array, " layers"], radius: Float[Array, ""]
) -> Ball:
    """That of all parameters within the radius; `norms` are |W_l|."""
    slope, bend = chain.smooth
    wide, unit = norms + radius, jnp.eye(len(chain.names), dtype=norms.dtype)
    back = [_operator_norm(signals) for signals in seen.signals]
    nothing = jnp.zeros(len(seen.outputs), norms.dtype)
    reach, moved = nothing[:, None] * unit[:1], [nothing]
    for number in chain.hidden:
        alpha, beta = chain.weight_scales[number - 1], chain.bias_scales[number - 1]
        inward = jnp.sum(seen.activations[number - 1] ** 2, axis=1)
        fresh = jnp.sqrt(alpha**2 * inward + beta**2)[:, None]
        reach = fresh * unit[number - 1][None] + alpha * wide[number - 1] * slope * reach
        moved.append(radius * jnp.linalg.norm(reach, axis=1))
    rows, around, turned = [], [back[-1]], nothing
    for number in reversed(chain.hidden):
        alpha = chain.weight_scales[number]
        changed = alpha * (radius * back[number] + wide[number] * turned)
        turned = bend * moved[number] * seen.rows[number - 1] + slope * changed
        rows.insert(0, seen.rows[number - 1] + changed)
        around.insert(0, back[number - 1] + turned)
    return Ball(wide, tuple(moved), tuple(rows), tuple(around))


def hessian_bound(
    chain: Chain, seen: Look, within: Ball, weights: Float[Array, " points"]
) -> Float[Array, ""]:
    """lambda_max(Q) of these points, so weighed, for all parameters in the ball."""
    layers, slope, bend = len(chain.names), *chain.smooth
    unit = jnp.eye(layers, dtype=weights.dtype)

    def reach(last: int, weights: Float[Array, " points"]) -> Float[Array, " layers"]:
        """M_l(c) of the layer `last`."""
        found, root = 0 * unit[0], jnp.sqrt(weights)
        for number in range(1, last + 1):
            alpha, beta = chain.weight_scales[number - 1], chain.bias_scales[number - 1]
            inward = seen.activations[number - 1]
            gram = alpha**2 * jnp.matmul(inward, inward.T, precision=EXACT) + beta**2
            here = jnp.sqrt(_largest(root[:, None] * root[None] * gram))
            apart = jnp.sqrt(jnp.sum(weights * within.moved[number - 1] ** 2))
            onward = alpha * within.wide[number - 1] * slope
            found = (here + alpha * slope * apart) * unit[number - 1] + onward * found
        return found

    total = jnp.zeros((layers, layers), weights.dtype)
    for number in chain.hidden:
        bent = reach(number, weights * within.rows[number - 1])
        total = total + bend * jnp.outer(bent, bent)
        seen_from = weights * within.back[number]
        crossed = jnp.outer(unit[number], reach(number, seen_from))
        share = slope * chain.weight_scales[number] * jnp.sqrt(jnp.sum(seen_from))
        total = total + share * (crossed + crossed.T)
    finite = jnp.all(jnp.isfinite(total))
    largest = jnp.linalg.eigvalsh(jnp.where(finite, total, 0))[-1]
    return jnp.where(finite, jnp.maximum(largest, 0), jnp.inf)


def at_each_point(chain: Chain, seen: Look, within: Ball) -> Float[Array, " points"]:
    """h_x, the bound of every point's own curvature."""

    def alone(look: Look, around: Ball) -> Float[Array, ""]:
        look, own = jax.tree.map(lambda leaf: leaf[None], (look, around))
        return hessian_bound(chain, look, own._replace(wide=around.wide), jnp.ones(1))

    return jax.vmap(alone, in_axes=(0, Ball(None, 0, 0, 0)))(seen, within)


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
