"""Parts of a study, each a record of its own in a folder, whole or absent: what is done is done.

A study that was stopped, in whatever way, is asked again with `resume` and takes the parts that are
there; the last part of a study that is written whole is followed by its record, and they vanish.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ntkdyn import records
from ntkdyn.checkpoints import check_same
from ntkdyn.errors import InputError
from ntkdyn.records import Record


class Parts:
    """The parts in a folder; refused (`InputError`) where they are of another study.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp()) / "parts"
        >>> kept = design.Parts(folder, {"seed": 0}, resume=False)
        >>> folder.mkdir(), kept.keep("first", settings), kept.found("second")
        (None, None, None)
        >>> design.Parts(folder, {"seed": 0}, resume=True).found("first").equals(settings)
        True
    """

    def __init__(self, folder: Path, asked: Mapping[str, Any], *, resume: bool) -> None:
        self._folder = folder
        self._asked = {name: str(value) for name, value in asked.items()}
        there = sorted(folder.glob("[!.]*.nc")) if folder.is_dir() else []
        if there and not resume:
            raise InputError(
                f"sweep: {folder} is of an unfinished sweep; resume it, or remove the folder to "
                f"begin again"
            )
        for asked in [*_asked(there)]:
            check_same(folder, asked, self._asked)

    def found(self, name: str) -> Record | None:
        """The part of that name, unless it is not there, or is damaged."""
        try:
            return records.read(self._folder / f"{name}.nc")
        except InputError:
            return None

    def keep(self, name: str, record: Record) -> None:
        marked = record.assign_attrs(asked=json.dumps(self._asked))
        records.write(marked, self._folder / f"{name}.nc")

    def remove(self) -> None:
        """What was kept, as it is no longer needed."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _asked(paths: Sequence[Path]) -> Iterator[dict[str, str]]:
    """What was asked, by the parts that are not damaged."""
    for path in paths:
        with contextlib.suppress(InputError):
            yield json.loads(records.attributes(path)["asked"])
