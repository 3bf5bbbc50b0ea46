"""Data of one's own: every form is read as it stands, and what cannot be used is named."""

import contextlib
import gc
import gzip
import json
import os
import pickle
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

import ntkdyn as nd
from ntkdyn import cli, data, experiment, sizes
from ntkdyn.data import pickles, tables
from ntkdyn.errors import InputError

RNG = np.random.default_rng(0)
TOWNS = ["bonn", "aix", "cork"]


def houses(rows=12):
    """A table with two features, a price and a town."""
    rng = np.random.default_rng(1)
    rooms, age = rng.integers(1, 9, rows), rng.random(rows) * 40
    price = 10.0 * rooms - 0.3 * age + rng.random(rows)
    towns = [TOWNS[i % 3] for i in range(rows)]
    return pd.DataFrame({"rooms": rooms, "age": age, "town": towns, "price": price})


def written(frame, path, **settings):
    frame.to_csv(path, index=False, **settings)
    return path


def same(one, other):
    names = ("train_inputs", "train_labels", "test_inputs", "test_labels", "owner")
    pairs = [(getattr(one, name), getattr(other, name)) for name in names]
    assert all(np.array_equal(a, b) for a, b in pairs if a is not None or b is not None)
    assert (one.classes, one.label_names, one.agent_names) == (
        other.classes, other.label_names, other.agent_names,
    )  # fmt: skip
    assert one.normalisation == other.normalisation


def test_a_table_is_the_same_in_every_form(tmp_path):
    frame, asked = houses(), {"target": "price", "owner": "town", "test": 3}
    wanted = data.read(frame, **asked)
    assert wanted.name == "given" and wanted.train_inputs.shape == (9, 2)
    for name, settings in {
        "a.csv": {}, "a.tsv": {"sep": "\t"}, "b.csv": {"sep": ";"}, "c.csv": {"sep": "|"},
        "bom.csv": {"encoding": "utf-8-sig"}, "a.csv.gz": {}, "a.txt": {"sep": "\t"},
        "windows.csv": {"lineterminator": "\r\n"}, "quoted.csv": {"quoting": 1},
    }.items():  # fmt: skip
        same(data.read(written(frame, tmp_path / name, **settings), **asked), wanted)
    bare = written(frame, tmp_path / "bare.csv", header=False)
    same_but_for_names = data.read(bare, target=3, owner=-2, header=False, test=3)
    assert same_but_for_names.label_names == ("3",)
    assert (same_but_for_names.train_inputs == wanted.train_inputs).all()
    np.save(tmp_path / "a.npy", frame[["rooms", "age", "price"]].to_numpy())
    plain = data.read(tmp_path / "a.npy", target=2, test=3)
    assert (plain.test_inputs == wanted.test_inputs).all() and plain.owner is None


def test_a_table_read_in_parts_is_the_same(tmp_path, monkeypatch):
    """Also where a column is text, or has a fraction, in a later part only."""
    frame = houses().assign(grade=["1"] * 7 + ["b"] * 5)
    frame["age"] = [float(round(each)) for each in frame["age"][:-1]] + [0.5]
    path = written(frame, tmp_path / "a.csv")
    asked = {"target": "grade", "features": ["age", "rooms"], "owner": "town"}
    asked["task"] = "classification"
    wanted = data.read(path, **asked)
    monkeypatch.setattr(tables, "AT_A_TIME", 10)
    same(data.read(path, **asked), wanted)
    assert wanted.label_names == ("1", "b") and wanted.train_labels.tolist() == [0] * 7 + [1] * 5


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc to read the memory in")
def test_half_a_million_rows_take_three_times_their_memory_at_most(tmp_path):
    block = np.random.default_rng(0).standard_normal((5000, 10))
    lines = "".join(",".join(map(repr, row)) + "\n" for row in block.tolist())
    path = tmp_path / "many.csv"
    path.write_text(",".join(f"x{i}" for i in range(10)) + "\n" + 100 * lines)
    took, peaks = [], []
    for _ in range(2):  # other tests' garbage may be in the way of one of them
        gc.collect()
        with _memory() as seen:
            began = time.process_time()
            found = data.read(path, target="x9", test=0.2)
            took.append(time.process_time() - began)
        peaks.append(max(seen) - seen[0])
    assert found.train_inputs.shape == (400_000, 9) and len(found.test_labels) == 100_000
    assert min(took) < 10 and min(peaks) < 3 * 8 * 500_000 * 10


