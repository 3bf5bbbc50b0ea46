"""The command line: what it writes, what it says, and how it refuses."""

import http.client
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
import urllib.request

import h5py
import jax
import numpy as np
import PIL.Image
import pytest
import xarray as xr
from ntkdyn.figures import interactive

import ntkdyn as nd
from ntkdyn import cli, disk, experiment, figures, records, thresholds
from ntkdyn.checkpoints import Checkpoints

SPEC = """
title = "small"
seed = 3

[network]
widths = [32]

[data]
name = "digits"
train = 40
test = 20

[partition]
agents = 4
by = "dirichlet"
alpha = 1.0

[graph]
topology = "ring"

[method]
name = "dgd"
step_size = { of_limit = 0.5 }

[run]
rounds = 6
record_every = 2
parameter_rounds = [6]
"""


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "spec.toml"
    path.write_text(SPEC)
    return path


def call(*arguments):
    """Run the command line in this process: its exit code."""
    sys.argv = ["ntkdyn", *map(str, arguments)]
    with pytest.raises(SystemExit) as left:
        cli.app()
    return left.value.code or 0


@pytest.mark.parametrize("terminal", [True, False])
def test_bars_are_drawn_where_somebody_looks(terminal, monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", stream)
    with cli.conduct.watched(quiet=False) as bar:
        bar("predicting")(3, 3)
    assert ("predicting" in stream.getvalue()) == terminal and (stream.getvalue() == "") != terminal


def test_run_writes_records_overlay_and_report(spec, tmp_path, capsys):
    out = tmp_path / "out"
    assert call("run", spec, "--out", out, "--no-open") == 0
    names = {
        "predicted.nc",
        "observed.nc",
        "comparison.nc",
        "overlay.png",
        "overlay.pdf",
        "report.html",
    }
    assert {path.name for path in out.iterdir()} == names
    assert (out / "overlay.png").read_bytes()[:4] == b"\x89PNG"
    predicted, observed = (records.read(out / f"{n}.nc") for n in ("predicted", "observed"))
    assert set(predicted.variables) == {*observed.variables, "error_estimate", "reached_by"}
    assert predicted["round"].values.tolist() == [0, 2, 4, 6]
    for record in (predicted, observed, records.read(out / "comparison.nc")):
        for name, variable in record.variables.items():
            assert variable.attrs["long_name"] and variable.attrs["units"], name
    gap = nd.compare(predicted, observed).attrs["largest_gap"]
    assert 0 < gap < 0.5
    said = capsys.readouterr().out
    assert f"at most {100 * gap:.2f} %" in said
    compared = records.read(out / "comparison.nc")
    judged = compared.attrs
    assert said.splitlines()[-1] == judged["verdict"]
    assert f"round 6: {100 * judged['deviation_gap']:.3g} % of all agents together" in said
    assert compared.sizes["explanation"] == 7 and "links reversed" in judged["nulls_left_out"]
    page = (out / "report.html").read_text()
    assert judged["verdict"][1:] in page and "from 0.5 on a wrong explanation" in page
    assert "built-in" not in page, "a method of Python where a number is meant"
    for each in (gap, *compared["null_deviation_gap_of_all"][:, -1].values):
        assert f"{100 * each:.2f}\u00a0%" in page
    assert "data:image/png;base64," in page
    assert "http" not in page.split("<body>")[1].replace("http-equiv", "")
    again = tomllib.loads(predicted.attrs["spec"])
    assert again["seed"] == 3 and again["run"]["rounds"] == 6


@pytest.mark.slow
def test_a_proven_bound_is_in_record_last_line_and_report(tmp_path, capsys):
    path, out = tmp_path / "spec.toml", tmp_path / "out"
    path.write_text(SPEC.replace("[32]", '[256]\nactivation = "erf"') + "certify = 1\n")
    assert call("predict", path, "--out", out) == 0
    predicted = records.read(out / "predicted.nc")
    for name in ("certified_error", "certified_share"):
        assert predicted[name].attrs["long_name"] and predicted[name].attrs["units"]
    words = experiment.proven(predicted)
    assert words.startswith("proven to be within") and words in capsys.readouterr().out
    assert call("run", path, "--out", out, "--no-nulls", "--resume") == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"; {words}")
    page, most = (out / "report.html").read_text(), predicted["certified_share"][-1].max()
    assert "How far off it can be" in page and f"{100 * float(most):.3f}\u00a0%" in page
    gap = records.read(out / "comparison.nc")["gap"]
    assert (gap < 1.01 * predicted["certified_share"] + 1e-5).all(), "beside float32"


def test_relu_has_no_bound_and_that_is_said_before_anything_runs(spec, tmp_path, capsys):
    spec.write_text(SPEC + "certify = true\n")
    assert call("run", spec, "--out", tmp_path / "out") == 2
    said = capsys.readouterr()
    assert said.out == "" and not (tmp_path / "out").exists()
    assert said.err.count("\n") == 1
    assert "certify: no certificate exists: relu has no second derivative" in said.err


