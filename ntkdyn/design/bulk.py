"""Many systems predicted at once: those that are alike together.

Where rounds are affine maps, systems with one kernel and the same owners are taken through them by
matrix products (`rounds`), in batches that the processors share. Of all others, two runs of a
method have the same program if their arrays have the same shapes: step sizes, weights, owners and
starts are numbers in it. So `Iteration`s that are alike are stacked, but for what they share (the
kernel, above all), and `jax.vmap` takes a batch of them through its rounds; losses and accuracies
are measured there, and outputs are kept of none.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ntkdyn import losses, measures, precision, sizes
from ntkdyn.design.processors import processors
from ntkdyn.design.rounds import TOLERANCE, Common, Measured, lowest, taken
from ntkdyn.dynamics import assess
from ntkdyn.dynamics.loops import Loop
from ntkdyn.dynamics.stability import known_step, loops_of, repeats
from ntkdyn.engine import Iteration, Progress, take_snapshot
from ntkdyn.errors import InputError, check_name
from ntkdyn.methods import Method, OfLimit
from ntkdyn.runs import check, iteration_of, plan, sent
from ntkdyn.spaces import Space
from ntkdyn.system import System

ROOM = 2**29
"""bytes that the states and outputs of the runs in one batch may take"""

LARGE = 2**20
"""bytes of an array that is the same in two systems only if it is one and the same"""

COPIES = 12
"""how often an iterate is held in a round of a batch: of the state, of outputs, and in between"""

TOGETHER = 8
"""systems whose affine rounds are taken together: enough for products that are no waste"""

Begun = Callable[..., list[Measured | InputError]]
"""gives what is measured of systems that were begun"""


class Bulk:
    """Predicts many systems in the same rounds; what they have in common is kept between calls.

    With the dtype "float32" losses after rounds that are affine maps are right to 1e-5 of those at
    the start, mostly to 1e-6, in half the time; with "float64", of methods that keep sums
    (trackers, corrections), and of all other rounds, to 1e-9.

    Example:
        >>> steps = [nd.System(bare, nd.methods.dgd(step_size=step), W) for step in (0.1, 0.2)]
        >>> one, other = design.Bulk([0, 5]).predict(steps)
        >>> bool((other["global_loss"][1] < one["global_loss"][1]).all())
        True
    """

    def __init__(self, rounds: Sequence[int], dtype: str = "float64") -> None:
        check_name("dtype", dtype, TOLERANCE)
        self.rounds, self._once = list(rounds), _Once(dtype)

    def predict(
        self, systems: Sequence[System], progress: Progress | None = None
    ) -> list[Measured]:
        """Losses and accuracies of every system, by name: (rounds, agents).

        What `predict` says of each with the same rounds: train_loss, global_loss, test_loss,
        train_accuracy, test_accuracy and floats_sent, beside `messages_sent` and `exchanges`
        (`runs.sent`).

        Args:
            systems: whose kernels can be formed; step sizes may be shares of the limit.
            progress: called with how many are done, and how many there are.

        Returns:
            A dictionary for each system.

        Raises:
            InputError: for a kernel that cannot be formed.
        """
        with processors(len(systems)) as pool:
            found = self.begin(systems, pool)(progress)
        for each in found:
            if isinstance(each, InputError):
                raise each
        return found

    @precision.in_double
    def begin(self, systems: Sequence[System], pool: Executor) -> Begun:
        """The same, begun by these threads: what gives it, once they are done.

        Whoever begins may prepare other systems meanwhile.

        Args:
            systems: as of `predict`.
            pool: `processors`.

        Returns:
            A function of `progress`. It gives a dictionary for each system, or the InputError that
            refuses it.
        """
        tried = [self._tried(system) for system in systems]
        ready = {k: each for k, each in enumerate(tried) if not isinstance(each, InputError)}
        batches = _begun(ready, self.rounds, pool)

        @precision.in_double
        def finish(progress: Progress | None = None) -> list[Measured | InputError]:
            found, done = [*tried], len(tried) - len(ready)
            for places, take in batches:
                for place, each in zip(places, _or_refused(take, len(places)), strict=True):
                    refused = isinstance(each, InputError)
                    found[place] = each if refused else each | self._once.sent(ready[place])
                done += len(places)
                if progress:
                    progress(done, len(systems))
            return found

        return finish

    def _tried(self, system: System) -> _Ready | InputError:
        try:
            return _Ready(system, self.rounds, self._once)
        except InputError as reason:
            return reason


@precision.in_double
def sent_by(system: System, rounds: Sequence[int]) -> Measured:
    """`runs.sent` of one system; empty where there is no network to send parameters of."""
    parameters = getattr(system.problem, "parameters_each", None)
    if parameters is None:
        return {}
    asked = plan(system, list(rounds))
    space = system.problem.kernel_space(system.kernel, system.method.view)
    return sent(asked, iteration_of(asked, space), parameters)


def _begun(
    ready: Mapping[int, _Ready], rounds: list[int], pool: Executor
) -> list[tuple[list[int], Callable[[], list[Measured]]]]:
    """The numbers of systems that are alike, and what gives what is measured of each."""
    affine = _alike(ready, lambda each: each.affine_kind if each.affine else None)
    others = _alike(ready, lambda each: None if each.affine else each.kind)
    of = lambda places: [ready[k] for k in places]
    products = [
        (part, pool.submit(taken, *_by_products(of(part)), rounds).result)
        for places in affine.values()
        for part in _cut(places, TOGETHER)
    ]
    return products + [
        (part, functools.partial(_together, of(part)))
        for places in others.values()
        for part in _cut(places, max(1, int(ROOM // ready[places[0]].bytes)))
    ]


def _or_refused(take: Callable[[], list[Measured]], count: int) -> Sequence[Measured | InputError]:
    """What is measured of so many systems, or for each why not."""
    try:
        return take()
    except InputError as reason:
        return [reason] * count


def _alike(ready: Mapping[int, _Ready], kind: Callable[[_Ready], Any]) -> dict[Any, list[int]]:
    """Kind -> numbers of the systems that have it; None is no kind."""
    found: dict[Any, list[int]] = {}
    for place, each in ready.items():
        if (name := kind(each)) is not None:
            found.setdefault(name, []).append(place)
    return found


def _cut(places: list[int], size: int) -> list[list[int]]:
    return [places[first : first + size] for first in range(0, len(places), size)]


class _Once:
    """One of all that are equal: arrays, spaces, limits, and what systems have in common."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self._arrays: dict[Any, Array] = {}
        self._known: dict[Any, Any] = {}

    def array(self, given: Array) -> Array:
        if given.nbytes > LARGE or jax.dtypes.issubdtype(given.dtype, jax.dtypes.prng_key):
            return given
        held = np.asarray(given)
        return self._arrays.setdefault((held.shape, held.dtype.name, held.tobytes()), given)

    def space(self, system: System, view: str) -> Space:
        make = lambda: system.problem.kernel_space(system.kernel, view)
        return self._of(("space", *_learned(system), view), make)

    def common(self, system: System, *, sums: bool) -> Common:
        """In double precision where a method keeps sums, which collect what is rounded."""
        dtype = "float64" if sums else self.dtype
        return self._of(("common", dtype, *_learned(system)), lambda: Common(system, dtype))

    def settled(self, system: System) -> Method:
        """The method with its step size as a number; limits are those of any step size."""
        method = system.method
        if not isinstance(method.step_size, OfLimit):
            return known_step(method)
        return method.with_step_size(method.step_size.share * self.limit(system))

    def limit(self, system: System) -> float:
        """Of the step size."""
        one = lambda: system.with_(method=system.method.with_step_size(OfLimit(1.0)))
        key = ("limit", *_learned(system), *self._exchanged(system))
        return self._of(key, lambda: assess(one()).limit)

    def loops(self, system: System) -> tuple[Loop, ...]:
        """Those of a method on a graph, whoever owns what."""
        step_size = float(system.method.step_size)
        key = ("loops", step_size, *self._exchanged(system))
        return self._of(key, lambda: loops_of(system, step_size))

    def sent(self, ready: _Ready) -> Measured:
        """What agents have sent, where there are networks to send parameters of."""
        system = ready.asked.system
        parameters = getattr(system.problem, "parameters_each", None)
        if parameters is None:
            return {}
        aimed = () if system.method.objective.plain else _learned(system)
        key = ("sent", parameters, *aimed, *self._exchanged(system))
        return self._of(key, lambda: sent(ready.asked, ready.iteration, parameters))

    def _exchanged(self, system: System) -> tuple[Any, ...]:
        """What names the method, but for its step size, and the weights."""
        plain = lambda: _named(system.method.with_step_size(1.0))
        weights = lambda: _named([each.matrix for each in system.weights.rounds])
        return self._of_one(system.method, plain), self._of_one(system.weights, weights)

    def _of_one(self, owner: Any, make: Callable[[], Any]) -> Any:
        """What is made of an object, which is kept so that no other has its id."""
        return self._of(("one", id(owner)), lambda: (owner, make()))[1]

    def _of(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]


