"""Spaces: three representations of every agent's network in which one method runs unchanged.

    NetworkSpace   a vector is the parameters            f(theta)
    TangentSpace   a displacement of the parameters      f(theta_0) + J (theta - theta_0)
    KernelSpace    coefficients c on the training points  f(theta_0) + K c,  theta = theta_0 + J^T c

Observing is running a method in the first, predicting is running the same method in one of the
others. Tangent and Kernel agree to rounding, because J J^T = K; Network approaches them as the
width grows. Points are rows of one table, the training points first; a batch, a test set, all
training points are just rows.

`LayeredKernelSpace` is a KernelSpace whose coefficients are kept apart layer by layer, for methods
that weigh layers differently; `TeamSpace` lets agents have networks of different architectures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from ntkdyn.kernels.pushing import pushing
from ntkdyn.kernels.structure import distinct_layers, layer_names
from ntkdyn.precision import EXACT
from ntkdyn.vectors import Point, Vector

Rows = Int[Array, "agents rows"] | Int[Array, " rows"] | slice
"""each agent's own rows, or the same for all"""
Outputs = Float[Array, "agents rows outputs"]
Readout = Callable[[Point], tuple[Outputs, Callable[[Outputs], Vector]]]
"""x -> (outputs, pullback); pullback maps dL/df to the gradient of L, a vector of the same space"""

GATHERED_UP_TO = 2**27
"""Bytes of the kernel rows of all agents, each with its own; of more, all agents' outputs at all
points are computed, by one product that reads the kernel once and copies none of it."""

SPREAD_UP_TO = 2
"""With so few rows per agent, comparing their numbers beats scattering: it fuses with the step."""


@runtime_checkable
class Space(Protocol):
    """What a method, an objective and a measurement may ask of a representation.

    Spaces that are no kernel's also have `parameters(x)`, theta as a vector from zero. Spaces that
    tell layers apart have `gram(x)` (layers, agents, agents), the inner products <J^T x_i, J^T x_j>
    of displacements, and `square_norms(x)` (layers, agents), |theta_i|^2.
    """

    kind: ClassVar[str]
    """network, tangent or kernel"""
    agents: int
    layers: tuple[str, ...]
    mixable: bool
    """whether agents' parameters can be averaged"""
    common_start: bool
    """whether all agents, or all of an architecture, start from the same parameters"""

    def start(self) -> Point:
        """Every agent at the start."""
        ...

    def readout(self, rows: Rows) -> Readout:
        """The outputs at these rows as a function of the vector, with its pullback J^T."""
        ...

    def displacement(self, x: Point) -> Vector:
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
    """the common start; with `apart`, those of all agents, (agents, ...)"""
    inputs: Float[Array, points * features]
    agents: int = eqx.field(static=True)
    apart: bool = eqx.field(static=True, default=False)
    anatomy: Any = eqx.field(static=True, default=None)
    """the `networks.Network`, for methods that look at its hidden layers"""
    looks: Callable[[Array, Array], Array] | None = eqx.field(static=True, default=None)
    """(points, their rows) -> what the network is shown in their place"""
    kind: ClassVar[str] = "network"
    mixable: ClassVar[bool] = True

    @property
    def common_start(self) -> bool:
        return not self.apart

    @property
    def layers(self) -> tuple[str, ...]:
        return distinct_layers(self.origin)

    def start(self) -> Point:
        return Point(self.origin if self.apart else _repeated(self.origin, self.agents))

    def readout(self, rows: Rows) -> Readout:
        points = self.inputs[rows]
        if self.looks is not None:
            points = self.looks(points, jnp.arange(len(self.inputs))[rows])
        outputs = jax.vmap(self.apply, in_axes=(0, _point_axis(rows)))

        def look(x: Point) -> tuple[Outputs, Callable[[Outputs], Vector]]:
            values, pull = jax.vjp(lambda tree: outputs(tree, points), x.tree)
            return values, lambda cotangents: Vector(*pull(cotangents))

        return look

    def displacement(self, x: Point) -> Vector:
        return x - self.start()

    def parameters(self, x: Point) -> Vector:
        return Vector(x.tree)

    def dot(self, x: Vector, y: Vector) -> Float[Array, "layers agents"]:
        return _layer_dot(x, y)

    def spread(self, x: Vector) -> tuple[Float[Array, "layers agents"], Float[Array, " agents"]]:
        return _spread(self, x)

    def gram(self, x: Vector) -> Float[Array, "layers agents agents"]:
        return _layer_gram(x)

    def square_norms(self, x: Point) -> Float[Array, "layers agents"]:
        absolute = self.parameters(x)
        return _layer_dot(absolute, absolute)


