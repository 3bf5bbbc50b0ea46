"""Networks: one description that gives a start, outputs, taps and the infinite-width kernel.

    mlp((1024, 1024), outputs=10)   f(x) = affine o relu o affine o relu o affine
    cnn, resnet                     convolutions, with residual sums
    lenet5, resnet20, vgg11         as published, times a width
    wrap(apply, start, outputs)     any JAX model

in NTK parametrization: every entry of a weight or bias starts as N(0, 1), and a layer computes
w_std / sqrt(inputs) W x + b_std b. Layers come from `neural_tangents.stax`. The same settings give
the same object, so that what is compiled for it is compiled once.
"""

from ntkdyn.errors import public
from ntkdyn.networks.activations import ACTIVATIONS as ACTIVATIONS
from ntkdyn.networks.architectures import KINDS, cnn, mlp, resnet
from ntkdyn.networks.network import Network, Params as Params
from ntkdyn.networks.published import lenet5, resnet20, vgg11
from ntkdyn.networks.wrapped import wrap

__all__ = [
    "KINDS", "Network", "cnn", "lenet5", "mlp", "resnet", "resnet20", "vgg11", "wrap",
]  # fmt: skip

__getattr__, __dir__ = public(__name__, __all__)
