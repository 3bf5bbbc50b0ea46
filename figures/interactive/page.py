"""What every explorable shares: one HTML file that holds plots, mathematics, text and exercises.

A page is a description: controls, plots, numbers to read, text, a formula, exercises. Bokeh draws;
`dynamics.js` holds the mathematics; `page.js` joins controls, plots and colours; a page's own
script, named like the page, says how its plots follow from its controls.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import jinja2
from bokeh.document import Document
from bokeh.embed import file_html
from bokeh.models import ColumnDataSource, CustomJS, DataRange1d, FixedTicker, Model, Range1d
from bokeh.plotting import figure
from bokeh.resources import Resources
from ntkdyn.figures.style import METHOD_NAMES, METHODS, OKABE_ITO

from ntkdyn.disk import MARK

Number = int | float

FONT = "system-ui, sans-serif"

SHARED = (
    "theme.js", "address.js", "undoing.js", "dynamics.js", "circle.js", "recordings.js",
    "drawing.js",
)  # fmt: skip
"""the mathematics, and what is drawn without Bokeh"""

SCRIPTS = (*SHARED, "page.js")

HERE = resources.files("ntkdyn.figures.interactive")


@dataclass(frozen=True)
class Slider:
    """A number to drag. On a logarithmic scale, limits and start are powers of ten."""

    name: str
    label: str
    low: Number
    high: Number
    start: Number
    step: Number
    scale: str = "linear"
    values: Sequence[str] | None = None
    """what to show at 0, 1, 2, ...; None shows the number itself"""
    upto: str | None = None
    """the slider whose value ends this one"""
    beside: str | None = None
    """the plot under which it stands, not among the others"""
    kind: str = "range"


@dataclass(frozen=True)
class Choice:
    """One of a few, (value, text) each."""

    name: str
    label: str
    options: Sequence[tuple[str, str]]
    start: str
    kind: str = "select"


@dataclass(frozen=True)
class Switch:
    """Shown or not."""

    name: str
    label: str
    colour: str
    start: bool = True
    kind: str = "checkbox"


@dataclass(frozen=True)
class Drawn:
    """What the reader draws by hand, as the page's script writes it: numbers `1_2.3_4`."""

    name: str
    on: Sequence[str]
    """controls that, when changed, take it away"""
    kind: str = "hidden"


@dataclass(frozen=True)
class Button:
    """Does what the page's script says."""

    name: str
    label: str
    beside: str
    kind: str = "button"


@dataclass(frozen=True)
class Exercise:
    """A question whose answer is a number within `tolerance`, or one of `options`."""

    question: str
    answer: Number | str
    hint: str
    why: str
    tolerance: Number | None = None
    options: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Plot:
    """A Bokeh figure and its place on the page."""

    figure: Model
    title: str
    caption: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Drawing:
    """A picture under the reader's hand, drawn by the page's script."""

    title: str
    caption: str
    view: str
    """the viewBox"""
    wide: bool = False
    figure: None = None


@dataclass(frozen=True)
class Page:
    """One explorable. Its formula and text are the blocks of NAME.html, which extends page.html."""

    name: str
    title: str
    lead: str
    controls: Sequence[Slider | Choice | Switch | Drawn | Button]
    readouts: Mapping[str, str]
    """name -> what it is"""
    plots: Mapping[str, Plot | Drawing]
    models: Mapping[str, Model]
    """what the page's script fills: sources, by name"""
    exercises: Sequence[Exercise]
    data: Mapping[str, Any] = field(default_factory=dict)
    """what the page's script needs to know, as JSON"""