class TangentSpace(eqx.Module):
    """The linearized network, by products with J: x_i = theta_i - theta_0.

    It is linearized at theta_0, or at another `anchor` a: f(a) + J_a (theta_0 - a + x_i). Of agents
    with starts of their own each has its own anchor, and theta_0 is the mean of their starts.
    """

    apply: Callable[[PyTree, Array], Array] = eqx.field(static=True)
    origin: PyTree[Float[Array, ...]]
    inputs: Float[Array, points * features]
    agents: int = eqx.field(static=True)
    anchor: PyTree[Float[Array, ...]] | None = None
    """one for all, or with `begun` each agent's, (agents, ...)"""
    begun: PyTree[Float[Array, ...]] | None = None
    """every agent's start, counted from theta_0, where they have starts of their own"""
    kind: ClassVar[str] = "tangent"
    mixable: ClassVar[bool] = True

    @property
    def common_start(self) -> bool:
        return self.begun is None

    @property
    def layers(self) -> tuple[str, ...]:
        return distinct_layers(self.origin)

    def start(self) -> Point:
        if self.begun is not None:
            return Point(self.begun)
        return Point(_repeated(jax.tree.map(jnp.zeros_like, self.origin), self.agents))

    def readout(self, rows: Rows) -> Readout:
        points, axis = self.inputs[rows], _point_axis(rows)
        own = None if self.common_start else 0
        initial = lambda at, seen: self._of_one(at).initial(seen)
        values = jax.vmap(initial, (own, axis), axis_size=self.agents)(self.anchor, points)

        def push(tree: PyTree) -> Outputs:
            along = lambda at, moved, seen: self._of_one(at).push(moved, seen)
            return jax.vmap(along, (own, 0, axis))(self.anchor, tree, points)

        pull = jax.linear_transpose(push, _repeated(self.origin, self.agents))
        return lambda x: (values + push(x.tree), lambda cotangents: Vector(*pull(cotangents)))

    def _of_one(self, anchor: PyTree[Float[Array, ...]] | None) -> TangentSpace:
        """As an agent has it that is linearized there."""
        return dataclasses.replace(self, anchor=anchor, begun=None)

    @property
    def at(self) -> PyTree[Float[Array, ...]]:
        """Where the network is linearized."""
        return self.origin if self.anchor is None else self.anchor

    def initial(self, points: Array) -> Float[Array, "points outputs"]:
        """The outputs at theta_0."""
        values = self.apply(self.at, points)
        if self.anchor is None:
            return values
        return values - self.push(jax.tree.map(jnp.subtract, self.anchor, self.origin), points)

    def push(self, tangent: PyTree, points: Array) -> Float[Array, "points outputs"]:
        """J times one displacement."""
        return pushing(lambda params: self.apply(params, points), self.at)(tangent)

    def displacement(self, x: Point) -> Vector:
        return Vector(x.tree) if self.common_start else x - self.start()

    def parameters(self, x: Point) -> Vector:
        return Vector(x.tree) + Vector(_repeated(self.origin, self.agents))

    def dot(self, x: Vector, y: Vector) -> Float[Array, "layers agents"]:
        return _layer_dot(x, y)

    def spread(self, x: Vector) -> tuple[Float[Array, "layers agents"], Float[Array, " agents"]]:
        return _spread(self, x)

    def gram(self, x: Vector) -> Float[Array, "layers agents agents"]:
        return _layer_gram(x)

    def square_norms(self, x: Point) -> Float[Array, "layers agents"]:
        absolute = self.parameters(x)
        return _layer_dot(absolute, absolute)


class DisplacedSpace(TangentSpace):
    """The real network, counted from the start as in TangentSpace: x_i = theta_i - theta_0."""

    kind: ClassVar[str] = "network"

    def readout(self, rows: Rows) -> Readout:
        points, axis = self.inputs[rows], _point_axis(rows)

        def at(moved: PyTree, own: Array) -> Float[Array, "points outputs"]:
            return self.apply(jax.tree.map(jnp.add, self.origin, moved), own)

        def look(x: Point) -> tuple[Outputs, Callable[[Outputs], Vector]]:
            outputs = jax.vmap(at, in_axes=(0, axis))
            values, pull = jax.vjp(lambda tree: outputs(tree, points), x.tree)
            return values, lambda cotangents: Vector(*pull(cotangents))

        return look


