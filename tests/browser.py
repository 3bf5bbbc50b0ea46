"""A headless Chromium for the tests of pages, or the reason why there is none, and its readers."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium():
    """The path of an installed browser; skips the test where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    return found


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A folder with all explorables."""
    from ntkdyn.figures import interactive

    folder = tmp_path_factory.mktemp("teach")
    interactive.write(folder)
    return folder


@pytest.fixture(scope="module")
def browser():
    """A running one."""
    executable = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield launched
        launched.close()


class Reader:
    """Somebody in front of a page, who also hears its console and its network."""

    def __init__(self, browser, path):
        self.page = browser.new_page(viewport={"width": 1440, "height": 900}, color_scheme="light")
        self.said, self.fetched = [], []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.fetched.append(request.url))
        self.path = path
        self.open()

    def _hear(self, message):
        if message.type in ("error", "warning"):
            self.said.append(message.text)

    def open(self, settings=""):
        self.page.goto("about:blank")
        self.page.goto(self.path.as_uri() + settings)
        self.page.wait_for_function("document.documentElement.dataset.ready === 'true'")

    def reset(self):
        """As it was when it was opened."""
        before = self.page.evaluate("explorable.timings.length")
        self.page.click("#reset")
        self.page.wait_for_function(f"explorable.timings.length > {before}")

    def set(self, **settings):
        """Move controls as a reader does, and wait until the page has answered."""
        for name, value in settings.items():
            before = self.page.evaluate("explorable.timings.length")
            self.page.evaluate(
                """([name, value]) => {
                  const input = document.getElementById(`control-${name}`);
                  if (input.type === "checkbox") input.checked = value; else input.value = value;
                  input.dispatchEvent(new Event("input", { bubbles: true }));
                }""",
                [name, value],
            )
            self.page.wait_for_function(f"explorable.timings.length > {before}")

    def ask(self, expression):
        """A value computed in the page, as Python has it."""
        text = self.page.evaluate(f"JSON.stringify({expression})")
        return json.loads(text, parse_int=float)

    def readout(self, name):
        return float(self.page.evaluate(f"document.getElementById('readout-{name}').dataset.value"))


@pytest.fixture(scope="module")
def opened():
    """name -> the reader of that page."""
    return {}


@pytest.fixture
def read(browser, pages, opened):
    """name -> a reader of that page, as it opens; a fault in the page fails the test."""

    def of(name):
        if name in opened:
            opened[name].reset()
        else:
            opened[name] = Reader(browser, pages / f"{name}.html")
        return opened[name]

    yield of
    for reader in opened.values():
        away = [url for url in reader.fetched if not url.startswith(("file:", "data:", "about:"))]
        assert away == [] and reader.said == []


def least_answer(page):
    """Milliseconds of the quickest of some answers, more where others use the machine."""
    taken = min(press_and_time(page).min() for _ in range(3))
    for _ in range(8):
        taken = taken if taken < 50 else press_and_time(page).min()
    return taken


def press_and_time(page, times=6):
    """Milliseconds of the processor from each key press until the page has drawn.

    Not of the clock, and the least counts: others use the machine, and what they take, of the time
    and of the processor's pace, is not the page's doing.
    """
    metrics = page.page.context.new_cdp_session(page.page)
    metrics.send("Performance.enable", {"timeDomain": "threadTicks"})
    spent = [_processor_time(metrics)]
    for press in range(times):
        before = page.page.evaluate("explorable.timings.length")
        page.page.keyboard.press("ArrowLeft" if press % 2 else "ArrowRight")
        page.page.wait_for_function(f"explorable.timings.length > {before}")
        spent.append(_processor_time(metrics))
    metrics.detach()
    return np.diff(spent)


def _processor_time(metrics):
    """Milliseconds that the page's main thread has spent in tasks."""
    told = {
        each["name"]: each["value"] for each in metrics.send("Performance.getMetrics")["metrics"]
    }
    return 1e3 * told["TaskDuration"]
