"""The mLSTM: the paper's stabilised recurrence in NumPy, closed forms, and its arguments.

`tests/recurrence/test_parallel.py` runs `check_cell`, and compares the scan over time with steps.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_problems import B, D, T, problem
from slow import slow_but_for

import rnnjax
from rnnjax import diagnostics
from rnnjax.cells import MLSTM, MLSTMCarry, MLSTMParams
from rnnjax.cells.initializers import Linspace
from rnnjax.testing import check_cell

H, N, KEYS = 6, 2, 2
CELL = MLSTM(H, num_heads=N, key_size=KEYS)
KEY = jax.random.key(0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def stabilised(params, xs, carry, cap, m):
    """Outputs, and the largest stabilised state, of the paper's recurrence for one example.

    C, n and m as in equations 19-27 and in its appendix on stabilisation, head by head, from a
    state that was divided by exp(m).
    """
    kernel, bias, gate_kernel, gate_bias = (np.asarray(p, float) for p in params)
    C, n = np.asarray(carry.C) * np.exp(-m), np.asarray(carry.n) * np.exp(-m)
    m, outputs, largest = np.full(N, m), [], 0.0
    for x in np.asarray(xs, float):
        q, k, v, o = np.split(x @ kernel + bias, np.cumsum([N * KEYS, N * KEYS, H]))
        log_i, f = np.split(x @ gate_kernel + gate_bias, 2)
        log_i = log_i if cap is None else cap * np.tanh(log_i / cap)
        log_f = -np.logaddexp(0, -f)
        parts = []
        for head in range(N):
            of_head = slice(head * KEYS, (head + 1) * KEYS)
            key, query = k[of_head] / np.sqrt(KEYS), q[of_head]
            value = v[head * H // N : (head + 1) * H // N]
            after = max(log_f[head] + m[head], log_i[head])
            i, keep = np.exp(log_i[head] - after), np.exp(log_f[head] + m[head] - after)
            m[head] = after
            C[head] = keep * C[head] + i * np.outer(key, value)
            n[head] = keep * n[head] + i * key
            parts.append(query @ C[head] / max(abs(n[head] @ query), np.exp(-after)))
        outputs.append(sigmoid(o) * np.concatenate(parts))
        largest = max(largest, np.abs(C).max())
    return np.stack(outputs), largest


@pytest.mark.parametrize("cap", slow_but_for("paper", {"paper": 15.0, "low": 2.0, "no cap": None}))
def test_outputs_are_those_of_the_papers_stabilised_recurrence(cap, x64):
    """Pre-activations of up to ten: m jumps, and the capped ones are bent; any m_0 is the same."""
    cell, params, xs, carry = problem(MLSTM(H, num_heads=N, key_size=KEYS, soft_cap=cap))
    params = params._replace(gate_kernel=5 * params.gate_kernel)
    for run in (rnnjax.unroll, rnnjax.unroll_parallel):
        ys = run(cell, params, xs, carry)[1]
        for b, m in ((0, 0.0), (0, 2.0), (1, -1.0)):
            one = jax.tree.map(lambda s, b=b: s[b], carry)
            want, _ = stabilised(params, xs[:, b], one, cap, m)
            np.testing.assert_allclose(ys[:, b], want, rtol=1e-11)


@pytest.mark.slow
def test_with_the_cap_nothing_overflows_in_float32():
    """f near one and i = e^15 for 100 steps, the largest state that there is."""
    params = MLSTM(H, num_heads=N, key_size=KEYS, forget_bias=20.0, input_bias=1e6).init(KEY, D)
    xs = jax.random.normal(KEY, (100, D))
    final, ys = rnnjax.unroll_parallel(CELL, params, xs)
    want, largest = stabilised(params, xs, CELL.initial_carry(()), 15.0, 0.0)
    np.testing.assert_allclose(ys, want, rtol=1e-3, atol=1e-3)
    assert 1e7 < np.abs(final.C).max() < 1e12 and largest < 1e4
    bare = MLSTM(H, num_heads=N, key_size=KEYS, soft_cap=None)
    assert not np.isfinite(rnnjax.unroll_parallel(bare, params, xs)[1]).any()


@pytest.mark.slow
def test_the_gradient_decays_by_the_forget_gate_of_the_head(x64):
    """All entries of C and n at one rate, that of the head which is read; q and o at once."""
    cell, params, xs, carry = problem(CELL)
    bias = jnp.array([5.0, 5.0, 0.3, -0.4])  # so large an i that the denominator is |n . q|
    params = params._replace(gate_kernel=0 * params.gate_kernel, gate_bias=bias)

    def first_head(ys):
        return ys[-1, :, : H // N].sum()

    parts = diagnostics.gradient_profile(cell, params, xs, first_head, carry).parts
    want = np.broadcast_to(np.arange(T)[:, None] * np.log(sigmoid(0.3)), (T, B))
    for part in (parts.C, parts.n):
        np.testing.assert_allclose(part - part[0], want, rtol=1e-9, atol=1e-12)
    assert (parts.q == -np.inf).all() and (parts.o == -np.inf).all()


@pytest.mark.slow
def test_init_draws_what_the_docstring_says():
    cell = MLSTM(600, num_heads=3, key_size=100, input_bias=-10.0)
    params = cell.init(KEY, D)
    shapes = [leaf.shape for leaf in params]
    assert shapes == [(D, 2 * 300 + 2 * 600), (1800,), (D, 6), (6,)]
    np.testing.assert_allclose(params.kernel.std(), 1 / np.sqrt(D), rtol=0.05)
    assert not params.gate_kernel.any() and not params.bias.any()
    np.testing.assert_allclose(params.gate_bias, [-10, -10, -10, 3, 4.5, 6])
    assert cell.output_size == 600
    assert cell.without_initialisers() == MLSTM(600, num_heads=3, key_size=100)
    assert MLSTM(6, num_heads=3).initial_carry((2,)).C.shape == (2, 3, 2, 2)
    numbers = Linspace(0, 1)(KEY, (2, 3))
    np.testing.assert_allclose(numbers, [[0, 0.5, 1]] * 2)
    assert isinstance(params, MLSTMParams)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 4}, "features must be a multiple of num_heads = 4, got 6"),
        ({"key_size": 0}, "key_size must be a positive integer, got 0"),
        ({"soft_cap": 0.0}, "soft_cap must be positive or None, got 0.0"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        MLSTM(H, **options)


@pytest.mark.slow
def test_query_and_output_gate_are_redundant_states(x64):
    cell, params, xs, carry = problem(CELL)
    with pytest.warns(RuntimeWarning, match="10 of 26 exponents are -inf"):
        found = diagnostics.lyapunov_spectrum(cell, params, xs, initial_carry=carry).exponents
    assert (found[:, 16:] == -np.inf).all() and np.isfinite(found[:, :16]).all()
    log_f = np.log(diagnostics.gates(cell, params, xs, carry, names=["f"])["f"]).mean(0)
    want = -np.sort(-np.repeat(log_f, KEYS * H // N + KEYS, axis=-1), axis=-1)
    np.testing.assert_allclose(found[:, :16], want, rtol=1e-10)
    assert isinstance(carry, MLSTMCarry)


@pytest.mark.slow
def test_it_passes_check_cell_without_a_cap():
    check_cell(MLSTM(4, num_heads=2, soft_cap=None), D)
