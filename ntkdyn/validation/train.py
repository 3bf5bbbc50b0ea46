"""Training: a method run in NetworkSpace, on the real networks of all agents."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkdyn.checkpoints import Checkpoints
from ntkdyn.dynamics.stability import Stability, assess, setting
from ntkdyn.engine import Progress
from ntkdyn.errors import unknown
from ntkdyn.keeping import Keep
from ntkdyn.kernels import empirical
from ntkdyn.methods import Method, OfLimit
from ntkdyn.precision import double, single
from ntkdyn.problems import Problem
from ntkdyn.records import Record
from ntkdyn.runs import plan, run
from ntkdyn.vectors import Vector

PRECISIONS = {"float32": single, "float64": double, "bfloat16": single}
"""name -> the context that networks are trained in"""


def train(
    problem: Problem,
    method: Method,
    weights: Any,
    rounds: int | Sequence[int],
    *,
    record_every: int | None = None,
    batch_size: int | None = None,
    batch_seed: int | None = None,
    keep: Keep = Keep(),
    stability: Stability | None = None,
    progress: Progress | None = None,
    checkpoints: Checkpoints | None = None,
    precision: str = "float32",
) -> Record:
    """theta_i(t + 1) by the method's own step on the real networks, every agent from theta_0.

    Arguments as for `predict`, which draws the same batches. The record says whether the run is
    stable where that is known: from `stability` (as `dynamics.assess` gives it), or because the
    step size is `of_limit(share)`, for which the empirical kernel is computed. `checkpoints` save
    the run as it goes, and continue it bit for bit. `precision` is

        "float32"     of everything
        "float64"     the same
        "bfloat16"    of the networks' products and activations; parameters, outputs and whatever
                      the method does with them stay float32
    """
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
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
    if stability is None and isinstance(method.step_size, OfLimit):
        stability = assess(setting(problem, "empirical", method, asked.weights))
    if stability:
        asked = asked._replace(method=stability.method)
    if checkpoints:
        checkpoints.note({"precision": precision})
    real = _rounded(problem) if precision == "bfloat16" else problem
    with PRECISIONS[precision]():
        record = run(
            asked,
            real.network_space(method.view),
            origin=problem.origin,
            parameters_each=problem.parameters_each,
            kernels=_kernels(problem),
            progress=progress,
            checkpoints=checkpoints,
        )
    known = stability.attributes() if stability else {}
    return record.assign_attrs(space="network", kernel="none", precision=precision, **known)


def _rounded(problem: Problem) -> Problem:
    """The problem with its networks computed in bfloat16."""
    given = problem.network
    several = isinstance(given, Sequence)
    rounded = [each.in_bfloat16 for each in given] if several else given.in_bfloat16
    return dataclasses.replace(problem, network=rounded)


def _kernels(problem: Problem) -> Callable[[Vector], list[np.ndarray]]:
    """The kernel of every agent's network at its own parameters, between the training points."""
    points = jnp.asarray(problem.inputs[: problem.task.train], jnp.zeros(()).dtype)
    agents = range(problem.task.agents)

    def kernels(x: Vector) -> list[np.ndarray]:
        networks = (jax.tree.map(lambda leaf, i=i: leaf[i], x.tree) for i in agents)
        apply = problem.network.apply
        return [np.asarray(empirical.trace(apply, params, points)) for params in networks]

    return kernels
