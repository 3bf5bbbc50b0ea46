"""Comparison: how far apart what was predicted and what was observed are, round by round.

    gap_i(t) = |f_i_predicted(t) - f_i_observed(t)| / |f_i_observed(t) - f(theta_0)|

over all training and test points and outputs: the distance between the two as a share of the
distance travelled. Zero where nothing has moved, infinite where either has run out of numbers.
`parameter_gap` is the same of the parameters, with its standard error where they are a sample.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from ntkdyn.errors import InputError, check_kind
from ntkdyn.quantities import described
from ntkdyn.records import Record
from ntkdyn.validation import convergence

SAME = ("method", "step_size", "loss", "weights", "batch_size")
"""what two runs must share to be compared"""

IF_KNOWN = ("batch_seed", "network", "dataset", "partition")
"""and what they must share where both say it"""

SAME_START = 0.05
"""How far the outputs at the start may be apart, by rounding: a share of their size."""

STABILITY = ("stable", "step_size_limit")

HELD = ("outputs", "initial_outputs", "targets", "owner", "split", "train_loss", "displacement",
        "consensus_distance")  # fmt: skip
"""variables that both records must have"""

AXES = ("round", "agent", "point", "output")


def compare(predicted: Record, observed: Record) -> Record:
    """The gap per agent and round, of outputs, losses, distances and, if kept, parameters."""
    _check_alike(predicted, observed)
    variables = {
        "gap": _gap(predicted, observed, slice(None)),
        "train_gap": _gap(predicted, observed, predicted["split"] == "train"),
    }
    if (predicted["split"] == "test").any():
        variables["test_gap"] = _gap(predicted, observed, predicted["split"] == "test")
    for name in ("train_loss", "global_loss", "test_loss", "train_accuracy", "test_accuracy"):
        if name in predicted and name in observed:
            variables[f"{name}_difference"] = predicted[name] - observed[name]
    for name in ("displacement", "consensus_distance"):
        variables[f"{name}_difference"] = predicted[name] - observed[name]
    if "parameters" in predicted and "parameters" in observed:
        variables |= _parameter_gap(predicted, observed)
    if np.isfinite(predicted["train_loss"]).all():
        variables |= convergence.rates(predicted, observed)
    comparison = xr.Dataset(variables)
    return described(comparison.assign_attrs(_summary(comparison, predicted, observed)))


def _gap(predicted: Record, observed: Record, points) -> xr.DataArray:
    return distance(predicted, observed, observed, points)


def distance(one: Record, other: Record, observed: Record, points=slice(None)) -> xr.DataArray:
    """|f_i_one - f_i_other| / |f_i_observed - f(theta_0)| (round, agent), over those points."""
    before, seen = observed["initial_outputs"][points], observed["outputs"][:, :, points]
    apart = one["outputs"][:, :, points] - other["outputs"][:, :, points]
    return _ratio(_norm(apart, "point", "output"), _norm(seen - before, "point", "output"))


def _parameter_gap(predicted: Record, observed: Record) -> dict[str, xr.DataArray]:
    """As the gap, in parameters, each kept entry standing for `parameter_weight` of its tensor.

    Its standard error is that of a ratio of two sums over samples without replacement, to first
    order: R = A / B with A = sum of a_j^2, B = sum of b_j^2 varies as the sum of a_j^2 - R b_j^2
    over B does, and the sum over n of a tensor's N entries by n (1 - n / N) times their variance.
    Zero where all parameters are kept, NaN where a tensor shows only one of its entries.
    """
    _check_same_entries(predicted, observed)
    weight = predicted["parameter_weight"]
    apart = weight * (predicted["parameters"] - observed["parameters"]).astype(np.float64) ** 2
    moved = observed["parameters"] - observed["initial_parameters"]
    moved = weight * moved.astype(np.float64) ** 2
    sums = [np.sqrt(each.sum("parameter", skipna=False)) for each in (apart, moved)]
    gap = _ratio(*sums)
    with np.errstate(over="ignore", invalid="ignore"):  # of runs that diverged
        spread = np.sqrt(_variance_of_sum(apart - gap**2 * moved))
    scale = 2 * gap * sums[1] ** 2
    error = xr.where(spread > 0, spread / xr.where(scale > 0, scale, 1), spread)
    return {"parameter_gap": gap, "parameter_gap_error": error}


def _variance_of_sum(values: xr.DataArray) -> xr.DataArray:
    """Of weighted values over `parameter`, of which every tensor shows a sample."""
    weight, total = values["parameter_weight"].values, 0.0 * values.sum("parameter")
    tensors = values["parameter_tensor"].values
    for tensor in np.unique(tensors[weight > 1]):
        own = values.isel(parameter=tensors == tensor)
        left_out = 1 - 1 / float(own["parameter_weight"][0])
        total = total + own.sizes["parameter"] * left_out * own.var("parameter", ddof=1)
    return total


def _check_same_entries(predicted: Record, observed: Record) -> None:
    """Refuse parameters of other places, agents or rounds."""
    for name in ("parameter_round", "parameter_agent", "parameter_tensor", "parameter_entry"):
        if not np.array_equal(predicted[name], observed[name]):
            raise InputError(f"compare: the records hold other parameters, by their {name}")


def _norm(values: xr.DataArray, *dims: str) -> xr.DataArray:
    with np.errstate(over="ignore"):
        return np.sqrt((values.astype(np.float64) ** 2).sum(dims, skipna=False))


def _ratio(distance: xr.DataArray, travelled: xr.DataArray) -> xr.DataArray:
    share = xr.where(travelled > 0, distance / xr.where(travelled > 0, travelled, 1), 0.0)
    return xr.where(np.isfinite(distance) & np.isfinite(travelled), share, np.inf)


def _check_whole(record: Any, name: str) -> None:
    """Refuse what is no record of a run, or one that something was taken from."""
    check_kind(f"compare: the {name} record", record, Record, "as `predict` and `train` give")
    if "outputs" not in record:
        raise InputError(f"compare: the {name} record holds no outputs to compare")
    for held in (*HELD, *AXES):
        if held not in record.variables and held not in record.dims:
            raise InputError(f"compare: the {name} record lacks {held}; take it as it was made")
    for said in (*SAME, *IF_KNOWN):
        if np.ndim(record.attrs.get(said)):
            raise InputError(f"compare: {said} of the {name} record must be one value")
    if not isinstance(record.attrs.get("space"), str):
        raise InputError(f"compare: the {name} record does not say in which space it was run")


def _check_alike(predicted: Record, observed: Record) -> None:
    _check_whole(predicted, "predicted")
    _check_whole(observed, "observed")
    for name in SAME:
        one, other = predicted.attrs.get(name), observed.attrs.get(name)
        if one != other:
            raise InputError(f"compare: the records differ in {name}: {one} and {other}")
    for name in IF_KNOWN:
        one, other = predicted.attrs.get(name), observed.attrs.get(name)
        if None not in (one, other) and one != other:
            raise InputError(f"compare: the records differ in {name}: {one} and {other}")
    if predicted.attrs.get("space") == "network" != observed.attrs.get("space"):
        raise InputError(
            "compare: the first record was trained and the second predicted; swap them"
        )
    for name in AXES:
        if predicted.sizes[name] != observed.sizes[name]:
            raise InputError(
                f"compare: the records differ in {name}s: {predicted.sizes[name]} and "
                f"{observed.sizes[name]}"
            )
    if (predicted["round"].values != observed["round"].values).any():
        raise InputError("compare: the records were made in different rounds")
    if (predicted["targets"].values != observed["targets"].values).any():
        raise InputError("compare: the records have different targets, so different data")
    if (predicted["owner"].values != observed["owner"].values).any():
        raise InputError("compare: points belong to other agents in one record than in the other")
    starts = [record["initial_outputs"].values for record in (predicted, observed)]
    apart, size = np.linalg.norm(starts[0] - starts[1]), np.linalg.norm(starts[1])
    if apart > SAME_START * size:
        raise InputError(
            f"compare: outputs at the start differ by {100 * apart / max(size, 1e-300):.3g} % of "
            f"their size, so the records are of other networks or other seeds"
        )


def _summary(
    comparison: Record, predicted: Record, observed: Record
) -> dict[str, float | int | str]:
    gap = comparison["gap"]
    worst = gap.isel(gap.argmax(...))
    over = ~np.isfinite(gap).all("agent")
    return {
        **({"diverged_round": int(gap["round"][over.values.argmax()])} if over.any() else {}),
        "largest_gap": float(worst),
        "largest_gap_round": int(worst["round"]),
        "largest_gap_agent": int(worst["agent"]),
        "final_gap": float(gap.isel(round=-1).max()),
        "predicted_with": f"{predicted.attrs['space']} space, {predicted.attrs['kernel']} kernel",
        **_last_parameter_gap(comparison),
        **{name: predicted.attrs[name] for name in SAME},
        **{name: predicted.attrs[name] for name in STABILITY if name in predicted.attrs},
    }


def _last_parameter_gap(comparison: Record) -> dict[str, float]:
    """Of the last round that has one, the most over agents, and its standard error."""
    if "parameter_gap" not in comparison:
        return {}
    last = comparison[["parameter_gap", "parameter_gap_error"]].isel(parameter_round=-1)
    worst = last.isel(parameter_agent=int(last["parameter_gap"].values.argmax()))
    return {
        "final_parameter_gap": float(worst["parameter_gap"]),
        "final_parameter_gap_error": float(worst["parameter_gap_error"]),
    }
