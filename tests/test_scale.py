"""Training at scale: over eight devices, over two processes, and in less memory, it is the same."""

import ctypes
import json
import runpy
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import method
from processes import run_together, said_with_devices

import ntkdyn as nd
from ntkdyn import experiment, memory, precision, records, runs
from ntkdyn.data import Dataset, Partition
from ntkdyn.validation import Resources

ROOT = Path(__file__).parent.parent

COMMON = """
import jax, numpy as np
import ntkdyn as nd
from ntkdyn.data import Dataset, Partition

rng = np.random.default_rng(0)
inputs = rng.standard_normal((30, 6)).astype(np.float32)
labels = (inputs[:, 0] * inputs[:, 1] > 0).astype(int)
data = Dataset("small", inputs[:24], labels[:24], inputs[24:], labels[24:], 2, "none")
net = nd.networks.mlp((16, 16), outputs=2, activation="erf", w_std=1.5, b_std=0.3)
KEEP = nd.SaveOptions(parameter_rounds=[12])

def train(agents, devices, name="atc_tracking", **more):
    owner = np.arange(24) % agents
    owner[-1] = 0
    problem = nd.Problem(net, Partition(data, owner, agents, "given"), seed=3)
    W = nd.graphs.uniform(nd.graphs.directed_ring(agents))
    method = nd.methods.METHODS[name](step_size=0.15)
    return nd.train(problem, method, W, [0, 12], batch_size=2, batch_seed=5, save=KEEP,
                    resources=nd.validation.Resources(devices), **more)

def equal(one, other):
    assert set(one) == set(other)
    moved = float(abs(one.outputs[-1] - one.outputs[0]).max())
    assert moved > 0.1
    for name in one:
        scale = max(float(abs(one[name]).max()), 1e-30)
        assert float(abs(one[name] - other[name]).max()) <= 2e-5 * max(scale, 1), name
"""

EIGHT = (
    COMMON
    + """
from ntkdyn import runs
from ntkdyn.engine import advance
from ntkdyn.sharding import layout
import jax.numpy as jnp

devices = jax.devices()
assert len(devices) == 8
one, many = train(6, None), train(6, devices)
equal(one, many)
assert (one.attrs["devices"], many.attrs["devices"]) == (1, 8)
assert many.attrs["memory_estimate"] < one.attrs["memory_estimate"]

problem = nd.Problem(net, Partition(data, np.arange(24) % 4, 4, "given"), seed=3)
W = nd.graphs.metropolis(nd.graphs.ring(4))
asked = runs.plan(problem, nd.methods.extra(step_size=0.1), W, 3)
with nd.precision.single():
    space = problem.network_space()
    iteration = runs.iteration_of(asked, space, layout(devices, space))
    state = iteration.init()
    for _ in range(2):
        for leaf in jax.tree.leaves(state):
            parts = {shard.data.size for shard in leaf.addressable_shards}
            assert leaf.ndim < 2 or parts == {leaf.size // 8}, (leaf.shape, parts)
        state = advance(iteration, state, jnp.array(0), jnp.array(2))
    text = advance.lower(iteration, state, jnp.array(0), jnp.array(2)).compile().as_text()
    assert "all-to-all" in text

for asked, said in ((devices[:3], "3 devices cannot share the 8 agents' parameters (8, 16, 16)"),
                    (devices[:1] * 2, "got 2, 1 of them different"), ([], "got 0, 0 of them")):
    try:
        train(8, asked)
    except nd.InputError as error:
        assert said in str(error), error
    else:
        raise SystemExit("not refused")
print("equal")
"""
)

TWO = (
    COMMON
    + """
import os
from pathlib import Path
from ntkdyn import records
from ntkdyn.checkpoints import Checkpoints

folder = Path({folder!r})
seen = train(4, jax.devices())
records.write(seen, folder / "record.nc")
np.savez(folder / f"process_{sys.argv[1]}.npz", seen.outputs)
if sys.argv[1] == "1":
    assert not records.write(seen, folder / "second.nc").exists()

refused = {folder / sys.argv[1]: "not all processes", folder / "record.nc" / "in": "cannot write"}
for place, said in refused.items():
    try:
        train(4, jax.devices(), checkpoints=Checkpoints(place))
    except nd.InputError as error:
        assert said in str(error), error
    else:
        raise SystemExit("not refused")

def killed(done, _):
    if done > 5:
        os._exit(0)

minutes = 1e-6 if sys.argv[1] == "0" else 1e6
train(4, jax.devices(), checkpoints=Checkpoints(folder / "saved", minutes=minutes), progress=killed)
raise SystemExit("not killed")
"""
)

