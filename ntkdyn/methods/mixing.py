"""Mixing: how the weights of a round act on vectors.

    Fixed         W, or that of the round where the graph changes, at an averaging rate gamma
    Periodic      any of them in every tau-th round only
    DRT           weights of the agents' own making, layer by layer (methods/trust.py)
    Merge         neurons are aligned before they are averaged (methods/merging.py)

`operator_of(W)` turns checked weights into what a compiled round applies: a dense product,
sums over neighbour lists where most weights are zero, whose cost grows with the links and not
with the square of the agents, or a cycle of dense products for a graph that changes.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array, Float, Int

from ntkdyn.data.batches import Batch
from ntkdyn.methods.updates import EVERYWHERE, check_count, check_share
from ntkdyn.spaces import Space
from ntkdyn.vectors import ByAgent, per_agent

SPARSE_FROM = 64
"""From how many agents on neighbour lists may pay."""

Round = Int[Array, ""] | int


class Dense(eqx.Module):
    """(W x)_i = sum_j W_ij x_j as one matrix product per leaf."""

    weights: Float[Array, "agents agents"]
    length: ClassVar[int] = 1
    """of the cycle that the weights go through"""

    def __call__(self, x: ByAgent) -> ByAgent:
        return x.map(functools.partial(weighted, self.weights))

    def at(self, round: Round) -> Dense:
        del round
        return self

    def matrix(self) -> Float[Array, "agents agents"]:
        """W."""
        return self.weights

    def matrices(self) -> Float[np.ndarray, "length agents agents"]:
        """W in every round of the cycle."""
        return np.asarray(self.matrix())[None]


class Sparse(eqx.Module):
    """(W x)_i = sum over the k-th agents that i hears from, one k at a time."""

    heard: Int[Array, "agents degree"]
    weights: Float[Array, "agents degree"]
    """zero where an agent hears from fewer than `degree`"""
    length: ClassVar[int] = 1

    def __call__(self, x: ByAgent) -> ByAgent:
        def heard(leaf: Array, k: int) -> Array:
            sent = leaf.at[self.heard[:, k]].get(mode="promise_in_bounds")
            return sent * per_agent(self.weights[:, k], leaf)

        slots = range(self.heard.shape[1])
        return x.map(lambda leaf: functools.reduce(operator.add, [heard(leaf, k) for k in slots]))

    def at(self, round: Round) -> Sparse:
        del round
        return self

    def matrix(self) -> Float[Array, "agents agents"]:
        """W."""
        agents = len(self.heard)
        nothing = jnp.zeros((agents, agents), self.weights.dtype)
        return nothing.at[jnp.arange(agents)[:, None], self.heard].add(self.weights)

    def matrices(self) -> Float[np.ndarray, "length agents agents"]:
        """W in every round of the cycle."""
        return np.asarray(self.matrix())[None]


class Cycle(eqx.Module):
    """W(t) = the (t modulo length)-th of a sequence."""

    weights: Float[Array, "length agents agents"]

    @property
    def length(self) -> int:
        return len(self.weights)

    def at(self, round: Round) -> Dense:
        return Dense(self.weights[jnp.asarray(round) % len(self.weights)])

    def matrices(self) -> Float[np.ndarray, "length agents agents"]:
        """W in every round of the cycle."""
        return np.asarray(self.weights)


class Plain(NamedTuple):
    """W applied to vectors of NumPy arrays, outside of compiled rounds."""

    weights: np.ndarray | scipy.sparse.csr_array

    @staticmethod
    def of(matrix: Float[np.ndarray, "agents agents"]) -> Plain:
        """Sparse where most weights are zero."""
        few = 4 * np.count_nonzero(matrix) < matrix.size
        return Plain(scipy.sparse.csr_array(matrix) if few else matrix)

    def __call__(self, x: ByAgent) -> ByAgent:
        return x.map(lambda leaf: self.weights @ leaf)

    def at(self, round: Round) -> Plain:
        del round
        return self

    def matrix(self) -> Float[np.ndarray, "agents agents"]:
        """W."""
        return self.weights if isinstance(self.weights, np.ndarray) else self.weights.toarray()


@jax.jit
def marked(x: ByAgent) -> ByAgent:
    """x; in a traced program the call is a mark (`exchange`)."""
    return x


class Marking:
    """Weights that mark whatever goes through them."""

    def __init__(self, weights: Operator) -> None:
        self.weights, self.used = weights, False

    def at(self, round: Round) -> Marking:
        self.weights = self.weights.at(round)
        return self

    def matrix(self) -> Float[Array, "agents agents"]:
        """W."""
        return self.weights.matrix()

    def __call__(self, x: ByAgent) -> ByAgent:
        self.used = True
        return self.weights(marked(x))


Operator = Dense | Sparse | Cycle | Plain | Marking


def weighted(weights: Float[Array, "*heard agents"], leaf: Array) -> Array:
    """sum_j W_ij leaf_j, never rounded to less than the leaf's own precision.

    Written as leaf^T W^T: XLA computes the tall product faster on a CPU than the wide one.
    """
    exact = jax.lax.Precision.HIGHEST
    columns = leaf.reshape(len(leaf), -1).T
    mixed = jnp.tensordot(columns, weights.astype(leaf.dtype).T, 1, precision=exact)
    return mixed.T.reshape(*weights.shape[:-1], *leaf.shape[1:])


def operator_of(
    matrices: Float[np.ndarray, "agents agents"] | Float[np.ndarray, "length agents agents"],
) -> Operator:
    """The cheapest of the three for these weights, in JAX's current precision."""
    if matrices.ndim == 3:
        return Cycle(jnp.asarray(matrices))
    agents, degree = len(matrices), int((matrices != 0).sum(axis=1).max())
    if agents < SPARSE_FROM or 4 * degree > agents:
        return Dense(jnp.asarray(matrices))
    heard = np.argsort(matrices == 0, axis=1, kind="stable")[:, :degree]
    return Sparse(jnp.asarray(heard), jnp.asarray(np.take_along_axis(matrices, heard, axis=1)))


