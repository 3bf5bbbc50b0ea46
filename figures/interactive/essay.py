"""The essay: why decentralized learning can be predicted, in eight pictures to drag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ntkdyn.figures.interactive import width
from ntkdyn.figures.interactive.page import SHARED, Page, template, text
from ntkdyn.figures.style import OKABE_ITO

from ntkdyn.disk import MARK


@dataclass(frozen=True)
class Essay:
    """What an index says of it."""

    name: str = "essay"
    title: str = "Why decentralized learning can be predicted"
    lead: str = (
        "An essay to drag: from one agent with one mistake, over graphs, bias and step sizes, to a "
        "real network's training, and to where prediction ends."
    )


def render(pages: Sequence[Page]) -> str:
    """The essay as one HTML file, which names `pages` to go on with; no Bokeh, no network."""
    return template("essay.html").render(
        mark=MARK,
        title=f"{Essay.title} · ntkdyn",
        essay=Essay,
        pages=pages,
        style=text("page.css") + text("essay.css"),
        scripts=[text(name) for name in (*SHARED, "essay.js")],
        agents=OKABE_ITO,
        recordings=width.recordings(),
    )
