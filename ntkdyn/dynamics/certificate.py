"""Certificates: a proven bound of how far training can be from its prediction; nothing is trained.

**The paths.** Corrected predictions delta^0, delta^1, ... of the agents' theta_i - theta_0 begin
with the linear one. Each runs the method with its linear gradient g_lin and what that missed along
the path before, r^k(t) = g(theta_0 + delta^k(t)) - g_lin(delta^k(t)): for DGD, with r^{-1} = 0,

    delta^k(t+1) = W delta^k(t) - eta (g_lin(delta^k(t)) + r^{k-1}(t)).

Round t of path k needs round t of path k - 1 alone, so that all advance together, in the memory of
k + 1 iterates. Up to round k + 1, path k is training.

**The error of a path**, e = true - delta. Let F be the real round and s(t) = |delta(t+1) -
F(delta(t))|, norms over all agents' parameters; for DGD s(t) = eta |r^k(t) - r^{k-1}(t)|. Then

    F(delta + e) - F(delta) = (W - eta H) e,  H = diag_i of int_0^1 Hess L_i(delta_i + s e_i) ds,
    Hess L_i = J_i^T J_i / n_i + mean_x sum_o r_xo Hess f_o(x),      so H_i = A_i + B_i, A_i >= 0,

where L_i = mean_x |f(x) - y|^2 / 2 over the agent's n_i points, r_x = f(x) - y, and J_i is the
Jacobian of all of them and all outputs. Let |e(t)| <= b, and h_x at least the norm of the second
derivative of f(x) within b of delta_i(t) (`curvature`); then |sum_o u_o Hess f_o(x)| <= h_x for
unit u, and with h^2 = mean_x h_x^2

    |J_i(delta + s e)| <= |J_i| + s b sqrt(n_i) h,
    |f(x; delta + s e) - f(x; delta)| <= s |J_x e| + s^2 h_x b^2 / 2,

so that integration over s, and mean_x h_x |J_x e| <= h |J_i| b / sqrt(n_i) (Cauchy-Schwarz), give

    |A_i| <= a_i = |J_i|^2 / n_i + |J_i| h b / sqrt(n_i) + h^2 b^2 / 3,
    |B_i| <= c_i = q_i + |J_i| h b / (2 sqrt(n_i)) + h^2 b^2 / 6,

with q_i the bound of `curvature` for all points together, weighed by |r_x| / n_i: at most, and
often much less than, mean_x h_x |r_x|.

The eigenvalues of W - eta A, for symmetric W, are between lambda_min(W) - eta max a_i and
lambda_max(W) = 1. Where eta max a_i <= 1 + lambda_min(W) its norm is one; beyond, an error may grow
by the excess:

    b(t+1) = (max(1, eta max_i a_i - lambda_min(W)) + eta max_i c_i) b(t) + s(t),   b(0) = 0.

For any other W, W - eta A = (W - w I) + (w I - eta A) with w = min_i W_ii, of norm at most
|W - w I| + max(w, eta a - w); doubly stochastic weights have |W - w I| <= 1 - w. CTA,
F(x) = V - eta g(V) at V = W x, and ATC, F(x) = W (x - eta g(x)), have (I - eta H) W and
W (I - eta H), of norm at most |W| (max(1, eta a - 1) + eta c), for CTA with all of the above at V,
in the ball of |W| b. Doubly stochastic weights have |W| <= 1; others make b grow by |W| a round.

**Outputs**, all points together: |f_true - f(theta_0 + delta)| <= |J| b + |(h_x)_x| b^2 / 2.

**Rounding** is allowed for, not enclosed. s(t) is taken from the numbers that were computed, so the
path's own rounding is part of it. For that of the real round s(t) gets

    eps (4 |theta(t)| + N (|delta(t+1)| + eta (sum_i |J_i|^2 |r_i|^2 / n_i^2)^(1/2))),

eps that of float64, N the terms of the sums on the way (fan-ins, n_i, agents), r_i all residuals of
agent i; b gets a factor 1 + N eps a round, outputs eps (4 |J| |theta_i| + N |f|). What is bounded
is training in exact arithmetic: in float32 it rounds by more than this.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ntkdyn import losses, precision, sizes
from ntkdyn.dynamics.curvature import (
    Ball,
    Chain,
    Look,
    at_each_point,
    ball,
    chain,
    check_same,
    hessian_bound,
    jacobian_norm,
    look,
    weight_norms,
)
from ntkdyn.dynamics.stability import assess, known_step
from ntkdyn.engine import Iteration, Progress
from ntkdyn.errors import InputError, check_kind, check_whole
from ntkdyn.methods.objectives import Local
from ntkdyn.methods.updates import ATC, CTA, DGD, OfLimit, State
from ntkdyn.problems import Problem
from ntkdyn.progress import watched
from ntkdyn.quantities import described
from ntkdyn.records import Record
from ntkdyn.runs import Plan, check, iteration_of, looking, plan, recorded
from ntkdyn.saving import SaveOptions, sample
from ntkdyn.system import System, question
from ntkdyn.vectors import ByAgent, Point, Vector

MOST = 64
"""sweeps: each takes as long as training, and few are of use"""

COPIES = 6
"""About how many vectors of all agents' parameters in float64 a path takes as it advances."""


