"""Doors for what people bring: tables, arrays, pickles as CIFAR-10 has them, graph files."""

from __future__ import annotations

import functools
import gzip
import os
import pickle
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse

from fuzz.harness import Door, Wrong
from fuzz.inputs import TEXTS, Draw, changed, damaged, odd, replaced
from ntkdyn import data, graphs

WORDS = [
    *(each for each in TEXTS if each not in ("\ud800", "\x00")), "1e999", "-inf", "1_000", "1,5",
    "0x10", "9" * 400, '"', "'", '"",', "NA", "-0.0", "True", "2026-01-01", "\u0663", "=1+1", "\t",
]  # fmt: skip
"""what a cell or a field of a text file may say"""


def _written(write: Callable[[Path], Any]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "whole"
        write(path)
        return path.read_bytes()


# --- tables and arrays ------------------------------------------------------------------------


@functools.cache
def _frame() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    towns = ["aix", "bonn", "cork"] * 4
    return pd.DataFrame({"age": rng.random(12), "rooms": rng.integers(9, size=12), "town": towns})


def _cells(draw: Draw, between: str) -> str:
    """The table as text, with a few of its cells odd, lost or told twice."""
    rows = [list(_frame()), *([str(each) for each in row] for row in _frame().to_numpy())]
    for _ in range(draw.integers(1, 4)):
        row = rows[draw.integers(len(rows))]
        at = int(draw.integers(len(row) + 1))
        row[at : at + int(draw.integers(2))] = [WORDS[draw.integers(len(WORDS))]][
            draw.integers(2) :
        ]
    between = between if draw.random() < 0.8 else ",;\t|"[draw.integers(4)]
    return "\n".join(between.join(row) for row in rows)


def table(draw: Draw, folder: Path) -> None:
    path = (
        folder
        / ["table.csv", "table.tsv", "table.csv.gz", "table.parquet"][
            draw.choice(4, p=[0.4, 0.3, 0.2, 0.1])
        ]
    )
    between = "\t" if path.suffix == ".tsv" else ","
    whole = _frame().to_csv(index=False, sep=between).encode()
    content = damaged(draw, whole) if draw.random() < 0.5 else _cells(draw, between).encode()
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)
        content = damaged(draw, content) if draw.random() < 0.3 else content
    path.write_bytes(content)
    asked = {
        "target": "age", "owner": "town", "test": 3, "scale": "standard", "seed": 0,
        "features": None, "header": True, "task": "auto", "target_scale": None, "train": None,
    }  # fmt: skip
    found = data.read(path, **(replaced(draw, asked) if draw.random() < 0.3 else asked))
    _check_usable(found)


def _check_usable(found: data.Dataset) -> None:
    """What was taken can be learned from: finite numbers, and owners of all of them."""
    for each in (found.train_inputs, found.train_labels, found.test_inputs, found.test_labels):
        if not np.isfinite(each).all():
            raise Wrong("points that are no finite numbers are read as if they were")
    if found.owner is not None:
        data.partition(found, by="given")


@functools.cache
def _arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(6)
    return {
        "x_train": rng.random((9, 4)), "y_train": np.arange(9) % 3, "x_test": rng.random((3, 4)),
        "y_test": np.arange(3), "owner": np.arange(9) % 2,
    }  # fmt: skip


def array(draw: Draw, folder: Path) -> None:
    """Arrays in .npz, .npy and in memory: their bytes damaged, or one of them odd."""
    kind = draw.integers(3)
    if kind == 2:
        held = replaced(draw, _arrays())
        _check_usable(data.read(_frame_of(draw, held) if draw.random() < 0.2 else held))
        return
    path = folder / ["arrays.npz", "array.npy"][kind]
    path.write_bytes(_saved(draw, npz=kind == 0))
    _check_usable(data.read(path, **({} if kind == 0 else {"target": 3})))


def _frame_of(draw: Draw, held: dict[str, Any]) -> Any:
    """One of the arrays as a DataFrame, where pandas makes one of it."""
    try:
        return pd.DataFrame(held[[*held][draw.integers(len(held))]])
    except Exception:  # pandas's own refusal
        return held


