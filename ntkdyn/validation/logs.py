"""Logs: what somebody else's deployment wrote down, as a record beside a prediction.

A table has a row for every agent and round, and a column for each measure; an .npz holds outputs.
Nothing is made up: what a log does not say its record does not hold, and `compare` judges by what
is left, the outputs or else a single measure of `BY`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float, Int

from ntkdyn import archives, arrays, disk, losses, names
from ntkdyn.data.tables import check_whole_rows, columns_of, read_table
from ntkdyn.errors import InputError, check_kind, check_name, is_real, shown
from ntkdyn.measures import measure
from ntkdyn.problems import Task
from ntkdyn.quantities import described
from ntkdyn.records import Record, agent_names

KNOWN = {
    "round": ("round", "rounds", "iteration", "iter", "step"),
    "agent": ("agent", "node", "client", "worker", "rank"),
    "train_loss": ("train_loss", "training_loss", "loss_train", "loss"),
    "global_loss": ("global_loss",),
    "test_loss": ("test_loss", "loss_test", "val_loss", "loss_val", "validation_loss"),
    "train_accuracy": ("train_accuracy", "train_acc", "accuracy_train", "acc_train"),
    "test_accuracy": (
        "test_accuracy", "test_acc", "accuracy_test", "acc_test", "val_accuracy", "val_acc",
        "accuracy", "acc",
    ),
    "train_r2": ("train_r2", "r2_train"),
    "test_r2": ("test_r2", "r2_test", "val_r2", "r2"),
    "consensus_distance": ("consensus_distance",),
    "displacement": ("displacement",),
}  # fmt: skip
"""what a record calls it -> what logs do, in small letters and with _ for all that is no letter"""

BY = ("train_loss", "global_loss", "test_loss", "test_accuracy", "train_accuracy", "test_r2")
"""what a log without outputs is judged by: the first of these that it holds"""

PERCENT = 100.0

ALIKE = 0.05
"""Ratios to the predicted losses at the start that differ by less are one factor of all agents."""


def from_log(
    log: Any,
    predicted: Record,
    *,
    columns: Mapping[str, str | int] | None = None,
    agents: Mapping[Any, str] | None = None,
    factors: Mapping[str, float | int] | None = None,
) -> Record:
    """The record (round, agent) of a log, for `compare` with what was predicted.

    `log` is a table, the path of one (.csv, .tsv, .parquet) or a DataFrame, with a row per agent
    and round; or an .npz, or a dictionary of arrays, with `outputs` (rounds, agents, points,
    outputs) at the points of the prediction, `round` (rounds,), its rounds if left out, and `agent`
    (agents,), its agents if left out. Rounds count from the start, which is round 0.

    `columns` says what a log calls what the record calls round, agent, train_loss, global_loss,
    test_loss, train_accuracy, test_accuracy, ...; usual names are found, and the agents' column by
    their names. `agents` says what the prediction calls the log's agents, where they are called
    otherwise. Losses are in units of the prediction's (for "mse" half the sum of squares over
    outputs, the mean over points): `factors` is what a measure of the log is multiplied by.
    Accuracies above 1 are per cent. The record says in `log_columns` what was read as what, and in
    `log_lacks` what it does not hold.

    Raises:
        InputError: for rows that are missing, double or not whole, other agents than the
            prediction's, losses that are off by one factor at the start, and what cannot be read.

    Args:
        log: a table, its path, or arrays by name.
        predicted: the record of `predict` that it is to be held against.
        columns: what the log calls things.
        agents: what the prediction calls the log's agents.
        factors: what measures of the log are multiplied by.

    Returns:
        The measures that the log holds, over `round` and `agent`.

    Example:
        >>> told = nd.predict(bare, dgd, W, 2)
        >>> rows = told[["train_loss"]].to_dataframe().reset_index()
        >>> nd.validation.from_log(rows[["round", "agent", "train_loss"]], told).sizes["round"]
        3
    """
    check_kind("log: the prediction", predicted, Record, "as `predict` gives")
    columns, agents, factors = (
        _by_name(what, given)
        for what, given in (("columns", columns), ("agents", agents), ("factors", factors))
    )
    source, name = _source(log)
    if isinstance(source, pd.DataFrame):
        found, read = _of_table(source, predicted, columns, agents)
    elif columns:
        raise InputError("columns: go with a table, and arrays have names of their own")
    else:
        found, read = _of_arrays(source, predicted, agents)
    found = _in_units(found, factors, read)
    _check_losses(found)
    _check_scale(found, predicted)
    lacks = [each for each in KNOWN if each in predicted and each not in found.variables]
    if "agent_name" in predicted.coords:
        found = found.assign_coords(agent_name=("agent", predicted["agent_name"].values))
    told = {"space": "network", "kernel": "none", "log": name, "log_columns": json.dumps(read)}
    return described(found.assign_attrs(told, log_lacks=", ".join(lacks)))


def _by_name(what: str, given: Any) -> dict[str, Any]:
    """What is said of each, by its name as text."""
    if not isinstance(given, Mapping | None):
        raise InputError(f"{what}: must be a dictionary, got {shown(given)}")
    return {str(name): value for name, value in (given or {}).items()}


def _source(log: Any) -> tuple[pd.DataFrame | Mapping[str, Any], str]:
    """The log as a table or arrays by name, and what it is called."""
    if isinstance(log, pd.DataFrame):
        return log.rename(columns=str).reset_index(drop=True), "a DataFrame"
    if isinstance(log, Mapping):
        return log, "arrays"
    path = disk.place_of("log", log)
    if not path.is_file():
        raise InputError(f"log: there is no file {path}")
    return archives.Npz("log", path) if path.suffix == ".npz" else read_table(path), path.name


# --- tables -----------------------------------------------------------------------------------


def _of_table(
    frame: pd.DataFrame, predicted: Record, columns: dict[str, Any], agents: dict[str, str]
) -> tuple[Record, dict[str, str]]:
    """What a table holds, and which of its columns is what."""
    if frame.empty:
        raise InputError("log: holds no rows")
    read = _columns(frame, predicted, columns, agents)
    check_whole_rows("log", frame, list(read.values()))
    rounds = _rounds(frame[read["round"]])
    places = _places(*names.numbered("log", frame[read["agent"]]), predicted, agents)
    kept, row = np.unique(rounds, return_inverse=True)
    _check_grid(rounds, places, agent_names(predicted))
    found = xr.Dataset(coords={"round": kept, "agent": np.arange(predicted.sizes["agent"])})
    for name in [each for each in read if each not in ("round", "agent")]:
        table = np.empty((found.sizes["round"], found.sizes["agent"]))
        table[row, places] = _numbers(read[name], frame[read[name]])
        found[name] = (("round", "agent"), table)
    return found, read


def _columns(
    frame: pd.DataFrame, predicted: Record, given: dict[str, Any], agents: dict[str, str]
) -> dict[str, str]:
    """What the record calls it -> the column, given or found by its name; agents by theirs too."""
    for name in given:
        check_name("measure of a log", name, KNOWN)
    found = {name: columns_of("log", frame, each)[0] for name, each in given.items()}
    free = {_plain(each): each for each in frame.columns if each not in found.values()}
    for name, usual in KNOWN.items():
        there = [free[each] for each in usual if each in free]
        if name not in found and there:
            found[_meant(name, there[0], predicted)] = there[0]
    if "agent" not in found:
        found |= _agents_column(frame, predicted, agents)
    for axis in ("round", "agent"):
        if axis not in found:
            raise InputError(
                f"log: none of its columns {shown(list(frame.columns))} is called as the {axis}; "
                f"say which is, as in columns={{{axis!r}: ...}} or --column {axis}=..."
            )
    if len(found) == 2:
        raise InputError(
            f"log: none of its columns {shown(list(frame.columns))} is called as a measure; say "
            f"which is one, as in columns={{'train_loss': ...}} or --column train_loss=..."
        )
    return found


def _agents_column(
    frame: pd.DataFrame, predicted: Record, agents: dict[str, str]
) -> dict[str, str]:
    """The first column that holds the names of the prediction's agents, whatever it is called."""
    wanted = set(agent_names(predicted))
    called = lambda value: agents.get(str(value), str(value))
    same = [name for name in frame if {*frame[name].dropna().map(called)} == wanted]
    return {"agent": same[0]} if same else {}


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]+", "_", name.lower()).strip("_")


