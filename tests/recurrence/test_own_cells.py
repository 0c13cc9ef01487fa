"""Cells that nobody registers, and wrappers: fast path = plain scan = Python loop, every option."""

import dataclasses
import functools
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import oracles
import own_cells
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_cells import H
from paths import (
    B,
    T,
    everything,
    problem,
    python_loop,
    unrolled,
    uses_fast_path,
    without_fast_path,
)
from process_memory import bound_memory
from slow import slow_but_for

import rnnjax
from rnnjax import GRU, LSTM, Elman, diagnostics
from rnnjax.cells import LayerNorm, VariationalDropout, Zoneout
from rnnjax.cells.gated import is_gated

pytestmark = pytest.mark.usefixtures("small_chunks")


class Counted(own_cells.Odd):
    """One of the parameters is an integer."""

    def init(self, key, input_size):
        return own_cells.Odd.init(self, key, input_size)._replace(scalar=jnp.array(1))


GATED = own_cells.GATED | {
    "elman": Elman(H),
    "lstm": LSTM(H),
    "gru": GRU(H),
    "counted": Counted(H),
}
WRAPPERS = {
    "normalised": LayerNorm,
    "zoneout": lambda cell: Zoneout(cell, 0.3),
    "dropout": lambda cell: VariationalDropout(cell, 0.4),
    "all three": lambda cell: VariationalDropout(Zoneout(LayerNorm(cell), 0.2), 0.3),
}
WRAPPED = {
    f"{how} {name}": wrap(cell) for how, wrap in WRAPPERS.items() for name, cell in GATED.items()
}
CELLS: dict[str, Any] = GATED | WRAPPED
OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "lengths": {"seq_lengths": np.array([4, 0])},
    "reverse": {"reverse": True, "seq_lengths": np.array([7, 5])},
    "resets": {"resets": np.arange(T * B).reshape(T, B) % 5 == 3},
    "truncated": {"truncate_every": 3},
    "lean": {"checkpoint_every": 1},
    "checkpoints": {"checkpoint_every": 3},
    "all": {
        "seq_lengths": np.array([5, 7]),
        "resets": np.arange(T * B).reshape(T, B) % 4 == 2,
        "reverse": True,
        "truncate_every": 2,
        "checkpoint_every": "sqrt",
    },
}


@pytest.mark.parametrize(
    "name",
    slow_but_for("IndRNN", [*GATED, *(f"{how} lstm" for how in WRAPPERS)]),
)
def test_every_path_is_the_python_loop(name, x64):
    cell = CELLS[name]
    arguments = problem(cell)
    assert uses_fast_path(cell, *arguments)
    want = jax.jit(functools.partial(everything, functools.partial(python_loop, cell)))(*arguments)
    for other in (cell, without_fast_path(cell)):
        assert oracles.relative_error(unrolled(other)(*arguments), want) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("name", ["LRU", "counting"])
def test_complex_and_integer_carries_are_the_python_loop(name, x64):
    cell = own_cells.CELLS[name]
    arguments = problem(cell)
    assert not uses_fast_path(cell, *arguments)
    want = jax.jit(functools.partial(everything, functools.partial(python_loop, cell)))(*arguments)
    for options in ({}, {"checkpoint_every": 3}, {"checkpoint_every": 1}):
        assert oracles.relative_error(unrolled(cell, **options)(*arguments), want) < 1e-10


@pytest.mark.slow
@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(CELLS)), st.sampled_from(sorted(OPTIONS)), st.integers(0, 99))
def test_options_and_wrappers_have_the_gradients_of_a_plain_scan(name, option, seed):
    with jax.enable_x64(True):
        cell, options = CELLS[name], OPTIONS[option]
        arguments = problem(cell, seed)
        got = unrolled(cell, **options)(*arguments)
        want = unrolled(without_fast_path(cell), **options)(*arguments)
        assert oracles.relative_error(got, want) < 1e-10
        bound_memory()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["coRNN", "sLSTM", "IndRNN", "all three lstm", "LRU"])
def test_marks_on_gradients(name, x64):
    """Perturbations, norms and clipped adjoints: of the fast path and of the plain scan."""
    cell = (CELLS | own_cells.CELLS)[name]
    params, xs, carry = problem(cell)
    zeros = jax.tree.map(lambda c: jnp.zeros((T, *c.shape), c.dtype), carry)

    def run(cell, params, perturbations, probe):
        marks = {"perturbations": perturbations, "norm_probe": probe, "clip_adjoints": 0.7}
        return jnp.sum(jnp.sin(rnnjax.unroll(cell, params, xs, carry, **marks)[1]))

    gradients = jax.jit(jax.grad(run, (1, 2, 3)), static_argnums=0)
    got = gradients(cell, params, zeros, jnp.zeros((T, B)))
    assert float(jnp.max(got[2])) > 0.7  # some are clipped
    leaves = jax.tree.leaves(got[1])
    norms = jnp.sqrt(sum((jnp.abs(a) ** 2).sum(-1) for a in leaves))
    np.testing.assert_allclose(norms, got[2], rtol=1e-12)
    if is_gated(cell):
        want = gradients(without_fast_path(cell), params, zeros, jnp.zeros((T, B)))
        assert oracles.relative_error(got, want) < 1e-10


