"""Every agent's expected test loss at any round, from spectrum, target, graph and counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Complex, Float

from ntkdyn import arrays, graphs, precision
from ntkdyn.dynamics.loops import Loop, loops_on
from ntkdyn.dynamics.stability import known_step
from ntkdyn.errors import InputError, check_whole, is_real, shown
from ntkdyn.graphs import MixingMatrix, MixingSequence
from ntkdyn.methods import Method
from ntkdyn.methods.mixing import operator_of
from ntkdyn.records import Record
from ntkdyn.theory.learning_curves.circle import HALVINGS, NODES, Circle
from ntkdyn.theory.learning_curves.equivalents import Medium, OnePoint, Unstable, two_points
from ntkdyn.theory.learning_curves.modes import Modes, checked
from ntkdyn.theory.learning_curves.skewed import Moments, few, medium_of, moments_of

PARTS = ("bias", "sampling", "label_noise")
"""what the test loss is the sum of"""

NEXT_TO_ONE = 1e-8
"""z - 1 at which limits are read, and at twice that"""

BEFORE = (-1.0, -2.0)
"""rounds before the first, in which nothing happens where rounds are stable"""

GROWN = 1e-6
"""What is found there at most, as a share of the loss at the start."""

GROWN_AT_FIRST = 1e-3
"""the same of the mean iterate, before the circle resolves all"""

SHORTEST = 8.0
"""rounds that a circle is made for at least"""

ROWS = 64
"""nodes that are paired with all others at a time"""


@precision.in_double
def learning_curve(
    spectrum: Any,
    target: Any,
    method: Method,
    weights: Any,
    counts: Any,
    rounds: Any,
    *,
    noise: float = 0.0,
    ridge: float = 0.0,
    tail: float | None = None,
    test: tuple[Any, Any] | None = None,
) -> Record:
    """E |f_i(x) - f*(x)|^2 / 2 of every agent i, over its draws of points, label noise and x.

    Inputs have features phi_k with E phi_k phi_l = lambda_k delta_kl, as if Gaussian; the model is
    linear in them and starts at zero; f* = sum_k a_k phi_k / sqrt(lambda_k); agent i learns from
    n_i points. All points in each round, squared error (`losses`).

    The equations are those of `equivalents`, time comes from `circle`. What they leave out falls
    like one over the counts; that features are as if Gaussian is an assumption on real data.

    Args:
        spectrum: lambda_k >= 0, the largest first, (modes,); or (agents, modes), each agent's own,
            of features that all of them have in common (covariate shift); or (agents, modes,
            modes), E phi phi' of each agent's, where means or directions differ (label skew).
        target: a_k, (modes,) or (modes, outputs); each agent's own (agents, modes[, outputs]) where
            the spectrum is. sum_k a_k^2 is the mean square of f*. With second moments theta_k, f* =
            sum_k theta_k phi_k, whatever the agent.
        method: with a step size, of which one round is one linear map.
        weights: W, directed or not.
        counts: n_i, (agents,).
        rounds: whole numbers from 0 on, or `math.inf`.
        noise: sigma, the standard deviation of every label's noise, in each output.
        ridge: rho, of rho |theta|^2 / 2 in every agent's loss.
        tail: the sum of the eigenvalues that are not given, of modes without target; must be said
            where fewer are given than there are points (0: there are no others).
        test: spectrum, or second moment, and target that the loss is measured on, where agents have
            their own.

    Returns:
        Over `round` and `agent`: `test_loss`, without the label noise of test points, and what it
        is the sum of: `bias` (the loss of the mean iterate over all draws), `sampling` (the spread
        over draws of points, as it were without label noise), `label_noise`; `graph_cost`, the
        `test_loss` minus that on the complete graph, W_ij = 1/m (NaN where that is not stable);
        over `round` `mean_test_loss`, of the average of all agents' iterates. Attributes:
        `residual` of the fixed point on all eigenvalues, `nodes` on the circle.

    Raises:
        InputError: for spectra that are negative or not sorted, too few eigenvalues, step sizes
            that are not stable, a fixed point that does not settle, methods without a closed form.

    Example:
        >>> modes, shares = 1 / np.arange(1, 9) ** 2, np.ones(8)
        >>> told = nd.theory.learning_curve(modes, shares, dgd, W, [20] * 3, [0, 40], tail=0.0)
        >>> bool((told["test_loss"][1] < told["test_loss"][0]).all())
        True
    """
    asked, weights = question(
        spectrum, target, method, weights, counts, rounds,
        noise=noise, ridge=ridge, tail=tail, test=test,
    )  # fmt: skip
    curve = asked.of(method, weights)
    cost = curve.whole - asked.on_the_complete_graph(method, weights, curve)
    return _record(curve, cost, asked, method, noise)


class Curve(NamedTuple):
    """Losses over rounds and outputs: all agents, then their average."""

    parts: Float[np.ndarray, "parts rounds outputs"]
    residual: float
    nodes: int

    @property
    def whole(self) -> Float[np.ndarray, "rounds outputs"]:
        """Their sum."""
        return self.parts.sum(axis=0)


class Question(NamedTuple):
    """What curves are asked for, of any method on any graph of so many agents."""

    modes: Modes | Moments
    counts: Float[np.ndarray, " agents"]
    rounds: Float[np.ndarray, " rounds"]
    variance: float
    """of the label noise, of all outputs together"""
    ridge: float

    def losses(self, method: Method, weights: MixingMatrix) -> Float[np.ndarray, "rounds agents"]:
        """Test losses alone."""
        return self.of(method, weights).whole[:, :-1]

    def of(self, method: Method, weights: MixingMatrix) -> Curve:
        """The curve of a method on a graph."""
        loop, agents = _loop(method, weights, self.ridge), len(self.counts)
        readout = np.concatenate([np.eye(agents), np.full((1, agents), 1 / agents)])
        medium = medium_of(few(self.modes), loop, readout, self.counts)
        finite = np.isfinite(self.rounds)
        parts = np.empty((len(PARTS), len(self.rounds), agents + 1))
        try:
            circle, known = _resolved(medium, max(self.rounds[finite], default=0.0))
            parts[:, finite] = self._at(medium, circle, known, self.rounds[finite])
        except Unstable as error:
            raise Unstable(
                f"step size: {float(method.step_size):g} of {method.name} is not stable on these "
                f"weights and counts ({error}); take a smaller one"
            ) from None
        if not finite.all():
            parts[:, ~finite] = self._scaled(_limit(medium))[:, None]
        whole = medium_of(self.modes, loop, readout, self.counts)
        residual = max(
            known.residual, whole.residual(circle.shifts[::NODES], known.shares[::NODES])
        )
        return Curve(parts, residual, 2 * len(circle.shifts))

    def on_the_complete_graph(
        self, method: Method, weights: MixingMatrix, curve: Curve
    ) -> Float[np.ndarray, "rounds outputs"]:
        """The losses there; NaN where the step is not stable."""
        uniform = np.full(weights.matrix.shape, 1 / weights.agents)
        if np.allclose(weights.matrix, uniform, rtol=0, atol=graphs.ROUNDING):
            return curve.whole
        try:
            return self.of(method, MixingMatrix(uniform, "complete", weights.sums)).whole
        except Unstable:
            return np.full_like(curve.whole, np.nan)

    def _at(
        self, medium: Medium, circle: Circle, known: OnePoint, rounds: np.ndarray
    ) -> Float[np.ndarray, "parts rounds outputs"]:
        """The parts in these rounds, once nothing is found before the first."""
        found = self._scaled(_in_rounds(medium, circle, known, [*BEFORE, *rounds]))
        start = self.modes.test_weights @ np.square(self.modes.test_targets).sum(axis=1)
        _check_before(found[:, : len(BEFORE)], GROWN * max(start, self.variance))
        return found[:, len(BEFORE) :]

    def _scaled(self, parts: np.ndarray) -> np.ndarray:
        """Halves of squares, with the noise's own variance."""
        scale = np.array([0.5, 0.5, 0.5 * self.variance])
        return parts * scale.reshape(-1, *[1] * (parts.ndim - 1))