@question()
@watched("bounding the error")
@precision.in_double
def certify(
    system: System,
    rounds: int | Sequence[int],
    *,
    corrections: int = 2,
    save: SaveOptions = SaveOptions(),
    progress: Progress | None = None,
) -> Record:
    """The prediction after so many corrections, and a proven bound of its distance from training.

    The record's `outputs` are those of the real networks at the predicted parameters, as after any
    corrected prediction. Beside them, norms over all points and outputs together,

        certified_error (round, agent)       at least |f_true,i - outputs_i|
        certified_share (round, agent)       that over |outputs_i - f(theta_0)|; 0 at the start
        certified_by_sweep (round, sweep, agent)    certified_error after 0, 1, ... corrections
        certified_parameters (round, sweep)  b(t), at least the norm of all agents' errors together
        linear_error (round, agent)          |f_lin,i - outputs_i|, where f_lin is what `predict`
                                             says: |f_true,i - f_lin,i| is that, within the bound

    A bound that has blown up is infinite; the attribute `uncertified_round` is the first recorded
    round with one.

    For an `mlp` with a smooth activation (erf, gelu, sigmoid, sin), the squared error, all points
    in each round, and DGD, CTA or ATC on one W or several in turn, periodic or damped. A round
    takes a few rounds of training for the prediction and for each correction.

    Args:
        system: or problem, method, weights in its place.
        rounds: how many, or which are recorded, ascending.
        corrections: how many sweeps.
        save: what the record holds beside the bounds.
        progress: called with (rounds done, rounds in all).

    Returns:
        The record of a corrected prediction with the variables above, errors in units of outputs.

    Raises:
        InputError: for another network, loss, method or space than above.

    Example:
        >>> proven = nd.dynamics.certify(prob, dgd, W, rounds=2, corrections=0)
        >>> bool((proven["certified_error"][0] < 1e-9).all())
        True
    """
    corrections = check_whole("corrections:", corrections, 0, MOST)
    asked, problem = _provable(plan(system, rounds, save)), system.problem
    climb = climb_of(problem, asked, corrections + 1)
    kept = sample(asked.save, problem.origin, asked.task.agents)
    see = looking(asked, climb.network, kept, None, None)
    seen, bounds, at, done = [], [], climb.init(corrections + 1), 0
    for wanted in asked.rounds:
        at = jax.block_until_ready(_advance(climb, at, jnp.array(done), jnp.array(wanted)))
        done = wanted
        bounds.append(jax.device_get(_measure(climb, at)))
        snapshot, more = see(wanted, climb.real(at.path(-1)))
        seen.append(snapshot._asdict() | more)
        if progress:
            progress(done, asked.rounds[-1])
    record = recorded(asked, climb.network, seen, kept, problem.parameters_each)
    return _certified(record, bounds).assign_attrs(
        space="tangent", kernel="implicit", corrections=corrections
    )


def _provable(asked: Plan) -> Plan:
    """The plan, refused where there is no proof."""
    method, save = asked.method, asked.save
    check_provable(asked.system)
    if save.trust or save.kernel:
        raise InputError("save: trust and kernel are those of a linear prediction; use `predict`")
    if save.points is not None:
        raise InputError("save: what is certified is the error over all points; leave `points` out")
    if isinstance(method.step_size, OfLimit):
        return asked.by(assess(asked.system.settling).method)
    return asked.by(known_step(method))


def check_provable(system: System) -> None:
    """Refuse a system for which there is no proof, before anything is computed."""
    problem, method = system.problem, system.method
    check_kind("problem", problem, Problem, "a network with its data")
    none = "certify: no certificate exists"
    if len(problem.networks) > 1 or not problem.common_start:
        raise InputError(f"{none} where agents have networks or starts of their own")
    if problem.task.loss is not losses.mse:
        raise InputError(f"{none} for loss {problem.task.loss.name}; the proof is for mse")
    proven = type(method.update) in (DGD, CTA, ATC) and type(method.objective) is Local
    if not (proven and method.linear):
        raise InputError(f"{none} for {method.name}; the proof is for dgd, cta and atc")
    if not system.whole:
        raise InputError(f"{none} with minibatches; the proof is for all points in each round")
    chain(problem.network, problem.start)


