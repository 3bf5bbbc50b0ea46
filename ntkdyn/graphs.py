"""Graphs, mixing matrices, and what their spectra say.

    topology (who is linked)  x  weights (how much each link counts)  =  mixing matrix W

A ring with Metropolis weights is `metropolis(ring(8))`; half as eager, `lazy(metropolis(ring(8)))`;
a matrix of one's own, checked, `mixing(W)`. Row i of W holds the weights that agent i puts on the
agents it hears from. Graphs are networkx graphs; an arc j -> i of a directed one means that j
sends to i, so that W[i, j] > 0.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import networkx as nx
import numpy as np
import scipy.sparse as sparse
import scipy.sparse.linalg
from jaxtyping import Complex, Float

from ntkdyn.errors import InputError, check_whole, is_real, is_whole, unknown

LANCZOS_FROM = 512
"""From how many agents on the outer eigenvalues of a symmetric W are found without the others."""

ROUNDING = 1e-9
"""How far a row or column sum of a given W may be from one."""


# --- topologies ---------------------------------------------------------------------------


def ring(agents: int) -> nx.Graph:
    """i is linked to i - 1 and i + 1, modulo `agents`."""
    _at_least(agents, 1, "ring")
    return nx.cycle_graph(agents) if agents > 2 else nx.path_graph(agents)


def path(agents: int) -> nx.Graph:
    """i is linked to i + 1; the two ends have one neighbour."""
    return nx.path_graph(_at_least(agents, 1, "path"))


def complete(agents: int) -> nx.Graph:
    """Everybody is linked to everybody."""
    return nx.complete_graph(_at_least(agents, 1, "complete"))


def star(agents: int) -> nx.Graph:
    """Agent 0 is linked to all the others, which have no other link."""
    return nx.star_graph(_at_least(agents, 2, "star") - 1)


def torus(rows: int, columns: int) -> nx.Graph:
    """A grid whose opposite edges are joined: (r, c) is linked to (r +- 1, c) and (r, c +- 1)."""
    _at_least(rows, 2, "torus", "rows")
    _at_least(columns, 2, "torus", "columns")
    grid = nx.grid_2d_graph(rows, columns, periodic=True)
    return nx.convert_node_labels_to_integers(grid, ordering="sorted")


def hypercube(dimension: int) -> nx.Graph:
    """2^dimension agents; two are linked where their binary numbers differ in one digit."""
    cube = nx.hypercube_graph(_at_least(dimension, 1, "hypercube", "dimension"))
    return nx.convert_node_labels_to_integers(cube, ordering="sorted")


def exponential(agents: int) -> nx.Graph:
    """i is linked to i +- 2^k modulo `agents`, for every 2^k < agents."""
    return nx.Graph(directed_exponential(agents))


def petersen() -> nx.Graph:
    """The Petersen graph: 10 agents, 3 neighbours each, any two at most two links apart."""
    return nx.petersen_graph()


def random_regular(agents: int, degree: int, *, seed: int) -> nx.Graph:
    """A connected graph drawn uniformly from those in which everybody has `degree` neighbours."""
    _at_least(agents, 1, "random_regular")
    _at_least(degree, 1, "random_regular", "degree")
    if degree >= agents or agents * degree % 2:
        raise InputError(
            f"random_regular: degree must be below agents with an even product, "
            f"got degree {degree} and {agents} agents"
        )
    return _first_connected(
        lambda rng: nx.random_regular_graph(degree, agents, seed=rng), seed, "random_regular"
    )


def erdos_renyi(agents: int, probability: float, *, seed: int) -> nx.Graph:
    """Each pair is linked with `probability`, drawn anew until the graph is connected."""
    if not is_real(probability) or not 0 < probability <= 1:
        raise InputError(
            f"erdos_renyi: probability must be a number in (0, 1], got {probability!r}"
        )
    _at_least(agents, 1, "erdos_renyi")
    return _first_connected(
        lambda rng: nx.gnp_random_graph(agents, probability, seed=rng), seed, "erdos_renyi"
    )


def directed_ring(agents: int) -> nx.DiGraph:
    """i hears from i - 1 only, modulo `agents`."""
    _at_least(agents, 2, "directed_ring")
    return nx.DiGraph((i, (i + 1) % agents) for i in range(agents))


def directed_exponential(agents: int) -> nx.DiGraph:
    """i hears from i - 2^k modulo `agents`, for every 2^k < agents."""
    hops = [2**k for k in range(_at_least(agents, 2, "exponential").bit_length()) if 2**k < agents]
    return nx.DiGraph((i, (i + hop) % agents) for i in range(agents) for hop in hops)


def circulant(agents: int, hops: Sequence[int] = (1, 4)) -> nx.Graph:
    """i is linked to i +- hop modulo `agents`, for every hop: the "torus" of CCL's code."""
    _at_least(agents, 3, "circulant")
    given = list(hops) if isinstance(hops, Iterable) else []
    if not given or any(not _is_index(hop) or not 1 <= hop < agents for hop in given):
        raise InputError(
            f"circulant: hops must be a list of whole numbers from 1 to {agents - 1}, got {hops!r}"
        )
    return nx.circulant_graph(agents, given)


