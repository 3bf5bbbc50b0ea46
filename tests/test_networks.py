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


def test_refusals():
    for arguments, message in [
        ({"widths": (4, 0), "outputs": 1}, "whole numbers from 1 on, got"),
        ({"widths": (4,), "outputs": 1, "activation": "rellu"}, "did you mean 'relu'"),
        ({"widths": (4,), "outputs": 1, "w_std": -1.0}, "w_std must be positive"),
        ({"widths": (4,), "outputs": 1, "b_std": [0.1]}, "b_std must be one number or 2, got 1"),
    ]:
        with pytest.raises(InputError, match=message):
            networks.mlp(**arguments)
