"""Linearization: a problem's networks, linear in their parameters around a point of them.

Around the start, coefficients on the training points say all: theta_i = theta_0 + J^T c_i. A
linearization that follows a run goes on at another anchor a: outputs become
f(a) + J_a (theta_i - a), gradients J_a^T u, and what the method remembers by then (iterates,
momenta, trackers, checkpoints) is no combination of the new gradients. So every such vector of
every agent becomes a direction d of the parameters, by its mean over the agents and each agent's
deviation from that, and with

    theta_i = theta_0 + J_a^T c_i + sum_b M_ib d_b

the state goes on as it is: c = 0, and M picks each vector's own directions. That is a `KernelSpace`
with the d_b as more columns, for which J_a J_a^T, J_a d_b and d_b . d_b' are enough. Every vector
is counted from theta_0, so that points and displacements need not be told apart.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from ntkdyn.engine import POINTS_AT_ONCE
from ntkdyn.errors import InputError
from ntkdyn.kernels import empirical
from ntkdyn.kernels.structure import distinct_layers, layer_names
from ntkdyn.methods.updates import State
from ntkdyn.precision import EXACT
from ntkdyn.problems import Problem, only_layer
from ntkdyn.spaces import KernelSpace, LayeredKernelSpace, TangentSpace
from ntkdyn.vectors import ByAgent

ByLayer = dict[str, Array]

SINGLE_FROM = 2**29
"""Bytes of a kernel from which on those of later anchors are kept in single precision: half the
memory and the time, and what it leaves out is far below what linearizing does."""

WHOLE = "all"
"""what stands for the layer where they are not told apart"""


class Linearization(eqx.Module):
    """A problem's networks around an anchor, and what coefficients in its kernel space stand for.

    `Linearization.of(problem, view)` is that at the start, with the coefficients of
    `problem.kernel_space(view=view)`; `onward` leads to the next.
    """

    tangent: TangentSpace
    columns: int = eqx.field(static=True)
    """how many points gradients come from"""
    view: str = eqx.field(static=True)
    """as in `Problem.kernel_space`"""
    directions: PyTree[Float[Array, "directions ..."]] | None = None
    """d_b, and zeros up to a multiple of the outputs"""
    kept: str = eqx.field(static=True, default="float64")
    """the precision of the kernel, and of products with it"""

    @staticmethod
    def of(problem: Problem, view: str, *, precisely: bool = True) -> Linearization:
        """At the start; where it need not be precise, large kernels are in single precision."""
        columns, (points, outputs) = problem.columns(view), problem.initial.shape[-2:]
        single = not precisely and 8 * points * columns * outputs**2 >= SINGLE_FROM
        kept = "float32" if single else "float64"
        return Linearization(problem.tangent_space(view), columns, view, kept=kept)

    @eqx.filter_jit
    def lift(self, x: ByAgent) -> ByAgent:
        """Every agent's theta - theta_0, from its coefficients."""
        return type(x)(jax.vmap(self._lifted)(x.tree))

    @eqx.filter_jit
    def outputs(self, x: ByAgent) -> Float[Array, "agents points outputs"]:
        """What the real networks make of all points, agent by agent."""
        return jax.lax.map(lambda own: _real_outputs(self.tangent, self._lifted(own)), x.tree)

    def onward(
        self, method: str, state: State, at: Linearization | None = None
    ) -> tuple[Linearization, State]:
        """That at the mean of the iterates, or where another is, and the state in its space."""
        held = _held(method, state)
        directions, mean = self._directions(held, state.x)
        tangent = dataclasses.replace(self.tangent, anchor=at.tangent.anchor if at else mean)
        onward = dataclasses.replace(self, tangent=tangent, directions=directions)
        count = len(jax.tree.leaves(held)[0])
        agents = self.tangent.agents
        mean = jnp.broadcast_to(jnp.arange(count)[:, None] * (agents + 1), (count, agents))
        own = mean + 1 + jnp.arange(agents)[None]
        return onward, _with_held(state, onward._picked(mean, own))

    def forced(
        self, defects: PyTree, method: str, state: State
    ) -> tuple[Linearization, PyTree, State]:
        """With gradients (vectors, agents, ...) as directions too; they and the state, in it."""
        outputs, agents, known = self._outputs, self.tangent.agents, self.extra
        count = len(jax.tree.leaves(defects)[0])
        directions = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), defects)
        if self.directions is not None:
            join = lambda *leaves: jnp.concatenate(leaves)
            directions = jax.tree.map(join, self.directions, directions)
        filled = jax.tree.map(lambda leaf: _filled(leaf, outputs), directions)
        onward = dataclasses.replace(self, directions=filled)
        places = known * outputs + jnp.arange(count * agents).reshape(count, agents)
        none = ((0, 0), (0, 0), (0, onward.extra - known), (0, 0))
        held = jax.tree.map(lambda leaf: jnp.pad(leaf, none), _held(method, state))
        return onward, onward._picked(places), _with_held(state, held)

    def lifted(self, method: str, state: State) -> State:
        """The state with every vector in it as `lift` has it."""
        return _with_held(state, self._all_lifted(_held(method, state)))

    @eqx.filter_jit
    def _all_lifted(self, held: PyTree) -> PyTree:
        return jax.vmap(jax.vmap(self._lifted))(held)

    @eqx.filter_jit
    def _directions(self, held: PyTree, x: ByAgent) -> tuple[PyTree, PyTree]:
        """The directions of the vectors (vectors, agents, ...), and the mean of x as parameters."""
        lifted = self._all_lifted(held)

        def around_mean(leaf: Array) -> Array:
            mean = jnp.mean(leaf, axis=1, keepdims=True)
            flat = jnp.concatenate([mean, leaf - mean], axis=1).reshape(-1, *leaf.shape[2:])
            return _filled(flat, self._outputs)

        mean = jax.tree.map(lambda leaf: leaf.mean(axis=0), self.lift(x).tree)
        anchor = jax.tree.map(jnp.add, self.tangent.origin, mean)
        return jax.tree.map(around_mean, lifted), anchor

    def _picked(self, *places: Int[Array, "vectors agents"]) -> PyTree:
        """Coefficients (vectors, agents, basis, outputs) of sums of directions, each its own."""
        vectors, agents = places[0].shape
        size = (self.columns + self.extra) * self._outputs
        flat = jnp.zeros((vectors, agents, size))
        for place in places:
            at = jnp.arange(vectors)[:, None], jnp.arange(agents)[None]
            flat = flat.at[(*at, self.columns * self._outputs + place)].set(1)
        picked = flat.reshape(vectors, agents, -1, self._outputs)
        return picked if self.view != "layers" else dict.fromkeys(self._layers, picked)

    def blocks(self) -> ByLayer:
        """J_l J_l^T of all points with those that gradients come from: the anchor's own."""
        at, inputs = _kept((self.tangent.at, self.tangent.inputs), self.kept)
        blocks = empirical.layer_ntk(self.tangent.apply, at, inputs, inputs[: self.columns])
        return _kept(blocks, self.kept)

    def whole(self) -> ByLayer:
        """The sum of `blocks` as the only one, for spaces that tell no layers apart."""
        return {WHOLE: added(self.blocks())}

    def space(self, known: ByLayer | None = None) -> KernelSpace | LayeredKernelSpace:
        """The kernel space with the directions of `onward` or `forced`; may compute its blocks.

        Where `known` is that of `whole`, the space does not tell layers apart either.
        """
        agents, blocks = self.tangent.agents, self.blocks() if known is None else dict(known)
        if self.view == "features":
            blocks = {WHOLE: added(blocks)}
        initial, along, inner, of_origin = self._seen(tuple(blocks))
        along, inner = _kept((along, inner), self.kept)
        beside = lambda block, layer: jnp.concatenate([block, along[layer][: len(block)]], axis=2)
        if self.view == "layers":
            blocks = {layer: beside(block, layer) for layer, block in blocks.items()}
            grams = {n: _squared(block[: self.columns], inner[n]) for n, block in blocks.items()}
            return LayeredKernelSpace(blocks, initial, *of_origin, agents, grams)
        whole = jnp.concatenate([added(blocks), added(along)], axis=2)
        grams = {}
        for layer in tuple(blocks):  # of large ones there is no room for all, twice
            rows = beside(blocks.pop(layer)[: self.columns], layer)
            grams[layer] = _squared(rows, inner[layer])
        return KernelSpace(whole, initial, agents, grams, self.extra)

    @property
    def extra(self) -> int:
        """How many columns of the kernel the directions take, each with one for every output."""
        if self.directions is None:
            return 0
        return len(jax.tree.leaves(self.directions)[0]) // self._outputs

    @property
    def _outputs(self) -> int:
        tangent = self.tangent
        return jax.eval_shape(tangent.apply, tangent.origin, tangent.inputs[:1]).shape[1]

    @property
    def _layers(self) -> tuple[str, ...]:
        return distinct_layers(self.tangent.origin)

    def _lifted(self, coefficients: PyTree) -> PyTree:
        """One agent's theta - theta_0."""
        tangent, points = self.tangent, self.tangent.inputs[: self.columns]
        _, pull = jax.vjp(lambda params: tangent.apply(params, points), tangent.at)

        def combined(own: Float[Array, "basis outputs"]) -> PyTree:
            (pulled,) = pull(own[: self.columns])
            if self.directions is None:
                return pulled
            share = own[self.columns :].reshape(-1)
            along = lambda leaf: jnp.tensordot(share, leaf, 1, precision=EXACT)
            return jax.tree.map(jnp.add, pulled, jax.tree.map(along, self.directions))

        if self.view != "layers":
            return combined(coefficients)
        whole = {layer: jax.tree.leaves(combined(own)) for layer, own in coefficients.items()}
        names, tree = layer_names(tangent.origin), jax.tree.structure(tangent.origin)
        return tree.unflatten([whole[name][place] for place, name in enumerate(names)])

    @eqx.filter_jit
    def _seen(
        self, layers: tuple[str, ...]
    ) -> tuple[Array, ByLayer, ByLayer, tuple[ByLayer, ByLayer]]:
        """f(theta_0), J_l d at all points, d_l . d_l', and J_l theta_0 and |theta_0,l|^2."""
        tangent = self.tangent
        along = {layer: self._along(layer) for layer in layers}
        inner = _inner(self.directions, self.directions)
        if layers == (WHOLE,) and self.view != "layers":
            return tangent.initial(tangent.inputs), along, {WHOLE: sum(inner.values())}, ({}, {})
        origin = jax.tree.map(lambda leaf: leaf[None], tangent.origin)
        beside, own = _inner(self.directions, origin), _inner(origin, origin)
        points = tangent.inputs[: self.columns]
        of_origin = {
            layer: jnp.concatenate(
                [
                    tangent.push(only_layer(tangent.origin, layer), points),
                    beside[layer].reshape(-1, self._outputs),
                ]
            )
            for layer in layers
        }
        norms = {layer: each[0, 0] for layer, each in own.items()}
        return tangent.initial(tangent.inputs), along, inner, (of_origin, norms)

    def _along(self, layer: str) -> Float[Array, "points outputs extra outputs"]:
        tangent = self.tangent
        part = lambda tree: tree if layer == WHOLE else only_layer(tree, layer)
        push = lambda tree: tangent.push(part(tree), tangent.inputs)
        seen = jnp.moveaxis(jax.lax.map(push, self.directions), 0, -1)
        return seen.reshape(*seen.shape[:2], -1, self._outputs)