def dyck() -> nx.Graph:
    """The Dyck graph: 32 agents, 3 neighbours each, every circle at least six links long.

    CCL's code calls another graph of 32 agents with 3 neighbours each by this name: it is not
    isomorphic to this one, and its spectral gap with uniform weights is 0.146, here 0.191.
    """
    return nx.LCF_graph(32, [5, -5, 13, -13], 8)


def two_hubs(agents: int) -> nx.Graph:
    """Agents 0 and 1 are each linked to all others, which have no other link (DIMAT's code)."""
    _at_least(agents, 3, "two_hubs")
    return nx.complete_bipartite_graph(2, agents - 2)


def davis() -> nx.Graph:
    """Davis' social network: 18 women and the 14 events they came to, 32 agents in all."""
    return nx.convert_node_labels_to_integers(nx.davis_southern_women_graph(), ordering="default")


def from_edges(edges: Iterable[Sequence[int]], agents: int | None = None) -> nx.Graph:
    """The graph with these links; agents are numbered from 0 to the largest number named."""
    if not isinstance(edges, Iterable):
        raise InputError(f"edges: must be a list of pairs of agent numbers, got {edges!r}")
    pairs = [_pair(edge) for edge in edges]
    if agents is None:
        agents = 1 + max(map(max, pairs), default=0)
    graph = nx.empty_graph(_at_least(agents, 1, "from_edges"))
    if any(max(pair) >= agents for pair in pairs):
        raise InputError(f"edges: an edge names an agent beyond the {agents} there are")
    graph.add_edges_from((i, j) for i, j in pairs if i != j)
    return graph


def _pair(edge: Any) -> tuple[int, int]:
    ends = tuple(edge) if isinstance(edge, Iterable) else ()
    if len(ends) != 2 or not all(_is_index(end) for end in ends):
        raise InputError(f"edges: each must be a pair of agent numbers from 0 on, got {edge!r}")
    return ends


TOPOLOGIES: dict[str, Callable[..., nx.Graph]] = {
    build.__name__: build
    for build in (
        ring, path, complete, star, torus, hypercube, exponential, petersen, random_regular,
        erdos_renyi, directed_ring, directed_exponential, circulant, dyck, two_hubs,
        davis, from_edges,
    )
}  # fmt: skip


