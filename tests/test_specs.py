"""Specs: every setting reaches what is run, and what fits nothing is refused."""

import numpy as np
import pytest
import xarray as xr

import ntkdyn as nd
from ntkdyn import design, experiment, graphs

SPEC = """
seed = 3
TOP
[network]
widths = [6]
NETWORK
[data]
name = "digits"
train = 24
test = 8
DATA
[partition]
agents = 4
[graph]
GRAPH
[method]
name = "NAME"
step_size = 0.05
METHOD
[run]
rounds = 4
RUN
"""
OWN = """matrix = [[0.5, 0.0, 0.0, 0.3], [0.5, 0.5, 0.0, 0.0], [0.0, 0.5, 0.5, 0.2],
[0.0, 0.0, 0.5, 0.5]]"""
"""columns sum to one, rows do not"""


def work(name="dgd", text=SPEC, **parts):
    text = text.replace("NAME", name)
    for part in ("TOP", "NETWORK", "DATA", "GRAPH", "METHOD", "RUN"):
        default = 'topology = "ring"' if part == "GRAPH" else ""
        text = text.replace(part, parts.get(part.lower(), default))
    return experiment.Experiment(experiment.parse(text, "spec.toml"))


def with_epochs(epochs, size="batch_size = 3"):
    return SPEC.replace("rounds = 4", f"epochs = {epochs}\n{size}")


def test_epochs_are_rounds_by_points_agents_and_batches():
    """24 points, 3 of them drawn by each of 4 agents: two rounds an epoch."""
    for epochs, rounds in (("2", 4), ("0.5", 1), ("0.1", 1), ("1.3", 3)):
        assert work(text=with_epochs(epochs)).rounds == rounds
    twice = work(text=with_epochs("2"))
    by_rounds, record = work(run="batch_size = 3").predict(), twice.predict()
    assert int(record["round"][-1]) == 4
    xr.testing.assert_equal(record["train_loss"], by_rounds["train_loss"])
    with pytest.raises(nd.InputError, match="partition.agents changes how many rounds run.epochs"):
        design.Study(twice, [design.axis("partition.agents=4,6")])
    assert design.Study(twice, [design.axis("method.step_size=0.1,0.2")]).rounds == [*range(5)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (with_epochs("2", ""), "run.epochs are counted by run.batch_size, which must be given"),
        (with_epochs("2", "batch_size = 3\nrounds = 4"), "run.rounds and run.epochs: give one"),
        (with_epochs("0"), "run.epochs must be positive, got 0"),
        (with_epochs("inf"), "run.epochs: input should be a finite number, got inf"),
        (SPEC.replace("rounds = 4", ""), "run.rounds must be given, or run.epochs in their place"),
    ],
)
def test_epochs_that_are_no_rounds(text, why):
    with pytest.raises(nd.InputError, match=f"^spec.toml: {why}"):
        work(text=text)


@pytest.mark.slow
def test_heads_and_public_points_are_those_of_the_method():
    method = "aux = 1\npool = 2\npool_every = 2\npublic_batch = 5"
    mhd, plain = work("mhd", data="public = 9", method=method), work()
    task = mhd.problem.task
    assert (task.public, task.heads, len(task.targets)) == (9, 2, 24 + 9 + 8)
    for split in (slice(24), slice(33, None)):
        beside = slice(24, None) if split.start else split
        assert mhd.problem.inputs[split].shape == plain.problem.inputs[beside].shape
    assert np.array_equal(mhd.problem.inputs[:24], plain.problem.inputs[:24])
    record = mhd.predict()
    assert np.abs(record["outputs"][-1] - record["outputs"][0]).max() > 1e-3
    with pytest.raises(nd.InputError, match="mhd: needs public points"):
        work("mhd", method=method).predict()


@pytest.mark.parametrize(
    "run, said",
    [
        ("anchors = [0, 9]", "anchors: round 9 is beyond the last round, 4"),
        ("corrections = -7", "corrections: must be a whole number from 0 on, got -7"),
    ],
)
def test_anchors_and_corrections_reach_the_prediction(run, said):
    """Which refuses these as it does when it is called."""
    with pytest.raises(nd.InputError, match=said):
        work(run=run).predict()


