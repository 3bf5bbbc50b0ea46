"""The linearized-dynamics module: what theory says about a run before it happens."""

from ntkdyn.dynamics.predict import predict
from ntkdyn.dynamics.stability import Stability, assess, setting, step_size_limit

__all__ = ["Stability", "assess", "predict", "setting", "step_size_limit"]