class KernelSpace(eqx.Module):
    """The linearized network by its kernel alone: x_i = c_i with theta_i = theta_0 + J^T c_i.

    The kernel is (points, train, ...): (points, train) where it is the same for every output and
    zero between outputs, as at infinite width, or in full (points, outputs, train, outputs).

    Its last columns may be other directions of the parameters than those of training points: J d
    in place of J J^T, with d in theta_i = theta_0 + J^T c_i + sum of c_i d. They have no rows, so
    that gradients never have a part along them.
    """

    kernel: Float[Array, "points basis"] | Float[Array, "points outputs basis outputs"]
    initial: Float[Array, "points outputs"]
    """f(theta_0)"""
    agents: int = eqx.field(static=True)
    layer_kernels: dict[str, Array]
    """inner products of the basis by layer; empty: of the whole, where training points are all"""
    extra: int = eqx.field(static=True, default=0)
    """how many columns are other directions"""
    kind: ClassVar[str] = "kernel"
    mixable: ClassVar[bool] = True
    common_start: ClassVar[bool] = True

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(self.layer_kernels) or ("all",)

    @property
    def train(self) -> int:
        return self.kernel.shape[self.kernel.ndim // 2] - self.extra

    def start(self) -> Point:
        shape = (self.agents, self.train + self.extra, self.initial.shape[1])
        return Point(jnp.zeros(shape, self.initial.dtype))

    def readout(self, rows: Rows) -> Readout:
        per_agent, initial = _point_axis(rows) == 0, _initial(self.initial, rows)
        pull = _scatter(rows, self.start().tree.shape)
        if per_agent and rows.size * self.kernel[0].nbytes > GATHERED_UP_TO:
            own = lambda x: _own(_applied(self.kernel, x.tree), rows)
        else:
            kernel = self.kernel[rows]
            own = lambda x: _applied(kernel, x.tree, per_agent=per_agent)

        def look(x: Point) -> tuple[Outputs, Callable[[Outputs], Vector]]:
            return initial + own(x), lambda cotangents: Vector(pull(cotangents))

        return look

    def displacement(self, x: Point) -> Vector:
        return Vector(x.tree)

    def dot(self, x: Vector, y: Vector) -> Float[Array, "layers agents"]:
        return jnp.stack([jnp.sum(x.tree * moved, axis=(1, 2)) for moved in self._moved(y)])

    def spread(self, x: Vector) -> tuple[Float[Array, "layers agents"], Float[Array, " agents"]]:
        moved, apart = self._moved(x), x.tree - _mean(x.tree)
        squares = [jnp.sum(x.tree * each, axis=(1, 2)) for each in moved]
        around = [jnp.sum(apart * (each - _mean(each)), axis=(1, 2)) for each in moved]
        return jnp.stack(squares), sum(around)

    def _moved(self, x: Vector) -> list[Array]:
        """K_l x, inner products with all of the basis, layer by layer."""
        kernels = [*self.layer_kernels.values()] or [self.kernel[: self.train]]
        return [_applied(kernel, x.tree) for kernel in kernels]


def _mean(leaf: Array) -> Array:
    return jnp.mean(leaf, axis=0, keepdims=True)


def _spread(
    space: Space, x: Vector
) -> tuple[Float[Array, "layers agents"], Float[Array, " agents"]]:
    apart = x - x.map(_mean)
    return space.dot(x, x), space.dot(apart, apart).sum(axis=0)


class LayeredKernelSpace(eqx.Module):
    """x_i = (c_i,l) by layer, with theta_i,l = theta_0,l + J_l^T c_i,l: KernelSpace, layers apart.

    theta_0's own layers count as one more basis vector, so that norms of the parameters themselves
    are known: |theta_l|^2 = |theta_0,l|^2 + 2 c . J_l theta_0,l + c . K_l c. The last columns may
    be other directions of the parameters, as in `KernelSpace`.
    """

    kernels: dict[str, Float[Array, "points outputs basis outputs"]]
    initial: Float[Array, "points outputs"]
    along_origin: dict[str, Float[Array, "basis outputs"]]
    """J_l theta_0,l"""
    origin_norms: dict[str, Float[Array, ""]]
    """|theta_0,l|^2"""
    agents: int = eqx.field(static=True)
    grams: dict[str, Float[Array, "basis outputs basis outputs"]] | None = None
    """inner products of the basis; None: those of the kernels, where training points are all"""
    kind: ClassVar[str] = "kernel"
    mixable: ClassVar[bool] = True
    common_start: ClassVar[bool] = True

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(sorted(self.kernels))

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.agents, self.kernels[self.layers[0]].shape[2], self.initial.shape[1]

    def start(self) -> Point:
        zeros = jnp.zeros(self._shape, self.initial.dtype)
        return Point(dict.fromkeys(self.layers, zeros))

    def readout(self, rows: Rows) -> Readout:
        per_agent = _point_axis(rows) == 0
        initial = _initial(self.initial, rows)
        blocks = {layer: kernel[rows] for layer, kernel in self.kernels.items()}
        pull = _scatter(rows, self._shape)

        def look(x: Point) -> tuple[Outputs, Callable[[Outputs], Vector]]:
            parts = [_applied(blocks[n], x.tree[n], per_agent=per_agent) for n in self.layers]
            everywhere = lambda cotangents: {layer: pull(cotangents) for layer in self.layers}
            return initial + sum(parts), lambda cotangents: Vector(everywhere(cotangents))

        return look

    def displacement(self, x: Point) -> Vector:
        return Vector(x.tree)

    def dot(self, x: Vector, y: Vector) -> Float[Array, "layers agents"]:
        return jnp.stack([jnp.sum(x.tree[n] * self._moved(n, y), axis=(1, 2)) for n in self.layers])

    def spread(self, x: Vector) -> tuple[Float[Array, "layers agents"], Float[Array, " agents"]]:
        return _spread(self, x)

    def gram(self, x: Vector) -> Float[Array, "layers agents agents"]:
        return jnp.stack(
            [
                jnp.einsum("ank,bnk->ab", x.tree[n], self._moved(n, x), precision=EXACT)
                for n in self.layers
            ]
        )

    def square_norms(self, x: Point) -> Float[Array, "layers agents"]:
        cross = [jnp.sum(x.tree[n] * self.along_origin[n][None], axis=(1, 2)) for n in self.layers]
        origin = jnp.stack([self.origin_norms[n] for n in self.layers])
        moved = self.displacement(x)
        return origin[:, None] + 2 * jnp.stack(cross) + self.dot(moved, moved)

    def _moved(self, layer: str, x: Vector) -> Outputs:
        """K_l c_l, inner products with all of the basis."""
        kernel = self.kernels[layer]
        gram = kernel[: kernel.shape[2]] if self.grams is None else self.grams[layer]
        return _applied(gram, x.tree[layer])


class TeamSpace(eqx.Module):
    """Agents with networks of different architectures: a vector holds one tree per architecture.

    Its leaves have as leading axis the agents of that architecture only, so nothing can be
    averaged across agents; they meet in their outputs alone.
    """

    parts: tuple[NetworkSpace | TangentSpace, ...]
    members: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    """per architecture, its agents"""
    mixable: ClassVar[bool] = False

    @property
    def kind(self) -> str:
        return self.parts[0].kind

    @property
    def common_start(self) -> bool:
        return all(part.common_start for part in self.parts)

    @property
    def agents(self) -> int:
        return sum(map(len, self.members))

    @property
    def layers(self) -> tuple[str, ...]:
        return ("all",)

    def start(self) -> Point:
        return Point(tuple(part.start().tree for part in self.parts))

    def readout(self, rows: Rows) -> Readout:
        own = lambda team: rows if _point_axis(rows) is None else rows[jnp.array(team)]
        looks = [
            part.readout(own(team)) for part, team in zip(self.parts, self.members, strict=True)
        ]
        widest = max(self.seen)

        def look(x: Point) -> tuple[Outputs, Callable[[Outputs], Vector]]:
            seen = [each(Point(tree)) for each, tree in zip(looks, x.tree, strict=True)]

            def pull(cotangents: Outputs) -> Vector:
                teams = zip(seen, self.members, strict=True)
                return Vector(
                    tuple(
                        back(cotangents[jnp.array(team), :, : outputs.shape[2]]).tree
                        for (outputs, back), team in teams
                    )
                )

            return self._in_order([_wider(outputs, widest) for outputs, _ in seen]), pull

        return look

    @property
    def seen(self) -> tuple[int, ...]:
        """How many numbers each architecture shows of a point; fewer are filled up with zeros."""
        shapes = [
            jax.eval_shape(lambda part=part: part.readout(slice(1))(part.start())[0])
            for part in self.parts
        ]
        return tuple(each.shape[2] for each in shapes)

    def displacement(self, x: Point) -> Vector:
        trees = zip(self.parts, x.tree, strict=True)
        return Vector(tuple(part.displacement(Point(tree)).tree for part, tree in trees))

    def parameters(self, x: Point) -> Vector:
        trees = zip(self.parts, x.tree, strict=True)
        return Vector(tuple(part.parameters(Point(tree)).tree for part, tree in trees))

    def dot(self, x: Vector, y: Vector) -> Float[Array, "layers agents"]:
        triples = zip(self.parts, x.tree, y.tree, strict=True)
        sums = [part.dot(Vector(a), Vector(b)).sum(axis=0) for part, a, b in triples]
        return self._in_order(sums)[None]

    def spread(self, x: Vector) -> tuple[Float[Array, "layers agents"], Float[Array, " agents"]]:
        return _spread(self, x)

    def _in_order(self, by_team: list[Array]) -> Array:
        """Values with a leading axis over each team, as one with an axis over all agents."""
        order = jnp.argsort(jnp.array([agent for team in self.members for agent in team]))
        return jnp.concatenate(by_team)[order]


def _wider(outputs: Outputs, width: int) -> Float[Array, "agents rows width"]:
    return jnp.pad(outputs, ((0, 0), (0, 0), (0, width - outputs.shape[2])))


def _initial(initial: Float[Array, "points outputs"], rows: Rows) -> Array:
    """f(theta_0) at the rows, with an axis for agents."""
    return initial[rows] if _point_axis(rows) == 0 else initial[rows][None]


def _scatter(rows: Rows, shape: tuple[int, int, int]) -> Callable[[Outputs], Array]:
    """Cotangents at rows -> coefficients (agents, train, outputs)."""
    if _point_axis(rows) is None:
        return lambda seen: jnp.zeros(shape, seen.dtype).at[:, rows].add(seen)
    if rows.shape[1] > SPREAD_UP_TO:
        agents = jnp.arange(shape[0])[:, None]
        return lambda seen: jnp.zeros(shape, seen.dtype).at[agents, rows].add(seen)
    here = [
        rows[:, b, None, None] == jnp.arange(shape[1])[None, :, None] for b in range(rows.shape[1])
    ]
    return lambda seen: sum(jnp.where(at, seen[:, b, None], 0) for b, at in enumerate(here))


def _point_axis(rows: Rows) -> int | None:
    """The agent axis of the points at these rows, if each agent has its own."""
    return None if isinstance(rows, slice) or rows.ndim == 1 else 0


def _applied(kernel: Array, coefficients: Array, *, per_agent: bool = False) -> Outputs:
    """K c for every agent, with one kernel block for all or one per agent, in K's precision."""
    batch, agents = "a" if per_agent else "", len(coefficients)
    seen = coefficients.astype(kernel.dtype)
    if kernel.ndim - per_agent == 2:
        product = jnp.einsum(f"{batch}bn,ank->abk", kernel, seen, precision=EXACT)
        return product.astype(coefficients.dtype)
    *rows, outputs, train, _ = kernel.shape
    matrix = kernel.reshape(*rows[:-1], rows[-1] * outputs, train * outputs)
    flat = seen.reshape(agents, train * outputs)
    product = jnp.einsum(f"{batch}rc,ac->ra", matrix, flat, precision=EXACT)
    return product.T.reshape(agents, rows[-1], outputs).astype(coefficients.dtype)


def _own(outputs: Outputs, rows: Int[Array, "agents own"]) -> Float[Array, "agents own outputs"]:
    """Each agent's outputs at its own rows."""
    return jnp.take_along_axis(outputs, rows[..., None], axis=1)


def _repeated(tree: PyTree, agents: int) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (agents, *leaf.shape)), tree)


def _layer_dot(x: Vector, y: Vector) -> Float[Array, "layers agents"]:
    products = [
        jnp.sum(a * b, axis=tuple(range(1, a.ndim)))
        for a, b in zip(jax.tree.leaves(x.tree), jax.tree.leaves(y.tree), strict=True)
    ]
    return _summed_by_layer(layer_names(x.tree), products)


def _layer_gram(x: Vector) -> Float[Array, "layers agents agents"]:
    flat = [leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(x.tree)]
    products = [jnp.matmul(leaf, leaf.T, precision=EXACT) for leaf in flat]
    return _summed_by_layer(layer_names(x.tree), products)


def _summed_by_layer(names: list[str], products: list[Array]) -> Float[Array, "layers ..."]:
    return jnp.stack(
        [
            sum(product for name, product in zip(names, products, strict=True) if name == layer)
            for layer in dict.fromkeys(names)
        ]
    )
