"""KernelProblem: bare arrays, a kernel and targets from elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ntkdyn import display, losses
from ntkdyn.data import Partition
from ntkdyn.data.partitions import owners
from ntkdyn.errors import InputError, check_kind, check_name
from ntkdyn.given import blocks, columns, ridged, shaped, shared, symmetric
from ntkdyn.kernels.pytorch import from_torch
from ntkdyn.linear import KERNELS, Choice, Given, Kernel
from ntkdyn.losses import Loss
from ntkdyn.problems.checks import outputs_for
from ntkdyn.problems.task import Task, points_of, rows_of, task_of
from ntkdyn.spaces import KernelSpace


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

    Raises:
        InputError: for arrays that do not fit each other, are not finite, or a K that is not
            symmetric.

    Example:
        >>> nd.KernelProblem(K, y, owner).task.counts.tolist()
        [2, 2, 2]
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
        return f"KernelProblem({points_of(self.task)}, {loss})"

    def _repr_html_(self) -> str:
        rows = {"kernel": str(self.given.whole.shape)} | rows_of(self.task) | self.adjusted
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


def _classes_of(
    targets: Float[np.ndarray, "points outputs"], loss: Loss
) -> Int[np.ndarray, " points"] | None:
    """The classes that the targets of a binary loss name, if they are no probabilities between."""
    if not loss.binary or ((targets > 0) & (targets < 1)).any():
        return None
    return targets[:, 0].astype(int)
