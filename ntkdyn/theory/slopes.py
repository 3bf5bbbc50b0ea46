"""Slopes: theorems without constants, held against the exponents they promise.

With gradient noise and a small step size mu the mean of the agents stays within O(mu) of a
minimiser and each within O(mu^2) of the mean, both in the second moment (Sayed 2014 and, for
non-convex losses, Vlaski, Sayed 2021; the type of statement of DRT diffusion's theorem, whose
constants are not known to us). The width exponent of Lee et al. (2019) is measured by
`validation.width_sweep`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ntkdyn.dynamics import Stability, predict
from ntkdyn.errors import InputError
from ntkdyn.methods import Method
from ntkdyn.problems import KernelProblem, Problem
from ntkdyn.records import Record
from ntkdyn.theory import bounds, noisy
from ntkdyn.theory.theorems import case
from ntkdyn.validation.widths import Slope, fitted

__all__ = ["at_rest", "power", "steady_state"]


def steady_state(
    problem: Problem | KernelProblem,
    method: Callable[..., Method],
    weights: Any,
    step_sizes: Sequence[float],
    *,
    transient: float,
    rounds: int,
    batch_size: int,
    seeds: Sequence[int],
    kernel: str = "empirical",
) -> Record:
    """Mean squares under gradient noise, over the rounds after a transient of `transient` / step.

    Args:
        problem: the problem.
        method: step_size -> method.
        weights: W.
        step_sizes: eta.
        transient: rounds before, times the step size.
        rounds: how many after it.
        batch_size: points that each agent draws in a round.
        seeds: of the draws.
        kernel: what the problem is linearized to.

    Returns:
        `disagreement`, sum_i |x_i - mean x|^2, and `excess`, F(mean x) - min F (step_size, seed).

    Raises:
        InputError: as for `predict`.

    Example:
        >>> seen = nd.theory.slopes.steady_state(bare, nd.methods.dgd, W, [0.1], transient=2.0,
        ...     rounds=50, batch_size=1, seeds=[0])
        >>> bool(seen["disagreement"][0, 0] > 0)
        True
    """
    table = [
        [
            _mean_squares(problem, method(step_size=step), weights, transient, rounds, each)
            for each in (
                {"kernel": kernel, "batch_size": batch_size, "batch_seed": s} for s in seeds
            )
        ]
        for step in step_sizes
    ]
    names = ("disagreement", "excess")
    dims = ("step_size", "seed")
    return xr.Dataset(
        {name: (dims, np.array(table)[:, :, k]) for k, name in enumerate(names)},
        {"step_size": list(step_sizes), "seed": list(seeds)},
    )


def at_rest(
    problem: Problem | KernelProblem,
    method: Callable[..., Method],
    weights: Any,
    step_sizes: Sequence[float],
    *,
    batch_size: int,
    kernel: str = "empirical",
) -> Record:
    """Expected squares at rest under gradient noise, exactly (`noisy.expected`), by step size.

    Args:
        problem: the problem.
        method: step_size -> method.
        weights: W.
        step_sizes: eta.
        batch_size: points that each agent draws in a round.
        kernel: what the problem is linearized to.

    Returns:
        `disagreement`, E sum_i |x_i - mean x|^2, and `excess`, E F(mean x) - min F (step_size).

    Raises:
        InputError: as for `noisy.expected`.

    Example:
        >>> told = nd.theory.slopes.at_rest(bare, nd.methods.dgd, W, [0.05, 0.1], batch_size=1)
        >>> bool(told["disagreement"][0] < told["disagreement"][1])
        True
    """
    found = []
    for step in step_sizes:
        at = case(problem, method(step_size=step), weights, kernel=kernel)
        found.append(noisy.expected(problem, at, None, batch_size=batch_size, kernel=kernel))
    names = ("disagreement", "excess")
    return xr.Dataset(
        {name: ("step_size", [float(each[name][0]) for each in found]) for name in names},
        {"step_size": list(step_sizes)},
    )


def _mean_squares(
    problem: Problem | KernelProblem,
    method: Method,
    weights: Any,
    transient: float,
    rounds: int,
    more: dict[str, Any],
) -> tuple[float, float]:
    first = int(transient / method.step_size)
    record = predict(
        problem,
        method,
        weights,
        list(range(first, first + rounds, max(1, rounds // 400))),
        stability=Stability(method, True, None),
        **more,
    )
    at = case(problem, method, weights, kernel=more["kernel"])
    apart, above = bounds.disagreement(at)(record).values, bounds.excess(at)(record).values
    return float(np.mean(apart**2)), float(np.mean(above))


def power(x: Any, y: Any) -> Slope:
    """The slope of log y against log x with its 95 % interval; y may have a column per seed.

    Args:
        x: positive, (values,).
        y: positive, (values,) or (values, seeds).

    Returns:
        The slope, and the ends of its interval.

    Raises:
        InputError: for fewer than three points.

    Example:
        >>> round(nd.theory.slopes.power([1.0, 2.0, 4.0], [3.0, 12.0, 48.0]).value, 9)
        2.0
    """
    if len(x) < 3:
        raise InputError(f"power: needs at least 3 points, got {len(x)}")
    values = np.asarray(y, dtype=float).reshape(len(x), -1)
    logs = np.log(np.repeat(np.asarray(x, dtype=float), values.shape[1]))
    return fitted(logs, np.log(values.reshape(-1)))
