"""Symbols: trajectories, stability limits and rates in closed form, with SymPy.

One kernel mode: f_i(x_i) = lambda (x_i - a_i)^2 / 2, the same curvature for every agent and targets
of its own. The method's own step, run on symbols, commutes with a symmetric W, so it acts on each
eigenvector v_k of W alone, with the eigenvalue w_k in place of `mix`:

    z_k(t+1) = A(w_k, eta lambda) z_k(t) + b(w_k, eta lambda) <v_k, a>,   x(t) = sum_k v_k x_k(t)

Nothing here is derived by hand but the spectra of the graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import mpmath
import numpy as np
import sympy
from jaxtyping import Float

from ntkdyn.errors import InputError, check_name
from ntkdyn.methods import METHODS, Method
from ntkdyn.theory.agent_tuple import AgentTuple, averaging_rate, mixer

__all__ = [
    "Mode", "Response", "Spectrum", "Step", "characteristic", "complete", "derivation",
    "eigenvalues", "mode", "moduli", "numeric", "path", "response", "ring", "stability_limit",
    "star", "text", "trajectory", "two_agents",
]  # fmt: skip

ETA, LAMBDA, W, T = (
    sympy.Symbol("eta", positive=True),
    sympy.Symbol("lambda", positive=True),
    sympy.Symbol("w", real=True),
    sympy.Symbol("t", integer=True, nonnegative=True),
)
"""step size, curvature of the mode, eigenvalue of W, round"""

S = sympy.Symbol("s", positive=True)
"""s = eta lambda: spectra depend on the two by their product alone"""


class Spectrum(NamedTuple):
    """The eigenvalues of a symmetric W and its orthonormal eigenvectors, as columns.

    Example:
        >>> graph = nd.theory.symbolic.two_agents()
        >>> graph.weights * graph.vectors[:, 1] == graph.values[1] * graph.vectors[:, 1]
        True
    """

    name: str
    weights: sympy.Matrix
    values: tuple[sympy.Expr, ...]
    vectors: sympy.Matrix


# --- graphs with closed-form spectra (Metropolis weights) -------------------------------------


def two_agents(weight: Any = sympy.Rational(1, 2)) -> Spectrum:
    """Two agents that put `weight` on each other: 1 and 1 - 2 weight.

    Args:
        weight: a number or a symbol.

    Returns:
        A `Spectrum`.

    Example:
        >>> nd.theory.symbolic.two_agents("1/3").values
        (1, 1/3)
    """
    weight = sympy.sympify(weight)
    matrix = sympy.Matrix([[1 - weight, weight], [weight, 1 - weight]])
    vectors = sympy.Matrix([[1, 1], [1, -1]]) / sympy.sqrt(2)
    return Spectrum("two agents", matrix, (sympy.Integer(1), 1 - 2 * weight), vectors)


def complete(agents: int) -> Spectrum:
    """W = 11'/m: 1, and 0 for all the others.

    Args:
        agents: m.

    Returns:
        A `Spectrum`.

    Example:
        >>> nd.theory.symbolic.complete(3).values
        (1, 0, 0)
    """
    matrix = sympy.ones(agents, agents) / agents
    return Spectrum("complete", matrix, _first_is_one(agents, [0] * (agents - 1)), _helmert(agents))


def ring(agents: int) -> Spectrum:
    """A third each for oneself and two neighbours: (1 + 2 cos(2 pi k / m)) / 3, a circulant.

    Args:
        agents: m.

    Returns:
        A `Spectrum`.

    Raises:
        InputError: for fewer than three agents.

    Example:
        >>> nd.theory.symbolic.ring(4).values
        (1, 1/3, 1/3, -1/3)
    """
    if agents < 3:
        raise InputError(f"ring: needs at least 3 agents in closed form, got {agents}")
    third = sympy.Rational(1, 3)
    near = lambda i, j: third if (i - j) % agents in (0, 1, agents - 1) else 0
    values, columns = [], []
    for k in range(agents // 2 + 1):
        angle = 2 * sympy.pi * k / agents
        waves = [sympy.cos] if k == 0 or 2 * k == agents else [sympy.cos, sympy.sin]
        for wave in waves:
            values.append((1 + 2 * sympy.cos(angle)) / 3)
            columns.append(_unit([wave(angle * i) for i in range(agents)]))
    return Spectrum(
        "ring", sympy.Matrix(agents, agents, near), tuple(values), sympy.Matrix.hstack(*columns)
    )


def path(agents: int) -> Spectrum:
    """A third on each link: (1 + 2 cos(pi k / m)) / 3, with cosine waves as eigenvectors.

    Args:
        agents: m.

    Returns:
        A `Spectrum`.

    Raises:
        InputError: for fewer than three agents.

    Example:
        >>> nd.theory.symbolic.path(3).values
        (1, 2/3, 0)
    """
    if agents < 3:
        raise InputError(f"path: needs at least 3 agents, got {agents}; see `two_agents`")
    third = sympy.Rational(1, 3)

    def entry(i: Any, j: Any) -> sympy.Expr:
        if i == j:
            return 2 * third if i in (0, agents - 1) else third
        return third if abs(i - j) == 1 else sympy.Integer(0)

    angles = [sympy.pi * k / agents for k in range(agents)]
    half = sympy.Rational(1, 2)
    columns = [_unit([sympy.cos(angle * (i + half)) for i in range(agents)]) for angle in angles]
    return Spectrum(
        "path",
        sympy.Matrix(agents, agents, entry),
        tuple((1 + 2 * sympy.cos(angle)) / 3 for angle in angles),
        sympy.Matrix.hstack(*columns),
    )


def star(agents: int) -> Spectrum:
    """1/m on each link: 1; (m-1)/m, m - 2 times, on the leaves; and 0 for hub against leaves.

    Args:
        agents: m.

    Returns:
        A `Spectrum`.

    Raises:
        InputError: for fewer than three agents.

    Example:
        >>> nd.theory.symbolic.star(4).values
        (1, 3/4, 3/4, 0)
    """
    if agents < 3:
        raise InputError(f"star: needs at least 3 agents in closed form, got {agents}")
    share = sympy.Rational(1, agents)

    def entry(i: Any, j: Any) -> sympy.Expr:
        if i == j:
            return share if i == 0 else 1 - share
        return share if 0 in (i, j) else sympy.Integer(0)

    leaves = _helmert(agents - 1)[:, 1:]
    columns = [
        sympy.ones(agents, 1) / sympy.sqrt(agents),
        *(sympy.Matrix([0, *leaves[:, k]]) for k in range(agents - 2)),
        _unit([agents - 1] + [-1] * (agents - 1)),
    ]
    values = _first_is_one(agents, [1 - share] * (agents - 2) + [0])
    return Spectrum(
        "star", sympy.Matrix(agents, agents, entry), values, sympy.Matrix.hstack(*columns)
    )


GRAPHS: dict[str, Callable[..., Spectrum]] = {
    make.__name__: make for make in (two_agents, complete, ring, star, path)
}


def _first_is_one(agents: int, others: Sequence[Any]) -> tuple[sympy.Expr, ...]:
    return tuple(map(sympy.sympify, [1, *others]))


def _helmert(agents: int) -> sympy.Matrix:
    """An orthonormal basis whose first vector is constant."""
    columns = [[1] * agents]
    columns += [[1] * k + [-k] + [0] * (agents - k - 1) for k in range(1, agents)]
    return sympy.Matrix.hstack(*map(_unit, columns))


def _unit(column: Sequence[Any]) -> sympy.Matrix:
    vector = sympy.Matrix(column)
    return vector / sympy.sqrt(sum(sympy.nsimplify(sympy.simplify(v**2)) for v in vector))


# --- a method on one mode ---------------------------------------------------------------------


class Mode(NamedTuple):
    """z <- A z + b a: what a round makes of the state along one eigenvector of W.

    Example:
        >>> nd.theory.symbolic.mode("dgd").push
        Matrix([[s]])
    """

    matrix: sympy.Matrix
    """A(w, s), in W and S"""
    push: sympy.Matrix
    """b(w, s), per unit of the target along the eigenvector"""


def mode(method: str | Method) -> Mode:
    """A(w, s) and b(w, s) of a method, by running its own step on one symbol per memory.

    Args:
        method: its name, or a method, whose rounds are all one linear map.

    Returns:
        A `Mode`; s = eta lambda.

    Raises:
        InputError: for a method whose rounds are not all one linear map.

    Example:
        >>> nd.theory.symbolic.mode("dgd").matrix
        Matrix([[-s + w]])
    """
    method = _named(method)
    update, gamma = _symbolic(method), sympy.nsimplify(averaging_rate(method))
    mix = lambda x: (1 - gamma + gamma * W) * x
    state = update.init(sympy.Integer(0))
    return Mode(*_affine(update, state, lambda x: LAMBDA * (x - 1), mix))


def _affine(update: Any, state: Any, gradient: Callable, mix: Callable) -> tuple[Any, Any]:
    """A and b of the step in a state of this kind."""
    symbols = sympy.symbols(f"z0:{len(state)}")
    after = sympy.Matrix(update.step(type(state)(*symbols), gradient, mix))
    matrix = after.jacobian(symbols).applyfunc(_in_s)
    return matrix, after.subs(dict.fromkeys(symbols, 0)).applyfunc(_in_s)


def _in_s(expression: Any) -> sympy.Expr:
    """In s = eta lambda, with exact numbers."""
    exact = sympy.nsimplify(sympy.sympify(expression).subs(ETA, S / LAMBDA), rational=True)
    return sympy.expand(exact)


def _named(method: str | Method) -> Method:
    if isinstance(method, Method):
        return method
    check_name("method", method, METHODS)
    return METHODS[method](step_size=1.0)


def _symbolic(method: Method) -> Any:
    """The method's update with the symbol eta for its step size."""
    return eqx.tree_at(lambda update: update.step_size, method.update, ETA)