def _named(whole: Any) -> Any:
    """The same of two that are made of equal arrays in the same way."""
    leaves, tree = jax.tree.flatten(whole)
    held = map(np.asarray, leaves)
    return tree, *((each.shape, each.tobytes()) for each in held)


def _learned(system: System) -> tuple[Any, ...]:
    """What names the kernel and the owners."""
    return id(system.problem), system.kernel


class _Ready:
    """A system at work, checked, with its step size settled."""

    def __init__(self, system: System, rounds: Sequence[int], once: _Once) -> None:
        if not system.kernel.formed:
            name = system.kernel.name
            raise InputError(f'kernel: many runs share one that is formed, not "{name}"')
        system = system.with_(method=once.settled(system))
        self.asked, self._once = plan(system, list(rounds)), once
        self._space = once.space(system, system.method.view)
        check(self.asked, self._space)

    @functools.cached_property
    def iteration(self) -> Iteration:
        return iteration_of(self.asked, self._space)

    @functools.cached_property
    def affine(self) -> bool:
        """Whether rounds are affine maps of coefficients on a kernel."""
        system, method = self.asked.system, self.asked.method
        plain = (
            method.view == "outputs" and method.objective.plain and not system.problem.task.public
        )
        whole = system.whole and system.task.loss is losses.mse
        return plain and whole and repeats(method, system.weights)

    @functools.cached_property
    def loops(self) -> tuple[Loop, ...]:
        return self._once.loops(self.asked.system)

    @functools.cached_property
    def common(self) -> Common:
        system = self.asked.system
        return self._once.common(system, sums=len(self.loops[0].P) > system.task.agents)

    @functools.cached_property
    def low(self) -> float | None:
        """Where the spectrum begins, if it is real and in [-1, 1]."""
        if len(self.loops) > 1 or not self.loops[0].symmetrisable:
            return None
        low, system = lowest(self.common, self.loops[0]), self.asked.system
        stable = low >= -1 or float(system.method.step_size) <= self._once.limit(system)
        return max(low, -1.0) if stable else None

    @property
    def affine_kind(self) -> Any:
        """The same of systems that are taken through their rounds together."""
        return id(self.common), len(self.loops), self.loops[0].P.shape, self.low is None

    @functools.cached_property
    def parts(self) -> Any:
        task = self.asked.task
        measured = {name: jnp.asarray(each) for name, each in measures.shares(task).items()}
        labels = None if task.labels is None else jnp.asarray(task.labels)
        return jax.tree.map(self._once.array, (self.iteration, measured, labels))

    @property
    def kind(self) -> Any:
        """The same of systems with one program; those with the same owners share their rows."""
        leaves, tree = jax.tree.flatten(self.parts)
        return (
            tree,
            id(self.parts[0].everything.rows),
            *((leaf.shape, leaf.dtype.name) for leaf in leaves),
        )

    @property
    def bytes(self) -> float:
        agents, _, outputs = jax.tree.leaves(self.iteration.space.start())[0].shape
        return 8.0 * COPIES * agents * len(self.iteration.targets) * outputs