@contextlib.contextmanager
def _memory():
    """What this process holds, in bytes, before the block and every two milliseconds during it."""
    held = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    seen, done = [held()], threading.Event()

    def watch():
        while not done.wait(0.002):
            seen.append(held())

    thread = threading.Thread(target=watch)
    thread.start()
    yield seen
    done.set()
    thread.join()


def test_features_are_those_that_are_named():
    frame = houses()
    one = data.read(frame, target="price", features=["age"], scale="none")
    assert (one.train_inputs[:, 0] == frame["age"].astype(np.float32)).all()
    both = data.read(frame.drop(columns="town"), target="price", scale="none")
    assert both.train_inputs.shape == (12, 2)


def test_points_are_drawn_given_or_all():
    frame, asked = houses(), {"target": "price", "features": ["rooms", "age"], "scale": "none"}
    plain, order = frame[["rooms", "age"]].to_numpy(np.float32), np.random.default_rng(5)
    drawn = order.permutation(12)
    every = data.read(frame, **asked)
    assert (every.train_inputs == plain).all() and len(every.test_labels) == 0
    for train, test, rows, others in [
        (None, 3, drawn[:9], drawn[9:]),
        (None, 0.25, drawn[:9], drawn[9:]),
        (4, 3, drawn[:4], drawn[4:7]),
        (4, None, drawn[:4], drawn[:0]),
    ]:
        found = data.read(frame, train=train, test=test, seed=5, **asked)
        assert (found.train_inputs == plain[rows]).all()
        assert (found.test_inputs == plain[others]).all()
    given = data.read(frame[:8], test_source=frame[8:], **asked)
    assert (given.train_inputs == plain[:8]).all() and (given.test_inputs == plain[8:]).all()


KINDS = {
    "text": (["no", "yes", "no", "yes"], [0, 1, 0, 1], ("no", "yes")),
    "text with numbers": (["a10", "a2", "a10", "a2"], [1, 0, 1, 0], ("a2", "a10")),
    "whole floats": ([3.0, 7.0, 7.0, 3.0], [0, 1, 1, 0], ("3", "7")),
    "bools": ([True, False, False, True], [1, 0, 0, 1], ("False", "True")),
    "signs": ([-1, 1, 1, -1], [0, 1, 1, 0], ("-1", "1")),
    "from one": ([1, 2, 2, 1], [0, 1, 1, 0], ("1", "2")),
    "from zero": ([1, 0, 0, 1], [1, 0, 0, 1], ()),
    "categories": (pd.Categorical(["b", "a", "b", "a"]), [1, 0, 1, 0], ("a", "b")),
}


@pytest.mark.parametrize("values, wanted, names", KINDS.values(), ids=KINDS)
def test_labels_of_any_kind_are_classes(values, wanted, names):
    found = data.read(pd.DataFrame({"x": range(4), "y": values}), target="y")
    assert (found.train_labels == wanted).all() and found.classes == 2
    assert found.label_names == names and found.train_labels.dtype.kind == "i"


def test_numbers_of_another_byte_order_are_the_same():
    held = {"x": np.ones((4, 2), ">f4"), "y": np.array([3, 7, 7, 3], ">i4"),
            "owner": np.array([2, 1, 2, 1], ">i8")}  # fmt: skip
    found = data.read(held, scale="none")
    assert found.train_labels.tolist() == [0, 1, 1, 0] and found.owner.tolist() == [1, 0, 1, 0]
    assert found.label_names == ("3", "7") and found.agent_names == ("1", "2")


def test_one_hot_columns_are_classes_and_others_are_targets():
    hot = pd.DataFrame({"x": [1.5, 2, 3], "cat": [1, 0, 0], "dog": [0, 0, 1], "emu": [0, 1, 0]})
    found = data.read(hot, target=["cat", "dog", "emu"])
    assert found.train_labels.tolist() == [0, 2, 1] and found.label_names == ("cat", "dog", "emu")
    hot.loc[0, "dog"] = 1
    assert data.read(hot, target=["cat", "dog", "emu"]).classes is None
    with pytest.raises(InputError, match="a single 1 among zeros; those of cat, dog, emu do not"):
        data.read(hot, target=["cat", "dog", "emu"], task="classification")
    as_numbers = data.read(pd.DataFrame({"x": [1, 2, 4], "y": [1, 2, 1]}), target="y",
                           task="regression", target_scale="none")  # fmt: skip
    assert as_numbers.classes is None and as_numbers.train_labels.tolist() == [[1], [2], [1]]


