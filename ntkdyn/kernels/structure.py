"""The structure of a network's Jacobian, read from the network's own program.

Wherever a parameter meets data, the value z it contributes to is a *tap*. For one point:

    z[t, g, o] = sum_c a[t, g, c] W[g, c, o]

with t over places (pixels, tokens; a single one in an MLP), g over groups, c and o over channels
in and out of a group:

    dense                     one group
    convolution               one group, or as many as it has; a are the patches
    bias                      one group, one channel in, a = 1
    gain (element by element) a group for every channel, each with one channel in and one out

With the signals s[k, t, g, o] = d f_k / d z[t, g, o], back-propagated to the tap,

    d f_k / d W[g, c, o] = sum_t a[t, g, c] s[k, t, g, o]

so two small arrays, activations a and signals s, stand for a Jacobian that is never formed.
Where the readout is an affine map of h = phi(z), entry by entry, s[k] = phi'(z) r[k] with rows r
that all points share; sums over outputs see only phi'(z) |r[.]|, the signals of a single output.
The places are found by walking through the jaxpr of `apply` for a single point: a parameter that
is only scaled, transposed, reshaped or broadcast on its way to the data keeps its structure. A
parameter used twice, or in a way not listed here, is *unstructured*: its Jacobian is formed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from itertools import product
from math import prod
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal
from jaxtyping import Array, ArrayLike, Float, PyTree

Apply = Callable[[PyTree, Array], Array]
"""(params, inputs (points, *features)) -> outputs (points, outputs)"""


EXACT = jax.lax.Precision.HIGHEST
"""Kernels are never rounded to TF32 or bfloat16 on the way."""


class Factor(eqx.Module):
    """What one layer contributes at one tap."""

    layer: str = eqx.field(static=True)
    activations: Float[Array, "points places groups channels"]


class Tap(eqx.Module):
    """The signals that reach a tap, and the layers whose parameters enter there."""

    factors: list[Factor]
    signals: Float[Array, "points outputs places channels"]
    """channels out, those of a group together; one output may stand for the sum over all"""


class Jacobian(eqx.Module):
    """The Jacobian of one layer's unstructured parameters."""

    layer: str = eqx.field(static=True)
    rows: Float[Array, "points outputs parameters"]


class Structure(eqx.Module):
    """The whole Jacobian of a network at some points, in factored form."""

    taps: list[Tap]
    jacobians: list[Jacobian]

    @property
    def outputs(self) -> list[int]:
        """How many outputs each part has, the taps and then the Jacobians."""
        signals = [tap.signals.shape[1] for tap in self.taps]
        return [*signals, *(one.rows.shape[1] for one in self.jacobians)]

    def select(self, numbers: Collection[int]) -> Structure:
        """The taps, then the Jacobians, with these numbers."""
        first = len(self.taps)
        return Structure(
            [tap for i, tap in enumerate(self.taps) if i in numbers],
            [one for i, one in enumerate(self.jacobians, first) if i in numbers],
        )


