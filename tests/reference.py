"""Slow obvious truths, written without the package.

`message_passing` is decentralized training of the linearized network as one would explain it on a
blackboard: every agent is a Python object with its own vector, reads the messages of those it
hears from one by one, and loops over its own points. It shares no line with the package.
"""

from __future__ import annotations

import numpy as np

SLOPES = {
    "mse": lambda f, y: f - y,
    "huber": lambda f, y: np.clip(f - y, -1, 1),
    "cross_entropy": lambda f, y: np.exp(f) / np.exp(f).sum() - y,
    "logistic": lambda f, y: 1 / (1 + np.exp(-f)) - y,
}
"""dl/df of the outputs of one point"""


class Agent:
    """One agent of a linearized network: f(x_a) = f0[a] + J[a] d."""

    def __init__(self, number, jacobian, initial, targets, loss):
        self.number = number
        self.jacobian, self.initial, self.targets = jacobian, initial, targets
        self.loss = loss
        self.points, self.heard, self.round = [], {}, 0
        self.d = np.zeros(jacobian.shape[2])
        self.memory = {}

    def gradient(self, at):
        """Gradient of the mean loss over the points that this agent uses in this round."""
        total = np.zeros_like(at)
        for a in self.points:
            f = self.initial[a] + self.jacobian[a] @ at
            total += self.jacobian[a].T @ SLOPES[self.loss](f, self.targets[a]) / len(self.points)
        return total

    def combine(self, messages):
        """The weighted sum of what was heard, one message at a time."""
        total = 0.0
        for sender, weight in self.heard.items():
            total = total + weight * messages[sender]
        return total

    def recall(self, name):
        """What was remembered under this name, zero at first."""
        return self.memory.get(name, np.zeros_like(self.d))


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


def heavy_ball(agents, eta, beta=0.9):
    sent = []
    for agent in agents:
        agent.memory["m"] = beta * agent.recall("m") + agent.gradient(agent.d)
        sent.append(agent.d - eta * agent.memory["m"])
    for agent in agents:
        agent.d = agent.combine(sent)


def nesterov(agents, eta, beta=0.9):
    sent = []
    for agent in agents:
        g = agent.gradient(agent.d)
        agent.memory["m"] = beta * agent.recall("m") + g
        sent.append(agent.d - eta * g - eta * beta * agent.memory["m"])
    for agent in agents:
        agent.d = agent.combine(sent)


def _track(agents):
    """y^0 = g^0, then y^k = W y^(k-1) + g^k - g^(k-1)."""
    sent = [agent.recall("y") for agent in agents]
    for agent in agents:
        g = agent.gradient(agent.d)
        if agent.round == 0:
            agent.memory["y"] = g
        else:
            agent.memory["y"] = agent.combine(sent) + g - agent.memory["g"]
        agent.memory["g"] = g


def diging(agents, eta):
    _track(agents)
    sent = [agent.d for agent in agents]
    for agent in agents:
        agent.d = agent.combine(sent) - eta * agent.memory["y"]


def atc_tracking(agents, eta):
    _track(agents)
    sent = [agent.d - eta * agent.memory["y"] for agent in agents]
    for agent in agents:
        agent.d = agent.combine(sent)


def aug_dgm(agents, eta):
    sent = []
    for agent in agents:
        g = agent.gradient(agent.d)
        sent.append(g if agent.round == 0 else agent.memory["y"] + g - agent.memory["g"])
        agent.memory["g"] = g
    for agent in agents:
        agent.memory["y"] = agent.combine(sent)
    sent = [agent.d - eta * agent.memory["y"] for agent in agents]
    for agent in agents:
        agent.d = agent.combine(sent)


def extra(agents, eta):
    """x^(k+2) = (I + W) x^(k+1) - (I + W)/2 x^k - eta (g^(k+1) - g^k)."""
    now = [agent.d for agent in agents]
    before = [agent.recall("x") for agent in agents]
    for agent, x, old in zip(agents, now, before, strict=True):
        g = agent.gradient(x)
        if agent.round == 0:
            agent.d = agent.combine(now) - eta * g
        else:
            half = (old + agent.combine(before)) / 2
            agent.d = x + agent.combine(now) - half - eta * (g - agent.memory["g"])
        agent.memory.update(x=x, g=g)


def exact_diffusion(agents, eta):
    """psi = x - eta g, phi = psi + x - psi_before, x = (phi + W phi) / 2."""
    corrected = []
    for agent in agents:
        psi = agent.d - eta * agent.gradient(agent.d)
        old = agent.d if agent.round == 0 else agent.memory["psi"]
        corrected.append(psi + agent.d - old)
        agent.memory["psi"] = psi
    for agent in agents:
        agent.d = (corrected[agent.number] + agent.combine(corrected)) / 2


def d2(agents, eta, share=1.0):
    """x^1 = V (x^0 - eta g^0), x^(k+1) = V (2 x^k - x^(k-1) - eta (g^k - g^(k-1)))."""
    sent = []
    for agent in agents:
        g = agent.gradient(agent.d)
        if agent.round == 0:
            sent.append(agent.d - eta * g)
        else:
            sent.append(2 * agent.d - agent.memory["x"] - eta * (g - agent.memory["g"]))
        agent.memory.update(x=agent.d, g=g)
    for agent in agents:
        agent.d = (1 - share) * sent[agent.number] + share * agent.combine(sent)


