"""Forms of a kernel: what is kept of Theta[n, k, m, j] = <df_k(x_n), df_j(x_m)>.

    full       Theta[n, k, m, j]               (n, k, m, k)
    trace      sum over k of Theta[n, k, m, k] (n, m)
    diagonal   Theta[n, k, n, k]               (n, k)

A tap with activations a and signals s (`ntkdyn.kernels.structure`) contributes, for n and m,

    sum over places t, u and groups g of (a_n[t, g] . a_m[u, g]) (s_nk[t, g] . s_mj[u, g])

which is computed in the cheapest of three ways, by the rule

    outer   a single place and group: one product of activations times one of signals
    pairs   the two products for every pair of places: few places, many channels
    rows    sum_t a_n[t] (x) s_nk[t], the rows of the Jacobian, formed: many places, few channels

and what has no taps is contracted over its formed Jacobian ("contraction").
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkdyn.kernels.structure import Factor, Structure, Tap
from ntkdyn.precision import EXACT

Form = Literal["full", "trace", "diagonal"]
Parts = dict[str, Float[Array, "..."]]
"""layer -> its part of the kernel; the only key is "all" where layers are not told apart"""


def contract(left: Structure, right: Structure, form: Form, *, by_layer: bool = False) -> Parts:
    """J J'^T in the given form from two Jacobians in factored form; "diagonal" takes one twice."""
    parts: Parts = {}
    for layer, part in _parts(left, right, form):
        name = layer if by_layer else "all"
        parts[name] = parts[name] + part if name in parts else part
    return parts


def rules(left: Structure, right: Structure, form: Form) -> dict[str, str]:
    """Layer -> the rules its parameters are contracted by; shapes suffice."""
    named: dict[str, list[str]] = {}
    for one, other in zip(left.taps, right.taps, strict=True):
        for meeting in _meetings(one, other):
            for factor in meeting.left:
                named.setdefault(factor.layer, []).append(_rule(meeting, form))
    for jacobian in left.jacobians:
        named.setdefault(jacobian.layer, []).append("contraction")
    return {layer: " + ".join(dict.fromkeys(each)) for layer, each in named.items()}


class _Meeting(NamedTuple):
    """The factors of a tap that have equally many groups, at two sets of points."""

    left: list[Factor]
    right: list[Factor]
    left_signals: Float[Array, "n outputs places groups channels"]
    right_signals: Float[Array, "m outputs places groups channels"]


def _meetings(left: Tap, right: Tap) -> Iterator[_Meeting]:
    for groups in dict.fromkeys(factor.activations.shape[2] for factor in left.factors):
        chosen = [i for i, f in enumerate(left.factors) if f.activations.shape[2] == groups]
        yield _Meeting(
            *([tap.factors[i] for i in chosen] for tap in (left, right)),
            *(_grouped(tap.signals, groups) for tap in (left, right)),
        )


