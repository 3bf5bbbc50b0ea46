"""Design: settings predicted in bulk are those predicted one by one; targets, costs and fronts."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr
from cases import STUDIED as SPEC

import ntkdyn as nd
from ntkdyn import cli, design, experiment, precision, records
from ntkdyn.design import axes as along, bulk, processors, rounds as affine, study, tables, targets
from ntkdyn.dynamics.loops import Loop
from ntkdyn.dynamics.stability import loops_of
from ntkdyn.errors import InputError

ROUNDS = [0, 4, 8]
OVER = [
    "graph.topology=ring,star,hypercube",
    "method.name=dgd,diging,cta",
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
        places = np.unravel_index(place, (3, 3, 3))
        at = dict(zip(found.attrs["axes"].split("; "), places, strict=True))
        work = experiment.Experiment(study.of_place(base.spec, axes, place))
        alone = nd.predict(work.system, ROUNDS)
        for name in (*names, "train_accuracy", "test_accuracy", "floats_sent"):
            seen = found[name].isel(at)
            np.testing.assert_allclose(seen, alone[name], rtol=1e-10, atol=1e-12, err_msg=name)
        bits = design.costs(found, "bits").isel(at)
        np.testing.assert_allclose(bits, alone["bits_sent"].sum("agent"), rtol=1e-12)
        tried += 1
    assert tried == 18
    last = found["train_loss"].isel(round=-1).values[:2].reshape(18, -1)
    assert len(np.unique(last.round(8), axis=0)) == 18, "no two settings are the same"


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel": "empirical"},
        {"method.name": "diging", "kernel": "empirical"},
        {"method.name": "local_sgd", "method.tau": 3},
        {"method.name": "local_sgd", "method.tau": 5, "kernel": "empirical"},
        {"graph.changes": {"kind": "random_matchings", "length": 4}},
        {"run.batch_size": 2},
        {"loss": "huber"},
        {"method.schedule": ((0, 1), (3, 0.5))},
        {"partition.by": "iid", "partition.alpha": None, "method.name": "atc"},
    ],
    ids=lambda changes: "+".join(changes),
)
def test_whatever_rounds_are(base, changes):
    """Kernels between outputs, several maps in turn, and rounds that are no affine maps."""
    held = {path: value for path, value in changes.items() if value is not None}
    spec = study.varied(base.spec, held | {"method.step_size": 0.05})
    if "partition.alpha" in changes:
        even = spec.partition.model_copy(update={"alpha": None})
        spec = spec.model_copy(update={"partition": even})
    work = experiment.Experiment(spec)
    alone = nd.predict(work.system, ROUNDS)
    taken = []
    (many,) = design.Bulk(ROUNDS).predict([work.system], lambda *done: taken.append(done))
    assert taken == [(1, 1)], "in one way alone"
    for name in ("train_loss", "test_loss", "global_loss", "test_accuracy", "floats_sent"):
        np.testing.assert_allclose(many[name], alone[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_next_part_is_prepared_while_one_is_computed(base, monkeypatch):
    """And each part gets what is its own."""
    asked = study.Study(base, [design.axis("method.step_size=0.05,0.1,0.2")], ROUNDS)
    whole, seen, begin = asked.predict(), [], study.Bulk.begin

    def logged(bulk, systems, pool):
        seen.append("begun")
        finish = begin(bulk, systems, pool)
        return lambda: seen.append("taken") or finish()

    monkeypatch.setattr(study, "PART", 1)
    monkeypatch.setattr(study.Bulk, "begin", logged)
    xr.testing.assert_allclose(asked.predict(), whole, rtol=1e-12)
    assert seen == ["begun", "begun", "taken", "begun", "taken", "taken"]


def test_processes_give_what_threads_do(base, monkeypatch):
    """Bit for bit, in local rounds too."""
    steps, local = design.axis("method.step_size=0.05,0.1"), {"method.name": "local_sgd"}
    work = experiment.Experiment(study.varied(base.spec, local))
    asked = study.Study(work, [steps, design.axis("method.tau=1,3")], ROUNDS)
    by_threads = asked.predict()
    monkeypatch.setattr(processors, "PROCESSES_FROM", asked.count)
    monkeypatch.setattr(processors, "ThreadPoolExecutor", None)
    by_processes = asked.predict()
    assert by_processes.identical(by_threads) and (by_processes["refusal"] == "").all()


@pytest.mark.slow
def test_a_process_that_is_killed_is_told_of():
    with (
        pytest.raises(InputError, match="ended from outside"),
        processors.processors(10**6) as pool,
    ):
        pool.submit(os._exit, 1).result()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there a process outlives its parent")
def test_processes_end_with_their_parent():
    """Which is killed while they have nothing to do."""
    begun = (
        "import os, time; from ntkdyn.design import processors; "
        "held = processors.processors(10**6); pool = held.__enter__(); "
        "print(pool.submit(os.getpid).result(), flush=True); "
        "time.sleep(60)"
    )
    command = [sys.executable, "-c", begun]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        os.kill(worker, 0)
        parent.kill()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("it is still there")


@pytest.mark.parametrize("changes", [{}, {"run.batch_size": 2}], ids=["products", "programs"])
def test_a_refused_system_leaves_the_others(base, changes, monkeypatch):
    """Refused before anything is computed, and by a program that finds no room."""
    work = experiment.Experiment(study.varied(base.spec, changes))
    fits, formless = work.system, work.system.with_(kernel="implicit")
    many = design.Bulk(ROUNDS)
    with processors.processors(1) as pool:
        refusal, seen = many.begin([formless, fits], pool)()
    assert "many runs share one that is formed" in str(refusal)
    np.testing.assert_array_equal(seen["train_loss"], many.predict([fits])[0]["train_loss"])
    if changes:
        monkeypatch.setattr(bulk, "_together", refused)
        with processors.processors(1) as pool:
            assert [*map(str, many.begin([fits, fits], pool)())] == ["no room"] * 2


def refused(batch):
    raise InputError("no room")


@pytest.fixture(scope="module")
def together(base):
    """Four settings of a graph and a step, their loops and what they have in common."""
    axes = [design.axis("graph.topology=ring,star"), design.axis("method.step_size=0.05,0.2")]
    with precision.double():
        specs = [study.of_place(base.spec, axes, k) for k in range(4)]
        systems = [experiment.Experiment(spec).system for spec in specs]
        loops = [loops_of(each, float(each.method.step_size)) for each in systems]
        common = {dtype: affine.Common(systems[0], dtype) for dtype in affine.TOLERANCE}
    return common, loops


def test_two_ways_through_rounds_agree(together):
    """By steps and by polynomials, in both dtypes, long after a polynomial has fewer terms."""
    common, loops = together
    rounds, exact = [0, 1, 2, 7, 40, 400], None
    for dtype, share in (("float64", 1e-10), ("float32", 2e-6)):
        low = min(affine.lowest(common[dtype], each[0]) for each in loops)
        assert -1 <= low < 0 and affine.sums(rounds, low, 1e-10).shape[1] < 200
        batch = affine.Together(common[dtype], loops)
        stepped, reached = batch.seen(rounds, None), batch.seen(rounds, low)
        exact = exact or stepped
        for one, other, known in zip(stepped, reached, exact, strict=True):
            for name in ("train_loss", "global_loss", "test_loss"):
                atol = share * known[name][0].max()
                for each in (one, other):
                    np.testing.assert_allclose(each[name], known[name], 0, atol, err_msg=name)


def test_the_spectrum_is_above_what_is_known(together):
    """Of A in full, and not by much."""
    common, loops = together
    shared = common["float64"]
    for (loop,) in loops:
        start = np.zeros((5, 1, 1, 30))
        one = affine.Together(shared, [(loop,)])
        one.common = type("", (), vars(shared) | {"drive": shared.drive[:1]})()
        columns = [
            one.step(np.eye(150)[k].reshape(start.shape), drive=0.0).ravel() for k in range(150)
        ]
        least = np.linalg.eigvals(np.array(columns).T).real.min()
        assert affine.lowest(shared, loop) <= least + 1e-9
        assert affine.lowest(shared, loop) > least - 0.5


def test_rounds_in_which_no_agent_hears_another_are_one(together, monkeypatch):
    """Local rounds in a row, every agent with a step of its own, against one after another."""
    common, loops = together
    agents, rng = common["float64"].agents, np.random.default_rng(0)
    own = Loop(np.eye(agents), -np.diag(rng.uniform(0.05, 0.2, agents)), *2 * [np.eye(agents)])
    twice, (heard,) = own._replace(Q=2 * own.Q), loops[0]
    cycle, rounds = (heard, own, own, own, twice, twice), [0, 3, 4, 9, 40, 41]
    steps, taken = [], affine.Together.step

    def counted(self, z, round=0, **more):
        steps.append(round)
        return taken(self, z, round, **more)

    monkeypatch.setattr(affine.Together, "step", counted)
    for dtype, share in (("float64", 1e-11), ("float32", 2e-6)):
        steps.clear()
        (merged,) = affine.Together(common[dtype], [cycle]).seen(rounds, None)
        assert {round % 6 for round in steps} == {0, 3, 4}, "and what rounds cut off"
        with monkeypatch.context() as patched:
            patched.setattr(affine.Together, "_by_themselves", lambda *_: 0)
            (each,) = affine.Together(common[dtype], [cycle]).seen(rounds, None)
        assert len(steps) > 41
        for name in ("train_loss", "global_loss", "test_loss"):
            atol = share * each[name][0].max()
            np.testing.assert_allclose(merged[name], each[name], rtol=share, atol=atol)
        assert merged["global_loss"][-1].max() < 0.9 * merged["global_loss"][0].min()


def test_settings_above_the_limit_are_stepped_through(base):
    axes = [design.axis("method.step_size.of_limit=0.9,1.2")]
    seen = design.predicted(base, axes, [0, 60])
    alone = nd.predict(experiment.Experiment(study.of_place(base.spec, axes, 1)).system, [0, 60])
    np.testing.assert_allclose(seen["train_loss"][1], alone["train_loss"], rtol=1e-7)
    assert (seen["train_loss"][1, 1] > 100 * seen["train_loss"][1, 0]).any()


def test_sums_that_a_method_keeps_are_double(base):
    """Exact diffusion's corrections drift in single precision; DGD has none."""
    axes = [design.axis("method.name=dgd,exact_diffusion"), design.axis("method.step_size=0.05")]
    one, two = (design.predicted(base, axes, [3000], dtype=dtype) for dtype in affine.TOLERANCE)
    off = np.abs(one["train_loss"] - two["train_loss"]).max(("agent", "round")).values.ravel()
    assert 0 < off[0] < 1e-5 and off[1] < 1e-12


