"""Graphs and mixing matrices: known spectra, invariants, refusals."""

import itertools

import networkx as nx
import numpy as np
import pytest
import scipy.sparse
from cases import MIXINGS, TOPOLOGIES

import ntkdyn as nd
from ntkdyn import graphs, sizes
from ntkdyn.errors import InputError


@pytest.mark.parametrize("W", MIXINGS.values(), ids=MIXINGS)
def test_every_mixing_is_a_valid_one(W):
    assert (W.matrix >= 0).all()
    assert np.allclose(W.matrix.sum(axis={"rows": 1, "columns": 0}[W.sums]), 1, atol=1e-14)
    assert W.second_largest_modulus < 1
    assert W.spectral_gap == 1 - W.second_largest_modulus
    assert W.smallest_eigenvalue > -1
    again = graphs.mixing(W.matrix.tolist(), sums=W.sums)
    assert (again.matrix == W.matrix).all()


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_links_of_the_matrix_are_those_of_the_graph(name):
    graph = TOPOLOGIES[name]
    links = set(MIXINGS[name].graph.edges)
    wanted = set(graph.edges) if graph.is_directed() else {tuple(sorted(e)) for e in graph.edges}
    assert {tuple(sorted(e)) if not graph.is_directed() else e for e in links} == wanted


def test_a_directed_ring_hears_from_its_predecessor():
    W = graphs.uniform(graphs.directed_ring(5))
    assert W.matrix[3, 2] == 0.5 and W.matrix[2, 3] == 0
    assert W.doubly_stochastic and not W.symmetric


def test_spectra_known_in_closed_form():
    ring = graphs.metropolis(graphs.ring(8))
    angles = 2 * np.pi * np.arange(8) / 8
    assert np.allclose(np.sort(ring.eigenvalues), np.sort((1 + 2 * np.cos(angles)) / 3))
    assert np.isclose(graphs.metropolis(graphs.complete(5)).second_largest_modulus, 0)
    star = graphs.metropolis(graphs.star(6))
    assert np.isclose(star.second_largest_modulus, 5 / 6)
    petersen = graphs.metropolis(graphs.petersen())
    assert np.allclose(np.unique(np.round(petersen.eigenvalues, 12)), [-0.25, 0.5, 1])
    cube = graphs.metropolis(graphs.hypercube(3))
    assert np.allclose(np.sort(cube.eigenvalues), [-0.5, 0, 0, 0, 0.5, 0.5, 0.5, 1])
    directed = graphs.uniform(graphs.directed_ring(8))
    assert np.isclose(directed.second_largest_modulus, np.cos(np.pi / 8))


def test_counts_of_agents_and_links():
    counts = {name: (len(graph), graph.number_of_edges()) for name, graph in TOPOLOGIES.items()}
    assert counts["ring"] == (8, 8) and counts["path"] == (8, 7) and counts["complete"] == (8, 28)
    assert (
        counts["star"] == (8, 7)
        and counts["hypercube"] == (8, 12)
        and counts["petersen"] == (10, 15)
    )
    assert counts["exponential"] == (8, 20) and counts["directed_exponential"] == (8, 24)
    assert counts["dyck"] == counts["four_rings"] == (32, 48) and counts["davis"] == (32, 89)
    assert counts["circulant"] == (8, 12) and counts["two_hubs"] == (8, 12)
    assert nx.girth(TOPOLOGIES["dyck"]) == 6 and nx.diameter(TOPOLOGIES["dyck"]) == 5
    assert counts["random_regular"] == (8, 12) and counts["from_edges"] == (8, 8)
    assert graphs.torus(3, 4).number_of_edges() == 24
    assert len(graphs.ring(1)) == 1 and graphs.ring(2).number_of_edges() == 1


