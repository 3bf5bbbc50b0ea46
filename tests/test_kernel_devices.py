"""Kernels over eight devices, and over two processes, are those of one device."""

import sys

import numpy as np
import pytest
from processes import run_together, said_with_devices

COMMON = """
import jax, numpy as np
import ntkdyn as nd
net = nd.networks.mlp((24, 16), outputs=3, b_std=0.2)
params = net.start(jax.random.key(0), (5,))
x, z = np.random.default_rng(0).standard_normal((2, 41, 5))
z = z[:19]
def kernels(devices):
    compute = nd.kernels.compute
    how = nd.kernels.ComputeOptions(devices=devices)
    return [
        compute(net.apply, params, x, form="trace", options=how._replace(memory="25 MB")).values,
        compute(net.apply, params, x, z, form="full", by_layer=True, options=how).values,
        compute(net.apply, params, x, form="diagonal", options=how).values,
        nd.kernels.infinite.compute(net.kernel, x, options=how).values,
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
    COMMON
    + """
seen = kernels(jax.devices())
how = nd.kernels.ComputeOptions(file="never.h5", devices=jax.devices())
np.savez({path!r} + sys.argv[1], *seen)
try:
    nd.kernels.compute(net.apply, params, x, options=how)
except nd.InputError as error:
    assert "several processes" in str(error)
else:
    raise SystemExit("a file of two processes")
"""
)


@pytest.mark.slow
def test_eight_devices_share_the_rows():
    assert said_with_devices(EIGHT, 8) == "equal\n"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Gloo over loopback")
def test_two_processes_share_the_rows(tmp_path):
    code = TWO.replace("{path!r}", repr(str(tmp_path / "k")))
    run_together(code, tmp_path)
    space = {}
    exec(COMMON, space)
    alone = space["kernels"](None)
    for number in range(2):
        together = np.load(tmp_path / f"k{number}.npz")
        for one, two in zip(alone, together.values(), strict=True):
            assert np.abs(one - two).max() < 1e-5 * np.abs(one).max()
