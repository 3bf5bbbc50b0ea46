"""Graphs of one's own: every format is read, agents keep their names, weights are heeded or not."""

import json
import tomllib

import networkx as nx
import numpy as np
import pages
import pandas as pd
import pytest
import scipy.io
import scipy.sparse
import tomli_w
from sklearn.datasets import load_digits

import ntkdyn as nd
from ntkdyn import cli, data, experiment, figures, graphs, runs
from ntkdyn.errors import InputError
from ntkdyn.graphs import matlab
from ntkdyn.names import natural
from ntkdyn.theory import theorems

TOWNS = ("aix", "bonn", "cork", "derry")
LINKS = [("bonn", "aix", 0.25), ("cork", "bonn", 0.5), ("aix", "derry", 0.125)]


def towns(directed=False):
    graph = (nx.DiGraph if directed else nx.Graph)()
    graph.add_weighted_edges_from(LINKS)
    return graph


def matrix(directed=False):
    """A[i, j] is the weight of the link by which i hears from j."""
    found = np.zeros((4, 4))
    for sender, listener, weight in LINKS:
        found[TOWNS.index(listener), TOWNS.index(sender)] = weight
        if not directed:
            found[TOWNS.index(sender), TOWNS.index(listener)] = weight
    return found


def heard(graph):
    """The same matrix of a graph that was read."""
    return nx.to_numpy_array(graph, nodelist=range(len(graph))).T


def named(graph):
    return tuple(name for _, name in sorted(graph.nodes(data="name")))


WRITERS = {
    "a.graphml": nx.write_graphml,
    "a.gexf": nx.write_gexf,
    "a.gml": nx.write_gml,
    "a.edgelist": nx.write_weighted_edgelist,
    "dicts.edges": nx.write_edgelist,
    "comma.txt": lambda graph, path: nx.write_weighted_edgelist(graph, path, delimiter=", "),
    "a.net": nx.write_pajek,
    "links.csv": lambda graph, path: nx.to_pandas_edgelist(graph).to_csv(path, index=False),
    "matrix.csv": lambda graph, path: _adjacency(graph).to_csv(path),
    "header.tsv": lambda graph, path: _adjacency(graph).to_csv(path, index=False, sep="\t"),
}
LISTS = {"a.edgelist", "dicts.edges", "comma.txt", "links.csv"}


def _adjacency(graph):
    """Rows are those who hear, as in W."""
    return nx.to_pandas_adjacency(graph).T


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("directed", [False, True], ids=["links", "arcs"])
def test_every_format_is_the_same_graph(name, directed, tmp_path):
    WRITERS[name](towns(directed), tmp_path / name)
    more = {"directed": True} if directed and name in LISTS else {}
    found = graphs.read(tmp_path / name, **more)
    assert named(found) == TOWNS and found.is_directed() == directed
    assert np.allclose(heard(found), matrix(directed), atol=1e-12)


@pytest.mark.parametrize("directed", [False, True], ids=["links", "arcs"])
def test_matrices_without_names(directed, tmp_path):
    A = matrix(directed)
    np.save(tmp_path / "a.npy", A)
    np.savez(tmp_path / "a.npz", W=A, year=2026)
    scipy.sparse.save_npz(tmp_path / "s.npz", scipy.sparse.csr_array(A))
    scipy.io.savemat(tmp_path / "a.mat", {"W": A, "year": 2026})
    np.savetxt(tmp_path / "a.csv", A, delimiter=",")
    sources = [tmp_path / name for name in ("a.npy", "a.npz", "s.npz", "a.mat", "a.csv")]
    for source in [*sources, A, scipy.sparse.csr_array(A), pd.DataFrame(A)]:
        found = graphs.read(source)
        assert np.allclose(heard(found), A) and named(found) == (None,) * 4
        assert found.is_directed() == directed


def test_graphs_and_tables_in_memory():
    assert (heard(graphs.read(towns())) == matrix()).all()
    table = pd.DataFrame(LINKS, columns=["from", "to", "weight"])
    assert (heard(graphs.read(table, directed=True)) == matrix(directed=True)).all()
    square = pd.DataFrame(matrix(), TOWNS, TOWNS)
    assert named(graphs.read(square)) == TOWNS and (heard(graphs.read(square)) == matrix()).all()
    adjacent = graphs.read(nx.Graph([(10, 2), (2, 1)]))
    assert named(adjacent) == ("1", "2", "10") and sorted(adjacent.edges) == [(0, 1), (1, 2)]


