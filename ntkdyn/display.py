"""Display: what notebooks show of problems, graphs, methods and systems; no arrays, no scripts.

Pictures are inline SVG in the current text colour, so that they suit light and dark pages; formulas
are LaTeX, which notebooks typeset.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

DRAWN_UP_TO = 64
"""agents; of more a picture shows none"""

NAMED_UP_TO = 16
"""agents whose names a picture has room for"""

SIZE = 180
"""of a picture, in pixels"""

GREEK = ("eta", "beta", "gamma", "mu", "psi", "theta", "lambda", "delta", "kappa", "nu")


def table(rows: Mapping[str, Any]) -> str:
    """Names and values, without those that are None or empty."""
    cells = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{_cell(value)}</td></tr>"
        for name, value in rows.items()
        if value is not None and value != ""
    )
    return f"<table>{cells}</table>"


class Html(str):
    """Text that is HTML already."""


def _cell(value: Any) -> str:
    if isinstance(value, Html):
        return value
    return html.escape(f"{value:.4g}" if isinstance(value, float) else str(value))


def panel(title: str, *parts: str) -> str:
    """A heading, and what is below it, side by side."""
    beside = "".join(f'<div style="margin-right:1.5em">{part}</div>' for part in parts if part)
    return (
        f"<div><strong>{html.escape(title)}</strong>"
        f'<div style="display:flex;flex-wrap:wrap;align-items:center">{beside}</div></div>'
    )


# --- graphs -----------------------------------------------------------------------------------


def graph(matrix: Float[np.ndarray, "agents agents"], names: Sequence[str] = ()) -> Html:
    """Who hears from whom, on a circle; arrows where links go one way."""
    agents = len(matrix)
    if agents > DRAWN_UP_TO:
        return Html("")
    places = [_place(agent, agents) for agent in range(agents)]
    links = (matrix != 0) & ~np.eye(agents, dtype=bool)
    both = links & links.T
    lines = [_line(places[j], places[i], "") for i, j in np.argwhere(np.triu(both))]
    arrow = ' marker-end="url(#to)"'
    lines += [_line(places[j], places[i], arrow) for i, j in np.argwhere(links & ~both)]
    shown = (names or [str(agent) for agent in range(agents)]) if agents <= NAMED_UP_TO else ()
    dots = [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{_name(names, agent)}</title></circle>'
        for agent, (x, y) in enumerate(places)
    ]
    words = [_word(places[agent], str(name)) for agent, name in enumerate(shown)]
    head = (
        '<defs><marker id="to" viewBox="0 0 6 6" refX="11" refY="3" markerWidth="6" '
        'markerHeight="6" orient="auto"><path d="M0 0L6 3L0 6z" fill="currentColor"/></marker>'
        "</defs>"
    )
    return _svg(f"graph of {agents} agents", [head, *lines, *dots, *words])


def spectrum(values: np.ndarray) -> Html:
    """Eigenvalues in the unit circle."""
    dots = [
        f'<circle cx="{_on(value.real):.1f}" cy="{_on(-value.imag):.1f}" r="2.5"/>'
        for value in np.asarray(values, complex)
    ]
    middle, low, high = _on(0.0), _on(-1.0), _on(1.0)
    axes = [
        f'<circle cx="{middle}" cy="{middle}" r="{middle - low}" fill="none" '
        'stroke="currentColor" opacity="0.4"/>',
        _line((low, middle), (high, middle), ' opacity="0.4"'),
        _word((low, middle), "-1"),
        _word((high, middle), "1"),
    ]
    return _svg("eigenvalues of W in the unit circle", [*axes, *dots])


def _svg(label: str, parts: Iterable[str]) -> Html:
    return Html(
        f'<svg width="{SIZE}" height="{SIZE}" viewBox="0 0 {SIZE} {SIZE}" role="img" '
        f'aria-label="{html.escape(label)}" fill="currentColor">{"".join(parts)}</svg>'
    )


def _place(agent: int, agents: int) -> tuple[float, float]:
    angle = 2 * math.pi * agent / max(agents, 1) - math.pi / 2
    radius = 0 if agents == 1 else 0.36 * SIZE
    return SIZE / 2 + radius * math.cos(angle), SIZE / 2 + radius * math.sin(angle)


def _on(value: float) -> float:
    return SIZE / 2 + 0.36 * SIZE * float(value)


def _line(start: tuple[float, float], end: tuple[float, float], more: str) -> str:
    (a, b), (c, d) = start, end
    ends = f'x1="{a:.1f}" y1="{b:.1f}" x2="{c:.1f}" y2="{d:.1f}"'
    return f'<line {ends} stroke="currentColor" stroke-width="0.8"{more}/>'


def _word(place: tuple[float, float], text: str) -> str:
    """Just outside of the place, seen from the middle."""
    x, y = (SIZE / 2 + 1.22 * (each - SIZE / 2) for each in place)
    short = text if len(text) <= 8 else f"{text[:7]}…"
    centred = 'font-size="9" text-anchor="middle" dominant-baseline="central"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {centred}>{html.escape(short)}</text>'


def _name(names: Sequence[str], agent: int) -> str:
    return html.escape(str(names[agent] if names else agent))


# --- formulas ---------------------------------------------------------------------------------


def latex(text: str) -> str:
    """Formulas as docstrings have them, "x <- W x - eta g(x)", in LaTeX; words are left out."""
    text = " ".join(text.split()).removesuffix(".")
    parts = [part for part in re.split(r", (?=\S+ (?:<-|=))", text) if re.search("<-|=", part)]
    parts = [re.split("; every |, with |, d the ", part)[0] for part in parts]
    return r",\quad ".join(map(_formula, parts))


def _formula(text: str) -> str:
    text = text.replace("<-", r"\leftarrow ").replace("%", r"\%")
    text = re.sub(r"\b([A-Za-z]+)\+", r"\1^{+}", text)
    text = re.sub(rf"(?<![A-Za-z])({'|'.join(GREEK)})(?![A-Za-z])", r"\\\1 ", text)
    text = re.sub(r"(?<![\\A-Za-z])sum_j", r"\\sum_j", text)
    text = re.sub(r"_([A-Za-z]{2,})", r"_{\1}", text)
    return " ".join(text.replace("...", r"\ldots").split())
