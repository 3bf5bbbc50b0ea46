"""Claim: a prediction's own error estimate, made without training, follows the true gap.

Digits among eight agents on a ring, widths 64 to 1024, three starts: at every recorded round the
estimate of `dynamics.trust` against the gap that training then shows. Printed: their correlation
(of logarithms), and the ratio true / estimated, overall and by width.
"""

from pathlib import Path

import numpy as np

import ntkdyn as nd

WIDTHS, SEEDS, ROUNDS = (64, 256, 1024), (0, 1, 2), 200
OUT = Path(__file__).parent / "out"


def pairs(width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Estimated and true gaps of every agent at every recorded round after the start."""
    data = nd.data.load("digits", train=256, test=128, seed=0)
    shares = nd.data.partition(data, agents=8, by="dirichlet", alpha=0.3, min_points=8, seed=0)
    network = nd.networks.mlp((width, width), outputs=10)
    problem = nd.Problem(network, shares, seed=seed)
    W = nd.graphs.metropolis(nd.graphs.ring(8))
    method = nd.methods.dgd(step_size=nd.of_limit(0.5))
    save = nd.SaveOptions(record_every=20)
    predicted = nd.predict(problem, method, W, ROUNDS, save=save._replace(trust=True))
    known = nd.methods.dgd(step_size=predicted.attrs["step_size"])
    gap = nd.compare(predicted, nd.train(problem, known, W, ROUNDS, save=save))["gap"]
    return predicted["trust_gap"].values[1:].ravel(), gap.values[1:].ravel()


def main() -> None:
    """Measure and print."""
    estimates, truths = [], []
    for width in WIDTHS:
        found = [pairs(width, seed) for seed in SEEDS]
        estimate, truth = (np.concatenate(each) for each in zip(*found, strict=True))
        ratio = truth / estimate
        print(
            f"width {width:5d}: true gap {truth.mean():.4f}, estimated {estimate.mean():.4f}, "
            f"true / estimated {np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})",
            flush=True,
        )
        estimates.append(estimate)
        truths.append(truth)
    estimate, truth = np.concatenate(estimates), np.concatenate(truths)
    ratio = truth / estimate
    correlation = np.corrcoef(np.log(estimate), np.log(truth))[0, 1]
    print(f"correlation of logarithms {correlation:.3f}; true / estimated {np.median(ratio):.2f}")
    OUT.mkdir(exist_ok=True)
    np.savez(OUT / "trust.npz", estimate=estimate, truth=truth)


if __name__ == "__main__":
    main()
