"""Wrong arguments are named."""

import architectures
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import CELLS, D, H, V
from layer_parts import KEY, LENGTHS, XS, B, T, run

from rnnjax import GRU, LSTM, layers, models
from rnnjax.cells import LayerNorm, VariationalDropout, Zoneout
from rnnjax.layers import RNN, TCN, Bidirectional, Stack, Transformer


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: run(RNN(GRU(H)), n=jnp.array([7, 0, 0, 0])),
            r"seq_lengths .* 0..T = 0..6, got 0..7",
        ),
        (lambda: run(TCN(H), n=jnp.array([-1, 0, 0, 0])), r"seq_lengths must lie in .* got -1..0"),
        (lambda: run(Transformer(H), n=jnp.array([1, 2])), r"batch shape \(4,\), got \(2,\)"),
        (lambda: RNN(GRU(H)).init(KEY, XS[0, 0]), "an axis for time and one for features"),
        (lambda: Transformer(6, num_heads=4).init(KEY, XS), "multiple of num_heads = 4, got 6"),
        (lambda: Stack([]).init(KEY, XS), "at least one layer"),
        (lambda: Stack([RNN(GRU(H))], residual=True).init(KEY, XS), "residual needs a layer"),
        (lambda: run(Stack([RNN(GRU(H))]), initial_carry=(1, 2)), "each of 1 layers, got 2"),
        (
            lambda: run(RNN(GRU(H)), initial_carry=jnp.zeros(3)),
            "initial_carry must have the structure",
        ),
        (
            lambda: run(RNN(LSTM(H)), initial_carry=(jnp.zeros((B, H)), jnp.zeros((B, H)))),
            r"structure LSTMCarry\(c, h\), got a plain tuple of 2",
        ),
        (
            lambda: run(RNN(LSTM(H)), n=jnp.ones(T, int)),
            r"batch shape \(4,\), got \(6,\); are the axes of time and batch swapped\?",
        ),
        (
            lambda: layers.Embed(V, D).init(KEY, jnp.array([0, V])),
            r"tokens must lie in 0..5, got 0..6",
        ),
        (
            lambda: layers.Embed(V, D, layers.pretrained(np.zeros((2, D)))).init(
                KEY, jnp.array([0])
            ),
            r"pretrained table has shape \(2, 3\), the layer \(6, 3\)",
        ),
        (lambda: Zoneout(GRU(H), 1.5), "rate must lie in 0..1, got 1.5"),
        (lambda: Zoneout(LSTM(H), (0.1, 0.2, 0.3)), "rate must be a number or 2 of them"),
        (lambda: VariationalDropout(GRU(H), 1.0), "at least 0 and below 1, got 1.0"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LayerNorm(CELLS["leaky"]), "LayerNorm needs a Gated cell, got Leaky"),
        (lambda: VariationalDropout(CELLS["leaky"], 0.1), "VariationalDropout needs a Gated cell"),
        (lambda: layers.Embed(V, D).init(KEY, jnp.ones(2)), "tokens must be integers, got float32"),
        (lambda: run(RNN(GRU(H)), n=jnp.ones(B)), "seq_lengths must be integers"),
    ],
)
def test_wrong_types(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: Bidirectional(LSTM(H), LSTM(H)),
            r"forward_rnn must be a layer, got the cell LSTM; write RNN\(LSTM\(...\)\)",
        ),
        (lambda: Bidirectional(RNN(LSTM(H))), r"needs two layers, Bidirectional\(RNN\(cell\), RNN"),
        (
            lambda: Stack(RNN(LSTM(H))),
            r"a list, Stack\(\[RNN\(cell\), RNN\(cell\)\]\), got one RNN",
        ),
        (lambda: Stack(RNN(LSTM(H)), RNN(LSTM(H))), "layers must be a list, .* got one RNN"),
        (lambda: Stack([RNN(LSTM(H)), GRU(H)]), r"layers\[1\] must be a layer, got the cell GRU"),
        (lambda: Stack([3]), r"layers\[0\] must be a layer, such as RNN\(cell\), got 3"),
        (
            lambda: models.ManyToOne(LSTM(H), layers.SoftmaxHead(2)).init(KEY, XS),
            "layer must be a layer, got the cell LSTM",
        ),
    ],
)
def test_what_is_no_layer(call, message, without_type_checks):
    with pytest.raises(TypeError, match=message):
        call()


def test_the_two_directions_are_two_layers():
    one = RNN(GRU(H))
    with pytest.raises(ValueError, match="must be two layers, got one twice"):
        Bidirectional(one, one).init(KEY, XS)
    both = Stack([Bidirectional(RNN(GRU(H)), RNN(GRU(H)), jnp.add)] * 2, residual=True)
    xs = jnp.zeros((B, T, H))
    carry, ys = both.apply(both.init(KEY, xs), xs, return_carry=True)
    with pytest.raises(ValueError, match="bidirectional layer with residual has no last state"):
        both.final_output(carry, ys)