class Implicit(eqx.Module):
    """A `Linearization` whose kernel is never formed: vectors are displacements as they are."""

    tangent: TangentSpace

    @staticmethod
    def of(problem: Problem, view: str) -> Implicit:
        """At the start, in JAX's current precision."""
        return Implicit(problem.tangent_space(view))

    def lift(self, x: ByAgent) -> ByAgent:
        """Every agent's theta - theta_0: x itself."""
        return x

    @eqx.filter_jit
    def outputs(self, x: ByAgent) -> Float[Array, "agents points outputs"]:
        """What the real networks make of all points, agent by agent."""
        return jax.lax.map(lambda own: _real_outputs(self.tangent, own), x.tree)

    def onward(self, method: str, state: State) -> tuple[Implicit, State]:
        """That at the mean of the iterates, or at each agent's own, and the state as it is."""
        del method
        mean = lambda start, moved: start + moved.mean(axis=0)
        own = lambda start, moved: start[None] + moved
        there = mean if self.tangent.common_start else own
        anchor = jax.tree.map(there, self.tangent.origin, state.x.tree)
        return Implicit(dataclasses.replace(self.tangent, anchor=anchor)), state

    def forced(self, defects: PyTree, method: str, state: State) -> tuple[Implicit, PyTree, State]:
        """Itself, the gradients as they are, and the state as it is."""
        del method
        return self, defects, state

    def lifted(self, method: str, state: State) -> State:
        """The state as it is."""
        del method
        return state

    def space(self) -> TangentSpace:
        """The tangent space at the anchor."""
        return self.tangent


