"""The kernel benchmark: times, rates and memory of empirical kernels against the peers.

Peers are neural-tangents' Jacobian contraction and NTK-vector products, the two of its
implementations that run on current JAX, and plain `vmap(jacrev)` with a contraction. Everything is
compiled before it is timed, and the best of a few runs counts. `difference` is the largest entry of
|ours - theirs| over the largest entry of the kernel.
"""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ntkdyn import precision
from ntkdyn.bench import structured
from ntkdyn.errors import InputError
from ntkdyn.kernels import ComputeOptions, compute, empirical
from ntkdyn.kernels.compat import neural_tangents, stax
from ntkdyn.kernels.computing import in_bytes
from ntkdyn.networks import Network, mlp, wrap
from ntkdyn.records import environment


class Sizes(NamedTuple):
    """What is measured."""

    inputs: int
    mlp: tuple[int, ...]
    mlp_points: int
    mlp_double_points: int
    image: tuple[int, int, int]
    cnn: tuple[int, ...]
    cnn_points: int
    cnn_double_points: int
    rate_widths: tuple[int, ...]
    rate_points: int
    budget_widths: tuple[int, ...]
    budget_points: int
    budget: str
    repeats: int


FULL = Sizes(
    784, (1024, 1024), 64, 8, (16, 16, 3), (64, 128, 256), 32, 8, (2048, 2048), 1024,
    (1024, 1024), 4096, "200 MB", 3,
)  # fmt: skip
SMALL = Sizes(
    16, (32, 32), 8, 4, (8, 8, 2), (4, 8, 8), 4, 2, (64, 64), 64, (64, 64), 600, "44 MB", 1
)
OUTPUTS = 10


def measure(sizes: Sizes) -> dict[str, Any]:
    """Everything, as one JSON object."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "size requires ndarray", DeprecationWarning)
        dense = mlp(sizes.mlp, outputs=OUTPUTS)
        conv = _convolutional(sizes.cnn)
        flat, image = (sizes.inputs,), sizes.image
        comparisons = [
            *_against_peers(dense, flat, sizes.mlp_points, sizes.repeats),
            *_against_peers(conv, image, sizes.cnn_points, sizes.repeats),
        ]
        with precision.double():
            comparisons += _against_peers(dense, flat, sizes.mlp_double_points, 1)
            comparisons += _against_peers(conv, image, sizes.cnn_double_points, 1)
        rate = _rate(sizes)
        rows, told = _against_structured(sizes, dense, conv, rate)
        budget, comparison = _budget(sizes)
    trace = f"trace form, {_name(sizes.inputs, sizes.rate_widths)}, {sizes.rate_points} points"
    return {
        "title": "empirical kernels",
        "comparisons": [*comparisons, *rows, comparison],
        "figures": {
            trace: rate,
            structured.NAME: told,
            f"budget {sizes.budget}, {sizes.budget_points} points": budget,
        },
        "machine": machine(),
    }


def _convolutional(widths: tuple[int, ...]) -> Network:
    """Blocks of XLA's convolution by 3 x 3 with stride 2 and ReLU, as users bring them."""
    blocks = [part for w in widths for part in (stax.Conv(w, (3, 3), (2, 2), "SAME"), stax.Relu())]
    start, apply, _ = stax.serial(*blocks, stax.GlobalAvgPool(), stax.Dense(OUTPUTS))
    drawn = lambda key, features: start(key, (-1, *features))[1]
    name = f"cnn {'-'.join(map(str, (*widths, OUTPUTS)))} relu"
    return wrap(apply, drawn, OUTPUTS, name=name)


def machine() -> str:
    """Where and with what this was measured, and how busy the machine was."""
    return (
        f"{environment()['device']}; {_processor()}; jax {jax.__version__}, "
        f"neural-tangents {neural_tangents.__version__}, load {os.getloadavg()[0]:.1f}"
    )


