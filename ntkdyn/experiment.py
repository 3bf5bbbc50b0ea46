"""Experiments: from a TOML spec to a problem, its prediction, its observation and their files.

The one joint between what a user writes down and the rest of the package. Settings are documented
at the fields of `Spec`; `demo.toml`, which ships with the package, shows them at work.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import numpy as np
import pydantic
import tomli_w
from pydantic_core import PydanticCustomError

from ntkdyn import (
    data,
    disk,
    dynamics,
    figures,
    graphs,
    kernels,
    links,
    losses,
    methods,
    networks,
    records,
    validation,
)
from ntkdyn.checkpoints import Checkpoints, flat
from ntkdyn.dynamics import certificate
from ntkdyn.engine import Progress
from ntkdyn.errors import InputError, check_kind, shown, unknown
from ntkdyn.kernels import pytorch
from ntkdyn.linear import KERNELS
from ntkdyn.problems import KernelProblem, Problem, outputs_for
from ntkdyn.records import Record
from ntkdyn.runs import plan, recorded_rounds
from ntkdyn.saving import SaveOptions
from ntkdyn.system import System
from ntkdyn.theory import formulas, learning_curves, noisy, table, theorems
from ntkdyn.theory.bounds import Case
from ntkdyn.validation import from_log as from_log, repeats, widths as sweeps
from ntkdyn.validation.verdicts import proven as proven


class _Table(pydantic.BaseModel):
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


class NetworkTable(_Table):
    """`networks`; as many outputs as classes, for every head that the method trains."""

    kind: Literal["mlp", "cnn", "resnet"] = "mlp"
    widths: list[int] | None = None
    """of the hidden layers; needed but with a model"""
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
    own_starts: bool = False
    """every agent starts from a draw of its own: predicted with kernel "implicit" and anchors"""


Column = str | int


class DataTable(_Table):
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


class PartitionTable(_Table):
    """`data.partition`; left out where the data say which agent each point belongs to."""

    agents: int | None = None
    by: Annotated[str, _one_of(data.partitions.RULES)] = "iid"
    alpha: float | None = None
    primary_labels: int | None = None
    skew: float | None = None
    min_points: int = 1
    seed: Seed | None = None


class ChangesTable(_Table):
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
    seed: Seed | None = None


WITHOUT_TOPOLOGY = ("one_peer_exponential", "hyper_hypercube", "base", "equi_dynamic")
"""kinds of changes that are graphs of their own"""


class GraphTable(_Table):
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
    """whether in a file's list of links the second of two hears from the first alone"""
    weights: Annotated[str, _one_of(graphs.RULES)] = "metropolis"
    matrix: list[list[float]] | None = None
    """a mixing matrix of one's own, row by row"""
    changes: ChangesTable | None = None


READING = ("names", "weighted", "directed")
"""settings of `GraphTable` that say how a file is read"""

OF_GRAPHS = {
    "topology": ("weights", "changes"),
    "file": ("weights", "changes", *READING),
    "matrix": ("changes",),
}
"""what a graph is given by -> the settings that go with it; a topology has others of its own"""


def _check_belongs(name: str, kind: str) -> None:
    """Refuse a setting of the graph that goes with another way to give it."""
    known = name in GraphTable.model_fields
    if name == kind or name in OF_GRAPHS[kind] or (kind == "topology" and not known):
        return
    others = [other for other in OF_GRAPHS if name in OF_GRAPHS[other]] or ["topology"]
    raise InputError(f"graph: {name} goes with a {' or '.join(others)}, not with a {kind}")


class ShareOfLimit(_Table):
    """A step size as a share of the stability limit."""

    of_limit: float


class MethodTable(_Table):
    """`methods`, with whatever settings of its own the method takes."""

    model_config = pydantic.ConfigDict(
        extra="allow", json_schema_extra=_with_settings_of(methods.METHODS)
    )
    name: Annotated[str, _one_of(methods.METHODS)]
    step_size: float | ShareOfLimit
    by_agent: list[float] | None = None
    """what each agent multiplies the step size by"""
    schedule: list[list[int | float]] | None = None
    """pairs: from which round on the step size is multiplied by what"""
    agent_weights: list[float] | None = None
    """lambda of the objective sum_i lambda_i L_i; all the same, if left out"""
    weight_decay: float | None = None
    decay_toward: Literal["zero", "start"] | None = None
    """what weight decay draws parameters to; zero if left out, which takes an implicit kernel"""