def test_equal_outputs_name_the_first_class():
    outputs = np.zeros((1, 1, 3, 4))
    outputs[0, 0, :, 1], outputs[0, 0, :, 2], outputs[0, 0, 0, 3] = [0, 2, 2], [1, 0, 0], np.nan
    right = affine._right(outputs, np.array([0, 2, 0, 0]))
    np.testing.assert_array_equal(right[0, 0], [1, 0, 1, np.nan])


@pytest.mark.slow
def test_a_batch_of_one_is_as_a_batch_of_many(base, monkeypatch):
    for more, size in (({}, "TOGETHER"), ({"run.batch_size": 2}, "ROOM")):
        work = experiment.Experiment(study.varied(base.spec, more))
        axes = [design.axis("graph.topology=ring,star"), design.axis("method.step_size=0.1:0.3:3")]
        many = design.predicted(work, axes, [3])
        monkeypatch.setattr(bulk, size, 1)
        one = design.predicted(work, axes, [3])
        np.testing.assert_allclose(one["train_loss"], many["train_loss"], rtol=1e-12)
        assert len(np.unique(many["train_loss"].values[..., 0, 0].round(9))) == 6


def test_settings_that_cannot_be_run_are_left_out(found):
    assert np.isnan(found["train_loss"].sel({"graph.topology": "hypercube"})).all()
    assert found.attrs["settings_left_out"] == 9 and found.attrs["settings"] == 27
    assert "hypercube: dimension must be given" in found.attrs["left_out"]


