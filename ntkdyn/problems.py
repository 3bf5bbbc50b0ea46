"""Problems: who learns what from which points, with which network or kernel.

`Problem` is a network and a partition of data; it can be run in every space. `KernelProblem` is
bare arrays, K, y, owner and f0, the door for kernels from elsewhere; it can be predicted only.
Both hold a `Task`: what a run needs to know beyond its space.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ntkdyn import display, losses, precision, sizes
from ntkdyn.data import Batches, Dataset, Partition, full, minibatches
from ntkdyn.data.partitions import owners
from ntkdyn.errors import InputError, check_kind, check_name, check_whole
from ntkdyn.given import blocks, columns, ridged, shaped, shared, symmetric
from ntkdyn.kernels import empirical, infinite
from ntkdyn.kernels.pointwise import POINTS, outputs_of
from ntkdyn.kernels.pushing import pushing
from ntkdyn.kernels.pytorch import from_torch
from ntkdyn.kernels.structure import layer_names
from ntkdyn.kernels.walk import Apply
from ntkdyn.linear import KERNELS, Choice, Given, Kernel, chosen
from ntkdyn.losses import Loss
from ntkdyn.networks import KINDS, Network, Params
from ntkdyn.spaces import (
    KernelSpace,
    LayeredKernelSpace,
    NetworkSpace,
    TangentSpace,
    TeamSpace,
)

LARGEST_SEED = 2**32 - 1
"""of larger ones JAX takes the last 32 bits in single precision, but all in double"""


KEPT_UP_TO = 2**28
"""bytes of a kernel that stays while others are computed"""

BESIDE = 2
"""kernels in float64 beside those of the layers: their sum, and its copy in a space"""


class Task(NamedTuple):
    """Targets and owners; training points come first, then public ones, then test points."""

    targets: Float[np.ndarray, "points outputs"]
    owner: Int[np.ndarray, " train"]
    agents: int
    loss: Loss
    labels: Int[np.ndarray, " points"] | None
    """class of every point, -1 for public ones; None where the task is regression"""
    public: int = 0
    """how many public points there are: seen by all agents, without targets"""
    heads: int = 1
    """how many sets of outputs the network has; the first is the main one"""
    label_names: tuple[str, ...] = ()
    """what the classes, or the outputs of regression, are called, if they have names"""
    agent_names: tuple[str, ...] = ()
    about: dict[str, Any] = {}
    """what a record says of the data"""

    def __repr__(self) -> str:
        return f"Task({_points_of(self)}, loss={self.loss.name!r})"

    @property
    def train(self) -> int:
        return len(self.owner)

    @property
    def basis(self) -> int:
        """How many points gradients come from: all but the test points."""
        return self.train + self.public

    @property
    def classes(self) -> int:
        """How many classes the outputs of one head tell apart."""
        return 2 if self.loss.binary else self.targets.shape[1]

    @property
    def counts(self) -> Int[np.ndarray, " agents"]:
        """How many training points each agent owns."""
        return np.bincount(self.owner, minlength=self.agents)

    def batches(self, size: int | None, seed: int | None) -> Batches:
        """All points of every agent in every round, or `size` of them drawn from `seed`."""
        if size is None or seed is None:
            return full(self.owner, self.agents)
        key = jax.random.key(seed, impl=precision.IMPLEMENTATION)
        return minibatches(self.owner, self.agents, size, key=key)


@dataclass(frozen=True, eq=False)
class Problem:
    """Networks, started from `seed`, that agents train on their shares of a dataset.

    `network` is one for all, or a list with one per agent. `seed` draws the start that all have in
    common; a list of seeds, one per agent, gives each its own: then real networks are trained, and
    predicted where they are linearized anew (`anchors`, with kernel="implicit").
    `public` are points (points, *features) without labels that all agents see, none of them a
    training point.
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
            _check_outputs(network, self.partition.data, self.loss)
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
            _check_public(self.public, self.partition.data.train_inputs)
        for network in dict.fromkeys(self.networks):
            if not _made_here(network):
                _check_model(network, self.partition.data.train_inputs)

    def __repr__(self) -> str:
        return f"Problem({self.name}, {_points_of(self.task)}, loss={self.loss.name!r})"

    def _repr_html_(self) -> str:
        data = self.partition.data
        rows = {
            "network": self.name,
            "data": f"{data.name}, {data.learned}",
            "scaling": data.normalisation,
            "partition": self.partition.rule,
            "seed": self.seed if np.ndim(self.seed) == 0 else "one for each agent",
        }
        return display.panel(repr(self), display.table(rows | _rows_of(self.task)))

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
        return _start(self._only_network(), self.seed, self.inputs.shape[1:])

    @property
    def origin(self) -> Params | None:
        """The start, where all agents have the same network; stacked where each has its own."""
        return None if self._team else self.start

    @functools.cached_property
    def parameters_each(self) -> int:
        """How many parameters an agent has; the mean over agents of different architectures."""
        sizes = [
            sum(leaf.size for leaf in jax.tree.leaves(_start(network, 0, self.inputs.shape[1:])))
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

    def _check_common_start(self, what: str) -> None:
        if not self.common_start:
            raise InputError(
                f"problem: {what} linearizes all agents at one start, but each has its own (seed "
                f'is a list); kernel="implicit" with anchors, or real networks (`train`), can, '
                f"with a number as step size"
            )

    def _space(self, kind: Any, network: Network, seed: Any, agents: int, view: str) -> Any:
        """A space of that kind for so many agents with this network, in JAX's current precision."""
        origin = _start(network, seed, self.inputs.shape[1:])
        apply = network.with_features if view == "features" else network.apply
        more = (isinstance(seed, Sequence), network) if kind is NetworkSpace else ()
        return kind(apply, *_in_current_precision((origin, self.inputs)), agents, *more)

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
        return _in_current_precision((self.start, self.inputs))


def task_of(partition: Partition, loss: Loss, public: int = 0, heads: int = 1) -> Task:
    """The partition's training points, so many public ones, and its test points."""
    data, train = partition.data, len(partition.data.train_labels)
    unknown = np.full((public, *data.train_labels.shape[1:]), -1)
    labels = np.concatenate([data.train_labels, unknown, data.test_labels])
    if data.classes is None:
        labels, targets = None, loss.read(labels)
    else:
        targets = loss.targets(np.maximum(labels, 0), data.classes)
    targets[train : train + public] = 0
    return Task(
        targets,
        partition.owner,
        partition.agents,
        loss,
        labels,
        public,
        heads,
        data.label_names,
        partition.agent_names,
        {**data.about, "partition": partition.rule},
    )


def _apart(real: NetworkSpace) -> TangentSpace:
    """The networks linearized at every agent's own start, which are counted from their mean."""
    mean = jax.tree.map(lambda leaf: leaf.mean(axis=0), real.origin)
    begun = jax.tree.map(lambda leaf, middle: leaf - middle[None], real.origin, mean)
    return TangentSpace(real.apply, mean, real.inputs, real.agents, real.origin, begun)


def outputs_for(data: Dataset, loss: Loss) -> int:
    """How many outputs a network needs for these data: one per target, or as the loss has it."""
    if data.classes is not None:
        return loss.outputs(data.classes)
    if not loss.regression:
        able = ", ".join(each.name for each in losses.LOSSES.values() if each.regression)
        raise InputError(f"loss {loss.name}: is for classes; targets of regression need {able}")
    return data.train_labels.shape[1]


def _check_outputs(network: Network, data: Dataset, loss: Loss) -> None:
    """Refuse a network that has not an output per target, or a set of them per head."""
    columns = outputs_for(data, loss)
    if data.classes is None and network.outputs != columns:
        raise InputError(
            f"problem: the network has {network.outputs} outputs and the data {columns} targets; "
            f"they must agree"
        )
    if network.outputs % columns:
        wanted = f", for which {loss.name} has one output" if columns == 1 else ""
        raise InputError(
            f"problem: the network has {network.outputs} outputs and the data {data.classes} "
            f"classes{wanted}; they must agree, or the former be a multiple: one set per head"
        )


class KernelProblem:
    """A problem given by arrays alone: f = f0 + K c, and L_i the mean loss over owned points.

    K (n, n), the same for all outputs, or one of (n k, n k), (n, k, n, k) and (n, n, k, k), the
    first where two of them agree, with k outputs each; or what `kernels.compute` returns, whose
    trace over k outputs counts as K of each by a k-th. y (n, k) or (n,); owner (n,) ints from 0 on;
    f0 like y, outputs at the start, zero if left out. For test points give `K_test`, with m points
    for the first n, `y_test` and `f0_test`. Arrays of NumPy, JAX or PyTorch; all become float64.

    `diag_reg` puts K + r I in place of K between training points, r = diag_reg tr K / (n k), or
    diag_reg itself with `diag_reg_absolute_scale`, as neural-tangents' `gradient_descent_mse` does.
    That is the kernel of a model in which each training point has a feature of size sqrt(r) for
    itself alone: methods run on it unchanged, outputs at training points hold what such features
    fit, and where agents agree on the least loss those at test points are kernel ridge regression,
    f0_test + K_test (K + r I)^-1 (y - f0).

    A K that is symmetric but for the rounding of its dtype is made so. Of the logistic loss targets
    may be -1 and +1, which are taken as 0 and 1. Records say in attributes where either was done.
    """

    def __init__(
        self,
        K: Any,
        y: Any,
        owner: Any,
        f0: Any = None,
        *,
        K_test: Any = None,
        y_test: Any = None,
        f0_test: Any = None,
        loss: str | Loss = "mse",
        diag_reg: float = 0.0,
        diag_reg_absolute_scale: bool = False,
    ) -> None:
        if (K_test is None) != (y_test is None):
            raise InputError("K_test and y_test: give both or neither")
        if K_test is None and f0_test is not None:
            raise InputError("f0_test: goes with K_test and y_test")
        loss, y = losses.named(loss), columns("y", y)
        owner = owners(owner, None, len(y))
        kernel, symmetrised = symmetric(*blocks("K", K, len(y), len(y), y.shape[1]))
        kernel, ridge = ridged(kernel, diag_reg, diag_reg_absolute_scale)
        f0 = np.zeros_like(y) if f0 is None else shaped("f0", f0, y.shape)
        if K_test is not None:
            tested = _test_points(kernel, y.shape, K_test, y_test, f0_test)
            kernel, y, f0 = map(np.concatenate, zip((kernel, y, f0), tested, strict=True))
        targets = loss.read(y)
        read = {} if (targets == y).all() else {"targets_adjusted": "-1 and +1 taken as 0 and 1"}
        self.task = Task(targets, owner, int(owner.max()) + 1, loss, _classes_of(targets, loss))
        self.initial = f0
        self.adjusted = symmetrised | ridge | shared(K, y.shape[1]) | read
        self.given = Kernel(kernel, {}, "given")

    @property
    def name(self) -> str:
        """What the kernel is of, for the record, where that is known."""
        return self.adjusted.get("network", "a bare kernel")

    def __repr__(self) -> str:
        loss = f"loss={self.task.loss.name!r}"
        return f"KernelProblem({_points_of(self.task)}, {loss})"

    def _repr_html_(self) -> str:
        rows = {"kernel": str(self.given.whole.shape)} | _rows_of(self.task) | self.adjusted
        return display.panel(repr(self), display.table(rows))

    @classmethod
    def of_partition(
        cls, partition: Partition, kernel: Any, f0: Any = None, *, loss: str | Loss = "mse"
    ) -> KernelProblem:
        """The points of a partition, with their labels and names, and a kernel from elsewhere.

        `kernel` is between all points, those for training first and those for testing next, and
        those for training: rows of any form that K may have. f0 (points, outputs), zero if left
        out.
        """
        check_kind("partition", partition, Partition, "as `data.partition` gives")
        made, loss = cls.__new__(cls), losses.named(loss)
        outputs = outputs_for(partition.data, loss)
        task = task_of(partition, loss)
        whole, precise = blocks("kernel", kernel, len(task.targets), task.train, outputs)
        block, symmetrised = symmetric(whole[: task.train], precise)
        whole[: task.train] = block
        shape = len(task.targets), outputs
        made.task, made.adjusted = task, symmetrised | shared(kernel, outputs)
        made.initial = np.zeros(shape) if f0 is None else shaped("f0", f0, shape)
        made.given = Kernel(whole, {}, "given")
        return made

    @classmethod
    def from_torch(
        cls,
        module: Any,
        partition: Partition,
        *,
        loss: str | Loss = "mse",
        memory: int | float | str | None = None,
    ) -> KernelProblem:
        """The points of a partition and a PyTorch module, linearized where it is now.

        Training is to start there, on the partition's own inputs, which are scaled. `memory` is
        that of `kernels.from_torch`, which says what is refused.
        """
        check_kind("partition", partition, Partition, "as `data.partition` gives")
        data = partition.data
        inputs = np.concatenate([data.train_inputs, data.test_inputs])
        kernel, f0 = from_torch(module, inputs, data.train_inputs, memory=memory)
        if kernel.shape[1] != (wanted := outputs_for(data, losses.named(loss))):
            raise InputError(
                f"from_torch: the module has {kernel.shape[1]} outputs, and the data need {wanted}"
            )
        made = cls.of_partition(partition, kernel, f0, loss=loss)
        made.adjusted |= {"network": f"PyTorch {type(module).__name__}"}
        return made

    def kernel(self, kernel: Choice | str = "given") -> Kernel:
        """The kernel that was given, by any name that a kernel can have."""
        if isinstance(kernel, Given):
            return kernel.of(self)
        check_name("kernel", getattr(kernel, "name", kernel), KERNELS)
        return self.given

    def kernel_space(self, kernel: Choice | str = "given", view: str = "outputs") -> KernelSpace:
        """The one space a bare kernel has."""
        if view != "outputs":
            raise InputError(f"kernel: the method needs {view}, which a bare kernel does not tell")
        return self.kernel(kernel).space(self.initial, self.task.agents)


def _test_points(
    kernel: Float[np.ndarray, ...], train: tuple[int, int], K_test: Any, y_test: Any, f0_test: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What test points add to kernel, targets and outputs at the start of (points, outputs)."""
    y_test, (points, outputs) = columns("y_test", y_test), train
    rows, _ = blocks("K_test", K_test, len(y_test), points, outputs)
    if rows.ndim != kernel.ndim:
        raise InputError("K_test: must have the form of K, per point or per point and output")
    shape = len(y_test), outputs
    y_test = shaped("y_test", y_test, shape)
    return rows, y_test, np.zeros(shape) if f0_test is None else shaped("f0_test", f0_test, shape)


def _points_of(task: Task) -> str:
    """How many points there are, and for whom."""
    test = len(task.targets) - task.basis
    tested = f" and {test} test" if test else ""
    return f"{task.train} training{tested} points, {task.agents} agents"


def _rows_of(task: Task) -> dict[str, Any]:
    """What a table says of points and agents."""
    counts = task.counts
    return {
        "points an agent": f"{counts.min()} to {counts.max()}",
        "outputs": task.targets.shape[1],
        "loss": task.loss.name,
        "agents": ", ".join(task.agent_names[:8]) + (", ..." if len(task.agent_names) > 8 else ""),
    }


def check_problem(problem: Any) -> None:
    """Refuse what is neither of the two."""
    if not isinstance(problem, (Problem, KernelProblem)):
        raise InputError(
            f"problem: must be a Problem or a KernelProblem, got {type(problem).__name__}"
        )


def _start(network: Network, seed: int | Sequence[int], features: tuple[int, ...]) -> Params:
    """The network's parameters from one seed, or stacked from several."""
    if isinstance(seed, Sequence):
        drawn = [_start(network, each, features) for each in seed]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)
    with precision.single():
        return network.start(jax.random.key(seed), features)


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


@precision.float32()
def _check_model(network: Network, inputs: Float[np.ndarray, points * features]) -> None:
    """Refuse a model that looks at a point's batch, or has other outputs than it says."""
    few = np.asarray(inputs[:POINTS], np.float32)
    outputs = outputs_of(network.apply, _start(network, 0, few.shape[1:]), few)
    if outputs != network.outputs:
        raise InputError(
            f"problem: {network.name} says to have {network.outputs} outputs, but apply returns "
            f"{outputs}"
        )


def _in_current_precision(tree: Any) -> Any:
    dtype = jnp.zeros(()).dtype
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def only_layer(params: Params, layer: str) -> Params:
    """The parameters with all layers but one set to zero."""
    leaves, tree = jax.tree.flatten(params)
    kept = zip(leaves, layer_names(params), strict=True)
    return tree.unflatten([leaf if name == layer else jnp.zeros_like(leaf) for leaf, name in kept])


# --- checks of bare arrays --------------------------------------------------------------------


def _check_public(public: Any, inputs: np.ndarray) -> None:
    if (
        not isinstance(public, np.ndarray)
        or public.shape[1:] != inputs.shape[1:]
        or not len(public)
    ):
        raise InputError(
            f"public points: must be (points, {', '.join(map(str, inputs.shape[1:]))}), "
            f"got {getattr(public, 'shape', type(public).__name__)}"
        )
    if not np.isfinite(public).all():
        raise InputError("public points: all numbers must be finite")
    private = {row.tobytes() for row in inputs}
    shared = [i for i, row in enumerate(public.astype(inputs.dtype)) if row.tobytes() in private]
    if shared:
        raise InputError(
            f"public points: must be no training points, but point {shared[0]} is one of them"
        )


def _classes_of(
    targets: Float[np.ndarray, "points outputs"], loss: Loss
) -> Int[np.ndarray, " points"] | None:
    """The classes that the targets of a binary loss name, if they are no probabilities between."""
    if not loss.binary or ((targets > 0) & (targets < 1)).any():
        return None
    return targets[:, 0].astype(int)