def _kept(arrays: PyTree, precision: str) -> PyTree:
    """The numbers with fractions among them, in this precision."""
    cast = lambda leaf: leaf.astype(precision) if eqx.is_inexact_array(leaf) else leaf
    return jax.tree.map(cast, arrays)


def added(blocks: ByLayer) -> Array:
    """Their sum, with as few of its size in between as there can be."""
    return functools.reduce(operator.add, blocks.values())


def _filled(leaf: Array, multiple: int) -> Array:
    """With zeros after it, as many as make its length a multiple."""
    return jnp.concatenate([leaf, jnp.zeros((-len(leaf) % multiple, *leaf.shape[1:]))])


def _real_outputs(tangent: TangentSpace, moved: PyTree) -> Float[Array, "points outputs"]:
    """What one agent's network makes of all points, so many at once."""
    theta, points = jax.tree.map(jnp.add, tangent.origin, moved), tangent.inputs
    parts = range(0, len(points), POINTS_AT_ONCE)
    seen = [tangent.apply(theta, points[i : i + POINTS_AT_ONCE]) for i in parts]
    return jnp.concatenate(seen)


def _inner(left: PyTree, right: PyTree) -> ByLayer:
    """Inner products of every two directions, layer by layer."""
    found: ByLayer = {}
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    for name, (a, b) in zip(layer_names(left), pairs, strict=True):
        product = jnp.matmul(a.reshape(len(a), -1), b.reshape(len(b), -1).T, precision=EXACT)
        found[name] = found[name] + product if name in found else product
    return found


