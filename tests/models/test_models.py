"""Models against the same computation written out: loops, brute force, enumeration."""

import functools
import itertools

import architectures
import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest
from architectures import CELLS, D, H, V, weighted_sum
from jax import lax

import rnnjax
from rnnjax import GRU, LSTM, Elman, cells, decoding, layers, models
from rnnjax.cells import LSTMCarry
from rnnjax.layers import RNN, TCN, Bidirectional, Stack, Transformer

KEY = jax.random.key(0)
B, T = 3, 5
LENGTHS = (T, 2, 0)
N = jnp.array(LENGTHS)
VALID = np.arange(T) < np.array(LENGTHS)[:, None]
TARGETS = jnp.array([4, 2, 0])
normal = jax.nn.initializers.normal(1.0)


def random_tokens(*shape, size=V):
    return np.random.default_rng(0).integers(0, size, shape, np.int32)


def random_values(*shape, scale=1.0, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(0, scale, shape), jnp.float32)


XS, CONTEXT = random_values(B, T, D), random_values(B, 2)
TOKENS, PREVIOUS = map(jnp.asarray, np.split(random_tokens(B, T + 4), [T], 1))


def params_of(model, *inputs, scale=0.5, **options):
    """Return parameters none of which is zero, biases included."""
    shapes = jax.eval_shape(functools.partial(model.init, **options), KEY, *inputs)["params"]
    leaves, structure = jax.tree.flatten(shapes)
    pairs = enumerate(leaves)
    return structure.unflatten([random_values(*a.shape, scale=scale, seed=i) for i, a in pairs])


def with_gradients(run, *inputs):
    """Return `run(*inputs)` and the gradients, with respect to all inputs, of a sum over it."""

    def loss(inputs):
        values = run(*inputs)
        return weighted_sum(values), values

    return jax.grad(loss, has_aux=True)(inputs)


def check_equal(run, hands, *inputs):
    """Compare a function of pytrees with others, leaf by leaf, in values and gradients."""
    every = jax.jit(lambda *inputs: [with_gradients(f, *inputs) for f in (run, *hands)])
    (gradients, values), *wanted = jax.device_get(every(*inputs))
    for wanted_gradients, wanted_values in wanted:
        assert jax.tree.structure(values) == jax.tree.structure(wanted_values)
        close((values, gradients), (wanted_values, wanted_gradients), 1e-4)
    return values, gradients


def close(got, want, tolerance=1e-5):
    """Compare leaf by leaf, each with its largest value, or a hundredth of that of all."""
    pairs = jax.tree.leaves_with_path(got), jax.tree.leaves(want)
    largest = max(np.max(np.abs(b), initial=0) for b in pairs[1])
    for (path, a), b in zip(*pairs, strict=True):
        assert np.shape(a) == np.shape(b)
        scale = max(np.max(np.abs(b), initial=0), largest / 100) or 1
        apart = np.max(np.abs(np.asarray(a) - np.asarray(b)), initial=0)
        assert apart < tolerance * scale, f"{jax.tree_util.keystr(path)} by {apart / scale:.1e}"


def dense(params, xs):
    """Return the linear map of a `Dense`, or of a head."""
    params = params.get("dense", params)
    return xs @ params["kernel"] + params.get("bias", 0)


def loop(cell, params, xs, carry=None):
    """Return the outputs `[T+1, B, H]` of the carries before, between and after the steps."""
    carry = cell.initial_carry(xs.shape[:1]) if carry is None else carry

    def step(carry, x):
        carry = cell.step(params, carry, cell.project(params, x))
        return carry, cell.output(carry)

    _, ys = lax.scan(step, carry, jnp.swapaxes(xs, 0, 1))
    return jnp.concatenate([cell.output(carry)[None], ys])


def at_end(outputs):
    """Return, of `[T+1, B, H]`, what each sequence ends with."""
    return outputs[N, np.arange(B)]


def own(cell, params):
    return RNN(cell).cell_params(params)


# One to one


def test_the_perceptron_by_hand():
    model = models.OneToOne(layers.LinearHead(2), (4, 5))
    params = params_of(model, XS)

    def hand(params, xs):
        for name in ("hidden_0", "hidden_1"):
            xs = jnp.tanh(dense(params[name], xs))
        return dense(params["head"], xs)

    def both(params, xs):
        padded = jnp.where(VALID[..., None], xs, jnp.nan)
        variables = {"params": params}
        return model.apply(variables, xs), model.apply(variables, padded, seq_lengths=N)

    def both_by_hand(params, xs):
        return hand(params, xs), jnp.where(VALID[..., None], hand(params, xs), 0)

    (values, _), _ = check_equal(both, [both_by_hand], params, XS)
    weights = jax.device_get(params)
    for b, t in itertools.product(range(B), range(T)):
        h = np.asarray(XS[b, t], float)
        for name in ("hidden_0", "hidden_1"):
            kernel, bias = weights[name]["kernel"], weights[name]["bias"]
            h = [sum(h[i] * kernel[i, j] for i in range(len(h))) for j in range(len(bias))] + bias
            h = np.tanh(h)
        want = h @ weights["head"]["dense"]["kernel"] + weights["head"]["dense"]["bias"]
        np.testing.assert_allclose(values[b, t], want, rtol=1e-4, atol=1e-6)


def test_the_perceptron_reads_tokens_and_not_their_padding():
    model = models.OneToOne(layers.SoftmaxHead(2), (4,), jnp.sin, architectures.embed())
    params = params_of(model, TOKENS)
    garbage = np.where(VALID, TOKENS, V + 7)

    def run(params):
        return model.apply({"params": params}, garbage, seq_lengths=N)

    def hand(params):
        rows = params["embed"]["embedding"][TOKENS]
        ys = dense(params["head"], jnp.sin(dense(params["hidden_0"], rows)))
        return jnp.where(VALID[..., None], ys, 0)

    check_equal(run, [hand], params)


# Many to one


def rnn_reads(params, xs):
    start = {k: jnp.tile(a, (B, 1)) for k, a in params["initial_carry"].items()}
    return at_end(loop(LSTM(H), own(LSTM(H), params), xs, LSTMCarry(**start)))