class NamedTable(_Table):
    """Something by its name, with whatever settings of its own it takes."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)
    name: str


class LinkTable(_Table):
    """One of `links`, with whatever settings of its own it takes; the first is at the sender."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)
    kind: str
    compressor: NamedTable | None = None
    """of a compressed link"""


class RunTable(_Table):
    """How long, and what is recorded."""

    rounds: int
    record_every: int | None = None
    batch_size: int | None = None
    """points per agent and round; all if left out"""
    parameter_rounds: list[int] = []
    """the rounds in which a sample of the parameters is kept"""
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


class Spec(_Table):
    """Everything an experiment needs."""

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

    def found(self, file: str, data_dir: Path | None) -> Path:
        """Where a file is that the spec names: beside the spec, or in the folder for data."""
        beside = self._folder / file
        other = beside if data_dir is None else data_dir / file
        return other if other.exists() and not beside.exists() else beside

    def in_folder(self, folder: Path) -> Spec:
        """The spec, whose paths are meant from that folder."""
        self._folder = folder
        return self

    def with_seed(self, seed: int) -> Spec:
        """The spec with another seed, which is checked."""
        text = self.model_copy(update={"seed": seed}).text()
        return parse(text, "--seed").in_folder(self._folder)

    def text(self) -> str:
        """The spec as TOML, with every default written out."""
        return tomli_w.dumps(self.model_dump(exclude_none=True))


def schema() -> str:
    """What a spec may hold, as a JSON schema: with it editors complete and check one."""
    return json.dumps(Spec.model_json_schema() | {"title": "a spec of ntkdyn"}, indent=2)


DOTTED = re.compile(r"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){100}""")
"""a key of so many parts that reading it would take a time that grows with their square"""

LARGEST_SPEC = 2**24
"""bytes of a spec: room for a mixing matrix of a thousand agents, and not for a device's zeros"""


def load(path: str | Path) -> Spec:
    """The spec in a TOML file, or the one of that name that ships with the package."""
    path = disk.path_of("spec", path)
    if str(path) in shipped() and not path.is_file():
        return parse(shipped()[str(path)], str(path))
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"spec: {path} is no file, but a folder, a device or a pipe")
        with path.open("rb") as file:
            held = file.read(LARGEST_SPEC + 1)
        text = held.decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise InputError(f"spec: cannot read {path}; {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"spec: {path} is not a text file") from None
    if len(held) > LARGEST_SPEC:
        raise InputError(f"spec: {path} has more than the {LARGEST_SPEC} bytes that a spec may")
    return parse(text, str(path)).in_folder(path.parent)


def demo() -> Spec:
    """The spec of `ntkdyn demo`."""
    return parse(resources.files("ntkdyn").joinpath("demo.toml").read_text("utf-8"), "demo.toml")


@functools.cache
def shipped() -> dict[str, str]:
    """Name -> text of the specs that ship with the package, on real images."""
    folder = resources.files("ntkdyn").joinpath("specs")
    found = {each.name.removesuffix(".toml"): each.read_text("utf-8") for each in folder.iterdir()}
    return dict(sorted(found.items()))


def parse(text: str, name: str) -> Spec:
    """The spec written in `text`, which is called `name` in messages."""
    if DOTTED.search(text):
        raise InputError(f"spec: {name} nests its values too deeply, by a key of 100 parts or more")
    try:
        spec = Spec.model_validate(tomllib.loads(text))
        if (spec.network.widths is None) == (spec.network.model is None):
            raise InputError(f"{name}: network.widths must be given, or a model in their place")
        return spec
    except InputError:
        raise
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"spec: {name} is not TOML; {error}") from None
    except RecursionError:
        raise InputError(f"spec: {name} nests its values too deeply") from None
    except pydantic.ValidationError as error:
        raise _in_one_sentence(name, error) from None
    except ValueError:  # Python reads no whole number of more than 4,300 digits
        raise InputError(f"spec: {name} holds a number of too many digits") from None


def _in_one_sentence(name: str, error: pydantic.ValidationError) -> InputError:
    """What is wrong with the innermost setting that is, with its full name."""
    found = [(_setting(each["loc"]), each) for each in error.errors()]
    path, first = max(found, key=lambda pair: len(pair[0]))
    where = ".".join(path)
    if first["type"] == "extra_forbidden":
        fields = functools.reduce(_table_of, path[:-1], Spec).model_fields
        return InputError(f"{name}: {unknown(f'setting {where}', path[-1], fields)}")
    if first["type"] == "missing":
        return InputError(f"{name}: {where} must be given")
    return InputError(f"{name}: {where}: {first['msg'].lower()}, got {shown(first['input'])}")


