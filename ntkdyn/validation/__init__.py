"""The validation module: real networks trained, laid over what was predicted."""

from ntkdyn.errors import public
from ntkdyn.validation.accounting import account
from ntkdyn.validation.compare import compare
from ntkdyn.validation.logs import from_log
from ntkdyn.validation.nulls import nulls
from ntkdyn.validation.report import Findings, write_report
from ntkdyn.validation.train import Resources, train

__all__ = [
    "Findings",
    "Resources",
    "account",
    "compare",
    "from_log",
    "nulls",
    "train",
    "write_report",
]

__getattr__, __dir__ = public(__name__, __all__)
