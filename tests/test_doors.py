"""What comes from outside: numbers, arrays and sizes are refused in one sentence, or taken."""

import importlib.util

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import scipy.sparse
from cases import small_data

import ntkdyn as nd
from ntkdyn import arrays, errors, figures, sizes, theory, validation
from ntkdyn.errors import InputError
from ntkdyn.theory import theorems  # noqa: F401, so that theory.theorems is there
from ntkdyn.validation import widths


def refused(message, call, *args, **settings):
    with pytest.raises(InputError, match=message):
        call(*args, **settings)


@pytest.fixture
def small_machine(monkeypatch):
    """A machine with 100 MB to spare."""
    monkeypatch.setattr(sizes, "free", lambda: 1e8)


def test_echoes_are_cut_and_the_way_out_stays():
    assert len(errors.shown("a" * 10_000)) == errors.ECHO
    assert errors.shown(-(10**5000)) == "a number of about 5000 digits"
    said = str(InputError(f"x: got {'a' * 10**6}; give fewer"))
    assert len(said) == errors.SENTENCE and said.startswith("x: got aaa")
    assert said.endswith("aaa; give fewer")
    refused("from 1 on, got a number of about 5000 digits", errors.check_whole, "x", -(10**5000), 1)
    assert str(InputError("x: got [[1, 2],\n  [3, 4]]")) == "x: got [[1, 2], [3, 4]]"
    assert len(str(errors.unknown("graph", "r" * 10**6, ["ring"]))) < 2 * errors.ECHO


@pytest.mark.parametrize("value", [3, np.int8(3), np.array(3), np.uint64(3)])
def test_whole_numbers_of_any_kind_are_taken(value):
    assert errors.check_whole("x", value, 1, 3) == 3


@pytest.mark.parametrize("value", [True, 3.0, np.array(3.0), np.array([3]), "3", None, np.True_])
def test_what_is_no_whole_number_is_refused(value):
    refused("x must be a whole number from 1 on, got", errors.check_whole, "x", value, 1)


def test_numbers_keep_their_dtype_and_its_rounding():
    for kind, eps in [("f4", 2**-23), ("f2", 2**-10), ("f8", 2**-52), ("i4", 2**-52)]:
        taken = arrays.numbers("x", np.ones(2, kind))
        assert taken.dtype == kind and arrays.rounding(taken.dtype) == eps
    half = arrays.numbers("x", np.ones(2, ml_dtypes.bfloat16))
    assert arrays.rounding(half.dtype) == 2**-7 and arrays.double("x", half, 1).dtype == "f8"


NO_NUMBERS = {
    "complex": (np.ones(2, complex), "x: must be real numbers, got complex ones"),
    "text": (["1", "2"], "got text"),
    "dates": (np.array(["2026-01-01"], "M8[D]"), "got dates"),
    "times": (np.array([1], "m8[s]"), "got times"),
    "objects": ([None, 1], "got object"),
    "masked": (np.ma.masked_array([1.0, 2.0], [0, 1]), "got a masked one; fill or drop its gaps"),
    "ragged": ([[1.0], [1.0, 2.0]], "must be an array of numbers; .*inhomogeneous"),
    "empty": ([], r"must hold at least one number, got shape \(0,\)"),
    "infinite": ([1, np.inf], "entry 1 is inf; all numbers must be finite"),
    "nan": ([[1, np.nan]], r"entry \(0, 1\) is nan"),
    "huge": (scipy.sparse.csr_array((10**5, 10**5)), "made dense takes about 80 GB of memory, and"),
}


