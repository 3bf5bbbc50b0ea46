"""The tables of a TOML spec: what may be set, and what it is unless it is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import tomli_w
from pydantic_core import PydanticCustomError

from ntkdyn import data, graphs, losses, methods, networks
from ntkdyn.data.augmentation import KINDS as AUGMENTATIONS
from ntkdyn.dynamics import certificate
from ntkdyn.errors import InputError
from ntkdyn.linear import KERNELS
from ntkdyn.networks.normalisation import KINDS as NORMALISATIONS


class StrictTable(pydantic.BaseModel):
    """A table of a spec: unknown settings are refused, and none changes once it is read."""

    model_config = pydantic.ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,  # for the schema
    )


Seed = Annotated[int, pydantic.Field(ge=0, lt=2**32)]


Count = Annotated[int, pydantic.Field(ge=1)]


Sweeps = Annotated[int, pydantic.Field(ge=0, le=certificate.MOST)]


def _without_zero(text: str) -> str:
    """The text, refused where netCDF could not hold it."""
    if "\0" in text:
        raise PydanticCustomError("zero", "must not hold the character of code 0")
    return text


def _one_of(names: Iterable[str]) -> Any:
    """Has the schema say which names there are; who uses one refuses the others."""
    return pydantic.Field(json_schema_extra={"enum": sorted(names)})


def _with_settings_of(made: Mapping[str, Callable]) -> Callable[[dict[str, Any]], None]:
    """Has the schema of a table name the settings that only some of its kinds have."""

    def add(schema: dict[str, Any]) -> None:
        owners: dict[str, list[str]] = {}
        for name, make in made.items():
            for setting in inspect.signature(make).parameters:
                owners.setdefault(setting, []).append(name)
        for setting, kinds in owners.items():
            known = {"description": f"a setting of {', '.join(kinds)}"}
            schema["properties"].setdefault(setting, known)

    return add


Title = Annotated[str, pydantic.AfterValidator(_without_zero)]


Column = str | int


class NetworkTable(StrictTable):
    """`networks`; as many outputs as classes, for every head that the method trains."""

    kind: Literal["mlp", "cnn", "resnet", "lenet5", "resnet20", "vgg11"] = "mlp"
    widths: list[int] | None = None
    """of the hidden layers; needed for mlp, cnn and resnet"""
    width: float | None = None
    """what multiplies those of lenet5, resnet20 and vgg11; 1 if left out"""
    model: str | None = None
    """a model of one's own, "module:name" of what makes it: a `Network`, a flax module, or a module
    of PyTorch's, started from the spec's seed, which is predicted here and trained elsewhere"""
    activation: Annotated[str, _one_of(networks.ACTIVATIONS)] = "relu"
    w_std: float | list[float] = 2**0.5
    b_std: float | list[float] = 0.1
    filter: int | None = None
    strides: int | None = None
    pool: str | None = None
    image: list[int] | None = None
    """the shape that flat inputs are read in; this and the three above are for convolutions"""
    normalisation: Annotated[str | None, _one_of(NORMALISATIONS)] = None
    """of what convolutions make; "none" if left out"""
    groups: int | None = None
    """of channels, of the normalisations "group" and "evonorm_s0"; 2 if left out"""
    own_starts: bool = False
    """every agent starts from a draw of its own: predicted with kernel "implicit" and anchors"""

    @pydantic.model_serializer(mode="wrap")
    def _of_model(self, dump: Callable) -> dict[str, Any]:
        """The table; of a model of one's own, which says the rest itself, its name and starts."""
        held = dump(self)
        return held if self.model is None else {k: held[k] for k in OF_MODELS if k in held}


OF_MODELS = ("model", "own_starts")
"""settings of `NetworkTable` that go with a model of one's own"""


