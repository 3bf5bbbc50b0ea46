"""Small problems, computed once per session and shared by all tests."""

import os
import tempfile

# Compiling takes most of the time; subprocesses inherit this. Products have their own code anyway.
os.environ["XLA_FLAGS"] = f"--xla_backend_optimization_level=0 {os.environ.get('XLA_FLAGS', '')}"
# What one process compiled, the other worker and all subprocesses need not.
os.environ |= {
    "JAX_COMPILATION_CACHE_DIR": os.environ.get("NTKDYN_TEST_PROGRAMS") or tempfile.mkdtemp(),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}

import jax
import jaxtyping
import pytest
from browser import browser, opened, pages, read  # noqa: F401  (fixtures)
from cases import small_problem

import ntkdyn.caches

# All tests share their programs; a process of a user's drops them now and then.
ntkdyn.caches.MOST = 10**6

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True)
def user_settings_untouched():
    """Every test leaves JAX's precision as it found it."""
    before = jax.config.jax_enable_x64
    yield
    assert jax.config.jax_enable_x64 == before


@pytest.fixture
def types_unchecked():
    """What is of the wrong type reaches the package's own checks, as without the tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def small():
    """agents -> loss -> a small network problem, with its dense Jacobian for the reference."""
    made = {}

    def of(agents: int, loss: str = "mse"):
        if (agents, loss) not in made:
            made[agents, loss] = small_problem(agents, loss)
        return made[agents, loss]

    return of


def pytest_addoption(parser):
    parser.addoption("--part", help="k/n: every n-th of the slow tests, from the k-th on")


def pytest_collection_modifyitems(config, items):
    """Parts of the slow tests, the same in every worker."""
    if part := config.getoption("--part"):
        first, step = map(int, part.split("/"))
        slow = [each for each in items if each.get_closest_marker("slow")]
        items[:] = slow[first - 1 :: step]