def test_classes_are_those_of_training_and_test_points():
    frame = pd.DataFrame({"x": range(4), "y": ["b", "a", "c", "b"]})
    found = data.read(frame[:2], test_source=frame[2:], target="y")
    assert found.classes == 3 and found.test_labels.tolist() == [2, 1]


def test_targets_and_features_are_scaled_as_is_said():
    frame = houses()
    found = data.read(frame, target="price", features=["rooms", "age"], test=4, seed=2)
    drawn = np.random.default_rng(2).permutation(12)
    x, y = frame[["rooms", "age"]].to_numpy(float), frame["price"].to_numpy()
    centre, spread = x[drawn[:8]].mean(axis=0), x[drawn[:8]].std(axis=0)
    assert np.allclose(found.test_inputs, (x[drawn[8:]] - centre) / spread, rtol=1e-5)
    mean, deviation = y[drawn[:8]].mean(), y[drawn[:8]].std()
    assert np.allclose(found.test_labels[:, 0], (y[drawn[8:]] - mean) / deviation, rtol=1e-12)
    assert json.loads(found.about["target_mean"]) == [pytest.approx(mean)]
    assert json.loads(found.about["target_deviation"]) == [pytest.approx(deviation)]
    common = data.read(frame, target="price", features=["rooms", "age"], scale="common")
    assert np.allclose(common.train_inputs, (x - x.mean(axis=0)) / (x - x.mean(axis=0)).std())


def test_constant_features_are_zero_and_said():
    frame = houses().assign(country=0.1, planet=3)
    found = data.read(frame, target="price", owner="town")
    assert found.normalisation.endswith("; constant there, so zero: country, planet")
    assert (found.train_inputs[:, 2:] == 0).all() and np.isfinite(found.train_inputs).all()
    with pytest.raises(InputError, match="data: every feature is the same at all 12 training"):
        data.read(frame, target="price", features=["country", "planet"])
    with pytest.raises(InputError, match="target: every target is the same"):
        data.read(frame, target="country", features=["age"], task="regression")


def test_owners_are_numbered_in_the_order_of_their_names():
    frame = houses()
    found = data.read(frame, target="price", owner="town")
    share = data.partition(found, by="given")
    assert share.agent_names == ("aix", "bonn", "cork") and share.agents == 3
    assert [share.agent_names[i] for i in share.owner] == frame["town"].tolist()
    for values, names in {
        (3, 1, 2): ("1", "2", "3"), ("a10", "a9", "a1"): ("a1", "a9", "a10"),
        (2.0, 0.0, 1.0): ("0", "1", "2"),
    }.items():  # fmt: skip
        found = data.read(frame.assign(town=list(values) * 4), target="price", owner="town")
        assert found.agent_names == names
        assert [names[i] for i in found.owner[:3]] == [f"{value}".split(".")[0] for value in values]
    drawn = data.read(frame, target="price", owner="town", test=3, seed=1)
    rows = np.random.default_rng(1).permutation(12)[:9]
    assert [drawn.agent_names[i] for i in drawn.owner] == frame["town"][rows].tolist()


def test_regression_is_dealt_without_classes():
    found = data.read(houses(), target="price", features=["age"])
    by_price = data.partition(found, agents=3, by="label", seed=0)
    ends = [found.train_labels[by_price.owner == i] for i in range(3)]
    assert ends[0].max() <= ends[1].min() <= ends[1].max() <= ends[2].min()
    assert data.partition(found, agents=3, by="iid", seed=0).counts.tolist() == [[4], [4], [4]]
    with pytest.raises(InputError, match="dirichlet: deals by classes, which targets of regressi"):
        data.partition(found, agents=3, by="dirichlet", alpha=1.0, seed=0)


# --- files that others publish ------------------------------------------------------------------


def test_digits_as_a_table_are_the_digits_that_ship(tmp_path):
    images, labels = load_digits(return_X_y=True)
    table = np.column_stack([labels, images]).astype(int)
    names = ["label", *(f"pixel{i}" for i in range(64))]
    path = written(pd.DataFrame(table, columns=names), tmp_path / "digits.csv")
    wanted = data.load("digits", train=400, test=400, seed=3)
    same(data.read(path, train=400, test=400, seed=3), wanted)  # Kaggle's columns need no names
    same(data.read(path, target="label", scale="common", train=400, test=400, seed=3), wanted)


def _idx(path, array):
    sizes = b"".join(int(size).to_bytes(4, "big") for size in array.shape)
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes())


