"""Rules: what one operation of a network's program does to a parameter, or to a tap.

A parameter that is only scaled, transposed, reshaped or broadcast stays a *view*. Where it meets
data, by a product, a convolution, or in a sum, a *pending* tap begins; a bias may still be added
to it before it is placed (`ntkdyn.kernels.walk`). A rule that returns None does not apply.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from math import prod
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn
from jaxtyping import Array, ArrayLike

from ntkdyn.precision import EXACT


class View(NamedTuple):
    """A value that is one parameter, scaled and rearranged."""

    leaf: int
    scale: Any
    varies: tuple[bool, ...]
    """per axis: whether the parameter runs along it, or is broadcast"""


class Source(NamedTuple):
    """A parameter that enters at a tap, and the activations it meets there."""

    leaf: int
    operand: Array
    """(places, groups, channels)"""


class Pending(NamedTuple):
    """A value that is a tap still to be placed: a bias may be added to it first."""

    sources: tuple[Source, ...]
    roles: tuple[str, ...]
    """per axis: "t0", "t1", ... for places, "o0", ... for channels out, "" for axes of size 1"""
    read: int | None = None
    """the number of the reading that a dense layer met here"""


class Value(NamedTuple):
    """A value of the program, and what is known of where it comes from."""

    array: Any
    view: View | None = None
    pending: Pending | None = None
    constant: bool = False
    of: int | None = None
    """the tap that this is a function of entry by entry, whatever its shape"""


@runtime_checkable
class Walker(Protocol):
    """What a rule may ask of the walk."""

    def placed(self, value: Value) -> Value:
        """The value with its tap, if one is pending, put in place."""
        ...

    def read(self, value: Value) -> tuple[ArrayLike, int | None]:
        """What a dense layer reads, and the number of that reading if it is of one tap."""
        ...


def bind(eqn: JaxprEqn, arrays: list) -> list:
    """What the operation makes of these arrays."""
    outputs = eqn.primitive.bind(*arrays, **eqn.primitive.get_bind_params(eqn.params))
    return outputs if eqn.primitive.multiple_results else [outputs]


def by_role(signals: Array, roles: tuple[str, ...]) -> Array:
    """Signals (outputs, *tap) with the tap's axes gathered into places and channels."""
    places = sorted((role, axis) for axis, role in enumerate(roles) if role[:1] == "t")
    channels = sorted((role, axis) for axis, role in enumerate(roles) if role[:1] == "o")
    rest = [axis for axis, role in enumerate(roles) if not role]
    order = [axis for _, axis in places] + [axis for _, axis in channels] + rest
    count = prod(signals.shape[1 + axis] for _, axis in places)
    moved = signals.transpose(0, *(1 + axis for axis in order))
    return moved.reshape(signals.shape[0], count, -1)


def _lone(values: list[Value]) -> int | None:
    """The index of the one tracked value, if there is exactly one."""
    tracked = [i for i, value in enumerate(values) if value.view or value.pending]
    return tracked[0] if len(tracked) == 1 else None


def _rearranged(walk: Walker, eqn: JaxprEqn, values: list[Value]) -> Value | None:
    """Transpose, squeeze, reshape by axes of size 1, broadcast, change of float type."""
    value = values[0]
    (array,) = bind(eqn, [each.array for each in values])
    labels = value.view.varies if value.view else value.pending.roles
    moved = _LABELS[eqn.primitive.name](eqn.params, value.array.shape, array.shape, labels)
    if moved is None:
        return None
    if value.view:
        return Value(array, view=value.view._replace(varies=moved))
    if array.dtype != value.array.dtype or False in moved:
        return None
    return Value(array, pending=value.pending._replace(roles=moved))


def _transposed(params: dict, before: tuple, after: tuple, labels: tuple) -> tuple:
    return tuple(labels[axis] for axis in params["permutation"])


def _broadcast(params: dict, before: tuple, after: tuple, labels: tuple) -> tuple:
    """New axes do not vary; a new axis of size 1 belongs to no parameter."""
    unit = True if all(isinstance(label, bool) for label in labels) else ""
    moved = [unit if size == 1 else False for size in after]
    for axis, target in enumerate(params["broadcast_dimensions"]):
        if before[axis] == after[target]:
            moved[target] = labels[axis]
    return tuple(moved)


