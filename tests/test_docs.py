"""The documentation: its code runs, and what it names is there."""

import importlib
import inspect
import re
import shlex
import tomllib

import pages
import pytest
import typer.main
from typer.testing import CliRunner

import ntkdyn as nd
from ntkdyn import cli, figures

ALL = sorted(path.relative_to(pages.PAGES).as_posix() for path in pages.PAGES.rglob("*.md"))
WITH_CODE = [page for page in ALL if pages.codes(page, "python")]

SMALLER = {
    "index.md": {
        "1024, 1024": "16, 16",
        "train=400, test=400": "train=80, test=40",
        "min_points=32": "min_points=4",
        "[0, 3, 8, 18, 35, 60, 95, 140, 200, 270, 350, 430]": "[0, 3]",
        "rounds=500": "rounds=8",
    },
    "tutorial.md": {
        "(512,)": "(16,)",
        "rounds=200": "rounds=8",
        "[0, 3, 10, 25, 50, 100]": "[0, 3]",
    },
    "how-to/data.md": {"256, 256": "8,", "rounds=200": "rounds=8"},
    "how-to/models.md": {"256": "16", "rounds=20)": "rounds=4)"},
    "how-to/design.md": {"[128], [256], [512]": "[8], [16], [24]", "rounds = 2000": "rounds = 20"},
    "how-to/links.md": {"rounds=500": "rounds=6"},
    "dynamics.md": {"rounds=500": "rounds=8", "W, 500": "W, 8", "rounds=60": "rounds=6"},
}
"""page -> what its code has -> what it has here, so that it takes less time"""


def smaller(page, code):
    for written, here in SMALLER.get(page, {}).items():
        code = code.replace(written, here)
    return code


def ran(page, folder, monkeypatch):
    """The names that are left when all code of the page has run, one block after the other."""
    monkeypatch.chdir(folder)
    for n, code in enumerate(pages.codes(page, "toml")):
        (folder / ("spec.toml" if n == 0 else f"spec-{n}.toml")).write_text(smaller(page, code))
    names = {"__name__": "__main__"}
    for code in pages.codes(page, "python"):
        exec(compile(smaller(page, code), page, "exec"), names)
    return names


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_CODE)
def test_code_of_all_pages_runs(page, tmp_path, monkeypatch):
    ran(page, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("way", range(3))
def test_each_way_to_a_model_runs_without_the_others(way):
    page, names = "how-to/models.md", {}
    *ways, use = pages.codes(page, "python")[:4]
    for code in (ways[way], use):
        exec(compile(smaller(page, code), page, "exec"), names)
    assert 0 <= names["pred"]["train_loss"].min() < names["pred"]["train_loss"].max()


def test_what_is_made_smaller_is_on_the_page():
    for page, changes in SMALLER.items():
        code = "\n".join(pages.codes(page, "python") + pages.codes(page, "toml"))
        assert all(written in code for written in changes), page


def test_readme_has_the_code_of_the_first_page():
    (readme,) = pages.codes("../../README.md", "python")
    assert readme == pages.codes("index.md", "python")[0]


def commands():
    """(page, words) of every command of ntkdyn's that a page or the README shows."""
    gallery = tomllib.loads((pages.PAGES.parent / "gallery.toml").read_text())
    shown = {"gallery.toml": "\n".join(c for part in gallery.values() for c in part.values())}
    for page in [*ALL, "../../README.md"]:
        inline = re.findall(r"`(ntkdyn [^`]+)`", pages.text(page).replace("\n", " "))
        shown[page] = "\n".join([*pages.codes(page, "sh"), *inline])
    for page, text in shown.items():
        for line in re.split(r"\n|&&", text):
            if line.strip().startswith("ntkdyn "):
                yield page, shlex.split(line, comments=True)[1:]


def test_commands_and_their_options_are_there():
    seen = 0
    for page, words in commands():
        command = typer.main.get_command(cli.app)
        while words and hasattr(command, "commands"):
            if words[0].startswith("-"):
                break
            assert words[0] in command.commands, (page, words)
            command, words = command.commands[words[0]], words[1:]
        known = {name for each in command.params for name in [*each.opts, *each.secondary_opts]}
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options <= {*known, "--help"}, (page, words)
        seen += 1
    assert seen > 100


def test_figures_are_given_as_many_records_as_they_take():
    seen = 0
    for _, (command, *words) in commands():
        if command == "figure" and "--record" in words:
            drawn = inspect.signature(figures.FIGURES[words[0]].draw)
            drawn.bind(*range(words.count("--record")))
            seen += 1
    assert seen > 20


def test_functions_that_theory_names_are_there():
    named = re.findall(r"`(ntkdyn[\w.]*):(\w+)`", pages.text("theory.md"))
    assert len(named) > 50
    for module, name in named:
        found = getattr(importlib.import_module(module), name)
        assert inspect.getmodule(inspect.unwrap(found)).__name__ in (module, found.__module__)


def test_names_that_pages_speak_of_are_there():
    seen = 0
    for page in ALL:
        for name in re.findall(r"`nd\.([\w.]+)[`(]", pages.text(page)):
            found = nd
            for part in name.split("."):
                found = getattr(found, part)
            seen += 1
    assert seen > 40


def test_the_gallery_has_every_figure():
    gallery = tomllib.loads((pages.PAGES.parent / "gallery.toml").read_text())
    assert sorted(name for part in gallery.values() for name in part) == sorted(figures.FIGURES)


def test_every_page_is_on_the_map_of_the_site():
    nav = (pages.PAGES.parent / "mkdocs.yml").read_text()
    assert all(f" {page}\n" in nav for page in ALL)


def test_docs_are_found_or_it_is_said_how_to_build_them(tmp_path, monkeypatch):
    call = lambda: CliRunner().invoke(cli.app, ["docs", "--no-open"])
    monkeypatch.setattr(nd, "__file__", str(tmp_path / "ntkdyn" / "__init__.py"))
    refused = call()
    assert refused.exit_code == 2 and "`make docs`" in refused.output
    for place in ("docs/site", "ntkdyn/site"):  # a checkout's, a wheel's, which comes first
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "index.html").touch()
        assert call().output.strip() == str(tmp_path / place / "index.html")
