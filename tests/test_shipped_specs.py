"""What README says of the specs on real images is what their runs showed."""

import re
from pathlib import Path

import numpy as np
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


def test_readme_tells_what_the_record_holds(run):
    name, spec, kept = run
    (row,) = re.findall(rf"^\| `{name}` \| (.*) \|$", (ROOT / "README.md").read_text(), re.M)
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
