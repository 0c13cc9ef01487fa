"""The sLSTM: the unstabilised equations in NumPy, the running mean, and what the stabiliser does.

The packages `xlstm` and `flashrnn` (vanilla path) have the same equations, in PyTorch.
"""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from paths import problem, unrolled, uses_fast_path, without_fast_path
from slow import slow_but_for

import rnnjax
from rnnjax import LSTM, diagnostics
from rnnjax.cells import SLSTM, SLSTMCarry
from rnnjax.cells.initializers import Chrono, Orthogonal
from rnnjax.testing import check_cell

T, B, D, H, N = 7, 2, 3, 6, 2
KEY = jax.random.key(0)
GATES = "sigmoid", "exponential"


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(cell, params, xs, carry):
    """Equations 8-14 of the paper, without a stabiliser, one head at a time: h at every step."""
    w, u, b = (np.asarray(leaf) for leaf in params)
    scale = np.exp(np.asarray(carry.m))
    c, n, h = np.asarray(carry.c) * scale, np.asarray(carry.n) * scale, np.asarray(carry.h)
    size, outputs = H // N, []
    for x in xs:
        recurrent = np.zeros((B, 4, N, size))
        for head in range(N):
            part = h[:, head * size : (head + 1) * size]
            for gate in range(4):
                block = u[head][:, gate * size : (gate + 1) * size]
                recurrent[:, gate, head] = part @ block
        net = (x @ w + b).reshape(B, 4, H) + recurrent.reshape(B, 4, H)
        i, z, o = np.exp(net[:, 0]), np.tanh(net[:, 2]), sigmoid(net[:, 3])
        f = sigmoid(net[:, 1]) if cell.forget_gate == "sigmoid" else np.exp(net[:, 1])
        c, n = f * c + i * z, f * n + i
        h = o * c / n
        outputs.append(h)
    return (c, n, h), np.stack(outputs)


def drawn(cell, m=0.4):
    """Parameters with noise on every entry, inputs, and a carry with a positive normaliser."""
    params, xs, carry = problem(cell)
    return params, xs, carry._replace(n=1 + carry.n, m=m + carry.m)


def constant_gates(cell):
    """Parameters with i~ = f~ = 0: only z~ and o~ see the inputs."""
    params = cell.init(KEY, D)
    seen = jnp.repeat(jnp.array([0.0, 0.0, 1.0, 1.0]), H)
    zeros = jnp.zeros_like(params.recurrent_kernel)
    return params._replace(input_kernel=params.input_kernel * seen, recurrent_kernel=zeros)


@pytest.mark.parametrize("forget_gate", slow_but_for("sigmoid", GATES))
def test_values_are_those_of_the_papers_equations(forget_gate, x64):
    cell = SLSTM(H, num_heads=N, forget_gate=forget_gate, param_dtype=jnp.float64)
    params, xs, carry = drawn(cell)
    final, ys = rnnjax.unroll(cell, params, xs, carry)
    (c, n, h), outputs = by_hand(cell, params, np.asarray(xs), carry)
    np.testing.assert_allclose(ys, outputs, rtol=1e-11)
    np.testing.assert_allclose(final.h, h, rtol=1e-11)
    np.testing.assert_allclose(np.exp(final.m) * final.c, c, rtol=1e-11)
    np.testing.assert_allclose(np.exp(final.m) * final.n, n, rtol=1e-11)


