"""Learning curves without data: every agent's expected test loss from spectrum, target and graph.

learning_curve(spectrum, target, method, W, counts, rounds)    test loss and what it is made of
spectrum_of(kernel, targets)                                   of real data

    modes           spectrum and target; many modes gathered in few nodes
    equivalents     what random points amount to, at one point and two of the z-plane
    circle          rounds from values on a circle
    curves          the door, and the record
"""

from ntkdyn.errors import public
from ntkdyn.theory.learning_curves.curves import learning_curve
from ntkdyn.theory.learning_curves.modes import Spectrum, spectrum_of

__all__ = ["Spectrum", "learning_curve", "spectrum_of"]

__getattr__, __dir__ = public(__name__, __all__)
