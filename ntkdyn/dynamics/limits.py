"""Where each agent ends, what keeps it from the centralized solution, and how long it takes.

At rest the gradients u of all points balance: with the transfer function near lambda = 1,
G = 1 q^T / (lambda - 1) + G_0 + ..., and K = F F^T,

    n_o u_a = e_a + F_a xbar + sum_b K_ab G_0[o(a), o(b)] u_b,        sum_b q_o(b) F_b^T u_b = 0,
    v_i = xbar + sum_b G_0[i, o(b)] F_b^T u_b.

Where the network can fit all points, u = 0: every agent ends in the centralized minimum-norm
interpolant theta_0 - J^T K^-1 e. Where it can't, what G_0 leaves between the agents is the bias
of a constant step; a method whose G_0 vanishes between agents has none.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse.linalg
import xarray as xr
from jaxtyping import Float

from ntkdyn import precision
from ntkdyn.dynamics.affine import Affine, Loop, affine
from ntkdyn.dynamics.modes import Features
from ntkdyn.dynamics.predict import predict
from ntkdyn.dynamics.stability import assess, check_one_map, setting
from ntkdyn.engine import System
from ntkdyn.errors import InputError
from ntkdyn.keeping import Keep
from ntkdyn.measures import measure
from ntkdyn.methods import Method
from ntkdyn.problems import KernelProblem, Problem
from ntkdyn.records import Record
from ntkdyn.runs import plan, system_of

AT_ONE = 1e-8
"""Eigenvalues of P this close to one are one."""

BESIDE = 1e-6
"""How far from one, where A may be singular, eigenvalues near one are looked for."""

INTERPOLATES = 1e-8
"""Residuals this small, relative to those at the start, count as none."""


class Rest(NamedTuple):
    """G and the iterate's own transfer function near lambda = 1: their residue and finite part."""

    weights: Float[np.ndarray, " agents"]
    """q"""
    felt: Float[np.ndarray, "agents agents"]
    """G_0"""
    held: Float[np.ndarray, "agents agents"]
    """the finite part of X (lambda - P)^-1 Q"""


@precision.in_double
def limit(
    problem: Problem | KernelProblem, method: Method, weights: Any, *, kernel: str = "empirical"
) -> Record:
    """Where the linearized agents come to rest, with the squared error and all points per round.

    Variables: `outputs` (agent, point, output) and every loss and accuracy of a prediction;
    `bias` (agent), |theta_i - theta*| / |theta* - theta_0| with theta* the minimum-norm minimiser
    of the common objective; `residual` (point, output), f - y at the agent that owns the point.
    Attribute `interpolates`: whether all residuals vanish. The method must be stable.
    """
    asked = setting(problem, kernel, method, weights)
    check_one_map(asked, "limit in closed form")
    stability = assess(asked)
    if not stability.stable:
        raise InputError(
            f"limit: {method.name} is unstable at step size {float(stability.method.step_size):g} "
            f"and comes to no rest; its largest stable one is {stability.limit:.6g}"
        )
    system = _system(problem, stability.method, weights, kernel)
    map, task = affine(system), problem.task
    features = Features(map.kernel)
    rest = at_rest(map.loop)
    center, gradients = _balance(map, features, rest)
    coefficients = center + rest.held[:, map.owner][:, :, None] * gradients
    best = _centralized(map, features, task.agents)
    shape = (task.agents, task.train, task.targets.shape[1])
    whole = problem.kernel(kernel).whole
    outputs = problem.initial + _read_out(whole, coefficients.reshape(shape))
    residual = (gradients * map.counts[:, None]).reshape(shape[1:])
    off = [_length(map.kernel, each - best) for each in coefficients]
    variables = {
        "outputs": (("agent", "point", "output"), outputs),
        "bias": ("agent", np.array(off) / max(_length(map.kernel, best), 1e-300)),
        "residual": (("train_point", "output"), residual),
    }
    variables |= {name: ("agent", values) for name, values in measure(task, outputs).items()}
    small = np.abs(residual).max() <= INTERPOLATES * max(np.abs(map.residual).max(), 1e-300)
    return xr.Dataset(variables, attrs={"interpolates": bool(small), **stability.attributes()})


