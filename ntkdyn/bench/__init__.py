"""Benchmarks: both sides in one run, on this machine, with the ratio beside the two times."""
