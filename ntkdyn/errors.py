"""Refusals: one sentence that names the argument, what it must be and what came."""

import difflib
import numbers
from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """The input cannot be used as given; the message is one sentence for the person who gave it."""


def is_whole(value: object) -> bool:
    """Whether it is a whole number; true and false are none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_real(value: object) -> bool:
    """Whether it is one number; true and false are none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_whole(what: str, value: Any, least: int, most: int | None = None) -> None:
    """Refuse what is no whole number from `least` on, or to `most`."""
    if not is_whole(value) or value < least or (most is not None and value > most):
        until = "on" if most is None else f"to {most}"
        raise InputError(f"{what} must be a whole number from {least} {until}, got {value!r}")


def unknown(kind: str, name: object, known: Iterable[str]) -> InputError:
    """The refusal of a name that is not in `known`, with the nearest one that is."""
    known = sorted(known)
    nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(known)}"
    return InputError(f"{kind}: no {kind} is called {name!r}; {hint}")