def _loop(method: Method, weights: MixingMatrix, ridge: float) -> Loop:
    """One round, with the ridge's own gradient fed back."""
    loops = loops_on(method, operator_of(weights.matrix), weights.agents)
    if len(loops) != 1 or not method.affine:
        raise InputError(
            f"{method.name}: has no learning curve, as its rounds are not one and the same map"
        )
    (loop,) = loops
    return loop._replace(P=loop.P + ridge * loop.Q @ loop.R).moving


def _resolved(medium: Medium, last: float) -> tuple[Circle, OnePoint]:
    """A circle for rounds up to `last` on which all responses are resolved, and these."""
    circle = Circle.up_to(max(last, SHORTEST))
    for halving in range(HALVINGS + 1):
        known = medium.at(circle.shifts)
        moving = _mean(circle.weights(np.array([*BEFORE, 0.0])), circle, known)
        *before, start = _squared(medium, moving)
        _check_before(before, GROWN_AT_FIRST * start.max())
        responses = _driven(circle, known.at_iterates), known.moved
        resolved = circle.resolved(
            np.concatenate([each.reshape(len(each), -1) for each in responses], axis=1)
        )
        if resolved.all() or halving == HALVINGS:
            break
        circle = circle.halved(~resolved)
    return circle, known


def _driven(circle: Circle, values: np.ndarray) -> np.ndarray:
    """Times z / (z - 1): the target is there from the first round on."""
    step = (1 + circle.shifts) / circle.shifts
    return step.reshape(-1, *[1] * (values.ndim - 1)) * values