RESUMED = (
    COMMON
    + """
from pathlib import Path
from ntkdyn import records
from ntkdyn.checkpoints import Checkpoints

folder, done = Path({folder!r}), []
saved = Checkpoints(folder / "saved", resume=True)
assert saved.unfinished
seen = train(4, jax.devices(), checkpoints=saved, progress=lambda here, _: done.append(here))
assert 1 < done[0] < 12, done
whole = records.read(folder / "record.nc")
for name in whole:
    assert (seen[name].values == whole[name].values).all(), name
saved.remove()
"""
)


@pytest.mark.slow
def test_eight_devices_train_as_one():
    assert said_with_devices(EIGHT, 8) == "equal\n"


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What two processes left that trained together, and were killed while they did so again."""
    folder = tmp_path_factory.mktemp("two")
    run_together(TWO.replace("{folder!r}", repr(str(folder))), folder)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Gloo over loopback")
def test_two_processes_train_as_one(two_processes):
    space = {}
    exec(COMMON, space)
    alone, together = space["train"](4, None), records.read(two_processes / "record.nc")
    space["equal"](alone, together)
    assert together.attrs["devices"] == 2
    for number in range(2):
        seen = np.load(two_processes / f"process_{number}.npz")["arr_0"]
        assert (seen == together["outputs"]).all()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Gloo over loopback")
def test_two_processes_that_were_killed_go_on_bit_for_bit(two_processes):
    assert (two_processes / "saved").exists()
    run_together(RESUMED.replace("{folder!r}", repr(str(two_processes))), two_processes)
    assert not (two_processes / "saved").exists()


def problem_of(width, points, agents=4, features=3):
    inputs = np.random.default_rng(1).standard_normal((points + 4, features)).astype(np.float32)
    labels = (inputs[:, 0] * inputs[:, 1] > 0).astype(int)
    data = Dataset(
        "small", inputs[:points], labels[:points], inputs[points:], labels[points:], 2, "none"
    )
    network = nd.networks.mlp((width, width), outputs=2, activation="erf", w_std=1.5, b_std=0.3)
    return nd.Problem(network, Partition(data, np.arange(points) % agents, agents, "given"), seed=3)


RING = nd.graphs.metropolis(nd.graphs.ring(4))


@pytest.fixture(scope="module")
def many_points():
    return problem_of(16, 1200)


@pytest.fixture(scope="module")
def unplanned(many_points):
    return nd.train(many_points, method("atc_tracking", 0.1), RING, [0, 10])


@pytest.mark.slow
def test_less_memory_gives_the_same_run(many_points, unplanned):
    assert unplanned.attrs["points_at_once"] == -1
    whole = unplanned.attrs["memory_estimate"]
    assert whole < unplanned.attrs["memory_budget"]
    planned = nd.train(
        many_points,
        method("atc_tracking", 0.1),
        RING,
        [0, 10],
        resources=Resources(memory=f"{0.4 * whole} B"),
    )
    assert 1 <= planned.attrs["points_at_once"] < 300
    assert planned.attrs["memory_estimate"] <= 0.4 * whole
    moved = abs(unplanned.outputs[-1] - unplanned.outputs[0]).max()
    assert abs(planned.outputs - unplanned.outputs).max() < 1e-5 * moved and moved > 0.3


def test_a_budget_that_cannot_be_met_is_refused(many_points):
    with pytest.raises(
        nd.InputError, match="needs .* kB even with one point at a time.* got 10 kB"
    ):
        nd.train(
            many_points,
            method("atc_tracking", 0.1),
            RING,
            [0, 10],
            resources=Resources(memory="10 kB"),
        )
    with pytest.raises(nd.InputError, match='memory: must be a number of bytes, or text like "200'):
        nd.train(many_points, method("dgd", 0.1), RING, 2, resources=Resources(memory="much"))


def test_devices_that_are_not_there_are_refused():
    there = len(jax.devices())
    with pytest.raises(nd.InputError, match=f"from 1 to the {there} there are, got {there + 1}"):
        experiment.Experiment(experiment.demo()).train(devices=there + 1)


def test_tf32_is_float32_on_a_cpu(many_points, unplanned):
    tf32 = nd.train(many_points, method("atc_tracking", 0.1), RING, [0, 10], precision="tf32")
    assert tf32.attrs["precision"] == "tf32" and tf32.outputs.dtype == np.float32
    assert (tf32.outputs == unplanned.outputs).all()
    args = many_points.start, jnp.ones((1, 3))
    for context, asked in ((precision.tensorfloat32, "HIGH,"), (precision.float32, "HIGHEST,")):
        with context():
            program = jax.jit(many_points.network.apply).lower(*args).as_text()
        assert f"precision = [{asked}" in program


def test_bfloat16_products_add_up_in_float32():
    """4096 terms of one sign: sums kept in bfloat16 would stop growing at 256 of them."""
    network = nd.networks.mlp((), outputs=1, w_std=64.0, b_std=0.0).in_bfloat16
    weights = jax.tree.map(jnp.ones_like, network.start(jax.random.key(0), (4096,)))
    outputs, pull = jax.vjp(network.apply, weights, jnp.ones((4096, 4096)))
    assert (outputs == 4096).all()
    assert all((leaf == 4096).all() for leaf in jax.tree.leaves(pull(jnp.ones_like(outputs))[0]))


M_MMAP_THRESHOLD = -3
"""of malloc.h: larger blocks are mapped one by one"""


def wanted_and_taken():
    """Bytes of a compiled round by the estimate, and by Linux.

    Memory that is freed goes back at once, or it would hide in what there was before.
    """
    ctypes.CDLL("libc.so.6").mallopt(M_MMAP_THRESHOLD, 2**16)
    problem = problem_of(1536, 64, features=64)
    with nd.precision.single():
        asked = runs.plan(problem, method("atc", 0.05), RING, 4)
        iteration = runs.iteration_of(asked, problem.network_space())
        wanted = memory.need(iteration).round
        go = lambda state: jax.block_until_ready(
            nd.engine.advance(iteration, state, jnp.array(0), jnp.array(2))
        )
        go(iteration.init())
        return wanted, max(_taken(lambda: go(iteration.init())) for _ in range(3))


def _taken(call):
    """Bytes resident at most while that goes on, beyond what was before."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = held("VmRSS")
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")
    call()
    return held("VmHWM") - before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_estimate_is_what_a_round_takes():
    """In a process of its own, which has no freed memory at hand."""
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r}); import test_scale; "
    said = said_with_devices(code + "print(*test_scale.wanted_and_taken())", 1)
    wanted, taken = map(int, said.split())
    assert 0.8 * wanted < taken < 1.25 * wanted


