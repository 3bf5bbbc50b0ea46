"""A system: a method on a graph, learning a problem. All questions are put to it.

    system = System(problem, method, W)
    predict(system, 500), train(system, 500), limit(system), step_size_limit(system), ...

Every question may be asked of the parts as well, predict(problem, method, W, 500): `question` makes
the system of them.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ntkdyn import display
from ntkdyn.data import Batches, listed
from ntkdyn.errors import InputError, check_kind, check_name, check_whole, shown
from ntkdyn.graphs import mixing
from ntkdyn.linear import KERNELS, Choice, Empirical, Given, Kernel, chosen
from ntkdyn.methods import Method
from ntkdyn.problems import LARGEST_SEED, KernelProblem, Problem, Task

PARTS = ("problem", "method", "weights")
"""what a system is made of, in the order in which questions take them"""


@dataclass(frozen=True, eq=False)
class System:
    """m agents that minimise 1/m sum_i L_i(theta) by a method over W, each L_i on its own points.

    Args:
        problem: a `Problem`, or a `KernelProblem`.
        method: its step size a number, or `of_limit(share)`.
        weights: W, a matrix (agents, agents), several in turn, or what `graphs.metropolis` and the
            like give.
        kernel: what it is linearized to, a value or name of `ntkdyn.linear`. That of a
            `KernelProblem` is its own, whatever it is called here.
        batch_size: how many of its points an agent uses in a round; left out, all.
        batch_seed: draws them, the same in prediction and training.
        batches: in place of both, the points of every round: an array (rounds, agents, batch) of
            numbers of training points, or lists of them round by round and agent by agent.
        stability: what is known of it, as `dynamics.assess` gives it, which saves working it out.

    Raises:
        InputError: for parts that do not fit each other.

    Example:
        >>> system = nd.System(bare, dgd, W)
        >>> nd.predict(system, 2).identical(nd.predict(bare, dgd, W, 2))
        True
    """

    problem: Problem | KernelProblem
    method: Method
    weights: Any
    kernel: Choice | str = "empirical"
    batch_size: int | None = None
    batch_seed: int | None = None
    batches: Any = None
    stability: Any = None

    def __post_init__(self) -> None:
        _check_problem(self.problem)
        set_ = functools.partial(object.__setattr__, self)
        _check_method(self.method)
        needs, task = self.method.needs, self.task
        sums = "columns" if needs.columns else "rows"
        set_("weights", mixing(self.weights, agents=task.agents, sums=sums, names=task.agent_names))
        numbers = tuple(map(str, range(task.agents)))
        set_("method", self.method.ordered(task.agent_names or self.weights.names or numbers))
        self.method.check_weights(self.weights)
        set_("kernel", _kernel_of(self.problem, self.kernel))
        if (self.batch_size is None) != (self.batch_seed is None):
            raise InputError("batch_size and batch_seed: give both, or neither for all points")
        if self.batches is not None:
            if self.batch_size is not None:
                raise InputError("batches: go without batch_size and batch_seed")
            set_("batches", _batches_of(self.batches, task))
        if self.batch_size is not None:
            set_("batch_size", check_whole("batch_size:", self.batch_size, 1))
            set_("batch_seed", check_whole("batch_seed:", self.batch_seed, 0, LARGEST_SEED))

    def __repr__(self) -> str:
        return f"System({self.problem!r}, {self.method!r}, {self.weights!r})"

    def _repr_html_(self) -> str:
        parts = self.problem, self.method, self.weights.rounds[0]
        below = {
            "kernel": self.kernel.name,
            "points a round": self.batch_size or ("all" if self.whole else "listed"),
            "rounds of the graph": None
            if len(self.weights.rounds) == 1
            else len(self.weights.rounds),
        }
        shown = "".join(each._repr_html_() for each in parts)
        return f"<div>{shown}{display.table(below)}</div>"

    @property
    def task(self) -> Task:
        """Targets and owners."""
        return self.problem.task

    @property
    def whole(self) -> bool:
        """Whether every agent uses all its points in every round."""
        return self.batch_size is None and self.batches is None

    def drawn(self) -> Batches:
        """What agents use, round by round."""
        if self.batches is not None:
            self.task.check_drawn()
            return self.batches
        return self.task.batches(self.batch_size, self.batch_seed)

    @property
    def matrix(self) -> Kernel:
        """The kernel, which is computed where it has not been."""
        return self.problem.kernel(self.kernel)

    @property
    def settling(self) -> System:
        """The same with a kernel of which step sizes can be shares of the limit."""
        return self if self.kernel.formed else self.with_(kernel=Empirical())

    def with_(self, **parts: Any) -> System:
        """The same but for some of its parts; of others' stability nothing is known."""
        return dataclasses.replace(self, **({"stability": None} | parts))


