"""Published architectures and normalisations: formulas in NumPy, counts, orders of channels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkdyn as nd
from ntkdyn import evaluation, experiment, kernels, networks, precision
from ntkdyn.data import Dataset, Partition
from ntkdyn.engine import take_snapshot
from ntkdyn.errors import InputError
from ntkdyn.methods.merging import permuted
from ntkdyn.networks import layers, normalisation

PAIR = nd.graphs.metropolis(nd.graphs.complete(2))

COUNTS = [
    ("lenet5", {}, (28, 28, 1), 61_706),  # LeCun et al. read 32 x 32, which is 28 x 28 padded
    ("lenet5", {"pool": "average"}, (28, 28, 1), 61_706),
    ("resnet20", {"normalisation": "batch"}, (32, 32, 3), 272_474),  # 0.27 M in He et al.
    ("vgg11", {"normalisation": "batch"}, (32, 32, 3), 9_231_114 - 2752),  # without biases
    ("vgg11", {}, (32, 32, 3), 9_231_114 - 2 * 2752),  # with biases, and no scales and shifts
]


@pytest.mark.parametrize("kind, settings, shape, count", COUNTS)
def test_as_many_parameters_as_published(kind, settings, shape, count):
    net = networks.KINDS[kind](outputs=10, **settings)
    shapes = jax.eval_shape(lambda key: net.start(key, shape), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


TINY = {
    "lenet5": (0.5, (12, 12, 2)),
    "resnet20": (1 / 4, (8, 8, 2)),
    "vgg11": (1 / 32, (32, 32, 2)),
}
"""kind -> width, and the shape of points"""


@functools.cache
def tiny(kind, **settings):
    """A network, parameters none of which is zero or one for all channels, and points."""
    width, shape = TINY[kind]
    net = networks.KINDS[kind](width, outputs=3, b_std=0.3, **settings)
    params = net.start(jax.random.key(0), shape)
    rng = np.random.default_rng(1)
    moved = lambda leaf: jnp.asarray(leaf + 0.3 * rng.standard_normal(leaf.shape), jnp.float32)
    points = jnp.asarray(rng.standard_normal((4, *shape)), jnp.float32)
    return net, jax.tree.map(moved, params), points


def numpy_norm(kind, groups, params, x):
    """What stands for a normalisation, with no reshape: channel by channel, point by point."""
    out = np.zeros_like(x)
    size = x.shape[-1] // groups
    for n, c in np.ndindex(len(x), x.shape[-1]):
        own = slice(c // size * size, c // size * size + size)
        seen = x[:, :, :, c] if kind == "batch" else x[n, :, :, own]
        shifted = x[n, :, :, c] - (0 if kind == "evonorm_s0" else seen.mean())
        z = shifted / np.sqrt(seen.var() + 1e-5)
        if kind == "evonorm_s0":
            z = z / (1 + np.exp(-params[2][c] * x[n, :, :, c]))
        out[n, :, :, c] = z * params[0][c] + params[1][c]
    return out


NORMALISED = ("group", "evonorm_s0", "batch")
MADE = {
    "group": lambda: normalisation.group(2),
    "evonorm_s0": lambda: normalisation.evonorm_s0(2),
    "batch": lambda: normalisation.batch("one"),
}


@pytest.mark.parametrize("kind", NORMALISED)
def test_normalisations_are_their_formulas(kind):
    initialise, evaluate, _ = MADE[kind]()
    shape, begun = initialise(None, (-1, 3, 5, 4))
    assert (
        shape == (-1, 3, 5, 4) and [float(each.mean()) for each in begun] == [1, 0, 1][: len(begun)]
    )
    rng = np.random.default_rng(0)
    params = [rng.standard_normal(4) for _ in begun]
    x = 2 + rng.standard_normal((6, 3, 5, 4)) * [1, 2, 3, 4]
    with precision.double():
        given = [jnp.asarray(each).reshape(1, 1, 1, 4) for each in params]
        seen = np.asarray(evaluate(given, jnp.asarray(x)))
    assert np.allclose(seen, numpy_norm(kind, 2, params, x), atol=1e-10)


def test_group_normalisation_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, scale, shift = rng.standard_normal((5, 3, 4, 6)), *rng.standard_normal((2, 6))
    theirs = torch.nn.functional.group_norm(
        *(torch.tensor(each) for each in (x.transpose(0, 3, 1, 2),)), 3,
        torch.tensor(scale), torch.tensor(shift),
    )  # fmt: skip
    with precision.double():
        given = [jnp.asarray(each).reshape(1, 1, 1, 6) for each in (scale, shift)]
        ours = normalisation.group(3)[1](given, jnp.asarray(x))
    assert np.allclose(ours, theirs.numpy().transpose(0, 2, 3, 1), atol=1e-10)


def test_kept_moments_are_used_in_place_of_the_batchs():
    _, evaluate, _ = normalisation.batch("one")
    rng = np.random.default_rng(0)
    x, y = jnp.asarray(rng.standard_normal((2, 5, 3, 3, 2)), jnp.float32)
    params, kept = (jnp.ones((1, 1, 1, 2)), jnp.zeros((1, 1, 1, 2))), {}
    evaluate(params, x, moments=kept)
    assert list(kept) == ["one"]
    one, other = evaluate(params, y[:1], moments=kept), evaluate(params, y, moments=kept)
    assert np.allclose(one, other[:1], atol=1e-6)
    assert not np.allclose(one, evaluate(params, y)[:1], atol=1e-2)


def conv(x, weight, stride, padding="SAME"):
    """sqrt(2) / sqrt(fan in) W * x, place by place."""
    side, size = weight.shape[0], x.shape[1]
    places = -(-size // stride) if padding == "SAME" else size - side + 1
    before = max((places - 1) * stride + side - size, 0) // 2 if padding == "SAME" else 0
    padded = np.pad(x, ((0, 0), (before, side), (before, side), (0, 0)))
    out = np.zeros((len(x), places, places, weight.shape[-1]))
    for i, j in np.ndindex(places, places):
        window = padded[:, i * stride : i * stride + side, j * stride : j * stride + side]
        out[:, i, j] = np.tensordot(window, weight, 3)
    return np.sqrt(2 / np.prod(weight.shape[:3])) * out


def maxed(x):
    n, rows, columns, channels = x.shape
    out = np.zeros((n, rows // 2, columns // 2, channels))
    for i, j in np.ndindex(rows // 2, columns // 2):
        out[:, i, j] = x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max((1, 2))
    return out


class ByHand:
    """Layers by their names, in NumPy."""

    def __init__(self, kind, params):
        self.kind = kind
        self.p = {
            n: [np.asarray(a, float) for a in own if a is not None] for n, own in params.items()
        }

    def conv(self, name, x, stride=1, padding="SAME"):
        weight, *bias = self.p[name]
        return conv(x, weight, stride, padding) + (0.3 * bias[0] if bias else 0)

    def scales(self, name):
        return [each.reshape(-1) for each in self.p[f"{name}_norm"]]

    def norm(self, name, x):
        if f"{name}_norm" not in self.p:
            return x
        return numpy_norm(self.kind, 2, self.scales(name), x)

    def active(self, name, x):
        x = self.norm(name, x)
        return x if self.kind == "evonorm_s0" else np.maximum(x, 0)

    def dense(self, name, x):
        weight, bias = self.p[name]
        return np.sqrt(2 / len(weight)) * x @ weight + 0.3 * bias


def lenet5_by_hand(by, x):
    for name, padding in (("conv_1", "SAME"), ("conv_2", "VALID")):
        x = maxed(by.active(name, by.conv(name, x, padding=padding)))
    x = x.reshape(len(x), -1)
    for name in ("dense_1", "dense_2"):
        x = np.maximum(by.dense(name, x), 0)
    return by.dense("readout", x)


def resnet20_by_hand(by, x):
    x = by.active("stem", by.conv("stem", x))
    for stage, block in [(s, b) for s in (1, 2, 3) for b in (1, 2, 3)]:
        name, stride = f"stage_{stage}_block_{block}", 2 if stage > 1 and block == 1 else 1
        inner = by.active(f"{name}_conv_1", by.conv(f"{name}_conv_1", x, stride))
        inner, beside = by.conv(f"{name}_conv_2", inner), x
        if stride == 2:
            beside = by.conv(f"{name}_shortcut", x, 2)
        if by.kind == "evonorm_s0":
            x = by.active(f"{name}_conv_2", beside + inner)
            continue
        beside = by.norm(f"{name}_shortcut", beside)
        x = np.maximum(beside + by.norm(f"{name}_conv_2", inner), 0)
    return by.dense("readout", x.mean((1, 2)))


def vgg11_by_hand(by, x):
    for number in range(1, 9):
        x = by.active(f"conv_{number}", by.conv(f"conv_{number}", x))
        x = maxed(x) if number in (1, 2, 4, 6, 8) else x
    return by.dense("readout", x.reshape(len(x), -1))


BY_HAND = {"lenet5": lenet5_by_hand, "resnet20": resnet20_by_hand, "vgg11": vgg11_by_hand}


CASES = [("lenet5", "none"), ("lenet5", "group"), ("resnet20", "evonorm_s0"), ("resnet20", "batch")]
CASES += [("vgg11", "none"), ("resnet20", "none")]


@pytest.mark.slow
@pytest.mark.parametrize("kind, norm", CASES)
def test_published_architectures_are_their_formulas(kind, norm):
    groups = 1 if kind == "lenet5" else 2
    settings = {} if norm == "none" else {"normalisation": norm, "groups": groups}
    net, params, points = tiny(kind, **settings)
    by = ByHand(norm, params)
    by.norm = by.norm if groups == 2 else functools.partial(_with_one_group, by)
    wanted = BY_HAND[kind](by, np.asarray(points, float))
    seen = np.asarray(jax.jit(net.apply)(params, points))
    assert np.ptp(wanted, axis=0).max() > 0.1 and np.allclose(seen, wanted, atol=2e-4)


def _with_one_group(by, name, x):
    return numpy_norm(by.kind, 1, by.scales(name), x) if f"{name}_norm" in by.p else x


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, norm", [("lenet5", "group"), ("resnet20", "batch"), ("vgg11", "none")]
)
def test_a_new_order_of_channels_changes_no_output(kind, norm):
    """Every layer but the readout's bias is renumbered, and the last seen are the features."""
    net, params, points = tiny(kind, normalisation=norm, groups=1)
    look = jax.jit(lambda params: (net.apply(params, points), net.hidden(params, points)))
    outputs, hidden = look(params)
    hidden = {name: hidden[name] for name in net.hidden(params, points[:1])}  # jit sorts them
    assert list(hidden) == [*net.permutable, *["features"] * ("features" in hidden)]
    rng = np.random.default_rng(3)
    order = {n: jnp.asarray(rng.permutation(hidden[n].shape[-1])) for n in net.permutable}
    other = permuted(params, order, net.permutable)
    assert np.abs(look(other)[0] - outputs).max() < 2e-5 < np.ptp(outputs)
    moved = {
        name
        for name, own in params.items()
        for a, b in zip(*map(jax.tree.leaves, (own, other[name])), strict=True)
        if (a != b).any()
    }
    assert moved == set(params)
    *_, features = hidden.values()
    weight, bias = params["readout"]
    assert np.allclose(
        outputs, (2 / len(weight)) ** 0.5 * features @ weight + 0.3 * bias, atol=1e-5
    )
    for name in order:
        assert np.allclose(look(other)[1][name], hidden[name][..., order[name]], atol=1e-4)


