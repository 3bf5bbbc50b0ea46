"""Graphs of one's own: from files, networkx and tables; agents numbered, their names kept.

A graph says who is linked to whom, and perhaps how much a link counts: the attribute `weight` of
its edges. In a matrix A[i, j] is what agent i gives to what it hears from j, as in W. Agents are
numbered in the order of their names (numbers in theirs); each keeps its name as the attribute
`name` of its node, by which W, once weighed, is laid over the owners of data (`mixing`).
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.parsers import expat

import networkx as nx
import numpy as np
import pandas as pd
import scipy.sparse

from ntkdyn import archives, arrays, disk, sizes
from ntkdyn.errors import InputError, check_flag, shown
from ntkdyn.graphs import matlab
from ntkdyn.graphs.links import check_parallel, weight_of
from ntkdyn.names import natural, told_apart

COPIES = 50
"""of a file's size that reading it takes"""

LONGEST_LINE = 2**16
"""characters of the first line in which a separator is looked for"""

ENDS = ({"source", "target"}, {"from", "to"})
"""names of the columns of a table of links"""


def read(
    source: Any, *, names: str | None = None, weighted: bool = True, directed: bool | None = None
) -> nx.Graph:
    """The graph in a file, a networkx graph, a matrix or a table (DataFrame), its agents numbered.

    Files: .graphml, .gexf, .gml, .edgelist (.edges, .txt), .adjlist, .net (.paj), .mat, .npy, .npz
    and .csv (.tsv), which hold a matrix, with or without names, or links with columns source,
    target and perhaps weight. `names` is the attribute of the nodes that agents are called by; what
    identifies the nodes, if left out. `weighted=False` leaves weights out. `directed` is about
    lists of links: whether the second of a link hears from the first alone. Links that go both
    ways, with the same weight, make a graph undirected.

    Args:
        source: a path, graph, matrix or table.
        names: the attribute that agents are called by.
        weighted: whether weights of links are read.
        directed: whether links of lists go one way.

    Returns:
        The graph, agents numbered from 0, `names` among its attributes.

    Raises:
        InputError: for what cannot be read, or is no graph of agents.

    Example:
        >>> nd.graphs.read(nd.graphs.ring(4)).number_of_edges()
        4
    """
    check_flag("graph: weighted", weighted)
    if names is not None and not isinstance(names, str):
        raise InputError(f"graph: names: must be an attribute's name, as text, got {shown(names)}")
    graph = _read(source, directed)
    if not len(graph):
        raise InputError(f"graph: {_called(source)} holds no agents")
    return _numbered(_simple(graph, weighted), names, weighted)


def _called(source: Any) -> str:
    return str(source) if isinstance(source, str | Path) else "what was given"


def _read(source: Any, directed: bool | None) -> nx.Graph:
    if isinstance(source, nx.Graph):
        return source
    if isinstance(source, pd.DataFrame):
        return _of_frame(source.reset_index(drop=True) if _links(source) else source, directed)
    if isinstance(source, np.ndarray) or scipy.sparse.issparse(source):
        return _of_matrix(source)
    if not isinstance(source, str | Path):
        raise InputError(
            f"graph: must be the path of a file, a networkx graph, a DataFrame or a matrix, got "
            f"{type(source).__name__}"
        )
    path = disk.place_of("graph", source)
    if not path.is_file():
        raise InputError(f"graph: there is no file {path}")
    if path.suffix.lower() not in READERS:
        raise InputError(
            f"graph: {path.name} must end in one of {', '.join(READERS)}, and hold what such files "
            f"do; pickles are not read, for reading one runs what is in it"
        )
    return _from_file(path, directed)


