"""The programs of training, prediction and kernels are made for CUDA too, where there is no GPU.

That a program is lowered says that all its operations exist there, not that it is fast or right.
"""

import jax
import jax.numpy as jnp
import pytest
from cases import ALL_METHODS, method

import ntkdyn as nd
from ntkdyn import engine, graphs, precision, runs
from ntkdyn.kernels import programs

CUDA = ("cuda",)

SPACES = {
    "network": lambda problem, view: problem.network_space(view),
    "tangent": lambda problem, view: problem.tangent_space(view),
    "kernel": lambda problem, view: problem.kernel_space("empirical", view),
}
PREDICTED = ["dgd", "diging", "drt"]
ON_THE_HOST = "dimat"
"""calls SciPy in the middle of a round, which JAX lowers only where there is a GPU"""
PUBLIC = "mhd"
"""needs points that this problem has not"""
CASES = [("network", name) for name in ALL_METHODS if name not in (ON_THE_HOST, PUBLIC)]
CASES += [(space, name) for space in ("tangent", "kernel") for name in PREDICTED]


def lowered(traced):
    """The program's text for CUDA."""
    return traced.lower(lowering_platforms=CUDA).as_text()


def iteration(problem, name, space):
    """A method on a ring, four agents with batches of two."""
    weights = weights_for(name)
    system = nd.System(problem, method(name, 0.1), weights, "empirical", 2, 0)
    asked = runs.plan(system, 3)
    return runs.iteration_of(asked, SPACES[space](problem, asked.method.view))


def weights_for(name):
    ring = graphs.ring(4)
    return graphs.push(ring) if name == "push_sum" else graphs.lazy(graphs.metropolis(ring))


@pytest.mark.parametrize(("space", "name"), CASES)
def test_rounds_and_measures_are_made_for_cuda(small, space, name):
    problem = small(4).problem
    with precision.single() if space == "network" else precision.double():
        built = iteration(problem, name, space)
        state = built.init()
        text = lowered(engine.advance.trace(built, state, jnp.asarray(0), jnp.asarray(3)))
        assert "stablehlo.while" in text and "stablehlo.dot_general" in text
        measured = engine._snapshot.trace(built.space, state.x, *engine._seen(built))
        assert "stablehlo.dot_general" in lowered(measured)


@pytest.mark.parametrize("by", sorted(programs.METHODS))
def test_kernels_are_made_for_cuda(by):
    net = nd.networks.cnn((4, 4), outputs=2, image=(6, 6, 1))
    params = net.start(jax.random.key(0), (36,))
    points = jnp.ones((3, 36))
    made = programs.program(by, net.apply, programs.Shape("full", None, by_layer=False))
    held = jax.eval_shape(made.prepare, params, points)
    lowered(made.prepare.trace(params, points))
    assert "stablehlo.dot_general" in lowered(made.meet.trace(params, held, held))


def test_a_program_that_cuda_has_not_is_told():
    """The null of the tests above: an operation of the CPU alone."""
    only_there = jax.jit(lambda x: jax.lax.linalg.schur(x)[0])
    with pytest.raises(NotImplementedError):
        lowered(only_there.trace(jnp.eye(3)))