def test_other_owners_share_the_kernel(base, monkeypatch):
    computed = []
    ntk = nd.problems.problem.infinite.ntk
    monkeypatch.setattr(
        nd.problems.problem.infinite, "ntk", lambda *a: computed.append(1) or ntk(*a)
    )
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
        ("a.b+c.d=1+x,2+y", [1, 2]),
        ("a.b+c.d=1+x,1+y", ["1 + x", "1 + y"]),
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
        (["method.step_size=1", "step_size=2"], "are of one setting; vary one of them"),
        (["method.step_size=1", "method.step_size.of_limit=0.5"], "are of one setting"),
        (["width=8", "network.widths=[8]"], "are of one setting"),
        (["a=0:1:2000", "b=0:1:2000"], "4000000 settings are more than"),
        (["method.nam=dgd"], "method.*nam"),
        (["kernel=implicit"], 'kernel: many runs share one that is formed, not "implicit"'),
    ],
)
def test_refusals(base, texts, said):
    with pytest.raises(InputError, match=said):
        design.predicted(base, [design.axis(each) for each in texts], [1])


def test_single_precision_takes_fewer_terms():
    terms = [
        affine.sums([1000], -0.9, affine.TOLERANCE[each]).shape[1] for each in affine.TOLERANCE
    ]
    assert [*affine.TOLERANCE] == ["float64", "float32"] and terms[1] < 0.9 * terms[0] < 260