def test_adjacency_lists_have_links_alone(tmp_path):
    nx.write_adjlist(towns(), tmp_path / "a.adjlist")
    found = graphs.read(tmp_path / "a.adjlist")
    assert ((heard(found) > 0) == (matrix() > 0)).all() and named(found) == TOWNS


def test_agents_are_called_by_what_one_says():
    graph = nx.Graph([("n0", "n1"), ("n1", "n2")])
    nx.set_node_attributes(graph, {"n0": "cork", "n1": "aix", "n2": "bonn"}, "town")
    found = graphs.read(graph, names="town")
    assert named(found) == ("aix", "bonn", "cork") and sorted(found.edges) == [(0, 1), (0, 2)]
    with pytest.raises(InputError, match=r"agent 'n0' has no 'city'; attributes .* \['town'\]"):
        graphs.read(graph, names="city")
    assert sorted(["b10", "b9", "10", "9", "a", "2.5"], key=natural) == [
        "2.5", "9", "10", "a", "b9", "b10",
    ]  # fmt: skip


def test_what_goes_both_ways_is_undirected():
    both = nx.DiGraph([(0, 1), (1, 0), (1, 2), (2, 1)])
    assert not graphs.read(both).is_directed()
    both[0][1]["weight"] = 0.5
    assert graphs.read(both).is_directed() and not graphs.read(both, weighted=False).is_directed()
    twice = pd.DataFrame({"source": ["a", "b"], "target": ["b", "a"], "weight": [0.5, 0.5]})
    assert heard(graphs.read(twice)).tolist() == [[0, 0.5], [0.5, 0]]


# --- weights of their own -----------------------------------------------------------------------


def test_rules_without_weights_do_not_drop_them():
    found = graphs.read(towns())
    with pytest.raises(InputError, match="have weights of their own, from 0.125 to 0.5, which me"):
        graphs.metropolis(found)
    plain = graphs.read(towns(), weighted=False)
    W = graphs.metropolis(plain)
    assert W.names == TOWNS and (W.matrix == graphs.metropolis(nx.Graph(
        [(0, 1), (1, 2), (0, 3)])).matrix).all()  # fmt: skip
    for rule in graphs.WEIGHTS.values():
        assert rule(plain).names == TOWNS == graphs.lazy(rule(plain)).names
    assert graphs.random_matchings(plain, 30, seed=0).names == TOWNS
    assert (
        graphs.link_failures(W, 0.2, 30, seed=0).names == W.graph.nodes[0]["name"] and None or True
    )


def test_given_weights_are_w():
    A = matrix()
    W = graphs.given(graphs.read(towns()))
    assert (W.matrix == A + np.diag(1 - A.sum(axis=1))).all() and W.symmetric
    assert "no agent had a link to itself" in W.adjusted and W.names == TOWNS
    arcs = np.array([[0.5, 0.5, 0], [0, 0.75, 0.25], [0.4, 0, 0.6]])
    W = graphs.given(graphs.read(arcs))
    assert (W.matrix == arcs).all() and W.adjusted == ""
    pushed = graphs.given(graphs.read(arcs.T), sums="columns")
    assert (pushed.matrix == arcs.T).all() and pushed.sums == "columns"
    for wrong, message in [
        (arcs * 0.9, "row 0 sums to 0.9; rows must sum to 1"),
        (arcs.T, "row 1 sums to 1.25; rows must"),
        (2 * A, "row 3 sums to 0.25; rows must sum to 1"),
    ]:
        with pytest.raises(InputError, match=message):
            graphs.given(graphs.read(wrong))
    with pytest.raises(InputError, match="the link from 0 to 1 has no weight; rules like"):
        graphs.given(graphs.ring(4))


def _sinkhorn_by_hand(A):
    """Rows and columns divided by their sums in turn, many times."""
    for _ in range(20_000):
        A = A / A.sum(axis=1, keepdims=True)
        A = A / A.sum(axis=0)
    return A