def _in_rounds(
    medium: Medium, circle: Circle, known: OnePoint, rounds: Sequence[float]
) -> Float[np.ndarray, "parts rounds outputs"]:
    """Bias, sampling and noise, not halved and for a variance of one, by the contour."""
    weights = circle.weights(np.asarray(rounds))
    mean = _mean(weights, circle, known)
    driven = weights * (1 + circle.shifts) / circle.shifts
    mirrored = OnePoint(*map(np.conj, known))
    added = np.zeros((2, len(weights), known.at_iterates.shape[2]))
    for first in range(0, len(known.shares), ROWS):
        rows = slice(first, first + ROWS)
        left = OnePoint(*(each[rows] for each in known[:-1]), known.residual)
        for right, by in ((known, driven), (mirrored, driven.conj())):
            pairs = np.stack(two_points(medium, left, right))
            added += 2 * _paired(driven[:, rows], by, pairs).real
    return np.concatenate([_squared(medium, mean)[None], added])


def _mean(
    weights: Complex[np.ndarray, "rounds nodes"], circle: Circle, known: OnePoint
) -> Float[np.ndarray, "rounds modes outputs columns"]:
    """The error of the mean iterate."""
    return 2 * np.einsum("tz,zkoc->tkoc", weights, _driven(circle, known.at_iterates)).real


def _check_before(found: Any, most: float) -> None:
    """Refuse what moves before the first round: it is what singularities outside the circle do."""
    if not np.abs(found).max() <= most:
        raise Unstable("errors grow from round to round")


