"""Recordings: real training at widths 64 to 4096, for the explorable on width.

Four agents on a ring tell handwritten threes from eights with one hidden layer of relu. For every
width, start and step size, DGD trains the real networks for 200 rounds; what is kept is what the
page needs to predict the run and to lay the recording over it:

    kernel          (width, start, row, column)         K at the start, rows point by point, output
                                                        by output, float32
    initial         (width, start, row)                 f(theta_0) at the training points
    targets, owner  (row), (point)
    mixing          (agent, heard_agent)
    step_size       (step)                              shares of the limit at infinite width
    train_loss      (width, start, step, round, agent)  observed, of each agent on its own points
    outputs         (width, start, step, agent, row)    observed in round `gap_round`
    kernel_drift    (width, start, step, drift_round)   |K_t - K_0| / |K_0| of agent 0's network
    gap             (width, start, step)                the same round's distance between predicted
                                                        and observed outputs, as a share of the
                                                        distance travelled; the worst agent's

Run it as

    .venv/bin/python analysis/width_recordings.py        (about 2 minutes on 2 CPU cores)

It writes figures/interactive/widths.nc, which is committed and ships with the package.
"""

from pathlib import Path

import jax
import numpy as np
import xarray as xr

import ntkdyn as nd
from ntkdyn import precision, records
from ntkdyn.data import Dataset, Partition
from ntkdyn.kernels import empirical

OUT = Path(__file__).parent.parent / "figures" / "interactive" / "widths.nc"
WIDTHS = [64, 128, 256, 512, 1024, 2048, 4096]
STARTS = [0, 1, 2]
SHARES = [0.1, 0.5]
AGENTS, POINTS, ROUNDS = 4, 16, 200
GAP_ROUND = 40
RECORDED = list(range(0, ROUNDS + 1, 5))
DRIFT = list(range(0, ROUNDS + 1, 40))


def data() -> Partition:
    """16 images of threes and eights, unequally shared: agents see more of one of the two."""
    digits = nd.data.load("digits", train=400, test=400, seed=0)
    inputs, labels = digits.train_inputs, digits.train_labels
    threes, eights = (np.flatnonzero(labels == digit)[: POINTS // 2] for digit in (3, 8))
    rows = np.concatenate([threes[:3], eights[:1], threes[3:6], eights[1:2],
                           threes[6:7], eights[2:5], threes[7:], eights[5:]])  # fmt: skip
    chosen = (labels[rows] == 8).astype(int)
    pair = Dataset(
        "digits 3 and 8", inputs[rows], chosen, inputs[rows[:2]], chosen[:2], 2,
        digits.normalisation,
    )  # fmt: skip
    return Partition(pair, np.repeat(np.arange(AGENTS), POINTS // AGENTS), AGENTS, "given")


def network(width: int) -> nd.networks.Network:
    """One hidden layer."""
    return nd.networks.mlp((width,), outputs=2, activation="relu", w_std=(2**0.5, 1.0), b_std=0.1)


@precision.in_double
def kernel_at(problem: nd.Problem, flat: np.ndarray) -> np.ndarray:
    """K of the network whose parameters, flattened tensor by tensor, are `flat`."""
    leaves, form = jax.tree.flatten(problem.start)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    parts = np.split(flat.astype(np.float64), ends)
    shaped = [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
    inputs = problem.inputs[:POINTS].astype(np.float64)
    blocks = empirical.layer_ntk(problem.network.apply, form.unflatten(shaped), inputs, inputs)
    return np.asarray(sum(blocks.values())).reshape(2 * POINTS, 2 * POINTS)


def record_run(problem: nd.Problem, step_size: float, weights: nd.graphs.MixingMatrix) -> dict:
    """Train, and keep losses, outputs, gap and the drift of the kernel."""
    save = nd.SaveOptions(parameter_rounds=DRIFT, parameter_agents=[0], per_tensor=10**9)
    run = nd.train(problem, nd.methods.dgd(step_size=step_size), weights, RECORDED, save=save)
    kernels = [kernel_at(problem, flat) for flat in run["parameters"].values[:, 0]]
    start = np.linalg.norm(kernels[0])
    forecast = nd.predict(problem, nd.methods.dgd(step_size=step_size), weights, [GAP_ROUND])
    seen, foreseen = (
        each["outputs"].sel(round=GAP_ROUND).values[:, :POINTS].reshape(AGENTS, -1)
        for each in (run, forecast)
    )
    travelled = np.linalg.norm(seen - problem.initial[:POINTS].reshape(-1), axis=1)
    return {
        "train_loss": run["train_loss"].values,
        "outputs": seen,
        "gap": (np.linalg.norm(foreseen - seen, axis=1) / travelled).max(),
        "kernel_drift": np.array([np.linalg.norm(k - kernels[0]) / start for k in kernels]),
    }


def main() -> None:
    """Record every run and write them."""
    partition, weights = data(), nd.graphs.metropolis(nd.graphs.ring(AGENTS))
    reference = nd.Problem(network(64), partition)
    limit = nd.step_size_limit(reference, nd.methods.dgd(step_size=1.0), weights, kernel="infinite")
    steps = [share * limit for share in SHARES]
    runs, kernels, initials = [], [], []
    for width in WIDTHS:
        for start in STARTS:
            problem = nd.Problem(network(width), partition, seed=start)
            kernels.append(problem.kernel("empirical").training)
            initials.append(problem.initial[:POINTS].reshape(-1))
            runs += [record_run(problem, step, weights) for step in steps]
            print(f"width {width}, start {start}", flush=True)
    grid = len(WIDTHS), len(STARTS)

    def gathered(name: str) -> np.ndarray:
        values = np.stack([run[name] for run in runs]).astype(np.float32)
        return values.reshape(*grid, len(steps), *values.shape[1:])

    every = ("width", "start", "step")
    record = xr.Dataset(
        {
            "kernel": (
                ("width", "start", "row", "column"),
                np.stack(kernels).astype(np.float32).reshape(*grid, 2 * POINTS, 2 * POINTS),
            ),
            "initial": (("width", "start", "row"), np.stack(initials).reshape(*grid, -1)),
            "targets": ("row", reference.task.targets[:POINTS].reshape(-1)),
            "mixing": (("agent", "heard_agent"), weights.matrix),
            "step_size": ("step", steps),
            "train_loss": ((*every, "round", "agent"), gathered("train_loss")),
            "outputs": ((*every, "agent", "row"), gathered("outputs")),
            "gap": (every, gathered("gap")),
            "kernel_drift": ((*every, "drift_round"), gathered("kernel_drift")),
        },
        {
            "width": WIDTHS, "start": STARTS, "round": RECORDED, "drift_round": DRIFT,
            "share_of_limit": ("step", SHARES), "owner": ("point", partition.owner),
        },
        {
            "gap_round": GAP_ROUND, "method": "dgd", "network": "mlp WIDTH-2 relu, one hidden "
            "layer",
            "dataset": "digits (Alpaydin, Kaynak 1998, UCI): threes against eights",
            "source": "analysis/width_recordings.py", **records.environment(),
        },
    )  # fmt: skip
    records.write(record, OUT)


if __name__ == "__main__":
    main()