def bidirectional_reads(params, xs):
    cell = Elman(H)
    backwards = [jnp.concatenate([x[:n][::-1], x[n:]]) for x, n in zip(xs, LENGTHS, strict=True)]
    ahead = loop(cell, own(cell, params["forward_rnn"]), xs)
    behind = loop(cell, own(cell, params["backward_rnn"]), jnp.stack(backwards))
    return jnp.concatenate([at_end(ahead), at_end(behind)], -1)


def two_layers(params, xs):
    cell = Elman(H)
    first = loop(cell, own(cell, params["layers_0"]), xs)
    return first, loop(cell, own(cell, params["layers_1"]), jnp.swapaxes(first[1:], 0, 1))


def stack_reads(params, xs):
    return at_end(two_layers(params, xs)[1])


def residual_reads(params, xs):
    first, second = two_layers(params, xs)
    return at_end(first + second)


def causal(layer):
    """Return how the last valid output is found in those of all steps, which see the past alone."""

    def read(params, xs):
        ys = layer.apply({"params": params}, xs)
        return jnp.stack(
            [y[n - 1] if n else jnp.zeros(H) for y, n in zip(ys, LENGTHS, strict=True)]
        )

    return read


TCN_LAYER, TRANSFORMER = TCN(H, num_blocks=1), Transformer(H, num_heads=2, num_layers=1)
READERS = {
    "rnn": (RNN(LSTM(H), initial_carry_init=normal), rnn_reads),
    "bidirectional": (Bidirectional(RNN(Elman(H)), RNN(Elman(H))), bidirectional_reads),
    "stack": (Stack([RNN(Elman(H)), RNN(Elman(H))]), stack_reads),
    "residual": (Stack([RNN(Elman(H)), RNN(Elman(H))], residual=True), residual_reads),
    "tcn": (TCN_LAYER, causal(TCN_LAYER)),
    "transformer": (TRANSFORMER, causal(TRANSFORMER)),
}


@pytest.mark.parametrize("name", READERS)
def test_the_last_state_is_where_each_sequence_ends(name):
    layer, read = READERS[name]
    model = models.ManyToOne(layer, layers.LinearHead(2))
    params = params_of(model, XS)

    def hand(params, xs):
        return dense(params["head"], read(params["layer"], xs))

    def run(params, xs):
        xs = jnp.where(VALID[..., None], xs, jnp.nan)
        return model.apply({"params": params}, xs, seq_lengths=N)

    values, gradients = check_equal(run, [hand], params, XS)
    assert not gradients[1][~VALID].any()
    nothing = params["head"]["dense"]["bias"]
    assert (oracles.relative_error(values[2], nothing) > 0.1) == (name == "rnn")


def mean_by_hand(params, hs, valid):
    del params
    return (hs * valid).sum(1) / jnp.maximum(valid.sum(1), 1)


def attention_by_hand(params, hs, valid):
    scores = jnp.tanh(dense(params["key"], hs)) @ params["score"]["kernel"]
    weights = jnp.exp(scores) * valid
    return (weights * hs).sum(1) / jnp.where(valid.any(1), weights.sum(1), 1)


def users_pooling(outputs, final, seq_lengths):
    """The greatest and the last of every output."""
    there = jnp.arange(outputs.shape[-2]) < seq_lengths[:, None]
    greatest = jnp.where(there[..., None], outputs, -2).max(-2)
    return jnp.concatenate([greatest, final()], -1)


def users_by_hand(params, hs, valid):
    del params
    greatest = functools.reduce(jnp.maximum, jnp.swapaxes(jnp.where(valid, hs, -2), 0, 1))
    lasts = [h[n - 1] if n else jnp.zeros(H) for h, n in zip(hs, LENGTHS, strict=True)]
    return jnp.concatenate([greatest, jnp.stack(lasts)], -1)


POOLINGS = {
    "mean": (layers.mean_state, mean_by_hand),
    "attention": (layers.AttentionPooling(3), attention_by_hand),
    "users": (users_pooling, users_by_hand),
}


@pytest.mark.parametrize("name", POOLINGS)
def test_poolings_by_hand(name):
    pooling, pool = POOLINGS[name]
    model = models.ManyToOne(RNN(Elman(H)), layers.LinearHead(2), pooling=pooling)
    params = params_of(model, XS, seq_lengths=N)
    every = () if name == "users" else (jnp.ones_like(VALID),)  # without lengths all steps count

    def run(params, xs):
        found = [model.apply({"params": params}, xs, seq_lengths=N)]
        return found + [model.apply({"params": params}, xs) for _ in every]

    def hand(params, xs):
        hs = jnp.swapaxes(loop(Elman(H), own(Elman(H), params["layer"]), xs)[1:], 0, 1)
        pooled = [pool(params.get("pooling"), hs, v[..., None]) for v in (jnp.array(VALID), *every)]
        return [dense(params["head"], a) for a in pooled]

    check_equal(run, [hand], params, XS)


# Many to many


def language_model():
    layer = RNN(LSTM(H), initial_carry_init=normal)
    return models.ManyToMany(layer, layers.SoftmaxHead(V), architectures.embed())


def test_steps_are_the_whole_and_no_step_is_the_start():
    model = language_model()
    params = params_of(model, TOKENS)

    def apply(params, *inputs, **options):
        return model.apply({"params": params}, *inputs, **options)

    def empty(params):
        start, nothing = apply(params, TOKENS[:, :0], return_carry=True)
        assert nothing.shape == (B, 0, V)
        return start

    def whole(params):
        return empty(params), apply(params, TOKENS, return_carry=True)

    def stepped(params):
        start = empty(params)
        step = functools.partial(apply, params, method="step")
        carry, logits = lax.scan(step, start, TOKENS.T)
        return start, (carry, jnp.swapaxes(logits, 0, 1))

    def by_hand(params):
        layer = params["layer"]
        start = LSTMCarry(**{k: jnp.tile(a, (B, 1)) for k, a in layer["initial_carry"].items()})
        xs = params["embed"]["embedding"][TOKENS.T]
        carry, ys = rnnjax.unroll(LSTM(H), own(LSTM(H), layer), xs, start)
        return start, (carry, dense(params["head"], jnp.swapaxes(ys, 0, 1)))

    check_equal(whole, [stepped, by_hand], params)