def _setting(location: tuple[int | str, ...]) -> list[str]:
    """The parts of a location that name settings, without the members of unions."""
    branches = ("bool", "constrained-int", "float", "int", "str", "ShareOfLimit")
    parts = [str(part) for part in location]
    return [part for part in parts if part not in branches and not part.startswith("list[")]


def _table_of(table: type[pydantic.BaseModel], name: str) -> type[pydantic.BaseModel]:
    annotation = table.model_fields[name].annotation
    return annotation if inspect.isclass(annotation) else ShareOfLimit


def made(what: str, name: str, known: dict[str, Callable], settings: dict[str, Any]) -> Any:
    """What the maker of that name, or the one at "module:name", makes of the settings."""
    make = _imported(what, name) if ":" in name else known.get(name)
    if make is None:
        raise unknown(what, name, known)
    taken = inspect.signature(make).parameters
    for setting in settings:
        if setting not in taken:
            raise unknown(f"setting of {what} {name}", setting, taken)
    for setting, parameter in taken.items():
        if parameter.default is parameter.empty and setting not in settings:
            raise InputError(f"{what} {name}: {setting} must be given")
    return make(**settings)


def _imported(what: str, name: str) -> Callable:
    """The object of "module:name", from what is installed or the current folder."""
    module, _, attribute = name.partition(":")
    sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except (ImportError, ValueError) as error:
        raise InputError(f"{what}: cannot import {shown(module)}; {error}") from None
    finally:
        sys.path.remove("")
    if not callable(found):
        raise InputError(f"{what}: {module} has no {shown(attribute)} that could be called")
    return found


def _network_of(table: NetworkTable, made: Any, outputs: int) -> networks.Network:
    """The network that a model of one's own is."""
    if odd := sorted(table.model_fields_set - {"model", "own_starts"}):
        raise InputError(f"network: {odd[0]} does not go with a model, which says so itself")
    if isinstance(made, networks.Network):
        return made
    if callable(getattr(made, "init", None)) and callable(getattr(made, "apply", None)):
        return networks.wrap(made.apply, made.init, outputs, name=type(made).__name__)
    raise InputError(
        f"network: {table.model} must make a Network, a flax module or a torch.nn.Module, got "
        f"{type(made).__name__}"
    )


def _paced(method: methods.Method, table: MethodTable) -> methods.Method:
    """The method with the spec's factors of its step size, and its weight decay."""
    if table.by_agent is not None:
        method = methods.by_agent(method, table.by_agent)
    if table.schedule is not None:
        method = methods.scheduled(method, table.schedule)
    if table.agent_weights is not None:
        method = methods.weighted(method, table.agent_weights)
    if table.weight_decay is not None:
        return methods.weight_decay(method, table.weight_decay, table.decay_toward or "zero")
    if table.decay_toward is not None:
        raise InputError("method: decay_toward goes with a weight_decay")
    return method


def _link(table: LinkTable) -> Any:
    settings = dict(table.model_extra or {})
    if table.compressor is not None:
        of_its_own = table.compressor.model_extra or {}
        name = table.compressor.name
        settings["compressor"] = made("compressor", name, links.COMPRESSORS, of_its_own)
    return made("link", table.kind, links.LINKS, settings)


