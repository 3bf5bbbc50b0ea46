"""Datasets, partitions and batches."""

import functools
import gzip
import hashlib
import http.server
import io
import os
import re
import shutil
import tarfile
import threading
import tracemalloc
import zipfile

import jax
import numpy as np
import pooch
import pytest
from cases import small_data

from ntkdyn import data, sizes
from ntkdyn.data import datasets, partitions, published
from ntkdyn.errors import InputError


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", train=400, test=100, seed=0)


def test_digits_are_normalised_by_training_statistics(digits):
    assert digits.train_inputs.shape == (400, 64) and digits.test_inputs.shape == (100, 64)
    assert np.abs(digits.train_inputs.mean(axis=0)).max() < 1e-5
    assert abs(digits.train_inputs.std() - 1) < 1e-5
    assert np.abs(digits.test_inputs.mean(axis=0)).max() > 1e-3
    assert set(digits.train_labels) == set(range(10)) and digits.classes == 10


def test_draws_are_disjoint_and_repeat(digits):
    again = data.load("digits", train=400, test=100, seed=0)
    other = data.load("digits", train=400, test=100, seed=1)
    assert (again.train_inputs == digits.train_inputs).all()
    assert (other.train_labels != digits.train_labels).any()
    whole = data.load("digits", train=1000, test=797, seed=0)
    assert len(np.unique(np.concatenate([whole.train_inputs, whole.test_inputs]), axis=0)) == 1797


def test_iid_deals_evenly(digits):
    dealt = data.partition(digits, agents=7, by="iid", seed=0)
    counts = dealt.counts
    assert counts.sum() == 400 and np.ptp(counts.sum(axis=1)) <= 1
    assert (counts > 0).mean() > 0.9


def test_label_gives_each_agent_few_classes(digits):
    counts = data.partition(digits, agents=8, by="label", seed=0).counts
    assert np.ptp(counts.sum(axis=1)) == 0
    assert (counts > 0).sum(axis=1).max() <= 3


def test_dirichlet_is_more_unequal_for_smaller_alpha(digits):
    def classes_held(alpha):
        tables = [
            data.partition(digits, agents=8, by="dirichlet", alpha=alpha, seed=s).counts
            for s in range(5)
        ]
        return np.mean([(table > 2).sum(axis=1).mean() for table in tables])

    assert classes_held(0.1) + 1 < classes_held(1.0) < classes_held(100.0)


def test_dirichlet_leaves_everybody_enough(digits):
    dealt = data.partition(digits, agents=8, by="dirichlet", alpha=0.3, min_points=32, seed=0)
    assert dealt.counts.sum(axis=1).min() >= 32 and dealt.counts.sum() == 400
    again = data.partition(digits, agents=8, by="dirichlet", alpha=0.3, min_points=32, seed=0)
    assert (again.owner == dealt.owner).all()


def test_groups_are_drawn_apart_and_cut_equally():
    """Each ten have half of every class, however unequal they are among themselves."""
    many = data.load("digits", train=1205, test=1, seed=0)
    apart = {}
    for by in ("dirichlet", "dirichlet_groups"):
        counts = data.partition(many, agents=20, by=by, alpha=0.1, seed=2).counts
        apart[by] = np.abs(counts[:10].sum(axis=0) / counts.sum(axis=0) - 0.5).max()
        assert (counts > 12).sum(axis=1).mean() < 3.5
    assert np.ptp(counts.sum(axis=1)) == 1 and counts.sum() == 1205
    assert apart["dirichlet_groups"] < 0.2 < 0.35 < apart["dirichlet"]


def _groups_as_the_authors_deal(labels, agents, alpha, rng):
    """Lists of points that grow class by class, laid end to end and cut into equal chunks."""
    points, laid, start = rng.permutation(len(labels)), [], 0
    for first in range(0, agents, 10):
        members = min(10, agents - first)
        stop = len(labels) if first + 10 >= agents else start + int(10 / agents * len(labels))
        mine, start = points[start:stop], stop
        held = [[]]
        while min(map(len, held)) < int(0.5 * len(mine) / members):
            held = [[] for _ in range(members)]
            for label in range(10):
                own = mine[labels[mine] == label]
                share = rng.dirichlet(np.repeat(alpha, members))
                share = share * [len(each) < len(mine) / members for each in held]
                cuts = (np.cumsum(share / share.sum()) * len(own)).astype(int)[:-1]
                for each, part in zip(held, np.split(own, cuts), strict=True):
                    each.extend(part)
        laid += held
    return np.array_split(np.concatenate(laid), agents)


