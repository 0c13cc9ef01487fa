"""`unroll`: what `check_cell` does not reach (shapes, streams, memory, transformations, errors)."""

import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rnnjax
from rnnjax import GRU, LSTM, Elman
from rnnjax.cells import LSTMCarry
from rnnjax.testing import python_loop

KEY = jax.random.key(0)
T, B, D, H = 7, 2, 3, 5
CELL = LSTM(H)
PARAMS = CELL.init(KEY, D)
XS = jax.random.normal(KEY, (T, B, D))


def random_carry(batch=(B,)):
    return LSTMCarry(*jax.random.normal(jax.random.key(3), (2, *batch, H)))


def close(got, want, tolerance=1e-5):
    assert oracles.relative_error(got, want) < tolerance


@pytest.mark.parametrize("batch", [(), (1,), (2, 3), (2, 1, 2)])
def test_any_leading_batch_dimensions(batch):
    xs = jax.random.normal(KEY, (T, *batch, D))
    lengths = jax.random.randint(KEY, batch, 0, T + 1)
    resets = jax.random.bernoulli(KEY, 0.3, (T, *batch))
    options = {"reverse": True, "truncate_every": 2, "return_carries": True}
    final, outputs, carries = rnnjax.unroll(
        CELL, PARAMS, xs, lengths=lengths, resets=resets, **options
    )
    assert outputs.shape == (T, *batch, H) == carries.c.shape
    for index in np.ndindex(*batch):
        one = (slice(None), *index)
        alone = rnnjax.unroll(
            CELL, PARAMS, xs[one], lengths=lengths[index], resets=resets[one], **options
        )
        close(final.h[index], alone[0].h)
        close(outputs[one], alone[1])
        close(carries.c[one], alone[2].c)


def test_a_stream_cut_into_calls_gives_what_one_call_gives():
    resets = jnp.zeros((T, B), bool).at[5, 0].set(True).at[2].set(True)
    start = random_carry()
    whole = rnnjax.unroll(CELL, PARAMS, XS, start, resets=resets)
    carry, pieces = start, []
    for cut in (slice(0, 1), slice(1, 4), slice(4, T)):
        carry, ys = rnnjax.unroll(CELL, PARAMS, XS[cut], carry, resets=resets[cut])
        pieces.append(ys)
    close((carry, jnp.concatenate(pieces)), whole, 1e-6)


@pytest.mark.parametrize("reverse", [False, True])
def test_packed_sequences_equal_separate_ones(reverse):
    lengths = [2, 1, 4]
    ends = np.cumsum(lengths)
    starts = ends - lengths
    resets = np.zeros((T, B), bool)
    resets[(ends - 1) if reverse else starts] = True
    _, packed = rnnjax.unroll(CELL, PARAMS, XS, resets=resets, reverse=reverse)
    apart = [
        rnnjax.unroll(CELL, PARAMS, XS[a:b], reverse=reverse)[1]
        for a, b in zip(starts, ends, strict=True)
    ]
    close(packed, jnp.concatenate(apart), 1e-6)


def test_resets_return_to_reset_carry_and_its_gradient_counts_them():
    resets = np.zeros((T, B), bool)
    resets[3] = True

    def total(reset_carry):
        _, ys = rnnjax.unroll(CELL, PARAMS, XS, resets=resets, reset_carry=reset_carry)
        return ys.sum()

    def tail(carry):
        return rnnjax.unroll(CELL, PARAMS, XS[3:], carry)[1].sum()

    start = random_carry()
    close(jax.grad(total)(start), jax.grad(tail)(start))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, T), min_size=B, max_size=B), st.booleans())
