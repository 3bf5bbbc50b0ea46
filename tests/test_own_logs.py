"""Logs of others' deployments: read as what they are, laid over predictions, refused by row."""

import json

import numpy as np
import pandas as pd
import pytest
from cases import small_data
from typer.testing import CliRunner

import ntkdyn as nd
from ntkdyn import cli, figures, records
from ntkdyn.data import Partition
from ntkdyn.validation import from_log

ROUNDS = [0, 5, 10, 15, 20]
W = nd.graphs.metropolis(nd.graphs.ring(4))


@pytest.fixture(scope="module")
def runs():
    """(predicted in every round, observed in some) of four agents with names."""
    network = nd.networks.mlp((32,), outputs=2, activation="erf", w_std=1.5, b_std=0.3)
    share = Partition(small_data(), np.arange(14) % 4, 4, "given", ("a", "b", "c", "d"))
    system = nd.System(nd.Problem(network, share), nd.methods.dgd(step_size=0.15), W)
    return nd.predict(system, 20), nd.train(system, ROUNDS)


@pytest.fixture
def table(runs):
    """The observed run as somebody's log: losses and accuracies, rows in any order."""
    frame = runs[1][["train_loss", "test_accuracy"]].to_dataframe().reset_index()
    frame = frame.assign(node=frame["agent_name"])[["round", "node", "train_loss", "test_accuracy"]]
    return frame.rename(columns={"train_loss": "Loss/train", "test_accuracy": "accuracy"})


def test_a_table_becomes_the_record_of_its_columns(runs, table):
    shuffled = table.sample(frac=1, random_state=0)
    log = from_log(shuffled, runs[0])
    for name in ("train_loss", "test_accuracy"):
        assert (log[name].values == runs[1][name].values).all() and log[name].attrs["units"] == "1"
    assert json.loads(log.attrs["log_columns"]) == {
        "round": "round", "agent": "node", "train_loss": "Loss/train", "test_accuracy": "accuracy",
    }  # fmt: skip
    assert log.attrs["log_lacks"].startswith("global_loss, test_loss, train_accuracy, consensus")
    assert records.agent_names(log) == ["a", "b", "c", "d"]


def test_the_gaps_of_a_table_are_those_of_its_losses(runs, table):
    predicted, observed = runs
    found = nd.compare(predicted, from_log(table, predicted))
    p, o = predicted["train_loss"].sel(round=ROUNDS).values, observed["train_loss"].values
    np.testing.assert_allclose(found["gap"][1:], np.abs(p - o)[1:] / np.abs(o - o[0])[1:])
    own = lambda values: values - values.mean(axis=1, keepdims=True)
    apart, moved = own(p - o)[-1], own(o - o[0])[-1]
    wanted = np.linalg.norm(apart) / np.linalg.norm(moved)
    assert np.isclose(found.attrs["deviation_gap"], wanted) and 0 < wanted < 0.2
    assert (found["train_loss_difference"].values == p - o).all()
    assert found.attrs["compared"] == "train_loss"
    assert found.attrs["verdict"].endswith("by train_loss alone, for the log holds no outputs")
    along = found["observed_deviation"].values[-1]
    np.testing.assert_allclose(along, np.abs(moved) / np.abs(o[-1] - o[0]))


def test_outputs_of_a_log_are_compared_as_outputs_are(runs, tmp_path):
    predicted, observed = runs
    order = [2, 0, 3, 1]
    names = np.array(records.agent_names(predicted))[order]
    held = {"outputs": observed["outputs"].values[:, order], "round": ROUNDS, "agent": names}
    np.savez(tmp_path / "log.npz", **held)
    wanted = nd.compare(predicted.sel(round=ROUNDS), observed)
    for source in (held, tmp_path / "log.npz"):
        log = from_log(source, predicted)
        found = nd.compare(predicted, log)
        for name in ("gap", "deviation_gap", "test_gap", "test_accuracy_difference"):
            np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, atol=1e-6)
        assert found.attrs["verdict"] == wanted.attrs["verdict"]
    np.testing.assert_allclose(log["train_loss"], observed["train_loss"], rtol=1e-5)
    far = held | {"outputs": held["outputs"] + 1}
    with pytest.raises(nd.InputError, match="outputs at the start differ by .* of other networks"):
        nd.compare(predicted, from_log(far, predicted))


def test_units_are_set_right_and_said(runs, table):
    in_percent = table.assign(accuracy=100 * table["accuracy"])
    in_percent["Loss/train"] *= 0.2
    with pytest.raises(nd.InputError, match="0.2 times the predicted one, .*{'train_loss': 5}"):
        from_log(in_percent, runs[0])
    log = from_log(in_percent, runs[0], factors={"train_loss": 5})
    np.testing.assert_allclose(log["train_loss"], runs[1]["train_loss"])
    np.testing.assert_allclose(log["test_accuracy"], runs[1]["test_accuracy"])
    read = json.loads(log.attrs["log_columns"])
    assert read["train_loss"] == "Loss/train x 5" and read["test_accuracy"].endswith("in per cent")
    table["Loss/train"] *= 1 + 0.3 * (table["node"] == "b")
    assert "it starts" in nd.compare(runs[0], from_log(table, runs[0])).attrs["verdict"]


