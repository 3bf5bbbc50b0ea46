"""A method with the squared error and given W is an affine map of its state, z -> A z + b.

On every kernel coordinate a, owned by agent o(a), the method is its open loop (`loops`):

    z[:, a] <- P z[:, a] + Q[:, o(a)] u_a,      v = R z
    u_a = (e_a + sum_b K_ab v[o(a), b]) / n_o(a)   e = f(theta_0) - y

With the transfer function G(lambda) = R (lambda - P)^-1 Q, graph and kernel meet in

    (lambda - A)^-1 b = (lambda - P)^-1 Q[:, o] w,     (diag(n_o) - K * G(lambda)[o, o']) w = e

where * is the entry-wise product: one linear system of the size of the kernel, whatever the number
of agents and the memory of the method.

Where the method exchanges in every tau-th round only, or the graph changes in a cycle, every round
of the period has a map of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.sparse
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Inexact

from ntkdyn import losses
from ntkdyn.dynamics.linear_problem import LinearProblem
from ntkdyn.dynamics.loops import Loop, open_loops
from ntkdyn.engine import Iteration
from ntkdyn.errors import InputError
from ntkdyn.methods.updates import State

SPARSE_BELOW = 16
"""how many entries of a sparse matrix take as long as one of a dense one"""

Solver = Callable[[np.ndarray | None], np.ndarray]
"""a state (states, coordinates, sides), or None for b -> the solution, of the same shape"""


@dataclass(frozen=True, eq=False)
class Affine(LinearProblem):
    """z -> A z + b, started from 0, on states (states, coordinates, sides)."""

    loops: tuple[Loop, ...]
    """one for every round of the period"""

    @property
    def loop(self) -> Loop:
        """The loop of every round, where all are the same."""
        (loop,) = self.loops
        return loop

    @property
    def size(self) -> int:
        """The dimension of the state, per side."""
        return len(self.loops[0].P) * len(self.kernel)

    def drive(self) -> Float[np.ndarray, "states coordinates sides"]:
        """b."""
        return self._injected(self.loop.Q, self.residual / self.counts[:, None])

    def matrix(self) -> Float[np.ndarray, "size size"]:
        """A, dense."""
        loop, own = self.loop, np.arange(len(self.owner))
        felt = self.kernel / self.counts[:, None]
        free = np.einsum("st,ab->satb", loop.P, np.eye(len(own)))
        ports = loop.Q[:, self.owner], loop.R[self.owner]
        pulled = np.einsum("sa,at,ab->satb", *ports, felt, optimize=True)
        return (free + pulled).reshape(self.size, self.size)

    def coupled(self, shift: complex | float) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """(lambda - P)^-1 for lambda = 1 + shift, and the factors of diag(n_o) - K * G(lambda)."""
        inverse, transfer = self.loop.at(shift)
        trained = len(self.owner)
        coupled = transfer[np.ix_(self.owner, self.owner)]
        coupled *= -self.kernel[:trained, :trained]
        coupled[np.diag_indices(trained)] += self.counts
        return inverse, scipy.linalg.lu_factor(coupled, overwrite_a=True, check_finite=False)

    def resolvent(self, shift: complex | float) -> Solver:
        """(lambda - A)^-1 for lambda = 1 + shift, to be applied to b (None) or to a state."""
        inverse, factors = self.coupled(shift)
        into = inverse @ self.loop.Q

        def solve(force: np.ndarray | None = None) -> np.ndarray:
            if force is None:
                return self._injected(into, scipy.linalg.lu_solve(factors, self.residual))
            free = np.tensordot(inverse, force, 1)
            felt = self._felt(np.tensordot(self.loop.R, free, 1))
            return free + self._injected(into, scipy.linalg.lu_solve(factors, felt))

        return solve

    def action(self) -> Callable[[np.ndarray], np.ndarray]:
        """z -> A z: the kernel's rows laid out agent by agent, once."""
        P, R = map(light, (self.loop.P, self.loop.R))
        own = [(each, self.kernel[each]) for each in self.owned()]
        ports = (self.loop.Q[:, self.owner] / self.counts)[:, :, None]

        def act(z: np.ndarray) -> np.ndarray:
            flat = z.reshape(len(z), -1)
            seen = (R @ flat).reshape(-1, *z.shape[1:])
            u = np.empty_like(self.residual)
            for (places, rows), v in zip(own, seen, strict=True):
                u[places] = times(rows, v)
            after = (P @ flat).reshape(z.shape)
            after[:, : len(u)] += ports * u
            return after

        return act

    def change(
        self, z: Float[np.ndarray, "states coordinates sides"]
    ) -> Float[np.ndarray, "states coordinates sides"]:
        """A z + b - z."""
        loop = self.loop
        u = (self.residual + self._felt(np.tensordot(loop.R, z, 1))) / self.counts[:, None]
        return np.tensordot(loop.P, z, 1) + self._injected(loop.Q, u) - z

    def _felt(self, v: Inexact[np.ndarray, "agents coordinates sides"]) -> np.ndarray:
        """K v at every trained coordinate, v that of its owner."""
        felt = np.empty(self.residual.shape, v.dtype)
        for own, each in zip(self.owned(), v, strict=True):
            felt[own] = times(self.kernel[own], each)
        return felt

    def _injected(self, into: np.ndarray, u: np.ndarray) -> np.ndarray:
        extra = len(self.kernel) - len(u)
        return np.pad(into[:, self.owner][:, :, None] * u, ((0, 0), (0, extra), (0, 0)))


