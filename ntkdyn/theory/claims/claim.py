"""What a claim is, and whether it holds: a power law, fitted on every one of random problems."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
import xarray as xr
from jaxtyping import Float

from ntkdyn import precision
from ntkdyn.errors import InputError, check_whole, is_real, shown
from ntkdyn.records import Record
from ntkdyn.theory.claims.problems import SIZES, Drawn
from ntkdyn.validation.widths import fitted

WITHIN = 0.15
"""How far a slope may be from what is claimed: a half is the next law."""

BY_AGENTS = "number of agents"
"""the x of claims that grow a problem themselves"""

Points = tuple[Float[np.ndarray, " values"], Float[np.ndarray, " values"]]


class Claim(NamedTuple):
    """y ~ x^law on every problem that meets the assumptions.

    Example:
        >>> nd.theory.claims.CLAIMS["linear-speed-up"].law
        -1.0
    """

    says: str
    page: str
    """in papers/claims/"""
    assumes: tuple[str, ...]
    measured: str
    """what y is"""
    along: str
    """what x is"""
    law: float
    measure: Callable[[Drawn], Points]
    """x and y on a problem, exactly"""
    agents: int = 2
    """of the smallest problem that the claim says something about"""


@precision.in_double
def run_claim(
    name: str, claim: Claim, *, problems: int = 3, seed: int = 0, law: Any = None
) -> Record:
    """Fit log y on log x on so many problems of every size, and hold the slopes against the law.

    Args:
        name: what the record calls it.
        claim: the claim.
        problems: how many of each size.
        seed: draws them.
        law: an exponent in place of the claimed one.

    Returns:
        Over `problem`, the smallest first: `slope`, `agents`, `features`, `seed`; over (`problem`,
        `value`): `x` and `y`; `law`, and the 95 % interval of the mean slope over problems, `low`
        and `high`. Attributes: `holds`, 1 where every slope is within 0.15 of the law, and
        `verdict`, a sentence, with the smallest counter-example.

    Raises:
        InputError: for numbers of problems, seeds and exponents that are none.

    Example:
        >>> x = np.arange(1.0, 5)
        >>> squares = nd.theory.claims.Claim(
        ...     "y = x^2", "none.md", (), "y", "x", 2.0, lambda drawn: (x, x**2))
        >>> nd.theory.claims.run_claim("squares", squares, problems=1).attrs["holds"]
        1
    """
    problems = check_whole("problems:", problems, 1, 1000)
    seed = check_whole("seed:", seed, 0, 2**32 - 1)
    law = claim.law if law is None else _checked(law)
    sizes = [size for size in SIZES if size[0] >= claim.agents]
    drawn = [Drawn(*size, seed + each) for size in sizes for each in range(problems)]
    points = [claim.measure(each) for each in drawn]
    slopes = np.array([_slope(*each) for each in points])
    off = ~(np.abs(slopes - law) <= WITHIN)
    middle, low, high = _interval(slopes)
    said = f"slope {middle:.4g} [{low:.4g}, {high:.4g}] in {claim.along}, claimed {law:g}"
    x, y = np.array(points).swapaxes(0, 1)
    verdict = f"holds: {said}, on all of {len(drawn)} problems"
    if off.any():
        first = int(off.argmax())
        found = _described(drawn[first], claim.along, x[first], slopes[first])
        verdict = (
            f"fails: {said}; {off.sum()} of {len(drawn)} problems are off, the smallest {found}"
        )
    over = {"slope": slopes} | {key: [getattr(d, key) for d in drawn] for key in Drawn._fields}
    return xr.Dataset(
        {key: ("problem", value) for key, value in over.items()}
        | {"x": (("problem", "value"), x), "y": (("problem", "value"), y)}
        | {"law": law, "low": low, "high": high},
        attrs={
            "claim": name, "says": claim.says, "along": claim.along, "measured": claim.measured,
            "holds": int(not off.any()), "verdict": verdict,
        },
    )  # fmt: skip


def _checked(law: object) -> float:
    if not is_real(law) or not abs(law) <= 100:
        raise InputError(f"law: must be an exponent from -100 to 100, got {shown(law)}")
    return float(law)


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    """Of log y against log x; NaN where there is none."""
    if not ((y > 0) & np.isfinite(y)).all() or np.ptp(x) == 0:
        return np.nan
    return fitted(np.log(x), np.log(y)).value


def _interval(slopes: np.ndarray) -> tuple[float, float, float]:
    """The mean over problems, and its 95 % interval."""
    known = slopes[np.isfinite(slopes)]
    if len(known) < 2:
        return (float(np.mean(known)) if len(known) else np.nan, -np.inf, np.inf)
    half = scipy.stats.t.ppf(0.975, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known))
    return float(known.mean()), float(known.mean() - half), float(known.mean() + half)


def _described(drawn: Drawn, along: str, x: np.ndarray, slope: float) -> str:
    """A counter-example in words."""
    agents = "" if along == BY_AGENTS else f"{drawn.agents} agents, "
    return (
        f"with {agents}{drawn.features} feature(s) and seed {drawn.seed}: slope {slope:.3g} from "
        f"{along} {x.min():.3g} to {x.max():.3g}"
    )
