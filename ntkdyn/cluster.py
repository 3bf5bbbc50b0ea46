"""Work shared among processes and machines, by dask.distributed (extra `cluster`).

    with cluster.opened(workers=4) as workers: ...                  processes of this machine
    with cluster.opened(scheduler="tcp://node:8786") as workers: ...  a cluster that is there

The second is whatever dask can start: `dask scheduler` and `dask worker` on several machines, or
Slurm by dask-jobqueue, whose jobs `SLURMCluster(cores=4, processes=1, memory="16GB").scale(jobs=8)`
starts and whose `scheduler_address` is given here. Workers need the same ntkdyn and must find data
files at the same paths. Who can reach a scheduler can run code on its workers: keep it private.

What is computed is what one process computes, bit for bit, where workers have its processor and
its numbers of threads: those of this machine do, and of others it is said where they differ.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ntkdyn.errors import InputError, check_whole, shown
from ntkdyn.records import environment

WAIT = 30.0
"""seconds for a scheduler to answer, and for its first worker"""

OF_THREADS = ("XLA_FLAGS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""what the environment says of how sums are split"""

ALL = "all"


class Machine(NamedTuple):
    """What results are computed by."""

    versions: dict[str, str]
    """must be the same"""
    settings: dict[str, str]
    """may move last digits"""


class Cluster:
    """Workers behind a scheduler; `opened` gives one."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.unlike = ""
        """how a worker differs in what may move last digits, in words"""

    def map(
        self, function: Callable[[Any, Any], Any], common: Any, tasks: Sequence[Any]
    ) -> Iterator[tuple[int, Any]]:
        """(number of the task, function(common, task)) of every task once, as they are done.

        What a worker had in hand that died is computed by another.

        Raises:
            InputError: what the function raises; for workers with other versions; where every
                worker dies that is given a task.
        """
        from distributed import as_completed

        run = functools.partial(_run, here().versions, function, common)
        futures = self._client.map(run, tasks, pure=False)
        places = {future.key: place for place, future in enumerate(futures)}
        try:
            with _said():
                for future, (settings, made) in as_completed(
                    futures, loop=self._client.loop, with_results=True
                ):
                    self.unlike = self.unlike or _difference(here().settings, settings)
                    yield places[future.key], made
        finally:
            self._client.cancel(futures)


@contextlib.contextmanager
def opened(
    workers: int | str | None = None, scheduler: str | None = None, *, wait: float = WAIT
) -> Iterator[Cluster | None]:
    """So many `workers`, or "all" cores, on this machine; or those of a `scheduler`; or None.

    In a script, as with all processes of Python's, under `if __name__ == "__main__":`.

    Raises:
        InputError: without dask; for a scheduler that does not answer or has no worker within
            `wait` seconds; for workers with other versions of Python, ntkdyn or JAX.
    """
    if workers is None and scheduler is None:
        yield None
        return
    if workers is not None and scheduler is not None:
        raise InputError("cluster: a scheduler has workers of its own; give one of the two")
    connected = _started(workers) if scheduler is None else _connected(scheduler, wait)
    with connected as client:
        _check_versions(client, scheduler, wait)
        yield Cluster(client)


@contextlib.contextmanager
def _started(workers: int | str) -> Iterator[Any]:
    """Processes of this machine, with its environment, that listen to nobody else."""
    count = os.cpu_count() if workers == ALL else workers
    count = check_whole("workers:", count, 1)
    distributed = _distributed()
    import dask

    alike = {"distributed.nanny.pre-spawn-environ": {}}
    local = {"threads_per_worker": 1, "memory_limit": None, "dashboard_address": None}
    with (
        dask.config.set(alike),
        distributed.LocalCluster(n_workers=count, silence_logs="CRITICAL", **local) as processes,
        distributed.Client(processes, set_as_default=False) as client,
    ):
        yield client


@contextlib.contextmanager
def _connected(scheduler: str, wait: float) -> Iterator[Any]:
    distributed = _distributed()
    try:
        client = distributed.Client(scheduler, timeout=wait, set_as_default=False)
    except (OSError, ValueError, TypeError):
        raise InputError(
            f"scheduler: none answered at {shown(scheduler)} within {wait:g} s"
        ) from None
    with client:
        yield client


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise InputError(
            f"cluster: needs {error.name}, which is not installed: pip install 'ntkdyn[cluster]'"
        ) from None
    return distributed


def _check_versions(client: Any, scheduler: str | None, wait: float) -> None:
    """Of all workers that are there; those that come later say it when they have a task."""
    from distributed import versions

    try:
        client.wait_for_workers(1, timeout=wait)
    except TimeoutError:
        raise InputError(
            f"scheduler: that at {shown(scheduler)} had no worker within {wait:g} s"
        ) from None
    packages = [name for name in here().versions if name != "python"]
    own = versions.get_versions(packages)["packages"]
    for worker, said in client.get_versions(packages=packages)["workers"].items():
        _check_same(own, said["packages"], f"worker {worker}")


@functools.cache
def here() -> Machine:
    """That of this process."""
    known = environment()
    settings = {name: os.environ.get(name, "") for name in OF_THREADS}
    versions = json.loads(known["versions"]) | {"code of ntkdyn": _code()}
    return Machine(versions, settings | {"device": known["device"]})


def _code() -> str:
    """What tells the package's files from others of the same version."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(each.read_bytes() for each in files)).hexdigest()[:12]


def _run(versions: dict[str, str], function: Callable, common: Any, task: Any) -> Any:
    """What a worker does: what it computes by, and what it computes."""
    _check_same(versions, here().versions, "a worker")
    return here().settings, function(common, task)


def _check_same(own: dict[str, Any], other: dict[str, Any], who: str) -> None:
    if apart := _difference(own, other):
        raise InputError(f"cluster: {who} has another {apart}; have all run the same")


def _difference(own: dict[str, Any], other: dict[str, Any]) -> str:
    """The first thing in which the other differs, in words."""
    said = lambda value: value or "nothing"
    apart = (
        f"{name}: {said(other.get(name))} there, {said(value)} here"
        for name, value in own.items()
        if other.get(name) != value
    )
    return next(apart, "")


@contextlib.contextmanager
def _said() -> Iterator[None]:
    """What befalls a cluster in one sentence."""
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError

    try:
        yield
    except KilledWorker:
        raise InputError(
            "cluster: several workers died of the same task; it may need more memory than they have"
        ) from None
    except FutureCancelledError:
        raise InputError("cluster: the scheduler is gone") from None
