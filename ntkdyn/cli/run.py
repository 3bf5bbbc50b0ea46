"""Predict, train and compare what a spec describes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ntkdyn.cli.application import app
from ntkdyn.cli.conduct import Machine, Place, Saving, conduct, folder, one_side, seeded
from ntkdyn.cli.options import (
    DataDir,
    Devices,
    Memory,
    Minutes,
    Nulls,
    OfSpec,
    Open,
    Out,
    Overwrite,
    Quiet,
    Resume,
    Rounds,
    Seed,
    Spec,
)
from ntkdyn.errors import InputError


@app.command()
def demo(
    out: Out = Path("ntkdyn-demo"),
    seed: Seed = None,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
    show: Open = None,
    spec: Annotated[bool, typer.Option("--spec", help="Print the demo's spec and stop.")] = False,
) -> None:
    """Predict and train eight agents on a ring that learn digits; lay one over the other."""
    from ntkdyn import experiment

    asked = seeded(experiment.demo(), seed)
    if spec:
        print(asked.text(), end="")
        return
    conduct(experiment.Experiment(asked), Place(out, overwrite), quiet, show)


@app.command()
def run(
    spec: Spec,
    out: OfSpec = None,
    seed: Seed = None,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
    show: Open = False,
    predict_only: Annotated[bool, typer.Option(help="Train nothing.")] = False,
    train_only: Annotated[bool, typer.Option(help="Predict nothing.")] = False,
    account: Annotated[
        bool, typer.Option("--account", help="Split the gaps by source; trains once more.")
    ] = False,
    nulls: Nulls = True,
    resume: Resume = False,
    checkpoint_minutes: Minutes = 5.0,
    checkpoint_rounds: Rounds = None,
    devices: Devices = None,
    memory: Memory = None,
    data_dir: DataDir = None,
) -> None:
    """Predict, train and compare what a spec describes."""
    from ntkdyn import experiment

    if predict_only and train_only:
        raise InputError("--predict-only and --train-only: give one of the two, or neither")
    if account and (predict_only or train_only):
        raise InputError("--account: needs both sides, so neither --predict-only nor --train-only")
    saving = Saving(resume, checkpoint_minutes, checkpoint_rounds)
    machine = Machine(devices, memory)
    only = "--predict-only" if predict_only else "--train-only" if train_only else None
    odd = saving.given() + machine.given() if predict_only else []
    odd += ["--open"] if only and show else []
    odd += ["--no-nulls"] if only and not nulls else []
    if odd:
        raise InputError(f"{odd[0]}: does not apply with {only}; leave it out")
    work = experiment.Experiment(seeded(experiment.load(spec), seed), data_dir)
    place = Place(folder(spec, out), overwrite)
    if only:
        side = "predict" if predict_only else "train"
        one_side(work, place, quiet, side, saving, machine)
    else:
        conduct(work, place, quiet, show, saving, machine, account, nulls)


@app.command()
def predict(
    spec: Spec,
    out: OfSpec = None,
    seed: Seed = None,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
    data_dir: DataDir = None,
) -> None:
    """Write OUT/predicted.nc: every agent's errors as the theory has them."""
    from ntkdyn import experiment

    work = experiment.Experiment(seeded(experiment.load(spec), seed), data_dir)
    one_side(work, Place(folder(spec, out), overwrite), quiet, "predict")


@app.command()
def train(
    spec: Spec,
    out: OfSpec = None,
    seed: Seed = None,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
    resume: Resume = False,
    checkpoint_minutes: Minutes = 5.0,
    checkpoint_rounds: Rounds = None,
    devices: Devices = None,
    memory: Memory = None,
    data_dir: DataDir = None,
) -> None:
    """Write OUT/observed.nc: every agent's errors on real networks."""
    from ntkdyn import experiment

    work = experiment.Experiment(seeded(experiment.load(spec), seed), data_dir)
    saving = Saving(resume, checkpoint_minutes, checkpoint_rounds)
    machine = Machine(devices, memory)
    one_side(work, Place(folder(spec, out), overwrite), quiet, "train", saving, machine)