def bounded(predicted: Record, proven: Record) -> Record:
    """Any prediction of a run, with a bound of its own from what `certify` says of that run.

    |f_true,i - f_i| <= |f_proven,i - f_i| + certified_error_i, norms over all points and outputs:
    whether it is linear around the start, linearized anew or corrected, and with whatever kernel.
    Both records have the same rounds. Adds `certified_error` and `certified_share` (round, agent),
    which mean the record's own outputs, and the attributes `certified_sweeps` and, where the bound
    has blown up, `uncertified_round`.
    """
    size = lambda values: np.sqrt((values**2).sum(("point", "output"), skipna=False))
    outputs = predicted["outputs"]
    apart = size(proven["outputs"].values - outputs)
    error = proven["certified_error"] + apart.where(np.isfinite(apart), np.inf)
    travelled = size(outputs - predicted["initial_outputs"])
    share = (error / travelled).where(travelled != 0, 0.0)
    found = predicted.assign(certified_error=error, certified_share=share.fillna(np.inf))
    sweeps = proven.attrs["corrections"]
    return described(_blown_noted(found).assign_attrs(certified_sweeps=sweeps))


def _check_room(problem: Problem, paths: int) -> None:
    sizes.check_room(
        f"certify: {paths} paths of all agents' parameters",
        8 * COPIES * paths * problem.task.agents * problem.parameters_each,
        "ask for fewer corrections, or a narrower network",
    )


def _terms(problem: Problem) -> int:
    """N, the terms of the sums of a round."""
    task = problem.task
    fans = [len(weight) for weight, _ in problem.start.values()]
    return sum(fans) + int(task.counts.max()) + task.agents


class Contraction(NamedTuple):
    """|W ...| of every round of a period: outer (max(top, eta a + beyond) + eta c)."""

    outer: Float[Array, " period"]
    top: Float[Array, " period"]
    beyond: Float[Array, " period"]
    ball: Float[Array, " period"]
    """how large the error is where gradients are taken, as a share of that before the round"""


def contraction(update: Any, matrix: Float[np.ndarray, "agents agents"]) -> tuple[float, ...]:
    """Of one round, as `Contraction` has it."""
    norm = float(np.linalg.norm(matrix, 2))
    if not isinstance(update, DGD):
        return norm, 1.0, -1.0, norm if isinstance(update, CTA) else 1.0
    skew = float(np.linalg.norm(matrix - matrix.T, 2)) / 2
    if skew < 1e-12:
        eigenvalues = np.linalg.eigvalsh((matrix + matrix.T) / 2)
        return 1.0, float(eigenvalues[-1]) + skew, skew - float(eigenvalues[0]), 1.0
    own = max(float(matrix.diagonal().min()), 0.0)
    rest = float(np.linalg.norm(matrix - own * np.eye(len(matrix)), 2))
    return 1.0, rest + own, rest - own, 1.0


def _contractions(iteration: Iteration) -> Contraction:
    unit = Vector(jnp.eye(iteration.space.agents))
    matrices = [np.asarray(iteration.mix(round)(unit).tree) for round in range(iteration.period)]
    found = [contraction(iteration.method.update, matrix) for matrix in matrices]
    return Contraction(*map(jnp.asarray, zip(*found, strict=True)))


class Along(NamedTuple):
    """What is measured where gradients are taken, agent by agent."""

    jacobian: Float[Array, " agents"]
    """|J_i|"""
    residuals: Float[Array, " agents"]
    """|r_i| of all its points together"""
    weighed: Float[Array, " agents"]
    """q_i"""
    curvature: Float[Array, "agents rows"]
    """h_x"""
    shares: Float[Array, "agents rows"]
    """1 / n_i, and zero where a row is none of the agent's"""


def growth(
    along: Along,
    radius: Float[Array, ""],
    step: Float[Array, ""],
    outer: Float[Array, ""],
    top: Float[Array, ""],
    beyond: Float[Array, ""],
) -> Float[Array, ""]:
    """By what factor an error of at most `radius` where gradients are taken can grow in a round."""
    slope = along.jacobian * jnp.sqrt(jnp.max(along.shares, axis=1))
    bend = radius * jnp.sqrt(jnp.sum(along.shares * along.curvature**2, axis=1))
    flat = slope**2 + slope * bend + bend**2 / 3
    curved = along.weighed + slope * bend / 2 + bend**2 / 6
    largest = jnp.maximum(top, step * jnp.max(flat) + beyond)
    return outer * (largest + step * jnp.max(curved))


