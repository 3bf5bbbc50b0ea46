"""Topologies that are made for fast averaging, or for the data, each against its defining claim."""

import functools
import math
import tomllib

import networkx as nx
import numpy as np
import pytest
import scipy.optimize
import tomli_w
from test_cli import SPEC

from ntkdyn import InputError, experiment, graphs
from ntkdyn.graphs import cliques, equitopo

IRREGULAR = graphs.from_edges([(0, 1), (0, 2), (0, 3), (0, 4), (4, 5), (5, 6), (6, 4), (1, 2)])


def peers(matrix):
    return int(((np.abs(matrix) > 1e-15).sum(axis=1) - 1).max())


def product(rounds):
    return functools.reduce(
        lambda done, each: each.matrix @ done, rounds, 1.0 * np.eye(rounds[0].agents)
    )


@pytest.mark.parametrize("k", [1, 2, 3])
def test_base_graphs_end_at_the_exact_mean_soon_with_few_neighbours(k):
    for agents in (1, 2, 3, 5, 6, 7, 11, 12, 25, 30, 47, 64, 77):
        found = graphs.base(agents, k)
        assert np.abs(product(found.rounds) - 1 / agents).max() < 1e-14
        for each in found.rounds:
            assert each.symmetric and each.matrix.min() >= 0 and peers(each.matrix) <= k
        assert len(found.rounds) <= max(1, 2 * math.log(agents, k + 1) + 2)
    assert np.abs(product(graphs.base(25, k).rounds[:-1]) - 1 / 25).max() > 0.01


@pytest.mark.parametrize(
    "agents, k, length", [(8, 1, 3), (12, 2, 3), (12, 3, 2), (36, 2, 4), (7, 6, 1)]
)
def test_hyper_hypercubes_have_as_few_rounds_as_factors(agents, k, length):
    found = graphs.hyper_hypercube(agents, k)
    assert len(found.rounds) == length
    assert np.abs(product(found.rounds) - 1 / agents).max() < 1e-14
    if length > 1:
        assert np.abs(product(found.rounds[1:]) - 1 / agents).max() > 0.01
    assert max(peers(each.matrix) for each in found.rounds) <= k


def test_hyper_hypercubes_of_numbers_with_large_prime_factors_are_refused():
    with pytest.raises(InputError, match="10 agents have a prime factor above 4.*graphs.base"):
        graphs.hyper_hypercube(10, 3)
    assert peers(graphs.base(10, 3).rounds[0].matrix) <= 3


def test_fastest_weights_are_the_known_ones_of_symmetric_graphs():
    """On edge-transitive graphs the best constant; a path's own weights, where none is negative."""
    for graph in (graphs.ring(8), graphs.hypercube(3), graphs.petersen(), graphs.star(6)):
        best = graphs.laplacian(graph, negative=True)
        found = graphs.fastest(graph, negative=True)
        assert np.abs(found.matrix - best.matrix).max() < 1e-5
        assert abs(found.contraction - best.contraction) < 1e-7
    assert graphs.fastest(graphs.complete(5)).contraction < 1e-7
    path = graphs.fastest(graphs.path(6))
    assert abs(path.contraction - math.cos(math.pi / 6)) < 1e-6


@pytest.mark.parametrize("negative", [False, True])
def test_no_other_weights_are_faster_on_an_irregular_graph(negative):
    """Nor any that a search without the program finds, from Metropolis' and from its own."""
    found, links = graphs.fastest(IRREGULAR, negative=negative), list(IRREGULAR.edges())
    assert (found.matrix.min() >= 0) != negative

    def modulus(weights):
        matrix = np.zeros((7, 7))
        for (i, j), w in zip(links, weights, strict=True):
            matrix[i, j] = matrix[j, i] = w
        matrix += np.diag(1 - matrix.sum(axis=1))
        bad = 0 if negative else 10 * np.minimum(matrix, 0).sum()
        return np.linalg.norm(matrix - 1 / 7, 2) - bad

    for start in (graphs.metropolis(IRREGULAR), found):
        first = [start.matrix[i, j] for i, j in links]
        other = scipy.optimize.minimize(
            modulus,
            first,
            method="Nelder-Mead",
            options={"maxiter": 4000, "xatol": 1e-9, "fatol": 1e-10},
        )
        assert other.fun >= found.contraction - 1e-6
    assert found.contraction < graphs.metropolis(IRREGULAR).contraction - 0.02


def test_fastest_weights_that_cannot_be_had_are_refused(monkeypatch):
    with pytest.raises(InputError, match="undirected"):
        graphs.fastest(graphs.directed_ring(4))
    with pytest.raises(InputError, match="65 agents are too many"):
        graphs.fastest(graphs.ring(65))
    monkeypatch.setitem(__import__("sys").modules, "cvxpy", None)
    with pytest.raises(InputError, match=r"needs cvxpy.*ntkdyn\[bounds\]"):
        graphs.fastest(graphs.ring(5))