@pytest.mark.slow
def test_the_gradient_of_a_complex_carry_is_the_conjugate_of_the_direction_of_ascent(x64):
    """JAX's convention: df = Re(sum(g * dz)) for a real f, so g = df/dRe z - i df/dIm z."""
    cell = own_cells.CELLS["LRU"]
    params, xs, carry = problem(cell)

    def loss(state):
        return jnp.sum(rnnjax.unroll(cell, params, xs, own_cells.LRUCarry(state))[1][-1] ** 3)

    g, size = jax.grad(loss)(carry.state), 1e-6
    for direction in (1.0, 1j):
        step = size * direction * jnp.zeros_like(carry.state).at[0, 0].set(1)
        slope = (loss(carry.state + step) - loss(carry.state - step)) / (2 * size)
        assert float(slope) == pytest.approx(float((g[0, 0] * direction).real), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_but_for("coRNN", ["sLSTM", "coRNN", "all three gru"]))
def test_forward_mode_and_second_derivatives_are_those_of_the_plain_scan(name, x64):
    cell = CELLS[name]
    params, xs, carry = problem(cell)
    flat, unflatten = jax.flatten_util.ravel_pytree(carry)
    tangents = jax.tree.map(jnp.cos, carry)

    def loss(cell, flat):
        return jnp.sum(rnnjax.unroll(cell, params, xs, unflatten(flat))[1] ** 2)

    @functools.partial(jax.jit, static_argnums=0)
    def derivatives(cell):
        run = functools.partial(rnnjax.unroll, cell, params, xs)
        return jax.jvp(run, (carry,), (tangents,))[1], jax.hessian(functools.partial(loss, cell))(
            flat
        )

    assert oracles.relative_error(derivatives(cell), derivatives(without_fast_path(cell))) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("name", ["coRNN", "sLSTM", "expRNN", "normalised lstm"])
def test_bfloat16_products_keep_a_float32_carry(name):
    """Within 3 % of float32: eight bits of mantissa, .4 % a rounding, over seven steps."""
    cell = CELLS[name]
    if name == "normalised lstm":
        low = LayerNorm(LSTM(H, dtype=jnp.bfloat16))
    else:
        low = dataclasses.replace(cell, dtype=jnp.bfloat16)
    arguments = problem(cell, dtype=jnp.float32)
    got, want = unrolled(low)(*arguments), unrolled(cell)(*arguments)
    assert {a.dtype for a in got} == {jnp.dtype("float32")}
    assert 1e-6 < oracles.relative_error(got, want) < 0.03


@pytest.mark.slow
def test_a_population_of_own_cells(x64):
    cell = CELLS["sLSTM"]
    many = [problem(cell, seed) for seed in range(2)]
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *many)
    got = jax.vmap(unrolled(cell))(*together)
    for i, one in enumerate(many):
        assert oracles.relative_error([a[i] for a in got], unrolled(cell)(*one)) < 1e-10


class Abs(Elman):
    def prepare(self, params):
        return params._replace(recurrent_kernel=jnp.abs(params.recurrent_kernel))


def test_an_effective_kernel_by_hand(x64):
    """h1 = tanh(.1), h2 = tanh(.5 h1): dL/dU = -h1 (1 - h2^2) and so on, for U = -.5."""
    cell, xs = Abs(1), jnp.array([[0.1], [0.0]])
    params = rnnjax.cells.GatedParams(jnp.ones((1, 1)), jnp.full((1, 1), -0.5), jnp.zeros(1))
    gradient = jax.grad(lambda p: rnnjax.unroll(cell, p, xs)[1][-1, 0])(params)
    assert float(gradient.recurrent_kernel[0, 0]) == pytest.approx(-0.09942, abs=1e-5)
    assert float(gradient.input_kernel[0, 0]) == pytest.approx(0.04938, abs=1e-5)
    assert float(diagnostics.jacobians(cell, params, xs)[1, 0, 0]) == pytest.approx(
        0.49876, abs=1e-5
    )


@pytest.mark.parametrize(("name", "hook"), [("recur", "prepare"), ("split", "project")])
def test_methods_that_no_path_would_call_cannot_be_overridden(name, hook):
    with pytest.raises(TypeError, match=f"must not override {name}.*override {hook}"):
        type("Own", (LSTM,), {name: lambda self, *a: None})


def test_output_size():
    assert own_cells.CELLS["LRU"].output_size == 2 * H
    assert LSTM(4).output_size == Zoneout(LSTM(4), 0.1).output_size == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sLSTM", "IndRNN", "lstm"])
def test_an_empty_batch(name):
    cell = CELLS[name]
    params = cell.init(jax.random.key(0), 3)
    _, outputs = rnnjax.unroll(cell, params, jnp.zeros((4, 0, 3)))
    assert outputs.shape == (4, 0, cell.output_size)