def light(matrix: np.ndarray) -> np.ndarray | scipy.sparse.csr_array:
    """The matrix, sparse where most of it is zero."""
    few = np.count_nonzero(matrix) * SPARSE_BELOW < matrix.size
    return scipy.sparse.csr_array(matrix) if few else matrix


def times(
    kernel: Float[np.ndarray, "rows columns"], v: Inexact[np.ndarray, "*agents columns sides"]
) -> Inexact[np.ndarray, "*agents rows sides"]:
    """K v, in the precision that K is kept in where v is real."""
    seen = v if np.iscomplexobj(v) else v.astype(kernel.dtype)
    return np.moveaxis(np.tensordot(kernel, seen, (1, -2)), 0, -2)


class Propagated(NamedTuple):
    """A state reached without stepping, and the errors of theta_t - theta_0, relative to it."""

    state: Float[np.ndarray, "states coordinates sides"]
    error: float
    """what the scheme leaves out"""
    rounding: float

    @property
    def total(self) -> float:
        return self.error + self.rounding


def affine(iteration: Iteration) -> Affine:
    """The iteration's affine map, the same in every round; see `affine_rounds`."""
    if iteration.period > 1:
        raise InputError(
            f"{iteration.method.name}: has no closed form here, as its rounds on these weights are "
            f"not one and the same affine map"
        )
    return affine_rounds(iteration)


def affine_rounds(iteration: Iteration) -> Affine:
    """The affine maps of a period; it must have the squared error and full batches."""
    name, train = iteration.method.name, iteration.space.train
    if iteration.loss is not losses.mse or not iteration.batches.fixed:
        raise InputError(f"{name}: a closed form needs the squared error and all points per round")
    space, everything = iteration.space, iteration.batches.everything
    initial = np.asarray(space.initial)[:train]
    residual = initial - np.asarray(iteration.targets)[:train]
    owner = np.zeros(train, dtype=int)
    rows, owned = np.asarray(everything.rows), np.asarray(everything.weights) > 0
    for agent, (own, real) in enumerate(zip(rows, owned, strict=True)):
        owner[own[real]] = agent
    kernel = np.asarray(sum(space.layer_kernels.values()) if space.extra else space.kernel[:train])
    coordinates = math.prod(kernel.shape[: kernel.ndim // 2])
    square = kernel.reshape(coordinates, coordinates)
    loops, more = open_loops(iteration), space.extra
    return Affine.of(square, residual, owner, space.agents, extra=more, loops=loops)


def linear_part(iteration: Iteration) -> tuple[Callable[[Array], Array], int]:
    """v -> A v on flattened states, and their size."""
    flat, unravel = ravel_pytree(iteration.init())
    grad, mix = iteration.gradient(0), iteration.mix(0)

    def step(z: Float[Array, " state"]) -> Float[Array, " state"]:
        return ravel_pytree(iteration.method.update.step(unravel(z), grad, mix))[0]

    return jax.linearize(step, flat)[1], flat.size


def unflattened(like: State, z: np.ndarray) -> State:
    """(states, coordinates, sides) as the state of a `KernelSpace`."""
    leaves, tree = jax.tree.flatten(like)
    parts = np.split(z, len(leaves))
    arrays = [jnp.asarray(p.reshape(leaf.shape)) for p, leaf in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(tree, arrays)


def flattened(state: State, affine: Affine) -> Float[np.ndarray, "states coordinates sides"]:
    """The state of a `KernelSpace` as (states, coordinates, sides)."""
    sides = affine.residual.shape[1]
    parts = [np.asarray(leaf).reshape(len(leaf), -1, sides) for leaf in jax.tree.leaves(state)]
    return np.concatenate(parts)
