"""Learning curves without data: every agent's expected test loss from spectrum, target and graph.

learning_curve(spectrum, target, method, W, counts, rounds)    test loss and what it is made of
spectrum_of(kernel, targets)                                   of a pool that points are drawn from
population_of(kernel, targets)                                 of all inputs, a pool being a sample
best_rounds, best_step_size, best_split                        when to stop, how far, whose points
effective_agents, price_in_samples, against_samples            what a graph is worth

    modes           spectrum and target; many modes gathered in few nodes
    population      eigenvalues and target of all inputs, from a pool of some
    equivalents     what random points amount to, at one point and two of the z-plane
    skewed          the same of agents whose second moments do not commute
    circle          rounds from values on a circle
    curves          the door, and the record
    planning        what follows
    plans           the same of one problem, as records that are drawn
"""

from ntkdyn.errors import public
from ntkdyn.theory.learning_curves.curves import learning_curve
from ntkdyn.theory.learning_curves.modes import Spectrum, spectrum_of
from ntkdyn.theory.learning_curves.planning import (
    against_samples,
    best_rounds,
    best_split,
    best_step_size,
    effective_agents,
    price_in_samples,
)
from ntkdyn.theory.learning_curves.plans import PLANS
from ntkdyn.theory.learning_curves.population import population_of

__all__ = [
    "PLANS",
    "Spectrum",
    "against_samples",
    "best_rounds",
    "best_split",
    "best_step_size",
    "effective_agents",
    "learning_curve",
    "population_of",
    "price_in_samples",
    "spectrum_of",
]

__getattr__, __dir__ = public(__name__, __all__)
