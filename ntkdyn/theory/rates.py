"""Exact rates: the spectrum of a linearized method, as a function of step size and spectral gap.

With the squared error and fixed W a method is an affine map z -> A z + b of its state, taken here
from its own step, in an orthonormal basis of what training can reach and on the states that a start
from zero can have (`dynamics.loops`). Its rate is the spectral radius of A:

    A = P (x) I + sum_i Q_i R_i (x) H_i

Small maps are decomposed whole. Of larger ones the two ends of the spectrum are found where it is
real (DGD with symmetric W; ATC and CTA with W >= 0): the slow end by inverse iteration with one
linear system of the size of the kernel, the other by Arnoldi iteration. Elsewhere (methods with
memory, directed graphs) the eigenvalues nearest to one are found in the same way, and whether any
other is larger by Arnoldi iteration with a power of A, in which moduli lie far apart.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.sparse.linalg
import xarray as xr
from jaxtyping import Complex, Float

from ntkdyn import precision, thresholds
from ntkdyn.dynamics.affine import Affine
from ntkdyn.dynamics.linear_problem import LinearProblem
from ntkdyn.dynamics.loops import Loop, closed, loops_on
from ntkdyn.dynamics.realization import Realization
from ntkdyn.engine import Progress
from ntkdyn.errors import InputError
from ntkdyn.graphs import MixingMatrix
from ntkdyn.methods.mixing import Fixed, operator_of
from ntkdyn.records import Record
from ntkdyn.theory.bounds import Case, Observation, not_computed

__all__ = [
    "NotFound", "Optimum", "computable", "eigenvalues", "flow_exponent", "linear_map", "open_loop",
    "optimal_step_size", "rate", "rate_map", "whole_map", "with_gap",
]  # fmt: skip

ROUGHLY, EXACTLY = 1e-4, 1e-9
"""Relative errors of iterated eigenvalues: to see which end decides, and to tell it"""

POWER = 64
"""Of A, in which Arnoldi iteration looks for the largest modulus."""

NEAREST = 6
"""How many eigenvalues next to one are looked at: the slowest may be a complex pair."""


class NotFound(InputError):
    """Iterations for eigenvalues did not converge.

    Example:
        >>> issubclass(nd.theory.rates.NotFound, nd.InputError)
        True
    """


@precision.in_double
def open_loop(case: Case) -> Loop:
    """The method's step as z+ = P z + Q u, v = R z, x = X z, its gradients u from outside.

    Args:
        case: as `theorems.case` gives it.

    Returns:
        P, Q, R and X, (memories agents, memories agents) and the like.

    Example:
        >>> loop = nd.theory.rates.open_loop(nd.theory.theorems.case(bare, dgd, W))
        >>> bool(np.allclose(loop.P, W.matrix) and np.allclose(loop.Q, -0.1 * np.eye(3)))
        True
    """
    method = dataclasses.replace(case.method, mixing=Fixed())  # its rate gamma is in the weights
    (loop,) = loops_on(method, operator_of(case.weights.matrix), case.constants.agents)
    return loop


def linear_map(case: Case) -> Float[np.ndarray, "state state"]:
    """A = P (x) I + sum_i Q_i R_i (x) H_i, dense, on what training can reach.

    Args:
        case: as `theorems.case` gives it.

    Returns:
        A, (state, state).

    Raises:
        InputError: for another loss than the squared error, and a state too large to be decomposed.

    Example:
        >>> nd.theory.rates.linear_map(nd.theory.theorems.case(bare, dgd, W)).shape
        (18, 18)
    """
    loop, rank = _loop(case), len(case.constants.reach.values)
    size = len(loop.P) * rank
    if size > thresholds.DECOMPOSED_UP_TO:
        raise InputError(
            f"rates: the state has {size} numbers and exact spectra are computed "
            f"up to {thresholds.DECOMPOSED_UP_TO}; take fewer agents or points"
        )
    return closed(loop.P, loop.ports, case.constants.hessians)


def _loop(case: Case) -> Loop:
    if not case.constants.quadratic:
        raise InputError("rates: need the squared error; with another loss no round is linear")
    return open_loop(case).moving


def _realized(case: Case, loop: Loop) -> Realization:
    """The loop on what training can reach."""
    problem = case.constants
    kept = {each.name: getattr(problem, each.name) for each in dataclasses.fields(LinearProblem)}
    return Realization(Affine(**kept, loops=(loop,)), problem.features)


def eigenvalues(case: Case) -> Complex[np.ndarray, " state"]:
    """All eigenvalues of A, from the largest modulus down.

    Args:
        case: as `theorems.case` gives it.

    Returns:
        (state,).

    Raises:
        InputError: as for `linear_map`.

    Example:
        >>> abs(nd.theory.rates.eigenvalues(nd.theory.theorems.case(bare, dgd, W))[0]) < 1
        np.True_
    """
    matrix = linear_map(case)
    symmetric = np.abs(matrix - matrix.T).max() <= thresholds.SYMMETRIC * np.abs(matrix).max()
    values = (np.linalg.eigvalsh if symmetric else np.linalg.eigvals)(matrix).astype(complex)
    return values[np.argsort(-np.abs(values), kind="stable")]


def computable(case: Case) -> bool:
    """Whether `rate` can be told: for a small state, or not too many rows of the kernel.

    Args:
        case: as `theorems.case` gives it.

    Returns:
        True or False.

    Example:
        >>> nd.theory.rates.computable(nd.theory.theorems.case(bare, dgd, W))
        True
    """
    constants = case.constants
    if not constants.quadratic:
        return False
    small = len(_loop(case).P) * len(constants.reach.values) <= thresholds.DECOMPOSED_UP_TO
    return small or len(constants.kernel) <= thresholds.ROWS_UP_TO


def rate(case: Case) -> float:
    """The spectral radius of A: by what errors shrink per round in the end; above one they grow.

    Args:
        case: as `theorems.case` gives it.

    Returns:
        The factor.

    Raises:
        InputError: for another loss than the squared error.
        NotFound: where iterations for eigenvalues do not converge.

    Example:
        >>> case = nd.theory.theorems.case(bare, dgd, W)
        >>> late = nd.predict(bare, dgd, W, [600, 601, 10**4])["outputs"]
        >>> first, second = (float(abs(late[k] - late[2]).max()) for k in (0, 1))
        >>> abs(second / first - nd.theory.rates.rate(case)) < 1e-3
        True
    """
    whole = _realized(case, open_loop(case))
    if whole.size <= thresholds.DECOMPOSED_UP_TO:
        return float(np.abs(eigenvalues(case)[0]))
    if not whole.reached.loops[0].symmetrisable:
        return _largest_modulus(case, whole)
    slow, fast = _slow_end(case, whole), -_fast_end(case, whole, ROUGHLY)
    if fast < slow - 10 * ROUGHLY:
        return slow
    return max(slow, -_fast_end(case, whole, EXACTLY))


def flow_exponent(case: Case) -> float:
    """lambda_max of the symmetric part of DGD's flow, -(I - (W + W')/2) - eta H, per round.

    Args:
        case: as `theorems.case` gives it.

    Returns:
        The exponent; below zero where all errors shrink from the first.

    Raises:
        NotFound: where iterations for eigenvalues do not converge.

    Example:
        >>> nd.theory.rates.flow_exponent(nd.theory.theorems.case(bare, dgd, W)) < 0
        True
    """
    loop, rank = _flow(case), len(case.constants.reach.values)
    if len(loop.P) * rank > thresholds.DECOMPOSED_UP_TO:
        return _slow_end(case, _realized(case, loop)) - 1
    pulled = scipy.linalg.block_diag(*case.constants.hessians) * case.step_size
    return float(np.linalg.eigvalsh(np.kron(loop.P, np.eye(rank)) - pulled)[-1]) - 1


def _flow(case: Case) -> Loop:
    matrix, identity = case.weights.matrix, np.eye(case.weights.agents)
    return Loop((matrix + matrix.T) / 2, -case.step_size * identity, identity, identity)


def _slow_end(case: Case, whole: Realization) -> float:
    """The largest of real eigenvalues, at most one: the nearest to a point just above one."""
    beside = _just_above(case)
    (found,) = _extreme(case, whole, _resolvent(whole, beside), "LM", EXACTLY)
    return 1 + beside - 1 / found


def _just_above(case: Case) -> float:
    """A tenth of eta mu_F: 1 - eta mu_F is the quotient of agents that agree."""
    return max(0.1 * case.step_size * case.constants.mean_convexity, 1e-12)


def _fast_end(case: Case, whole: Realization, tolerance: float) -> float:
    """The smallest of real eigenvalues."""
    (found,) = _extreme(case, whole, _acting(whole), "SR", tolerance)
    return float(found)


def _largest_modulus(case: Case, whole: Realization) -> float:
    """Of the eigenvalues next to one, and of those that a power of A finds to be larger."""
    act, beside = _acting(whole), _just_above(case)
    power = lambda x: functools.reduce(lambda z, _: act(z), range(POWER), x)
    nearest = _iterated(case, whole, _resolvent(whole, beside), NEAREST)
    slow = float(np.abs(1 + beside - 1 / nearest).max())
    fast = float(np.abs(_iterated(case, whole, power, 1)).max() ** (1 / POWER))
    return fast if fast > slow * (1 + EXACTLY) else slow


def _acting(whole: Realization) -> Callable[[np.ndarray], np.ndarray]:
    """x -> A x."""
    return lambda x: whole.act(x[:, :, None])[:, :, 0]


def _resolvent(whole: Realization, shift: float) -> Callable[[np.ndarray], np.ndarray]:
    """(lambda - A)^-1 at lambda = 1 + shift."""
    solve = whole.resolvent(shift)
    return lambda x: solve(x[:, :, None])[:, :, 0]


def _iterated(
    case: Case, whole: Realization, act: Callable, many: int
) -> Complex[np.ndarray, " many"]:
    """The largest eigenvalues of an operator on states."""
    operator, start = _operator(whole, act)
    many = min(many, len(start) - 2)
    try:
        return scipy.sparse.linalg.eigs(
            operator, many, v0=start, tol=EXACTLY, return_eigenvectors=False
        )
    except scipy.sparse.linalg.ArpackNoConvergence as error:
        raise NotFound(
            f"rates: the spectrum of {case.method.name} was not found in {len(start)} dimensions; "
            f"take fewer agents or points"
        ) from error


def _extreme(
    case: Case, whole: Realization, act: Callable, which: str, tolerance: float
) -> Float[np.ndarray, " one"]:
    operator, start = _operator(whole, act)
    loop, step_size = whole.reached.loops[0], case.step_size
    symmetric = np.abs(loop.Q + step_size * loop.R.T).max() <= thresholds.SYMMETRIC * step_size
    which = {"SR": "SA"}.get(which, which) if symmetric else which
    find = scipy.sparse.linalg.eigsh if symmetric else scipy.sparse.linalg.eigs
    return find(operator, 1, which=which, v0=start, tol=tolerance, return_eigenvectors=False).real


def _operator(
    whole: Realization, act: Callable
) -> tuple[scipy.sparse.linalg.LinearOperator, Float[np.ndarray, " size"]]:
    """`act` for SciPy, and where iterations start."""
    flat = lambda x: act(x.reshape(whole.shape)).reshape(-1)
    operator = scipy.sparse.linalg.LinearOperator((whole.size,) * 2, matvec=flat, dtype=float)
    return operator, np.random.default_rng(0).standard_normal(whole.size)


class Optimum(NamedTuple):
    """The step size with the least rate.

    Example:
        >>> nd.theory.rates.Optimum(0.1, 0.9).rate
        0.9
    """

    step_size: float
    rate: float


def optimal_step_size(case: Case, *, largest: float | None = None) -> Optimum:
    """argmin_eta rate(eta) up to `largest`: where the linearized method is fastest.

    A grid of powers, refined around its best point; for DGD with symmetric W the rate is convex in
    the step size, so this is the optimum.

    Args:
        case: as `theorems.case` gives it.
        largest: step size; 2/L, if left out.

    Returns:
        The step size and its rate.

    Raises:
        InputError: for a largest step that is not positive and finite, and as for `rate`.

    Example:
        >>> case = nd.theory.theorems.case(bare, dgd, W)
        >>> nd.theory.rates.optimal_step_size(case).rate <= nd.theory.rates.rate(case)
        True
    """
    largest = 2 / case.constants.smoothness if largest is None else largest
    if not 0 < largest < np.inf:
        raise InputError(f"optimal step size: largest must be positive and finite, got {largest}")
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


def rate_map(
    case: Case,
    step_sizes: Sequence[float],
    gaps: Sequence[float],
    progress: Progress | None = None,
) -> Record:
    """The rate at every step size on graphs with the spectral gaps asked for, as a record.

    The graphs lie on the line through the case's own W; see `with_gap`.

    Args:
        case: as `theorems.case` gives it.
        step_sizes: eta.
        gaps: 1 - beta.
        progress: called with (rates done, rates in all).

    Returns:
        `rate` (spectral_gap, step_size).

    Raises:
        InputError: as for `with_gap` and `rate`.

    Example:
        >>> case = nd.theory.theorems.case(bare, dgd, W)
        >>> nd.theory.rates.rate_map(case, [0.1, 0.2], [0.5, 1.0])["rate"].shape
        (2, 2)
    """
    graphs = [with_gap(case.weights, gap) for gap in gaps]
    table = np.empty((len(graphs), len(step_sizes)))
    for done, (row, column) in enumerate(np.ndindex(table.shape), 1):
        table[row, column] = rate(
            _with_step(case._replace(weights=graphs[row]), step_sizes[column])
        )
        if progress:
            progress(done, table.size)
    return xr.Dataset(
        {"rate": (("spectral_gap", "step_size"), table)},
        {"spectral_gap": list(gaps), "step_size": list(step_sizes)},
        {"method": case.method.name, "weights": case.weights.name, "agents": case.weights.agents},
    )


def whole_map(case: Case, progress: Progress | None = None) -> Record:
    """`rate_map` from 0.02 / L to 2.5 / L and from a gap of 0.02 to one.

    Args:
        case: as `theorems.case` gives it.
        progress: called with (rates done, rates in all).

    Returns:
        `rate` (spectral_gap, step_size), 8 by 16.

    Raises:
        InputError: for a kernel of too many rows, and as for `rate_map`.

    Example:
        >>> case = nd.theory.theorems.case(bare, dgd, W)
        >>> nd.theory.rates.whole_map(case)["rate"].shape
        (8, 16)
    """
    rows = len(case.constants.kernel)
    if rows > thresholds.MAP_ROWS_UP_TO:
        raise InputError(
            f"rate map: takes 128 exact rates, and this kernel has {rows} rows; at most "
            f"{thresholds.MAP_ROWS_UP_TO}, so take fewer points, or kernel = 'infinite', which "
            f"outputs share"
        )
    steps = np.geomspace(0.02, 2.5, 16) / case.constants.smoothness
    return rate_map(case, list(steps), list(np.linspace(0.02, 1, 8)), progress)


def with_gap(weights: MixingMatrix, gap: float) -> MixingMatrix:
    """W, made lazy or moved towards the average of all, until 1 - beta = gap.

    Negative eigenvalues are first lifted by a share of I; a further share narrows the gap, and a
    share of 11'/m widens it.

    Args:
        weights: W, symmetric.
        gap: in (0, 1].

    Returns:
        Another W.

    Raises:
        InputError: for gaps and weights that are not such.

    Example:
        >>> round(nd.theory.rates.with_gap(W, 0.25).spectral_gap, 9)
        0.25
    """
    if not 0 < gap <= 1:
        raise InputError(f"spectral gap: must be in (0, 1], got {gap}")
    if not weights.symmetric:
        raise InputError("spectral gap: is set for symmetric W only")
    if weights.agents == 1 and gap != 1:
        raise InputError(f"spectral gap: is 1 with one agent, and cannot be made {gap}")
    agents, least = weights.agents, min(weights.smallest_eigenvalue, 0)
    safe = weights.matrix if least == 0 else (weights.matrix - least * np.eye(agents)) / (1 - least)
    own = 1 - float(np.linalg.eigvalsh(safe - 1 / agents).max())
    if gap <= own:
        matrix = np.eye(agents) + gap / own * (safe - np.eye(agents))
    else:
        matrix = 1 / agents + (1 - gap) / (1 - own) * (safe - 1 / agents)
    return MixingMatrix(matrix, f"{weights.name}, gap {gap:.3g}")


def _with_step(case: Case, step_size: float) -> Case:
    return case._replace(method=case.method.with_step_size(float(step_size)))


def exactly(case: Case, value: Callable[[], float]) -> Callable[[Record], Observation]:
    """A number that the case alone has, where rounds are linear and iterates not too large."""

    def observe(record: Record) -> Observation:
        if not case.constants.quadratic:
            return not_computed(record, "needs the squared error")
        if not computable(case):
            return not_computed(record, f"needs at most {thresholds.ROWS_UP_TO} rows of the kernel")
        try:
            return Observation(np.full(record.sizes["round"], value()), 1e-9)
        except NotFound:
            return not_computed(record, "its spectrum was not found")

    return observe