@pytest.mark.slow
def test_an_empty_batch_in_every_model():
    none = jnp.zeros((0, T), jnp.int32)
    cell = CELLS["gru"]
    trials = {name: (model, (none,)) for name, model in architectures.sequence_models(cell).items()}
    trials |= {n: (m, (none, none)) for n, m in architectures.translators(cell).items()}
    for name, (model, inputs) in trials.items():
        some = [jnp.zeros((1, T), jnp.int32) for _ in inputs]
        variables = jax.eval_shape(model.init, KEY, *some)
        want = jax.eval_shape(model.apply, variables, *some).shape
        zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), variables)
        ys = jax.jit(model.apply)(zeros, *inputs, seq_lengths=jnp.zeros(0, jnp.int32))
        assert ys.shape == (0, *want[1:]), name
    assert models.ctc_loss(jnp.zeros((0, T, V)), none).shape == (0,)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (TCN(H), "layer must be RNN or a Stack of them, got TCN"),
        (Stack([RNN(GRU(H)), TCN(H)]), "layers must be RNN, all of them, got TCN"),
        (Bidirectional(RNN(GRU(H)), RNN(GRU(H))), "layer must be RNN .*, got Bidirectional"),
    ],
)
def test_a_decoder_is_recurrent(layer, message):
    decoder = models.OneToMany(layer, layers.SoftmaxHead(V), layers.Embed(V, D))
    with pytest.raises(TypeError, match=message):
        decoder.init(KEY, XS[:, 0], jnp.zeros((B, T), jnp.int32))


def test_a_stack_is_a_value():
    one, other = (Stack([RNN(GRU(H))], dropout_broadcast_dims=[-2]) for _ in range(2))
    assert one == other and hash(one) == hash(other)
    assert one.apply(one.init(KEY, np.asarray(XS)), np.asarray(XS)).shape == (B, T, H)


@pytest.mark.slow
def test_what_models_refuse():
    backwards = models.ManyToMany(Stack([RNN(GRU(H), reverse=True)]), layers.LinearHead(1))
    with pytest.raises(ValueError, match="reads from the end cannot run step by step"):
        backwards.apply(backwards.init(KEY, XS), None, XS[:, 0], method="step")
    decoder = models.OneToMany(RNN(GRU(H)), layers.SoftmaxHead(V), layers.Embed(V, D))
    tokens = jnp.zeros((B, T), jnp.int32)
    for options, message in (
        ({"sampling_rate": 1.5}, "sampling_rate must lie in 0..1, got 1.5"),
        ({"memory_lengths": LENGTHS}, "memory_lengths were given without memory"),
    ):
        with pytest.raises(ValueError, match=message):
            decoder.init(KEY, XS[:, 0], tokens, **options)
    logits = jnp.zeros((B, T, 3))
    for labels, options, message in (
        ([[1, 3]] * B, {}, "labels must lie in 0..2 and not be the blank, 0"),
        ([[1, 0]] * B, {}, "labels must lie in 0..2 and not be the blank, 0"),
        ([[1, 2]] * B, {"blank": 3}, "blank must lie in 0..K-1 = 0..2, got 3"),
    ):
        with pytest.raises(ValueError, match=message):
            models.ctc_loss(logits, jnp.array(labels), **options)
    with pytest.raises(TypeError, match="labels must be integers"):
        models.ctc_loss(logits, jnp.ones((B, 2)))
    padded = models.ctc_loss(logits, jnp.array([[1, 9]] * B), label_lengths=jnp.ones(B, int))
    assert np.isfinite(padded).all()
    with pytest.raises(TypeError, match="start must be an integer"):
        models.shift_right(tokens, 1.7)


@pytest.mark.slow
def test_classes_that_are_ruled_out():
    """A logit of -inf is a probability of zero, of which there is no NaN."""
    logits = jax.random.normal(KEY, (1, 4, 3)).at[:, :, 2].set(-jnp.inf)
    without = models.ctc_loss(logits[..., :2], jnp.array([[1, 1]]))
    value, slope = jax.value_and_grad(lambda x: models.ctc_loss(x, jnp.array([[1, 1]]))[0])(logits)
    np.testing.assert_allclose(value, without[0], rtol=1e-6)
    assert np.isfinite(slope).all()


def test_each_sequence_may_start_with_its_own_token():
    tokens = jnp.arange(6).reshape(2, 3)
    assert models.shift_right(tokens, jnp.array([7, 8])).tolist() == [[7, 0, 1], [8, 3, 4]]
    assert models.shift_right(tokens, 9).tolist() == [[9, 0, 1], [9, 3, 4]]
    assert layers.Embed(V, D).init_with_output(KEY, 3)[0].shape == (D,)
