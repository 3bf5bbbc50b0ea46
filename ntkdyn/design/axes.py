"""Axes: settings of a spec that are varied, and what they take.

    method.step_size=0.1,0.3,1        a list
    method.step_size=0.1:0.9:9        nine numbers, equally far apart
    method.step_size=1e-3:1:7:log     seven, each as many times the one before
    graph.topology=ring,star,complete
    partition.agents+graph.degree=4+2,8+3    two settings that change together

    width=64,256                    of all hidden layers; depth is their number

or, in a spec, as a table:

    [sweep]
    graph.topology = ["ring", "star"]
    method.step_size = "0.1:0.9:9"
    "partition.agents+graph.degree" = [[4, 2], [8, 3]]

A step size that is a share of the stability limit is method.step_size.of_limit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ntkdyn.checkpoints import flat
from ntkdyn.errors import InputError, is_real, is_whole, shown

MOST_SETTINGS = 10**6
"""of all axes together"""


class Axis(NamedTuple):
    """Settings that change together, and what they take in turn.

    Example:
        >>> design.Axis(("graph.topology",), (("ring",), ("star",))).ticks
        ['ring', 'star']
    """

    paths: tuple[str, ...]
    """where in a spec, as in "graph.topology" """
    values: tuple[tuple[Any, ...], ...]
    """per place along the axis, one for each path"""

    @property
    def name(self) -> str:
        return "+".join(self.paths)

    @property
    def ticks(self) -> list[Any]:
        """One number or word per place: numbers that the first setting takes stand for all."""
        first = [each[0] for each in self.values]
        if all(map(is_real, first)) and len({*first}) == len(first):
            return first
        return [" + ".join(map(str, each)) for each in self.values]


def axis(text: str) -> Axis:
    """The axis that a text names: PATH=VALUE,VALUE,... or PATH=FIRST:LAST:NUMBER[:log].

    Paths joined by + change together, and so do their values.

    Args:
        text: as on a command line, after --over.

    Returns:
        Paths in a spec, and what they take.

    Raises:
        InputError: for text without "=", ranges that are none, or values that are not one per path.

    Example:
        >>> design.axis("method.step_size=0.1:0.9:3").ticks
        [0.1, 0.5, 0.9]
        >>> design.axis("partition.agents+graph.degree=4+2,8+3").values
        ((4, 2), (8, 3))
    """
    name, between, taken = text.partition("=")
    paths = tuple(part.strip() for part in name.split("+"))
    if not between or not all(paths):
        raise InputError(
            f"over: must be a setting, = and what it takes, as in method.step_size=0.1,0.3, got "
            f"{shown(text)}"
        )
    if len(paths) == 1 and taken.count(":") in (2, 3):
        values = [(each,) for each in _range(paths[0], taken)]
    else:
        values = [tuple(map(_value, each.split("+"))) for each in taken.split(",")]
    return checked(Axis(paths, tuple(values)))


def of_table(table: Mapping[str, Any]) -> list[Axis]:
    """The axes of a spec's table [sweep], each a list of values or a range as text.

    Args:
        table: of the spec, path -> what it takes; nested or dotted.

    Returns:
        An axis for each path.

    Raises:
        InputError: for entries that are neither, and as for `axis`.

    Example:
        >>> [each.name for each in design.of_table({"graph": {"topology": ["ring", "star"]}})]
        ['graph.topology']
    """
    return [_of_entry(name, taken) for name, taken in flat(table).items()]


def _of_entry(name: str, taken: Any) -> Axis:
    if isinstance(taken, str):
        return axis(f"{name}={taken}")
    paths = tuple(part.strip() for part in name.split("+"))
    if not isinstance(taken, list):
        raise InputError(f"sweep: {name} must be a list, or a range as text, got {shown(taken)}")
    together = [each if len(paths) > 1 and isinstance(each, list) else [each] for each in taken]
    plain = lambda value: tuple(value) if isinstance(value, list) else value
    return checked(Axis(paths, tuple(tuple(map(plain, each)) for each in together)))


def checked(given: Axis) -> Axis:
    """The axis, refused where places are missing, or the same."""
    for each in given.values:
        if len(each) != len(given.paths) or any(value == "" for value in each):
            raise InputError(
                f"over: {given.name} takes {len(given.paths)} values at a time, got {shown(each)}"
            )
    if not given.values:
        raise InputError(f"over: {given.name} takes no value; give at least one")
    if len(set(given.values)) < len(given.values):
        raise InputError(f"over: {given.name} takes a value twice, in {shown(given.ticks)}")
    return given


def settings(axes: Sequence[Axis]) -> Iterator[dict[str, Any]]:
    """Path -> value, of all combinations, the last axis changing fastest."""
    for places in itertools.product(*(each.values for each in axes)):
        yield {
            path: value
            for one, values in zip(axes, places, strict=True)
            for path, value in zip(one.paths, values, strict=True)
        }


def told(axes: Sequence[Axis], place: int) -> str:
    """A setting, by its number, in words."""
    changes = next(itertools.islice(settings(axes), place, None))
    return ", ".join(f"{path} = {value}" for path, value in changes.items())


def check_apart(axes: Sequence[Axis]) -> int:
    """How many settings there are; refuses two axes of one setting, and too many."""
    paths = [path for each in axes for path in each.paths]
    if not paths:
        raise InputError("over: give at least one setting to vary")
    for first, other in itertools.combinations(paths, 2):
        if first == other:
            raise InputError(f"over: {first} is on two axes; a setting is varied along one")
        if _within(first, other) or _within(other, first):
            raise InputError(f"over: {first} and {other} are of one setting; vary one of them")
    count = math.prod(len(each.values) for each in axes)
    if count > MOST_SETTINGS:
        raise InputError(f"over: {count} settings are more than the {MOST_SETTINGS} there may be")
    return count


SHORT = {"width": "network.widths", "depth": "network.widths", "step_size": "method.step_size"}
"""paths that stand for others"""


def _within(path: str, other: str) -> bool:
    """Whether the path is of the other setting, or of a part of it; width and depth go together."""
    path, other = (
        name if {path, other} <= {"width", "depth"} else SHORT.get(name, name)
        for name in (path, other)
    )
    return path == other or path.startswith(f"{other}.")


def _range(path: str, text: str) -> list[float | int]:
    """low:high:count, or low:high:count:log."""
    low, high, count, *kind = text.split(":")
    try:
        low, high, count = float(low), float(high), int(count)
    except ValueError:
        raise InputError(
            f"over: {path}: must be low:high:count, in numbers, got {text!r}"
        ) from None
    if kind not in ([], ["log"]):
        raise InputError(f'over: {path}: after the count may stand "log", got {kind[0]!r}')
    if not (math.isfinite(low) and math.isfinite(high) and low < high and 2 <= count <= 10**4):
        raise InputError(
            f"over: {path}: must go from one number up to a larger one, in 2 to 10000 places, got "
            f"{text!r}"
        )
    if kind and low <= 0:
        raise InputError(f"over: {path}: a range by factors must begin above 0, got {low:g}")
    values = np.geomspace(low, high, count) if kind else np.linspace(low, high, count)
    rounded = [float(f"{each:.12g}") for each in values]
    whole = ":" in text and "." not in text and "e" not in text.lower()
    if whole and all(each == int(each) for each in rounded):
        return [int(each) for each in rounded]
    return rounded


def _value(text: str) -> Any:
    """A number, true or false, a list of numbers in brackets, or a word."""
    text = text.strip()
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if is_whole(number) or math.isfinite(number):
            return number
    if text.startswith("[") and text.endswith("]"):
        return tuple(_value(each) for each in text[1:-1].split())
    return text
