"""nd.kernels.compute: forms, methods, budgets, files, owners, and how it refuses."""

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import flax.linen as nn
import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

import ntkdyn as nd
from ntkdyn import precision
from ntkdyn.errors import InputError
from ntkdyn.kernels import ComputeOptions, budget, results, store
from ntkdyn.kernels.programs import Cost
from ntkdyn.kernels.structure import layer_names
from ntkdyn.kernels.tiles import Tiling


class FlaxModel(nn.Module):
    """Grouped convolution, normalisation, a residual sum."""

    @nn.compact
    def __call__(self, x):
        x = nn.gelu(nn.Conv(4, (3, 3), strides=2)(x))
        x = x + nn.LayerNorm()(nn.Conv(4, (3, 3), feature_group_count=4)(x))
        return nn.Dense(3)(x.mean((1, 2)))


class EquinoxModel(eqx.Module):
    """What is not trained is a field too."""

    first: eqx.nn.Linear
    last: eqx.nn.Linear
    activation: object

    def __init__(self, key):
        one, two = jax.random.split(key)
        self.first, self.last = eqx.nn.Linear(5, 8, key=one), eqx.nn.Linear(8, 3, key=two)
        self.activation = jnp.tanh

    def __call__(self, x):
        return self.last(self.activation(self.first(x)))


def flax_case():
    model = FlaxModel()
    params = model.init(jax.random.key(0), jnp.zeros((1, 5, 5, 2)))
    return model.apply, params, (5, 5, 2)


def equinox_case():
    params, static = eqx.partition(EquinoxModel(jax.random.key(0)), eqx.is_inexact_array)
    apply = lambda params, x: jax.vmap(eqx.combine(params, static))(x)
    return apply, params, (5,)


CASES = {"flax": flax_case(), "equinox": equinox_case()}
PARTED = ("structured", "jacobian", "products")


def points(features, count, seed=1):
    return np.random.default_rng(seed).standard_normal((count, *features))


def dense(apply, params, x1, x2):
    """Layer -> (n, k, m, k), by dense Jacobians in float64."""
    with precision.double():
        exact = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
        rows = [
            jax.tree.leaves(jax.jit(jax.jacrev(lambda p, x=x: apply(p, x)))(exact))
            for x in (x1, x2)
        ]
    layers = {}
    for name, one, other in zip(layer_names(params), *rows, strict=True):
        flat = (np.asarray(leaf).reshape(*leaf.shape[:2], -1) for leaf in (one, other))
        layers[name] = layers.get(name, 0) + np.einsum("nkp,mjp->nkmj", *flat)
    return layers


@pytest.fixture(scope="module")
def truths():
    """Case -> points and kernels of 7 points with themselves and with 4 others."""
    found = {}
    for name, (apply, params, features) in CASES.items():
        x, z = points(features, 7), points(features, 4, seed=2)
        found[name] = x, z, dense(apply, params, x, x), dense(apply, params, x, z)
    return found


def in_form(full, form):
    if form == "trace":
        return np.einsum("nkmk->nm", full)
    if form == "diagonal":
        return np.einsum("nknk->nk", full)
    return full if form == "full" else full[:, form, :, form]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("form", ["full", "trace", "diagonal", 1])
def test_every_form_by_every_method_is_the_dense_jacobians(name, form, truths):
    apply, params, _ = CASES[name]
    x, z, same, between = truths[name]
    for method in PARTED:
        if (form, method) == ("diagonal", "products"):
            continue
        seen = nd.kernels.compute(
            apply,
            params,
            x,
            form=form,
            options=ComputeOptions(method=method, dtype="float64"),
            by_layer=True,
        )
        wanted = {layer: in_form(part, form) for layer, part in same.items()}
        scale = max(np.abs(part).max() for part in wanted.values())
        assert set(seen.layers) == set(wanted) and seen.plan.method == method
        for layer, part in wanted.items():
            assert np.abs(seen.layers[layer] - part).max() < 1e-12 * scale, (method, layer)
        assert np.abs(seen.values - sum(wanted.values())).max() < 1e-12 * scale
        if form in ("trace", 1):
            block = nd.kernels.compute(
                apply,
                params,
                x,
                z,
                form=form,
                options=ComputeOptions(method=method, dtype="float64"),
            )
            wanted = in_form(sum(between.values()), form)
            assert np.abs(block.values - wanted).max() < 1e-12 * scale


