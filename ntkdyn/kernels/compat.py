"""neural-tangents on current JAX: the only file that knows how.

neural-tangents 0.6.5 takes names from `jax.core`, `jax.util`, `jax.random` and
`jax.interpreters.ad` that JAX has since moved, and its `experimental` package imports
TensorFlow. While it is imported the moved names are put back and an empty `experimental`
stands in; afterwards JAX and `sys.modules` are as they were. What works this way: `stax`,
`predict`, `batch`, and the empirical kernels by Jacobian contraction and by NTK-vector
products. Its structured derivatives do not; `ntkdyn.kernels.empirical` takes their place.
"""

import contextlib
import sys
from collections.abc import Iterator
from importlib.metadata import version
from types import ModuleType

import jax
import jax.core
import jax.extend.core
import jax.interpreters.ad
import jax.random


def _moved_names() -> dict[ModuleType, dict[str, object]]:
    """Module -> name -> what neural-tangents expects to find there."""
    extend = jax.extend.core
    jaxpr = {name: getattr(extend, name) for name in ("Jaxpr", "JaxprEqn", "Literal", "Var")}
    return {
        jax.core: {
            **jaxpr,
            "Primitive": extend.Primitive,
            "ShapedArray": jax.core.ShapedArray,
            "AbstractValue": jax.core.AbstractValue,
            "Value": object,
            "eval_context": contextlib.nullcontext,
        },
        jax.random: {"KeyArray": jax.Array},
        jax.interpreters.ad: {"zeros_like_p": extend.Primitive("zeros_like")},
    }


def _stand_ins() -> dict[str, ModuleType]:
    util = ModuleType("jax.util")
    util.safe_map = lambda function, *items: [function(*each) for each in zip(*items, strict=True)]
    util.safe_zip = lambda *items: list(zip(*items, strict=True))
    experimental = ModuleType("neural_tangents.experimental")
    return {util.__name__: util, experimental.__name__: experimental}


@contextlib.contextmanager
def _older_jax() -> Iterator[None]:
    """JAX with the moved names in their old places, for as long as the context lasts."""
    added, placed = [], []
    try:
        for module, names in _moved_names().items():
            for name, value in names.items():
                if not hasattr(module, name):
                    setattr(module, name, value)
                    added.append((module, name))
        for name, module in _stand_ins().items():
            if name not in sys.modules:
                sys.modules[name] = module
                placed.append(name)
        yield
    finally:
        for module, name in added:
            delattr(module, name)
        for name in placed:
            del sys.modules[name]


def _import_neural_tangents() -> ModuleType:
    try:
        with _older_jax():
            import neural_tangents
    except Exception as error:
        raise ImportError(
            f"neural-tangents {version('neural-tangents')} does not work on JAX {jax.__version__}: "
            f"{type(error).__name__}: {error}. ntkdyn supports JAX 0.10 to 0.12."
        ) from error
    return neural_tangents


neural_tangents = _import_neural_tangents()
stax = neural_tangents.stax
