"""The linear problem: what the squared error makes of a linearized network, without the method.

In parameters x = theta - theta_0 every agent has f_i(x) = 1/(2 n_i) |F_i x + e_i|^2, with the rows
F of K = F F^T and e = f(theta_0) - y. Dynamics (`affine`) and theorems (`theory.constants`) are
about this one problem.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True, eq=False)
class LinearProblem:
    """A kernel with residuals, and whose they are.

    With a scalar kernel the coordinates are points and the sides are outputs; with a full one
    the coordinates are points x outputs and there is one side. Where K has other directions than
    those of training points, their coordinates are the last: gradients feel them, as K has them,
    and never move along them.
    """

    kernel: Float[np.ndarray, "coordinates coordinates"]
    residual: Float[np.ndarray, "trained sides"]
    """e = f(theta_0) - y"""
    owner: Int[np.ndarray, " trained"]
    counts: Int[np.ndarray, " trained"]
    """n_i, how many points the owner of the coordinate has"""
    point: Int[np.ndarray, " trained"]
    agents: int

    @classmethod
    def of(
        cls,
        kernel: Float[np.ndarray, "coordinates coordinates"],
        residual: Float[np.ndarray, "train outputs"],
        owner: Int[np.ndarray, " train"],
        agents: int,
        *,
        extra: int = 0,
        **more: Any,
    ) -> Any:
        """From residuals and owners of points, to which other directions are `extra`."""
        repeated = len(kernel) // (len(owner) + extra)
        counts = np.bincount(owner, minlength=agents)[owner]
        return cls(
            kernel,
            residual.reshape(len(owner) * repeated, -1),
            np.repeat(owner, repeated),
            np.repeat(counts, repeated),
            np.repeat(np.arange(len(owner)), repeated),
            agents,
            **more,
        )

    def owned(self) -> list[Int[np.ndarray, " trained_i"]]:
        """The coordinates of each agent."""
        return [np.flatnonzero(self.owner == agent) for agent in range(self.agents)]
