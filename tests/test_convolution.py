"""Convolutions: both ways are the convolution, and the way is chosen by sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkdyn import networks, precision
from ntkdyn.networks import convolution

CASES = [
    # image, filter, stride, padding
    ((7, 9, 2), (3, 3), 1, "SAME"),
    ((8, 6, 3), (3, 3), 2, "SAME"),
    ((8, 8, 3), (1, 1), 2, "SAME"),
    ((9, 12, 1), (5, 3), 3, "VALID"),
    ((6, 4, 2), (2, 4), 1, "SAME"),
]


def given(image, window, seed=0):
    draw = np.random.default_rng(seed).standard_normal
    return jnp.asarray(draw((4, *image))), jnp.asarray(draw((*window, image[2], 3)))


def by_xla(images, weights, stride, padding):
    return jax.lax.conv_general_dilated(
        images, weights, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize("together", [6, 1000, None], ids="{} at once".format)
@pytest.mark.parametrize("case", CASES, ids=str)
@precision.in_double
def test_it_is_the_convolution(case, together, monkeypatch):
    """Values, and derivatives for images and filters; None: by patches."""
    image, window, stride, padding = case
    both = given(image, window)
    at = convolution.windows(image[:2], window, stride, padding)
    monkeypatch.setattr(convolution, "TOGETHER", together)
    way = convolution.by_bands if together else convolution.by_patches
    back = jnp.asarray(
        np.random.default_rng(1).standard_normal(by_xla(*both, stride, padding).shape)
    )

    def values_and_derivatives(convolved):
        values, pull = jax.vjp(convolved, *both)
        return values, *pull(back)

    ours = jax.jit(values_and_derivatives, static_argnums=0)(lambda *given: way(*given, *at))
    theirs = jax.jit(values_and_derivatives, static_argnums=0)(
        lambda *given: by_xla(*given, stride, padding)
    )
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_the_way_is_chosen_by_sizes(monkeypatch):
    """Bands for narrow products at many places; of one image never."""
    chosen = []

    def noted(way, compute):
        return lambda *given: chosen.append(way) or compute(*given)

    for way in ("by_bands", "by_patches"):
        monkeypatch.setattr(convolution, way, noted(way, getattr(convolution, way)))
    images = lambda count, side: jnp.zeros((count, side, side, 1))
    narrow, wide = jnp.zeros((3, 3, 1, 4)), jnp.zeros((3, 3, 1, 33))
    asked = [(images(4, 30), narrow), (images(4, 30), wide), (images(3, 30), narrow),
             (images(1, 70), narrow), (images(4, 30), jnp.zeros((1, 1, 1, 4)))]  # fmt: skip
    for seen, weights in asked:
        convolution.convolve(seen, weights, 1, "SAME")
    assert chosen == ["by_bands"] + 4 * ["by_patches"]


@pytest.mark.slow
def test_networks_are_the_same_in_both_ways(monkeypatch):
    """LeNet-5's outputs and gradients."""
    net = networks.lenet5(0.5, outputs=4, image=(12, 12, 1))
    inputs = jnp.asarray(np.random.default_rng(0).standard_normal((5, 144)))
    params = net.start(jax.random.key(0), (144,))
    loss = lambda params: jnp.sum(net.apply(params, inputs) ** 2)
    by_patches = jax.value_and_grad(loss)(params)
    monkeypatch.setattr(convolution, "BANDS_FROM", 0)
    monkeypatch.setattr(convolution, "by_patches", None)
    by_bands = jax.value_and_grad(loss)(params)
    for one, other in zip(*map(jax.tree.leaves, (by_patches, by_bands)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
