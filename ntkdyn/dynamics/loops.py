"""A method on a graph as a linear system, and the part of it that ever moves.

What a method does to one kernel coordinate (a training point, or a point and an output where
outputs couple) is the same for all of them, with the gradients u as an input from outside:

    z <- P z + Q u,      v = R z is where gradients are taken,      x = X z

P, Q, R and X come from the method's own step, so they cannot drift from what is run. The states
that gradients can reach from zero are the span of Q, P Q, P^2 Q, ...: sums that a method keeps
(1'q of corrections, 1'(y - g') of trackers) stay zero there, and with them goes a double eigenvalue
one of P, which is no growth. What is asked of a method's rounds (limits, rates, variances, powers)
is asked of this controllable part.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from ntkdyn import losses
from ntkdyn.data import full
from ntkdyn.engine import Iteration
from ntkdyn.errors import InputError
from ntkdyn.links.link import Injected
from ntkdyn.methods import Method
from ntkdyn.methods.mixing import Operator, Plain
from ntkdyn.methods.updates import Update
from ntkdyn.spaces import KernelSpace
from ntkdyn.thresholds import LINEAR, REACHED
from ntkdyn.vectors import Point, Vector

EPS = 8 * float(np.finfo(np.float64).eps)
"""What rounding makes of zero, relative to the largest value there is."""

PERIOD_UP_TO = 512
"""The most rounds after which a method and a changing graph may repeat."""


class Loop(NamedTuple):
    """z+ = P z + Q u, v = R z, x = X z: a method on a graph, its gradients u from outside."""

    P: Float[np.ndarray, "states states"]
    Q: Float[np.ndarray, "states agents"]
    R: Float[np.ndarray, "agents states"]
    X: Float[np.ndarray, "agents states"]

    @property
    def ports(self) -> Float[np.ndarray, "states states agents"]:
        """Q_si R_it: how agent i's gradient at state t enters state s."""
        return ports(self.Q, self.R)

    @property
    def symmetrisable(self) -> bool:
        """Whether A is similar to a symmetric matrix, so its spectrum real, whatever the kernel.

        It is where P is symmetric and -R Q a function of P that is nowhere negative: DGD with
        symmetric W (R Q = -eta), ATC and CTA with W >= 0 too (R Q = -eta W).
        """
        if self.P.shape != self.Q.shape or np.abs(self.P - self.P.T).max() > LINEAR:
            return False
        felt = -self.R @ self.Q
        apart = max(np.abs(felt - felt.T).max(), np.abs(felt @ self.P - self.P @ felt).max())
        scale = np.abs(felt).max()
        return bool(apart <= LINEAR * scale and np.linalg.eigvalsh(felt)[0] >= -LINEAR * scale)

    @property
    def silent(self) -> Noise:
        """That of messages to which nothing is added."""
        states, agents = self.P.shape[1], len(self.R)
        shapes = ((states, 0), (agents, 0), (0, states), (0, agents), (0, 0), (0,))
        return Noise(*map(np.zeros, shapes))

    @property
    def units(self) -> Float[np.ndarray, " states"]:
        """What counts as one of every entry of the state, so that no entry dwarfs another.

        A gradient that moves the iterate by one changes an entry by its unit: trackers and momenta
        hold gradients, which are iterates over a step size. The same for all agents.
        """
        kinds = np.abs(self.Q).reshape(-1, self.Q.shape[1] ** 2).max(axis=1)
        kinds = np.where(kinds > 0, kinds / np.abs(self.X @ self.Q).max(), 1.0)
        return np.repeat(kinds, self.Q.shape[1])

    @property
    def in_units(self) -> Loop:
        """The same loop on the state in `units`."""
        return _rescaled(self, self.units)

    @property
    def moving(self) -> Loop:
        """The controllable part, in an orthonormal basis (in `units`) of the states reached."""
        return Reached.by([self]).loops[0]

    def at(self, shift: complex | float) -> tuple[np.ndarray, np.ndarray]:
        """(lambda - P)^-1 and G(lambda) = R (lambda - P)^-1 Q for lambda = 1 + shift."""
        identity = np.eye(len(self.P))
        inverse = np.linalg.inv(shift * identity + (identity - self.P))
        return inverse, self.R @ inverse @ self.Q


class Noise(NamedTuple):
    """z+ = P z + Q u + N xi, v = R z + M xi: what a unit of each noise on messages does.

    Where a compressor adds it, to what it makes of y = U z + V u + G xi; 0 elsewhere.
    """

    N: Float[np.ndarray, "states noises"]
    M: Float[np.ndarray, "agents noises"]
    U: Float[np.ndarray, "noises states"]
    V: Float[np.ndarray, "noises agents"]
    G: Float[np.ndarray, "noises noises"]
    steady: Float[np.ndarray, " noises"]
    """1 of noise that is as large in any state, 0 of what a compressor leaves out"""

    def among(self, some: Bool[np.ndarray, " noises"]) -> Noise:
        """Those alone."""
        N, M = self.N[:, some], self.M[:, some]
        return Noise(N, M, self.U[some], self.V[some], self.G[some][:, some], self.steady[some])


