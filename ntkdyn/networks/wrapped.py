"""Networks from any JAX model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, PRNGKeyArray

from ntkdyn.errors import InputError, check_whole
from ntkdyn.models import Model, Trained
from ntkdyn.networks.network import Network


def wrap(
    apply: Callable[[Any, Array], Array],
    start: Callable[[PRNGKeyArray, Any], Any],
    outputs: int,
    *,
    name: str = "wrapped",
    kernel: Callable[..., Any] | None = None,
    trained: Trained = None,
    read: Callable[[Array], Any] | None = None,
) -> Network:
    """A network from any JAX model, f(x) = apply(start(key, ...), read(x)).

    `apply(variables, inputs)` maps (points, *features) to (points, outputs), each point by itself,
    or to (points,) where there is one output. `start` takes a key, and either the features of one
    point, a tuple, or a point (1, *features) as flax and haiku do. It is called in float32, and
    floating-point parameters of any other precision become float32.

    `trained` says which of the variables are parameters; the others are frozen and must be the same
    for every key:

        "params"       what is found under that name, or under one of several
        nnx.Param      what is of that type, or of one of several
        a function     array -> whether it is trained
        a tree         of such truths, of which a branch may be given by one

    Left out, all arrays of floating-point numbers are, and of flax's collections "params" alone.
    `read` makes of points (points, *features), which are floating-point numbers, what the model
    takes: tokens, lambda x: x.astype(int), or several arrays, lambda x: {"image": x[:, :64],
    "age": x[:, 64:]}; data of both kinds are read with scale="none". Left out, the model takes
    points as they are. `kernel` is (x1, x2, "ntk" or "nngp") -> kernel at infinite width, if it is
    known.

    Refuses (`InputError`) a model with other outputs than these, or with no parameters; and, where
    it meets data in a `Problem`, one whose outputs for a point depend on the others of its batch.

    Args:
        apply: (variables, inputs) -> outputs (points, outputs).
        start: (key, shape) -> variables.
        outputs: how many.
        name: what records call it.
        kernel: as above.
        trained: as above.
        read: as above.

    Returns:
        The network.

    Raises:
        InputError: as above.

    Example:
        >>> import jax
        >>> line = nd.networks.wrap(
        ...     lambda w, x: x @ w, lambda key, shape: jax.random.normal(key, (shape[-1], 2)), 2
        ... )
        >>> line.outputs
        2
    """
    check_whole("wrap: outputs", outputs, 1)
    if read is not None and not callable(read):
        raise InputError(f"wrap: read must be a function of points, got {read!r}")
    model = Model(apply, start, int(outputs), trained, read)
    description = {"kind": "wrapped", "name": name}
    return Network(name, model.start, model.apply, int(outputs), kernel, description)