def _meant(name: str, column: str, predicted: Record) -> str:
    """Accuracy, without saying of what, is that on test points where there are some."""
    bare = _plain(column) in ("accuracy", "acc", "r2") and name not in predicted
    return name.replace("test", "train") if bare else name


def _rounds(column: pd.Series) -> Int[np.ndarray, " rows"]:
    values = _numbers(str(column.name), column)
    wrong = np.flatnonzero((values < 0) | (values != np.floor(values)) | (values > 2**53))
    if wrong.size:
        row = int(wrong[0])
        raise InputError(
            f"log: rounds must be whole numbers from 0 on, got {values[row]:g} in row {row + 1}"
        )
    return values.astype(int)


def _numbers(name: str, column: pd.Series) -> Float[np.ndarray, " rows"]:
    values = pd.to_numeric(column, errors="coerce").to_numpy(float)
    if np.isnan(values).any():
        row = int(np.flatnonzero(np.isnan(values))[0])
        raise InputError(
            f"log: column {name!r} must hold numbers, got {shown(column.iloc[row])} in row "
            f"{row + 1}"
        )
    return values


def _places(
    codes: Int[np.ndarray, " rows"],
    found: tuple[str, ...],
    predicted: Record,
    agents: dict[str, str],
) -> Int[np.ndarray, " rows"]:
    """The number of each row's agent in the prediction."""
    wanted = agent_names(predicted)
    called = [agents.get(each, each) for each in found]
    if sorted(called) != sorted(wanted):
        others = [each for each in called if each not in wanted]
        lacking = [each for each in wanted if each not in called]
        parts = ["has agents " + _listed(others)] if others else []
        parts += ["lacks " + _listed(lacking)] if lacking else []
        parts = parts or ["gives two agents one name"]
        raise InputError(
            f"log: {' and '.join(parts)}, where the prediction's are {_listed(wanted)}; say with "
            f"agents={{...}} what the prediction calls each"
        )
    return np.array([wanted.index(each) for each in called])[codes]


