"""Refusals: one sentence that names the argument, what it must be and what came."""

import difflib
import math
import numbers
from collections.abc import Callable, Iterable
from typing import Any

ECHO = 200
"""characters of an input that a message repeats"""

SENTENCE = 600
"""characters of a message: room for the longest sentence with what it echoes"""


class InputError(ValueError):
    """The input cannot be used as given; the message is one sentence for the person who gave it."""

    def __init__(self, sentence: object = "") -> None:
        super().__init__(_without_middle(str(sentence)))


def shown(value: object) -> str:
    """The value as Python writes it, cut at `ECHO` characters."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        text = f"a number of about {math.log10(2) * abs(value).bit_length():.0f} digits"
    return text if len(text) <= ECHO else f"{text[: ECHO - 4]} ..."


def _without_middle(sentence: str) -> str:
    """The sentence; of a very long one the beginning, and the end, which says the way out."""
    if len(sentence) <= SENTENCE:
        return sentence
    return f"{sentence[: SENTENCE - ECHO]} ... {sentence[5 - ECHO :]}"


def is_whole(value: object) -> bool:
    """Whether it is a whole number, an array of one included; true and false are none."""
    single = getattr(value, "ndim", None) == 0 and getattr(value, "dtype", None) is not None
    if single and not isinstance(value, numbers.Number):
        return value.dtype.kind in "iu"
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_real(value: object) -> bool:
    """Whether it is one number; true and false are none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_whole(what: str, value: Any, least: int, most: int | None = None) -> int:
    """The number as an int; refuses what is no whole number from `least` on, or to `most`."""
    if not is_whole(value) or value < least or (most is not None and value > most):
        until = "on" if most is None else f"to {most}"
        raise InputError(f"{what} must be a whole number from {least} {until}, got {shown(value)}")
    return int(value)


def unknown(kind: str, name: object, known: Iterable[str]) -> InputError:
    """The refusal of a name that is not in `known`, with the nearest one that is."""
    known = sorted(known)
    hint = _nearest(str(name), known) or f"known: {', '.join(known)}"
    return InputError(f"{kind}: no {kind} is called {shown(name)}; {hint}")


def public(
    module: str, names: Iterable[str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a module: its public names, the nearest to one it lacks."""
    known = sorted(names)

    def lacking(name: str) -> Any:
        hint = _nearest(name, known)
        raise AttributeError(f"module {module!r} has no attribute {name!r}{hint and f'; {hint}'}")

    return lacking, lambda: known


def _nearest(name: str, known: list[str]) -> str:
    """The question whether the nearest of the sorted names was meant, if one is near."""
    nearest = difflib.get_close_matches(name[:ECHO], known, n=1, cutoff=0.4)
    return f"did you mean {nearest[0]!r}?" if nearest else ""
