"""A spec at work: predicted, trained, held against bounds and nulls, swept."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from ntkdyn import dynamics, kernels, records, validation
from ntkdyn.checkpoints import Checkpoints, flat
from ntkdyn.dynamics import certificate
from ntkdyn.engine import Progress
from ntkdyn.errors import InputError
from ntkdyn.experiment.assembly import Assembly
from ntkdyn.kernels import pytorch
from ntkdyn.records import Record
from ntkdyn.runs import plan, recorded_rounds
from ntkdyn.saving import SaveOptions
from ntkdyn.theory import learning_curves, noisy, table, theorems
from ntkdyn.theory.bounds import Case


class Experiment(Assembly):
    """A spec at work; what two steps share is computed once.

    Example:
        >>> work.system.weights.agents, work.predict()["train_loss"].dims
        (3, ('round', 'agent'))
    """

    def check(self, *, trained: bool = False) -> None:
        """Refuse a run that does not go together, or has no room, before its kernel is computed."""
        if trained and pytorch.is_module(self.model):
            raise InputError(
                f"network: {self.spec.network.model} is a module of PyTorch's, which is predicted "
                f"here (`ntkdyn predict`) and trained by its own code; hold its log against the "
                f"prediction with `ntkdyn compare`"
            )
        plan(self.system, **self._recorded())
        if self.certifies:
            certificate.check_provable(self.system)

    @property
    def certifies(self) -> bool:
        """Whether a bound of the prediction's error is to be proven."""
        return self.spec.run.certify is not None and self.spec.run.certify is not False

    def predict(self, progress: Progress | None = None, proving: Progress | None = None) -> Record:
        """What the spec's run should show; and, if it is to be proven, how far off it can be."""
        run = self.spec.run
        record = self._run(
            dynamics.predict,
            progress,
            trust=run.trust,
            anchors=run.anchors,
            corrections=run.corrections,
        )
        return certificate.bounded(record, self._proven(proving)) if self.certifies else record

    def _proven(self, progress: Progress | None) -> Record:
        """What `certify` says of the spec's run."""
        self.check()
        asked = self.spec.run.certify
        sweeps = {} if asked is True else {"corrections": asked}
        return dynamics.certify(self.settled, **self._recorded(), **sweeps, progress=progress)

    def train(
        self,
        progress: Progress | None = None,
        checkpoints: Checkpoints | None = None,
        devices: int | None = None,
        memory: str | None = None,
    ) -> Record:
        """What the spec's run does show, on the first `devices`, in so much `memory` of each."""
        self.check(trained=True)
        chosen = None if devices is None else first_devices(devices)
        return self._run(
            validation.train,
            progress,
            checkpoints=checkpoints,
            precision=self.spec.run.precision,
            resources=validation.Resources(chosen, memory),
        )

    def checkpoints(
        self, folder: Path, *, resume: bool, minutes: float, rounds: int | None
    ) -> Checkpoints:
        """Where the training saves itself, beside the records in `folder`."""
        return Checkpoints(
            folder / "checkpoints",
            resume=resume,
            minutes=minutes,
            rounds=rounds,
            settings=flat(self.spec.model_dump()),
        )

    def finished(self, path: Path) -> Record | None:
        """The record at `path`, if it is there and of this very spec."""
        record = records.read(path) if path.is_file() else None
        return (
            record if record is not None and record.attrs.get("spec") == self.spec.text() else None
        )

    def kernel(
        self,
        form: str,
        memory: str | None,
        file: Path,
        *,
        double: bool = False,
        progress: Progress | None = None,
    ) -> kernels.KernelPlan:
        """Write the empirical kernel between all training points to `file`, tile by tile."""
        self.check(trained=True)
        problem = self.problem
        return kernels.compute(
            problem.network.apply,
            problem.start,
            problem.inputs[: problem.task.train],
            form=int(form) if re.fullmatch("[0-9]{1,9}", form) else form,
            options=kernels.ComputeOptions(
                dtype="float64" if double else "float32", memory=memory, file=file
            ),
            progress=progress,
        ).plan

    def account(
        self, predicted: Record, observed: Record, progress: Progress | None = None
    ) -> Record:
        """The gap between the two sides of the spec's run, by source."""
        table, runs = self.spec.run, {"observed": observed}
        if self.spec.kernel == "empirical" and table.anchors is None and table.corrections is None:
            runs["linearization"] = predicted
        return validation.account(
            self.settled,
            **self._recorded(),
            precision=table.precision,
            runs=runs,
            progress=progress,
        )

    def nulls(
        self, predicted: Record, observed: Record, progress: Progress | None = None
    ) -> Record:
        """How far the spec's run is from predictions of what was not run."""
        return validation.nulls(
            self.settled,
            observed,
            anchors=predicted["anchor"].values if "anchor" in predicted.coords else None,
            corrections=self.spec.run.corrections,
            progress=progress,
        )

    @functools.cached_property
    def case(self) -> Case:
        """The linearized problem, the method and the graph, for theorems."""
        return theorems.case(self.settled)

    def bounds(
        self,
        predicted: Record,
        observed: Record | None = None,
        progress: Progress | None = None,
    ) -> list[table.Row]:
        """Every bound about the method, held against both sides of the run.

        With minibatches also those on expectations, where these can be followed exactly and within
        minutes.
        """
        found = table.rows(self.case, predicted, observed)
        batch = self.spec.run.batch_size
        promised = noisy.bounds_of(self.case, batch) if batch else []
        rounds = [int(each) for each in predicted["round"].values]
        if not promised or not noisy.followable(self.case, rounds[-1]):
            return found
        known = noisy.expected(
            self.problem,
            self.case,
            rounds,
            batch_size=batch,
            kernel=self.spec.kernel,
            progress=progress,
        )
        return found + [table.Row(bound.check(known), None) for bound in promised]

    def learning_curve(self, noise: float = 0.0, what: str = "losses") -> Record:
        """Test losses in the mean over all draws of as many points, all the spec's being the pool.

        `what` is one of `learning_curves.PLANS`: these losses, or what follows from them.
        Agents draw with replacement and losses are means over the pool; the kernel is that of
        infinite width, the targets are less the network's start. `noise` is that of labels drawn.
        """
        spec, problem = self.spec, self.problem
        for odd, known in (
            (spec.loss != "mse", "the loss mse"),
            (spec.run.batch_size is not None, "all points in each round, no batch_size"),
            (spec.network.own_starts or problem.task.public, "one start and no public points"),
        ):
            if odd:
                raise InputError(f"learning curve: is known for {known} only")
        kernel = kernels.infinite.compute(self.network.kernel, problem.inputs).values
        modes = learning_curves.spectrum_of(kernel, problem.task.targets - problem.initial)
        rounds = recorded_rounds(self.rounds, spec.run.record_every)
        record = learning_curves.PLANS[what](
            *modes, self.settled.method, self.weights, problem.task.counts, rounds, noise=noise
        )
        return record.assign_attrs(title=spec.title, seed=spec.seed, spec=spec.text())

    def _recorded(self, *, trust: bool = False) -> dict[str, Any]:
        """Which rounds are recorded, and what of them."""
        table = self.spec.run
        rounds, every = self.rounds, table.record_every
        if self.first:
            listed = {*recorded_rounds(rounds, every), *range(min(self.first, rounds) + 1)}
            rounds, every = sorted(listed), None
        saved = SaveOptions(
            parameter_rounds=table.parameter_rounds,
            trust=trust,
            record_every=every,
            points=table.points,
        )
        return {"rounds": rounds, "save": saved}

    def _run(
        self,
        run: Callable[..., Record],
        progress: Progress | None,
        trust: bool = False,
        **more: Any,
    ) -> Record:
        record = run(self.settled, **self._recorded(trust=trust), progress=progress, **more)
        return record.assign_attrs(
            title=self.spec.title,
            seed=self.spec.seed,
            spec=self.spec.text(),
            network=self.problem.name,
        )


def first_devices(devices: int) -> list[jax.Device]:
    """So many of the devices that JAX sees."""
    there = jax.devices()
    if not 1 <= devices <= len(there):
        raise InputError(f"devices: must be from 1 to the {len(there)} there are, got {devices}")
    return there[:devices]
