"""The catalogue, the settings of a spec, and the benchmark's command."""

import dataclasses
import inspect
import json
import sys

import pytest
from cases import ALL_METHODS
from typer.testing import CliRunner

from ntkdyn import cli, experiment, methods
from ntkdyn.errors import InputError
from ntkdyn.methods.catalogue import PAPERS, catalogue

SPEC = experiment.demo()


def test_every_method_is_listed_with_its_update_first():
    rows = {row.name: row for row in catalogue()}
    assert sorted(rows) == ALL_METHODS
    for name, row in rows.items():
        assert row.round == inspect.getdoc(methods.METHODS[name]).split("\n\n")[0].replace(
            "\n", " "
        )
        assert all(row), f"{name} has an empty cell"
        assert "<-" in row.round or "x+" in row.round
    assert rows["extra"].needs == "symmetric, fixed, eigenvalues > -1"
    assert rows["diging"].sends == "2 vectors" and rows["push_sum"].sends == "1 vector + 1 number"
    assert (
        rows["dimat"].spaces == "network tangent" and rows["dgd"].spaces == "network tangent kernel"
    )


def test_reconstructions_say_so():
    for name in ("drt", "mhd"):
        assert "reconstruction" in inspect.getdoc(methods.METHODS[name])


def test_the_commands_list_them():
    run = CliRunner().invoke(cli.app, ["methods"])
    assert run.exit_code == 0 and all(name in run.stdout for name in ALL_METHODS)
    run = CliRunner().invoke(cli.app, ["papers", "list"])
    assert run.exit_code == 0 and all(folder in run.stdout for folder, *_ in PAPERS)


def test_settings_of_a_method_come_from_the_spec():
    text = SPEC.text()
    begin = text.index("[method]")
    head, tail = text[:begin], text[text.index("[run]") :]
    spec = lambda lines: experiment.parse(f"{head}[method]\n{lines}\n{tail}", "spec")
    method = experiment.Experiment(spec('name = "local_sgd"\nstep_size = 0.1\ntau = 7')).method
    assert method.mixing.tau == 7
    with pytest.raises(InputError, match="no setting of method local_sgd is called 'tua'; did you"):
        _ = experiment.Experiment(spec('name = "local_sgd"\nstep_size = 0.1\ntua = 7')).method


def test_the_benchmark_says_what_it_misses(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    run = CliRunner().invoke(cli.app, ["bench", "train", "--small"])
    assert run.exit_code == 2 and "pip install torch" in run.output


@pytest.mark.parametrize("more", [[], pytest.param(["--images"], marks=pytest.mark.slow)])
def test_the_benchmark_compares_equal_things(more):
    pytest.importorskip("torch")
    run = CliRunner().invoke(cli.app, ["bench", "train", "--small", "--json", *more])
    results = json.loads(run.stdout)
    found, bare = results["comparisons"]
    assert ("LeNet-5" in found["case"]) == bool(more)
    assert found["ratio"] == found["theirs"] / found["ours"]
    assert found["relative_difference"] < 1e-3
    assert bare["ratio"] == bare["theirs"] / bare["ours"] and bare["ours"] == found["ours"]
    assert results["figures"]["checkpoints"]["share of the time"] < 0.05


def test_settings_that_need_not_be_given():
    """The publications' own, or ours where they give none: a change of them changes every run."""
    wanted = {
        "heavy_ball": {"beta": 0.9},
        "nesterov": {"beta": 0.9},
        "nids": {"c": 0.5},
        "gut": {"mu": 0.9, "gamma": 1.0},
        "qg_gutm": {"mu": 0.06, "beta": 0.9, "gamma": 1.0, "nesterov": False},
        "qg_dsgdm": {"beta": 0.9, "mu": 0.1},
        "qg_dsgdm_n": {"beta": 0.9, "mu": 0.1},
        "local_sgd": {"tau": 4},
        "drt": {"variant": "squared", "kappa": 1e-08, "cap": 10.0, "normalised": "rows"},
        "dimat": {"tau": 50, "optimiser": "adam", "by": "activations", "data": "own"},
        "ccl": {"beta": 0.9, "lambda_m": 0.1, "lambda_d": 0.1, "nesterov": True, "gamma": 1.0},
        "mhd": {
            "aux": 2, "nu_emb": 1.0, "nu_aux": 3.0, "teachers": 1, "public_batch": 32,
            "own_too": False, "pool": 4, "pool_every": 10, "seed": 0,
        },
    }  # fmt: skip
    for name, make in methods.METHODS.items():
        settings = inspect.signature(make).parameters.values()
        found = {each.name: each.default for each in settings if each.default is not each.empty}
        assert found == wanted.get(name, {})
    assert methods.updates.QuasiGlobal(0.1, 0.9).mu == wanted["qg_dsgdm"]["mu"]
    assert not methods.updates.GUT(0.1).nesterov
    for name in ("ccl", "mhd"):
        objective = type(methods.METHODS[name](step_size=0.1).objective)
        own = {each.name: each.default for each in dataclasses.fields(objective)}
        alike = own.keys() & wanted[name].keys()
        assert len(alike) > 1
        given = {each: own[each] for each in alike if own[each] is not dataclasses.MISSING}
        assert given == {each: wanted[name][each] for each in given}