def layer_names(params: PyTree) -> list[str]:
    """One name per leaf: the path to the module that holds it ("dense_1", "block_2/conv_1")."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    return ["/".join(_key(part) for part in (path[:-1] or path)) or "all" for path in paths]


def distinct_layers(params: PyTree) -> tuple[str, ...]:
    """The layers in their order, each once."""
    return tuple(dict.fromkeys(layer_names(params)))


def structure(
    apply: Apply,
    params: PyTree,
    inputs: Float[Array, points * features],
    *,
    summed: bool = False,
    outputs: tuple[int, int] | None = None,
) -> Structure:
    """Activations and signals at every tap of `apply(params, inputs)`, point by point.

    With `summed`, they serve sums over outputs only, and the outputs of the tap before an affine
    readout are summed already, all of them. Of all others, signals are those of the `outputs`
    from the first up to the last, the last excluded; None: all.
    """
    leaves = jax.tree.leaves(params)
    program = _Program(apply, params, inputs[0])
    factors = partial(program.factors, leaves, summed, slice(*outputs or (None,)))
    activations, signals, rows = jax.vmap(factors)(inputs)
    names = layer_names(params)
    taps = [
        Tap(
            [
                Factor(names[source.leaf], operand)
                for source, operand in zip(place.sources, operands, strict=True)
            ],
            signal,
        )
        for place, operands, signal in zip(program.places, activations, signals, strict=True)
    ]
    free = zip(program.unstructured, rows, strict=True)
    jacobians = [Jacobian(names[leaf], row) for leaf, row in free]
    return Structure(taps, jacobians)


def unstructured_layers(
    apply: Apply, params: PyTree, inputs: Float[Array, points * features]
) -> list[str]:
    """The layers of which some parameter has no structure that is known here."""
    names = layer_names(params)
    return sorted({names[leaf] for leaf in _Program(apply, params, inputs[0]).unstructured})


def _key(part: Any) -> str:
    for name in ("key", "name", "idx"):
        if hasattr(part, name):
            return str(getattr(part, name))
    return str(part)


# --- the walk through the program -----------------------------------------------------------


class _View(NamedTuple):
    """A value that is one parameter, scaled and rearranged."""

    leaf: int
    scale: Any
    varies: tuple[bool, ...]
    """per axis: whether the parameter runs along it, or is broadcast"""


class _Source(NamedTuple):
    """A parameter that enters at a tap, and the activations it meets there."""

    leaf: int
    operand: Array
    """(places, groups, channels)"""


class _Pending(NamedTuple):
    """A value that is a tap still to be placed: a bias may be added to it first."""

    sources: tuple[_Source, ...]
    roles: tuple[str, ...]
    """per axis: "t0", "t1", ... for places, "o0", ... for channels out, "" for axes of size 1"""
    read: int | None = None
    """the number of the reading that a dense layer met here"""


class _Value(NamedTuple):
    array: Any
    view: _View | None = None
    pending: _Pending | None = None
    constant: bool = False
    of: int | None = None
    """the tap that this is a function of entry by entry, whatever its shape"""


class _Place(NamedTuple):
    """Where a tap is: the shape of its value, and how its axes read."""

    shape: tuple[int, ...]
    dtype: Any
    roles: tuple[str, ...]
    sources: tuple[_Source, ...]


class _Reading(NamedTuple):
    """What a dense layer reads, where that is a function of a tap entry by entry."""

    number: int
    of: int
    array: Array


class _Program:
    """`apply` at one point, with its taps found once and for all."""

    def __init__(self, apply: Apply, params: PyTree, point: Array):
        leaves, tree = jax.tree.flatten(params)

        def single(leaves: list[Array], point: Array) -> Array:
            return apply(jax.tree.unflatten(tree, leaves), point[None])[0].reshape(-1)

        self._jaxpr = jax.make_jaxpr(single)(leaves, point)
        self.unstructured: list[int] = []
        found = self._discover(leaves, point)
        entries = Counter(source.leaf for place in found.places for source in place.sources)
        shared = {leaf for leaf, count in entries.items() if count > 1}
        self.unstructured = sorted(found.unstructured | shared)
        final = self._discover(leaves, point) if self.unstructured else found
        self.places = final.places
        self.last = None
        if final.last and _single(self.places[final.last.of]):
            array = final.last.array
            form = jax.ShapeDtypeStruct(array.shape, array.dtype)
            self.last = final.last._replace(array=form)

    def _discover(self, leaves: list[Array], point: Array) -> _Walk:
        walk = _Walk()
        jax.eval_shape(partial(self._run, walk), leaves, point)
        return walk

    def _run(self, walk: _Walk, leaves: list[Array], point: Array) -> Array:
        parameters = [
            _Value(leaf)
            if number in self.unstructured
            else _Value(leaf, view=_View(number, 1.0, (True,) * leaf.ndim))
            for number, leaf in enumerate(leaves)
        ]
        (output,) = walk.run(self._jaxpr, [*parameters, _Value(point)])
        if output.pending and output.pending.read is not None:
            walk.last = walk.readings[output.pending.read]
        return walk.data(output)

    def factors(
        self, leaves: list[Array], summed: bool, chosen: slice, point: Array
    ) -> tuple[list[list[Array]], list[Array], list[Array]]:
        """For one point: the activations of each tap's sources, its signals, free Jacobians."""

        def outputs(
            taps: list[Array], free: list[Array], moved: Array
        ) -> tuple[tuple[Array, Array], list[list[Array]]]:
            merged = list(leaves)
            for leaf, value in zip(self.unstructured, free, strict=True):
                merged[leaf] = value
            walk = _Walk(taps, (self.last.number, moved) if self.last else None)
            output = self._run(walk, merged, point)
            operands = [[source.operand for source in p.sources] for p in walk.places]
            return (output, walk.last.array if self.last else moved), operands

        taps = [jnp.zeros(place.shape, place.dtype) for place in self.places]
        free = [leaves[leaf] for leaf in self.unstructured]
        still = jnp.zeros_like(self.last.array) if self.last else jnp.zeros(())
        (output, _), pull, activations = jax.vjp(outputs, taps, free, still, has_aux=True)
        each = jnp.eye(output.size, dtype=output.dtype)
        signals, rows, _ = jax.vmap(lambda one: pull((one, still)))(each[chosen])
        if summed and self.last:
            _, _, readout = jax.vmap(lambda one: pull((one, still)))(each)
            norms = jnp.sqrt(jnp.sum(readout**2, axis=0))
            signals[self.last.of] = pull((jnp.zeros_like(output), norms))[0][self.last.of][None]
        signals = [_by_role(s, p.roles) for s, p in zip(signals, self.places, strict=True)]
        return activations, signals, [row.reshape(len(row), -1) for row in rows]


