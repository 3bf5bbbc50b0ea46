"""Kernels: the structured ones against dense Jacobians, known answers, and neural-tangents."""

import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import quick_if

from ntkdyn import networks, precision
from ntkdyn.kernels import empirical, infinite
from ntkdyn.kernels.compat import neural_tangents, stax
from ntkdyn.kernels.structure import layer_names, structure, unstructured_layers

QUIET = pytest.mark.filterwarnings("ignore:size requires ndarray:DeprecationWarning")
"""for neural-tangents' own empirical kernels"""


def from_stax(*layers, features):
    start, apply, _ = stax.serial(*layers)
    return apply, lambda key: start(key, (-1, *features))[1], features


class Attention(nn.Module):
    """Convolution, both normalisations, groups, attention, residual sum."""

    @nn.compact
    def __call__(self, x):
        x = nn.gelu(nn.LayerNorm()(nn.Conv(8, (3, 3))(x)))
        x = nn.relu(nn.GroupNorm(2)(nn.Conv(8, (3, 3), strides=2, feature_group_count=2)(x)))
        x = x.reshape(x.shape[0], -1, 8)
        x = x + nn.MultiHeadDotProductAttention(2)(x)
        return nn.Dense(3)(x.mean(1))


def flax_model():
    model = Attention()
    return (
        lambda params, x: model.apply(params, x),
        lambda key: model.init(key, jnp.zeros((1, 6, 6, 2))),
        (6, 6, 2),
    )


def tied():
    """A weight used twice, and a sign before a layer."""
    return (
        lambda p, x: -(jnp.tanh(x @ p["a"]) @ p["a"].T @ p["b"]),
        lambda key: {"a": jax.random.normal(key, (5, 7)), "b": jax.random.normal(key, (5, 3))},
        (5,),
    )


def standardised():
    """A weight that is changed in a way that has no rule."""

    def apply(p, x):
        weight = p["a"] - p["a"].mean(0, keepdims=True)
        return jnp.tanh(x @ weight) @ p["b"] - 2 * p["c"][None]

    def start(key):
        shapes = {"a": (5, 7), "b": (7, 3), "c": (3,)}
        return {name: jax.random.normal(key, shape) for name, shape in shapes.items()}

    return apply, start, (5,)


DENSE = networks.mlp((16, 12), outputs=3, activation="erf", w_std=1.4, b_std=0.3)
conv = lambda *a, **k: stax.Conv(*a, **k)
MODELS = {
    "mlp": (DENSE.apply, lambda key: DENSE.start(key, (5,)), (5,)),
    "cnn": from_stax(
        conv(8, (3, 3), (2, 2), "SAME", b_std=0.1), stax.Relu(),
        conv(6, (2, 3), padding="VALID"), stax.Relu(), stax.AvgPool((2, 2)), stax.Flatten(),
        stax.Dense(3), features=(8, 8, 3),
    ),
    "residual": from_stax(
        conv(8, (3, 3), padding="SAME"), stax.FanOut(2),
        stax.parallel(
            stax.serial(stax.Relu(), conv(8, (3, 3), padding="SAME", b_std=0.1)), stax.Identity()
        ),
        stax.FanInSum(), stax.LayerNorm(), stax.GlobalAvgPool(), stax.Dense(3), features=(6, 6, 2),
    ),
    "flax": flax_model(),
    "tied": tied(),
    "standardised": standardised(),
}  # fmt: skip


def dense_layers(apply, params, x):
    """Per layer, J J^T from the dense Jacobian."""
    jacobian = jax.jacrev(lambda p: apply(p, x))(params)
    layers = {}
    for name, leaf in zip(layer_names(params), jax.tree.leaves(jacobian), strict=True):
        rows = np.asarray(leaf).reshape(*leaf.shape[:2], -1)
        layers[name] = layers.get(name, 0) + np.einsum("nkp,mjp->nkmj", rows, rows)
    return layers


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_structured_kernel_is_the_jacobians_gram(name):
    apply, start, features = MODELS[name]
    with precision.double():
        drawn = jax.jit(start)(jax.random.key(0))
        params = jax.tree.map(lambda p: p.astype(jnp.float64) + 0.1, drawn)
        x = jax.random.normal(jax.random.key(1), (5, *features), jnp.float64)
        wanted = dense_layers(apply, params, x)
        seen = empirical.layer_ntk(apply, params, x)
        block = empirical.ntk(apply, params, x[:2], x[2:])
    assert set(seen) == set(wanted)
    scale = max(np.abs(part).max() for part in wanted.values())
    for layer, part in wanted.items():
        assert np.abs(np.asarray(seen[layer]) - part).max() < 1e-12 * scale, layer
    whole = sum(wanted.values())
    assert np.abs(np.asarray(block) - whole[:2][:, :, 2:]).max() < 1e-12 * scale