def test_sinkhorn_scales_rows_and_columns():
    W = graphs.sinkhorn(graphs.read(1000 * towns_with_loops()))
    wanted = _sinkhorn_by_hand(towns_with_loops())
    assert np.allclose(W.matrix, wanted, atol=1e-12) and W.symmetric and W.doubly_stochastic
    arcs = np.array([[0, 2.0, 0], [0, 0, 0.5], [0.25, 1.0, 3.0]])
    W = graphs.sinkhorn(graphs.read(arcs))
    filled = arcs + np.diag([2.0, 2.0, 0])  # the largest of what each sends and hears
    assert np.allclose(W.matrix, _sinkhorn_by_hand(filled), atol=1e-12)
    assert W.doubly_stochastic and not W.symmetric and W.adjusted == ""
    plain = graphs.sinkhorn(graphs.ring(5)).matrix
    assert np.allclose(plain, graphs.metropolis(graphs.ring(5)).matrix, atol=1e-12)


def towns_with_loops():
    return matrix() + np.diag([0.1, 0.2, 0.3, 0.4])


def test_sinkhorn_says_where_no_scaling_exists():
    graph = nx.DiGraph([("a", "b"), ("b", "a"), ("b", "c"), ("c", "d"), ("d", "c")])
    with pytest.raises(InputError, match="the link from b to c lies on no cycle; push-sum"):
        graphs.sinkhorn(graphs.read(graph))
    with pytest.raises(InputError, match="falls into 2 parts"):
        graphs.sinkhorn(graphs.read(nx.Graph([(0, 1), (2, 3)])))


def test_names_lay_the_graph_over_the_data(monkeypatch):
    """The graph's order is another than that of the data; both are by name."""
    frame = pd.DataFrame({"x": np.arange(12.0), "town": list(TOWNS) * 3, "y": [1, 2, 1] * 4})
    share = data.partition(data.read(frame, target="y", owner="town"), by="given")
    problem = nd.Problem(nd.networks.mlp((4,), outputs=2), share)
    turned = nx.relabel_nodes(towns(), {"aix": "derry", "derry": "aix"})
    W = graphs.given(graphs.read(turned))
    moved = graphs.mixing(W, names=("cork", "aix", "derry", "bonn"))
    order = [TOWNS.index(name) for name in moved.names]
    assert (moved.matrix == W.matrix[np.ix_(order, order)]).all()
    both = graphs.mixing(graphs.link_failures(W, 0.3, 4, seed=0), names=moved.names)
    assert both.names == moved.names and (both.matrices[0] != 0).any()
    dgd = nd.methods.dgd(step_size=0.1)
    monkeypatch.setattr(nd.Problem, "kernel", lambda *_: None)
    for laid in (
        runs.plan(problem, dgd, moved, 2).weights,
        nd.System(problem, dgd, moved).weights,
    ):
        assert (laid.matrix == W.matrix).all() and laid.names == TOWNS
    fewer = graphs.metropolis(graphs.read(nx.path_graph(["aix", "bonn", "rome"])))
    with pytest.raises(InputError, match="only the graph has .rome. and only the data have .cork"):
        nd.predict(problem, dgd, fewer, 2)
    plain = graphs.metropolis(graphs.read(nx.path_graph(4)))
    for call in (nd.step_size_limit, theorems.case):
        with pytest.raises(InputError, match="must be those of the data; only the graph has '0', "):
            call(problem, dgd, plain)


# --- refusals -----------------------------------------------------------------------------------

BILLION = """<?xml version="1.0"?>
<!DOCTYPE graphml [<!ENTITY a "aaaaaaaaaa">{}]>
<graphml><graph edgedefault="undirected"><node id="&i;"/></graph></graphml>
""".format(
    "".join(
        f'<!ENTITY {here} "{f"&{before};" * 10}">'
        for before, here in zip("abcdefgh", "bcdefghi", strict=True)
    )
)

GRAPHML = """<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
<graph edgedefault="undirected"><node id="a"/><node id="b"/>{}</graph></graphml>"""

