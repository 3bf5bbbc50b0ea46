"""Runs and their records: what is recorded, when, and that spaces agree on minibatches too."""

import ctypes
import subprocess
import sys

import numpy as np
import pytest
from cases import MIXINGS, PLAIN, method

import ntkdyn as nd
from ntkdyn.runs import recorded_rounds

RING = MIXINGS["ring"]


def test_which_rounds_are_recorded():
    assert recorded_rounds(5, None) == [0, 1, 2, 3, 4, 5]
    assert recorded_rounds(1000, None) == list(range(0, 1001, 10))
    assert recorded_rounds(7, 3) == [0, 3, 6, 7]
    assert recorded_rounds([2, 9], None) == [2, 9]
    for rounds, every in (
        ([3, 3], None),
        ([-1, 2], None),
        ([], None),
        (-1, None),
        (5, 0),
        ([1], 2),
    ):
        with pytest.raises(nd.InputError):
            recorded_rounds(rounds, every)


@pytest.mark.parametrize("name", PLAIN)
def test_recording_does_not_change_the_run(small, name):
    problem, _ = small(8)
    often = nd.predict(problem, method(name, 0.15), RING, 40, save=nd.SaveOptions(record_every=1))
    seldom = nd.predict(problem, method(name, 0.15), RING, [40])
    assert np.abs(often["outputs"][-1] - seldom["outputs"][-1]).max() < 1e-13


@pytest.mark.parametrize("name", PLAIN)
def test_minibatches_are_the_same_in_every_space(small, name):
    problem, _ = small(8)
    settings = {"batch_size": 2, "batch_seed": 7}
    kernel, tangent, other = (
        nd.predict(problem, method(name, 0.15), RING, 30, kernel=k, **(settings | more))
        for k, more in (("empirical", {}), ("implicit", {}), ("empirical", {"batch_seed": 8}))
    )
    assert np.abs(kernel["outputs"] - tangent["outputs"]).max() < 1e-10
    assert np.abs(kernel["outputs"] - other["outputs"]).max() > 1e-3
    whole = nd.predict(problem, method(name, 0.15), RING, 30, batch_size=99, batch_seed=0)
    full = nd.predict(problem, method(name, 0.15), RING, 30)
    assert np.abs(whole["outputs"] - full["outputs"]).max() < 1e-12


def test_measures_are_what_they_say(small):
    problem, _ = small(8)
    task = problem.task
    record = nd.predict(problem, method("dgd", 0.15), RING, [0, 10])
    f = record["outputs"].values[1]
    squares = ((f - task.targets) ** 2).sum(axis=-1) / 2
    for agent in range(8):
        losses = [squares[agent, : task.train][task.owner == j].mean() for j in range(8)]
        assert np.isclose(record["train_loss"][1, agent], losses[agent])
        assert np.isclose(record["global_loss"][1, agent], np.mean(losses))
        assert np.isclose(record["test_loss"][1, agent], squares[agent, task.train :].mean())
        right = f[agent].argmax(axis=-1) == task.labels
        assert np.isclose(record["test_accuracy"][1, agent], right[task.train :].mean())
        own = right[: task.train][task.owner == agent]
        assert np.isclose(record["train_accuracy"][1, agent], own.mean())
    assert (record["class_counts"].sum("output") == record["points_owned"]).all()
    assert (record["initial_outputs"] == problem.initial).all()
    layers = record["layer_displacement"].values
    assert np.allclose(np.sqrt((layers**2).sum(axis=-1)), record["displacement"])


def test_bare_arrays_give_the_problems_own_answers(small):
    problem, _ = small(8)
    task, kernel = problem.task, problem.kernel("empirical").whole
    train, k = task.train, task.targets.shape[1]
    tests = len(task.targets) - train
    bare = nd.KernelProblem(
        kernel[:train].reshape(train * k, train * k),
        task.targets[:train],
        task.owner,
        problem.initial[:train],
        K_test=kernel[train:].reshape(tests * k, train * k),
        y_test=task.targets[train:],
        f0_test=problem.initial[train:],
    )
    mine = nd.predict(problem, method("cta", 0.15), RING, 20)
    theirs = nd.predict(bare, method("cta", 0.15), RING, 20)
    for name in ("outputs", "train_loss", "test_loss", "displacement", "consensus_distance"):
        assert np.abs(mine[name] - theirs[name]).max() < 1e-12
    assert "test_accuracy" not in theirs and theirs.attrs["kernel"] == "given"