@pytest.mark.parametrize("norm", ["group", "evonorm_s0"])
def test_channels_of_different_groups_do_not_change_places(norm):
    assert not networks.lenet5(outputs=2, normalisation=norm).permutable
    assert networks.lenet5(outputs=2, normalisation=norm, groups=1).permutable
    problem = nd.Problem(networks.cnn((4,), outputs=2, normalisation=norm), shares((2, 2)))
    with pytest.raises(InputError, match=f'dimat: normalisation "{norm}" .* into 2 groups, betwee'):
        nd.train(problem, nd.methods.dimat(step_size=0.1), PAIR, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, norm", [("lenet5", "group"), ("resnet20", "evonorm_s0"), ("cnn", "evonorm_s0")]
)
@pytest.mark.parametrize("method", ["structured", "products"])
def test_the_kernel_is_that_of_the_dense_jacobian(kind, norm, method):
    if kind == "cnn":
        net = networks.cnn((4, 6), outputs=3, normalisation=norm, strides=2)
        params, points = net.start(jax.random.key(0), (6, 6, 1)), jnp.ones((3, 6, 6, 1))
        points = points * jax.random.normal(jax.random.key(1), points.shape)
    else:
        net, params, points = tiny(kind, normalisation=norm, groups=1)
    points = np.asarray(points[:3])
    with precision.double():
        exact = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
        rows = jax.jit(jax.jacrev(lambda tree: net.apply(tree, jnp.asarray(points, float))))(exact)
        flat = np.concatenate(
            [np.asarray(leaf).reshape(9, -1) for leaf in jax.tree.leaves(rows)], axis=1
        )
    options = kernels.ComputeOptions(method=method, dtype="float64")
    seen = kernels.compute(net.apply, params, points, form="full", options=options).values
    wanted = flat @ flat.T
    assert np.allclose(seen.reshape(wanted.shape), wanted, rtol=1e-8, atol=1e-8 * wanted.max())


