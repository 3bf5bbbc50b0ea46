"""Stability limits: the largest step size up to which a method's errors do not grow.

With the squared error and n_o the number of points of a point's owner o, a method whose transfer
function at step size one is G(lambda) is stable up to

    eta = 1 / lambda_max(G(-1)[o, o'] * K / sqrt(n n'))

wherever its errors grow at lambda = -1 first (`criterion`): the agents' coupling and the kernel
meet entry by entry in one matrix of the size of the kernel. For DGD G(-1) = (I + W)^-1, for ATC and
CTA with W >= 0 it is (I + W)^-1 W. Everywhere else (directed graphs, exchanges in some rounds only,
graphs that change in a cycle) the eigenvalues of the method's own rounds over a period decide.

The map is linear for the squared error. For another loss the limit is that of its largest second
derivative: sufficient, not necessary.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Float

from ntkdyn import losses, precision, thresholds
from ntkdyn.data import full
from ntkdyn.dynamics.affine import Affine, affine_rounds
from ntkdyn.dynamics.criterion import crosses_at_minus_one
from ntkdyn.dynamics.loops import PERIOD_UP_TO, Loop, loops_on
from ntkdyn.dynamics.realization import Features, Realization, triangular
from ntkdyn.dynamics.spectra import (
    GROWS,
    largest_eigenvalue,
    outer_eigenvalues,
    spectral_radius,
    wholly,
)
from ntkdyn.engine import Iteration, Progress
from ntkdyn.errors import InputError, check_kind
from ntkdyn.graphs import MixingSequence, Weights
from ntkdyn.methods import Method
from ntkdyn.methods.mixing import Operator, operator_of
from ntkdyn.methods.updates import OfLimit
from ntkdyn.progress import watched
from ntkdyn.spaces import KernelSpace
from ntkdyn.system import System, question

FOLLOWED = 10**6
"""The largest state of which the growth is worked out where the limit is known without."""

SLOW = 0.05
"""Eigenvalues nearer to one than this are no measure of how far from unstable a method is."""

NO_STEP = 1e-7
"""Limits below this share of 1 / max_i lambda_max(H_i) are zero."""

EXACTLY, BY_ITERATION = 1e-12, 1e-7
"""To what share of itself a limit is found from all eigenvalues, and from those on the rim."""


def loops_of(system: System, step_size: float) -> tuple[Loop, ...]:
    """The method on the graph as linear systems, one for every round of a period."""
    method = system.method.with_step_size(step_size)
    return loops_on(method, _operator(system.weights), system.weights.agents)


def _operator(weights: Weights) -> Operator:
    return operator_of(weights.matrices if isinstance(weights, MixingSequence) else weights.matrix)


class Limit(NamedTuple):
    """The largest stable step size, and how it is known."""

    value: float
    by: str
    """"closed form", "eigenvalues" (all of them) or "iteration" (those found on the rim)"""


class Stability(NamedTuple):
    """The method with its step size as a number, whether it is stable, and what is known of it.

    Example:
        >>> nd.dynamics.assess(bare, dgd, W).limit_by
        'closed form'
    """

    method: Method
    stable: bool | None
    """None where it is not known: rounds that never repeat, or maps that are not affine"""
    limit: float | None
    """the largest stable step size, where it had to be known"""
    growth: float | None = None
    """by what factor an unstable method's errors grow in a round, in the long run"""
    limit_by: str | None = None
    """how the limit is known, as in `Limit`"""

    def attributes(self) -> dict[str, Any]:
        """For a record."""
        known = {
            "stable": None if self.stable is None else int(self.stable),
            "step_size_limit": self.limit,
            "step_size_limit_by": self.limit_by,
            "growth_per_round": self.growth,
        }
        return {name: value for name, value in known.items() if value is not None}


@question("kernel")
@watched("looking for the limit")
@precision.in_double
def step_size_limit(system: System, *, progress: Progress | None = None) -> float:
    """The largest step size up to which `method` is stable, all points in each round.

    For the squared error it is exact in closed form (`criterion`), found to 1e-8 of itself from all
    eigenvalues of small states, and to 1e-6 from those that Arnoldi iteration finds on the rim of
    larger ones; for other losses it is sufficient. Zero: no step is stable; infinite: every step
    is, as the kernel is zero. The method's own step size does not matter; of a schedule it is what
    the largest factor may multiply. Of a system whose batches are drawn anew in each round it is
    the limit of the mean over draws, whose rounds are those with all points: mean squares may grow
    below it (`Moments`).

    Args:
        system: or problem, method, weights in its place, with `kernel` by name.
        progress: called with (step sizes looked at, about how many will be).

    Returns:
        eta, in units of the method's step size.

    Raises:
        InputError: where rounds are not affine maps, or do not repeat.

    Example:
        >>> round(nd.step_size_limit(bare, dgd, W), 4)
        0.7059
    """
    system = system.with_(method=system.method.at_largest)
    check_repeats(system, "stability limit")
    return _limit(system, progress).value