# --- mixing matrices ----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Mixing:
    """A checked mixing matrix W: non-negative, rows summing to one, connected.

    (Columns instead of rows where it comes from `push` or was asked for with sums="columns".)

    `eigenvalues` are sorted from the largest modulus down; `second_largest_modulus` is the
    asymptotic factor by which disagreement shrinks per round, `contraction` = |W - 11'/m|_2 the
    factor that holds at every round (the two agree for symmetric W), `spectral_gap` one minus
    the former, `smallest_eigenvalue` the smallest real part.
    """

    matrix: Float[np.ndarray, "agents agents"]
    name: str
    sums: str = "rows"
    """the "rows" or "columns" of W that were asked to sum to one"""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """W itself, so that NumPy takes a `Mixing` wherever it takes a matrix."""
        return np.array(self.matrix, dtype=dtype)

    @property
    def agents(self) -> int:
        return len(self.matrix)

    @property
    def rounds(self) -> tuple[Mixing, ...]:
        """The one matrix of every round."""
        return (self,)

    @functools.cached_property
    def symmetric(self) -> bool:
        return bool(np.abs(self.matrix - self.matrix.T).max() <= ROUNDING)

    @property
    def least_symmetric(self) -> tuple[int, int]:
        """Where W differs most from its transpose."""
        apart = np.abs(self.matrix - self.matrix.T)
        i, j = np.unravel_index(apart.argmax(), apart.shape)
        return int(i), int(j)

    @functools.cached_property
    def doubly_stochastic(self) -> bool:
        sums = [self.matrix.sum(axis=axis) for axis in (0, 1)]
        return bool(np.abs(np.stack(sums) - 1).max() <= ROUNDING)

    @functools.cached_property
    def eigenvalues(self) -> Float[np.ndarray, " agents"] | Complex[np.ndarray, " agents"]:
        values = (
            np.linalg.eigvalsh(self.matrix) if self.symmetric else np.linalg.eigvals(self.matrix)
        )
        return values[np.argsort(-np.abs(values), kind="stable")]

    @functools.cached_property
    def second_largest_modulus(self) -> float:
        if self._by_lanczos:
            largest = self._outer("LA", 2).min()
            return float(max(largest, -self.smallest_eigenvalue))
        return float(np.abs(self.eigenvalues[1])) if self.agents > 1 else 0.0

    @property
    def spectral_gap(self) -> float:
        return 1 - self.second_largest_modulus

    @functools.cached_property
    def smallest_eigenvalue(self) -> float:
        if self._by_lanczos:
            return float(self._outer("SA", 1)[0])
        return float(self.eigenvalues.real.min())

    @property
    def _by_lanczos(self) -> bool:
        """Whether all eigenvalues would take long and the outer ones alone do not."""
        return self.symmetric and self.agents > LANCZOS_FROM

    def _outer(self, which: str, count: int) -> Float[np.ndarray, " count"]:
        return scipy.sparse.linalg.eigsh(
            sparse.csr_matrix(self.matrix),
            count,
            which=which,
            v0=np.random.default_rng(0).standard_normal(self.agents),
            return_eigenvectors=False,
        )

    @functools.cached_property
    def contraction(self) -> float:
        return float(np.linalg.norm(self.matrix - 1 / self.agents, 2))

    @property
    def graph(self) -> nx.Graph:
        """Who hears from whom: undirected where the zeros of W are symmetric."""
        links = self.matrix > 0
        np.fill_diagonal(links, False)
        undirected = (links == links.T).all()
        return nx.from_numpy_array(links.T, create_using=nx.Graph if undirected else nx.DiGraph)


@dataclass(frozen=True, eq=False)
class MixingSequence:
    """Weights that change: the matrix of round t is the (t modulo length)-th of `rounds`.

    Each is checked, but connected need be only their union. As data it is the same for prediction
    and training. `contraction` is |W_length ... W_1 - 11'/m|_2, the factor of one whole cycle, and
    `spectral_gap` one minus its root, the mean factor of a round.
    """

    rounds: tuple[Mixing, ...]
    name: str

    def __post_init__(self) -> None:
        if not self.rounds or len({each.agents for each in self.rounds}) != 1:
            raise InputError("mixing sequence: must hold matrices for one number of agents")
        _check_connected(self.matrix)

    @property
    def agents(self) -> int:
        return self.rounds[0].agents

    @functools.cached_property
    def matrix(self) -> Float[np.ndarray, "agents agents"]:
        """The mean of W over a cycle."""
        return self.matrices.mean(axis=0)

    @property
    def matrices(self) -> Float[np.ndarray, "length agents agents"]:
        return np.stack([each.matrix for each in self.rounds])

    @functools.cached_property
    def contraction(self) -> float:
        product = functools.reduce(lambda done, each: each @ done, self.matrices)
        return float(np.linalg.norm(product - 1 / self.agents, 2))

    @property
    def spectral_gap(self) -> float:
        return 1 - self.contraction ** (1 / len(self.rounds))


Weights = Mixing | MixingSequence


