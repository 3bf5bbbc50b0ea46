"""Claims as specs: assumptions, a scaling law, random problems, an exact quantity, a verdict.

run("linear-speed-up")      a record: quantity and slope on every problem, `holds`, `verdict`
CLAIMS                      by name; papers/claims/ has a page on each source

    problems        random problems, from the smallest on
    claim           what a claim is, and whether it holds
    known           the claims
"""

from ntkdyn.errors import public
from ntkdyn.theory.claims.claim import Claim, run_claim
from ntkdyn.theory.claims.known import CLAIMS, run
from ntkdyn.theory.claims.problems import SIZES, Drawn

__all__ = ["CLAIMS", "SIZES", "Claim", "Drawn", "run", "run_claim"]

__getattr__, __dir__ = public(__name__, __all__)