def test_groups_are_as_unequal_as_the_authors():
    """Classes per agent, 16 agents at alpha = 0.1: 4.90 of theirs, 5.63 were points shuffled."""
    labels = np.random.default_rng(5).integers(0, 10, 2000)
    points = np.zeros((2000, 1), np.float32)
    many = data.Dataset("many", points, labels, points[:1], labels[:1], 10, "none")
    theirs, ours = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        chunks = _groups_as_the_authors_deal(labels, 16, 0.1, rng)
        theirs.append(np.mean([len(np.unique(labels[chunk])) for chunk in chunks]))
        dealt = data.partition(many, agents=16, by="dirichlet_groups", alpha=0.1, seed=seed)
        ours.append((dealt.counts > 0).sum(axis=1).mean())
    error = np.hypot(*(np.std(each, ddof=1) / np.sqrt(30) for each in (theirs, ours)))
    assert error < 0.1 and abs(np.mean(ours) - np.mean(theirs)) < 2.5 * error


def test_the_last_group_gets_the_remainder(digits):
    dealt = data.partition(digits, agents=12, by="dirichlet_groups", alpha=1.0, seed=0)
    assert np.ptp(dealt.counts.sum(axis=1)) <= 1
    assert len(np.unique(dealt.owner)) == 12


@pytest.mark.parametrize("agents", [4, 10, 20])
def test_classes_go_round_the_agents(digits, agents):
    dealt = data.partition(digits, agents=agents, by="classes", seed=0)
    smallest = np.bincount(digits.train_labels).min()
    counts = dealt.counts
    assert (counts.sum(axis=0) == smallest).all()
    for agent, label in np.ndindex(agents, 10):
        belongs = label % agents == agent if agents <= 10 else agent % 10 == label
        assert (counts[agent, label] > 0) == belongs
    assert np.ptp(counts[counts > 0]) <= 1
    known = {row.tobytes() for row in digits.train_inputs}
    assert all(row.tobytes() in known for row in dealt.data.train_inputs)
    assert len(dealt.data.train_labels) == len(dealt.owner) == 10 * smallest


def test_primary_labels_draw_more_points():
    labels = np.arange(60_000) % 6
    points = np.zeros((len(labels), 1), np.float32)
    many = data.Dataset("many", points, labels, points[:1], labels[:1], 6, "none")
    deal = lambda skew: (
        data.partition(many, agents=5, by="primary", primary_labels=2, skew=skew, seed=0).counts
    )
    assert np.abs(deal(0.0) - 2000).max() < 5 * np.sqrt(2000), "no skew is iid"
    counts = deal(3.0)
    primary = counts > np.sqrt(counts.max(axis=0) * counts.min(axis=0))
    wanted = np.where(primary, 4, 1) / np.where(primary, 4, 1).sum(axis=0)
    assert (primary.sum(axis=1) == 2).all() and np.abs(counts / 10_000 - wanted).max() < 0.02
    assert ((deal(1e12) > 0) == primary).all(), "all skew: nobody has what is primary elsewhere"


def test_full_batches_hold_every_point_once():
    owner = np.array([2, 0, 1, 0, 2, 2])
    rows, weights = data.full(owner, 3).at(5)
    for agent in range(3):
        used = rows[agent][weights[agent] > 0]
        assert sorted(used) == np.flatnonzero(owner == agent).tolist()
        assert np.isclose(weights[agent].sum(), 1)


def test_minibatches_are_drawn_from_ones_own_points_and_repeat():
    owner = np.repeat([0, 1, 2], [2, 5, 9])
    batches = data.minibatches(owner, 3, 4, key=jax.random.key(0))
    seen = set()
    for round in range(40):
        rows, weights = map(np.asarray, batches.at(round))
        for agent in range(3):
            used = rows[agent][weights[agent] > 0]
            assert len(set(used)) == len(used) == min(4, (owner == agent).sum())
            assert (owner[used] == agent).all()
            assert np.isclose(weights[agent].sum(), 1)
            seen |= set(used.tolist())
        same = data.minibatches(owner, 3, 4, key=jax.random.key(0)).at(round)
        assert (np.asarray(same.rows) == rows).all()
    assert seen == set(range(16))


def refused(message, call, *args, **kwargs):
    with pytest.raises(InputError, match=message):
        call(*args, **kwargs)


