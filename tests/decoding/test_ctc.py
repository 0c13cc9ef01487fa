"""CTC decoding against enumeration, dictionaries and Optax."""

import collections
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from token_model import V

from rnnjax.decoding import ctc_beam_search, ctc_greedy


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


@pytest.mark.slow
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


@pytest.mark.slow
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