def _single(place: _Place) -> bool:
    """Whether weights are not shared over places there."""
    sizes = zip(place.shape, place.roles, strict=True)
    return all(size == 1 for size, role in sizes if role[:1] == "t")


class _Walk:
    """One evaluation of the program, which places the taps, or adds given values at them.

    `moved` is (the number of a reading, what is added to it).
    """

    def __init__(
        self, taps: list[Array] | None = None, moved: tuple[int, Array] | None = None
    ) -> None:
        self._taps, self._moved = taps, moved
        self.places: list[_Place] = []
        self.readings: list[_Reading] = []
        self.last: _Reading | None = None
        """what the network's affine readout reads, if it has one"""
        self.unstructured: set[int] = set()

    def run(self, program: ClosedJaxpr, inputs: list[_Value]) -> list[_Value]:
        """The values of the program's outputs."""
        jaxpr: Jaxpr = program.jaxpr
        uses = Counter(
            v
            for variables in [jaxpr.outvars, *(eqn.invars for eqn in jaxpr.eqns)]
            for v in variables
            if not isinstance(v, Literal)
        )
        known: dict[Any, _Value] = {}

        def keep(variables: list, values: list[_Value]) -> None:
            for variable, value in zip(variables, values, strict=True):
                known[variable] = value if uses[variable] == 1 else self.placed(value)

        def read(variable: Any) -> _Value:
            if isinstance(variable, Literal):
                return _Value(variable.val, constant=True)
            return known[variable]

        keep(jaxpr.constvars, [_Value(const, constant=True) for const in program.consts])
        keep(jaxpr.invars, inputs)
        for eqn in jaxpr.eqns:
            keep(eqn.outvars, self._evaluate(eqn, [read(v) for v in eqn.invars]))
        return [read(variable) for variable in jaxpr.outvars]

    def data(self, value: _Value) -> ArrayLike:
        """The value as plain data; a parameter that ends here is unstructured."""
        return self.plain(value).array

    def plain(self, value: _Value) -> _Value:
        if value.view is not None:
            self.unstructured.add(value.view.leaf)
        return self.placed(value)

    def read(self, value: _Value) -> tuple[ArrayLike, int | None]:
        """What a dense layer reads, and the number of that reading if it is of one tap."""
        if value.of is None:
            return value.array, None
        number = len(self.readings)
        self.readings.append(_Reading(number, value.of, value.array))
        if self._moved is None or self._moved[0] != number:
            return value.array, number
        return value.array + self._moved[1], number

    def placed(self, value: _Value) -> _Value:
        """The value with its tap, if one is pending, put in place."""
        if value.pending is None:
            return value
        sources, roles, _ = value.pending
        number = len(self.places)
        self.places.append(_Place(value.array.shape, value.array.dtype, roles, sources))
        array = value.array if self._taps is None else value.array + self._taps[number]
        return _Value(array, of=number)

    def _evaluate(self, eqn: JaxprEqn, values: list[_Value]) -> list[_Value]:
        tracked = any(value.view or value.pending for value in values)
        if tracked and eqn.primitive.name in _INLINED:
            inner = eqn.params[_INLINED[eqn.primitive.name]]
            closed = inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())
            return self.run(closed, values)
        if any(value.view for value in values) and eqn.primitive.name not in ("add", "sub"):
            values = [self.placed(value) for value in values]
        rule = _RULES.get(eqn.primitive.name) if tracked else None
        ruled = rule(self, eqn, values) if rule else None
        if ruled is not None:
            return [ruled]
        values = [self.plain(value) for value in values]
        constant = all(value.constant for value in values)
        of = _of_one_tap(eqn, values)
        outputs = _bind(eqn, [value.array for value in values])
        return [_Value(output, constant=constant, of=of) for output in outputs]


