"""Decoders against enumeration of all sequences and paths, lists, dictionaries and counts."""

import collections
import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import chi2

from rnnjax import Elman
from rnnjax.decoding import beam_search, ctc_beam_search, ctc_greedy, generate, greedy, sample

KEY = jax.random.key(0)
B, V, LENGTH, END = 2, 3, 4, 2
RNG = np.random.default_rng(5)
TABLE, MIX, STIR = (RNG.normal(size=n) for n in ((V, V, V), (2, V), (V, 2)))


class Carry(NamedTuple):
    """What a model of order two remembers, and a trace of everything before."""

    previous: Any
    trace: Any


START = Carry(np.array([0, 1]), RNG.normal(size=(B, 2)))


def step(carry, token, table=TABLE):
    stir, mix, table = (jnp.asarray(a, carry.trace.dtype) for a in (STIR, MIX, table))
    trace = jnp.tanh(carry.trace + stir[token])
    logits = table[carry.previous, token] + trace @ mix
    return Carry(token, trace), logits


def deadly(carry, token, table=TABLE):
    """The same model, which breaks once it has been fed `END`."""
    dead, carry = carry
    dead = dead | (token == END)
    trace = jnp.where(dead[:, None], jnp.nan, carry.trace)
    carry, logits = step(carry._replace(trace=trace), token, table)
    return (dead, carry), logits


def next_scores(state, token):
    """One step of one example in NumPy: the next state and the log probabilities."""
    previous, trace = state
    trace = np.tanh(trace + STIR[token])
    logits = TABLE[previous, token] + trace @ MIX
    return (token, trace), logits - np.log(np.exp(logits).sum())


def example(b):
    return int(START.previous[b]), START.trace[b]


def sequence(state, start, tokens, end):
    """The sequence that counts, with what follows `end` replaced, its log p, and its length."""
    total, length = 0.0, 0
    for token in tokens:
        state, scores = next_scores(state, start)
        total, length, start = total + scores[token], length + 1, token
        if token == end:
            break
    return (*tokens[:length], *[end] * (len(tokens) - length)), total, length


def all_sequences(state, start, end, length=LENGTH):
    found = {}
    for tokens in itertools.product(range(V), repeat=length):
        tokens, total, count = sequence(state, start, tokens, end)
        found[tokens] = total, count
    return found


@pytest.mark.parametrize("end", [None, END])
def test_a_wide_beam_is_exhaustive(end, x64):
    want = [all_sequences(example(b), 0, end) for b in range(B)]
    count, spare = len(want[0]), 3
    assert count == (31 if end == END else 81)
    search = jax.jit(
        lambda penalty: beam_search(
            *(step, START, 0),
            length=LENGTH,
            beam_width=count + spare,
            end=end,
            length_penalty=penalty,
        )
    )
    for penalty in (0, 0.6, 1):
        tokens, log_probs, lengths = jax.device_get(search(jnp.asarray(penalty, float)))
        for b in range(B):
            score = {k: total / n**penalty for k, (total, n) in want[b].items()}
            order = sorted(score, key=lambda k, score=score: -score[k])
            assert [tuple(row) for row in tokens[b, :count].tolist()] == order
            totals, counts = zip(*(want[b][k] for k in order), strict=True)
            np.testing.assert_allclose(log_probs[b, :count], totals, rtol=1e-12)
            np.testing.assert_array_equal(lengths[b, :count], counts)
        assert (log_probs[:, count:] == -jnp.inf).all()
        assert (lengths[:, count:] == 0).all() and (tokens[:, count:] == (end or 0)).all()
    assert search._cache_size() == 1


def beam_by_lists(state, start, width, end, penalty):
    beam = [(0.0, (), state, False)]
    for _ in range(LENGTH):
        candidates = []
        for total, tokens, state, finished in beam:
            if finished:
                candidates.append((total, tokens, state, True))
                continue
            after, scores = next_scores(state, tokens[-1] if tokens else start)
            for v in range(V):
                candidates.append((total + scores[v], (*tokens, v), after, v == end))
        candidates.sort(key=lambda c: -c[0] / len(c[1]) ** penalty)
        beam = candidates[:width]
    return [(t + (end,) * (LENGTH - len(t)), total, len(t)) for total, t, *_ in beam]


