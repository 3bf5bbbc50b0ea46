"""Which tests pass through a line, and how long each of them takes.

As a plugin of pytest, coverage with one context for each test, its fixtures included; what several
workers saw is read together.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence

import coverage
import pytest

from mutants.drawing import ROOT, Mutant

OUT = ROOT / "analysis" / "out" / "mutants"
"""is not committed"""

MAP = OUT / "map"

WHOLE = MAP / "whole"
"""is there once all tests have run: an interrupted map knows too few of them"""

LEFT_OUT = (
    "test_layout.py", "test_lessons.py", "test_explorables.py", "test_figures.py", "test_fuzz.py",
    "test_scale.py", "test_cli.py", "test_kernel_devices.py",
)  # fmt: skip
"""those about other things, or so slow that no mutant should wait for them"""


def collect(tests: Sequence[str], jobs: int) -> int:
    """Run the tests that mutants are tried by, so many at a time, and note where they pass."""
    shutil.rmtree(MAP, ignore_errors=True)
    ignored = [f"--ignore=tests/{name}" for name in LEFT_OUT]
    parallel = ["-n", str(jobs), "--dist", "worksteal"]
    command = [sys.executable, "-m", "pytest", *parallel, "-p", "mutants.covering"]
    command += [*ignored, *tests]
    code = subprocess.run(command, cwd=ROOT, env=environment()).returncode
    if code == 0:
        WHOLE.touch()
    return code


def environment() -> dict[str, str]:
    """One thread of LAPACK, and compiled programs kept from one process to the next."""
    return os.environ | {
        "OPENBLAS_NUM_THREADS": "1",
        "NTKDYN_TEST_PROGRAMS": str(OUT / "programs"),
        "PYTHONPATH": str(ROOT / "tests"),
    }


class Watching:
    """One process of pytest, watched."""

    def __init__(self) -> None:
        MAP.mkdir(parents=True, exist_ok=True)
        data = str(MAP / f"lines-{os.getpid()}")
        self._coverage = coverage.Coverage(data_file=data, source=["ntkdyn"], config_file=False)
        self._seconds: dict[str, float] = {}
        self._coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._coverage.switch_context(item.nodeid)
        begun = time.monotonic()
        done = yield
        self._seconds[item.nodeid] = time.monotonic() - begun
        self._coverage.switch_context("")
        return done

    def pytest_sessionfinish(self) -> None:
        self._coverage.stop()
        self._coverage.save()
        (MAP / f"seconds-{os.getpid()}.json").write_text(json.dumps(self._seconds))


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(Watching())


class Map:
    """Line -> tests, fastest first."""

    def __init__(self) -> None:
        self._data = coverage.CoverageData(no_disk=True)
        for path in MAP.glob("lines-*"):
            one = coverage.CoverageData(str(path))
            one.read()
            self._data.update(one)
        self._seconds: dict[str, float] = {}
        for path in MAP.glob("seconds-*.json"):
            self._seconds |= json.loads(path.read_text())

    def tests(self, mutant: Mutant, seconds: float) -> list[str]:
        """Those through the line, as many as take so long; at least one, if there is any.

        Of a line that importing runs, those through the file.
        """
        lines = self._data.contexts_by_lineno(str(ROOT / mutant.file))
        found = self._fastest_first(lines.get(mutant.line, []))
        found = found or self._fastest_first(test for each in lines.values() for test in each)
        ends = itertools.accumulate(self._seconds[test] for test in found)
        return [test for test, end in zip(found, ends, strict=True) if end <= seconds] or found[:1]

    def _fastest_first(self, tests: Iterable[str]) -> list[str]:
        left_out = tuple(f"tests/{name}" for name in LEFT_OUT)
        usable = {test for test in tests if not test.startswith(left_out)}
        return sorted(usable & self._seconds.keys(), key=self._seconds.get)