def nids(agents, eta):
    d2(agents, eta, share=0.5)


def gut(agents, eta, mu=0.9):
    """y^k = g^k - G^k / eta + mu (W y^(k-1) - g^(k-1)), the gradient at the gossiped point."""
    sent = [agent.d for agent in agents]
    trackers = [agent.recall("y") for agent in agents]
    for agent in agents:
        average = agent.combine(sent)
        g = agent.gradient(average)
        y = g - (average - agent.d) / eta
        y = y + mu * (agent.combine(trackers) - agent.recall("g"))
        agent.d = agent.d - eta * y
        agent.memory.update(y=y, g=g)


def qg_gutm(agents, eta, mu=0.06, beta=0.9):
    now = [agent.d for agent in agents]
    moved = [agent.recall("x") - agent.d if agent.round else 0 * agent.d for agent in agents]
    for agent in agents:
        G = agent.combine(now) - agent.d
        delta = agent.gradient(agent.d + G) - G / eta
        old = agent.combine(moved) / eta - (1 + beta) / eta * agent.recall("G")
        y = delta + mu * (old - agent.recall("delta"))
        m = beta * agent.recall("m") + y
        agent.memory.update(x=agent.d, G=G, delta=delta, m=m)
        agent.d = agent.d - eta * m


def qg_dsgdm(agents, eta, beta=0.9, mu=0.1, nesterov=False):
    sent = []
    for agent in agents:
        g = agent.gradient(agent.d)
        local = beta * agent.recall("m") + g
        sent.append(agent.d - eta * (g + beta * local if nesterov else local))
    for agent in agents:
        old, agent.d = agent.d, agent.combine(sent)
        agent.memory["m"] = (1 - mu) * agent.recall("m") + mu * (old - agent.d) / eta


def qg_dsgdm_n(agents, eta):
    qg_dsgdm(agents, eta, nesterov=True)


def local_sgd(agents, eta, tau=4):
    sent = [agent.d - eta * agent.gradient(agent.d) for agent in agents]
    for agent in agents:
        due = agent.round % tau == tau - 1
        agent.d = agent.combine(sent) if due else sent[agent.number]


def push_sum(agents, eta):
    """Numerators and masses are pushed alike; a gradient is taken at their ratio."""
    sent, masses = [], []
    for agent in agents:
        if agent.round == 0:
            agent.memory.update(numerator=agent.d, mass=1.0)
        sent.append(agent.memory["numerator"] - eta * agent.gradient(agent.d))
        masses.append(agent.memory["mass"])
    for agent in agents:
        agent.memory.update(numerator=agent.combine(sent), mass=agent.combine(masses))
        agent.d = agent.memory["numerator"] / agent.memory["mass"]


def drt(agents, eta, origin, layers, variant="squared", kappa=1e-8, cap=10.0, symmetric=False):
    """Weights from relative trust, product by product and norm by norm; layers are index lists."""
    psi = [agent.d - eta * agent.gradient(agent.d) for agent in agents]
    theta = [origin + each for each in psi]
    A = np.zeros((len(layers), len(agents), len(agents)))
    for k, agent in enumerate(agents):
        for p, layer in enumerate(layers):
            trust = {}
            for j in sorted({*agent.heard, k}):
                product = 1.0
                for part in layers:
                    gap = np.linalg.norm(theta[k][part] - theta[j][part])
                    norm = np.linalg.norm(theta[j][part])
                    r = gap / norm if variant == "unsquared" else gap**2 / (norm**2 + kappa)
                    product *= 1 + r
                gap = np.linalg.norm(theta[k][layer] - theta[j][layer])
                norm = np.linalg.norm(theta[j][layer])
                if variant == "unsquared":
                    trust[j] = product / (gap * (norm + gap) + kappa)
                else:
                    trust[j] = product / (norm**2 + gap**2 + kappa)
            mean = np.prod(list(trust.values())) ** (1 / len(trust))
            trust = {j: min(max(c / mean, 1 / cap), cap) for j, c in trust.items()}
            for j, c in trust.items():
                A[p, k, j] = c / sum(trust.values())
    if symmetric:
        A = np.stack([_metropolis_like(each) for each in A])
    for k, agent in enumerate(agents):
        for p, part in enumerate(layers):
            agent.d[part] = sum(A[p, k, j] * psi[j][part] for j in range(len(agents)))


def _metropolis_like(A):
    S = (A + A.T) / 2
    out = np.zeros_like(S)
    for k in range(len(S)):
        for j in range(len(S)):
            if j != k:
                out[k, j] = S[k, j] / max(S[k].sum(), S[j].sum())
        out[k, k] = 1 - out[k].sum()
    return out


