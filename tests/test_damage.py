"""Damaged files: what is in them is never taken for right, and that is one sentence."""

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from fuzz.inputs import damaged

import ntkdyn as nd
from ntkdyn import disk, records
from ntkdyn.checkpoints import Checkpoints
from ntkdyn.kernels.store import Store
from ntkdyn.kernels.tiles import Tiling

DAMAGES = 300


@pytest.fixture
def record():
    """Numbers and text, with and without dimensions, as records hold them."""
    draw = np.random.default_rng(0)
    variables = {
        "train_loss": (("round", "agent"), draw.random((5, 3)), {"units": "1"}),
        "outputs": (("round", "agent", "point"), draw.random((5, 3, 7)).astype(np.float32)),
        "split": ("point", np.array(["train"] * 6 + ["test"])),
        "owner": ("point", np.arange(7)),
        "best": draw.random(),
    }
    about = {f"setting_{number}": f"value {number}" for number in range(9)}
    return xr.Dataset(variables, {"round": range(5)}, about | {"kernel": "empirical", "stable": 1})


def test_any_damage_is_found_and_is_one_sentence(record, tmp_path):
    path = records.write(record, tmp_path / "record.nc")
    right, content, draw = records.read(path), path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(DAMAGES):
        path.write_bytes(damaged(draw, content))
        try:
            assert records.read(path).identical(right)
        except nd.InputError as error:
            assert f"record: {path} is " in str(error)
            refused += 1
    assert refused > 270
    without_end = content[: -disk.SEALED]
    for read in (records.read, records.attributes):
        for changed in (without_end, without_end.replace(b"kernel", b"cernel") + content[-10:]):
            path.write_bytes(changed)
            with pytest.raises(nd.InputError, match="is damaged or was|is cut short or"):
                read(path)


def kernel_file(path, values, names=("one", "two/three")):
    """The kernel in a file of tiles of 3 x 3 points, and how many tiles had to be written."""
    tiling, written = Tiling(7, 7, True, 3, 3), 0
    with Store(path, tiling, values.shape, values.dtype, names, "mark") as store:
        for row, rows in enumerate(tiling.row_blocks()):
            for column, columns in enumerate(tiling.column_blocks()[row:], start=row):
                if not store.has(row, column):
                    tile = (
                        values[rows][..., columns] if values.ndim == 2 else values[rows, :, columns]
                    )
                    store.put(row, column, dict.fromkeys(names, tile), add=False)
                    written += 1
        return store.values(), written


@pytest.mark.parametrize("outputs", [None, 2])
def test_damaged_tiles_are_computed_again_and_other_damage_is_one_sentence(outputs, tmp_path):
    draw, path = np.random.default_rng(1), tmp_path / "k.h5"
    values = draw.standard_normal((7, 7) if outputs is None else (7, outputs, 7, outputs))
    values = values + (values.T if outputs is None else values.transpose(2, 3, 0, 1))
    assert kernel_file(path, values)[1] == 6
    content, again, refused = path.read_bytes(), 0, 0
    for _ in range(DAMAGES):
        path.write_bytes(damaged(draw, content))
        try:
            found, written = kernel_file(path, values)
        except nd.InputError as error:
            assert f"file: {path} is not an undamaged kernel" in str(error)
            refused += 1
        else:
            assert all(np.array_equal(each, values) for each in found.values())
            again += written > 0
    assert refused > 30 and again > 5
    assert path.write_bytes(content) and kernel_file(path, values)[1] == 0


def test_one_at_a_time_writes_a_kernel(tmp_path):
    path = tmp_path / "k.h5"
    compute = lambda: nd.kernels.compute(
        lambda w, x: x @ w, np.ones((3, 2)), np.eye(3), options=nd.kernels.ComputeOptions(file=path)
    )
    with disk.claimed_file(path), pytest.raises(nd.InputError, match="k.h5 is in use by another"):
        compute()
    compute()
    assert [each.name for each in tmp_path.iterdir()] == ["k.h5"]


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    """Of two states the last is taken only as it was saved; the settings are not misread either."""
    draw, states = np.random.default_rng(2), {1: jnp.arange(4.0), 2: jnp.arange(4.0) + 1}
    saving = Checkpoints(tmp_path, rounds=1, settings={"seed": 3})
    for number, state in states.items():
        saving.save(number, state, [{"loss": np.ones(each)} for each in range(1, number + 1)])
    files = [path for path in sorted(tmp_path.rglob("*")) if path.is_file() and path.stat().st_size]
    taken = []
    for number in range(DAMAGES):
        path = files[draw.integers(len(files))]
        content = path.read_bytes()
        path.write_bytes(changed := damaged(draw, content))
        again = Checkpoints(tmp_path, resume=True, settings={"seed": 3})
        taken.append(again._newest_whole())
        of_last = "seen" in path.parts or "2" in (path.stem, *path.parts)
        assert taken[-1] < 2 or changed == content or not of_last, path
        if number < 4 and taken[-1] > 0:
            assert np.array_equal(again.open(states[1], {}).state, states[taken[-1]])
        path.write_bytes(content)
    assert set(taken) == {-1, 1, 2}
