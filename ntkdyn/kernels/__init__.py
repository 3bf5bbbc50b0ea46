"""The NTK module: empirical and infinite-width kernels of any JAX network.

compute(apply, params, x)   any model, any form, in bounded memory, and how it was done
from_torch(module, x)       that of a PyTorch module, and its outputs
empirical                   the full kernel as one pure function, to be compiled with others
infinite                    NTK and NNGP at infinite width
products                    K v, leading eigenpairs, trace: without the matrix
diagnostics                 eigenvalues, rank, jitter; drift and alignment
"""

from ntkdyn.errors import public
from ntkdyn.kernels import diagnostics, empirical, infinite, products, structure
from ntkdyn.kernels.computing import ComputeOptions, compute
from ntkdyn.kernels.pytorch import Linearized, from_torch
from ntkdyn.kernels.results import Computed, KernelPlan, owned_block

__all__ = [
    "ComputeOptions",
    "Computed",
    "KernelPlan",
    "Linearized",
    "compute",
    "diagnostics",
    "empirical",
    "from_torch",
    "infinite",
    "owned_block",
    "products",
    "structure",
]

__getattr__, __dir__ = public(__name__, __all__)