BAD_FILES = {
    "billion.graphml": (BILLION, "declares the entity 'a'; entities are not expanded"),
    "file.gexf": (
        '<!DOCTYPE g [<!ENTITY x SYSTEM "file:///etc/passwd">]><gexf>&x;</gexf>',
        "declares the entity 'x'; entities are not expanded",
    ),
    "parameter.graphml": ('<!DOCTYPE g [<!ENTITY % x "y"> %x;]><g/>', "declares the entity 'x'"),
    "twice.graphml": (GRAPHML.format('<node id="a"/>'), "holds the agent 'a' twice"),
    "lacking.graphml": (
        GRAPHML.format('<edge source="a" target="z"/>'), "names 'z', which is no agent",
    ),
    "cut.graphml": (GRAPHML[:90], "is no .graphml file that can be read"),
    "empty.graphml": ("", "is no .graphml file that can be read"),
    "nodes.gml": ('graph [ node [ id 1 label "a" ] node [ id 2 label "a" ] ]', "is duplicated"),
    "cut.gml": ("graph [ node [ id 1", "is no .gml file that can be read"),
    "ragged.edgelist": ("a b 1\nb c\n", "line 2 of .* has 2 fields and others 3"),
    "one.edgelist": ("a\n", "must be two agents and perhaps a weight"),
    "text.edgelist": ("a b heavy\n", "is no .edgelist file that can be read"),
    "run.edgelist": ("a b {'weight': __import__('os')}\n", "is no .edgelist file that can be read"),
    "minus.edgelist": ("a b -1\n", "from 'a' to 'b' must be a finite number from 0 on, got -1.0"),
    "parallel.edgelist": ("a b 1\nb a 2\n", "several links from 'a' to 'b', whose weights differ"),
    "spaces.csv": ('source,target\n"a","b"\n"a ","b"\n', "'a' and 'a ' differ in spaces alone"),
    "columns.csv": ("source,target,cost\na,b,1\n", r"links have columns .*, not 'cost'"),
    "heavy.csv": ("source,target,weight\na,b,x\n", "weight in row 1 must be a number, got 'x'"),
    "oblong.csv": ("1,2,3\n4,5,6\n", "must hold a square matrix of numbers, with or without names"),
    "others.csv": (",a,b\na,0,1\nc,1,0\n", "must have the same names in the same order, got"),
    "lines.net": ("*vertices 9999999999\n1 a\n", "is no .net file .* it ends before it should"),
    "none.npy": ("nothing", "is damaged or no .npy of a plain array"),
    "none.npz": ("nothing", "is damaged or no .npz of plain arrays"),
    "none.mat": ("nothing", "is no .mat file that can be read"),
    "none.edgelist": ("# nobody\n", "holds no agents"),
    "a.pickle": ("", "must end in .*; pickles are not read"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_files_that_cannot_be_used_are_refused(name, tmp_path):
    text, message = BAD_FILES[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        graphs.read(tmp_path / name)


def outside_itself(which):
    """A sparse matrix that names a place which it does not have."""
    matrix = scipy.sparse.csr_array(np.eye(3))
    getattr(matrix, which)[1:] = [10**6, 0, 0][: 2 + (which == "indptr")]
    return matrix


def test_matlabs_arrays_are_those_that_scipy_reads(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "a.mat"
    W = rng.random((3, 3))
    sparse = scipy.sparse.csc_array(W * (W > 0.5))
    held = {"W": W, "i": np.arange(6).reshape(2, 3), "u": np.ones((2, 2), "u1"), "c": W + 2j * W,
            "s": sparse, "sc": sparse * 1j, "none": np.ones((0, 3)), "one": 3.0,
            "f": W.astype("f4"), "a long name": W, "cube": rng.random((2, 3, 4))}  # fmt: skip
    others = {"t": "text", "cell": np.array([1, "a", W], object), "struct": {"a": 1, "b": W}}
    dense = lambda each: each.toarray() if scipy.sparse.issparse(each) else each
    for form, packed, wanted in [("5", False, held), ("5", True, held), ("4", False, {"W": W})]:
        given = wanted | (others if form == "5" else {})
        scipy.io.savemat(path, given, format=form, do_compression=packed)
        found = matlab.read(path)
        assert set(found) == set(wanted)
        for name, each in scipy.io.loadmat(path).items():
            assert name not in found or np.array_equal(dense(found[name]), dense(each))


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "compressed"])
def test_matlabs_files_that_are_damaged_are_refused(packed, tmp_path):
    """SciPy crashes on some of them."""
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"W": scipy.sparse.csc_array(matrix())}, do_compression=packed)
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for place in rng.integers(128, len(whole), size=300):
        changed = bytearray(whole)
        changed[place] ^= 1 << rng.integers(8)
        path.write_bytes(changed)
        try:
            graphs.read(path)
        except InputError:
            refused += 1
    assert refused > 100
    scipy.io.savemat(path, {"W": matrix()})
    path.write_bytes(path.read_bytes().replace(bytes([9, 0, 0, 0, 128]), bytes([11, 0, 0, 0, 128])))
    with pytest.raises(InputError, match="numbers of kind 11, which there is none of"):
        graphs.read(path)


