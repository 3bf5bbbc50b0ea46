"""What is to be learned: classes, encoded from labels of any kind, or targets of regression.

One column of text, of true and false or of whole numbers holds classes, and so do columns of which
every row has a single 1 among zeros (one-hot). Other numbers are targets of regression. Where that
is not what is meant, `task` says what is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from ntkdyn.errors import InputError, check_name, is_real, shown
from ntkdyn.names import numbered

TASKS = ("auto", "classification", "regression")


class Learned(NamedTuple):
    """A class per point, or targets per point."""

    values: Int[np.ndarray, " points"] | Float[np.ndarray, "points targets"]
    names: tuple[str, ...]
    """of the classes, or of the targets"""
    regression: bool


def learned(what: str, columns: pd.DataFrame, task: str = "auto") -> Learned:
    """What the target columns hold; `what` begins the refusals."""
    check_name("task", task, TASKS)
    single = columns.iloc[:, 0] if columns.shape[1] == 1 else None
    names = tuple(map(str, columns.columns))
    if task != "regression" and single is None and (hot := _one_hot(columns)) is not None:
        return Learned(hot, names, regression=False)
    if task == "classification" and single is None:
        raise InputError(
            f"{what}: several columns hold classes where every row has a single 1 among zeros; "
            f"those of {', '.join(names)} do not"
        )
    if task == "regression" or single is None or (task == "auto" and _real(single)):
        return Learned(numbers(what, columns, list(columns)), names, regression=True)
    if task == "auto":
        _check_no_numbers_among_text(what, single)
    codes, found = numbered(what, single)
    if len(found) < 2:
        raise InputError(f"{what}: {names[0]!r} must have two classes or more, got {shown(found)}")
    if task == "auto" and 2 * len(found) > len(codes) > 2 * FEW:
        raise InputError(
            f"{what}: {names[0]!r} has {len(found)} different values at {len(codes)} points; say "
            f'task = "regression" if they are numbers to be learned, or "classification"'
        )
    return Learned(codes, found, regression=False)


FEW = 10
"""so many points may all be of different classes"""


def numbers(
    what: str, frame: pd.DataFrame, names: Sequence[str]
) -> Float[np.ndarray, "points columns"]:
    """These columns as float64, row by row; refuses the first value that is no number."""
    values = np.empty((len(frame), len(names)))
    for number, name in enumerate(names):
        column = frame[name]
        if not pd.api.types.is_numeric_dtype(column) or column.dtype.kind == "c":
            _refuse_text(what, name, column)
        values[:, number] = column
    return values


def _refuse_text(what: str, name: str, column: pd.Series) -> None:
    row = int(_no_numbers(column).argmax())
    raise InputError(
        f"{what}: column {name!r} must hold numbers, got {shown(column.iloc[row])} in row {row + 1}"
    )


def _no_numbers(column: pd.Series) -> np.ndarray:
    """Which values of the column are no numbers that a float can hold."""
    try:
        return pd.to_numeric(column, errors="coerce").isna().to_numpy()
    except OverflowError:
        return ~np.array([is_real(value) for value in column])


def _real(column: pd.Series) -> bool:
    """Whether some number in the column is not whole."""
    if column.dtype.kind != "f":
        return False
    values = column.to_numpy()
    return bool((values != np.floor(values)).any())


def _one_hot(columns: pd.DataFrame) -> Int[np.ndarray, " points"] | None:
    """The class of every row; None where a row has not a single 1 among zeros."""
    if not all(pd.api.types.is_numeric_dtype(kind) for kind in columns.dtypes):
        return None
    values = columns.to_numpy(dtype=np.float64)
    hot = ((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all()
    return values.argmax(axis=1) if hot else None


def _check_no_numbers_among_text(what: str, column: pd.Series) -> None:
    """Refuse a column of numbers with some text in it, which would make each number a class."""
    if pd.api.types.is_numeric_dtype(column):
        return
    text = _no_numbers(column)
    if 0 < text.sum() < len(text) / 2:
        row = int(text.argmax())
        raise InputError(
            f"{what}: column {column.name!r} holds {shown(column.iloc[row])} in row {row + 1} and "
            f'numbers elsewhere; say task = "classification" if all of them are names'
        )
