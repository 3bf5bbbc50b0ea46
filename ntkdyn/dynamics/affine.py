"""A method with the squared error and fixed W is an affine map of its state, z -> A z + b.

What the method does to one kernel coordinate a (a training point, or a point and an output where
outputs couple) is its open loop on the graph, the same for all a:

    z[:, a] <- P z[:, a] + Q[:, o(a)] u_a          o(a) owns a; v = R z is where gradients are taken
    u_a = (e_a + sum_b K_ab v[o(a), b]) / n_o(a)   e = f(theta_0) - y

P, Q and R come from the method's own step by `jax.linearize`, so they cannot drift from what is
run. With the transfer function G(lambda) = R (lambda - P)^-1 Q, graph and kernel meet in

    (lambda - A)^-1 b = (lambda - P)^-1 Q[:, o] w,     (diag(n_o) - K * G(lambda)[o, o']) w = e

where * is the entry-wise product: one linear system of the size of the kernel, whatever the number
of agents and the memory of the method.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import matfree.decomp
import numpy as np
import scipy.linalg
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Complex, Float, Int

from ntkdyn import precision
from ntkdyn.engine import System
from ntkdyn.errors import InputError
from ntkdyn.methods.mixing import Cycle
from ntkdyn.methods.updates import State
from ntkdyn.vectors import Vector

DENSE_UP_TO = 600
"""Up to this size of the state A is formed and all its eigenvalues are computed."""

KEPT = 1e-10
"""Sums that a round changes by no more than this share are kept."""

KRYLOV = 150
"""The dimension of the Krylov space in which the outermost eigenvalues of a larger A are sought."""

LINEAR = 1e-10
"""How far from linear a step may be, relative to its values, and still count as rounded."""


class Loop(NamedTuple):
    """z+ = P z + Q u, v = R z, x = X z: a method on a graph, its gradients u from outside."""

    P: Float[np.ndarray, "states states"]
    Q: Float[np.ndarray, "states agents"]
    R: Float[np.ndarray, "agents states"]
    X: Float[np.ndarray, "agents states"]

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
    def units(self) -> Float[np.ndarray, " states"]:
        """What counts as one of every entry of the state, so that no entry dwarfs another.

        A gradient that moves the iterate by one changes an entry by its unit: trackers and momenta
        hold gradients, which are iterates over a step size. The same for all agents.
        """
        kinds = np.abs(self.Q).reshape(-1, self.Q.shape[1] ** 2).max(axis=1)
        kinds = np.where(kinds > 0, kinds / np.abs(self.X @ self.Q).max(), 1.0)
        return np.repeat(kinds, self.Q.shape[1])

    @property
    def reached(self) -> Float[np.ndarray, "states free"]:
        """A basis, orthonormal in `units`, of the states that any gradients can reach from zero.

        Methods with memory keep sums (1'q of corrections, 1'(y - g') of trackers): l'P = l' and
        l'Q = 0, so l'z = 0 for good.
        """
        return self.units[:, None] * self._free

    @property
    def moving(self) -> Loop:
        """The same loop on what is reached, in that basis.

        With the sums that are kept goes a double eigenvalue one, which is no growth.
        """
        into, reached = self._free.T / self.units, self.reached
        return Loop(into @ self.P @ reached, into @ self.Q, self.R @ reached, self.X @ reached)

    @property
    def _free(self) -> Float[np.ndarray, "states free"]:
        """`reached`, in units."""
        units, size = self.units, len(self.P)
        P, Q = self.P * units / units[:, None], self.Q / units[:, None]
        changes = np.concatenate([P - np.eye(size), Q / np.abs(Q).max()], axis=1)
        basis, sizes, _ = np.linalg.svd(changes, full_matrices=False)
        free = basis[:, sizes > KEPT * sizes[0]]
        return free if free.shape[1] < size else np.eye(size)

    def at(self, beyond: complex | float) -> tuple[np.ndarray, np.ndarray]:
        """(lambda - P)^-1 and G(lambda) for lambda = 1 + beyond."""
        identity = np.eye(len(self.P))
        inverse = np.linalg.inv(beyond * identity + (identity - self.P))
        return inverse, self.R @ inverse @ self.Q


@precision.in_double
def open_loop(system: System) -> Loop:
    """The method's step as a linear function of its state and of the gradients it is given."""
    name = system.method.name
    *matrices, direct, apart = map(np.asarray, _open(system))
    if apart > LINEAR:
        raise InputError(f"{name}: has no closed form, its step is not linear")
    if np.abs(direct).max() > 0:
        raise InputError(f"{name}: has no closed form, its gradients feed back within a round")
    return Loop(*matrices)


@eqx.filter_jit
def _open(system: System) -> tuple[Array, ...]:
    """P, Q, R and X, what u does to v directly, and how far from linear the step is."""
    name, update = system.method.name, system.method.update
    mix, agents = system.mix(0), system.space.agents
    start = update.init(Vector(jnp.zeros((agents, 1))))
    flat, unravel = ravel_pytree(start)
    if any(leaf.shape != (agents, 1) for leaf in jax.tree.leaves(start)):
        raise InputError(f"{name}: has no closed form, its state is not made of vectors")

    def loop(z: Array, u: Array) -> tuple[Array, Array, Array]:
        seen: list[Array] = []

        def grad(x: Vector) -> Vector:
            seen.append(x.tree[:, 0])
            return Vector(u[:, None])

        after = update.step(unravel(z), grad, mix)
        if len(seen) != 1:
            raise InputError(f"{name}: has no closed form, it takes {len(seen)} gradients a round")
        return ravel_pytree(after)[0], seen[0], unravel(z).x.tree[:, 0]

    _, linear = jax.linearize(loop, flat, jnp.zeros(agents))
    columns = jax.vmap(linear, in_axes=1, out_axes=1)
    P, R, X = columns(jnp.eye(flat.size), jnp.zeros((agents, flat.size)))
    Q, direct, _ = columns(jnp.zeros((flat.size, agents)), jnp.eye(agents))
    return P, Q, R, X, direct, _unlike(loop, linear, flat.size, agents)


def _unlike(loop: Callable, linear: Callable, states: int, agents: int) -> Float[Array, ""]:
    """The largest difference between the two at a random point, relative to their values."""
    rng = np.random.default_rng(0)
    at = jnp.asarray(rng.standard_normal(states)), jnp.asarray(rng.standard_normal(agents))
    pairs = zip(loop(*at), linear(*at), strict=True)
    return jnp.stack(
        [
            jnp.abs(one - other).max() / jnp.maximum(jnp.abs(one).max(), 1e-300)
            for one, other in pairs
        ]
    ).max()


Solver = Callable[[np.ndarray | None], np.ndarray]
"""a state (states, coordinates, sides), or None for b -> the solution, of the same shape"""


class Affine(NamedTuple):
    """z -> A z + b, started from 0, on states (states, coordinates, sides).

    With a scalar kernel the coordinates are points and the sides are outputs; with a full one
    the coordinates are points x outputs and there is one side.
    """

    loop: Loop
    kernel: Float[np.ndarray, "coordinates coordinates"]
    residual: Float[np.ndarray, "coordinates sides"]
    """e = f(theta_0) - y"""
    owner: Int[np.ndarray, " coordinates"]
    counts: Int[np.ndarray, " coordinates"]
    """how many points the owner of the coordinate has"""
    point: Int[np.ndarray, " coordinates"]

    @property
    def size(self) -> int:
        """The dimension of the state, per side."""
        return len(self.loop.P) * len(self.kernel)

    def drive(self) -> Float[np.ndarray, "states coordinates sides"]:
        """b."""
        return self._injected(self.loop.Q, self.residual / self.counts[:, None])

    def matrix(self) -> Float[np.ndarray, "size size"]:
        """A, dense."""
        loop, own = self.loop, np.arange(len(self.owner))
        felt = self.kernel / self.counts[:, None]
        free = np.einsum("st,ab->satb", loop.P, np.eye(len(own)))
        pulled = np.einsum("sa,at,ab->satb", *_by(self.owner, loop), felt, optimize=True)
        return (free + pulled).reshape(self.size, self.size)

    def resolvent(self, beyond: complex | float) -> Solver:
        """(lambda - A)^-1 for lambda = 1 + beyond, to be applied to b (None) or to a state."""
        inverse, transfer = self.loop.at(beyond)
        coupled = np.diag(self.counts) - self.kernel * transfer[np.ix_(self.owner, self.owner)]
        factors = scipy.linalg.lu_factor(coupled, overwrite_a=True, check_finite=False)
        into = inverse @ self.loop.Q

        def solve(force: np.ndarray | None = None) -> np.ndarray:
            if force is None:
                return self._injected(into, scipy.linalg.lu_solve(factors, self.residual))
            free = np.tensordot(inverse, force, 1)
            seen = np.tensordot(self.loop.R, free, 1)
            felt = np.empty(force.shape[1:], seen.dtype)
            for agent, v in enumerate(seen):
                own = self.owner == agent
                felt[own] = self.kernel[own] @ v
            return free + self._injected(into, scipy.linalg.lu_solve(factors, felt))

        return solve

    def _injected(self, into: np.ndarray, u: np.ndarray) -> np.ndarray:
        return into[:, self.owner][:, :, None] * u


def _by(owner: np.ndarray, loop: Loop) -> tuple[np.ndarray, np.ndarray]:
    return loop.Q[:, owner], loop.R[owner]


class Landing(NamedTuple):
    """A state reached without stepping, and the estimated error of theta_t - theta_0, relative."""

    state: Float[np.ndarray, "states coordinates sides"]
    error: float


def affine(system: System) -> Affine:
    """The system's affine map; it must have the squared error, full batches and a fixed W."""
    name, train = system.method.name, system.space.train
    if not system.method.affine or isinstance(system.weights, Cycle):
        raise InputError(f"{name}: has no closed form, its rounds are not one affine map")
    if system.loss.name != "mse" or not system.batches.fixed:
        raise InputError(f"{name}: a closed form needs the squared error and all points per round")
    space, everything = system.space, system.batches.everything
    kernel, initial = np.asarray(space.kernel)[:train], np.asarray(space.initial)[:train]
    residual = initial - np.asarray(system.targets)[:train]
    owner = np.zeros(train, dtype=int)
    rows, owned = np.asarray(everything.rows), np.asarray(everything.weights) > 0
    for agent, (own, real) in enumerate(zip(rows, owned, strict=True)):
        owner[own[real]] = agent
    repeated = residual.shape[1] if kernel.ndim == 4 else 1
    coordinates = train * repeated
    owner = np.repeat(owner, repeated)
    return Affine(
        open_loop(system),
        kernel.reshape(coordinates, coordinates),
        residual.reshape(coordinates, -1),
        owner,
        owned.sum(axis=1)[owner],
        np.repeat(np.arange(train), repeated),
    )


def linear_part(system: System) -> tuple[Callable[[Array], Array], int]:
    """v -> A v on flattened states, and their size."""
    flat, unravel = ravel_pytree(system.init())
    grad, mix = system.gradient(0), system.mix(0)

    def step(z: Float[Array, " state"]) -> Float[Array, " state"]:
        return ravel_pytree(system.method.update.step(unravel(z), grad, mix))[0]

    return jax.linearize(step, flat)[1], flat.size


def unflattened(like: State, z: np.ndarray) -> State:
    """(states, coordinates, sides) as the state of a `KernelSpace`."""
    leaves, tree = jax.tree.flatten(like)
    parts = np.split(z, len(leaves))
    arrays = [jnp.asarray(p.reshape(leaf.shape)) for p, leaf in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(tree, arrays)


@precision.in_double
def outer_eigenvalues(system: System) -> Complex[np.ndarray, " found"]:
    """All eigenvalues of A where it is small, otherwise those on the rim of its spectrum.

    Both on the states that a start from zero can reach; see `Loop.moving`. The rim is found by
    Arnoldi iteration. A Ritz value counts only if its residual is below a tenth of its distance
    from the unit circle: what crowds inside the disc never converges and need not, while what has
    left it stands apart. Steps so large that lengths overflow have the eigenvalue infinity.
    """
    size = jax.eval_shape(lambda s: ravel_pytree(s.init())[0], system).size
    if size <= DENSE_UP_TO:
        whole = affine(system)
        return np.linalg.eigvals(whole._replace(loop=whole.loop.moving).matrix()).astype(complex)
    start = np.random.default_rng(0).standard_normal(size)
    kinds = open_loop(system).units[:: system.space.agents]
    units = jnp.asarray(np.repeat(kinds, size // len(kinds)))
    hessenberg, residual = map(np.asarray, _arnoldi(system, jnp.asarray(start), units))
    if not np.isfinite(hessenberg).all():
        return np.array([complex(np.inf)])
    values, vectors = np.linalg.eig(hessenberg)
    error = np.linalg.norm(residual) * np.abs(vectors[-1])
    return values[error < np.maximum(np.abs(np.abs(values) - 1) / 10, 1e-12)].astype(complex)


def spectral_radius(system: System) -> float:
    """max |eigenvalue| of A, from `outer_eigenvalues`: up to one, nothing grows."""
    return float(np.abs(outer_eigenvalues(system)).max(initial=0))


@eqx.filter_jit
def _arnoldi(
    system: System, start: Float[Array, " state"], units: Float[Array, " state"]
) -> tuple[Array, Array]:
    of_state, _ = linear_part(system)
    action = lambda z: of_state(units * z) / units
    decompose = matfree.decomp.hessenberg(KRYLOV, reortho="full", custom_vjp=False)
    found = decompose(action, action(start) - start)
    return found.J_small, found.residual
