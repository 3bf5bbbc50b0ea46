"""Objectives: what each agent differentiates, composed from outputs, loss and pullback."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
from jaxtyping import Array, Float

from ntkdyn.data.batches import Batch
from ntkdyn.losses import Loss
from ntkdyn.spaces import Space
from ntkdyn.vectors import Vector


class Local(eqx.Module):
    """g_i(x_i) = sum over i's batch of weight x d/dx l(f_i(x_i), y)."""

    def gradient(
        self, space: Space, batch: Batch, loss: Loss, targets: Float[Array, "points outputs"]
    ) -> Callable[[Vector], Vector]:
        look, wanted = space.readout(batch.rows), targets[batch.rows]

        def grad(x: Vector) -> Vector:
            outputs, pull = look(x)
            weights = batch.weights.astype(outputs.dtype)[..., None]
            return pull(weights * loss.derivative(outputs, wanted.astype(outputs.dtype)))

        return grad