def test_a_thousand_times_a_thousand_settings_are_not_too_many():
    axes = [design.axis(f"{name}=0:1:1000") for name in ("a", "b")]
    assert along.check_apart(axes) == along.MOST_SETTINGS == 10**6


def curves(losses, sent):
    """Settings (s) whose two agents have these losses and have sent so much in rounds 0, 5, 10."""
    dims = ("setting", "round", "agent")
    both = np.repeat(np.array(losses, float)[..., None], 2, axis=2)
    both[..., 1] += 0.01  # the worse one
    paid = np.repeat(np.array(sent, float)[..., None], 2, axis=2)
    return xr.Dataset(
        {
            "train_loss": (dims, both), "floats_sent": (dims, paid),
            "messages_sent": (dims, paid / 5), "exchanges": (dims, paid / 10),
            "refusal": ("setting", [""] * len(losses)),
        },
        {"setting": range(len(losses)), "round": [0, 5, 10], "agent": [0, 1]},
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
    assert design.reached(record, wanted, "rounds")["cost"].values[:2].tolist() == [10, 5]
    near = curves([[0, 0.5, 0.1], [1, 0.3, 0.05], [0.7, 0.9, 0.8]], np.zeros((3, 3)))
    high = design.reached(near, design.target("best train_loss >= 2"), "rounds")
    assert np.isnan(high["cost"]).all() and design.ranked(high, more=True) == [1, 2, 0]
    assert high["front"].values.tolist() == [False, True, False]
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


def test_costs_by_a_model_of_machines_and_network():
    """Two agents that have sent 20 numbers each in 4 messages of 2 exchanges by round 10."""
    record = curves([[1, 0.5, 0.1]], [[0, 10, 20]])
    paid = lambda cost, **clock: float(
        targets.costs(record, cost, design.Clock(bandwidth=40, latency=0, **clock))[0, 2]
    )
    assert paid("bits") == 32 * 40 and paid("rounds") == 10
    assert paid("seconds") == 4 * 20 / 40 and paid("seconds", compute=3) == 30 + 2
    assert paid("seconds", shared=True) == 4
    assert paid("seconds", broadcast=True) == 1 and paid("floats", broadcast=True) == 20
    heard = design.Clock(broadcast=True)
    assert targets.costs(record, "floats", heard)[0, 0] == 0, "before any message is sent"
    by_turns = design.Clock(latency=0.5, bandwidth=1e99, shared=True)
    assert targets.costs(record, "seconds", by_turns)[0, 2] == 2 * 4 * 0.5
    assert paid("joules", compute=3, watts=5, joules_per_byte=7) == 2 * 10 * 3 * 5 + 4 * 40 * 7
    with pytest.raises(InputError, match="bandwidth: must be a positive number, got 0"):
        targets.costs(record, "seconds", design.Clock(bandwidth=0))
    with pytest.raises(InputError, match="did you mean 'joules'"):
        targets.costs(record, "joule")


def test_the_ranks_of_what_was_trained():
    record = curves([[1, 0.5, k / 10] for k in (1, 2, 3)], [[0, k, 2 * k] for k in (1, 2, 3)])
    wanted = design.target("worst train_loss <= 0.6")
    found = design.reached(record, wanted, "floats")
    trained = record.isel(setting=[2, 1, 0]).assign_coords(setting=[0, 1, 2])
    trained = design.reached(trained, wanted, "floats").assign_attrs(by="trained")
    axes = [along.Axis(("a.b",), ((1,), (2,), (3,)))]
    lines = design.said(found, axes, [0, 1, 2], trained)
    assert lines[0] == "3 of 3 settings are seen to reach worst train_loss <= 0.6"
    assert lines[1] == "  a.b = 1: 2 floats, round 5; trained: 6 floats, round 5"
    assert lines[-1].endswith("agree by -1.00 (Spearman)")
    assert targets.said(found, axes, [0, 1, 2])[1] == "  a.b = 1: 2 floats, round 5"
    alike = curves([[1, 0.5, 0.1]] * 3, [[0, 2, 4]] * 3).assign_attrs(by="trained")
    alike = design.reached(alike, wanted, "floats").assign_attrs(by="trained")
    assert "cannot be compared" in design.said(found, axes, [0, 1, 2], alike)[-1]


AXES = ["graph.topology=ring,star,complete", "method.step_size.of_limit=0.1:0.9:5"]


@pytest.fixture(scope="module")
def long():
    spec = experiment.parse(SPEC.replace("rounds = 8\nrecord_every = 4", "rounds = 400"), "spec")
    return experiment.Experiment(spec)


@pytest.mark.slow
@pytest.mark.parametrize("cost", ["floats", "rounds"])
@pytest.mark.parametrize("reach", ["worst train_loss <= 0.6", "mean test_loss <= 3.6"])
def test_settings_that_are_dropped_are_not_among_the_best(long, cost, reach):
    goal = design.Goal(design.target(reach), cost)
    axes = [design.axis(each) for each in AXES]
    pruned, whole = (
        design.search(design.Study(long, axes), goal, best=3, whole=each) for each in (False, True)
    )
    assert np.isfinite(whole.reached["cost"]).sum() > 3, "there is something to choose from"
    assert pruned.best[:3] == whole.best[:3]
    best = {"setting": whole.best[:3]}
    np.testing.assert_allclose(pruned.reached["cost"].sel(best), whole.reached["cost"].sel(best))
    followed = pruned.record["train_loss"].isel(agent=0).notnull().sum("round")
    assert followed.mean() < len(study.recorded(long.spec.run))


def test_between_recorded_rounds_the_first_that_reaches_is_found(long):
    axes = [design.axis(AXES[1])]
    goal = design.Goal(design.target("worst train_loss <= 0.6"), "rounds")
    found = design.search(design.Study(long, axes), goal)
    best = found.best[0]
    every = design.predicted(long, axes, range(401))["train_loss"].max("agent").values[best]
    assert float(found.reached["cost"].sel(setting=best)) == np.argmax(every <= 0.6)


@pytest.mark.slow
def test_a_study_that_is_stopped_goes_on(base, tmp_path, monkeypatch):
    """What is done is neither lost nor done again, and nothing differs in the end."""
    monkeypatch.setattr(study, "PART", 4)
    asked, done = {"over": OVER}, []
    axes = [design.axis(each) for each in OVER]
    seen = bulk.Bulk.begin

    def until(count):
        def begin(self, systems, pool):
            finish = seen(self, systems, pool)

            def finished(progress=None):
                if len(done) == count:
                    raise KeyboardInterrupt
                done.append(len(systems))
                return finish(progress)

            return finished

        monkeypatch.setattr(bulk.Bulk, "begin", begin)

    def run(resume):
        parts = design.Parts(tmp_path / "parts", asked, resume=resume)
        return design.predicted(base, axes, ROUNDS, parts=parts)

    whole = design.predicted(base, axes, ROUNDS)
    until(2)
    with pytest.raises(KeyboardInterrupt):
        run(False)
    with pytest.raises(InputError, match="is of an unfinished sweep; resume it"):
        run(False)
    with pytest.raises(InputError, match="over was"):
        design.Parts(tmp_path / "parts", {"over": OVER[:1]}, resume=True)
    damaged = sorted((tmp_path / "parts").iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:-100])
    until(None)
    assert run(True).identical(whole)
    assert sum(done) == 18 + records_of(damaged), "but for the damaged part, each once"


