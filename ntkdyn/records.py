"""Records: what a run was asked, and what was seen, as a labelled xarray Dataset on netCDF4.

Dimensions are agent, round, layer, point, output; predictions and observations have the same
variables, so that they can be laid over each other by name. Attributes are text and numbers, 1 and
0 for true and false; those that hold more are JSON.

A file ends in the SHA-256 of what is before, behind the end that HDF5 knows of, and says in the
attribute `_NCProperties`, by which netCDF files say what wrote them, that it does.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from ntkdyn import disk
from ntkdyn.errors import LARGEST, InputError, check_kind, is_whole, public, shown

Record = xr.Dataset

VERSIONS_OF = ("ntkdyn", "jax", "jaxlib", "neural-tangents", "numpy", "scipy", "xarray")


HEADERS = 2**18
"""bytes that a file may hold beside the record's own numbers"""

PROVENANCE = "_NCProperties"


def write(record: Record, path: str | Path) -> Path:
    """Write the record to `path`: first beside it, then, complete, in its place.

    Of several processes that made it together, only the first writes. It needs room on the disk for
    the record as it is in memory, though the file is smaller.

    Args:
        record: as `predict` and `train` give it.
        path: of the file, of netCDF-4.

    Returns:
        The path.

    Raises:
        InputError: for what is no record, or what netCDF cannot hold.
        OSError: where the file cannot be written, or the disk is full.

    Example:
        >>> import pathlib, tempfile
        >>> folder, told = pathlib.Path(tempfile.mkdtemp()), nd.predict(bare, dgd, W, 2)
        >>> nd.records.read(nd.records.write(told, folder / "run.nc")).equals(told)
        True
    """
    import jax

    check_kind("record", record, xr.Dataset, "as `predict` and `train` give it")
    record, path = _plain(record), disk.path_of("record", path)
    if jax.process_index():
        return path
    with disk.whole_file(path) as unfinished:
        disk.reserve(unfinished, record.nbytes + HEADERS)
        try:
            record.to_netcdf(unfinished, engine="h5netcdf", encoding=_compressed(record))
            _mark(unfinished)
        except RuntimeError as error:
            raise OSError(str(error).splitlines()[0]) from None
        except (OSError, InputError):
            raise
        except Exception as error:  # whatever xarray makes of what netCDF cannot hold
            raise InputError(f"record: netCDF cannot hold it; {error}") from None
        disk.seal(unfinished)
    return path


def read(path: str | Path) -> Record:
    """The record at `path`, in memory, equal to the one that was written.

    Args:
        path: of a file that `write` made; netCDF-4 files of others are read as they are.

    Returns:
        The record.

    Raises:
        InputError: for no file, one that is not netCDF-4, or one that was changed since, as its
            SHA-256 tells.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.nc"
        >>> _ = nd.records.write(nd.predict(bare, dgd, W, 2), path)
        >>> dict(nd.records.read(path).sizes)["agent"]
        3
    """
    return _opened(path, xr.load_dataset)


def attributes(path: str | Path) -> dict[str, Any]:
    """The attributes of the record at `path`, without its arrays.

    Args:
        path: of a record's file.

    Returns:
        Name -> text, number, or a list of either.

    Raises:
        InputError: as for `read`.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.nc"
        >>> _ = nd.records.write(nd.predict(bare, dgd, W, 2), path)
        >>> nd.records.attributes(path)["method"]
        'dgd'
    """
    with _opened(path, xr.open_dataset) as record:
        return dict(record.attrs)


def agent_names(record: Record) -> list[str]:
    """What the agents of a record are called: by number, where they have no names.

    Args:
        record: with the dimension `agent`.

    Returns:
        A name for each, in the order of `agent`.

    Example:
        >>> nd.records.agent_names(nd.predict(bare, dgd, W, 2))
        ['0', '1', '2']
    """
    if "agent_name" in record.coords:
        return [str(name) for name in record["agent_name"].values]
    return [str(number) for number in range(record.sizes["agent"])]


def _opened(path: str | Path, how: Callable[..., Record]) -> Record:
    """The record, damaged by no one since it was written; netCDF files of others as they are."""
    path = disk.path_of("record", path)
    if not path.is_file():
        raise InputError(f"record: there is no file {path}")
    try:
        whole = disk.intact(path)
        if whole is None:
            whole = disk.MARK not in _provenance(path)
        found = how(path, engine="h5netcdf") if whole else None
    except Exception as error:  # damage makes HDF5 and xarray raise whatever they meet
        began = h5py.is_hdf5(path)
        what = "is cut short or damaged, make it again" if began else "is not a netCDF4 file"
        raise InputError(f"record: {path} {what}; {error}") from None
    if found is None:
        raise InputError(
            f"record: {path} is damaged or was changed by another program, as the SHA-256 at its "
            f"end tells; make it again"
        )
    return found


def _mark(path: Path) -> None:
    """Have the file say that ntkdyn wrote it, so that it must have a seal."""
    told = f"{_provenance(path)},ntkdyn={disk.MARK}"
    with h5py.File(path, "r+") as file:
        file.attrs[PROVENANCE] = np.bytes_(told)


def _provenance(path: Path) -> str:
    """What a netCDF file says of the programs that wrote it."""
    with h5py.File(path) as file:
        told = file.attrs.get(PROVENANCE, "")
    return told.decode("ascii", "replace") if isinstance(told, bytes) else str(told)


def environment() -> dict[str, str]:
    """Versions and device, as a record keeps them.

    Returns:
        `versions`, JSON of package -> version; `device`, a sentence.

    Example:
        >>> import json
        >>> sorted(json.loads(nd.records.environment()["versions"]))[:3]
        ['jax', 'jaxlib', 'neural-tangents']
    """
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


def _plain(record: Record) -> Record:
    """The record with attributes that netCDF holds, of variables too."""
    plain = record.copy()
    plain.attrs = _attributes("", record.attrs)
    for name, variable in plain.variables.items():
        variable.attrs = _attributes(f" of {name}", variable.attrs)
    return plain


def _attributes(of: str, given: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): _attribute(f"{name}{of}", value) for name, value in given.items()}


def _attribute(name: str, value: Any) -> Any:
    if getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, bool):
        return int(value)
    many = isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim == 1)
    if not (all(map(_is_plain, value)) if many else _is_plain(value)):
        raise InputError(
            f"record: attribute {name} must be text, a number, or a list of either, got "
            f"{shown(value)}"
        )
    return value


def _is_plain(value: Any) -> bool:
    """Whether an attribute can be this alone: text without the character of code 0, or a number."""
    if isinstance(value, str):
        return "\0" not in value
    return is_whole(value) and abs(int(value)) <= LARGEST or isinstance(value, float | np.floating)


def _compressed(record: Record) -> dict[str, dict[str, Any]]:
    return {
        name: {"zlib": True, "complevel": 1}
        for name, variable in record.variables.items()
        if np.issubdtype(variable.dtype, np.number) and variable.ndim
    }


__all__ = ["Record", "agent_names", "attributes", "environment", "read", "write"]

__getattr__, __dir__ = public(__name__, __all__)