def test_columns_and_agents_may_be_called_anything(runs, table):
    table = table.rename(columns={"Loss/train": "x", "round": "t"}).assign(node=table["node"] + "!")
    given = {"round": "t", "train_loss": "x"}
    log = from_log(table, runs[0], columns=given, agents={f"{each}!": each for each in "abcd"})
    assert (log["train_loss"].values == runs[1]["train_loss"].values).all()


def lose(frame, row):
    return frame.drop(index=row)


WRONG = [
    (lambda t: pd.concat([t, t.iloc[[3]]]), "rows 4 and 21 are both of agent 'd' in round 0"),
    (lambda t: lose(t, 6), "1 rows are missing, the first of agent 'c' in round 5; every"),
    (lambda t: t.replace("d", "e"), "has agents 'e' and lacks 'd', where the prediction's are 'a'"),
    (lambda t: t[t.node != "d"], "lacks 'd', where"),
    (lambda t: t.assign(round=t["round"] + 0.5), "rounds must be whole .*, got 0.5 in row 1"),
    (lambda t: t.assign(accuracy=["high"] * 20), "column 'accuracy' must hold numbers, got 'high'"),
    (lambda t: t.assign(accuracy=200.0), "test_accuracy must be shares, or per cent, got up to 20"),
    (lambda t: t.assign(accuracy=[None, *[0.5] * 19]), r"1 values are missing, in row 1 \('acc"),
    (lambda t: t.assign(node=[1, *t.node[1:]]), "must hold one kind of values, got 1 in row 1"),
    (lambda t: t.drop(columns="node"), "is called as the agent; say .*, as in columns={'agent': "),
    (lambda t: t[["round", "node"]], r"none of its columns \['round', 'node'\] is called as a mea"),
    (lambda t: t.iloc[:0], "log: holds no rows"),
    (lambda t: t.assign(**{"Loss/train": -1.0}), "train_loss must not be negative, got -1"),
    (lambda t: {"x": 1}, "must hold outputs, got 'x'"),
    (lambda t: {"outputs": np.ones((21, 4, 3, 2))}, r"outputs must be .* = \(21, 4, 18, 2\), got"),
    (lambda t: {"outputs": np.ones((3, 4, 18, 2))}, "holds 3 rounds and no array `round`"),
    (lambda t: "nowhere.csv", "there is no file nowhere.csv"),
]  # fmt: skip


@pytest.mark.parametrize("change, message", WRONG, ids=[message[:20] for _, message in WRONG])
def test_what_cannot_be_laid_over_is_refused_by_row(change, message, runs, table):
    with pytest.raises(nd.InputError, match=message):
        from_log(change(table), runs[0])


def test_agents_are_found_by_their_names(runs, table):
    called = from_log(table.rename(columns={"node": "Town"}), runs[0])
    assert json.loads(called.attrs["log_columns"])["agent"] == "Town"
    assert (called["train_loss"].values == runs[1]["train_loss"].values).all()
    numbers = {number: name for number, name in enumerate("abcd")}
    numbered = table.assign(node=table.node.map({v: k for k, v in numbers.items()}))
    again = from_log(numbered.rename(columns={"node": "Town"}), runs[0], agents=numbers)
    assert (again["train_loss"].values == called["train_loss"].values).all()


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("given", ["columns", "agents", "factors"])
def test_what_is_said_of_a_log_is_said_by_name(given, runs, table):
    with pytest.raises(nd.InputError, match=rf"{given}: must be a dictionary, got \['x'\]"):
        from_log(table, runs[0], **{given: ["x"]})
    with pytest.raises(nd.InputError, match="must be positive and finite, got inf"):
        from_log(table, runs[0], factors={"train_loss": float("inf")})


def test_logs_of_other_rounds_and_of_nothing_predicted_are_refused(runs, table):
    late = from_log(table.assign(round=table["round"] + 100), runs[0])
    with pytest.raises(nd.InputError, match="none of the log's rounds, 100 to 120, is among .* 0"):
        nd.compare(runs[0], late)
    distance = table.drop(columns="accuracy").rename(columns={"Loss/train": "displacement"})
    with pytest.raises(nd.InputError, match="the log holds none of train_loss, global_loss, test_"):
        nd.compare(runs[0], from_log(distance, runs[0]))
    with pytest.raises(nd.InputError, match="measure of a log is called 'los'; did you mean"):
        from_log(table, runs[0], columns={"los": "x"})


@pytest.mark.slow
def test_the_command_line_takes_logs(runs, table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    records.write(runs[0], "predicted.nc")
    table.rename(columns={"Loss/train": "L"}).to_csv("log.csv", index=False)
    call = lambda *more: CliRunner().invoke(cli.app, ["compare", "predicted.nc", "log.csv", *more])
    done = call("--column", "train_loss=L", "--out", "out")
    assert done.exit_code == 0, done.output
    said = "log.csv: train_loss from L, round from round, agent from node, test_accuracy from acc"
    assert said in done.output and "it does not hold global_loss" in done.output
    report = (tmp_path / "out" / "report.html").read_text()
    assert "What was observed" in report and "Why they part" not in report
    drawn = [records.read(f"out/{name}.nc") for name in ("observed", "comparison")]
    figure = figures.draw("overlay", [runs[0], *drawn])
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert "distance from the mean agent,\nnot observed" in titles
    assert call("--factor", "train_loss=a").exit_code == 2
    assert call("--column", "train_loss").exit_code == 2
