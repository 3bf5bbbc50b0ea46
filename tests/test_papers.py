"""Studies of the papers: how claims are judged, what is done stays done, each study run."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from ntkdyn.papers import STUDIES, run, said
from ntkdyn.papers.study import Case, Claim, Study, each, gain, judged, of, record_of, where
from typer.testing import CliRunner

from ntkdyn import figures, papers, records
from ntkdyn.cli import app
from ntkdyn.errors import InputError


def test_a_claim_holds_where_the_interval_by_students_t_is_beyond_its_bar():
    effect = [1.0, 2.0, 3.0]
    half = 4.302652729911275 * 1.0 / 3**0.5  # Student's t of two degrees of freedom, from a table
    mean, low, high, status = judged(effect, -1.0, below=False)
    assert (mean, low, high) == pytest.approx((2.0, 2 - half, 2 + half), rel=1e-9)
    assert status == "holds"
    assert judged(effect, 0.0, below=False).status == "open"
    assert judged(effect, 5.0, below=False).status == "contradicted"
    assert judged(effect, 5.0, below=True).status == "holds"
    assert judged(effect, -1.0, below=True).status == "contradicted"
    assert judged(effect, 0.0, below=True).status == "open"
    assert judged([2.0], 0.0, below=False).status == "open"
    assert judged([], 0.0, below=False).status == "open"


def test_noise_alone_holds_no_more_often_than_it_may():
    rng = np.random.default_rng(0)
    found = [judged(rng.standard_normal(3), 0.0, below=False).status for _ in range(2000)]
    assert found.count("holds") / 2000 == pytest.approx(0.025, abs=0.01)
    assert found.count("contradicted") / 2000 == pytest.approx(0.025, abs=0.01)


TABLE = pd.DataFrame(
    {
        "side": ["trained"] * 4,
        "method": ["a", "a", "b", "b"],
        "seed": [0, 1, 0, 1],
        "accuracy": [10.0, 20.0, 7.0, 19.0],
    }
)


def test_gains_are_paired_by_seed():
    effect = gain("accuracy", {"method": "a"}, {"method": "b"})(TABLE)
    assert effect.to_dict() == {0: 3.0, 1: 1.0}
    assert gain("accuracy", {"method": "a"}, {"method": "c"})(TABLE).empty
    assert of("accuracy", side="predicted")(TABLE).empty
    assert where(TABLE, lambda_m=1.0).empty


def test_ratios_and_differences_are_the_right_way_round():
    gaps = TABLE.assign(model=papers.p2p.WIDE, nearest_wrong=6.0, deviations=2.0)
    assert (papers.p2p.told(gaps, method="a") == 3.0).all()
    merges = TABLE.assign(start="own", merged=papers.dimat.OWN, rho=0.25, rho_after=0.5)
    assert (papers.dimat.contraction(merges) == 0.25).all()


class Few(NamedTuple):
    points: object = papers.points.Points("digits", 4, 4)
    seeds: int = 3


def made(calls, failing=None):
    def cases(settings, table):
        def case(labels):
            def measure(checkpoints):
                if labels["seed"] == failing:
                    raise KeyboardInterrupt
                calls.append(labels["seed"])
                return {"accuracy": 50.0 + labels["seed"]}

            return Case(labels, measure)

        return [case(labels) for labels in each(side=["trained"], seed=range(settings.seeds))]

    claims = [Claim("accuracy is high", of("accuracy"), "per cent", 40.0)]
    return Study("a study", [cases], claims, ("accuracy",), Few(), Few())


def test_what_is_done_is_done(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setitem(STUDIES, "mhd", made(calls, failing=2))
    with pytest.raises(KeyboardInterrupt):
        run("mhd", tmp_path)
    assert calls == [0, 1]
    monkeypatch.setitem(STUDIES, "mhd", made(calls))
    with pytest.raises(InputError, match="unfinished"):
        run("mhd", tmp_path)
    found = run("mhd", tmp_path, resume=True)
    assert calls == [0, 1, 2]
    assert found["effect"].sel(side="trained").values.tolist() == [[50.0, 51.0, 52.0]]
    assert found["status"].sel(side="trained").values.tolist() == ["holds"]
    assert found["status"].sel(side="predicted").values.tolist() == ["open"]
    assert records.read(tmp_path / "study.nc").identical(found)
    assert not (tmp_path / "cases").exists()


def test_what_is_said_has_both_columns():
    table = pd.concat([TABLE, TABLE.assign(side="predicted", accuracy=[1.0, 2.0, 3.0, 4.0])])
    claims = [
        Claim("a beats b", gain("accuracy", {"method": "a"}, {"method": "b"})),
        Claim("a is poor", of("accuracy", method="c"), "per cent", 40.0, below=True, theory="no"),
    ]
    one = Study("a study", [], claims, ("accuracy",), Few(), Few())
    record = record_of("mhd", one, table.reset_index(drop=True), small=True)
    text = said(record)
    assert (
        "| a beats b | above 0 points | -2 [-2, -2] points | 2 [-10.7, 14.7] points | open |"
        in text
    )
    assert "a is poor" not in text  # of which no case was measured
    assert "| trained | a | 15 ± 7.1 |" in text
    assert "predicted" in str(
        [t.get_text() for t in figures.draw("study", [record]).legends[0].texts]
    )


def test_the_command_lists_and_refuses():
    asked = CliRunner()
    listed = asked.invoke(app, ["papers", "list"])
    assert listed.exit_code == 0 and all(name in listed.output for name in STUDIES)
    assert asked.invoke(app, ["papers", "run", "drt"]).exit_code == 2


SHORT = {
    "p2p-dynamics": {"points": ("digits", 40, 20), "width": 32, "rounds": 6, "anchors": (0, 3)},
    "drt-diffusion": {"points": ("digits", 120, 40), "rounds": 3, "graphs": ("ring",)},
    "dimat": {"points": ("digits", 200, 40), "tau": 3},
    "mhd": {"points": ("digits", 200, 60), "public": 20, "rounds": 40},
    "ccl": {"points": ("digits", 200, 40), "rounds": 3, "step_sizes": (0.1,)},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_every_study_measures_what_its_claims_are_about(name, tmp_path, monkeypatch):
    changed = dict(SHORT[name])
    changed["points"] = papers.points.Points(*changed["points"])
    few = STUDIES[name].small._replace(seeds=1, **changed)
    monkeypatch.setitem(STUDIES, name, STUDIES[name]._replace(small=few))
    found = run(name, tmp_path, small=True)
    assert np.isfinite(found["effect"].sel(side="trained")).all()
    assert found.sizes["claim"] == CLAIMED[name]
    assert said(found)


CLAIMED = {"p2p-dynamics": 7, "drt-diffusion": 4, "dimat": 6, "mhd": 6, "ccl": 4}
"""claims about the cases of the small study, with the first of its graphs"""


FOLDER = Path(__file__).parent.parent / "papers"


@pytest.mark.parametrize("name", STUDIES)
def test_what_a_page_shows_is_what_its_record_says(name):
    """The claims are those of the code, and the table that is committed is the record's."""
    record = records.read(FOLDER / name / "study.nc")
    assert set(record["claim"].values) <= {claim.says for claim in STUDIES[name].claims}
    assert (FOLDER / name / "study.md").read_text(encoding="utf-8") == said(record)
    assert record["status"].sel(side="trained").isin(["holds", "contradicted", "open"]).all()
    assert "study.md" in (FOLDER / name / "README.md").read_text(encoding="utf-8")