def _by_products(batch: list[_Ready]) -> tuple[Common, list[tuple[Loop, ...]], float | None]:
    """What systems with affine rounds have in common, their loops, and where spectra begin."""
    lows = [each.low for each in batch]
    return batch[0].common, [each.loops for each in batch], None if lows[0] is None else min(lows)


def _together(batch: list[_Ready]) -> list[Measured]:
    """All of them in one program; leaves that are the same array in all stay one."""
    flat, trees = zip(*(jax.tree.flatten(each.parts) for each in batch), strict=True)
    columns = list(zip(*flat, strict=True))
    shared = [all(leaf is column[0] for leaf in column) for column in columns]
    leaves = [c[0] if one else jnp.stack(c) for c, one in zip(columns, shared, strict=True)]
    axes = tuple(None if one else 0 for one in shared)
    rounds = jnp.asarray(batch[0].asked.rounds)
    sizes.check_room("design: a batch of runs", sum(leaf.nbytes for leaf in leaves))
    seen = _run(leaves, rounds, trees[0], axes, len(batch))
    seen = {name: np.asarray(values) for name, values in seen.items()}
    return [{name: values[k] for name, values in seen.items()} for k in range(len(batch))]


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _run(
    leaves: list[Array], rounds: Int[Array, " rounds"], tree: Any, axes: tuple, count: int
) -> dict[str, Float[Array, "runs rounds agents"]]:
    def one(own: list[Array]) -> dict[str, Array]:
        return _through(*jax.tree.unflatten(tree, own), rounds)

    return jax.vmap(one, (list(axes),), axis_size=count)(leaves)


