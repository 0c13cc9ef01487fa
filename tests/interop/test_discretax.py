"""The S5 beside the package `discretax`."""

import jax
import jax.numpy as jnp
import numpy as np
import peer_fixtures
import pytest

import rnnjax
from rnnjax.cells import S5, S5Params


def test_outputs_and_gradients_equal_discretax(x64):
    """B is transposed there, and Re A is a parameter itself; 2 Re(C s) is a dense layer."""

    def ours(given):
        kernels = (given["B"][..., part].T for part in (0, 1))
        logs = jnp.log(-given["Lambda_re"]), given["Lambda_im"], given["log_step"][:, 0]
        params = S5Params(*logs, *kernels)
        xs = given["xs"].swapaxes(0, 1)
        cell = S5(len(params.step_log), param_dtype=jnp.float64)
        outputs = rnnjax.unroll_parallel(cell, params, xs)[1]
        dense = 2 * jnp.concatenate([given["C"][..., 0], -given["C"][..., 1]], axis=-1).T
        return (outputs @ dense + given["D"] * xs).swapaxes(0, 1)

    assert max(peer_fixtures.errors("discretax", "s5", ours).values()) < 1e-12


@pytest.mark.slow
def test_the_spectrum_at_initialisation_equals_discretax(x64):
    """Of each conjugate pair discretax keeps the other one."""
    with np.load(peer_fixtures.FIXTURES / "discretax.npz") as file:
        want = file["spectrum"]
    params = S5(len(want), param_dtype=jnp.float64).init(jax.random.key(0), 3)
    got = -np.exp(params.decay_log) + 1j * np.asarray(params.frequency)
    np.testing.assert_allclose(got, np.sort_complex(want.conj()), rtol=1e-12)
