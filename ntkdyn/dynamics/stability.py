"""Stability limits: the largest step size at which a method's errors do not grow.

With the squared error, H_i = J_i^T J_i / n_i and symmetric W,

    DGD        W - eta H          stable iff eta lambda_max((I+W)^-1[o,o'] * K / sqrt(n n')) <= 1
    CTA, ATC   W (I - eta H)      stable iff eta lambda_max((I+W)^-1 W [o,o'] * K / sqrt(n n')) <= 1

where * is the entry-wise product over pairs of training points with owners o, o': the agents'
coupling and the kernel meet in one matrix of the size of the kernel. It follows from the Schur
complement of I + W - eta H >= 0. For CTA and ATC it is exact where W >= 0; otherwise complex
eigenvalues may leave the unit disc first, and the spectral radius of the method's own map decides,
as it does for every other method and for directed graphs.

The map is linear for the squared error. For another loss the limit is that of its largest second
derivative: sufficient, not necessary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.sparse.linalg
from jaxtyping import Float

from ntkdyn import losses, precision
from ntkdyn.data import full
from ntkdyn.dynamics.affine import spectral_radius
from ntkdyn.engine import System
from ntkdyn.errors import InputError
from ntkdyn.graphs import Mixing, Weights, mixing
from ntkdyn.methods import Method
from ntkdyn.methods.mixing import operator_of
from ntkdyn.methods.updates import ATC, CTA, DGD, OfLimit
from ntkdyn.problems import Kernel, KernelProblem, Problem, Task
from ntkdyn.spaces import KernelSpace

MARGIN = 1e-9
"""Spectral radii up to 1 + MARGIN count as stable: modes outside the kernel's range stay put."""


FOLLOWED = 10**6
"""The largest state of which the growth is worked out where the limit is known without."""


class Setting(NamedTuple):
    """A method on a graph, learning a task with a kernel."""

    kernel: Kernel
    task: Task
    method: Method
    weights: Weights


class Stability(NamedTuple):
    """The method with its step size as a number, whether it is stable, and what is known of it."""

    method: Method
    stable: bool | None
    """None where it is not known: rounds that differ, or maps that are not affine"""
    limit: float | None
    """the largest stable step size, where it had to be known"""
    growth: float | None = None
    """by what factor an unstable method's errors grow in a round, in the long run"""

    def attributes(self) -> dict[str, Any]:
        """For a record."""
        known = {
            "stable": self.stable,
            "step_size_limit": self.limit,
            "growth_per_round": self.growth,
        }
        return {name: value for name, value in known.items() if value is not None}


@precision.in_double
def step_size_limit(
    problem: Problem | KernelProblem, method: Method, weights: Any, *, kernel: str = "empirical"
) -> float:
    """The largest step size at which `method` is stable, all points in each round.

    Exact for the squared error (found to 1e-6 where there is no closed form), sufficient for
    other losses; the method's own step size does not matter.
    """
    asked = setting(problem, kernel, method, weights)
    check_one_map(asked, "stability limit")
    return _limit(asked)


def setting(problem: Problem | KernelProblem, kernel: str, method: Method, weights: Any) -> Setting:
    """The method at work on the problem, with the kernel of that name."""
    sums = "columns" if method.needs.columns else "rows"
    weights = mixing(weights, agents=problem.task.agents, sums=sums)
    method.check_weights(weights)
    return Setting(problem.kernel(kernel), problem.task, method, weights)


@precision.in_double
def assess(setting: Setting) -> Stability:
    """Settle a step size given as a share of the limit, and say whether it is stable."""
    method = setting.method
    if not one_map(method, setting.weights):
        return Stability(known_step(method), None, None)
    limit = _closed_form(setting)
    if isinstance(method.step_size, OfLimit):
        limit = _limit(setting) if limit is None else limit
        if limit == 0:
            raise InputError(
                f"step size: no step size of {method.name} is stable on these weights, so there "
                f"is no share of the limit; give a number"
            )
        method = method.with_step_size(method.step_size.share * limit)
    curvature = setting.task.loss.curvature
    if limit is not None and method.step_size <= limit:
        return Stability(method, True, limit)
    if limit is not None and setting.kernel.training.shape[0] * setting.task.agents > FOLLOWED:
        return Stability(method, False, limit)
    radius = _radius(setting, method.step_size * curvature)
    if limit is None and radius <= 1 + MARGIN:
        return Stability(method, True, None)
    limit = _limit(setting) if limit is None else limit
    return Stability(method, False, limit, radius)


