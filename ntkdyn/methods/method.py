"""A method: update x mixing x objective, its name, source, and what it asks of W."""

from __future__ import annotations

import dataclasses
import html
import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from ntkdyn import display
from ntkdyn.errors import InputError, check_kind, check_whole, shown
from ntkdyn.graphs import ROUNDING, MixingMatrix, MixingSequence
from ntkdyn.methods import exchange, mixing, objectives, origin, steps, updates
from ntkdyn.methods.updates import OfLimit, StepSize


class Needs(NamedTuple):
    """What a method asks of W, in every round of a graph that changes.

    Example:
        >>> nd.methods.Needs(symmetric=True, above=-1.0).words
        'symmetric, eigenvalues > -1'
    """

    columns: bool = False
    """columns, not rows, sum to one"""
    doubly: bool = False
    """rows and columns sum to one"""
    symmetric: bool = False
    above: float | None = None
    """every eigenvalue of (1 - gamma) I + gamma W is larger than this"""
    fixed: bool = False
    """the same W in every round"""
    mutual: bool = False
    """links go both ways"""

    @property
    def words(self) -> str:
        """For a table."""
        parts = ["column-stochastic"] if self.columns else []
        parts += ["doubly stochastic"] if self.doubly else []
        parts += ["symmetric"] if self.symmetric else []
        parts += ["links both ways"] if self.mutual else []
        parts += ["fixed"] if self.fixed else []
        parts += [f"eigenvalues > {_fraction(self.above)}"] if self.above is not None else []
        return ", ".join(parts) or "row-stochastic"


