"""The effective number of neighbours: how many agents' noise an agent averages, and how fast then.

All of the spectrum has a part in it, where the gap knows two eigenvalues (Vogels, Hendrikx, Jaggi
2022, "Beyond spectral gap").
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
import scipy.optimize

from ntkdyn.errors import InputError, is_real, shown
from ntkdyn.graphs.checks import mixing
from ntkdyn.graphs.matrices import ROUNDING, MixingMatrix


def effective_neighbours(weights: Any, decay: Any) -> float:
    """n_W(gamma), gamma = `decay`: so many agents, fully linked, would average noise as well.

    Of the walk z <- W (sqrt(gamma) z + xi), xi independent noise of variance one in every round,

        n_W(gamma) = [1 / (1 - gamma)] / [tr S / m],     S = W (gamma S + I) W',

    the variance of an agent alone over that of an agent of m. With W symmetric
    tr S = sum_i lambda_i^2 / (1 - gamma lambda_i^2). One where nobody is heard; m of the complete
    graph, and of any doubly stochastic W as gamma -> 1: agents that remember long have time to hear
    from all.

    Args:
        weights: a mixing matrix.
        decay: gamma, in [0, 1).

    Returns:
        A number of agents, from 1 to m for doubly stochastic W.

    Raises:
        InputError: for a decay outside [0, 1), and weights that change by the round.

    Example:
        >>> everybody = nd.graphs.metropolis(nd.graphs.complete(8))
        >>> round(nd.graphs.effective_neighbours(everybody, 0.9), 6)
        8.0
    """
    if not is_real(decay) or not 0 <= decay < 1:
        raise InputError(f"effective neighbours: decay must be in [0, 1), got {shown(decay)}")
    weights = _fixed(weights)
    return 1 / (1 - decay) / _variance(weights, float(decay))


def neighbours_rate(weights: Any, step_size: Any, noise: Any) -> float:
    """r: what |x|^2 loses in a round of noisy descent x <- W (x - eta d d' x), in the mean, late.

    Every agent draws d with E d d' = I and E |d|^2 d d' = zeta I, zeta = `noise` (for normal d of n
    coordinates zeta = n + 2). The rate solves

        1 - r = (1 - eta)^2 + (zeta - 1) eta^2 / n_W( (1 - eta)^2 / (1 - r) ),

    exactly where all agents are alike in the graph (a ring, a torus). It is negative where descent
    diverges.

    Args:
        weights: a mixing matrix.
        step_size: eta, in (0, 1).
        noise: zeta, from 1 on.

    Returns:
        r, a share of |x|^2.

    Raises:
        InputError: for a step size outside (0, 1), noise below one, and weights that change.

    Example:
        >>> round(nd.graphs.neighbours_rate(nd.graphs.isolated(2), 0.1, 1.0), 4)
        0.19
    """
    if not is_real(step_size) or not 0 < step_size < 1:
        raise InputError(f"neighbours' rate: step_size must be in (0, 1), got {shown(step_size)}")
    if not is_real(noise) or noise < 1:
        raise InputError(f"neighbours' rate: noise must be one or above, got {shown(noise)}")
    weights, kept = _fixed(weights), (1 - step_size) ** 2
    drawn = (noise - 1) * step_size**2

    def off(left: float) -> float:
        return left - kept - drawn * (1 - kept / left) * _variance(weights, kept / left)

    if drawn == 0:
        return 1 - kept
    low, high = kept + drawn / weights.agents * (1 - ROUNDING), kept + drawn
    while off(high) < 0:
        high *= 2
    return float(1 - scipy.optimize.brentq(off, low, high, xtol=ROUNDING**2))


def _variance(weights: MixingMatrix, decay: float) -> float:
    """tr S / m."""
    if weights.symmetric:
        squares = weights.eigenvalues**2
        return float(np.mean(squares / (1 - decay * squares)))
    W = weights.matrix
    return float(np.trace(scipy.linalg.solve_discrete_lyapunov(decay**0.5 * W, W @ W.T))) / len(W)


def _fixed(weights: Any) -> MixingMatrix:
    weights = mixing(weights)
    if not isinstance(weights, MixingMatrix):
        raise InputError("effective neighbours: are those of one W, got a sequence of them")
    return weights
