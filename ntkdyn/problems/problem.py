"""Problem: a network and a partition of data."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkdyn import display, losses, precision, sizes
from ntkdyn.data import Partition
from ntkdyn.errors import InputError, check_kind, check_whole
from ntkdyn.kernels import empirical, infinite
from ntkdyn.kernels.pushing import pushing
from ntkdyn.kernels.structure import layer_names
from ntkdyn.kernels.walk import Apply
from ntkdyn.linear import Choice, Kernel, chosen
from ntkdyn.losses import Loss
from ntkdyn.networks import KINDS, Network, Params
from ntkdyn.problems.checks import (
    LARGEST_SEED,
    check_model,
    check_outputs,
    check_public,
    outputs_for,
)
from ntkdyn.problems.starts import in_current_precision, only_layer, start_of
from ntkdyn.problems.task import Task, points_of, rows_of, task_of
from ntkdyn.spaces import KernelSpace, LayeredKernelSpace, NetworkSpace, TangentSpace, TeamSpace

KEPT_UP_TO = 2**28
"""bytes of a kernel that stays while others are computed"""


BESIDE = 2
"""kernels in float64 beside those of the layers: their sum, and its copy in a space"""

TOGETHER = 64
"""points whose kernel with themselves is computed at a time, with each other's"""


