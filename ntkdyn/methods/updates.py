"""Updates: what an agent does in a round with its gradient and its neighbours' average.

An update is `init` and `step`, both pure. It knows the iterate x, a point, only by differences
and by what is added to it (`vectors`), `grad(x)`, the local gradients of this round, and `mix(x)`,
the average over this round's graph; so it runs on parameters, displacements, kernel coefficients,
symbols and worst-case solvers alike. (Two need more: push-sum divides by each agent's own mass,
and an optax optimiser may look at single parameters.)

    class Mine(Memoryless):
        def step(self, state, grad, mix):
            return Iterate(mix(state.x) - self.step_size * grad(state.x))

What is remembered starts as what needs no case of its own for the first round: a vector (a
momentum, a tracker, a gradient) as x - x, a point (a former iterate) as x.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from ntkdyn.errors import InputError, check_flag, check_name, check_whole, is_real, shown
from ntkdyn.vectors import Point, Vector

EVERYWHERE = frozenset({"network", "tangent", "kernel"})
"""the spaces that whatever is linear in vectors runs in"""


class OfLimit(eqx.Module):
    """A step size given as a share of the largest stable one, known once the kernel is.

    Raises:
        InputError: for a share that is not positive and finite.

    Example:
        >>> half = nd.methods.dgd(step_size=nd.of_limit(0.5))
        >>> round(nd.dynamics.assess(bare, half, W).method.step_size, 4)
        0.3529
    """

    share: float

    def __check_init__(self) -> None:
        if not is_real(self.share) or not 0 < self.share < math.inf:
            raise InputError(
                f"step size: a share of the limit must be positive, got {shown(self.share)}"
            )


StepSize = float | Float[Array, "..."] | OfLimit
Number = float | Float[Array, ""]


def check_positive(name: str, value: Any, *, zero: bool = False) -> None:
    """Refuse a number that is not positive and finite, or zero with `zero`."""
    if _is_number(name, value) and not (0 < value < math.inf or (zero and value == 0)):
        wanted = "finite and not negative" if zero else "positive and finite"
        raise InputError(f"{name}: must be {wanted}, got {shown(value)}")


def check_share(name: str, value: Any, *, one: bool = False) -> None:
    """Refuse a number outside [0, 1), or outside [0, 1] with `one`."""
    if _is_number(name, value) and not (0 <= value < 1 or (one and value == 1)):
        raise InputError(f"{name}: must be in [0, 1{']' if one else ')'}, got {shown(value)}")


def check_count(name: str, value: Any) -> None:
    """Refuse what is not a whole number from 1 on."""
    check_whole(f"{name}:", value, 1)


def _is_number(name: str, value: Any) -> bool:
    """Whether its size is known: not of what is traced, symbols, shares of the limit, arrays.

    Refuses what is none of these.
    """
    if is_real(value):
        return True
    dtype = getattr(value, "dtype", np.dtype(object))
    if jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer):
        return not isinstance(value, jax.core.Tracer) and value.ndim == 0
    if isinstance(value, OfLimit) or hasattr(value, "free_symbols"):
        return False
    raise InputError(f"{name}: must be a number, got {shown(value)}")


@runtime_checkable
class State(Protocol):
    """Whatever an update remembers; `x` is the iterate."""

    x: Any


@runtime_checkable
class Update(Protocol):
    """One decentralized update rule."""

    step_size: StepSize
    recalled: ClassVar[int]
    """how many of the vectors it mixes listeners know already, from what they have heard before"""

    def init(self, x: Any) -> State:
        """The state before the first round."""
        ...

    def step(self, state: Any, grad: Callable[[Any], Any], mix: Callable[[Any], Any]) -> State:
        """The state after one more round."""
        ...


def at(update: Any, round: Any) -> Any:
    """The update with the step size of that round; itself, where that does not change."""
    return update.at(round) if hasattr(update, "at") else update


def innermost(update: Any) -> Any:
    """What knows the step sizes: the update itself, or that which its links are around."""
    links = hasattr(update, "links")
    return innermost(update.inner) if links else update


class BaseUpdate(eqx.Module):
    """What all updates have in common."""

    step_size: StepSize
    recalled: ClassVar[int] = 0
    made_for: ClassVar[int | None] = None
    """how many agents it is made for; None: any number"""
    by_mode: ClassVar[bool] = True
    """whether agents apart, each with an eigenvalue of W, are what a symmetric W makes of them"""
    affine: ClassVar[bool] = True
    """whether the new state is affine in the old one wherever the gradient is"""
    why_not: ClassVar[str] = ""
    """why it does not run in the spaces that are left out"""

    def __check_init__(self) -> None:
        check_positive("step size", self.step_size)

    @property
    def spaces(self) -> frozenset[str]:
        return EVERYWHERE

    def words(self, parameters: int) -> float:
        """How many numbers of 32 bits a vector of so many parameters takes on a link."""
        return float(parameters)

    def check_weights(self, method: str, weights: Any) -> None:
        """Refuse a graph that it cannot work on."""


class Iterate(NamedTuple):
    """The state of an update without memory."""

    x: Any


class Memoryless(BaseUpdate):
    """An update whose whole state is the iterate."""

    def init(self, x: Any) -> Iterate:
        return Iterate(x)


class DGD(Memoryless):
    """x <- W x - eta g(x)."""

    def step(self, state: Iterate, grad: Callable, mix: Callable) -> Iterate:
        return Iterate(mix(state.x) - self.step_size * grad(state.x))


class CTA(Memoryless):
    """x <- W x - eta g(W x)."""

    def step(self, state: Iterate, grad: Callable, mix: Callable) -> Iterate:
        combined = mix(state.x)
        return Iterate(combined - self.step_size * grad(combined))


class ATC(Memoryless):
    """x <- W (x - eta g(x))."""

    def step(self, state: Iterate, grad: Callable, mix: Callable) -> Iterate:
        return Iterate(mix(state.x - self.step_size * grad(state.x)))


# --- momentum -----------------------------------------------------------------------------


class Moving(NamedTuple):
    """An iterate and its momentum."""

    x: Any
    momentum: Any


class _Momentum(BaseUpdate):
    """An update that remembers a momentum, kept by the share `beta` from round to round."""

    beta: Number = 0.9

    def __check_init__(self) -> None:
        check_share("momentum beta", self.beta)

    def init(self, x: Any) -> Moving:
        return Moving(x, x - x)


class HeavyBall(_Momentum):
    """m <- beta m + g(x),  x <- W (x - eta m)."""

    def step(self, state: Moving, grad: Callable, mix: Callable) -> Moving:
        momentum = self.beta * state.momentum + grad(state.x)
        return Moving(mix(state.x - self.step_size * momentum), momentum)


class Nesterov(_Momentum):
    """m <- beta m + g(x),  x <- W (x - eta (g(x) + beta m))."""

    def step(self, state: Moving, grad: Callable, mix: Callable) -> Moving:
        gradient = grad(state.x)
        momentum = self.beta * state.momentum + gradient
        return Moving(mix(state.x - self.step_size * (gradient + self.beta * momentum)), momentum)


class QuasiGlobal(_Momentum):
    """d = beta m + g(x),  x+ = W (x - eta d),  m <- (1 - mu) m + mu (x - x+) / eta.

    With `nesterov`, the step is g(x) + beta d in place of d.
    """

    mu: Number = 0.1
    nesterov: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        check_share("share mu", self.mu, one=True)
        check_flag("nesterov", self.nesterov)

    def step(self, state: Moving, grad: Callable, mix: Callable) -> Moving:
        gradient = grad(state.x)
        step = self.beta * state.momentum + gradient
        if self.nesterov:
            step = gradient + self.beta * step
        moved = mix(state.x - self.step_size * step)
        travelled = (1 / self.step_size) * (state.x - moved)
        return Moving(moved, (1 - self.mu) * state.momentum + self.mu * travelled)


class QuasiGlobalCTA(_Momentum):
    """v = W x,  m <- beta (m - (v - x) / eta) + g(v),  x <- v - eta m.

    With `nesterov`, the step is g(v) + beta m in place of m. Without it m is the true displacement
    of the mixed model, (v' - v) / eta, before each new gradient.
    """

    nesterov: bool = eqx.field(static=True, default=True)

    def __check_init__(self) -> None:
        check_flag("nesterov", self.nesterov)

    def step(self, state: Moving, grad: Callable, mix: Callable) -> Moving:
        combined = mix(state.x)
        gradient = grad(combined)
        corrected = state.momentum - (1 / self.step_size) * (combined - state.x)
        momentum = self.beta * corrected + gradient
        step = gradient + self.beta * momentum if self.nesterov else momentum
        return Moving(combined - self.step_size * step, momentum)


# --- tracking of the mean gradient --------------------------------------------------------


class Tracking(NamedTuple):
    """An iterate, what tracks the mean gradient, and the gradient it has seen last."""

    x: Any
    tracker: Any
    gradient: Any


class _Tracker(BaseUpdate):
    def init(self, x: Any) -> Tracking:
        return Tracking(x, x - x, x - x)


class DIGing(_Tracker):
    """y <- W y + g(x) - g(x'),  x <- W x - eta y,  with x' the iterate before x."""

    def step(self, state: Tracking, grad: Callable, mix: Callable) -> Tracking:
        gradient = grad(state.x)
        tracker = mix(state.tracker) + gradient - state.gradient
        return Tracking(mix(state.x) - self.step_size * tracker, tracker, gradient)


class ATCTracking(_Tracker):
    """y <- W y + g(x) - g(x'),  x <- W (x - eta y),  with x' the iterate before x."""

    def step(self, state: Tracking, grad: Callable, mix: Callable) -> Tracking:
        gradient = grad(state.x)
        tracker = mix(state.tracker) + gradient - state.gradient
        return Tracking(mix(state.x - self.step_size * tracker), tracker, gradient)


class AugDGM(_Tracker):
    """y <- W (y + g(x) - g(x')),  x <- W (x - eta y),  with x' the iterate before x.

    From no memory at all y = W g(x) in the first round, where Xu et al. start with y = g(x).
    """

    def step(self, state: Tracking, grad: Callable, mix: Callable) -> Tracking:
        gradient = grad(state.x)
        tracker = mix(state.tracker + gradient - state.gradient)
        return Tracking(mix(state.x - self.step_size * tracker), tracker, gradient)


# --- correction of the bias ---------------------------------------------------------------


class Corrected(NamedTuple):
    """An iterate and the sum of its corrections."""

    x: Any
    correction: Any


class EXTRA(BaseUpdate):
    """x+ = W x - eta g(x) + s,  s <- s + (W - I) x / 2.

    The same as x+ = (I + W) x - (I + W)/2 x' - eta (g(x) - g(x')), after a first round of DGD.
    """

    def init(self, x: Any) -> Corrected:
        return Corrected(x, x - x)

    def step(self, state: Corrected, grad: Callable, mix: Callable) -> Corrected:
        mixed = mix(state.x)
        moved = mixed - self.step_size * grad(state.x) + state.correction
        return Corrected(moved, state.correction + 0.5 * (mixed - state.x))


class Adapted(NamedTuple):
    """An iterate, and the adapted one from which it was combined."""

    x: Any
    adapted: Any


class D2(BaseUpdate):
    """psi+ = x - eta g(x),  x <- W (psi+ + x - psi),  with psi = x at the start.

    The same as x+ = W (2 x - x' - eta (g(x) - g(x'))), after a first round of ATC.
    """

    def init(self, x: Any) -> Adapted:
        return Adapted(x, x)

    def step(self, state: Adapted, grad: Callable, mix: Callable) -> Adapted:
        adapted = state.x - self.step_size * grad(state.x)
        return Adapted(mix(adapted + (state.x - state.adapted)), adapted)


class GUTState(NamedTuple):
    """An iterate, its last displacement over -eta, what that was due to, and its momentum."""

    x: Any
    sent: Any
    """(x' - x) / eta of the round before"""
    local: Any
    """delta + (b / eta) (W - I) x of the round before"""
    momentum: Any


class GUT(BaseUpdate):
    """y = d + mu (W s - b G' / eta - d'),  m <- beta m + y,  x <- x - eta m.

    G = (W - I) x is the gossip, d = g(x + gamma G) - G / eta, s the displacement (x' - x) / eta of
    the round before, and b = 1 + beta. With `nesterov` the step is y + beta m in place of m, and
    b = 1 + beta + beta^2. Primes are values of the round before, zero at first.
    """

    mu: Number = 0.9
    beta: Number = 0.0
    gamma: Number = 1.0
    nesterov: bool = eqx.field(static=True, default=False)
    recalled: ClassVar[int] = 1

    def __check_init__(self) -> None:
        check_share("share mu", self.mu)
        check_share("momentum beta", self.beta)
        check_share("averaging rate gamma", self.gamma, one=True)
        check_flag("nesterov", self.nesterov)

    def init(self, x: Any) -> GUTState:
        return GUTState(x, x - x, x - x, x - x)

    def step(self, state: GUTState, grad: Callable, mix: Callable) -> GUTState:
        gossip = mix(state.x) - state.x
        over_step = (1 / self.step_size) * gossip
        delta = grad(state.x + self.gamma * gossip) - over_step
        tracked = delta + self.mu * (mix(state.sent) - state.local)
        momentum = self.beta * state.momentum + tracked
        step = tracked + self.beta * momentum if self.nesterov else momentum
        b = 1 + self.beta + (self.beta**2 if self.nesterov else 0)
        return GUTState(state.x - self.step_size * step, step, delta + b * over_step, momentum)


# --- directed graphs ----------------------------------------------------------------------


class PushSumState(NamedTuple):
    """A de-biased iterate and each agent's share of the mass."""

    x: Any
    mass: Any


class PushSum(BaseUpdate):
    """u = P (w x - eta g(x)),  w <- P w,  x <- u / w,  with w = 1 at the start.

    P is column-stochastic: what an agent sends adds up to what it has. Numerator and mass drift
    alike, so their ratio reaches the unweighted mean on every strongly connected graph. A numerator
    is no point: it is one times its mass.
    """

    affine: ClassVar[bool] = False

    def init(self, x: Point) -> PushSumState:
        leaf = jax.tree.leaves(x.tree)[0]
        return PushSumState(x, Vector(jnp.ones(len(leaf), leaf.dtype)))

    def step(self, state: PushSumState, grad: Callable, mix: Callable) -> PushSumState:
        numerator = Vector(state.x.tree) * state.mass.tree - self.step_size * grad(state.x)
        mass = mix(state.mass)
        return PushSumState(Point((mix(numerator) / mass.tree).tree), mass)


# --- local optimisers ---------------------------------------------------------------------


class Optimised(NamedTuple):
    """An iterate, what its optimiser remembers, and the rounds done."""

    x: Any
    memory: Any
    round: Int[Array, ""]


OPTIMISERS: dict[str, Callable[[], optax.GradientTransformation]] = {
    "sgd": optax.identity,
    "momentum": lambda: optax.trace(decay=0.9),
    "adam": optax.scale_by_adam,
}
"""name -> what makes a direction of a gradient; "momentum" keeps 0.9 of it, "adam" is Kingma and
Ba's with its usual constants"""


class LocalOptimiser(BaseUpdate):
    """x <- W (x - eta d),  d the direction of an optimiser that restarts every `every` rounds.

    Adam scales every parameter by itself, so that it means nothing in KernelSpace.
    """

    optimiser: str = eqx.field(static=True, default="adam")
    every: int = eqx.field(static=True, default=1)
    affine: ClassVar[bool] = False
    why_not: ClassVar[str] = "Adam scales single parameters, and a kernel knows none"

    def __check_init__(self) -> None:
        check_name("optimiser", self.optimiser, OPTIMISERS)

    @property
    def spaces(self) -> frozenset[str]:
        return EVERYWHERE - {"kernel"} if self.optimiser == "adam" else EVERYWHERE

    def init(self, x: Point) -> Optimised:
        return Optimised(x, OPTIMISERS[self.optimiser]().init(x - x), jnp.array(0))

    def step(self, state: Optimised, grad: Callable, mix: Callable) -> Optimised:
        optimiser = OPTIMISERS[self.optimiser]()
        restart = state.round % self.every == 0
        gradient = grad(state.x)
        memory = jax.tree.map(
            lambda old, new: jnp.where(restart, new, old), state.memory, optimiser.init(gradient)
        )
        direction, memory = optimiser.update(gradient, memory)
        return Optimised(mix(state.x - self.step_size * direction), memory, state.round + 1)


class Pooled(NamedTuple):
    """An iterate, checkpoints of all agents at earlier rounds, and the rounds done."""

    x: Any
    pool: Any
    """leaves (checkpoints, agents, ...)"""
    round: Int[Array, ""]


class PooledSGD(BaseUpdate):
    """x <- x - eta g(x; pool); every `every` rounds x takes the place of the oldest checkpoint.

    All `pool` checkpoints are those of the start at first. Nothing is mixed: agents meet in the
    gradient, through what checkpoints say of public points.
    """

    pool: int = eqx.field(static=True, default=4)
    every: int = eqx.field(static=True, default=10)
    affine: ClassVar[bool] = False

    def __check_init__(self) -> None:
        check_count("pool", self.pool)
        check_count("pool_every", self.every)

    def init(self, x: Point) -> Pooled:
        copies = x.map(lambda leaf: jnp.broadcast_to(leaf, (self.pool, *leaf.shape)))
        return Pooled(x, copies, jnp.array(0))

    def step(self, state: Pooled, grad: Callable, mix: Callable) -> Pooled:
        del mix
        moved, done = state.x - self.step_size * grad(state.x), state.round + 1
        oldest = (done // self.every - 1) % self.pool

        def refreshed(pool: Point) -> Point:
            return pool.map(lambda old, new: old.at[oldest].set(new), moved)

        pool = jax.lax.cond(done % self.every == 0, refreshed, lambda pool: pool, state.pool)
        return Pooled(moved, pool, done)
