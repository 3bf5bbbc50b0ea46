"""MHD: multi-headed distillation on public points (Zhmoginov et al. 2023; a reconstruction).

    L_i = mean over own points of l(h_i^0, y)
        + nu_emb * mean over public points of sum over teachers j of |u_i - u_j|^2
        + nu_aux * mean over public points of sum_k CE(T_k, h_i^k),   k = 1 .. heads

u is the embedding over its norm. Head k imitates head k - 1 of the teachers: T_k is, point by
point, the most confident (largest probability) of the teachers' predictions by head k - 1, and of
the agent's own with `own_too`. So head k knows what is k links away. Teachers are `teachers`
checkpoints drawn from a pool that is renewed one by one, each with an author drawn among those the
agent hears from; what they say is constant. Public points have no labels. The structure is the
paper's as far as we know it, formulas and constants are from memory.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkdyn.data.batches import Batch
from ntkdyn.errors import InputError
from ntkdyn.methods.mixing import Links
from ntkdyn.methods.objectives import (
    BaseObjective,
    Context,
    Sizes,
    check_outputs_per_class,
    slopes,
)
from ntkdyn.methods.updates import check_count, check_positive
from ntkdyn.spaces import Space
from ntkdyn.vectors import Point, Vector


class Distillation(BaseObjective):
    """The loss of the main head, and on public points what teachers say."""

    aux: int = eqx.field(static=True, default=2)
    nu_emb: float = 1.0
    nu_aux: float = 3.0
    teachers: int = eqx.field(static=True, default=1)
    public_batch: int = eqx.field(static=True, default=32)
    own_too: bool = eqx.field(static=True, default=False)
    pool: int = eqx.field(static=True, default=4)
    pool_every: int = eqx.field(static=True, default=10)
    seed: int = eqx.field(static=True, default=0)
    """draws public batches, checkpoints and their authors"""
    affine: ClassVar[bool] = False
    drawn: ClassVar[bool] = True
    view: ClassVar[str] = "features"
    sends: ClassVar[str] = "outputs and features of public points"

    def __check_init__(self) -> None:
        check_count("mhd: number of auxiliary heads", self.aux)
        check_count("mhd: teachers", self.teachers)
        check_count("mhd: public_batch", self.public_batch)
        check_count("mhd: pool", self.pool)
        check_count("mhd: pool_every", self.pool_every)
        check_positive("mhd: nu_emb", self.nu_emb, zero=True)
        check_positive("mhd: nu_aux", self.nu_aux, zero=True)
        if self.teachers > self.pool:
            raise InputError(
                f"mhd: {self.teachers} teachers a round are drawn from the pool, which holds "
                f"{self.pool} checkpoints; take fewer, or a larger pool"
            )

    @property
    def heads(self) -> int:
        return 1 + self.aux

    def check(self, method: str, task: Any, space: Space, rounds: int) -> None:
        """Refuse a task without public points, and a pool that the run never fills."""
        check_outputs_per_class(method, task)
        if not task.public:
            raise InputError(f"{method}: needs public points; give the problem some (`public=`)")
        if self.pool * self.pool_every > rounds:
            raise InputError(
                f"{method}: a pool of {self.pool} checkpoints, one renewed every "
                f"{self.pool_every} rounds, is longer than the history of {rounds} rounds"
            )
        if self.nu_emb and not space.mixable and len(set(space.seen)) > 1:
            widths = [seen - self.heads * task.targets.shape[1] for seen in space.seen]
            raise InputError(
                f"{method}: draws embeddings together, but those of the architectures have "
                f"{' and '.join(map(str, widths))} entries; make them the same, or nu_emb = 0"
            )

    def floats_sent(
        self, listeners: Float[np.ndarray, " agents"], sizes: Sizes
    ) -> Float[np.ndarray, " agents"]:
        """What teachers say of a public batch, on average over agents."""
        each = sizes.outputs * self.heads + (sizes.features if self.nu_emb else 0)
        said = self.teachers * min(self.public_batch, sizes.public) * each
        return np.full(len(listeners), said * (listeners > 0).mean())

    def gradient(self, context: Context, batch: Batch) -> Callable[..., Vector]:
        wanted = context.targets[batch.rows]
        classes = wanted.shape[-1]
        if not context.links.heard.shape[1]:
            raise InputError("mhd: needs teachers, but nobody hears from anybody on this graph")

        def grad(x: Point, state: Any, round: Any) -> Vector:
            public = self._public_rows(context.public, round)
            shared = jnp.broadcast_to(public, (len(batch.rows), len(public)))
            rows = jnp.concatenate([jnp.asarray(batch.rows), shared], axis=1)
            outputs, pull = context.space.readout(rows)(x)
            private = batch.rows.shape[1]
            main = slopes(outputs[:, :private, :classes], wanted, batch, context.loss)
            rest = jnp.zeros((*main.shape[:2], outputs.shape[2] - classes), main.dtype)
            look = context.space.readout(shared)
            heard = [
                look(state.pool.map(operator.itemgetter(entry)))[0][author]
                for entry, author in self._teachers(context.links, round)
            ]
            own = outputs[:, private:]
            distil = jax.grad(lambda seen: self.distillation(seen, own, heard, classes))(own)
            return pull(jnp.concatenate([jnp.concatenate([main, rest], axis=2), distil], axis=1))

        return grad

    def distillation(
        self,
        outputs: Float[Array, "agents public seen"],
        own: Float[Array, "agents public seen"],
        heard: list[Float[Array, "agents public seen"]],
        classes: int,
    ) -> Float[Array, ""]:
        """Both public terms, summed over agents; `outputs` are heads, then the embedding."""
        cut = classes * self.heads
        loss = 0.0
        if heard:
            apart = [_unit(outputs[..., cut:]) - _unit(teacher[..., cut:]) for teacher in heard]
            embedding = sum(jnp.sum(each**2, axis=-1) for each in apart)
            loss = self.nu_emb * jnp.mean(embedding, axis=1).sum()
        candidates = jnp.stack([*heard, own] if self.own_too else heard)
        for head in range(1, self.heads):
            said = _head(candidates, head - 1, classes)
            target = _most_confident(jax.nn.softmax(said, axis=-1))
            logs = jax.nn.log_softmax(_head(outputs, head, classes), axis=-1)
            loss = loss - self.nu_aux * jnp.mean(jnp.sum(target * logs, axis=-1), axis=1).sum()
        return loss

    def _public_rows(self, public: slice, round: Any) -> Array:
        """Those that all agents look at in this round."""
        key = jax.random.fold_in(jax.random.key(self.seed), round)
        count = public.stop - public.start
        return public.start + jax.random.permutation(key, count)[: self.public_batch]

    def _teachers(self, links: Links, round: Any) -> list[tuple[Array, Array]]:
        """(checkpoint, its author per agent) for each teacher of this round."""
        key = jax.random.fold_in(jax.random.key(self.seed + 1), round)
        entries = jax.random.permutation(key, self.pool)[: self.teachers]
        renewals = round // self.pool_every
        found = []
        for place in range(self.teachers):
            entry = entries[place]
            renewed = renewals - (renewals - 1 - entry) % self.pool
            found.append((entry, self._authors(links, renewed)))
        return found

    def _authors(self, links: Links, renewal: Any) -> Array:
        """For each agent one of those it hears from, drawn when the checkpoint was taken."""
        key = jax.random.fold_in(jax.random.key(self.seed + 2), renewal)
        scores = jax.random.uniform(key, links.heard.shape, jnp.float32)
        slot = jnp.argmax(jnp.where(links.there > 0, scores, -1.0), axis=1)
        return jnp.take_along_axis(links.heard, slot[:, None], axis=1)[:, 0]


def _head(outputs: Array, head: int, classes: int) -> Array:
    return outputs[..., head * classes : (head + 1) * classes]


def _unit(embedding: Array) -> Array:
    return embedding / jnp.sqrt(jnp.sum(embedding**2, axis=-1, keepdims=True) + 1e-12)


def _most_confident(
    probabilities: Float[Array, "teachers agents public classes"],
) -> Float[Array, "agents public classes"]:
    """Point by point the prediction with the largest probability."""
    best = jnp.argmax(jnp.max(probabilities, axis=-1), axis=0)
    return jnp.take_along_axis(probabilities, best[None, ..., None], axis=0)[0]
