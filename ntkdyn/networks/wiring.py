"""Which parameters number the channels of which hidden layer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple


class _Leaves(NamedTuple):
    """Where a layer's weight and bias are among the leaves, and along which axes it reads."""

    weight: int
    bias: int | None
    axis: int
    """of the channels that it reads; those that it makes are numbered by the next axis"""


def leaves_of(names: Sequence[str], b_std: Sequence[float], kind: str) -> dict[str, _Leaves]:
    """The leaves of all layers of that kind ("dense" or "conv") and of the readout."""
    biased, found, number = dict(zip(names, b_std, strict=True)), {}, 0
    for name in sorted(names):
        axis = 2 if kind == "conv" and name != "readout" else 0
        found[name] = _Leaves(number, number + 1 if biased[name] else None, axis)
        number += 2 if biased[name] else 1
    return found


Wiring = dict[str, tuple[Sequence[str], Sequence[str]]]
"""hidden layer -> the layers that make its channels, and those that read them"""


def places(leaves: dict[str, _Leaves], wiring: Wiring) -> dict[str, tuple[tuple[int, int], ...]]:
    """Hidden layer -> the leaves and axes along which its channels are numbered."""

    def made(layer: _Leaves) -> list[tuple[int, int]]:
        tensors = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
        return [(tensor, layer.axis + 1) for tensor in tensors]

    return {
        name: (
            *(place for maker in makers for place in made(leaves[maker])),
            *((leaves[reader].weight, leaves[reader].axis) for reader in readers),
        )
        for name, (makers, readers) in wiring.items()
    }


def chain_wiring(names: Sequence[str]) -> Wiring:
    """Each layer read by the one that follows."""
    return {name: ([name], [following]) for name, following in itertools.pairwise(names)}


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


def stream_wiring(blocks: Sequence[tuple[str, str, str]]) -> Wiring:
    """The shortcut and the second convolution of a block add up: they share one numbering."""
    wiring, makers, stream = {}, ["stem"], "stem"
    for shortcut, first, second in blocks:
        wiring[stream] = (makers, [shortcut, first])
        wiring[first] = ([first], [second])
        makers, stream = [shortcut, second], second
    return wiring | {stream: (makers, ["readout"])}