@dataclass(frozen=True, eq=False)
class Problem:
    """Networks, started from `seed`, that agents train on their shares of a dataset.

    `network` is one for all, or a list with one per agent. `seed` draws the start that all have in
    common; a list of seeds, one per agent, gives each its own: then real networks are trained, and
    predicted where they are linearized anew (`anchors`, with kernel="implicit").
    `public` are points (points, *features) without labels that all agents see, none of them a
    training point.

    Raises:
        InputError: for networks that do not fit the data or the loss.

    Example:
        >>> prob.parameters_each, prob.task.agents
        (1210, 3)
    """

    network: Network | Sequence[Network]
    partition: Partition
    loss: str | Loss = "mse"
    seed: int | Sequence[int] = 0
    public: Float[np.ndarray, points * features] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "loss", losses.named(self.loss))
        check_kind("partition", self.partition, Partition, "as `data.partition` gives")
        for network in self.networks:
            check_kind("network", network, Network, "as `networks.mlp` or `networks.wrap` gives")
        if isinstance(self.public, jax.Array):
            object.__setattr__(self, "public", np.asarray(self.public))
        for network in self.networks:
            check_outputs(network, self.partition.data, self.loss)
        if len({network.outputs for network in self.networks}) > 1:
            raise InputError("problem: all agents' networks must have the same number of outputs")
        for name, listed in (("network", self.network), ("seed", self.seed)):
            if isinstance(listed, Sequence) and len(listed) != self.partition.agents:
                raise InputError(
                    f"problem: {name} must be one for all or one for each of the "
                    f"{self.partition.agents} agents, got {len(listed)}"
                )
        for each in self.seed if isinstance(self.seed, Sequence) else [self.seed]:
            check_whole("problem: seed", each, 0, LARGEST_SEED)
        if self.public is not None:
            check_public(self.public, self.partition.data.train_inputs)
        for network in dict.fromkeys(self.networks):
            if not _made_here(network):
                check_model(network, self.partition.data.train_inputs)

    def __repr__(self) -> str:
        return f"Problem({self.name}, {points_of(self.task)}, loss={self.loss.name!r})"

    def _repr_html_(self) -> str:
        data = self.partition.data
        rows = {
            "network": self.name,
            "data": f"{data.name}, {data.learned}",
            "scaling": data.normalisation,
            "partition": self.partition.rule,
            "seed": self.seed if np.ndim(self.seed) == 0 else "one for each agent",
        }
        return display.panel(repr(self), display.table(rows | rows_of(self.task)))

    def __getstate__(self) -> dict[str, Any]:
        """What it is made from; kernels are computed anew."""
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}

    @property
    def networks(self) -> tuple[Network, ...]:
        """The network of all agents, or one for each."""
        listed = isinstance(self.network, (list, tuple))
        return tuple(self.network) if listed else (self.network,)

    @property
    def common_start(self) -> bool:
        """Whether one seed draws the start of all agents."""
        return not isinstance(self.seed, Sequence)

    @property
    def name(self) -> str:
        """What the networks are, for the record."""
        return ", ".join(dict.fromkeys(network.name for network in self.networks))

    @property
    def heads(self) -> int:
        """How many times the number of classes the networks have outputs."""
        return self.networks[0].outputs // outputs_for(self.partition.data, self.loss)

    @functools.cached_property
    def task(self) -> Task:
        public = 0 if self.public is None else len(self.public)
        return task_of(self.partition, self.loss, public, self.heads)

    @functools.cached_property
    def inputs(self) -> Float[np.ndarray, points * features]:
        """Training points, then public points, then test points."""
        data = self.partition.data
        public = data.train_inputs[:0] if self.public is None else self.public
        return np.concatenate([data.train_inputs, public, data.test_inputs])

    @functools.cached_property
    def start(self) -> Params:
        """What every agent starts from, in float32; stacked where each has its own."""
        return start_of(self._only_network(), self.seed, self.inputs.shape[1:])

    @property
    def origin(self) -> Params | None:
        """The start, where all agents have the same network; stacked where each has its own."""
        return None if self._team else self.start

    @functools.cached_property
    def parameters_each(self) -> int:
        """How many parameters an agent has; the mean over agents of different architectures."""
        sizes = [
            sum(leaf.size for leaf in jax.tree.leaves(start_of(network, 0, self.inputs.shape[1:])))
            for network in self.networks
        ]
        return round(sum(sizes) / len(sizes))

    def dealt(self, partition: Partition) -> Problem:
        """The same networks and points with other owners; kernels that are known stay."""
        one, other = self.partition.data, partition.data
        for name in ("train_inputs", "test_inputs"):
            if not np.array_equal(getattr(one, name), getattr(other, name)):
                raise InputError("partition: must be of the same points as the problem's")
        dealt = dataclasses.replace(self, partition=partition)
        kept = {"start", "initial", "empirical", "infinite", "parameters_each"} & set(vars(self))
        vars(dealt).update({name: vars(self)[name] for name in kept})
        return dealt

    def network_space(self, view: str = "outputs") -> NetworkSpace | TeamSpace:
        """For observing: the real network, in JAX's current precision."""
        if self._team:
            return self._team_space(NetworkSpace, view)
        return self._space(NetworkSpace, self.network, self.seed, self.task.agents, view)

    def tangent_space(self, view: str = "outputs") -> TangentSpace | TeamSpace:
        """For predicting without a kernel: the linearized network, in JAX's current precision.

        Agents with starts of their own are each linearized at it, and counted from their mean.
        """
        self._check_predictable()
        if self._team:
            self._check_common_start("tangent space")
            return self._team_space(TangentSpace, view)
        if not self.common_start:
            return _apart(self.network_space(view))
        return self._space(TangentSpace, self.network, self.seed, self.task.agents, view)

    def kernel_space(
        self, kernel: Choice | str = "empirical", view: str = "outputs"
    ) -> KernelSpace | LayeredKernelSpace:
        """For predicting: that of a kernel that is formed, in float64.

        `view` is what a method must see beside the outputs: "features" or "layers", both of the
        empirical kernel only.
        """
        self._check_predictable()
        self._check_common_start("kernel space")
        if self._team:
            raise InputError(
                "problem: agents of different architectures have no kernel in common; use "
                'kernel="implicit", or one network for all'
            )
        choice = chosen(kernel)
        return choice.space(self, view) if choice.formed else choice.of(self)

    @functools.cached_property
    @precision.in_double
    def initial(self) -> Float[np.ndarray, "*agents points outputs"]:
        """f(theta_0) at all points, in float64; of every agent where each has its own start."""
        apply = self._only_network().apply
        if not self.common_start:
            apply = jax.vmap(apply, (0, None))
        return np.asarray(jax.jit(apply)(*self._arrays()))

    def kernel(self, kernel: Choice | str) -> Kernel:
        """The kernel in float64, computed once."""
        self._check_predictable()
        self._check_common_start("a kernel")
        return _finite(chosen(kernel).of(self), self.name)

    def forget(self) -> None:
        """Drop the kernels, for the memory: they are computed anew where they are asked for.

        Those of up to `KEPT_UP_TO` bytes stay.
        """
        outputs, points = self.initial.shape[1], len(self.inputs)
        if 8 * points * self.task.basis * outputs**2 > KEPT_UP_TO:
            for name in ("empirical", "infinite", "features", "layers"):
                vars(self).pop(name, None)

    @functools.cached_property
    @precision.in_double
    def empirical(self) -> Kernel:
        """J J^T at the start."""
        train = self.task.train
        blocks = self._layerblocks(self._only_network().apply, "outputs")
        whole, layers = None, {}
        for name in tuple(blocks):  # of large ones there is no room for all, twice
            block = np.asarray(blocks.pop(name))
            layers[name] = block[:train].copy()
            with np.errstate(invalid="ignore"):  # of what overflows, which is refused later
                whole = block.copy() if whole is None else np.add(whole, block, out=whole)
        return Kernel(whole, layers, "empirical")

    @functools.cached_property
    @precision.in_double
    def jacobian(self) -> Float[np.ndarray, "points outputs parameters"]:
        """J at the start, the parameters of one leaf after those of the other."""
        network, each = self._only_network(), self.parameters_each
        count = len(self.inputs) * network.outputs
        sizes.check_room(f"problem: J of {count} outputs and {each} parameters", 8 * count * each)
        blocks = jax.jit(functools.partial(empirical.jacobian, network.apply))(*self._arrays())
        return np.concatenate(blocks, axis=2)

    @functools.cached_property
    @precision.in_double
    def infinite(self) -> Kernel:
        """The limit of infinite width."""
        network = self._only_network()
        if network.kernel is None:
            raise InputError(
                f"problem: {network.name} has no known kernel at infinite width; "
                f'use kernel="empirical"'
            )
        self._check_room(BESIDE, 1, self.task.train)
        inputs = jnp.asarray(self.inputs, jnp.float64)
        kernel = network.kernel
        if not _made_here(network) and infinite.asymmetry(kernel, inputs):
            kernel = infinite.averaged(kernel)
        whole = infinite.ntk(kernel, inputs, inputs[: self.task.train])
        return Kernel(np.asarray(whole), {}, "infinite")

    @functools.cached_property
    @precision.in_double
    def empirical_beyond(self) -> Float[np.ndarray, "points outputs"]:
        """|J|^2 of each output at each point that is not trained on."""
        params, inputs = self._arrays()
        network, rest = self._only_network(), inputs[self.task.train :]
        if not len(rest):
            return np.zeros((0, network.outputs))
        return np.asarray(empirical.diagonal(network.apply, params, rest))

    @functools.cached_property
    @precision.in_double
    def infinite_beyond(self) -> Float[np.ndarray, " points"]:
        """Its limit at infinite width."""
        inputs = jnp.asarray(self.inputs[self.task.train :], jnp.float64)
        kernel, starts = self._only_network().kernel, range(0, len(inputs), TOGETHER)
        blocks = [infinite.ntk(kernel, inputs[at : at + TOGETHER]) for at in starts]
        return np.concatenate([np.zeros(0), *map(np.diagonal, blocks)])

    @functools.cached_property
    @precision.in_double
    def features(self) -> KernelSpace:
        """The space of the empirical kernel that tells features, as outputs after the others."""
        apply = self._only_network().with_features
        initial = jax.jit(apply)(*self._arrays())
        whole = sum(self._layerblocks(apply, "features").values())
        return KernelSpace(whole, initial, self.task.agents, {})

    @functools.cached_property
    @precision.in_double
    def layers(self) -> LayeredKernelSpace:
        """The space of the empirical kernel that tells layers apart."""
        apply = self._only_network().apply
        params, inputs = self._arrays()
        train = self.task.train
        blocks = self._layerblocks(apply, "layers")
        at_training = lambda tree: apply(tree, inputs[:train])
        alone = {layer: only_layer(params, layer) for layer in blocks}
        along = {n: pushing(at_training, params)(tree) for n, tree in alone.items()}
        norms = {n: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(t)) for n, t in alone.items()}
        initial = jnp.asarray(self.initial)
        return LayeredKernelSpace(blocks, initial, along, norms, self.task.agents)

    def columns(self, view: str) -> int:
        """How many points gradients come from, the first of all: public ones only with features."""
        return self.task.basis if view == "features" else self.task.train

    def _layerblocks(self, apply: Apply, view: str) -> dict[str, Array]:
        params, inputs = self._arrays()
        outputs = jax.eval_shape(apply, params, inputs[:1]).shape[-1]
        layers = len(set(layer_names(params)))
        self._check_room(BESIDE + layers, outputs, self.columns(view))
        return empirical.layer_ntk(apply, params, inputs, inputs[: self.columns(view)])

    def _check_room(self, kernels: int, outputs: int, columns: int) -> None:
        """Refuse so many kernels between all points and the first `columns` without room."""
        points = len(self.inputs)
        sizes.check_room(
            f"problem: the kernel between {points} and {columns} points with {outputs} outputs",
            8 * kernels * points * columns * outputs**2,
            'take fewer points, or kernel="implicit", which forms none',
        )

    @property
    def _team(self) -> bool:
        return isinstance(self.network, Sequence)

    def _only_network(self) -> Network:
        if self._team:
            raise InputError("problem: agents of different architectures have no one network")
        return self.network

    @property
    def unpredictable(self) -> str:
        """Why it can be trained and not predicted, where that is so."""
        if self.task.augmentation is not None:
            return (
                "augment: a prediction is of points as they are; real networks (`train`) can be "
                "shown altered ones"
            )
        for network in self.networks:
            if not network.pointwise:
                return (
                    f"problem: {network.name} cannot be linearized point by point, as outputs of "
                    f"one point depend on the others of its batch; real networks (`train`) can "
                    f'have it, and normalisation "group" or "evonorm_s0" can be predicted'
                )
        return ""

    def _check_predictable(self) -> None:
        if self.unpredictable:
            raise InputError(self.unpredictable)

    def _check_common_start(self, what: str) -> None:
        if not self.common_start:
            raise InputError(
                f"problem: {what} linearizes all agents at one start, but each has its own (seed "
                f'is a list); kernel="implicit" with anchors, or real networks (`train`), can, '
                f"with a number as step size"
            )

    def _space(self, kind: Any, network: Network, seed: Any, agents: int, view: str) -> Any:
        """A space of that kind for so many agents with this network, in JAX's current precision."""
        origin = start_of(network, seed, self.inputs.shape[1:])
        apply = network.with_features if view == "features" else network.apply
        more = (isinstance(seed, Sequence), network) if kind is NetworkSpace else ()
        return kind(apply, *in_current_precision((origin, self.inputs)), agents, *more)

    def _team_space(self, kind: Any, view: str) -> TeamSpace:
        """One space per architecture, with the agents that have it."""
        parts, members = [], []
        for architecture in dict.fromkeys(self.networks):
            team = tuple(i for i, each in enumerate(self.networks) if each is architecture)
            seed = self.seed if self.common_start else [self.seed[i] for i in team]
            parts.append(self._space(kind, architecture, seed, len(team), view))
            members.append(team)
        return TeamSpace(tuple(parts), tuple(members))

    def _arrays(self) -> tuple[Params, Array]:
        """Start and inputs in JAX's current precision."""
        return in_current_precision((self.start, self.inputs))


def _apart(real: NetworkSpace) -> TangentSpace:
    """The networks linearized at every agent's own start, which are counted from their mean."""
    mean = jax.tree.map(lambda leaf: leaf.mean(axis=0), real.origin)
    begun = jax.tree.map(lambda leaf, middle: leaf - middle[None], real.origin, mean)
    return TangentSpace(real.apply, mean, real.inputs, real.agents, real.origin, begun)


def _finite(kernel: Kernel, network: str) -> Kernel:
    if not np.isfinite(kernel.whole).all():
        raise InputError(
            f"problem: the {kernel.name} kernel of {network} is not finite in float64; draw "
            f"smaller parameters (w_std, b_std), or scale the points"
        )
    return kernel


def _made_here(network: Network) -> bool:
    """Whether it is one of our own kinds: each point by itself, its kernel in closed form."""
    return network.description.get("kind") in KINDS
