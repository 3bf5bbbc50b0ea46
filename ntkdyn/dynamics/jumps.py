"""Any round without the ones before: z_t = sum_{s<t} A^s b by the cheapest way that is valid.

    steps        t products with A                     always
    powers       A^2, A^4, A^8, ... and their sums      small states
    modes        eigenvectors (`modes`)                 small states, DGD with symmetric W
    chebyshev    about sqrt(2 t log(1/tolerance)) products with A     spectrum real, in [-1, 1]
    contour      linear systems as large as the kernel, as many at any t (`contours`)   likewise

What each way costs is estimated from the operations it takes, and the cheapest is taken.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from ntkdyn.dynamics import contours
from ntkdyn.dynamics.affine import Affine, Landing, affine, linear_part, unflattened
from ntkdyn.dynamics.modes import Modes
from ntkdyn.engine import System
from ntkdyn.errors import InputError, unknown
from ntkdyn.methods.updates import State

FLOPS = 2e10
"""Multiplications and additions per second, about; only its ratio to `BYTES` and `CALL` matters."""
BYTES = 8e9
CALL = 3e-5
"""Seconds that a round takes beside its arithmetic."""

ONCE = {"steps": 1e-3, "powers": 2e-3, "modes": 5e-3, "chebyshev": 0.3, "contour": 0.03}
"""Seconds that a way takes beside its arithmetic, the compilation of its program included."""

DENSE_UP_TO = 2000
"""The largest state whose matrix is squared or decomposed."""

EPS = float(np.finfo(np.float64).eps)


class Way(NamedTuple):
    """One way to a round."""

    seconds: Callable[[int, int], float]
    """from round, to round -> estimated cost"""
    land: Callable[[int], Landing] | None
    """None: by steps"""
    valid: Callable[[int], bool] = lambda round: True


class Jumps:
    """The ways of one system; called between recorded rounds, it jumps or says to step.

    `error` holds the estimated relative error of theta_t - theta_0 at every recorded round, and
    `taken` the way that led there.
    """

    def __init__(
        self,
        system: System,
        *,
        via: str = "auto",
        tolerance: float = 1e-9,
        stable: bool = True,
    ) -> None:
        self._system, self._tolerance = system, tolerance
        self._via, self._stable = via, stable
        self.error: dict[int, float] = {0: 0.0}
        self.taken: dict[int, str] = {0: "start"}

    def __call__(self, state: State, done: int, wanted: int) -> State | None:
        """The state in round `wanted`, or None where stepping on from `done` is the way."""
        if wanted == done:
            return None
        stepping = (wanted - done) * self._step_seconds
        if self._via == "auto" and stepping < self._study_seconds:
            return self._step(done, wanted)
        ways = {name: way for name, way in self._open.items() if way.valid(wanted)}
        missed = {}
        for name in sorted(ways, key=lambda each: ONCE[each] + ways[each].seconds(done, wanted)):
            land = ways[name].land
            if land is None:
                break
            with np.errstate(over="ignore", invalid="ignore"):
                landing = land(wanted)
            if landing.error <= self._tolerance or not np.isfinite(landing.state).all():
                self._note(wanted, name, landing.error)
                return unflattened(state, landing.state)
            missed[name] = landing.error
        if missed:
            best = min(missed, key=missed.get)
            raise InputError(
                f"tolerance: {self._tolerance:g} cannot be met in round {wanted}; {best} comes "
                f'closest with an error of {missed[best]:.1g}; raise it or take via="steps"'
            )
        return self._step(done, wanted)

    def _step(self, done: int, wanted: int) -> None:
        self._note(wanted, "steps", self.error[done] + EPS * (wanted - done))

    def _note(self, round: int, way: str, error: float) -> None:
        self.taken[round], self.error[round] = way, error

    def _ways(self, *, real: bool) -> dict[str, Way]:
        affine, tolerance = self._affine, self._tolerance
        ways = {"steps": Way(lambda done, wanted: (wanted - done) * self._step_seconds, None)}
        if affine.size <= DENSE_UP_TO:
            powers = Powers(affine)
            ways["powers"] = Way(lambda done, wanted: powers.seconds(wanted), powers.land)
            if Modes.exist(affine):
                modes = Modes(affine)
                ways["modes"] = Way(lambda done, wanted: modes.seconds / FLOPS, modes.land)
        if real:
            ways["chebyshev"] = Way(
                lambda done, wanted: 1.5 * degree(wanted, tolerance) * self._step_seconds,
                lambda round: chebyshev(self._system, affine, round, tolerance),
                lambda round: round > 0,
            )
            solve = 8 / 3 * len(affine.kernel) ** 3 + 8 * len(affine.loop.P) ** 3
            ways["contour"] = Way(
                lambda done, wanted: max(contours.NODES) * solve / FLOPS,
                lambda round: along_contour(affine, round, tolerance),
                lambda round: round >= contours.FROM_ROUND,
            )
        return ways

    @functools.cached_property
    def _affine(self) -> Affine:
        return affine(self._system)

    @functools.cached_property
    def _open(self) -> dict[str, Way]:
        """The ways that may be taken."""
        ways = self._ways(real=self._affine.loop.symmetrisable and self._stable)
        if self._via == "auto":
            return ways
        if self._via not in ways:
            raise self._closed(self._via, self._stable)
        return {self._via: ways[self._via]}

    @functools.cached_property
    def _step_seconds(self) -> float:
        """What a step takes: the kernel between owned points, and the links between agents."""
        agents, train, outputs = jax.tree.leaves(self._system.init())[0].shape
        rows, moved = self._system.space.kernel.size, agents * train * outputs
        links = max(leaf.size for leaf in jax.tree.leaves(self._system.weights))
        flops = 2 * moved * links / agents + 2 * train * outputs * train
        return CALL + max(flops / FLOPS, 8 * (rows + 2 * moved) / BYTES)

    @functools.cached_property
    def _study_seconds(self) -> float:
        """What it takes to know the method's loop."""
        states = len(jax.tree.leaves(self._system.init())) * self._system.space.agents
        return ONCE["contour"] + 10 * states**3 / FLOPS

    def _closed(self, via: str, stable: bool) -> InputError:
        every = ("auto", "steps", "powers", "modes", "chebyshev", "contour")
        if via not in every:
            return unknown("via", via, every)
        if via in ("powers", "modes") and self._affine.size > DENSE_UP_TO:
            return InputError(
                f"via: the state has {self._affine.size} entries and {via} are for up to "
                f'{DENSE_UP_TO}; use via="auto"'
            )
        if via == "modes":
            return InputError('via: modes are those of dgd with symmetric W; use via="auto"')
        why = "symmetric W, and W >= 0 unless the method is dgd" if stable else "a stable step size"
        return InputError(f'via: {via} needs {why}; use via="auto"')


