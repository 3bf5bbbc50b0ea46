"""Claim: at a small width only the kernels of that width put trained networks inside the bands.

Four agents on a ring learn forty digits by DGD at half the limit of infinite width. Per width, 200
networks are trained, written here once more without the package's step; beside them the bands of
infinite width, and those of the own width from 100 starts and their kernels. Run it as

    .venv/bin/python analysis/ensembles.py                (about 10 minutes on 2 CPU cores)

It prints and writes analysis/results/ensembles.md: the spread of the test loss after 60 rounds over
that of the trained networks, with one standard error, and how many of these lie within the bands
of 90 %, all of them means over the agents.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import ntkdyn as nd

OUT = Path(__file__).parent / "results" / "ensembles.md"
WIDTHS, TRAINED, DRAWN, ROUNDS, AGENTS = (128, 512), 200, 100, 60, 4
W = nd.graphs.metropolis(nd.graphs.ring(AGENTS))


def problem_of(width: int) -> nd.Problem:
    """Two hidden layers on forty digits."""
    data = nd.data.load("digits", train=40, test=40, seed=0)
    part = nd.data.partition(data, agents=AGENTS, seed=0)
    network = nd.networks.mlp((width, width), outputs=10, activation="erf", w_std=1.5, b_std=0.1)
    return nd.Problem(network, part, seed=0)


def real(problem: nd.Problem, step_size: float) -> np.ndarray:
    """Test losses (starts, agents) of real networks, by DGD as it is written down."""
    task, apply = problem.task, problem.network.apply
    x, y = jnp.asarray(problem.inputs, jnp.float32), jnp.asarray(task.targets, jnp.float32)
    own = jnp.asarray((task.owner == np.arange(AGENTS)[:, None]) / task.counts[:, None])
    weights = jnp.asarray(W.matrix, jnp.float32)

    def loss(tree: dict, share: jax.Array) -> jax.Array:
        apart = apply(tree, x[: task.train]) - y[: task.train]
        return jnp.sum(share * jnp.sum(apart**2, axis=1)) / 2

    def step(tree: dict) -> dict:
        slopes = jax.vmap(jax.grad(loss))(tree, own.astype(jnp.float32))
        mixed = jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, 1), tree)
        return jax.tree.map(lambda a, g: a - step_size * g, mixed, slopes)

    @jax.jit
    def trained(key: jax.Array) -> jax.Array:
        start = problem.network.start(key, problem.inputs.shape[1:])
        tree = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (AGENTS, *leaf.shape)), start)
        tree = jax.lax.fori_loop(0, ROUNDS, lambda _, tree: step(tree), tree)
        apart = jax.vmap(apply, (0, None))(tree, x[task.train :]) - y[None, task.train :]
        return jnp.mean(jnp.sum(apart**2, axis=2), axis=1) / 2

    return np.stack([trained(key) for key in jax.random.split(jax.random.key(1), TRAINED)])


def row(width: int, say: Callable[[str], None]) -> str:
    """One line of the table."""
    problem, method = problem_of(width), nd.methods.dgd(step_size=nd.of_limit(0.5))
    told = {
        name: nd.dynamics.ensemble(
            problem, method, W, [ROUNDS], starts=nd.dynamics.Starts(0, draws, name)
        )
        for name, draws in (("infinite", 2000), ("own", DRAWN))
    }
    losses = real(problem, told["infinite"].attrs["step_size"])
    deviation, cells = losses.std(axis=0, ddof=1), [str(width), f"{losses.std(axis=0).mean():.4f}"]
    fourth = ((losses - losses.mean(axis=0)) ** 4).mean(axis=0)
    error = np.sqrt((fourth - deviation**4) / TRAINED) / (2 * deviation**2)
    for name, found in told.items():
        last = found.isel(round=-1)
        ratio = last["test_loss_std"].values / deviation
        own = last["test_loss_std_error"].values / deviation if name == "own" else 0.0
        off = np.mean(ratio * np.hypot(error, own / ratio))
        low, _, high = last["test_loss_band"].values
        inside = np.mean((losses > low) & (losses < high))
        cells += [f"{ratio.mean():.2f} ± {off:.2f}", f"{100 * inside:.0f} %"]
    line = f"| {' | '.join(cells)} |"
    say(line)
    return line


def main() -> None:
    """Fill the table, and write it."""
    head = [
        "| width | spread of the trained | infinite width: spread, as a share | in its 90 % band "
        "| own width: spread, as a share | in its 90 % band |",
        "|---|---|---|---|---|---|",
    ]
    lines = [row(width, lambda line: print(line, flush=True)) for width in WIDTHS]
    OUT.write_text("\n".join([*head, *lines]) + "\n")


if __name__ == "__main__":
    main()
