"""neural-tangents' structured derivatives, measured where they work: on JAX 0.4.23, by Python 3.11.

They take rules of JAX apart that have changed since, so that they run in an environment of their
own, which is made once in the cache folder, in a process of its own; ours and theirs take turns.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pooch

from ntkdyn.errors import InputError

NEEDS = (
    "jax==0.4.23", "jaxlib==0.4.23", "neural-tangents==0.6.5", "numpy==1.26.4", "scipy==1.12.0",
    "ml_dtypes==0.5.4", "opt_einsum==3.4.0", "frozendict==2.5.1", "typing_extensions==4.16.0",
)  # fmt: skip

NAME = "neural-tangents, structured derivatives (JAX 0.4.23)"

CHILD = """
import json, sys, time, types
sys.modules["neural_tangents.experimental"] = types.ModuleType("neural_tangents.experimental")
import jax, numpy as np, neural_tangents
from neural_tangents import stax
asked = json.loads(sys.argv[1])
if asked["double"]:
    jax.config.update("jax_enable_x64", True)
given = np.load(asked["folder"] + "/given.npz")
x, leaves = jax.numpy.asarray(given["x"]), [given[f"leaf{k}"] for k in range(len(given) - 1)]
if asked["kind"] == "dense":
    parts = [p for w in asked["widths"] for p in (stax.Dense(w, 2**0.5, 0.1), stax.Relu())]
    parts.append(stax.Dense(asked["outputs"], 2**0.5, 0.1))
else:
    conv = lambda width: stax.Conv(width, (3, 3), (2, 2), "SAME")
    parts = [p for w in asked["widths"] for p in (conv(w), stax.Relu())]
    parts += [stax.GlobalAvgPool(), stax.Dense(asked["outputs"])]
start, apply, _ = stax.serial(*parts)
_, tree = jax.tree_util.tree_flatten(start(jax.random.PRNGKey(0), (-1, *x.shape[1:]))[1])
params = jax.tree_util.tree_unflatten(tree, [jax.numpy.asarray(leaf) for leaf in leaves])
axes = (-1,) if asked["trace"] else ()
kernel = jax.jit(neural_tangents.empirical_ntk_fn(
    apply, trace_axes=axes, vmap_axes=0, implementation=3), static_argnums=1)
np.save(asked["folder"] + "/kernel.npy", kernel(x, None, params))
print("ready", flush=True)
for _ in sys.stdin:
    begun = time.perf_counter()
    kernel(x, None, params).block_until_ready()
    print(time.perf_counter() - begun, flush=True)
"""


def python() -> Path:
    """The interpreter of their environment, made if it is not there.

    Raises:
        InputError: the reason why it cannot be had.
    """
    folder = Path(pooch.os_cache("ntkdyn")) / "neural-tangents-on-jax-0.4.23"
    found, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists():
        _run([_python_3_11(), "-m", "venv", "--clear", str(folder)])
        quietly = ["--quiet", "--disable-pip-version-check", "--no-deps"]
        _run([str(found), "-m", "pip", "install", *quietly, *NEEDS])
        ready.touch()
    return found


def _python_3_11() -> str:
    if sys.version_info[:2] == (3, 11):
        return sys.executable
    if (found := shutil.which("python3.11")) is None:
        raise InputError("needs Python 3.11, which is not installed")
    return found


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines() or ["pip says nothing"]
        raise InputError(f"cannot be installed: {said[-1]}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"cannot be installed: {error}") from None


def against(
    case: str,
    asked: dict[str, Any],
    params: Any,
    x: jax.Array,
    ours: Callable[[], Any],
    turns: int,
) -> dict[str, Any]:
    """A row of the table: the best of `turns` of both, in turn.

    `asked` says the kind of network, its widths and outputs, and whether the trace is meant.
    """
    mine, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        leaves = {f"leaf{k}": np.asarray(each) for k, each in enumerate(jax.tree.leaves(params))}
        np.savez(Path(folder) / "given.npz", x=np.asarray(x), **leaves)
        with _peer(asked | {"folder": folder, "double": x.dtype == np.float64}) as turn:
            kernel = np.asarray(jax.block_until_ready(ours()))
            for _ in range(turns):
                begun = time.perf_counter()
                jax.block_until_ready(ours())
                mine.append(time.perf_counter() - begun)
                theirs.append(turn())
        other = np.load(Path(folder) / "kernel.npy")
    other = other * asked["outputs"] if asked["trace"] else other.transpose(0, 2, 1, 3)
    return {
        "case": case,
        "against": NAME,
        "ours": min(mine),
        "theirs": min(theirs),
        "ratio": min(theirs) / min(mine),
        "relative_difference": float(np.abs(other - kernel).max() / np.abs(kernel).max()),
    }


@contextlib.contextmanager
def _peer(asked: dict[str, Any]) -> Iterator[Callable[[], float]]:
    """What has their kernel computed once more, in a process that has it compiled."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [str(python()), "-c", CHILD, json.dumps(asked)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, **pipes) as child:
        if child.stdout.readline() != "ready\n":
            raise InputError("does not run in its environment")

        def turn() -> float:
            child.stdin.write("\n")
            child.stdin.flush()
            return float(child.stdout.readline())

        yield turn