@pytest.mark.usefixtures("types_unchecked")
def test_sources_that_cannot_be_used_are_refused(tmp_path):
    for source, settings, message in [
        (3, {}, "must be the path of a file, a networkx graph, a DataFrame or a matrix, got int"),
        (tmp_path / "none.gml", {}, "graph: there is no file .*none.gml"),
        (np.ones((2, 3)), {}, r"a matrix must be square \(agents, agents\), got \(2, 3\)"),
        (np.array([[0, np.nan], [1, 0]]), {}, r"entry \(0, 1\) is nan"),
        (towns(), {"weighted": 1}, "graph: weighted: must be true or false, got 1"),
        (nx.Graph(), {}, "what was given holds no agents"),
        (nx.Graph([(1, "1")]), {}, "two agents are called '1'"),
        ("x" * 5000, {}, "graph: cannot read 'xxx.* ...; File name too long"),
        (towns(), {"names": ["town"]}, "names: must be an attribute's name, as text, got .'town'"),
        (outside_itself("indices"), {}, "must be a whole sparse matrix; indices must be < 3"),
        (
            outside_itself("indptr"),
            {},
            "must be a whole sparse matrix; a row ends before it begins",
        ),
        (nx.MultiGraph([(0, 1, {"weight": 1}), (0, 1, {"weight": 2})]), {}, "several links from"),
        (nx.Graph([(0, 1, {"weight": "a"})]), {}, "from 0 to 1 must be a finite number .* got 'a'"),
    ]:
        with pytest.raises(InputError, match=message):
            graphs.read(source, **settings)
    nx.write_graphml(towns(), tmp_path / "a.graphml")
    with pytest.raises(InputError, match="directed is about lists of links; a.graphml says it it"):
        graphs.read(tmp_path / "a.graphml", directed=True)
    np.savez(tmp_path / "two.npz", V=np.eye(3), W=np.eye(2), objects=np.zeros(1))
    with pytest.raises(InputError, match="must hold one square matrix, got 2 among"):
        graphs.read(tmp_path / "two.npz")


# --- from a spec ----------------------------------------------------------------------------------

SPEC = """
[network]
widths = [6]
[data]
file = "towns.csv"
target = "y"
owner = "town"
[graph]
file = "towns.graphml"
weights = "given"
[method]
name = "dgd"
step_size = 0.05
[run]
rounds = 2
"""


@pytest.fixture
def own(tmp_path):
    frame = pd.DataFrame({"x": np.arange(12.0), "town": list(TOWNS) * 3, "y": ["no", "yes"] * 6})
    frame.to_csv(tmp_path / "towns.csv", index=False)
    nx.write_graphml(towns(), tmp_path / "towns.graphml")
    return tmp_path


def work(folder, old="", new=""):
    return experiment.Experiment(experiment.parse(SPEC.replace(old, new), "s").in_folder(folder))