def test_laplacian_constant_is_the_best_one():
    graph = graphs.ring(9)
    best = graphs.laplacian(graph)
    others = [graphs.laplacian(graph, epsilon) for epsilon in np.linspace(0.05, 0.5, 40)]
    assert best.second_largest_modulus <= min(W.second_largest_modulus for W in others) + 1e-3


def test_lazy_keeps_a_share():
    W = graphs.metropolis(graphs.path(4))
    assert np.allclose(graphs.lazy(W, 0.25).matrix, 0.25 * np.eye(4) + 0.75 * W.matrix)
    assert graphs.lazy(W).smallest_eigenvalue >= 0


def test_random_graphs_repeat_with_their_seed():
    one, same, other = (graphs.erdos_renyi(20, 0.2, seed=s) for s in (5, 5, 6))
    assert set(one.edges) == set(same.edges) != set(other.edges)
    assert nx.is_connected(one)


def test_matrices_are_taken_in_any_form():
    W = graphs.metropolis(graphs.ring(4)).matrix
    assert (graphs.mixing(scipy.sparse.csr_array(W)).matrix == W).all()
    assert (np.asarray(graphs.mixing(W)) == W).all()


def test_contraction_bounds_disagreement_at_every_round():
    rng = np.random.default_rng(0)
    for name in ("directed_exponential", "star", "erdos_renyi"):
        W = MIXINGS[name]
        x = rng.standard_normal(W.agents)
        apart = lambda v: np.linalg.norm(v - v.mean())
        assert W.doubly_stochastic
        assert apart(W.matrix @ x) <= W.contraction * apart(x) + 1e-12


BAD = {
    "sums": ([[0.5, 0.47], [0.5, 0.5]], "row 0 sums to 0.97; rows must sum to 1"),
    "negative": ([[1.5, -0.5], [0.5, 0.5]], r"entry \(0, 1\) is -0.5"),
    "not square": ([[0.5, 0.5]], r"must be square .* got \(1, 2\)"),
    "sparse": (scipy.sparse.coo_array(np.ones((2, 3, 3))), r"must be square .* got \(2, 3, 3\)"),
    "not finite": ([[np.nan, 1], [0.5, 0.5]], r"entry \(0, 0\) is nan"),
    "disconnected": (np.eye(3), r"falls into 3 parts .*\[0\], \[1\], \[2\]"),
    "one way only": ([[1, 0], [0.5, 0.5]], "falls into 2 parts that do not all reach"),
    "text": ("ring", "must be real numbers, got text"),
    "ragged": ([[1.0], [0.5, 0.5]], "must be an array of numbers"),
}


@pytest.mark.parametrize("matrix, message", BAD.values(), ids=BAD)
def test_refused_matrices(matrix, message):
    with pytest.raises(InputError, match=message):
        graphs.mixing(matrix)


def test_refused_settings():
    with pytest.raises(InputError, match="is for 4 agents, the problem has 3"):
        graphs.mixing(graphs.metropolis(graphs.ring(4)), agents=3)
    with pytest.raises(InputError, match="no graph is called 'rign'; did you mean 'ring'"):
        graphs.build("rign", "metropolis", {"agents": 3})
    with pytest.raises(InputError, match="did you mean 'metropolis'"):
        graphs.build("ring", "metropolys", {"agents": 3})
    with pytest.raises(InputError, match="no setting of graph ring is called 'degree'"):
        graphs.build("ring", "metropolis", {"agents": 3}, degree=2)
    with pytest.raises(InputError, match="graph random_regular: degree must be given"):
        graphs.build("random_regular", "metropolis", {"agents": 4, "seed": 0})
    with pytest.raises(InputError, match="needs an undirected graph"):
        graphs.metropolis(graphs.directed_ring(4))
    with pytest.raises(InputError, match="even product"):
        graphs.random_regular(5, 3, seed=0)
    with pytest.raises(InputError, match="none of 1000 draws was connected"):
        graphs.erdos_renyi(50, 0.001, seed=0)
    with pytest.raises(InputError, match="whole number from 1 on, got 0"):
        graphs.path(0)
    with pytest.raises(InputError, match="a weight is negative"):
        graphs.laplacian(graphs.star(5), 0.3)
    with pytest.raises(InputError, match="pair of agent numbers"):
        graphs.from_edges([(0, 1, 2)])
    with pytest.raises(InputError, match="numbered 0 to 1"):
        graphs.metropolis(nx.Graph([("a", "b")]))


