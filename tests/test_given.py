"""Kernels and targets from outside: every form is taken, rounding set right."""

import ml_dtypes
import numpy as np
import pytest

import ntkdyn as nd
from ntkdyn import arrays, kernels, precision, sizes
from ntkdyn.kernels.compat import neural_tangents as nt

RNG = np.random.default_rng(0)
OWNER = np.arange(6) % 2
W = [[0.6, 0.4], [0.4, 0.6]]


def full_kernel(points=6, outputs=2):
    J = RNG.standard_normal((points * outputs, 30))
    return (J @ J.T).reshape(points, outputs, points, outputs)


def arrays_of(*args, **more):
    """All that a run is made of."""
    problem = nd.KernelProblem(*args, **more)
    return problem.kernel().whole, problem.task.targets, problem.task.owner, problem.initial


def same(one, other):
    return all(np.array_equal(*pair) for pair in zip(one, other, strict=True))


def test_every_form_of_a_kernel_is_the_same_problem():
    K, y, K_test = full_kernel(), RNG.standard_normal((6, 2)), RNG.standard_normal((3, 2, 6, 2))
    forms = [
        lambda K: K,
        lambda K: K.reshape(K.shape[0] * 2, -1),
        lambda K: K.transpose(0, 2, 1, 3),
    ]
    made = [
        arrays_of(form(K), y, OWNER, K_test=form(K_test), y_test=np.zeros((3, 2))) for form in forms
    ]
    assert same(made[0], made[1]) and same(made[0], made[2])
    even = (K + K.transpose(2, 3, 0, 1)) / 2
    assert (made[0][0] == np.concatenate([even, K_test])).all()
    # two points with two outputs: read as (n, k, n, k)
    square = full_kernel(2)
    read = nd.KernelProblem(square, np.ones((2, 2)), [0, 1]).kernel().whole
    assert (read == (square + square.transpose(2, 3, 0, 1)) / 2).all()


def test_one_output_needs_no_second_axis():
    K, y, f0 = full_kernel(outputs=1), RNG.standard_normal(6), RNG.standard_normal(6)
    flat = arrays_of(K[:, 0, :, 0], y, OWNER, f0)
    assert flat[0].shape == (6, 6) and flat[1].shape == flat[3].shape == (6, 1)
    assert same(flat, arrays_of(K[:, 0, :, 0], y[:, None], OWNER, f0[:, None]))
    assert same(flat, arrays_of(K, y, list(OWNER), f0)) and (flat[3][:, 0] == f0).all()


def test_what_compute_returns_is_taken():
    apply = lambda params, x: x @ params
    x, params = RNG.standard_normal((6, 3)).astype("f4"), np.ones((3, 2), "f4")
    full, trace = (kernels.compute(apply, params, x, form=form) for form in ("full", "trace"))
    y = RNG.standard_normal((6, 2))
    assert same(arrays_of(full, y, OWNER), arrays_of(full.values, y, OWNER))
    mean = nd.KernelProblem(trace, y, OWNER)
    assert np.allclose(mean.given.whole, np.einsum("ikjk->ij", full.values) / 2, atol=1e-5)
    assert mean.adjusted["kernel_shared"] == "the mean over 2 outputs, taken for each of them"
    assert same(arrays_of(full.values[:, 0, :, 0], y[:, 0], OWNER), one_output(apply, params, x, y))
    for form, lacks in ((0, "2 outputs apart"), ("diagonal", "pairs of points")):
        part = kernels.compute(apply, params, x, form=form)
        with pytest.raises(nd.InputError, match=f'form does not tell {lacks}; .* form="full"'):
            nd.KernelProblem(part, y, OWNER)


def one_output(apply, params, x, y):
    return arrays_of(kernels.compute(apply, params, x, form=0), y[:, 0], OWNER)


def test_what_compute_returns_at_test_points_is_taken():
    apply = lambda params, x: x @ params
    x, test = RNG.standard_normal((6, 3)).astype("f4"), RNG.standard_normal((4, 3)).astype("f4")
    args = apply, np.ones((3, 2), "f4")
    y, y_test = RNG.standard_normal((6, 2)), np.zeros((4, 2))
    K, K_test = kernels.compute(*args, x), kernels.compute(*args, test, x)
    problem = nd.KernelProblem(K, y, OWNER, K_test=K_test, y_test=y_test)
    assert (problem.given.whole[6:] == K_test.values.astype("f8")).all()
    with pytest.raises(nd.InputError, match="K_test: must have the form of K"):
        rows = kernels.compute(*args, test, x, form="trace")
        nd.KernelProblem(K, y, OWNER, K_test=rows, y_test=y_test)


