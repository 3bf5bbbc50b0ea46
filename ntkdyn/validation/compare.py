"""Comparison: how far apart what was predicted and what was observed are, round by round.

The gaps of `gaps`, of outputs over all training and test points, and of parameters where these are
kept, with standard errors where they are a sample. What each agent's deviation from the mean agent
leaves unexplained comes first: it depends on graph, method and data. Beside it stand the gaps of
`nulls`, and `verdict` says in a sentence whether the observation tells the prediction from them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from ntkdyn.errors import InputError, check_kind
from ntkdyn.quantities import described
from ntkdyn.records import Record
from ntkdyn.validation import convergence, gaps, logs, verdicts
from ntkdyn.validation.nulls import joined, of_records

SAME = ("method", "step_size", "loss", "weights", "batch_size")
"""what two runs must share to be compared"""

IF_KNOWN = ("batch_seed", "batches", "network", "dataset", "partition")
"""and what they must share where both say it"""

SAME_START = 0.05
"""How far the outputs at the start may be apart, by rounding: a share of their size."""

MEASURES = ("train_loss", "global_loss", "test_loss", "train_accuracy", "test_accuracy",
            "train_r2", "test_r2")  # fmt: skip
"""what is compared as a difference, of those that both records hold"""

STABILITY = ("stable", "step_size_limit")

DISTANCES = ("displacement", "consensus_distance")
"""and of these"""

HELD = ("outputs", "initial_outputs", "targets", "owner", "split", "train_loss", "displacement",
        "consensus_distance")  # fmt: skip
"""variables that both records must have"""

AXES = ("round", "agent", "point", "output")


def compare(predicted: Record, observed: Record, nulls: Record | None = None) -> Record:
    """The gaps per agent and round, of outputs, losses, distances and, if kept, parameters.

    `nulls`, as `validation.nulls` gives them of the observed record, are held beside those that
    need no prediction. Of a log (`from_log`) in the rounds that both hold, and where it holds no
    outputs, the gaps are those of a measure, which `compared` names: of train_loss, say, with each
    agent's change since the start for the distance travelled.

    Args:
        predicted: a record of `predict`, or of another run that is to be held against one.
        observed: of `train`, or `from_log`, in the same rounds and at the same points.
        nulls: gaps of what was not run; left out, it is held against what needs no prediction.

    Returns:
        gap, deviation_gap and the like (round, agent), relative to the distance travelled from the
        start; per loss its difference; attributes say how far apart the last round is.

    Raises:
        InputError: for records of different problems, rounds or agents.

    Example:
        >>> pred, obs = nd.predict(prob, dgd, W, 4), nd.train(prob, dgd, W, 4)
        >>> bool(nd.compare(pred, obs)["gap"].max() < 0.2)
        True
    """
    if not _is_log(observed):
        _check_alike(predicted, observed)
        return _compared(predicted, observed, nulls, "outputs")
    _check_whole(predicted, "predicted")
    _check_said(predicted, observed)
    predicted, observed, by = logs.together(predicted, observed)
    found = _compared(predicted, observed, nulls, by)
    more = {"log": observed.attrs["log"], "log_lacks": observed.attrs["log_lacks"]}
    if by == "outputs":
        _check_start(predicted, observed)
        return found.assign_attrs(more)
    said = [found.attrs["verdict"], f"by {by} alone, for the log holds no outputs"]
    if (apart := _apart_at_start(predicted, observed)) > SAME_START:
        said.append(f"it starts {verdicts.percent(apart)} away from where the prediction does")
    return found.assign_attrs(more, verdict="; ".join(said))


def _is_log(record: Any) -> bool:
    return isinstance(record, Record) and "log" in record.attrs


def _compared(predicted: Record, observed: Record, nulls: Record | None, by: str) -> Record:
    """The comparison of two records in the same rounds."""
    outputs = predicted["outputs"], observed["outputs"]
    variables = dict(gaps.of_outputs(*outputs, observed))
    if by == "outputs":
        variables |= _of_parts(predicted, observed)
    for name in (*MEASURES, *DISTANCES):
        if name in predicted and name in observed:
            variables[f"{name}_difference"] = predicted[name] - observed[name]
    for side, record in (("predicted", predicted), ("observed", observed)):
        variables[f"{side}_deviation"] = gaps.along(record["outputs"], observed)
    if "parameters" in predicted and "parameters" in observed:
        variables |= _parameter_gaps(predicted, observed)
    if "train_loss" in observed and np.isfinite(predicted["train_loss"]).all():
        variables |= convergence.rates(predicted, observed)
    others = _nulls(predicted, observed, nulls)
    comparison = xr.Dataset(variables).assign(others.data_vars)
    told = verdicts.skilled(comparison)
    more = {"nulls_left_out": others.attrs.get("left_out", ""), "compared": by}
    if by == "outputs":
        more["verdict"] = verdicts.with_proof(told.attrs["verdict"], predicted)
    summary = _summary(told, predicted, observed)
    return described(told.assign_attrs(summary | told.attrs | more))


def _of_parts(predicted: Record, observed: Record) -> dict[str, xr.DataArray]:
    """The gaps on training and test points, and those that segments added."""
    outputs, found = (predicted["outputs"], observed["outputs"]), {}
    for part in ("train", "test"):
        if (points := predicted["split"].values == part).any():
            found[f"{part}_gap"] = gaps.of_outputs(*outputs, observed, points)["gap"]
    return found | (_segments(predicted, observed) if "segment_error" in predicted else {})


def _nulls(predicted: Record, observed: Record, nulls: Record | None) -> Record:
    """All nulls there are, those given first."""
    free = of_records(predicted, observed)
    if nulls is None:
        return free
    check_kind("compare: nulls", nulls, Record, "as `validation.nulls` gives")
    same = "round" in nulls.coords and np.array_equal(nulls["round"], observed["round"])
    if nulls.sizes.get("explanation") and not same:
        raise InputError("compare: the nulls are of another run; give those of the observed record")
    return joined(nulls, free).assign_attrs(nulls.attrs)


def _segments(predicted: Record, observed: Record) -> dict[str, xr.DataArray]:
    """By how much every segment of an anchored prediction was off: estimated, and true.

    The true error is that of what an agent's outputs gained between the recorded rounds of the
    segment, the last before it included, as a share of the distance travelled by its last; the
    most over agents, NaN where no round of the segment is recorded.
    """
    rounds, apart = observed["round"].values, predicted["outputs"] - observed["outputs"]
    moved = gaps.norm(observed["outputs"] - observed["initial_outputs"])
    begins = predicted["anchor"].values
    places = np.searchsorted(rounds, [*begins, np.inf], side="right") - 1
    true = np.full(len(begins), np.nan)
    for segment, (begin, end) in enumerate(zip(places, places[1:], strict=False)):
        if end > begin >= 0:
            gained = gaps.norm(apart.isel(round=end) - apart.isel(round=begin))
            true[segment] = float(gaps.ratio(gained, moved.isel(round=end)).max())
    return {
        "segment_error": predicted["segment_error"],
        "true_segment_error": xr.DataArray(true, {"anchor": begins}, "anchor"),
    }


def _parameter_gaps(predicted: Record, observed: Record) -> dict[str, xr.DataArray]:
    """The gaps in parameters, each kept entry standing for `parameter_weight` of its tensor.

    Those beside the mean agent need all agents' parameters. The standard error is that of a ratio
    of two sums over samples without replacement, to first order: R = A / B with A = sum of a_j^2,
    B = sum of b_j^2 varies as the sum of a_j^2 - R b_j^2 over B does, and the sum over n of a
    tensor's N entries by n (1 - n / N) times their variance. Zero where all parameters are kept,
    NaN where a tensor shows only one of its entries.
    """
    _check_same_entries(predicted, observed)
    seen, weight = observed["parameters"].astype(np.float64), predicted["parameter_weight"]
    apart = predicted["parameters"] - seen
    known = gaps.pairs(apart, seen - observed["initial_parameters"], "parameter_agent")
    if predicted.sizes["parameter_agent"] < predicted.sizes["agent"]:
        known = {"gap": known["gap"]}
    squares = {name: [weight * each**2 for each in pair] for name, pair in known.items()}
    norms = {
        name: tuple(np.sqrt(each.sum("parameter", skipna=False)) for each in pair)
        for name, pair in squares.items()
    }
    found = gaps.told(norms, "parameter_agent")
    errors = {f"{name}_error": _error(found[name], *squares[name], norms[name]) for name in norms}
    return {f"parameter_{name}": each for name, each in (found | errors).items()}


def _error(
    gap: xr.DataArray, apart: xr.DataArray, moved: xr.DataArray, norms: gaps.Pair
) -> xr.DataArray:
    """The standard error of a gap, from the weighted squares of the sample."""
    with np.errstate(over="ignore", invalid="ignore"):  # of runs that diverged
        spread = np.sqrt(_variance_of_sum(apart - gap**2 * moved))
    scale = 2 * gap * norms[1] ** 2
    return xr.where(spread > 0, spread / xr.where(scale > 0, scale, 1), spread)


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


def _check_said(predicted: Record, observed: Record) -> None:
    """Refuse records that say other things of what they are of; a log may say nothing."""
    for name in (*SAME, *IF_KNOWN):
        one, other = predicted.attrs.get(name), observed.attrs.get(name)
        if None not in (one, other) and one != other:
            raise InputError(f"compare: the records differ in {name}: {one} and {other}")


def _check_alike(predicted: Record, observed: Record) -> None:
    _check_whole(predicted, "predicted")
    _check_whole(observed, "observed")
    for name in SAME:
        one, other = predicted.attrs.get(name), observed.attrs.get(name)
        if one != other:
            raise InputError(f"compare: the records differ in {name}: {one} and {other}")
    _check_said(predicted, observed)
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
    _check_start(predicted, observed)


def _check_start(predicted: Record, observed: Record) -> None:
    if (apart := _apart_at_start(predicted, observed)) > SAME_START:
        raise InputError(
            f"compare: outputs at the start differ by {100 * apart:.3g} % of their size, so the "
            f"records are of other networks or other seeds"
        )


def _apart_at_start(predicted: Record, observed: Record) -> float:
    """How far what is compared is apart at the start, as a share of its size."""
    one, other = (record["initial_outputs"].values for record in (predicted, observed))
    return float(np.linalg.norm(one - other) / max(np.linalg.norm(other), 1e-300))


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
        "final_common_gap": float(comparison["common_gap"][-1]),
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