def records_of(path):
    return int((records.read(path)["refusal"] == "").sum())


@pytest.mark.slow
def test_what_takes_too_long_must_be_agreed_to(base, monkeypatch):
    monkeypatch.setattr(study, "PART", 4)
    work = design.Study(base, [design.axis(each) for each in OVER], ROUNDS)
    with pytest.raises(InputError, match="27 settings take about [0-9]+ s, more than the 0 s"):
        work.predict(budget=0)
    with pytest.raises(InputError, match="2 settings take about"):
        work.train([0, 1], budget=0)


def test_the_axes_of_a_table():
    table = {"graph": {"topology": ["ring"]}, "method.step_size": "0.1:0.3:3",
             "a.b+c.d": [[1, "x"], [2, "y"]], "network.widths": [[8, 8], [16]]}  # fmt: skip
    names = ["graph.topology=ring", "method.step_size=0.1:0.3:3", "a.b+c.d=1+x,2+y",
             "network.widths=[8 8],[16]"]  # fmt: skip
    assert design.of_table(table) == [design.axis(each) for each in names]
    with pytest.raises(InputError, match="sweep: a.b must be a list, or a range as text, got 3"):
        design.of_table({"a": {"b": 3}})


def call(*arguments):
    sys.argv = ["ntkdyn", *map(str, arguments)]
    with pytest.raises(SystemExit) as left:
        cli.app()
    return left.value.code or 0


