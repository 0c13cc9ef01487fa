"""Masks, resets, all carries and clipped adjoints in layers and models; inputs that are trees."""

import dataclasses
import functools
from typing import Any, NamedTuple

import architectures
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import D, H, V, weighted_sum
from oracles import relative_error
from slow import slow_but_for

import rnnjax
from rnnjax import GRU, LSTM, Cell, Elman, layers, models
from rnnjax.layers import RNN, TCN, Bidirectional, Stack

KEY = jax.random.key(0)
B, T = 2, 6
MASK = np.array([[0, 1, 1, 0, 1, 1], [1, 0, 0, 1, 1, 0]], bool)
XS = jax.random.normal(KEY, (B, T, D))
TOKENS = np.array([[1, 2, 3, 4, 5, 0], [2, 2, 1, 3, 0, 4]])


def both_directions(cell):
    return Bidirectional(RNN(cell), RNN(cell))


def deep(cell):
    """A residual network of three layers, the first of which keeps the width of its inputs."""
    return Stack([RNN(type(cell)(D)), both_directions(cell), RNN(cell)], residual=True)


LAYERS = {
    "rnn": RNN(LSTM(H)),
    "reversed": RNN(GRU(H), reverse=True, keep_order=True),
    "learned": RNN(LSTM(H), initial_carry_init=jax.nn.initializers.normal()),
    "own": RNN(architectures.Leaky(H)),
    "bidirectional": both_directions(GRU(H)),
    "deep": deep(LSTM(H)),
    "deep_bidirectional": layers.deep(GRU(H), 2, bidirectional=True),
}


def with_gradients(run, variables, xs):
    """Return what `run(variables, xs)` returns, and the gradients of a sum over it."""

    def loss(params, xs):
        values = run({"params": params}, xs)
        return weighted_sum(values), values

    argnums = (0, 1) if jnp.issubdtype(xs.dtype, jnp.inexact) else 0
    return jax.jit(jax.grad(loss, argnums, has_aux=True))(variables["params"], xs)


def agree(one, other, variables, xs, tolerance=1e-5):
    """Compare two functions of variables and inputs, in values and gradients."""
    got, want = (with_gradients(run, variables, xs) for run in (one, other))
    assert relative_error(got, want) < tolerance


def taken(xs, b):
    """Return the unmasked steps of one sequence, as a batch of one."""
    return xs[b : b + 1, np.flatnonzero(MASK[b])]


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_but_for("rnn", [*LAYERS]))
def test_layers_leave_masked_steps_out(name):
    layer = LAYERS[name]
    variables = layer.init(KEY, XS)

    def masked(variables, xs):
        xs = jnp.where(MASK[..., None], xs, jnp.nan)
        carry, ys = layer.apply(variables, xs, mask=MASK, return_carry=True)
        final = layer.final_output(carry, ys, None, MASK)
        np.testing.assert_equal(ys.shape[:2], (B, T))
        return [[taken(ys, b), final[b : b + 1]] for b in range(B)], ys * ~MASK[..., None]

    def alone(variables, xs):
        found = []
        for b in range(B):
            carry, ys = layer.apply(variables, taken(xs, b), return_carry=True)
            found.append([ys, layer.final_output(carry, ys)])
        return found, jnp.zeros((B, T, ys.shape[-1]))

    agree(masked, alone, variables, XS)


POOLING = {"last": layers.last_state, "mean": layers.mean_state}
POOLING |= {"attention": layers.AttentionPooling(3)}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*POOLING])
def test_many_to_one_leaves_masked_steps_out(name):
    model = models.ManyToOne(deep(GRU(H)), layers.LinearHead(2), layers.Embed(V, D), POOLING[name])
    tokens = np.where(MASK, TOKENS, V + 7)
    variables = model.init(KEY, jnp.asarray(TOKENS))

    def masked(variables, xs):
        del xs
        return model.apply(variables, tokens, mask=MASK)

    def alone(variables, xs):
        return jnp.concatenate([model.apply(variables, taken(xs, b)) for b in range(B)])

    agree(masked, alone, variables, jnp.asarray(TOKENS))


