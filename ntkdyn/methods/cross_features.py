"""CCL: agreement of features across agents (Aketi, Roy 2024, as their code has it).

    L_i = mean l + lambda_m sum_j MSE(z_ii, z_ji) + lambda_d MSE(z_ii, zbar_i[y])

z_ii are agent i's features of its own batch at the mixed parameters, z_ji those that the
parameters received from neighbour j make of the same points, and zbar_i[c] the mean over i's and
its neighbours' batches of what i's parameters make of the points of class c. MSE is the mean over
points and features; the sum over neighbours is not divided. All but z_ii are constants.
"Contrastive" is attraction only: there are no negatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkdyn.data.batches import Batch
from ntkdyn.errors import InputError
from ntkdyn.methods.objectives import (
    BaseObjective,
    Context,
    Sizes,
    check_outputs_per_class,
    slopes,
)
from ntkdyn.methods.updates import check_positive
from ntkdyn.spaces import Space
from ntkdyn.vectors import Point, Vector


class CrossFeature(BaseObjective):
    """The loss, and attraction to neighbours' features of one's own points and their classes."""

    lambda_m: float = 0.1
    lambda_d: float = 0.1
    affine: ClassVar[bool] = False
    view: ClassVar[str] = "features"
    sends: ClassVar[str] = "class sums of features"

    def __check_init__(self) -> None:
        check_positive("ccl: lambda_m", self.lambda_m, zero=True)
        check_positive("ccl: lambda_d", self.lambda_d, zero=True)

    def check(self, method: str, task: Any, space: Space, rounds: int) -> None:
        """Refuse a task without classes."""
        check_outputs_per_class(method, task)
        if task.labels is None:
            raise InputError(f"{method}: needs classes, and the task has none; give labelled data")

    def floats_sent(
        self, listeners: Float[np.ndarray, " agents"], sizes: Sizes
    ) -> Float[np.ndarray, " agents"]:
        """A sum of features and a count per class."""
        return listeners * sizes.outputs * (sizes.features + 1)

    def gradient(self, context: Context, batch: Batch) -> Callable[..., Vector]:
        look, wanted = context.space.readout(batch.rows), context.targets[batch.rows]
        classes = wanted.shape[-1]
        member = jax.nn.one_hot(wanted.argmax(axis=-1), classes) * (batch.weights > 0)[..., None]

        def grad(x: Point, state: Any, round: Any = None) -> Vector:
            del round
            outputs, pull = look(x)
            own = outputs[..., classes:]
            heard = [_features(look, state.x, context, k, classes) for k in _slots(context)]
            slope = self.lambda_m * self._model_variant(own, heard, context)
            slope = slope + self.lambda_d * (own - self._means(own, heard, member, context))
            share = 2 * batch.weights.astype(own.dtype)[..., None] / own.shape[-1]
            local = slopes(outputs[..., :classes], wanted, batch, context.loss)
            return pull(jnp.concatenate([local, share * slope], axis=-1))

        return grad

    def _model_variant(self, own: Array, heard: list[Array], context: Context) -> Array:
        """sum_j (z_ii - z_ji)."""
        there = context.links.there.astype(own.dtype)
        return sum(((own - z) * there[:, k, None, None] for k, z in enumerate(heard)), 0 * own)

    def _means(self, own: Array, heard: list[Array], member: Array, context: Context) -> Array:
        """zbar_i at the class of every point of i's batch."""
        links, member = context.links, member.astype(own.dtype)
        summed = lambda z: jnp.einsum(
            "abc,abd->acd", member, z, precision=jax.lax.Precision.HIGHEST
        )
        total, count = summed(own), member.sum(axis=1)
        for k, features in enumerate(heard):
            there = links.there[:, k].astype(own.dtype)
            sender = links.heard[:, k]
            total = total.at[sender].add(summed(features) * there[:, None, None])
            count = count.at[sender].add(member.sum(axis=1) * there[:, None])
        mean = total / jnp.maximum(count, 1)[..., None]
        return jnp.einsum("abc,acd->abd", member, mean, precision=jax.lax.Precision.HIGHEST)


def _slots(context: Context) -> range:
    return range(context.links.heard.shape[1])


def _features(look: Callable, x: Point, context: Context, k: int, classes: int) -> Array:
    """What the k-th neighbour's parameters make of each agent's own batch."""
    received = x.map(lambda leaf: leaf[context.links.heard[:, k]])
    return look(received)[0][..., classes:]
