"""Updates: what an agent does in a round with its gradient and its neighbours' average.

An update is `init` and `step`, both pure. It knows the iterate x only by +, -, multiples,
`grad(x)`, the local gradients of this round, and `mix(x)`, the average over this round's graph;
so it runs on parameters, displacements, kernel coefficients, symbols and worst-case solvers alike.

    class Mine(Memoryless):
        def step(self, state, grad, mix):
            return Iterate(mix(state.x) - self.step_size * grad(state.x))
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
from jaxtyping import Array, Float

from ntkdyn.errors import InputError


class OfLimit(eqx.Module):
    """A step size given as a share of the largest stable one, known once the kernel is."""

    share: float

    def __check_init__(self) -> None:
        if not 0 < self.share < math.inf:
            raise InputError(f"step size: a share of the limit must be positive, got {self.share}")


StepSize = float | Float[Array, "..."] | OfLimit


def check_step_size(step_size: Any) -> None:
    """Refuse a number that is no step size; arrays and shares of the limit pass."""
    if isinstance(step_size, (int, float)) and not 0 < step_size < math.inf:
        raise InputError(f"step size: must be positive and finite, got {step_size}")


@runtime_checkable
class State(Protocol):
    """Whatever an update remembers; `x` is the iterate."""

    x: Any


@runtime_checkable
class Update(Protocol):
    """One decentralized update rule."""

    step_size: StepSize

    def init(self, x: Any) -> State:
        """The state before the first round."""
        ...

    def step(self, state: Any, grad: Callable[[Any], Any], mix: Callable[[Any], Any]) -> State:
        """The state after one more round."""
        ...


class Iterate(NamedTuple):
    """The state of an update without memory."""

    x: Any


class Memoryless(eqx.Module):
    """An update whose whole state is the iterate."""

    step_size: StepSize

    def __check_init__(self) -> None:
        check_step_size(self.step_size)

    def init(self, x: Any) -> Iterate:
        return Iterate(x)


class DGD(Memoryless):
    """x <- W x - eta g(x)."""

    def step(self, state: Iterate, grad: Callable, mix: Callable) -> Iterate:
        return Iterate(mix(state.x) - self.step_size * grad(state.x))


class CTA(Memoryless):
    """x <- W x - eta g(W x)."""

    def step(self, state: Iterate, grad: Callable, mix: Callable) -> Iterate:
        combined = mix(state.x)
        return Iterate(combined - self.step_size * grad(combined))


class ATC(Memoryless):
    """x <- W (x - eta g(x))."""

    def step(self, state: Iterate, grad: Callable, mix: Callable) -> Iterate:
        return Iterate(mix(state.x - self.step_size * grad(state.x)))