class DataTable(StrictTable):
    """`data.load` of a dataset by name, or `data.read` of a file."""

    name: Annotated[str | None, _one_of(data.datasets.SOURCES)] = None
    """a dataset that is known: digits, if there is no file either"""
    file: str | None = None
    """a file of one's own, beside the spec or in the folder of --data-dir"""
    train: int | None = None
    """points to train on; of a file all others, if left out"""
    test: int | float | None = None
    """points to test on; of a file also a share of all, or none if left out"""
    public: Annotated[int, pydantic.Field(ge=0)] = 0
    """points without labels that all agents see, for methods that look at them"""
    seed: Seed | None = None
    """draws the points; the spec's seed if left out"""
    augment: list[Annotated[str, _one_of(AUGMENTATIONS)]] | None = None
    """what is done at random to images that gradients are taken at, as ["crop", "flip"]; only real
    networks can see these"""
    target: Column | list[Column] | None = None
    """the column of a file that is to be learned, or several"""
    features: list[Column] | None = None
    """the columns to learn from; all others if left out"""
    owner: Column | None = None
    """the column that says which agent each point belongs to"""
    header: bool | None = None
    """whether the file's first line names the columns; true if left out"""
    task: Literal["auto", "classification", "regression"] | None = None
    """what the target is; "auto", if left out: text and whole numbers are classes"""
    test_file: str | None = None
    """a file with the points to test on"""
    scale: Literal["standard", "common", "none"] | None = None
    """what is done to the features; "standard" if left out, "common" for images"""
    target_scale: Literal["standard", "common", "none"] | None = None
    """what is done to targets of regression; "standard" if left out"""


OF_FILES = ("target", "features", "owner", "header", "task", "test_file", "scale", "target_scale")
"""settings of `DataTable` that a dataset by name does not have"""


class PartitionTable(StrictTable):
    """`data.partition`; left out where the data say which agent each point belongs to."""

    agents: int | None = None
    by: Annotated[str, _one_of(data.partitions.RULES)] = "iid"
    alpha: float | None = None
    primary_labels: int | None = None
    skew: float | None = None
    min_points: int = 1
    seed: Seed | None = None


class ChangesTable(StrictTable):
    """How the graph changes by the round; `length` rounds are drawn, and gone through again."""

    kind: Literal[
        "link_failures", "random_matchings", "one_peer_exponential", "hyper_hypercube", "base",
        "equi_dynamic",
    ]  # fmt: skip
    length: Count = 100
    probability: float | None = None
    """of a link to fail in a round"""
    peers: Count | None = None
    """neighbours in a round of hyper_hypercube and base; one if left out"""
    share: float | None = None
    """what agents take of what they hear in equi_dynamic; a half if left out"""
    seed: Seed | None = None


WITHOUT_TOPOLOGY = ("one_peer_exponential", "hyper_hypercube", "base", "equi_dynamic")
"""kinds of changes that are graphs of their own"""


class GraphTable(StrictTable):
    """`graphs`: a topology with its own settings (degree, rows, seed, ...), a file, or a matrix."""

    model_config = pydantic.ConfigDict(
        extra="allow", json_schema_extra=_with_settings_of(graphs.BUILT)
    )
    topology: Annotated[str | None, _one_of(graphs.BUILT)] = None
    file: str | None = None
    """a graph of one's own, beside the spec or in the folder of --data-dir"""
    names: str | None = None
    """the attribute of a file's nodes by which agents are called; what identifies them, else"""
    weighted: bool | None = None
    """whether weights of a file's links are heeded; true if left out"""
    directed: bool | None = None
    """whether in a file's list of links the second of two hears from the first alone; or whether an
    equi_static graph is"""
    weights: Annotated[str | None, _one_of(graphs.RULES)] = None
    """how much each link counts, metropolis if left out; of the optimised, "fastest" are none below
    zero, "fastest averaging" may be"""
    matrix: list[list[float]] | None = None
    """a mixing matrix of one's own, row by row"""
    changes: ChangesTable | None = None


READING = ("names", "weighted", "directed")
"""settings of `GraphTable` that say how a file is read"""


OF_GRAPHS = {
    "topology": ("weights", "changes", "directed"),
    "file": ("weights", "changes", *READING),
    "matrix": ("changes",),
}
"""what a graph is given by -> the settings that go with it; a topology has others of its own"""


def check_belongs(name: str, kind: str) -> None:
    """Refuse a setting of the graph that goes with another way to give it."""
    known = name in GraphTable.model_fields
    if name == kind or name in OF_GRAPHS[kind] or (kind == "topology" and not known):
        return
    others = [other for other in OF_GRAPHS if name in OF_GRAPHS[other]] or ["topology"]
    raise InputError(f"graph: {name} goes with a {' or '.join(others)}, not with a {kind}")


class ShareOfLimit(StrictTable):
    """A step size as a share of the stability limit.

    Example:
        >>> experiment.ShareOfLimit(of_limit=0.5).of_limit
        0.5
    """

    of_limit: float


class ScheduleTable(StrictTable):
    """Schedules of `methods` by name, which multiply the step size together.

    Example:
        >>> experiment.ScheduleTable(warm_up=100, step_decay=[3000, 4000]).warm_up
        100
    """

    warm_up: Count | None = None
    """rounds in which it rises to its full size"""
    step_decay: list[int] | None = None
    """rounds from which on it is a tenth of what it was"""
    cosine: Count | None = None
    """rounds in which it falls to next to nothing"""