class Method(eqx.Module):
    """A product of three choices, and the name it goes by.

    Example:
        >>> from ntkdyn.methods import mixing, objectives, updates
        >>> mine = nd.methods.Method("mine", updates.DGD(0.1), mixing.Fixed(), objectives.Local())
        >>> nd.step_size_limit(bare, mine, W) == nd.step_size_limit(bare, dgd, W)
        True
    """

    name: str = eqx.field(static=True)
    update: updates.Update
    mixing: mixing.Mixing
    objective: objectives.BaseObjective
    needs: Needs = eqx.field(static=True, default=Needs())

    def __repr__(self) -> str:
        return f"Method({self.name!r}, step_size={_said(self.step_size)})"

    def _repr_latex_(self) -> str:
        return f"${self.latex}$"

    def _repr_html_(self) -> str:
        rows = {
            "step size": _said(self.step_size),
            "needs W": self.wants,
            "runs in": ", ".join(sorted(self.spaces)),
        }
        formula = f"$${html.escape(self.latex)}$$" if self.latex else ""
        return display.panel(self.name, formula, display.table(rows))

    @property
    def latex(self) -> str:
        """The update, as its docstring has it."""
        own = updates.innermost(self.update)
        own = getattr(own, "inner", own)
        return display.latex((inspect.getdoc(type(own)) or "").split("\n\n")[0])

    @property
    def step_size(self) -> StepSize:
        return self.update.step_size

    def with_step_size(self, step_size: StepSize) -> Method:
        """The same method with another step size."""
        updates.check_positive("step size", step_size)
        return eqx.tree_at(
            lambda method: method.update.step_size,
            self,
            step_size,
            is_leaf=lambda leaf: isinstance(leaf, OfLimit),
        )

    @property
    def settings(self) -> dict[str, Any]:
        """Every choice and number that makes it, as plain values."""
        return {part: _plain(getattr(self, part)) for part in ("update", "mixing", "objective")}

    @property
    def wants(self) -> str:
        """What it asks of W, in words: of W itself, where it averages at a rate gamma."""
        above = self.needs.above
        if above is not None:
            above = 1 - (1 - above) / self.mixing.rate
        trivial = above is not None and above < -1
        return self.needs._replace(above=None if trivial else above).words

    @property
    def heads(self) -> int:
        """How many times the classes the network must have outputs."""
        return self.objective.heads

    @property
    def view(self) -> str:
        """What it must see of a space: "outputs", "features" beside them, or "layers" apart."""
        seen = {self.mixing.view, self.objective.view} - {"outputs"}
        return seen.pop() if seen else "outputs"

    @property
    def spaces(self) -> frozenset[str]:
        """Where it runs: "network", "tangent", "kernel"."""
        return self.update.spaces & self.mixing.spaces & self.objective.spaces

    @property
    def linear(self) -> bool:
        """Whether every round is an affine map, for the squared error and given W."""
        return all(part.affine for part in (self.update, self.mixing, self.objective))

    @property
    def affine(self) -> bool:
        """Whether every round is one and the same affine map, for the squared error and fixed W."""
        return self.linear and self.mixing.every == 1 and not self.scheduled

    @property
    def mixes(self) -> bool:
        """Whether agents exchange vectors at all."""
        return exchange.of_update(self.with_step_size(1.0).update).vectors > 0

    @property
    def scheduled(self) -> bool:
        """Whether its step size changes from round to round."""
        return getattr(updates.innermost(self.update), "changes", False)

    @property
    def at_largest(self) -> Method:
        """The same method, with the largest step size of its schedule in every round."""
        return self.at(updates.innermost(self.update).largest) if self.scheduled else self

    def at(self, round: Any) -> Method:
        """The same method, with the step size of that round in every round."""
        update = updates.at(self.update, round)
        return self if update is self.update else dataclasses.replace(self, update=update)

    @property
    def agent_weights(self) -> np.ndarray | None:
        """lambda of its objective sum_i lambda_i L_i; None: all the same."""
        objective = self.objective
        while isinstance(objective, objectives.Around):
            if isinstance(objective, objectives.Weighted):
                return np.asarray(objective.weights)
            objective = objective.inner
        return None

    def ordered(self, names: Sequence[str]) -> Method:
        """The same method, what it has by the agents' names in the order of these."""
        update = steps.ordered(self.update, names)
        return self if update is self.update else dataclasses.replace(self, update=update)

    def check_update(self) -> None:
        """Refuse an update of another's making that depends on where parameters have their zero.

        The package's own are tested, and some of them take seconds to try.
        """
        update = steps.unpaced(self.with_step_size(0.5).update)
        if type(update).__module__ != updates.__name__:
            origin.check(self.name, update)

    def check_space(self, space: str) -> None:
        """Refuse a space that the method does not run in, and say which it does."""
        if space not in self.spaces:
            how = {"network": "`train`", "tangent": 'kernel = "implicit"'}
            why = self.update.why_not or self.objective.why_not
            others = " or ".join(f"{name} space ({how[name]})" for name in sorted(self.spaces))
            raise InputError(
                f"{self.name}: does not run in {space} space, because {why}; use {others}"
            )

    def check_weights(self, weights: MixingMatrix | MixingSequence) -> None:
        """Refuse weights that the method is not made for."""
        if self.needs.fixed and isinstance(weights, MixingSequence):
            raise InputError(f"{self.name}: needs the same mixing matrix in every round")
        for matrix in weights.rounds:
            self._check(matrix)
        for part in (self.update, self.objective):
            part.check_weights(self.name, weights)

    def _check(self, weights: MixingMatrix) -> None:
        needs, linked = self.needs, hasattr(self.update, "links")
        plain = isinstance(getattr(self.mixing, "mixing", self.mixing), mixing.Fixed)
        if weights.signed and not (self.linear and plain and not linked):
            i, j = np.argwhere(weights.matrix < 0)[0]
            raise InputError(
                f"{self.name}: needs weights that are not negative, but entry ({i}, {j}) is "
                f"{weights.matrix[i, j]:.4g}"
            )
        if needs.symmetric and not weights.symmetric:
            i, j = weights.least_symmetric
            raise InputError(
                f"{self.name}: needs a symmetric mixing matrix, but entries ({i}, {j}) and "
                f"({j}, {i}) are {weights.matrix[i, j]:.4g} and {weights.matrix[j, i]:.4g}"
            )
        linked = weights.matrix != 0
        if needs.mutual and (linked != linked.T).any():
            i, j = (int(k) for k in np.argwhere(linked & ~linked.T)[0])
            raise InputError(
                f"{self.name}: needs links that go both ways, but agent {i} hears from {j} and {j} "
                f"does not hear from {i}"
            )
        for axis, wanted in ((1, not needs.columns), (0, needs.columns or needs.doubly)):
            sums = weights.matrix.sum(axis=axis)
            worst = int(abs(sums - 1).argmax())
            if wanted and abs(sums[worst] - 1) > ROUNDING:
                line = ("column", "row")[axis]
                raise InputError(
                    f"{self.name}: needs {_kind(needs)} mixing matrix, but {line} {worst} sums to "
                    f"{sums[worst]:.4g}"
                )
        if needs.above is not None:
            rate = self.mixing.rate
            smallest = 1 - rate + rate * weights.smallest_eigenvalue
            if smallest <= needs.above + ROUNDING:
                raise InputError(
                    f"{self.name}: needs eigenvalues above {_fraction(needs.above)}, but the "
                    f"mixing matrix has {smallest:.4g}; `graphs.lazy` lifts them"
                )