def test_torchvisions_and_keras_files_are_those_of_mnist(tmp_path):
    images, labels = RNG.integers(0, 256, (12, 28, 28)), np.arange(12) % 10
    raw, keras = tmp_path / "torch" / "MNIST" / "raw", tmp_path / "keras"
    raw.mkdir(parents=True)
    keras.mkdir()
    for part, rows in (("train", slice(8)), ("t10k", slice(8, None))):
        _idx(raw / f"{part}-images-idx3-ubyte", images[rows])
        _idx(raw / f"{part}-labels-idx1-ubyte", labels[rows])
    split = {"x_train": images[:8].astype("u1"), "y_train": labels[:8],
             "x_test": images[8:].astype("u1"), "y_test": labels[8:]}  # fmt: skip
    np.savez(keras / "mnist.npz", **split)
    load = lambda folder: data.load("mnist", train=7, test=4, seed=0, data_dir=folder)
    same(load(tmp_path / "torch"), load(keras))
    read = data.read(keras / "mnist.npz")
    flat = images.reshape(12, -1)
    centred = flat - flat[:8].mean(axis=0)
    assert np.allclose(read.test_inputs, centred[8:] / centred[:8].std(), atol=1e-5)
    assert (read.train_labels == labels[:8]).all() and read.test_labels.tolist() == [8, 9, 0, 1]
    same(data.read(split), read)


def _cifar(folder, protocol=2):
    """Two batches in the Python version's form, and the binary version of the same."""
    rows = RNG.integers(0, 256, (12, 3073)).astype(np.uint8)
    rows[:, 0] %= 10
    inside = folder / "cifar-10-batches-py"
    inside.mkdir(parents=True)
    for name, part in (("data_batch_1", rows[:8]), ("test_batch", rows[8:])):
        held = {b"batch_label": b"one", b"labels": part[:, 0].tolist(), b"data": part[:, 1:],
                b"filenames": [b"a.png"] * len(part)}  # fmt: skip
        (inside / name).write_bytes(pickle.dumps(held, protocol))
        (folder / f"{name}.bin").write_bytes(part.tobytes())
    return inside


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_cifars_python_version_is_the_binary_one(tmp_path, protocol):
    inside = _cifar(tmp_path, protocol)
    load = lambda folder: data.load("cifar-10", train=7, test=4, seed=0, data_dir=folder)
    same(load(inside), load(tmp_path))


class _Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class _Changes:
    """Changes what it has named when it is unpickled."""

    def __reduce__(self):
        return np.dtype, ("u1",), {"code": "O"}


PICKLES = {
    "runs": (lambda path: {"data": _Runs(path)}, "it asks for '(posix|nt).mkdir'"),
    "changes": (lambda path: {"data": _Changes()}, "'code'|KeyError|instruction|indices"),
    "objects": (lambda path: {"data": np.array([{}], object)}, "an array of object"),
    "a list": (lambda path: [1], "it holds list, no dictionary"),
    "a number of numpy's": (lambda path: {"a": np.float64(1)}, "it asks for 'numpy.*scalar'"),
    "a set": (lambda path: {"a": {1}}, "it asks for|it holds the instruction"),
    "a class": (lambda path: {"a": int}, "it asks for '.*(int|long)'"),
}


@pytest.mark.parametrize("held, message", PICKLES.values(), ids=PICKLES)
@pytest.mark.parametrize("protocol", [2, 4])
def test_nothing_in_a_pickle_is_run(held, message, protocol, tmp_path):
    path, made = tmp_path / "data_batch_1", tmp_path / "made"
    path.write_bytes(pickle.dumps(held(made), protocol))
    with pytest.raises(InputError, match=message):
        pickles.read("data_dir", path)
    assert not made.exists()


def test_pickles_that_lie_or_are_damaged_are_refused(tmp_path):
    path = tmp_path / "data_batch_1"
    whole = pickle.dumps({"data": np.arange(64, dtype="u1").reshape(4, 16), "labels": [1] * 4}, 2)
    right, bad, rng = None, 0, np.random.default_rng(0)
    for place in [None, *rng.integers(len(whole), size=300)]:
        changed = bytearray(whole)
        if place is not None:
            changed[place] ^= 1 << rng.integers(8)
        path.write_bytes(changed)
        try:
            found = pickles.read("data_dir", path)
        except InputError as error:
            bad += 1
            assert "nothing in it is run" in str(error)
        else:
            right = right or found
            assert all(not isinstance(each, pickles._Array) for each in found.values())
    assert bad > 100 and right["data"].tolist() == np.arange(64).reshape(4, 16).tolist()
    path.write_bytes(b"\x80\x02r\xff\xff\xff\xff.")  # remembers nothing under a huge number
    with pytest.raises(InputError, match="nothing in it is run"):
        pickles.read("data_dir", path)


