"""Results: a kernel, its parts by layer, and the plan it was computed by."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ntkdyn.errors import InputError
from ntkdyn.kernels.tiles import Tiling


class Work(NamedTuple):
    """What a method takes for a whole kernel."""

    flops: float
    bytes: float
    """held where nothing is computed twice"""


class KernelPlan(NamedTuple):
    """How a kernel is computed, and why so.

    Example:
        >>> nd.kernels.compute(net.apply, prob.start, prob.inputs[:4]).plan.form
        'full'
    """

    form: str
    method: str
    work: dict[str, Work]
    """method -> what it would take; the cheapest was chosen unless one was asked for"""
    rules: dict[str, str]
    """layer -> how its parameters are contracted: outer, pairs, rows or contraction"""
    tiling: Tiling
    passes: int
    """how often the points are gone through, some of the layers at a time"""
    dtype: str
    accumulate: str
    memory: float | None
    """the budget in bytes"""
    peak: int | None
    """what the plan takes of it"""
    devices: int

    def __str__(self) -> str:
        t = self.tiling
        listed = ", ".join(f"{layer}: {rule}" for layer, rule in self.rules.items())
        work = ", ".join(
            f"{name} {work.flops / 1e9:.3g} Gflop {work.bytes / 1e6:.3g} MB"
            for name, work in self.work.items()
        )
        lines = [
            f"{self.form} kernel of {t.rows} x {t.columns} points by method {self.method!r}",
            f"  work       {work}",
            f"  rules      {listed}" if listed else "",
            f"  tiles      {t.tiles} of {t.block} x {t.block} points, panels of {t.held} blocks"
            + (", one half by symmetry" if t.symmetric else "")
            + (f", {self.passes} passes" if self.passes > 1 else ""),
            f"  precision  {self.dtype}, summed in {self.accumulate}",
            f"  memory     {self.peak / 1e6:.4g} of {self.memory / 1e6:.4g} MB"
            if self.memory and self.peak
            else "",
            f"  devices    {self.devices}" if self.devices > 1 else "",
        ]
        return "\n".join(line for line in lines if line)


@dataclass(frozen=True, eq=False)
class Computed:
    """A kernel and how it was computed.

    Example:
        >>> found = nd.kernels.compute(net.apply, prob.start, prob.inputs[:4], form="diagonal")
        >>> found.values.shape
        (4, 10)
    """

    plan: KernelPlan
    layers: dict[str, Float[np.ndarray, ...]] = field(repr=False)
    """layer -> its part, where layers were asked for"""
    _whole: Float[np.ndarray, ...] | None = field(repr=False)

    @functools.cached_property
    def values(self) -> Float[np.ndarray, ...]:
        """The kernel: (n, k, m, k), or (n, m) for trace and one output, or (n, k) diagonal."""
        return sum(self.layers.values()) if self._whole is None else self._whole

    @property
    def matrix(self) -> Float[np.ndarray, "rows columns"]:
        """The kernel as a matrix: (n k, m k) for the full form, otherwise the values."""
        if self.values.ndim != 4:
            return self.values
        n, k, m, j = self.values.shape
        return self.values.reshape(n * k, m * j)

    def block(
        self, i: int, j: int, owner: Int[Any, " n"], other: Int[Any, " m"] | None = None
    ) -> Float[np.ndarray, ...]:
        """Theta between agent i's points and agent j's; `other` are the owners of the columns."""
        return owned_block(self.values, i, j, owner, other)


def owned_block(
    kernel: Float[np.ndarray, ...],
    i: int,
    j: int,
    owner: Int[Any, " n"],
    other: Int[Any, " m"] | None = None,
) -> Float[np.ndarray, ...]:
    """The rows of agent i's points and the columns of agent j's, of (n, m) or (n, k, m, k).

    Args:
        kernel: in any form but the diagonal.
        i: whose rows.
        j: whose columns.
        owner: of each row's point.
        other: of each column's point; None: the same points.

    Returns:
        The block, in the kernel's own form.

    Raises:
        InputError: for owners that are not as many as points.

    Example:
        >>> nd.kernels.owned_block(K, 0, 1, owner).shape
        (2, 2)
    """
    rows = np.asarray(owner)
    columns = rows if other is None else np.asarray(other)
    axis = kernel.ndim // 2
    sizes = kernel.shape[0], kernel.shape[axis]
    if (len(rows), len(columns)) != sizes:
        raise InputError(
            f"owner: must name an agent for each of {sizes[0]} rows and {sizes[1]} columns, "
            f"got {len(rows)} and {len(columns)}"
        )
    for agent, owners in ((i, rows), (j, columns)):
        if agent not in owners:
            raise InputError(f"owner: agent {agent} owns none of the points")
    return np.compress(columns == j, np.compress(rows == i, kernel, axis=0), axis=axis)