def _bind(eqn: JaxprEqn, arrays: list) -> list:
    outputs = eqn.primitive.bind(*arrays, **eqn.primitive.get_bind_params(eqn.params))
    return outputs if eqn.primitive.multiple_results else [outputs]


def _of_one_tap(eqn: JaxprEqn, values: list[_Value]) -> int | None:
    """The tap that the result is a function of entry by entry, if there is one."""
    taps = {value.of for value in values if not value.constant}
    return taps.pop() if len(taps) == 1 and _entrywise(eqn) else None


def _entrywise(eqn: JaxprEqn) -> bool:
    """Whether each entry of the result depends on one entry of each argument."""
    name = eqn.primitive.name
    if name == "broadcast_in_dim":
        return eqn.invars[0].aval.size == eqn.outvars[0].aval.size
    inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
    if name in _CALLS and inner is not None:
        return all(map(_entrywise, getattr(inner, "jaxpr", inner).eqns))
    return name in _ENTRYWISE


def _by_role(signals: Array, roles: tuple[str, ...]) -> Array:
    """Signals (outputs, *tap) with the tap's axes gathered into places and channels."""
    places = sorted((role, axis) for axis, role in enumerate(roles) if role[:1] == "t")
    channels = sorted((role, axis) for axis, role in enumerate(roles) if role[:1] == "o")
    rest = [axis for axis, role in enumerate(roles) if not role]
    order = [axis for _, axis in places] + [axis for _, axis in channels] + rest
    count = prod(signals.shape[1 + axis] for _, axis in places)
    moved = signals.transpose(0, *(1 + axis for axis in order))
    return moved.reshape(signals.shape[0], count, -1)


# --- rules: what one operation does to a parameter, or to a tap still to be placed ------------


def _lone(values: list[_Value]) -> int | None:
    """The index of the one tracked value, if there is exactly one."""
    tracked = [i for i, value in enumerate(values) if value.view or value.pending]
    return tracked[0] if len(tracked) == 1 else None


def _rearranged(walk: _Walk, eqn: JaxprEqn, values: list[_Value]) -> _Value | None:
    """Transpose, squeeze, reshape by axes of size 1, broadcast, change of float type."""
    value = values[0]
    (array,) = _bind(eqn, [each.array for each in values])
    labels = value.view.varies if value.view else value.pending.roles
    moved = _LABELS[eqn.primitive.name](eqn.params, value.array.shape, array.shape, labels)
    if moved is None:
        return None
    if value.view:
        return _Value(array, view=value.view._replace(varies=moved))
    if array.dtype != value.array.dtype or False in moved:
        return None
    return _Value(array, pending=value.pending._replace(roles=moved))


def _transposed(params: dict, before: tuple, after: tuple, labels: tuple) -> tuple:
    return tuple(labels[axis] for axis in params["permutation"])


def _broadcast(params: dict, before: tuple, after: tuple, labels: tuple) -> tuple:
    """New axes do not vary; a new axis of size 1 is nobody's."""
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


def _product(walk: _Walk, eqn: JaxprEqn, values: list[_Value]) -> _Value | None:
    """A constant factor scales; a parameter times data is a gain."""
    lone = _lone(values)
    if lone is None:
        return None
    tracked, other = values[lone], values[1 - lone]
    if other.constant and jnp.ndim(other.array) == 0:
        (array,) = _bind(eqn, [value.array for value in values])
        return _scaled(tracked, array, partial(jnp.multiply, other.array))
    if tracked.view is None:
        return None
    (array,) = _bind(eqn, [value.array for value in values])
    roles = _roles(tracked, array.shape)
    whole = jnp.broadcast_to(other.array, array.shape)
    operand = tracked.view.scale * _by_role(whole[None], roles)[0]
    source = _Source(tracked.view.leaf, operand[:, :, None])
    return _Value(array, pending=_Pending((source,), roles))


