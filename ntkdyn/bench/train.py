"""The training benchmark: rounds per second of all agents against a plain PyTorch loop over them.

Both sides take the same rounds of ATC on a ring: the same start, the same minibatches, the same
weights, float32, on the same cores. The other side is what one would write first: for every agent
a forward and a backward pass by autograd and a step, then one matrix product over the agents for
every tensor. Ours is the engine that `train` runs. Everything is warmed up before it is timed,
sides take turns, and the best of a few turns counts. `relative_difference` is that of the
parameters after all timed rounds of a turn, over the distance travelled.

The engine is also held against a bare jitted forward-backward pass of all agents, the same shapes
in the same run; a rate is XLA's count of a side's operations over its time. The last figure is what
saving the run costs at the default interval. With LeNet-5 in place of an MLP the other side's
convolutions are PyTorch's own, of images and filters as it wants them.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ntkdyn import graphs, methods, networks, precision, runs
from ntkdyn.checkpoints import MINUTES, SHARE, Checkpoints
from ntkdyn.data import Dataset, Partition
from ntkdyn.engine import Iteration, advance
from ntkdyn.errors import InputError
from ntkdyn.problems import Problem
from ntkdyn.records import environment


class Sizes(NamedTuple):
    """What is measured."""

    agents: int
    inputs: int
    widths: tuple[int, ...]
    batch: int
    points: int
    rounds: int
    turns: int
    network: str = "mlp"


FULL = Sizes(16, 784, (512, 512), 32, 128, 30, 5)
SMALL = Sizes(4, 16, (8, 8), 4, 8, 5, 1)
IMAGES = {
    False: Sizes(16, 784, (), 32, 128, 10, 5, "lenet5"),
    True: Sizes(2, 144, (), 4, 8, 3, 1, "lenet5"),
}
"""small or not -> LeNet-5, with 16 agents on images of 28 x 28"""
OUTPUTS, STEP, SEED, W_STD, B_STD = 10, 0.5, 0, 2**0.5, 0.1


def measure(sizes: Sizes) -> dict[str, Any]:
    """Both sides in turn, and their times per round."""
    try:
        import torch
    except ImportError:
        raise InputError(
            "bench train: needs PyTorch on the other side; pip install torch==2.13.0"
        ) from None
    with precision.single():
        iteration = _iteration(sizes)
        batches = [jax.tree.map(np.asarray, iteration.batches.at(t)) for t in range(sizes.rounds)]
        ours, theirs = _ours(iteration, sizes), _theirs(torch, sizes, iteration, batches)
        bare, operations = _bare(iteration, sizes)
        turns = [(ours(), theirs(), bare()) for _ in range(sizes.turns + 1)][1:]
        saving = _saving(iteration)
    against = f"PyTorch {torch.__version__} loop, {torch.get_num_threads()} threads"
    return _table(sizes, turns, iteration, against, operations, saving)


Turn = tuple[tuple[float, np.ndarray], tuple[float, np.ndarray], float]
"""seconds per round and parameters of ours, the same of theirs, seconds of a bare pass"""


def _table(
    sizes: Sizes,
    turns: list[Turn],
    iteration: Iteration,
    against: str,
    operations: dict[str, float],
    saving: dict[str, float],
) -> dict[str, Any]:
    mine, yours = (min(turn[side][0] for turn in turns) for side in (0, 1))
    passes = min(turn[2] for turn in turns)
    more = operations["engine"] / operations["bare"]
    share = float(np.median([more * passed / round for (round, _), _, passed in turns]))
    shape = "-".join(map(str, (sizes.inputs, *sizes.widths, OUTPUTS)))
    network = f"MLP {shape}" if sizes.network == "mlp" else "LeNet-5"
    case = f"{sizes.agents} agents, {network}, batch {sizes.batch}"
    apart = _apart(iteration, turns[-1])
    return {
        "title": "training, seconds per round of all agents",
        "comparisons": [
            _compared(case, against, mine, yours) | {"relative_difference": apart},
            _compared("the same, one round", "bare jitted forward-backward", mine, passes),
        ],
        "figures": {
            "rounds per second": {"ours": 1 / mine, "theirs": 1 / yours},
            "Gflop per round": {side: count / 1e9 for side, count in operations.items()},
            "share of the bare floating-point rate": {"median of the turns": share},
            "checkpoints": saving,
        },
        "machine": environment()["device"],
    }


def _compared(case: str, against: str, ours: float, theirs: float) -> dict[str, Any]:
    ratio = theirs / ours
    return {"case": case, "against": against, "ours": ours, "theirs": theirs, "ratio": ratio}


def _apart(iteration: Iteration, turn: Turn) -> float:
    """How far the two sides' parameters are apart, over the distance travelled."""
    (_, one), (_, other), _ = turn
    travelled = np.linalg.norm(one - _flat(iteration.space.start().tree))
    return float(np.linalg.norm(one - other) / travelled)


