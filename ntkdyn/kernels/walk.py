"""The walk through a network's program, which finds the taps and evaluates it with them.

`apply` is traced at a single point. A first walk places the taps; later ones add given values at
them, so that reverse mode through the walk gives the signals, and the operands met on the way
are the activations (`ntkdyn.kernels.structure`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal
from jaxtyping import Array, ArrayLike, PyTree

from ntkdyn.kernels.rules import RULES, Source, Value, View, bind, by_role

Apply = Callable[[PyTree, Array], Array]
"""(params, inputs (points, *features)) -> outputs (points, outputs)"""


class _Place(NamedTuple):
    """Where a tap is: the shape of its value, and how its axes read."""

    shape: tuple[int, ...]
    dtype: Any
    roles: tuple[str, ...]
    sources: tuple[Source, ...]


class _Reading(NamedTuple):
    """What a dense layer reads, where that is a function of a tap entry by entry."""

    number: int
    of: int
    array: Array


class Traced:
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

    def _discover(self, leaves: list[Array], point: Array) -> Walk:
        walk = Walk()
        jax.eval_shape(partial(self._run, walk), leaves, point)
        return walk

    def _run(self, walk: Walk, leaves: list[Array], point: Array) -> Array:
        parameters = [
            Value(leaf)
            if number in self.unstructured
            else Value(leaf, view=View(number, 1.0, (True,) * leaf.ndim))
            for number, leaf in enumerate(leaves)
        ]
        (output,) = walk.run(self._jaxpr, [*parameters, Value(point)])
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
            walk = Walk(taps, (self.last.number, moved) if self.last else None)
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
        signals = [by_role(s, p.roles) for s, p in zip(signals, self.places, strict=True)]
        return activations, signals, [row.reshape(len(row), -1) for row in rows]


def _single(place: _Place) -> bool:
    """Whether weights are not shared over places there."""
    sizes = zip(place.shape, place.roles, strict=True)
    return all(size == 1 for size, role in sizes if role[:1] == "t")


class Walk:
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

    def run(self, program: ClosedJaxpr, inputs: list[Value]) -> list[Value]:
        """The values of the program's outputs."""
        jaxpr: Jaxpr = program.jaxpr
        uses = Counter(
            v
            for variables in [jaxpr.outvars, *(eqn.invars for eqn in jaxpr.eqns)]
            for v in variables
            if not isinstance(v, Literal)
        )
        known: dict[Any, Value] = {}

        def keep(variables: list, values: list[Value]) -> None:
            for variable, value in zip(variables, values, strict=True):
                known[variable] = value if uses[variable] == 1 else self.placed(value)

        def read(variable: Any) -> Value:
            if isinstance(variable, Literal):
                return Value(variable.val, constant=True)
            return known[variable]

        keep(jaxpr.constvars, [Value(const, constant=True) for const in program.consts])
        keep(jaxpr.invars, inputs)
        for eqn in jaxpr.eqns:
            keep(eqn.outvars, self._evaluate(eqn, [read(v) for v in eqn.invars]))
        return [read(variable) for variable in jaxpr.outvars]

    def data(self, value: Value) -> ArrayLike:
        """The value as plain data; a parameter that ends here is unstructured."""
        return self.plain(value).array

    def plain(self, value: Value) -> Value:
        if value.view is not None:
            self.unstructured.add(value.view.leaf)
        return self.placed(value)

    def read(self, value: Value) -> tuple[ArrayLike, int | None]:
        """What a dense layer reads, and the number of that reading if it is of one tap."""
        if value.of is None:
            return value.array, None
        number = len(self.readings)
        self.readings.append(_Reading(number, value.of, value.array))
        if self._moved is None or self._moved[0] != number:
            return value.array, number
        return value.array + self._moved[1], number

    def placed(self, value: Value) -> Value:
        """The value with its tap, if one is pending, put in place."""
        if value.pending is None:
            return value
        sources, roles, _ = value.pending
        number = len(self.places)
        self.places.append(_Place(value.array.shape, value.array.dtype, roles, sources))
        array = value.array if self._taps is None else value.array + self._taps[number]
        return Value(array, of=number)

    def _evaluate(self, eqn: JaxprEqn, values: list[Value]) -> list[Value]:
        tracked = any(value.view or value.pending for value in values)
        if tracked and eqn.primitive.name in INLINED:
            inner = eqn.params[INLINED[eqn.primitive.name]]
            closed = inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())
            return self.run(closed, values)
        if any(value.view for value in values) and eqn.primitive.name not in ("add", "sub"):
            values = [self.placed(value) for value in values]
        rule = RULES.get(eqn.primitive.name) if tracked else None
        ruled = rule(self, eqn, values) if rule else None
        if ruled is not None:
            return [ruled]
        values = [self.plain(value) for value in values]
        constant = all(value.constant for value in values)
        of = _of_one_tap(eqn, values)
        outputs = bind(eqn, [value.array for value in values])
        return [Value(output, constant=constant, of=of) for output in outputs]


def _of_one_tap(eqn: JaxprEqn, values: list[Value]) -> int | None:
    """The tap that the result is a function of entry by entry, if there is one."""
    taps = {value.of for value in values if not value.constant}
    return taps.pop() if len(taps) == 1 and _entrywise(eqn) else None


def _entrywise(eqn: JaxprEqn) -> bool:
    """Whether each entry of the result depends on one entry of each argument."""
    name = eqn.primitive.name
    if name == "broadcast_in_dim":
        return eqn.invars[0].aval.size == eqn.outvars[0].aval.size
    inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
    if name in CALLS and inner is not None:
        return all(map(_entrywise, getattr(inner, "jaxpr", inner).eqns))
    return name in ENTRYWISE


INLINED = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat": "jaxpr",
}
"""calls that are walked through, and where they keep their program"""

CALLS = {*INLINED, "custom_jvp_call", "custom_vjp_call"}

ENTRYWISE = {
    *("add", "sub", "mul", "div", "neg", "abs", "sign", "max", "min", "clamp", "select_n"),
    *("exp", "exp2", "expm1", "log", "log1p", "logistic", "pow", "integer_pow", "square", "sqrt"),
    *("rsqrt", "cbrt", "tanh", "sin", "cos", "tan", "sinh", "cosh", "asinh", "atan", "erf", "erfc"),
    *("erf_inv", "eq", "ne", "gt", "ge", "lt", "le", "and", "or", "not", "convert_element_type"),
    *("copy", "stop_gradient", "reshape", "squeeze", "transpose"),
}
"""operations that treat entries one by one, or only arrange them"""
