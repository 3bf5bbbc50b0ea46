"""Sizes: what is asked for is estimated in bytes and refused before it is allocated."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from rich import filesize

from ntkdyn.errors import InputError

UNITS = ["B", "kB", "MB", "GB", "TB", "PB", "EB"]

GROUP = Path("/sys/fs/cgroup")
"""where Linux says how much of the machine a container may use"""


def check_room(what: str, size: int | float, advice: str = "ask for less") -> None:
    """Refuse `what`, which takes `size` bytes, where fewer are free."""
    there = free()
    if size > there:
        raise InputError(
            f"{what} takes about {in_words(size)} of memory, and {in_words(there)} are free; "
            f"{advice}"
        )


def free() -> float:
    """Bytes of memory that can still be taken; infinite where the system does not tell."""
    return min(machine(), _unused(), _of_group())


def machine() -> float:
    """Bytes of memory that the machine has."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError):
        return math.inf


def in_words(size: float | int) -> str:
    """Bytes as people say them."""
    unit, name = filesize.pick_unit_and_suffix(int(size), UNITS, 1000)
    return f"{size / unit:.3g} {name}"


def _unused() -> float:
    found = re.search(r"^MemAvailable:\s*(\d+) kB", _text(Path("/proc/meminfo")), re.MULTILINE)
    return 1024 * float(found[1]) if found else math.inf


def _of_group() -> float:
    """What the container may still take."""
    most, taken = (_text(GROUP / f"memory.{name}").strip() for name in ("max", "current"))
    return float(most) - float(taken) if most.isdigit() and taken.isdigit() else math.inf


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except OSError:
        return ""