@pytest.mark.parametrize("width", [2, 5])
def test_a_narrow_beam_keeps_what_lists_keep(width, x64):
    search = jax.jit(
        lambda start, penalty: beam_search(
            *(step, START, start),
            length=LENGTH,
            beam_width=width,
            end=END,
            length_penalty=penalty,
        )
    )
    missed = 0
    for first, penalty in itertools.product(range(V), (0.0, 0.6, 1.0)):
        start = np.array([first, (first + 1) % V])  # END may come first: nothing is finished by it
        got = jax.device_get(search(start, penalty))
        for b in range(B):
            want = beam_by_lists(example(b), start[b], width, END, penalty)
            for have, wanted in zip(got, zip(*want, strict=True), strict=True):
                np.testing.assert_allclose(have[b], wanted, rtol=1e-12)
            score = all_sequences(example(b), start[b], END)
            score = {k: total / length**penalty for k, (total, length) in score.items()}
            best = sorted(score, key=lambda k, score=score: -score[k])[:width]
            missed += set(best) != {tokens for tokens, *_ in want}
    assert missed  # narrow enough that it is no exhaustive search


@pytest.mark.parametrize("end", [None, END])
def test_greedy_is_a_loop_over_argmax_and_a_beam_of_one(end, x64):
    options = {"length": LENGTH, "end": end}
    run = jax.jit(lambda start: greedy(step, START, start, **options))
    search = jax.jit(lambda start: beam_search(step, START, start, beam_width=1, **options))
    for first in range(V):
        start = np.array([first, 1])
        tokens, log_probs = jax.device_get(run(start))
        for b in range(B):
            state, token, want = example(b), start[b], []
            for _ in range(LENGTH):
                state, scores = next_scores(state, token)
                token = int(scores.argmax())
                want.append(token)
            want, total, _ = sequence(example(b), start[b], want, end)
            assert tuple(tokens[b].tolist()) == want
            np.testing.assert_allclose(log_probs[b], total, rtol=1e-12)
        beam = search(start)
        np.testing.assert_array_equal(beam[0][:, 0], tokens)
        np.testing.assert_allclose(beam[1][:, 0], log_probs, rtol=1e-12)


def test_what_a_model_says_after_the_end_does_not_matter():
    start = np.array([0, 1])
    dead = np.zeros(B, bool), START
    for decode in (
        greedy,
        functools.partial(sample, key=KEY),
        functools.partial(beam_search, beam_width=4, length_penalty=0.6),
    ):
        got, want = (
            jax.jit(functools.partial(decode, model, length=LENGTH, end=END))(carry, start)
            for model, carry in ((deadly, dead), (step, START))
        )
        assert (want[0][..., :-1] == END).any()
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a, b)


def test_log_probs_have_the_gradient_of_the_tokens_given(x64):
    dead, options = (np.zeros(B, bool), START), {"length": LENGTH, "end": END}

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def slope(table):
        model = functools.partial(deadly, table=table)
        greedy_tokens, log_probs = greedy(model, dead, 0, **options)
        tokens, beam, _ = beam_search(model, dead, 0, beam_width=2, **options)
        return log_probs.sum() + beam.sum(), jnp.concatenate([tokens, greedy_tokens[:, None]], 1)

    got, tokens = jax.device_get(slope(TABLE))
    assert (tokens[..., :-1] == END).any() and (tokens[..., -1] != END).any()

    @jax.jit
    @jax.grad
    def given(table):
        total = 0.0
        for b, w in np.ndindex(tokens.shape[:2]):
            carry, token = Carry(*(leaf[b : b + 1] for leaf in START)), 0
            for chosen in tokens[b, w].tolist():
                carry, logits = step(carry, jnp.array([token]), table)
                total += jax.nn.log_softmax(logits)[0, chosen]
                token = chosen
                if token == END:
                    break
        return total

    np.testing.assert_allclose(got, given(TABLE), rtol=1e-10, atol=1e-14)