def test_generation_is_a_loop_of_argmax():
    model, length, first = language_model(), 6, np.array([1, 4, 0])
    params = params_of(model, TOKENS, scale=1.0)
    whole = jax.jit(lambda p, tokens: model.apply({"params": p}, tokens))

    @jax.jit
    def generated(params, first):
        variables = {"params": params}
        carry, _ = model.apply(variables, first[:, None][:, :0], return_carry=True)
        return decoding.greedy(
            lambda c, x: model.apply(variables, c, x, method="step"), carry, first, length=length
        )

    tokens, log_probs = generated(params, first)
    text, total = np.zeros((B, length + 1), np.int32), np.zeros(B)
    text[:, 0] = first
    for t in range(length):  # what stands behind t is not seen
        scores = np.asarray(jax.nn.log_softmax(whole(params, text[:, :length])[:, t]))
        text[:, t + 1] = scores.argmax(-1)
        total += scores.max(-1)
    assert np.array_equal(tokens, text[:, 1:]) and len(np.unique(text)) > 2
    np.testing.assert_allclose(log_probs, total, rtol=1e-5)


# One to many


def starts_by_hand(params, context, cell):
    """Return the cell's initial carry with tanh(W context + b) in the place of every float."""
    leaves, structure = jax.tree.flatten(cell.initial_carry(context.shape[:1]))
    return structure.unflatten(
        [
            jnp.tanh(dense(params[f"start_{i}"], context)) if leaf.dtype == jnp.float32 else leaf
            for i, leaf in enumerate(leaves)
        ]
    )


DECODERS = {
    "lstm": (LSTM(H), layers.SoftmaxHead(V), True),
    "leaky": (CELLS["leaky"], layers.SoftmaxHead(V), True),
    "linear": (Elman(H), layers.LinearHead(2), False),
    "gaussian": (GRU(H), layers.GaussianHead(2), False),
}


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_by_hand_and_step_by_step(name):
    cell, head, speaks = DECODERS[name]
    model = models.OneToMany(RNN(cell), head, architectures.embed() if speaks else None)
    previous = PREVIOUS if speaks else random_values(*PREVIOUS.shape, 2)
    params = params_of(model, CONTEXT, previous)
    valid = jnp.arange(4) < TARGETS[:, None]
    there = valid if speaks else valid[..., None]

    def forced(params, context):
        variables, garbage = {"params": params}, V + 9 if speaks else jnp.nan
        padded = jnp.where(there, previous, garbage)
        outputs = model.apply(variables, context, padded, seq_lengths=TARGETS)
        return model.apply(variables, context, method="start"), outputs

    def stepped(params, context):
        start = model.apply({"params": params}, context, method="start")
        step = functools.partial(model.apply, {"params": params}, method="step")
        _, outputs = lax.scan(step, start, jnp.swapaxes(previous, 0, 1))
        return start, jnp.where(valid[..., None], jnp.swapaxes(outputs, 0, 1), 0)

    def by_hand(params, context):
        start = starts_by_hand(params, context, cell)
        xs = params["embed"]["embedding"][previous] if speaks else previous
        hs = loop(cell, own(cell, params["layer"]), xs, start)[1:]
        outputs = jnp.where(valid[..., None], dense(params["head"], jnp.swapaxes(hs, 0, 1)), 0)
        return models.DecoderState(start), outputs

    values, _ = check_equal(forced, [by_hand, stepped], params, CONTEXT)
    if name == "leaky":
        age = values[0].carry.age
        assert age.dtype == jnp.int32 and not age.any()
        assert "start_0" not in params and "start_1" in params


def test_a_start_for_every_part_of_every_carry():
    """Layers in their order, and their parts in order."""
    layer = Stack([RNN(LSTM(H)), RNN(CELLS["leaky"])])
    model = models.OneToMany(layer, layers.SoftmaxHead(V), architectures.embed())
    params = params_of(model, CONTEXT, PREVIOUS)
    state = model.apply({"params": params}, CONTEXT, method="start")
    assert {k for k in params if "start" in k} == {"start_0", "start_1", "start_3"}
    numbers = jnp.tanh(dense(params["start_0"], CONTEXT))
    close(state.carry[0].c, numbers)
    close(state.carry[0].h, jnp.tanh(dense(params["start_1"], CONTEXT)))
    close(state.carry[1].potential, jnp.tanh(dense(params["start_3"], CONTEXT)))
    assert np.array_equal(state.carry[1].age, np.zeros(B, np.int32))


class Shaped(architectures.Leaky):
    """A cell whose carry has one number, and a matrix, for each example."""

    def initial_carry(self, batch_shape):
        return jnp.zeros(batch_shape), jnp.zeros((*batch_shape, 2, self.features))

    def step(self, params, carry, u):
        number, matrix = carry
        u = u[..., None, :] + number[..., None, None]
        return number / 2, jnp.tanh(u + matrix @ params.feedback)

    def output(self, carry):
        return carry[1].sum(-2) + carry[0][..., None]


def test_a_start_of_one_number_and_of_a_matrix():
    cell = Shaped(H)
    model = models.OneToMany(RNN(cell), layers.SoftmaxHead(V), architectures.embed())
    params = params_of(model, CONTEXT, PREVIOUS)

    def forced(params, context):
        return model.apply({"params": params}, context, PREVIOUS)

    def by_hand(params, context):
        matrix = jnp.tanh(dense(params["start_1"], context)).reshape(B, 2, H)
        start = jnp.tanh(dense(params["start_0"], context))[:, 0], matrix
        xs = params["embed"]["embedding"][PREVIOUS]
        hs = loop(cell, own(cell, params["layer"]), xs, start)[1:]
        return dense(params["head"], jnp.swapaxes(hs, 0, 1))

    check_equal(forced, [by_hand], params, CONTEXT)


