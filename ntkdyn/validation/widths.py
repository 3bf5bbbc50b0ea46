"""Sweeps: how prediction and reality meet as networks widen or deepen, or as steps shrink.

Per value of what is swept and per start, one real training, predicted with each kernel:

    deviation_gap, gap   as `compare` defines them, in the last round
    kernel_drift         |K_T - K_0| / |K_0| of every agent's own kernel between the training points
    movement             |theta_T - theta_0| / |theta_0|, of every agent's parameters

Theory has gap and drift fall at least like width^(-1/2) (Lee et al. 2019), and the movement like
width^(-1) where hidden layers meet, since |theta_0| grows like the width while the distance
travelled stays. Slopes are those of straight lines through log-log points, one per value and seed.
A run that diverges leaves NaN, and so does, of the deviation gap, one whose agents hardly differ.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.stats
import xarray as xr
from jaxtyping import Float

from ntkdyn import sizes
from ntkdyn.checkpoints import check_same
from ntkdyn.disk import read_sealed, write_sealed
from ntkdyn.dynamics import assess, predict
from ntkdyn.engine import Progress
from ntkdyn.errors import InputError, check_name, shown
from ntkdyn.methods import Method
from ntkdyn.problems import Problem
from ntkdyn.progress import watched
from ntkdyn.quantities import described
from ntkdyn.records import Record, environment
from ntkdyn.saving import SaveOptions
from ntkdyn.system import System
from ntkdyn.validation.compare import compare
from ntkdyn.validation.train import train

KERNELS = ("empirical", "infinite")

GAPS = ("deviation_gap", "gap")
"""what of a comparison a sweep holds, for each kernel"""


class Slope(NamedTuple):
    """A straight line through log-log points, and how sure its slope is."""

    value: float
    low: float
    high: float
    """the 95 % confidence interval"""
    intercept: float


class Kept:
    """A file that keeps the runs of a sweep as they are done; remove it when the record is written.

    `settings` name what was asked. With `resume`, a sweep that was asked the same is continued, and
    without, an unfinished one is refused.
    """

    def __init__(self, path: str | Path, *, resume: bool, settings: Mapping[str, Any]) -> None:
        self._path, self._done = Path(path), {}
        self._settings = {name: str(value) for name, value in settings.items()}
        if not self._path.is_file():
            return
        if not resume:
            raise InputError(
                f"sweep: {path} is of an unfinished sweep; resume it, or remove the file to begin "
                f"again"
            )
        saved = read_sealed(self._path)
        if saved is None:
            raise InputError(f"sweep: {self._path} is damaged; remove it to begin again")
        check_same(self._path, saved["settings"], self._settings)
        self._done = saved["runs"]

    def run(self, value: float | int, seed: int, measure: Callable[[], Any]) -> dict[str, Any]:
        """What one run shows, measured if it is not known."""
        name = f"{value} {seed}"
        if name not in self._done:
            measured = measure()
            self._done[name] = {key: np.asarray(each).tolist() for key, each in measured.items()}
            write_sealed({"settings": self._settings, "runs": self._done}, self._path)
        return self._done[name]


@watched("training and predicting")
def sweep(
    case: Callable[[Any, int], System],
    rounds: int,
    *,
    along: str,
    values: Sequence[float | int],
    seeds: Sequence[int],
    kernels: Sequence[str] = KERNELS,
    drift: bool = True,
    precision: str = "float32",
    progress: Progress | None = None,
    kept: Kept | None = None,
) -> Record:
    """`case(value, seed)`, a system, trained, and predicted with each kernel.

    The result has the dimension `along` with its `values`, and holds `deviation_gap` and `gap`
    (kernel, along, seed, agent), `kernel_drift` if `drift` is asked for and `movement` (along,
    seed, agent), the `step_size_taken` (along, seed), and of each but the last its slope with the
    95 % interval, where there are values enough: `gap_slope` (kernel, estimate) and so on. A step
    size given as a share of the limit is taken with the first kernel. Precision as for `train`.
    `kept` holds the runs that are done, which are not run again.
    """
    check(along, values, seeds, kernels)
    measure = functools.partial(_measured, rounds, kernels, SaveOptions(kernel=drift), precision)
    pairs = [(value, seed) for value in values for seed in seeds]
    found = []
    for done, (value, seed) in enumerate(pairs, start=1):
        one = lambda value=value, seed=seed: measure(case(value, seed))
        found.append(kept.run(value, seed, one) if kept else one())
        if progress:
            progress(done, len(pairs))
    record = xr.Dataset(
        {
            name: ((along, "seed", *dims), _grid([each[name] for each in found], values, seeds))
            for name, dims in _dimensions(drift).items()
        },
        {along: list(values), "seed": list(seeds), "kernel": list(kernels)},
        {"along": along, "rounds": rounds, "method": case(*pairs[0]).method.name, **environment()},
    ).transpose("kernel", along, "seed", "agent")
    return described(record.assign(_slopes(record) if len(values) > 1 else {}))


def width_sweep(
    problem: Callable[[int, int], Problem],
    method: Method,
    weights: Any,
    rounds: int,
    *,
    widths: Sequence[int],
    seeds: Sequence[int],
    batch_size: int | None = None,
    batch_seed: int | None = None,
    **more: Any,
) -> Record:
    """The sweep of `problem(width, seed)` along the width, under one method."""
    drawn = {"batch_size": batch_size, "batch_seed": batch_seed}
    case = lambda width, seed: System(problem(width, seed), method, weights, **drawn)
    found = sweep(case, rounds, along="width", values=widths, seeds=seeds, **more)
    return found.assign_attrs(weights=weights.name)


def diverged(record: Record) -> list[tuple[float | int, int]]:
    """The values and seeds whose runs diverged, or their predictions."""
    apart = record["gap"].isnull().any(("kernel", "agent")).transpose(record.attrs["along"], "seed")
    along, seeds = (record[name].values.tolist() for name in apart.dims)
    return [(along[row], seeds[column]) for row, column in np.argwhere(apart.values)]


def slope(record: Record, kernel: str | None = None, variable: str = "gap") -> Slope:
    """The slope of log(variable, mean over agents) against the logarithm of what was swept.

    Runs in which it is zero or not finite (a linear model, a step that diverges) are left out; NaN
    where fewer than two values of what was swept remain.
    """
    along = record.attrs["along"]
    if record.sizes[along] < 2:
        raise InputError(f"slope: needs at least two values of {along}")
    values = record[variable] if kernel is None else record[variable].sel(kernel=kernel)
    means = values.mean("agent", skipna=False).transpose(along, "seed")
    x = np.log(np.repeat(record[along].values, record.sizes["seed"]).astype(float))
    y = means.values.reshape(-1)
    told = np.isfinite(y) & (y > 0)
    x, y = x[told], y[told]
    if len(set(x)) < 2:
        return Slope(np.nan, np.nan, np.nan, np.nan)
    return fitted(x, np.log(y))


def fitted(x: Float[np.ndarray, " runs"], y: Float[np.ndarray, " runs"]) -> Slope:
    """The straight line through the points, with the 95 % interval of its slope."""
    fit = scipy.stats.linregress(x, y)
    half = float(fit.stderr * scipy.stats.t.ppf(0.975, len(x) - 2)) if len(x) > 2 else np.inf
    middle = float(fit.slope)
    return Slope(middle, middle - half, middle + half, float(fit.intercept))


RUN = 1000
"""bytes of a run in the record of a sweep, a few numbers per agent"""


def check(
    along: str, values: Sequence[float | int], seeds: Sequence[int], kernels: Sequence[str]
) -> None:
    """Refuse what cannot be swept."""
    if not len(values) or not seeds:
        raise InputError(f"sweep: needs at least one {along} and one seed")
    if not all(0 < value < np.inf for value in values) or len(set(values)) < len(values):
        raise InputError(
            f"sweep: every {along} must be positive, finite and given once, got {values}"
        )
    ends = [seeds[0], seeds[-1]] if isinstance(seeds, range) else seeds
    if not all(0 <= seed < 2**32 for seed in ends):
        raise InputError(f"sweep: every seed must be from 0 to 2^32 - 1, got {shown(seeds)}")
    runs = len(values) * len(seeds)
    sizes.check_room(f"sweep: a record of {runs} runs", RUN * runs, "ask for fewer starts")
    for kernel in kernels:
        check_name("kernel", kernel, KERNELS)
    if not len(kernels) or len(set(kernels)) < len(kernels):
        raise InputError(f"sweep: every kernel must be given once, got {', '.join(kernels)}")


def _dimensions(drift: bool) -> dict[str, tuple[str, ...]]:
    drifted = {"kernel_drift": ("agent",)} if drift else {}
    of_kernels = {name: ("kernel", "agent") for name in GAPS}
    return of_kernels | {"movement": ("agent",), "step_size_taken": ()} | drifted


def _grid(found: list[Any], values: Sequence[float | int], seeds: Sequence[int]) -> np.ndarray:
    table = np.array(found, dtype=np.float64)
    return table.reshape(len(values), len(seeds), *table.shape[1:])


def _slopes(record: Record) -> dict[str, Any]:
    """The slope and its interval of every measure, of the gaps by kernel."""
    of_kernels = lambda name: [
        slope(record, kernel, name)[:3] for kernel in record["kernel"].values
    ]
    own = [name for name in ("kernel_drift", "movement") if name in record]
    return {
        "estimate": ["value", "low", "high"],
        **{f"{name}_slope": (("kernel", "estimate"), of_kernels(name)) for name in GAPS},
        **{f"{name}_slope": ("estimate", list(slope(record, None, name)[:3])) for name in own},
    }


def _measured(
    rounds: int, kernels: Sequence[str], save: SaveOptions, precision: str, system: System
) -> dict[str, Any]:
    """What one training and its predictions show in the last round; NaN where it diverged."""
    known = assess(system.with_(kernel=kernels[0])).method
    run = system.with_(method=known)
    observed = train(run, [rounds], save=save, precision=precision)
    predicted = [predict(run.with_(kernel=name), [rounds]) for name in kernels]
    start = jax.tree.leaves(system.problem.start)
    size = np.sqrt(sum(float((leaf**2).sum()) for leaf in start))
    last = observed.isel(round=-1)
    gaps = [_gaps(each, observed) for each in predicted]
    measured = {
        **{name: [each[name] for each in gaps] for name in GAPS},
        "movement": _finite(last["displacement"].values / size),
        "step_size_taken": float(known.step_size),
    }
    drifted = {"kernel_drift": _finite(last["kernel_drift"].values)} if save.kernel else {}
    return measured | drifted


def _gaps(predicted: Record, observed: Record) -> dict[str, Float[np.ndarray, " agents"]]:
    ends = [run["outputs"].values[-1] for run in (predicted, observed)]
    if not all(np.isfinite(end).all() for end in ends):
        return dict.fromkeys(GAPS, np.full(observed.sizes["agent"], np.nan))
    compared = compare(predicted, observed)
    return {name: _finite(compared[name].values[-1]) for name in GAPS}


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nan)