def drawn_with(state, start, temperature, top_k, length):
    """The probability of each sequence under tempered and truncated steps."""
    chances = {(): (1.0, state, start)}
    for _ in range(length):
        longer = {}
        for tokens, (chance, state, token) in chances.items():
            if tokens and tokens[-1] == END:
                longer[(*tokens, END)] = chance, state, END
                continue
            after, scores = next_scores(state, token)
            weights = np.exp(scores / temperature)
            weights[np.argsort(-scores)[top_k:]] = 0
            for v, q in enumerate(weights / weights.sum()):
                if q:
                    longer[(*tokens, v)] = chance * q, after, v
        chances = longer
    return {tokens: chance for tokens, (chance, *_) in chances.items()}


@pytest.mark.parametrize(
    ("temperatures", "top_k"), [((1.0, 0.5), None), ((1.0, 0.5), 2), ((3.0,), 1)]
)
def test_samples_have_the_frequencies_and_the_log_probs_of_enumeration(temperatures, top_k):
    draws, length = 20_000, 3
    many = Carry(np.zeros(draws, int), np.tile(START.trace[0], (draws, 1)))
    run = jax.jit(
        lambda temperature, key: sample(
            *(step, many, 0),
            key=key,
            length=length,
            end=END,
            temperature=temperature,
            top_k=top_k,
        )
    )
    own = all_sequences(example(0), 0, END, length)
    for temperature in temperatures:
        tokens, log_probs = run(temperature, KEY)
        rows = [tuple(row) for row in np.asarray(tokens).tolist()]
        np.testing.assert_allclose(log_probs, [own[row][0] for row in rows], rtol=1e-5)
        counts = collections.Counter(rows)
        want = drawn_with(example(0), 0, temperature, top_k or V, length)
        assert set(counts) <= set(want) and abs(sum(want.values()) - 1) < 1e-12
        if top_k == 1:
            continue
        common = {k: q * draws for k, q in want.items() if q * draws > 5}
        seen = [(counts.pop(k, 0), n) for k, n in common.items()]
        seen.append((sum(counts.values()), draws - sum(common.values()) + 1e-9))  # all rare ones
        excess = sum((count - n) ** 2 / n for count, n in seen)
        assert chi2.sf(excess, len(seen) - 1) > 1e-3
        again, other = run(temperature, KEY)[0], run(temperature, jax.random.key(1))[0]
        assert (again == tokens).all() and (other != tokens).any()
    assert run._cache_size() == 1


def test_cold_and_truncated_samples_are_greedy():
    want = jax.jit(lambda: greedy(step, START, 0, length=LENGTH))()
    for options in ({"temperature": 1e-40}, {"temperature": 50.0, "top_k": 1}):
        got = jax.jit(lambda key, o=options: sample(step, START, 0, key=key, length=LENGTH, **o))(
            KEY
        )
        np.testing.assert_array_equal(got[0], want[0])
        np.testing.assert_allclose(got[1], want[1], rtol=1e-6)


def test_real_vectors_are_generated_too():
    examples, length = 4000, 3
    cell = Elman(5)
    params = cell.init(KEY, 2)
    head = jax.random.normal(KEY, (5, 4))

    def gaussian(carry, x):
        carry = cell.step(params, carry, cell.project(params, x["frame"]))
        mean, log_scale = jnp.split(cell.output(carry) @ head, 2, axis=-1)
        return carry, (mean, jnp.exp(log_scale))

    def draw(key, y):
        mean, scale = y
        noise = 0 if key is None else jax.random.normal(key, mean.shape)
        return {"frame": mean + scale * noise, "mean": mean}

    start = {"frame": jnp.ones((examples, 2)), "mean": jnp.zeros((examples, 2))}
    carry = cell.initial_carry((examples,))
    for key in (None, KEY):
        run = jax.jit(lambda key: generate(gaussian, carry, start, key=key, length=3, choose=draw))
        written = run(key)
        assert written["frame"].shape == (examples, length, 2)
        state, x, noise = carry, start["frame"], []
        for t in range(length):  # what was written, read again
            state, (mean, scale) = jax.jit(gaussian)(state, {"frame": x})
            np.testing.assert_allclose(written["mean"][:, t], mean, rtol=1e-4, atol=1e-5)
            x = written["frame"][:, t]
            noise.append((x - mean) / scale)
        noise = np.concatenate(noise, axis=-1)
        if key is None:
            np.testing.assert_allclose(noise, 0, atol=1e-4)
        else:
            bound = 5 / np.sqrt(examples)
            np.testing.assert_allclose(noise.mean(0), 0, atol=bound)
            np.testing.assert_allclose(np.cov(noise.T), np.eye(6), atol=1.5 * bound)


