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

With anchors, each segment is linearized at the mean of the agents where the segment before it, once
corrected, has ended, and has sweeps of its own, the log above that of 1 + t - its first round.
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
from ntkdyn.vectors import Point, Vector

NOTHING = 1e-13
"""A defect up to here is rounding: nothing is left to correct."""

BESIDE = 3
"""How often the columns that are defects are held: layer by layer, summed, and in an iteration."""

Linear = Linearization | Implicit
Gradients = PyTree[Float[Array, "gradients agents ..."]]


class Corrections(NamedTuple):
    """How a prediction is corrected.

    Example:
        >>> once = nd.dynamics.Corrections(sweeps=1)
        >>> nd.predict(prob, dgd, W, 4, corrections=once).sizes["sweep"]
        2
    """

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
    """Where the defect is sampled: rounds of some periods, from the first of a segment on."""

    begun: int
    periods: list[int]
    """which are sampled, ascending from 0 on"""
    length: int
    """rounds in a period"""
    all: bool
    """whether no period lies between them"""

    @staticmethod
    def of(plan: Plan, period: int, samples: int | None, begun: int, stop: int) -> Rounds:
        """Of all periods that these rounds take part in, so many."""
        last = stop - begun
        if samples is None or not plan.system.whole or plan.method.objective.drawn:
            return Rounds(begun, [*range(last)], 1, True)
        length = max(1, min(period, last))
        count = math.ceil(last / length)
        periods = spaced(count - 1, min(samples, count))
        return Rounds(begun, periods, length, len(periods) == count)

    @property
    def sampled(self) -> list[int]:
        places = range(self.length)
        return [self.begun + each * self.length + k for each in self.periods for k in places]

    @property
    def shares(self) -> Float[np.ndarray, " sampled"]:
        """How many rounds each of the sampled stands for: itself and half-way to its neighbours."""
        steps = np.diff(self.sampled)
        return (np.append(steps, 1) + np.append(1, steps)) / 2


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
    begun: Int[Array, ""]
    """the first round"""
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
        spline = jax.tree.map(jnp.asarray, spline)
        return Defects(values, jnp.array(rounds.begun), rounds.length, gradients, spline)

    def at(self, round: Int[Array, ""] | int) -> list[Vector]:
        """One for each gradient of that round."""
        period, place = jnp.divmod(round - self.begun, self.length)
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


class Segment(NamedTuple):
    """Rounds that share a linearization, and the state that they begin with."""

    begun: int
    stop: int
    linear: Linear
    iteration: Iteration
    tangent: Iteration
    """whose gradients are the linear ones"""
    state: State
    rounds: Rounds


class Path(NamedTuple):
    """A prediction: the iteration that runs it, and the defects r that are sampled along it."""

    linear: Linear
    iteration: Iteration
    state: State
    """in the first round"""
    defects: Gradients | None
    """None: there are no rounds"""
    left: float
    """how wrong the gradients are that it has followed"""


