"""Exact rates: the spectrum of a linearized method, as a function of step size and spectral gap.

With the squared error and fixed W a method is an affine map z -> A z + b of its state, taken here
from its own step, in an orthonormal basis of what training can reach. Its rate is the largest
modulus of an eigenvalue of A other than one: methods with memory keep a sum (of trackers, of
corrections) that their start sets right and no round changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.optimize
import xarray as xr
from jaxtyping import Complex, Float

from ntkdyn.errors import InputError
from ntkdyn.graphs import Mixing
from ntkdyn.methods.updates import State
from ntkdyn.records import Record
from ntkdyn.theory.bounds import Case

DENSE_UP_TO = 800
"""Up to this many numbers in the stacked iterate exact spectra are computed."""

UNIT = 1e-7
"""Eigenvalues this close to one are kept sums; a double one splits by the root of rounding."""


def linear_map(case: Case) -> Float[np.ndarray, "state state"]:
    """A: what one round of the method makes of its state, column by column."""
    scape = case.landscape
    if not scape.quadratic:
        raise InputError("rates: need the squared error; with another loss no round is linear")
    if scape.size > DENSE_UP_TO:
        raise InputError(
            f"rates: the stacked iterate has {scape.size} numbers and exact spectra are computed "
            f"up to {DENSE_UP_TO}; take fewer agents or points"
        )
    update, weights, rank = case.method.update, case.weights.matrix, len(scape.reach.values)
    mix = lambda x: np.tensordot(weights, x, 1)
    grad = lambda x: scape.hessians @ x
    moved = update.step(_basis(update.init(np.zeros((scape.agents, rank, 1)))), grad, mix)
    return np.concatenate([leaf.reshape(scape.size, -1) for leaf in moved])


def _basis(state: State) -> State:
    """Every unit vector of the state, side by side along the last axis."""
    blocks = np.split(np.eye(sum(leaf.size for leaf in state)), len(state))
    parts = zip(blocks, state, strict=True)
    return type(state)(*(block.reshape(*leaf.shape[:2], -1) for block, leaf in parts))


def eigenvalues(case: Case) -> Complex[np.ndarray, " state"]:
    """All eigenvalues of A, from the largest modulus down."""
    matrix = linear_map(case)
    symmetric = np.abs(matrix - matrix.T).max() <= 1e-12 * np.abs(matrix).max()
    values = (np.linalg.eigvalsh if symmetric else np.linalg.eigvals)(matrix).astype(complex)
    return values[np.argsort(-np.abs(values), kind="stable")]


def rate(case: Case) -> float:
    """The factor by which errors shrink per round in the end; above one they grow."""
    values = eigenvalues(case)
    moving = values[np.abs(values - 1) > UNIT]
    return float(np.abs(moving).max(initial=0))


class Optimum(NamedTuple):
    """The step size with the least rate."""

    step_size: float
    rate: float


def optimal_step_size(case: Case, *, largest: float | None = None) -> Optimum:
    """The step size up to `largest` (default 2/L) at which the linearized method is fastest.

    A grid of powers, refined around its best point; for DGD with symmetric W the rate is convex in
    the step size, so this is the optimum.
    """
    largest = 2 / case.landscape.smoothness if largest is None else largest
    grid = largest * np.geomspace(1e-3, 1, 25)
    rates = [rate(_with_step(case, step)) for step in grid]
    best = int(np.argmin(rates))
    within = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    found = scipy.optimize.minimize_scalar(
        lambda step: rate(_with_step(case, step)), bounds=within, method="bounded",
        options={"xatol": 1e-7 * largest},
    )  # fmt: skip
    if found.fun > rates[best]:
        return Optimum(float(grid[best]), rates[best])
    return Optimum(float(found.x), float(found.fun))


def rate_map(case: Case, step_sizes: Sequence[float], gaps: Sequence[float]) -> Record:
    """The rate at every step size on graphs with the spectral gaps asked for, as a record.

    The graphs lie on the line through the case's own W; see `with_gap`.
    """
    graphs = [with_gap(case.weights, gap) for gap in gaps]
    table = [
        [rate(_with_step(case._replace(weights=weights), step)) for step in step_sizes]
        for weights in graphs
    ]
    return xr.Dataset(
        {"rate": (("spectral_gap", "step_size"), np.array(table))},
        {"spectral_gap": list(gaps), "step_size": list(step_sizes)},
        {"method": case.method.name, "weights": case.weights.name, "agents": case.weights.agents},
    )


def with_gap(weights: Mixing, gap: float) -> Mixing:
    """W, made lazy or moved towards the average of all, until 1 - beta = gap.

    Negative eigenvalues are first lifted by a share of I; a further share narrows the gap, and a
    share of 11'/m widens it. W must be symmetric.
    """
    if not 0 < gap <= 1:
        raise InputError(f"spectral gap: must be in (0, 1], got {gap}")
    if not weights.symmetric:
        raise InputError("spectral gap: is set for symmetric W only")
    agents, least = weights.agents, min(weights.smallest_eigenvalue, 0)
    safe = weights.matrix if least == 0 else (weights.matrix - least * np.eye(agents)) / (1 - least)
    own = 1 - float(np.linalg.eigvalsh(safe - 1 / agents).max())
    if gap <= own:
        matrix = np.eye(agents) + gap / own * (safe - np.eye(agents))
    else:
        matrix = 1 / agents + (1 - gap) / (1 - own) * (safe - 1 / agents)
    return Mixing(matrix, f"{weights.name}, gap {gap:.3g}")


def _with_step(case: Case, step_size: float) -> Case:
    return case._replace(method=case.method.with_step_size(float(step_size)))