def test_a_spec_finds_its_graph_beside_it(own):
    found = work(own).weights
    assert (found.matrix == graphs.given(graphs.read(own / "towns.graphml")).matrix).all()
    with pytest.raises(InputError, match="own, from 0.125 to 0.5, which metropolis does not use"):
        _ = work(own, 'weights = "given"').weights
    alone = work(own, 'weights = "given"', "weighted = false").weights
    assert alone.name == "metropolis" and alone.names == TOWNS
    lazily = work(own, '"given"', '"lazy sinkhorn"').weights
    assert lazily.doubly_stochastic and lazily.matrix.diagonal().min() > 0.5
    changing = 'weights = "given"\nchanges = { kind = "link_failures", probability = 0.3 }'
    assert work(own, 'weights = "given"', changing).weights.names == TOWNS


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("towns.graphml", "town.graphml", "graph: there is no file .*town.graphml"),
        ('"towns.graphml"', '"towns.graphml"\ndegree = 3', "degree goes with a topology, not with"),
        ('file = "towns.graphml"', 'topology = "ring"\nnames = "a"', "names goes with a file, not"),
        (
            '"towns.graphml"',
            '"towns.graphml"\ntopology = "ring"',
            "give a topology or a matrix, o",
        ),
        ('"given"', '"givn"', "no weights is called 'givn'; did you mean 'given'"),
        ('file = "towns.graphml"', 'topology = "ring"', "link from 0 to 1 has no weight; rules"),
    ],
)
def test_graphs_of_specs_that_fit_nothing(old, new, message, own):
    with pytest.raises(InputError, match=message):
        _ = work(own, old, new).weights


# --- the whole way -------------------------------------------------------------------------------


def _digits(folder):
    """scikit-learn's digits as a table, and a ring of eight as GraphML."""
    images, labels = load_digits(return_X_y=True)
    names = [*(f"pixel{number}" for number in range(64)), "digit"]
    frame = pd.DataFrame(np.column_stack([images, labels]).astype(int), columns=names)
    frame.to_csv(folder / "digits.csv", index=False)
    nx.write_graphml(nx.cycle_graph(8), folder / "ring.graphml")


@pytest.mark.slow
def test_the_demo_on_files_is_the_demo_bit_for_bit(tmp_path):
    _digits(tmp_path)
    small = tomllib.loads(experiment.demo().text())
    table = {"file": "digits.csv", "target": "digit", "scale": "common"}

    def both(spec):
        shares = {name: spec["data"][name] for name in ("train", "test")}
        own = spec | {"data": table | shares, "graph": {"file": "ring.graphml"}}
        for each in (spec, own):
            read = experiment.parse(tomli_w.dumps(each), "demo").in_folder(tmp_path)
            yield experiment.Experiment(read)

    theirs, ours = both(small)
    assert (theirs.problem.inputs == ours.problem.inputs).all()
    assert (theirs.problem.task.targets == ours.problem.task.targets).all()
    assert (theirs.partition.owner == ours.partition.owner).all()
    assert (theirs.weights.matrix == ours.weights.matrix).all()
    small["network"] |= {"widths": [8], "w_std": 1.4}
    small["data"] |= {"train": 64, "test": 16}
    small["partition"]["min_points"], small["run"] = 1, {"rounds": 6}
    small["method"]["step_size"] = 0.02
    theirs, ours = both(small)
    for run in ("predict", "train"):
        one, other = (getattr(work, run)() for work in (theirs, ours))
        assert one.drop_attrs().identical(other.drop_attrs()) and "agent_name" not in one.coords
        differing = {name for name in one.attrs if one.attrs[name] != other.attrs[name]}
        assert differing <= {"spec"}


def _shown(language):
    """The code of that language on the page on data and graph, after that which makes files."""
    code = pages.codes("how-to/data.md", language)[language == "python"]
    assert len(code.splitlines()) < 15
    return code.replace("256, 256", "8,").replace("200", "8")


@pytest.fixture(scope="module")
def towns_and_roads(tmp_path_factory):
    """A folder with what the page speaks of, and what came of both of its codes."""
    folder = tmp_path_factory.mktemp("own")
    x = np.random.default_rng(0).random((40, 2))
    frame = pd.DataFrame({"rooms": x[:, 0], "age": x[:, 1], "town": [*TOWNS] * 10})
    frame.assign(price=x @ [3, -2]).to_csv(folder / "houses.csv", index=False)
    roads = nx.relabel_nodes(nx.cycle_graph(4), dict(enumerate(TOWNS[::-1])))
    nx.write_graphml(roads, folder / "roads.graphml")
    (folder / "spec.toml").write_text(_shown("toml"))
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        exec(_shown("python"), {"nd": nd})
        with pytest.raises(SystemExit) as left:
            cli.app(["run", "spec.toml", "--quiet", "--no-nulls"])
    assert not left.value.code
    return folder