def mixing(
    weights: Any, *, name: str = "given", agents: int | None = None, sums: str = "rows"
) -> Mixing | MixingSequence:
    """W as given, checked: square, finite, non-negative, rows summing to one, connected.

    A list of matrices, or an array (length, agents, agents), is a sequence, gone through again and
    again. A `Mixing` or `MixingSequence` passes through; with `agents`, any must be for that many.
    With `sums` "columns" it is the columns that must sum to one, as push-sum has it.
    """
    if isinstance(weights, (Mixing, MixingSequence)):
        checked = weights
    elif _is_sequence(weights):
        parts = tuple(_single(_as_matrix(each), name, sums) for each in weights)
        checked = MixingSequence(parts, name)
    else:
        checked = _checked(_as_matrix(weights), name, sums)
    if agents is not None and checked.agents != agents:
        raise InputError(f"mixing matrix: is for {checked.agents} agents, the problem has {agents}")
    return checked


def _is_sequence(weights: Any) -> bool:
    if sparse.issparse(weights) or isinstance(weights, str):
        return False
    if isinstance(weights, (list, tuple)):
        return bool(weights) and all(isinstance(e, Mixing) or np.ndim(e) == 2 for e in weights)
    return np.ndim(weights) == 3


def _single(matrix: Float[np.ndarray, "agents agents"], name: str, sums: str = "rows") -> Mixing:
    """One matrix of a sequence, which need not be connected."""
    _check_entries(matrix, sums)
    return Mixing(matrix, name, sums)


def _checked(matrix: Float[np.ndarray, "agents agents"], name: str, sums: str = "rows") -> Mixing:
    checked = _single(matrix, name, sums)
    _check_connected(matrix)
    return checked


def metropolis(graph: nx.Graph) -> Mixing:
    """w_ij = 1 / (1 + max(d_i, d_j)) on links, w_ii = 1 - sum (Xiao, Boyd, Kim 2007)."""
    degrees = _degrees(graph, "metropolis")
    return _undirected(
        graph, lambda i, j: 1 / (1 + np.maximum(degrees[i], degrees[j])), "metropolis"
    )


def uniform(graph: nx.Graph) -> Mixing:
    """w_ij = 1 / (1 + d_i) over oneself and those one hears from; on a directed graph too."""
    heard = _adjacency(graph) + np.eye(len(graph))
    return _checked(heard / heard.sum(axis=1, keepdims=True), "uniform")


def max_degree(graph: nx.Graph) -> Mixing:
    """w_ij = 1 / (1 + d_max) on links, w_ii = 1 - d_i / (1 + d_max)."""
    largest = _degrees(graph, "max_degree").max(initial=0)
    return _undirected(graph, lambda i, j: np.full(len(i), 1 / (1 + largest)), "max_degree")


def laplacian(graph: nx.Graph, epsilon: float | None = None) -> Mixing:
    """W = I - epsilon L, with the best constant 2 / (l_2 + l_max), at most 1 / d_max, as default.

    The best constant minimises the second-largest modulus (Xiao, Boyd 2004); the cap keeps
    every weight non-negative.
    """
    degrees = _degrees(graph, "laplacian")
    if len(graph) == 1:
        return isolated(1)
    if epsilon is None:
        spectrum = np.linalg.eigvalsh(np.diag(degrees) - _adjacency(graph))
        epsilon = min(2 / (spectrum[1] + spectrum[-1]), 1 / degrees.max())
    if not is_real(epsilon) or not 0 < epsilon * degrees.max() <= 1:
        raise InputError(
            f"laplacian: epsilon must be a number in (0, {1 / degrees.max():.4g}] on this graph, "
            f"or a weight is negative; got {epsilon!r}"
        )
    return _undirected(graph, lambda i, j: np.full(len(i), epsilon), "laplacian")


def lazy(weights: Mixing, stay: float = 0.5) -> Mixing:
    """stay I + (1 - stay) W: every agent keeps the share `stay` of its own iterate."""
    if not is_real(stay) or not 0 <= stay < 1:
        raise InputError(f"lazy: stay must be a number in [0, 1), got {stay!r}")
    kept = stay * np.eye(weights.agents) + (1 - stay) * weights.matrix
    return replace(weights, matrix=kept, name=f"lazy {weights.name}")