def test_the_plan_says_what_was_done():
    apply, params, features = CASES["flax"]
    free = nd.kernels.compute(apply, params, points(features, 7), form="trace").plan
    assert free.method == min(free.work, key=lambda name: free.work[name].flops)
    plan = nd.kernels.compute(
        apply,
        params,
        points(features, 7),
        form="trace",
        options=ComputeOptions(method="structured"),
    ).plan
    assert plan.method == "structured" and plan.work == free.work
    assert set(plan.rules) == {
        f"params/{n}" for n in ("Conv_0", "Conv_1", "LayerNorm_0", "Dense_0")
    }
    assert plan.rules["params/Dense_0"] == "outer"
    assert set(plan.rules.values()) <= {"outer", "rows", "pairs", "rows + pairs", "pairs + rows"}
    for word in ("structured", "Gflop", "params/Dense_0: outer", "float32", "7 x 7 points"):
        assert word in str(plan)


def test_the_work_of_a_kernel_is_that_of_its_points_and_of_its_pairs():
    weights = {"w": jnp.ones((9, 3))}

    def flops(n, m=None):
        x2 = None if m is None else points((9,), m, seed=1)
        done = nd.kernels.compute(lambda p, x: x @ p["w"], weights, points((9,), n), x2)
        return done.plan.work["jacobian"].flops

    pair = (flops(4, 5) - flops(2, 5) - flops(4, 3) + flops(2, 3)) / 4
    point = flops(2, 4) - flops(2, 3) - 2 * pair
    assert point > 0 and pair > 0
    assert flops(2, 3) == flops(3, 2) == 5 * point + 6 * pair
    assert flops(4) == 4 * point + 10 * pair


def test_a_kernel_is_shown_by_its_plan_alone():
    seen = nd.kernels.compute(WIDE.apply, WIDE_PARAMS, points((9,), 4), form="trace", by_layer=True)
    assert str(seen.plan.form) in repr(seen) and "array(" not in repr(seen)
    with pytest.raises(dataclasses.FrozenInstanceError):
        seen.plan = seen.plan._replace(form="full")


def test_a_plan_shows_its_memory_and_its_devices():
    tiling = Tiling(5, 5, True, 4, 2)
    plan = results.KernelPlan(
        "trace", "jacobian", {}, {}, tiling, 3, "float32", "float64", 4e6, 1_234_501, 2
    )
    assert str(plan).splitlines() == [
        "trace kernel of 5 x 5 points by method 'jacobian'",
        "  work       ",
        "  tiles      3 of 4 x 4 points, panels of 2 blocks, one half by symmetry, 3 passes",
        "  precision  float32, summed in float64",
        "  memory     1.235 of 4 MB",
        "  devices    2",
    ]
    assert "devices" not in str(plan._replace(devices=1))
    assert "memory" not in str(plan._replace(memory=None))


def test_a_layer_without_a_rule_is_contracted_alone():
    apply = lambda p, x: jnp.tanh(x @ (p["a"] - p["a"].mean(0, keepdims=True))) @ p["b"]
    params = {"a": jnp.ones((5, 4)), "b": jnp.ones((4, 2))}
    plan = nd.kernels.compute(apply, params, points((5,), 3)).plan
    assert plan.rules == {"a": "contraction", "b": "outer"}


