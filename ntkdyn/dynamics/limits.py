"""Where each agent ends, what keeps it from the centralized solution, and how long it takes.

At rest the gradients u of all points balance: with the transfer function near lambda = 1,
G = 1 q^T / (lambda - 1) + G_0 + ..., and K = F F^T,

    n_o u_a = e_a + F_a xbar + sum_b K_ab G_0[o(a), o(b)] u_b,        sum_b q_o(b) F_b^T u_b = 0,
    v_i = xbar + sum_b G_0[i, o(b)] F_b^T u_b.

Where the network can fit all points, u = 0: every agent ends in the centralized minimum-norm
interpolant theta_0 - J^T K^-1 e. Where it can't, what G_0 leaves between the agents is the bias
of a constant step; a method whose G_0 vanishes between agents has none. G is that of the states
gradients can reach: sums that a method keeps have poles at one too, and are never moved.

Where exchanges or the graph repeat after some rounds, rest is the fixed point of a whole period,
x = A x + b on the minimal realization (`realization`): where agents are at the start of each.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse.linalg
import xarray as xr
from jaxtyping import Complex, Float

from ntkdyn import precision, thresholds
from ntkdyn.dynamics.affine import Affine, affine_rounds
from ntkdyn.dynamics.loops import Loop
from ntkdyn.dynamics.predict import predict
from ntkdyn.dynamics.realization import Features, Realization
from ntkdyn.dynamics.stability import assess, check_repeats
from ntkdyn.engine import Iteration
from ntkdyn.errors import InputError, check_whole, is_real, shown
from ntkdyn.measures import measure
from ntkdyn.methods import Method
from ntkdyn.quantities import described
from ntkdyn.records import Record
from ntkdyn.runs import iteration_of, plan
from ntkdyn.saving import SaveOptions
from ntkdyn.system import System, question

AT_ONE = 1e-8
"""Eigenvalues of P this close to one are one: rounding is far below, and no run has 1e8 rounds."""

BESIDE = 1e-6
"""How far from one, where A may be singular, eigenvalues near one are looked for: nearer than the
slowest mode that is told, and far enough for a factorization."""

INTERPOLATES = 1e-8
"""Residuals this small, relative to those at the start, count as none: the square root of what a
solution in double precision leaves, as kernels are that badly conditioned."""


class Rest(NamedTuple):
    """G and the iterate's own transfer function near lambda = 1: their residue and finite part."""

    weights: Float[np.ndarray, " agents"]
    """q"""
    felt: Float[np.ndarray, "agents agents"]
    """G_0"""
    held: Float[np.ndarray, "agents agents"]
    """the finite part of X (lambda - P)^-1 Q"""


@question("kernel")
@precision.in_double
def limit(system: System) -> Record:
    """Where the linearized agents come to rest, with the squared error and all points per round.

    Variables: `outputs` (agent, point, output) and every loss and accuracy of a prediction;
    `bias` (agent), |theta_i - theta*| / |theta* - theta_0| with theta* the minimum-norm minimiser
    of the common objective; `residual` (point, output), f - y at the agent that owns the point.
    Attributes: `interpolates`, whether all residuals vanish; `period`, the rounds after which
    exchanges and graph repeat, at whose start the agents are. The method must be stable.

    Args:
        system: or problem, method, weights in its place, with `kernel` by name.

    Returns:
        The variables above; losses in units of the problem's.

    Raises:
        InputError: for a method that is not stable, or has no limit in closed form.

    Example:
        >>> rest, late = nd.dynamics.limit(bare, dgd, W), nd.predict(bare, dgd, W, [10**6])
        >>> bool(abs(rest["outputs"] - late["outputs"][0]).max() < 1e-8)
        True
    """
    check_repeats(system, "limit in closed form")
    stability = assess(system)
    if not stability.stable:
        raise InputError(
            f"limit: {system.method.name} is unstable at step size "
            f"{float(stability.method.step_size):g} and comes to no rest; its largest stable one "
            f"is {stability.limit:.6g}"
        )
    problem, task = system.problem, system.task
    map = affine_rounds(_iteration(system, stability.method))
    features = Features(map.kernel)
    coefficients = (_resting if len(map.loops) == 1 else _returning)(map, features)
    best = _centralized(map, features, task.agents)
    shape = (task.agents, task.train, task.targets.shape[1])
    whole = system.matrix.whole
    outputs = problem.initial + _read_out(whole, coefficients.reshape(shape))
    off = [_length(map.kernel, each - best) for each in coefficients]
    residual = outputs[task.owner, np.arange(task.train)] - task.targets[: task.train]
    variables = {
        "outputs": (("agent", "point", "output"), outputs),
        "bias": ("agent", np.array(off) / max(_length(map.kernel, best), 1e-300)),
        "residual": (("train_point", "output"), residual),
    }
    variables |= {name: ("agent", values) for name, values in measure(task, outputs).items()}
    small = np.abs(residual).max() <= INTERPOLATES * max(np.abs(map.residual).max(), 1e-300)
    known = {"interpolates": int(small), "period": len(map.loops), **stability.attributes()}
    return described(xr.Dataset(variables, attrs=known))