@pytest.mark.slow
def test_the_commands(tmp_path, capsys):
    spec = tmp_path / "s.toml"
    table = '[sweep]\ngraph.topology = ["ring", "hypercube"]\n"width" = [8, 16]\n'
    spec.write_text(SPEC + table)
    given = [str(spec), "--out", str(tmp_path / "d")]
    over = ["--over", "graph.topology=ring,complete", "--over", "method.step_size.of_limit=0.4,0.8"]
    goal = ["--reach", "worst train_loss <= 1.4", "--cost", "rounds"]
    assert call("design", *given, *over, *goal, "--confirm", 3) == 0
    said = capsys.readouterr().out
    assert "seen to reach" in said and "trained: " in said and "Spearman" in said
    record = records.read(tmp_path / "d" / "design.nc")
    assert record["front"].sizes == {"graph.topology": 2, "method.step_size.of_limit": 2}
    assert float(record["cost"].min()) <= 8 and record["test_accuracy"].ndim == 4
    assert int(record["trained_best_seen"].notnull().sum()) == 3
    assert call("sweep", *given, "--train", 4) == 0
    assert "2 settings predicted, 4 trained; 2 cannot be run" in capsys.readouterr().out
    record = records.read(tmp_path / "d" / "sweep.nc")
    assert record["test_loss"].dims == ("graph.topology", "width", "round", "agent")
    assert (record["refusal"].values != "").tolist() == [[False, False], [True, True]]
    gap = np.abs(record["observed_train_loss"] - record["train_loss"]) / record["train_loss"]
    assert np.isfinite(gap[0]).all() and np.isnan(gap[1]).all() and gap[0].mean() < 0.3
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == ["design.nc", "sweep.nc"]
    for more, message in (
        (("--train", "some"), '--train: must be "all" or from 0 to the 4 there are, got some'),
        (("--kernel", "empirical"), "--kernel: goes with --starts"),
        (("--starts", 2), "goes with one --over, width, depth or step_size"),
        (("--budget", 0, "--train", "all"), "agree with --yes, or vary less"),
    ):
        assert call("sweep", *given, *more, "--overwrite") == 2
        assert message in capsys.readouterr().err
    assert call("design", *given, *goal, "--confirm", -1, "--overwrite") == 2
    assert "--confirm: must be a whole number" in capsys.readouterr().err
    spec.write_text(SPEC)
    assert call("sweep", *given, "--overwrite") == 2
    assert "--over: give a setting to vary, or a table [sweep]" in capsys.readouterr().err


