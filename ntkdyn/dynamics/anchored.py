"""Re-anchored prediction: linearized anew along the predicted path, beyond the lazy regime.

From an anchor round t_s on, the networks are linear around the mean of the agents' predicted
parameters there (`linearization`), with every agent and all that the method remembers where they
are. So the kernel moves with the prediction, and nothing is trained: a segment costs one kernel,
and its rounds as in any prediction. How far it has been stretched by its end shows there,

    segment_error = max_i |f(theta_i) - f_lin(theta_i)| / |f_lin(theta_i) - f(theta_0)|

over all points, f_lin the linearization of the segment (as in `trust`): each segment's own, without
what those before it have left. With an anchor in every round the prediction is training, in exact
arithmetic, as far as agents agree: between them the linearization at their mean remains. Agents
with starts of their own have no mean that says anything before they merge: each is linearized where
it is itself (by products, `kernel="implicit"`), and with an anchor in every round that is training.

Anchors that are not given lie where the error that the linearization at the start would have had
passes equal shares of its largest: early, where the kernel moves fast, and ever further apart. With
a tolerance, a segment goes as far as its own error keeps to that.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree

from ntkdyn import arrays
from ntkdyn.dynamics.trust import stretched
from ntkdyn.engine import Iteration, Progress, Propagator, rollout, take_snapshot
from ntkdyn.errors import InputError, check_whole, is_real, shown
from ntkdyn.kernels import empirical
from ntkdyn.linearization import Implicit, Linearization
from ntkdyn.methods.updates import State
from ntkdyn.problems import Problem
from ntkdyn.processes import on_host
from ntkdyn.quantities import described
from ntkdyn.records import Record
from ntkdyn.runs import Plan, check, iteration_of, looking, recorded
from ntkdyn.saving import sample
from ntkdyn.spaces import Space
from ntkdyn.vectors import Point

LADDER = 2
"""By what factor the lengths grow at which a segment's error is looked at before it is chosen."""

NOTHING = 1e-12
"""Errors up to here are rounding: the network is linear, and another anchor would not help."""

SHORTER = 0.7
"""Of a segment that was too long for the tolerance: halves the error, which goes like its square"""

APART = 0.01
"""The tolerance where agents start apart and none is given: what the linearization at the starts
would miss says little of them once they have merged, so that its shares are no guide."""

Seen = dict[str, Any]
"""what a record holds of a round, by name"""
Linear = Linearization | Implicit
PropagatorOf = Callable[[Iteration, tuple[int, State] | None], Propagator | None]
"""(iteration, the round and state to go on from) -> its propagator there, if there is one"""


class Anchoring(NamedTuple):
    """How anchors are chosen.

    Example:
        >>> where = nd.dynamics.Anchoring(kernels=2)
        >>> nd.predict(prob, dgd, W, 4, anchors=where)["anchor"].size <= 2
        True
    """

    kernels: int = 12
    """the most that are computed, that at the start included"""
    tolerance: float | None = None
    """the largest `segment_error`; None: as small as that many kernels allow, or, of agents with
    starts of their own, 0.01"""


def checked(anchors: Any, last: int) -> Anchoring | list[int]:
    """The anchors as ascending rounds from 0 on, or how they are chosen."""
    if isinstance(anchors, str) and anchors == "auto":
        return Anchoring()
    if isinstance(anchors, Anchoring):
        check_whole("anchors: kernels", anchors.kernels, 1)
        tolerance = anchors.tolerance
        if tolerance is not None and not (is_real(tolerance) and 0 < tolerance < 1):
            raise InputError(f"anchors: tolerance must be between 0 and 1, got {shown(tolerance)}")
        return anchors
    given = np.empty(0) if isinstance(anchors, str) else arrays.plain("anchors", anchors)
    if given.ndim != 1 or given.dtype.kind not in "iu" or not given.size:
        raise InputError(
            f'anchors: must be "auto", dynamics.Anchoring(...) or a list of rounds, '
            f"got {shown(anchors)}"
        )
    if given[0] < 0 or (given[1:] <= given[:-1]).any():
        raise InputError(f"anchors: must be ascending and not negative, got {shown(anchors)}")
    if given[-1] > last:
        raise InputError(f"anchors: round {given[-1]} is beyond the last round, {last}")
    return sorted({0, *given.tolist()})


