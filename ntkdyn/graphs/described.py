"""Graphs in words: the gap, and what it does not tell."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ntkdyn.graphs.matrices import MixingMatrix, Weights
from ntkdyn.graphs.neighbours import effective_neighbours

DECAYS = 0.5, 0.9, 0.99

SHOWN = 20
"""eigenvalues; of more those in the middle are counted"""

ALIKE = 1e-6
"""eigenvalues that differ by less are one, so many times"""


def described(weights: Weights) -> list[str]:
    """Who hears from whom, the gap and all eigenvalues, and the effective number of neighbours.

    Of weights that change, the eigenvalues are those of the product of a cycle.

    Args:
        weights: a mixing matrix, or several in turn.

    Returns:
        Lines of text.

    Example:
        >>> len(nd.graphs.described(W)) > 3
        True
    """
    if not isinstance(weights, MixingMatrix):
        values = np.linalg.eigvals(_product(weights.matrices))
        ordered = values[np.argsort(-np.abs(values), kind="stable")]
        return [
            f"{weights.name}: {weights.agents} agents, {len(weights.rounds)} rounds in turn",
            f"gap {weights.spectral_gap:.4g}, in the mean of a round",
            f"eigenvalues of a cycle {spectrum(ordered)}",
        ]
    shape = "symmetric" if weights.symmetric else "directed"
    heard = ", ".join(f"{effective_neighbours(weights, each):.3g} ({each})" for each in DECAYS)
    links = np.count_nonzero(weights.matrix) - np.count_nonzero(weights.matrix.diagonal())
    return [
        f"{weights.name}: {weights.agents} agents, {links} arcs, {shape}",
        f"spectral gap {weights.spectral_gap:.4g}, contraction {weights.contraction:.4g}, "
        f"smallest eigenvalue {weights.smallest_eigenvalue:.4g}",
        f"eigenvalues {spectrum(weights.eigenvalues)}",
        f"effective neighbours {heard} where a round leaves so much of the past",
    ]


def spectrum(values: np.ndarray) -> str:
    """Eigenvalues from the largest real part down, each once, with how often it is there."""
    ordered = sorted(values.tolist(), key=lambda each: (-each.real, each.imag))
    alike: list[list[Any]] = []
    for each in ordered:
        if alike and abs(alike[-1][0] - each) < ALIKE:
            alike[-1].append(each)
        else:
            alike.append([each])
    return ", ".join(_shortened([(group[0], len(group)) for group in alike]))


def _shortened(found: Sequence[tuple[float | complex, int]]) -> list[str]:
    words = [
        f"{_number(value)} x{count}" if count > 1 else _number(value) for value, count in found
    ]
    if len(words) <= SHOWN:
        return words
    half = SHOWN // 2
    left = sum(count for _, count in found[half:-half])
    return [*words[:half], f"{left} more", *words[-half:]]


def _number(value: float | complex) -> str:
    real = f"{value.real:.3g}" if abs(value.real) >= ALIKE else "0"
    return real if abs(value.imag) < ALIKE else f"{real}{value.imag:+.3g}i"


def _product(matrices: np.ndarray) -> np.ndarray:
    *_, last = itertools.accumulate(matrices, lambda done, each: each @ done)
    return last