# --- refusals -----------------------------------------------------------------------------------

BAD_TABLES = {
    "no file": (None, {"target": "y"}, "data: there is no file .*a.csv"),
    "ragged": ("x,y\n1,2.5\n3,4.5,5\n", {"target": "y"}, "is no table; .*Expected 2 .*line 3"),
    "wide": ("x,y\n1,2.5,1\n3,4.5,5\n", {"target": "y"}, "rows of .* have more fields than its"),
    "an index": (",x,y\n0,1,2.5\n1,3,4.5\n", {"target": "y"}, "column 0 has no name, as an index"),
    "short": ("x,y\n1,2.5\n3\n", {"target": "y"}, r"1 values are missing, in row 2 \('y'\); fill"),
    "missing": (
        "x,y\n1,2.5\n,4.5\nNA,3.5\n,1.5\n9,\n,8.5\n", {"target": "y"},
        r"5 values are missing, in row 2 \('x'\), row 3 \('x'\), row 4 \('x'\), row 5 \('y'\), \.",
    ),
    "mixed": ("x,y\n1,2.5\nb,4.5\n", {"target": "y"}, "column 'x' must hold numbers, got 'b' in r"),
    "text": ("x,y\na,2.5\nb,4.5\n", {"target": "y"}, "column 'x' must hold numbers, got 'a' in ro"),
    "a typing error": (
        "x,y\n1,2.5\n2,4.x\n3,5.5\n4,1.5\n", {"target": "y"},
        "column 'y' holds '4.x' in row 2 and numbers elsewhere; say task = .classification",
    ),
    "infinite": ("x,y\n1,2.5\ninf,4.5\n", {"target": "y"}, "must be|infinity"),
    "empty": ("", {"target": "y"}, "is no table"),
    "header only": ("x,y\n", {"target": "y"}, "a.csv holds no rows"),
    "no header": ("1,2.5\n3,4.5\n", {"target": "y"}, "the first line of .* holds numbers alone"),
    "twice": ("x,x,y\n1,2,3.5\n", {"target": "y"}, "two columns of .* are called 'x'"),
    "not text": (b"x,y\n\xff\xfe,1\n", {"target": "y"}, "a.csv must be text in UTF-8"),
    "no target": ("x,y\n1,2.5\n3,4.5\n", {}, r"target: must name the column .* \['x', 'y'\]"),
    "unknown target": ("x,price\n1,2.5\n3,4.5\n", {"target": "prize"}, "did you mean 'price'"),
    "unknown feature": ("x,y\n1,2.5\n3,4.5\n", {"target": "y", "features": ["z"]}, "feature colu"),
    "a number too many": ("x,y\n1,2.5\n", {"target": 2}, "no target column is called 2"),
    "two roles": ("x,y\n1,2.5\n", {"target": "y", "owner": "y"}, "'y' can be one of feature, tar"),
    "nothing to learn from": ("y\n2.5\n3.5\n", {"target": "y"}, "no column is left to learn from"),
    "one class": ("x,y\n1,a\n2,a\n", {"target": "y"}, r"'y' must have two classes or more, got"),
    "spaces": (
        "x,y,o\n1,1.5,a\n2,2.5,a \n", {"target": "y", "owner": "o"},
        "owner: 'a' and 'a ' differ in spaces alone",
    ),
    "text as numbers": (
        "x,y\n1,a\n2,b\n", {"target": "y", "task": "regression"}, "'y' must hold numbers, got 'a'"
    ),
    "huge": (f"x,y\n{'9' * 400},1.5\n1,2\n", {"target": "y"}, "hold numbers, got 99.* in row 1"),
    "columns without end": (
        ",".join(["1"] * (tables.MOST_COLUMNS + 1)), {"target": 0, "header": False},
        "has more than 65536 columns, too many to be read as text; save the array as .npy",
    ),
    "too many": ("x,y\n1,2.5\n2,3.5\n", {"target": "y", "train": 2, "test": 1}, "at most 2 toget"),
    "no share": ("x,y\n1,2.5\n2,3.5\n", {"target": "y", "test": 1.5}, "between 0 and 1, got 1.5"),
    "unknown scale": ("x,y\n1,2.5\n2,3.5\n", {"target": "y", "scale": "unit"}, "no scale is call"),
    "unknown task": ("x,y\n1,2.5\n2,3.5\n", {"target": "y", "task": "class"}, "did you mean 'clas"),
}  # fmt: skip


