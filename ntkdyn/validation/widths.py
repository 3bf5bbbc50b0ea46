"""Width sweeps: how the gap between prediction and reality closes as networks widen.

Theory has the gap fall like width^(-1/2) (Lee et al. 2019); the slope is measured by a straight
line through log gap over log width, one point per width and seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
import xarray as xr

from ntkdyn.dynamics import assess, predict, setting
from ntkdyn.engine import Progress
from ntkdyn.errors import InputError
from ntkdyn.methods import Method
from ntkdyn.problems import Problem
from ntkdyn.records import Record, environment
from ntkdyn.validation.compare import compare
from ntkdyn.validation.train import train


class Slope(NamedTuple):
    """A straight line through log-log points, and how sure its slope is."""

    value: float
    low: float
    high: float
    """the 95 % confidence interval"""
    intercept: float


def width_sweep(
    problem: Callable[[int, int], Problem],
    method: Method,
    weights: Any,
    rounds: int,
    *,
    widths: Sequence[int],
    seeds: Sequence[int],
    kernels: Sequence[str] = ("empirical", "infinite"),
    progress: Progress | None = None,
) -> Record:
    """`problem(width, seed)` trained, and predicted with each kernel: the gaps at round `rounds`.

    The result holds `gap` (kernel, width, seed, agent) as `compare` defines it. A step size given
    as a share of the limit is taken with the first kernel.
    """
    runs = [(width, seed) for width in widths for seed in seeds]
    gaps = []
    for done, (width, seed) in enumerate(runs, start=1):
        gaps.append(_gaps(problem(width, seed), method, weights, rounds, kernels))
        if progress:
            progress(done, len(runs))
    table = np.reshape(gaps, (len(widths), len(seeds), len(kernels), -1)).transpose(2, 0, 1, 3)
    return xr.Dataset(
        {"gap": (("kernel", "width", "seed", "agent"), table)},
        {"kernel": list(kernels), "width": list(widths), "seed": list(seeds)},
        {"rounds": rounds, "method": method.name, "weights": weights.name, **environment()},
    )


def slope(sweep: Record, kernel: str) -> Slope:
    """The slope of log(gap, mean over agents) against log(width), with its 95 % interval."""
    if sweep.sizes["width"] < 2:
        raise InputError("slope: needs at least two widths")
    means = sweep["gap"].sel(kernel=kernel).mean("agent").transpose("width", "seed")
    x = np.log(np.repeat(sweep["width"].values, sweep.sizes["seed"]))
    fit = scipy.stats.linregress(x, np.log(means.values.reshape(-1)))
    half = float(fit.stderr * scipy.stats.t.ppf(0.975, len(x) - 2))
    middle = float(fit.slope)
    return Slope(middle, middle - half, middle + half, float(fit.intercept))


def _gaps(
    problem: Problem, method: Method, weights: Any, rounds: int, kernels: Sequence[str]
) -> list[np.ndarray]:
    stability = assess(setting(problem, kernels[0], method, weights))
    known = stability.method
    observed = train(problem, known, weights, [rounds])
    predicted = [predict(problem, known, weights, [rounds], kernel=name) for name in kernels]
    return [compare(each, observed)["gap"].values[-1] for each in predicted]
