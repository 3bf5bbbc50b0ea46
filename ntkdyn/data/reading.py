"""Data of one's own: tables and arrays from files or from memory, as a `Dataset`.

A table has a column for each feature, one or several for what is to be learned, and perhaps one
that says which agent each point belongs to: .csv, .tsv, .txt, .parquet, or a pandas DataFrame; an
.npy is a table too, with columns 0, 1, .... An .npz, or a dictionary of arrays, holds x and y, or
x_train, y_train, x_test and y_test, and perhaps owner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int, Real

from ntkdyn import archives, arrays, disk
from ntkdyn.data import scaling
from ntkdyn.data.datasets import Dataset
from ntkdyn.data.labels import Learned, learned, numbers
from ntkdyn.data.tables import check_whole_rows, columns_of, read_table
from ntkdyn.errors import InputError, check_flag, check_whole, is_real, is_whole, shown
from ntkdyn.names import numbered, plain

Column = str | int


class Points(NamedTuple):
    """What a table says of its points."""

    inputs: Real[np.ndarray, "points features"]
    features: list[str]
    labels: pd.DataFrame
    owner: pd.Series | None
    images: bool
    """whether all features are of one kind, as pixels are"""


def read(
    source: Any,
    *,
    target: Column | Sequence[Column] | None = None,
    features: Sequence[Column] | None = None,
    owner: Column | None = None,
    header: bool = True,
    task: str = "auto",
    train: int | None = None,
    test: int | float | None = None,
    test_source: Any = None,
    seed: int = 0,
    scale: str | None = None,
    target_scale: str | None = None,
) -> Dataset:
    """The points in a file, a DataFrame or a dictionary of arrays.

    Columns may be given by name or by number.

    Args:
        source: a path, a table or arrays by name.
        target: the column, or columns, to be learned.
        features: the columns that are inputs; all others, if left out.
        owner: the column that says whose a point is.
        header: whether a text file's first line names the columns.
        task: "classification", "regression" or "auto" (`labels`).
        train: how many points are trained on; the others, if left out.
        test: how many are tested on, or what share of all; none, if left out.
        test_source: what the test points are read from; the same source, if left out.
        seed: draws both.
        scale: what is done to the features (`scaling`); "standard" if left out, "common" for
            images.
        target_scale: the same for targets of regression.

    Returns:
        Points scaled as `normalisation` says.

    Raises:
        InputError: for what cannot be read, or not learned from.

    Example:
        >>> nd.data.read({"x": np.eye(4), "y": np.arange(4.0)}).train_inputs.shape
        (4, 4)
    """
    check_flag("header", header)
    points, given = _points(source, target, features, owner, header)
    if test_source is not None:
        named = None if target is None else points.features
        given, _ = _points(test_source, target, named, None, header)
    if given is not None and given.features != points.features:
        raise InputError("data: test points must have the same features as training points")
    what = learned("target", _together(points, given), task)
    count = len(points.inputs)
    rows, test_rows = _drawn(count, None if given is None else len(given.inputs), train, test, seed)
    rest = points if given is None else given
    rule = ("standard", "common")[points.images] if scale is None else scale
    scaled = scaling.fit(rule, _some(points.inputs, rows), "data", names=points.features)
    values, others = what.values[:count], what.values[0 if given is None else count :]
    labels = _some(values, rows)
    owners, names = _owners(points.owner, rows)
    of_targets = _target_scaling(target_scale, what, labels)
    finish = of_targets or (lambda each: each)
    return Dataset(
        name=_named(source),
        train_inputs=scaled.single(points.inputs, rows),
        train_labels=finish(labels),
        test_inputs=scaled.single(rest.inputs, test_rows),
        test_labels=finish(others[test_rows]),
        classes=None if what.regression else len(what.names),
        normalisation=scaled.words,
        label_names=() if plain(what.names) else what.names,
        target_scaling=of_targets,
        owner=owners,
        agent_names=names,
    )


def _target_scaling(rule: str | None, what: Learned, labels: np.ndarray) -> scaling.Scaling | None:
    """That of targets of regression; classes have none."""
    if what.regression:
        rule = "standard" if rule is None else rule
        return scaling.fit(rule, labels, "target", kind="target", names=what.names)
    if rule is not None:
        raise InputError(f"target_scale: goes with regression, and {what.names[0]!r} is a class")
    return None


def _some(values: np.ndarray, rows: Int[np.ndarray, " rows"]) -> np.ndarray:
    """These rows; the array itself, and no copy, where they are all, in order."""
    every = len(rows) == len(values) and (rows == np.arange(len(values))).all()
    return values if every else values[rows]


def _named(source: Any) -> str:
    return Path(source).stem if isinstance(source, str | Path) else "given"


def _points(source: Any, target: Any, features: Any, owner: Any, header: bool) -> Any:
    """(points, test points that come with them or None)."""
    if isinstance(source, pd.DataFrame):
        frame = source.rename(columns=str).reset_index(drop=True)
        return _of_table(frame, target, features, owner), None
    if isinstance(source, Mapping):
        return _of_arrays(source, target, features, owner)
    if not isinstance(source, str | Path):
        raise InputError(
            f"data: must be the path of a file, a DataFrame or a dictionary of arrays, got "
            f"{type(source).__name__}"
        )
    path = disk.place_of("data", source)
    if not path.is_file():
        raise InputError(f"data: there is no file {path}")
    if path.suffix == ".npz":
        return _of_arrays(archives.Npz("data", path), target, features, owner)
    if path.suffix == ".npy":
        frame = _framed(path, archives.npy("data", path))
    else:
        frame = read_table(path, header)
    return _of_table(frame, target, features, owner), None


def _framed(path: Path, table: np.ndarray) -> pd.DataFrame:
    """An array as a table with columns 0, 1, ...."""
    if table.ndim not in (1, 2) or not table.size:
        raise InputError(
            f"data: the array in {path} must be (points, columns), got shape {table.shape}; one of "
            f"other shape goes into an .npz, as x beside y"
        )
    return pd.DataFrame(table).rename(columns=str)


# --- tables -----------------------------------------------------------------------------------


def _of_table(frame: pd.DataFrame, target: Any, features: Any, owner: Any) -> Points:
    kaggle = target is None and "label" in frame and any(name in frame for name in PIXELS)
    if target is None and not kaggle:
        raise InputError(
            f"target: must name the column to be learned, of {shown(list(frame.columns))}"
        )
    learned = columns_of("target", frame, "label" if kaggle else target)
    owners = [] if owner is None else columns_of("owner", frame, owner)
    if features is None:
        inputs = [name for name in frame.columns if name not in (*learned, *owners)]
        if unnamed := [name for name in inputs if name.startswith(UNNAMED)]:
            raise InputError(
                f"features: column {list(frame.columns).index(unnamed[0])} has no name, as an "
                f"index that was saved with a table; list the features, or leave it out of the file"
            )
    else:
        inputs = columns_of("feature", frame, features)
    twice = {*learned, *owners} & {*inputs} | {*learned} & {*owners}
    if twice:
        raise InputError(f"data: column {min(twice)!r} can be one of feature, target and owner")
    if not inputs:
        raise InputError("features: no column is left to learn from")
    check_whole_rows("data", frame, [*learned, *owners, *inputs])
    values = numbers("features", frame, inputs)
    of = frame[owners[0]].copy() if owners else None
    return Points(values, inputs, frame[learned].copy(), of, images=kaggle)


PIXELS = ("pixel0", "pixel1")
"""what Kaggle calls the first feature of images"""

UNNAMED = "Unnamed: "
"""how pandas calls columns without a name"""


def _together(points: Points, given: Points | None) -> pd.DataFrame:
    """The labels of training and test points, so that both have the same classes."""
    if given is None:
        return points.labels
    return pd.concat([points.labels, given.labels], ignore_index=True)


# --- arrays -----------------------------------------------------------------------------------


SPLIT, WHOLE = ("x_train", "y_train", "x_test", "y_test"), ("x", "y")


def _of_arrays(held: Mapping[str, Any], target: Any, features: Any, owner: Any) -> Any:
    if any(each is not None for each in (target, features, owner)):
        raise InputError("data: target, features and owner name columns, which arrays have none of")
    names = {str(name).lower(): name for name in held}
    for known in (SPLIT, WHOLE):
        if {*known} <= {*names}:
            pairs = [
                [arrays.plain(f"data: {each}", held[names[each]]) for each in known[i : i + 2]]
                for i in range(0, len(known), 2)
            ]
            owners = held[names["owner"]] if "owner" in names else None
            found = [_of_pair(*pair, owners if i == 0 else None) for i, pair in enumerate(pairs)]
            return found[0], found[1] if len(found) > 1 else None
    raise InputError(
        f"data: must hold arrays x and y, or {', '.join(SPLIT)}, got {shown(sorted(names))}"
    )


def _of_pair(inputs: np.ndarray, labels: np.ndarray, owner: Any) -> Points:
    """Points of x (points, *features) and y (points,) or (points, targets)."""
    if not inputs.ndim or labels.ndim not in (1, 2) or len(labels) != len(inputs):
        raise InputError(
            f"data: x must be (points, *features) and y (points,) or (points, targets), got "
            f"{inputs.shape} and {labels.shape}"
        )
    if inputs.dtype.kind not in "biuf":
        raise InputError(f"data: x must be real numbers, got {inputs.dtype}")
    flat = inputs.reshape(len(inputs), -1)
    columns = pd.DataFrame(labels).rename(columns=str)
    if labels.ndim == 1:
        columns.columns = ["y"]
    check_whole_rows("data: y", columns, list(columns))
    owners = None if owner is None else _owner_array(owner, len(inputs))
    names = [str(number) for number in range(flat.shape[1])]
    return Points(flat, names, columns, owners, images=inputs.ndim > 2)


def _owner_array(owner: Any, points: int) -> pd.Series:
    given = arrays.plain("owner", owner)
    if given.shape != (points,):
        raise InputError(f"owner: must be one agent per point ({points},), got {given.shape}")
    return pd.Series(given, name="owner")


# --- which points -----------------------------------------------------------------------------


def _drawn(
    points: int, given: int | None, train: Any, test: Any, seed: Any
) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]]:
    """The rows to train on and those to test on, of the test points given; all in order if all."""
    rng = np.random.default_rng(check_whole("data: seed", seed, 0))
    there = points if given is None else given
    tested = _count(test, there)
    if train is not None:
        train = check_whole("data: train", train, 1)
    if given is not None:
        rows = np.arange(points) if train is None else rng.permutation(points)[:train]
        _check_enough(train or points, 0, points)
        _check_enough(0, tested or given, given)
        return rows, np.arange(given) if tested is None else rng.permutation(given)[:tested]
    tested = tested or 0
    _check_enough(train or 1, tested, points)
    if train is None and not tested:
        return np.arange(points), np.arange(0)
    order = rng.permutation(points)
    train = points - tested if train is None else train
    return order[:train], order[train : train + tested]


def _count(test: Any, points: int) -> int | None:
    """How many test points; a share is one of all points."""
    if test is None:
        return None
    if is_whole(test):
        return check_whole("data: test", test, 0)
    if not is_real(test) or not 0 < test < 1:
        raise InputError(
            f"data: test must be a number of points, or a share of them between 0 and 1, got "
            f"{shown(test)}"
        )
    return max(1, round(test * points))


def _check_enough(train: int, test: int, there: int) -> None:
    if train + test > there:
        raise InputError(
            f"data: train and test must be at most {there} together, got {train} and {test}"
        )


def _owners(
    column: pd.Series | None, rows: Int[np.ndarray, " train"]
) -> tuple[Int[np.ndarray, " train"] | None, tuple[str, ...]]:
    """The agent of every training point, and what the agents are called."""
    if column is None:
        return None, ()
    codes, names = numbered("owner", column)
    codes = codes[rows]
    empty = np.setdiff1d(np.arange(len(names)), codes)
    if len(empty):
        raise InputError(
            f"owner: agent {names[empty[0]]!r} owns none of the {len(codes)} training points "
            f"drawn; train on more, or draw with another seed"
        )
    return codes, names
