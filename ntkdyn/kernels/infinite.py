"""Infinite-width kernels, by neural-tangents: NTK and NNGP of a network's architecture.

Both are the same for every output and uncorrelated between outputs, K (x) I, so they are kept as
(points, points). Every layer of `neural_tangents.stax` will do: dense, convolution, pooling,
attention, layer normalisation, dropout, aggregation over a graph.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ntkdyn import precision
from ntkdyn.errors import InputError, check_name
from ntkdyn.kernels import jobs
from ntkdyn.kernels.computing import ComputeOptions, checked_dtype, checked_points, surroundings
from ntkdyn.kernels.forms import Parts
from ntkdyn.kernels.jobs import Job
from ntkdyn.kernels.programs import Cost, Program
from ntkdyn.kernels.results import Computed, KernelPlan
from ntkdyn.kernels.tiles import Progress

Left = Float[Array | np.ndarray, "n *features"]
Right = Float[Array | np.ndarray, "m *features"]
Scalar = Float[Array, "n m"]

FEW = 4
"""points on either side that tell whether a kernel is symmetric"""

KernelFn = Callable[..., Any]
"""(x1, x2, get) -> kernel, as the layers of `neural_tangents.stax` give it"""


def ntk(kernel: KernelFn, x1: Left, x2: Right | None = None) -> Scalar:
    """lim of Theta(x1, x2) per output as all widths grow; x2 defaults to x1."""
    return kernel(jnp.asarray(x1), None if x2 is None else jnp.asarray(x2), "ntk")


def nngp(kernel: KernelFn, x1: Left, x2: Right | None = None) -> Scalar:
    """Covariance of one output at x1 and x2 over random starts, as all widths grow."""
    return kernel(jnp.asarray(x1), None if x2 is None else jnp.asarray(x2), "nngp")


def asymmetry(kernel: KernelFn, x: Left, get: str = "ntk", patterns: Any = None) -> float:
    """max |K(x, z) - K(z, x)^T| / max |K| between a few points and others; 0 if it is rounding.

    A kernel in closed form is symmetric. One by numerical integration need not be: the quadrature
    of `stax.ElementwiseNumerical` treats its two arguments differently.
    """
    rows = np.arange(2 * FEW) % len(x)
    factors = np.linspace(0.5, 2.0, 2 * FEW).reshape(-1, *[1] * (np.ndim(x) - 1))
    points = jnp.asarray(np.asarray(x)[rows] * factors)
    graphs = None if patterns is None else jnp.asarray(patterns)[rows]
    here, there = slice(FEW), slice(FEW, None)

    def between(left: slice, right: slice) -> np.ndarray:
        given = {} if graphs is None else {"pattern": (graphs[left], graphs[right])}
        return _scalar(np.asarray(kernel(points[left], points[right], get, **given)))

    one, other = between(here, there), between(there, here).T
    difference, largest = np.abs(one - other).max(), np.abs(one).max()
    return float(difference / largest) if difference > largest * _rounding(one) else 0.0


def _scalar(values: np.ndarray) -> Float[np.ndarray, "n m"]:
    if values.ndim != 2:
        raise InputError(
            f"kernel: must be (points, points), got {values.shape} for two blocks; end the "
            f"network with Flatten, GlobalAvgPool or GlobalSelfAttention"
        )
    return values


def _rounding(values: np.ndarray) -> float:
    """Of an angle next to 0 the arccos is good to the square root of the unit roundoff."""
    return float(jnp.finfo(values.dtype).eps) ** 0.5


@functools.lru_cache(maxsize=16)
def averaged(kernel: KernelFn) -> KernelFn:
    """(K(x, z) + K(z, x)^T) / 2, symmetric where K is not."""

    def mean(x1: Any, x2: Any, get: str, pattern: Any = None) -> Array:
        given = {} if pattern is None else {"pattern": pattern}
        swapped = {} if pattern is None else {"pattern": pattern[::-1]}
        values = kernel(x1, x2, get, **given)
        mirrored = values if x2 is None else kernel(x2, x1, get, **swapped)
        return (values + mirrored.T) / 2

    return mean


def compute(
    kernel: KernelFn,
    x1: Any,
    x2: Any = None,
    *,
    get: str = "ntk",
    patterns: tuple[Any, Any] | None = None,
    options: ComputeOptions = ComputeOptions(),
    progress: Progress | None = None,
) -> Computed:
    """The NTK or NNGP ("ntk" or "nngp") in tiles; the rest as for `ntkdyn.kernels.compute`.

    Points of x1 and x2 count as different ones, which matters to dropout. A kernel that is not
    symmetric but for rounding is averaged with its transpose, and the plan says so. `patterns` are
    the graphs of `stax.Aggregate`, one array (points, ...) for x1 and one for x2.
    With a file, the kernel function's own program is part of what tells this kernel from others.
    There is one method, and it accumulates in `dtype`, float64 if left out.
    """
    check_name("get", get, ("ntk", "nngp"))
    budget, file, devices = surroundings(options)
    dtype = _dtype(options)
    with precision.double() if dtype == "float64" else precision.single():
        left, right = _sides(x1, x2, dtype, patterns)
        apart = asymmetry(kernel, left["inputs"], get, left.get("pattern"))
        kernel = averaged(kernel) if apart else kernel
        program = _program(kernel, get)
        job = Job(
            program=lambda share: program,
            params=(),
            left=left,
            right=right,
            shape=(len(left["inputs"]), len((right or left)["inputs"])),
            dtype=np.dtype(dtype),
            accumulate=None,
            names=["all"],
            cost=lambda share: Cost(0.0, 1.0, 0.0),
            ways=[],
            settings={"get": get, "program": _text(program, left) if file else ""},
            devices=devices,
            budget=budget,
            progress=progress,
        )
        values, arranged = jobs.pairs(job, file)
    plan = KernelPlan(
        form=f"infinite-width {get}"
        + (f", averaged with its transpose, {apart:.2g} of it away" if apart else ""),
        method="infinite",
        work={},
        rules={},
        tiling=arranged.tiling,
        passes=1,
        dtype=dtype,
        accumulate=dtype,
        memory=budget,
        peak=arranged.peak,
        devices=len(devices) if devices else 1,
    )
    return Computed(plan, {}, values["all"])


def _sides(
    x1: Any, x2: Any, dtype: str, patterns: tuple[Any, Any] | None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray] | None]:
    """Both sets of points, checked, the second None where it is the first."""
    left = _points("x1", x1, dtype, patterns, 0)
    if x2 is None:
        return left, None
    right, features = _points("x2", x2, dtype, patterns, 1), left["inputs"].shape[1:]
    if right["inputs"].shape[1:] != features:
        raise InputError(
            f"x2: must have the features of x1, {features}, got {right['inputs'].shape[1:]}"
        )
    return left, right


def _dtype(options: ComputeOptions) -> str:
    """What it is computed in."""
    if options.method != "auto" or options.accumulate is not None:
        raise InputError("options: method and accumulate are settings of empirical kernels alone")
    return checked_dtype("dtype", options.dtype or "float64")


def _text(program: Program, left: PyTree) -> str:
    """The kernel's own program, as text: what tells one architecture from another."""
    one = jax.tree.map(lambda leaf: leaf[:1], left)
    return program.meet.lower((), one, one).as_text()


