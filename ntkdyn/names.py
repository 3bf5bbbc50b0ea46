"""Names: labels and agents of any kind as numbers from 0 on, in the order of what they are called.

Numbers come in their order, and so do those within text: "agent 2" before "agent 10".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from ntkdyn.errors import InputError, shown


def numbered(what: str, values: pd.Series) -> tuple[Int[np.ndarray, " points"], tuple[str, ...]]:
    """The number of every value, and what each number stands for.

    Whole numbers that come as floats are whole. Refuses numbers among text, and names that differ
    in spaces alone.
    """
    if isinstance(values.dtype, np.dtype) and not values.dtype.isnative:  # pandas sorts none of it
        values = values.astype(values.dtype.newbyteorder("="))
    _check_one_kind(what, values)
    codes, found = pd.factorize(values.to_numpy())
    if len(codes) and codes.min() < 0:
        raise InputError(f"{what}: row {int(codes.argmin()) + 1} has no name")
    names = [_name(each) for each in found]
    told_apart(what, names)
    order = sorted(range(len(names)), key=lambda i: natural(names[i]))
    place = np.empty(len(order), dtype=int)
    place[order] = np.arange(len(order))
    return place[codes], tuple(names[i] for i in order)


def natural(name: str) -> list[tuple[int, float, str]]:
    """What a name is sorted by: a number by itself, text part by part, numbers in it as such."""
    try:
        return [(0, float(name), "")]
    except ValueError:
        parts = re.split(r"(\d+)", name)
        return [(0, float(p), "") if p.isdecimal() else (1, 0.0, p) for p in parts if p]


def plain(names: Iterable[str]) -> bool:
    """Whether they are the numbers 0, 1, ... themselves."""
    return all(name == str(number) for number, name in enumerate(names))


def _name(value: Any) -> str:
    """What a value is called: a whole number without a point."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return f"{value:g}" if isinstance(value, float | np.floating) else str(value)


def _check_one_kind(what: str, values: pd.Series) -> None:
    """Refuse a column that holds text in some rows and numbers in others."""
    if pd.api.types.infer_dtype(values).startswith("mixed"):
        kinds = [isinstance(value, str) for value in values]
        other = kinds.index(not kinds[0]) if not all(kinds) and any(kinds) else 0
        raise InputError(
            f"{what}: column {values.name!r} must hold one kind of values, got "
            f"{shown(values.iloc[0])} in row 1 and {shown(values.iloc[other])} in row {other + 1}"
        )


def told_apart(what: str, names: Iterable[str]) -> None:
    """Refuse names that one cannot tell apart by eye."""
    seen: dict[str, str] = {}
    for name in names:
        if other := seen.get(name.strip()):
            raise InputError(f"{what}: {other!r} and {name!r} differ in spaces alone")
        seen[name.strip()] = name
