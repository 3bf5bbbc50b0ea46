"""Claim: agents learn of classes they never see from one another's answers on public points (MHD).

Four agents, complete graph, two architectures, most points of an agent from few classes
(Dirichlet(0.1)), 400 public points; 600 rounds. The same without distillation is isolated
training. Run as

    NTKDYN_DATA=DIR .venv/bin/python analysis/mhd_heads.py

Prints shared and private accuracy per head. What came out is in papers/mhd/README.md.
"""

from dataclasses import replace

import numpy as np
from images import said, shares

import ntkdyn as nd
from ntkdyn import methods
from ntkdyn.data import Partition

AUX = 2
COLUMNS = [f"{kind} head {h}" for kind in ("shared", "private") for h in range(1 + AUX)]
SETTINGS = {"isolated": (0.0, 0.0), "heads only": (0.0, 1.0), "heads and embedding": (0.1, 1.0)}


def apart(part: Partition) -> tuple[Partition, np.ndarray]:
    """The last 400 test points as public ones, without labels; the rest stays for testing."""
    data = part.data
    kept = replace(data, test_inputs=data.test_inputs[:-400], test_labels=data.test_labels[:-400])
    return replace(part, data=kept), data.test_inputs[-400:]


def main() -> None:
    """Train with and without distillation on two datasets."""
    weights = nd.graphs.uniform(nd.graphs.complete(4))
    nets = [nd.networks.mlp(widths, outputs=10 * (1 + AUX)) for widths in ((100, 64), (150, 64))]
    for dataset in ("mnist", "fashion-mnist"):
        for name, (nu_emb, nu_aux) in SETTINGS.items():

            def run(seed, dataset=dataset, nu_emb=nu_emb, nu_aux=nu_aux):
                rule = {"by": "dirichlet", "alpha": 0.1, "min_points": 32}
                part, public = apart(shares(dataset, 4, seed, test=1400, **rule))
                problem = nd.Problem(nets * 2, part, loss="cross_entropy", seed=seed, public=public)
                method = methods.mhd(
                    step_size=0.1, aux=AUX, nu_emb=nu_emb, nu_aux=nu_aux, pool=4, pool_every=10,
                    teachers=3, own_too=True, seed=seed,
                )  # fmt: skip
                save = nd.SaveOptions(outputs=False)
                record = nd.train(
                    problem, method, weights, [600], batch_size=32, batch_seed=seed, save=save
                )
                kinds = ("shared_accuracy", "private_accuracy")
                return [a for k in kinds for a in record[k][0].mean("agent").values.tolist()]

            said(f"{dataset}, {name}", run, COLUMNS)


if __name__ == "__main__":
    main()
