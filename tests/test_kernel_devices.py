"""Kernels over eight devices, and over two processes, are those of one device."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest

COMMON = """
import jax, numpy as np
import ntkdyn as nd
net = nd.networks.mlp((24, 16), outputs=3, b_std=0.2)
params = net.start(jax.random.key(0), (5,))
x, z = np.random.default_rng(0).standard_normal((2, 41, 5))
z = z[:19]
def kernels(devices):
    compute = nd.kernels.compute
    with_devices = dict(devices=devices)
    return [
        compute(net.apply, params, x, form="trace", memory="25 MB", **with_devices).values,
        compute(net.apply, params, x, z, form="full", by_layer=True, **with_devices).values,
        compute(net.apply, params, x, form="diagonal", **with_devices).values,
        nd.kernels.infinite.compute(net.kernel, x, devices=devices).values,
    ]
"""

EIGHT = (
    COMMON
    + """
assert len(jax.devices()) == 8
nd.kernels.tiles.BLOCK = 16
for one, many in zip(kernels(None), kernels(jax.devices()), strict=True):
    assert one.shape == many.shape and np.ptp(one) > 0.1
    assert np.abs(one - many).max() < 1e-5 * np.abs(one).max()
shape = nd.kernels.programs.Shape("trace", None, False)
program = nd.kernels.programs.program("structured", net.apply, shape)
program = nd.kernels.sharded.sharded(program, tuple(jax.devices()))
held = program.prepare(params, x[:16].astype("float32"))
for leaf in jax.tree.leaves(held):
    assert {shard.data.shape[0] for shard in leaf.addressable_shards} == {2}
tile = program.meet(params, held, held)["all"]
assert {shard.data.shape for shard in tile.addressable_shards} == {(2, 16)}
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
assert jax.process_count() == 2 and len(jax.local_devices()) == 1 and len(jax.devices()) == 2
seen = kernels(jax.devices())
np.savez({path!r} + sys.argv[1], *seen)
try:
    nd.kernels.compute(net.apply, params, x, file="never.h5", devices=jax.devices())
except nd.InputError as error:
    assert "several processes" in str(error)
else:
    raise SystemExit("a file of two processes")
"""
)


def environment(devices):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    return os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def test_eight_devices_share_the_rows():
    done = subprocess.run(
        [sys.executable, "-c", EIGHT], env=environment(8), capture_output=True, text=True
    )
    assert done.stdout == "equal\n", done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="Gloo over loopback")
def test_two_processes_share_the_rows(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = TWO.replace("{port}", str(port)).replace("{path!r}", repr(str(tmp_path / "k")))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(number)],
            env=environment(1), stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        )
        for number in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=180)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    space = {}
    exec(COMMON, space)
    alone = space["kernels"](None)
    for number in range(2):
        together = np.load(tmp_path / f"k{number}.npz")
        for one, two in zip(alone, together.values(), strict=True):
            assert np.abs(one - two).max() < 1e-5 * np.abs(one).max()
