"""What public names say of themselves: sections that are there, examples that run."""

import doctest
import importlib.util
import inspect
import re

import pytest
from test_surface import public

import ntkdyn as nd
from ntkdyn import design, experiment

ROOMS = (
    "conformance", "data", "design", "dynamics", "experiment", "graphs", "kernels", "links",
    "losses", "methods", "networks", "records", "theory", "validation",
)  # fmt: skip
WHOLE = {"ntkdyn", *(f"ntkdyn.{room}" for room in ROOMS)}
WHOLE |= {f"ntkdyn.theory.{room}" for room in nd.theory.__all__}
"""Rooms all of whose names have all sections."""

FUNCTION = ("Args", "Returns", "Raises", "Example")
CLASS = ("Example",)

RAISES_NOTHING = {
    "about", "agent_names", "bounds_of", "cells", "closed_graph", "complete", "computable",
    "damped", "davis", "demo", "described", "dyck", "environment", "flat", "followable",
    "four_rings", "full", "has_flow", "numeric", "of_another", "open_loop", "petersen", "proven",
    "random_alignments", "ranked", "record", "record_of", "said", "schema", "section", "shipped",
    "sign", "text", "two_agents", "typeset",
}  # fmt: skip

NAMED = [(name, value) for room, name, value in public() if room in WHOLE]


def parameters(value):
    """Of a function, or of what makes one of a class; exceptions take a sentence."""
    exception = inspect.isclass(value) and issubclass(value, Exception)
    return {} if exception else inspect.signature(value).parameters


def sections(value):
    return re.findall(r"^([A-Z][a-z]+):$", inspect.getdoc(value), re.M)


@pytest.mark.parametrize("name, value", NAMED, ids=[name for name, _ in NAMED])
def test_public_names_say_what_they_take_give_and_refuse(name, value):
    wanted = CLASS if inspect.isclass(value) else FUNCTION
    taken = parameters(value)
    missing = set(wanted) - set(sections(value)) - ({"Args"} if not taken else set())
    assert missing <= ({"Raises"} if name in RAISES_NOTHING else set()), name
    for each in taken if "Args" in sections(value) else ():
        assert re.search(rf"\b{each}\b", inspect.getdoc(value)), (name, each)


def test_every_public_name_says_what_it_is():
    for room, name, value in public():
        first = (inspect.getdoc(value) or "").split("\n")[0]
        assert first, (room, name)


@pytest.fixture(scope="module")
def names():
    """What the examples stand on, as the docstrings of the package and of two rooms make it."""
    made = {}
    for room in (nd, experiment, design):
        run(room.__name__, room.__doc__, made)
    return made


def run(name, text, names):
    """Run the examples of a docstring; names they make stay."""
    found = doctest.DocTestParser().get_doctest(text, {}, name, None, 0)
    found.globs, said = names, []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(found, out=said.append, clear_globs=False)
    assert not runner.failures, "".join(said)
    return runner.tries


def examples():
    """Of all public names, wherever they are."""
    return [(name, value) for _, name, value in public() if ">>>" in (inspect.getdoc(value) or "")]


COMPILED = {
    "Anchoring", "Corrections", "Findings", "account", "best_rounds", "best_split",
    "best_step_size", "by_search", "certify", "compare", "effective_agents", "ensemble", "explored",
    "improve", "optimal_step_size", "predict_beside", "price_in_samples", "run", "sweep",
    "whole_map", "write_report",
}  # fmt: skip
"""Examples that take programs of their own, or many numbers."""

RUN = [
    pytest.param(name, value, id=name, marks=[pytest.mark.slow] if name in COMPILED else [])
    for name, value in examples()
    if name != "from_torch" or importlib.util.find_spec("torch")
]


@pytest.mark.parametrize("name, value", RUN)
def test_examples_run(name, value, names):
    assert run(name, inspect.getdoc(value), dict(names))
