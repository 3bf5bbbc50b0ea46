"""What is drawn: values of the wrong kind, right values with one thing changed, damaged bytes."""

from __future__ import annotations

import decimal
import fractions
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import networkx as nx
import numpy as np
import scipy.sparse

Draw = np.random.Generator

NUMBERS = [
    0, 1, -1, 2, 3, 7, 10**4, 10**10, 2**31, 2**32, 2**53, 2**63, 2**64, 10**30, -(10**5000),
    0.0, -0.0, 0.5, 1.0, 1.5, -0.3, 1e-300, 1e-30, 1e30, 1e300, float("nan"), float("inf"),
    -float("inf"), True, False, 1j,
]  # fmt: skip

TEXTS = [
    "", " ", "a", "1", "-1", "0.5", "nan", "\u00b2", "\x00", "\ud800", "\ufeffdgd", "a\nb",
    "[bold]", "x" * 10_000, "../..", "/dev/null", "mse", "ring", "None", "2 GB", "1e400 GB", "-3MB",
]  # fmt: skip


def _nested(depth: int) -> list:
    found: list = []
    for _ in range(depth):
        found = [found]
    return found


MAKERS: list[Callable[[], Any]] = [
    lambda: None,
    lambda: b"bytes",
    lambda: [],
    lambda: (),
    lambda: {},
    lambda: {"a": 1},
    lambda: {1, 2},
    lambda: [None],
    lambda: [1, [2, 3]],
    lambda: ["a", "b"],
    lambda: [1.5, "a"],
    lambda: [float("nan")] * 3,
    lambda: [10**30],
    lambda: _nested(3),
    lambda: _nested(50),
    lambda: range(3),
    lambda: iter([1, 2]),
    lambda: slice(None),
    lambda: Ellipsis,
    lambda: object(),
    lambda: int,
    lambda: len,
    lambda: lambda t: 0.1,
    lambda: Path("nowhere"),
    lambda: decimal.Decimal("0.1"),
    lambda: fractions.Fraction(1, 3),
    lambda: np.array(2.0),
    lambda: np.int8(3),
    lambda: np.float16(0.1),
    lambda: np.bool_(True),
    lambda: np.array([]),
    lambda: np.zeros((0, 3)),
    lambda: np.zeros((3, 0)),
    lambda: np.ones(4),
    lambda: np.ones((1, 1, 1, 1, 1, 1)),
    lambda: np.ones((2, 2), complex),
    lambda: np.ones((4, 4), bool),
    lambda: np.array([None, 1], object),
    lambda: np.array(["a", "b"]),
    lambda: np.array(["2026-01-01"], "M8[D]"),
    lambda: np.zeros(2, [("a", "i4"), ("b", "f4")]),
    lambda: np.ma.masked_array([1.0, 2.0], [0, 1]),
    lambda: np.ones(3, ml_dtypes.bfloat16),
    lambda: np.ones(3, np.longdouble),
    lambda: jnp.ones((2, 2)),
    lambda: scipy.sparse.csr_array((4, 4)),
    lambda: scipy.sparse.csr_array((10**6, 10**6)),
    lambda: nx.Graph(),
    lambda: nx.path_graph(3),
    lambda: nx.MultiDiGraph([(0, 1), (0, 1)]),
    lambda: nx.Graph([("a", "b"), ("b", 3)]),
]


def odd(draw: Draw) -> Any:
    """A value that hardly any setting can be."""
    kind = draw.random()
    if kind < 0.35:
        return NUMBERS[draw.integers(len(NUMBERS))]
    if kind < 0.55:
        return TEXTS[draw.integers(len(TEXTS))]
    return MAKERS[draw.integers(len(MAKERS))]()


def changed(draw: Draw, value: Any) -> Any:
    """The value with one thing about it changed, in its own kind where this is known."""
    if isinstance(value, np.ndarray):
        return _array(draw, value)
    if isinstance(value, str):
        return _text(draw, value)
    if isinstance(value, bool):
        return [not value, int(value), str(value), np.bool_(value)][draw.integers(4)]
    if isinstance(value, int | float):
        return _number(draw, value)
    if isinstance(value, nx.Graph):
        return _graph(draw, value)
    if isinstance(value, list | tuple) and value:
        return _listed(draw, list(value))
    return odd(draw)


def _number(draw: Draw, value: float) -> Any:
    ways = [
        -value, value + 1, value - 1, value * 10, value * 1e6, value / 3, float(value), str(value),
        [value], np.array(value), np.array([value]), np.float32(value), complex(value), value * 1j,
        np.str_(value), 0 * value, value + 1e-9,
    ]  # fmt: skip
    return ways[draw.integers(len(ways))]


def _text(draw: Draw, value: str) -> Any:
    at = int(draw.integers(len(value) + 1))
    ways = [
        value.upper(), f" {value}", value[:at] + value[at + 1 :], value * 1000, value.encode(),
        f"{value[:at]}\x00{value[at:]}", [value], np.str_(value), value + "\n",
    ]  # fmt: skip
    return ways[draw.integers(len(ways))]


