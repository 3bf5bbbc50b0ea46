"""Packages are found: all of ntkdyn/, and figures/, which is ntkdyn.figures when installed."""

from setuptools import find_packages, setup

figures = ["ntkdyn.figures", *(f"ntkdyn.figures.{name}" for name in find_packages("figures"))]
setup(
    packages=find_packages(include=["ntkdyn", "ntkdyn.*"]) + figures,
    package_dir={"ntkdyn.figures": "figures"},
)
