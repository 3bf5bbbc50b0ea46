"""Work shared among processes: what one process computes, each part once, whoever dies."""

import functools
import operator
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from cases import STUDIED as SPEC

from ntkdyn import cluster, design, experiment, records
from ntkdyn.design import study
from ntkdyn.dynamics import Starts, ensemble
from ntkdyn.errors import InputError

distributed = pytest.importorskip("distributed")

OVER = [
    "graph.topology=ring,star,hypercube",
    "method.name=dgd,diging,cta",
    "partition.alpha+method.step_size.of_limit=0.3+0.4,5+0.8,5+0.5",
]


@pytest.fixture
def axes():
    return [design.axis(each) for each in OVER]


FEW = ["graph.topology=ring,hypercube,star"]


@pytest.fixture
def base():
    return experiment.Experiment(experiment.parse(SPEC, "spec"))


@pytest.fixture(scope="module")
def within():
    """A cluster whose workers are threads of this process."""
    threads = {"n_workers": 2, "processes": False, "threads_per_worker": 1}
    made = distributed.LocalCluster(**threads, dashboard_address=None, silence_logs="CRITICAL")
    with made, distributed.Client(made, set_as_default=False) as client:
        yield cluster.Cluster(client)


def test_shared_work_is_that_of_one_process(base, within, tmp_path, monkeypatch):
    """In the order of settings, whatever is done first; and what is kept is not done again."""
    monkeypatch.setattr(study, "PART", 1)
    few = [design.axis(each) for each in FEW]
    parts = design.Parts(tmp_path, {}, resume=True)
    shared, whole = design.Study(base, few, parts=parts, cluster=within), design.Study(base, few)
    found = shared.predict()
    assert found.identical(whole.predict()) and len(set(found["test_loss"].values.flat)) > 15
    assert len({*tmp_path.glob("predicted-*.nc")}) == 3
    monkeypatch.setattr(within, "map", None)
    assert shared.predict().identical(found)
    assert within.unlike == ""


@pytest.mark.slow
def test_rounds_of_ones_own(base, axes, within):
    rounds = {0: [0, 2], 4: [0, 3, 8], 18: [0, 8]}
    alone, shared = design.Study(base, axes), design.Study(base, axes, cluster=within)
    seen = shared.train([0, 4, 18], rounds)
    assert seen.identical(alone.train([0, 4, 18], rounds))
    assert seen["train_loss"].notnull().all("agent").sum("round").values.tolist() == [2, 3, 0]
    assert "hypercube" in str(seen["refusal"].sel(setting=18).values)


@pytest.mark.slow
def test_an_ensemble_that_is_shared(base, within):
    asked = {"rounds": [0, 4], "starts": Starts(0, 4, "own")}
    shared = ensemble(base.system, **asked, cluster=within)
    assert shared.identical(ensemble(base.system, **asked))
    assert (shared["train_loss_std"].values > 0).all()


def refusing(common, task):
    raise InputError(f"{common} {task}")


def telling(common, task):
    return common, task


def test_what_is_wrong_is_one_sentence(within, monkeypatch):
    found = dict(within.map(telling, "a", [1, 2, 2]))
    assert found == {0: ("a", 1), 1: ("a", 2), 2: ("a", 2)}
    with pytest.raises(InputError, match="^lost 1$"):
        list(within.map(refusing, "lost", [1]))
    own = cluster.here()
    other = own._replace(versions=own.versions | {"jax": "0.9"})
    monkeypatch.setattr(cluster, "_run", functools.partial(as_of, other.versions))
    said = f"a worker has another jax: {own.versions['jax']} there, 0.9 here; have all run the same"
    with pytest.raises(InputError, match=re.escape(said)):
        list(within.map(telling, "a", [1]))


def as_of(versions, _, function, common, task):
    cluster._check_same(versions, cluster.here().versions, "a worker")


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize(
    "given, message",
    [
        ({"workers": 2, "scheduler": "tcp://127.0.0.1:1"}, "give one of the two"),
        ({"workers": 0}, "workers: must be a whole number from 1"),
        ({"workers": "many"}, "workers: must be a whole number from 1"),
        ({"scheduler": closed_port()}, "none answered at 'tcp://127.0.0.1:[0-9]+' within 0.5 s"),
        ({"scheduler": "no address"}, "none answered at 'no address' within 0.5 s"),
        ({"scheduler": "tcp://127.0.0.1"}, "none answered at"),
    ],
)
def test_a_cluster_that_cannot_be(given, message):
    with pytest.raises(InputError, match=message), cluster.opened(**given, wait=0.5):
        pass


