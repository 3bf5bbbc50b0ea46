"""Refusals: one sentence that names the argument, what it must be and what came."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """The input cannot be used as given; the message is one sentence for the person who gave it."""


def unknown(kind: str, name: object, known: Iterable[str]) -> InputError:
    """The refusal of a name that is not in `known`, with the nearest one that is."""
    known = sorted(known)
    nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(known)}"
    return InputError(f"{kind}: no {kind} is called {name!r}; {hint}")
