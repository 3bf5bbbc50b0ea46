"""Many systems predicted at once: those whose programs are alike in one, compiled once.

Two runs of a method have the same program if their arrays have the same shapes: step sizes,
weights, owners and starts are numbers in it. So `Iteration`s that are alike are stacked, but for
what they share (the kernel, above all), and `jax.vmap` takes a batch of them through its rounds;
losses and accuracies are measured there, and outputs are kept of none.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ntkdyn import measures, precision, sizes
from ntkdyn.dynamics import assess
from ntkdyn.dynamics.stability import known_step
from ntkdyn.engine import Iteration, Progress, take_snapshot
from ntkdyn.errors import InputError
from ntkdyn.methods import OfLimit
from ntkdyn.runs import check, floats_per_link, floats_sent, iteration_of, plan
from ntkdyn.spaces import Space
from ntkdyn.system import System

Measured = dict[str, Float[np.ndarray, "rounds agents"]]

ROOM = 2**29
"""bytes that the states and outputs of the runs in one batch may take"""

LARGE = 2**20
"""bytes of an array that is the same in two systems only if it is one and the same"""

COPIES = 12
"""how often an iterate is held in a round of a batch: of the state, of outputs, and in between"""


@precision.in_double
def predict_many(
    systems: Sequence[System], rounds: Sequence[int], *, progress: Progress | None = None
) -> list[Measured]:
    """Losses and accuracies of every system in these rounds, by name: (rounds, agents).

    What `predict` says of each with the same rounds, to rounding: train_loss, global_loss,
    test_loss, train_accuracy, test_accuracy and floats_sent. Kernels must be formed (`InputError`);
    step sizes may be shares of the limit.
    """
    once = _Once()
    ready = [_Ready(system, rounds, once) for system in systems]
    alike: dict[Any, list[int]] = {}
    for place, each in enumerate(ready):
        alike.setdefault(each.kind, []).append(place)
    found: list[Measured] = [{}] * len(systems)
    known: dict[Any, np.ndarray] = {}
    done = 0
    for places in alike.values():
        size = max(1, int(ROOM // ready[places[0]].bytes))
        for first in range(0, len(places), size):
            batch = places[first : first + size]
            for place, seen in zip(batch, _together([ready[k] for k in batch]), strict=True):
                found[place] = seen | ready[place].sent(known)
            done += len(batch)
            if progress:
                progress(done, len(systems))
    return found


class _Once:
    """One array of all that are equal, and one space of all with the same kernel and agents."""

    def __init__(self) -> None:
        self._arrays: dict[Any, Array] = {}
        self._spaces: dict[Any, Space] = {}

    def array(self, given: Array) -> Array:
        if given.nbytes > LARGE:
            return given
        held = np.asarray(given)
        return self._arrays.setdefault((held.shape, held.dtype.name, held.tobytes()), given)

    def space(self, system: System, view: str) -> Space:
        key = id(system.matrix.whole), system.task.agents, view
        if key not in self._spaces:
            self._spaces[key] = system.problem.kernel_space(system.kernel, view)
        return self._spaces[key]


class _Ready:
    """A system at work, checked, with its step size settled."""

    def __init__(self, system: System, rounds: Sequence[int], once: _Once) -> None:
        if not system.kernel.formed:
            name = system.kernel.name
            raise InputError(f'kernel: many runs share one that is formed, not "{name}"')
        share = isinstance(system.method.step_size, OfLimit)
        method = assess(system).method if share else known_step(system.method)
        self.asked, space = (
            plan(system.with_(method=method), list(rounds)),
            once.space(system, method.view),
        )
        check(self.asked, space)
        self.iteration = iteration_of(self.asked, space)
        task = self.asked.task
        measured = {name: jnp.asarray(each) for name, each in measures.shares(task).items()}
        labels = None if task.labels is None else jnp.asarray(task.labels)
        self.parts = jax.tree.map(once.array, (self.iteration, measured, labels))

    @property
    def kind(self) -> Any:
        """The same of systems with one program; those with the same owners share their rows."""
        leaves, tree = jax.tree.flatten(self.parts)
        return (
            tree,
            id(self.parts[0].everything.rows),
            *((leaf.shape, leaf.dtype.name) for leaf in leaves),
        )

    def sent(self, known: dict[Any, np.ndarray]) -> Measured:
        """The numbers that agents have sent, where there are networks to send parameters of."""
        parameters = getattr(self.asked.system.problem, "parameters_each", None)
        if parameters is None:
            return {}
        kind = self.kind
        if kind not in known:  # it takes a trace of the step
            known[kind] = floats_per_link(self.iteration, parameters)
        return {
            "floats_sent": floats_sent(self.asked, self.iteration, parameters, known[self.kind])
        }

    @property
    def bytes(self) -> float:
        agents, _, outputs = jax.tree.leaves(self.iteration.space.start())[0].shape
        return 8.0 * COPIES * agents * len(self.iteration.targets) * outputs


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