def _said(step_size: Any) -> str:
    """A step size in few characters."""
    if isinstance(step_size, OfLimit):
        return f"of_limit({step_size.share:g})"
    return f"{float(step_size):g}" if np.ndim(step_size) == 0 else str(np.shape(step_size))


def _plain(value: Any) -> Any:
    if isinstance(value, eqx.Module):
        own = {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **own}
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return np.asarray(value, float).tolist() if np.ndim(value) else float(value)


def _kind(needs: Needs) -> str:
    if needs.columns:
        return "a column-stochastic"
    return "a doubly stochastic" if needs.doubly else "a row-stochastic"


def _fraction(value: float) -> str:
    return "-1/3" if abs(value + 1 / 3) < ROUNDING else f"{value:g}"


def damped(method: Method, gamma: float) -> Method:
    """The same method with W replaced by (1 - gamma) I + gamma W: an averaging rate gamma.

    Args:
        method: whose mixing averages linearly.
        gamma: averaging rate, in [0, 1].

    Returns:
        The method.

    Raises:
        InputError: for another gamma, and a method that weighs its neighbours by itself.

    Example:
        >>> round(nd.step_size_limit(bare, nd.methods.damped(dgd, 0.5), W), 4)
        1.0286
    """
    check_kind("method", method, Method, "as `methods.dgd` gives")
    updates.check_share("gamma", gamma, one=True)
    if np.ndim(gamma):
        raise InputError(f"gamma: must be one number, got {shown(gamma)}")
    rule = _damped(method.name, method.mixing, gamma)
    return _replaced(method, f"damped({method.name}, {float(gamma):g})", rule)


def _damped(name: str, rule: Any, gamma: float) -> Any:
    if isinstance(rule, mixing.Periodic):
        return mixing.Periodic(_damped(name, rule.mixing, gamma), rule.tau)
    if not isinstance(rule, mixing.Fixed):
        raise InputError(f"{name}: weighs its neighbours by itself; it takes no gamma")
    return mixing.Fixed(rule.gamma * gamma)


def periodic(method: Method, tau: int) -> Method:
    """The same method, exchanging in every tau-th round only.

    Args:
        method: any.
        tau: rounds from one exchange to the next.

    Returns:
        The method.

    Raises:
        InputError: for a method whose gradient looks at its neighbours in every round.

    Example:
        >>> nd.methods.periodic(dgd, 4).mixing.every
        4
    """
    check_kind("method", method, Method, "as `methods.dgd` gives")
    tau = check_whole("tau:", tau, 1)
    if method.objective.sends:
        raise InputError(
            f"{method.name}: its gradient looks at what neighbours send in every round; it cannot "
            f"exchange less often"
        )
    return _replaced(method, f"periodic({method.name}, {tau})", mixing.Periodic(method.mixing, tau))


def by_agent(method: Method, factors: Any) -> Method:
    """The same method with step size eta a_i, all a_i positive.

    Args:
        method: any.
        factors: a_i, in the order of the agents; or name -> a_i, by what the graph, or the
            problem, calls them: by number, where they have no names.

    Returns:
        The method.

    Raises:
        InputError: for factors that are not positive.

    Example:
        >>> slow = nd.methods.by_agent(dgd, {"0": 1, "1": 2, "2": 1})
        >>> told = nd.predict(bare, nd.methods.by_agent(dgd, [1, 2, 1]), W, 2)
        >>> bool((nd.predict(bare, slow, W, 2)["outputs"] == told["outputs"]).all())
        True
    """
    check_kind("method", method, Method, "as `methods.dgd` gives")
    names, a = steps.named_factors("by_agent", factors)
    update = steps.paced(method.update, a[None], [0], names)
    return dataclasses.replace(method, name=f"by_agent({method.name})", update=update)