RING = graphs.metropolis(graphs.ring(4))

WRONG_TYPES = [
    (lambda: graphs.erdos_renyi(4, "x", seed=0), "erdos_renyi: probability must be .*, got 'x'"),
    (lambda: graphs.erdos_renyi(4, True, seed=0), "erdos_renyi: probability must be .*, got True"),
    (lambda: graphs.erdos_renyi(4, 0.5, seed="a"), "seed must be a whole .* from 0 on, got 'a'"),
    (lambda: graphs.erdos_renyi(4, 0.5, seed=-1), "seed must be a whole number from 0 on, got -1"),
    (lambda: graphs.random_regular(4, 2.5, seed=0), "degree must be a whole number .* got 2.5"),
    (lambda: graphs.random_regular(4, "2", seed=0), "degree must be a whole number .* got '2'"),
    (lambda: graphs.random_regular("4", 2, seed=0), "agents must be a whole number .* got '4'"),
    (lambda: graphs.random_regular(4, 2, seed=None), "seed must be a whole number .* got None"),
    (lambda: graphs.circulant(6, 3), "hops must be a list of whole numbers from 1 to 5, got 3"),
    (lambda: graphs.circulant(6, ["a"]), "hops must be a list of whole .*, got ..a..$"),
    (lambda: graphs.torus(2, "a"), "torus: columns must be a whole number from 2 on, got 'a'"),
    (lambda: graphs.torus(2.0, 2), "torus: rows must be a whole number from 2 on, got 2.0"),
    (lambda: graphs.from_edges(3), "edges: must be a list of pairs of agent numbers, got 3"),
    (lambda: graphs.from_edges([[0, 1], 2]), "edges: each must be a pair .* from 0 on, got 2"),
    (lambda: graphs.from_edges([[0, 1]], "2"), "from_edges: agents must be a whole .* got '2'"),
    (lambda: graphs.laplacian(graphs.ring(4), "a"), "laplacian: epsilon must be .* got 'a'"),
    (lambda: graphs.laplacian(graphs.ring(4), True), "laplacian: epsilon must be .* got True"),
    (lambda: graphs.lazy(RING, "a"), r"lazy: stay must be a number in \[0, 1\), got 'a'"),
    (lambda: graphs.lazy(RING, False), r"lazy: stay must be a number in \[0, 1\), got False"),
    (lambda: graphs.link_failures(RING, "x", 3, seed=0), "failures: probability must .* got 'x'"),
    (lambda: graphs.link_failures(RING, 0.1, 3, seed=-1), "link_failures: seed must be .* got -1"),
    (lambda: graphs.random_matchings(graphs.ring(4), 3, seed="a"), "seed must be .* got 'a'"),
    (lambda: graphs.build("ring", 3, {"agents": 4}), "no weights is called 3"),
]


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("make, message", WRONG_TYPES)
def test_settings_of_the_wrong_type_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_sequence_is_applied_from_its_first_round_on():
    """Directed rounds that do not commute: W(1) W(0), not W(0) W(1)."""
    first = np.array([[0.5, 0.5, 0], [0, 0.9, 0.1], [0.3, 0, 0.7]])
    then = np.array([[0.2, 0, 0.8], [0.5, 0.5, 0], [0, 0.4, 0.6]])
    apart = lambda product: np.linalg.norm(product - 1 / 3, 2)
    assert abs(apart(then @ first) - apart(first @ then)) > 0.02
    assert np.isclose(graphs.mixing([first, then]).contraction, apart(then @ first), rtol=1e-12)


