"""Arrays in pickles, read without running anything that a pickle asks for.

CIFAR-10's Python version is pickled. A pickle is a program: it names functions and has them called.
Here only those instructions are known that make text, numbers, lists, dictionaries and NumPy's
arrays of plain numbers; what NumPy would be asked to build is only noted down, and an array is made
of it once its dtype is seen to be plain and its size right. All else is refused.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ntkdyn import sizes
from ntkdyn.errors import InputError, shown

COPIES = 3
"""of a file's size that reading it takes"""

INSTRUCTIONS = (
    pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.POP, pickle.POP_MARK,
    pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE,
    pickle.INT, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT,
    pickle.STRING, pickle.BINSTRING, pickle.SHORT_BINSTRING, pickle.BINBYTES, pickle.SHORT_BINBYTES,
    pickle.UNICODE, pickle.BINUNICODE, pickle.SHORT_BINUNICODE,
    pickle.EMPTY_LIST, pickle.LIST, pickle.APPEND, pickle.APPENDS,
    pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3,
    pickle.EMPTY_DICT, pickle.DICT, pickle.SETITEM, pickle.SETITEMS,
    pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE,
    pickle.GET, pickle.BINGET, pickle.LONG_BINGET,
    pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.REDUCE, pickle.BUILD,
)  # fmt: skip
"""what a pickle may say: to build plain values, and arrays by REDUCE and BUILD"""


class _Type:
    """A dtype, noted down: NumPy's letter for it, and its byte order."""

    def __init__(self, code: Any, *more: Any) -> None:
        del more
        self.code, self.order = _text(code), "="

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])


class _Array:
    """An array, noted down: shape, dtype, order of its axes, and bytes."""

    state: tuple | None = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _latin(text: str, encoding: str) -> bytes:
    """How newer Pythons write bytes in older pickles."""
    if encoding != "latin1":
        raise ValueError(f"encoding {shown(encoding)}")
    return text.encode("latin1")


class _Named:
    """What stands for something that a pickle names: it can be called, and not changed."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *given: Any) -> Any:
        return self._make(*given)

    def __setstate__(self, state: Any) -> None:
        raise ValueError("it changes what it has named")


NOTED = {
    ("numpy", "dtype"): _Named(_Type),
    ("numpy", "ndarray"): _Named(_Array),
    ("numpy.core.multiarray", "_reconstruct"): _Named(lambda *given: _Array()),
    ("numpy._core.multiarray", "_reconstruct"): _Named(lambda *given: _Array()),
    ("_codecs", "encode"): _Named(_latin),
}
"""what a pickle may name, and what stands for it here"""


class _Reader(pickle._Unpickler):  # the one in Python, whose instructions can be counted out
    dispatch = {code[0]: pickle._Unpickler.dispatch[code[0]] for code in INSTRUCTIONS}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in NOTED:
            raise pickle.UnpicklingError(f"it asks for {shown(f'{module}.{name}')}")
        return NOTED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it asks for an object of another place")


def read(what: str, path: Path) -> dict[str, Any]:
    """The dictionary in a pickle: arrays, lists and text by name; `what` begins refusals."""
    sizes.check_room(f"{what}: {path.name}", COPIES * path.stat().st_size)
    try:
        with path.open("rb") as file:
            held = _Reader(file, encoding="bytes").load()
        if not isinstance(held, dict):
            raise ValueError(f"it holds {type(held).__name__}, no dictionary")
        return {_text(name): _made(value) for name, value in held.items()}
    except KeyError as error:
        reason = f"it holds the instruction {error}"
    except RecursionError:
        reason = "it is nested too deeply"
    except Exception as error:  # whatever a damaged pickle sets off
        reason = str(error) or type(error).__name__
    raise InputError(
        f"{what}: {path} must be a pickle of plain arrays, lists and text, and nothing in it is "
        f"run; {reason}"
    )


def _made(value: Any) -> Any:
    """The value, or the array that was noted down."""
    if not isinstance(value, _Array):
        return value
    _, shape, kind, columns_first, content = value.state
    dtype = np.dtype(f"{kind.order}{kind.code}" if kind.order in ("<", ">", "=") else kind.code)
    if dtype.kind not in "biuf" or any(not isinstance(n, int) or n < 0 for n in shape):
        raise ValueError(f"it holds an array of {dtype} of shape {shape}")
    content = content.encode("latin1") if isinstance(content, str) else content
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"it holds {len(content)} bytes for an array {shape} of {dtype}")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if columns_first else "C")
