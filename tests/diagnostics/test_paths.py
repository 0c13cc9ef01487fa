"""The carousel and the rest of the gradient against NumPy, enumerated paths and closed forms."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax import GRU, LSTM, Cell, Elman
from rnnjax.cells import ElmanCarry, GatedParams, GRUCarry, GRUParams, LSTMCarry
from rnnjax.diagnostics import gates, log_carousel_profile, log_gradient_profile_by_part

T, D, H = 7, 3, 5
LONG = 10_000
BATCHES = {"elman": (2, 3), "lstm": (2,), "gru": ()}
CELLS = {
    "elman": Elman(H, param_dtype=jnp.float64),
    "lstm": LSTM(H, param_dtype=jnp.float64),
    "gru": GRU(H, param_dtype=jnp.float64),
}
CARRIES = {"elman": ElmanCarry, "lstm": LSTMCarry, "gru": GRUCarry}


def logistic(x):
    return 1 / (1 + np.exp(-x))


def draw(name, batch, total=T, scale=0.7):
    """Parameters, inputs, a first carry and a cotangent, all in float64."""
    rng = np.random.default_rng(3)
    count = len(CELLS[name].gate_names)
    blocks = [scale * rng.normal(size=(*rows, count * H)) for rows in ((D,), (H,), ())]
    params = GatedParams(*blocks)
    if name == "gru":
        params = GRUParams(*blocks, recurrent_bias=rng.normal(size=H))
    carry, cotangent = (
        CARRIES[name](*rng.normal(size=(len(CARRIES[name]._fields), *batch, H))) for _ in range(2)
    )
    xs = rng.normal(size=(total, *batch, D))
    return jax.tree.map(jnp.asarray, (params, xs, carry, cotangent))


@functools.cache
def split(name):
    with jax.enable_x64(True):
        params, xs, carry, cotangent = draw(name, BATCHES[name])
        found = log_carousel_profile(CELLS[name], params, xs, cotangent, carry)
        return jax.tree.map(np.asarray, found)


def elman_matrices(params, x, state):
    h = np.tanh(x @ params.input_kernel + params.bias + state @ params.recurrent_kernel)
    return h, np.zeros((H, H)), np.diag(1 - h**2) @ params.recurrent_kernel.T


def lstm_matrices(params, x, state):
    c, h = np.split(state, 2)
    packed = x @ params.input_kernel + params.bias + h @ params.recurrent_kernel
    i, f, g, o = np.split(packed, 4)
    Ui, Uf, Ug, Uo = np.split(params.recurrent_kernel, 4, axis=1)
    i, f, g, o = logistic(i), logistic(f), np.tanh(g), logistic(o)
    new = f * c + i * g
    slope = np.diag(o * (1 - np.tanh(new) ** 2))
    c_by_c = np.diag(f)
    c_by_h = (
        np.diag(c * f * (1 - f)) @ Uf.T
        + np.diag(g * i * (1 - i)) @ Ui.T
        + np.diag(i * (1 - g**2)) @ Ug.T
    )
    h_by_h = slope @ c_by_h + np.diag(np.tanh(new) * o * (1 - o)) @ Uo.T
    nothing = np.zeros((H, H))
    around = np.block([[c_by_c, nothing], [slope @ c_by_c, nothing]])
    through = np.block([[nothing, c_by_h], [nothing, h_by_h]])
    return np.concatenate([new, o * np.tanh(new)]), around, through


def gru_matrices(params, x, h):
    u = np.split(x @ params.input_kernel + params.bias, 3)
    v = np.split(h @ params.recurrent_kernel, 3)
    Ur, Uz, Un = np.split(params.recurrent_kernel, 3, axis=1)
    r, z, inner = logistic(u[0] + v[0]), logistic(u[1] + v[1]), v[2] + params.recurrent_bias
    n = np.tanh(u[2] + r * inner)
    candidate = np.diag(r) @ Un.T + np.diag(inner * r * (1 - r)) @ Ur.T
    through = np.diag((1 - z) * (1 - n**2)) @ candidate + np.diag((h - n) * z * (1 - z)) @ Uz.T
    return (1 - z) * n + z * h, np.diag(z), through


MATRICES = {"elman": elman_matrices, "lstm": lstm_matrices, "gru": gru_matrices}


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_the_parts_are_sums_over_paths(name):
    """Each step goes around the kernel or through it: 2^k paths over k steps, one of them pure."""
    batch = BATCHES[name]
    with jax.enable_x64(True):
        params, xs, carry, cotangent = jax.tree.map(np.asarray, draw(name, batch))
    found = split(name)
    assert found.carousel.shape == found.rest.shape == found.joint.shape == (T, *batch)
    for index in np.ndindex(*batch):
        state = np.concatenate([leaf[index] for leaf in carry])
        steps = []
        for x in xs:
            state, around, through = MATRICES[name](params, x[index], state)
            steps.append((around.T, through.T))
        pure, mixed = np.concatenate([leaf[index] for leaf in cotangent]), []
        for t in reversed(range(T)):
            around, through = steps[t]
            mixed = [m @ v for v in mixed for m in (around, through)] + [through @ pure]
            pure = around @ pure
            assert len(mixed) == 2 ** (T - t) - 1
            rest, place = np.sum(mixed, axis=0), (t, *index)
            for got, want in zip(
                (found.carousel, found.rest, found.joint), (pure, rest, pure + rest), strict=True
            ):
                np.testing.assert_allclose(np.exp(got[place]), np.linalg.norm(want), rtol=1e-10)


@pytest.mark.slow
def test_the_carousel_of_an_lstm_is_the_product_of_its_forget_gates(x64):
    params, xs, carry, cotangent = draw("lstm", (2,))
    found = gates(CELLS["lstm"], params, xs, carry)
    c = []
    for b in range(2):
        state = np.concatenate([leaf[b] for leaf in carry])
        for x in np.asarray(xs[:, b]):
            state = lstm_matrices(params, x, state)[0]
        c.append(state[:H])
    e = cotangent.c + cotangent.h * found["o"][-1] * (1 - np.tanh(c) ** 2)
    for t in reversed(range(T)):
        e = found["f"][t] * e
        want = np.log(np.linalg.norm(e, axis=-1))
        np.testing.assert_allclose(split("lstm").carousel[t], want, rtol=1e-10)


@pytest.mark.slow
def test_the_carousel_of_a_gru_is_the_product_of_its_z(x64):
    params, xs, carry, cotangent = draw("gru", ())
    z = np.asarray(gates(CELLS["gru"], params, xs, carry)["z"])
    kept = np.cumprod(z[::-1], axis=0)[::-1] * cotangent.h
    want = np.log(np.linalg.norm(kept, axis=-1))
    np.testing.assert_allclose(split("gru").carousel, want, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_parts_of_the_carry_are_those_of_the_whole_gradient(name, x64):
    params, xs, carry, cotangent = draw(name, BATCHES[name])
    want = log_gradient_profile_by_part(CELLS[name], params, xs, cotangent, carry)
    found = split(name)
    assert isinstance(found.parts, CARRIES[name])
    for got, expected in zip(found.parts, want, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    squares = sum(np.exp(2 * part) for part in found.parts)
    np.testing.assert_allclose(np.log(squares) / 2, found.joint, rtol=1e-12)


def test_an_elman_network_has_no_carousel():
    found = split("elman")
    assert (found.carousel == -np.inf).all()
    np.testing.assert_allclose(found.rest, found.joint, rtol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-4), (jnp.float64, 1e-9)])
def test_an_lstm_with_zero_weights_is_nothing_but_a_carousel(dtype, tolerance, x64):
    cell, forget = LSTM(4, param_dtype=dtype), np.array([-3.0, 0.0, 1.0, 7.0])
    bias = np.concatenate([np.zeros(4), forget, np.zeros(8)])
    shapes = (np.zeros((1, 16)), np.zeros((4, 16)), bias)
    params = GatedParams(*(jnp.asarray(a, dtype) for a in shapes))
    cotangent = LSTMCarry(jnp.eye(4, dtype=dtype), jnp.zeros((4, 4), dtype))
    found = log_carousel_profile(cell, params, jnp.ones((LONG, 4, 1), dtype), cotangent)
    assert found.carousel.dtype == dtype and (found.rest == -np.inf).all()
    want = np.arange(LONG, 0, -1)[:, None] * -np.log1p(np.exp(-forget))
    np.testing.assert_allclose(found.carousel, want, rtol=tolerance)
    np.testing.assert_array_equal(found.joint, found.carousel)


@pytest.mark.slow
def test_float32_equals_float64_where_all_parts_underflow(x64):
    params, xs, carry, cotangent = draw("lstm", (2,), total=3000, scale=0.4)
    params = params._replace(bias=params.bias.at[H : 2 * H].add(1.5))
    arguments = params, xs, cotangent, carry
    wide = log_carousel_profile(CELLS["lstm"], *arguments)
    narrow = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), arguments)
    single = log_carousel_profile(LSTM(H), *narrow)
    for got, want in zip(*map(jax.tree.leaves, (single, wide)), strict=True):
        assert got.dtype == jnp.float32 and (want[0] < -300).all()
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_parts_that_cancel_outgrow_the_whole(x64):
    """One GRU unit held at 0 by its bias: J = z + (1 - z) r w, and E = z at every step.

    For w < 0 the parts cancel: at lag 1000 the whole is up to e^2000 times smaller than either.
    At the late steps z is 1 to the last digit, so that nothing leaves the carousel.
    """
    total, quiet, z, r = 2000, 1000, 0.9, logistic(4.0)
    xs = np.zeros((total, 2, 1))
    xs[total - quiet :] = 100
    weights = np.array([-8.0, -4.0, -0.5, 0.5, 1.2])
    cotangent = GRUCarry(jnp.array([[2.0], [0.0]], jnp.float32))

    @jax.jit
    @jax.vmap
    def profile(w):
        params = GRUParams(
            jnp.array([[0.0, 1.0, 0.0]], jnp.float32),
            jnp.zeros((1, 3), jnp.float32).at[0, 2].set(w),
            jnp.array([4.0, math.log(9), 0.0], jnp.float32),
            jnp.zeros(1, jnp.float32),
        )
        return log_carousel_profile(GRU(1), params, jnp.asarray(xs, jnp.float32), cotangent)

    found = profile(weights.astype(np.float32))
    assert found.rest.shape == (5, total, 2) and found.rest.dtype == jnp.float32
    lag = np.maximum(total - quiet - np.arange(total), 0)
    np.testing.assert_allclose(found.parts.h, found.joint, rtol=2e-5, atol=2e-5)
    for n, w in enumerate(weights):
        j = z + (1 - z) * r * w
        logs = lag * math.log(z), lag * math.log(j)
        with np.errstate(divide="ignore"):  # r_t = j^k - z^k
            rest = np.max(logs, axis=0) + np.log(-np.expm1(-np.abs(logs[1] - logs[0])))
        for part, want in zip(found[:3], (logs[0], rest, logs[1]), strict=True):
            want = want + math.log(2)
            np.testing.assert_allclose(part[n, :, 0], want, rtol=2e-5, atol=2e-5)
            assert (part[n, :, 1] == -np.inf).all()  # no gradient at all


@pytest.mark.slow
def test_padding_passes_everything_on_unchanged(x64):
    params, xs, carry, cotangent = draw("lstm", (2,))
    junk = jnp.concatenate([xs, jnp.full((3, 2, D), jnp.nan)])
    found = log_carousel_profile(
        CELLS["lstm"], params, junk, cotangent, carry, seq_lengths=jnp.array([T, 0])
    )
    for got, want in zip(*map(jax.tree.leaves, (found, split("lstm"))), strict=True):
        np.testing.assert_allclose(got[:T, 0], want[:, 0], rtol=1e-12)
    start = np.log(np.linalg.norm(np.concatenate(cotangent, axis=-1), axis=-1))
    for part in (found.carousel, found.joint):
        np.testing.assert_allclose(part[T:, 0], start[0], rtol=1e-12)
        np.testing.assert_allclose(part[:, 1], start[1], rtol=1e-12)
    assert (found.rest[T:, 0] == -np.inf).all() and (found.rest[:, 1] == -np.inf).all()


@dataclasses.dataclass(frozen=True)
class Leaky(Cell):
    """A user's cell that is not of the gated form."""

    def init(self, key, input_size):
        return jnp.ones((input_size, 2))

    def initial_carry(self, batch_shape):
        return jnp.zeros((*batch_shape, 2))

    def project(self, params, x):
        return x @ params

    def step(self, params, carry, u):
        return 0.5 * carry + u

    def output(self, carry):
        return carry


def test_wrong_arguments_are_named():
    with pytest.raises(TypeError, match=r"log_carousel_profile needs a gated cell.*got Leaky"):
        log_carousel_profile(Leaky(), jnp.ones((D, 2)), jnp.ones((T, D)), jnp.ones(2))
    params, xs, carry, cotangent = draw("lstm", (2,))
    with pytest.raises(ValueError, match=r"cotangent.h must have shape \(2, 5\), got \(5,\)"):
        wrong = cotangent._replace(h=jnp.ones(H))
        log_carousel_profile(LSTM(H), params, xs, wrong, carry)