def test_sequences_of_matrices():
    once = graphs.one_peer_exponential(8)
    assert once.contraction < 1e-15 and once.spectral_gap > 0.999
    assert once.rounds[1].matrix[5, 3] == 0.5, "in round 1 agent 5 hears from 5 - 2"
    pairs = graphs.random_matchings(TOPOLOGIES["petersen"], 6, seed=0)
    assert all(W.symmetric and W.doubly_stochastic for W in pairs.rounds)
    assert ((pairs.matrices > 0).sum(axis=2) <= 2).all()
    W = graphs.metropolis(graphs.torus(3, 4))
    broken = graphs.link_failures(W, 0.25, 400, seed=0)
    assert all(each.symmetric and each.doubly_stochastic for each in broken.rounds)
    links = (W.matrix > 0) & ~np.eye(12, dtype=bool)
    lost = 1 - (broken.matrices[:, links] > 0).mean()
    assert abs(lost - 0.25) < 3 * np.sqrt(0.25 * 0.75 / (400 * links.sum() / 2))
    again = graphs.link_failures(W, 0.25, 400, seed=0)
    assert (again.matrices == broken.matrices).all()
    assert graphs.mixing(once) is once
    for make, message in (
        (lambda: graphs.mixing([np.eye(2), np.eye(2)]), "falls into 2 parts"),
        (lambda: graphs.mixing([W.matrix, np.full((12, 12), 0.1)]), "row 0 sums to 1.2"),
        (lambda: graphs.mixing([np.full((2, 2), 0.5), np.full((3, 3), 1 / 3)]), "one number of"),
        (lambda: graphs.link_failures(W, 1.0, 3, seed=0), r"number in \[0, 1\), got 1.0"),
        (lambda: graphs.random_matchings(graphs.ring(4), 0, seed=0), "length must be a whole"),
        (lambda: graphs.circulant(6, [6]), "hops must be a list of whole numbers from 1 to 5"),
    ):
        with pytest.raises(InputError, match=message):
            make()


def test_pushing_columns_sum_to_one():
    P = graphs.push(nx.DiGraph([(0, 1), (0, 2), (1, 2), (2, 0)]))
    assert np.allclose(P.matrix, [[1 / 3, 0, 0.5], [1 / 3, 0.5, 0], [1 / 3, 0.5, 0.5]])


@pytest.mark.parametrize("arcs", [[(0, 1), (0, 2), (1, 2), (2, 0)], [(0, 1), (1, 2), (2, 0)]])
def test_what_is_not_sent_over_a_failed_link_is_kept(arcs):
    pushed = graphs.lazy(graphs.push(nx.DiGraph(arcs)))
    broken = graphs.link_failures(pushed, 0.4, 20, seed=0)
    assert all(each.sums == "columns" for each in broken.rounds)
    assert np.allclose(broken.matrices.sum(axis=1), 1, atol=1e-14)
    assert np.abs(broken.matrices.sum(axis=2) - 1).max() > 0.1
    kept = (broken.matrices > 0) & ~np.eye(3, dtype=bool)
    assert (broken.matrices == pushed.matrix)[kept].all() and kept.any()


def test_built_by_name_equals_built_by_hand():
    built = graphs.build("ring", "lazy metropolis", {"agents": 5, "seed": 1})
    assert (built.matrix == graphs.lazy(graphs.metropolis(graphs.ring(5))).matrix).all()
    built = graphs.build("directed_ring", "lazy push", {"agents": 5})
    assert (built.matrix == graphs.lazy(graphs.push(graphs.directed_ring(5))).matrix).all()


