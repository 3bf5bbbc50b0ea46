"""Products with a Jacobian from the right, also of models that have no forward mode."""

from collections.abc import Callable

import jax
from jaxtyping import Array, PyTree

from ntkdyn.kernels.pointwise import equations


def pushing(function: Callable[[PyTree], Array], params: PyTree) -> Callable[[PyTree], Array]:
    """tangent -> J tangent, of `function` at `params`.

    By forward mode; where a part of the function has derivatives of its own for reverse mode only
    (`jax.custom_vjp`), as the transpose of J^T, which costs about a gradient more.
    """
    program = jax.make_jaxpr(function)(params)
    if not any(eqn.primitive.name.startswith("custom_vjp") for eqn in equations(program)):
        return lambda tangent: jax.jvp(function, (params,), (tangent,))[1]
    outputs, pull = jax.vjp(function, params)
    push = jax.linear_transpose(lambda cotangent: pull(cotangent)[0], outputs)
    return lambda tangent: push(tangent)[0]