class Paths(NamedTuple):
    """All paths in one round, stacked, and b of each."""

    paths: State
    bounds: Float[Array, " paths"]

    def path(self, path: int) -> Point:
        """The iterate of one path."""
        return self.paths.x.map(lambda leaf: leaf[path])


class Climb(eqx.Module):
    """All that a round of all paths and their bounds needs."""

    network: Iteration
    tangent: Iteration
    norms: Float[Array, " layers"]
    """|W_l| at the start"""
    contraction: Contraction
    chain: Chain = eqx.field(static=True)
    terms: int = eqx.field(static=True)

    @property
    def start(self) -> Point:
        """theta_0 of every agent."""
        return self.network.space.start()

    def real(self, x: Point) -> Point:
        """An iterate of the linear model, as parameters of the network."""
        return self.start + self.tangent.space.displacement(x)

    def init(self, paths: int) -> Paths:
        """Everybody at the start, without an error."""
        stacked = lambda leaf: jnp.zeros((paths, *leaf.shape), leaf.dtype)
        return Paths(jax.tree.map(stacked, self.tangent.init()), jnp.zeros(paths))

    def round(self, round: Int[Array, ""], at: Paths) -> Paths:
        """All paths after one more round, each forced by what the one before has missed."""
        update, mix = self.tangent.method.update, self.tangent.mix(round)
        bent, straight = self.network.gradient(round), self.tangent.gradient(round)

        def onward(missed: Vector, own: tuple) -> tuple[Vector, tuple]:
            path, bound = own
            here = _where_gradients_are_taken(update, path, mix)
            real, linear = bent(self.real(here)), straight(here)
            then = update.step(path, _always(linear + missed), mix)
            defect = _norm(then.x - update.step(path, _always(real), mix).x)
            return real - linear, (then, self._grown(round, bound, defect, here, then.x))

        start = self.tangent.space.start()
        nothing = start - start
        _, ahead = jax.lax.scan(onward, nothing, (at.paths, at.bounds))
        return Paths(*ahead)

    def _grown(
        self,
        round: Int[Array, ""],
        bound: Float[Array, ""],
        defect: Float[Array, ""],
        here: Point,
        then: Point,
    ) -> Float[Array, ""]:
        """b(t + 1)."""
        step = self.tangent.method.step_size
        outer, top, beyond, share = (
            each[round % len(self.contraction.outer)] for each in self.contraction
        )
        along, theta = self.along(here, share * bound), _norm(self.real(here))
        eps = jnp.finfo(jnp.float64).eps
        pulled = along.jacobian * along.residuals * jnp.max(along.shares, axis=1)
        moved = _norm(then) + step * jnp.linalg.norm(pulled)
        rounding = eps * (4 * theta + self.terms * moved)
        factor = growth(along, share * bound, step, outer, top, beyond)
        grown = (1 + self.terms * eps) * factor * bound + defect + rounding
        return jnp.where(jnp.isfinite(grown), grown, jnp.inf)

    def along(self, here: Point, radius: Float[Array, ""]) -> Along:
        """What is measured of every agent at its own points."""
        batch = self.network.everything
        points = self.network.space.inputs[batch.rows]
        targets = self.network.targets[batch.rows]
        shares = jnp.asarray(batch.weights, jnp.float64)

        def of_agent(own: tuple) -> tuple[Array, ...]:
            moved, inputs, wanted, share = own
            seen, within = self._seen(moved, inputs, radius)
            kept = jnp.asarray(share > 0, share.dtype)
            missed = kept * jnp.linalg.norm(seen.outputs - wanted, axis=1)
            return (
                jacobian_norm(self.chain, seen, kept),
                jnp.linalg.norm(missed),
                hessian_bound(self.chain, seen, within, share * missed),
                at_each_point(self.chain, seen, within),
            )

        found = jax.lax.map(of_agent, (here.tree, points, targets, shares))
        return Along(*found, shares)

    def outputs(self, path: State, bound: Float[Array, ""]) -> Float[Array, " agents"]:
        """The bound of all points' outputs, of every agent."""
        eps = jnp.finfo(jnp.float64).eps

        def of_agent(moved: Any) -> Float[Array, ""]:
            seen, within = self._seen(moved, self.network.space.inputs, bound)
            bend = jnp.linalg.norm(at_each_point(self.chain, seen, within))
            slope = jacobian_norm(self.chain, seen)
            theta = _norm(jax.tree.map(jnp.add, self.network.space.origin, moved))
            rounding = eps * (4 * slope * theta + self.terms * jnp.linalg.norm(seen.outputs))
            total = slope * bound + bend * bound**2 / 2 + rounding
            return jnp.where(jnp.isfinite(total), total, jnp.inf)

        return jax.lax.map(of_agent, path.x.tree)

    def _seen(self, moved: Any, points: Array, radius: Float[Array, ""]) -> tuple[Look, Ball]:
        """A network theta_0 + moved at points, and what it is within the radius."""
        theta = jax.tree.map(jnp.add, self.network.space.origin, moved)
        far = jnp.stack([jnp.linalg.norm(moved[name][0]) for name in self.chain.names])
        seen = look(self.chain, theta, points)
        return seen, ball(self.chain, seen, self.norms + far, radius)


