"""Pictures of the explorables, for their index and the site.

    .venv/bin/python docs/pictures.py        (needs Playwright and a Chromium)

It writes figures/interactive/NAME.webp, 640 by 400, which are committed.
"""

import io
import shutil
import tempfile
from pathlib import Path

from ntkdyn.figures import interactive
from PIL import Image
from playwright.sync_api import Page, sync_playwright

SIZE = (640, 400)

SHOWN = {
    "essay": "#product",
    "dgd_on_a_graph": "figure:has(#drawing-graph)",
    "one_mode": "figure:has(h2)",
    "flow_and_steps": "figure:has(h2)",
}
"""page -> what its picture begins with; the others' with their plots"""


def main() -> None:
    """Take them all."""
    with tempfile.TemporaryDirectory() as made, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
        interactive.write(Path(made))
        for path in interactive.files(Path(made))[1:]:
            page.goto(path.as_uri())
            page.wait_for_function("document.documentElement.dataset.ready === 'true'")
            picture = taken(page, SHOWN.get(path.stem, ".plots"))
            picture.save(Path(interactive.__file__).with_name(f"{path.stem}.webp"), quality=82)
        browser.close()


def taken(page: Page, selector: str) -> Image.Image:
    """The page from the top left of that element on, as wide as the plots are."""
    page.wait_for_timeout(800)
    box = page.locator(selector).first.bounding_box()
    wide = min(880, 1280 - box["x"])
    clip = {"x": box["x"], "y": box["y"], "width": wide, "height": wide * SIZE[1] / SIZE[0]}
    seen = page.screenshot(full_page=True, clip=clip)
    return Image.open(io.BytesIO(seen)).convert("RGB").resize(SIZE, Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
