"""Noise of batches and of links: mean and covariance of the parameters over all draws, exactly.

A batch of b of an agent's n points, drawn anew in each round without replacement, gives point a the
random weight xi_a / n with E xi = 1, and within an agent

    cov(xi_a, xi_a) = n/b - 1 = v,      cov(xi_a, xi_b) = -v / (n - 1),

independent of the state and between agents. With the squared error the mean m follows the
full-batch map, and the covariance

    C+ = A C A^T + Q' (cov(xi) * E r r^T) Q'^T,      E r r^T = r' C r'^T + r(m) r(m)^T,

where r are the residuals of all points, each at its owner, r' their derivative and Q' = Q / n where
they enter: the noise is as large as the residuals, and dies where all of them can vanish.

Messages that are lost and agents that sleep make A and b of a round random, independent of all
other rounds. With parts A_S, b_S of variance v_S that are not correlated (`expansion`), A_{} and
b_{} the mean of A and b,

    m+ = A_{} m + b_{},    C+ = A_{} C A_{}^T
         + sum_(S not empty) v_S (A_S C A_S^T + (A_S m + b_S) (A_S m + b_S)^T).

Noise on messages, xi independent and of unit variance in every parameter, is as large in every
feature. A round adds B xi, B_S as A_S, and so

    sum_S v_S B_S B_S^T

to the covariance (S empty too, v = 1), whatever the state, and nothing to the mean. It moves also
what no gradient does: sums that a method keeps, and parameters that no training point sees. Of
point p's parameters these are a share rho = K_pp - |F_p|^2, in which directions are all alike: one
feature more, in which no agent has curvature, and of which p has sqrt(rho).

Compression that keeps each entry with probability q, times c, makes of y in each exchange

    c q y + e,    E e = 0,    E e e^T = c^2 q (1 - q) diag(E y y^T)

with the diagonal in parameters, which then are the features, F = J. What different agents and
exchanges leave out is not correlated, nor is it with the state. With all of a round in one vector,
e = sqrt(c^2 q (1 - q)) W y where y = S z + s + G e (`expansion`), W of unit variance, squares are

    E y^2 = diag(S C S^T) + (S m + s)^2 + (G * G) E y^2      (entry by entry, all scales in G and B)

and B diag(E y^2) B^T is added to the covariance; it dies where y does, as in all schemes that
compress differences to what neighbours know.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import scipy.linalg
import scipy.sparse.linalg
import xarray as xr
from jaxtyping import Float

from ntkdyn import precision, thresholds
from ntkdyn.dynamics.affine import affine_rounds
from ntkdyn.dynamics.expansion import Expansion
from ntkdyn.dynamics.loops import Noise
from ntkdyn.dynamics.realization import Features, Realization
from ntkdyn.dynamics.sources import LeftOut, of_batches, over_links
from ntkdyn.dynamics.spectra import GROWS
from ntkdyn.dynamics.stability import assess
from ntkdyn.errors import InputError, check_whole
from ntkdyn.linear import Empirical
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


Rounds = int | Sequence[int] | None
"""How many, or which are recorded; None: at rest."""


@question("kernel")
@precision.in_double
def minibatch_noise(
    system: System, rounds: Rounds, *, batch_size: int, record_every: int | None = None
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
    batch_size = check_whole("batch_size:", batch_size, 1)
    moments = Moments(system, batch_size=batch_size)
    return _recorded(system, moments, rounds, record_every).assign_attrs(batch_size=batch_size)


@question("kernel")
@precision.in_double
def link_noise(system: System, rounds: Rounds, *, record_every: int | None = None) -> Record:
    """Mean and spread over all draws of a method's links, in the given rounds or at rest (None).

    Of links that lose messages, agents that sleep, Gaussian noise on messages (`noisy` without
    clip) and compression by `random_k`, beside any links that are affine, with all points in every
    round. Noise of standard deviation s adds s^2 E B B^T to the covariance in each round, B what
    the round does to a unit of it in an agent's message; at test points also in directions that no
    training point sees. Compression of y that keeps entries with probability q, times c, adds
    c^2 q (1 - q) B diag(E y y^T) B^T, the diagonal in parameters: small networks, with
    kernel="empirical". The mean is that of the method itself, also where one message of a round
    depends on another that may be lost with it, which `links.expected` leaves out. At rest: as for
    `minibatch_noise`, whose variables it has.

    Args:
        system: or problem, method, weights in its place, with `kernel` by name.
        rounds: how many, or which are recorded, ascending; None: at rest.
        record_every: of a number of rounds, how often one is recorded.

    Returns:
        The variables of `minibatch_noise`, exact over all draws.

    Raises:
        InputError: for links that draw anything else or are not linear (top_k), states too large,
            more ways to fail than can be looked at, noise where test points have a kernel that is
            given, `random_k` with another kernel than the empirical one, or where what is
            compressed depends on a message of the same round that may be lost, and at rest where
            means or mean squares grow or noise is not damped.

    Example:
        >>> lossy = nd.links.over(dgd, nd.links.lossy(0.2))
        >>> told = nd.dynamics.link_noise(bare, lossy, W, [0, 5])
        >>> bool((told["std_outputs"][0] == 0).all()), bool((told["std_outputs"][1] > 0).all())
        (True, True)
    """
    return _recorded(system, Moments(system), rounds, record_every)


def _recorded(system: System, moments: Moments, rounds: Rounds, record_every: int | None) -> Record:
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
    return described(xr.Dataset(variables, {"round": asked}))


class Moments:
    """Mean and covariance of the displacements that training can reach, side by side.

    States are (states x features) in coordinates that keep lengths in parameter space. With noise
    on messages the last feature may stand for all directions that no training point sees; where
    links compress at random, features are the parameters.

    Args:
        system: or problem, method, weights in its place, with `kernel` by name.
        batch_size: points that each agent draws in a round, without replacement; None: all points,
            and what is drawn is what fails on the method's links, noise on its messages and what
            `random_k` leaves out of them.

    Raises:
        InputError: for a state too large for its covariance to be followed, and links that draw
            anything else.

    Example:
        >>> moments = nd.dynamics.Moments(bare, dgd, W, batch_size=1)
        >>> moments.advance(2)
        >>> moments.covariance.shape == (1, *moments.mean.shape[1:] * 2)
        True
    """

    @question("kernel")
    @precision.in_double
    def __init__(self, system: System, *, batch_size: int | None = None) -> None:
        self.stability = assess(system)
        method = self.stability.method
        expansion = Expansion.of(system.with_(method=method)) if batch_size is None else None
        sure = expansion.failing(method) if expansion else method
        asked = plan(system.with_(method=sure), 0)
        iteration = iteration_of(asked, system.problem.kernel_space(system.kernel))
        self.map = affine_rounds(iteration)
        _check_size(len(self.map.kernel))
        loops = expansion.loops(iteration, method) if expansion else self.map.loops
        noises = expansion.noises(iteration, method) if expansion else ()
        self.rows, self.trained = _features(system, self.map.kernel, noises)
        whole = Realization(dataclasses.replace(self.map, loops=loops), self.trained, noises)
        _check_size(whole.size)
        self.X = whole.reached.loops[0].X
        one_round = (
            functools.partial(over_links, expansion, whole)
            if expansion
            else functools.partial(of_batches, batch_size, whole, self.trained)
        )
        self._rounds = [one_round(each) for each in range(iteration.period)]
        sides = self.map.residual.shape[1]
        self.done = 0
        self.mean = np.zeros((sides, whole.size))
        self.covariance = np.zeros((sides, whole.size, whole.size))

    def advance(self, rounds: int) -> None:
        """So many rounds more."""
        for _ in range(rounds):
            round = self._rounds[self.done % len(self._rounds)]
            self.mean, self.covariance = round.after(self.mean, self.covariance)
            self.done += 1

    def settle(self) -> None:
        """Go to rest, at the start of a period: C = A C A^T + what the period's noise adds.

        The noise is renewed until it no longer changes.
        """
        matrix, drive = self._over_period
        self._check_rests(matrix)
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
            "noise: the variance finds no rest; take a smaller step size, a larger batch, fewer "
            "failures, or ask for rounds"
        )

    def _check_rests(self, matrix: Float[np.ndarray, "state state"]) -> None:
        """Refuse a method whose means grow, and noise that nothing damps."""
        stable, method = self.stability.stable, self.stability.method
        if stable is None or self._noisy:
            largest = np.abs(np.linalg.eigvals(matrix)).max()
            stable = largest <= 1 + GROWS
        if self._noisy and 1 - thresholds.RESTLESS < largest < 1 + thresholds.TWOFOLD:
            raise InputError(
                f"noise: {method.name} comes to no rest, as noise on its messages adds up, or what "
                f"compression leaves out of them stays, where gradients do not damp it, or hardly: "
                f"in parameters that no training point sees, in sums that the method keeps, along "
                f"a kernel's smallest eigenvalues; ask for rounds"
            )
        if not stable:
            raise InputError(
                f"noise: {method.name} is unstable at step size {float(method.step_size):g} and "
                f"comes to no rest"
            )

    @property
    def _noisy(self) -> bool:
        """Whether noise is added to messages, or some of them left out, in any round."""
        sources = [each for round in self._rounds for each in round.sources]
        left_out = any(isinstance(each, LeftOut) for each in sources)
        return left_out or any(np.any(round.noise) for round in self._rounds)

    def growth(self) -> float:
        """The factor by which mean squares of errors grow in a round, in the long run.

        The spectral radius of M -> E A M A^T over a period: a positive map, whose largest
        eigenvalue is real and has a positive M.
        """
        size = self.mean.shape[1]

        def moved(moment: np.ndarray) -> np.ndarray:
            moment = moment.reshape(1, size, size)
            for round in self._rounds:
                moment = round.homogeneous(moment)
            return moment.reshape(-1)

        over = scipy.sparse.linalg.LinearOperator((size**2, size**2), moved, dtype=float)
        largest = scipy.sparse.linalg.eigs(
            over, 1, v0=np.eye(size).reshape(-1), return_eigenvectors=False
        )
        return float(np.abs(largest[0]) ** (1 / len(self._rounds)))

    @property
    def _over_period(self) -> tuple[np.ndarray, np.ndarray]:
        """What the mean goes through."""
        sides, size = self.mean.shape
        matrix, drive = np.eye(size), np.zeros((size, sides))
        for round in self._rounds:
            matrix, drive = round.matrix @ matrix, round.matrix @ drive + round.drive
        return matrix, drive

    def _added(self) -> Float[np.ndarray, "sides state state"]:
        """What a period's noise adds to the covariance, begun from the one there is."""
        mean, covariance, added = self.mean, self.covariance, np.zeros_like(self.covariance)
        for round in self._rounds:
            drawn = round.added(mean, covariance)
            mean, covariance = round.after(mean, covariance)
            added = round.matrix @ added @ round.matrix.T + drawn
        return added

    def displacement(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean (agents, features, sides) and covariance (agents, sides, features, features)."""
        X, rank = self.X, self.rows.shape[1]
        mean = self.mean.reshape(len(self.mean), -1, rank)
        blocks = self.covariance.reshape(len(mean), X.shape[1], rank, X.shape[1], rank)
        return (
            np.einsum("is,dsf->ifd", X, mean),
            np.einsum("is,dsftg,it->idfg", X, blocks, X, optimize=True),
        )


def _check_size(size: int) -> None:
    if size > thresholds.COVARIANCE_UP_TO:
        raise InputError(
            f"noise: the state has {size} entries per output and its covariance is followed up to "
            f"{thresholds.COVARIANCE_UP_TO}; take fewer points, outputs or agents (parameters, "
            f"where links compress at random)"
        )


def _features(
    system: System, kernel: Float[np.ndarray, "coordinates coordinates"], noises: Sequence[Noise]
) -> tuple[Float[np.ndarray, "points features"], Float[np.ndarray, "coordinates features"]]:
    """Of all points, and of those trained on."""
    if not all(each.steady.all() for each in noises):
        rows = _jacobian(system)
        return rows, rows[: len(kernel)]
    features = Features(kernel)
    rows = features.read(system.matrix.whole.reshape(-1, len(kernel)))
    if any(each.N.size for each in noises):
        return _with_unseen(system, rows, features.rows)
    return rows, features.rows


def _jacobian(system: System) -> Float[np.ndarray, "coordinates parameters"]:
    """J of all points and outputs."""
    if not isinstance(system.kernel, Empirical):
        raise InputError(
            f"compressed: its mean and covariance are those of single parameters, and the "
            f'{system.kernel.name} kernel knows none; take kernel="empirical" of a problem with a '
            f"network"
        )
    _check_size(system.problem.parameters_each * system.task.agents)
    jacobian = system.problem.jacobian
    return jacobian.reshape(-1, jacobian.shape[-1])


def _with_unseen(
    system: System, rows: Float[np.ndarray, "points features"], seen: np.ndarray
) -> tuple[Float[np.ndarray, "points more"], Float[np.ndarray, "coordinates more"]]:
    """Features of all points and of those trained on, one more where a point has what these lack.

    sqrt(K_pp - |F_p|^2), in directions that matter to no gradient and are alike to noise.
    """
    own = system.kernel.beyond(system.problem).reshape(-1)
    lacking = own - (rows[len(rows) - len(own) :] ** 2).sum(axis=1)
    if (lacking <= thresholds.UNSEEN * own).all():
        return rows, seen
    unseen = np.zeros((len(rows), 1))
    unseen[len(rows) - len(own) :, 0] = np.sqrt(np.maximum(lacking, 0))
    return np.append(rows, unseen, axis=1), np.append(seen, np.zeros((len(seen), 1)), axis=1)


def _row(system: System, moments: Moments) -> dict[str, Float[np.ndarray, ...]]:
    """Everything that is recorded of one round."""
    task, rows = system.task, moments.rows
    mean, covariance = moments.displacement()
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