def _from_file(path: Path, directed: bool | None) -> nx.Graph:
    reader = READERS[path.suffix.lower()]
    if directed is not None and reader not in LISTS:
        raise InputError(f"graph: directed is about lists of links; {path.name} says it itself")
    sizes.check_room(f"graph: {path.name}", COPIES * path.stat().st_size)
    try:
        return reader(path, directed)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"graph: cannot read {path}; {error.strerror or error}") from None
    except Exception as error:  # whatever networkx, SciPy and pandas make of a damaged file
        reason = str(error) or "it ends before it should"
        raise InputError(
            f"graph: {path} is no {path.suffix} file that can be read; {reason}"
        ) from None


# --- one reader per kind of file --------------------------------------------------------------


def _xml(read: Callable[[Path], nx.Graph]) -> Callable[[Path, bool | None], nx.Graph]:
    def checked(path: Path, directed: bool | None) -> nx.Graph:
        del directed
        _check_xml(path)
        return read(path)

    return checked


def _check_xml(path: Path) -> None:
    """Refuse entities, which could grow without end or name other files, and agents told twice."""
    nodes: Counter[str] = Counter()
    ends: set[str] = set()

    def entity(*declared: Any) -> None:
        raise InputError(
            f"graph: {path} declares the entity {declared[0]!r}; entities are not expanded, write "
            f"out what it stands for"
        )

    def element(tag: str, attributes: dict[str, str]) -> None:
        kind = tag.rsplit(":")[-1]
        if kind == "node" and "id" in attributes:
            nodes[attributes["id"]] += 1
        if kind == "edge":
            ends.update(attributes[end] for end in ("source", "target") if end in attributes)

    parser = expat.ParserCreate()
    parser.EntityDeclHandler, parser.StartElementHandler = entity, element
    with path.open("rb") as file:
        parser.ParseFile(file)
    twice = [name for name, times in nodes.items() if times > 1]
    if twice:
        raise InputError(f"graph: {path} holds the agent {shown(twice[0])} twice")
    if lacking := sorted(ends - set(nodes)):
        raise InputError(f"graph: a link of {path} names {shown(lacking[0])}, which is no agent")


def _gml(path: Path, directed: bool | None) -> nx.Graph:
    del directed
    try:
        return nx.read_gml(path)
    except nx.NetworkXError as error:
        if "no 'label' attribute" not in str(error):
            raise
        return nx.read_gml(path, label="id")


def _pajek(path: Path, directed: bool | None) -> nx.Graph:
    del directed
    return nx.read_pajek(path)


def _edges(path: Path, directed: bool | None) -> nx.Graph:
    lines = list(_fields(path))
    width = len(lines[0][1]) if lines else 2
    if width not in (2, 3):
        raise InputError(f"graph: a link of {path} must be two agents and perhaps a weight")
    for number, fields in lines:
        if len(fields) != width:
            raise InputError(
                f"graph: line {number} of {path} has {len(fields)} fields and others {width}"
            )
    weighed = [(("weight", float),), True][fields[2].startswith("{")] if width == 3 else False
    text = (" ".join(fields) for _, fields in lines)
    return nx.parse_edgelist(text, data=weighed, create_using=_kind(directed, many=True))