def _reshaped(params: dict, before: tuple, after: tuple, labels: tuple) -> tuple | None:
    """Any reshape of a whole parameter; otherwise only axes of size 1 may come or go."""
    if all(label is True for label in labels):
        return (True,) * len(after)
    kept = [(size, label) for size, label in zip(before, labels, strict=True) if size != 1]
    if [size for size, _ in kept] != [size for size in after if size != 1]:
        return None
    unit = True if all(isinstance(label, bool) for label in labels) else ""
    remaining = iter(label for _, label in kept)
    return tuple(unit if size == 1 else next(remaining) for size in after)


def _same(params: dict, before: tuple, after: tuple, labels: tuple) -> tuple:
    return labels


_LABELS = {
    "transpose": _transposed,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshaped,
    "squeeze": _reshaped,
    "convert_element_type": _same,
    "copy": _same,
}


def _product(walk: Walker, eqn: JaxprEqn, values: list[Value]) -> Value | None:
    """A constant factor scales; a parameter times data is a gain."""
    lone = _lone(values)
    if lone is None:
        return None
    tracked, other = values[lone], values[1 - lone]
    if other.constant and jnp.ndim(other.array) == 0:
        (array,) = bind(eqn, [value.array for value in values])
        return _scaled(tracked, array, partial(jnp.multiply, other.array))
    if tracked.view is None:
        return None
    (array,) = bind(eqn, [value.array for value in values])
    roles = _roles(tracked, array.shape)
    whole = jnp.broadcast_to(other.array, array.shape)
    operand = tracked.view.scale * by_role(whole[None], roles)[0]
    source = Source(tracked.view.leaf, operand[:, :, None])
    return Value(array, pending=Pending((source,), roles))


def _quotient(walk: Walker, eqn: JaxprEqn, values: list[Value]) -> Value | None:
    """A constant divisor scales."""
    if _lone(values) != 0 or not values[1].constant or jnp.ndim(values[1].array):
        return None
    (array,) = bind(eqn, [value.array for value in values])
    return _scaled(values[0], array, lambda a: a / values[1].array)


def _negative(walk: Walker, eqn: JaxprEqn, values: list[Value]) -> Value:
    return _scaled(values[0], *bind(eqn, [values[0].array]), jnp.negative)


def _scaled(value: Value, array: Array, factor: Callable[[Any], Any]) -> Value:
    """The tracked value after multiplication by a constant."""
    if value.view:
        return Value(array, view=value.view._replace(scale=factor(value.view.scale)))
    sources = tuple(s._replace(operand=factor(s.operand)) for s in value.pending.sources)
    return Value(array, pending=value.pending._replace(sources=sources))


def _sum(walk: Walker, eqn: JaxprEqn, values: list[Value]) -> Value | None:
    """A parameter added to data is a bias; it joins a tap that is pending there."""
    views = [i for i, value in enumerate(values) if value.view]
    if len(views) != 1:
        return None
    bias, other = values[views[0]], values[1 - views[0]]
    if eqn.primitive.name == "sub" and views[0] == 0:
        return None
    scale = -bias.view.scale if eqn.primitive.name == "sub" else bias.view.scale
    shape = jnp.broadcast_shapes(jnp.shape(bias.array), jnp.shape(other.array))
    roles = _roles(bias, shape)
    joins = (
        other.pending is not None
        and other.array.shape == shape
        and _agree(roles, other.pending.roles, shape)
    )
    if not joins:
        other = walk.placed(other)
    ordered = [bias.array, other.array] if views[0] == 0 else [other.array, bias.array]
    (array,) = bind(eqn, ordered)
    places = prod(size for size, role in zip(shape, roles, strict=True) if role[:1] == "t")
    source = Source(bias.view.leaf, jnp.full((places, 1, 1), scale, array.dtype))
    if joins:
        return Value(
            array, pending=other.pending._replace(sources=(*other.pending.sources, source))
        )
    return Value(array, pending=Pending((source,), roles))


def _agree(bias: tuple[str, ...], tap: tuple[str, ...], shape: tuple[int, ...]) -> bool:
    """Whether both read the same axes as places, and the same as channels."""
    return all(
        size == 1 or one[:1] == other[:1] for size, one, other in zip(shape, bias, tap, strict=True)
    )