def test_a_step_settles_its_own_types():
    """An initial carry in a narrower type than the step's, and logits in bfloat16."""
    narrow = START._replace(trace=jnp.asarray(START.trace, jnp.bfloat16))
    wide = narrow._replace(trace=narrow.trace.astype(jnp.float32))

    def widening(carry, token):
        carry, logits = step(carry._replace(trace=carry.trace.astype(jnp.float32)), token)
        return carry, logits.astype(jnp.bfloat16)

    jitted = jax.jit(widening)

    def loop(b, token):
        carry, total = Carry(*(leaf[b : b + 1] for leaf in wide)), 0.0
        for _ in range(LENGTH):
            carry, logits = jitted(carry, np.array([token]))
            scores = np.asarray(logits[0], float)
            token = int(scores.argmax())
            total += scores[token] - np.log(np.exp(scores).sum())
        return total

    want = [loop(b, 0) for b in range(B)]
    for decode in (greedy, functools.partial(beam_search, beam_width=1)):
        run = jax.jit(functools.partial(decode, widening, length=LENGTH))
        log_probs = run(narrow, np.array([0, 0]))[1]
        assert log_probs.dtype == jnp.float32
        np.testing.assert_allclose(log_probs.reshape(B), want, rtol=1e-5)


def collapse(path, blank):
    return tuple(v for v, _ in itertools.groupby(path) if v != blank)


def log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def all_labelings(logits, blank):
    """The probability of every labeling that has any: the sum over all V^T paths."""
    probs, found = np.exp(log_softmax(logits)), collections.defaultdict(float)
    for path in itertools.product(range(logits.shape[1]), repeat=len(logits)):
        found[collapse(path, blank)] += np.prod([p[v] for p, v in zip(probs, path, strict=True)])
    return {labels: p for labels, p in found.items() if p > 0}


def ctc_problem(total=5, size=V, seed=1):
    """Logits for each length 0..T and for a label that is impossible, NaN beyond the ends."""
    lengths = np.array([*range(total + 1), total])
    logits = np.random.default_rng(seed).normal(size=(len(lengths), total, size)) * 1.5
    logits[-1, :, 1] = -np.inf
    logits[np.arange(total) >= lengths[:, None]] = np.nan
    return logits, lengths


def check_labels(labels, count, want, blank):
    assert tuple(labels[:count].tolist()) == want and (labels[count:] == blank).all()


def test_a_wide_ctc_beam_gives_the_exact_probability_of_every_labeling(x64):
    logits, lengths = ctc_problem()
    search = jax.jit(
        lambda logits, lengths, blank: ctc_beam_search(
            logits, beam_width=63, seq_lengths=lengths, blank=blank
        )
    )
    for blank in (0, 2):
        labels, log_probs, counts = jax.device_get(search(logits, lengths, blank))
        assert labels.shape == (7, 63, 5) and not np.isnan(log_probs).any()
        for b, length in enumerate(lengths):
            want = all_labelings(logits[b, :length], blank)
            order = sorted(want, key=lambda k, want=want: -want[k])
            for w, labeling in enumerate(order):
                check_labels(labels[b, w], counts[b, w], labeling, blank)
                np.testing.assert_allclose(log_probs[b, w], np.log(want[labeling]), rtol=1e-10)
            rest = len(order)
            assert (log_probs[b, rest:] == -jnp.inf).all() and (counts[b, rest:] == 0).all()
            assert (labels[b, rest:] == blank).all()
        assert log_probs[0, 0] == 0 and counts[0, 0] == 0
    default = search(logits[-2:-1], None, 0)  # all T steps
    np.testing.assert_array_equal(default[1], search(logits, lengths, 0)[1][-2:-1])
    assert search._cache_size() == 2  # one for each number of sequences