@pytest.mark.slow
def test_with_gates_of_one_it_is_the_running_mean(x64):
    cell = SLSTM(H, forget_gate="exponential", forget_bias=0.0, param_dtype=jnp.float64)
    params = constant_gates(cell)
    xs = jax.random.normal(KEY, (T, B, D))
    z = np.tanh(np.asarray(xs @ params.input_kernel[:, 2 * H : 3 * H]))
    *_, carries = rnnjax.unroll(cell, params, xs, return_carries=True)
    mean = np.cumsum(z, axis=0) / np.arange(1, T + 1)[:, None, None]
    np.testing.assert_allclose(carries.c / carries.n, mean, rtol=1e-12, atol=1e-14)

    def last_mean(bias):  # of z~, one for each step
        shifted = xs @ params.input_kernel + jnp.zeros((T, 1, 4 * H)).at[..., 2 * H : 3 * H].set(
            bias
        )
        carry = cell.initial_carry((B,))
        nothing = cell.recur(params, carry, None)
        for u in shifted:
            carry = cell.gates(None, carry, tuple(jnp.split(u, 4, axis=-1)), nothing)
        return (carry.c / carry.n).sum()

    slopes = jax.jit(jax.grad(last_mean))(jnp.zeros((T, 1, H)))
    np.testing.assert_allclose(slopes[:, 0], (1 - z**2).sum(1) / T, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("forget_gate", slow_but_for("sigmoid", GATES))
def test_the_gradient_is_the_share_of_the_past(forget_gate, x64):
    cell = SLSTM(H, forget_gate=forget_gate, param_dtype=jnp.float64)
    params, xs, carry = drawn(cell)
    u, v = cell.project(params, xs[0]), cell.recur(params, carry, None)

    def mean(before):
        after = cell.gates(None, carry._replace(c=before * carry.n), u, v)
        return (after.c / after.n).sum()

    i, f = np.exp(u[0] + v[0]), u[1] + v[1]
    past = (sigmoid(f) if forget_gate == "sigmoid" else np.exp(f)) * np.exp(carry.m) * carry.n
    share = jax.jit(jax.grad(mean))(carry.c / carry.n)
    np.testing.assert_allclose(share, past / (past + i), rtol=1e-12)


@pytest.mark.slow
def test_h_does_not_depend_on_the_stabiliser(x64):
    """Not from nothing, whatever m_0, and not if c and n make up for it; nor do gradients."""
    cell = SLSTM(H, num_heads=N, param_dtype=jnp.float64)
    params, xs, carry = drawn(cell)

    @jax.jit
    def run(carry):
        def loss(params):
            outputs = rnnjax.unroll(cell, params, xs, carry)[1]
            return (outputs**2).sum(), outputs

        return jax.grad(loss, has_aux=True)(params)

    for d in (-30.0, 5.0):
        same = carry._replace(c=carry.c * np.exp(-d), n=carry.n * np.exp(-d), m=carry.m + d)
        assert oracles.relative_error(run(same), run(carry)) < 1e-12
    start = cell.initial_carry((B,))._replace(h=carry.h)
    for m in (-800.0, 3.0, 800.0):
        other = run(start._replace(m=jnp.full((B, H), m)))
        assert oracles.relative_error(other, run(start)) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("forget_gate", slow_but_for("exponential", GATES))
def test_extreme_gates_in_float32_give_finite_values_and_gradients(forget_gate):
    """From the initial carry, with n = 0, and gates of e^+-300, which float32 cannot hold."""
    cell = SLSTM(H, forget_gate=forget_gate)
    params = cell.init(KEY, D)
    bias = jnp.array([-300.0, -300.0, 0, 300, 300, 0]), jnp.array([300.0, -300, 300, 0, -300, 0])
    params = params._replace(bias=params.bias.at[: 2 * H].set(jnp.concatenate(bias)))

    @jax.jit
    def run(params, xs, carry):
        def loss(*given):
            final, outputs = rnnjax.unroll(cell, *given)
            return (outputs**2).sum() + (final.c / final.n).sum(), (final, outputs)

        return jax.grad(loss, (0, 1, 2), has_aux=True)(params, xs, carry)

    found = run(params, jax.random.normal(KEY, (T, B, D)), cell.initial_carry((B,)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    (final, outputs) = found[1]
    assert (np.abs(outputs) < 1).all() and (final.n >= 1).all() and outputs[0].all()


@pytest.mark.slow
def test_the_fast_backward_equals_the_plain_one(x64):
    cell = SLSTM(H, num_heads=N, param_dtype=jnp.float64)
    given = drawn(cell)
    assert uses_fast_path(cell, *given)
    plain = unrolled(without_fast_path(cell))(*given)
    assert oracles.relative_error(unrolled(cell)(*given), plain) < 1e-12


@pytest.mark.slow
def test_init_draws_what_the_docstring_says():
    cell = SLSTM(H, num_heads=N, recurrent_kernel_init=Orthogonal(2.0), forget_bias=3.0)
    params = cell.init(KEY, D)
    assert [leaf.shape for leaf in params] == [(D, 4 * H), (N, 3, 12), (4 * H,)]
    np.testing.assert_array_equal(params.bias, np.repeat([0.0, 3.0, 0.0, 0.0], H))
    blocks = [block for head in params.recurrent_kernel for block in np.split(head, 4, axis=-1)]
    for block in blocks:
        np.testing.assert_allclose(block @ block.T, 4 * np.eye(3), atol=1e-5)
    assert len({block.tobytes() for block in map(np.asarray, blocks)}) == 4 * N
    i, f, *_ = np.split(SLSTM(H, forget_bias=Chrono(9.0)).init(KEY, D).bias, 4)
    np.testing.assert_array_equal(i, -f)
    assert cell.without_initialisers() == SLSTM(H, num_heads=N)
    assert not any(leaf.any() for leaf in cell.initial_carry(()))


@pytest.mark.slow
def test_gates_are_found_by_name():
    cell = SLSTM(H, forget_gate="exponential", forget_bias=0.0)
    found = diagnostics.gates(cell, constant_gates(cell), jnp.zeros((T, B, D)))
    assert set(found) == {"i", "f", "o"}
    np.testing.assert_allclose(found["o"], 0.5)
    np.testing.assert_allclose(found["f"], 1.0)


def test_what_does_not_fit_is_refused(without_type_checks):
    with pytest.raises(ValueError, match="features must be a multiple of num_heads = 4, got 6"):
        SLSTM(6, num_heads=4)
    with pytest.raises(ValueError, match="num_heads must be a positive integer, got 0"):
        SLSTM(6, num_heads=0)
    wrong = "forget_gate must be 'sigmoid' or 'exponential', got 'tanh'"
    with pytest.raises(ValueError, match=wrong):
        SLSTM(6, forget_gate="tanh")  # pyright: ignore
    with pytest.raises(ValueError, match="bias_init must be one initialiser or 4"):
        SLSTM(6, bias_init=(Orthogonal(),) * 3)


@pytest.mark.slow
def test_its_parameters_and_carry_are_those_of_an_lstm_and_two_more():
    assert [leaf.shape for leaf in SLSTM(H).init(KEY, D)] == [(D, 24), (1, H, 24), (24,)]
    assert SLSTMCarry._fields == ("c", "n", "m", "h")
    assert SLSTM(H).output_size == LSTM(H).output_size


@pytest.mark.slow
@pytest.mark.parametrize("forget_gate", GATES)
def test_it_passes_check_cell(forget_gate):
    check_cell(SLSTM(4, num_heads=2, forget_gate=forget_gate), D)
