"""Refusals: one sentence that names the argument, what it must be and what came."""

import difflib
import importlib.util
import math
import numbers
import sys
from collections.abc import Callable, Iterable
from typing import Any

ECHO = 200
"""characters of an input that a message repeats"""

SENTENCE = 600
"""characters of a message: room for the longest sentence with what it echoes"""


LARGEST = 2**63 - 1
"""as large as a whole number may be that arrays and files hold"""


class InputError(ValueError):
    """The input cannot be used as given; the message is one sentence for the person who gave it.

    It is on one line, whatever it repeats of the input.

    Example:
        >>> try:
        ...     nd.KernelProblem(K, y, [0, 0, 1, 1, 2])
        ... except nd.InputError as refusal:
        ...     print(type(refusal).__mro__[1].__name__)
        ValueError
    """

    def __init__(self, sentence: object = "") -> None:
        super().__init__(_without_middle(" ".join(str(sentence).split())))


def shown(value: object) -> str:
    """The value as Python writes it, cut at `ECHO` characters; a number in an array as itself."""
    value = value.item() if getattr(value, "shape", None) == () else value
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
    dtype = getattr(value, "dtype", None)
    if dtype is not None:
        return getattr(value, "shape", None) == () and dtype.kind in ("i", "u")
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_real(value: object) -> bool:
    """Whether it is one number that a float can hold; true and false are none."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and not (isinstance(value, int) and abs(value) > sys.float_info.max)


def check_whole(what: str, value: Any, least: int, most: int = LARGEST) -> int:
    """The number as an int; refuses what is no whole number from `least` on, or to `most`."""
    if not is_whole(value) or not least <= value <= most:
        on = most == LARGEST and not (is_whole(value) and value > most)
        until = "on" if on else f"to {most}"
        raise InputError(f"{what} must be a whole number from {least} {until}, got {shown(value)}")
    return int(value)


def check_kind(what: str, value: object, kind: type, example: str) -> None:
    """Refuse what is not of that kind; `example` says how one has it."""
    if not isinstance(value, kind):
        raise InputError(
            f"{what}: must be a {kind.__name__}, {example}, got {type(value).__name__}"
        )


def check_flag(name: str, value: Any) -> None:
    """Refuse what is neither true nor false."""
    if not isinstance(value, bool):
        raise InputError(f"{name}: must be true or false, got {shown(value)}")


def check_name(kind: str, name: object, known: Iterable[str]) -> None:
    """Refuse a name that is not in `known`."""
    if not isinstance(name, str) or name not in known:
        raise unknown(kind, name, known)


def unknown(kind: str, name: object, known: Iterable[str]) -> InputError:
    """The refusal of a name that is not in `known`, with the nearest one that is."""
    known = sorted(known)
    hint = _nearest(shown(name), known) or f"known: {', '.join(known)}"
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


def on_demand(
    package: str, names: Iterable[str], home: dict[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """As `public`, of a package whose modules are imported when they are first asked for.

    `home` says in which of its modules a name is that is no module.
    """
    lacking, known = public(package, names)

    def found(name: str) -> Any:
        module = f"{package}.{home.get(name, name)}"
        if name.startswith("_") or importlib.util.find_spec(module) is None:
            return lacking(name)
        imported = importlib.import_module(module)
        return getattr(imported, name) if name in home else imported

    return found, known


def _nearest(name: str, known: list[str]) -> str:
    """The question whether the nearest of the sorted names was meant, if one is near."""
    nearest = difflib.get_close_matches(name[:ECHO], known, n=1, cutoff=0.4)
    return f"did you mean {nearest[0]!r}?" if nearest else ""
