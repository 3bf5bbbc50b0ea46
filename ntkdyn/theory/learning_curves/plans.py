"""What follows from learning curves, as records that figures are drawn from: `PLANS`, by name.

All take what `learning_curve` takes, and its noise, ridge and tail; "the end" is the last round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ntkdyn import graphs
from ntkdyn.methods import Method
from ntkdyn.records import Record
from ntkdyn.theory.learning_curves.curves import learning_curve, question
from ntkdyn.theory.learning_curves.equivalents import Unstable
from ntkdyn.theory.learning_curves.planning import (
    best_rounds,
    best_split,
    best_step_size,
    effective_agents,
    price_in_samples,
)

STEPS = 2.0 ** np.arange(-4.5, 3, 0.5)
"""step sizes looked at, in units of the method's own"""

MOMENTS = 5
"""rounds at which prices are asked, evenly in their logarithm"""


def losses(
    spectrum: Any, target: Any, method: Method, weights: Any, counts: Any, rounds: Any,
    **settings: Any,
) -> Record:  # fmt: skip
    """The curve itself."""
    return learning_curve(spectrum, target, method, weights, counts, rounds, **settings)


def stopping(
    spectrum: Any, target: Any, method: Method, weights: Any, counts: Any, rounds: Sequence[int],
    **settings: Any,
) -> Record:  # fmt: skip
    """`test_loss` (round, agent), and every agent's `best_round` and `best_loss`."""
    given = spectrum, target, method, weights, counts
    curve = learning_curve(*given, rounds, **settings)
    best = best_rounds(*given, int(rounds[-1]), **settings)
    return xr.merge([curve[["test_loss", "points"]], best]).assign_attrs(curve.attrs)


def split(
    spectrum: Any, target: Any, method: Method, weights: Any, counts: Any, rounds: Sequence[int],
    **settings: Any,
) -> Record:  # fmt: skip
    """The `best_points` of every agent at the end, of as many in all as its `points`."""
    given = spectrum, target, method, weights
    best, least = best_split(*given, int(sum(counts)), int(rounds[-1]), **settings)
    asked, matrix = question(*given, counts, [rounds[-1]], **settings)
    return xr.Dataset(
        {"points": ("agent", np.array(counts, int)), "best_points": ("agent", best)},
        attrs=_about(method, rounds)
        | {"loss": float(asked.losses(method, matrix).mean()), "best_loss": least},
    )


def profit(
    spectrum: Any, target: Any, method: Method, weights: Any, counts: Any, rounds: Sequence[int],
    **settings: Any,
) -> Record:  # fmt: skip
    """From how many agents' points every agent profits at the end: `effective_agents`."""
    given = spectrum, target, method, weights, counts, int(rounds[-1])
    return xr.Dataset(
        {"effective_agents": ("agent", effective_agents(*given, **settings))},
        attrs=_about(method, rounds),
    )


def steps(
    spectrum: Any, target: Any, method: Method, weights: Any, counts: Any, rounds: Sequence[int],
    **settings: Any,
) -> Record:  # fmt: skip
    """The mean loss at the end by step size, NaN where unstable, and the `best_step_size`."""
    given, last = (spectrum, target, method, weights, counts), int(rounds[-1])
    best, least = best_step_size(*given, last, **settings)
    asked, matrix = question(*given, [last], **settings)
    sizes = float(method.step_size) * STEPS

    def loss(step: float) -> float:
        try:
            return float(asked.losses(method.with_step_size(step), matrix).mean())
        except Unstable:
            return np.nan

    return xr.Dataset(
        {
            "mean_test_loss": ("step_size", [loss(float(step)) for step in sizes]),
            "best_step_size": best,
            "best_loss": least,
        },
        {"step_size": sizes},
        _about(method, rounds),
    )


def price(
    spectrum: Any, target: Any, method: Method, weights: Any, counts: Any, rounds: Sequence[int],
    **settings: Any,
) -> Record:  # fmt: skip
    """How many times as many points make up for the graph, by round, and for no graph at all.

    Of agents that have equally many points; NaN where no number of points does.
    """
    matrix, points = graphs.mixing(weights), max(1, round(np.mean(counts)))
    asked = np.unique(np.geomspace(2, max(rounds[-1], 2), MOMENTS).astype(int)).tolist()
    compared = {"this graph": matrix, "unlinked": graphs.isolated(matrix.agents)}
    found = [
        [price_in_samples(spectrum, target, method, W, points, t, **settings) for t in asked]
        for W in compared.values()
    ]
    return xr.Dataset(
        {"price": (("graph", "round"), np.array(found))},
        {"graph": list(compared), "round": asked},
        _about(method, rounds) | {"points": points},
    )


def _about(method: Method, rounds: Sequence[int]) -> dict[str, Any]:
    return {
        "method": method.name,
        "step_size": float(method.step_size),
        "last_round": int(rounds[-1]),
    }


PLANS: dict[str, Callable[..., Record]] = {
    "losses": losses, "stopping": stopping, "split": split, "profit": profit, "steps": steps,
    "price": price,
}  # fmt: skip
"""what `ntkdyn curve --what` takes"""