def tensors(torch, kind):
    """What PyTorch users have, of that kind."""
    made = lambda values: torch.tensor(np.asarray(values, "f4"))
    return {
        "tensor": made,
        "tape": lambda values: made(values).requires_grad_() * 1,
        "parameter": lambda values: torch.nn.Parameter(made(values)),
        "sparse": lambda values: made(values).to_sparse(),
    }[kind]


@pytest.mark.parametrize("kind", ["tensor", "tape", "parameter", "sparse"])
def test_tensors_are_arrays(kind):
    torch = pytest.importorskip("torch")
    made, K, y = tensors(torch, kind), full_kernel().astype("f4"), RNG.standard_normal((6, 2))
    y = y.astype("f4")
    for form in (K, K.reshape(12, 12), K.transpose(0, 2, 1, 3)):
        taken = arrays_of(made(form), made(y), torch.tensor(OWNER), made(y))
        assert same(taken, arrays_of(form, y, OWNER, y))


def test_tensors_of_half_the_precision_are_arrays_of_it():
    torch = pytest.importorskip("torch")
    K = torch.tensor(full_kernel(outputs=1)[:, 0, :, 0]).to(torch.bfloat16)
    taken = arrays.plain("K", K)
    assert taken.dtype == ml_dtypes.bfloat16 and (taken.astype("f4") == K.float().numpy()).all()
    with pytest.raises(nd.InputError, match="K: must be real numbers, got complex ones"):
        arrays.numbers("K", torch.ones(2, dtype=torch.complex64).conj())


