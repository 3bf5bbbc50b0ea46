"""A headless Chromium for the tests of the explorables, or the reason why there is none."""

from __future__ import annotations

import shutil

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