def seconds(call: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """The best time of a few runs after one that compiles, and what came out."""
    result = jax.block_until_ready(call())
    best = float("inf")
    for _ in range(repeats):
        begun = time.perf_counter()
        result = jax.block_until_ready(call())
        best = min(best, time.perf_counter() - begun)
    return best, result


def _against_peers(
    network: Network, features: tuple[int, ...], points: int, repeats: int
) -> list[dict[str, Any]]:
    """The full kernel, ours first, in JAX's current precision."""
    params, x = _setup(network, features, points)
    dtype = str(x.dtype)
    ours, kernel = seconds(lambda: empirical.ntk(network.apply, params, x), 3 * repeats)
    kernel, rows = np.asarray(kernel), []
    for name, peer in _peers(network.apply).items():
        theirs, other = seconds(lambda peer=peer: peer(params, x), 1)
        difference = np.abs(np.asarray(other) - kernel).max() / np.abs(kernel).max()
        rows.append(
            {
                "case": f"{network.name}, {points} points, {dtype}",
                "against": name,
                "ours": ours,
                "theirs": theirs,
                "ratio": theirs / ours,
                "relative_difference": float(difference),
            }
        )
        del other
    return rows


def _against_structured(
    sizes: Sizes, dense: Network, conv: Network, rate: dict[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The full kernels and the trace, and their share of the machine's rate; or why not."""
    wide = mlp(sizes.rate_widths, outputs=OUTPUTS)
    flat, turns = (sizes.inputs,), 3 * sizes.repeats
    cases = (
        (dense, "dense", sizes.mlp, flat, sizes.mlp_points, "full"),
        (conv, "convolutional", sizes.cnn, sizes.image, sizes.cnn_points, "full"),
        (wide, "dense", sizes.rate_widths, flat, sizes.rate_points, "trace"),
    )
    rows = []
    try:
        for network, kind, widths, features, points, form in cases:
            params, x = _setup(network, features, points)
            asked = {"kind": kind, "widths": [*widths], "outputs": OUTPUTS}
            name = f"{network.name}, {points} points, {x.dtype}, {form}"
            call = functools.partial(_ours, network.apply, params, x, form)
            trace = {"trace": form == "trace"}
            rows.append(structured.against(name, asked | trace, params, x, call, turns))
    except InputError as reason:
        return rows, {"not measured": str(reason)}
    share = rate["Gram form Gflop"] / rate["matmul Gflop/s"]
    names = ("Gram form / time / matmul rate, ours", "theirs")
    return rows, dict(zip(names, (share / rows[-1][w] for w in ("ours", "theirs")), strict=True))


def _ours(apply: Callable, params: Any, x: jax.Array, form: str) -> Any:
    if form == "full":
        return empirical.ntk(apply, params, x)
    return compute(apply, params, x, form=form).values


def _peers(apply: Callable) -> dict[str, Callable]:
    """name -> (params, inputs) -> (n, k, m, k)."""

    def by_neural_tangents(implementation: int) -> Callable:
        kernel = neural_tangents.empirical_ntk_fn(
            apply, trace_axes=(), vmap_axes=0, implementation=implementation
        )
        return jax.jit(lambda params, x: kernel(x, None, params).transpose(0, 2, 1, 3))

    @jax.jit
    def plain(params: Any, x: jax.Array) -> jax.Array:
        jacobian = jax.vmap(jax.jacrev(lambda p, one: apply(p, one[None])[0]), (None, 0))
        rows = [leaf.reshape(*leaf.shape[:2], -1) for leaf in jax.tree.leaves(jacobian(params, x))]
        exact = jax.lax.Precision.HIGHEST
        return sum(jnp.einsum("nkp,mjp->nkmj", leaf, leaf, precision=exact) for leaf in rows)

    return {
        "neural-tangents, NTK-vector products": by_neural_tangents(2),
        "neural-tangents, Jacobian contraction": by_neural_tangents(1),
        "vmap(jacrev)": plain,
    }


def _rate(sizes: Sizes) -> dict[str, Any]:
    """Floating-point operations per second of the trace form, and of a plain matrix product."""
    network = mlp(sizes.rate_widths, outputs=OUTPUTS)
    params, x = _setup(network, (sizes.inputs,), sizes.rate_points)
    size = max(sizes.rate_widths)
    matrix = jax.random.normal(jax.random.key(2), (size, size))
    product = jax.jit(lambda a: jnp.matmul(a, a, precision=jax.lax.Precision.HIGHEST))
    product_time, _ = seconds(lambda: product(matrix), 3 * sizes.repeats)
    rate = 2 * size**3 / product_time
    time_taken, kernel = seconds(
        lambda: compute(network.apply, params, x, form="trace"), sizes.repeats
    )
    widths = (sizes.inputs, *sizes.rate_widths, OUTPUTS)
    weights = [a * b for a, b in zip(widths, widths[1:], strict=False)]
    n, tiling = sizes.rate_points, kernel.plan.tiling
    forward = 2 * n * sum(weights)
    backward = 2 * n * OUTPUTS * sum(weights[1:])
    pair = 2 * (sum(widths[:-1]) + OUTPUTS * sum(widths[1:]))
    summed = pair - 2 * (OUTPUTS - 1) * widths[-2]
    done = tiling.tiles * min(tiling.block, n) ** 2 * summed
    whole = forward + backward + done
    return {
        "seconds": time_taken,
        "matmul Gflop/s": rate / 1e9,
        "forward Gflop": forward / 1e9,
        "back-propagation Gflop": backward / 1e9,
        "Gram form Gflop": n**2 * pair / 1e9,
        "of it computed (one half; outputs summed before the readout)": done / 1e9,
        "Gram form / time / matmul rate": n**2 * pair / time_taken / rate,
        "computed Gram alone / time / matmul rate": done / time_taken / rate,
        "everything computed / time / matmul rate": whole / time_taken / rate,
    }


def _budget(sizes: Sizes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Time with a budget and without, turn by turn, and the peak as seen from outside."""
    network = mlp(sizes.budget_widths, outputs=OUTPUTS)
    params, x = _setup(network, (sizes.inputs,), sizes.budget_points)
    x = np.asarray(x)
    best = {None: float("inf"), sizes.budget: float("inf")}
    kernels = {}
    for turn in range(1 + 2 * sizes.repeats):
        for memory in best:
            begun = time.perf_counter()
            kernels[memory] = compute(
                network.apply, params, x, form="trace", options=ComputeOptions(memory=memory)
            )
            if turn:
                best[memory] = min(best[memory], time.perf_counter() - begun)
    free, tight = kernels[None], kernels[sizes.budget]
    case = f"{network.name}, {sizes.budget_points} points, trace"
    comparison = {
        "case": case,
        "against": f"ours is with {sizes.budget}, theirs ours without a budget",
        "ours": best[sizes.budget],
        "theirs": best[None],
        "ratio": best[None] / best[sizes.budget],
        "relative_difference": float(np.abs(free.values - tight.values).max() / free.values.max()),
    }
    figures = {
        "time over unlimited time": best[sizes.budget] / best[None],
        "planned peak MB": tight.plan.peak / 1e6,
        **_peaks(sizes),
    }
    return figures, comparison


CHILD = """
import sys
import numpy as np
from ntkdyn.bench import kernel
sizes = kernel.Sizes(*{sizes!r})
network = kernel.mlp(sizes.budget_widths, outputs=kernel.OUTPUTS)
params, x = kernel._setup(network, (sizes.inputs,), sizes.budget_points)
x = np.asarray(x)
kernel.compute(network.apply, params, x[:64], form="trace")
print("ready", flush=True)
sys.stdin.readline()
kept = kernel.compute(network.apply, params, x, form="trace",
                      options=kernel.ComputeOptions(memory={memory!r}))
print("done", flush=True)
sys.stdin.readline()
"""


def _peaks(sizes: Sizes) -> dict[str, Any]:
    """Peak extra memory of a fresh process that computes the kernel, by what Linux says of it."""
    if not Path("/proc/self/clear_refs").exists():
        return {"peak extra MB": "not measured: needs Linux"}
    names = {"peak extra MB": in_bytes(sizes.budget), "peak extra MB without a budget": None}
    return {name: peak_of_child(tuple(sizes), memory) / 1e6 for name, memory in names.items()}


def peak_of_child(sizes: tuple, memory: float | None) -> int:
    """Bytes resident at most beyond what was when the child said it was ready."""
    code = CHILD.format(sizes=sizes, memory=memory)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as child:
        _expect(child, "ready")
        Path(f"/proc/{child.pid}/clear_refs").write_text("5")
        before = _resident(child.pid)
        _go_on(child)
        _expect(child, "done")
        peak = _resident(child.pid)
        _go_on(child)
    return peak - before


def _expect(child: subprocess.Popen, word: str) -> None:
    said = child.stdout.readline().strip()
    if said != word:
        raise RuntimeError(f"the measured process said {said!r} where {word!r} was due")


def _go_on(child: subprocess.Popen) -> None:
    child.stdin.write("\n")
    child.stdin.flush()


def _resident(pid: int) -> int:
    """The peak since it was last reset."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def _setup(network: Network, features: tuple[int, ...], points: int) -> tuple[Any, jax.Array]:
    """Parameters and points in JAX's current precision."""
    dtype = jnp.zeros(()).dtype
    params = network.start(jax.random.key(0), features)
    x = np.random.default_rng(1).standard_normal((points, *features))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (params, x))


def _name(inputs: int, widths: tuple[int, ...]) -> str:
    return "-".join(map(str, (inputs, *widths, OUTPUTS)))


def _processor() -> str:
    """The processor's own name, where Linux gives it."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    return text.split("model name")[1].split(":")[1].split("\n")[0].strip()
