"""Experiments: from a TOML spec to a problem, its prediction, its observation and their files.

The one joint between what a user writes down and the rest of the package. Settings are documented
at the fields of `Spec`; `demo.toml`, which ships with the package, shows them at work.

Examples in docstrings stand on these names, beside those of `ntkdyn`:

    >>> from ntkdyn import experiment
    >>> spec = experiment.parse('''
    ...     data = {name = "digits", train = 30, test = 12}
    ...     partition = {by = "dirichlet", agents = 3, alpha = 1.0}
    ...     network = {widths = [16]}
    ...     graph = {topology = "ring"}
    ...     method = {name = "dgd", step_size = 0.3}
    ...     run = {rounds = 4}
    ... ''', "an example")
    >>> work = experiment.Experiment(spec)
"""

from ntkdyn.checkpoints import flat
from ntkdyn.experiment.explored import explored
from ntkdyn.experiment.files import (
    Files,
    check_machine,
    check_replaceable,
    files,
    of_another,
)
from ntkdyn.experiment.outcome import compare, verify
from ntkdyn.experiment.reading import (
    LARGEST_SPEC,
    demo,
    load,
    parse,
    schema,
    shipped,
    spec_and_observed,
    with_seed,
)
from ntkdyn.experiment.spec import MethodTable, RunTable, ScheduleTable, ShareOfLimit, Spec
from ntkdyn.experiment.varied import VARIED, Unfinished, sweep
from ntkdyn.experiment.work import Experiment
from ntkdyn.validation import from_log, widths as sweeps
from ntkdyn.validation.verdicts import proven

__all__ = [
    "LARGEST_SPEC", "VARIED", "Experiment", "Files", "MethodTable", "RunTable", "ScheduleTable",
    "ShareOfLimit", "Spec", "Unfinished", "check_machine", "check_replaceable", "compare", "demo",
    "explored", "files", "flat", "from_log", "load", "of_another", "parse", "proven", "schema",
    "shipped", "spec_and_observed", "sweep", "sweeps", "verify", "with_seed",
]  # fmt: skip
