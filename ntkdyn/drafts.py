"""Drafts: a spec for one's files, after looking at them; its comments say what was guessed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import networkx as nx
import pandas as pd

from ntkdyn import disk, graphs
from ntkdyn.data.labels import learned
from ntkdyn.data.tables import read_table
from ntkdyn.errors import InputError

TARGETS = ("target", "label", "labels", "class", "y", "outcome", "output", "price", "value")
"""what the column to be learned is called, the likeliest first; else it is the last"""

OWNERS = ("owner", "agent", "node", "client", "worker", "site", "device", "user")
"""what the column of agents is called, where no graph says who they are"""

AGENTS = 8
"""where neither data nor graph say how many there are"""

NAMED = 4
"""names that a comment lists"""


class Seen(NamedTuple):
    """What a table and a graph hold."""

    points: int
    target: str
    task: str
    """what is learned, in words"""
    owner: str | None
    agents: int
    features: list[str]
    left_out: dict[str, str]
    """column -> why it is no feature"""


def spec(
    table: str | Path, graph: str | Path | None = None, folder: str | Path | None = None
) -> str:
    """A commented spec, in TOML, for a table of points and perhaps a file of a graph.

    It is meant for that folder; for the table's own, if left out.

    Raises:
        InputError: for files that cannot be read, and tables with nothing to learn from.
    """
    path = disk.path_of("data", table)
    network = None if graph is None else graphs.read(graph)
    place = path.parent if folder is None else Path(folder)
    files = [None if each is None else _from(place, Path(each)) for each in (path, graph)]
    return _written(*files, look(read_table(path), network), _rule(network))


def _from(folder: Path, file: Path) -> str:
    """The path of a file as a spec in that folder has it."""
    return Path(os.path.relpath(file, folder)).as_posix()


def _rule(graph: nx.Graph | None) -> list[str]:
    """The lines that say what W is: a rule that takes the graph as it is."""
    weighed = graph is not None and any("weight" in data for *_, data in graph.edges(data=True))
    if graph is not None and graph.is_directed():
        left = ["weighted = false  # what links count is left out"] if weighed else []
        return ['weights = "uniform"  # links go one way: over oneself and those heard', *left]
    if weighed:
        return [
            'weights = "sinkhorn"  # links have weights: scaled until rows and columns sum to 1'
        ]
    return ['weights = "metropolis"  # or "uniform", "max_degree", ...']


def look(frame: pd.DataFrame, graph: nx.Graph | None = None) -> Seen:
    """Which column is what: by names, by the agents of the graph, by what they hold."""
    columns = list(frame.columns)
    owner = _owner(frame, graph)
    free = [name for name in columns if name != owner]
    if len(free) < 2:
        raise InputError(f"data: a table needs a target and a feature, got columns {columns}")
    by_name = {name.lower(): name for name in free}
    target = next((by_name[name] for name in TARGETS if name in by_name), free[-1])
    rest = {name: _unfit(frame[name]) for name in free if name != target}
    features = [name for name, why in rest.items() if not why]
    if not features:
        raise InputError("data: no column holds numbers to learn from")
    agents = frame[owner].nunique() if owner else len(graph) if graph is not None else AGENTS
    left_out = {name: why for name, why in rest.items() if why}
    return Seen(len(frame), target, _task(frame, target), owner, agents, features, left_out)


def _owner(frame: pd.DataFrame, graph: nx.Graph | None) -> str | None:
    """The column that holds the graph's agents; without a graph one that is called so."""
    if graph is not None:
        agents = {str(data.get("name", node)) for node, data in graph.nodes(data=True)}
        same = [name for name in frame if {*frame[name].map(str)} == agents]
        return same[0] if same else None
    called = {name.lower(): name for name in frame.columns}
    return next((called[name] for name in OWNERS if name in called), None)


def _unfit(column: pd.Series) -> str:
    """Why a column is no feature; nothing where it is one."""
    if column.isna().any():
        return f"{int(column.isna().sum())} values are missing"
    if str(column.name).startswith("Unnamed: "):
        return "has no name, as an index that was saved"
    if not pd.api.types.is_numeric_dtype(column):
        return "holds no numbers"
    return "is the same in all rows" if column.nunique() == 1 else ""


def _task(frame: pd.DataFrame, target: str) -> str:
    """What is to be learned, in words; what stands against it, where something does."""
    try:
        found = learned("target", frame[[target]].dropna())
    except InputError as error:
        return f"look at it: {error}"
    if found.regression:
        return "numbers: regression"
    more = ", ..." if len(found.names) > NAMED else ""
    return f"{len(found.names)} classes: {', '.join(found.names[:NAMED])}{more}"


def _written(table: str, graph: str | None, seen: Seen, rule: list[str]) -> str:
    """The spec, line by line."""
    left = [f"#   {name}: {why}" for name, why in seen.left_out.items()]
    dealt = seen.owner is None
    lines = [
        f"# {seen.points} points of {table}. Paths are meant from this file's folder.",
        "# ntkdyn run THIS  predicts, trains and compares;  ntkdyn predict THIS  predicts alone.",
        "seed = 0",
        "",
        "[data]",
        f"file = {_text(table)}",
        f"target = {_text(seen.target)}  # {seen.task}",
        *([f"features = {_text(seen.features)}  # left out:", *left] if left else []),
        *([] if dealt else [f"owner = {_text(seen.owner)}  # one of {seen.agents} agents"]),
        "test = 0.25  # the share of points to test on",
        "",
        '[network]  # or model = "module:name" of your own, flax or PyTorch',
        "widths = [512]  # wider is nearer to the prediction, and slower",
        'activation = "erf"',
        "",
        *(_dealing(seen.agents) if dealt else []),
        "[graph]",
        'topology = "ring"' if graph is None else f"file = {_text(graph)}",
        *rule,
        "",
        "[method]",
        'name = "dgd"  # `ntkdyn methods` lists them',
        "step_size = { of_limit = 0.5 }  # half the stability limit; or a number",
        "",
        "[run]",
        "rounds = 200",
    ]
    return "\n".join(lines) + "\n"


def _dealing(agents: int) -> list[str]:
    return [
        "[partition]  # no column says whose the points are: they are dealt",
        f"agents = {agents}",
        'by = "iid"  # or "dirichlet" with alpha = 0.3, "label", ...',
        "",
    ]


def _text(value: Any) -> str:
    """As TOML writes it, which writes text and lists of it as JSON does."""
    return json.dumps(value, ensure_ascii=False)