@pytest.mark.slow
def test_the_best_are_predicted_with_anchors(base):
    """Nearer to training than the kernel of infinite width is, for a network this narrow."""
    axes = [design.axis("method.step_size=0.05,0.1,0.2")]
    goal = design.Goal(design.target("worst train_loss <= 5"), "rounds")
    study_ = design.Study(base, axes)
    found = design.search(study_, goal, sharp=2, confirm=2)
    assert found.sharp.sizes["setting"] == 2 and found.best[:2] == [2, 1]
    off = lambda each: float(np.abs(each["best_seen"] - found.trained["best_seen"]).sum())
    assert off(found.sharp) < off(found.reached.sel(setting=found.sharp["setting"].values))


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on(tmp_path):
    """By SIGKILL, in another process, after its first part."""
    spec = tmp_path / "s.toml"
    spec.write_text(SPEC)
    begin = (
        "import sys; from ntkdyn import cli; from ntkdyn.design import study; study.PART = 4; "
        "sys.argv[0] = 'ntkdyn'; cli.app()"
    )
    over = [word for each in OVER for word in ("--over", each)]
    command = [sys.executable, "-c", begin, "sweep", str(spec), *over, "-q", "--out"]
    out, whole = tmp_path / "out", tmp_path / "whole"
    killed = subprocess.Popen([*command, str(out)])
    while len(list((out / "sweep.parts").glob("[!.]*.nc"))) < 2 and killed.poll() is None:
        time.sleep(0.02)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL and not (out / "sweep.nc").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in (out / "sweep.parts").glob("p*.nc")}
    subprocess.run([*command, str(whole)], check=True)
    assert len(kept) >= 2
    resumed = subprocess.Popen([*command, str(out), "--resume"])
    again = set()
    while resumed.poll() is None:
        seen = _times(out / "sweep.parts")
        again |= {name for name, at in seen.items() if kept.get(name, at) != at}
    assert resumed.returncode == 0 and not again, "no part is written twice"
    one, other = (records.read(each / "sweep.nc") for each in (out, whole))
    assert one.identical(other)


def _times(folder):
    """When parts were written; none while they vanish."""
    try:
        return {path.name: path.stat().st_mtime_ns for path in folder.glob("p*.nc")}
    except FileNotFoundError:
        return {}


def test_a_table_has_a_row_for_each_setting_that_was_run(found, tmp_path):
    table = tables.rows(found)
    assert len(table) == 18 and "refusal" not in table
    row = table.loc[("star", "dgd", "5 + 0.8")]
    seen = found.sel({"graph.topology": "star", "method.name": "dgd"}).isel(round=-1)
    place = [i for i, each in enumerate(found[OVER[2].split("=")[0]].values) if each == "5 + 0.8"]
    seen = seen.isel({OVER[2].split("=")[0]: place[0]})
    assert row["test_loss"] == seen["test_loss"].mean("agent")
    assert row["test_loss_worst"] == seen["test_loss"].max("agent")
    assert row["test_accuracy_worst"] == seen["test_accuracy"].min("agent")
    assert tables.write(table, tmp_path / "t.csv").read_text().count("\n") == 19
    lines = tables.write(table, tmp_path / "t.tex").read_text().splitlines()
    assert "\\toprule" in lines
    columns = table.index.nlevels + table.shape[1]
    assert all(line.count("&") == columns - 1 for line in lines if "&" in line)
    with pytest.raises(InputError, match="must end in .csv or .tex, got t.txt"):
        tables.write(table, tmp_path / "t.txt")
    with pytest.raises(InputError, match="must be one of `ntkdyn sweep` or `ntkdyn design`"):
        tables.rows(xr.Dataset())
