"""Mutants, drawn: a place in the code first, then what it says instead."""

from __future__ import annotations

import collections
import hashlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cosmic_ray.plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

ROOT = Path(__file__).parent.parent.parent
AREAS = (
    "methods",
    "graphs",
    "spaces.py",
    "evaluation.py",
    "engine.py",
    "losses.py",
    "measures.py",
    "dynamics",
    "kernels",
    "theory",
    "links",
    "design",
    "networks",
    "conformance",
    "papers",
)

ARITHMETIC = ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Pow_Mul", "Mod_Mul", "FloorDiv_Div")
COMPARISONS = (
    "Eq_NotEq", "NotEq_Eq", "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Lt_Gt", "LtE_GtE", "Gt_Lt",
    "GtE_LtE", "Is_IsNot", "IsNot_Is",
)  # fmt: skip
OTHERS = (
    "ReplaceUnaryOperator_Delete_USub", "ReplaceUnaryOperator_Delete_Not", "AddNot",
    "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd",
    "NumberReplacer", "ZeroIterationForLoop", "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
)  # fmt: skip
OPERATORS = (
    *(f"core/ReplaceBinaryOperator_{each}" for each in ARITHMETIC),
    *(f"core/ReplaceComparisonOperator_{each}" for each in COMPARISONS),
    *(f"core/{each}" for each in OTHERS),
)
"""those after which the program still makes sense; a shift of floats is no test of the tests"""


class Mutant(NamedTuple):
    """A file of the package with one place changed."""

    file: str
    line: int
    operator: str
    occurrence: int
    before: str
    after: str

    @property
    def name(self) -> str:
        """The same for the same change, wherever the line has moved to."""
        said = f"{self.file}|{self.operator}|{self.before}|{self.after}"
        return hashlib.sha256(said.encode()).hexdigest()[:12]

    @property
    def area(self) -> str:
        return self.file.removeprefix("ntkdyn/").split("/")[0].removesuffix(".py")

    def code(self) -> str:
        operator = cosmic_ray.plugins.get_operator(self.operator)()
        return mutate_code((ROOT / self.file).read_text(), operator, self.occurrence)


def files(areas: Sequence[str] = AREAS) -> list[Path]:
    """The modules that mutants are drawn from."""
    places = [_place(area) for area in areas]
    found = [each for place in places for each in sorted(place.rglob("*.py"))]
    return [*found, *(place for place in places if place.suffix == ".py")]


def _place(area: str) -> Path:
    """What is shipped as ntkdyn.papers lies beside the package."""
    return ROOT / area if area == "papers" else ROOT / "ntkdyn" / area


def places(file: Path) -> dict[tuple[int, int], list[tuple[str, int]]]:
    """(line, column) -> the operators that apply there, each with its occurrence in the file."""
    found = collections.defaultdict(list)
    tree = get_ast(file.read_text())
    for name in OPERATORS:
        operator = cosmic_ray.plugins.get_operator(name)()
        occurrences = ((node, at) for node in ast_nodes(tree) for at in _positions(operator, node))
        for occurrence, (_, (start, _)) in enumerate(occurrences):
            found[start].append((name, occurrence))
    return dict(found)


def _positions(operator: object, node: object) -> Iterator:
    yield from operator.mutation_positions(node)


def drawn(count: int, seed: int, areas: Sequence[str] = AREAS) -> list[Mutant]:
    """So many different mutants, from places that are all as likely; more begin with fewer."""
    choice = random.Random(seed)
    everywhere = [
        (file, place, found)
        for file in files(areas)
        for place, found in sorted(places(file).items())
    ]
    choice.shuffle(everywhere)
    made = (_made(file, place, *choice.choice(found)) for file, place, found in everywhere)
    return [mutant for mutant, _ in zip(filter(None, made), range(count), strict=False)]


def _made(file: Path, place: tuple[int, int], operator: str, occurrence: int) -> Mutant | None:
    """The mutant, unless Python understands it as what it was."""
    source, line = file.read_text(), place[0]
    named = str(file.relative_to(ROOT))
    changed = mutate_code(source, cosmic_ray.plugins.get_operator(operator)(), occurrence)
    if changed is None or _compiled(changed) in (None, _compiled(source)):
        return None
    before, after = (text.split("\n")[line - 1].strip() for text in (source, changed))
    return Mutant(named, line, operator, occurrence, before, after)


def _compiled(source: str) -> bytes | None:
    try:
        code = compile(source, "mutant", "exec", optimize=2)
    except SyntaxError:
        return None
    return repr((code.co_code, _constants(code))).encode()


def _constants(code: object) -> list:
    """The constants of a module and of all that is within it."""
    return [
        (each.co_code, _constants(each)) if hasattr(each, "co_code") else (type(each), each)
        for each in code.co_consts
    ]