@pytest.mark.parametrize("kind", ["cnn", *TINY])
def test_no_kernel_at_infinite_width_is_said_in_a_sentence(kind):
    args = ((4,),) if kind == "cnn" else ()
    net = networks.KINDS[kind](*args, outputs=2, normalisation="group")
    assert net.kernel is None
    assert (networks.lenet5(outputs=2).kernel is None) and networks.vgg11(outputs=2).kernel is None
    assert networks.lenet5(outputs=2, pool="average").kernel and networks.resnet20(outputs=2).kernel


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("make", [networks.lenet5, networks.resnet20, networks.vgg11])
def test_the_same_settings_are_the_same_network(make):
    one = make(outputs=2)
    assert make(1, outputs=2, w_std=2**0.5) is one
    function, arguments = one.__reduce__()
    assert function(*arguments) is one
    assert make(0.5, outputs=2) is not one and make(outputs=2, groups=1) is not one


REFUSED = [
    ("lenet5", {"width": 0}, "lenet5: width must be a positive number, got 0"),
    ("vgg11", {"width": np.nan}, "vgg11: width must be a positive number, got nan"),
    ("resnet20", {"width": "wide"}, "resnet20: width must be a positive number, got 'wide'"),
    ("lenet5", {"width": 10**9}, "lenet5: width must be a positive number"),
    ("lenet5", {"pool": "flatten"}, "lenet5: pool"),
    ("vgg11", {"normalisation": "grup"}, "did you mean 'group'"),
    ("lenet5", {"normalisation": "group", "groups": 4}, "divide the channels .* got 4 for 6"),
    ("resnet20", {"normalisation": "group", "groups": 0}, "groups must be a whole number from 1"),
    ("lenet5", {"image": [10, 10, 1]}, r"at least 12 rows and columns, .* got \[10, 10, 1\]"),
    ("vgg11", {"image": [31, 40, 1]}, r"at least 32 rows and columns, .* got \[31, 40, 1\]"),
    ("resnet20", {"w_std": [1.0] * 4}, "resnet20: w_std must be one number or 10, got 4"),
]


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("kind, settings, message", REFUSED)
def test_refused_settings(kind, settings, message):
    with pytest.raises(InputError, match=message):
        networks.KINDS[kind](**{"outputs": 2} | settings)