def test_real_values_are_generated_from_what_was_drawn():
    head = layers.GaussianHead(2)
    model = models.OneToMany(RNN(LSTM(H)), head)
    first, length = random_values(B, 2), 4
    params = params_of(model, CONTEXT, first[:, None])
    variables = {"params": params}

    @jax.jit
    def generated(variables, key):
        state = model.apply(variables, CONTEXT, method="start")
        return decoding.generate(
            lambda s, x: model.apply(variables, s, x, method="step"),
            state,
            first,
            length=length,
            choose=lambda key, outputs: head.sample(outputs, key=key),
            key=key,
        )

    got = generated(variables, KEY)
    said, forced = [first], jax.jit(functools.partial(model.apply, variables))
    for t, key in enumerate(jax.random.split(KEY, length)):
        whole = jnp.stack(said + [first] * (length - t - 1), 1)
        mean, log_variance = jnp.split(forced(CONTEXT, whole)[:, t], 2, -1)
        said.append(mean + jnp.exp(log_variance / 2) * jax.random.normal(key, (B, 2)))
    close(got, jnp.stack(said[1:], 1))


def test_memory_and_attention_belong_together():
    plain = models.OneToMany(RNN(GRU(H)), layers.SoftmaxHead(V), architectures.embed())
    looking = plain.clone(attention=layers.DotProductAttention(3))
    for model, options in ((plain, {"memory": XS}), (looking, {})):
        for method, inputs in (("start", (CONTEXT,)), ("__call__", (CONTEXT, PREVIOUS))):
            with pytest.raises(ValueError, match="memory is given if and only if .* attention"):
                model.init(KEY, *inputs, method=method, **options)


# Encoder and decoder


def additive_scores(params, queries, keys):
    """e_ts = v . tanh(W q_t + b + U k_s)."""
    q, k = dense(params["query"], queries), dense(params["key"], keys)
    return jnp.tanh(q[:, None] + k[None]) @ params["score"]["kernel"][:, 0]


def dot_product_scores(params, queries, keys):
    """e_ts = (W q_t) . (U k_s) / sqrt(3)."""
    return dense(params["query"], queries) @ dense(params["key"], keys).T / 3**0.5


def translation(cell, scores):
    """Return an encoder-decoder written out: padding is cut off, not masked."""

    def run(params, lengths=LENGTHS, tokens=TOKENS, previous=PREVIOUS):
        encoder, decoder = params["encoder"], params["decoder"]
        xs = params["embed"]["embedding"][tokens.T]
        final, memory = rnnjax.unroll(cell, own(cell, encoder), xs, seq_lengths=jnp.array(lengths))
        start = starts_by_hand(decoder, cell.output(final), cell)
        ys = decoder["embed"]["embedding"][previous.T]
        _, hs = rnnjax.unroll(cell, own(cell, decoder["layer"]), ys, start)
        outputs, weights = [], []
        for b, n in enumerate(lengths):
            queries, keys = hs[:, b], memory[:n, b]
            if scores is not None:
                w = jnp.zeros((len(queries), T))
                if n:
                    e = jnp.exp(scores(decoder["attention"], queries, keys))
                    w = w.at[:, :n].set(e / e.sum(-1, keepdims=True))
                weights.append(w)
                both = jnp.concatenate([w[:, :n] @ keys, queries], -1)
                queries = jnp.tanh(dense(decoder["attended"], both))
            outputs.append(dense(decoder["head"], queries))
        return jnp.stack(outputs), jnp.stack(weights) if weights else ()

    return run


def translator(attention=None, cell=LSTM, vocabulary=V, features=H):
    def embed():
        return layers.Embed(vocabulary, D)

    head = layers.SoftmaxHead(vocabulary)
    decoder = models.OneToMany(RNN(cell(features)), head, embed(), attention)
    return models.EncoderDecoder(RNN(cell(features)), decoder, embed())


