"""Decoders and encoder-decoders against their parts by hand."""

import functools
import itertools

import architectures
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from architectures import CELLS, H, V, weighted_sum
from by_hand import (
    CONTEXT,
    KEY,
    LENGTHS,
    PREVIOUS,
    TARGETS,
    TOKENS,
    VALID,
    XS,
    B,
    N,
    T,
    check_equal,
    close,
    dense,
    loop,
    normal,
    own,
    params_of,
    random_values,
    translator,
)
from jax import lax

import rnnjax
from rnnjax import GRU, LSTM, Elman, decoding, layers, models
from rnnjax.cells import LSTMCarry
from rnnjax.layers import RNN, Stack


def language_model():
    layer = RNN(LSTM(H), initial_carry_init=normal)
    return models.ManyToMany(layer, layers.SoftmaxHead(V), architectures.embed())


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


ATTENTIONS = {
    "none": (LSTM, None, None),
    "additive": (Elman, layers.AdditiveAttention(3), additive_scores),
    "dot_product": (Elman, layers.DotProductAttention(3), dot_product_scores),
}


@pytest.mark.slow
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


@pytest.mark.slow
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
