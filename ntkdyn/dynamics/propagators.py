"""Any round without the ones before: z_t = sum_{s<t} A^s b by the cheapest scheme that is valid.

    steps        t products with A                     always
    powers       A^2, A^4, A^8, ... and their sums      small states
    modes        eigenvectors (`modes`)                 small states, DGD with symmetric W
    chebyshev    about sqrt(2 t log(1/tolerance)) products with A     spectrum real, in [-1, 1]
    krylov       one factorization of the kernel, and some 25 directions (`krylov`)  likewise
    contour      linear systems as large as the kernel, as many at any t (`contours`)   likewise

What each scheme costs is estimated from the operations it takes, and the cheapest is taken.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
from jaxtyping import Array, Float, Int

from ntkdyn import thresholds
from ntkdyn.dynamics import contours
from ntkdyn.dynamics.affine import (
    Affine,
    Propagated,
    affine_rounds,
    flattened,
    linear_part,
    times,
    unflattened,
)
from ntkdyn.dynamics.krylov import Krylov
from ntkdyn.dynamics.modes import Modes
from ntkdyn.dynamics.realization import Features, Realization
from ntkdyn.engine import Iteration
from ntkdyn.errors import InputError, unknown
from ntkdyn.methods.updates import State

FLOPS = 2e10
"""Multiplications and additions per second, about; only its ratio to `BYTES` and `CALL` matters."""
BYTES = 8e9
CALL = 3e-5
"""Seconds that a round takes beside its arithmetic."""

ONCE = {
    "steps": 1e-3,
    "powers": 2e-3,
    "modes": 5e-3,
    "chebyshev": 0.3,
    "krylov": 0.1,
    "contour": 0.03,
}
"""Seconds that a scheme takes beside its arithmetic, the compilation of its program included."""

OWN_ROWS_FROM = 2**22
"""Entries of a kernel from which on reading each agent's own rows alone is worth a call each."""

UNLUCKY = 32
"""How many times as large an error may be as the larger one that two changes at random made."""

ITERATIONS = 8
"""Of the power iteration that estimates how long rounding errors are carried on."""

TOLERANCE = {"float64": 1e-9, "float32": 1e-4}
"""Of what a scheme leaves out, relative to theta_t - theta_0, where none is asked for, by the
precision of the kernel."""

EPS, TINY = float(np.finfo(np.float64).eps), float(np.finfo(np.float64).tiny)

ROUNDED = 8 * EPS
"""What rounding adds to an error in every round that it is carried on undiminished."""


class Scheme(NamedTuple):
    """One scheme to reach a round."""

    seconds: Callable[[int, int], float]
    """from round, to round -> estimated cost"""
    propagate: Callable[[int], Propagated] | None
    """None: by steps"""
    valid: Callable[[int], bool] = lambda round: True