def _fields(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(number, fields) of every line of a list of links, without comments and empty lines."""
    for number, line in enumerate(path.read_text("utf-8-sig").splitlines(), start=1):
        plain = line.split("#")[0].strip()
        if plain:
            plain = plain if "{" in plain else plain.replace(",", " ")
            yield number, plain.split(maxsplit=2)


def _adjacent(path: Path, directed: bool | None) -> nx.Graph:
    text = path.read_text("utf-8-sig").splitlines()
    return nx.parse_adjlist(text, create_using=_kind(directed))


def _kind(directed: bool | None, many: bool = False) -> nx.Graph:
    kinds = [[nx.Graph, nx.DiGraph], [nx.MultiGraph, nx.MultiDiGraph]]
    return kinds[many][bool(directed)]()


def _mat(path: Path, directed: bool | None) -> nx.Graph:
    del directed
    return _of_matrix(_only_matrix(path, matlab.read(path)))


def _npy(path: Path, directed: bool | None) -> nx.Graph:
    del directed
    return _of_matrix(archives.npy("graph", path))


def _npz(path: Path, directed: bool | None) -> nx.Graph:
    del directed
    held = archives.Npz("graph", path)
    if "format" in held:
        return _of_matrix(scipy.sparse.load_npz(path))
    return _of_matrix(_only_matrix(path, dict(held)))


def _only_matrix(path: Path, held: dict[str, Any]) -> Any:
    """The one square matrix among the arrays."""
    square = [
        name
        for name, each in held.items()
        if getattr(each, "ndim", 0) == 2 and each.shape[0] == each.shape[1] > 1
    ]
    if len(square) != 1:
        raise InputError(
            f"graph: {path} must hold one square matrix, got {len(square)} among "
            f"{shown(sorted(held))}"
        )
    return held[square[0]]


def _table(path: Path, directed: bool | None) -> nx.Graph:
    cells = pd.read_csv(
        path, sep=_separator(path), header=None, dtype=str, keep_default_na=False,
        encoding="utf-8-sig", skipinitialspace=True,
    )  # fmt: skip
    numbers = cells.apply(pd.to_numeric, errors="coerce")
    first = cells.iloc[0].str.strip()
    if any(ends <= {*first.str.lower()} for ends in ENDS):
        table = cells[1:].set_axis(first.str.lower(), axis="columns").reset_index(drop=True)
        return _of_frame(table, directed)
    if directed is not None:
        raise InputError(f"graph: directed is about lists of links; {path.name} holds a matrix")
    if numbers.notna().all(axis=None) and len(cells) == cells.shape[1]:
        return _of_matrix(numbers.to_numpy())
    cornered = len(cells) == cells.shape[1]
    columns = first[1:] if cornered else first
    rows = cells.iloc[1:, 0].str.strip() if cornered else columns
    body = numbers.iloc[1:, 1:] if cornered else numbers.iloc[1:]
    if len(body) != len(columns) or body.isna().any(axis=None):
        raise InputError(
            f"graph: {path} must hold a square matrix of numbers, with or without names, or links "
            f"in columns source, target and perhaps weight"
        )
    return _of_frame(body.set_axis(rows, axis="index").set_axis(columns, axis="columns"), None)


def _separator(path: Path) -> str:
    """What stands between the fields of the first line that is not empty."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = next((line for line in file if line.strip()), "")
    try:
        return csv.Sniffer().sniff(first[:LONGEST_LINE]).delimiter
    except csv.Error:  # a single field
        return ","


Reader = Callable[[Path, bool | None], nx.Graph]

LISTS: tuple[Reader, ...] = (_edges, _adjacent, _table)

READERS: dict[str, Reader] = {
    ".graphml": _xml(nx.read_graphml),
    ".gexf": _xml(nx.read_gexf),
    ".gml": _gml,
    ".edgelist": _edges,
    ".edges": _edges,
    ".txt": _edges,
    ".adjlist": _adjacent,
    ".net": _pajek,
    ".paj": _pajek,
    ".mat": _mat,
    ".npy": _npy,
    ".npz": _npz,
    ".csv": _table,
    ".tsv": _table,
}
"""the end of a file's name -> what reads it, told whether links are directed"""


# --- tables and matrices ------------------------------------------------------------------------


def _links(frame: pd.DataFrame) -> set[str] | None:
    """The names of both ends, where the table is one of links."""
    return next((ends for ends in ENDS if ends <= {*map(str, frame.columns)}), None)


def _of_frame(frame: pd.DataFrame, directed: bool | None) -> nx.Graph:
    if (ends := _links(frame)) is None:
        return _of_named_matrix(frame)
    known = {*ends, "weight"}
    if odd := [name for name in frame.columns if name not in known]:
        raise InputError(f"graph: links have columns {sorted(known)}, not {shown(odd[0])}")
    source, target = sorted(ends, key=("source", "from", "target", "to").index)
    if "weight" in frame:
        weights = pd.to_numeric(frame["weight"], errors="coerce")
        if weights.isna().any():
            row = int(weights.isna().to_numpy().argmax())
            got = shown(frame["weight"].iloc[row])
            raise InputError(f"graph: the weight in row {row + 1} must be a number, got {got}")
        frame = frame.assign(weight=weights)
    weight = "weight" if "weight" in frame else None
    return nx.from_pandas_edgelist(
        frame, source, target, weight, create_using=_kind(directed, many=True)
    )


def _of_named_matrix(frame: pd.DataFrame) -> nx.Graph:
    rows, columns = list(map(str, frame.index)), list(map(str, frame.columns))
    numbered = isinstance(frame.index, pd.RangeIndex) and isinstance(frame.columns, pd.RangeIndex)
    if rows != columns:
        raise InputError(
            f"graph: rows and columns of a matrix must have the same names in the same order, got "
            f"{shown(rows)} and {shown(columns)}"
        )
    _check_once(rows)
    graph = _of_matrix(frame.to_numpy())
    return graph if numbered else nx.relabel_nodes(graph, dict(enumerate(rows)))


def _of_matrix(values: Any) -> nx.Graph:
    """Numbered agents, without names."""
    matrix = arrays.numbers("graph", values)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InputError(f"graph: a matrix must be square (agents, agents), got {matrix.shape}")
    kind = nx.Graph if (matrix == matrix.T).all() else nx.DiGraph
    graph = nx.from_numpy_array(matrix.T.astype(np.float64), create_using=kind)
    graph.graph["unnamed"] = True
    return graph


# --- one form for all ---------------------------------------------------------------------------


def _simple(graph: nx.Graph, weighted: bool) -> nx.Graph:
    """The graph with one link between two agents, undirected where all links go both ways."""
    if graph.is_multigraph():
        if weighted:
            check_parallel("graph", graph)
        graph = (nx.DiGraph if graph.is_directed() else nx.Graph)(graph)
    if graph.is_directed() and all(_mutual(graph, *link, weighted) for link in graph.edges):
        graph = graph.to_undirected()
    return graph


def _mutual(graph: nx.DiGraph, sender: Any, listener: Any, weighted: bool) -> bool:
    if not graph.has_edge(listener, sender):
        return False
    there, back = graph[sender][listener], graph[listener][sender]
    return not weighted or there.get("weight") == back.get("weight")


def _numbered(graph: nx.Graph, attribute: str | None, weighted: bool) -> nx.Graph:
    """The agents 0, 1, ... in the order of their names, which they keep."""
    nodes = list(graph)
    called = [str(node) for node in nodes] if attribute is None else _told(graph, attribute)
    _check_once(called)
    told_apart("graph", called)
    order = sorted(range(len(nodes)), key=lambda i: natural(called[i]))
    number = {nodes[i]: place for place, i in enumerate(order)}
    made = nx.DiGraph() if graph.is_directed() else nx.Graph()
    unnamed = attribute is None and graph.graph.get("unnamed") and nodes == list(range(len(nodes)))
    for i in order:
        made.add_node(number[nodes[i]], **({} if unnamed else {"name": called[i]}))
    for one, other, weight in graph.edges(data="weight"):
        kept = weighted and weight is not None
        weights = {"weight": weight_of("graph", one, other, weight)} if kept else {}
        made.add_edge(number[one], number[other], **weights)
    return made


def _told(graph: nx.Graph, attribute: str) -> list[str]:
    named = dict(graph.nodes(data=attribute))
    lacking = [node for node, name in named.items() if name is None]
    if lacking:
        known = sorted({str(key) for _, held in graph.nodes(data=True) for key in held})
        raise InputError(
            f"graph: agent {shown(lacking[0])} has no {shown(attribute)}; attributes of nodes are "
            f"{shown(known)}"
        )
    return [str(named[node]) for node in graph]


def _check_once(names: list[str]) -> None:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise InputError(f"graph: two agents are called {shown(twice[0])}")
