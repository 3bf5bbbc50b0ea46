"""Prediction: a method run in KernelSpace or TangentSpace, in float64; nothing is trained."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ntkdyn import losses, precision
from ntkdyn.dynamics import corrected
from ntkdyn.dynamics.anchored import Anchored, Anchoring, PropagatorOf, beside, checked
from ntkdyn.dynamics.corrected import Corrected, Corrections
from ntkdyn.dynamics.pieces import Pieces
from ntkdyn.dynamics.propagators import Propagators
from ntkdyn.dynamics.stability import Stability, assess, known_step, repeats, told
from ntkdyn.dynamics.trust import Trust
from ntkdyn.engine import Iteration, Progress, Propagator
from ntkdyn.errors import InputError, is_real, shown
from ntkdyn.linear import Choice, Given, Kernel
from ntkdyn.linearization import Linearization
from ntkdyn.methods.updates import State
from ntkdyn.problems import KernelProblem
from ntkdyn.progress import watched
from ntkdyn.quantities import described
from ntkdyn.records import Record
from ntkdyn.runs import Plan, check, plan, run
from ntkdyn.saving import SaveOptions
from ntkdyn.spaces import Space
from ntkdyn.system import System, question
from ntkdyn.vectors import Point


class Scheme(NamedTuple):
    """How rounds are reached that need not be stepped to, and how closely.

    Example:
        >>> modes = nd.dynamics.Scheme("modes", tolerance=1e-6)
        >>> str(nd.predict(bare, dgd, W, [10_000], via=modes)["reached_by"].item())
        'modes'
    """

    via: str = "auto"
    """"steps", "powers", "modes", "chebyshev", "krylov" or "contour"; "auto": the cheapest"""
    tolerance: float | None = None
    """of theta_t - theta_0, relative, which an estimate must keep below; None: 1e-9, or as little
    as double precision allows"""


@question("kernel", "batch_size", "batch_seed", "batches", "stability")
@watched("predicting")
@precision.in_double
def predict(
    system: System,
    rounds: int | Sequence[int],
    *,
    save: SaveOptions = SaveOptions(),
    progress: Progress | None = None,
    via: str | Scheme = "auto",
    anchors: Any = None,
    corrections: int | Corrections | None = None,
) -> Record:
    """f_i(x; t) = f(x; theta_0) + K(x, X) c_i(t) for every agent i, c_i by the method's own step.

    `weights` is W or a system's own (`System`); `rounds` a number of rounds, of which `save` says
    how many are recorded, or the list of rounds to record. With `batch_size`, each agent uses that
    many of its points a round, drawn from `batch_seed` as `train` draws them, with `batches` those
    that are listed. `kernel` is

        "empirical"   J J^T at the start of the problem's own network
        "infinite"    the limit of infinite width, from the same f(theta_0)
        "implicit"    the empirical one, never formed: products with J, for problems too large

    while a `KernelProblem` has its own, whatever it is called here. The step size may be
    `of_limit(share)`. One above the limit is run all the same, and the record's attribute
    `stable` is then False; with "implicit" the limit is not known.

    With the squared error and all points in each round no round needs the ones before, nor where
    exchanges or the graph repeat after some rounds: `via` says how they are reached ("steps",
    "powers", "modes", "chebyshev", "krylov", "contour"; `dynamics.propagators`), by default the
    cheapest. The record's `error_estimate` (round) is that of theta_t - theta_0, relative, rounding
    included. It is below the tolerance of `via=dynamics.Scheme(via, tolerance)`, or the call is
    refused; without one, below 1e-9 or as little as double precision allows: modes so slow that t
    rounds are few to them are known to t times 1e-15.

    With `anchors`, the networks are linearized anew at the agents' predicted mean in these rounds
    (`dynamics.anchored`): a list of rounds, of which 0 is always one, or "auto" for up to 12
    kernels where they are worth most, or `dynamics.Anchoring(kernels, tolerance)`. The record then
    holds `anchor`, the rounds, and `segment_error` (anchor), how far each segment's linearization
    is from the real networks where it ends, as a share of the distance travelled. With an anchor in
    every round the prediction is training, but for what agents differ: between them the
    linearization at their mean remains. Kernels of later anchors that would take more than 0.5 GB
    are kept in single precision, unless there is a tolerance.

    With `corrections`, a number of sweeps or `dynamics.Corrections(sweeps, samples)`, the method
    runs again with what the real gradients along the predicted path add to the linear ones
    (`dynamics.corrected`), sampled in 12 rounds; nothing is trained. What is predicted then are
    parameters, and all that the record holds is what the real networks show at them, outputs as
    well: f(theta_i), not its linearization, which stays off by as much as before however good the
    parameters are. So it is with no sweep at all, `corrections=0`. The record's `defect` (sweep) is
    how wrong the gradients are that each sweep has followed, relative, and `sampled_round` where
    that was looked at; a sweep in which it does not shrink is not kept, with a warning, and
    `corrections` says how many are. With batches all rounds are sampled, which takes as many
    gradients as training does. With anchors each segment has its own linearization, at the
    corrected mean, and its own sweeps: `defect` (anchor, sweep) and `sweeps_kept` (anchor).

    Args:
        system: or problem, method, weights in its place, with `kernel`, `batch_size`,
            `batch_seed`, `batches` and `stability` by name.
        rounds: how many, or which are recorded, ascending.
        save: what the record holds.
        progress: called with (rounds done, rounds in all).
        via: how rounds are reached that need not be stepped to.
        anchors: where it is linearized anew.
        corrections: how often it is corrected by real gradients.

    Returns:
        outputs (round, agent, point, output), train_loss, test_loss, global_loss, accuracies
        (round, agent), consensus_distance and displacement, in units of the parameters; the seed,
        step size and stability as attributes.

    Raises:
        InputError: for rounds, anchors or corrections that this system has none of, and a tolerance
            that cannot be met.

    Example:
        >>> record = nd.predict(bare, dgd, W, rounds=100)
        >>> [round(float(record["train_loss"].max("agent")[k]), 3) for k in (0, -1)]
        [2.0, 0.075]

    Source: Jacot, Gabriel, Hongler 2018; Lee et al. 2019 for one agent.
    """
    stability, (via, tolerance) = told(system), _scheme(via)
    asked = plan(system, rounds, save)
    if anchors is not None:
        anchors = _anchors(system.kernel, via, anchors, asked.rounds[-1])
    if corrections is not None:
        corrections = _corrections(system.kernel, via, corrections)
    if not system.kernel.formed:
        _steps_only(via, "an implicit kernel")
        return _without_a_kernel(asked, anchors, corrections, progress)
    system.method.check_space("kernel")
    problem = system.problem
    space = functools.partial(problem.kernel_space, system.kernel, system.method.view)
    space()  # refuses where there is none; not held, as anchors have their own
    if not system.method.linear:
        stability = Stability(known_step(system.method), None, None)
    stability = stability or assess(system)
    asked = asked.by(stability.method)
    stable_there = lambda iteration: _stable(asked, iteration)
    schemes = _Schemes(asked, stability.stable, via, tolerance)
    anchored = lambda where: Anchored(
        problem,
        asked,
        where,
        schemes.within(stable_there),
        progress,
        precisely=tolerance is not None,
    ).record()
    if corrections is not None:
        where = _listed(anchors, anchored)
        record = Corrected(problem, asked, corrections, where, progress).record()
    elif anchors is None:
        record = _with_a_kernel(asked, space(), schemes, progress)
    else:
        record = anchored(anchors)
    known = {"kernel": system.kernel.name, "space": "kernel", **stability.attributes()}
    if isinstance(problem, KernelProblem):
        known |= problem.adjusted
    return _finite(described(schemes.noted(record)).assign_attrs(known))


@precision.in_double
def predict_beside(
    systems: Sequence[System],
    rounds: Sequence[int],
    anchors: Sequence[int],
    *,
    progress: Progress | None = None,
) -> list[Float[np.ndarray, "rounds agents points outputs"]]:
    """What `predict` gives as outputs with these anchors, of several methods and weights.

    All are linearized where the mean of the first one's agents is, so that an anchor costs one
    kernel, however many are asked for: those that stay near the first are predicted as well as it
    is. Anchors are rounds, as the record of a prediction has them.

    Args:
        systems: of one problem and kernel.
        rounds: which are predicted, ascending.
        anchors: rounds in which all are linearized anew.
        progress: called with (rounds done, rounds in all).

    Returns:
        Outputs (rounds, agents, points, outputs) of each.

    Raises:
        InputError: for a kernel that is never formed, and anchors that are not rounds.

    Example:
        >>> both = [nd.System(prob, dgd, W), nd.System(prob, nd.methods.atc(step_size=0.1), W)]
        >>> [found.shape for found in nd.dynamics.predict_beside(both, [0, 4], [0, 2])]
        [(2, 3, 12, 10), (2, 3, 12, 10)]
    """
    first = systems[0]
    anchors = _anchors(first.kernel, "auto", anchors, int(np.max(rounds)))
    if not first.kernel.formed:
        raise InputError('kernel: several runs share kernels, and "implicit" has none')
    if isinstance(anchors, Anchoring):
        raise InputError("anchors: those that several runs share must be given as rounds")
    plans, schemes = [], []
    for system in systems:
        one = plan(system, rounds)
        check(one, system.problem.kernel_space(view=system.method.view))
        plans.append(one)
        settled = functools.partial(_settled, system)
        there = functools.partial(_stable, one)
        schemes.append(_Schemes(one, settled, "auto", None).within(there))
    return beside(first.problem, plans, anchors, schemes, progress)


def _scheme(via: Any) -> Scheme:
    """What was asked for."""
    asked = via if isinstance(via, Scheme) else Scheme(via)
    if not isinstance(asked.via, str):
        raise InputError(f'via: must be the name of a way, like "auto", got {shown(asked.via)}')
    given = asked.tolerance
    if given is not None and not (is_real(given) and 0 < given < 1):
        raise InputError(f"tolerance: must be between 0 and 1, got {shown(given)}")
    return asked


def _anchors(kernel: Choice, via: str, anchors: Any, last: int) -> list[int] | Anchoring:
    """What was asked for, refused where there is nothing to linearize anew."""
    if kernel.fixed:
        raise InputError(f"anchors: {kernel.fixed}; leave them out")
    if via in ("powers", "modes"):
        raise InputError(f'via: {via} begin at the start only; with anchors use via="auto"')
    return checked(anchors, last)


def _corrections(kernel: Choice, via: str, corrections: Any) -> Corrections:
    """What was asked for, refused where there is nothing to correct by."""
    asked = corrected.checked(corrections)
    if kernel.fixed:
        raise InputError(f"corrections: {kernel.fixed}; leave them out")
    _steps_only(via, "a corrected prediction")
    return asked


def _listed(
    anchors: list[int] | Anchoring | None, anchored: Callable[[Anchoring], Record]
) -> list[int]:
    """The anchors of a corrected prediction: those that are chosen are chosen without."""
    if isinstance(anchors, Anchoring):
        return anchored(anchors)["anchor"].values.tolist()
    return anchors or [0]


def _without_a_kernel(
    asked: Plan,
    anchors: list[int] | Anchoring | None,
    corrections: Corrections | None,
    progress: Progress | None,
) -> Record:
    """By products with the Jacobian, in `TangentSpace`."""
    known_step(asked.method)
    if not asked.system.problem.common_start and (anchors is None or corrections is not None):
        raise InputError(
            "anchors: agents with starts of their own are predicted with them, and without "
            "corrections: mixing takes each far from its start at once"
        )
    problem, never = asked.system.problem, lambda iteration, begun: None
    anchored = lambda where: Anchored(
        problem, asked, where, never, progress, implicit=True
    ).record()
    if corrections is not None:
        where = _listed(anchors, anchored)
        record = Corrected(problem, asked, corrections, where, progress, implicit=True).record()
    elif anchors is not None:
        record = anchored(anchors)
    else:
        record = run(
            asked,
            problem.tangent_space(asked.method.view),
            origin=problem.origin,
            parameters_each=problem.parameters_each,
            progress=progress,
        )
    return record.assign_attrs(space="tangent", kernel=asked.system.kernel.name)


def _with_a_kernel(
    asked: Plan, space: Space, schemes: _Schemes, progress: Progress | None
) -> Record:
    """In `KernelSpace`, by short cuts where there are any."""
    problem, of_network, trust = asked.system.problem, {}, None
    if isinstance(problem, KernelProblem):
        if asked.save.trust:
            raise InputError("save: trust needs a network, and a bare kernel has none")
    else:
        linear = Linearization.of(problem, asked.method.view)
        of_network = {
            "origin": problem.origin,
            "parameters_each": problem.parameters_each,
            "lift": linear.lift,
        }
        trust = Trust(linear, problem.initial) if asked.save.trust else None
    record = run(
        asked,
        space,
        kernels=_constant(asked.system) if asked.save.kernel else None,
        progress=progress,
        propagator=schemes.of if schemes.open else None,
        watchers=[trust] if trust else [],
        **of_network,
    )
    if trust:
        record["trust_gap"] = (("round", "agent"), np.stack(trust.gaps))
    return record


def _finite(record: Record) -> Record:
    """The record; where numbers have run over, it says from which round on, with a warning."""
    over = ~np.isfinite(record["train_loss"].values).all(axis=1)
    if not over.any():
        return record
    first = int(record["round"][over][0])
    growth, limit = (
        record.attrs.get(name, np.nan) for name in ("growth_per_round", "step_size_limit")
    )
    warnings.warn(
        f"predict: errors that grow {growth:.4g} times a round are too large for numbers from "
        f"round {first} on; the largest stable step size is {limit:.6g}",
        stacklevel=3,
    )
    return record.assign_attrs(overflow_round=first)


def _settled(system: System) -> bool | None:
    """Whether the method is stable with the problem's kernel."""
    return assess(system).stable


