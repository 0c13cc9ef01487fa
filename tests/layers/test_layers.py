"""Layers against compositions of `unroll` written by hand, Flax's own, and closed forms."""

import dataclasses
import functools
import sys

import architectures
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest
import scipy.stats
from architectures import CELLS, D, H, V, recurrent, weighted_sum
from flax import nnx, serialization

import rnnjax
from rnnjax import GRU, LSTM, Elman, cells, layers, models, training
from rnnjax.cells import LayerNorm, LSTMCarry, VariationalDropout, Zoneout
from rnnjax.layers import RNN, TCN, Bidirectional, Stack, Transformer
from rnnjax.testing import check_cell

KEY = jax.random.key(0)
B, T = 4, 6
LENGTHS = jnp.array([T, 3, 1, 0])
XS = jax.random.normal(KEY, (B, T, D))


def by_hand(cell, params, xs, carry=None, **options):
    """Return `unroll` of batch-major arrays."""
    final, ys = rnnjax.unroll(cell, params, jnp.moveaxis(xs, -2, 0), carry, **options)
    return final, jnp.moveaxis(ys, 0, -2)


def compositions(cell):
    """Return by name how `architectures.recurrent` layers are put together, without Flax."""

    def own(params):
        return RNN(cell).cell_params(params)

    def both(params, xs, n):
        ahead, behind = (own(params[f"{which}_rnn"]) for which in ("forward", "backward"))
        forward = by_hand(cell, ahead, xs, seq_lengths=n)
        backward = by_hand(cell, behind, xs, seq_lengths=n, reverse=True)
        return (forward[0], backward[0]), forward[1], backward[1]

    def added(params, xs, n):
        carry, ahead, behind = both(params, xs, n)
        return carry, ahead + behind

    def deep(params, xs, n):
        carry, ys = by_hand(cell, own(params["layers_0"]), xs, seq_lengths=n)
        then, zs = by_hand(cell, own(params["layers_1"]), ys, seq_lengths=n)
        return (carry, then), ys + zs

    def deep_bidirectional(params, xs, n):
        first, ahead, behind = both(params["layers_0"], xs, n)
        ys = jnp.concatenate([ahead, behind], -1)
        then, ahead, behind = both(params["layers_1"], ys, n)
        return (first, then), jnp.concatenate([ahead, behind], -1)

    def learned(params, xs, n):
        start = cell.initial_carry(xs.shape[:-2])
        named = params["initial_carry"]
        drawn = {k: jnp.broadcast_to(s, getattr(start, k).shape) for k, s in named.items()}
        start = start._replace(**drawn)
        return by_hand(cell, own(params), xs, start, seq_lengths=n)

    return {
        "rnn": lambda params, xs, n: by_hand(cell, own(params), xs, seq_lengths=n),
        "learned_carry": learned,
        "bidirectional": added,
        "deep": deep,
        "deep_bidirectional": deep_bidirectional,
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lstm", "leaky"])
def test_layers_are_compositions_of_unroll(name):
    cell = CELLS[name]
    hands = compositions(cell)

    def everything(run, params):
        def loss(params, xs):
            values = run(params, xs)
            return weighted_sum(values), values

        gradients, values = jax.grad(loss, (0, 1), has_aux=True)(params, XS)
        return jax.tree.leaves((values, gradients))

    def applied(layer, params, xs):
        return layer.apply({"params": params}, xs, seq_lengths=LENGTHS, return_carry=True)

    @jax.jit
    def compare(variables):
        pairs = {}
        for which, layer in recurrent(cell).items():
            if which in hands:
                params = variables[which]["params"]
                pairs[which] = (
                    everything(functools.partial(applied, layer), params),
                    everything(lambda p, x, h=hands[which]: h(p, x, LENGTHS), params),
                )
        return pairs

    variables = {which: recurrent(cell)[which].init(KEY, XS) for which in hands}
    for which, (got, want) in compare(variables).items():
        assert len(got) == len(want) > 4, which
        assert oracles.relative_error(got, want) < 1e-5, which


@pytest.mark.parametrize("name", ["elman", "lstm", "gru"])
def test_reverse_and_keep_order_are_those_of_flax(name):
    cell = CELLS[name]
    params = cell.init(KEY, D)
    flax_cell = oracles.flax_cell(name, H, jnp.float32)
    weights = {"params": {"cell": oracles.to_flax(name, params)["params"]}}
    for reverse, keep_order, time_major in [
        (False, False, True),
        (True, False, False),
        (True, True, True),
    ]:
        options = {"reverse": reverse, "keep_order": keep_order, "time_major": time_major}
        n = jnp.maximum(LENGTHS, 1)  # Flax's carry after no step is that after all
        xs = jnp.swapaxes(XS, 0, 1) if time_major else XS
        got = RNN(cell, **options).apply({"params": {"cell": params._asdict()}}, xs, seq_lengths=n)
        want = nn.RNN(flax_cell, **options).apply(weights, xs, seq_lengths=n)
        valid = jnp.arange(T) < n[:, None]
        valid = valid.T if time_major else valid
        assert oracles.relative_error(got, jnp.where(valid[..., None], want, 0)) < 1e-5


STREAMS = {
    "lstm": RNN(LSTM(H), initial_carry_init=jax.nn.initializers.normal()),
    "gru": RNN(GRU(H)),
    "leaky": RNN(CELLS["leaky"]),
    "stack": Stack([RNN(LSTM(H)), RNN(Elman(H)), TCN(H, num_blocks=1)], residual=True),
    "tcn": TCN(H, num_blocks=2),
    "transformer": Transformer(H, num_heads=2, num_layers=1, window=3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STREAMS)
def test_step_by_step_equals_the_whole_sequence(name):
    """Values and gradients; and a stream goes on where a shorter sequence ended."""
    layer = STREAMS[name]
    variables = layer.init(KEY, XS)

    def whole(params, xs):
        ys = layer.apply({"params": params}, xs)
        return weighted_sum(ys), ys

    def streamed(params, xs):
        run = functools.partial(layer.apply, {"params": params}, return_carry=True)
        carry, first = run(xs[:, :1])

        def step(carry, x):
            carry, y = run(x[:, None], initial_carry=carry)
            return carry, y[:, 0]

        _, ys = jax.lax.scan(step, carry, jnp.moveaxis(xs[:, 1:], 1, 0))
        ys = jnp.concatenate([first, jnp.moveaxis(ys, 0, 1)], 1)
        return weighted_sum(ys), ys

    def resumed(params, xs):
        run = functools.partial(layer.apply, {"params": params}, return_carry=True)
        carry, _ = run(xs[:, :3], seq_lengths=jnp.array([3, 2, 1, 0]))
        return run(xs[:, 3:], initial_carry=carry)[1]

    def both(params, xs):
        found = [jax.grad(run, (0, 1), has_aux=True)(params, xs) for run in (whole, streamed)]
        return *found, resumed(params, xs)

    got, want, later = jax.jit(both)(variables["params"], XS)
    assert oracles.relative_error(got, want) < 1e-5
    for b, cut in enumerate((3, 2, 1, 0)):
        one = jnp.concatenate([XS[b, :cut], XS[b, 3:]])[None]
        expected = jax.jit(whole)(variables["params"], one)[1][0, cut:]
        assert oracles.relative_error(later[b], expected) < 1e-5


def test_parameters_are_the_cells_own():
    cell = LSTM(features=H)
    variables = RNN(cell).init(KEY, XS)
    params = RNN(cell).cell_params(variables["params"])
    assert type(params) is cells.GatedParams
    named = variables["params"]["cell"]
    assert {k: id(v) for k, v in params._asdict().items()} == {k: id(v) for k, v in named.items()}
    with pytest.raises(ValueError, match="parameters must be .*, recurrent_bias; got input_kernel"):
        RNN(GRU(H)).cell_params(variables["params"])
    assert set(variables) == {"params"}  # no perturbations that fit this T alone
    xs = jnp.swapaxes(XS, 0, 1)
    final, ys = rnnjax.unroll(cell, params, xs)
    carry, outputs = RNN(cell, return_carry=True).apply(variables, XS)
    assert oracles.relative_error((carry, outputs), (final, jnp.swapaxes(ys, 0, 1))) < 1e-6
    profile = rnnjax.diagnostics.log_gradient_profile(cell, params, xs, final)
    assert profile.shape == (T, B)
    restored = serialization.from_bytes(variables, serialization.to_bytes(variables))
    assert jax.tree.structure(restored) == jax.tree.structure(variables)


def test_any_number_of_batch_axes():
    layer = RNN(GRU(H))
    variables = layer.init(KEY, XS)
    n = LENGTHS.reshape(2, 2)
    got = layer.apply(variables, XS.reshape(2, 2, T, D), seq_lengths=n)
    want = layer.apply(variables, XS, seq_lengths=LENGTHS)
    assert oracles.relative_error(got.reshape(want.shape), want) < 1e-6
    assert oracles.relative_error(layer.apply(variables, XS[0]), want[0]) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", architectures.LAYERS)
def test_an_empty_batch_and_no_steps(name):
    layer = architectures.LAYERS[name]
    variables = jax.jit(layer.init)(KEY, XS)
    width = layer.apply(variables, XS).shape[-1]
    assert layer.apply(variables, XS[:0], seq_lengths=LENGTHS[:0]).shape == (0, T, width)
    carry, ys = layer.apply(variables, XS[:, :0], return_carry=True)
    assert ys.shape == (B, 0, width)
    if "bidirectional" not in name and "reversed" not in name:
        _, then = layer.apply(variables, XS, initial_carry=carry, return_carry=True)
        assert oracles.relative_error(then, layer.apply(variables, XS)) < 1e-5


# Noise


def test_no_stream_no_noise():
    layer = Stack([RNN(Zoneout(GRU(H), 0.5)), RNN(VariationalDropout(LSTM(H), 0.5))])
    layer = layer.clone(dropout_rate=0.5)
    variables = layer.init(KEY, XS)
    quiet = layer.apply(variables, XS)
    streams = {"dropout": KEY}
    assert np.array_equal(layer.apply(variables, XS, deterministic=True, rngs=streams), quiet)
    noisy = layer.apply(variables, XS, rngs=streams)
    assert np.array_equal(noisy, layer.apply(variables, XS, rngs=streams))
    assert oracles.relative_error(noisy, quiet) > 0.01
    other = layer.apply(variables, XS, rngs={"dropout": jax.random.key(1)})
    assert oracles.relative_error(noisy, other) > 0.01


def test_dropout_between_layers_keeps_one_mask_over_time_if_asked():
    xs = jnp.ones((50, T, D))
    identity = Elman(H, activation_fn=cells.identity)
    params = identity.init(KEY, D)
    zero = params._replace(recurrent_kernel=jnp.zeros((H, H)), bias=jnp.zeros(H))
    second = zero._replace(input_kernel=jnp.eye(H))
    for dims in ((), (-2,)):
        layer = Stack(
            [RNN(identity), RNN(identity)], dropout_rate=0.25, dropout_broadcast_dims=dims
        )
        weights = {
            "params": {"layers_0": {"cell": zero._asdict()}, "layers_1": {"cell": second._asdict()}}
        }
        ratio = layer.apply(weights, xs, rngs={"dropout": KEY}) / layer.apply(weights, xs)
        dropped = np.asarray(ratio == 0)
        assert np.allclose(ratio[~dropped], 1 / 0.75, rtol=1e-5)
        assert abs(dropped.mean() - 0.25) < 0.05
        assert (dropped == dropped[:, :1]).all() == (dims == (-2,))


def test_variational_dropout_drops_recurrent_connections_for_good():
    """With the identity for U and no gates, h sums up what it kept: a power of the mask."""
    rate = 0.25
    cell = Elman(H, activation_fn=cells.identity)
    params = cells.GatedParams(jnp.ones((1, H)), jnp.eye(H), jnp.zeros(H))
    xs = jnp.zeros((200, T, 1)).at[:, 0].set(1.0)
    layer = RNN(VariationalDropout(cell, rate))
    ys = layer.apply({"params": {"cell": params._asdict()}}, xs, rngs={"dropout": KEY})
    kept = np.asarray(ys[:, 1] != 0)
    assert abs(kept.mean() - 0.75) < 0.05
    want = np.where(kept[:, None], (1 / 0.75) ** np.arange(T)[:, None], np.arange(T)[:, None] == 0)
    np.testing.assert_allclose(ys, want, rtol=1e-5)
    quiet = layer.apply({"params": {"cell": params._asdict()}}, xs)
    assert oracles.relative_error(quiet, jnp.ones_like(quiet)) < 1e-6


@pytest.mark.slow
def test_zoneout_keeps_units_at_its_rate():
    """Of a carry that always moves, what stands still was kept; its mean is what is evaluated."""
    rates = LSTMCarry(c=0.5, h=0.05)
    cell, xs = LSTM(16), jax.random.normal(KEY, (40, 64, D))
    layer = RNN(Zoneout(cell, rates))
    variables = layer.init(KEY, xs)
    options = {"mutable": ["intermediates"], "rngs": {"dropout": KEY}}
    _, state = layer.apply(variables, xs, **options)
    carries = state["intermediates"]["carry"][0]
    for name, rate in rates._asdict().items():
        values = np.asarray(getattr(carries, name))
        still = values[:, 1:] == values[:, :-1]
        assert abs(still.mean() - rate) < 0.01
    # One step from a given state, averaged over masks, is the step without noise.
    many = jnp.broadcast_to(xs[:1, :1], (20000, 1, D))
    start = LSTMCarry(jnp.full((20000, 16), 0.3), jnp.full((20000, 16), -0.2))
    drawn, _ = layer.apply(
        variables, many, initial_carry=start, return_carry=True, rngs={"dropout": KEY}
    )
    mean, _ = layer.apply(variables, many, initial_carry=start, return_carry=True)
    for a, b in zip(drawn, mean, strict=True):
        assert np.all(np.abs(a.mean(0) - b[0]) <= 5 * np.std(a, 0) / len(a) ** 0.5)


def test_layer_norm_by_hand(x64):
    cell = LSTM(H, param_dtype=jnp.float64)
    params = LayerNorm(cell).init(KEY, D)
    params = jax.tree.map(lambda p: p + 0.3 * jax.random.normal(KEY, p.shape), params)
    x, h = np.asarray(XS[0, 0], float), np.linspace(-1, 1, H)
    carry = LSTMCarry(jnp.asarray(h / 2), jnp.asarray(h))

    def normalised(a):
        return (a - a.mean()) / np.sqrt(a.var() + 1e-5)

    w = normalised(x @ params.cell.input_kernel) * params.input_scale + params.cell.bias
    v = normalised(h @ params.cell.recurrent_kernel) * params.recurrent_scale
    i, f, g, o = np.split(np.asarray(w + v), 4)
    sigmoid = lambda a: 1 / (1 + np.exp(-a))  # noqa: E731
    c = sigmoid(f) * h / 2 + sigmoid(i) * np.tanh(g)
    normal = LayerNorm(cell)
    got = normal.step(params, carry, normal.project(params, jnp.asarray(x)))
    np.testing.assert_allclose(got.c, c, rtol=1e-12)
    np.testing.assert_allclose(got.h, sigmoid(o) * np.tanh(c), rtol=1e-12)


@pytest.mark.slow
def test_wrapped_cells_keep_the_promises_of_cells():
    check_cell(Zoneout(VariationalDropout(LayerNorm(GRU(4)), 0.3), 0.1), 3)


# Embeddings, heads, activations


def test_embeddings_drawn_pretrained_and_frozen():
    tokens = jnp.array([[1, 2, 5], [0, 0, 3]])
    table = jax.random.normal(KEY, (V, D))
    for frozen in (False, True):
        layer = layers.Embed(V, D, layers.pretrained(table), frozen=frozen)
        variables = layer.init(KEY, tokens)
        assert list(variables) == (["constants"] if frozen else ["params"])
        got = layer.apply(variables, tokens, seq_lengths=jnp.array([3, 2]))
        assert np.array_equal(got[0], table[tokens[0]])
        assert not got[1, 2].any()
        logits = layer.apply(variables, got, method="attend")
        np.testing.assert_allclose(logits, got @ table.T, rtol=1e-6)
        slope = jax.grad(lambda v, m=layer: m.apply(v, tokens).sum())(variables)
        counts = jnp.bincount(tokens.ravel(), length=V)[:, None] * jnp.ones(D)
        assert np.array_equal(jax.tree.leaves(slope)[0], counts * (not frozen))
    drawn = layers.Embed(V, D).init(KEY, tokens)["params"]["embedding"]
    assert drawn.shape == (V, D) and 0.2 < float(drawn.std()) < 1
    traced = jax.jit(lambda t: layers.Embed(V, D).apply({"params": {"embedding": table}}, t))
    assert np.isnan(traced(jnp.array([V, -1]))).all()


def test_heads_against_scipy():
    outputs = jax.random.normal(KEY, (B, T, 4))
    labels = jax.random.randint(KEY, (B, T), 0, 4)
    want = -np.log(np.take_along_axis(scipy.special.softmax(outputs, -1), labels[..., None], -1))
    np.testing.assert_allclose(layers.SoftmaxHead.loss(outputs, labels), want[..., 0], rtol=1e-5)
    yes = (outputs > 0.3).astype(jnp.float32)
    want = -scipy.stats.bernoulli.logpmf(yes, scipy.special.expit(outputs)).sum(-1)
    np.testing.assert_allclose(layers.LogisticHead.loss(outputs, yes), want, rtol=1e-4)
    values = outputs[..., 2:]
    mean, log_variance = outputs[..., :2], outputs[..., 2:]
    want = -scipy.stats.norm.logpdf(values, mean, np.exp(log_variance / 2)).sum(-1)
    np.testing.assert_allclose(layers.GaussianHead.loss(outputs, values), want, rtol=1e-4)
    want = np.square(outputs - 1).mean(-1)
    np.testing.assert_allclose(layers.LinearHead.loss(outputs, jnp.ones_like(outputs)), want, 1e-5)


def test_heads_draw_from_what_they_say():
    one = jnp.array([0.3, -1.0, 0.5, 0.2])
    many = jnp.broadcast_to(one, (40000, 4))
    drawn = layers.SoftmaxHead.sample(many, key=KEY)
    shares = jnp.bincount(drawn, length=4) / len(drawn)
    np.testing.assert_allclose(shares, jax.nn.softmax(one), atol=0.01)
    assert layers.SoftmaxHead.mode(one) == 2
    drawn = layers.LogisticHead.sample(many, key=KEY)
    np.testing.assert_allclose(drawn.mean(0), jax.nn.sigmoid(one), atol=0.01)
    assert np.array_equal(layers.LogisticHead.mode(one), [1, 0, 1, 1])
    drawn = layers.GaussianHead.sample(many, key=KEY)
    np.testing.assert_allclose(drawn.mean(0), one[:2], atol=0.02)
    np.testing.assert_allclose(drawn.std(0), np.exp(one[2:] / 2), rtol=0.02)
    assert np.array_equal(layers.GaussianHead.mode(one), one[:2])
    assert np.array_equal(layers.LinearHead.sample(one, key=KEY), layers.LinearHead.mode(one))


def test_masked_mean():
    losses = jnp.arange(6.0).reshape(2, 3)
    assert layers.masked_mean(losses) == 2.5
    assert layers.masked_mean(losses.at[0, 2].set(jnp.nan), jnp.array([2, 1])) == 4 / 3
    assert layers.masked_mean(losses, jnp.array([0, 0])) == 0


def test_a_linear_network_is_one_linear_map(x64):
    """However deep: without a bend between them, matrices are one matrix."""
    xs = jax.random.normal(KEY, (B, D), jnp.float64)
    deep = models.OneToOne(layers.LinearHead(2), (5, 7, 4), cells.identity)
    variables = deep.init(KEY, xs)
    variables = jax.tree.map(lambda p: p + jax.random.normal(KEY, p.shape), variables)
    matrix, shift = jnp.eye(D), jnp.zeros(D)
    for name in ("hidden_0", "hidden_1", "hidden_2", "head"):
        layer = variables["params"][name]
        layer = layer.get("dense", layer)
        matrix, shift = matrix @ layer["kernel"], shift @ layer["kernel"] + layer["bias"]
    assert oracles.relative_error(deep.apply(variables, xs), xs @ matrix + shift) < 1e-14
    bent = deep.clone(activation_fn=jnp.tanh).apply(variables, xs)
    assert oracles.relative_error(bent, xs @ matrix + shift) > 0.1


def test_a_linear_recurrent_network_is_one_linear_map(x64):
    """y_T = sum_k U^k W x_{T-k}: a weighted sum of the past, whose weights are powers of U."""
    cell = Elman(H, activation_fn=cells.identity, param_dtype=jnp.float64)
    layer = Stack([RNN(cell), RNN(cell)])
    xs = XS.astype(jnp.float64)
    variables = layer.init(KEY, xs)
    first, second = (
        layer.layers[i].cell_params(variables["params"][f"layers_{i}"]) for i in range(2)
    )
    total = jnp.zeros((B, H))
    for t in range(T):
        for s in range(t, T):  # through layer one from t to s, through layer two from s to the end
            power = jnp.linalg.matrix_power
            weight = first.input_kernel @ power(first.recurrent_kernel, s - t)
            weight = weight @ second.input_kernel @ power(second.recurrent_kernel, T - 1 - s)
            total = total + xs[:, t] @ weight
    assert oracles.relative_error(layer.apply(variables, xs)[:, -1], total) < 1e-13


@pytest.mark.parametrize(
    ("phi", "want"),
    [
        (jnp.tanh, np.tanh),
        (jax.nn.relu, lambda a: np.maximum(a, 0)),
        (jax.nn.sigmoid, lambda a: 1 / (1 + np.exp(-a))),
        (cells.identity, lambda a: a),
    ],
)
def test_activations(phi, want):
    layer = RNN(Elman(H, activation_fn=phi))
    variables = layer.init(KEY, XS)
    w, u, b = layer.cell_params(variables["params"])
    h = np.zeros((B, H))
    for t in range(T):
        h = want(np.asarray(XS[:, t]) @ w + h @ np.asarray(u) + b)
    assert oracles.relative_error(layer.apply(variables, XS)[:, -1], h) < 1e-5


# Causality


def influence(layer, variables, xs):
    """Return `[T, T]`, whether output t depends on input s, by gradients."""
    slopes = jax.jit(jax.jacobian(lambda xs: layer.apply(variables, xs[None])[0]))(xs)
    return np.abs(np.asarray(slopes)).sum(axis=(1, 3)) > 0


def test_the_cnn_sees_its_receptive_field_and_no_more():
    layer = TCN(8, kernel_size=3, num_blocks=2)
    assert layer.receptive_field == 13
    xs = jax.random.normal(KEY, (20, D))
    lag = np.arange(20)[:, None] - np.arange(20)
    got = influence(layer, layer.init(KEY, xs[None]), xs)
    assert np.array_equal(got, (lag >= 0) & (lag < 13))


@pytest.mark.parametrize(("window", "reach"), [(1024, 12), (4, 7)])
def test_the_transformer_sees_the_past_in_its_window(window, reach):
    layer = Transformer(4, num_heads=2, window=window)
    xs = jax.random.normal(KEY, (12, D))
    lag = np.arange(12)[:, None] - np.arange(12)
    got = influence(layer, layer.init(KEY, xs[None]), xs)
    assert np.array_equal(got, (lag >= 0) & (lag < reach))


def test_the_transformers_attention_weights():
    layer = Transformer(8, num_heads=2, num_layers=1)
    variables = layer.init(KEY, XS)
    options = {"seq_lengths": LENGTHS, "mutable": ["intermediates"]}
    _, state = layer.apply(variables, XS, **options)
    (weights,) = state["intermediates"]["weights_0"]
    assert weights.shape == (B, 2, T, T)
    np.testing.assert_allclose(weights.sum(-1), np.ones((B, 2, T)), rtol=1e-5)
    assert not np.triu(weights, 1).any()


# Where they run


@pytest.fixture
def fast_calls(monkeypatch):
    module = sys.modules["rnnjax.recurrence.sequential"]
    calls = []
    original = module.fast_scan
    monkeypatch.setattr(
        module, "fast_scan", lambda cell, *a, **o: calls.append(cell) or original(cell, *a, **o)
    )
    module._unroll.clear_cache()
    yield calls
    module._unroll.clear_cache()


def test_every_layer_takes_the_fast_path_where_its_cell_does(fast_calls):
    for name, count in {"rnn": 1, "learned_carry": 1, "bidirectional": 2, "deep": 2}.items():
        fast_calls.clear()
        layer = recurrent(GRU(5))[name]
        variables = jax.eval_shape(layer.init, KEY, XS)
        sys.modules["rnnjax.recurrence.sequential"]._unroll.clear_cache()
        fast_calls.clear()
        jax.eval_shape(lambda v, m=layer: m.apply(v, XS, seq_lengths=LENGTHS), variables)
        # Layers of the same shape share one trace.
        assert 1 <= len(fast_calls) <= count and set(fast_calls) == {GRU(5)}, name


@pytest.mark.parametrize(
    "name", ["lstm rnn", "lstm deep_bidirectional", "layer_norm", "tcn", "transformer"]
)
def test_a_batch_can_be_split_over_devices(name):
    layer = architectures.LAYERS[name]
    xs = jax.random.normal(KEY, (16, T, D))
    n = jnp.arange(16) % (T + 1)
    variables = layer.init(KEY, xs)

    @jax.jit
    def gradient(variables, xs, n):
        return jax.value_and_grad(
            lambda v: weighted_sum(layer.apply(v, xs, seq_lengths=n)), allow_int=True
        )(variables)

    want = gradient(variables, xs, n)
    mesh = training.batch_mesh()
    assert mesh.size == 2
    spec = jax.sharding.PartitionSpec("batch")
    with jax.set_mesh(mesh):
        split = jax.device_put((xs, n), jax.NamedSharding(mesh, spec))
        got = gradient(variables, *split)
    assert oracles.relative_error(got, want) < 1e-5


@pytest.mark.parametrize("name", architectures.LAYERS)
def test_bfloat16_with_float32_carries(name):
    layer = in_bfloat16(architectures.LAYERS[name])
    variables = layer.init(KEY, XS)
    assert {a.dtype for a in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    want = architectures.LAYERS[name].apply(variables, XS, seq_lengths=LENGTHS)
    for xs in (XS, XS.astype(jnp.bfloat16)):
        carry, ys = layer.apply(variables, xs, seq_lengths=LENGTHS, return_carry=True)
        valid = (jnp.arange(T) < LENGTHS[:, None])[..., None]
        assert oracles.relative_error(jnp.where(valid, ys, 0).astype(jnp.float32), want) < 0.05
        if name not in ("tcn", "transformer"):
            floats = [a.dtype for a in jax.tree.leaves(carry)]
            assert set(floats) == {jnp.dtype("float32")}


def in_bfloat16(module):
    """Return a layer whose matmuls are in bfloat16."""
    if isinstance(module, RNN):
        return module.clone(cell=low(module.cell))
    if isinstance(module, Bidirectional):
        ends = (in_bfloat16(m) for m in (module.forward_rnn, module.backward_rnn))
        return module.clone(**dict(zip(("forward_rnn", "backward_rnn"), ends, strict=True)))
    if isinstance(module, Stack):
        return module.clone(layers=[in_bfloat16(m) for m in module.layers])
    return module.clone(dtype=jnp.bfloat16)


def low(cell):
    if hasattr(cell, "cell"):
        return dataclasses.replace(cell, cell=low(cell.cell))
    return dataclasses.replace(cell, dtype=jnp.bfloat16)


# Other people's code


@pytest.mark.slow
def test_a_users_cell_works_in_every_layer_and_model():
    cell = CELLS["leaky"]
    tokens = jax.random.randint(KEY, (B, T), 0, V)
    apart = "reversed", "learned_carry", "zoneout", "deep", "deep_bidirectional"
    trials = {name: (recurrent(cell)[name], (XS,)) for name in apart}
    trials |= {n: (m, (tokens,)) for n, m in architectures.sequence_models(cell).items()}
    trials |= {n: (m, (tokens, tokens)) for n, m in architectures.translators(cell).items()}
    for name, (module, inputs) in trials.items():

        @jax.jit
        def largest(key, module=module, inputs=inputs):
            def loss(params):
                ys = module.apply({"params": params}, *inputs, seq_lengths=LENGTHS)
                return weighted_sum(ys)

            gradient = jax.grad(loss)(module.init(key, *inputs)["params"])
            return jnp.stack([jnp.abs(g).max() for g in jax.tree.leaves(gradient)])

        norms = largest(KEY)
        assert np.isfinite(norms).all() and norms.min() > 0, name


def test_nnx_users_can_wrap_a_layer():
    layer = Stack([Bidirectional(RNN(GRU(H)), RNN(GRU(H))), RNN(LSTM(H))], dropout_rate=0.2)
    model = nnx.bridge.lazy_init(nnx.bridge.ToNNX(layer, rngs=nnx.Rngs(0)), XS)
    want = layer.init(KEY, XS)
    shapes = sorted(p.shape for p in jax.tree.leaves(nnx.state(model, nnx.Param)))
    assert shapes == sorted(p.shape for p in jax.tree.leaves(want))

    @nnx.jit
    def train_step(model, optimizer):
        def loss(model):
            return (model(XS, seq_lengths=LENGTHS, deterministic=True) ** 2).mean()

        value, gradient = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradient)
        return value

    optimizer = nnx.Optimizer(model, optax.adam(0.1), wrt=nnx.Param)
    losses = [float(train_step(model, optimizer)) for _ in range(5)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.5 * losses[0]


# What is refused


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


def run(layer, n=None, **options):
    variables = layer.init(KEY, XS)
    return layer.apply(variables, XS, seq_lengths=n, return_carry=True, **options)


def test_the_two_directions_are_two_layers():
    one = RNN(GRU(H))
    with pytest.raises(ValueError, match="must be two layers, got one twice"):
        Bidirectional(one, one).init(KEY, XS)
    both = Stack([Bidirectional(RNN(GRU(H)), RNN(GRU(H)), jnp.add)] * 2, residual=True)
    xs = jnp.zeros((B, T, H))
    carry, ys = both.apply(both.init(KEY, xs), xs, return_carry=True)
    with pytest.raises(ValueError, match="bidirectional layer with residual has no last state"):
        both.final_output(carry, ys)


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


def test_what_models_refuse():
    backwards = models.ManyToMany(Stack([RNN(GRU(H), reverse=True)]), layers.LinearHead(1))
    with pytest.raises(ValueError, match="reads from the end cannot go on step by step"):
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
