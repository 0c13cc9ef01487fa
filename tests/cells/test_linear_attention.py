"""Linear attention: as a sum over the past in NumPy, closed forms, and its arguments.

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
from rnnjax.cells import LinearAttention
from rnnjax.testing import check_cell

H, N, KEYS = 6, 2, 2
DECAYS = "fixed", "vector", "scalar"
KEY = jax.random.key(0)


def by_head(a):
    return a.reshape(*a.shape[:-1], N, -1)


def parts(params, xs, decay):
    """q, k, v `[T, B, N, ...]`, decays `[T, B, N, KEYS]` and writing strengths, in NumPy."""
    kernel, weights, bias, A_log = (None if p is None else np.asarray(p) for p in params)
    q, k, v = map(by_head, np.split(xs @ kernel, [N * KEYS, 2 * N * KEYS], axis=-1))
    strength = np.ones((*xs.shape[:-1], N, 1))
    if decay == "fixed":
        a = np.array([31 / 32, 63 / 64])[:, None]  # 1 - 2^-5, 1 - 2^-6
    elif decay == "vector":
        a = by_head((1 / (1 + np.exp(-xs @ weights - bias))) ** (1 / 16))
    else:
        strength = np.log1p(np.exp(xs @ weights + bias))[..., None]
        a = np.exp(-strength * np.exp(A_log)[:, None])
    return q, k / np.sqrt(KEYS), v, np.broadcast_to(a, q.shape), strength


@pytest.mark.parametrize("decay", slow_but_for("scalar", DECAYS))
def test_outputs_are_attention_without_a_softmax(decay, x64):
    """y_T = sum over t <= T of (q_T . prod a k_t) v_t, no recurrence, and what S_0 adds."""
    cell, params, xs, carry = problem(LinearAttention(H, num_heads=N, key_size=KEYS, decay=decay))
    q, k, v, a, strength = parts(params, np.asarray(xs), decay)
    want = np.zeros((T, B, N, H // N))
    for last in range(T):
        old = q[last] * a[: last + 1].prod(0)
        want[last] = np.einsum("bnk,bnkv->bnv", old, np.asarray(carry.S))
        for t in range(last + 1):
            score = (q[last] * a[t + 1 : last + 1].prod(0) * k[t]).sum(-1, keepdims=True)
            want[last] += strength[t] * score * v[t]
    for run in (rnnjax.unroll, rnnjax.unroll_parallel):
        final, ys = run(cell, params, xs, carry)
        np.testing.assert_allclose(ys, want.reshape(T, B, H), rtol=1e-11)
        np.testing.assert_allclose(final.q, q[-1], rtol=1e-12)


@pytest.mark.slow
def test_fixed_decays_are_the_gradients_of_their_heads_whatever_the_inputs(x64):
    cell, params, xs, carry = problem(LinearAttention(H, num_heads=N, key_size=KEYS))
    for head in range(N):

        def loss(ys, head=head):
            return by_head(ys[-1])[:, head].sum()

        found = diagnostics.gradient_profile(cell, params, xs, loss, carry)
        want = np.arange(T)[:, None] * np.log(1 - 2.0 ** (-5 - head))
        slopes = found.parts.S - found.parts.S[0]
        np.testing.assert_allclose(slopes, np.broadcast_to(want, (T, B)), atol=1e-12)
        assert (found.parts.q == -np.inf).all()


@pytest.mark.slow
def test_orthogonal_keys_do_not_disturb_each_other(x64):
    """Three values written at unit vectors, and read back in another order, times the decay."""
    cell = LinearAttention(2, key_size=3, param_dtype=jnp.float64)
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 2))
    xs = np.zeros((6, 8))  # q, k, v themselves
    order = [2, 0, 1]
    xs[3:, :3], xs[:3, 3:6], xs[:, 6:] = np.eye(3)[order], np.sqrt(3) * np.eye(3), values
    params = cell.init(KEY, 8)._replace(kernel=jnp.eye(8))
    ys = rnnjax.unroll(cell, params, jnp.asarray(xs))[1]
    age = np.arange(3, 6) - order
    want = values[order] * ((31 / 32) ** age)[:, None]
    np.testing.assert_allclose(ys[3:], want, rtol=1e-12)


@pytest.mark.slow
def test_init_draws_what_the_docstring_says():
    params = LinearAttention(300, num_heads=100, key_size=2, decay="scalar").init(KEY, D)
    assert params.kernel.shape == (D, 2 * 200 + 300)
    np.testing.assert_allclose(params.kernel.std(), 1 / np.sqrt(D), rtol=0.05)
    step = np.log1p(np.exp(np.asarray(params.decay_bias)))
    assert 0.001 - 1e-6 < step.min() < 0.002 and 0.08 < step.max() < 0.1 + 1e-6
    np.testing.assert_allclose(np.log(step).mean(), np.log(0.01), atol=0.3)
    rate = np.exp(np.asarray(params.A_log))
    assert 1 <= rate.min() < 2 and 15 < rate.max() <= 16 + 1e-5
    drawn = {
        decay: jax.eval_shape(lambda d=decay: LinearAttention(4, num_heads=2, decay=d).init(KEY, D))
        for decay in ("vector", "fixed")
    }
    shapes = [leaf.shape for leaf in jax.tree.leaves(drawn["vector"])]
    assert shapes == [(D, 12), (D, 4), (4,)] and len(jax.tree.leaves(drawn["fixed"])) == 1
    assert LinearAttention(4, num_heads=2, key_size=5).output_size == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 4}, "features must be a multiple of num_heads = 4, got 6"),
        ({"key_size": 0}, "key_size must be a positive integer, got 0"),
        ({"decay": "no"}, "decay must be one of 'fixed', 'vector', 'scalar', got 'no'"),
    ],
)
def test_wrong_arguments(options, message, without_type_checks):
    with pytest.raises(ValueError, match=message):
        LinearAttention(H, **options)


@pytest.mark.slow
@pytest.mark.parametrize("decay", ["vector", "scalar"])
def test_its_decays_are_found(decay, x64):
    cell, params, xs, carry = problem(LinearAttention(H, num_heads=N, key_size=KEYS, decay=decay))
    found = diagnostics.gates(cell, params, xs, carry)["a"]
    want = parts(params, np.asarray(xs), decay)[3]
    want = want if decay == "vector" else want[..., 0]
    np.testing.assert_allclose(found, want, rtol=1e-12)


@pytest.mark.slow
def test_it_passes_check_cell():
    check_cell(LinearAttention(4, num_heads=2, key_size=3, decay="scalar"), D)