def climb_of(problem: Problem, plan: Plan, paths: int) -> Climb:
    """So many paths of the plan, refused where they do not fit or the network is not bounded."""
    layers = chain(problem.network, problem.start)
    _check_room(problem, paths)
    real = problem.network_space()
    check(plan, real)
    check_same(problem.network, layers, real.origin, real.inputs[:1])
    network, tangent = iteration_of(plan, real), iteration_of(plan, problem.tangent_space())
    norms = jnp.asarray(weight_norms(layers, problem.start), jnp.float64)
    return Climb(network, tangent, norms, _contractions(network), layers, _terms(problem))


@jax.jit
def _advance(climb: Climb, at: Paths, start: Int[Array, ""], stop: Int[Array, ""]) -> Paths:
    """All paths after rounds start, ..., stop - 1."""
    return jax.lax.fori_loop(start, stop, lambda round, at: climb.round(round, at), at)


@jax.jit
def _measure(climb: Climb, at: Paths) -> dict[str, Array]:
    """What the record holds of a round beside the last path's outputs."""
    everywhere = slice(0, len(climb.network.targets))
    linear, _ = climb.tangent.space.readout(everywhere)(at.path(0))
    real = climb.network.space.readout(everywhere)
    last, start = (real(x)[0] for x in (climb.real(at.path(-1)), climb.start))
    by_path = jax.lax.map(lambda own: climb.outputs(*own), (at.paths, at.bounds))
    travelled = jnp.linalg.norm(last - start, axis=(1, 2))
    left = _norm(at.path(-1)) > 0
    return {
        "certified_by_sweep": by_path,
        "certified_parameters": at.bounds,
        "certified_error": by_path[-1],
        "certified_share": jnp.where(left, by_path[-1] / travelled, 0),
        "linear_error": jnp.linalg.norm(linear - last, axis=(1, 2)),
    }


def _where_gradients_are_taken(
    update: Any, state: State, mix: Callable[[ByAgent], ByAgent]
) -> Point:
    """The point of the round at which the update asks for its gradient."""
    asked: list[Point] = []

    def asking(x: Point) -> Vector:
        asked.append(x)
        return x - x

    update.step(state, asking, mix)
    (point,) = asked
    return point


def _always(gradient: Vector) -> Callable[[Vector], Vector]:
    return lambda x: gradient


def _norm(tree: Any) -> Float[Array, ""]:
    """Of all leaves together."""
    squares = [jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)]
    return jnp.sqrt(functools.reduce(jnp.add, squares))


def _certified(record: Record, bounds: list[dict[str, np.ndarray]]) -> Record:
    """The record with the bounds beside."""
    dims = {
        "certified_by_sweep": ("round", "sweep", "agent"),
        "certified_parameters": ("round", "sweep"),
        "certified_error": ("round", "agent"),
        "certified_share": ("round", "agent"),
        "linear_error": ("round", "agent"),
    }
    stacked = {name: np.stack([each[name] for each in bounds]) for name in dims}
    record = record.assign({name: (dims[name], values) for name, values in stacked.items()})
    record = record.assign_coords(sweep=np.arange(record.sizes["sweep"]))
    return described(_blown_noted(record))


def _blown_noted(record: Record) -> Record:
    """The record; where a bound has blown up, it says from which round on."""
    blown = ~np.isfinite(record["certified_error"].values).all(axis=1)
    if not blown.any():
        return record
    return record.assign_attrs(uncertified_round=int(record["round"][blown][0]))
