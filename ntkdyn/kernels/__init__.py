"""The NTK module: empirical and infinite-width kernels of any JAX network."""

from ntkdyn.kernels import empirical, infinite, structure

__all__ = ["empirical", "infinite", "structure"]
