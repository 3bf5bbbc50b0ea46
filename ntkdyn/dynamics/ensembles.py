"""Random initialization: what a run looks like over all starts.

At infinite width the kernel is the same for every start, and f(theta_0) is Gaussian with the NNGP
covariance S, independent between outputs. With the squared error agent i's outputs respond linearly
to it,

    f_i(t) = f_0 + T_i(t) (y - f_0(X)),        T_i(t) = K(., X) C_i(t),

where C_i(t) are the coefficients of a run from f_0 = 0 towards the targets y = 1 (the identity,
one output per training point). So at every round and for every agent

    mean_i = T_i y,    cov_i = S - T_i S_X. - S_.X T_i^T + T_i S_XX T_i^T,

the same for every output. Losses are quadratic forms of Gaussians: their means and standard
deviations are exact, and their quantiles, like those of accuracies, come from draws of f_0.

Networks of finite width lie elsewhere: K_theta differs from start to start, by O(width^(-1/2)).
With `width="own"` f_0 and K_theta are drawn jointly, as those of the networks themselves; what is
then told are estimates from as many linear predictions, with standard errors. (What kernels change
by while they train is in neither.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import xarray as xr
from jaxtyping import Float

from ntkdyn import precision, sizes
from ntkdyn.cluster import Cluster
from ntkdyn.dynamics.predict import Scheme, predict
from ntkdyn.dynamics.stability import assess
from ntkdyn.engine import Progress
from ntkdyn.errors import InputError, check_kind, check_name, check_whole
from ntkdyn.kernels import infinite
from ntkdyn.linear import Empirical, Infinite
from ntkdyn.measures import measure, shares
from ntkdyn.problems import LARGEST_SEED, KernelProblem, Problem, Task
from ntkdyn.progress import watched
from ntkdyn.quantities import described
from ntkdyn.records import Record
from ntkdyn.system import System, question

QUANTILES = (0.05, 0.5, 0.95)

WIDTHS = {
    "infinite": "infinite; networks of finite width lie outside its bands more often",
    "own": "that of the networks",
}
"""whose starts and kernels; what the record says of it"""


class Starts(NamedTuple):
    """Random starts of the networks.

    Example:
        >>> nd.dynamics.Starts(seed=0, draws=64).width
        'infinite'
    """

    seed: int
    """draws them"""
    draws: int = 256
    width: str = "infinite"
    """"infinite", or "own", that of the problem's networks"""
    nngp: Float[np.ndarray, "points points"] | None = None
    """the covariance of f_0 at all points; None: the network's own"""


@question()
@watched("predicting the ensemble")
@precision.in_double
def ensemble(
    system: System,
    rounds: int | Sequence[int],
    *,
    starts: Starts,
    via: str | Scheme = "auto",
    cluster: Cluster | None = None,
    progress: Progress | None = None,
) -> Record:
    """Mean, spread and bands over random starts of every agent's outputs, losses and accuracies.

    Variables: `mean_outputs` (round, agent, point, output), `std_outputs` (round, agent, point);
    for each loss `NAME_mean` and `NAME_std` (round, agent), exact; for each loss and accuracy
    `NAME_band` (quantile, round, agent) from `starts.draws` starts. Needs the squared error.

    That is at width "infinite", where bands hold too few of the networks of finite width. With
    "own" starts and kernels are those of so many networks of the problem's, so that all of it is
    estimated, and `mean_outputs`, `NAME_mean` and `NAME_std` have a standard error `..._error`
    beside them. (Losses are skewed: from fewer than a hundred draws spreads and their errors tend
    to be too small.) The step size is the same for all, a share of the limit at infinite width.
    A `cluster` (`ntkdyn.cluster.opened`) shares these networks among its workers.

    Args:
        system: or problem, method, weights in its place.
        rounds: how many, or which are recorded, ascending.
        starts: how many, of what width, drawn from which seed.
        via: as for `predict`.
        cluster: workers that share networks of finite width.
        progress: called with (rounds done, rounds in all).

    Returns:
        The variables above; losses in units of the problem's.

    Raises:
        InputError: for another loss than the squared error, and a bare kernel without `nngp`.

    Example:
        >>> told = nd.dynamics.ensemble(prob, dgd, W, [0, 4], starts=nd.dynamics.Starts(seed=0))
        >>> bool((told["std_outputs"] > 0).all())
        True
    """
    check_kind("starts", starts, Starts, "as `dynamics.Starts(seed=0)` gives")
    problem, width, nngp = system.problem, starts.width, starts.nngp
    draws = _checked(problem, starts.draws, width, nngp)
    seed = check_whole("seed:", starts.seed, 0)
    stability = assess(system.with_(kernel=Infinite()))
    whole = {"kernel": Empirical(), "batch_size": None, "batch_seed": None, "batches": None}
    system = system.with_(method=stability.method, **whole)
    how = {"via": via}
    if width == "own":
        record = _own(system, rounds, how, draws, seed, cluster, progress)
    else:
        covariance = _nngp(problem) if nngp is None else nngp
        drawn = _draw(covariance, (draws, problem.task.targets.shape[1]), seed)
        response = _responses(system, rounds, how | {"progress": progress})
        record = _at_infinite_width(problem.task, response, covariance, drawn)
    return described(record).assign_attrs(
        width=WIDTHS[width],
        method=system.method.name,
        step_size=float(stability.method.step_size),
        draws=draws,
        seed=seed,
        **stability.attributes(),
    )


