"""DRT diffusion: weights from deep relative trust, layer by layer, anew in every round.

    psi_k = x_k - eta g_k(x_k),    x_k^(p) = sum_l A^(p)_kl psi_l^(p)

Li, Fainman and Vlaski (2025) make the weights from how far two agents' networks are apart as
functions, by the measure of Bernstein et al. (2020). Their formula is not known to us; the one here
is our reconstruction, the gradient step on the penalty prod_p (1 + r_p) - 1:

    squared      r_p = |psi_k - psi_l|^2 / (|psi_l|^2 + kappa)
                 c_kl^(p) = prod_q (1 + r_q) / (|psi_l|^2 + |psi_k - psi_l|^2 + kappa)
    unsquared    r_p = |psi_k - psi_l| / |psi_l|,  with d = |psi_k - psi_l|
                 c_kl^(p) = prod_q (1 + r_q) / (d (|psi_l| + d) + kappa)

norms being those of layer p. Over an agent and those it hears from, the c are divided by their
geometric mean and cut to [1/cap, cap]; then rows are normalised, or made symmetric:

    A = c / sum_l c        or        A_kl = s_kl / max(s_k, s_l),  s = (A + A')/2,  s_k = sum_l s_kl

with what is left on the diagonal, which is doubly stochastic and needs links that go both ways.
Where all agents agree and layers have equal norms, rows are uniform over the neighbourhood.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkdyn.errors import InputError, check_name, is_real
from ntkdyn.kernels.structure import layer_names
from ntkdyn.methods.mixing import BaseMixing, Operator, Round, weighted
from ntkdyn.methods.updates import Number, check_positive
from ntkdyn.spaces import Space
from ntkdyn.vectors import ByAgent

VARIANTS = ("squared", "unsquared")
NORMALISED = ("rows", "symmetric")

Weights = Float[Array, "layers agents agents"]


class DRT(BaseMixing):
    """mix(psi)_k^(p) = sum_l A^(p)_kl psi_l^(p), with A from psi itself."""

    variant: str = eqx.field(static=True, default="squared")
    kappa: Number = 1e-8
    cap: Number = 10.0
    normalised: str = eqx.field(static=True, default="rows")
    affine: ClassVar[bool] = False
    view: ClassVar[str] = "layers"

    def __check_init__(self) -> None:
        check_name("variant of drt", self.variant, VARIANTS)
        check_name("normalisation of drt", self.normalised, NORMALISED)
        check_positive("drt: kappa", self.kappa)
        check_positive("drt: cap", self.cap)
        if is_real(self.cap) and self.cap < 1:
            raise InputError(f"drt: cap must be at least 1, got {self.cap}")

    def check(self, method: str, task: Any, space: Space, rounds: int) -> None:
        """Refuse a layer whose parameters are all zero: trust relative to nothing."""
        norms = np.asarray(space.square_norms(space.start()))
        for layer, values in zip(space.layers, norms, strict=True):
            if not values.min() > 0:
                agent = int(values.argmin())
                raise InputError(
                    f"{method}: layer {layer} of agent {agent} is zero at the start, and a "
                    f"distance relative to its norm is not defined"
                )

    def bind(
        self, weights: Operator, round: Round = 0, scene: Any = None
    ) -> Callable[[ByAgent], ByAgent]:
        links = weights.at(round).matrix() > 0

        def mix(psi: ByAgent) -> ByAgent:
            return by_layer(self.weights(scene.space, psi, links), psi)

        return mix

    def weights(self, space: Space, psi: ByAgent, links: Array) -> Weights:
        """A^(p)_kl for what agents send; rows sum to one."""
        norms, apart = distances(space, psi)
        trusted = _trust(self.variant, norms, apart, self.kappa)
        heard = links | jnp.eye(len(links), dtype=bool)
        rows = _normalised(_capped(trusted, heard, self.cap), heard)
        return rows if self.normalised == "rows" else _symmetric(rows)


def distances(
    space: Space, psi: ByAgent
) -> tuple[Float[Array, "layers agents"], Float[Array, "layers agents agents"]]:
    """|psi_l|^2 and |psi_k - psi_l|^2, layer by layer, the latter from differences to the mean."""
    gram = space.gram(psi - psi.map(lambda leaf: jnp.mean(leaf, axis=0, keepdims=True)))
    own = jnp.diagonal(gram, axis1=1, axis2=2)
    apart = own[:, :, None] + own[:, None, :] - 2 * gram
    return space.square_norms(psi), jnp.maximum(apart, 0)


def _trust(variant: str, norms: Array, apart: Array, kappa: Number) -> Weights:
    """log c_kl^(p)."""
    heard = norms[:, None, :]
    if variant == "squared":
        relative, divisor = apart / (heard + kappa), heard + apart + kappa
    else:
        distance, norm = jnp.sqrt(apart), jnp.sqrt(heard)
        relative, divisor = distance / norm, distance * (norm + distance) + kappa
    return jnp.sum(jnp.log1p(relative), axis=0, keepdims=True) - jnp.log(divisor)


def _capped(trust: Weights, heard: Array, cap: Number) -> Weights:
    """c over its geometric mean in the row, cut to [1/cap, cap]."""
    share = heard / heard.sum(axis=1, keepdims=True)
    mean = jnp.einsum("pkl,kl->pk", trust, share.astype(trust.dtype))
    most = jnp.log(jnp.asarray(cap, trust.dtype))
    return jnp.exp(jnp.clip(trust - mean[:, :, None], -most, most))


def _normalised(trust: Weights, heard: Array) -> Weights:
    kept = trust * heard[None]
    return kept / kept.sum(axis=2, keepdims=True)


def _symmetric(rows: Weights) -> Weights:
    both = (rows + rows.swapaxes(1, 2)) / 2
    sums = both.sum(axis=2)
    identity = jnp.eye(rows.shape[1], dtype=rows.dtype)[None]
    others = both / jnp.maximum(sums[:, :, None], sums[:, None, :]) * (1 - identity)
    return others + identity * (1 - others.sum(axis=2, keepdims=True))


def by_layer(weights: Weights, x: ByAgent) -> ByAgent:
    """Every leaf of x averaged with the weights of its layer."""
    leaves, tree = jax.tree.flatten(x.tree)
    names = layer_names(x.tree)
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    pairs = zip(names, leaves, strict=True)
    return type(x)(tree.unflatten([weighted(weights[places[n]], leaf) for n, leaf in pairs]))
