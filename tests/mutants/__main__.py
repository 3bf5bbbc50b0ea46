"""Draw mutants, try them, and write the table."""

from __future__ import annotations

import argparse
import collections
import sys
import tomllib
from pathlib import Path

from mutants import covering, drawing, trying

REASONS = Path(__file__).parent / "survivors.toml"
"""name of a mutant -> why no test can see it, or why none should"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
    parser.add_argument("--map", action="store_true", help="only note which tests pass where")
    parser.add_argument("--count", type=int, default=400, help="of mutants")
    parser.add_argument("--seed", type=int, default=0, help="draws them")
    parser.add_argument("--jobs", type=int, default=2, help="at a time")
    parser.add_argument("--table", type=Path, help="write the table there")
    return parser.parse_args()


def table(mutants: list[drawing.Mutant], seed: int) -> str:
    """By area what became of the mutants, and every one that no test saw."""
    known, reasons = trying.done(), tomllib.loads(REASONS.read_text())
    tried = [known[each.name] for each in mutants if each.name in known]
    counts = collections.defaultdict(collections.Counter)
    for each in tried:
        counts[each["area"]][each["verdict"]] += 1
    rows = [(area, *_row(counts[area])) for area in sorted(counts)]
    rows.append(("all", *_row(sum(counts.values(), collections.Counter()))))
    head = ("module", "mutants", "killed", "survived", "no test passes there", "share killed")
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (head, ("---",) * 6, *rows)]
    alive = [_alive(each, reasons) for each in tried if each["verdict"] != "killed"]
    return (
        f"# Mutants\n\nDrawn from seed {seed} by `make mutants`, each tried by the tests that pass "
        "through its line, the fastest\n"
        f"first, up to {trying.SECONDS} seconds of them. A mutant is one place of the code, drawn "
        "among all that cosmic-ray's\noperators on arithmetic, comparisons, booleans, numbers and "
        "loops change, that says something else.\n\n"
        + "\n".join(lines)
        + "\n\n## Alive\n\n"
        + ("\n".join(alive) or "None.")
        + "\n"
    )


def _row(verdicts: collections.Counter) -> tuple:
    share = f"{verdicts['killed'] / max(verdicts.total(), 1):.1%}"
    each = (verdicts[verdict] for verdict in ("killed", "survived", "uncovered"))
    return (verdicts.total(), *each, share)


def _alive(each: dict, reasons: dict[str, str]) -> str:
    why = reasons.get(each["name"], "no reason is known: a test is missing")
    change = f"`{each['before']}` -> `{each['after']}`"
    return f"- {each['name']} {each['file']}:{each['line']} ({each['verdict']}): {change}; {why}"


def main() -> int:
    asked = arguments()
    if (asked.map or not covering.MAP.is_dir()) and (code := covering.collect()):
        return code
    if asked.map:
        return 0
    mutants = drawing.drawn(asked.count, asked.seed)
    trying.try_all(mutants, asked.jobs, print)
    if wrong := trying.unsound(trying.done().values()):
        print(f"these tests fail without a mutant: {', '.join(sorted(wrong))}", file=sys.stderr)
        return 1
    shown = table(mutants, asked.seed)
    print(shown)
    if asked.table:
        asked.table.write_text(shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
