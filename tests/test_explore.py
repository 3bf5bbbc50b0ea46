"""Pages of a run of one's own: few coordinates, the same numbers in the page as in Python."""

import json

import numpy as np
import pytest
from browser import Reader, least_answer
from ntkdyn.figures import interactive
from typer.testing import CliRunner

import ntkdyn as nd
from ntkdyn import cli, dynamics, experiment
from ntkdyn.linear import Given
from ntkdyn.problems import KernelProblem

SPEC = """
title = "Five agents"
kernel = "infinite"
network = { widths = [24], activation = "erf" }
data = { name = "digits", train = 40, test = 20 }
partition = { agents = 5, by = "dirichlet", alpha = 0.5, min_points = 4 }
graph = { topology = "path" }
method = { name = "dgd", step_size = { of_limit = 0.5 } }
run = { rounds = 30, record_every = 5 }
"""


@pytest.fixture(scope="module")
def work():
    return experiment.Experiment(experiment.parse(SPEC, "spec"))


@pytest.fixture(scope="module")
def explored(work):
    return experiment.explored(work, work.train())


def test_all_coordinates_are_the_whole_problem_and_few_are_not(work):
    system = work.settled
    whole, few = (dynamics.reduced([system], 30, size) for size in (40, 2))
    assert whole["error"].item() < 1e-8
    assert few["error"].item() > 0.01


@pytest.mark.slow
def test_coordinates_come_nearest_to_the_runs_they_are_made_for(work, explored):
    system = work.settled
    other = system.with_(
        weights=nd.graphs.metropolis(nd.graphs.complete(5)), method=nd.methods.atc(step_size=0.3)
    )
    found = dynamics.reduced([other], 30, 8, [system])
    assert found["error"].item() < found["other_error"].item() / 2
    assert explored["error"].values.max() < 0.05


def test_a_page_says_how_far_off_a_kernel_that_couples_outputs_is(work):
    method = nd.methods.dgd(step_size=0.05)
    coupled = work.settled.with_(kernel="empirical", method=method)
    error = dynamics.reduced([coupled], 30, 40)["error"].item()
    assert 0.01 < error < 1, "at width 24 outputs are coupled, and coordinates are not to blame"


@pytest.mark.parametrize(
    "change, said",
    [('loss = "logistic"', "the loss mse"), ('kernel = "implicit"', "a kernel that is formed"),
     ('method = { name = "momentum", step_size = 0.1, beta = 0.5 }', "dgd, cta"),
     ("run = { rounds = 30, batch_size = 2 }", "no batch_size"),
     ('link = [{ kind = "delayed", rounds = 1 }]', "no [[link]]")],
)  # fmt: skip
def test_runs_that_a_page_cannot_show_are_refused(change, said):
    name = change.split(" ")[0]
    lines = [line for line in SPEC.splitlines() if not line.startswith(name)]
    spec = experiment.parse("\n".join([change, *lines]), "spec")
    with pytest.raises(nd.InputError, match="explore: a page can show") as refused:
        experiment.explored(experiment.Experiment(spec))
    assert said in str(refused.value)


@pytest.mark.slow
def test_what_was_observed_must_be_of_this_spec(work, explored):
    other = explored.assign_attrs(space="network").assign(global_loss=explored["error"])
    with pytest.raises(nd.InputError, match="of another spec"):
        experiment.explored(work, other.assign_attrs(spec="other"))
    with pytest.raises(nd.InputError, match="must be a record that `ntkdyn train` wrote"):
        experiment.explored(work, explored)


@pytest.mark.slow
def test_the_command_writes_a_page_from_a_spec_and_refuses_a_record_without(tmp_path, explored):
    spec, page = tmp_path / "spec.toml", tmp_path / "page.html"
    spec.write_text(SPEC)
    told = CliRunner().invoke(cli.app, ["explore", str(spec), "--out", str(page)])
    assert told.exit_code == 0 and "of the whole kernel's" in told.output, told.output
    assert "Five agents" in page.read_text() and page.stat().st_size < 3e6
    bare = explored.copy()
    del bare.attrs["spec"]
    nd.records.write(bare, tmp_path / "bare.nc")
    told = CliRunner().invoke(cli.app, ["explore", str(tmp_path / "bare.nc")])
    assert told.exit_code == 2 and "holds no spec" in told.stderr