def _iteration(sizes: Sizes) -> Iteration:
    rng = np.random.default_rng(SEED)
    points = sizes.agents * sizes.points
    inputs = rng.standard_normal((points + 1, sizes.inputs)).astype(np.float32)
    labels = rng.integers(0, OUTPUTS, points + 1)
    data = Dataset(
        "noise", inputs[:-1], labels[:-1], inputs[-1:], labels[-1:], OUTPUTS, "standard normal"
    )
    shares = Partition(data, np.arange(points) % sizes.agents, sizes.agents, "iid")
    scales, side = {"outputs": OUTPUTS, "w_std": W_STD, "b_std": B_STD}, math.isqrt(sizes.inputs)
    image = (side, side, 1)
    network = (
        networks.mlp(sizes.widths, **scales)
        if sizes.network == "mlp"
        else networks.lenet5(image=image, **scales)
    )
    problem = Problem(network, shares, loss="cross_entropy", seed=SEED)
    plan = runs.plan(
        problem, methods.atc(step_size=STEP), graphs.metropolis(graphs.ring(sizes.agents)),
        sizes.rounds, batch_size=sizes.batch, batch_seed=SEED,
    )  # fmt: skip
    return runs.iteration_of(plan, problem.network_space())


def _ours(iteration: Iteration, sizes: Sizes) -> Callable[[], tuple[float, np.ndarray]]:
    def turn() -> tuple[float, np.ndarray]:
        state = jax.block_until_ready(iteration.init())
        begun = time.perf_counter()
        state = jax.block_until_ready(
            advance(iteration, state, jnp.array(0), jnp.array(sizes.rounds))
        )
        return (time.perf_counter() - begun) / sizes.rounds, _flat(state.x.tree)

    return turn


def _bare(iteration: Iteration, sizes: Sizes) -> tuple[Callable[[], float], dict[str, float]]:
    """Seconds of a forward and a backward pass of all agents; operations a round of both sides."""
    batch = iteration.batches.at(0)
    inputs, targets = iteration.space.inputs[batch.rows], iteration.targets[batch.rows]

    def loss(params: Any, points: Any, wanted: Any) -> Any:
        return iteration.loss.value(iteration.space.apply(params, points), wanted).mean()

    passes = jax.jit(jax.vmap(jax.value_and_grad(loss)))
    params, one = iteration.space.start().tree, jnp.array(1)
    alone = passes.lower(params, inputs, targets).compile()
    together = advance.lower(iteration, iteration.init(), jnp.array(0), one).compile()

    def turn() -> float:
        begun = time.perf_counter()
        for _ in range(sizes.rounds):
            jax.block_until_ready(passes(params, inputs, targets))
        return (time.perf_counter() - begun) / sizes.rounds

    counted = {"engine": together, "bare": alone}
    return turn, {
        side: float(program.cost_analysis()["flops"]) for side, program in counted.items()
    }


