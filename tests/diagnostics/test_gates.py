"""Gates read off a cell's step, and their statistics, against NumPy."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

import rnnjax
from rnnjax import GRU, LSTM, Cell, Elman, Gated, diagnostics
from rnnjax.cells import GatedParams, GRUCarry, GRUParams, LSTMCarry, MinGRU
from rnnjax.diagnostics import gate_statistics, gates

T, D, H = 7, 3, 5
KEY = jax.random.key(0)


def logistic(x):
    return 1 / (1 + np.exp(-x))


def draw(count, *batch):
    """Parameters of `count` gates, inputs and a first state."""
    rng = np.random.default_rng(0)
    shapes = (D, count * H), (H, count * H), (count * H,)
    params = GatedParams(*(jnp.asarray(rng.normal(size=shape)) for shape in shapes))
    return params, *(jnp.asarray(rng.normal(size=(*n, *batch, D + H))) for n in ((T,), ()))


def in_numpy(advance, params, xs, state):
    """What `advance(a, state)` names at every step, stacked; a = W x + U h + b by gate."""
    W, U, b = (np.asarray(p) for p in params[:3])
    found = []
    for x in np.asarray(xs):
        state, named = advance(x @ W + b, state[-1] @ U, state)
        found.append(named)
    return {name: np.stack([step[name] for step in found]) for name in found[0]}


def lstm_step(u, v, state):
    i, f, g, o = np.split(u + v, 4, axis=-1)
    c = logistic(f) * state[0] + logistic(i) * np.tanh(g)
    named = {"i": logistic(i), "f": logistic(f), "o": logistic(o)}
    return (c, logistic(o) * np.tanh(c)), named


def gru_step(u, v, state):
    (ur, uz, un), (vr, vz, vn) = (np.split(a, 3, axis=-1) for a in (u, v))
    r, z = logistic(ur + vr), logistic(uz + vz)
    n = np.tanh(un + r * (vn + 0.3))
    return ((1 - z) * n + z * state[-1],), {"r": r, "z": z}


class MinimalCarry(NamedTuple):
    h: jax.Array


@dataclasses.dataclass(frozen=True)
class Minimal(Gated):
    """A user's gated cell, h' = f h + (1 - f) tanh(f h), with its gate named inside a jit."""

    gate_names = ("f",)

    def init(self, key, input_size):
        return self.init_blocks(key, input_size)

    def initial_carry(self, batch_shape):
        return MinimalCarry(jnp.zeros((*batch_shape, self.features)))

    def gates(self, params, carry, u, v):
        f = jax.jit(lambda a: checkpoint_name(jax.nn.sigmoid(a), "keep"))(u[0] + v[0])
        return MinimalCarry(f * carry.h + (1 - f) * jnp.tanh(f * carry.h))


def minimal_step(u, v, state):
    f, h = logistic(u + v), state[-1]
    return (f * h + (1 - f) * np.tanh(f * h),), {"keep": f}


@dataclasses.dataclass(frozen=True)
class Plain(Cell):
    """A user's cell of no family; its names may be those of any values of the step."""

    def init(self, key, input_size):
        raise NotImplementedError

    def initial_carry(self, batch_shape):
        return jnp.zeros((*batch_shape, H))

    def project(self, params, x):
        return x @ params.input_kernel + params.bias

    def step(self, params, carry, u):
        gate = checkpoint_name(jax.nn.sigmoid(u + carry @ params.recurrent_kernel), "a")
        return checkpoint_name(gate * carry, "kept") + 1 - gate

    def output(self, carry):
        return carry


def plain_step(u, v, state):
    gate = logistic(u + v)
    return (gate * state[-1] + 1 - gate,), {"a": gate, "kept": gate * state[-1]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "count", "advance", "batch"),
    [
        (LSTM(H, param_dtype=float), 4, lstm_step, (2,)),
        (GRU(H, param_dtype=float), 3, gru_step, (2, 3)),
        (Minimal(H, param_dtype=float), 1, minimal_step, ()),
        (Plain(), 1, plain_step, (2,)),
    ],
    ids=["lstm", "gru", "gated", "plain"],
)
def test_the_values_are_those_that_the_step_computes(cell, count, advance, batch, x64):
    params, xs, state = draw(count, *batch)
    xs, state = xs[..., :D], state[..., :H]
    carry, start = MinimalCarry(state), (np.asarray(state),)
    if isinstance(cell, LSTM):
        carry, start = LSTMCarry(0.5 * state, state), (0.5 * start[0], start[0])
    elif isinstance(cell, GRU):
        carry, params = GRUCarry(state), GRUParams(*params, jnp.full(H, 0.3))
    elif isinstance(cell, Plain):
        carry = state
    found = gates(cell, params, xs, carry)
    want = in_numpy(advance, params, xs, start)
    assert found.keys() == want.keys()
    for name, values in found.items():
        assert values.shape == (T, *batch, H)
        np.testing.assert_allclose(values, want[name], rtol=1e-12)
    last = list(want)[-1]
    only = gates(cell, params, xs, carry, names=[last])
    assert list(only) == [last]
    np.testing.assert_array_equal(only[last], found[last])


