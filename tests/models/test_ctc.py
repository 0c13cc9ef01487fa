"""The CTC loss against sums over alignments and a wide beam."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import B, check_equal, close, collapsed, random_values

from rnnjax import decoding, models

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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("zero_infinity", [False, True])
def test_a_labelling_that_does_not_fit_has_no_gradient(zero_infinity):
    """As in PyTorch, whose default is infinite too; `zero_infinity` gives 0."""
    logits = random_values(4, 4, K)
    labels = jnp.array([[1, 1, 1], [1, 2, 1], [1, 2, 0], [1, 1, 2]])
    lengths = {"seq_lengths": jnp.array([4, 2, 0, 4]), "label_lengths": jnp.array([3, 3, 2, 2])}

    @jax.jit
    def run(logits):
        losses = models.ctc_loss(logits, labels, **lengths, zero_infinity=zero_infinity)
        return losses.sum(), losses

    (_, found), gradient = jax.value_and_grad(run, has_aux=True)(logits)
    assert (found[:3] == (0 if zero_infinity else np.inf)).all() and 0 < found[3] < 10
    assert not gradient[:3].any() and gradient[3].any() and np.isfinite(gradient).all()


@pytest.mark.slow
def test_no_loss_is_negative():
    logits = jnp.array([[[0.0, 17.0], [0.0, 17.0]], [[0.0, 30.0], [0.0, 30.0]]])
    found = models.ctc_loss(logits, jnp.array([[1], [1]]))
    assert (found >= 0).all() and (found < 2e-15).all()  # 1.71e-15 and less


@pytest.mark.slow
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
