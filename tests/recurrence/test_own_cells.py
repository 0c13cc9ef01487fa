"""Cells that nobody registers, and wrappers: fast path = plain scan = Python loop, every option."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import oracles
import own_cells
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_cells import D, H
from process_memory import bound_memory
from slow import slow_but_for

import rnnjax
from rnnjax import GRU, LSTM, Elman, diagnostics
from rnnjax.cells import LayerNorm, Stochastic, VariationalDropout, Zoneout
from rnnjax.cells.gated import is_gated
from rnnjax.recurrence import fast
from rnnjax.recurrence.sequential import _unroll

KEY = jax.random.key(0)
T, B = 7, 2
GATED = own_cells.GATED | {"elman": Elman(H), "lstm": LSTM(H), "gru": GRU(H)}
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


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Chunks of four steps: seven steps then need two, and the second overlaps the first."""
    monkeypatch.setattr(fast, "CHUNK_BYTES", 1)
    _unroll.clear_cache()
    yield
    _unroll.clear_cache()


def without_fast_path(cell):
    """Return an equal cell that overrides `step`, so that it takes the plain scan."""
    kind = type(cell)
    own = type(f"Plain{kind.__name__}", (kind,), {"step": lambda self, *a: kind.step(self, *a)})
    plain = own(
        **{f.name: getattr(cell, f.name) for f in dataclasses.fields(cell) if f.name != "_"}
    )
    assert is_gated(cell) and not is_gated(plain)
    return plain


def problem(cell, seed=0, dtype=jnp.float64):
    """Return parameters, inputs, noise included, and a carry away from special values."""
    keys = iter(jax.random.split(jax.random.key(seed), 50))

    def noisy(a, scale):
        if not jnp.issubdtype(a.dtype, jnp.inexact):
            return a
        wide = jnp.promote_types(a.dtype, dtype) if dtype == jnp.float64 else a.dtype
        return a.astype(wide) + scale * jax.random.normal(next(keys), a.shape, wide)

    params = jax.tree.map(lambda p: noisy(p, 0.1), cell.init(KEY, D))
    carry = jax.tree.map(lambda c: noisy(c, 0.1), cell.initial_carry((B,)))
    xs: Any = jax.random.normal(next(keys), (T, B, D), dtype)
    if isinstance(cell, Stochastic):
        xs = cell.with_noise(KEY, xs)
    return params, xs, carry


def python_loop(cell, params, xs, carry):
    ready, outputs, carries = cell.prepare(params), [], []
    for t in range(T):
        u = cell.project(ready, jax.tree.map(lambda x, t=t: x[t], xs))
        carry = cell.step(ready, carry, u)
        outputs.append(cell.output(carry))
        carries.append(carry)
    return carry, jnp.stack(outputs), jax.tree.map(lambda *leaves: jnp.stack(leaves), *carries)


def everything(run, params, xs, carry):
    """Return the values, and the gradients of a loss that weighs every entry of them."""

    def loss(*arguments):
        values = run(*arguments)
        leaves = [a for a in jax.tree.leaves(values) if jnp.issubdtype(a.dtype, jnp.inexact)]
        leaves = [part for a in leaves for part in (jnp.real(a), jnp.imag(a))]
        terms = [jnp.sum(a * jnp.cos(jnp.arange(a.size).reshape(a.shape))) for a in leaves]
        return sum(terms), values

    gradients, values = jax.grad(loss, (0, 1, 2), has_aux=True, allow_int=True)(params, xs, carry)
    leaves = jax.tree.leaves((values, gradients))
    return [a for a in leaves if a.dtype != jax.dtypes.float0]


def unrolled(cell, **options):
    return jax.jit(
        functools.partial(
            everything, functools.partial(rnnjax.unroll, cell, return_carries=True, **options)
        )
    )


def uses_fast_path(cell, *arguments):
    def loss(params):
        return jnp.sum(jnp.abs(rnnjax.unroll(cell, params, *arguments[1:])[1]) ** 2)

    return "pull_back" in str(jax.make_jaxpr(jax.grad(loss))(arguments[0]))


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
@settings(max_examples=24, deadline=None, derandomize=True)
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


# One subclass for each method that a subclass may override.


class Prepared(LSTM):
    def prepare(self, params):
        return params._replace(recurrent_kernel=jnp.abs(params.recurrent_kernel))


class Rectified(Elman):
    def recurrent_input(self, carry, u):
        return jax.nn.relu(carry.h)


class Gain(Elman):
    """The recurrent input depends on u, so that a cotangent of u comes through the product too."""

    def recurrent_input(self, carry, u):
        return carry.h * jnp.tanh(u[0])


class Scaled(GRU):
    def recurrent_kernel(self, ready):
        return 0.5 * ready.recurrent_kernel + ready.recurrent_kernel**2


