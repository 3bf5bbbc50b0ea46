"""Draw mutants, try them, and write the table."""

from __future__ import annotations

import argparse
import collections
import sys
import tomllib
from pathlib import Path

from mutants import covering, drawing, trying

REASONS = Path(__file__).parent / "survivors.toml"
"""of mutants that live: `same`, those that do what the program does, and `unseen`, the others"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
    parser.add_argument("--map", action="store_true", help="only note which tests pass where")
    parser.add_argument("--count", type=int, default=400, help="of mutants")
    parser.add_argument("--seed", type=int, default=0, help="draws them")
    parser.add_argument("--areas", nargs="+", default=drawing.AREAS, help="to draw from")
    parser.add_argument("--tests", nargs="+", default=["tests"], help="files to try them by")
    parser.add_argument("--again", nargs="+", help="try those alive by these tests, written since")
    parser.add_argument("--jobs", type=int, default=2, help="at a time")
    parser.add_argument("--table", type=Path, help="write the table there")
    return parser.parse_args()


def table(tried: list[dict], seed: int) -> str:
    """By area what became of the mutants, and every one that no test saw."""
    reasons = tomllib.loads(REASONS.read_text())
    counts = collections.defaultdict(collections.Counter)
    for each in tried:
        counts[each["area"]][_became(each, reasons)] += 1
    rows = [(area, *_row(counts[area])) for area in sorted(counts)]
    rows.append(("all", *_row(sum(counts.values(), collections.Counter()))))
    head = ("module", "mutants", *COLUMNS, "killed of those that differ")
    shown = [" | ".join(map(str, row)) for row in (head, ("---",) * len(head), *rows)]
    lived = [each for each in tried if each["verdict"] != "killed"]
    alive = [_alive(each, reasons) for each in sorted(lived, key=lambda each: each["file"])]
    return ABOUT.format(
        seed=seed,
        seconds=trying.SECONDS,
        rows="\n".join(f"| {row} |" for row in shown),
        alive="\n".join(alive) or "None.",
    )


ABOUT = """# Mutants

Drawn from seed {seed} by `make mutants`: one place of the code, of all that cosmic-ray's operators
on arithmetic, comparisons, booleans, numbers and loops change, says something else. Each is tried
by the tests that pass through its line, the fastest first, up to {seconds} seconds of them, and
those that lived by the tests written since.

{rows}

## Alive

{alive}
"""

COLUMNS = ("killed", "survived", "uncovered", "same")
"""`same`: it does what the program does"""


def _became(each: dict, reasons: dict[str, dict[str, str]]) -> str:
    alive = each["verdict"] != "killed"
    return "same" if alive and each["name"] in reasons["same"] else each["verdict"]


def _row(verdicts: collections.Counter) -> tuple:
    different = verdicts.total() - verdicts["same"]
    share = f"{verdicts['killed'] / max(different, 1):.1%}"
    return (verdicts.total(), *(verdicts[column] for column in COLUMNS), share)


def _alive(each: dict, reasons: dict[str, dict[str, str]]) -> str:
    known = {**reasons["same"], **reasons["unseen"]}
    why = known.get(each["name"], "a test is missing")
    change = f"`{each['before']}` -> `{each['after']}`"
    return f"- {each['file']}:{each['line']} {change}: {why} ({each['name']})"


def main() -> int:
    asked = arguments()
    if (asked.map or not covering.WHOLE.exists()) and (
        code := covering.collect(asked.tests, asked.jobs)
    ):
        return code
    if asked.map:
        return 0
    mutants = drawing.drawn(asked.count, asked.seed, asked.areas)
    if asked.again:
        trying.try_again(mutants, asked.again, asked.jobs, print)
    else:
        trying.try_all(mutants, asked.jobs, print)
    tried = list(trying.done().values())
    if wrong := trying.unsound(tried):
        print(f"these tests fail without a mutant: {', '.join(sorted(wrong))}", file=sys.stderr)
        return 1
    shown = table(tried, asked.seed)
    print(shown)
    if asked.table:
        asked.table.write_text(shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
