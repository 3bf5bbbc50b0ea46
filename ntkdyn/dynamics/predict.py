"""Prediction: a method run in KernelSpace or TangentSpace, in float64; nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jaxtyping import Array, PyTree

from ntkdyn import precision
from ntkdyn.dynamics.stability import Stability, assess, known_step, setting
from ntkdyn.engine import Progress
from ntkdyn.keeping import Keep
from ntkdyn.kernels.structure import layer_names
from ntkdyn.methods import Method
from ntkdyn.problems import KernelProblem, Problem
from ntkdyn.records import Record
from ntkdyn.runs import plan, run
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
    if isinstance(problem, KernelProblem):
        parameters = {}
    else:
        parameters = {"origin": problem.origin, "parameters_each": problem.parameters_each}
    if kernel == "implicit" and isinstance(problem, Problem):
        known_step(method)
        space = problem.tangent_space(method.view)
        record = run(asked, space, progress=progress, **parameters)
        return record.assign_attrs(space="tangent", kernel=kernel)
    method.check_space("kernel")
    space = problem.kernel_space(kernel, method.view)
    if not method.affine:
        stability = Stability(known_step(method), None, None)
    stability = stability or assess(setting(problem, kernel, method, asked.weights))
    asked = asked._replace(method=stability.method)
    if parameters:
        parameters["lift"] = _lift(problem, method)
    record = run(asked, space, progress=progress, **parameters)
    return record.assign_attrs(
        space="kernel", kernel=kernel if parameters else "given", **stability.attributes()
    )


def _lift(problem: Problem, method: Method) -> Callable[[Vector], Vector]:
    """c -> J^T c: from coefficients on the training points to the displacement of parameters."""
    tangent = problem.tangent_space(method.view)
    look = tangent.readout(slice(problem.task.basis))

    def pulled(coefficients: Array) -> PyTree:
        return look(tangent.start())[1](coefficients).tree

    @jax.jit
    def lift(coefficients: Vector) -> Vector:
        if method.view != "layers":
            return Vector(pulled(coefficients.tree))
        whole = {layer: pulled(each) for layer, each in coefficients.tree.items()}
        first = next(iter(whole.values()))
        names, tree = layer_names(first), jax.tree.structure(first)
        leaves = [jax.tree.leaves(whole[name])[place] for place, name in enumerate(names)]
        return Vector(tree.unflatten(leaves))

    return lift