@pytest.mark.slow
@pytest.mark.parametrize(
    "output", slow_but_for("last", {"zeros": None, "2.5": 2.5, "last": "last"})
)
def test_many_to_many_leaves_masked_steps_out(output):
    model = models.ManyToMany(RNN(LSTM(H)), layers.LinearHead(2), layers.Embed(V, D))
    variables = model.init(KEY, jnp.asarray(TOKENS))
    options = {"mask": MASK, "masked_output": output}
    got = model.apply(variables, np.where(MASK, TOKENS, -3), **options)
    head = {"params": variables["params"]["head"]}
    start = layers.LinearHead(2).apply(head, jnp.zeros((1, H)))[0]
    for b in range(B):
        ys = model.apply(variables, taken(TOKENS, b))[0]
        np.testing.assert_allclose(got[b][MASK[b]], ys, rtol=1e-5, atol=1e-6)
        before = np.cumsum(MASK[b])  # steps taken until then
        held = np.concatenate([start[None], ys])[before]
        want = held if output == "last" else np.full_like(held, output or 0)
        np.testing.assert_allclose(got[b][~MASK[b]], want[~MASK[b]], rtol=1e-5, atol=1e-6)


ATTENTION = {"plain": None, "additive": layers.AdditiveAttention(3)}
ATTENTION |= {"dot_product": layers.DotProductAttention(3)}


@pytest.mark.slow
@pytest.mark.parametrize("attention", ATTENTION.values(), ids=ATTENTION)
def test_encoders_leave_masked_steps_out(attention):
    decoder = models.OneToMany(RNN(GRU(H)), layers.SoftmaxHead(V), layers.Embed(V, D), attention)
    model = models.EncoderDecoder(both_directions(GRU(H)), decoder, layers.Embed(V, D))
    previous = jnp.asarray(TOKENS[:, :3])
    variables = model.init(KEY, jnp.asarray(TOKENS), previous)
    garbage = np.where(MASK, TOKENS, -1)

    def masked(variables, tokens):
        state = model.apply(variables, garbage, mask=MASK, method="start")
        _, first = model.apply(variables, state, previous[:, 0], method="step")
        return model.apply(variables, garbage, previous, mask=MASK), first

    def alone(variables, tokens):
        rows = [model.apply(variables, taken(tokens, b), previous[b : b + 1]) for b in range(B)]
        return jnp.concatenate(rows), jnp.concatenate(rows)[:, 0]

    agree(masked, alone, variables, jnp.asarray(TOKENS))


FIRST = np.array([[1, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 1]], bool)  # of several sequences


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_but_for("bidirectional", [*LAYERS]))
def test_packed_sequences_equal_separate_ones(name):
    layer = LAYERS[name]
    variables = layer.init(KEY, XS)

    def packed(variables, xs):
        return layer.apply(variables, xs, resets=FIRST)

    def separate(variables, xs):
        rows = []
        for b in range(B):
            cuts = np.flatnonzero(FIRST[b])
            pieces = [p for p in np.split(np.arange(T), cuts) if len(p)]
            rows.append(jnp.concatenate([layer.apply(variables, xs[b, p]) for p in pieces]))
        return jnp.stack(rows)

    agree(packed, separate, variables, XS)


