"""Models from elsewhere: how they start, what of them is trained, and what they compute.

A model's variables are any tree. Those that are trained are its parameters; the others (running
averages, functions, whole numbers) are frozen, and put back where the model is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from ntkdyn import precision
from ntkdyn.errors import InputError, shown
from ntkdyn.kernels.pointwise import columns

Trained = str | type | tuple[str | type, ...] | Callable[[Any], bool] | PyTree | None
"""which variables are trained, as `ntkdyn.networks.wrap` lists the ways"""

FLAX = "params"
"""what flax calls the collection of variables that are trained"""


class Model:
    """`start` and `apply` of a model, with the trained variables alone for parameters."""

    def __init__(
        self,
        apply: Callable[[Any, Array], Any],
        start: Callable[[PRNGKeyArray, Any], Any],
        outputs: int,
        trained: Trained,
        read: Callable[[Array], Any] | None = None,
    ) -> None:
        self._apply, self._start = apply, start
        self._outputs, self._trained = outputs, trained
        self._read = read or _as_they_are
        self._frozen: dict[tuple[int, ...], PyTree] = {}
        """features of a point -> the variables that are not trained"""

    def start(self, key: PRNGKeyArray, features: tuple[int, ...]) -> PyTree:
        """(key, features of one point) -> parameters, drawn in float32."""
        features = tuple(features)
        with precision.single():
            params, frozen = self._begun(key, features)
        known = self._frozen.setdefault(features, frozen)
        if not _same(known, frozen):
            raise InputError(
                "wrap: what is not trained must be the same for every seed, but `start` draws it "
                "anew; draw it once, outside `start`, or train it too (`trained`)"
            )
        return params

    def apply(self, params: PyTree, inputs: Array) -> Array:
        """(params, inputs (points, *features)) -> (points, outputs), as precise as `params`."""
        features = inputs.shape[1:]
        if features not in self._frozen:
            with precision.single(), jax.ensure_compile_time_eval():
                self.start(jax.random.key(0), features)
        return self._computed(params, self._frozen[features], inputs)

    def _computed(self, params: PyTree, frozen: PyTree, inputs: Array) -> Array:
        returned = self._apply(eqx.combine(params, frozen), self._read(inputs))
        alone = self._outputs == 1 and getattr(returned, "shape", None) == inputs.shape[:1]
        values = columns(returned[:, None] if alone else returned, len(inputs))
        if values.shape[1] != self._outputs:
            raise InputError(
                f"wrap: `outputs` is {self._outputs}, but apply returns {values.shape[1]} per point"
            )
        return values.astype(jnp.result_type(values, *jax.tree.leaves(params)))

    def _begun(self, key: PRNGKeyArray, features: tuple[int, ...]) -> tuple[PyTree, PyTree]:
        """Parameters and frozen variables, by the way of calling `start` that `apply` can use."""
        failed: list[Exception] = []
        for given in (features, self._read(jnp.zeros((1, *features)))):
            try:
                params, frozen = self._parted(self._start(key, given))
                points = jax.ShapeDtypeStruct((2, *features), jnp.float32)
                outputs = lambda p, x, state=frozen: self._computed(p, state, x)
                jax.eval_shape(outputs, params, points)
            except Exception as error:  # whatever a model raises that is called in another way
                failed.append(error)
            else:
                return params, frozen
        ours = [error for error in failed if isinstance(error, InputError)]
        raise (ours or [_unusable(features, *failed)])[0] from failed[0]

    def _parted(self, variables: PyTree) -> tuple[PyTree, PyTree]:
        """The trained variables, in float32, and the others, each with gaps for the other's."""
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
            if hasattr(leaf, "dtype") and not _is_array(leaf):
                raise InputError(
                    f"wrap: `start` must return JAX or NumPy arrays, but {_named(path)} is a "
                    f"{type(leaf).__module__}.{type(leaf).__name__}"
                )
        params, frozen = eqx.partition(variables, _chosen(variables, self._trained))
        if not jax.tree.leaves(params):
            raise InputError(
                f"wrap: a model must have parameters, arrays of floating-point numbers, but "
                f"`trained` ({shown(self._trained)}) chooses none of what `start` returned"
            )
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            if not _is_trainable(leaf):
                raise InputError(
                    f"wrap: only floating-point arrays can be trained, but `trained` chooses "
                    f"{_named(path)}, {getattr(leaf, 'dtype', type(leaf).__name__)}"
                )
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params), frozen


def _as_they_are(points: Array) -> Array:
    return points


def _chosen(variables: PyTree, trained: Trained) -> PyTree | Callable[[Any], bool]:
    """Which variables are trained, as a function of a leaf or a tree of truths."""
    if trained is None:
        collections = isinstance(variables, Mapping) and len(variables) > 1 and FLAX in variables
        return _chosen(variables, FLAX) if collections else _is_trainable
    listed = trained if isinstance(trained, tuple) else (trained,)
    if all(isinstance(each, type) for each in listed):
        of_type = lambda node: isinstance(node, listed)
        return jax.tree.map(of_type, variables, is_leaf=of_type)
    if all(isinstance(each, str) for each in listed):
        under = lambda path, _: any(_named(path[: len(each.split("/"))]) == each for each in listed)
        return jax.tree_util.tree_map_with_path(under, variables)
    return trained


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic))


def _is_trainable(leaf: Any) -> bool:
    return _is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)


def _named(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/") or "the variable"


def _same(one: PyTree, other: PyTree) -> bool:
    """Whether two trees of frozen variables are equal; where a key is traced, it is not known."""
    arrays = [jax.tree.leaves(eqx.filter(tree, _is_array)) for tree in (one, other)]
    if any(isinstance(leaf, jax.core.Tracer) for leaves in arrays for leaf in leaves):
        return True
    return len(arrays[0]) == len(arrays[1]) and all(
        np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(*arrays, strict=True)
    )


def _unusable(features: tuple[int, ...], plain: Exception, pointed: Exception) -> InputError:
    said = (f"{type(error).__name__}: {' '.join(str(error).split())}" for error in (plain, pointed))
    return InputError(
        "wrap: apply cannot use what start returns for points of shape {}; "
        "start(key, features) gave {}; start(key, point) gave {}".format(
            features, *(text[:160] for text in said)
        )
    )
