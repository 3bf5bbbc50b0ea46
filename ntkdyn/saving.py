"""Keeping: what a record holds beside losses and distances, and the parameters it samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from ntkdyn import arrays
from ntkdyn.errors import InputError, check_flag, check_whole, is_real, is_whole, shown
from ntkdyn.kernels.structure import layer_names
from ntkdyn.processes import on_host
from ntkdyn.vectors import Vector

ALL_UP_TO = 2**26
"""Bytes of parameters in a record: seconds to write, and to compare."""

SAMPLED = 64
"""Entries of each tensor beyond; an estimate from as many is about a tenth off."""


class SaveOptions(NamedTuple):
    """What a record saves of a run beside its measures.

    Parameters are saved in the rounds that are named.

    Example:
        >>> few = nd.SaveOptions(outputs=False, record_every=5)
        >>> nd.predict(bare, dgd, W, 10, save=few)["round"].values.tolist()
        [0, 5, 10]
    """

    outputs: bool = True
    """the outputs of every agent at every point, in every recorded round"""
    parameter_rounds: Sequence[int] = ()
    parameter_agents: Sequence[int] | None = None
    """None: all agents"""
    per_tensor: int | None = None
    """how many entries of each weight and bias, drawn at random; None: all, or SAMPLED of each
    where all would take more than ALL_UP_TO bytes of the record"""
    seed: int = 0
    """draws them; the same seed draws the same entries in every space"""
    trust: bool = False
    """of a prediction: how far the real network at the predicted parameters is from its
    linearization there (`dynamics.trust`), with anchors that of the segment"""
    distances: bool = False
    """how far apart the parameters of every two agents are"""
    kernel: bool = False
    """kernel_drift |K_t - K_0| / |K_0| and label_alignment of every agent's own kernel, summed over
    outputs, between the training points, in every recorded round"""
    record_every: int | None = None
    """of a number of rounds, how often one is recorded; None: about a hundred times"""
    points: int | float | None = None
    """on how many training, public and test points each all is measured: a number of them, or a
    share up to 1.0; evenly among agents, and one of each at least. None: all. The record holds
    these points alone, and which they are, `row` (point)"""


def checked(save: SaveOptions, recorded: Sequence[int]) -> SaveOptions:
    """What is kept of a run that records these rounds; its own rounds ascending, each once."""
    for name in ("outputs", "trust", "distances", "kernel"):
        check_flag(f"save: {name}", getattr(save, name))
    if save.per_tensor is not None:
        check_whole("save: per_tensor", save.per_tensor, 1)
    rounds, agents = _whole("rounds", save.parameter_rounds), save.parameter_agents
    missing = sorted({*rounds} - {*recorded})
    if missing:
        raise InputError(f"save: parameters are asked of round {missing[0]}, which is not recorded")
    return save._replace(
        parameter_rounds=sorted({*rounds}),
        parameter_agents=agents if agents is None else _whole("agents", agents),
        seed=check_whole("save: seed", save.seed, 0),
    )


def check_points(save: SaveOptions) -> None:
    """Refuse points that are neither a number of them nor a share."""
    points = save.points
    share = is_real(points) and not is_whole(points) and 0 < points <= 1
    if not (points is None or share or (is_whole(points) and points > 0)):
        raise InputError(
            f"save: points must be a whole number from 1 on, or a share up to 1.0, got "
            f"{shown(points)}"
        )
    if points is not None and save.trust:
        raise InputError("save: trust is an error over all points; leave `points` out")


def _whole(what: str, values: Any) -> list[int]:
    """The rounds or agents that are listed."""
    array = arrays.plain(f"save: parameter_{what}", values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InputError(
            f"save: parameter_{what} must be a list of whole numbers, got {shown(values)}"
        )
    return array.astype(int).tolist()


class Sample(NamedTuple):
    """The entries of each parameter tensor that are kept."""

    origin: list[Array]
    """the tensors at the start, one for all agents or stacked"""
    entries: list[Int[np.ndarray, " kept"]]
    """per tensor, indices into its flattened form"""
    layers: list[str]
    """per tensor, the layer it belongs to"""
    agents: list[int]
    apart: bool = False
    """whether every agent has a start of its own"""

    def values(self, displacement: Vector) -> Float[np.ndarray, "agents parameters"]:
        """theta_0 + displacement at the kept entries of the kept agents."""
        moved = [
            on_host(leaf.reshape(leaf.shape[0], -1)[np.ix_(self.agents, entries)])
            for leaf, entries in zip(jax.tree.leaves(displacement), self.entries, strict=True)
        ]
        return self.start() + np.concatenate(moved, axis=1)

    def start(self) -> Float[np.ndarray, "*agents parameters"]:
        """theta_0 at the kept entries, of the kept agents where each has its own."""
        pairs = zip(self.origin, self.entries, strict=True)
        if not self.apart:
            kept = [np.asarray(leaf).reshape(-1)[entries] for leaf, entries in pairs]
            return np.concatenate(kept)
        kept = [
            on_host(leaf.reshape(len(leaf), -1))[np.ix_(self.agents, entries)]
            for leaf, entries in pairs
        ]
        return np.concatenate(kept, axis=1)

    def coordinates(self) -> dict[str, tuple[str, np.ndarray]]:
        """Per kept entry: its layer, tensor, index, and how many entries it stands for."""
        counts = [len(entries) for entries in self.entries]
        sizes = _sizes(self.origin, self.apart)
        stands = [size / max(n, 1) for size, n in zip(sizes, counts, strict=True)]
        columns = {
            "parameter_layer": np.repeat(self.layers, counts),
            "parameter_tensor": np.repeat(np.arange(len(counts)), counts),
            "parameter_entry": np.concatenate(self.entries),
            "parameter_weight": np.repeat(stands, counts),
        }
        return {name: ("parameter", column) for name, column in columns.items()}


def _sizes(leaves: list[Array], apart: bool) -> list[int]:
    """Entries of each tensor of one agent."""
    return [math.prod(leaf.shape[apart:]) for leaf in leaves]


def sample(save: SaveOptions, origin: PyTree, agents: int, *, apart: bool = False) -> Sample:
    """Draw the entries to keep of parameters shaped like `origin`, stacked where `apart`."""
    chosen = list(range(agents) if save.parameter_agents is None else save.parameter_agents)
    outside = [agent for agent in chosen if not 0 <= agent < agents]
    if outside:
        raise InputError(f"save: agent {outside[0]} is not one of the {agents}, numbered from 0")
    rng = np.random.default_rng(save.seed)
    leaves = jax.tree.leaves(origin)
    sizes = _sizes(leaves, apart)
    wanted = save.per_tensor
    if wanted is None:
        numbers = sum(sizes) * len(chosen) * len(save.parameter_rounds)
        wanted = SAMPLED if 8 * numbers > ALL_UP_TO else max(sizes, default=0)
    entries = [_drawn(size, wanted, rng) for size in sizes]
    return Sample(leaves, entries, layer_names(origin), chosen, apart)


def _drawn(size: int, wanted: int, rng: np.random.Generator) -> Int[np.ndarray, " kept"]:
    if wanted >= size:
        return np.arange(size)
    return np.sort(rng.choice(size, wanted, replace=False))


def parameter_variables(
    sample: Sample, rounds: Sequence[int], values: Sequence[Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The record's variables and coordinates for parameters kept at `rounds`."""
    dims = ("parameter_round", "parameter_agent", "parameter")
    variables = {
        "parameters": (dims, np.stack(values)),
        "initial_parameters": (dims[2 - sample.apart :], sample.start()),
    }
    coordinates = {"parameter_round": list(rounds), "parameter_agent": sample.agents}
    return variables, coordinates | sample.coordinates()
