"""Numbers that no change of design may move: every method, predicted and trained, in float64.

`python tests/test_golden.py` writes them anew, which only a change of what is computed asks for.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from cases import ALL_METHODS, METHODS
from test_own_methods import RING, SETTINGS, affine

import ntkdyn as nd
from ntkdyn import graphs

NUMBERS = Path(__file__).with_name("golden.json")

DIRECTED = graphs.push(graphs.directed_ring(4))

ROUNDS = [0, 1, 2, 5, 9]

SHOWN = ("train_loss", "test_loss", "global_loss", "consensus_distance", "displacement")


def bare():
    """Twelve points of four agents, rank seven."""
    rng = np.random.default_rng(11)
    rows = rng.standard_normal((12, 7))
    owner = np.array([0, 1, 2, 3, 0, 0, 1, 2, 2, 3, 3, 3])
    return nd.KernelProblem(rows @ rows.T / 7, rng.standard_normal((12, 2)), owner)


def numbers(name, how):
    """What a run of that method shows, by round."""
    make, weights = nd.methods.METHODS[name], DIRECTED if name == "push_sum" else RING
    if how == "predicted":
        record = nd.predict(bare(), make(step_size=0.05), weights, ROUNDS, via="steps")
    else:
        problem = affine(3 if name == "mhd" else 1)
        asked = make(step_size=0.02, **SETTINGS.get(name, {}))
        batches = {"batch_size": 2, "batch_seed": 5}
        record = nd.train(problem, asked, weights, ROUNDS, precision="float64", **batches)
    shown = [each for each in SHOWN if each in record]
    return {each: record[each].values.reshape(len(ROUNDS), -1).tolist() for each in shown}


CASES = [f"{name}, predicted" for name in METHODS] + [f"{name}, trained" for name in ALL_METHODS]

TRAINED = [
    case if case.endswith("predicted") else pytest.param(case, marks=pytest.mark.slow)
    for case in CASES
]


@pytest.mark.parametrize("case", TRAINED)
def test_every_number_is_what_it_was(case):
    wanted = json.loads(NUMBERS.read_text())[case]
    for name, values in numbers(*case.split(", ")).items():
        was, now = np.array(wanted[name]), np.array(values)
        assert np.abs(now - was).max() <= 1e-12 * max(1, np.abs(was).max()), name
        assert np.ptp(was) > 0, name


if __name__ == "__main__":
    found = {case: numbers(*case.split(", ")) for case in CASES}
    NUMBERS.write_text(json.dumps(found, indent=0) + "\n")