def test_a_bias_spread_over_places_is_one_parameter():
    rng = np.random.default_rng(0)
    params = {name: rng.standard_normal(size) for name, size in (("w", (3, 4)), ("b", 4))}
    spread = lambda p, x: jnp.broadcast_to(p["b"], (len(x), 5, 4))
    apply = lambda p, x: jnp.tanh(x @ p["w"] + spread(p, x)).sum(axis=1)
    x = points((5, 3), 4)
    seen = nd.kernels.compute(
        apply,
        params,
        x,
        options=ComputeOptions(method="structured", dtype="float64"),
        by_layer=True,
    )
    for layer, part in dense(apply, params, x, x).items():
        assert np.abs(seen.layers[layer] - part).max() < 1e-12 * np.abs(part).max(), layer


WIDE = nd.networks.mlp((64, 48), outputs=3, b_std=0.2)
WIDE_PARAMS = WIDE.start(jax.random.key(0), (9,))


@pytest.mark.parametrize("form", ["full", "trace", "diagonal"])
def test_tiles_are_the_whole(form, monkeypatch):
    x, z = points((9,), 100), points((9,), 37, seed=5)
    whole = nd.kernels.compute(WIDE.apply, WIDE_PARAMS, x, form=form).values
    steps = []
    monkeypatch.setattr(nd.kernels.budget, "SLACK", 0)
    budget = whole.nbytes + (30_000 if form == "diagonal" else 90_000)
    seen = nd.kernels.compute(
        WIDE.apply,
        WIDE_PARAMS,
        x,
        form=form,
        options=ComputeOptions(memory=budget),
        progress=lambda *s: steps.append(s),
    )
    assert np.abs(seen.values - whole).max() < 1e-5 * np.abs(whole).max()
    assert seen.plan.tiling.block < 100 and seen.plan.peak <= budget
    assert steps[-1][0] == steps[-1][1] == len(steps) > 1
    if form != "diagonal":
        other = nd.kernels.compute(WIDE.apply, WIDE_PARAMS, x, z, form=form)
        tight = nd.kernels.compute(
            WIDE.apply,
            WIDE_PARAMS,
            x,
            z,
            form=form,
            options=ComputeOptions(memory=other.values.nbytes + 70_000),
        )
        assert tight.plan.tiling.tiles > 4
        cut = {"full": tight, "trace": seen}[form].plan.tiling
        assert cut.held < len(cut.row_blocks()), "no panels were needed"
        assert np.abs(tight.values - other.values).max() < 1e-5 * np.abs(other.values).max()


def used_twice(params, x):
    h = jax.nn.relu(x @ params["w"])
    return jnp.tanh(h @ params["w"].T) @ params["out"]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["full", "trace"])
@pytest.mark.parametrize("model", ["mlp", "cnn", "used twice"])
def test_shares_add_up(model, form):
    programs, key = nd.kernels.programs, jax.random.key(0)
    features = (6, 6, 2) if model == "cnn" else (9,)
    if model == "used twice":
        params = {"w": jax.random.normal(key, (9, 5)), "out": jax.random.normal(key, (9, 3))}
        apply = used_twice
    else:
        net = WIDE if model == "mlp" else nd.networks.cnn((4, 5), outputs=3)
        params, apply = net.start(key, features), net.apply
    x = jnp.asarray(points(features, 6))

    def part(share):
        some = programs.program("structured", apply, programs.Shape(form, None, False, share=share))
        held = some.prepare(params, x)
        return some.meet(params, held, held)["all"], held

    whole, held = part(None)
    ways = programs.halves(held, form)
    assert len(ways) == (2 if form == "trace" else 1)
    for way in ways:
        parts = [part(share)[0] for share in way]
        assert all(np.abs(one).max() > 1e-3 * np.abs(whole).max() for one in parts)
        assert np.abs(sum(parts) - whole).max() < 1e-6 * np.abs(whole).max()


@pytest.mark.slow
def test_two_passes_add_up(monkeypatch):
    """Where panels are small, two passes over half of the Jacobian prepare fewer blocks."""
    deep = nd.networks.mlp((48, 48, 48), outputs=6)
    params, x = deep.start(jax.random.key(0), (4,)), points((4,), 96)
    monkeypatch.setattr(nd.kernels.budget, "SLACK", 0)
    whole = nd.kernels.compute(deep.apply, params, x, form="trace").values
    for more in (190_000, 170_000, 150_000, 130_000):
        memory = whole.nbytes + more
        seen = nd.kernels.compute(
            deep.apply, params, x, form="trace", options=ComputeOptions(memory=memory)
        )
        if seen.plan.passes == 2:
            break
    assert seen.plan.passes == 2
    assert np.abs(seen.values - whole).max() < 1e-5 * np.abs(whole).max()


