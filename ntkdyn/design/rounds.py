"""Affine rounds of many systems with one kernel and the same owners, by matrix products alone.

With the squared error and all points in each round, a method's round on a kernel is

    z <- P z + Q u,    u_a = (e_a + sum_b K_ab (R z)_{o(a), b}) / n_o(a)

on the open loop of method and graph (`dynamics.loops`), a being a training point, or a point and an
output where outputs couple. Coordinates stand here in the order of their owners, so that the
gradients of one agent, in all systems, are one product with its rows of K. Rounds are reached by

    steps        t of them; those in a row in which no agent hears another (`Local`) are one:
                 agents' own kernels are diagonal in their modes
    chebyshev    about sqrt(t log(1/tolerance)) of them for all recorded rounds together, where the
                 spectrum is real and known to be within [low, 1]

and a system's losses and accuracies are taken where it is recorded; states are kept of none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import scipy.fft
from jaxtyping import Float, Int

from ntkdyn.dynamics.contours import geometric_sum
from ntkdyn.dynamics.loops import Loop
from ntkdyn.system import System

States = Float[np.ndarray, "..."]
"""(states, systems, sides, coordinates)"""
TOLERANCE = {"float64": 1e-10, "float32": 1e-7}
"""of a polynomial, relative to theta_t - theta_0: what the products in that dtype leave anyway"""

BLOCK = 16
"""polynomials that are held at once: enough for a fast product, few enough for a cache"""

COLUMNS = 2**14
"""of a sum of polynomials that are added at once"""

Measured = dict[str, Float[np.ndarray, "rounds agents"]]


class Common:
    """What systems with one kernel and the same owners have in common, in the dtype given."""

    def __init__(self, system: System, dtype: str = "float64") -> None:
        task, whole = system.task, system.matrix.whole
        order = np.argsort(task.owner, kind="stable")
        seen = np.concatenate([order, np.arange(task.basis, len(task.targets))])
        self.agents, self.trained, self.dtype = task.agents, task.train, np.dtype(dtype)
        self._modes: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.labels = None if task.labels is None else task.labels[seen]
        self.initial = np.asarray(system.problem.initial, np.float64)[seen].T
        self.targets = np.asarray(task.targets)[seen].T
        self.points = _parts(task.counts)
        self._cut(whole[seen][:, order] if whole.ndim == 2 else whole[seen][:, :, order])

    def _cut(self, kernel: Float[np.ndarray, "points train"] | np.ndarray) -> None:
        """The kernel, to what is read out and by owner, and e / n."""
        train, each = self.trained, 1 if kernel.ndim == 2 else kernel.shape[1]
        counts = np.array([part.stop - part.start for part in self.points])
        self.own, shares = _parts(counts * each), np.repeat(counts, counts)
        between = kernel[:train].reshape(train * each, train * each)
        pulls = [(between[own] / n).T for own, n in zip(self.own, counts, strict=True)]
        self.reach = max(
            float(np.linalg.eigvalsh(pull[own])[-1])
            for pull, own in zip(pulls, self.own, strict=True)
        )
        drive = (self.initial - self.targets)[:, :train] / shares
        readout = kernel.T if each == 1 else kernel.transpose(2, 3, 1, 0)
        cast = lambda values: np.ascontiguousarray(values, self.dtype)
        self.pulls, self.readout = [*map(cast, pulls)], cast(readout.reshape(train * each, -1))
        self.drive = cast(drive if each == 1 else drive.T.reshape(1, -1))
        self.initial, self.targets = cast(self.initial), cast(self.targets)

    def modes(self, agent: int) -> tuple[Float[np.ndarray, " own"], Float[np.ndarray, "own own"]]:
        """Eigenvalues and eigenvectors of the agent's own kernel, over n_i."""
        if agent not in self._modes:
            own = self.pulls[agent][self.own[agent]].astype(float)
            # In single precision a kernel is not quite symmetric.
            self._modes[agent] = np.linalg.eigh((own + own.T) / 2)
        return self._modes[agent]

    def measured(self, x: States) -> dict[str, Float[np.ndarray, "agents systems"]]:
        """Losses and accuracies of iterates, as `measures.measure` has them."""
        moved = x.reshape(-1, len(self.readout)) @ self.readout
        outputs = moved.reshape(*x.shape[:2], *self.targets.shape)
        outputs += self.initial
        right = {} if self.labels is None else self._means(_right(outputs, self.labels), "accuracy")
        right.pop("global_accuracy", None)
        outputs -= self.targets
        return self._means(np.einsum("asop,asop->asp", outputs, outputs) / 2, "loss") | right

    def _means(
        self, values: Float[np.ndarray, "agents systems points"], what: str
    ) -> dict[str, Float[np.ndarray, "agents systems"]]:
        """Over an agent's own points, over the means of all agents, and over the test points."""
        by_owner = np.stack([values[:, :, part].mean(axis=-1) for part in self.points])
        own = by_owner[np.arange(self.agents), np.arange(self.agents)]
        found = {f"train_{what}": own, f"global_{what}": by_owner.mean(axis=0)}
        if values.shape[-1] > self.trained:
            found[f"test_{what}"] = values[:, :, self.trained :].mean(axis=-1)
        return found