@pytest.fixture(scope="module")
def shown(browser, explored, tmp_path_factory):
    """The page, in a browser."""
    path = interactive.write_own(explored, tmp_path_factory.mktemp("own") / "page.html")
    page = browser.new_page(viewport={"width": 390, "height": 800})
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(path.as_uri())
    page.wait_for_function("document.documentElement.dataset.ready === 'true'")
    yield page
    assert faults == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def in_page(shown, **settings):
    asked = json.dumps(settings)
    called = f"explorable.compute({{...explorable.settings(), ...{asked}}})"
    return json.loads(shown.evaluate(f"JSON.stringify({called})"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "method, topology, what, stay",
    [("dgd", "given", "global", 1), ("atc", "ring", "test", 1), ("extra", "star", "train", 0.5),
     ("diging", "complete", "global", 0)],
)  # fmt: skip
def test_a_page_computes_what_python_predicts(work, explored, shown, method, topology, what, stay):
    step = 0.6 * float(explored.attrs["step_size"])
    found = in_page(shown, method=method, topology=topology, what=what, stay=stay, step=step)
    feature, task = explored["feature"].values, work.problem.task
    number, order = explored["deal_number"].values, explored["deal_order"].values
    moved = np.flatnonzero(number >= stay)
    owner = task.owner.copy()
    owner[moved] = task.owner[moved[np.argsort(order[moved])]]
    K, y, f0 = feature @ feature[:40].T, task.targets, work.problem.initial
    bare = KernelProblem(
        K[:40], y[:40], owner, f0[:40], K_test=K[40:], y_test=y[40:], f0_test=f0[40:]
    )
    graph = None if topology == "given" else nd.graphs.TOPOLOGIES[topology](5)
    W = work.weights if graph is None else nd.graphs.metropolis(graph)
    asked = nd.System(bare, nd.methods.METHODS[method](step_size=step), W, Given())
    right = nd.predict(asked, rounds=[int(t) for t in found["times"]])
    np.testing.assert_allclose(found["seen"], right[f"{what}_loss"].values, rtol=2e-5)
    if method == "dgd":
        assert found["limit"] == pytest.approx(nd.step_size_limit(asked), rel=1e-3)


@pytest.mark.slow
def test_who_hears_whom_is_as_the_rows_of_w_say(work, explored, shown):
    ring = nd.graphs.uniform(nd.graphs.directed_ring(5)).matrix
    kept = json.dumps(explored["weight"].values.tolist())
    shown.evaluate(f"explorable.data.W = {json.dumps(ring.tolist())}")
    found = in_page(shown, step=0.2, topology="given")
    shown.evaluate(f"explorable.data.W = {kept}")
    feature, task, f0 = (
        explored["feature"].values[:40],
        work.problem.task,
        work.problem.initial[:40],
    )
    bare = KernelProblem(feature @ feature.T, task.targets[:40], task.owner, f0)
    dgd = nd.methods.dgd(step_size=0.2)
    right, turned = (
        nd.predict(nd.System(bare, dgd, W, Given()), [int(t) for t in found["times"]])
        for W in (ring, ring.T)
    )
    np.testing.assert_allclose(found["seen"], right["global_loss"].values, rtol=2e-5)
    assert np.abs(right["global_loss"] / turned["global_loss"] - 1).max() > 0.01


@pytest.mark.slow
def test_a_page_lays_what_was_observed_over_its_curves(work, explored, shown):
    found = in_page(shown)
    marks = found["sources"]["marks"]
    assert found["said"].endswith("The run as it was given.")
    observed = sorted(explored["observed_global"].values.ravel())
    assert sorted(marks["y"]) == pytest.approx(observed, rel=1e-6)
    assert in_page(shown, step=0.9 * float(explored.attrs["step_size"]))["said"].endswith("rounds.")


@pytest.mark.slow
def test_a_page_of_twelve_agents_answers_within_50_ms(tmp_path_factory, browser):
    many = SPEC.replace("agents = 5", "agents = 12").replace("train = 40", "train = 96")
    work = experiment.Experiment(experiment.parse(many, "spec"))
    folder = tmp_path_factory.mktemp("twelve")
    path = interactive.write_own(experiment.explored(work, None), folder / "page.html")
    reader = Reader(browser, path)
    reader.page.focus("#control-step")
    assert 1 < least_answer(reader) < 50


@pytest.mark.slow
def test_every_agent_s_end_is_drawn(explored, shown):
    page = interactive.own_run.page(explored)
    assert not {*page.models} & {*page.plots}, "in the browser they are told by name"
    drawn = shown.evaluate("[...explorable.models.last.data.y]")
    assert drawn == pytest.approx(in_page(shown)["final"])


@pytest.mark.slow
def test_a_step_above_the_limit_is_said_to_be(shown):
    limit = in_page(shown)["limit"]
    assert in_page(shown, step=1.02 * limit)["unstable"]
    assert not in_page(shown, step=0.97 * limit)["unstable"]


@pytest.mark.slow
def test_what_titles_hold_stays_text(explored, tmp_path):
    odd = explored.assign_attrs(title="a < b</script><i>", about="c </script><i> d", weights="<i>")
    page = interactive.write_own(odd, tmp_path / "page.html").read_text()
    assert "<h1>a &lt; b&lt;/script&gt;&lt;i&gt;</h1>" in page and "<i>" not in page