def characteristic(method: str | Method) -> sympy.Poly:
    """det(z - A(w, s)) as a polynomial in z, without its zeros at z = 0.

    Args:
        method: its name, or a method, whose rounds are all one linear map.

    Returns:
        A polynomial in z, its coefficients in w and s.

    Raises:
        InputError: for a method whose rounds are not all one linear map.

    Example:
        >>> nd.theory.symbolic.characteristic("dgd").as_expr()
        s - w + z
    """
    z = sympy.Symbol("z")
    polynomial = sympy.Poly(mode(method).matrix.charpoly(z).as_expr(), z)
    while polynomial.degree() and not sympy.simplify(polynomial.TC()):
        polynomial = sympy.Poly(sympy.cancel(polynomial.as_expr() / z), z)
    return polynomial


def eigenvalues(method: str | Method) -> list[sympy.Expr]:
    """The factors by which a mode changes per round, in w and s.

    Args:
        method: its name, or a method, whose rounds are all one linear map.

    Returns:
        The roots of `characteristic`.

    Raises:
        InputError: for a method whose rounds are not all one linear map.

    Example:
        >>> nd.theory.symbolic.eigenvalues("atc")
        [-w*(s - 1)]
    """
    return [sympy.factor(root) for root in sympy.roots(characteristic(method), multiple=True)]


