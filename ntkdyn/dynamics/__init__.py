"""The linearized-dynamics module: what theory says about a run before it happens."""

from ntkdyn.dynamics.predict import predict
from ntkdyn.dynamics.stability import Stability, assess, setting, step_size_limit
from ntkdyn.dynamics.tables import kernel_table, spectrum

__all__ = [
    "Stability", "assess", "kernel_table", "predict", "setting", "spectrum", "step_size_limit",
]  # fmt: skip