def _through(
    iteration: Iteration, shares: dict[str, Array], labels: Array | None, rounds: Array
) -> dict[str, Array]:
    """One run through its rounds, measured in each that is recorded."""
    always = iteration.gradient(0) if iteration.batches.fixed else None

    def step(round: Array, state: Any) -> Any:
        grad = iteration.local(round, state, always)
        return iteration.method.update.step(state, grad, iteration.mix(round))

    def on(carry: tuple[Array, Any], wanted: Array) -> tuple[tuple[Array, Any], dict[str, Array]]:
        done, state = carry
        state = jax.lax.fori_loop(done, wanted, step, state)
        outputs = take_snapshot(iteration, state.x).outputs
        return (wanted, state), _measured(iteration, outputs, shares, labels)

    start = jnp.zeros((), rounds.dtype), iteration.method.update.init(iteration.space.start())
    return jax.lax.scan(on, start, rounds)[1]


def _measured(
    iteration: Iteration, outputs: Array, shares: dict[str, Array], labels: Array | None
) -> dict[str, Array]:
    """As `measures.measure`, inside a program."""
    main = outputs[..., : iteration.targets.shape[1]]
    losses = iteration.loss.value(main, iteration.targets[None])
    mean = lambda values, share: jnp.sum(jnp.where(share > 0, values, 0) * share, axis=1)
    found = {name: mean(losses, share) for name, share in shares.items()}
    if labels is None:
        return found
    single = main.shape[-1] == 1
    said = (main[..., 0] > 0).astype(int) if single else jnp.argmax(main, axis=-1)
    right = jnp.where(jnp.isnan(main).any(axis=-1), jnp.nan, said == labels[None])
    counted = {
        name: shares[f"{name}_loss"] for name in ("train", "test") if f"{name}_loss" in shares
    }
    return found | {f"{name}_accuracy": mean(right, share) for name, share in counted.items()}