def stability_limit(method: str | Method, graph: Spectrum) -> sympy.Expr:
    """The s = eta lambda up to which no mode of this graph grows; zero where none is that small.

    An eigenvalue can reach the unit circle at 1, at -1, or as a pair of product one (degree two);
    each is an equation in s for each w. Between zero and the solutions a mode grows or does not,
    which is looked up halfway.

    Args:
        method: its name, or a method, whose rounds are all one linear map.
        graph: a `Spectrum`, such as `ring(4)`.

    Returns:
        An exact number.

    Raises:
        InputError: for methods with more than two factors per mode.

    Example:
        >>> nd.theory.symbolic.stability_limit("dgd", nd.theory.symbolic.ring(4))
        2/3
    """
    polynomial = characteristic(method)
    if polynomial.degree() > 2:
        raise InputError(
            f"stability limit: closed forms are for at most two factors per mode, here there are "
            f"{polynomial.degree()}; use dynamics.step_size_limit"
        )
    return min((_limit_at(polynomial, w) for w in dict.fromkeys(graph.values)), key=float)


def _limit_at(polynomial: sympy.Poly, w: sympy.Expr) -> sympy.Expr:
    """The same of the mode with this w."""
    at, z = polynomial.as_expr().subs(W, w), polynomial.gen
    crossings = [at.subs(z, -1), at.subs(z, 1)]
    if polynomial.degree() == 2:
        crossings.append(polynomial.TC().subs(W, w) - 1)
    reached = sorted({root for each in crossings for root in _positive_roots(each)}, key=float)
    begins = [sympy.Integer(0), *reached]
    ends = [*map(float, reached), 2 * float(begins[-1]) + 1]
    for begin, end in zip(begins, ends, strict=True):
        apart = end - float(begin) > 1e-12 * end
        if apart and _radius(polynomial, w, (float(begin) + end) / 2) > 1:
            return begin
    return sympy.oo


def _positive_roots(equation: sympy.Expr) -> list[sympy.Expr]:
    roots = sympy.solve(sympy.simplify(equation), S) if equation.has(S) else []
    return [root for root in roots if root.is_real and float(root) > 0]


def _radius(polynomial: sympy.Poly, w: sympy.Expr, s: float) -> float:
    """Largest modulus of the factors other than one, at w and s."""
    at = polynomial.as_expr().subs({W: sympy.N(w, 30), S: s})
    roots = np.roots([complex(c) for c in sympy.Poly(at, polynomial.gen).all_coeffs()])
    return float(np.abs(roots[np.abs(roots - 1) > 1e-9]).max(initial=0)) - 1e-9


