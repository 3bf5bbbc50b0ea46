"""Prediction: a method run in KernelSpace or TangentSpace, in float64; nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ntkdyn import precision
from ntkdyn.dynamics.stability import Stability, assess, known_step, setting
from ntkdyn.engine import Progress
from ntkdyn.keeping import Keep
from ntkdyn.methods import Method
from ntkdyn.problems import KernelProblem, Problem
from ntkdyn.records import Record
from ntkdyn.runs import plan, run
from ntkdyn.spaces import KernelSpace
from ntkdyn.vectors import Vector


@precision.in_double
def predict(
    problem: Problem | KernelProblem,
    method: Method,
    weights: Any,
    rounds: int | Sequence[int],
    *,
    kernel: str = "empirical",
    record_every: int | None = None,
    batch_size: int | None = None,
    batch_seed: int | None = None,
    keep: Keep = Keep(),
    stability: Stability | None = None,
    progress: Progress | None = None,
) -> Record:
    """f_i(x; t) = f(x; theta_0) + K(x, X) c_i(t) for every agent i, c_i by the method's own step.

    `weights` is a `Mixing` or a matrix (agents, agents); `rounds` a number of rounds, recorded
    every `record_every`, or the list of rounds to record. With `batch_size`, each agent uses that
    many of its points a round, drawn from `batch_seed` as `train` draws them. `kernel` is

        "empirical"   J J^T at the start of the problem's own network
        "infinite"    the limit of infinite width, from the same f(theta_0)
        "implicit"    the empirical one, never formed: products with J, for problems too large

    while a `KernelProblem` has its own, whatever it is called here. The step size may be
    `of_limit(share)`. One above the limit is run all the same, and the record's attribute
    `stable` is then False; with "implicit" the limit is not known. `stability`, as
    `dynamics.assess` gives it, saves working it out again.
    """
    asked = plan(
        problem.task,
        method,
        weights,
        rounds,
        record_every=record_every,
        batch_size=batch_size,
        batch_seed=batch_seed,
        keep=keep,
    )
    if kernel == "implicit" and isinstance(problem, Problem):
        known_step(method)
        record = run(asked, problem.tangent_space(), origin=problem.start, progress=progress)
        return record.assign_attrs(space="tangent", kernel=kernel)
    stability = stability or assess(setting(problem, kernel, method, asked.weights))
    asked = asked._replace(method=stability.method)
    space = problem.kernel_space(kernel)
    if isinstance(problem, Problem):
        record = run(
            asked,
            space,
            origin=problem.start,
            lift=_lift(problem),
            kernels=_constant(space),
            progress=progress,
        )
    else:
        record = run(asked, space, kernels=_constant(space), progress=progress)
    return record.assign_attrs(
        space="kernel", kernel=problem.kernel(kernel).name, **stability.attributes()
    )


def _constant(space: KernelSpace) -> Callable[[Vector], list[np.ndarray]]:
    """The one kernel of every agent in every round, between the training points."""
    kernel = np.asarray(space.kernel[: space.train])
    kernel = np.einsum("nkmk->nm", kernel) if kernel.ndim == 4 else kernel
    return lambda x: [kernel] * space.agents


def _lift(problem: Problem) -> Callable[[Vector], Vector]:
    """c -> J^T c: from coefficients on the training points to the displacement of parameters."""
    tangent = problem.tangent_space()
    look = tangent.readout(slice(problem.task.train))

    @jax.jit
    def lift(coefficients: Vector) -> Vector:
        _, pull = look(tangent.start())
        return pull(coefficients.tree)

    return lift
