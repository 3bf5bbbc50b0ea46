"""The architectures that have a name: layers of stax, in NTK parametrization."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence

from ntkdyn.errors import InputError, check_name
from ntkdyn.kernels.compat import stax
from ntkdyn.networks.activations import ACTIVATIONS
from ntkdyn.networks.checks import Scales, checked, checked_image, description_of
from ntkdyn.networks.layers import Layer, convolution, dense, noted, residual
from ntkdyn.networks.making import independent, network_of
from ntkdyn.networks.network import Network
from ntkdyn.networks.normalisation import Normalisation, checked_normalisation
from ntkdyn.networks.published import lenet5, resnet20, vgg11
from ntkdyn.networks.wiring import block_names, numbered

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
    names = [*numbered("dense", len(widths)), "readout"]
    layers = [dense(*each) for each in zip(names, [*widths, outputs], *scales, strict=True)]
    phi = ACTIVATIONS[activation]
    parts = [
        part
        for name, layer in zip(names[:-1], layers, strict=False)
        for part in (layer, noted(name, phi()))
    ]
    description = description_of("mlp", outputs, activation, scales, widths=list(widths))
    return network_of(
        stax.serial(*parts, layers[-1]),
        1,
        [*widths, outputs],
        description,
        {name: ([name], [reader]) for name, reader in itertools.pairwise(names)},
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
    normalisation: str = "none",
    groups: int = 2,
) -> Network:
    """f = A o pool o phi o C_L o ... o phi o C_1, with convolutions C_l of `widths` channels.

    C_l(x) = w_std_l W_l * x / sqrt(filter^2 channels) + b_std_l b_l, padded so that strides alone
    shrink the image; inputs are (points, rows, columns, channels). `pool` is "average", over all
    places, or "flatten", which keeps them. `image` is the shape that flat inputs are read in. With
    a `normalisation`, "group", "evonorm_s0" (in place of the activation too) or "batch", it stands
    between C_l, which then has no bias, and phi, and no kernel at infinite width is known; its
    scale starts at 1 and its shift at 0. The rest as for `mlp`.

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
        normalisation: "none", "group", "evonorm_s0" or "batch".
        groups: of channels, for "group" and "evonorm_s0".

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
    normal = checked_normalisation("cnn", normalisation, groups, widths)
    return _cnn(widths, outputs, activation, scales, filter, strides, pool, shape, normal)


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
    normal: Normalisation,
) -> Network:
    *convolutions, readout = zip([*widths, outputs], *scales, strict=True)
    names = [*numbered("conv", len(widths)), "readout"]
    parts = [
        part
        for name, (size, w, b) in zip(names[:-1], convolutions, strict=True)
        for part in (
            convolution(name, size, filter, strides, w, normal.bias(b)),
            *normal.active(name, ACTIVATIONS[activation]),
        )
    ]
    layers = stax.serial(*parts, noted("features", POOLS[pool]()), dense("readout", *readout))
    own = {"filter": filter, "strides": strides, "pool": pool, "image": image}
    description = description_of(
        "cnn", outputs, activation, scales, normal, widths=list(widths), **own
    )
    return network_of(
        layers,
        3,
        [*widths, outputs],
        description,
        {name: (normal.makers(name), [reader]) for name, reader in itertools.pairwise(names)},
        normal=normal,
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
    normalisation: str = "none",
    groups: int = 2,
) -> Network:
    """f = A o pool o phi o B_L o ... o B_1 o C_0, with B_l(x) = S_l(x) + C'_l(phi(C_l(phi(x)))).

    Blocks of `widths` channels. S_l and C_l step by `strides`, S_l is a convolution of one place,
    and C_0, the stem, has the first block's channels. A `normalisation` stands before every phi.
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
        normalisation: "none", "group", "evonorm_s0" or "batch".
        groups: of channels, for "group" and "evonorm_s0".

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
    normal = checked_normalisation("resnet", normalisation, groups, widths)
    return _resnet(widths, outputs, activation, scales, filter, strides, pool, shape, normal)


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
    normal: Normalisation,
) -> Network:
    *blocks, readout = zip([*widths, outputs], *scales, strict=True)
    phi, stream, makers = ACTIVATIONS[activation], "stem", []
    parts, wiring = [_first(blocks[0], filter, normal)], {}
    for names, block in zip(block_names(len(widths)), blocks, strict=True):
        parts += _block(names, block, filter, strides, stream, phi, normal)
        shortcut, first, second = names
        wiring[stream] = ([*makers, *normal.makers(stream)], [shortcut, first])
        wiring[first] = (normal.makers(first), [second])
        stream, makers = second, [shortcut]
    parts += [*normal.active(stream, phi), noted("features", POOLS[pool]())]
    own = {"filter": filter, "strides": strides, "pool": pool, "image": image}
    return network_of(
        independent(stax.serial(*parts, dense("readout", *readout))),
        3,
        [*widths, outputs],
        description_of("resnet", outputs, activation, scales, normal, widths=list(widths), **own),
        wiring | {stream: ([*makers, *normal.makers(stream)], ["readout"])},
        normal=normal,
    )


def _first(block: tuple[int, float, float], filter: int, normal: Normalisation) -> Layer:
    size, w_std, b_std = block
    return convolution("stem", size, filter, 1, w_std, normal.bias(b_std))


def _block(
    names: tuple[str, str, str],
    block: tuple[int, float, float],
    filter: int,
    strides: int,
    stream: str,
    phi: Callable[[], Layer],
    normal: Normalisation,
) -> tuple[Layer, ...]:
    """S(x) + C'(phi(C(phi(x)))), x the stream that the layer of that name left."""
    (shortcut, first, second), (size, w_std, b_std) = names, block
    bias = normal.bias(b_std)
    return residual(
        convolution(shortcut, size, 1, strides, w_std, 0.0),
        *normal.active(stream, phi),
        convolution(first, size, filter, strides, w_std, bias),
        *normal.active(first, phi),
        convolution(second, size, filter, 1, w_std, bias),
    )


KINDS: dict[str, Callable[..., Network]] = {
    "mlp": mlp,
    "cnn": cnn,
    "resnet": resnet,
    "lenet5": lenet5,
    "resnet20": resnet20,
    "vgg11": vgg11,
}
"""name -> architecture; the first three take `widths`, the others, with given ones, a `width` that
multiplies them"""
