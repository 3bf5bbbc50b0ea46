"""Products without the matrix, diagnostics, and kernels at infinite width in tiles."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.linalg import eigvalsh

import ntkdyn as nd
from ntkdyn import precision
from ntkdyn.errors import InputError
from ntkdyn.kernels import diagnostics, infinite, products
from ntkdyn.kernels.compat import stax

NET = nd.networks.mlp((32,), outputs=2, b_std=0.1)
POINTS = np.random.default_rng(0).standard_normal((15, 3))


@pytest.fixture(scope="module")
def problem():
    """K v as a function, K as a matrix, in float64."""
    with precision.double():
        params = jax.tree.map(
            lambda leaf: jnp.asarray(leaf, jnp.float64), NET.start(jax.random.key(0), (3,))
        )
        product = jax.jit(products.matvec(NET.apply, params, jnp.asarray(POINTS), chunk=4))
        matrix = nd.kernels.compute(
            NET.apply, params, POINTS, options=nd.kernels.ComputeOptions(method="jacobian")
        ).matrix
        yield product, matrix


def test_products_are_the_matrixs(problem):
    product, matrix = problem
    with precision.double():
        v = jax.random.normal(jax.random.key(1), (15, 2), jnp.float64)
        seen = np.asarray(product(v)).reshape(-1)
    wanted = matrix @ np.asarray(v).reshape(-1)
    assert np.abs(seen - wanted).max() < 1e-12 * np.abs(wanted).max()


def test_leading_eigenpairs(problem):
    product, matrix = problem
    with precision.double():
        like = jnp.zeros((15, 2))
        values, vectors = products.leading(product, like, 3, depth=25, key=jax.random.key(2))
    exact = eigvalsh(matrix)[::-1]
    flat = np.asarray(vectors).reshape(3, -1)
    assert np.abs(np.asarray(values) - exact[:3]).max() < 1e-8 * exact[0]
    assert np.abs(flat @ flat.T - np.eye(3)).max() < 1e-8
    assert np.abs(matrix @ flat.T - flat.T * np.asarray(values)).max() < 1e-6 * exact[0]
    with precision.double():
        (largest,), _ = products.leading(product, like, 1, key=jax.random.key(2))
    assert abs(float(largest) - exact[0]) < 1e-8 * exact[0]
    for count in (0, 31):
        with pytest.raises(nd.InputError, match=f"count: must be from 1 to 30, got {count}"):
            products.leading(product, like, count, key=jax.random.key(2))


def test_trace_and_effective_dimension_within_their_errors(problem):
    product, matrix = problem
    exact = eigvalsh(matrix)
    ridge = float(exact[-6])
    with precision.double():
        like, key = jnp.zeros((15, 2)), jax.random.key(3)
        trace = products.trace(product, like, probes=200, key=key)
        dimension = products.effective_dimension(
            product, like, ridge, probes=200, depth=30, key=key
        )
    for (value, error), wanted in [
        (trace, exact.sum()),
        (dimension, (exact / (exact + ridge)).sum()),
    ]:
        assert 0 < error < 0.1 * wanted
        assert abs(value - wanted) < 4 * error


def test_refusals_of_products(problem):
    product, like, key = problem[0], jnp.zeros((15, 2)), jax.random.key(0)
    for call, said in [
        (lambda: products.matvec(NET.apply, {}, POINTS, chunk=0), "chunk: must be at least 1"),
        (lambda: products.leading(product, like, 31, key=key), "count: must be from 1 to 30"),
        (lambda: products.leading(product, like, 5, depth=3, key=key), "depth: must be at least"),
        (lambda: products.trace(product, like, probes=1, key=key), "probes: must be at least 2"),
        (
            lambda: products.effective_dimension(product, like, 0.0, key=key),
            "regularization: must be positive",
        ),
    ]:
        with pytest.raises(InputError, match=said):
            call()


# --- diagnostics --------------------------------------------------------------------------------


def with_spectrum(values, dtype=np.float64):
    basis, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((len(values), len(values))))
    return (basis * values @ basis.T).astype(dtype)


def test_a_diagnosis_is_the_spectrums():
    values = np.array([4.0, 2.0, 1.0, 0.5])
    seen = diagnostics.diagnose(with_spectrum(values))
    assert np.allclose([seen.smallest, seen.largest, seen.condition], [0.5, 4, 8], rtol=1e-12)
    assert (seen.rank, seen.size, seen.dtype, seen.jitter) == (4, 4, "float64", 0.0)
    assert "no jitter needed" in str(seen)
    singular = diagnostics.diagnose(with_spectrum(values * [1, 1, 0, 0], np.float32))
    assert (singular.rank, singular.dtype, singular.condition) == (2, "float32", np.inf)


def test_jitter_is_the_smallest_that_factors():
    kernel = with_spectrum(np.array([2.0, 1.0, -1e-6]))
    jitter = diagnostics.jitter(kernel)
    assert 1e-6 < jitter <= 2.1e-6
    np.linalg.cholesky(kernel + jitter * np.eye(3))
    assert "without it no Cholesky factor" in str(diagnostics.diagnose(kernel))
    with pytest.raises(InputError, match="positive diagonal"):
        diagnostics.jitter(-np.eye(3))
    with pytest.raises(InputError, match="must be square"):
        diagnostics.diagnose(np.ones((2, 3)))
    with pytest.raises(InputError, match="not finite"):
        diagnostics.diagnose(np.full((2, 2), np.nan))


def test_drift_and_alignment():
    kernel, y = with_spectrum(np.array([3.0, 2.0, 1.0])), np.array([1.0, -2.0, 0.5])
    assert diagnostics.drift(kernel, kernel) == 0
    assert np.isclose(diagnostics.drift(1.25 * kernel, kernel), 0.25)
    assert np.isnan(
        [diagnostics.drift(kernel, 0 * kernel), diagnostics.alignment(0 * kernel, y)]
    ).all()
    assert np.isclose(diagnostics.alignment(np.outer(y, y), y), 1)
    assert np.isclose(diagnostics.alignment(np.eye(3), y), 1 / np.sqrt(3))
    outer = y[:, None] * np.array([1.0, 0.5])
    full = np.einsum("nk,mj->nkmj", outer, outer)
    assert np.isclose(diagnostics.alignment(full, outer), 1)
    assert np.isclose(diagnostics.alignment(np.outer(y, y), outer), 1)
    for call, said in [
        (lambda: diagnostics.drift(kernel, np.eye(2)), "kernel's size"),
        (lambda: diagnostics.alignment(kernel, y[:2]), "must be 3"),
        (lambda: diagnostics.alignment(kernel, 0 * y), "not all be zero"),
    ]:
        with pytest.raises(InputError, match=said):
            call()


# --- infinite width -----------------------------------------------------------------------------

IDENTITY = stax.AttentionMechanism.IDENTITY.name
PATTERNS = np.random.default_rng(3).integers(0, 2, (9, 4, 4)).astype(float)

INFINITE = {
    "conv, pooling": (
        (stax.Conv(1, (3, 3), padding="SAME"), stax.Relu(), stax.AvgPool((2, 2)), stax.Flatten(),
         stax.Dense(1)),
        (4, 4, 2),
    ),
    "attention": (
        (stax.GlobalSelfAttention(
            1, 1, 1, 1, linear_scaling=False, attention_mechanism=IDENTITY),
         stax.Relu(), stax.GlobalAvgPool(), stax.Dense(1)),
        (4, 2),
    ),
    "layer norm, dropout": (
        (stax.Dense(1), stax.LayerNorm(), stax.Relu(), stax.Dropout(0.8), stax.Dense(1)), (5,)
    ),
    "aggregate": (
        (stax.Dense(1), stax.Aggregate(aggregate_axis=1, batch_axis=0, channel_axis=2),
         stax.Relu(), stax.GlobalAvgPool(), stax.Dense(1)),
        (4, 3),
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", INFINITE)
def test_infinite_kernels_in_tiles_are_neural_tangents(name, monkeypatch):
    monkeypatch.setattr(nd.kernels.tiles, "BLOCK", 4)
    layers, features = INFINITE[name]
    kernel = stax.serial(*layers)[2]
    x = np.random.default_rng(0).standard_normal((9, *features))
    graphs = {"pattern": (PATTERNS, PATTERNS)} if name == "aggregate" else {}
    patterns = (PATTERNS, PATTERNS[:3]) if graphs else None
    for get in ("ntk", "nngp"):
        seen = infinite.compute(kernel, x, get=get, patterns=patterns)
        with precision.double():
            wanted = np.asarray(kernel(jnp.asarray(x), None, get, **graphs))
        assert np.ptp(wanted) > 1e-3
        assert_near(seen.values, wanted)
        assert seen.plan.tiling.tiles == 6 and get in str(seen.plan)
    block = infinite.compute(kernel, x, x[:3], patterns=patterns).values
    whole = infinite.compute(kernel, x, patterns=patterns).values
    if "dropout" not in name:
        assert_near(block, whole[:, :3])


def assert_near(seen, wanted):
    """To rounding; of a point with itself to its square root, for arccos is taken next to 1."""
    difference = np.abs(seen - wanted) / np.abs(wanted).max()
    assert difference.max() < np.sqrt(np.finfo(float).eps)
    np.fill_diagonal(difference, 0)
    assert difference.max() < 1e-12


@pytest.mark.slow
def test_kernels_that_are_not_symmetric_are_averaged(monkeypatch):
    """Of numerical integration; in tiles and between two sets alike."""
    monkeypatch.setattr(nd.kernels.tiles, "BLOCK", 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        layer = stax.ElementwiseNumerical(jnp.tanh, deg=5)
    kernel = stax.serial(stax.Dense(1), layer, stax.Dense(1))[2]
    x = np.random.default_rng(0).standard_normal((6, 3)) * np.linspace(0.3, 3, 6)[:, None]
    with precision.double():
        theirs = np.asarray(kernel(jnp.asarray(x), jnp.asarray(x), "ntk"))
    apart = np.abs(theirs - theirs.T).max() / np.abs(theirs).max()
    assert apart > 0.01, "symmetric by itself"
    wanted = (theirs + theirs.T) / 2
    seen = infinite.compute(kernel, x)
    off = ~np.eye(6, dtype=bool)
    assert np.array_equal(seen.values, seen.values.T) and "averaged" in str(seen.plan)
    assert np.abs(seen.values - wanted)[off].max() < 1e-12 * np.abs(wanted).max()
    between = infinite.compute(kernel, x, x[:3]).values
    assert np.abs(between - wanted[:, :3]).max() < 1e-12 * np.abs(wanted).max()
    assert infinite.asymmetry(NET.kernel, x) == 0


@pytest.mark.slow
def test_infinite_kernels_in_files_and_budgets(tmp_path):
    kernel, other = (nd.networks.mlp((8,), outputs=1, w_std=w).kernel for w in (1.0, 1.5))
    x = np.random.default_rng(0).standard_normal((300, 3))
    path, options = tmp_path / "k.h5", nd.kernels.ComputeOptions
    whole = infinite.compute(kernel, x).values
    assert np.array_equal(
        infinite.compute(kernel, x, options=options(file=path, memory="25 MB")).values, whole
    )
    assert np.array_equal(infinite.compute(kernel, x, options=options(file=path)).values, whole)
    with pytest.raises(InputError, match="holds another kernel"):
        infinite.compute(other, x, options=options(file=path))
    for arguments, said in [
        ({"x1": x, "get": "ntkk"}, "did you mean 'ntk'"),
        ({"x1": x, "x2": x[:, :2]}, r"x2: .* features of x1, \(3,\), got \(2,\)"),
        ({"x1": x * np.nan}, "x1: point 0 is not finite"),
        ({"x1": x, "patterns": (PATTERNS, None)}, "one for each of the 300 points"),
        ({"x1": x, "options": options(memory="1 MB")}, "too few for one tile"),
    ]:
        with pytest.raises(InputError, match=said):
            infinite.compute(kernel, **arguments)
    conv = stax.serial(stax.Conv(1, (3, 3), padding="SAME"))[2]
    with pytest.raises(InputError, match="end the network with Flatten"):
        infinite.compute(conv, np.ones((2, 4, 4, 1)))
