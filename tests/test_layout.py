"""The architecture holds: who imports whom, what is never imported, what is never committed."""

import ast
import re
import resource
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import setuptools
from ntkdyn.figures import interactive

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ntkdyn"

ALLOWED = {
    "errors": set(),
    "sizes": {"errors"},
    "arrays": {"errors", "sizes"},
    "archives": {"errors", "sizes"},
    "caches": set(),
    "display": set(),
    "progress": set(),
    "precision": {"caches"},
    "quantities": set(),
    "processes": {"errors"},
    "vectors": {"errors"},
    "thresholds": set(),
    "losses": {"errors"},
    "names": {"errors"},
    "graphs": {"archives", "arrays", "disk", "display", "errors", "names", "sizes"},
    "disk": {"errors"},
    "records": {"disk", "errors"},
    "data": {"archives", "arrays", "disk", "errors", "names", "sizes"},
    "kernels": {
        "arrays", "caches", "disk", "errors", "precision", "processes", "progress", "sizes",
    },
    "models": {"errors", "kernels", "precision"},
    "networks": {"errors", "kernels", "models", "precision", "sizes"},
    "spaces": {"kernels", "precision", "vectors"},
    "evaluation": {"spaces", "vectors"},
    "methods": {
        "data", "display", "errors", "graphs", "kernels", "losses", "precision", "spaces",
        "vectors",
    },
    "links": {"arrays", "errors", "graphs", "methods", "vectors"},
    "given": {"arrays", "errors", "kernels", "sizes"},
    "problems": {
        "data", "display", "errors", "given", "kernels", "linear", "losses", "networks",
        "precision", "sizes", "spaces",
    },
    "linear": {"errors", "precision", "spaces"},
    "system": {"data", "display", "errors", "graphs", "linear", "methods", "problems"},
    "saving": {"arrays", "errors", "kernels", "processes", "vectors"},
    "measures": {"precision", "problems"},
    "sharding": {"errors", "processes", "spaces", "vectors"},
    "engine": {"data", "evaluation", "losses", "methods", "sharding", "spaces", "vectors"},
    "linearization": {
        "engine", "errors", "kernels", "methods", "precision", "problems", "spaces", "vectors",
    },
    "memory": {"engine", "errors", "sharding", "sizes"},
    "checkpoints": {"disk", "errors", "kernels", "processes"},
    "runs": {
        "arrays", "checkpoints", "engine", "errors", "graphs", "saving", "kernels", "measures",
        "methods", "names", "precision", "problems", "processes", "quantities", "records",
        "sharding", "sizes", "spaces", "system", "vectors",
    },
    "dynamics": {
        "arrays", "cluster", "data", "engine", "errors", "graphs", "saving", "kernels", "linear",
        "linearization", "links", "losses", "measures", "methods", "networks", "precision",
        "problems", "processes", "progress", "quantities", "records", "runs", "sizes", "spaces",
        "system", "thresholds", "vectors",
    },
    "figures": {"disk", "errors", "records"},
    "validation": {
        "archives", "arrays", "checkpoints", "data", "disk", "dynamics", "engine", "errors",
        "graphs", "saving", "kernels", "linear", "links", "losses", "measures", "memory", "methods",
        "names", "networks", "precision", "problems", "progress", "quantities", "records", "runs",
        "sharding", "sizes", "spaces", "system",
    },
    "theory": {
        "arrays", "dynamics", "engine", "errors", "graphs", "kernels", "linear", "losses",
        "methods", "networks", "precision", "problems", "records", "system", "thresholds",
        "validation", "vectors",
    },
    "drafts": {"data", "disk", "errors", "graphs"},
    "experiment": {
        "checkpoints", "data", "disk", "dynamics", "engine", "errors", "figures", "graphs",
        "saving", "kernels", "linear", "links", "losses", "methods", "networks", "problems",
        "records", "runs", "system", "theory", "validation",
    },
    "cluster": {"errors", "records"},
    "design": {
        "checkpoints", "cluster", "disk", "dynamics", "engine", "errors", "experiment", "graphs",
        "losses", "measures", "methods", "precision", "quantities", "records", "runs", "sizes",
        "spaces", "system", "validation",
    },
    "bench": {
        "checkpoints", "data", "dynamics", "engine", "errors", "graphs", "saving", "kernels",
        "methods", "networks", "precision", "problems", "records", "runs",
    },
    "health": {"kernels"},
    "__main__": {"cli"},
    "conformance": {
        "archives", "arrays", "data", "disk", "errors", "graphs", "methods", "precision", "vectors",
    },
    "cli": {
        "bench", "cluster", "conformance", "design", "disk", "drafts", "errors", "experiment",
        "figures", "graphs", "health", "methods", "papers", "progress", "records", "theory",
    },
    "papers": {
        "checkpoints", "data", "design", "disk", "engine", "errors", "methods", "records",
    },
}  # fmt: skip
"""module or package -> what of ntkdyn it may import"""


def sources():
    """(module of ntkdyn, file) of everything that is shipped."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path != PACKAGE / "__init__.py":
            yield path.relative_to(PACKAGE).parts[0].removesuffix(".py"), path
    for name in ("figures", "papers"):
        for path in sorted((ROOT / name).rglob("*.py")):
            yield name, path


def imported(path):
    """Every dotted name that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_who_imports_whom():
    seen = {}
    for module, path in sources():
        for name in imported(path):
            if name.startswith("ntkdyn."):
                seen.setdefault(module, set()).add(name.split(".")[1])
    for module, path in sources():
        assert module in ALLOWED, f"{path} is not on the map"
        outside = seen.get(module, set()) - ALLOWED[module] - {module}
        assert not outside, f"{path}: {module} must not import {outside}"
    unused = {module: ALLOWED[module] - seen.get(module, set()) for module in ALLOWED}
    assert not any(unused.values()), f"allowed but not used: {unused}"