def test_a_kernel_for_all_outputs_is_kept_small(small):
    problem, _ = small(8)
    kernel = problem.kernel("infinite")
    assert kernel.whole.shape == (18, 14)
    eye = np.eye(2)
    train = kernel.whole[:14]
    args = (problem.task.targets[:14], problem.task.owner, problem.initial[:14])
    one = nd.predict(nd.KernelProblem(train, *args), method("dgd", 0.2), RING, 20)
    other = nd.predict(nd.KernelProblem(np.kron(train, eye), *args), method("dgd", 0.2), RING, 20)
    assert np.abs(one["outputs"][-1] - one["outputs"][0]).max() > 0.1
    assert np.abs(one["outputs"] - other["outputs"]).max() < 1e-12
    whole = nd.predict(problem, method("dgd", 0.2), RING, 20, kernel="infinite")
    assert np.abs(whole["outputs"][:, :, :14] - one["outputs"]).max() < 1e-12


@pytest.mark.slow
def test_parameters_are_kept_as_asked(small):
    problem, jacobian = small(8)
    save = nd.SaveOptions(parameter_rounds=[5], parameter_agents=[2, 6], per_tensor=4)
    record = nd.predict(problem, method("dgd", 0.15), RING, 10, save=save)
    whole = nd.SaveOptions(parameter_rounds=[5], parameter_agents=[2, 6], per_tensor=None)
    everything = nd.predict(problem, method("dgd", 0.15), RING, 10, save=whole)
    assert record["parameters"].dims == ("parameter_round", "parameter_agent", "parameter")
    sizes = np.unique(record["parameter_tensor"], return_counts=True)[1]
    assert sizes.max() == 4 and everything.sizes["parameter"] == jacobian.shape[2]
    for column in range(record.sizes["parameter"]):
        entry = record.isel(parameter=column)
        same = (everything["parameter_tensor"] == entry["parameter_tensor"]) & (
            everything["parameter_entry"] == entry["parameter_entry"]
        )
        wanted = everything["parameters"][:, :, same.values.argmax()]
        assert (entry["parameters"] == wanted).all()
    observed = nd.train(problem, method("dgd", 0.15), RING, 10, save=save)
    assert (observed["parameter_entry"] == record["parameter_entry"]).all()


def test_progress_is_told(small):
    problem, _ = small(8)
    heard = []
    nd.predict(problem, method("dgd", 0.15), RING, 50, progress=lambda *at: heard.append(at))
    assert heard[-1] == (50, 50) and [done for done, _ in heard] == sorted({d for d, _ in heard})


def refused(message, *args, **kwargs):
    with pytest.raises(nd.InputError, match=message):
        nd.predict(*args, **kwargs)


def test_refusals(small):
    problem, _ = small(8)
    step = method("dgd", 0.15)
    refused("for 10 agents, the problem has 8", problem, step, MIXINGS["petersen"], 3)
    refused("row 0 sums to 0.5", problem, step, np.eye(8) / 2, 3)
    refused("give both", problem, step, RING, 3, batch_size=2)
    refused("did you mean 'empirical'", problem, step, RING, 3, kernel="empiric")
    refused(
        "round 4, which is not", problem, step, RING, 3, save=nd.SaveOptions(parameter_rounds=[4])
    )
    save = nd.SaveOptions(parameter_rounds=[3], parameter_agents=[8])
    refused("agent 8 is not one of the 8", problem, step, RING, 3, save=save)
    bare = nd.KernelProblem(np.eye(2), np.ones((2, 1)), [0, 1])
    save = nd.SaveOptions(parameter_rounds=[3])
    refused("a bare kernel has no parameters", bare, step, [[0.5, 0.5]] * 2, 3, save=save)


BARE = {
    r"y: must be \(points, outputs\) or \(points,\)": (np.eye(2), np.ones((2, 1, 1)), [0, 1], None),
    r"entry \(1, 0\) is nan": (np.eye(2), [[1.0], [np.nan]], [0, 1], None),
    r"entry \(0, 0\) is inf": (np.eye(2), np.ones((2, 1)), [0, 1], [[np.inf], [0]]),
    "owner: must be a list of whole numbers": (np.eye(2), np.ones((2, 1)), [0.0, 1.0], None),
    "owner: agents are numbered from 0, got -1": (np.eye(2), np.ones((2, 1)), [0, -1], None),
    "agent 1 owns no point": (np.eye(2), np.ones((2, 1)), [0, 2], None),
    "one agent per training point": (np.eye(2), np.ones((2, 1)), [0, 1, 1], None),
    r"K: must be \(2, 2\), the same for every output, or \(6, 6\)": (
        np.eye(3), np.ones((2, 3)), [0, 1], None,
    ),
    "K: must be symmetric": ([[1.0, 0.5], [0.2, 1.0]], np.ones((2, 1)), [0, 1], None),
    r"f0: must be \(points, outputs\) = \(2, 1\)": (
        np.eye(2), np.ones((2, 1)), [0, 1], np.ones((2, 2)),
    ),
    "K: must be real numbers, got text": ("kernel", np.ones((2, 1)), [0, 1], None),
}  # fmt: skip


