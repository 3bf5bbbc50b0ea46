"""Stacks: one value per agent, of any kind that can be added and scaled.

An update knows vectors by +, -, multiples, `grad` and `mix` only. So the very step that trains
networks runs on SymPy expressions (`symbolic`) and on the points of a semidefinite program
(`worst_case`), held in a `AgentTuple`.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from ntkdyn.errors import InputError
from ntkdyn.graphs import MixingMatrix, mixing
from ntkdyn.methods import Method
from ntkdyn.methods.mixing import Fixed, Periodic


class AgentTuple:
    """x = (x_1, ..., x_agents) of anything with +, - and multiples by numbers."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = tuple(values)

    def __add__(self, other: AgentTuple) -> AgentTuple:
        return self._with(operator.add, other)

    def __sub__(self, other: AgentTuple) -> AgentTuple:
        return self._with(operator.sub, other)

    def __neg__(self) -> AgentTuple:
        return -1 * self

    def __mul__(self, factor: Any) -> AgentTuple:
        return AgentTuple([value * factor for value in self.values])

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> AgentTuple:
        return AgentTuple([value / divisor for value in self.values])

    def _with(self, operation: Callable, other: AgentTuple) -> AgentTuple:
        return AgentTuple([operation(a, b) for a, b in zip(self.values, other.values, strict=True)])


def mixer(weights: Sequence[Sequence[Any]]) -> Callable[[AgentTuple], AgentTuple]:
    """mix with (W x)_i = sum_j W_ij x_j; zero weights send nothing."""

    def mix(x: AgentTuple) -> AgentTuple:
        return AgentTuple([_weighted(row, x.values) for row in weights])

    return mix


def _weighted(row: Sequence[Any], values: Sequence[Any]) -> Any:
    heard = [value * weight for weight, value in zip(row, values, strict=True) if weight != 0]
    return functools.reduce(operator.add, heard)


def averaging_rate(method: Method) -> float:
    """gamma of a method that mixes by (1 - gamma) I + gamma W; one for most."""
    rule = method.mixing
    while isinstance(rule, Periodic):
        rule = rule.mixing
    if not method.affine:
        raise InputError(
            f"theory: needs a method whose rounds are all the same linear map of its memory; "
            f"those of {method.name} are not"
        )
    if type(rule).bind is not Fixed.bind:
        raise InputError(
            f"theory: needs a method that averages with (1 - gamma) I + gamma W (mixing.Fixed); "
            f"{method.name} combines by a rule of its own, {type(rule).__name__}"
        )
    return float(rule.rate)


def applied(method: Method, weights: Any, *, agents: int | None = None) -> MixingMatrix:
    """What a round of the method applies: (1 - gamma) I + gamma W."""
    given = mixing(weights, agents=agents)
    if not isinstance(given, MixingMatrix):
        raise InputError("theory: needs the same mixing matrix in every round")
    gamma = averaging_rate(method)
    return given if gamma == 1 else MixingMatrix(_blended(given.matrix, gamma), given.name)


def _blended(
    matrix: Float[np.ndarray, "agents agents"], gamma: float
) -> Float[np.ndarray, "agents agents"]:
    return (1 - gamma) * np.eye(len(matrix)) + gamma * matrix