def _points(
    name: str, points: Any, dtype: str, patterns: tuple[Any, Any] | None, side: int
) -> dict[str, np.ndarray]:
    inputs = checked_points(name, points, dtype)
    if patterns is None:
        return {"inputs": inputs}
    pattern = np.asarray(patterns[side], dtype)
    if len(pattern) != len(inputs):
        raise InputError(
            f"patterns: must have one for each of the {len(inputs)} points of {name}, "
            f"got {len(pattern)}"
        )
    return {"inputs": inputs, "pattern": pattern}


@functools.lru_cache(maxsize=16)
def _program(kernel: KernelFn, get: str) -> Program:
    """Two blocks at a time; a block with itself apart, for dropout tells a point from its twin.

    Of a point with itself the angle is the arccos of almost 1, so that such entries are good to
    the square root of the unit roundoff only, here as in neural-tangents.
    """

    def of(left: PyTree, right: PyTree | None) -> Parts:
        graphs, other = {}, left if right is None else right
        if "pattern" in left:
            graphs = {"pattern": (left["pattern"], other["pattern"])}
        inputs = None if right is None else right["inputs"]
        values = kernel(left["inputs"], inputs, get, **graphs)
        return {"all": values}

    return Program(
        jax.jit(lambda params, points: points),
        jax.jit(lambda params, left, right: of(left, right)),
        jax.jit(lambda params, points: of(points, None)),
    )
