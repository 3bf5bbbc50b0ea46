"""Tables from files, as pandas reads them: CSV and the like, Parquet; their columns by name.

Every column that is used must be whole: values that are missing are refused by row, not made up.
"""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ntkdyn import sizes
from ntkdyn.errors import InputError, is_whole, unknown

SEPARATORS = ",;\t|"
"""what may stand between the fields of a .csv or .txt: of these the one that its first line has"""

AT_A_TIME = 2**20
"""fields of a text file that are read at a time"""

MOST_COLUMNS = 2**16
"""of a text file: pandas takes a tenth of a millisecond for each, in every part that is read"""

LONGEST_LINE = 2**20
"""characters of the first line that are looked at"""

COPIES = 3
"""of a file's size that reading it takes"""

ROWS = 4
"""rows that a refusal names at most"""


def read_table(path: Path, header: bool = True) -> pd.DataFrame:
    """The table in a file; without a header its columns are called "0", "1", ..."""
    if path.is_dir():
        raise InputError(f"data: {path} is a folder, not the file of a table")
    reader = READERS.get(_ending(path))
    if reader is None:
        raise InputError(
            f"data: {path.name} must end in one of {', '.join(READERS)}, .npz or .npy, and what it "
            f"holds must be so; pickles are not read, for reading one runs what is in it"
        )
    try:
        sizes.check_room(f"data: {path.name}", COPIES * path.stat().st_size)
        frame = reader(path, header)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"data: cannot read {path}; {error.strerror or error}") from None
    except UnicodeError:
        raise InputError(f"data: {path} must be text in UTF-8") from None
    except Exception as error:  # whatever pandas and its parsers make of a damaged file
        raise InputError(f"data: {path} is no table; {error}") from None
    if not len(frame):
        raise InputError(f"data: {path} holds no rows")
    return frame


def _ending(path: Path) -> str:
    """.csv of table.csv and of table.csv.gz."""
    endings = [each.lower() for each in path.suffixes]
    return endings[-2] if endings[-1:] == [".gz"] and len(endings) > 1 else "".join(endings[-1:])


def _separated(path: Path, header: bool) -> pd.DataFrame:
    settings: dict[str, Any] = {"sep": _separator(path), "encoding": "utf-8-sig"}
    first = pd.read_csv(path, nrows=1, header=None, dtype=str, **settings).iloc[0]
    if header:
        _check_header(path, first)
    settings |= {"header": 0 if header else None, "index_col": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            frame = _in_parts(path, settings, max(1, AT_A_TIME // len(first)))
        except pd.errors.ParserWarning:
            raise InputError(
                f"data: the rows of {path} have more fields than its header has names"
            ) from None
    frame.columns = frame.columns.map(str)
    return frame


def _in_parts(path: Path, settings: dict[str, Any], rows: int) -> pd.DataFrame:
    """The table, so many rows at a time, for pandas takes several times what it reads at once.

    At once after all where a column is text in some parts and numbers in others.
    """
    parts, held = [], 0
    with pd.read_csv(path, chunksize=rows, **settings) as read:
        for part in read:
            parts.append(part)
            held += int(part.memory_usage().sum())
            so_far = f"data: joining the {sizes.in_words(held)} read of {path.name} so far"
            sizes.check_room(so_far, held)
    frame = pd.concat(parts, ignore_index=True)
    if any(kind == "object" for kind in frame.dtypes):
        return pd.read_csv(path, low_memory=False, **settings)
    return frame


def _separator(path: Path) -> str:
    """What stands between the fields of the first line, of which there must not be too many."""
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig") as file:
        first = file.readline(LONGEST_LINE)
    separator = "\t" if _ending(path) == ".tsv" else max(SEPARATORS, key=first.count)
    if first.count(separator) >= MOST_COLUMNS:
        raise InputError(
            f"data: {path} has more than {MOST_COLUMNS} columns, too many to be read as text; save "
            f"the array as .npy, or as x beside y in an .npz"
        )
    return separator


def _check_header(path: Path, first: pd.Series) -> None:
    """Refuse a first line of numbers, and two columns of the same name."""
    if pd.to_numeric(first, errors="coerce").notna().all():
        raise InputError(
            f"data: the first line of {path} holds numbers alone; it must name the columns, or "
            f"header be false: then they are called 0, 1, ..."
        )
    twice = first[first.duplicated() & first.notna()]
    if len(twice):
        raise InputError(f"data: two columns of {path} are called {twice.iloc[0]!r}")


def _parquet(path: Path, header: bool) -> pd.DataFrame:
    del header
    try:
        frame = pd.read_parquet(path)
    except ImportError:
        raise InputError(
            f"data: reading {path.name} needs pyarrow, which is not installed; install it, or save "
            f"the table as .csv"
        ) from None
    frame.columns = frame.columns.map(str)
    return frame.reset_index(drop=True)


READERS: dict[str, Callable[[Path, bool], pd.DataFrame]] = {
    ".csv": _separated,
    ".tsv": _separated,
    ".txt": _separated,
    ".parquet": _parquet,
}
"""the end of a file's name -> what reads it, with a header or without"""


def columns_of(what: str, frame: pd.DataFrame, given: Any) -> list[str]:
    """Names of the columns that are given by name, or by number from 0 on, one or a list."""
    listed = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    return [_column(what, frame, each) for each in listed]


def _column(what: str, frame: pd.DataFrame, given: Any) -> str:
    known = list(frame.columns)
    if is_whole(given) and -len(known) <= given < len(known):
        return known[given]
    if not isinstance(given, str) or given not in known:
        raise unknown(f"{what} column", given, known)
    return given


def check_whole_rows(what: str, frame: pd.DataFrame, names: Sequence[str]) -> None:
    """Refuse missing values in these columns, naming the first of them."""
    gaps = [
        (int(row), name)
        for name in names
        if frame[name].hasnans
        for row in frame[name].isna().to_numpy().nonzero()[0]
    ]
    if gaps:
        some = sorted(gaps)[:ROWS]
        named = ", ".join(f"row {row + 1} ({name!r})" for row, name in some)
        more = ", ..." if len(gaps) > ROWS else ""
        raise InputError(
            f"{what}: {len(gaps)} values are missing, in {named}{more}; fill or drop these rows "
            f"first"
        )
