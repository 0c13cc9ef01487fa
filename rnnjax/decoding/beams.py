"""The best of several hypotheses: beam search."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int32

from rnnjax.cells.base import check_size
from rnnjax.decoding.checks import Step, begin, log_softmax, settled
from rnnjax.recurrence.options import known

PyTree = Any


def beam_search(
    step: Step,
    carry: PyTree,
    start: Any,
    *,
    length: int,
    beam_width: int,
    end: Any = None,
    length_penalty: ArrayLike = 0.0,
) -> tuple[Int32[Array, "B W length"], Float[Array, "B W"], Int32[Array, "B W"]]:
    """Return the best W sequences found by a search that keeps W hypotheses at each step, by

        score = log p(tokens) / lengths^length_penalty

    where `lengths` counts tokens up to and with `end`. Finished hypotheses stay in the beam and
    compete. A beam as wide as the number of sequences finds the best of all.

    Args:
        step, carry, start, length, end: as for `greedy`; `step` is called on `[B*W]`, the W
            hypotheses of an example side by side.
        beam_width: W.
        length_penalty: 0 ranks by probability, 1 by the mean over tokens. It may be traced.

    Returns:
        The tokens `[B, W, length]`, log p(tokens) `[B, W]`, which can be differentiated, and
        lengths `[B, W]`, best score first. Where there are fewer than W sequences of positive
        probability, the last places hold a log probability of -inf, a length of 0, and `end` (or
        0) for tokens.

    Raises:
        ValueError: as for `greedy`, `beam_width` is not a positive integer, or `length_penalty`
            is not a finite number.
        TypeError: as for `greedy`.

    Source: for the score Wu et al. 2016, arXiv:1609.08144, equation 14, with |Y| for its
    (5 + |Y|) / 6, and no coverage.
    """
    check_size("length", length)
    check_size("beam_width", beam_width)
    given = known(length_penalty)
    if jnp.shape(length_penalty) != () or (given is not None and not np.isfinite(given)):
        raise ValueError(f"length_penalty must be a finite number, got {length_penalty}")
    carry, first, size = begin(step, carry, start, end, copies=beam_width)
    batch = first.size // beam_width, beam_width
    flat = batch[0], beam_width * size
    origin = jnp.arange(batch[0], dtype=jnp.int32)[:, None] * beam_width

    def advance(state, t):
        carry, token, tokens, log_probs, lengths, finished = state
        carry, logits = step(carry, token)
        scores = log_softmax(logits, ~finished.reshape(-1)).reshape(*batch, size)
        if end is not None:
            only_end = jnp.where(jnp.arange(size) == end, 0, -jnp.inf)
            scores = jnp.where(finished[..., None], only_end, scores)
        scores = log_probs[..., None] + scores
        lengths = lengths + ~finished
        ranks = scores / (lengths.astype(scores.dtype) ** length_penalty)[..., None]
        _, best = lax.top_k(ranks.reshape(flat), beam_width)
        parent, token = best // size, best % size
        log_probs = jnp.take_along_axis(scores.reshape(flat), best, axis=1)
        lengths = jnp.take_along_axis(lengths, parent, axis=1)
        tokens = jnp.take_along_axis(tokens, parent[..., None], axis=1).at[:, :, t].set(token)
        if end is not None:
            finished = token == end
        rows = (origin + parent).reshape(-1)
        carry = jax.tree.map(lambda c: c[rows], carry)
        return (carry, token.reshape(-1), tokens, log_probs, lengths, finished), None

    filler = jnp.asarray(0 if end is None else end, jnp.int32)
    state = (
        carry,
        first,
        jnp.full((*batch, length), filler),
        jnp.full(batch, -jnp.inf, jnp.float32).at[:, 0].set(0),
        jnp.zeros(batch, jnp.int32),
        jnp.zeros(batch, bool),
    )
    after, _ = jax.eval_shape(advance, state, jnp.int32(0))
    state = settled(state, after, "the beam")  # log probabilities in the type of the scores
    (_, _, tokens, log_probs, lengths, _), _ = lax.scan(advance, state, jnp.arange(length))
    exists = log_probs != -jnp.inf
    tokens = jnp.where(exists[..., None], tokens, filler)
    return tokens, log_probs, jnp.where(exists, lengths, 0)
