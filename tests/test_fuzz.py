"""Malformed inputs: some of those of `make fuzz`, and what the harness itself can see."""

import pickle
import time

import pytest
from fuzz import doors, files, harness, own

INPUTS = 400

pytestmark = pytest.mark.usefixtures("types_unchecked")


def knock(attempt, folder):
    with harness.guarded(folder):
        return harness.knock(harness.Door("tried", attempt, 1), 0, 0, folder)


def refuse(sentence):
    raise harness.InputError(sentence)


def run_over(draw, folder):
    time.sleep(10)


@pytest.mark.parametrize(
    "attempt, verdict, said",
    [
        (lambda draw, folder: None, "accepted", ""),
        (lambda draw, folder: refuse("no"), "refused", "no"),
        (lambda draw, folder: refuse(""), "fault", "not one sentence"),
        (lambda draw, folder: [][1], "fault", "IndexError"),
        (lambda draw, folder: bytearray(10**11), "fault", "MemoryError"),
        (run_over, "fault", "Hangs: no end"),
    ],
)
def test_what_the_harness_sees(attempt, verdict, said, tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "SECONDS", 0.2)
    found = knock(attempt, tmp_path)
    assert found.verdict == verdict and found.reason.startswith(said)


def test_the_harness_sees_what_a_pickle_executes(tmp_path, monkeypatch):
    """Of a reader that executes what it reads."""
    unsafe = lambda what, path: pickle.loads(path.read_bytes(), encoding="bytes")
    monkeypatch.setattr(own.data.datasets.pickles, "read", unsafe)
    (door,) = (each for each in own.DOORS if each.name == "pickles")
    with harness.guarded(tmp_path):
        found = [harness.knock(door, number, 0, tmp_path) for number in range(100)]
    seen = [each for each in found if each.reason.startswith("Wrong: something in a pickle was ex")]
    assert len(seen) > 10 and not (tmp_path / own.MARK).exists()


SLOW = {
    "Problem",
    "train",
    "predict",
    "dynamics",
    "networks",
    "methods",
    "methods, wrapped; losses",
    "graphs, rules of weights",
    "graphs, sequences and others",
    "kernels.compute",
    "compare",
    "figures.draw",
    "records.write",
    "records",
    "kernel files",
    "checkpoints",
}
"""those that compile, draw or write more than the suite has time for"""

QUICK = [door for door in (*doors.DOORS, *files.DOORS, *own.DOORS) if door.name not in SLOW]


def test_malformed_inputs_are_refused_in_one_sentence_or_taken(tmp_path):
    outcomes, _ = harness.knock_at_all(QUICK, INPUTS, seed=0, folder=tmp_path)
    assert len(outcomes) == sum(harness.counts(QUICK, INPUTS).values())
    assert not [each for each in outcomes if each.verdict == "fault"]
    for door in QUICK:
        verdicts = {each.verdict for each in outcomes if each.door == door.name}
        assert verdicts == {"refused", "accepted"}, door.name