def _checked(problem: Problem | KernelProblem, draws: Any, width: str, nngp: Any) -> int:
    """The number of draws, of what random starts are known of."""
    if isinstance(problem, KernelProblem):
        raise InputError(
            "ensemble: needs networks, whose starts are random; a bare kernel has none"
        )
    if problem.task.loss.name != "mse":
        raise InputError("ensemble: needs the squared error, whose outputs stay Gaussian")
    draws = check_whole("draws:", draws, 1)
    size = 16 * draws * problem.task.targets.size  # drawn, and as outputs
    sizes.check_room(f"draws: {draws} starts", size, "draw fewer")
    check_name("width", width, WIDTHS)
    if width == "own" and nngp is not None:
        raise InputError(
            'ensemble: nngp goes with width="infinite"; networks draw their own starts'
        )
    return draws


def _own(
    system: System,
    rounds: int | Sequence[int],
    how: dict[str, Any],
    draws: int,
    seed: int,
    cluster: Cluster | None,
    progress: Progress | None,
) -> Record:
    """Estimates from linear predictions of networks that start from seeds of their own."""
    seeds = np.random.default_rng(seed).choice(LARGEST_SEED, draws, replace=False).tolist()
    asked, seen = (system, rounds, how), {}
    shared = (
        cluster.map(_of_seed, asked, seeds)
        if cluster
        else enumerate(_of_seed(asked, each) for each in seeds)
    )
    for place, run in shared:
        held = f"ensemble: the outputs of {draws} starts"
        sizes.check_room(held, 2 * draws * run.outputs.nbytes, "draw fewer, or record less")
        seen[place] = run
        if progress:
            progress(len(seen), draws)
    runs = [seen[place] for place in range(draws)]
    record = _of_outputs(np.stack([run.outputs for run in runs]))
    for name in runs[0].measured:
        record |= _of_samples(name, np.stack([run.measured[name] for run in runs]))
    return xr.Dataset(record, {"round": runs[0].rounds, "quantile": list(QUANTILES)})


class _OfSeed(NamedTuple):
    """What a network shows."""

    rounds: np.ndarray
    outputs: Float[np.ndarray, "rounds agents points outputs"]
    measured: dict[str, Float[np.ndarray, "rounds agents"]]


def _of_seed(asked: tuple[System, int | Sequence[int], dict[str, Any]], seed: int) -> _OfSeed:
    system, rounds, how = asked
    one = system.with_(problem=dataclasses.replace(system.problem, seed=seed))
    run = predict(one, rounds, **how)
    outputs = run["outputs"].values
    rows = [measure(system.task, seen) for seen in outputs]
    measured = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return _OfSeed(run["round"].values, outputs, measured)


