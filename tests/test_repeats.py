"""`ntkdyn verify`: a record's spec run again, against the record."""

import json
import sys

import numpy as np
import pytest
from test_cli import SPEC

import ntkdyn as nd
from ntkdyn import cli, experiment, records
from ntkdyn.validation import repeats


@pytest.fixture(scope="module")
def made():
    work = experiment.Experiment(experiment.parse(SPEC, "spec"))
    return {"predicted": work.predict(), "observed": work.train()}


def verify(record, capsys, tmp_path, *options):
    path = records.write(record, tmp_path / "record.nc")
    sys.argv = ["ntkdyn", "verify", str(path), "--quiet", *options]
    with pytest.raises(SystemExit) as left:
        cli.app()
    return left.value.code or 0, capsys.readouterr()


@pytest.mark.parametrize("side", ["predicted", "observed"])
def test_a_record_comes_out_again_bit_for_bit(side, made, capsys, tmp_path):
    code, said = verify(made[side], capsys, tmp_path)
    assert (code, said.out) == (0, "the record comes out again bit for bit\n")


@pytest.mark.parametrize("side, allowed", [("predicted", 1e-6), ("observed", 1e-3)])
def test_numbers_that_were_changed_are_found(side, allowed, made):
    record = made[side]
    largest = float(np.abs(record["outputs"]).max())
    for size, holds in ((2 * allowed, False), (allowed / 2, True)):
        other = record.copy(deep=True)
        other["outputs"][1, 2, 0, 0] += size * largest
        found = repeats.repetition(other, record)
        assert bool(found) == holds
        assert found.differences["outputs"] == pytest.approx(size, rel=1e-2)
        assert {name for name, off in found.differences.items() if off} == {"outputs"}


def test_another_seed_other_rounds_and_versions_are_told(made, capsys, tmp_path):
    record = made["predicted"].copy()
    record.attrs["spec"] = record.attrs["spec"].replace("seed = 3", "seed = 4")
    record.attrs["versions"] = json.dumps(json.loads(record.attrs["versions"]) | {"jax": "0.1"})
    code, said = verify(record, capsys, tmp_path)
    assert code == 3
    assert "does not come out again" in said.out and "made with jax 0.1, now" in said.out
    fewer = repeats.repetition(made["predicted"], made["predicted"].isel(round=slice(2)))
    assert not fewer and fewer.differences["round"] == np.inf and "is of another kind" in str(fewer)
    assert verify(made["predicted"], capsys, tmp_path, "--tolerance", "0")[0] == 0


def test_what_is_no_run_of_a_spec_is_refused(made, capsys, tmp_path):
    code, said = verify(nd.compare(made["predicted"], made["observed"]), capsys, tmp_path)
    assert code == 2 and "must be one that `ntkdyn predict`, `train` or `run` wrote" in said.err
    record = made["predicted"].copy()
    del record.attrs["spec"]
    code, said = verify(record, capsys, tmp_path)
    assert code == 2 and "does not say of what spec it is" in said.err
    code, said = verify(made["predicted"], capsys, tmp_path, "--tolerance", "-1")
    assert code == 2 and "--tolerance: must be zero or above" in said.err
