"""ntkdyn: decentralized deep learning, predicted before it is run.

Wide networks evolve under gradient descent like their first-order expansion around the start,
and everything a decentralized method does to its iterates (add, scale, average with neighbours,
take a local gradient) commutes with that expansion. So a method is written once and runs in three
spaces: in NetworkSpace it is training, in TangentSpace and KernelSpace it is prediction.

    method = update x mixing x objective      methods.dgd, methods.atc, ...
    problem = network x partition of data     Problem, or KernelProblem from bare arrays
    system = method on a graph W, learning a problem          System(problem, method, W)
    predict(system, rounds)                   per-agent errors and parameters, from the kernel
    train(system, rounds)                     the same record, from real networks
    compare(predicted, observed)              how far they are apart, and where

Whatever is asked of a system may be asked of its parts: predict(problem, method, W, rounds).

Examples in docstrings stand on these names:

    >>> import numpy as np
    >>> import ntkdyn as nd
    >>> W, dgd = nd.graphs.metropolis(nd.graphs.ring(3)), nd.methods.dgd(step_size=0.1)
    >>> K, y = np.eye(6) + 1.0, np.array([1.0, 2.0, -1.0, 0.0, 2.0, -2.0])
    >>> owner = np.array([0, 0, 1, 1, 2, 2])
    >>> bare = nd.KernelProblem(K, y, owner)
    >>> data = nd.data.load("digits", train=9, test=3, seed=0)
    >>> net = nd.networks.mlp((16,), outputs=10, activation="erf")
    >>> prob = nd.Problem(net, nd.data.partition(data, agents=3, seed=0), seed=0)
"""

from typing import TYPE_CHECKING

from ntkdyn.errors import InputError, on_demand

if TYPE_CHECKING:
    from ntkdyn import (
        conformance,
        data,
        dynamics,
        graphs,
        kernels,
        links,
        losses,
        methods,
        networks,
        records,
        theory,
        validation,
    )
    from ntkdyn.dynamics import predict, step_size_limit
    from ntkdyn.methods import of_limit
    from ntkdyn.problems import KernelProblem, Problem
    from ntkdyn.saving import SaveOptions
    from ntkdyn.system import System
    from ntkdyn.validation import compare, train

__version__ = "0.2.0"

__all__ = [
    "InputError",
    "SaveOptions",
    "System",
    "KernelProblem",
    "Problem",
    "compare",
    "conformance",
    "data",
    "dynamics",
    "graphs",
    "kernels",
    "links",
    "losses",
    "methods",
    "networks",
    "of_limit",
    "predict",
    "records",
    "step_size_limit",
    "theory",
    "train",
    "validation",
]

HOME = {
    "SaveOptions": "saving",
    "System": "system",
    "KernelProblem": "problems",
    "Problem": "problems",
    "compare": "validation",
    "of_limit": "methods",
    "predict": "dynamics",
    "step_size_limit": "dynamics",
    "train": "validation",
}
"""public name -> the module that has it; all are imported when they are first asked for"""

__getattr__, __dir__ = on_demand(__name__, __all__, HOME)