def _of_outputs(
    outputs: Float[np.ndarray, "draws rounds agents points outputs"],
) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Mean with its standard error, and the spread of an output, alike for all of a point."""
    dims, variance = ("round", "agent", "point", "output"), _variance(outputs)
    return {
        "mean_outputs": (dims, outputs.mean(axis=0)),
        "mean_outputs_error": (dims, np.sqrt(variance / len(outputs))),
        "std_outputs": (dims[:3], np.sqrt(variance.mean(axis=-1))),
    }


def _of_samples(
    name: str, values: Float[np.ndarray, "draws rounds agents"]
) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """The band of a measure; of losses also mean and spread, each with its standard error.

    That of the spread s is sqrt(m_4 - s^4) / (2 s sqrt(n)), m_4 the fourth central moment.
    """
    dims, variance = ("round", "agent"), _variance(values)
    band = {f"{name}_band": (("quantile", *dims), np.quantile(values, QUANTILES, axis=0))}
    if not name.endswith("loss"):
        return band
    fourth = ((values - values.mean(axis=0)) ** 4).mean(axis=0)
    spread = np.sqrt(np.maximum(fourth - variance**2, 0) / (4 * len(values)))
    told = {
        "mean": values.mean(axis=0),
        "mean_error": np.sqrt(variance / len(values)),
        "std": np.sqrt(variance),
        "std_error": spread / np.sqrt(np.where(variance > 0, variance, 1)),
    }
    return band | {f"{name}_{what}": (dims, each) for what, each in told.items()}


def _variance(values: Float[np.ndarray, "draws ..."]) -> Float[np.ndarray, ...]:
    """NaN of a single draw."""
    return np.var(values, axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], np.nan)


def _at_infinite_width(
    task: Task,
    response: Record,
    covariance: Float[np.ndarray, "points points"],
    starts: Float[np.ndarray, "draws points outputs"],
) -> Record:
    rows = [_row(task, each, covariance, starts) for each in response["outputs"].values]
    return xr.Dataset(
        {
            name: (dims, np.stack([row[name][1] for row in rows], axis=dims.index("round")))
            for name, dims in ((name, _with_round(rows[0][name][0])) for name in rows[0])
        },
        {"round": response["round"].values, "quantile": list(QUANTILES)},
    )


def _nngp(problem: Problem) -> Float[np.ndarray, "points points"]:
    return np.asarray(infinite.nngp(problem.network.kernel, problem.inputs.astype(np.float64)))


def _responses(system: System, rounds: int | Sequence[int], how: dict[str, Any]) -> Record:
    """T_i(t) as `outputs` (round, agent, point, train): one output per training point."""
    task, whole = system.task, system.problem.kernel(Infinite()).whole
    tests = len(whole) - task.train
    unit = KernelProblem(
        whole[: task.train],
        np.eye(task.train),
        task.owner,
        **(
            {"K_test": whole[task.train :], "y_test": np.zeros((tests, task.train))}
            if tests
            else {}
        ),
    )
    return predict(System(unit, system.method, system.weights), rounds, **how)


def _draw(
    covariance: Float[np.ndarray, "points points"], shape: tuple[int, int], seed: int
) -> Float[np.ndarray, "draws points outputs"]:
    """Starts f_0, independent between draws and outputs."""
    values, vectors = scipy.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    normal = np.random.default_rng(seed).standard_normal((shape[0], len(root), shape[1]))
    return root @ normal


def _row(
    task: Task,
    response: Float[np.ndarray, "agents points train"],
    covariance: Float[np.ndarray, "points points"],
    starts: Float[np.ndarray, "draws points outputs"],
) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Everything that is known of one round: name -> (dimensions, values)."""
    wanted = task.targets[: task.train]
    mean = response @ wanted
    spread = np.stack([_covariance(each, covariance) for each in response])
    row = {
        "mean_outputs": (("agent", "point", "output"), mean),
        "std_outputs": (
            ("agent", "point"),
            np.sqrt(np.maximum(np.diagonal(spread, axis1=1, axis2=2), 0)),
        ),
    }
    for name, share in shares(task).items():
        off = mean - task.targets
        row[f"{name}_mean"] = (("agent",), _mean(share, off, spread))
        row[f"{name}_std"] = (("agent",), _std(share, off, spread))
    drawn = [measure(task, start + response @ (wanted - start[: task.train])) for start in starts]
    for name in drawn[0]:
        values = np.quantile([each[name] for each in drawn], QUANTILES, axis=0)
        row[f"{name}_band"] = (("quantile", "agent"), values)
    return row


def _covariance(
    response: Float[np.ndarray, "points train"], covariance: Float[np.ndarray, "points points"]
) -> Float[np.ndarray, "points points"]:
    """(1 - T R) S (1 - T R)^T with R the restriction to training points."""
    train = response.shape[1]
    kept = covariance - response @ covariance[:train]
    return kept - kept[:, :train] @ response.T


def _mean(share: np.ndarray, off: np.ndarray, spread: np.ndarray) -> Float[np.ndarray, " agents"]:
    """E sum_a share_a |f_a - y_a|^2 / 2."""
    variances = np.diagonal(spread, axis1=1, axis2=2)
    return (share * ((off**2).sum(axis=2) + off.shape[2] * variances)).sum(axis=1) / 2


def _std(share: np.ndarray, off: np.ndarray, spread: np.ndarray) -> Float[np.ndarray, " agents"]:
    """Its standard deviation: var = k tr((D S)^2) / 2 + sum_k off_k^T D S D off_k."""
    weighted = share[:, :, None] * spread
    squared = np.einsum("iab,iba->i", weighted, weighted)
    pushed = share[:, :, None] * off
    crossed = np.einsum("iak,iab,ibk->i", pushed, spread, pushed, optimize=True)
    return np.sqrt(np.maximum(off.shape[2] * squared / 2 + crossed, 0))


def _with_round(dims: tuple[str, ...]) -> tuple[str, ...]:
    """Rounds come first, or after the quantiles."""
    return ("quantile", "round", *dims[1:]) if dims[0] == "quantile" else ("round", *dims)