class Links(eqx.Module):
    """Whom each agent hears from, itself apart, in slots: as many as the most that one hears."""

    heard: Int[Array, "agents degree"]
    there: Float[Array, "agents degree"]
    """1 where the slot is taken, 0 where the agent hears from fewer"""


def links_of(
    matrices: Float[np.ndarray, "agents agents"] | Float[np.ndarray, "length agents agents"],
) -> Links:
    """The links of the weights; of a sequence, those that occur in any of its rounds."""
    linked = matrices != 0 if matrices.ndim == 2 else (matrices != 0).any(axis=0)
    linked = linked & ~np.eye(len(linked), dtype=bool)
    degree = int(linked.sum(axis=1).max())
    heard = np.argsort(~linked, axis=1, kind="stable")[:, :degree]
    there = np.take_along_axis(linked, heard, axis=1)
    return Links(jnp.asarray(heard), jnp.asarray(there, jnp.zeros(()).dtype))


@dataclasses.dataclass(frozen=True, eq=False)
class Combination:
    """x -> x + gamma (W x - x) in the rounds that are `due`, x in all others.

    A function like any other, which also says what links must know of a round.
    """

    operator: Any
    """the weights of the round"""
    rate: float = 1.0
    round: Any = 0
    due: Any = True
    heard: Links | None = None
    """whom each agent hears from, where the scene knows"""
    around: Callable = lambda average: average
    """what is done to the averaging by whoever shares it out among devices"""

    def __call__(self, x: ByAgent) -> ByAgent:
        return where_due(self.due, self._combined, x)

    def _combined(self, x: ByAgent) -> ByAgent:
        average = self.around(self.operator)
        return average(x) if self.rate == 1 else x + self.rate * (average(x) - x)

    def matrix(self) -> Float[Array | np.ndarray, "agents agents"]:
        """(1 - gamma) I + gamma W."""
        matrix = self.operator.matrix()
        if self.rate == 1:
            return matrix
        identity = (np if isinstance(matrix, np.ndarray) else jnp).eye(len(matrix))
        return (1 - self.rate) * identity + self.rate * matrix


