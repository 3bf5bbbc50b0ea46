"""Claim: aligning neurons before averaging keeps what agents have learned (DIMAT, 2024).

Five agents on a ring, equal shares, MLP 200-200 from five different starts, Adam, one merge after
200 rounds of 50 points: accuracy right before and right after it. Run as

    NTKDYN_DATA=DIR .venv/bin/python analysis/dimat_merge.py

What came out is in papers/dimat/README.md.
"""

from images import said, shares

import ntkdyn as nd
from ntkdyn import methods

TAU = 200


def plain(dimat: methods.Method) -> methods.Method:
    """The same schedule without alignment."""
    mixing = methods.mixing.Periodic(methods.mixing.Fixed(), TAU)
    return methods.Method("averaging", dimat.update, mixing, dimat.objective)


def main() -> None:
    """Merge once on each dataset, with and without alignment, from several starts and one."""
    weights = nd.graphs.uniform(nd.graphs.ring(5))
    network = nd.networks.mlp((200, 200), outputs=10)
    settings = {
        "own data": methods.dimat(step_size=0.01, tau=TAU, data="own"),
        "all data": methods.dimat(step_size=0.01, tau=TAU, data="all"),
        "weights": methods.dimat(step_size=0.01, tau=TAU, by="weights"),
        "plain averaging": plain(methods.dimat(step_size=0.01, tau=TAU)),
    }
    for dataset in ("mnist", "fashion-mnist"):
        for start in ("different", "common"):
            for name, method in settings.items():

                def run(seed, dataset=dataset, start=start, method=method):
                    part = shares(dataset, 5, seed)
                    seeds = [10 * seed + i for i in range(5)] if start == "different" else seed
                    problem = nd.Problem(network, part, loss="cross_entropy", seed=seeds)
                    save = nd.SaveOptions(outputs=False)
                    record = nd.train(
                        problem, method, weights, [TAU - 1, TAU], batch_size=50, batch_seed=seed,
                        save=save,
                    )  # fmt: skip
                    return record["test_accuracy"].mean("agent").values.tolist()

                said(f"{dataset}, {start} starts, {name}", run, ("before", "after"))


if __name__ == "__main__":
    main()