class Reached(NamedTuple):
    """The states that gradients (and noise) reach from zero in any of the rounds, z = basis x."""

    basis: Float[np.ndarray, "states free"]
    loops: tuple[Loop, ...]
    """the rounds' loops on x"""
    noises: tuple[Noise, ...]
    """what noise does to x in these rounds"""

    @staticmethod
    def by(loops: Sequence[Loop], noises: Sequence[Noise] = ()) -> Reached:
        """The smallest space that holds every round's Q and N and that no P leads out of."""
        units = np.max([loop.units for loop in loops], axis=0)
        scaled = [_rescaled(loop, units) for loop in loops]
        noises = noises or [loop.silent for loop in loops]
        noises = [each._replace(N=each.N / units[:, None], U=each.U * units) for each in noises]
        free = _reach(scaled, _of_size_one([each.N for each in noises]))
        moving = [
            Loop(free.T @ loop.P @ free, free.T @ loop.Q, loop.R @ free, loop.X @ free)
            for loop in scaled
        ]
        kicks = tuple(each._replace(N=free.T @ each.N, U=each.U @ free) for each in noises)
        return Reached(units[:, None] * free, tuple(moving), kicks)


def _rescaled(loop: Loop, units: Float[np.ndarray, " states"]) -> Loop:
    return Loop(
        loop.P * units / units[:, None], loop.Q / units[:, None], loop.R * units, loop.X * units
    )


def _of_size_one(noises: Sequence[np.ndarray]) -> list[Float[np.ndarray, "states some"]]:
    """Each noise as large as one, in the round where it does most: little leads as far as much."""
    largest = np.max([np.linalg.norm(N, axis=0) for N in noises], axis=0)
    return [N / np.where(largest > 0, largest, 1) for N in noises]


def _reach(
    loops: Sequence[Loop], also: Sequence[Float[np.ndarray, "states some"]]
) -> Float[np.ndarray, "states free"]:
    """An orthonormal basis of what repeated P make of Q and others; I where that is everything."""
    size, Q = len(loops[0].P), np.concatenate([loop.Q for loop in loops], axis=1)
    scale = np.linalg.norm(Q, 2)
    basis, new = np.zeros((size, 0)), np.concatenate([Q, *(scale * each for each in also)], axis=1)
    while new.shape[1] and basis.shape[1] < size:
        new = _directions(new - basis @ (basis.T @ new), scale)
        new = _directions(new - basis @ (basis.T @ new), 1.0)
        basis = np.concatenate([basis, new], axis=1)
        new = np.concatenate([loop.P @ new for loop in loops], axis=1)
        scale = max(np.linalg.norm(loop.P, 2) for loop in loops)
    return basis if basis.shape[1] < size else np.eye(size)


def _directions(
    columns: Float[np.ndarray, "states many"], scale: float
) -> Float[np.ndarray, "states new"]:
    """An orthonormal basis of the columns, without what is a negligible share of `scale`."""
    basis, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return basis[:, sizes > REACHED * scale]


def ports(
    Q: Float[np.ndarray, "after agents"], R: Float[np.ndarray, "agents before"]
) -> Float[np.ndarray, "after before agents"]:
    """Q_si R_it."""
    return np.einsum("si,it->sti", Q, R)


def closed(
    P: Float[np.ndarray, "after before"],
    ports: Float[np.ndarray, "after before agents"],
    hessians: Float[np.ndarray, "agents features features"],
) -> Float[np.ndarray, "state entering"]:
    """A = P (x) I + sum_i Q_i R_i (x) H_i: a loop with its own gradients, dense."""
    rank = hessians.shape[1]
    pulled = (ports.reshape(P.size, len(hessians)) @ hessians.reshape(len(hessians), -1)).reshape(
        *P.shape, rank, rank
    )
    pulled = np.swapaxes(pulled, 1, 2).reshape(len(P) * rank, -1)
    return np.kron(P, np.eye(rank)) + pulled


def loops_on(method: Method, operator: Operator, agents: int) -> tuple[Loop, ...]:
    """The method's loops on a graph: the same whatever the kernel, which is 1 here."""
    return open_loops(Iteration(method=method, weights=operator, **_unit(agents)))


@functools.lru_cache(maxsize=16)
def _unit(agents: int) -> dict[str, Any]:
    """One point for each agent, all kernels 1."""
    # What is kept must be arrays, also where a program that is traced asks first.
    with jax.ensure_compile_time_eval():
        targets, kernel = jnp.zeros((agents, 1)), jnp.ones((agents, agents))
    return {
        "space": KernelSpace(kernel, targets, agents, {}),
        "batches": full(np.arange(agents), agents),
        "targets": targets,
        "loss": losses.mse,
    }