@pytest.mark.parametrize("text, asked, message", BAD_TABLES.values(), ids=BAD_TABLES)
def test_tables_that_cannot_be_used_are_refused(text, asked, message, tmp_path):
    path = tmp_path / "a.csv"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message):
        data.read(path, **asked)


def test_what_is_unpacked_is_weighed_as_it_comes(tmp_path, monkeypatch):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"x,y\n" + b"1,2\n" * 300_000))
    assert path.stat().st_size < 5_000
    monkeypatch.setattr(sizes, "free", lambda: 4e6)
    with pytest.raises(InputError, match=r"joining the 4.8 MB read of a.csv.gz so far takes"):
        data.read(path, target="y")


def test_whole_numbers_of_many_values_are_asked_about():
    frame = pd.DataFrame({"x": range(40), "y": range(0, 120, 3)})
    with pytest.raises(InputError, match='40 different values at 40 points; say task = "regress'):
        data.read(frame, target="y")
    assert data.read(frame, target="y", task="regression").classes is None
    assert data.read(frame, target="y", task="classification").classes == 40


@pytest.mark.usefixtures("types_unchecked")
def test_what_is_no_table_is_refused(tmp_path):
    np.save(tmp_path / "cube.npy", np.ones((2, 3, 4)))
    np.save(tmp_path / "none.npy", np.ones((0, 3)))
    for source, asked, message in [
        (tmp_path / "cube.npy", {"target": 2}, r"\(points, columns\), got shape \(2, 3, 4\)"),
        (tmp_path / "none.npy", {"target": 2}, r"\(points, columns\), got shape \(0, 3\)"),
        ("x" * 5000, {"target": 2}, "data: cannot read 'xxx.* ...; File name too long"),
        (3, {"target": "y"}, "must be the path of a file, a DataFrame or a dictionary .* got int"),
        (tmp_path / "a.pkl", {"target": "y"}, r"must end in .*; pickles are not read"),
        (
            tmp_path / "a.parquet",
            {"target": "y"},
            "needs pyarrow.* save the table as .csv|no table",
        ),
        ({"x": [[1.0]], "z": [1]}, {}, r"must hold arrays x and y, or .* got \['x', 'z'\]"),
        ({"x": [[1.0]], "y": [1, 2]}, {}, r"got \(1, 1\) and \(2,\)"),
        ({"x": [["a"]], "y": [1.5]}, {}, "x must be real numbers, got <U1"),
        ({"x": [[1.0], [2.0]], "y": [1, 2], "owner": [0]}, {}, r"one agent per point \(2,\), got"),
        ({"x": [[1.0], [2.0]], "y": [1, 2], "owner": [0, np.nan]}, {}, "owner: row 2 has no name"),
        ({"x": [[1.0], [2.0]], "y": [1, 2]}, {"target": "y"}, "name columns, which arrays have no"),
        (
            pd.DataFrame({"x": [1, 2], "y": ["a", 3]}),
            {"target": "y"},
            "'a' in row 1 and 3 in row 2",
        ),
        (houses(), {"target": "price", "owner": "town", "train": 2}, "owns none of the 2 training"),
        (houses(), {"target": "price", "owner": "town", "scale": np.ones(3)}, "no scale is called"),
        ({"x": [[1.0]], "y": [1]}, {"target": np.ones(3)}, "name columns, which arrays have none"),
    ]:
        if isinstance(source, os.PathLike) and not source.exists():
            source.write_bytes(b"PAR1 and so on")
        with pytest.raises(InputError, match=message):
            data.read(source, **asked)


# --- through a problem, and from a spec ----------------------------------------------------------


def test_several_targets_are_outputs():
    frame = houses().assign(rent=lambda each: each["price"] ** 0.5)
    asked = {"target": ["price", "rent"], "owner": "town", "test": 3}
    share = data.partition(data.read(frame, **asked), by="given")
    task = nd.Problem(nd.networks.mlp((4,), outputs=2), share, loss="huber").task
    assert task.labels is None and task.label_names == ("price", "rent")
    assert np.allclose(task.targets[:9].mean(axis=0), 0) and np.allclose(task.targets[:9].std(), 1)
    assert (task.targets[9:] == share.data.test_labels).all() and len(task.targets) == 12
    assert {type(each) for each in task.about.values()} == {str}  # read back as it was written
    assert len(json.loads(task.about["target_mean"])) == 2 and task.about["partition"] == "given"


