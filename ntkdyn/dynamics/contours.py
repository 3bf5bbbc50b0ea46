"""Functions of A along Talbot's contour: any round, any time, at a cost that does not grow with it.

    z_t = sum_{s<t} A^s b = 1/(2 pi i) oint lambda^t / (lambda - 1) (lambda - A)^-1 b  d lambda

around the spectrum of A and the pole at 1. With lambda = exp(sigma / t) the growing power becomes
exp(sigma), and the contour of Trefethen, Weideman and Schmelzer (2006),

    sigma(theta) = N (0.5017 theta cot(0.6407 theta) - 0.6122 + 0.2645 i theta),   -pi < theta < pi,

around the negative axis needs N nodes for an accuracy of 3.89^-N, whatever t. A second one around
lambda = -exp(sigma / t) takes the negative eigenvalues. The spectrum must be real
(`affine.Loop.symmetrisable`). Half of the nodes are the conjugates of the others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from ntkdyn.dynamics.affine import Affine

FROM_ROUND = 64
"""The first round that the contour reaches: it must stay clear of the negative axis."""

NODES = range(12, 34, 2)
"""The numbers of nodes that are tried; rounding outgrows what more would gain."""


def nodes_for(round: int, tolerance: float) -> int:
    """The fewest nodes whose error is within `tolerance`, or those with the least error."""
    errors = {}
    for nodes in NODES:
        errors[nodes] = error(round, nodes)
        if errors[nodes] <= tolerance:
            break
    return min(errors, key=errors.get)


@runtime_checkable
class Resolved(Protocol):
    """A map given by its resolvent: an `Affine`, or what stands for it."""

    def resolvent(self, shift: complex | float) -> Callable[[np.ndarray | None], np.ndarray]: ...


def state_at(
    affine: Resolved, round: int, nodes: int, force: np.ndarray | None = None
) -> np.ndarray:
    """The sum of A^s b over s < t, t = `round` from `FROM_ROUND` on; or of A^s `force`."""
    points = _nodes(round, nodes)
    return sum(_real(weight, affine.resolvent(shift)(force)) for weight, shift in points)


def flow_at(
    affine: Affine, rounds: float | int, nodes: int, force: np.ndarray | None = None
) -> Float[np.ndarray, "states coordinates sides"]:
    """exp(t (A - 1)) applied to `force`; without it, the state that b has driven to by then."""
    return sum(
        _real(
            weight / (sigma if force is None else rounds),
            affine.resolvent(sigma / rounds)(force),
        )
        for sigma, weight in _talbot(nodes)
    )


def error(round: int, nodes: int) -> float:
    """The largest error that the nodes make in any mode of a real spectrum.

    Relative to the mode's own sum of powers, or to 1/2, its limit at lambda = -1, if that is more;
    so it bounds the error of theta_t - theta_0 relative to its own length.
    """
    # Slower modes than 1e-3 / t are as good as lambda = 1, which is looked at too.
    below = np.geomspace(1e-3 / round, 1, 300)
    apart = np.concatenate([[0.0], below, 2 - below])
    found = sum(_real(weight, 1 / (shift + apart)) for weight, shift in _nodes(round, nodes))
    exact = geometric_sum(apart, round)
    return float((np.abs(found - exact) / np.maximum(exact, 0.5)).max())


def geometric_sum(apart: Float[np.ndarray, "*modes"], round: int) -> Float[np.ndarray, "*modes"]:
    """sum_{s<t} lambda^s for lambda = 1 - apart, without cancellation near lambda = 1."""
    # Where lambda is negative a logarithm has no real value, and nothing cancels.
    slow = np.minimum(apart, 0.5)
    fast = 1 - (1 - apart) ** round
    decayed = np.where(apart < 0.5, -np.expm1(round * np.log1p(-slow)), fast)
    return np.where(apart == 0, float(round), decayed / np.where(apart == 0, 1, apart))


def _nodes(round: int, nodes: int) -> Iterator[tuple[complex, complex]]:
    """(weight, lambda - 1) on both contours, in the upper half plane."""
    for sigma, weight in _talbot(nodes):
        shift = np.expm1(sigma / round)
        scaled = weight * (1 + shift) / round
        yield scaled / shift, shift
        yield (-1) ** round * scaled / (2 + shift), -2 - shift


def _real(weight: complex, values: np.ndarray) -> np.ndarray:
    """A node and its conjugate together."""
    return 2 * (weight.real * values.real - weight.imag * values.imag)


@functools.cache
def _talbot(nodes: int) -> list[tuple[complex, complex]]:
    """(sigma, exp(sigma) sigma' d theta / (2 pi i)) in the upper half plane."""
    theta = np.pi * np.arange(1, nodes, 2) / nodes
    cot = 1 / np.tan(0.6407 * theta)
    sigma = nodes * (0.5017 * theta * cot - 0.6122 + 0.2645j * theta)
    slope = nodes * (0.5017 * cot - 0.5017 * 0.6407 * theta * (1 + cot**2) + 0.2645j)
    return list(zip(sigma, np.exp(sigma) * slope * (2 * np.pi / nodes) / (2j * np.pi), strict=True))
