"""Datasets by name, drawn and normalised the same way for everybody.

digits    1,797 8x8 images of handwritten digits that ship inside scikit-learn (Alpaydin and
          Kaynak 1998, UCI), 10 classes
mnist     28x28 images of handwritten digits (LeCun et al. 1998), from IDX files in `data_dir`
fashion-mnist   the same of clothes (Xiao et al. 2017)
cifar-10  32x32x3 photographs (Krizhevsky 2009), from the binary batches in `data_dir`
"""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from ntkdyn.errors import InputError, unknown


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test points with a label each, normalised as `normalisation` says."""

    name: str
    train_inputs: Float[np.ndarray, "train *features"]
    train_labels: Int[np.ndarray, " labels"]
    test_inputs: Float[np.ndarray, "test *features"]
    test_labels: Int[np.ndarray, " labels_"]
    classes: int
    normalisation: str

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            inputs, labels = getattr(self, f"{part}_inputs"), getattr(self, f"{part}_labels")
            _check_points(f"{part}_inputs", inputs, f"{part}_labels", labels, self.classes)


def load(
    name: str, *, train: int, test: int, seed: int, data_dir: str | Path | None = None
) -> Dataset:
    """`train` and `test` different points of the named dataset, drawn at random with `seed`.

    Those that do not ship with a library are read from files in `data_dir`, gzipped or not.

    Each feature is centred at its mean over the drawn training points; all are divided by the
    one standard deviation of the centred training inputs. Test points use the same numbers.
    """
    if name not in SOURCES:
        raise unknown("dataset", name, SOURCES)
    inputs, labels = _read(name, data_dir)
    if train < 1 or test < 1 or train + test > len(inputs):
        raise InputError(
            f"dataset {name}: train and test must be at least 1 and at most {len(inputs)} "
            f"together, got {train} and {test}"
        )
    drawn = np.random.default_rng(seed).permutation(len(inputs))
    train_rows, test_rows = drawn[:train], drawn[train : train + test]
    mean = inputs[train_rows].mean(axis=0)
    scale = (inputs[train_rows] - mean).std()
    return Dataset(
        name=name,
        train_inputs=((inputs[train_rows] - mean) / scale).astype(np.float32),
        train_labels=labels[train_rows],
        test_inputs=((inputs[test_rows] - mean) / scale).astype(np.float32),
        test_labels=labels[test_rows],
        classes=int(labels.max()) + 1,
        normalisation="each feature minus its training mean, all over their one training "
        "standard deviation",
    )


def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits  # a second of import time, needed only here

    images, labels = load_digits(return_X_y=True)
    return images, labels


def _read(name: str, data_dir: str | Path | None) -> tuple[np.ndarray, np.ndarray]:
    if name in SHIPPED:
        return SHIPPED[name]()
    if data_dir is None or not Path(data_dir).is_dir():
        raise InputError(f"data_dir: must be the folder that holds {name}'s files, got {data_dir}")
    return FILES[name](Path(data_dir))


def _idx_images(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Training images, then test images, from the four files of the MNIST family."""
    images = [_idx(folder, f"{part}-images-idx3-ubyte", 3) for part in ("train", "t10k")]
    labels = [_idx(folder, f"{part}-labels-idx1-ubyte", 1) for part in ("train", "t10k")]
    flat = np.concatenate(images)
    return flat.reshape(len(flat), -1), np.concatenate(labels).astype(int)


def _idx(folder: Path, name: str, dimensions: int) -> np.ndarray:
    """An IDX file of bytes: 0 0 8 d, then d sizes of four bytes each, then the numbers."""
    content = _content(folder, name)
    sizes = np.frombuffer(content[4 : 4 + 4 * dimensions], ">u4").astype(int)
    body = content[4 + 4 * dimensions :]
    if content[:4] != bytes([0, 0, 8, dimensions]) or len(body) != sizes.prod():
        raise InputError(f"data_dir: {folder / name} is no IDX file of {dimensions} dimensions")
    return np.frombuffer(body, np.uint8).reshape(sizes)


def _cifar_images(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """All batches that are there; rows are a label, then 3 x 32 x 32 bytes."""
    names = sorted({path.name.removesuffix(".gz") for path in folder.glob("*_batch*.bin*")})
    rows = [np.frombuffer(_content(folder, name), np.uint8) for name in names]
    if not rows or any(each.size % 3073 for each in rows):
        raise InputError(f"data_dir: {folder} holds no binary batches of CIFAR-10")
    table = np.concatenate(rows).reshape(-1, 3073)
    images = table[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return images.reshape(len(images), -1), table[:, 0].astype(int)


def _content(folder: Path, name: str) -> bytes:
    for path, opened in ((folder / name, open), (folder / f"{name}.gz", gzip.open)):
        if path.is_file():
            with opened(path, "rb") as file:
                return file.read()
    raise InputError(f"data_dir: {folder} holds no {name}, gzipped or not")


Source = tuple[np.ndarray, np.ndarray]

SHIPPED: dict[str, Callable[[], Source]] = {"digits": _digits}
"""name -> all inputs (points, *features) and their labels (points,)"""

FILES: dict[str, Callable[[Path], Source]] = {
    "mnist": _idx_images,
    "fashion-mnist": _idx_images,
    "cifar-10": _cifar_images,
}
"""name -> the same, from a folder; the images are flattened"""

SOURCES = (*SHIPPED, *FILES)


def _check_points(what: str, inputs: np.ndarray, of: str, labels: np.ndarray, classes: int) -> None:
    if len(inputs) != len(labels):
        raise InputError(
            f"{of}: must be one per point of {what} ({len(inputs)}), got {len(labels)}"
        )
    if not len(inputs):
        raise InputError(f"{what}: must hold at least one point")
    if not np.isfinite(inputs).all():
        row = int(np.argwhere(~np.isfinite(inputs))[0][0])
        raise InputError(f"{what}: point {row} holds NaN or infinity; all numbers must be finite")
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            f"{of}: must be from 0 to {classes - 1}, got {labels.min()} to {labels.max()}"
        )