def moduli(method: str | Method, graph: Spectrum) -> list[sympy.Expr]:
    """|factor| of every mode, in s; the largest at a given s is the rate; kept sums left out.

    Args:
        method: its name, or a method, whose rounds are all one linear map.
        graph: a `Spectrum`, such as `ring(4)`.

    Returns:
        One for each factor and eigenvalue of W.

    Raises:
        InputError: for a method whose rounds are not all one linear map.

    Example:
        >>> nd.theory.symbolic.moduli("dgd", nd.theory.symbolic.complete(2))
        [Abs(s - 1), s]
    """
    factors = eigenvalues(method)
    found = [value.subs(W, w) for w in dict.fromkeys(graph.values) for value in factors]
    return [sympy.Abs(value) for value in found if sympy.simplify(value - 1) != 0]


# --- trajectories -----------------------------------------------------------------------------


class Response(NamedTuple):
    """x_k(t) per unit of target along an eigenvector, from x = 0.

    Example:
        >>> nd.theory.symbolic.response("dgd").valid_from
        0
    """

    formula: sympy.Expr
    """in s and t, and in w where no number was given for it"""
    valid_from: int
    """the round from which it holds: factors of zero have died out"""


def response(method: str | Method, w: Any = W) -> Response:
    """x_k(t) = sum_j c_j z_j^t over the factors z_j and one, c_j from the method's first rounds.

    Args:
        method: its name, or a method, whose rounds are all one linear map.
        w: an eigenvalue of W, or the symbol for it.

    Returns:
        The formula, and from which round on it holds.

    Raises:
        InputError: for methods whose rounds are not one linear map, and where factors coincide.

    Example:
        >>> import sympy
        >>> sympy.simplify(nd.theory.symbolic.response("dgd", sympy.Integer(1)).formula)
        1 - (1 - s)**t
    """
    one, size = mode(method), len(mode(method).push)
    state, seen = sympy.zeros(size, 1), []
    for _ in range(2 * size + 2):
        seen.append(sympy.expand(state[0].subs(W, w)))
        state = (one.matrix @ state + one.push).applyfunc(sympy.expand)
    polynomial = characteristic(method)
    dead = size - polynomial.degree()
    at = sympy.Poly(polynomial.as_expr().subs(W, w), polynomial.gen)
    roots = sympy.roots(at)
    if not w.has(W) and roots.get(sympy.Integer(0)):
        dead += roots.pop(sympy.Integer(0))
    if any(count > 1 for root, count in roots.items() if root != 1):
        raise InputError(f"response: two factors coincide at w = {w}; there is no such sum")
    factors = list(dict.fromkeys([sympy.Integer(1), *roots]))
    powers = sympy.Matrix(len(factors), len(factors), lambda t, j: factors[j] ** (dead + t))
    given = sympy.Matrix(seen[dead : dead + len(factors)])
    coefficients = powers.LUsolve(given).applyfunc(sympy.simplify)
    formula = sum(c * z**T for c, z in zip(coefficients, factors, strict=True))
    return Response(formula, dead)


def trajectory(method: str | Method, graph: Spectrum, targets: Sequence[Any]) -> sympy.Matrix:
    """x_i(t) of every agent, from x = 0, in s and t.

    It holds from round `response(method).valid_from + 1` on.

    Args:
        method: its name, or a method, whose rounds are all one linear map.
        graph: a `Spectrum`, such as `ring(4)`.
        targets: a_i, numbers or symbols.

    Returns:
        (agents, 1).

    Raises:
        InputError: for another number of targets than of agents, and as for `response`.

    Example:
        >>> symbolic = nd.theory.symbolic
        >>> moved = symbolic.trajectory("dgd", symbolic.two_agents("1/4"), [1, 1])
        >>> symbolic.numeric(moved, 0.5, [1])
        array([[0.5, 0.5]])
    """
    if len(targets) != len(graph.values):
        raise InputError(
            f"trajectory: needs one target for each of {len(graph.values)} agents, "
            f"got {len(targets)}"
        )
    along = graph.vectors.T @ sympy.Matrix(targets)
    total = sympy.zeros(len(targets), 1)
    for k, w in enumerate(graph.values):
        total += graph.vectors[:, k] * along[k] * response(method, w).formula
    return total


