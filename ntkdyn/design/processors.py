"""What takes many systems through their rounds at once: threads of one process, or processes."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, ThreadPoolExecutor

from loky import ProcessPoolExecutor, cpu_count
from threadpoolctl import threadpool_limits

from ntkdyn.errors import InputError

PROCESSES_FROM = 256
"""systems from which processes gain more than the two seconds that they take to start"""


@contextlib.contextmanager
def processors(systems: int) -> Iterator[Executor]:
    """What takes so many systems through rounds that are products: one for each processor there is.

    Threads for few. From `PROCESSES_FROM` on processes, which do not wait for one another, nor for
    whoever prepares systems meanwhile, to let go of the interpreter.
    """
    with threadpool_limits(1), _pool(systems) as pool:
        yield pool


@contextlib.contextmanager
def _pool(systems: int) -> Iterator[Executor]:
    count = cpu_count()
    if systems < PROCESSES_FROM:
        with ThreadPoolExecutor(count) as pool:
            try:
                yield pool
            finally:
                pool.shutdown(cancel_futures=True)
        return
    pool = ProcessPoolExecutor(count, initializer=_at_work, initargs=(os.getpid(),))
    # They start at the first call, beside what is prepared until there is one.
    pool.submit(os.getpid)
    try:
        yield pool
    except BrokenExecutor as reason:
        raise InputError(
            "design: a process was ended from outside, probably as memory ran out; what was "
            "written is kept"
        ) from reason
    finally:
        pool.shutdown(kill_workers=True)


def _at_work(parent: int) -> None:
    """Prepare a process: one thread for products, ended by its parent alone, or with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threadpool_limits(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
