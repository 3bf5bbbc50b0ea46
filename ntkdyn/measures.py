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
    losses = task.loss.value(jnp.asarray(outputs, jnp.float64), jnp.asarray(task.targets)[None])
    measured = _means("loss", np.asarray(losses), task) | {
        "global_loss": np.asarray(losses)[:, : task.train] @ _share(task)
    }
    if task.labels is not None:
        right = (outputs.argmax(axis=-1) == task.labels).astype(np.float64)
        measured |= _means("accuracy", right, task)
    return measured


def _means(
    name: str, values: Float[np.ndarray, "agents points"], task: Task
) -> dict[str, Float[np.ndarray, " agents"]]:
    """Means over each agent's own training points, and over the test points if there are any."""
    own = task.owner == np.arange(task.agents)[:, None]
    means = {f"train_{name}": (values[:, : task.train] * own).sum(axis=1) / task.counts}
    if values.shape[1] > task.train:
        means[f"test_{name}"] = values[:, task.train :].mean(axis=1)
    return means


def _share(task: Task) -> Float[np.ndarray, " train"]:
    """The weight of each training point in the common objective: 1 / (agents x n_owner)."""
    return 1 / (task.agents * task.counts[task.owner])