def open_loops(iteration: Iteration) -> tuple[Loop, ...]:
    """The method's step in every round of its period, linear in its state and in its gradients."""
    name, period = iteration.method.name, iteration.period
    if not iteration.method.linear:
        raise InputError(f"{name}: has no closed form, its rounds are not affine maps")
    if period > PERIOD_UP_TO:
        raise InputError(
            f"{name}: has no closed form, its rounds on these weights repeat after {period} only, "
            f"and at most {PERIOD_UP_TO} are looked at"
        )
    rest = _rest(iteration)
    return tuple(_open(iteration, rest, *each) for each in enumerate(_cycle(iteration)))


def noises(iteration: Iteration, arrives: Float[np.ndarray, "agents agents"]) -> Iterator[Noise]:
    """What links add in every round in which this arrives, by link, exchange and agent.

    By one step from all unit states, unit gradients and units of noise.
    """
    method, agents, states = iteration.method, iteration.space.agents, _rest(iteration).states
    update = method.update
    shape = len(update.links), update.exchanges(agents), agents
    parts, count = [states, states + agents], math.prod(shape)
    *still, units = np.split(np.eye(states + agents + count), parts)
    taken = np.zeros_like(units)
    injected = Injected(units.reshape(*shape, -1), taken.reshape(*shape, -1))
    known = dataclasses.replace(method, update=update.known(arrives, injected))
    rest = _rest(dataclasses.replace(iteration, method=known))
    steady = np.repeat([float(link.blurs) for link in update.links], count // len(update.links))
    for at in enumerate(_cycle(iteration)):
        taken[:] = 0
        moved, felt, _ = _stepped(iteration, rest, *at, *still)
        seen = np.split(taken.copy(), parts, axis=1)
        yield Noise(moved[:, -count:], felt[:, -count:], *seen, steady)


def _cycle(iteration: Iteration) -> Iterator[Plain]:
    """The weights of every round of the period."""
    cycle = [Plain.of(each) for each in iteration.weights.matrices()]
    return itertools.islice(itertools.cycle(cycle), iteration.period)


class _Rest(NamedTuple):
    """The state at rest, and the update with its step size as a number."""

    leaves: int
    tree: Any
    states: int
    update: Update


def _rest(iteration: Iteration) -> _Rest:
    method, agents = iteration.method, iteration.space.agents
    update = method.with_step_size(float(method.step_size)).update
    start, tree = jax.tree.flatten(update.init(Point(np.zeros((agents, 1)))))
    if any(leaf.shape != (agents, 1) for leaf in start):
        raise InputError(f"{method.name}: has no closed form, its state is not made of vectors")
    return _Rest(len(start), tree, len(start) * agents, update)


def _open(iteration: Iteration, rest: _Rest, round: int, weights: Plain) -> Loop:
    """P, Q, R and X, by one step from all unit states, and one more from a state at random.

    Columns of the vectors are the unit states, the unit gradients, and the state at random.
    """
    agents, states, name = iteration.space.agents, rest.states, iteration.method.name
    probe = np.random.default_rng(0).standard_normal(states + agents)
    columns = np.concatenate([np.eye(states + agents), probe[:, None]], axis=1)
    moved, felt, iterate = _stepped(iteration, rest, round, weights, *np.split(columns, [states]))
    if not _linear(np.concatenate([moved, felt, iterate]), probe):
        raise InputError(f"{name}: has no closed form, its step is not linear")
    if felt[:, states:-1].any():
        raise InputError(f"{name}: has no closed form, its gradients feed back within a round")
    return Loop(moved[:, :states], moved[:, states:-1], felt[:, :states], iterate[:, :states])


def _stepped(
    iteration: Iteration,
    rest: _Rest,
    round: int,
    weights: Plain,
    states: Float[np.ndarray, "states columns"],
    gradients: Float[np.ndarray, "agents columns"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States after the round, where gradients were taken in it, and the iterates before."""
    method = iteration.method
    seen: list[np.ndarray] = []

    def grad(x: Point) -> Vector:
        seen.append(np.asarray(x.tree))
        return method.objective.onto(Vector(gradients), Vector(x.tree))

    state = rest.tree.unflatten(np.split(states, rest.leaves))
    # Loops of JAX's in a step run in Python, as NumPy's arrays and sparse ones cannot be traced.
    with jax.disable_jit():
        after = rest.update.step(state, grad, method.mixing.bind(weights, round, iteration))
    if len(seen) != 1:
        raise InputError(
            f"{method.name}: has no closed form, it takes {len(seen)} gradients a round"
        )
    moved = np.concatenate([np.asarray(leaf) for leaf in jax.tree.leaves(after)])
    return moved, seen[0], np.asarray(state.x.tree)


def _linear(rows: Float[np.ndarray, "rows columns"], probe: Float[np.ndarray, " units"]) -> bool:
    """Whether the last column is that combination of the others, but for rounding."""
    sizes = np.abs(rows[:, :-1]) @ np.abs(probe)
    apart = np.abs(rows[:, :-1] @ probe - rows[:, -1])
    return bool((apart <= LINEAR * sizes + EPS * sizes.max()).all())
