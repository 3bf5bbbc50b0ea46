"""What the site takes from elsewhere in the repository, and formulas as MathML."""

import ast
import html
import importlib
import inspect
import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from ntkdyn.figures import interactive

ROOT = Path(__file__).parent.parent
TAKEN = (
    "figures/gallery/*.png", "figures/interactive/*.webp", "analysis/results/*.png",
    "analysis/results/*.md", "analysis/benchmarks/*.md", "papers/**/*.md", "papers/*/study.svg",
    "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md",
)  # fmt: skip
"""files that lie at the same path in the site"""

OTHERS = re.compile(r"\[([^]]+)\]\([^)\s]*(?:\.nc|\.py|\.json|/)\)")
"""links to what is no page"""

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)

SHOWN = "{ show_root_heading: true, show_root_toc_entry: true }"

NORM = re.compile(r"(?:\\[bB]ig[lr])?\\[lr]Vert")

REPLACED = {
    '<mn mathvariant="bold">1</mn>': "<mn>&#x1D7CF;</mn>",
    "<m[oi][^>]*>&#x02016;": '<mo stretchy="false" lspace="0" rspace="0">&#x02016;',
}
"""what browsers do not know of MathML, or would stretch, and what is written in its place"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is taken, the essay, a page for every module that `nav` has under reference/."""
    essay = interactive.essay.render(())
    files.append(File.generated(config, "explorables/essay.html", content=essay))
    for path in sorted(path for pattern in TAKEN for path in ROOT.glob(pattern)):
        place = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, place, abs_src_path=str(path)))
    modules = re.findall(r"'reference/([\w.]+)\.md'", str(config.nav))
    for module in modules:
        content = "\n".join(_reference(module, modules))
        files.append(File.generated(config, f"reference/{module}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Links as they are in the site, the table of benchmarks, the figures of the gallery."""
    if page.file.src_uri == "benchmarks.md":
        return markdown.replace("<!-- table -->", "\n".join(_benchmarks()))
    if page.file.src_uri == "explorables.md":
        return markdown.replace("<!-- explorables -->", "\n".join(_explorables()))
    if page.file.src_uri == "gallery.md":
        return markdown.replace("<!-- gallery -->", "\n".join(_gallery()))
    if page.file.src_uri.startswith("reference/"):
        return markdown
    return OTHERS.sub(r"\1", markdown.replace("docs/pages/", ""))


def on_page_content(content: str, **_: Any) -> str:
    """Formulas as MathML, which browsers lay out themselves."""
    return FORMULA.sub(_formula, content)


def on_post_page(output: str, **_: Any) -> str:
    """The theme's search is a dialog without a name."""
    return output.replace('role="dialog"', 'role="dialog" aria-label="Search"', 1)


def _reference(name: str, pages: Sequence[str]) -> Iterator[str]:
    """The page of a module: what it says of itself, and all it offers, once in the whole site."""
    module = importlib.import_module(name)
    offered = {each: getattr(module, each) for each in _public(module)}
    values = sorted(offered.items(), key=lambda item: not _home(item[1]))  # constants last
    paths = {_path(value) or f"{_source(name)}.{each}": value for each, value in values}
    yield f"# {name}\n\n::: {_source(name)}\n    options: {{ members: false }}\n"
    for path, value in paths.items():
        within = [page for page in pages if f"{_home(value)}.".startswith(f"{page}.")]
        page = max((each for each in within if _offers(each, value)), key=len, default=name)
        if page in ("ntkdyn", name):
            yield f"::: {path}\n    options: {SHOWN}\n"
        else:
            yield f"- [`{value.__qualname__}`][{path}]"


def _offers(name: str, value: Any) -> bool:
    module = importlib.import_module(name)
    return any(getattr(module, each) is value for each in _public(module))


def _public(module: ModuleType) -> list[str]:
    """What it offers, but for modules, which have pages of their own."""
    within = lambda value: f"{_home(value)}.".startswith(f"{module.__name__}.")
    names = getattr(module, "__all__", None) or [
        name for name, value in vars(module).items() if name[0] != "_" and within(value)
    ]
    return [name for name in names if not inspect.ismodule(getattr(module, name))]


def _home(value: Any) -> str:
    """The module of ntkdyn in which a function or class is written."""
    home = getattr(value, "__module__", None) or ""
    return home if hasattr(value, "__qualname__") and home.startswith("ntkdyn.") else ""


def _path(value: Any) -> str:
    """That of a function or class; a constant has none of its own."""
    return _source(f"{_home(value)}.{value.__qualname__}") if _home(value) else ""


def _source(name: str) -> str:
    """Where it is found: figures/ lies beside ntkdyn/."""
    return re.sub(r"^ntkdyn\.figures\b", "figures", name)


def _formula(found: re.Match) -> str:
    tag, opening, latex = found.groups()
    source = NORM.sub(r"\\|", html.unescape(latex))
    made = convert(source, display="block" if opening == "[" else "inline")
    for given, wanted in REPLACED.items():
        made = re.sub(given, wanted, made)
    return f"<{tag} class='formula'>{made}</{tag}>"


def _benchmarks() -> Iterator[str]:
    yield "| | case | against | ours | theirs | ratio |\n|---|---|---|---|---|---|"
    for path in sorted((ROOT / "analysis/benchmarks").glob("*.json")):
        page = f"[{path.stem}](analysis/benchmarks/{path.stem}.md)"
        for row in json.loads(path.read_text())["comparisons"]:
            ours, theirs = _seconds(row["ours"]), _seconds(row["theirs"])
            yield (
                f"| {page} | {row['case']} | {row['against']} | {ours} | {theirs} | "
                f"{row['ratio']:,.3g} |"
            )


def _gallery() -> Iterator[str]:
    sections = tomllib.loads((ROOT / "docs" / "gallery.toml").read_text())
    for title, figures in sections.items():
        yield f"## {title}\n\n<div class='gallery' markdown>\n"
        for name, commands in figures.items():
            tree = ast.parse((ROOT / "figures" / f"{name}.py").read_text())
            what = ast.get_docstring(tree).splitlines()[0]
            drawn = ROOT / "figures" / "gallery" / f"{name}.png"
            picture = f"![{name}](figures/gallery/{name}.png)\n\n" if drawn.exists() else ""
            yield f"<div markdown>\n\n{picture}**`{name}`** {what}\n"
            yield f"```sh\n{commands}\n```\n\n</div>\n"
        yield "</div>\n"


def _explorables() -> Iterator[str]:
    yield "<div class='gallery' markdown>\n"
    for page in (module.page() for module in interactive.PAGES):
        picture = f"![{page.title}](figures/interactive/{page.name}.webp)"
        yield f"<div markdown>\n\n{picture}\n\n**{page.title}** {page.lead}\n\n</div>\n"
    yield "</div>\n"


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"