def test_images_too_small_for_the_pooling_are_refused_where_they_are_known():
    with pytest.raises(InputError, match="lenet5: images must have at least 12 rows"):
        networks.lenet5(outputs=2).start(jax.random.key(0), (8, 8, 1))


def spec(network, kernel="empirical"):
    return experiment.parse(
        f"""
        kernel = "{kernel}"
        network = {{ {network} }}
        data = {{ name = "digits", train = 12, test = 4 }}
        partition = {{ agents = 2 }}
        graph = {{ topology = "complete" }}
        method = {{ name = "atc", step_size = 0.01 }}
        run = {{ rounds = 3, batch_size = 4 }}
        """,
        "spec",
    )


def test_specs_name_them():
    made = experiment.Experiment(
        spec('kind = "resnet20", width = 0.25, image = [8, 8, 1], normalisation = "evonorm_s0"')
    ).network
    assert made is networks.resnet20(0.25, outputs=10, image=(8, 8, 1), normalisation="evonorm_s0")
    with pytest.raises(InputError, match="no setting of a network of kind resnet20"):
        experiment.Experiment(spec('kind = "resnet20", pool = "max"')).network  # noqa: B018
    with pytest.raises(InputError, match="widths are not for a network of kind lenet5"):
        spec('kind = "lenet5", widths = [4]')
    with pytest.raises(InputError, match="network.widths must be given"):
        spec('kind = "cnn"')


def test_what_depends_on_the_batch_is_not_predicted():
    net = 'kind = "cnn", widths = [4], image = [8, 8, 1], normalisation = "batch", strides = 4'
    message = "problem: cnn 4-10 relu batch cannot be linearized point by point"
    for kernel in ("empirical", "implicit", "infinite"):
        with pytest.raises(InputError, match=message):
            experiment.Experiment(spec(net, kernel)).predict()


def shares(counts):
    """Images in noise for agents with so many points each, and six to test on."""
    rng, train = np.random.default_rng(5), sum(counts)
    inputs = rng.standard_normal((train + 6, 6, 6, 1)).astype(np.float32)
    labels = rng.integers(0, 2, train + 6)
    noise = Dataset("noise", inputs[:train], labels[:train], inputs[train:], labels[train:], 2, "")
    return Partition(noise, np.repeat(np.arange(len(counts)), counts), len(counts), "given")