def numeric(
    trajectory: sympy.Matrix, step: float, rounds: Sequence[int]
) -> Float[np.ndarray, "rounds agents"]:
    """A trajectory at s = `step`, in many digits, by `sympy.lambdify`.

    Where factors coincide the formula is 0/0; in s it is a polynomial, so a point `BESIDE` does.

    Args:
        trajectory: (agents, 1), in s and t.
        step: s = eta lambda.
        rounds: t.

    Returns:
        (rounds, agents).

    Example:
        >>> symbolic = nd.theory.symbolic
        >>> symbolic.numeric(symbolic.trajectory("dgd", symbolic.complete(2), [1, 3]), 1.0, [1, 2])
        array([[1., 3.],
               [2., 2.]])
    """
    function = sympy.lambdify((S, T), list(trajectory), "mpmath")
    with mpmath.workdps(DIGITS):
        beside = mpmath.mpf(step) + mpmath.mpf(BESIDE)
        told = [[float(mpmath.re(x)) for x in function(beside, int(t))] for t in rounds]
    return np.array(told)


BESIDE, DIGITS = "1e-30", 120
"""in s, and the digits in which that is not lost twice over"""


# --- derivations for teaching -----------------------------------------------------------------


class Step(NamedTuple):
    """One line of a derivation: a sentence and a formula in LaTeX.

    Example:
        >>> nd.theory.symbolic.Step("The step size", "h").says
        'The step size'
    """

    says: str
    latex: str


def derivation(method: str | Method, graph: Spectrum) -> list[Step]:
    """From the update to trajectory and limit, step by step, all from the method itself.

    Args:
        method: its name, or a method, whose rounds are all one linear map.
        graph: a `Spectrum`, such as `ring(4)`.

    Returns:
        Sentences and formulas.

    Raises:
        InputError: as for `stability_limit` and `response`.

    Example:
        >>> len(nd.theory.symbolic.derivation("dgd", nd.theory.symbolic.two_agents("1/3")))
        7
    """
    method = _named(method)
    one, solved, agents = mode(method), response(method), len(graph.values)
    names = sympy.symbols(f"x_1:{agents + 1}")
    targets = sympy.symbols(f"a_1:{agents + 1}")
    grad = lambda x: AgentTuple([LAMBDA * (v - a) for v, a in zip(x.values, targets, strict=True)])
    update, gamma = _symbolic(method), sympy.nsimplify(averaging_rate(method))
    applied = (1 - gamma) * sympy.eye(agents) + gamma * graph.weights
    begun = update.step(update.init(AgentTuple(names)), grad, mixer(applied.tolist()))
    limit = stability_limit(method, graph)
    values = dict.fromkeys(map(sympy.nsimplify, graph.values))
    return [
        Step(
            f"The mixing matrix ({graph.name}, {agents} agents)",
            f"W = {sympy.latex(graph.weights)}",
        ),
        Step(
            "The first round, by the method's own step, on the loss "
            "lambda (x_i - a_i)^2 / 2 of every agent",
            rf"\mathbf{{x}} \leftarrow {sympy.latex(sympy.Matrix(begun.x.values))}",
        ),
        Step(
            "W is symmetric: along an eigenvector with eigenvalue w, and with s = eta lambda, "
            "a round is one matrix on what the method remembers",
            rf"z \leftarrow {sympy.latex(one.matrix)} z + {sympy.latex(one.push)} a",
        ),
        Step(
            "The eigenvalues of W",
            r"w \in \left\{" + ", ".join(map(sympy.latex, values)) + r"\right\}",
        ),
        Step(
            "The factors per round of a mode",
            ", ".join(map(sympy.latex, eigenvalues(method))),
        ),
        Step(
            f"From zero, after t rounds (t >= {solved.valid_from})",
            rf"x_w(t) = \left({sympy.latex(solved.formula)}\right) a",
        ),
        Step(
            "A factor reaches the unit circle first at",
            _reached(limit),
        ),
    ]


def _reached(limit: sympy.Expr) -> str:
    if not limit.is_finite:
        return r"\text{no step size}"
    if limit == 0:
        return r"\eta \lambda = 0 \text{: a mode grows at every step size}"
    return rf"\eta \lambda = {sympy.latex(limit)} \approx {float(limit):.6g}"


def text(steps: Sequence[Step]) -> str:
    """A derivation to print: numbered sentences, each with its formula.

    Args:
        steps: of `derivation`.

    Returns:
        Text.

    Example:
        >>> print(nd.theory.symbolic.text([nd.theory.symbolic.Step("The step size", "h")]))
        1. The step size:
        <BLANKLINE>
            h
    """
    return "\n\n".join(f"{k}. {step.says}:\n\n    {step.latex}" for k, step in enumerate(steps, 1))
