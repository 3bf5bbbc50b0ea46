"""Records on disk: equal when read back, whole or absent."""

import contextlib
import os
import re

import numpy as np
import pytest
import xarray as xr
from cases import MIXINGS, method

import ntkdyn as nd
from ntkdyn import disk, figures, records


@pytest.fixture(scope="module")
def record(small):
    problem, _ = small(8)
    save = nd.SaveOptions(parameter_rounds=[2])
    return nd.predict(problem, method("dgd", 0.15), MIXINGS["ring"], 4, save=save)


def test_a_record_is_read_back_equal(record, tmp_path):
    path = records.write(record, tmp_path / "deep" / "folder" / "record.nc")
    again = records.read(path)
    xr.testing.assert_identical(record, again)
    assert {name: variable.dtype for name, variable in again.items()} == {
        name: variable.dtype for name, variable in record.items()
    }
    assert again.attrs["stable"] == 1 and isinstance(again.attrs["step_size"], float)
    assert [p.name for p in path.parent.iterdir()] == ["record.nc"]


def test_a_record_says_where_it_comes_from(record):
    assert re.search(r'"jax": "0\.\d+', record.attrs["versions"])
    assert "CPU cores" in record.attrs["device"]
    assert record.attrs["space"] == "kernel" and record.attrs["method"] == "dgd"
    assert set(record.dims) >= {"agent", "round", "layer", "point", "output"}


def test_nothing_half_written_stays_behind(record, tmp_path, monkeypatch):
    path = records.write(record, tmp_path / "record.nc")
    before = path.read_bytes()

    def interrupted(*args, **kwargs):
        (tmp_path / "started").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(xr.Dataset, "to_netcdf", interrupted)
    with pytest.raises(KeyboardInterrupt):
        records.write(record, path)
    assert (tmp_path / "started").exists()
    assert path.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"record.nc", "started"}


def test_refusals(tmp_path, record):
    with pytest.raises(nd.InputError, match="there is no file"):
        records.read(tmp_path / "none.nc")
    (tmp_path / "text.nc").write_text("not a record")
    with pytest.raises(nd.InputError, match="is not a netCDF4 file"):
        records.read(tmp_path / "text.nc")
    whole = records.write(record, tmp_path / "short.nc").read_bytes()
    (tmp_path / "short.nc").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(nd.InputError, match="short.nc is cut short or damaged, make it again"):
        records.read(tmp_path / "short.nc")
    (tmp_path / "file").touch()
    with pytest.raises(nd.InputError, match="cannot write"):
        records.write(record, tmp_path / "file" / "record.nc")


@contextlib.contextmanager
def files_up_to(size):
    """Files cannot grow beyond so many bytes, as on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_kernel(path):
    nd.kernels.compute(
        lambda w, x: x @ w,
        np.ones((3, 2)),
        np.eye(3),
        form="trace",
        options=nd.kernels.ComputeOptions(file=path),
    )


WRITERS = {
    "record.nc": lambda record, path: records.write(record, path),
    "figure.png": lambda record, path: figures.write(figures.draw("consensus", [record]), path),
    "kernel.h5": lambda record, path: write_kernel(path),
}


@pytest.mark.parametrize("size", [0, 2000])
@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_sentence_and_leaves_nothing(record, tmp_path, name, size):
    path = tmp_path / name
    WRITERS[name](record, path)
    assert path.stat().st_size > size
    path.unlink()
    said = f"cannot write {path}; File too large$"
    with pytest.raises(nd.InputError, match=said), files_up_to(size):
        WRITERS[name](record, path)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_claimed_by_one_run_at_a_time(tmp_path):
    folder = tmp_path / "new"
    for _ in range(2):
        said = f"{folder} is in use by another run"
        with disk.claimed(folder), pytest.raises(nd.InputError, match=said):
            disk.claimed(folder).__enter__()
        assert not list(folder.iterdir())
    (folder / ".lock").touch()
    with disk.claimed(folder):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(nd.InputError, match="cannot write"), disk.claimed(tmp_path / "file"):
        pass


def test_a_claim_that_its_holder_took_away_is_made_again(tmp_path, monkeypatch):
    """Between the opening of the file and the lock on it the holder ends."""
    import filelock

    lock, made, opened = tmp_path / ".lock", filelock.FileLock, []

    def slowly(path, on_acquired, **more):
        def then(file):
            if not opened:
                lock.unlink()
            opened.append(file)
            on_acquired(file)

        return made(path, on_acquired=then, **more)

    monkeypatch.setattr(filelock, "FileLock", slowly)
    with disk.claimed(tmp_path):
        assert len(opened) == 2 and lock.exists()
        monkeypatch.undo()
        with pytest.raises(nd.InputError, match="in use by another run"):
            disk.claimed(tmp_path).__enter__()
    assert not lock.exists()


def test_attributes_are_read_without_arrays(record, tmp_path):
    path = records.write(record, tmp_path / "record.nc")
    assert records.attributes(path) == records.read(path).attrs
    path.write_text("not a record")
    with pytest.raises(nd.InputError, match="is not a netCDF4 file"):
        records.attributes(path)


def test_records_are_plain_netcdf_for_xarray(record, tmp_path):
    """Written and read by it, before and after; what others wrote is read without a seal."""
    odd = record.assign_attrs(title="true", shares=[0.5, 1], names=["a", "b"], flag=True)
    path, foreign = records.write(odd, tmp_path / "a.nc"), tmp_path / "b.nc"
    assert xr.load_dataset(path).identical(odd) and records.read(path).attrs["title"] == "true"
    assert disk.is_ours(path)
    record.to_netcdf(foreign)
    assert records.read(foreign).identical(record) and not disk.is_ours(foreign)


ODD = {
    "none": ({"stable": None}, "attribute stable must be text, a number, or a list.*got None"),
    "zero character": ({"title": "a\0b"}, "attribute title must be text.*'a.x00b'"),
    "complex": ({"root": 1j}, "attribute root must be"),
    "nested": ({"deep": {"a": 1}}, "attribute deep must be"),
    "mixed": ({"some": [1, None]}, "attribute some must be"),
    "large": ({"many": 2**70}, "attribute many must be"),
}


@pytest.mark.parametrize("attributes, said", ODD.values(), ids=ODD)
def test_what_netcdf_cannot_hold_is_refused(attributes, said, tmp_path, types_unchecked):
    held = xr.Dataset({"x": ("point", np.zeros(2), attributes)})
    for record, of in ((xr.Dataset(attrs=attributes), ""), (held, " of x")):
        with pytest.raises(nd.InputError, match=said.replace(" must", f"{of} must", 1)):
            records.write(record, tmp_path / "x.nc")
    for record in (xr.Dataset({"x": ("point", [{}])}), np.zeros(3)):
        with pytest.raises(nd.InputError, match="record: "):
            records.write(record, tmp_path / "x.nc")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_files_are_readable_by_all(record, tmp_path):
    path = records.write(record, tmp_path / "record.nc")
    assert path.stat().st_mode & 0o777 == 0o644
    assert np.isfinite(records.read(path)["outputs"]).all()
