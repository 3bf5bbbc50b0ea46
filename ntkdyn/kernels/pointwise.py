"""What a model must be for its kernel to mean something: outputs of each point by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jaxtyping import Array, Float, PyTree

from ntkdyn.errors import InputError
from ntkdyn.kernels.walk import Apply

POINTS = 3
"""how many points a model is tried at, together, in another order, and one by one"""

MOVED = 0.1
"""By this much of their size parameters are moved before a model is tried: outputs that cancel at
the start, or that a readout of zeros hides, do not there."""


def columns(returned: Any, points: int) -> Any:
    """What a model returned, or its shape, once it is sure to be outputs (points, outputs)."""
    if isinstance(returned, (tuple, list, dict)):
        raise InputError(
            f"apply: must return one array (points, outputs), got a {type(returned).__name__} of "
            f"{len(returned)}; return the outputs alone"
        )
    shape = getattr(returned, "shape", None)
    if shape is None or len(shape) != 2 or shape[0] != points:
        raise InputError(
            f"apply: must return (points, outputs), got {shape or type(returned).__name__} for "
            f"{points} points"
        )
    if not jnp.issubdtype(returned.dtype, jnp.floating):
        raise InputError(f"apply: must return real numbers, got {returned.dtype}")
    return returned


def outputs_of(apply: Apply, params: PyTree, points: Float[np.ndarray, points * features]) -> int:
    """The number of outputs, once it is sure that each point is by itself.

    The first `POINTS`, with different factors, are looked at together, in another order, and one
    by one. Their outputs may differ by the square root of the unit roundoff, relatively, of the
    narrowest dtype that the model computes in: sums in another order make far less of it, another
    batch's average or mask far more.
    """
    factors = np.array([1, 0.5, -1], points.dtype).reshape(-1, *[1] * (points.ndim - 1))
    few = points[np.arange(POINTS) % len(points)] * factors
    jaxpr, shape = _traced(apply, params, few)
    columns(shape, POINTS)
    compiled = jax.jit(apply)

    def at(tree: PyTree, rows: Any) -> Float[np.ndarray, "rows outputs"]:
        with jax.default_matmul_precision("float32"):
            return np.asarray(compiled(tree, few[rows]), np.float64)

    together = at(moved := _moved(params), slice(None))
    if not np.isfinite(together).all():
        together = at(moved := params, slice(None))
    if not np.isfinite(together).all():
        raise InputError(
            f"apply: outputs must be finite, but some at these points and parameters, in "
            f"{points.dtype}, are not"
        )
    order = np.roll(np.arange(POINTS), 1)
    others = {
        "their order": (together[order], at(moved, order)),
        "the others of its batch": (
            together,
            np.concatenate([at(moved, [row]) for row in range(POINTS)]),
        ),
    }
    allowed = _roundoff(jaxpr) ** 0.5 * max(np.abs(together).max(), np.finfo(np.float32).tiny)
    for of, (one, other) in others.items():
        if not np.abs(one - other).max() <= allowed:
            raise InputError(
                f"apply: outputs of one point must not depend on {of}, but they do, by "
                f"{np.abs(one - other).max() / np.abs(together).max():.2g} of the largest; with "
                f"batch normalisation, use running averages (evaluation mode) or another norm, and "
                f"leave out dropout"
            )
    return together.shape[1]


def _traced(apply: Apply, params: PyTree, points: Any) -> tuple[ClosedJaxpr, Any]:
    """The program of the model and what it returns."""
    try:
        return jax.make_jaxpr(apply, return_shape=True)(params, points)
    except InputError:
        raise
    except Exception as error:  # whatever a model raises
        raise InputError(
            f"apply: fails at points of shape {points.shape} and these parameters; "
            f"{type(error).__name__}: {error}"
        ) from error


def equations(program: ClosedJaxpr | Jaxpr) -> Iterator[JaxprEqn]:
    """All operations of a program, with those of the programs that they call."""
    for eqn in getattr(program, "jaxpr", program).eqns:
        yield eqn
        inner = jax.tree.leaves(eqn.params, is_leaf=_is_program)
        for each in filter(_is_program, inner):
            yield from equations(each)


def _is_program(value: Any) -> bool:
    return isinstance(value, (ClosedJaxpr, Jaxpr))


def _roundoff(program: ClosedJaxpr) -> float:
    """The unit roundoff of the narrowest floating-point dtype that it computes in."""
    dtypes = {variable.aval.dtype for eqn in equations(program) for variable in eqn.outvars}
    dtypes |= {variable.aval.dtype for variable in program.jaxpr.invars}
    floating = [dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)]
    return max((float(jnp.finfo(dtype).eps) for dtype in floating), default=0.0)


def _moved(params: PyTree) -> PyTree:
    """The parameters a little away from where they are, in a direction of no meaning."""

    def away(leaf: Array) -> Array:
        size = jnp.sqrt(jnp.mean(leaf**2))
        wave = jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape)
        return leaf + MOVED * jnp.where(size > 0, size, 1) * wave

    return jax.tree.map(away, params)