def _roles(parameter: Value, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Axes of `shape` along which the parameter varies are channels, the others places."""
    sizes = jnp.shape(parameter.array) or (1,) * len(shape)
    varies = parameter.view.varies or (True,) * len(shape)
    channels = [
        along and own == size for along, own, size in zip(varies, sizes, shape, strict=True)
    ]
    return tuple(f"{'o' if channel else 't'}{axis:02d}" for axis, channel in enumerate(channels))


def _dense(walk: Walker, eqn: JaxprEqn, values: list[Value]) -> Value | None:
    """data x weight, contracted over any axes: activations are the data."""
    lone = _lone(values)
    contracted, batched = eqn.params["dimension_numbers"]
    if lone is None or any(batched) or values[lone].view is None:
        return None
    weight = values[lone]
    if not all(weight.view.varies):
        return None
    data, number = walk.read(values[1 - lone])
    over = contracted[1 - lone]
    places = [axis for axis in range(data.ndim) if axis not in over]
    count = prod(data.shape[axis] for axis in places)
    operand = data.transpose(*places, *over).reshape(count, 1, -1) * weight.view.scale
    (array,) = bind(eqn, [weight.array, data] if lone == 0 else [data, weight.array])
    t = tuple(f"t{axis:02d}" for axis in range(len(places)))
    o = tuple(f"o{axis:02d}" for axis in range(weight.array.ndim - len(over)))
    source = Source(weight.view.leaf, operand)
    return Value(array, pending=Pending((source,), o + t if lone == 0 else t + o, number))


def _convolution(walk: Walker, eqn: JaxprEqn, values: list[Value]) -> Value | None:
    """data * filter is patches x filter, group by group: activations are the patches.

    It is computed that way too: the patches are needed anyhow, and matrix products are faster.
    """
    data, weight = values
    params = eqn.params
    whole = weight.view is not None and all(weight.view.varies)
    if _lone(values) != 1 or not whole or params["batch_group_count"] != 1:
        return None
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    (shape,) = (variable.aval.shape for variable in eqn.outvars)
    sizes = [shape[axis] for axis in (numbers.out_spec[0], *numbers.out_spec[2:])]
    patches = _patches(data.array, weight.array.shape, sizes[1:], params)
    operand = patches.reshape(prod(sizes), -1, groups, patches.shape[-1] // groups)
    operand = operand.transpose(0, 2, 1, 3).reshape(prod(sizes), groups, -1)
    out, into, *spatial = numbers.rhs_spec
    filters = weight.array.transpose(*spatial, into, out)
    filters = filters.reshape(operand.shape[-1], groups, -1)
    product = jnp.einsum("tgc,cgo->tgo", operand, filters, precision=EXACT)
    order = [numbers.out_spec[0], *numbers.out_spec[2:], numbers.out_spec[1]]
    array = product.reshape(*sizes, -1).transpose([order.index(axis) for axis in range(len(order))])
    roles = [""] * array.ndim
    for number, axis in enumerate(order[:-1]):
        roles[axis] = f"t{number:02d}"
    roles[order[-1]] = "o00"
    source = Source(weight.view.leaf, operand * weight.view.scale)
    return Value(array, pending=Pending((source,), tuple(roles)))


def _patches(data: Array, filters: tuple[int, ...], sizes: list[int], params: dict) -> Array:
    """(batch, *places, *filter, channels): what the filter sees at each place."""
    numbers = params["dimension_numbers"]
    batch, channels, *spatial = numbers.lhs_spec
    data = data.transpose(batch, *spatial, channels)
    gaps = [
        (low, high, dilation - 1)
        for (low, high), dilation in zip(params["padding"], params["lhs_dilation"], strict=True)
    ]
    data = jax.lax.pad(data, jnp.zeros((), data.dtype), [(0, 0, 0), *gaps, (0, 0, 0)])
    windows = [filters[axis] for axis in numbers.rhs_spec[2:]]
    strides = params["window_strides"]
    seen = []
    for offset in product(*map(range, windows)):
        first = [i * step for i, step in zip(offset, params["rhs_dilation"], strict=True)]
        last = [
            start + (size - 1) * stride + 1
            for start, size, stride in zip(first, sizes, strides, strict=True)
        ]
        starts, stops = [0, *first, 0], [data.shape[0], *last, data.shape[-1]]
        seen.append(jax.lax.slice(data, starts, stops, [1, *strides, 1]))
    return jnp.stack(seen, axis=-2)


RULES: dict[str, Callable[[Walker, JaxprEqn, list[Value]], Value | None]] = {
    **dict.fromkeys(_LABELS, _rearranged),
    "mul": _product,
    "div": _quotient,
    "neg": _negative,
    "add": _sum,
    "sub": _sum,
    "dot_general": _dense,
    "conv_general_dilated": _convolution,
}
