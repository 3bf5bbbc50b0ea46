"""Models and logs of one's own, in Python and in specs, and specs written for one's files."""

import copy
import sys
import tomllib
from pathlib import Path

import networkx as nx
import numpy as np
import pages
import pandas as pd
import pytest
from typer.testing import CliRunner

import ntkdyn as nd
from ntkdyn import cli, drafts, experiment

TOWNS = ("east", "north", "south", "west")

FLAX = """
import flax.linen as nn

class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.tanh(nn.Dense(16)(x)))
"""

TORCH = """
import torch

def make():
    layers = torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)
    return torch.nn.Sequential(*layers)
"""

WRONG = """
import ntkdyn as nd

number = lambda: 3
network = lambda: nd.networks.mlp((8,), outputs=1, activation="erf")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with points, a graph and models, in which the test works."""
    x = np.random.default_rng(0).random((40, 2))
    frame = pd.DataFrame({"rooms": x[:, 0], "age": x[:, 1], "town": [*TOWNS[::-1]] * 10})
    frame.assign(price=x @ [3, -2]).to_csv(tmp_path / "houses.csv", index=False)
    roads = nx.relabel_nodes(nx.cycle_graph(4), dict(enumerate(TOWNS)))
    nx.write_graphml(roads, tmp_path / "roads.graphml")
    for name, text in {"ownflax": FLAX, "mymodel": TORCH, "ownothers": WRONG}.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def spec(model, **more):
    """What the page says of specs with models of one's own, shorter."""
    text = shown("toml").replace("mymodel:make", model)
    made = tomllib.loads(text)
    made["network"] |= more
    return experiment.Spec.model_validate(made).in_folder(Path())


def shown(language):
    """The code of that language on the page on models, of a PyTorch module and its log."""
    code = next(
        each for each in pages.codes("how-to/models.md", language, told=True) if "mymodel" in each
    )
    assert len(code.splitlines()) < 15
    return code.replace("200", "8")


def log_of(torch, module, part, W, rounds=8, step_size=0.05):
    """What a PyTorch user's own DGD writes down, by MSELoss, whose half is descended."""
    data, weights = part.data, torch.from_numpy(W.matrix.astype("f4"))
    x, y = (torch.from_numpy(np.array(e, "f4")) for e in (data.train_inputs, data.train_labels))
    agents, loss = [copy.deepcopy(module) for _ in range(part.agents)], torch.nn.MSELoss()
    rows = []
    for round in range(rounds + 1):
        for number, agent in enumerate(agents):
            own = torch.from_numpy(np.flatnonzero(part.owner == number))
            agent.zero_grad()
            value = loss(agent(x[own]), y[own])
            (value / 2).backward()
            rows.append((round, part.agent_names[number], value.item()))
        with torch.no_grad():
            for one in zip(*(agent.parameters() for agent in agents), strict=True):
                mixed = torch.einsum("ij,j...->i...", weights, torch.stack(list(one)))
                for each, value in zip(one, mixed, strict=True):
                    each.copy_(value - step_size * each.grad)
    return pd.DataFrame(rows, columns=["round", "agent", "loss"])


@pytest.mark.slow
def test_the_pages_own_model_and_log_come_to_an_overlay(folder):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    import mymodel

    data = nd.data.read("houses.csv", target="price", owner="town", test=0.25, seed=0)
    part = nd.data.partition(data, by="given")
    graph = nd.graphs.metropolis(nd.graphs.read("roads.graphml"))
    W = nd.graphs.mixing(graph, agents=4, names=part.agent_names)
    torch.manual_seed(0)
    table = log_of(torch, mymodel.make(), part, W)
    table.to_csv("log.csv", index=False)
    torch.manual_seed(0)
    with pytest.raises(nd.InputError, match="PyTorch's MSELoss .*give its factor.*: 0.5}"):
        exec(shown("python"), {"nd": nd})
    table.assign(loss=table["loss"] / 2).to_csv("log.csv", index=False)
    torch.manual_seed(0)
    names = {"nd": nd}
    exec(shown("python"), names)
    assert (folder / "overlay.png").stat().st_size > 10_000
    assert nd.compare(names["pred"], names["log"]).attrs["largest_gap"] < 0.1
    (folder / "own.toml").write_text(shown("toml"))
    call = lambda *words: CliRunner().invoke(cli.app, [*words])
    done = call("predict", "own.toml", "--out", "results", "--quiet")
    assert done.exit_code == 0, done.output
    done = call("compare", "results/predicted.nc", "log.csv", "--out", "laid")
    assert done.exit_code == 0 and "by train_loss alone" in done.output
    predicted = nd.records.read("results/predicted.nc")
    np.testing.assert_allclose(predicted["outputs"], names["pred"]["outputs"], atol=1e-9)
    for words in (("run", "own.toml"), ("train", "own.toml")):
        done = call(*words, "--out", "no")
        assert done.exit_code == 2 and "is predicted here (`ntkdyn predict`)" in done.output


@pytest.mark.slow
def test_a_flax_model_of_a_spec_is_that_model(folder):
    import ownflax

    work = experiment.Experiment(spec("ownflax:Net"))
    model = ownflax.Net()
    network = nd.networks.wrap(model.apply, model.init, 1)
    problem = nd.Problem(network, work.partition, seed=0)
    assert (work.problem.initial == problem.initial).all()
    work.check(trained=True)
    assert work.predict().attrs["network"] == "Net"
    own = experiment.Experiment(spec("ownothers:network")).problem
    assert own.name == "mlp 8-1 erf"


