"""A spec with another width, depth or step size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ntkdyn.errors import InputError
from ntkdyn.experiment.spec import ShareOfLimit, Spec


def _with_widths(spec: Spec, widths: list[int]) -> Spec:
    """The spec with those hidden layers; scales per layer keep the readout's for the readout."""
    if spec.network.widths is None:
        raise InputError("sweep: a model of one's own has no widths to change")
    table, layers = spec.network, len(spec.network.widths)
    scales = {name: getattr(table, name) for name in ("w_std", "b_std")}
    if len(widths) != layers:
        scales = {
            name: [*[scale[0]] * len(widths), scale[-1]] if isinstance(scale, list) else scale
            for name, scale in scales.items()
        }
    changed = {"widths": widths, **scales}
    return spec.model_copy(update={"network": table.model_copy(update=changed)})


def _with_step_size(spec: Spec, value: float) -> Spec:
    share = isinstance(spec.method.step_size, ShareOfLimit)
    changed = {"step_size": ShareOfLimit(of_limit=value) if share else value}
    return spec.model_copy(update={"method": spec.method.model_copy(update=changed)})


VARIED: dict[str, Callable[[Spec, Any], Spec]] = {
    "width": lambda spec, width: _with_widths(spec, [width] * len(spec.network.widths or ())),
    "depth": lambda spec, depth: _with_widths(spec, (spec.network.widths or [0])[:1] * depth),
    "step_size": _with_step_size,
}
"""what a sweep may go along -> the spec at one value of it"""