def where_due(due: Any, exchange: Callable, unchanged: Any) -> Any:
    """exchange(unchanged) in rounds that are due, traced ones too; else as it was."""
    if isinstance(due, bool):
        return exchange(unchanged) if due else unchanged
    # JAX hashes the branches, and one that holds traced weights cannot be.
    return jax.lax.cond(due, lambda now: exchange(now), lambda same: same, unchanged)


class Scene(Protocol):
    """What a mixing may look at beside the weights; `engine.Iteration` is one."""

    space: Space
    links: Links

    @property
    def everything(self) -> Batch:
        """Every agent's own training rows."""
        ...


@runtime_checkable
class Mixing(Protocol):
    """One way of combining; `bind` gives the `mix` of a round."""

    def bind(
        self, weights: Operator, round: Round = 0, scene: Any = None
    ) -> Callable[[ByAgent], ByAgent]:
        """x -> the combined x of that round."""
        ...


class BaseMixing(eqx.Module):
    """What all mixings have in common; `every` is the period of their exchanges."""

    affine: ClassVar[bool] = True
    """whether what is mixed depends linearly on what is sent"""
    view: ClassVar[str] = "outputs"
    """what it must see of a space, as in `problems.Problem`"""

    def check(self, method: str, task: Any, space: Space, rounds: int) -> None:
        """Refuse a task, space or number of rounds that it cannot work with."""

    @property
    def every(self) -> int:
        return 1

    @property
    def due(self) -> Sequence[int]:
        """The rounds of a period in which anything is exchanged."""
        return range(self.every)

    @property
    def rate(self) -> float:
        """The share gamma of the way to the average that is gone."""
        return 1.0

    @property
    def spaces(self) -> frozenset[str]:
        return EVERYWHERE


class Fixed(BaseMixing):
    """mix(x) = x + gamma (W x - x)."""

    gamma: float = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        check_share("averaging rate", self.gamma, one=True)

    @property
    def rate(self) -> float:
        return self.gamma

    def bind(
        self, weights: Operator, round: Round = 0, scene: Any = None
    ) -> Callable[[ByAgent], ByAgent]:
        heard = getattr(scene, "links", None)
        return Combination(weights.at(round), self.gamma, round, heard=heard)


class Periodic(BaseMixing):
    """mix(x) = that of `mixing` in rounds tau - 1, 2 tau - 1, ..., and x in all others."""

    mixing: Any
    tau: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        check_count("tau", self.tau)

    def check(self, method: str, task: Any, space: Space, rounds: int) -> None:
        self.mixing.check(method, task, space, rounds)

    @property
    def every(self) -> int:
        return math.lcm(self.tau, self.mixing.every)

    @property
    def due(self) -> Sequence[int]:
        inner = self.mixing
        exchanging = range(self.tau - 1, self.every, self.tau)
        return [round for round in exchanging if round % inner.every in inner.due]

    @property
    def rate(self) -> float:
        return self.mixing.rate

    @property
    def affine(self) -> bool:
        return self.mixing.affine

    @property
    def view(self) -> str:
        return self.mixing.view

    @property
    def spaces(self) -> frozenset[str]:
        return self.mixing.spaces

    def bind(
        self, weights: Operator, round: Round = 0, scene: Any = None
    ) -> Callable[[ByAgent], ByAgent]:
        mix, due = self.mixing.bind(weights, round, scene), (round + 1) % self.tau == 0
        if isinstance(mix, Combination) and mix.due is True:
            return dataclasses.replace(mix, due=due)
        return functools.partial(where_due, due, mix)
