"""Corrected prediction: the linear method, driven by what real gradients add to its own.

Along a predicted path theta_0 + delta^k(t) the defect of the linearization is known without
training: at every point y at which the method takes a gradient in its round t,

    r^k(t) = g(theta_0 + y) - g_lin(y),

the real local gradient minus the linear one. A sweep runs the same method in the same linear space,
with r^k(t) added to the gradients of round t; what comes is delta^(k+1). For DGD

    delta^(k+1)(t+1) = W delta^(k+1)(t) - eta (g_lin(delta^(k+1)(t)) + r^k(t)).

Whatever stays as it is from sweep to sweep is training, and the first k rounds do so after k
sweeps. The defect is smooth in log(1 + t), so that a few rounds of it stand for all, with a cubic
spline between them: a sweep costs as many gradients of every agent, however many rounds there are.
Where rounds differ within a period (exchanges in some only, a cycle of graphs), each round of the
period has a spline of its own; where batches or public points are drawn anew, all are sampled.

The gradient that delta^k has followed is wrong by r^k - r^(k-1), with r^(-1) = 0. So

    defect_k = |r^k - r^(k-1)| / |g(theta_0 + delta^0)|,

norms over agents, parameters and rounds (a sampled one standing for those half-way to the next),
says how far it is from training, and sweeps go on while it shrinks.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree
from scipy.interpolate import CubicSpline

from ntkdyn import sizes
from ntkdyn.dynamics.trust import stretched
from ntkdyn.engine import Iteration, Progress, rollout, take_snapshot
from ntkdyn.errors import InputError, check_whole, is_whole
from ntkdyn.linearization import Implicit, Linearization
from ntkdyn.methods.updates import State
from ntkdyn.precision import EXACT
from ntkdyn.problems import Problem
from ntkdyn.quantities import described
from ntkdyn.records import Record
from ntkdyn.runs import Plan, check, iteration_of, looking, own_kernels, recorded
from ntkdyn.saving import sample
from ntkdyn.spaces import DisplacedSpace, Space
from ntkdyn.vectors import Vector

NOTHING = 1e-13
"""A defect up to here is rounding: nothing is left to correct."""

BESIDE = 3
"""How often the columns that are defects are held: layer by layer, summed, and in an iteration."""

Linear = Linearization | Implicit
Gradients = PyTree[Float[Array, "gradients agents ..."]]


class Corrections(NamedTuple):
    """How a prediction is corrected."""

    sweeps: int = 2
    samples: int | None = 12
    """in how many rounds the defect is evaluated, of each in a period; None: in all"""


def checked(corrections: Any) -> Corrections:
    """What was asked for, with whole numbers in it."""
    asked = Corrections(corrections) if is_whole(corrections) else corrections
    if not isinstance(asked, Corrections):
        asked = Corrections(check_whole("corrections:", asked, 0))
    check_whole("corrections:", asked.sweeps, 0)
    if asked.samples is not None:
        check_whole("corrections: samples", asked.samples, 2)
    return asked


class Rounds(NamedTuple):
    """Where the defect is sampled: rounds of some periods, from first to last."""

    periods: list[int]
    """which are sampled, ascending from 0 on"""
    length: int
    """rounds in a period"""
    all: bool
    """whether no period lies between them"""

    @staticmethod
    def of(plan: Plan, period: int, samples: int | None) -> Rounds:
        """Of all periods that the plan's rounds take part in, so many."""
        last = plan.rounds[-1]
        if samples is None or plan.batch_size is not None or plan.method.objective.drawn:
            return Rounds([*range(last)], 1, True)
        length = max(1, min(period, last))
        count = math.ceil(last / length)
        periods = spaced(count - 1, min(samples, count))
        return Rounds(periods, length, len(periods) == count)

    @property
    def sampled(self) -> list[int]:
        return [first * self.length + k for first in self.periods for k in range(self.length)]

    @property
    def shares(self) -> Float[np.ndarray, " sampled"]:
        """How many rounds each of the sampled stands for: those half-way to its neighbours."""
        steps = np.diff(self.sampled)
        return (np.append(steps, 0) + np.append(0, steps)) / 2


def spaced(last: int, count: int) -> list[int]:
    """So many whole numbers from 0 to `last`, each 1 + t a factor from the one before."""
    found = [0]
    for left in range(count - 1, 0, -1):
        factor = ((1 + last) / (1 + found[-1])) ** (1 / left)
        found.append(max(found[-1] + 1, round((1 + found[-1]) * factor) - 1))
    return found[:count]


