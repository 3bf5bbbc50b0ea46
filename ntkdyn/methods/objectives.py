"""Objectives: what each agent differentiates, composed from outputs, loss and pullback.

    Local         the loss on one's own points
    CrossFeature  and agreement with what neighbours make of them   (methods/cross_features.py)
    Distillation  and agreement with neighbours on public points    (methods/distillation.py)

`gradient` binds the batch of a round and gives grad(x, state, round): most need x alone; the
latter two also look at what the update remembers, which is what neighbours have sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from ntkdyn.data.batches import Batch
from ntkdyn.errors import InputError
from ntkdyn.losses import Loss
from ntkdyn.methods.mixing import Links
from ntkdyn.spaces import Space
from ntkdyn.vectors import Vector


class Context(NamedTuple):
    """What an objective is bound to, beside the batch of the round."""

    space: Space
    loss: Loss
    targets: Float[Array, "points outputs"]
    links: Links | None
    public: slice
    """the rows of the public points"""


class Sizes(NamedTuple):
    """How many numbers there are to send of what."""

    parameters: int
    """of an agent"""
    outputs: int
    """of a head"""
    features: int
    """of a point"""
    public: int
    """public points"""


class BaseObjective(eqx.Module):
    """What all objectives have in common."""

    affine: ClassVar[bool] = True
    """whether the gradient is affine in x wherever the loss is quadratic"""
    view: ClassVar[str] = "outputs"
    """what it must see of a space, as in `problems.Problem`"""
    drawn: ClassVar[bool] = False
    """whether what it looks at is drawn anew in every round, batches apart"""
    sends: ClassVar[str] = ""
    """what goes over a link beside vectors, in words"""
    heads: ClassVar[int] = 1
    """how many times the classes the network has outputs"""

    def check(self, method: str, task: Any, space: Space, rounds: int) -> None:
        """Refuse a task, space or number of rounds that it cannot work with."""

    def floats_sent(
        self, listeners: Float[np.ndarray, " agents"], sizes: Sizes
    ) -> Float[np.ndarray, " agents"]:
        """How many numbers each agent with so many listeners sends a round, beside parameters."""
        del sizes
        return 0 * listeners


class Local(BaseObjective):
    """g_i(x_i) = sum over i's batch of weight x d/dx l(f_i(x_i), y)."""

    def gradient(self, context: Context, batch: Batch) -> Callable[..., Vector]:
        look = context.space.readout(batch.rows)
        wanted = context.targets[batch.rows]

        def grad(x: Vector, state: Any = None, round: Any = None) -> Vector:
            del state, round
            outputs, pull = look(x)
            return pull(slopes(outputs, wanted, batch, context.loss))

        return grad


def check_outputs_per_class(method: str, task: Any) -> None:
    """Refuse a loss with one output for two classes, where classes are looked at one by one."""
    if task.loss.binary:
        raise InputError(
            f"{method}: needs an output per class, and loss {task.loss.name} has one for both; use "
            f"cross_entropy"
        )


def slopes(
    outputs: Float[Array, "agents rows outputs"],
    targets: Float[Array, "agents rows outputs"],
    batch: Batch,
    loss: Loss,
) -> Float[Array, "agents rows outputs"]:
    """weight x dl/df at every row of the batch."""
    weights = batch.weights.astype(outputs.dtype)[..., None]
    return weights * loss.derivative(outputs, targets.astype(outputs.dtype))
