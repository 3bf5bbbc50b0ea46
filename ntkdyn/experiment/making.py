"""What names and settings of a spec stand for: methods, links, models, one's own by module:name."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any

from ntkdyn import links, methods, networks
from ntkdyn.errors import InputError, shown, unknown
from ntkdyn.experiment.spec import (
    OF_MODELS,
    LinkTable,
    MethodTable,
    NetworkTable,
    ScheduleTable,
)


def made(what: str, name: str, known: dict[str, Callable], settings: dict[str, Any]) -> Any:
    """What the maker of that name, or the one at "module:name", makes of the settings."""
    make = imported(what, name) if ":" in name else known.get(name)
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


def imported(what: str, name: str) -> Callable:
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


def network_of(table: NetworkTable, model: Any, outputs: int) -> networks.Network:
    """The network that a model of one's own is."""
    if odd := sorted(table.model_fields_set - {*OF_MODELS}):
        raise InputError(f"network: {odd[0]} does not go with a model, which says so itself")
    if isinstance(model, networks.Network):
        return model
    if callable(getattr(model, "init", None)) and callable(getattr(model, "apply", None)):
        return networks.wrap(model.apply, model.init, outputs, name=type(model).__name__)
    raise InputError(
        f"network: {table.model} must make a Network, a flax module or a torch.nn.Module, got "
        f"{type(model).__name__}"
    )


def paced(method: methods.Method, table: MethodTable) -> methods.Method:
    """The method with the spec's factors of its step size, and its weight decay."""
    if table.by_agent is not None:
        method = methods.by_agent(method, table.by_agent)
    if table.clip is not None:
        method = methods.clipped(method, table.clip)
    if table.schedule is not None:
        method = _scheduled(method, table.schedule)
    if table.agent_weights is not None:
        method = methods.weighted(method, table.agent_weights)
    if table.weight_decay is not None:
        return methods.weight_decay(method, table.weight_decay, table.decay_toward or "zero")
    if table.decay_toward is not None:
        raise InputError("method: decay_toward goes with a weight_decay")
    return method


def _scheduled(
    method: methods.Method, schedule: list[list[int | float]] | ScheduleTable
) -> methods.Method:
    """The method whose step size follows the pairs, or the schedules that are named."""
    if isinstance(schedule, list):
        return methods.scheduled(method, schedule)
    for name, setting in schedule.model_dump(exclude_none=True).items():
        method = methods.scheduled(method, getattr(methods, name)(setting))
    return method


def link(table: LinkTable) -> Any:
    """The link of a table [[link]]."""
    settings = dict(table.model_extra or {})
    if table.compressor is not None:
        of_its_own = table.compressor.model_extra or {}
        name = table.compressor.name
        settings["compressor"] = made("compressor", name, links.COMPRESSORS, of_its_own)
    return made("link", table.kind, links.LINKS, settings)