@pytest.mark.slow
def test_the_report_says_how_fast_where_and_why_agent_by_agent(tmp_path, capsys):
    path, out = tmp_path / "spec.toml", tmp_path / "out"
    longer = SPEC.replace("rounds = 6", "rounds = 30").replace("[6]", "[30]")
    path.write_text(longer + "batch_size = 4\n")
    assert call("run", path, "--out", out, "--account", "--no-nulls", "--quiet") == 0
    comparison, accounts = (records.read(out / f"{n}.nc") for n in ("comparison", "accounts"))
    page = (out / "report.html").read_text()
    for agent in range(4):
        row = [f"{comparison['gap'][-1, agent]:.2%}".replace("%", "\u00a0%")]
        row += [f"{100 * accounts[n][-1, agent]:.2g}\u00a0%" for n in accounts.data_vars]
        for side in ("predicted", "observed"):
            value, low, high = (
                comparison[f"{side}_{n}"][agent] for n in ("rate", "rate_low", "rate_high")
            )
            row.append(f"{value:.5f} <small>[{low:.5f}, {high:.5f}]</small>")
        assert all(each in page for each in row), row
    assert "above all <strong>linearization</strong>" in page
    assert "nothing moves" in page and "complete graph" not in page
    assert page.count("data:image/png;base64,") == 2 and "ntkdyn run spec.toml --account" in page
    versions = json.loads(records.read(out / "observed.nc").attrs["versions"])
    assert all(version in page for version in versions.values())
    apart = abs(accounts["linearization"] - comparison["gap"])
    assert (apart <= accounts["arithmetic"] + 1e-12).all(), "of the very same runs"
    assert (accounts["linearization"][-1] > 0.01).all()
    assert call("run", path, "--account", "--predict-only") == 2
    assert "--account: needs both sides" in capsys.readouterr().err
    assert call("run", path, "--no-nulls", "--train-only") == 2
    assert "--no-nulls: does not apply with --train-only" in capsys.readouterr().err


def test_specs_ship_with_the_package(capsys, tmp_path, monkeypatch):
    names = ["cifar-10", "fashion-mnist", "mnist"]
    assert call("specs") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == names
    for name in names:
        assert call("specs", name) == 0
        printed = capsys.readouterr().out
        spec = experiment.parse(printed, "printed")
        assert experiment.load(name) == spec and spec.data.name == name
    assert call("specs", "mnits") == 2
    assert "did you mean 'mnist'" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").write_text(SPEC)
    assert experiment.load("mnist").title == "small", "a file of that name comes first"