def test_a_budget_too_small_says_which_would_do(monkeypatch):
    monkeypatch.setattr(nd.kernels.budget, "SLACK", 0)
    x = points((9,), 100)
    with pytest.raises(InputError, match="smallest that works is") as refusal:
        nd.kernels.compute(
            WIDE.apply, WIDE_PARAMS, x, form="trace", options=ComputeOptions(memory="20 kB")
        )
    least = str(refusal.value).split("works is ")[1].split(",")[0]
    seen = nd.kernels.compute(
        WIDE.apply, WIDE_PARAMS, x, form="trace", options=ComputeOptions(memory=least)
    )
    assert 20e3 < seen.plan.peak <= nd.kernels.computing.in_bytes(least)


@pytest.mark.slow
def test_sums_in_double_precision_are_nearer():
    x = points((9,), 20)
    exact = nd.kernels.compute(
        WIDE.apply, WIDE_PARAMS, x, options=ComputeOptions(dtype="float64")
    ).values
    error = {}
    for accumulate in (None, "float64"):
        seen = nd.kernels.compute(
            WIDE.apply, WIDE_PARAMS, x, options=ComputeOptions(accumulate=accumulate)
        )
        error[accumulate] = np.abs(seen.values - exact).max() / np.abs(exact).max()
    assert seen.values.dtype == np.float64 and seen.plan.accumulate == "float64"
    assert 1e-9 < error["float64"] < error[None] < 1e-5
    assert not jax.config.jax_enable_x64


def test_blocks_by_owner():
    x, owner = points((9,), 12), np.array([0, 1, 2] * 4)
    full = nd.kernels.compute(WIDE.apply, WIDE_PARAMS, x)
    trace = nd.kernels.compute(WIDE.apply, WIDE_PARAMS, x, form="trace")
    block = full.block(0, 2, owner)
    between = nd.kernels.compute(WIDE.apply, WIDE_PARAMS, x[owner == 0], x[owner == 2])
    assert block.shape == (4, 3, 4, 3) and np.allclose(block, between.values, rtol=1e-4, atol=1e-4)
    assert np.allclose(trace.block(1, 2, owner), trace.values[1::3][:, 2::3])
    assert full.matrix.shape == (36, 36) and full.matrix[4, 7] == full.values[1, 1, 2, 1]
    for wrong, said in [((0, 3, owner), "agent 3 owns none"), ((0, 1, owner[:5]), "12 rows")]:
        with pytest.raises(InputError, match=said):
            full.block(*wrong)


# --- files ------------------------------------------------------------------------------------


