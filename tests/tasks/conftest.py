"""Tests of tasks compile quickly: what they compile hardly runs."""

import jax
import pytest


@pytest.fixture(scope="module", autouse=True)
def compile_fast():
    """Compiling is what these tests cost, and what is compiled hardly runs."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
