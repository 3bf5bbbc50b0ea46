"""Health: what this installation has, what it lacks, and what to do about it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, requires, version
from typing import NamedTuple

import jax
from packaging.requirements import Requirement


class Check(NamedTuple):
    """One line of what `ntkdyn doctor` says."""

    what: str
    found: str
    state: str
    """"ok", "missing" (needed), or "absent" (an extra)"""
    advice: str = ""


def examine() -> list[Check]:
    """Python, every dependency, the devices, and whether kernels can be computed."""
    return [
        Check("python", platform.python_version(), "ok"),
        *(_package(Requirement(text)) for text in requires("ntkdyn") or ()),
        *(Check("device", f"{d.device_kind} ({d.platform})", "ok") for d in jax.devices()),
        _neural_tangents(),
    ]


def _package(requirement: Requirement) -> Check:
    extra = str(requirement.marker).partition("extra == ")[2].strip('"')
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        if extra:
            return Check(
                requirement.name, f"extra {extra}", "absent", f"pip install 'ntkdyn[{extra}]'"
            )
        return Check(requirement.name, "", "missing", f"pip install '{requirement}'")
    if found not in requirement.specifier:
        advice = f"needs {requirement.specifier}: pip install '{requirement}'"
        return Check(requirement.name, found, "missing", advice)
    return Check(requirement.name, found, "ok")


def _neural_tangents() -> Check:
    what = "infinite-width kernels"
    try:
        from ntkdyn.kernels import compat
    except ImportError as error:
        return Check(what, "", "missing", str(error))
    return Check(what, f"neural-tangents {compat.neural_tangents.__version__}", "ok")