def _paired(left: np.ndarray, right: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """sum_zw left_tz right_tw pairs_pzwo."""
    return np.einsum("tz,ptzo->pto", left, np.einsum("tw,pzwo->ptzo", right, pairs, optimize=True))


def _limit(medium: Medium) -> Float[np.ndarray, "parts outputs"]:
    """The same for t to infinity: (z - 1) (z' - 1) times the transform, from z = 1 + epsilon."""
    known = medium.at(np.array([1.0, 2.0], complex) * NEXT_TO_ONE)
    added = [np.einsum("zzo->zo", each) for each in two_points(medium, known, known)]
    parts = np.stack([_squared(medium, known.at_iterates.real), *np.real(added)])
    return 2 * parts[:, 0] - parts[:, 1]


def _squared(medium: Medium, mean: Float[np.ndarray, "rows modes outputs columns"]) -> np.ndarray:
    """The test error of the mean iterate."""
    return np.einsum("k,tkoc->to", medium.modes.test_weights, mean**2)


def _record(
    curve: Curve, cost: np.ndarray, asked: Question, method: Method, noise: float
) -> Record:
    over, rounds, whole = ("round", "agent"), asked.rounds, curve.whole
    parts = {name: (over, part[:, :-1]) for name, part in zip(PARTS, curve.parts, strict=True)}
    return xr.Dataset(
        {
            "test_loss": (over, whole[:, :-1]),
            **parts,
            "graph_cost": (over, cost[:, :-1]),
            "mean_test_loss": ("round", whole[:, -1]),
            "points": ("agent", asked.counts.astype(int)),
        },
        {"round": rounds.astype(int) if np.isfinite(rounds).all() else rounds},
        {
            "method": method.name,
            "step_size": float(method.step_size),
            "noise": float(noise),
            "ridge": float(asked.ridge),
            "residual": curve.residual,
            "nodes": curve.nodes,
        },
    )


# --- the door ---------------------------------------------------------------------------------


def question(
    spectrum: Any, target: Any, method: Method, weights: Any, counts: Any, rounds: Any, *,
    noise: float = 0.0, ridge: float = 0.0, tail: float | None = None, test: Any = None,
) -> tuple[Question, MixingMatrix]:  # fmt: skip
    """What was given to `learning_curve`, checked."""
    counts, rounds = _counts(counts), _rounds(rounds)
    weights = _weights(weights, method, len(counts))
    for name, value in (("noise", noise), ("ridge", ridge)):
        _check_level(name, value)
    if np.ndim(spectrum) == 3:
        modes = moments_of(spectrum, target, len(counts), tail, test)
        outputs = modes.target.shape[1]
    else:
        modes, outputs = checked(spectrum, target, counts, tail, test)
    return Question(modes, counts, rounds, noise**2 * outputs, float(ridge)), weights


def _weights(weights: Any, method: Method, agents: int) -> MixingMatrix:
    method = known_step(method)
    method.check_update()
    sums = "columns" if method.needs.columns else "rows"
    checked = graphs.mixing(weights, agents=agents, sums=sums)
    if isinstance(checked, MixingSequence):
        raise InputError("learning curve: needs one mixing matrix, got a sequence of them")
    method.check_weights(checked)
    return checked


def _counts(counts: Any) -> Float[np.ndarray, " agents"]:
    given = arrays.plain("counts", counts)
    if given.ndim != 1 or not given.size:
        raise InputError(f"counts: must be one number of points per agent, got {shown(counts)}")
    return np.array([check_whole("counts: each", each, 1) for each in given], float)


def _rounds(rounds: Any) -> Float[np.ndarray, " rounds"]:
    given = arrays.plain("rounds", rounds)
    known = arrays.real("rounds", given).astype(float) if given.ndim == 1 and given.size else None
    if known is None or not ((known >= 0) & ((known == np.inf) | (known == np.floor(known)))).all():
        raise InputError(
            f"rounds: must be a list of whole numbers from 0 on, or infinite, got {shown(rounds)}"
        )
    return known


def _check_level(name: str, value: Any) -> None:
    if not is_real(value) or not 0 <= value < math.inf:
        raise InputError(f"{name}: must be a finite number from 0 on, got {shown(value)}")