@pytest.mark.slow
def test_packed_sequences_in_a_model():
    model = models.ManyToMany(LAYERS["deep"], layers.LinearHead(2))
    variables = model.init(KEY, XS)
    got = model.apply(variables, XS, resets=FIRST, return_carry=True)
    for b in range(B):
        pieces = [p for p in np.split(np.arange(T), np.flatnonzero(FIRST[b])) if len(p)]
        want = [model.apply(variables, XS[b, p]) for p in pieces]
        np.testing.assert_allclose(got[1][b], np.concatenate(want), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_the_carry_after_a_reset():
    cell = LSTM(H)
    layer = RNN(cell)
    variables = layer.init(KEY, XS)
    resets = np.zeros((B, T), bool)
    resets[:, 3] = True
    given = jax.tree.map(lambda c: c + 0.5, cell.initial_carry((B,)))
    got = layer.apply(variables, XS, resets=resets, reset_carry=given)
    want = layer.apply(variables, XS[:, 3:], initial_carry=given)
    np.testing.assert_allclose(got[:, 3:], want, rtol=1e-5, atol=1e-6)
    deep = Stack([layer, RNN(GRU(H))])
    variables = deep.init(KEY, XS)
    both = given, GRU(H).initial_carry((B,))
    got = deep.apply(variables, XS, resets=resets, reset_carry=both)
    want = deep.apply(variables, XS[:, 3:], initial_carry=both)
    np.testing.assert_allclose(got[:, 3:], want, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="reset_carry must have an entry for each of 2 layers"):
        deep.apply(variables, XS, resets=resets, reset_carry=(given,))


@pytest.mark.slow
def test_all_carries():
    cell, n = LSTM(H), jnp.array([T, 4])
    layer = RNN(cell)
    variables = layer.init(KEY, XS)
    params = layer.cell_params(variables["params"])
    time_first = jnp.swapaxes(XS, 0, 1)
    for reverse in (False, True):
        options = {"seq_lengths": n, "reverse": reverse}
        want = rnnjax.unroll(cell, params, time_first, return_carries=True, **options)
        options |= {"return_carries": True, "keep_order": True}
        got = layer.apply(variables, XS, **options)
        swapped = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), want[1:])
        assert relative_error(got, (want[0], *swapped)) < 1e-6
        again = layer.apply(variables, time_first, time_major=True, **options)
        assert relative_error(again, want) < 1e-6
        carry, ys, carries = layer.apply(variables, XS, **(options | {"keep_order": False}))
        valid = np.arange(T) < n[:, None]
        np.testing.assert_array_equal(ys[valid], carries.h[valid])  # in the same order
    marked = layer.apply(variables, XS, return_carries=True, mutable=["intermediates"])
    assert relative_error(marked[0], layer.apply(variables, XS, return_carries=True)) < 1e-6

    model = models.ManyToMany(layers.deep(cell, 2, bidirectional=True), layers.LinearHead(2))
    variables = model.init(KEY, XS)
    carry, outputs, carries = model.apply(variables, XS, seq_lengths=n, return_carries=True)
    assert outputs.shape == (B, T, 2)
    assert jax.tree.structure(carries) == jax.tree.structure(carry)
    for final, every in zip(carry, carries, strict=True):
        np.testing.assert_array_equal(final.forward.c[1], every.forward.c[1, 3])
        np.testing.assert_array_equal(final.backward.c, every.backward.c[:, 0])


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_but_for("rnn", ["rnn", "bidirectional", "deep"]))
def test_clipped_adjoints(name):
    cell = Elman(H)
    layer = {"rnn": RNN(cell), "bidirectional": both_directions(cell), "deep": Stack([RNN(cell)])}
    own = {"rnn": RNN(cell, clip_adjoints=0.1), "deep": layers.deep(cell, 1, clip_adjoints=0.1)}
    own["bidirectional"] = layers.bidirectional(cell, clip_adjoints=0.1)
    model = models.ManyToMany(layer[name], layers.LinearHead(2))
    variables = model.init(KEY, XS)

    def clipped(variables, xs):
        return model.apply(variables, xs, clip_adjoints=0.1)

    def by_field(variables, xs):
        return models.ManyToMany(own[name], layers.LinearHead(2)).apply(variables, xs)

    def by_hand(variables, xs):
        def run(params, reverse):
            params = RNN(cell).cell_params(params)
            options = {"clip_adjoints": 0.1, "reverse": reverse}
            ys = rnnjax.unroll(cell, params, jnp.swapaxes(xs, 0, 1), **options)[1]
            return jnp.swapaxes(ys, 0, 1)

        params = variables["params"]["layer"]
        if name == "bidirectional":
            sides = [run(params[f"{s}_rnn"], s == "backward") for s in ("forward", "backward")]
            ys = jnp.concatenate(sides, -1)
        else:
            ys = run(params["layers_0"] if name == "deep" else params, False)
        return layers.LinearHead(2).apply({"params": variables["params"]["head"]}, ys)

    agree(clipped, by_hand, variables, XS)
    agree(by_field, by_hand, variables, XS)
    got, plain = (
        with_gradients(run, variables, XS)[0] for run in (clipped, lambda v, x: model.apply(v, x))
    )
    assert relative_error(got, plain) > 1e-2  # the bound binds


@pytest.mark.slow
def test_what_masked_steps_emit():
    n, past = jnp.array([T, 4]), np.arange(T) >= np.array([[T], [4]])
    gap = ~MASK & ~past
    for layer in (RNN(GRU(H)), both_directions(GRU(H)), Stack([RNN(GRU(H))]), deep(GRU(H))):
        variables = layer.init(KEY, XS)
        run = functools.partial(layer.apply, variables, XS, seq_lengths=n, mask=MASK)
        zeros = run()
        width = zeros.shape[-1]
        np.testing.assert_array_equal(zeros[gap | past], 0)
        for value in (1.5, np.arange(width), np.arange(B * T * width).reshape(B, T, width)):
            ys = run(masked_output=value)
            np.testing.assert_array_equal(ys[gap], np.broadcast_to(value, ys.shape)[gap])
            np.testing.assert_array_equal(ys[~gap], zeros[~gap])
        swapped = layer.apply(
            variables,
            jnp.swapaxes(XS, 0, 1),
            seq_lengths=n,
            mask=MASK.T,
            masked_output=np.swapaxes(value, 0, 1),
            time_major=True,
        )
        np.testing.assert_allclose(jnp.swapaxes(swapped, 0, 1), ys, rtol=1e-5, atol=1e-6)
    layer = both_directions(GRU(H))
    held = layer.apply(layer.init(KEY, XS), XS, mask=MASK, masked_output="last")
    np.testing.assert_array_equal(held[0, 3, :H], held[0, 2, :H])  # forward: of the step before
    np.testing.assert_array_equal(held[0, 3, H:], held[0, 4, H:])  # backward: of the step after