def test_the_pages_own_problem_runs(towns_and_roads):
    assert (towns_and_roads / "overlay.png").stat().st_size > 10_000
    observed = nd.records.read(towns_and_roads / "ntkdyn-spec" / "observed.nc")
    assert list(observed["agent_name"]) == [*TOWNS] and "test_r2" in observed
    assert observed.attrs["targets_scaled"].startswith("each target minus its training mean, over")
    assert observed.attrs["normalisation"].startswith("each feature minus its training mean, over")


def test_regression_is_predicted_and_trained(towns_and_roads):
    out = towns_and_roads / "ntkdyn-spec"
    for side in ("predicted", "observed"):
        record = nd.records.read(out / f"{side}.nc")
        assert "test_accuracy" not in record and "label" not in record.coords
        outputs, targets = record["outputs"].values[-1], record["targets"].values
        owner, tested = record["owner"].values, (record["split"] == "test").values
        for agent in range(4):
            for name, rows in (("train", owner == agent), ("test", tested)):
                y, f = targets[rows], outputs[agent, rows]
                wanted = 1 - ((y - f) ** 2).sum() / ((y - y.mean(axis=0)) ** 2).sum()
                assert float(record[f"{name}_r2"][-1, agent]) == pytest.approx(wanted, rel=1e-6)
        assert (record["train_r2"][-1] > record["train_r2"][0]).all()
    assert "test_r2_difference" in nd.records.read(out / "comparison.nc")


def test_figures_and_report_call_agents_by_their_names(towns_and_roads):
    out = towns_and_roads / "ntkdyn-spec"
    report = (out / "report.html").read_text()
    assert all(f"<tr><td>{name}</td>" in report for name in TOWNS)
    sides = ("predicted", "observed", "comparison")
    shown = {"overlay": sides, "consensus": sides[:2], "errors_on_graph": sides[:1]}
    for name, sides in shown.items():
        drawn = figures.draw(name, [nd.records.read(out / f"{side}.nc") for side in sides])
        texts = {text.get_text() for text in drawn.findobj(lambda each: hasattr(each, "get_text"))}
        assert {*TOWNS} <= texts, name


# --- the schema of specs -------------------------------------------------------------------------


def _held(schema, table, value, path=""):
    """Every setting of a spec is one of the schema's, of its type and among its names."""
    for name, each in value.items():
        known = table["properties"][name]
        reference = known.get("$ref") or next(iter(known.get("allOf", [{}]))).get("$ref")
        if isinstance(each, dict) and reference:
            _held(schema, schema["$defs"][reference.rsplit("/")[-1]], each, f"{path}{name}.")
        assert "enum" not in known or each in known["enum"], f"{path}{name}"


def test_the_schema_knows_what_specs_hold(capsys):
    with pytest.raises(SystemExit) as left:
        cli.app(["specs", "--schema"])
    assert not left.value.code
    schema = json.loads(capsys.readouterr().out)
    assert set(schema["properties"]) == set(experiment.Spec.model_fields)
    for text in [*experiment.shipped().values(), experiment.demo().text(), _shown("toml")]:
        _held(schema, schema, tomllib.loads(text))
    tables = schema["$defs"]
    assert tables["DataTable"]["properties"]["owner"]["description"].startswith("the column that s")
    assert tables["MethodTable"]["properties"]["kappa"] == {"description": "a setting of drt"}
    assert tables["GraphTable"]["properties"]["weights"]["enum"] == sorted(graphs.RULES)
    assert tables["DataTable"]["additionalProperties"] is False


@pytest.mark.parametrize("given", [lambda round: np.eye(2), iter([np.eye(2)])], ids=["f", "iter"])
def test_functions_and_iterators_are_sent_to_their_door(given):
    with pytest.raises(nd.InputError, match=r"goes with its number of rounds, `graphs.by_round\("):
        nd.graphs.mixing(given)