def _parts(sizes: Int[np.ndarray, " parts"]) -> list[slice]:
    """Slices of these sizes, one after another."""
    ends = np.cumsum(sizes)
    return [slice(int(end - size), int(end)) for end, size in zip(ends, sizes, strict=True)]


def _right(
    outputs: Float[np.ndarray, "agents systems outputs points"], labels: np.ndarray
) -> Float[np.ndarray, "agents systems points"]:
    """1 where the first of the largest outputs is the label's, 0 where not, NaN for no numbers."""
    most = outputs.max(axis=2)
    if outputs.shape[2] == 1:
        right = (most > 0) == labels
    else:
        right = outputs[:, :, labels, np.arange(len(labels))] == most
        largest = outputs == most[:, :, None]
        if np.count_nonzero(largest) != most.size:
            alike = np.nonzero(largest.sum(axis=2) > 1)
            first = outputs[alike[0], alike[1], :, alike[2]].argmax(axis=1)
            right[alike] = first == labels[alike[2]]
    return np.where(np.isnan(most), np.nan, right)


def taken(
    common: Common, loops: Sequence[tuple[Loop, ...]], low: float | None, rounds: Sequence[int]
) -> list[Measured]:
    """Of every system, what is measured in these rounds; `low` says where spectra begin."""
    return Together(common, loops).seen(rounds, low)