def test_the_shipped_specs_fit_images_of_their_kind(tmp_path):
    """With random images in the files and all sizes small, every spec's parts fit together."""
    rng = np.random.default_rng(0)
    header = lambda array: bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    for name, rows in (("train", 100), ("t10k", 20)):
        images = rng.integers(0, 256, (rows, 28, 28), dtype=np.uint8)
        labels = (np.arange(rows) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = header(array) + array.tobytes()
            (tmp_path / f"{name}-{kind}-ubyte").write_bytes(content)
    batch = rng.integers(0, 256, (100, 3073), dtype=np.uint8)
    batch[:, 0] = np.arange(100) % 10
    (tmp_path / "data_batch_1.bin").write_bytes(batch.tobytes())
    for name in experiment.shipped():
        spec = experiment.load(name).model_dump()
        spec["network"]["widths"] = [8] * len(spec["network"]["widths"])
        spec["data"] |= {"train": 60, "test": 10}
        spec["partition"]["min_points"] = 1
        spec["run"] |= {"rounds": 2, "record_every": 1}
        work = experiment.Experiment(experiment.Spec.model_validate(spec), tmp_path)
        problem = work.problem
        assert problem.inputs.shape[1] == (3072 if name == "cifar-10" else 784)
        outputs = jax.eval_shape(problem.network.apply, problem.start, problem.inputs[:2])
        assert outputs.shape == (2, 10) and work.method.name == spec["method"]["name"]
        assert work.weights.agents == spec["partition"]["agents"] == problem.task.agents


@pytest.mark.slow
@pytest.mark.slow
def test_a_curve_over_draws_is_written_drawn_and_said(spec, tmp_path, capsys):
    out = tmp_path / "out"
    assert call("curve", spec, "--noise", 0.1, "--out", out) == 0
    found = records.read(out / "curve.nc")
    said = capsys.readouterr().out
    assert "test loss after 6 rounds: " in said and (out / "curve.pdf").stat().st_size
    assert found["round"].values.tolist() == [0, 2, 4, 6]
    work = experiment.Experiment(experiment.load(spec))
    task, start = work.problem.task, work.problem.initial
    assert found["points"].values.tolist() == task.counts.tolist()
    whole = ((start - task.targets) ** 2).sum(axis=1).mean() / 2
    assert np.allclose(found["test_loss"].values[0], whole, rtol=1e-6)
    assert (found["test_loss"].values[-1] < whole).all()
    assert (found["label_noise"].values[-1] > 0).all()
    assert call("curve", spec, "--noise", "nan", "--out", out, "--overwrite") == 2
    assert "noise: must be a finite number from 0 on" in capsys.readouterr().err
    for old, new, message in (
        ('loss = "mse"', 'loss = "cross_entropy"', "is known for the loss mse only"),
        ("rounds = 6", "rounds = 6\nbatch_size = 2", "all points in each round, no batch_size"),
    ):
        other = ('loss = "mse"' + SPEC).replace(old, new)
        spec.write_text(other)
        assert call("curve", spec, "--out", tmp_path / "other") == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_sweep_is_written_drawn_and_said(spec, tmp_path, capsys):
    given = ("--starts", 2, "--kernel", "empirical", "--out", tmp_path)
    assert call("sweep", spec, "--over", "width=16,64", *given) == 0
    said = capsys.readouterr().out
    found = records.read(tmp_path / "sweep.nc")
    assert dict(found.sizes) == {"kernel": 1, "width": 2, "seed": 2, "agent": 4, "estimate": 3}
    assert found["seed"].values.tolist() == [3, 4] and (tmp_path / "sweep.pdf").is_file()
    value, low, high = found["movement_slope"].values
    assert f"movement: slope {value:.2f} [{low:.2f}, {high:.2f}]" in said
    assert low < value < high < 0
    for values, message in (
        ("width=16,x", "every width must be positive whole numbers, got ['16', 'x']"),
        ("width=16,16", "width takes a value twice"),
        ("width=0,16", "every width must be positive"),
        ("widht=16", "goes with one --over, width, depth or step_size"),
    ):
        assert call("sweep", spec, "--over", values, *given) == 2
        assert message in capsys.readouterr().err
    for more, message in (
        (("--kernel", "empirical"), "every kernel must be given once, got empirical, empirical"),
        (("--kernel", "infinit"), "did you mean 'infinite'"),
        (("--seed", 2**32 - 1), "every seed must be from 0 to 2^32 - 1"),
    ):
        asked = "--over", "width=1", *given, *more, "--overwrite"
        assert call("sweep", spec, *asked) == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_sweep_leaves_out_what_diverges(spec, tmp_path, capsys):
    given = ("--starts", 1, "--kernel", "empirical", "--out", tmp_path)
    assert call("sweep", spec, "--over", "step_size=0.5,1e9", *given) == 0
    assert "diverged: step_size 1e+09 from start 3" in capsys.readouterr().out
    found = records.read(tmp_path / "sweep.nc")
    for name in ("deviation_gap", "gap", "kernel_drift", "movement"):
        assert np.isfinite(found[name].sel(step_size=0.5)).all(), name
        assert np.isnan(found[name].sel(step_size=1e9)).all(), name


def test_an_interrupted_sweep_goes_on(spec, tmp_path, capsys, monkeypatch):
    done, last = [], 3

    def measured(*asked):
        problem = asked[-1].problem
        if len(done) == last:
            raise KeyboardInterrupt
        done.append(problem.seed)
        each = np.full(4, 0.1 * problem.seed / problem.network.description["widths"][0])
        return {
            "deviation_gap": [each],
            "gap": [each],
            "movement": each,
            "kernel_drift": each,
            "step_size_taken": 0.1,
        }

    monkeypatch.setattr(experiment.sweeps, "_measured", measured)
    given = ("--over", "width=16,64", "--kernel", "empirical", "--out", tmp_path / "out", "-q")
    sweep = lambda starts, *more: call("sweep", spec, *given, "--starts", starts, *more)
    assert sweep(2) == 130 and "--resume goes on" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sweep.json"]
    for starts, more, message in (
        (2, (), "is of an unfinished sweep; resume it, or remove the file"),
        (1, ("--resume",), "of another run: starts was [3, 4] and is [3]"),
        (2, ("--resume", "--seed", 4), "of another run: starts was [3, 4] and is [4, 5]"),
    ):
        assert sweep(starts, *more) == 2
        assert message in capsys.readouterr().err
    last = 8
    assert sweep(2, "--resume") == 0 and done == [3, 4, 3, 4]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"sweep.nc", "sweep.pdf"}
    assert sweep(2, "--out", tmp_path / "whole") == 0 and len(done) == 8
    one, other = (records.read(tmp_path / f / "sweep.nc") for f in ("out", "whole"))
    assert one.identical(other)


def test_sweeps_change_the_spec_in_one_place():
    spec = experiment.demo()
    wide, deep, slow = (
        experiment.VARIED[along](spec, value)
        for along, value in (("width", 64), ("depth", 4), ("step_size", 0.25))
    )
    assert wide.network.widths == [64, 64] and wide.network.w_std == spec.network.w_std
    assert deep.network.widths == [1024] * 4
    assert deep.network.w_std == [2**0.5] * 4 + [1.0] and deep.network.b_std == 0.1
    assert slow.method.step_size.of_limit == 0.25 and slow.network == spec.network
    assert all(each.data == spec.data and each.graph == spec.graph for each in (wide, deep, slow))


