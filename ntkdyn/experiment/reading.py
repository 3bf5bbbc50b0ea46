"""Specs from files, by name and from text, refused in one sentence."""

from __future__ import annotations

import functools
import inspect
import json
import re
import tomllib
import typing
from importlib import resources
from pathlib import Path

import pydantic

from ntkdyn import disk, networks, records
from ntkdyn.errors import InputError, shown, unknown
from ntkdyn.experiment.spec import NetworkTable, RunTable, Spec
from ntkdyn.records import Record


def schema() -> str:
    """What a spec may hold, as a JSON schema: with it editors complete and check one.

    Returns:
        JSON.

    Example:
        >>> import json
        >>> "method" in json.loads(experiment.schema())["properties"]
        True
    """
    return json.dumps(Spec.model_json_schema() | {"title": "a spec of ntkdyn"}, indent=2)


DOTTED = re.compile(r"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){100}""")
"""a key of so many parts that reading it would take a time that grows with their square"""


LARGEST_SPEC = 2**24
"""bytes of a spec: room for a mixing matrix of a thousand agents, and not for a device's zeros"""


def load(path: str | Path) -> Spec:
    """The spec in a TOML file, or the one of that name that ships with the package.

    Args:
        path: of a file, or a name of `shipped`.

    Returns:
        The spec; files that it names are looked for beside it.

    Raises:
        InputError: for a file that is not there, not text, too large, or no spec.

    Example:
        >>> name = list(experiment.shipped())[0]
        >>> experiment.load(name) == experiment.parse(experiment.shipped()[name], name)
        True
    """
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
    """The spec of `ntkdyn demo`.

    Returns:
        A spec.

    Example:
        >>> experiment.demo().data.name
        'digits'
    """
    return parse(resources.files("ntkdyn").joinpath("demo.toml").read_text("utf-8"), "demo.toml")


@functools.cache
def shipped() -> dict[str, str]:
    """Name -> text of the specs that ship with the package, on real images.

    Returns:
        A dictionary, by name.

    Example:
        >>> all("[data]" in text for text in experiment.shipped().values())
        True
    """
    folder = resources.files("ntkdyn").joinpath("specs")
    found = {each.name.removesuffix(".toml"): each.read_text("utf-8") for each in folder.iterdir()}
    return dict(sorted(found.items()))


def _check_widths(network: NetworkTable, name: str) -> None:
    """Those of the kinds that have no widths of their own, and no others."""
    fixed = network.model is not None or "widths" not in _settings(network.kind)
    if (network.widths is None) == fixed:
        return
    if fixed and network.model is None:
        raise InputError(
            f"{name}: network.widths are not for a network of kind {network.kind}, whose own are "
            f"multiplied by `width`"
        )
    raise InputError(f"{name}: network.widths must be given, or a model in their place")


def _check_length(run: RunTable, name: str) -> None:
    """Rounds or epochs, and what epochs are counted by."""
    if run.epochs is None:
        if run.rounds is None:
            raise InputError(f"{name}: run.rounds must be given, or run.epochs in their place")
        return
    if run.rounds is not None:
        raise InputError(f"{name}: run.rounds and run.epochs: give one of them")
    if run.batch_size is None:
        raise InputError(f"{name}: run.epochs are counted by run.batch_size, which must be given")
    if run.epochs <= 0:
        raise InputError(f"{name}: run.epochs must be positive, got {shown(run.epochs)}")


def _settings(kind: str) -> set[str]:
    return set(inspect.signature(networks.KINDS[kind]).parameters)


def parse(text: str, name: str) -> Spec:
    """The spec written in `text`, which is called `name` in messages.

    Args:
        text: TOML.
        name: of a file, say.

    Returns:
        The spec, every setting checked.

    Raises:
        InputError: for text that is not TOML, and the innermost setting that is wrong.

    Example:
        >>> experiment.parse(spec.text().replace("rounds = 4", "rounds = true"), "mine.toml")
        Traceback (most recent call last):
            ...
        ntkdyn.errors.InputError: mine.toml: run.rounds: input should be a valid integer, got True
    """
    if DOTTED.search(text):
        raise InputError(f"spec: {name} nests its values too deeply, by a key of 100 parts or more")
    try:
        spec = Spec.model_validate(tomllib.loads(text))
        _check_widths(spec.network, name)
        _check_length(spec.run, name)
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


def spec_and_observed(path: Path) -> tuple[Spec, Record | None]:
    """The spec in a TOML file; or that of a record, and the record if it was observed.

    Args:
        path: ending in .nc for a record.

    Returns:
        The spec, and a record of training or None.

    Raises:
        InputError: for a record that holds no spec, and as for `load` and `records.read`.

    Example:
        >>> import pathlib, tempfile
        >>> path = nd.records.write(work.predict(), pathlib.Path(tempfile.mkdtemp()) / "run.nc")
        >>> experiment.spec_and_observed(path) == (spec, None)
        True
    """
    if path.suffix != ".nc":
        return load(path), None
    record = records.read(path)
    if "spec" not in record.attrs:
        raise InputError(f"record: {path} holds no spec")
    observed = record if record.attrs.get("space") == "network" else None
    return parse(str(record.attrs["spec"]), "the record's spec"), observed


def with_seed(spec: Spec, seed: int) -> Spec:
    """The spec with another seed, which is checked.

    Args:
        spec: the spec.
        seed: a whole number from 0 to 2^32 - 1.

    Returns:
        Another spec.

    Raises:
        InputError: for another seed.

    Example:
        >>> experiment.with_seed(spec, 7).seed
        7
    """
    text = spec.model_copy(update={"seed": seed}).text()
    return parse(text, "--seed").in_folder(spec.folder)


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
    branches = ("bool", "constrained-int", "float", "int", "str", "ShareOfLimit", "ScheduleTable")
    parts = [str(part) for part in location]
    return [part for part in parts if part not in branches and not part.startswith("list[")]


def _table_of(table: type[pydantic.BaseModel], name: str) -> type[pydantic.BaseModel]:
    """That of a setting, or of the member of a union that is one."""
    annotation = table.model_fields[name].annotation
    members = [annotation, *typing.get_args(annotation)]
    return next(each for each in members if inspect.isclass(each) and hasattr(each, "model_fields"))
