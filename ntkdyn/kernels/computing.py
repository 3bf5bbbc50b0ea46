"""One call for every empirical kernel: any model, any form, in bounded memory.

    compute(apply, params, x1, x2, form=..., options=...) -> Computed (values, layers, plan)

The plan says what was done: the method and what each would have cost, the rule for every layer, the
tiles, the precision.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree

from ntkdyn import arrays
from ntkdyn.disk import path_of
from ntkdyn.errors import InputError, check_flag, check_kind, check_name, shown
from ntkdyn.kernels import forms, jobs, programs
from ntkdyn.kernels.jobs import Job
from ntkdyn.kernels.pointwise import outputs_of
from ntkdyn.kernels.programs import Shape
from ntkdyn.kernels.results import Computed, KernelPlan, Work
from ntkdyn.kernels.structure import distinct_layers
from ntkdyn.kernels.tiles import Progress
from ntkdyn.kernels.walk import Apply
from ntkdyn.processes import distinct
from ntkdyn.progress import watched


class ComputeOptions(NamedTuple):
    """How a kernel is computed, in what memory and on which devices.

    Example:
        >>> exact = nd.kernels.ComputeOptions(dtype="float64", memory="1 GB")
        >>> nd.kernels.compute(net.apply, prob.start, prob.inputs[:4], options=exact).plan.dtype
        'float64'
    """

    method: str = "auto"
    """"structured", "jacobian" or "products" (`ntkdyn.kernels.programs`); "auto": the one with the
    fewest operations"""
    dtype: str | None = None
    """"float32" or "float64"; None: that of the parameters, float32 where theirs is narrower"""
    accumulate: str | None = None
    """the same, for the sums over parameters"""
    memory: int | float | str | None = None
    """what is held at most, the kernel included: bytes, or "200 MB" and the like"""
    file: str | Path | None = None
    """the kernel is not held but written to HDF5 tile by tile, and the same call continues what was
    interrupted"""
    devices: Sequence[jax.Device] | None = None
    """that share the work; those of other processes too, if each makes the same call"""


@watched("computing tiles")
def compute(
    apply: Apply,
    params: PyTree,
    x1: Any,
    x2: Any = None,
    *,
    form: str | int = "full",
    by_layer: bool = False,
    options: ComputeOptions = ComputeOptions(),
    progress: Progress | None = None,
) -> Computed:
    """Theta = J(x1) J(x2)^T of any `apply(params, inputs)`; x2 defaults to x1.

    `apply` maps (points, *features) to (points, outputs), each point by itself. `form` is

        "full"       Theta[n, k, m, j]
        "trace"      sum over k of Theta[n, k, m, k]
        "diagonal"   Theta[n, k, n, k]
        an int k     Theta[n, k, m, k] of that one output

    and `by_layer` keeps each layer's part. `options` say how it is computed, in what memory and on
    which devices. `progress` is called with (tiles done, tiles in all).

    Args:
        apply: (params, inputs) -> outputs.
        params: a tree of arrays.
        x1: points (n, *features).
        x2: others (m, *features); None: the same.
        form: "full", "trace", "diagonal" or the number of an output.
        by_layer: whether each layer's part is kept.
        options: how it is computed.
        progress: called with (tiles done, tiles in all).

    Returns:
        The kernel, in units of outputs squared, and the plan.

    Raises:
        InputError: for points that are not finite floats, of other shapes or none; outputs that
            depend on the other points of a batch; a budget too small for one tile; another kernel's
            file.

    Example:
        >>> nd.kernels.compute(net.apply, prob.start, prob.inputs[:4], form="trace").values.shape
        (4, 4)
    """
    check_flag("by_layer", by_layer)
    budget, file, devices = surroundings(options)
    dtype, accumulate = options.dtype, options.accumulate
    kind = _kind(dtype, params)
    with jobs.context(kind):
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, kind), params)
        left = checked_points("x1", x1, kind)
        right = None if x2 is None else checked_points("x2", x2, kind)
        outputs = _check_model(apply, params, left, right)
        shape = _shape(form, outputs, by_layer, accumulate, x2 is None, kind)
        work = _work(apply, shape, params, left, right)
        chosen = _method(options.method, work, shape, accumulate)
        job = _job(apply, params, left, right, shape, chosen, outputs)
        job = job._replace(devices=devices, budget=budget, progress=progress)
        if shape.form == "diagonal":
            if file is not None:
                raise InputError('file: "diagonal" is small; leave the file out')
            values, arranged = jobs.points(job)
        else:
            values, arranged = jobs.pairs(job, file)
        plan = KernelPlan(
            form=f"output {form}" if shape.output is not None else str(form),
            method=chosen,
            work=work,
            rules=_rules(job, shape) if chosen == "structured" else {},
            tiling=arranged.tiling,
            passes=len(arranged.passes),
            dtype=kind,
            accumulate=accumulate or kind,
            memory=budget,
            peak=arranged.peak,
            devices=len(devices) if devices else 1,
        )
    return Computed(plan, values if by_layer else {}, None if by_layer else values["all"])


def _job(
    apply: Apply,
    params: PyTree,
    left: np.ndarray,
    right: np.ndarray | None,
    shape: Shape,
    method: str,
    outputs: int,
) -> Job:
    n, m = len(left), len(left if right is None else right)
    k = 1 if shape.output is not None else outputs
    program = lambda share: programs.program(method, apply, shape._replace(share=share))
    held = jax.eval_shape(program(None).prepare, params, left[:1])
    plain = shape._replace(accumulate=None)
    return Job(
        program=program,
        params=params,
        left=left,
        right=right,
        shape={"full": (n, k, m, k), "trace": (n, m), "diagonal": (n, k)}[shape.form],
        dtype=np.dtype(shape.accumulate or left.dtype),
        accumulate=shape.accumulate,
        names=list(distinct_layers(params)) if shape.by_layer else ["all"],
        cost=lambda share: programs.cost(
            method, apply, plain._replace(share=share), params, left[: min(2, n)]
        ),
        ways=programs.halves(held, shape.form) if method == "structured" else [],
        settings={"shape": list(shape), "method": method},
        devices=None,
        budget=None,
        progress=None,
    )


def _rules(job: Job, shape: Shape) -> dict[str, str]:
    one = jax.eval_shape(job.program(None).prepare, job.params, job.left[:1])
    return forms.rules(one, one, shape.form)


def in_bytes(memory: int | float | str) -> float:
    """A budget in bytes: a number, or text with kB, MB, GB (powers of 1000) or KiB, MiB, GiB."""
    units = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9}
    units |= {"kib": 2**10, "mib": 2**20, "gib": 2**30}
    try:
        found = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([a-z]*)\s*", str(memory).lower())
        number, unit = float(found.group(1)), units[found.group(2)]
    except (AttributeError, KeyError, ValueError):
        raise InputError(
            f'memory: must be a number of bytes, or text like "200 MB", got {shown(memory)}'
        ) from None
    if not 0 < number * unit < math.inf:
        raise InputError(f"memory: must be positive and finite, got {shown(memory)}")
    return number * unit


# --- what was asked for, checked --------------------------------------------------------------


def surroundings(
    options: ComputeOptions,
) -> tuple[float | None, Path | None, tuple[jax.Device, ...] | None]:
    """Bytes, path and devices, of what is asked for."""
    check_kind("options", options, ComputeOptions, "as `kernels.ComputeOptions()` gives")
    memory, file, devices = options.memory, options.file, options.devices
    return (
        None if memory is None else in_bytes(memory),
        None if file is None else path_of("file", file),
        None if devices is None else distinct(devices),
    )


def checked_points(name: str, points: Any, kind: str) -> Float[np.ndarray, n * features]:
    """Finite floating-point points, at least one, on the host."""
    if isinstance(points, (list, tuple, dict)) and _shapes(points) > 1:
        raise InputError(
            f"{name}: must be one array (points, *features), got {len(points)} of different "
            f"shapes; put several inputs of a model side by side, and part them in apply"
        )
    array = arrays.plain(name, points)
    if array.dtype.kind in "iub":
        raise InputError(
            f"{name}: must be floating-point numbers, got {array.dtype}; scale them first, "
            f"images for instance as x / 255.0"
        )
    if array.ndim < 2 or not array.size:
        raise InputError(
            f"{name}: must be points with features, (points, *features), none of them empty, "
            f"got shape {array.shape}"
        )
    array = arrays.real(name, array).astype(kind, copy=False)
    finite = np.isfinite(array)
    if not finite.all():
        first = int(np.argwhere(~finite)[0][0])
        raise InputError(f"{name}: point {first} is not finite (NaN or infinity)")
    return array


def _shapes(points: Any) -> int:
    """How many different shapes the parts of the points have."""
    return len({np.shape(leaf) for leaf in jax.tree.leaves(points) if hasattr(leaf, "shape")})


def _kind(dtype: str | None, params: PyTree) -> str:
    """The dtype to compute in; only floating-point parameters have a tangent."""
    collections = params if isinstance(params, Mapping) and "params" in params else {}
    beside = [name for name in collections if name != "params" and jax.tree.leaves(params[name])]
    if beside:
        raise InputError(
            f"params: beside flax's collection 'params' there is {beside[0]!r}, not trained; "
            f"give {{'params': variables['params']}} and let apply put the rest beside it"
        )
    leaves = jax.tree_util.tree_leaves_with_path(params)
    for path, leaf in leaves:
        kind = getattr(leaf, "dtype", None) if hasattr(leaf, "__array__") else None
        if kind not in (np.float16, np.float32, np.float64, jnp.bfloat16):
            name = jax.tree_util.keystr(path) or "the parameter"
            raise InputError(
                f"params: every leaf must be a floating-point array, but {name} is "
                f"{getattr(leaf, 'dtype', type(leaf).__name__)}; keep what is not trained inside "
                f"apply (equinox.partition(model, equinox.is_inexact_array) parts the two)"
            )
    if not leaves:
        raise InputError("params: must hold at least one array, got none")
    own = functools.reduce(jnp.promote_types, (leaf.dtype for _, leaf in leaves), jnp.float32)
    return str(own) if dtype is None else checked_dtype("dtype", dtype)


def checked_dtype(name: str, kind: Any) -> str:
    """The name of one of the two dtypes that kernels are computed in."""
    if not isinstance(kind, str) or kind not in ("float32", "float64"):
        raise InputError(f'{name}: must be "float32" or "float64", got {shown(kind)}')
    return kind


def _check_model(apply: Apply, params: PyTree, left: np.ndarray, right: np.ndarray | None) -> int:
    """The number of outputs, once it is sure that each point is by itself."""
    if not callable(apply):
        raise InputError(f"apply: must be a function of (params, inputs), got {shown(apply)}")
    if right is not None and right.shape[1:] != left.shape[1:]:
        raise InputError(
            f"x2: must have the features of x1, {left.shape[1:]}, got {right.shape[1:]}"
        )
    return outputs_of(apply, params, left)


def _shape(
    form: str | int, outputs: int, by_layer: bool, accumulate: str | None, same: bool, kind: str
) -> Shape:
    if accumulate is not None:
        checked_dtype("accumulate", accumulate)
    wider = accumulate if accumulate != kind else None
    if isinstance(form, (int, np.integer)) and not isinstance(form, bool):
        if not 0 <= form < outputs:
            raise InputError(
                f"form: output {shown(form)} is not one of the {outputs}, numbered from 0"
            )
        return Shape("trace", int(form), by_layer, wider)
    check_name("form", form, ("full", "trace", "diagonal"))
    if form == "diagonal" and not same:
        raise InputError('x2: "diagonal" pairs each point with itself; leave x2 out')
    return Shape(form, None, by_layer, wider)


def _work(
    apply: Apply, shape: Shape, params: PyTree, left: np.ndarray, right: np.ndarray | None
) -> dict[str, Work]:
    """Method -> what the whole kernel would take by it."""
    few = left[: min(2, len(left))]
    n, m = len(left), 0 if right is None else len(right)
    pairs = n * m if m else n * (n + 1) / 2
    plain = shape._replace(accumulate=None)
    costs = {
        name: programs.cost(name, apply, plain, params, few)
        for name in programs.METHODS
        if not (name == "products" and shape.form == "diagonal")
    }
    if shape.form == "diagonal":
        pairs = n
    return {
        name: Work(cost.point * (n + m) + cost.pair * pairs, cost.held * (n + m))
        for name, cost in costs.items()
    }


def _method(method: str, work: dict[str, Work], shape: Shape, accumulate: str | None) -> str:
    check_name("method", method, ("auto", *programs.METHODS))
    if method == "auto":
        usable = [name for name in work if not (shape.accumulate and name == "products")]
        return min(usable, key=lambda name: work[name].flops)
    if method == "products" and shape.form == "diagonal":
        raise InputError('method: "products" has no short way to the diagonal; use "auto"')
    if method == "products" and shape.accumulate:
        raise InputError(
            'accumulate: "products" sums inside the network; give dtype="float64" instead'
        )
    return method
