"""The lessons run as scripts: their cells assert what their text says."""

import runpy
from pathlib import Path

import pytest

LESSONS = sorted((Path(__file__).parent.parent / "analysis" / "lessons").glob("*.py"))


def test_there_are_six():
    assert len(LESSONS) == 6


@pytest.mark.slow
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_lesson_runs(path):
    app = runpy.run_path(str(path), run_name="lesson")["app"]
    outputs, defined = app.run()
    assert len(outputs) >= 4 and "mo" in defined