class Together:
    """Systems with the same `Common` and states alike, taken through their rounds together."""

    def __init__(self, common: Common, loops: Sequence[tuple[Loop, ...]]) -> None:
        self.common, self.systems = common, len(loops)
        cast = lambda *each: np.stack(each).astype(common.dtype)
        self.loops = [Loop(*map(cast, *each)) for each in zip(*loops, strict=True)]
        self._alone = [_is_identity(each.R) for each in self.loops]
        self._moved = [_rows(each.Q) for each in self.loops]
        self._local = [_is_local(each) for each in self.loops]

    def seen(self, rounds: Sequence[int], low: float | None) -> list[Measured]:
        states = self._stepped(rounds) if low is None else self._reached(rounds, low)
        with np.errstate(over="ignore", invalid="ignore"):
            measured = [self.common.measured(self._iterate(z)) for z in states]
        tables = {name: np.stack([each[name] for each in measured]) for name in measured[0]}
        return [{name: each[:, :, k] for name, each in tables.items()} for k in range(self.systems)]

    def _iterate(self, z: States) -> States:
        X = self.loops[0].X
        return z if _is_identity(X) else mixed(X, z)

    def start(self) -> States:
        sides, coordinates = self.common.drive.shape
        states = self.loops[0].P.shape[1]
        return np.zeros((states, self.systems, sides, coordinates), self.common.dtype)

    def step(
        self, z: States, round: int = 0, drive: float = 1.0, out: States | None = None
    ) -> States:
        """A round, into `out`, the residuals at the start multiplied by `drive`."""
        at, common = round % len(self.loops), self.common
        loop, moved = self.loops[at], self._moved[at]
        felt, after = z if self._alone[at] else mixed(loop.R, z), mixed(loop.P, z, out)
        for agent, (own, pull) in enumerate(zip(common.own, common.pulls, strict=True)):
            u = (felt[agent].reshape(-1, len(pull)) @ pull).reshape(*z.shape[1:3], -1)
            if drive:
                u += drive * common.drive[:, own]
            into = loop.Q[:, moved[agent], agent].T
            after[moved[agent], :, :, own] += into[:, :, None, None] * u
        return after

    def _stepped(self, rounds: Sequence[int]) -> Iterator[States]:
        z, spare, done = self.start(), self.start(), 0
        for wanted in rounds:
            while done < wanted:
                if count := self._by_themselves(done, wanted):
                    self._descend(z, done, count)
                else:
                    z, spare = self.step(z, done, out=spare), z
                done += count or 1
            yield z

    def _by_themselves(self, first: int, end: int) -> int:
        """How many rounds from the first on are the same one, in which no agent hears another.

        0 for one alone: a step takes it as well.
        """
        loop, count = self._of_round(first), 0
        if not self._local[first % len(self.loops)]:
            return 0
        while first + count < end and self._alike(loop, first + count):
            count += 1
        # A decomposition is for more than one.
        return count if count > 1 else 0

    def _alike(self, loop: Loop, round: int) -> bool:
        other = self._of_round(round)
        return other is loop or (
            self._local[round % len(self.loops)] and np.array_equal(loop.Q, other.Q)
        )

    def _of_round(self, round: int) -> Loop:
        return self.loops[round % len(self.loops)]

    def _descend(self, z: States, round: int, count: int) -> None:
        """So many local rounds of each agent, in place: z += q sum_{s<count} (1 + q M)^s u(z).

        M is the agent's own kernel over n_i, q what a gradient moves.
        """
        common, moves = self.common, np.einsum("saa->as", self._of_round(round).Q)
        for agent, (own, pull) in enumerate(zip(common.own, common.pulls, strict=True)):
            values, vectors = common.modes(agent)
            q = moves[agent].astype(float)[:, None]
            gains = (q * geometric_sum(-q * values, count))[:, None].astype(z.dtype)
            u = (z[agent].reshape(-1, len(pull)) @ pull).reshape(*z.shape[1:3], -1)
            basis = vectors.astype(z.dtype)
            z[agent, :, :, own] += ((u + common.drive[:, own]) @ basis * gains) @ basis.T

    def _reached(self, rounds: Sequence[int], low: float) -> Sequence[States]:
        """z_t = sum_k a_k(t) T_k(B) b with B = (2 A - 1 - low) / (1 - low), blocks of k at once."""
        coefficients = sums(rounds, low, TOLERANCE[self.common.dtype.name])
        degrees = (coefficients != 0).sum(axis=1)
        drive, twice = self.step(self.start()), self._scaled(low)
        reached = np.zeros((len(rounds), drive.size), self.common.dtype)
        held = np.empty((BLOCK + 2, *drive.shape), self.common.dtype)
        held[BLOCK + 1] = drive
        for first in range(0, coefficients.shape[1], BLOCK):
            block = coefficients[:, first : first + BLOCK].astype(held.dtype)
            count = block.shape[1]
            held[:2] = held[BLOCK:]
            for k in range(2, count + 2):
                twice.step(held[k - 1], drive=0.0, out=held[k])
                # T_1 = B T_0, not 2 B T_0 less the one before.
                held[k] -= held[k - 2] if first + k > 2 else held[k] / 2
            still = int(np.searchsorted(degrees, first, side="right"))
            _add_product(reached[still:], block[still:], held[1 : count + 1].reshape(count, -1))
        return [*reached.reshape(-1, *drive.shape)]

    def _scaled(self, low: float) -> Together:
        """The same with 2 B in place of A."""
        (P, Q, R, X), half = self.loops[0], (1 - low) / 4
        scaled = [
            (Loop((p - (1 + low) / 2 * np.eye(len(p))) / half, q / half, r, x),)
            for p, q, r, x in zip(P.astype(float), Q, R, X, strict=True)
        ]
        return Together(self.common, scaled)


