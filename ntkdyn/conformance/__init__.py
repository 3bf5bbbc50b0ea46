"""Conformance: whether somebody's own implementation of a method is that method, and if not, why.

    case = conformance.case("dgd")           agents, their points and gradients, W, step, start
    conformance.check(iterates, "dgd")       (rounds + 1, agents, parameters) of any framework

`check` compares with golden iterates, and where they differ runs the method again with the usual
mistakes in it, one and two at a time, until one of them gives what was given.
"""

from typing import TYPE_CHECKING

from ntkdyn.errors import on_demand

if TYPE_CHECKING:
    from ntkdyn.conformance.cases import METHODS, Case, case, exported
    from ntkdyn.conformance.checking import Verdict, check

__all__ = ["METHODS", "Case", "Verdict", "case", "check", "exported"]

HOME = dict.fromkeys(("METHODS", "Case", "case", "exported"), "cases")
HOME |= dict.fromkeys(("Verdict", "check"), "checking")

__getattr__, __dir__ = on_demand(__name__, __all__, HOME)
