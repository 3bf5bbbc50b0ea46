"""Datasets by name, drawn and normalised the same way for everybody.

digits    1,797 8x8 images of handwritten digits that ship inside scikit-learn (Alpaydin and
          Kaynak 1998, UCI), 10 classes
mnist     28x28 images of handwritten digits (LeCun et al. 1998), from IDX files
fashion-mnist   the same of clothes (Xiao et al. 2017)
kmnist    the same of Japanese characters (Clanuwat et al. 2018), 10 classes
emnist-balanced, -byclass, -bymerge, -digits, -letters, -mnist
          the same of letters and digits (Cohen et al. 2017), set upright; of letters the first is 0
cifar-10  32x32x3 photographs (Krizhevsky 2009), from the batches of the binary version, all of
          them as published, or smaller ones; or from those of the Python version
cifar-100 the same of 100 classes, from the two files of the binary or of the Python version
usps      16x16 images of handwritten digits (Hull 1994), from usps.npz

All but the first are read from files in `data_dir`, or else in the folder that the environment
variable NTKDYN_DATA names, or in what of it is called as the dataset is, or as torchvision and the
published archives call it; mnist also from Keras' mnist.npz. Where neither is given, the published
files of mnist, fashion-mnist and cifar-10 are downloaded once (`published`).
"""

import contextlib
import functools
import gzip
import hashlib
import json
import math
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float, Int

