"""Programs: how points are prepared, and how two prepared sets meet in a tile of the kernel.

    structured   prepare: activations and signals at the taps      meet: the forms' rules
    jacobian     prepare: the rows of J, by reverse mode           meet: their Gram
    products     prepare: nothing, the points themselves           meet: J (J'^T e), by vjp and jvp

Three independent ways to the same numbers, for any `apply(params, inputs)`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ntkdyn.kernels.empirical import jacobian
from ntkdyn.kernels.forms import Form, Parts, contract, multiplications
from ntkdyn.kernels.pushing import pushing
from ntkdyn.kernels.structure import (
    Jacobian,
    Structure,
    distinct_layers,
    layer_names,
    structure,
)
from ntkdyn.kernels.walk import Apply


class Program(NamedTuple):
    """Two pure functions; what `prepare` returns has the points on the first axis of each leaf."""

    prepare: Callable[[PyTree, PyTree], PyTree]
    """(params, points) -> prepared"""
    meet: Callable[[PyTree, PyTree, PyTree], Parts]
    """(params, prepared, prepared) -> the tile, layer by layer or as "all" """
    alone: Callable[[PyTree, PyTree], Parts] | None = None
    """(params, prepared) -> the tile of a block with itself, where that is another matter"""


class Share(NamedTuple):
    """Some of a structured Jacobian."""

    parts: tuple[int, ...]
    """the numbers of the taps, then of the Jacobians"""
    outputs: tuple[int, int] | None = None
    """from the first up to the last, that one excluded; None: all"""


class Shape(NamedTuple):
    """What is asked of a kernel."""

    form: Form
    output: int | None
    """the one output that is looked at; None: all"""
    by_layer: bool
    accumulate: str | None = None
    """the dtype that activations and signals are cast to before they meet; None: their own"""
    share: Share | None = None
    """what of the Jacobian counts; None: all"""


@functools.lru_cache(maxsize=64)
def program(method: str, apply: Apply, shape: Shape) -> Program:
    """The program of that method, compiled once for equal arguments."""
    if shape.output is not None:
        apply = functools.partial(_one_output, apply, shape.output)
    prepare, meet = METHODS[method]
    return Program(
        jax.jit(functools.partial(prepare, apply, shape)),
        jax.jit(functools.partial(meet, apply, shape)),
    )


def cost(method: str, apply: Apply, shape: Shape, params: PyTree, points: PyTree) -> Cost:
    """What the method takes, from the programs as they would be compiled for a few points."""
    form = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    leaves, tree = jax.tree.flatten(jax.tree.map(form, (params, points)))
    return _cost(method, apply, shape, tuple(leaves), tree)


@functools.lru_cache(maxsize=256)
def _cost(method: str, apply: Apply, shape: Shape, leaves: tuple, tree: Any) -> Cost:
    params, points = jax.tree.unflatten(tree, leaves)
    count = jax.tree.leaves(points)[0].shape[0]
    chosen = program(method, apply, shape)
    held = jax.eval_shape(chosen.prepare, params, points)
    if method == "products":
        pair = _operations(chosen.meet.lower(params, held, held)) / count
        return Cost(0.0, pair, size_of(held) / count)
    own = _operations(chosen.prepare.lower(params, points)) / count
    pair = 2 * multiplications(held, held, shape.form) / count**2
    return Cost(own, pair, size_of(held) / count)


def _operations(lowered: jax.stages.Lowered) -> float:
    """Floating-point operations as XLA counts them; it says nothing of a program without any."""
    return (lowered.cost_analysis() or {}).get("flops", 0.0)


class Cost(NamedTuple):
    """Floating-point operations, and bytes that are held between tiles."""

    point: float
    """operations to prepare a point"""
    pair: float
    """operations for a pair of points to meet"""
    held: float
    """bytes per prepared point"""


def size_of(tree: PyTree) -> int:
    """Bytes of all arrays of a tree, or of what has their shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _one_output(apply: Apply, output: int, params: PyTree, inputs: Array) -> Array:
    return apply(params, inputs)[:, output : output + 1]


# --- structured -------------------------------------------------------------------------------


def _structure(apply: Apply, shape: Shape, params: PyTree, points: Array) -> Structure:
    outputs = shape.share.outputs if shape.share else None
    whole = structure(apply, params, points, summed=shape.form == "trace", outputs=outputs)
    return whole.select(shape.share.parts) if shape.share else whole