class Propagators:
    """The schemes of one iteration, called between recorded rounds: a state, or None to step there.

    `error` holds the estimated relative error of theta_t - theta_0 at every recorded round, and
    `taken` the scheme that led there: the cheapest that is within `tolerance`, or the one that
    comes closest to 1e-9 where none is given.

    `stable` may be a function that finds it out. With `begun`, (round, state, error), all start
    there: z_t = z + sum_s A^s (A z + b - z) from the state z of that round on. Powers and modes
    start from zero only.
    """

    def __init__(
        self,
        iteration: Iteration,
        *,
        via: str = "auto",
        tolerance: float | None = None,
        stable: bool | Callable[[], bool | None] | None = True,
        begun: tuple[int, State, float] | None = None,
    ) -> None:
        self._iteration, self._via = iteration, via
        self._asks = callable(stable)
        self._known_stable = stable if callable(stable) else lambda: stable
        self._dtype = iteration.space.kernel.dtype
        self._tolerance, self._strict = tolerance or TOLERANCE[str(self._dtype)], bool(tolerance)
        self._first, self._state, error = begun or (0, None, 0.0)
        self.error: dict[int, float] = {self._first: error}
        self.taken: dict[int, str] = {self._first: "anchor" if begun else "start"}

    def __call__(self, state: State, done: int, wanted: int) -> State | None:
        """The state in round `wanted`, or None where stepping on from `done` is the way."""
        if wanted == done:
            return None
        stepping = (wanted - done) * self._step_seconds
        if self._via == "auto" and stepping < self._study_seconds:
            return self._step(done, wanted)
        schemes, best, by = self._open, None, ""
        enough = self._tolerance + self.error[self._first]
        for name in sorted(
            schemes, key=lambda each: ONCE[each] + schemes[each].seconds(done, wanted)
        ):
            if not schemes[name].valid(wanted - self._first):
                continue
            if schemes[name].propagate is None:
                if best is None or self._stepped(done, wanted) < best.total:
                    return self._step(done, wanted)
                continue
            propagated = self._propagated(schemes[name].propagate, wanted)
            if best is None or not propagated.total > best.total:
                best, by = propagated, name
            if propagated.total <= enough or not np.isfinite(propagated.state).all():
                break
        if best is None:
            return self._step(done, wanted)
        self._check(best, by, wanted)
        self._note(wanted, by, best.total)
        return unflattened(state, best.state)

    def _propagated(self, propagate: Callable[[int], Propagated], round: int) -> Propagated:
        """There, with what rounding makes of lengths, c' K c."""
        with np.errstate(over="ignore", invalid="ignore"):
            propagated = propagate(round - self._first)
            if self._begun is not None:
                propagated = self._from_begun(propagated)
            c, square = self._moved(propagated.state)
            spoilt = self._spoilt(c) / square
        return propagated._replace(rounding=propagated.rounding + spoilt)

    def _spoilt(self, c: np.ndarray) -> float:
        """What rounding makes of c' K c: |K| |c|^2 units at the most.

        In single precision, where there are too many to go the same way, the root of the sum of
        their squares.
        """
        kernel, squares = self._affine.kernel, c**2
        unit = float(np.finfo(kernel.dtype).eps)
        if kernel.dtype == np.float64:
            return unit * self._kernel_norm * float(squares.sum())
        return unit * math.sqrt(float(np.sum(squares * times(kernel**2, squares))))

    def _from_begun(self, propagated: Propagated) -> Propagated:
        """From what was moved since the state begun with, whose error it is relative to."""
        state = self._begun + propagated.state
        share = np.sqrt(self._moved(propagated.state)[1] / self._moved(state)[1])
        rounding = share * propagated.rounding + self.error[self._first]
        return Propagated(state, share * propagated.error, rounding)

    def _moved(self, state: np.ndarray) -> tuple[np.ndarray, float]:
        """c of the iterates, and |theta - theta_0|^2 of all agents."""
        c = np.tensordot(self._affine.loops[0].X, state, 1)
        return c, max(float(np.sum(c * times(self._affine.kernel, c))), TINY)

    def _check(self, best: Propagated, by: str, round: int) -> None:
        """Refuse what is too far off for a tolerance that was given."""
        if self._strict and np.isfinite(best.state).all() and best.total > self._tolerance:
            raise InputError(
                f"tolerance: {self._tolerance:g} cannot be met in round {round}; {by} comes "
                f'closest with an error of {best.total:.1g}; raise it or take via="steps"'
            )

    def _step(self, done: int, wanted: int) -> None:
        self._note(wanted, "steps", self._stepped(done, wanted))

    def _stepped(self, done: int, wanted: int) -> float:
        """The error that steps from round `done` on lead to."""
        return self.error[done] + rounded(self._dtype, self._carried(wanted - done))

    @functools.cached_property
    def _kernel_norm(self) -> float:
        return _norm(self._affine.kernel)

    def _carried(self, rounds: int) -> float:
        """sum_s |P^s| over so many rounds: how long what rounding adds stays, at the most.

        One in every round where the iterate is all there is; sums that a method keeps collect more.
        """
        if len(jax.tree.leaves(self._iteration.init())) == 1:
            return float(rounds)
        loops = [loop.in_units for loop in self._affine.loops]
        power = functools.reduce(lambda done, loop: loop.P @ done, loops, np.eye(len(loops[0].P)))
        squares = []
        for _ in range((rounds // len(loops)).bit_length()):
            squares.append(_norm(power))
            power = power @ power
        return len(loops) * _carried(squares)

    def _note(self, round: int, scheme: str, error: float) -> None:
        self.taken[round], self.error[round] = scheme, error

    def _schemes(self, *, real: bool) -> dict[str, Scheme]:
        """None of them holds this object, which holds them: with it goes its kernel, at once."""
        affine, tolerance, iteration = self._affine, self._tolerance, self._iteration
        first, begun, step = self._first, self._begun, self._step_seconds
        schemes = {"steps": Scheme(lambda done, wanted: (wanted - done) * step, None)}
        if affine.size <= thresholds.MATRIX_UP_TO and begun is None:
            powers = Powers(affine)
            schemes["powers"] = Scheme(
                lambda done, wanted: powers.seconds(wanted), powers.propagate
            )
            if Modes.exist(affine):
                modes = Modes(affine)
                schemes["modes"] = Scheme(
                    lambda done, wanted: modes.seconds / FLOPS, modes.propagate
                )
        if real:
            schemes["chebyshev"] = Scheme(
                lambda done, wanted: 1.5 * degree(wanted - first, tolerance) * step,
                lambda round: chebyshev(iteration, affine, round, tolerance, begun),
                lambda round: round > 0,
            )
            krylov = Krylov(affine, tolerance, begun)
            schemes["krylov"] = Scheme(
                lambda done, wanted: krylov.flops(wanted - first) / FLOPS,
                lambda round: in_krylov_space(krylov, affine, round),
                krylov.valid,
            )
            solve = 8 / 3 * len(affine.owner) ** 3 + 8 * len(affine.loop.P) ** 3
            schemes["contour"] = Scheme(
                lambda done, wanted: max(contours.NODES) * solve / FLOPS,
                lambda round: along_contour(affine, round, tolerance, begun),
                lambda round: round >= contours.FROM_ROUND,
            )
        return schemes

    @functools.cached_property
    def _stable(self) -> bool:
        return bool(self._known_stable())

    @functools.cached_property
    def _affine(self) -> Affine:
        return affine_rounds(self._iteration)

    @functools.cached_property
    def _begun(self) -> Float[np.ndarray, "states coordinates sides"] | None:
        """The state begun with; None: the start, which is zero."""
        return None if self._state is None else flattened(self._state, self._affine)

    @functools.cached_property
    def _open(self) -> dict[str, Scheme]:
        """The schemes that may be taken."""
        loops = self._affine.loops
        real = self._stable and len(loops) == 1 and loops[0].symmetrisable
        schemes = self._schemes(real=real)
        if self._via == "auto":
            return schemes
        if self._via not in schemes:
            raise self._closed(self._via, self._stable)
        return {self._via: schemes[self._via]}

    @functools.cached_property
    def _step_seconds(self) -> float:
        """What a step takes: the kernel between owned points, and the links between agents."""
        agents, train, outputs = jax.tree.leaves(self._iteration.init())[0].shape
        rows, moved = self._iteration.space.kernel.size, agents * train * outputs
        links = max(leaf.size for leaf in jax.tree.leaves(self._iteration.weights))
        flops = 2 * moved * links / agents + 2 * train * outputs * train
        return CALL + max(flops / FLOPS, 8 * (rows + 2 * moved) / BYTES)

    @functools.cached_property
    def _study_seconds(self) -> float:
        """What it takes to know the method's loop, and whether it is stable if that is asked."""
        states = len(jax.tree.leaves(self._iteration.init())) * self._iteration.space.agents
        known = contours.FROM_ROUND * self._step_seconds if self._asks else 0
        return ONCE["contour"] + 10 * states**3 / FLOPS + known

    def _closed(self, via: str, stable: bool) -> InputError:
        every = ("auto", "steps", "powers", "modes", "chebyshev", "krylov", "contour")
        if via not in every:
            return unknown("via", via, every)
        if via in ("powers", "modes") and self._affine.size > thresholds.MATRIX_UP_TO:
            return InputError(
                f"via: the state has {self._affine.size} entries and {via} are for up to "
                f'{thresholds.MATRIX_UP_TO}; use via="auto"'
            )
        if via == "modes":
            return InputError('via: modes are those of dgd with symmetric W; use via="auto"')
        why = "symmetric W, and W >= 0 unless the method is dgd" if stable else "a stable step size"
        return InputError(f'via: {via} needs {why}; use via="auto"')


Squares = list[tuple[np.ndarray, np.ndarray]]
"""(A^(2^j), b_j) for j = 0, 1, ..."""


class Powers:
    """A^(2^j) and b_j = sum_{s<2^j} A^s b over periods, squared as far as is asked.

    On the minimal realization, in which no sum that the method keeps collects rounding errors. What
    rounding does is seen on two more sets, begun from A whose entries are changed at random by as
    much as rounding may.
    """

    def __init__(self, affine: Affine) -> None:
        self._features = Features(affine.kernel)
        self._whole = Realization(affine, self._features.rows)
        self._sets: list[Squares] = []

    def seconds(self, round: int) -> float:
        done = len(self._sets[0]) if self._sets else 0
        missing, size = max(0, round.bit_length() - done), self._whole.size
        return 3 * (2 * missing * size**3 + 4 * round.bit_length() * size**2) / FLOPS

    def propagate(self, round: int) -> Propagated:
        periods, rest = divmod(round, self._whole.period)
        self._square_up_to(periods.bit_length())
        x, *changed = (self._assembled(squares, periods) for squares in self._sets)
        apart = max(np.linalg.norm(self._whole.iterate(each - x)) for each in changed)
        moved = np.linalg.norm(self._whole.iterate(x))
        for each in range(rest):
            x = self._whole.matrix(each) @ x + self._whole.drive(each)
        state = self._features.coefficients(self._whole.states(x))
        return Propagated(state, 0.0, ROUNDED + UNLUCKY * float(apart / max(moved, TINY)))

    def _assembled(self, squares: Squares, periods: int) -> Float[np.ndarray, "state sides"]:
        x = np.zeros_like(self._whole.drive())
        for j in range(periods.bit_length()):
            if periods >> j & 1:
                power, driven = squares[j]
                x = power @ x + driven
        return x

    def _square_up_to(self, count: int) -> None:
        if not self._sets:
            matrix, drive = self._whole.over_period
            rng, size = np.random.default_rng(0), EPS * np.abs(matrix).max(initial=0)
            change = [size * rng.standard_normal(matrix.shape) for _ in range(2)]
            self._sets = [[(matrix + each, drive)] for each in (0, *change)]
        for squares in self._sets:
            while len(squares) < count:
                power, driven = squares[-1]
                squares.append((power @ power, power @ driven + driven))


def _carried(squares: Sequence[float]) -> float:
    """A bound on sum_s |A^s| over s < 2^count, from |A|, |A^2|, |A^4|, ..., `count` of them."""
    return max([1.0, *squares]) * (1 + sum(2**j * norm for j, norm in enumerate(squares)))


def _norm(matrix: np.ndarray) -> float:
    """Not less than the largest singular value, and not much more."""
    sizes = np.abs(matrix)
    columns, rows = (sizes.sum(axis=axis).max() for axis in (0, 1))
    return float(min(np.sqrt(columns * rows), np.linalg.norm(matrix)))


def along_contour(
    affine: Affine, round: int, tolerance: float, begun: np.ndarray | None = None
) -> Propagated:
    """z_t, or z_t - z from another z than zero, from as few nodes as the tolerance allows."""
    nodes = contours.nodes_for(round, tolerance)
    force = None if begun is None else affine.change(begun)
    state = contours.state_at(affine, round, nodes, force)
    return Propagated(state, contours.error(round, nodes), rounding(affine, round, tolerance))


def in_krylov_space(krylov: Krylov, affine: Affine, round: int) -> Propagated:
    """The same by projection; rounding stays as long as the slowest mode that was found."""
    state, error, slowest = krylov.state_at(round)
    carried = min(round, 2 / (1 / round + slowest))
    return Propagated(state, error, rounded(affine.kernel.dtype, carried))


def rounded(kernel: np.dtype, rounds: int | float) -> float:
    """What rounding adds to an error that it is carried on undiminished over so many rounds.

    In double precision as if always the same way; in single, where products alone are rounded, up
    as often as down.
    """
    units = math.sqrt(rounds) if kernel == np.float32 else rounds
    return 8 * float(np.finfo(kernel).eps) * units


def rounding(affine: Affine, round: int, tolerance: float) -> float:
    """What rounding adds to theta_t - theta_0, relative, where the spectrum is real.

    sum_{s<t} lambda^s is at most 1 / (1/t + 1 - lambda), twice: the norm of (1 + 1/t - A)^-1, by
    power iteration, or t where that is little enough.
    """
    most = rounded(affine.kernel.dtype, round)
    if most <= tolerance / 10 or affine.kernel.dtype == np.float32:
        return most
    solve, state, longest = affine.resolvent(1 / round), affine.drive(), 0.0
    for _ in range(ITERATIONS):
        state = state / np.linalg.norm(state)
        state = solve(state)
        longest = max(longest, float(np.linalg.norm(state)))
    return ROUNDED * min(round, 2 * longest)


def degree(round: int, tolerance: float) -> int:
    """A bound on that of `polynomial`, never above t - 1."""
    enough = math.sqrt(2 * round * math.log(16 * max(round, 1) / tolerance)) + 20
    return min(max(round - 1, 0), math.ceil(enough))


def chebyshev(
    iteration: Iteration,
    affine: Affine,
    round: int,
    tolerance: float,
    begun: np.ndarray | None = None,
) -> Propagated:
    """z_t = sum_k a_k T_k(A) b with the Chebyshev coefficients a_k of sum_{s<t} lambda^s.

    From another z than zero, z_t - z with A z + b - z in place of b. The error estimate is the
    polynomial's own, relative as in `contours.error`.
    """
    coefficients, wrong = polynomial(round, tolerance)
    drive = affine.drive() if begun is None else affine.change(begun)
    if affine.kernel.size < OWN_ROWS_FROM:
        terms = len(coefficients)
        padded = np.pad(coefficients, (0, (1 << terms.bit_length()) - terms))
        given = map(jnp.asarray, (drive.ravel(), padded, terms))
        total = np.asarray(_in_one_program(iteration, *given)).reshape(drive.shape)
    else:
        total = _by_own_rows(affine, drive, coefficients)
    return Propagated(total, wrong, rounding(affine, round, tolerance))


@eqx.filter_jit
def _in_one_program(
    iteration: Iteration,
    drive: Float[Array, " state"],
    coefficients: Float[Array, " degree"],
    count: Int[Array, ""],
) -> Float[Array, " state"]:
    """sum_k a_k T_k(A) b, in products with all agents' coefficients."""
    action, _ = linear_part(iteration)

    def add(k: Int[Array, ""], carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        before, current, total = carry
        after = jnp.where(k == 1, 1, 2) * action(current) - jnp.where(k == 1, 0, 1) * before
        return current, after, total + coefficients[k] * after

    carry = (jnp.zeros_like(drive), drive, coefficients[0] * drive)
    return jax.lax.fori_loop(1, count, add, carry)[2]


def _by_own_rows(
    affine: Affine,
    drive: Float[np.ndarray, "states coordinates sides"],
    coefficients: Float[np.ndarray, " terms"],
) -> Float[np.ndarray, "states coordinates sides"]:
    """The same, in products of each agent's own rows of the kernel."""
    action, before, current = affine.action(), np.zeros_like(drive), drive
    total = coefficients[0] * drive
    for k, coefficient in enumerate(coefficients[1:], 1):
        after = action(current)
        if k > 1:
            after *= 2
            after -= before
        before, current = current, after
        total += coefficient * after
    return total


def polynomial(round: int, tolerance: float) -> tuple[Float[np.ndarray, " terms"], float]:
    """Chebyshev coefficients of sum_{s<t} lambda^s on [-1, 1], and their largest relative error.

    Of a hundredth of the tolerance at most, as outputs may weigh it more than lengths do, by as few
    terms as do it.
    """
    most = degree(round, tolerance)
    theta = np.pi * (np.arange(2 * most + 2) + 0.5) / (2 * most + 2)
    exact = contours.geometric_sum(2 * np.sin(theta / 2) ** 2, round)
    transformed = scipy.fft.dct(exact)

    def wrong(terms: int) -> float:
        some = np.where(np.arange(len(exact)) < terms, transformed, 0)
        return float((np.abs(scipy.fft.idct(some) - exact) / np.maximum(exact, 0.5)).max())

    terms = bisect.bisect_left(range(most + 1), -tolerance / 100, lo=1, key=lambda n: -wrong(n))
    coefficients = transformed[:terms] / len(exact)
    coefficients[0] /= 2
    return coefficients, wrong(terms)
