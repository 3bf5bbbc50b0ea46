"""Agents whose inputs differ in more than the variance of common features.

C_j = E phi phi' of agent j's inputs, means not taken off, need not commute. Then

    G = (H (x) I) (I + blockdiag(s_j C_j) (H (x) I))^-1,    s_j = 1 / (1 + tr(C_j G_jj) / n_j),
    N_jl = tr(C_j G_jl C_l G'_jl'),    and C of the test inputs in place of C_j at the iterates,

are the equations of `equivalents`, with all of G where these have it mode by mode. Written in the
entries of L_j' G_jl L_l, C = L L', they are sums over modes again, modes^2 of them of variance one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from ntkdyn import arrays
from ntkdyn.dynamics.loops import Loop
from ntkdyn.errors import InputError
from ntkdyn.theory.learning_curves.equivalents import Medium, OnePoint
from ntkdyn.theory.learning_curves.modes import Modes, gathered

LARGEST = 400
"""agents x modes: their matrices are inverted at every node"""

ASYMMETRY = 1e-10
"""as a share of the largest entry"""


class Moments:
    """Second moments of agents' inputs and of the test's, and what the target is in them."""

    def __init__(
        self,
        agents: Float[np.ndarray, "agents modes modes"],
        test: Float[np.ndarray, "modes modes"],
        target: Float[np.ndarray, "modes outputs"],
    ) -> None:
        self.agents, self.target = agents, target
        self.roots = np.stack([_root(each) for each in agents])
        self.test_root = _root(test)
        self.test_targets, self.test_weights = self.test_root.T @ target, np.ones(len(target))

    @property
    def summed(self) -> Modes:
        """What sums over entries of L' G L, and of L' r, run over."""
        modes, agents = len(self.target), len(self.agents)
        ones, many = np.ones((modes, agents)), np.ones((modes**2, agents))
        return Modes(
            many, many[:, 0], ones[..., None], ones, many[:, 0], self.test_targets, ones[:, 0]
        )


def medium_of(
    modes: Modes | Moments, loop: Loop, readout: np.ndarray, counts: np.ndarray
) -> Medium:
    """The method among agents with these modes, or with these moments."""
    if isinstance(modes, Moments):
        return Skewed(loop, readout, modes, counts)
    return Medium(loop, readout, modes, counts)


def few(modes: Modes | Moments) -> Modes | Moments:
    """Gathered in nodes, where that can be."""
    return modes if isinstance(modes, Moments) else gathered(modes)


class Skewed(Medium):
    """A method on a graph among agents with moments of their own."""

    def __init__(
        self, loop: Loop, readout: np.ndarray, moments: Moments, counts: np.ndarray
    ) -> None:
        super().__init__(loop, readout, moments.summed, counts)
        self.moments = moments

    def at(self, shifts: np.ndarray) -> OnePoint:
        """The equivalents at z = 1 + shift, in roots of the moments."""
        shares, residual = self._shares(shifts)
        H, F = self._transfer(shifts)
        inner, roots, test = self._whole(H, shares), self.moments.roots, self.moments.test_root
        G, moved = _applied(H, inner), _applied(F, inner)
        target = self.moments.target
        pushed = np.einsum("zl,lbc,co->zlbo", shares, self.moments.agents, target)
        r = target - np.einsum("zjalb,zlbo->zjao", G, pushed)
        y = target - np.einsum("zialb,zlbo->ziao", moved, pushed)
        felt = np.einsum("jab,zjalc,lcd->zbdjl", roots, G, roots, optimize=True)
        seen = np.einsum("ab,zialc,lcd->zbdil", test, moved, roots, optimize=True)
        flat = lambda each: each.reshape(len(each), -1, *each.shape[3:])
        at_gradients = np.einsum("jab,zjao->zbjo", roots, r)
        return OnePoint(
            shares, flat(felt), flat(seen), at_gradients, np.einsum("ab,ziao->zbio", test, y),
            residual,
        )  # fmt: skip

    def _whole(self, H: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """(I + blockdiag(s C) (H (x) I))^-1, as (nodes, agents, modes, agents, modes)."""
        coupled = np.einsum("zj,jab,zjl->zjalb", shares, self.moments.agents, H)
        nodes, agents, modes = coupled.shape[:3]
        square = coupled.reshape(nodes, agents * modes, -1)
        return np.linalg.inv(np.eye(agents * modes) + square).reshape(coupled.shape)

    def _sums(self, H: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """tr C_j G_jj and, at l, j, tr C_j G_jl C_l G_lj."""
        weighted = np.einsum(
            "jab,zjblc->zjalc", self.moments.agents, _applied(H, self._whole(H, shares))
        )
        return np.einsum("zjaja->zj", weighted), np.einsum("zjalb,zlbja->zlj", weighted, weighted)


def _applied(H: np.ndarray, inner: np.ndarray) -> np.ndarray:
    return np.einsum("zij,zjalb->zialb", H, inner)


def _root(moment: Float[np.ndarray, "modes modes"]) -> Float[np.ndarray, "modes modes"]:
    values, vectors = np.linalg.eigh(moment)
    return vectors * np.sqrt(np.maximum(values, 0))


def moments_of(spectrum: Any, target: Any, agents: int, tail: Any, test: Any) -> Moments:
    """What was given to `learning_curve`, checked."""
    if tail or not isinstance(test, tuple) or len(test) != 2:
        raise InputError(
            "test: where agents have their own second moments, give (second moment, target) that "
            "losses are measured on, and no tail"
        )
    whole = arrays.double("spectrum", spectrum, 3)
    tested = arrays.double("test spectrum", test[0], 2)
    theta, same = (
        arrays.double("target", each, np.ndim(each)).reshape(len(each), -1)
        for each in (target, test[1])
    )
    modes = len(theta)
    if whole.shape != (agents, modes, modes) or tested.shape != (modes, modes):
        raise InputError(
            f"spectrum: second moments must be (agents, modes, modes) and (modes, modes) of "
            f"{agents} agents and {modes} modes, as the target has, got {whole.shape} and "
            f"{tested.shape}"
        )
    if not np.array_equal(theta, same):
        raise InputError("test: must have the target that agents learn, where moments differ")
    if agents * modes > LARGEST:
        raise InputError(
            f"spectrum: {agents} agents with second moments in {modes} modes are a matrix of "
            f"{agents * modes} rows; up to {LARGEST} are inverted, take fewer modes"
        )
    for each in (*whole, tested):
        _check_moment(each)
    return Moments(whole, tested, theta)


def _check_moment(moment: np.ndarray) -> None:
    size = np.abs(moment).max()
    if np.abs(moment - moment.T).max() > ASYMMETRY * size:
        raise InputError("spectrum: second moments must be symmetric")
    if np.linalg.eigvalsh(moment)[0] < -ASYMMETRY * size * len(moment):
        raise InputError("spectrum: second moments must have no negative eigenvalues")