def halves(held: Structure, form: Form) -> list[list[Share]]:
    """Ways to part the Jacobian into two shares of about equal size that add up to the kernel.

    They differ in their layers or, in sums over outputs, in their outputs. What is summed over
    outputs already counts among the first ones.
    """
    ways = [_by_part(held), _by_output(held) if form == "trace" else []]
    return [way for way in ways if len(way) == 2]


def _by_part(held: Structure) -> list[Share]:
    sizes = np.array([size_of(part) for part in (*held.taps, *held.jacobians)])
    ends = np.cumsum(sizes)
    second = ends - sizes / 2 > ends[-1] / 2
    runs = [tuple(np.flatnonzero(belongs).tolist()) for belongs in (~second, second)]
    return [Share(run) for run in runs if run]


def _by_output(held: Structure) -> list[Share]:
    outputs = max(held.outputs)
    each = tuple(part for part, many in enumerate(held.outputs) if many == outputs)
    cuts = [
        [Share(tuple(range(len(held.outputs))), (0, cut)), Share(each, (cut, outputs))]
        for cut in range(1, outputs)
    ]
    return min(cuts, key=lambda way: max(_size(held, share) for share in way), default=[])


def _size(held: Structure, share: Share) -> float:
    """Bytes of what a share holds."""
    outputs = max(held.outputs)
    part = (share.outputs[1] - share.outputs[0]) / outputs if share.outputs else 1
    size = 0.0
    for number in share.parts:
        chosen = held.select([number])
        signals = [*(tap.signals for tap in chosen.taps), *(one.rows for one in chosen.jacobians)]
        whole = held.outputs[number] == 1 < outputs
        size += size_of(chosen) - (0 if whole else 1 - part) * size_of(signals)
    return size


def _contract(
    apply: Apply, shape: Shape, params: PyTree, left: Structure, right: Structure
) -> Parts:
    if shape.accumulate:
        cast = lambda leaf: leaf.astype(shape.accumulate)
        left, right = jax.tree.map(cast, (left, right))
    return contract(left, right, shape.form, by_layer=shape.by_layer)


# --- Jacobian contraction ---------------------------------------------------------------------


def _jacobian(apply: Apply, shape: Shape, params: PyTree, points: Array) -> Structure:
    """Every parameter's rows, point by point."""
    rows = jacobian(apply, params, points)
    return Structure([], list(map(Jacobian, layer_names(params), rows)))


# --- products with the Jacobian ---------------------------------------------------------------


def _points(apply: Apply, shape: Shape, params: PyTree, points: Array) -> Array:
    return points


def _products(apply: Apply, shape: Shape, params: PyTree, left: Array, right: Array) -> Parts:
    """Theta[:, :, m, j] = J(left) (J(right)^T e_mj), one right point at a time."""
    names = layer_names(params)
    layers = distinct_layers(params) if shape.by_layer else ("all",)

    def column(point: Array) -> Parts:
        values, pull = jax.vjp(lambda p: apply(p, point[None])[0], params)
        (gradients,) = jax.vmap(pull)(jnp.eye(values.size, dtype=values.dtype))
        return {layer: pushed(_of_layer(gradients, names, layer)) for layer in layers}

    def pushed(gradients: PyTree) -> Array:
        products = jax.vmap(pushing(lambda p: apply(p, left), params), out_axes=2)(gradients)
        return jnp.trace(products, axis1=1, axis2=2) if shape.form == "trace" else products

    parts = jax.lax.map(column, right)
    return {
        layer: jnp.moveaxis(part, 0, -1 if part.ndim == 2 else 2) for layer, part in parts.items()
    }


def _of_layer(gradients: PyTree, names: list[str], layer: str) -> PyTree:
    """The gradients with all other layers' zeroed."""
    leaves, tree = jax.tree.flatten(gradients)
    kept = [
        leaf if layer in ("all", name) else jnp.zeros_like(leaf)
        for name, leaf in zip(names, leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, kept)


METHODS: dict[str, tuple[Callable[..., Any], Callable[..., Parts]]] = {
    "structured": (_structure, _contract),
    "jacobian": (_jacobian, _contract),
    "products": (_points, _products),
}