def test_equistatic_weights_are_of_the_basis_and_do_not_slow_down_with_more_agents():
    W = graphs.equi_static(7, 1, directed=True, seed=3).matrix
    hop = int(np.flatnonzero(W[:, 0] > 0.5)[0])
    for i in range(7):
        assert W[(i + hop) % 7, i] == pytest.approx(6 / 7) and W[i, i] == pytest.approx(1 / 7)
    basis = equitopo._basis(7, 2)
    assert basis[2, 0] == basis[1, 6] == pytest.approx(6 / 7) and basis[5, 0] == 0
    both = graphs.equi_static(30, 4, seed=1)
    assert both.symmetric and peers(both.matrix) <= 8
    rates = lambda make, seeds: np.mean([make(seed).contraction for seed in range(seeds)])
    small, large = (rates(lambda s, m=m: graphs.equi_static(m, 12, seed=s), 5) for m in (30, 240))
    ring = [graphs.metropolis(graphs.ring(m)).contraction for m in (30, 240)]
    assert large < small + 0.25 < 0.85
    assert 1 - ring[1] < (1 - ring[0]) / 30


def test_equidynamic_rounds_hear_from_one_other_and_average():
    found = graphs.equi_dynamic(10, 12, seed=2)
    for each in found.rounds:
        assert peers(each.matrix) == 1
        assert np.abs(each.matrix.sum(axis=0) - 1).max() < 1e-14
    assert np.linalg.norm(product(found.rounds) - 0.1, 2) < 0.2
    assert len({each.matrix.tobytes() for each in found.rounds}) > 4


def skewed(agents, seed=0):
    """Everybody has one class of ten."""
    classes = np.random.default_rng(seed).permutation(np.repeat(np.arange(10), agents // 10))
    return 20.0 * np.eye(10)[classes]


@pytest.mark.parametrize("between, links", [("ring", 10), ("fully connected", 45)])
def test_cliques_have_the_labels_of_all(between, links):
    counts = skewed(100)
    graph = graphs.d_cliques(counts, 10, between=between)
    drawn = graphs.d_cliques(counts, 10, between=between, steps=0)
    assert nx.is_connected(graph) and graph.number_of_edges() == 10 * 45 + links
    found = [
        sum(cliques.skew(counts, [*each]) for each in nx.find_cliques(one) if len(each) > 3)
        for one in (graph, drawn)
    ]
    assert found[0] < 0.35 * found[1]
    degrees = dict(graph.degree())
    assert max(degrees.values()) - min(degrees.values()) <= (1 if between == "ring" else 2)


def test_the_cliques_skew_and_bad_counts():
    counts = np.array([[4.0, 0], [0, 4], [2, 2]])
    assert cliques.skew(counts, [0]) == 1.0 and cliques.skew(counts, [0, 1]) == 0.0
    assert nx.is_isomorphic(graphs.d_cliques(counts, 3), nx.complete_graph(3))
    for bad in ([[1, -1], [1, 1]], [[0, 0], [1, 1]], [1, 2], "a"):
        with pytest.raises(InputError, match="counts"):
            graphs.d_cliques(bad, 2)
    with pytest.raises(InputError, match="ring"):
        graphs.d_cliques(counts, 2, between="rings")


@pytest.mark.parametrize(
    "graph, name",
    [
        ({"changes": {"kind": "base", "peers": 2}}, "base-3"),
        ({"changes": {"kind": "hyper_hypercube"}}, "hyper-hypercube"),
        ({"changes": {"kind": "equi_dynamic", "length": 5}}, "OD-EquiDyn"),
        ({"topology": "d_cliques", "size": 2}, "metropolis"),
        ({"changes": {"kind": "equi_dynamic", "share": 0.9}}, "OD-EquiDyn"),
        ({"topology": "equi_static", "links": 2}, "U-EquiStatic"),
        ({"topology": "equi_static", "links": 3, "directed": True, "seed": 2}, "D-EquiStatic"),
        ({"topology": "ring", "weights": "fastest"}, "fastest mixing"),
        ({"topology": "ring", "weights": "fastest averaging"}, "fastest linear averaging"),
    ],
)
def test_a_spec_names_them(graph, name):
    text = tomli_w.dumps(tomllib.loads(SPEC) | {"graph": graph})
    work = experiment.Experiment(experiment.parse(text, "spec"))
    assert work.weights.name == name and work.weights.agents == 4
    again = experiment.Experiment(experiment.with_seed(work.spec, work.spec.seed))
    assert np.array_equal(again.weights.matrix, work.weights.matrix), "written out and read again"


def test_a_spec_says_how_much_is_taken_of_what_is_heard():
    text = tomli_w.dumps(tomllib.loads(SPEC) | {"graph": {"changes": SHARED}})
    found = experiment.Experiment(experiment.parse(text, "spec")).weights.rounds[0].matrix
    assert np.allclose(np.diag(found), 0.1 + 0.9 / 4)


SHARED = {"kind": "equi_dynamic", "share": 0.9}


def test_a_spec_that_does_not_go_together_is_refused():
    for graph, said in (
        ({"changes": {"kind": "base"}, "topology": "ring"}, "base goes without other settings"),
        ({"changes": {"kind": "equi_dynamic", "peers": 2}}, "peers go with"),
        ({"changes": {"kind": "base", "share": 0.5}}, "a share goes with equi_dynamic"),
        ({"topology": "equi_static", "links": 2, "weights": "metropolis"}, "weights of its own"),
    ):
        text = tomli_w.dumps(tomllib.loads(SPEC) | {"graph": graph})
        with pytest.raises(InputError, match=said):
            _ = experiment.Experiment(experiment.parse(text, "spec")).weights