def test_r2_as_it_is_defined():
    """Of one point it is not known."""
    y = np.array([[1.0, 0.0], [2.0, 3.0], [4.0, 2.0], [0.5, 1.0]])
    bare = nd.KernelProblem(
        np.eye(3), y[:3], [0, 1, 1], loss="huber", K_test=np.ones((1, 3)), y_test=y[3:]
    )
    record = nd.predict(bare, nd.methods.dgd(step_size=0.1), [[0.5, 0.5], [0.5, 0.5]], 2)
    missed = ((record["outputs"].values[-1, 1, 1:3] - y[1:3]) ** 2).sum()
    wanted = 1 - missed / ((y[1:3] - y[1:3].mean(axis=0)) ** 2).sum()
    assert np.isclose(record["train_r2"][-1, 1], wanted, rtol=1e-12)
    assert np.isnan(record["train_r2"][:, 0]).all() and np.isnan(record["test_r2"]).all()


def test_losses_of_classes_do_not_take_targets_of_regression():
    share = data.partition(data.read(houses(), target="price", owner="town"), by="given")
    with pytest.raises(InputError, match="loss cross_entropy: is for classes; .* need mse, huber"):
        nd.Problem(nd.networks.mlp((4,), outputs=1), share, loss="cross_entropy")
    with pytest.raises(InputError, match="has 2 outputs and the data 1 targets; they must agree"):
        nd.Problem(nd.networks.mlp((4,), outputs=2), share)


SPEC = """
[network]
widths = [6]
[data]
file = "houses.csv"
target = "price"
owner = "town"
test = 0.25
[graph]
topology = "ring"
[method]
name = "dgd"
step_size = 0.05
[run]
rounds = 2
"""


@pytest.fixture
def own(tmp_path):
    """A folder with a table and the spec beside it."""
    written(houses(), tmp_path / "houses.csv")
    (tmp_path / "spec.toml").write_text(SPEC, encoding="utf-8-sig")
    return tmp_path


def test_a_spec_finds_its_table_beside_it(own, monkeypatch):
    wanted = data.read(own / "houses.csv", target="price", owner="town", test=0.25)
    work = experiment.Experiment(experiment.load(own / "spec.toml"))
    same(work.partition.data, wanted)
    seeded = experiment.Experiment(experiment.with_seed(experiment.load(own / "spec.toml"), 0))
    same(seeded.partition.data, wanted)
    assert work.problem.task.about["dataset"] == "houses" and work.weights.agents == 3
    (own / "elsewhere").mkdir()
    (own / "houses.csv").rename(own / "elsewhere" / "houses.csv")
    spec = experiment.load(own / "spec.toml")
    same(experiment.Experiment(spec, own / "elsewhere").partition.data, wanted)


def test_given_points_and_huber_from_a_spec(own):
    written(houses(5), own / "later.csv")
    text = SPEC.replace("test = 0.25", 'test_file = "later.csv"\nscale = "none"')
    spec = experiment.parse('loss = "huber"\n' + text, "spec.toml").in_folder(own)
    found = experiment.Experiment(spec)
    assert found.partition.data.test_inputs[:, 0].tolist() == houses(5)["rooms"].tolist()
    assert found.problem.task.loss.name == "huber" and found.problem.task.agents == 3


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("houses.csv", "homes.csv", "data: there is no file .*homes.csv"),
        ('file = "houses.csv"', 'file = "houses.csv"\nname = "digits"', "give a name or a file, "),
        ('file = "houses.csv"', 'name = "digits"', "data.train must be given, as a number of po"),
        ("test = 0.25", "test = 0.25\npublic = 2", "beside public points, test must be a number"),
        ("test = 0.25", "test = 0.25\nscale = 'unit'", "data.scale: input should be 'standard'"),
        ("[graph]", '[partition]\nagents = 2\n[graph]', 'whose the points are, which by = "iid" w'),
        ('owner = "town"', 'features = ["rooms"]', "came without agents; name the column of their"),
    ],
)  # fmt: skip
def test_specs_of_files_that_fit_nothing(old, new, message, own, capsys):
    path = own / "spec.toml"
    path.write_text(SPEC.replace(old, new))
    with pytest.raises(SystemExit) as left:
        cli.app(["predict", str(path), "--out", str(own / "out")])
    said = " ".join(capsys.readouterr().err.split())
    assert left.value.code == 2
    with pytest.raises(InputError, match=message):
        raise InputError(said)


