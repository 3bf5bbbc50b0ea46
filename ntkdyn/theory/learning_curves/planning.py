"""What follows from learning curves: when to stop, how many samples, which split, which step.

All take what `learning_curve` takes; `settings` are its noise, ridge and tail. Losses are expected
test losses, of every agent or in the mean over agents where one number is to be least.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.optimize
import xarray as xr
from jaxtyping import Float, Int

from ntkdyn import graphs, precision
from ntkdyn.errors import InputError, check_whole
from ntkdyn.methods import Method
from ntkdyn.records import Record
from ntkdyn.theory.learning_curves.curves import Question, question
from ntkdyn.theory.learning_curves.equivalents import Unstable

PRECISELY = 1e-4
"""To what share of itself a number of points or a step size is found."""

LOOKED_AT = 100
"""rounds between the first and the last that are looked at first, evenly in their logarithm"""

BAD = 10.0
"""What counts as the loss of an unstable split, in units of that of the even one."""

MOST_TIMES = 1e3
"""How many times as many points are looked for at most."""


@precision.in_double
def best_rounds(
    spectrum: Any, target: Any, method: Method, weights: Any, counts: Any, last: int,
    **settings: Any,
) -> Record:  # fmt: skip
    """argmin_t of every agent's loss over rounds 0 to `last`.

    Among about a hundred rounds, then among those next to the best of them; where a curve has
    several dips, one of the deepest seen so.

    Args:
        spectrum: lambda_k, as for `learning_curve`.
        target: a_k.
        method: with a step size, of which one round is one linear map.
        weights: W.
        counts: n_i, (agents,).
        last: the last round that is looked at.
        settings: noise, ridge and tail of `learning_curve`.

    Returns:
        Over `agent`: `best_round`, `best_loss`, `last_loss`.

    Raises:
        InputError: as for `learning_curve`.

    Example:
        >>> modes, shares, noisy = 1 / np.arange(1, 9) ** 2, np.ones(8), {"noise": 1.0, "tail": 0.0}
        >>> stop = nd.theory.learning_curves.best_rounds(
        ...     modes, shares, dgd, W, [9] * 3, 1000, **noisy)
        >>> bool((stop["best_loss"] <= stop["last_loss"]).all())
        True
    """
    last = check_whole("last round:", last, 1)
    rounds = np.unique(np.geomspace(1, last, LOOKED_AT).astype(int))
    asked, weights = question(
        spectrum, target, method, weights, counts, [0, *rounds.tolist()], **settings
    )
    first = asked.losses(method, weights)
    near = _next_to(asked.rounds, first.argmin(axis=0))
    second = asked._replace(rounds=near).losses(method, weights)
    over = {"best_round": near[second.argmin(axis=0)].astype(int), "best_loss": second.min(axis=0)}
    over["last_loss"] = first[-1]
    return xr.Dataset({name: ("agent", each) for name, each in over.items()})


def _next_to(rounds: np.ndarray, best: np.ndarray) -> Float[np.ndarray, " rounds"]:
    """A hundred rounds at most between those before and after each of the best."""
    spans = {(max(each - 1, 0), min(each + 1, len(rounds) - 1)) for each in best.tolist()}
    between = [np.linspace(rounds[low], rounds[high], LOOKED_AT).astype(int) for low, high in spans]
    return np.unique(np.concatenate([*between, rounds[best]])).astype(float)


@precision.in_double
def best_step_size(
    spectrum: Any, target: Any, method: Method, weights: Any, counts: Any, round: int,
    **settings: Any,
) -> tuple[float, float]:  # fmt: skip
    """argmin_eta of the mean loss over agents in that round, and the loss.

    Found from the method's own step size on, by factors of two and then between them to 1 %: a
    local minimum, at most the largest stable step.

    Args:
        spectrum: lambda_k, as for `learning_curve`.
        target: a_k.
        method: with a step size, of which one round is one linear map.
        weights: W.
        counts: n_i, (agents,).
        round: the round.
        settings: noise, ridge and tail of `learning_curve`.

    Returns:
        The step size, and the loss there.

    Raises:
        InputError: as for `learning_curve`.

    Example:
        >>> modes, shares = 1 / np.arange(1, 9) ** 2, np.ones(8)
        >>> step, loss = nd.theory.learning_curves.best_step_size(
        ...     modes, shares, dgd, W, [20] * 3, 10, tail=0.0)
        >>> step > 0.1
        True
    """
    asked, weights = question(spectrum, target, method, weights, counts, [round], **settings)
    own = float(method.step_size)

    def loss(log_step: float) -> float:
        try:
            stepped = method.with_step_size(float(own * np.exp(log_step)))
            return float(np.log(asked.losses(stepped, weights).mean()))
        except Unstable:
            return np.inf

    best, least = 0.0, loss(0.0)
    for apart in (np.log(2), -np.log(2)):
        while (there := loss(best + apart)) < least and abs(best) < np.log(MOST_TIMES):
            best, least = best + apart, there
    found = scipy.optimize.minimize_scalar(
        loss, bounds=(best - np.log(2), best + np.log(2)), method="bounded", options={"xatol": 0.01}
    )
    return float(own * np.exp(found.x)), float(np.exp(found.fun))


@precision.in_double
def best_split(
    spectrum: Any, target: Any, method: Method, weights: Any, points: int, round: int,
    **settings: Any,
) -> tuple[Int[np.ndarray, " agents"], float]:  # fmt: skip
    """argmin of the mean loss over agents in that round, n_1 + ... + n_m = `points`; and the loss.

    By sequential quadratic programming on real n_i >= 1 from even shares, then rounded so that
    their sum stays; a local minimum. Splits on which the step size is not stable count as bad.

    Args:
        spectrum: lambda_k, as for `learning_curve`.
        target: a_k.
        method: with a step size, of which one round is one linear map.
        weights: W.
        points: n_1 + ... + n_m.
        round: the round.
        settings: noise, ridge and tail of `learning_curve`.

    Returns:
        n_i, (agents,), and the loss.

    Raises:
        InputError: as for `learning_curve`.

    Example:
        >>> modes, shares = 1 / np.arange(1, 5) ** 2, np.ones(4)
        >>> counts, loss = nd.theory.learning_curves.best_split(
        ...     modes, shares, dgd, W, 30, 5, tail=0.0)
        >>> int(counts.sum())
        30
    """
    matrix = graphs.mixing(weights)
    agents = matrix.agents
    points = check_whole("points:", points, agents)
    even = np.full(agents, points // agents) + (np.arange(agents) < points % agents)
    asked, weights = question(spectrum, target, method, matrix, even.tolist(), [round], **settings)

    def loss(shares: np.ndarray) -> float:
        return float(asked._replace(counts=shares * points).losses(method, weights).mean())

    start = even / points
    evenly = loss(start)

    def share(shares: np.ndarray) -> float:
        try:
            return loss(shares) / evenly
        except Unstable:
            return BAD

    found = scipy.optimize.minimize(
        share, start, method="SLSQP",
        bounds=[(1 / points, 1)] * agents, options={"ftol": 1e-7, "eps": 1e-4},
        constraints={"type": "eq", "fun": lambda shares: shares.sum() - 1},
    )  # fmt: skip
    counts = _whole(found.x * points, points)
    return counts, loss(counts / points)


def _whole(counts: np.ndarray, points: int) -> Int[np.ndarray, " agents"]:
    """Whole numbers of that sum, by largest remainders, each one at least."""
    rounded = np.maximum(np.floor(counts), 1).astype(int)
    order = np.argsort(rounded - counts)
    rounded[order[: points - rounded.sum()]] += 1
    return rounded


@precision.in_double
def effective_agents(
    spectrum: Any, target: Any, method: Method, weights: Any, counts: Any, round: int,
    **settings: Any,
) -> Float[np.ndarray, " agents"]:  # fmt: skip
    """k_i such that agent i's loss in that round is that of one agent alone with k_i n points.

    n is the mean of the counts, so that k = m for agents that are as good as one with all points.

    Args:
        spectrum: lambda_k, as for `learning_curve`.
        target: a_k.
        method: with a step size, of which one round is one linear map.
        weights: W.
        counts: n_i, (agents,).
        round: the round.
        settings: noise, ridge and tail of `learning_curve`.

    Returns:
        k_i, (agents,); NaN where no number of points up to a thousand times n brings one agent
        alone to that loss.

    Raises:
        InputError: as for `learning_curve`.

    Example:
        >>> modes, shares = 1 / np.arange(1, 9) ** 2, np.ones(8)
        >>> found = nd.theory.learning_curves.effective_agents(
        ...     modes, shares, dgd, W, [20] * 3, 40, tail=0.0)
        >>> bool((found > 1).all() and (found < 3.01).all())
        True
    """
    asked, weights = question(spectrum, target, method, weights, counts, [round], **settings)
    losses, mean = asked.losses(method, weights)[0], float(asked.counts.mean())
    alone, _ = question(
        spectrum, target, method, graphs.isolated(1), [int(asked.counts.sum())], [round], **settings
    )
    one = _of_points(alone, method, graphs.isolated(1))
    return np.array([_points_for(float(each), one, mean) / mean for each in losses])


@precision.in_double
def price_in_samples(
    spectrum: Any, target: Any, method: Method, weights: Any, points: int, round: int,
    **settings: Any,
) -> float:  # fmt: skip
    """n'/n: with n' points each on this graph the mean loss is that of n each on the complete one.

    Args:
        spectrum: lambda_k, as for `learning_curve`.
        target: a_k.
        method: with a step size, of which one round is one linear map.
        weights: W.
        points: n, of each agent.
        round: the round.
        settings: noise, ridge and tail of `learning_curve`.

    Returns:
        n'/n; NaN where no n' up to a thousand n makes up for the graph.

    Raises:
        InputError: as for `learning_curve`.

    Example:
        >>> modes, shares = 1 / np.arange(1, 9) ** 2, np.ones(8)
        >>> path = nd.graphs.metropolis(nd.graphs.path(3))
        >>> nd.theory.learning_curves.price_in_samples(
        ...     modes, shares, dgd, path, 20, 40, tail=0.0) > 1
        True
    """
    matrix = graphs.mixing(weights)
    counts = [check_whole("points:", points, 1)] * matrix.agents
    asked, weights = question(spectrum, target, method, matrix, counts, [round], **settings)
    complete = graphs.metropolis(graphs.complete(matrix.agents))
    goal = float(asked.losses(method, complete).mean())
    return _points_for(goal, _of_points(asked, method, weights), float(points)) / points


def _of_points(asked: Question, method: Method, weights: Any) -> Callable[[float], float]:
    """The mean loss in the one round, with so many points for each agent."""

    def loss(points: float) -> float:
        counts = np.full(len(asked.counts), points)
        return float(asked._replace(counts=counts).losses(method, weights).mean())

    return loss


def _points_for(goal: float, loss: Callable[[float], float], about: float) -> float:
    """n with loss(n) = goal, by bisection from `about`; NaN where there is none."""
    apart = lambda log_points: np.log(loss(float(np.exp(log_points))) / goal)
    low = high = float(np.log(about))
    while apart(high) > 0 and high < np.log(about * MOST_TIMES):
        high += np.log(2)
    while apart(low) < 0 and low > 0:
        low -= np.log(2)
    if apart(low) < 0 or apart(high) > 0:
        return np.nan
    found = scipy.optimize.brentq(apart, low, high, xtol=PRECISELY) if low < high else low
    return float(np.exp(found))


@precision.in_double
def against_samples(
    spectrum: Any, target: Any, method: Method, topologies: Mapping[str, Any],
    points: Sequence[int], round: int, **settings: Any,
) -> Record:  # fmt: skip
    """The mean loss over agents in that round, (`graph`, `points`), with so many points each.

    Args:
        spectrum: lambda_k, as for `learning_curve`.
        target: a_k.
        method: with a step size, of which one round is one linear map.
        topologies: name -> W.
        points: of each agent, in turn.
        round: the round.
        settings: noise, ridge and tail of `learning_curve`.

    Returns:
        `test_loss` (graph, points).

    Raises:
        InputError: as for `learning_curve`.

    Example:
        >>> modes, shares = 1 / np.arange(1, 9) ** 2, np.ones(8)
        >>> seen = nd.theory.learning_curves.against_samples(
        ...     modes, shares, dgd, {"ring": W}, [10, 20], 40, tail=0.0)
        >>> bool((seen["test_loss"][:, 1] < seen["test_loss"][:, 0]).all())
        True
    """
    if not topologies:
        raise InputError("topologies: must name at least one mixing matrix")
    rows = []
    for weights in topologies.values():
        matrix = graphs.mixing(weights)
        asked, checked = question(
            spectrum, target, method, matrix, [max(points)] * matrix.agents, [round], **settings
        )
        loss = _of_points(asked, method, checked)
        rows.append([loss(float(check_whole("points: each", each, 1))) for each in points])
    return xr.Dataset(
        {"test_loss": (("graph", "points"), np.array(rows))},
        {"graph": list(topologies), "points": list(points)},
        {"method": method.name, "step_size": float(method.step_size), "round": round},
    )
