"""When to trust a prediction, without training: the real network at the predicted parameters.

A prediction carries its parameters theta_i(t) = theta_0 + J^T c_i(t). Evaluating the real network
there costs one forward pass and shows how far the linearization has been stretched:

    trust_gap_i(t) = |f(theta_i) - f_lin(theta_i)| / |f_lin(theta_i) - f(theta_0)|

over all points and outputs. It estimates the gap that `compare` will find once the network has
been trained; analysis/trust.py measures how well, over widths.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Array, Float

from ntkdyn.engine import Snapshot
from ntkdyn.linearization import Implicit, Linearization
from ntkdyn.vectors import ByAgent, Vector


class Trust:
    """A watcher of a prediction in KernelSpace; `gaps` holds one row per recorded round.

    `linear` is the linearization that the coefficients belong to, and f(theta_0) is `initial`.
    """

    def __init__(self, linear: Linearization, initial: Float[np.ndarray, "points outputs"]) -> None:
        self.gaps: list[Float[np.ndarray, " agents"]] = []
        self._linear, self._initial = linear, initial

    def __call__(self, snapshot: Snapshot, displacement: Vector) -> None:
        outputs = stretched(self._linear, self._initial, snapshot.outputs, displacement)
        self.gaps.append(outputs[1])


def stretched(
    linear: Linearization | Implicit,
    initial: Float[np.ndarray, "*agents points outputs"],
    outputs: Float[Array | np.ndarray, "agents points seen"],
    displacement: ByAgent,
) -> tuple[Float[np.ndarray, " agents"], Float[np.ndarray, " agents"]]:
    """|f(theta_i) - f_lin(theta_i)| of every agent, and as a share of the distance travelled."""
    predicted = np.asarray(outputs)
    seen = predicted.shape[2]
    real = np.asarray(linear.outputs(displacement))[..., :seen]
    apart = np.linalg.norm(real - predicted, axis=(1, 2))
    moved = np.linalg.norm(predicted - initial[..., :seen], axis=(1, 2))
    return apart, np.where(moved > 0, apart / np.where(moved > 0, moved, 1), 0.0)