def test_refusals(digits, monkeypatch):
    refused("did you mean 'digits'", data.load, "digit", train=1, test=1, seed=0)
    refused("at most 1797 together", data.load, "digits", train=1797, test=1, seed=0)
    deal = data.partition
    refused("did you mean 'dirichlet'", deal, digits, agents=4, by="dirichlett", alpha=1.0, seed=0)
    refused(
        "alpha must be a positive number, got None", deal, digits, agents=4, by="dirichlet", seed=0
    )
    refused("alpha must be left out", deal, digits, agents=4, by="iid", alpha=1.0, seed=0)
    refused(
        "401 agents with at least 1 points each need as many training points, got 400",
        deal, digits, agents=401, by="iid", seed=0,
    )  # fmt: skip
    refused(
        "lower min_points, raise alpha",
        deal, digits, agents=8, by="dirichlet", alpha=0.01, min_points=49, seed=0,
    )  # fmt: skip
    refused("alpha must be left out", deal, digits, agents=4, by="classes", alpha=1.0, seed=0)
    refused("groups: alpha must be", deal, digits, agents=4, by="dirichlet_groups", seed=0)
    with monkeypatch.context() as patched:
        patched.setattr(partitions, "DRAWS", 1)
        few = {"agents": 7, "by": "dirichlet_groups", "alpha": 1e-3, "seed": 0}
        refused("1 draws left an agent with fewer than 1 points", deal, small_data(), **few)
    refused("multiple of them, got 12", deal, digits, agents=12, by="classes", seed=0)
    refused("needs 39 training points", deal, digits, agents=390, by="classes", seed=0)
    primary = {"agents": 4, "by": "primary", "seed": 0}
    refused("primary_labels must be a whole", deal, digits, **primary, skew=1.0)
    refused("to 10, the classes, got 11", deal, digits, **primary, primary_labels=11, skew=1.0)
    refused("skew must be a number from 0", deal, digits, **primary, primary_labels=2, skew=-1.0)
    refused("skew must be left out", deal, digits, agents=4, by="iid", skew=1.0, seed=0)
    primary |= {"agents": 40, "primary_labels": 1, "min_points": 10}
    refused("min_points is 10, an agent gets", deal, digits, **primary, skew=1e9)
    refused("need as many", deal, digits, agents=7, by="iid", min_points=58, seed=0)
    small = small_data()
    owner = np.zeros(14, dtype=int)
    refused("agent 1 owns no point", data.Partition, small, owner, 2, "given")
    refused("from 0 to 0, got 0 to 1", data.Partition, small, owner + np.arange(14) % 2, 1, "given")
    refused("one agent per training point", data.Partition, small, owner[:3], 1, "given")
    inputs = small.train_inputs.copy()
    inputs[3, 1] = np.nan
    labels = small.train_labels
    make = lambda x, y, classes=2: data.Dataset(
        "bad", x, y, small.test_inputs, small.test_labels, classes, ""
    )
    refused("point 3 holds NaN", make, inputs, labels)
    refused("one per point", make, small.train_inputs, labels[:-1])
    refused("from 0 to 0, got 0 to 1", make, small.train_inputs, labels, 1)
    refused("at least one point", make, small.train_inputs[:0], labels[:0])
    refused(
        "batch size: must be a whole number from 1 on, got 0",
        data.minibatches,
        owner,
        1,
        0,
        key=jax.random.key(0),
    )


@pytest.mark.usefixtures("types_unchecked")
def test_settings_that_are_no_whole_numbers_are_refused(digits):
    for setting, value, wanted in [
        ("agents", 0, "from 1 on, got 0"),
        ("agents", 2.0, "from 1 on, got 2.0"),
        ("agents", True, "from 1 on, got True"),
        ("min_points", -1, "from 0 on, got -1"),
        ("min_points", "a", "from 0 on, got 'a'"),
        ("seed", -1, "from 0 on, got -1"),
        ("seed", "a", "from 0 on, got 'a'"),
        ("seed", 2**70, "from 0 to 9223372036854775807, got 11805"),
    ]:
        settings = {"agents": 4, "seed": 0} | {setting: value}
        refused(f"partition: {setting} must be a .* {wanted}", data.partition, digits, **settings)
        if setting == "seed":
            message = f"dataset digits: seed must be a whole number {wanted}"
            refused(message, data.load, "digits", train=2, test=2, seed=value)
    for train, test, message in [
        (0, 1, "train must be a whole number from 1 on, got 0"),
        (2.5, 1, "train must be a whole number from 1 on, got 2.5"),
        (2, "a", "test must be a whole number from 1 on, got 'a'"),
        (1, 1, "standard deviation of the 1 .* finite, got 0, for they are all the same"),
    ]:
        refused(message, data.load, "digits", train=train, test=test, seed=0)
    points, labels = np.zeros((3, 2)), np.array([0, 1, 1])
    for inputs, numbered, message in [
        (points.astype(complex), labels, "train_inputs: must be real numbers, got complex128"),
        (points.astype(str), labels, "train_inputs: must be real numbers, got <U"),
        (points, labels + 0.7, "train_labels: must be integers, got float64"),
        (points, labels > 0, "train_labels: must be integers, got bool"),
    ]:
        refused(message, data.Dataset, "bad", inputs, numbered, points, labels, 2, "none")