def _quotient(walk: _Walk, eqn: JaxprEqn, values: list[_Value]) -> _Value | None:
    """A constant divisor scales."""
    if _lone(values) != 0 or not values[1].constant or jnp.ndim(values[1].array):
        return None
    (array,) = _bind(eqn, [value.array for value in values])
    return _scaled(values[0], array, lambda a: a / values[1].array)


def _negative(walk: _Walk, eqn: JaxprEqn, values: list[_Value]) -> _Value:
    return _scaled(values[0], *_bind(eqn, [values[0].array]), jnp.negative)


def _scaled(value: _Value, array: Array, factor: Callable[[Any], Any]) -> _Value:
    """The tracked value after multiplication by a constant."""
    if value.view:
        return _Value(array, view=value.view._replace(scale=factor(value.view.scale)))
    sources = tuple(s._replace(operand=factor(s.operand)) for s in value.pending.sources)
    return _Value(array, pending=value.pending._replace(sources=sources))


def _sum(walk: _Walk, eqn: JaxprEqn, values: list[_Value]) -> _Value | None:
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
    (array,) = _bind(eqn, ordered)
    places = prod(size for size, role in zip(shape, roles, strict=True) if role[:1] == "t")
    source = _Source(bias.view.leaf, jnp.full((places, 1, 1), scale, array.dtype))
    if joins:
        return _Value(
            array, pending=other.pending._replace(sources=(*other.pending.sources, source))
        )
    return _Value(array, pending=_Pending((source,), roles))


def _agree(bias: tuple[str, ...], tap: tuple[str, ...], shape: tuple[int, ...]) -> bool:
    """Whether both read the same axes as places, and the same as channels."""
    return all(
        size == 1 or one[:1] == other[:1] for size, one, other in zip(shape, bias, tap, strict=True)
    )


def _roles(parameter: _Value, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Axes of `shape` along which the parameter varies are channels, the others places."""
    sizes = jnp.shape(parameter.array) or (1,) * len(shape)
    varies = parameter.view.varies or (True,) * len(shape)
    channels = [
        along and own == size for along, own, size in zip(varies, sizes, shape, strict=True)
    ]
    return tuple(f"{'o' if channel else 't'}{axis:02d}" for axis, channel in enumerate(channels))


def _dense(walk: _Walk, eqn: JaxprEqn, values: list[_Value]) -> _Value | None:
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
    (array,) = _bind(eqn, [weight.array, data] if lone == 0 else [data, weight.array])
    t = tuple(f"t{axis:02d}" for axis in range(len(places)))
    o = tuple(f"o{axis:02d}" for axis in range(weight.array.ndim - len(over)))
    source = _Source(weight.view.leaf, operand)
    return _Value(array, pending=_Pending((source,), o + t if lone == 0 else t + o, number))


def _convolution(walk: _Walk, eqn: JaxprEqn, values: list[_Value]) -> _Value | None:
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
    source = _Source(weight.view.leaf, operand * weight.view.scale)
    return _Value(array, pending=_Pending((source,), tuple(roles)))


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


_RULES: dict[str, Callable[[_Walk, JaxprEqn, list[_Value]], _Value | None]] = {
    **dict.fromkeys(_LABELS, _rearranged),
    "mul": _product,
    "div": _quotient,
    "neg": _negative,
    "add": _sum,
    "sub": _sum,
    "dot_general": _dense,
    "conv_general_dilated": _convolution,
}

_INLINED = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat": "jaxpr",
}
"""calls that are walked through, and where they keep their program"""

_CALLS = {*_INLINED, "custom_jvp_call", "custom_vjp_call"}

_ENTRYWISE = {
    *("add", "sub", "mul", "div", "neg", "abs", "sign", "max", "min", "clamp", "select_n"),
    *("exp", "exp2", "expm1", "log", "log1p", "logistic", "pow", "integer_pow", "square", "sqrt"),
    *("rsqrt", "cbrt", "tanh", "sin", "cos", "tan", "sinh", "cosh", "asinh", "atan", "erf", "erfc"),
    *("erf_inv", "eq", "ne", "gt", "ge", "lt", "le", "and", "or", "not", "convert_element_type"),
    *("copy", "stop_gradient", "reshape", "squeeze", "transpose"),
}
"""operations that treat entries one by one, or only arrange them"""