@pytest.mark.slow
def test_a_prediction_is_corrected_as_the_run_says():
    record = work(run="corrections = 1").predict()
    assert record.attrs["corrections_asked"] == 1 and record.sizes["sweep"] == 2
    both = work(run='corrections = 1\nanchors = "auto"')
    record, real = both.predict(), both.train()
    assert record["defect"].dims == ("anchor", "sweep") and record.sizes["anchor"] > 1
    told = nd.compare(record, real, nulls=both.nulls(record, real))
    own, others = (told[f"{one}deviation_gap_of_all"][{"round": -1}] for one in ("", "null_"))
    assert "segment_error" not in told and others.size > 4 and (own < others / 2).all()


SMOOTH = 'activation = "erf"\nw_std = 1.0'


def off(record, observed):
    """|f_true,i - f_i| of all rounds and agents."""
    return np.sqrt(((record["outputs"] - observed["outputs"]) ** 2).sum(("point", "output")))


@pytest.mark.parametrize(
    "run",
    ["certify = true", pytest.param("certify = 1\nanchors = [0, 2]", marks=pytest.mark.slow)],
)
def test_a_prediction_is_certified_as_the_run_says(run):
    """Of whatever is predicted: the bound is that of the record's own outputs."""
    at = work(network=SMOOTH, run=f'{run}\nprecision = "float64"')
    record, observed = at.predict(), at.train()
    error, true = record["certified_error"], off(record, observed)
    assert error.dims == ("round", "agent") and np.isfinite(error).all()
    assert (error >= true).all() and (error[1:] < 2 * true[1:]).all()
    travelled = np.sqrt(
        ((record["outputs"] - record["initial_outputs"]) ** 2).sum(("point", "output"))
    )
    np.testing.assert_allclose(record["certified_share"][1:], (error / travelled)[1:])
    assert record.attrs["certified_sweeps"] == (2 if "true" in run else 1)
    told = nd.compare(record, observed).attrs["verdict"]
    assert f"; proven to be within {100 * float(record['certified_share'][-1].max()):.2g} %" in told


@pytest.mark.parametrize(
    "parts, said",
    [
        (
            {"run": "certify = true"},
            "certify: no certificate exists: relu has no second derivative",
        ),
        ({"network": SMOOTH, "run": "certify = 1\nbatch_size = 2"}, "exists with minibatches"),
        ({"name": "extra", "network": SMOOTH, "run": "certify = 1"}, "exists for extra"),
        ({"network": SMOOTH, "run": "certify = 99"}, "run.certify: .* less than or equal to 64"),
        ({"network": SMOOTH, "run": 'certify = "yes"'}, "run.certify: input should be"),
    ],
)
def test_what_cannot_be_certified(parts, said):
    """Before a kernel is computed; `certify = false` asks for nothing."""
    with pytest.raises(nd.InputError, match=said):
        work(**parts).check()


def test_certify_false_asks_for_nothing():
    at = work(run="certify = false")
    at.check()
    assert "certified_error" not in at.predict()


def test_graphs_that_change():
    ring = graphs.metropolis(graphs.ring(4))
    for changes, wanted in (
        ('kind = "one_peer_exponential"', graphs.one_peer_exponential(4)),
        ('kind = "random_matchings", length = 7, seed = 5',
         graphs.random_matchings(graphs.ring(4), 7, seed=5)),
        ('kind = "link_failures", length = 6, probability = 0.3',
         graphs.link_failures(ring, 0.3, 6, seed=3)),
    ):  # fmt: skip
        alone = "" if "peer" in changes else 'topology = "ring"\n'
        weights = work(graph=f"{alone}changes = {{ {changes} }}").weights
        assert np.array_equal(weights.matrices, wanted.matrices)


def test_starts_of_their_own_can_be_trained_only():
    apart = work("drt", network="own_starts = true")
    assert len(set(apart.problem.seed)) == 4
    first = apart.train()["outputs"].values[0]
    assert all(np.abs(first[i] - first[0]).max() > 0.1 for i in range(1, 4))
    with pytest.raises(nd.InputError, match="each has its own"):
        apart.predict()


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["empirical", "infinite"])
def test_a_run_is_predicted_with_the_kernel_of_its_spec(kernel):
    spec = work(top=f'kernel = "{kernel}"')
    record = spec.predict()
    plain = nd.predict(spec.problem, spec.method, spec.weights, 4, kernel=kernel)
    assert record.attrs["kernel"] == kernel
    assert np.array_equal(record["outputs"], plain["outputs"])
    for where in (record.attrs["step_size_limit"], nd.step_size_limit(spec.system)):
        assert where == plain.attrs["step_size_limit"]