@dataclass(frozen=True)
class Experiment:
    """A spec at work; what two steps share is computed once."""

    spec: Spec
    data_dir: Path | None = None
    """where the files of datasets are that do not ship with a library"""
    first: int = 0
    """so many rounds at the start are recorded, all of them, beside those of the spec"""

    @functools.cached_property
    def _points(self) -> data.Dataset:
        """All points of the spec, the public ones behind the test points."""
        table, seed = self.spec.data, self._seed(self.spec.data.seed)
        test = table.test
        if table.public:
            if test is None or isinstance(test, float):
                raise InputError("data: beside public points, test must be a number of points")
            test += table.public
        if table.file is not None:
            return self._own_points(table, test, seed)
        for name in ("train", "test"):
            if not isinstance(getattr(table, name), int):
                raise InputError(f"data.{name} must be given, as a number of points")
        if odd := sorted({*OF_FILES} & set(table.model_dump(exclude_none=True))):
            raise InputError(f"data: {odd[0]} goes with a file, not with a dataset by name")
        name = table.name or "digits"
        return data.load(name, train=table.train, test=test, seed=seed, data_dir=self.data_dir)

    def _own_points(self, table: DataTable, test: int | float | None, seed: int) -> data.Dataset:
        """The points of the spec's file."""
        if table.name is not None:
            raise InputError("data: give a name or a file, one of the two")
        settings = table.model_dump(include={*OF_FILES}, exclude_none=True)
        if (other := settings.pop("test_file", None)) is not None:
            settings["test_source"] = self.spec.found(other, self.data_dir)
        source = self.spec.found(table.file, self.data_dir)
        return data.read(source, train=table.train, test=test, seed=seed, **settings)

    @functools.cached_property
    def partition(self) -> data.Partition:
        table, shares, points = self.spec.data, self.spec.partition, self._points
        if points.owner is not None and shares.by != "given":
            raise InputError(
                f"partition: {table.owner or 'owner'} says whose the points are, which "
                f'by = "{shares.by}" would not heed; leave either out'
            )
        tested = len(points.test_labels) - table.public
        return data.partition(
            dataclasses.replace(
                points,
                test_inputs=points.test_inputs[:tested],
                test_labels=points.test_labels[:tested],
            ),
            agents=shares.agents,
            by=shares.by,
            alpha=shares.alpha,
            primary_labels=shares.primary_labels,
            skew=shares.skew,
            min_points=shares.min_points,
            seed=self._seed(shares.seed),
        )

    @functools.cached_property
    def problem(self) -> Problem | KernelProblem:
        if pytorch.is_module(self._model):
            return KernelProblem.from_torch(self._model, self.partition, loss=self.spec.loss)
        return self._problem(self.network, self.spec.seed)

    @functools.cached_property
    def _model(self) -> Any:
        """The model of one's own, if the spec names one."""
        name = self.spec.network.model
        made = name and pytorch.seeded(_imported("network", name), self.spec.seed)
        if pytorch.is_module(made) and self.spec.network.own_starts:
            raise InputError("network: own_starts are for networks that are trained here")
        return made

    def _problem(self, network: networks.Network, seed: int) -> Problem:
        """The spec's data with that network, started from that seed."""
        spec = self.spec
        own = np.random.SeedSequence(seed).generate_state(self.partition.agents)
        return Problem(
            network,
            self.partition,
            loss=spec.loss,
            seed=[int(each) for each in own] if spec.network.own_starts else seed,
            public=self._points.test_inputs[-spec.data.public :] if spec.data.public else None,
        )

    @functools.cached_property
    def weights(self) -> graphs.Weights:
        changes, agents = self.spec.graph.changes, self._agents
        if changes is None:
            return self._fixed_weights
        if (changes.kind == "link_failures") != (changes.probability is not None):
            raise InputError("graph.changes: a probability goes with link_failures, and only there")
        if (changes.peers is not None) > (changes.kind in ("hyper_hypercube", "base")):
            raise InputError(
                "graph.changes: peers go with hyper_hypercube and base, and only there"
            )
        drawn = {"length": changes.length, "seed": self._seed(changes.seed)}
        if changes.kind in WITHOUT_TOPOLOGY:
            if self.spec.graph.model_fields_set != {"changes"} or self.spec.graph.model_extra:
                raise InputError(f"graph.changes: {changes.kind} goes without other settings")
            return self._own_changes(changes, agents, drawn)
        if changes.kind == "random_matchings":
            return graphs.random_matchings(self._fixed_weights.graph, **drawn)
        return graphs.link_failures(self._fixed_weights, changes.probability, **drawn)

    def _own_changes(
        self, changes: ChangesTable, agents: int, drawn: dict[str, int]
    ) -> graphs.MixingSequence:
        if changes.kind == "equi_dynamic":
            return graphs.equi_dynamic(agents, **drawn)
        if changes.kind == "one_peer_exponential":
            return graphs.one_peer_exponential(agents)
        return getattr(graphs, changes.kind)(agents, changes.peers or 1)

    @functools.cached_property
    def _fixed_weights(self) -> graphs.MixingMatrix:
        table, agents = self.spec.graph, self._agents
        kinds = [kind for kind in OF_GRAPHS if getattr(table, kind) is not None]
        if len(kinds) != 1:
            raise InputError(
                "graph: give a topology or a matrix, one of the two, or a file in place of them"
            )
        settings = {name: getattr(table, name) for name in table.model_fields_set}
        settings = {name: value for name, value in settings.items() if value is not None}
        for name in sorted({*settings, *(table.model_extra or {})}):
            _check_belongs(name, kinds[0])
        sums = "columns" if self.method.needs.columns else "rows"
        if table.matrix is not None:
            return graphs.mixing(table.matrix, agents=agents, sums=sums)
        if table.topology is not None:
            defaults = {"agents": agents, "seed": self.spec.seed, "counts": self.partition.counts}
            return graphs.build(table.topology, table.weights, defaults, **table.model_extra or {})
        reading = {name: settings[name] for name in READING if name in settings}
        graph = graphs.read(self.spec.found(table.file, self.data_dir), **reading)
        weights = graphs.weigh(graph, table.weights, sums)
        names = self.partition.agent_names
        return graphs.mixing(weights, agents=agents, sums=sums, names=names)

    @property
    def _agents(self) -> int:
        """How many agents there are, as the spec says or the data."""
        agents = self.spec.partition.agents
        return self.partition.agents if agents is None else agents

    @functools.cached_property
    def method(self) -> methods.Method:
        name, step = self.spec.method.name, self.spec.method.step_size
        step_size = methods.of_limit(step.of_limit) if isinstance(step, ShareOfLimit) else step
        settings = {"step_size": step_size} | (self.spec.method.model_extra or {})
        method = made("method", name, methods.METHODS, settings)
        check_kind(f"method {name}", method, methods.Method, "as `methods.dgd` gives")
        method = _paced(method, self.spec.method)
        return links.over(method, *map(_link, self.spec.link)) if self.spec.link else method

    def check(self, *, trained: bool = False) -> None:
        """Refuse a run that does not go together, or has no room, before its kernel is computed."""
        if trained and pytorch.is_module(self._model):
            raise InputError(
                f"network: {self.spec.network.model} is a module of PyTorch's, which is predicted "
                f"here (`ntkdyn predict`) and trained by its own code; hold its log against the "
                f"prediction with `ntkdyn compare`"
            )
        save = SaveOptions(parameter_rounds=self.spec.run.parameter_rounds)
        plan(self.system, **self._rounds, save=save)
        if self.certifies:
            certificate.check_provable(self.system)

    @property
    def certifies(self) -> bool:
        """Whether a bound of the prediction's error is to be proven."""
        return self.spec.run.certify is not None and self.spec.run.certify is not False

    @functools.cached_property
    def system(self) -> System:
        """The method on the graph, learning the problem."""
        size = self.spec.run.batch_size
        seed = None if size is None else self.spec.seed
        return System(self.problem, self.method, self.weights, self.spec.kernel, size, seed)

    @property
    def settled(self) -> System:
        """The same with its step size as a number."""
        return self.system.with_(method=self.stability.method)

    @property
    def stability(self) -> dynamics.Stability:
        """The step size as a number, and whether it is stable, where a kernel can tell."""
        return self.settle()

    def settle(self, progress: Progress | None = None) -> dynamics.Stability:
        """The `stability`, found once; `progress` shows the step sizes looked at for its limit."""
        found = vars(self)  # where cached properties are as well
        if "_settled" not in found:
            found["_settled"] = self._assessed(progress)
        return found["_settled"]

    def _assessed(self, progress: Progress | None) -> dynamics.Stability:
        method, spec = self.method, self.spec
        if spec.kernel == "implicit" or spec.network.own_starts or not method.at_largest.affine:
            return dynamics.Stability(dynamics.known_step(method), None, None)
        return dynamics.assess(self.system, progress)

    @functools.cached_property
    def network(self) -> networks.Network:
        table = self.spec.network
        columns = outputs_for(self.partition.data, losses.named(self.spec.loss))
        if table.model is not None:
            return _network_of(table, self._model, columns * self.method.heads)
        settings = table.model_dump(exclude={"kind", "own_starts"}, exclude_none=True)
        make = networks.KINDS[table.kind]
        odd = sorted(set(settings) - set(inspect.signature(make).parameters))
        if odd:
            raise InputError(f"network: {odd[0]} is no setting of a network of kind {table.kind}")
        return make(outputs=columns * self.method.heads, **settings)

    def predict(self, progress: Progress | None = None, proving: Progress | None = None) -> Record:
        """What the spec's run should show; and, if it is to be proven, how far off it can be."""
        run = self.spec.run
        record = self._run(
            dynamics.predict,
            progress,
            trust=run.trust,
            anchors=run.anchors,
            corrections=run.corrections,
        )
        return certificate.bounded(record, self._proven(proving)) if self.certifies else record

    def _proven(self, progress: Progress | None) -> Record:
        """What `certify` says of the spec's run."""
        self.check()
        asked = self.spec.run.certify
        sweeps = {} if asked is True else {"corrections": asked}
        return dynamics.certify(self.settled, **self._rounds, **sweeps, progress=progress)

    def train(
        self,
        progress: Progress | None = None,
        checkpoints: Checkpoints | None = None,
        devices: int | None = None,
        memory: str | None = None,
    ) -> Record:
        """What the spec's run does show, on the first `devices`, in so much `memory` of each."""
        self.check(trained=True)
        chosen = None if devices is None else _first(devices)
        return self._run(
            validation.train,
            progress,
            checkpoints=checkpoints,
            precision=self.spec.run.precision,
            devices=chosen,
            memory=memory,
        )

    def checkpoints(
        self, folder: Path, *, resume: bool, minutes: float, rounds: int | None
    ) -> Checkpoints:
        """Where the training saves itself, beside the records in `folder`."""
        return Checkpoints(
            folder / "checkpoints",
            resume=resume,
            minutes=minutes,
            rounds=rounds,
            settings=flat(self.spec.model_dump()),
        )

    def finished(self, path: Path) -> Record | None:
        """The record at `path`, if it is there and of this very spec."""
        record = records.read(path) if path.is_file() else None
        return (
            record if record is not None and record.attrs.get("spec") == self.spec.text() else None
        )

    def kernel(
        self,
        form: str,
        memory: str | None,
        file: Path,
        *,
        double: bool = False,
        progress: Progress | None = None,
    ) -> kernels.KernelPlan:
        """Write the empirical kernel between all training points to `file`, tile by tile."""
        self.check(trained=True)
        problem = self.problem
        return kernels.compute(
            problem.network.apply,
            problem.start,
            problem.inputs[: problem.task.train],
            form=int(form) if re.fullmatch("[0-9]{1,9}", form) else form,
            dtype="float64" if double else "float32",
            memory=memory,
            file=file,
            progress=progress,
        ).plan

    def account(
        self, predicted: Record, observed: Record, progress: Progress | None = None
    ) -> Record:
        """The gap between the two sides of the spec's run, by source."""
        table, runs = self.spec.run, {"observed": observed}
        if self.spec.kernel == "empirical" and table.anchors is None and table.corrections is None:
            runs["linearization"] = predicted
        return validation.account(
            self.settled,
            **self._rounds,
            precision=table.precision,
            runs=runs,
            progress=progress,
        )

    def nulls(
        self, predicted: Record, observed: Record, progress: Progress | None = None
    ) -> Record:
        """How far the spec's run is from predictions of what was not run."""
        return validation.nulls(
            self.settled,
            observed,
            anchors=predicted["anchor"].values if "anchor" in predicted.coords else None,
            corrections=self.spec.run.corrections,
            progress=progress,
        )

    @functools.cached_property
    def case(self) -> Case:
        """The linearized problem, the method and the graph, for theorems."""
        return theorems.case(self.settled)

    def bounds(
        self,
        predicted: Record,
        observed: Record | None = None,
        progress: Progress | None = None,
    ) -> list[table.Row]:
        """Every bound about the method, held against both sides of the run.

        With minibatches also those on expectations, where these can be followed exactly and within
        minutes.
        """
        found = table.rows(self.case, predicted, observed)
        batch = self.spec.run.batch_size
        promised = noisy.bounds_of(self.case, batch) if batch else []
        rounds = [int(each) for each in predicted["round"].values]
        if not promised or not noisy.followable(self.case, rounds[-1]):
            return found
        known = noisy.expected(
            self.problem,
            self.case,
            rounds,
            batch_size=batch,
            kernel=self.spec.kernel,
            progress=progress,
        )
        return found + [table.Row(bound.check(known), None) for bound in promised]

    def learning_curve(self, noise: float = 0.0, what: str = "losses") -> Record:
        """Test losses in the mean over all draws of as many points, all the spec's being the pool.

        `what` is one of `learning_curves.PLANS`: these losses, or what follows from them.
        Agents draw with replacement and losses are means over the pool; the kernel is that of
        infinite width, the targets are less the network's start. `noise` is that of labels drawn.
        """
        spec, problem = self.spec, self.problem
        for odd, known in (
            (spec.loss != "mse", "the loss mse"),
            (spec.run.batch_size is not None, "all points in each round, no batch_size"),
            (spec.network.own_starts or problem.task.public, "one start and no public points"),
        ):
            if odd:
                raise InputError(f"learning curve: is known for {known} only")
        kernel = kernels.infinite.compute(self.network.kernel, problem.inputs).values
        modes = learning_curves.spectrum_of(kernel, problem.task.targets - problem.initial)
        rounds = recorded_rounds(spec.run.rounds, spec.run.record_every)
        record = learning_curves.PLANS[what](
            *modes, self.settled.method, self.weights, problem.task.counts, rounds, noise=noise
        )
        return record.assign_attrs(title=spec.title, seed=spec.seed, spec=spec.text())

    def sweep(
        self,
        along: str,
        values: Sequence[float | int],
        seeds: Sequence[int],
        *,
        kernels: Sequence[str] = sweeps.KERNELS,
        progress: Progress | None = None,
        unfinished: Path | None = None,
        resume: bool = False,
    ) -> Record:
        """The spec's run with another width, depth or step size, from several starts.

        Points and their owners stay; a step size is a share of the limit if the spec's is. The file
        `unfinished` keeps the runs that are done until all are; with `resume` they are taken.
        """
        if along not in VARIED:
            raise unknown("sweep", along, VARIED)
        sweeps.check(along, values, seeds, kernels)
        asked = {"along": along, "values": values, "starts": list(seeds), "with": [*kernels]}
        asked |= flat(self.spec.model_dump())
        kept = unfinished and sweeps.Kept(unfinished, resume=resume, settings=asked)
        varied = {
            value: Experiment(VARIED[along](self.spec, value), self.data_dir) for value in values
        }
        spec = self.spec

        def case(value: float | int, seed: int) -> System:
            other = varied[value]
            network = self.network if other.spec.network == spec.network else other.network
            problem = self._problem(network, seed)
            return self.system.with_(problem=problem, method=other.method)

        record = sweeps.sweep(
            case,
            spec.run.rounds,
            along=along,
            values=values,
            seeds=seeds,
            kernels=kernels,
            precision=spec.run.precision,
            progress=progress,
            kept=kept,
        )
        return record.assign_attrs(title=spec.title, seed=spec.seed, spec=spec.text())

    @property
    def _rounds(self) -> dict[str, Any]:
        """Which rounds are recorded."""
        table = self.spec.run
        rounds, every = table.rounds, table.record_every
        if self.first:
            listed = {*recorded_rounds(rounds, every), *range(min(self.first, rounds) + 1)}
            rounds, every = sorted(listed), None
        return {"rounds": rounds, "record_every": every}

    def _run(
        self,
        run: Callable[..., Record],
        progress: Progress | None,
        trust: bool = False,
        **more: Any,
    ) -> Record:
        table = self.spec.run
        record = run(
            self.settled,
            **self._rounds,
            save=SaveOptions(parameter_rounds=table.parameter_rounds, trust=trust),
            stability=self.stability,
            progress=progress,
            **more,
        )
        return record.assign_attrs(
            title=self.spec.title,
            seed=self.spec.seed,
            spec=self.spec.text(),
            network=self.problem.name,
        )

    def _seed(self, own: int | None) -> int:
        return self.spec.seed if own is None else own