@question("kernel")
@precision.in_double
def assess(system: System, progress: Progress | None = None) -> Stability:
    """Settle a step size given as a share of the limit, and say whether it is stable.

    Whatever batches the system has, with all points in each round: see `step_size_limit`.

    Args:
        system: or problem, method, weights in its place, with `kernel` by name.
        progress: called with (step sizes looked at, about how many will be).

    Returns:
        The method with a number for its step size, whether it is stable, and the limit where that
        is known without more work.

    Raises:
        InputError: for a share of a limit that is not known.

    Example:
        >>> nd.dynamics.assess(bare, dgd, W).stable
        True
    """
    method = system.method
    if system.stability is not None:
        return told(system)
    if method.scheduled:
        found = assess(system.with_(method=method.at_largest), progress=progress)
        return found._replace(method=method.with_step_size(found.method.step_size))
    if not repeats(method, system.weights):
        return Stability(known_step(method), None, None)
    limit = _closed_form(system)
    if isinstance(method.step_size, OfLimit):
        limit = limit or _limit(system, progress)
        method = method.with_step_size(_share(method, limit))
    step = float(method.step_size)
    if limit is not None and step <= limit.value:
        return Stability(method, True, limit.value, None, limit.by)
    if limit is not None and system.matrix.training.shape[0] * system.task.agents > FOLLOWED:
        return Stability(method, False, limit.value, None, limit.by)
    growth = Family(system).growth(step * system.task.loss.curvature)
    if limit is None and growth <= 1 + GROWS:
        return Stability(method, True, None)
    limit = limit or _limit(system, progress)
    return Stability(method, False, limit.value, growth, limit.by)


def told(system: System) -> Stability | None:
    """What the system was given of its stability."""
    if system.stability is not None:
        check_kind("stability", system.stability, Stability, "as `dynamics.assess` gives")
    return system.stability


def _share(method: Method, limit: Limit) -> float:
    """The step size that is the asked share of the limit."""
    if limit.value == 0:
        raise InputError(
            f"step size: no step size of {method.name} is stable on these weights, so there "
            f"is no share of the limit; give a number"
        )
    if limit.value == math.inf:
        raise InputError(
            "step size: the kernel is zero, so every step size is stable and there is no share of "
            "the limit; give a number"
        )
    return method.step_size.share * limit.value


def known_step(method: Method) -> Method:
    """The method, refused if its step size is a share of a limit that is not known.

    Args:
        method: with any step size.

    Returns:
        The method itself.

    Raises:
        InputError: for a share of the limit.

    Example:
        >>> nd.dynamics.known_step(dgd) is dgd
        True
    """
    check_kind("method", method, Method, "as `methods.dgd` gives")
    if isinstance(method.step_size, OfLimit):
        raise InputError(
            f"step size: a share of the limit needs a kernel, mixing that repeats and a "
            f"method whose rounds are affine maps; give {method.name} a number"
        )
    return method


def period_of(method: Method, weights: Weights) -> int:
    """After how many rounds the method's exchanges on these weights repeat."""
    return math.lcm(len(weights.rounds), method.mixing.every)


def repeats(method: Method, weights: Weights) -> bool:
    """Whether rounds are affine maps that repeat, so that the spectrum over a period decides."""
    return method.linear and not method.scheduled and period_of(method, weights) <= PERIOD_UP_TO


def one_map(method: Method, weights: Weights) -> bool:
    """Whether all rounds are one affine map."""
    return method.linear and not method.scheduled and period_of(method, weights) == 1


def check_one_map(system: System, what: str) -> None:
    """Refuse a method or a graph whose rounds differ, where `what` is for one map only."""
    if not one_map(system.method, system.weights):
        raise InputError(
            f"{system.method.name}: has no {what}, as its rounds on these weights are not one and "
            f"the same affine map"
        )


def check_repeats(system: System, what: str) -> None:
    """Refuse a method or a graph whose rounds are no affine maps, or do not repeat soon."""
    if not repeats(system.method, system.weights):
        raise InputError(
            f"{system.method.name}: has no {what}, as its rounds on these weights are no affine "
            f"maps that repeat within {PERIOD_UP_TO} rounds"
        )


def _limit(system: System, progress: Progress | None = None) -> Limit:
    return _closed_form(system) or _crossing(system, progress)


