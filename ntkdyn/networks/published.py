"""Architectures as they were published, with all their channels times a `width`.

    lenet5     LeCun, Bottou, Bengio, Haffner (1998): two convolutions, dense 120 and 84
    resnet20   He, Zhang, Ren, Sun (2015), for CIFAR: three stages of three blocks
    vgg11      Simonyan, Zisserman (2014), configuration A, as it is used on CIFAR

In NTK parametrization, like all networks here, which the papers' are not: they start as the papers'
with He's start do, where w_std is the root of two, but learn layer by layer at other step sizes.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ntkdyn.errors import InputError, check_name, is_real, shown
from ntkdyn.kernels.compat import stax
from ntkdyn.networks.activations import ACTIVATIONS
from ntkdyn.networks.checks import Scales, checked, checked_image, description_of
from ntkdyn.networks.layers import Layer, convolution, dense, noted, pooling, residual
from ntkdyn.networks.making import independent, network_of
from ntkdyn.networks.network import Network
from ntkdyn.networks.normalisation import Normalisation, checked_normalisation
from ntkdyn.networks.wiring import Wiring, numbered

_once = functools.lru_cache(maxsize=64, typed=True)

LENET5 = ((6, 16), (120, 84))
"""channels of the convolutions, units of the dense layers"""

RESNET20 = (16, 32, 64)
"""channels of the stages"""

BLOCKS = 3
"""in a stage"""

VGG11 = (64, 128, 256, 256, 512, 512, 512, 512)
POOLED = (1, 2, 4, 6, 8)
"""after which of the convolutions of VGG-11 places are pooled"""


class Asked(NamedTuple):
    """What all of these are asked for, once it is found in order."""

    width: float
    outputs: int
    activation: str
    scales: Scales
    image: tuple[int, ...] | None
    normal: Normalisation
    pool: str | None = None

    @property
    def phi(self) -> Callable[[], Layer]:
        """The activation."""
        return ACTIVATIONS[self.activation]

    def made(
        self, kind: str, layers: Layer, sizes: Sequence[int], wiring: Wiring, smallest: int = 1
    ) -> Network:
        """The network of these layers."""
        own = {"width": self.width, "image": self.image}
        own |= {} if self.pool is None else {"pool": self.pool}
        return network_of(
            layers,
            3,
            [*sizes, self.outputs],
            description_of(kind, self.outputs, self.activation, self.scales, self.normal, **own),
            wiring,
            normal=self.normal,
            limit=self.pool != "max",
            smallest=smallest,
        )


def lenet5(
    width: float = 1.0,
    *,
    outputs: int,
    activation: str = "relu",
    w_std: float | Sequence[float] = 2**0.5,
    b_std: float | Sequence[float] = 0.1,
    pool: str = "max",
    image: Sequence[int] | None = None,
    normalisation: str = "none",
    groups: int = 2,
) -> Network:
    """f = A o phi o D_2 o phi o D_1 o P o phi o C_2 o P o phi o C_1, LeNet-5 (LeCun et al., 1998).

    C_1 and C_2 have 6 and 16 filters of 5 x 5, the first padded so that images keep their size, P
    pools squares of 2 x 2, D_1 and D_2 have 120 and 84 units; all times `width`, rounded. The 84
    are the features. With 10 outputs and images of 28 x 28 x 1 it has 61,706 parameters. Every
    filter of C_2 reads all channels, there is no tanh but by name, and A is affine. Only with
    pool="average" the kernel at infinite width is known. The rest as for `cnn`.

    Args:
        width: that multiplies channels and units.
        outputs: how many.
        activation: its name.
        w_std: of weights, for all layers or each of the five.
        b_std: of biases, the same.
        pool: "max" or "average".
        image: (height, width, channels) of flat inputs.
        normalisation: of convolutions, "none", "group", "evonorm_s0" or "batch".
        groups: of channels, for "group" and "evonorm_s0".

    Returns:
        The network.

    Raises:
        InputError: for settings that there are not, and images under 12 x 12.

    Example:
        >>> nd.networks.lenet5(outputs=10).name
        'lenet5 6-16-120-84-10 relu'
    """
    convolved, units = (times("lenet5", width, sizes) for sizes in LENET5)
    asked = _asked(
        "lenet5", width, [*convolved, *units], outputs, activation, w_std, b_std, image,
        normalisation, groups, convolved, pool,
    )  # fmt: skip
    return _lenet5(asked)


@_once
def _lenet5(asked: Asked) -> Network:
    sizes = [size for group in LENET5 for size in times("lenet5", asked.width, group)]
    names = ["conv_1", "conv_2", "dense_1", "dense_2", "readout"]
    each = list(zip(names, [*sizes, asked.outputs], *asked.scales, strict=True))
    parts: list[Layer] = []
    for (name, size, w_std, b_std), padding in zip(each[:2], ("SAME", "VALID"), strict=True):
        parts += _convolved(asked, (name, size, 5, 1, w_std, b_std), padding)
        parts.append(pooling(asked.pool))
    parts.append(stax.Flatten())
    for name, *rest in each[2:4]:
        parts += [dense(name, *rest), noted(name, asked.phi())]
    return asked.made(
        "lenet5", stax.serial(*parts, dense(*each[4])), sizes, _chain(asked, names, 2), smallest=12
    )


def vgg11(
    width: float = 1.0,
    *,
    outputs: int,
    activation: str = "relu",
    w_std: float | Sequence[float] = 2**0.5,
    b_std: float | Sequence[float] = 0.1,
    pool: str = "max",
    image: Sequence[int] | None = None,
    normalisation: str = "none",
    groups: int = 2,
) -> Network:
    """f = A o phi o C_8 o ... o phi o C_1, pooled on the way: VGG-11 (Simonyan, Zisserman, 2014).

    Convolutions of 3 x 3 with 64, 128, 256, 256, 512, 512, 512 and 512 filters, all times `width`,
    rounded; squares of 2 x 2 are pooled after the first, second, fourth, sixth and eighth. What is
    left of images of 32 x 32, one place of 512 channels, is read by one affine layer in place of
    the three of ImageNet. With 10 outputs and batch normalisation it has 9,228,362 parameters.
    Only with pool="average" the kernel at infinite width is known. The rest as for `cnn`.

    Args:
        width: that multiplies channels.
        outputs: how many.
        activation: its name.
        w_std: of weights, for all layers or each of the nine.
        b_std: of biases, the same.
        pool: "max" or "average".
        image: (height, width, channels) of flat inputs.
        normalisation: "none", "group", "evonorm_s0" or "batch".
        groups: of channels, for "group" and "evonorm_s0".

    Returns:
        The network.

    Raises:
        InputError: for settings that there are not, and images under 32 x 32.

    Example:
        >>> nd.networks.vgg11(1 / 8, outputs=10).name
        'vgg11 8-16-32-32-64-64-64-64-10 relu'
    """
    sizes = times("vgg11", width, VGG11)
    asked = _asked(
        "vgg11", width, sizes, outputs, activation, w_std, b_std, image, normalisation, groups,
        sizes, pool,
    )  # fmt: skip
    return _vgg11(asked)


@_once
def _vgg11(asked: Asked) -> Network:
    sizes = times("vgg11", asked.width, VGG11)
    names = [*numbered("conv", len(sizes)), "readout"]
    each = list(zip(names, [*sizes, asked.outputs], *asked.scales, strict=True))
    parts: list[Layer] = []
    for number, (name, size, w_std, b_std) in enumerate(each[:-1], 1):
        parts += _convolved(asked, (name, size, 3, 1, w_std, b_std))
        parts += [pooling(asked.pool)] if number in POOLED else []
    parts += [noted("features", stax.Flatten()), dense(*each[-1])]
    wiring = _chain(asked, names, len(sizes))
    return asked.made("vgg11", stax.serial(*parts), sizes, wiring, smallest=2 ** len(POOLED))


def resnet20(
    width: float = 1.0,
    *,
    outputs: int,
    activation: str = "relu",
    w_std: float | Sequence[float] = 2**0.5,
    b_std: float | Sequence[float] = 0.1,
    image: Sequence[int] | None = None,
    normalisation: str = "none",
    groups: int = 2,
) -> Network:
    """f = A o mean o B_9 o ... o B_1 o phi o N o C_0,  B(x) = phi(S(x) + N(C'(phi(N(C(x)))))).

    ResNet-20 for CIFAR (He, Zhang, Ren, Sun, 2015): three stages of three blocks with 16, 32 and 64
    channels, times `width`, rounded; C steps by 2 into the second and third stage. S is the
    identity, and into these stages a convolution of one place with N after it (their option B:
    channels of different stages are then numbered apart, as merging needs it). N is the
    `normalisation`; "evonorm_s0" stands in place of N and phi after C_0 and C, and of phi after the
    sum. With 10 outputs, three channels and batch normalisation it has 272,474 parameters.
    `w_std` and `b_std` have one number per block and one for the readout; the rest as for `cnn`.

    Args:
        width: that multiplies channels.
        outputs: how many.
        activation: its name.
        w_std: of weights, for all layers or each block and the readout.
        b_std: of biases, the same.
        image: (height, width, channels) of flat inputs.
        normalisation: "none", "group", "evonorm_s0" or "batch".
        groups: of channels, for "group" and "evonorm_s0".

    Returns:
        The network.

    Raises:
        InputError: for settings that there are not.

    Example:
        >>> nd.networks.resnet20(outputs=10, normalisation="batch").name
        'resnet20 16-32-64-10 relu batch'
    """
    sizes = times("resnet20", width, RESNET20)
    widths = [size for size in sizes for _ in range(BLOCKS)]
    asked = _asked(
        "resnet20", width, widths, outputs, activation, w_std, b_std, image, normalisation, groups,
        sizes,
    )  # fmt: skip
    return _resnet20(asked)


@_once
def _resnet20(asked: Asked) -> Network:
    sizes = times("resnet20", asked.width, RESNET20)
    normal, (w_std, b_std) = asked.normal, asked.scales
    stem = convolution("stem", sizes[0], 3, 1, w_std[0], normal.bias(b_std[0]))
    parts: list[Layer] = [stem, *normal.active("stem", asked.phi, note=False)]
    blocks = [block for stage in _stages(sizes) for block in stage]
    for block, *scales in zip(blocks, w_std, b_std, strict=False):
        parts += _block(asked, block, *scales)
    readout = dense("readout", asked.outputs, w_std[-1], b_std[-1])
    parts += [noted("features", stax.GlobalAvgPool()), readout]
    return asked.made("resnet20", independent(stax.serial(*parts)), sizes, _stage_wiring(normal))


class _Block(NamedTuple):
    """One block: what its layers are called, and what it does to the shape."""

    name: str
    size: int
    strides: int
    last: bool
    """of its stage"""

    @property
    def layers(self) -> tuple[str, str, str]:
        """Shortcut, first and second convolution."""
        return f"{self.name}_shortcut", f"{self.name}_conv_1", f"{self.name}_conv_2"


def _stages(sizes: Sequence[int]) -> list[list[_Block]]:
    return [
        [
            _Block(
                f"stage_{stage}_block_{number}",
                size,
                strides=2 if stage > 1 and number == 1 else 1,
                last=number == BLOCKS,
            )
            for number in range(1, BLOCKS + 1)
        ]
        for stage, size in enumerate(sizes, 1)
    ]


def _block(asked: Asked, block: _Block, w_std: float, b_std: float) -> list[Layer]:
    normal, bias = asked.normal, asked.normal.bias(b_std)
    shortcut, first, second = block.layers
    beside = stax.Identity()
    if block.strides > 1:
        projection = convolution(shortcut, block.size, 1, block.strides, w_std, 0.0)
        beside = stax.serial(projection, *normal.alone(shortcut))
    return [
        *residual(
            beside,
            convolution(first, block.size, 3, block.strides, w_std, bias),
            *normal.active(first, asked.phi),
            convolution(second, block.size, 3, 1, w_std, bias),
            *normal.alone(second),
        ),
        *normal.after_sum(second, asked.phi, note=block.last),
    ]


def _stage_wiring(normal: Normalisation) -> Wiring:
    """The sums of a stage share one numbering, noted after its last block."""
    wiring: Wiring = {}
    stages = _stages(RESNET20)
    readers = [*(stage[0].layers[:2] for stage in stages[1:]), ["readout"]]
    for stage, following in zip(stages, readers, strict=True):
        for _, first, second in (block.layers for block in stage):
            wiring[first] = (normal.makers(first), [second])
        projects = stage[0].strides > 1
        begun = normal.alone_makers(stage[0].layers[0]) if projects else normal.makers("stem")
        added = [name for block in stage for name in normal.makers(block.layers[2])]
        inside = [block.layers[1] for block in (stage[1:] if projects else stage)]
        wiring[stage[-1].layers[2]] = ([*begun, *added], [*inside, *following])
    return wiring


def _convolved(
    asked: Asked, layer: tuple[str, int, int, int, float, float], padding: str = "SAME"
) -> list[Layer]:
    """A convolution, its normalisation and the activation."""
    name, *shape, b_std = layer
    made = convolution(name, *shape, asked.normal.bias(b_std), padding)
    return [made, *asked.normal.active(name, asked.phi)]


def _chain(asked: Asked, names: Sequence[str], convolved: int) -> Wiring:
    """Each layer is read by the one that follows; the first so many have a normalisation."""
    return {
        name: (asked.normal.makers(name) if number < convolved else [name], [reader])
        for number, (name, reader) in enumerate(itertools.pairwise(names))
    }


def times(kind: str, width: float, sizes: Sequence[int]) -> list[int]:
    """The sizes times `width`, rounded, at least 1."""
    if not is_real(width) or not 0 < width < 2**20:
        raise InputError(f"{kind}: width must be a positive number, got {shown(width)}")
    return [max(1, round(width * size)) for size in sizes]


POOLS = ("max", "average")


def _asked(
    kind: str,
    width: float,
    sizes: Sequence[int],
    outputs: int,
    activation: str,
    w_std: float | Sequence[float],
    b_std: float | Sequence[float],
    image: Sequence[int] | None,
    normalisation: str,
    groups: int,
    channels: Sequence[int],
    pool: str | None = None,
) -> Asked:
    """What was asked for, checked."""
    _, outputs, scales = checked(kind, sizes, outputs, activation, w_std, b_std)
    _, _, shape = checked_image(kind, 1, 1, image)
    if pool is not None:
        check_name(f"{kind}: pool", pool, POOLS)
    normal = checked_normalisation(kind, normalisation, groups, channels)
    return Asked(float(width), outputs, activation, scales, shape, normal, pool)
