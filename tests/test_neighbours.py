"""The effective number of neighbours, by closed forms, by the walk itself, and by exact moments."""

import numpy as np
import pytest
from test_cli import SPEC, call

from ntkdyn import InputError, graphs

RING = graphs.metropolis(graphs.ring(7))
DIRECTED = graphs.equi_static(7, 3, directed=True, seed=2)
GIVEN = graphs.mixing([[0.5, 0.5, 0], [0.25, 0.5, 0.25], [0, 0.3, 0.7]])


@pytest.mark.parametrize("decay", [0, 0.5, 0.99])
def test_closed_forms(decay):
    assert graphs.effective_neighbours(
        graphs.metropolis(graphs.complete(6)), decay
    ) == pytest.approx(6, rel=1e-12)
    assert graphs.effective_neighbours(graphs.isolated(6), decay) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("weights", [RING, DIRECTED, GIVEN], ids=["ring", "directed", "given"])
def test_it_is_the_power_series_of_the_walk(weights):
    """tr S = sum_t gamma^t |W^(t+1)|_F^2, symmetric or not, doubly stochastic or not."""
    decay, power, series = 0.8, np.eye(weights.agents), 0.0
    for t in range(200):
        power = power @ weights.matrix
        series += decay**t * np.sum(power**2)
    truth = 1 / (1 - decay) / (series / weights.agents)
    assert graphs.effective_neighbours(weights, decay) == pytest.approx(truth, rel=1e-11)
    assert 1.5 < truth < weights.agents


def exact_rate(W, step, noise):
    """Of x <- W (x - eta d d' x): M_ij = E x_i . x_j, by its own map."""
    M = np.eye(len(W))
    for _ in range(4000):
        M = (1 - step) ** 2 * M + np.diag((noise - 1) * step**2 * np.diag(M))
        M = W @ M @ W.T
        left, M = np.trace(M) / len(W), M / (np.trace(M) / len(W))
    return 1 - left


@pytest.mark.parametrize("step, noise", [(0.05, 5.0), (0.3, 12.0), (0.5, 1.0)])
def test_the_rate_is_exact_where_agents_are_alike(step, noise):
    for weights in (RING, DIRECTED, graphs.metropolis(graphs.hypercube(3)), graphs.isolated(3)):
        found = graphs.neighbours_rate(weights, step, noise)
        assert found == pytest.approx(exact_rate(weights.matrix, step, noise), abs=1e-9)


def test_the_rate_where_they_are_not_is_near_and_not_exact():
    star = graphs.metropolis(graphs.star(6))
    gap = abs(graphs.neighbours_rate(star, 0.1, 5.0) - exact_rate(star.matrix, 0.1, 5.0))
    assert 1e-6 < gap < 1e-4


@pytest.mark.parametrize(
    "ask, said",
    [
        (lambda: graphs.effective_neighbours(RING, 1.0), r"decay must be in \[0, 1\), got 1.0"),
        (lambda: graphs.effective_neighbours(RING, "a"), "decay must be"),
        (lambda: graphs.effective_neighbours([[1, 1], [0, 1]], 0.5), "sum"),
        (lambda: graphs.effective_neighbours(graphs.base(5), 0.5), "got a sequence"),
        (lambda: graphs.neighbours_rate(RING, 1.0, 2), "step_size must be in"),
        (lambda: graphs.neighbours_rate(RING, 0.1, 0.5), "noise must be one or above"),
    ],
)
def test_what_cannot_be_asked(ask, said):
    with pytest.raises(InputError, match=said):
        ask()


def test_a_graph_is_told_with_all_its_eigenvalues(tmp_path, capsys):
    path = tmp_path / "s.toml"
    path.write_text(SPEC)
    assert call("graph", path) == 0
    said = capsys.readouterr().out
    assert "4 agents" in said and "eigenvalues 1, 0.333 x2, -0.333" in said
    heard = graphs.effective_neighbours(graphs.metropolis(graphs.ring(4)), 0.9)
    assert f"{heard:.3g} (0.9)" in said


def test_eigenvalues_are_counted_and_shortened():
    assert graphs.described(DIRECTED)[0].endswith("directed")
    ring = graphs.described(graphs.metropolis(graphs.ring(100)))[2]
    counted = [int(word.rsplit("x")[1]) if "x" in word else 1 for word in ring.split(", ")
               if "more" not in word]  # fmt: skip
    left = int(ring.split(" more")[0].rsplit(" ", 1)[1])
    assert sum(counted) + left == 100 and ring.startswith("eigenvalues 1, 0.999 x2, ")
    told = graphs.described(graphs.base(8))
    assert told[2] == "eigenvalues of a cycle 1, 0 x7"
    turned = graphs.described(graphs.uniform(graphs.directed_ring(3)))[2]
    assert turned == "eigenvalues 1, 0.25-0.433i, 0.25+0.433i"
