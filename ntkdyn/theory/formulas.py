"""Formulas of a run for its report: how a mode changes per round, as MathML and LaTeX.

Browsers typeset MathML without a network; the LaTeX is its annotation and can be copied.
"""

from __future__ import annotations

import html
import inspect
from collections.abc import Iterator

import numpy as np
import sympy

from ntkdyn import graphs
from ntkdyn.methods import METHODS
from ntkdyn.records import Record
from ntkdyn.theory import symbolic

__all__ = ["closed_graph", "section", "typeset"]

AGENTS_UP_TO = 8
"""Beyond, the closed form of a graph's spectrum is too long to be read."""


def section(record: Record) -> str:
    """An HTML section on the record's method and graph; empty where there is no closed form.

    Args:
        record: of `predict` or `train`.

    Returns:
        HTML.

    Example:
        >>> "<math>" in nd.theory.formulas.section(nd.predict(bare, dgd, W, 2))
        True
    """
    name = record.attrs["method"]
    if record.attrs["loss"] != "mse" or not _closed(name):
        return ""
    lines = "\n".join(f"<dt>{says}</dt><dd>{formula}</dd>" for says, formula in _lines(record))
    return (
        f"<h2>In closed form</h2>\n<p>Linearized {html.escape(name)}, "
        f"along an eigenvector of W with eigenvalue w and a direction of curvature &lambda; that "
        f"all agents share, with s = &eta;&lambda;:</p>\n<dl>{lines}</dl>"
    )


def _closed(name: str) -> bool:
    """Whether the name alone tells the round, and it has at most two factors."""
    if name not in METHODS or set(inspect.signature(METHODS[name]).parameters) != {"step_size"}:
        return False
    method = METHODS[name](step_size=1.0)
    return method.affine and symbolic.characteristic(method).degree() <= 2


def _lines(record: Record) -> Iterator[tuple[str, str]]:
    name = record.attrs["method"]
    yield (
        "a round multiplies the mode by the roots of",
        typeset(sympy.Eq(symbolic.characteristic(name).as_expr(), 0)),
    )
    yield "which are", ", ".join(map(typeset, symbolic.eigenvalues(name)))
    graph = closed_graph(record["mixing"].values)
    if graph is None:
        return
    yield (
        f"the eigenvalues of W ({graph.name}, {len(graph.values)} agents)",
        ", ".join(typeset(value) for value in dict.fromkeys(graph.values)),
    )
    limit = symbolic.stability_limit(name, graph)
    if limit.is_finite:
        s = sympy.Symbol("s")
        yield "no mode grows up to", typeset(sympy.Le(s, limit)) + f" &approx; {float(limit):.6g}"


def closed_graph(weights: np.ndarray) -> symbolic.Spectrum | None:
    """The graph with a spectrum in closed form whose Metropolis weights these are.

    Args:
        weights: W (agents, agents).

    Returns:
        Its spectrum; None where there is no such graph of at most eight agents.

    Example:
        >>> nd.theory.formulas.closed_graph(W.matrix).name
        'complete'
    """
    agents = len(weights)
    if agents == 2 and np.allclose(weights, 0.5):
        return symbolic.two_agents()
    if not 3 <= agents <= AGENTS_UP_TO:
        return None
    for name in ("complete", "ring", "star", "path"):
        known = graphs.metropolis(getattr(graphs, name)(agents)).matrix
        if np.abs(known - weights).max() < 1e-12:
            return symbolic.GRAPHS[name](agents)
    return None


def typeset(expression: sympy.Basic) -> str:
    """An expression as MathML, annotated with its LaTeX.

    Args:
        expression: of SymPy.

    Returns:
        A <math> element.

    Example:
        >>> nd.theory.formulas.typeset(nd.theory.symbolic.ETA)[:6]
        '<math>'
    """
    shown = sympy.mathml(expression, printer="presentation")
    latex = html.escape(sympy.latex(expression))
    return (
        f"<math><semantics>{shown}"
        f'<annotation encoding="application/x-tex">{latex}</annotation></semantics></math>'
    )