class Segment(NamedTuple):
    """What lies between two anchors: one linearization, and where it begins."""

    begun: int
    state: State
    linear: Linear
    iteration: Iteration
    propagator: Propagator | None

    @property
    def start(self) -> tuple[int, State]:
        """Where it begins, for `rollout`, which overwrites it."""
        return self.begun, jax.tree.map(jnp.copy, self.state)

    def shares(self, kernels: int, last: int, initial: np.ndarray) -> list[int]:
        """Up to so many anchors, by the errors that this segment would have if it went on."""
        rounds, errors, shares = zip(*self._looks(last, math.inf, initial), strict=True)
        finite = [error for error in errors if math.isfinite(error)]
        if not finite or shares[-1] <= NOTHING:
            return [self.begun]
        targets = (k / kernels * max(finite) for k in range(1, kernels))
        crossed = {crossing(self.begun, rounds, errors, target) for target in targets}
        return sorted({self.begun, *crossed} - {last})

    def reach(self, tolerance: float, last: int, initial: np.ndarray) -> int:
        """How far it keeps to the tolerance, by errors ever further away."""
        rounds, _, shares = zip(*self._looks(last, tolerance, initial), strict=True)
        return crossing(self.begun, rounds, shares, tolerance)

    def _looks(
        self, last: int, tolerance: float, initial: np.ndarray
    ) -> Iterator[tuple[int, float, float]]:
        """(round, error, share of the way) ever further away, until the tolerance is passed."""
        lengths = [LADDER**k for k in range((last - self.begun).bit_length())]
        at, found = self.start, []
        look = lambda round, x: found.append((round, *self.off(x, initial)))
        for round in sorted({*(self.begun + each for each in lengths), last}):
            at = round, rollout(self.iteration, [round], look, None, self.propagator, at)
            yield found[-1]
            if not found[-1][2] <= tolerance:
                return

    def off(self, x: Point, initial: np.ndarray) -> tuple[float, float]:
        """How far from the real networks an agent is at most, and as a share of the way."""
        outputs = take_snapshot(self.iteration, x).outputs
        apart, share = stretched(self.linear, initial, outputs, x)
        return float(apart.max()), float(share.max())


def crossing(begun: int, rounds: Sequence[int], errors: Sequence[float], target: float) -> int:
    """Where errors, powers of the length between those that are known, pass the target."""
    passed = [k for k, error in enumerate(errors) if not error <= target]
    if not passed:
        return rounds[-1]
    first = passed[0]
    if first == 0:
        return begun + 1
    (short, less), (long, more) = ((rounds[k] - begun, errors[k]) for k in (first - 1, first))
    if not (less > 0 and math.isfinite(more)):
        return begun + short
    share = math.log(target / less) / math.log(more / less)
    return begun + int(short * (long / short) ** share)


class Beside:
    """One of several runs that share anchors, from segment to segment."""

    def __init__(self, problem: Problem, plan: Plan, propagator_of: PropagatorOf) -> None:
        self._problem, self._plan, self._propagator_of = problem, plan, propagator_of
        self.linear = Linearization.of(problem, plan.method.view, precisely=False)
        self._state: State | None = None
        self.seen: list[np.ndarray] = []

    def space(self, begun: int, first: Linearization, known: dict[Any, Any]) -> Space:
        """That of the segment: at the start, at its own mean if it is the first, or where that is.

        `known` is the anchor's kernel, by what is seen of it: the number of points that gradients
        come from, and whether layers are told apart.
        """
        method, layers = self._plan.method, self.linear.view == "layers"
        if not begun:
            return self._problem.kernel_space(view=method.view)
        at = None if first is self.linear else first
        self.linear, self._state = self.linear.onward(method.name, self._state, at)
        seen = self.linear.columns, layers
        if seen not in known:
            known[seen] = self.linear.blocks() if layers else self.linear.whole()
        return self.linear.space(known[seen])

    def through(self, rounds: Sequence[int], stop: int, space: Space, begun: int) -> None:
        """Looks at the outputs in these rounds of the segment, and goes on to its end."""
        iteration = iteration_of(self._plan, space)
        start = None if self._state is None else (begun, self._state)
        propagator = self._propagator_of(iteration, start)

        def see(round: int, x: Point) -> None:
            if round in rounds:
                self.seen.append(on_host(take_snapshot(iteration, x).outputs))

        copied = start and (begun, jax.tree.map(jnp.copy, self._state))
        self._state = rollout(iteration, sorted({*rounds, stop}), see, None, propagator, copied)


