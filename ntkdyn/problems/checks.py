"""What goes together in a problem."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from ntkdyn import losses, precision
from ntkdyn.data import Dataset
from ntkdyn.errors import InputError
from ntkdyn.kernels.pointwise import POINTS, outputs_of
from ntkdyn.losses import Loss
from ntkdyn.networks import Network
from ntkdyn.problems.starts import start_of

LARGEST_SEED = 2**32 - 1
"""of larger ones JAX takes the last 32 bits in single precision, but all in double"""


def outputs_for(data: Dataset, loss: Loss) -> int:
    """How many outputs a network needs for these data: one per target, or as the loss has it."""
    if data.classes is not None:
        return loss.outputs(data.classes)
    if not loss.regression:
        able = ", ".join(each.name for each in losses.LOSSES.values() if each.regression)
        raise InputError(f"loss {loss.name}: is for classes; targets of regression need {able}")
    return data.train_labels.shape[1]


def check_outputs(network: Network, data: Dataset, loss: Loss) -> None:
    """Refuse a network that has not an output per target, or a set of them per head."""
    columns = outputs_for(data, loss)
    if data.classes is None and network.outputs != columns:
        raise InputError(
            f"problem: the network has {network.outputs} outputs and the data {columns} targets; "
            f"they must agree"
        )
    if network.outputs % columns:
        wanted = f", for which {loss.name} has one output" if columns == 1 else ""
        raise InputError(
            f"problem: the network has {network.outputs} outputs and the data {data.classes} "
            f"classes{wanted}; they must agree, or the former be a multiple: one set per head"
        )


@precision.float32()
def check_model(network: Network, inputs: Float[np.ndarray, points * features]) -> None:
    """Refuse a model that looks at a point's batch, or has other outputs than it says."""
    few = np.asarray(inputs[:POINTS], np.float32)
    outputs = outputs_of(network.apply, start_of(network, 0, few.shape[1:]), few)
    if outputs != network.outputs:
        raise InputError(
            f"problem: {network.name} says to have {network.outputs} outputs, but apply returns "
            f"{outputs}"
        )


def check_public(public: Any, inputs: np.ndarray) -> None:
    """Refuse public points of another shape, that are not finite, or that are training points."""
    if (
        not isinstance(public, np.ndarray)
        or public.shape[1:] != inputs.shape[1:]
        or not len(public)
    ):
        raise InputError(
            f"public points: must be (points, {', '.join(map(str, inputs.shape[1:]))}), "
            f"got {getattr(public, 'shape', type(public).__name__)}"
        )
    if not np.isfinite(public).all():
        raise InputError("public points: all numbers must be finite")
    private = {row.tobytes() for row in inputs}
    shared = [i for i, row in enumerate(public.astype(inputs.dtype)) if row.tobytes() in private]
    if shared:
        raise InputError(
            f"public points: must be no training points, but point {shared[0]} is one of them"
        )