def test_without_a_kernel_nothing_is_known_of_stability():
    dimat = work("dimat", top='kernel = "implicit"')
    assert dimat.stability.stable is None and dimat.stability.method.step_size == 0.05
    with pytest.raises(nd.InputError, match='or tangent space .kernel = "implicit"'):
        work("dimat").predict()


def test_step_sizes_and_weight_decay_are_those_of_the_spec():
    more = "schedule = [[2, 0.5]]\nby_agent = [1, 2, 1, 1]\nweight_decay = 0.1\nclip = 3.0"
    made = work(method=f'{more}\ndecay_toward = "start"').method
    wanted = nd.methods.by_agent(nd.methods.dgd(step_size=0.05), [1, 2, 1, 1])
    wanted = nd.methods.scheduled(nd.methods.clipped(wanted, 3.0), {2: 0.5})
    wanted = nd.methods.weight_decay(wanted, 0.1, "start")
    assert made.name == wanted.name and made.settings == wanted.settings
    assert made.settings["update"]["factors"] == [[1, 2, 1, 1], [0.5, 1, 0.5, 0.5]]
    named = work(method=more.replace("[1, 2, 1, 1]", "{0 = 1, 1 = 2, 2 = 1, 3 = 1}")).system
    assert named.method.settings["update"]["factors"] == made.settings["update"]["factors"]


def test_weights_whose_columns_sum_to_one_are_for_push_sum():
    assert work("push_sum", graph=OWN).weights.matrix[0, 3] == 0.3
    with pytest.raises(nd.InputError, match="row 0 sums to 0.8; rows must sum to 1"):
        _ = work(graph=OWN).weights


@pytest.mark.parametrize(
    "parts, message",
    [
        ({"graph": f'weights = "uniform"\n{OWN}'}, "weights goes with a topology or file, not"),
        ({"graph": f"degree = 3\n{OWN}"}, "degree goes with a topology"),
        ({"graph": 'topology = "ring"\nchanges = { kind = "link_failures" }'}, "probability goes"),
        (
            {"graph": 'topology = "ring"\nchanges = { kind = "one_peer_exponential" }'},
            "without other settings",
        ),
        ({"graph": 'topology = "ring"\nchanges = { kind = "fails" }'}, "graph.changes.kind: input"),
        ({"top": "loss = 'mse'", "data": "seed = -1"}, "data.seed: .* greater than or equal to 0"),
        ({"data": "public = -1"}, "data.public: .* greater than or equal to 0"),
        ({"network": "b_std = nan"}, "network.b_std: input should be a finite number"),
        ({"method": "beta = 0.5"}, "no setting of method dgd is called 'beta'"),
        ({"method": "schedule = [[1]]"}, "schedule: must be pairs of a round and the factor"),
        ({"method": "decay_toward = 'start'"}, "method: decay_toward goes with a weight_decay"),
    ],
)
def test_settings_that_fit_nothing(parts, message):
    with pytest.raises(nd.InputError, match=message):
        at = work(**parts)
        _ = at.weights, at.method


@pytest.mark.slow
def test_the_search_for_a_limit_is_shown_and_done_once():
    directed = (np.eye(4) + np.roll(np.eye(4), 1, axis=1)) / 2
    spec = work(graph=f"matrix = {directed.tolist()}").spec
    method = experiment.MethodTable(name="dgd", step_size=experiment.ShareOfLimit(of_limit=0.5))
    asked, seen = experiment.Experiment(spec.model_copy(update={"method": method})), []
    known = asked.settle(lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] > 1 and seen == sorted(seen)
    looked = len(seen)
    assert asked.stability is known is asked.settle(lambda *_: seen.append(None))
    assert len(seen) == looked


def test_schedules_go_by_their_names_in_a_spec():
    """Those of He et al. and Goyal et al., which multiply the step size together."""
    found = work(method="schedule = { warm_up = 2, step_decay = [3, 5] }").method
    sizes = [float(found.at(round).update.factors[0, 0]) for round in range(7)]
    assert np.allclose(sizes, [0.5, 1, 1, 0.1, 0.1, 0.01, 0.01])
    with pytest.raises(nd.InputError, match="method.schedule.warmup.*did you mean .warm_up"):
        work(method="schedule = { warmup = 2 }")