def _first(devices: int) -> list[jax.Device]:
    there = jax.devices()
    if not 1 <= devices <= len(there):
        raise InputError(f"devices: must be from 1 to the {len(there)} there are, got {devices}")
    return there[:devices]


def _with_widths(spec: Spec, widths: list[int]) -> Spec:
    """The spec with those hidden layers; scales per layer keep the readout's for the readout."""
    if spec.network.widths is None:
        raise InputError("sweep: a model of one's own has no widths to change")
    table, layers = spec.network, len(spec.network.widths)
    scales = {name: getattr(table, name) for name in ("w_std", "b_std")}
    if len(widths) != layers:
        scales = {
            name: [*[scale[0]] * len(widths), scale[-1]] if isinstance(scale, list) else scale
            for name, scale in scales.items()
        }
    changed = {"widths": widths, **scales}
    return spec.model_copy(update={"network": table.model_copy(update=changed)})


def _with_step_size(spec: Spec, value: float) -> Spec:
    share = isinstance(spec.method.step_size, ShareOfLimit)
    changed = {"step_size": ShareOfLimit(of_limit=value) if share else value}
    return spec.model_copy(update={"method": spec.method.model_copy(update=changed)})


VARIED: dict[str, Callable[[Spec, Any], Spec]] = {
    "width": lambda spec, width: _with_widths(spec, [width] * len(spec.network.widths or ())),
    "depth": lambda spec, depth: _with_widths(spec, (spec.network.widths or [0])[:1] * depth),
    "step_size": _with_step_size,
}
"""what a sweep may go along -> the spec at one value of it"""


