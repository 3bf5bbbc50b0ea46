"""Claim: CCL improves on QG-DSGDm-N where data are very unequal (Aketi, Roy 2024).

Eight agents on a ring, Dirichlet(0.05), MLP 100-100, 300 rounds of 32 points, accuracy of the
consensus model. Run as

    NTKDYN_DATA=DIR .venv/bin/python analysis/ccl_skew.py

What came out is in papers/ccl/README.md.
"""

from images import said, shares

import ntkdyn as nd
from ntkdyn import methods

METHODS = {
    "qg_dsgdm_n": methods.qg_dsgdm_n(step_size=0.03),
    "ccl, both lambdas 0": methods.ccl(step_size=0.03, lambda_m=0.0, lambda_d=0.0),
    "ccl, both 0.1": methods.ccl(step_size=0.03),
    "ccl, both 1": methods.ccl(step_size=0.03, lambda_m=1.0, lambda_d=1.0),
}


def main() -> None:
    """Train each on two datasets."""
    weights = nd.graphs.uniform(nd.graphs.ring(8))
    network = nd.networks.mlp((100, 100), outputs=10)
    for dataset in ("fashion-mnist", "cifar-10"):
        for name, method in METHODS.items():

            def run(seed, dataset=dataset, method=method):
                part = shares(dataset, 8, seed, by="dirichlet", alpha=0.05, min_points=32)
                problem = nd.Problem(network, part, loss="cross_entropy", seed=seed)
                save = nd.SaveOptions(outputs=False)
                record = nd.train(
                    problem, method, weights, [300], batch_size=32, batch_seed=seed, save=save
                )
                means = record["test_accuracy"].mean(), record["consensus_test_accuracy"].mean()
                return [float(each) for each in means]

            said(f"{dataset}, {name}", run, ("agents", "consensus"))


if __name__ == "__main__":
    main()