def _add_product(
    total: Float[np.ndarray, "rounds size"],
    weights: Float[np.ndarray, "rounds terms"],
    terms: Float[np.ndarray, "terms size"],
) -> None:
    """total += weights @ terms, some columns after others: products that fit in a cache.

    BLAS can add in place, but while SciPy calls it so, other threads of Python wait.
    """
    product = np.empty((len(total), COLUMNS), total.dtype)
    for first in range(0, total.shape[1], COLUMNS):
        part = total[:, first : first + COLUMNS]
        columns = terms[:, first : first + COLUMNS]
        part += np.matmul(weights, columns, out=product[:, : part.shape[1]])


def mixed(
    matrices: Float[np.ndarray, "systems after before"], z: States, out: States | None = None
) -> States:
    """Every system's matrix times its states, in `out`."""
    systems, after, _ = matrices.shape
    out = np.empty((after, *z.shape[1:]), z.dtype) if out is None else out
    flat = lambda each: each.reshape(len(each), systems, -1).transpose(1, 0, 2)
    np.matmul(matrices, flat(z), out=flat(out))
    return out


def sums(
    rounds: Sequence[int], low: float, tolerance: float
) -> Float[np.ndarray, "rounds degrees"]:
    """Chebyshev coefficients of sum_{s<t} lambda^s on [low, 1], zero where they are negligible.

    What is left out adds up to no more than the tolerance of 1/2, below which no sum is.
    """
    # Of degree t at most; terms die out from sqrt(2 t log(1/tolerance)) on, which is below.
    size = int(min(rounds[-1], 40 + 8 * rounds[-1] ** 0.5)) + 1
    # Twice as many nodes as terms: what is left out is not taken for lower terms.
    theta = np.pi * (np.arange(2 * size) + 0.5) / (2 * size)
    apart = (1 - low) * np.sin(theta / 2) ** 2
    values = np.stack([geometric_sum(apart, round) for round in rounds])
    found = scipy.fft.dct(values, axis=1)[:, :size] / (2 * size)
    # The cosine transform counts the constant twice.
    found[:, 0] /= 2
    left_out = np.cumsum(np.abs(found[:, ::-1]), axis=1)[:, ::-1]
    found[left_out <= tolerance / 2] = 0
    return found[:, : (found != 0).any(axis=0).sum()]


def lowest(common: Common, loop: Loop) -> float:
    """A number up to 0 that no eigenvalue of the rounds' map is below, where it is symmetrisable.

    A is similar to P (x) I - D^(1/2) H D^(1/2), D = -R Q >= 0 (`Loop.symmetrisable`) and H made of
    the agents' own kernels over n_i, so no eigenvalue is below lambda_min(P) less the product of
    the largest ones of D and H.
    """
    least, most = np.linalg.eigvalsh(loop.P)[0], np.linalg.eigvalsh(-loop.R @ loop.Q)[-1]
    return min(float(least - common.reach * most), 0.0)


def _is_identity(matrices: Float[np.ndarray, "systems agents states"]) -> bool:
    _, agents, states = matrices.shape
    return agents == states and bool((matrices == np.eye(agents)).all())


def _is_local(loops: Loop) -> bool:
    """Whether every agent moves its own iterate by its own gradients there, and hears no other."""
    alone = _is_identity(loops.P) and _is_identity(loops.R) and _is_identity(loops.X)
    return alone and bool((loops.Q * np.eye(loops.Q.shape[1]) == loops.Q).all())


def _rows(Q: Float[np.ndarray, "systems states agents"]) -> list[slice]:
    """Of every agent, the states that its gradients reach at once, and those in between."""
    reached = [np.flatnonzero(each) for each in (Q != 0).any(axis=0).T]
    return [slice(each[0], each[-1] + 1) if len(each) else slice(0) for each in reached]
