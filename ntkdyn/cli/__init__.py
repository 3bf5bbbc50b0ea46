"""The command line: parse, call, save. No mathematics.

Exit codes: 0 done, 1 a fault of the program, 2 an input that cannot be used (one sentence says
why), 3 what was checked does not hold, 130 interrupted, 143 terminated.
"""

from ntkdyn.cli import run, sweep, compare, theory, papers, show, docs, prepare  # noqa: F401, I001 - the order of --help
from ntkdyn.cli.application import app

__all__ = ["app"]
