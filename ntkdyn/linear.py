"""What a network is linearized to: kernels, and which of them a prediction is made with.

    Empirical()    J J^T at the start of the problem's own network
    Infinite()     the limit of infinite width, from the same f(theta_0)
    Implicit()     the empirical one, never formed: products with J, for problems too large
    Given(K)       one from elsewhere, a `Kernel`; Given() that of a `KernelProblem`, whatever it
                   is called there

Strings name the first three, and "given" the last, wherever a kernel is asked for (`chosen`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkdyn import precision
from ntkdyn.errors import InputError, check_name
from ntkdyn.spaces import KernelSpace, LayeredKernelSpace


class Kernel(NamedTuple):
    """A kernel between all points and the training points, and its parts by layer."""

    whole: Float[np.ndarray, "points train"] | Float[np.ndarray, "points outputs train outputs"]
    layers: dict[str, Float[np.ndarray, ...]]
    name: str

    def __repr__(self) -> str:
        return f"Kernel({self.name!r}, {self.whole.shape})"

    @property
    def training(self) -> Float[np.ndarray, ...]:
        """The block between training points, as a square matrix."""
        train = self.whole.shape[self.whole.ndim // 2]
        block = self.whole[:train]
        return block.reshape(block.shape[0] * (block.shape[1] if block.ndim == 4 else 1), -1)

    @property
    def summed(self) -> Float[np.ndarray, "train train"]:
        """The block between training points, summed over outputs where these couple."""
        block = self.whole[: self.whole.shape[self.whole.ndim // 2]]
        return np.einsum("nkmk->nm", block) if block.ndim == 4 else block

    def space(self, initial: Float[np.ndarray, "points outputs"], agents: int) -> KernelSpace:
        """Coefficients on the training points, in float64."""
        with precision.double():
            arrays = (self.whole, initial, self.layers)
            arrays = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), arrays)
        return KernelSpace(arrays[0], arrays[1], agents, arrays[2])


class _Formed:
    """A kernel that is a matrix."""

    formed: ClassVar[bool] = True
    fixed: ClassVar[str] = ""
    """what has no network that could be linearized anew; empty: there is one"""

    def space(self, problem: Any, view: str = "outputs") -> KernelSpace | LayeredKernelSpace:
        """The space of the problem with this kernel."""
        if view != "outputs":
            raise InputError(
                f'kernel: the method needs {view}, which only the "empirical" one tells, '
                f"got {self.name!r}"
            )
        return problem.kernel(self).space(problem.initial, problem.task.agents)


@dataclass(frozen=True)
class Empirical(_Formed):
    """J J^T at the start of the problem's own network."""

    name: ClassVar[str] = "empirical"

    def of(self, problem: Any) -> Kernel:
        """Computed once a problem."""
        return problem.empirical

    def beyond(self, problem: Any) -> np.ndarray:
        """K_pp of the points that are not trained on, (points, outputs) or (points,)."""
        return problem.empirical_beyond

    def space(self, problem: Any, view: str = "outputs") -> KernelSpace | LayeredKernelSpace:
        """The one kernel that tells features and layers apart, too."""
        return super().space(problem) if view == "outputs" else getattr(problem, view)


@dataclass(frozen=True)
class Infinite(_Formed):
    """The limit of infinite width."""

    name: ClassVar[str] = "infinite"
    fixed: ClassVar[str] = "a network of infinite width is linear for good"

    def of(self, problem: Any) -> Kernel:
        """Computed once a problem."""
        return problem.infinite

    def beyond(self, problem: Any) -> np.ndarray:
        """As of `Empirical`, the same for every output."""
        return problem.infinite_beyond


@dataclass(frozen=True, eq=False)
class Given(_Formed):
    """A kernel from elsewhere; left out, the problem's own."""

    kernel: Kernel | None = None
    name: ClassVar[str] = "given"
    fixed: ClassVar[str] = "a kernel that is given stays as it is, whatever a network does"

    def of(self, problem: Any) -> Kernel:
        """Itself, if it is one between the problem's points."""
        found = getattr(problem, "given", None) if self.kernel is None else self.kernel
        if not isinstance(found, Kernel):
            raise InputError(
                "kernel: the problem has networks and no kernel of its own; give "
                "linear.Given(linear.Kernel(...)) or a name"
            )
        task, ends = problem.task, found.whole.shape[:: found.whole.ndim // 2]
        if ends not in {(len(task.targets), task.train), (task.train, task.train)}:
            raise InputError(
                f"kernel: the given one is between {ends[0]} and {ends[1]} points, the problem's "
                f"between {len(task.targets)} and the {task.train} training points"
            )
        return found

    def beyond(self, problem: Any) -> np.ndarray:
        """As of `Empirical`; refused where there are such points, as it is not given."""
        if len(problem.task.targets) > problem.task.train:
            raise InputError(
                "kernel: a given one does not tell what test points have with themselves, which "
                "noise on parameters needs; take that of a network, or leave test points out"
            )
        return np.zeros(0)


@dataclass(frozen=True)
class Implicit:
    """The empirical kernel, never formed: products with J."""

    name: ClassVar[str] = "implicit"
    formed: ClassVar[bool] = False
    fixed: ClassVar[str] = ""

    def of(self, problem: Any) -> Kernel:
        """Refused: it is the point of it that there is no matrix."""
        raise InputError('kernel: "implicit" forms none; use "empirical"')


Choice = Empirical | Infinite | Implicit | Given

NAMED: dict[str, Choice] = {each.name: each for each in (Empirical(), Infinite(), Implicit())}

KERNELS = ("given", *NAMED)
"""what a kernel can be called: by whom it was made, or how"""


def chosen(kernel: Choice | str) -> Choice:
    """The kernel of that name, or itself."""
    if isinstance(kernel, Choice):
        return kernel
    check_name("kernel", kernel, NAMED)
    return NAMED[kernel]