@pytest.mark.slow
def test_each_side_alone_equals_both_together(spec, tmp_path, capsys):
    together, apart = tmp_path / "together", tmp_path / "apart"
    assert call("run", spec, "--out", together, "--quiet", "--no-nulls") == 0
    assert call("predict", spec, "--out", apart, "--quiet") == 0
    assert call("train", spec, "--out", apart, "--quiet") == 0
    pair = apart / "predicted.nc", apart / "observed.nc"
    records.write(xr.Dataset(), apart / "accounts.nc")
    capsys.readouterr()
    assert call("compare", *pair, "--out", apart) == 0
    assert "comparison.nc" in (said := capsys.readouterr().out)
    assert "accounts.nc" not in said, "it was there before"
    for name in ("predicted", "observed", "comparison"):
        one, other = (records.read(folder / f"{name}.nc") for folder in (together, apart))
        assert one.equals(other) and one.attrs == other.attrs


def test_predict_only_and_train_only(spec, tmp_path, capsys):
    assert call("run", spec, "--predict-only", "--out", tmp_path / "p") == 0
    assert [p.name for p in (tmp_path / "p").iterdir()] == ["predicted.nc"]
    assert "predicted.nc" in capsys.readouterr().out
    assert call("run", spec, "--train-only", "--out", tmp_path / "t", "-q") == 0
    assert [p.name for p in (tmp_path / "t").iterdir()] == ["observed.nc"]
    assert capsys.readouterr().out == ""
    assert call("run", spec, "--train-only", "--predict-only") == 2


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.slow
def test_results_stand_until_others_are_whole(spec, tmp_path, capsys, monkeypatch):
    out, other = tmp_path / "out", ("--seed", 4, "--out", tmp_path / "out")
    assert call("run", spec, "--out", out, "-q") == 0
    (out / "notes").write_text("mine")
    before = contents(out)
    for command in ("run", "train", "predict"):
        assert call(command, spec, *other) == 2
        said = capsys.readouterr().err
        assert "holds results of another spec (predicted.nc, observed.nc, comparison.nc)" in said
        assert "--overwrite" in said and contents(out) == before

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(experiment.Experiment, "train", interrupted)
        assert call("train", spec, *other, "--overwrite") == 130
    assert contents(out) == before
    assert call("predict", spec, *other, "--overwrite") == 0
    assert "observed.nc beside it is of another spec" in capsys.readouterr().out
    changed = {name for name, held in contents(out).items() if held != before[name]}
    assert changed == {"predicted.nc"}


def test_what_others_wrote_under_names_of_ours_is_left_alone(spec, tmp_path, capsys):
    for name in (*experiment.Files(), "overlay.pdf", "accounts.pdf"):
        own = tmp_path / "own" / name
        own.parent.mkdir(exist_ok=True)
        own.write_text("mine")
        assert call("run", spec, "--out", own.parent) == 2
        assert f"{name} is there and was not written by ntkdyn" in capsys.readouterr().err
        assert own.read_text() == "mine"
        own.unlink()
    for name in (".writable", "index.html"):
        (own.parent / name).write_text("mine")
    experiment.files(own.parent)
    assert call("teach", "--out", own.parent, "--no-open") == 2
    kept = own.parent / "checkpoints" / "mine"
    kept.parent.mkdir()
    kept.write_text("mine")
    assert call("train", spec, "--out", own.parent, "--checkpoint-rounds", 1, "-q") == 0
    assert {"mine"} == {path.name for path in kept.parent.iterdir()}
    assert set(contents(own.parent).values()) - {(own.parent / "observed.nc").read_bytes()} == {
        b"mine"
    }


