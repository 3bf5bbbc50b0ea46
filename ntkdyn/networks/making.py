"""Layers of stax made to read images, and turned into a Network."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
from jaxtyping import Array, PRNGKeyArray

from ntkdyn import precision
from ntkdyn.networks.checks import check_count, check_features
from ntkdyn.networks.layers import Layer
from ntkdyn.networks.network import Network, Params
from ntkdyn.networks.normalisation import PLAIN, Normalisation
from ntkdyn.networks.wiring import Wiring, places
from ntkdyn.sizes import check_room

EACH = 20
"""bytes of a parameter at the start in single precision and, predicted from, in double, and of what
drawing them takes beside: 16.3 measured"""


def network_of(
    layers: Layer,
    axes: int,
    sizes: Sequence[int],
    description: dict[str, Any],
    wiring: Wiring,
    *,
    normal: Normalisation = PLAIN,
    limit: bool = True,
    smallest: int = 1,
) -> Network:
    """A network of stax layers, with parameters by the names that `named` gave them.

    They read points of so many `axes`, or, where the description has an `image`, flat ones as such
    images; those have at least `smallest` rows and columns. `sizes` are what its name lists, and
    `limit` says whether the kernel at infinite width is known, but for the normalisation.
    """
    image, kind = description.get("image"), description["kind"]
    initialise, evaluate, infinite = _reading(layers, image)
    shape = image or (smallest,) * axes
    fits = partial(check_features, kind, axes, image, smallest=smallest)
    fits(shape)

    nested = jax.eval_shape(lambda key: initialise(key, (-1, *shape))[1], jax.random.key(0))
    check_count(kind, nested)
    parts, tree = jax.tree.flatten(nested, is_leaf=_is_named)
    names = [name for part in parts for name in part]

    def kernel(x1: Any, x2: Any, get: str) -> Any:
        fits(x1.shape[1:])
        return infinite(x1, x2, get)

    def run(params: Params, inputs: Array, **beside: Any) -> Array:
        return evaluate(tree.unflatten([{name: params[name]} for name in names]), inputs, **beside)

    def hidden(params: Params, inputs: Array) -> dict[str, Array]:
        seen: dict[str, Array] = {}
        run(params, inputs, seen=seen)
        return seen

    network = Network(
        name=" ".join([kind, "-".join(map(str, sizes)), description["activation"], *normal.named]),
        start=_starting(kind, initialise, fits),
        apply=lambda params, inputs: run(params, inputs),
        outputs=description["outputs"],
        kernel=kernel if limit and normal.kind == "none" else None,
        description=description,
        hidden=hidden if len(names) > 1 else None,
        permutable=places(
            {name: own for part in parts for name, own in part.items()},
            {} if normal.ordered else wiring,
        ),
        ordered=normal.ordered,
    )
    return network if normal.pointwise else _of_batches(network, run)


def _starting(
    kind: str, initialise: Callable, fits: Callable[[tuple[int, ...]], None]
) -> Callable[[PRNGKeyArray, tuple[int, ...]], Params]:
    """Draws the parameters by name, where points `fits` and there is room."""

    @partial(jax.jit, static_argnums=1)
    def draw(key: PRNGKeyArray, features: tuple[int, ...]) -> Params:
        drawn = jax.tree.leaves(initialise(key, (-1, *features))[1], is_leaf=_is_named)
        return {name: own for part in drawn for name, own in part.items()}

    def start(key: PRNGKeyArray, features: tuple[int, ...]) -> Params:
        fits(features)
        with precision.single():
            count = check_count(kind, jax.eval_shape(lambda key: draw(key, features), key))
            what = f"{kind}: {count:.3g} parameters"
            check_room(what, EACH * count, "ask for smaller widths")
            return draw(key, features)

    return start


def _of_batches(network: Network, run: Callable[..., Array]) -> Network:
    """The network whose outputs depend on statistics of the batch, which `run` takes as moments."""

    def moments(params: Params, inputs: Array, counted: Array) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        run(params, inputs, moments=kept, counted=counted)
        return kept

    def outputs(both: tuple[Params, dict[str, Any]], inputs: Array) -> Array:
        params, kept = both
        return run(params, inputs, moments=dict(kept))

    def hidden(both: tuple[Params, dict[str, Any]], inputs: Array) -> dict[str, Array]:
        seen: dict[str, Array] = {}
        run(both[0], inputs, moments=dict(both[1]), seen=seen)
        return seen

    settled = replace(network, apply=outputs, hidden=network.hidden and hidden)
    return replace(network, moments=moments, settled=settled)


def _is_named(node: Any) -> bool:
    """Whether this is {name: parameters}, those of one layer."""
    return isinstance(node, dict)


def _reading(layers: Layer, image: Sequence[int] | None) -> Layer:
    """The layers, with flat inputs read as images of that shape."""
    if image is None:
        return layers
    initialise, evaluate, kernel = layers
    read = lambda x: None if x is None else _as_images(x, image)
    return (
        lambda key, _: initialise(key, (-1, *image)),
        lambda params, inputs, **beside: evaluate(params, read(inputs), **beside),
        lambda x1, x2, get: kernel(read(x1), read(x2), get),
    )


def _as_images(inputs: Array, image: Sequence[int] | None) -> Array:
    """Flat points as such images; as they are where there is no `image`."""
    return inputs if image is None else inputs.reshape(len(inputs), *image)


def independent(layers: Layer) -> Layer:
    """Layers whose branches are known to be independent: each begins with a convolution."""
    initialise, evaluate, kernel = layers

    def quiet(x1: Any, x2: Any, get: Any) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`FanIn` layers assume", UserWarning)
            return kernel(x1, x2, get)

    return initialise, evaluate, quiet
