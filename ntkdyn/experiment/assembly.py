"""From a spec to its parts: points, partition, network, problem, graph, method, system."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ntkdyn import data, dynamics, graphs, links, losses, methods, networks
from ntkdyn.engine import Progress
from ntkdyn.errors import InputError, check_kind
from ntkdyn.experiment.making import imported, link, made, network_of, paced
from ntkdyn.experiment.spec import (
    OF_FILES,
    OF_GRAPHS,
    READING,
    WITHOUT_TOPOLOGY,
    ChangesTable,
    DataTable,
    ShareOfLimit,
    Spec,
    check_belongs,
)
from ntkdyn.kernels import pytorch
from ntkdyn.problems import KernelProblem, Problem, outputs_for
from ntkdyn.system import System


@dataclass(frozen=True)
class Assembly:
    """What a spec describes: data, network, method, graph, each made once."""

    spec: Spec
    data_dir: Path | None = None
    """where the files of datasets are that do not ship with a library"""
    first: int = 0
    """so many rounds at the start are recorded, all of them, beside those of the spec"""

    @functools.cached_property
    def _points(self) -> data.Dataset:
        """All points of the spec, the public ones behind the test points."""
        points, altered = self._drawn_points(), self.spec.data.augment
        if altered is None:
            return points
        return data.augmented(points, altered, self.spec.network.image)

    def _drawn_points(self) -> data.Dataset:
        table, seed = self.spec.data, self._seed(self.spec.data.seed)
        test = table.test
        if table.public:
            if test is None or isinstance(test, float):
                raise InputError("data: beside public points, test must be a number of points")
            test += table.public
        if table.file is not None:
            return self._own_points(table, test, seed)
        for name in ("train", "test"):
            if not isinstance(getattr(table, name), int):
                raise InputError(f"data.{name} must be given, as a number of points")
        if odd := sorted({*OF_FILES} & set(table.model_dump(exclude_none=True))):
            raise InputError(f"data: {odd[0]} goes with a file, not with a dataset by name")
        name = table.name or "digits"
        return data.load(name, train=table.train, test=test, seed=seed, data_dir=self.data_dir)

    def _own_points(self, table: DataTable, test: int | float | None, seed: int) -> data.Dataset:
        """The points of the spec's file."""
        if table.name is not None:
            raise InputError("data: give a name or a file, one of the two")
        settings = table.model_dump(include={*OF_FILES}, exclude_none=True)
        if (other := settings.pop("test_file", None)) is not None:
            settings["test_source"] = self.spec.found(other, self.data_dir)
        source = self.spec.found(table.file, self.data_dir)
        return data.read(source, train=table.train, test=test, seed=seed, **settings)

    @functools.cached_property
    def partition(self) -> data.Partition:
        table, shares, points = self.spec.data, self.spec.partition, self._points
        if points.owner is not None and shares.by != "given":
            raise InputError(
                f"partition: {table.owner or 'owner'} says whose the points are, which "
                f'by = "{shares.by}" would not heed; leave either out'
            )
        tested = len(points.test_labels) - table.public
        return data.partition(
            dataclasses.replace(
                points,
                test_inputs=points.test_inputs[:tested],
                test_labels=points.test_labels[:tested],
            ),
            agents=shares.agents,
            by=shares.by,
            alpha=shares.alpha,
            primary_labels=shares.primary_labels,
            skew=shares.skew,
            min_points=shares.min_points,
            seed=self._seed(shares.seed),
        )

    @functools.cached_property
    def model(self) -> Any:
        """The model of one's own, if the spec names one."""
        name = self.spec.network.model
        made = name and pytorch.seeded(imported("network", name), self.spec.seed)
        if pytorch.is_module(made) and self.spec.network.own_starts:
            raise InputError("network: own_starts are for networks that are trained here")
        return made

    @functools.cached_property
    def network(self) -> networks.Network:
        table = self.spec.network
        columns = outputs_for(self.partition.data, losses.named(self.spec.loss))
        if table.model is not None:
            return network_of(table, self.model, columns * self.method.heads)
        settings = table.model_dump(exclude={"kind", "own_starts"}, exclude_none=True)
        make = networks.KINDS[table.kind]
        odd = sorted(set(settings) - set(inspect.signature(make).parameters))
        if odd:
            raise InputError(f"network: {odd[0]} is no setting of a network of kind {table.kind}")
        return make(outputs=columns * self.method.heads, **settings)

    @functools.cached_property
    def problem(self) -> Problem | KernelProblem:
        if pytorch.is_module(self.model):
            return KernelProblem.from_torch(self.model, self.partition, loss=self.spec.loss)
        return self.problem_with(self.network, self.spec.seed)

    def problem_with(self, network: networks.Network, seed: int) -> Problem:
        """The spec's data with that network, started from that seed."""
        spec = self.spec
        own = np.random.SeedSequence(seed).generate_state(self.partition.agents)
        return Problem(
            network,
            self.partition,
            loss=spec.loss,
            seed=[int(each) for each in own] if spec.network.own_starts else seed,
            public=self._points.test_inputs[-spec.data.public :] if spec.data.public else None,
        )

    @functools.cached_property
    def weights(self) -> graphs.Weights:
        changes, agents = self.spec.graph.changes, self._agents
        if changes is None:
            return self._fixed_weights
        if (changes.kind == "link_failures") != (changes.probability is not None):
            raise InputError("graph.changes: a probability goes with link_failures, and only there")
        if (changes.peers is not None) > (changes.kind in ("hyper_hypercube", "base")):
            raise InputError(
                "graph.changes: peers go with hyper_hypercube and base, and only there"
            )
        if (changes.share is not None) > (changes.kind == "equi_dynamic"):
            raise InputError("graph.changes: a share goes with equi_dynamic, and only there")
        drawn = {"length": changes.length, "seed": self._seed(changes.seed)}
        if changes.kind in WITHOUT_TOPOLOGY:
            if self.spec.graph.model_fields_set != {"changes"} or self.spec.graph.model_extra:
                raise InputError(f"graph.changes: {changes.kind} goes without other settings")
            return self._own_changes(changes, agents, drawn)
        if changes.kind == "random_matchings":
            return graphs.random_matchings(self._fixed_weights.graph, **drawn)
        return graphs.link_failures(self._fixed_weights, changes.probability, **drawn)

    def _own_changes(
        self, changes: ChangesTable, agents: int, drawn: dict[str, int]
    ) -> graphs.MixingSequence:
        if changes.kind == "equi_dynamic":
            share = {} if changes.share is None else {"share": changes.share}
            return graphs.equi_dynamic(agents, **drawn, **share)
        if changes.kind == "one_peer_exponential":
            return graphs.one_peer_exponential(agents)
        return getattr(graphs, changes.kind)(agents, changes.peers or 1)

    @functools.cached_property
    def _fixed_weights(self) -> graphs.MixingMatrix:
        table, agents = self.spec.graph, self._agents
        kinds = [kind for kind in OF_GRAPHS if getattr(table, kind) is not None]
        if len(kinds) != 1:
            raise InputError(
                "graph: give a topology or a matrix, one of the two, or a file in place of them"
            )
        settings = {name: getattr(table, name) for name in table.model_fields_set}
        settings = {name: value for name, value in settings.items() if value is not None}
        for name in sorted({*settings, *(table.model_extra or {})}):
            check_belongs(name, kinds[0])
        sums = "columns" if self.method.needs.columns else "rows"
        if table.matrix is not None:
            return graphs.mixing(table.matrix, agents=agents, sums=sums)
        if table.topology is not None:
            defaults = {"agents": agents, "seed": self.spec.seed}
            if table.topology == "d_cliques":
                defaults["counts"] = self.partition.counts
            own = settings.keys() & {"directed"}
            given = (table.model_extra or {}) | {name: settings[name] for name in own}
            return graphs.build(table.topology, table.weights, defaults, **given)
        reading = {name: settings[name] for name in READING if name in settings}
        graph = graphs.read(self.spec.found(table.file, self.data_dir), **reading)
        weights = graphs.weigh(graph, table.weights or graphs.RULES[0], sums)
        names = self.partition.agent_names
        return graphs.mixing(weights, agents=agents, sums=sums, names=names)

    @property
    def _agents(self) -> int:
        """How many agents there are, as the spec says or the data."""
        agents = self.spec.partition.agents
        return self.partition.agents if agents is None else agents

    @functools.cached_property
    def method(self) -> methods.Method:
        name, step = self.spec.method.name, self.spec.method.step_size
        step_size = methods.of_limit(step.of_limit) if isinstance(step, ShareOfLimit) else step
        settings = {"step_size": step_size} | (self.spec.method.model_extra or {})
        method = made("method", name, methods.METHODS, settings)
        check_kind(f"method {name}", method, methods.Method, "as `methods.dgd` gives")
        method = paced(method, self.spec.method)
        return links.over(method, *map(link, self.spec.link)) if self.spec.link else method

    @functools.cached_property
    def rounds(self) -> int:
        """How many there are, as the spec says or its epochs make of the points."""
        run = self.spec.run
        if run.epochs is None:
            return run.rounds
        drawn = self.partition.agents * run.batch_size
        return max(1, round(run.epochs * len(self.partition.owner) / drawn))

    @functools.cached_property
    def system(self) -> System:
        """The method on the graph, learning the problem."""
        size = self.spec.run.batch_size
        seed = None if size is None else self.spec.seed
        return System(self.problem, self.method, self.weights, self.spec.kernel, size, seed)

    @property
    def settled(self) -> System:
        """The same with its step size as a number."""
        return self.system.with_(method=self.stability.method, stability=self.stability)

    @property
    def stability(self) -> dynamics.Stability:
        """The step size as a number, and whether it is stable, where a kernel can tell."""
        return self.settle()

    def settle(self, progress: Progress | None = None) -> dynamics.Stability:
        """The `stability`, found once; `progress` shows the step sizes looked at for its limit."""
        found = vars(self)  # where cached properties are as well
        if "_settled" not in found:
            found["_settled"] = self._assessed(progress)
        return found["_settled"]

    def _assessed(self, progress: Progress | None) -> dynamics.Stability:
        method, spec = self.method, self.spec
        trained = isinstance(self.problem, Problem) and self.problem.unpredictable
        unknown = trained or spec.kernel == "implicit" or spec.network.own_starts
        if unknown or not method.at_largest.affine:
            return dynamics.Stability(dynamics.known_step(method), None, None)
        return dynamics.assess(self.system, progress)

    def _seed(self, own: int | None) -> int:
        return self.spec.seed if own is None else own