def known_step(method: Method) -> Method:
    """The method, refused if its step size is a share of a limit that nobody knows."""
    if isinstance(method.step_size, OfLimit):
        raise InputError(
            f"step size: a share of the limit needs a kernel, the same mixing in every round and a "
            f"method that is one affine map; give {method.name} a number"
        )
    return method


def one_map(method: Method, weights: Weights) -> bool:
    """Whether all rounds are one affine map, whose spectrum decides."""
    return method.affine and isinstance(weights, Mixing)


def check_one_map(setting: Setting, what: str) -> None:
    """Refuse a method or a graph to which `what` does not belong."""
    if not one_map(setting.method, setting.weights):
        raise InputError(
            f"{setting.method.name}: has no {what}, as its rounds on these weights are not one and "
            f"the same affine map"
        )


def _limit(setting: Setting) -> float:
    closed = _closed_form(setting)
    return _bisected(setting) / setting.task.loss.curvature if closed is None else closed


def _closed_form(setting: Setting) -> float | None:
    """The limit for DGD, CTA and ATC with symmetric W, where one matrix decides."""
    weights, update = setting.weights, setting.method.update
    if (
        setting.method.mixing.rate != 1
        or not weights.symmetric
        or not isinstance(update, (DGD, CTA, ATC))
    ):
        return None
    if weights.smallest_eigenvalue <= -1 + 1e-12:
        return 0.0
    identity = np.eye(weights.agents)
    numerator = identity if isinstance(update, DGD) else weights.matrix
    coupling = np.linalg.solve(identity + weights.matrix, numerator)
    limit = 1 / _largest_eigenvalue(coupling, setting)
    certain = isinstance(update, DGD) or weights.smallest_eigenvalue >= 0
    if not certain and _radius(setting, limit) > 1 + MARGIN:
        return None
    return limit / setting.task.loss.curvature


def _largest_eigenvalue(coupling: Float[np.ndarray, "agents agents"], setting: Setting) -> float:
    """lambda_max(coupling[o, o'] * K / sqrt(n n'))."""
    matrix, task = setting.kernel.training, setting.task
    owner = np.repeat(task.owner, len(matrix) // task.train)
    root = 1 / np.sqrt(task.counts[owner])
    whole = coupling[np.ix_(owner, owner)] * matrix * root * root[:, None]
    if len(matrix) < 10:
        return float(np.linalg.eigvalsh(whole).max())
    start = np.random.default_rng(0).standard_normal(len(matrix))
    values = scipy.sparse.linalg.eigsh(whole, 1, which="LA", v0=start, return_eigenvectors=False)
    return float(values[0])


def _bisected(setting: Setting) -> float:
    """Where the spectral radius passes one, to 1e-6 of the step size; 0 if it starts above."""
    lower, upper = 0.0, 1 / _largest_eigenvalue(np.eye(setting.weights.agents), setting)
    smallest = 1e-9 * upper
    while _radius(setting, upper) <= 1 + MARGIN:
        lower, upper = upper, 2 * upper
    while upper - lower > max(1e-6 * lower, smallest):
        middle = (lower + upper) / 2
        stable = _radius(setting, middle) <= 1 + MARGIN
        lower, upper = (middle, upper) if stable else (lower, middle)
    return lower


def _radius(setting: Setting, step_size: float) -> float:
    return spectral_radius(one_output(setting, step_size))


def one_output(setting: Setting, step_size: float) -> System:
    """The method with the squared error, on one output where outputs do not couple."""
    task = setting.task
    block = setting.kernel.whole[: task.train]
    initial = jnp.zeros((task.train, 1 if block.ndim == 2 else block.shape[1]))
    return System(
        space=KernelSpace(jnp.asarray(block), initial, task.agents, {}),
        method=setting.method.with_step_size(jnp.asarray(step_size)),
        weights=operator_of(setting.weights.matrix),
        batches=full(task.owner, task.agents),
        targets=initial,
        loss=losses.mse,
    )