ATTENTIONS = {
    "none": (LSTM, None, None),
    "additive": (Elman, layers.AdditiveAttention(3), additive_scores),
    "dot_product": (Elman, layers.DotProductAttention(3), dot_product_scores),
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_an_encoder_and_decoder_by_hand_and_step_by_step(name):
    kind, attention, scores = ATTENTIONS[name]
    model = translator(attention, kind)
    params = params_of(model, TOKENS, PREVIOUS, scale=1.0)
    hand, options = translation(kind(H), scores), {"seq_lengths": N}
    ends = TARGETS if attention else jnp.full(B, 4)
    valid = (jnp.arange(4) < ends[:, None])[..., None]
    garbage = jnp.where(valid[..., 0], PREVIOUS, -1)

    def answer(params, *inputs, **given):
        """Return what `apply` does, and the attention's weights."""
        found, state = model.apply({"params": params}, *inputs, mutable=["intermediates"], **given)
        return found, state["intermediates"]["decoder"]["attention"]["weights"][0]

    def forced(params):
        if not attention:
            return model.apply({"params": params}, TOKENS, PREVIOUS, **options)
        outputs, weights = answer(params, TOKENS, garbage, target_lengths=ends, **options)
        return outputs, jnp.where(valid, weights, 0)

    def stepped(params):
        def step(state, previous):
            given = {"method": "step"}
            if not attention:
                return model.apply({"params": params}, state, previous, **given)
            (state, outputs), weights = answer(params, state, previous, **given)
            return state, (outputs, weights[:, 0])

        start = model.apply({"params": params}, TOKENS, method="start", **options)
        _, found = lax.scan(step, start, PREVIOUS.T)
        return jax.tree.map(lambda a: jnp.where(valid, jnp.swapaxes(a, 0, 1), 0), found)

    def written_out(params):
        outputs, weights = hand(params)
        outputs = jnp.where(valid, outputs, 0)
        return (outputs, jnp.where(valid, weights, 0)) if attention else outputs

    values, _ = check_equal(forced, [written_out, stepped], params)
    if attention:
        weights = values[1]
        there = np.asarray(valid) & VALID[:, None]
        assert not weights[~there].any() and (weights[there] > 0).all()
        np.testing.assert_allclose(weights.sum(-1), there.any(-1), rtol=1e-6)
        assert weights[0].std(0).max() > 0.01  # it looks at other steps at other times


def test_a_wide_beam_over_a_memory_is_exhaustive():
    """Sources of different lengths; every sequence is scored by teacher forcing."""
    size, length, end, first = 3, 3, 2, 1
    model = translator(layers.AdditiveAttention(3), Elman, size)
    sources, lengths = TOKENS[:2] % size, np.array([T, 2])
    params = params_of(model, sources, PREVIOUS[:2] % size, scale=1.5)
    sequences = np.array(list(itertools.product(range(size), repeat=length)))
    ends = np.array([s.index(end) + 1 if end in s else length for s in sequences.tolist()])
    counted = np.arange(length) < ends[:, None]
    canonical = [tuple(s) for s in np.where(counted, sequences, end).tolist()]

    @jax.jit
    def everything(params, lengths):
        variables, count = {"params": params}, len(sequences)
        previous = jnp.tile(models.shift_right(jnp.asarray(sequences), first), (2, 1))
        many, n = jnp.repeat(sources, count, 0), jnp.repeat(lengths, count)
        logits = model.apply(variables, many, previous, seq_lengths=n)
        scores = jax.nn.log_softmax(logits).reshape(2, count, length, size)
        chosen = jnp.take_along_axis(scores, sequences[None, ..., None], -1)[..., 0]
        state = model.apply(variables, sources, seq_lengths=lengths, method="start")
        step = functools.partial(model.apply, variables, method="step")
        options = {"length": length, "end": end}
        beam = decoding.beam_search(step, state, first, beam_width=15, **options)
        greedy = decoding.greedy(step, state, first, **options)
        return jnp.where(counted, chosen, 0).sum(-1), scores, beam, greedy

    totals, scores, beam, (chosen, total) = jax.device_get(everything(params, lengths))
    orders = []
    for b in range(2):
        want = dict(zip(canonical, totals[b].tolist(), strict=True))
        orders.append(sorted(want, key=lambda k, want=want: -want[k]))
        assert len(want) == 15
        assert [tuple(s) for s in beam[0][b].tolist()] == orders[b]
        np.testing.assert_allclose(beam[1][b], [want[k] for k in orders[b]], rtol=1e-4)
        assert np.array_equal(beam[2][b], ends[[canonical.index(k) for k in orders[b]]])
        said = []
        while len(said) < length and end not in said:  # the likeliest after what was said
            row = sequences.tolist().index(said + [0] * (length - len(said)))
            said.append(int(scores[b, row, len(said)].argmax()))
        said += [end] * (length - len(said))
        assert chosen[b].tolist() == said
        np.testing.assert_allclose(total[b], want[tuple(said)], rtol=1e-4)
    assert orders[0] != orders[1]
    read_all = jax.device_get(everything(params, np.array([T, T])))[0]
    assert oracles.relative_error(read_all[1], totals[1]) > 0.01  # the length of a source matters
    close(read_all[0], totals[0])


@pytest.mark.parametrize("lengths", [list(LENGTHS), np.array(LENGTHS), None])
def test_lengths_are_arrays_of_the_state_however_given(lengths):
    model = translator(layers.DotProductAttention(3), Elman)
    params = params_of(model, TOKENS, PREVIOUS)
    start = functools.partial(model.apply, seq_lengths=lengths, method="start")
    state = jax.eval_shape(start, {"params": params}, TOKENS)
    assert [a.shape[0] for a in jax.tree.leaves(state)] == [B] * 3
    assert state.memory_lengths.dtype == jnp.int32


# Scheduled sampling


def streams(seed):
    return dict(zip(("sampling", "choice"), jax.random.split(jax.random.key(seed)), strict=True))


def test_a_sampling_rate_of_zero_is_teacher_forcing():
    model = models.OneToMany(
        RNN(Elman(H)), layers.SoftmaxHead(V), architectures.embed(), layers.AdditiveAttention(3)
    )
    params = params_of(model, CONTEXT, PREVIOUS, memory=XS)
    valid = jnp.arange(4) < TARGETS[:, None]

    def run(previous, options, params, context, memory):
        options |= {"memory": memory, "memory_lengths": N, "seq_lengths": TARGETS}
        return model.apply({"params": params}, context, previous, **options)

    forced = functools.partial(run, PREVIOUS, {})
    options = {"sampling_rate": 0.0, "rngs": streams(0)}
    garbage = jnp.where(valid, PREVIOUS, V + 9)  # behind the end
    scheduled = functools.partial(run, garbage, options)
    check_equal(scheduled, [forced], params, CONTEXT, XS)


def test_a_sampling_rate_of_one_is_the_models_own_chain():
    model = translator(layers.AdditiveAttention(3), Elman)
    params = params_of(model, TOKENS, PREVIOUS)
    head = params["decoder"]["head"]["dense"]
    head["kernel"] = head["kernel"] * 1e6  # nothing is left to chance

    @jax.jit
    def everything(params, rate):
        variables = {"params": params}
        options = {"seq_lengths": N, "sampling_rate": rate, "rngs": streams(1)}
        free = model.apply(variables, TOKENS, PREVIOUS, **options)
        state = model.apply(variables, TOKENS, seq_lengths=N, method="start")
        step = functools.partial(model.apply, variables, method="step")
        said, _ = decoding.greedy(step, state, PREVIOUS[:, 0], length=4)
        chain = jnp.concatenate([PREVIOUS[:, :1], said[:, :-1]], 1)
        return free, said, model.apply(variables, TOKENS, chain, seq_lengths=N)

    free, said, chained = everything(params, 1.0)
    assert np.array_equal(free.argmax(-1), said)
    assert not np.array_equal(said[:, :-1], PREVIOUS[:, 1:])
    close(free, chained)


@pytest.fixture(scope="module")
def telltale():
    """A model that says one more than what it was fed: what it says tells what that was."""
    size = 32
    cell = Elman(size, activation_fn=cells.identity)
    params = cells.GatedParams(jnp.eye(size), jnp.zeros((size, size)), jnp.zeros(size))
    embed = layers.Embed(size, size)
    model = models.OneToMany(RNN(cell), layers.SoftmaxHead(size), embed)
    start = {"kernel": jnp.zeros((2, size)), "bias": jnp.zeros(size)}
    variables = {
        "embed": {"embedding": jnp.eye(size)},
        "layer": {"cell": params._asdict()},
        "head": {"dense": {"kernel": 1e4 * jnp.roll(jnp.eye(size), 1, 1), "bias": jnp.zeros(size)}},
        "start_0": start,
    }
    batch, total = 400, size - 1

    @jax.jit
    def fed(rate, rngs):
        inputs = jnp.zeros((batch, 2)), jnp.zeros((batch, total), jnp.int32)
        logits = model.apply({"params": variables}, *inputs, sampling_rate=rate, rngs=rngs)
        return logits.argmax(-1) - 1

    return fed


def test_what_is_fed_is_replaced_at_the_given_rate(telltale):
    for rate in (0.5, 0.2, 0.0, 1.0):
        fed = np.asarray(telltale(rate, streams(3)))
        assert not fed[:, 0].any()
        own, then = fed[:, 1:] != 0, fed[:, :-1]
        # A replaced token is what the model said a step earlier, one more than it was then fed.
        assert np.array_equal(fed[:, 1:], np.where(own, then + 1, 0))
        spread = (rate * (1 - rate) / own.size) ** 0.5
        assert abs(own.mean() - rate) <= 4 * spread
        if rate not in (0.0, 1.0):  # independently of each other, over time and over examples
            for apart in (own[:, 1:] & own[:, :-1], own[1:] & own[:-1]):
                assert abs(apart.mean() - rate**2) < 0.02
            columns, rows = own.mean(0), own.mean(1)
            assert np.ptp(columns) < 0.25 and 0.05 < rows.std() < 0.15
    assert telltale._cache_size() == 1  # a traced rate


def test_the_streams_decide_and_nothing_else(telltale):
    first, second = telltale(0.5, streams(3)), telltale(0.5, streams(4))
    assert np.array_equal(first, telltale(0.5, streams(3)))
    assert not np.array_equal(first, second)
    mixed = telltale(0.5, {"sampling": streams(3)["sampling"], "choice": streams(4)["choice"]})
    assert np.array_equal(first, mixed)  # nothing was left to choose


def test_what_is_drawn_is_drawn_from_the_head():
    """At rate one the second output is a function of the first draw: compare with its law."""
    size, many = 3, 4000
    cell = Elman(size, activation_fn=cells.identity)
    model = models.OneToMany(RNN(cell), layers.SoftmaxHead(size), layers.Embed(size, size))
    law = np.log(np.array([[0.2, 0.5, 0.3], [0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]))
    params = {
        "embed": {"embedding": np.eye(size)},
        "layer": {
            "cell": {
                "input_kernel": np.eye(size),
                "recurrent_kernel": np.zeros((size, size)),
                "bias": np.zeros(size),
            }
        },
        "head": {"dense": {"kernel": law, "bias": np.zeros(size)}},
        "start_0": {"kernel": np.zeros((1, size)), "bias": np.zeros(size)},
    }
    inputs = jnp.zeros((many, 1)), np.zeros((many, 3), np.int32)
    options = {"sampling_rate": 1.0, "rngs": streams(5)}
    logits = jax.jit(lambda p: model.apply({"params": p}, *inputs, **options))(params)
    close(logits[:, 0], np.tile(law[0], (many, 1)))
    fed = np.abs(np.asarray(logits)[:, :, None] - np.asarray(law)).sum(-1).argmin(-1)
    assert not fed[:, 0].any()
    chain = np.exp(law)
    np.testing.assert_allclose(np.bincount(fed[:, 1]) / many, chain[0], atol=0.03)
    np.testing.assert_allclose(np.bincount(fed[:, 2]) / many, chain[0] @ chain, atol=0.03)


def test_no_gradient_passes_through_what_was_drawn():
    model = models.OneToMany(RNN(CELLS["leaky"]), layers.LinearHead(2))
    previous = random_values(B, 4, 2)
    params = params_of(model, CONTEXT, previous)
    valid = (jnp.arange(4) < TARGETS[:, None])[..., None]

    def scheduled(params, context):
        padded = jnp.where(valid, previous, jnp.nan)
        options = {"seq_lengths": TARGETS, "sampling_rate": 1.0, "rngs": streams(0)}
        return model.apply({"params": params}, context, padded, **options)

    def stopped(params, context):
        def step(loop, _):
            state, outputs = model.apply({"params": params}, *loop, method="step")
            return (state, lax.stop_gradient(outputs)), outputs

        start = model.apply({"params": params}, context, method="start")
        _, outputs = lax.scan(step, (start, previous[:, 0]), None, 4)
        return jnp.where(valid, jnp.swapaxes(outputs, 0, 1), 0)

    check_equal(scheduled, [stopped], params, CONTEXT)


@pytest.mark.parametrize("missing", ["sampling", "choice"])
def test_a_missing_stream_is_named(missing):
    model = translator()
    variables = {"params": params_of(model, TOKENS, PREVIOUS)}
    rngs = {name: key for name, key in streams(0).items() if name != missing}
    run = functools.partial(model.apply, sampling_rate=0.5, rngs=rngs)
    with pytest.raises(flax.errors.InvalidRngError, match=f'needs PRNG for "{missing}"'):
        jax.eval_shape(lambda v: run(v, TOKENS, PREVIOUS), variables)


def test_initialisation_needs_no_streams_and_no_step_no_draw():
    model = translator(layers.AdditiveAttention(3))
    inputs = KEY, TOKENS, PREVIOUS
    scheduled = functools.partial(model.init, sampling_rate=0.5)
    variables = jax.eval_shape(scheduled, *inputs)
    assert jax.tree.structure(variables) == jax.tree.structure(jax.eval_shape(model.init, *inputs))
    for options in ({}, {"sampling_rate": 0.5, "rngs": streams(0)}):
        run = functools.partial(model.apply, **options)
        nothing = jax.eval_shape(lambda v, run=run: run(v, TOKENS, PREVIOUS[:, :0]), variables)
        assert nothing.shape == (B, 0, V)


# Connectionist temporal classification

K = 3  # classes, the blank among them
LABELLINGS = [  # labels as places among the two that are not the blank, and steps
    ((0, 1), 4),
    ((0, 0), 4),
    ((0, 0), 3),  # one path alone: a blank must stand between
    ((), 4),
    ((1,), 4),
    ((0, 1, 0), 4),
    ((1, 0, 1), 3),
    ((), 0),
    ((), 2),
    ((1, 1), 3),
    ((0,), 1),
]


def collapsed(path, blank):
    return tuple(k for k, _ in itertools.groupby(path) if k != blank)


def ctc_by_brute_force(logits, labels, lengths, blank):
    """Return -ln of the sum over all paths that collapse to the labels."""
    total = logits.shape[1]
    paths = list(itertools.product(range(K), repeat=total))
    counted = np.array(  # each path of n steps once: with nothing but zeros behind them
        [
            [collapsed(p[:n], blank) == wanted and not any(p[n:]) for p in paths]
            for wanted, n in zip(labels, lengths, strict=True)
        ]
    )
    chosen = jax.nn.log_softmax(logits)[:, np.arange(total), np.array(paths)]
    chosen = jnp.where((np.arange(total) < np.array(lengths)[:, None])[:, None], chosen, 0)
    return -jax.nn.logsumexp(chosen.sum(-1), axis=-1, where=counted)


def test_ctc_is_a_sum_over_alignments():
    blank = 1
    others = [k for k in range(K) if k != blank]
    labels = [tuple(others[place] for place in places) for places, _ in LABELLINGS]
    lengths = np.array([n for _, n in LABELLINGS])
    counts = np.array([len(places) for places in labels])
    padded = np.full((len(labels), 3), -7)
    for row, places in zip(padded, labels, strict=True):
        row[: len(places)] = places
    logits = random_values(len(labels), 4, K, scale=2.0)
    there = (np.arange(4) < lengths[:, None])[..., None]

    def run(logits):
        return models.ctc_loss(
            jnp.where(there, logits, jnp.nan),
            jnp.asarray(padded),
            seq_lengths=lengths,
            label_lengths=counts,
            blank=blank,
        )

    def hand(logits):
        return ctc_by_brute_force(logits, labels, lengths.tolist(), blank)

    values, (gradient,) = check_equal(run, [hand], logits)
    assert not gradient[~np.broadcast_to(there, gradient.shape)].any()
    nothing = LABELLINGS.index(((), 0))
    assert values[nothing] == 0 and not gradient[nothing].any()


def test_ctc_without_lengths_in_three_types(x64):
    labels = [(1, 2), (2, 2)]
    exact = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, K)))
    given = [exact.astype(d) for d in (jnp.bfloat16, jnp.float32, jnp.float64)]
    found, wanted = jax.jit(
        lambda given: (
            [models.ctc_loss(a, jnp.array(labels)) for a in given],
            [ctc_by_brute_force(a.astype(float), labels, (4, 4), 0) for a in given],
        )
    )(given)
    assert found[2].dtype == jnp.float64
    for got, want, tolerance in zip(found, wanted, (1e-5, 1e-5, 1e-13), strict=True):
        close(got, want, tolerance)


