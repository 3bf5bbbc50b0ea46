"""Problems: who learns what from which points, with which network or kernel.

`Problem` is a network and a partition of data; it can be run in every space. `KernelProblem` is
bare arrays, K, y, owner and f0, the door for kernels from elsewhere; it can be predicted only.
Both hold a `Task`: what a run needs to know beyond its space.
"""

from ntkdyn.problems.bare import KernelProblem
from ntkdyn.problems.checks import LARGEST_SEED, outputs_for
from ntkdyn.problems.problem import Problem
from ntkdyn.problems.starts import only_layer
from ntkdyn.problems.task import Task, task_of

__all__ = [
    "LARGEST_SEED", "KernelProblem", "Problem", "Task", "only_layer", "outputs_for", "task_of",
]  # fmt: skip
