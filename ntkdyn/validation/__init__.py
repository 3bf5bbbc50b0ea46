"""The validation module: real networks trained, laid over what was predicted."""

from ntkdyn.validation.accounting import account
from ntkdyn.validation.compare import compare
from ntkdyn.validation.report import write_report
from ntkdyn.validation.train import train

__all__ = ["account", "compare", "train", "write_report"]