def test_a_labelling_that_does_not_fit():
    logits = random_values(3, 4, K)
    labels = jnp.array([[1, 1, 1], [1, 2, 1], [1, 2, 0]])
    found = jax.jit(models.ctc_loss)(
        logits, labels, seq_lengths=jnp.array([4, 2, 0]), label_lengths=jnp.array([3, 3, 2])
    )
    assert (found > 9e4).all() and np.isfinite(found).all()


def test_ctc_agrees_with_a_wide_beam():
    blank = 2
    logits = random_values(B, 4, K, scale=2.0)
    lengths = jnp.array([4, 2, 0])

    @jax.jit
    def both(logits):
        options = {"seq_lengths": lengths, "blank": blank}
        labels, log_probs, counts = decoding.ctc_beam_search(logits, beam_width=31, **options)
        every = [a.reshape(-1, *a.shape[2:]) for a in (labels, counts)]
        many, n = jnp.repeat(logits, 31, 0), jnp.repeat(lengths, 31)
        losses = models.ctc_loss(many, every[0], seq_lengths=n, label_lengths=every[1], blank=blank)
        return log_probs, losses.reshape(B, 31)

    log_probs, losses = both(logits)
    exists = np.isfinite(log_probs)
    count = sum(
        len({collapsed(p, blank) for p in itertools.product(range(K), repeat=n)})
        for n in lengths.tolist()
    )
    assert exists.sum() == count
    np.testing.assert_allclose(log_probs[exists], -losses[exists], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.exp(log_probs).sum(1), np.ones(B), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"seq_lengths": jnp.array([5, 1])}, ValueError, r"seq_lengths .* 0..T = 0..4, got 1..5"),
        ({"label_lengths": jnp.array([3, 1])}, ValueError, r"label_lengths .* 0..2, got 1..3"),
        ({"label_lengths": jnp.array([1])}, ValueError, r"label_lengths .* batch shape \(2,\)"),
        ({"seq_lengths": jnp.array([1.0, 2])}, TypeError, "seq_lengths must be integers"),
    ],
)
def test_wrong_lengths(options, error, message):
    with pytest.raises(error, match=message):
        models.ctc_loss(jnp.zeros((2, 4, K)), jnp.ones((2, 2), jnp.int32), **options)


