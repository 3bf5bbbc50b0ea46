"""What learning curves are made of: eigenvalues of the inputs' covariance, and the target in them.

A kernel on a pool of N points, K = sum_k N lambda_k v_k v_k', is that of features whose covariance
has the eigenvalues lambda_k, and the target y = sum_k a_k sqrt(N) v_k has the coefficients a_k in
orthonormal functions: their squares sum to the mean square of y. In the features' own units it is
theta_k = a_k / sqrt(lambda_k).

Sums over modes are sums of smooth functions of lambda: in every interval [b/2, b] that holds many
eigenvalues they are replaced by a few Chebyshev nodes, with weights that make the sum of every
polynomial up to that degree exact. `learning_curve` states what is left of the fixed point's
equation on all eigenvalues.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ntkdyn import arrays
from ntkdyn.errors import InputError, is_real, shown

NODES = 8
"""of an interval of a factor two; the next polynomials fall by 5.8 each"""

SMALLEST = 2.0**-40
"""as a share of the largest eigenvalue: those below are one interval"""

TAIL_MODES = 1000
"""How many modes a point a tail is spread over: so small that their number does not matter."""

ASYMMETRY = 1e-10
"""How far from symmetric a kernel may be, as a share of its largest entry."""


class Spectrum(NamedTuple):
    """The modes of a kernel on a pool, and a target in them.

    Example:
        >>> nd.theory.learning_curves.Spectrum(np.array([1.0, 0.5]), np.ones((2, 1))).values.sum()
        np.float64(1.5)
    """

    values: Float[np.ndarray, " modes"]
    """lambda_k, the largest first; their sum is the mean of the kernel's diagonal"""
    target: Float[np.ndarray, "modes outputs"]
    """a_k; the sum of their squares is the mean square of the target"""


def spectrum_of(kernel: Any, targets: Any) -> Spectrum:
    """lambda_k and a_k of K = sum_k N lambda_k v_k v_k' and y on a pool: a_k = v_k' y / sqrt(N).

    Points are then drawn from the pool, each as likely as any other, and losses are means over it.

    Args:
        kernel: K (N, N), of the whole pool, symmetric; of one output, where outputs do not couple.
        targets: y (N,) or (N, outputs), minus what the model has at the start.

    Returns:
        A `Spectrum`: values (N,), the largest first, and target (N, outputs).

    Raises:
        InputError: for kernels that are not symmetric, of another size than the targets, or with
            negative eigenvalues.

    Example:
        >>> pool = nd.theory.spectrum_of(K, y)
        >>> bool(np.isclose(pool.values.sum(), np.trace(K) / 6))
        True
    """
    kernel = arrays.double("kernel", kernel, 2)
    targets = arrays.double("targets", targets, np.ndim(targets) if np.ndim(targets) == 1 else 2)
    points = len(kernel)
    if kernel.shape != (points, points) or len(targets) != points:
        raise InputError(
            f"kernel: must be (N, N) with N rows of targets, got {kernel.shape} and {targets.shape}"
        )
    if np.abs(kernel - kernel.T).max() > ASYMMETRY * np.abs(kernel).max():
        raise InputError("kernel: must be symmetric, as one between the points of one pool is")
    values, vectors = np.linalg.eigh(kernel)
    if values[0] < -np.sqrt(ASYMMETRY) * np.abs(values[-1]):
        raise InputError(f"kernel: must not have negative eigenvalues, got {values[0]:.3g}")
    target = vectors.T @ targets.reshape(points, -1) / np.sqrt(points)
    return Spectrum(np.maximum(values[::-1], 0) / points, target[::-1])


class Modes(NamedTuple):
    """Modes, or nodes that stand for several."""

    values: Float[np.ndarray, "modes agents"]
    """lambda_jk of agent j's inputs"""
    weights: Float[np.ndarray, " modes"]
    """how many modes a node stands for"""
    targets: Float[np.ndarray, "modes agents columns"]
    """the target in every mode, in units of `target_weights`"""
    target_weights: Float[np.ndarray, "modes agents"]
    test_values: Float[np.ndarray, " modes"]
    """lambda_k of the inputs that errors are measured on"""
    test_targets: Float[np.ndarray, "modes columns"]
    test_weights: Float[np.ndarray, " modes"]

    @property
    def alike(self) -> bool:
        """Whether all agents draw from one distribution, which losses are measured on."""
        values = self.test_values[:, None], self.test_weights[:, None]
        same = (self.values == values[0]).all() and (self.target_weights == values[1]).all()
        return bool(same and (self.targets == 1).all() and (self.test_targets == 1).all())

    @staticmethod
    def shared(
        spectrum: Float[np.ndarray, " modes"], power: Float[np.ndarray, " modes"], agents: int
    ) -> Modes:
        """All agents draw from one distribution; `power` is lambda_k theta_k^2, of all outputs."""
        one = np.ones((len(spectrum), 1))
        every = np.ones(agents)
        return Modes(
            spectrum[:, None] * every, one[:, 0], one[..., None] * every[:, None],
            power[:, None] * every, spectrum, one, power,
        )  # fmt: skip


def gathered(modes: Modes) -> Modes:
    """Few nodes for many modes, where all agents draw from one distribution."""
    if not modes.alike:
        return modes
    spectrum, power = modes.test_values, modes.test_weights
    nodes, counted, strong = [], [], []
    for members in _intervals(spectrum):
        inside = spectrum[members]
        if len(np.unique(inside)) <= NODES:
            at, inverse = np.unique(inside, return_inverse=True)
            taken = np.eye(len(at))[inverse]
        else:
            at, taken = _interpolated(inside)
        nodes.append(at)
        counted.append(taken.sum(axis=0))
        strong.append(power[members] @ taken)
    made = Modes.shared(np.concatenate(nodes), np.concatenate(strong), modes.values.shape[1])
    return made._replace(weights=np.concatenate(counted))