def test_tensors_made_dense_are_measured_first(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(sizes, "free", lambda: 1e6)
    nothing = torch.zeros((2, 0), dtype=int), torch.zeros(0)
    empty = torch.sparse_coo_tensor(*nothing, (10**5, 10**5), check_invariants=True)
    with pytest.raises(nd.InputError, match=r"K: \(100000, 100000\) made dense takes about 80 GB"):
        arrays.plain("K", empty)


@pytest.mark.parametrize("absolute", [False, True])
def test_ridge_is_that_of_neural_tangents(absolute):
    """Gradient flow of one agent that owns all points, in small steps, at test points too."""
    K, y, K_test = full_kernel(), RNG.standard_normal((6, 2)), RNG.standard_normal((3, 2, 6, 2))
    f0, f0_test = RNG.standard_normal((6, 2)), RNG.standard_normal((3, 2))
    K, reg = (K + K.transpose(2, 3, 0, 1)) / 2, {"diag_reg": 0.3}
    reg |= {"diag_reg_absolute_scale": absolute}
    problem = nd.KernelProblem(
        K, y, np.zeros(6, int), f0, K_test=K_test, y_test=np.zeros((3, 2)), f0_test=f0_test, **reg
    )
    trace = np.einsum("ikik", K) / 12
    assert problem.adjusted == {"ridge": pytest.approx(0.3 * (1 if absolute else trace))}
    flow = nd.dynamics.flow(problem, nd.methods.dgd(step_size=0.1), [[1.0]], [0, 7])
    assert flow.attrs["ridge"] == problem.adjusted["ridge"]
    with precision.double():
        pairs = [kernel.transpose(0, 2, 1, 3) for kernel in (K, K_test)]
        wanted = nt.predict.gradient_descent_mse(pairs[0], y, trace_axes=(), **reg)
        at = wanted(2 * 0.7, f0, f0_test, pairs[1])  # its loss is a mean over outputs too
    assert np.allclose(flow["outputs"][1, 0], np.concatenate(at), rtol=0, atol=1e-9)


@pytest.mark.usefixtures("types_unchecked")
def test_ridge_is_no_ridge_at_zero_and_refuses_what_is_none():
    K, y = full_kernel(), RNG.standard_normal((6, 2))
    assert same(arrays_of(K, y, OWNER), arrays_of(K, y, OWNER, diag_reg=0.0))
    for wrong in (-0.1, np.nan, "a", np.ones(2)):
        with pytest.raises(nd.InputError, match="diag_reg: must be finite and not negative, got"):
            nd.KernelProblem(K, y, OWNER, diag_reg=wrong)


@pytest.mark.parametrize("kind, noise", [("f8", 1e-9), ("f4", 1e-7), (ml_dtypes.bfloat16, 4e-3)])
def test_a_kernel_is_symmetric_but_for_the_rounding_of_its_dtype(kind, noise):
    J = RNG.standard_normal((6, 30))
    exact = J @ J.T
    rounded = (exact * (1 + noise * np.sign(np.triu(np.ones((6, 6)), 1)))).astype(kind)
    problem = nd.KernelProblem(rounded, np.ones(6), OWNER)
    whole = problem.kernel().whole
    assert (whole == whole.T).all() and np.abs(whole - exact).max() < 4 * noise * exact.max()
    record = nd.predict(problem, nd.methods.dgd(step_size=0.01), W, 1)
    assert record.attrs["kernel_adjusted"].startswith("symmetrised; entries differed by up to")
    assert problem.adjusted.keys() == {"kernel_adjusted"}
    assert nd.KernelProblem(exact, np.ones(6), OWNER).adjusted == {}
    far = exact + np.triu(np.full((6, 6), 0.6 * exact.max()), 1)
    with pytest.raises(nd.InputError, match="must be symmetric"):
        nd.KernelProblem(far.astype(kind), np.ones(6), OWNER)


def test_a_kernel_of_single_precision_as_computed():
    A = np.random.default_rng(0).standard_normal((30, 400)).astype(np.float32)
    K = A @ A[::1].T.copy()
    K[3, 5] = np.nextafter(K[3, 5], np.float32(np.inf))
    assert nd.KernelProblem(K, np.ones((30, 1)), np.arange(30) % 4).adjusted


EYE, ONES = np.eye(2), np.ones(2)

REFUSED = [
    (EYE * 1j, ONES, [0, 1], {}, "K: must be real numbers, got complex ones"),
    (EYE, ONES * 1j, [0, 1], {}, "y: must be real numbers, got complex ones"),
    (EYE, ["1", "2"], [0, 1], {}, "y: must be real numbers, got text"),
    (EYE, np.array([1, 2], "M8[D]"), [0, 1], {}, "y: must be real numbers, got dates"),
    (np.ma.masked_array(EYE), ONES, [0, 1], {}, "K: .* got a masked one"),
    (EYE, ONES, [0, 10**10], {}, "owner: agent 1 owns no point"),
    (EYE, ONES, np.array([0, 1.0]), {}, "owner: must be a list of whole numbers, got float64"),
    (EYE, ONES, ["a", "b"], {}, "owner: must be a list of whole numbers, got <U1"),
    (EYE, ONES, [], {}, "owner: must be a list of whole numbers"),
    (EYE, ONES, [0, 1], {"f0_test": [1]}, "f0_test: goes with K_test and y_test"),
    (EYE, ONES, [0, 1], {"K_test": EYE, "y_test": np.ones((2, 2))}, "y_test: must be .* = .2, 1"),
    (np.ones((2, 2, 3)), ONES, [0, 1], {}, r"K: must be \(2, 2\), the same .*got \(2, 2, 3\)"),
    ({}, ONES, [0, 1], {}, "K: must be "),
    (EYE, None, [0, 1], {}, "y: must be real numbers, got object"),
]  # fmt: skip


@pytest.mark.parametrize("K, y, owner, more, message", REFUSED)
def test_refused(K, y, owner, more, message):
    with pytest.raises(nd.InputError, match=message):
        nd.KernelProblem(K, y, owner, **more)


def test_a_kernel_that_does_not_fit_is_refused_before_it_is_copied(monkeypatch):
    monkeypatch.setattr(sizes, "free", lambda: 1e6)
    huge = np.broadcast_to(np.float32(0), (50_000, 50_000))
    with pytest.raises(nd.InputError, match=r"K: a kernel \(50000, 50000\) takes about 80 GB of"):
        nd.KernelProblem(huge, np.ones(50_000), np.zeros(50_000, int))


def test_a_bare_kernel_has_the_names_of_kernels_and_no_others():
    problem = nd.KernelProblem(EYE, ONES, [0, 1])
    dgd = nd.methods.dgd(step_size=0.1)
    for name in ("given", "empirical", "infinite"):
        assert (problem.kernel(name).whole == EYE).all()
    with pytest.raises(nd.InputError, match="no kernel is called 'nonsense'; known: empirical, gi"):
        nd.predict(problem, dgd, W, 1, kernel="nonsense")
    with pytest.raises(nd.InputError, match="ensemble: needs networks, whose starts are random"):
        nd.dynamics.ensemble(problem, dgd, W, 1, starts=nd.dynamics.Starts(0))
