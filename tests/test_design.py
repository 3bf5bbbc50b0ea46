"""Design: settings predicted in bulk are those predicted one by one; targets, costs and fronts."""

import sys

import numpy as np
import pytest
import xarray as xr

import ntkdyn as nd
from ntkdyn import cli, design, experiment, records
from ntkdyn.design import axes as along, study, targets
from ntkdyn.errors import InputError

SPEC = """
kernel = "infinite"
[data]
name = "digits"
train = 30
test = 12
[partition]
agents = 5
by = "dirichlet"
alpha = 1.0
[network]
widths = [16]
[graph]
topology = "ring"
[method]
name = "dgd"
step_size = 0.3
[run]
rounds = 8
record_every = 4
"""
ROUNDS = [0, 4, 8]
OVER = [
    "graph.topology=ring,star,hypercube",
    "method.name=dgd,diging",
    "partition.alpha+method.step_size.of_limit=0.3+0.4,5+0.8,5+0.5",
]


@pytest.fixture(scope="module")
def base():
    return experiment.Experiment(experiment.parse(SPEC, "spec"))


@pytest.fixture(scope="module")
def found(base):
    return design.predicted(base, [design.axis(each) for each in OVER], ROUNDS)


def test_in_bulk_is_one_by_one(base, found):
    """Of graphs, methods, owners and steps that differ, each in its place."""
    axes, names = [design.axis(each) for each in OVER], ("train_loss", "test_loss", "global_loss")
    tried = 0
    for place, changes in enumerate(along.settings(axes)):
        if changes["graph.topology"] == "hypercube":
            continue
        places = np.unravel_index(place, (3, 2, 3))
        at = dict(zip(found.attrs["axes"].split("; "), places, strict=True))
        work = experiment.Experiment(study.of_place(base.spec, axes, place))
        alone = nd.predict(work.system, ROUNDS)
        for name in (*names, "train_accuracy", "test_accuracy", "floats_sent"):
            bulk = found[name].isel(at)
            np.testing.assert_allclose(bulk, alone[name], rtol=1e-10, atol=1e-12, err_msg=name)
        tried += 1
    assert tried == 12
    last = found["train_loss"].isel(round=-1).values[:2].reshape(12, -1)
    assert len(np.unique(last.round(8), axis=0)) == 12, "no two settings are the same"


def test_a_batch_of_one_is_as_a_batch_of_many(base, monkeypatch):
    axes = [design.axis("graph.topology=ring,star"), design.axis("method.step_size=0.1:0.3:3")]
    many = design.predicted(base, axes, [3])
    monkeypatch.setattr(design.bulk, "ROOM", 1)
    one = design.predicted(base, axes, [3])
    np.testing.assert_allclose(one["train_loss"], many["train_loss"], rtol=1e-12)
    assert len(np.unique(many["train_loss"].values[..., 0, 0].round(9))) == 6


def test_settings_that_cannot_be_run_are_left_out(found):
    assert np.isnan(found["train_loss"].sel({"graph.topology": "hypercube"})).all()
    assert found.attrs["settings_left_out"] == 6 and found.attrs["settings"] == 18
    assert "hypercube: dimension must be given" in found.attrs["left_out"]


def test_other_owners_share_the_kernel(base, monkeypatch):
    computed = []
    ntk = nd.problems.infinite.ntk
    monkeypatch.setattr(nd.problems.infinite, "ntk", lambda *a: computed.append(1) or ntk(*a))
    axes = [design.axis("partition.alpha=0.4,2,7"), design.axis("partition.agents=2,3")]
    seen = design.predicted(base, axes, [2])
    assert len(computed) == 1
    lacking = np.isnan(seen["train_loss"].sel({"partition.agents": 2})).all(
        ("partition.alpha", "round")
    )
    assert lacking.values.tolist() == [False, False, True]


@pytest.mark.parametrize(
    "text, values",
    [
        ("method.step_size=0.1:0.5:3", [0.1, 0.3, 0.5]),
        ("method.step_size=1e-3:1:4:log", [0.001, 0.01, 0.1, 1.0]),
        ("partition.agents=2:8:4", [2, 4, 6, 8]),
        ("graph.topology=ring, star", ["ring", "star"]),
        ("network.widths=[8 8],[16]", ["(8, 8)", "(16,)"]),
        ("a.b+c.d=1+x,2+y", ["1 + x", "2 + y"]),
    ],
)
def test_axes(text, values):
    assert design.axis(text).ticks == values


@pytest.mark.parametrize(
    "texts, said",
    [
        (["method.step_size"], "over: must be a setting, = and what it takes"),
        (["method.step_size="], "takes 1 values at a time"),
        (["method.step_size=1:0:4"], "must go from one number up to a larger one"),
        (["method.step_size=0:1:4:log"], "must begin above 0, got 0"),
        (["method.step_size=0:1:4:lin"], 'after the count may stand "log"'),
        (["method.step_size=a:1:4"], "must be low:high:count, in numbers"),
        (["method.step_size=1,1"], "takes a value twice"),
        (["a+b=1+2,3"], "takes 2 values at a time"),
        (["a=1,2", "a=3,4"], "a is on two axes"),
        (["a=0:1:2000", "b=0:1:2000"], "4000000 settings are more than"),
        (["method.nam=dgd"], "method.*nam"),
        (["kernel=implicit"], 'kernel: many runs share one that is formed, not "implicit"'),
    ],
)
def test_refusals(base, texts, said):
    with pytest.raises(InputError, match=said):
        design.predicted(base, [design.axis(each) for each in texts], [1])


