"""The case that implementations are run on: five agents, least squares, weights that tell mistakes.

Agent i has n_i points (a, y), n_i all different, and the loss

    L_i(x) = sum_a (a . x - y)^2 / (2 n_i),      g_i(x) = sum_a a (a . x - y) / n_i

Starts differ from agent to agent, so that mixing shows from the first round on, and W is not
symmetric wherever the method allows it, so that its transpose shows as well.
"""

from __future__ import annotations

import functools
import inspect
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

import networkx as nx
import numpy as np
from jaxtyping import Float

from ntkdyn import graphs, methods
from ntkdyn.errors import InputError, unknown
from ntkdyn.methods import Method

COUNTS = (2, 3, 4, 5, 6)
"""points of the agents"""
PARAMETERS, ROUNDS, STEP_SIZE = 3, 12, 0.1
AGENTS = len(COUNTS)

METHODS = (
    "dgd", "cta", "atc", "heavy_ball", "nesterov", "diging", "atc_tracking", "aug_dgm", "extra",
    "exact_diffusion", "d2", "nids", "gut", "qg_gutm", "qg_dsgdm", "qg_dsgdm_n", "local_sgd",
    "push_sum",
)  # fmt: skip
"""methods whose agents need no more than their gradients and W; those that look at one another's
networks (drt, dimat, ccl, mhd) have no case"""


@dataclass(frozen=True, eq=False)
class Case:
    """What an implementation is run on, and what must come out.

    f_i(x) = |A_i x - b_i|^2 / (2 n_i): A_i (n_i, parameters) are the points of agent i, b_i its
    targets.

    Example:
        >>> case = nd.conformance.case("dgd")
        >>> x = case.start
        >>> pulled = np.array([case.gradient(i, x[i]) for i in range(len(x))])
        >>> bool(np.allclose(case.weights @ x - case.step_size * pulled, case.iterates[1]))
        True
    """

    method: str
    settings: dict[str, Any]
    """of the method, beside its step size"""
    step_size: float
    weights: Float[np.ndarray, "agents agents"]
    """W: agent i weighs what it hears from agent j by W[i, j]"""
    points: tuple[Float[np.ndarray, "_ parameters"], ...]
    """of every agent"""
    targets: tuple[Float[np.ndarray, " _"], ...]
    start: Float[np.ndarray, "agents parameters"]
    """x_i in round 0"""
    rounds: int

    def gradient(
        self, agent: int, x: Float[np.ndarray, " parameters"]
    ) -> Float[np.ndarray, " parameters"]:
        """g_i(x) = A_i' (A_i x - b_i) / n_i.

        Args:
            agent: i.
            x: (parameters,).

        Returns:
            (parameters,).
        """
        points, targets = self.points[agent], self.targets[agent]
        return points.T @ (points @ x - targets) / len(targets)

    @functools.cached_property
    def iterates(self) -> Float[np.ndarray, "rounds agents parameters"]:
        """The golden ones: of rounds 0 to `rounds`."""
        return np.array(_golden()[self.method])

    @property
    def built(self) -> Method:
        """The method with its step size and settings."""
        return methods.METHODS[self.method](step_size=self.step_size, **self.settings)


def case(method: str) -> Case:
    """The case of a method: five agents, their points and gradients, W, step size, start, iterates.

    Args:
        method: its name.

    Returns:
        A `Case`; `weights` (agents, agents), `start` (agents, parameters), `iterates` (rounds + 1,
        agents, parameters).

    Raises:
        InputError: for a name that is none, or of a method that needs networks.

    Example:
        >>> case = nd.conformance.case("dgd")
        >>> case.weights.shape, case.start.shape, case.iterates.shape
        ((5, 5), (5, 3), (13, 5, 3))
    """
    if not isinstance(method, str) or method not in methods.METHODS:
        raise unknown("method", method, METHODS)
    if method not in METHODS:
        raise InputError(
            f"method: agents of {method} look at one another's networks, so that gradients and "
            f"weights alone are no case of it"
        )
    rng = np.random.default_rng(20)
    drawn = lambda *shape: np.round(rng.standard_normal(shape), 2)
    points = tuple(drawn(n, PARAMETERS) for n in COUNTS)
    targets, start = tuple(drawn(n) for n in COUNTS), drawn(AGENTS, PARAMETERS)
    signature = inspect.signature(methods.METHODS[method]).parameters
    settings = {name: each.default for name, each in signature.items() if name != "step_size"}
    matrix = weights_for(methods.METHODS[method](step_size=STEP_SIZE))
    return Case(method, settings, STEP_SIZE, matrix, points, targets, start, ROUNDS)


def weights_for(method: Method) -> Float[np.ndarray, "agents agents"]:
    """Doubly stochastic and directed; or symmetric, or column-stochastic, if it must be."""
    rotated = lambda by: np.roll(np.eye(AGENTS), by, axis=1)
    directed = 0.4 * np.eye(AGENTS) + 0.3 * rotated(1) + 0.2 * rotated(2) + 0.1 * rotated(1).T
    mutual = graphs.metropolis(graphs.from_edges([(0, 1), (1, 2), (2, 3), (3, 4), (0, 3)]))
    links = nx.DiGraph([(0, 1), (1, 2), (2, 3), (3, 4), (4, 0), (0, 2), (0, 3)])
    if method.needs.columns:
        return graphs.push(links).matrix
    return (graphs.lazy(mutual) if method.needs.symmetric else graphs.mixing(directed)).matrix


@functools.cache
def _golden() -> dict[str, list]:
    """Method -> iterates, as they are in `golden.json`."""
    path = resources.files("ntkdyn.conformance") / "golden.json"
    return json.loads(path.read_text())


def exported(method: str) -> dict[str, Any]:
    """The case and its iterates as plain lists and numbers, for JSON and other languages.

    Args:
        method: its name.

    Returns:
        Field of the `Case` -> nested lists, numbers or text.

    Raises:
        InputError: as for `case`.

    Example:
        >>> sorted(nd.conformance.exported("atc"))[:4]
        ['iterates', 'method', 'points', 'rounds']
    """
    one = case(method)
    return {
        "method": one.method,
        "settings": one.settings,
        "step_size": one.step_size,
        "weights": one.weights.tolist(),
        "points": [each.tolist() for each in one.points],
        "targets": [each.tolist() for each in one.targets],
        "start": one.start.tolist(),
        "rounds": one.rounds,
        "iterates": one.iterates.tolist(),
    }
