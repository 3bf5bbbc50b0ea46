"""Arrays from outside: checked to be real, finite numbers before they are reckoned with."""

from __future__ import annotations

import math
import sys
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Float

from ntkdyn import sizes
from ntkdyn.errors import InputError

NUMBER = 40
"""bytes that a number of a range takes while NumPy reads it, as measured"""


def numbers(name: str, values: Any) -> np.ndarray:
    """The values as an array of real, finite numbers, at least one, in the dtype they came in."""
    array = real(name, values)
    if not array.size:
        raise InputError(f"{name}: must hold at least one number, got shape {array.shape}")
    finite = np.isfinite(array)
    if not finite.all():
        place = tuple(int(i) for i in np.argwhere(~finite)[0])
        entry = place if len(place) != 1 else place[0]
        raise InputError(f"{name}: entry {entry} is {array[place]}; all numbers must be finite")
    return array


def real(name: str, values: Any) -> np.ndarray:
    """The values as an array of real numbers, which may be infinite or NaN."""
    array = plain(name, values)
    if array.dtype.kind != "f" and not np.can_cast(array.dtype, np.float64):
        raise InputError(f"{name}: must be real numbers, got {_kind(array.dtype)}")
    return array


def plain(name: str, values: Any) -> np.ndarray:
    """The values as a NumPy array, with nothing masked."""
    if isinstance(values, np.ma.MaskedArray):
        raise InputError(f"{name}: must be a plain array, got a masked one; fill or drop its gaps")
    if scipy.sparse.issparse(values):
        sizes.check_room(f"{name}: {values.shape} made dense", 8.0 * math.prod(values.shape))
        _check_places(name, values)
        return values.toarray()
    if isinstance(values, range):
        sizes.check_room(f"{name}: {values}", NUMBER * len(values))
    try:
        torch = sys.modules.get("torch")
        tensor = torch and isinstance(values, torch.Tensor)
        return _of_tensor(torch, values) if tensor else np.asarray(values)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    except Exception as error:  # whatever another library's arrays raise, like tensors with a tape
        raise InputError(f"{name}: must be an array of numbers; {error}") from None


def _of_tensor(torch: Any, tensor: Any) -> np.ndarray:
    """A tensor's numbers, without what led to them, on whatever device they are."""
    tensor = tensor.detach().cpu()
    if tensor.layout != torch.strided:
        sizes.check_room(f"{tuple(tensor.shape)} made dense", 8.0 * tensor.numel())
        tensor = tensor.to_dense()
    if tensor.dtype == torch.bfloat16:  # which NumPy has from JAX, and PyTorch hands over as bits
        return tensor.view(torch.int16).numpy().view(jnp.bfloat16)
    return tensor.numpy(force=True)


def _check_places(name: str, values: Any) -> None:
    """Refuse a sparse matrix that names places outside itself, which SciPy would write to."""
    try:
        if hasattr(values, "indptr"):
            values.check_format(full_check=True)
            if (np.diff(values.indptr) < 0).any():  # which SciPy overlooks if the last is 0
                raise ValueError("a row ends before it begins")
    except ValueError as error:
        raise InputError(f"{name}: must be a whole sparse matrix; {error}") from None


def double(name: str, values: Any, dimensions: int) -> Float[np.ndarray, ...]:
    """The numbers in float64, with so many dimensions."""
    array = numbers(name, values)
    if array.ndim != dimensions:
        raise InputError(f"{name}: must have {dimensions} dimensions, got shape {array.shape}")
    return array.astype(np.float64)


def rounding(dtype: np.dtype) -> float:
    """The relative error of one number in that dtype; of whole numbers, that of float64."""
    return float(jnp.finfo(np.float64 if dtype.kind in "biu" else dtype).eps)


def _kind(dtype: np.dtype) -> str:
    """What an array holds that is no numbers, in words."""
    words = {"c": "complex ones", "U": "text", "S": "text", "M": "dates", "m": "times"}
    return words.get(dtype.kind, f"{dtype}")
