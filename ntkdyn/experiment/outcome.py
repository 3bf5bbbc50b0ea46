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
    """Whether the spec of a prediction or a training gives the record's numbers now."""
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
    findings = validation.Findings(predicted, observed, comparison, accounts)
    section = formulas.section(predicted)
    validation.write_report(findings, pictures, to.report, formulas=section)
    return comparison
