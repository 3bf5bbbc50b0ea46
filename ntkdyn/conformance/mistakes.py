"""A method run with mistakes in it: those that implementations of decentralized methods have.

A `Run` is the method's own step with everything around it replaceable: W, how it is applied, the
gradients, the step size and what is remembered at the start. A mistake replaces one of these, so
that any two of them can be made at once.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ntkdyn import precision
from ntkdyn.conformance.cases import Case
from ntkdyn.vectors import Point, Vector

Stack = Float[np.ndarray, "agents ..."]
Mix = Callable[[np.ndarray, Stack, Stack], Stack]
"""(W, what is sent, the iterates before the round) -> what agents make of it"""
Gradients = Callable[[Stack, Stack], Stack]
"""(where, the iterates a round ago) -> the agents' gradients"""


@dataclasses.dataclass(frozen=True)
class Run:
    """One way to run a case."""

    case: Case
    weights: np.ndarray
    mix: Mix
    gradients: Gradients
    remembered: Callable[[Any, Run], Any] = lambda state, run: state
    """what is made of the method's state at the start"""

    @staticmethod
    def of(case: Case) -> Run:
        """As the method has it."""
        rate = case.built.mixing.rate
        weights = (1 - rate) * np.eye(len(case.weights)) + rate * case.weights
        return Run(case, weights, lambda W, sent, own: _product(W, sent), _gradients(case))

    def scaled(self, factor: Any) -> Run:
        """With gradients multiplied by a number, or each agent's by its own."""
        factors, before = np.reshape(factor, (-1, 1)), self.gradients
        return dataclasses.replace(self, gradients=lambda x, old: factors * before(x, old))

    @precision.in_double
    def iterates(self) -> Float[np.ndarray, "rounds agents parameters"]:
        """Of every round from the start on."""
        method, old = self.case.built, self.case.start
        update, every = method.update, method.mixing.every
        due = {round % every for round in method.mixing.due} if every > 1 else {0}
        state = self.remembered(update.init(Point(self.case.start)), self)
        seen = [self.case.start]
        for round in range(self.case.rounds):
            own, exchanges = np.asarray(state.x.tree), round % every in due
            grad = lambda x, old=old: Vector(self.gradients(np.asarray(x.tree), old))
            mix = lambda sent, own=own: self.mix(self.weights, np.asarray(sent), own)
            mixed = lambda v, mix=mix: v.map(mix)
            state = update.step(state, grad, mixed if exchanges else lambda v: v)
            old = own
            seen.append(np.asarray(state.x.tree))
        return np.stack(seen)


def _product(W: np.ndarray, sent: Stack) -> Stack:
    return np.tensordot(W, sent, 1)


def _gradients(case: Case) -> Gradients:
    return lambda x, old: np.stack([case.gradient(i, each) for i, each in enumerate(x)])


class Mistake(NamedTuple):
    """A mistake in words, and a run with it."""

    said: str
    made: Callable[[Run], Run]


def _with_weights(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Run], Run]:
    return lambda run: dataclasses.replace(run, weights=change(run.weights))


def _without_own(W: np.ndarray) -> np.ndarray:
    return W - np.diag(np.diag(W))


def _before_the_round(run: Run) -> Run:
    def mix(W: np.ndarray, sent: Stack, own: Stack) -> Stack:
        if own.shape != sent.shape:
            return _product(W, sent)
        return _product(_without_own(W), sent) + _product(np.diag(np.diag(W)), own)

    return dataclasses.replace(run, mix=mix)


def _one_after_another(run: Run) -> Run:
    def mix(W: np.ndarray, sent: Stack, own: Stack) -> Stack:
        heard = sent.copy()
        for agent, row in enumerate(W):
            heard[agent] = np.tensordot(row, heard, 1)
        return heard

    return dataclasses.replace(run, mix=mix)


def _twice(run: Run) -> Run:
    return dataclasses.replace(run, weights=run.weights @ run.weights)


def _a_round_late(run: Run) -> Run:
    now = run.gradients
    return dataclasses.replace(run, gradients=lambda x, old: now(old, old))


def _started(**fields: Callable[[Any, Run], Any]) -> Callable[[Run], Run]:
    """With fields of the state at the start made anew, where the method has them all."""

    def remembered(state: Any, run: Run) -> Any:
        if not set(fields) <= set(state._fields):
            return state
        return state._replace(**{name: make(state, run) for name, make in fields.items()})

    return lambda run: dataclasses.replace(run, remembered=remembered)


def _first_gradient(state: Any, run: Run) -> Vector:
    return Vector(run.gradients(state.x.tree, state.x.tree))


def _zero(state: Any, run: Run) -> Vector:
    return state.x - state.x


def _zero_point(state: Any, run: Run) -> Point:
    return state.x.map(np.zeros_like)


def every(case: Case) -> list[Mistake]:
    """All that are known, with the numbers of the case."""
    known = _of_order() | _of_gradients(case) | _of_weights(len(case.weights)) | _of_starts()
    return [Mistake(said, made) for said, made in known.items()]


def _of_order() -> dict[str, Callable[[Run], Run]]:
    """In what is heard, and when."""
    return {
        "W is transposed: agent i weighs what it hears from j by W[j, i]": (
            _with_weights(np.transpose)
        ),
        "agents mix what they hear with their own iterate from before the round": _before_the_round,
        "agents are updated in turn, and hear what others have made of the same round": (
            _one_after_another
        ),
        "agents mix twice where it should be once": _twice,
        "gradients are those of a round ago": _a_round_late,
    }


def _of_gradients(case: Case) -> dict[str, Callable[[Run], Run]]:
    """In how large they are."""
    n, counts = len(case.weights), np.array([len(each) for each in case.targets])
    share = counts / counts.sum()
    factors = {
        f"the step is {n} times too long: n times": n,
        f"the step is {n} times too short: 1/n": 1 / n,
        "the gradient is added, not subtracted": -1,
        "gradients are summed over an agent's points, not averaged": counts,
        "gradients are weighted by the agent's share of all points": n * share,
        "gradients are summed over an agent's points and divided by all agents' points": share,
        "gradients are twice as large: the loss lacks its half": 2,
    }
    if "beta" in case.settings:
        damped = "the momentum is damped: gradients enter it times 1 - beta"
        factors[damped] = 1 - case.settings["beta"]
    return {said: functools.partial(Run.scaled, factor=each) for said, each in factors.items()}


def _of_weights(n: int) -> dict[str, Callable[[Run], Run]]:
    """In what stands in the place of W."""
    unlike = "rows of W do not sum to one"
    changes = {
        f"{unlike}: the agent's own weight is left out": _without_own,
        f"{unlike}: agents add their own value in full": lambda W: _without_own(W) + np.eye(n),
        "weights are those of a plain average over neighbours, not W": (
            lambda W: (W != 0) / (W != 0).sum(axis=1, keepdims=True)
        ),
        "agents do not mix at all": lambda W: np.eye(n),
        "agents average over all agents, whatever W": lambda W: np.full_like(W, 1 / n),
    }
    return {said: _with_weights(change) for said, change in changes.items()}


def _of_starts() -> dict[str, Callable[[Run], Run]]:
    """In what is remembered at first."""
    return {
        "tracking starts at zero with the first gradient already seen: it lacks that gradient": (
            _started(tracker=_zero, gradient=_first_gradient)
        ),
        "tracking starts at the first gradient and mixes it before it is used": (
            _started(tracker=_first_gradient, gradient=_first_gradient)
        ),
        "the adapted iterate starts at zero, not at the start": _started(adapted=_zero_point),
    }
