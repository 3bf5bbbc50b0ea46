"""Minibatch noise: mean and covariance of the parameters over all draws of batches, exactly.

A batch of b of an agent's n points, drawn anew in each round without replacement, gives point a the
random weight xi_a / n with E xi = 1, and within an agent

    cov(xi_a, xi_a) = n/b - 1 = v,      cov(xi_a, xi_b) = -v / (n - 1),

independent of the state and between agents. With the squared error the mean m follows the
full-batch map, and the covariance

    C+ = A C A^T + Q' (cov(xi) * E r r^T) Q'^T,      E r r^T = r' C r'^T + r(m) r(m)^T,

where r are the residuals of all points, each at its owner, r' their derivative and Q' = Q / n where
they enter: the noise is as large as the residuals, and dies where all of them can vanish.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.linalg
import xarray as xr
from jaxtyping import Float, Int

from ntkdyn import precision, thresholds
from ntkdyn.dynamics.affine import affine_rounds
from ntkdyn.dynamics.realization import Features, Realization
from ntkdyn.dynamics.stability import assess
from ntkdyn.errors import InputError, check_whole
from ntkdyn.measures import measure, shares
from ntkdyn.quantities import described
from ntkdyn.records import Record
from ntkdyn.runs import iteration_of, plan, recorded_rounds
from ntkdyn.system import System, question

STEADY = 1e-10
"""A covariance that changes by less than this share has come to rest."""

PATIENCE = 1000
"""After so many renewals a noise that still changes is given up."""

AT_REST = -1
"""The round of a record of the steady state."""


@question("kernel")
@precision.in_double
def minibatch_noise(
    system: System,
    rounds: int | Sequence[int] | None,
    *,
    batch_size: int,
    record_every: int | None = None,
) -> Record:
    """Mean and spread over all draws of batches, in the given rounds or at rest (None).

    Where exchanges or the graph repeat after some rounds, rest is at the start of a period.

    Variables: `mean_outputs` and `std_outputs` (round, agent, point, output); per loss,
    `NAME_mean`, its expectation, and `NAME_of_mean`, that of the mean model (round, agent). For
    small problems with the squared error; the parameters' own covariance is in `Moments`.

    Args:
        system: or problem, method, weights in its place, with `kernel` by name.
        rounds: how many, or which are recorded, ascending; None: at rest.
        batch_size: points that each agent draws in a round, without replacement.
        record_every: of a number of rounds, how often one is recorded.

    Returns:
        The variables above, exact over all draws.

    Raises:
        InputError: for a state too large for its covariance to be followed, and at rest for a
            method that is not stable.

    Example:
        >>> told = nd.dynamics.minibatch_noise(bare, dgd, W, [0, 5], batch_size=1)
        >>> bool((told["std_outputs"][0] == 0).all()), bool((told["std_outputs"][1] > 0).all())
        (True, True)
    """
    moments = Moments(system, batch_size=batch_size)
    if rounds is None:
        moments.settle()
        asked = [AT_REST]
        rows = [_row(system, moments)]
    else:
        asked = recorded_rounds(rounds, record_every)
        rows = []
        for done, round in zip([0, *asked], asked, strict=False):
            moments.advance(round - done)
            rows.append(_row(system, moments))
    dims = ("round", "agent", "point", "output")
    variables = {
        name: (dims[: 1 + value.ndim], np.stack([row[name] for row in rows]))
        for name, value in rows[0].items()
    }
    return described(xr.Dataset(variables, {"round": asked}, {"batch_size": batch_size}))


class Moments:
    """Mean and covariance of the displacements that training can reach, side by side.

    States are (states x features) in coordinates that keep lengths in parameter space.

    Args:
        system: or problem, method, weights in its place, with `kernel` by name.
        batch_size: points that each agent draws in a round, without replacement.

    Raises:
        InputError: for a state too large for its covariance to be followed.

    Example:
        >>> moments = nd.dynamics.Moments(bare, dgd, W, batch_size=1)
        >>> moments.advance(2)
        >>> moments.covariance.shape == (1, *moments.mean.shape[1:] * 2)
        True
    """

    @question("kernel")
    @precision.in_double
    def __init__(self, system: System, *, batch_size: int) -> None:
        batch_size = check_whole("batch_size:", batch_size, 1)
        self.stability = assess(system)
        asked = plan(system.with_(method=self.stability.method), 0)
        self.map = affine_rounds(iteration_of(asked, system.problem.kernel_space(system.kernel)))
        self._check_size(len(self.map.kernel))
        self.features = Features(self.map.kernel)
        whole = Realization(self.map, self.features.rows)
        self._check_size(whole.size)
        self._rounds = [_round(whole, self.features, each) for each in range(whole.period)]
        self.X, self._over_period = whole.reached.loops[0].X, whole.over_period
        parts = self.map.owner, self.map.counts, self.map.point
        self._spread = batch_covariance(*parts, batch_size)
        sides = self.map.residual.shape[1]
        self.done = 0
        self.mean = np.zeros((sides, whole.size))
        self.covariance = np.zeros((sides, whole.size, whole.size))

    def _check_size(self, size: int) -> None:
        if size > thresholds.COVARIANCE_UP_TO:
            raise InputError(
                f"noise: the state has {size} entries per output and its covariance is "
                f"followed up to {thresholds.COVARIANCE_UP_TO}; take fewer points, outputs or "
                f"agents"
            )

    def advance(self, rounds: int) -> None:
        """So many rounds more."""
        for _ in range(rounds):
            round = self._rounds[self.done % len(self._rounds)]
            noise = self._noise(round, self.mean, self.covariance)
            self.mean = self.mean @ round.matrix.T + round.drive.T
            self.covariance = round.matrix @ self.covariance @ round.matrix.T + noise
            self.done += 1

    def settle(self) -> None:
        """Go to rest, at the start of a period: C = A C A^T + what the period's noise adds.

        The noise is renewed until it no longer changes.
        """
        if not self.stability.stable:
            raise InputError(
                f"noise: {self.stability.method.name} is unstable at step size "
                f"{float(self.stability.method.step_size):g} and comes to no rest"
            )
        matrix, drive = self._over_period
        self.mean = np.linalg.lstsq(np.eye(len(matrix)) - matrix, drive, rcond=None)[0].T
        for _ in range(PATIENCE):
            before = self.covariance
            self.covariance = np.stack(
                [scipy.linalg.solve_discrete_lyapunov(matrix, each) for each in self._added()]
            )
            change = np.abs(self.covariance - before).max()
            if change <= STEADY * np.abs(self.covariance).max():
                return
        raise InputError(
            "noise: the variance finds no rest; take a smaller step size, a larger batch, or ask "
            "for rounds"
        )

    def _added(self) -> Float[np.ndarray, "sides state state"]:
        """What a period's noise adds to the covariance, begun from the one there is."""
        mean, covariance, added = self.mean, self.covariance, np.zeros_like(self.covariance)
        for round in self._rounds:
            noise = self._noise(round, mean, covariance)
            mean = mean @ round.matrix.T + round.drive.T
            covariance = round.matrix @ covariance @ round.matrix.T + noise
            added = round.matrix @ added @ round.matrix.T + noise
        return added

    def _noise(
        self, round: Round, mean: np.ndarray, covariance: np.ndarray
    ) -> Float[np.ndarray, "sides state state"]:
        """The covariance that one round's batches add."""
        off = mean @ round.felt.T + self.map.residual.T
        moment = round.felt @ covariance @ round.felt.T + off[:, :, None] * off[:, None, :]
        return round.kick @ (self._spread * moment) @ round.kick.T

    def displacement(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean (agents, features, sides) and covariance (agents, sides, features, features)."""
        X, rank = self.X, len(self.features.values)
        mean = self.mean.reshape(len(self.mean), -1, rank)
        blocks = self.covariance.reshape(len(mean), X.shape[1], rank, X.shape[1], rank)
        return (
            np.einsum("is,dsf->ifd", X, mean),
            np.einsum("is,dsftg,it->idfg", X, blocks, X, optimize=True),
        )


class Round(NamedTuple):
    """A round of the moving state, and where residuals and noise meet it."""

    matrix: Float[np.ndarray, "state state"]
    drive: Float[np.ndarray, "state sides"]
    felt: Float[np.ndarray, "coordinates state"]
    """what residuals see of the state"""
    kick: Float[np.ndarray, "state coordinates"]
    """where a point's noise enters"""


def _round(whole: Realization, features: Features, round: int) -> Round:
    loop, owner, rows = whole.reached.loops[round], whole.affine.owner, features.rows
    felt = np.einsum("as,af->asf", loop.R[owner], rows).reshape(len(owner), -1)
    kick = np.einsum("sa,af->sfa", loop.Q[:, owner] / whole.affine.counts, rows)
    return Round(whole.matrix(round), whole.drive(round), felt, kick.reshape(-1, len(owner)))


def batch_covariance(
    owner: Int[np.ndarray, " coordinates"],
    counts: Int[np.ndarray, " coordinates"],
    point: Int[np.ndarray, " coordinates"],
    size: int,
) -> Float[np.ndarray, "coordinates coordinates"]:
    """cov(xi) of batches of `size`; the coordinates of one point share its xi."""
    excess = np.maximum(counts / np.minimum(size, counts) - 1, 0)
    same_point = point[:, None] == point
    same_agent = owner[:, None] == owner
    others = -excess / np.maximum(counts - 1, 1)
    return np.where(same_point, excess, np.where(same_agent, others, 0.0))


def _row(system: System, moments: Moments) -> dict[str, Float[np.ndarray, ...]]:
    """Everything that is recorded of one round."""
    task, whole = system.task, system.matrix.whole
    mean, covariance = moments.displacement()
    rows = moments.features.read(whole.reshape(-1, len(moments.map.kernel)))
    shape = (task.agents, *task.targets.shape)
    outputs = system.problem.initial + np.einsum("pf,ifd->ipd", rows, mean).reshape(shape)
    variance = np.einsum("pf,idfg,pg->ipd", rows, covariance, rows, optimize=True)
    variance = np.maximum(variance.reshape(shape), 0)
    of_mean = {k: v for k, v in measure(task, outputs).items() if k.endswith("loss")}
    spread = {
        name: (share * variance.sum(axis=2)).sum(axis=1) / 2 for name, share in shares(task).items()
    }
    return {
        "mean_outputs": outputs,
        "std_outputs": np.sqrt(variance),
        **{f"{name}_of_mean": value for name, value in of_mean.items()},
        **{f"{name}_mean": of_mean[name] + spread[name] for name in spread},
    }
