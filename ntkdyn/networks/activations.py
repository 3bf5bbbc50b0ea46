"""Activations by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ntkdyn.kernels.compat import stax

ACTIVATIONS: dict[str, Callable[[], Any]] = {
    "relu": stax.Relu,
    "erf": stax.Erf,
    "gelu": stax.Gelu,
    "sigmoid": stax.Sigmoid_like,
    "sin": stax.Sin,
    "leaky_relu": lambda: stax.LeakyRelu(0.01),
    "abs": stax.Abs,
}
"""name -> layer, those whose kernel has a closed form; "sigmoid" is (1 + erf(x / 2.4020563)) / 2,
which neural-tangents offers in place of the logistic function; "erf" stands in for tanh"""