def isolated(agents: int) -> Mixing:
    """W = I: nobody hears from anybody. The one disconnected matrix, for comparison."""
    return Mixing(np.eye(_at_least(agents, 1, "isolated")), "isolated")


def push(graph: nx.Graph) -> Mixing:
    """p_ij = 1 / (1 + listeners of j): j splits what it has evenly; columns sum to one."""
    sent = _adjacency(graph) + np.eye(len(graph))
    return _checked(sent / sent.sum(axis=0), "push", "columns")


def one_peer_exponential(agents: int) -> MixingSequence:
    """In round t everybody averages with i - 2^(t mod log2 m) alone (Assran et al. 2019).

    Doubly stochastic; where m is a power of two, a cycle ends at the exact mean.
    """
    hops = [2**k for k in range(_at_least(agents, 2, "one_peer_exponential").bit_length())]
    identity = np.eye(agents)
    return MixingSequence(
        tuple(
            _single((identity + np.roll(identity, -hop, axis=1)) / 2, "one-peer exponential")
            for hop in hops
            if hop < agents
        ),
        "one-peer exponential",
    )


def random_matchings(graph: nx.Graph, length: int, *, seed: int) -> MixingSequence:
    """In each round a maximal matching of the links, drawn at random, averages in pairs."""
    _degrees(graph, "random_matchings")
    _at_least(length, 1, "random_matchings", "length")
    rng = _rng(seed, "random_matchings")
    rounds = tuple(_single(_matching(graph, rng), "random matchings") for _ in range(length))
    return MixingSequence(rounds, "random matchings")


def _matching(graph: nx.Graph, rng: np.random.Generator) -> Float[np.ndarray, "agents agents"]:
    matrix = np.eye(len(graph))
    for i, j in rng.permutation(np.array(graph.edges)):
        if matrix[i, i] == matrix[j, j] == 1:
            matrix[[i, i, j, j], [i, j, i, j]] = 0.5
    return matrix


def link_failures(weights: Mixing, probability: float, length: int, *, seed: int) -> MixingSequence:
    """In each round every link fails with `probability`, both ways where W is symmetric.

    What an agent would have heard over a failed link it hears from itself, so that rows go on
    summing to one, and columns too where W is symmetric. Where W is one of columns, as `push` makes
    it, an agent keeps what it would have sent, so that columns go on summing to one.
    """
    if not is_real(probability) or not 0 <= probability < 1:
        raise InputError(
            f"link_failures: probability must be a number in [0, 1), got {probability!r}"
        )
    _at_least(length, 1, "link_failures", "length")
    rng = _rng(seed, "link_failures")
    name = f"{weights.name} with failures"
    rounds = tuple(
        _single(_failed(weights, probability, rng), name, weights.sums) for _ in range(length)
    )
    return MixingSequence(rounds, name)


def _failed(
    weights: Mixing, probability: float, rng: np.random.Generator
) -> Float[np.ndarray, "agents agents"]:
    up = rng.random(weights.matrix.shape) >= probability
    if weights.symmetric:
        up = np.triu(up) | np.triu(up).T
    matrix = np.where(up | np.eye(weights.agents, dtype=bool), weights.matrix, 0.0)
    return matrix + np.diag(1 - matrix.sum(axis=_axis(weights.sums)))


WEIGHTS: dict[str, Callable[..., Mixing]] = {
    weigh.__name__: weigh for weigh in (metropolis, uniform, max_degree, laplacian, push)
}


def build(topology: str, weights: str, defaults: Mapping[str, Any], **settings: Any) -> Mixing:
    """The mixing matrix of a named topology with named weights, as a spec gives them.

    `weights` is a name of `WEIGHTS`, or "lazy" and such a name: "lazy metropolis". `settings` are
    the topology's arguments, those it does not take refused by name; `defaults` are used where
    it takes them and they are not set.
    """
    if topology not in TOPOLOGIES:
        raise unknown("graph", topology, TOPOLOGIES)
    rule = str(weights).removeprefix("lazy ")
    if rule not in WEIGHTS:
        raise unknown("weights", weights, [*WEIGHTS, *(f"lazy {name}" for name in WEIGHTS)])
    parameters = inspect.signature(TOPOLOGIES[topology]).parameters
    for name in settings:
        if name not in parameters:
            raise unknown(f"setting of graph {topology}", name, parameters)
    settings = {name: defaults[name] for name in parameters if name in defaults} | settings
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in settings:
            raise InputError(f"graph {topology}: {name} must be given")
    weighed = WEIGHTS[rule](TOPOLOGIES[topology](**settings))
    return lazy(weighed) if weights.startswith("lazy ") else weighed