def _stable(asked: Plan, iteration: Iteration) -> bool | None:
    """Whether the method is stable with the kernel of a segment."""
    space, train = iteration.space, iteration.space.train
    kernel = Kernel(np.asarray(space.kernel[:train, :, :train]), {}, "empirical")
    if not np.isfinite(kernel.whole).all():
        return False
    return assess(asked.system.with_(kernel=Given(kernel))).stable


def _constant(system: System) -> Callable[[Point], list[np.ndarray]]:
    """The one kernel of every agent in every round, between the training points."""
    kernel = system.matrix.summed
    return lambda x: [kernel] * system.task.agents


def _steps_only(via: str, what: str) -> None:
    if via not in ("auto", "steps"):
        raise InputError(f'via: {what} can only be stepped through, got "{via}"')


class _Schemes:
    """Whether there are short cuts between this plan's rounds, and which were taken."""

    def __init__(
        self,
        plan: Plan,
        stable: bool | Callable[[], bool | None] | None,
        via: str,
        tolerance: float | None,
    ) -> None:
        self._plan, self._stable = plan, stable
        self._via, self._tolerance = via, tolerance
        self._error: dict[int, float] = {}
        self._taken: dict[int, str] = {}
        reasons = {
            plan.task.loss.name: plan.task.loss is not losses.mse,
            "minibatches": not plan.system.whole,
            plan.method.name: not plan.method.linear,
            "a graph that changes for so long": not repeats(plan.method.at_largest, plan.weights),
        }
        against = [reason for reason, holds in reasons.items() if holds]
        self.open = not against and via != "steps"
        if against:
            _steps_only(via, against[0])

    def of(self, iteration: Iteration) -> Propagator:
        """From the start."""
        if iteration.method.scheduled:
            return Pieces(iteration, self._of_piece)
        return self._propagators(iteration, self._stable, None)

    def _of_piece(self, iteration: Iteration, begun: tuple[int, State] | None) -> Propagators:
        """From where a piece of a schedule begins, which is reached as it was."""
        if begun is None:
            return self._propagators(iteration, self._stable, None)
        first, by = begun[0], self._taken[begun[0]]
        found = self._propagators(iteration, self._stable, (*begun, self._error[first]))
        self._taken[first] = by
        return found

    def within(self, segment_stable: Callable[[Iteration], bool]) -> PropagatorOf:
        """From wherever a segment begins."""

        def propagator_of(
            iteration: Iteration, begun: tuple[int, State] | None
        ) -> Propagator | None:
            if not self.open or iteration.method.scheduled:
                return None
            if begun is None:
                return self.of(iteration)
            stable = functools.partial(segment_stable, iteration)
            return self._propagators(iteration, stable, (*begun, self._error[begun[0]]))

        return propagator_of

    def _propagators(
        self,
        iteration: Iteration,
        stable: bool | Callable[[], bool | None] | None,
        begun: tuple[int, State, float] | None,
    ) -> Propagators:
        """Short cuts that write down here what they take."""
        propagators = Propagators(
            iteration, via=self._via, tolerance=self._tolerance, stable=stable, begun=begun
        )
        self._error, self._taken = self._error | propagators.error, self._taken | propagators.taken
        propagators.error, propagators.taken = self._error, self._taken
        return propagators

    def noted(self, record: Record) -> Record:
        """The record with the error of its rounds, and how they were reached."""
        if not self._taken:
            return record
        rounds = [int(round) for round in record["round"]]
        errors, taken = ([found[round] for round in rounds] for found in (self._error, self._taken))
        return record.assign(error_estimate=("round", errors), reached_by=("round", taken))