def _closed_form(system: System) -> Limit | None:
    """1 / lambda_max(G(-1) * K / sqrt(n n')), where that decides."""
    method, weights = system.method, system.weights
    if not system.matrix.training.any():
        return Limit(math.inf, "closed form")
    if not one_map(method, weights) or not weights.rounds[0].symmetric:
        return None
    if not method.update.by_mode or not method.objective.plain:
        return None
    if not crosses_at_minus_one(method, weights.rounds[0]):
        return None
    (loop,) = loops_of(system, 1.0)
    # The loop counts from one: lambda = -1.
    _, coupling = loop.at(-2.0)
    return Limit(
        1 / _largest_eigenvalue(coupling, system) / system.task.loss.curvature, "closed form"
    )


def _largest_eigenvalue(coupling: Float[np.ndarray, "agents agents"], system: System) -> float:
    """lambda_max(coupling[o, o'] * K / sqrt(n n')), in the precision of K."""
    matrix, task = system.matrix.training, system.task
    # A row for each output where these couple, otherwise one a point.
    owner = np.repeat(task.owner, len(matrix) // task.train)
    root = 1 / np.sqrt(task.counts)
    whole = (coupling * root * root[:, None]).astype(matrix.dtype)[np.ix_(owner, owner)]
    whole *= matrix
    return largest_eigenvalue(whole)


class Family:
    """A system's rounds at every step size, with the squared error."""

    def __init__(self, system: System) -> None:
        self._system = system

    def at(self, step_size: float) -> Realization:
        """The minimal realization at this step size."""
        map = dataclasses.replace(self._map, loops=loops_of(self._system, step_size))
        return Realization(map, self._rows)

    def growth(self, step_size: float) -> float:
        """The factor by which errors grow in a round, in the long run."""
        whole = self.at(step_size)
        return spectral_radius(whole) ** (1 / whole.period)

    def margin(self, step_size: float) -> float:
        """How far the outermost eigenvalue is outside the unit circle, negative inside.

        Those next to one count only where they are outside: slow modes are always there.
        """
        values = outer_eigenvalues(self.at(step_size))
        beyond = np.abs(values) - 1 - GROWS
        told = (np.abs(values - 1) > SLOW) | (beyond > 0)
        return float(beyond[told].max(initial=-SLOW))

    @property
    def dense(self) -> bool:
        """Whether all eigenvalues are computed."""
        return wholly(self.at(1.0))

    @functools.cached_property
    def _map(self) -> Affine:
        return affine_rounds(one_output(self._system, 1.0))

    @functools.cached_property
    def _rows(self) -> Float[np.ndarray, "coordinates features"]:
        small = len(self._map.kernel) <= thresholds.EIGENVALUES_UP_TO
        return Features(self._map.kernel).rows if small else triangular(self._map.kernel)


def _crossing(system: System, progress: Progress | None) -> Limit:
    """Where an eigenvalue first leaves the unit disc as the step size grows; 0: from the start."""
    family, looked = Family(system), 0

    def margin(step_size: float) -> float:
        nonlocal looked
        looked += 1
        if progress:
            progress(min(looked, LOOKS - 1), LOOKS)
        return family.margin(step_size)

    first = 1 / _largest_eigenvalue(np.eye(system.weights.agents), system)
    # Far below where a single agent stops being stable, so that the bracket begins inside.
    lower = first / 16
    while margin(lower) > 0:
        lower /= 16
        if lower < NO_STEP * first:
            return Limit(0.0, "eigenvalues" if family.dense else "iteration")
    upper = 2 * lower
    while margin(upper) <= 0:
        lower, upper = upper, 2 * upper
    precisely = EXACTLY if family.dense else BY_ITERATION
    found = scipy.optimize.brentq(margin, lower, upper, rtol=precisely, xtol=precisely * lower)
    if progress:
        progress(LOOKS, LOOKS)
    value = found / system.task.loss.curvature
    return Limit(value, "eigenvalues" if family.dense else "iteration")


LOOKS = 20
"""About how many step sizes are looked at to find a limit without a closed form."""


def one_output(system: System, step_size: float) -> Iteration:
    """The method with the squared error, on one output where outputs do not couple."""
    task, weights = system.task, system.weights
    block = system.matrix.whole[: task.train]
    initial = jnp.zeros((task.train, 1 if block.ndim == 2 else block.shape[1]))
    return Iteration(
        space=KernelSpace(jnp.asarray(block), initial, task.agents, {}),
        method=system.method.with_step_size(jnp.asarray(step_size)),
        weights=_operator(weights),
        batches=full(task.owner, task.agents),
        targets=initial,
        loss=losses.mse,
    )