def _resting(map: Affine, features: Features) -> Float[np.ndarray, "agents coordinates sides"]:
    """Every agent's coefficients, by one linear system of the size of the kernel."""
    rest = at_rest(map.loop.moving)
    center, gradients = _balance(map, features, rest)
    return center + rest.held[:, map.owner][:, :, None] * gradients


def _returning(map: Affine, features: Features) -> Float[np.ndarray, "agents coordinates sides"]:
    """The same by the fixed point of a period, for small problems."""
    whole = Realization(map, features.rows)
    if whole.size > thresholds.DECOMPOSED_UP_TO:
        raise InputError(
            f"limit: the state that moves has {whole.size} entries, and a period of "
            f"{whole.period} rounds is solved for up to {thresholds.DECOMPOSED_UP_TO}; take "
            f"fewer points or agents"
        )
    matrix, drive = whole.over_period
    fixed = np.linalg.lstsq(np.eye(whole.size) - matrix, drive, rcond=None)[0]
    return features.coefficients(whole.iterate(fixed))


def at_rest(loop: Loop) -> Rest:
    """The Laurent expansion at lambda = 1, by the trapezoidal rule on a circle around it."""
    others = np.linalg.eigvals(loop.P)
    apart = np.abs(others - 1)
    # Halfway to the next pole: 64 nodes are off by 2^-64 of what lies outside.
    radius = 0.5 * min(apart[apart > AT_ONE], default=1.0)
    circle = radius * np.exp(2j * np.pi * (np.arange(64) + 0.5) / 64)
    felt, held = [], []
    for shift in circle:
        inverse, transfer = loop.at(shift)
        felt.append(transfer)
        held.append(loop.X @ inverse @ loop.Q)
    felt, held = np.array(felt), np.array(held)
    terms = lambda order, values: np.tensordot(circle**-order, values, 1).real / len(circle)
    residue, double = terms(-1, felt), terms(-2, felt)
    scale = np.abs(residue).max()
    # Eigenvalues at one that are defective are split by the square root of rounding.
    if np.abs(double).max() > 1e-6 * scale or np.ptp(residue, axis=0).max() > 1e-6 * scale:
        raise InputError("limit: agents that do not settle on a common point have no closed form")
    return Rest(residue.mean(axis=0), terms(0, felt), terms(0, held))


def _balance(map: Affine, features: Features, rest: Rest) -> tuple[np.ndarray, np.ndarray]:
    """The coefficients of xbar, and u."""
    size, rank = features.rows.shape
    coupled = map.kernel * rest.felt[np.ix_(map.owner, map.owner)]
    matrix = np.zeros((size + rank, size + rank))
    matrix[:size, :size] = np.diag(map.counts) - coupled
    matrix[:size, size:] = -features.rows
    matrix[size:, :size] = (features.rows * rest.weights[map.owner][:, None]).T
    right = np.concatenate([map.residual, np.zeros((rank, map.residual.shape[1]))])
    solution = np.linalg.lstsq(matrix, right, rcond=None)[0]
    return features.coefficients(solution[size:]), solution[:size]


def _centralized(map: Affine, features: Features, agents: int) -> np.ndarray:
    """Coefficients of the minimum-norm minimiser of the mean over agents of their losses."""
    root = 1 / np.sqrt(agents * map.counts)[:, None]
    best = np.linalg.lstsq(root * features.rows, -root * map.residual, rcond=None)[0]
    return features.coefficients(best)


def _length(kernel: np.ndarray, coefficients: np.ndarray) -> float:
    """|J^T c|."""
    return float(np.sqrt(max(np.sum(coefficients * (kernel @ coefficients)), 0)))


