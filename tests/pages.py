"""The code on the pages of the documentation."""

import re
import textwrap
from pathlib import Path

PAGES = Path(__file__).parent.parent / "docs" / "pages"

FENCE = re.compile(r"^( *)```(\w*)([^\n]*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)


def text(page):
    """What is written on a page, by its path under docs/pages."""
    return (PAGES / page).read_text()


def codes(page, language, *, told=False):
    """The blocks of that language, in their order; those with a title on demand alone."""
    return [
        textwrap.dedent(code)
        for _, kind, title, code in FENCE.findall(text(page))
        if kind == language and (told or not title.strip())
    ]