def at_rest(loop: Loop) -> Rest:
    """The Laurent expansion at lambda = 1, by the trapezoidal rule on a circle around it."""
    others = np.linalg.eigvals(loop.P)
    apart = np.abs(others - 1)
    radius = 0.5 * min(apart[apart > AT_ONE], default=1.0)
    circle = radius * np.exp(2j * np.pi * (np.arange(64) + 0.5) / 64)
    felt, held = [], []
    for beyond in circle:
        inverse, transfer = loop.at(beyond)
        felt.append(transfer)
        held.append(loop.X @ inverse @ loop.Q)
    felt, held = np.array(felt), np.array(held)
    terms = lambda order, values: np.tensordot(circle**-order, values, 1).real / len(circle)
    residue, double = terms(-1, felt), terms(-2, felt)
    scale = np.abs(residue).max()
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


@precision.in_double
def slowest_modes(
    problem: Problem | KernelProblem,
    method: Method,
    weights: Any,
    *,
    count: int = 6,
    kernel: str = "empirical",
) -> Record:
    """The eigenvalues of A nearest to one, on what training can reach of parameter space.

    Variables over `mode`: `eigenvalue_real`, `eigenvalue_imaginary`, and `time_constant`
    -1 / log |lambda|, the rounds in which the mode shrinks by e.
    """
    map = affine(_system(problem, method, weights, kernel))
    features = Features(map.kernel)
    shape = (len(map.loop.P), len(features.values), 1)
    size = shape[0] * shape[1]
    if not 1 <= count < size - 1:
        raise InputError(f"count: must be from 1 to {size - 2}, got {count}")
    solve = map.resolvent(BESIDE)

    def invert(x: np.ndarray) -> np.ndarray:
        return features.displacement(solve(features.coefficients(x.reshape(shape)))).reshape(-1)

    inverse = scipy.sparse.linalg.LinearOperator((size, size), matvec=invert, dtype=float)
    start = np.random.default_rng(0).standard_normal(size)
    values = scipy.sparse.linalg.eigs(inverse, count, v0=start, return_eigenvectors=False)
    found = 1 + BESIDE - 1 / values
    found = found[np.argsort(np.abs(found - 1))]
    return xr.Dataset(
        {
            "eigenvalue_real": ("mode", found.real),
            "eigenvalue_imaginary": ("mode", found.imag),
            "time_constant": ("mode", -1 / np.log(np.abs(found))),
        }
    )


def rounds_until(
    problem: Problem | KernelProblem,
    method: Method,
    weights: Any,
    below: float,
    *,
    measured: str = "train_loss",
    kernel: str = "empirical",
    at_most: int = 10**7,
) -> int | None:
    """The first round in which every agent's `measured` is at most `below`; None: not by `at_most`.

    Rounds are doubled until it is, then halved between: where an error rises again on its way, an
    earlier such round can be missed, and the one returned is still one where the next before is
    above.
    """
    if not below > 0:
        raise InputError(f"below: must be positive, got {below}")
    stability = assess(setting(problem, kernel, method, weights))

    def reached(round: int) -> bool:
        record = predict(
            problem,
            stability.method,
            weights,
            [round],
            kernel=kernel,
            keep=Keep(outputs=False),
            stability=stability,
        )
        if measured not in record or record[measured].dims != ("round", "agent"):
            raise InputError(f"measured: the prediction has no {measured} per agent")
        return bool((record[measured] <= below).all())

    return _first(reached, at_most)


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


def _system(problem: Problem | KernelProblem, method: Method, weights: Any, kernel: str) -> System:
    return system_of(plan(problem.task, method, weights, 0), problem.kernel_space(kernel))