class Defects(eqx.Module):
    """What is added to every gradient of every round: defects where sampled, splines between."""

    values: PyTree[Float[Array, "periods length gradients ..."]]
    length: int = eqx.field(static=True)
    gradients: int = eqx.field(static=True)
    """that the method takes in a round"""
    spline: tuple[Array, Array] | None = None
    """knots, and the cubics (4, pieces, periods) that are one at one knot; None: all are sampled"""

    @staticmethod
    def of(values: PyTree, rounds: Rounds, gradients: int) -> Defects:
        """From those of the sampled rounds, (rounds x gradients, agents, ...)."""
        shape = len(rounds.periods), rounds.length, gradients
        values = jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), values)
        knots = np.log1p(rounds.periods)
        spline = None if rounds.all else (knots, CubicSpline(knots, np.eye(len(knots))).c)
        return Defects(values, rounds.length, gradients, jax.tree.map(jnp.asarray, spline))

    def at(self, round: Int[Array, ""] | int) -> list[Vector]:
        """One for each gradient of that round."""
        period, place = round // self.length, round % self.length
        own = jax.tree.map(lambda leaf: leaf[:, place], self.values)
        if self.spline is None:
            now = jax.tree.map(lambda leaf: leaf[period], own)
        else:
            weights = self._weights(period)
            along = lambda leaf: jnp.tensordot(weights, leaf, 1, precision=EXACT)
            now = jax.tree.map(along, own)
        return [Vector(jax.tree.map(lambda leaf: leaf[k], now)) for k in range(self.gradients)]  # noqa: B023

    def _weights(self, period: Int[Array, ""] | int) -> Float[Array, " periods"]:
        """What each sampled period counts in that one."""
        (knots, cubics), t = self.spline, jnp.log1p(jnp.asarray(period, float))
        piece = jnp.clip(jnp.searchsorted(knots, t, side="right") - 1, 0, len(knots) - 2)
        own, beyond = cubics[:, piece], t - knots[piece]
        return functools.reduce(lambda sum, row: sum * beyond + row, own)


class Path(NamedTuple):
    """A prediction: the iteration that runs it, and the defects r that are sampled along it."""

    linear: Linear
    iteration: Iteration
    defects: Gradients | None
    """None: there are no rounds"""
    left: float
    """how wrong the gradients are that it has followed"""