def test_a_name_takes_no_settings_of_files():
    text = SPEC.replace('file = "houses.csv"', "train = 20").replace("test = 0.25", "test = 4")
    with pytest.raises(InputError, match="owner goes with a file, not with a dataset by name"):
        _ = experiment.Experiment(experiment.parse(text, "spec.toml")).partition


def test_gzip_that_is_none_is_refused(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"x,y\n1,2.5\n2,3.5\n"))
    assert len(data.read(path, target="y").train_labels) == 2
    path.write_bytes(b"x,y\n1,2\n")
    with pytest.raises(InputError, match="cannot read|is no table"):
        data.read(path, target="y")


# --- further datasets by name -------------------------------------------------------------------


def idx(path, array):
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(head + array.astype(np.uint8).tobytes()))


@pytest.mark.parametrize(
    "name, inside, parts, least, upright",
    [
        ("kmnist", "KMNIST/raw", ("train", "t10k"), 0, False),
        ("emnist-letters", "EMNIST/raw", ("emnist-letters-train", "emnist-letters-test"), 1, True),
        ("emnist-balanced", "gzip", ("emnist-balanced-train", "emnist-balanced-test"), 0, True),
    ],
)
def test_images_of_the_mnist_family(name, inside, parts, least, upright, tmp_path):
    """As torchvision or their archive unpack them; EMNIST's lie on their side."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (n, 28, 28)) for n in (12, 6)]
    labels = [np.arange(n) % 9 + least for n in (12, 6)]
    for part, seen, said in zip(parts, images, labels, strict=True):
        idx(tmp_path / inside / f"{part}-images-idx3-ubyte.gz", seen)
        idx(tmp_path / inside / f"{part}-labels-idx1-ubyte.gz", said)
    found = data.load(name, train=18 - 2, test=2, seed=0, data_dir=tmp_path)
    drawn = np.random.default_rng(0).permutation(18)
    whole = np.concatenate(images)[drawn[:16]]
    whole = whole.transpose(0, 2, 1) if upright else whole
    flat = whole.reshape(16, -1) - whole.reshape(16, -1).mean(axis=0)
    np.testing.assert_allclose(found.train_inputs, flat / flat.std(), rtol=1e-5, atol=1e-6)
    assert (found.train_labels == np.concatenate(labels)[drawn[:16]] - least).all()
    idx(tmp_path / inside / f"{parts[0]}-labels-idx1-ubyte.gz", np.full(12, 200))
    with pytest.raises(InputError, match=f"{name} must have labels from 0 to .*, got 0 to "):
        data.load(name, train=16, test=2, seed=0, data_dir=tmp_path)


@pytest.mark.parametrize("version", ["binary", "python"])
def test_the_hundred_classes_of_cifar(version, tmp_path):
    rng, folder = np.random.default_rng(0), tmp_path / f"cifar-100-{version}"
    folder.mkdir()
    counts = {"train": 9, "test": 5}
    tables = {part: rng.integers(0, 256, (n, 3072)).astype("u1") for part, n in counts.items()}
    fine = {part: rng.integers(0, 100, n) for part, n in counts.items()}
    for part, rows in tables.items():
        if version == "python":
            held = {b"data": rows, b"fine_labels": fine[part].tolist(), b"batch_label": b"one"}
            (folder / part).write_bytes(pickle.dumps(held, protocol=2))
        else:
            whole = np.column_stack([fine[part] % 20, fine[part], rows]).astype("u1")
            (folder / f"{part}.bin").write_bytes(whole.tobytes())
    found = data.load("cifar-100", train=11, test=3, seed=1, data_dir=tmp_path)
    drawn = np.random.default_rng(1).permutation(14)[:11]
    assert (found.train_labels == np.concatenate([*fine.values()])[drawn]).all()
    pixels = np.concatenate([*tables.values()])[drawn].reshape(11, 3, 32, 32).transpose(0, 2, 3, 1)
    centred = pixels.reshape(11, -1) - pixels.reshape(11, -1).mean(axis=0)
    np.testing.assert_allclose(found.train_inputs, centred / centred.std(), rtol=1e-5, atol=1e-6)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="data_dir: .*cifar-100.* must"):
        data.load("cifar-100", train=11, test=3, seed=1, data_dir=tmp_path)
