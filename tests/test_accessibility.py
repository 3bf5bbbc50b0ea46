"""Pages for all readers: what axe finds, and what the browser's own accessibility tree says.

axe-core is not among the packages of the tests. `npm pack axe-core`, unpacked, brings it, and
AXE=package/axe.min.js says where it is; without it these tests are skipped and the others are not.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ntkdyn.figures import interactive
from test_explore import SPEC

from ntkdyn import experiment

NAMES = ["index", *(path.stem for path in interactive.files(Path())[1:]), "own_run"]
SITE = ["index", "tutorial", "how-to/models", "how-to/methods", "theory", "gallery", "explorables",
        "benchmarks", "reference/ntkdyn"]  # fmt: skip
SERIOUS = {"serious", "critical"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def axe():
    path = os.environ.get("AXE")
    if path is None:
        pytest.skip("no axe-core: AXE does not say where axe.min.js is")
    return Path(path).read_text()


@pytest.fixture(scope="module")
def pages(pages):
    """Those of `ntkdyn teach`, and one of a run of one's own."""
    work = experiment.Experiment(experiment.parse(SPEC, "spec"))
    interactive.write_own(experiment.explored(work, work.train()), pages / "own_run.html")
    return pages


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The documentation, built."""
    pytest.importorskip("mkdocstrings")
    folder = tmp_path_factory.mktemp("site")
    config = Path(__file__).parent.parent / "docs" / "mkdocs.yml"
    built = [sys.executable, "-P", "-m", "mkdocs", "build", "--quiet", "-f", config, "-d", folder]
    subprocess.run(built, check=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    return folder


@pytest.fixture
def shown(browser, pages):
    """(name, scheme, width) -> that page."""
    opened = []

    def show(name, scheme, width):
        size = {"width": width, "height": 900}
        opened.append(browser.new_page(viewport=size, color_scheme=scheme, reduced_motion="reduce"))
        page = opened[-1]
        page.goto((pages / f"{name}.html").as_uri())
        if name != "index":
            page.wait_for_function("document.documentElement.dataset.ready === 'true'")
        for details in page.locator("details summary").all():
            details.click()
        return page

    yield show
    for page in opened:
        page.close()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scheme, width", [("light", 1440), ("dark", 1440), ("light", 390)])
def test_axe_finds_nothing_serious(shown, axe, name, scheme, width):
    faults = serious(axe, shown(name, scheme, width))
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("name", SITE)
@pytest.mark.parametrize("scheme, width", [("light", 1440), ("dark", 1440), ("light", 390)])
def test_axe_finds_nothing_serious_in_the_documentation(browser, site, axe, name, scheme, width):
    size = {"width": width, "height": 900}
    page = browser.new_page(viewport=size, color_scheme=scheme, reduced_motion="reduce")
    page.goto((site / f"{name}.html").as_uri())
    faults = serious(axe, page)
    page.close()
    assert not faults, "\n".join(faults)


def serious(axe, page):
    """What axe finds there that keeps somebody from using it."""
    page.evaluate(axe)
    found = page.evaluate("axe.run().then(({ violations }) => violations)")
    return [
        f"{fault['id']}: {node['target']} {node['failureSummary']}"
        for fault in found
        if fault["impact"] in SERIOUS
        for node in fault["nodes"]
    ]


@pytest.mark.parametrize("name", NAMES)
def test_everything_that_is_operated_has_a_name(shown, name):
    page = shown(name, "light", 1440)
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    operated = {"button", "slider", "combobox", "checkbox", "textbox", "link", "spinbutton"}
    named = {}
    for node in tree:
        if not node.get("ignored") and node["role"]["value"] in operated:
            named.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value"))
    assert all(name for names in named.values() for name in names), named
    assert "button" in named


@pytest.mark.parametrize("name", NAMES)
def test_headings_are_in_order_and_focus_goes_by_the_document(shown, name):
    page = shown(name, "light", 1440)
    levels = page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3, h4')].map((each) => Number(each.tagName[1]))"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
    assert page.locator('[tabindex]:not([tabindex="0"]):not([tabindex="-1"])').count() == 0


LOOKS = """() => {
  const at = document.activeElement;
  const look = () => [at, ...at.querySelectorAll("*")].map((each) => {
    const { outlineStyle, outlineWidth, stroke, strokeWidth } = getComputedStyle(each);
    return [outlineStyle === "none" ? "" : outlineWidth, stroke, strokeWidth];
  });
  const focused = JSON.stringify(look());
  at.blur();
  const plain = JSON.stringify(look());
  at.focus();
  return [at === document.body ? "BODY" : at.outerHTML.slice(0, 200), focused, plain];
}"""
"""what is in focus, and how it looks with and without"""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_who_goes_by_keyboard_sees_where_they_are(shown, name, scheme):
    """What is in focus looks unlike what is not, at every stop of the tab key."""
    page = shown(name, scheme, 1440)
    page.evaluate("document.activeElement?.blur()")
    stops = 0
    while True:
        page.keyboard.press("Tab")
        at, focused, plain = page.evaluate(LOOKS)
        if at == "BODY":
            break
        assert focused != plain, at
        stops += 1
    assert stops > 8


@pytest.mark.parametrize("name", NAMES)
def test_paper_is_light(shown, name):
    page = shown(name, "dark", 1440)
    ink = "getComputedStyle(document.documentElement).color"
    dark = page.evaluate(ink)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert page.evaluate(ink) != dark
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(ink) == dark