def test_lengths_equal_shorter_sequences(lengths, reverse):
    start = random_carry()
    final, outputs = rnnjax.unroll(
        CELL, PARAMS, XS, start, lengths=jnp.array(lengths), reverse=reverse
    )
    for b, n in enumerate(lengths):
        alone = jax.tree.map(lambda c, b=b: c[b], start)
        ys = np.zeros((0, H))
        if n:
            alone, ys, _ = python_loop(
                CELL,
                PARAMS,
                XS[:n, b : b + 1],
                jax.tree.map(lambda c: c[None], alone),
                reverse=reverse,
            )
            alone, ys = jax.tree.map(lambda c: c[0], alone), ys[:, 0]
        close(jax.tree.map(lambda c, b=b: c[b], final), alone)
        np.testing.assert_allclose(outputs[:n, b], ys, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(outputs[n:, b], 0)


def test_truncation_does_not_depend_on_padding():
    def gradient(xs, lengths):
        def loss(params):
            options = {"lengths": lengths, "reverse": True, "truncate_every": 3}
            return (rnnjax.unroll(CELL, params, xs, **options)[1] ** 2).sum()

        return jax.grad(loss)(PARAMS)

    padded = jnp.concatenate([XS, jnp.ones((4, B, D))])
    close(gradient(padded, jnp.full(B, T)), gradient(XS, jnp.full(B, T)), 1e-6)


def test_no_steps_and_no_examples():
    start = random_carry()
    final, outputs = rnnjax.unroll(CELL, PARAMS, XS[:0], start)
    np.testing.assert_array_equal(final.c, start.c)
    assert outputs.shape == (0, B, H)
    final, outputs, carries = rnnjax.unroll(
        CELL, PARAMS, XS[:0], start, checkpoint_every="sqrt", reverse=True, return_carries=True
    )
    assert outputs.shape == (0, B, H) == carries.h.shape
    assert rnnjax.unroll(CELL, PARAMS, XS[:, :0])[1].shape == (T, 0, H)
    assert rnnjax.unroll(CELL, PARAMS, XS[:, :0], lengths=jnp.zeros(0, int))[1].shape == (T, 0, H)


def tape_bytes(total, **options):
    """Return the temporary memory of the gradient of a loss of the final carry alone."""
    cell = Elman(128)

    def loss(params, xs):
        final, _ = rnnjax.unroll(cell, params, xs, **options)
        return final.h.sum()

    params = jax.eval_shape(lambda: cell.init(KEY, 1))
    xs = jax.ShapeDtypeStruct((total, 4, 1), jnp.float32)
    return jax.jit(jax.grad(loss)).lower(params, xs).compile().memory_analysis().temp_size_in_bytes


def test_checkpointing_makes_the_tape_grow_as_the_square_root():
    short, long = (tape_bytes(n, checkpoint_every="sqrt") for n in (1024, 16 * 1024))
    assert 2.5 < long / short < 6  # sqrt(16) = 4
    short, long_plain = (tape_bytes(n) for n in (1024, 16 * 1024))
    assert 12 < long_plain / short < 20
    assert long < 0.05 * long_plain


def test_truncation_keeps_values_and_cuts_gradients():
    def last_output(start, **options):
        return rnnjax.unroll(CELL, PARAMS, XS, start, **options)[1][-1].sum()

    start = random_carry()
    assert last_output(start, truncate_every=3) == last_output(start)
    cut = jax.grad(functools.partial(last_output, truncate_every=3))(start)
    assert all((leaf == 0).all() for leaf in cut)
    whole = jax.grad(functools.partial(last_output, truncate_every=T))(start)
    close(whole, jax.grad(last_output)(start))


def test_a_second_call_does_not_compile_again():
    traces = []

    class Counting(Elman):
        __hash__ = Elman.__hash__

        def step(self, params, carry, u):
            traces.append(1)
            return Elman.step(self, params, carry, u)

    params = Elman(H).init(KEY, D)
    rnnjax.unroll(Counting(H), params, XS)
    first = len(traces)
    rnnjax.unroll(Counting(H), params, XS + 1)
    assert first > 0 and len(traces) == first
    rnnjax.unroll(Counting(H), params, XS, reverse=True)
    assert len(traces) > first


@pytest.mark.parametrize("cell", [Elman(H), LSTM(H), GRU(H)], ids=["elman", "lstm", "gru"])
def test_second_derivatives_and_forward_mode(cell, x64):
    params = jax.tree.map(lambda p: p.astype(jnp.float64), cell.init(KEY, 1))
    xs = jax.random.normal(KEY, (4, 1), jnp.float64)
    flat, unflatten = jax.flatten_util.ravel_pytree(params)
    some = flat[:6]

    def loss(some):
        params = unflatten(flat.at[:6].set(some))
        return (rnnjax.unroll(cell, params, xs, checkpoint_every=2)[1] ** 2).sum()

    gradient = jax.jit(jax.grad(loss))
    hessian = jax.jit(jax.hessian(loss))(some)  # forward over reverse
    for i, direction in enumerate(np.eye(6) * 1e-5):
        difference = (gradient(some + direction) - gradient(some - direction)) / 2e-5
        np.testing.assert_allclose(hessian[i], difference, rtol=1e-6, atol=1e-8)


def test_vmap_over_parameters_equals_a_loop():
    keys = jax.random.split(KEY, 3)
    many = jax.vmap(lambda k: CELL.init(k, D))(keys)
    together = jax.vmap(lambda p: rnnjax.unroll(CELL, p, XS, lengths=jnp.array([3, 7]))[1])(many)
    for i, key in enumerate(keys):
        one = rnnjax.unroll(CELL, CELL.init(key, D), XS, lengths=jnp.array([3, 7]))[1]
        close(together[i], one)


def test_the_carry_takes_the_type_of_the_computation(x64):
    params = jax.tree.map(lambda p: p.astype(jnp.float64), PARAMS)
    final, outputs = rnnjax.unroll(CELL, params, XS)
    assert final.c.dtype == outputs.dtype == jnp.float64
    final, outputs = rnnjax.unroll(CELL, PARAMS, XS.astype(jnp.bfloat16))
    assert final.c.dtype == outputs.dtype == jnp.float32


def test_lists_and_numpy_arrays_will_do():
    lengths = [3, 7]
    got = rnnjax.unroll(CELL, PARAMS, np.asarray(XS), lengths=lengths)
    close(got, rnnjax.unroll(CELL, PARAMS, XS, lengths=jnp.array(lengths)), 1e-7)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"xs": XS[0, 0]}, ValueError, r"xs must have shape \[T, \*batch, D\]"),
        ({"lengths": [3, 8]}, ValueError, r"lengths must lie in 0..T = 0..7, got 3..8"),
        ({"lengths": [-1, 3]}, ValueError, r"lengths must lie in 0..T = 0..7, got -1..3"),
        ({"lengths": [3]}, ValueError, r"lengths must have the batch shape \(2,\), got \(1,\)"),
        ({"lengths": [3.0, 4.0]}, TypeError, "lengths must be integers, got float32"),
        ({"resets": jnp.zeros((T,), bool)}, ValueError, r"resets must have shape \(7, 2\), got"),
        ({"resets": jnp.zeros((T, B))}, TypeError, "resets must be booleans, got float32"),
        ({"reset_carry": random_carry()}, ValueError, "reset_carry was given without resets"),
        (
            {"carry": random_carry((3,))},
            ValueError,
            r"carry.c must have shape \(2, 5\), got \(3, 5\)",
        ),
        ({"carry": jnp.zeros((B, H))}, ValueError, "carry must have the structure"),
        ({"unroll": 0}, ValueError, "unroll must be a positive integer, got 0"),
        ({"checkpoint_every": -2}, ValueError, "checkpoint_every must be a positive integer"),
        ({"truncate_every": 0}, ValueError, "truncate_every must be a positive integer, got 0"),
    ],
)
def test_wrong_arguments_are_named(options, error, message):
    arguments = {"xs": XS} | options
    with pytest.raises(error, match=message):
        rnnjax.unroll(CELL, PARAMS, arguments.pop("xs"), **arguments)


def test_a_dimension_that_does_not_fit_the_parameters_is_an_error():
    with pytest.raises(ValueError, match=r"inputs must have 3 features.* got shape \(2, 2\)"):
        rnnjax.unroll(CELL, PARAMS, XS[..., :2])
