"""Theorems about decentralized methods, each as a function of a case that gives a `Bound`.

Notation: m agents start together at x = 0; L = max_i lambda_max(H_i); mu = min_i lambda_min(H_i),
mu_F, L_F the same of F = mean f_i, on what training can reach; beta = |W - 11'/m|_2; eta the step
size; D bounds |(grad f_1, ..., grad f_m)|; x* minimises F; zeta^2 = 1/m sum |grad f_i(x*)|^2;
|Delta|^2 = sum_i |x_i - mean x|^2. Where a source is cited "in form", its bound is derived in the
docstring with explicit constants, and these, not the paper's, are what is checked.
"""

# in the order of the table of bounds
from ntkdyn.errors import public

from ntkdyn.theory.theorems import diffusion, gossip, unbiased, linear  # isort: skip
from ntkdyn.theory.theorems.register import THEOREMS, Theorem, about, bounds_of, case

__all__ = [
    "THEOREMS",
    "Theorem",
    "about",
    "bounds_of",
    "case",
    "diffusion",
    "gossip",
    "linear",
    "unbiased",
]

__getattr__, __dir__ = public(__name__, __all__)