def test_what_has_no_structure_is_named():
    free = {}
    for name, (apply, start, features) in MODELS.items():
        params = jax.eval_shape(start, jax.random.key(0))
        params = jax.tree.map(lambda p: jnp.zeros(p.shape, p.dtype), params)
        x = jnp.zeros((1, *features))
        free[name] = unstructured_layers(apply, params, x)
    assert free["tied"] == ["a"]
    assert free["mlp"] == free["cnn"] == free["residual"] == []
    assert free["flax"] == [] and free["standardised"] == ["a"]


def test_single_precision_is_accurate():
    net = networks.mlp((256, 256), outputs=4)
    params = net.start(jax.random.key(0), (32,))
    x = jax.random.normal(jax.random.key(1), (8, 32))
    seen = np.asarray(empirical.ntk(net.apply, params, x))
    with precision.double():
        exact = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (params, x))
        wanted = np.asarray(empirical.ntk(net.apply, *exact))
    assert seen.dtype == np.float32
    assert np.abs(seen - wanted).max() < 1e-5 * np.abs(wanted).max()


PEERS = {
    "mlp": ((stax.Dense(8), stax.Erf(), stax.Dense(6), stax.Relu(), stax.Dense(3)), (5,)),
    "wide last": ((stax.Dense(4, b_std=0.5), stax.Gelu(), stax.Dense(7, b_std=0.1)), (3,)),
    "cnn": (
        (conv(8, (3, 3), (2, 2), "SAME", b_std=0.1), stax.Relu(), conv(6, (2, 3), padding="VALID"),
         stax.Relu(), stax.AvgPool((2, 2)), stax.Flatten(), stax.Dense(3)),
        (8, 8, 3),
    ),
    "cnn 1-d": (
        (conv(4, (3,), (1,), "CIRCULAR"), stax.Abs(), conv(5, (2,), (2,), "VALID"), stax.Sin(),
         stax.GlobalAvgPool(), stax.Dense(2)),
        (9, 2),
    ),
    "residual": (
        (stax.Dense(6), stax.FanOut(2),
         stax.parallel(stax.serial(stax.Relu(), stax.Dense(6, b_std=0.2)), stax.Identity()),
         stax.FanInSum(), stax.LayerNorm(), stax.Dense(2)),
        (4,),
    ),
    "attention": (
        (stax.GlobalSelfAttention(6, 4, 4, 2, linear_scaling=False), stax.Relu(),
         stax.GlobalAvgPool(), stax.Dense(2)),
        (5, 3),
    ),
}  # fmt: skip


QUICK = ("mlp", "wide last", "cnn")


@QUIET
@pytest.mark.parametrize("name", quick_if(zip(PEERS, strict=True), lambda name: name in QUICK))
def test_agrees_with_neural_tangents(name):
    layers, features = PEERS[name]
    apply, start, _ = from_stax(*layers, features=features)
    params = jax.jit(start)(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (3, *features))
    implementation = 1 if name in ("cnn", "attention") else 2
    theirs = neural_tangents.empirical_ntk_fn(apply, trace_axes=(), implementation=implementation)
    wanted = np.asarray(jax.jit(theirs)(x, None, params)).transpose(0, 2, 1, 3)
    seen = empirical.ntk(apply, params, x)
    assert np.abs(wanted - seen).max() < 1e-5 * np.abs(seen).max()