def axes(
    x_label: str,
    y_label: str,
    *,
    x: tuple[Number, Number] | None = None,
    y: tuple[Number, Number] | None = None,
    log_x: bool = False,
    log_y: bool = False,
    height: int = 300,
) -> Any:
    """An empty plot with labelled axes, as wide as the page lets it be."""
    plot = figure(
        height=height,
        sizing_mode="stretch_width",
        x_axis_label=x_label,
        y_axis_label=y_label,
        x_range=Range1d(*x) if x else DataRange1d(),
        y_range=Range1d(*(y or (1e-3, 1))),
        x_axis_type="log" if log_x else "linear",
        y_axis_type="log" if log_y else "linear",
        toolbar_location=None,
        tools="",
        min_border_left=58,
        min_border_right=14,
        min_border_top=8,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
    )
    looks = dict(
        minor_tick_line_color=None,
        major_tick_line_color=None,
        axis_label_text_font=FONT,
        axis_label_text_font_size="13px",
        axis_label_text_font_style="normal",
        major_label_text_font=FONT,
        major_label_text_font_size="12px",
    )
    for axis in plot.axis:
        axis.update(**looks)
    return plot


def legend(plot: Any, location: str = "bottom_left") -> None:
    """Show the names of the plot's lines in a row."""
    plot.legend[0].update(
        location=location, orientation="horizontal", label_text_font=FONT,
        label_text_font_size="12px", padding=2, margin=4, background_fill_color=None,
        border_line_color=None,
    )  # fmt: skip


def source(*columns: str) -> ColumnDataSource:
    """Columns that the page's script fills."""
    return ColumnDataSource({column: [] for column in columns})


def ticks(plot: Any, axis: str, values: Sequence[Number]) -> None:
    """Fix where the axis has its labels."""
    getattr(plot, f"{axis}axis").ticker = FixedTicker(ticks=list(values))


def render(page: Page, pages: Sequence[Any]) -> str:
    """The page as one HTML file; `pages` are those it names beside itself."""
    plotted = {name: plot.figure for name, plot in page.plots.items() if plot.figure is not None}
    ranges, document = {}, Document()
    for name, drawn in plotted.items():
        ranges |= {f"{name}_x": drawn.x_range, f"{name}_y": drawn.y_range}
        drawn.name = name
        document.add_root(drawn)
    models = {**page.models, **ranges, **plotted}
    document.js_on_event(
        "document_ready", CustomJS(args={"models": models}, code="explorable.start(models)")
    )
    return file_html(
        document,
        Resources(mode="inline"),
        f"{page.title} · ntkdyn",
        template=template(f"{page.name}.html"),
        template_variables={
            "mark": MARK,
            "page": page,
            "pages": pages,
            "style": text("page.css"),
            "scripts": [text(name) for name in (*SCRIPTS, f"{page.name}.js")],
            "data": _script({"methods": METHODS, "method_names": METHOD_NAMES, **page.data}),
            "agents": OKABE_ITO,
            "answer": lambda exercise: json.dumps(
                {"answer": exercise.answer, "tolerance": exercise.tolerance}
            ),
            "json": json.dumps,
        },
        suppress_callback_warning=True,
    )


def contents(pages: Sequence[Any]) -> str:
    """The index of all pages, with a picture of each."""
    return template("index.html").render(
        mark=MARK,
        title="ntkdyn explorables",
        pages=pages,
        picture=_picture,
        style=text("page.css"),
        theme=text("theme.js"),
        agents=OKABE_ITO,
    )


def _picture(name: str) -> str:
    """That of a page, as an address that holds it; docs/pictures.py takes them."""
    held = base64.b64encode(HERE.joinpath(f"{name}.webp").read_bytes()).decode()
    return f"data:image/webp;base64,{held}"


def _script(data: Any) -> str:
    """As JSON that stays within a script, whatever titles and names hold."""
    return json.dumps(data).replace("<", "\\u003c")


def text(name: str) -> str:
    """A file of this folder."""
    return HERE.joinpath(name).read_text("utf-8")


def template(name: str) -> jinja2.Template:
    """A page to be filled in, which may extend another."""
    loader = jinja2.FunctionLoader(text)
    environment = jinja2.Environment(
        loader=loader, autoescape=False, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environment.get_template(name)