# What was last said


def test_shift_right():
    tokens = jnp.array([[3, 1, 2], [4, 4, 0]])
    vectors = jnp.arange(12.0).reshape(2, 3, 2)

    @jax.jit
    def shifted(tokens, vectors):
        shift = models.shift_right
        found = shift(tokens, 5), shift(tokens[:, :1], 5), shift(tokens[:, :0], 5)
        slope = jax.grad(lambda v: weighted_sum(shift(v, 0)))(vectors)
        return *found, shift(vectors, jnp.array([-1.0, -2.0])), shift(vectors, 0), slope

    got, one, none, moved, zeros, slope = jax.device_get(shifted(tokens, vectors))
    assert got.dtype == tokens.dtype and np.array_equal(got, [[5, 3, 1], [5, 4, 4]])
    assert np.array_equal(one, [[5], [5]]) and none.shape == (2, 0)
    want = [[[-1, -2], [0, 1], [2, 3]], [[-1, -2], [6, 7], [8, 9]]]
    assert np.array_equal(moved, want)
    assert np.array_equal(zeros, np.where(np.array(want) < 0, 0, want))
    weights = np.cos(np.arange(12) + 0.5).reshape(2, 3, 2)
    close(slope[:, :-1], weights[:, 1:])
    assert not slope[:, -1].any()