def _intervals(spectrum: Float[np.ndarray, " modes"]) -> list[np.ndarray]:
    """Which eigenvalues are in each interval of a factor two."""
    share = np.maximum(spectrum / max(spectrum.max(initial=0.0), 1e-300), SMALLEST / 2)
    octave = np.floor(np.maximum(np.log2(share), np.log2(SMALLEST) - 1)).astype(int)
    return [np.flatnonzero(octave == each) for each in np.unique(octave)[::-1]]


def _interpolated(
    inside: Float[np.ndarray, " members"],
) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, "members nodes"]]:
    """Chebyshev nodes between the least and the largest, and the Lagrange polynomials of each."""
    x = np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)
    middle, half = (inside.max() + inside.min()) / 2, np.ptp(inside) / 2
    T = np.polynomial.chebyshev.chebvander
    lagrange = np.linalg.solve(T(x, NODES - 1).T, T((inside - middle) / half, NODES - 1).T)
    return middle + half * x, lagrange.T


# --- the door ---------------------------------------------------------------------------------


def checked(
    spectrum: Any, target: Any, counts: np.ndarray, tail: float | None, test: Any
) -> tuple[Modes, int]:
    """The modes of what was given to `learning_curve`, and the number of outputs."""
    if np.ndim(spectrum) == 2:
        return _shifted(spectrum, target, len(counts), tail, test)
    if test is not None:
        raise InputError("test: is for agents with spectra of their own, (agents, modes)")
    spectrum, target = _spectrum(spectrum), _target(target)
    if len(target) != len(spectrum):
        raise InputError(
            f"target: must have a coefficient for each of {len(spectrum)} modes, got {len(target)}"
        )
    power = np.square(target).sum(axis=1)
    spectrum, power = _with_tail(spectrum, power, int(counts.sum()), tail)
    return Modes.shared(spectrum, power, len(counts)), target.shape[1]


def _spectrum(values: Any) -> Float[np.ndarray, " modes"]:
    values = arrays.double("spectrum", values, 1)
    _check_signs(values)
    if (np.diff(values) > 0).any():
        place = int((np.diff(values) > 0).argmax())
        raise InputError(
            f"spectrum: must be sorted, the largest first, but entry {place + 1} is larger than "
            f"entry {place}"
        )
    return values


def _check_signs(values: np.ndarray) -> None:
    if (values < 0).any():
        raise InputError(f"spectrum: must not be negative, got {values.min():.4g}")
    if not values.any():
        raise InputError("spectrum: is all zero, nothing can be learned")


def _target(target: Any) -> Float[np.ndarray, "modes outputs"]:
    target = arrays.double("target", target, np.ndim(target) if np.ndim(target) == 1 else 2)
    return target.reshape(len(target), -1)


def _with_tail(
    spectrum: np.ndarray, power: np.ndarray, points: int, tail: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """With modes that have the tail's mass in sum and are too many and small to be learned."""
    if tail is None and len(spectrum) < points:
        raise InputError(
            f"spectrum: {len(spectrum)} eigenvalues, which sum to {spectrum.sum():.4g}, for "
            f"{points} points; give as many as there are points, or say with `tail` what sum the "
            f"others have (0: there are none)"
        )
    if tail is not None and (not is_real(tail) or not 0 <= tail < np.inf):
        raise InputError(f"tail: must be a finite number from 0 on, got {shown(tail)}")
    if not tail:
        return spectrum, power
    modes = TAIL_MODES * points
    return np.append(spectrum, np.full(modes, tail / modes)), np.append(power, np.zeros(modes))


def _shifted(
    spectrum: Any, target: Any, agents: int, tail: float | None, test: Any
) -> tuple[Modes, int]:
    """Agents with spectra and targets of their own, in the same features."""
    if tail or not isinstance(test, tuple) or len(test) != 2:
        raise InputError(
            "test: where agents have their own spectra, give (spectrum, target) that losses are "
            "measured on, and no tail"
        )
    values = arrays.double("spectrum", spectrum, 2)
    target = arrays.numbers("target", target).astype(float)
    target = target.reshape(*target.shape[:2], -1)
    test_values, test_target = arrays.double("test spectrum", test[0], 1), _target(test[1])
    for each in (*values, test_values):
        _check_signs(each)
    shapes = values.shape, target.shape[:2], test_values.shape, test_target.shape
    modes, outputs = values.shape[1], target.shape[2]
    if shapes != ((agents, modes), (agents, modes), (modes,), (modes, outputs)):
        raise InputError(
            f"spectrum: must be (agents, modes) as the target is, and that of `test` (modes,), of "
            f"{agents} agents, got {', '.join(map(str, shapes))}"
        )
    return Modes(
        values.T, np.ones(modes), _coefficients(target, values[..., None]).swapaxes(0, 1),
        values.T, test_values, _coefficients(test_target, test_values[:, None]), test_values,
    ), outputs  # fmt: skip


def _coefficients(target: np.ndarray, values: np.ndarray) -> np.ndarray:
    """theta_k = a_k / sqrt(lambda_k)."""
    if (target[np.broadcast_to(values == 0, target.shape)] != 0).any():
        raise InputError("target: must be zero in modes whose eigenvalue is zero")
    return target / np.sqrt(np.where(values == 0, 1, values))
