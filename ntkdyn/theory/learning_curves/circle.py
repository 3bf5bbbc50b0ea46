"""Any round from values on a circle: the inverse z-transform, on panels that narrow towards one.

    x_t = 1/(2 pi i) oint z^(t-1) f(z) dz,      f(z) = sum_t x_t z^-t,      z = exp(rho + i phi)

around |z| = exp(rho), rho = 1/T for rounds up to T, outside of which f has no singularities where
rounds are stable. Next to z = 1 it varies over rho, elsewhere more slowly: panels of Gauss-Legendre
nodes double in width away from phi = 0, and are halved where f is not resolved. On a panel of half
width h around phi_0, f is a sum of Legendre polynomials in x, and its integral against the
oscillating z^t is exact,

    int P_n(x) exp(i t (phi_0 + h x)) h dx = 2 h i^n exp(i t phi_0) j_n(t h),

j_n the spherical Bessel function: nodes grow with log T, and one circle serves every round up to T.
"""

from __future__ import annotations

import functools

import numpy as np
import scipy.special
from jaxtyping import Complex, Float

NODES = 14
"""of a panel"""

TAIL = 1e-8
"""What the last two Legendre coefficients of a resolved panel may be, as a share of its values."""

HALVINGS = 12
"""How often panels are halved at most."""


class Circle:
    """Nodes on the upper half of |z| = exp(1/last), on panels between `edges` (angles)."""

    def __init__(self, last: float, edges: Float[np.ndarray, " edges"]) -> None:
        self.rho, self.edges = 1 / last, edges

    @classmethod
    def up_to(cls, last: float) -> Circle:
        """Panels that double in width from 1/(2 last) on."""
        doublings = int(np.ceil(np.log2(2 * np.pi * last)))
        return cls(last, np.concatenate([[0.0], np.pi * 2.0 ** np.arange(-doublings, 1)]))

    @property
    def angles(self) -> Float[np.ndarray, " nodes"]:
        """phi of every node."""
        x, _, _ = _legendre()
        middle, half = self._panels()
        return (middle[:, None] + half[:, None] * x).ravel()

    @property
    def shifts(self) -> Complex[np.ndarray, " nodes"]:
        """z - 1 at every node."""
        return np.expm1(self.rho + 1j * self.angles)

    def weights(self, rounds: Float[np.ndarray, " rounds"]) -> Complex[np.ndarray, "rounds nodes"]:
        """w with x_t = 2 Re sum_q w_tq f(z_q), for f with f(conj z) = conj f(z)."""
        _, coefficients, _ = _legendre()
        (middle, half), t = self._panels(), np.asarray(rounds, float)[:, None, None]
        n = np.arange(NODES)
        bessel = scipy.special.spherical_jn(n, np.abs(t) * half[:, None])
        bessel = np.where(t < 0, (-1.0) ** n * bessel, bessel)
        turned = np.exp(t * (self.rho + 1j * middle[:, None])) * half[:, None] / np.pi
        return np.einsum("tpn,nq->tpq", turned * bessel * 1j**n, coefficients).reshape(len(t), -1)

    def resolved(self, values: Complex[np.ndarray, "nodes features"]) -> np.ndarray:
        """Which panels resolve f, of which `values` are known on all nodes."""
        _, coefficients, _ = _legendre()
        panels = values.reshape(len(self.edges) - 1, NODES, -1)
        last = np.abs(np.einsum("nq,pqf->pnf", coefficients[-2:], panels)).max(axis=(1, 2))
        return last <= TAIL * np.abs(panels).max(axis=(1, 2))

    def halved(self, panels: np.ndarray) -> Circle:
        """Those panels in two halves each."""
        middle, _ = self._panels()
        return Circle(1 / self.rho, np.sort(np.concatenate([self.edges, middle[panels]])))

    def _panels(self) -> tuple[np.ndarray, np.ndarray]:
        return (self.edges[1:] + self.edges[:-1]) / 2, np.diff(self.edges) / 2


@functools.cache
def _legendre() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes, what takes values there to Legendre coefficients, and the Gauss weights."""
    x, weights = np.polynomial.legendre.leggauss(NODES)
    n = np.arange(NODES)
    values = np.polynomial.legendre.legvander(x, NODES - 1).T
    return x, (n[:, None] + 0.5) * values * weights, weights
