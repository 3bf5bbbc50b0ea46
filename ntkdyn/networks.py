"""Networks: one description that gives a start, outputs, taps and the infinite-width kernel.

    mlp((1024, 1024), outputs=10)   f(x) = affine o relu o affine o relu o affine
    cnn, resnet                     convolutions, with residual sums; no batch normalisation
    wrap(apply, start, outputs)     any JAX model

in NTK parametrization: every entry of a weight or bias starts as N(0, 1), and a layer computes
w_std / sqrt(inputs) W x + b_std b. Layers come from `neural_tangents.stax`. The same settings give
the same object, so that what is compiled for it is compiled once.
"""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ntkdyn import precision, sizes
from ntkdyn.errors import InputError, check_name, check_whole, is_real, is_whole, public
from ntkdyn.kernels.compat import stax
from ntkdyn.kernels.structure import Structure, structure
from ntkdyn.models import Model, Trained

Params = PyTree[Float[Array, "..."]]
Scales = tuple[tuple[float, ...], tuple[float, ...]]
"""w_std and b_std of every layer"""

EACH = 20
"""bytes of a parameter at the start in single precision and, predicted from, in double, and of what
drawing them takes beside: 16.3 measured"""

LARGEST = 2**38
"""the most parameters a network may have: one TiB of them in float32"""

DEEPEST = 512
"""layers or blocks: what draws the start of so many is compiled within minutes, of ten times as
many within hours, and no signal is heard meanwhile"""

LARGEST_SCALE = float(jnp.finfo(jnp.float32).max)
"""of w_std and b_std: networks are trained in single precision"""

_once = functools.lru_cache(maxsize=64, typed=True)