class Powers:
    """A^(2^j) and b_j = sum_{s<2^j} A^s b, squared as far as is asked.

    On the states that are reached only (`Loop.reached`): rounding errors in sums that a method
    keeps would grow with t. From both ends of the binary digits of t the same z_t is put together
    with other roundings; their difference is the error estimate.
    """

    def __init__(self, affine: Affine) -> None:
        self._basis = affine.loop.reached
        self._affine = affine._replace(loop=affine.loop.moving)
        self._squares: list[tuple[np.ndarray, np.ndarray]] = []

    def seconds(self, round: int) -> float:
        missing = max(0, round.bit_length() - len(self._squares))
        size = self._affine.size
        return (2 * missing * size**3 + 4 * round.bit_length() * size**2) / FLOPS

    def land(self, round: int) -> Landing:
        digits = [j for j in range(round.bit_length()) if round >> j & 1]
        self._square_up_to(round.bit_length())
        upwards, downwards = (self._assembled(order) for order in (digits, digits[::-1]))
        scale = max(np.linalg.norm(upwards), EPS)
        state = np.tensordot(self._basis, upwards.reshape(self._affine.drive().shape), 1)
        return Landing(state, float(np.linalg.norm(upwards - downwards) / scale))

    def _assembled(self, digits: list[int]) -> np.ndarray:
        z = np.zeros((self._affine.size, self._affine.residual.shape[1]))
        for j in digits:
            power, driven = self._squares[j]
            z = power @ z + driven
        return z

    def _square_up_to(self, count: int) -> None:
        if not self._squares:
            drive = self._affine.drive().reshape(self._affine.size, -1)
            self._squares.append((self._affine.matrix(), drive))
        while len(self._squares) < count:
            power, driven = self._squares[-1]
            self._squares.append((power @ power, power @ driven + driven))


def along_contour(affine: Affine, round: int, tolerance: float) -> Landing:
    """z_t from as few nodes as the tolerance allows."""
    nodes = contours.nodes_for(round, tolerance)
    return Landing(contours.state_at(affine, round, nodes), contours.error(round, nodes))


def degree(round: int, tolerance: float) -> int:
    """Of the polynomial that stands for sum_{s<t} lambda^s on [-1, 1]; never above t - 1."""
    enough = math.sqrt(2 * round * math.log(16 * max(round, 1) / tolerance)) + 20
    return min(max(round - 1, 0), math.ceil(enough))


def chebyshev(system: System, affine: Affine, round: int, tolerance: float) -> Landing:
    """z_t = sum_k a_k T_k(A) b with the Chebyshev coefficients a_k of sum_{s<t} lambda^s.

    The error estimate is the polynomial's own, relative as in `contours.error`.
    """
    top = degree(round, tolerance)
    theta = np.pi * (np.arange(2 * top + 2) + 0.5) / (2 * top + 2)
    exact = contours.geometric_sum(2 * np.sin(theta / 2) ** 2, round)
    transformed = scipy.fft.dct(exact)
    transformed[top + 1 :] = 0
    wrong = np.abs(scipy.fft.idct(transformed) - exact) / np.maximum(exact, 0.5)
    coefficients = np.zeros(1 << (top + 1).bit_length())
    coefficients[: top + 1] = transformed[: top + 1] / len(exact)
    coefficients[0] /= 2
    flat = _chebyshev_sum(system, jnp.asarray(coefficients), jnp.asarray(top + 1))
    return Landing(np.asarray(flat).reshape(affine.drive().shape), float(wrong.max()))


@eqx.filter_jit
def _chebyshev_sum(
    system: System, coefficients: Float[Array, " degree"], count: Int[Array, ""]
) -> Float[Array, " state"]:
    action, size = linear_part(system)
    grad, mix = system.gradient(0), system.mix(0)
    drive = ravel_pytree(system.method.update.step(system.init(), grad, mix))[0]

    def add(k: Int[Array, ""], carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        before, current, total = carry
        after = jnp.where(k == 1, 1, 2) * action(current) - jnp.where(k == 1, 0, 1) * before
        return current, after, total + coefficients[k] * after

    carry = (jnp.zeros(size), drive, coefficients[0] * drive)
    return jax.lax.fori_loop(1, count, add, carry)[2]