def verify(
    record: Record,
    data_dir: Path | None = None,
    tolerance: float | None = None,
    progress: Progress | None = None,
) -> repeats.Repetition:
    """Whether the spec of a prediction or a training gives the record's numbers now."""
    repeats.check_repeatable(record)
    work = Experiment(parse(str(record.attrs["spec"]), "the record's spec"), data_dir)
    run = work.train if record.attrs["space"] == "network" else work.predict
    return repeats.repetition(record, run(progress), tolerance)


class Files(NamedTuple):
    """Where the results of an experiment are written."""

    predicted: Path = Path("predicted.nc")
    observed: Path = Path("observed.nc")
    comparison: Path = Path("comparison.nc")
    overlay: Path = Path("overlay.png")
    report: Path = Path("report.html")
    accounts: Path = Path("accounts.nc")

    def check(self, spec: str | None, overwrite: bool) -> None:
        """Refuse to replace what others wrote, and, unless told to, results of another spec."""
        pictures = self.overlay, self.accounts
        drawn = (path.with_suffix(ending) for path in pictures for ending in (".png", ".pdf"))
        check_replaceable([*self, *drawn], self.of_another(spec), overwrite)

    def of_another(self, spec: str | None) -> list[Path]:
        """The records there that are of another spec; the text of one is given."""
        return of_another([self.predicted, self.observed, self.comparison], spec)