class Squashed(LSTM):
    def project(self, ready, x):
        return tuple(jnp.sin(u) * ready.bias[0] for u in LSTM.project(self, ready, x**2))


class Exponential(GRU):
    def elementwise(self, ready):
        return GRU.elementwise(self, ready)._replace(recurrent_bias=jnp.exp(ready.recurrent_bias))


class Clipped(LSTM):
    def gates(self, params, carry, u, v):
        new = LSTM.gates(self, params, carry, tuple(map(jnp.tanh, u)), v)
        return new._replace(c=jnp.clip(new.c, -0.5, 0.5))


class Stepped(GRU):
    def step(self, ready, carry, u):
        return jax.tree.map(lambda a, b: 0.5 * (a + b), GRU.step(self, ready, carry, u), carry)


class Read(LSTM):
    def output(self, carry):
        return jnp.concatenate([carry.h, carry.c**2], axis=-1)


class Started(Elman):
    def initial_carry(self, batch_shape):
        return jax.tree.map(lambda h: h + 0.3, Elman.initial_carry(self, batch_shape))


class OddParams(NamedTuple):
    input_kernel: Any
    recurrent_kernel: Any
    bias: Any
    scalar: Any  # []
    single: Any  # [1]
    pair: Any  # [2, H]
    vector: Any  # [H], of which single entries are used
    column: Any  # [H, 1]
    index: Any  # an integer


class Odd(LSTM):
    """Parameters of every shape, used in other ways than feature by feature."""

    def init(self, key, input_size):
        blocks = LSTM.init(self, key, input_size)
        ones = (jnp.full(shape, 0.5) for shape in ((), (1,), (2, H), (H,), (H, 1)))
        return OddParams(*blocks, *ones, jnp.array(1))

    def gates(self, params, carry, u, v):
        new = LSTM.gates(self, params, carry, u, v)
        h = new.h * jax.nn.sigmoid(params.scalar) + params.single + params.pair[0] * new.c
        h = h + params.vector[0] * params.pair[params.index] + params.column[:, 0]
        return new._replace(h=h * params.vector[::-1].sum())


OVERRIDDEN = {
    cell.__name__: cell(H)
    for cell in (
        Prepared,
        Rectified,
        Gain,
        Scaled,
        Squashed,
        Exponential,
        Clipped,
        Stepped,
        Read,
        Started,
        Odd,
    )
}


@pytest.mark.slow
@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(OVERRIDDEN)), st.sampled_from(sorted(WRAPPERS)), st.integers(0, 99))
def test_every_path_honours_an_overridden_method(name, wrapper, seed):
    with jax.enable_x64(True):
        cell = OVERRIDDEN[name]
        if is_gated(cell) and seed % 2:
            cell = WRAPPERS[wrapper](cell)
        params, xs, carry = problem(cell, seed)
        arguments = params, xs, carry if seed % 3 else cell.initial_carry((B,))
        arguments = jax.tree.map(
            lambda a: a.astype(jnp.float64) if a.dtype == jnp.float32 else a, arguments
        )
        want = jax.jit(functools.partial(everything, functools.partial(python_loop, cell)))(
            *arguments
        )
        assert oracles.relative_error(unrolled(cell)(*arguments), want) < 1e-10
        bound_memory()


@pytest.mark.slow
@pytest.mark.parametrize("name", OVERRIDDEN)
def test_jacobians_of_an_overridden_method_are_finite_differences(name, x64):
    cell = OVERRIDDEN[name]
    params, xs, carry = problem(cell)
    found = diagnostics.jacobians(cell, params, xs, carry)[2]
    ready = cell.prepare(params)
    carries = python_loop(cell, params, xs, carry)[2]
    flat, unflatten = jax.flatten_util.ravel_pytree(jax.tree.map(lambda c: c[1], carries))

    @jax.jit
    def step(flat):
        new = cell.step(ready, unflatten(flat), cell.project(ready, xs[2]))
        return jnp.concatenate(jax.tree.leaves(new), axis=-1)  # [B, N]

    width = H * len(jax.tree.leaves(carry))
    for entry in range(width):
        leaf, unit = divmod(entry, H)
        moved = jnp.zeros((len(jax.tree.leaves(carry)), B, H)).at[leaf, :, unit].set(1e-6).ravel()
        slope = (step(flat + moved) - step(flat - moved)) / 2e-6
        np.testing.assert_allclose(found[:, :, entry], slope, atol=1e-7)


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


@pytest.mark.parametrize("name", ["sLSTM", "IndRNN", "lstm"])
def test_an_empty_batch(name):
    cell = CELLS[name]
    params = cell.init(jax.random.key(0), 3)
    _, outputs = rnnjax.unroll(cell, params, jnp.zeros((4, 0, 3)))
    assert outputs.shape == (4, 0, cell.output_size)
