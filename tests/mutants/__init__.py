"""Mutation testing: does a test fail when a line of the package says something else?

`drawing` makes mutants with cosmic-ray's operators, `covering` knows the tests of a line, and
`trying` runs these on one mutant after another, each in a process of its own: JAX cannot be forked
once it has computed. The tests of a line run from the fastest on, up to the first that fails.
"""
