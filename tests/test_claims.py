"""Claims as specs: they hold or fail as they should, and wrong ones are found to be wrong."""

import numpy as np
import pytest
from typer.testing import CliRunner

import ntkdyn as nd
from ntkdyn import cli, records
from ntkdyn.errors import InputError
from ntkdyn.theory import claims
from ntkdyn.theory.claims import CLAIMS, Drawn, known, problems

WRONG = {"federated-and-width", "linear-speed-up-of-each"}
SLOW = {"federated-and-width", "federated-and-step-size", "topology-and-variance"}
EACH = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in CLAIMS]


@pytest.mark.parametrize("name", EACH)
def test_claims_hold_or_fail_and_other_laws_fail(name):
    found = claims.run(name, problems=1)
    assert bool(found.attrs["holds"]) == (name not in WRONG), found.attrs["verdict"]
    assert found.attrs["verdict"].startswith("fails" if name in WRONG else "holds")
    claim = CLAIMS[name]
    off = found.slope - (claim.law if name not in WRONG else found.slope.mean())
    for other in (-0.5, 0.5):
        assert (abs(off - other) > claims.claim.WITHIN).all()


@pytest.mark.slow
def test_a_wrong_law_fails_with_the_smallest_problem_that_is_off():
    found = claims.run("linear-speed-up", problems=1, law=-0.5)
    assert found.attrs["holds"] == 0 and "the smallest with 1 feature(s) and seed 0" in str(
        found.attrs["verdict"]
    )
    assert claims.run("linear-speed-up", problems=1, seed=5).attrs["holds"] == 1


def test_the_first_problem_that_is_off_is_named():
    def measure(drawn):
        x = np.array([1.0, 2, 4])
        return x, x ** (2 if drawn.agents < 4 else 1)

    claim = claims.Claim("", "", (), "", "x", 2.0, measure)
    found = claims.run_claim("made up", claim, problems=2, seed=7)
    assert np.allclose(found.slope, [2] * 8 + [1] * 6)
    assert (
        "6 of 14 problems are off, the smallest with 4 agents, 3 feature(s) and seed 7"
        in (found.attrs["verdict"])
    )
    nowhere = claim._replace(measure=lambda drawn: (np.arange(1.0, 4), np.zeros(3)))
    assert claims.run_claim("zero", nowhere, problems=1).attrs["holds"] == 0


def test_topology_matters_where_columns_do_not_sum_to_one():
    drawn = Drawn(4, 2, 0)
    problem, star = drawn.unequal(), nd.graphs.uniform(nd.graphs.star(4))
    ratios = []
    for share in known.SHARES:
        method = nd.methods.dgd(step_size=share / problems.steepest(problem))
        fair = known.variance(problem, method, known.average(4))
        ratios.append(abs(known.variance(problem, method, star) / fair - 1))
    assert np.abs(np.diff(np.log(ratios))).max() < 0.1 and min(ratios) > 0.1


def test_the_gap_alone_says_nothing_of_disagreement():
    sums, apart = known.disagreement_by_all_eigenvalues(Drawn(8, 4, 0))
    assert max(sums) / min(sums) > 2
    gaps = [known.with_gap(graph).spectral_gap for graph in (nd.graphs.path(8), nd.graphs.star(8))]
    assert np.allclose(gaps, known.GAP)
    assert np.allclose(apart / sums, (apart / sums)[0], rtol=0.01)


def test_variance_of_one_agent_is_that_of_its_own_recursion():
    """x+ = (1 - step h_b) x - step g_b with b one of n points: E x^2 in closed form."""
    drawn, step = Drawn(1, 1, 3), 0.05
    inputs = drawn.inputs(1)[0, :, 0]
    labels = drawn.labels(drawn.inputs(1))[0]
    best = inputs @ labels / (inputs @ inputs)
    force = inputs * (labels - inputs * best)  # minus the gradient at the minimiser
    a, b = 1 - step * inputs**2, step * force
    mean = np.mean(b) / (1 - np.mean(a))
    second = (np.mean(b**2) + 2 * np.mean(a * b) * mean) / (1 - np.mean(a**2))
    found = known.variance(drawn.unequal(), nd.methods.dgd(step_size=step), nd.graphs.isolated(1))
    assert found == pytest.approx(second - mean**2, rel=1e-8)


def test_fedavg_ends_where_centralized_descent_does():
    drawn = Drawn(3, 3, 0)
    inputs = np.random.default_rng(0).normal(size=(15, 20))
    kernel = inputs @ inputs.T / 20
    after = [known.apart_from_centralized(drawn, kernel, 0.3, t) for t in (16, 40_000)]
    assert after[0] > 1e-3 and after[1] < 1e-8


@pytest.mark.parametrize(
    "asked, said",
    [
        ({"name": "topologie"}, "did you mean 'topology-and-variance'"),
        ({"name": "linear-speed-up", "law": float("nan")}, "exponent"),
        ({"name": "linear-speed-up", "law": "steep"}, "exponent"),
        ({"name": "linear-speed-up", "problems": 0}, "whole number from 1"),
        ({"name": "linear-speed-up", "seed": -1}, "whole number from 0"),
    ],
)
def test_what_is_not_asked_well_is_refused(asked, said):
    with pytest.raises(InputError, match=said):
        claims.run(**asked)


def test_the_command_line_lists_runs_and_writes(tmp_path):
    listed = CliRunner().invoke(cli.app, ["claims", "list"])
    assert listed.exit_code == 0 and all(name in listed.stdout for name in CLAIMS)
    path = tmp_path / "found.nc"
    arguments = ["claims", "run", "linear-speed-up", "--problems", "1", "--out", str(path)]
    ran = CliRunner().invoke(cli.app, arguments)
    assert ran.exit_code == 0 and "holds: slope -1" in ran.stdout
    assert records.read(path).attrs["claim"] == "linear-speed-up"
    assert path.with_suffix(".pdf").exists()
    assert CliRunner().invoke(cli.app, ["claims", "run", "no"]).exit_code == 2


def test_every_claim_has_its_page():
    from pathlib import Path

    pages = Path(__file__).parent.parent / "papers" / "claims"
    assert {claim.page for claim in CLAIMS.values()} == {
        path.name for path in pages.glob("*.md") if path.name != "README.md"
    }
    assert all(name in (pages / "README.md").read_text() for name in CLAIMS)
