"""Claim: DRT diffusion generalises better than ATC on a sparse graph (Li, Fainman, Vlaski 2025).

Eight agents on a ring, Dirichlet(0.3), MLP 100-100, 300 rounds of 32 points each; from one start
and from eight different ones. ATC has uniform weights, which DRT's are at consensus. Run as

    NTKDYN_DATA=DIR .venv/bin/python analysis/drt_starts.py

Prints test accuracy of agents and of the consensus model, mean and spread of three seeds. What
came out is in papers/drt-diffusion/README.md.
"""

from images import said, shares

import ntkdyn as nd

METHODS = {
    "atc": nd.methods.atc(step_size=0.3),
    "drt squared": nd.methods.drt(step_size=0.3),
    "drt unsquared": nd.methods.drt(step_size=0.3, variant="unsquared", kappa=1e-2),
}


def main() -> None:
    """Train from common and from different starts on three datasets."""
    weights = nd.graphs.uniform(nd.graphs.ring(8))
    network = nd.networks.mlp((100, 100), outputs=10)
    for dataset in ("mnist", "fashion-mnist", "cifar-10"):
        for start in ("common", "different"):
            for name, method in METHODS.items():

                def run(seed, dataset=dataset, start=start, method=method):
                    part = shares(dataset, 8, seed, by="dirichlet", alpha=0.3, min_points=32)
                    seeds = [10 * seed + i for i in range(8)] if start == "different" else seed
                    problem = nd.Problem(network, part, loss="cross_entropy", seed=seeds)
                    save = nd.SaveOptions(outputs=False)
                    record = nd.train(
                        problem, method, weights, [300], batch_size=32, batch_seed=seed, save=save
                    )
                    means = record["test_accuracy"].mean(), record["consensus_test_accuracy"].mean()
                    return [float(each) for each in means]

                said(f"{dataset}, {start} start, {name}", run, ("agents", "consensus"))


if __name__ == "__main__":
    main()
