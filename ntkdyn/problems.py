"""Problems: who learns what from which points, with which network or kernel.

`Problem` is a network and a partition of data; it can be run in every space. `KernelProblem` is
bare arrays, K, y, owner and f0, the door for kernels from elsewhere; it can be predicted only.
Both hold a `Task`: what a run needs to know beyond its space.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float, Int

from ntkdyn import losses, precision
from ntkdyn.data import Batches, Partition, full, minibatches
from ntkdyn.data.partitions import check_owner
from ntkdyn.errors import InputError, unknown
from ntkdyn.kernels import empirical, infinite
from ntkdyn.losses import Loss
from ntkdyn.networks import Network, Params
from ntkdyn.spaces import KernelSpace, NetworkSpace, TangentSpace

ROUNDED = 1e-6
"""Negative eigenvalues of a kernel up to this share of its norm count as rounding."""


class Task(NamedTuple):
    """Targets and owners; the training points come first, then the test points."""

    targets: Float[np.ndarray, "points outputs"]
    owner: Int[np.ndarray, " train"]
    agents: int
    loss: Loss
    labels: Int[np.ndarray, " points"] | None
    """class of every point; None where the task is regression"""

    @property
    def train(self) -> int:
        return len(self.owner)

    @property
    def counts(self) -> Int[np.ndarray, " agents"]:
        """How many training points each agent owns."""
        return np.bincount(self.owner, minlength=self.agents)

    def batches(self, size: int | None, seed: int | None) -> Batches:
        """All points of every agent in every round, or `size` of them drawn from `seed`."""
        if size is None or seed is None:
            return full(self.owner, self.agents)
        return minibatches(self.owner, self.agents, size, key=jax.random.key(seed))


class Kernel(NamedTuple):
    """A kernel between all points and the training points, and its parts by layer."""

    whole: Float[np.ndarray, "points train"] | Float[np.ndarray, "points outputs train outputs"]
    layers: dict[str, Float[np.ndarray, ...]]
    name: str

    @property
    def training(self) -> Float[np.ndarray, ...]:
        """The block between training points, as a square matrix."""
        train = self.whole.shape[self.whole.ndim // 2]
        block = self.whole[:train]
        return block.reshape(block.shape[0] * (block.shape[1] if block.ndim == 4 else 1), -1)


@dataclass(frozen=True, eq=False)
class Problem:
    """A network, started from `seed`, that agents train on their shares of a dataset."""

    network: Network
    partition: Partition
    loss: str | Loss = "mse"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "loss", losses.named(self.loss))
        if self.network.outputs != self.partition.data.classes:
            raise InputError(
                f"problem: the network has {self.network.outputs} outputs and the data "
                f"{self.partition.data.classes} classes; they must agree"
            )

    @functools.cached_property
    def task(self) -> Task:
        data = self.partition.data
        labels = np.concatenate([data.train_labels, data.test_labels])
        targets = self.loss.targets(labels, data.classes)
        return Task(targets, self.partition.owner, self.partition.agents, self.loss, labels)

    @functools.cached_property
    def inputs(self) -> Float[np.ndarray, points * features]:
        """Training points, then test points."""
        return np.concatenate([self.partition.data.train_inputs, self.partition.data.test_inputs])

    @functools.cached_property
    def start(self) -> Params:
        """The parameters that every agent starts from, in float32."""
        return self.network.start(jax.random.key(self.seed), self.inputs.shape[1:])

    def network_space(self) -> NetworkSpace:
        """For observing: the real network, in JAX's current precision."""
        return NetworkSpace(self.network.apply, *self._arrays(), self.task.agents)

    def tangent_space(self) -> TangentSpace:
        """For predicting without a kernel: the linearized network, in JAX's current precision."""
        return TangentSpace(self.network.apply, *self._arrays(), self.task.agents)

    def kernel_space(self, kernel: str = "empirical") -> KernelSpace:
        """For predicting: the kernel named "empirical" or "infinite", in float64."""
        return _kernel_space(self.kernel(kernel), self.initial, self.task.agents)

    @functools.cached_property
    @precision.in_double
    def initial(self) -> Float[np.ndarray, "points outputs"]:
        """f(theta_0) at all points, in float64."""
        return np.asarray(jax.jit(self.network.apply)(*self._arrays()))

    def kernel(self, name: str) -> Kernel:
        """The named kernel in float64, computed once."""
        kernels = {"empirical": lambda: self._empirical, "infinite": lambda: self._infinite}
        if name not in kernels:
            raise unknown("kernel", name, kernels)
        return kernels[name]()

    @functools.cached_property
    @precision.in_double
    def _empirical(self) -> Kernel:
        params, inputs = self._arrays()
        train = self.task.train
        blocks = empirical.layer_ntk(self.network.apply, params, inputs, inputs[:train])
        whole = np.asarray(sum(blocks.values()))
        return Kernel(whole, {n: np.asarray(b[:train]) for n, b in blocks.items()}, "empirical")

    @functools.cached_property
    @precision.in_double
    def _infinite(self) -> Kernel:
        if self.network.kernel is None:
            raise InputError(
                f"problem: {self.network.name} has no known kernel at infinite width; "
                f'use kernel="empirical"'
            )
        inputs = jnp.asarray(self.inputs, jnp.float64)
        whole = infinite.ntk(self.network.kernel, inputs, inputs[: self.task.train])
        return Kernel(np.asarray(whole), {}, "infinite")

    def _arrays(self) -> tuple[Params, Array]:
        """Start and inputs in JAX's current precision."""
        dtype = jnp.zeros(()).dtype
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (self.start, self.inputs))


