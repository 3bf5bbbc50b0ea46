"""Kernels of PyTorch's modules, by torch.func: for models that are trained there (extra `torch`).

Theta = J(x1) J(x2)^T of whatever parameters require a gradient, at their present values; all others
and the buffers are held. Rows of J are formed for so many points at a time as memory allows.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ntkdyn import arrays, sizes
from ntkdyn.errors import InputError, check_name
from ntkdyn.kernels.computing import in_bytes
from ntkdyn.kernels.pointwise import POINTS

DTYPES = ("float64", "float32")

SHARE = 0.25
"""of the free memory that rows of Jacobians take, unless told otherwise"""

BLOCKS = 3
"""of rows are held at a time: those of the columns, of the rows, and one while it is formed"""


class Linearized(NamedTuple):
    """What a model is to its first order.

    Example:
        >>> nd.kernels.Linearized(np.ones((2, 1, 2, 1)), np.ones((2, 1)))
        Linearized(kernel (2, 1, 2, 1), outputs (2, 1))
    """

    kernel: Float[np.ndarray, "rows outputs columns outputs"]
    outputs: Float[np.ndarray, "rows outputs"]
    """f(theta_0) at the rows"""

    def __repr__(self) -> str:
        return f"Linearized(kernel {self.kernel.shape}, outputs {self.outputs.shape})"


def from_torch(
    module: Any,
    x1: Any,
    x2: Any = None,
    *,
    dtype: str = "float64",
    memory: int | float | str | None = None,
) -> Linearized:
    """Theta[n, k, m, j] = <df_k(x1_n), df_j(x2_m)> of a module, and f(x1); x2 defaults to x1.

    `module` maps (points, *features) to (points, outputs), or (points,), each point by itself.
    `dtype` is what is reckoned in, whatever the module's parameters are in; points of whole numbers
    stay such. `memory` bounds what the Jacobians' rows take, in bytes or like "2 GB".

    Raises:
        InputError: without PyTorch; for what is no module, has nothing to be trained, or looks at a
            point's batch or at chance (dropout and batch normalisation in training mode).

    Args:
        module: in evaluation mode.
        x1: points (n, *features).
        x2: others (m, *features); None: the same.
        dtype: "float32" or "float64".
        memory: of the Jacobians' rows.

    Returns:
        The kernel (n, outputs, m, outputs) and f(x1) (n, outputs).

    Example:
        >>> import torch
        >>> nd.kernels.from_torch(torch.nn.Linear(2, 1), np.eye(2)).kernel.shape
        (2, 1, 2, 1)
    """
    model = _Model.of(module, dtype)
    left = model.points("x1", x1)
    right = left if x2 is None else model.points("x2", x2)
    outputs = model.check(left)
    shape = (len(left), outputs, len(right), outputs)
    sizes.check_room(f"from_torch: a kernel {shape}", 8.0 * np.prod(shape, dtype=float))
    kernel = np.empty(shape)
    budget = SHARE * sizes.free() if memory is None else in_bytes(memory)
    at_once = max(1, int(budget / (BLOCKS * model.row_bytes * outputs)))
    for columns in _blocks(len(right), at_once):
        there = model.rows(right[columns])
        for rows in _blocks(len(left), at_once):
            if x2 is None and rows.start < columns.start:
                continue  # the mirror image of one that is done
            here = there if x2 is None and rows == columns else model.rows(left[rows])
            block = model.contracted(here, there)
            kernel[rows, :, columns] = block
            if x2 is None:
                kernel[columns, :, rows] = block.transpose(2, 3, 0, 1)
    return Linearized(kernel, model.outputs(left))


def is_module(value: Any) -> bool:
    """Whether it is a module of PyTorch's, which is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def seeded(make: Callable[[], Any], seed: int) -> Any:
    """What is made, by PyTorch's draws from that seed where it takes part; others stay as they are.

    It must have been imported already, as by the module that `make` is from.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return make()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def _blocks(points: int, at_once: int) -> Iterator[slice]:
    return (slice(first, min(first + at_once, points)) for first in range(0, points, at_once))


class _Model:
    """A module as a function of its parameters and a point."""

    def __init__(self, torch: Any, module: Any, dtype: str) -> None:
        self._torch, self._module = torch, module
        self._kind = getattr(torch, dtype)
        named = {name: self._cast(each) for name, each in module.named_parameters()}
        trained = {name for name, each in module.named_parameters() if each.requires_grad}
        self._trained = {name: named[name] for name in named if name in trained}
        held = {name: self._cast(each) for name, each in module.named_buffers()}
        self._held = {name: named[name] for name in named if name not in trained} | held
        if not self._trained:
            raise InputError("from_torch: the module has no parameter that requires a gradient")
        self._device = next(iter(self._trained.values())).device

    @classmethod
    def of(cls, module: Any, dtype: str) -> _Model:
        check_name("dtype of a PyTorch kernel", dtype, DTYPES)
        try:
            import torch
        except ImportError:
            raise InputError(
                'from_torch: needs PyTorch; install it, as with pip install "ntkdyn[torch]"'
            ) from None
        if not isinstance(module, torch.nn.Module):
            raise InputError(
                f"from_torch: must be a torch.nn.Module, got {type(module).__name__}; a JAX model "
                f"goes to networks.wrap or kernels.compute"
            )
        _check_mode(torch, module)
        return cls(torch, module, dtype)

    def _cast(self, tensor: Any) -> Any:
        """A copy in the precision that is reckoned in; whole numbers as they are."""
        copy = tensor.detach().clone()
        return copy.to(self._kind) if copy.is_floating_point() else copy

    @property
    def row_bytes(self) -> int:
        """Of the Jacobian of one output at one point."""
        return sum(each.numel() * each.element_size() for each in self._trained.values())

    def points(self, name: str, given: Any) -> Any:
        array = arrays.numbers(f"from_torch: {name}", given)
        if array.ndim < 2:
            raise InputError(
                f"from_torch: {name} must be (points, *features), got shape {array.shape}"
            )
        array = array.astype(np.float64 if array.dtype.kind not in "biu" else np.int64)
        return self._cast(self._torch.from_numpy(array)).to(self._device)

    def __call__(self, trained: dict[str, Any], points: Any) -> Any:
        """(points, outputs)."""
        values = {**trained, **self._held}
        found = self._torch.func.functional_call(self._module, values, (points,))
        return found[:, None] if getattr(found, "ndim", 0) == 1 else found

    def check(self, points: Any) -> int:
        """How many outputs there are, once each point is sure to be by itself."""
        torch = self._torch
        few = points[torch.arange(POINTS) % len(points)]
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            together = self._tried(few)
            others = {
                "chance": self._tried(few),
                "the others of its batch": torch.cat(
                    [self._tried(few[[i]]) for i in range(POINTS)]
                ),
            }
        allowed = torch.finfo(self._kind).eps ** 0.5 * float(together.abs().max())
        for of, other in others.items():
            if not float((together - other).abs().max()) <= allowed:
                raise InputError(
                    f"from_torch: outputs of one point must not depend on {of}, but they do; call "
                    f"module.eval(), or leave out what does so"
                )
        return together.shape[1]

    def _tried(self, points: Any) -> Any:
        try:
            found = self(self._trained, points)
        except Exception as error:  # whatever a module raises
            raise InputError(
                f"from_torch: the module fails at points of shape {tuple(points.shape)} in "
                f"{self._kind}; {error}"
            ) from None
        if getattr(found, "ndim", 0) != 2 or len(found) != len(points):
            raise InputError(
                f"from_torch: the module must return (points, outputs), got "
                f"{tuple(getattr(found, 'shape', ())) or type(found).__name__} for {len(points)} "
                f"points"
            )
        if not bool(self._torch.isfinite(found).all()):
            raise InputError("from_torch: the module's outputs must be finite, and some are not")
        return found

    def outputs(self, points: Any) -> Float[np.ndarray, "points outputs"]:
        """f at its present parameters."""
        with self._torch.no_grad():
            return self(self._trained, points).cpu().double().numpy()

    def rows(self, points: Any) -> list[Any]:
        """Per trained tensor its Jacobian (points, outputs, entries)."""
        of_one = lambda trained, point: self(trained, point[None])[0]
        together = self._torch.func.vmap(self._torch.func.jacrev(of_one), in_dims=(None, 0))
        try:
            found = list(together(self._trained, points).values())
        except Exception:  # whatever torch.func cannot do, as recurrent layers
            found = self._one_by_one(points)
        return [each.flatten(2) for each in found]

    def _one_by_one(self, points: Any) -> list[Any]:
        """The same, each row from a gradient of its own."""
        torch, trained = self._torch, {k: v.requires_grad_() for k, v in self._trained.items()}
        slope = functools.partial(
            torch.autograd.grad, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        leaves, rows = list(trained.values()), []
        for outputs in (self(trained, point[None])[0] for point in points):
            slopes = [slope(each, leaves) for each in outputs]
            rows.append([torch.stack(each) for each in zip(*slopes, strict=True)])
        return [torch.stack(each) for each in zip(*rows, strict=True)]

    def contracted(self, here: list[Any], there: list[Any]) -> Float[np.ndarray, "n k m k"]:
        """The sum over all entries of their products."""
        torch = self._torch
        pairs = zip(here, there, strict=True)
        total = sum(torch.einsum("nkp,mjp->nkmj", one, other).double() for one, other in pairs)
        return total.cpu().numpy()


def _check_mode(torch: Any, module: Any) -> None:
    """Refuse layers that look at chance or at the batch, by their names."""
    layers = torch.nn.modules
    for name, layer in module.named_modules():
        called = f"{name or 'it'} ({type(layer).__name__})"
        dropout = isinstance(layer, layers.dropout._DropoutNd) and layer.p > 0
        if dropout and layer.training:
            raise InputError(
                f"from_torch: {called} is in training mode, where outputs are drawn at random; "
                f"call module.eval(), and train without dropout: with it there is no kernel"
            )
        of_batch = layer.training or getattr(layer, "running_mean", None) is None
        if isinstance(layer, layers.batchnorm._BatchNorm) and of_batch:
            raise InputError(
                f"from_torch: {called} normalises by the batch, so that outputs of a point depend "
                f"on the others and there is no kernel; call module.eval() for its running "
                f"averages, and train so, or take another norm"
            )
