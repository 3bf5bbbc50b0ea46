"""Objectives: what each agent differentiates, composed from outputs, loss and pullback.

    Local         the loss on one's own points
    Clipped       the same, no point's gradient longer than a radius: differential privacy
    Decayed       and a share of the parameters, or of what they have moved: weight decay
    Weighted      by a weight of the agent
    CrossFeature  and agreement with what neighbours make of them   (methods/cross_features.py)
    Distillation  and agreement with neighbours on public points    (methods/distillation.py)

`gradient` binds the batch of a round and gives grad(x, state, round): most need x alone; the
latter two also look at what the update remembers, which is what neighbours have sent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkdyn.data.batches import Batch
from ntkdyn.errors import InputError, check_name
from ntkdyn.losses import Loss
from ntkdyn.methods.mixing import Links
from ntkdyn.methods.updates import EVERYWHERE, Number, check_positive
from ntkdyn.spaces import Space
from ntkdyn.vectors import Point, Vector


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
    plain: ClassVar[bool] = True
    """whether all that is descended is the loss, so that a step size only scales its curvature"""
    why_not: ClassVar[str] = ""
    """why it does not run in the spaces that are left out"""

    @property
    def spaces(self) -> frozenset[str]:
        return EVERYWHERE

    def check_weights(self, method: str, weights: Any) -> None:
        """Refuse a graph that it cannot work on."""

    def onto(self, gradient: Vector, moved: Vector) -> Vector:
        """What is descended at a displacement, given the gradient of the loss there."""
        del moved
        return gradient

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

        def grad(x: Point, state: Any = None, round: Any = None) -> Vector:
            del state, round
            outputs, pull = look(x)
            return pull(slopes(outputs, wanted, batch, context.loss))

        return grad


class Clipped(BaseObjective):
    """g_i(x_i) = sum over i's batch of weight x d/dx l, made as short as `radius` where longer."""

    radius: Number
    affine: ClassVar[bool] = False
    plain: ClassVar[bool] = False

    def __check_init__(self) -> None:
        check_positive("clip", self.radius)

    def gradient(self, context: Context, batch: Batch) -> Callable[..., Vector]:
        look, wanted = context.space.readout(batch.rows), context.targets[batch.rows]

        def grad(x: Point, state: Any = None, round: Any = None) -> Vector:
            del state, round
            outputs, pull = look(x)
            kept = self._kept(context, batch.rows, x).astype(outputs.dtype)
            return pull(slopes(outputs, wanted, batch, context.loss) * kept[..., None])

        return grad

    def _kept(self, context: Context, rows: Array, x: Point) -> Float[Array, "agents rows"]:
        """min(1, radius / |d/dx l|) at every row: the share of its gradient that is left."""

        def of_one(row: Array) -> Float[Array, " agents"]:
            outputs, pull = context.space.readout(row[:, None])(x)
            targets = context.targets[row][:, None].astype(outputs.dtype)
            gradient = pull(context.loss.derivative(outputs, targets))
            length = jnp.sqrt(context.space.dot(gradient, gradient).sum(axis=0))
            # Where points are fitted a gradient is zero, and any share of it is the same.
            return jnp.minimum(1, self.radius / jnp.where(length > 0, length, self.radius))

        # One row of each agent at a time, as all gradients at once take as much as J.
        return jax.lax.map(of_one, rows.T).T


TOWARD = ("zero", "start")


class Around(BaseObjective):
    """Another objective, with something of one's own done to its gradient."""

    inner: BaseObjective
    plain: ClassVar[bool] = False

    @property
    def affine(self) -> bool:
        return self.inner.affine

    @property
    def view(self) -> str:
        return self.inner.view

    @property
    def drawn(self) -> bool:
        return self.inner.drawn

    @property
    def sends(self) -> str:
        return self.inner.sends

    @property
    def heads(self) -> int:
        return self.inner.heads

    @property
    def spaces(self) -> frozenset[str]:
        return self.inner.spaces

    @property
    def why_not(self) -> str:
        return self.inner.why_not

    def check(self, method: str, task: Any, space: Space, rounds: int) -> None:
        self.inner.check(method, task, space, rounds)

    def check_weights(self, method: str, weights: Any) -> None:
        self.inner.check_weights(method, weights)

    def floats_sent(
        self, listeners: Float[np.ndarray, " agents"], sizes: Sizes
    ) -> Float[np.ndarray, " agents"]:
        return self.inner.floats_sent(listeners, sizes)


class Decayed(Around):
    """g_i(x_i) = that of `inner` + decay (theta_i - a), a = 0 or theta_0."""

    decay: Number
    toward: str = eqx.field(static=True, default="zero")

    def __check_init__(self) -> None:
        check_positive("weight decay", self.decay, zero=True)
        check_name("end of weight decay", self.toward, TOWARD)

    @property
    def spaces(self) -> frozenset[str]:
        there = self.inner.spaces
        return there if self.toward == "start" else there - {"kernel"}

    @property
    def why_not(self) -> str:
        return "a kernel does not tell what weight decay toward zero makes of the start"

    def onto(self, gradient: Vector, moved: Vector) -> Vector:
        return self.inner.onto(gradient, moved) + self.decay * moved

    def gradient(self, context: Context, batch: Batch) -> Callable[..., Vector]:
        inner, space = self.inner.gradient(context, batch), context.space
        from_end = space.displacement if self.toward == "start" else space.parameters

        def grad(x: Point, state: Any = None, round: Any = None) -> Vector:
            return inner(x, state, round) + self.decay * from_end(x)

        return grad


class Weighted(Around):
    """g_i(x_i) = agents x lambda_i times that of `inner`: the objective is sum_i lambda_i L_i."""

    weights: Float[Array | np.ndarray, " agents"]
    """lambda, which sums to one"""

    def check_weights(self, method: str, weights: Any) -> None:
        if len(self.weights) != weights.agents:
            raise InputError(
                f"{method}: has weights for {len(self.weights)} agents, and there are "
                f"{weights.agents}"
            )
        self.inner.check_weights(method, weights)

    def onto(self, gradient: Vector, moved: Vector) -> Vector:
        return self.inner.onto(gradient, moved) * (len(self.weights) * self.weights)

    def gradient(self, context: Context, batch: Batch) -> Callable[..., Vector]:
        inner, factors = self.inner.gradient(context, batch), len(self.weights) * self.weights

        def grad(x: Point, state: Any = None, round: Any = None) -> Vector:
            return inner(x, state, round) * factors

        return grad


def clipped(objective: BaseObjective, radius: Any) -> BaseObjective:
    """The objective, with what is descended of single points clipped at `radius`."""
    if isinstance(objective, Around):
        return dataclasses.replace(objective, inner=clipped(objective.inner, radius))
    if type(objective) is not Local:
        raise InputError(
            f"clipped: needs a gradient that is a sum over points, each with a loss of its own, "
            f"and that of {type(objective).__name__} is not"
        )
    return Clipped(radius)


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