def _listed(called: list[str], most: int = 8) -> str:
    return ", ".join(map(repr, called[:most])) + (", ..." if len(called) > most else "")


def _check_grid(rounds: np.ndarray, places: np.ndarray, wanted: list[str]) -> None:
    """Refuse two rows, or none, of an agent in a round."""
    pairs = pd.MultiIndex.from_arrays([rounds, places])
    if pairs.has_duplicates:
        second = int(pairs.duplicated().argmax())
        first = int((pairs == pairs[second]).argmax())
        raise InputError(
            f"log: rows {first + 1} and {second + 1} are both of agent {wanted[places[second]]!r} "
            f"in round {rounds[second]}"
        )
    whole = pd.MultiIndex.from_product([np.unique(rounds), range(len(wanted))])
    gaps = whole.difference(pairs)
    if len(gaps):
        raise InputError(
            f"log: {len(gaps)} rows are missing, the first of agent {wanted[gaps[0][1]]!r} in "
            f"round {gaps[0][0]}; every agent needs one in each round that is logged"
        )


# --- outputs ----------------------------------------------------------------------------------


def _of_arrays(
    source: Mapping[str, Any], predicted: Record, agents: dict[str, str]
) -> tuple[Record, dict[str, str]]:
    """Outputs in the order of the prediction's agents, and what is measured of them."""
    if "outputs" not in source:
        raise InputError(f"log: must hold outputs, got {_listed(list(source)) or 'nothing'}")
    if lacking := [each for each in ("outputs", "targets", "owner") if each not in predicted]:
        raise InputError(f"log: the prediction lacks {lacking[0]}, which outputs are laid over")
    outputs = arrays.real("log: outputs", source["outputs"])
    rounds = _logged_rounds(source, predicted, len(outputs) if outputs.ndim else 0)
    sizes = [predicted.sizes[axis] for axis in ("agent", "point", "output")]
    if outputs.shape != (len(rounds), *sizes):
        raise InputError(
            f"log: outputs must be (rounds, agents, points, outputs) = "
            f"{(len(rounds), *sizes)}, got {outputs.shape}"
        )
    called = pd.Series(source["agent"]) if "agent" in source else pd.Series(agent_names(predicted))
    places = _places(*names.numbered("log", called), predicted, agents)
    dims = ("round", "agent", "point", "output")
    kept = ["targets", "owner", "split", *(["label"] if "label" in predicted.coords else [])]
    found = predicted[kept].drop_vars(["round", "agent"], errors="ignore").drop_attrs()
    found = found.assign_coords(round=rounds, agent=np.arange(sizes[0]))
    found["outputs"] = (dims, outputs[:, np.argsort(places)].astype(np.float64))
    start = found["outputs"][0, 0] if rounds[0] == 0 else predicted["initial_outputs"]
    found["initial_outputs"] = start.drop_vars(["round", "agent"], errors="ignore")
    task = _task(predicted)
    seen = [measure(task, each) for each in found["outputs"].values]
    measured = {each: (("round", "agent"), np.stack([m[each] for m in seen])) for each in seen[0]}
    return found.assign(measured), {"outputs": "outputs"}


def _logged_rounds(source: Mapping[str, Any], predicted: Record, count: int) -> np.ndarray:
    if "round" not in source and count != predicted.sizes["round"]:
        raise InputError(
            f"log: holds {count} rounds and no array `round` that says which; the prediction has "
            f"{predicted.sizes['round']}"
        )
    rounds = source["round"] if "round" in source else predicted["round"].values
    rounds = _rounds(pd.Series(np.ravel(arrays.plain("log: round", rounds)), name="round"))
    if len(rounds) != count or (np.diff(rounds) <= 0).any():
        raise InputError(
            f"log: round must be {count} ascending numbers, one for each of the outputs' rounds"
        )
    return rounds


