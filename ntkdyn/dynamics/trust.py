"""When to trust a prediction, without training: the real network at the predicted parameters.

A prediction carries its parameters theta_i(t) = theta_0 + J^T c_i(t). Evaluating the real network
there costs one forward pass and shows how far the linearization has been stretched:

    trust_gap_i(t) = |f(theta_i) - f_lin(theta_i)| / |f_lin(theta_i) - f(theta_0)|

over all points and outputs. It estimates the gap that `compare` will find once the network has
been trained; analysis/trust.py measures how well, over widths.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ntkdyn.engine import POINTS_AT_ONCE, Snapshot
from ntkdyn.problems import Problem
from ntkdyn.runs import pull_back
from ntkdyn.vectors import Vector


class Trust:
    """A watcher of a prediction in KernelSpace; `gaps` holds one row per recorded round."""

    def __init__(self, problem: Problem, view: str) -> None:
        self.gaps: list[Float[np.ndarray, " agents"]] = []
        self._initial = problem.initial
        tangent, pull = problem.tangent_space(), pull_back(problem, view)
        apply, origin, inputs = tangent.apply, tangent.origin, tangent.inputs

        def outputs(coefficients: PyTree) -> Float[Array, "points outputs"]:
            theta = jax.tree.map(jnp.add, origin, pull(coefficients))
            parts = range(0, len(inputs), POINTS_AT_ONCE)
            return jnp.concatenate([apply(theta, inputs[i : i + POINTS_AT_ONCE]) for i in parts])

        self._outputs = jax.jit(lambda displacement: jax.lax.map(outputs, displacement.tree))

    def __call__(self, snapshot: Snapshot, displacement: Vector) -> None:
        real = np.asarray(self._outputs(displacement))
        predicted = snapshot.outputs[..., : real.shape[2]]
        apart = np.linalg.norm(real - predicted, axis=(1, 2))
        moved = np.linalg.norm(predicted - self._initial, axis=(1, 2))
        self.gaps.append(np.where(moved > 0, apart / np.where(moved > 0, moved, 1), 0.0))
