"""Networks: one description, four readings that agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from ntkdyn import networks, precision
from ntkdyn.errors import InputError
from ntkdyn.kernels.structure import layer_names


def by_hand(params, inputs, activation, w_std, b_std):
    """NTK parametrization, layer by layer, in NumPy."""
    x = np.asarray(inputs, np.float64)
    layers = list(params.values())
    for number, ((weight, bias), w, b) in enumerate(zip(layers, w_std, b_std, strict=True)):
        x = w / np.sqrt(x.shape[1]) * x @ np.asarray(weight, np.float64)
        x = x if bias is None else x + b * np.asarray(bias, np.float64)
        x = activation(x) if number < len(layers) - 1 else x
    return x


FUNCTIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "erf": scipy.special.erf,
    "gelu": lambda x: x * (1 + scipy.special.erf(x / np.sqrt(2))) / 2,
    "sigmoid": lambda x: (1 + scipy.special.erf(x / 2.4020563531719796)) / 2,
    "sin": np.sin,
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "abs": np.abs,
}


@pytest.mark.parametrize("activation", networks.ACTIVATIONS)
def test_apply_is_the_formula(activation):
    w_std, b_std = [1.5, 0.7, 1.0], [0.1, 0.4, 0.0]
    net = networks.mlp((5, 6), outputs=3, activation=activation, w_std=w_std, b_std=b_std)
    params = net.start(jax.random.key(0), (4,))
    inputs = jax.random.normal(jax.random.key(1), (7, 4))
    assert list(params) == ["dense_1", "dense_2", "readout"]
    assert list(dict.fromkeys(layer_names(params))) == ["dense_1", "dense_2", "readout"]
    wanted = by_hand(params, inputs, FUNCTIONS[activation], w_std, b_std)
    seen = np.asarray(net.apply(params, inputs))
    assert np.ptp(seen) > 0.1
    assert np.allclose(seen, wanted, atol=2e-3 if activation == "gelu" else 1e-5)


def test_start_is_standard_normal_and_the_same_in_any_precision():
    net = networks.mlp((400,), outputs=2)
    params = net.start(jax.random.key(3), (300,))
    with precision.double():
        again = net.start(jax.random.key(3), (300,))
    for one, other in zip(jax.tree.leaves(params), jax.tree.leaves(again), strict=True):
        assert one.dtype == jnp.float32 and (one == other).all()
    weight = params["dense_1"][0]
    assert abs(float(weight.mean())) < 0.01 and abs(float(weight.std()) - 1) < 0.01


@pytest.mark.parametrize("activation", networks.ACTIVATIONS)
def test_kernel_at_infinite_width_is_that_of_wide_networks(activation):
    inputs = jax.random.normal(jax.random.key(1), (3, 4))
    net = networks.mlp((1024,), outputs=1, activation=activation, w_std=1.2, b_std=0.3)
    jacobian = jax.jit(jax.jacrev(lambda p: net.apply(p, inputs)[:, 0]))
    seen = []
    for seed in range(24):
        leaves = jax.tree.leaves(jacobian(net.start(jax.random.key(seed), (4,))))
        rows = [np.asarray(leaf, np.float64).reshape(len(inputs), -1) for leaf in leaves]
        seen.append(sum(row @ row.T for row in rows))
    wanted = np.asarray(net.kernel(inputs, None, "ntk"))
    error = np.std(seen, axis=0, ddof=1) / np.sqrt(len(seen))
    assert np.ptp(wanted) > 0.1 and error.max() < 0.05 * np.abs(wanted).max()
    assert (np.abs(np.mean(seen, axis=0) - wanted) < 4 * error + 1e-3 * np.abs(wanted)).all()


def test_a_network_without_hidden_layers_is_affine():
    net = networks.mlp((), outputs=2, b_std=0.5)
    params = net.start(jax.random.key(0), (3,))
    x, y = jax.random.normal(jax.random.key(1), (2, 4, 3))
    middle = net.apply(params, (x + y) / 2)
    assert np.allclose(middle, (net.apply(params, x) + net.apply(params, y)) / 2, atol=1e-6)


def test_layers_are_in_order_beyond_nine():
    net = networks.mlp([3] * 11, outputs=1)
    names = list(net.start(jax.random.key(0), (2,)))
    assert names[:2] == ["dense_01", "dense_02"]
    assert names[-3:] == ["dense_10", "dense_11", "readout"]


def convolved(x, weight, stride):
    """Zero-padded ("SAME") convolution, place by place, in NumPy."""
    size, places = weight.shape[0], -(-x.shape[1] // stride)
    before = max((places - 1) * stride + size - x.shape[1], 0) // 2
    padded = np.pad(x, ((0, 0), (before, size), (before, size), (0, 0)))
    out = np.zeros((len(x), places, places, weight.shape[-1]))
    for i, j in np.ndindex(places, places):
        rows = slice(i * stride, i * stride + size)
        window = padded[:, rows, j * stride : j * stride + size]
        out[:, i, j] = np.tensordot(window, weight, 3)
    return out / np.sqrt(np.prod(weight.shape[:3]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cnn", "resnet"])
def test_convolutional_networks_are_their_formulas(kind):
    make = networks.KINDS[kind]
    settings = {"outputs": 2, "w_std": 1.3, "b_std": 0.2, "strides": 2}
    net, flat = make((3, 4), **settings), make((3, 4), image=(5, 5, 2), **settings)
    params = net.start(jax.random.key(0), (5, 5, 2))
    x = jax.random.normal(jax.random.key(1), (3, 5, 5, 2))
    p = {
        n: [np.asarray(a, np.float64) for a in pair if a is not None] for n, pair in params.items()
    }
    relu = lambda h: np.maximum(h, 0)
    conv = lambda h, name, stride: (
        1.3 * convolved(h, p[name][0], stride) + (0.2 * p[name][1] if len(p[name]) > 1 else 0)
    )
    h = np.asarray(x, np.float64)
    h = conv(h, "stem", 1) if kind == "resnet" else h
    for number in (1, 2):
        if kind == "cnn":
            h = relu(conv(h, f"conv_{number}", 2))
        else:
            inner = relu(conv(relu(h), f"block_{number}_conv_1", 2))
            shortcut = conv(h, f"block_{number}_shortcut", 2)
            h = shortcut + conv(inner, f"block_{number}_conv_2", 1)
    h = (h if kind == "cnn" else relu(h)).mean((1, 2))
    weight, bias = p["readout"]
    wanted = 1.3 / np.sqrt(4) * h @ weight + 0.2 * bias
    seen = np.asarray(jax.jit(net.apply)(params, x))
    assert np.ptp(seen) > 0.05 and np.allclose(seen, wanted, atol=1e-5)
    drawn = flat.start(jax.random.key(0), (50,))
    assert all((a == b).all() for a, b in zip(*map(jax.tree.leaves, (drawn, params)), strict=True))
    assert np.allclose(jax.jit(flat.apply)(drawn, x.reshape(3, 50)), seen, atol=1e-6)
    kernels = (net.kernel(x, None, "ntk"), flat.kernel(x.reshape(3, 50), None, "ntk"))
    assert np.allclose(*kernels, rtol=1e-5) and np.ptp(kernels[0]) > 0.01


@pytest.mark.parametrize("make", [networks.mlp, networks.cnn, networks.resnet])
def test_the_same_settings_are_the_same_network(make):
    one = make([4, 4], outputs=2, w_std=1.5)
    assert make((4, 4), outputs=2, w_std=(1.5, 1.5, 1.5)) is one
    for other in ({"outputs": 3}, {"activation": "erf"}, {"b_std": 0.2}, {"w_std": 1.0}):
        assert make((4, 4), **{"outputs": 2, "w_std": 1.5} | other) is not one


REFUSED = [
    ("cnn", {"pool": "averge"}, "did you mean 'average'"),
    ("resnet", {"widths": (4, -1)}, "resnet: widths and outputs must"),
    ("mlp", {"widths": (4, 0)}, "whole numbers from 1 on, got"),
    ("mlp", {"widths": (True,)}, "whole numbers from 1 on, got"),
    ("mlp", {"widths": 4}, "widths must be a list of whole numbers, got 4"),
    ("mlp", {"widths": (10**12,)}, "mlp: widths must give at most 2.7e.11 parameters, got 3e.12"),
    ("cnn", {"filter": 10**7}, "must give at most 2.7e.11 parameters, got 4e.14"),
    ("resnet", {"widths": (10**12,)}, "must give at most 2.7e.11 parameters"),
    ("mlp", {"activation": "rellu"}, "did you mean 'relu'"),
    ("mlp", {"w_std": -1.0}, "w_std must be positive"),
    ("mlp", {"w_std": np.nan}, "w_std must be finite numbers, .* got nan"),
    ("mlp", {"w_std": np.inf}, "w_std must be finite numbers, .* got inf"),
    ("mlp", {"w_std": "a"}, "w_std must be finite numbers, .* got 'a'"),
    ("mlp", {"w_std": True}, "w_std must be finite numbers, .* got True"),
    ("mlp", {"b_std": (0.1, np.nan)}, "b_std must be finite numbers, .* got nan"),
    ("mlp", {"b_std": 1e300}, "b_std must be finite numbers, up to 3.4e.38, got 1e.300"),
    ("mlp", {"b_std": [0.1]}, "b_std must be one number or 2, got 1"),
    ("cnn", {"image": [8, 8]}, r"image must be rows, columns and channels, .*got \[8, 8\]"),
    ("resnet", {"image": [-8, -8, 1]}, "three whole numbers from 1 on, got"),
    ("cnn", {"image": [8, 8, 0]}, "three whole numbers from 1 on, got"),
    ("cnn", {"image": 8}, "three whole numbers from 1 on, got 8"),
    ("cnn", {"filter": 0}, "cnn: filter must be a whole number from 1 on, got 0"),
    ("resnet", {"filter": -1}, "resnet: filter must be a whole number from 1 on, got -1"),
    ("cnn", {"strides": 0}, "strides must be a whole number from 1 on, got 0"),
    ("cnn", {"strides": 1.5}, "strides must be a whole number from 1 on, got 1.5"),
]


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("kind, settings, message", REFUSED)
def test_refused_settings(kind, settings, message):
    with pytest.raises(InputError, match=message):
        networks.KINDS[kind](**{"widths": (4,), "outputs": 1} | settings)


@pytest.mark.parametrize(
    "kind, image, features, message",
    [
        ("cnn", None, (64,), r"cnn: needs points \(rows, columns, channels\), or `image`.*\(64,\)"),
        ("resnet", None, (64,), "resnet: needs points .*, or `image`"),
        ("cnn", [9, 9, 1], (64,), r"cnn: image \[9, 9, 1\] has 81 numbers, .*shape \(64,\)"),
        ("cnn", [4, 16, 1], (8, 8, 1), r"has 64 numbers, .*shape \(8, 8, 1\)"),
        ("mlp", None, (8, 8, 1), r"mlp: needs flat points \(features,\); got .*\(8, 8, 1\)"),
    ],
)
def test_points_that_the_layers_cannot_read_are_refused(kind, image, features, message):
    settings = {} if image is None else {"image": image}
    net = networks.KINDS[kind]((4,), outputs=1, **settings)
    with pytest.raises(InputError, match=message):
        net.start(jax.random.key(0), features)
    with pytest.raises(InputError, match=message):
        net.kernel(np.zeros((2, *features)), None, "ntk")


def test_the_number_of_parameters_is_checked_again_where_the_points_are_known():
    net = networks.mlp((2**30,), outputs=1)
    with pytest.raises(InputError, match="must give at most 2.7e.11 parameters, got 1.1e.12"):
        net.start(jax.random.key(0), (1024,))


@pytest.mark.parametrize("make", [networks.mlp, networks.cnn, networks.resnet])
def test_networks_that_could_not_be_compiled_are_refused(make):
    with pytest.raises(InputError, match="at most 512 layers, got 100000; so many cannot be comp"):
        make([8] * 100_000, outputs=2)
