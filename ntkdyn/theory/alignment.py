"""Alignment: does permuting before averaging mix faster? DIMAT's spectral gap, tested.

DIMAT merges agent j's neurons into agent i's order before averaging: W (x) I becomes the matrix of
blocks w_ij P_ij with permutations P_ij. Its analysis rests on a contraction factor rho' <= rho, so
a gap 1 - rho' >= 1 - rho (Saadati et al. 2024; the statement's exact form is not known to us).

Reading rho as the second-largest modulus squared, the inequality holds the other way round. A
permutation keeps the all-ones vector, so (blocks)(u (x) 1) = (W u) (x) 1: every eigenvalue of W is
one of the aligned matrix, and its second-largest modulus is at least W's. They are equal where the
alignments are consistent, P_ij = Q_i' Q_j: the aligned matrix is then W (x) I in other coordinates.
What alignment improves is not the spectrum but the disagreement it starts from.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ntkdyn.errors import InputError
from ntkdyn.graphs import MixingMatrix, mixing

__all__ = ["Gaps", "aligned", "gaps", "random_alignments"]


class Gaps(NamedTuple):
    """1 - rho of plain averaging and 1 - rho' of aligned averaging.

    Example:
        >>> nd.theory.alignment.Gaps(0.5, 0.25).aligned
        0.25
    """

    plain: float
    aligned: float


def random_alignments(
    agents: int, neurons: int, rng: np.random.Generator, *, consistent: bool
) -> Int[np.ndarray, "agents agents neurons"]:
    """Permutations P_ij with P_ji its inverse and P_ii the identity.

    Consistent ones come from one true order per agent; others are drawn pair by pair.

    Args:
        agents: how many.
        neurons: how many.
        rng: draws them.
        consistent: whether P_ij P_jk = P_ik.

    Returns:
        (agents, agents, neurons), numbers of neurons.

    Example:
        >>> drawn = nd.theory.alignment.random_alignments(
        ...     3, 4, np.random.default_rng(0), consistent=True)
        >>> bool((drawn[0, 1][drawn[1, 0]] == np.arange(4)).all())
        True
    """
    orders = [rng.permutation(neurons) for _ in range(agents)]
    table = np.tile(np.arange(neurons), (agents, agents, 1))
    for i in range(agents):
        for j in range(i):
            pair = orders[j][np.argsort(orders[i])] if consistent else rng.permutation(neurons)
            table[i, j], table[j, i] = pair, np.argsort(pair)
    return table


def aligned(
    weights: MixingMatrix, alignments: Int[np.ndarray, "agents agents neurons"]
) -> Float[np.ndarray, "stacked stacked"]:
    """The matrix of blocks w_ij P_ij.

    Args:
        weights: W.
        alignments: P_ij, (agents, agents, neurons).

    Returns:
        (agents neurons, agents neurons).

    Raises:
        InputError: for what is no permutation.

    Example:
        >>> same = np.tile(np.arange(4), (3, 3, 1))
        >>> bool(np.allclose(nd.theory.alignment.aligned(W, same), np.kron(W.matrix, np.eye(4))))
        True
    """
    if (np.sort(alignments, axis=2) != np.arange(alignments.shape[2])).any():
        raise InputError("alignments: each must be a permutation of the neurons, numbered from 0")
    identity = np.eye(alignments.shape[2])
    return np.block(
        [
            [weights.matrix[i, j] * identity[alignments[i, j]] for j in range(weights.agents)]
            for i in range(weights.agents)
        ]
    )


def gaps(weights: Any, alignments: Int[np.ndarray, "agents agents neurons"]) -> Gaps:
    """1 - rho and 1 - rho', rho the square of the largest modulus but the fixed vectors' one.

    Fixed vectors, those of the eigenvalue one, are what averaging is meant to keep.

    Args:
        weights: W.
        alignments: P_ij, (agents, agents, neurons).

    Returns:
        Both gaps.

    Raises:
        InputError: for what is no permutation, or no W.

    Example:
        >>> rng, path = np.random.default_rng(0), nd.graphs.metropolis(nd.graphs.path(3))
        >>> drawn = nd.theory.alignment.random_alignments(3, 4, rng, consistent=False)
        >>> found = nd.theory.alignment.gaps(path, drawn)
        >>> found.aligned <= found.plain
        True
    """
    weights = mixing(weights, agents=len(alignments))
    moduli = np.abs(np.linalg.eigvals(aligned(weights, alignments)))
    return Gaps(
        1 - weights.second_largest_modulus**2, 1 - float(moduli[moduli < 1 - 1e-9].max()) ** 2
    )
