"""Tables of what is known before a run, as records: for figures and for whoever reads them.

kernel_table   kernel (point, other_point): K between training points
spectrum       eigenvalue_real, eigenvalue_imag (eigenvalue): of one round of the method
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from ntkdyn import precision
from ntkdyn.dynamics.spectra import outer_eigenvalues
from ntkdyn.dynamics.stability import Family, assess, check_repeats, period_of, setting
from ntkdyn.methods import Method
from ntkdyn.problems import KernelProblem, Problem
from ntkdyn.records import Record, environment


def kernel_table(problem: Problem | KernelProblem, *, kernel: str = "empirical") -> Record:
    """K(x, x') between the training points, with the agent that owns each.

    A kernel that couples outputs is given by its mean over the outputs' own blocks, K_aa.
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


@precision.in_double
def spectrum(
    problem: Problem | KernelProblem, method: Method, weights: Any, *, kernel: str = "empirical"
) -> Record:
    """The eigenvalues z of one round, errors(t + 1) = A errors(t): stable where all |z| <= 1.

    All of them where the state that moves is small, otherwise those on the rim; see `spectra`. Of a
    whole period (attribute `period`) where exchanges or the graph repeat after some rounds. The
    squared error is meant, whatever the problem's loss.
    """
    asked = setting(problem, kernel, method, weights)
    check_repeats(asked, "spectrum")
    known = assess(asked)
    values = outer_eigenvalues(Family(asked).at(known.method.step_size))
    return xr.Dataset(
        {
            "eigenvalue_real": ("eigenvalue", values.real),
            "eigenvalue_imag": ("eigenvalue", values.imag),
        },
        attrs={
            "method": method.name,
            "step_size": float(known.method.step_size),
            "weights": asked.weights.name,
            "spectral_gap": asked.weights.spectral_gap,
            "period": period_of(asked.method, asked.weights),
            **known.attributes(),
            **environment(),
        },
    )