class MethodTable(StrictTable):
    """`methods`, with whatever settings of its own the method takes.

    Example:
        >>> experiment.MethodTable(name="local_sgd", step_size=0.1, tau=3).model_dump()["tau"]
        3
    """

    model_config = pydantic.ConfigDict(
        extra="allow", json_schema_extra=_with_settings_of(methods.METHODS)
    )
    name: Annotated[str, _one_of(methods.METHODS)]
    step_size: float | ShareOfLimit
    by_agent: list[float] | dict[str, float] | None = None
    """what each agent multiplies the step size by, in their order or by their names"""
    schedule: list[list[int | float]] | ScheduleTable | None = None
    """pairs: from which round on the step size is multiplied by what; or schedules by name"""
    agent_weights: list[float] | None = None
    """lambda of the objective sum_i lambda_i L_i; all the same, if left out"""
    clip: float | None = None
    """the longest gradient that a single point has; as long as it is, if left out"""
    weight_decay: float | None = None
    decay_toward: Literal["zero", "start"] | None = None
    """what weight decay draws parameters to; zero if left out, which takes an implicit kernel"""


class NamedTable(StrictTable):
    """Something by its name, with whatever settings of its own it takes."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)
    name: str


class LinkTable(StrictTable):
    """One of `links`, with whatever settings of its own it takes; the first is at the sender."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)
    kind: str
    compressor: NamedTable | None = None
    """of a compressed link"""


class RunTable(StrictTable):
    """How long, and what is recorded.

    Example:
        >>> spec.run == experiment.RunTable(rounds=4)
        True
    """

    rounds: int | None = None
    epochs: float | None = None
    """in place of rounds: those in which agents draw, by `batch_size`, so many times as many points
    as there are"""
    record_every: int | None = None
    batch_size: int | None = None
    """points per agent and round; all if left out"""
    parameter_rounds: list[int] = []
    """the rounds in which a sample of the parameters is kept"""
    points: int | float | None = None
    """on how many training and test points each all is measured, or on what share up to 1.0; all
    if left out"""
    trust: bool = False
    """estimate the prediction's error by the real network at the predicted parameters"""
    anchors: Literal["auto"] | list[int] | None = None
    """the rounds at whose predicted mean the prediction is linearized anew; "auto" chooses them"""
    corrections: int | None = None
    """sweeps in which the prediction is corrected by the real gradients along it"""
    certify: Sweeps | bool | None = None
    """prove how far training can be from the prediction, for smooth activations; true, or the
    sweeps of correction that the proof takes: more make it tighter, and longer"""
    precision: Literal["float32", "float64", "tf32", "bfloat16"] = "float32"
    """what the real networks are trained in"""


class Spec(StrictTable):
    """Everything an experiment needs.

    Example:
        >>> experiment.parse(spec.text(), "the same") == spec
        True
    """

    title: Title = ""
    seed: Seed = 0
    """draws the start of the networks, and all that has no seed of its own"""
    loss: Annotated[str, _one_of(losses.LOSSES)] = "mse"
    kernel: Annotated[str, _one_of(KERNELS)] = "empirical"
    network: NetworkTable
    data: DataTable
    partition: PartitionTable = PartitionTable(by="given")
    graph: GraphTable
    method: MethodTable
    link: list[LinkTable] = []
    """what messages go over; nothing happens to them if there are none"""
    run: RunTable
    sweep: dict[str, Any] | None = None
    """settings that `ntkdyn sweep` and `design` vary, and what they take (`design.axes`)"""

    _folder: Path = pydantic.PrivateAttr(Path())

    def __eq__(self, other: object) -> bool:
        """Whether both say the same, wherever they were read."""
        return isinstance(other, Spec) and self.model_dump() == other.model_dump()

    @property
    def folder(self) -> Path:
        """Where the files are that it names."""
        return self._folder

    def found(self, file: str, data_dir: Path | None) -> Path:
        """Where a file is that the spec names: beside the spec, or in the folder for data."""
        beside = self._folder / file
        other = beside if data_dir is None else data_dir / file
        return other if other.exists() and not beside.exists() else beside

    def in_folder(self, folder: Path) -> Spec:
        """The spec, whose paths are meant from that folder."""
        self._folder = folder
        return self

    def text(self) -> str:
        """The spec as TOML, with every default written out."""
        return tomli_w.dumps(self.model_dump(exclude_none=True))
