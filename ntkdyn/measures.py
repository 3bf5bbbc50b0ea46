"""Measures: losses and accuracies per agent, from outputs.

train_loss    L_i(f_i): mean over agent i's own points
global_loss   mean over agents j of L_j(f_i): the common objective, at agent i's model
test_loss     mean over the test points
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkdyn import precision
from ntkdyn.problems import Task


@precision.in_double
def measure(
    task: Task, outputs: Float[np.ndarray, "agents points outputs"]
) -> dict[str, Float[np.ndarray, " agents"]]:
    """Every loss and accuracy that the task allows, one number per agent."""
    losses = np.asarray(
        task.loss.value(jnp.asarray(outputs, jnp.float64), jnp.asarray(task.targets)[None])
    )
    share = shares(task)
    measured = {name: (losses * each).sum(axis=1) for name, each in share.items()}
    if task.labels is not None:
        right = (outputs.argmax(axis=-1) == task.labels).astype(np.float64)
        for name in ("train", "test"):
            if f"{name}_loss" in share:
                measured[f"{name}_accuracy"] = (right * share[f"{name}_loss"]).sum(axis=1)
    return measured


def shares(task: Task) -> dict[str, Float[np.ndarray, "agents points"]]:
    """The weight of every point in every loss of every agent; they sum to one."""
    points = len(task.targets)
    own = np.zeros((task.agents, points))
    own[task.owner, np.arange(task.train)] = 1 / task.counts[task.owner]
    shares = {"train_loss": own, "global_loss": np.tile(own.mean(axis=0), (task.agents, 1))}
    if points > task.train:
        test = np.zeros((task.agents, points))
        test[:, task.train :] = 1 / (points - task.train)
        shares["test_loss"] = test
    return shares
