"""A run made again: whether a record's numbers come out as they are in it."""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np
import xarray as xr

from ntkdyn.errors import InputError
from ntkdyn.records import Record

ALLOWED = {"network": 1e-3, "kernel": 1e-6, "tangent": 1e-6}
"""How far off a variable may be, relative to its largest value, by the space of the run: networks
are trained in single precision, where other machines and versions round otherwise."""


class Repetition(NamedTuple):
    """What came out when it was run again; true where that is what the record holds."""

    differences: dict[str, float]
    """by variable, relative to its largest value; infinite where it is not there or of another
    shape"""
    allowed: float
    changed: dict[str, tuple[str, str]]
    """versions and device: then, and now"""

    def __bool__(self) -> bool:
        return max(self.differences.values()) <= self.allowed

    def __str__(self) -> str:
        where, most = max(self.differences.items(), key=lambda each: each[1])
        how = "bit for bit" if most == 0 else f"to {most:.1e} ({where})"
        said = f"the record comes out again {how}"
        if not self:
            off = f"off by {most:.2g} of its largest" if np.isfinite(most) else "of another kind"
            said = f"the record does not come out again: {where} is {off}"
        then = [f"{name} {old}, now {new}" for name, (old, new) in self.changed.items()]
        return f"{said}; made with {'; '.join(then)}" if then else said


def repetition(record: Record, again: Record, allowed: float | None = None) -> Repetition:
    """A record beside the one that the same settings give now."""
    if allowed is None:
        allowed = ALLOWED[record.attrs["space"]]
    differences = {
        str(name): _apart(held, again[name]) if name in again.variables else np.inf
        for name, held in record.variables.items()
    }
    return Repetition(differences, allowed, _changed(record, again))


def check_repeatable(record: Record) -> None:
    """Refuse what is no prediction or training of a spec."""
    if record.attrs.get("space") not in ALLOWED or "log" in record.attrs:
        raise InputError("record: must be one that `ntkdyn predict`, `train` or `run` wrote")
    if "spec" not in record.attrs:
        raise InputError("record: does not say of what spec it is, so that it cannot be run again")


def _apart(held: xr.Variable, again: xr.Variable | xr.DataArray) -> float:
    one, other = np.asarray(held.values), np.asarray(again.values)
    if one.shape != other.shape:
        return np.inf
    if one.dtype.kind not in "fiub":
        return 0.0 if (one == other).all() else np.inf
    if not one.size or np.array_equal(one, other, equal_nan=True):
        return 0.0
    one, other = one.astype(float), other.astype(float)
    if (np.isfinite(one) != np.isfinite(other)).any():
        return np.inf
    largest = np.nanmax(np.abs(one), initial=0, where=np.isfinite(one))
    off = np.nanmax(np.abs(one - other), initial=0, where=np.isfinite(one))
    return float(off / largest) if largest else np.inf


def _changed(record: Record, again: Record) -> dict[str, tuple[str, str]]:
    then, now = (_made_with(each) for each in (record, again))
    return {
        name: (made, now.get(name, "not there"))
        for name, made in then.items()
        if made != now.get(name)
    }


def _made_with(record: Record) -> dict[str, str]:
    versions = json.loads(record.attrs.get("versions", "{}"))
    device = {"device": record.attrs["device"]} if "device" in record.attrs else {}
    return {str(name): str(version) for name, version in versions.items()} | device
