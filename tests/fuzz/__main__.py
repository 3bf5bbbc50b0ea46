"""Knock at all doors: `python -m fuzz --help`."""

from __future__ import annotations

import argparse
import faulthandler
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["XLA_FLAGS"] = f"--xla_backend_optimization_level=0 {os.environ.get('XLA_FLAGS', '')}"
os.environ.setdefault("MPLBACKEND", "agg")

import pickle  # noqa: E402

from fuzz import commands, doors, files, harness, own  # noqa: E402

DOORS = [*doors.DOORS, *files.DOORS, *own.DOORS, *commands.DOORS]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, help="in all")
    parser.add_argument("--seed", type=int, default=0, help="draws them")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--door", help="this one only")
    parser.add_argument("--only", type=int, help="of that door, the input of this number")
    parser.add_argument("--table", type=Path, help="write the table there")
    parser.add_argument("--refusals", action="store_true", help="list what was said")
    parser.add_argument("--part", type=int, help="one process's share of the inputs")
    return parser.parse_args()


def chosen(name: str | None) -> list[harness.Door]:
    return [door for door in DOORS if name in (None, door.name)]


def again(asked: argparse.Namespace) -> None:
    """One input once more, with what came of it in full."""
    (door,) = chosen(asked.door)
    with tempfile.TemporaryDirectory() as folder, harness.guarded(Path(folder)):
        outcome = harness.knock(door, asked.only, asked.seed, Path(folder))
    print(outcome.trace or outcome)


def part(asked: argparse.Namespace) -> tuple[list[harness.Outcome], dict[str, float]]:
    faulthandler.enable()  # says where, if some library brings the process down
    with tempfile.TemporaryDirectory() as folder:
        return harness.knock_at_all(
            chosen(asked.door), asked.inputs, asked.seed, Path(folder), (asked.part, asked.jobs)
        )


def parts(asked: argparse.Namespace) -> list[tuple[list[harness.Outcome], dict[str, float]]]:
    """Every process's share, each in a process of its own."""
    command = [sys.executable, "-m", "fuzz", *sys.argv[1:], "--part"]
    started = [
        subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE)
        for number in range(asked.jobs)
    ]
    return [pickle.loads(process.communicate()[0]) for process in started]


def main() -> int:
    asked = arguments()
    if asked.only is not None:
        again(asked)
        return 0
    if asked.part is not None:
        sys.stdout.buffer.write(pickle.dumps(part(asked)))
        return 0
    found = parts(asked)
    outcomes = [each for outcomes, _ in found for each in outcomes]
    shown = harness.table(outcomes, asked.seed)
    print(shown)
    for (door, reason), times in harness.refusals(outcomes):
        print(f"{times:5} x  {door}: {reason}") if asked.refusals else None
    for (door, place, _), alike in harness.faults(outcomes).items():
        print(f"{door} | {place} | {len(alike)} x | --only {alike[0].number} | {alike[0].reason}")
    for door in chosen(asked.door):
        print(f"{sum(took[door.name] for _, took in found):6.1f} s  {door.name}", file=sys.stderr)
    if asked.table:
        asked.table.write_text(shown)
    return any(each.verdict == "fault" for each in outcomes)


if __name__ == "__main__":
    sys.exit(main())