def test_the_graph_that_ccl_calls_dyck_is_another():
    true, theirs = graphs.dyck(), graphs.four_rings()
    assert {degree for _, degree in theirs.degree} == {3} and len(theirs) == 32
    assert not nx.is_isomorphic(true, theirs) and nx.is_connected(theirs)
    gaps = [graphs.uniform(graph).spectral_gap for graph in (true, theirs)]
    assert np.allclose(gaps, [0.191, 0.146], atol=5e-4)
    neighbours = {0: {1, 7, 8}, 7: {0, 6, 23}, 15: {8, 14, 31}, 16: {17, 23, 24}, 30: {29, 31, 22}}
    assert all(set(theirs[i]) == near for i, near in neighbours.items())


def test_two_hubs_as_dimat_weighs_them():
    W = graphs.hundredths(graphs.two_hubs(10)).matrix
    leaf, hub = np.eye(10)[0] * 0.78, np.eye(10)[8] * 0.12
    leaf[8:], hub[:8] = 0.11, 0.11
    assert np.allclose(W[0], leaf, atol=1e-15) and np.allclose(W[8], hub, atol=1e-15)
    assert np.allclose(graphs.hundredths(graphs.two_hubs(5)).matrix[4], [0.25] * 3 + [0, 0.25])
    with pytest.raises(InputError, match="100 neighbours, and a weight of 1 / 101 is zero"):
        graphs.hundredths(graphs.star(101))


SQUARE = [(0, 1), (1, 2), (2, 3), (3, 0)]


@pytest.mark.parametrize("rule", graphs.WEIGHTS.values(), ids=graphs.WEIGHTS)
def test_parallel_links_loops_and_links_of_weight_zero_count_for_nothing(rule):
    wanted = rule(graphs.from_edges([*SQUARE, (0, 2)])).matrix
    links = [*SQUARE, (0, 2), (2, 0), (1, 0), (3, 3)]
    zero = nx.Graph([*SQUARE, (0, 2)])
    zero.add_edge(1, 3, weight=0.0)
    for graph in (nx.MultiGraph(links), nx.Graph(links), zero):
        assert (rule(graph).matrix == wanted).all()
        drawn = graphs.random_matchings(graph, 3, seed=0).matrices
        assert (
            drawn == graphs.random_matchings(graphs.from_edges(links), 3, seed=0).matrices
        ).all()
    directed = nx.MultiDiGraph([*SQUARE, (0, 1)])
    assert graphs.uniform(directed).matrix[1, 0] == 0.5


def test_weights_of_links_are_not_dropped_without_a_word():
    weighted = nx.Graph()
    weighted.add_weighted_edges_from([(0, 1, 0.25), (1, 2, 0.5), (2, 0, 0.25)])
    with pytest.raises(InputError, match="from 0.25 to 0.5, which metropolis does not use; .*W"):
        graphs.metropolis(weighted)
    alone = graphs.metropolis(nx.Graph(weighted.edges())).matrix
    assert (alone == graphs.metropolis(graphs.complete(3)).matrix).all()
    for odd in ("a", np.nan, 1j):
        weighted.add_edge(0, 1, weight=odd)
        with pytest.raises(InputError, match="have weights of their own, like"):
            graphs.uniform(weighted)
    nx.set_edge_attributes(weighted, 7.0, "weight")
    assert (graphs.metropolis(weighted).matrix == alone).all()
    whether = nx.from_numpy_array(~np.eye(3, dtype=bool))
    assert (graphs.metropolis(whether).matrix == alone).all()


def test_the_entry_that_is_negative_is_named():
    W = np.eye(3)
    W[1] = [0.7, 0.6, -0.3]
    with pytest.raises(InputError, match=r"entry \(1, 2\) is -0.3"):
        graphs.mixing(W)


def test_two_agents_are_a_directed_ring():
    assert sorted(graphs.directed_ring(2).edges()) == [(0, 1), (1, 0)]
    with pytest.raises(InputError, match="from 2"):
        graphs.directed_ring(1)