@pytest.mark.slow
def test_gates_of_a_linear_cell_are_those_of_its_coefficients(x64):
    cell = MinGRU(H, param_dtype=jnp.float64)
    params, xs = cell.init(KEY, D), jax.random.normal(KEY, (T, 2, D), jnp.float64)
    found = gates(cell, params, xs)
    want = logistic(np.asarray(xs) @ np.asarray(params.kernel) + np.asarray(params.bias))[..., :H]
    assert list(found) == ["z"]
    np.testing.assert_allclose(found["z"], want, rtol=1e-12)
    _, _, carries = rnnjax.unroll(cell, params, xs, return_carries=True)
    saturated = diagnostics.gate_saturation(cell, params, xs, carries, [1, 3])
    np.testing.assert_allclose(saturated["gate_z_mean"], want[[-1, -3]].mean(), rtol=1e-12)


def test_a_cell_that_names_nothing_has_no_gates():
    cell = Elman(H)
    params, xs = cell.init(KEY, D), jnp.ones((T, D))
    assert gates(cell, params, xs) == {}
    with pytest.raises(ValueError, match="Elman has no gate 'f'; it names none"):
        gates(cell, params, xs, names=["f"])


def test_an_unknown_name_is_answered_with_the_known():
    cell = GRU(H)
    with pytest.raises(ValueError, match="GRU has no gate 'f'; its gates are r, z"):
        gates(cell, cell.init(KEY, D), jnp.ones((T, D)), names=["z", "f"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nameless(LSTM):
    """The LSTM with the names left out."""

    def gates(self, params, carry, u, v):
        i, f, g, o = (a + b for a, b in zip(u, v, strict=True))
        i, f, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jax.nn.sigmoid(o)
        c = f * carry.c + i * jnp.tanh(g)
        return LSTMCarry(c, o * jnp.tanh(c))


@pytest.mark.slow
def test_names_change_no_number():
    params = LSTM(H).init(KEY, D)
    xs = jax.random.normal(KEY, (T, 2, D))

    def run(cell):
        def loss(params):
            outputs = rnnjax.unroll(cell, params, xs)[1]
            return (outputs**2).sum(), outputs

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)

    assert gates(Nameless(H), params, xs) == {}
    for a, b in zip(*(jax.tree.leaves(run(cell)) for cell in (LSTM(H), Nameless(H))), strict=True):
        np.testing.assert_array_equal(a, b)


LENGTHS = np.array([[7, 0, 3], [1, 5, 7]])


@pytest.mark.parametrize("lengths", [None, LENGTHS, LENGTHS.tolist()])
def test_statistics_are_those_of_numpy(lengths):
    rng = np.random.default_rng(1)
    values = rng.beta(0.3, 0.3, size=(T, 2, 3, H)).astype(np.float32)
    values[0, 0, 0], values[0, 1, 1] = 0, 1  # the ends belong to the first and the last bin
    found = gate_statistics(jnp.asarray(values), seq_lengths=lengths, bins=8)
    valid = np.ones((T, 2, 3), bool)
    if lengths is not None:
        valid = np.arange(T)[:, None, None] < LENGTHS
    flat = values[valid].astype(np.float64)
    np.testing.assert_allclose(found.mean, flat.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.low, (flat < 0.1).mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.high, (flat > 0.9).mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.half_life, np.log(0.5) / np.log(flat.mean(0)), rtol=1e-5)
    counts, edges = np.histogram(flat, 8, (0, 1))
    assert counts.sum() == flat.size
    np.testing.assert_array_equal(found.counts, counts)
    np.testing.assert_array_equal(found.edges, edges)


def test_thresholds_and_half_lives_at_their_edges():
    values = jnp.array([[0.1, 0.9, 0.0, 1.0, 0.5], [0.09, 0.91, 0.0, 1.0, 0.5]])
    found = gate_statistics(values, bins=2)
    np.testing.assert_array_equal(found.low, [0.5, 0, 1, 0, 0])
    np.testing.assert_array_equal(found.high, [0, 0.5, 0, 1, 0])
    np.testing.assert_allclose(found.half_life[2:], [0, np.inf, 1], rtol=1e-6)
    np.testing.assert_array_equal(found.counts, [4, 6])
