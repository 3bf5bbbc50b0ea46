"""Packages are found: all of ntkdyn/; figures/ and papers/ are ntkdyn.figures and ntkdyn.papers.

A wheel carries the documentation as ntkdyn/site where what builds it is installed (extra `docs`).
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

DOCS = Path(__file__).parent / "docs" / "mkdocs.yml"
BUILDERS = ("material", "mkdocstrings", "latex2mathml", "neural_tangents")


class WithDocs(build_py):
    """The packages, and the pages that describe them."""

    def run(self) -> None:
        super().run()
        can = all(map(importlib.util.find_spec, BUILDERS))
        if can and DOCS.exists() and not self.editable_mode:
            built = Path(self.build_lib).resolve()
            build = ["-P", "-m", "mkdocs", "build", "--quiet", "--config-file", DOCS]
            subprocess.run(
                [sys.executable, *build, "--site-dir", built / "ntkdyn" / "site"],
                check=True,
                env={**os.environ, "PYTHONPATH": str(built), "NO_MKDOCS_2_WARNING": "1"},
            )


figures = ["ntkdyn.figures", *(f"ntkdyn.figures.{name}" for name in find_packages("figures"))]
setup(
    packages=find_packages(include=["ntkdyn", "ntkdyn.*"]) + figures + ["ntkdyn.papers"],
    package_dir={"ntkdyn.figures": "figures", "ntkdyn.papers": "papers"},
    cmdclass={"build_py": WithDocs},
)
