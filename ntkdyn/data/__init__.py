"""Data: what is learned, who holds which points, and which points each round uses.

`load` gives a `Dataset` by name, `read` one from files of one's own, `partition` deals its training
points to agents, `Batches` says for every round which rows each agent uses: data, made once and
handed to prediction and training alike. `augmented` has training alter images at random.
"""

from ntkdyn.data.augmentation import augmented
from ntkdyn.data.batches import Batch, Batches, full, listed, minibatches
from ntkdyn.data.datasets import Dataset, load
from ntkdyn.data.partitions import Partition, partition
from ntkdyn.data.reading import read
from ntkdyn.errors import public

__all__ = [
    "Batch",
    "Batches",
    "Dataset",
    "Partition",
    "augmented",
    "full",
    "listed",
    "load",
    "minibatches",
    "partition",
    "read",
]

__getattr__, __dir__ = public(__name__, __all__)
