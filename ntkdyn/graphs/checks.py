"""The door for a W from outside: rounding in it is set right, and said; all else is refused.

Weights that were printed with six decimals, or computed in single precision, sum to one and are
symmetric only so far. What they lack is made up for by as little as possible, so that what theory
needs holds to double precision: a symmetric W stays symmetric and takes it from its diagonal, one
whose rows and columns both sum to one is scaled by rows and columns, others by rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import networkx as nx
import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from jaxtyping import Float

from ntkdyn import arrays
from ntkdyn.errors import InputError, check_name, check_whole
from ntkdyn.graphs.matrices import ROUNDING, MixingMatrix, MixingSequence, check_connected

PRINTED = 1e-6
"""How far a weight may be from what was meant: that of six decimals, also if cut off."""

GATHERED = 8
"""Rounding errors that a weight may have gathered, as one minus the sum of the others has."""

SHOWN = 4
"""agents that a refusal names at most"""

AXES = {"rows": 1, "columns": 0}

NOTHING = np.finfo(np.float64).eps
"""A weight that small changes no sum: it is zero."""


def mixing(
    weights: Any,
    *,
    name: str = "given",
    agents: int | None = None,
    sums: str = "rows",
    names: Sequence[str] = (),
    negative: bool = False,
) -> MixingMatrix | MixingSequence:
    """W as given, checked: square, finite, non-negative, rows summing to one, connected.

    A list of matrices, or an array (length, agents, agents), is a sequence, gone through again and
    again. A `MixingMatrix` or `MixingSequence` passes through; with `agents`, any must be for that
    many.
    With `sums` "columns" it is the columns that must sum to one, as push-sum has it. What is
    rounding of six decimals or of the dtype is set right; `adjusted` says how. With `names`, those
    of the agents in their order, the agents of a W that has names too must be the same, and are
    brought into that order. With `negative` weights may be negative, as those of fastest mixing
    are (Xiao, Boyd 2004), if W brings agents together: all its eigenvalues but one of smaller
    modulus than 1. Methods that average linearly take such a W, others refuse it.

    Args:
        weights: W (agents, agents), or many of them.
        name: what messages and records call it.
        agents: how many there must be.
        sums: "rows" or "columns", which sum to one.
        names: of the agents, in their order.
        negative: whether weights may be.

    Returns:
        W with its spectrum, or a sequence of such.

    Raises:
        InputError: for what is none, in one sentence that says why.

    Example:
        >>> round(nd.graphs.mixing([[0.5, 0.5], [0.5, 0.5]]).spectral_gap, 4)
        1.0
    """
    check_name("sums of a mixing matrix", sums, AXES)
    if agents is not None:
        agents = check_whole("mixing matrix: agents", agents, 1)
    if callable(weights) or isinstance(weights, Iterator):
        raise InputError(
            "mixing matrix: a function of the round, or an iterator, goes with its number of "
            "rounds, `graphs.by_round(W, rounds)`"
        )
    if isinstance(weights, (MixingMatrix, MixingSequence)):
        checked = weights
    elif _is_sequence(weights):
        checked = MixingSequence(tuple(_part(each, name, sums, negative) for each in weights), name)
    else:
        checked = _part(weights, name, sums, negative)
        check_connected(checked.matrix)
        _check_together(checked)
    if names and checked.names:
        checked = _in_order(checked, tuple(names))
    if agents is not None and checked.agents != agents:
        raise InputError(f"mixing matrix: is for {checked.agents} agents, the problem has {agents}")
    return checked


def with_names(weights: MixingMatrix, names: tuple[str, ...], adjusted: str = "") -> MixingMatrix:
    """The weights of agents that are called so, and what more was changed to have them."""
    said = "; ".join(filter(None, (adjusted, weights.adjusted)))
    return dataclasses.replace(weights, names=names, adjusted=said)


def _in_order(
    weights: MixingMatrix | MixingSequence, names: tuple[str, ...]
) -> MixingMatrix | MixingSequence:
    """The weights of the same agents, in the order of these names."""
    if weights.names == names:
        return weights
    only = sorted({*weights.names} - {*names}), sorted({*names} - {*weights.names})
    if any(only):
        said = [
            f"only {where} {', '.join(map(repr, some[:SHOWN]))}{', ...' * (len(some) > SHOWN)}"
            for where, some in zip(("the graph has", "the data have"), only, strict=True)
            if some
        ]
        raise InputError(
            f"mixing matrix: agents of the graph must be those of the data; {' and '.join(said)}"
        )
    place = {name: number for number, name in enumerate(weights.names)}
    order = [place[name] for name in names]
    moved = tuple(
        dataclasses.replace(each, matrix=each.matrix[np.ix_(order, order)], names=names)
        for each in weights.rounds
    )
    return MixingSequence(moved, weights.name) if isinstance(weights, MixingSequence) else moved[0]


def single(
    matrix: Float[np.ndarray, "agents agents"],
    name: str,
    sums: str = "rows",
    precision: float = NOTHING,
    negative: bool = False,
) -> MixingMatrix:
    """One matrix of float64s, computed in that precision, which need not be connected."""
    matrix, zeroed = _without_nothing(matrix, precision)
    _check_entries(matrix, sums, precision, negative)
    matrix, summed = _summing_to_one(matrix, sums, precision)
    return MixingMatrix(matrix, name, sums, "; ".join(filter(None, (zeroed, summed))))


def checked(
    matrix: Float[np.ndarray, "agents agents"],
    name: str,
    sums: str = "rows",
    negative: bool = False,
) -> MixingMatrix:
    """One matrix, which must be connected."""
    made = single(matrix, name, sums, negative=negative)
    check_connected(made.matrix)
    _check_together(made)
    return made


def _check_together(weights: MixingMatrix) -> None:
    """Refuse negative weights that drive agents apart, or leave them as far apart as they are."""
    if weights.signed and weights.second_largest_modulus >= 1 - ROUNDING:
        raise InputError(
            f"mixing matrix: with its negative weights it does not bring agents together; its "
            f"second-largest eigenvalue has modulus {weights.second_largest_modulus:.6g}, which "
            f"must be below 1"
        )


def axis_of(sums: str) -> int:
    """Along which axis W is added up for the sums of its rows or columns."""
    return AXES[sums]


def _part(weights: Any, name: str, sums: str, negative: bool = False) -> MixingMatrix:
    """A matrix from outside; one that is checked passes."""
    if isinstance(weights, MixingMatrix):
        return weights
    array = _square(weights, sums)
    precision = arrays.rounding(array.dtype)
    return single(array.astype(np.float64), name, sums, precision, negative)


def _is_sequence(weights: Any) -> bool:
    if scipy.sparse.issparse(weights) or isinstance(weights, (str, nx.Graph)):
        return False
    if isinstance(weights, (list, tuple)):
        return bool(weights) and all(map(_is_matrix, weights))
    return getattr(weights, "ndim", 0) == 3


def _is_matrix(value: Any) -> bool:
    if isinstance(value, (MixingMatrix, nx.Graph)):
        return True
    return scipy.sparse.issparse(value) or arrays.plain("mixing matrix", value).ndim == 2


def _square(weights: Any, sums: str) -> np.ndarray:
    if isinstance(weights, nx.Graph):
        rule = "uniform" if weights.is_directed() else "metropolis"
        rule = "push" if sums == "columns" else rule
        raise InputError(
            f"mixing matrix: got a graph, whose links have no weights yet; give "
            f"`graphs.{rule}(graph)`"
        )
    matrix = arrays.real("mixing matrix", weights)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise InputError(f"mixing matrix: must be square (agents, agents), got {matrix.shape}")
    return arrays.numbers("mixing matrix", matrix)


def _without_nothing(
    matrix: Float[np.ndarray, "agents agents"], precision: float
) -> tuple[Float[np.ndarray, "agents agents"], str]:
    """W with zeros where an entry is rounding, above or below zero, and how many there were."""
    tiny = (np.abs(matrix) <= NOTHING) | ((matrix < 0) & (matrix >= -GATHERED * precision))
    changed = int((tiny & (matrix != 0)).sum())
    return np.where(tiny, 0.0, matrix), f"{changed} weights as small as rounding set to zero" * (
        changed > 0
    )


def _check_entries(
    matrix: Float[np.ndarray, "agents agents"], sums: str, precision: float, negative: bool
) -> None:
    if (matrix < 0).any() and not negative:
        i, j = np.argwhere(matrix < 0)[0]
        raise InputError(
            f"mixing matrix: entry ({i}, {j}) is {matrix[i, j]:.4g}; weights must not be negative; "
            f"`graphs.mixing(W, negative=True)` takes such a W, for methods that average linearly"
        )
    found = matrix.sum(axis=axis_of(sums))
    worst = int(np.abs(found - 1).argmax())
    if not _about_one(matrix, axis_of(sums), precision):
        raise InputError(
            f"mixing matrix: {sums[:-1]} {worst} sums to {found[worst]:.9g}; {sums} must sum to 1"
        )


def _about_one(matrix: Float[np.ndarray, "agents agents"], axis: int, precision: float) -> bool:
    """Whether sums are one but for the rounding of every weight that they are made of."""
    room = np.maximum((matrix != 0).sum(axis=axis), 1) * max(PRINTED, precision)
    return bool((np.abs(matrix.sum(axis=axis) - 1) <= room).all())


def _summing_to_one(
    matrix: Float[np.ndarray, "agents agents"], sums: str, precision: float
) -> tuple[Float[np.ndarray, "agents agents"], str]:
    """W with sums of one, and by how much they were not."""
    axis = axis_of(sums)
    both = all(_about_one(matrix, each, precision) for each in (0, 1))
    off = max(np.abs(matrix.sum(axis=each) - 1).max() for each in ((0, 1) if both else (axis,)))
    if off <= ROUNDING:
        return matrix, ""
    if np.abs(matrix - matrix.T).max() <= GATHERED * precision:
        matrix = (matrix + matrix.T) / 2
        kept = matrix.diagonal() + 1 - matrix.sum(axis=1)
        if (matrix.diagonal() > 0).all() and (kept > 0).all():
            np.fill_diagonal(matrix, kept)
            return matrix, f"what rows lacked of a sum of one, up to {off:.2g}, put on the diagonal"
    scaled = _doubly_scaled(matrix) if both else matrix / matrix.sum(axis=axis, keepdims=True)
    lines = "rows and columns" if both else sums
    return scaled, f"{lines} scaled to sum to one, which they missed by up to {off:.2g}"


def _doubly_scaled(
    matrix: Float[np.ndarray, "agents agents"],
) -> Float[np.ndarray, "agents agents"]:
    """diag(a) W diag(b) with rows and columns that sum to one, by Newton's method from a = b = 1.

    The shortest step keeps a symmetric W symmetric. Two steps square an error of 1e-6 twice.
    """
    here = scipy.sparse.csr_array(matrix)
    for _ in range(2):
        rows, columns = here.sum(axis=1), here.sum(axis=0)
        system = scipy.sparse.block_array(
            [[scipy.sparse.diags_array(rows), here], [here.T, scipy.sparse.diags_array(columns)]]
        )
        lacking = np.concatenate([1 - rows, 1 - columns])
        step = 1 + scipy.sparse.linalg.lsqr(system, lacking, atol=1e-14, btol=1e-14)[0]
        a, b = (scipy.sparse.diags_array(part) for part in np.split(step, 2))
        here = scipy.sparse.csr_array(a @ here @ b)
    return here.toarray()
