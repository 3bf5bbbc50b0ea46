"""The register: which theorem is about which methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ntkdyn.graphs import mixing
from ntkdyn.methods import Method
from ntkdyn.problems import KernelProblem, Problem
from ntkdyn.theory.bounds import Bound, Case
from ntkdyn.theory.landscape import landscape
from ntkdyn.theory.stack import applied

Theorem = Callable[[Case], Bound]

THEOREMS: list[tuple[frozenset[str], Theorem]] = []
"""(the methods it is about; empty: all, the theorem)"""


def about(*methods: str) -> Callable[[Theorem], Theorem]:
    """Register a theorem for these methods."""

    def register(theorem: Theorem) -> Theorem:
        THEOREMS.append((frozenset(methods), theorem))
        return theorem

    return register


def case(
    problem: Problem | KernelProblem, method: Method, weights: Any, *, kernel: str = "empirical"
) -> Case:
    """The case of a method whose step size is a number."""
    agents = problem.task.agents
    given = mixing(weights, agents=agents)
    weights = applied(method, given, agents=agents)
    return Case(landscape(problem, kernel), method, weights, given)


def bounds_of(case: Case) -> list[Bound]:
    """Every bound that is about the case's method, met or not."""
    name = case.method.name
    return [theorem(case) for methods, theorem in THEOREMS if not methods or name in methods]
