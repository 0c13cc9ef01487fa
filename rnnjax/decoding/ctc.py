"""Labelings from the outputs of a network trained with connectionist temporal classification."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int32

from rnnjax.cells.base import check_size
from rnnjax.decoding.checks import check_floating, checked_token, log_softmax
from rnnjax.recurrence.options import checked_lengths


def ctc_greedy(
    logits: ArrayLike, *, seq_lengths: Any = None, blank: Any = 0
) -> tuple[Int32[Array, "B T"], Int32[Array, " B"]]:
    """Return the labeling of the best path: each step's argmax, repeats merged, blanks dropped.

    Args:
        logits: `[B, T, V]`, unnormalised.
        seq_lengths: valid steps of each sequence, integers in 0..T, `[B]`; None means all T.
        blank: the token that stands for no label, 0..V-1.

    Returns:
        The labels `[B, T]`, `blank` beyond the end, and their number `[B]`.

    Raises:
        ValueError: a shape does not fit, `seq_lengths` is outside 0..T or `blank` outside 0..V-1.
        TypeError: `logits` is not floating, or `seq_lengths` or `blank` not integer.

    Source: Graves et al. 2006, "Connectionist temporal classification", section 3.2.
    """
    logits, valid, blank = _check_ctc(logits, seq_lengths, blank)
    total = logits.shape[1]

    def one(path, valid):
        previous = jnp.concatenate([blank[None], path])[:total]
        kept = valid & (path != blank) & (path != previous)
        place = jnp.where(kept, jnp.cumsum(kept) - 1, total)
        labels = jnp.full(total, blank).at[place].set(path, mode="drop")
        return labels, kept.sum(dtype=jnp.int32)

    return jax.vmap(one)(logits.argmax(-1).astype(jnp.int32), valid)


def ctc_beam_search(
    logits: ArrayLike,
    *,
    beam_width: int,
    seq_lengths: Any = None,
    blank: Any = 0,
) -> tuple[Int32[Array, "B W T"], Float[Array, "B W"], Int32[Array, "B W"]]:
    """Return the most probable labelings, summed over their paths, by prefix beam search.

    A prefix l of labels keeps p_b(l) and p_n(l), the probabilities of its paths so far that end
    in a blank and that do not. With p = p_b + p_n, each step's outputs y extend it:

        stay:    p_b'(l) = y_blank p(l),    p_n'(l) = y_last(l) p_n(l)
        extend:  p_n'(l + v) += y_v p(l),  or  y_v p_b(l) for v = last(l)

    and the W prefixes with the greatest p' are kept. An extension that equals a prefix in the beam
    adds to it; a prefix that had left the beam returns with its extension's probability alone.
    A beam wide enough for all prefixes gives exact probabilities, a narrower one lower bounds.
    A step takes W^2 T comparisons per example. There is no language model.

    Args:
        logits, seq_lengths, blank: as for `ctc_greedy`. Logits at and beyond a sequence's length
            have no influence, even if they are not finite.
        beam_width: W.

    Returns:
        The labels `[B, W, T]`, `blank` beyond the end; their log probability `[B, W]`, which is
        differentiable; and their number `[B, W]`; most probable first. If fewer than W labelings
        have positive probability, the last places hold no label and a log probability of -inf.

    Raises:
        ValueError: as for `ctc_greedy`, or `beam_width` is not a positive integer.
        TypeError: as for `ctc_greedy`.

    Source: Hannun et al. 2014, arXiv:1408.2873, algorithm 1; prefixes as in Graves 2012,
    "Supervised sequence labelling with recurrent neural networks", section 7.5.
    """
    check_size("beam_width", beam_width)
    logits, valid, blank = _check_ctc(logits, seq_lengths, blank)
    scores = log_softmax(logits, valid)
    return jax.vmap(lambda s, v: _prefix_search(s, v, blank, beam_width))(scores, valid)


def _prefix_search(
    scores: Float[Array, "T V"], valid: Bool[Array, " T"], blank: Int32[Array, ""], width: int
) -> tuple[Int32[Array, "W T"], Float[Array, " W"], Int32[Array, " W"]]:
    """Return `ctc_beam_search` of one example from its log probabilities."""
    total, size = scores.shape
    columns, beam = jnp.arange(total + 1), jnp.arange(width)

    def advance(state, inputs):
        # Prefixes [W, T+1] follow one blank, so that the last label is at their length.
        (prefixes, lengths, in_blank, in_label, whole), (y, ahead) = state, inputs
        last = prefixes[beam, lengths]
        stay_blank, stay_label = whole + y[blank], in_label + y[last]
        repeats = jnp.arange(size) == last[:, None]
        extend = y + jnp.where(repeats, in_blank[:, None], whole[:, None])

        # Which prefix of the beam is this one without its last label? At most one is.
        shorter = jnp.where(columns == lengths[:, None], blank, prefixes)
        exists = whole != -jnp.inf
        is_parent = (prefixes[:, None] == shorter).all(-1) & exists[:, None] & exists
        is_parent = is_parent & (lengths[:, None] + 1 == lengths)
        parent, found = is_parent.argmax(0), is_parent.any(0)
        gained = jnp.where(found, extend[parent, last], -jnp.inf)
        stay_label = _log_add(stay_label, gained)
        extend = extend.at[jnp.where(found, parent, width), last].set(-jnp.inf, mode="drop")

        # The blank is not a label: its column is for prefixes that stay.
        stay = _log_add(stay_blank, stay_label)
        best, place = lax.top_k(extend.at[:, blank].set(stay).reshape(-1), width)
        source, label = place // size, place % size
        stays = label == blank
        longer = lengths[source] + ~stays
        here = (columns == longer[:, None]) & ~stays[:, None]
        new = (
            jnp.where(here, label[:, None], prefixes[source]),
            longer,
            jnp.where(stays, stay_blank[source], -jnp.inf),
            jnp.where(stays, stay_label[source], best),
            best,
        )
        return jax.tree.map(lambda n, s: jnp.where(ahead, n, s), new, state), None

    never = jnp.full(width, -jnp.inf, scores.dtype)
    empty = jnp.full((width, total + 1), blank), jnp.zeros(width, jnp.int32)
    state = *empty, never.at[0].set(0), never, never.at[0].set(0)
    (prefixes, lengths, _, _, whole), _ = lax.scan(advance, state, (scores, valid))
    exists = whole != -jnp.inf
    labels = jnp.where(exists[:, None], prefixes[:, 1:], blank)
    return labels, whole, jnp.where(exists, lengths, 0)


def _log_add(a, b):
    """Return log(e^a + e^b), with a gradient of zero, not NaN, where both are -inf."""
    never = (a == -jnp.inf) & (b == -jnp.inf)
    return jnp.where(never, -jnp.inf, jnp.logaddexp(jnp.where(never, 0, a), b))


def _check_ctc(logits, seq_lengths, blank):
    """Return the logits, which of their steps are valid `[B, T]`, and the blank, as arrays."""
    logits = jnp.asarray(logits)
    if logits.ndim != 3 or not logits.shape[-1]:
        raise ValueError(f"logits must have shape [B, T, V], V >= 1, got {logits.shape}")
    check_floating("logits", logits)
    batch, total, size = logits.shape
    lengths = checked_lengths(seq_lengths, total, (batch,))
    ends = jnp.full(batch, total) if lengths is None else lengths
    return logits, jnp.arange(total) < ends[:, None], checked_token("blank", blank, size)
