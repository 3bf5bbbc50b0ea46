"""Records: what a run was asked, and what was seen, as a labelled xarray Dataset on netCDF4.

Dimensions are agent, round, layer, point, output; predictions and observations have the same
variables, so that they can be laid over each other by name. Attributes are text, numbers and
true/false; those that hold more are JSON. Files appear whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import tempfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ntkdyn.errors import InputError

Record = xr.Dataset

VERSIONS_OF = ("ntkdyn", "jax", "jaxlib", "neural-tangents", "numpy", "scipy", "xarray")


def write(record: Record, path: str | Path) -> Path:
    """Write the record to `path`: first beside it, then, complete, in its place.

    Of several processes that made it together, only the first writes.
    """
    import jax

    path = Path(path)
    if jax.process_index():
        return path
    with whole_file(path) as unfinished:
        record.assign_attrs(_as_text(record.attrs)).to_netcdf(
            unfinished, engine="h5netcdf", encoding=_compressed(record)
        )
    return path


def read(path: str | Path) -> Record:
    """The record at `path`, in memory, equal to the one that was written."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"record: there is no file {path}")
    try:
        record = xr.load_dataset(path, engine="h5netcdf")
    except (OSError, ValueError) as error:
        raise InputError(f"record: {path} is not a netCDF4 file; {error}") from None
    return record.assign_attrs({name: _flag(value) for name, value in record.attrs.items()})


@contextlib.contextmanager
def whole_file(path: Path):
    """A path to write to, which becomes `path` when the block ends well and vanishes when not."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent
        )
    except OSError as error:
        raise InputError(f"output: cannot write {path}; {error.strerror}") from None
    os.close(handle)
    unfinished = Path(name)
    try:
        yield unfinished
        unfinished.chmod(0o644)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def environment() -> dict[str, str]:
    """Versions and device, as a record keeps them."""
    import jax

    devices = jax.devices()
    return {
        "versions": json.dumps(
            {"python": platform.python_version()} | dict(map(_version, VERSIONS_OF))
        ),
        "device": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform}), "
        f"{os.cpu_count()} CPU cores, {platform.machine()}",
    }


def _version(package: str) -> tuple[str, str]:
    try:
        return package, version(package)
    except PackageNotFoundError:
        return package, "not installed"


def _as_text(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        str(name): str(value).lower() if isinstance(value, bool) else value
        for name, value in attributes.items()
        if value is not None
    }


def _flag(value: Any) -> Any:
    flags = {"true": True, "false": False}
    return flags.get(value, value) if isinstance(value, str) else value


def _compressed(record: Record) -> dict[str, dict[str, Any]]:
    return {
        name: {"zlib": True, "complevel": 1}
        for name, variable in record.variables.items()
        if np.issubdtype(variable.dtype, np.number) and variable.ndim
    }
