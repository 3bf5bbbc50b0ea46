"""Datasets by name, drawn and normalised the same way for everybody.

digits    1,797 8x8 images of handwritten digits that ship inside scikit-learn (Alpaydin and
          Kaynak 1998, UCI), 10 classes
"""

from collections.abc import Callable
from dataclasses import dataclass

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


def load(name: str, *, train: int, test: int, seed: int) -> Dataset:
    """`train` and `test` different points of the named dataset, drawn at random with `seed`.

    Each feature is centred at its mean over the drawn training points; all are divided by the
    one standard deviation of the centred training inputs. Test points use the same numbers.
    """
    if name not in SOURCES:
        raise unknown("dataset", name, SOURCES)
    inputs, labels = SOURCES[name]()
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


SOURCES: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {"digits": _digits}
"""name -> all inputs (points, *features) and their labels (points,)"""


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