def curves(losses, sent):
    """Settings (s) whose two agents have these losses and have sent so much in rounds 0, 5, 10."""
    dims = ("s", "round", "agent")
    both = np.repeat(np.array(losses, float)[..., None], 2, axis=2)
    both[..., 1] += 0.01  # the worse one
    paid = np.repeat(np.array(sent, float)[..., None], 2, axis=2)
    return xr.Dataset(
        {"train_loss": (dims, both), "floats_sent": (dims, paid)}, {"round": [0, 5, 10]},
        {"settings": len(losses), "left_out": "", "settings_left_out": 0},
    )  # fmt: skip


def test_what_reaches_a_target_and_at_what_cost():
    record = curves(
        [[1, 0.5, 0.1], [1, 0.3, 0.05], [1, 0.9, 0.8], [np.nan] * 3],
        [[0, 10, 20], [0, 50, 100], [0, 1, 2], [0, 0, 0]],
    )
    wanted = design.target("worst train_loss <= 0.32")
    found = design.reached(record, wanted, "floats")
    assert found["reached_round"].values[:2].tolist() == [10, 5]
    assert found["cost"].values[:2].tolist() == [40, 100] and np.isnan(found["cost"][2:]).all()
    assert design.ranked(found, more=False) == [0, 1, 2]
    assert found["front"].values.tolist() == [True, True, True, False]
    slow = design.Clock(compute=1, bandwidth=40, latency=0)
    seconds = design.reached(record, wanted, "seconds", slow)["cost"].values
    assert seconds[:2].tolist() == [10 + 4 * 20 / 40, 5 + 4 * 50 / 40]
    assert design.reached(record, wanted, "rounds")["cost"].values[:2].tolist() == [10, 5]
    best = design.reached(record, design.target("best train_loss <= 0.3"), "rounds")
    assert best["cost"].values[1] == 5, "the better agent is there"
    beaten = curves([[1, 0.5, 0.1], [1, 0.5, 0.2]], [[0, 10, 20], [0, 10, 30]])
    assert design.reached(beaten, wanted)["front"].values.tolist() == [True, False]


@pytest.mark.parametrize(
    "text, said",
    [
        ("test_accuracy >= 0.9", "reach: must be like"),
        ("worst test_accuracy >= high", "reach: must be like"),
        ("worst test_accuracy > 0.9", "reach: must be like"),
        ("worst test_acuracy >= 0.9", "did you mean 'test_accuracy'"),
    ],
)
def test_targets_that_are_none_are_refused(text, said):
    with pytest.raises(InputError, match=said):
        design.target(text)


def test_the_ranks_of_what_was_trained():
    record = curves([[1, 0.5, k / 10] for k in (1, 2, 3)], [[0, k, 2 * k] for k in (1, 2, 3)])
    found = design.reached(record, design.target("worst train_loss <= 0.6"), "floats")
    trained = record.isel(s=[2, 1, 0]).rename(s="setting").assign_coords(setting=[0, 1, 2])
    trained = design.reached(trained, design.target("worst train_loss <= 0.6"), "floats")
    axes = [along.Axis(("a.b",), ((1,), (2,), (3,)))]
    lines = design.said(found, axes, [0, 1, 2], trained)
    assert lines[0] == "3 of 3 settings reach worst train_loss <= 0.6"
    assert lines[1] == "  a.b = 1: 2 floats, round 5; trained: 6 floats, round 5"
    assert lines[-1].endswith("agree by -1.00 (Spearman)")
    assert targets.said(found, axes, [0, 1, 2], None)[1] == "  a.b = 1: 2 floats, round 5"


def call(*arguments):
    sys.argv = ["ntkdyn", *map(str, arguments)]
    with pytest.raises(SystemExit) as left:
        cli.app()
    return left.value.code or 0


def test_the_command(tmp_path, capsys):
    spec = tmp_path / "s.toml"
    spec.write_text(SPEC)
    given = [
        "design", str(spec), "--over", "graph.topology=ring,complete", "--over",
        "method.step_size.of_limit=0.4,0.8", "--reach", "worst train_loss <= 1.4", "--cost",
        "rounds", "--out", str(tmp_path / "d"),
    ]  # fmt: skip
    assert call(*given, "--confirm", 3) == 0
    said = capsys.readouterr().out
    assert "settings reach" in said and "trained" in said and "Spearman" in said
    record = records.read(tmp_path / "d" / "design.nc")
    assert record["front"].sizes == {"graph.topology": 2, "method.step_size.of_limit": 2}
    assert float(record["cost"].min()) <= 8 and record["test_accuracy"].ndim == 4
    assert call(*given, "--confirm", -1, "--overwrite") == 2
    assert "--confirm: must be a whole number" in capsys.readouterr().err
