"""`ntkdyn bench NAME`: one table, or one JSON object; every benchmark is a command here."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(help="Measure ntkdyn against its peers, on this machine.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Small = Annotated[bool, typer.Option("--small", help="Small sizes: a test of the benchmark.")]

Images = Annotated[bool, typer.Option("--images", help="LeNet-5 in place of an MLP.")]


@app.callback()
def bench() -> None:
    """Measure ntkdyn against its peers, on this machine."""


@app.command()
def kernel(as_json: Json = False, small: Small = False) -> None:
    """Empirical kernels: speed against neural-tangents and vmap(jacrev), rate, memory."""
    from ntkdyn.bench import kernel as benchmark

    measured = benchmark.measure(benchmark.SMALL if small else benchmark.FULL)
    print(json.dumps(measured, indent=1)) if as_json else _print(measured)


@app.command()
def dynamics(as_json: Json = False, small: Small = False) -> None:
    """Predictions: long horizons, sparse graphs, flows, and against training."""
    from ntkdyn.bench import dynamics as benchmark

    measured = benchmark.measure(benchmark.SMALL if small else benchmark.FULL)
    print(json.dumps(measured, indent=1)) if as_json else _print(measured)


@app.command()
def train(as_json: Json = False, small: Small = False, images: Images = False) -> None:
    """Training: rounds per second against a plain PyTorch loop over the agents."""
    from ntkdyn.bench import train as benchmark

    plain = benchmark.SMALL if small else benchmark.FULL
    measured = benchmark.measure(benchmark.IMAGES[small] if images else plain)
    print(json.dumps(measured, indent=1)) if as_json else _print(measured)


def _print(measured: dict) -> None:
    table = Table("case", "", "ours", "theirs", "ratio", "difference", title=measured["title"])
    for each in measured["comparisons"]:
        difference = each.get("relative_difference")
        table.add_row(
            each["case"],
            each["against"],
            f"{each['ours']:.4g} s",
            f"{each['theirs']:.4g} s",
            f"{each['ratio']:.3g}",
            "" if difference is None else f"{difference:.1e}",
        )
    console = Console(width=140)
    console.print(table)
    for name, values in measured["figures"].items():
        listed = ", ".join(f"{key} {_short(value)}" for key, value in values.items())
        console.print(f"{name}: {listed}", highlight=False)
    console.print(measured["machine"], highlight=False)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