# --- checks -------------------------------------------------------------------------------


def _as_matrix(weights: Any) -> np.ndarray:
    try:
        dense = weights.toarray() if sparse.issparse(weights) else weights
        matrix = np.asarray(dense, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"mixing matrix: must be an array of numbers; {error}") from None
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise InputError(f"mixing matrix: must be square (agents, agents), got {matrix.shape}")
    return matrix


def _check_entries(matrix: np.ndarray, sums: str) -> None:
    if not np.isfinite(matrix).all():
        i, j = np.argwhere(~np.isfinite(matrix))[0]
        raise InputError(f"mixing matrix: entry ({i}, {j}) is {matrix[i, j]}; all must be finite")
    if (matrix < 0).any():
        i, j = np.argwhere(matrix < 0)[0]
        raise InputError(
            f"mixing matrix: entry ({i}, {j}) is {matrix[i, j]:.4g}; weights must not be negative"
        )
    line = {"rows": "row", "columns": "column"}[sums]
    found = matrix.sum(axis=_axis(sums))
    worst = int(np.abs(found - 1).argmax())
    if abs(found[worst] - 1) > ROUNDING:
        raise InputError(
            f"mixing matrix: {line} {worst} sums to {found[worst]:.6g}; {sums} must sum to 1"
        )


def _axis(sums: str) -> int:
    """Along which axis W is added up for the sums of its rows or columns."""
    return {"rows": 1, "columns": 0}[sums]


def _check_connected(matrix: np.ndarray) -> None:
    count, label = sparse.csgraph.connected_components(matrix > 0, connection="strong")
    if count > 1:
        parts = [np.flatnonzero(label == part).tolist() for part in range(count)]
        shown = ", ".join(map(str, parts[:4])) + (", ..." if count > 4 else "")
        raise InputError(
            f"mixing matrix: the graph falls into {count} parts that do not all reach each other: "
            f"{shown}; it must be connected (`isolated` is the matrix for no exchange at all)"
        )


def _undirected(graph: nx.Graph, weight: Callable[..., np.ndarray], name: str) -> Mixing:
    """W with `weight(i, j)` on every link and what is left on the diagonal."""
    matrix = np.zeros((len(graph), len(graph)))
    i, j = np.nonzero(_adjacency(graph))
    matrix[i, j] = weight(i, j)
    np.fill_diagonal(matrix, 1 - matrix.sum(axis=1))
    return _checked(matrix, name)


def _adjacency(graph: nx.Graph) -> Float[np.ndarray, "agents agents"]:
    """A[i, j] = 1 where i hears from j; agents in the order of their numbers."""
    if set(graph) != set(range(len(graph))):
        raise InputError(f"graph: agents must be numbered 0 to {len(graph) - 1}, without gaps")
    matrix = nx.to_numpy_array(graph, nodelist=range(len(graph)), weight=None).T
    np.fill_diagonal(matrix, 0)
    return matrix


def _degrees(graph: nx.Graph, rule: str) -> Float[np.ndarray, " agents"]:
    if graph.is_directed():
        raise InputError(f"{rule}: needs an undirected graph; `uniform` takes a directed one")
    return _adjacency(graph).sum(axis=1)


def _first_connected(draw: Callable[..., nx.Graph], seed: int, name: str) -> nx.Graph:
    rng = _rng(seed, name)
    for _ in range(1000):
        graph = draw(rng)
        if nx.is_connected(graph):
            return graph
    raise InputError(f"{name}: none of 1000 draws was connected; ask for more links")


def _rng(seed: int, graph: str) -> np.random.Generator:
    return np.random.default_rng(_at_least(seed, 0, graph, "seed"))


def _at_least(value: int, least: int, graph: str, argument: str = "agents") -> int:
    check_whole(f"{graph}: {argument}", value, least)
    return int(value)


def _is_index(value: Any) -> bool:
    return is_whole(value) and value >= 0
