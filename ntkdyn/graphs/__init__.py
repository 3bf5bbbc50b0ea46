"""Graphs, mixing matrices, and what their spectra say.

    topology (who is linked)  x  weights (how much each link counts)  =  mixing matrix W

A ring with Metropolis weights is `metropolis(ring(8))`, and `lazy` of it averages with itself; a
graph from a file `metropolis(read("towns.graphml"))`, or `given(...)` by its links' own weights; a
matrix of one's own, checked, `mixing(W)`. Row i of W holds the weights that agent i puts on the
agents it hears from. Graphs are networkx graphs; an arc j -> i of a directed one means that j
sends to i, so that W[i, j] > 0.
"""

from ntkdyn.errors import public
from ntkdyn.graphs.checks import mixing
from ntkdyn.graphs.cliques import d_cliques
from ntkdyn.graphs.described import described
from ntkdyn.graphs.equitopo import equi_dynamic, equi_static
from ntkdyn.graphs.fastest import fastest
from ntkdyn.graphs.files import read
from ntkdyn.graphs.finite_time import base, hyper_hypercube
from ntkdyn.graphs.matrices import LANCZOS_FROM, ROUNDING, MixingMatrix, MixingSequence, Weights
from ntkdyn.graphs.named import BUILT, RULES, build, weigh
from ntkdyn.graphs.neighbours import effective_neighbours, neighbours_rate
from ntkdyn.graphs.sequences import by_round, link_failures, one_peer_exponential, random_matchings
from ntkdyn.graphs.topologies import (
    TOPOLOGIES,
    circulant,
    complete,
    davis,
    directed_exponential,
    directed_ring,
    dyck,
    erdos_renyi,
    exponential,
    four_rings,
    from_edges,
    hypercube,
    path,
    petersen,
    random_regular,
    ring,
    star,
    torus,
    two_hubs,
)
from ntkdyn.graphs.weighted import WEIGHTED, given, sinkhorn
from ntkdyn.graphs.weights import (
    WEIGHTS,
    hundredths,
    isolated,
    laplacian,
    lazy,
    max_degree,
    metropolis,
    push,
    uniform,
)

__all__ = [
    "BUILT",
    "LANCZOS_FROM",
    "ROUNDING",
    "RULES",
    "TOPOLOGIES",
    "WEIGHTED",
    "WEIGHTS",
    "MixingMatrix",
    "MixingSequence",
    "Weights",
    "base",
    "build",
    "by_round",
    "circulant",
    "complete",
    "d_cliques",
    "davis",
    "described",
    "directed_exponential",
    "directed_ring",
    "dyck",
    "effective_neighbours",
    "equi_dynamic",
    "equi_static",
    "erdos_renyi",
    "exponential",
    "fastest",
    "four_rings",
    "from_edges",
    "given",
    "hundredths",
    "hyper_hypercube",
    "hypercube",
    "isolated",
    "laplacian",
    "lazy",
    "link_failures",
    "max_degree",
    "metropolis",
    "mixing",
    "neighbours_rate",
    "one_peer_exponential",
    "path",
    "petersen",
    "push",
    "random_matchings",
    "random_regular",
    "read",
    "ring",
    "sinkhorn",
    "star",
    "torus",
    "two_hubs",
    "uniform",
    "weigh",
]

__getattr__, __dir__ = public(__name__, __all__)
