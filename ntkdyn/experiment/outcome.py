"""What two records of an experiment say together; a record made again."""

from __future__ import annotations

from pathlib import Path

from ntkdyn import figures, records, validation
from ntkdyn.engine import Progress
from ntkdyn.experiment.files import Files
from ntkdyn.experiment.reading import parse
from ntkdyn.experiment.work import Experiment
from ntkdyn.records import Record
from ntkdyn.theory import formulas
from ntkdyn.validation import repeats


def verify(
    record: Record,
    data_dir: Path | None = None,
    tolerance: float | None = None,
    progress: Progress | None = None,
) -> repeats.Repetition:
    """Whether the spec of a prediction or a training gives the record's numbers now.

    Args:
        record: of a spec, which it holds as text.
        data_dir: where the files are that the spec names.
        tolerance: the largest relative difference that counts as none; by the dtype, if left out.
        progress: called as rounds are done.

    Returns:
        Whether it was repeated, and where not.

    Raises:
        InputError: for a record that holds no spec, or of another kind.

    Example:
        >>> bool(experiment.verify(work.predict()))
        True
    """
    repeats.check_repeatable(record)
    work = Experiment(parse(str(record.attrs["spec"]), "the record's spec"), data_dir)
    run = work.train if record.attrs["space"] == "network" else work.predict
    return repeats.repetition(record, run(progress), tolerance)


def compare(
    predicted: Record,
    observed: Record,
    to: Files,
    accounts: Record | None = None,
    nulls: Record | None = None,
) -> Record:
    """Compare two records; write the comparison, the gap by source, the overlay and the report.

    Args:
        predicted: of `Experiment.predict`.
        observed: of `Experiment.train`, or `from_log`.
        to: where results are written.
        accounts: the gap by source, `validation.account`.
        nulls: predictions of what was not run, `validation.nulls`.

    Returns:
        What `validation.compare` says.

    Raises:
        InputError: for records that cannot be compared.

    Example:
        >>> import pathlib, tempfile
        >>> told = nd.predict(prob, dgd, W, 4)
        >>> seen, to = nd.train(prob, dgd, W, 4), experiment.files(tempfile.mkdtemp())
        >>> _ = experiment.compare(told, seen, to)
        >>> to.report.is_file()
        True
    """
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
    findings = validation.Findings(predicted, observed, comparison, accounts)
    section = formulas.section(predicted)
    validation.write_report(findings, pictures, to.report, formulas=section)
    return comparison
