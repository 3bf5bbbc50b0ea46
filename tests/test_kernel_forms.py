"""Every rule of every form, forced, against the Jacobian that activations and signals stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkdyn as nd
from ntkdyn import precision
from ntkdyn.kernels import forms
from ntkdyn.kernels.structure import Factor, Jacobian, Structure, Tap, structure

GROUPS, CHANNELS_IN, CHANNELS_OUT, OUTPUTS, PLACES = 3, 5, 7, 4, 6
"""all different, and from the numbers of points too: a swapped axis changes a shape or a value"""
LEFT, RIGHT = 2, 8

FORMS = {
    "full": lambda left, right: np.einsum("nkp,mjp->nkmj", left, right),
    "trace": lambda left, right: np.einsum("nkp,mkp->nm", left, right),
    "diagonal": lambda left, right: np.einsum("nkp,nkp->nk", left, left),
}
"""form -> the kernel of two Jacobians (points, outputs, parameters)"""


def drawn(points, places, groups, seed):
    """Activations of a weight and of a gain in one layer, of a weight in another; signals."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape: rng.standard_normal((points, *shape))
    widths = {"first": (CHANNELS_IN, 1), "second": (CHANNELS_IN + 4,)}
    activations = {
        layer: [normal(places, groups, width) for width in each] for layer, each in widths.items()
    }
    return activations, normal(OUTPUTS, places, groups * CHANNELS_OUT)


def as_structure(activations, signals):
    factors = [Factor(layer, jnp.asarray(a)) for layer, each in activations.items() for a in each]
    return Structure([Tap(factors, jnp.asarray(signals))], [])


def jacobians(activations, signals):
    """Layer -> sum over places of a[t, g, c] s[k, t, g, o], (points, outputs, parameters)."""
    points, outputs, places, _ = signals.shape
    groups = activations["first"][0].shape[2]
    by_group = signals.reshape(points, outputs, places, groups, -1)
    rows = lambda a: np.einsum("ntgc,nktgo->nkgco", a, by_group).reshape(points, outputs, -1)
    return {
        layer: np.concatenate([rows(a) for a in each], axis=2)
        for layer, each in activations.items()
    }


@pytest.mark.parametrize("rule, form", forms._RULES)
@precision.in_double
def test_every_rule_is_the_jacobians(rule, form, monkeypatch):
    places, groups = (1, 1) if rule == "outer" else (PLACES, GROUPS)
    one, other = drawn(LEFT, places, groups, 0), drawn(RIGHT, places, groups, 1)
    other = one if form == "diagonal" else other
    monkeypatch.setattr(forms, "_rule", lambda meeting, form: rule)
    left, right = as_structure(*one), as_structure(*other)
    seen = forms.contract(left, right, form, by_layer=True)
    pairs = jacobians(*one), jacobians(*other)
    assert list(seen) == ["first", "second"]
    for layer, part in seen.items():
        wanted = FORMS[form](pairs[0][layer], pairs[1][layer])
        assert part.shape == wanted.shape
        assert np.abs(part - wanted).max() < 1e-12 * np.abs(wanted).max()
    whole = forms.contract(left, right, form)["all"]
    assert np.abs(whole - sum(seen.values())).max() < 1e-12 * np.abs(whole).max()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "places, channels, rule", [(1, 5, "outer"), (2, 9, "pairs"), (9, 2, "rows")]
)
def test_the_rule_is_the_cheapest_by_places_and_channels(places, channels, rule, form):
    tap = Tap(
        [Factor("one", jnp.ones((2, places, 1, channels)))], jnp.ones((2, 3, places, channels))
    )
    whole = Structure([tap], [])
    assert forms.rules(whole, whole, form) == {"one": rule}
    (meeting,) = forms._meetings(tap, tap)
    costs = forms._costs(meeting, form)
    assert forms.multiplications(whole, whole, form) == min(costs.values()) == costs[rule]


def test_jacobians_are_multiplied_for_every_pair_of_points():
    left, right = (
        Structure([], [Jacobian("one", jnp.ones((points, OUTPUTS, 5)))]) for points in (LEFT, RIGHT)
    )
    wanted = {"full": LEFT * RIGHT * OUTPUTS**2, "trace": LEFT * RIGHT * OUTPUTS}
    for form, pairs in wanted.items():
        assert forms.multiplications(left, right, form) == 5 * pairs
    assert forms.multiplications(left, left, "diagonal") == 5 * LEFT * OUTPUTS


def test_few_places_of_many_channels_in_a_network_meet_in_pairs():
    """Those of the first layer are many of few channels, of the second few of many."""
    net = nd.networks.cnn((3, 9), outputs=2, strides=2, image=(8, 8, 1), pool="flatten")
    params = jax.eval_shape(lambda: net.start(jax.random.key(0), (64,)))
    at_points = lambda params, inputs: structure(net.apply, params, inputs, summed=True)
    taps = jax.eval_shape(at_points, params, jax.ShapeDtypeStruct((5, 64), np.float32))
    chosen = forms.rules(taps, taps, "trace")
    assert chosen == {"conv_1": "rows", "conv_2": "pairs", "readout": "outer"}
