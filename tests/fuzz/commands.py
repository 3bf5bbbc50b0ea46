"""Doors of the command line: commands, options and specs, called in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import tomli_w

from fuzz import doors, files
from fuzz.harness import Door, Wrong
from fuzz.inputs import TEXTS, Draw
from ntkdyn import cli, records
from ntkdyn.errors import InputError

ODD = [*(each for each in TEXTS if each not in ("\ud800", "\x00")), "-5", "1e9", "--", "--nonsense"]
"""what no operating system refuses to pass on"""


TINY = """
seed = 3
[network]
widths = [4]
[data]
name = "digits"
train = 24
test = 8
[partition]
agents = 4
[graph]
topology = "ring"
[method]
name = "dgd"
step_size = 0.05
[run]
rounds = 2
record_every = 1
parameter_rounds = [2]
"""


def _run(arguments: list[str]) -> None:
    """Call the command line; what it refuses with exit code 2 is a refusal."""
    try:
        cli.app(arguments)
    except SystemExit as left:
        if left.code == 2:
            raise InputError("exit code 2") from None
        if left.code:
            raise Wrong(f"exit code {left.code}") from None


def _odd(draw: Draw) -> str:
    return ODD[draw.integers(len(ODD))]


def _with_one_odd(draw: Draw, arguments: list[str]) -> list[str]:
    at = int(draw.integers(len(arguments)))
    ways: list[Callable[[], list[str]]] = [
        lambda: [*arguments[:at], _odd(draw), *arguments[at + 1 :]],
        lambda: arguments[:at] + arguments[at + 1 :],
        lambda: [*arguments, _odd(draw)],
        lambda: [*arguments, arguments[at]],
    ]
    return ways[draw.integers(len(ways))]()


def _prepared(folder: Path) -> Path:
    """A folder with a spec and both sides of a run."""
    here = folder / "prepared"
    if not here.is_dir():
        here.mkdir()
        for name, side in zip(("predicted", "observed"), doors.sides(), strict=True):
            records.write(side, here / f"{name}.nc")
        (here / "spec.toml").write_text(TINY)
    return here


def light(draw: Draw, folder: Path) -> None:
    """Commands that print, compare or draw."""
    here = _prepared(folder)
    predicted, observed = str(here / "predicted.nc"), str(here / "observed.nc")
    commands = [
        ["specs", "mnist-ring"],
        ["methods"],
        ["papers", "list"],
        ["figure", "--list"],
        ["figure", "consensus", "--record", predicted, "--out", str(folder / "f.png")],
        ["compare", predicted, observed, "--out", str(folder / "compared"), "--quiet"],
        ["compare", predicted, str(here / "spec.toml"), "--out", str(folder / "compared")],
    ]
    shares = [4, 2, 2, 2, 1, 1, 3]
    at = draw.choice(len(commands), p=[share / sum(shares) for share in shares])
    _run(_with_one_odd(draw, commands[at]))


def with_specs(draw: Draw, folder: Path) -> None:
    """Commands that run what a spec says, with the spec or the options odd."""
    here = _prepared(folder)
    spec, out = folder / "spec.toml", str(folder / "out")
    commands = [
        ["predict", str(spec), "--out", out, "--seed", "3", "--quiet"],
        ["run", str(spec), "--out", out, "--quiet", "--memory", "1 GB", "--no-open"],
        ["train", str(spec), "--out", out, "--quiet", "--checkpoint-rounds", "2"],
        ["kernel", str(spec), "--out", str(folder / "K.h5"), "--form", "trace", "--quiet"],
        ["sweep", str(spec), "--values", "4,8", "--starts", "2", "--out", out, "--quiet"],
        ["bounds", str(spec), "--record", str(here / "predicted.nc"), "--no-train", "--quiet"],
    ]
    arguments = commands[draw.integers(len(commands))]
    if draw.random() < 0.5:
        spec.write_text(tomli_w.dumps(_short(files.changed_spec(draw, TINY))), "utf-8")
    else:
        spec.write_text(TINY)
        arguments = _with_one_odd(draw, arguments)
    _run(arguments)


def _short(spec: dict) -> dict:
    """The spec without so many rounds that it would be right and long."""
    rounds = spec.get("run", {})
    if isinstance(rounds, dict) and isinstance(rounds.get("rounds"), int):
        rounds["rounds"] = min(rounds["rounds"], 4)
    return spec


DOORS = [
    Door("command line", light, 8),
    Door("command line, with specs", with_specs, 3),
]