def test_rounded_weights_are_set_right_and_it_is_said():
    rng = np.random.default_rng(0)
    exact = {
        "symmetric": graphs.metropolis(TOPOLOGIES["from_edges"]).matrix,
        "no diagonal": np.ones((4, 4)) / 3 - np.eye(4) / 3,
        "doubly": np.einsum("k,kij->ij", rng.dirichlet(np.ones(6)), [
            np.eye(5)[rng.permutation(5)] for _ in range(6)]),
        "rows": (lambda A: A / A.sum(axis=1, keepdims=True))(rng.random((5, 5))),
    }  # fmt: skip
    rounded = [lambda W: W.astype(np.float32), lambda W: np.round(W, 6), lambda W: W // 1e-6 * 1e-6]
    for (name, W), cut in itertools.product(exact.items(), rounded):
        made = graphs.mixing(cut(W))
        assert np.abs(made.matrix - W).max() < 1e-5 and (made.matrix >= 0).all()
        assert np.abs(made.matrix.sum(axis=1) - 1).max() < 1e-14
        assert made.symmetric == (name in ("symmetric", "no diagonal"))
        assert made.doubly_stochastic == (name != "rows")
        sums = [
            cut(W).astype(float).sum(axis=axis) for axis in ((1,) if name == "rows" else (0, 1))
        ]
        assert ("sum" in made.adjusted) == (np.abs(np.stack(sums) - 1).max() > graphs.ROUNDING)
        assert graphs.mixing(W).adjusted == ""
        assert ((made.matrix > 0) == (W > 0)).all()
    # one link that nobody meant, below zero and above
    nearly = exact["symmetric"].copy()
    nearly[0, 5], nearly[5, 0] = -1e-17, 1e-17
    made = graphs.mixing(nearly)
    assert made.matrix[0, 5] == made.matrix[5, 0] == 0
    assert made.adjusted == "2 weights as small as rounding set to zero"
    assert graphs.MixingSequence((made, made), "").adjusted == made.adjusted
    single = exact["symmetric"].astype(np.float32)
    single[0, 5] = -5e-8
    made = graphs.mixing(single)
    assert made.matrix[0, 5] == 0 and made.symmetric and made.doubly_stochastic
    columns = graphs.mixing(exact["rows"].T.astype(np.float32), sums="columns")
    assert np.abs(columns.matrix.sum(axis=0) - 1).max() < 1e-14
    for factor, message in [(1 + 1e-4, "row 0 sums to 1.0001; rows"), (1 - 5e-6, "0.999995; rows")]:
        with pytest.raises(InputError, match=message):
            graphs.mixing(exact["symmetric"] * factor)
    with pytest.raises(InputError, match=r"entry \(0, 1\) is -1e-05; weights must not"):
        graphs.mixing(np.array([[1 + 1e-5, -1e-5], [0.5, 0.5]], np.float32))


def test_lazy_takes_what_mixing_takes():
    W = graphs.metropolis(graphs.ring(4))
    assert (graphs.lazy(W.matrix).matrix == graphs.lazy(W).matrix).all()
    both = graphs.lazy([W.matrix, W])
    assert (both.matrices == graphs.lazy(W).matrix).all() and len(both.rounds) == 2


NO_GRAPHS = [
    (lambda: graphs.mixing(graphs.ring(4)), r"got a graph, .* give `graphs.metropolis\(graph\)`"),
    (lambda: graphs.mixing([nx.DiGraph(SQUARE)]), r"give `graphs.uniform\(graph\)`"),
    (lambda: graphs.mixing(graphs.ring(4), sums="columns"), r"give `graphs.push\(graph\)`"),
    (lambda: graphs.lazy(graphs.ring(4)), r"give `graphs.metropolis\(graph\)`"),
    (lambda: graphs.metropolis(np.eye(4)), "metropolis: needs a networkx graph, .* got ndarray"),
    (lambda: graphs.uniform([(0, 1)]), "uniform: needs a networkx .* got list; .*from_edges"),
    (lambda: graphs.push(nx.DiGraph()), "push: the graph is empty"),
    (lambda: graphs.random_matchings(nx.Graph(), 2, seed=0), "the graph is empty"),
    (lambda: graphs.link_failures([np.eye(1)] * 2, 0.1, 2, seed=0), "of one round, got a sequence"),
    (lambda: graphs.mixing(np.eye(2) * 1j), "mixing matrix: must be real numbers, got complex"),
    (lambda: graphs.mixing([[["1"]]]), "mixing matrix: must be real numbers, got text"),
    (lambda: graphs.mixing(np.ma.masked_array(np.eye(2))), "got a masked one"),
    (lambda: graphs.mixing([[[1, 2], [3]]]), "must be an array of numbers"),
    (lambda: graphs.mixing(None), "must be real numbers, got object"),
]  # fmt: skip


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("make, message", NO_GRAPHS)
def test_what_is_no_graph_or_no_matrix_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


TOO_LARGE = [
    lambda: graphs.ring(10**6),
    lambda: graphs.complete(4000),
    lambda: graphs.torus(300, 300),
    lambda: graphs.torus(10**9, 10**9),
    lambda: graphs.hypercube(30),
    lambda: graphs.circulant(10**7),
    lambda: graphs.random_regular(10**9, 3, seed=0),
    lambda: graphs.erdos_renyi(10**9, 0.5, seed=0),
    lambda: graphs.from_edges([(0, 10**9)]),
    lambda: graphs.isolated(10**10),
    lambda: graphs.metropolis(nx.path_graph(10**4)),
    lambda: graphs.one_peer_exponential(10**6),
    lambda: graphs.link_failures(RING, 0.1, 10**8, seed=0),
    lambda: graphs.random_matchings(graphs.ring(4), 10**8, seed=0),
    lambda: graphs.mixing(scipy.sparse.csr_array((10**6, 10**6))),
]


@pytest.mark.parametrize("make", TOO_LARGE)
def test_what_takes_more_memory_than_there_is_is_refused_before(make, monkeypatch):
    monkeypatch.setattr(sizes, "free", lambda: 5e8)
    with pytest.raises(InputError, match="takes about .* of memory, and 500 MB are free; "):
        make()


def test_a_graph_for_another_number_of_agents_is_refused_before_it_is_weighed():
    with pytest.raises(InputError, match="graph torus: has 36 agents, the problem has 4"):
        graphs.build("torus", "metropolis", {"agents": 4}, rows=6, columns=6)


def test_the_gap_of_a_cycle_is_that_of_a_round_on_average():
    lazily, far = graphs.lazy(graphs.metropolis(graphs.path(4))), graphs.metropolis(graphs.path(4))
    cycle = graphs.mixing([lazily.matrix, far.matrix, lazily.matrix], agents=4)
    left = np.linalg.norm(lazily.matrix @ far.matrix @ lazily.matrix - 0.25, 2)
    assert 0 < left < 1 and np.isclose(cycle.spectral_gap, 1 - left ** (1 / 3))


# --- negative weights -----------------------------------------------------------------------------


def test_the_best_constant_weighs_a_hub_negatively_and_mixes_faster():
    star = graphs.star(8)
    W, capped = graphs.laplacian(star, negative=True), graphs.laplacian(star)
    assert W.signed and not capped.signed and W.matrix[0, 0] < 0
    values = np.linalg.eigvalsh(np.diag([7.0, *[1] * 7]) - nx.to_numpy_array(star))
    best = 2 / (values[1] + values[-1])
    np.testing.assert_allclose(W.matrix[1, 0], best)
    assert W.second_largest_modulus < capped.second_largest_modulus
    for other in (0.9 * best, 1.1 * best):
        slower = graphs.laplacian(star, other, negative=True)
        assert slower.second_largest_modulus > W.second_largest_modulus
    assert W.graph.number_of_edges() == 7
    with pytest.raises(InputError, match="with its negative weights it does not bring agents tog"):
        graphs.laplacian(star, 0.26, negative=True)


def test_negative_weights_are_taken_where_methods_average_linearly():
    W = graphs.laplacian(graphs.star(8), negative=True)
    with pytest.raises(InputError, match=r"entry \(0, 0\) is .* takes such a W, for methods that"):
        graphs.mixing(W.matrix)
    assert (graphs.mixing(W.matrix, negative=True).matrix == W.matrix).all()
    problem = nd.KernelProblem(np.eye(8), np.arange(8.0), np.arange(8))
    for name in ("dgd", "atc", "diging", "extra"):
        method = nd.methods.METHODS[name](step_size=0.05)
        record = nd.predict(problem, method, W, [0, 3], via="steps")
        again = nd.predict(problem, method, W, [0, 3], via="powers")
        np.testing.assert_allclose(record["outputs"], again["outputs"], atol=1e-12)
    late = nd.links.over(nd.methods.dgd(step_size=0.05), nd.links.delayed(1))
    for method in (late, nd.methods.drt(step_size=0.05), nd.methods.ccl(step_size=0.05)):
        with pytest.raises(InputError, match=r"needs weights that are not negative, but entry \(0"):
            nd.System(problem, method, W)


def test_weights_as_a_function_of_the_round():
    """Whether a function or an iterator gives them; only together they connect all."""
    pairs = [np.kron(np.eye(2), np.full((2, 2), 0.5))]
    pairs.append(np.roll(np.roll(pairs[0], 1, axis=0), 1, axis=1))
    of = lambda t: pairs[t % 2] if t < 3 else graphs.metropolis(graphs.ring(4))
    for given in (of, map(of, itertools.count())):
        W = graphs.by_round(given, 4)
        assert np.array_equal(
            W.matrices, [*pairs, pairs[0], graphs.metropolis(graphs.ring(4)).matrix]
        )
    problem = nd.KernelProblem(np.eye(4), np.arange(4.0), np.arange(4))
    dgd = nd.methods.dgd(step_size=0.1)
    told = nd.predict(problem, dgd, graphs.by_round(of, 9), [9])["outputs"]
    assert np.array_equal(told, nd.predict(problem, dgd, [of(t) for t in range(9)], [9])["outputs"])


@pytest.mark.parametrize(
    "given, length, said",
    [
        (iter([np.eye(2)]), 2, "by_round: ends after 1 rounds, 2 are asked for"),
        (lambda t: [[0.5, 0.5], [0.4, 0.4]], 2, "by_round: round 0: mixing matrix: .*sum"),
        (lambda t: 3, 2, "by_round: round 0: "),
        (lambda t: np.full((2, 2), 0.5), 10**9, "by_round: 1000000000 matrices of 2 agents takes"),
        (lambda t: np.eye(2), 3, "not connected|connect"),
        (7, 3, "by_round: must be a function of the round, or an iterator, got 7"),
        (lambda t: np.full((2, 2), 0.5), 0, "by_round: length must be a whole number from 1"),
    ],
)
def test_weights_by_round_that_are_none_are_refused(given, length, said):
    with pytest.raises(InputError, match=said):
        graphs.by_round(given, length)


@pytest.mark.parametrize("rule", [*graphs.WEIGHTS.values(), graphs.given, graphs.sinkhorn])
@pytest.mark.parametrize("links", [0, 2])
def test_every_rule_says_in_words_that_a_graph_is_not_connected(rule, links):
    graph = nx.DiGraph if rule in (graphs.push, graphs.uniform) else nx.Graph
    apart = nx.empty_graph(4, create_using=graph)
    apart.add_edges_from([(0, 1), (1, 0)][:links], weight=0.5)
    with pytest.raises(nd.InputError, match=f"falls into {4 - links // 2} parts that do not all"):
        rule(apart)
