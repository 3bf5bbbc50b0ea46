"""Slow obvious truths, written without the package.

`message_passing` is decentralized training of the linearized network as one would explain it on a
blackboard: every agent is a Python object with its own vector, reads the messages of those it
hears from one by one, and loops over its own points. It shares no line with the package.
"""

from __future__ import annotations

import numpy as np


class Agent:
    """One agent of a linearized network: f(x_a) = f0[a] + J[a] d."""

    def __init__(self, number, jacobian, initial, targets, points, weights, loss):
        self.number = number
        self.jacobian, self.initial, self.targets = jacobian, initial, targets
        self.points = points
        self.heard = {j: w for j, w in enumerate(weights) if w != 0}
        self.loss = loss
        self.d = np.zeros(jacobian.shape[2])
        self.memory = {}

    def gradient(self, at):
        """Gradient of the mean loss over this agent's own points."""
        total = np.zeros_like(at)
        for a in self.points:
            f = self.initial[a] + self.jacobian[a] @ at
            if self.loss == "mse":
                slope = f - self.targets[a]
            else:
                odds = np.exp(f - f.max())
                slope = odds / odds.sum() - self.targets[a]
            for k in range(len(slope)):
                total += slope[k] * self.jacobian[a, k] / len(self.points)
        return total

    def combine(self, messages):
        """The weighted sum of what was heard, one message at a time."""
        total = np.zeros_like(self.d)
        for sender, weight in self.heard.items():
            total += weight * messages[sender]
        return total


def dgd(agents, eta):
    sent = [agent.d.copy() for agent in agents]
    for agent in agents:
        agent.d = agent.combine(sent) - eta * agent.gradient(sent[agent.number])


def cta(agents, eta):
    sent = [agent.d.copy() for agent in agents]
    for agent in agents:
        middle = agent.combine(sent)
        agent.d = middle - eta * agent.gradient(middle)


def atc(agents, eta):
    sent = [agent.d - eta * agent.gradient(agent.d) for agent in agents]
    for agent in agents:
        agent.d = agent.combine(sent)


ROUNDS = {"dgd": dgd, "cta": cta, "atc": atc}


def message_passing(method, jacobian, initial, targets, owner, W, loss, eta, rounds):
    """Displacements (rounds + 1, agents, parameters) of all agents."""
    agents = [
        Agent(i, jacobian, initial, targets, np.flatnonzero(owner == i), W[i], loss)
        for i in range(len(W))
    ]
    seen = [np.stack([agent.d for agent in agents])]
    for _ in range(rounds):
        ROUNDS[method](agents, eta)
        seen.append(np.stack([agent.d for agent in agents]))
    return np.stack(seen)


def outputs(jacobian, initial, displacements):
    """f0 + J d for a stack of displacements (..., parameters): (..., points, outputs)."""
    return initial + np.einsum("nkp,...p->...nk", jacobian, displacements)