@pytest.mark.usefixtures("types_unchecked")
def test_points_and_labels_of_any_plain_form_are_taken_or_refused():
    points, labels = np.arange(6.0).reshape(3, 2), [0, 1, 1]
    make = lambda x=points, y=labels, x_=points, y_=labels, classes=2: data.Dataset(
        "any", x, y, x_, y_, classes, "none"
    )
    wanted = make()
    for same in (
        make(points.tolist(), np.array(labels)[:, None]),
        make(y_=tuple(labels), classes=np.int64(2)),
    ):
        assert (same.train_inputs == points).all() and type(same.classes) is int
        assert (same.train_labels == wanted.train_labels).all() and same.test_labels.shape == (3,)
    dealt = data.Partition(wanted, [0, 1, 1], 2, "given")
    assert dealt.counts.tolist() == [[1, 0], [0, 2]] and dealt.owner.dtype.kind == "i"
    for bad, message in [
        ({"x_": points[:, :1]}, r"test_inputs: must have the shape .*, \(2,\), got \(1,\)"),
        ({"x": points[:, 0]}, r"train_inputs: must be \(points, \*features\), got shape \(3,\)"),
        ({"y": np.eye(3)}, r"train_labels: must be one per point .* got shape \(3, 3\)"),
        ({"y": 1}, r"train_labels: must be one per point .* got shape \(\)"),
        ({"x": None}, r"train_inputs: must be \(points"),
        ({"x": np.ma.masked_array(points)}, "train_inputs: .* got a masked one"),
        ({"y": ["a", "b", "c"]}, "train_labels: must be integers, got <U1"),
        ({"classes": 2.0}, "classes must be a whole number from 1 on, got 2.0"),
    ]:
        refused(message, make, **bad)
    refused("owner: agent 1 owns no point", data.Partition, wanted, [0, 2, 2], 10**10, "given")


def _idx_file(path, array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wb") as file:
        file.write(header + array.astype(np.uint8).tobytes())


def test_images_from_files(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (30, 28, 28)), np.arange(30) % 10
    for part, rows, end in (("train", slice(20), ""), ("t10k", slice(20, None), ".gz")):
        _idx_file(tmp_path / f"{part}-images-idx3-ubyte{end}", images[rows])
        _idx_file(tmp_path / f"{part}-labels-idx1-ubyte{end}", labels[rows])
    loaded = data.load("mnist", train=25, test=5, seed=0, data_dir=tmp_path)
    drawn = np.random.default_rng(0).permutation(30)
    assert (loaded.train_labels == labels[drawn[:25]]).all()
    flat = images.reshape(30, -1)[drawn]
    centred = flat - flat[:25].mean(axis=0)
    assert np.allclose(loaded.test_inputs, (centred / centred[:25].std())[25:], atol=1e-5)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"no labels")
    with pytest.raises(InputError, match="train-labels-idx1-ubyte must begin with 0 0 8 1"):
        data.load("mnist", train=2, test=2, seed=0, data_dir=tmp_path)
    with pytest.raises(InputError, match="holds no binary batches of CIFAR-10: data_batch_1"):
        data.load("cifar-10", train=2, test=2, seed=0, data_dir=tmp_path)


def test_photographs_have_their_channels_last(tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (12, 3073)).astype(np.uint8)
    rows[:, 0] = np.arange(12) % 10
    (tmp_path / "data_batch_1.bin").write_bytes(rows[:8].tobytes())
    (tmp_path / "test_batch.bin").write_bytes(rows[8:].tobytes())
    for other in ("my_data_batch_1.bin", "data_batch_1.bin.bak", "data_batch_6.bin"):
        (tmp_path / other).write_bytes(rows.tobytes())
    loaded = data.load("cifar-10", train=9, test=3, seed=1, data_dir=tmp_path)
    first = np.random.default_rng(1).permutation(12)[0]
    assert loaded.train_labels[0] == rows[first, 0]
    image = rows[:, 1:].reshape(12, 3, 32, 32)
    drawn = np.random.default_rng(1).permutation(12)[:9]
    pixel = image[drawn, 2, 5, 7].astype(float)
    seen = loaded.train_inputs.reshape(9, 32, 32, 3)[:, 5, 7, 2]
    assert np.isclose(np.corrcoef(pixel, seen)[0, 1], 1)


def _mnist(folder):
    """A whole, small MNIST: its images."""
    images = np.random.default_rng(0).integers(0, 256, (12, 28, 28))
    for part, rows in (("train", slice(8)), ("t10k", slice(8, None))):
        _idx_file(folder / f"{part}-images-idx3-ubyte.gz", images[rows])
        _idx_file(folder / f"{part}-labels-idx1-ubyte", np.arange(12)[rows] % 10)
    return images