def test_a_file_is_continued_and_guarded(tmp_path, monkeypatch):
    monkeypatch.setattr(nd.kernels.tiles, "BLOCK", 16)
    path, x = tmp_path / "k.h5", points((9,), 60)
    arguments = WIDE.apply, WIDE_PARAMS, x
    whole = nd.kernels.compute(*arguments, form="trace", by_layer=True)

    def stop(done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nd.kernels.compute(
            *arguments,
            form="trace",
            by_layer=True,
            options=ComputeOptions(file=path),
            progress=stop,
        )
    with h5py.File(path) as file:
        assert (file["sums"][:] > 0).sum() == 4 and file["sums"].shape == (4, 4)
        assert set(file["values"]) == {"dense_1", "dense_2", "readout"}
    met = []
    monkeypatch.setattr(
        nd.kernels.jobs._Compiled,
        "meet",
        lambda self, *pair, meet=nd.kernels.jobs._Compiled.meet: met.append(1) or meet(self, *pair),
    )
    seen = nd.kernels.compute(
        *arguments, form="trace", by_layer=True, options=ComputeOptions(file=path)
    )
    assert len(met) == 10 - 4
    assert np.array_equal(seen.values, whole.values) and isinstance(
        seen.layers["dense_1"], np.memmap
    )
    for changed in ({"form": "full"}, {"form": 0}, {"form": "trace", "by_layer": False}):
        with pytest.raises(InputError, match="holds another kernel"):
            nd.kernels.compute(*arguments, **changed, options=ComputeOptions(file=path))
    with pytest.raises(InputError, match="holds another kernel"):
        nd.kernels.compute(
            *arguments[:2], x + 1, form="trace", by_layer=True, options=ComputeOptions(file=path)
        )


def test_files_that_are_no_kernels(tmp_path):
    arguments = WIDE.apply, WIDE_PARAMS, points((9,), 12)
    half, foreign, text = (tmp_path / f"{n}.h5" for n in ("half", "foreign", "text"))
    nd.kernels.compute(*arguments, options=ComputeOptions(file=half))
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    with h5py.File(foreign, "w") as file:
        file["values"] = np.eye(3)
    text.write_text("no kernel")
    for path, said in [
        (half, "is not an undamaged kernel written by"),
        (foreign, "is not an undamaged kernel written by"),
        (text, "is not an undamaged kernel written by"),
        (text / "below.h5", "output: cannot write"),
    ]:
        before = path.read_bytes() if path.is_file() else None
        with pytest.raises(InputError, match=said):
            nd.kernels.compute(*arguments, options=ComputeOptions(file=path))
        assert before is None or path.read_bytes() == before


KILLED = """
import sys, numpy as np, jax
sys.path.insert(0, {tests!r})
import ntkdyn as nd, test_kernel_compute as t
nd.kernels.tiles.BLOCK = 8
def slowly(done, total):
    import time; time.sleep({pause}); print(done, flush=True)
seen = nd.kernels.compute(t.WIDE.apply, t.WIDE_PARAMS, t.points((9,), 100), form="trace",
                          options=nd.kernels.ComputeOptions(file={path!r}), progress=slowly)
"""


@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
def test_a_killed_run_leaves_a_file_that_is_continued(tmp_path, monkeypatch):
    path = tmp_path / "k.h5"
    code = KILLED.format(tests=str(Path(__file__).parent), path=str(path), pause=0.05)
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with child:
        while int(child.stdout.readline()) < 20:
            pass
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    with h5py.File(path) as file:
        done = file["sums"][:] > 0
        assert 20 <= done.sum() < 91
    x = points((9,), 100)
    whole = nd.kernels.compute(WIDE.apply, WIDE_PARAMS, x, form="trace").values
    with h5py.File(path) as file:
        for row, column in np.argwhere(done):
            at = slice(8 * row, 8 * row + 8), slice(8 * column, 8 * column + 8)
            assert np.allclose(file["values/all"][at], whole[at], rtol=1e-4)
    seen = nd.kernels.compute(
        WIDE.apply, WIDE_PARAMS, x, form="trace", options=ComputeOptions(file=path)
    )
    assert seen.plan.tiling.block == 8
    assert np.abs(seen.values - whole).max() < 1e-5 * np.abs(whole).max()


# --- memory, measured from outside -------------------------------------------------------------

MEASURED = """
import sys, numpy as np, jax
import ntkdyn as nd
net = nd.networks.mlp((1024, 1024, 1024), outputs=10)
params = net.start(jax.random.key(0), (64,))
x = np.random.default_rng(0).standard_normal((2000, 64)).astype(np.float32)
nd.kernels.compute(net.apply, params, x[:520], form="trace")
nd.kernels.compute(net.apply, params, x[:520], form="trace",
                   options=nd.kernels.ComputeOptions(memory="100 MB"))
print("ready", flush=True)
sys.stdin.readline()
seen = nd.kernels.compute(net.apply, params, x, form="trace",
                          options=nd.kernels.ComputeOptions(memory={memory!r}))
print(seen.plan.peak, flush=True)
sys.stdin.readline()
"""


def resident(process):
    """Bytes: the peak of what the process had resident since it was last asked to forget."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_the_budget_is_kept_as_seen_from_outside():
    extra = {}
    for memory in ("150 MB", None):
        code = MEASURED.format(memory=memory)
        if memory is None:
            code = code.replace("seen.plan.peak", "0.0")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen([sys.executable, "-c", code], **pipes) as child:
            assert child.stdout.readline() == "ready\n"
            Path(f"/proc/{child.pid}/clear_refs").write_text("5")
            before = resident(child)
            child.stdin.write("\n")
            child.stdin.flush()
            peak = float(child.stdout.readline())
            extra[memory] = resident(child) - before
            child.stdin.write("\n")
            child.stdin.flush()
    assert peak <= 150e6
    assert 16e6 < extra["150 MB"] < 150e6, extra
    assert extra[None] > 150e6, "the kernel would have fitted anyhow"


# --- refusals -----------------------------------------------------------------------------------


def batch_norm(params, x):
    h = x @ params["w"]
    return (h - h.mean(0, keepdims=True)) / (h.std(0, keepdims=True) + 1e-3)


def refusals():
    x = points((9,), 4)
    holed = x.copy()
    holed[2, 3] = np.nan
    known = {"apply": WIDE.apply, "params": WIDE_PARAMS, "x1": x}
    how = lambda **asked: known | {"options": ComputeOptions(**asked)}
    return {
        "nan": (known | {"x1": holed}, "x1: point 2 is not finite"),
        "nan in x2": (known | {"x2": holed}, "x2: point 2 is not finite"),
        "empty": (known | {"x1": x[:0]}, r"none of them empty, got shape \(0, 9\)"),
        "one axis": (known | {"x1": x[0]}, r"got shape \(9,\)"),
        "features": (known | {"x2": x[:, :5]}, r"features of x1, \(9,\), got \(5,\)"),
        "integers": (known | {"x1": np.ones((4, 9), np.uint8)}, "got uint8; scale them"),
        "batch norm": (
            known | {"apply": batch_norm, "params": {"w": jnp.ones((9, 2)) + jnp.eye(9, 2)}},
            "must not depend on the others of its batch",
        ),
        "outputs": (known | {"apply": lambda p, x: WIDE.apply(p, x)[:, 0]}, r"got \(3,\)"),
        "several outputs": (
            known | {"apply": lambda p, x: {"a": x, "b": x[:, :1]}},
            "one array .*got a dict of 2; return the outputs alone",
        ),
        "several inputs": (known | {"x1": [x, x[:, :2]]}, "x1: must be one array .*got 2 of diff"),
        "leaves": (known | {"params": {"a": jnp.arange(3)}}, "'a'. is int32; keep what is not"),
        "no leaves": (known | {"params": ()}, "at least one array"),
        "form": (known | {"form": "traec"}, "did you mean 'trace'"),
        "output": (known | {"form": 3}, "output 3 is not one of the 3"),
        "diagonal": (known | {"form": "diagonal", "x2": x}, "leave x2 out"),
        "method": (how(method="jacobean"), "did you mean 'jacobian'"),
        "dtype": (how(dtype="float16"), "got 'float16'"),
        "accumulate": (how(accumulate="int"), "got 'int'"),
        "sums": (how(accumulate="float64", method="products"), "sums inside"),
        "memory": (how(memory="much"), "got 'much'"),
        "no memory": (how(memory=0), "must be positive"),
        "digits": (how(memory=10**5000), "got a number of about 5000 digits"),
        "no function": (known | {"apply": 3}, "apply: must be a function"),
        "a function that fails": (known | {"apply": len}, "fails at points of shape .*TypeError"),
        "sparse": (known | {"params": {"w": scipy.sparse.eye_array(9)}}, "'w'. is .*; keep what"),
        "array for a name": (how(dtype=x), 'dtype: must be "float32" or "float64"'),
        "flag": (known | {"by_layer": x}, "by_layer: must be true or false"),
        "no name": (how(file=""), "file: must be the path of a file, as text, got ''"),
        "no path": (how(file=3.0), "file: must be the path of a file"),
        "device": (how(devices=np.array("cpu:0")), "devices: each: must be a Device"),
        "devices": (how(devices=jax.devices()[:1] * 2), "2, 1 of them different"),
    }


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("name", refusals())
def test_refusals(name):
    arguments, said = refusals()[name]
    with pytest.raises(InputError, match=said):
        nd.kernels.compute(**arguments)


def test_budgets_are_read():
    read = nd.kernels.computing.in_bytes
    assert [read(m) for m in (5, "5", "200 MB", "1.5GiB", "3 kB")] == [5, 5, 2e8, 1.5 * 2**30, 3000]
    assert [read(m) for m in ("2 KiB", "2 MiB", "2 GB")] == [2048, 2 * 2**20, 2e9]


def test_a_file_holds_the_parts_of_many_layers(tmp_path):
    tiling = nd.kernels.tiles.Tiling(3, 3, True, 3, 1)
    names = [f"layer_{k}" for k in range(200)]
    held = lambda: store.Store(
        tmp_path / "K.h5", tiling, (3, 3), np.dtype("float32"), names, "mark"
    )
    tile = np.arange(9.0).reshape(3, 3)
    with held() as file:
        file.put(0, 0, {name: k * tile for k, name in enumerate(names)}, add=False)
    with h5py.File(tmp_path / "K.h5") as file:
        whole = b"".join(layer[:].tobytes() for layer in file["values"].values())
        digest = hashlib.blake2b(whole, digest_size=8).digest()
        assert int(file["sums"][0, 0]) == int.from_bytes(digest, "big")
    with held() as file:
        assert file.has(0, 0)
        found = file.values()
        assert all((found[name] == k * tile).all() for k, name in enumerate(names))


@pytest.mark.parametrize("count", [1, 50])
def test_the_disk_is_asked_for_a_whole_file_before_it_is_made(count, tmp_path, monkeypatch):
    asked, tiling = [], Tiling(30, 30, True, 10, 1)
    monkeypatch.setattr(store, "reserve", lambda path, size: asked.append(size))
    names = [f"layer_{k}" for k in range(count)]
    with store.Store(tmp_path / "K.h5", tiling, (30, 30), np.dtype("float32"), names, "mark"):
        before, whole = asked
        assert whole == (tmp_path / "K.h5").stat().st_size <= before


@pytest.mark.parametrize("held", [1, 2, 3, 7])
@pytest.mark.parametrize("symmetric", [True, False])
def test_blocks_are_prepared_as_often_as_the_tiling_says(held, symmetric):
    left, right = points((3,), 25), points((3,), 13)
    columns = left if symmetric else right
    tiling = nd.kernels.tiles.Tiling(25, len(columns), symmetric, 4, held)
    prepared = []

    class Product:
        def prepare(self, block):
            prepared.append(len(block))
            return block

        def meet(self, one, other):
            return {"all": one @ other.T}

    kind = nd.kernels.tiles.Packed if symmetric else nd.kernels.tiles.Memory
    sink = kind(tiling, (25, len(columns)), np.float32, ["all"])
    nd.kernels.tiles.fill([(Product(), tiling)], left, None if symmetric else right, sink)
    assert np.allclose(sink.values()["all"], left @ columns.T, atol=1e-6)
    assert prepared == [4] * tiling.preparations


@pytest.mark.parametrize("symmetric, kept", [(True, 8_800_000), (False, 16_000_000)])
def test_the_kernel_itself_counts_in_a_budget(symmetric, kept):
    """Ten blocks: half a symmetric kernel and half a strip, the panel, a block, and scratch."""
    footprint = budget.Footprint(100, 2_000_000, 4_000_000, 6_000_000)
    load = budget.Load(lambda block: footprint, Cost(1.0, 1.0, 1.0))
    tiling = Tiling(1000, 1000, symmetric, 100, 1)
    asked = budget.Request(7e7, 16_000_000, tiling, [load])
    found = asked.fit(100)
    assert found.tilings[0].held == 10
    assert found.peak == budget.SLACK + kept + 28_000_000
    short = asked._replace(budget=float(found.peak - 1)).fit(100)
    assert short.tilings[0].held == 9 and short.peak == found.peak - 2_000_000


@pytest.mark.parametrize("room, block", [(10.0, 512), (0.9, 256), (0.4, 128)])
def test_blocks_are_halved_until_they_fit(room, block, monkeypatch):
    """Room for so many pairs of prepared blocks of 512 points."""
    monkeypatch.setattr(budget, "SLACK", 0)
    sized = lambda points: budget.Footprint(points, 1000 * points, 0, 0)
    load = budget.Load(sized, Cost(1.0, 1.0, 1.0))
    asked = budget.Request(2 * 512_000 * room, 0, Tiling(1000, 1000, False, 256, 1), [load])
    assert asked.fit().tilings[0].block == block


@pytest.mark.parametrize("form, size", [("trace", 4), ("diagonal", 3)])
def test_few_points_need_little_memory(form, size):
    """Buffers of XLA are no larger than the arrays it works on; blocks may be single points."""
    x = points((5,), 7)
    arguments = lambda p, x: jnp.tanh(x @ p[0]) @ p[1], [np.ones((5, 4), "f4"), np.eye(4)[:, :3]], x
    seen = nd.kernels.compute(
        *arguments, form=form, options=ComputeOptions(dtype="float32", memory="2 kB")
    )
    assert seen.plan.peak <= 2000 and seen.plan.tiling.block == size
    whole = nd.kernels.compute(
        *arguments, form=form, options=ComputeOptions(dtype="float32")
    ).values
    assert np.abs(seen.values - whole).max() < 1e-5 * np.abs(whole).max()


# --- models without forward mode, or without any operations ---------------------------------------


@jax.custom_vjp
def bent(x, slope):
    return jnp.tanh(slope * x)


def forward(x, slope):
    return bent(x, slope), (x, slope)


def backward(kept, above):
    x, slope = kept
    inner = above * (1 - jnp.tanh(slope * x) ** 2)
    return inner * slope, jnp.sum(inner * x, axis=tuple(range(x.ndim - 1)), keepdims=x.ndim > 1)


bent.defvjp(forward, backward)


def test_models_with_reverse_mode_only_have_kernels():
    shapes = {"a": (5, 4), "b": (1, 4), "c": (4, 3)}
    rng = np.random.default_rng(0)
    params = {name: rng.standard_normal(shape).astype("f4") for name, shape in shapes.items()}
    models = [
        lambda p, x, phi=phi: phi(x @ p["a"], p["b"]) @ p["c"]
        for phi in (bent, lambda h, slope: jnp.tanh(slope * h))
    ]
    x = points((5,), 6).astype("f4")
    wanted = nd.kernels.compute(
        models[1], params, x, options=ComputeOptions(method="jacobian")
    ).matrix
    for method in ("structured", "products"):
        seen = nd.kernels.compute(
            models[0], params, x, options=ComputeOptions(method=method)
        ).matrix
        assert np.abs(seen - wanted).max() < 1e-5 * np.abs(wanted).max()
    product = nd.kernels.products.matvec(models[0], params, jnp.asarray(x), chunk=4)
    v = rng.standard_normal((6, 3)).astype("f4")
    seen = np.asarray(product(jnp.asarray(v))).reshape(-1)
    assert np.abs(seen - wanted @ v.reshape(-1)).max() < 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("form", [0, "diagonal"])
def test_a_single_affine_layer_has_a_kernel(form):
    """Preparing its points takes no operation, of which XLA then says nothing."""
    x = points((5,), 4)
    full = np.einsum("nm,kj->nkmj", x @ x.T, np.eye(3))
    seen = nd.kernels.compute(lambda p, x: x @ p, np.ones((5, 3), "f4"), x, form=form)
    assert np.abs(seen.values - in_form(full, form)).max() < 1e-5
