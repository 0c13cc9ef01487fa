"""The minGRU and the minLSTM beside the package `minGRU-pytorch`."""

import jax.numpy as jnp
import peer_fixtures
import pytest
from slow import slow_but_for

import rnnjax
from rnnjax.cells import MinGRU, MinGRUCarry, MinGRUParams, MinLSTM, MinLSTMCarry, MinLSTMParams

H = 5
CELLS = {
    "min_gru": (MinGRU, MinGRUParams, MinGRUCarry),
    "min_lstm": (MinLSTM, MinLSTMParams, MinLSTMCarry),
}


def network(kind, params, carry, parallel):
    """Return our outputs as a function of what the package is given.

    Its gates have no biases. Its candidate is W x + 1/2, so ours has the bias 1/2; it cancels in
    the difference of two networks. At once, its minLSTM takes g(h) = h + 1/2 for its state, as for
    the candidate; step by step it takes h, as its minGRU does in both.
    """
    cell = kind(H, param_dtype=jnp.float64)

    def ours(given):
        candidate, h = given["candidate"], given["h"][:, 0]
        if parallel and kind is MinLSTM:
            h = h + 0.5
        if not parallel:
            candidate = candidate - given["candidate_subtracted"]
            h = h - given["h_subtracted"][:, 0]
        kernel = jnp.concatenate([given["gates"], candidate]).T
        bias = jnp.zeros(kernel.shape[-1]).at[-H:].set(0.5 if parallel else 0.0)
        xs = given["xs"].swapaxes(0, 1)
        run = rnnjax.unroll_parallel if parallel else rnnjax.unroll
        return run(cell, params(kernel, bias), xs, carry(h))[1].swapaxes(0, 1)

    return ours


@pytest.mark.parametrize("cell", slow_but_for("min_gru", [*CELLS]))
def test_outputs_and_gradients_equal_the_scan_in_log_space(cell, x64):
    ours = network(*CELLS[cell], parallel=True)
    assert max(peer_fixtures.errors("min_gru_pytorch", cell, ours).values()) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_outputs_and_gradients_equal_the_steps(cell, x64):
    ours = network(*CELLS[cell], parallel=False)
    assert max(peer_fixtures.errors("min_gru_pytorch", f"{cell}_steps", ours).values()) < 1e-12
