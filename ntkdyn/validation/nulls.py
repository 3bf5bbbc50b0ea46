"""Nulls: the same observation, held against predictions of what was not run.

A gap says how near a prediction comes, and not whether another would come as near. Beside the right
prediction `ALTERNATIVES` are predicted through the same door, each with one thing wrong: the graph
(complete; its agents permuted; its links reversed), the method, what happens on the links, the step
size. Two more take no prediction: every agent given another's curve, and nothing moving at all.
Beside a prediction that is linearized anew along the way stands that which is linearized at the
start alone, which is not wrong but coarser. Against each

    skill = (gap of the null - gap of the prediction) / the larger of the two

of the deviation gap: 1 where the prediction is exact, 0 where the null is as good, negative where
it is better. Trying them costs no training.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ntkdyn.dynamics import Stability, predict, predict_beside
from ntkdyn.engine import Progress
from ntkdyn.errors import InputError, check_kind
from ntkdyn.graphs import ROUNDING, Weights, mixing
from ntkdyn.linear import Empirical
from ntkdyn.links import Linked, over
from ntkdyn.methods import Method, Needs
from ntkdyn.methods.mixing import Fixed
from ntkdyn.methods.objectives import Around, Local
from ntkdyn.methods.steps import Paced
from ntkdyn.methods.updates import ATC, DGD, innermost
from ntkdyn.progress import watched
from ntkdyn.quantities import described
from ntkdyn.records import Record
from ntkdyn.system import System, question
from ntkdyn.validation import gaps

STEP = "step size"
"""the one kind of null that is near the truth by its making: it tells how fine the eye is"""

LINKS = "links"
"""the kind of what is asked only where messages go over links"""

COARSER = "linearization"
"""the kind of what is no null: what was run, predicted with the kernel at the start alone"""

OFF = 0.1
"""How far off the step size of a null is, as a share of the one that was run."""

DRAWS = 20
"""How many permutations of the agents are tried for one that changes W."""


class _Absent(Exception):
    """An alternative that does not apply, and why."""


Asked = tuple[Method, Weights]


class Alternative(NamedTuple):
    """What was not run: how method and weights change."""

    kind: str
    change: Callable[[Method, Weights], Asked]


def _mapped(weights: Weights, change: Callable[[np.ndarray], np.ndarray]) -> Weights:
    """The weights with the matrix of every round changed; absent where that changes nothing."""
    before = [each.matrix for each in weights.rounds]
    after = [change(each) for each in before]
    if all(np.abs(a - b).max() <= ROUNDING for a, b in zip(after, before, strict=True)):
        raise _Absent("changes no weight")
    sums = weights.rounds[0].sums
    changed, signed = after if len(after) > 1 else after[0], weights.rounds[0].signed
    return mixing(changed, agents=weights.agents, sums=sums, negative=signed)


def _complete(method: Method, weights: Weights) -> Asked:
    average = np.full((weights.agents, weights.agents), 1 / weights.agents)
    return method, _mapped(weights, lambda _: average)


def _permuted(method: Method, weights: Weights) -> Asked:
    """The first drawn permutation that is no symmetry of the graph."""
    rng, matrix = np.random.default_rng(0), weights.matrix
    for order in (rng.permutation(weights.agents) for _ in range(DRAWS)):
        if np.abs(matrix[np.ix_(order, order)] - matrix).max() > ROUNDING:
            return method, _mapped(weights, lambda each, k=order: each[np.ix_(k, k)])
    raise _Absent("changes no weight")


def _reversed(method: Method, weights: Weights) -> Asked:
    return method, _mapped(weights, lambda matrix: matrix.T)


def _other_method(method: Method, weights: Weights) -> Asked:
    """ATC for DGD, DGD for all others, with the step that a momentum amounts to.

    Schedule, weight decay and links are the same.
    """
    linked = isinstance(method.update, Linked)
    own = innermost(method.update)
    paced = own if isinstance(own, Paced) else None
    own = paced.inner if paced else own
    step = method.step_size / (1 - getattr(own, "beta", 0.0))
    update = ATC(step) if isinstance(own, DGD) else DGD(step)
    name, rule = type(update).__name__.lower(), method.mixing if method.mixing.affine else Fixed()
    update = dataclasses.replace(paced, inner=update) if paced else update
    objective = method.objective if isinstance(method.objective, Around) else Local()
    other = Method(name, update, rule, objective, Needs())
    return over(other, *method.update.links) if linked else other, weights


def _without_links(method: Method, weights: Weights) -> Asked:
    """The same method, all messages whole and in time."""
    update = method.update.inner
    return Method("without links", update, method.mixing, method.objective, method.needs), weights


def _with_step(factor: float) -> Callable[[Method, Weights], Asked]:
    return lambda method, weights: (method.with_step_size(factor * method.step_size), weights)


ALTERNATIVES = {
    "complete graph": Alternative("graph", _complete),
    "agents permuted": Alternative("graph", _permuted),
    "links reversed": Alternative("graph", _reversed),
    "another method": Alternative("method", _other_method),
    "nothing on the links": Alternative(LINKS, _without_links),
    "step size 10 % smaller": Alternative(STEP, _with_step(1 - OFF)),
    "step size 10 % larger": Alternative(STEP, _with_step(1 + OFF)),
}
"""name -> what is predicted in place of what was run"""


@question("kernel", "batches")
@watched("predicting what was not run")
def nulls(
    system: System,
    observed: Record,
    *,
    anchors: Any = None,
    corrections: Any = None,
    progress: Progress | None = None,
) -> Record:
    """The gaps (explanation, round, agent) of all `ALTERNATIVES` to an observed run.

    The system is that of the run; step size, rounds and batches are taken from its record. Its
    kernel, `anchors` (rounds, as the prediction's record has them) and `corrections` are those of
    the prediction, so that its alternatives are predicted as well as it is: they are linearized
    where it is, and share its kernels; with corrections each where it is itself. What does not
    apply (a complete graph in place of a complete one, a method that these weights do not suit) is
    left out, and the attribute `left_out` says why. With the kernel "implicit", of which each would
    take as long as the prediction itself, all are.

    Args:
        system: or problem, method, weights in its place, with `kernel` and `batches` by name.
        observed: the record of a run of it.
        anchors: those of the prediction.
        corrections: those of the prediction.
        progress: called with (explanations done, explanations in all).

    Returns:
        gap and deviation_gap (explanation, round, agent), relative to the distance travelled.

    Raises:
        InputError: for a record of another system.

    Example:
        >>> wrong = nd.validation.nulls(prob, dgd, W, nd.train(prob, dgd, W, 4))
        >>> wrong["explanation"].values.tolist()
        ['atc in its place', 'step size 10 % smaller', 'step size 10 % larger']
    """
    check_kind("nulls: the observed record", observed, Record, "as `train` gives")
    right, rounds = _observed(system, observed), [int(each) for each in observed["round"]]
    tried, left_out = _applying(right)
    asked = [other for _, other in tried.values()]
    with warnings.catch_warnings():  # of predictions that diverge, as may be
        warnings.simplefilter("ignore", UserWarning)
        coarser = []  # first, while the problem has the kernel at the start
        if asked and (anchors is not None or corrections is not None):
            coarser.append(predict(right.with_(kernel=Empirical()), rounds)["outputs"].values)
            tried["linear around the start"] = COARSER, right
        if anchors is None or corrections is not None or not asked:
            how = {"anchors": anchors, "corrections": corrections}
            seen = _one_by_one(asked, rounds, how, progress)
        else:
            _, *seen = predict_beside([right, *asked], rounds, anchors, progress=progress)
        seen += coarser
    found = {
        name: measured(kind, observed["outputs"].copy(data=outputs), observed)
        for (name, (kind, _)), outputs in zip(tried.items(), seen, strict=True)
    }
    return _together(found).assign_attrs(
        left_out="; ".join(f"{name}: {why}" for name, why in left_out.items())
    )


def _observed(system: System, observed: Record) -> System:
    """The system with step size and batches as the run had them."""
    attrs = observed.attrs
    drawn = {
        name: int(attrs[name]) if attrs[name] >= 0 else None
        for name in ("batch_size", "batch_seed")
    }
    method = system.method.with_step_size(float(attrs["step_size"]))
    return system.with_(method=method, **(drawn if system.batches is None else {}))


def _applying(right: System) -> tuple[dict[str, tuple[str, System]], dict[str, str]]:
    """Kind and change of those alternatives that can be run, and of the others why they cannot."""
    found, left_out = {}, {}
    linked = isinstance(right.method.update, Linked)
    for name, each in ALTERNATIVES.items():
        if each.kind == LINKS and not linked:
            continue
        try:
            _check(each, right)
            method, weights = each.change(right.method, right.weights)
            other = right.with_(method=method, weights=weights)
            known = Stability(method, None, None)  # whether it is stable matters to none
            predict(other.with_(stability=known), [0])
            label = f"{method.name} in its place" if each.kind == "method" else name
            found[label] = each.kind, other
        except (_Absent, InputError) as reason:
            left_out[name] = str(reason)
    return found, left_out


def _one_by_one(
    asked: list[System], rounds: list[int], how: dict[str, Any], progress: Progress | None
) -> list[np.ndarray]:
    """The outputs of predictions that share no kernel."""
    found = []
    for done, each in enumerate(asked, start=1):
        found.append(predict(each, rounds, **how)["outputs"].values)
        if progress:
            progress(done, len(asked))
    return found


def _check(alternative: Alternative, system: System) -> None:
    if not system.kernel.formed:
        raise _Absent("would take as long as the prediction, without a kernel")
    if system.weights.agents == 1 and alternative.kind != STEP:
        raise _Absent("there is one agent")


def of_records(predicted: Record, observed: Record) -> Record:
    """The nulls that take no prediction: another agent's curve, and persistence."""
    outputs = predicted["outputs"]
    still = observed["initial_outputs"].broadcast_like(outputs).transpose(*outputs.dims)
    found = {"nothing moves": measured("persistence", still, observed)}
    if predicted.sizes["agent"] > 1:
        found["another agent's curve"] = measured(
            "agents", outputs.roll(agent=-1, roll_coords=False), observed
        )
    return _together(found)


def measured(kind: str, outputs: xr.DataArray, observed: Record) -> Record:
    """The gaps of one explanation, and its curve of every agent beside the mean agent."""
    found = gaps.of_outputs(outputs, observed["outputs"], observed)
    names = ("gap", "common_gap", "deviation_gap", "deviation_gap_of_all")
    table = {f"null_{name}": found[name] for name in names}
    return xr.Dataset(table | {"null_deviation": gaps.along(outputs, observed), "null_kind": kind})


def _together(found: dict[str, Record]) -> Record:
    """One record with the dimension `explanation`."""
    if not found:
        return xr.Dataset(coords={"explanation": np.array([], dtype=str)})
    names = xr.DataArray(list(found), dims="explanation", name="explanation")
    return described(xr.concat(found.values(), names))


def joined(one: Record, other: Record) -> Record:
    """The nulls of both records."""
    return xr.concat([one, other], "explanation") if one.sizes["explanation"] else other
