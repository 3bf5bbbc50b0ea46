"""The linearized-dynamics module: what theory says about a run before it happens."""

from ntkdyn.dynamics.anchored import Anchoring
from ntkdyn.dynamics.certificate import certify
from ntkdyn.dynamics.corrected import Corrections
from ntkdyn.dynamics.ensembles import Starts, ensemble
from ntkdyn.dynamics.flows import Flow, Transition, flow, has_flow
from ntkdyn.dynamics.limits import limit, rounds_until, slowest_modes
from ntkdyn.dynamics.noise import Moments, link_noise, minibatch_noise
from ntkdyn.dynamics.predict import Scheme, predict, predict_beside
from ntkdyn.dynamics.reduced import reduced
from ntkdyn.dynamics.stability import (
    Stability,
    assess,
    known_step,
    step_size_limit,
)
from ntkdyn.dynamics.tables import kernel_table, spectrum
from ntkdyn.errors import public

__all__ = [
    "Anchoring",
    "Corrections",
    "Flow",
    "Moments",
    "Scheme",
    "Stability",
    "Starts",
    "Transition",
    "assess",
    "certify",
    "ensemble",
    "flow",
    "has_flow",
    "kernel_table",
    "known_step",
    "limit",
    "link_noise",
    "minibatch_noise",
    "predict",
    "predict_beside",
    "reduced",
    "rounds_until",
    "slowest_modes",
    "spectrum",
    "step_size_limit",
]

__getattr__, __dir__ = public(__name__, __all__)