from ntkdyn import arrays, disk, sizes
from ntkdyn.archives import REALLY, Npz, check_size
from ntkdyn.data import pickles, scaling
from ntkdyn.data.published import ARCHIVES, BATCHES, IDX, download
from ntkdyn.errors import InputError, check_name, check_whole, is_whole


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test points, scaled as `normalisation` says, and what is to be learned of each.

    That is a class (points,), of `classes` many; or, where `classes` is None, numbers
    (points, targets): regression. There may be no test points.

    Example:
        >>> data.classes, data.train_inputs.shape
        (10, (9, 64))
    """

    name: str
    train_inputs: Float[np.ndarray, "train *features"]
    train_labels: Int[np.ndarray, " labels"] | Float[np.ndarray, "labels targets"]
    test_inputs: Float[np.ndarray, "test *features"]
    test_labels: Int[np.ndarray, " labels_"] | Float[np.ndarray, "labels_ targets"]
    classes: int | None
    normalisation: str
    label_names: tuple[str, ...] = ()
    """what the classes or the targets are called, if not 0, 1, ..."""
    target_scaling: scaling.Scaling | None = None
    """what was done to the targets of regression"""
    owner: Int[np.ndarray, " train"] | None = None
    """the agent of every training point, where the points came with one"""
    agent_names: tuple[str, ...] = ()
    """what these agents are called"""
    augmentation: Any = None
    """an `Augmentation` of what gradients are taken at, by `data.augmented`"""

    def __repr__(self) -> str:
        counts = f"{len(self.train_inputs)} training and {len(self.test_inputs)} test points"
        shape = "x".join(map(str, self.train_inputs.shape[1:]))
        return f"Dataset({self.name!r}, {counts} of {shape or 'no'} features, {self.learned})"

    @property
    def learned(self) -> str:
        """What is to be learned, in words."""
        if self.classes is not None:
            return f"{self.classes} classes"
        return f"{self.train_labels.shape[1]} targets"

    def __post_init__(self) -> None:
        if self.classes is not None:
            object.__setattr__(self, "classes", check_whole("classes", self.classes, 1))
        for part in ("train", "test"):
            names = f"{part}_inputs", f"{part}_labels"
            given = (getattr(self, name) for name in names)
            for name, array in zip(names, _points(names, *given, self.classes), strict=True):
                object.__setattr__(self, name, array)
        if not len(self.train_inputs):
            raise InputError("train_inputs: must hold at least one point")
        for name, what in (("test_inputs", "points"), ("test_labels", "labels")):
            test, train = (getattr(self, each) for each in (name, name.replace("test", "train")))
            if test.shape[1:] != train.shape[1:]:
                raise InputError(
                    f"{name}: must have the shape of the training {what}, {train.shape[1:]}, got "
                    f"{test.shape[1:]}"
                )

    @property
    def about(self) -> dict[str, Any]:
        """What a record says of it; lists are JSON."""
        told: dict[str, Any] = {"dataset": self.name, "normalisation": self.normalisation}
        if self.augmentation is not None:
            told["augmentation"] = ", ".join(self.augmentation.kinds)
        if (scaled := self.target_scaling) is not None:
            told["targets_scaled"] = scaled.words
            deviation = np.broadcast_to(scaled.deviation, scaled.mean.shape)
            told["target_mean"] = json.dumps(scaled.mean.tolist())
            told["target_deviation"] = json.dumps(deviation.tolist())
        return told


def load(
    name: str, *, train: int, test: int, seed: int, data_dir: str | Path | None = None
) -> Dataset:
    """`train` and `test` different points of the named dataset, drawn at random with `seed`.

    Each feature is centred at its mean over the drawn training points; all are divided by the
    one standard deviation of the centred training inputs. Test points use the same numbers.

    Args:
        name: of a dataset.
        train: how many training points.
        test: how many test points.
        seed: draws both.
        data_dir: where files lie that are not shipped.

    Returns:
        Points scaled as `normalisation` says.

    Raises:
        InputError: for a name that there is not, and more points than there are.

    Example:
        >>> nd.data.load("digits", train=9, test=3, seed=0).train_inputs.shape
        (9, 64)
    """
    check_name("dataset", name, SOURCES)
    train = check_whole(f"dataset {name}: train", train, 1)
    test = check_whole(f"dataset {name}: test", test, 1)
    seed = check_whole(f"dataset {name}: seed", seed, 0)
    inputs, labels = _read(name, data_dir)
    if train + test > len(inputs):
        raise InputError(
            f"dataset {name}: train and test must be at most {len(inputs)} together, got {train} "
            f"and {test}"
        )
    drawn = np.random.default_rng(seed).permutation(len(inputs))
    train_rows, test_rows = drawn[:train], drawn[train : train + test]
    scaled = scaling.fit("common", inputs[train_rows], f"dataset {name}")
    return Dataset(
        name=name,
        train_inputs=scaled.single(inputs, train_rows),
        train_labels=labels[train_rows],
        test_inputs=scaled.single(inputs, test_rows),
        test_labels=labels[test_rows],
        classes=int(labels.max()) + 1,
        normalisation=scaled.words,
    )


def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits  # a second of import time, needed only here

    images, labels = load_digits(return_X_y=True)
    return images, labels


def _read(name: str, data_dir: str | Path | None) -> tuple[np.ndarray, np.ndarray]:
    if name in SHIPPED:
        return SHIPPED[name]()
    inputs, labels = FILES[name](name, _folder(name, data_dir))
    last = CLASSES.get(name, 10) - 1
    if labels.max(initial=0) > last or labels.min(initial=0) < 0:
        raise InputError(
            f"data_dir: {name} must have labels from 0 to {last}, got {labels.min()} to "
            f"{labels.max()}"
        )
    classes = np.unique(labels)
    if len(classes) < 2:
        raise InputError(f"data_dir: {name} must have two classes or more, got {classes.tolist()}")
    return inputs, labels


def _folder(name: str, data_dir: str | Path | None) -> Path:
    """The folder with the dataset's files: the one named, or one inside that is called so."""
    given = (os.environ.get("NTKDYN_DATA") or None) if data_dir is None else data_dir
    if given is None:
        folder = download(name)
    elif not (folder := disk.place_of("data_dir", given)).is_dir():
        raise InputError(
            f"data_dir: must be the folder that holds {name}'s files, or NTKDYN_DATA must name it, "
            f"got {given}"
        )
    inside = [folder / each for each in (name, *ARCHIVES.get(name, ())[1:2], *INSIDE.get(name, ()))]
    return next((each for each in inside if each.is_dir()), folder)


EMNIST = {
    "emnist-balanced": 47,
    "emnist-byclass": 62,
    "emnist-bymerge": 47,
    "emnist-digits": 10,
    "emnist-letters": 26,
    "emnist-mnist": 10,
}
"""the divisions of EMNIST -> how many classes they have"""