def check_replaceable(files: Sequence[Path], others: Sequence[Path], overwrite: bool) -> None:
    """Refuse files that were not written by ntkdyn, and `others` unless told to overwrite them."""
    disk.check_ours(files)
    if others and not overwrite:
        raise InputError(
            f"output: {others[0].parent} holds results of another spec "
            f"({', '.join(path.name for path in others)}); write to another folder with --out, or "
            f"replace them with --overwrite"
        )


def of_another(paths: Sequence[Path], spec: str | None) -> list[Path]:
    """Those of the records that are there and of another spec; a damaged one is of none."""

    def differs(path: Path) -> bool:
        try:
            return path.is_file() and records.attributes(path).get("spec") != spec
        except InputError:
            return False

    return [path for path in paths if differs(path)]


def files(folder: str | Path) -> Files:
    """The files of an output folder, which is made if need be and must be writable."""
    folder = Path(folder)
    disk.check_writable(folder)
    return Files(*(folder / name for name in Files()))


def check_machine(devices: int | None, memory: str | None) -> None:
    """Refuse devices that are not there, and memory that is no number of bytes."""
    if devices is not None:
        _first(devices)
    if memory is not None:
        kernels.computing.in_bytes(memory)


def compare(
    predicted: Record,
    observed: Record,
    to: Files,
    accounts: Record | None = None,
    nulls: Record | None = None,
) -> Record:
    """Compare two records; write the comparison, the gap by source, the overlay and the report."""
    comparison = validation.compare(predicted, observed, nulls)
    if "spec" in predicted.attrs:
        comparison.attrs["spec"] = predicted.attrs["spec"]
    records.write(comparison, to.comparison)
    pictures = {"overlay": to.overlay}
    figures.style.save(figures.overlay.draw(predicted, observed, comparison), to.overlay)
    if accounts is not None:
        records.write(accounts, to.accounts)
        pictures["accounts"] = to.accounts.with_suffix(".png")
        figures.style.save(figures.accounting.draw(accounts), pictures["accounts"])
    validation.write_report(
        predicted,
        observed,
        comparison,
        accounts,
        pictures,
        to.report,
        formulas=formulas.section(predicted),
    )
    return comparison