def _listed(draw: Draw, value: list) -> Any:
    at = int(draw.integers(len(value)))
    ways: list[Callable[[], Any]] = [
        lambda: value[:at] + value[at + 1 :],
        lambda: [*value, value[at]],
        lambda: value[::-1],
        lambda: [*value[:at], changed(draw, value[at]), *value[at + 1 :]],
        lambda: [*value[:at], odd(draw), *value[at + 1 :]],
        lambda: tuple(value),
        lambda: [value],
        lambda: np.array(value, object),
        lambda: iter(value),
    ]
    return ways[draw.integers(len(ways))]()


def _graph(draw: Draw, value: nx.Graph) -> Any:
    nodes = list(value)
    other = value.copy()
    ways: list[Callable[[], Any]] = [
        lambda: other.add_edge(nodes[0], nodes[0]),
        lambda: other.add_node("alone"),
        lambda: other.remove_node(nodes[draw.integers(len(nodes))]),
        lambda: other.add_edge(nodes[0], nodes[1], weight=odd(draw)),
        lambda: other.remove_edges_from(list(value.edges)[:3]),
    ]
    made: list[Callable[[], Any]] = [
        lambda: nx.MultiGraph(value),
        lambda: nx.DiGraph(list(value.edges)),
        lambda: nx.relabel_nodes(value, {node: str(node) for node in nodes}),
        lambda: nx.to_numpy_array(value),
        lambda: nx.freeze(value),
    ]
    if draw.random() < 0.5:
        return made[draw.integers(len(made))]()
    ways[draw.integers(len(ways))]()
    return other


EXTREMES = [np.nan, np.inf, -1.0, 1e300, 1e-300, -1e-17, 0.0]
KINDS = ["f2", "f4", ">f8", "i8", "u1", "?", "c16", "O", "U8", "M8[s]", "g"]


def _array(draw: Draw, value: np.ndarray) -> Any:
    ways = [_entry, _shape, _kind]
    return ways[draw.integers(3)](draw, value)


def _entry(draw: Draw, value: np.ndarray) -> np.ndarray:
    new = value.astype(float) if draw.random() < 0.7 else value.copy()
    with np.errstate(all="ignore"):
        new.flat[draw.integers(max(new.size, 1)) % new.size] = (
            EXTREMES[draw.integers(len(EXTREMES))]
            if new.dtype.kind == "f"
            else np.array(-1).astype(new.dtype)
        )
    return new


def _shape(draw: Draw, value: np.ndarray) -> Any:
    ways: list[Callable[[], Any]] = [
        lambda: value[1:],
        lambda: value[:0],
        lambda: value[None],
        lambda: value[..., None],
        lambda: value.T,
        lambda: value.reshape(-1),
        lambda: np.concatenate([value, value]),
        lambda: value[..., :1],
        lambda: value[::-1],
        lambda: value.tolist(),
        lambda: [value, value[:1]],
        lambda: value.flat[0],
    ]
    return ways[draw.integers(len(ways))]()


def _kind(draw: Draw, value: np.ndarray) -> Any:
    ways: list[Callable[[], Any]] = [
        lambda: value.astype(KINDS[draw.integers(len(KINDS))]),
        lambda: np.ma.masked_array(value, np.arange(value.size).reshape(value.shape) == 0),
        lambda: value * 1e300,
        lambda: value * 1e-300,
        lambda: -value,
        lambda: scipy.sparse.csr_array(np.atleast_2d(value.reshape(len(value), -1))),
        lambda: jnp.asarray(value),
        lambda: value.view(np.ndarray)[...],
    ]
    with np.errstate(all="ignore"):
        return ways[draw.integers(len(ways))]()


def replaced(draw: Draw, valid: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with one of them, seldom none or two, odd or changed."""
    many = draw.choice([0, 1, 2], p=[0.15, 0.65, 0.2])
    names = draw.choice(list(valid), size=min(len(valid), many))
    return dict(valid) | {
        str(name): odd(draw) if draw.random() < 0.5 else changed(draw, valid[name])
        for name in names
    }


def damaged(draw: Draw, content: bytes) -> bytes:
    """The bytes of a file with a few of them changed, lost or added."""
    at, length = int(draw.integers(len(content))), int(draw.integers(1, 64))
    one = bytearray(content)
    ways: list[Callable[[], bytes]] = [
        lambda: _flipped(one, at, 1 << int(draw.integers(8))),
        lambda: _flipped(one, at, int(draw.integers(1, 256))),
        lambda: content[:at] + bytes(length) + content[at + length :],
        lambda: content[:at] + draw.bytes(length) + content[at + length :],
        lambda: content[:at],
        lambda: content[:at] + content[at + length :],
        lambda: content[:at] + draw.bytes(length) + content[at:],
        lambda: content[:at] + b"\xff" * 4 + content[at + 4 :],
        lambda: content + draw.bytes(length),
    ]
    return ways[draw.integers(len(ways))]()


def _flipped(content: bytearray, at: int, bits: int) -> bytes:
    content[at] ^= bits
    return bytes(content)
