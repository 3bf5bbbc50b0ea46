"""Spaces: three representations of every agent's network in which one method runs unchanged.

    NetworkSpace   a vector is the parameters            f(theta)
    TangentSpace   a displacement of the parameters      f(theta_0) + J (theta - theta_0)
    KernelSpace    coefficients c on the training points  f(theta_0) + K c,  theta = theta_0 + J^T c

Observing is running a method in the first, predicting is running the same method in one of the
others. Tangent and Kernel agree to rounding, because J J^T = K; Network approaches them as the
width grows. Points are rows of one table, the training points first; a batch, a test set, all
training points are just rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from ntkdyn.kernels.structure import distinct_layers, layer_names
from ntkdyn.vectors import Vector

Rows = Int[Array, "agents rows"] | slice
"""each agent's own rows, or the same for all"""
Outputs = Float[Array, "agents rows outputs"]
Readout = Callable[[Vector], tuple[Outputs, Callable[[Outputs], Vector]]]
"""x -> (outputs, pullback); pullback maps dL/df to the gradient of L, a vector of the same space"""

SPREAD_UP_TO = 2
"""With so few rows per agent, comparing their numbers beats scattering: it fuses with the step."""

EXACT = jax.lax.Precision.HIGHEST


@runtime_checkable
class Space(Protocol):
    """What a method, an objective and a measurement may ask of a representation."""

    agents: int
    layers: tuple[str, ...]

    def start(self) -> Vector:
        """Every agent at the start."""
        ...

    def readout(self, rows: Rows) -> Readout:
        """The outputs at these rows as a function of the vector, with its pullback J^T."""
        ...

    def displacement(self, x: Vector) -> Vector:
        """x minus the start."""
        ...

    def dot(self, x: Vector, y: Vector) -> Float[Array, "layers agents"]:
        """<J^T x, J^T y> of two displacements in parameter space, layer by layer."""
        ...

    def spread(self, x: Vector) -> tuple[Float[Array, "layers agents"], Float[Array, " agents"]]:
        """|x_i|^2 by layer, and |x_i - mean of all|^2, of displacements in parameter space."""
        ...


class NetworkSpace(eqx.Module):
    """The real network: x_i = theta_i."""

    apply: Callable[[PyTree, Array], Array] = eqx.field(static=True)
    origin: PyTree[Float[Array, ...]]
    """the common start"""
    inputs: Float[Array, points * features]
    agents: int = eqx.field(static=True)

    @property
    def layers(self) -> tuple[str, ...]:
        return distinct_layers(self.origin)

    def start(self) -> Vector:
        return Vector(_repeated(self.origin, self.agents))

    def readout(self, rows: Rows) -> Readout:
        points = self.inputs[rows]
        outputs = jax.vmap(self.apply, in_axes=(0, _point_axis(rows)))

        def look(x: Vector) -> tuple[Outputs, Callable[[Outputs], Vector]]:
            values, pull = jax.vjp(lambda tree: outputs(tree, points), x.tree)
            return values, lambda cotangents: Vector(*pull(cotangents))

        return look

    def displacement(self, x: Vector) -> Vector:
        return x - self.start()

    def dot(self, x: Vector, y: Vector) -> Float[Array, "layers agents"]:
        return _layer_dot(x, y)

    def spread(self, x: Vector) -> tuple[Float[Array, "layers agents"], Float[Array, " agents"]]:
        apart = x - x.map(_mean)
        return self.dot(x, x), self.dot(apart, apart).sum(axis=0)


class TangentSpace(eqx.Module):
    """The network linearized at its start, by products with J: x_i = theta_i - theta_0."""

    apply: Callable[[PyTree, Array], Array] = eqx.field(static=True)
    origin: PyTree[Float[Array, ...]]
    inputs: Float[Array, points * features]
    agents: int = eqx.field(static=True)

    @property
    def layers(self) -> tuple[str, ...]:
        return distinct_layers(self.origin)

    def start(self) -> Vector:
        return Vector(_repeated(jax.tree.map(jnp.zeros_like, self.origin), self.agents))

    def readout(self, rows: Rows) -> Readout:
        points = self.inputs[rows]
        axis = _point_axis(rows)
        initial = jax.vmap(self.apply, in_axes=(None, axis), axis_size=self.agents)
        values = initial(self.origin, points)

        def push(tree: PyTree) -> Outputs:
            def one(tangent: PyTree, points: Array) -> Array:
                at_points = lambda params: self.apply(params, points)
                return jax.jvp(at_points, (self.origin,), (tangent,))[1]

            return jax.vmap(one, in_axes=(0, axis))(tree, points)

        pull = jax.linear_transpose(push, _repeated(self.origin, self.agents))
        return lambda x: (values + push(x.tree), lambda cotangents: Vector(*pull(cotangents)))

    def displacement(self, x: Vector) -> Vector:
        return x

    def dot(self, x: Vector, y: Vector) -> Float[Array, "layers agents"]:
        return _layer_dot(x, y)

    def spread(self, x: Vector) -> tuple[Float[Array, "layers agents"], Float[Array, " agents"]]:
        apart = x - x.map(_mean)
        return self.dot(x, x), self.dot(apart, apart).sum(axis=0)