class Sizes(NamedTuple):
    value: Any
    observed: Any


@dataclasses.dataclass(frozen=True)
class Decaying(Cell):
    """A leaky cell of values of which some are missing: its input is a pair."""

    features: int

    def init(self, key, input_size):
        keys = jax.random.split(key, 3)
        shapes = [(n, self.features) for n in (*input_size, self.features)]
        return tuple(jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True))

    def initial_carry(self, batch_shape):
        return jnp.zeros((*batch_shape, self.features))

    def project(self, ready, x):
        return (x.value * x.observed) @ ready[0] + x.observed @ ready[1]

    def step(self, ready, carry, u):
        return jnp.tanh(u + carry @ ready[2])

    def output(self, carry):
        return carry


@pytest.mark.slow
def test_a_cell_whose_input_is_a_tree():
    cell = Decaying(H)
    xs = Sizes(XS, (XS > 0).astype(jnp.float32))
    first = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), xs)
    layer = RNN(cell)
    variables = layer.init(KEY, xs)
    params = layer.cell_params(variables["params"], Sizes(1, 1))
    want = rnnjax.unroll(cell, params, first, mask=MASK.T)
    got = layer.apply(variables, xs, mask=MASK, return_carry=True)
    assert relative_error(got, (want[0], jnp.swapaxes(want[1], 0, 1))) < 1e-6
    got = layer.apply(variables, first, mask=MASK.T, time_major=True, return_carry=True)
    assert relative_error(got, want) < 1e-6

    model = models.ManyToMany(Stack([layer, RNN(GRU(H))]), layers.LinearHead(2))
    variables = model.init(KEY, xs)
    carry, ys = model.apply(variables, xs, return_carry=True)
    state = None
    for t in range(T):
        now = jax.tree.map(lambda x, t=t: x[:, t], xs)
        state, y = model.apply(variables, state, now, method="step")
        np.testing.assert_allclose(y, ys[:, t], rtol=1e-4, atol=1e-6)
    assert relative_error(state, carry) < 1e-5
    one = models.ManyToOne(both_directions(cell), layers.LinearHead(2))
    assert one.apply(one.init(KEY, xs), xs).shape == (B, 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: apply(Stack([TCN(H)]), mask=MASK), TypeError, "TCN takes no mask"),
        (
            lambda: apply(Stack([RNN(GRU(H), reverse=True)]), resets=FIRST),
            ValueError,
            "keep_order must be true with reverse and resets",
        ),
        (lambda: apply(RNN(GRU(H)), mask=MASK.T), ValueError, r"mask must have shape \(6, 2\)"),
        (
            lambda: apply(deep(GRU(H)), mask=MASK, masked_output="last"),
            ValueError,
            "masked_output must be numbers with residual",
        ),
        (
            lambda: apply(both_directions(GRU(H)), mask=MASK, masked_output="none"),
            ValueError,
            "numbers or \"last\", got 'none'",
        ),
        (
            lambda: apply(Stack([RNN(GRU(H))]), masked_output=1.0),
            ValueError,
            "masked_output was given without mask",
        ),
        (
            lambda: apply(Stack([RNN(GRU(H))]), mask=MASK, masked_output=np.zeros(3)),
            ValueError,
            r"broadcast to \(2, 6, 4\), got shape \(3,\)",
        ),
        (
            lambda: RNN(GRU(H)).init(KEY, [XS[:, t] for t in range(T)]),
            TypeError,
            r"one array, got a list of 6; .* jnp.stack\(inputs, axis=-2\)",
        ),
    ],
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def apply(layer, **options):
    return layer.apply(layer.init(KEY, XS), XS, **options)


@pytest.mark.slow
def test_a_mask_is_one_of_booleans():
    model = models.ManyToOne(RNN(GRU(H)), layers.LinearHead(2), pooling=layers.mean_state)
    variables = model.init(KEY, XS)
    with pytest.raises(TypeError, match="mask must be booleans, got float32"):
        model.apply(variables, XS, mask=MASK.astype(np.float32))
    assert layers.masked_mean(jnp.ones((B, T)), mask=MASK & False) == 0
    got = layers.masked_mean(jnp.arange(12.0).reshape(B, T), jnp.array([T, 4]), MASK)
    np.testing.assert_allclose(got, np.mean([1, 2, 4, 5, 6, 9]), rtol=1e-6)
