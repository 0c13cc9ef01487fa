"""The LRU and the MGU beside the package `memax`."""

import jax.numpy as jnp
import peer_fixtures
import pytest
from slow import slow_but_for

import rnnjax
from rnnjax.cells import LRU, MGU, LRUCarry, LRUParams, MGUCarry, MGUParams

RUNS = {"unroll": rnnjax.unroll, "unroll_parallel": rnnjax.unroll_parallel}


@pytest.mark.parametrize("run", slow_but_for("unroll_parallel", RUNS))
def test_the_lru_with_resets_equals_memax(run, x64):
    """B is transposed there; Re(C s) is a dense layer on our outputs."""

    def ours(given):
        logs = (given[key] for key in ("nu_log", "theta_log", "gamma_log"))
        params = LRUParams(*logs, given["B_re"].T, given["B_im"].T)
        xs, resets = given["xs"].swapaxes(0, 1), given["starts"].T
        carry = LRUCarry(given["s_re"] + 1j * given["s_im"])
        cell = LRU(len(params.nu_log), param_dtype=jnp.float64)
        outputs = run(cell, params, xs, carry, resets=resets)[1]
        dense = jnp.concatenate([given["C_re"], -given["C_im"]], axis=-1).T
        return (outputs @ dense + given["D"] * xs).swapaxes(0, 1)

    errors = peer_fixtures.errors("memax", "lru", ours)
    assert errors.pop("xs") < 1e-6  # memax rounds this gradient to float32
    assert max(errors.values()) < 1e-12


@pytest.mark.slow
def test_the_mgu_equals_memax(x64):
    """U and W are transposed there, and W_h and U_h are the candidate's."""

    def ours(given):
        gate, candidate = (
            (given[f"W_{of}"].T, given[f"U_{of}"].T, given[f"b_{of}"]) for of in "fh"
        )
        cell = MGU(features=len(given["b_f"]), param_dtype=jnp.float64)
        xs = given["xs"].swapaxes(0, 1)
        outputs = rnnjax.unroll(cell, MGUParams(*gate, *candidate), xs, MGUCarry(given["h"]))
        return outputs[1].swapaxes(0, 1)

    assert max(peer_fixtures.errors("memax", "mgu", ours).values()) < 1e-12
