"""EquiTopo: graphs whose averaging does not slow down with the number of agents (Song et al. 2022).

They are made of the basis A_u, u = 1, ..., m - 1, in which agent i hears from i - u:

    (A_u)_ij = (m - 1)/m  if i = j + u (mod m),     1/m  if i = j

Less the mean, A_u is (m - 1)/m times a permutation: alone it brings nobody together. The mean of a
few that are drawn at random does, by a factor that m has next to no part in.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ntkdyn.errors import InputError, check_flag, check_whole, is_real, shown
from ntkdyn.graphs.checks import checked, single
from ntkdyn.graphs.matrices import MixingMatrix, MixingSequence
from ntkdyn.graphs.sequences import check_length


def equi_static(agents: int, links: int, *, directed: bool = False, seed: int = 0) -> MixingMatrix:
    """W = (A_u1 + ... + A_uM) / M with M = `links` drawn at random, D-EquiStatic.

    Undirected, (W + W') / 2: U-EquiStatic, in which agents have up to 2 M neighbours. Doubly
    stochastic either way.

    Args:
        agents: m, how many.
        links: M, how many are drawn.
        directed: whether a link goes one way.
        seed: draws it.

    Returns:
        A mixing matrix (agents, agents).

    Raises:
        InputError: for a draw that leaves agents unconnected.

    Example:
        >>> nd.graphs.equi_static(8, 3).doubly_stochastic
        True
    """
    agents = check_whole("equi_static: agents", agents, 2)
    links = check_whole("equi_static: links", links, 1)
    check_flag("equi_static: directed", directed)
    matrix = sum(_basis(agents, hop) for hop in _hops("equi_static", agents, links, seed)) / links
    if directed:
        return checked(matrix, "D-EquiStatic")
    return checked((matrix + matrix.T) / 2, "U-EquiStatic")


def equi_dynamic(agents: int, length: int, *, share: float = 0.5, seed: int = 0) -> MixingSequence:
    """In each round W = (1 - share) I + share A_u, u drawn at random: one-peer OD-EquiDyn.

    Everybody hears from one other in a round.

    Args:
        agents: m, how many.
        length: rounds that are drawn.
        share: of what is heard, in (0, 1].
        seed: draws it.

    Returns:
        Weights, round by round.

    Raises:
        InputError: for draws that leave agents unconnected.

    Example:
        >>> len(nd.graphs.equi_dynamic(6, 9).rounds)
        9
    """
    agents = check_whole("equi_dynamic: agents", agents, 2)
    length = check_length("equi_dynamic", length, agents)
    if not is_real(share) or not 0 < share <= 1:
        raise InputError(f"equi_dynamic: share must be a number in (0, 1], got {shown(share)}")
    hops, stays = _hops("equi_dynamic", agents, length, seed), (1 - share) * np.eye(agents)
    rounds = (single(stays + share * _basis(agents, hop), "OD-EquiDyn") for hop in hops)
    return MixingSequence(tuple(rounds), "OD-EquiDyn")


def _hops(name: str, agents: int, count: int, seed: int) -> list[int]:
    rng = np.random.default_rng(check_whole(f"{name}: seed", seed, 0))
    return rng.integers(1, agents, count).tolist()


def _basis(agents: int, hop: int) -> Float[np.ndarray, "agents agents"]:
    identity = np.eye(agents)
    return ((agents - 1) * np.roll(identity, hop, axis=0) + identity) / agents