def beam_by_dictionary(logits, width, blank):
    """The algorithm as it is usually written, in probabilities."""
    beam = {(): (1.0, 0.0)}
    for y in np.exp(log_softmax(logits)):
        after = collections.defaultdict(lambda: [0.0, 0.0])
        for prefix, (in_blank, in_label) in beam.items():
            for v, p in enumerate(y):
                if v == blank:
                    after[prefix][0] += p * (in_blank + in_label)
                elif prefix and prefix[-1] == v:
                    after[prefix][1] += p * in_label
                    after[(*prefix, v)][1] += p * in_blank
                else:
                    after[(*prefix, v)][1] += p * (in_blank + in_label)
        best = sorted(after, key=lambda k, after=after: -sum(after[k]))[:width]
        beam = {k: after[k] for k in best if sum(after[k])}
    return [(k, sum(p)) for k, p in beam.items()]


@pytest.mark.parametrize("width", [1, 3, 6])
def test_a_narrow_ctc_beam_keeps_what_a_dictionary_keeps(width, x64):
    logits, lengths = ctc_problem(total=8, size=4, seed=width)
    search = jax.jit(functools.partial(ctc_beam_search, beam_width=width))
    got = search(logits, seq_lengths=lengths, blank=3)
    labels, log_probs, counts = jax.device_get(got)
    for b, length in enumerate(lengths):
        want = beam_by_dictionary(logits[b, :length], width, 3)
        for w, (labeling, p) in enumerate(want):
            check_labels(labels[b, w], counts[b, w], labeling, 3)
            np.testing.assert_allclose(log_probs[b, w], np.log(p), rtol=1e-10)
        assert (log_probs[b, len(want) :] == -jnp.inf).all()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_ctc_agrees_with_the_loss_in_optax_and_so_does_its_gradient(dtype):
    logits, lengths = ctc_problem(seed=3)
    logits, lengths = jnp.asarray(logits[3:-1], dtype), lengths[3:-1]  # all labels possible
    steps, kept = np.arange(5), 6
    paddings = (steps >= lengths[:, None]).astype(np.float32)

    def search(logits):
        found = ctc_beam_search(logits, beam_width=63, seq_lengths=lengths)
        labels, log_probs, counts = (a[:, :kept] for a in found)
        return log_probs.astype(jnp.float32).sum(), (labels, log_probs, counts)

    def loss(logits, labels, counts):
        unused = (steps >= counts[..., None]).astype(np.float32)
        one = functools.partial(optax.ctc_loss, logits.astype(jnp.float32), paddings)
        losses = jax.vmap(one, in_axes=1, out_axes=1)(labels, unused)
        return losses.sum(), losses

    found, slope = jax.jit(jax.value_and_grad(search, has_aux=True))(logits)
    labels, log_probs, counts = jax.device_get(found[1])
    assert log_probs.dtype == jnp.float32
    clean = jnp.where(paddings[..., None] > 0, 0, logits)
    want, wanted = jax.jit(jax.value_and_grad(loss, has_aux=True))(clean, labels, counts)
    np.testing.assert_allclose(np.exp(log_probs), np.exp(-want[1]), rtol=1e-4)
    tolerance = 1e-4 if dtype == jnp.float32 else 0.03
    slope, wanted = (np.asarray(g, np.float32) for g in (slope, wanted))
    np.testing.assert_allclose(slope, -wanted, rtol=tolerance, atol=tolerance)
    assert (slope[paddings > 0] == 0).all()


def test_the_best_path_is_merged_and_cleared_of_blanks():
    rng = np.random.default_rng(2)
    lengths = np.arange(10)
    logits = rng.normal(size=(10, 9, V))
    logits[np.arange(9) >= lengths[:, None]] = np.nan
    decode = jax.jit(lambda x, n, blank: ctc_greedy(x, seq_lengths=n, blank=blank))
    for blank in range(V):
        for dtype in (jnp.float32, jnp.bfloat16):
            given = np.asarray(logits, dtype)
            labels, counts = jax.device_get(decode(given, lengths, blank))
            for b, length in enumerate(lengths):
                path = given[b, :length].astype(float).argmax(-1).tolist()
                check_labels(labels[b], counts[b], collapse(path, blank), blank)
    assert decode._cache_size() == 2  # one for each type
    np.testing.assert_array_equal(ctc_greedy(jnp.asarray(given[-1:]), blank=2)[0], labels[-1:])


