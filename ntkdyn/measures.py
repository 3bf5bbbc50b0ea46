"""Measures: losses, accuracies and coefficients of determination per agent, from outputs.

train_loss    L_i(f_i): mean over agent i's own points
global_loss   mean over agents j of L_j(f_i): the common objective, at agent i's model
weighted_loss sum over agents j of lambda_j L_j(f_i), where a method weighs them (`weighted`)
test_loss     mean over the test points

and, of the model whose parameters are the mean of all agents', consensus_global_loss and the like.
Beside them the shares of points whose class is named, train_accuracy and test_accuracy, or where
targets are numbers (regression, and bare kernels) on the same points

train_r2, test_r2    R^2 = 1 - sum |f - y|^2 / sum |y - mean y|^2

with sums over points and outputs, and the mean over the points of each sum; not known (NaN) where
all targets are the same, as those of one point are.
Where a network has several heads, test accuracy is measured for each: `shared_accuracy` is the mean
over all test points, `private_accuracy` weighs them so that classes occur as often as among the
agent's own points, and is not known (NaN) of an agent none of whose classes is tested.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ntkdyn import precision
from ntkdyn.problems import Task

ROUNDED = 1e-20
"""squared deviations of targets from their mean up to this share of their squares are rounding"""


@precision.in_double
def measure(
    task: Task,
    outputs: Float[np.ndarray, "agents points outputs"],
    weights: Float[np.ndarray, " agents"] | None = None,
) -> dict[str, Float[np.ndarray, " agents"]]:
    """Every loss, and accuracy or R^2, that the task allows, one number per agent.

    `weights` are those of an objective that is no plain mean, which is measured too.
    """
    losses = np.asarray(
        task.loss.value(jnp.asarray(outputs, jnp.float64), jnp.asarray(task.targets)[None])
    )
    share = shares(task)
    if weights is not None:
        share["weighted_loss"] = np.tile(weights @ share["train_loss"], (task.agents, 1))
    measured = {
        name: (np.where(each > 0, losses, 0) * each).sum(axis=1) for name, each in share.items()
    }
    counted = {name: share[f"{name}_loss"] for name in ("train", "test") if f"{name}_loss" in share}
    if task.labels is not None:
        right = _right(outputs, task.labels)
        measured |= {
            f"{name}_accuracy": (np.where(each > 0, right, 0) * each).sum(axis=1)
            for name, each in counted.items()
        }
    elif task.loss.regression:
        measured |= {f"{name}_r2": _r2(task, outputs, each) for name, each in counted.items()}
    return measured


def _r2(
    task: Task,
    outputs: Float[np.ndarray, "agents points outputs"],
    share: Float[np.ndarray, "agents points"],
) -> Float[np.ndarray, " agents"]:
    """R^2 of every agent on the points that it has a share of."""

    def squares(apart: Float[np.ndarray, "agents points outputs"]) -> np.ndarray:
        lengths = np.einsum("ipk,ipk->ip", apart, apart)
        return (np.where(share > 0, lengths, 0) * share).sum(axis=1)

    spread = squares(task.targets - (share @ task.targets)[:, None])
    known = spread > ROUNDED * (share @ (task.targets**2).sum(axis=1))
    with np.errstate(over="ignore", invalid="ignore"):  # of runs that diverged
        missed = squares(np.asarray(outputs, np.float64) - task.targets)
        return np.where(known, 1 - missed / np.where(known, spread, 1), np.nan)


def _right(answers: Float[np.ndarray, "... classes"], labels: np.ndarray) -> np.ndarray:
    """1 where the label is named, 0 where not, NaN where an output is no number.

    Several outputs name the class of the largest; a single one the second of two where it is
    positive.
    """
    single = answers.shape[-1] == 1
    said = (answers[..., 0] > 0).astype(int) if single else answers.argmax(axis=-1)
    right = (said == labels).astype(np.float64)
    return np.where(np.isnan(answers).any(axis=-1), np.nan, right)


def shares(task: Task) -> dict[str, Float[np.ndarray, "agents points"]]:
    """The weight of every point in every loss of every agent; they sum to one."""
    points = len(task.targets)
    own = np.zeros((task.agents, points))
    own[task.owner, np.arange(task.train)] = 1 / task.counts[task.owner]
    shares = {"train_loss": own, "global_loss": np.tile(own.mean(axis=0), (task.agents, 1))}
    if points > task.basis:
        test = np.zeros((task.agents, points))
        test[:, task.basis :] = 1 / (points - task.basis)
        shares["test_loss"] = test
    return shares


@precision.in_double
def measure_consensus(task: Task, outputs: Float[np.ndarray, "points outputs"]) -> dict[str, float]:
    """Losses and accuracy of one model that belongs to no agent."""
    many = np.broadcast_to(outputs, (task.agents, *outputs.shape))
    names = ("global_loss", "test_loss", "test_accuracy", "test_r2")
    return {
        f"consensus_{name}": values[0]
        for name, values in measure(task, many).items()
        if name in names
    }


def class_counts(task: Task) -> Int[np.ndarray, "agents classes"]:
    """How many training points of each class each agent owns."""
    counts = np.zeros((task.agents, task.classes), int)
    np.add.at(counts, (task.owner, task.labels[: task.train]), 1)
    return counts


def measure_heads(
    task: Task,
    outputs: Float[np.ndarray, "agents points outputs"],
    own: Int[np.ndarray, "agents classes"],
) -> dict[str, Float[np.ndarray, "agents heads"]]:
    """Accuracy of every head on the test points, and on those weighed like an agent's own.

    `own` says how many points of each class the agent has, measured or not.
    """
    agents, _, width = outputs.shape
    columns = width // task.heads
    labels = task.labels[task.basis :]
    right = _right(
        outputs[:, task.basis :].reshape(agents, -1, task.heads, columns), labels[:, None]
    )
    tested = np.bincount(labels, minlength=task.classes)
    weights = np.where(tested > 0, own / np.maximum(tested, 1), 0)[:, labels]
    total = weights.sum(axis=1, keepdims=True)
    weights = np.where(total > 0, weights / np.where(total > 0, total, 1), np.nan)
    return {
        "shared_accuracy": right.mean(axis=1),
        "private_accuracy": (right * weights[..., None]).sum(axis=1),
    }
