"""Python code run in processes of its own, with as many host devices as a test wants."""

import os
import socket
import subprocess
import sys

MEET = """
import sys, jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize("127.0.0.1:{port}", num_processes=2, process_id=int(sys.argv[1]))
assert jax.process_count() == 2 and len(jax.local_devices()) == 1 and len(jax.devices()) == 2
"""


def environment(devices):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    return os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def said_with_devices(code, devices):
    """What the code prints, with that many devices."""
    command, pipes = [sys.executable, "-c", code], {"capture_output": True, "text": True}
    done = subprocess.run(command, env=environment(devices), **pipes)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_together(code, folder):
    """Two processes with the code, their numbers as arguments, and a device each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        code = MEET.replace("{port}", str(free.getsockname()[1])) + code
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(number)],
            env=environment(1), stderr=subprocess.PIPE, text=True, cwd=folder,
        )
        for number in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