def ccl(agents, eta, classes, beta=0.9, lambda_m=0.1, lambda_d=0.1):
    """Combine, then adapt; what neighbours' parameters make of my points, and mine of theirs."""
    sent = [agent.d.copy() for agent in agents]
    mixed = [agent.combine(sent) for agent in agents]
    see = lambda agent, a, d: agent.initial[a] + agent.jacobian[a] @ d
    for i, agent in enumerate(agents):
        others = [j for j in agent.heard if j != i]
        sums, counts = {}, {}
        for j, model in [(i, mixed[i]), *((j, sent[i]) for j in others)]:
            for a in agents[j].points:
                c = agent.targets[a].argmax()
                sums[c] = sums.get(c, 0) + see(agent, a, model)[classes:]
                counts[c] = counts.get(c, 0) + 1
        g = np.zeros_like(agent.d)
        for a in agent.points:
            f = see(agent, a, mixed[i])
            z, features = f[classes:], len(f) - classes
            c = agent.targets[a].argmax()
            slope = np.zeros_like(f)
            slope[:classes] = f[:classes] - agent.targets[a]
            for j in others:
                slope[classes:] += 2 * lambda_m * (z - see(agent, a, sent[j])[classes:]) / features
            slope[classes:] += 2 * lambda_d * (z - sums[c] / counts[c]) / features
            g += agent.jacobian[a].T @ slope / len(agent.points)
        m = agent.recall("m") - (mixed[i] - sent[i]) / eta
        agent.memory["m"] = beta * m + g
        agent.d = mixed[i] - eta * (g + beta * agent.memory["m"])


def mhd(agents, eta, classes, aux, public, teachers, pool, every, nu_emb=1.0, nu_aux=3.0):
    """`public(t)` are the public points of round t, `teachers(t)` pairs (checkpoint, authors)."""
    softmax = lambda f: np.exp(f - f.max()) / np.exp(f - f.max()).sum()
    t, cut = agents[0].round, classes * (1 + aux)
    if t == 0:
        for agent in agents:
            agent.memory["pool"] = [agent.d.copy() for _ in range(pool)]
    see = lambda agent, a, d: agent.initial[a] + agent.jacobian[a] @ d
    moved = []
    for i, agent in enumerate(agents):
        g = np.zeros_like(agent.d)
        for a in agent.points:
            slope = np.zeros(agent.initial.shape[1])
            slope[:classes] = see(agent, a, agent.d)[:classes] - agent.targets[a]
            g += agent.jacobian[a].T @ slope / len(agent.points)
        for a in public(t):
            f = see(agent, a, agent.d)
            said = [see(agent, a, agents[by[i]].memory["pool"][e]) for e, by in teachers(t)]
            slope = np.zeros_like(f)
            length = np.linalg.norm(f[cut:])
            u = f[cut:] / length
            for other in said:
                v = other[cut:] / np.linalg.norm(other[cut:])
                slope[cut:] += nu_emb * 2 * (u - v - u * (u @ (u - v))) / length
            for head in range(1, aux + 1):
                old = slice((head - 1) * classes, head * classes)
                new = slice(head * classes, (head + 1) * classes)
                target = max((softmax(other[old]) for other in said), key=max)
                slope[new] = nu_aux * (softmax(f[new]) - target)
            g += agent.jacobian[a].T @ slope / len(public(t))
        moved.append(agent.d - eta * g)
    for agent, d in zip(agents, moved, strict=True):
        agent.d = d
        if (t + 1) % every == 0:
            agent.memory["pool"][((t + 1) // every - 1) % pool] = d.copy()


ROUNDS = {
    rule.__name__: rule
    for rule in (
        dgd, cta, atc, heavy_ball, nesterov, diging, atc_tracking, aug_dgm, extra,
        exact_diffusion, d2, nids, gut, qg_gutm, qg_dsgdm, qg_dsgdm_n, local_sgd, push_sum,
        drt, ccl, mhd,
    )
}  # fmt: skip


def message_passing(
    method, jacobian, initial, targets, owner, W, loss, eta, rounds, batches=None, **settings
):
    """Displacements (rounds + 1, agents, parameters) of all agents.

    `W` is one matrix or a list of them, gone through again and again. `batches(t)` gives every
    agent's points in round t; all its own if left out. `settings` go to the method's round.
    """
    many = np.asarray(W) if np.ndim(W) == 3 else np.asarray(W)[None]
    everything = [np.flatnonzero(owner == i) for i in range(many.shape[1])]
    agents = [Agent(i, jacobian, initial, targets, loss) for i in range(many.shape[1])]
    seen = [np.stack([agent.d for agent in agents])]
    for t in range(rounds):
        points = everything if batches is None else batches(t)
        for agent in agents:
            agent.round, agent.points = t, points[agent.number]
            weights = many[t % len(many)][agent.number]
            agent.heard = {j: w for j, w in enumerate(weights) if w != 0}
        ROUNDS[method](agents, eta, **settings)
        seen.append(np.stack([agent.d for agent in agents]))
    return np.stack(seen)


def outputs(jacobian, initial, displacements):
    """f0 + J d for a stack of displacements (..., parameters): (..., points, outputs)."""
    return initial + np.einsum("nkp,...p->...nk", jacobian, displacements)
