"""Kernels and targets from outside: in float64, in one form, and symmetric to the last digit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.linalg
from jaxtyping import Float

from ntkdyn import arrays, sizes
from ntkdyn.errors import InputError, check_flag, is_real, shown
from ntkdyn.kernels.results import Computed

ROUNDED = 1e-6
"""Negative eigenvalues of a kernel up to this share of its norm count as rounding."""

GATHERED = 8
"""So do those up to so many rounding errors of its dtype, where that is more."""

COPIES = 4
"""of a kernel in float64 at a time: as given, made symmetric, and two while either is checked"""

TINY = np.finfo(np.float64).tiny
"""stands for the largest entry of a kernel that is zero"""

FEWER = "take fewer points, or a kernel for one output"


def columns(name: str, values: Any) -> Float[np.ndarray, "points outputs"]:
    """Numbers per point, one column for each output."""
    array = arrays.numbers(name, values).astype(np.float64)
    if array.ndim not in (1, 2):
        raise InputError(f"{name}: must be (points, outputs) or (points,), got {array.shape}")
    return array.reshape(len(array), -1)


def shaped(name: str, values: Any, shape: tuple[int, int]) -> Float[np.ndarray, ...]:
    """Numbers per point, as many points and columns as that."""
    array = columns(name, values)
    if array.shape != shape:
        raise InputError(f"{name}: must be (points, outputs) = {shape}, got {array.shape}")
    return array


def blocks(
    name: str, values: Any, rows: int, train: int, outputs: int
) -> tuple[Float[np.ndarray, ...], float]:
    """(rows, train) or (rows, k, train, k) in float64, and the rounding of the dtype it came in."""
    given = _values(name, values, outputs)
    sizes.check_room(f"{name}: a kernel {given.shape}", 8 * COPIES * given.size, FEWER)
    array = arrays.numbers(name, given)
    apart = (rows, outputs, train, outputs)
    forms = {
        (rows, train, outputs, outputs): lambda: array.transpose(0, 2, 1, 3),
        apart: lambda: array,
        (rows * outputs, train * outputs): lambda: array.reshape(apart),
        (rows, train): lambda: array,
    }  # of two that agree, as for one output, the last
    if array.shape not in forms:
        first, *others = reversed(forms)
        raise InputError(
            f"{name}: must be {first}, the same for every output, or "
            f"{' or '.join(map(str, others))}, got {array.shape}"
        )
    formed = forms[array.shape]().astype(np.float64)
    formed = formed.reshape(rows, train) if outputs == 1 else formed
    return formed, arrays.rounding(array.dtype)


def _values(name: str, given: Any, outputs: int) -> np.ndarray:
    """The array; of what `kernels.compute` returns, its values, a trace shared among outputs."""
    if not isinstance(given, Computed):
        return arrays.plain(name, given)
    form = given.plan.form
    if form == "diagonal" or (form not in ("full", "trace") and outputs > 1):
        lacks = "pairs of points" if form == "diagonal" else f"{outputs} outputs apart"
        raise InputError(
            f'{name}: the {form} form does not tell {lacks}; compute it with form="full"'
        )
    return given.values / outputs if form == "trace" else given.values


def shared(kernel: Any, outputs: int) -> dict[str, str]:
    """That a trace stands for all outputs, for the record."""
    if outputs == 1 or not isinstance(kernel, Computed) or kernel.plan.form != "trace":
        return {}
    return {"kernel_shared": f"the mean over {outputs} outputs, taken for each of them"}


def ridged(
    kernel: Float[np.ndarray, ...], diag_reg: Any, absolute: bool
) -> tuple[Float[np.ndarray, ...], dict[str, float]]:
    """K + r I, and r for the record: diag_reg, or that times the mean of K's diagonal."""
    check_flag("diag_reg_absolute_scale", absolute)
    if not is_real(diag_reg) or not 0 <= diag_reg < math.inf:
        raise InputError(f"diag_reg: must be finite and not negative, got {shown(diag_reg)}")
    if diag_reg == 0:
        return kernel, {}
    size = math.prod(kernel.shape[: kernel.ndim // 2])
    matrix = kernel.reshape(size, size).copy()
    ridge = float(diag_reg) * (1.0 if absolute else float(matrix.trace()) / size)
    np.fill_diagonal(matrix, matrix.diagonal() + ridge)
    return matrix.reshape(kernel.shape), {"ridge": ridge}


def symmetric(
    kernel: Float[np.ndarray, ...], precision: float
) -> tuple[Float[np.ndarray, ...], dict[str, str]]:
    """The kernel, exactly symmetric, and by how much it was not, for the record."""
    matrix = kernel.reshape(math.prod(kernel.shape[: kernel.ndim // 2]), -1)
    i, j, share = _largest_difference(matrix)
    if share > math.sqrt(precision):  # where fewer than half of the digits agree it is no rounding
        raise InputError(
            f"K: must be symmetric, but entries ({i}, {j}) and ({j}, {i}) are "
            f"{matrix[i, j]:.9g} and {matrix[j, i]:.9g}"
        )
    even = (matrix + matrix.T) / 2
    _check_not_negative(even, max(ROUNDED, GATHERED * precision))
    said = f"symmetrised; entries differed by up to {share:.2g} of the largest"
    return even.reshape(kernel.shape), {"kernel_adjusted": said} if share else {}


def _largest_difference(matrix: Float[np.ndarray, "n n"]) -> tuple[int, int, float]:
    """Where an entry differs most from its mirror image, as a share of the largest entry."""
    apart = np.abs(matrix - matrix.T)
    i, j = np.unravel_index(apart.argmax(), matrix.shape)
    return int(i), int(j), float(apart[i, j] / max(np.abs(matrix).max(), TINY))


def _check_not_negative(matrix: Float[np.ndarray, "n n"], rounded: float) -> None:
    """Cholesky's test, with room for the rounding of a kernel computed in low precision."""
    lifted = matrix.copy()
    np.fill_diagonal(
        lifted, matrix.diagonal() + max(rounded * np.abs(matrix).sum(axis=1).max(), TINY)
    )
    try:
        scipy.linalg.cholesky(lifted, overwrite_a=True)
    except np.linalg.LinAlgError:
        smallest = float(np.linalg.eigvalsh(matrix)[0])
        raise InputError(
            f"K: its smallest eigenvalue is {smallest:.6g}, and a kernel has none below zero; "
            f"add {-smallest:.6g} to the diagonal, or see how it was computed"
        ) from None