def _saving(iteration: Iteration) -> dict[str, float]:
    """Seconds that one checkpoint of the run takes, and its share of the default interval."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoints, state = Checkpoints(folder, rounds=1), iteration.init()
        times = []
        for round in (1, 2, 3):
            begun = time.perf_counter()
            checkpoints.save(round, state, [])
            times.append(time.perf_counter() - begun)
    best = min(times)
    return {
        "MB": sum(leaf.nbytes for leaf in jax.tree.leaves(state)) / 1e6,
        "seconds": best,
        "share of the time": best / (best + max(60 * MINUTES, best / SHARE)),
    }


def _theirs(
    torch: Any, sizes: Sizes, iteration: Iteration, batches: list[Any]
) -> Callable[[], tuple[float, np.ndarray]]:
    """The loop: agent by agent by autograd, then a product with W for every tensor."""
    as_tensor = lambda array: torch.from_numpy(np.array(array))
    start = [np.asarray(leaf) for leaf in jax.tree.leaves(iteration.space.start().tree)]
    inputs, targets = as_tensor(iteration.space.inputs), as_tensor(iteration.targets).float()
    weights = as_tensor(iteration.weights.matrix()).float()
    rows = [as_tensor(batch.rows).long() for batch in batches]

    convolved = sizes.network == "lenet5"

    def outputs(layers: list[Any], points: Any) -> Any:
        points = _convolved(torch, layers[:4], points) if convolved else points
        dense = layers[4:] if convolved else layers
        for number in range(0, len(dense), 2):
            scale = W_STD / points.shape[1] ** 0.5
            points = points @ dense[number] * scale + B_STD * dense[number + 1]
            points = points if number + 2 == len(dense) else torch.relu(points)
        return points

    def turn() -> tuple[float, np.ndarray]:
        agents = [
            [as_tensor(_turned(leaf[i], THERE)).requires_grad_() for leaf in start]
            for i in range(len(weights))
        ]
        begun = time.perf_counter()
        for chosen in rows:
            for layers, own in zip(agents, chosen, strict=True):
                logs = torch.log_softmax(outputs(layers, inputs[own]), dim=1)
                loss = -(targets[own] * logs).sum(dim=1).mean()
                slopes = torch.autograd.grad(loss, layers)
                with torch.no_grad():
                    for leaf, slope in zip(layers, slopes, strict=True):
                        leaf -= STEP * slope
            with torch.no_grad():
                for tensors in zip(*agents, strict=True):
                    sent = torch.stack(tensors)
                    mixed = (weights @ sent.reshape(len(sent), -1)).reshape(sent.shape)
                    for leaf, value in zip(tensors, mixed, strict=True):
                        leaf.copy_(value)
        elapsed = time.perf_counter() - begun
        ends = [[_turned(leaf.detach().numpy(), BACK) for leaf in layers] for layers in agents]
        return elapsed / len(rows), _flat([np.stack(leaf) for leaf in zip(*ends, strict=True)])

    return turn


THERE, BACK = (3, 2, 0, 1), (2, 3, 1, 0)
"""between filters (rows, columns, in, out) and PyTorch's (out, in, rows, columns)"""


def _turned(leaf: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return np.ascontiguousarray(leaf.transpose(axes)) if leaf.ndim == 4 else leaf


def _convolved(torch: Any, layers: list[Any], points: Any) -> Any:
    """The convolutions of LeNet-5, on flat images, and their outputs flat, channels last."""
    images = points.reshape(len(points), 1, *2 * [math.isqrt(points.shape[1])])
    for number, padding in ((0, 2), (2, 0)):
        filters, bias = layers[number], layers[number + 1]
        scale = W_STD / filters[0].numel() ** 0.5
        own = torch.nn.functional.conv2d(
            images, scale * filters, B_STD * bias.reshape(-1), padding=padding
        )
        images = torch.nn.functional.max_pool2d(torch.relu(own), 2)
    return images.permute(0, 2, 3, 1).reshape(len(points), -1)


def _flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.asarray(leaf).reshape(-1) for leaf in jax.tree.leaves(tree)])