@pytest.mark.usefixtures("small_machine")
@pytest.mark.parametrize("values, message", NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_arrays_that_are_no_numbers_are_refused(values, message):
    refused(message, arrays.numbers, "x", values)


def test_memory_is_what_is_left_of_the_machine_and_of_the_container(tmp_path, monkeypatch):
    assert 0 < sizes.free() <= sizes.machine()
    monkeypatch.setattr(sizes, "GROUP", tmp_path)
    (tmp_path / "memory.max").write_text("1500000\n")
    (tmp_path / "memory.current").write_text("500000\n")
    assert sizes.free() == 1e6
    refused("x takes about 1 TB of memory, and 1 MB are free; ask", sizes.check_room, "x", 1e12)
    sizes.check_room("x", 1e6)
    (tmp_path / "memory.max").write_text("max\n")
    assert sizes.free() > 1e6


PUBLIC = [
    nd, nd.data, nd.dynamics, nd.graphs, nd.kernels, nd.losses, nd.methods, nd.networks, nd.records,
    figures, theory, theory.theorems, validation,
]  # fmt: skip


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_modules_show_their_public_names_and_name_the_nearest(module):
    assert dir(module) == sorted(set(module.__all__)) and len(module.__all__) == len(dir(module))
    for name in module.__all__:
        inside = importlib.util.find_spec(f"{module.__name__}.{name}") if module is theory else None
        assert not name.startswith("_") and (inside or hasattr(module, name))
        with pytest.raises(AttributeError, match=f"has no attribute '{name}x'; did you mean '"):
            getattr(module, f"{name}x")
    assert not hasattr(module, "__nothing__")
    with pytest.raises(AttributeError, match=r"has no attribute 'qqqq'$"):
        module.qqqq  # noqa: B018


BARE = nd.KernelProblem(np.diag([1.0, 2.0, 3.0]), [[1.0], [2.0], [3.0]], [0, 1, 1])
HALVES = [[0.5, 0.5], [0.5, 0.5]]
DGD = nd.methods.dgd(step_size=0.1)

WRONG_KINDS = [
    (lambda: nd.data.Partition(None, [0], 1, "given"), "data: must be a Dataset, .* got NoneType"),
    (lambda: nd.data.partition(1, agents=2, seed=0), "data: must be a Dataset, as `data.load`"),
    (lambda: nd.data.partition(small_data(), agents=2, by=[], seed=0), "no partition is called"),
    (lambda: nd.data.load([], train=1, test=1, seed=0), "no dataset is called"),
    (lambda: nd.Problem(3, None), "partition: must be a Partition, as `data.partition` gives"),
    (lambda: nd.Problem([3], nd.data.Partition(small_data(), [0] * 14, 1, "")), "a Network, as"),
    (lambda: nd.methods.damped("dgd", 0.5), "method: must be a Method, .* got str"),
    (lambda: nd.methods.periodic(None, 2), "method: must be a Method, .* got NoneType"),
    (lambda: nd.methods.of_limit("a"), "a share of the limit must be positive, got 'a'"),
    (
        lambda: nd.predict(BARE, DGD, HALVES, 1, save=None),
        "save: must be a SaveOptions, .* got NoneType",
    ),
    (
        lambda: nd.predict(None, DGD, HALVES, 1),
        "problem: must be a Problem or a KernelProblem, got",
    ),
    (lambda: nd.step_size_limit(BARE, "dgd", HALVES), "method: must be a Method, .* got str"),
    (lambda: nd.predict(BARE, DGD, HALVES, 1, stability=True), "stability: must be a Stability"),
    (lambda: nd.predict(BARE, DGD, HALVES, 1, via=[]), r"via: must be the name .*, got \[\]"),
    (
        lambda: nd.predict(BARE, DGD, HALVES, 1, via=nd.dynamics.Scheme(tolerance="a")),
        "tolerance: must be .*, got 'a'",
    ),
    (lambda: nd.predict(BARE, DGD, HALVES, 1, kernel=[]), r"no kernel is called \[\]"),
    (lambda: nd.dynamics.minibatch_noise(BARE, DGD, HALVES, [1], batch_size=None), "batch_size: m"),
    (lambda: nd.dynamics.slowest_modes(BARE, DGD, HALVES, count=None), "count: must be a whole"),
    (lambda: nd.graphs.ring(10**5000), "to 9223372036854775807, got a number of about 5000 dig"),
    (lambda: nd.methods.gut(step_size=0.1, mu=10**5000), "must be .* got a number of about 5000"),
    (lambda: nd.losses.named(10**5000), "no loss is called a number of about 5000 digits"),
]


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("make, message", WRONG_KINDS)
def test_what_is_of_another_kind_is_refused(make, message):
    refused(message, make)


every = lambda rounds: nd.SaveOptions(record_every=rounds)

WRONG_RUNS = [
    ({"rounds": [0.9, 1.9]}, r"rounds: must be a whole .*, or a list of .* got \[0.9, 1.9\]"),
    ({"rounds": 6.0}, "rounds: must be a whole number, or a list of whole numbers, got 6.0"),
    ({"rounds": "a"}, "rounds: must be .*, got 'a'"),
    ({"rounds": None}, "rounds: must be .*, got None"),
    ({"rounds": True}, "rounds: must be .*, got True"),
    ({"rounds": []}, r"rounds: must be .*, got \[\]"),
    ({"rounds": [[1, 2]]}, "rounds: must be .*, got .*1, 2"),
    ({"rounds": -1}, "rounds: must be a whole number from 0 to 9007199254740992, got -1"),
    ({"rounds": 2**63}, "rounds: must be a whole number from 0 to 9007.*, got 9223"),
    ({"rounds": [3, 2]}, "rounds: must be ascending and not negative"),
    ({"rounds": [2**60]}, "rounds: must be ascending"),
    ({"rounds": [1], "save": every(1)}, "record_every: goes with a number of rounds"),
    ({"rounds": 3, "save": every(0)}, "record_every: must be a whole number from 1 on, got 0"),
    ({"rounds": 3, "save": every(0.5)}, "record_every: must be .*, got 0.5"),
    ({"rounds": 10**9, "save": every(1)}, "a record of 1000000001 rounds takes about 244 GB of"),
    ({"rounds": 3, "batch_size": 1.5, "batch_seed": 0}, "batch_size: must be .*, got 1.5"),
    ({"rounds": 3, "batch_size": 1, "batch_seed": 2**32}, "batch_seed: .* to 4294967295, got"),
]  # fmt: skip


@pytest.mark.usefixtures("small_machine", "types_unchecked")
@pytest.mark.parametrize("settings, message", WRONG_RUNS)
def test_rounds_and_batches_that_cannot_be_are_refused(settings, message):
    refused(message, nd.predict, BARE, DGD, HALVES, **settings)


@pytest.mark.usefixtures("types_unchecked")
def test_rounds_of_any_integer_kind_are_taken():
    run = lambda rounds: nd.predict(BARE, DGD, HALVES, rounds)["round"].values.tolist()
    assert run(np.int64(2)) == run(np.array(2)) == run(range(3)) == run((0, 1, 2)) == [0, 1, 2]


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("value", [lambda t: 0.1, "0.1", None, 1j, [0.1], np.array("a"), True])
def test_step_sizes_that_are_no_numbers_are_refused(value):
    refused("step size: must be a number, got", nd.methods.dgd, step_size=value)
    refused("step size: must be a number, got", DGD.with_step_size, value)


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("kind", [np.array, jnp.array, np.float32])
def test_numbers_in_arrays_are_checked_like_others(kind):
    refused(r"must be in \[0, 1\), got 2", nd.methods.heavy_ball, step_size=0.1, beta=kind(2.0))
    refused("step size: must be positive and finite, got -1", nd.methods.dgd, step_size=kind(-1.0))
    assert nd.methods.dgd(step_size=kind(0.5)).step_size == 0.5


def test_a_traced_step_size_is_still_taken():
    double = jax.jit(lambda step: 2 * nd.methods.dgd(step_size=step).step_size)
    assert double(0.25) == 0.5


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("seed", [-1, 2**32, 0.5, [0, 2**32]])
def test_seeds_that_would_draw_twice_are_refused(seed):
    """From 2^32 on JAX draws otherwise in single precision than in double."""
    share = nd.data.Partition(small_data(), np.arange(14) % 2, 2, "given")
    network = nd.networks.mlp((4,), outputs=2)
    refused(
        "seed must be a whole number from 0 to 4294967295", nd.Problem, network, share, seed=seed
    )


def _thousands():
    """A problem of 3,000 points, with a network of one layer and two outputs."""
    points = np.zeros((3000, 2), np.float32)
    many = nd.data.Dataset(
        "many", points, np.arange(3000) % 2, points[:1], np.array([0]), 2, "none"
    )
    share = nd.data.Partition(many, np.arange(3000) % 2, 2, "given")
    return nd.Problem(nd.networks.mlp((3,), outputs=2), share)


LINEAR = (lambda params, x: x @ params, np.ones((2, 2), "f4"), np.ones((6000, 2), "f4"))

TOO_LARGE = {
    "kernel": (lambda: nd.predict(_thousands(), DGD, HALVES, 1), "3001 and 3000 points .* 1.15 GB"),
    "infinite": (
        lambda: nd.predict(_thousands(), DGD, HALVES, 1, kernel="infinite"), "takes about 144 MB",
    ),
    "compute": (lambda: nd.kernels.compute(*LINEAR), "6000 x 2 x 6000 x 2 numbers .* 576 MB"),
    "widths": (
        lambda: nd.networks.mlp((40_000, 40_000), outputs=2).start(jax.random.key(0), (8,)),
        r"mlp: 1.6e\+09 parameters takes about 32 GB",
    ),
    "points": (
        lambda: nd.kernels.compute(*LINEAR[:2], np.ones((50_000, 2), "f4"), form="trace"),
        "50000 x 50000 numbers takes about 10 GB",
    ),
    "torus": (lambda: nd.graphs.torus(300, 300), "90000 agents .* GB"),
    "changes": (
        lambda: nd.graphs.sequences.link_failures(HALVES, 0.1, length=10**8, seed=0), "100000000"
    ),
    "starts": (
        lambda: widths.check("width", [4], range(10**9), ["empirical"]),
        "sweep: a record of 1000000000 runs takes about 1 TB",
    ),
}  # fmt: skip


@pytest.mark.usefixtures("small_machine")
@pytest.mark.parametrize("make, message", TOO_LARGE.values(), ids=TOO_LARGE)
def test_what_takes_more_than_there_is_is_refused_before_it_is_begun(make, message):
    refused(message, make)


@pytest.mark.usefixtures("types_unchecked")
def test_what_is_kept_is_named_by_whole_numbers():
    share = nd.data.Partition(small_data(), np.arange(14) % 2, 2, "given")
    problem = nd.Problem(nd.networks.mlp((3,), outputs=2), share)
    for settings, message in [
        ({"parameter_rounds": [0.5]}, r"parameter_rounds must be a list of whole .* got \[0.5\]"),
        ({"parameter_rounds": 1}, "parameter_rounds must be a list of whole numbers, got 1"),
        ({"parameter_agents": [0.5]}, "parameter_agents must be a list of whole numbers, got"),
        ({"trust": 1}, "trust: must be true or false, got 1"),
        ({"parameter_rounds": [1], "per_tensor": 0}, "per_tensor must be a whole number from 1 on"),
        ({"parameter_rounds": [1], "seed": "a"}, "seed must be a whole number from 0 on, got 'a'"),
    ]:
        refused(
            f"save: {message}", nd.predict, problem, DGD, HALVES, 1, save=nd.SaveOptions(**settings)
        )