@dataclass(frozen=True, eq=False)
class Network:
    """An architecture: how it starts, what it computes, and its kernel at infinite width."""

    name: str
    start: Callable[[PRNGKeyArray, tuple[int, ...]], Params]
    """(key, features of one point) -> parameters, drawn in float32"""
    apply: Callable[[Params, Array], Array]
    """(params, inputs (points, *features)) -> (points, outputs)"""
    outputs: int
    kernel: Callable[..., Any] | None
    """(x1, x2, "ntk" or "nngp") -> kernel, by neural-tangents; None where none is known"""
    description: dict[str, Any] = field(default_factory=dict)
    """the arguments it was made from, for the record"""
    hidden: Callable[[Params, Array], dict[str, Array]] | None = None
    """(params, inputs) -> activations (points, ..., channels) by name of the hidden layer, and last
    the features (points, features) that the readout reads; None where they are not known"""
    permutable: dict[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    """per name of `hidden`, what its channels are numbered along: pairs of a parameter tensor (its
    place among the leaves of the parameters) and an axis of it; an axis longer than the channels
    runs over places first, as a flattened image does"""

    def __repr__(self) -> str:
        return f"Network({self.name!r}, {self.outputs} outputs)"

    def __reduce__(self) -> Any:
        """One of our own kinds by the arguments it was made from; others part by part."""
        arguments = dict(self.description)
        make = KINDS.get(arguments.pop("kind", None))
        if make is not None and make(**arguments).apply is self.apply:
            return partial(make, **arguments), ()
        return Network, tuple(getattr(self, each.name) for each in fields(self))

    @functools.cached_property
    def with_features(self) -> Callable[[Params, Array], Array]:
        """(params, inputs) -> the outputs, and beside them the features: what the readout reads."""
        if self.hidden is None:
            raise InputError(f"network {self.name}: its hidden layers are not known (`hidden`)")

        def outputs_and_features(params: Params, inputs: Array) -> Array:
            *_, last = self.hidden(params, inputs).values()
            return jnp.concatenate([self.apply(params, inputs), last], axis=-1)

        return outputs_and_features

    @functools.cached_property
    def in_bfloat16(self) -> Network:
        """The same network computed in bfloat16, with products accumulated in float32 by XLA.

        Parameters and inputs are rounded where they are used; outputs and gradients are float32.
        """
        return replace(
            self,
            apply=_in_bfloat16(self.apply),
            hidden=self.hidden and _in_bfloat16(self.hidden),
        )

    @functools.cached_property
    def at_most(self) -> Callable[[int], Network]:
        """points -> the same network, at so many at a time, without remembering activations.

        A gradient repeats their forward pass (`jax.checkpoint`) and adds up these microbatches.
        """

        @functools.cache
        def limited(points: int) -> Network:
            return replace(
                self,
                apply=_at_most(points, self.apply),
                hidden=self.hidden and _at_most(points, self.hidden),
            )

        return limited

    def taps(self, params: Params, inputs: Float[Array, points * features]) -> Structure:
        """Activations and back-propagated signals at every layer: the Jacobian in factors."""
        return structure(self.apply, params, inputs)


def _in_bfloat16(function: Callable[[Params, Array], Any]) -> Callable[[Params, Array], Any]:
    cast = lambda tree, dtype: jax.tree.map(lambda leaf: leaf.astype(dtype), tree)

    @functools.wraps(function)
    def rounded(params: Params, inputs: Array) -> Any:
        return cast(function(*cast((params, inputs), jnp.bfloat16)), jnp.float32)

    return rounded


def _at_most(points: int, function: Callable[[Params, Array], Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def in_parts(params: Params, inputs: Array) -> Any:
        if len(inputs) <= points:
            return function(params, inputs)

        def at_one(point: Array) -> Any:
            return jax.tree.map(lambda seen: seen[0], function(params, point[None]))

        return jax.lax.map(jax.checkpoint(at_one), inputs, batch_size=points)

    return in_parts


ACTIVATIONS: dict[str, Callable[[], Any]] = {
    "relu": stax.Relu,
    "erf": stax.Erf,
    "gelu": stax.Gelu,
    "sigmoid": stax.Sigmoid_like,
    "sin": stax.Sin,
    "leaky_relu": lambda: stax.LeakyRelu(0.01),
    "abs": stax.Abs,
}
"""name -> layer, those whose kernel has a closed form; "sigmoid" is (1 + erf(x / 2.4020563)) / 2,
which neural-tangents offers in place of the logistic function; "erf" stands in for tanh"""


def mlp(
    widths: Sequence[int],
    *,
    outputs: int,
    activation: str = "relu",
    w_std: float | Sequence[float] = 2**0.5,
    b_std: float | Sequence[float] = 0.1,
) -> Network:
    """f = A_L o phi o ... o phi o A_1,  A_l(x) = w_std_l W_l x / sqrt(inputs) + b_std_l b_l.

    `widths` are those of the hidden layers (none makes the model affine). `w_std` and `b_std` are
    one number for all layers or one per layer, the readout last; b_std 0 leaves biases out.
    """
    widths, outputs, scales = _checked("mlp", widths, outputs, activation, w_std, b_std)
    return _mlp(widths, outputs, activation, scales)


@_once
def _mlp(widths: tuple[int, ...], outputs: int, activation: str, scales: Scales) -> Network:
    dense = [
        stax.Dense(size, w, b or None)
        for size, w, b in zip([*widths, outputs], *scales, strict=True)
    ]
    parts = [part for layer in dense[:-1] for part in (layer, ACTIVATIONS[activation]())]
    names = [*_numbered("dense", len(widths)), "readout"]
    description = _described("mlp", widths, outputs, activation, scales)
    network = _network(stax.serial(*parts, dense[-1]), names, 1, None, description)
    return replace(
        network,
        hidden=partial(_chained, names[:-1], parts) if widths else None,
        permutable=_places(_leaves(names, scales[1], "dense"), _chain(names)),
    )


def cnn(
    widths: Sequence[int],
    *,
    outputs: int,
    activation: str = "relu",
    w_std: float | Sequence[float] = 2**0.5,
    b_std: float | Sequence[float] = 0.1,
    filter: int = 3,
    strides: int = 1,
    pool: str = "average",
    image: Sequence[int] | None = None,
) -> Network:
    """f = A o pool o phi o C_L o ... o phi o C_1, with convolutions C_l of `widths` channels.

    C_l(x) = w_std_l W_l * x / sqrt(filter^2 channels) + b_std_l b_l, padded so that strides alone
    shrink the image; inputs are (points, rows, columns, channels). `pool` is "average", over all
    places, or "flatten", which keeps them. `image` is the shape that flat inputs are read in. The
    rest as for `mlp`.
    """
    widths, outputs, scales = _checked("cnn", widths, outputs, activation, w_std, b_std)
    filter, strides, shape = _checked_image("cnn", filter, strides, image)
    check_name("cnn: pool", pool, POOLS)
    return _cnn(widths, outputs, activation, scales, filter, strides, pool, shape)


@_once
def _cnn(
    widths: tuple[int, ...],
    outputs: int,
    activation: str,
    scales: Scales,
    filter: int,
    strides: int,
    pool: str,
    image: tuple[int, ...] | None,
) -> Network:
    *convolutions, readout = zip([*widths, outputs], *scales, strict=True)
    parts = [
        part
        for size, w, b in convolutions
        for part in (_convolution(size, filter, strides, w, b), ACTIVATIONS[activation]())
    ]
    pooling = POOLS[pool]()
    layers = stax.serial(*parts, pooling, stax.Dense(*readout[:2], readout[2] or None))
    names = [*_numbered("conv", len(widths)), "readout"]
    description = _described("cnn", widths, outputs, activation, scales) | {
        "filter": filter,
        "strides": strides,
        "pool": pool,
        "image": image,
    }
    network = _network(_reading(layers, image), names, 3, image, description)

    def hidden(params: Params, inputs: Array) -> dict[str, Array]:
        seen = _chained(names[:-1], parts, params, _read(inputs, image))
        return seen | {"features": pooling[1]((), seen[names[-2]])}

    return replace(
        network,
        hidden=hidden if widths else None,
        permutable=_places(_leaves(names, scales[1], "conv"), _chain(names)),
    )


def resnet(
    widths: Sequence[int],
    *,
    outputs: int,
    activation: str = "relu",
    w_std: float | Sequence[float] = 2**0.5,
    b_std: float | Sequence[float] = 0.1,
    filter: int = 3,
    strides: int = 1,
    pool: str = "average",
    image: Sequence[int] | None = None,
) -> Network:
    """f = A o pool o phi o B_L o ... o B_1 o C_0, with B_l(x) = S_l(x) + C'_l(phi(C_l(phi(x)))).

    Blocks of `widths` channels without batch normalisation (which would make the outputs of one
    point depend on its batch). S_l and C_l step by `strides`, S_l is a convolution of one place,
    and C_0, the stem, has the first block's channels.
    `w_std` and `b_std` have one number per block and one for the readout; the rest as for `cnn`.
    """
    widths, outputs, scales = _checked("resnet", widths, outputs, activation, w_std, b_std)
    if not widths:
        raise InputError("resnet: widths must name at least one block, got none")
    filter, strides, shape = _checked_image("resnet", filter, strides, image)
    check_name("resnet: pool", pool, POOLS)
    return _resnet(widths, outputs, activation, scales, filter, strides, pool, shape)


@_once
def _resnet(
    widths: tuple[int, ...],
    outputs: int,
    activation: str,
    scales: Scales,
    filter: int,
    strides: int,
    pool: str,
    image: tuple[int, ...] | None,
) -> Network:
    *blocks, readout = zip([*widths, outputs], *scales, strict=True)
    phi = ACTIVATIONS[activation]
    stem = _convolution(blocks[0][0], filter, 1, *blocks[0][1:])
    triples = [_triple(block, filter, strides) for block in blocks]
    sums = [part for triple in triples for part in _residual(phi, *triple)]
    pooling = POOLS[pool]()
    layers = stax.serial(stem, *sums, phi(), pooling, stax.Dense(*readout[:2], readout[2] or None))
    named = _blocks(len(widths))
    names = ["stem", *(name for block in named for name in block), "readout"]
    description = _described("resnet", widths, outputs, activation, scales) | {
        "filter": filter,
        "strides": strides,
        "pool": pool,
        "image": image,
    }
    network = _network(_reading(_independent(layers), image), names, 3, image, description)

    def hidden(params: Params, inputs: Array) -> dict[str, Array]:
        act = partial(phi()[1], ())
        stream = stem[1](params["stem"], _read(inputs, image))
        seen = {"stem": act(stream)}
        for (shortcut, first, second), block in zip(triples, named, strict=True):
            beside, inner, outer = (params[name] for name in block)
            seen[block[1]] = act(first[1](inner, act(stream)))
            stream = shortcut[1](beside, stream) + second[1](outer, seen[block[1]])
            seen[block[2]] = act(stream)
        return seen | {"features": pooling[1]((), act(stream))}

    biases = [scales[1][0], *(each for b in scales[1][:-1] for each in (0.0, b, b)), scales[1][-1]]
    return replace(
        network,
        hidden=hidden,
        permutable=_places(_leaves(names, biases, "conv"), _streams(named)),
    )


def _triple(block: tuple[int, float, float], filter: int, strides: int) -> tuple[Any, Any, Any]:
    """S, C and C' of one block."""
    size, w_std, b_std = block
    return (
        _convolution(size, 1, strides, w_std, 0.0),
        _convolution(size, filter, strides, w_std, b_std),
        _convolution(size, filter, 1, w_std, b_std),
    )


def _residual(phi: Any, shortcut: Any, first: Any, second: Any) -> tuple[Any, Any, Any]:
    """B(x) = S(x) + C'(phi(C(phi(x)))) as layers in series."""
    beside = stax.serial(phi(), first, phi(), second)
    return stax.FanOut(2), stax.parallel(shortcut, beside), stax.FanInSum()


def wrap(
    apply: Callable[[Any, Array], Array],
    start: Callable[[PRNGKeyArray, Any], Any],
    outputs: int,
    *,
    name: str = "wrapped",
    kernel: Callable[..., Any] | None = None,
    trained: Trained = None,
    read: Callable[[Array], Any] | None = None,
) -> Network:
    """A network from any JAX model, f(x) = apply(start(key, ...), read(x)).

    `apply(variables, inputs)` maps (points, *features) to (points, outputs), each point by itself,
    or to (points,) where there is one output. `start` takes a key, and either the features of one
    point, a tuple, or a point (1, *features) as flax and haiku do. It is called in float32, and
    floating-point parameters of any other precision become float32.

    `trained` says which of the variables are parameters; the others are frozen and must be the same
    for every key:

        "params"       what is found under that name, or under one of several
        nnx.Param      what is of that type, or of one of several
        a function     array -> whether it is trained
        a tree         of such truths, of which a branch may be given by one

    Left out, all arrays of floating-point numbers are, and of flax's collections "params" alone.
    `read` makes of points (points, *features), which are floating-point numbers, what the model
    takes: tokens, lambda x: x.astype(int), or several arrays, lambda x: {"image": x[:, :64],
    "age": x[:, 64:]}; data of both kinds are read with scale="none". Left out, the model takes
    points as they are. `kernel` is (x1, x2, "ntk" or "nngp") -> kernel at infinite width, if it is
    known.

    Refuses (`InputError`) a model with other outputs than these, or with no parameters; and, where
    it meets data in a `Problem`, one whose outputs for a point depend on the others of its batch.
    """
    check_whole("wrap: outputs", outputs, 1)
    if read is not None and not callable(read):
        raise InputError(f"wrap: read must be a function of points, got {read!r}")
    model = Model(apply, start, int(outputs), trained, read)
    description = {"kind": "wrapped", "name": name}
    return Network(name, model.start, model.apply, int(outputs), kernel, description)


KINDS: dict[str, Callable[..., Network]] = {"mlp": mlp, "cnn": cnn, "resnet": resnet}
"""name -> architecture; all take `widths` and `outputs`"""


def _network(
    layers: tuple[Any, Any, Any],
    names: list[str],
    axes: int,
    image: tuple[int, ...] | None,
    description: dict[str, Any],
) -> Network:
    """A network of stax layers, whose parameters get these names, in the order of the layers.

    They read points of so many `axes`, or, where there is an `image`, flat ones as such images.
    """
    initialise, evaluate, infinite = layers
    kind = description["kind"]

    nested = jax.eval_shape(
        lambda key: initialise(key, (-1, *(image or (1,) * axes)))[1], jax.random.key(0)
    )
    _check_count(kind, nested)
    _, tree = jax.tree.flatten(nested, is_leaf=_is_layer)

    @partial(jax.jit, static_argnums=1)
    def draw(key: PRNGKeyArray, features: tuple[int, ...]) -> Params:
        drawn = jax.tree.leaves(initialise(key, (-1, *features))[1], is_leaf=_is_layer)
        return dict(zip(names, drawn, strict=True))

    def start(key: PRNGKeyArray, features: tuple[int, ...]) -> Params:
        _check_features(kind, axes, image, features)
        with precision.single():
            count = _check_count(kind, jax.eval_shape(lambda key: draw(key, features), key))
            what = f"{kind}: {count:.3g} parameters"
            sizes.check_room(what, EACH * count, "ask for smaller widths")
            return draw(key, features)

    def kernel(x1: Any, x2: Any, get: str) -> Any:
        _check_features(kind, axes, image, x1.shape[1:])
        return infinite(x1, x2, get)

    def apply(params: Params, inputs: Array) -> Array:
        return evaluate(jax.tree.unflatten(tree, [params[name] for name in names]), inputs)

    listed = "-".join(map(str, [*description["widths"], description["outputs"]]))
    return Network(
        name=f"{description['kind']} {listed} {description['activation']}",
        start=start,
        apply=apply,
        outputs=description["outputs"],
        kernel=kernel,
        description=description,
    )


def _is_layer(node: Any) -> bool:
    """Whether this is (weight, bias or None), the parameters of one layer of stax."""
    return isinstance(node, tuple) and len(node) == 2 and hasattr(node[0], "shape")


def _reading(layers: tuple[Any, Any, Any], image: Sequence[int] | None) -> tuple[Any, Any, Any]:
    """The layers, with flat inputs read as images of that shape."""
    if image is None:
        return layers
    initialise, evaluate, kernel = layers
    read = lambda x: None if x is None else _read(x, image)
    return (
        lambda key, _: initialise(key, (-1, *image)),
        lambda params, inputs: evaluate(params, read(inputs)),
        lambda x1, x2, get: kernel(read(x1), read(x2), get),
    )


def _read(inputs: Array, image: Sequence[int] | None) -> Array:
    return inputs if image is None else inputs.reshape(len(inputs), *image)


def _independent(layers: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    """Layers whose branches are known to be independent: each begins with a convolution."""
    initialise, evaluate, kernel = layers

    def quiet(x1: Any, x2: Any, get: Any) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`FanIn` layers assume", UserWarning)
            return kernel(x1, x2, get)

    return initialise, evaluate, quiet


def _convolution(size: int, filter: int, strides: int, w_std: float, b_std: float) -> Any:
    """The layer of stax, computed as a product of patches and filters.

    Agents have filters of their own, and side by side such products are many times faster than
    convolutions, of which XLA then makes a grouped one.
    """
    initialise, _, kernel = stax.Conv(
        size, (filter, filter), (strides, strides), "SAME", W_std=w_std, b_std=b_std or None
    )

    def evaluate(params: Any, inputs: Array, **_: Any) -> Array:
        weights, bias = params
        patches = _patches(inputs, filter, strides)
        scale = w_std / patches.shape[-1] ** 0.5
        outputs = scale * (patches @ weights.reshape(-1, size))
        return outputs if bias is None else outputs + b_std * bias

    return initialise, evaluate, kernel


def _patches(
    images: Float[Array, "points rows columns channels"], filter: int, strides: int
) -> Float[Array, "points rows_out columns_out entries"]:
    """What a filter sees at each place, zeros around the image; (row, column, channel) in order."""
    sizes = images.shape[1:3]
    around = jax.lax.padtype_to_pads(sizes, (filter, filter), (strides, strides), "SAME")
    padded = jnp.pad(images, ((0, 0), *around, (0, 0)))
    rows, columns = ((-(-size // strides) - 1) * strides + 1 for size in sizes)
    seen = [
        padded[:, row : row + rows : strides, column : column + columns : strides]
        for row, column in itertools.product(range(filter), repeat=2)
    ]
    return jnp.concatenate(seen, axis=-1)


POOLS = {"average": stax.GlobalAvgPool, "flatten": stax.Flatten}
"""name -> what follows the last convolution"""


def _numbered(part: str, count: int) -> list[str]:
    digits = len(str(count))
    return [f"{part}_{number:0{digits}}" for number in range(1, count + 1)]


def _checked(
    kind: str,
    widths: Sequence[int],
    outputs: int,
    activation: str,
    w_std: float | Sequence[float],
    b_std: float | Sequence[float],
) -> tuple[tuple[int, ...], int, Scales]:
    """Widths, outputs, and w_std and b_std of every layer, once all are found in order."""
    if not isinstance(widths, Sequence):
        raise InputError(f"{kind}: widths must be a list of whole numbers, got {widths!r}")
    if len(widths) > DEEPEST:
        raise InputError(
            f"{kind}: widths must name at most {DEEPEST} layers, got {len(widths)}; so many cannot "
            f"be compiled"
        )
    sizes = [*widths, outputs]
    if not all(_is_size(size) for size in sizes):
        raise InputError(f"{kind}: widths and outputs must be whole numbers from 1 on, got {sizes}")
    check_name("activation", activation, ACTIVATIONS)
    w_stds, b_stds = (
        _per_layer(kind, name, value, len(sizes))
        for name, value in (("w_std", w_std), ("b_std", b_std))
    )
    if min(w_stds) <= 0 or min(b_stds) < 0:
        raise InputError(
            f"{kind}: w_std must be positive and b_std not negative, got {w_std}, {b_std}"
        )
    return tuple(map(int, widths)), int(outputs), (w_stds, b_stds)


def _checked_image(
    kind: str, filter: int, strides: int, image: Sequence[int] | None
) -> tuple[int, int, tuple[int, ...] | None]:
    """The settings of convolutions, once they are found in order; `image` as a tuple."""
    filter = check_whole(f"{kind}: filter", filter, 1)
    strides = check_whole(f"{kind}: strides", strides, 1)
    if image is None:
        return filter, strides, None
    if (
        not isinstance(image, Sequence)
        or len(image) != 3
        or not all(_is_size(size) for size in image)
    ):
        raise InputError(
            f"{kind}: image must be rows, columns and channels, three whole numbers from 1 on, "
            f"got {image!r}"
        )
    return filter, strides, tuple(map(int, image))


def _check_features(
    kind: str, axes: int, image: tuple[int, ...] | None, features: tuple[int, ...]
) -> None:
    """Refuse points of a shape that the layers cannot read."""
    if image is None and len(features) != axes:
        wanted = {
            1: "flat points (features,)",
            3: "points (rows, columns, channels), or `image`, the shape that flat ones are read in",
        }
        raise InputError(f"{kind}: needs {wanted[axes]}; got points of shape {features}")
    if image is not None and features not in (image, (math.prod(image),)):
        raise InputError(
            f"{kind}: image {list(image)} has {math.prod(image)} numbers, which must be as many as "
            f"a point has; got points of shape {features}"
        )


def _check_count(kind: str, params: Any) -> int:
    """How many parameters there are, by their shapes; refuses more than `LARGEST`."""
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    if count > LARGEST:
        raise InputError(
            f"{kind}: widths must give at most {LARGEST:.2g} parameters, got {count:.2g}"
        )
    return count


def _is_size(value: Any) -> bool:
    return is_whole(value) and value >= 1


def _described(
    kind: str,
    widths: Sequence[int],
    outputs: int,
    activation: str,
    scales: Scales,
) -> dict[str, Any]:
    return {
        "kind": kind,
        "widths": list(widths),
        "outputs": outputs,
        "activation": activation,
        "w_std": list(scales[0]),
        "b_std": list(scales[1]),
    }


def _chained(
    names: Sequence[str], parts: Sequence[Any], params: Params, inputs: Array
) -> dict[str, Array]:
    """Activations after each of the named layers; `parts` are layers and activations in turn."""
    activations, seen = inputs, {}
    for name, (_, layer, _), (_, phi, _) in zip(names, parts[::2], parts[1::2], strict=True):
        activations = seen[name] = phi((), layer(params[name], activations))
    return seen


class _Leaves(NamedTuple):
    """Where a layer's weight and bias are among the leaves, and along which axes it reads."""

    weight: int
    bias: int | None
    axis: int
    """of the channels that it reads; those that it makes are numbered by the next axis"""


def _leaves(names: Sequence[str], b_std: Sequence[float], kind: str) -> dict[str, _Leaves]:
    """The leaves of all layers of that kind ("dense" or "conv") and of the readout."""
    biased, found, number = dict(zip(names, b_std, strict=True)), {}, 0
    for name in sorted(names):
        axis = 2 if kind == "conv" and name != "readout" else 0
        found[name] = _Leaves(number, number + 1 if biased[name] else None, axis)
        number += 2 if biased[name] else 1
    return found


Wiring = dict[str, tuple[Sequence[str], Sequence[str]]]
"""hidden layer -> the layers that make its channels, and those that read them"""


def _places(leaves: dict[str, _Leaves], wiring: Wiring) -> dict[str, tuple[tuple[int, int], ...]]:
    """Hidden layer -> the leaves and axes along which its channels are numbered."""

    def made(layer: _Leaves) -> list[tuple[int, int]]:
        tensors = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
        return [(tensor, layer.axis + 1) for tensor in tensors]

    return {
        name: (
            *(place for maker in makers for place in made(leaves[maker])),
            *((leaves[reader].weight, leaves[reader].axis) for reader in readers),
        )
        for name, (makers, readers) in wiring.items()
    }


def _chain(names: Sequence[str]) -> Wiring:
    return {name: ([name], [following]) for name, following in itertools.pairwise(names)}


def _blocks(count: int) -> list[tuple[str, str, str]]:
    """The names of a residual block's layers: shortcut, first and second convolution."""
    return [
        (f"{block}_shortcut", f"{block}_conv_1", f"{block}_conv_2")
        for block in _numbered("block", count)
    ]


def _streams(blocks: Sequence[tuple[str, str, str]]) -> Wiring:
    """The shortcut and the second convolution of a block add up: they share one numbering."""
    wiring, makers, stream = {}, ["stem"], "stem"
    for shortcut, first, second in blocks:
        wiring[stream] = (makers, [shortcut, first])
        wiring[first] = ([first], [second])
        makers, stream = [shortcut, second], second
    return wiring | {stream: (makers, ["readout"])}


def _per_layer(
    kind: str, name: str, value: float | Sequence[float], layers: int
) -> tuple[float, ...]:
    several = isinstance(value, Sequence) and not isinstance(value, str)
    if several and len(value) != layers:
        raise InputError(f"{kind}: {name} must be one number or {layers}, got {len(value)}")
    values = tuple(value) if several else (value,) * layers
    for each in values:
        if not is_real(each) or not abs(each) <= LARGEST_SCALE:
            raise InputError(
                f"{kind}: {name} must be finite numbers, up to {LARGEST_SCALE:.2g}, got {each!r}"
            )
    return tuple(float(each) for each in values)


__all__ = ["KINDS", "Network", "cnn", "mlp", "resnet", "wrap"]

__getattr__, __dir__ = public(__name__, __all__)
