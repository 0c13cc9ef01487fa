"""Two CPU devices, as on the smallest machine that has more than one; float64 on request.

Compiling is most of what a test costs, so the compiler leaves out what takes it long, here and in
the processes that tests start. `JAX_DISABLE_MOST_OPTIMIZATIONS=0 pytest` tests with all of it.
"""

import os

os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # before JAX reads it

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 2)


@pytest.fixture
def x64():
    """Run the test with 64-bit types."""
    with jax.enable_x64(True):
        yield