def _grouped(signals: Any, groups: int) -> Any:
    shape = (*signals.shape[:3], groups, signals.shape[3] // groups)
    if isinstance(signals, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(shape, signals.dtype)
    return signals.reshape(shape)


def _parts(left: Structure, right: Structure, form: Form) -> Iterator[tuple[str, Array]]:
    for one, other in zip(left.taps, right.taps, strict=True):
        for meeting in _meetings(one, other):
            yield from _RULES[_rule(meeting, form), form](meeting)
    for one, other in zip(left.jacobians, right.jacobians, strict=True):
        yield one.layer, _JACOBIAN[form](one.rows, other.rows)


def multiplications(left: Structure, right: Structure, form: Form) -> int:
    """How many multiplications `contract` takes; shapes suffice."""
    count = 0
    for one, other in zip(left.taps, right.taps, strict=True):
        count += sum(min(_costs(each, form).values()) for each in _meetings(one, other))
    for one, other in zip(left.jacobians, right.jacobians, strict=True):
        (n, k, entries), m = one.rows.shape, other.rows.shape[0]
        count += {"full": n * m * k * k, "trace": n * m * k, "diagonal": n * k}[form] * entries
    return count


def _rule(meeting: _Meeting, form: Form) -> str:
    """The cheapest rule."""
    costs = _costs(meeting, form)
    return min(costs, key=costs.__getitem__)


def _costs(meeting: _Meeting, form: Form) -> dict[str, int]:
    """Rule -> multiplications, of the rules that apply."""
    n, k, t, g, o = meeting.left_signals.shape
    m = meeting.right_signals.shape[0]
    c = sum(factor.activations.shape[3] for factor in meeting.left)
    if t == g == 1:
        pairs = {"full": n * m * (c + k * k * o), "trace": n * m * (c + k * o)}
        return {"outer": (pairs | {"diagonal": n * (c + k * o)})[form]}
    entries = g * c * o
    formed = (n + m) * k * t * entries
    return {
        "full": {
            "rows": n * m * k * k * entries + formed,
            "pairs": n * m * g * t * (t * c + t * k * o + k * k * o),
        },
        "trace": {
            "rows": n * m * k * entries + formed,
            "pairs": n * m * g * t * t * (c + k * o + 1),
        },
        "diagonal": {
            "rows": n * k * t * entries,
            "pairs": n * g * t * t * (c + k * o + k),
        },
    }[form]


def _by_layer(meeting: _Meeting) -> Iterator[tuple[str, list[tuple[Array, Array]]]]:
    """Layer -> the activations of its factors, left and right."""
    layers: dict[str, list[tuple[Array, Array]]] = {}
    for one, other in zip(meeting.left, meeting.right, strict=True):
        layers.setdefault(one.layer, []).append((one.activations, other.activations))
    yield from layers.items()


def _matrix_product(left: Array, right: Array) -> Array:
    """left right^T over all axes but the first."""
    rows, columns = (array.reshape(array.shape[0], -1) for array in (left, right))
    return jnp.matmul(rows, columns.T, precision=EXACT)


def _rowwise(left: Array, right: Array) -> Float[Array, "n k m k"]:
    """Inner products of everything that belongs to (n, k) with what belongs to (m, j)."""
    (n, k), (m, j) = left.shape[:2], right.shape[:2]
    flat = (array.reshape(rows, -1) for array, rows in ((left, n * k), (right, m * j)))
    return _matrix_product(*flat).reshape(n, k, m, j)


# --- one place, one group: (a_n . a_m) (s_nk . s_mj) ------------------------------------------


def _outer_full(meeting: _Meeting) -> Iterator[tuple[str, Array]]:
    signals = _rowwise(meeting.left_signals, meeting.right_signals)
    for layer, pairs in _by_layer(meeting):
        yield layer, sum(_matrix_product(a, b) for a, b in pairs)[:, None, :, None] * signals


def _outer_trace(meeting: _Meeting) -> Iterator[tuple[str, Array]]:
    signals = _matrix_product(meeting.left_signals, meeting.right_signals)
    for layer, pairs in _by_layer(meeting):
        yield layer, sum(_matrix_product(a, b) for a, b in pairs) * signals


def _outer_diagonal(meeting: _Meeting) -> Iterator[tuple[str, Array]]:
    signals = jnp.sum(meeting.left_signals**2, axis=(2, 3, 4))
    for layer, pairs in _by_layer(meeting):
        yield layer, sum(jnp.sum(a**2, axis=(1, 2, 3)) for a, _ in pairs)[:, None] * signals


# --- pairs of places --------------------------------------------------------------------------


def _place_products(pairs: list[tuple[Array, Array]]) -> Float[Array, "g n t m t"]:
    return sum(jnp.einsum("ntgc,mugc->gntmu", a, b, precision=EXACT) for a, b in pairs)


def _pairs_full(meeting: _Meeting) -> Iterator[tuple[str, Array]]:
    """Point by point, so that what is between the two products stays small."""
    m, j, u, g, o = meeting.right_signals.shape
    right = meeting.right_signals.transpose(3, 0, 2, 1, 4).reshape(g, m, u, j * o)

    def of_point(point: tuple[Array, Array]) -> Float[Array, "k m j"]:
        places, signals = point
        half = jnp.matmul(places, right, precision=EXACT).reshape(g, m, -1, j, o)
        half = half.transpose(1, 3, 2, 0, 4).reshape(m * j, -1)
        return _matrix_product(signals, half).reshape(-1, m, j)

    for layer, pairs in _by_layer(meeting):
        places = _place_products(pairs).transpose(1, 0, 3, 2, 4)
        yield layer, jax.lax.map(of_point, (places, meeting.left_signals))


def _pairs_trace(meeting: _Meeting) -> Iterator[tuple[str, Array]]:
    one, other = meeting.left_signals, meeting.right_signals
    signals = jnp.einsum("nktgo,mkugo->gntmu", one, other, precision=EXACT)
    for layer, pairs in _by_layer(meeting):
        yield layer, jnp.sum(_place_products(pairs) * signals, axis=(0, 2, 4))


def _pairs_diagonal(meeting: _Meeting) -> Iterator[tuple[str, Array]]:
    own = meeting.left_signals
    signals = jnp.einsum("nktgo,nkugo->nkgtu", own, own, precision=EXACT)
    for layer, pairs in _by_layer(meeting):
        places = sum(jnp.einsum("ntgc,nugc->ngtu", a, a, precision=EXACT) for a, _ in pairs)
        yield layer, jnp.einsum("ngtu,nkgtu->nk", places, signals, precision=EXACT)


# --- rows of the Jacobian ---------------------------------------------------------------------


def _rows(meeting: _Meeting) -> Iterator[tuple[str, Array, Array]]:
    for layer, pairs in _by_layer(meeting):
        for a, b in pairs:
            yield layer, _formed(a, meeting.left_signals), _formed(b, meeting.right_signals)


def _formed(activations: Array, signals: Array) -> Float[Array, "n k parameters"]:
    rows = jnp.einsum("ntgc,nktgo->nkgco", activations, signals, precision=EXACT)
    return rows.reshape(*rows.shape[:2], -1)


def _rows_full(meeting: _Meeting) -> Iterator[tuple[str, Array]]:
    yield from ((layer, _rowwise(left, right)) for layer, left, right in _rows(meeting))


def _rows_trace(meeting: _Meeting) -> Iterator[tuple[str, Array]]:
    yield from ((layer, _matrix_product(left, right)) for layer, left, right in _rows(meeting))


def _rows_diagonal(meeting: _Meeting) -> Iterator[tuple[str, Array]]:
    yield from ((layer, jnp.sum(left**2, axis=2)) for layer, left, _ in _rows(meeting))


_RULES = {
    ("outer", "full"): _outer_full,
    ("outer", "trace"): _outer_trace,
    ("outer", "diagonal"): _outer_diagonal,
    ("pairs", "full"): _pairs_full,
    ("pairs", "trace"): _pairs_trace,
    ("pairs", "diagonal"): _pairs_diagonal,
    ("rows", "full"): _rows_full,
    ("rows", "trace"): _rows_trace,
    ("rows", "diagonal"): _rows_diagonal,
}

_JACOBIAN = {
    "full": _rowwise,
    "trace": _matrix_product,
    "diagonal": lambda rows, _: jnp.sum(rows**2, axis=2),
}
"""Jacobians (points, outputs, parameters), left and right -> their part"""
