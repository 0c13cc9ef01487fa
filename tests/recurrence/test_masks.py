"""Masked steps are left out: the others give what they would give alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import Leaky, weighted_sum
from oracles import relative_error

import rnnjax
from rnnjax import GRU, LSTM
from rnnjax.cells import Zoneout
from rnnjax.testing.problems import wide

D, H, T, B = 3, 5, 7, 2
CELLS = {"lstm": LSTM(H), "zoneout": Zoneout(GRU(H), 0.2), "leaky": Leaky(H)}
MASK = np.array([[0, 1, 1, 0, 0, 1, 1], [1, 0, 1, 1, 1, 0, 1]], bool).T
OPTIONS = {
    "truncate_every": {"truncate_every": 2},
    "checkpoint_every=1": {"checkpoint_every": 1},
    "checkpoint_every=3": {"checkpoint_every": 3, "truncate_every": 3},
}
CELL = LSTM(H)
PARAMS = CELL.init(jax.random.key(0), D)
XS = jax.random.normal(jax.random.key(1), (T, B, D))


def with_gradients(run, *arguments):
    """Return what `run` returns, and the gradient of a sum over it, floating leaves only."""

    def loss(arguments):
        values = run(*arguments)
        return weighted_sum(values), values

    gradients, values = jax.grad(loss, has_aux=True, allow_int=True)(arguments)
    floats = [g for g in jax.tree.leaves(gradients) if g.dtype != jax.dtypes.float0]
    return values, floats


@pytest.mark.slow
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("lstm", "truncate_every"),
        pytest.param("lstm", "checkpoint_every=1", marks=pytest.mark.slow),
        pytest.param("zoneout", "checkpoint_every=3", marks=pytest.mark.slow),
        pytest.param("leaky", "checkpoint_every=3", marks=pytest.mark.slow),
    ],
)
def test_unmasked_steps_give_what_they_give_alone(name, option, reverse, x64):
    cell, params, xs, carry = wide(CELLS[name], D, jax.random.key(1))
    options = OPTIONS[option] | {"reverse": reverse, "return_carries": True}

    def masked(params, xs, carry):
        final, *rest = rnnjax.unroll(cell, params, xs, carry, mask=MASK, **options)
        at_end = [jax.tree.map(lambda a, b=b: a[b], final) for b in range(B)]
        taken = [jax.tree.map(lambda a, b=b, m=m: a[m, b], rest) for b, m in enumerate(MASK.T)]
        return at_end, taken

    def alone(params, xs, carry):
        at_end, taken = [], []
        for b, m in enumerate(MASK.T):
            start = jax.tree.map(lambda c, b=b: c[b], carry)
            final, *rest = rnnjax.unroll(cell, params, xs[m, b], start, **options)
            at_end.append(final)
            taken.append(rest)
        return at_end, taken

    holes = jnp.where(MASK[..., None], xs, jnp.nan)  # which reach neither values nor gradients
    got = jax.jit(functools.partial(with_gradients, masked))(params, holes, carry)
    want = jax.jit(functools.partial(with_gradients, alone))(params, xs, carry)
    assert relative_error(got, want) < 1e-12


@pytest.mark.slow
def test_padding_on_the_left_equals_padding_on_the_right():
    lengths = np.array([4, 0])
    left = np.arange(T)[:, None] >= T - lengths
    final, ys = rnnjax.unroll(CELL, PARAMS, XS, mask=left)
    shifted = jnp.stack([jnp.roll(XS[:, b], n - T, axis=0) for b, n in enumerate(lengths)], 1)
    want, right = rnnjax.unroll(CELL, PARAMS, shifted, seq_lengths=lengths)
    right = jnp.stack([jnp.roll(right[:, b], T - n, axis=0) for b, n in enumerate(lengths)], 1)
    assert relative_error((final, ys), (want, right)) < 1e-6


@pytest.mark.slow
def test_what_masked_steps_emit():
    start = jax.tree.map(lambda c: c + 0.3, CELL.initial_carry((B,)))
    lengths, gap = np.array([7, 5]), ~MASK
    options = {"mask": MASK, "seq_lengths": lengths, "return_carries": True}
    run = functools.partial(rnnjax.unroll, CELL, PARAMS, XS, start, **options)
    past = np.arange(T)[:, None] >= lengths
    within = ~past
    _, zeros, carries = run()
    np.testing.assert_array_equal(zeros[gap | past], 0)
    for value in (2.5, np.arange(H), np.arange(B * H).reshape(B, H)):
        _, ys, _ = run(masked_output=value)
        want = np.broadcast_to(value, ys.shape)
        np.testing.assert_array_equal(ys[gap & within], want[gap & within])
        np.testing.assert_array_equal(ys[~(gap & within)], zeros[~(gap & within)])
    _, ys, _ = run(masked_output="last")
    np.testing.assert_array_equal(ys[within], carries.h[within])
    np.testing.assert_array_equal(ys[0, 0], start.h[0])  # the first step is masked
    np.testing.assert_array_equal(ys[past], 0)


def test_the_masked_output_has_a_gradient():
    def loss(value):
        return rnnjax.unroll(CELL, PARAMS, XS, mask=MASK, masked_output=value)[1].sum()

    gradient = jax.grad(loss)(jnp.zeros(H))
    np.testing.assert_array_equal(gradient, (~MASK).sum())


@pytest.mark.slow
def test_a_masked_step_may_be_reset():
    resets = np.zeros((T, B), bool)
    resets[3, 0] = True  # masked
    options = {"mask": MASK, "resets": resets, "return_carries": True, "masked_output": "last"}
    _, ys, carries = rnnjax.unroll(CELL, PARAMS, XS, **options)
    for leaf in (*carries, ys):
        np.testing.assert_array_equal(leaf[3:5, 0], 0)
    _, rest = rnnjax.unroll(CELL, PARAMS, XS[5:, 0])
    np.testing.assert_allclose(ys[5:, 0], rest, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mask": MASK.T}, ValueError, r"mask must have shape \(7, 2\), .* axes .* swapped"),
        ({"mask": MASK.astype(np.float32)}, TypeError, "mask must be booleans, got float32"),
        ({"masked_output": 1.0}, ValueError, "masked_output was given without mask"),
        (
            {"mask": MASK, "masked_output": "first"},
            ValueError,
            "numbers or \"last\", got 'first'",
        ),
        (
            {"mask": MASK, "masked_output": np.zeros(4)},
            ValueError,
            r'"last" or numbers that broadcast to \(7, 2, 5\), got shape \(4,\)',
        ),
    ],
)
def test_wrong_arguments_are_named(options, error, message):
    with pytest.raises(error, match=message):
        rnnjax.unroll(CELL, PARAMS, XS, **options)
