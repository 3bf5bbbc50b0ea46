"""What is said of the demo and of the specs on real images is what their runs showed."""

import re
from pathlib import Path

import numpy as np
import pages
import pytest

from ntkdyn import experiment, records
from ntkdyn.validation.verdicts import percent

ROOT = Path(__file__).parent.parent
LEARNT = {"cifar-10": (0.27, 0.3), "fashion-mnist": (0.67, 0.74), "mnist": (0.85, 0.85)}
"""the least accuracy on test points: of agents, on average, and of their mean network"""
STEP = "step size 10 % larger"
NEAR_BY_MAKING = ("step size", "linearization")
"""kinds of explanations that are wrong by little, or not at all"""


@pytest.fixture(scope="module", params=[*experiment.shipped()])
def run(request):
    """Name, spec, and what is kept of its comparison."""
    spec, kept = experiment.load(request.param), ROOT / "analysis" / "results"
    return request.param, spec, records.read(kept / f"{request.param}.nc")


@pytest.fixture(scope="module")
def demo():
    """What is kept of the comparison of `ntkdyn demo`."""
    return records.read(ROOT / "analysis" / "results" / "demo.nc")


def nulls(kept):
    """Explanation -> its kind, and its deviation gap in the last round."""
    gaps = kept["null_deviation_gap_of_all"].isel(round=-1).values
    return dict(
        zip(
            kept["explanation"].values,
            zip(kept["null_kind"].values, gaps, strict=True),
            strict=True,
        )
    )


def test_shipped_specs_are_of_a_size_that_learns(run):
    name, spec, kept = run
    assert experiment.parse(kept.attrs["spec"], name) == spec, "the record is of another spec"
    assert spec.data.train >= 1000 and spec.run.anchors[0] == 0 < len(spec.run.anchors) - 1
    seen, mean = kept["observed_test_accuracy"], kept["observed_consensus_test_accuracy"]
    agents, together = LEARNT[name]
    assert float(seen[-1].mean()) >= agents > 2 * float(seen[0].mean())
    assert float(mean[-1]) >= together
    off = kept["predicted_test_accuracy"] - seen
    assert np.abs(off[-1]).max() < 0.03


def test_what_agents_differ_in_is_predicted(run):
    """To 5 %, twice as near as by any wrong explanation but a step size."""
    _, spec, kept = run
    last, right = kept.isel(round=-1), kept.attrs["deviation_gap"]
    assert right == float(last["deviation_gap_of_all"]) <= 0.05
    assert int(last["round"]) == spec.run.rounds == kept.attrs["deviation_gap_round"]
    tried = nulls(kept)
    assert {STEP, "nothing moves", "another agent's curve"} <= tried.keys()
    for name, (kind, gap) in tried.items():
        assert gap > 2 * right or kind in NEAR_BY_MAKING, name


def test_the_page_tells_what_the_record_holds(run):
    name, spec, kept = run
    (row,) = re.findall(rf"^\| `{name}` \| (.*) \|$", pages.text("accuracy.md"), re.M)
    what, *figures = row.split(" | ")
    assert f"{spec.partition.agents} agents" in what and f"{spec.run.rounds} rounds" in what
    tried = nulls(kept)
    others = {each: gap for each, (kind, gap) in tried.items() if kind not in NEAR_BY_MAKING}
    nearest = min(others, key=others.get)
    last = kept.isel(round=-1)
    agents = float(last["observed_test_accuracy"].mean())
    mean = float(last["observed_consensus_test_accuracy"])
    assert figures[:5] == [
        percent(kept.attrs["deviation_gap"]),
        percent(kept.attrs["largest_deviation_gap"]),
        percent(tried[STEP][1]),
        f"{percent(others[nearest])} ({nearest})",
        f"{100 * agents:.1f} %, {100 * mean:.1f} %",
    ]


def test_the_demo_tells_what_was_run_from_everything_else(demo):
    assert experiment.parse(demo.attrs["spec"], "demo") == experiment.demo()
    assert demo.sizes["anchor"] <= 12, "kernels"
    right, last = demo.attrs["deviation_gap"], demo.isel(round=-1)
    assert right == float(last["deviation_gap_of_all"]) <= 0.015
    assert float(last["gap"].max()) <= 0.0035
    assert float(demo["parameter_gap"].isel(parameter_round=-1).max()) <= 0.045
    for name, (kind, gap) in nulls(demo).items():
        times = {"step size": 2, "linearization": 4}.get(kind, 8)
        assert gap > times * right, name


ROWS = {
    "linear around the start": "the same, linear around the start alone",
    "atc in its place": "ATC in place of DGD",
    "agents permuted": "agents permuted on the ring",
    "complete graph": "complete graph",
    "another agent's curve": "every agent given its neighbour's curve",
}
"""explanation -> what the page calls it"""


def test_the_page_tells_what_the_demo_showed(demo):
    text, last = pages.text("accuracy.md"), demo.isel(round=-1)
    told = lambda row: re.findall(rf"^\| {re.escape(row)} \| (.*) \|$", text, re.M)[0].split(" | ")
    for name, row in ROWS.items():
        each = last.sel(explanation=name)
        of_all, agents, share = (
            float(each[f"null_{gap}"].max())
            for gap in ("deviation_gap_of_all", "deviation_gap", "gap")
        )
        assert told(row) == [percent(of_all), percent(agents), percent(share)], row
    own = told(f"**the prediction, linearized anew in {demo.sizes['anchor']} rounds**")
    found = (last[name].max() for name in ("deviation_gap_of_all", "deviation_gap", "gap"))
    assert [each.strip("*") for each in own] == [percent(float(each)) for each in found]
