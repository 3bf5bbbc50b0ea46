"""Error accounting: where prediction and reality part, source by source.

The observed run and the simplest prediction of it are the ends of a chain; each link gives up one
thing more, and the difference of its two ends is what that thing costs:

    arithmetic       float32 (or what was asked) -> float64 training
    linearization    the network -> its tangent at the start
    minibatch_noise  the batches that were drawn -> all points in every round
    discretization   rounds -> the gradient flow
    finite_width     the network's own kernel -> the kernel of infinite width

As signed differences of outputs they add up to the whole gap; as norms over points and outputs, in
shares of the distance travelled, their sum is at least the gap; so it is of the agents' deviations
from the mean agent, in shares of those. Each depends on its place in
the chain, since the sources interact. A link that the run lacks (no batches, a method without a
flow, a network without an infinite-width kernel) is left out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import xarray as xr

from ntkdyn.dynamics import assess, flow, has_flow, predict
from ntkdyn.engine import Progress
from ntkdyn.errors import unknown
from ntkdyn.linear import Empirical, Infinite
from ntkdyn.progress import watched
from ntkdyn.quantities import described
from ntkdyn.records import Record
from ntkdyn.saving import SaveOptions
from ntkdyn.system import System, question
from ntkdyn.validation import gaps
from ntkdyn.validation.train import train

SOURCES = ("arithmetic", "linearization", "minibatch_noise", "discretization", "finite_width")


@question("batch_size", "batch_seed", "batches")
@watched("splitting the gap")
def account(
    system: System,
    rounds: int | Sequence[int],
    *,
    save: SaveOptions = SaveOptions(),
    precision: str = "float32",
    runs: Mapping[str, Record] = MappingProxyType({}),
    progress: Progress | None = None,
) -> Record:
    """One variable (round, agent) per source, and `gap`, that of the whole chain.

    Each again as `deviation_` and its name: what it costs of the agent's deviation from the mean
    agent, relative to that, and NaN where agents hardly differ.

    Arguments as for `train`. Trainings and predictions are run here, so that step size, batches and
    start are the same throughout. Those at hand already, of the same arguments and with outputs,
    may be given as `runs`: "observed", and under a source the run that gives it up.

    Args:
        system: or problem, method, weights in its place, with `batch_size`,
            `batch_seed` and `batches` by name.
        rounds: how many, or which are recorded, ascending.
        save: which of a number of rounds are recorded.
        precision: of the observed training.
        runs: those at hand already.
        progress: called with (runs done, runs in all).

    Returns:
        Gaps relative to the distance travelled: arithmetic, linearization, minibatch_noise,
        discretization, finite_width, where they apply.

    Raises:
        InputError: for runs that are none of the chain.

    Example:
        >>> sorted(nd.validation.account(prob, dgd, W, 2).data_vars)[-2:]
        ['gap', 'linearization']
    """
    known = assess(system.settling)
    drawn = system.with_(kernel=Empirical(), method=known.method)
    whole = drawn.with_(batch_size=None, batch_seed=None, batches=None)
    recorded = {"save": save}
    flows = has_flow(known.method, system.weights)
    last = functools.partial(flow if flows else predict, rounds=rounds, **recorded)
    links: dict[str, Callable[[], Record]] = {
        "observed": lambda: train(drawn, rounds, **recorded, precision=precision),
        "arithmetic": lambda: train(drawn, rounds, **recorded, precision="float64"),
        "linearization": lambda: predict(drawn, rounds, **recorded),
        "minibatch_noise": lambda: predict(whole, rounds, **recorded),
        "discretization": lambda: last(whole),
        "finite_width": lambda: last(whole.with_(kernel=Infinite())),
    }
    absent = {
        "arithmetic": precision == "float64",
        "minibatch_noise": system.whole,
        "discretization": not flows,
        "finite_width": system.problem.networks[0].kernel is None or known.method.view != "outputs",
    }
    if odd := set(runs) - set(links):
        raise unknown("run of the chain", min(odd), links)
    taken = [name for name in links if not absent.get(name)]
    chain = {}
    for done, name in enumerate(taken, start=1):
        chain[name] = runs[name] if name in runs else links[name]()
        if progress:
            progress(done, len(taken))
    return _shares(chain).assign_attrs(
        method=known.method.name,
        step_size=float(known.method.step_size),
        precision=precision,
        batch_size=-1 if system.batch_size is None else system.batch_size,
        **known.attributes(),
    )


def _shares(chain: dict[str, Record]) -> Record:
    """The cost of every link, and of all together."""
    names, observed = list(chain), chain["observed"]
    links = [*zip(names[1:], names, names[1:], strict=False), ("gap", names[-1], "observed")]
    costs = {}
    for name, one, other in links:
        found = gaps.of_outputs(chain[one]["outputs"], chain[other]["outputs"], observed)
        costs |= {name: found["gap"], f"deviation_{name}": found["deviation_gap"]}
    return described(xr.Dataset(costs).astype(np.float64))
