"""Exchange: what a round sends over the links, read off the method's own step.

The step is traced once, with a mixing that marks whatever it is given; the numbers that carry a
mark are those that an agent sends to each of its listeners.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ntkdyn.methods.mixing import Combination, Dense, Fixed, Marking, Operator, marked
from ntkdyn.methods.updates import Update
from ntkdyn.vectors import ByAgent, Point

WORD = 32
"""bits of a number on a link that does not compress"""

Mix = Callable[[ByAgent], ByAgent]
Shapes = list[tuple[int, ...]]


class Sent(NamedTuple):
    """What an agent sends to each listener in one round."""

    vectors: int
    """as large as the parameters"""
    numbers: int
    """beside them"""

    def floats(self, parameters: float) -> float:
        """All of it, where a vector takes as much as so many numbers."""
        return self.vectors * parameters + self.numbers


def watched(rule: Any, weights: Operator, round: int, scene: Any) -> Mix:
    """The mixing of that round, with marks; a rule that combines by itself sends what it mixes."""
    marking = Marking(weights)
    mix = rule.bind(marking, round, scene)
    if isinstance(mix, Combination):
        return mix

    def watching(x: ByAgent) -> ByAgent:
        marking.used = False
        mixed = mix(x)
        return mixed if mixed is x or marking.used else mix(marked(x))

    return watching


def sent(update: Update, x: Point, mix: Mix) -> Sent:
    """What a round from the start x sends, of an update whose `mix` marks.

    A loop counts as often as it runs, of the branches of a condition the one that sends most. What
    listeners can work out from what they have heard before is not sent again (`update.recalled`).
    """
    step = lambda x: update.step(update.init(x), lambda x: x - x, mix)
    own = [leaf.shape for leaf in jax.tree.leaves(x)]
    vectors, numbers = -update.recalled, 0
    for times, shapes in _marks(jax.make_jaxpr(step)(x).jaxpr):
        if shapes == own:
            vectors += times
        else:
            numbers += times * sum(math.prod(shape[1:]) for shape in shapes)
    return Sent(vectors, numbers)


def of_update(update: Update) -> Sent:
    """The same of an update on any space and graph, with all that it mixes exchanged."""
    agents = update.made_for or 2
    mix = watched(Fixed(), Dense(jnp.full((agents, agents), 1 / agents)), 0, None)
    return sent(update, Point(jnp.zeros((agents, 3))), mix)


def _marks(jaxpr: Any) -> Iterator[tuple[int, Shapes]]:
    """(how many times, the shapes) of everything marked in a traced program."""
    for eqn in jaxpr.eqns:
        if eqn.params.get("name") == marked.__name__:
            yield 1, [variable.aval.shape for variable in eqn.invars]
            continue
        inside = [list(_marks(each)) for each in _programs(eqn.params)]
        if eqn.primitive.name == "cond":
            inside = [max(inside, key=_size)]
        times = eqn.params.get("length", 1) if eqn.primitive.name == "scan" else 1
        yield from ((times * n, shapes) for found in inside for n, shapes in found)


def _size(found: list[tuple[int, Shapes]]) -> int:
    return sum(times * sum(map(math.prod, shapes)) for times, shapes in found)


def _programs(params: dict[str, Any]) -> Iterator[Any]:
    """The programs among the parameters of an instruction."""
    for value in params.values():
        for each in value if isinstance(value, (tuple, list)) else (value,):
            inner = getattr(each, "jaxpr", each)
            if hasattr(inner, "eqns"):
                yield inner
