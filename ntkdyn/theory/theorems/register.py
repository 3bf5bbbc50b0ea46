"""The register: which theorem is about which updates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ntkdyn.graphs import mixing
from ntkdyn.linear import Choice
from ntkdyn.methods import Method
from ntkdyn.methods.updates import BaseUpdate
from ntkdyn.problems import KernelProblem, Problem
from ntkdyn.system import System
from ntkdyn.theory.agent_tuple import applied
from ntkdyn.theory.bounds import Bound, Case
from ntkdyn.theory.constants import problem_constants

Theorem = Callable[[Case], Bound]

THEOREMS: list[tuple[tuple[type[BaseUpdate], ...], Theorem]] = []
"""(the updates it is about; none: all, the theorem)"""


def about(*updates: type[BaseUpdate]) -> Callable[[Theorem], Theorem]:
    """Register a theorem for methods that step as one of these updates.

    Args:
        updates: classes of updates; none: all methods.

    Returns:
        What registers the theorem, a function of a `Case` that gives a `Bound`.

    Example:
        >>> nd.theory.theorems.about()(lambda case: None) is nd.theory.theorems.THEOREMS.pop()[1]
        True
    """

    def register(theorem: Theorem) -> Theorem:
        THEOREMS.append((updates, theorem))
        return theorem

    return register


def case(
    problem: System | Problem | KernelProblem,
    method: Method | None = None,
    weights: Any = None,
    *,
    kernel: Choice | str = "empirical",
) -> Case:
    """The case of a method whose step size is a number: a system's, or of its parts.

    The parts need not suit each other, as they must in a system: theorems say what they lack.

    Args:
        problem: or a system in its place.
        method: with a step size.
        weights: W.
        kernel: what the problem is linearized to.

    Returns:
        The constants of the linearized problem, the method, what a round applies, and W.

    Raises:
        InputError: for a kernel that is not formed, W that changes from round to round, and methods
            that combine by a rule of their own.

    Example:
        >>> nd.theory.theorems.case(bare, dgd, W).step_size
        0.1
    """
    if isinstance(problem, System):
        problem, method, weights, kernel = (
            getattr(problem, part) for part in ("problem", "method", "weights", "kernel")
        )
    agents = problem.task.agents
    given = mixing(weights, agents=agents, names=problem.task.agent_names)
    constants = problem_constants(problem, kernel)
    return Case(constants, method, applied(method, given, agents=agents), given)


def bounds_of(case: Case) -> list[Bound]:
    """Every bound that is about what the case's method does, met or not.

    Args:
        case: as `theorems.case` gives it.

    Returns:
        Bounds, their assumptions evaluated; none where weights are negative: the theorems are not
        about such.

    Example:
        >>> found = nd.theory.theorems.bounds_of(nd.theory.theorems.case(bare, dgd, W))
        >>> record = nd.predict(bare, dgd, W, 20)
        >>> {bound.check(record).state for bound in found} & {"violated"}
        set()
    """
    if any(each.signed for each in case.given.rounds):
        return []
    return [theorem(case) for kinds, theorem in THEOREMS if not kinds or case.steps_as(*kinds)]
