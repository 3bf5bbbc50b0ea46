"""Weights and step size by derivative: how a predicted loss changes with them, and the best.

    L(w, eta) = mean over agents of a loss in round t,     W = I - B diag(w) B'

B the incidence matrix of the links that W has: the prediction itself, differentiated through all of
its rounds. What mixing a graph should do for learning is not what its spectral gap says: the
smallest eigenvalue of W sets the largest step, and where in the spectrum the data are tells which
of the others matter.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array, Float, Int

from ntkdyn import graphs, precision
from ntkdyn.dynamics import assess, step_size_limit
from ntkdyn.engine import Iteration
from ntkdyn.errors import InputError, check_name, check_whole
from ntkdyn.methods.mixing import Dense, Fixed
from ntkdyn.methods.steps import Paced
from ntkdyn.runs import iteration_of, plan
from ntkdyn.system import System, question

LOSSES = ("test_loss", "global_loss")

LEAST_STEP, LEAST_WEIGHT = 1e-3, 1e-6
"""of the step size that is begun with, and of a link: below them nothing is looked for"""

MOST_STEP, SMALLER = 2.0, 0.8
"""The largest step that is looked at, of the limit with the weights that are begun with, and by
what it is multiplied where that leads to one that is not stable."""

FOLLOWED = 200
"""iterations of the optimiser"""


Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""(w, eta) -> L and its gradient"""


class Derivative(NamedTuple):
    """A predicted loss, the mean over agents, and its derivatives.

    Example:
        >>> found = design.derivative(bare, dgd, W, 20, of="global_loss")
        >>> len(found.links) == len(found.by_link), found.by_step_size < 0
        (True, True)
    """

    loss: float
    links: tuple[tuple[int, int], ...]
    by_link: Float[np.ndarray, " links"]
    """dL / dw_ij: both ways at once, own weights being what is left of one"""
    step_size: float
    by_step_size: float


class Improved(NamedTuple):
    """Weights and a step size with a smaller loss.

    Example:
        >>> better = design.Improved(nd.System(bare, dgd, W), before=1.0, loss=0.5)
        >>> better.system.method.name, better.loss < better.before
        ('dgd', True)
    """

    system: System
    before: float
    loss: float


@question("kernel")
def derivative(system: System, round: int, *, of: str = "test_loss") -> Derivative:
    """dL/dw_ij of every link and dL/d eta of L, a mean loss over agents, in this round.

    In float64, by reverse differentiation of the rounds; w_ij = w_ji, w_ii = 1 - sum_j w_ij.

    Args:
        system: or problem, method, weights in its place, with `kernel` by name.
        round: from 1 on.
        of: "test_loss", "train_loss" or "global_loss".

    Returns:
        The loss, and its derivatives.

    Raises:
        InputError: for weights that are not symmetric, methods that weigh for themselves or
            exchange in some rounds only, and rounds below one.

    Example:
        >>> path = nd.graphs.metropolis(nd.graphs.path(3))
        >>> design.derivative(bare, dgd, path, 20, of="global_loss").links
        ((0, 1), (1, 2))
    """
    objective, at = _objective(system, round, of)
    value, slope = objective(at)
    links = tuple((int(i), int(j)) for i, j in _links(system))
    return Derivative(value, links, slope[:-1], float(at[-1]), float(slope[-1]))


@question("kernel")
def improve(
    system: System, round: int, *, of: str = "test_loss", step_too: bool = True
) -> Improved:
    """argmin over W and eta of L in this round, W symmetric on the system's links, w_ij, w_ii >= 0.

    By sequential quadratic programming from those that it has; a local minimum. Where the result
    would not be stable, with a smaller largest step.

    Args:
        system: or problem, method, weights in its place, with `kernel` by name.
        round: from 1 on.
        of: the loss, as for `derivative`.
        step_too: whether the step size is sought too.

    Returns:
        The system found, and its loss before and after.

    Raises:
        InputError: as for `derivative`.

    Example:
        >>> path = nd.graphs.metropolis(nd.graphs.path(3))
        >>> found = design.improve(bare, dgd, path, 3, of="global_loss")
        >>> found.loss < found.before
        True
    """
    objective, at = _objective(system, round, of)
    before, most = objective(at)[0], MOST_STEP * step_size_limit(system)
    tried = itertools.takewhile(lambda step: step > at[-1], (most * SMALLER**k for k in range(99)))
    ranges = [(LEAST_STEP * at[-1], step) for step in tried] if step_too else []
    for steps in [*ranges, (at[-1], at[-1])]:
        found, loss = _least(objective, at, _links(system), steps)
        improved = _with(system, found)
        if loss < before and assess(improved).stable is not False:
            return Improved(improved, before, loss)
    return Improved(system, before, before)


