"""Trying: every mutant in a copy of the package, by the tests of its line, until one fails."""

from __future__ import annotations

import compileall
import contextlib
import json
import os
import queue
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from mutants.covering import OUT, Map, environment
from mutants.drawing import ROOT, Mutant

SECONDS = 240
"""of tests for one mutant, by the time they took when they were mapped"""

HANGS_AFTER = 2 * SECONDS + 60
"""seconds of a processor: nobody would wait for tests that have become so slow"""

ASLEEP_AFTER = 10 * HANGS_AFTER
"""seconds by the clock, for tests that wait, on a machine with much else to do"""

RESULTS = OUT / "results.jsonl"

COPIED = (
    "ntkdyn", "tests", "figures", "papers", "analysis/results", "docs", "pyproject.toml",
    "README.md",
)  # fmt: skip


def copy(to: Path) -> None:
    """The package and its tests, compiled; figures and papers lie where installed ones do."""
    for name in COPIED:
        source = ROOT / name
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, to / name)
    compileall.compile_dir(to, quiet=1)
    for name in ("figures", "papers"):
        (to / "ntkdyn" / name).symlink_to(to / name)


def verdict(mutant: Mutant, tests: list[str], folder: Path) -> dict[str, str]:
    """killed and by which test, survived, or uncovered where no test passes through the line."""
    if not tests:
        return {"verdict": "uncovered"}
    file = folder / mutant.file
    whole, of = file.read_text(), file.stat()
    file.write_text(mutant.code())
    try:
        failed = first_failure(tests, folder)
    finally:
        file.write_text(whole)
        os.utime(file, ns=(of.st_atime_ns, of.st_mtime_ns))  # of the compiled one
    return {"verdict": "killed", "by": failed} if failed else {"verdict": "survived"}


def first_failure(tests: list[str], folder: Path) -> str | None:
    """The first of the tests that fails, "no end" if they have none, or None.

    A mutant may change which cases a test has; it is then run in all of those.
    """
    code, said, wrong = _ran(tests, folder)
    if MISSING in wrong:
        code, said, wrong = _ran(list(dict.fromkeys(each.split("[")[0] for each in tests)), folder)
    if code is None:
        return "no end"
    if code == 0:
        return None
    if MISSING in wrong:
        raise RuntimeError(f"a test is not there: {wrong}")
    found = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", said, re.MULTILINE)
    return found.group(1) if found else "no test can run"


MISSING = "ERROR: not found:"


def _ran(tests: list[str], folder: Path) -> tuple[int | None, str, str]:
    """What pytest ends with, None where it has no end, says, and says is wrong.

    Without the checks of types, whose import takes longer than most tests.
    """
    plain = ["-o", "addopts=-q -rfE --tb=no", "-p", "no:xdist", "-p", "no:cacheprovider"]
    ran = subprocess.Popen(
        [sys.executable, "-B", "-m", "pytest", "-x", *plain, *tests],
        cwd=folder,
        env=environment() | {"PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    resource.prlimit(ran.pid, resource.RLIMIT_CPU, (HANGS_AFTER, HANGS_AFTER))
    try:
        said, wrong = ran.communicate(timeout=ASLEEP_AFTER)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(ran.pid, signal.SIGKILL)
        ran.wait()
        return None, "", ""
    code = None if ran.returncode == -signal.SIGKILL else ran.returncode
    return code, said, wrong


def unsound(rows: Iterable[dict]) -> set[str]:
    """The tests that killed a mutant, and fail without any."""
    killers = {row["by"] for row in rows if "::" in row.get("by", "")}
    found: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        copy(Path(folder))
        while failed := first_failure(sorted(killers - found), Path(folder)):
            found.add(failed)
    return found


def done() -> dict[str, dict]:
    """What is known of mutants that were tried before, by name."""
    lines = RESULTS.read_text().splitlines() if RESULTS.is_file() else []
    return {each["name"]: each for each in map(json.loads, lines)}


def try_all(mutants: list[Mutant], jobs: int, say: Callable[[str], None]) -> None:
    """Those not tried yet, each by the tests of its line."""
    known, tests = done(), Map()
    left = [mutant for mutant in mutants if mutant.name not in known]
    _try(left, lambda mutant: tests.tests(mutant, SECONDS), jobs, say)


def try_again(
    mutants: list[Mutant], tests: list[str], jobs: int, say: Callable[[str], None]
) -> None:
    """Those that are alive, by these tests, which were written since."""
    known = done()
    alive = [each for each in mutants if known.get(each.name, {}).get("verdict") != "killed"]
    _try([each for each in alive if each.name in known], lambda _: tests, jobs, say)


def _try(
    mutants: list[Mutant],
    tests: Callable[[Mutant], list[str]],
    jobs: int,
    say: Callable[[str], None],
) -> None:
    """So many at a time; every verdict is written as it comes."""
    waiting, lock = queue.SimpleQueue(), threading.Lock()
    for mutant in mutants:
        waiting.put(mutant)

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            copy(Path(folder))
            with contextlib.suppress(queue.Empty):
                while True:
                    mutant = waiting.get_nowait()
                    found = verdict(mutant, tests(mutant), Path(folder))
                    with lock:
                        _write(mutant, found)
                        say(f"{found['verdict']:<9} {mutant.file}:{mutant.line} {mutant.after}")

    workers = [threading.Thread(target=work) for _ in range(jobs)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()


def _write(mutant: Mutant, found: dict[str, str]) -> None:
    with RESULTS.open("a") as file:
        row = {"name": mutant.name, "area": mutant.area, **found, **mutant._asdict()}
        file.write(json.dumps(row) + "\n")