def beside(
    problem: Problem,
    plans: Sequence[Plan],
    anchors: Sequence[int],
    propagators_of: Sequence[PropagatorOf],
    progress: Progress | None = None,
) -> list[Float[np.ndarray, "rounds agents points outputs"]]:
    """Outputs of all plans in their rounds, linearized where the mean of the first one's agents is.

    They record the same rounds, look at outputs alone, and share each anchor's kernel where their
    gradients come from the same points.
    """
    runs = [Beside(problem, *each) for each in zip(plans, propagators_of, strict=True)]
    first, last = runs[0], plans[0].rounds[-1]
    for begun, stop in zip(anchors, [*anchors[1:], None], strict=True):
        end = last if stop is None else stop
        rounds = [r for r in plans[0].rounds if begun <= r and (stop is None or r < stop)]
        known = {}
        for each in runs:
            each.through(rounds, end, each.space(begun, first.linear, known), begun)
        if stop is not None:
            problem.forget()
        if progress:
            progress(end, last)
    return [np.stack(each.seen) for each in runs]


class Anchored:
    """A prediction by segments; `record` runs it."""

    def __init__(
        self,
        problem: Problem,
        plan: Plan,
        anchors: list[int] | Anchoring,
        propagator_of: PropagatorOf,
        progress: Progress | None,
        *,
        implicit: bool = False,
        precisely: bool = False,
    ) -> None:
        self._problem, self._plan, self._anchors = problem, plan, anchors
        self._precisely = precisely
        self._propagator_of, self._progress, self._implicit = propagator_of, progress, implicit
        apart = not problem.common_start
        chosen = isinstance(anchors, Anchoring)
        self._promised = anchors.tolerance if chosen else None
        if apart and chosen and anchors.tolerance is None:
            self._anchors = anchors._replace(tolerance=APART)
        self._kept = sample(plan.save, problem.origin, plan.task.agents, apart=apart)
        self._last = plan.rounds[-1]
        self._seen: list[Seen] = []
        self._told: list[tuple[int, float]] = []
        self._reference: np.ndarray | None = None

    def record(self) -> Record:
        """The prediction, with what is known of every segment."""
        segment = self._first()
        check(self._plan, segment.iteration.space)
        while True:
            stop, state, error = self._run(segment)
            self._told.append((segment.begun, error))
            if self._done(stop):
                break
            linear, state = segment.linear.onward(self._plan.method.name, state)
            segment = None  # its kernel goes before the next one comes
            self._problem.forget()
            segment = self._segment(stop, state, linear)
        plan, problem = self._plan, self._problem
        each, initial = problem.parameters_each, problem.initial
        record = recorded(plan, segment.iteration, self._seen, self._kept, each, initial)
        if plan.save.trust:
            gaps = np.stack([each["trust_gap"] for each in self._seen])
            record["trust_gap"] = (("round", "agent"), gaps)
        return described(self._noted(record))

    def _first(self) -> Segment:
        """At the start, with the kernel that the problem has."""
        if self._problem.origin is None:
            raise InputError(
                "anchors: agents of different architectures have no mean to linearize anew at; "
                "leave `anchors` out"
            )
        view = self._plan.method.view
        linear, space = self._linearized(view)
        iteration = iteration_of(self._plan, space)
        return Segment(0, iteration.init(), linear, iteration, self._propagator_of(iteration, None))

    def _linearized(self, view: str) -> tuple[Linear, Space]:
        if self._implicit:
            linear = Implicit.of(self._problem, view)
            return linear, linear.space()
        linear = Linearization.of(self._problem, view, precisely=self._precisely)
        return linear, self._problem.kernel_space(view=view)

    def _segment(self, begun: int, state: State, linear: Linear) -> Segment:
        iteration = iteration_of(self._plan, linear.space())
        return Segment(
            begun, state, linear, iteration, self._propagator_of(iteration, (begun, state))
        )

    def _done(self, stop: int) -> bool:
        """Whether the segment that ends there is the last."""
        if isinstance(self._anchors, Anchoring):
            return stop == self._last
        return len(self._told) == len(self._anchors)

    def _run(self, segment: Segment) -> tuple[int, State, float]:
        """Through the segment; its end, the state there, and how far it is off."""
        how, number, initial = self._anchors, len(self._told) + 1, self._problem.initial
        if isinstance(how, Anchoring) and how.tolerance is None:
            how = self._anchors = segment.shares(how.kernels, self._last, initial)
        if isinstance(how, Anchoring):
            return self._within(how, number, segment)
        stop = [*how[1:], self._last][number - 1]
        return stop, *self._through(segment, stop, final=number == len(how))

    def _within(self, how: Anchoring, number: int, segment: Segment) -> tuple[int, State, float]:
        """Through as many rounds as keep to the tolerance; through all that are left, by the last.

        At least one, and shortened where it has turned out to be too long.
        """
        tolerance, freely = how.tolerance, number >= how.kernels
        initial = self._problem.initial
        stop = self._last if freely else segment.reach(tolerance, self._last, initial)
        while True:
            before, length = len(self._seen), stop - segment.begun
            state, error = self._through(segment, stop, final=stop == self._last)
            if error <= tolerance or length == 1 or freely:
                return stop, state, error
            del self._seen[before:]
            stop = segment.begun + max(1, int(SHORTER * length))

    def _through(self, segment: Segment, stop: int, *, final: bool) -> tuple[State, float]:
        """The state at its end and how far it is off there; measures the recorded rounds."""
        look, error = self._looking(segment), 0.0
        rounds = [
            round
            for round in self._plan.rounds
            if segment.begun <= round < stop or (final and round == stop)
        ]

        def see(round: int, x: Point) -> None:
            nonlocal error
            if round in rounds:
                self._seen.append(look(round, x))
            if round == stop:
                error = segment.off(x, self._problem.initial)[1]

        told = self._progress and (lambda done, _: self._progress(done, self._last))
        visited = sorted({*rounds, stop})
        state = rollout(segment.iteration, visited, see, told, segment.propagator, segment.start)
        return state, error

    def _looking(self, segment: Segment) -> Callable[[int, Point], Seen]:
        """(round, iterate) -> what the record holds of it."""
        plan, linear, kernels = self._plan, segment.linear, None
        if plan.save.kernel:
            kernel = self._kernel(linear.tangent.at)
            self._reference = kernel if self._reference is None else self._reference
            kernels = lambda x: [kernel] * plan.task.agents
        iteration = segment.iteration
        look = looking(plan, iteration, self._kept, linear.lift, kernels, self._reference)

        def look_on(round: int, x: Point) -> Seen:
            snapshot, more = look(round, x)
            if plan.save.trust:
                initial = self._problem.initial
                more["trust_gap"] = stretched(linear, initial, snapshot.outputs, x)[1]
            return snapshot._asdict() | more

        return look_on

    def _kernel(self, params: PyTree) -> np.ndarray:
        """Between the training points, summed over outputs."""
        points = jnp.asarray(self._problem.inputs[: self._plan.task.train], float)
        return np.asarray(empirical.trace(self._problem.network.apply, params, points))

    def _noted(self, record: Record) -> Record:
        """The record with its segments; warns where one is further off than it may be."""
        anchors, errors = (list(each) for each in zip(*self._told, strict=True))
        record = record.assign(segment_error=("anchor", errors)).assign_coords(anchor=anchors)
        record = record.assign_attrs(kernels_computed=0 if self._implicit else len(anchors))
        if (tolerance := self._promised) is None:
            return record
        above = [place for place, error in enumerate(errors) if not error <= tolerance]
        if not above:
            return record
        first, ends = above[0], [*anchors[1:], self._last]
        warnings.warn(
            f"anchors: segment {first + 1}, rounds {anchors[first]} to {ends[first]}, is off by "
            f"{errors[first]:.2g}, above the tolerance of {tolerance:g}, with at most "
            f"{self._anchors.kernels} kernels; the prediction is within it up to round "
            f"{anchors[first]}",
            stacklevel=4,
        )
        return record.assign_attrs(within_tolerance_until=anchors[first])
