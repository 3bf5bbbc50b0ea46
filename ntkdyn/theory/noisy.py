"""Decentralized SGD with the noise of minibatches: bounds on expectations, held against exact ones.

A batch of an agent's points, drawn anew in each round, has a gradient with the right mean. Its
variance is not bounded where losses are quadratic; it is where they are least,

    sigma^2 = 1/m sum_i E |grad f_i(x*; batch) - grad f_i(x*)|^2,

and grows with the distance from there: each batch's loss is convex and ell-smooth, ell the largest
smoothness of a single point, so that

    1/m sum_i Var g_i(x_i) <= 4 ell (L Xi + 2 (F(mean x) - F*)) + 2 sigma^2,

Xi = |Delta|^2 / m. Notation, p and order are those of `theorems`; the shape is that of Koloskova
et al. 2020, Theorem 2 (sigma^2 at x*), the constants are ours. With both,

    E|mean x+ - x*|^2 <= |mean x - x*|^2 - 3/4 eta (F - F*) + 13/8 eta L Xi + 2 eta^2 sigma^2 / m
    E Xi+ <= (1 - p/8) Xi + order eta^2 ((12 L / p + 8 ell)(F - F*) + 6 zeta^2 / p + 2 sigma^2)

for eta <= min(1 / (4 L), m / (32 ell), p / (33 sqrt(order L ell))).

The expectations come from `dynamics.noise`, whose mean and covariance are exact; a single run is no
expectation, and is not held against these bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from ntkdyn import precision
from ntkdyn.dynamics.noise import AT_REST, Moments
from ntkdyn.problems import KernelProblem, Problem
from ntkdyn.records import Record
from ntkdyn.theory import bounds
from ntkdyn.theory.bounds import Bound, Case, Observation
from ntkdyn.theory.theorems.diffusion import geometric
from ntkdyn.theory.theorems.gossip import Gossip


@precision.in_double
def expected(
    problem: Problem | KernelProblem, case: Case, rounds: Sequence[int] | None, *, batch_size: int,
    kernel: str = "empirical",
) -> Record:  # fmt: skip
    """Expectations over all draws of batches, exactly, of the case's method; for small problems.

    Variables over `round`: `excess`, E F(mean x) - min F, and `disagreement`, E |Delta|^2. With
    `rounds` None they are those at rest.
    """
    moments = Moments(problem, case.method, case.given, batch_size=batch_size, kernel=kernel)
    measure = _measured(moments, case)
    if rounds is None:
        moments.settle()
        rounds, rows = [AT_REST], [measure()]
    else:
        rows = []
        for done, round in zip([0, *rounds], rounds, strict=False):
            moments.advance(round - done)
            rows.append(measure())
    excess, apart = np.array(rows).T
    return xr.Dataset(
        {
            "excess": ("round", excess),
            "disagreement": ("round", apart),
            "mixing": (("agent", "neighbour"), case.given.matrix),
        },
        {"round": list(rounds)},
        {
            "method": case.method.name,
            "step_size": case.step_size,
            "loss": case.landscape.loss.name,
            "batch_size": batch_size,
        },
    )


def _measured(moments: Moments, case: Case) -> Callable[[], tuple[float, float]]:
    """Reads (E F(mean x) - min F, E |Delta|^2) off the moments."""
    scape, rows, X = case.landscape, moments.features.rows, moments.map.loop.X
    rank = rows.shape[1]
    root = np.sqrt(scape.share)[:, None]
    best = -np.linalg.lstsq(root * rows, root * scape.residual, rcond=None)[0]
    of_mean = np.kron(X.mean(axis=0, keepdims=True), np.eye(rank))
    of_rest = np.kron(X - X.mean(axis=0), np.eye(rank))

    def measure() -> tuple[float, float]:
        off = root * (rows @ (of_mean @ moments.mean.T - best))
        seen = root * rows @ of_mean
        spread = sum(np.sum((seen @ each) * seen) for each in moments.covariance)
        apart = np.sum((of_rest @ moments.mean.T) ** 2)
        apart += sum(np.sum((of_rest @ each) * of_rest) for each in moments.covariance)
        return 0.5 * float(np.sum(off**2) + spread), float(apart)

    return measure


def bounds_of(case: Case, batch_size: int) -> list[Bound]:
    """The bounds on expectations about the case's method: DGD, CTA and ATC have them."""
    if case.method.name not in ("dgd", "cta", "atc") or not case.landscape.quadratic:
        return []
    return [convex(case, batch_size), strongly_convex(case, batch_size)]