WIDTHS = (64, 256, 1024)
LIMITS = {
    "mlp": (lambda width: networks.mlp((width,), outputs=1, b_std=0.2), (4,), WIDTHS),
    "cnn": (
        lambda width: networks.cnn((width, width), outputs=1, b_std=0.2, strides=2), (4, 4, 2),
        (16, 48, 144),
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", LIMITS)
def test_wide_kernels_approach_the_infinite_one_like_one_over_root_width(name):
    make, features, widths = LIMITS[name]
    x = jax.random.normal(jax.random.key(1), (4, *features))
    wanted = np.asarray(infinite.ntk(make(1).kernel, x))
    errors = []
    for width in widths:
        net = make(width)

        def kernel(key, net=net):
            return empirical.trace(net.apply, net.start(key, features), x)

        seen = np.asarray(jax.lax.map(kernel, jax.random.split(jax.random.key(0), 48)))
        errors.append(np.sqrt(np.mean((seen - wanted) ** 2)))
    slope = np.polyfit(np.log(widths), np.log(errors), 1)[0]
    assert abs(slope + 0.5) < 0.1, (slope, errors)


X = np.array([[1, 0], [0.6, 0.8], [-1, 2]])
KNOWN = {
    "sqrt 2, no bias": (
        (2**0.5, 0.0), [3, 1.5444163006772, 0.8227473547054, 3, 2.8169218903507, 15]
    ),
    "1.5, bias .05": (
        (1.5, 0.05),
        [
            4.2891015625, 2.2142284863998, 1.1821669662136,
            4.2891015625, 4.0258916638170, 21.3750390625,
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("scales, wanted", KNOWN.values(), ids=KNOWN)
@precision.in_double
def test_known_answers_at_infinite_width(scales, wanted):
    net = networks.mlp((64, 64), outputs=1, w_std=scales[0], b_std=scales[1])
    kernel = np.asarray(infinite.ntk(net.kernel, X))
    assert np.abs(kernel[np.triu_indices(3)] - wanted).max() < 1e-12
    assert np.abs(np.asarray(infinite.ntk(net.kernel, X, X[:2])) - kernel[:, :2]).max() < 1e-14
    tiled = infinite.compute(net.kernel, X).values
    difference = np.abs(tiled - kernel)
    assert difference.max() < 1e-7, "a point with itself: arccos next to 1"
    np.fill_diagonal(difference, 0)
    assert difference.max() < 1e-12


@precision.in_double
def test_nngp_is_the_covariance_of_wide_outputs():
    net = networks.mlp((64,), outputs=1, w_std=1.0, b_std=0.0)
    seen = np.asarray(infinite.nngp(net.kernel, X))
    norms = np.linalg.norm(X, axis=1)
    cos = np.clip(X @ X.T / np.outer(norms, norms), -1, 1)
    angle = np.arccos(cos)
    arc = np.outer(norms, norms) * (np.sin(angle) + (np.pi - angle) * cos) / (2 * np.pi) / 2
    assert np.abs(seen - arc).max() < 1e-12


def seconds(call, times):
    jax.block_until_ready(call())
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        jax.block_until_ready(call())
        taken.append(time.perf_counter() - begun)
    return min(taken)


@pytest.mark.slow
@QUIET
def test_fifty_times_faster_than_neural_tangents():
    """Against its best working implementation, NTK-vector products, at 784-1024-1024-10."""
    net = networks.mlp((1024, 1024), outputs=10)
    params = net.start(jax.random.key(0), (784,))
    x = jax.random.normal(jax.random.key(1), (64, 784))
    theirs = jax.jit(
        neural_tangents.empirical_ntk_fn(net.apply, trace_axes=(), implementation=2)
    ).lower(x, None, params).compile()  # fmt: skip
    begun = time.perf_counter()
    wanted = np.asarray(theirs(x, None, params)).transpose(0, 2, 1, 3)
    slow = time.perf_counter() - begun
    fast = seconds(lambda: empirical.ntk(net.apply, params, x), 10)
    seen = np.asarray(empirical.ntk(net.apply, params, x))
    assert np.abs(seen - wanted).max() < 1e-5 * np.abs(wanted).max()
    assert slow / fast > 50, f"{slow:.3f} s and {fast:.4f} s"


# --- outputs summed before an affine readout ----------------------------------------------------


def readouts():
    """Name -> a network of p["a"], p["b"], p["c"], and whether a and b meet one output there."""
    hidden = lambda p, x: nn.gelu(x @ p["a"])
    scaled = lambda p, x: hidden(p, x) @ p["b"] / 3 + 0.1 * p["c"]
    twice = lambda p, h: h @ p["b"] + (h**2) @ p["d"]
    return {
        "affine": (scaled, True),
        "rearranged": (lambda p, x: (hidden(p, x)[:, None].reshape(-1, 7) @ p["b"])[:, ::1], True),
        "gain": (lambda p, x: (hidden(p, x) * p["g"]) @ p["b"], False),
        "bent": (lambda p, x: jnp.sin(scaled(p, x)), False),
        "normalised": (
            lambda p, x: nn.standardize(hidden(p, x), axis=-1) @ p["b"],
            False,
        ),
        "read twice": (lambda p, x: twice(p, hidden(p, x)), False),
        "skipped": (lambda p, x: scaled(p, x) + x[:, :3], False),
        "mixed": (lambda p, x: (hidden(p, x) * x.sum(1, keepdims=True)) @ p["b"], False),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", readouts())
def test_outputs_are_summed_early_only_where_they_may(name):
    apply, early = readouts()[name]
    with precision.double():
        rng = np.random.default_rng(3)
        shapes = {"a": (5, 7), "b": (7, 3), "c": (1, 3), "d": (7, 3), "g": (1, 7)}
        params = {key: jnp.asarray(rng.standard_normal(size)) for key, size in shapes.items()}
        x, z = (jnp.asarray(rng.standard_normal((n, 5))) for n in (4, 6))
        rows = lambda leaf: np.asarray(leaf).reshape(*leaf.shape[:2], -1)
        jacobian = lambda points: map(rows, jax.tree.leaves(jax.jacrev(apply)(params, points)))
        expected = sum(
            np.einsum("nkp,mkp->nm", one, other)
            for one, other in zip(jacobian(x), jacobian(z), strict=True)
        )
        seen = np.asarray(empirical.trace(apply, params, x, z))
        taps = structure(apply, params, x, summed=True).taps
        at_a = [tap for tap in taps for factor in tap.factors if factor.layer == "a"]
    assert np.abs(seen - expected).max() < 1e-12 * np.abs(expected).max()
    assert [tap.signals.shape[1] for tap in at_a] == [1 if early else 3]