def test_vmap_is_a_loop():
    starts = np.array([[0, 1], [1, 2], [2, 0]])
    carries = Carry(starts[::-1].copy(), RNG.normal(size=(3, B, 2)))
    keys = jax.random.split(KEY, 3)
    logits = RNG.normal(size=(3, B, 5, V))
    lengths = np.array([[0, 5], [3, 2], [5, 4]])
    options = {"length": 3, "end": END}

    def decode(carry, start, key, logits, lengths):
        return (
            greedy(step, carry, start, **options),
            sample(step, carry, start, key=key, **options),
            beam_search(step, carry, start, beam_width=3, **options),
            ctc_greedy(logits, seq_lengths=lengths),
            ctc_beam_search(logits, seq_lengths=lengths, beam_width=4),
        )

    arguments = carries, starts, keys, logits, lengths
    got = jax.device_get(jax.jit(jax.vmap(decode))(*arguments))
    one = jax.jit(decode)
    for s in range(3):
        want = one(*jax.tree.map(lambda a, s=s: a[s], arguments))
        jax.tree.map(
            lambda a, b, s=s: np.testing.assert_allclose(a[s], b, rtol=1e-5), got, tuple(want)
        )


def test_empty_batches_and_the_smallest_vocabulary():
    none = Carry(np.zeros(0, int), np.zeros((0, 2), np.float32))

    @jax.jit
    def run(start, logits):
        return (
            *greedy(step, none, start, length=3, end=END),
            *sample(step, none, start, key=KEY, length=3, top_k=2),
            *beam_search(step, none, start, length=3, beam_width=2, end=END),
            *ctc_greedy(logits),
            *ctc_beam_search(logits, beam_width=2),
        )

    want = [(0, 3), (0,), (0, 3), (0,), (0, 2, 3), (0, 2), (0, 2)]
    want += [(0, 5), (0,), (0, 2, 5), (0, 2), (0, 2)]
    for start in (0, np.zeros(0, int)):
        assert [a.shape for a in run(start, np.zeros((0, 5, V)))] == want

    search = jax.jit(functools.partial(ctc_beam_search, beam_width=2))
    for logits in (np.zeros((1, 0, V)), np.ones((1, 4, 1))):  # no step, no label
        labels, log_probs, counts = search(logits)
        assert (labels == 0).all() and (counts == 0).all()
        np.testing.assert_array_equal(log_probs, [[0, -np.inf]])
        assert (jax.jit(ctc_greedy)(logits)[1] == 0).all()


def bare(carry, token):
    """A model without a carry."""
    return carry, jnp.asarray(TABLE, jnp.float32)[0, token]


def returns(logits):
    return lambda carry, token: (carry, logits)


def drawing(**options):
    return sample(step, START, 0, key=KEY, length=2, **options)


SEARCH = functools.partial(beam_search, length=2, beam_width=2)
LOGITS = np.zeros((B, 5, V), np.float32)


def test_a_model_needs_no_carry():
    after = TABLE[0].argmax(-1)
    tokens, _ = greedy(bare, (), [0, 1], length=2)
    np.testing.assert_array_equal(tokens, [(after[v], after[after[v]]) for v in (0, 1)])