def convex(case: Case, batch_size: int) -> Bound:
    """1/T sum_{t<T} E(F(mean x(t)) - F*) <= 2|x*|^2/(eta T) + 4 eta sigma^2/m + 26 order eta^2 L S.

    S = 6 zeta^2 / p^2 + 2 sigma^2 / p. Both lines of the module summed over T rounds, at most a
    quarter of eta (F - F*) going into the disagreement.
    """
    noise = _Noise(case, batch_size)
    distance = case.landscape.distance
    floor = (
        4 * noise.eta * noise.variance / case.landscape.agents
        + 26 * noise.order * noise.eta**2 * noise.L * noise.spread
    )
    return noise.bound(
        "D-SGD with noise, convex",
        "mean over rounds of E F(mean x) - min F",
        33.0,
        lambda t: 2 * distance**2 / (noise.eta * np.maximum(t, 1e-300)) + floor,
        _running_mean,
    )


def strongly_convex(case: Case, batch_size: int) -> Bound:
    """E|mean x(t) - x*|^2 <= q^t |x*|^2 + (2 eta^2 sigma^2 / m + 26 order eta^3 L S) / (1 - q).

    q = 1 - min(eta mu_F / 4, p / 16), S as in `convex`, for eta <= p / (46 sqrt(order L ell)):
    V = |mean x - x*|^2 + (26 eta L / p) Xi contracts by q but for the noise, half of
    eta (F - F*) >= eta mu_F / 4 |mean x - x*|^2 being kept for it. Seen as 2 E(F - F*) / L_F.
    """
    noise, scape = _Noise(case, batch_size), case.landscape
    q = 1 - min(noise.eta * scape.mean_convexity / 4, noise.p / 16)
    push = (
        2 * noise.eta**2 * noise.variance / scape.agents
        + 26 * noise.order * noise.eta**3 * noise.L * noise.spread
    )
    return noise.bound(
        "D-SGD with noise, strongly convex",
        "E F(mean x) - min F",
        46.0,
        lambda t: scape.mean_smoothness / 2 * (q**t * scape.distance**2 + push * geometric(q, t)),
        lambda record: Observation(record["excess"].values),
    )


class _Noise(Gossip):
    """What both bounds share."""

    def __init__(self, case: Case, batch_size: int) -> None:
        super().__init__(case)
        self.case, self.batch_size = case, batch_size
        scape = case.landscape
        self.variance, self.ell = scape.batch_variance(batch_size), scape.point_smoothness
        p = max(self.p, 1e-300)
        self.spread = 6 * scape.heterogeneity / p**2 + 2 * self.variance / p

    def bound(
        self, name: str, quantity: str, times: float, at: Callable, observe: Callable[..., Any]
    ) -> Bound:
        scape = self.case.landscape
        slope = times * np.sqrt(self.order * self.L * self.ell)
        limit = min(1 / (4 * self.L), scape.agents / (32 * self.ell))
        step = bounds.step_up_to(
            self.case,
            min(limit, self.p / slope if slope else np.inf),
            f"min(1/(4 L), m/(32 ell), p/({times:g} sqrt(order L ell)))",
        )
        known = bounds.Assumption("sigma^2 at x*", True, f"sigma^2 = {self.variance:.4g}")
        return Bound(
            name,
            quantity,
            "as in Koloskova et al. 2020, Theorem 2; constants ours",
            (bounds.squared_error(self.case), *self.common, known, step),
            at,
            observe,
            self.case,
            batch_size=self.batch_size,
        )


def _running_mean(record: Record) -> Observation:
    """1/T times the sum over the recorded rounds before T."""
    values: Float[np.ndarray, " rounds"] = record["excess"].values
    before = np.concatenate([[0.0], np.cumsum(values)[:-1]])
    return Observation(before / np.maximum(record["round"].values, 1))