def scheduled(method: Method, schedule: Any) -> Method:
    """The same method with step size eta s(t), s piecewise constant.

    Before the first round that is given s = 1. A step size `of_limit(share)` is that share of the
    largest one with which all pieces are stable.

    Args:
        method: any.
        schedule: pairs (round, factor from there on), ascending, or a dictionary of them, as
            `steps.warm_up`, `steps.step_decay` and `steps.cosine` give.

    Returns:
        The method.

    Raises:
        InputError: for rounds that do not ascend, and factors that are not positive.

    Example:
        >>> nd.methods.scheduled(dgd, {100: 0.1}).name
        'scheduled(dgd, 1 from 0, 0.1 from 100)'
    """
    check_kind("method", method, Method, "as `methods.dgd` gives")
    rounds, factors = pieces = steps.pieces_of(schedule)
    update = steps.paced(method.update, factors[:, None], rounds)
    name = f"scheduled({method.name}, {steps.said(pieces)})"
    return dataclasses.replace(method, name=name, update=update)


def weight_decay(method: Method, decay: float, toward: str = "zero") -> Method:
    """The same method with g_i + decay (theta_i - a) for g_i, a = 0 or, toward "start", theta_0.

    Toward zero is what training frameworks call so. It is predicted as it is: in the linear model
    parameters shrink toward zero too, theta_0 with them, by (1 - eta decay) a round, so that the
    networks leave the neighbourhood of theta_0, and with it the prediction's, once eta decay t is
    not small. A kernel alone does not tell f(theta_0) from J theta_0, so that it needs
    kernel="implicit". Toward the start (L2-SP, Li, Grandvalet, Davoine 2018) the linear model stays
    where it holds, and runs in every space.

    Args:
        method: any.
        decay: per unit of step size and round, not negative.
        toward: "zero" or "start".

    Returns:
        The method.

    Raises:
        InputError: for a negative decay, and another end.

    Example:
        >>> sorted(nd.methods.weight_decay(dgd, 1e-3).spaces)
        ['network', 'tangent']
    """
    check_kind("method", method, Method, "as `methods.dgd` gives")
    objective = objectives.Decayed(method.objective, decay, toward)
    name = f"weight_decay({method.name}, {float(decay):g}, {toward})"
    return dataclasses.replace(method, name=name, objective=objective)


def clipped(method: Method, radius: float) -> Method:
    """The same method with g_i = 1/n_i sum_a min(1, radius / |d_a|) d_a, d_a the gradient at a.

    No point moves its agent by more than eta radius / n_i in a round (b in place of n_i with
    batches of b), which is what differential privacy of single points asks before noise (DP-SGD,
    Abadi et al. 2016); `links.noisy(std, clip=...)` bounds whole messages. Lengths are those in
    parameter space, which a kernel tells: |J_a' s|^2 = s' K_aa s, so that it runs in every space.
    Its rounds are no affine maps.

    Args:
        method: whose gradients are sums over points.
        radius: the longest gradient of a point, in units of the loss per unit of parameters.

    Returns:
        The method.

    Raises:
        InputError: for a radius that is not positive, and gradients that are no such sums.

    Example:
        >>> told = nd.predict(bare, nd.methods.clipped(dgd, 0.1), W, 1)
        >>> bool(told["displacement"][1].max() <= 0.1 * 0.1 + 1e-12)
        True
    """
    check_kind("method", method, Method, "as `methods.dgd` gives")
    objective = objectives.clipped(method.objective, radius)
    name = f"clipped({method.name}, {float(radius):g})"
    return dataclasses.replace(method, name=name, objective=objective)


def weighted(method: Method, weights: Any) -> Method:
    """The same method for the objective sum_i lambda_i L_i: g_i is m lambda_i times as large.

    `weights` (agents,) are the lambda_i, positive; they are scaled to sum to one. With a W whose
    rows alone sum to one, DGD and its kin weigh the losses by W's left Perron vector besides
    (`MixingMatrix.perron`): lambda_i = 1 / (m pi_i), scaled, undoes that.

    Args:
        method: any.
        weights: lambda_i, in the order of the agents.

    Returns:
        The method.

    Raises:
        InputError: for weights that are not positive.

    Example:
        >>> nd.methods.weighted(dgd, [2, 1, 1]).agent_weights.tolist()
        [0.5, 0.25, 0.25]
    """
    check_kind("method", method, Method, "as `methods.dgd` gives")
    given = steps.factors_of("agent weights", weights)
    objective = objectives.Weighted(method.objective, given / given.sum())
    return dataclasses.replace(method, name=f"weighted({method.name})", objective=objective)


def _replaced(method: Method, name: str, rule: Any) -> Method:
    if not method.mixes:
        raise InputError(f"{method.name}: averages nothing, at whatever rate or period")
    return Method(name, method.update, rule, method.objective, method.needs)
