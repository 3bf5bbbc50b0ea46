"""The architectures that have a name: layers of stax, in NTK parametrization."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from jaxtyping import Array

from ntkdyn.errors import InputError, check_name
from ntkdyn.kernels.compat import stax
from ntkdyn.networks.activations import ACTIVATIONS
from ntkdyn.networks.checks import Scales, checked, checked_image, description_of
from ntkdyn.networks.layers import (
    as_images,
    chained,
    convolution,
    independent,
    network_of,
    reading,
    residual,
    triple,
)
from ntkdyn.networks.network import Network, Params
from ntkdyn.networks.wiring import (
    block_names,
    chain_wiring,
    leaves_of,
    numbered,
    places,
    stream_wiring,
)

_once = functools.lru_cache(maxsize=64, typed=True)


def mlp(
    widths: Sequence[int],
    *,
    outputs: int,
    activation: str = "relu",
    w_std: float | Sequence[float] = 2**0.5,
    b_std: float | Sequence[float] = 0.1,
) -> Network:
    """f = A_L o phi o ... o phi o A_1,  A_l(x) = w_std_l W_l x / sqrt(inputs) + b_std_l b_l.

    `widths` are those of the hidden layers (none makes the model affine). `w_std` and `b_std` are
    one number for all layers or one per layer, the readout last; b_std 0 leaves biases out.

    Args:
        widths: of the hidden layers.
        outputs: how many.
        activation: its name.
        w_std: of weights, for all layers or each.
        b_std: of biases, the same.

    Returns:
        The network.

    Raises:
        InputError: for widths, scales or activations that there are not.

    Example:
        >>> nd.networks.mlp((8, 8), outputs=2).name
        'mlp 8-8-2 relu'
    """
    widths, outputs, scales = checked("mlp", widths, outputs, activation, w_std, b_std)
    return _mlp(widths, outputs, activation, scales)


@_once
def _mlp(widths: tuple[int, ...], outputs: int, activation: str, scales: Scales) -> Network:
    dense = [
        stax.Dense(size, w, b or None)
        for size, w, b in zip([*widths, outputs], *scales, strict=True)
    ]
    parts = [part for layer in dense[:-1] for part in (layer, ACTIVATIONS[activation]())]
    names = [*numbered("dense", len(widths)), "readout"]
    description = description_of("mlp", widths, outputs, activation, scales)
    network = network_of(stax.serial(*parts, dense[-1]), names, 1, None, description)
    return replace(
        network,
        hidden=partial(chained, names[:-1], parts) if widths else None,
        permutable=places(leaves_of(names, scales[1], "dense"), chain_wiring(names)),
    )


POOLS = {"average": stax.GlobalAvgPool, "flatten": stax.Flatten}
"""name -> what follows the last convolution"""


def cnn(
    widths: Sequence[int],
    *,
    outputs: int,
    activation: str = "relu",
    w_std: float | Sequence[float] = 2**0.5,
    b_std: float | Sequence[float] = 0.1,
    filter: int = 3,
    strides: int = 1,
    pool: str = "average",
    image: Sequence[int] | None = None,
) -> Network:
    """f = A o pool o phi o C_L o ... o phi o C_1, with convolutions C_l of `widths` channels.

    C_l(x) = w_std_l W_l * x / sqrt(filter^2 channels) + b_std_l b_l, padded so that strides alone
    shrink the image; inputs are (points, rows, columns, channels). `pool` is "average", over all
    places, or "flatten", which keeps them. `image` is the shape that flat inputs are read in. The
    rest as for `mlp`.

    Args:
        widths: of the hidden layers.
        outputs: how many.
        activation: its name.
        w_std: of weights, for all layers or each.
        b_std: of biases, the same.
        filter: side of filters.
        strides: of the layers.
        pool: "average" or "flatten".
        image: (height, width, channels) of flat inputs.

    Returns:
        The network.

    Raises:
        InputError: for widths, scales or activations that there are not.

    Example:
        >>> nd.networks.cnn((8, 8), outputs=2).name
        'cnn 8-8-2 relu'
    """
    widths, outputs, scales = checked("cnn", widths, outputs, activation, w_std, b_std)
    filter, strides, shape = checked_image("cnn", filter, strides, image)
    check_name("cnn: pool", pool, POOLS)
    return _cnn(widths, outputs, activation, scales, filter, strides, pool, shape)


@_once
def _cnn(
    widths: tuple[int, ...],
    outputs: int,
    activation: str,
    scales: Scales,
    filter: int,
    strides: int,
    pool: str,
    image: tuple[int, ...] | None,
) -> Network:
    *convolutions, readout = zip([*widths, outputs], *scales, strict=True)
    parts = [
        part
        for size, w, b in convolutions
        for part in (convolution(size, filter, strides, w, b), ACTIVATIONS[activation]())
    ]
    pooling = POOLS[pool]()
    layers = stax.serial(*parts, pooling, stax.Dense(*readout[:2], readout[2] or None))
    names = [*numbered("conv", len(widths)), "readout"]
    description = description_of("cnn", widths, outputs, activation, scales) | {
        "filter": filter,
        "strides": strides,
        "pool": pool,
        "image": image,
    }
    network = network_of(reading(layers, image), names, 3, image, description)

    def hidden(params: Params, inputs: Array) -> dict[str, Array]:
        seen = chained(names[:-1], parts, params, as_images(inputs, image))
        return seen | {"features": pooling[1]((), seen[names[-2]])}

    return replace(
        network,
        hidden=hidden if widths else None,
        permutable=places(leaves_of(names, scales[1], "conv"), chain_wiring(names)),
    )


def resnet(
    widths: Sequence[int],
    *,
    outputs: int,
    activation: str = "relu",
    w_std: float | Sequence[float] = 2**0.5,
    b_std: float | Sequence[float] = 0.1,
    filter: int = 3,
    strides: int = 1,
    pool: str = "average",
    image: Sequence[int] | None = None,
) -> Network:
    """f = A o pool o phi o B_L o ... o B_1 o C_0, with B_l(x) = S_l(x) + C'_l(phi(C_l(phi(x)))).

    Blocks of `widths` channels without batch normalisation (which would make the outputs of one
    point depend on its batch). S_l and C_l step by `strides`, S_l is a convolution of one place,
    and C_0, the stem, has the first block's channels.
    `w_std` and `b_std` have one number per block and one for the readout; the rest as for `cnn`.

    Args:
        widths: of the hidden layers.
        outputs: how many.
        activation: its name.
        w_std: of weights, for all layers or each.
        b_std: of biases, the same.
        filter: side of filters.
        strides: of the layers.
        pool: "average" or "flatten".
        image: (height, width, channels) of flat inputs.

    Returns:
        The network.

    Raises:
        InputError: for widths, scales or activations that there are not.

    Example:
        >>> nd.networks.resnet((8,), outputs=2).name
        'resnet 8-2 relu'
    """
    widths, outputs, scales = checked("resnet", widths, outputs, activation, w_std, b_std)
    if not widths:
        raise InputError("resnet: widths must name at least one block, got none")
    filter, strides, shape = checked_image("resnet", filter, strides, image)
    check_name("resnet: pool", pool, POOLS)
    return _resnet(widths, outputs, activation, scales, filter, strides, pool, shape)


@_once
def _resnet(
    widths: tuple[int, ...],
    outputs: int,
    activation: str,
    scales: Scales,
    filter: int,
    strides: int,
    pool: str,
    image: tuple[int, ...] | None,
) -> Network:
    *blocks, readout = zip([*widths, outputs], *scales, strict=True)
    phi = ACTIVATIONS[activation]
    stem = convolution(blocks[0][0], filter, 1, *blocks[0][1:])
    triples = [triple(block, filter, strides) for block in blocks]
    sums = [part for triple in triples for part in residual(phi, *triple)]
    pooling = POOLS[pool]()
    layers = stax.serial(stem, *sums, phi(), pooling, stax.Dense(*readout[:2], readout[2] or None))
    named = block_names(len(widths))
    names = ["stem", *(name for block in named for name in block), "readout"]
    description = description_of("resnet", widths, outputs, activation, scales) | {
        "filter": filter,
        "strides": strides,
        "pool": pool,
        "image": image,
    }
    network = network_of(reading(independent(layers), image), names, 3, image, description)

    def hidden(params: Params, inputs: Array) -> dict[str, Array]:
        act = partial(phi()[1], ())
        stream = stem[1](params["stem"], as_images(inputs, image))
        seen = {"stem": act(stream)}
        for (shortcut, first, second), block in zip(triples, named, strict=True):
            beside, inner, outer = (params[name] for name in block)
            seen[block[1]] = act(first[1](inner, act(stream)))
            stream = shortcut[1](beside, stream) + second[1](outer, seen[block[1]])
            seen[block[2]] = act(stream)
        return seen | {"features": pooling[1]((), act(stream))}

    biases = [scales[1][0], *(each for b in scales[1][:-1] for each in (0.0, b, b)), scales[1][-1]]
    return replace(
        network,
        hidden=hidden,
        permutable=places(leaves_of(names, biases, "conv"), stream_wiring(named)),
    )


KINDS: dict[str, Callable[..., Network]] = {"mlp": mlp, "cnn": cnn, "resnet": resnet}
"""name -> architecture; all take `widths` and `outputs`"""