def _damaged(path, change):
    path.write_bytes(bytes(change(bytearray(path.read_bytes()))))


def _flipped(content):
    content[len(content) // 2] ^= 0xFF
    return content


def _flipped_bytes(content):
    return bytes(_flipped(bytearray(content)))


LABELS, IMAGES = "train-labels-idx1-ubyte", "train-images-idx3-ubyte.gz"

BAD_IDX = {
    "truncated": (LABELS, lambda c: c[:-3], f"{LABELS} is truncated: 16 bytes are exp.*, got 13"),
    "header only": (LABELS, lambda c: c[:6], f"{LABELS} is truncated"),
    "empty": (LABELS, lambda c: c[:0], f"{LABELS} must begin with 0 0 8 1"),
    "too long": (
        LABELS,
        lambda c: c + b"\0",
        f"{LABELS} is too long: 16 bytes are exp.*, got more",
    ),
    "wrong magic": (LABELS, lambda c: c[:3] + b"\3" + c[4:], f"{LABELS} must.*, got 0 0 8 3"),
    "truncated gzip": (IMAGES, lambda c: c[:-20], f"{IMAGES} is damaged or unreadable"),
    "tampered gzip": (IMAGES, _flipped, f"{IMAGES} is damaged or unreadable"),
    "no gzip": (IMAGES, lambda c: b"hello", f"{IMAGES} is damaged or unreadable"),
    "label": (
        LABELS,
        lambda c: c[:-1] + b"\x0b",
        "mnist must have labels from 0 to 9, got 0 to 11",
    ),
}


@pytest.mark.parametrize("name, change, message", BAD_IDX.values(), ids=BAD_IDX)
def test_damaged_images_are_refused_by_name(name, change, message, tmp_path, monkeypatch):
    monkeypatch.setattr(sizes, "free", lambda: 1e9)
    _mnist(tmp_path)
    _damaged(tmp_path / name, change)
    refused(message, data.load, "mnist", train=2, test=2, seed=0, data_dir=tmp_path)


def test_images_of_the_wrong_shape_or_number_and_changed_ones_are_refused(tmp_path, monkeypatch):
    images = _mnist(tmp_path)
    load = lambda: data.load("mnist", train=2, test=2, seed=0, data_dir=tmp_path)
    for wrong, said in ((images[:8, :27], "8x27x28"), (images[:7], "7x28x28")):
        _idx_file(tmp_path / IMAGES, wrong)
        refused(f"the train images in .* must be 8 of 28x28, .* got {said}", load)
    _mnist(tmp_path)
    size = len((tmp_path / LABELS).read_bytes())
    right = hashlib.sha256((tmp_path / LABELS).read_bytes()).hexdigest()
    monkeypatch.setitem(published.IDX, ("mnist", LABELS), (size, right))
    load()
    _damaged(tmp_path / LABELS, lambda c: c[:-1] + b"\1")
    refused(f"{LABELS} is not mnist's: it was changed, or is of another dataset", load)


def test_the_data_folder_is_found_in_the_environment(tmp_path, monkeypatch):
    (tmp_path / "mnist").mkdir()
    _mnist(tmp_path / "mnist")
    monkeypatch.setenv("NTKDYN_DATA", str(tmp_path))
    assert data.load("mnist", train=7, test=5, seed=0).train_inputs.shape == (7, 784)
    monkeypatch.setenv("NTKDYN_DATA", str(tmp_path / "none"))
    refused("NTKDYN_DATA must name it, got .*none", data.load, "mnist", train=1, test=1, seed=0)


class Published:
    """A server of published files on this machine, and the cache they are downloaded to."""

    def __init__(self, cache):
        self.files, self.asked, self.cache = {}, [], cache
        self.answers = []
        """(status, change of the content) of the next answers; afterwards 200 and unchanged"""

    def handler(self):
        published = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.rsplit("/")[-1]
                published.asked.append(name)
                status, change = published.answers.pop(0) if published.answers else (200, bytes)
                content = published.files[name]
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(change(content))

            def log_message(self, *_):
                pass

        return Handler


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.delenv("NTKDYN_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)
    pooch.get_logger().setLevel("WARNING")
    made = Published(tmp_path / "cache")
    monkeypatch.setattr(published, "cache", lambda: made.cache)
    with http.server.HTTPServer(("127.0.0.1", 0), made.handler()) as listening:
        address = f"http://127.0.0.1:{listening.server_address[1]}/"
        for name in published.ADDRESSES:
            monkeypatch.setitem(published.ADDRESSES, name, address)
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield made
        listening.shutdown()
        thread.join()


def _unpacked(folder, name):
    plain = folder / name
    return plain.read_bytes() if plain.is_file() else gzip.open(f"{plain}.gz").read()


@pytest.fixture
def images(server, tmp_path, monkeypatch):
    """A small MNIST on the server, under its own SHA-256."""
    folder = tmp_path / "original"
    folder.mkdir()
    _mnist(folder)
    for dataset, name in published.IDX:
        content = _unpacked(folder, name)
        digest = hashlib.sha256(content).hexdigest()
        monkeypatch.setitem(published.IDX, (dataset, name), (len(content), digest))
        server.files[f"{name}.gz"] = gzip.compress(content, mtime=1)
    wanted = data.load("mnist", train=8, test=4, seed=0, data_dir=folder)
    return server, wanted.train_inputs


mnist = functools.partial(data.load, "mnist", train=8, test=4, seed=0)


@pytest.mark.parametrize("named", [None, ""], ids=["unset", "empty"])
def test_published_files_are_downloaded_once(images, named, monkeypatch):
    server, wanted = images
    if named is not None:
        monkeypatch.setenv("NTKDYN_DATA", named)
    assert (mnist().train_inputs == wanted).all() and sorted(server.asked) == sorted(server.files)
    assert (mnist().train_inputs == wanted).all() and len(server.asked) == 4, "cached"
    (server.cache / "mnist" / LABELS).write_bytes(b"damaged in the cache")
    assert (mnist().train_inputs == wanted).all() and server.asked[4:] == [f"{LABELS}.gz"]


FAILURES = {
    "404": ((404, bytes), "the server answered 404 Not Found"),
    "truncated": ((200, lambda c: c[: len(c) // 2]), "there is no connection, or it broke off"),
    "tampered": ((200, _flipped_bytes), "what came is not the published file, by its SHA-256"),
    "another file": (
        (200, lambda c: gzip.compress(bytes(50)).ljust(len(c), b"\0")[: len(c)]),
        "what came is not the published file, by its SHA-256",
    ),
}


@pytest.mark.parametrize("answer, reason", FAILURES.values(), ids=FAILURES)
def test_failed_downloads_are_tried_again_and_then_refused(answer, reason, images):
    server, wanted = images
    server.answers = [answer] * 3
    with pytest.raises(InputError) as refusal:
        mnist()
    assert len(server.asked) == 3 and reason in str(refusal.value)
    assert re.match(r"data: mnist cannot be downloaded from http.*NTKDYN_DATA$", str(refusal.value))
    assert not list((server.cache / "mnist").iterdir()), "nothing half-written stays"
    server.answers = [answer] * 2
    assert (mnist().train_inputs == wanted).all(), "the third attempt succeeds"


def test_a_download_has_an_end_and_what_it_unpacks_to_a_size(images, monkeypatch):
    server, wanted = images
    with monkeypatch.context() as patch:
        patch.setattr(published, "SECONDS", -1)
        refused("mnist cannot be downloaded .*it took longer than", mnist)
        patch.setattr(published, "SECONDS", 60)
        patch.setattr(published, "LARGEST", 10)
        server.asked.clear()
        refused("mnist cannot be downloaded .*not the published file", mnist)
        assert len(server.asked) == 3
    right = server.files[f"{LABELS}.gz"]
    server.files[f"{LABELS}.gz"] = gzip.compress(bytes(10**8))
    tracemalloc.start()
    refused("mnist cannot be downloaded .*not the published file", mnist)
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()
    server.files[f"{LABELS}.gz"] = right
    assert (mnist().train_inputs == wanted).all()


def test_without_a_network_or_a_cache_the_refusal_is_one_sentence(images, monkeypatch, tmp_path):
    server, wanted = images
    mnist()
    monkeypatch.setitem(published.ADDRESSES, "mnist", "http://127.0.0.1:1/")
    assert (mnist().train_inputs == wanted).all(), "what is in the cache needs no network"
    server.cache = tmp_path / "empty"
    refused(r"from http://127.0.0.1:1/ \(there is no connection, .*name their folder by", mnist)
    (tmp_path / "file").touch()
    server.cache = tmp_path / "file"
    refused(r"cannot be downloaded from .*Not a directory", mnist)
    refused("usps is not downloaded", data.load, "usps", train=1, test=1, seed=0)


def test_an_archive_is_downloaded_and_unpacked_whole(server, monkeypatch):
    rows = np.random.default_rng(0).integers(0, 256, (12, 3073)).astype(np.uint8)
    rows[:, 0] %= 10
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, part in (("data_batch_1.bin", rows[:8]), ("test_batch.bin", rows[8:])):
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.size = part.nbytes
            archive.addfile(entry, io.BytesIO(part.tobytes()))
    name, inside, _ = published.ARCHIVES["cifar-10"]
    server.files[name] = packed.getvalue()
    digest = hashlib.sha256(packed.getvalue()).hexdigest()
    monkeypatch.setitem(published.ARCHIVES, "cifar-10", (name, inside, digest))
    load = lambda: data.load("cifar-10", train=8, test=4, seed=0).train_labels
    wanted = rows[np.random.default_rng(0).permutation(12)[:8], 0]
    assert (load() == wanted).all()
    shutil.rmtree(server.cache / "cifar-10" / inside)
    assert (load() == wanted).all() and len(server.asked) == 1, "unpacked again, not downloaded"
    assert {path.name for path in (server.cache / "cifar-10").iterdir()} == {name, inside}
    (server.cache / "cifar-10" / name).write_bytes(b"damaged")
    server.answers = [(200, _flipped_bytes)] * 3
    refused("cifar-10 cannot be downloaded .*SHA-256", load)


@pytest.mark.skipif(not os.environ.get("NTKDYN_DATA"), reason="NTKDYN_DATA names no real data")
def test_the_real_files_have_the_published_digests():
    for dataset in ("mnist", "fashion-mnist"):
        folder = datasets._folder(dataset, None)
        for owner, name in published.IDX:
            if owner == dataset:
                content = _unpacked(folder, name)
                size, digest = published.IDX[owner, name]
                assert (len(content), hashlib.sha256(content).hexdigest()) == (size, digest)


def test_usps_and_its_damaged_files(tmp_path):
    path = tmp_path / "usps.npz"
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (9, 16, 16), dtype=np.uint8), np.arange(9)
    parts = {"x_train": images[:6], "y_train": labels[:6], "x_test": images[6:]}
    load = lambda: data.load("usps", train=5, test=4, seed=0, data_dir=tmp_path)
    refused("holds no usps.npz", load)
    np.savez(path, **parts)
    refused("must hold x_, y_train and x_, y_test; .*y_test", load)
    np.savez(path, **parts, y_test=labels[6:])
    drawn = np.random.default_rng(0).permutation(9)
    assert (load().test_labels == drawn[5:]).all()
    flat = images.reshape(9, -1)[drawn].astype(float)
    centred = flat - flat[:5].mean(axis=0)
    assert np.allclose(load().test_inputs, (centred / centred[:5].std())[5:], atol=1e-5)
    whole = path.read_bytes()
    for damage in (lambda c: c[:-40], _flipped, lambda c: b"", lambda c: b"no zip"):
        path.write_bytes(bytes(damage(bytearray(whole))))
        refused("usps.npz is damaged or no .npz of plain arrays", load)
    np.savez(path, **parts, y_test=np.array([{}, 1, 2], dtype=object))
    refused("usps.npz is damaged or no .npz of plain arrays; Object arrays", load)
    np.savez(path, **parts, y_test=labels[5:])
    refused(r"must hold test images .n, 16, 16. .* got \(3, 16, 16\) and \(4,\)", load)


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("y_test", lambda y: y + 0.7, "usps.npz: y_test: must be integers, got float64"),
        ("y_test", lambda y: y > 6, "usps.npz: y_test: must be integers, got bool"),
        ("y_train", lambda y: y.astype(str), "usps.npz: y_train: must be integers, got <U"),
        ("x_test", lambda x: x + 0j, "usps.npz: x_test: must be real numbers, got complex128"),
        ("x_train", lambda x: x.astype(str), "usps.npz: x_train: must be real numbers, got <U"),
        ("x_train", lambda x: x[0, 0, 0], r"must hold train images .* got \(\) and \(6,\)"),
        ("x_test", lambda x: np.where(x == x.max(), np.nan, x), "x_test: point . holds NaN"),
        (
            "x_train",
            lambda x: x * 1e300,
            "standard deviation .* positive and finite, got (inf|nan)",
        ),
        ("x_train", lambda x: x * 0, "positive and finite, got 0, for they are all the same"),
        ("y_train", lambda y: y * 0 + 6, r"usps must have two classes or more, got \[6\]"),
    ],
)
def test_arrays_that_are_no_images_or_labels_are_refused(name, change, message, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (7, 16, 16))
    parts = {"x_train": images[:6], "y_train": np.arange(6), "x_test": images[6:], "y_test": [6]}
    np.savez(tmp_path / "usps.npz", **parts | {name: change(np.asarray(parts[name]))})
    refused(message, data.load, "usps", train=4, test=1, seed=4, data_dir=tmp_path)


def test_files_that_unpack_to_more_than_they_say_are_not_read_to_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(sizes, "free", lambda: 1e6)
    _mnist(tmp_path)
    image = tmp_path / IMAGES.removesuffix(".gz")
    head = bytes([0, 0, 8, 3])
    four = b"".join(each.to_bytes(4, "big") for each in (2**31, 2**31, 4))
    load = lambda name: data.load(name, train=2, test=2, seed=0, data_dir=tmp_path)
    image.write_bytes(head + four)
    refused(r"says it holds, \[2147483648, 2147483648, 4\], takes about 18.4 EB", load, "mnist")
    honest = head + b"".join(each.to_bytes(4, "big") for each in (8, 28, 28))
    with image.open("wb") as file:
        file.write(honest)
        file.truncate(10**12)  # holes: they take no room on the disk
    refused(f"{image.name} is too long: 6288 bytes are expected, got more", load, "mnist")
    image.unlink()
    with gzip.open(f"{image}.gz", "wb", 1) as file:
        file.write(honest + bytes(10**8))
    refused(f"{IMAGES} is too long: 6288 bytes are expected, got more", load, "mnist")
    monkeypatch.setattr(datasets, "BATCHES", (("data_batch_1.bin",), 3073))
    with gzip.open(tmp_path / "data_batch_1.bin.gz", "wb", 1) as file:
        file.write(bytes(10**8))
    refused("batch_1.bin.gz is damaged: .* got more than 3073 bytes", load, "cifar-10")


def _npy(shape, numbers):
    made = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(made, header)
    return made.getvalue() + numbers


@pytest.mark.parametrize(
    "shape, numbers, message",
    [
        ((10**9, 16, 16), b"", r"x_train is \(1000000000, 16, 16\), which takes about 2.05 TB of"),
        ((10, 16, 16), b"", "is truncated: .* bytes are expected, got 128"),
        ((1, 16, 16), bytes(10**7), "is too long: 2176 bytes are expected, got more"),
        ((-1, 16, 16), b"", "usps.npz is "),
    ],
)
def test_headers_of_arrays_that_lie_are_refused(shape, numbers, message, tmp_path, monkeypatch):
    monkeypatch.setattr(sizes, "free", lambda: 1e9)
    with zipfile.ZipFile(tmp_path / "usps.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x_train.npy", _npy(shape, numbers))
    refused(message, data.load, "usps", train=4, test=1, seed=4, data_dir=tmp_path)


def test_any_changed_byte_of_an_npz_is_one_sentence_or_none(tmp_path):
    """Never anything but the images as they were, or a refusal."""
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16), dtype=np.uint8)
    path = tmp_path / "usps.npz"
    np.savez(path, x_train=images[:3], y_train=[0, 1, 2], x_test=images[3:], y_test=[3])
    whole = path.read_bytes()
    load = lambda: data.load("usps", train=2, test=1, seed=0, data_dir=tmp_path)
    wanted, rng, bad = load().train_inputs, np.random.default_rng(1), 0
    for place in rng.choice(len(whole), 300, replace=False):
        changed = bytearray(whole)
        changed[place] ^= 1 << rng.integers(8)
        path.write_bytes(changed)
        try:
            assert (load().train_inputs == wanted).all()
        except InputError:
            bad += 1
    assert 150 < bad < 300


