"""Which parameters number the channels of which hidden layer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import jax

Wiring = dict[str, tuple[Sequence[str], Sequence[str]]]
"""hidden layer -> the layers that make its channels, and those that read them"""


def places(layers: dict[str, Any], wiring: Wiring) -> dict[str, tuple[tuple[int, int], ...]]:
    """Hidden layer -> the leaves and axes along which its channels are numbered.

    Of all that a layer has the last axis is that of the channels it makes; the one before, of its
    weight, which is its first leaf, is that of the channels it reads.
    """
    number = itertools.count()
    leaves = {
        name: [(next(number), leaf.ndim) for leaf in jax.tree.leaves(layers[name])]
        for name in sorted(layers)
    }

    def read(name: str) -> tuple[int, int]:
        weight, axes = leaves[name][0]
        return weight, axes - 2

    return {
        hidden: (
            *((leaf, axes - 1) for maker in makers for leaf, axes in leaves[maker]),
            *map(read, readers),
        )
        for hidden, (makers, readers) in wiring.items()
    }


def norm_of(name: str) -> str:
    """What the normalisation of that layer's outputs is called."""
    return f"{name}_norm"


def numbered(part: str, count: int) -> list[str]:
    """part_1, part_2, ..., in an order that sorting keeps."""
    digits = len(str(count))
    return [f"{part}_{number:0{digits}}" for number in range(1, count + 1)]


def block_names(count: int) -> list[tuple[str, str, str]]:
    """The names of a residual block's layers: shortcut, first and second convolution."""
    return [
        (f"{block}_shortcut", f"{block}_conv_1", f"{block}_conv_2")
        for block in numbered("block", count)
    ]