def _squared(
    rows: Float[Array, "columns outputs basis outputs"],
    inner: Float[Array, "directions directions"],
) -> Float[Array, "basis outputs basis outputs"]:
    """Inner products of all of the basis, from those with the training points and the rest."""
    columns, outputs, basis, _ = rows.shape
    extra = basis - columns
    corner = inner.reshape(extra, outputs, extra, outputs)
    below = jnp.concatenate([rows[:, :, columns:].transpose(2, 3, 0, 1), corner], axis=2)
    return jnp.concatenate([rows, below])


# --- vectors that a method remembers ------------------------------------------------------------


def _held(method: str, state: State) -> PyTree:
    """All of them, one above the other, (vectors, agents, ...); checkpoints count one by one."""
    parts, like = [], state.x.tree
    for each in jax.tree.leaves(state, is_leaf=_is_vector):
        if _alike(each, state.x):
            flat = lambda leaf, own: leaf.reshape(-1, *own.shape)
            parts.append(jax.tree.map(flat, each.tree, like))
        elif not _is_vector(each) and _shaped(each, jax.tree.leaves(like)[0]):
            raise InputError(
                f"{method}: cannot go on at another anchor, because it remembers an array of the "
                f"iterates' shape that is no Vector"
            )
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def _with_held(state: State, held: PyTree) -> State:
    """The state with other vectors in their places."""
    leaves, tree = jax.tree.flatten(state, is_leaf=_is_vector)
    begun = 0
    for place, each in enumerate(leaves):
        if _alike(each, state.x):
            stack = _stack(each, state.x)
            stop = begun + math.prod(stack)
            part = jax.tree.map(lambda leaf: leaf[begun:stop], held)  # noqa: B023
            whole = lambda leaf: leaf.reshape(*stack, *leaf.shape[1:])  # noqa: B023
            leaves[place] = type(each)(jax.tree.map(whole, part))
            begun = stop
    return tree.unflatten(leaves)


def _is_vector(each: Any) -> bool:
    return isinstance(each, ByAgent)


def _alike(each: Any, x: ByAgent) -> bool:
    """Whether it is a vector like x, or several of them stacked."""
    if not _is_vector(each) or jax.tree.structure(each.tree) != jax.tree.structure(x.tree):
        return False
    pairs = zip(jax.tree.leaves(each), jax.tree.leaves(x), strict=True)
    return all(_shaped(leaf, own) for leaf, own in pairs)


def _shaped(leaf: Any, own: Array) -> bool:
    return jnp.shape(leaf)[-own.ndim :] == own.shape


def _stack(each: ByAgent, x: ByAgent) -> tuple[int, ...]:
    """How many are stacked, along each axis before that of the agents."""
    leaf, own = jax.tree.leaves(each)[0], jax.tree.leaves(x)[0]
    return leaf.shape[: leaf.ndim - own.ndim]
