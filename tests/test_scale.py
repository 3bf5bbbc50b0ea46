"""Training at scale: over eight devices, over two processes, and in less memory, it is the same."""

import os
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import method, small_data

import ntkdyn as nd
from ntkdyn import memory, records, runs
from ntkdyn.data import Partition
from ntkdyn.validation import train as training

COMMON = """
import jax, numpy as np
import ntkdyn as nd
from ntkdyn.data import Dataset, Partition

rng = np.random.default_rng(0)
inputs = rng.standard_normal((30, 6)).astype(np.float32)
labels = (inputs[:, 0] * inputs[:, 1] > 0).astype(int)
data = Dataset("small", inputs[:24], labels[:24], inputs[24:], labels[24:], 2, "none")
net = nd.networks.mlp((16, 16), outputs=2, activation="erf", w_std=1.5, b_std=0.3)
KEEP = nd.Keep(parameter_rounds=[12], distances=True, kernel=True)

def train(agents, devices, name="atc_tracking", **more):
    owner = np.arange(24) % agents
    owner[-1] = 0
    problem = nd.Problem(net, Partition(data, owner, agents, "given"), seed=3)
    W = nd.graphs.uniform(nd.graphs.directed_ring(agents))
    method = nd.methods.METHODS[name](step_size=0.15)
    return nd.train(problem, method, W, [0, 5, 12], batch_size=2, batch_seed=5, keep=KEEP,
                    devices=devices, **more)

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
for agents, some in ((8, devices), (6, devices[:4])):
    one, many = train(agents, None), train(agents, some)
    equal(one, many)
    assert (one.attrs["devices"], many.attrs["devices"]) == (1, len(some))
    assert many.attrs["memory_estimate"] < one.attrs["memory_estimate"]

problem = nd.Problem(net, Partition(data, np.arange(24) % 4, 4, "given"), seed=3)
W = nd.graphs.metropolis(nd.graphs.ring(4))
asked = runs.plan(problem.task, nd.methods.extra(step_size=0.1), W, 3)
with nd.precision.single():
    space = problem.network_space()
    system = runs.system_of(asked, space, layout(devices, space))
    state = system.init()
    for _ in range(2):
        for leaf in jax.tree.leaves(state):
            parts = {shard.data.size for shard in leaf.addressable_shards}
            assert leaf.ndim < 2 or parts == {leaf.size // 8}, (leaf.shape, parts)
        state = advance(system, state, jnp.array(0), jnp.array(2))
    text = advance.lower(system, state, jnp.array(0), jnp.array(2)).compile().as_text()
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
    """
import sys, jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize("127.0.0.1:{port}", num_processes=2, process_id=int(sys.argv[1]))
"""
    + COMMON
    + """
from pathlib import Path
from ntkdyn import records

assert jax.process_count() == 2 and len(jax.local_devices()) == 2 and len(jax.devices()) == 4
seen = train(4, jax.devices())
folder = Path({folder!r})
records.write(seen, folder / "record.nc")
np.savez(folder / f"process_{sys.argv[1]}.npz", seen.outputs)
if sys.argv[1] == "1":
    written = {path.name for path in folder.glob("*.nc")}
    assert written <= {"record.nc"}
"""
)


def environment(devices):
    flags = f"--xla_force_host_platform_device_count={devices}"
    return os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def test_eight_devices_train_as_one():
    done = subprocess.run(
        [sys.executable, "-c", EIGHT], env=environment(8), capture_output=True, text=True
    )
    assert done.stdout == "equal\n", done.stderr
