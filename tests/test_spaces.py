"""One method in three spaces: they coincide where the theory says so."""

import numpy as np
import pytest
from cases import LOSSES, METHODS, MIXINGS, method
from reference import message_passing, outputs

import ntkdyn as nd

ROUNDS = 12
STEP = {"mse": 0.15, "cross_entropy": 1.0}


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", METHODS)
def test_kernel_equals_tangent_equals_messages(small, name, loss, mixing):
    W = MIXINGS[mixing]
    problem, jacobian = small(W.agents, loss)
    task, step = problem.task, STEP[loss]
    truth = message_passing(
        name, jacobian, problem.initial, task.targets, task.owner, W.matrix, loss, step, ROUNDS
    )
    keep = nd.Keep(parameter_rounds=[ROUNDS], per_tensor=None)
    records = {
        kernel: nd.predict(problem, method(name, step), W, [0, 1, ROUNDS], kernel=kernel, keep=keep)
        for kernel in ("empirical", "implicit")
    }
    seen = outputs(jacobian, problem.initial, truth[[0, 1, ROUNDS]])
    assert np.abs(seen[-1] - seen[0]).max() > 0.1, "nothing happened"
    for record in records.values():
        assert np.abs(record["outputs"].values - seen).max() < 1e-10
        moved = (record["parameters"] - record["initial_parameters"]).values[0]
        assert np.abs(moved - truth[-1]).max() < 1e-10
        distances = np.linalg.norm(truth[[0, 1, ROUNDS]], axis=-1)
        assert np.abs(record["displacement"].values - distances).max() < 1e-10
        apart = truth - truth.mean(axis=1, keepdims=True)
        distances = np.linalg.norm(apart[[0, 1, ROUNDS]], axis=-1)
        assert np.abs(record["consensus_distance"].values - distances).max() < 1e-7
    layers = [record["layer_displacement"].values for record in records.values()]
    assert np.abs(layers[0] - layers[1]).max() < 1e-10