def test_truncated_photographs_are_refused(tmp_path, monkeypatch):
    path, tests = tmp_path / "data_batch_1.bin", tmp_path / "test_batch.bin"
    load = lambda: data.load("cifar-10", train=4, test=1, seed=0, data_dir=tmp_path)
    tests.write_bytes(bytes([1]) + np.random.default_rng(0).bytes(3072))
    for size in (3073 * 4 - 1, 3073 * 3 + 1, 0):
        path.write_bytes(bytes(size))
        refused(f"batch_1.bin is damaged: .* images of 3073 bytes each, got {size} bytes", load)
    path.write_bytes(bytes([17]) + bytes(3072 + 3073))
    refused("cifar-10 must have labels from 0 to 9, got 0 to 17", load)
    names = (path.name, "data_batch_2.bin", tests.name)
    monkeypatch.setattr(datasets, "BATCHES", (names, 3073 * 4))
    path.write_bytes(bytes(3073 * 4))
    refused(
        "as published, 12292 bytes each, or none; data_batch_1.bin is, data_batch_2.bin is", load
    )
    for name in names[1:]:
        (tmp_path / name).write_bytes(tests.read_bytes() * 4)
    assert set(load().train_labels) == {0, 1}
    tests.write_bytes(bytes(3073 * 3))
    refused("or none; data_batch_1.bin is, test_batch.bin is not", load)