def test_impossible_tokens_are_never_found():
    def model(carry, token):
        return carry, jnp.broadcast_to(jnp.array([0, -jnp.inf, 0]), (*token.shape, V))

    tokens, log_probs, lengths = beam_search(model, (), [1], length=2, beam_width=6)
    assert sorted(map(tuple, tokens[0, :4].tolist())) == [(0, 0), (0, 2), (2, 0), (2, 2)]
    np.testing.assert_allclose(log_probs[0, :4], np.log(0.25), rtol=1e-6)
    assert (log_probs[0, 4:] == -jnp.inf).all() and lengths.tolist() == [[2] * 4 + [0] * 2]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: greedy(step, START, 0, length=0), ValueError, "length must be a positive.*got 0"),
        (
            lambda: greedy(step, START, 3, length=2),
            ValueError,
            r"start .* 0\.\.V-1 = 0\.\.2, got 3",
        ),
        (lambda: SEARCH(step, START, [-1, 0]), ValueError, r"start must lie .*got -1\.\.0"),
        (
            lambda: greedy(step, START, 0.0, length=2),
            TypeError,
            "start must be an integer.*float32",
        ),
        (
            lambda: greedy(step, START, np.zeros((2, 1), int), length=2),
            ValueError,
            r"start .*\(2, 1",
        ),
        (
            lambda: greedy(step, START, np.zeros(3, int), length=2),
            ValueError,
            r"agree.*'start': \(3,",
        ),
        (lambda: SEARCH(step, START, 0, end=3), ValueError, r"end must lie in .*0\.\.2, got 3"),
        (
            lambda: SEARCH(step, START, 0, end=[1, 1]),
            ValueError,
            "end must be one token, got.*(2,)",
        ),
        (lambda: greedy(step, START, 0, length=2, end=1.0), TypeError, "end must be an integer"),
        (
            lambda: greedy(step, START._replace(trace=1.0), 0, length=2),
            ValueError,
            r"carry\.trace must have shape \[B, \.\.\.\].*got \(\)",
        ),
        (
            lambda: SEARCH(step, START._replace(trace=np.ones((3, 2))), 0),
            ValueError,
            r"agree on their first axis, B.*carry\.trace",
        ),
        (lambda: greedy(bare, (), 0, length=2), ValueError, "B is not known"),
        (
            lambda: SEARCH(returns(jnp.zeros(4)), START, 0),
            ValueError,
            r"\[B, V\].*B = 4, got \(4,\)",
        ),
        (lambda: SEARCH(returns(jnp.zeros((2, 3))), START, 0), ValueError, r"B = 4, got \(2, 3\)"),
        (
            lambda: greedy(returns(jnp.zeros((2, 3), int)), START, 0, length=2),
            TypeError,
            "the logits of step must be floating, got int32",
        ),
        (
            lambda: SEARCH(lambda c, t: (c.previous, step(c, t)[1]), START, 0),
            ValueError,
            "the carry that step returns must have the structure",
        ),
        (
            lambda: SEARCH(lambda c, t: (c._replace(trace=c.previous), step(c, t)[1]), START, 0),
            ValueError,
            r"the carry that step returns\.trace must have shape \(4, 2\), got \(4,\)",
        ),
        (
            lambda: greedy(lambda c, t: (c.previous, step(c, t)[1]), START, 0, length=2),
            ValueError,
            "the carry that step returns must have the structure",
        ),
        (
            lambda: generate(step, START, jnp.zeros(2, int), length=2, choose=lambda key, y: y),
            ValueError,
            r"what choose returns must have shape \(2,\), got \(2, 3\)",
        ),
        (
            lambda: generate(step, START, jnp.zeros((3, 1)), length=2, choose=lambda key, y: y),
            ValueError,
            r"carry and start must agree on their first axis, B.*'start': \(3, 1\)",
        ),
        (lambda: drawing(temperature=0.0), ValueError, "temperature must be a positive.*got 0.0"),
        (lambda: drawing(temperature=np.ones(2)), ValueError, "temperature must be a positive"),
        (lambda: drawing(top_k=0), ValueError, "top_k must be a positive integer, got 0"),
        (lambda: drawing(top_k=4), ValueError, r"top_k must lie in 1\.\.V = 1\.\.3, got 4"),
        (
            lambda: beam_search(step, START, 0, length=2, beam_width=0),
            ValueError,
            "beam_width must be a positive integer, got 0",
        ),
        (
            lambda: SEARCH(step, START, 0, length_penalty=np.nan),
            ValueError,
            "length_penalty must be a finite number, got nan",
        ),
        (lambda: ctc_greedy(LOGITS[0]), ValueError, r"logits must .*\[B, T, V\].*got \(5, 3\)"),
        (lambda: ctc_greedy(LOGITS.astype(int)), TypeError, "logits must be floating, got int32"),
        (lambda: ctc_greedy(LOGITS, blank=3), ValueError, r"blank must lie .* 0\.\.2, got 3"),
        (lambda: ctc_beam_search(LOGITS, beam_width=0), ValueError, "beam_width .*got 0"),
        (
            lambda: ctc_beam_search(LOGITS, beam_width=2, seq_lengths=np.array([2, 6])),
            ValueError,
            r"lengths must lie in 0\.\.T = 0\.\.5, got 2\.\.6",
        ),
        (
            lambda: ctc_greedy(LOGITS, seq_lengths=np.zeros(2)),
            TypeError,
            "lengths must be integers",
        ),
    ],
)
def test_wrong_arguments_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call()
