"""Attacks: agents that do not send what they have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ntkdyn import arrays
from ntkdyn.errors import InputError, check_name, is_real, shown
from ntkdyn.graphs import Weights
from ntkdyn.links.compression import ON_PARAMETERS
from ntkdyn.links.link import Exchange, Link, Message, Onward, check_seed
from ntkdyn.links.noise import gaussian
from ntkdyn.methods.updates import EVERYWHERE
from ntkdyn.vectors import ByAgent

KINDS = {
    "sign_flip": "r - scale (x - r), r the message at rest",
    "stuck": "r, the message at rest, whatever x is",
    "noise": "x + scale xi, xi Gaussian",
    "fixed": "x + scale d, d one direction of unit entries on average, the same in all rounds",
}


class Adversarial(Link):
    """Agents whose neighbours hear something false; themselves they follow the method."""

    agents: tuple[int, ...] = eqx.field(static=True)
    attack: str = eqx.field(static=True, default="sign_flip")
    scale: float = eqx.field(static=True, default=1.0)
    seed: int = eqx.field(static=True, default=0)

    @property
    def affine(self) -> bool:
        return self.attack in ("sign_flip", "stuck")

    @property
    def spaces(self) -> frozenset[str]:
        return EVERYWHERE if self.affine else ON_PARAMETERS

    @property
    def why_not(self) -> str:
        return "" if self.affine else "its messages are on parameters, and a kernel knows none"

    def init(self, rest: ByAgent) -> tuple[ByAgent, ...]:
        return (rest,) if self.affine else ()

    def exchange(
        self, memory: Any, message: Message, onward: Onward, at: Exchange
    ) -> tuple[ByAgent, Any]:
        honest, agents = message.sent, len(jax.tree.leaves(message.sent.tree)[0])
        lying = np.isin(np.arange(agents), self.agents).astype(float)
        sent = honest + (self._false(honest, memory, at) - honest) * lying
        return onward(message._replace(sent=sent)), memory

    def _false(self, honest: ByAgent, memory: Any, at: Exchange) -> ByAgent:
        if self.attack == "stuck":
            return memory[0]
        if self.attack == "sign_flip":
            return memory[0] - self.scale * (honest - memory[0])
        key = at.key(self.seed) if self.attack == "noise" else jax.random.key(self.seed)
        return honest + gaussian(honest, self.scale, key)

    def check_weights(self, weights: Weights) -> None:
        if max(self.agents) >= weights.agents:
            raise InputError(
                f"adversarial: there is no agent {max(self.agents)} among {weights.agents}"
            )


def adversarial(
    agents: Sequence[int], *, attack: str = "sign_flip", scale: float = 1.0, seed: int = 0
) -> Link:
    """What some agents send is false.

    Where x was to be sent, their neighbours hear

        "sign_flip"   r - scale (x - r), r the message at rest
        "stuck"       r
        "noise"       x + scale xi, xi Gaussian of unit variance, drawn anew each time from `seed`
        "fixed"       x + scale d, d one draw of xi for all rounds

    The first two are affine and run in every space. Themselves these agents follow the method.

    Args:
        agents: those that lie.
        attack: its name.
        scale: finite.
        seed: draws, the same in prediction and training.

    Returns:
        The link, for `over`.

    Raises:
        InputError: for agents that are no list of numbers, and an attack that there is not.

    Example:
        >>> nd.links.adversarial([0]).affine
        True
    """
    given = np.unique(arrays.plain("adversarial: agents", agents))
    if not given.size or given.dtype.kind not in "iu" or given[0] < 0:
        raise InputError(f"adversarial: agents must be a list of agents, got {shown(agents)}")
    check_name("attack", attack, KINDS)
    if not is_real(scale) or not np.isfinite(scale):
        raise InputError(f"adversarial: scale must be a finite number, got {shown(scale)}")
    return Adversarial(tuple(given.tolist()), attack, float(scale), check_seed("adversarial", seed))
