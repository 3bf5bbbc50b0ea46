"""The public surface: few parameters, few methods, and what every public name says of itself."""

import inspect

import pytest

import ntkdyn as nd
from ntkdyn import design, experiment

MOST = 6
"""Parameters of a function beside what it is asked of."""

METHODS = 10
"""Public methods of a class, its properties apart: these are data."""

SUBJECTS = [
    {"problem", "method", "weights", "kernel", "batch_size", "batch_seed", "batches", "stability"},
    {"spectrum", "target", "method", "weights", "counts"},  # of a learning curve
    {"apply", "params"},  # of a kernel
    {"study", "goal"},  # of a search
    {"work"},  # of a spec at work
]
"""What questions are put to: a system or its parts, and what stands in its place elsewhere."""

SETTINGS = "its settings are the keys of a spec's table, each by its own name: "
EXCEPTED = {
    "read": SETTINGS + "[data], with those of a file's columns",
    "partition": SETTINGS + "[partition]; each way of dealing points has one or two of its own",
    "mhd": SETTINGS + "[method]; they are the numbers of its paper",
    "cnn": SETTINGS + "[network]",
    "resnet": SETTINGS + "[network]",
    "lenet5": SETTINGS + "[network]",
    "resnet20": SETTINGS + "[network]",
    "vgg11": SETTINGS + "[network]",
}


def public():
    """(room, name, value) of all functions and classes, each once."""
    rooms = [nd, design, experiment]
    for room in (nd, nd.theory):
        named = [getattr(room, name) for name in room.__all__]
        rooms += [each for each in named if inspect.ismodule(each)]
    found = {}
    for room in rooms:
        for name in room.__all__ if hasattr(room, "__all__") else vars(room):
            value = getattr(room, name)
            if not name.startswith("_") and callable(value) and "ntkdyn" in value.__module__:
                found.setdefault(id(value), (room.__name__, name, value))
    return sorted(found.values(), key=lambda each: each[:2])


def parameters(function):
    """Of its own, without those of its subject."""
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    return min(([n for n in names if n not in subject] for subject in SUBJECTS), key=len)


def functions():
    """(name, function) of public functions and of the public methods of public classes."""
    for room, name, value in public():
        if inspect.isfunction(value):
            yield f"{room}.{name}", name, value
        elif inspect.isclass(value):
            for each, method in vars(value).items():
                if inspect.isfunction(method) and not each.startswith("_"):
                    yield f"{room}.{name}.{each}", each, method


def test_there_is_a_surface():
    names = {name for _, name, _ in public()}
    assert len(names) > 200 and {"predict", "compute", "Problem", "search", "sweep"} <= names


def test_public_functions_take_few_parameters():
    many = {
        name: len(parameters(function)) for name, _, function in functions()
        if len(parameters(function)) > MOST
    }  # fmt: skip
    assert {name.split(".")[-1] for name in many} == set(EXCEPTED), many


@pytest.mark.parametrize("question", [nd.predict, nd.train])
def test_what_is_asked_of_a_system_is_counted_without_it(question):
    assert parameters(question)[0] == "rounds" and len(parameters(question)) == MOST


def test_public_classes_have_few_methods():
    for room, name, value in public():
        if inspect.isclass(value):
            own = [n for n, each in vars(value).items() if inspect.isfunction(each) and n[0] != "_"]
            assert len(own) <= METHODS, (room, name, own)