def test_the_spec_that_a_record_keeps_is_read_again_with_its_model(folder):
    asked = spec("ownothers:network", own_starts=True)
    again = experiment.parse(asked.text(), "spec")
    assert again == asked and "activation" not in again.text()
    assert experiment.Experiment(again).network.name == "mlp 8-1 erf"
    assert experiment.with_seed(asked, 3).seed == 3


def test_without_pytorch_it_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(nd.InputError, match="from_torch: needs PyTorch; install it, as with pip"):
        nd.kernels.from_torch(object(), np.ones((2, 2)))


REFUSED = [
    (lambda: spec("ownothers:number"), "must make a Network, a flax module or .*, got int"),
    (lambda: spec("ownothers:nothing"), "network: ownothers has no 'nothing' that could be called"),
    (lambda: spec("nowhere:make"), "network: cannot import 'nowhere'"),
    (lambda: spec("ownflax:Net", activation="erf"), "activation does not go with a model"),
]


@pytest.mark.parametrize("make, message", REFUSED, ids=[message[:30] for _, message in REFUSED])
def test_models_that_are_none_are_refused(make, message, folder):
    with pytest.raises(nd.InputError, match=message):
        _ = experiment.Experiment(make()).network


def test_a_network_has_widths_or_a_model(folder):
    text = shown("toml")
    for network in ("{ }", '{ widths = [8], model = "mymodel:make" }'):
        wrong = text.replace('{ model = "mymodel:make" }', network)
        with pytest.raises(nd.InputError, match="network.widths must be given, or a model"):
            experiment.parse(wrong, "spec")


# --- drafts -------------------------------------------------------------------------------------


def test_a_new_spec_says_what_was_seen_and_runs(folder):
    call = lambda *words: CliRunner().invoke(cli.app, ["new", "houses.csv", *words])
    done = call("--graph", "roads.graphml")
    assert done.exit_code == 0, done.output
    text = (folder / "spec.toml").read_text()
    assert text in done.output
    assert 'target = "price"  # numbers: regression' in text
    assert 'owner = "town"  # one of 4 agents' in text and "[partition]" not in text
    work = experiment.Experiment(experiment.load("spec.toml"))
    assert work.partition.agent_names == TOWNS and work.weights.agents == 4
    work.check()
    done = call()
    assert done.exit_code == 2 and "spec.toml is there already; write to another" in done.output


def test_drafts_look_at_the_columns():
    frame = pd.DataFrame({"Unnamed: 0": range(6), "site": [*"abcabc"], "x": np.arange(6.0)})
    frame = frame.assign(gap=[None, *range(5)], same=1, word=[*"uvwxyz"], Label=[*"pqpqpq"])
    seen = drafts.look(frame)
    assert seen.owner == "site" and seen.agents == 3 and seen.target == "Label"
    assert seen.features == ["x"] and seen.task == "2 classes: p, q"
    assert seen.left_out == {
        "Unnamed: 0": "has no name, as an index that was saved",
        "gap": "1 values are missing",
        "same": "is the same in all rows",
        "word": "holds no numbers",
    }
    graph = nx.Graph([("u", "v"), ("v", "w"), ("w", "x"), ("x", "y"), ("y", "z")])
    assert drafts.look(frame, graph).owner == "word", "they are the graph's agents"
    bare = drafts.look(pd.DataFrame({"a": [0.5, 1.5], "b": [1.0, 2.0]}))
    assert bare.owner is None and bare.agents == drafts.AGENTS and bare.target == "b"
    with pytest.raises(nd.InputError, match="no column holds numbers to learn from"):
        drafts.look(pd.DataFrame({"a": [*"uv"], "y": [0, 1]}))
    with pytest.raises(nd.InputError, match="a table needs a target and a feature"):
        drafts.look(pd.DataFrame({"y": [0, 1]}))


def plain(graph):
    return graph


def weighed(graph):
    nx.set_edge_attributes(graph, {link: 1.0 + k for k, link in enumerate(graph.edges)}, "weight")
    return graph


ONE_WAY = nx.DiGraph([("a", "b"), ("b", "c"), ("c", "a"), ("a", "c")])


@pytest.mark.parametrize("weigh", [plain, weighed])
@pytest.mark.parametrize("graph", [nx.path_graph(["a", "b", "c"]), ONE_WAY], ids=["both", "one"])
def test_the_graph_of_a_draft_is_one_that_its_rule_takes(graph, weigh, tmp_path):
    nx.write_graphml(weigh(graph.copy()), tmp_path / "g.graphml")
    rows = [f"{number / 7},{number**2},{'abc'[number % 3]}" for number in range(12)]
    (tmp_path / "t.csv").write_text("\n".join(["x,y,who", *rows]))
    text = drafts.spec(tmp_path / "t.csv", tmp_path / "g.graphml")
    (tmp_path / "spec.toml").write_text(text)
    W = experiment.Experiment(experiment.load(tmp_path / "spec.toml")).weights
    assert W.agents == 3 and np.allclose(W.matrix.sum(axis=1), 1)
    assert ("sinkhorn" in W.name) == (weigh is weighed and not graph.is_directed())


def test_drafts_of_folders_are_refused_as_such(tmp_path):
    with pytest.raises(nd.InputError, match="is a folder, not the file of a table"):
        drafts.spec(tmp_path)