def _task(predicted: Record) -> Task:
    """What measures need to know of the prediction's problem."""
    labels = predicted["label"].values if "label" in predicted.coords else None
    owner, split = predicted["owner"].values, predicted["split"].values
    return Task(
        targets=predicted["targets"].values,
        owner=owner[split == "train"],
        agents=predicted.sizes["agent"],
        loss=losses.named(predicted.attrs["loss"]),
        labels=labels,
        public=int((split == "public").sum()),
    )


# --- units ------------------------------------------------------------------------------------


def _in_units(found: Record, factors: dict[str, Any], read: dict[str, str]) -> Record:
    """Measures times their factors, accuracies as shares; `read` says where that was done."""
    for name, factor in factors.items():
        check_name("measure of the log", name, [str(each) for each in found.data_vars])
        if not is_real(factor) or not 0 < factor < math.inf:
            raise InputError(
                f"factors: that of {name} must be positive and finite, got {shown(factor)}"
            )
        found = found.assign({name: found[name] * factor})
        read[name] = f"{read.get(name, name)} x {factor:g}"
    for name in [each for each in found.data_vars if str(each).endswith("_accuracy")]:
        most = float(found[name].max())
        if float(found[name].min()) < 0 or most > PERCENT:
            raise InputError(f"log: {name} must be shares, or per cent, got up to {most:g}")
        if most > 1:
            found = found.assign({name: found[name] / PERCENT})
            read[name] = f"{read[name]} in per cent"
    return found


def _check_losses(found: Record) -> None:
    """Refuse losses that none of the package's can be, in this unit or another."""
    for name in [str(each) for each in found.data_vars if str(each).endswith("_loss")]:
        if (found[name] < 0).any():
            raise InputError(f"log: {name} must not be negative, got {float(found[name].min()):g}")


def _check_scale(found: Record, predicted: Record) -> None:
    """Refuse a loss that is the predicted one at the start but for a factor, the same of all."""
    name, sides = "train_loss", (found, predicted)
    if not all(name in each and each["round"].values[0] == 0 for each in sides):
        return
    seen, there = (each[name].values[0] for each in sides)
    ratio = seen / there if (there > 0).all() else np.ones(1)
    alike = ratio.size > 1 and ratio.min() > 0 and ratio.max() < (1 + ALIKE) * ratio.min()
    if alike and not 1 - ALIKE < ratio.mean() < 1 + ALIKE:
        raise InputError(
            f"log: {name} in round 0 is {ratio.mean():.4g} times the predicted one, of every agent "
            f"alike, so it has another unit{_known_unit(predicted, ratio.mean())}; give its "
            f"factor, as in factors={{{name!r}: {1 / ratio.mean():.4g}}}"
        )


def _known_unit(predicted: Record, ratio: float) -> str:
    """Where the factor may come from."""
    of_torch = 2 / predicted.sizes.get("output", 1)
    if predicted.attrs.get("loss") != "mse" or abs(ratio - of_torch) > ALIKE * of_torch:
        return ""
    return " (PyTorch's MSELoss is the mean of squares over outputs, without a half)"


# --- beside a prediction ----------------------------------------------------------------------


def together(predicted: Record, log: Record) -> tuple[Record, Record, str]:
    """Both in the rounds that both hold, with what they are judged by in the place of outputs.

    A single measure takes that place as one output of one point.
    """
    rounds = np.intersect1d(predicted["round"], log["round"])
    if not len(rounds):
        raise InputError(
            f"compare: none of the log's rounds, {_ends(log)}, is among those recorded of the "
            f"prediction, {_ends(predicted)}; predict with rounds=[...] those of the log"
        )
    if predicted.sizes["agent"] != log.sizes["agent"]:
        raise InputError("compare: the log is of other agents than the prediction")
    if "outputs" in log:
        return predicted.sel(round=rounds), log.sel(round=rounds), "outputs"
    by = next((name for name in BY if name in log and name in predicted), None)
    if by is None:
        raise InputError(f"compare: the log holds none of {', '.join(BY)} of the prediction")
    sides = predicted, log
    known = [each[by].sel(round=0, drop=True) for each in sides if 0 in each["round"]]
    if not known:
        raise InputError("compare: neither log nor prediction holds round 0, where they start")
    starts = known if len(known) == 2 else known * 2
    one, other = (
        _bare(side.sel(round=rounds)).assign(
            outputs=_single(side[by].sel(round=rounds)), initial_outputs=_single(start)
        )
        for side, start in zip(sides, starts, strict=True)
    )
    return one, other, by


def _ends(record: Record) -> str:
    return f"{record['round'].values[0]} to {record['round'].values[-1]}"


def _single(values: xr.DataArray) -> xr.DataArray:
    """One output of one point."""
    return values.expand_dims(("point", "output"), axis=(-2, -1)).astype(np.float64)


def _bare(record: Record) -> Record:
    """Without whatever is about points and outputs."""
    return record.drop_dims([each for each in ("point", "output") if each in record.dims])