def _least(
    objective: Objective,
    at: Float[np.ndarray, " variables"],
    links: Int[np.ndarray, "links 2"],
    steps: tuple[float, float],
) -> tuple[Float[np.ndarray, " variables"], float]:
    """Where the loss is least, with a step size in this range, and how large it is there."""
    touching = np.zeros((links.max() + 1, len(at)))
    touching[links.T, np.arange(len(links))] = 1
    scale = np.append(np.ones(len(links)), at[-1])

    def scaled(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = objective(x * scale)
        return math.log(value), slope * scale / value

    found = scipy.optimize.minimize(
        scaled,
        at / scale,
        jac=True,
        method="SLSQP",
        bounds=[(LEAST_WEIGHT, 1)] * len(links) + [(steps[0] / at[-1], steps[1] / at[-1])],
        constraints={"type": "ineq", "fun": lambda x: 1 - touching @ x, "jac": lambda x: -touching},
        options={"maxiter": FOLLOWED, "ftol": 1e-12},
    )
    best = found.x * scale
    best[:-1] /= max(1.0, (touching @ found.x).max())  # the optimiser keeps to it to some 1e-9
    return best, objective(best)[0]


@precision.in_double
def _with(system: System, found: Float[np.ndarray, " variables"]) -> System:
    """The system with these weights and this step size."""
    matrix = _matrix(jnp.asarray(found[:-1]), _links(system), system.weights.agents)
    weights = graphs.mixing(np.asarray(matrix), name=f"{system.weights.name}, improved")
    return system.with_(weights=weights, method=system.method.with_step_size(float(found[-1])))


def _objective(system: System, round: int, of: str) -> tuple[Objective, np.ndarray]:
    """L of the system, and its own (w, eta)."""
    check_name("loss", of, LOSSES)
    round = check_whole("round", round, 1)
    _check(system, of)
    with precision.double():
        system = system.with_(method=assess(system).method)
        iteration = iteration_of(plan(system, round), system.problem.kernel_space())
    links, share = jnp.asarray(_links(system)), _share(system, of)
    step = float(system.method.step_size)
    matrix = system.weights.matrix
    at = np.append([matrix[i, j] for i, j in _links(system)], step)

    @precision.in_double
    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = _value_and_slope(jnp.asarray(x), iteration, links, round, share)
        return float(value), np.asarray(slope)

    return objective, at


def _check(system: System, of: str) -> None:
    weights, method = system.weights, system.method
    if isinstance(weights, graphs.MixingSequence) or not weights.symmetric:
        raise InputError("derivative: needs one symmetric mixing matrix, whose links it varies")
    if not isinstance(method.mixing, Fixed) or method.objective.sends:
        raise InputError(f"derivative: agents of {method.name} do more than average by W")
    if isinstance(method.update, Paced) or hasattr(method.update, "links"):
        raise InputError("derivative: takes one step size, and links that carry what is sent")
    if of == "test_loss" and system.task.basis == len(system.task.targets):
        raise InputError("derivative: the problem has no test points; take of='global_loss'")


def _links(system: System) -> Int[np.ndarray, "links 2"]:
    return np.argwhere(np.triu(system.weights.matrix, 1) != 0)


def _share(system: System, of: str) -> Float[np.ndarray, " points"]:
    """What each point counts for in the loss."""
    task = system.task
    share = np.zeros(len(task.targets))
    if of == "test_loss":
        share[task.basis :] = 1 / (len(share) - task.basis)
    else:
        share[: task.train] = 1 / task.counts[task.owner] / task.agents
    return share


def _matrix(
    weights: Float[Array, " links"], links: Int[Array | np.ndarray, "links 2"], agents: int
) -> Float[Array, "agents agents"]:
    """I - B diag(w) B'."""
    matrix = jnp.zeros((agents, agents)).at[links[:, 0], links[:, 1]].set(weights)
    matrix = matrix + matrix.T
    return matrix + jnp.diag(1 - matrix.sum(axis=1))


@eqx.filter_jit
def _value_and_slope(
    x: Float[Array, " variables"],
    iteration: Iteration,
    links: Int[Array, "links 2"],
    round: int,
    share: Float[Array | np.ndarray, " points"],
) -> tuple[Float[Array, ""], Float[Array, " variables"]]:
    return jax.value_and_grad(_loss)(x, iteration, links, round, share)


def _loss(
    x: Float[Array, " variables"],
    iteration: Iteration,
    links: Int[Array, "links 2"],
    round: int,
    share: Float[Array | np.ndarray, " points"],
) -> Float[Array, ""]:
    agents = iteration.space.agents
    weights = Dense(_matrix(x[:-1], links, agents))
    varied = dataclasses.replace(iteration, weights=weights)
    varied = eqx.tree_at(lambda each: each.method.update.step_size, varied, x[-1])

    @jax.checkpoint
    def one_round(state: Any, at: Int[Array, ""]) -> tuple[Any, None]:
        return varied.method.update.step(state, varied.local(at, state), varied.mix(at)), None

    state, _ = jax.lax.scan(one_round, varied.init(), jnp.arange(round))
    outputs = varied.space.readout(slice(None))(state.x)[0]
    of_points = varied.loss.value(outputs, varied.targets[None])
    return jnp.mean(jnp.where(share > 0, of_points, 0) @ share)
