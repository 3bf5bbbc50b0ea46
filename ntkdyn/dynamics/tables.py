"""Tables of what is known before a run, as records: for figures and for whoever reads them.

kernel_table   kernel (point, other_point): K between training points
spectrum       eigenvalue_real, eigenvalue_imag (eigenvalue): of one round of the method
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from ntkdyn import precision
from ntkdyn.dynamics.spectra import outer_eigenvalues
from ntkdyn.dynamics.stability import Family, assess, check_repeats, period_of
from ntkdyn.linear import Choice
from ntkdyn.problems import KernelProblem, Problem
from ntkdyn.records import Record, environment
from ntkdyn.system import System, question


def kernel_table(problem: Problem | KernelProblem, *, kernel: Choice | str = "empirical") -> Record:
    """K(x, x') between the training points, with the agent that owns each.

    A kernel that couples outputs is given by its mean over the outputs' own blocks, K_aa.

    Args:
        problem: of which the kernel is.
        kernel: which of its kernels.

    Returns:
        kernel (row, column) and the owners of both.

    Raises:
        InputError: for a kernel that is never formed.

    Example:
        >>> nd.dynamics.kernel_table(bare)["kernel"].shape
        (6, 6)
    """
    found = problem.kernel(kernel)
    task = problem.task
    block = found.whole[: task.train]
    matrix = block if block.ndim == 2 else np.einsum("iaja->ij", block) / block.shape[1]
    return xr.Dataset(
        {"kernel": (("point", "other_point"), matrix)},
        {"owner": ("point", task.owner)},
        {"kernel_name": found.name, **environment()},
    )


@question("kernel")
@precision.in_double
def spectrum(system: System) -> Record:
    """The eigenvalues z of one round, errors(t + 1) = A errors(t): stable where all |z| <= 1.

    All of them where the state that moves is small, otherwise those on the rim; see `spectra`. Of a
    whole period (attribute `period`) where exchanges or the graph repeat after some rounds. The
    squared error is meant, whatever the problem's loss.

    Args:
        system: or problem, method, weights in its place, with `kernel` by name.

    Returns:
        eigenvalue_real and eigenvalue_imaginary.

    Raises:
        InputError: where rounds are not affine maps, or do not repeat.

    Example:
        >>> found = nd.dynamics.spectrum(bare, dgd, W)
        >>> bool((abs(found["eigenvalue_real"]) <= 1).all())
        True
    """
    check_repeats(system, "spectrum")
    known = assess(system)
    values = outer_eigenvalues(Family(system).at(known.method.step_size))
    return xr.Dataset(
        {
            "eigenvalue_real": ("eigenvalue", values.real),
            "eigenvalue_imag": ("eigenvalue", values.imag),
        },
        attrs={
            "method": system.method.name,
            "step_size": float(known.method.step_size),
            "weights": system.weights.name,
            "spectral_gap": system.weights.spectral_gap,
            "period": period_of(system.method, system.weights),
            **known.attributes(),
            **environment(),
        },
    )
