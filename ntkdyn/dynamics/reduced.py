"""A linear problem in few coordinates, for what cannot carry its kernel: pages, small devices.

With K = U D U^T between training points, the agents' models are f = f0 + U D^(1/2) x_i. Of all x
those are kept that runs of the problem pass through: steps of outputs along them, as shares of what
is left of the targets and written in U, have leading singular vectors P (proper orthogonal
decomposition; Sirovich 1987), and

    f(x_a) = f0_a + phi_a . x_i,    phi = K U D^(-1/2) Q,    Q = orth(D^(-1/2) P)

is the problem restricted to x in the range of Q, for each output by itself. Every method runs on it
unchanged, as on a network with so many parameters; how far its losses are from the whole problem's
is measured, for the runs that it was made from and for others. A kernel that couples outputs is
taken by its mean over their own blocks, which at infinite width it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float

from ntkdyn import precision
from ntkdyn.dynamics.predict import predict
from ntkdyn.errors import InputError, check_whole
from ntkdyn.linear import Given, Kernel
from ntkdyn.problems import KernelProblem, Task
from ntkdyn.records import Record, environment
from ntkdyn.system import System

LARGEST = 4096
"""training points: the eigendecomposition of so many takes a minute"""

SMALLEST = 1e-12
"""eigenvalues up to this share of the largest are rounding"""

SNAPSHOTS = 12
"""rounds of each run that coordinates are made from, and errors measured in"""


@precision.in_double
def reduced(
    runs: Sequence[System], rounds: int, size: int, others: Sequence[System] = ()
) -> Record:
    """The problem of all these runs, in `size` coordinates.

    Args:
        runs: systems of the same points and kernel, which may differ in method, graph and owners;
            coordinates are made for these.
        rounds: of each.
        size: r, how many coordinates.
        others: systems that the coordinates were not made for, to measure the error.

    Returns:
        feature (point, coordinate), target (point, output): y - f0, training points first, owner
        (train_point). error (run), other_error (other): the largest relative error of an agent's
        common loss in any round, against what `predict` says of that system as it is.

    Raises:
        InputError: for more than 4096 training points, or more coordinates than these.

    Example:
        >>> found = nd.dynamics.reduced([nd.System(bare, dgd, W)], 20, 5)
        >>> found["feature"].shape, bool(found["error"].max() < 1e-3)
        ((6, 5), True)
    """
    base = runs[0]
    task, initial = base.task, base.problem.initial
    if task.train > LARGEST:
        raise InputError(
            f"reduced: there are {task.train} training points, and at most {LARGEST} are taken"
        )
    size = check_whole("size:", size, 1, task.train)
    kernel = uncoupled(base.matrix)
    taken = [0, *np.unique(np.geomspace(1, max(rounds, 1), SNAPSHOTS).round().astype(int)).tolist()]
    seen = [predict(each, taken) for each in runs]
    snapshots = [_steps(each["outputs"].values[:, :, : task.train], task) for each in seen]
    feature = _features(kernel, np.concatenate(snapshots, axis=1), size)

    def error(system: System, right: Record | None = None) -> float:
        small = system.with_(problem=_with_features(system.task, initial, feature), kernel=Given())
        return _error(right or predict(system, taken), predict(small, taken))

    return xr.Dataset(
        {
            "feature": (("point", "coordinate"), feature),
            "target": (("point", "output"), task.targets - initial),
            "owner": ("train_point", task.owner),
            "error": ("run", [error(*each) for each in zip(runs, seen, strict=True)]),
            "other_error": ("other", [error(each) for each in others]),
        },
        attrs={"kernel_name": base.matrix.name, **environment()},
    )


def uncoupled(kernel: Kernel) -> Float[np.ndarray, "points train"]:
    """The kernel, or the mean over outputs of their own blocks."""
    whole = kernel.whole
    return whole if whole.ndim == 2 else np.einsum("iaja->ij", whole) / whole.shape[1]


def _steps(
    outputs: Float[np.ndarray, "rounds agents train outputs"], task: Task
) -> Float[np.ndarray, "train snapshots"]:
    """What outputs move by from round to round, as a share of what is left then of the targets."""
    left = np.linalg.norm(task.targets[: task.train] - outputs[1:], axis=(-2, -1), keepdims=True)
    steps = np.diff(outputs, axis=0) / np.maximum(left, np.finfo(float).tiny)
    return np.moveaxis(steps, 2, 0).reshape(task.train, -1)


def _features(
    kernel: Float[np.ndarray, "points train"],
    moved: Float[np.ndarray, "train snapshots"],
    size: int,
) -> Float[np.ndarray, "points coordinates"]:
    """phi at all points; between training points phi phi^T is at most K."""
    values, vectors = np.linalg.eigh(kernel[: len(moved)])
    kept = values > SMALLEST * values[-1]
    roots, vectors = np.sqrt(values[kept]), vectors[:, kept]
    written = vectors.T @ moved
    _, leading = np.linalg.eigh(written @ written.T)
    basis, _ = np.linalg.qr(leading[:, -size:] / roots[:, None])
    return kernel @ (vectors / roots) @ basis


def _with_features(
    task: Task, initial: np.ndarray, feature: Float[np.ndarray, "points coordinates"]
) -> KernelProblem:
    """The problem with phi phi^T for its kernel."""
    train = task.train
    kernel = feature @ feature[:train].T
    tested = {}
    if len(kernel) > train:
        tested = {
            "K_test": kernel[train:],
            "y_test": task.targets[train:],
            "f0_test": initial[train:],
        }
    given = kernel[:train], task.targets[:train], task.owner, initial[:train]
    return KernelProblem(*given, **tested, loss=task.loss)


def _error(right: Record, found: Record) -> float:
    """The largest relative error of an agent's common loss."""
    one, other = right["global_loss"].values, found["global_loss"].values
    return float(np.max(np.abs(other - one) / one))