def _saved(draw: Draw, npz: bool) -> bytes:
    held = dict(_arrays())
    if draw.random() < 0.4:
        name = [*held][draw.integers(len(held))]
        held[name] = changed(draw, held[name])
    try:
        content = _written(lambda path: _save(path, held, npz))
    except Exception:  # NumPy has no such arrays
        content = _written(lambda path: _save(path, _arrays(), npz))
    return damaged(draw, content) if draw.random() < 0.6 else content


def _save(path: Path, held: dict[str, Any], npz: bool) -> None:
    with path.open("wb") as file:
        np.savez(file, **held) if npz else np.save(file, held["x_train"])


# --- pickles ----------------------------------------------------------------------------------

MARK = "executed"
"""the folder that whatever is executed makes"""


class Runs:
    """What calls a function with these arguments when it is unpickled."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


def _execute() -> list[Any]:
    """Objects that make a folder when they are unpickled."""
    code = f"import os; os.mkdir({MARK!r})"
    return [
        Runs(os.mkdir, MARK),
        Runs(os.system, f"mkdir {MARK}"),
        Runs(exec, code),
        Runs(eval, f"__import__('os').mkdir({MARK!r})"),
        Runs(getattr, Runs(__import__, "os"), "mkdir"),
        Runs(map, os.mkdir, [MARK]),
        Runs(list, Runs(map, os.mkdir, [MARK])),
        Runs(np.lib.format.open_memmap, MARK, "w+", "u1", (1,)),
        Runs(np.dtype, Runs(os.mkdir, MARK)),
    ]


WRITTEN = [
    f"cos\nmkdir\n(S'{MARK}'\ntR.",
    f"cposix\nmkdir\n(V{MARK}\ntR.",
    f"(S'{MARK}'\nios\nmkdir\n.",
    f"(cos\nmkdir\nS'{MARK}'\no.",
    f"\x80\x02cos\nmkdir\n(X\x08\x00\x00\x00{MARK}t\x81.",
    f"\x80\x04cbuiltins\nexec\n(V__import__('os').mkdir('{MARK}')\ntR.",
    f"\x80\x04\x8c\x05numpy\x8c\x0fcore.os.mkdir\x93(V{MARK}\ntR.",
    f"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93(V{MARK}\ntR.",
    f"cnumpy\ndtype\n(S'u1'\ntR(dS'__class__'\ncos\nmkdir\nsb(S'{MARK}'\ntR.",
    f"cnumpy\ndtype\n(dV_make\ncos\nmkdir\nsb(S'{MARK}'\ntR.",
    f"c_codecs\nencode\n(V{MARK}\nVunicode_escape\ntR.",
    f"P{MARK}\n.",
    f"(V{MARK}\nQ.",
    "\x82\x01.",
    "\x80\x04\x8e" + "\xff" * 8 + ".",
    "\x80\x02\x8b\xff\xff\xff\x7f.",
    "\x80\x04\x95" + "\xff" * 7 + "\x7f.",
    "\x80\x04\x96" + "\xff" * 7 + "\x7f.",
    "\x80\x02]q\x00h\x00a.",
    "\x80\x02" + "(" * 20_000 + ".",
    "\x80\x02" + "]" * 20_000 + "a" * 19_999 + ".",
    "\x80\x02" + ")" + "\x85" * 20_000 + ".",
    "I" + "9" * 5_000 + "\n.",
    "cnumpy\nndarray\n)R(I1\n(I-1\ntcnumpy\ndtype\n(S'u1'\ntRI00\nS''\ntb.",
    "}(V\ncnumpy\nndarray\n)R(I1\n(L2147483648L\nL2147483648L\ntcnumpy\ndtype\n(S'u1'\ntRI00\nS''\ntbu.",
]
"""pickles by hand, in Latin-1: what executes something, and what lies about its size"""


def _batch() -> dict[bytes, Any]:
    images = np.random.default_rng(7).integers(0, 256, (4, 3072), dtype=np.uint8)
    names = [b"a.png", b"b.png", b"c.png", b"d.png"]
    return {b"batch_label": b"batch", b"labels": [1, 2, 3, 4], b"data": images, b"filenames": names}


def _pickled(draw: Draw) -> bytes:
    held = _batch()
    kind = draw.random()
    if kind < 0.25:
        return WRITTEN[draw.integers(len(WRITTEN))].encode("latin-1")
    if kind < 0.75:
        name = [*held][draw.integers(len(held))]
        payloads = _execute()
        payload = payloads[draw.integers(len(payloads))]
        ways = [payload, [payload], (1, payload), {b"a": payload}]
        held[name] = ways[draw.integers(len(ways))] if kind < 0.55 else changed(draw, held[name])
    content = _dumped(held, int(draw.integers(6)))
    return damaged(draw, content) if kind >= 0.75 or draw.random() < 0.3 else content


def _dumped(held: dict[bytes, Any], protocol: int) -> bytes:
    """The pickle; that of the names alone where Python pickles no such values."""
    try:
        return pickle.dumps(held, protocol)
    except Exception:
        return pickle.dumps(list(held), protocol)


def pickled(draw: Draw, folder: Path) -> None:
    """Batches of CIFAR-10; nothing in them may be executed, whatever becomes of them."""
    here, mark = folder / "cifar-10-batches-py", folder / MARK
    here.mkdir(exist_ok=True)
    names = ["data_batch_1", "test_batch"]
    for name in names:
        (here / name).write_bytes(_whole_batch())
    (here / names[draw.integers(2)]).write_bytes(_pickled(draw))
    try:
        data.load("cifar-10", train=4, test=2, seed=0, data_dir=folder)
    finally:
        if mark.exists():
            shutil.rmtree(mark) if mark.is_dir() else mark.unlink()
            raise Wrong("something in a pickle was executed")


@functools.cache
def _whole_batch() -> bytes:
    return pickle.dumps(_batch(), 2)


# --- graph files ------------------------------------------------------------------------------

WRITERS: dict[str, Callable[[nx.Graph, Path], None]] = {
    "graphml": nx.write_graphml,
    "gexf": nx.write_gexf,
    "gml": nx.write_gml,
    "edgelist": nx.write_weighted_edgelist,
    "adjlist": nx.write_adjlist,
    "net": nx.write_pajek,
    "csv": lambda graph, path: nx.to_pandas_edgelist(graph).to_csv(path, index=False),
    "tsv": lambda graph, path: nx.to_pandas_adjacency(graph).to_csv(path, sep="\t"),
    "npy": lambda graph, path: np.save(path.open("wb"), nx.to_numpy_array(graph)),
    "npz": lambda graph, path: scipy.sparse.save_npz(
        path.open("wb"), nx.to_scipy_sparse_array(graph)
    ),
    "mat": lambda graph, path: scipy.io.savemat(path, {"W": nx.to_numpy_array(graph)}, False),
}
BYTES = ("npy", "npz", "mat")

HOSTILE = {
    "graphml": [
        '<!DOCTYPE g [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>',
        '<!DOCTYPE g [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE g [<!ENTITY % x SYSTEM "http://localhost:9/x.dtd"> %x;]>',
        '<!DOCTYPE g SYSTEM "file:///dev/zero">',
        '<!DOCTYPE g [<!ATTLIST node id CDATA "a">]>',
        '<?xml-stylesheet href="file:///etc/passwd"?>',
        '<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///etc/passwd"/>',
        "<graph>" * 2_000,
        "<a>" * 100_000,
        '<node id="aix"/>',
        '<node id=""/>',
        '<edge source="aix" target="nobody"/>',
        '<hyperedge/><port name="a"/>',
        "&a;",
        "&#0;",
        "<![CDATA[" + "a" * 10_000 + "]]>",
        "<!--",
    ],
    "gml": [
        "node [ " * 2_000, "edge [ source 0 target 0 ]", "edge [ source 0 target 99 ]",
        'node [ id 1 label "aix" ]', "multigraph 1", "directed 1", "[", "]",
        "_networkx_list_start 1", 'weight "&#99999999999;"', "9" * 5_000, "id 1e999",
    ],
    "edgelist": ["a b {'weight': __import__('os').mkdir('executed')}", "aix aix 1",
                 "aix bonn 1e999", "aix bonn nan", "aix bonn -1", "a" * 10_000 + " b 1", "# a",
                 "a b " + "9" * 5_000],
    "adjlist": ["aix aix", "aix", "# aix", "a " * 5_000],
    "net": ["*vertices 9999999999", "*vertices -1", "*matrix", "*arcs", "*edges", "1 99 1",
            '"a', "*network", "1 2 " + "9" * 5_000],
    "csv": ["aix,aix,1", "aix,bonn,1e999", "aix,bonn,nan", "aix,bonn", ",,", '"', "a," * 2_000],
    "tsv": ["\t" * 2_000, "aix\t1\t1\t1", "dover\t0\t0\t0", "aix"],
}  # fmt: skip
"""what is put among the lines of a file"""


@functools.cache
def _graph(ending: str) -> bytes:
    graph = nx.Graph()
    graph.add_weighted_edges_from(
        [("aix", "bonn", 0.5), ("bonn", "cork", 0.25), ("cork", "aix", 0.25)]
    )
    return _written(lambda path: WRITERS[ending](graph, path))


def _lines(draw: Draw, ending: str) -> bytes:
    """A file of text with a line hostile, lost or told twice, or a value within one odd."""
    lines = _graph(ending).decode().split("\n")
    at, hostile = int(draw.integers(len(lines))), HOSTILE["graphml" if ending == "gexf" else ending]
    ways: list[Callable[[], list[str]]] = [
        lambda: [*lines[:at], hostile[draw.integers(len(hostile))], *lines[at:]],
        lambda: lines[:at] + lines[at + 1 :],
        lambda: [*lines[:at], lines[at], *lines[at:]],
        lambda: [*lines[:at], _other_value(draw, lines[at]), *lines[at + 1 :]],
    ]
    return "\n".join(ways[draw.choice(4, p=[0.4, 0.1, 0.1, 0.4])]()).encode()


def _other_value(draw: Draw, line: str) -> str:
    values = [*re.finditer(r"[\w.]+", line)]
    if not values:
        return WORDS[draw.integers(len(WORDS))]
    found = values[draw.integers(len(values))]
    return line[: found.start()] + WORDS[draw.integers(len(WORDS))] + line[found.end() :]


def graph_file(draw: Draw, folder: Path) -> None:
    ending = [*WRITERS][draw.integers(len(WRITERS))]
    path, mark = folder / f"graph.{ending}", folder / MARK
    kind = draw.random()
    if kind < 0.6 and ending not in BYTES:
        path.write_bytes(_lines(draw, ending))
    else:
        path.write_bytes(damaged(draw, _graph(ending)) if kind < 0.95 else _graph(ending))
    asked = {"names": None, "weighted": bool(draw.random() < 0.5), "directed": None}
    found = graphs.read(path, **(replaced(draw, asked) if draw.random() < 0.2 else asked))
    if mark.exists():
        raise Wrong("something in a file was executed")
    graphs.weigh(found, graphs.RULES[draw.integers(len(graphs.RULES))])


def graph_in_memory(draw: Draw, folder: Path) -> None:
    del folder
    whole = nx.Graph([(0, 1), (1, 2), (0, 2)])
    forms = [whole, nx.to_numpy_array(whole), nx.to_scipy_sparse_array(whole),
             nx.to_pandas_adjacency(whole), nx.to_pandas_edgelist(whole)]  # fmt: skip
    given = forms[draw.integers(len(forms))]
    graphs.read(odd(draw) if draw.random() < 0.3 else changed(draw, given))


DOORS = [
    Door("tables", table, 14),
    Door("arrays of one's own", array, 12),
    Door("pickles", pickled, 12),
    Door("graph files", graph_file, 18),
    Door("graphs in memory", graph_in_memory, 4),
]
