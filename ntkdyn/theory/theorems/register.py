"""The register: which theorem is about which updates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ntkdyn.graphs import mixing
from ntkdyn.methods import Method
from ntkdyn.methods.updates import BaseUpdate
from ntkdyn.problems import KernelProblem, Problem
from ntkdyn.theory.agent_tuple import applied
from ntkdyn.theory.bounds import Bound, Case
from ntkdyn.theory.constants import problem_constants

Theorem = Callable[[Case], Bound]

THEOREMS: list[tuple[tuple[type[BaseUpdate], ...], Theorem]] = []
"""(the updates it is about; none: all, the theorem)"""


def about(*updates: type[BaseUpdate]) -> Callable[[Theorem], Theorem]:
    """Register a theorem for methods that step as one of these updates."""

    def register(theorem: Theorem) -> Theorem:
        THEOREMS.append((updates, theorem))
        return theorem

    return register


def case(
    problem: Problem | KernelProblem, method: Method, weights: Any, *, kernel: str = "empirical"
) -> Case:
    """The case of a method whose step size is a number."""
    agents = problem.task.agents
    given = mixing(weights, agents=agents, names=problem.task.agent_names)
    weights = applied(method, given, agents=agents)
    return Case(problem_constants(problem, kernel), method, weights, given)


def bounds_of(case: Case) -> list[Bound]:
    """Every bound that is about what the case's method does, met or not."""
    return [theorem(case) for kinds, theorem in THEOREMS if not kinds or case.steps_as(*kinds)]
