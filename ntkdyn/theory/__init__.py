"""Theory: published bounds that are checked, exact rates, worst cases, and closed forms.

theorems.bounds_of(theorems.case(problem, method, W))   every bound, its assumptions evaluated
bound.check(record)                                     holds, violated at round t, or not met
rates.rate(case), rates.optimal_step_size(case)         exact, from the method's own step
noisy.bounds_of(case, batch_size)                       D-SGD under minibatch noise, in expectation
worst_case.performance_estimation(method, W, rounds)    the worst over a class of functions
symbolic.derivation("dgd", symbolic.ring(4))            closed forms, step by step
learning_curve(spectrum, target, method, W, counts, rounds)    test losses without data
claims.run("linear-speed-up")                           a scaling law held against exact quantities
"""

from ntkdyn.errors import on_demand

__all__ = [
    "alignment",
    "bounds",
    "claims",
    "formulas",
    "constants",
    "learning_curve",
    "learning_curves",
    "noisy",
    "population_of",
    "rates",
    "slopes",
    "spectrum_of",
    "symbolic",
    "table",
    "theorems",
    "worst_case",
]

HOME = dict.fromkeys(("learning_curve", "population_of", "spectrum_of"), "learning_curves")
"""public name -> the module that has it"""

__getattr__, __dir__ = on_demand(__name__, __all__, HOME)