@pytest.mark.slow
def test_folders_are_named_after_the_spec_and_all_we_write_says_so(spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("run", spec, "--account", "-q") == 0
    out = tmp_path / "ntkdyn-spec"
    sides = out / "predicted.nc", out / "observed.nc"
    assert call("compare", *sides, "--out", out, "-q") == 0, "a second time, over the first"
    assert call("teach", "--out", "pages", "--no-open", "-q") == 0
    pictures = [f"a.{ending}" for ending in ("svg", "png", "pdf")] + ["a.gif"]
    for name in pictures:
        kind = "animation" if name == "a.gif" else "consensus"
        side = out / ("observed.nc" if kind == "animation" else "predicted.nc")
        assert call("figure", kind, "--record", side, "--out", out / name, "-q") == 0
    written = [path for folder in (out, tmp_path / "pages") for path in folder.iterdir()]
    assert {path.name for path in written} >= {
        *map(str, experiment.Files()),
        *pictures,
        "index.html",
    }
    assert [path.name for path in written if not disk.is_ours(path)] == []
    with PIL.Image.open(out / "a.gif") as animation:
        assert animation.n_frames > 1


WRONG = {
    "not trained": (("--predict-only", "--devices", 99), "--devices: does not apply with"),
    "no memory": (("--predict-only", "--memory", "junk"), "--memory: does not apply with"),
    "no rounds": (("--predict-only", "--checkpoint-rounds", 1), "--checkpoint-rounds: does not"),
    "not resumed": (("--predict-only", "--resume"), "--resume: does not apply with --predict"),
    "no overlay": (("--train-only", "--open"), "--open: does not apply with --train-only"),
    "devices": (("--devices", 99), "devices: must be from 1 to the"),
    "memory": (("--memory", "junk"), "memory: must be a number of bytes"),
    "rounds": (("--checkpoint-rounds", 0), "rounds: must be at least 1, got 0"),
    "minutes": (("--checkpoint-minutes", "nan"), "minutes: must be positive, got nan"),
    "low seed": (("--seed", -1), "--seed: seed: input should be greater than or equal to 0"),
    "high seed": (("--seed", 2**63), "--seed: seed: input should be less than 4294967296"),
}


@pytest.mark.parametrize("options, message", WRONG.values(), ids=WRONG)
def test_options_are_refused_before_anything_is_computed(
    options, message, spec, tmp_path, capsys, monkeypatch
):
    monkeypatch.delattr(cli.conduct, "prediction")
    assert call("run", spec, "--out", tmp_path / "out", *options) == 2
    assert message in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*"))


def test_a_folder_in_use_is_left_alone(spec, tmp_path, capsys):
    with disk.claimed(tmp_path):
        for command in ("run", "predict", "train"):
            assert call(command, spec, "--out", tmp_path) == 2
            assert f"output: {tmp_path} is in use by another run" in capsys.readouterr().err


def test_an_interruption_says_how_to_go_on_where_one_can(spec, tmp_path, capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.conduct, "prediction", interrupted)
    monkeypatch.setattr(experiment.Experiment, "train", interrupted)
    monkeypatch.setattr(experiment.Experiment, "kernel", interrupted)
    for command, said in (
        (("demo",), "no unfinished file was left"),
        (("predict", spec), "no unfinished file was left"),
        (("train", spec), "no unfinished file was left, and --resume goes on"),
        (("kernel", spec), "the same command goes on"),
    ):
        assert call(*command, "--out", tmp_path / "out", "-q") == 130
        err = capsys.readouterr().err
        assert f"interrupted; {said}" in err and ("--resume" in err) == ("--resume" in said)


def test_the_demos_spec_has_the_seed_that_was_asked_for(capsys):
    assert call("demo", "--spec", "--seed", 5) == 0
    asked = experiment.demo().model_copy(update={"seed": 5})
    assert experiment.parse(capsys.readouterr().out, "printed") == asked


def test_the_accounts_of_a_run_that_diverged_are_drawn(tmp_path):
    growing = np.arange(5.0)[:, None] * np.ones(2)
    for first, said in ((4, "diverged from round 4 on"), (0, "diverged from round 0 on")):
        for end in (np.nan, np.inf):
            values = np.where(np.arange(5)[:, None] < first, growing, end)
            names = ("arithmetic", "linearization", "gap")
            table = {name: (("round", "agent"), values) for name in names}
            path = records.write(xr.Dataset(table, {"round": range(5)}), tmp_path / "accounts.nc")
            assert call("figure", "accounting", "--record", path, "--out", tmp_path / "a.png") == 0
            title = figures.draw("accounting", [records.read(path)]).axes[0].get_title(loc="left")
            assert title.endswith(said)


def test_the_seed_changes_the_start(spec, tmp_path):
    for seed in (3, 4):
        assert call("predict", spec, "--seed", seed, "--out", tmp_path / str(seed), "-q") == 0
    one, other = (records.read(tmp_path / s / "predicted.nc") for s in ("3", "4"))
    assert other.attrs["seed"] == 4
    assert abs(one["initial_outputs"] - other["initial_outputs"]).max() > 0.1


def test_a_kernel_is_written_tile_by_tile_and_continued(spec, tmp_path, capsys):
    out = tmp_path / "k.h5"
    assert call("kernel", spec, "--memory", "34MB", "--out", out) == 0
    assert "trace kernel of 40 x 40 points" in capsys.readouterr().out
    with h5py.File(out) as file:
        kernel = file["values/all"][:]
        assert (file["sums"][:] > 0).all()
    problem = experiment.Experiment(experiment.load(spec)).problem
    wanted = nd.kernels.compute(
        problem.network.apply, problem.start, problem.inputs[:40], form="trace"
    )
    assert np.array_equal(kernel, wanted.values)
    assert call("kernel", spec, "--out", out, "--quiet") == 0
    for more, said in [
        (("--form", "full"), "holds another kernel"),
        (("--form", "fll"), "did you mean 'full'"),
        (("--memory", "1 kB"), "too few for one tile"),
    ]:
        assert call("kernel", spec, "--out", out, *more) == 2
        assert said in capsys.readouterr().err


def test_networks_of_a_spec(spec, tmp_path, capsys):
    text = SPEC.replace(
        "widths = [32]", 'kind = "cnn"\nwidths = [4]\nimage = [8, 8, 1]\nstrides = 2'
    )
    network = experiment.Experiment(experiment.parse(text, "text")).problem.network
    assert network.description["kind"] == "cnn" and network.description["strides"] == 2
    spec.write_text(SPEC.replace("widths = [32]", "widths = [32]\nstrides = 2"))
    assert call("predict", spec, "--out", tmp_path / "out") == 2
    assert "strides is no setting of a network of kind mlp" in capsys.readouterr().err


@pytest.mark.slow
def test_the_kernel_benchmark_in_small(capsys, monkeypatch):
    monkeypatch.setattr("ntkdyn.bench.kernel._peaks", lambda sizes: {})
    monkeypatch.setattr("ntkdyn.bench.structured.python", lambda: "false")
    assert call("bench", "kernel", "--small", "--json") == 0
    measured = json.loads(capsys.readouterr().out)
    assert len(measured["comparisons"]) == 13
    for each in measured["comparisons"]:
        assert each["ratio"] == each["theirs"] / each["ours"] > 0
        assert each["relative_difference"] < (1e-12 if "float64" in each["case"] else 1e-5)
    (rate,) = (f for name, f in measured["figures"].items() if name.startswith("trace form"))
    assert 0 < rate["everything computed / time / matmul rate"] < 1.5
    (told,) = (f for name, f in measured["figures"].items() if "structured" in name)
    assert told == {"not measured": "does not run in its environment"}


@pytest.mark.slow
def test_a_step_above_the_limit_runs_and_says_so(tmp_path, capsys):
    path = tmp_path / "spec.toml"
    path.write_text(SPEC.replace("of_limit = 0.5", "of_limit = 1.5"))
    assert call("run", path, "--out", tmp_path / "out") == 0
    assert "stable = false: the step size" in capsys.readouterr().out
    record = records.read(tmp_path / "out" / "predicted.nc")
    assert record.attrs["stable"] == 0
    assert record.attrs["step_size"] > record.attrs["step_size_limit"]
    assert "stable = false" in (tmp_path / "out" / "report.html").read_text()


BAD = {
    "rows": ('topology = "ring"', "matrix = [[0.5, 0.4], [0.5, 0.5]]", "row 0 sums to 0.9"),
    "negative": ('topology = "ring"', "matrix = [[1.5, -0.5], [0.5, 0.5]]", "must not be negative"),
    "square": ('topology = "ring"', "matrix = [[0.5, 0.5]]", "must be square"),
    "size": (
        'topology = "ring"',
        "matrix = [[0.5, 0.5], [0.5, 0.5]]",
        "for 2 agents, the problem has 4",
    ),
    "parts": ('topology = "ring"', "matrix = [[1.0, 0.0], [0.0, 1.0]]", "falls into 2 parts"),
    "graph": ('"ring"', '"rnig"', "did you mean 'ring'"),
    "neither": ('topology = "ring"', "", "give a topology or a matrix"),
    "weights": (
        'topology = "ring"',
        'topology = "ring"\nweights = "metropols"',
        "did you mean 'metropolis'",
    ),
    "setting": ('topology = "ring"', 'topology = "ring"\ndegree = 3', "no setting of graph ring"),
    "method": ('"dgd"', '"dgdd"', "did you mean 'dgd'"),
    "data": ('"digits"', '"digit"', "did you mean 'digits'"),
    "loss": ("seed = 3", 'seed = 3\nloss = "msee"', "did you mean 'mse'"),
    "kernel": ("seed = 3", 'seed = 3\nkernel = "infinit"', "did you mean 'infinite'"),
    "key": (
        "rounds = 6",
        "rounds = 6\nrond = 2",
        "no setting run.rond is called 'rond'; did you mean",
    ),
    "table": ("seed = 3", "seed = 3\nspeed = 3", "did you mean 'seed'"),
    "type": (
        "rounds = 6",
        'rounds = "six"',
        "run.rounds: input should be a valid integer, got 'six'",
    ),
    "step": ("{ of_limit = 0.5 }", '"big"', "method.step_size"),
    "share": ("{ of_limit = 0.5 }", "{ of_limt = 0.5 }", "method.step_size.of_lim"),
    "missing": ("rounds = 6", "", "run.rounds must be given"),
    "minus": ("{ of_limit = 0.5 }", "-0.1", "step size: must be positive and finite, got -0.1"),
    "empty agent": ("agents = 4", "agents = 41", "need as many training points, got 40"),
    "toml": ("[network]", "[network", "is not TOML"),
}


@pytest.mark.parametrize("old, new, message", BAD.values(), ids=BAD)
def test_bad_specs_get_one_sentence_and_exit_code_2(old, new, message, tmp_path, capsys):
    path = tmp_path / "spec.toml"
    assert old in SPEC
    path.write_text(SPEC.replace(old, new))
    assert call("run", path, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("ntkdyn: ") and message in said[-1], said
    assert not any("Traceback" in line for line in said)
    assert not list((tmp_path / "out").glob("*"))


def test_bad_files(tmp_path, spec, capsys):
    assert call("run", tmp_path / "none.toml") == 2
    assert "No such file" in capsys.readouterr().err
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert call("run", tmp_path / "binary.toml") == 2
    assert call("compare", spec, spec, "--out", tmp_path / "out") == 2
    assert "is not a netCDF4 file" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert call("run", spec, "--out", tmp_path / "file" / "out") == 2
    assert "cannot write" in capsys.readouterr().err
    assert call("run", spec, "--no-such-option") == 2


def test_the_demos_spec_is_printed_and_runs_as_a_spec(tmp_path, capsys):
    assert call("demo", "--spec") == 0
    printed = capsys.readouterr().out
    assert experiment.parse(printed, "printed") == experiment.demo()


def test_figure_draws_a_record_and_names_what_is_missing(spec, tmp_path, capsys):
    assert call("predict", spec, "--out", tmp_path, "-q") == 0
    record, out = tmp_path / "predicted.nc", tmp_path / "consensus.svg"
    assert call("figure", "consensus", "--record", record, "--out", out) == 0
    assert out.read_text().startswith("<?xml") and str(out) in capsys.readouterr().out
    assert call("figure", "spectrum", "--record", record) == 2
    assert "lacks eigenvalue_real, eigenvalue_imag" in capsys.readouterr().err
    (tmp_path / "file").touch()
    unwritable = tmp_path / "file" / "a.pdf"
    assert call("figure", "consensus", "--record", record, "--out", unwritable) == 2
    assert "cannot write" in capsys.readouterr().err
    assert call("figure", "consensus", "--record", tmp_path / "none.nc") == 2
    assert call("figure", "--list") == 0
    assert "overlay" in capsys.readouterr().out


def test_teach_writes_pages_and_serves_them_to_this_machine_only(tmp_path, capsys):
    assert call("teach", "--out", tmp_path / "pages", "--no-open") == 0
    written = {path.name for path in (tmp_path / "pages").iterdir()}
    assert len(written) == 2 + len(interactive.PAGES) and "index.html" in written
    index = (tmp_path / "pages" / "index.html").read_text()
    assert all(name in index for name in written - {"index.html"})
    with interactive.server(tmp_path / "pages", 0) as server:
        assert server.server_address[0] == "127.0.0.1"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_address[1]}/") as answer:
            assert answer.read().decode() == index
        busy = server.server_address[1]
        (tmp_path / "pages" / "secret.txt").write_text("secret")
        for path, host, code in (
            ("/index.html?a=b", f"localhost:{busy}", 200),
            ("/secret.txt", f"127.0.0.1:{busy}", 404),
            ("/../index.html", f"127.0.0.1:{busy}", 404),
            ("/", "evil.example", 403),
        ):
            asking = http.client.HTTPConnection("127.0.0.1", busy)
            asking.request("GET", path, headers={"Host": host})
            assert asking.getresponse().status == code, path
            asking.close()
        assert call("teach", "--out", tmp_path / "pages", "--serve", "--port", busy) == 2
        assert f"cannot serve on 127.0.0.1:{busy}" in capsys.readouterr().err
        server.shutdown()
    (tmp_path / "file").touch()
    assert call("teach", "--out", tmp_path / "file" / "pages", "--no-open") == 2
    assert "cannot write" in capsys.readouterr().err


def test_the_version_installed_is_the_one_imported(capsys):
    assert call("--version") == 0
    assert capsys.readouterr().out == f"ntkdyn {nd.__version__}\n"


def test_doctor_finds_this_installation_well(capsys):
    assert call("doctor") == 0
    said = capsys.readouterr().out
    assert "jax" in said and "infinite-width kernels" in said and "missing" not in said


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_an_interrupted_run_leaves_no_record(tmp_path):
    path, out = tmp_path / "spec.toml", tmp_path / "out"
    endless = SPEC.replace("rounds = 6", "rounds = 1000000000").replace("[6]", "[]")
    path.write_text(endless.replace("record_every = 2", "record_every = 500000000"))
    here = [sys.executable, "-m", "ntkdyn"]
    command = ["env", "--default-signal=INT", *here, "run", path, "--out", out]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            while not out.exists():
                assert process.poll() is None
                time.sleep(0.1)
            time.sleep(10)
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert process.returncode == 130
    assert "interrupted" in said and "Traceback" not in said
    left = {path.name for path in out.iterdir()}
    assert left <= {"predicted.nc", "checkpoints"}
    if "predicted.nc" in left:
        assert records.read(out / "predicted.nc")["round"][-1] == 10**9


@pytest.mark.slow
def test_bounds_prints_the_whole_table_and_fails_on_a_violation(
    spec, tmp_path, capsys, monkeypatch
):
    assert call("run", spec, "--out", tmp_path / "run", "--quiet") == 0
    given = [tmp_path / "run" / f"{side}.nc" for side in ("predicted", "observed")]
    reused = [f"--record={path}" for path in given]
    broken = records.read(given[0])
    broken["train_loss"] = broken["train_loss"] * 100
    records.write(broken, given[0])
    capsys.readouterr()
    table, rates_of = tmp_path / "bounds.nc", tmp_path / "rates.nc"
    asked = "bounds", spec, *reused, "--quiet", "--out", table, "--rate-map", rates_of
    monkeypatch.setattr(thresholds, "MAP_ROWS_UP_TO", 1)
    assert call(*asked) == 2 and table.exists() and not rates_of.exists()
    said, err = capsys.readouterr()
    assert "takes 128 exact rates" in err and "D-SGD, convex" in said
    monkeypatch.undo()
    assert call(*asked) == 1
    said, err = capsys.readouterr()
    for name in ("averaging", "descent", "disagreement", "neighbourhood", "flow", "D-SGD, convex"):
        assert f"│ {name}" in said
    for words in ("holds, ratio", "observed: holds", "assumption not met", "Yuan, Ling, Yin 2016"):
        assert words in said
    assert said.count("VIOLATED") == 1 and "VIOLATED at round 0" in said
    assert "descent: sum of own losses exceeds its bound in round 0" in err
    written = records.read(table)
    assert written["state"].sel(bound="descent") == "violated"
    assert written["observed_state"].sel(bound="descent") == "holds"
    assert (written["seen"].sel(bound="descent") > written["promised"].sel(bound="descent")).all()
    assert "+ symmetric W" in written["assumptions"].sel(bound="descent").item()
    for figure, held in (("bounds", table), ("stability_map", rates_of)):
        picture = tmp_path / f"{figure}.png"
        assert call("figure", figure, "--record", held, "--out", picture, "--quiet") == 0
        assert picture.stat().st_size > 1000
    mapped = records.read(rates_of)["rate"]
    assert mapped.shape == (8, 16) and mapped.min() < 1 < mapped.max()
    comparison = tmp_path / "run" / "comparison.nc"
    for more, message in (
        (comparison, f"record: {comparison} is of no run; give what predict or train wrote"),
        (given[0], f"record: {given[0]} is a second predicted record; give one of each"),
    ):
        assert call("bounds", spec, *reused, f"--record={more}", "--quiet") == 2
        assert message in capsys.readouterr().err
    assert call("bounds", "--quiet") == 2
    assert "give a spec or --demo, one of the two" in capsys.readouterr().err


SPECS_REFUSED = {
    "nested": ("a = " + "[" * 20_000, "nests its values too deeply"),
    "dotted": (".".join("a" * 20_000) + " = 1", "nests its values too deeply, by a key of 100"),
    "digits": ("seed = " + "9" * 5_000, "holds a number of too many digits"),
    "code 0": (
        SPEC.replace('"small"', '"a\\u0000b"'),
        "title: must not hold the character of code 0",
    ),
    "large": ("#" * (experiment.LARGEST_SPEC + 1), "has more than the 16777216 bytes"),
    "rounds": (
        SPEC.replace("rounds = 6\nrecord_every = 2", f"rounds = {10**9}\nrecord_every = 1"),
        "a record of 1000000001 rounds",
    ),
}


@pytest.mark.parametrize("text, message", SPECS_REFUSED.values(), ids=SPECS_REFUSED)
def test_specs_that_ask_for_too_much_are_refused(text, message, tmp_path, capsys):
    path = tmp_path / "spec.toml"
    path.write_text(text)
    assert call("run", path, "--train-only", "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("name", ["a pipe", "/dev/zero", "."])
def test_a_spec_is_a_file(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("a pipe")  # nobody writes to it: reading would never end
    assert call("predict", name) == 2
    wanted = "must be the path of a file" if name == "." else "is no file, but a folder, a device"
    assert wanted in capsys.readouterr().err


def test_a_spec_may_begin_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "spec.toml"
    path.write_bytes(b"\xef\xbb\xbf" + SPEC.replace("\n", "\r\n").encode())
    assert experiment.load(path) == experiment.parse(SPEC, "spec")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("kernel", "--form", "²"), "form: "),
        (("kernel", "--memory", "1e400"), "memory: must be positive and finite, got '1e400'"),
        (("sweep", "--over", "width=16,32", "--starts", 10**9), "are 2000000000 trainings"),
        (("sweep", "--over", "width=16", "--starts", 0), "are 0 trainings"),
    ],
)
def test_numbers_on_the_command_line(arguments, message, spec, tmp_path, capsys):
    command, *options = arguments
    assert call(command, spec, *options, "--out", tmp_path / "out.h5") == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize(
    "command, code, message",
    [
        ("papers >&-", 2, "standard output is closed"),
        ("demo --spec > /dev/full", 2, "cannot write to standard output; No space left"),
        ("predict spec.toml", 2, "JAX_PLATFORMS: JAX cannot start what 'cuda' names"),
    ],
)
def test_surroundings_that_fail_get_one_sentence(command, code, message, spec, tmp_path):
    surroundings = os.environ | {"JAX_PLATFORMS": "cuda", "MPLBACKEND": "none of them"}
    line = f"{sys.executable} -m ntkdyn {command}"
    done = subprocess.run(
        ["sh", "-c", line], cwd=tmp_path, env=surroundings, capture_output=True, text=True
    )
    assert done.returncode == code and message in done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_told_to_stop_saves_itself(number, code, spec, tmp_path, capsys, monkeypatch):
    """Between two checkpoints: the call that runs is the last that is done, and is not lost."""
    due = Checkpoints._due

    def told(checkpoints, round):
        if round and not checkpoints.unfinished:
            signal.raise_signal(number)
        return due(checkpoints, round)

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "_due", told)
        assert call("train", spec, "--out", out, "-q") == code
    said = capsys.readouterr().err
    assert "--resume goes on" in said and not (out / "observed.nc").exists()
    assert call("train", spec, "--out", out, "-q", "--resume") == 0
    assert call("train", spec, "--out", tmp_path / "whole", "-q") == 0
    one, other = (records.read(folder / "observed.nc") for folder in (out, tmp_path / "whole"))
    assert one.equals(other)