class Corrected:
    """A prediction by sweeps, segment by segment; `record` runs it."""

    def __init__(
        self,
        problem: Problem,
        plan: Plan,
        corrections: Corrections,
        anchors: list[int],
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
        self._progress, self._done, self._implicit = progress, (0, 1), implicit
        self._anchors = anchors
        kind, view = Implicit if implicit else Linearization, plan.method.view
        self._linear = kind.of(problem, view)
        tangent = self._linear.tangent
        real = DisplacedSpace(tangent.apply, tangent.origin, tangent.inputs, tangent.agents)
        space = tangent if implicit else problem.kernel_space(view=view)
        check(plan, space)
        self._iteration, self._real = (iteration_of(plan, each) for each in (space, real))
        self._kept = sample(plan.save, problem.origin, plan.task.agents)
        self._gradients = self._counted()
        self._scale, self._blocks = 1.0, None
        self._check_room()

    def record(self) -> Record:
        """What real networks show along the last paths that were accepted."""
        seen, told, sampled = [], [], []
        ends = [*self._anchors[1:], self._plan.rounds[-1]]
        linear, state = self._linear, None
        for number, stop in enumerate(ends):
            segment = self._segment(number, stop, linear, state)
            path, left, kept = self._swept(segment)
            told.append((left, kept))
            sampled += segment.rounds.sampled
            state = self._look(segment, path, seen, final=number == len(ends) - 1)
            if number < len(ends) - 1:
                linear, state = path.linear.onward(self._plan.method.name, state)
                self._blocks = segment = path = None  # the kernel goes before the next one comes
                self._problem.forget()
        plan = self._plan
        record = recorded(plan, self._real, seen, self._kept, self._problem.parameters_each)
        if plan.save.trust:
            gaps = np.stack([each["trust_gap"] for each in seen])
            record["trust_gap"] = (("round", "agent"), gaps)
        return described(self._noted(record.assign_coords(sampled_round=sampled), told))

    def _noted(self, record: Record, told: list[tuple[list[float], int]]) -> Record:
        """With what the sweeps have left, segment by segment if there are anchors."""
        lefts, kept = zip(*told, strict=True)
        longest = max(map(len, lefts))
        table = np.array([[*left, *[np.nan] * (longest - len(left))] for left in lefts])
        record = record.assign_coords(sweep=range(longest))
        record = record.assign_attrs(corrections=min(kept), corrections_asked=self._asked.sweeps)
        if len(told) == 1:
            return record.assign(defect=("sweep", table[0]))
        record = record.assign_coords(anchor=self._anchors)
        record = record.assign_attrs(kernels_computed=0 if self._implicit else len(told))
        return record.assign(
            defect=(("anchor", "sweep"), table), sweeps_kept=("anchor", list(kept))
        )

    def _segment(self, number: int, stop: int, linear: Linear, state: State | None) -> Segment:
        """That from the anchor of this number on."""
        begun, iteration = self._anchors[number], self._iteration
        self._done = begun, stop - begun
        if state is not None:
            iteration = iteration_of(self._plan, self._space(linear))
        samples, period = self._asked.samples, iteration.period
        rounds = Rounds.of(self._plan, period, samples, begun, stop)
        tangent = iteration_of(self._plan, linear.tangent)
        state = iteration.init() if state is None else state
        return Segment(begun, stop, linear, iteration, tangent, state, rounds)

    def _swept(self, segment: Segment) -> tuple[Path, list[float], int]:
        """The last path that was accepted, how wrong each has been, and how many were kept."""
        path = self._followed(segment, segment.linear, segment.iteration, segment.state, None, 0)
        left, kept = [path.left], 0
        for sweep in range(1, self._asked.sweeps + 1):
            if path.left <= NOTHING:
                break
            onward = self._corrected(segment, path, sweep)
            left.append(onward.left)
            if not onward.left < path.left:
                self._warn(segment, left)
                break
            path, kept = onward, sweep
        return path, left, kept

    def _corrected(self, segment: Segment, path: Path, sweep: int) -> Path:
        """One sweep on."""
        name = self._plan.method.name
        linear, values, state = segment.linear.forced(path.defects, name, segment.state)
        forcing = Defects.of(values, segment.rounds, self._gradients)
        iteration = dataclasses.replace(
            iteration_of(self._plan, self._space(linear)), forcing=forcing
        )
        return self._followed(segment, linear, iteration, state, path.defects, sweep)

    def _space(self, linear: Linear) -> Space:
        """With the linearization's directions; the kernel beside them is computed once."""
        if isinstance(linear, Implicit):
            return linear.space()
        if self._blocks is None:
            self._blocks = linear.blocks()
        return linear.space(self._blocks)

    def _followed(
        self,
        segment: Segment,
        linear: Linear,
        iteration: Iteration,
        begun: State,
        before: Gradients | None,
        sweep: int,
    ) -> Path:
        """Along the iteration's path; `before` are the defects that force it."""
        rounds = segment.rounds
        if not rounds.sampled:
            return Path(linear, iteration, begun, None, 0.0)
        at, found, squares = (segment.begun, _copied(begun)), [], []
        for round in rounds.sampled:
            state = self._rolled(iteration, [round], lambda *_: None, at, sweep)
            now = jnp.array(round)
            points = [linear.lift(point) for point in _looked_at(iteration, state, now)]
            there = linear.lifted(self._plan.method.name, state)
            real, defects = _defects(self._real, segment.tangent, points, there, now)
            found.append(defects)
            squares.append(float(_square(real)))
            at = round, state
        values = wrong = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *found)
        if before is None:
            self._scale = math.sqrt(rounds.shares @ squares) or 1.0
        else:
            wrong = jax.tree.map(jnp.subtract, values, before)
        each = np.asarray(_square(wrong, 1)).reshape(-1, self._gradients).sum(axis=1)
        left = math.sqrt(rounds.shares @ each) / self._scale
        return Path(linear, iteration, begun, values, left)

    def _look(
        self, segment: Segment, path: Path, seen: list[dict[str, Any]], *, final: bool
    ) -> State:
        """Sees the recorded rounds, as the real networks there are; the state at the end."""
        plan, problem, stop = self._plan, self._problem, segment.stop
        start, own = _stacked((self._real.space.origin,)), own_kernels(problem)
        kernels = lambda moved: own(Point(jax.tree.map(jnp.add, start, moved.tree)))
        look = looking(plan, self._real, self._kept, None, kernels)
        upto = stop if final else stop - 1
        rounds = [round for round in plan.rounds if segment.begun <= round <= upto]

        def see(round: int, x: Point) -> None:
            if round not in rounds:
                return
            moved = path.linear.lift(x)
            snapshot, more = look(round, moved)
            if plan.save.trust:
                outputs = take_snapshot(path.iteration, x).outputs
                more["trust_gap"] = stretched(path.linear, problem.initial, outputs, x)[1]
            seen.append(snapshot._asdict() | more)

        at, last = (segment.begun, _copied(path.state)), self._asked.sweeps + 1
        return self._rolled(path.iteration, sorted({*rounds, stop}), see, at, last)

    def _rolled(
        self,
        iteration: Iteration,
        rounds: list[int],
        see: Callable[[int, Point], None],
        start: tuple[int, State],
        sweep: int,
    ) -> State:
        """`rollout`, whose progress is a part of that through all sweeps and the record."""
        last, passes, (begun, length) = self._plan.rounds[-1], self._asked.sweeps + 2, self._done

        def told(now: int, _: int) -> None:
            within = min(now - begun, length) + sweep * length
            self._progress(passes * begun + within, passes * last)

        return rollout(iteration, rounds, see, self._progress and told, start=start)

    def _counted(self) -> int:
        """How many gradients the method takes in a round."""
        try:
            return len(_looked_at(self._iteration, self._iteration.init(), jnp.array(0)))
        except jax.errors.UnexpectedTracerError:
            raise InputError(
                f"corrections: {self._plan.method.name} takes its gradients inside a loop of "
                f"JAX's, where they cannot be told apart; write the loop in Python"
            ) from None

    def _check_room(self) -> None:
        """Refuse defects that do not fit: of two sweeps, and as further columns of a kernel."""
        plan, period = self._plan, self._iteration.period
        task, (_, outputs) = plan.task, self._real.targets.shape
        ends = zip(self._anchors, [*self._anchors[1:], plan.rounds[-1]], strict=True)
        samples = self._asked.samples
        most = max(len(Rounds.of(plan, period, samples, *each).sampled) for each in ends)
        vectors = most * self._gradients * task.agents
        rows = len(task.targets) * outputs * plan.method.heads + vectors
        rows = 0 if self._implicit else rows
        sizes.check_room(
            f"corrections: the defects of {most} rounds",
            8 * vectors * (3 * self._problem.parameters_each + BESIDE * rows),
            "take fewer samples, or fewer rounds where all are sampled",
        )

    def _warn(self, segment: Segment, left: list[float]) -> None:
        where = f" of the segment from round {segment.begun} on" if segment.begun else ""
        warnings.warn(
            f"corrections: sweep {len(left) - 1}{where} does not bring the prediction nearer to "
            f"training: "
            f"its gradients are wrong by {left[-1]:.2g}, after {left[-2]:.2g}; "
            f"{len(left) - 2} of {self._asked.sweeps} sweeps are kept",
            stacklevel=4,
        )