def evaluated(params, own, points):
    """One normalised convolution by hand, with mean and variance over the agent's own points."""
    p = [[np.asarray(leaf, float) for leaf in jax.tree.leaves(params[n])] for n in sorted(params)]
    (weight,), (scale, shift), (readout, bias) = p
    made, statistics = conv(points, weight, 2), conv(own, weight, 2)
    spread = np.sqrt(statistics.var((0, 1, 2)) + 1e-5)
    z = (made - statistics.mean((0, 1, 2))) / spread * scale.reshape(-1) + shift.reshape(-1)
    return np.sqrt(2 / 3) * np.maximum(z, 0).mean((1, 2)) @ readout + 0.1 * bias


@pytest.mark.parametrize("parts", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_batch_normalisation_is_evaluated_with_statistics_of_ones_own_points(parts, monkeypatch):
    """Of shares of 8 and 4 points; taken in two parts, the statistics are means of both."""
    monkeypatch.setattr(evaluation, "STATISTICS_AT_ONCE", 8 // parts)
    net = networks.cnn((3,), outputs=2, strides=2, normalisation="batch")
    problem = nd.Problem(net, shares((8, 4)))
    plan = nd.runs.plan(problem, nd.methods.atc(step_size=0.1), PAIR, 1)
    iteration = nd.runs.iteration_of(plan, problem.network_space())
    rng = np.random.default_rng(0)
    apart = lambda leaf: leaf + 0.3 * rng.standard_normal(leaf.shape).astype(np.float32)
    x = iteration.space.start().map(apart)
    jax.clear_caches()
    seen = take_snapshot(iteration, x)
    at = lambda agent: jax.tree.map(lambda leaf: leaf[agent], x.tree)
    mean = jax.tree.map(lambda leaf: leaf.mean(axis=0), x.tree)
    points = np.asarray(problem.inputs, float)
    own = [points[:8], points[8:12]]
    if parts == 1:
        for agent in (0, 1):
            assert np.allclose(
                seen.outputs[agent], evaluated(at(agent), own[agent], points), atol=1e-5
            )
        wanted = np.mean([evaluated(mean, each, points) for each in own], axis=0)
        assert np.allclose(seen.consensus_outputs, wanted, atol=1e-5)
    else:  # agent 1 has no points in the second part
        assert np.allclose(seen.outputs[1], evaluated(at(1), own[1], points), atol=1e-5)
        assert not np.allclose(seen.outputs[0], evaluated(at(0), own[0], points), atol=1e-4)
    assert np.ptp(seen.outputs) > 0.1


def test_batch_normalisation_trains_on_statistics_of_the_batch():
    """The gradient is that of the loss of the outputs that `apply` gives for the batch together."""
    net = networks.cnn((3,), outputs=2, strides=2, normalisation="batch")
    problem = nd.Problem(net, shares((4, 4)))
    space = problem.network_space()
    rows = jnp.asarray([[0, 1, 2], [4, 5, 7]])
    outputs, _ = space.readout(rows)(space.start())
    together = net.apply(problem.start, jnp.asarray(problem.inputs[:3]))
    alone = net.apply(problem.start, jnp.asarray(problem.inputs[:1]))
    assert np.allclose(outputs[0], together, atol=1e-5)
    assert not np.allclose(outputs[0, :1], alone, atol=1e-2)
    with pytest.raises(InputError, match="statistics of whole batches, which cannot pass it in p"):
        net.at_most(2)


@pytest.mark.slow
def test_what_is_normalised_point_by_point_is_predicted():
    """By its kernel as by products with J, which are two ways to the same."""
    net = 'kind = "cnn", widths = [8], image = [8, 8, 1], normalisation = "group", strides = 4'
    one, other = (
        experiment.Experiment(spec(net, kernel)).predict()["outputs"].values
        for kernel in ("empirical", "implicit")
    )
    moved = np.abs(one - one[0]).max()
    assert moved > 0.01 and np.abs(one - other).max() < 1e-4 * moved


@pytest.mark.parametrize("of, numpy", [("average", np.mean), ("max", np.max)])
def test_pooling_is_over_squares_of_four_places(of, numpy):
    inputs = np.random.default_rng(0).standard_normal((2, 5, 4, 3)).astype(np.float32)
    squares = inputs[:, :4].reshape(2, 2, 2, 2, 2, 3)
    _, evaluate, _ = layers.pooling(of)
    assert np.allclose(evaluate((), jnp.asarray(inputs)), numpy(squares, axis=(2, 4)), atol=1e-6)