def held(what):
    with open("/proc/self/status") as status:
        return 1024 * int(next(line for line in status if line.startswith(what)).split()[1])


@pytest.mark.slow
def test_the_benchmark_for_gpus_runs_in_small(tmp_path, monkeypatch):
    benchmark = runpy.run_path(str(ROOT / "analysis" / "benchmarks" / "gpu.py"))
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--small", "--out", str(tmp_path)])
    benchmark["main"]()
    (written,) = tmp_path.glob("gpu-*-small.json")
    found = json.loads(written.read_text())
    gaps = found["gaps"]["by_kernel"]["empirical"]
    assert gaps["largest_gap"][1] < gaps["largest_gap"][0] < 0.3
    assert gaps["slope"]["low"] < gaps["slope"]["value"] < gaps["slope"]["high"]
    for each in found["throughput"]:
        share = each["Tflops"] / found["product_Tflops"]
        assert each["share_of_product_rate"] == pytest.approx(share) and share > 0
    assert written.with_suffix(".png").stat().st_size > 1000


def test_studies_go_on_where_they_were_stopped(tmp_path, monkeypatch):
    """Piece by piece, each study to its end once."""
    benchmark = runpy.run_path(str(ROOT / "analysis" / "benchmarks" / "gpu.py"))
    now, begun = [0.0], []

    def run(name, folder, *, small, data_dir, resume, progress):
        assert resume and small
        begun.append(name)
        now[0] += 40.0
        progress(1, 2)
        folder.mkdir(parents=True)
        (folder / "study.nc").touch()

    monkeypatch.setattr(benchmark["papers"], "run", run)
    monkeypatch.setattr(benchmark["time"], "monotonic", lambda: now[0])
    names, going_on = [*benchmark["papers"].STUDIES], benchmark["studies"]
    assert going_on(tmp_path, None, 0.5, small=True) == names
    assert going_on(tmp_path, None, 1.5, small=True) == names[2:]
    assert going_on(tmp_path, None, 9, small=True) == []
    assert begun == [names[0], *names[:3], *names[2:]]
