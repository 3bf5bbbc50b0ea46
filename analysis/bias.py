"""Claim: a constant step biases DGD where data differ, and correcting methods remove the bias.

Digits (as 4x4 images) on eight agents in a ring, Dirichlet(0.1), an affine model: fewer parameters
than points, so no parameters fit all agents at once and the agents' minima differ. (An affine
model's kernel is the same at every width, so the prediction is exact.) Distance of all agents'
outputs from those of the common minimum, predicted from the kernel and observed in training. Run as

    .venv/bin/python analysis/bias.py                     (about a minute on 2 CPU cores)

It writes analysis/out/bias.nc and .png.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr

import ntkdyn as nd
from ntkdyn import figures, records

OUT = Path(__file__).parent / "out"
NAMES = ("dgd", "diging", "atc_tracking", "extra", "exact_diffusion")


def main() -> None:
    """Predict and train, and lay the distances to the common minimum over one another."""
    data = nd.data.load("digits", train=320, test=64, seed=0)
    data = replace(
        data, train_inputs=pooled(data.train_inputs), test_inputs=pooled(data.test_inputs)
    )
    shares = nd.data.partition(data, agents=8, by="dirichlet", alpha=0.1, min_points=5, seed=0)
    problem = nd.Problem(nd.networks.mlp((), outputs=10), shares)
    weights = nd.graphs.lazy(nd.graphs.metropolis(nd.graphs.ring(8)))
    dgd = nd.methods.dgd(step_size=1.0)
    step = 0.25 * nd.step_size_limit(problem, dgd, weights, kernel="infinite")
    best = common_minimum(problem)
    rounds = np.unique(np.geomspace(1, 5_000, 40).astype(int)).tolist()
    found = {}
    for name in NAMES:
        method = nd.methods.METHODS[name](step_size=step)
        runs = {
            "predicted": nd.predict(
                problem, method, weights, rounds, kernel="infinite", stability=unknown(method)
            ),
            "observed": nd.train(problem, method, weights, rounds),
        }
        found[name] = xr.concat([distance(run, best) for run in runs.values()], "run")
        print(name, *(f"{d:.2e}" for d in found[name].isel(round=-1).values), flush=True)
    record = xr.Dataset({"distance": xr.concat(found.values(), "algorithm")})
    record = record.assign_coords(algorithm=list(NAMES), run=["predicted", "observed"])
    records.write(record, OUT / "bias.nc")
    figures.style.save(figures.common_minimum.draw(record), OUT / "bias.png", formats=("png",))


def pooled(images: np.ndarray) -> np.ndarray:
    """8x8 images as 4x4 means: fewer parameters, which gradient steps reach sooner."""
    return images.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, 16)


def unknown(method: nd.methods.Method) -> nd.dynamics.Stability:
    """Stability is not asked for: the spectral radius of methods with memory takes long."""
    return nd.dynamics.Stability(method, None, None)


def common_minimum(problem: nd.Problem) -> np.ndarray:
    """Outputs of the minimum of the mean of all agents' losses, by least squares."""
    task = problem.task
    inputs = problem.inputs.astype(np.float64)
    design = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)
    root = np.sqrt(1 / task.counts[task.owner])[:, None]
    train = slice(task.train)
    fit = np.linalg.lstsq(root * design[train], root * task.targets[train], rcond=None)[0]
    return design @ fit


def distance(record: xr.Dataset, best: np.ndarray) -> xr.DataArray:
    """Root mean square over agents and training points, relative to the minimum's own outputs."""
    own = record["split"].values == "train"
    apart = record["outputs"].values[:, :, own] - best[own]
    relative = np.sqrt((apart**2).mean(axis=(1, 2, 3)) / (best[own] ** 2).mean())
    return xr.DataArray(relative, dims="round", coords={"round": record["round"].values})


if __name__ == "__main__":
    main()
