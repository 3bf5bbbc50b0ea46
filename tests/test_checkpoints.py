"""Checkpoints: what was killed, damaged or changed, and goes on all the same, or says why not."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cases import method, small_problem

import ntkdyn as nd
from ntkdyn import checkpoints, cli, records
from ntkdyn.checkpoints import Checkpoints

RING = nd.graphs.metropolis(nd.graphs.ring(4))
KEEP = nd.SaveOptions(parameter_rounds=[0, 12], distances=True, kernel=True)


class Killed(Exception):
    """Stands in for a process that ends at once."""


@pytest.fixture(scope="module")
def problem():
    return small_problem(4, "mse").problem


def train(problem, saving=None, step=0.15, until=None, name="atc_tracking", precision="float32"):
    def progress(done, total):
        if until is not None and done > until:
            raise Killed

    return nd.train(
        problem, method(name, step), RING, range(0, 25, 2), batch_size=2, batch_seed=5, save=KEEP,
        progress=progress, checkpoints=saving, precision=precision,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(problem):
    return train(problem)


@pytest.fixture
def killed(problem, tmp_path):
    """A folder of a run that died after round 13 or so, with two checkpoints."""
    with pytest.raises(Killed):
        train(problem, Checkpoints(tmp_path, rounds=3), until=13)
    return tmp_path


def steps(folder):
    return sorted(int(path.stem) for path in (folder / "states").glob("*.json"))


def test_a_resumed_run_equals_the_uninterrupted_one(problem, whole, killed):
    assert len(steps(killed)) == 2
    seen = []
    real = checkpoints.Checkpoints.open

    def opened(self, *args):
        seen.append(real(self, *args))
        return seen[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints.Checkpoints, "open", opened)
        assert train(problem, Checkpoints(killed, resume=True, rounds=3)).identical(whole)
    assert 0 < seen[0].round <= 13 and len(seen[0].seen) > 3
    assert steps(killed)[-1] > 13


@pytest.mark.parametrize("what", ["state", "seen", "about", "{}", "[1]"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(what, problem, whole, killed):
    before, last = steps(killed)
    newest = killed / "states" / str(last)
    path = {
        "state": max(newest.rglob("d/*"), key=lambda p: p.stat().st_size),
        "seen": max((killed / "seen").iterdir()),
    }.get(what, newest.with_suffix(".json"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(what.encode() if what in ("{}", "[1]") else content)
    saving = Checkpoints(killed, resume=True, minutes=60)
    assert train(problem, saving).identical(whole)
    assert steps(killed) == [before, last], "nothing goes before something replaces it"
    saving._conclude(before + 1)
    assert steps(killed) == [before, before + 1]


@pytest.mark.parametrize("what", ["states/*.json", "seen/000000.npz"])
def test_without_an_undamaged_checkpoint_it_says_so_and_removes_nothing(what, problem, killed):
    for path in killed.glob(what):
        path.write_bytes(path.read_bytes()[:1])
    before = sorted(killed.rglob("*"))
    with pytest.raises(nd.InputError, match="holds no undamaged checkpoint"):
        train(problem, Checkpoints(killed, resume=True))
    assert set(before) <= set(killed.rglob("*"))


def test_another_run_is_refused_by_what_differs(problem, killed):
    with pytest.raises(nd.InputError, match=r"another run: step_size was 0.15 and is 0.2"):
        train(problem, Checkpoints(killed, resume=True), step=0.2)
    with pytest.raises(nd.InputError, match="method was atc_tracking and is atc$"):
        train(problem, Checkpoints(killed, resume=True), name="atc")
    with pytest.raises(nd.InputError, match="precision was float32 and is bfloat16"):
        train(problem, Checkpoints(killed, resume=True), precision="bfloat16")
    other = small_problem(4, "cross_entropy").problem
    with pytest.raises(nd.InputError, match="loss was mse and is cross_entropy"):
        train(other, Checkpoints(killed, resume=True))
    with pytest.raises(nd.InputError, match="holds an unfinished run; resume it, or remove"):
        Checkpoints(killed)
    with pytest.raises(nd.InputError, match="seed was not there and is 3"):
        Checkpoints(killed, resume=True, settings={"seed": 3})


def test_disk_full_and_unwritable_folders_are_one_sentence(problem, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(nd.InputError, match="cannot write"):
        train(problem, Checkpoints(tmp_path / "file" / "in", rounds=3))

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(nd.InputError, match=r"output: cannot write .*npz; No space left"):
        train(problem, Checkpoints(tmp_path / "full", rounds=3))
    assert not [p for p in (tmp_path / "full").rglob("*") if p.is_file()]


def test_intervals_must_be_positive_and_saving_takes_its_share(tmp_path):
    with pytest.raises(nd.InputError, match="minutes: must be positive, got 0"):
        Checkpoints(tmp_path, minutes=0)
    with pytest.raises(nd.InputError, match="rounds: must be at least 1, got 0"):
        Checkpoints(tmp_path, rounds=0)
    often = Checkpoints(tmp_path, minutes=1e-9)
    assert often._due(1)
    often._cost = 100.0
    assert not often._due(1)


SPEC = """
seed = 3
[network]
widths = [32]
[data]
name = "digits"
train = 40
test = 20
[partition]
agents = 4
[graph]
topology = "ring"
[method]
name = "diging"
step_size = 0.05
[run]
rounds = 20000
record_every = 400
batch_size = 4
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
def test_a_run_killed_at_a_random_moment_goes_on_bit_for_bit(tmp_path):
    spec, out = tmp_path / "spec.toml", tmp_path / "out"
    spec.write_text(SPEC)
    here = Path(sys.executable).parent / "ntkdyn"
    command = [here, "train", spec, "--out", out, "--quiet", "--checkpoint-rounds", "1"]
    with subprocess.Popen(command) as process:
        try:
            while not list(out.glob("checkpoints/states/*.json")):
                assert process.poll() is None
                time.sleep(0.02)
            time.sleep(random.uniform(0, 1.5))
        finally:
            process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL and not (out / "observed.nc").exists()
    call = lambda *more: cli.app([str(each) for each in ("train", spec, "-q", *more)])
    for arguments, code in (
        (("--out", out), 2),
        (("--out", out, "--resume", "--seed", 4), 2),
        (("--out", out, "--resume"), 0),
        (("--out", out, "--resume"), 0),
        (("--out", tmp_path / "whole"), 0),
    ):
        with pytest.raises(SystemExit) as left:
            call(*arguments)
        assert (left.value.code or 0) == code
    assert {path.name for path in out.iterdir()} == {"observed.nc"}
    resumed, whole = (records.read(f / "observed.nc") for f in (out, tmp_path / "whole"))
    assert resumed.identical(whole)