def _check_method(method: Any) -> None:
    check_kind("method", method, Method, "as `methods.dgd` gives")
    method.check_update()
    if np.ndim(method.step_size):
        raise InputError(
            f"step size: must be one number for all agents, got shape "
            f"{np.shape(method.step_size)}; `methods.by_agent` and `methods.scheduled` multiply it "
            f"by agent and by round"
        )


def _batches_of(given: Any, task: Task) -> Batches:
    if isinstance(given, Batches):
        return given
    if not isinstance(given, (Sequence, np.ndarray)) or isinstance(given, str):
        raise InputError(f"batches: must be lists of points, or an array, got {shown(given)}")
    return listed(task.owner, task.agents, given)


def _kernel_of(problem: Problem | KernelProblem, kernel: Choice | str) -> Choice:
    if not isinstance(problem, KernelProblem):
        return chosen(kernel)
    if isinstance(kernel, Given):
        return kernel
    check_name("kernel", getattr(kernel, "name", kernel), KERNELS)
    return Given()


def question(*settings: str) -> Callable[[Callable], Callable]:
    """function(system, ...) that may also be asked as function(problem, method, weights, ...).

    `settings` are those of the system that are taken beside its parts.
    """

    def of(function: Callable) -> Callable:
        own = inspect.signature(function)
        place, loose = list(own.parameters).index("system"), _loose(own, settings)

        @functools.wraps(function)
        def asked(*given: Any, **named: Any) -> Any:
            whole = given[place] if len(given) > place else named.get("system")
            if isinstance(whole, System):
                return function(*given, **named)
            try:
                bound = loose.bind(*given, **named).arguments
            except TypeError as error:
                raise TypeError(f"{function.__name__}: {error}") from None
            for each in list(bound)[:place]:
                del bound[each]
            made = {name: bound.pop(name) for name in (*PARTS, *settings) if name in bound}
            return function(*given[:place], **(bound | {"system": System(**made)}))

        asked.__signature__ = loose
        return asked

    return of


def _loose(own: inspect.Signature, settings: tuple[str, ...]) -> inspect.Signature:
    """The signature with the system's parts in its place."""
    fields, own_ones = inspect.signature(System).parameters, list(own.parameters.values())
    place = [each.name for each in own_ones].index("system")
    after = own_ones[place + 1 :]
    positional = [each for each in after if each.kind is each.POSITIONAL_OR_KEYWORD]
    named = [fields[name].replace(kind=inspect.Parameter.KEYWORD_ONLY) for name in settings]
    others = [each for each in after if each.kind is each.KEYWORD_ONLY]
    parts = [fields[name] for name in PARTS]
    return own.replace(parameters=[*own_ones[:place], *parts, *positional, *named, *others])


def _check_problem(problem: Any) -> None:
    """Refuse what is neither of the two."""
    if not isinstance(problem, (Problem, KernelProblem)):
        raise InputError(
            f"problem: must be a Problem or a KernelProblem, got {type(problem).__name__}"
        )