def _read_out(kernel: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    if kernel.ndim == 2:
        return np.einsum("bn,ank->abk", kernel, coefficients, optimize=True)
    return np.einsum("bknj,anj->abk", kernel, coefficients, optimize=True)


@question("kernel")
@precision.in_double
def slowest_modes(system: System, *, count: int = 6) -> Record:
    """The eigenvalues of A nearest to one, on what training can reach of parameter space.

    Variables over `mode`: `eigenvalue_real`, `eigenvalue_imaginary`, and `time_constant`
    -1 / log |lambda|, the rounds in which the mode shrinks by e. Where exchanges or the graph
    repeat after some rounds, A is that of a period (attribute `period`), and time still in rounds.

    Args:
        system: or problem, method, weights in its place, with `kernel` by name.
        count: how many, at most.

    Returns:
        The variables above, the slowest first.

    Raises:
        InputError: where rounds are not affine maps, or do not repeat.

    Example:
        >>> found = nd.dynamics.slowest_modes(bare, dgd, W, count=2)
        >>> found["time_constant"].values.round(1).tolist()
        [67.6, 67.6]
    """
    check_repeats(system, "modes")
    map = affine_rounds(_iteration(system, assess(system).method))
    whole = Realization(map, Features(map.kernel).rows)
    count = check_whole("count:", count, 1, whole.size)
    if whole.size <= thresholds.DECOMPOSED_UP_TO:
        found = np.linalg.eigvals(whole.over_period[0]).astype(complex)
    elif whole.period == 1:
        found = _nearest_to_one(whole, count)
    else:
        raise InputError(
            f"modes: the state that moves has {whole.size} entries, and a period of "
            f"{whole.period} rounds is decomposed up to {thresholds.DECOMPOSED_UP_TO}; take "
            f"fewer points or agents"
        )
    found = found[np.argsort(np.abs(found - 1), kind="stable")][:count]
    with np.errstate(divide="ignore"):
        lasting = -whole.period / np.log(np.abs(found))
    return xr.Dataset(
        {
            "eigenvalue_real": ("mode", found.real),
            "eigenvalue_imaginary": ("mode", found.imag),
            "time_constant": ("mode", lasting),
        },
        attrs={"period": whole.period},
    )


def _nearest_to_one(whole: Realization, count: int) -> Complex[np.ndarray, " count"]:
    """Eigenvalues of A by Arnoldi iteration with (1 + beside - A)^-1."""
    solve = whole.resolvent(BESIDE)
    inverse = scipy.sparse.linalg.LinearOperator(
        (whole.size, whole.size), matvec=lambda x: solve(x.reshape(*whole.shape, 1)).reshape(-1)
    )
    start = np.random.default_rng(0).standard_normal(whole.size)
    values = scipy.sparse.linalg.eigs(inverse, count, v0=start, return_eigenvectors=False)
    return 1 + BESIDE - 1 / values


@question("kernel")
def rounds_until(
    system: System,
    below: float | None = None,
    *,
    above: float | None = None,
    measured: str = "train_loss",
    at_most: int = 10**7,
) -> int | None:
    """The first round in which every agent's `measured` is at most `below`; None: not by `at_most`.

    With `above` instead, as for accuracies, the first in which it is at least that. Rounds are
    doubled until it is, then halved between: where an error rises again on its way, an earlier such
    round can be missed, and the one returned is still one where the next before is not.

    Args:
        system: or problem, method, weights in its place, with `kernel` by name.
        below: what is not to be exceeded, in units of `measured`.
        above: in its place, what is to be reached.
        measured: a loss or an accuracy of `predict`.
        at_most: rounds that are looked at.

    Returns:
        A round, or None.

    Raises:
        InputError: for both bounds or none, and a measure that there is not.

    Example:
        >>> nd.dynamics.rounds_until(bare, dgd, W, 1.0)
        20
    """
    _check_one_bound(below, above)
    at_most = check_whole("at_most:", at_most, 1)
    known, less = system.with_(stability=assess(system)), SaveOptions(outputs=False)

    def reached(round: int) -> bool:
        record = predict(known, [round], save=less)
        if (
            not isinstance(measured, str)
            or measured not in record
            or record[measured].dims != ("round", "agent")
        ):
            raise InputError(f"measured: the prediction has no {shown(measured)} per agent")
        values = record[measured]
        return bool((values <= below).all() if above is None else (values >= above).all())

    return _first(reached, at_most)


def _check_one_bound(below: Any, above: Any) -> None:
    if (below is None) == (above is None):
        raise InputError("below and above: give one of them, above for accuracies")
    if above is None and not (is_real(below) and 0 < below < np.inf):
        raise InputError(f"below: must be positive and finite, got {shown(below)}")
    if below is None and not (is_real(above) and np.isfinite(above)):
        raise InputError(f"above: must be a finite number, got {shown(above)}")


def _first(reached: Any, at_most: int) -> int | None:
    if reached(0):
        return 0
    upper = 1
    while not reached(upper):
        if upper >= at_most:
            return None
        upper = min(2 * upper, at_most)
    lower = upper // 2
    while upper - lower > 1:
        middle = (lower + upper) // 2
        lower, upper = (lower, middle) if reached(middle) else (middle, upper)
    return upper


def _iteration(system: System, method: Method) -> Iteration:
    """At work in the space of its kernel, by the method whose step size is a number."""
    asked = plan(system.with_(method=method), 0)
    return iteration_of(asked, system.problem.kernel_space(system.kernel))
