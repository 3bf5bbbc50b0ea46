"""Gaps: how far apart two runs are, as shares of what there was to tell.

With m = mean_i f_i the mean agent, and d_i = f_i - m what agent i is beside it,

    gap_i            |f_i_predicted - f_i_observed| / |f_i_observed - f(theta_0)|
    common_gap       |m_predicted - m_observed| / |m_observed - f(theta_0)|
    deviation_gap_i  |d_i_predicted - d_i_observed| / |d_i_observed|

over points and outputs, or over parameters. All agents travel nearly the same way, whatever the
graph and the method, so that these hardly show in `gap`; what they make of each agent is d_i, and
`deviation_share` is its size, |d_i_observed| / |f_i_observed - f(theta_0)|. Where that is below
`FLOOR` the agent hardly differs, and its deviation gap is NaN. `deviation_gap_of_all` is that of
all agents together, root of sums of squares over root of sums of squares: an agent that is next to
the mean by its place, as the hub of a star, does not decide it. Gaps are zero where nothing has
moved, and infinite where either side has run out of numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from ntkdyn.records import Record

FLOOR = 1e-3
"""Share of the distance travelled under which a deviation is not judged: rounding to float32
alone moves outputs by up to 1e-5 of that distance, hence such a deviation by a hundredth."""

Pair = tuple[xr.DataArray, xr.DataArray]
"""what is apart, and what it is a share of"""


def pairs(apart: xr.DataArray, moved: xr.DataArray, agent: str = "agent") -> dict[str, Pair]:
    """gap, common_gap, deviation_gap: the vectors whose norms they are the ratios of."""
    parts: dict[str, Callable[[xr.DataArray], xr.DataArray]] = {
        "gap": lambda values: values,
        "common_gap": lambda values: values.mean(agent, skipna=False),
        "deviation_gap": lambda values: values - values.mean(agent, skipna=False),
    }
    return {name: (part(apart), part(moved)) for name, part in parts.items()}


def of_outputs(
    one: xr.DataArray, other: xr.DataArray, observed: Record, points=slice(None)
) -> dict[str, xr.DataArray]:
    """The three gaps between outputs (round, agent, point, output), and `deviation_share`.

    All in shares of what was observed, whether `other` is that or not.
    """
    apart = one[:, :, points].astype(np.float64) - other[:, :, points]
    seen = observed["outputs"][:, :, points].astype(np.float64)
    known = pairs(apart, seen - observed["initial_outputs"].isel(point=points))
    return told({name: (norm(a), norm(b)) for name, (a, b) in known.items()})


def told(norms: dict[str, Pair], agent: str = "agent") -> dict[str, xr.DataArray]:
    """The ratios of the pairs of norms, and how much of the way the deviations are."""
    found = {name: ratio(*each) for name, each in norms.items()}
    if "deviation_gap" not in norms:
        return found
    apart, own, moved = *norms["deviation_gap"], norms["gap"][1]
    rows = {"deviation_gap": (apart, own, moved)}
    rows["deviation_gap_of_all"] = tuple(_together(each, agent) for each in rows["deviation_gap"])
    judged = {name: _judged(*row) for name, row in rows.items()}
    return found | judged | {"deviation_share": ratio(own, moved)}


def _judged(apart: xr.DataArray, own: xr.DataArray, moved: xr.DataArray) -> xr.DataArray:
    """apart / own, where that is more than the floor of what has moved."""
    gap = ratio(apart, own)
    return gap.where((ratio(own, moved) > FLOOR) | np.isinf(gap))


def _together(norms: xr.DataArray, agent: str) -> xr.DataArray:
    with np.errstate(over="ignore"):
        return np.sqrt((norms**2).sum(agent, skipna=False))


def norm(values: xr.DataArray) -> xr.DataArray:
    """Over points and outputs."""
    with np.errstate(over="ignore"):
        return np.sqrt((values.astype(np.float64) ** 2).sum(("point", "output"), skipna=False))


def ratio(part: xr.DataArray, whole: xr.DataArray) -> xr.DataArray:
    """part / whole: zero where the whole is, infinite where either is no number."""
    share = xr.where(whole > 0, part / xr.where(whole > 0, whole, 1), 0.0)
    return xr.where(np.isfinite(part) & np.isfinite(whole), share, np.inf)


def along(outputs: xr.DataArray, observed: Record) -> xr.DataArray:
    """d_i(t) along d_i_observed(T), the last one, as a share of the distance travelled until T.

    One signed number per round and agent: where a prediction's curve lies on what was observed, it
    has the agent differ from the mean as much, and in the same way.
    """
    own = lambda values: values - values.mean("agent", skipna=False)
    moved = observed["outputs"].isel(round=-1).astype(np.float64) - observed["initial_outputs"]
    end, now = own(moved), own(outputs - observed["initial_outputs"])
    return ratio((now * end).sum(("point", "output"), skipna=False), norm(end) * norm(moved))
