"""Gradient flows: the limit of small steps on a fixed graph, and how far real steps are from it.

    d theta / dt = -(1/eta) (1 - W) theta - g(theta)          DGD
                   -(1/eta) (1 - W) theta - g(W theta)        CTA
                   -(1/eta) (1 - W) theta - W g(theta)        ATC

One step of length eta by Euler's rule is one round of the method, so time t stands for round
t / eta, and the right-hand side is (step(z) - z) / eta with the method's own step. (The
continuous model of Chaudhari et al. 2025 as papers/p2p-dynamics reconstructs it.)

With the squared error z' = ((A - 1) z + b) / eta, and with Phi(t, s) = exp((A - 1)(t - s) / eta)

    z(t) = (t/eta) phi_1((A - 1) t / eta) b,      phi_1(x) = (e^x - 1) / x,

which holds for singular A - 1 too. For other losses the equation is integrated adaptively.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import diffrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ntkdyn import losses, precision, thresholds
from ntkdyn.dynamics import contours
from ntkdyn.dynamics.affine import Affine, affine, unflattened
from ntkdyn.dynamics.modes import Modes
from ntkdyn.dynamics.realization import Features, Realization
from ntkdyn.dynamics.stability import known_step, one_map
from ntkdyn.engine import Iteration, Progress
from ntkdyn.errors import InputError
from ntkdyn.graphs import Weights
from ntkdyn.linearization import Linearization
from ntkdyn.methods import Method
from ntkdyn.methods.updates import Memoryless, State
from ntkdyn.problems import KernelProblem
from ntkdyn.quantities import described
from ntkdyn.records import Record
from ntkdyn.runs import Plan, iteration_of, plan, run
from ntkdyn.saving import SaveOptions
from ntkdyn.system import System, question

NODES = 24


class Flow:
    """The gradient flow of a method on a problem, in kernel coefficients.

    States are (agents, coordinates, sides) arrays of coefficients c_i, theta_i = theta_0 + J^T c_i:
    coordinates are training points and sides outputs where the kernel is the same for every
    output, otherwise coordinates are points x outputs and there is one side.

    Args:
        system: or problem, method, weights in its place, with `kernel` by name.

    Raises:
        InputError: where small steps have no limit, or the loss is not the squared error.

    Example:
        >>> nd.dynamics.Flow(bare, dgd, W).state(3.0).shape
        (3, 6, 1)
    """

    @question("kernel")
    @precision.in_double
    def __init__(self, system: System) -> None:
        asked = plan(system, 0).by(known_step(system.method))
        _check_flows(asked)
        iteration = iteration_of(asked, system.problem.kernel_space(system.kernel))
        self.step_size = float(system.method.step_size)
        self._affine = affine(iteration)
        initial = np.asarray(iteration.space.initial)[: iteration.space.train]
        self._start = initial.reshape(self._affine.residual.shape)

    def state(self, time: float | int) -> Float[np.ndarray, "agents coordinates sides"]:
        """c(t) from c(0) = 0."""
        return _driven(self._affine, self._modes, _rounds("time", time, self.step_size))

    def states(
        self, times: Float[np.ndarray, " times"]
    ) -> Float[np.ndarray, "times agents coordinates sides"]:
        """c at each of these times, in one go where the modes are known."""
        rounds = self._each_in_rounds(times)
        if self._modes:
            return self._modes.states(lambda apart: _phi(apart[:, None], rounds))
        return np.stack([_driven(self._affine, None, float(each)) for each in rounds])

    def outputs(
        self, times: Float[np.ndarray, " times"]
    ) -> Float[np.ndarray, "times agents coordinates sides"]:
        """f_i(t) = f_0 + K c_i(t) at the training points, at each of these times."""
        if self._modes:
            rounds = self._each_in_rounds(times)
            moved = self._modes.outputs(lambda apart: _phi(apart[:, None], rounds))
        else:
            moved = self._affine.kernel @ self.states(times)
        moved += self._start
        return moved

    def _each_in_rounds(self, times: Float[np.ndarray, " times"]) -> np.ndarray:
        return np.array([_rounds("time", float(each), self.step_size) for each in times])

    def transition(self, time: float | int, since: float | int = 0.0) -> Transition:
        """Phi(time, since)."""
        return Transition(self, time, since)

    @functools.cached_property
    def generator(self) -> Float[np.ndarray, "displacements displacements"]:
        """d/dt of the displacements that training can reach, in lengths of parameter space.

        With K = F F^T, agent i's displacement is F^T c_i: the same length, fewer coordinates.
        """
        self._check_dense()
        matrix = Realization(self._affine, Features(self._affine.kernel).rows).matrix()
        return (matrix - np.eye(len(matrix))) / self.step_size

    def _check_dense(self) -> None:
        if self._affine.size > thresholds.MATRIX_UP_TO:
            raise InputError(
                f"flow: a state of {self._affine.size} entries is too large for a matrix, which "
                f"is formed up to {thresholds.MATRIX_UP_TO}; apply the transition to states instead"
            )

    @functools.cached_property
    def _modes(self) -> Modes | None:
        small = self._affine.size <= thresholds.MATRIX_UP_TO
        return Modes(self._affine) if small and Modes.exist(self._affine) else None


class Transition:
    """Phi(t, s): what the flow without its drive makes in time t of what there is in time s.

    `Phi(t, s) @ Phi(s, r)` is Phi(t, r); `inverse()` is Phi(s, t).

    Args:
        flow: whose it is.
        time: t, in units of step_size x round.
        since: s, in the same.

    Example:
        >>> Phi = nd.dynamics.Flow(bare, dgd, W).transition
        >>> c = np.ones((3, 6, 1))
        >>> bool(np.allclose(Phi(3, 1)(Phi(1, 0)(c)), Phi(3, 0)(c)))
        True
    """

    def __init__(self, flow: Flow, time: float | int, since: float | int) -> None:
        for name, value in (("time", time), ("since", since)):
            if not np.isfinite(value):
                raise InputError(f"{name}: must be finite, got {value}")
        self.flow, self.time, self.since = flow, float(time), float(since)

    def __matmul__(self, other: Transition) -> Transition:
        if other.flow is not self.flow:
            raise InputError("transition: both must be of the same flow")
        if other.time != self.since:
            raise InputError(
                f"transition: ({self.time:g}, {self.since:g}) does not start where "
                f"({other.time:g}, {other.since:g}) ends"
            )
        return Transition(self.flow, self.time, other.since)

    def inverse(self) -> Transition:
        """Phi(s, t): back in time, for small problems."""
        return Transition(self.flow, self.since, self.time)

    def matrix(self) -> Float[np.ndarray, "displacements displacements"]:
        """Phi on the displacements that training can reach, in lengths of parameter space."""
        return scipy.linalg.expm(self.flow.generator * (self.time - self.since))

    def norm(self) -> float:
        """The most that any displacement can grow; for DGD at most 1, if W is doubly stochastic."""
        return float(np.linalg.norm(self.matrix(), 2))

    @precision.in_double
    def __call__(
        self, state: Float[np.ndarray, "agents coordinates sides"]
    ) -> Float[np.ndarray, "agents coordinates sides"]:
        """Phi c."""
        flow = self.flow
        rounds = (self.time - self.since) / flow.step_size
        if rounds == 0:
            return state
        if rounds > 0 and flow._affine.loop.symmetrisable:
            return contours.flow_at(flow._affine, rounds, NODES, state)
        flow._check_dense()
        generator = flow._affine.matrix() - np.eye(flow._affine.size)
        moved = scipy.linalg.expm(rounds * generator) @ state.reshape(len(generator), -1)
        return moved.reshape(state.shape)


@question("kernel")
@precision.in_double
def flow(
    system: System,
    rounds: int | Sequence[int],
    *,
    save: SaveOptions = SaveOptions(),
    tolerance: float = 1e-9,
    progress: Progress | None = None,
) -> Record:
    """What `predict` would show if steps were infinitely small: time t = step_size x round.

    The record has the variables of a prediction and the coordinate `time`, so that `compare`
    with one is the gap between flow and steps. `tolerance` is for losses without a closed form.

    Args:
        system: or problem, method, weights in its place, with `kernel` by name.
        rounds: how many, or which are recorded, ascending.
        save: what the record holds.
        tolerance: of the integration, relative.
        progress: called with (rounds done, rounds in all).

    Returns:
        The variables of `predict`, and `time` (round).

    Raises:
        InputError: where small steps have no limit.

    Example:
        >>> round(float(nd.dynamics.flow(bare, dgd, W, [0, 10])["time"][-1]), 6)
        1.0

    Source: for CTA and ATC a reconstruction of Chaudhari et al. 2025.
    """
    asked = plan(system, rounds, save).by(known_step(system.method))
    _check_flows(asked)
    problem = system.problem
    space = problem.kernel_space(system.kernel)
    closed = problem.task.loss is losses.mse
    given = isinstance(problem, KernelProblem)
    record = run(
        asked,
        space,
        origin=None if given else problem.start,
        lift=None if given else Linearization.of(problem, "outputs").lift,
        progress=progress,
        propagator=_closed if closed else functools.partial(_integrated, tolerance=tolerance),
    )
    record = record.assign_coords(time=("round", record["round"].values * record.step_size))
    told = {"space": "kernel", "kernel": system.kernel.name, "flow": 1}
    return described(record).assign_attrs(told | (problem.adjusted if given else {}))


def has_flow(method: Method, weights: Weights) -> bool:
    """Whether small steps have a limit here: DGD, CTA and ATC, every round on the same graph.

    Args:
        method: what is run.
        weights: a mixing matrix, or several in turn.

    Returns:
        Whether `flow` is known.

    Example:
        >>> nd.dynamics.has_flow(dgd, W), nd.dynamics.has_flow(nd.methods.diging(step_size=0.1), W)
        (True, False)
    """
    return isinstance(method.update, Memoryless) and one_map(method, weights)


def _check_flows(asked: Plan) -> None:
    if not has_flow(asked.method, asked.weights):
        raise InputError(
            f"flow: that of {asked.method.name} on these weights is not defined here; dgd, cta and "
            f"atc have one, exchanging in every round over the same graph"
        )


def _rounds(name: str, time: float | int, step_size: float) -> float:
    if not 0 <= time < np.inf:
        raise InputError(f"{name}: must be finite and not negative, got {time}")
    return time / step_size


def _closed(iteration: Iteration) -> Callable[[State, int, int], State]:
    """Goes to any time by the closed form."""
    map = affine(iteration)
    small = map.size <= thresholds.MATRIX_UP_TO
    modes = Modes(map) if small and Modes.exist(map) else None
    return lambda state, done, wanted: unflattened(state, _driven(map, modes, wanted))


def _driven(map: Affine, modes: Modes | None, rounds: float | int) -> np.ndarray:
    """(t/eta) phi_1((A - 1) t/eta) b."""
    if rounds == 0:
        return np.zeros_like(map.drive())
    if modes:
        return modes.states(lambda apart: _phi(apart, rounds)[:, None])[0]
    if map.loop.symmetrisable:
        return contours.flow_at(map, rounds, NODES)
    if map.size > thresholds.MATRIX_UP_TO:
        raise InputError(
            f"flow: a state of {map.size} entries is too large for a dense exponential, made up to "
            f"{thresholds.MATRIX_UP_TO}, and W is not symmetric and positive; use predict with "
            f"small steps"
        )
    drive = map.drive()
    augmented = np.zeros((map.size + drive.shape[2],) * 2)
    augmented[: map.size, : map.size] = map.matrix() - np.eye(map.size)
    augmented[: map.size, map.size :] = drive.reshape(map.size, -1)
    return scipy.linalg.expm(rounds * augmented)[: map.size, map.size :].reshape(drive.shape)


def _phi(apart: np.ndarray, rounds: np.ndarray | float | int) -> np.ndarray:
    """(1 - exp(-apart t)) / apart."""
    moving = np.where(apart > 0, apart, 1)
    return np.where(apart > 0, np.expm1(-apart * rounds) / -moving, rounds)


def _integrated(iteration: Iteration, *, tolerance: float) -> Callable[[State, int, int], State]:
    """Goes from time to time by an adaptive Runge-Kutta method."""

    def propagate(state: State, done: int, wanted: int) -> State:
        return (
            state
            if wanted == done
            else _solve(
                iteration, state, jnp.asarray(float(done)), jnp.asarray(float(wanted)), tolerance
            )
        )

    return propagate


@eqx.filter_jit
def _solve(
    iteration: Iteration,
    state: State,
    start: Float[Array, ""],
    stop: Float[Array, ""],
    tolerance: float,
) -> State:
    grad, mix = iteration.gradient(0), iteration.mix(0)
    flat, unravel = ravel_pytree(state)

    def slope(time: Array, z: Array, _: None) -> Array:
        return ravel_pytree(iteration.method.update.step(unravel(z), grad, mix))[0] - z

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(slope),
        diffrax.Tsit5(),
        start,
        stop,
        0.1,
        flat,
        saveat=diffrax.SaveAt(t1=True),
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance * 1e-3),
        max_steps=None,
    )
    return unravel(solution.ys[0])
