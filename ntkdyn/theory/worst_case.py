"""Worst cases: the largest error that a method can be left with, over all functions of a class.

Agents start together at x_0. Their functions are L-smooth and mu-strongly convex, or quadratic with
spectra in [mu, L]; x* minimises the mean. The error after t rounds, and what is granted before:

    E(t) = 1/m sum_i |x_i(t) - x*|^2
    |x_0 - x*|^2 + 1/m sum_i |grad f_i(x*)|^2 / zeta^2 <= 1

with the heterogeneity zeta; at zeta = 0 every grad f_i(x*) vanishes. Two ways lead there, which
share nothing but the method's own step:

    performance_estimation    a semidefinite program over the Gram matrix of all points
                   (Drori, Teboulle 2014; Taylor, Hendrickx, Glineur 2017; for decentralized methods
                   Colla, Hendrickx 2021), exact in enough dimensions; extra `bounds`
    by_search      gradient ascent on our own prediction over quadratics of a given dimension, from
                   many starts: never above the former

The interpolation conditions are those of Taylor, Hendrickx, Glineur (2017) for smooth strongly
convex functions and of Bousselmi, Hendrickx, Glineur (2023) for symmetric linear operators.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array, Float

from ntkdyn import precision
from ntkdyn.errors import InputError, check_whole
from ntkdyn.graphs import MixingMatrix
from ntkdyn.methods import Method
from ntkdyn.methods.mixing import operator_of
from ntkdyn.theory.agent_tuple import AgentTuple, applied, mixer
from ntkdyn.vectors import ByAgent, Point, Vector

__all__ = ["Class", "SolverFailure", "by_search", "performance_estimation"]

EXTRA = ("PEPit", "cvxpy", "clarabel")

LARGEST_GRAM = 80
"""Points in a program; beyond, an interior-point solver takes minutes."""

SOLVER = {
    "solver": "CLARABEL",
    "static_regularization_constant": 1e-7,
    "iterative_refinement_max_iter": 50,
}
"""Points of successive rounds are nearly dependent: the default regularization is too weak."""

TOLERANCES = (1e-8, 1e-6)
"""of the duality gap and of feasibility; the second is asked for where the first is missed"""


class Class(NamedTuple):
    """What is known of the agents' functions.

    Example:
        >>> nd.theory.worst_case.Class(smoothness=2.0).convexity
        0.1
    """

    smoothness: float = 1.0
    """L"""
    convexity: float = 0.1
    """mu"""
    heterogeneity: float = 0.0
    """zeta"""


class SolverFailure(RuntimeError):
    """The solver did not reach a reliable optimum; there is no number to report.

    Example:
        >>> issubclass(nd.theory.worst_case.SolverFailure, RuntimeError)
        True
    """


@precision.in_double
def performance_estimation(
    method: Method, weights: Any, rounds: int, known: Class = Class(), *, quadratic: bool = False
) -> float:
    """max E(rounds) over the class, or over its quadratics, by semidefinite programming.

    E(t) = 1/m sum_i |x_i(t) - x*|^2; all agents start at one x_0, |x_0 - x*|^2 +
    1/m sum_i |grad f_i(x*)|^2 / zeta^2 <= 1 (Drori, Teboulle 2014; Colla, Hendrickx 2021).

    Args:
        method: with a step size, whose rounds are all one linear map.
        weights: W, the same in every round.
        rounds: how many.
        known: the class of the agents' functions.
        quadratic: whether these are quadratics.

    Returns:
        The largest E.

    Raises:
        InputError: for programs too large, and where PEPit is not installed.
        SolverFailure: unless the solver calls its answer optimal.

    Example:
        >>> known = nd.theory.worst_case.Class(smoothness=1.0, convexity=0.5)
        >>> step, pair = nd.methods.dgd(step_size=1.0), nd.graphs.complete(2)
        >>> pair = nd.graphs.metropolis(pair)
        >>> round(nd.theory.worst_case.performance_estimation(step, pair, 1, known), 3)
        0.25
    """
    weights = _checked(method, weights, rounds, known)
    agents = weights.agents
    check_size(agents, rounds)
    PEPit = required()
    problem = PEPit.PEP()
    start = problem.set_initial_point()
    directions = _balanced(PEPit, agents) if known.heterogeneity else [_null()] * agents
    problem.set_initial_condition(start**2 + sum(each**2 for each in directions) <= 1)
    forces = [known.heterogeneity * agents**0.5 * each for each in directions]
    grad = gradients(problem, forces, known, quadratic=quadratic)
    mix = mixer(weights.matrix.tolist())
    state = method.update.init(AgentTuple([start] * agents))
    for _ in range(rounds):
        state = method.update.step(state, grad, mix)
    problem.set_performance_metric(sum(x**2 for x in state.x.values) / agents)
    return solved(problem)


@precision.in_double
def by_search(
    method: Method,
    weights: Any,
    rounds: int,
    known: Class = Class(),
    *,
    dimension: int = 2,
    starts: int = 8,
    seed: int,
) -> float:
    """max E(rounds) over quadratics in `dimension` dimensions, by ascent from `starts` starts.

    A lower bound of `performance_estimation` for quadratics.

    Args:
        method: with a step size, whose rounds are all one linear map.
        weights: W, the same in every round.
        rounds: how many.
        known: the class of the agents' functions.
        dimension: of x.
        starts: how many ascents.
        seed: draws where they start.

    Returns:
        The largest E found.

    Raises:
        InputError: for numbers that are none.
        SolverFailure: where errors met are not finite.

    Example:
        >>> known = nd.theory.worst_case.Class(smoothness=1.0, convexity=0.5)
        >>> step, pair = nd.methods.dgd(step_size=1.0), nd.graphs.complete(2)
        >>> pair = nd.graphs.metropolis(pair)
        >>> found = nd.theory.worst_case.by_search(step, pair, 1, known, starts=2, seed=0)
        >>> round(found, 3)
        0.25
    """
    weights = _checked(method, weights, rounds, known)
    check_whole("worst case: dimension", dimension, 1)
    check_whole("worst case: starts", starts, 1)
    agents = weights.agents
    spectra = agents * dimension
    angles = agents * dimension * (dimension - 1) // 2
    mix = operator_of(weights.matrix)

    def negative_error(settings: Float[Array, " settings"]) -> Float[Array, ""]:
        hessians = _hessians(settings[:spectra], settings[spectra:], agents, known)
        return -_largest_error(method, mix, hessians, rounds, known.heterogeneity)

    ascend = jax.jit(jax.value_and_grad(negative_error))
    rng = np.random.default_rng(seed)
    found = [
        scipy.optimize.minimize(
            lambda settings: jax.tree.map(np.asarray, ascend(settings)),
            rng.uniform(-np.pi, np.pi, spectra + angles),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 500, "ftol": 1e-14, "gtol": 1e-10},
        ).fun
        for _ in range(starts)
    ]
    if not np.isfinite(found).all():
        raise SolverFailure(
            "worst case: the search met errors that are not finite, so there is no number to "
            "report; take a smaller step size or fewer rounds"
        )
    return -float(min(found))


# --- the semidefinite program -----------------------------------------------------------------


def required() -> Any:
    """PEPit, with all it needs, or the command that installs them."""
    try:
        return [importlib.import_module(name) for name in EXTRA][0]
    except ImportError as error:
        raise InputError(
            f"worst case: needs {error.name}, which is not installed: pip install 'ntkdyn[bounds]'"
        ) from None


def check_size(agents: int, rounds: int) -> None:
    """Refuse a program that no solver would finish."""
    size = agents * (rounds + 1)
    if size > LARGEST_GRAM:
        raise InputError(
            f"worst case: {agents} agents and {rounds} rounds make a Gram matrix of {size} points, "
            f"and at most {LARGEST_GRAM} are solved; take at most "
            f"{max(LARGEST_GRAM // agents - 1, 0)} rounds, fewer agents, or `by_search`"
        )


def gradients(
    problem: Any, forces: Sequence[Any], known: Class, *, quadratic: bool
) -> Callable[[AgentTuple], AgentTuple]:
    """The local gradients, as functions of the class whose gradients at x* = 0 are `forces`."""
    from PEPit import Expression
    from PEPit.functions import SmoothStronglyConvexFunction
    from PEPit.operators import SymmetricLinearOperator

    if quadratic:
        middle = (known.smoothness + known.convexity) / 2
        half = (known.smoothness - known.convexity) / 2
        declared = [
            problem.declare_function(SymmetricLinearOperator, mu=-1.0, L=1.0) for _ in forces
        ]
        return lambda x: AgentTuple(
            [
                middle * value + half * unit.gradient(value) + force
                for unit, value, force in zip(declared, x.values, forces, strict=True)
            ]
        )
    bounds = {"mu": known.convexity, "L": known.smoothness}
    declared = [problem.declare_function(SmoothStronglyConvexFunction, **bounds) for _ in forces]
    for function, force in zip(declared, forces, strict=True):
        function.add_point((_null(), force, Expression()))
    return lambda x: AgentTuple(
        [function.gradient(value) for function, value in zip(declared, x.values, strict=True)]
    )


def solved(problem: Any) -> float:
    """The optimum, if the solver stands by it."""
    said = []
    for tolerance in TOLERANCES:
        asked = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), tolerance)
        value, status = _attempt(problem, SOLVER | asked)
        if status == "optimal":
            return value
        said.append(status)
    raise SolverFailure(
        f"worst case: the solver did not reach an optimum, so there is no number to report; "
        f"it ended with {' and then '.join(said)}"
    )


def _attempt(problem: Any, settings: dict[str, Any]) -> tuple[float, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = problem.solve(wrapper="cvxpy", verbose=0, **settings)
        except Exception as error:  # whatever a solver throws, there is no number
            return np.nan, f"{type(error).__name__} ({error})"
    status = problem.wrapper.prob.status
    return (np.nan, f"{status} without a value") if value is None else (float(value), status)


def _balanced(PEPit: Any, agents: int) -> list[Any]:
    """One free point per agent, together zero."""
    free = [PEPit.Point() for _ in range(agents - 1)]
    return [*free, -sum(free[1:], free[0])] if free else [_null()]


def _null() -> Any:
    from PEPit import Point

    return Point(is_leaf=False, decomposition_dict={})


# --- the search -------------------------------------------------------------------------------


def _hessians(
    spectra: Float[Array, " spectra"],
    angles: Float[Array, " angles"],
    agents: int,
    known: Class,
) -> Float[Array, "agents dimension dimension"]:
    """H_i = Q_i diag(lambda_i) Q_i^T, lambda = (L + mu)/2 + (L - mu)/2 sin, Q = exp(skew)."""
    middle = (known.smoothness + known.convexity) / 2
    half = (known.smoothness - known.convexity) / 2
    values = middle + half * jnp.sin(spectra).reshape(agents, -1)
    dimension = values.shape[1]
    rows, columns = np.triu_indices(dimension, 1)
    upper = jnp.zeros((agents, dimension, dimension))
    upper = upper.at[:, rows, columns].set(angles.reshape(agents, -1))
    bases = jax.vmap(jax.scipy.linalg.expm)(upper - upper.transpose(0, 2, 1))
    return jnp.einsum("aij,aj,akj->aik", bases, values, bases)


def _largest_error(
    method: Method,
    mix: Callable[[ByAgent], ByAgent],
    hessians: Float[Array, "agents dimension dimension"],
    rounds: int,
    heterogeneity: float,
) -> Float[Array, ""]:
    """lambda_max(M M^T) / m for the linear map M from (x_0, gradients at x*) to x(rounds)."""
    agents, dimension, _ = hessians.shape
    start, forces = _directions(agents, dimension, heterogeneity)
    grad = lambda x: Vector(jnp.einsum("aij,ajc->aic", hessians, x.tree) + forces)
    state = method.update.init(Point(start))
    for _ in range(rounds):
        state = method.update.step(state, grad, mix)
    flat = state.x.tree.reshape(agents * dimension, -1)
    return jnp.linalg.eigvalsh(flat.T @ flat)[-1] / agents


def _directions(agents: int, dimension: int, heterogeneity: float) -> tuple[Array, Array]:
    """An orthonormal basis of what may be granted, one direction per column."""
    identity = jnp.eye(dimension)
    together = jnp.broadcast_to(identity, (agents, dimension, dimension))
    if not heterogeneity or agents == 1:
        return together, jnp.zeros_like(together)
    balanced = np.linalg.svd(np.eye(agents) - 1 / agents)[0][:, : agents - 1]
    apart = jnp.einsum("af,ij->aifj", jnp.asarray(balanced), identity)
    apart = heterogeneity * np.sqrt(agents) * apart.reshape(agents, dimension, -1)
    start = jnp.concatenate([together, jnp.zeros_like(apart)], axis=2)
    return start, jnp.concatenate([jnp.zeros_like(together), apart], axis=2)


def _checked(method: Method, weights: Any, rounds: int, known: Class) -> MixingMatrix:
    check_whole("worst case: rounds", rounds, 1)
    ordered = 0 <= known.convexity < known.smoothness < np.inf
    if not ordered or not 0 <= known.heterogeneity < np.inf:
        raise InputError(
            f"worst case: needs 0 <= convexity < smoothness and heterogeneity >= 0, finite, got "
            f"{known.convexity}, {known.smoothness} and {known.heterogeneity}"
        )
    if not isinstance(method.step_size, (int, float)):
        raise InputError("worst case: the step size must be a number")
    return applied(method, weights)