@eqx.filter_jit
def _looked_at(iteration: Iteration, state: State, round: Int[Array, ""]) -> list[Point]:
    """The points at which the step of that round takes its gradients."""
    points, grad = [], iteration.local(round, state)

    def noting(x: Point) -> Vector:
        points.append(x)
        return grad(x)

    iteration.method.at(round).update.step(state, noting, iteration.mix(round))
    return points


@eqx.filter_jit
def _defects(
    real: Iteration, tangent: Iteration, points: list[Point], state: State, round: Int[Array, ""]
) -> tuple[Gradients, Gradients]:
    """The real gradients, and how much more they are than the linear ones."""
    seen = [iteration.gradient(round) for iteration in (real, tangent)]
    pairs = [[grad(point, state, round).tree for grad in seen] for point in points]
    true, linear = (_stacked(own) for own in zip(*pairs, strict=True))
    return true, jax.tree.map(jnp.subtract, true, linear)


def _copied(state: State) -> State:
    """For `rollout`, which overwrites what it begins with."""
    return jax.tree.map(jnp.copy, state)


def _stacked(trees: tuple[PyTree, ...]) -> PyTree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _square(gradients: Gradients, kept: int = 0) -> Array:
    """The sum of squares, over all axes but so many of the first."""
    leaves = jax.tree.leaves(gradients)
    return sum(jnp.sum(leaf**2, axis=tuple(range(kept, leaf.ndim))) for leaf in leaves)
