"""`python -m ntkdyn` is the command `ntkdyn`."""

from ntkdyn.cli import app

app(prog_name="ntkdyn")