class Corrected:
    """A prediction by sweeps; `record` runs it."""

    def __init__(
        self,
        problem: Problem,
        plan: Plan,
        corrections: Corrections,
        progress: Progress | None,
        *,
        implicit: bool = False,
    ) -> None:
        if problem.origin is None:
            raise InputError(
                "corrections: agents of different architectures have no gradients in common to "
                "sample; leave `corrections` out"
            )
        self._problem, self._plan, self._asked = problem, plan, corrections
        self._progress, self._sweep = progress, 0
        kind, view = Implicit if implicit else Linearization, plan.method.view
        self._linear = kind.of(problem, view)
        tangent = self._linear.tangent
        real = DisplacedSpace(tangent.apply, tangent.origin, tangent.inputs, tangent.agents)
        space = tangent if implicit else problem.kernel_space(view=view)
        check(plan, space)
        self._iteration, self._tangent, self._real = (
            iteration_of(plan, each) for each in (space, tangent, real)
        )
        self._kept = sample(plan.save, problem.origin, plan.task.agents)
        self._rounds = Rounds.of(plan, self._iteration.period, corrections.samples)
        self._gradients = self._counted()
        self._scale, self._blocks = 1.0, None
        self._check_room(implicit=implicit)

    def record(self) -> Record:
        """What real networks show along the last path that was accepted."""
        path = self._followed(self._linear, self._iteration, None)
        left, kept = [path.left], 0
        while self._sweep < self._asked.sweeps and not path.left <= NOTHING:
            self._sweep += 1
            onward = self._corrected(path)
            left.append(onward.left)
            if not onward.left < path.left:
                self._warn(left)
                break
            path, kept = onward, self._sweep
        self._sweep = self._asked.sweeps + 1
        record = self._seen(path).assign(defect=("sweep", left))
        places = {"sweep": range(len(left)), "sampled_round": self._rounds.sampled}
        told = {"corrections": kept, "corrections_asked": self._asked.sweeps}
        return described(record.assign_coords(places).assign_attrs(told))

    def _corrected(self, path: Path) -> Path:
        """One sweep on."""
        linear, values = path.linear.forced(path.defects)
        forcing = Defects.of(values, self._rounds, self._gradients)
        iteration = dataclasses.replace(
            iteration_of(self._plan, self._space(linear)), forcing=forcing
        )
        return self._followed(linear, iteration, path.defects)

    def _space(self, linear: Linear) -> Space:
        """With the linearization's directions; the kernel beside them is computed once."""
        if isinstance(linear, Implicit):
            return linear.space()
        if self._blocks is None:
            self._blocks = linear.blocks()
        return linear.space(self._blocks)

    def _followed(self, linear: Linear, iteration: Iteration, before: Gradients | None) -> Path:
        """Along the iteration's path; `before` are the defects that force it."""
        if not self._rounds.sampled:
            return Path(linear, iteration, None, 0.0)
        at, found, squares = (0, iteration.init()), [], []
        for round in self._rounds.sampled:
            state = self._rolled(iteration, [round], lambda *_: None, at)
            now = jnp.array(round)
            points = [linear.lift(point) for point in _looked_at(iteration, state, now)]
            there = linear.lifted(self._plan.method.name, state)
            real, defects = _defects(self._real, self._tangent, points, there, now)
            found.append(defects)
            squares.append(float(_square(real)))
            at = round, state
        values = wrong = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *found)
        if before is None:
            self._scale = math.sqrt(self._rounds.shares @ squares) or 1.0
        else:
            wrong = jax.tree.map(jnp.subtract, values, before)
        each = np.asarray(_square(wrong, 1)).reshape(-1, self._gradients).sum(axis=1)
        return Path(linear, iteration, values, math.sqrt(self._rounds.shares @ each) / self._scale)

    def _seen(self, path: Path) -> Record:
        """The recorded rounds, as the real networks at the predicted parameters are."""
        plan, problem, seen = self._plan, self._problem, []
        start, own = _stacked((self._real.space.origin,)), own_kernels(problem)
        kernels = lambda moved: own(Vector(jax.tree.map(jnp.add, start, moved.tree)))
        look = looking(plan, self._real, self._kept, None, kernels)

        def see(round: int, x: Vector) -> None:
            moved = path.linear.lift(x)
            snapshot, more = look(round, moved)
            if plan.save.trust:
                outputs = take_snapshot(path.iteration, x).outputs
                more["trust_gap"] = stretched(path.linear, problem.initial, outputs, x)[1]
            seen.append(snapshot._asdict() | more)

        self._rolled(path.iteration, plan.rounds, see)
        record = recorded(plan, self._real, seen, self._kept, problem.parameters_each)
        if plan.save.trust:
            gaps = np.stack([each["trust_gap"] for each in seen])
            record["trust_gap"] = (("round", "agent"), gaps)
        return record

    def _rolled(
        self,
        iteration: Iteration,
        rounds: list[int],
        see: Callable[[int, Vector], None],
        start: tuple[int, State] | None = None,
    ) -> State:
        """`rollout`, whose progress is a part of that through all sweeps and the record."""
        last, passes, done = self._plan.rounds[-1], self._asked.sweeps + 2, self._sweep
        told = self._progress and (
            lambda now, _: self._progress(min(now, last) + done * last, passes * last)
        )
        return rollout(iteration, rounds, see, told, start=start)

    def _counted(self) -> int:
        """How many gradients the method takes in a round."""
        try:
            return len(_looked_at(self._iteration, self._iteration.init(), jnp.array(0)))
        except jax.errors.UnexpectedTracerError:
            raise InputError(
                f"corrections: {self._plan.method.name} takes its gradients inside a loop of "
                f"JAX's, where they cannot be told apart; write the loop in Python"
            ) from None

    def _check_room(self, *, implicit: bool) -> None:
        """Refuse defects that do not fit: of two sweeps, and as further columns of a kernel."""
        task, (_, outputs) = self._plan.task, self._real.targets.shape
        vectors = len(self._rounds.sampled) * self._gradients * task.agents
        rows = 0 if implicit else len(task.targets) * outputs * self._plan.method.heads + vectors
        sizes.check_room(
            f"corrections: the defects of {len(self._rounds.sampled)} rounds",
            8 * vectors * (3 * self._problem.parameters_each + BESIDE * rows),
            "take fewer samples, or fewer rounds where all are sampled",
        )

    def _warn(self, left: list[float]) -> None:
        warnings.warn(
            f"corrections: sweep {len(left) - 1} does not bring the prediction nearer to training: "
            f"its gradients are wrong by {left[-1]:.2g}, after {left[-2]:.2g}; "
            f"{len(left) - 2} of {self._asked.sweeps} sweeps are kept",
            stacklevel=4,
        )


@eqx.filter_jit
def _looked_at(iteration: Iteration, state: State, round: Int[Array, ""]) -> list[Vector]:
    """The points at which the step of that round takes its gradients."""
    points, grad = [], iteration.local(round, state)

    def noting(x: Vector) -> Vector:
        points.append(x)
        return grad(x)

    iteration.method.update.step(state, noting, iteration.mix(round))
    return points


@eqx.filter_jit
def _defects(
    real: Iteration, tangent: Iteration, points: list[Vector], state: State, round: Int[Array, ""]
) -> tuple[Gradients, Gradients]:
    """The real gradients, and how much more they are than the linear ones."""
    seen = [iteration.gradient(round) for iteration in (real, tangent)]
    pairs = [[grad(point, state, round).tree for grad in seen] for point in points]
    true, linear = (_stacked(own) for own in zip(*pairs, strict=True))
    return true, jax.tree.map(jnp.subtract, true, linear)


def _stacked(trees: tuple[PyTree, ...]) -> PyTree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _square(gradients: Gradients, kept: int = 0) -> Array:
    """The sum of squares, over all axes but so many of the first."""
    leaves = jax.tree.leaves(gradients)
    return sum(jnp.sum(leaf**2, axis=tuple(range(kept, leaf.ndim))) for leaf in leaves)
