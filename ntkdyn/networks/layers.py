"""Layers of stax: made to read images, put together, turned into a Network."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ntkdyn import precision, sizes
from ntkdyn.kernels.compat import stax
from ntkdyn.networks.checks import check_count, check_features
from ntkdyn.networks.network import Network, Params

EACH = 20
"""bytes of a parameter at the start in single precision and, predicted from, in double, and of what
drawing them takes beside: 16.3 measured"""


def network_of(
    layers: tuple[Any, Any, Any],
    names: list[str],
    axes: int,
    image: tuple[int, ...] | None,
    description: dict[str, Any],
) -> Network:
    """A network of stax layers, whose parameters get these names, in the order of the layers.

    They read points of so many `axes`, or, where there is an `image`, flat ones as such images.
    """
    initialise, evaluate, infinite = layers
    kind = description["kind"]

    nested = jax.eval_shape(
        lambda key: initialise(key, (-1, *(image or (1,) * axes)))[1], jax.random.key(0)
    )
    check_count(kind, nested)
    _, tree = jax.tree.flatten(nested, is_leaf=_is_layer)

    @partial(jax.jit, static_argnums=1)
    def draw(key: PRNGKeyArray, features: tuple[int, ...]) -> Params:
        drawn = jax.tree.leaves(initialise(key, (-1, *features))[1], is_leaf=_is_layer)
        return dict(zip(names, drawn, strict=True))

    def start(key: PRNGKeyArray, features: tuple[int, ...]) -> Params:
        check_features(kind, axes, image, features)
        with precision.single():
            count = check_count(kind, jax.eval_shape(lambda key: draw(key, features), key))
            what = f"{kind}: {count:.3g} parameters"
            sizes.check_room(what, EACH * count, "ask for smaller widths")
            return draw(key, features)

    def kernel(x1: Any, x2: Any, get: str) -> Any:
        check_features(kind, axes, image, x1.shape[1:])
        return infinite(x1, x2, get)

    def apply(params: Params, inputs: Array) -> Array:
        return evaluate(jax.tree.unflatten(tree, [params[name] for name in names]), inputs)

    listed = "-".join(map(str, [*description["widths"], description["outputs"]]))
    return Network(
        name=f"{description['kind']} {listed} {description['activation']}",
        start=start,
        apply=apply,
        outputs=description["outputs"],
        kernel=kernel,
        description=description,
    )


def _is_layer(node: Any) -> bool:
    """Whether this is (weight, bias or None), the parameters of one layer of stax."""
    return isinstance(node, tuple) and len(node) == 2 and hasattr(node[0], "shape")


def reading(layers: tuple[Any, Any, Any], image: Sequence[int] | None) -> tuple[Any, Any, Any]:
    """The layers, with flat inputs read as images of that shape."""
    if image is None:
        return layers
    initialise, evaluate, kernel = layers
    read = lambda x: None if x is None else as_images(x, image)
    return (
        lambda key, _: initialise(key, (-1, *image)),
        lambda params, inputs: evaluate(params, read(inputs)),
        lambda x1, x2, get: kernel(read(x1), read(x2), get),
    )


def as_images(inputs: Array, image: Sequence[int] | None) -> Array:
    """Flat points as such images; as they are where there is no `image`."""
    return inputs if image is None else inputs.reshape(len(inputs), *image)


def independent(layers: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    """Layers whose branches are known to be independent: each begins with a convolution."""
    initialise, evaluate, kernel = layers

    def quiet(x1: Any, x2: Any, get: Any) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`FanIn` layers assume", UserWarning)
            return kernel(x1, x2, get)

    return initialise, evaluate, quiet


def convolution(size: int, filter: int, strides: int, w_std: float, b_std: float) -> Any:
    """The layer of stax, computed as a product of patches and filters.

    Agents have filters of their own, and side by side such products are many times faster than
    convolutions, of which XLA then makes a grouped one.
    """
    initialise, _, kernel = stax.Conv(
        size, (filter, filter), (strides, strides), "SAME", W_std=w_std, b_std=b_std or None
    )

    def evaluate(params: Any, inputs: Array, **_: Any) -> Array:
        weights, bias = params
        patches = _patches(inputs, filter, strides)
        scale = w_std / patches.shape[-1] ** 0.5
        outputs = scale * (patches @ weights.reshape(-1, size))
        return outputs if bias is None else outputs + b_std * bias

    return initialise, evaluate, kernel


def _patches(
    images: Float[Array, "points rows columns channels"], filter: int, strides: int
) -> Float[Array, "points rows_out columns_out entries"]:
    """What a filter sees at each place, zeros around the image; (row, column, channel) in order."""
    sizes = images.shape[1:3]
    around = jax.lax.padtype_to_pads(sizes, (filter, filter), (strides, strides), "SAME")
    padded = jnp.pad(images, ((0, 0), *around, (0, 0)))
    rows, columns = ((-(-size // strides) - 1) * strides + 1 for size in sizes)
    seen = [
        padded[:, row : row + rows : strides, column : column + columns : strides]
        for row, column in itertools.product(range(filter), repeat=2)
    ]
    return jnp.concatenate(seen, axis=-1)


def triple(block: tuple[int, float, float], filter: int, strides: int) -> tuple[Any, Any, Any]:
    """S, C and C' of one block."""
    size, w_std, b_std = block
    return (
        convolution(size, 1, strides, w_std, 0.0),
        convolution(size, filter, strides, w_std, b_std),
        convolution(size, filter, 1, w_std, b_std),
    )


def residual(phi: Any, shortcut: Any, first: Any, second: Any) -> tuple[Any, Any, Any]:
    """B(x) = S(x) + C'(phi(C(phi(x)))) as layers in series."""
    beside = stax.serial(phi(), first, phi(), second)
    return stax.FanOut(2), stax.parallel(shortcut, beside), stax.FanInSum()


def chained(
    names: Sequence[str], parts: Sequence[Any], params: Params, inputs: Array
) -> dict[str, Array]:
    """Activations after each of the named layers; `parts` are layers and activations in turn."""
    activations, seen = inputs, {}
    for name, (_, layer, _), (_, phi, _) in zip(names, parts[::2], parts[1::2], strict=True):
        activations = seen[name] = phi((), layer(params[name], activations))
    return seen
