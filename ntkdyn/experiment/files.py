"""Where results are written, and what may be replaced there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ntkdyn import disk, kernels, records
from ntkdyn.errors import InputError
from ntkdyn.experiment.work import first_devices


class Files(NamedTuple):
    """Where the results of an experiment are written.

    Example:
        >>> experiment.Files().report.name
        'report.html'
    """

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
    """Refuse files that were not written by ntkdyn, and `others` unless told to overwrite them.

    Args:
        files: that are about to be written.
        others: those there that are of another spec.
        overwrite: whether these may be replaced.

    Returns:
        Nothing.

    Raises:
        InputError: which says what is there.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> experiment.check_replaceable([folder / "report.html"], [], overwrite=False)
    """
    disk.check_ours(files)
    if others and not overwrite:
        raise InputError(
            f"output: {others[0].parent} holds results of another spec "
            f"({', '.join(path.name for path in others)}); write to another folder with --out, or "
            f"replace them with --overwrite"
        )


def of_another(paths: Sequence[Path], spec: str | None) -> list[Path]:
    """Those of the records that are there and of another spec; a damaged one is of none.

    Args:
        paths: of records.
        spec: the text of a spec; None: records of no spec.

    Returns:
        Paths, in their order.

    Example:
        >>> import pathlib, tempfile
        >>> path = nd.records.write(work.predict(), pathlib.Path(tempfile.mkdtemp()) / "run.nc")
        >>> experiment.of_another([path], spec.text()), len(experiment.of_another([path], None))
        ([], 1)
    """

    def differs(path: Path) -> bool:
        try:
            return path.is_file() and records.attributes(path).get("spec") != spec
        except InputError:
            return False

    return [path for path in paths if differs(path)]


def files(folder: str | Path) -> Files:
    """The files of an output folder, which is made if need be and must be writable.

    Args:
        folder: where they are to be.

    Returns:
        A path for each result.

    Raises:
        InputError: for a folder that cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> experiment.files(folder).observed == folder / "observed.nc"
        True
    """
    folder = Path(folder)
    disk.check_writable(folder)
    return Files(*(folder / name for name in Files()))


def check_machine(devices: int | None, memory: str | None) -> None:
    """Refuse devices that are not there, and memory that is no number of bytes.

    Args:
        devices: how many; None: whatever there is.
        memory: such as "8 GiB"; None: whatever is free.

    Returns:
        Nothing.

    Raises:
        InputError: for more devices than there are, and for text that is no amount.

    Example:
        >>> experiment.check_machine(1, "8 GiB")
    """
    if devices is not None:
        first_devices(devices)
    if memory is not None:
        kernels.computing.in_bytes(memory)
