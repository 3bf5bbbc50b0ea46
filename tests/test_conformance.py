"""Conformance: implementations without the package, right and with mistakes in them."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import reference
from typer.testing import CliRunner

from ntkdyn import InputError, cli, conformance
from ntkdyn.conformance import cases, checking, mistakes

CASES = {name: conformance.case(name) for name in conformance.METHODS}


def plain(case, step_size=None, weights=None, start=1):
    """The methods as one would write them, in loops over agents; with a mistake by the settings."""
    eta = case.step_size if step_size is None else step_size
    W = case.weights if weights is None else weights
    agents, x = range(len(case.start)), [each.copy() for each in case.start]
    heard = lambda i, sent: sum(W[i, j] * sent[j] for j in agents)
    y = g = None
    seen = [np.stack(x)]
    for _ in range(case.rounds):
        now = [case.gradient(i, x[i]) for i in agents]
        if case.method == "dgd":
            x = [heard(i, x) - eta * now[i] for i in agents]
        elif case.method == "atc":
            sent = [x[i] - eta * now[i] for i in agents]
            x = [heard(i, sent) for i in agents]
        elif case.method == "cta":
            mixed = [heard(i, x) for i in agents]
            x = [mixed[i] - eta * case.gradient(i, mixed[i]) for i in agents]
        else:
            y = [start * each for each in now] if y is None else [
                heard(i, y) + now[i] - g[i] for i in agents
            ]  # fmt: skip
            x, g = [heard(i, x) - eta * y[i] for i in agents], now
        seen.append(np.stack(x))
    return np.stack(seen)


@pytest.mark.parametrize("name", conformance.METHODS)
def test_golden_iterates_are_those_of_message_passing_and_of_the_method_itself(name):
    case = CASES[name]
    rate = case.built.mixing.rate if name not in ("exact_diffusion", "nids") else 1
    W = (1 - rate) * np.eye(5) + rate * case.weights
    jacobian = np.concatenate(case.points)[:, None]
    targets = np.concatenate(case.targets)[:, None]
    owner = np.repeat(np.arange(5), cases.COUNTS)
    agents = [
        reference.Agent(i, jacobian, np.zeros_like(targets), targets, "mse") for i in range(5)
    ]
    for agent in agents:
        agent.d, agent.points = (
            case.start[agent.number].copy(),
            np.flatnonzero(owner == agent.number),
        )
        agent.heard = {j: w for j, w in enumerate(W[agent.number]) if w}
    seen = [case.start]
    for round in range(case.rounds):
        for agent in agents:
            agent.round = round
        reference.ROUNDS[name](agents, case.step_size)
        seen.append(np.stack([agent.d for agent in agents]))
    assert np.abs(case.iterates - np.stack(seen)).max() < 1e-12
    assert np.abs(case.iterates - mistakes.Run.of(case).iterates()).max() < 1e-12
    assert not np.allclose(case.weights, case.weights.T) or case.built.needs.symmetric


@pytest.mark.parametrize("name", ["dgd", "cta", "atc", "diging"])
def test_a_right_implementation_conforms_in_either_precision(name):
    assert conformance.check(plain, name).error < 1e-14
    single = conformance.check(plain(CASES[name]).astype(np.float32), name)
    assert single and 1e-10 < single.error < 1e-6 and "single precision" in str(single)


SEEDED = [
    ("dgd", {"weights": "transposed"}, "W is transposed"),
    ("cta", {"step_size": 0.5}, "n times"),
    ("atc", {"weights": "without own"}, "rows of W do not sum to one: the agent's own weight"),
    ("atc", {"weights": "own in full"}, "rows of W do not sum to one: agents add their own"),
    ("diging", {"start": 0}, "tracking starts at zero"),
    ("dgd", {"step_size": -0.1}, "added, not subtracted"),
    ("dgd", {"step_size": 0.2}, "lacks its half"),
    ("atc", {"weights": "average"}, "average over all agents"),
]


def changed(W, how):
    own = np.diag(np.diag(W))
    kinds = {
        "transposed": W.T,
        "without own": W - own,
        "own in full": W - own + np.eye(5),
        "average": np.full((5, 5), 0.2),
    }
    return kinds.get(how)


@pytest.mark.parametrize("name, wrong, said", SEEDED)
def test_a_seeded_mistake_is_named(name, wrong, said):
    case = CASES[name]
    settings = wrong | {"weights": changed(case.weights, wrong.get("weights"))}
    verdict = conformance.check(plain(case, **settings), name)
    assert not verdict and len(verdict.mistakes) == 1
    assert said in str(verdict)


def test_an_own_iterate_that_is_mixed_before_it_is_updated_is_named():
    case, x = CASES["atc"], CASES["atc"].start
    seen = [x]
    for _ in range(case.rounds):
        new = [x[i] - case.step_size * case.gradient(i, x[i]) for i in range(5)]
        x = np.stack(
            [
                sum(case.weights[i, j] * (x[j] if i == j else new[j]) for j in range(5))
                for i in range(5)
            ]
        )
        seen.append(x)
    verdict = conformance.check(np.stack(seen), "atc")
    assert verdict.mistakes == (
        "agents mix what they hear with their own iterate from before the round",
    )
    assert verdict.first == (1, 0)


@pytest.mark.slow
def test_two_mistakes_at_once_are_named_and_what_is_unknown_is_said_to_be():
    case = CASES["dgd"]
    two = conformance.check(plain(case, step_size=0.5, weights=case.weights.T), "dgd")
    assert {each[:9] for each in two.mistakes} == {"W is tran", "the step "}
    unknown = conformance.check(plain(case, step_size=0.137), "dgd")
    assert unknown.mistakes == () and "none of the known mistakes" in str(unknown)
    lost = plain(case)
    lost[5:, 2] = np.nan
    assert conformance.check(lost, "dgd").first == (5, 2)


def test_other_methods_orders_and_rounds_are_named():
    case = CASES["dgd"]
    verdict = conformance.check(CASES["cta"].iterates, "dgd")
    assert verdict.mistakes == ("these are the iterates of cta",)
    swapped = plain(case)[:, [1, 0, 2, 4, 3]]
    assert "another order: 1, 0, 2, 4, 3" in str(conformance.check(swapped, "dgd"))
    longer = plain(dataclasses.replace(case, rounds=13))
    assert "round given is round 1" in str(conformance.check(longer[1:], "dgd"))


@pytest.mark.parametrize("name", conformance.METHODS)
def test_every_mistake_that_changes_a_method_is_told_from_all_others(name):
    """Each is found again by its own iterates, and no two of them are alike."""
    case = CASES[name]
    whole, made = mistakes.Run.of(case), {}
    for mistake in mistakes.every(case):
        made[mistake.said] = mistake.made(whole).iterates()
    telling = {said: x for said, x in made.items() if not checking._same(case.iterates, x)}
    assert len(telling) > 10
    for (one, x), (other, y) in itertools.combinations(telling.items(), 2):
        assert np.abs(x - y).max() > 1e-3, (one, other)
    said, iterates = next(iter(telling.items()))
    assert conformance.check(iterates, name).mistakes == (said,)


def test_files_of_every_kind(tmp_path):
    iterates = plain(CASES["atc"])
    rows = [
        f"{t},{i},{','.join(map(repr, x.tolist()))}"
        for t, round in enumerate(iterates)
        for i, x in enumerate(round)
    ]
    np.save(tmp_path / "x.npy", iterates)
    np.savez(tmp_path / "x.npz", iterates=iterates)
    (tmp_path / "x.json").write_text(json.dumps({"iterates": iterates.tolist()}))
    (tmp_path / "x.csv").write_text("\n".join(["round,agent,a,b,c", *rows[::-1]]))
    for kind in ("npy", "npz", "json", "csv"):
        assert conformance.check(tmp_path / f"x.{kind}", "atc").error < 1e-14, kind


@pytest.mark.parametrize(
    "given, method, said",
    [
        (np.zeros((12, 5, 3)), "dgd", "round 0 is the start itself"),
        (np.zeros((13, 4, 3)), "dgd", r"must be of shape \(13, 5, 3\), got \(13, 4, 3\)"),
        (np.full((13, 5, 3), "a"), "dgd", "must be real numbers"),
        ("nowhere.npy", "dgd", "there is no file"),
        (np.zeros((13, 5, 3)), "drt", "look at one another's networks"),
        (np.zeros((13, 5, 3)), "dgdd", "dgd"),
    ],
)
def test_what_cannot_be_checked_is_refused(given, method, said):
    with pytest.raises(InputError, match=said):
        conformance.check(given, method)


def test_the_commands_write_a_case_and_judge_iterates(tmp_path):
    run = CliRunner().invoke
    place = tmp_path / "case.json"
    assert run(cli.app, ["conform", "case", "atc", "--out", str(place)]).exit_code == 0
    held = json.loads(place.read_text())
    assert np.array_equal(held["weights"], CASES["atc"].weights)
    right = run(cli.app, ["conform", "check", "atc", str(place)])
    assert (right.exit_code, right.output[:13]) == (0, "atc: conforms")
    wrong = run(cli.app, ["conform", "check", "cta", str(place)])
    assert wrong.exit_code == 3 and "iterates of atc" in wrong.output


def test_an_implementation_in_pytorch_conforms():
    """Gradients by its own differentiation, in its own tensors."""
    torch = pytest.importorskip("torch")

    def implemented(case):
        W, x = torch.tensor(case.weights), torch.tensor(case.start)
        seen = [x]
        for _ in range(case.rounds):
            x = x.detach().requires_grad_()
            losses = [
                ((torch.tensor(a) @ x[i] - torch.tensor(y)) ** 2).mean() / 2
                for i, (a, y) in enumerate(zip(case.points, case.targets, strict=True))
            ]
            (gradient,) = torch.autograd.grad(sum(losses), x)
            x = W @ (x.detach() - case.step_size * gradient)
            seen.append(x)
        return torch.stack(seen)

    assert conformance.check(implemented, "atc").error < 1e-12
    assert conformance.check(implemented, "dgd").mistakes == ("these are the iterates of atc",)