@pytest.mark.parametrize("message", BARE)
def test_refused_arrays(message):
    with pytest.raises(nd.InputError, match=message):
        nd.KernelProblem(*BARE[message])


def test_refused_test_points():
    args = (np.eye(2), np.ones((2, 1)), [0, 1])
    with pytest.raises(nd.InputError, match="give both or neither"):
        nd.KernelProblem(*args, K_test=np.ones((1, 2)))
    with pytest.raises(nd.InputError, match=r"K_test: must be \(1, 2\)"):
        nd.KernelProblem(*args, K_test=np.ones((2, 2)), y_test=np.ones((1, 1)))
    with pytest.raises(nd.InputError, match="no loss is called 'mae'"):
        nd.KernelProblem(*args, loss="mae")


def test_the_kernel_is_followed_along_a_run(small):
    """Predictions keep it, by assumption; wider networks more nearly than narrow ones."""
    problem = small(4).problem
    W, save = nd.graphs.metropolis(nd.graphs.ring(4)), nd.SaveOptions(kernel=True)
    dgd = nd.methods.dgd(step_size=0.1)
    predicted = nd.predict(problem, dgd, W, [0, 20], save=save)
    observed = nd.train(problem, dgd, W, [0, 20], save=save)
    assert (predicted.kernel_drift == 0).all()
    assert (observed.kernel_drift[0] == 0).all() and (observed.kernel_drift[1] > 1e-3).all()
    drift, alignment = (observed[name].values for name in ("kernel_drift", "label_alignment"))
    assert np.ptp(drift[1]) > 0 and drift[1].max() < 1
    assert np.allclose(alignment[0], predicted.label_alignment[0], rtol=1e-5)
    assert (
        np.ptp(predicted.label_alignment.values) == 0
        and abs(alignment[1] - alignment[0]).max() > 1e-4
    )
    with pytest.raises(nd.InputError, match="never formed"):
        nd.predict(problem, dgd, W, 2, kernel="implicit", save=save)


NEW_SIZES = """
import numpy as np
import ntkdyn as nd
from ntkdyn import caches, engine

weights, update = nd.graphs.metropolis(nd.graphs.path(2)), nd.methods.dgd(step_size=0.1)

def predicted(points):
    problem = nd.KernelProblem(np.eye(points), np.ones((points, 1)), np.arange(points) % 2)
    return nd.predict(problem, update, weights, 2, via="steps").outputs.values

first = predicted(4)
assert caches.compiled() > 0
caches.MOST = 2 * caches.compiled()
kept = []
for points in (5, 6, 7, 8, 4):
    last = predicted(points)
    kept.append(engine.advance._cache_size())
    assert caches.compiled() <= caches.MOST
assert 0 in kept and max(kept) <= 3, kept
assert np.array_equal(first, last) and np.ptp(first) > 0.01
"""


@pytest.mark.slow
def test_programs_are_dropped_when_there_are_too_many():
    """Predictions of ever new sizes, in a process of their own: others keep their programs."""
    subprocess.run([sys.executable, "-c", NEW_SIZES], check=True, timeout=120)


HANDED_BACK = """
import ctypes
from pathlib import Path
from ntkdyn import caches

def resident():
    told = Path("/proc/self/status").read_text()
    return int(told.partition("VmRSS:")[2].split()[0]) / 1024

library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
blocks = [library.malloc(10**5) for _ in range(1000)]
for block in blocks:
    ctypes.memset(block, 1, 10**5)
full = resident()
for block in blocks[:-1]:  # the last one keeps those below it from going by themselves
    library.free(block)
kept = resident()
caches.MOST = -1
with caches.bounded():
    pass
assert full - kept < 10, (full, kept)
assert kept - resident() > 80, (kept, resident())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="no glibc")
def test_what_was_freed_goes_back_to_the_system_when_programs_are_dropped():
    """100 MB in blocks of C's, freed: resident until programs are dropped, and then no more."""
    subprocess.run([sys.executable, "-c", HANDED_BACK], check=True, timeout=120)
