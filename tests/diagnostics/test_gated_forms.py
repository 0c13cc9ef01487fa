"""Diagnostics of gated cells whose kernel is dense, block-diagonal or diagonal, and prepared."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

import rnnjax
from rnnjax import LSTM, Elman, diagnostics, regularizers
from rnnjax.cells import GatedStep, LayerNorm, LayerNormParams, Zoneout
from rnnjax.diagnostics import weights

KEY = jax.random.key(0)
T, B, D, H = 5, 2, 3, 4


class Params(NamedTuple):
    w: Any  # [D, 2 H]
    u: Any


class Carry(NamedTuple):
    c: Any
    h: Any


@dataclasses.dataclass(frozen=True)
class Exponential(GatedStep):
    """c' = exp(-exp(f)) c + g, h' = tanh(c') / 2: exponential gates, U in one of three forms."""

    form: str
    gate_names = ("f", "g")
    dtype = None

    def init(self, key, input_size):
        shapes = {"dense": (H, 2 * H), "block": (2, H // 2, H), "diagonal": (2 * H,)}
        keys = jax.random.split(key)
        w = jax.random.normal(keys[0], (input_size, 2 * H))
        return Params(w, jax.random.normal(keys[1], shapes[self.form]))

    def prepare(self, params):
        return params._replace(u=0.5 * jnp.tanh(params.u))

    def initial_carry(self, batch_shape):
        return Carry(*jnp.zeros((2, *batch_shape, H)))

    def project(self, ready, x):
        return self.split(x @ ready.w)

    def recurrent_kernel(self, ready):
        return ready.u

    def elementwise(self, ready):
        return None

    def gates(self, params, carry, u, v):
        f = checkpoint_name(jnp.exp(-jnp.exp(u[0] + v[0])), "f")
        c = f * carry.c + u[1] + v[1]
        return Carry(c, jnp.tanh(c) / 2)

    def output(self, carry):
        return carry.h


FORMS = ["dense", "block", "diagonal"]
CELLS = {form: Exponential(form) for form in FORMS}
CELLS |= {"layer norm": LayerNorm(LSTM(H)), "zoneout": Zoneout(LSTM(H), 0.2)}


def wide(tree):
    return jax.tree.map(lambda p: p.astype(jnp.float64), tree)


def last(ys):
    return (ys[-1] ** 2).sum()


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_every_diagnostic_follows_from_the_steps_derivatives(cell, x64):
    params = wide(cell.init(KEY, D))
    xs = jax.random.normal(jax.random.key(1), (T, B, D), jnp.float64)
    found = diagnostics.jacobians(cell, params, xs)
    _, _, carries = rnnjax.unroll(cell, params, xs, return_carries=True)
    ready = cell.prepare(params)

    def flat_step(flat, x):
        carry = Carry(flat[:H], flat[H:]) if isinstance(cell, Exponential) else None
        carry = carry or rnnjax.cells.LSTMCarry(flat[:H], flat[H:])
        return jnp.concatenate(cell.step(ready, carry, cell.project(ready, x)))

    t = 3
    entering = jnp.concatenate([s[t - 1] for s in carries], axis=-1)
    want = jax.vmap(jax.jacfwd(flat_step))(entering, xs[t])
    np.testing.assert_allclose(found[t], want, atol=1e-12)

    slopes = diagnostics.adjoints(cell, params, xs, last)
    norms = jnp.linalg.norm(jnp.concatenate(slopes, -1), axis=-1)
    profile = diagnostics.gradient_profile(cell, params, xs, last)
    np.testing.assert_allclose(profile.log_norms[::-1], jnp.log(norms), rtol=1e-9)

    start = cell.initial_carry((B,))
    final = jax.grad(lambda s: last(cell.output(s)[None]))(jax.tree.map(lambda s: s[-1], carries))
    split = diagnostics.log_carousel_profile(cell, params, xs, final, wide(start))
    np.testing.assert_allclose(split.joint, jnp.log(norms), rtol=1e-9)
    parts = diagnostics.parameter_gradient_by_lag(cell, params, xs, last)
    whole = jax.grad(lambda p: last(rnnjax.unroll(cell, p, xs)[1]))(params)  # of the raw ones
    for part, leaf in zip(jax.tree.leaves(parts), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(part.sum(0), leaf, rtol=1e-9, atol=1e-12)

    gates = diagnostics.gates(cell, params, xs)
    assert gates["f"].shape == (T, B, H)
    assert regularizers.omega(cell, params, xs, slopes) > 0


@pytest.mark.parametrize("form", FORMS)
def test_spectra_are_those_of_the_effective_blocks(form):
    cell = Exponential(form)
    params = jax.vmap(lambda key: cell.init(key, D))(jax.random.split(KEY, 3))  # a population
    found = weights.block_spectra(cell, params)
    assert list(found) == ["f", "g"]
    effective = 0.5 * np.tanh(np.float64(params.u))
    for g, name in enumerate(cell.gate_names):
        for s in range(3):
            if form == "dense":
                block = effective[s][:, g * H : (g + 1) * H]
            elif form == "block":
                heads = effective[s][..., g * H // 2 : (g + 1) * H // 2]
                block = jax.scipy.linalg.block_diag(*heads)
            else:
                block = np.diag(effective[s][g * H : (g + 1) * H])
            eigenvalues = np.linalg.eigvals(np.float64(block))
            moduli = np.sort(np.abs(eigenvalues))[::-1]
            np.testing.assert_allclose(np.abs(found[name].eigenvalues[s]), moduli, rtol=1e-5)
            assert abs(found[name].eigenvalues[s].sum() - eigenvalues.sum()) < 1e-5
            values = np.linalg.svd(np.float64(block), compute_uv=False)
            np.testing.assert_allclose(found[name].singular_values[s], values, rtol=1e-5)


def test_blocks_are_found_through_wrappers():
    cell = LayerNorm(LSTM(H))
    params = cell.init(KEY, D)
    assert isinstance(params, LayerNormParams)
    blocks = weights.by_gate(cell, params)
    assert list(blocks["cell.recurrent_kernel"]) == ["i", "f", "g", "o"]
    assert list(blocks["input_scale"]) == [""]
    inner = weights.block_spectra(LSTM(H), params.cell)
    outer = weights.block_spectra(cell, params)
    assert list(outer) == list(inner)
    for name in inner:
        np.testing.assert_array_equal(outer[name].eigenvalues, inner[name].eigenvalues)


def test_a_block_that_is_not_square_has_no_spectrum():
    @dataclasses.dataclass(frozen=True)
    class Narrow(Elman):
        def recurrent_kernel(self, ready):
            return ready.recurrent_kernel[:-1]

    cell = Narrow(H)
    with pytest.raises(ValueError, match=r"block must be square to have eigenvalues, got \(3, 4\)"):
        weights.block_spectra(cell, cell.init(KEY, D))