CLASSES = EMNIST | {"cifar-100": 100}
"""dataset -> how many classes it has, if not 10"""

INSIDE = {
    "mnist": ("MNIST/raw", "raw"),
    "fashion-mnist": ("FashionMNIST/raw", "raw"),
    "kmnist": ("KMNIST/raw", "raw"),
    "cifar-10": ("cifar-10-batches-py",),
    "cifar-100": ("cifar-100-binary", "cifar-100-python"),
} | dict.fromkeys(EMNIST, ("emnist", "EMNIST/raw", "raw", "gzip"))
"""dataset -> where its files are within a folder of torchvision's"""


def _idx_images(dataset: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Training images, then test images, from the four files of the MNIST family, or Keras'."""
    if (folder / f"{dataset}.npz").is_file():
        return _npz_images(dataset, folder, (28, 28))
    return _idx_parts(dataset, folder, ("train", "t10k"))


def _emnist_images(dataset: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The same of one of EMNIST's divisions, whose images lie on their side."""
    flat, labels = _idx_parts(dataset, folder, (f"{dataset}-train", f"{dataset}-test"))
    upright = flat.reshape(-1, 28, 28).transpose(0, 2, 1).reshape(flat.shape)
    return upright, labels - (dataset == "emnist-letters")


def _idx_parts(dataset: str, folder: Path, parts: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    read = functools.partial(_idx, dataset, folder)
    images = [read(f"{part}-images-idx3-ubyte", 3) for part in parts]
    labels = [read(f"{part}-labels-idx1-ubyte", 1) for part in parts]
    for part, each, numbered in zip(parts, images, labels, strict=True):
        if each.shape != (len(numbered), 28, 28):
            raise InputError(
                f"data_dir: the {part} images in {folder} must be {len(numbered)} of 28x28, one "
                f"per label, got {'x'.join(map(str, each.shape))}"
            )
    flat = np.concatenate(images)
    return flat.reshape(len(flat), -1), np.concatenate(labels).astype(int)


def _idx(dataset: str, folder: Path, name: str, dimensions: int) -> np.ndarray:
    """An IDX file of bytes: 0 0 8 d, then d sizes of four bytes each, then the numbers."""
    start = 4 + 4 * dimensions
    with _opened(folder, name) as (path, file):
        head = file.read(start)
        where = f"data_dir: {path}"
        if head[:4] != bytes([0, 0, 8, dimensions]):
            raise InputError(
                f"data_dir: {path} must begin with 0 0 8 {dimensions}, as an IDX file of bytes in "
                f"{dimensions} dimensions does, got {' '.join(map(str, head[:4]))}"
            )
        if len(head) < start:
            check_size(where, len(head), start)
        shape = np.frombuffer(head[4:], ">u4").tolist()
        numbers = math.prod(shape)
        sizes.check_room(f"data_dir: what {path} says it holds, {shape},", numbers, REALLY)
        content = head + file.read(numbers + 1)
    check_size(where, len(content), start + numbers)
    _check_published(dataset, path, name, content)
    return np.frombuffer(content[start:], np.uint8).reshape(shape)


def _cifar_images(dataset: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """All batches that are there; rows are a label, then 3 x 32 x 32 bytes."""
    del dataset
    names, size = BATCHES
    there = lambda name: any((folder / f"{name}{end}").is_file() for end in ("", ".gz"))
    tables = {name: _cifar_batch(folder, name) for name in names if there(name)}
    if not tables:
        tables = _pickled_batches(folder)
    whole = [name for name in tables if tables[name].size == size]
    lacking = [name for name in names if name not in whole]
    if whole and lacking:
        raise InputError(
            f"data_dir: {folder} must hold all batches of CIFAR-10 as published, {size} bytes "
            f"each, or none; {whole[0]} is, {lacking[0]} is not"
        )
    table = np.concatenate(list(tables.values()))
    images = table[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return images.reshape(len(images), -1), table[:, 0].astype(int)


def _pickled_batches(folder: Path) -> dict[str, np.ndarray]:
    """The same from the batches of the Python version, under the names of the binary one."""
    names = {name: folder / name.removesuffix(".bin") for name in BATCHES[0]}
    there = {name: path for name, path in names.items() if path.is_file()}
    if not there:
        raise InputError(
            f"data_dir: {folder} holds no binary batches of CIFAR-10: {BATCHES[0][0]}, ..., nor "
            f"those of the Python version"
        )
    return {name: _pickled_batch(path) for name, path in there.items()}


def _pickled_batch(path: Path) -> np.ndarray:
    held = pickles.read("data_dir", path)
    images, labels = held.get("data"), held.get("labels")
    good = isinstance(images, np.ndarray) and images.dtype == np.uint8 and isinstance(labels, list)
    if not good or images.shape != (len(labels), 3 * 32 * 32) or not _are_digits(labels):
        raise InputError(
            f"data_dir: {path} must hold data (n, 3072) of bytes and as many labels from 0 to 9"
        )
    return np.column_stack([np.array(labels, np.uint8), images])


def _are_digits(labels: list[Any]) -> bool:
    return all(is_whole(label) and 0 <= label <= 9 for label in labels)


def _cifar_batch(folder: Path, name: str) -> np.ndarray:
    row, most = 1 + 3 * 32 * 32, BATCHES[1]
    with _opened(folder, name) as (path, file):
        content = file.read(most + 1)
    if len(content) % row or not content:
        size = f"more than {most}" if len(content) > most else len(content)
        raise InputError(
            f"data_dir: {path} is damaged: it must hold images of {row} bytes each, got {size} "
            f"bytes"
        )
    return np.frombuffer(content, np.uint8).reshape(-1, row)


def _cifar100_images(dataset: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Both files; rows are a coarse label, a fine one, which counts, then 3 x 32 x 32 bytes."""
    del dataset
    table = np.concatenate([_cifar100_file(folder, part) for part in PARTS])
    images = table[:, 2:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return images.reshape(len(images), -1), table[:, 1].astype(int)


def _cifar100_file(folder: Path, part: str) -> np.ndarray:
    row, most = 2 + 3 * 32 * 32, 50_000
    if (folder / part).is_file():
        return _pickled_100(folder / part)
    with _opened(folder, f"{part}.bin") as (path, file):
        content = file.read(row * most + 1)
    if not content or len(content) % row:
        raise InputError(
            f"data_dir: {path} must hold up to {most} images of {row} bytes each, got "
            f"{len(content)} bytes"
        )
    return np.frombuffer(content, np.uint8).reshape(-1, row)


def _pickled_100(path: Path) -> np.ndarray:
    held = pickles.read("data_dir", path)
    images, labels = held.get("data"), held.get("fine_labels")
    good = isinstance(images, np.ndarray) and images.dtype == np.uint8 and isinstance(labels, list)
    known = good and all(is_whole(label) and 0 <= label < 100 for label in labels)
    if not known or images.shape != (len(labels), 3 * 32 * 32):
        raise InputError(
            f"data_dir: {path} must hold data (n, 3072) of bytes and as many fine_labels from 0 to "
            f"99"
        )
    fine = np.array(labels, np.uint8)
    return np.column_stack([fine, fine, images])


def _npz_images(
    dataset: str, folder: Path, shape: tuple[int, int] = (16, 16)
) -> tuple[np.ndarray, np.ndarray]:
    """x_train, y_train, x_test, y_test from an .npz without pickled objects."""
    path = folder / f"{dataset}.npz"
    if not path.is_file():
        raise InputError(f"data_dir: {folder} holds no {path.name}")
    held = Npz("data_dir", path)
    parts = {part: [_member(path, held, f"{axis}_{part}") for axis in "xy"] for part in PARTS}
    for part, (images, labels) in parts.items():
        if images.shape[1:] != shape or labels.shape != images.shape[:1]:
            raise InputError(
                f"data_dir: {path} must hold {part} images (n, {shape[0]}, {shape[1]}) and labels "
                f"(n,), got {images.shape} and {labels.shape}"
            )
        _check_numbers(f"data_dir: {path}: x_{part}", images)
        _check_labels(f"data_dir: {path}: y_{part}", labels)
    images, labels = (np.concatenate(each) for each in zip(*parts.values(), strict=True))
    return images.reshape(len(images), -1), labels.astype(int)


PARTS = ("train", "test")


def _member(path: Path, held: Npz, name: str) -> np.ndarray:
    if name not in held:
        raise InputError(f"data_dir: {path} must hold x_, y_train and x_, y_test; no {name} there")
    return held[name]


@contextlib.contextmanager
def _opened(folder: Path, name: str) -> Iterator[tuple[Path, BinaryIO]]:
    """The file of that name, gzipped or not, to be read."""
    ways = [(folder / name, open), (folder / f"{name}.gz", gzip.open)]
    path, how = next((way for way in ways if way[0].is_file()), (None, None))
    if path is None:
        raise InputError(f"data_dir: {folder} holds no {name}, gzipped or not")
    try:
        with how(path, "rb") as file:
            yield path, file
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"data_dir: {path} is damaged or unreadable; {error}") from None


def _check_published(dataset: str, path: Path, name: str, content: bytes) -> None:
    """Refuse a file as long as the published one that is not the published one."""
    size, digest = IDX.get((dataset, name), (None, None))
    if len(content) == size and hashlib.sha256(content).hexdigest() != digest:
        raise InputError(
            f"data_dir: {path} is not {dataset}'s: it was changed, or is of another dataset; the "
            f"SHA-256 of what is in it must be {digest}"
        )


Source = tuple[np.ndarray, np.ndarray]

SHIPPED: dict[str, Callable[[], Source]] = {"digits": _digits}
"""name -> all inputs (points, *features) and their labels (points,)"""

FILES: dict[str, Callable[[str, Path], Source]] = {
    "mnist": _idx_images,
    "fashion-mnist": _idx_images,
    "kmnist": _idx_images,
    **dict.fromkeys(EMNIST, _emnist_images),
    "cifar-10": _cifar_images,
    "cifar-100": _cifar100_images,
    "usps": _npz_images,
}
"""name -> the same, from a folder; the images are flattened"""

SOURCES = (*SHIPPED, *FILES)


def _check_numbers(what: str, inputs: np.ndarray) -> None:
    if inputs.dtype.kind not in "iuf":
        raise InputError(f"{what}: must be real numbers, got {inputs.dtype}")
    finite = np.isfinite(inputs)
    if not finite.all():
        row = int(np.argwhere(~finite)[0][0])
        raise InputError(f"{what}: point {row} holds NaN or infinity; all numbers must be finite")


def _check_labels(what: str, labels: np.ndarray) -> None:
    if labels.dtype.kind not in "iu":
        raise InputError(f"{what}: must be integers, got {labels.dtype}")


def _points(
    names: tuple[str, str], inputs: Any, labels: Any, classes: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Points and what is to be learned of them as arrays, one label or row of targets each."""
    what, of = names
    inputs, labels = arrays.plain(what, inputs), arrays.plain(of, labels)
    if inputs.ndim < 2:
        raise InputError(f"{what}: must be (points, *features), got shape {inputs.shape}")
    if classes is None:
        labels = labels.reshape(-1, 1) if labels.ndim == 1 else labels
    else:
        labels = labels.reshape(-1) if labels.shape == (len(inputs), 1) else labels
    if labels.ndim != 1 + (classes is None) or len(labels) != len(inputs):
        raise InputError(
            f"{of}: must be one per point of {what} ({len(inputs)}), got shape {labels.shape}"
        )
    if not math.prod(inputs.shape[1:]):
        raise InputError(f"{what}: must hold at least one number per point")
    _check_numbers(what, inputs)
    if classes is None:
        _check_numbers(of, labels)
        return inputs, labels.astype(np.float64)
    _check_labels(of, labels)
    if len(labels) and (labels.min() < 0 or labels.max() >= classes):
        raise InputError(
            f"{of}: must be from 0 to {classes - 1}, got {labels.min()} to {labels.max()}"
        )
    return inputs, labels