class KernelProblem:
    """A problem given by arrays alone: f = f0 + K c, and L_i the mean loss over owned points.

    K (n, n), the same for all outputs, or (n k, n k), point by point with k outputs each; y (n, k);
    owner (n,) ints from 0 on; f0 (n, k) outputs at the start, zero if left out. For test points
    give `K_test` (m, n) or (m k, n k), `y_test` (m, k) and `f0_test`. All become float64.
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
    ) -> None:
        y = _finite("y", y, 2)
        owner = _owners(owner, len(y))
        outputs = y.shape[1]
        kernel = _blocks("K", K, len(y), len(y), outputs)
        square = kernel.reshape(len(y) * (outputs if kernel.ndim == 4 else 1), -1)
        _check_symmetric(square)
        _check_not_negative(square)
        f0 = np.zeros_like(y) if f0 is None else _shaped("f0", f0, y.shape)
        if (K_test is None) != (y_test is None):
            raise InputError("K_test and y_test: give both or neither")
        if K_test is not None:
            y_test = _finite("y_test", y_test, 2)
            rows = _blocks("K_test", K_test, len(y_test), len(y), outputs)
            if rows.ndim != kernel.ndim:
                raise InputError(
                    "K_test: must have the form of K, per point or per point and output"
                )
            shape = (len(y_test), outputs)
            f0_test = np.zeros(shape) if f0_test is None else _shaped("f0_test", f0_test, shape)
            kernel, y, f0 = (
                np.concatenate(p) for p in ((kernel, rows), (y, y_test), (f0, f0_test))
            )
        self.task = Task(y, owner, int(owner.max()) + 1, losses.named(loss), None)
        self.initial = f0
        self._kernel = Kernel(kernel, {}, "given")

    def kernel(self, name: str = "given") -> Kernel:
        """The kernel that was given, whatever it is called."""
        return self._kernel

    def kernel_space(self, kernel: str = "given") -> KernelSpace:
        """The one space a bare kernel has."""
        return _kernel_space(self._kernel, self.initial, self.task.agents)


def _kernel_space(kernel: Kernel, initial: np.ndarray, agents: int) -> KernelSpace:
    with precision.double():
        arrays = jax.tree.map(jnp.asarray, (kernel.whole, initial, kernel.layers))
    return KernelSpace(arrays[0], arrays[1], agents, arrays[2])


# --- checks of bare arrays --------------------------------------------------------------------


def _finite(name: str, values: Any, dimensions: int) -> Float[np.ndarray, ...]:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(
            f"{name}: must be an array of numbers, got {type(values).__name__}"
        ) from None
    if array.ndim != dimensions or not array.size:
        raise InputError(
            f"{name}: must have {dimensions} dimensions and entries, got {array.shape}"
        )
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise InputError(f"{name}: entry {where} is {array[where]}; all numbers must be finite")
    return array


def _shaped(name: str, values: Any, shape: tuple[int, int]) -> Float[np.ndarray, ...]:
    array = _finite(name, values, 2)
    if array.shape != shape:
        raise InputError(f"{name}: must be (points, outputs) = {shape}, got {array.shape}")
    return array


def _owners(owner: Any, points: int) -> Int[np.ndarray, " train"]:
    array = np.asarray(owner)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(f"owner: must be a list of whole numbers, got {array.dtype} {array.shape}")
    if len(array) == points and array.min() >= 0:
        check_owner(array, int(array.max()) + 1, points)
    else:
        check_owner(array, len(array), points)
    return array.astype(int)


def _blocks(name: str, values: Any, rows: int, train: int, outputs: int) -> Float[np.ndarray, ...]:
    """(rows, train), or (rows k, train k) unfolded to (rows, k, train, k)."""
    array = _finite(name, values, 2)
    if array.shape == (rows, train):
        return array
    if array.shape == (rows * outputs, train * outputs):
        return array.reshape(rows, outputs, train, outputs)
    raise InputError(
        f"{name}: must be {(rows, train)}, the same for every output, or "
        f"{(rows * outputs, train * outputs)}, got {array.shape}"
    )


def _check_symmetric(matrix: Float[np.ndarray, "n n"]) -> None:
    difference = np.abs(matrix - matrix.T)
    if difference.max() > 1e-8 * np.abs(matrix).max():
        i, j = (int(k) for k in np.unravel_index(difference.argmax(), matrix.shape))
        raise InputError(
            f"K: must be symmetric, but entries ({i}, {j}) and ({j}, {i}) are "
            f"{matrix[i, j]:.6g} and {matrix[j, i]:.6g}"
        )


def _check_not_negative(matrix: Float[np.ndarray, "n n"]) -> None:
    """Cholesky's test, with room for the rounding of a kernel computed in single precision."""
    room = ROUNDED * np.abs(matrix).sum(axis=1).max()
    try:
        scipy.linalg.cholesky(matrix + room * np.eye(len(matrix)), overwrite_a=True)
    except np.linalg.LinAlgError:
        smallest = float(np.linalg.eigvalsh(matrix)[0])
        raise InputError(
            f"K: its smallest eigenvalue is {smallest:.6g}, and a kernel has none below zero; "
            f"add {-smallest:.6g} to the diagonal, or see how it was computed"
        ) from None