class KernelSpace(eqx.Module):
    """The linearized network by its kernel alone: x_i = c_i with theta_i = theta_0 + J^T c_i.

    The kernel is (points, train, ...): (points, train) where it is the same for every output and
    zero between outputs, as at infinite width, or in full (points, outputs, train, outputs).
    """

    kernel: Float[Array, "points train"] | Float[Array, "points outputs train outputs"]
    initial: Float[Array, "points outputs"]
    """f(theta_0)"""
    agents: int = eqx.field(static=True)
    layer_kernels: dict[str, Array]
    """the parts of the training kernel by layer; empty: only the whole is known"""

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(self.layer_kernels) or ("all",)

    @property
    def train(self) -> int:
        return self.kernel.shape[self.kernel.ndim // 2]

    def start(self) -> Vector:
        shape = (self.agents, self.train, self.initial.shape[1])
        return Vector(jnp.zeros(shape, self.kernel.dtype))

    def readout(self, rows: Rows) -> Readout:
        per_agent = _point_axis(rows) == 0
        kernel = self.kernel[rows]
        initial = self.initial[rows] if per_agent else self.initial[rows][None]
        shape = (self.agents, self.train, self.initial.shape[1])
        where = (jnp.arange(self.agents)[:, None] if per_agent else slice(None), rows)

        def pull(cotangents: Outputs) -> Vector:
            if per_agent and rows.shape[1] <= SPREAD_UP_TO:
                columns = jnp.arange(self.train)[None, :, None]
                each = [
                    jnp.where(rows[:, b, None, None] == columns, cotangents[:, b, None], 0)
                    for b in range(rows.shape[1])
                ]
                return Vector(sum(each))
            nothing = jnp.zeros(shape, cotangents.dtype)
            return Vector(nothing.at[where].add(cotangents))

        return lambda x: (initial + _applied(kernel, x.tree, per_agent=per_agent), pull)

    def displacement(self, x: Vector) -> Vector:
        return x

    def dot(self, x: Vector, y: Vector) -> Float[Array, "layers agents"]:
        return jnp.stack([jnp.sum(x.tree * moved, axis=(1, 2)) for moved in self._moved(y)])

    def spread(self, x: Vector) -> tuple[Float[Array, "layers agents"], Float[Array, " agents"]]:
        moved, apart = self._moved(x), x.tree - _mean(x.tree)
        squares = [jnp.sum(x.tree * each, axis=(1, 2)) for each in moved]
        around = [jnp.sum(apart * (each - _mean(each)), axis=(1, 2)) for each in moved]
        return jnp.stack(squares), sum(around)

    def _moved(self, x: Vector) -> list[Array]:
        """K_l x on the training points, layer by layer."""
        kernels = [*self.layer_kernels.values()] or [self.kernel[: self.train]]
        return [_applied(kernel, x.tree) for kernel in kernels]


def _mean(leaf: Array) -> Array:
    return jnp.mean(leaf, axis=0, keepdims=True)


def _point_axis(rows: Rows) -> int | None:
    """The agent axis of the points at these rows, if each agent has its own."""
    return None if isinstance(rows, slice) else 0


def _applied(kernel: Array, coefficients: Array, *, per_agent: bool = False) -> Outputs:
    """K c for every agent, with one kernel block for all or one per agent."""
    batch, agents = "a" if per_agent else "", len(coefficients)
    if kernel.ndim - per_agent == 2:
        return jnp.einsum(f"{batch}bn,ank->abk", kernel, coefficients, precision=EXACT)
    *rows, outputs, train, _ = kernel.shape
    matrix = kernel.reshape(*rows[:-1], rows[-1] * outputs, train * outputs)
    flat = coefficients.reshape(agents, train * outputs)
    product = jnp.einsum(f"{batch}rc,ac->ra", matrix, flat, precision=EXACT)
    return product.T.reshape(agents, rows[-1], outputs)


def _repeated(tree: PyTree, agents: int) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (agents, *leaf.shape)), tree)


def _layer_dot(x: Vector, y: Vector) -> Float[Array, "layers agents"]:
    names = layer_names(x.tree)
    products = [
        jnp.sum(a * b, axis=tuple(range(1, a.ndim)))
        for a, b in zip(jax.tree.leaves(x.tree), jax.tree.leaves(y.tree), strict=True)
    ]
    return jnp.stack(
        [
            sum(product for name, product in zip(names, products, strict=True) if name == layer)
            for layer in distinct_layers(x.tree)
        ]
    )