# Learning


def after_training(model, params, batches, loss, judge, rate=0.02):
    """Return `judge(variables, *batch)` of the last batch, after a step of Adam on each other.

    Batches are inputs (a tuple) and targets, with an axis for the steps in front.
    """
    optimizer = optax.adam(rate)

    def update(state, batch):
        def mean(params):
            return loss(model.apply({"params": params}, *batch[0]), batch[1]).mean()

        params, slots = state
        updates, slots = optimizer.update(jax.grad(mean)(params), slots)
        return (optax.apply_updates(params, updates), slots), None

    @jax.jit
    def run(params, batches):
        start = params, optimizer.init(params)
        (params, _), _ = lax.scan(update, start, jax.tree.map(lambda a: a[:-1], batches))
        return judge({"params": params}, *jax.tree.map(lambda a: a[-1], batches))

    return jax.device_get(run(params, jax.tree.map(jnp.asarray, batches)))


def written(model, variables, start, inputs, length):
    state = model.apply(variables, inputs, method="start")
    step = functools.partial(model.apply, variables, method="step")
    return decoding.greedy(step, state, start, length=length)


def test_a_perceptron_learns_exclusive_or():
    head = layers.LogisticHead
    model = models.OneToOne(head(), (8,))
    inputs = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    answers = np.array([[0], [1], [1], [0]], np.float32)
    batches = (np.tile(inputs, (200, 1, 1)),), np.tile(answers, (200, 1, 1))

    def judge(variables, given, _):
        return head.mode(model.apply(variables, *given))

    found = after_training(model, params_of(model, inputs), batches, head.loss, judge, 0.1)
    assert np.array_equal(found, answers)


def test_a_reader_learns_to_remember_the_first_token():
    model = models.ManyToOne(RNN(GRU(12)), layers.SoftmaxHead(4), layers.Embed(4, 8))
    tokens = random_tokens(300, 32, 6, size=4)

    def judge(variables, given, answers):
        return (model.apply(variables, *given).argmax(-1) == answers).mean()

    params, batches = params_of(model, tokens[0], scale=0.3), ((tokens,), tokens[:, :, 0])
    assert after_training(model, params, batches, layers.SoftmaxHead.loss, judge) > 0.95


def test_a_tagger_learns_to_say_what_was_two_steps_before():
    model = models.ManyToMany(RNN(Elman(16)), layers.SoftmaxHead(3), layers.Embed(3, 8))
    tokens = random_tokens(300, 32, 8, size=3)

    def loss(logits, targets):
        return layers.SoftmaxHead.loss(logits[:, 2:], targets)

    def judge(variables, given, answers):
        return (model.apply(variables, *given)[:, 2:].argmax(-1) == answers).mean()

    params, batches = params_of(model, tokens[0], scale=0.3), ((tokens,), tokens[:, :, :-2])
    assert after_training(model, params, batches, loss, judge) > 0.95


def test_a_writer_learns_a_word_for_each_class():
    words = jnp.array([[1, 1, 2, 3], [1, 2, 1, 3], [3, 0, 0, 0], [2, 2, 2, 2], [0, 3, 1, 2]])
    model = models.OneToMany(RNN(Elman(16)), layers.SoftmaxHead(5), layers.Embed(5, 8))
    inputs = jnp.eye(5), models.shift_right(words, 4)
    batches = jax.tree.map(lambda a: np.tile(a, (200, 1, 1)), (inputs, words))

    def judge(variables, given, _):
        return written(model, variables, 4, given[0], 4)

    params = params_of(model, *inputs, scale=0.3)
    loss = layers.SoftmaxHead.loss
    tokens, log_probs = after_training(model, params, batches, loss, judge)
    assert np.array_equal(tokens, words) and log_probs.min() > np.log(0.8)


@pytest.mark.slow
def test_a_translator_learns_to_reverse():
    model = translator(layers.AdditiveAttention(16), GRU, 6, 24)
    tokens = random_tokens(400, 32, 4, size=5)
    answers = tokens[:, :, ::-1]
    previous = np.concatenate([np.full_like(tokens[:, :, :1], 5), answers[:, :, :-1]], -1)

    def judge(variables, given, answers):
        return (written(model, variables, 5, given[0], 4)[0] == answers).mean()

    params = jax.jit(model.init)(KEY, tokens[0], previous[0])["params"]
    batches = (tokens, previous), answers
    assert after_training(model, params, batches, layers.SoftmaxHead.loss, judge) > 0.95


@pytest.mark.slow
def test_ctc_learns_to_merge_and_to_drop():
    """Inputs are letters of which 0 is silence; nobody says when a label was spoken."""
    model = models.ManyToMany(RNN(Elman(16)), layers.SoftmaxHead(4), layers.Embed(4, 8))
    tokens = random_tokens(300, 32, 8, size=4)
    labels, counts = np.zeros_like(tokens), np.zeros(tokens.shape[:2], np.int32)
    for place in np.ndindex(*counts.shape):
        said = collapsed((np.array([0, 3, 1, 2])[tokens[place]]).tolist(), 0)  # another alphabet
        labels[place][: len(said)], counts[place] = said, len(said)

    def loss(logits, targets):
        return models.ctc_loss(logits, targets[0], label_lengths=targets[1])

    def judge(variables, given, answers):
        found, number = decoding.ctc_greedy(model.apply(variables, *given))
        return ((found == answers[0]).all(-1) & (number == answers[1])).mean()

    params = params_of(model, tokens[0], scale=0.3)
    assert after_training(model, params, ((tokens,), (labels, counts)), loss, judge) > 0.95