def test_without_dask_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(InputError, match="cluster: needs distributed, .* 'ntkdyn.cluster.'"),
        cluster.opened(scheduler="tcp://127.0.0.1:1"),
    ):
        pass


def test_what_differs_is_said():
    difference = cluster._difference
    assert difference({"XLA_FLAGS": ""}, {"XLA_FLAGS": ""}) == ""
    assert difference({"a": "1", "b": ""}, {"a": "1", "b": "2"}) == "b: 2 there, nothing here"


class Loopback:
    """A scheduler and workers, each a process."""

    def __init__(self, folder):
        self._folder, self._all = folder, []
        self._start("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0",
                    "--no-dashboard", "--scheduler-file", str(folder / "s.json"))  # fmt: skip
        while not (folder / "s.json").exists():
            time.sleep(0.1)
        said = (folder / "s.json").read_text()
        self.address = re.search(r"tcp://[^\"]*", said)[0]

    def _start(self, module, *arguments, **environment):
        command = [sys.executable, "-m", module, *arguments]
        with (self._folder / f"{len(self._all)}.log").open("w") as log:
            made = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self._folder, env=os.environ | environment
            )
        self._all.append(made)
        return made

    def worker(self, **environment):
        alone = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0"]
        return self._start("distributed.cli.dask_worker", self.address, *alone, **environment)

    def end(self):
        for each in self._all:
            each.kill()
            each.wait()


@pytest.fixture
def loopback(tmp_path):
    made = Loopback(tmp_path)
    yield made
    made.end()


COMMAND = (
    "import sys; from ntkdyn import cli; from ntkdyn.design import study; study.PART = 2; "
    "sys.argv[0] = 'ntkdyn'; cli.app()"
)


def begun(folder, *more):
    (folder / "s.toml").write_text(SPEC)
    over = [word for each in OVER for word in ("--over", each)]
    command = [sys.executable, "-c", COMMAND, "sweep", str(folder / "s.toml"), *over]
    return subprocess.Popen([*command, "--train", "6", *more], stdout=subprocess.PIPE, text=True)


def finished(run):
    """The exit code of a run that was begun, its pipe closed."""
    with run:
        run.communicate()
    return run.returncode


@pytest.mark.slow
def test_a_worker_is_killed_and_nothing_is_lost(loopback, tmp_path):
    """A scheduler and two workers, one ended by SIGKILL while it computes."""
    first, _ = loopback.worker(), loopback.worker()
    out, whole = tmp_path / "out", tmp_path / "whole"
    shared = begun(tmp_path, "--out", str(out), "--scheduler", loopback.address)
    while len(list((out / "sweep.parts").glob("[!.]*.nc"))) < 2 and shared.poll() is None:
        time.sleep(0.02)
    assert shared.poll() is None
    first.kill()
    assert first.wait() == -signal.SIGKILL
    said, _ = shared.communicate()
    assert shared.returncode == 0 and "18 settings predicted, 6 trained" in said
    assert "last digits may differ" not in said
    assert finished(begun(tmp_path, "--out", str(whole))) == 0
    one, other = (records.read(each / "sweep.nc") for each in (out, whole))
    assert one.identical(other)


@pytest.mark.slow
def test_processes_of_this_machine(tmp_path):
    out, whole = tmp_path / "out", tmp_path / "whole"
    shared = begun(tmp_path, "--out", str(out), "--workers", "2")
    assert "18 settings" in shared.communicate()[0] and shared.returncode == 0
    assert finished(begun(tmp_path, "--out", str(whole))) == 0
    assert records.read(out / "sweep.nc").identical(records.read(whole / "sweep.nc"))


@pytest.mark.slow
def test_workers_that_are_not_alike(loopback, tmp_path):
    with pytest.raises(InputError, match="had no worker within 0.5 s"):
        open_and_close(loopback, wait=0.5)
    loopback.worker(XLA_FLAGS="--xla_cpu_enable_fast_math=false")
    with cluster.opened(scheduler=loopback.address) as workers:
        assert list(workers.map(operator.add, "a", ["1"])) == [(0, "a1")]
        assert "XLA_FLAGS: --xla_cpu_enable_fast_math=false there" in workers.unlike
    fake = tmp_path / "fake" / "jax-0.0.1.dist-info"
    fake.mkdir(parents=True)
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: jax\nVersion: 0.0.1\n")
    loopback.worker(PYTHONPATH=str(fake.parent))
    while "Registered to" not in (tmp_path / "2.log").read_text():
        time.sleep(0.1)
    with pytest.raises(InputError, match="worker tcp://.* has another jax: 0.0.1 there"):
        open_and_close(loopback)


def open_and_close(loopback, **more):
    with cluster.opened(scheduler=loopback.address, **more):
        pass