def test_figures_know_no_jax():
    for module, path in sources():
        if module == "figures":
            roots = {name.split(".")[0] for name in imported(path)}
            assert not roots & {"jax", "jaxlib", "equinox", "neural_tangents"}, path


def test_one_file_knows_neural_tangents_and_jaxs_internals():
    for _, path in sources():
        names = set(imported(path))
        if path.name != "compat.py":
            assert not any(name.split(".")[0] == "neural_tangents" for name in names), path
            private = [
                n for n in names if n.startswith(("jax._src", "jax.core", "jax.interpreters"))
            ]
            assert not private, path


def test_importing_ntkdyn_changes_nothing_and_brings_no_tensorflow():
    code = """
import sys, jax, jax.core, jax.random, jax.interpreters.ad
before = [set(vars(m)) for m in (jax.core, jax.random, jax.interpreters.ad)]
x64, modules = jax.config.jax_enable_x64, set(sys.modules)
import ntkdyn, ntkdyn.cli, ntkdyn.experiment
assert [set(vars(m)) for m in (jax.core, jax.random, jax.interpreters.ad)] == before
assert jax.config.jax_enable_x64 == x64
assert "neural_tangents" in sys.modules
assert not {"tensorflow", "tf2jax", "jax.util", "neural_tangents.experimental"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def seconds(*arguments):
    """Of the processor's time, of a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, cwd=ROOT, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_and_import_wait_for_nothing():
    jax, imported = (min(seconds("-c", f"import {name}") for _ in range(2)) for name in STARTED)
    shown = min(seconds("-m", "ntkdyn", "--help") for _ in range(2))
    assert imported < 0.5 * jax
    assert shown < 0.8 * jax
    code = """
import sys, ntkdyn as nd, ntkdyn.cli
assert "jax" not in sys.modules and "scipy" not in sys.modules
assert nd.theory.rates.rate and nd.predict and nd.validation.nulls
assert set(nd.__all__) == {name for name in nd.__all__ if getattr(nd, name) is not None}
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


STARTED = ("jax", "ntkdyn")


def test_a_jax_that_breaks_neural_tangents_is_named_with_it():
    code = """
import sys, jax
jax.__version__ = "0.99.0"
sys.modules["neural_tangents"] = None
try:
    import ntkdyn.kernels.compat
except ImportError as error:
    said = str(error)
    assert "neural-tangents 0.6.5" in said and "JAX 0.99.0" in said and "halted" in said, said
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_every_package_is_shipped(monkeypatch):
    """With the folder each is taken from, as setuptools is told."""
    told = {}
    monkeypatch.setattr(setuptools, "setup", lambda **kept: told.update(kept))
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    there = {".".join(p.parent.relative_to(ROOT).parts) for p in PACKAGE.rglob("__init__.py")}
    there |= {"ntkdyn.figures", "ntkdyn.figures.interactive", "ntkdyn.papers"}
    assert set(told["packages"]) == there and "ntkdyn.theory.theorems" in there
    assert told["package_dir"] == {"ntkdyn.figures": "figures", "ntkdyn.papers": "papers"}


def test_every_file_of_the_explorables_is_shipped():
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = setup["package-data"]["ntkdyn.figures.interactive"]
    folder = ROOT / "figures" / "interactive"
    files = {path for path in folder.iterdir() if path.is_file() and path.suffix != ".py"}
    assert files == {path for pattern in patterns for path in folder.glob(pattern)}
    for page in interactive.PAGES:
        name = page.__name__.rsplit(".")[-1]
        assert {folder / f"{name}.html", folder / f"{name}.js"} <= files


def tracked():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_committed_file_holds_an_address_of_a_registry():
    pattern = re.compile(rb"index[-]url|[/]simple[/]|files[.]pythonhosted|registry *=")
    for path in tracked():
        if path != Path(__file__):
            assert not pattern.search(path.read_bytes()), path
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock and "tensorflow" not in lock and "tf2jax" not in lock
    pinned = re.findall(r"^[A-Za-z0-9._-]+==", lock, re.M)
    assert len(pinned) > 40 and lock.count("--hash=sha256:") >= len(pinned)


def test_the_lock_holds_all_that_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *sum((extras[n] for n in extras if n != "torch"), [])]
    names = {re.match(r"[A-Za-z0-9._-]+", each)[0].lower() for each in asked}
    locked = set(re.findall(r"^([a-z0-9._-]+)==", (ROOT / "requirements.lock").read_text(), re.M))
    assert names - locked == set() and "numpy" in names


def test_figures_and_studies_are_on_the_map():
    """ARCHITECTURE.md names every module and folder, and nothing that is not there."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = set(re.findall(r"^\s*([a-z_]+(?:\.py|/)) ", text, re.M))
    there = {p.name for p in PACKAGE.glob("*.py")} - {"__init__.py", "__main__.py"}
    there |= {f"{p.parent.name}/" for p in PACKAGE.glob("*/__init__.py")}
    assert there <= named, there - named
