"""Someone's iterates against the golden ones, and what explains the difference."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ntkdyn import archives, arrays, disk
from ntkdyn.conformance import cases
from ntkdyn.conformance.cases import Case
from ntkdyn.conformance.mistakes import Run, every
from ntkdyn.data.tables import read_table
from ntkdyn.errors import InputError, shown

Iterates = Float[np.ndarray, "rounds agents parameters"]

DOUBLE, SINGLE = 1e-10, 1e-4
"""How far off, relative to the way that agents go, iterates in either precision may be."""


class Verdict(NamedTuple):
    """What was found; true where the iterates are the method's.

    error = max |found - golden| / max_i |x_i(T) - x_i(0)| over rounds, agents and parameters.

    Example:
        >>> print(nd.conformance.Verdict("dgd", 0.5, (3, 1), ("W is transposed",)))
        dgd: differs from round 3, agent 1 on, because W is transposed
    """

    method: str
    error: float
    """largest difference, relative to the longest way from the start"""
    first: tuple[int, int] | None
    """round and agent where it first shows; None: nowhere"""
    mistakes: tuple[str, ...]
    """what was done in its place, where that is known"""

    def __bool__(self) -> bool:
        return self.first is None

    def __str__(self) -> str:
        if self:
            kind = "double" if self.error <= DOUBLE else "single"
            return f"{self.method}: conforms in {kind} precision, to {self.error:.1e}"
        round, agent = self.first
        where = f"{self.method}: differs from round {round}, agent {agent} on"
        if self.mistakes:
            return f"{where}, because " + ", and ".join(self.mistakes)
        return (
            f"{where}, by up to {self.error:.2g} of the way, and none of the known mistakes does so"
        )


def check(iterates: Callable[[Case], Any] | Any, method: str) -> Verdict:
    """Whether the iterates of an implementation are the method's, and the likely mistake if not.

    They are compared up to `SINGLE` of the longest way that an agent goes, so that single precision
    conforms.

    Args:
        iterates: (rounds + 1, agents, parameters) of any framework, of rounds 0 to the last; a
            function of the `Case` that gives one; or a file: .npy, .npz, .json, or a table with
            columns `round`, `agent` and one for each parameter.
        method: the name of what they should be of.

    Returns:
        A `Verdict`, which prints as a sentence.

    Raises:
        InputError: for iterates of another shape, or not of numbers, and for names unknown.

    Example:
        >>> case = nd.conformance.case("atc")
        >>> print(nd.conformance.check(case.iterates, "atc"))
        atc: conforms in double precision, to 0.0e+00
        >>> print(nd.conformance.check(nd.conformance.case("cta").iterates, "atc"))
        atc: differs from round 1, agent 0 on, because these are the iterates of cta
    """
    one = cases.case(method)
    found = _numbers(one, iterates(one) if callable(iterates) else iterates)
    right = one.iterates
    differences, way = np.abs(found - right).max(axis=2), _way(right)
    error = float(differences.max() / way)
    if error <= SINGLE:
        return Verdict(method, error, None, ())
    round, agent = (int(k) for k in np.argwhere(~(differences <= SINGLE * way))[0])
    return Verdict(method, error, (round, agent), _explained(one, found))


def _way(iterates: Iterates) -> float:
    return float(np.abs(iterates - iterates[0]).max())


def _numbers(one: Case, given: Any) -> Iterates:
    """As an array, of the right shape."""
    if isinstance(given, str | Path):
        given = _read(disk.place_of("iterates", given))
    found = arrays.plain("iterates", given)
    wanted = one.iterates.shape
    if found.dtype.kind not in "fiu":
        raise InputError(f"iterates: must be real numbers, got {shown(given)}")
    if found.shape == (wanted[0] - 1, *wanted[1:]):
        raise InputError(
            f"iterates: of {found.shape[0]} rounds, and {wanted[0]} are wanted; round 0 is the "
            f"start itself"
        )
    if found.shape != wanted:
        raise InputError(f"iterates: must be of shape {wanted}, got {found.shape}")
    return found.astype(float)


def _read(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"iterates: there is no file {path}")
    if path.suffix == ".npy":
        return archives.npy("iterates", path)
    if path.suffix == ".npz":
        return _only(archives.Npz("iterates", path))
    if path.suffix == ".json":
        return _of_json(path)
    return _of_table(path)


def _only(held: archives.Npz) -> np.ndarray:
    names = list(held)
    if "iterates" not in names and len(names) != 1:
        raise InputError(f"iterates: the .npz must hold `iterates`, and holds {', '.join(names)}")
    return held["iterates" if "iterates" in names else names[0]]


def _of_json(path: Path) -> Any:
    """A list, or the `iterates` of an object."""
    try:
        held = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise InputError(f"iterates: {path} is no JSON; {error}") from None
    if isinstance(held, dict) and "iterates" not in held:
        raise InputError(f"iterates: the object in {path} has no `iterates`")
    return held["iterates"] if isinstance(held, dict) else held


def _of_table(path: Path) -> Iterates:
    """A row for every round and agent."""
    frame = read_table(path)
    missing = [each for each in ("round", "agent") if each not in frame.columns]
    if missing:
        raise InputError(f"iterates: {path} has no column `{missing[0]}`")
    rows = frame.sort_values(["round", "agent"])
    rounds, agents = rows["round"].nunique(), rows["agent"].nunique()
    if len(rows) != rounds * agents or rows.duplicated(["round", "agent"]).any():
        raise InputError(f"iterates: {path} must have one row for every round and agent")
    return rows.drop(columns=["round", "agent"]).to_numpy().reshape(rounds, agents, -1)


def _explained(one: Case, found: Iterates) -> tuple[str, ...]:
    """What gives these iterates: the first explanation that does, the simple ones before others."""
    for said, made in itertools.chain(_simple(one), _pairs(one)):
        if _same(found, made) and not _same(one.iterates, made):
            return said
    return ()


def _same(one: Iterates, other: Iterates) -> bool:
    return bool(np.abs(one - other).max() <= SINGLE * max(_way(one), _way(other)))


def _simple(one: Case) -> Iterator[tuple[tuple[str, ...], Iterates]]:
    """One mistake, another method, rounds or agents in other places."""
    right, whole = one.iterates, Run.of(one)
    yield ("the first round given is round 1, and not the start",), _later(whole)
    for order in itertools.permutations(range(len(one.start))):
        moved = right[:, list(order)]
        yield (f"the agents are in another order: {', '.join(map(str, order))}",), moved
    for mistake in every(one):
        yield (mistake.said,), mistake.made(whole).iterates()
    for name in cases.METHODS:
        other = cases.case(name)
        if name != one.method and (other.weights == one.weights).all():
            yield (f"these are the iterates of {name}",), other.iterates


def _later(run: Run) -> Iterates:
    """Of rounds 1 to the last but one more."""
    longer = dataclasses.replace(run.case, rounds=run.case.rounds + 1)
    return dataclasses.replace(run, case=longer).iterates()[1:]


def _pairs(one: Case) -> Iterator[tuple[tuple[str, ...], Iterates]]:
    """Two mistakes at once."""
    for first, second in itertools.combinations(every(one), 2):
        both = second.made(first.made(Run.of(one)))
        yield (first.said, second.said), both.iterates()
