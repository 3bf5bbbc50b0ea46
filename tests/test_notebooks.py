"""What is shown: short words for everything, pictures without scripts, one line while one waits."""

import inspect
import io
import pickle
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from cases import ALL_METHODS, MIXINGS, method, small_data, small_problem

import ntkdyn as nd
from ntkdyn import display, progress
from ntkdyn.data import Partition

RING = MIXINGS["ring"]


@pytest.fixture(scope="module")
def system(small):
    return nd.System(small(8).problem, nd.methods.gut(step_size=0.05), RING)


def every(system):
    """All that a user has in hands."""
    problem, bare = system.problem, nd.KernelProblem(np.eye(4), np.arange(4.0), [0, 1, 0, 1])
    failing = nd.graphs.link_failures(RING, 0.1, length=4, seed=0)
    own = [system, problem, bare, problem.partition, problem.partition.data, system.method, RING]
    parts = [problem.task, problem.loss, problem.network, bare.kernel(), failing]
    return [*own, *parts, nd.System(bare, nd.methods.dgd(step_size=0.1), [[0.5, 0.5]] * 2)]


def test_words_are_short_and_hold_no_arrays(system):
    for each in every(system):
        said = repr(each)
        assert len(said) < 320 and "\n" not in said and "array" not in said and "[" not in said
    assert repr(RING) == "MixingMatrix('metropolis', 8 agents, spectral gap 0.195)"
    assert repr(system.method) == "Method('gut', step_size=0.05)"
    half = nd.methods.dgd(step_size=nd.of_limit(0.5))
    assert repr(half) == "Method('dgd', step_size=of_limit(0.5))"
    said = "14 training and 4 test points, 8 agents, loss='mse'"
    assert repr(system.problem) == f"Problem(mlp 8-8-2 erf, {said})"


def test_large_graphs_say_what_takes_no_time():
    agents = 400
    W = nd.graphs.uniform(nd.graphs.directed_ring(agents))
    assert repr(W) == "MixingMatrix('uniform', 400 agents)" and "eigenvalues" not in vars(W)
    assert "<svg" not in W._repr_html_() and "eigenvalues" not in vars(W)


def test_notebooks_show_whole_elements_without_scripts(system):
    for each in every(system):
        if hasattr(each, "_repr_html_"):
            shown = each._repr_html_()
            ElementTree.fromstring(f"<div>{shown}</div>")
            assert "<script" not in shown and "http" not in shown and len(shown) < 20_000


def test_the_picture_of_a_graph_has_its_links_and_names():
    names = ("a<b", "c", "d", "e")
    W = nd.graphs.metropolis(nd.graphs.path(4))
    drawn = ElementTree.fromstring(display.graph(W.matrix, names))
    count = lambda tag: sum(each.tag == tag for each in drawn.iter())
    assert count("line") == 3 and count("circle") == 4
    assert [each.text for each in drawn.iter("text")] == [*names]
    one_way = display.graph(nd.graphs.uniform(nd.graphs.directed_ring(5)).matrix)
    assert one_way.count("url(#to)") == 5
    places = ElementTree.fromstring(display.spectrum(np.array([1, 0.5j]))).iter("circle")
    x = [(float(each.get("cx")), float(each.get("cy"))) for each in places][1:]
    assert x[0][1] == x[1][0] == display.SIZE / 2 and x[1][1] < display.SIZE / 2


@pytest.mark.parametrize("name", ALL_METHODS)
def test_every_method_shows_its_update(name):
    latex = method(name, 0.1).latex
    assert "leftarrow" in latex or "=" in latex
    assert "<-" not in latex and "`" not in latex and latex.count("(") == latex.count(")")
    assert latex in method(name, 0.1)._repr_latex_()


def test_formulas_in_latex():
    assert display.latex("x <- W (x - eta g(x)).") == r"x \leftarrow W (x - \eta g(x))"
    said = "psi+ = x - eta g(x),  x <- W (psi+ + x - psi),  with psi = x at the start."
    wanted = r"\psi ^{+} = x - \eta g(x),\quad x \leftarrow W (\psi ^{+} + x - \psi )"
    assert display.latex(said) == wanted
    assert display.latex("An update whose whole state is the iterate.") == ""


def sent(problem):
    """There and back again."""
    return pickle.loads(pickle.dumps(problem))


def test_problems_and_systems_pickle_and_predict_the_same(system):
    _ = system.problem.empirical
    data = pickle.dumps(system)
    assert len(data) < 10_000, "kernels are not sent along"
    there = pickle.loads(data)
    one, other = (nd.predict(each, [0, 5]) for each in (system, there))
    assert (one["outputs"] == other["outputs"]).all() and there.problem.loss is nd.losses.mse
    bare = nd.KernelProblem(np.eye(4), np.arange(4.0), [0, 1, 0, 1], loss="huber")
    again = sent(nd.System(bare, nd.methods.dgd(step_size=nd.of_limit(0.5)), [[0.5, 0.5]] * 2))
    assert (again.problem.given.whole == np.eye(4)).all() and again.method.step_size.share == 0.5


NETWORKS = [
    nd.networks.cnn((4,), outputs=2, activation="relu", image=(3, 1, 1), filter=1),
    nd.networks.resnet((4,), outputs=2, activation="erf", image=(3, 1, 1)),
    nd.networks.mlp((4, 3), outputs=2, activation="gelu", w_std=(1.0, 2.0, 3.0)),
]


@pytest.mark.parametrize("network", NETWORKS, ids=repr)
def test_networks_pickle_by_the_arguments_they_were_made_from(network):
    again = sent(network)
    assert again.apply is network.apply and again.description == network.description


def apply(params, x):
    return x @ params["W"]


def start(key, features):
    return {"W": np.ones((features[0], 2), np.float32)}


def test_models_from_elsewhere_pickle_where_their_functions_do(small):
    share = Partition(small_data(), np.arange(14) % 4, 4, "given")
    network = nd.networks.wrap(apply, start, 2)
    there = sent(nd.Problem(network, share))
    assert (there.empirical.whole == nd.Problem(network, share).empirical.whole).all()
    rounded = small_problem(4, "mse").problem.network.in_bfloat16
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        sent(rounded)


# --- progress -----------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


@progress.watched("waiting")
def long(*, progress=None):
    for done in range(1, 4):
        if progress:
            progress(done, 3)
    return progress


@progress.watched("outside")
def outer(*, progress=None):
    return progress, long()


def test_terminals_show_one_line_that_goes(monkeypatch):
    monkeypatch.setattr(progress, "AFTER", 0)
    monkeypatch.setattr(progress, "EVERY", 0)
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    assert long() is not None
    shown = terminal.getvalue().split("\r")
    assert "waiting" in shown[1] and "3/3" in shown[3] and not shown[-2].strip() and not shown[-1]
    mine = lambda done, total: None
    before = terminal.getvalue()
    assert long(progress=mine) is mine and terminal.getvalue() == before
    own, inner = outer()
    assert own is not None and inner is None
    with progress.quiet():
        assert long() is None


def test_files_and_tests_see_nothing(monkeypatch, small, capsys):
    assert long() is None
    monkeypatch.setattr("sys.stderr", None)
    assert long() is None and not progress.seen()
    monkeypatch.undo()
    nd.predict(small(4).problem, nd.methods.dgd(step_size=0.1), np.full((4, 4), 0.25), 2)
    assert capsys.readouterr() == ("", "")


def test_questions_take_progress_as_before():
    for call in (nd.predict, nd.train, nd.step_size_limit, nd.validation.nulls):
        assert "progress" in inspect.signature(call).parameters
