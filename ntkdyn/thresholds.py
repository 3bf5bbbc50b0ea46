"""Thresholds of the linear problem: what is decomposed whole or iterated, and what counts as zero.

Each is one number for all that ask the same, with the reason why it is no other. Sizes are numbers
in the state that moves, per output, or rows of the kernel; times are those of one core.
"""

# --- decomposed whole up to here, iterated or refused beyond -----------------------------------

MATRIX_UP_TO = 2000
"""A state whose matrix is squared, exponentiated or has modes: 32 MB, seconds a product."""

COVARIANCE_UP_TO = 2000
"""A state whose covariance is followed: two products of that size in every round."""

DECOMPOSED_UP_TO = 1000
"""A state whose map is solved with, or all of whose eigenvalues are told once: some seconds."""

EIGENVALUES_UP_TO = 600
"""The same where a step size is sought, twenty times in a row; the rim alone is found sooner."""

ROWS_UP_TO = 6000
"""Rows of a kernel that is factorized for a few eigenvalues: 288 MB and half a minute."""

MAP_ROWS_UP_TO = 1000
"""Rows of a kernel for a map of rates: some hundred factorizations of that size."""

GRAM_UP_TO = 1024
"""A Gram matrix of points whose norm comes from its eigenvalues, not from a bound of it."""

ALONE_UP_TO = 64
"""A symmetric matrix whose largest eigenvalue is sooner told with all others than by Lanczos."""

COVARIANCE_OPERATIONS = 1e13
"""Multiplications in following a covariance: some minutes."""

OUTCOMES_UP_TO = 2000
"""Ways in which a round's links fail whose maps are worked out: hundredths of a second each."""

# --- zero up to here ---------------------------------------------------------------------------

RANK = 1e-14
"""Eigenvalues of a kernel in double precision, as a share of the largest, per dimension: what its
decomposition rounds to."""

NEGLIGIBLE = 1e-10
"""Eigenvalues of a mean Hessian, as a share of the largest: constants divide by the least that
counts, so that it must be well above what rounding leaves."""

REACHED = 1e-10
"""Directions that a round adds to those reached before, as a share of what it adds: after some
rounds rounding is far below, and what a method does with numbers of order one far above."""

UNSEEN = 1e-10
"""What of a point's kernel with itself training points do not span, as a share of it: well above
what rounding leaves of a point that they do, and of no account where it is a thing of its own."""

RESTLESS = 1e-9
"""How near to one eigenvalues may be where noise is added in every round: variances at rest are
its own divided by that, and nobody waits a billion rounds for them."""

TWOFOLD = 1e-6
"""How far beyond one eigenvalues may be that are one, twice: what such a method keeps it also adds
up, and rounding parts the two by its own root, 1e-8 times what they are conditioned."""

LINEAR = 1e-10
"""What a step is off from a linear one, relative to its values: sums of a few hundred numbers round
to a thousandth of it."""

SYMMETRIC = 1e-12
"""What a matrix is off from a symmetric one, relative to its largest entry: rounding alone."""
