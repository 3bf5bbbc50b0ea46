"""The papers, run: what each claims, as linear theory predicts it and as training shows it.

STUDIES["ccl"]              by name; the folder beside it says what the paper is
run("ccl", folder)          all its runs, kept as they are done; the record of its claims, study.nc
said(record)                the claims in two columns, as Markdown

    study           what a study is: cases, claims, how they are judged
    points          images, networks and starts of studies
    p2p, drt, dimat, mhd, ccl
"""

from __future__ import annotations

from pathlib import Path

from ntkdyn.papers import ccl, dimat, drt, mhd, p2p
from ntkdyn.papers.study import Study, record_of, run as run_cases, said

from ntkdyn import records
from ntkdyn.design import Parts
from ntkdyn.engine import Progress
from ntkdyn.errors import check_name, public
from ntkdyn.records import Record

STUDIES: dict[str, Study] = {
    "p2p-dynamics": p2p.STUDY,
    "drt-diffusion": drt.STUDY,
    "dimat": dimat.STUDY,
    "mhd": mhd.STUDY,
    "ccl": ccl.STUDY,
}
"""folder in papers/ -> its study"""

__all__ = ["STUDIES", "run", "said"]

__getattr__, __dir__ = public(__name__, __all__)


def run(
    name: str,
    folder: str | Path,
    *,
    small: bool = False,
    data_dir: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Record:
    """Every case of the paper's study, predicted and trained, and what follows for its claims.

    For a claim with effect e_s of seed s and a bar b, the record has the mean of e over seeds and
    its interval by Student's t, of what the linear theory predicts and of what training shows;
    `status` says whether the interval is on the claimed side of b ("holds"), on the other
    ("contradicted"), or has b inside ("open").

    Args:
        name: of a study.
        folder: where the record is written; until then cases are kept there as they are done, and
            training saves itself as it goes.
        small: digits and small networks, minutes in all; else the papers' data, which takes hours.
        data_dir: the folder with datasets' files.
        resume: whether cases that are kept there are taken.
        progress: called with (cases done, cases known).

    Returns:
        Per case labels and measures; per claim and side (predicted, trained) `effect` by seed,
        `mean`, `low`, `high` and `status`.

    Raises:
        InputError: for a study that there is not, and kept cases of another.

    Example:
        >>> from ntkdyn import papers
        >>> sorted(papers.STUDIES)
        ['ccl', 'dimat', 'drt-diffusion', 'mhd', 'p2p-dynamics']
    """
    check_name("study", name, STUDIES)
    study = STUDIES[name]
    settings = study.settings(small)
    asked = {"study": name, **settings._asdict()}
    parts = Parts(Path(folder) / "cases", asked, resume=resume)
    settings = settings._replace(points=settings.points._replace(data_dir=data_dir))
    table = run_cases(study, settings, parts, Path(folder), progress)
    found = record_of(name, study, table, small)
    records.write(found, Path(folder) / "study.nc")
    parts.remove()
    return found
